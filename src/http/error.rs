//! Error responses. A client's mistake gets a text written for that client; a server fault gets the request's id, and
//! its chain of causes is logged once, in [`super::middleware`].

use std::sync::Arc;

use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::base::at;
use super::respond::json;
use crate::model::Faults;
use crate::service::ServiceError;
use crate::wire::{BodyError, ErrorBody};

#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    message: String,
    /// What to log if it is a server fault.
    cause: Option<Cause>,
}

/// Attached to the response, for the middleware that logs it.
#[derive(Debug, Clone)]
pub(super) struct Cause(pub(super) Arc<dyn std::error::Error + Send + Sync>);

/// Attached to each refusal, for the pages, which present it in their own form.
#[derive(Debug, Clone)]
pub(super) struct Refused(pub(super) String);

impl ApiError {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), cause: None }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// A server fault, which is logged.
    pub(super) fn ours(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        let cause = Some(Cause(Arc::new(error)));
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, message: String::new(), cause }
    }

    pub(super) fn no_route(request: &Request) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            format!("there is nothing at {}; see {}", request.uri().path(), at("/api/docs/")),
        )
    }

    pub(super) fn no_page(request: &Request) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("there is no page at {}", request.uri().path()))
    }

    pub(super) fn no_method(request: &Request) -> Self {
        let message = format!("{} can't be done to {}", request.method(), request.uri().path());
        Self::new(StatusCode::METHOD_NOT_ALLOWED, message)
    }
}

impl From<ServiceError> for ApiError {
    fn from(error: ServiceError) -> Self {
        let (status, message) = match &error {
            ServiceError::Invalid(message) => (StatusCode::BAD_REQUEST, message.clone()),
            ServiceError::Faulty(faults) => (StatusCode::BAD_REQUEST, faults.to_string()),
            ServiceError::NotFound(message) => (StatusCode::NOT_FOUND, message.clone()),
            ServiceError::Forbidden(message) => (StatusCode::FORBIDDEN, message.clone()),
            ServiceError::Conflict(message) => (StatusCode::CONFLICT, message.clone()),
            ServiceError::AliasTaken(_) => (StatusCode::CONFLICT, error.to_string()),
            ServiceError::NoSpace(_) => {
                (StatusCode::INSUFFICIENT_STORAGE, "the server's disk is full; nothing was stored".to_owned())
            }
            ServiceError::Unavailable(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "the server's database is unavailable; try again".to_owned())
            }
            ServiceError::TookTooLong(_) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "this took the database too long and was given up. A list by `env`, or in an order other than by time, looks \
                 at every row that its other filters leave: filter by `status`, `alias`, `group_name`, `cluster_name`, \
                 `image` or `user` as well, or try again later"
                    .to_owned(),
            ),
            ServiceError::OutOfFiles(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "the server has too many files open now; try again".to_owned())
            }
            ServiceError::Store(_) | ServiceError::Log(_) => {
                (StatusCode::INTERNAL_SERVER_ERROR, "the server failed to carry out the request".to_owned())
            }
        };
        let cause = status.is_server_error().then(|| Cause(Arc::new(error)));
        Self { status, message, cause }
    }
}

impl From<BodyError> for ApiError {
    fn from(error: BodyError) -> Self {
        Self::invalid(error.to_string())
    }
}

impl From<Faults> for ApiError {
    fn from(faults: Faults) -> Self {
        Self::invalid(faults.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = json(self.status, &ErrorBody { error: self.message.clone() });
        response.extensions_mut().insert(Refused(self.message));
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("5"));
        }
        if let Some(cause) = self.cause {
            response.extensions_mut().insert(cause);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_server_without_files_to_open_says_when_to_try_again() {
        for (code, expected) in [(23, 503), (24, 503), (5, 500)] {
            let error = ServiceError::from(io::Error::from_raw_os_error(code));
            let response = ApiError::from(error).into_response();
            let is_later = response.headers().contains_key(header::RETRY_AFTER);
            assert_eq!((response.status().as_u16(), is_later), (expected, expected == 503), "{code}");
        }
    }
}
