//! Lists: read, written and sent piece by piece, so that an answer of any size takes little memory.
//!
//! ```text
//! ids and sizes of the page ──→ some rows ──→ their JSON ──→ frames ──→ the reader
//!      one read                  a read each, in turn          as it takes them
//! ```
//!
//! A page is not cut short: clients go on by the `limit` that they asked for, and would never see what was left out. Of
//! which rows it consists is decided at once; each is told as it is when its piece is read. Where something fails in
//! between, or the reader takes nothing for a while, the answer breaks off, and what came is no JSON.

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::body::{Frame, SizeHint};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;

use super::App;
use super::error::ApiError;
use super::places::most_connections;
use super::room::Room;
use super::serve::{Client, peer_of};
use crate::model::Unread;
use crate::service::ServiceError;

/// How much of the database is read at a time. A row that is larger is a piece of its own.
const PIECE_BYTES: u64 = 256 << 10;
const PIECE_ROWS: usize = 512;
/// Up to which size an answer is handed over whole: about what the connection takes at once.
const SMALL_BYTES: usize = 64 << 10;
/// How much is handed over at a time of a larger one. What a reader does not take waits beside the connection.
const FRAME_BYTES: usize = 64 << 10;
/// How much all answers that are being made may take together, in KiB. One address may take half of it.
const BUDGET_KB: u32 = 64 << 10;
const BUDGET_OF_AN_ADDRESS_KB: u32 = BUDGET_KB / 2;
/// How many times a row is held while it is made: as it was stored, as it is read, as it is told, and as JSON, in which the
/// variables stand twice.
const COPIES: u64 = 8;
/// How much a row takes beside what it holds.
const ROW_BYTES: u64 = 2 << 10;
/// How many large answers there may be at a time.
const MOST_ANSWERS: usize = 256;
/// How long an answer waits for its turn before it is refused, and later before it breaks off.
const FIRST_PATIENCE: Duration = Duration::from_secs(10);
const NEXT_PATIENCE: Duration = Duration::from_mins(1);
/// How long a reader may take nothing.
const READER_PATIENCE: Duration = Duration::from_secs(30);

/// What lists have to themselves.
pub(super) struct Lists {
    budget: Arc<Budget>,
    places: Room,
}

/// Who asks for a list.
pub(super) struct Asker(IpAddr);

impl FromRequestParts<App> for Asker {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _app: &App) -> Result<Self, Self::Rejection> {
        let client = parts.extensions.get::<Client>().map(|client| client.0);
        Ok(Self(client.unwrap_or_else(|| peer_of(&parts.extensions))))
    }
}

impl Default for Lists {
    fn default() -> Self {
        Self { budget: Arc::default(), places: Room::of((most_connections() / 2).clamp(1, MOST_ANSWERS)) }
    }
}

impl Lists {
    /// A list of these rows: `frame` is the answer without any, whose first field is their list.
    pub(super) async fn answer<Id, M, W, F>(
        &self,
        asker: &Asker,
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
        let turn = self.budget.take(asker.0, rest.next_size(), FIRST_PATIENCE).await.ok_or_else(busy)?;
        let mut text = frame[..begin].to_vec();
        rest.write_next(&mut text).await?;
        let end = frame[begin..].to_vec();
        if rest.is_over() {
            text.extend(end);
            return self.send(asker, text, turn);
        }
        let place = self.places.take(asker.0).ok_or_else(busy)?;
        let (reader, body) = Reader::new(None);
        let (budget, address) = (Arc::clone(&self.budget), asker.0);
        tokio::spawn(async move {
            let share = Share { budget: &budget, address };
            told(finish(rest, text, turn, &end, share, reader).await);
            drop(place);
        });
        Ok(respond(Body::new(body)))
    }

    /// The right to make an answer that takes about as many bytes.
    pub(super) async fn turn(&self, asker: &Asker, bytes: u64) -> Result<Turn, ApiError> {
        self.budget.take(asker.0, bytes, FIRST_PATIENCE).await.ok_or_else(busy)
    }

    /// An answer that is made.
    pub(super) fn send(&self, asker: &Asker, mut text: Vec<u8>, mut turn: Turn) -> Result<Response, ApiError> {
        if text.len() <= SMALL_BYTES {
            return Ok(respond(Body::from(text)));
        }
        let place = self.places.take(asker.0).ok_or_else(busy)?;
        let (reader, body) = Reader::new(Some(text.len() as u64));
        turn.keep(text.len());
        tokio::spawn(async move {
            told(reader.take(&mut text, true).await.map(|_| ()));
            drop((turn, place));
        });
        Ok(respond(Body::new(body)))
    }
}

fn told(sent: Result<(), BrokenOff>) {
    if let Err(error) = sent {
        tracing::warn!(error = &*error, "a list broke off");
    }
}

fn respond(body: Body) -> Response {
    let content_type = HeaderValue::from_static("application/json; charset=utf-8");
    (StatusCode::OK, [(header::CONTENT_TYPE, content_type)], body).into_response()
}

fn busy() -> ApiError {
    let message = "the server makes as many lists as it can; try again later, or ask for less at a time (`limit`)";
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message)
}

type BrokenOff = Box<dyn std::error::Error + Send + Sync>;

fn busy_for_long() -> BrokenOff {
    "other lists took all there is for lists".into()
}

/// What one address may have of the budget.
#[derive(Clone, Copy)]
struct Share<'a> {
    budget: &'a Budget,
    address: IpAddr,
}

/// Hands over what is made, and makes more whenever the reader has taken that. An error says why the answer broke off; that
/// its reader went away is none.
async fn finish<Id, M, W, R, F>(
    mut rest: Rest<Id, M, W, R>,
    mut text: Vec<u8>,
    mut turn: Turn,
    end: &[u8],
    share: Share<'_>,
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
        turn = share.budget.take(share.address, rest.next_size(), NEXT_PATIENCE).await.ok_or_else(busy_for_long)?;
        rest.write_next(&mut text).await?;
    }
}

/// The rows of a list that are still to be written.
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

    /// Chooses the next piece: how much memory it takes while it is made.
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

    /// Reads it and writes it behind what is there.
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

/// How much memory answers may take while they are made, so that a few clients can't take all of it.
struct Budget {
    all: Arc<Semaphore>,
    by_address: Mutex<HashMap<IpAddr, Weak<Semaphore>>>,
}

impl Default for Budget {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(BUDGET_KB as usize)), by_address: Mutex::default() }
    }
}

/// A part of the budget, until it is dropped.
#[derive(Default)]
pub(super) struct Turn(Vec<OwnedSemaphorePermit>);

impl Budget {
    /// Waits until there is so much left, also for this address; `None` where that takes too long.
    async fn take(&self, address: IpAddr, bytes: u64, patience: Duration) -> Option<Turn> {
        let kb = u32::try_from((bytes >> 10) + 1).unwrap_or(u32::MAX).min(BUDGET_OF_AN_ADDRESS_KB);
        let of_address = self.of(address);
        let taking = async {
            // First its own, so that who waits for that holds up nobody else.
            let own = of_address.acquire_many_owned(kb).await.ok()?;
            Some(Turn(vec![own, Arc::clone(&self.all).acquire_many_owned(kb).await.ok()?]))
        };
        timeout(patience, taking).await.ok()?
    }

    fn of(&self, address: IpAddr) -> Arc<Semaphore> {
        let mut by_address = self.by_address.lock();
        if let Some(known) = by_address.get(&address).and_then(Weak::upgrade) {
            return known;
        }
        by_address.retain(|_, semaphore| semaphore.strong_count() > 0);
        let new = Arc::new(Semaphore::new(BUDGET_OF_AN_ADDRESS_KB as usize));
        by_address.insert(address, Arc::downgrade(&new));
        new
    }
}

impl Turn {
    /// Gives back all but what so many bytes need.
    fn keep(&mut self, bytes: usize) {
        for permit in &mut self.0 {
            let surplus = permit.num_permits().saturating_sub((bytes >> 10) + 1);
            drop(permit.split(surplus));
        }
    }
}

/// Who takes the answer, by way of its body.
struct Reader(mpsc::Sender<(Bytes, bool)>);

/// A body that another task makes.
struct Fed {
    frames: mpsc::Receiver<(Bytes, bool)>,
    /// How much is still to come, where that is known.
    left: Option<u64>,
    is_over: bool,
}

impl Reader {
    fn new(length: Option<u64>) -> (Self, Fed) {
        let (sender, frames) = mpsc::channel(1);
        (Self(sender), Fed { frames, left: length, is_over: false })
    }

    /// Hands over whole frames of the text, or all of it where it is the last: `false` where the reader has gone.
    async fn take(&self, text: &mut Vec<u8>, is_last: bool) -> Result<bool, BrokenOff> {
        let mut handed_over = 0;
        while text.len() - handed_over > FRAME_BYTES || is_last && handed_over < text.len() {
            let until = text.len().min(handed_over + FRAME_BYTES);
            // A copy, for a part of the text would keep all of it until it is sent.
            let frame = Bytes::copy_from_slice(&text[handed_over..until]);
            handed_over = until;
            match timeout(READER_PATIENCE, self.0.send((frame, is_last && until == text.len()))).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Ok(false),
                Err(_) => return Err("its reader took nothing for a while".into()),
            }
        }
        text.drain(..handed_over);
        text.shrink_to(FRAME_BYTES);
        Ok(true)
    }
}

impl HttpBody for Fed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        self.frames.poll_recv(cx).map(|frame| {
            let Some((bytes, is_last)) = frame else {
                self.is_over = true;
                return Some(Err(axum::Error::new("the list broke off")));
            };
            self.is_over = is_last;
            self.left = self.left.map(|left| left.saturating_sub(bytes.len() as u64));
            Some(Ok(Frame::data(bytes)))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.is_over
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use serde_json::{Value, json};

    use super::*;

    const ASKER: Asker = Asker(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));

    /// A list of rows that hold so many bytes each.
    async fn list(lists: &Lists, sizes: Vec<u64>) -> Result<Response, ApiError> {
        let rows = sizes.into_iter().enumerate().map(|(id, bytes)| Unread { id: (id, bytes), bytes }).collect();
        let read = |ids: Vec<(usize, u64)>| async move {
            assert!(ids.len() == 1 || ids.iter().map(|(_, bytes)| bytes).sum::<u64>() <= PIECE_BYTES, "{ids:?}");
            Ok(ids)
        };
        let show = |(id, bytes): (usize, u64)| json!([id, "x".repeat(usize::try_from(bytes).unwrap())]);
        lists.answer(&ASKER, &json!({"rows": [], "total": 7}), rows, show, read).await
    }

    async fn read(response: Response) -> Result<Value, axum::Error> {
        let bytes = response.into_body().collect().await?.to_bytes();
        Ok(serde_json::from_slice(&bytes).unwrap())
    }

    #[tokio::test]
    async fn a_list_of_any_size_holds_each_row_once_and_in_order() {
        let lists = Lists::default();
        for sizes in [
            vec![],
            vec![10],
            vec![1; 3000],
            vec![100_000; 30],
            vec![2_000_000, 1, 2_000_000],
            vec![0, PIECE_BYTES - 1, 1, 1, PIECE_BYTES, PIECE_BYTES + 1],
        ] {
            let answer = read(list(&lists, sizes.clone()).await.unwrap()).await.unwrap();
            let seen = answer["rows"]
                .as_array()
                .unwrap()
                .iter()
                .map(|row| (row[0].as_u64().unwrap(), row[1].as_str().unwrap().len() as u64));
            let expected = sizes.into_iter().enumerate().map(|(id, bytes)| (id as u64, bytes));
            assert_eq!(seen.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
            assert_eq!(answer["total"], 7);
        }
        assert_eq!(lists.budget.all.available_permits(), BUDGET_KB as usize);
    }

    #[tokio::test]
    async fn an_answer_that_is_made_in_one_piece_tells_its_length() {
        let lists = Lists::default();
        for bytes in [10, 200_000] {
            let body = list(&lists, vec![bytes]).await.unwrap().into_body();
            let told = body.size_hint().exact().unwrap();
            assert_eq!(body.collect().await.unwrap().to_bytes().len() as u64, told);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_nothing_is_not_waited_for_and_learns_that_the_list_is_not_whole() {
        let lists = Lists::default();
        for sizes in [vec![500_000], vec![500_000; 10]] {
            let mut body = list(&lists, sizes).await.unwrap().into_body();
            body.frame().await.unwrap().unwrap();
            tokio::time::sleep(2 * READER_PATIENCE).await;
            assert_eq!(lists.budget.all.available_permits(), BUDGET_KB as usize);
            let rest = body.collect().await.unwrap_err();
            assert_eq!(rest.to_string(), "the list broke off");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn all_lists_together_have_a_bound_of_which_one_address_has_half() {
        let lists = Lists::default();
        // A row of 4 MB is half of the budget while it is made, and its text is given back but for itself.
        let own = lists.turn(&ASKER, u64::from(BUDGET_OF_AN_ADDRESS_KB) * 1024).await.unwrap();
        let refused = list(&lists, vec![1]).await.unwrap_err().into_response();
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(refused.headers().contains_key(header::RETRY_AFTER));
        lists.turn(&Asker([10, 0, 0, 1].into()), 1 << 20).await.map(drop).unwrap();
        drop(own);
        read(list(&lists, vec![4_000_000]).await.unwrap()).await.unwrap();
        lists.turn(&ASKER, 1 << 40).await.map(drop).unwrap();
        let held: Vec<_> = {
            let mut held = Vec::new();
            while let Some(place) = lists.places.take(ASKER.0) {
                held.push(place);
            }
            held
        };
        list(&lists, vec![1]).await.unwrap();
        list(&lists, vec![1_000_000]).await.unwrap_err();
        drop(held);
        list(&lists, vec![1_000_000]).await.map(drop).unwrap();
    }

    #[tokio::test]
    async fn a_list_that_fails_on_the_way_breaks_off() {
        let lists = Lists::default();
        let rows = (0..3).map(|id| Unread { id, bytes: PIECE_BYTES }).collect();
        let read = |ids: Vec<u32>| async move {
            if ids[0] == 2 { Err(ServiceError::Invalid("gone".to_owned())) } else { Ok(ids) }
        };
        let answer = lists.answer(&ASKER, &json!({"rows": []}), rows, |id: u32| id, read).await.unwrap();
        assert!(answer.into_body().collect().await.is_err());
    }
}
