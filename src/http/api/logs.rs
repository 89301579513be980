//! Log routes: read from a token, download, follow.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::sse::Event;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::also_at;
use crate::http::error::ApiError;
use crate::http::large::Asker;
use crate::http::params::Params;
use crate::http::request::InPath;
use crate::http::streams::StreamPlace;
use crate::http::{App, Asked, Limits};
use crate::service::{LogFollower, LogPiece, LogRead, ServiceError};
use crate::wire::{ErrorBody, LOG_COMPLETE, LogChunk, LogEnd};

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(also_at(&[("/v6/{run_id}/logs", "V6")], routes!(read)))
        .routes(also_at(&[("/v6/{run_id}/logs/stream", "V6")], routes!(stream)))
}

/// How much of a log is read at a time when it is streamed, so that a stalled reader holds little memory.
const RAW_BYTES: usize = 64 << 10;
/// The same for events, in which one byte may take six.
const EVENT_BYTES: usize = 16 << 10;
/// Number of copies of a piece of a log in memory while the response is made: control characters take six bytes each
/// in JSON, and a piece that is not UTF-8 is included a second time.
const COPIES: u64 = 8;

/// Get what a run has written
///
/// A response carries at most a configured number of bytes; pass its `last_seen` to get what follows. If there is
/// nothing new, `log` is empty and the same token is returned. It contains stdout and stderr in the order they were
/// read.
///
/// For a stopped run, the response waits until the last byte of its log is stored. If that takes too long, it
/// contains `"is_complete": false`, or the header `log-complete: false` with `raw_text`.
#[utoipa::path(
    get, path = "/v1/{run_id}/logs", tag = "logs", operation_id = "getLog",
    params(
        ("run_id" = String, Path),
        ("last_seen" = Option<String>, Query, description = "The token of an earlier answer"),
        ("raw_text" = Option<bool>, Query, description = "The whole log as text/plain"),
        ("role" = Option<String>, Query, description = "Accepted for existing clients; says nothing here"),
        ("facility" = Option<String>, Query, description = "Accepted for existing clients; says nothing here"),
    ),
    responses(
        (status = 200, description = "A piece of the log; with `raw_text`, all of it as text/plain", content(
            (LogChunk = "application/json"),
            (String = "text/plain"),
        )),
        (status = 400, description = "The token is not ours, or a parameter is unknown or can't be read", body = ErrorBody),
        (status = 404, description = "There is no such run", body = ErrorBody),
    )
)]
async fn read(
    app: Asked,
    InPath(run_id): InPath<String>,
    asker: Asker,
    mut params: Params,
) -> Result<Response, ApiError> {
    let last_seen = params.last("last_seen");
    let is_raw = params.truth("raw_text");
    // Existing clients name one of several containers of a run; our runs have one log.
    params.last("role");
    params.last("facility");
    params.finish()?;
    let from = app.service.log_token(last_seen.as_deref())?;
    let Limits { log_bytes, log_wait, .. } = app.limits;
    let service = &app.service;
    if is_raw {
        let log = |patience| service.stored_log(&run_id, from, log_bytes.min(RAW_BYTES), patience);
        return Ok(raw(Box::pin(app.unless_stopping(log(log_wait), log(Duration::ZERO))).await?));
    }
    let log = |patience| service.log(&run_id, from, log_bytes, patience);
    let read = Box::pin(app.unless_stopping(log(log_wait), log(Duration::ZERO)));
    let LogRead { bytes, next, is_end_missing } = read.await?;
    let turn = app.large.turn(asker, bytes.len() as u64 * COPIES).await?;
    let chunk = LogChunk::new(bytes, next.to_string(), is_end_missing.then_some(false));
    let text = serde_json::to_vec(&chunk).expect("the bodies of `wire` serialize");
    app.large.json(asker, text, turn)
}

/// The stored bytes, up to the current end.
fn raw(log: LogFollower) -> Response {
    let is_end_missing = log.is_end_missing();
    let pieces = stream::unfold(Some(log), |log| async move {
        let mut log = log?;
        match log.next_stored().await {
            Ok(Some(piece)) => Some((Ok(Bytes::from(piece.bytes)), Some(log))),
            Ok(None) => None,
            // The response breaks off, which tells the client that it is incomplete.
            Err(error) => Some((Err(error), None)),
        }
    });
    // The compression layer polls once more after the end.
    let pieces = futures_util::StreamExt::fuse(pieces);
    let mut response = Body::from_stream(pieces).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if is_end_missing {
        response.headers_mut().insert(HeaderName::from_static(LOG_COMPLETE), HeaderValue::from_static("false"));
    }
    response
}

/// Follow a log
///
/// Server-sent events: each carries a piece as JSON, with its token as the event id, so that a client that lost the
/// connection can resume (`Last-Event-ID`, or `last_seen`). The event `end` means that the run has stopped and
/// everything was sent, or with `"is_complete": false` that the end of its log is not stored yet and nothing has
/// arrived for a while. The event `error` means that the server could not continue.
#[utoipa::path(
    get, path = "/v1/{run_id}/logs/stream", tag = "logs", operation_id = "followLog",
    params(
        ("run_id" = String, Path),
        ("last_seen" = Option<String>, Query, description = "The token of an earlier answer"),
    ),
    responses(
        (status = 200, description = "Events, each with a `LogChunk` as its data", body = String, content_type = "text/event-stream"),
        (status = 400, description = "The token is not ours, or a parameter is unknown", body = ErrorBody),
        (status = 404, description = "There is no such run", body = ErrorBody),
        (status = 503, description = "The server follows as many logs as it can", body = ErrorBody),
    )
)]
async fn stream(
    app: Asked,
    InPath(run_id): InPath<String>,
    headers: HeaderMap,
    mut params: Params,
    place: StreamPlace,
) -> Result<Response, ApiError> {
    let last_event = headers.get("last-event-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
    let last_seen = params.last("last_seen");
    params.finish()?;
    // A browser that reconnects automatically repeats its original URL, and sends its position in the header.
    let from = app.service.log_token(last_event.or(last_seen).as_deref())?;
    let Limits { log_bytes, follow_wait, .. } = app.limits;
    let log = app.service.follow(&run_id, from, log_bytes.min(EVENT_BYTES), follow_wait).await?;
    let events = stream::unfold(Some((log, app.stop.clone())), |state| async move {
        let (mut log, stop) = state?;
        tokio::select! {
            biased;
            piece = log.next() => Some(match piece {
                Ok(Some(piece)) => (Ok::<_, Infallible>(event(piece)), Some((log, stop))),
                Ok(None) => (Ok(end(&log)), None),
                Err(error) => (Ok(failure(&error)), None),
            }),
            // The client reconnects to this or another server with its token.
            () = stop.cancelled() => None,
        }
    });
    Ok(place.answer(events))
}

fn event(piece: LogPiece) -> Event {
    let token = piece.next.to_string();
    let chunk = LogChunk::new(piece.bytes, token.clone(), None);
    let data = serde_json::to_string(&chunk).expect("the bodies of `wire` serialize");
    Event::default().id(token).data(data)
}

fn end(log: &LogFollower) -> Event {
    let end = LogEnd { is_complete: log.is_end_missing().then_some(false) };
    Event::default().event("end").data(serde_json::to_string(&end).expect("the bodies of `wire` serialize"))
}

fn failure(error: &ServiceError) -> Event {
    tracing::error!(error = error as &dyn std::error::Error, "a log could not be followed");
    let body = ErrorBody { error: "the server could not continue the log; try again".to_owned() };
    Event::default().event("error").data(serde_json::to_string(&body).expect("the bodies of `wire` serialize"))
}
