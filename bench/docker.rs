//! What a run in a container costs beside the calls that a container costs anyway.
//!
//! Runs a trivial container in three ways, in turns, alone and eight at once: `raw` makes the calls (create, start, wait,
//! logs, remove) one after the other; `engine` does what the control loops do (launch, look when poked, pump the output,
//! remove); `server` is the real binary, from the request that launches a run until a follower of its log is told that
//! it is whole, which is when the run has stopped and its container is removed.
//!
//! ```text
//! FLOTILLA_TEST_DOCKER=unix:///… cargo bench --bench docker
//! ```
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, reason = "a program for people to read")]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use bollard::models::{ContainerCreateBody, HostConfig, HostConfigLogConfig};
use bollard::query_parameters::{CreateContainerOptions, LogsOptions, RemoveContainerOptions};
use bollard::{API_DEFAULT_VERSION, Docker};
use flotilla::engine::docker::{DockerEngine, DockerSettings, Identity};
use flotilla::engine::{Engine, Handle, LaunchSpec, Origin, Output, Reports};
use flotilla::model::{AttemptId, DefinitionId, Execution, LogPosition, Observation, RunId, TaskSpec};
use futures_util::future::join_all;
use futures_util::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use serde_json::json;

use support::{Samples, Server, folder, heading, number, report, tell_load, word};

const IMAGE: &str = "flotilla-test/busybox:1";
const COMMAND: &str = "echo hello";

#[tokio::main]
async fn main() -> Result<()> {
    let Ok(host) = std::env::var("FLOTILLA_TEST_DOCKER") else {
        println!("docker: not measured, FLOTILLA_TEST_DOCKER names no daemon");
        return Ok(());
    };
    // Enough that the median stands, with the noise of a machine that does other things as well.
    let rounds = number(0, 15)?;
    tell_load()?;
    let docker = Docker::connect_with_unix(&host, 60, API_DEFAULT_VERSION)?.negotiate_version().await?;
    let config =
        DockerSettings { host: Some(host.clone()), network_mode: Some("none".into()), ..DockerSettings::default() };
    let identity = Identity { installation_id: RunId::generate().to_string(), cluster: "bench".into() };
    let reports = Reports::default();
    let engine: Arc<dyn Engine> = Arc::new(DockerEngine::new(config, identity, reports.clone(), Timestamp::now));
    let folder = folder()?;
    let text = format!("[clusters.default]\nengine = \"docker\"\nhost = \"{host}\"\nnetwork_mode = \"none\"\n");
    let server = Server::start(folder.path(), &text, &[])?;
    let body = json!({"alias": "trivial", "group_name": "bench", "image": IMAGE, "command": COMMAND});
    let definition = server.connect()?.json("POST", "/api/v1/task", &body.to_string())?;
    let definition = word(&definition, "definition_id")?;

    run_raw(&docker).await;
    run_all(&engine, &reports, 1).await;
    run_on(&server, &definition, 1)?;
    for at_once in [1, 8] {
        let [mut raw, mut ours, mut whole] = std::array::from_fn(|_| Samples::default());
        for _ in 0..rounds {
            raw.add_time(timed(async { drop(join_all((0..at_once).map(|_| run_raw(&docker))).await) }).await);
            ours.add_time(timed(run_all(&engine, &reports, at_once)).await);
            let begun = Instant::now();
            tokio::task::block_in_place(|| run_on(&server, &definition, at_once))?;
            whole.add_time(begun.elapsed());
        }
        heading(&format!("{at_once} at once, {rounds} rounds"));
        report("raw: create, start, wait, logs, remove", &raw, &raw);
        report("engine: launch, observe, output, remove", &ours, &raw);
        report("server: request to STOPPED, log whole, container removed", &whole, &raw);
    }
    tell_load()?;
    server.stop()
}

async fn timed(work: impl Future<Output = ()>) -> Duration {
    let begin = Instant::now();
    work.await;
    begin.elapsed()
}

/// So many clients, each of which launches a run and follows its log to the end.
fn run_on(server: &Server, definition: &str, at_once: usize) -> Result<()> {
    let client = || -> Result<()> {
        let run_id = server.connect()?.launch(definition)?;
        server.connect()?.follow(&run_id)?;
        let run = server.connect()?.get(&format!("/api/v1/history/{run_id}"))?;
        anyhow::ensure!(run["outcome"] == "succeeded", "{run}");
        Ok(())
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..at_once).map(|_| scope.spawn(client)).collect();
        clients.into_iter().try_for_each(|client| client.join().map_err(|_| anyhow::anyhow!("a client panicked"))?)
    })
}

async fn run_raw(docker: &Docker) {
    let name = format!("bench-{}", RunId::generate());
    let options = CreateContainerOptions { name: Some(name.clone()), ..CreateContainerOptions::default() };
    let body = ContainerCreateBody {
        image: Some(IMAGE.into()),
        entrypoint: Some(["/bin/sh", "-ec", COMMAND].map(str::to_owned).to_vec()),
        host_config: Some(HostConfig {
            network_mode: Some("none".into()),
            init: Some(true),
            log_config: Some(HostConfigLogConfig { typ: Some("local".into()), config: None }),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    };
    docker.create_container(Some(options), body).await.unwrap();
    docker.start_container(&name, None).await.unwrap();
    docker.wait_container(&name, None).try_collect::<Vec<_>>().await.unwrap();
    let options = LogsOptions { stdout: true, stderr: true, ..LogsOptions::default() };
    let output: Vec<_> = docker.logs(&name, Some(options)).try_collect().await.unwrap();
    assert_eq!(output.len(), 1);
    let options = RemoveContainerOptions { force: true, v: true, ..RemoveContainerOptions::default() };
    docker.remove_container(&name, Some(options)).await.unwrap();
}

/// As the control loops do it: one loop looks at all that was poked about, and each attempt goes its way from there.
async fn run_all(engine: &Arc<dyn Engine>, reports: &Reports, at_once: usize) {
    let launches = (0..at_once).map(|_| async {
        let handle = engine.launch(&spec()).await.unwrap();
        reports.changed(handle.attempt_id);
        handle
    });
    let watch = async {
        let (mut pumps, mut ends) = (std::collections::BTreeMap::new(), Vec::new());
        while ends.len() < at_once {
            let poked = reports.take().await.into_iter();
            let handles: Vec<_> = poked.map(|attempt_id| Handle { attempt_id, text: "container".into() }).collect();
            for (handle, seen) in handles.iter().zip(engine.observe(&handles).await.unwrap()) {
                let has_ended = match seen {
                    Observation::Running(_) => false,
                    Observation::Ended(_) => true,
                    Observation::Starting | Observation::Gone { .. } => continue,
                    other => panic!("{other:?}"),
                };
                let pump = pumps
                    .entry(handle.attempt_id)
                    .or_insert_with(|| Some(tokio::spawn(pump(Arc::clone(engine), handle.clone()))));
                if has_ended && let Some(pump) = pump.take() {
                    let (engine, handle) = (Arc::clone(engine), handle.clone());
                    ends.push(tokio::spawn(async move {
                        pump.await.unwrap();
                        engine.remove(&handle).await.unwrap();
                    }));
                }
            }
        }
        for end in ends {
            end.await.unwrap();
        }
    };
    tokio::join!(join_all(launches), watch);
}

async fn pump(engine: Arc<dyn Engine>, handle: Handle) {
    let Output::Stream(mut chunks) = engine.output(&handle, &LogPosition::default()).await.unwrap() else {
        panic!("the output is a stream")
    };
    let mut bytes = 0;
    while let Some(chunk) = chunks.next().await {
        bytes += chunk.unwrap().bytes.len();
    }
    assert_eq!(bytes, "hello\n".len());
}

fn spec() -> LaunchSpec {
    LaunchSpec {
        attempt_id: AttemptId { run_id: RunId::generate(), attempt: 1 },
        origin: Origin { definition_id: DefinitionId::from_text("bench-1"), alias: None, group_name: "bench".into() },
        task: TaskSpec { image: IMAGE.into(), command: COMMAND.into(), ..TaskSpec::default() },
        execution: Execution::default(),
        log_path: "unused".into(),
        log_cap_bytes: 100 << 20,
        grace: Duration::from_secs(10),
        longest_start: None,
    }
}
