//! What an overview shows. No query here costs more with more history.

use jiff::Timestamp;

use super::row::{FromRow, Row};

use super::statement::{Builder, Statement};
use super::summaries::OF_RUN;
use super::{Store, StoreError};
use crate::model::{EndedRuns, RunSummary, Status};

const HOUR_MICROS: i64 = 3_600_000_000;

impl FromRow for EndedRuns {
    fn from_row(row: &mut Row) -> Result<Self, StoreError> {
        let hour = Timestamp::from_microsecond(row.int()?.saturating_mul(HOUR_MICROS)).unwrap_or(Timestamp::MIN);
        Ok(Self { hour, outcome: row.parsed()?, runs: row.count()? })
    }
}

impl Store {
    /// How many runs ended in each hour that begins at `from` or later, oldest first.
    pub async fn ended_runs(&self, from: Timestamp) -> Result<Vec<EndedRuns>, StoreError> {
        let select = Statement::new(
            "SELECT hour, outcome, CAST(SUM(runs) AS BIGINT) FROM ended_runs
             WHERE hour >= $1 GROUP BY hour, outcome ORDER BY hour, outcome",
            [from.as_microsecond().div_euclid(HOUR_MICROS).into()],
        );
        self.db.read(select).await
    }

    /// The runs that need attention, newest first.
    pub async fn newest_failures(&self, most: u32) -> Result<Vec<RunSummary>, StoreError> {
        // SQLite uses the partial index only if the condition has the index's exact words.
        let mut select = Builder::new(&format!(
            "SELECT {OF_RUN} FROM runs WHERE outcome IN ('failed', 'timed_out', 'lost', 'rejected')
             ORDER BY finished_at DESC, run_id DESC LIMIT "
        ));
        select.bind(most);
        self.db.read(select.build()).await
    }

    /// The runs of a cluster in this status, oldest first.
    pub async fn runs_on(&self, cluster: &str, status: Status, most: u32) -> Result<Vec<RunSummary>, StoreError> {
        let mut select = Builder::new(&format!("SELECT {OF_RUN} FROM runs WHERE resolved_cluster = "));
        select.bind(cluster).push(" AND status = ").bind(status.as_str());
        select.push(" ORDER BY queued_at, run_id LIMIT ").bind(most);
        self.db.read(select.build()).await
    }
}
