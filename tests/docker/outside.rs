//! What others do to our containers, and what we never do to theirs.

use std::time::Duration;

use flotilla::engine::Handle;
use flotilla::model::{EndCause, Observation};
use tokio::time::timeout;

use crate::world::{IMAGE, container, neighbour, world};

#[tokio::test]
async fn a_container_removed_from_outside_is_gone_and_says_so() {
    let Some(world) = world() else { return };
    let handle = world.launch("sleep 1000").await;
    world.running(&handle).await;
    // Those of the start, as far as nobody has taken them.
    let _ = timeout(Duration::from_millis(100), world.reports.take()).await;
    world.docker(&["rm", "-f", &container(&handle)]);
    let poked = timeout(Duration::from_secs(5), world.reports.take()).await.unwrap();
    assert!(poked.contains(&handle.attempt_id));
    let Observation::Gone { reason } = world.over(&handle).await else { panic!("it should be gone") };
    assert_eq!(reason, "the container was removed from outside of flotilla");
}

#[tokio::test]
async fn a_container_stopped_from_outside_says_by_what() {
    let Some(world) = world() else { return };
    let table = [(vec!["kill"], "SIGKILL"), (vec!["stop", "-t", "5"], "SIGTERM")];
    for (command, signal) in table {
        let handle = world.launch("sleep 1000").await;
        world.running(&handle).await;
        let name = container(&handle);
        world.docker(&[command, vec![&name]].concat());
        let by = format!("another client of the Docker daemon sent {signal}");
        assert_eq!(world.ended(&handle).await.cause, EndCause::Outside { by });
    }
}

#[tokio::test]
async fn a_renamed_container_is_found_stopped_read_and_removed_whoever_has_its_name() {
    let Some(mut world) = world() else { return };
    let handle = world.launch("echo hello; sleep 1000").await;
    let before = world.running(&handle).await;
    let name = container(&handle);
    let other = format!("renamed-{}", handle.attempt_id);
    world.docker(&["rename", &name, &other]);
    world.docker(&["run", "-d", "--network", "none", "--name", &name, IMAGE, "/bin/sleep", "1000"]);
    assert_eq!(world.running(&handle).await, before);
    // Also before its handle was stored, and by a server that has never seen it.
    world.restart();
    let by_id = Handle { text: String::new(), ..handle.clone() };
    assert_eq!(world.running(&by_id).await, before);
    assert_eq!(world.engine().list_ours().await.unwrap(), std::slice::from_ref(&handle));
    world.engine().stop(&by_id, Duration::from_secs(5)).await.unwrap();
    assert_eq!(world.ended(&by_id).await.cause, EndCause::Stopped);
    let output = String::from_utf8(world.output(&handle).await).unwrap();
    assert!(output.starts_with("hello\n"), "{output}");
    world.engine().remove(&handle).await.unwrap();
    assert_eq!(world.engine().list_ours().await.unwrap(), []);
    assert_eq!(world.docker(&["inspect", "-f", "{{.State.Running}}", &name]).trim(), "true");
    world.docker(&["rm", "-f", &name]);
}

#[tokio::test]
async fn a_container_of_an_image_made_from_ours_is_not_taken_for_ours() {
    let Some(world) = world() else { return };
    let handle = world.launch("echo mine; exit 3").await;
    world.ended(&handle).await;
    let image = format!("copy-{}", handle.attempt_id.run_id);
    world.docker(&["commit", &container(&handle), &image]);
    let sleep = ["--network", "none", "--entrypoint", "/bin/sleep"];
    let copy = world.docker(&[&["run", "-d"][..], &sleep, &[&image, "1000"]].concat());
    assert_eq!(world.engine().list_ours().await.unwrap(), std::slice::from_ref(&handle));
    world.engine().remove(&handle).await.unwrap();
    assert!(matches!(world.try_observe(&handle).await.unwrap(), Observation::Gone { .. }));
    world.engine().remove(&handle).await.unwrap();
    assert_eq!(world.engine().list_ours().await.unwrap(), []);
    assert_eq!(world.docker(&["inspect", "-f", "{{.State.Running}}", copy.trim()]).trim(), "true");
    world.docker(&["rm", "-f", copy.trim()]);
    world.docker(&["rmi", &image]);
}

#[tokio::test]
async fn a_paused_container_still_runs() {
    let Some(world) = world() else { return };
    let handle = world.launch("sleep 1000").await;
    world.running(&handle).await;
    world.docker(&["pause", &container(&handle)]);
    assert!(matches!(world.try_observe(&handle).await.unwrap(), Observation::Running(_)));
    world.engine().stop(&handle, Duration::from_secs(1)).await.unwrap();
    assert_eq!(world.ended(&handle).await.cause, EndCause::Stopped);
}

#[tokio::test]
async fn only_our_own_containers_are_listed_and_removed() {
    let Some(world) = world() else { return };
    let neighbour = neighbour(&world);
    let theirs = neighbour.launch("sleep 1000").await;
    let name = format!("unlabelled-{}", theirs.attempt_id);
    world.docker(&["run", "-d", "--network", "none", "--name", &name, IMAGE, "/bin/sleep", "1000"]);
    let mut ours = vec![world.launch("sleep 1000").await, world.launch("exit 0").await];
    ours.sort_by_key(|handle| handle.attempt_id);
    let mut listed = world.engine().list_ours().await.unwrap();
    listed.sort_by_key(|handle| handle.attempt_id);
    assert_eq!(listed, ours);
    for handle in listed.iter().chain([&theirs]) {
        world.engine().remove(handle).await.unwrap();
    }
    assert_eq!(world.engine().list_ours().await.unwrap(), []);
    neighbour.running(&theirs).await;
    assert_eq!(world.docker(&["inspect", "-f", "{{.State.Running}}", &name]).trim(), "true");
    world.docker(&["rm", "-f", &name]);
}

#[tokio::test]
async fn an_attempt_is_found_by_its_id_alone_after_a_restart() {
    let Some(mut world) = world() else { return };
    let handle = world.launch("sleep 1000").await;
    let before = world.running(&handle).await;
    world.restart();
    let by_id = Handle { text: String::new(), ..handle };
    assert_eq!(world.running(&by_id).await, before);
    world.engine().stop(&by_id, Duration::ZERO).await.unwrap();
    // With no grace at all, which of the two signals it was is a matter of luck.
    assert!([137, 143].contains(&world.ended(&by_id).await.exit_code));
}
