//! PostgreSQL: a write is one transaction, and each kind of work has connections of its own.
//!
//! ```text
//! statement → lane (a few connections for one kind of work) → session → one of the servers that the address names
//! ```
//!
//! Everything has a bound here, in addition to those that the server is asked to enforce: a server or a network that
//! has fallen silent does not report it.

mod address;
mod connect;
mod lane;
mod session;

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnection;
use tokio::time::{Instant, timeout};

use super::StoreError;
use super::purpose::Purpose;
use super::row::{FromRow, Written};
use super::statement::Statement;
use connect::Connector;
use lane::{Lane, Lease};
use session::{Patience, STATEMENT_PATIENCE, decode};

/// Connections for each kind of work, 16 in all: the database server allows 100 by default.
const FOR_REQUESTS: usize = 6;
const FOR_LOOPS: usize = 6;
const FOR_SEARCHES: usize = 3;
const FOR_READINESS: usize = 1;
/// How much later than the server we give up on a write or a look-up, which may consist of several statements.
const SLACK: Duration = Duration::from_secs(5);
/// The same for a search, which is one statement.
const SEARCH_SLACK: Duration = Duration::from_secs(1);

pub(super) struct Postgres {
    connector: Arc<Connector>,
    requests: Lane,
    loops: Lane,
    searches: Lane,
    readiness: Lane,
}

impl Postgres {
    /// Connects once, to check that the address can be used.
    pub(super) async fn connect(url: &str) -> Result<Self, StoreError> {
        let connector = Arc::new(Connector::new(url)?);
        let lane = |places| Lane::new(Arc::clone(&connector), places);
        let (requests, loops) = (lane(FOR_REQUESTS), lane(FOR_LOOPS));
        let (searches, readiness) = (lane(FOR_SEARCHES), lane(FOR_READINESS));
        match requests.take(None).await {
            Ok(lease) => lease.give_back(),
            // No statement was sent: at this address is no PostgreSQL server that accepts our connection.
            Err(StoreError::Other(reason)) => return Err(StoreError::Unavailable(reason)),
            Err(error) => return Err(error),
        }
        Ok(Self { connector, requests, loops, searches, readiness })
    }

    pub(super) async fn write(&self, purpose: Purpose, statements: &[Statement]) -> Result<Written, StoreError> {
        let mut lease = self.lane(purpose).take(None).await?;
        let written = within(STATEMENT_PATIENCE + SLACK, lease.session().write(statements)).await;
        end(lease, written).await
    }

    pub(super) async fn read<T: FromRow>(&self, purpose: Purpose, statement: &Statement) -> Result<Vec<T>, StoreError> {
        let mut lease = self.lane(purpose).take(None).await?;
        let reading = lease.session().read(statement, Patience::OfSession);
        let rows = within(STATEMENT_PATIENCE + SLACK, reading).await;
        let rows = end(lease, rows).await?;
        rows.iter().map(|row| T::from_row(&mut decode(row)?)).collect()
    }

    /// Like `read`, for a statement that may scan every row. The wait for it ends at `until`.
    pub(super) async fn search<T: FromRow>(&self, statement: &Statement, until: Instant) -> Result<Vec<T>, StoreError> {
        let too_long = |what: &str| StoreError::TookTooLong(what.into());
        let mut lease = match self.searches.take(Some(until)).await {
            Err(StoreError::Unavailable(_)) if Instant::now() >= until => {
                return Err(too_long("too many other searches are running"));
            }
            lease => lease?,
        };
        let left = until.saturating_duration_since(Instant::now());
        let reading = lease.session().read(statement, Patience::Of(left));
        let Ok(rows) = timeout(left + SEARCH_SLACK, reading).await else {
            return Err(too_long("the database server did not answer"));
        };
        let rows = end(lease, rows).await?;
        rows.iter().map(|row| T::from_row(&mut decode(row)?)).collect()
    }

    /// A connection outside all lanes, for changes of the schema.
    pub(super) async fn connect_for_schema(&self) -> Result<PgConnection, StoreError> {
        Ok(Box::pin(self.connector.connect()).await?.into_connection())
    }

    const fn lane(&self, purpose: Purpose) -> &Lane {
        match purpose {
            Purpose::Requests => &self.requests,
            Purpose::Loops => &self.loops,
            Purpose::Readiness => &self.readiness,
        }
    }
}

async fn within<T>(bound: Duration, work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    timeout(bound, work).await.unwrap_or_else(|_| {
        let reason = format!("the database server did not answer within {} s", bound.as_secs());
        Err(StoreError::Unavailable(reason.into()))
    })
}

/// Returns the connection if it can be used again, and closes it if that is not certain.
async fn end<T>(mut lease: Lease<'_>, result: Result<T, StoreError>) -> Result<T, StoreError> {
    match &result {
        Ok(_) => lease.give_back(),
        // The server reported this itself: the connection works once its transaction is ended.
        Err(StoreError::Duplicate(_) | StoreError::TookTooLong(_)) => {
            if within(SLACK, lease.session().roll_back()).await.is_ok() {
                lease.give_back();
            }
        }
        Err(_) => drop(lease),
    }
    result
}
