//! Cluster pages: a list with their states, and one cluster with its running and waiting runs, where an operator can
//! take it out of service and back.

use askama::Template;
use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use jiff::Timestamp;

use crate::http::error::ApiError;
use crate::http::params::Params;
use crate::http::request::InPath;
use crate::http::ui::charts::queue_depth::{Waited, waited};
use crate::http::ui::charts::range::Range;
use crate::http::ui::parts::cluster_card::ClusterCard;
use crate::http::ui::parts::form::{Form, sentence};
use crate::http::ui::parts::layout;
use crate::http::ui::parts::layout::{Layout, Section};
use crate::http::ui::parts::links;
use crate::http::ui::parts::pager::Address;
use crate::http::ui::parts::run_row::RunRow;
use crate::http::ui::parts::state::Icon;
use crate::http::ui::parts::words;
use crate::http::{App, Asked};
use crate::model::{Cluster, ClusterChange, ClusterStatus};
use crate::service::{ClusterRuns, ServiceError};

pub fn routes() -> Router<App> {
    Router::new().route("/ui/clusters", get(list)).route("/ui/clusters/{name}", get(page).post(change))
}

/// Maximum number of runs in each list of a cluster.
const RUNS: u32 = 25;
/// Pixels.
const CHART_HEIGHT: u32 = 96;

#[derive(Template)]
#[template(path = "clusters.html")]
pub struct ClustersPage {
    layout: Layout,
    clusters: Vec<ClusterCard>,
}

#[derive(Template)]
#[template(path = "cluster.html")]
pub struct ClusterPage {
    layout: Layout,
    card: ClusterCard,
    /// Whether its operator allows it to take runs.
    is_active: bool,
    /// Whether this server has the cluster, so that it can be taken out of service.
    is_known: bool,
    /// The current reason, or the input that was refused.
    reason: String,
    problem: Option<String>,
    running: Vec<RunRow>,
    waiting: Vec<RunRow>,
    waiting_left_out: Option<String>,
    waited: Waited,
    all_runs: Address,
    details: Vec<(&'static str, String)>,
}

async fn list(app: Asked, params: Params) -> Result<Response, ApiError> {
    params.finish()?;
    let (clusters, now) = (app.service.clusters().await?, app.service.now());
    let clusters = clusters.iter().map(|cluster| ClusterCard::new(cluster, now)).collect();
    Ok(layout::html(&ClustersPage { layout: Layout::new(Section::Clusters), clusters }))
}

async fn page(app: Asked, InPath(name): InPath<String>) -> Result<Response, ApiError> {
    Ok(layout::html(&look(&app, &name).await?))
}

/// Takes a cluster out of service, or back. What was typed is shown again where it is refused.
async fn change(app: Asked, InPath(name): InPath<String>, form: Form) -> Result<Response, ApiError> {
    let status = form.text("status");
    let status: ClusterStatus = status.parse().map_err(|error| ApiError::invalid(format!("`status` {error}")))?;
    let stored = app.service.cluster(&name).await?.record.status_reason;
    let reason = form.line_or_kept("reason", Some(&stored)).unwrap_or_default();
    let change =
        ClusterChange { status: Some(status), status_reason: Some(reason.clone()), ..ClusterChange::default() };
    match app.service.change_cluster(&name, change).await {
        Ok(cluster) => Ok(Redirect::to(&links::cluster(&cluster.record.name)).into_response()),
        Err(ServiceError::Faulty(faults)) => {
            let page = look(&app, &name).await?;
            let told: Vec<_> = faults.into_iter().map(|fault| sentence(&fault.message)).collect();
            let problem = Some(told.join(" "));
            Ok(layout::html_with(StatusCode::BAD_REQUEST, &ClusterPage { reason, problem, ..page }))
        }
        Err(error) => Err(error.into()),
    }
}

async fn look(app: &Asked, name: &str) -> Result<ClusterPage, ApiError> {
    let cluster = app.service.cluster(name).await?;
    let now = app.service.now();
    let runs = app.service.cluster_runs(name, RUNS, Range::Day.span(now)).await?;
    Ok(ClusterPage::new(&cluster, runs, now))
}

impl ClusterPage {
    fn new(cluster: &Cluster, runs: ClusterRuns, now: Timestamp) -> Self {
        let card = ClusterCard::new(cluster, now);
        let rows = |runs: Vec<_>| runs.into_iter().map(|run| RunRow::new(run, now)).collect::<Vec<_>>();
        let (running, waiting) = (rows(runs.running), rows(runs.waiting));
        let left_out = card.waiting.saturating_sub(waiting.len() as u64);
        Self {
            layout: Layout::new(Section::Clusters),
            is_active: cluster.record.status == ClusterStatus::Active,
            is_known: cluster.engine.is_some(),
            reason: cluster.record.status_reason.clone(),
            problem: None,
            waited: waited(&runs.depths, CHART_HEIGHT, Range::Day, now),
            running,
            waiting,
            waiting_left_out: (left_out > 0).then(|| words::count(left_out, "more run")),
            all_runs: links::runs().with("cluster", [&card.name]),
            details: details(cluster),
            card,
        }
    }
}

/// The operator's information about the cluster.
fn details(cluster: &Cluster) -> Vec<(&'static str, String)> {
    let details = &cluster.record.details;
    let rows = [
        ("Engine", cluster.engine.unwrap_or_default().to_owned()),
        ("Region", details.region.clone()),
        ("Namespace", details.namespace.clone()),
        ("Version", details.cluster_version.clone()),
        ("Tiers", details.allowed_tiers.join(", ")),
        ("Can do", details.capabilities.join(", ")),
        ("GPUs", cluster.condition.capacity.gpus.map(|gpus| gpus.to_string()).unwrap_or_default()),
    ];
    rows.into_iter().filter(|(_, value)| !value.is_empty()).collect()
}

#[cfg(test)]
impl ClustersPage {
    pub fn sample() -> Self {
        use crate::model::sample;
        let clusters = vec![ClusterCard::new(&sample::cluster(), sample::now())];
        Self { layout: Layout::new(Section::Clusters), clusters }
    }
}

#[cfg(test)]
impl ClusterPage {
    pub fn sample() -> Self {
        use crate::model::sample;
        let runs = ClusterRuns {
            running: vec![sample::run_summary()],
            waiting: vec![sample::run_summary()],
            depths: sample::depths(),
        };
        let problem = Some("`status_reason` is <b>too long</b>".to_owned());
        Self { problem, ..Self::new(&sample::cluster(), runs, sample::now()) }
    }
}
