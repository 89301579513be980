//! PostgreSQL that refuses us, or goes away under a running server and comes back.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sqlx::{Connection, PgConnection};
use tempfile::TempDir;

use crate::program::{Said, Server, flotilla, until};
use crate::support;
use crate::world::{Answer, get, launch};

const PASSWORD: &str = "s3cret-of-the-cluster";
pub const UNAVAILABLE: &str = "the server's database is unavailable; try again";

/// A database server of a test's own, which it may end.
pub struct Cluster {
    folder: TempDir,
    programs: PathBuf,
    port: u16,
}

impl Cluster {
    /// `None`, and said so, where PostgreSQL's programs are not here.
    pub fn start() -> Option<Self> {
        let Some(programs) = find_programs() else {
            support::skip("postgres that goes away", "initdb is not on this machine");
            return None;
        };
        let folder = TempDir::new().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let cluster = Self { folder, programs, port };
        fs::write(cluster.folder.path().join("password"), PASSWORD).unwrap();
        if nix::unistd::Uid::effective().is_root() {
            // The server refuses to run as root.
            let owned = Command::new("chown").args(["-R", "postgres"]).arg(cluster.folder.path()).status().unwrap();
            assert!(owned.success());
        }
        cluster.execute(
            "initdb",
            &[
                "-D",
                "data",
                "-U",
                "flotilla",
                "-A",
                "scram-sha-256",
                "--pwfile=password",
                "--no-sync",
                "--no-instructions",
            ],
        );
        cluster.up();
        Some(cluster)
    }

    fn execute(&self, program: &str, arguments: &[&str]) {
        let program = self.programs.join(program);
        let mut command = if nix::unistd::Uid::effective().is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        let log = fs::File::create(self.folder.path().join("output")).unwrap();
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let status = command.status().unwrap();
        let output = fs::read_to_string(self.folder.path().join("output")).unwrap();
        assert!(status.success(), "{arguments:?}: {output}");
    }

    fn up(&self) {
        let settings =
            format!("-c listen_addresses=127.0.0.1 -c fsync=off -p {} -k {}", self.port, self.folder.path().display());
        self.execute("pg_ctl", &["start", "-w", "-s", "-D", "data", "-l", "log", "-o", &settings]);
    }

    /// Ends it as a crash would: without a word to anyone.
    fn down(&self) {
        self.execute("pg_ctl", &["stop", "-s", "-m", "immediate", "-D", "data"]);
    }

    fn url(&self, credentials: &str, database: &str) -> String {
        format!("postgres://{credentials}@127.0.0.1:{}/{database}", self.port)
    }

    pub const fn port(&self) -> u16 {
        self.port
    }

    pub fn good_url(&self) -> String {
        self.url(&format!("flotilla:{PASSWORD}"), "postgres")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.folder.path().join("data/postmaster.pid").exists() {
            self.down();
        }
    }
}

/// As `scripts/lib/postgres.sh` finds them.
fn find_programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<_> = versions.map(|version| version.path().join("bin")).collect();
    folders.sort_by_key(|folder| folder.parent().and_then(Path::file_name)?.to_str()?.parse::<u32>().ok());
    folders.reverse();
    folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    let initdb = folders.into_iter().map(|folder| folder.join("initdb")).find(|program| program.is_file())?;
    Some(fs::canonicalize(initdb).ok()?.parent()?.to_owned())
}

pub fn config(url: &str) -> String {
    format!("[server]\ndatabase_url = {url:?}\n")
}

#[test]
fn a_database_that_goes_away_and_comes_back_costs_no_run_and_repeats_none() {
    let Some(cluster) = Cluster::start() else { return };
    refuses_strangers(&cluster);

    let mut server = Server::with_config(&config(&cluster.good_url()));
    let folder = server.folder().display().to_string();
    server.define(
        "counted",
        &format!("echo start >>{folder}/starts\nuntil [ -e {folder}/gate ]; do sleep 0.02; done\necho end\nexit 3"),
    );
    server.define("quick", &format!("echo quick >>{folder}/quick"));
    let run_id = server.launch("counted");
    server.wait_for(&run_id, "RUNNING");

    cluster.down();
    let begun = Instant::now();
    let (launched, listed, ready) = std::thread::scope(|threads| {
        let launched = threads.spawn(|| launch(&server, "quick"));
        let listed = threads.spawn(|| get(&server, "/api/v1/history"));
        let ready = threads.spawn(|| get(&server, "/health/ready"));
        (launched.join().unwrap(), listed.join().unwrap(), ready.join().unwrap())
    });
    assert_eq!((get(&server, "/health/live").status(), ready.status()), (200, 503));
    for answer in [launched, listed] {
        assert_eq!((answer.status(), answer.error().as_str()), (503, UNAVAILABLE), "{answer:?}");
        assert!(answer.0.contains("retry-after: "), "{answer:?}");
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    // It ends while nobody can write that down.
    fs::write(server.folder().join("gate"), "").unwrap();
    let end = server.data_dir().join(format!("runs/{run_id}-1/exit.json"));
    until("the task has ended", || end.exists());

    cluster.up();
    until("the server is of use again", || get(&server, "/health/ready").status() == 200);
    let run = server.wait_for(&run_id, "STOPPED");
    assert_eq!((&run["exit_code"], &run["attempt_count"]), (&3.into(), &1.into()), "{run}");
    assert_eq!(server.text(&["logs", &run_id]), "end\n");
    assert_eq!(fs::read_to_string(server.folder().join("starts")).unwrap(), "start\n");
    let after = server.launch("quick");
    server.wait_for(&after, "STOPPED");
    assert_eq!(fs::read_to_string(server.folder().join("quick")).unwrap(), "quick\n", "what was refused did not run");

    cluster.down();
    let begun = Instant::now();
    assert_eq!(server.stop().code(), Some(0), "it stops in order also without its database");
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    assert!(!server.said().contains(PASSWORD));
}

/// What a server says that the database lets not in.
fn refuses_strangers(cluster: &Cluster) {
    let folder = TempDir::new().unwrap();
    for (credentials, database, reason) in [
        ("flotilla:wr0ng", "postgres", "password authentication failed for user \"flotilla\""),
        ("nobody:wr0ng", "postgres", "password authentication failed for user \"nobody\""),
        (&*format!("flotilla:{PASSWORD}"), "missing", "database \"missing\" does not exist"),
    ] {
        let url = cluster.url(credentials, database);
        let said = Said::of(flotilla(folder.path()).args(["serve", "--listen", "127.0.0.1:0", "--database-url", &url]));
        let place = format!("postgres://…@127.0.0.1:{}/{database}", cluster.port);
        let expected = format!("error: cannot use the database {place}: the database is unavailable: {reason}\n");
        assert_eq!((said.code, said.err), (1, expected));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_cut_under_load_cost_no_accepted_run_and_repeat_none() {
    let Some(url) = support::postgres_url().await else { return };
    let server = Server::with_config(&config(&url));
    let folder = server.folder().display().to_string();
    server.define("counted", &format!("echo $FLOTILLA_RUN_ID >>{folder}/starts; exit 4"));
    let mut database = PgConnection::connect(&url).await.unwrap();
    let mut accepted = Vec::new();
    let mut refused = 0;
    for _ in 0..15 {
        let launching: Vec<Answer> =
            tokio::task::block_in_place(|| (0..4).map(|_| launch(&server, "counted")).collect());
        for answer in launching {
            match answer.status() {
                200 => accepted.push(answer.json()["run_id"].as_str().unwrap().to_owned()),
                503 => {
                    assert_eq!(answer.error(), UNAVAILABLE);
                    refused += 1;
                }
                _ => panic!("{answer:?}"),
            }
        }
        let cut = "SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity
                   WHERE datname = current_database() AND pid <> pg_backend_pid()";
        let (number,): (i64,) = sqlx::query_as(cut).fetch_one(&mut database).await.unwrap();
        assert!(number > 0);
    }
    assert!(accepted.len() > 10, "{} accepted, {refused} refused", accepted.len());
    let server = tokio::task::spawn_blocking(move || {
        for run_id in &accepted {
            // The first answers may still say that a connection was cut.
            let path = format!("/api/v1/history/{run_id}");
            until("it has ended", || {
                let answer = get(&server, &path);
                answer.status() == 200 && answer.json()["status"] == "STOPPED"
            });
            let run = get(&server, &path).json();
            assert_eq!((&run["exit_code"], &run["attempt_count"]), (&4.into(), &1.into()), "{run}");
        }
        // A launch whose answer was cut off may have been stored; then it ran, and once.
        let total = get(&server, "/api/v1/history").json()["total"].as_u64().unwrap();
        until("all have ended", || get(&server, "/api/v1/history?status=STOPPED").json()["total"] == total);
        let starts = fs::read_to_string(server.folder().join("starts")).unwrap();
        let mut started: Vec<_> = starts.lines().collect();
        started.sort_unstable();
        let number = started.len();
        started.dedup();
        assert_eq!((started.len(), u64::try_from(number).unwrap()), (number, total));
        server
    });
    drop(server.await.unwrap());
}
