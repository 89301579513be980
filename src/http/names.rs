//! Groups, tags and clusters by name.

use axum::extract::State;
use axum::response::Response;

use super::App;
use super::error::ApiError;
use super::params::Params;
use super::respond::ok;
use crate::model::NameList;
use crate::model::Page;
use crate::wire::{ClusterList, ErrorBody, GroupList, TagList};

/// List the groups in use
#[utoipa::path(
    get, path = "/v1/groups", tag = "names", operation_id = "list_groups",
    params(
        ("limit" = Option<u32>, Query),
        ("offset" = Option<u32>, Query),
        ("name" = Option<String>, Query, description = "Groups that hold this"),
    ),
    responses((status = 200, body = GroupList), (status = 400, body = ErrorBody))
)]
pub(super) async fn groups(State(app): State<App>, params: Params) -> Result<Response, ApiError> {
    let (found, limit, offset, name) = names(&app, NameList::Groups, params).await?;
    Ok(ok(&GroupList { groups: found.rows, total: found.total, limit, offset, name }))
}

/// List the tags in use
#[utoipa::path(
    get, path = "/v1/tags", tag = "names", operation_id = "list_tags",
    params(
        ("limit" = Option<u32>, Query),
        ("offset" = Option<u32>, Query),
        ("name" = Option<String>, Query, description = "Tags that hold this"),
    ),
    responses((status = 200, body = TagList), (status = 400, body = ErrorBody))
)]
pub(super) async fn tags(State(app): State<App>, params: Params) -> Result<Response, ApiError> {
    let (found, limit, offset, name) = names(&app, NameList::Tags, params).await?;
    Ok(ok(&TagList { tags: found.rows, total: found.total, limit, offset, name }))
}

async fn names(
    app: &App,
    list: NameList,
    mut params: Params,
) -> Result<(Page<String>, u32, u32, Option<String>), ApiError> {
    let (limit, offset, name) = (params.limit(), params.offset(), params.last("name"));
    params.finish()?;
    let found = app.service.names(list, name.as_deref().unwrap_or_default(), limit, offset).await?;
    Ok((found, limit, offset, name))
}

/// List the clusters
#[utoipa::path(
    get, path = "/v1/clusters", tag = "names", operation_id = "list_clusters",
    responses((status = 200, body = ClusterList))
)]
pub(super) async fn clusters(State(app): State<App>) -> Response {
    ok(&ClusterList { clusters: app.service.cluster_names() })
}
