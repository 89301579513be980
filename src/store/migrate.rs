//! The schema's history: numbered steps, the same for both databases, applied at start and recorded in a ledger.
//!
//! A released step is never edited: the ledger keeps a checksum of each, and a database is refused if its history
//! differs from the program's, or if a newer program has changed it.

use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};
use sha2::{Digest, Sha256};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Row as _};

use super::StoreError;

pub(super) struct Migration {
    version: i64,
    name: &'static str,
    sql: &'static str,
}

/// The steps of one database, by file name.
macro_rules! migrations {
    ($database:literal, $($version:literal $name:literal),+ $(,)?) => {
        &[$(Migration {
            version: $version,
            name: $name,
            sql: include_str!(concat!("../../migrations/", $database, "/", $name, ".sql")),
        }),+]
    };
}

const SQLITE: &[Migration] = migrations!("sqlite", 1 "0001_definitions_and_runs", 2 "0002_clusters", 3 "0003_ended_runs", 4 "0004_outcomes", 5 "0005_queue_depths", 6 "0006_pruned_logs", 7 "0007_kept_time", 8 "0008_stops_and_starts", 9 "0009_engine_identity", 10 "0010_cluster_endpoints", 11 "0011_leases", 12 "0012_logs_since", 13 "0013_gpus");
const POSTGRES: &[Migration] = migrations!("postgres", 1 "0001_definitions_and_runs", 2 "0002_clusters", 3 "0003_ended_runs", 4 "0004_outcomes", 5 "0005_queue_depths", 6 "0006_pruned_logs", 7 "0007_kept_time", 8 "0008_stops_and_starts", 9 "0009_engine_identity", 10 "0010_cluster_endpoints", 11 "0011_leases", 12 "0012_logs_since", 13 "0013_gpus");

const LEDGER: &str = "CREATE TABLE IF NOT EXISTS schema_migrations (
    version BIGINT PRIMARY KEY,
    name TEXT NOT NULL,
    checksum TEXT NOT NULL
)";
const APPLIED: &str = "SELECT version, name, checksum FROM schema_migrations ORDER BY version";
/// How long the database server may take to return the ledger.
const LOOK_PATIENCE: Duration = Duration::from_secs(20);
/// How long all schema changes may take, including the wait for another server that makes them.
const CHANGE_PATIENCE: Duration = Duration::from_hours(1);
/// Any number will do, as long as nothing else in the database uses it.
const POSTGRES_LOCK: i64 = 0x0066_6c6f_7469_6c6c;

struct Applied {
    version: i64,
    name: String,
    checksum: String,
}

pub(super) fn migrate_sqlite(connection: &mut Connection) -> Result<(), StoreError> {
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    tx.execute_batch(LEDGER)?;
    let applied = tx
        .prepare(APPLIED)?
        .query_map([], |row| Ok(Applied { version: row.get(0)?, name: row.get(1)?, checksum: row.get(2)? }))?
        .collect::<Result<Vec<_>, _>>()?;
    let missing = missing(SQLITE, &applied)?;
    for migration in missing {
        tx.execute_batch(migration.sql)?;
        let insert = "INSERT INTO schema_migrations (version, name, checksum) VALUES (?1, ?2, ?3)";
        tx.execute(insert, (migration.version, migration.name, checksum(migration.sql)))?;
    }
    tx.commit()?;
    tell(missing);
    Ok(())
}

/// An up-to-date schema is only checked, which takes a moment; changing a long history may take a while.
pub(super) async fn migrate_postgres(mut connection: PgConnection) -> Result<(), StoreError> {
    let looking = tokio::time::timeout(LOOK_PATIENCE, applied_on_postgres(&mut connection));
    let applied = looking.await.map_err(|_| silent(LOOK_PATIENCE))??;
    if missing(POSTGRES, &applied)?.is_empty() {
        return Ok(());
    }
    let changing = tokio::time::timeout(CHANGE_PATIENCE, change_postgres(&mut connection));
    changing.await.map_err(|_| silent(CHANGE_PATIENCE))?
}

fn silent(patience: Duration) -> StoreError {
    StoreError::Unavailable(format!("the database server did not answer within {} s", patience.as_secs()).into())
}

/// The steps in the ledger; none if there is no ledger yet.
async fn applied_on_postgres(connection: &mut PgConnection) -> Result<Vec<Applied>, StoreError> {
    const UNDEFINED_TABLE: &str = "42P01";
    let rows: Vec<PgRow> = match sqlx::raw_sql(APPLIED).fetch_all(connection).await {
        Ok(rows) => rows,
        Err(error)
            if error.as_database_error().and_then(sqlx::error::DatabaseError::code).as_deref()
                == Some(UNDEFINED_TABLE) =>
        {
            Vec::new()
        }
        Err(error) => return Err(error.into()),
    };
    let applied = |row: &PgRow| -> Result<Applied, sqlx::Error> {
        Ok(Applied { version: row.try_get(0)?, name: row.try_get(1)?, checksum: row.try_get(2)? })
    };
    Ok(rows.iter().map(applied).collect::<Result<_, _>>()?)
}

async fn change_postgres(connection: &mut PgConnection) -> Result<(), StoreError> {
    let begin = "BEGIN; SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0";
    sqlx::raw_sql(begin).execute(&mut *connection).await?;
    // Several servers may start at once: one changes the schema, the others wait and find it changed.
    let lock = format!("SELECT pg_advisory_xact_lock({POSTGRES_LOCK})");
    sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut *connection).await?;
    sqlx::raw_sql(LEDGER).execute(&mut *connection).await?;
    let applied = applied_on_postgres(connection).await?;
    let missing = missing(POSTGRES, &applied)?;
    for migration in missing {
        sqlx::raw_sql(AssertSqlSafe(migration.sql)).execute(&mut *connection).await?;
        // Nothing may be prepared for later use when connected through a pooler.
        sqlx::query("INSERT INTO schema_migrations (version, name, checksum) VALUES ($1, $2, $3)")
            .persistent(false)
            .bind(migration.version)
            .bind(migration.name)
            .bind(checksum(migration.sql))
            .execute(&mut *connection)
            .await?;
    }
    sqlx::raw_sql("COMMIT").execute(&mut *connection).await?;
    tell(missing);
    Ok(())
}

fn tell(done: &[Migration]) {
    for migration in done {
        tracing::info!(migration = migration.name, "the database schema was changed");
    }
}

/// The steps still to apply, or why the database can't be used.
fn missing<'a>(known: &'a [Migration], applied: &[Applied]) -> Result<&'a [Migration], StoreError> {
    for (i, step) in applied.iter().enumerate() {
        match known.get(i) {
            None => {
                let newest = known.last().map_or(0, |migration| migration.version);
                return Err(StoreError::Unusable(format!(
                    "the database was used by a newer flotilla (its schema is at step {}, {}; this program knows {newest}); \
                     run that version, or restore a copy made before the upgrade",
                    step.version, step.name
                )));
            }
            Some(migration) if migration.version != step.version || checksum(migration.sql) != step.checksum => {
                return Err(StoreError::Unusable(format!(
                    "the database has another history than this program expects: step {} is {} there and {} here",
                    step.version, step.name, migration.name
                )));
            }
            Some(_) => {}
        }
    }
    Ok(&known[applied.len()..])
}

fn checksum(sql: &str) -> String {
    Sha256::digest(sql.as_bytes()).iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_databases_have_the_same_steps_in_order() {
        let names = |steps: &[Migration]| steps.iter().map(|step| (step.version, step.name)).collect::<Vec<_>>();
        assert_eq!(names(SQLITE), names(POSTGRES));
        for (i, (version, name)) in names(SQLITE).into_iter().enumerate() {
            assert_eq!(usize::try_from(version), Ok(i + 1));
            assert!(name.starts_with(&format!("{version:04}_")), "{name}");
        }
    }

    #[test]
    fn migrating_twice_changes_nothing() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate_sqlite(&mut connection).unwrap();
        migrate_sqlite(&mut connection).unwrap();
    }

    #[test]
    fn stopped_runs_are_counted_whatever_is_done_to_them() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate_sqlite(&mut connection).unwrap();
        connection.pragma_update(None, "foreign_keys", false).unwrap();
        let insert = |id: &str, alias: Option<&str>, status: &str| {
            let ended = (status == "STOPPED").then_some(1);
            connection.execute(
                "INSERT INTO runs (run_id, definition_id, alias, group_name, image, cluster, resolved_cluster, engine, owner,
                                   task, execution, status, outcome, queued_at, finished_at, attempt_count, instance_id,
                                   instance_dns_name, is_log_complete)
                 VALUES (?1, 'd', ?2, 'g', 'i', 'c', 'c', 'e', 'o', '{}', '{}', ?3, ?4, 1, ?5, 1, '', '', 0)",
                (id, alias, status, ended.map(|_| "failed"), ended),
            )
        };
        let counted = || -> Vec<(Option<String>, i64)> {
            let mut select = connection.prepare("SELECT alias, runs FROM stopped_runs ORDER BY alias").unwrap();
            select.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect()
        };
        for (id, alias, status) in
            [("1", None, "STOPPED"), ("2", None, "QUEUED"), ("3", Some("a"), "STOPPED"), ("4", None, "QUEUED")]
        {
            insert(id, alias, status).unwrap();
        }
        assert_eq!(counted(), [(None, 1), (Some("a".to_owned()), 1)]);
        let stop = "UPDATE runs SET status = 'STOPPED', outcome = 'failed', finished_at = 2 WHERE run_id = '2'";
        connection.execute(stop, []).unwrap();
        connection.execute(stop, []).unwrap();
        connection.execute("UPDATE runs SET is_log_complete = 1, owner = 'o' WHERE run_id = '2'", []).unwrap();
        assert_eq!(counted(), [(None, 2), (Some("a".to_owned()), 1)]);
        for change in [
            "alias = 'b'",
            "owner = 'p'",
            "outcome = 'lost'",
            "status = 'RUNNING', outcome = NULL, finished_at = NULL, started_at = 1",
        ] {
            let error = connection.execute(&format!("UPDATE runs SET {change} WHERE run_id = '2'"), []).unwrap_err();
            assert!(error.to_string().contains("stays what it was"), "{change}: {error}");
        }
        connection.execute("DELETE FROM runs WHERE run_id IN ('1', '4')", []).unwrap();
        assert_eq!(counted(), [(None, 1), (Some("a".to_owned()), 1)]);
    }

    #[test]
    fn runs_that_ended_before_are_counted_by_the_hour_with_those_that_end_later() {
        let connection = Connection::open_in_memory().unwrap();
        let (before, after): (Vec<_>, Vec<_>) = SQLITE.iter().partition(|step| step.name < "0003_ended_runs");
        for step in before {
            connection.execute_batch(step.sql).unwrap();
        }
        connection.pragma_update(None, "foreign_keys", false).unwrap();
        let insert = |id: &str, status: &str, outcome: Option<&str>, finished_at: Option<i64>| {
            connection
                .execute(
                    "INSERT INTO runs (run_id, definition_id, group_name, image, cluster, resolved_cluster, engine, owner,
                                       task, execution, status, outcome, queued_at, finished_at, attempt_count, instance_id,
                                       instance_dns_name, is_log_complete)
                     VALUES (?1, 'd', 'g', 'i', 'c', 'c', 'e', 'o', '{}', '{}', ?2, ?3, 1, ?4, 1, '', '', 0)",
                    (id, status, outcome, finished_at),
                )
                .unwrap();
        };
        let hour = 3_600_000_000;
        insert("1", "STOPPED", Some("failed"), Some(hour - 1));
        insert("2", "STOPPED", Some("succeeded"), Some(hour));
        insert("3", "STOPPED", Some("succeeded"), Some(2 * hour - 1));
        insert("4", "QUEUED", None, None);
        for step in after {
            connection.execute_batch(step.sql).unwrap();
        }
        let stop =
            "UPDATE runs SET status = 'STOPPED', outcome = 'failed', finished_at = 3600000000 WHERE run_id = '4'";
        connection.execute(stop, []).unwrap();
        connection.execute(stop, []).unwrap();
        insert("5", "STOPPED", Some("failed"), Some(hour + 1));
        connection.execute("DELETE FROM runs WHERE run_id = '5'", []).unwrap();
        let mut select =
            connection.prepare("SELECT hour, outcome, runs FROM ended_runs ORDER BY hour, outcome").unwrap();
        let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
        let counted: Vec<(i64, String, i64)> = rows.map(Result::unwrap).collect();
        assert_eq!(counted, [(0, "failed".into(), 1), (1, "failed".into(), 2), (1, "succeeded".into(), 2)]);
        let mut select = connection.prepare("SELECT outcome, runs FROM stopped_runs ORDER BY outcome").unwrap();
        let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        let counted: Vec<(String, i64)> = rows.map(Result::unwrap).collect();
        assert_eq!(counted, [("failed".into(), 2), ("succeeded".into(), 2)], "but for the one that was deleted");
    }

    #[test]
    fn a_database_of_a_newer_program_is_refused_and_told_apart_from_an_edited_one() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate_sqlite(&mut connection).unwrap();
        connection.execute("INSERT INTO schema_migrations VALUES (99, '0099_later', 'x')", []).unwrap();
        let newer = migrate_sqlite(&mut connection).unwrap_err().to_string();
        assert!(newer.contains("newer flotilla (its schema is at step 99, 0099_later; this program knows"), "{newer}");

        connection.execute("DELETE FROM schema_migrations WHERE version = 99", []).unwrap();
        connection.execute("UPDATE schema_migrations SET checksum = 'x'", []).unwrap();
        let edited = migrate_sqlite(&mut connection).unwrap_err().to_string();
        assert!(edited.contains("another history"), "{edited}");
    }
}
