//! The page of a task: what it runs, how its runs went, and the available actions.

use askama::Template;
use axum::Router;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;

use crate::http::error::ApiError;
use crate::http::request::InPath;
use crate::http::ui::charts::svg::{Bar, Svg, durations};
use crate::http::ui::parts::fold;
use crate::http::ui::parts::form::Form;
use crate::http::ui::parts::layout;
use crate::http::ui::parts::layout::{Layout, Section};
use crate::http::ui::parts::links;
use crate::http::ui::parts::pager::Address;
use crate::http::ui::parts::run_row::RunRow;
use crate::http::ui::parts::state::{Badge, Icon};
use crate::http::ui::parts::words;
use crate::http::ui::parts::words::Moment;
use crate::http::{App, Asked};
use crate::model::{
    Definition, DefinitionId, Order, Outcome, PageRequest, RunBrief, RunFilter, RunSort, Status, typical_duration,
};

pub fn routes() -> Router<App> {
    Router::new()
        .route("/ui/tasks/{definition_id}", get(page))
        .route("/ui/tasks/{definition_id}/delete", get(confirm_delete).post(delete))
}

/// Number of recent runs in the chart and statistics.
const RUNS_DRAWN: u32 = 60;
/// Number of runs listed.
const RUNS_LISTED: u32 = 15;

#[derive(Template)]
#[template(path = "task.html")]
pub struct TaskPage {
    layout: Layout,
    name: String,
    address: String,
    copy_address: Address,
    definition: Definition,
    tags: Vec<(String, Address)>,
    resources: Vec<(&'static str, String)>,
    created: Moment,
    changed: Moment,
    history: Option<History>,
    runs: Vec<RunRow>,
    total: u64,
    all_runs: Address,
}

/// Statistics over the recent runs.
struct History {
    chart: Svg,
    /// Percentage of successes among the runs that ended by themselves.
    succeeded: Option<String>,
    typical: Option<String>,
}

#[derive(Template)]
#[template(path = "task_delete.html")]
pub struct DeletePage {
    layout: Layout,
    name: String,
    address: String,
    active: u64,
}

async fn page(app: Asked, InPath(id): InPath<String>) -> Result<Response, ApiError> {
    let definition = app.service.definition(&DefinitionId::from_text(id)).await?;
    let ids = [definition.definition_id.clone()];
    let newest = PageRequest { limit: RUNS_LISTED, offset: 0, sort_by: RunSort::QueuedAt, order: Order::Desc };
    let (mut recent, listed) = tokio::try_join!(
        app.service.recent_runs(&ids, RUNS_DRAWN),
        app.service.run_summaries_of(&definition.definition_id, RunFilter::default(), newest),
    )?;
    let now = app.service.now();
    let recent = recent.remove(&definition.definition_id).unwrap_or_default();
    Ok(layout::html(&TaskPage {
        layout: Layout::new(Section::Tasks),
        name: name(&definition),
        address: links::task(&definition.definition_id),
        copy_address: links::new_task().with("from", [&definition.definition_id]),
        tags: tags(&definition),
        resources: resources(&definition),
        created: Moment { at: definition.created_at, now },
        changed: Moment { at: definition.updated_at, now },
        history: history(&recent),
        runs: listed.rows.into_iter().map(|run| RunRow::new(run, now)).collect(),
        total: listed.total,
        all_runs: links::runs().with("task", [&definition.definition_id]),
        definition,
    }))
}

async fn confirm_delete(app: Asked, InPath(id): InPath<String>) -> Result<Response, ApiError> {
    let definition = app.service.definition(&DefinitionId::from_text(id)).await?;
    let active = RunFilter {
        status: Status::ALL.into_iter().filter(|status| !status.is_terminal()).collect(),
        ..RunFilter::default()
    };
    let none = PageRequest { limit: 0, offset: 0, sort_by: RunSort::QueuedAt, order: Order::Desc };
    let active = app.service.runs_of(&definition.definition_id, active, none).await?.total;
    Ok(layout::html(&DeletePage {
        layout: Layout::new(Section::Tasks),
        name: name(&definition),
        address: links::task(&definition.definition_id),
        active,
    }))
}

/// Leads to the list, which says what is gone. Takes the form only to be sure that it was sent whole.
async fn delete(app: Asked, InPath(id): InPath<String>, _form: Form) -> Result<Response, ApiError> {
    let definition = app.service.definition(&DefinitionId::from_text(id)).await?;
    app.service.deregister(&definition.definition_id).await?;
    Ok(Redirect::to(&links::tasks_without(&name(&definition))).into_response())
}

pub fn name(definition: &Definition) -> String {
    definition.alias.clone().unwrap_or_else(|| definition.definition_id.to_string())
}

fn tags(definition: &Definition) -> Vec<(String, Address)> {
    let all = links::tasks();
    definition.task.tags.iter().map(|tag| (tag.clone(), all.with("tag", [tag]))).collect()
}

/// Its settings other than image and command.
fn resources(definition: &Definition) -> Vec<(&'static str, String)> {
    let task = &definition.task;
    let ports: Vec<_> = task.ports.iter().map(i64::to_string).collect();
    let rows = [
        ("Memory", task.memory_mb.map(words::megabytes)),
        ("CPU", task.cpu_millis.map(words::cores)),
        ("GPUs", task.gpu.map(|gpus| gpus.to_string())),
        ("Scratch disk", task.ephemeral_storage_mb.map(words::megabytes)),
        ("User", task.user.clone()),
        ("Ports", Some(ports.join(", ")).filter(|ports| !ports.is_empty())),
        ("Privileged", task.privileged.filter(|is_privileged| *is_privileged).map(|_| "yes".to_owned())),
    ];
    rows.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

fn history(newest_first: &[RunBrief]) -> Option<History> {
    let ended: Vec<_> = newest_first.iter().filter(|run| run.status.is_terminal()).collect();
    if ended.is_empty() {
        return None;
    }
    // Runs stopped by a user say nothing about the task.
    let judged: Vec<_> = ended.iter().filter(|run| run.outcome != Some(Outcome::Stopped)).collect();
    let good = judged.iter().filter(|run| run.outcome == Some(Outcome::Succeeded)).count();
    let bars: Vec<_> = ended
        .iter()
        .rev()
        .map(|run| Bar {
            look: Badge::new(run.status, run.outcome),
            seconds: run.duration().map(|duration| duration.as_secs_f64()),
            run_id: run.run_id,
        })
        .collect();
    Some(History {
        chart: durations(&bars, &format!("How long the last {} took", words::count(ended.len() as u64, "run"))),
        succeeded: (!judged.is_empty())
            .then(|| format!("{} % of {}", good * 100 / judged.len(), words::count(judged.len() as u64, "run"))),
        typical: typical_duration(newest_first).map(words::duration),
    })
}

#[cfg(test)]
impl TaskPage {
    pub fn sample() -> Self {
        use crate::model::sample;
        let (definition, now, run) = (sample::definition(), sample::now(), sample::brief(Outcome::Succeeded));
        Self {
            layout: Layout::new(Section::Tasks),
            name: name(&definition),
            address: links::task(&definition.definition_id),
            copy_address: links::new_task(),
            tags: tags(&definition),
            resources: resources(&definition),
            created: Moment { at: now, now },
            changed: Moment { at: now, now },
            history: history(&[run]),
            runs: Vec::new(),
            total: 0,
            all_runs: links::runs(),
            definition,
        }
    }
}

#[cfg(test)]
impl DeletePage {
    pub fn sample() -> Self {
        let layout = Layout::new(Section::Tasks);
        Self { layout, name: "<b>".to_owned(), address: "/ui/tasks/x".to_owned(), active: 2 }
    }
}
