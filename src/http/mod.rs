//! The API over HTTP: routes, what they take from a request, and how they answer.
//!
//! Every route is served under `/api` and at the root, since the API's two documents differ there. Each handler
//! translates: a request into a call of `service`, its result into a body of `wire`. Whatever goes wrong is answered
//! with a status and `{"error": …}`, also by what is not a route.

mod base;
mod clusters;
mod definitions;
mod docs;
mod error;
mod health;
mod large;
mod launches;
mod layers;
mod lists;
mod logs;
mod names;
mod origin;
mod own_task;
mod params;
mod places;
mod request;
mod respond;
mod room;
mod runs;
mod serve;
mod spares;
mod streams;
mod ui;
mod unread;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn_with_state;
use tokio_util::sync::CancellationToken;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};
use utoipa_axum::routes;

pub use docs::openapi;
use error::ApiError;
use large::Large;
pub use origin::Origins;
use params::Described;
use room::Room;
pub use serve::serve;

use crate::model::Run;
use crate::service::{Service, ServiceError};

/// What the operator decided about requests.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub body_bytes: usize,
    pub list_default: u32,
    pub list_most: u32,
    /// How much of a log one answer carries.
    pub log_bytes: usize,
    /// How long a read of a stopped run's log waits for its last byte.
    pub log_wait: Duration,
    /// How long a follower of a stopped run's log waits while nothing comes.
    pub follow_wait: Duration,
}

/// [`Limits::log_wait`] of a server: clients wait longer for an answer, and an engine that answers needs less.
pub const LOG_WAIT: Duration = Duration::from_secs(15);
/// [`Limits::follow_wait`] of a server.
pub const FOLLOW_WAIT: Duration = Duration::from_mins(1);
/// How long a page does: a person would rather see that the end is missing.
const PAGE_LOG_WAIT: Duration = Duration::from_secs(3);

/// What handlers are given.
#[derive(Clone)]
pub struct App {
    service: Arc<Service>,
    limits: Limits,
    /// Ends answers that would go on without end, when the server stops.
    stop: CancellationToken,
    streams: Room,
    large: Arc<Large>,
}

impl App {
    #[must_use]
    pub fn new(service: Service, limits: Limits, stop: CancellationToken) -> Self {
        Self { service: Arc::new(service), limits, stop, streams: streams::room(), large: Arc::default() }
    }

    /// The run, for a page that shows its log: of a stopped run with its end, where that comes within a moment.
    async fn run_with_log(&self, run_id: &str) -> Result<Run, ServiceError> {
        let patience = self.limits.log_wait.min(PAGE_LOG_WAIT);
        self.unless_stopping(self.service.run_with_log(run_id, patience), self.service.run(run_id)).await
    }

    /// What takes its time, or what can be had at once where the server stops meanwhile.
    async fn unless_stopping<T>(&self, patient: impl Future<Output = T>, quick: impl Future<Output = T>) -> T {
        match self.stop.run_until_cancelled(patient).await {
            Some(result) => result,
            None => quick.await,
        }
    }
}

/// All that the server answers to those who may ask it.
pub fn router(app: App, origins: Origins) -> Router {
    let service = Arc::clone(&app.service);
    let base_path = origins.public_url.as_ref().map(|url| url.base_path().to_owned()).unwrap_or_default();
    let large = Arc::clone(&app.large);
    let (at_root, _) = api().split_for_parts();
    let (under_api, description) = docs::with_api(api());
    let mut document = docs::document(&description);
    let described = Arc::new(Described {
        with_parameters: docs::with_parameters(&mut document),
        limits: app.limits,
        base_path: base_path.clone(),
    });
    let routes = Router::new()
        .merge(at_root)
        .merge(under_api)
        .route_layer(from_fn_with_state(described, params::refuse_unknown))
        .merge(ui::routes())
        .layer(from_fn_with_state(large, large::meter))
        .merge(docs::routes(document, &base_path))
        .fallback(nothing_here)
        .method_not_allowed_fallback(|request: axum::extract::Request| async move { ApiError::no_method(&request) })
        .with_state(app);
    base::around(layers::around(routes, Arc::new(origins), service), &base_path)
}

async fn nothing_here(request: axum::extract::Request) -> ApiError {
    match ui::is_page(request.uri().path()) {
        true => ApiError::no_page(&request),
        false => ApiError::no_route(&request),
    }
}

/// The routes, as they stand below `/api`, and their description.
fn api() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(also_at(&[("/v6/task", "V6")], routes!(definitions::list, definitions::create)))
        .routes(also_at(
            &[("/v6/task/{definition_id}", "V6")],
            routes!(definitions::get, definitions::update, definitions::deregister),
        ))
        .routes(also_at(&[("/v6/task/alias/{alias}", "V6")], routes!(definitions::get_by_alias)))
        .routes(routes!(launches::execute_v1))
        .routes(routes!(launches::execute_v2))
        .routes(also_at(&[("/v6/task/{definition_id}/execute", "V6")], routes!(launches::execute_v4)))
        .routes(also_at(&[("/v6/task/alias/{alias}/execute", "V6")], routes!(launches::execute_alias)))
        .routes(also_at(&[("/v6/history", "V6")], routes!(runs::list)))
        .routes(also_at(
            &[
                ("/v1/task/history/{run_id}", "OfAnyTask"),
                ("/v6/history/{run_id}", "V6"),
                ("/v6/task/history/{run_id}", "OfAnyTaskV6"),
            ],
            routes!(runs::get),
        ))
        .routes(also_at(&[("/v6/task/{definition_id}/history", "V6")], routes!(runs::list_of_definition)))
        .routes(also_at(
            &[("/v6/task/{definition_id}/history/{run_id}", "V6")],
            routes!(runs::get_of_definition, runs::stop),
        ))
        .routes(also_at(&[("/v1/{run_id}/status", "V1")], routes!(runs::status, runs::set_status)))
        .routes(also_at(&[("/v6/{run_id}/events", "V6")], routes!(runs::events)))
        .routes(also_at(&[("/v6/{run_id}/logs", "V6")], routes!(logs::read)))
        .routes(also_at(&[("/v6/{run_id}/logs/stream", "V6")], routes!(logs::stream)))
        .routes(also_at(&[("/groups", "Unversioned"), ("/v6/groups", "V6")], routes!(names::groups)))
        .routes(also_at(&[("/tags", "Unversioned"), ("/v6/tags", "V6")], routes!(names::tags)))
        .routes(also_at(&[("/clusters", "Unversioned")], routes!(names::clusters)))
        .routes(routes!(clusters::list, clusters::create))
        .routes(routes!(clusters::get, clusters::change, clusters::delete))
        .routes(routes!(clusters::adopt))
        .routes(also_at(&[("/health/live", "Live")], routes!(health::live)))
        .routes(routes!(health::ready))
}

/// The same handlers at further paths, described there as well. There the ids of the operations, which are unique in the
/// whole document and name functions of generated clients, end with the word beside the path.
fn also_at(others: &[(&str, &str)], (schemas, mut paths, methods): UtoipaMethodRouter<App>) -> UtoipaMethodRouter<App> {
    let described: Vec<_> = paths.paths.values().cloned().collect();
    for (path, word) in others {
        for item in &described {
            let mut item = item.clone();
            for operation in [&mut item.get, &mut item.put, &mut item.post, &mut item.delete].into_iter().flatten() {
                if let Some(id) = &mut operation.operation_id {
                    id.push_str(word);
                }
            }
            paths.paths.insert((*path).to_owned(), item);
        }
    }
    (schemas, paths, methods)
}
