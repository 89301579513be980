//! Task definition routes: list, create, get, update, deregister.

use axum::response::Response;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::also_at;
use crate::http::error::ApiError;
use crate::http::large::Asker;
use crate::http::lists;
use crate::http::params::{Params, env_filters};
use crate::http::request::{InBody, InPath};
use crate::http::respond::ok;
use crate::http::{App, Asked};
use crate::model::{DefinitionFilter, DefinitionSort};
use crate::model::{DefinitionId, Order};
use crate::wire::{DefinitionBody, DefinitionList, Deregistered, ErrorBody, TaskDefinition};

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(also_at(&[("/v6/task", "V6")], routes!(list, create)))
        .routes(also_at(&[("/v6/task/{definition_id}", "V6")], routes!(get, update, deregister)))
        .routes(also_at(&[("/v6/task/alias/{alias}", "V6")], routes!(get_by_alias)))
}

/// List task definitions
///
/// A filter given several times matches any of its values; different filters must all match.
#[utoipa::path(
    get, path = "/v1/task", tag = "tasks", operation_id = "listTasks",
    params(
        ("limit" = Option<u64>, Query, description = "At most this many; 1024 where it is left out"),
        ("offset" = Option<u64>, Query, description = "Leave out this many from the beginning"),
        ("sort_by" = Option<String>, Query, description = "A field's name; `group_name` where it is left out"),
        ("order" = Option<String>, Query, description = "`asc` where it is left out"),
        ("image" = Option<Vec<String>>, Query, description = "Exactly any of these images"),
        ("group_name" = Option<Vec<String>>, Query, description = "Exactly any of these groups"),
        ("alias" = Option<Vec<String>>, Query, description = "Aliases that hold any of these"),
        ("tag" = Option<Vec<String>>, Query, description = "Tagged with exactly any of these"),
        ("tags" = Option<Vec<String>>, Query, description = "The same as `tag`"),
        ("env" = Option<Vec<String>>, Query, description = "With these variables, each as NAME|VALUE"),
    ),
    responses(
        (status = 200, description = "One page of the definitions", body = DefinitionList),
        (status = 400, description = "A parameter is unknown or can't be read", body = ErrorBody),
    )
)]
async fn list(app: Asked, asker: Asker, mut params: Params) -> Result<Response, ApiError> {
    let known = DefinitionSort::ALL.map(DefinitionSort::as_str);
    let page = params.page((DefinitionSort::GroupName, Order::Asc), &known);
    let mut filter = DefinitionFilter {
        image: params.all("image"),
        group_name: params.all("group_name"),
        alias: params.all("alias"),
        tag: params.all("tag"),
        env: params.env(),
        ..DefinitionFilter::default()
    };
    filter.tag.extend(params.all("tags"));
    let filters = params.filters();
    params.finish()?;
    let found = app.service.definitions(&filter, page).await?;
    let frame = DefinitionList {
        definitions: Vec::new(),
        total: found.total,
        limit: page.limit,
        offset: page.offset,
        sort_by: page.sort_by.as_str().to_owned(),
        order: page.order.to_string(),
        env_filters: env_filters(&filter.env),
        filters,
    };
    let service = app.service.clone();
    let read = move |ids: Vec<DefinitionId>| {
        let service = service.clone();
        async move { service.read_definitions(&ids).await }
    };
    lists::answer(&app.large, asker, &frame, found.rows, TaskDefinition::from, read).await
}

/// Create a task definition
///
/// Run it with the execute routes.
#[utoipa::path(
    post, path = "/v1/task", tag = "tasks", operation_id = "createTask", request_body = DefinitionBody,
    responses(
        (status = 200, description = "The new definition", body = TaskDefinition),
        (status = 400, description = "A field is missing or can't be read", body = ErrorBody),
        (status = 409, description = "Another definition has the alias", body = ErrorBody),
    )
)]
async fn create(app: Asked, InBody(body): InBody<DefinitionBody>) -> Result<Response, ApiError> {
    let definition = app.service.define(body.into_new()).await?;
    Ok(ok(&TaskDefinition::from(definition)))
}

/// Get a task definition by its id
#[utoipa::path(
    get, path = "/v1/task/{definition_id}", tag = "tasks", operation_id = "getTask",
    params(("definition_id" = String, Path)),
    responses(
        (status = 200, description = "The definition", body = TaskDefinition),
        (status = 404, description = "There is no such definition", body = ErrorBody),
    )
)]
async fn get(app: Asked, InPath(id): InPath<String>) -> Result<Response, ApiError> {
    let definition = app.service.definition(&DefinitionId::from_text(id)).await?;
    Ok(ok(&TaskDefinition::from(definition)))
}

/// Get a task definition by its alias
#[utoipa::path(
    get, path = "/v1/task/alias/{alias}", tag = "tasks", operation_id = "getTaskByAlias",
    params(("alias" = String, Path)),
    responses(
        (status = 200, description = "The definition", body = TaskDefinition),
        (status = 404, description = "There is no such definition", body = ErrorBody),
    )
)]
async fn get_by_alias(app: Asked, InPath(alias): InPath<String>) -> Result<Response, ApiError> {
    let definition = app.service.definition_by_alias(&alias).await?;
    Ok(ok(&TaskDefinition::from(definition)))
}

/// Update a task definition
///
/// An omitted field keeps its value, and `[]` empties a list. The group can't change.
#[utoipa::path(
    put, path = "/v1/task/{definition_id}", tag = "tasks", operation_id = "updateTask",
    params(("definition_id" = String, Path)), request_body = DefinitionBody,
    responses(
        (status = 200, description = "The definition as it is now", body = TaskDefinition),
        (status = 400, description = "A field can't be read, the group would change, or `env` and `environment` contradict one another", body = ErrorBody),
        (status = 404, description = "There is no such definition", body = ErrorBody),
        (status = 409, description = "Another definition has the alias, or others changed this one all the time", body = ErrorBody),
    )
)]
async fn update(
    app: Asked,
    InPath(id): InPath<String>,
    InBody(body): InBody<DefinitionBody>,
) -> Result<Response, ApiError> {
    let change = |current: &_| body.clone().into_update(current);
    let definition = app.service.update(&DefinitionId::from_text(id), &change).await?;
    Ok(ok(&TaskDefinition::from(definition)))
}

/// Deregister a task definition
///
/// It disappears from lists, look-ups and launches, and its alias becomes free. Its running runs continue, and its
/// history is kept.
#[utoipa::path(
    delete, path = "/v1/task/{definition_id}", tag = "tasks", operation_id = "deleteTask",
    params(("definition_id" = String, Path)),
    responses(
        (status = 200, description = "It is deregistered", body = Deregistered),
        (status = 404, description = "There is no such definition", body = ErrorBody),
    )
)]
async fn deregister(app: Asked, InPath(id): InPath<String>) -> Result<Response, ApiError> {
    let id = DefinitionId::from_text(id);
    app.service.deregister(&id).await?;
    Ok(ok(&Deregistered { definition_id: id.to_string(), deleted: true }))
}
