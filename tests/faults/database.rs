//! A database that is there, but not as it was: silent, read-only, behind a pooler, or asked for too much.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tempfile::TempDir;

use crate::postgres::{Cluster, UNAVAILABLE, config};
use crate::program::{Said, Server, flotilla, until};
use crate::support;
use crate::world::{get, launch};

/// Passes connections on, and can let those that there are fall silent: nothing more comes through, and nobody is told.
struct Proxy {
    port: u16,
    connections: Arc<Mutex<Vec<Arc<AtomicBool>>>>,
}

impl Proxy {
    fn to(host: &str, port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own_port = listener.local_addr().unwrap().port();
        let connections = Arc::<Mutex<Vec<Arc<AtomicBool>>>>::default();
        let (known, target) = (Arc::clone(&connections), format!("{host}:{port}"));
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(&target) else { continue };
                let is_silent = Arc::<AtomicBool>::default();
                known.lock().unwrap().push(Arc::clone(&is_silent));
                pass(client.try_clone().unwrap(), server.try_clone().unwrap(), Arc::clone(&is_silent));
                pass(server, client, is_silent);
            }
        });
        Self { port: own_port, connections }
    }

    /// How many connections fell silent.
    fn silence(&self) -> usize {
        let connections = std::mem::take(&mut *self.connections.lock().unwrap());
        for is_silent in &connections {
            is_silent.store(true, Ordering::SeqCst);
        }
        connections.len()
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, is_silent: Arc<AtomicBool>) {
    thread::spawn(move || {
        let mut piece = [0; 16 * 1024];
        while let Ok(length) = from.read(&mut piece)
            && length > 0
        {
            if !is_silent.load(Ordering::SeqCst) && to.write_all(&piece[..length]).is_err() {
                break;
            }
        }
        if !is_silent.load(Ordering::SeqCst) {
            let _ = to.shutdown(Shutdown::Write);
        }
    });
}

fn parts(url: &str) -> (String, u16, String) {
    let options: PgConnectOptions = url.parse().unwrap();
    (options.get_host().to_owned(), options.get_port(), options.get_database().unwrap().to_owned())
}

async fn execute(url: &str, sql: &str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_goes_on_by_itself_when_its_database_connections_have_fallen_silent() {
    let Some(url) = support::postgres_url().await else { return };
    let (host, port, database) = parts(&url);
    let work = tokio::task::spawn_blocking(move || {
        let proxy = Proxy::to(&host, port);
        let server = Server::with_config(&config(&format!("postgres://flotilla@127.0.0.1:{}/{database}", proxy.port)));
        let folder = server.folder().display().to_string();
        server
            .define("gated", &format!("echo start >>{folder}/starts; until [ -e {folder}/gate ]; do sleep 0.02; done"));
        let going = server.launch("gated");
        server.wait_for(&going, "RUNNING");

        assert!(proxy.silence() >= 2, "the loops and requests have connections of their own");
        let begun = Instant::now();
        fs::write(server.folder().join("gate"), "").unwrap();
        // The loops come back without a request, and requests without the loops.
        until("a request is answered", || get(&server, &format!("/api/v1/history/{going}")).status() == 200);
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
        until("the loops see the end", || {
            get(&server, &format!("/api/v1/history/{going}")).json()["status"] == "STOPPED"
        });
        until("it is ready", || get(&server, "/health/ready").status() == 200);
        assert!(begun.elapsed() < Duration::from_secs(45), "{:?}", begun.elapsed());
        let after = server.launch("gated");
        server.wait_for(&after, "STOPPED");
        assert_eq!(fs::read_to_string(server.folder().join("starts")).unwrap(), "start\nstart\n");
    });
    work.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_became_read_only_is_unavailable_and_another_of_the_address_is_used() {
    let Some(url) = support::postgres_url().await else { return };
    let Some(cluster) = tokio::task::block_in_place(Cluster::start) else { return };
    let server = tokio::task::block_in_place(|| {
        let server = Server::with_config(&config(&cluster.good_url()));
        server.define("quick", "exit 0");
        assert_eq!((launch(&server, "quick").status(), get(&server, "/health/ready").status()), (200, 200));
        server
    });
    execute(&cluster.good_url(), "ALTER SYSTEM SET default_transaction_read_only = on").await;
    execute(&cluster.good_url(), "SELECT pg_reload_conf()").await;
    tokio::task::block_in_place(|| {
        until("readiness says so", || get(&server, "/health/ready").status() == 503);
        for _ in 0..3 {
            let answer = launch(&server, "quick");
            assert_eq!((answer.status(), answer.error().as_str()), (503, UNAVAILABLE), "{answer:?}");
        }
        let folder = TempDir::new().unwrap();
        let alone = ["serve", "--listen", "127.0.0.1:0", "--database-url", &*cluster.good_url()].map(str::to_owned);
        let said = Said::of(flotilla(folder.path()).args(alone));
        assert!(said.err.contains("the database is unavailable: the database server is read-only"), "{said:?}");
    });

    // Of two servers, the one that can be written to is used.
    let (host, port, database) = parts(&url);
    let writable = format!("{}?options[default_transaction_read_only]=off", cluster.good_url());
    execute(&writable, &format!("CREATE DATABASE {database}")).await;
    let credentials = cluster.good_url().trim_start_matches("postgres://").split('@').next().unwrap().to_owned();
    let both = format!(
        "postgres://{credentials}@127.0.0.1:{},{host}:{port}/{database}?target_session_attrs=read-write",
        cluster.port()
    );
    tokio::task::block_in_place(|| {
        let second = Server::with_config(&config(&both));
        second.define("quick", "exit 0");
        second.wait_for(&second.launch("quick"), "STOPPED");
    });

    execute(&writable, "ALTER SYSTEM RESET default_transaction_read_only").await;
    execute(&writable, "SELECT pg_reload_conf()").await;
    tokio::task::block_in_place(|| {
        until("it is ready again", || get(&server, "/health/ready").status() == 200);
        server.wait_for(&server.launch("quick"), "STOPPED");
        drop(server);
    });
}

/// `PgBouncer`, in front of the tests' database server.
struct Pooler {
    child: Child,
    port: u16,
    _folder: TempDir,
}

impl Pooler {
    /// `None`, and said so, where it is not installed.
    fn start(host: &str, port: u16, settings: &str) -> Option<Self> {
        let Some(program) =
            ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"].into_iter().find(|path| fs::exists(path).unwrap())
        else {
            support::skip("postgres", "poolers are not tried: the package pgbouncer is not installed");
            return None;
        };
        let folder = TempDir::new().unwrap();
        let own_port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            "[databases]\n* = host={host} port={port} user=flotilla\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {own_port}\n\
             auth_type = any\nunix_socket_dir =\n{settings}\n"
        );
        let file = folder.path().join("pgbouncer.ini");
        fs::write(&file, config).unwrap();
        // It refuses to run as root.
        let mut command = if nix::unistd::Uid::effective().is_root() {
            assert!(Command::new("chmod").args(["-R", "a+rX"]).arg(folder.path()).status().unwrap().success());
            let mut command = Command::new("setpriv");
            command.args(["--reuid=nobody", "--clear-groups", "--pdeathsig=KILL", program]);
            command
        } else {
            Command::new(program)
        };
        let log = fs::File::create(folder.path().join("log")).unwrap();
        command.arg(&file).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let pooler = Self { child: command.spawn().unwrap(), port: own_port, _folder: folder };
        until("the pooler listens", || TcpStream::connect(("127.0.0.1", own_port)).is_ok());
        Some(pooler)
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_that_shares_connections_by_transaction_or_session_works_and_one_by_statement_is_refused() {
    // One refuses what it does not know, the other ignores it.
    for (mode, settings) in [
        ("transaction", "default_pool_size = 4\nignore_startup_parameters = extra_float_digits, options"),
        ("transaction", "default_pool_size = 2\nserver_reset_query_always = 1"),
        ("session", ""),
        ("statement", ""),
    ] {
        let Some(url) = support::postgres_url().await else { return };
        let (host, port, database) = parts(&url);
        let work = move || {
            let settings = format!("pool_mode = {mode}\n{settings}");
            let Some(pooler) = Pooler::start(&host, port, &settings) else { return };
            let url = format!("postgres://flotilla@127.0.0.1:{}/{database}", pooler.port);
            if mode == "statement" {
                let folder = TempDir::new().unwrap();
                let said = Said::of(flotilla(folder.path()).args([
                    "serve",
                    "--listen",
                    "127.0.0.1:0",
                    "--database-url",
                    &url,
                ]));
                assert!(said.err.contains("shares its connections by statement") && said.code == 1, "{said:?}");
                return;
            }
            let server = Server::with_config(&config(&url));
            server.wait_until_said("through a connection pooler");
            server.define("quick", "exit 3");
            // Sixteen clients of ours share four connections of the pooler's.
            let launched: Vec<String> = thread::scope(|threads| {
                let launching = || {
                    let mut launched = Vec::new();
                    for _ in 0..5 {
                        let answer = launch(&server, "quick");
                        assert_eq!(answer.status(), 200, "{answer:?}");
                        launched.push(answer.json()["run_id"].as_str().unwrap().to_owned());
                        for path in ["/api/v1/history?status=QUEUED", "/api/v1/history?env=A%7Cb", "/health/ready"] {
                            assert_eq!(get(&server, path).status(), 200, "{path}");
                        }
                    }
                    launched
                };
                let threads: Vec<_> = (0..4).map(|_| threads.spawn(launching)).collect();
                threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
            });
            for run_id in launched {
                let run = server.wait_for(&run_id, "STOPPED");
                assert_eq!((&run["exit_code"], &run["attempt_count"]), (&3.into(), &1.into()), "{mode}: {run}");
            }
            assert!(!server.said().contains("prepared statement"), "{mode}");
        };
        tokio::task::spawn_blocking(work).await.unwrap();
    }
}

/// History of which a list by `env` has to read all, in the dialect of both databases. `{numbers}` is a table of numbers.
const HISTORY: &str = "INSERT INTO runs (run_id, definition_id, group_name, image, cluster, resolved_cluster, engine, owner, task, execution,
        status, outcome, queued_at, finished_at, attempt_count, instance_id, instance_dns_name, is_log_complete)
    SELECT 'old-' || n, (SELECT MIN(definition_id) FROM definitions), 'g', 'i', 'local', 'local', 'local', 'o',
        (SELECT MIN(task) FROM definitions) || '                                        ', '{}', 'STOPPED', 'succeeded', n, n, 1, '', '', 1
    FROM {numbers}";

/// What 40 clients who list by `env` do to others: nothing much.
fn is_of_use_under_slow_lists(server: &Server) {
    let list = || get(server, "/api/v1/history?env=NO%7Csuch&limit=1");
    let stop = AtomicBool::new(false);
    let counts = thread::scope(|threads| {
        let slow = || {
            let mut counts = (0, 0);
            while !stop.load(Ordering::Relaxed) {
                let answer = list();
                match answer.status() {
                    200 => counts.0 += 1,
                    503 => {
                        assert!(answer.error().contains("took the database too long"), "{answer:?}");
                        assert!(answer.error().contains("filter by `status`"), "{answer:?}");
                        assert!(answer.0.contains("retry-after: "), "{answer:?}");
                        counts.1 += 1;
                    }
                    _ => panic!("{answer:?}"),
                }
            }
            counts
        };
        let clients: Vec<_> = (0..40).map(|_| threads.spawn(slow)).collect();
        // The load is there.
        thread::sleep(Duration::from_millis(500));
        let mut slowest = Duration::ZERO;
        let mut runs = Vec::new();
        for _ in 0..5 {
            let begun = Instant::now();
            assert_eq!(get(server, "/health/ready").status(), 200);
            let answer = launch(server, "quick");
            assert_eq!(answer.status(), 200, "{answer:?}");
            let run_id = answer.json()["run_id"].as_str().unwrap().to_owned();
            assert_eq!(get(server, &format!("/api/v1/history/{run_id}")).status(), 200);
            slowest = slowest.max(begun.elapsed());
            runs.push(run_id);
        }
        for run_id in runs {
            server.wait_for(&run_id, "STOPPED");
        }
        stop.store(true, Ordering::Relaxed);
        assert!(slowest < Duration::from_secs(4), "{slowest:?}");
        eprintln!("slowest readiness, launch and look-up under load: {slowest:?}");
        clients.into_iter().map(|client| client.join().unwrap()).fold((0, 0), |(a, b), (c, d)| (a + c, b + d))
    });
    eprintln!("slow lists answered and given up: {counts:?}");
    assert!(counts.1 > 0, "{counts:?}");
    assert_eq!(get(server, "/api/v1/history?limit=5").status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_lists_keep_nobody_else_from_postgresql() {
    let Some(url) = support::postgres_url().await else { return };
    let config = format!("{}[lists]\nsearch_timeout_secs = 1\n", config(&url));
    let server = tokio::task::block_in_place(|| {
        let server = Server::with_config(&config);
        server.define("quick", "exit 0");
        server
    });
    let numbers = HISTORY.replace("{numbers}", "generate_series(1, 100000) AS n");
    execute(&url, &format!("SET session_replication_role = replica; {numbers}; ANALYZE runs")).await;
    tokio::task::spawn_blocking(move || is_of_use_under_slow_lists(&server)).await.unwrap();
}

#[test]
fn slow_lists_keep_nobody_else_from_sqlite() {
    let server = Server::with_config("[lists]\nsearch_timeout_secs = 1\n");
    server.define("quick", "exit 0");
    let numbers = "(WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 100000) SELECT n FROM numbers)";
    let database = rusqlite::Connection::open(server.data_dir().join("flotilla.db")).unwrap();
    database.busy_timeout(Duration::from_secs(10)).unwrap();
    database.execute_batch(&HISTORY.replace("{numbers}", numbers)).unwrap();
    drop(database);
    is_of_use_under_slow_lists(&server);
}
