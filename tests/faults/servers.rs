//! One server a database: a second one is refused, a dead one is replaced, and one that was frozen changes nothing.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;

use crate::program::{Said, Server, Setup, flotilla, until};
use crate::support;
use crate::world::get;

fn config(url: &str) -> String {
    format!("[server]\ndatabase_url = {url:?}\n")
}

/// What a second server on the same database says.
fn refused(url: &str) -> String {
    let folder = TempDir::new().unwrap();
    let said = Said::of(flotilla(folder.path()).args(["serve", "--listen", "127.0.0.1:0", "--database-url", url]));
    assert_eq!(said.code, 1, "{said:?}");
    said.err
}

#[test]
fn a_second_server_with_another_data_directory_is_refused_on_one_sqlite_file() {
    let server = Server::start();
    let file = server.data_dir().join("flotilla.db");
    // By another name of the same file as well.
    let folder = TempDir::new().unwrap();
    let link = folder.path().join("other.db");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    for path in [&file, &link] {
        let said = refused(&format!("sqlite:{}", path.display()));
        assert!(said.contains("another flotilla server uses it"), "{said}");
    }
    server.define("quick", "true");
    server.wait_for(&server.launch("quick"), "STOPPED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_is_refused_on_one_postgresql_database_and_told_who_has_it() {
    let Some(url) = support::postgres_url().await else { return };
    tokio::task::block_in_place(|| {
        let mut first = Server::with_config(&config(&url));
        let begun = Instant::now();
        let said = refused(&url);
        assert!(said.contains("another flotilla server uses it, on "), "{said}");
        assert!(said.contains(&format!("process {}", first.pid())) && said.contains(&first.url), "{said}");
        assert!(begun.elapsed() < Duration::from_secs(12), "it does not wait for a lease that is renewed");
        assert_eq!(get(&first, "/health/ready").status(), 200);

        // The same data directory comes back at once, also after a crash; and another one after an orderly end.
        let begun = Instant::now();
        first.kill_and_restart();
        assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
        assert!(first.stop().success());
        let begun = Instant::now();
        let second = Server::with_config(&config(&url));
        assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
        assert_eq!(get(&second, "/health/ready").status(), 200);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_data_directory_is_another_server_and_refused_while_the_first_is_there() {
    let Some(url) = support::postgres_url().await else { return };
    tokio::task::block_in_place(|| {
        let first = Server::with_config(&config(&url));
        first.define("held", "sleep 1000");
        let run_id = first.launch("held");
        first.wait_for(&run_id, "RUNNING");
        let folder = TempDir::new().unwrap();
        let copy = folder.path().join("copy");
        let copied = Command::new("cp").arg("-a").arg(first.data_dir()).arg(&copy).status().unwrap();
        assert!(copied.success());
        let mut second = flotilla(folder.path());
        second.args(["serve", "--listen", "127.0.0.1:0", "--database-url", &url, "--data-dir"]).arg(&copy);
        let said = Said::of(&mut second);
        assert!(said.code == 1 && said.err.contains("another flotilla server uses it"), "{said:?}");
        assert_eq!(first.json(&["show", &run_id])["status"], "RUNNING");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_waits_for_a_lease_can_be_stopped_and_is_not_held_up_by_the_databases_clock() {
    let Some(url) = support::postgres_url().await else { return };
    let first = tokio::task::block_in_place(|| Server::with_config(&config(&url)));
    first.signal(Signal::SIGSTOP);
    // As if the database's clock had been set back by two hours.
    let mut connection = PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("UPDATE leases SET expires_at = expires_at + 7200000000").execute(&mut connection).await.unwrap();
    tokio::task::block_in_place(|| {
        let folder = TempDir::new().unwrap();
        let mut serve = flotilla(folder.path());
        serve.args(["serve", "--listen", "127.0.0.1:0", "--database-url", &url]).stderr(Stdio::piped());
        let mut waiting = serve.spawn().unwrap();
        let mut said = BufReader::new(waiting.stderr.take().unwrap()).lines().map(Result::unwrap);
        assert!(said.any(|line| line.contains("another server had the database")));
        kill(Pid::from_raw(waiting.id().cast_signed()), Signal::SIGTERM).unwrap();
        assert!(waiting.wait().unwrap().success());
        assert!(!said.any(|line| line.contains("serving at ")));
        let second = Server::with(Setup { config: config(&url), ..Setup::default() });
        second.wait_until_said("serving at ");
        first.signal(Signal::SIGCONT);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_frozen_for_longer_than_its_lease_changes_nothing_when_it_thaws() {
    let Some(url) = support::postgres_url().await else { return };
    tokio::task::block_in_place(|| {
        let first = Server::with_config(&config(&url));
        let folder = first.folder().display().to_string();
        first.define("held", &format!("echo start >>{folder}/starts; until [ -e {folder}/gate ]; do sleep 0.02; done"));
        let run_id = first.launch("held");
        first.wait_for(&run_id, "RUNNING");
        first.signal(Signal::SIGSTOP);

        let second = Server::with(Setup { config: config(&url), ..Setup::default() });
        second.wait_until_said("serving at ");
        assert!(second.said().contains("another server had the database"), "{}", second.said());
        second.define("quick", &format!("echo quick >>{folder}/quick"));
        let quick = second.launch("quick");
        second.wait_for(&quick, "STOPPED");

        first.signal(Signal::SIGCONT);
        until("the first one says that it has lost the lease", || {
            let ready = get(&first, "/health/ready");
            ready.status() == 503 && ready.0.contains("another server has taken over the database")
        });
        // What the first one is asked to launch, the second one runs, once; the first one goes on with nothing.
        let other = first.launch("quick");
        second.wait_for(&other, "STOPPED");
        assert_eq!(fs::read_to_string(first.folder().join("quick")).unwrap(), "quick\nquick\n");
        let held = second.json(&["show", &run_id]);
        assert_eq!(held["status"], "RUNNING", "a local run belongs to its own server: {held}");
        assert_eq!(fs::read_to_string(first.folder().join("starts")).unwrap(), "start\n");

        // When the second one has gone, the first one goes on, and finds its run.
        drop(second);
        fs::write(first.folder().join("gate"), "").unwrap();
        until("the first one is of use again", || get(&first, "/health/ready").status() == 200);
        let held = first.wait_for(&run_id, "STOPPED");
        assert_eq!((&held["exit_code"], &held["attempt_count"]), (&0.into(), &1.into()), "{held}");
    });
}
