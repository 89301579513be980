//! Cluster records set by operators, and the load of each cluster.

use super::row::{FromRow, Row};

use super::statement::{Builder, Statement, json};
use super::{Store, StoreError, dispatch};
use crate::model::{ClusterRecord, Load, Resources, Run, Status};

const COLUMNS: &str = "name, status, status_reason, status_since, details, settings, updated_at";

impl FromRow for ClusterRecord {
    fn from_row(row: &mut Row) -> Result<Self, StoreError> {
        Ok(Self {
            name: row.text()?,
            status: row.parsed()?,
            status_reason: row.text()?,
            status_since: row.time()?,
            details: row.json()?,
            settings: row.maybe_json()?,
            updated_at: row.time()?,
        })
    }
}

/// The runs of one cluster in one status, and the resources they asked for.
struct Share {
    cluster: String,
    status: Status,
    runs: u64,
    reserved: Resources,
}

impl FromRow for Share {
    fn from_row(row: &mut Row) -> Result<Self, StoreError> {
        let (cluster, status) = (row.text()?, row.parsed()?);
        Ok(Self { cluster, status, runs: row.count()?, reserved: dispatch::resources(row)? })
    }
}

/// The address of a cluster's engine, according to its settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub text: String,
    /// Whether the replaced settings name a different address.
    pub is_another: bool,
}

impl Store {
    /// How many attempts of a cluster may have something left on its engine.
    pub async fn attempts_on(&self, cluster: &str) -> Result<u64, StoreError> {
        let select = "SELECT COUNT(*) FROM attempts WHERE resolved_cluster = $1 AND cleaned_at IS NULL";
        Ok(self.db.read_one(Statement::new(select, [cluster.into()])).await?.unwrap_or_default())
    }

    /// All clusters with a stored record, by name.
    pub async fn cluster_records(&self) -> Result<Vec<ClusterRecord>, StoreError> {
        let select = format!("SELECT {COLUMNS} FROM clusters ORDER BY name");
        self.db.read(Builder::new(&select).build()).await
    }

    pub async fn cluster_record(&self, name: &str) -> Result<Option<ClusterRecord>, StoreError> {
        let mut select = Builder::new(&format!("SELECT {COLUMNS} FROM clusters WHERE name = "));
        select.bind(name);
        self.db.read_one(select.build()).await
    }

    /// Stores a record, replacing the one of that name if that is still `before`, from which the change was made.
    /// Returns whether it was stored. `endpoint` is the engine's address in the new settings; it changes only while
    /// nothing is left on the engine.
    pub async fn save_cluster(
        &self,
        record: &ClusterRecord,
        before: Option<&ClusterRecord>,
        endpoint: Option<&Endpoint>,
    ) -> Result<bool, StoreError> {
        let settings = match &record.settings {
            Some(settings) => json(settings),
            None => None::<String>.into(),
        };
        let upsert = Statement::new(
            "INSERT INTO clusters (name, status, status_reason, status_since, details, settings, updated_at, endpoint)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $9)
             ON CONFLICT (name) DO UPDATE
             SET status = excluded.status, status_reason = excluded.status_reason,
                 status_since = excluded.status_since, details = excluded.details, settings = excluded.settings,
                 updated_at = excluded.updated_at, endpoint = COALESCE(excluded.endpoint, clusters.endpoint)
             WHERE clusters.updated_at = $8
               AND ($10 = 0 OR NOT EXISTS (
                   SELECT 1 FROM attempts WHERE attempts.resolved_cluster = $1 AND attempts.cleaned_at IS NULL))",
            [
                record.name.as_str().into(),
                record.status.as_str().into(),
                record.status_reason.as_str().into(),
                record.status_since.into(),
                json(&record.details),
                settings,
                record.updated_at.into(),
                before.map_or(i64::MIN, |before| before.updated_at.as_microsecond()).into(),
                endpoint.map(|endpoint| endpoint.text.clone()).into(),
                endpoint.is_some_and(|endpoint| endpoint.is_another).into(),
            ],
        );
        let mut statements = self.lock_claims(&record.name);
        statements.push(upsert.required());
        Ok(self.write_guarded(statements).await?.is_done())
    }

    /// Deletes a cluster's record, unless a run is on the cluster or waits for it. Returns whether it was deleted.
    pub async fn delete_cluster(&self, name: &str) -> Result<bool, StoreError> {
        let delete = Statement::new(
            "DELETE FROM clusters WHERE name = $1
               AND NOT EXISTS (SELECT 1 FROM runs WHERE resolved_cluster = $1 AND status <> 'STOPPED')
               AND NOT EXISTS (SELECT 1 FROM attempts WHERE resolved_cluster = $1 AND cleaned_at IS NULL)",
            [name.into()],
        );
        let mut statements = self.lock_claims(name);
        statements.push(delete.required());
        Ok(self.write_guarded(statements).await?.is_done())
    }

    /// The load of each cluster that has any, by name.
    pub async fn cluster_loads(&self) -> Result<Vec<(String, Load)>, StoreError> {
        let select = format!(
            "SELECT resolved_cluster, status, COUNT(*), {}
             FROM runs WHERE status IN ('QUEUED', 'PENDING', 'RUNNING', 'NEEDS_RETRY') AND status <> 'STOPPED'
             GROUP BY resolved_cluster, status
             ORDER BY resolved_cluster",
            dispatch::RESERVED
        );
        let mut loads: Vec<(String, Load)> = Vec::new();
        for share in self.db.read::<Share>(Builder::new(&select).build()).await? {
            if loads.last().is_none_or(|(cluster, _)| *cluster != share.cluster) {
                loads.push((share.cluster.clone(), Load::default()));
            }
            if let Some((_, load)) = loads.last_mut() {
                add(load, &share);
            }
        }
        Ok(loads)
    }

    /// How many runs wait for the same cluster and come before this one.
    pub async fn queued_before(&self, run: &Run) -> Result<u64, StoreError> {
        let select = Statement::new(
            "SELECT COUNT(*) FROM runs
             WHERE resolved_cluster = $1 AND status = 'QUEUED' AND stop_at IS NULL AND (queued_at, run_id) < ($2, $3)",
            [run.execution.resolved_cluster.as_str().into(), run.queued_at.into(), run.run_id.to_string().into()],
        );
        Ok(self.db.read_one(select).await?.unwrap_or_default())
    }
}

fn add(load: &mut Load, share: &Share) {
    match share.status {
        Status::Queued => load.queued = share.runs,
        Status::NeedsRetry => load.needs_retry = share.runs,
        Status::Pending => load.pending = share.runs,
        Status::Running => load.running = share.runs,
        Status::Stopped => {}
    }
    if matches!(share.status, Status::Pending | Status::Running) {
        load.reserved = load.reserved.plus(share.reserved);
    }
}
