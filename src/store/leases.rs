//! Leases: rows that record which server may decide, by the database's own clock. The epoch rises each time that a
//! lease changes hands, and every write about attempts and clusters names it: a server that has lost the lease writes
//! nothing, even if it does not know yet.
//!
//! There is one lease for the whole database, since it has one server. On SQLite the file is locked instead.

use std::time::Duration;

use super::row::{FromRow, Row, Written};

use super::statement::Statement;
use super::{Store, StoreError};

/// The name of the one lease.
const SERVER: &str = "server";
/// Microseconds since 1970.
const NOW: &str = "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)";

/// The server that takes a lease.
#[derive(Debug, Clone)]
pub struct Holder {
    /// Stays the same after a restart, and is unique.
    pub id: String,
    /// For operators who want to find the holder.
    pub details: String,
}

/// The result of trying to take a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    Yes {
        epoch: i64,
    },
    /// Another server has it. `until` rises with each renewal.
    No {
        by: String,
        until: i64,
        left: Duration,
    },
}

struct Current {
    details: String,
    until: i64,
    left_micros: i64,
}

impl FromRow for Current {
    fn from_row(row: &mut Row) -> Result<Self, StoreError> {
        Ok(Self { details: row.text()?, until: row.int()?, left_micros: row.int()? })
    }
}

impl Store {
    /// Whether the database has leases: one created by an older version does not until it is migrated.
    pub async fn has_leases(&self) -> Result<bool, StoreError> {
        let select = "SELECT COUNT(*) FROM information_schema.tables
             WHERE table_name = 'leases' AND table_schema = current_schema()";
        Ok(self.db.read_one::<u64>(Statement::new(select, [])).await? > Some(0))
    }

    /// Takes the lease if it has no holder, if it has ended, if its holder takes it again (`is_successor`: the
    /// earlier process with this id is certainly gone), or if it is unchanged since it was last read (`unrenewed`), a
    /// whole lease duration ago by the caller's clock. From then on this store's guarded writes name its epoch.
    pub async fn take_lease(
        &self,
        holder: &Holder,
        valid_for: Duration,
        is_successor: bool,
        unrenewed: Option<i64>,
    ) -> Result<Taken, StoreError> {
        let upsert = format!(
            "INSERT INTO leases (name, holder, details, epoch, expires_at) VALUES ($1, $2, $3, 1, {NOW} + $4)
             ON CONFLICT (name) DO UPDATE
             SET holder = excluded.holder, details = excluded.details, epoch = leases.epoch + 1,
                 expires_at = excluded.expires_at
             WHERE leases.expires_at < {NOW} OR (leases.holder = excluded.holder AND $5 = 1) OR leases.expires_at = $6
             RETURNING epoch"
        );
        let upsert = Statement {
            sql: upsert.into(),
            args: vec![
                SERVER.into(),
                holder.id.as_str().into(),
                holder.details.as_str().into(),
                micros(valid_for).into(),
                is_successor.into(),
                unrenewed.into(),
            ],
            is_required: true,
        };
        if let Written::Done(mut returned) = self.db.write(vec![upsert]).await?
            && let Some(row) = returned.first_mut().and_then(|rows| rows.first_mut())
        {
            let epoch = row.int()?;
            self.set_epoch(epoch);
            return Ok(Taken::Yes { epoch });
        }
        let current = format!("SELECT details, expires_at, expires_at - {NOW} FROM leases WHERE name = $1");
        let current = Statement { sql: current.into(), args: vec![SERVER.into()], is_required: false };
        let current = self.db.read_one::<Current>(current).await?;
        let Current { details, until, left_micros } =
            current.ok_or_else(|| StoreError::Unusable("the lease on the database has been removed".to_owned()))?;
        let left = Duration::from_micros(u64::try_from(left_micros).unwrap_or(0));
        Ok(Taken::No { by: details, until, left })
    }

    /// Extends the lease from now on; `false` if another server has it.
    pub async fn renew_lease(&self, valid_for: Duration) -> Result<bool, StoreError> {
        let update = format!("UPDATE leases SET expires_at = {NOW} + $3 WHERE name = $1 AND epoch = $2");
        let args = vec![SERVER.into(), self.epoch().into(), micros(valid_for).into()];
        let update = Statement { sql: update.into(), args, is_required: true };
        Ok(self.db.write(vec![update]).await?.is_done())
    }

    /// Ends the lease, so that another server need not wait for it. The row stays, because the epoch must not fall.
    pub async fn resign_lease(&self) -> Result<(), StoreError> {
        if self.epoch() == 0 {
            return Ok(());
        }
        let update = "UPDATE leases SET expires_at = 0 WHERE name = $1 AND epoch = $2";
        self.db.write(vec![Statement::new(update, [SERVER.into(), self.epoch().into()])]).await.map(|_| ())
    }

    /// Executes the statements if this server still has the lease; otherwise nothing is written.
    pub(super) async fn write_guarded(&self, mut statements: Vec<Statement>) -> Result<Written, StoreError> {
        let epoch = self.epoch();
        if epoch == 0 {
            return self.db.write(statements).await;
        }
        // Comes last: anything slow before it, such as waiting for a lock, is over by then.
        let guard = "SELECT epoch FROM leases WHERE name = $1 AND epoch = $2";
        statements.push(Statement::new(guard, [SERVER.into(), epoch.into()]).required());
        let mut written = self.db.write(statements).await?;
        if let Written::Done(returned) = &mut written {
            returned.pop();
        }
        Ok(written)
    }
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}
