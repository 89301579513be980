//! A daemon that ends under running containers, and what is found when it is back.

use std::time::Duration;

use flotilla::engine::{EngineError, EngineState, Handle};
use flotilla::model::{EndCause, LogPosition, Observation};
use jiff::Timestamp;

use crate::daemon::Daemon;
use crate::lifecycle::made_and_not_started;
use crate::world::{World, config, container, eventually};

const COUNTING: &str = "i=0; while true; do echo $i; i=$((i+1)); sleep 0.05; done";

/// While the daemon is away nothing is concluded, of anything.
async fn concludes_nothing(world: &World, handle: &Handle) {
    let engine = world.engine();
    let spec = world.spec("true");
    assert!(matches!(engine.identity().await, Err(EngineError::Unavailable(_))));
    assert_eq!(engine.known_identity(), None);
    assert!(matches!(world.try_observe(handle).await, Err(EngineError::Unavailable(_))));
    assert!(matches!(engine.launch(&spec).await, Err(EngineError::Unavailable(_))));
    assert!(matches!(engine.stop(handle, Duration::ZERO).await, Err(EngineError::Unavailable(_))));
    assert!(matches!(engine.remove(handle).await, Err(EngineError::Unavailable(_))));
    assert!(matches!(engine.list_ours().await, Err(EngineError::Unavailable(_))));
    assert!(matches!(engine.output(handle, &LogPosition::default()).await, Err(EngineError::Unavailable(_))));
    let EngineState::Unreachable { reason, .. } = engine.state() else { panic!("it is away") };
    assert!(reason.contains(&world.config.host.clone().unwrap()), "{reason}");
}

async fn without_live_restore(signal: &str) {
    let Some(mut daemon) = Daemon::start(&[]).await else { return };
    let world = World::new(&daemon.host(), config(&daemon.host()));
    let handle = world.launch(COUNTING).await;
    let ended_before = world.launch("exit 7").await;
    world.running(&handle).await;
    world.ended(&ended_before).await;
    daemon.end(signal);
    concludes_nothing(&world, &handle).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    daemon.resume().await;
    let by = "it ended while the Docker daemon was stopped or restarted".to_owned();
    match world.over(&handle).await {
        Observation::Ended(ended) => assert_eq!(ended.cause, EndCause::Outside { by }, "{ended:?}"),
        // A daemon that was killed may find it dead, and knows no more.
        Observation::Lost { reason, .. } => assert!(signal == "KILL" && reason.contains("crashed"), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(world.ended(&ended_before).await.exit_code, 7);
    assert_eq!(world.engine().state(), EngineState::Reachable);
    world.engine().remove(&handle).await.unwrap();
}

#[tokio::test]
async fn a_daemon_that_is_stopped_takes_its_containers_along_and_that_is_said() {
    without_live_restore("TERM").await;
}

#[tokio::test]
async fn a_daemon_that_is_killed_ends_its_containers_when_it_is_back_and_that_is_said() {
    without_live_restore("KILL").await;
}

#[tokio::test]
async fn a_container_that_ran_when_its_machine_lost_power_is_lost_and_not_failed_with_the_code_of_the_daemon() {
    let Some(mut daemon) = Daemon::start_with_network().await else { return };
    let mut world = World::new(&daemon.host(), config(&daemon.host()));
    let handle = world.launch(COUNTING).await;
    let started = world.running(&handle).await;
    // One that has the same code of its own.
    let ended_before = world.launch("exit 255").await;
    let ended = world.ended(&ended_before).await;
    assert_eq!((ended.exit_code, &ended.cause), (255, &EndCause::Exited));
    eventually("it has printed something", || world.docker(&["logs", &container(&handle)]).contains('1')).await;
    daemon.cut_power();
    let cut_at = Timestamp::now();
    // The server went with it.
    world.restart();
    daemon.resume().await;
    let seen = world.over(&handle).await;
    let Observation::Lost { reason, started: seen_started, last_seen_at } = seen else { panic!("{seen:?}") };
    assert!(reason.contains("lost power"), "{reason}");
    assert_eq!(seen_started.map(|started| started.at), Some(started.at));
    assert!(last_seen_at.is_some_and(|at| started.at <= at && at <= cut_at), "{last_seen_at:?} {cut_at}");
    // A daemon before 27.5 leaves a trace of having seen an end; of a later one it can't be known.
    let has_trace = !world
        .docker(&["inspect", "--format", "{{.NetworkSettings.SandboxID}}", &container(&ended_before)])
        .trim()
        .is_empty();
    match world.over(&ended_before).await {
        Observation::Ended(again) if has_trace => {
            assert_eq!((again.exit_code, again.finished_at, again.cause), (255, ended.finished_at, EndCause::Exited));
        }
        Observation::Lost { reason, .. } if !has_trace => assert!(reason.contains("shortly before"), "{reason}"),
        other => panic!("{other:?}"),
    }
    world.engine().remove(&handle).await.unwrap();
}

#[tokio::test]
async fn a_container_that_another_daemon_may_have_started_is_lost_and_never_started() {
    let Some(mut daemon) = Daemon::start(&[]).await else { return };
    let world = World::new(&daemon.host(), config(&daemon.host()));
    let (unlaunched, launched) = (made_and_not_started(&world), made_and_not_started(&world));
    daemon.cut_power();
    daemon.resume().await;
    let unstored = Handle { attempt_id: unlaunched.attempt_id, text: String::new() };
    let stored = Handle { attempt_id: launched.attempt_id, text: "container".into() };
    // Until it is certain that no daemon is still making it, nothing is concluded.
    assert!(matches!(world.engine().launch(&unlaunched).await, Err(EngineError::Unavailable(_))));
    for handle in [unstored, stored] {
        let is_known = |seen: &Observation| !matches!(seen, Observation::Unknown { .. });
        let seen = world.until(&handle, "known", is_known).await;
        let Observation::Lost { reason, started: None, .. } = seen else { panic!("{seen:?}") };
        assert!(reason.contains("is not known"), "{reason}");
    }
    // Docker itself would wait for output until the container starts.
    let stored = Handle { attempt_id: launched.attempt_id, text: "container".into() };
    assert_eq!(world.output(&stored).await, b"", "its output ends");
    assert!(world.engine().launch(&unlaunched).await.is_ok(), "it counts as launched");
    let status = |id| world.docker(&["inspect", "--format", "{{.State.Status}}", &format!("flotilla-{id}")]);
    for spec in [&unlaunched, &launched] {
        assert_eq!(status(spec.attempt_id).trim(), "created");
        world.engine().remove(&Handle { attempt_id: spec.attempt_id, text: String::new() }).await.unwrap();
    }
    assert_eq!(world.engine().list_ours().await.unwrap(), []);
}

#[tokio::test]
async fn a_daemon_on_an_empty_disk_is_another_engine_and_the_first_one_is_known_again() {
    let Some(mut daemon) = Daemon::start(&[]).await else { return };
    let world = World::new(&daemon.host(), config(&daemon.host()));
    let first = world.engine().identity().await.unwrap();
    assert!(first.id().is_some(), "{first:?}");
    assert_eq!(world.engine().known_identity(), Some(first.clone()));
    daemon.end("TERM");
    daemon.data = "another";
    daemon.resume().await;
    eventually("the engine notices", || world.engine().known_identity().is_some_and(|known| known != first)).await;
    daemon.end("TERM");
    daemon.data = "data";
    daemon.resume().await;
    eventually("the first one is known", || world.engine().known_identity() == Some(first.clone())).await;
}

async fn with_live_restore(signal: &str) {
    let Some(mut daemon) = Daemon::start(&["--live-restore"]).await else { return };
    let world = World::new(&daemon.host(), config(&daemon.host()));
    let handle = world.launch(COUNTING).await;
    let ends_meanwhile = world.launch("sleep 2; exit 7").await;
    let before = world.running(&handle).await;
    world.running(&ends_meanwhile).await;
    let (mut log, mut position) = (Vec::new(), LogPosition::default());
    world.pump(&handle, &mut log, &mut position, 20).await.unwrap();
    daemon.end(signal);
    concludes_nothing(&world, &handle).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    daemon.resume().await;
    assert_eq!(world.running(&handle).await, before);
    let ended = world.ended(&ends_meanwhile).await;
    assert_eq!((ended.exit_code, ended.cause), (7, EndCause::Exited));
    let limit = log.len() + 400;
    world.pump(&handle, &mut log, &mut position, limit).await.unwrap();
    world.engine().stop(&handle, Duration::ZERO).await.unwrap();
    world.ended(&handle).await;
    world.pump(&handle, &mut log, &mut position, usize::MAX).await.unwrap();
    let log = String::from_utf8(log).unwrap();
    // The shell says in the end that what it waited for was stopped.
    let numbers = log.lines().filter(|line| *line != "Terminated").map(|line| line.parse().unwrap());
    let numbers: Vec<usize> = numbers.collect();
    assert_eq!(numbers, (0..numbers.len()).collect::<Vec<_>>(), "no line is missing, and none is there twice");
}

#[tokio::test]
async fn containers_outlive_a_stopped_daemon_with_live_restore() {
    with_live_restore("TERM").await;
}

#[tokio::test]
async fn containers_outlive_a_killed_daemon_with_live_restore() {
    with_live_restore("KILL").await;
}

#[tokio::test]
async fn a_daemon_that_comes_late_is_found_and_its_changes_are_poked_about() {
    let Some(mut daemon) = Daemon::start(&["--live-restore"]).await else { return };
    let host = daemon.host();
    daemon.end("TERM");
    let world = World::new(&host, config(&host));
    assert!(matches!(world.engine().check(&world.spec("true").task).await, Err(EngineError::Unavailable(_))));
    assert!(matches!(world.engine().state(), EngineState::Unreachable { .. }));
    daemon.resume().await;
    eventually("the daemon is found", || world.engine().state() == EngineState::Reachable).await;
    let handle = world.launch("exit 5").await;
    let Observation::Ended(ended) = world.over(&handle).await else { panic!("it should have ended") };
    assert_eq!(ended.exit_code, 5);
}
