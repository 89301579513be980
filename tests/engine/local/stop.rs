//! Whatever a task started ends with it.

use std::time::Duration;

use flotilla::model::EndCause;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{is_alive, world};
use crate::world::GRACE;

#[tokio::test]
async fn a_descendant_in_another_session_that_ignores_sigterm_dies_on_stop() {
    let world = world();
    let command = "setsid sh -c 'trap \"\" TERM; echo $$ > stubborn; while :; do sleep 1000; done' & wait";
    let (spec, handle) = world.launch(command).await;
    let stubborn = world.number(&spec, "stubborn").await;
    world.engine.stop(&handle, Duration::from_millis(300)).await.unwrap();
    let ended = world.ended(&handle).await;
    assert_eq!(ended.cause, EndCause::Stopped);
    assert!(!is_alive(stubborn));
}

#[tokio::test]
async fn an_orphan_that_ignores_sigterm_dies_on_stop() {
    let world = world();
    let command = "(setsid sh -c 'trap \"\" TERM; echo $$ > orphan; while :; do sleep 1000; done' &) ; sleep 1000";
    let (spec, handle) = world.launch(command).await;
    let orphan = world.number(&spec, "orphan").await;
    world.engine.stop(&handle, Duration::from_millis(100)).await.unwrap();
    world.ended(&handle).await;
    assert!(!is_alive(orphan));
}

#[tokio::test]
async fn a_task_that_forks_and_forks_dies_on_stop() {
    let world = world();
    let command = "trap '' TERM; echo $$ > first; while :; do (setsid sleep 1000 &); sleep 0.001; done";
    let (spec, handle) = world.launch(command).await;
    world.number(&spec, "first").await;
    world.engine.stop(&handle, Duration::from_millis(100)).await.unwrap();
    let ended = world.ended(&handle).await;
    assert_eq!((ended.exit_code, ended.cause), (137, EndCause::Stopped));
    let home = format!("HOME={}", world.work_of(&spec).display());
    let left = std::fs::read_dir("/proc").unwrap().flatten().filter(|entry| {
        let environ = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        environ.split(|byte| *byte == 0).any(|variable| variable == home.as_bytes())
    });
    assert_eq!(left.count(), 0);
}

#[tokio::test]
async fn a_stopped_process_gets_the_chance_to_end_by_itself() {
    let world = world();
    let (spec, handle) = world.launch("trap 'echo bye; exit 7' TERM; echo $$ > shell; kill -STOP $$; sleep 1000").await;
    let shell = world.number(&spec, "shell").await;
    crate::world::eventually("it is stopped", || {
        std::fs::read_to_string(format!("/proc/{shell}/stat")).is_ok_and(|stat| stat.contains(") T "))
    })
    .await;
    world.engine.stop(&handle, GRACE).await.unwrap();
    let (ended, output) = world.finish(&spec, &handle).await;
    assert_eq!((ended.exit_code, ended.cause, output.as_str()), (7, EndCause::Stopped, "bye\n"));
}

#[tokio::test]
async fn a_program_below_the_shell_has_its_grace_though_the_shell_ends_at_once() {
    let world = world();
    let saves = "trap 'sleep 0.2; echo saved; exit 0' TERM; echo $$ > program; sleep 1000 & wait";
    let (spec, handle) = world.launch(&format!("sh -c \"{}\"; echo never", saves.replace('$', "\\$"))).await;
    world.number(&spec, "program").await;
    world.engine.stop(&handle, GRACE).await.unwrap();
    let (ended, output) = world.finish(&spec, &handle).await;
    assert_eq!((ended.cause, output.as_str()), (EndCause::Stopped, "saved\n"));
}

#[tokio::test]
async fn a_second_stop_without_a_grace_ends_the_first_ones_grace() {
    let world = world();
    let (spec, handle) = world.launch("trap '' TERM; echo $$ > shell; while :; do sleep 1000; done").await;
    world.number(&spec, "shell").await;
    world.engine.stop(&handle, Duration::from_secs(1000)).await.unwrap();
    world.engine.stop(&handle, Duration::ZERO).await.unwrap();
    let ended = world.ended(&handle).await;
    assert_eq!((ended.exit_code, ended.cause), (137, EndCause::Stopped));
}

#[tokio::test]
async fn sigterm_to_the_supervisor_stops_its_task() {
    let world = world();
    let (spec, handle) = world.launch("trap 'echo bye; exit 0' TERM; echo $$ > shell; sleep 1000 & wait").await;
    world.number(&spec, "shell").await;
    let supervisor = Pid::from_raw(world.supervisor_of(&spec).await);
    for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM] {
        kill(supervisor, signal).unwrap();
    }
    let (ended, output) = world.finish(&spec, &handle).await;
    assert_eq!((ended.cause, output.as_str()), (EndCause::Stopped, "bye\n"));
}

#[tokio::test]
async fn what_runs_in_the_background_ends_with_the_shell() {
    let world = world();
    let (spec, handle) = world.launch("sleep 1000 & echo $! > child; (setsid sleep 1000 &); exit 3").await;
    let (ended, _) = world.finish(&spec, &handle).await;
    assert_eq!((ended.exit_code, ended.cause), (3, EndCause::Exited));
    assert!(!is_alive(world.number(&spec, "child").await));
}

#[tokio::test]
async fn removing_kills_what_ignores_sigterm() {
    let world = world();
    let (spec, handle) = world.launch("trap '' TERM; echo $$ > shell; while :; do sleep 1000; done").await;
    let shell = world.number(&spec, "shell").await;
    world.engine.remove(&handle).await.unwrap();
    assert!(!is_alive(shell));
    assert!(!world.folder_of(&spec).exists());
}
