//! Before the response is sent, reads, within bounds, what the client is still sending.
//!
//! Closing a connection with unread bytes from the client resets it, and a client that is still sending then sees an
//! error instead of the response that explains it. So the part of a body that a handler did not read is returned
//! here.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::header::EXPECT;
use axum::middleware::Next;
use axum::response::Response;
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};
use tokio::sync::oneshot;

use super::places::Terms;

/// How much of an unwanted body is read. For a client that sends more, the connection is closed.
const MOST_BYTES: u64 = 64 << 20;
/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same on a connection that got no ordinary place and holds one of few reserve places.
const PATIENCE_WITHOUT_ROOM: Duration = Duration::from_millis(300);

/// Reads what the handler did not, before the response is sent.
pub(super) async fn read_on(request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let waits = request.headers().contains_key(EXPECT);
    let has_room = request.extensions().get::<Terms>() != Some(&Terms::HealthAlone);
    let patience = if has_room { PATIENCE } else { PATIENCE_WITHOUT_ROOM };
    let (back, mut left) = oneshot::channel();
    let request = request.map(|body| Body::new(Lent { body: Some(body), was_asked_for: false, back: Some(back) }));
    let response = next.run(request).await;
    // A client that waits for `100 Continue`, and did not get it, has sent nothing.
    if let Ok(Left { body, was_asked_for }) = left.try_recv()
        && (was_asked_for || !waits)
    {
        // The response is sent either way; a client that keeps sending is cut off.
        let _ = tokio::time::timeout(patience, drain(body)).await;
    }
    response
}

async fn drain(mut body: Body) {
    let mut read = 0;
    while read < MOST_BYTES
        && let Some(Ok(frame)) = body.frame().await
    {
        read += frame.data_ref().map_or(0, |data| data.len() as u64);
    }
}

/// A body that is returned to its lender if it was not read to its end.
struct Lent {
    body: Option<Body>,
    /// Whether a client that waits for `100 Continue` has been sent it.
    was_asked_for: bool,
    back: Option<oneshot::Sender<Left>>,
}

/// The part of a body that a handler did not read.
struct Left {
    body: Body,
    was_asked_for: bool,
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.was_asked_for = true;
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, HttpBody::size_hint)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let (Some(body), Some(back)) = (self.body.take(), self.back.take())
            && !body.is_end_stream()
        {
            // The receiver is gone if the request itself was abandoned.
            let _ = back.send(Left { body, was_asked_for: self.was_asked_for });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use axum::Router;
    use axum::http::StatusCode;
    use axum::middleware::from_fn;
    use axum::routing::post;
    use futures_util::{StreamExt, stream};
    use tower::ServiceExt;

    use super::*;

    /// How much is read of a body of this many MiB if the handler reads one piece of it, or nothing.
    async fn taken_of(mebibytes: usize, is_begun: bool, is_expected: bool) -> u64 {
        let taken = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&taken);
        let pieces = stream::iter(0..mebibytes).map(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; 1 << 20]))
        });
        let refuse = move |mut body: Body| async move {
            if is_begun {
                body.frame().await.unwrap().unwrap();
            }
            StatusCode::PAYLOAD_TOO_LARGE
        };
        let routes = Router::new().route("/", post(refuse)).layer(from_fn(read_on));
        let mut request = Request::post("/");
        if is_expected {
            request = request.header(EXPECT, "100-continue");
        }
        let request = request.body(Body::from_stream(pieces)).unwrap();
        assert_eq!(routes.oneshot(request).await.unwrap().status(), StatusCode::PAYLOAD_TOO_LARGE);
        taken.load(Ordering::Relaxed)
    }

    #[tokio::test]
    async fn what_a_handler_leaves_of_a_body_is_read_within_a_bound() {
        assert_eq!(taken_of(3, false, false).await, 3);
        assert_eq!(taken_of(100, false, false).await, MOST_BYTES >> 20);
    }

    #[tokio::test]
    async fn a_client_that_was_told_to_send_its_body_can_send_it_and_one_that_was_not_has_sent_nothing() {
        assert_eq!(taken_of(3, true, true).await, 3);
        assert_eq!(taken_of(3, false, true).await, 0);
    }
}
