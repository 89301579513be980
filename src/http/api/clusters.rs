//! Cluster routes: list, drain, add and remove clusters while the server runs.

use axum::response::Response;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::http::error::ApiError;
use crate::http::params::Params;
use crate::http::request::{InBody, InPath};
use crate::http::respond::ok;
use crate::http::{App, Asked};
use crate::wire::{
    Cluster, ClusterAdopted, ClusterBody, ClusterCreated, ClusterDeleted, ClusterDetailList, ClusterUpdated, ErrorBody,
};

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(get, change, delete)).routes(routes!(adopt))
}

/// List the clusters with their state
///
/// This server's clusters, clusters that have stored settings or a stored status, and clusters that runs wait for.
#[utoipa::path(
    get, path = "/v6/clusters", tag = "clusters", operation_id = "listClusters",
    responses(
        (status = 200, description = "All clusters", body = ClusterDetailList),
        (status = 400, description = "A parameter is unknown", body = ErrorBody),
    )
)]
async fn list(app: Asked, params: Params) -> Result<Response, ApiError> {
    params.finish()?;
    let clusters: Vec<_> = app.service.clusters().await?.into_iter().map(Cluster::from).collect();
    Ok(ok(&ClusterDetailList { total: clusters.len(), clusters }))
}

/// Get a cluster
#[utoipa::path(
    get, path = "/v6/clusters/{id}", tag = "clusters", operation_id = "getCluster",
    params(("id" = String, Path, description = "Its name")),
    responses(
        (status = 200, description = "The cluster", body = Cluster),
        (status = 404, description = "There is no such cluster", body = ErrorBody),
    )
)]
async fn get(app: Asked, InPath(name): InPath<String>) -> Result<Response, ApiError> {
    Ok(ok(&Cluster::from(app.service.cluster(&name).await?)))
}

/// Add a cluster
///
/// Adds it to all servers of the database, without a restart, if the server's configuration allows it.
#[utoipa::path(
    post, path = "/v6/clusters", tag = "clusters", operation_id = "createCluster", request_body = ClusterBody,
    responses(
        (status = 200, description = "The new cluster", body = ClusterCreated),
        (status = 400, description = "A field is missing or can't be read", body = ErrorBody),
        (status = 403, description = "The configuration does not allow it", body = ErrorBody),
        (status = 409, description = "There is one of that name", body = ErrorBody),
    )
)]
async fn create(app: Asked, InBody(body): InBody<ClusterBody>) -> Result<Response, ApiError> {
    let (name, change) = body.into_new()?;
    let cluster = Cluster::from(app.service.create_cluster(&name, change).await?);
    Ok(ok(&ClusterCreated { cluster, created: true }))
}

/// Change a cluster
///
/// With a status other than `active`, the cluster is given no new runs; runs already there continue. An omitted field
/// keeps its value.
#[utoipa::path(
    put, path = "/v6/clusters/{id}", tag = "clusters", operation_id = "updateCluster", request_body = ClusterBody,
    params(("id" = String, Path, description = "Its name")),
    responses(
        (status = 200, description = "The cluster as it is now", body = ClusterUpdated),
        (status = 400, description = "A field can't be read", body = ErrorBody),
        (status = 403, description = "The configuration does not allow other settings", body = ErrorBody),
        (status = 404, description = "There is no such cluster", body = ErrorBody),
        (status = 409, description = "Its settings are in the configuration, or name another place while runs are on it", body = ErrorBody),
    )
)]
async fn change(
    app: Asked,
    InPath(name): InPath<String>,
    InBody(body): InBody<ClusterBody>,
) -> Result<Response, ApiError> {
    let change = body.into_change(&name)?;
    let cluster = Cluster::from(app.service.change_cluster(&name, change).await?);
    Ok(ok(&ClusterUpdated { cluster, updated: true }))
}

/// Remove a cluster that was added by a request
#[utoipa::path(
    delete, path = "/v6/clusters/{id}", tag = "clusters", operation_id = "deleteCluster",
    params(("id" = String, Path, description = "Its name")),
    responses(
        (status = 200, description = "It is removed", body = ClusterDeleted),
        (status = 403, description = "The configuration does not allow it", body = ErrorBody),
        (status = 404, description = "There is no such cluster", body = ErrorBody),
        (status = 409, description = "Runs are on it or wait for it, or it is in the configuration", body = ErrorBody),
    )
)]
async fn delete(app: Asked, InPath(name): InPath<String>) -> Result<Response, ApiError> {
    app.service.delete_cluster(&name).await?;
    Ok(ok(&ClusterDeleted { id: name, deleted: true }))
}

/// Give a cluster's engine the runs of one that is gone
///
/// If an engine other than the one that has a run answers, nothing is concluded about that run: its container or job
/// may still exist. This request states that it does not. Runs that the current engine does not have then become
/// lost.
#[utoipa::path(
    post, path = "/v6/clusters/{id}/adopt", tag = "clusters", operation_id = "adoptRuns",
    params(("id" = String, Path, description = "Its name")),
    responses(
        (status = 200, description = "How many attempts were adopted", body = ClusterAdopted),
        (status = 404, description = "There is no such cluster", body = ErrorBody),
        (status = 409, description = "The engine does not answer", body = ErrorBody),
    )
)]
async fn adopt(app: Asked, InPath(name): InPath<String>) -> Result<Response, ApiError> {
    let adopted = app.service.adopt(&name).await?;
    Ok(ok(&ClusterAdopted { id: name, adopted }))
}
