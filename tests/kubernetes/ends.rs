//! The ways in which runs end, and don't begin.

use std::time::Duration;

use flotilla::engine::EngineError;
use flotilla::engine::kubernetes::{Volume, VolumeSource};
use flotilla::model::{EndCause, Observation, StartFault};

use crate::world::{kubectl, object, template_file, world, world_where};

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_fails_tells_its_code_and_its_output() {
    let Some(world) = world().await else { return };
    let (ended, output) =
        world.run(&world.task("echo out; echo err >&2; echo \"$$ $(echo sub)\" | grep -c sub; exit 3", |_| {})).await;
    assert_eq!((ended.exit_code, ended.cause), (3, EndCause::Exited));
    // Two streams, whose lines may change places where they come together.
    let mut lines: Vec<_> = output.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["1", "err", "out"]);
    let (namespace, pod) = ended.started.instance.instance_id.split_once('/').unwrap();
    assert_eq!(namespace, "default");
    assert!(pod.starts_with("flotilla-"), "{pod}");
    assert!(!ended.started.instance.dns_name.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_that_is_missing_or_cannot_be_executed_is_the_tasks_fault_and_said_to_be_unusable() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("garbage"), "no program of any architecture\n").unwrap();
    std::fs::set_permissions(path("garbage"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink("loop", path("loop")).unwrap();
    let volume = volume_at(folder.path(), "/tools");
    for shell in ["/nonexistent/sh", "/tools/garbage", "/tools/loop"] {
        let world = world_where(|config| {
            config.shell = vec![shell.into()];
            config.volumes = vec![volume.clone()];
        });
        let Some(world) = world.await else { return };
        let handle = world.launch("true").await;
        let (reason, fault) = world.never_ran(&handle).await;
        assert_eq!(fault, StartFault::Task, "{reason}");
        assert!(reason.starts_with(&format!("the image has no usable shell: `{shell}`")), "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_ends_by_itself_after_a_child_was_killed_for_memory_keeps_its_code() {
    let Some(world) = world().await else { return };
    let command =
        "sh -c 'x=$(dd if=/dev/zero bs=1M count=200 2>/dev/null | tr \"\\0\" x); echo ${#x}' || echo killed; exit 3";
    let (ended, output) = world.run(&world.task(command, |task| task.memory_mb = Some(32))).await;
    assert_eq!((ended.exit_code, ended.cause), (3, EndCause::Exited), "{output}");
    assert!(ended.killed_for_memory, "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_cannot_be_pulled_ends_the_attempt_with_the_reason() {
    let Some(world) = world_where(|config| config.image_pull_grace_secs = 2).await else { return };
    let spec = world.task("true", |task| task.image = "registry.invalid/nothing:1".into());
    let handle = world.engine().launch(&spec).await.unwrap();
    let notes = world.notes_until("Failed").await;
    assert!(notes.iter().any(|note| note.message.contains("registry.invalid")), "{notes:?}");
    let (reason, fault) = world.never_ran(&handle).await;
    assert!(reason.starts_with("image `registry.invalid/nothing:1` can't be pulled: "), "{reason}");
    // Its registry is not there now, and may be later.
    assert_eq!(fault, StartFault::Image, "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_init_container_whose_image_cannot_be_pulled_ends_the_attempt_with_the_reason() {
    let init = serde_json::json!({ "name": "prep", "image": "registry.invalid/prep:1", "command": ["true"] });
    let template = serde_json::json!({ "spec": { "initContainers": [init] } });
    let world = world_where(|config| {
        config.pod_template = Some(template_file(&template));
        config.image_pull_grace_secs = 2;
    });
    let Some(world) = world.await else { return };
    let handle = world.launch("true").await;
    let (reason, fault) = world.never_ran(&handle).await;
    let image = "image `registry.invalid/prep:1` of its init container `prep` can't be pulled: ";
    assert!(reason.starts_with(image), "{reason}");
    assert_eq!(fault, StartFault::Image, "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_without_a_valid_name_or_that_is_not_there_is_the_tasks_fault() {
    let Some(world) =
        world_where(|config| config.pull_policy = flotilla::engine::container::pull_policy::PullPolicy::Never).await
    else {
        return;
    };
    for (image, word) in [("No Such Image", "its name is not valid"), ("nothing:1", "is not on the node")] {
        let handle = world.engine().launch(&world.task("true", |task| task.image = image.into())).await.unwrap();
        let (reason, fault) = world.never_ran(&handle).await;
        assert!(fault == StartFault::Task && reason.contains(image) && reason.contains(word), "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_beyond_its_memory_ends_as_out_of_memory_with_the_limit() {
    let Some(world) = world().await else { return };
    // The shell keeps all that is printed in one word of its own.
    let spec = world.task("x=$(dd if=/dev/zero bs=1M count=200 2>/dev/null | tr '\\0' x); echo ${#x}", |task| {
        task.memory_mb = Some(32);
    });
    let (ended, _) = world.run(&spec).await;
    assert!(ended.killed_for_memory, "{ended:?}");
    assert_eq!(ended.usage.memory_limit_bytes, Some(32 << 20));
    assert!(ended.usage.max_memory_bytes >= Some(32 << 20));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_deleted_from_outside_ends_the_run_and_its_command_runs_once() {
    let Some(world) = world().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let volume = volume_at(folder.path(), "/starts");
    drop(world);
    let Some(world) = world_where(|config| config.volumes = vec![volume]).await else { return };
    let handle = world.launch("echo started >> /starts/all; sleep 1000").await;
    world.running(&handle).await;
    kubectl(&["delete", "pod", &object(&handle), "--wait=false"]);
    was_deleted(&world.over(&handle).await);
    // The job's controller has seen the same, and tries to make another pod for a while.
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert_eq!(std::fs::read_to_string(folder.path().join("all")).unwrap(), "started\n");
    was_deleted(&world.observe(&handle).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_deleted_while_no_server_looks_ends_the_run_and_its_command_runs_once() {
    let folder = tempfile::tempdir().unwrap();
    let volume = volume_at(folder.path(), "/starts");
    let Some(mut world) = world_where(|config| config.volumes = vec![volume]).await else { return };
    let handle = world.launch("echo started >> /starts/all; sleep 1000").await;
    world.running(&handle).await;
    world.engine = None;
    kubectl(&["delete", "pod", &object(&handle), "--wait=false"]);
    tokio::time::sleep(Duration::from_secs(15)).await;
    world.restart();
    was_deleted(&world.over(&handle).await);
    assert_eq!(std::fs::read_to_string(folder.path().join("all")).unwrap(), "started\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_whose_labels_and_finalizer_are_taken_away_is_found_again_and_keeps_its_end() {
    let Some(world) = world().await else { return };
    let handle = world.launch("trap 'exit 9' TERM; while :; do sleep 0.1; done").await;
    world.running(&handle).await;
    let name = object(&handle);
    kubectl(&["label", "pod,job", &name, "flotilla/run-", "flotilla/attempt-", "flotilla/server-"]);
    let labels = || kubectl(&["get", "pod", &name, "-o", "jsonpath={.metadata.labels}"]);
    while !labels().contains("flotilla/run") {
        assert!(matches!(world.observe(&handle).await.unwrap(), Observation::Running(_)));
    }
    let found = kubectl(&["get", "pod", &name, "-o", "jsonpath={.metadata.labels}"]);
    assert!(found.contains(&handle.attempt_id.run_id.to_string()), "{found}");
    kubectl(&["patch", "pod", &name, "--type=merge", "-p", r#"{"metadata":{"finalizers":null}}"#]);
    let is_kept =
        || kubectl(&["get", "pod", &name, "-o", "jsonpath={.metadata.finalizers}"]).contains("flotilla/observed");
    while !is_kept() {
        world.observe(&handle).await.unwrap();
    }
    world.engine().stop(&handle, crate::world::GRACE).await.unwrap();
    match world.over(&handle).await {
        Observation::Ended(ended) => assert_eq!((ended.exit_code, ended.cause), (9, EndCause::Stopped)),
        // A busy node of the oldest release removes a deleted pod's container before it has written down its end.
        Observation::Lost { reason, .. } => assert!(reason.ends_with("its pod was deleted"), "{reason}"),
        other => panic!("it should have ended: {other:?}"),
    }
    world.engine().remove(&handle).await.unwrap();
    assert_eq!(kubectl(&["get", "pod,job", &name, "--ignore-not-found", "-o", "name"]), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_deleted_from_outside_ends_the_run_and_keeps_its_exit_code() {
    let Some(world) = world().await else { return };
    let handle = world.launch("sleep 1000").await;
    world.running(&handle).await;
    kubectl(&["delete", "job", &object(&handle), "--wait=false"]);
    match world.over(&handle).await {
        Observation::Ended(ended) => {
            assert_eq!((ended.exit_code, ended.cause), (143, EndCause::Outside { by: "its job was deleted".into() }));
        }
        Observation::Lost { reason, .. } => assert!(reason.ends_with("its job was deleted"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

/// A pod that somebody deleted under its command. A node of 1.20 with too much to do removes a deleted pod's container
/// before it has written down how that ended.
fn was_deleted(observation: &Observation) {
    match observation {
        Observation::Ended(ended) => {
            assert_eq!(ended.cause, EndCause::Outside { by: "its pod was deleted".into() });
            assert_eq!(ended.exit_code, 143);
        }
        Observation::Lost { reason, .. } => assert!(reason.ends_with("its pod was deleted"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_taken_away_with_its_finalizer_is_lost() {
    let Some(world) = world().await else { return };
    let handle = world.launch("sleep 1000").await;
    world.running(&handle).await;
    let name = object(&handle);
    kubectl(&["patch", "pod", &name, "--type=merge", "-p", r#"{"metadata":{"finalizers":null}}"#]);
    kubectl(&["delete", "pod", &name, "--grace-period=0", "--force"]);
    match world.over(&handle).await {
        Observation::Lost { reason, .. } => assert!(reason.contains("from outside of flotilla"), "{reason}"),
        Observation::Ended(ended) => assert_eq!(ended.cause, EndCause::Outside { by: "its pod was deleted".into() }),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_of_the_pod_template_that_the_cluster_does_not_know_is_refused_by_name() {
    for (field, value) in
        [("priorityClassname", "high".into()), ("schedulingGates", serde_json::json!([{ "name": "g" }]))]
    {
        let template = serde_json::json!({ "spec": { "dnsPolicy": "Default", "hostNetwork": false, field: value } });
        let Some(world) = world_where(|config| config.pod_template = Some(template_file(&template))).await else {
            return;
        };
        let spec = world.task("true", |_| {});
        let checked = world.engine().check(&spec.task).await;
        let launched = world.engine().launch(&spec).await.map(|_| ());
        for refused in [checked, launched] {
            let Err(EngineError::Rejected(reason)) = refused else { panic!("{field}: {refused:?}") };
            assert!(reason.ends_with(&format!("would leave out: `spec.{field}`")), "{reason}");
        }
    }
    let template = serde_json::json!({ "spec": { "dnsPolicy": "Default" } });
    let Some(world) = world_where(|config| config.pod_template = Some(template_file(&template))).await else { return };
    let (ended, _) = world.run(&world.task("exit 0", |_| {})).await;
    assert_eq!(ended.exit_code, 0);
}

fn volume_at(folder: &std::path::Path, target: &str) -> Volume {
    Volume { source: VolumeSource::Host(folder.to_str().unwrap().into()), target: target.into(), is_read_only: false }
}
