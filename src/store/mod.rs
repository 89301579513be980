//! The database: the truth about definitions and runs, and the queue of runs.
//!
//! One [`Store`] over SQLite and PostgreSQL; each statement is written once, next to its function. Every write is
//! durable before its function returns. A run's status changes only in [`Store::apply`] and the few functions beside
//! it, each guarded by the old status.

mod briefs;
mod clusters;
mod db;
mod definitions;
mod dispatch;
mod error;
mod events;
mod kept_time;
mod leases;
mod lists;
mod migrate;
mod overview;
mod ownership;
mod postgres;
mod purpose;
mod queue_depths;
mod row;
mod run_row;
mod runs;
mod sqlite;
mod statement;
mod stops;
mod summaries;
mod text;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

pub use clusters::Endpoint;
use db::Db;
pub use dispatch::{ActiveAttempt, AttemptPlace, Claimant, DueRun};
pub use error::StoreError;
pub use leases::{Holder, Taken};
use purpose::Purpose;
pub use runs::{Launched, LogToPrune};
use statement::Statement;
pub use stops::Orphan;

pub struct Store {
    db: Db,
    /// The epoch of the lease that this server took; 0 if it needs none.
    epoch: Arc<AtomicI64>,
}

impl Store {
    /// Opens the SQLite database in this file, creating it if missing, and brings its schema up to date.
    pub async fn open_sqlite(path: &Path) -> Result<Self, StoreError> {
        let path = path.to_owned();
        let opening = tokio::task::spawn_blocking(move || sqlite::Sqlite::open(&path, migrate::migrate_sqlite));
        let sqlite = opening.await.map_err(|error| StoreError::Other(error.into()))??;
        Ok(Self { db: Db::sqlite(sqlite), epoch: Arc::default() })
    }

    /// Connects to a PostgreSQL database (`postgres://…`) and brings its schema up to date.
    pub async fn open_postgres(url: &str) -> Result<Self, StoreError> {
        let store = Self::connect_postgres(url).await?;
        store.migrate().await?;
        Ok(store)
    }

    /// Like `open_postgres`, but leaves the schema as it is: [`Store::migrate`] must come before anything except
    /// reading the lease.
    pub async fn connect_postgres(url: &str) -> Result<Self, StoreError> {
        let postgres = Box::pin(postgres::Postgres::connect(url)).await?;
        Ok(Self { db: Db::postgres(postgres), epoch: Arc::default() })
    }

    /// Brings the schema up to date. SQLite's is already, since the database was opened.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        match self.db.connect_for_schema().await? {
            Some(connection) => Box::pin(migrate::migrate_postgres(connection)).await,
            None => Ok(()),
        }
    }

    fn epoch(&self) -> i64 {
        self.epoch.load(Ordering::Relaxed)
    }

    fn set_epoch(&self, epoch: i64) {
        self.epoch.store(epoch, Ordering::Relaxed);
    }

    /// The same store with another bound on how long a list may take that scans every row.
    #[must_use]
    pub fn with_search_patience(self, patience: Duration) -> Self {
        Self { db: self.db.with_search_patience(patience), ..self }
    }

    /// The same database for the control loops, which have connections of their own: no number of requests can take
    /// those.
    #[must_use]
    pub fn for_loops(&self) -> Self {
        Self { db: self.db.with_purpose(Purpose::Loops), epoch: Arc::clone(&self.epoch) }
    }

    /// A name that is unique to this database, created when it is first requested.
    pub async fn installation_id(&self) -> Result<String, StoreError> {
        let new = uuid::Uuid::new_v4().to_string();
        let insert = "INSERT INTO installation (singleton, installation_id) VALUES (1, $1) ON CONFLICT DO NOTHING";
        self.db.write(vec![Statement::new(insert, [new.into()])]).await?;
        let found = self.db.read_one(Statement::new("SELECT installation_id FROM installation", [])).await?;
        found.ok_or_else(|| StoreError::Unusable("the database's installation id is missing".to_owned()))
    }

    /// Checks that the database stores what it is sent: rewrites a row unchanged, on a connection of its own.
    pub async fn check_writable(&self) -> Result<(), StoreError> {
        let update = "UPDATE installation SET installation_id = installation_id WHERE singleton = 1";
        self.db.with_purpose(Purpose::Readiness).write(vec![Statement::new(update, [])]).await.map(|_| ())
    }
}
