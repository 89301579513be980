//! Names of groups, tags and clusters.

use axum::response::Response;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::also_at;
use crate::http::error::ApiError;
use crate::http::large::Asker;
use crate::http::params::Params;
use crate::http::respond::ok;
use crate::http::{App, Asked};
use crate::model::{NameList, Page, limits};
use crate::wire::{ClusterList, ErrorBody, GroupList, TagList};

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(also_at(&[("/groups", "Unversioned"), ("/v6/groups", "V6")], routes!(groups)))
        .routes(also_at(&[("/tags", "Unversioned"), ("/v6/tags", "V6")], routes!(tags)))
        .routes(also_at(&[("/clusters", "Unversioned")], routes!(clusters)))
}

/// List the groups in use
#[utoipa::path(
    get, path = "/v1/groups", tag = "names", operation_id = "listGroups",
    params(
        ("limit" = Option<u64>, Query, description = "At most this many; 1024 where it is left out"),
        ("offset" = Option<u64>, Query, description = "Leave out this many from the beginning"),
        ("name" = Option<String>, Query, description = "Groups that hold this"),
    ),
    responses(
        (status = 200, description = "One page of the groups", body = GroupList),
        (status = 400, description = "A parameter is unknown or can't be read", body = ErrorBody),
    )
)]
async fn groups(app: Asked, asker: Asker, params: Params) -> Result<Response, ApiError> {
    names(&app, NameList::Groups, asker, params, |names| {
        let Names { found, limit, offset, name } = names;
        serde_json::to_vec(&GroupList { groups: found.rows, total: found.total, limit, offset, name })
    })
    .await
}

/// List the tags in use
#[utoipa::path(
    get, path = "/v1/tags", tag = "names", operation_id = "listTags",
    params(
        ("limit" = Option<u64>, Query, description = "At most this many; 1024 where it is left out"),
        ("offset" = Option<u64>, Query, description = "Leave out this many from the beginning"),
        ("name" = Option<String>, Query, description = "Tags that hold this"),
    ),
    responses(
        (status = 200, description = "One page of the tags", body = TagList),
        (status = 400, description = "A parameter is unknown or can't be read", body = ErrorBody),
    )
)]
async fn tags(app: Asked, asker: Asker, params: Params) -> Result<Response, ApiError> {
    names(&app, NameList::Tags, asker, params, |names| {
        let Names { found, limit, offset, name } = names;
        serde_json::to_vec(&TagList { tags: found.rows, total: found.total, limit, offset, name })
    })
    .await
}

struct Names {
    found: Page<String>,
    limit: u32,
    offset: u32,
    name: Option<String>,
}

async fn names(
    app: &Asked,
    list: NameList,
    asker: Asker,
    mut params: Params,
    write: fn(Names) -> serde_json::Result<Vec<u8>>,
) -> Result<Response, ApiError> {
    /// Copies of a name in memory: as stored, as read, and as JSON.
    const COPIES: usize = 4;
    let (limit, offset, name) = (params.limit(), params.offset(), params.once("name"));
    params.finish()?;
    let turn = app.large.turn(asker, u64::from(limit) * (limits::NAME_BYTES * COPIES) as u64).await?;
    let found = app.service.names(list, name.as_deref().unwrap_or_default(), limit, offset).await?;
    let text = write(Names { found, limit, offset, name }).expect("the bodies of `wire` serialize");
    app.large.json(asker, text, turn)
}

/// List the clusters
#[utoipa::path(
    get, path = "/v1/clusters", tag = "names", operation_id = "listClusterNames",
    responses((status = 200, description = "The names of all", body = ClusterList))
)]
async fn clusters(app: Asked) -> Response {
    ok(&ClusterList { clusters: app.service.cluster_names() })
}
