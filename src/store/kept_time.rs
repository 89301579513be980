//! The time by which logs and keys expire: see `model::next_kept_time`.

use std::time::Duration;

use jiff::Timestamp;

use super::row::{FromRow, Row};

use super::statement::Statement;
use super::{Store, StoreError};
use crate::model::next_kept_time;

/// In SQL, the later of a time and the kept time: the start of the age of something whose own time came from a clock
/// that may be wrong.
macro_rules! no_earlier_than_kept {
    ($time:literal) => {
        concat!(
            "(SELECT MAX(t) FROM (SELECT time AS t FROM kept_time WHERE singleton = 1 UNION ALL SELECT CAST(",
            $time,
            " AS BIGINT)) AS times)"
        )
    };
}
pub(super) use no_earlier_than_kept;

struct Time(Timestamp);

impl FromRow for Time {
    fn from_row(row: &mut Row) -> Result<Self, StoreError> {
        row.time().map(Self)
    }
}

impl Store {
    /// The time by which logs and keys expire; `None` if no server has stored any yet.
    pub async fn kept_time(&self) -> Result<Option<Timestamp>, StoreError> {
        let select = Statement::new("SELECT time FROM kept_time WHERE singleton = 1", []);
        Ok(self.db.read_one::<Time>(select).await?.map(|time| time.0))
    }

    /// Advances the kept time by the `passed` time since it was last stored. Returns the new kept time, and the
    /// clock's time that was used: the earlier of this machine's and the database server's.
    pub async fn keep_time(&self, clock: Timestamp, passed: Duration) -> Result<(Timestamp, Timestamp), StoreError> {
        let clock = self.database_clock().await?.map_or(clock, |database| database.min(clock));
        let kept = match self.kept_time().await? {
            Some(kept) => next_kept_time(kept, clock, passed),
            None => clock,
        };
        // Another server of the database may have been quicker.
        let upsert = "INSERT INTO kept_time (singleton, time) VALUES (1, $1)
                      ON CONFLICT (singleton) DO UPDATE SET time = excluded.time WHERE excluded.time > kept_time.time";
        self.db.write(vec![Statement::new(upsert, [kept.into()])]).await?;
        Ok((kept, clock))
    }

    /// The current time of the database server's clock, if there is a database server.
    async fn database_clock(&self) -> Result<Option<Timestamp>, StoreError> {
        if !self.db.is_postgres() {
            return Ok(None);
        }
        let select = "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)";
        Ok(self.db.read_one::<Time>(Statement::new(select, [])).await?.map(|time| time.0))
    }
}
