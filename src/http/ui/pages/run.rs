//! The page of a run: its outcome, the reason, and what it was launched with.

use askama::Template;
use axum::Router;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use jiff::{SignedDuration, Timestamp};

use super::log::LogPart;
use crate::http::error::ApiError;
use crate::http::params::Params;
use crate::http::request::InPath;
use crate::http::ui::charts::meter::{Meter, meters};
use crate::http::ui::charts::timeline;
use crate::http::ui::charts::timeline::Timeline;
use crate::http::ui::parts::fold;
use crate::http::ui::parts::layout;
use crate::http::ui::parts::layout::{Layout, Section};
use crate::http::ui::parts::links;
use crate::http::ui::parts::log_tail;
use crate::http::ui::parts::log_tail::TailLine;
use crate::http::ui::parts::state::{Badge, Icon};
use crate::http::ui::parts::words;
use crate::http::ui::parts::words::{Elapsed, Moment};
use crate::http::{App, Asked};
use crate::model::{EnvVar, Event, EventType, Run, RunSummary, StopCause, UNKNOWN_OWNER};
use crate::service::explain::{Context, Explanation, NextStep, explain};
use crate::service::{RunStory, ServiceError};

pub fn routes() -> Router<App> {
    Router::new().route("/ui/runs/{run_id}", get(page)).route("/ui/runs/{run_id}/stop", get(confirm_stop).post(stop))
}

/// Maximum number of events listed: the newest.
const EVENTS_LISTED: usize = 60;
/// A finished log with at most this many lines takes less space on the page.
const SHORT_LOG_LINES: u64 = 12;

#[derive(Template)]
#[template(path = "run.html")]
#[expect(clippy::struct_excessive_bools, reason = "a template asks many small questions")]
pub struct RunPage {
    layout: Layout,
    name: String,
    id: String,
    address: String,
    task_address: String,
    again_address: String,
    /// Identifies the task's newest run when the page was made: one page launches one new run, however often its form
    /// is sent.
    nonce: String,
    /// Whether its task still exists and can be launched again.
    is_task_there: bool,
    look: Badge,
    /// Whether nothing on the page can change any more.
    is_settled: bool,
    can_be_stopped: bool,
    explanation: Explanation,
    elapsed: Option<Elapsed>,
    next: Option<(&'static str, Moment)>,
    timeline: Timeline,
    /// `None` if only the changing parts are requested: the log is updated separately.
    log: Option<LogPart>,
    /// The log is complete and short.
    is_log_short: bool,
    /// The last lines of its log, if they may explain how it ended.
    tail: Vec<TailLine>,
    events: Vec<EventRow>,
    events_left_out: usize,
    children: Vec<ChildRow>,
    child_count: String,
    are_children_cut: bool,
    meters: Vec<Meter>,
    facts: Facts,
    cluster_address: String,
    parent: Option<(String, String)>,
}

/// Details that do not fit in the heading.
struct Facts {
    exit_code: Option<i64>,
    queued: Moment,
    started: Option<Moment>,
    finished: Option<Moment>,
    waited: Option<String>,
    ran: Option<Elapsed>,
    cpu_time: Option<String>,
    stop: Option<(&'static str, Moment)>,
    deadline: Option<String>,
    cluster: String,
    /// The cluster name that was requested, if it is an alias of another.
    asked_cluster: Option<String>,
    /// Set if it is not also the name of the cluster.
    engine: Option<String>,
    instance: String,
    attempts: u32,
    /// `None` if no owner was given.
    owner: Option<String>,
    description: Option<String>,
    image: String,
    digest: Option<String>,
    command: String,
    env: Vec<EnvVar>,
    labels: Vec<(String, String)>,
    /// The exceptions that the job reported, as JSON.
    exceptions: Option<String>,
}

struct EventRow {
    key: usize,
    at: Moment,
    is_warning: bool,
    reason: String,
    source: Option<String>,
    message: String,
}

struct ChildRow {
    id: String,
    address: String,
    name: String,
    look: Badge,
    took: Option<Elapsed>,
}

#[derive(Template)]
#[template(path = "run_stop.html")]
pub struct StopPage {
    layout: Layout,
    name: String,
    id: String,
    address: String,
    look: Badge,
    is_over: bool,
    /// How many of its children have not ended.
    children: Option<String>,
}

async fn page(app: Asked, InPath(run_id): InPath<String>, mut params: Params) -> Result<Response, ApiError> {
    let is_whole = !params.truth("live");
    params.finish()?;
    let run = app.run_with_log(&run_id).await?;
    let story = app.service.story(run).await?;
    let log = if is_whole { Some(LogPart::at_end(&app, &story.run).await?) } else { None };
    let tail = log_tail::tail(&app, &story.run).await?;
    let is_task_there = match app.service.definition(&story.run.definition_id).await {
        Ok(_) => true,
        Err(ServiceError::NotFound(_)) => false,
        Err(error) => return Err(error.into()),
    };
    Ok(layout::html(&RunPage { tail, ..RunPage::new(story, log, is_task_there, app.service.now()) }))
}

async fn confirm_stop(app: Asked, InPath(run_id): InPath<String>) -> Result<Response, ApiError> {
    let run = app.service.run(&run_id).await?;
    let story = app.service.story(run).await?;
    Ok(layout::html(&StopPage::new(&story)))
}

/// Leads back to the run, where the request is seen at once and its end as soon as there is one.
async fn stop(app: Asked, InPath(run_id): InPath<String>) -> Result<Response, ApiError> {
    let run = app.service.run(&run_id).await?;
    app.service.stop(&run).await?;
    Ok(Redirect::to(&links::run(run.run_id)).into_response())
}

impl RunPage {
    fn new(story: RunStory, log: Option<LogPart>, is_task_there: bool, now: Timestamp) -> Self {
        let RunStory { run, children, events, waiting_reason, typical, newest, usage } = story;
        let context = Context { waiting: waiting_reason.as_deref(), typical, events: &events };
        let explanation = explain(&run, context, now);
        let attempts = timeline::attempts(&run, &events, now);
        let events_left_out = events.len().saturating_sub(EVENTS_LISTED);
        let listed = events.iter().enumerate().skip(events_left_out);
        let are_children_over = children.rows.iter().all(|child| child.status.is_terminal());
        Self {
            layout: Layout::new(Section::Runs),
            name: words::name(&run),
            id: run.run_id.to_string(),
            address: links::run(run.run_id),
            task_address: links::task(&run.definition_id),
            again_address: links::launch_again(&run.definition_id, run.run_id),
            nonce: newest.to_string(),
            is_task_there,
            look: Badge::new(run.status, run.outcome),
            is_settled: run.status.is_terminal() && run.is_log_complete && are_children_over,
            can_be_stopped: !run.status.is_terminal() && run.stop.is_none(),
            elapsed: explanation.since.map(|since| Elapsed { since, until: None, now }),
            next: explanation.next.map(|(what, at)| (what, Moment { at, now })),
            explanation,
            timeline: timeline::draw(&run, &attempts),
            is_log_short: log
                .as_ref()
                .is_some_and(|log| log.rows.extent.is_complete && log.rows.extent.lines <= SHORT_LOG_LINES),
            log,
            tail: Vec::new(),
            events: listed.rev().map(|(key, event)| EventRow::new(key, event, now)).collect(),
            events_left_out,
            child_count: words::count(children.total, "run"),
            are_children_cut: children.total > children.rows.len() as u64,
            children: children.rows.iter().map(|child| ChildRow::new(child, now)).collect(),
            meters: meters(&run, &usage, now),
            cluster_address: links::cluster(&run.execution.resolved_cluster),
            parent: run.execution.parent_run_id.map(|parent| (parent.to_string(), links::run(parent))),
            facts: Facts::new(run, now),
        }
    }

    /// The link for the next step, with its label. `None` if its target does not exist any more.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "templates pass references")]
    fn link(&self, step: &NextStep) -> Option<(&str, &'static str)> {
        match step {
            NextStep::LaunchAgain | NextStep::EditTask if !self.is_task_there => None,
            NextStep::LaunchAgain => Some((&self.again_address, "Launch again")),
            NextStep::EditTask => Some((&self.task_address, "To the task")),
            NextStep::ReadLog => Some(("#log", "To the log")),
            NextStep::SeeCluster => Some((&self.cluster_address, "To the cluster")),
            NextStep::SeeParent => self.parent.as_ref().map(|(_, address)| (address.as_str(), "To its parent")),
        }
    }
}

impl Facts {
    fn new(run: Run, now: Timestamp) -> Self {
        let moment = |at| Moment { at, now };
        let execution = run.execution;
        let between = |from: Timestamp, to: Option<Timestamp>| words::duration(to.unwrap_or(now).duration_since(from));
        let mut labels: Vec<_> = execution.labels.into_iter().collect();
        labels.extend(execution.run_tags.into_iter().filter(|(_, value)| *value != execution.user));
        Self {
            exit_code: run.exit_code,
            queued: moment(run.queued_at),
            started: run.started_at.map(moment),
            finished: run.finished_at.map(moment),
            waited: run.started_at.map(|started_at| between(run.queued_at, Some(started_at))),
            ran: run.started_at.map(|since| Elapsed { since, until: run.finished_at, now }),
            cpu_time: run.usage.cpu_time_ms.map(|ms| words::duration(SignedDuration::from_millis(ms))),
            stop: run.stop.map(|stop| (asked_by(stop.cause), moment(stop.at))),
            deadline: execution.active_deadline_secs.map(|secs| words::duration(SignedDuration::from_secs(secs))),
            asked_cluster: Some(execution.cluster).filter(|asked| *asked != execution.resolved_cluster),
            engine: Some(execution.engine).filter(|engine| *engine != execution.resolved_cluster),
            cluster: execution.resolved_cluster,
            instance: run.instance.instance_id,
            attempts: run.attempt_count,
            owner: Some(execution.user).filter(|owner| owner != UNKNOWN_OWNER),
            description: execution.description.filter(|text| !text.trim().is_empty()),
            image: run.task.image,
            digest: run.image_digest,
            command: run.task.command,
            env: run.task.env,
            labels,
            exceptions: run.run_exceptions.map(|exceptions| format!("{exceptions:#}")),
        }
    }
}

const fn asked_by(cause: StopCause) -> &'static str {
    match cause {
        StopCause::Request => "on request",
        StopCause::Parent => "with its parent",
        StopCause::Deadline => "at its deadline",
        StopCause::SlowStart => "because it did not start in time",
    }
}

impl EventRow {
    fn new(key: usize, event: &Event, now: Timestamp) -> Self {
        Self {
            key,
            at: Moment { at: event.timestamp, now },
            is_warning: event.event_type == EventType::Warning,
            reason: event.reason.clone(),
            source: Some(event.source_object.clone()).filter(|source| source != "flotilla"),
            message: event.message.clone(),
        }
    }
}

impl ChildRow {
    fn new(run: &RunSummary, now: Timestamp) -> Self {
        Self {
            id: run.run_id.to_string(),
            address: links::run(run.run_id),
            name: run.name(),
            look: Badge::new(run.status, run.outcome),
            took: run.started_at.map(|since| Elapsed { since, until: run.finished_at, now }),
        }
    }
}

impl StopPage {
    fn new(story: &RunStory) -> Self {
        let run = &story.run;
        let active = story.children.rows.iter().filter(|child| !child.status.is_terminal()).count();
        Self {
            layout: Layout::new(Section::Runs),
            name: words::name(run),
            id: run.run_id.to_string(),
            address: links::run(run.run_id),
            look: Badge::new(run.status, run.outcome),
            is_over: run.status.is_terminal(),
            children: (active > 0).then(|| words::count(active as u64, "run")),
        }
    }
}

#[cfg(test)]
impl RunPage {
    pub fn sample() -> Self {
        use crate::model::sample;
        use crate::model::{Outcome, Page, RunId, Status, StopRequest, Usage};
        let child = sample::run_summary();
        let mut run = Run {
            status: Status::Stopped,
            outcome: Some(Outcome::Stopped),
            exit_code: Some(143),
            exit_reason: Some("stopped <b>".to_owned()),
            started_at: Some(sample::now()),
            finished_at: Some(sample::now() + SignedDuration::from_secs(5)),
            stop: Some(StopRequest::new(StopCause::Parent, sample::now() + SignedDuration::from_secs(2))),
            attempt_count: 1,
            usage: Usage { max_memory_bytes: Some(1 << 26), cpu_time_ms: Some(1500), ..Usage::default() },
            image_digest: Some("sha256:<0>".to_owned()),
            run_exceptions: Some(serde_json::json!({"<a>": "</pre>"})),
            ..sample::run()
        };
        run.execution.parent_run_id = Some(RunId::generate());
        let events = vec![Event::warning(sample::now(), "Lim<i>t", "<script>").from_source("<pod>")];
        let story = RunStory {
            run,
            children: Page { rows: vec![child], total: 3 },
            events,
            waiting_reason: None,
            typical: Some(SignedDuration::from_secs(4)),
            newest: RunId::generate(),
            usage: sample::usage(),
        };
        let log = LogPart::sample(&story.run);
        Self { tail: crate::http::ui::parts::log_tail::sample(), ..Self::new(story, Some(log), true, sample::now()) }
    }
}

#[cfg(test)]
impl StopPage {
    pub fn sample() -> Self {
        use crate::model::Page;
        use crate::model::sample;
        let children = Page { rows: vec![sample::run_summary()], total: 1 };
        let run = sample::run();
        let newest = run.run_id;
        Self::new(&RunStory {
            run,
            children,
            events: Vec::new(),
            waiting_reason: None,
            typical: None,
            newest,
            usage: Vec::new(),
        })
    }
}
