//! What has to be true of every run after the disturbances.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::load::{Load, is_long};

/// What shells write to the log when what they wait for is ended by a signal.
const SHELL_WORDS: [&str; 3] = ["", "Terminated\n", "Killed\n"];

/// What the log of a pod says that was deleted, as a stop does it, before its output was read to the end.
const MISSING: &str = "\n[flotilla: output may be missing here: ";

/// Every run that there is ended once, as its command says or as it was asked to; every accepted one is there.
pub async fn check(load: &Load) {
    let accepted = load.accepted.lock().await.clone();
    assert!(accepted.len() >= load.least_runs, "only {} launches were accepted", accepted.len());
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
    load.assert_no_place_is_taken().await;
}

fn check_ended(number: u32, run: &Value, starts: &str, log: &str) {
    assert_eq!(starts, "started\n", "run {number} started once: {run:#}");
    assert_eq!(run["exit_code"], number % 7, "{run:#}");
    let outcome = if number.is_multiple_of(7) { "succeeded" } else { "failed" };
    assert_eq!(run["outcome"], outcome, "{run:#}");
    let reason = if number.is_multiple_of(7) { Value::Null } else { json!(format!("exited with code {}", number % 7)) };
    assert_eq!(run["exit_reason"], reason, "{run:#}");
    assert!(run["started_at"].is_string() && run["finished_at"].is_string(), "{run:#}");
    let lines = (1..=8).map(|line| format!("run {number} line {line}\n")).collect::<Vec<_>>().concat();
    assert_eq!(log, format!("{lines}run {number} ends\n"), "run {number}: {run:#}");
}

fn check_stopped(number: u32, run: &Value, starts: &str, log: &str) {
    assert!(["", "started\n"].contains(&starts), "run {number} started at most once: {starts:?} {run:#}");
    assert_eq!(run["outcome"], "stopped", "run {number} was asked to stop: {run:#}");
    let reason = run["exit_reason"].as_str().unwrap_or_default();
    assert!(reason.starts_with("stopped on request"), "run {number}: {run:#}");
    let begins = format!("run {number} begins\n");
    // A stop may come between the two.
    let kept = log.split_once(MISSING).map_or(log, |(kept, _)| kept);
    let rest = kept.strip_prefix(&begins).unwrap_or(kept);
    assert!(SHELL_WORDS.contains(&rest), "run {number}: {log:?} {run:#}");
    assert!(run["started_at"].is_string() || log.is_empty(), "run {number}: {log:?} {run:#}");
}

fn variable(run: &Value, name: &str) -> String {
    let var = run["env"].as_array().unwrap().iter().find(|var| var["name"] == name).unwrap();
    var["value"].as_str().unwrap().to_owned()
}
