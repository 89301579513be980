//! Runs: launched, changed in one place, listed, stopped.

use std::collections::HashMap;

use jiff::Timestamp;
use tokio::time::Instant;

use super::db::Db;

use super::row::{FromRow, Row};

use super::kept_time::no_earlier_than_kept;
use super::lists::{count_of, push_any, push_env, push_in, push_page};
use super::run_row::RUN_COLUMNS;
use super::statement::{Builder, Statement, Value, json, maybe_words};
use super::{Store, StoreError, events, summaries};
use crate::model::{
    AttemptId, Change, Event, Order, Outcome, Page, PageRequest, Run, RunFilter, RunId, RunSort, RunSummary, Status,
    TimeRange, Unread,
};

/// How long repeating an idempotence key finds the first run, by the kept time.
const KEY_LIFETIME_MICROS: i64 = 7 * 24 * 3_600_000_000;

/// A run's id and the approximate size of its row in bytes; only the lengths of the columns are read.
const UNREAD: &str = "run_id, octet_length(task) + octet_length(execution)
    + COALESCE(octet_length(exit_reason), 0) + COALESCE(octet_length(run_exceptions), 0)";

/// The runs that have not stopped, few compared to the history. SQLite uses the index on just these only if a query
/// has these exact words, even if another condition implies them.
const IS_ACTIVE: &str = "status <> 'STOPPED'";
/// Turns a column into an expression, so that neither database searches for active runs in the column's index, which
/// leads through all of history.
const WITHOUT_INDEX: &str = " || ''";

impl FromRow for Unread<RunId> {
    fn from_row(row: &mut Row) -> Result<Self, StoreError> {
        Ok(Self { id: row.parsed()?, bytes: row.count()? })
    }
}

/// The result of a launch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Launched {
    New,
    /// The run that holds the same idempotence key.
    Existing(Box<Run>),
}

impl Store {
    /// Stores a QUEUED run with its first event and its idempotence key. If a run younger than seven days that has
    /// not failed holds the key, nothing is stored and that run is returned.
    pub async fn insert_run(&self, run: &Run) -> Result<Launched, StoreError> {
        let mut statements = Vec::new();
        let key = run.execution.idempotence_key.as_deref();
        if let Some(key) = key {
            statements.push(take_key(key, run).required());
        }
        statements.push(insert(run));
        let message = format!("waiting for a place on cluster {}", run.execution.resolved_cluster);
        statements.push(events::append(run.run_id, &Event::normal(run.queued_at, "Queued", message)));
        if self.db.write(statements).await?.is_done() {
            return Ok(Launched::New);
        }
        let select = format!(
            "SELECT {RUN_COLUMNS} FROM runs WHERE run_id = (SELECT run_id FROM idempotence_keys WHERE idempotence_key = "
        );
        let mut select = Builder::new(&select);
        select.bind(key.unwrap_or_default()).push(")");
        match self.db.read_one(select.build()).await? {
            Some(run) => Ok(Launched::Existing(Box::new(run))),
            None => Err(StoreError::Unusable("the run that holds the idempotence key is not there".to_owned())),
        }
    }

    pub async fn run(&self, run_id: RunId) -> Result<Option<Run>, StoreError> {
        let mut select = Builder::new(&format!("SELECT {RUN_COLUMNS} FROM runs WHERE run_id = "));
        select.bind(run_id.to_string());
        self.db.read_one(select.build()).await
    }

    /// The runs on a page, as ids and sizes: the full rows together may be too large to hold in memory, see
    /// [`Store::runs`].
    pub async fn list_runs(
        &self,
        filter: &RunFilter,
        page: PageRequest<RunSort>,
    ) -> Result<Page<Unread<RunId>>, StoreError> {
        self.list(UNREAD, filter, page).await
    }

    /// Like `list_runs`, with what a page's row shows of each.
    pub async fn list_run_summaries(
        &self,
        filter: &RunFilter,
        page: PageRequest<RunSort>,
    ) -> Result<Page<RunSummary>, StoreError> {
        self.list(summaries::OF_RUN, filter, page).await
    }

    /// These runs, in this order, without those that don't exist.
    pub async fn runs(&self, run_ids: &[RunId]) -> Result<Vec<Run>, StoreError> {
        let ids: Vec<_> = run_ids.iter().map(RunId::to_string).collect();
        let ids: Vec<_> = ids.iter().map(String::as_str).collect();
        let mut select = Builder::new(&format!("SELECT {RUN_COLUMNS} FROM runs WHERE run_id"));
        push_in(&mut select, &self.db, &ids);
        let mut runs: Vec<Run> = self.db.read(select.build()).await?;
        let places: HashMap<_, _> = run_ids.iter().enumerate().map(|(place, id)| (*id, place)).collect();
        runs.sort_by_key(|run| places.get(&run.run_id).copied());
        Ok(runs)
    }

    async fn list<T: FromRow + Send + 'static>(
        &self,
        columns: &str,
        filter: &RunFilter,
        page: PageRequest<RunSort>,
    ) -> Result<Page<T>, StoreError> {
        let until = is_search(filter, page).then(|| self.db.search_deadline());
        let count = count(&self.db, filter);
        let rows = match latest_first(page) {
            Some(time) => self.latest_first(columns, filter, page, time, until).await?,
            None => self.page_of_runs(columns, filter, page, "", until).await?,
        };
        Ok(Page { rows, total: count_of(&self.db, count, until).await? })
    }

    async fn page_of_runs<T: FromRow + Send + 'static>(
        &self,
        columns: &str,
        filter: &RunFilter,
        page: PageRequest<RunSort>,
        also: &str,
        until: Option<Instant>,
    ) -> Result<Vec<T>, StoreError> {
        let mut select = Builder::new(&format!("SELECT {columns} FROM runs WHERE 1 = 1"));
        push_filter(&mut select, &self.db, filter);
        select.push(also);
        push_page(&mut select, sort_expression(page.sort_by), "run_id", page.order, page.limit, page.offset);
        self.db.list(select.build(), until).await
    }

    /// Latest first by a time that may be unset, rows without it after all others: two reads of one index, the second
    /// only if the first does not fill the page.
    async fn latest_first<T: FromRow + Send + 'static>(
        &self,
        columns: &str,
        filter: &RunFilter,
        page: PageRequest<RunSort>,
        time: &str,
        until: Option<Instant>,
    ) -> Result<Vec<T>, StoreError> {
        let has_come = format!(" AND COALESCE({time}, {NEVER}) < {NEVER}");
        let mut rows = self.page_of_runs(columns, filter, page, &has_come, until).await?;
        let missing = page.limit.saturating_sub(u32::try_from(rows.len()).unwrap_or(u32::MAX));
        if missing == 0 {
            return Ok(rows);
        }
        let offset = if rows.is_empty() && page.offset > 0 {
            let mut before = Builder::new("SELECT COUNT(*) FROM runs WHERE 1 = 1");
            push_filter(&mut before, &self.db, filter);
            before.push(&has_come);
            let before = u32::try_from(count_of(&self.db, before, until).await?).unwrap_or(u32::MAX);
            page.offset.saturating_sub(before)
        } else {
            0
        };
        let rest = PageRequest { limit: missing, offset, ..page };
        let never = format!(" AND COALESCE({time}, {NEVER}) = {NEVER}");
        rows.extend(self.page_of_runs(columns, filter, rest, &never, until).await?);
        Ok(rows)
    }

    /// The newest runs whose id begins or ends with this text, among the last thousands: pages show the end of an id,
    /// by which people distinguish runs.
    pub async fn runs_by_part_of_id(&self, part: &str, most: u32) -> Result<Vec<RunSummary>, StoreError> {
        const LOOKED_AT: u32 = 5_000;
        let mut select = Builder::new(&format!(
            "SELECT {} FROM runs WHERE run_id IN (
                SELECT run_id FROM (SELECT run_id FROM runs ORDER BY queued_at DESC, run_id DESC LIMIT ",
            summaries::OF_RUN
        ));
        select.bind(LOOKED_AT).push(") AS newest WHERE run_id LIKE ").bind(format!("{part}%"));
        select.push(" OR run_id LIKE ").bind(format!("%{part}"));
        select.push(") ORDER BY queued_at DESC, run_id DESC LIMIT ").bind(most);
        self.db.read(select.build()).await
    }

    pub async fn run_summary(&self, run_id: RunId) -> Result<Option<RunSummary>, StoreError> {
        let mut select = Builder::new(&format!("SELECT {} FROM runs WHERE run_id = ", summaries::OF_RUN));
        select.bind(run_id.to_string());
        self.db.read_one(select.build()).await
    }

    /// The first owners of runs, by name. One index look-up for each.
    pub async fn owners(&self, most: u32) -> Result<Vec<String>, StoreError> {
        let select = "WITH RECURSIVE owners (owner) AS (
                SELECT MIN(owner) FROM runs
                UNION ALL
                SELECT (SELECT MIN(runs.owner) FROM runs WHERE runs.owner > owners.owner) FROM owners WHERE owner IS NOT NULL
            )
            SELECT owner FROM owners WHERE owner IS NOT NULL LIMIT $1";
        self.db.read(Statement::new(select, [most.into()])).await
    }

    /// The ids of a run's children, in the order they were launched.
    pub async fn children(&self, parent: RunId) -> Result<Vec<String>, StoreError> {
        self.first_child_ids(parent, u32::MAX).await
    }

    /// The first of these ids.
    pub async fn first_child_ids(&self, parent: RunId, most: u32) -> Result<Vec<String>, StoreError> {
        let select = "SELECT run_id FROM runs WHERE parent_run_id = $1 ORDER BY queued_at, run_id LIMIT $2";
        self.db.read(Statement::new(select, [parent.to_string().into(), most.into()])).await
    }

    /// A run's first children in the order they were launched, and how many it has in total.
    pub async fn first_children(&self, parent: RunId, most: u32) -> Result<Page<RunSummary>, StoreError> {
        let mut select = Builder::new(&format!("SELECT {} FROM runs WHERE parent_run_id = ", summaries::OF_RUN));
        select.bind(parent.to_string()).push(" ORDER BY queued_at, run_id LIMIT ").bind(most);
        let count = "SELECT COUNT(*) FROM runs WHERE parent_run_id = $1";
        let count = self.db.read_one(Statement::new(count, [parent.to_string().into()]));
        let (rows, total) = tokio::try_join!(self.db.read(select.build()), count)?;
        Ok(Page { rows, total: total.unwrap_or_default() })
    }

    /// Stores a transition of a run, with its events. Returns `false`, with nothing stored, if the run has changed
    /// since the transition was decided: it has another status, a later attempt, or another stop.
    pub async fn apply(&self, run_id: RunId, change: &Change) -> Result<bool, StoreError> {
        let mut statements = vec![step(run_id, change).required()];
        statements.extend(change.events.iter().map(|event| events::append(run_id, event)));
        Ok(self.write_guarded(statements).await?.is_done())
    }

    /// Marks that the last byte of the run's log is stored, and records in the run's events what may be missing of
    /// it. Both happen once: `false` if the log was complete already, or the run is no longer at the end of this
    /// attempt.
    pub async fn set_log_complete(&self, attempt_id: AttemptId, gap: Option<&Event>) -> Result<bool, StoreError> {
        let update = Statement::new(
            concat!(
                "UPDATE runs SET is_log_complete = 1, log_complete_since = ",
                no_earlier_than_kept!("finished_at"),
                " WHERE run_id = $1 AND attempt_count = $2 AND status = 'STOPPED' AND is_log_complete = 0"
            ),
            [attempt_id.run_id.to_string().into(), attempt_id.attempt.into()],
        );
        let mut statements = vec![update.required()];
        statements.extend(gap.map(|event| events::append(attempt_id.run_id, event)));
        Ok(self.write_guarded(statements).await?.is_done())
    }

    /// The clusters, including removed ones, whose runs have a complete log that was not removed yet.
    pub async fn clusters_with_logs(&self) -> Result<Vec<String>, StoreError> {
        // Steps from name to name by the index: the number of runs does not matter.
        let select = "WITH RECURSIVE found (name) AS (
                SELECT MIN(resolved_cluster) FROM runs WHERE log_pruned_at IS NULL AND is_log_complete = 1
                UNION ALL
                SELECT (SELECT MIN(resolved_cluster) FROM runs
                        WHERE log_pruned_at IS NULL AND is_log_complete = 1 AND resolved_cluster > found.name)
                FROM found WHERE found.name IS NOT NULL
            )
            SELECT name FROM found WHERE name IS NOT NULL";
        self.db.read(Statement::new(select, [])).await
    }

    /// Runs of a cluster whose log was complete before `before`, and was not removed yet: oldest first, after the one
    /// in `after`. When a run ended may come from another machine's clock, so it is not used alone.
    pub async fn logs_to_prune(
        &self,
        cluster: &str,
        before: Timestamp,
        after: Option<&LogToPrune>,
        limit: u32,
    ) -> Result<Vec<LogToPrune>, StoreError> {
        let mut select = Builder::new(
            "SELECT run_id, log_complete_since, attempt_count FROM runs
             WHERE log_pruned_at IS NULL AND is_log_complete = 1 AND resolved_cluster = ",
        );
        select.bind(cluster).push(" AND log_complete_since < ").bind(before);
        if let Some(after) = after {
            select.push(" AND (log_complete_since, run_id) > (").bind(after.complete_since).push(", ");
            select.bind(after.run_id.to_string()).push(")");
        }
        select.push(" ORDER BY log_complete_since, run_id LIMIT ").bind(limit);
        self.db.read(select.build()).await
    }

    /// Records that the output of these runs is no longer stored.
    pub async fn set_logs_pruned(&self, run_ids: &[RunId], now: Timestamp) -> Result<(), StoreError> {
        if run_ids.is_empty() {
            return Ok(());
        }
        let mut update = Builder::new("UPDATE runs SET log_pruned_at = ");
        update.bind(now).push(" WHERE run_id IN (").bind_all(run_ids.iter().map(RunId::to_string)).push(")");
        self.db.write(vec![update.build()]).await.map(|_| ())
    }
}

/// A run whose log may be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogToPrune {
    pub run_id: RunId,
    pub complete_since: Timestamp,
    pub attempts: u32,
}

impl FromRow for LogToPrune {
    fn from_row(row: &mut Row) -> Result<Self, StoreError> {
        Ok(Self { run_id: row.parsed()?, complete_since: row.time()?, attempts: row.u32()? })
    }
}

/// How an index represents an unset time, in microseconds.
const NEVER: &str = "9223372036854775807";

/// The column of a list that is sorted latest first, if that time may be unset.
fn latest_first(page: PageRequest<RunSort>) -> Option<&'static str> {
    match (page.sort_by, page.order) {
        (RunSort::StartedAt | RunSort::FinishedAt, Order::Desc) => Some(page.sort_by.as_str()),
        _ => None,
    }
}

/// In ascending order an unset time comes last.
const fn sort_expression(field: RunSort) -> &'static str {
    match field {
        RunSort::StartedAt => "COALESCE(started_at, 9223372036854775807)",
        RunSort::FinishedAt => "COALESCE(finished_at, 9223372036854775807)",
        RunSort::Alias => "COALESCE(alias, '')",
        RunSort::User => "owner",
        RunSort::ExitCode => "COALESCE(exit_code, -1)",
        RunSort::Memory => "COALESCE(memory_mb, 0)",
        RunSort::Cpu => "COALESCE(cpu_millis, 0)",
        RunSort::QueuedAt
        | RunSort::Status
        | RunSort::GroupName
        | RunSort::Image
        | RunSort::Cluster
        | RunSort::Engine
        | RunSort::DefinitionId
        | RunSort::RunId => field.as_str(),
    }
}

/// Whether a list may have to scan all of history: no index serves its filter or its order, or its offset is large.
fn is_search(filter: &RunFilter, page: PageRequest<RunSort>) -> bool {
    const FAR: u32 = 10_000;
    let is_in_order = match page.sort_by {
        RunSort::QueuedAt | RunSort::StartedAt | RunSort::FinishedAt | RunSort::RunId => true,
        RunSort::Status
        | RunSort::Alias
        | RunSort::GroupName
        | RunSort::Image
        | RunSort::Cluster
        | RunSort::Engine
        | RunSort::User
        | RunSort::ExitCode
        | RunSort::Memory
        | RunSort::Cpu
        | RunSort::DefinitionId => false,
    };
    !filter.env.is_empty() || has_times(filter) || !is_in_order || page.offset > FAR
}

/// Whether the runs have to be counted within a time range.
fn has_times(filter: &RunFilter) -> bool {
    [filter.queued_at, filter.started_at, filter.finished_at].iter().any(|range| !range.is_unbounded())
}

/// How many runs match a filter. Stopped runs were counted when they stopped, so that the cost does not grow with
/// history; the others are checked one by one.
fn count(db: &Db, filter: &RunFilter) -> Builder {
    if has_times(filter) || !filter.env.is_empty() {
        let mut sql = Builder::new("SELECT COUNT(*) FROM runs WHERE 1 = 1");
        push_filter(&mut sql, db, filter);
        return sql;
    }
    let mut sql = Builder::new("SELECT 0");
    let is_asked_for = |status: &Status| {
        // A run that has not stopped has no outcome.
        let may_have_outcome = filter.outcome.is_empty() || status.is_terminal();
        may_have_outcome && (filter.status.is_empty() || filter.status.contains(status))
    };
    let active: Vec<_> =
        Status::ALL.into_iter().filter(|status| !status.is_terminal() && is_asked_for(status)).collect();
    if !active.is_empty() {
        sql.push(&format!(" + (SELECT COUNT(*) FROM runs WHERE {IS_ACTIVE}"));
        push_status(&mut sql, &active);
        push_fields(&mut sql, filter, WITHOUT_INDEX);
        sql.push(")");
    }
    if is_asked_for(&Status::Stopped) {
        sql.push(" + (SELECT CAST(COALESCE(SUM(runs), 0) AS BIGINT) FROM stopped_runs WHERE 1 = 1");
        push_fields(&mut sql, filter, "");
        push_outcome(&mut sql, &filter.outcome);
        sql.push(")");
    }
    sql
}

fn push_filter(sql: &mut Builder, db: &Db, filter: &RunFilter) {
    push_status(sql, &filter.status);
    push_outcome(sql, &filter.outcome);
    if filter.status.is_empty() || filter.status.contains(&Status::Stopped) {
        push_fields(sql, filter, "");
    } else {
        sql.push(&format!(" AND {IS_ACTIVE}"));
        push_fields(sql, filter, WITHOUT_INDEX);
    }
    // Matches the expressions of the indexes.
    push_times(sql, "queued_at", filter.queued_at);
    push_times(sql, "COALESCE(started_at, 9223372036854775807)", filter.started_at);
    push_times(sql, "COALESCE(finished_at, 9223372036854775807)", filter.finished_at);
    push_env(sql, db, "task", &filter.env);
}

/// What has not happened yet is later than any given time.
fn push_times(sql: &mut Builder, expression: &str, range: TimeRange) {
    if range.is_unbounded() {
        return;
    }
    if let Some(since) = range.since {
        sql.push(&format!(" AND {expression} >= ")).bind(since);
    }
    match range.until {
        Some(until) => drop(sql.push(&format!(" AND {expression} < ")).bind(until)),
        None => drop(sql.push(&format!(" AND {expression} < {NEVER}"))),
    }
}

fn push_status(sql: &mut Builder, any_of: &[Status]) {
    if !any_of.is_empty() {
        sql.push(" AND status IN (").bind_all(any_of.iter().map(|status| status.as_str())).push(")");
    }
}

fn push_outcome(sql: &mut Builder, any_of: &[Outcome]) {
    if any_of.is_empty() {
        return;
    }
    if !any_of.contains(&Outcome::Succeeded) {
        // The partial index has these exact words.
        sql.push(" AND outcome <> 'succeeded'");
    }
    sql.push(" AND outcome IN (").bind_all(any_of.iter().map(|outcome| outcome.as_str())).push(")");
}

/// The fields that never change during a run's life, and so are in `stopped_runs` too.
fn push_fields(sql: &mut Builder, filter: &RunFilter, suffix: &str) {
    let narrow = [
        ("cluster", &filter.cluster_name),
        ("definition_id", &filter.definition_id),
        ("alias", &filter.alias),
        ("group_name", &filter.group_name),
        ("image", &filter.image),
        ("owner", &filter.user),
    ];
    // The index on the least selective column is the newest, which SQLite would prefer to the others.
    let is_alone = narrow.iter().all(|(_, any_of)| any_of.is_empty());
    push_any(
        sql,
        &format!("resolved_cluster{}", if is_alone { suffix } else { WITHOUT_INDEX }),
        &filter.resolved_cluster,
    );
    for (column, any_of) in narrow {
        push_any(sql, &format!("{column}{suffix}"), any_of);
    }
}

/// Gives the key to this run if it has no holder, or if the holder is too old or has failed. Both databases make a
/// second caller wait for the first and then see its row, so of several equal requests at once only one gets the key.
fn take_key(key: &str, run: &Run) -> Statement {
    Statement::new(
        concat!(
            "INSERT INTO idempotence_keys (idempotence_key, run_id, created_at) VALUES ($1, $2, ",
            no_earlier_than_kept!("$3"),
            ")
             ON CONFLICT (idempotence_key) DO UPDATE SET run_id = excluded.run_id, created_at = excluded.created_at
             WHERE idempotence_keys.created_at < (SELECT time FROM kept_time WHERE singleton = 1) - $4
                OR EXISTS (
                    SELECT 1 FROM runs
                    WHERE runs.run_id = idempotence_keys.run_id
                      AND runs.status = 'STOPPED' AND runs.outcome <> 'succeeded'
                )"
        ),
        [key.into(), run.run_id.to_string().into(), run.queued_at.into(), KEY_LIFETIME_MICROS.into()],
    )
}

fn insert(run: &Run) -> Statement {
    Statement::new(
        "INSERT INTO runs
           (run_id, definition_id, alias, group_name, image, cluster, resolved_cluster, engine, owner, memory_mb, cpu_millis,
            gpus, parent_run_id, task, execution, status, queued_at, attempt_count, instance_id, instance_dns_name, is_log_complete)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, 'QUEUED', $16, 0, '', '', 0)",
        [
            run.run_id.to_string().into(),
            run.definition_id.as_str().into(),
            run.alias.clone().into(),
            run.group_name.as_str().into(),
            run.task.image.as_str().into(),
            run.execution.cluster.as_str().into(),
            run.execution.resolved_cluster.as_str().into(),
            run.execution.engine.as_str().into(),
            run.execution.user.as_str().into(),
            run.task.memory_mb.into(),
            run.task.cpu_millis.into(),
            run.task.gpu.into(),
            run.execution.parent_run_id.map(|id| id.to_string()).into(),
            json(&run.task),
            json(&run.execution),
            run.queued_at.into(),
        ],
    )
}

/// Fields that a change leaves out keep their values, except those that belong to one status alone: its reason and
/// when it is due.
fn step(run_id: RunId, change: &Change) -> Statement {
    let (from, instance) = (&change.from, change.instance.as_ref());
    Statement::new(
        concat!(
            "UPDATE runs
         SET status = $4, outcome = $5, exit_code = $6, exit_reason = $7,
             started_at = COALESCE($8, started_at), finished_at = $9, due_at = $10,
             instance_id = COALESCE($11, instance_id), instance_dns_name = COALESCE($12, instance_dns_name),
             max_memory_bytes = COALESCE($13, max_memory_bytes), max_cpu_millis = COALESCE($14, max_cpu_millis),
             cpu_time_ms = COALESCE($15, cpu_time_ms), memory_limit_bytes = COALESCE($16, memory_limit_bytes),
             cpu_limit_millis = COALESCE($17, cpu_limit_millis), run_exceptions = COALESCE($18, run_exceptions),
             image_digest = COALESCE($19, image_digest), is_log_complete = $20,
             log_complete_since = CASE WHEN $20 = 1 THEN ",
            no_earlier_than_kept!("$9"),
            " END,
             seen_running_at = COALESCE($21, seen_running_at), failed_starts = COALESCE($22, failed_starts)
         WHERE run_id = $1 AND status = $2 AND attempt_count = $3
           AND stop_at IS NOT DISTINCT FROM $23 AND stop_sent_at IS NOT DISTINCT FROM $24"
        ),
        [
            run_id.to_string().into(),
            from.status.as_str().into(),
            from.attempt.into(),
            change.to.as_str().into(),
            change.outcome.map(|outcome| outcome.as_str().to_owned()).into(),
            change.exit_code.into(),
            maybe_words(change.exit_reason.as_deref()),
            change.started_at.into(),
            change.finished_at.into(),
            change.due_at.into(),
            maybe_words(instance.map(|instance| instance.instance_id.as_str())),
            maybe_words(instance.map(|instance| instance.dns_name.as_str())),
            change.usage.max_memory_bytes.into(),
            change.usage.max_cpu_millis.into(),
            change.usage.cpu_time_ms.into(),
            change.usage.memory_limit_bytes.into(),
            change.usage.cpu_limit_millis.into(),
            change.run_exceptions.as_ref().map_or(Value::Text(None), json),
            maybe_words(change.image_digest.as_deref()),
            change.is_log_complete.into(),
            change.seen_running_at.into(),
            change.failed_starts.as_ref().map_or(Value::Text(None), json),
            // A stored stop keeps its cause, so its time identifies it.
            from.stop.as_ref().map(|stop| stop.at).into(),
            from.stop.as_ref().and_then(|stop| stop.sent_at).into(),
        ],
    )
}
