//! The list of all runs, with its filters in the URL.

use askama::Template;
use axum::Router;
use axum::response::Response;
use axum::routing::get;

use super::task::name;
use crate::http::error::ApiError;
use crate::http::params::Params;
use crate::http::ui::parts::layout;
use crate::http::ui::parts::layout::{Layout, Section};
use crate::http::ui::parts::links;
use crate::http::ui::parts::pager::{Address, Pager};
use crate::http::ui::parts::run_row::RunRow;
use crate::http::ui::parts::state::{Badge, Icon};
use crate::http::ui::parts::words;
use crate::http::{App, Asked};
use crate::model::{DefinitionId, Order, Outcome, PageRequest, RunFilter, RunSort, Status};
use crate::service::ServiceError;

pub fn routes() -> Router<App> {
    Router::new().route("/ui/runs", get(page))
}

/// Number of runs on a page, unless the URL gives another one, and the maximum.
const RUNS: u32 = 50;
const MOST_RUNS: u32 = 100;

/// Number of owners that the filter suggests.
const OWNERS_OFFERED: u32 = 200;

#[derive(Template)]
#[template(path = "runs.html")]
pub struct RunsPage {
    layout: Layout,
    /// The states to filter by: word, the list with that filter, and whether it is selected.
    states: Vec<(&'static str, Address, bool)>,
    /// The other active filters: word, value, and the list without this filter.
    filters: Vec<(&'static str, String, Address)>,
    clusters: Vec<(String, bool)>,
    owner: String,
    owners: Vec<String>,
    kept: Vec<(String, String)>,
    rows: Vec<RunRow>,
    pager: Pager,
    is_filtered: bool,
}

async fn page(app: Asked, mut params: Params) -> Result<Response, ApiError> {
    let mut page = PageRequest { limit: RUNS, offset: params.offset(), sort_by: RunSort::QueuedAt, order: Order::Desc };
    if let Some(limit) = params.last("limit").map(|_| params.limit()) {
        page.limit = limit.clamp(1, MOST_RUNS);
    }
    let task = params.last("task");
    let filter = RunFilter {
        status: params.all_parsed("status"),
        outcome: params.all_parsed("outcome"),
        resolved_cluster: params.all("cluster"),
        definition_id: task.iter().cloned().collect(),
        user: params.all("owner"),
        group_name: params.all("group_name"),
        image: params.all("image"),
        ..RunFilter::default()
    };
    params.finish()?;
    let found = app.service.run_summaries(&filter, page).await?;
    let now = app.service.now();
    let rows: Vec<_> = found.rows.into_iter().map(|run| RunRow::new(run, now)).collect();
    let task_name = match &task {
        Some(id) => Some(task_name(&app, id, &rows).await?),
        None => None,
    };
    let address = address(&filter, page.limit);
    Ok(layout::html(&RunsPage {
        layout: Layout::new(Section::Runs),
        states: states(&filter, &address),
        filters: filters(&filter, &address, task_name),
        clusters: clusters(&app, &filter),
        kept: kept(&filter, &address),
        owners: app.service.owners(OWNERS_OFFERED).await?,
        owner: filter.user.first().cloned().unwrap_or_default(),
        pager: Pager::new(&address, &page, rows.len(), found.total),
        is_filtered: !address.pairs().is_empty(),
        rows,
    }))
}

/// The name of a task, also of one that was deleted as far as its runs tell.
async fn task_name(app: &Asked, id: &str, rows: &[RunRow]) -> Result<String, ApiError> {
    match app.service.definition(&DefinitionId::from_text(id)).await {
        Ok(definition) => Ok(name(&definition)),
        Err(ServiceError::NotFound(_)) => Ok(rows.first().map_or_else(|| id.to_owned(), |row| row.name.clone())),
        Err(error) => Err(error.into()),
    }
}

/// The URL's other parameters. The form's two fields each replace only the first of their values.
fn kept(filter: &RunFilter, address: &Address) -> Vec<(String, String)> {
    let address = address.with("owner", filter.user.iter().skip(1));
    address.with("cluster", filter.resolved_cluster.iter().skip(1)).pairs().to_vec()
}

/// Those that there are, and the first that is filtered by.
fn clusters(app: &Asked, filter: &RunFilter) -> Vec<(String, bool)> {
    let mut names = app.service.resolved_cluster_names();
    names.extend(filter.resolved_cluster.iter().cloned());
    names.sort();
    names.dedup();
    names.into_iter().map(|name| (name.clone(), filter.resolved_cluster.first() == Some(&name))).collect()
}

fn address(filter: &RunFilter, limit: u32) -> Address {
    links::runs()
        .with("status", &filter.status)
        .with("outcome", &filter.outcome)
        .with("task", &filter.definition_id)
        .with("cluster", &filter.resolved_cluster)
        .with("owner", &filter.user)
        .with("group_name", &filter.group_name)
        .with("image", &filter.image)
        .with("limit", Some(limit).filter(|limit| *limit != RUNS))
}

/// All runs, a single status, or one kind of outcome.
fn states(filter: &RunFilter, address: &Address) -> Vec<(&'static str, Address, bool)> {
    let statuses = Status::ALL.into_iter().map(|status| {
        let word = if status.is_terminal() { "Ended" } else { Badge::new(status, None).word };
        (word, vec![status], Vec::new())
    });
    let outcomes = [
        ("Succeeded", vec![Outcome::Succeeded]),
        ("Failed", Outcome::FAILURES.to_vec()),
        ("Stopped", vec![Outcome::Stopped]),
    ];
    let outcomes = outcomes.map(|(word, outcome)| (word, Vec::new(), outcome));
    let all = std::iter::once(("All", Vec::new(), Vec::new())).chain(statuses).chain(outcomes);
    let link = |(word, status, outcome): (_, Vec<Status>, Vec<Outcome>)| {
        let is_chosen = filter.status == status && filter.outcome == outcome;
        (word, address.with("status", status).with("outcome", outcome), is_chosen)
    };
    all.map(link).collect()
}

fn filters(filter: &RunFilter, address: &Address, task: Option<String>) -> Vec<(&'static str, String, Address)> {
    let mut shown: Vec<_> = task.into_iter().map(|task| ("task", task, address.with("task", None::<&str>))).collect();
    for (word, name, values) in [
        ("cluster", "cluster", &filter.resolved_cluster),
        ("owner", "owner", &filter.user),
        ("group", "group_name", &filter.group_name),
        ("image", "image", &filter.image),
    ] {
        for value in values {
            let others = values.iter().filter(|other| *other != value);
            shown.push((word, value.clone(), address.with(name, others)));
        }
    }
    shown
}

#[cfg(test)]
impl RunsPage {
    pub fn sample() -> Self {
        let filter = RunFilter { user: vec!["<ada>".to_owned()], ..RunFilter::default() };
        let address = address(&filter, RUNS);
        let page = PageRequest { limit: 1, offset: 1, sort_by: RunSort::QueuedAt, order: Order::Desc };
        Self {
            layout: Layout::new(Section::Runs),
            states: states(&filter, &address),
            filters: filters(&filter, &address, Some("a<b>".to_owned())),
            clusters: vec![("default".to_owned(), true)],
            owner: "\"><b>".to_owned(),
            owners: vec!["<ada>".to_owned()],
            kept: Vec::new(),
            rows: vec![RunRow::sample()],
            pager: Pager::new(&address, &page, 1, 3),
            is_filtered: true,
        }
    }
}
