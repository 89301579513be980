//! The list of tasks: searchable, sortable, each with the outcomes of its recent runs.

use askama::Template;
use axum::Router;
use axum::response::Response;
use axum::routing::get;

use crate::http::error::ApiError;
use crate::http::params::Params;
use crate::http::ui::charts::svg::{Svg, strip};
use crate::http::ui::parts::layout;
use crate::http::ui::parts::layout::{Layout, Section};
use crate::http::ui::parts::links;
use crate::http::ui::parts::pager::{Address, Pager, SortLink};
use crate::http::ui::parts::state::{Badge, Icon};
use crate::http::ui::parts::words;
use crate::http::ui::parts::words::Moment;
use crate::http::{App, Asked};
use crate::model::{DefinitionFilter, DefinitionSort, DefinitionSummary, Order, RunBrief, typical_duration};

pub fn routes() -> Router<App> {
    Router::new().route("/ui/tasks", get(page))
}

/// Number of tasks on a page, unless the URL gives another one, and the maximum.
const TASKS: u32 = 50;
const MOST_TASKS: u32 = 100;
/// Number of recent runs shown for each task.
const RUNS_SHOWN: u32 = 10;
/// Number of a task's tags that are shown; the task's page shows all.
const TAGS_SHOWN: usize = 3;
/// Maximum length of a deleted task's name in the notice. It comes from the URL and so may be any text.
const DELETED_CHARS: usize = 80;

#[derive(Template)]
#[template(path = "tasks.html")]
pub struct TasksPage {
    layout: Layout,
    /// The name of the task that was just deleted.
    deleted: Option<String>,
    search: String,
    /// The filters other than the search, as `(name, value)`, each with the list without it.
    filters: Vec<(&'static str, String, Address)>,
    sorts: Vec<SortLink>,
    /// The URL parameters that a new search keeps.
    kept: Vec<(String, String)>,
    tasks: Vec<TaskRow>,
    pager: Pager,
}

struct TaskRow {
    id: String,
    address: String,
    name: String,
    group: String,
    group_address: Address,
    image: String,
    /// Each with the list of tasks that have it.
    tags: Vec<(String, Address)>,
    more_tags: usize,
    changed: Moment,
    strip: Svg,
    last_run: Option<LastRun>,
    typical: Option<String>,
}

struct LastRun {
    address: String,
    look: Badge,
    at: Moment,
}

async fn page(app: Asked, mut params: Params) -> Result<Response, ApiError> {
    let known = DefinitionSort::ALL.map(DefinitionSort::as_str);
    let search = params.last("q").unwrap_or_default();
    let deleted = params.last("deleted").map(|name| words::excerpt(&name, DELETED_CHARS));
    let mut page = params.page((DefinitionSort::Alias, Order::Asc), &known);
    page.limit = params.last("limit").map_or(TASKS, |_| page.limit.clamp(1, MOST_TASKS));
    let filter = DefinitionFilter {
        group_name: params.all("group_name"),
        image: params.all("image"),
        tag: params.all("tag"),
        ..DefinitionFilter::search(&search)
    };
    params.finish()?;

    let found = app.service.definition_summaries(&filter, page).await?;
    let ids: Vec<_> = found.rows.iter().map(|definition| definition.definition_id.clone()).collect();
    let recent = app.service.recent_runs(&ids, RUNS_SHOWN).await?;
    let now = app.service.now();

    let mut address = links::tasks().with("q", [&search]);
    for (name, values) in filters(&filter) {
        address = address.with(name, values);
    }
    if (page.sort_by, page.order) != (DefinitionSort::Alias, Order::Asc) {
        address = address.with("sort_by", [page.sort_by.as_str()]).with("order", [page.order]);
    }
    if page.limit != TASKS {
        address = address.with("limit", [page.limit]);
    }
    let rows = found.rows.into_iter().map(|definition| {
        let runs = recent.get(&definition.definition_id).map(Vec::as_slice).unwrap_or_default();
        TaskRow::new(definition, runs, now)
    });
    let tasks: Vec<_> = rows.collect();
    Ok(layout::html(&TasksPage {
        layout: Layout::new(Section::Tasks),
        deleted,
        filters: shown_filters(&filter, &address),
        sorts: sort_links(&address, &page),
        kept: address.with("q", None::<&str>).pairs().to_vec(),
        pager: Pager::new(&address, &page, tasks.len(), found.total),
        search,
        tasks,
    }))
}

const fn filters(filter: &DefinitionFilter) -> [(&'static str, &Vec<String>); 3] {
    [("group_name", &filter.group_name), ("image", &filter.image), ("tag", &filter.tag)]
}

/// Each active filter value, with the list without it.
fn shown_filters(filter: &DefinitionFilter, address: &Address) -> Vec<(&'static str, String, Address)> {
    let words = [("group_name", "group"), ("image", "image"), ("tag", "tag")];
    let mut shown = Vec::new();
    for ((name, values), (_, word)) in filters(filter).into_iter().zip(words) {
        for value in values {
            let others = values.iter().filter(|other| *other != value);
            shown.push((word, value.clone(), address.with(name, others)));
        }
    }
    shown
}

fn sort_links(address: &Address, page: &crate::model::PageRequest<DefinitionSort>) -> Vec<SortLink> {
    let columns = [
        ("Task", DefinitionSort::Alias, Order::Asc),
        ("Group", DefinitionSort::GroupName, Order::Asc),
        ("Changed", DefinitionSort::UpdatedAt, Order::Desc),
    ];
    let links =
        columns.into_iter().map(|(name, sort, first)| SortLink::new(name, address, (sort, sort.as_str()), first, page));
    links.collect()
}

impl TaskRow {
    fn new(definition: DefinitionSummary, runs: &[RunBrief], now: jiff::Timestamp) -> Self {
        let looks: Vec<_> = runs.iter().map(|run| Badge::new(run.status, run.outcome)).collect();
        let all = links::tasks();
        let tags = definition.tags.iter().take(TAGS_SHOWN);
        Self {
            name: definition.alias.unwrap_or_else(|| definition.definition_id.to_string()),
            address: links::task(&definition.definition_id),
            id: definition.definition_id.to_string(),
            group_address: all.with("group_name", [&definition.group_name]),
            group: definition.group_name,
            tags: tags.map(|tag| (tag.clone(), all.with("tag", [tag]))).collect(),
            more_tags: definition.tags.len().saturating_sub(TAGS_SHOWN),
            image: definition.image,
            changed: Moment { at: definition.updated_at, now },
            strip: strip(&looks, RUNS_SHOWN as usize),
            last_run: runs.first().map(|run| LastRun {
                address: links::run(run.run_id),
                look: Badge::new(run.status, run.outcome),
                at: Moment { at: run.finished_at.or(run.started_at).unwrap_or(run.queued_at), now },
            }),
            typical: typical_duration(runs).map(words::duration),
        }
    }
}

#[cfg(test)]
impl TasksPage {
    pub fn sample() -> Self {
        use crate::model::Outcome;
        use crate::model::sample;
        let (definition, now, run) = (sample::definition_summary(), sample::now(), sample::brief(Outcome::Failed));
        let page = crate::model::PageRequest { limit: 1, offset: 1, sort_by: DefinitionSort::Alias, order: Order::Asc };
        let address = links::tasks().with("q", ["x"]);
        let filter = DefinitionFilter { tag: vec!["gpu".to_owned()], ..DefinitionFilter::default() };
        Self {
            layout: Layout::new(Section::Tasks),
            deleted: Some("<b>".to_owned()),
            search: "x\" onfocus=\"".to_owned(),
            filters: shown_filters(&filter, &address),
            sorts: sort_links(&address, &page),
            kept: vec![("sort_by".to_owned(), "alias".to_owned())],
            tasks: vec![TaskRow::new(definition, &[run], now)],
            pager: Pager::new(&address, &page, 1, 3),
        }
    }
}
