//! The overview: running runs, recent failures, waiting runs, and how many runs ended over time.

use askama::Template;
use axum::Router;
use axum::response::Response;
use axum::routing::get;
use jiff::Timestamp;

use crate::http::error::ApiError;
use crate::http::params::Params;
use crate::http::ui::charts::queue_depth::{Waited, waited};
use crate::http::ui::charts::range::Range;
use crate::http::ui::charts::throughput::{Throughput, throughput};
use crate::http::ui::parts::cluster_card::ClusterCard;
use crate::http::ui::parts::layout;
use crate::http::ui::parts::layout::{Layout, Section};
use crate::http::ui::parts::links;
use crate::http::ui::parts::pager::Address;
use crate::http::ui::parts::run_row::RunRow;
use crate::http::ui::parts::state::Icon;
use crate::http::ui::parts::words;
use crate::http::{App, Asked};
use crate::model::{DefinitionFilter, DefinitionSort, Order, Outcome, PageRequest};
use crate::service::Overview;

pub fn routes() -> Router<App> {
    Router::new().route("/ui", get(page))
}

/// Maximum number of runs in each list.
const RUNS: u32 = 10;
/// Pixels; the height of the chart next to it.
const CHART_HEIGHT: u32 = 132;

#[derive(Template)]
#[template(path = "overview.html")]
pub struct OverviewPage {
    layout: Layout,
    start: Start,
    /// Key figures: a number, its word, and the link to its list.
    figures: Vec<(String, &'static str, String)>,
    ranges: Vec<(&'static str, Address, bool)>,
    throughput: Throughput,
    waited: Waited,
    running: Vec<RunRow>,
    running_left_out: Option<String>,
    failures: Vec<RunRow>,
    all_failures: String,
    clusters: Vec<ClusterCard>,
}

/// What exists already, which decides whether the first steps are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    Nothing,
    /// Tasks, but no runs.
    Tasks,
    Runs,
}

impl Start {
    const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Tasks => "tasks",
            Self::Runs => "runs",
        }
    }
}

async fn page(app: Asked, mut params: Params) -> Result<Response, ApiError> {
    let range = params.all_parsed("range").pop().unwrap_or(Range::Day);
    params.finish()?;
    let now = app.service.now();
    let any = PageRequest { limit: 1, offset: 0, sort_by: DefinitionSort::DefinitionId, order: Order::Asc };
    let (overview, has_run) = tokio::try_join!(app.service.overview(RUNS, range.span(now)), app.service.has_run())?;
    let start = if has_run {
        Start::Runs
    } else if app.service.definitions(&DefinitionFilter::default(), any).await?.rows.is_empty() {
        Start::Nothing
    } else {
        Start::Tasks
    };
    Ok(layout::html(&OverviewPage::new(overview, start, range, now)))
}

impl OverviewPage {
    fn new(overview: Overview, start: Start, range: Range, now: Timestamp) -> Self {
        let Overview { clusters, running, failures, ended, waiting } = overview;
        let throughput = throughput(&ended, range, now);
        let sum = |part: fn(&crate::model::Load) -> u64| clusters.iter().map(|cluster| part(&cluster.load)).sum();
        let runs = |statuses: &[&str]| links::runs().with("status", statuses).to_string();
        let count = words::thousands;
        let failed = throughput.legend.iter().filter(|(name, ..)| matches!(*name, "failed" | "timed-out"));
        let figures = vec![
            (count(sum(|load| load.running)), "running", runs(&["RUNNING"])),
            (count(sum(|load| load.pending)), "starting", runs(&["PENDING"])),
            (count(sum(|load| load.queued)), "queued", runs(&["QUEUED"])),
            (count(sum(|load| load.needs_retry)), "waiting to retry", runs(&["NEEDS_RETRY"])),
            (count(failed.map(|(_, _, count)| count).sum()), failed_word(range), failed_runs()),
        ];
        let rows = |runs: Vec<_>| runs.into_iter().map(|run| RunRow::new(run, now)).collect::<Vec<_>>();
        let left_out = running.total.saturating_sub(running.rows.len() as u64);
        Self {
            layout: Layout::new(Section::Overview),
            start,
            figures,
            ranges: Range::ALL
                .into_iter()
                .map(|one| (one.word(), links::home().with("range", [one.as_str()]), one == range))
                .collect(),
            throughput,
            waited: waited(&waiting, CHART_HEIGHT, range, now),
            running: rows(running.rows),
            running_left_out: (left_out > 0).then(|| words::count(left_out, "more run")),
            failures: rows(failures),
            all_failures: failed_runs(),
            clusters: clusters.iter().map(|cluster| ClusterCard::new(cluster, now)).collect(),
        }
    }
}

/// The URL of the list of all failed runs.
fn failed_runs() -> String {
    links::runs().with("outcome", Outcome::FAILURES).to_string()
}

const fn failed_word(range: Range) -> &'static str {
    match range {
        Range::Day => "failed in 24 hours",
        Range::Fortnight => "failed in 14 days",
    }
}

#[cfg(test)]
impl OverviewPage {
    pub fn sample() -> Self {
        use crate::model::sample;
        use crate::model::{EndedRuns, Page, RunSummary};
        let failure = RunSummary { exit_reason: Some("<b>no</b>".to_owned()), ..sample::run_summary() };
        let overview = Overview {
            clusters: vec![sample::cluster()],
            running: Page { rows: vec![sample::run_summary()], total: 1234 },
            failures: vec![failure],
            ended: vec![EndedRuns { hour: sample::now(), outcome: Outcome::Failed, runs: 3 }],
            waiting: sample::depths(),
        };
        Self::new(overview, Start::Runs, Range::Day, sample::now())
    }

    pub fn empty_sample() -> Self {
        use crate::model::Page;
        use crate::model::sample;
        let running = Page { rows: Vec::new(), total: 0 };
        let overview =
            Overview { clusters: Vec::new(), running, failures: Vec::new(), ended: Vec::new(), waiting: Vec::new() };
        Self::new(overview, Start::Nothing, Range::Fortnight, sample::now())
    }
}
