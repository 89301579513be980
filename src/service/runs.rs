//! Runs: find, stop, and record the status a job reports.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use jiff::SignedDuration;
use tokio::sync::watch;

use super::{Acting, ServiceError};
use crate::model::{
    DefinitionId, Event, Page, PageRequest, Run, RunBrief, RunId, RunSummary, Status, StopCause, StopRequest, Unread,
    UsageSample, set_by_hand, stop_before_start, typical_duration,
};
use crate::model::{RunFilter, RunSort};

/// How often a guarded change is retried after a concurrent change to the run.
const TRIES: u32 = 10;
/// How many of a run's children and events an answer lists at most: runs and engines can add to them without bound.
pub(crate) const MOST_LISTED: u32 = 10_000;

/// A run with its children and events, each up to the listed number.
#[derive(Debug, Clone)]
pub struct RunDetails {
    pub run: Run,
    /// The first ones.
    pub children: Vec<String>,
    /// The newest ones, in the order they happened.
    pub events: Vec<Event>,
    /// Why it has not started, if it waits.
    pub waiting_reason: Option<String>,
}

/// A run with as much context as fits a page.
#[derive(Debug, Clone)]
pub struct RunStory {
    pub run: Run,
    /// The first ones.
    pub children: Page<RunSummary>,
    /// The newest ones, in the order they happened.
    pub events: Vec<Event>,
    /// Why it has not started, if it waits.
    pub waiting_reason: Option<String>,
    /// The usual duration of successful runs of its definition.
    pub typical: Option<SignedDuration>,
    /// The newest run of its definition.
    pub newest: RunId,
    /// Its usage over time, oldest first, if measured.
    pub usage: Vec<UsageSample>,
}

impl Acting {
    /// A run by the text of its id.
    pub async fn run(&self, run_id: &str) -> Result<Run, ServiceError> {
        let not_found = || ServiceError::no_run(format_args!("{run_id:?}"));
        let id: RunId = run_id.parse().map_err(|_| not_found())?;
        self.store.run(id).await?.ok_or_else(not_found)
    }

    /// The same, but it must be a run of this definition.
    pub async fn run_of(&self, definition_id: &DefinitionId, run_id: &str) -> Result<Run, ServiceError> {
        let run = self.run(run_id).await?;
        if run.definition_id == *definition_id {
            Ok(run)
        } else {
            Err(ServiceError::NotFound(format!("there is no run {run_id} of the task definition {definition_id}")))
        }
    }

    pub async fn details(&self, run: Run) -> Result<RunDetails, ServiceError> {
        let (children, events) = tokio::try_join!(
            self.store.first_child_ids(run.run_id, MOST_LISTED),
            self.store.newest_events(run.run_id, MOST_LISTED)
        )?;
        let waiting_reason = self.why_waiting(&run).await?;
        Ok(RunDetails { run, children, events, waiting_reason })
    }

    /// The same for people: long parts are cut, so that a run with many events costs no more.
    pub async fn story(&self, run: Run) -> Result<RunStory, ServiceError> {
        const CHILDREN: u32 = 50;
        const EVENTS: u32 = 500;
        const RUNS_FOR_TYPICAL: u32 = 20;
        let definition = [run.definition_id.clone()];
        let (children, events, recent) = tokio::try_join!(
            self.store.first_children(run.run_id, CHILDREN),
            self.store.newest_events(run.run_id, EVENTS),
            self.store.newest_runs(&definition, RUNS_FOR_TYPICAL),
        )?;
        let waiting_reason = self.why_waiting(&run).await?;
        let newest = recent.first().map_or(run.run_id, |newest| newest.run_id);
        let usage = self.usage(&run).await;
        let others: Vec<_> = recent.into_iter().filter(|other| other.run_id != run.run_id).collect();
        let typical = typical_duration(&others);
        Ok(RunStory { run, children, events, waiting_reason, typical, newest, usage })
    }

    /// Data that can't be read now is left out of the page, which shows much else.
    async fn usage(&self, run: &Run) -> Vec<UsageSample> {
        let logs = Arc::clone(&self.logs);
        let (run_id, attempts) = (run.run_id, run.attempt_count);
        let reading = tokio::task::spawn_blocking(move || logs.usage(run_id, attempts));
        reading.await.map_err(std::io::Error::other).flatten().unwrap_or_else(|error| {
            tracing::warn!(%run_id, %error, "what a run used can't be read");
            Vec::new()
        })
    }

    /// The newest events of a run in the order they happened, and how many it has in all.
    pub async fn events(&self, run_id: &str) -> Result<Page<Event>, ServiceError> {
        let run = self.run(run_id).await?;
        let (rows, total) =
            tokio::try_join!(self.store.newest_events(run.run_id, MOST_LISTED), self.store.count_events(run.run_id))?;
        Ok(Page { rows, total })
    }

    /// How often this server has observed changes of runs and clusters.
    #[must_use]
    pub fn change_count(&self) -> watch::Receiver<u64> {
        self.wake.change_count()
    }

    /// The ids of the runs on a page; [`Acting::read_runs`] returns their contents.
    pub async fn runs(
        &self,
        filter: &RunFilter,
        page: PageRequest<RunSort>,
    ) -> Result<Page<Unread<RunId>>, ServiceError> {
        Ok(self.store.list_runs(filter, page).await?)
    }

    /// The current state of these runs, in this order. Callers must ensure that they are not too large together.
    pub async fn read_runs(&self, run_ids: &[RunId]) -> Result<Vec<Run>, ServiceError> {
        Ok(self.store.runs(run_ids).await?)
    }

    /// The fields of the page's runs that table rows show.
    pub async fn run_summaries(
        &self,
        filter: &RunFilter,
        page: PageRequest<RunSort>,
    ) -> Result<Page<RunSummary>, ServiceError> {
        Ok(self.store.list_run_summaries(filter, page).await?)
    }

    /// The same for the runs of a definition, even a deregistered one.
    pub async fn run_summaries_of(
        &self,
        definition_id: &DefinitionId,
        filter: RunFilter,
        page: PageRequest<RunSort>,
    ) -> Result<Page<RunSummary>, ServiceError> {
        let filter = self.of_definition(definition_id, filter).await?;
        self.run_summaries(&filter, page).await
    }

    /// The newest runs whose id begins or ends with the typed text; none if it is too short or no part of an id.
    pub async fn runs_by_part_of_id(&self, typed: &str, most: u32) -> Result<Vec<RunSummary>, ServiceError> {
        const SHORTEST: usize = 4;
        let part = typed.trim().to_lowercase();
        let is_part = part.len() >= SHORTEST && part.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
        if let Ok(run_id) = part.parse() {
            // Includes old runs.
            return Ok(self.store.run_summary(run_id).await?.into_iter().collect());
        }
        if is_part { Ok(self.store.runs_by_part_of_id(&part, most).await?) } else { Ok(Vec::new()) }
    }

    /// The first run owners, by name.
    pub async fn owners(&self, most: u32) -> Result<Vec<String>, ServiceError> {
        Ok(self.store.owners(most).await?)
    }

    /// The newest runs of each of these definitions, at most `each` of one, newest first.
    pub async fn recent_runs(
        &self,
        definitions: &[DefinitionId],
        each: u32,
    ) -> Result<HashMap<DefinitionId, Vec<RunBrief>>, ServiceError> {
        let mut recent: HashMap<_, Vec<_>> = HashMap::new();
        for run in self.store.newest_runs(definitions, each).await? {
            recent.entry(run.definition_id.clone()).or_default().push(run);
        }
        for runs in recent.values_mut() {
            runs.sort_unstable_by_key(|run| std::cmp::Reverse((run.queued_at, run.run_id)));
        }
        Ok(recent)
    }

    /// The runs of a definition, even a deregistered one.
    pub async fn runs_of(
        &self,
        definition_id: &DefinitionId,
        filter: RunFilter,
        page: PageRequest<RunSort>,
    ) -> Result<Page<Unread<RunId>>, ServiceError> {
        let filter = self.of_definition(definition_id, filter).await?;
        self.runs(&filter, page).await
    }

    async fn of_definition(&self, definition_id: &DefinitionId, filter: RunFilter) -> Result<RunFilter, ServiceError> {
        if !self.store.definition_ever_existed(definition_id).await? {
            return Err(ServiceError::no_definition(definition_id));
        }
        Ok(RunFilter { definition_id: vec![definition_id.to_string()], ..filter })
    }

    /// Asks a run and all its descendants to stop. The request is stored when this returns; runs that no engine has
    /// yet are stopped by then, the rest as soon as their engine can. A run that has already stopped is unchanged,
    /// but its descendants are stopped all the same.
    ///
    /// First the stop of the whole family is stored: from then on the loops finish what is begun here.
    pub async fn stop(&self, run: &Run) -> Result<Run, ServiceError> {
        self.store.request_family_stop(run.run_id, self.clock.now()).await?;
        let stopped = self.stop_one(run.run_id, StopCause::Request).await?;
        // A child names its parent in a variable, which a client may set to anything: the family may be a cycle.
        let mut seen = std::collections::HashSet::from([run.run_id]);
        let mut parents = VecDeque::from([run.run_id]);
        while let Some(parent) = parents.pop_front() {
            for child in self.store.children(parent).await? {
                if let Ok(child) = child.parse::<RunId>()
                    && seen.insert(child)
                {
                    self.stop_one(child, StopCause::Parent).await?;
                    parents.push_back(child);
                }
            }
        }
        self.wake.stops();
        Ok(stopped)
    }

    async fn stop_one(&self, run_id: RunId, cause: StopCause) -> Result<Run, ServiceError> {
        for _ in 0..TRIES {
            let run = self.run(&run_id.to_string()).await?;
            let now = self.clock.now();
            let is_done = if let Some(change) = stop_before_start(&run, cause, now) {
                let is_stopped = self.store.apply(run_id, &change).await?;
                if is_stopped {
                    tracing::info!(%run_id, "stopped before it started");
                    self.wake.changed(run_id);
                    self.wake.queue();
                }
                is_stopped
            } else if run.status.is_terminal() || run.stop.is_some() {
                return Ok(run);
            } else {
                let is_stored = self.store.request_stop(&run, &StopRequest::new(cause, now)).await?;
                if is_stored {
                    tracing::info!(%run_id, %cause, "stop requested");
                }
                is_stored
            };
            // If this failed, the run has changed, and the decision is made again.
            if is_done {
                return self.run(&run_id.to_string()).await;
            }
        }
        Err(changing_all_the_time(run_id))
    }

    /// A status that a job reports about itself. The lifecycle's order is enforced.
    pub async fn set_status(
        &self,
        run_id: &str,
        status: Status,
        exit_code: Option<i64>,
        exit_reason: Option<&str>,
        run_exceptions: Option<&serde_json::Value>,
    ) -> Result<Run, ServiceError> {
        for _ in 0..TRIES {
            let run = self.run(run_id).await?;
            let (reason, exceptions) = (exit_reason.map(str::to_owned), run_exceptions.cloned());
            let change = set_by_hand(&run, status, exit_code, reason, exceptions, self.clock.now());
            let Some(change) = change.map_err(ServiceError::Conflict)? else { return Ok(run) };
            if self.store.apply(run.run_id, &change).await? {
                tracing::info!(run_id, %status, "status reported");
                self.wake.changed(run.run_id);
                self.wake.stops();
                return self.run(run_id).await;
            }
        }
        Err(changing_all_the_time(run_id))
    }
}

fn changing_all_the_time(run_id: impl std::fmt::Display) -> ServiceError {
    ServiceError::Conflict(format!("the run {run_id} is changing all the time; try again"))
}
