//! Ended attempts are cleaned away, but for the few that the loops have not come to yet.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::program::Server;

/// How long cleaning may take.
const PATIENCE: Duration = Duration::from_mins(2);

pub async fn assert_no_folder_is_left(server: &Server) {
    let runs_dir = server.folder().join("data/runs");
    let begun = Instant::now();
    loop {
        let left: Vec<_> = std::fs::read_dir(&runs_dir)
            .unwrap()
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.path().is_dir())
            .collect();
        if left.is_empty() {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "left in {}: {left:?}", runs_dir.display());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub async fn assert_no_container_is_left(host: &str, starts: &Path) {
    let begun = Instant::now();
    loop {
        let mut listing = std::process::Command::new("docker");
        listing
            .args(["--host", host, "ps", "--all", "--quiet", "--filter"])
            .arg(format!("volume={}", starts.display()));
        let listed = listing.output().unwrap();
        assert!(listed.status.success(), "{listed:?}");
        if listed.stdout.is_empty() {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "left: {listed:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub async fn assert_no_job_is_left(kubeconfig: &Path, server: &Server) {
    let history = reqwest::get(format!("{}/api/v1/history?limit=10000", server.url)).await.unwrap();
    let history: Value = history.json().await.unwrap();
    let names = history["history"].as_array().unwrap().iter().map(|run| run["run_id"].as_str().unwrap().to_owned());
    let run_ids: Vec<String> = names.collect();
    let begun = Instant::now();
    loop {
        let mut listing = std::process::Command::new("kubectl");
        listing.arg("--kubeconfig").arg(kubeconfig).args(["get", "jobs,pods", "-o", "name"]);
        let listed = listing.output().unwrap();
        assert!(listed.status.success(), "{listed:?}");
        let text = String::from_utf8(listed.stdout).unwrap();
        if !run_ids.iter().any(|run_id| text.contains(run_id)) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "left: {text}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
