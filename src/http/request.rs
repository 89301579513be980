//! What handlers take from a request, with errors in our own words and shape.

use std::time::Duration;

use axum::body::{Bytes, HttpBody};
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::App;
use super::error::ApiError;

/// How long a client may take to send its body.
const PATIENCE: Duration = Duration::from_secs(30);

/// The whole body, whatever its content type says, up to the configured size.
pub(super) struct RawBody(pub(super) Bytes);

impl FromRequest<App> for RawBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        Self::read(request, app.limits.body_bytes).await
    }
}

impl RawBody {
    /// The whole body, up to `most` bytes.
    pub(super) async fn read(request: Request, most: usize) -> Result<Self, ApiError> {
        let body = request.into_body();
        let too_large = || {
            ApiError::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the body is too large: at most {most} bytes are read"),
            )
        };
        if body.size_hint().lower() > most as u64 {
            return Err(too_large());
        }
        // One byte more than is allowed tells a body that is too large from one that breaks off.
        let reading = tokio::time::timeout(PATIENCE, axum::body::to_bytes(body, most + 1));
        match reading.await {
            Ok(Ok(bytes)) if bytes.len() > most => Err(too_large()),
            Ok(Ok(bytes)) => Ok(Self(bytes)),
            Ok(Err(error)) if is_length_limit(&error) => Err(too_large()),
            Ok(Err(error)) => Err(ApiError::invalid(format!("the body could not be read: {error}"))),
            Err(_) => Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time")),
        }
    }
}

fn is_length_limit(error: &axum::Error) -> bool {
    std::error::Error::source(error).is_some_and(<dyn std::error::Error>::is::<http_body_util::LengthLimitError>)
}

/// One text of the path, or several as a tuple.
pub(super) struct InPath<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for InPath<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        // Neither database can be asked for it, so nothing of that name exists.
        if parts.uri.path().contains("%00") {
            return Err(ApiError::invalid(format!("the path must not hold a NUL character: {}", parts.uri.path())));
        }
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(value)) => Ok(Self(value)),
            Err(rejection) => Err(ApiError::invalid(format!("the path can't be read: {}", rejection.body_text()))),
        }
    }
}
