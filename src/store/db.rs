//! The interface between the statements, written once, and the two databases.
//!
//! A write is a short list of statements that take effect together or not at all. It can't use the rows of one
//! statement to decide the next, so each statement says in its own `WHERE` when it applies.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::StoreError;
use super::postgres::Postgres;
use super::purpose::Purpose;
use super::row::{FromRow, Written};
use super::sqlite::Sqlite;
use super::statement::Statement;

/// How long a search may take by default.
const SEARCH_PATIENCE: Duration = Duration::from_secs(10);

/// The database, for one purpose. Clones share it.
#[derive(Clone)]
pub(super) struct Db {
    backend: Arc<Backend>,
    purpose: Purpose,
    search_patience: Duration,
}

#[expect(clippy::large_enum_variant, reason = "there is one in a process")]
enum Backend {
    Sqlite(Sqlite),
    Postgres(Postgres),
}

impl Db {
    pub(super) fn sqlite(sqlite: Sqlite) -> Self {
        Self::new(Backend::Sqlite(sqlite))
    }

    pub(super) fn postgres(postgres: Postgres) -> Self {
        Self::new(Backend::Postgres(postgres))
    }

    fn new(backend: Backend) -> Self {
        Self { backend: Arc::new(backend), purpose: Purpose::Requests, search_patience: SEARCH_PATIENCE }
    }

    pub(super) fn with_purpose(&self, purpose: Purpose) -> Self {
        Self { purpose, ..self.clone() }
    }

    pub(super) fn with_search_patience(self, search_patience: Duration) -> Self {
        Self { search_patience, ..self }
    }

    /// A separate connection for changing the schema, unless the schema was updated when the database was opened.
    pub(super) async fn connect_for_schema(&self) -> Result<Option<sqlx::PgConnection>, StoreError> {
        match &*self.backend {
            Backend::Sqlite(_) => Ok(None),
            Backend::Postgres(db) => db.connect_for_schema().await.map(Some),
        }
    }

    /// Executes the statements in one transaction, and returns when it is durable.
    pub(super) async fn write(&self, statements: Vec<Statement>) -> Result<Written, StoreError> {
        match &*self.backend {
            Backend::Sqlite(db) => db.write(statements).await,
            // Boxed, as below: it keeps the futures of all callers small.
            Backend::Postgres(db) => Box::pin(db.write(self.purpose, &statements)).await,
        }
    }

    pub(super) async fn read<T: FromRow + Send + 'static>(&self, statement: Statement) -> Result<Vec<T>, StoreError> {
        match &*self.backend {
            Backend::Sqlite(db) => db.read(self.purpose, statement).await,
            Backend::Postgres(db) => Box::pin(db.read(self.purpose, &statement)).await,
        }
    }

    /// At most one row, found by a key: quick enough to be read inline.
    pub(super) async fn read_one<T: FromRow>(&self, statement: Statement) -> Result<Option<T>, StoreError> {
        match &*self.backend {
            Backend::Sqlite(db) => db.read_one(self.purpose, &statement).await,
            Backend::Postgres(db) => Ok(Box::pin(db.read(self.purpose, &statement)).await?.into_iter().next()),
        }
    }

    /// The rows of a statement that may scan every row, on connections reserved for searches.
    /// [`StoreError::TookTooLong`] after `until`.
    pub(super) async fn search<T: FromRow + Send + 'static>(
        &self,
        statement: Statement,
        until: Instant,
    ) -> Result<Vec<T>, StoreError> {
        match &*self.backend {
            Backend::Sqlite(db) => db.search(statement, until).await,
            Backend::Postgres(db) => Box::pin(db.search(&statement, until)).await,
        }
    }

    /// A search if it has a deadline, otherwise a read.
    pub(super) async fn list<T: FromRow + Send + 'static>(
        &self,
        statement: Statement,
        until: Option<Instant>,
    ) -> Result<Vec<T>, StoreError> {
        match until {
            Some(until) => self.search(statement, until).await,
            None => self.read(statement).await,
        }
    }

    /// The deadline of a search that begins now.
    pub(super) fn search_deadline(&self) -> Instant {
        Instant::now() + self.search_patience
    }

    /// The SQL function of each database that finds one text in another and counts positions from 1.
    pub(super) fn position_function(&self) -> &'static str {
        if self.is_postgres() { "strpos" } else { "instr" }
    }

    /// A field of a JSON column, as JSON, in each database's syntax.
    pub(super) fn json_field(&self, column: &str, field: &str) -> String {
        match self.is_postgres() {
            true => format!("CAST(CAST({column} AS json) -> '{field}' AS text)"),
            false => format!("({column} -> '{field}')"),
        }
    }

    pub(super) fn is_postgres(&self) -> bool {
        matches!(*self.backend, Backend::Postgres(_))
    }
}
