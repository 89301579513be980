//! Extractors for request parts, with error texts of our own.

use std::time::Duration;

use axum::body::{Bytes, HttpBody};
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use bytes::BytesMut;
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;

use super::App;
use super::error::ApiError;
use super::large::Asker;
use crate::wire::FromBody;

/// How long a client may take to send its body.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bodies up to this size are received without a turn: about what the connection buffers anyway.
const SMALL_BODY_BYTES: usize = 64 << 10;

/// The whole body, whatever its content type says.
pub(super) struct RawBody(pub(super) Bytes);

impl RawBody {
    /// Reads the whole body, up to `most` bytes.
    pub(super) async fn read(request: Request, app: &App, most: usize) -> Result<Self, ApiError> {
        match tokio::time::timeout(PATIENCE, receive(request, app, most)).await {
            Ok(received) => received.map(Self),
            Err(_) => Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time")),
        }
    }
}

/// A body of a known shape; one that does not fit is refused with the field that is wrong.
pub(super) struct InBody<T>(pub(super) T);

impl<T: FromBody> FromRequest<App> for InBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        let RawBody(bytes) = RawBody::read(request, app, app.limits.body_bytes).await?;
        Ok(Self(T::from_body(&bytes)?))
    }
}

/// Receives a body. One that is not small has its turn, so that bodies of which most has come, and the rest never does,
/// can't take all memory.
async fn receive(request: Request, app: &App, most: usize) -> Result<Bytes, ApiError> {
    let too_large = || {
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is too large: at most {most} bytes are read"))
    };
    let asker = Asker::of(request.extensions());
    let mut body = request.into_body();
    if body.size_hint().lower() > most as u64 {
        return Err(too_large());
    }
    // Without a length it may grow to the maximum.
    let expected = body.size_hint().exact().unwrap_or(most as u64);
    let (mut received, mut turn) = (BytesMut::new(), None);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| ApiError::invalid(format!("the body could not be read: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if received.len() + data.len() > most {
            return Err(too_large());
        }
        if turn.is_none() && received.len() + data.len() > SMALL_BODY_BYTES {
            turn = Some(app.large.body(asker, expected).await?);
        }
        received.extend_from_slice(&data);
    }
    Ok(received.freeze())
}

/// One text from the path, or several as a tuple.
pub(super) struct InPath<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for InPath<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        // Neither database can look it up, so nothing of that name exists.
        if parts.uri.path().contains("%00") {
            return Err(ApiError::invalid(format!("the path must not hold a NUL character: {}", parts.uri.path())));
        }
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(value)) => Ok(Self(value)),
            Err(rejection) => Err(ApiError::invalid(format!("the path can't be read: {}", rejection.body_text()))),
        }
    }
}
