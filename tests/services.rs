//! The services that `scripts/test` starts are what the other tests take them for.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that fails says where and why")]

mod support;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use sqlx::{Connection, PgConnection};

#[tokio::test]
async fn each_test_gets_an_empty_database_of_its_own() {
    let (Some(first), Some(second)) = (support::postgres_url().await, support::postgres_url().await) else { return };
    let mut connection = PgConnection::connect(&first).await.unwrap();
    sqlx::raw_sql("CREATE TABLE only_here (id BIGINT)").execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();

    let mut connection = PgConnection::connect(&second).await.unwrap();
    assert!(sqlx::raw_sql("SELECT id FROM only_here").execute(&mut connection).await.is_err());
}

/// Through the command line of Docker itself, so that a failure here is the machine's and not our engine's.
#[test]
fn the_docker_engine_runs_containers_with_a_memory_limit_and_a_network() {
    let Some(address) = support::docker_address() else { return };
    let script = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; ip addr";
    let output = Command::new("docker")
        .args(["--host", &address, "run", "--rm", "--memory", "32m", support::DOCKER_IMAGE, "sh", "-c", script])
        .env_remove("DOCKER_CONTEXT")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.lines().any(|line| line == "33554432"), "{output:?}");
    assert!(told.contains("eth0"), "{output:?}");
}

/// Through `kubectl`, so that a failure here is the machine's and not our engine's.
#[test]
fn the_kubernetes_cluster_runs_a_job_to_its_end_and_keeps_its_log() {
    let Some(config) = support::kubernetes_config() else { return };
    let namespace = format!("flotilla-services-{}", std::process::id());
    kubectl(&config, &["create", "namespace", &namespace], "");
    let outcome = std::panic::catch_unwind(|| {
        kubectl(&config, &["--namespace", &namespace, "create", "--filename=-"], &job("echo it ran in $HOSTNAME"));
        let wait = ["wait", "job/hello", "--for=condition=complete", "--timeout=60s"];
        kubectl(&config, &[&["--namespace", namespace.as_str()], wait.as_slice()].concat(), "");
        kubectl(&config, &["--namespace", &namespace, "logs", "job/hello"], "")
    });
    kubectl(&config, &["delete", "namespace", &namespace, "--wait=false"], "");
    let log = outcome.unwrap();
    assert!(log.starts_with("it ran in hello-"), "{log}");
}

fn job(command: &str) -> String {
    let container = serde_json::json!({
        "name": "main", "image": support::KUBERNETES_IMAGE, "command": ["bash", "-ec", command],
    });
    let pod = serde_json::json!({ "spec": { "restartPolicy": "Never", "containers": [container] } });
    let metadata = serde_json::json!({ "name": "hello" });
    let job = serde_json::json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": { "backoffLimit": 0, "template": pod },
    });
    job.to_string()
}

/// What it prints; its failure is the test's.
fn kubectl(config: &Path, arguments: &[&str], input: &str) -> String {
    let mut kubectl = Command::new("kubectl")
        .arg("--kubeconfig")
        .arg(config)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    kubectl.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = kubectl.wait_with_output().unwrap();
    assert!(output.status.success(), "kubectl {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}
