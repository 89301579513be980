//! Health routes: liveness and readiness.

use axum::http::StatusCode;
use axum::response::Response;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::also_at;
use crate::http::respond::{json, ok};
use crate::http::{App, Asked};
use crate::service::Unready;
use crate::wire::Health;

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(also_at(&[("/health/live", "Live")], routes!(live))).routes(routes!(ready))
}

/// Whether a path is one of these; they are answered even when the server has no room for other requests.
pub fn is_asked_for(path: &str) -> bool {
    // Below `/api`, or a proxy's path.
    ["/v6/health", "/health/live", "/health/ready"].iter().any(|known| path.ends_with(known))
}

/// The server answers
///
/// Liveness: does not check the database.
#[utoipa::path(
    get, path = "/v6/health", tag = "health", operation_id = "getHealth",
    responses((status = 200, description = "It does", body = Health))
)]
async fn live() -> Response {
    ok(&Health { status: "healthy".to_owned(), message: "the server answers".to_owned() })
}

/// The server can do its work
///
/// Readiness: its database stores writes, no other server has taken that database over, its control loops finish
/// their steps, and it is not stopping.
#[utoipa::path(
    get, path = "/health/ready", tag = "health", operation_id = "getReadiness",
    responses(
        (status = 200, description = "It can", body = Health),
        (status = 503, description = "It can't now, and why", body = Health),
    )
)]
async fn ready(app: Asked) -> Response {
    let unready = |message: &str| {
        json(StatusCode::SERVICE_UNAVAILABLE, &Health { status: "unhealthy".to_owned(), message: message.to_owned() })
    };
    if app.stop.is_cancelled() {
        return unready("the server is stopping");
    }
    match app.service.ready().await {
        Ok(()) => ok(&Health { status: "healthy".to_owned(), message: "the database and the loops work".to_owned() }),
        Err(Unready(reason)) => unready(&reason),
    }
}
