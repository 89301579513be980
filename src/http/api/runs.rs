//! Run routes: list, get, stop, report a status.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::also_at;
use crate::http::error::ApiError;
use crate::http::etag;
use crate::http::large::Asker;
use crate::http::lists;
use crate::http::params::{Params, env_filters};
use crate::http::request::{InBody, InPath};
use crate::http::respond::ok;
use crate::http::{App, Asked};
use crate::model::{self, DefinitionId, Order, Page, PageRequest, RunId, UnknownWord, Unread};
use crate::model::{RunFilter, RunSort};
use crate::wire::{
    ErrorBody, EventList, PodEvent, Run, RunList, RunStatus, SpawnedRun, StatusUpdate, StoppedRun, UpdatedRun,
};

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(also_at(&[("/v6/history", "V6")], routes!(list)))
        .routes(also_at(
            &[
                ("/v1/task/history/{run_id}", "OfAnyTask"),
                ("/v6/history/{run_id}", "V6"),
                ("/v6/task/history/{run_id}", "OfAnyTaskV6"),
            ],
            routes!(get),
        ))
        .routes(also_at(&[("/v6/task/{definition_id}/history", "V6")], routes!(list_of_definition)))
        .routes(also_at(&[("/v6/task/{definition_id}/history/{run_id}", "V6")], routes!(get_of_definition, stop)))
        .routes(also_at(&[("/v1/{run_id}/status", "V1")], routes!(status, set_status)))
        .routes(also_at(&[("/v6/{run_id}/events", "V6")], routes!(events)))
}

/// List all runs
///
/// A filter given several times matches any of its values; different filters must all match.
#[utoipa::path(
    get, path = "/v1/history", tag = "runs", operation_id = "listRuns",
    params(
        ("limit" = Option<u64>, Query, description = "At most this many; 1024 where it is left out"),
        ("offset" = Option<u64>, Query, description = "Leave out this many from the beginning"),
        ("sort_by" = Option<String>, Query, description = "A field's name; `queued_at` where it is left out. What has not happened comes last"),
        ("order" = Option<String>, Query, description = "`desc` where it is left out"),
        ("status" = Option<Vec<String>>, Query, description = "Any of these"),
        ("outcome" = Option<Vec<String>>, Query, description = "How it ended: any of these"),
        ("cluster_name" = Option<Vec<String>>, Query, description = "Any of these clusters, as the launch named them; `cluster` is the same"),
        ("cluster" = Option<Vec<String>>, Query, description = "The same as `cluster_name`"),
        ("definition_id" = Option<Vec<String>>, Query, description = "Of any of these definitions"),
        ("alias" = Option<Vec<String>>, Query, description = "Exactly any of these aliases"),
        ("group_name" = Option<Vec<String>>, Query, description = "Exactly any of these groups"),
        ("image" = Option<Vec<String>>, Query, description = "Exactly any of these images"),
        ("user" = Option<Vec<String>>, Query, description = "Exactly any of these owners"),
        ("env" = Option<Vec<String>>, Query, description = "With these variables, each as NAME|VALUE"),
        ("queued_at_since" = Option<String>, Query, description = "Launched then or later"),
        ("queued_at_until" = Option<String>, Query, description = "Launched before then"),
        ("started_at_since" = Option<String>, Query, description = "Started then or later"),
        ("started_at_until" = Option<String>, Query, description = "Started before then"),
        ("finished_at_since" = Option<String>, Query, description = "Finished then or later"),
        ("finished_at_until" = Option<String>, Query, description = "Finished before then"),
    ),
    responses(
        (status = 200, description = "One page of the runs", body = RunList),
        (status = 400, description = "A parameter is unknown or can't be read", body = ErrorBody),
    )
)]
async fn list(app: Asked, asker: Asker, params: Params) -> Result<Response, ApiError> {
    let request = ListRequest::read(params)?;
    let found = app.service.runs(&request.filter, request.page).await?;
    request.answer(&app, asker, found).await
}

/// List the runs of a task definition
///
/// Also works for a deregistered definition.
#[utoipa::path(
    get, path = "/v1/task/{definition_id}/history", tag = "runs", operation_id = "listTaskRuns",
    params(
        ("definition_id" = String, Path),
        ("limit" = Option<u64>, Query, description = "At most this many; 1024 where it is left out"),
        ("offset" = Option<u64>, Query, description = "Leave out this many from the beginning"),
        ("sort_by" = Option<String>, Query, description = "A field's name; `queued_at` where it is left out. What has not happened comes last"),
        ("order" = Option<String>, Query, description = "`desc` where it is left out"),
        ("status" = Option<Vec<String>>, Query, description = "Any of these"),
        ("outcome" = Option<Vec<String>>, Query, description = "How it ended: any of these"),
        ("cluster_name" = Option<Vec<String>>, Query, description = "Any of these clusters, as the launch named them; `cluster` is the same"),
        ("cluster" = Option<Vec<String>>, Query, description = "The same as `cluster_name`"),
        ("alias" = Option<Vec<String>>, Query, description = "Exactly any of these aliases"),
        ("group_name" = Option<Vec<String>>, Query, description = "Exactly any of these groups"),
        ("image" = Option<Vec<String>>, Query, description = "Exactly any of these images"),
        ("user" = Option<Vec<String>>, Query, description = "Exactly any of these owners"),
        ("env" = Option<Vec<String>>, Query, description = "With these variables, each as NAME|VALUE"),
        ("queued_at_since" = Option<String>, Query, description = "Launched then or later"),
        ("queued_at_until" = Option<String>, Query, description = "Launched before then"),
        ("started_at_since" = Option<String>, Query, description = "Started then or later"),
        ("started_at_until" = Option<String>, Query, description = "Started before then"),
        ("finished_at_since" = Option<String>, Query, description = "Finished then or later"),
        ("finished_at_until" = Option<String>, Query, description = "Finished before then"),
    ),
    responses(
        (status = 200, description = "One page of its runs", body = RunList),
        (status = 400, description = "A parameter is unknown or can't be read", body = ErrorBody),
        (status = 404, description = "There has never been such a definition", body = ErrorBody),
    )
)]
async fn list_of_definition(
    app: Asked,
    InPath(id): InPath<String>,
    asker: Asker,
    params: Params,
) -> Result<Response, ApiError> {
    let mut request = ListRequest::read(params)?;
    let id = DefinitionId::from_text(id);
    let found = app.service.runs_of(&id, request.filter.clone(), request.page).await?;
    request.filters.insert("definition_id".to_owned(), crate::wire::OneOrMany::One(id.to_string()));
    request.answer(&app, asker, found).await
}

struct ListRequest {
    filter: RunFilter,
    page: PageRequest<RunSort>,
    filters: std::collections::BTreeMap<String, crate::wire::OneOrMany>,
}

impl ListRequest {
    fn read(mut params: Params) -> Result<Self, ApiError> {
        let page = params.page((RunSort::QueuedAt, Order::Desc), &RunSort::ALL.map(RunSort::as_str));
        let mut filter = RunFilter {
            status: params.all_parsed("status"),
            outcome: params.all_parsed("outcome"),
            cluster_name: params.all("cluster_name"),
            definition_id: params.all("definition_id"),
            alias: params.all("alias"),
            group_name: params.all("group_name"),
            image: params.all("image"),
            user: params.all("user"),
            env: params.env(),
            queued_at: params.times("queued_at_since", "queued_at_until"),
            started_at: params.times("started_at_since", "started_at_until"),
            finished_at: params.times("finished_at_since", "finished_at_until"),
            ..RunFilter::default()
        };
        filter.cluster_name.extend(params.all("cluster"));
        let filters = params.filters();
        params.finish()?;
        Ok(Self { filter, page, filters })
    }

    async fn answer(self, app: &Asked, asker: Asker, found: Page<Unread<RunId>>) -> Result<Response, ApiError> {
        let frame = RunList {
            history: Vec::new(),
            total: found.total,
            limit: self.page.limit,
            offset: self.page.offset,
            sort_by: self.page.sort_by.as_str().to_owned(),
            order: self.page.order.to_string(),
            env_filters: env_filters(&self.filter.env),
            filters: self.filters,
        };
        let service = app.service.clone();
        let read = move |ids: Vec<RunId>| {
            let service = service.clone();
            async move { service.read_runs(&ids).await }
        };
        lists::answer(&app.large, asker, &frame, found.rows, Run::from, read).await
    }
}

/// Get a run
#[utoipa::path(
    get, path = "/v1/history/{run_id}", tag = "runs", operation_id = "getRun",
    params(("run_id" = String, Path)),
    responses(
        (status = 200, description = "The run", body = Run),
        (status = 404, description = "There is no such run", body = ErrorBody),
    )
)]
async fn get(app: Asked, InPath(run_id): InPath<String>) -> Result<Response, ApiError> {
    let run = app.service.run(&run_id).await?;
    with_details(&app, run).await
}

/// Get a run of a task definition
#[utoipa::path(
    get, path = "/v1/task/{definition_id}/history/{run_id}", tag = "runs", operation_id = "getTaskRun",
    params(("definition_id" = String, Path), ("run_id" = String, Path)),
    responses(
        (status = 200, description = "The run", body = Run),
        (status = 404, description = "There is no such run", body = ErrorBody),
    )
)]
async fn get_of_definition(
    app: Asked,
    InPath((definition_id, run_id)): InPath<(String, String)>,
) -> Result<Response, ApiError> {
    let run = app.service.run_of(&DefinitionId::from_text(definition_id), &run_id).await?;
    with_details(&app, run).await
}

async fn with_details(app: &Asked, run: model::Run) -> Result<Response, ApiError> {
    let details = app.service.details(run).await?;
    Ok(ok(&Run {
        waiting_reason: details.waiting_reason,
        spawned_runs: Some(details.children.into_iter().map(|run_id| SpawnedRun { run_id }).collect()),
        pod_events: Some(details.events.into_iter().map(PodEvent::from).collect()),
        ..Run::from(details.run)
    }))
}

/// Stop a run and its children
///
/// The request is stored before the response is sent, and repeated until the run has ended. A run that has already
/// stopped is not changed.
#[utoipa::path(
    delete, path = "/v1/task/{definition_id}/history/{run_id}", tag = "runs", operation_id = "stopRun",
    params(("definition_id" = String, Path), ("run_id" = String, Path)),
    responses(
        (status = 200, description = "The run as it is now; the stop is stored", body = StoppedRun),
        (status = 404, description = "There is no such run", body = ErrorBody),
        (status = 409, description = "The run was changing all the time", body = ErrorBody),
    )
)]
async fn stop(app: Asked, InPath((definition_id, run_id)): InPath<(String, String)>) -> Result<Response, ApiError> {
    let run = app.service.run_of(&DefinitionId::from_text(definition_id), &run_id).await?;
    let run = app.service.stop(&run).await?;
    Ok(ok(&StoppedRun { run: Run::from(run), stopped: true, terminated: true }))
}

/// Get the fields that change during a run
///
/// Returns an `ETag`: a client that sends it back in `If-None-Match` gets 304 if nothing has changed.
#[utoipa::path(
    get, path = "/v6/{run_id}/status", tag = "runs", operation_id = "getRunStatus",
    params(("run_id" = String, Path), ("If-None-Match" = Option<String>, Header, description = "The `ETag` of an earlier answer")),
    responses(
        (status = 200, description = "What is known now", body = RunStatus),
        (status = 304, description = "Nothing has changed"),
        (status = 404, description = "There is no such run", body = ErrorBody),
    )
)]
async fn status(app: Asked, InPath(run_id): InPath<String>, headers: HeaderMap) -> Result<Response, ApiError> {
    let status = RunStatus::from(app.service.run(&run_id).await?);
    let body = serde_json::to_string(&status).expect("the bodies of `wire` serialize");
    let tag = etag::strong(&body);
    let mut response = match etag::is_known(&headers, &tag) {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => ok(&status),
    };
    response.headers_mut().insert(header::ETAG, tag);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}

/// Report a status
///
/// For jobs that report their own status. Only transitions of the run lifecycle are accepted.
#[utoipa::path(
    put, path = "/v6/{run_id}/status", tag = "runs", operation_id = "setRunStatus",
    params(("run_id" = String, Path)), request_body = StatusUpdate,
    responses(
        (status = 200, description = "The run as it is now", body = UpdatedRun),
        (status = 400, description = "A field is missing or can't be read", body = ErrorBody),
        (status = 404, description = "There is no such run", body = ErrorBody),
        (status = 409, description = "The run can't take this status", body = ErrorBody),
    )
)]
async fn set_status(
    app: Asked,
    InPath(run_id): InPath<String>,
    InBody(body): InBody<StatusUpdate>,
) -> Result<Response, ApiError> {
    let status = body.status.as_deref().ok_or_else(|| ApiError::invalid("`status` is needed and missing"))?;
    let status = status.parse().map_err(|error: UnknownWord| ApiError::invalid(format!("`status` {error}")))?;
    let reason = body.exit_reason.as_deref();
    if reason.is_some_and(|reason| reason.len() > model::limits::TEXT_BYTES || reason.contains('\0')) {
        let most = model::limits::TEXT_BYTES;
        return Err(ApiError::invalid(format!(
            "`exit_reason` must not hold a NUL character nor more than {most} bytes"
        )));
    }
    if body.run_exceptions.as_ref().is_some_and(holds_nul) {
        return Err(ApiError::invalid("`run_exceptions` must not hold a NUL character"));
    }
    let run = app.service.set_status(&run_id, status, body.exit_code, reason, body.run_exceptions.as_ref()).await?;
    Ok(ok(&UpdatedRun { run: Run::from(run), updated: true }))
}

fn holds_nul(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::String(text) => text.contains('\0'),
        serde_json::Value::Array(items) => items.iter().any(holds_nul),
        serde_json::Value::Object(fields) => fields.iter().any(|(name, value)| name.contains('\0') || holds_nul(value)),
        serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => false,
    }
}

/// Get the events of a run
#[utoipa::path(
    get, path = "/v1/{run_id}/events", tag = "runs", operation_id = "getRunEvents",
    params(("run_id" = String, Path)),
    responses(
        (status = 200, description = "Its newest events, 10,000 at most, oldest first", body = EventList),
        (status = 404, description = "There is no such run", body = ErrorBody),
    )
)]
async fn events(app: Asked, InPath(run_id): InPath<String>) -> Result<Response, ApiError> {
    let events = app.service.events(&run_id).await?;
    Ok(ok(&EventList { total: events.total, pod_events: events.rows.into_iter().map(PodEvent::from).collect() }))
}
