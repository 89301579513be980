//! The API over HTTP: routes, request parsing and responses.
//!
//! Every route is served under `/api` and at the root, since the API's two documents differ there. Each handler
//! translates a request into a call of `service`, and its result into a body of `wire`. Every error, including an
//! unknown route, is answered with a status and `{"error": …}`.

mod api;
mod base;
mod error;
mod etag;
mod large;
mod lists;
mod middleware;
mod origin;
mod own_task;
mod params;
mod places;
mod request;
mod respond;
mod room;
mod serve;
mod spares;
mod streams;
mod ui;
mod unread;

use std::convert::Infallible;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::middleware::from_fn_with_state;
use tokio_util::sync::CancellationToken;

pub use api::docs::openapi;
use error::ApiError;
use large::Large;
pub use origin::Origins;
use params::Described;
use room::Room;
pub use serve::serve;

use crate::model::Run;
use crate::service::{Acting, Caller, Service, ServiceError};

/// The operator's limits on requests.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub body_bytes: usize,
    pub list_default: u32,
    pub list_most: u32,
    /// Maximum number of log bytes in one response.
    pub log_bytes: usize,
    /// How long a read of a stopped run's log waits for its last byte.
    pub log_wait: Duration,
    /// How long a follower of a stopped run's log waits while nothing arrives.
    pub follow_wait: Duration,
}

/// The server's [`Limits::log_wait`]: clients have longer timeouts, and a responding engine needs less.
pub const LOG_WAIT: Duration = Duration::from_secs(15);
/// The server's [`Limits::follow_wait`].
pub const FOLLOW_WAIT: Duration = Duration::from_mins(1);
/// How long a page waits: a person would rather see that the end is missing.
const PAGE_LOG_WAIT: Duration = Duration::from_secs(3);

/// What all requests share.
#[derive(Clone)]
pub struct App {
    service: Arc<Service>,
    limits: Limits,
    /// Cancelled when the server stops; ends responses that would otherwise never end.
    stop: CancellationToken,
    streams: Room,
    large: Arc<Large>,
}

impl App {
    #[must_use]
    pub fn new(service: Service, limits: Limits, stop: CancellationToken) -> Self {
        Self { service: Arc::new(service), limits, stop, streams: streams::room(), large: Arc::default() }
    }
}

/// What a handler is given: the parts of the server, and the service as it acts for whoever asked.
#[derive(Clone)]
struct Asked {
    service: Acting,
    app: App,
}

impl Deref for Asked {
    type Target = App;

    fn deref(&self) -> &App {
        &self.app
    }
}

impl FromRequestParts<App> for Asked {
    type Rejection = Infallible;

    async fn from_request_parts(_: &mut Parts, app: &App) -> Result<Self, Infallible> {
        Ok(Self { service: app.service.acting_for(Caller::Anybody), app: app.clone() })
    }
}

impl Asked {
    /// The run, for a page that shows its log: of a stopped run with its end, where that comes within a moment.
    async fn run_with_log(&self, run_id: &str) -> Result<Run, ServiceError> {
        let patience = self.limits.log_wait.min(PAGE_LOG_WAIT);
        self.unless_stopping(self.service.run_with_log(run_id, patience), self.service.run(run_id)).await
    }

    /// Awaits `patient`, or `quick` if the server stops in the meantime.
    async fn unless_stopping<T>(&self, patient: impl Future<Output = T>, quick: impl Future<Output = T>) -> T {
        match self.stop.run_until_cancelled(patient).await {
            Some(result) => result,
            None => quick.await,
        }
    }
}

/// All routes of the server, with their middleware.
pub fn router(app: App, origins: Origins) -> Router {
    let service = Arc::clone(&app.service);
    let base_path = origins.public_url.as_ref().map(|url| url.base_path().to_owned()).unwrap_or_default();
    let large = Arc::clone(&app.large);
    let (at_root, _) = api::routes().split_for_parts();
    let (under_api, description) = api::docs::with_api(api::routes());
    let mut document = api::docs::document(&description);
    let described = Arc::new(Described {
        with_parameters: api::docs::with_parameters(&mut document),
        limits: app.limits,
        base_path: base_path.clone(),
    });
    let routes = Router::new()
        .merge(at_root)
        .merge(under_api)
        .route_layer(from_fn_with_state(described, params::refuse_unknown))
        .merge(ui::routes())
        .layer(from_fn_with_state(large, large::meter))
        .merge(api::docs::routes(document, &base_path))
        .fallback(nothing_here)
        .method_not_allowed_fallback(|request: axum::extract::Request| async move { ApiError::no_method(&request) })
        .with_state(app);
    base::wrap(middleware::wrap(routes, Arc::new(origins), service), &base_path)
}

async fn nothing_here(request: axum::extract::Request) -> ApiError {
    match ui::is_page(request.uri().path()) {
        true => ApiError::no_page(&request),
        false => ApiError::no_route(&request),
    }
}
