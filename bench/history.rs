//! A page of history where there is little of it against one where there is much, on SQLite.
//!
//! The rows are copies of one real run, written straight into the database, spread over definitions, clusters and
//! owners.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, reason = "a program for people to read")]

mod support;

use std::time::Instant;

use anyhow::Result;
use rusqlite::Connection as Sqlite;

use support::{Connection, LOCAL, Samples, Server, folder, heading, number, report, tell_load, wait_until};

const DEFINITIONS: u32 = 100;

fn main() -> Result<()> {
    let (few, many) = (number(0, 10_000)?, number(1, 1_000_000)?);
    let rounds = number(2, 21)?;
    tell_load()?;
    let folders = [folder()?, folder()?];
    let mut servers = Vec::new();
    for (folder, rows) in folders.iter().zip([few, many]) {
        servers.push(fill(folder.path(), rows)?);
    }
    let mut connections = servers.iter().map(Server::connect).collect::<Result<Vec<_>>>()?;
    heading(&format!("a page of 50, {many} rows (of raw: of {few} rows)"));
    for (name, query) in [
        ("all", "limit=50"),
        ("all, oldest first", "limit=50&order=asc"),
        ("all, second page", "limit=50&offset=50"),
        ("all, by started_at", "limit=50&sort_by=started_at"),
        ("all, by finished_at", "limit=50&sort_by=finished_at"),
        ("STOPPED", "limit=50&status=STOPPED"),
        ("RUNNING", "limit=50&status=RUNNING"),
        ("STOPPED or RUNNING", "limit=50&status=STOPPED&status=RUNNING"),
        ("of a definition", "limit=50&definition_id=bench-7"),
        ("of a definition, STOPPED", "limit=50&definition_id=bench-7&status=STOPPED"),
        ("of a definition, RUNNING", "limit=50&definition_id=bench-7&status=RUNNING"),
        ("of two definitions", "limit=50&definition_id=bench-7&definition_id=bench-8"),
        ("of a definition, by started_at", "limit=50&definition_id=bench-7&sort_by=started_at"),
        ("of an alias", "limit=50&alias=task-7"),
        ("of a cluster", "limit=50&cluster_name=cluster-1"),
        ("of a cluster, STOPPED", "limit=50&cluster_name=cluster-1&status=STOPPED"),
        ("of an owner", "limit=50&user=owner-3"),
        ("of a group", "limit=50&group_name=bench"),
        ("of an owner, in a cluster", "limit=50&user=owner-3&cluster_name=cluster-1"),
    ] {
        let [mut of_few, mut of_many] = std::array::from_fn(|_| Samples::default());
        for _ in 0..rounds {
            let path = format!("/api/v1/history?{query}");
            of_few.add_time(page(&mut connections[0], &path)?);
            of_many.add_time(page(&mut connections[1], &path)?);
        }
        report(name, &of_many, &of_few);
    }
    heading(&format!("a page for people, {many} rows (of raw: of {few} rows)"));
    for (name, path) in
        [("100 tasks", "/ui/tasks?limit=100"), ("100 runs", "/ui/runs?limit=100"), ("a task", "/ui/tasks/bench-7")]
    {
        let [mut of_few, mut of_many] = std::array::from_fn(|_| Samples::default());
        for _ in 0..rounds {
            of_few.add_time(page(&mut connections[0], path)?);
            of_many.add_time(page(&mut connections[1], path)?);
        }
        report(name, &of_many, &of_few);
    }
    tell_load()
}

fn page(connection: &mut Connection, path: &str) -> Result<std::time::Duration> {
    let begun = Instant::now();
    connection.text("GET", path, "")?;
    Ok(begun.elapsed())
}

/// A server with so many runs behind it.
fn fill(folder: &std::path::Path, rows: u32) -> Result<Server> {
    let server = Server::start(folder, LOCAL, &[])?;
    let mut connection = server.connect()?;
    let definition = connection.define("original", "echo hello")?;
    let run_id = connection.launch(&definition)?;
    wait_until(|| Ok(connection.get(&format!("/api/v1/history/{run_id}"))?["status"] == "STOPPED"))?;
    drop(connection);
    server.stop()?;

    let mut database = Sqlite::open(folder.join("data/flotilla.db"))?;
    database.pragma_update(None, "synchronous", "OFF")?;
    let begun = Instant::now();
    let tx = database.transaction()?;
    tx.execute(
        "WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?1 - 1)
         INSERT INTO definitions (definition_id, alias, group_name, image, task, task_type, created_at, updated_at)
         SELECT 'bench-' || n, 'task-' || n, 'bench', image, task, task_type, created_at, updated_at
         FROM numbers, definitions WHERE alias = 'original'",
        [DEFINITIONS],
    )?;
    // 20 are running, on a cluster that this server doesn't serve. The strides spread all combinations.
    tx.execute(
        "WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?2 - 1)
         INSERT INTO runs
           (run_id, definition_id, alias, group_name, image, cluster, resolved_cluster, engine, owner, task, execution, status, outcome,
            exit_code, queued_at, started_at, finished_at, attempt_count, instance_id, instance_dns_name, is_log_complete)
         SELECT printf('%08x-0000-7000-8000-%012x', n, n), 'bench-' || (n % ?1), 'task-' || (n % ?1), group_name, image,
                'cluster-' || (n / ?1 % 4), 'elsewhere', engine, 'owner-' || (n / 7 % 20), task, execution,
                CASE WHEN n + 20 < ?2 THEN status ELSE 'RUNNING' END, CASE WHEN n + 20 < ?2 THEN outcome END,
                CASE WHEN n + 20 < ?2 THEN exit_code END, queued_at - (?2 - n) * 1000000, started_at - (?2 - n) * 1000000,
                CASE WHEN n + 20 < ?2 THEN finished_at - (?2 - n) * 1000000 END,
                attempt_count, instance_id, instance_dns_name, is_log_complete
         FROM numbers, (SELECT * FROM runs LIMIT 1)",
        (DEFINITIONS, rows),
    )?;
    tx.commit()?;
    println!("{rows} rows were written in {:.1} s", begun.elapsed().as_secs_f64());
    drop(database);
    Server::start(folder, LOCAL, &[])
}
