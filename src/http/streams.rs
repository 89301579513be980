//! Responses that last as long as their reader stays: followed logs, and updates for pages. Each holds a connection,
//! so at most half of the connections may be streams; the rest stay free for short requests.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt};

use super::App;
use super::error::ApiError;
use super::large::Asker;
use super::places::most_connections;
use super::room::{Place, Room};

/// Places for as many streams as this process can serve.
#[must_use]
pub(super) fn room() -> Room {
    Room::of((most_connections() / 2).max(1))
}

/// A place for a stream; without a free one, the request is refused with 503.
pub(super) struct StreamPlace(Place);

impl FromRequestParts<App> for StreamPlace {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let refused = || {
            let message = "the server follows as many logs and pages as it can; try again later, or ask now and then";
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message)
        };
        app.streams.take(Asker::of(&parts.extensions).0).map(Self).ok_or_else(refused)
    }
}

impl StreamPlace {
    /// Responds with server-sent events, which hold the place while they last.
    pub(super) fn answer(self, events: impl Stream<Item = Result<Event, Infallible>> + Send + 'static) -> Response {
        let events = events.map(move |event| {
            let _held = &self.0;
            event
        });
        let mut response = Sse::new(events.boxed()).keep_alive(KeepAlive::default()).into_response();
        // Proxies that buffer responses would delay the log.
        response.headers_mut().insert("x-accel-buffering", axum::http::HeaderValue::from_static("no"));
        response
    }
}
