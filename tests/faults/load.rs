//! More than there is room for: open files, output, processes, runs.

use std::fs;
use std::io::Read;
use std::time::{Duration, Instant};

use crate::program::{Server, Setup, until};
use crate::world::{Wire, get, launch, memory_kb, request, story};

fn id(answer: &crate::world::Answer) -> String {
    assert_eq!(answer.status(), 200, "{answer:?}");
    answer.json()["run_id"].as_str().unwrap().to_owned()
}

#[test]
fn a_server_with_few_open_files_serves_what_it_can_and_recovers() {
    let wrapper = ["sh", "-c", "ulimit -n 64; exec \"$@\"", "sh"].map(str::to_owned).to_vec();
    let config = "[clusters.default]\nengine = \"local\"\nmax_running = 50\n".to_owned();
    let mut server = Server::with(Setup { config, wrapper, ..Setup::default() });
    server.define("task", "echo done");
    // A task whose test has failed ends, too.
    let folder = server.folder().display().to_string();
    server.define("gated", &format!("until [ -e {folder}/gate ] || [ ! -e {folder} ]; do sleep 0.05; done; echo done"));
    // More connections than the server may open files; those beyond its places wait to be accepted.
    let crowd: Vec<Wire> = (0..100).map(|_| Wire::open(&server)).collect();
    server.wait_until_said("there is no room for further connections");
    drop(crowd);
    until("there is room again", || get(&server, "/api/v1/history").status() == 200);
    // More runs than there are files for.
    let mut runs: Vec<String> = (0..40).map(|_| id(&launch(&server, "gated"))).collect();
    until("a run waits for an open file", || {
        runs.iter().any(|run_id| story(&server, run_id).iter().any(|(_, text)| text.contains("Too many open files")))
    });
    assert_eq!(get(&server, "/health/ready").status(), 200);
    assert_eq!(get(&server, "/api/v1/history").status(), 200);
    // A log takes a file more: where there is none, that is no failure but a matter of time.
    for run_id in &runs {
        let answer = get(&server, &format!("/api/v1/{run_id}/logs"));
        let is_later = answer.status() == 503 && answer.0.contains("retry-after: ");
        assert!(answer.status() == 200 || is_later, "{answer:?}");
    }
    fs::write(server.folder().join("gate"), "").unwrap();
    runs.extend((0..5).map(|_| id(&launch(&server, "task"))));
    for run_id in &runs {
        let run = server.wait_for(run_id, "STOPPED");
        assert_eq!(run["exit_code"], 0, "{run}");
    }
    // Now that the runs have let go of their files, there is one for each log.
    for run_id in &runs {
        assert_eq!(server.text(&["logs", run_id]), "done\n");
    }
    assert!(!server.said().contains("panicked"), "{}", server.said());
    assert!(server.stop().success());
}

#[test]
fn two_hundred_launches_at_once_start_in_their_order_and_all_end() {
    let server = Server::with_config("[clusters.default]\nengine = \"local\"\nmax_running = 5\n");
    server.define("task", "echo $FLOTILLA_RUN_ID");
    let runs: Vec<String> = (0..200).map(|_| id(&launch(&server, "task"))).collect();
    let busy = || {
        let count = |status: &str| {
            get(&server, &format!("/api/v1/history?limit=1&status={status}")).json()["total"].as_u64().unwrap()
        };
        count("PENDING") + count("RUNNING")
    };
    let ended = || get(&server, "/api/v1/history?limit=1&status=STOPPED").json()["total"] == 200;
    until("all have ended", || {
        let busy = busy();
        assert!(busy <= 10, "{busy} are busy");
        ended()
    });
    let mut dispatched = Vec::new();
    for run_id in &runs {
        let run = get(&server, &format!("/api/v1/history/{run_id}")).json();
        assert_eq!((&run["exit_code"], &run["attempt_count"]), (&0.into(), &1.into()), "{run}");
        let events = get(&server, &format!("/api/v1/{run_id}/events")).json();
        let events = events["pod_events"].as_array().unwrap();
        let event = events.iter().find(|event| event["reason"] == "Dispatched").unwrap();
        dispatched.push(event["timestamp"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap());
        let log = get(&server, &format!("/api/v1/{run_id}/logs")).json();
        assert_eq!(log["log"], format!("{run_id}\n"));
    }
    assert!(dispatched.is_sorted(), "they were started in another order");
}

#[test]
fn two_hundred_megabytes_of_output_are_kept_to_the_last_byte() {
    const LINES: usize = 2_000_000;
    let server = Server::start();
    // Lines of 100 bytes.
    server.define("chatty", &format!("seq -f '%0.0f {}' 1000000 {}", "x".repeat(91), 1_000_000 + LINES - 1));
    let run_id = server.launch("chatty");
    let run = server.wait_for(&run_id, "STOPPED");
    assert_eq!(run["exit_code"], 0, "{run}");
    let mut download = Wire::open(&server);
    download.say(format!("GET /api/v1/{run_id}/logs?raw_text=true HTTP/1.0\r\n\r\n"));
    let log = download.hear().0;
    let (_, log) = log.split_once("\r\n\r\n").unwrap();
    assert_eq!(log.len(), LINES * 100);
    let is_whole =
        log.lines().enumerate().all(|(i, line)| line.split(' ').next() == Some(&(1_000_000 + i).to_string()));
    assert!(is_whole, "lines are missing or mixed");
    let peak = memory_kb(&server, "VmHWM");
    assert!(peak < 150_000, "the server took {peak} kB");
}

#[test]
fn lists_of_any_size_take_little_memory_however_many_are_asked_for_at_once() {
    const RUNS: usize = 100;
    let server = Server::with_config("[clusters.local]\nengine = \"local\"\nmax_running = 1\n");
    server.define("large", "sleep 600");
    let variables: Vec<_> =
        (0..5).map(|i| serde_json::json!({"name": format!("V{i}"), "value": "x".repeat(100_000)})).collect();
    let body = serde_json::json!({ "env": variables }).to_string();
    for _ in 0..RUNS {
        assert_eq!(request(&server, "PUT", "/api/v1/task/alias/large/execute", &body).status(), 200);
    }
    // Each list holds the variables twice, under both of their names.
    let list = || {
        let mut client = Wire::open(&server);
        client.say("GET /api/v1/history?limit=10000 HTTP/1.0\r\n\r\n");
        let (mut length, mut last, mut piece) = (0, 0, vec![0; 1 << 20]);
        while let Ok(read) = client.0.read(&mut piece)
            && read > 0
        {
            (length, last) = (length + read, piece[read - 1]);
        }
        assert!(length > RUNS * 2 * 500_000 && last == b'}', "{length} bytes");
    };
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(list);
        }
    });
    let peak = memory_kb(&server, "VmHWM");
    assert!(peak < 250_000, "the server took {peak} kB");
}

#[test]
fn a_task_that_starts_ever_more_processes_is_stopped_with_all_of_them() {
    let server = Server::with_config("[runs]\ngrace_secs = 1\n");
    let mark = format!("600.{}", std::process::id());
    // They don't care for SIGTERM, leave the session, and are born while others are killed.
    let script = format!(
        "trap '' TERM
         born() {{ trap '' TERM; sleep {mark}; }}
         i=0
         while [ $i -lt 1500 ]; do
           i=$((i + 1))
           born & setsid sh -c \"trap '' TERM; sleep {mark}; :\" &
           [ $i -ne 150 ] || echo many
           sleep 0.005
         done
         sleep {mark}"
    );
    server.define("bomb", &script);
    let run_id = server.launch("bomb");
    until("there are many", || server.text(&["logs", &run_id]) == "many\n");
    assert!(processes(&mark) > 200);
    let begun = Instant::now();
    server.text(&["stop", &run_id]);
    let run = server.wait_for(&run_id, "STOPPED");
    assert_eq!((&run["outcome"], &run["exit_code"]), (&"stopped".into(), &137.into()), "{run}");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_eq!(processes(&mark), 0);
    assert_eq!(story(&server, &run_id).last().unwrap().0, "Stopped");
}

/// How many processes have this in their command line.
fn processes(mark: &str) -> usize {
    let processes =
        fs::read_dir("/proc").unwrap().filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok());
    processes.filter(|line| String::from_utf8_lossy(line).split('\0').any(|word| word == mark)).count()
}
