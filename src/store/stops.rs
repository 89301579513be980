//! Stops: stored before anything is notified, repeated until the run has ended, and passed on to all descendants.

use jiff::Timestamp;

use super::row::{FromRow, Row};

use super::run_row::RUN_COLUMNS;
use super::statement::{Builder, Statement, Value};
use super::{Store, StoreError, events};
use crate::model::{AttemptId, Event, Run, RunId, StopCause, StopRequest};

/// How the cause of a slow start is stored, beside its words: the column accepts only the original set of causes.
const LATE: &str = "deadline";

fn cause_and_words(stop: &StopRequest) -> (Value, Value) {
    match stop.cause {
        StopCause::Request | StopCause::Parent | StopCause::Deadline => (stop.cause.as_str().into(), Value::Text(None)),
        StopCause::SlowStart => (LATE.into(), stop.words.clone().unwrap_or_default().into()),
    }
}

/// A run that has to stop because of a request for it or for one of its ancestors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orphan {
    pub run: Run,
    pub cause: StopCause,
}

impl FromRow for Orphan {
    fn from_row(row: &mut Row) -> Result<Self, StoreError> {
        let cause = if row.maybe_time()?.is_some() { StopCause::Request } else { StopCause::Parent };
        Ok(Self { run: Run::from_row(row)?, cause })
    }
}

impl FromRow for AttemptId {
    fn from_row(row: &mut Row) -> Result<Self, StoreError> {
        Ok(Self { run_id: row.parsed()?, attempt: row.u32()? })
    }
}

impl Store {
    /// Stores the stop of a run that an engine has, or is about to have. Returns `false`, with nothing stored, if the
    /// run has changed: it has another status, a later attempt, or a stop.
    pub async fn request_stop(&self, run: &Run, stop: &StopRequest) -> Result<bool, StoreError> {
        let (cause, words) = cause_and_words(stop);
        let update = Statement::new(
            "UPDATE runs SET stop_at = $4, stop_cause = $5, stop_words = $6
             WHERE run_id = $1 AND status = $2 AND attempt_count = $3 AND stop_at IS NULL
               AND status IN ('PENDING', 'RUNNING')",
            [
                run.run_id.to_string().into(),
                run.status.as_str().into(),
                run.attempt_count.into(),
                stop.at.into(),
                cause,
                words,
            ],
        );
        let message = match stop.cause {
            StopCause::Request => "a stop was requested".to_owned(),
            StopCause::Parent => "its parent is being stopped, and so is this run".to_owned(),
            StopCause::Deadline => "its deadline has passed".to_owned(),
            StopCause::SlowStart => stop.words.clone().unwrap_or_default(),
        };
        let event = events::append(run.run_id, &Event::normal(stop.at, "StopRequested", message));
        Ok(self.db.write(vec![update.required(), event]).await?.is_done())
    }

    /// Stores the stop of a run and all its descendants, whatever state each is in. Carrying it out may be
    /// interrupted at any moment: [`Store::orphans_to_stop`] finds the rest.
    pub async fn request_family_stop(&self, run_id: RunId, now: Timestamp) -> Result<(), StoreError> {
        let update = Statement::new(
            "UPDATE runs SET family_stop_at = $2 WHERE run_id = $1 AND family_stop_at IS NULL",
            [run_id.to_string().into(), now.into()],
        );
        self.db.write(vec![update]).await.map(|_| ())
    }

    /// Records that the engine is about to be asked to stop the attempt. `false` if that was recorded before, or if
    /// the run has ended.
    pub async fn note_stop_sent(&self, attempt_id: AttemptId, now: Timestamp) -> Result<bool, StoreError> {
        let update = Statement::new(
            "UPDATE runs SET stop_sent_at = $3
             WHERE run_id = $1 AND attempt_count = $2 AND stop_at IS NOT NULL AND stop_sent_at IS NULL
               AND status IN ('PENDING', 'RUNNING')",
            [attempt_id.run_id.to_string().into(), attempt_id.attempt.into(), now.into()],
        );
        Ok(self.db.write(vec![update.required()]).await?.is_done())
    }

    /// Takes back the record made at `sent_at`: the engine had nothing to stop any more.
    pub async fn forget_stop_sent(&self, attempt_id: AttemptId, sent_at: Timestamp) -> Result<(), StoreError> {
        let update = Statement::new(
            "UPDATE runs SET stop_sent_at = NULL
             WHERE run_id = $1 AND attempt_count = $2 AND stop_sent_at = $3 AND status IN ('PENDING', 'RUNNING')",
            [attempt_id.run_id.to_string().into(), attempt_id.attempt.into(), sent_at.into()],
        );
        self.db.write(vec![update]).await.map(|_| ())
    }

    /// The attempts of a cluster that an engine may have, and whose runs have a stored stop but have not stopped.
    pub async fn stopping_attempts(&self, cluster: &str) -> Result<Vec<AttemptId>, StoreError> {
        let select = "SELECT run_id, attempt_count FROM runs
            WHERE stop_at IS NOT NULL AND status <> 'STOPPED' AND status IN ('PENDING', 'RUNNING') AND resolved_cluster = $1";
        self.db.read(Statement::new(select, [cluster.into()])).await
    }

    /// Runs with a stored stop that have not stopped and are on no engine.
    pub async fn stopping_waiting(&self) -> Result<Vec<Run>, StoreError> {
        let select = format!(
            "SELECT {RUN_COLUMNS} FROM runs
             WHERE stop_at IS NOT NULL AND status <> 'STOPPED' AND status IN ('QUEUED', 'NEEDS_RETRY')"
        );
        self.db.read(Builder::new(&select).build()).await
    }

    /// Runs without a stored stop although they, or any ancestor, were to stop with their family. A client may name
    /// any run as a parent, so a family may be a circle: `UNION` ends those.
    pub async fn orphans_to_stop(&self) -> Result<Vec<Orphan>, StoreError> {
        let select = format!(
            "WITH RECURSIVE up (run_id, ancestor) AS (
                SELECT run_id, parent_run_id FROM runs
                WHERE status <> 'STOPPED' AND stop_at IS NULL AND parent_run_id IS NOT NULL
                UNION
                SELECT up.run_id, parent.parent_run_id FROM up JOIN runs AS parent ON parent.run_id = up.ancestor
                WHERE parent.parent_run_id IS NOT NULL
            )
            SELECT family_stop_at, {RUN_COLUMNS} FROM runs
            WHERE status <> 'STOPPED' AND stop_at IS NULL
              AND (family_stop_at IS NOT NULL OR run_id IN (
                SELECT up.run_id FROM up JOIN runs AS ancestor ON ancestor.run_id = up.ancestor
                WHERE ancestor.family_stop_at IS NOT NULL OR ancestor.stop_cause IN ('request', 'parent')))"
        );
        self.db.read(Builder::new(&select).build()).await
    }

    /// The nearest run, among this one and its ancestors, that has or had to stop together with its family.
    pub async fn stopping_ancestor(&self, run_id: RunId) -> Result<Option<RunId>, StoreError> {
        struct Found(RunId);
        impl FromRow for Found {
            fn from_row(row: &mut Row) -> Result<Self, StoreError> {
                row.parsed().map(Self)
            }
        }
        let select = "WITH RECURSIVE up (run_id, depth) AS (
                SELECT run_id, 0 FROM runs WHERE run_id = $1
                UNION
                SELECT runs.parent_run_id, up.depth + 1 FROM up JOIN runs ON runs.run_id = up.run_id
                WHERE runs.parent_run_id IS NOT NULL AND up.depth < 1000
            )
            SELECT runs.run_id FROM up JOIN runs ON runs.run_id = up.run_id
            WHERE runs.family_stop_at IS NOT NULL OR runs.stop_cause IN ('request', 'parent')
            ORDER BY up.depth LIMIT 1";
        let found = self.db.read_one::<Found>(Statement::new(select, [run_id.to_string().into()])).await?;
        Ok(found.map(|found| found.0))
    }
}
