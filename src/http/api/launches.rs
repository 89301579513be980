//! Launch routes: each version reads its own fields and ignores the rest.

use axum::response::Response;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::also_at;
use crate::http::error::ApiError;
use crate::http::request::{InBody, InPath};
use crate::http::respond::ok;
use crate::http::{App, Asked};
use crate::model::{DefinitionId, LaunchRequest};
use crate::wire::{ErrorBody, LaunchBody, Run};

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(execute_v1))
        .routes(routes!(execute_v2))
        .routes(also_at(&[("/v6/task/{definition_id}/execute", "V6")], routes!(execute_v4)))
        .routes(also_at(&[("/v6/task/alias/{alias}/execute", "V6")], routes!(execute_alias)))
}

/// Launch a task (first version)
///
/// Reads `cluster` and `env`; the body may be empty.
#[utoipa::path(
    put, path = "/v1/task/{definition_id}/execute", tag = "launches", operation_id = "executeTaskV1",
    params(("definition_id" = String, Path)), request_body = LaunchBody,
    responses(
        (status = 200, description = "The run, QUEUED", body = Run),
        (status = 400, description = "Malformed; most typically an invalid image is used, or the cluster cannot support running the job", body = ErrorBody),
        (status = 404, description = "There is no such definition", body = ErrorBody),
    )
)]
async fn execute_v1(
    app: Asked,
    InPath(id): InPath<String>,
    InBody(body): InBody<LaunchBody>,
) -> Result<Response, ApiError> {
    launch(&app, id, body.into_v1()).await
}

/// Launch a task (second version)
///
/// Also reads `run_tags`.
#[utoipa::path(
    put, path = "/v2/task/{definition_id}/execute", tag = "launches", operation_id = "executeTaskV2",
    params(("definition_id" = String, Path)), request_body = LaunchBody,
    responses(
        (status = 200, description = "The run, QUEUED", body = Run),
        (status = 400, description = "Malformed; most typically an invalid image is used, or the cluster cannot support running the job", body = ErrorBody),
        (status = 404, description = "There is no such definition", body = ErrorBody),
    )
)]
async fn execute_v2(
    app: Asked,
    InPath(id): InPath<String>,
    InBody(body): InBody<LaunchBody>,
) -> Result<Response, ApiError> {
    launch(&app, id, body.into_v2()).await
}

/// Launch a task
#[utoipa::path(
    put, path = "/v4/task/{definition_id}/execute", tag = "launches", operation_id = "executeTask",
    params(("definition_id" = String, Path)), request_body = LaunchBody,
    responses(
        (status = 200, description = "The run, QUEUED; or the first run of the same idempotence key", body = Run),
        (status = 400, description = "Malformed; most typically an invalid image is used, or the cluster cannot support running the job", body = ErrorBody),
        (status = 404, description = "There is no such definition", body = ErrorBody),
    )
)]
async fn execute_v4(
    app: Asked,
    InPath(id): InPath<String>,
    InBody(body): InBody<LaunchBody>,
) -> Result<Response, ApiError> {
    launch(&app, id, body.into_v4()).await
}

/// Launch a task by its alias
#[utoipa::path(
    put, path = "/v1/task/alias/{alias}/execute", tag = "launches", operation_id = "executeTaskByAlias",
    params(("alias" = String, Path)), request_body = LaunchBody,
    responses(
        (status = 200, description = "The run, QUEUED; or the first run of the same idempotence key", body = Run),
        (status = 400, description = "Malformed; most typically an invalid image is used, or the cluster cannot support running the job", body = ErrorBody),
        (status = 404, description = "There is no such definition", body = ErrorBody),
    )
)]
async fn execute_alias(
    app: Asked,
    InPath(alias): InPath<String>,
    InBody(body): InBody<LaunchBody>,
) -> Result<Response, ApiError> {
    let request = body.into_v4();
    Ok(ok(&Run::from(app.service.launch_alias(&alias, request).await?)))
}

async fn launch(app: &Asked, id: String, request: LaunchRequest) -> Result<Response, ApiError> {
    Ok(ok(&Run::from(app.service.launch(&DefinitionId::from_text(id), request).await?)))
}
