//! How long queues were.

use jiff::Timestamp;

use super::row::{FromRow, Row};

use super::statement::{Builder, Statement};
use super::{Store, StoreError};
use crate::model::QueueDepth;

/// Longer than the history that any page shows, by the kept time.
const KEPT_MICROS: i64 = 15 * 24 * 3_600_000_000;

impl FromRow for QueueDepth {
    fn from_row(row: &mut Row) -> Result<Self, StoreError> {
        Ok(Self { from: row.time()?, waiting: row.count()? })
    }
}

impl Store {
    /// How many runs wait for a cluster now.
    pub async fn waiting_for(&self, cluster: &str) -> Result<u64, StoreError> {
        let select = "SELECT COUNT(*) FROM runs WHERE resolved_cluster = $1 AND status IN ('QUEUED', 'NEEDS_RETRY')";
        let count = self.db.read_one(Statement::new(select, [cluster.into()])).await?;
        Ok(count.unwrap_or_default())
    }

    /// Stores how many runs were observed waiting for a cluster, unless more were observed in the same interval.
    /// Deletes what is too old to be shown.
    pub async fn note_queue_depth(&self, cluster: &str, seen: QueueDepth) -> Result<(), StoreError> {
        let waiting = i64::try_from(seen.waiting).unwrap_or(i64::MAX);
        let insert = Statement::new(
            "INSERT INTO queue_depths (from_time, resolved_cluster, waiting)
             VALUES ($1, $2, $3)
             ON CONFLICT (from_time, resolved_cluster) DO UPDATE SET waiting = excluded.waiting
             WHERE excluded.waiting > queue_depths.waiting",
            [seen.from.into(), cluster.into(), waiting.into()],
        );
        let delete = Statement::new(
            "DELETE FROM queue_depths WHERE from_time < (SELECT time FROM kept_time WHERE singleton = 1) - $1",
            [KEPT_MICROS.into()],
        );
        self.db.write(vec![insert, delete]).await.map(|_| ())
    }

    /// How many runs waited since `from`, for one cluster or for all together, oldest first. Intervals in which none
    /// was observed waiting are left out.
    pub async fn queue_depths(&self, cluster: Option<&str>, from: Timestamp) -> Result<Vec<QueueDepth>, StoreError> {
        let mut select =
            Builder::new("SELECT from_time, CAST(SUM(waiting) AS BIGINT) FROM queue_depths WHERE from_time >= ");
        select.bind(from);
        if let Some(cluster) = cluster {
            select.push(" AND resolved_cluster = ").bind(cluster);
        }
        select.push(" GROUP BY from_time ORDER BY from_time");
        self.db.read(select.build()).await
    }
}
