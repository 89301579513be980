//! Each step of the schema keeps the rows of a database as the program before it left them.

use std::path::{Path, PathBuf};

use flotilla::model::{LaunchRequest, Order, PageRequest, Resources, RunFilter, RunSort, Status, TaskSpec};
use flotilla::store::Store;
use sha2::{Digest, Sha256};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::{definition, now, run, support};

/// The steps of a database, in their order: the name of each and its statements.
fn steps(database: &str) -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(database);
    let mut files: Vec<PathBuf> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let step = |path: &PathBuf| {
        (path.file_stem().unwrap().to_str().unwrap().to_owned(), std::fs::read_to_string(path).unwrap())
    };
    files.iter().map(step).collect()
}

/// All that a program which knew these steps did to an empty database, and the rows it left.
fn history(steps: &[(String, String)]) -> Vec<String> {
    let ledger =
        "CREATE TABLE schema_migrations (version BIGINT PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL)";
    let mut statements = vec![ledger.to_owned()];
    for (index, (name, sql)) in steps.iter().enumerate() {
        let checksum: String = Sha256::digest(sql).iter().map(|byte| format!("{byte:02x}")).collect();
        let version = index + 1;
        statements.push(sql.clone());
        statements.push(format!("INSERT INTO schema_migrations VALUES ({version}, '{name}', '{checksum}')"));
        if index == 0 {
            statements.extend(rows());
        }
    }
    statements
}

/// A definition, a run of it in each status, and what belongs to them, in the columns of the first step.
fn rows() -> Vec<String> {
    let definition = definition("old", TaskSpec { memory_mb: Some(100), gpu: Some(2), ..TaskSpec::default() });
    let micros = now().as_microsecond();
    let task = serde_json::to_string(&definition.task).unwrap().replace('\'', "''");
    let mut statements = vec![format!(
        "INSERT INTO definitions (definition_id, alias, group_name, image, memory_mb, task, task_type, created_at, updated_at)
         VALUES ('tests-old', 'old', 'tests', 'busybox:1', 100, '{task}', 'task', {micros}, {micros})"
    )];
    for (status, ended) in [
        ("QUEUED", "NULL, NULL, NULL, NULL, 0"),
        ("PENDING", "NULL, NULL, NULL, NULL, 0"),
        ("RUNNING", &format!("NULL, {micros}, NULL, NULL, 0")),
        ("NEEDS_RETRY", &format!("NULL, NULL, NULL, {micros}, 0")),
        ("STOPPED", &format!("'failed', {micros}, {micros}, NULL, 1")),
    ] {
        let run = run(&definition, "one", LaunchRequest::default());
        let (run_id, execution) = (run.run_id, serde_json::to_string(&run.execution).unwrap().replace('\'', "''"));
        let attempts = u8::from(status != "QUEUED");
        statements.push(format!(
            "INSERT INTO runs (run_id, definition_id, alias, group_name, image, cluster, resolved_cluster, engine, owner,
                memory_mb, task, execution, status, queued_at, attempt_count, instance_id, instance_dns_name,
                outcome, started_at, finished_at, due_at, is_log_complete)
             VALUES ('{run_id}', 'tests-old', 'old', 'tests', 'busybox:1', 'one', 'one', 'docker', 'unknown',
                100, '{task}', '{execution}', '{status}', {micros}, {attempts}, '', '', {ended})"
        ));
        if attempts > 0 {
            statements.push(format!(
                "INSERT INTO attempts (run_id, attempt, resolved_cluster, node, created_at)
                 VALUES ('{run_id}', 1, 'one', 'old-server', {micros})"
            ));
        }
        statements.push(format!(
            "INSERT INTO events (run_id, timestamp, event_type, reason, source_object, message)
             VALUES ('{run_id}', {micros}, 'Normal', 'Queued', 'flotilla', 'waiting')"
        ));
    }
    statements
}

/// What the rows are to a program of today.
async fn check(store: &Store, steps: usize) {
    let page = PageRequest { limit: 100, offset: 0, sort_by: RunSort::QueuedAt, order: Order::Asc };
    let all = store.list_run_summaries(&RunFilter::default(), page).await.unwrap();
    assert_eq!((all.rows.len(), all.total), (5, 5), "after step {steps}");
    for summary in &all.rows {
        let run = store.run(summary.run_id).await.unwrap().unwrap();
        assert_eq!((run.task.gpu, run.execution.resolved_cluster.as_str()), (Some(2), "one"), "after step {steps}");
        assert_eq!(store.count_events(run.run_id).await.unwrap(), 1);
        assert_eq!(run.is_log_complete, run.status == Status::Stopped);
    }
    let ended = RunFilter { status: vec![Status::Stopped], ..RunFilter::default() };
    assert_eq!(store.list_run_summaries(&ended, page).await.unwrap().total, 1, "after step {steps}");
    let reserved = Resources { memory_mb: Some(200), gpus: Some(4), ..Resources::default() };
    assert_eq!(store.reserved("one").await.unwrap(), (2, reserved), "after step {steps}");
    assert_eq!(store.next_queued("one", 9).await.unwrap()[0].asked.gpus, Some(2), "after step {steps}");
    assert_eq!(store.active_attempts("one").await.unwrap().len(), 4, "after step {steps}");
    assert_eq!(store.runs_to_retry().await.unwrap().len(), 1, "after step {steps}");
    assert_eq!(store.clusters_with_logs().await.unwrap(), ["one"], "after step {steps}");
    assert_eq!(store.newest_failures(9).await.unwrap().len(), 1, "after step {steps}");
    assert!(store.live_definition_by_alias("old").await.unwrap().is_some(), "after step {steps}");
}

#[tokio::test]
async fn each_step_keeps_the_rows_of_a_database_before_it_on_sqlite() {
    let steps = steps("sqlite");
    for known in 1..=steps.len() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("flotilla.db");
        let connection = rusqlite::Connection::open(&path).unwrap();
        for statement in history(&steps[..known]) {
            connection.execute_batch(&statement).unwrap_or_else(|error| panic!("{error}: {statement}"));
        }
        drop(connection);
        check(&Store::open_sqlite(&path).await.unwrap(), known).await;
    }
}

#[tokio::test]
async fn each_step_keeps_the_rows_of_a_database_before_it_on_postgresql() {
    let steps = steps("postgres");
    for known in 1..=steps.len() {
        let Some(url) = support::postgres_url().await else { return };
        let mut connection = PgConnection::connect(&url).await.unwrap();
        for statement in history(&steps[..known]) {
            let executed = sqlx::raw_sql(AssertSqlSafe(statement.clone())).execute(&mut connection).await;
            executed.unwrap_or_else(|error| panic!("{error}: {statement}"));
        }
        connection.close().await.unwrap();
        check(&Store::open_postgres(&url).await.unwrap(), known).await;
    }
}
