//! Runs: found, stopped, told about themselves.

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

/// How often a guarded change is tried again after the run changed in between.
const TRIES: u32 = 10;
/// How many children and events of a run an answer lists at most: what runs and engines add to has no bound of its own.
pub(crate) const MOST_LISTED: u32 = 10_000;

/// A run with its children and its story, of each as much as is listed.
#[derive(Debug, Clone)]
pub struct RunDetails {
    pub run: Run,
    /// The first ones.
    pub children: Vec<String>,
    /// The newest ones, in the order they happened.
    pub events: Vec<Event>,
    /// Why it has not started, where it waits.
    pub waiting_reason: Option<String>,
}

/// A run with as much of what is around it as fits a page.
#[derive(Debug, Clone)]
pub struct RunStory {
    pub run: Run,
    /// The first ones.
    pub children: Page<RunSummary>,
    /// The newest ones, in the order they happened.
    pub events: Vec<Event>,
    /// Why it has not started, where it waits.
    pub waiting_reason: Option<String>,
    /// How long other runs of its definition take that go well.
    pub typical: Option<SignedDuration>,
    /// The newest run of its definition.
    pub newest: RunId,
    /// What it used over time, oldest first, where that was measured.
    pub usage: Vec<UsageSample>,
}

impl Acting {
    /// A run by the text of its id.
    pub async fn run(&self, run_id: &str) -> Result<Run, ServiceError> {
        let not_found = || ServiceError::no_run(format_args!("{run_id:?}"));
        let id: RunId = run_id.parse().map_err(|_| not_found())?;
        self.store.run(id).await?.ok_or_else(not_found)
    }

    /// The same, where it must be a run of this definition.
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

    /// The same for people: what would be long is cut, so that it costs no more for a run with a long story.
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

    /// What can't be read now is missing from a page that tells much else.
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

    /// How often this server has seen runs and clusters change.
    #[must_use]
    pub fn change_count(&self) -> watch::Receiver<u64> {
        self.wake.change_count()
    }

    /// Which runs are on a page; [`Service::read_runs`] has what they are.
    pub async fn runs(
        &self,
        filter: &RunFilter,
        page: PageRequest<RunSort>,
    ) -> Result<Page<Unread<RunId>>, ServiceError> {
        Ok(self.store.list_runs(filter, page).await?)
    }

    /// These runs, as they are now, in this order. Whoever asks sees to it that they are not too large together.
    pub async fn read_runs(&self, run_ids: &[RunId]) -> Result<Vec<Run>, ServiceError> {
        Ok(self.store.runs(run_ids).await?)
    }

    /// What rows of a page show of the runs on it.
    pub async fn run_summaries(
        &self,
        filter: &RunFilter,
        page: PageRequest<RunSort>,
    ) -> Result<Page<RunSummary>, ServiceError> {
        Ok(self.store.list_run_summaries(filter, page).await?)
    }

    /// The same for the runs of a definition, also of one that is deregistered.
    pub async fn run_summaries_of(
        &self,
        definition_id: &DefinitionId,
        filter: RunFilter,
        page: PageRequest<RunSort>,
    ) -> Result<Page<RunSummary>, ServiceError> {
        let filter = self.of_definition(definition_id, filter).await?;
        self.run_summaries(&filter, page).await
    }

    /// The newest runs of which somebody typed the beginning or the end of the id; none where it is too short to say
    /// anything, or no part of an id.
    pub async fn runs_by_part_of_id(&self, typed: &str, most: u32) -> Result<Vec<RunSummary>, ServiceError> {
        const SHORTEST: usize = 4;
        let part = typed.trim().to_lowercase();
        let is_part = part.len() >= SHORTEST && part.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
        if let Ok(run_id) = part.parse() {
            // An old one as well.
            return Ok(self.store.run_summary(run_id).await?.into_iter().collect());
        }
        if is_part { Ok(self.store.runs_by_part_of_id(&part, most).await?) } else { Ok(Vec::new()) }
    }

    /// The first of those who own runs, by name.
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

    /// The runs of a definition, also of one that is deregistered.
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

    /// Asks a run and all that descends from it to stop. The request is stored when this returns; what no engine has yet
    /// is stopped by then, the rest as soon as its engine can. Changes nothing about a run that has stopped, but its
    /// family is stopped all the same.
    ///
    /// The first thing that is stored is that the family is to stop: from then on the loops finish what is begun here.
    pub async fn stop(&self, run: &Run) -> Result<Run, ServiceError> {
        self.store.request_family_stop(run.run_id, self.clock.now()).await?;
        let stopped = self.stop_one(run.run_id, StopCause::Request).await?;
        // A parent is found by its children's variable, which a client may set to anything: the family may be a circle.
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
            // Where it was not done, the run has changed, and what to do is decided anew.
            if is_done {
                return self.run(&run_id.to_string()).await;
            }
        }
        Err(changing_all_the_time(run_id))
    }

    /// A status that a job reports about itself. The lifecycle's order holds.
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
