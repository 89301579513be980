//! The command line through the real binary, against a real server.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod program;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::Stdio;
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
