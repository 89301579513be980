//! Finding and fetching images, with a registry on loopback.

use std::time::{Duration, Instant};

use flotilla::engine::container::pull_policy::PullPolicy;
use flotilla::engine::docker::DockerSettings;
use flotilla::engine::{EngineError, LaunchSpec};
use flotilla::model::{Observation, StartFault};

use crate::daemon::{Daemon, Registry, free_address};
use crate::world::{IMAGE, World, config, shared_host, world};

fn with_image(world: &World, image: &str, command: &str) -> LaunchSpec {
    world.task(command, |task| image.clone_into(&mut task.image))
}

async fn refusal(world: &World, image: &str) -> String {
    match world.engine().check(&with_image(world, image, "true").task).await {
        Err(EngineError::Rejected(reason)) => reason,
        other => panic!("{image} should be refused: {other:?}"),
    }
}

#[tokio::test]
async fn an_image_on_the_machine_is_fine_and_a_malformed_name_is_not() {
    let Some(world) = world() else { return };
    world.engine().check(&with_image(&world, IMAGE, "true").task).await.unwrap();
    let reason = refusal(&world, "Bad/Upper:1").await;
    assert!(reason.contains("`Bad/Upper:1`") && reason.contains("lowercase"), "{reason}");
}

#[tokio::test]
async fn a_registry_that_cannot_be_reached_refuses_no_run_and_is_not_waited_for_long() {
    let Some(world) = world() else { return };
    let begin = Instant::now();
    world.engine().check(&with_image(&world, &format!("{}/a:1", free_address()), "true").task).await.unwrap();
    assert!(begin.elapsed() < Duration::from_secs(7));
}

#[tokio::test]
async fn where_nothing_is_fetched_a_missing_image_is_refused() {
    let Some(host) = shared_host() else { return };
    let world = World::new(&host, DockerSettings { pull_policy: PullPolicy::Never, ..config(&host) });
    assert!(refusal(&world, "not/there:1").await.contains("does not fetch images"));
    let error = world.engine().launch(&with_image(&world, "not/there:1", "true")).await.unwrap_err();
    assert!(matches!(error, EngineError::Rejected(_)), "{error}");
}

#[tokio::test]
async fn a_misspelt_image_is_refused_with_what_the_registry_answered() {
    let (Some(daemon), Some(registry)) = (Daemon::start(&[]).await, Registry::start().await) else { return };
    let image = registry.push(&daemon, "team/busybox:1");
    let world = World::new(&daemon.host(), config(&daemon.host()));
    world.engine().check(&with_image(&world, &image, "true").task).await.unwrap();
    for name in ["team/busybox:2", "team/bussybox:1"] {
        let reason = refusal(&world, &format!("{}/{name}", registry.address)).await;
        for part in [name, &registry.address, "manifest unknown"] {
            assert!(reason.contains(part), "{part} is missing in: {reason}");
        }
    }
    // Launched all the same, it ends with the reason.
    let handle = world.engine().launch(&with_image(&world, &format!("{image}2"), "true")).await.unwrap();
    let Observation::NeverRan { reason, fault } = world.over(&handle).await else { panic!("it can't run") };
    assert!(
        fault == StartFault::Task && reason.contains("can't be fetched") && reason.contains("not found"),
        "{reason}"
    );
}

#[tokio::test]
async fn two_attempts_share_a_pull_and_tell_of_it() {
    let (Some(daemon), Some(registry)) = (Daemon::start(&[]).await, Registry::start().await) else { return };
    let image = registry.push(&daemon, "team/busybox:1");
    daemon.forget_images();
    let world = World::new(&daemon.host(), config(&daemon.host()));
    let specs = ["echo one", "echo two"].map(|command| with_image(&world, &image, command));
    let (one, two) = tokio::join!(world.engine().launch(&specs[0]), world.engine().launch(&specs[1]));
    let handles = [one.unwrap(), two.unwrap()];
    let mut outputs = Vec::new();
    for handle in &handles {
        let ended = world.ended(handle).await;
        let digest = ended.started.image_digest.unwrap();
        assert!(digest.starts_with(&format!("{}/team/busybox@sha256:", registry.address)), "{digest}");
        outputs.push(String::from_utf8(world.output(handle).await).unwrap());
    }
    assert_eq!(outputs, ["one\n", "two\n"]);
    let notes = world.notes_until("Pulled").await;
    let count = |text: &str| notes.iter().filter(|note| note.message.contains(text)).count();
    assert_eq!(
        (count("fetching image"), count("already being fetched"), count("fetched image")),
        (1, 1, 2),
        "{notes:?}"
    );
}

#[tokio::test]
async fn credentials_of_the_docker_command_line_are_used_to_look_and_to_fetch() {
    let (Some(daemon), Some(registry)) = (Daemon::start(&[]).await, Registry::start_for_user().await) else { return };
    let image = registry.push(&daemon, "team/busybox:1");
    daemon.forget_images();
    let nobody = tempfile::tempdir().unwrap();
    std::fs::write(nobody.path().join("config.json"), "{}").unwrap();
    let with_file = |file: &std::path::Path| {
        let config = DockerSettings { credentials_file: Some(file.to_owned()), ..config(&daemon.host()) };
        World::new(&daemon.host(), config)
    };
    let stranger = with_file(&nobody.path().join("config.json"));
    let reason = refusal(&stranger, &image).await;
    assert!(reason.contains(&image) && reason.contains("no basic auth credentials"), "{reason}");
    let handle = stranger.engine().launch(&with_image(&stranger, &image, "true")).await.unwrap();
    let Observation::NeverRan { reason, fault: StartFault::Task } = stranger.over(&handle).await else {
        panic!("it can't run")
    };
    assert!(reason.contains("no basic auth credentials"), "{reason}");

    let user = with_file(&registry.credentials_file());
    user.engine().check(&with_image(&user, &image, "true").task).await.unwrap();
    let (ended, output) = user.run(&with_image(&user, &image, "echo fetched")).await;
    assert_eq!((ended.exit_code, output.as_str()), (0, "fetched\n"));
}

#[tokio::test]
async fn a_registry_that_is_away_is_tried_again_and_then_later() {
    let (Some(daemon), Some(registry)) = (Daemon::start(&[]).await, Registry::start().await) else { return };
    let image = registry.push(&daemon, "team/busybox:1");
    let world = World::new(&daemon.host(), config(&daemon.host()));
    drop(registry);
    let handle = world.engine().launch(&with_image(&world, &image, "true")).await.unwrap();
    assert_eq!(world.try_observe(&handle).await.unwrap(), Observation::Starting);
    let notes = world.notes_until("PullFailed").await;
    assert!(notes.iter().any(|note| note.message.contains("connection refused")), "{notes:?}");
    let Observation::NeverRan { fault: StartFault::Image, .. } = world.over(&handle).await else {
        panic!("it is for later")
    };
}

#[tokio::test]
async fn a_pull_is_given_up_when_its_attempt_is_stopped() {
    let (Some(daemon), Some(registry)) = (Daemon::start(&[]).await, Registry::start().await) else { return };
    let image = registry.push(&daemon, "team/busybox:1");
    let world = World::new(&daemon.host(), config(&daemon.host()));
    drop(registry);
    let handle = world.engine().launch(&with_image(&world, &image, "true")).await.unwrap();
    world.notes_until("PullFailed").await;
    assert_eq!(world.engine().list_ours().await.unwrap(), std::slice::from_ref(&handle));
    world.engine().stop(&handle, Duration::ZERO).await.unwrap();
    let Observation::NeverRan { fault: StartFault::Task, reason } = world.over(&handle).await else {
        panic!("it is stopped")
    };
    assert!(reason.contains("stopped"), "{reason}");
    world.engine().remove(&handle).await.unwrap();
    assert_eq!(world.engine().list_ours().await.unwrap(), []);
}

#[tokio::test]
async fn an_attempt_whose_pull_died_with_the_server_never_ran_and_is_tried_again() {
    let (Some(daemon), Some(registry)) = (Daemon::start(&[]).await, Registry::start().await) else { return };
    let image = registry.push(&daemon, "team/busybox:1");
    let mut world = World::new(&daemon.host(), config(&daemon.host()));
    drop(registry);
    let handle = world.engine().launch(&with_image(&world, &image, "true")).await.unwrap();
    world.restart();
    let Observation::NeverRan { fault: StartFault::Displaced, reason } = world.over(&handle).await else {
        panic!("it never ran")
    };
    assert!(reason.contains("the server was restarted, or the cluster was changed"), "{reason}");
}

#[tokio::test]
async fn a_tag_that_moved_is_seen_where_images_are_always_fetched() {
    let (Some(daemon), Some(registry)) = (Daemon::start(&[]).await, Registry::start().await) else { return };
    let image = registry.push(&daemon, "team/busybox:1");
    let always = DockerSettings { pull_policy: PullPolicy::Always, ..config(&daemon.host()) };
    let world = World::new(&daemon.host(), always);
    let spec = with_image(&world, &image, "echo hi");
    let (first, output) = world.run(&spec).await;
    assert_eq!(output, "hi\n");
    let handle = world.engine().launch(&spec).await.unwrap();
    assert_eq!(world.ended(&handle).await.finished_at, first.finished_at, "what ran is not fetched or run again");
    world.notes_until("Pulled").await;
}
