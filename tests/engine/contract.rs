//! What every engine promises. The commands are such as the fake can play and a shell understands.

use std::time::Duration;

use flotilla::engine::{EngineError, Handle};
use flotilla::model::{AttemptId, EndCause, Ended, EnvVar, Observation, RunId, StartFault, limits};
use tokio::time::timeout;

use crate::world::{GRACE, LONGEST, World};

/// Runs the whole contract on the worlds that a function makes; `None` is no world to be had here, and said.
macro_rules! contract {
    ($world:path) => {
        $crate::contract::contract!(
            $world:
            an_attempt_is_seen_starting_running_and_ended_in_this_order
            the_exit_code_and_the_times_are_told
            an_end_by_signal_is_told_by_name
            the_output_is_complete_from_any_byte_on
            launching_twice_runs_once
            launching_again_after_the_end_runs_nothing
            stopping_ends_it
            stopping_twice_is_stopping_once
            what_has_ended_is_not_stopped
            an_end_comes_with_a_poke
            what_was_never_launched_is_gone
            what_is_removed_is_gone_and_can_be_removed_again
            removing_ends_what_still_runs
            all_that_is_there_is_listed
            an_attempt_is_found_by_its_id_alone
            many_are_observed_in_the_order_asked
            what_can_never_fit_is_rejected
            a_command_that_begins_with_a_sign_runs_as_a_command
            the_longest_command_starts_with_as_many_variables_as_there_may_be
            the_engine_says_which_it_is
        );
    };
    ($world:path: $($name:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if let Some(world) = $world() {
                    $crate::contract::$name(&world).await;
                }
            }
        )*
    };
}
pub(crate) use contract;

pub async fn the_engine_says_which_it_is(world: &World) {
    let first = world.engine.identity().await.unwrap();
    assert!(first.id().is_some_and(|id| !id.as_str().is_empty()), "{first:?}");
    assert_eq!(world.engine.known_identity(), Some(first.clone()));
    assert_eq!(world.engine.identity().await.unwrap(), first);
}

fn unknown() -> Handle {
    Handle { attempt_id: AttemptId { run_id: RunId::generate(), attempt: 1 }, text: String::new() }
}

fn is_gone(observation: &Observation) -> bool {
    matches!(observation, Observation::Gone { .. })
}

pub async fn an_attempt_is_seen_starting_running_and_ended_in_this_order(world: &World) {
    let (_, handle) = world.launch("echo hi").await;
    let mut seen = vec![];
    let rank = |observation: &Observation| match observation {
        Observation::Starting => 0,
        Observation::Running(_) => 1,
        Observation::Ended(_) => 2,
        other => panic!("unexpected: {other:?}"),
    };
    while seen.last() != Some(&2) {
        seen.push(rank(&world.observe(&handle).await));
        if seen.last() != Some(&2) {
            let _ = timeout(Duration::from_millis(20), world.reports.take()).await;
        }
    }
    assert!(seen.is_sorted(), "{seen:?}");
    assert_eq!(rank(&world.observe(&handle).await), 2, "an end is an end");
}

pub async fn the_exit_code_and_the_times_are_told(world: &World) {
    let (_, handle) = world.launch("exit 3").await;
    let ended = world.ended(&handle).await;
    assert_eq!((ended.exit_code, &ended.cause), (3, &EndCause::Exited));
    assert!(ended.started.at <= ended.finished_at);
    assert!(!ended.started.instance.instance_id.is_empty());
    if world.measures_short_runs {
        assert!(ended.usage.max_memory_bytes.is_some_and(|bytes| bytes > 0));
        assert!(ended.usage.cpu_time_ms.is_some());
    }
}

pub async fn an_end_by_signal_is_told_by_name(world: &World) {
    let (ended, _) = world.run("kill -9 $$").await;
    assert_eq!((ended.exit_code, ended.cause), (137, EndCause::Signal { name: "SIGKILL".into() }));
}

pub async fn the_output_is_complete_from_any_byte_on(world: &World) {
    let (spec, handle) = world.launch("echo one; echo two; exit 1").await;
    let (_, output) = world.finish(&spec, &handle).await;
    assert_eq!(output, "one\ntwo\n");
    assert_eq!(world.output(&spec, &handle, 5).await, b"wo\n");
    assert_eq!(world.output(&spec, &handle, 8).await, b"");
}

pub async fn launching_twice_runs_once(world: &World) {
    let spec = world.spec("echo once; sleep 1000");
    let (first, second) = tokio::join!(world.engine.launch(&spec), world.engine.launch(&spec));
    let third = world.engine.launch(&spec).await;
    let handle = first.unwrap();
    assert_eq!([&second.unwrap(), &third.unwrap()], [&handle, &handle]);
    world.running(&handle).await;
    assert_eq!(world.engine.launch(&spec).await.unwrap(), handle);
    world.until_printed(&spec, &handle, "once").await;
    world.engine.stop(&handle, GRACE).await.unwrap();
    if stopped(world, &handle).await.is_some() {
        let output = String::from_utf8(world.output(&spec, &handle, 0).await).unwrap();
        // A shell may say as well that it was stopped.
        assert_eq!(output.matches("once").count(), 1, "{output}");
    }
}

pub async fn launching_again_after_the_end_runs_nothing(world: &World) {
    let (spec, handle) = world.launch("echo once").await;
    let (before, _) = world.finish(&spec, &handle).await;
    assert_eq!(world.engine.launch(&spec).await.unwrap(), handle);
    let (after, output) = world.finish(&spec, &handle).await;
    assert_eq!((before, output.as_str()), (after, "once\n"));
}

pub async fn stopping_ends_it(world: &World) {
    let (_, handle) = world.launch("sleep 1000").await;
    world.running(&handle).await;
    world.engine.stop(&handle, GRACE).await.unwrap();
    if let Some(ended) = stopped(world, &handle).await {
        assert_eq!((ended.exit_code, ended.cause), (143, EndCause::Stopped));
    }
}

/// How one that was stopped ended. A node of an old Kubernetes with much to do removes the container of a deleted pod before
/// it has written down how that ended, and then nobody knows.
async fn stopped(world: &World, handle: &Handle) -> Option<Ended> {
    let is_over = |seen: &Observation| !matches!(seen, Observation::Starting | Observation::Running(_));
    match world.until(handle, "over", is_over).await {
        Observation::Ended(ended) => Some(ended),
        Observation::Lost { reason, .. } if world.engine.kind() == "kubernetes" => {
            assert!(reason.contains("its pod was deleted"), "{reason}");
            None
        }
        other => panic!("it should have been stopped: {other:?}"),
    }
}

pub async fn stopping_twice_is_stopping_once(world: &World) {
    let (_, handle) = world.launch("sleep 1000").await;
    // At once, so perhaps before it runs.
    for _ in 0..3 {
        match world.engine.stop(&handle, GRACE).await {
            Ok(()) | Err(EngineError::Gone(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    let is_over = |seen: &Observation| !matches!(seen, Observation::Starting | Observation::Running(_));
    match world.until(&handle, "over", is_over).await {
        Observation::Ended(ended) => assert_eq!(ended.cause, EndCause::Stopped),
        Observation::NeverRan { reason, fault: StartFault::Task | StartFault::Displaced } => {
            assert_eq!(reason, "stopped before it started");
        }
        // A node may delete what it had hardly started, and not say whether it ran.
        Observation::Lost { reason, .. } => assert!(reason.contains("its pod was deleted"), "{reason}"),
        other => panic!("it should have been stopped: {other:?}"),
    }
}

pub async fn what_has_ended_is_not_stopped(world: &World) {
    let (_, handle) = world.launch("exit 3").await;
    let before = world.ended(&handle).await;
    assert!(matches!(world.engine.stop(&handle, GRACE).await, Err(EngineError::Gone(_))));
    let after = world.ended(&handle).await;
    assert_eq!((before.exit_code, &before.cause), (3, &EndCause::Exited));
    assert_eq!((after.exit_code, &after.cause), (3, &EndCause::Exited));
}

pub async fn an_end_comes_with_a_poke(world: &World) {
    let (_, handle) = world.launch("sleep 1000").await;
    world.running(&handle).await;
    world.engine.stop(&handle, GRACE).await.unwrap();
    let poked = async {
        while matches!(world.observe(&handle).await, Observation::Starting | Observation::Running(_)) {
            assert!(world.reports.take().await.contains(&handle.attempt_id));
        }
    };
    // The fake shows one step a look, and has poked before: one look more does not wait for ever.
    let _ = timeout(world.poke_patience, poked).await;
    assert!(!matches!(world.observe(&handle).await, Observation::Starting | Observation::Running(_)));
}

pub async fn what_was_never_launched_is_gone(world: &World) {
    let handle = unknown();
    assert!(is_gone(&world.observe(&handle).await));
    assert!(matches!(world.engine.stop(&handle, GRACE).await, Err(EngineError::Gone(_))));
    world.engine.remove(&handle).await.unwrap();
}

pub async fn what_is_removed_is_gone_and_can_be_removed_again(world: &World) {
    let (spec, handle) = world.launch("echo hi").await;
    world.ended(&handle).await;
    for _ in 0..2 {
        world.engine.remove(&handle).await.unwrap();
        assert!(is_gone(&world.observe(&handle).await));
        assert!(matches!(world.engine.stop(&handle, GRACE).await, Err(EngineError::Gone(_))));
        assert_eq!(world.engine.list_ours().await.unwrap(), []);
    }
    drop(spec);
}

pub async fn removing_ends_what_still_runs(world: &World) {
    let (_, handle) = world.launch("sleep 1000").await;
    world.running(&handle).await;
    timeout(LONGEST, world.engine.remove(&handle)).await.unwrap().unwrap();
    world.until(&handle, "gone", is_gone).await;
}

pub async fn all_that_is_there_is_listed(world: &World) {
    assert_eq!(world.engine.list_ours().await.unwrap(), []);
    let mut expected = vec![world.launch("sleep 1000").await.1, world.launch("exit 0").await.1];
    let mut listed = world.engine.list_ours().await.unwrap();
    expected.sort_by_key(|handle| handle.attempt_id);
    listed.sort_by_key(|handle| handle.attempt_id);
    assert_eq!(listed, expected);
}

pub async fn an_attempt_is_found_by_its_id_alone(world: &World) {
    let (_, handle) = world.launch("sleep 1000").await;
    let by_id = Handle { text: String::new(), ..handle };
    world.running(&by_id).await;
    world.engine.stop(&by_id, GRACE).await.unwrap();
    stopped(world, &by_id).await;
    world.engine.remove(&by_id).await.unwrap();
    // What an engine hears late of it may show it for a moment more.
    world.until(&by_id, "gone", is_gone).await;
}

pub async fn many_are_observed_in_the_order_asked(world: &World) {
    let mut handles = vec![];
    for code in 0..4 {
        let (_, handle) = world.launch(&format!("exit {code}")).await;
        world.ended(&handle).await;
        handles.push(handle);
    }
    handles.reverse();
    handles.insert(1, unknown());
    let observations = world.engine.observe(&handles).await.unwrap();
    let codes = observations.iter().map(|seen| if let Observation::Ended(end) = seen { end.exit_code } else { -1 });
    assert_eq!(codes.collect::<Vec<_>>(), [3, -1, 2, 1, 0]);
    assert_eq!(world.engine.observe(&[]).await.unwrap(), []);
}

pub async fn what_can_never_fit_is_rejected(world: &World) {
    let mut task = world.spec("true").task;
    world.engine.check(&task).await.unwrap();
    task.memory_mb = Some(1 << 30);
    let Err(EngineError::Rejected(reason)) = world.engine.check(&task).await else { panic!("it should not fit") };
    assert!(reason.contains("the cluster cannot support running the job"), "{reason}");
    assert!(reason.contains(&(1 << 30).to_string()), "{reason}");
}

pub async fn a_command_that_begins_with_a_sign_runs_as_a_command(world: &World) {
    for first in ["-x", "--help", "+x", "-"] {
        let (ended, output) = world.run(&format!("{first} 2> /dev/null || true\necho ran")).await;
        assert_eq!((ended.exit_code, output.as_str()), (0, "ran\n"), "{first}");
    }
}

pub async fn the_longest_command_starts_with_as_many_variables_as_there_may_be(world: &World) {
    let largest = limits::ARGUMENT_BYTES - limits::NAME_BYTES - 1;
    let mut env = vec![EnvVar::new(format!("V{}", "A".repeat(limits::NAME_BYTES - 1)), "é".repeat(largest / 2))];
    let used: usize = env.iter().map(|var| var.name.len() + var.value.len() + 2).sum();
    let others = limits::ENV_ITEMS - 1;
    let each = (limits::ENV_BYTES - used) / others - 2;
    env.extend((0..others).map(|number| {
        let name = format!("V{number}");
        let value = "x".repeat(each - name.len());
        EnvVar::new(name, value)
    }));
    let begin = "-x 2> /dev/null || true\necho ran\n: ";
    let command = format!("{begin}{}", "x".repeat(limits::COMMAND_BYTES - begin.len()));
    let mut spec = world.spec(&command);
    spec.task.env = env;
    world.engine.check(&spec.task).await.unwrap();
    let (ended, output) = world.run_spec(&spec).await;
    assert_eq!((ended.exit_code, output.as_str()), (0, "ran\n"));
}
