//! The runs table as a queue: what waits, what is claimed, what an engine still has. A cluster is given here by its
//! own name, never by an alias. The redundant `status <> 'STOPPED'` conditions are there for the sake of an index,
//! see `runs::IS_ACTIVE`.

use jiff::Timestamp;

use super::row::{FromRow, Row, Written};

use super::run_row::RUN_COLUMNS;
use super::statement::{Builder, Statement};
use super::{Store, StoreError};
use crate::model::schedule::Candidate;
use crate::model::{AttemptId, EngineId, Event, Resources, Run, RunId, Status};

impl FromRow for Candidate {
    fn from_row(row: &mut Row) -> Result<Self, StoreError> {
        Ok(Self { run_id: row.parsed()?, asked: resources(row)? })
    }
}

/// How many runs, and the sum of the resources they asked for.
struct Reserved(u64, Resources);

impl FromRow for Reserved {
    fn from_row(row: &mut Row) -> Result<Self, StoreError> {
        Ok(Self(row.count()?, resources(row)?))
    }
}

/// Reads [`RESERVED`], or the columns it sums up.
pub(super) fn resources(row: &mut Row) -> Result<Resources, StoreError> {
    let (memory_mb, cpu_millis, gpus) = (row.maybe_int()?, row.maybe_int()?, row.maybe_int()?);
    Ok(Resources { memory_mb, cpu_millis, gpus, storage_mb: None })
}

/// The sum of the resources that runs asked for.
pub(super) const RESERVED: &str =
    "CAST(SUM(memory_mb) AS BIGINT), CAST(SUM(cpu_millis) AS BIGINT), CAST(SUM(gpus) AS BIGINT)";

/// A run that needs another attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DueRun {
    /// The attempt that failed.
    pub attempt_id: AttemptId,
    pub due_at: Timestamp,
}

impl FromRow for DueRun {
    fn from_row(row: &mut Row) -> Result<Self, StoreError> {
        let (run_id, attempt) = (row.parsed()?, row.u32()?);
        Ok(Self { attempt_id: AttemptId { run_id, attempt }, due_at: row.time()? })
    }
}

/// An attempt that may have something left on the engine, with its run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveAttempt {
    pub attempt_id: AttemptId,
    /// The server that claimed it.
    pub server_id: String,
    /// The engine that has it; `None` if that was never observed.
    pub engine_id: Option<EngineId>,
    /// The engine's name for it, once the engine has returned one.
    pub handle: Option<String>,
    /// When it was claimed, by the server's clock.
    pub claimed_at: Timestamp,
    pub run: Run,
}

impl ActiveAttempt {
    /// Whether it is claimed, and the engine has not confirmed yet that it has it.
    #[must_use]
    pub fn is_unlaunched(&self) -> bool {
        self.handle.is_none() && self.run.status == Status::Pending && self.attempt_id == self.run.attempt_id()
    }
}

impl FromRow for ActiveAttempt {
    fn from_row(row: &mut Row) -> Result<Self, StoreError> {
        let attempt = row.u32()?;
        let server_id = row.text()?;
        let engine_id = row.maybe_text()?.map(EngineId::from_text);
        let handle = row.maybe_text()?;
        let claimed_at = row.time()?;
        let run = Run::from_row(row)?;
        Ok(Self {
            attempt_id: AttemptId { run_id: run.run_id, attempt },
            server_id,
            engine_id,
            handle,
            claimed_at,
            run,
        })
    }
}

/// For whom runs are claimed: the server that is responsible for them from then on, and the engine they are handed
/// to.
#[derive(Debug, Clone, Copy)]
pub struct Claimant<'a> {
    pub server_id: &'a str,
    pub engine_id: Option<&'a EngineId>,
    /// The engine's address in the settings that the claim is made with; nothing is claimed if they have changed
    /// since.
    pub endpoint: Option<&'a str>,
}

/// A server that has not observed its engine.
impl<'a> From<&'a str> for Claimant<'a> {
    fn from(server_id: &'a str) -> Self {
        Self { server_id, engine_id: None, endpoint: None }
    }
}

/// Where an attempt is, and whether anything is left of it there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptPlace {
    pub server_id: String,
    pub engine_id: Option<EngineId>,
    pub is_cleaned: bool,
}

impl FromRow for AttemptPlace {
    fn from_row(row: &mut Row) -> Result<Self, StoreError> {
        let (server_id, engine_id) = (row.text()?, row.maybe_text()?.map(EngineId::from_text));
        Ok(Self { server_id, engine_id, is_cleaned: row.maybe_time()?.is_some() })
    }
}

impl Store {
    /// How many PENDING and RUNNING runs a cluster has, and the resources they reserve.
    pub async fn reserved(&self, cluster: &str) -> Result<(u64, Resources), StoreError> {
        let mut select = Builder::new(&format!(
            "SELECT COUNT(*), {RESERVED} FROM runs WHERE status IN ('PENDING', 'RUNNING') AND resolved_cluster = "
        ));
        select.bind(cluster);
        let found = self.db.read_one(select.build()).await?;
        Ok(found.map_or_else(Default::default, |Reserved(runs, resources)| (runs, resources)))
    }

    /// The first runs that wait for a cluster, in the order they were launched. A further attempt waits until nothing
    /// is left of the one before it; none starts unless the operator has left the cluster active.
    pub async fn next_queued(&self, cluster: &str, limit: u32) -> Result<Vec<Candidate>, StoreError> {
        let select = Statement::new(
            "SELECT run_id, memory_mb, cpu_millis, gpus FROM runs
             WHERE resolved_cluster = $1 AND status = 'QUEUED' AND stop_at IS NULL
               AND NOT EXISTS (SELECT 1 FROM clusters WHERE clusters.name = $1 AND clusters.status <> 'active')
               AND (attempt_count = 0 OR NOT EXISTS (
                   SELECT 1 FROM attempts WHERE attempts.run_id = runs.run_id AND attempts.cleaned_at IS NULL))
             ORDER BY queued_at, run_id
             LIMIT $2",
            [cluster.into(), limit.into()],
        );
        self.db.read(select).await
    }

    /// Claims those of these runs that still wait: QUEUED becomes PENDING, on a new attempt, committed before the
    /// engine learns of it. Nothing is claimed if that would exceed the cluster's `max_running`, because another
    /// server was quicker, or if the cluster is no longer active: the caller reads again.
    pub async fn claim(
        &self,
        cluster: &str,
        run_ids: &[RunId],
        max_running: u32,
        claimant: impl Into<Claimant<'_>>,
        now: Timestamp,
    ) -> Result<Vec<Run>, StoreError> {
        let claimant = claimant.into();
        let claim = claim_token();
        let mut update =
            Builder::new("UPDATE runs SET status = 'PENDING', attempt_count = attempt_count + 1, claim = ");
        update.bind(claim.as_str()).push(", exit_reason = NULL WHERE run_id IN (");
        update.bind_all(run_ids.iter().map(RunId::to_string));
        update.push(") AND status = 'QUEUED' AND stop_at IS NULL AND ");
        // The same condition as in `next_queued`; the run may have come to a further attempt since.
        update.push(
            "NOT EXISTS (SELECT 1 FROM attempts WHERE attempts.run_id = runs.run_id AND attempts.cleaned_at IS NULL) AND ",
        );
        update.push(
            "(SELECT COUNT(*) FROM runs AS other WHERE other.status IN ('PENDING', 'RUNNING') AND other.resolved_cluster = ",
        );
        update.bind(cluster).push(") + ").bind(i64::try_from(run_ids.len()).unwrap_or(i64::MAX));
        update.push(" <= ").bind(max_running);
        update.push(" AND NOT EXISTS (SELECT 1 FROM clusters WHERE clusters.name = ").bind(cluster);
        update.push(" AND (clusters.status <> 'active'");
        if let Some(endpoint) = claimant.endpoint {
            update.push(" OR clusters.endpoint <> ").bind(endpoint);
        }
        update.push("))").push(&format!(" RETURNING {RUN_COLUMNS}"));

        let attempts = Statement::new(
            "INSERT INTO attempts (run_id, attempt, resolved_cluster, node, engine_id, created_at)
             SELECT run_id, attempt_count, resolved_cluster, $2, $3, $4 FROM runs WHERE claim = $1 AND status = 'PENDING' AND status <> 'STOPPED'",
            [
                claim.as_str().into(),
                claimant.server_id.into(),
                claimant.engine_id.map(EngineId::to_string).into(),
                now.into(),
            ],
        );
        let event = Event::normal(now, "Dispatched", "");
        let events = Statement::new(
            "INSERT INTO events (run_id, timestamp, event_type, reason, source_object, message)
             SELECT run_id, $2, $3, $4, $5, 'handed to the ' || engine || ' engine of cluster ' || resolved_cluster
             FROM runs WHERE claim = $1 AND status = 'PENDING' AND status <> 'STOPPED'",
            [
                claim.as_str().into(),
                event.timestamp.into(),
                event.event_type.to_string().into(),
                event.reason.into(),
                event.source_object.into(),
            ],
        );
        let mut statements = self.lock_claims(cluster);
        let claimed = statements.len();
        statements.extend([update.build().required(), attempts, events]);
        match self.write_guarded(statements).await? {
            Written::Refused => Ok(Vec::new()),
            Written::Done(mut returned) => {
                returned.swap_remove(claimed).into_iter().map(|mut row| Run::from_row(&mut row)).collect()
            }
        }
    }

    /// Locks out other claims of the cluster's runs, and changes of its address, until the write is done: two claims
    /// that count at the same moment would both find room. SQLite has one writer anyway.
    pub(super) fn lock_claims(&self, cluster: &str) -> Vec<Statement> {
        if !self.db.is_postgres() {
            return Vec::new();
        }
        let lock = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))";
        vec![Statement::new(lock, [format!("flotilla dispatch {cluster}").into()])]
    }

    /// Stores the engine's name for the attempt, by which it is found again after a restart. `false` if nothing is
    /// left of it by now.
    pub async fn set_handle(&self, attempt_id: AttemptId, handle: &str) -> Result<bool, StoreError> {
        let update = Statement::new(
            "UPDATE attempts SET handle = $3 WHERE run_id = $1 AND attempt = $2 AND cleaned_at IS NULL",
            [attempt_id.run_id.to_string().into(), attempt_id.attempt.into(), handle.into()],
        );
        Ok(self.write_guarded(vec![update.required()]).await?.is_done())
    }

    /// Every attempt of a cluster that may have something left on its engine. No page cap: all are observed.
    pub async fn active_attempts(&self, cluster: &str) -> Result<Vec<ActiveAttempt>, StoreError> {
        let select = Builder::new(&format!(
            "SELECT attempts.attempt, attempts.node, attempts.engine_id, attempts.handle, attempts.created_at, {}
             FROM attempts JOIN runs ON runs.run_id = attempts.run_id
             WHERE attempts.cleaned_at IS NULL AND attempts.resolved_cluster = ",
            qualified_run_columns()
        ));
        let mut select = select;
        select.bind(cluster).push(" ORDER BY attempts.run_id, attempts.attempt");
        self.db.read(select.build()).await
    }

    /// One attempt of a cluster, if something of it may be left on its engine.
    pub async fn active_attempt(
        &self,
        cluster: &str,
        attempt_id: AttemptId,
    ) -> Result<Option<ActiveAttempt>, StoreError> {
        let mut select = Builder::new(&format!(
            "SELECT attempts.attempt, attempts.node, attempts.engine_id, attempts.handle, attempts.created_at, {}
             FROM attempts JOIN runs ON runs.run_id = attempts.run_id
             WHERE attempts.cleaned_at IS NULL AND attempts.run_id = ",
            qualified_run_columns()
        ));
        select.bind(attempt_id.run_id.to_string()).push(" AND attempts.attempt = ").bind(attempt_id.attempt);
        select.push(" AND attempts.resolved_cluster = ").bind(cluster);
        self.db.read_one(select.build()).await
    }

    /// Where an attempt is; `None` if it is unknown.
    pub async fn attempt_place(&self, attempt_id: AttemptId) -> Result<Option<AttemptPlace>, StoreError> {
        let select = Statement::new(
            "SELECT node, engine_id, cleaned_at FROM attempts WHERE run_id = $1 AND attempt = $2",
            [attempt_id.run_id.to_string().into(), attempt_id.attempt.into()],
        );
        self.db.read_one(select).await
    }

    /// Records that nothing of the attempt is left on its engine.
    pub async fn set_cleaned(&self, attempt_id: AttemptId, now: Timestamp) -> Result<(), StoreError> {
        let update = Statement::new(
            "UPDATE attempts SET cleaned_at = $3 WHERE run_id = $1 AND attempt = $2 AND cleaned_at IS NULL",
            [attempt_id.run_id.to_string().into(), attempt_id.attempt.into(), now.into()],
        );
        self.write_guarded(vec![update]).await.map(|_| ())
    }

    /// The runs that need another attempt, and when it is due.
    pub async fn runs_to_retry(&self) -> Result<Vec<DueRun>, StoreError> {
        let select = Statement::new(
            "SELECT run_id, attempt_count, due_at FROM runs
             WHERE status = 'NEEDS_RETRY' AND status <> 'STOPPED' AND stop_at IS NULL",
            [],
        );
        self.db.read(select).await
    }
}

/// A name for the rows of one claim, used by the statements that follow it in the same transaction.
fn claim_token() -> String {
    RunId::generate().to_string()
}

fn qualified_run_columns() -> String {
    let columns: Vec<_> = RUN_COLUMNS.split(',').map(|column| format!("runs.{}", column.trim())).collect();
    columns.join(", ")
}
