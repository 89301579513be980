//! The command line through the real binary, against a real server.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/hostile.rs"]
mod hostile;
mod program;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::fd::FromRawFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use program::{Going, Said, Server, flotilla};
use tempfile::TempDir;

const COMMANDS: [&str; 9] = ["serve", "quickstart", "define", "tasks", "run", "ps", "show", "logs", "stop"];

#[test]
fn every_help_shows_examples_and_every_shell_has_completions() {
    let folder = TempDir::new().unwrap();
    let ask = |arguments: &[&str]| Said::of(flotilla(folder.path()).args(arguments));
    for command in COMMANDS {
        let said = ask(&[command, "--help"]);
        assert_eq!(said.code, 0);
        assert!(said.out.contains("Example"), "{command}: {}", said.out);
        assert!(said.out.lines().all(|line| line.chars().count() <= 100), "{command}: {}", said.out);
    }
    let said = ask(&["--help"]);
    assert!(COMMANDS.iter().all(|command| said.out.contains(command)), "{}", said.out);
    assert!(said.out.contains("Exit codes:") && !said.out.contains("supervise"), "{}", said.out);
    for shell in ["bash", "zsh", "fish"] {
        // A variable that is wrong is in nobody's way who needs no server.
        let said = Said::of(flotilla(folder.path()).args(["completions", shell]).env("FLOTILLA_SERVER", "::"));
        assert!(said.code == 0 && said.out.contains("quickstart"), "{shell}: {said:?}");
    }
}

#[test]
fn wrong_usage_is_two_and_says_what_is_wrong() {
    let folder = TempDir::new().unwrap();
    for (arguments, message) in [
        (&["frobnicate"][..], "unrecognized subcommand 'frobnicate'"),
        (&["run"], "<ALIAS>"),
        (&["run", "x", "-e", "=v"], "it must begin with a name"),
        (&["run", "x", "-e", "NOT_SET_ANYWHERE"], "NOT_SET_ANYWHERE is not set here; write NOT_SET_ANYWHERE=VALUE"),
        (&["run", "x", "--label", "l"], "write it as KEY=VALUE"),
        (&["run", "x", "--memory", "much"], "invalid value 'much' for '--memory <MB>'"),
        (&["run", "x", "--memory", "-5", "--cpu"], "a value is required for '--cpu <MILLIS>'"),
        (&["ps", "--limit", "-5"], "invalid value '-5' for '--limit <NUMBER>'"),
        (&["ps", "--status", "dead"], "known are QUEUED, PENDING, RUNNING, NEEDS_RETRY, STOPPED"),
        (&["ps", "--json", "--quiet"], "cannot be used with"),
        (&["ps", "--server", "ftp://h"], "`ftp` is neither http nor https"),
        (&["ps", "--server", "::"], "write it like http://127.0.0.1:3000"),
        (&["stop"], "<RUN>"),
        (&["define"], "--file <FILE>"),
    ] {
        let said = Said::of(flotilla(folder.path()).args(arguments));
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{arguments:?}: {said:?}");
        assert!(said.err.starts_with("error: ") && said.err.contains(message), "{arguments:?}: {}", said.err);
    }
}

#[test]
fn a_server_that_is_not_there_is_told_with_where_it_was_looked_for() {
    let folder = TempDir::new().unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    for command in [&["ps"][..], &["run", "x", "--follow"], &["logs", "-f", "x"], &["stop", "x"], &["show", "x"]] {
        let said = Said::of(flotilla(folder.path()).args(command).args(["--server", &free]));
        assert_eq!((said.code, said.out.as_str()), (1, ""), "{command:?}");
        let error =
            format!("error: cannot reach the server at http://{free}: Connection refused (os error 111)\nhint: ");
        assert!(said.err.starts_with(&error) && said.err.contains("--server URL"), "{}", said.err);
    }
}

#[test]
fn a_server_that_is_no_flotilla_is_told_as_such() {
    let folder = TempDir::new().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for answer in ["200 OK", "404 Not Found"] {
            let mut stream = BufReader::new(listener.accept().unwrap().0);
            while stream.by_ref().lines().next().is_some_and(|line| !line.unwrap().is_empty()) {}
            let answer = format!("HTTP/1.1 {answer}\r\nContent-Length: 5\r\nConnection: close\r\n\r\n<p>hi");
            stream.get_mut().write_all(answer.as_bytes()).unwrap();
        }
    });
    for cause in ["expected value at line 1 column 1", "it says 404 Not Found, without a reason"] {
        let said = Said::of(flotilla(folder.path()).args(["ps", "--server", &address]));
        assert_eq!(said.code, 1);
        let error =
            format!("error: unexpected answer from http://{address}: {cause}\nhint: is there a flotilla server");
        assert!(said.err.starts_with(&error), "{}", said.err);
    }
}

#[test]
fn what_the_server_refuses_is_told_in_its_words() {
    let server = Server::start();
    let unknown = "01a203d3-46df-7301-a68c-8c8d73066cc4";
    for arguments in [
        &["run", "nobody"][..],
        &["run", "nobody", "--follow"],
        &["show", "nobody"],
        &["show", unknown],
        &["logs", unknown],
        &["logs", "-f", unknown],
        &["logs", unknown, "--json"],
        &["stop", unknown],
    ] {
        let said = server.output(arguments);
        assert_eq!((said.code, said.out.as_str()), (1, ""), "{arguments:?}");
        let name = arguments.iter().find(|word| ["nobody", unknown].contains(word)).unwrap();
        assert!(said.err.starts_with("error: ") && said.err.contains(name), "{arguments:?}: {}", said.err);
        assert!(
            said.err.ends_with("\nhint: `flotilla tasks` lists what is defined, `flotilla ps -a` what runs and ran\n")
        );
        assert_eq!(said.err.lines().count(), 2, "{}", said.err);
    }
    server.define("t", "true");
    let said = server.output(&["run", "t", "--cluster", "moon", "--memory", "-1"]);
    assert!(said.code == 1 && said.err.contains("moon") && said.err.contains("memory"), "{said:?}");
    // `..` would lead to another route.
    assert!(server.output(&["run", ".."]).err.contains("\"..\" can't be the name of anything"));
}

#[test]
fn a_definition_is_created_then_updated_from_toml_and_json() {
    let server = Server::start();
    let file = server.folder().join("task.toml");
    fs::write(&file, "alias = 'a'\ngroup_name = 'g'\nimage = 'i'\ncommand = 'true'\ntags = ['x']\n[env]\nA = '1'\n")
        .unwrap();
    let said = server.text(&["define", "-f", "task.toml"]);
    assert!(said.starts_with("created a (g-"), "{said}");

    let mut command = server.command(&["define", "-f", "-"]);
    let said = Said::with_input(&mut command, br#"{"alias": "a", "command": "echo $A", "env": {"A": 2}}"#);
    assert!(said.code == 0 && said.out.starts_with("updated a (g-"), "{said:?}");
    let definition = &server.json(&["show", "a"])["definition"];
    assert_eq!(definition["command"], "echo $A");
    assert_eq!(definition["env"], serde_json::json!([{"name": "A", "value": "2"}]));
    assert_eq!(definition["tags"], serde_json::json!(["x"]), "what is left out stays");

    let mut command = server.command(&["define", "-f", "-", "--json"]);
    let said = Said::with_input(&mut command, definition.to_string().as_bytes());
    let answer: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((&answer["action"], &answer["definition"]["env"]), (&"updated".into(), &definition["env"]));

    for (text, message) in [
        ("", "`"),
        ("alias = 'b'", "group_name"),
        ("alias = 'a'\ngroup_name = 'other'", "group_name"),
        ("alais = 'b'", "error: standard input is not a definition: `alais` is no field of it"),
        ("alias = ", "error: standard input is not a definition: line 1: "),
        ("{\"alias\": 5}", "error: standard input is not a definition: `alias`: invalid type"),
    ] {
        let said = Said::with_input(&mut server.command(&["define", "-f", "-"]), text.as_bytes());
        assert!(said.code == 1 && said.err.contains(message), "{text:?}: {said:?}");
        assert!(said.err.starts_with("error: ") && !said.err.contains("panicked"), "{}", said.err);
    }
    let said = server.output(&["define", "-f", "missing.toml"]);
    assert_eq!(said.err, "error: cannot read missing.toml: No such file or directory (os error 2)\n");
    let said = Said::with_input(&mut server.command(&["define", "-f", "-"]), b"\xff\xfe");
    assert_eq!(said.err, "error: cannot read standard input: it is not UTF-8 text\n");
}

#[test]
fn a_followed_run_prints_its_log_and_exits_as_the_task_did() {
    let server = Server::start();
    for (script, code, reason) in [
        ("echo out; echo err >&2", 0, "succeeded (ran for "),
        ("echo out; echo err >&2; exit 3", 3, "failed: exited with code 3"),
        ("echo out; echo err >&2; exit 255", 255, "failed: exited with code 255"),
        ("echo out; echo err >&2; kill -KILL $$", 137, "failed: ended by signal 9 (SIGKILL)"),
    ] {
        server.define("t", script);
        let said = server.output(&["run", "t", "--follow"]);
        assert_eq!((said.code, said.out.as_str()), (code, "out\nerr\n"), "{said:?}");
        assert!(said.err.contains(reason), "{}", said.err);
        assert_eq!(server.output(&["run", "t", "-fq"]).err, "", "quiet means quiet");
    }
}

#[test]
fn a_run_that_never_ran_exits_with_one_and_says_why() {
    let server = Server::with_config("[clusters.default]\nengine = 'local'\nshell = ['/not/there']\n");
    server.define("t", "true");
    let said = server.output(&["run", "t", "--follow"]);
    assert_eq!((said.code, said.out.as_str()), (1, ""), "{said:?}");
    assert!(said.err.contains("rejected: ") && said.err.contains("/not/there"), "{}", said.err);
}

#[test]
fn a_run_that_is_stopped_before_its_start_exits_like_one_that_was_ended() {
    let server = Server::with_config("[clusters.default]\nengine = 'local'\nmax_running = 1\n");
    server.define("t", "sleep 30");
    let first = server.launch("t");
    server.wait_for(&first, "RUNNING");
    let following = Going::start(&mut server.command(&["run", "t", "-f", "--description", "second"]));
    let second = loop {
        let runs = server.json(&["ps", "--status", "queued"]);
        if let Some(run_id) = runs["history"][0]["run_id"].as_str() {
            break run_id.to_owned();
        }
    };
    let said = server.text(&["stop", &second, &first]);
    assert_eq!(said, format!("{second} stopped on request before it started\n{first} is being stopped\n"));
    let said = following.end();
    assert_eq!((said.code, said.out.as_str()), (143, ""), "{said:?}");
    assert!(said.err.contains(" stopped on request before it started"), "{}", said.err);
}

#[test]
fn variables_and_overrides_reach_the_run() {
    let server = Server::start();
    server.define("t", "printf '%s|' \"$A\" \"$B\" \"$C\"");
    let mut command = server.command(&["run", "t", "--follow", "-e", "A=1=2 ä\n3", "-e", "B", "-e", "C=x", "-e", "C="]);
    let said = Said::of(command.env("B", "from here"));
    assert_eq!((said.code, said.out.as_str()), (0, "1=2 ä\n3|from here||"));

    let arguments = [
        "run",
        "t",
        "--command",
        "echo other",
        "--memory",
        "100",
        "--cpu",
        "200",
        "--owner",
        "ada",
        "--description",
        "why",
        "--label",
        "a=b",
        "--label",
        "c=d=e",
        "--deadline",
        "60",
        "--cluster",
        "default",
        "--idempotence-key",
        "k",
    ];
    let run = server.json(&arguments);
    for (field, value) in [
        ("command", "echo other".into()),
        ("memory", 100.into()),
        ("cpu", 200.into()),
        ("user", "ada".into()),
        ("description", "why".into()),
        ("labels", serde_json::json!({"a": "b", "c": "d=e"})),
        ("active_deadline_seconds", 60.into()),
    ] {
        assert_eq!(run[field], value, "{field}");
    }
    assert_eq!(server.json(&arguments)["run_id"], run["run_id"], "the same key, the same run");
}

#[test]
fn an_interrupt_stops_the_run_and_its_end_is_awaited() {
    let server = Server::start();
    server.define("polite", "trap 'echo bye; exit 7' TERM; echo ready; sleep 30 & wait");
    let mut following = Going::start(&mut server.command(&["run", "polite", "--follow"]));
    assert_eq!(following.next_line(), "ready\n");
    following.signal(Signal::SIGINT);
    let said = following.end();
    assert_eq!((said.code, said.out.as_str()), (7, "bye\n"), "{said:?}");
    assert!(said.err.contains("stopping run ") && said.err.contains(" stopped on request (ran for "), "{}", said.err);

    server.define("plain", "echo ready; sleep 30");
    let mut following = Going::start(&mut server.command(&["run", "plain", "--follow"]));
    assert_eq!(following.next_line(), "ready\n");
    following.signal(Signal::SIGTERM);
    assert_eq!(following.end().code, 143);
}

#[test]
fn a_second_interrupt_leaves_at_once() {
    let server = Server::start();
    server.define("stubborn", "trap 'echo no' TERM; echo ready; while :; do sleep 0.1 || :; done");
    let mut following = Going::start(&mut server.command(&["run", "stubborn", "--follow"]));
    assert_eq!(following.next_line(), "ready\n");
    following.signal(Signal::SIGINT);
    // The shell may first tell that its `sleep` was terminated.
    while following.next_line() != "no\n" {}
    let begun = Instant::now();
    following.signal(Signal::SIGINT);
    assert_eq!(following.end().code, 130);
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_log_is_followed_over_a_restart_of_the_server() {
    let mut server = Server::start();
    server.define("count", "for i in 1 2 3 4 5 6 7 8 9; do echo $i; sleep 0.3; done; exit 5");
    let mut following = Going::start(&mut server.command(&["run", "count", "--follow"]));
    assert_eq!(following.next_line(), "1\n");
    server.restart();
    let said = following.end();
    assert_eq!((said.code, said.out.as_str()), (5, "2\n3\n4\n5\n6\n7\n8\n9\n"), "{said:?}");
    assert!(said.err.contains("; trying again"), "{}", said.err);
}

#[test]
fn logs_are_the_bytes_that_were_written_and_can_be_followed() {
    let server = Server::start();
    server.define("bytes", r"printf 'a\000\377\303\244\033[1m'; echo; exit 1");
    let run_id = server.launch("bytes");
    let said = server.output(&["logs", "-f", &run_id]);
    assert_eq!(said.code, 0, "following is done, whatever became of the run: {said:?}");
    assert!(said.err.contains("failed: exited with code 1"), "{}", said.err);
    for follow in [&["logs", &run_id][..], &["logs", "-f", &run_id], &["run", "bytes", "--follow"]] {
        let output = server.command(follow).output().unwrap();
        assert_eq!(output.stdout, b"a\0\xff\xc3\xa4\x1b[1m\n", "{follow:?}");
    }
    let said = server.output(&["logs", &run_id, "--json"]);
    assert_eq!(said.lines()[0]["type"], "log");

    server.define("slow", "echo one; sleep 1; echo two");
    let run_id = server.launch("slow");
    let mut following = Going::start(&mut server.command(&["logs", "-f", &run_id]));
    assert_eq!((following.next_line(), following.next_line()), ("one\n".into(), "two\n".into()));
    assert_eq!(following.end().code, 0);

    server.define("forever", "echo one; sleep 30");
    let run_id = server.launch("forever");
    let mut following = Going::start(&mut server.command(&["logs", "-f", &run_id, "--json"]));
    assert!(following.next_line().contains(r#""log":"one\n""#));
    drop(following);
    server.wait_for(&run_id, "RUNNING");
    server.text(&["stop", &run_id]);
    server.wait_for(&run_id, "STOPPED");
}

#[test]
fn ps_lists_what_runs_and_more_when_asked() {
    let server = Server::start();
    assert_eq!(server.output(&["ps"]).err, "no such runs\n");
    server.define("short", "exit 4");
    server.define("long", "sleep 30");
    let short = server.launch("short");
    server.wait_for(&short, "STOPPED");
    let long = server.launch("long");
    server.wait_for(&long, "RUNNING");

    let ids = |arguments: &[&str]| server.text(&[arguments, &["-q"]].concat());
    assert_eq!(ids(&["ps"]), format!("{long}\n"));
    assert_eq!(ids(&["ps", "-a"]), format!("{long}\n{short}\n"), "newest first");
    assert_eq!(ids(&["ps", "--status", "stopped"]), format!("{short}\n"));
    assert_eq!(ids(&["ps", "--status", "STOPPED", "--status", "running"]), format!("{long}\n{short}\n"));
    assert_eq!(ids(&["ps", "-a", "--alias", "short"]), format!("{short}\n"));
    assert_eq!(ids(&["ps", "-a", "--cluster", "moon"]), "");

    let said = server.output(&["ps", "-a", "-n", "1"]);
    assert!(said.out.starts_with("RUN  "), "{}", said.out);
    assert_eq!((said.out.lines().count(), said.err.as_str()), (2, "1 of 2; -n shows more\n"));
    let table = server.text(&["ps", "-a"]);
    let row = table.lines().find(|line| line.starts_with(&short)).unwrap();
    assert!(row.contains("  short  default  STOPPED (failed)  ") && row.ends_with("  4"), "{table}");

    let said = server.output(&["stop", &long, "01a203d3-46df-7301-a68c-8c8d73066cc4", &short]);
    assert_eq!(said.code, 1, "one of them is unknown");
    let expected = format!("{long} is being stopped\n{short} had ended already: failed: exited with code 4\n");
    assert_eq!(said.out, expected);
    assert!(said.err.starts_with("error: ") && said.err.contains("01a203d3"), "{}", said.err);
    server.wait_for(&long, "STOPPED");
}

#[test]
fn what_begins_with_a_dash_is_a_command_and_an_alias_as_anything_else() {
    let server = Server::start();
    let definition = br#"{"alias": "-x", "group_name": "g", "image": "i", "command": "true"}"#;
    let said = Said::with_input(&mut server.command(&["define", "-f", "-"]), definition);
    assert!(said.err.contains("run it with: flotilla run --follow -- -x\n"), "{said:?}");
    let said = server.output(&["run", "--follow", "--", "-x"]);
    assert_eq!(said.code, 0, "{said:?}");
    let description = "- a list";
    let said = server.output(&["run", "--command", "-c 1", "--description", description, "--follow", "--", "-x"]);
    assert_eq!(said.code, 127, "the shell finds no program `-c`: {said:?}");
}

#[test]
fn a_task_without_an_alias_is_called_by_its_id_and_shows_its_own_runs_alone() {
    let server = Server::start();
    server.define("other", "true");
    server.launch("other");
    let mut command = server.command(&["define", "-f", "-", "--json"]);
    let said = Said::with_input(&mut command, br#"{"group_name": "g", "image": "i", "command": "true"}"#);
    let defined: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(defined["definition"]["alias"], "");
    let id = defined["definition"]["definition_id"].as_str().unwrap();
    assert!(server.text(&["tasks"]).contains(id));
    assert_eq!(server.json(&["show", id])["history"], serde_json::json!([]));
    let run_id = server.launch(id);
    assert_eq!(server.json(&["show", id])["history"][0]["run_id"], run_id.as_str());
    assert!(server.text(&["show", &run_id]).contains(id));
}

#[test]
fn json_is_one_document_or_one_object_a_line() {
    let server = Server::start();
    server.define("t", "echo hi");
    assert_eq!(server.json(&["tasks"])["definitions"][0]["alias"], "t");
    let run = server.json(&["run", "t"]);
    let run_id = run["run_id"].as_str().unwrap();
    server.wait_for(run_id, "STOPPED");
    assert_eq!(server.json(&["ps", "-a"])["total"], 1);
    assert_eq!(server.json(&["show", "t"])["history"][0]["run_id"], run_id);
    assert!(server.json(&["show", run_id])["pod_events"].as_array().is_some_and(|events| events.len() > 2));
    assert_eq!(server.json(&["stop", run_id])[0]["stopped"], true);

    let said = server.output(&["run", "t", "--follow", "--json"]);
    let types: Vec<_> = said.lines().iter().map(|line| line["type"].as_str().unwrap().to_owned()).collect();
    assert_eq!((types.first().unwrap().as_str(), types.last().unwrap().as_str()), ("launched", "ended"), "{types:?}");
    let log: String = said.lines().iter().filter_map(|line| line["log"].as_str().map(str::to_owned)).collect();
    assert_eq!(log, "hi\n");
}

#[test]
fn a_run_within_a_run_is_its_child() {
    let server = Server::start();
    server.define("child", "sleep 30");
    let program = env!("CARGO_BIN_EXE_flotilla");
    server.define("parent", &format!("{program} run child -q --server {}; sleep 30", server.url));
    let parent = server.launch("parent");
    let mut following = Going::start(&mut server.command(&["logs", "-f", &parent]));
    let child = following.next_line().trim().to_owned();
    assert_eq!(server.json(&["show", &child])["parent_run_id"], parent.as_str());
    assert_eq!(server.json(&["show", &parent])["spawned_runs"][0]["run_id"], child.as_str());
    server.text(&["stop", &parent]);
    let run = server.wait_for(&child, "STOPPED");
    assert_eq!(run["exit_reason"], "stopped because its parent was stopped");
    assert_eq!(following.end().code, 0);
}

#[test]
fn a_reader_who_has_seen_enough_is_no_failure() {
    let server = Server::start();
    server.define("long", "i=0; while [ $i -lt 20000 ]; do echo a line of many; i=$((i+1)); done");
    let run_id = server.launch("long");
    server.wait_for(&run_id, "STOPPED");
    for arguments in [
        &["logs", &run_id][..],
        &["logs", "-f", &run_id],
        &["logs", &run_id, "--json"],
        &["run", "long", "--follow"],
        &["ps", "-a"],
        &["show", &run_id],
        &["tasks"],
        &["completions", "bash"],
        &["--help"],
    ] {
        let mut child = server.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {err}");
        assert!(!err.contains("error") && !err.contains("panicked"), "{arguments:?}: {err}");
    }
}

#[test]
fn output_that_cannot_be_written_is_a_failure() {
    let server = Server::start();
    server.define("t", "true");
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = server.command(&["tasks"]).stdout(full).output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(err, "error: cannot write the output: No space left on device (os error 28)\n");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_server_that_cannot_start_says_why() {
    let server = Server::start();
    let address = server.url.trim_start_matches("http://");
    let ask = |arguments: &[&str]| Said::of(flotilla(server.folder()).arg("serve").args(arguments));
    for (arguments, message) in [
        (&["--listen", address][..], "error: cannot listen on 127.0.0.1:"),
        (&["--listen", "127.0.0.1:0", "--data-dir", "data"], "error: another flotilla server uses the data directory"),
        (&["--listen", "here"], "`--listen` "),
        (&["--config", "missing.toml"], "error: cannot read the configuration file missing.toml: "),
        (&["--database-url", "mysql://u:s3cret@h/d"], "`--database-url` must begin with"),
    ] {
        let said = ask(arguments);
        assert_eq!((said.code, said.out.as_str()), (1, ""), "{arguments:?}: {said:?}");
        assert!(said.err.contains(message) && !said.err.contains("s3cret"), "{arguments:?}: {}", said.err);
    }
    let said = Said::of(flotilla(server.folder()).arg("serve").env("FLOTILLA_LISTEN", "nowhere"));
    assert!(said.code == 1 && said.err.contains("`FLOTILLA_LISTEN` "), "{}", said.err);
}

#[test]
fn a_cluster_is_drained_and_resumed() {
    let server = Server::start();
    server.define("hello", "echo hello");
    let listed = server.text(&["clusters"]);
    assert!(
        listed.starts_with("CLUSTER          ENGINE  STATUS  RUNNING  WAITING\nlocal (default)  local   active  0 of "),
        "{listed}"
    );
    let drained = server.text(&["drain", "local", "--reason", "new disks"]);
    assert_eq!(drained, "local is maintenance; 0 running, 0 waiting\n");
    let run_id = server.launch("hello");
    let waiting = server.text(&["show", &run_id]);
    assert!(waiting.contains("it waits     the cluster local is in maintenance since "), "{waiting}");
    let listed = server.text(&["clusters"]);
    assert!(listed.contains("maintenance") && listed.contains(": new disks\n"), "{listed}");
    assert_eq!(server.text(&["clusters", "-q"]), "local\n");

    assert!(server.text(&["resume", "local"]).starts_with("local is active; "));
    assert_eq!(server.wait_for(&run_id, "STOPPED")["exit_code"], 0);
    let unknown = server.output(&["drain", "nowhere"]);
    assert_eq!(unknown.code, 1);
    assert!(unknown.err.contains("there is no cluster \"nowhere\"; there is default, local"), "{unknown:?}");
}

/// What a command shows on a terminal of its own.
fn on_a_terminal(mut command: Command) -> String {
    let (mut master, mut slave) = (-1, -1);
    // SAFETY: the two places are ours, and nothing else is asked for or given.
    let opened = unsafe {
        nix::libc::openpty(&raw mut master, &raw mut slave, std::ptr::null_mut(), std::ptr::null(), std::ptr::null())
    };
    assert_eq!(opened, 0, "{}", std::io::Error::last_os_error());
    // SAFETY: both were opened just now, and nobody else has them.
    let (mut master, slave) = unsafe { (fs::File::from_raw_fd(master), fs::File::from_raw_fd(slave)) };
    command.stdin(Stdio::null()).stdout(slave.try_clone().unwrap()).stderr(slave);
    let mut child = command.spawn().unwrap();
    // It has our end of the terminal.
    drop(command);
    let (mut shown, mut piece) = (Vec::new(), [0; 4096]);
    // A terminal that nobody has open any more says that it can't be read.
    while let Ok(length) = master.read(&mut piece)
        && length > 0
    {
        shown.extend_from_slice(&piece[..length]);
    }
    child.wait().unwrap();
    String::from_utf8_lossy(&shown).replace("\r\n", "\n")
}

#[test]
fn on_a_terminal_a_log_shows_its_text_and_colours_and_gives_no_commands() {
    let server = Server::start();
    // Clears the screen, names the window, fills the clipboard, has the terminal type, hides the beginning of a line.
    let exact = "\x1b[2J\x1b[H\x1b]0;owned\x07\x1b]52;c;cm0=\x07\x1b[6n\x1b[31mred\x1b[0m rm\rls\u{9b}2J\n";
    let octal: String = exact.bytes().map(|byte| format!("\\{byte:03o}")).collect();
    server.define("evil", &format!("printf '{octal}'"));
    let run_id = server.launch("evil");
    server.wait_for(&run_id, "STOPPED");
    for arguments in
        [&["logs", &run_id][..], &["logs", "-f", &run_id], &["logs", "-q", &run_id], &["run", "evil", "--follow"]]
    {
        let shown = on_a_terminal(server.command(arguments));
        assert!(shown.contains("\x1b[31mred\x1b[0m rm\nls\u{fffd}2J\n"), "{arguments:?}: {shown:?}");
        let commands: Vec<_> = shown.split('\x1b').skip(1).map(|rest| rest.split('m').next().unwrap()).collect();
        assert_eq!(commands, ["[31", "[0", "[0"], "{arguments:?}: {shown:?}");
        // To another program it goes as it is, and to a terminal as well where somebody asks for it.
        assert_eq!(server.output(arguments).out, exact, "{arguments:?}");
        let raw = on_a_terminal(server.command(&[arguments, &["--raw"]].concat()));
        assert!(raw.contains(exact), "{arguments:?}: {raw:?}");
    }
    let json = on_a_terminal(server.command(&["logs", &run_id, "--json"]));
    assert!(json.chars().all(|c| c == '\n' || !c.is_control()), "{json:?}");
}

#[test]
fn no_text_of_others_gives_a_terminal_commands() {
    let server = Server::start();
    let evil = "a\x1b[2J\x1b]0;owned\x07\r\u{9b}2J\u{202e}b";
    let definition = serde_json::json!({
        "alias": "evil", "group_name": "tests", "image": "none", "command": format!("# {evil}\nexit 3"), "env": {"A": evil},
    });
    fs::write(server.folder().join("evil.json"), definition.to_string()).unwrap();
    let run = on_a_terminal(server.command(&["define", "-f", "evil.json"]));
    assert!(run.contains("created evil"), "{run:?}");
    let run_id = server.text(&["run", "evil", "-q", "--description", evil]).trim().to_owned();
    server.wait_for(&run_id, "STOPPED");
    server.text(&["drain", "local", "--reason", &evil.replace('\x1b', "")]);
    for arguments in [
        &["show", "evil"][..],
        &["show", &run_id],
        &["show", &run_id, "--json"],
        &["tasks"],
        &["ps", "-a"],
        &["clusters"],
        &["stop", &run_id],
        &["show", evil],
        &["logs", evil],
        &["run", evil],
        &["run", "evil", "--cluster", evil],
        &["define", "-f", "no-such\x1b[2J.toml"],
    ] {
        let shown = on_a_terminal(server.command(arguments));
        let is_harmless = |c: char| c == '\n' || !c.is_control() && c != '\u{202e}' && c != '\u{2028}';
        // In JSON the direction is the reader's affair.
        let is_harmless = |c: char| is_harmless(c) || arguments.contains(&"--json") && c == '\u{202e}';
        assert!(!shown.is_empty() && shown.chars().all(is_harmless), "{arguments:?}: {shown:?}");
    }
}

#[test]
fn an_answer_of_a_server_gives_a_terminal_no_commands() {
    let folder = TempDir::new().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let serving = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = BufReader::new(stream.try_clone().unwrap());
        let mut line = String::new();
        while request.read_line(&mut line).unwrap() > 2 {
            line.clear();
        }
        let body = r#"{"error": "no\u001b]0;owned\u0007\nway\u009b2J"}"#;
        let head = format!("HTTP/1.1 400 Bad Request\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all((head + body).as_bytes()).unwrap();
    });
    let mut command = flotilla(folder.path());
    command.args(["tasks", "--server", &address]);
    let shown = on_a_terminal(command);
    serving.join().unwrap();
    assert_eq!(shown, "error: no\u{fffd}]0;owned\u{fffd}\nway\u{fffd}2J\n");
}

#[test]
fn every_field_of_a_definition_file_comes_back_as_it_was_or_is_refused_by_name() {
    let server = Server::start();
    let (mut accepted, mut refused) = (0, 0);
    for (name, text) in hostile::texts() {
        let value = serde_json::Value::String(text.clone());
        let known = format!("known-{accepted}");
        // What may hold any text, together; and what may not, each alone.
        let whole = serde_json::json!({
            "alias": known, "group_name": "g", "image": "i:1", "command": format!("x{text}"), "env": {"A": text},
        });
        let mut files = vec![("command", whole)];
        for field in ["alias", "user", "tags"] {
            let mut file = serde_json::json!({"alias": known, "group_name": "g", "image": "i:1", "command": "c"});
            file[field] = if field == "tags" { serde_json::json!([value]) } else { value.clone() };
            files.push((field, file));
        }
        for (field, file) in files {
            let said =
                Said::with_input(&mut server.command(&["define", "-f", "-", "--json"]), file.to_string().as_bytes());
            if said.code != 0 {
                assert_eq!(said.code, 1, "{field} = {name}: {said:?}");
                assert!(
                    said.err.contains(field) || said.err.contains("env[0].value"),
                    "{field} = {name}: {}",
                    said.err
                );
                assert!(said.err.trim_end().chars().all(|c| !c.is_control()), "{field} = {name}: {}", said.err);
                refused += 1;
                continue;
            }
            accepted += 1;
            let definition: serde_json::Value = serde_json::from_str(&said.out).unwrap();
            let definition = &definition["definition"];
            match field {
                "command" => {
                    assert_eq!(
                        definition["command"],
                        file["command"].as_str().unwrap().replace("\r\n", "\n"),
                        "{name}"
                    );
                    assert_eq!(definition["env"][0]["value"], value, "{name}");
                }
                // No alias is an empty one in an answer, which equals what was given.
                "user" if text.is_empty() => assert!(definition["user"].is_null(), "{name}: {definition}"),
                _ => assert_eq!(definition[field], file[field], "{field} = {name}"),
            }
        }
    }
    assert!(accepted > 90 && refused > 60, "{accepted} {refused}");
}

#[test]
fn every_option_of_a_launch_keeps_or_refuses_every_text() {
    let server = Server::start();
    server.text(&["drain", "local"]);
    server.define("t", "true");
    // No program can be given a longer argument, nor one with a NUL.
    for (name, text) in hostile::texts().into_iter().filter(|(_, text)| text.len() < 100_000 && !text.contains('\0')) {
        let label = format!("team={text}");
        let variable = format!("A={text}");
        for (field, pointer, options) in [
            ("env", "/env/0/value", ["-e", &variable]),
            ("description", "/description", ["--description", &text]),
            ("labels", "/labels/team", ["--label", &label]),
            ("owner_id", "/user", ["--owner", &text]),
            ("idempotence_key", "/idempotence_key", ["--idempotence-key", &text]),
        ] {
            let [option, value] = options;
            let argument = if option == "-e" { format!("-e{value}") } else { format!("{option}={value}") };
            let said = server.output(&["run", "t", &argument, "--json"]);
            if said.code != 0 {
                assert!(said.err.contains(field), "{field} = {name}: {said:?}");
                continue;
            }
            let run: serde_json::Value = serde_json::from_str(&said.out).unwrap();
            match (field, text.is_empty()) {
                ("owner_id", true) => assert_eq!(run["user"], "v1-unknown"),
                ("idempotence_key", true) => assert!(run[field].is_null(), "{run}"),
                _ => assert_eq!(run.pointer(pointer).unwrap(), text.as_str(), "{field} = {name}"),
            }
        }
    }
    assert_eq!(server.output(&["ps"]).code, 0);
}
