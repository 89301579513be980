//! The server is disturbed at random moments under load, again and again: killed, frozen for longer than any of its time
//! limits, restarted, with runs stopped and a cluster changed by request meanwhile. Afterwards every accepted launch has
//! run exactly once, to its end, with its own exit code, its reason and its whole log; and every stop was kept.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that fails says where and why")]

#[path = "../program/mod.rs"]
mod program;
#[path = "../support/mod.rs"]
mod support;

mod check;
mod leftovers;
mod load;
mod random;
mod trial;

use program::Server;
use serde_json::json;
use trial::{Trial, survive};

const LOCAL: Trial = Trial { disturbances: 12, within_ms: 700, most_runs: 240, image: "none" };

/// A server whose clusters may change by request.
fn server(config: &str) -> Server {
    Server::with_config(&format!("[server]\nclusters_by_request = true\n{config}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_disturbed_at_random_keeps_every_promise_on_sqlite() {
    let starts = tempfile::tempdir().unwrap();
    let server = survive(server(""), starts.path(), LOCAL, None).await;
    leftovers::assert_no_folder_is_left(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_disturbed_at_random_keeps_every_promise_on_postgres() {
    let Some(url) = support::postgres_url().await else { return };
    let starts = tempfile::tempdir().unwrap();
    let server = survive(server(&format!("database_url = {url:?}\n")), starts.path(), LOCAL, None).await;
    leftovers::assert_no_folder_is_left(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_disturbed_at_random_keeps_every_promise_on_docker() {
    let Some(host) = support::docker_address() else { return };
    let starts = tempfile::tempdir().unwrap();
    let mount = format!("{0}:{0}:rw", starts.path().display());
    let cluster = json!({"engine": "docker", "host": host, "mounts": [mount], "max_running": 8});
    let server = server(&format!("[clusters.boxes]\nengine = \"docker\"\nhost = {host:?}\nmounts = [{mount:?}]\n"));
    let trial = Trial { disturbances: 8, within_ms: 2500, most_runs: 60, image: support::DOCKER_IMAGE };
    let _server = survive(server, starts.path(), trial, Some(cluster)).await;
    leftovers::assert_no_container_is_left(&host, starts.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_disturbed_at_random_keeps_every_promise_on_kubernetes() {
    let Some(kubeconfig) = support::kubernetes_config() else { return };
    let starts = tempfile::tempdir().unwrap();
    let volume = format!("host:{0}:{0}:rw", starts.path().display());
    let cluster = json!({
        "engine": "kubernetes", "context": "flotilla", "kubeconfig": kubeconfig, "volumes": [volume], "max_running": 8,
    });
    let server = server(&format!(
        "[clusters.far]\nengine = \"kubernetes\"\ncontext = \"flotilla\"\nkubeconfig = {kubeconfig:?}\nvolumes = [{volume:?}]\n"
    ));
    let trial = Trial { disturbances: 10, within_ms: 4000, most_runs: 50, image: support::KUBERNETES_IMAGE };
    let server = survive(server, starts.path(), trial, Some(cluster)).await;
    leftovers::assert_no_job_is_left(&kubeconfig, &server).await;
}
