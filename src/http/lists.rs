//! List responses, read, serialized and sent piece by piece, so that a response of any size takes little memory.
//!
//! ```text
//! ids and sizes of the page ──→ a few rows ──→ their JSON ──→ frames ──→ the reader
//!       one read              one read per piece, in turn      as it takes them
//! ```
//!
//! A page is never cut short: clients page by the `limit` that they requested and would never see omitted rows. The
//! rows of a page are chosen at once; each row's content is read when its piece is. If something fails midway, or the
//! reader takes nothing for a while, the response breaks off and what was sent is not valid JSON.

use std::sync::Arc;

use axum::response::Response;
use serde::Serialize;

use super::error::ApiError;
use super::large::{Asker, BrokenOff, Large, Reader, Turn, json, told};
use crate::model::Unread;
use crate::service::ServiceError;

/// Amount of the database that is read at a time. A larger row is a piece of its own.
const PIECE_BYTES: u64 = 256 << 10;
const PIECE_ROWS: usize = 512;
/// Number of copies of a row in memory while it is produced: as stored, as read, as its wire body, and as JSON, which
/// contains the variables twice.
const COPIES: u64 = 8;
/// Overhead of a row beyond its content.
const ROW_BYTES: u64 = 2 << 10;

/// Responds with a list of these rows. `frame` is the response without any rows; its first field is the empty list.
pub(super) async fn answer<Id, M, W, F>(
    large: &Arc<Large>,
    asker: Asker,
    frame: &impl Serialize,
    rows: Vec<Unread<Id>>,
    show: fn(M) -> W,
    read: impl Fn(Vec<Id>) -> F + Send + Sync + 'static,
) -> Result<Response, ApiError>
where
    Id: Send + 'static,
    M: Send + 'static,
    W: Serialize + 'static,
    F: Future<Output = Result<Vec<M>, ServiceError>> + Send,
{
    let frame = serde_json::to_vec(frame).expect("the bodies of `wire` have string keys and serialize");
    let begin = frame.windows(2).position(|pair| pair == b"[]").expect("its first field is an empty list") + 1;
    let mut rest = Rest { rows: rows.into_iter(), next: Vec::new(), is_first: true, read, show };
    let turn = large.turn(asker, rest.next_size()).await?;
    let mut text = frame[..begin].to_vec();
    rest.write_next(&mut text).await?;
    let end = frame[begin..].to_vec();
    if rest.is_over() {
        text.extend(end);
        return large.json(asker, text, turn);
    }
    let place = large.place(asker)?;
    let (reader, body) = Reader::new(None);
    let large = Arc::clone(large);
    tokio::spawn(async move {
        told(finish(rest, text, turn, &end, (&large, asker), reader).await);
        drop(place);
    });
    Ok(json(body))
}

/// Hands over what has been produced, and produces more each time the reader has taken it. An error says why the
/// response broke off; a reader that disconnected is not an error.
async fn finish<Id, M, W, R, F>(
    mut rest: Rest<Id, M, W, R>,
    mut text: Vec<u8>,
    mut turn: Turn,
    end: &[u8],
    (large, asker): (&Large, Asker),
    reader: Reader,
) -> Result<(), BrokenOff>
where
    W: Serialize,
    R: Fn(Vec<Id>) -> F,
    F: Future<Output = Result<Vec<M>, ServiceError>>,
{
    loop {
        turn.keep(text.len());
        if !reader.take(&mut text, false).await? {
            return Ok(());
        }
        drop(turn);
        if rest.is_over() {
            text.extend_from_slice(end);
            return reader.take(&mut text, true).await.map(|_| ());
        }
        turn = large.next_turn(asker, rest.next_size()).await?;
        rest.write_next(&mut text).await?;
    }
}

/// The rows of a list that are not written yet.
struct Rest<Id, M, W, R> {
    rows: std::vec::IntoIter<Unread<Id>>,
    /// The next piece.
    next: Vec<Id>,
    is_first: bool,
    read: R,
    show: fn(M) -> W,
}

impl<Id, M, W, R, F> Rest<Id, M, W, R>
where
    W: Serialize,
    R: Fn(Vec<Id>) -> F,
    F: Future<Output = Result<Vec<M>, ServiceError>>,
{
    fn is_over(&self) -> bool {
        self.next.is_empty() && self.rows.len() == 0
    }

    /// Chooses the next piece and returns how much memory producing it takes.
    fn next_size(&mut self) -> u64 {
        let mut bytes = 0;
        while self.next.len() < PIECE_ROWS
            && let Some(row) = self.rows.as_slice().first()
            && (self.next.is_empty() || bytes + row.bytes <= PIECE_BYTES)
        {
            bytes += row.bytes;
            self.next.extend(self.rows.next().map(|row| row.id));
        }
        bytes * COPIES + self.next.len() as u64 * ROW_BYTES
    }

    /// Reads the chosen piece and appends it to `text`.
    async fn write_next(&mut self, text: &mut Vec<u8>) -> Result<(), ServiceError> {
        let ids = std::mem::take(&mut self.next);
        if ids.is_empty() {
            return Ok(());
        }
        for row in (self.read)(ids).await? {
            if !std::mem::replace(&mut self.is_first, false) {
                text.push(b',');
            }
            serde_json::to_writer(&mut *text, &(self.show)(row)).expect("the bodies of `wire` serialize");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use axum::body::HttpBody;
    use http_body_util::BodyExt;
    use serde_json::{Value, json};

    use super::super::large::READER_PATIENCE;
    use super::*;

    const ASKER: Asker = Asker(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));

    /// A list of rows of these sizes in bytes.
    async fn list(large: &Arc<Large>, sizes: Vec<u64>) -> Result<Response, ApiError> {
        let rows = sizes.into_iter().enumerate().map(|(id, bytes)| Unread { id: (id, bytes), bytes }).collect();
        let read = |ids: Vec<(usize, u64)>| async move {
            assert!(ids.len() == 1 || ids.iter().map(|(_, bytes)| bytes).sum::<u64>() <= PIECE_BYTES, "{ids:?}");
            Ok(ids)
        };
        let show = |(id, bytes): (usize, u64)| json!([id, "x".repeat(usize::try_from(bytes).unwrap())]);
        answer(large, ASKER, &json!({"rows": [], "total": 7}), rows, show, read).await
    }

    async fn read(response: Response) -> Result<Value, axum::Error> {
        let bytes = response.into_body().collect().await?.to_bytes();
        Ok(serde_json::from_slice(&bytes).unwrap())
    }

    #[tokio::test]
    async fn a_list_of_any_size_holds_each_row_once_and_in_order() {
        let large = Arc::new(Large::default());
        for sizes in [
            vec![],
            vec![10],
            vec![1; 3000],
            vec![100_000; 30],
            vec![2_000_000, 1, 2_000_000],
            vec![0, PIECE_BYTES - 1, 1, 1, PIECE_BYTES, PIECE_BYTES + 1],
        ] {
            let answer = read(list(&large, sizes.clone()).await.unwrap()).await.unwrap();
            let seen = answer["rows"]
                .as_array()
                .unwrap()
                .iter()
                .map(|row| (row[0].as_u64().unwrap(), row[1].as_str().unwrap().len() as u64));
            let expected = sizes.into_iter().enumerate().map(|(id, bytes)| (id as u64, bytes));
            assert_eq!(seen.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
            assert_eq!(answer["total"], 7);
        }
        assert!(large.is_unused());
    }

    #[tokio::test]
    async fn an_answer_that_is_made_in_one_piece_tells_its_length() {
        let large = Arc::new(Large::default());
        for bytes in [10, 200_000] {
            let body = list(&large, vec![bytes]).await.unwrap().into_body();
            let told = body.size_hint().exact().unwrap();
            assert_eq!(body.collect().await.unwrap().to_bytes().len() as u64, told);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_nothing_is_not_waited_for_and_learns_that_the_list_is_not_whole() {
        let large = Arc::new(Large::default());
        for sizes in [vec![500_000], vec![500_000; 10]] {
            let mut body = list(&large, sizes).await.unwrap().into_body();
            body.frame().await.unwrap().unwrap();
            tokio::time::sleep(2 * READER_PATIENCE).await;
            assert!(large.is_unused());
            let rest = body.collect().await.unwrap_err();
            assert_eq!(rest.to_string(), "the answer broke off");
        }
    }

    #[tokio::test]
    async fn a_list_that_fails_on_the_way_breaks_off() {
        let large = Arc::new(Large::default());
        let rows = (0..3).map(|id| Unread { id, bytes: PIECE_BYTES }).collect();
        let read = |ids: Vec<u32>| async move {
            if ids[0] == 2 { Err(ServiceError::Invalid("gone".to_owned())) } else { Ok(ids) }
        };
        let answer = answer(&large, ASKER, &json!({"rows": []}), rows, |id: u32| id, read).await.unwrap();
        assert!(answer.into_body().collect().await.is_err());
    }
}
