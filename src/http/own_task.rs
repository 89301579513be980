//! Runs each request that changes something to its end, even if its client disconnects: a handler is dropped with its
//! connection, and its work would be left half done.

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use tokio_util::task::TaskTracker;

use super::error::ApiError;

/// Serves requests that may change something in tasks of `tasks`; shutdown waits for these.
pub(super) fn wrap(routes: Router, tasks: TaskTracker) -> Router {
    routes.layer(from_fn_with_state(tasks, in_own_task))
}

async fn in_own_task(State(tasks): State<TaskTracker>, request: Request, next: Next) -> Response {
    if request.method().is_safe() {
        return next.run(request).await;
    }
    // Panics are handled by an inner layer.
    match tasks.spawn(next.run(request)).await {
        Ok(response) => response,
        Err(error) => {
            tracing::error!(%error, "a request was not finished");
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "the server was stopped before it had finished this")
                .into_response()
        }
    }
}
