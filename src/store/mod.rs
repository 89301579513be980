//! The database: the truth about definitions and runs, and the queue of what is to be run.
//!
//! One [`Store`] over SQLite and PostgreSQL; each statement stands once, next to its function. Every write is durable
//! before its function returns. A run's status changes only in [`Store::apply`] and the few functions beside it, each
//! guarded by the old status.

mod briefs;
mod clusters;
mod db;
mod definitions;
mod dispatch;
mod error;
mod events;
mod migrate;
mod overview;
mod postgres;
mod queue_depths;
mod runs;
mod sqlite;

use std::path::Path;

use db::{Db, Statement};
pub use dispatch::{ActiveAttempt, QueuedRun, Reserved};
pub use error::StoreError;
pub use runs::{Launched, LogToPrune};

pub struct Store {
    db: Db,
}

impl Store {
    /// Opens the SQLite database in this file, making it where it is missing, and brings its schema up to date.
    pub async fn open_sqlite(path: &Path) -> Result<Self, StoreError> {
        let path = path.to_owned();
        let opening = tokio::task::spawn_blocking(move || sqlite::Sqlite::open(&path, migrate::migrate_sqlite));
        let sqlite = opening.await.map_err(|error| StoreError::Other(error.into()))??;
        Ok(Self { db: Db::Sqlite(sqlite) })
    }

    /// Connects to a PostgreSQL database (`postgres://…`) and brings its schema up to date.
    pub async fn open_postgres(url: &str) -> Result<Self, StoreError> {
        let postgres = postgres::Postgres::connect(url).await?;
        migrate::migrate_postgres(postgres.pool()).await?;
        Ok(Self { db: Db::Postgres(postgres) })
    }

    /// A name that no other database has, made when it is first asked for.
    pub async fn installation_id(&self) -> Result<String, StoreError> {
        let new = uuid::Uuid::new_v4().to_string();
        let insert = "INSERT INTO installation (singleton, installation_id) VALUES (1, $1) ON CONFLICT DO NOTHING";
        self.db.write(vec![Statement::new(insert, [new.into()])]).await?;
        let found = self.db.read_one(Statement::new("SELECT installation_id FROM installation", [])).await?;
        found.ok_or_else(|| StoreError::Unusable("the database has lost the row that names it".to_owned()))
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.db.read_one::<u64>(Statement::new("SELECT CAST(1 AS BIGINT)", [])).await.map(|_| ())
    }
}
