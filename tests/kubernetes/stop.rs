//! Stops, and what they keep.

use std::time::Duration;

use flotilla::engine::EngineError;
use flotilla::model::{EndCause, Observation, StartFault};

use crate::world::{GRACE, kubectl, object, world};

#[tokio::test(flavor = "multi_thread")]
async fn a_command_uses_its_grace_and_what_it_says_in_it_is_kept() {
    let Some(world) = world().await else { return };
    let handle =
        world.launch("trap 'echo bye; sleep 1; echo done; exit 7' TERM; echo hi; while :; do sleep 0.1; done").await;
    world.running(&handle).await;
    world.engine().stop(&handle, GRACE).await.unwrap();
    let ended = world.ended(&handle).await;
    assert_eq!((ended.exit_code, ended.cause), (7, EndCause::Stopped));
    assert_eq!(String::from_utf8(world.output(&handle).await).unwrap(), "hi\nbye\ndone\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_does_not_heed_sigterm_is_killed_when_the_grace_is_over() {
    let Some(world) = world().await else { return };
    let handle = world.launch("trap '' TERM; while :; do sleep 0.1; done").await;
    world.running(&handle).await;
    let begun = std::time::Instant::now();
    world.engine().stop(&handle, Duration::from_secs(2)).await.unwrap();
    let ended = world.ended(&handle).await;
    assert_eq!((ended.exit_code, ended.cause), (137, EndCause::Stopped));
    assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_node_is_stopped_without_having_run() {
    let Some(world) = world().await else { return };
    let mut spec = world.task("true", |_| {});
    spec.execution.arch = Some("none".into());
    let handle = world.engine().launch(&spec).await.unwrap();
    let notes = world.notes_until("Unschedulable").await;
    assert!(notes.iter().any(|note| note.message.contains("nodes are available")), "{notes:?}");
    assert_eq!(world.observe(&handle).await.unwrap(), Observation::Starting);
    world.engine().stop(&handle, GRACE).await.unwrap();
    assert_eq!(world.never_ran(&handle).await, ("stopped before it started".to_owned(), StartFault::Displaced));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_removed_leaves_nothing_and_others_objects_are_left_alone() {
    let Some(world) = world().await else { return };
    let Some(neighbour) = crate::world::world().await else { return };
    let handle = world.launch("sleep 1000").await;
    let theirs = neighbour.launch("sleep 1000").await;
    world.running(&handle).await;
    neighbour.running(&theirs).await;
    assert!(matches!(world.observe(&theirs).await.unwrap(), Observation::Gone { .. }));
    assert!(matches!(world.engine().stop(&theirs, GRACE).await, Err(EngineError::Gone(_))));
    world.engine().remove(&theirs).await.unwrap();
    world.engine().remove(&handle).await.unwrap();
    assert_eq!(
        kubectl(&["get", "pods,jobs", "-l", &format!("flotilla/run={}", handle.attempt_id.run_id), "-o", "name"]),
        ""
    );
    assert!(matches!(neighbour.observe(&theirs).await.unwrap(), Observation::Running(_)));
    assert!(kubectl(&["get", "job", &object(&theirs), "-o", "name"]).contains("job"));
}
