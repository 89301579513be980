//! New connections: to the server that accepts writes, with a bound on how long each server may take to answer.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _};

use super::StoreError;
use super::address::{self, Server};
use super::session::{Session, execute, look_up, set_up};

/// How long one server may take to accept a connection.
const PATIENCE: Duration = Duration::from_secs(5);
/// A setting that only a direct session keeps, which distinguishes it from a pooler's.
const MARK: &str = "flotilla.session";
const IS_MARKED: &str = "SELECT current_setting('flotilla.session', true)";

pub(super) struct Connector {
    places: Vec<Place>,
    /// The server that accepted writes last is tried first.
    newest: AtomicUsize,
}

struct Place {
    server: Server,
    /// Whether we are connected to a server directly and not to a pooler, once that is known.
    is_direct: OnceLock<bool>,
}

impl Connector {
    pub(super) fn new(url: &str) -> Result<Self, StoreError> {
        let places = address::servers(url)?
            .into_iter()
            .map(|Server { name, options }| {
                // Poolers refuse settings that they don't know, and we read no fractions.
                let options = options.application_name("flotilla").extra_float_digits(None).disable_statement_logging();
                Place { server: Server { name, options }, is_direct: OnceLock::new() }
            })
            .collect();
        Ok(Self { places, newest: AtomicUsize::new(0) })
    }

    /// A session with the first server that accepts writes.
    pub(super) async fn connect(&self) -> Result<Session, StoreError> {
        let newest = self.newest.load(Ordering::Relaxed);
        let mut reasons = Vec::new();
        for i in 0..self.places.len() {
            let index = (newest + i) % self.places.len();
            let place = &self.places[index];
            let connecting = tokio::time::timeout(PATIENCE, place.connect());
            let error = match connecting.await {
                Ok(Ok(session)) => {
                    self.newest.store(index, Ordering::Relaxed);
                    return Ok(session);
                }
                Ok(Err(StoreError::Unusable(reason))) => return Err(StoreError::Unusable(reason)),
                Ok(Err(error)) => reason_of(&error),
                Err(_) => format!("it does not answer within {} s", PATIENCE.as_secs()),
            };
            reasons.push((place.server.name.as_str(), error));
        }
        let reason = match &reasons[..] {
            [(_, reason)] => reason.clone(),
            reasons => reasons.iter().map(|(name, reason)| format!("{name}: {reason}")).collect::<Vec<_>>().join("; "),
        };
        Err(StoreError::Unavailable(reason.into()))
    }
}

/// The text of the innermost error.
fn reason_of(error: &StoreError) -> String {
    let errors = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    errors.last().map(ToString::to_string).unwrap_or_default()
}

impl Place {
    async fn connect(&self) -> Result<Session, StoreError> {
        let (mut connection, is_direct) = match self.is_direct.get() {
            Some(true) => (PgConnection::connect_with(&self.server.options).await?, true),
            Some(false) => (PgConnection::connect_with(&of_pooler(&self.server.options)).await?, false),
            None => self.connect_first().await?,
        };
        if is_direct && let Err(error) = set_up(&mut connection).await {
            // Every statement has a bound on the client's side too.
            tracing::debug!(error = &error as &dyn std::error::Error, "the database server refused a setting");
        }
        // A standby, or a server whose administrator made it read-only.
        match look_up(&mut connection, "SHOW transaction_read_only").await?.as_deref() {
            Some("off") => Ok(Session::new(connection, is_direct)),
            _ => Err(StoreError::Unavailable("the database server is read-only".into())),
        }
    }

    /// Detects a pooler in between: a pooler refuses or drops a setting that it does not know.
    async fn connect_first(&self) -> Result<(PgConnection, bool), StoreError> {
        let marked = self.server.options.clone().options([(MARK, "own")]);
        let (mut connection, is_direct) = match PgConnection::connect_with(&marked).await {
            Ok(mut connection) => {
                let is_marked = look_up(&mut connection, IS_MARKED).await?.as_deref() == Some("own");
                (connection, is_marked)
            }
            Err(error) if is_refused_parameter(&error) => {
                (PgConnection::connect_with(&of_pooler(&self.server.options)).await?, false)
            }
            Err(error) => return Err(error.into()),
        };
        if !is_direct {
            begin(&mut connection).await?;
            tracing::info!(server = self.server.name, "the database is reached through a connection pooler");
        }
        // Only the first connection determines this; others that connect now get the same result.
        let _ = self.is_direct.set(is_direct);
        Ok((connection, is_direct))
    }
}

/// A pooler that shares its connections by statement can't be used: a write is several statements that belong
/// together.
async fn begin(connection: &mut PgConnection) -> Result<(), StoreError> {
    let began = execute(connection, "BEGIN").await;
    match began.as_ref().map_err(reason_of) {
        Err(reason) if reason.contains("statement pooling") => Err(StoreError::Unusable(format!(
            "the connection pooler shares its connections by statement ({reason}); let it pool by transaction or by session \
             (in PgBouncer `pool_mode = transaction`), or name the database server itself"
        ))),
        Err(_) => began,
        Ok(()) => execute(connection, "ROLLBACK").await,
    }
}

/// "unsupported startup parameter", a protocol violation.
fn is_refused_parameter(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| {
        error.code().is_some_and(|code| code == "08P01" || code == "0A000")
            || error.message().contains("startup parameter")
    })
}

fn of_pooler(options: &PgConnectOptions) -> PgConnectOptions {
    options.clone().statement_cache_capacity(0)
}
