//! Limits are enforced or told as not enforced, and use is measured.

use std::time::Duration;

use flotilla::model::{EndCause, Ended};

use super::world;

/// Machines without control groups that we may use say so, and the test has nothing more to see.
fn is_enforced(ended: &Ended) -> bool {
    let note = ended.started.notes.iter().find(|note| note.reason == "LimitNotEnforced");
    if let Some(note) = note {
        eprintln!("not tested: {}", note.message);
    }
    note.is_none()
}

#[tokio::test]
async fn beyond_its_memory_a_task_is_killed_and_this_is_told() {
    let world = world();
    // Without a line's end `tail` must keep everything.
    let mut spec = world.spec("head -c 200000000 /dev/zero | tail");
    spec.task.memory_mb = Some(32);
    let handle = world.engine.launch(&spec).await.unwrap();
    let ended = world.ended(&handle).await;
    if is_enforced(&ended) {
        assert_eq!((ended.exit_code, ended.killed_for_memory), (137, true));
        assert_eq!(ended.usage.memory_limit_bytes, Some(32 << 20));
        let peak = ended.usage.max_memory_bytes.unwrap();
        assert!((30 << 20..=32 << 20).contains(&peak), "{peak}");
    } else {
        assert_eq!((ended.exit_code, ended.usage.memory_limit_bytes), (0, None));
    }
}

#[tokio::test]
async fn a_task_that_goes_on_after_a_process_of_it_was_killed_for_memory_has_its_own_end() {
    let world = world();
    let mut spec = world.spec("(head -c 200000000 /dev/zero | tail) || true; sleep 1.5; exit 3");
    spec.task.memory_mb = Some(32);
    let (ended, _) = world.run_spec(&spec).await;
    let is_enforced = is_enforced(&ended);
    assert_eq!((ended.exit_code, ended.cause, ended.killed_for_memory), (3, EndCause::Exited, is_enforced));
}

#[tokio::test]
async fn a_failure_that_has_nothing_to_do_with_memory_is_told_as_it_is() {
    let world = world();
    let mut spec = world.spec("exit 9");
    spec.task.memory_mb = Some(32);
    let (ended, _) = world.run_spec(&spec).await;
    assert_eq!((ended.exit_code, ended.cause), (9, EndCause::Exited));
}

#[tokio::test]
async fn a_share_of_a_cpu_is_all_a_task_gets() {
    let world = world();
    let mut spec = world.spec("while :; do :; done");
    spec.task.cpu_millis = Some(200);
    spec.execution.active_deadline_secs = Some(2);
    let (ended, _) = world.run_spec(&spec).await;
    assert_eq!(ended.cause, EndCause::Deadline);
    let (cpu_time, peak) = (ended.usage.cpu_time_ms.unwrap(), ended.usage.max_cpu_millis.unwrap());
    if is_enforced(&ended) {
        assert_eq!(ended.usage.cpu_limit_millis, Some(200));
        assert!((100..700).contains(&cpu_time), "{cpu_time} ms in two seconds");
        assert!((50..400).contains(&peak), "{peak} thousandths");
    } else {
        assert!(cpu_time > 0);
    }
}

#[tokio::test]
async fn a_task_past_its_deadline_is_ended_without_a_server() {
    let world = world();
    let mut spec = world.spec("sleep 1000");
    spec.execution.active_deadline_secs = Some(1);
    let handle = world.engine.launch(&spec).await.unwrap();
    // The supervisor takes the status as it is, whoever looks.
    let later = world.restarted();
    let ended = later.ended(&handle).await;
    assert_eq!((ended.exit_code, ended.cause), (143, EndCause::Deadline));
    let lived = ended.finished_at.duration_since(ended.started.at);
    assert!(lived >= jiff::SignedDuration::from_millis(990), "{lived}");
}

#[tokio::test]
async fn what_a_task_used_is_measured_over_all_its_processes() {
    let world = world();
    let burn = "sh -c 'i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done' & sh -c 'head -c 30000000 /dev/zero | tail | wc -c'; wait";
    let (ended, output) = world.run(burn).await;
    assert_eq!(output.trim(), "30000000");
    assert!(ended.usage.max_memory_bytes.unwrap() > 25 << 20, "{:?}", ended.usage);
    assert!(ended.usage.cpu_time_ms.unwrap() > 50, "{:?}", ended.usage);
    assert!(ended.usage.max_cpu_millis.unwrap() > 100, "{:?}", ended.usage);
    assert_eq!((ended.usage.memory_limit_bytes, ended.usage.cpu_limit_millis), (None, None));
}

#[tokio::test]
async fn no_control_group_is_left_behind() {
    let world = world();
    let mut spec = world.spec("cat /proc/self/cgroup; echo $$ > shell; sleep 1000");
    (spec.task.memory_mb, spec.task.cpu_millis) = (Some(64), Some(500));
    let handle = world.engine.launch(&spec).await.unwrap();
    world.running(&handle).await;
    world.number(&spec, "shell").await;
    world.engine.stop(&handle, Duration::from_secs(10)).await.unwrap();
    let (ended, output) = world.finish(&spec, &handle).await;
    if is_enforced(&ended) {
        assert!(output.contains(&format!("/flotilla-{}", spec.attempt_id)), "{output}");
    }
    let left = std::process::Command::new("find")
        .args(["/sys/fs/cgroup", "-name", &format!("flotilla-{}", spec.attempt_id)])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&left.stdout), "");
}
