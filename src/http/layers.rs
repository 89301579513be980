//! What is around every route: an id for each request, one log line for each of our own failures, compression, and a
//! panic answered like any other failure.

use std::any::Any;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use uuid::Uuid;

use super::error::{ApiError, Cause};
use super::ui;

const REQUEST_ID: &str = "x-request-id";
/// A client's own request id is kept where it is short enough to be one.
const REQUEST_ID_BYTES: usize = 128;

pub(super) fn around(routes: Router) -> Router {
    routes
        .layer(from_fn(refuse_other_sites))
        .layer(CatchPanicLayer::custom(after_panic))
        .layer(from_fn(identify))
        .layer(from_fn(ui::around))
        .layer(CompressionLayer::new())
}

/// A page of another site can have a visitor's browser send a form to any address, and the API takes a body whatever its
/// type. Browsers say where such a request comes from; programs say nothing.
async fn refuse_other_sites(request: Request, next: Next) -> Response {
    let site = request.headers().get("sec-fetch-site");
    if !request.method().is_safe() && site.is_some_and(|site| site == "cross-site") {
        let message = "a page of another site sent this, so nothing was done";
        return ApiError::new(StatusCode::FORBIDDEN, message).into_response();
    }
    next.run(request).await
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
