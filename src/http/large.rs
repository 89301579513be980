//! Responses larger than what a connection takes at once, which would otherwise stay in memory for as long as their
//! readers like.
//!
//! ```text
//! a turn: a part of the budget ──→ the answer is made ──→ frames ──→ the reader, as it takes them
//! ```
//!
//! The total size of these responses is bounded, and one address may use half of it; the number of responses waiting
//! for a turn is bounded the same way. A response whose reader takes nothing for a while breaks off. Small responses,
//! and those produced and sent in small pieces, need no turn.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;

use super::App;
use super::error::ApiError;
use super::places::most_connections;
use super::room::{Place, Room, subscriber};
use super::serve::{Client, peer_of};

/// Responses up to this size are handed over whole: about what the connection takes at once.
const SMALL_BYTES: usize = 64 << 10;
/// Larger responses are handed over in frames of this size. What the reader has not taken waits outside the
/// connection.
const FRAME_BYTES: usize = 64 << 10;
/// Memory that all responses being produced may take together, in KiB. One address may take half of it.
const BUDGET_KB: u32 = 64 << 10;
const BUDGET_OF_AN_ADDRESS_KB: u32 = BUDGET_KB / 2;
/// Maximum number of large responses at a time.
const MOST_ANSWERS: usize = 256;
/// Maximum number of responses waiting for their first turn: each holds its source data or its finished text.
const MOST_WAITING: usize = 64;
/// How long a response waits for its first turn before it is refused, and for later turns before it breaks off.
const FIRST_PATIENCE: Duration = Duration::from_secs(10);
const NEXT_PATIENCE: Duration = Duration::from_mins(1);
/// How long a reader may take nothing.
pub(super) const READER_PATIENCE: Duration = Duration::from_secs(30);

/// The limits shared by all large responses and large request bodies.
pub(super) struct Large {
    budget: Budget,
    /// Budget of the request bodies being received.
    bodies: Budget,
    places: Room,
    waiting: Room,
}

/// The client's address, also behind trusted proxies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asker(pub(super) IpAddr);

impl Asker {
    pub(super) fn of(extensions: &Extensions) -> Self {
        Self(extensions.get::<Client>().map_or_else(|| peer_of(extensions), |client| client.0))
    }
}

impl FromRequestParts<App> for Asker {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _app: &App) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.extensions))
    }
}

impl Default for Large {
    fn default() -> Self {
        Self {
            budget: Budget::default(),
            bodies: Budget::default(),
            places: Room::of((most_connections() / 2).clamp(1, MOST_ANSWERS)),
            waiting: Room::of(MOST_WAITING),
        }
    }
}

impl Large {
    /// Waits for the right to produce a response of about this many bytes.
    pub(super) async fn turn(&self, asker: Asker, bytes: u64) -> Result<Turn, ApiError> {
        let _waits = self.waiting.take(asker.0).ok_or_else(busy)?;
        self.budget.take(asker.0, bytes, FIRST_PATIENCE).await.ok_or_else(busy)
    }

    /// Waits for the right to receive a body of this many bytes.
    pub(super) async fn body(&self, asker: Asker, bytes: u64) -> Result<Turn, ApiError> {
        let message = "too many large bodies are being received; try again later";
        let busy = || ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message);
        self.bodies.take(asker.0, bytes, FIRST_PATIENCE).await.ok_or_else(busy)
    }

    /// Like [`Self::turn`], for the next part of a response that has begun.
    pub(super) async fn next_turn(&self, asker: Asker, bytes: u64) -> Result<Turn, BrokenOff> {
        let turn = self.budget.take(asker.0, bytes, NEXT_PATIENCE).await;
        turn.ok_or_else(|| "other answers have used up the memory for large ones".into())
    }

    /// Takes one of the places for responses being sent at the same time.
    pub(super) fn place(&self, asker: Asker) -> Result<Place, ApiError> {
        self.places.take(asker.0).ok_or_else(busy)
    }

    /// Responds with finished JSON.
    pub(super) fn json(&self, asker: Asker, text: Vec<u8>, turn: Turn) -> Result<Response, ApiError> {
        match text.len() {
            0..=SMALL_BYTES => Ok(json(Body::from(text))),
            _ => Ok(json(self.send(asker, text, turn)?)),
        }
    }

    fn send(&self, asker: Asker, mut text: Vec<u8>, mut turn: Turn) -> Result<Fed, ApiError> {
        let place = self.place(asker)?;
        let (reader, body) = Reader::new(Some(text.len() as u64));
        turn.keep(text.len());
        tokio::spawn(async move {
            told(reader.take(&mut text, true).await.map(|_| ()));
            drop((turn, place));
        });
        Ok(body)
    }

    #[cfg(test)]
    pub(super) fn is_unused(&self) -> bool {
        self.budget.all.available_permits() == BUDGET_KB as usize
    }

    /// Hands the body over piece by piece if it is large and entirely in memory.
    async fn meter(&self, asker: Asker, response: Response) -> Result<Response, ApiError> {
        let length = response.body().size_hint().exact().unwrap_or_default();
        if length <= SMALL_BYTES as u64 || response.extensions().get::<IsMetered>().is_some() {
            return Ok(response);
        }
        let turn = self.turn(asker, length).await?;
        let (parts, body) = response.into_parts();
        let bytes = match body.collect().await {
            Ok(collected) => collected.to_bytes(),
            Err(error) => return Err(ApiError::ours(error)),
        };
        Ok(Response::from_parts(parts, Body::new(self.send(asker, bytes.into(), turn)?)))
    }
}

/// Middleware for routes whose responses may be large without being lists: a run with all its variables, a piece of a
/// log, a page.
pub(super) async fn meter(State(large): State<Arc<Large>>, request: Request, next: Next) -> Response {
    let asker = Asker::of(request.extensions());
    let response = next.run(request).await;
    large.meter(asker, response).await.unwrap_or_else(IntoResponse::into_response)
}

/// Marks a response that is already handed over piece by piece.
#[derive(Debug, Clone, Copy)]
struct IsMetered;

pub(super) fn json(body: impl HttpBody<Data = Bytes, Error: Into<axum::BoxError>> + Send + 'static) -> Response {
    let content_type = HeaderValue::from_static("application/json; charset=utf-8");
    let mut response = (StatusCode::OK, [(header::CONTENT_TYPE, content_type)], Body::new(body)).into_response();
    response.extensions_mut().insert(IsMetered);
    response
}

fn busy() -> ApiError {
    let message = "too many large answers are being sent; try again later, or ask for less at a time (`limit`)";
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message)
}

pub(super) type BrokenOff = Box<dyn std::error::Error + Send + Sync>;

pub(super) fn told(sent: Result<(), BrokenOff>) {
    if let Err(error) = sent {
        tracing::warn!(error = &*error, "an answer broke off");
    }
}

/// Memory that responses may take while they are produced, so that a few clients can't take all of it.
struct Budget {
    all: Arc<Semaphore>,
    by_address: Mutex<HashMap<IpAddr, Weak<Semaphore>>>,
}

impl Default for Budget {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(BUDGET_KB as usize)), by_address: Mutex::default() }
    }
}

/// A part of the budget, held until it is dropped.
#[derive(Default)]
pub(super) struct Turn(Vec<OwnedSemaphorePermit>);

impl Budget {
    /// Waits until this much is left, also for this address; `None` if that takes too long.
    async fn take(&self, address: IpAddr, bytes: u64, patience: Duration) -> Option<Turn> {
        let kb = u32::try_from((bytes >> 10) + 1).unwrap_or(u32::MAX).min(BUDGET_OF_AN_ADDRESS_KB);
        let of_address = self.of(address);
        let taking = async {
            // The address's own budget first, so that waiting for it blocks no other address.
            let own = of_address.acquire_many_owned(kb).await.ok()?;
            Some(Turn(vec![own, Arc::clone(&self.all).acquire_many_owned(kb).await.ok()?]))
        };
        timeout(patience, taking).await.ok()?
    }

    fn of(&self, address: IpAddr) -> Arc<Semaphore> {
        let address = subscriber(address);
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
    /// Returns all but what this many bytes need.
    pub(super) fn keep(&mut self, bytes: usize) {
        for permit in &mut self.0 {
            let surplus = permit.num_permits().saturating_sub((bytes >> 10) + 1);
            drop(permit.split(surplus));
        }
    }
}

/// Sends the response to its reader, through its body.
pub(super) struct Reader(mpsc::Sender<(Bytes, bool)>);

/// A body that another task produces.
pub(super) struct Fed {
    frames: mpsc::Receiver<(Bytes, bool)>,
    /// How much is still to come, if known.
    left: Option<u64>,
    is_over: bool,
}

impl Reader {
    pub(super) fn new(length: Option<u64>) -> (Self, Fed) {
        let (sender, frames) = mpsc::channel(1);
        (Self(sender), Fed { frames, left: length, is_over: false })
    }

    /// Hands over whole frames of the text, or all of it if it is the last part. Returns `false` if the reader has
    /// disconnected.
    pub(super) async fn take(&self, text: &mut Vec<u8>, is_last: bool) -> Result<bool, BrokenOff> {
        let mut handed_over = 0;
        while text.len() - handed_over > FRAME_BYTES || is_last && handed_over < text.len() {
            let until = text.len().min(handed_over + FRAME_BYTES);
            // A copy, because a slice would keep the whole text in memory until it is sent.
            let frame = Bytes::copy_from_slice(&text[handed_over..until]);
            handed_over = until;
            match timeout(READER_PATIENCE, self.0.send((frame, is_last && until == text.len()))).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Ok(false),
                Err(_) => return Err("its reader has stopped reading".into()),
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
                return Some(Err(axum::Error::new("the answer broke off")));
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
    use axum::Router;
    use axum::middleware::from_fn_with_state;
    use axum::routing::get;
    use tower::ServiceExt;

    use super::*;

    const ASKER: Asker = Asker(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));

    fn is_refused_for_now(answer: Result<Response, ApiError>) -> bool {
        let Err(refused) = answer else { return false };
        let refused = refused.into_response();
        refused.status() == StatusCode::SERVICE_UNAVAILABLE && refused.headers().contains_key(header::RETRY_AFTER)
    }

    #[tokio::test(start_paused = true)]
    async fn all_together_have_a_bound_of_which_one_address_has_half() {
        let large = Large::default();
        let answer = async |bytes: usize| {
            let turn = large.turn(ASKER, bytes as u64).await?;
            large.json(ASKER, vec![b'x'; bytes], turn)
        };
        let own = large.turn(ASKER, u64::from(BUDGET_OF_AN_ADDRESS_KB) * 1024).await.unwrap();
        assert!(is_refused_for_now(answer(1).await));
        large.turn(Asker([10, 0, 0, 1].into()), 1 << 20).await.map(drop).unwrap();
        drop(own);
        let sent = answer(4_000_000).await.unwrap().into_body();
        assert_eq!(sent.collect().await.unwrap().to_bytes().len(), 4_000_000);
        // A request for more than the whole budget takes all of it.
        large.turn(ASKER, 1 << 40).await.map(drop).unwrap();
        let mut held = Vec::new();
        while let Ok(place) = large.place(ASKER) {
            held.push(place);
        }
        answer(1).await.unwrap();
        assert!(is_refused_for_now(answer(1_000_000).await));
        drop(held);
        answer(1_000_000).await.map(drop).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_wait_for_their_turn() {
        let large = Arc::new(Large::default());
        let own = large.turn(ASKER, u64::from(BUDGET_OF_AN_ADDRESS_KB) * 1024).await.unwrap();
        let waiting: Vec<_> = (0..MOST_WAITING / 2)
            .map(|_| {
                let large = Arc::clone(&large);
                tokio::spawn(async move { large.turn(ASKER, 1024).await.map(drop) })
            })
            .collect();
        tokio::task::yield_now().await;
        let begun = tokio::time::Instant::now();
        assert!(large.turn(ASKER, 1024).await.is_err());
        assert_eq!(begun.elapsed(), Duration::ZERO, "at once");
        drop(own);
        for turn in waiting {
            turn.await.unwrap().unwrap();
        }
        assert!(large.is_unused());
    }

    #[tokio::test(start_paused = true)]
    async fn whatever_is_large_is_handed_over_as_it_is_taken() {
        let large = Arc::new(Large::default());
        let of = |bytes: usize| get(move || async move { ([("x-kept", "yes")], vec![b'x'; bytes]) });
        let routes = Router::new().route("/small", of(SMALL_BYTES)).route("/large", of(1_000_000));
        let routes = routes.layer(from_fn_with_state(Arc::clone(&large), meter));
        let ask = async |path: &str| {
            let request = Request::builder().uri(path).body(Body::empty()).unwrap();
            let response = routes.clone().oneshot(request).await.unwrap();
            assert_eq!(response.headers()["x-kept"], "yes");
            response.into_body()
        };
        let small = ask("/small").await;
        assert!(large.is_unused());
        assert_eq!(small.collect().await.unwrap().to_bytes().len(), SMALL_BYTES);
        let whole = ask("/large").await;
        assert!(!large.is_unused());
        assert_eq!(whole.size_hint().exact(), Some(1_000_000));
        assert_eq!(whole.collect().await.unwrap().to_bytes(), vec![b'x'; 1_000_000]);
        let mut slow = ask("/large").await;
        slow.frame().await.unwrap().unwrap();
        tokio::time::sleep(2 * READER_PATIENCE).await;
        assert!(large.is_unused(), "its reader has stopped reading");
        assert!(slow.collect().await.is_err(), "which the reader learns");
    }
}
