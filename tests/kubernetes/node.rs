//! What the cluster has, and what a run used of it.

use std::time::Duration;

use flotilla::engine::EngineError;

use crate::world::{kubectl, world, world_where};

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_fits_no_node_is_refused_with_the_numbers() {
    let Some(world) = world().await else { return };
    let refused = |change: fn(&mut flotilla::model::TaskSpec)| {
        let spec = world.task("true", change);
        let world = &world;
        async move {
            match world.engine().check(&spec.task).await {
                Err(EngineError::Rejected(reason)) => reason,
                other => panic!("it should not fit: {other:?}"),
            }
        }
    };
    let reason = refused(|task| task.memory_mb = Some(1 << 30)).await;
    assert!(reason.contains("it asks for 1073741824 MB of memory, the largest node has "), "{reason}");
    let reason = refused(|task| task.gpu = Some(1)).await;
    assert!(reason.contains("it asks for 1 GPUs, the largest node has 0"), "{reason}");
    assert!(world.engine().capacity().memory_mb.is_some_and(|memory| memory > 100));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_is_not_there_and_a_quota_refuse() {
    let Some(world) = world_where(|config| config.namespace = "flotilla-none".into()).await else { return };
    let task = world.task("true", |task| task.memory_mb = Some(64)).task;
    let Err(EngineError::Rejected(reason)) = world.engine().check(&task).await else { panic!("it should be refused") };
    assert!(reason.contains("no namespace `flotilla-none`"), "{reason}");
    drop(world);

    let name = format!("flotilla-{}", &flotilla::model::RunId::generate().to_string()[24..]);
    kubectl(&["create", "namespace", &name]);
    kubectl(&["-n", &name, "create", "quota", "small", "--hard=limits.memory=32Mi,pods=0"]);
    let Some(world) = world_where(|config| config.namespace.clone_from(&name)).await else { return };
    let Err(EngineError::Rejected(reason)) = world.engine().check(&task).await else { panic!("it should be refused") };
    assert!(reason.contains("it asks for 64 MB of memory, the quota `small` allows 32"), "{reason}");
    // What is taken by others now may be free later.
    let launched = world.engine().launch(&world.task("true", |task| task.memory_mb = Some(16))).await;
    assert!(
        matches!(&launched, Err(EngineError::NotStarted { reason, .. }) if reason.contains("exceeded quota")),
        "{launched:?}"
    );
    drop(world);
    kubectl(&["delete", "namespace", &name, "--wait=false"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_tells_what_it_used() {
    let Some(world) = world().await else { return };
    let spec =
        world.task("i=0; while [ $i -lt 3000000 ]; do i=$((i+1)); done; sleep 12", |task| task.cpu_millis = Some(500));
    let (ended, _) = world.run(&spec).await;
    assert!(ended.usage.max_memory_bytes.is_some_and(|bytes| bytes > 0), "{:?}", ended.usage);
    assert!(ended.usage.cpu_time_ms.is_some_and(|ms| ms > 0), "{:?}", ended.usage);
    assert_eq!(ended.usage.cpu_limit_millis, Some(500));
    assert!(ended.finished_at.duration_since(ended.started.at) >= Duration::from_secs(10).try_into().unwrap());
}
