//! The whole journey through the real binary, as somebody goes it who has just built it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod program;

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use program::{PATIENCE, Said, Server, flotilla};
use tempfile::TempDir;

#[test]
fn quickstart_shows_a_whole_run_and_leaves_nothing_behind() {
    let (folder, temporary) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let begun = Instant::now();
    let said = Said::of(flotilla(folder.path()).arg("quickstart").env("USER", "ada").env("TMPDIR", temporary.path()));
    assert_eq!(said.code, 0, "{said:?}");
    assert!(begun.elapsed() < PATIENCE / 4, "{:?}", begun.elapsed());
    for text in [
        "Hello, ada. This is run ",
        "  NAME=ada\n",
        "step 1 of 5\nstep 2 of 5\n",
        "Goodbye, ada.\n",
        "status       STOPPED (succeeded)\n",
        "exit code    0\n",
        "of waiting\n",
        "after running for ",
        "peak memory  ",
        "What to type next:",
        " run hello -e NAME=you --follow ",
    ] {
        assert!(said.out.contains(text), "{text:?} is missing in {}", said.out);
    }
    for text in ["A server is up at http://127.0.0.1:", "succeeded (ran for ", "Its log is /"] {
        assert!(said.err.contains(text), "{text:?} is missing in {}", said.err);
    }
    for place in [&folder, &temporary] {
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0, "it leaves nothing behind");
    }
}

#[test]
fn quickstart_with_a_folder_keeps_what_it_made_for_a_server() {
    let folder = TempDir::new().unwrap();
    let said = Said::of(flotilla(folder.path()).args(["quickstart", "--data-dir", "kept"]).env("USER", "ada"));
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.contains("serve --data-dir kept "), "{}", said.out);
    let log = said.err.split_once("Its log is ").and_then(|(_, rest)| rest.split_once(".\n")).unwrap().0;
    assert!(fs::read_to_string(log).unwrap().ends_with("Goodbye, ada.\n"), "{log}");
    assert!(Path::new(log).starts_with(folder.path().canonicalize().unwrap().join("kept")));

    let again = Said::of(flotilla(folder.path()).args(["quickstart", "--data-dir", "kept", "--json"]));
    assert_eq!(again.code, 0, "the task is there already: {again:?}");
    let ended = again.lines().pop().unwrap();
    assert_eq!((&ended["type"], &ended["run"]["exit_code"]), (&"ended".into(), &0.into()));
}

#[test]
fn quickstart_ends_in_peace_when_nobody_reads_on() {
    let (folder, temporary) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let mut command = flotilla(folder.path());
    command.arg("quickstart").env("TMPDIR", temporary.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn quickstart_says_what_is_in_its_way() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let said = Said::of(flotilla(folder.path()).args(["quickstart", "--data-dir", "file"]));
    assert_eq!((said.code, said.out.as_str()), (1, ""));
    assert!(said.err.starts_with("error: cannot start the server: cannot "), "{}", said.err);
    assert!(said.err.contains("file") && said.err.lines().count() == 1, "{}", said.err);
}

/// What README and `quickstart` tell to type, on one server and over its restart.
#[test]
fn a_task_is_defined_run_looked_at_and_stopped() {
    let mut server = Server::start();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/hello.toml");
    let said = server.text(&["define", "-f", example.to_str().unwrap()]);
    assert!(said.starts_with("created hello (examples-"), "{said}");
    assert!(server.text(&["tasks"]).contains("\nhello  examples  debian:stable-slim  64 MB   example  "));

    let said = server.output(&["run", "hello", "-e", "NAME=ada", "--follow"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.starts_with("Hello, ada.") && said.out.ends_with("Goodbye, ada.\n"), "{}", said.out);

    server.restart();
    let runs = server.json(&["ps", "-a"]);
    let run_id = runs["history"][0]["run_id"].as_str().unwrap();
    assert_eq!(server.text(&["logs", run_id]), said.out, "the log outlives the server");
    let story = server.text(&["show", run_id]);
    for text in ["STOPPED (succeeded)", "\nevents\n", "Queued ", "Succeeded "] {
        assert!(story.contains(text), "{text:?} is missing in {story}");
    }
    assert!(server.text(&["show", "hello"]).contains(run_id), "a task is shown with its latest runs");

    server.define("long", "sleep 30");
    let run_id = server.launch("long");
    server.wait_for(&run_id, "RUNNING");
    server.restart();
    assert_eq!(server.wait_for(&run_id, "RUNNING")["attempt_count"], 1, "a run outlives the server");
    assert!(server.text(&["ps"]).contains(&run_id));
    assert_eq!(server.text(&["stop", &run_id]), format!("{run_id} is being stopped\n"));
    let run = server.wait_for(&run_id, "STOPPED");
    assert_eq!((&run["outcome"], &run["exit_code"]), (&"stopped".into(), &143.into()));
    assert_eq!(server.text(&["ps", "-q"]), "");
}
