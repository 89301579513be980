//! A launch, from the request to its 200, against the database's own commit.
//!
//! The raw operation is one row committed by itself, on the same disk and with the same durability; the runs wait in
//! the queue of a full cluster, so that nothing but launching goes on.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, reason = "a program for people to read")]

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use sqlx::{Connection as _, PgConnection, Row as _};

use support::{Samples, Server, folder, heading, number, report, tell_load, wait_until};

const CLIENTS: usize = 16;
const FULL_CLUSTER: &str = "[clusters.default]\nengine = \"local\"\nmax_running = 1\n";

fn main() -> Result<()> {
    let rounds = number(0, 10)?;
    tell_load()?;
    let folder = folder()?;
    let mut raw = SqliteCommits::open(&folder.path().join("raw.db"))?;
    bench("SQLite", folder.path(), &[], rounds, &mut |commits, clients| raw.commit(commits * clients))?;

    let Some(url) = std::env::var("FLOTILLA_TEST_POSTGRES").ok().filter(|url| !url.is_empty()) else {
        println!("\nPostgreSQL: not measured, FLOTILLA_TEST_POSTGRES is not set");
        return Ok(());
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let database = runtime.block_on(new_database(&url))?;
    let mut raw = runtime.block_on(PostgresCommits::open(&database))?;
    let folder = support::folder()?;
    let arguments = ["--database-url", database.as_str()];
    bench("PostgreSQL", folder.path(), &arguments, rounds, &mut |commits, clients| {
        runtime.block_on(raw.commit(commits, clients))
    })
}

/// What `commits` commits by each of so many clients took, one by one.
type Raw<'a> = &'a mut dyn FnMut(usize, usize) -> Result<Samples>;

fn bench(name: &str, folder: &Path, arguments: &[&str], rounds: u32, raw: Raw) -> Result<()> {
    const EACH: usize = 40;
    let server = Server::start(folder, FULL_CLUSTER, arguments)?;
    let mut connection = server.connect()?;
    let filler = connection.define("filler", "sleep 600")?;
    let definition = connection.define("waits", "true")?;
    let first = connection.launch(&filler)?;
    wait_until(|| Ok(connection.get(&format!("/api/v1/history/{first}"))?["status"] == "RUNNING"))?;

    let [mut raw_one, mut raw_many, mut one, mut many] = std::array::from_fn(|_| Samples::default());
    let [mut raw_rate, mut rate] = std::array::from_fn(|_| Samples::default());
    for _ in 0..rounds {
        raw_one.extend(&raw(EACH, 1)?);
        one.extend(&launch(&server, &definition, EACH, 1)?);
        let begun = Instant::now();
        raw_many.extend(&raw(EACH, CLIENTS)?);
        raw_rate.add_time(begun.elapsed() / per_round(EACH));
        let begun = Instant::now();
        many.extend(&launch(&server, &definition, EACH, CLIENTS)?);
        rate.add_time(begun.elapsed() / per_round(EACH));
    }
    heading(name);
    report("raw: a row committed, 1 client", &raw_one, &raw_one);
    report("launch, 1 client", &one, &raw_one);
    report(&format!("raw: time for each of all, {CLIENTS} clients (SQLite has 1)"), &raw_rate, &raw_rate);
    report(&format!("launch: time for each of all, {CLIENTS} clients"), &rate, &raw_rate);
    report(&format!("launch: time of one, {CLIENTS} clients"), &many, &raw_one);
    // The server has closed the first connection in the meantime, which was idle.
    let mut connection = server.connect()?;
    connection.json("DELETE", &format!("/api/v1/task/{filler}/history/{first}"), "")?;
    wait_until(|| Ok(connection.get(&format!("/api/v1/history/{first}"))?["status"] == "STOPPED"))
}

fn per_round(each: usize) -> u32 {
    u32::try_from(each * CLIENTS).unwrap_or(u32::MAX)
}

fn launch(server: &Server, definition: &str, launches: usize, clients: usize) -> Result<Samples> {
    let client = || -> Result<Samples> {
        let mut connection = server.connect()?;
        let mut samples = Samples::default();
        for _ in 0..launches {
            let begun = Instant::now();
            connection.launch(definition)?;
            samples.add_time(begun.elapsed());
        }
        Ok(samples)
    };
    let mut all = Samples::default();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..clients).map(|_| scope.spawn(client)).collect();
        for thread in threads {
            all.extend(&thread.join().map_err(|_| anyhow::anyhow!("a client panicked"))??);
        }
        Ok(all)
    })
}

struct SqliteCommits(rusqlite::Connection);

impl SqliteCommits {
    fn open(path: &Path) -> Result<Self> {
        let connection = rusqlite::Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.execute_batch("CREATE TABLE raw (id INTEGER PRIMARY KEY, text TEXT NOT NULL)")?;
        Ok(Self(connection))
    }

    fn commit(&mut self, commits: usize) -> Result<Samples> {
        let mut insert = self.0.prepare("INSERT INTO raw (text) VALUES (?1)")?;
        let mut samples = Samples::default();
        for _ in 0..commits {
            let begun = Instant::now();
            insert.execute(["a row"])?;
            samples.add_time(begun.elapsed());
        }
        Ok(samples)
    }
}

struct PostgresCommits(Vec<PgConnection>);

impl PostgresCommits {
    async fn open(url: &str) -> Result<Self> {
        let mut connections = Vec::new();
        for _ in 0..CLIENTS {
            connections.push(PgConnection::connect(url).await?);
        }
        sqlx::query("CREATE TABLE raw (id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, text TEXT NOT NULL)")
            .execute(&mut connections[0])
            .await?;
        Ok(Self(connections))
    }

    async fn commit(&mut self, commits: usize, clients: usize) -> Result<Samples> {
        let each = self.0.iter_mut().take(clients).map(|connection| async move {
            let mut times: Vec<Duration> = Vec::new();
            for _ in 0..commits {
                let begun = Instant::now();
                sqlx::query("INSERT INTO raw (text) VALUES ('a row')").execute(&mut *connection).await?;
                times.push(begun.elapsed());
            }
            Ok::<_, sqlx::Error>(times)
        });
        let mut samples = Samples::default();
        for time in futures_util::future::try_join_all(each).await?.into_iter().flatten() {
            samples.add_time(time);
        }
        Ok(samples)
    }
}

/// A new, empty database on the server of this address. It goes with that server, which is a throw-away.
async fn new_database(url: &str) -> Result<String> {
    let mut connection = PgConnection::connect(url).await.context("FLOTILLA_TEST_POSTGRES does not answer")?;
    let name = format!("flotilla_bench_{}", uuid::Uuid::new_v4().simple());
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut connection).await?;
    let durability: String = sqlx::query("SHOW synchronous_commit").fetch_one(&mut connection).await?.try_get(0)?;
    let fsync: String = sqlx::query("SHOW fsync").fetch_one(&mut connection).await?.try_get(0)?;
    println!("\nPostgreSQL has synchronous_commit = {durability}, fsync = {fsync}");
    let options: sqlx::postgres::PgConnectOptions = url.parse()?;
    Ok(sqlx::ConnectOptions::to_url_lossy(&options.database(&name)).to_string())
}
