//! The services that `scripts/test` starts are what the other tests take them for.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that fails says where and why")]

mod support;

use std::process::Command;

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
