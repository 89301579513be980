//! Following a log to its end over broken connections and restarts of the server.
//!
//! Each piece carries the token of what comes after it, so a new connection goes on where the broken one ended, without
//! a gap and without a repeat. Only the `end` event ends it: a stream that merely closes is a broken connection.
//!
//! ```text
//! connect ──ok──→ pieces … ──end──→ done
//!    ↑  └─fails─┐    └─breaks─┐
//!    └── wait ←─┴─────────────┘   the wait doubles until something arrives again
//! ```

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use sse_stream::{Sse, SseByteStream};
use tokio::time::{Instant, sleep};

use super::{Client, ClientError};
use crate::wire::{ErrorBody, LogChunk, LogEnd};

/// The first wait after a break, and the longest.
const SHORTEST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// How long a server may be unavailable before the client gives up.
const PATIENCE: Duration = Duration::from_mins(10);

/// What happens while a log is followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogEvent {
    Chunk(LogChunk),
    /// The connection broke and is retried. Reported once per break.
    Waiting(ClientError),
    /// The run has stopped, and the server does not have the end of its log yet. Nothing comes after this.
    EndMissing,
}

pub(super) fn follow(client: Client, run_id: String) -> BoxStream<'static, Result<LogEvent, ClientError>> {
    let follower = Follower { client, run_id, last_seen: None, connection: None, trouble: None, is_over: false };
    // A stream keeps its current step when its reader turns to something else, so no connection attempt is lost.
    stream::try_unfold(
        follower,
        |mut follower| async move { Ok(follower.next().await?.map(|event| (event, follower))) },
    )
    .boxed()
}

struct Follower {
    client: Client,
    run_id: String,
    /// The token of what comes after all returned data.
    last_seen: Option<String>,
    connection: Option<Connection>,
    trouble: Option<Trouble>,
    is_over: bool,
}

struct Connection {
    events: BoxStream<'static, Result<Sse, sse_stream::Error>>,
    since: Instant,
}

/// Consecutive failed attempts.
struct Trouble {
    since: Instant,
    wait: Duration,
}

impl Follower {
    async fn next(&mut self) -> Result<Option<LogEvent>, ClientError> {
        while !self.is_over {
            match self.step().await {
                Ok(Step::Chunk(chunk)) => {
                    self.trouble = None;
                    self.last_seen = Some(chunk.last_seen.clone());
                    return Ok(Some(LogEvent::Chunk(chunk)));
                }
                Ok(Step::End(LogEnd { is_complete })) => {
                    self.is_over = true;
                    if is_complete == Some(false) {
                        return Ok(Some(LogEvent::EndMissing));
                    }
                }
                Ok(Step::Nothing) => {}
                Err(error) if !error.is_transient() => return Err(error),
                Err(error) => {
                    if let Some(event) = self.note_break(error)? {
                        return Ok(Some(event));
                    }
                }
            }
        }
        Ok(None)
    }

    async fn step(&mut self) -> Result<Step, ClientError> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            None => {
                if let Some(trouble) = &mut self.trouble {
                    sleep(trouble.wait).await;
                    trouble.wait = (trouble.wait * 2).min(LONGEST_WAIT);
                }
                let events = self.client.log_events(&self.run_id, self.last_seen.as_deref()).await?;
                self.connection.insert(Connection { events, since: Instant::now() })
            }
        };
        let server = &self.client.server;
        let event = connection
            .events
            .next()
            .await
            .ok_or_else(|| ClientError::broken(server, "it closed the stream before its end"))?
            .map_err(|error| ClientError::broken(server, &error.to_string()))?;
        match (event.event.as_deref(), event.data) {
            // An older server sends nothing more.
            (Some("end"), data) => Ok(Step::End(serde_json::from_str(&data.unwrap_or_default()).unwrap_or_default())),
            (Some("error"), data) => Err(ClientError::broken(server, &reason(&data.unwrap_or_default()))),
            (_, Some(data)) if !data.is_empty() => serde_json::from_str(&data)
                .map(Step::Chunk)
                .map_err(|error| ClientError::unexpected(server, None, &error)),
            _ => Ok(Step::Nothing),
        }
    }

    /// Prepares another attempt. The first of consecutive failures is reported; the one that exhausts the limit ends
    /// the stream.
    fn note_break(&mut self, error: ClientError) -> Result<Option<LogEvent>, ClientError> {
        let connection = self.connection.take();
        // A run can be silent for hours while something between us and the server cuts idle connections; one that
        // stood for a while is no failure.
        if connection.is_some_and(|connection| connection.since.elapsed() > LONGEST_WAIT) {
            self.trouble = None;
        }
        match &self.trouble {
            None => {
                self.trouble = Some(Trouble { since: Instant::now(), wait: SHORTEST_WAIT });
                Ok(Some(LogEvent::Waiting(error)))
            }
            Some(trouble) if trouble.since.elapsed() > PATIENCE => Err(error),
            Some(_) => Ok(None),
        }
    }
}

/// The server's message in an `error` event.
fn reason(data: &str) -> String {
    serde_json::from_str(data).map_or_else(|_| "it could not go on".to_owned(), |ErrorBody { error }| error)
}

enum Step {
    Chunk(LogChunk),
    Nothing,
    End(LogEnd),
}

impl Client {
    async fn log_events(
        &self,
        run_id: &str,
        last_seen: Option<&str>,
    ) -> Result<BoxStream<'static, Result<Sse, sse_stream::Error>>, ClientError> {
        let path = ["api", "v1", run_id, "logs", "stream"];
        let query = last_seen.map(|token| [("last_seen", token)]);
        let request = self.get(&path)?.query(&query).header("accept", "text/event-stream");
        let bytes = self.open(request).await?.bytes_stream();
        Ok(SseByteStream::new(bytes.map_ok(|bytes: Bytes| bytes)).boxed())
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use std::sync::Arc;

    use axum::Router;
    use axum::body::Body;
    use axum::extract::{Query, State};
    use axum::routing::get;

    use super::*;

    type Asked = Arc<Mutex<Vec<Option<String>>>>;

    /// Sends the log `0 1 2 … 9`, its tokens being the next digit, and breaks off in the middle of the event after
    /// every third.
    async fn breaking_server(State(asked): State<Asked>, Query(query): Query<Vec<(String, String)>>) -> Body {
        let token = query.into_iter().find(|(name, _)| name == "last_seen").map(|(_, token)| token);
        let first: u32 = token.as_deref().map_or(0, |token| token.parse().unwrap());
        asked.lock().push(token);
        let mut text = ": a sign of life\n\n".to_owned();
        for digit in first..10.min(first + 3) {
            let next = digit + 1;
            text += &format!("id: {next}\ndata: {{\"log\":\"{digit}\",\"last_seen\":\"{next}\"}}\n\n");
        }
        text += if first + 3 < 10 { "id: 99\ndata: {\"log\":\"cut" } else { "event: end\ndata:\n\n" };
        Body::from(text)
    }

    async fn serve(router: Router) -> Client {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Client::new(server).unwrap()
    }

    #[tokio::test]
    async fn a_log_over_broken_connections_has_no_gap_and_no_repeat() {
        let asked = Asked::default();
        let route = get(breaking_server).with_state(Arc::clone(&asked));
        let client = serve(Router::new().route("/api/v1/r/logs/stream", route)).await;
        let events: Vec<_> = client.follow_log("r").try_collect().await.unwrap();
        let log: String = events
            .iter()
            .filter_map(|event| match event {
                LogEvent::Chunk(chunk) => Some(chunk.log.as_str()),
                LogEvent::Waiting(_) | LogEvent::EndMissing => None,
            })
            .collect();
        assert_eq!(log, "0123456789");
        let tokens = [None, Some("3"), Some("6"), Some("9")].map(|token| token.map(str::to_owned));
        assert_eq!(*asked.lock(), tokens);
    }

    #[tokio::test]
    async fn bytes_that_are_no_text_arrive_as_they_were_and_a_missing_end_is_said() {
        let exact: &[u8] = b"\xff\0half \xe2\x82\r\n";
        let chunk = LogChunk::new(exact.to_vec(), "f/1/10".to_owned(), None);
        let text = format!(
            "data: {}\n\nevent: end\ndata: {{\"is_complete\":false}}\n\n",
            serde_json::to_string(&chunk).unwrap()
        );
        let client = serve(Router::new().route("/api/v1/r/logs/stream", get(|| async { text }))).await;
        let events: Vec<_> = client.follow_log("r").try_collect().await.unwrap();
        let [LogEvent::Chunk(chunk), LogEvent::EndMissing] = &events[..] else { panic!("{events:?}") };
        assert_eq!(&*chunk.bytes(), exact);
    }

    #[tokio::test]
    async fn a_refusal_is_not_tried_again() {
        let refuse = || async { (axum::http::StatusCode::NOT_FOUND, r#"{"error": "no run `r`"}"#) };
        let client = serve(Router::new().fallback(refuse)).await;
        let error = client.follow_log("r").try_next().await.unwrap_err();
        assert_eq!(error, ClientError::Refused { status: 404, error: "no run `r`".to_owned() });
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_stays_away_is_given_up_in_the_end() {
        let client = Client::new("http://127.0.0.1:1".parse().unwrap()).unwrap();
        let before = Instant::now();
        let events: Vec<_> = client.follow_log("r").collect().await;
        assert!(before.elapsed() > PATIENCE, "{:?}", before.elapsed());
        assert!(matches!(&events[..], [Ok(LogEvent::Waiting(_)), Err(ClientError::Unreachable { .. })]), "{events:?}");
    }
}
