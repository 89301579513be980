//! What a run adds to what its job takes on a Kubernetes cluster anyway; and, with a number of runs, what that many do to
//! the server that has them in its queue.
//!
//! `raw` makes the job and watches it until it is complete; `run` asks the server for the same and watches that until it
//! has stopped. In turns, one at a time, medians compared.
//!
//! ```text
//! FLOTILLA_TEST_KUBERNETES=KUBECONFIG cargo bench --bench kubernetes              # rounds: `-- 15`, runs in the queue: `-- 15 1000`
//! ```
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, reason = "a program for people to read")]

mod support;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::StreamExt;
use k8s_openapi::api::batch::v1::Job;
use kube::api::{Api, DeleteParams, PostParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};

use support::{Connection, Samples, Server, folder, heading, number, report, tell_load, word};

const IMAGE: &str = "flotilla-test/busybox:1";
const COMMAND: &str = "echo hello";
/// How long nothing of one round may take.
const PATIENCE: Duration = Duration::from_mins(1);

fn main() -> Result<()> {
    let Ok(kubeconfig) = std::env::var("FLOTILLA_TEST_KUBERNETES") else {
        println!("kubernetes: not measured, FLOTILLA_TEST_KUBERNETES names no cluster");
        return Ok(());
    };
    tell_load()?;
    let runtime = tokio::runtime::Runtime::new()?;
    let jobs = runtime.block_on(jobs(&kubeconfig))?;
    let folder = folder()?;
    let config = format!(
        "[clusters.far]\nengine = \"kubernetes\"\nkubeconfig = {kubeconfig:?}\ncontext = \"flotilla\"\nmax_running = 20\n"
    );
    let server = Server::start(folder.path(), &config, &[])?;
    let mut connection = server.connect()?;
    let definition = |alias: &str, command: &str| {
        json!({"alias": alias, "group_name": "bench", "image": IMAGE, "command": command}).to_string()
    };
    let hello = word(&connection.json("POST", "/api/v1/task", &definition("hello", COMMAND))?, "definition_id")?;

    let rounds = number(0, 15)?;
    let [mut raw, mut run] = std::array::from_fn(|_| Samples::default());
    for round in 0..=rounds {
        let begun = Instant::now();
        runtime.block_on(run_raw(&jobs))?;
        let took_raw = begun.elapsed();
        let begun = Instant::now();
        let run_id = connection.launch(&hello)?;
        let stopped = wait_until_stopped(&mut connection, &run_id)?;
        let took = begun.elapsed();
        ensure!(stopped["exit_code"] == 0, "{stopped}");
        // The first of each finds things that are then known.
        if round > 0 {
            raw.add_time(took_raw);
            run.add_time(took);
        }
    }
    heading(&format!("one at a time, {rounds} rounds"));
    report("raw: created to complete", &raw, &raw);
    report("request to STOPPED", &run, &raw);
    println!("a run adds {:+.0} ms (medians)", (run.median() - raw.median()) / 1000.0);

    let many = number(1, 0)?;
    if many > 0 {
        let counted = definition("counted", "echo \"run $NUMBER\"; exit $((NUMBER % 7))");
        let counted = word(&connection.json("POST", "/api/v1/task", &counted)?, "definition_id")?;
        queue(&server, &mut connection, &counted, many)?;
    }
    server.stop()
}

async fn jobs(kubeconfig: &str) -> Result<Api<Job>> {
    let options = KubeConfigOptions { context: Some("flotilla".into()), ..KubeConfigOptions::default() };
    let config = kube::Config::from_custom_kubeconfig(Kubeconfig::read_from(kubeconfig)?, &options).await?;
    Ok(Api::namespaced(kube::Client::try_from(config)?, "default"))
}

/// Makes the job that a run is, waits until it is complete, and removes it behind.
async fn run_raw(jobs: &Api<Job>) -> Result<()> {
    let name = format!("bench-{}", uuid::Uuid::new_v4());
    let job: Job = serde_json::from_value(json!({
        "metadata": { "name": name },
        "spec": { "backoffLimit": 0, "template": { "spec": {
            "restartPolicy": "Never",
            "shareProcessNamespace": true,
            "automountServiceAccountToken": false,
            "containers": [{
                "name": "run", "image": IMAGE, "imagePullPolicy": "IfNotPresent",
                "command": ["/bin/sh", "-ec", COMMAND],
                "securityContext": {
                    "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] },
                    "seccompProfile": { "type": "RuntimeDefault" },
                },
            }],
        } } },
    }))?;
    let made = jobs.create(&PostParams::default(), &job).await?;
    let version = made.metadata.resource_version.context("a job has a version")?;
    let watching = WatchParams::default().fields(&format!("metadata.name={name}"));
    let completed = async {
        let mut events = jobs.watch(&watching, &version).await?.boxed();
        while let Some(event) = events.next().await {
            if let WatchEvent::Modified(job) = event?
                && job.status.and_then(|status| status.completion_time).is_some()
            {
                return Ok(());
            }
        }
        anyhow::bail!("the watch of {name} ended")
    };
    tokio::time::timeout(PATIENCE, completed).await??;
    jobs.delete(&name, &DeleteParams::background()).await?;
    Ok(())
}

fn wait_until_stopped(connection: &mut Connection, run_id: &str) -> Result<Value> {
    let begun = Instant::now();
    loop {
        let run = connection.get(&format!("/api/v6/{run_id}/status"))?;
        if run["status"] == "STOPPED" {
            return Ok(run);
        }
        ensure!(begun.elapsed() < PATIENCE, "it does not stop: {run}");
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// Many runs at once in the queue: each ends as its command says, and what the server needs for them.
fn queue(server: &Server, connection: &mut Connection, definition_id: &str, many: u32) -> Result<()> {
    let before = (memory_kb(server.pid())?, connections(server.pid())?);
    let begun = Instant::now();
    let mut run_ids = Vec::new();
    for number in 0..many {
        let body = json!({"env": [{"name": "NUMBER", "value": number.to_string()}]}).to_string();
        let run = connection.json("PUT", &format!("/api/v4/task/{definition_id}/execute"), &body)?;
        run_ids.push(word(&run, "run_id")?);
    }
    println!("\n{many} runs in the queue after {:.1?}", begun.elapsed());
    println!("{:>8} {:>8} {:>10} {:>24}", "s", "stopped", "memory kB", "open sockets");
    println!("{:>8} {:>8} {:>10} {:>24}", 0, 0, before.0, before.1);
    let mut last_told = Instant::now();
    loop {
        let list = connection.get("/api/v1/history?status=STOPPED&limit=1")?;
        let stopped = list["total"].as_u64().context("a list has a total")?;
        let is_over = stopped > u64::from(many);
        if is_over || last_told.elapsed() > Duration::from_secs(30) {
            last_told = Instant::now();
            let (memory, open) = (memory_kb(server.pid())?, connections(server.pid())?);
            println!("{:>8} {stopped:>8} {memory:>10} {open:>24}", begun.elapsed().as_secs());
        }
        if is_over && run_ids.iter().all(|run_id| is_stopped(connection, run_id)) {
            break;
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    let mut wrong = 0;
    for (number, run_id) in run_ids.iter().enumerate() {
        let run = connection.get(&format!("/api/v1/history/{run_id}"))?;
        let log = connection.get(&format!("/api/v1/{run_id}/logs"))?["log"].clone();
        if run["exit_code"] != number % 7 || log != json!(format!("run {number}\n")) {
            println!("wrong: {run} {log}");
            wrong += 1;
        }
    }
    println!("{many} runs took {:.0?}; {wrong} of them ended otherwise than their command says", begun.elapsed());
    Ok(())
}

fn is_stopped(connection: &mut Connection, run_id: &str) -> bool {
    connection.get(&format!("/api/v6/{run_id}/status")).is_ok_and(|run| run["status"] == "STOPPED")
}

fn memory_kb(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("a process has memory")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// How many sockets the server has open; one is ours.
fn connections(pid: u32) -> Result<usize> {
    let sockets: Vec<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))?
        .filter_map(|entry| Some(std::fs::read_link(entry.ok()?.path()).ok()?.to_string_lossy().into_owned()))
        .filter(|target| target.starts_with("socket:"))
        .collect();
    Ok(sockets.len())
}
