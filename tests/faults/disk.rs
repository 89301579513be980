//! A disk that is full: what needs room is refused as a whole, what runs goes on, and all goes on when there is room.

use std::fs;

use crate::program::{Server, Setup, until};
use crate::world::{Disk, get, launch, request, seq, story};

/// How much a database, a run and its log need at least.
const SIZE: &str = "size=3m";

fn server_on(disk: &Disk) -> Server {
    Server::with(Setup { data_dir: Some(disk.path().to_owned()), ..Setup::default() })
}

#[test]
fn on_a_full_disk_launches_are_refused_and_reads_go_on_until_there_is_room() {
    let Some(disk) = Disk::new(SIZE) else { return };
    let mut server = server_on(&disk);
    server.define("task", "echo done");
    let before = server.launch("task");
    server.wait_for(&before, "STOPPED");

    let filling = disk.fill();
    let mut accepted = vec![before.clone()];
    let mut refused = 0;
    // What is left of the last page may take a few.
    while refused < 20 {
        let answer = launch(&server, "task");
        match answer.status() {
            200 => accepted.push(answer.json()["run_id"].as_str().unwrap().to_owned()),
            507 => {
                assert_eq!(answer.error(), "the server's disk is full; nothing was stored");
                refused += 1;
            }
            _ => panic!("{answer:?}"),
        }
        assert!(accepted.len() < 100, "the disk is not full");
    }
    let definition = r#"{"alias": "other", "group_name": "g", "image": "i", "command": "true"}"#;
    let answer = request(&server, "POST", "/api/v1/task", definition);
    assert_eq!((answer.status(), answer.error().as_str()), (507, "the server's disk is full; nothing was stored"));
    let said = server.output(&["run", "task"]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("the server's disk is full; nothing was stored"), "{said:?}");

    for path in ["/health/live", "/health/ready", "/api/v1/history", "/api/v1/task", "/api/docs/"] {
        assert_eq!(get(&server, path).status(), 200, "{path}");
    }
    assert_eq!(server.text(&["logs", &before]), "done\n");
    assert_eq!(get(&server, "/api/v1/task/alias/other").status(), 404);
    assert_eq!(get(&server, "/api/v1/history").json()["total"], accepted.len(), "nothing is half stored");

    drop(filling);
    for run_id in &accepted {
        let run = server.wait_for(run_id, "STOPPED");
        assert_eq!((&run["exit_code"], &run["outcome"]), (&0.into(), &"succeeded".into()), "{run}");
        assert_eq!(server.text(&["logs", run_id]), "done\n");
    }
    let after = server.launch("task");
    server.wait_for(&after, "STOPPED");
    server.restart();
    assert_eq!(get(&server, "/api/v1/history").json()["total"], accepted.len() + 1);
    assert_eq!(server.text(&["logs", &after]), "done\n");
    assert_no_rubbish(&server);
}

/// Nothing is left of starts that failed.
fn assert_no_rubbish(server: &Server) {
    let runs = server.data_dir().join("runs");
    until("no folder is left of any attempt", || {
        let entries = fs::read_dir(&runs).unwrap().map(|entry| entry.unwrap());
        entries.filter(|entry| entry.path().is_dir()).count() == 0
    });
}

#[test]
fn a_task_whose_output_finds_no_room_goes_on_and_its_log_says_what_is_missing() {
    let Some(disk) = Disk::new(SIZE) else { return };
    let server = server_on(&disk);
    server.define("short", "echo short");
    let ended = server.launch("short");
    server.wait_for(&ended, "STOPPED");
    // It writes more than fits, then waits to be let on twice.
    let gates = tempfile::TempDir::new().unwrap();
    let gate = |name: &str| gates.path().join(name);
    let script = format!(
        "echo first
         until [ -e {0} ]; do sleep 0.02; done
         seq 5000
         touch {1}
         until [ -e {2} ]; do sleep 0.02; done
         echo last
         exit 7",
        gate("full").display(),
        gate("lost").display(),
        gate("room").display()
    );
    server.define("chatty", &script);
    let run_id = server.launch("chatty");
    server.wait_for(&run_id, "RUNNING");
    until("the first line is there", || server.text(&["logs", &run_id]) == "first\n");

    let filling = disk.fill();
    fs::write(gate("full"), "").unwrap();
    until("the task has written into a full disk", || gate("lost").exists());
    assert_eq!(server.json(&["show", &run_id])["status"], "RUNNING", "it is not ended for that");
    assert_eq!(server.text(&["logs", &ended]), "short\n");
    drop(filling);
    fs::write(gate("room"), "").unwrap();

    let run = server.wait_for(&run_id, "STOPPED");
    assert_eq!((&run["exit_code"], &run["exit_reason"]), (&7.into(), &"exited with code 7".into()));
    let log = server.text(&["logs", &run_id]);
    assert!(log.starts_with("first\n") && log.ends_with("\nlast\n"), "{log}");
    assert!(log.contains("bytes of output are missing here: No space left on device"), "{log}");
    let story = story(&server, &run_id);
    let (_, message) = story.iter().find(|(reason, _)| reason == "OutputLost").unwrap_or_else(|| panic!("{story:?}"));
    assert!(message.contains("could not be written to the log: No space left on device"), "{message}");
    assert_eq!(server.text(&["logs", &ended]), "short\n");
}

#[test]
fn a_task_that_ends_on_a_full_disk_is_known_to_have_ended_when_there_is_room() {
    let Some(disk) = Disk::new(SIZE) else { return };
    let mut server = server_on(&disk);
    let gate = tempfile::TempDir::new().unwrap();
    let (full, ended) = (gate.path().join("full"), gate.path().join("ended"));
    let script =
        format!("until [ -e {} ]; do sleep 0.02; done; seq 20000; touch {}; exit 3", full.display(), ended.display());
    server.define("task", &script);
    let (first, second) = (server.launch("task"), server.launch("task"));
    server.wait_for(&first, "RUNNING");
    server.wait_for(&second, "RUNNING");
    let filling = disk.fill();
    server.kill();
    fs::write(&full, "").unwrap();
    until("the task ended", || ended.exists());
    let exits = || {
        let runs = fs::read_dir(server.data_dir().join("runs")).unwrap();
        runs.filter(|run| run.as_ref().unwrap().path().join("exit.json").exists()).count()
    };
    until("how both ended is on the disk", || exits() == 2);
    drop(filling);
    server.start_again();
    for run_id in [&first, &second] {
        let run = server.wait_for(run_id, "STOPPED");
        assert_eq!((&run["exit_code"], &run["outcome"]), (&3.into(), &"failed".into()), "{run}");
        let story = story(&server, run_id);
        assert!(story.iter().any(|(reason, _)| reason == "OutputLost"), "{story:?}");
        // What could be written before is there, in order.
        let log = server.text(&["logs", run_id]);
        let whole = seq(20000);
        let kept = log.split_once("\n[flotilla: ").map_or(log.as_str(), |(kept, _)| kept);
        assert!(whole.starts_with(kept), "{log}");
    }
    assert_no_rubbish(&server);
}

#[test]
fn a_server_goes_on_whose_own_log_can_not_be_written_any_more() {
    let until_served = r#"exec "$@" 2> >(exec sed "/serving at/q" >&2)"#;
    let wrapper = ["bash", "-c", until_served, "bash"].map(str::to_owned).to_vec();
    let server = Server::with(Setup { wrapper, ..Setup::default() });
    server.define("task", "echo done");
    for _ in 0..3 {
        let run_id = server.launch("task");
        server.wait_for(&run_id, "STOPPED");
        assert_eq!(server.text(&["logs", &run_id]), "done\n");
    }
    assert!(!server.said().contains("launched"), "its log is still read");
}
