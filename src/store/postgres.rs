//! PostgreSQL through a pool of connections; a write is one transaction.

use std::time::Duration;

use sqlx::postgres::{PgArguments, PgConnectOptions, PgConnection, PgPoolOptions, PgRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Column, Connection as _, PgPool, Row as _, TypeInfo};

use super::StoreError;
use super::db::{FromRow, Row, Statement, Value, Written};

/// Connections to the database server, which by default allows 100 in all.
const CONNECTIONS: u32 = 16;
/// How long a request waits for a connection before it is told that the database is unavailable.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the database server may take to let us in at the start.
const FIRST_PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct Postgres {
    pool: PgPool,
}

impl Postgres {
    pub(super) async fn connect(url: &str) -> Result<Self, StoreError> {
        let options: PgConnectOptions = url.parse().map_err(|error: sqlx::Error| {
            let innermost =
                std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source()).last();
            let reason = innermost.map(ToString::to_string).unwrap_or_default();
            StoreError::Unusable(format!("its address can't be understood: {reason}"))
        })?;
        let options = options.application_name("flotilla");
        knock(&options).await?;
        let pool =
            PgPoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(PATIENCE).connect_lazy_with(options);
        Ok(Self { pool })
    }

    pub(super) const fn pool(&self) -> &PgPool {
        &self.pool
    }

    pub(super) async fn write(&self, statements: Vec<Statement>) -> Result<Written, StoreError> {
        let mut tx = self.pool.begin().await?;
        let mut returned = Vec::with_capacity(statements.len());
        for statement in &statements {
            let (rows, touched) = carry_out(&mut tx, statement).await?;
            if statement.is_required && touched == 0 {
                tx.rollback().await?;
                return Ok(Written::Refused);
            }
            returned.push(rows);
        }
        tx.commit().await?;
        Ok(Written::Done(returned))
    }

    pub(super) async fn read<T: FromRow>(&self, statement: Statement) -> Result<Vec<T>, StoreError> {
        let rows = query(&statement).fetch_all(&self.pool).await?;
        rows.iter().map(|row| T::from_row(&mut decode(row)?)).collect()
    }

    pub(super) async fn read_one<T: FromRow>(&self, statement: &Statement) -> Result<Option<T>, StoreError> {
        let row = query(statement).fetch_optional(&self.pool).await?;
        row.map(|row| T::from_row(&mut decode(&row)?)).transpose()
    }
}

/// Makes a connection without the pool, which would try again and again and then not say why it can't.
async fn knock(options: &PgConnectOptions) -> Result<(), StoreError> {
    let knocking = async { PgConnection::connect_with(options).await?.close().await };
    match tokio::time::timeout(FIRST_PATIENCE, knocking).await {
        Ok(Ok(())) => Ok(()),
        // No statement was sent: whatever is there is no PostgreSQL server that lets us in.
        Ok(Err(error)) => match StoreError::from(error) {
            StoreError::Other(reason) => Err(StoreError::Unavailable(reason)),
            error => Err(error),
        },
        Err(_) => {
            let reason = format!("it does not answer within {} s", FIRST_PATIENCE.as_secs());
            Err(StoreError::Unavailable(reason.into()))
        }
    }
}

async fn carry_out(connection: &mut PgConnection, statement: &Statement) -> Result<(Vec<Row>, usize), StoreError> {
    if statement.returns_rows() {
        let rows = query(statement).fetch_all(connection).await?;
        let rows: Vec<Row> = rows.iter().map(decode).collect::<Result<_, _>>()?;
        let touched = rows.len();
        Ok((rows, touched))
    } else {
        let touched = query(statement).execute(connection).await?.rows_affected();
        Ok((Vec::new(), usize::try_from(touched).unwrap_or(usize::MAX)))
    }
}

fn query(statement: &Statement) -> Query<'_, sqlx::Postgres, PgArguments> {
    // Safe: every text is ours, every value is bound.
    let query = sqlx::query(AssertSqlSafe(statement.sql.clone().into_owned()));
    statement.args.iter().fold(query, |query, value| match value {
        Value::Int(value) => query.bind(value),
        Value::Text(value) => query.bind(value.as_deref()),
    })
}

fn decode(row: &PgRow) -> Result<Row, StoreError> {
    let value = |column: usize| match row.column(column).type_info().name() {
        "INT8" => row.try_get(column).map(Value::Int),
        "INT4" => row.try_get::<Option<i32>, _>(column).map(|value| Value::Int(value.map(i64::from))),
        "VOID" => Ok(Value::Int(None)),
        _ => row.try_get(column).map(Value::Text),
    };
    let values = (0..row.len()).map(value).collect::<Result<_, _>>();
    Ok(Row::new(values?))
}
