//! What a node says that no real one says at will: pods are bound to a node of the test's own, which has no agent, and
//! whose words the test writes into the real API.

use std::time::Duration;

use flotilla::engine::Handle;
use flotilla::model::{Observation, RunId, StartFault};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use crate::world::{World, kubectl, object, template_file, world_where};

struct ScriptedNode {
    name: String,
}

impl ScriptedNode {
    fn new() -> Self {
        let name = format!("flotilla-test-{}", &RunId::generate().to_string()[24..]);
        let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name }, "spec": { "unschedulable": true } });
        send("create", "/api/v1/nodes", &node);
        Self { name }
    }

    /// Launches a run whose pod comes to this node.
    async fn launch(&self, world: &World) -> Handle {
        let spec = world.task("true", |task| task.image = "registry.invalid/x:1".into());
        let handle = world.engine().launch(&spec).await.unwrap();
        let name = object(&handle);
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding", "metadata": { "name": name },
            "target": { "apiVersion": "v1", "kind": "Node", "name": self.name },
        });
        send("create", &format!("/api/v1/namespaces/default/pods/{name}/binding"), &binding);
        handle
    }
}

impl Drop for ScriptedNode {
    fn drop(&mut self) {
        kubectl(&["delete", "node", &self.name, "--wait=false"]);
    }
}

fn send(verb: &str, path: &str, object: &Value) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), object.to_string()).unwrap();
    kubectl(&[verb, "--raw", path, "-f", file.path().to_str().unwrap()]);
}

fn pod_of(handle: &Handle) -> Value {
    serde_json::from_str(&kubectl(&["get", "pod", &object(handle), "-o", "json"])).unwrap()
}

fn write_status(handle: &Handle, status: &Value) {
    let mut pod = pod_of(handle);
    pod["status"] = status.clone();
    send("replace", &format!("/api/v1/namespaces/default/pods/{}/status", object(handle)), &pod);
}

/// A pod whose container waits with this reason.
fn waiting(reason: &str, message: &str) -> Value {
    json!({ "phase": "Pending", "containerStatuses": [{
        "name": "run", "image": "registry.invalid/x:1", "imageID": "", "ready": false, "restartCount": 0,
        "state": { "waiting": { "reason": reason, "message": message } },
    }] })
}

/// An event about the run's container, so long after the first one.
fn tell(handle: &Handle, began: Timestamp, second: i64, reason: &str, message: &str) {
    let pod = pod_of(handle);
    let at = began + jiff::SignedDuration::from_secs(second);
    let event = json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": { "name": format!("{}.{reason}.{second}", object(handle)).to_lowercase(), "namespace": "default" },
        "involvedObject": {
            "apiVersion": "v1", "kind": "Pod", "namespace": "default", "name": object(handle),
            "uid": pod["metadata"]["uid"], "fieldPath": "spec.containers{run}",
        },
        "reason": reason, "message": message, "type": "Normal", "count": 1,
        "firstTimestamp": at, "lastTimestamp": at, "source": { "component": "kubelet" },
    });
    send("create", "/api/v1/namespaces/default/events", &event);
}

async fn scripted_world() -> Option<World> {
    world_where(|config| {
        config.pod_template = Some(template_file(&json!({ "spec": { "schedulerName": "flotilla-test-nobody" } })));
        config.image_pull_grace_secs = 1;
    })
    .await
}

fn lost(observation: &Observation) -> &str {
    match observation {
        Observation::Lost { reason, .. } => reason,
        other => panic!("it should be lost: {other:?}"),
    }
}

/// As releases before 1.22 or so end a pod: three fields, and no word about its container.
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_failed_while_no_server_looked_is_not_tried_again_where_it_may_have_run() {
    let Some(mut world) = scripted_world().await else { return };
    let node = ScriptedNode::new();
    let (preempted, shut_down) = (node.launch(&world).await, node.launch(&world).await);
    let refused = node.launch(&world).await;
    world.engine = None;
    let began = Timestamp::now();
    tell(&preempted, began, 0, "Created", "Created container run");
    tell(&preempted, began, 0, "Started", "Started container run");
    for (handle, reason, message) in [
        (&preempted, "Preempting", "Preempted in order to admit critical pod"),
        (&shut_down, "Shutdown", "Node is shutting, evicting pods"),
        (&refused, "OutOfcpu", "Pod Node didn't have enough resource: cpu"),
    ] {
        write_status(handle, &json!({ "phase": "Failed", "reason": reason, "message": message }));
    }
    world.restart();
    let reason = world.over(&preempted).await;
    assert!(lost(&reason).starts_with("its node lost the container after it was started"), "{reason:?}");
    let reason = world.over(&shut_down).await;
    assert!(
        lost(&reason).starts_with("its node was shut down") && lost(&reason).ends_with("is not known"),
        "{reason:?}"
    );
    let (reason, fault) = world.never_ran(&refused).await;
    assert_eq!(fault, StartFault::Machine);
    assert!(reason.starts_with("its node did not take it: OutOfcpu"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_given_up_for_its_image_is_queued_again_though_the_image_came_and_its_container_could_not_start() {
    let Some(world) = scripted_world().await else { return };
    let node = ScriptedNode::new();
    let handle = node.launch(&world).await;
    let answer = "rpc error: code = Unknown desc = failed to pull: unexpected status code 500 Internal Server Error";
    write_status(&handle, &waiting("ErrImagePull", answer));
    while pod_of(&handle)["metadata"]["deletionTimestamp"].is_null() {
        assert_eq!(world.observe(&handle).await.unwrap(), Observation::Starting);
        let _ = timeout(Duration::from_millis(100), world.reports.take()).await;
    }
    let began = Timestamp::now();
    tell(&handle, began, 0, "Failed", &format!("Failed to pull image \"registry.invalid/x:1\": {answer}"));
    tell(&handle, began, 2, "Pulled", "Successfully pulled image");
    tell(&handle, began, 2, "Created", "Created container run");
    tell(
        &handle,
        began,
        3,
        "Failed",
        "Error: failed to create containerd task: OCI runtime create failed: runc create failed",
    );
    kubectl(&["delete", "pod", &object(&handle), "--grace-period=0", "--force", "--wait=false"]);
    let (reason, fault) = world.never_ran(&handle).await;
    assert_eq!((reason, fault), (format!("image `registry.invalid/x:1` can't be pulled: {answer}"), StartFault::Image));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_is_forced_while_the_image_comes_is_waited_out() {
    const HELD: Duration = Duration::from_secs(15);
    let Some(world) = world_where(|config| {
        config.pod_template = Some(template_file(&json!({ "spec": { "schedulerName": "flotilla-test-nobody" } })));
    })
    .await
    else {
        return;
    };
    let node = ScriptedNode::new();
    let handle = node.launch(&world).await;
    let began = Timestamp::now();
    write_status(&handle, &waiting("ErrImagePull", "no such host"));
    tell(&handle, began, 0, "Failed", "Failed to pull image \"registry.invalid/x:1\": no such host");
    tell(&handle, began, 3, "Pulling", "Pulling image");
    let name = object(&handle);
    kubectl(&["delete", "pod", &name, "--wait=false"]);
    let grace = || pod_of(&handle)["metadata"]["deletionGracePeriodSeconds"].as_u64();
    assert!(grace().is_some_and(|grace| grace > 0), "{:?}", grace());
    assert_eq!(world.observe(&handle).await.unwrap(), Observation::Starting);
    kubectl(&["delete", "pod", &name, "--grace-period=0", "--force", "--wait=false"]);
    assert_eq!(grace(), Some(0));
    // For longer than the news of an earlier start may be under way.
    let until = Instant::now() + HELD;
    while Instant::now() < until {
        assert_eq!(world.observe(&handle).await.unwrap(), Observation::Starting);
        let _ = timeout(Duration::from_millis(200), world.reports.take()).await;
    }
    tell(&handle, began, 20, "Pulled", "Successfully pulled image");
    tell(&handle, began, 20, "Created", "Created container run");
    tell(&handle, began, 20, "Started", "Started container run");
    let seen = world.over(&handle).await;
    assert!(lost(&seen).starts_with("its node lost the container after it was started"), "{seen:?}");
    assert_eq!(pod_of(&handle)["status"]["phase"], "Pending", "its container waits, as far as its node has said");
    assert_eq!(world.output(&handle).await, b"", "there is nothing to wait for");
    world.engine().remove(&handle).await.unwrap();
    assert_eq!(kubectl(&["get", "pod,job", &name, "--ignore-not-found", "-o", "name"]), "");
}
