//! A server that is told to stop, or is killed, and what becomes of its requests and runs.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::program::{Server, until};
use crate::world::{Wire, get, launch, seq, story};

const STOPPING: &str = "stopping in an orderly way";
/// How long an orderly stop may take that has nothing to wait for.
const SOON: Duration = Duration::from_secs(5);

fn is_listening(server: &Server) -> bool {
    TcpStream::connect(server.url.trim_start_matches("http://")).is_ok()
}

fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with(['Z', 'X']))
}

/// The process ids that a task wrote to this file, once there are so many.
fn pids(path: &Path, number: usize) -> Vec<i32> {
    let read = || fs::read_to_string(path).unwrap_or_default();
    until("the task tells its processes", || read().ends_with('\n') && read().lines().count() >= number);
    read().lines().map(|line| line.trim().parse().unwrap()).collect()
}

fn time(run: &Value, key: &str) -> Timestamp {
    run[key].as_str().unwrap_or_else(|| panic!("no {key}: {run}")).parse().unwrap()
}

/// A file whose being there lets a task go on.
struct Gate(TempDir);

impl Gate {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("open")
    }

    fn open(&self) {
        fs::write(self.path(), "").unwrap();
    }

    /// Shell that waits until it is open.
    fn wait(&self) -> String {
        format!("until [ -e {} ]; do sleep 0.02; done", self.path().display())
    }
}

#[test]
fn a_stopping_server_answers_what_is_in_flight_ends_streams_and_leaves_runs_alone() {
    let mut server = Server::start();
    let gate = Gate::new();
    server.define("long", &format!("echo begun\n{}\necho ended", gate.wait()));
    let run_id = server.launch("long");
    server.wait_for(&run_id, "RUNNING");

    let body = r#"{"alias": "late", "group_name": "g", "image": "i", "command": "true"}"#;
    let (first, rest) = body.split_at(20);
    let length = body.len();
    let mut upload = Wire::open(&server);
    // The server has begun to read the body when it asks for it.
    upload.say(format!(
        "POST /api/v1/task HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
    ));
    upload.hear_until("HTTP/1.1 100 Continue\r\n\r\n");
    upload.say(first);
    let mut stream = Wire::open(&server);
    stream.say(format!("GET /api/v1/{run_id}/logs/stream HTTP/1.1\r\nHost: x\r\n\r\n"));
    stream.hear_until("begun");
    let mut idle = Wire::open(&server);
    idle.say("GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n").hear_until("healthy");

    let begun = Instant::now();
    server.signal(Signal::SIGTERM);
    server.wait_until_said(STOPPING);
    stream.hear();
    assert_eq!(idle.hear().0, "", "an idle connection is closed");
    until("nothing more is accepted", || !is_listening(&server));
    upload.say(rest);
    let answer = upload.hear();
    assert_eq!((answer.status(), answer.json()["alias"].as_str()), (200, Some("late")), "{answer:?}");
    assert_eq!(server.wait_until_ended().code(), Some(0));
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());

    server.start_again();
    assert_eq!(get(&server, "/api/v1/task/alias/late").status(), 200);
    assert_eq!(server.json(&["show", &run_id])["status"], "RUNNING");
    gate.open();
    assert_eq!(server.wait_for(&run_id, "STOPPED")["exit_code"], 0);
    assert_eq!(server.text(&["logs", &run_id]), "begun\nended\n");
}

#[test]
fn a_request_that_does_not_end_holds_up_a_stop_only_for_a_while_and_no_second_signal() {
    let mut server = Server::start();
    let upload = |server: &Server| {
        let mut upload = Wire::open(server);
        upload.say("POST /api/v1/task HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
        upload.hear_until("100 Continue");
        upload
    };
    let held = upload(&server);
    server.signal(Signal::SIGTERM);
    server.wait_until_said(STOPPING);
    let begun = Instant::now();
    server.signal(Signal::SIGINT);
    assert_eq!(server.wait_until_ended().code(), Some(130));
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    drop(held);

    server.start_again();
    let mut held = upload(&server);
    let mut head = Wire::open(&server);
    head.say("GET / HT");
    let begun = Instant::now();
    assert_eq!(server.stop().code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    assert_eq!((held.hear().0.as_str(), head.hear().0.as_str()), ("", ""));
}

#[test]
fn a_run_whose_supervisor_was_killed_with_the_server_is_lost_and_nothing_of_it_is_left() {
    let mut server = Server::start();
    let folder = TempDir::new().unwrap();
    let told = folder.path().join("pids");
    // One child in the task's session, one that left it.
    let script = format!(
        "exec 3>{0}\nsleep 600 & echo $! >&3\nsetsid sleep 600 & echo $! >&3\necho $$ >&3\nwait",
        told.display()
    );
    server.define("family", &script);
    let run_id = server.launch("family");
    server.wait_for(&run_id, "RUNNING");
    let members = pids(&told, 3);
    let started = fs::read(server.data_dir().join(format!("runs/{run_id}-1/started.json"))).unwrap();
    let started: Value = serde_json::from_slice(&started).unwrap();
    let supervisor = i32::try_from(started["supervisor_pid"].as_i64().unwrap()).unwrap();

    server.kill();
    kill(Pid::from_raw(supervisor), Signal::SIGKILL).unwrap();
    until("the supervisor is gone", || !is_alive(supervisor));
    server.start_again();
    let run = server.wait_for(&run_id, "STOPPED");
    assert_eq!((&run["outcome"], &run["exit_code"]), (&"lost".into(), &Value::Null), "{run}");
    assert_eq!(run["exit_reason"], format!("its supervisor (pid {supervisor}) was killed"));
    assert_eq!(run["attempt_count"], 1, "it is not run again");
    until("its processes are gone", || !members.iter().any(|pid| is_alive(*pid)));
    assert_eq!(story(&server, &run_id).last().unwrap().0, "Lost");
}

#[test]
fn a_stop_that_was_asked_for_is_carried_out_over_a_kill_of_the_server() {
    let mut server = Server::start();
    let folder = TempDir::new().unwrap();
    let (told, gate) = (folder.path().join("pids"), Gate::new());
    // It takes its time to end when it is asked to.
    let script = format!(
        "trap '{}; echo cleaned up; exit 9' TERM\necho $$ >{}\nwhile :; do sleep 0.02; done",
        gate.wait(),
        told.display()
    );
    server.define("careful", &script);
    let run_id = server.launch("careful");
    server.wait_for(&run_id, "RUNNING");
    let members = pids(&told, 1);
    server.text(&["stop", &run_id]);
    server.kill_and_restart();
    assert_eq!(server.json(&["show", &run_id])["status"], "RUNNING");
    server.kill();
    gate.open();
    until("it has ended", || !is_alive(members[0]));
    server.start_again();
    let run = server.wait_for(&run_id, "STOPPED");
    assert_eq!((&run["outcome"], &run["exit_code"]), (&"stopped".into(), &9.into()), "{run}");
    // A shell may say first that the program it waited for was ended.
    let log = server.text(&["logs", &run_id]);
    assert!(log.ends_with("cleaned up\n"), "{log}");
}

#[test]
fn runs_that_end_while_the_server_is_away_are_told_as_they_were() {
    let mut server = Server::start();
    let gate = Gate::new();
    server.define("good", &format!("echo one\n{}\nseq 5000", gate.wait()));
    server.define("bad", &format!("echo two\n{}\necho oops >&2\nexit 42", gate.wait()));
    server.define("ugly", &format!("echo three\n{}\nkill -SEGV $$", gate.wait()));
    let runs =
        ["good", "bad", "ugly"].map(|alias| launch(&server, alias).json()["run_id"].as_str().unwrap().to_owned());
    for run_id in &runs {
        server.wait_for(run_id, "RUNNING");
    }
    assert!(server.stop().success());
    let stopped_at = Timestamp::now();
    gate.open();
    let ends = runs.each_ref().map(|run_id| server.data_dir().join(format!("runs/{run_id}-1/exit.json")));
    until("all have ended", || ends.iter().all(|end| end.exists()));
    let ended_at = Timestamp::now();
    server.start_again();

    for (run_id, exit_code, reason, log) in [
        (&runs[0], 0, Value::Null, format!("one\n{}", seq(5000))),
        (&runs[1], 42, "exited with code 42".into(), "two\noops\n".to_owned()),
        (&runs[2], 139, "ended by signal 11 (SIGSEGV)".into(), "three\n".to_owned()),
    ] {
        let run = server.wait_for(run_id, "STOPPED");
        assert_eq!((&run["exit_code"], &run["exit_reason"]), (&exit_code.into(), &reason), "{run}");
        let (started, finished) = (time(&run, "started_at"), time(&run, "finished_at"));
        assert!(started < stopped_at && stopped_at < finished && finished <= ended_at, "{run}");
        assert_eq!(server.text(&["logs", run_id]), log);
    }
}
