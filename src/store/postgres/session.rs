//! One connection to PostgreSQL, and the operations on it.
//!
//! A pooler such as `PgBouncer` may assign each transaction to a different server connection. Through one, we
//! therefore use nothing that a session keeps for later: no prepared statements, no settings, and each statement is
//! in a transaction.

use std::time::Duration;

use sqlx::postgres::{PgArguments, PgConnection, PgRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Column, Connection as _, Row as _, TypeInfo};
use tokio::time::Instant;

use super::super::row::{Row, Written};

use super::super::statement::{Statement, Value};
use super::StoreError;

/// How long the server waits for the next statement of a transaction before it ends it, and so releases the locks of
/// a client that is gone.
const IDLE_IN_TRANSACTION: Duration = Duration::from_secs(5);

pub(super) struct Session {
    connection: PgConnection,
    /// Whether nothing between us and the server switches connections.
    is_direct: bool,
    pub(super) opened_at: Instant,
}

/// How a statement is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    /// Prepared once for each session.
    Prepared,
    /// Parsed each time, because another server connection may serve the next transaction.
    Once,
}

impl Session {
    pub(super) fn new(connection: PgConnection, is_direct: bool) -> Self {
        Self { connection, is_direct, opened_at: Instant::now() }
    }

    pub(super) fn into_connection(self) -> PgConnection {
        self.connection
    }

    /// The rows of one statement. The server gives up on it after `patience`.
    pub(super) async fn read(&mut self, statement: &Statement, patience: Patience) -> Result<Vec<PgRow>, StoreError> {
        if self.is_direct && patience == Patience::OfSession {
            return Ok(self.query(statement).fetch_all(&mut self.connection).await?);
        }
        self.begin(patience).await?;
        let rows = self.query(statement).fetch_all(&mut self.connection).await?;
        self.execute("COMMIT").await?;
        Ok(rows)
    }

    /// Executes the statements in one transaction.
    pub(super) async fn write(&mut self, statements: &[Statement]) -> Result<Written, StoreError> {
        // One statement is a transaction by itself, and one that affects no row has changed none.
        let is_single = self.is_direct && statements.len() == 1;
        if !is_single {
            self.begin(Patience::OfSession).await?;
        }
        let mut returned = Vec::with_capacity(statements.len());
        for statement in statements {
            let (rows, touched) = self.carry_out(statement).await?;
            if statement.is_required && touched == 0 {
                if !is_single {
                    self.execute("ROLLBACK").await?;
                }
                return Ok(Written::Refused);
            }
            returned.push(rows);
        }
        if !is_single {
            self.execute("COMMIT").await?;
        }
        Ok(Written::Done(returned))
    }

    async fn carry_out(&mut self, statement: &Statement) -> Result<(Vec<Row>, usize), StoreError> {
        let query = self.query(statement);
        if statement.returns_rows() {
            let rows = query.fetch_all(&mut self.connection).await?;
            let rows: Vec<Row> = rows.iter().map(decode).collect::<Result<_, _>>()?;
            let touched = rows.len();
            Ok((rows, touched))
        } else {
            let touched = query.execute(&mut self.connection).await?.rows_affected();
            Ok((Vec::new(), usize::try_from(touched).unwrap_or(usize::MAX)))
        }
    }

    /// Ends a transaction that failed, so that the session can be used again.
    pub(super) async fn roll_back(&mut self) -> Result<(), StoreError> {
        self.execute("ROLLBACK").await
    }

    /// Whether the server still answers.
    pub(super) async fn ping(&mut self) -> bool {
        self.connection.ping().await.is_ok()
    }

    async fn begin(&mut self, patience: Patience) -> Result<(), StoreError> {
        let limit = match patience {
            Patience::OfSession if self.is_direct => return self.execute("BEGIN").await,
            Patience::OfSession => STATEMENT_PATIENCE,
            Patience::Of(limit) => limit,
        };
        self.execute(&format!(
            "BEGIN; SET LOCAL statement_timeout = {}; SET LOCAL idle_in_transaction_session_timeout = {}",
            limit.as_millis().max(1),
            IDLE_IN_TRANSACTION.as_millis()
        ))
        .await
    }

    async fn execute(&mut self, sql: &str) -> Result<(), StoreError> {
        execute(&mut self.connection, sql).await
    }

    fn query<'q>(&self, statement: &'q Statement) -> Query<'q, sqlx::Postgres, PgArguments> {
        let sent = if self.is_direct { Sent::Prepared } else { Sent::Once };
        // Safe: the SQL text is always ours, and every value is bound.
        let query = sqlx::query(AssertSqlSafe(statement.sql.clone().into_owned())).persistent(sent == Sent::Prepared);
        statement.args.iter().fold(query, |query, value| match value {
            Value::Int(value) => query.bind(value),
            Value::Text(value) => query.bind(value.as_ref().map(super::super::text::Text::as_str)),
        })
    }
}

/// How long the server may work on one statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// [`STATEMENT_PATIENCE`], set when the session began.
    OfSession,
    Of(Duration),
}

/// How long the server works on a statement that is not a search before it gives up.
pub(super) const STATEMENT_PATIENCE: Duration = Duration::from_secs(10);

/// The settings of a direct session: bounds on statements and transactions that hold even if the client is frozen or
/// gone. Settings that the server does not know are left out.
pub(super) async fn set_up(connection: &mut PgConnection) -> Result<(), StoreError> {
    let settings = [
        ("statement_timeout", STATEMENT_PATIENCE.as_millis()),
        ("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION.as_millis()),
        ("client_connection_check_interval", 1000),
        ("tcp_keepalives_idle", 30),
        ("tcp_keepalives_interval", 10),
        ("tcp_keepalives_count", 3),
    ];
    let settings: Vec<_> = settings.iter().map(|(name, value)| format!("('{name}', '{value}')")).collect();
    let sql = format!(
        "SELECT set_config(wanted.name, wanted.setting, false) FROM (VALUES {}) AS wanted (name, setting)
         JOIN pg_settings ON pg_settings.name = wanted.name",
        settings.join(", ")
    );
    execute(connection, &sql).await
}

/// Statements without values, in the simple protocol.
pub(super) async fn execute(connection: &mut PgConnection, sql: &str) -> Result<(), StoreError> {
    // Safe: the SQL text is always ours.
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await?;
    Ok(())
}

/// The first column of the single row that a statement without values returns.
pub(super) async fn look_up(connection: &mut PgConnection, sql: &'static str) -> Result<Option<String>, StoreError> {
    Ok(sqlx::raw_sql(sql).fetch_one(connection).await?.try_get(0)?)
}

pub(super) fn decode(row: &PgRow) -> Result<Row, StoreError> {
    let value = |column: usize| match row.column(column).type_info().name() {
        "INT8" => row.try_get(column).map(Value::Int),
        "INT4" => row.try_get::<Option<i32>, _>(column).map(|value| Value::Int(value.map(i64::from))),
        "VOID" => Ok(Value::Int(None)),
        _ => row.try_get::<Option<String>, _>(column).map(Value::stored),
    };
    let values = (0..row.len()).map(value).collect::<Result<_, _>>();
    Ok(Row::new(values?))
}
