//! A whole server but for the socket and the timers: its router, its database, the fake engine, and its loops, which
//! take a step when they are told to.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use axum::response::Response;
use flotilla::clock::{Clock, ManualClock};
use flotilla::control::{Control, Settings, State};
use flotilla::engine::docker::{DockerConfig, DockerEngine, Identity};
use flotilla::engine::fake::FakeEngine;
use flotilla::engine::{Engine, EngineError, EngineState, Pokes};
use flotilla::http::{App, Limits, router};
use flotilla::logs::Logs;
use flotilla::model::{AttemptId, Condition, LaunchPolicy};
use flotilla::service::{Cluster, Clusters, Service};
use flotilla::store::Store;
use flotilla::wake::Wake;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::support;

/// Nothing takes so long unless it is broken.
const LONGEST: Duration = Duration::from_mins(1);

pub struct World {
    /// What plays the runs, unless they are real.
    pub engine: FakeEngine,
    /// One that the cluster has.
    pub image: &'static str,
    pub control: Arc<Control>,
    pub clock: ManualClock,
    pub store: Arc<Store>,
    pub stop: CancellationToken,
    router: axum::Router,
    _folder: TempDir,
}

/// What makes one world different from another.
struct Parts {
    engine: Arc<dyn Engine>,
    fake: FakeEngine,
    image: &'static str,
    pokes: Pokes,
    clock: Clock,
    hand: ManualClock,
}

/// What the operator of this world decided.
#[derive(Clone)]
pub struct Options {
    pub max_running: Option<u32>,
    pub limits: Limits,
    pub policy: LaunchPolicy,
    pub log_cap_bytes: u64,
    pub log_retention: Option<Duration>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_running: None,
            limits: Limits { body_bytes: 1 << 20, list_default: 1024, list_most: 2000, log_bytes: 1 << 20 },
            policy: LaunchPolicy::default(),
            log_cap_bytes: 1 << 30,
            log_retention: None,
        }
    }
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub bytes: Vec<u8>,
}

impl Answer {
    /// The body of an answer that has to be JSON.
    pub fn json(&self) -> Value {
        let content_type = self.headers["content-type"].to_str().unwrap();
        assert_eq!(content_type, "application/json; charset=utf-8", "{self:?}");
        serde_json::from_slice(&self.bytes).unwrap()
    }

    /// The body of a request that went well.
    #[track_caller]
    pub fn ok(&self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}", String::from_utf8_lossy(&self.bytes));
        self.json()
    }

    /// The text of a refusal with this status.
    #[track_caller]
    pub fn refused(&self, status: u16) -> String {
        assert_eq!(self.status.as_u16(), status, "{}", String::from_utf8_lossy(&self.bytes));
        self.json()["error"].as_str().expect("a refusal says what is wrong").to_owned()
    }
}

impl World {
    pub async fn on_sqlite() -> Self {
        Self::on_sqlite_with(Options::default()).await
    }

    pub async fn on_sqlite_with(options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open_sqlite(&folder.path().join("flotilla.db")).await.unwrap();
        Self::with_fake(store, folder, options)
    }

    /// `None` where there is no PostgreSQL to test with, which is told at the end of the run.
    pub async fn on_postgres() -> Option<Self> {
        let url = support::postgres_url().await?;
        let store = Store::open_postgres(&url).await.unwrap();
        Some(Self::with_fake(store, tempfile::tempdir().unwrap(), Options::default()))
    }

    /// A world whose default cluster runs containers. Its clock is the machine's, as that of the containers is.
    pub async fn on_docker() -> Option<Self> {
        let host = support::docker_address()?;
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open_sqlite(&folder.path().join("flotilla.db")).await.unwrap();
        let identity = Identity { server_id: store.installation_id().await.unwrap(), cluster: "default".to_owned() };
        let config = DockerConfig { host: Some(host), ..DockerConfig::default() };
        let pokes = Pokes::default();
        let clock = Clock::system();
        let time = clock.clone();
        let engine = Arc::new(DockerEngine::new(config, identity, pokes.clone(), move || time.now()));
        let fake = FakeEngine::new(|| jiff::Timestamp::UNIX_EPOCH, Pokes::default());
        let (_, hand) = Clock::manual(jiff::Timestamp::UNIX_EPOCH);
        let parts = Parts { engine, fake, image: support::DOCKER_IMAGE, pokes, clock, hand };
        Some(Self::new(store, folder, Options::default(), parts))
    }

    fn with_fake(store: Store, folder: TempDir, options: Options) -> Self {
        let (clock, hand) = Clock::manual("2026-01-01T00:00:00Z".parse().unwrap());
        let pokes = Pokes::default();
        let time = clock.clone();
        let fake = FakeEngine::new(move || time.now(), pokes.clone());
        let engine = Arc::new(fake.clone());
        Self::new(store, folder, options, Parts { engine, fake, image: "busybox:1", pokes, clock, hand })
    }

    fn new(store: Store, folder: TempDir, options: Options, parts: Parts) -> Self {
        let Parts { engine, fake, image, pokes, clock, hand } = parts;
        let store = Arc::new(store);
        let logs = Arc::new(Logs::open(&folder.path().join("logs")).unwrap());
        let wake = Wake::default();
        let kind = engine.kind();
        let cluster = |name: &str| {
            let checked = Arc::clone(&engine);
            Cluster {
                name: name.to_owned(),
                resolved_name: name.to_owned(),
                engine: kind,
                max_running: options.max_running,
                is_configured: true,
                probe: Arc::new({
                    let probed = Arc::clone(&engine);
                    move || Condition {
                        unreachable: match probed.state() {
                            EngineState::Reachable => None,
                            EngineState::Unreachable { reason, since } => Some((since, reason)),
                        },
                        memory_mb: probed.capacity().memory_mb,
                        ..Condition::default()
                    }
                }),
                check: Arc::new(move |task| {
                    let checked = Arc::clone(&checked);
                    Box::pin(async move {
                        match checked.check(&task).await {
                            Err(EngineError::Rejected(reason)) => Err(reason),
                            _ => Ok(()),
                        }
                    })
                }),
            }
        };
        let clusters = Clusters::new(vec![cluster("default"), cluster("idle")], None);
        let control = Arc::new(Control {
            store: Arc::clone(&store),
            logs: Arc::clone(&logs),
            wake: wake.clone(),
            clock: clock.clone(),
            settings: Settings {
                grace: Duration::from_secs(10),
                log_cap_bytes: options.log_cap_bytes,
                log_retention: options.log_retention,
            },
            node: "this-node".to_owned(),
            cluster: "default".to_owned(),
            engine,
            pokes,
            max_running: options.max_running,
            state: State::default(),
        });
        let service = Service::new(Arc::clone(&store), logs, wake, clock, options.policy, clusters);
        let stop = CancellationToken::new();
        let router = router(App { service: Arc::new(service), limits: options.limits, stop: stop.clone() });
        Self { engine: fake, image, control, clock: hand, store, stop, router, _folder: folder }
    }

    pub async fn request(&self, request: Request<Body>) -> Response {
        self.router.clone().oneshot(request).await.unwrap()
    }

    pub async fn send(&self, method: &str, path: &str, body: impl Into<Body>) -> Answer {
        // As existing clients do: `curl -d` says that it sends a form.
        let form = "application/x-www-form-urlencoded";
        let request = Request::builder().method(method).uri(path).header("content-type", form);
        let (parts, body) = self.request(request.body(body.into()).unwrap()).await.into_parts();
        let bytes = tokio::time::timeout(LONGEST, body.collect()).await.expect("the answer ends").unwrap().to_bytes();
        Answer { status: parts.status, headers: parts.headers, bytes: bytes.to_vec() }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, Body::empty()).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.send("PUT", path, body.to_string()).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.send("POST", path, body.to_string()).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, Body::empty()).await
    }

    /// A definition with this command, and its id.
    pub async fn define(&self, alias: &str, command: &str) -> String {
        let body = json!({"alias": alias, "group_name": "testing", "image": self.image, "command": command});
        text(&self.post("/api/v1/task", body).await.ok()["definition_id"])
    }

    /// Launches and gives the run's id.
    pub async fn launch(&self, definition_id: &str, body: Value) -> String {
        text(&self.put(&format!("/api/v4/task/{definition_id}/execute"), body).await.ok()["run_id"])
    }

    /// A run of a new definition with this command.
    pub async fn run(&self, command: &str) -> String {
        let alias = format!("alias-{}", flotilla::model::RunId::generate());
        let definition_id = self.define(&alias, command).await;
        self.launch(&definition_id, json!({})).await
    }

    pub async fn history(&self, run_id: &str) -> Value {
        self.get(&format!("/api/v1/history/{run_id}")).await.ok()
    }

    /// One step of the loops that start and watch.
    pub async fn step(&self) {
        self.control.dispatch().await.unwrap();
        self.control.watch_all().await.unwrap();
    }

    /// Steps until the run is as expected, and gives it.
    pub async fn step_until(&self, run_id: &str, expected: impl Fn(&Value) -> bool) -> Value {
        let stepping = async {
            loop {
                self.step().await;
                let run = self.history(run_id).await;
                if expected(&run) {
                    return run;
                }
                // Output is pumped by tasks of its own, which poke when they are done.
                let _ = tokio::time::timeout(Duration::from_millis(5), self.control.pokes.take()).await;
            }
        };
        if let Ok(run) = tokio::time::timeout(LONGEST, stepping).await {
            return run;
        }
        panic!("the run does not become as expected: {:#}", self.history(run_id).await);
    }

    /// Steps until the run has stopped and nothing of it is left on the engine.
    pub async fn finish(&self, run_id: &str) -> Value {
        let run = self.step_until(run_id, |run| run["status"] == "STOPPED").await;
        let cleaning = async {
            while !self.control.engine.list_ours().await.unwrap_or_default().is_empty() {
                self.step().await;
                let _ = tokio::time::timeout(Duration::from_millis(5), self.control.pokes.take()).await;
            }
        };
        // Other runs may go on.
        let _ = tokio::time::timeout(Duration::from_secs(2), cleaning).await;
        run
    }

    pub fn attempt(run_id: &str, attempt: u32) -> AttemptId {
        AttemptId { run_id: run_id.parse().unwrap(), attempt }
    }
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

/// One field of each item of a list.
pub fn each(list: &Value, field: &str) -> Vec<String> {
    list.as_array().unwrap().iter().map(|item| text(&item[field])).collect()
}
