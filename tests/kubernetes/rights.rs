//! A cluster that answers, and does not let the server see its runs: an API of the test's own, that refuses everything.

use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::http::{Method, StatusCode, Uri};
use axum::routing::get;
use flotilla::engine::kubernetes::{KubernetesEngine, KubernetesSettings, PodMaker};
use flotilla::engine::{Engine, EngineError, EngineState, Handle, Identity, Reports};
use flotilla::model::{AttemptId, Event, Observation, RunId};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::world::{LONGEST, kubectl, world};

async fn refuse(method: Method, uri: Uri) -> (StatusCode, Json<Value>) {
    let what = uri.path().rsplit('/').next().unwrap_or_default();
    let message = format!("{what} is forbidden: User \"x\" cannot {method} resource \"{what}\"");
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
        "reason": "Forbidden", "code": 403,
    });
    (StatusCode::FORBIDDEN, Json(status))
}

/// An engine on an API that says which release it is, and refuses everything else.
async fn engine_without_rights(reports: &Reports) -> (KubernetesEngine, tempfile::TempDir) {
    let version = json!({
        "major": "1", "minor": "36", "gitVersion": "v1.36.0", "gitCommit": "", "gitTreeState": "", "buildDate": "",
        "goVersion": "", "compiler": "", "platform": "",
    });
    let router = Router::new().route("/version", get(async move || Json(version.clone()))).fallback(refuse);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("kubeconfig");
    let text = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{ "name": "c", "cluster": { "server": format!("http://{address}") } }],
        "users": [{ "name": "u", "user": {} }],
        "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u" } }],
    });
    std::fs::write(&kubeconfig, text.to_string()).unwrap();
    let config = KubernetesSettings { kubeconfig: Some(kubeconfig), ..KubernetesSettings::default() };
    let identity = Identity { installation_id: RunId::generate().to_string(), cluster: "test".to_owned() };
    (KubernetesEngine::new(config, identity, reports.clone(), Timestamp::now).unwrap(), folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_without_the_right_to_look_is_not_reachable_and_its_runs_say_so() {
    let reports = Reports::default();
    let (engine, _folder) = engine_without_rights(&reports).await;
    let deadline = Instant::now() + LONGEST;
    let reason = loop {
        match engine.state() {
            EngineState::Unreachable { reason, .. } if reason.contains("lacks a right") => break reason,
            state => assert!(Instant::now() < deadline, "{state:?}"),
        }
        sleep(Duration::from_millis(10)).await;
    };
    assert!(reason.contains("is forbidden: User \"x\" cannot GET resource"), "{reason}");

    let attempt_id = AttemptId { run_id: RunId::generate(), attempt: 1 };
    let handle = Handle { attempt_id, text: "job".to_owned() };
    for _ in 0..2 {
        let observed = engine.observe(std::slice::from_ref(&handle)).await;
        assert!(matches!(observed, Err(EngineError::Unavailable(_))), "nothing is concluded: {observed:?}");
        let stopped = engine.stop(&handle, Duration::from_secs(1)).await;
        assert!(matches!(stopped, Err(EngineError::Unavailable(_))), "{stopped:?}");
    }
    let notes = reports.take_notes();
    let told = |reason: &str| notes.iter().filter(|(id, note)| *id == attempt_id && note.reason == reason).count();
    assert_eq!((told("NotAllowed"), told("StopRefused")), (1, 1), "{notes:?}");
    assert!(matches!(engine.state(), EngineState::Unreachable { .. }), "other answers don't make it reachable");
}

/// Whoever may not read events is not left without a word about a pod that admission refuses.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_without_a_pod_says_that_the_server_may_not_read_why() {
    let Some(world) = world().await else { return };
    let account = format!("flotilla-test-{}", &RunId::generate().to_string()[24..]);
    let verbs = "--verb=get,list,watch,create,delete,patch";
    kubectl(&["create", "role", &account, verbs, "--resource=jobs.batch,pods,pods/log"]);
    kubectl(&["create", "rolebinding", &account, &format!("--role={account}"), &format!("--user={account}")]);
    let mut client: Value =
        serde_json::from_str(&kubectl(&["config", "view", "--raw", "--flatten", "-o", "json"])).unwrap();
    for user in client["users"].as_array_mut().unwrap() {
        user["user"]["as"] = account.clone().into();
    }
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("kubeconfig");
    std::fs::write(&kubeconfig, client.to_string()).unwrap();
    let config = KubernetesSettings { kubeconfig: Some(kubeconfig), ..world.config.clone() };
    let reports = Reports::default();
    // As from 1.26 on, where the job's controller makes the pod.
    let maker = Some(PodMaker::Controller);
    let engine =
        KubernetesEngine::with_pod_maker(config, world.identity.clone(), reports.clone(), Timestamp::now, maker)
            .unwrap();
    let mut spec = world.task("true", |_| {});
    spec.execution.service_account = Some("not-there".into());
    let handle = engine.launch(&spec).await.unwrap();
    let deadline = Instant::now() + LONGEST;
    let mut notes = Vec::new();
    while !notes.iter().any(|(_, note): &(AttemptId, Event)| note.reason == "EventsNotAllowed") {
        assert!(Instant::now() < deadline, "{notes:?}");
        assert_eq!(engine.observe(std::slice::from_ref(&handle)).await.unwrap(), [Observation::Starting]);
        notes.extend(reports.take_notes());
        sleep(Duration::from_millis(100)).await;
    }
    let told = notes.iter().find(|(_, note)| note.reason == "EventsNotAllowed").unwrap();
    assert_eq!(told.0, handle.attempt_id);
    assert!(told.1.message.contains(&format!("User \"{account}\" cannot list resource \"events\"")), "{told:?}");
    kubectl(&["delete", "role,rolebinding", &account]);
}
