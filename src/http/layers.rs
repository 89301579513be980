//! What is around every route: an id for each request, one log line for each of our own failures, compression, and a
//! panic answered like any other failure.

use std::any::Any;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use tower_http::CompressionLevel;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use uuid::Uuid;

use super::error::{ApiError, Cause};
use super::sender::{Hosts, Sender};
use super::ui;

const REQUEST_ID: &str = "x-request-id";
/// A client's own request id is kept where it is short enough to be one.
const REQUEST_ID_BYTES: usize = 128;

pub(super) fn around(routes: Router, hosts: Hosts) -> Router {
    routes
        .layer(from_fn_with_state(hosts, refuse_other_sites))
        .layer(CatchPanicLayer::custom(after_panic))
        .layer(from_fn(identify))
        .layer(from_fn(ui::around))
        // At the first level a page becomes a seventeenth of itself; at the sixth a twenty-fifth, in three times the time.
        .layer(CompressionLayer::new().quality(CompressionLevel::Fastest))
}

/// What pages of other sites send changes nothing; and under a name that may be theirs nothing is answered.
async fn refuse_other_sites(State(hosts): State<Hosts>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let message = if let Some(host) = hosts.unknown(headers) {
        format!("this server does not know itself as {host:?}; if that is its name, its operator adds it to `hosts`")
    } else if !request.method().is_safe() && Sender::of(headers) == Sender::OtherSite {
        "a page of another site sent this, so nothing was done".to_owned()
    } else {
        return next.run(request).await;
    };
    ApiError::new(StatusCode::FORBIDDEN, message).into_response()
}

/// Names the request, and tells the client that name where the failure is ours.
async fn identify(request: Request, next: Next) -> Response {
    let id = request_id(&request);
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut response = next.run(request).await;
    if let Some(Cause(cause)) = response.extensions_mut().remove::<Cause>() {
        let status = response.status();
        let shown = id.to_str().unwrap_or_default();
        let error = &*cause as &dyn std::error::Error;
        tracing::error!(request_id = shown, %method, path, status = status.as_u16(), error, "a request failed");
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            let message =
                format!("the server failed to carry out the request; its log tells why under request id {shown}");
            response = ApiError::new(status, message).into_response();
        }
    }
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

fn request_id(request: &Request) -> HeaderValue {
    let given = request.headers().get(REQUEST_ID).filter(|id| id.len() <= REQUEST_ID_BYTES && id.to_str().is_ok());
    given.cloned().unwrap_or_else(|| {
        HeaderValue::from_str(&Uuid::new_v4().to_string()).expect("a UUID is made of visible characters")
    })
}

#[derive(Debug, thiserror::Error)]
#[error("a handler panicked: {0}")]
struct Panicked(String);

#[expect(clippy::needless_pass_by_value, reason = "the layer hands the panic over")]
fn after_panic(panic: Box<dyn Any + Send + 'static>) -> Response<Body> {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default();
    let mut response = ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "").into_response();
    response.extensions_mut().insert(Cause(std::sync::Arc::new(Panicked(text))));
    response
}
