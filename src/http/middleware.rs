//! Middleware around every route: an id for each request, one log line for each server fault, compression, and panics
//! answered like any other fault.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use tower::util::option_layer;
use tower_http::CompressionLevel;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};
use uuid::Uuid;

use super::api::health;
use super::error::{ApiError, Cause};
use super::origin::{Sender, Sent, SharedOrigins};
use super::places::Terms;
use super::serve::{Client, peer_of};
use super::{ui, unread};
use crate::model::CorsOrigins;
use crate::service::Service;
use crate::wire::{LOG_COMPLETE, SERVER_TIME};

/// Default headers of every response.
const HEADERS: [(HeaderName, &str); 4] = [
    (header::CONTENT_SECURITY_POLICY, "frame-ancestors 'none'"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "same-origin"),
];

const REQUEST_ID: &str = "x-request-id";
/// A client's own request id is kept if it is no longer than this.
const REQUEST_ID_BYTES: usize = 128;

pub(super) fn wrap(routes: Router, origins: SharedOrigins, service: Arc<Service>) -> Router {
    let cors = cors(&origins.cors);
    routes
        .layer(from_fn(refuse_without_room))
        .layer(from_fn_with_state(Arc::clone(&origins), refuse_other_sites))
        .layer(CatchPanicLayer::custom(after_panic))
        .layer(from_fn(identify))
        .layer(from_fn_with_state(service, log_time))
        .layer(from_fn_with_state(Arc::clone(&origins), ui::guard_pages))
        .layer(from_fn(protect))
        .layer(from_fn(unread::read_on))
        .layer(option_layer(cors))
        .layer(from_fn_with_state(origins, see_through_proxies))
        // At the first level a page shrinks to a seventeenth; at the sixth to a twenty-fifth, in three times the
        // time.
        .layer(CompressionLayer::new().quality(CompressionLevel::Fastest))
}

/// On a connection that has only a reserve place, answers health requests only.
async fn refuse_without_room(request: Request, next: Next) -> Response {
    let has_room = request.extensions().get::<Terms>() != Some(&Terms::HealthAlone);
    if has_room || health::is_asked_for(request.uri().path()) {
        return next.run(request).await;
    }
    let message = "the server has as many connections as it can serve; try again later";
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message).into_response()
}

/// Refuses changes sent by other sites' pages, and any request under a host name that may belong to another site.
async fn refuse_other_sites(State(origins): State<SharedOrigins>, request: Request, next: Next) -> Response {
    let sent = Sent { headers: request.headers(), peer: peer_of(request.extensions()) };
    let message = if let Some(name) = origins.unknown_name(sent) {
        format!("this server does not know itself as {name:?}; if that is its name, its operator adds it to `hosts`")
    } else if !request.method().is_safe() && origins.sender(sent) == Sender::OtherSite {
        "a page of another site sent this, so nothing was done".to_owned()
    } else {
        return next.run(request).await;
    };
    ApiError::new(StatusCode::FORBIDDEN, message).into_response()
}

/// Records the client's address: the peer, or the client that a trusted proxy speaks for.
async fn see_through_proxies(State(origins): State<SharedOrigins>, mut request: Request, next: Next) -> Response {
    let client = origins.client(Sent { headers: request.headers(), peer: peer_of(request.extensions()) });
    request.extensions_mut().insert(Client(client));
    next.run(request).await
}

/// The headers with which browsers let pages of other sites use the API.
fn cors(origins: &CorsOrigins) -> Option<CorsLayer> {
    /// How long a browser may cache the permission.
    const REMEMBERED: Duration = Duration::from_mins(10);
    let layer = match origins {
        CorsOrigins::None => return None,
        CorsOrigins::Any => CorsLayer::new().allow_origin(AllowOrigin::any()),
        CorsOrigins::These(origins) => {
            let origins = origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok());
            CorsLayer::new().allow_origin(AllowOrigin::list(origins)).allow_credentials(true)
        }
    };
    let methods = [Method::GET, Method::POST, Method::PUT, Method::DELETE];
    let sent = [
        header::CONTENT_TYPE,
        header::AUTHORIZATION,
        header::IF_NONE_MATCH,
        HeaderName::from_static("last-event-id"),
        HeaderName::from_static(REQUEST_ID),
    ];
    let read = [
        header::ETAG,
        header::RETRY_AFTER,
        header::CONTENT_DISPOSITION,
        HeaderName::from_static(REQUEST_ID),
        HeaderName::from_static(SERVER_TIME),
        HeaderName::from_static(LOG_COMPLETE),
    ];
    Some(layer.allow_methods(methods).allow_headers(sent).expose_headers(read).max_age(REMEMBERED))
}

/// Forbids browsers to show a response within another site, to guess another type, and to cache it.
async fn protect(request: Request, next: Next) -> Response {
    // The API description's pages are large and contain nothing private.
    let may_be_kept = request.uri().path().starts_with("/api/docs");
    let mut response = next.run(request).await;
    for (name, value) in HEADERS {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    if !may_be_kept {
        response.headers_mut().entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    }
    response
}

/// Assigns the request an id, and reports that id to the client if the server is at fault.
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
                format!("the server failed to carry out the request; its log has the cause under request id {shown}");
            response = ApiError::new(status, message).into_response();
        }
    }
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

/// Adds the server's current time, which clients need to compute durations from server times.
async fn log_time(State(service): State<Arc<Service>>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if let Ok(now) = HeaderValue::from_str(&format!("{:.3}", service.now())) {
        response.headers_mut().insert(SERVER_TIME, now);
    }
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
    response.extensions_mut().insert(Cause(Arc::new(Panicked(text))));
    response
}
