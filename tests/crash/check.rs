//! What has to be true of every run after the disturbances.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::load::{Load, is_long};

/// Every run that there is ended once, as its command says or as it was asked to; every accepted one is there.
pub async fn check(load: &Load) {
    let accepted = load.accepted.lock().await.clone();
    assert!(accepted.len() > 10, "only {} launches were accepted", accepted.len());
    let runs = load.wait_until_all_stopped().await;
    let mut by_number: BTreeMap<u32, &Value> = BTreeMap::new();
    for run in &runs {
        let number: u32 = variable(run, "NUMBER").parse().unwrap();
        assert!(by_number.insert(number, run).is_none(), "launch {number} became two runs");
    }
    for (number, run_id) in &accepted {
        assert_eq!(
            by_number.get(number).map(|run| &run["run_id"]),
            Some(&json!(run_id)),
            "launch {number} was accepted"
        );
    }
    for (number, run) in by_number {
        let starts = std::fs::read_to_string(format!("{}/{number}", load.starts)).unwrap_or_default();
        let log = load.log(&run["run_id"]).await;
        if is_long(number) {
            check_stopped(number, run, &starts, &log);
        } else {
            check_ended(number, run, &starts, &log);
        }
    }
}

fn check_ended(number: u32, run: &Value, starts: &str, log: &str) {
    assert_eq!(starts, "started\n", "run {number} started once: {run:#}");
    assert_eq!(run["exit_code"], number % 7, "{run:#}");
    let outcome = if number.is_multiple_of(7) { "succeeded" } else { "failed" };
    assert_eq!(run["outcome"], outcome, "{run:#}");
    if !number.is_multiple_of(7) {
        assert_eq!(run["exit_reason"], format!("exited with code {}", number % 7), "{run:#}");
    }
    let lines = (1..=8).map(|line| format!("run {number} line {line}\n")).collect::<Vec<_>>().concat();
    assert_eq!(log, format!("{lines}run {number} ends\n"), "run {number}: {run:#}");
}

fn check_stopped(number: u32, run: &Value, starts: &str, log: &str) {
    assert!(["", "started\n"].contains(&starts), "run {number} started at most once: {starts:?} {run:#}");
    assert_eq!(run["outcome"], "stopped", "run {number} was asked to stop: {run:#}");
    let reason = run["exit_reason"].as_str().unwrap_or_default();
    assert!(reason.starts_with("stopped on request"), "run {number}: {run:#}");
    let begins = format!("run {number} begins\n");
    // A stop may come between the two; a shell may say in the log what ended its command.
    assert!(log.is_empty() || log.starts_with(&begins), "run {number}: {log:?}");
    assert!(!log.contains("sleep 900\n") && log.matches("begins").count() <= 1, "run {number}: {log:?}");
}

fn variable(run: &Value, name: &str) -> String {
    let var = run["env"].as_array().unwrap().iter().find(|var| var["name"] == name).unwrap();
    var["value"].as_str().unwrap().to_owned()
}
