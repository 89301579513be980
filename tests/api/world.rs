//! A whole server but for the socket and the timers: its router, its database, an engine, and its loops, which take a
//! step when they are told to.

use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use axum::response::Response;
use flotilla::clock::{Clock, ManualClock};
use flotilla::control::cluster::State;
use flotilla::control::global::{KeptTime, Retries};
use flotilla::control::{Control, Global, Settings};
use flotilla::engine::docker::{DockerEngine, DockerSettings, Identity};
use flotilla::engine::fake::FakeEngine;
use flotilla::engine::kubernetes::{KubernetesEngine, KubernetesSettings};
use flotilla::engine::{Engine, EngineError, EngineState, Reports};
use flotilla::http::{App, Limits, Origins, router};
use flotilla::lease::Lease;
use flotilla::logs::Logs;
use flotilla::model::{AttemptId, Condition, LaunchPolicy, StartFault, StartLimits};
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

/// A step of a command at which it waits until the test lets it [`World::go_on`].
pub const WAIT: &str = "sleep 1000 || true";

pub struct World {
    stage: Stage,
    /// One that the cluster has.
    pub image: &'static str,
    pub control: Arc<Control>,
    pub global: Arc<Global>,
    clock: Option<ManualClock>,
    pub store: Arc<Store>,
    pub stop: CancellationToken,
    router: axum::Router,
    _folder: TempDir,
}

/// Where the runs of a world are played, and how a test gets at them from behind: an engine joins by an arm for each of
/// the things that tests do there.
enum Stage {
    Fake(FakeEngine),
    Docker { host: String, installation_id: String },
    Kubernetes,
}

/// What makes one world different from another.
struct Parts {
    stage: Stage,
    engine: Arc<dyn Engine>,
    image: &'static str,
    reports: Reports,
    clock: Clock,
    hand: Option<ManualClock>,
}

/// What the operator of this world decided.
#[derive(Clone)]
pub struct Options {
    pub max_running: Option<u32>,
    pub limits: Limits,
    pub policy: LaunchPolicy,
    pub log_cap_bytes: u64,
    pub log_patience: Duration,
    pub log_retention: Option<Duration>,
    pub origins: Origins,
    pub starts: StartLimits,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_running: None,
            limits: Limits {
                body_bytes: 1 << 20,
                list_default: 1024,
                list_most: 2000,
                log_bytes: 1 << 20,
                // Nobody steps the loops while a request waits.
                log_wait: Duration::ZERO,
                follow_wait: LONGEST,
            },
            policy: LaunchPolicy::default(),
            log_cap_bytes: 1 << 30,
            log_patience: LONGEST,
            log_retention: None,
            origins: Origins { hosts: vec!["flotilla.test".to_owned()], is_loopback: true, ..Origins::default() },
            starts: StartLimits::default(),
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
    pub async fn on_sqlite(options: Options) -> Self {
        let (store, folder) = sqlite().await;
        Self::with_fake(store, folder, options)
    }

    /// `None` where there is no PostgreSQL to test with, which is told at the end of the run.
    pub async fn on_postgres(options: Options) -> Option<Self> {
        let url = support::postgres_url().await?;
        let store = Store::open_postgres(&url).await.unwrap();
        Some(Self::with_fake(store, tempfile::tempdir().unwrap(), options))
    }

    /// A world whose clusters run containers, on SQLite. Its clock is the machine's, as that of the containers is.
    pub async fn on_docker(options: Options) -> Option<Self> {
        let host = support::docker_address()?;
        let (store, folder) = sqlite().await;
        let installation_id = store.installation_id().await.unwrap();
        let identity = Identity { installation_id: installation_id.clone(), cluster: "default".to_owned() };
        // No test needs a network, and a container without starts sooner.
        let network_mode = Some("none".to_owned());
        let config = DockerSettings { host: Some(host.clone()), network_mode, ..DockerSettings::default() };
        let (reports, clock) = (Reports::default(), Clock::system());
        let time = clock.clone();
        let engine = Arc::new(DockerEngine::new(config, identity, reports.clone(), move || time.now()));
        let stage = Stage::Docker { host, installation_id };
        let image = support::DOCKER_IMAGE;
        Some(Self::new(store, folder, options, Parts { stage, engine, image, reports, clock, hand: None }))
    }

    /// A world whose clusters run jobs of a Kubernetes cluster, on SQLite, with the machine's clock.
    pub async fn on_kubernetes(options: Options) -> Option<Self> {
        let kubeconfig = Some(support::kubernetes_config()?);
        let (store, folder) = sqlite().await;
        let installation_id = store.installation_id().await.unwrap();
        let identity = Identity { installation_id, cluster: "default".to_owned() };
        let context = Some("flotilla".to_owned());
        let config = KubernetesSettings { kubeconfig, context, ..KubernetesSettings::default() };
        let (reports, clock) = (Reports::default(), Clock::system());
        let time = clock.clone();
        let engine = Arc::new(KubernetesEngine::new(config, identity, reports.clone(), move || time.now()).unwrap());
        let (stage, image) = (Stage::Kubernetes, support::KUBERNETES_IMAGE);
        Some(Self::new(store, folder, options, Parts { stage, engine, image, reports, clock, hand: None }))
    }

    fn with_fake(store: Store, folder: TempDir, options: Options) -> Self {
        let (clock, hand) = Clock::manual("2026-01-01T00:00:00Z".parse().unwrap());
        let reports = Reports::default();
        let time = clock.clone();
        let fake = FakeEngine::new(move || time.now(), reports.clone());
        let engine = Arc::new(fake.clone());
        let parts = Parts { stage: Stage::Fake(fake), engine, image: "busybox:1", reports, clock, hand: Some(hand) };
        Self::new(store, folder, options, parts)
    }

    fn new(store: Store, folder: TempDir, options: Options, parts: Parts) -> Self {
        let Parts { stage, engine, image, reports, clock, hand } = parts;
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
                        identity: probed.known_identity(),
                        capacity: probed.capacity(),
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
        let global = Arc::new(Global {
            store: Arc::clone(&store),
            logs: Arc::clone(&logs),
            wake: wake.clone(),
            clock: clock.clone(),
            tenure: Lease::permanent().tenure(),
            log_retention: options.log_retention,
            retries: Retries::default(),
        });
        let control = Arc::new(Control {
            store: Arc::clone(&store),
            logs: Arc::clone(&logs),
            wake: wake.clone(),
            clock: clock.clone(),
            settings: Settings {
                grace: Duration::from_secs(10),
                starts: options.starts,
                log_cap_bytes: options.log_cap_bytes,
                log_patience: options.log_patience,
            },
            server_id: "this-node".to_owned(),
            tenure: Lease::permanent().tenure(),
            cluster: "default".to_owned(),
            engine,
            reports,
            retries: global.retries.clone(),
            max_running: options.max_running.into(),
            endpoint: None,
            state: State::default(),
        });
        let service = Service::new(Arc::clone(&store), logs, wake, clock, options.policy, clusters, Lease::permanent());
        let service = service.with_server_id(control.server_id.clone());
        let stop = CancellationToken::new();
        let app = App::new(service, options.limits, stop.clone());
        let router = router(app, options.origins);
        Self { stage, image, control, global, clock: hand, store, stop, router, _folder: folder }
    }

    /// Serves the world at an address of its own, for programs, until the test is over.
    #[allow(dead_code, reason = "tests/clients does")]
    pub async fn serve(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(axum::serve(listener, self.router.clone()).into_future());
        format!("http://{address}")
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
        self.dispatch().await;
        self.control.until_work_is_done().await;
        self.control.watch_all().await.unwrap();
        self.control.until_work_is_done().await;
    }

    /// Steps until the run is as expected, and gives it.
    pub async fn step_until(&self, run_id: &str, expected: impl Fn(&Value) -> bool) -> Value {
        self.stepping("the run becomes as expected", async || {
            Some(self.history(run_id).await).filter(|run| expected(run))
        })
        .await
    }

    /// Steps until the run has stopped and nothing of it is left to be done.
    pub async fn finish(&self, run_id: &str) -> Value {
        self.step_until(run_id, |run| run["status"] == "STOPPED").await;
        let id = run_id.parse().unwrap();
        self.stepping("what is left of the run is cleaned", async || {
            let active = self.store.active_attempts("default").await.unwrap();
            active.iter().all(|attempt| attempt.attempt_id.run_id != id).then_some(())
        })
        .await;
        self.history(run_id).await
    }

    /// Steps until the run has printed this and no more.
    pub async fn step_until_printed(&self, run_id: &str, expected: &str) {
        self.stepping("the run prints as expected", async || (self.log(run_id).await == expected).then_some(())).await;
    }

    /// Steps until there is what is looked for.
    pub async fn stepping<T>(&self, what: &str, look: impl AsyncFn() -> Option<T>) -> T {
        let stepping = async {
            loop {
                self.step().await;
                if let Some(found) = look().await {
                    return found;
                }
                // Output is pumped by tasks of its own, which poke when they are done.
                let _ = tokio::time::timeout(Duration::from_millis(5), self.control.reports.take()).await;
            }
        };
        let runs = async || self.get("/api/v1/history").await.ok();
        if let Ok(found) = tokio::time::timeout(LONGEST, stepping).await {
            return found;
        }
        panic!("waited in vain until {what}: {:#}", runs().await);
    }

    /// Queues again what is due, and starts what can be started.
    pub async fn dispatch(&self) {
        self.global.requeue_due().await.unwrap();
        self.control.dispatch().await.unwrap();
    }

    /// What the loops do once in a while: they end what nobody else does, and remove what no attempt accounts for.
    pub async fn sweep(&self) {
        self.global.end_stopped().await.unwrap();
        self.global.stop_orphans().await.unwrap();
        self.control.remove_strays().await.unwrap();
    }

    /// What a stop wakes.
    pub async fn watch_stops(&self) {
        self.global.end_stopped().await.unwrap();
        self.control.watch_stops().await.unwrap();
    }

    /// The loops of a server that was restarted: the same database, engine and identity, and nothing remembered.
    pub fn restart(&mut self) {
        let old = &self.global;
        self.global = Arc::new(Global {
            store: Arc::clone(&old.store),
            logs: Arc::clone(&old.logs),
            wake: old.wake.clone(),
            clock: old.clock.clone(),
            tenure: old.tenure.clone(),
            log_retention: old.log_retention,
            retries: Retries::default(),
        });
        let old = &self.control;
        self.control = Arc::new(Control {
            store: Arc::clone(&old.store),
            logs: Arc::clone(&old.logs),
            wake: old.wake.clone(),
            clock: old.clock.clone(),
            settings: old.settings.clone(),
            server_id: old.server_id.clone(),
            tenure: old.tenure.clone(),
            cluster: old.cluster.clone(),
            engine: Arc::clone(&old.engine),
            reports: old.reports.clone(),
            retries: self.global.retries.clone(),
            max_running: old.max_running.get().into(),
            endpoint: old.endpoint.clone(),
            state: State::default(),
        });
    }

    /// The whole log of a run, as it is now.
    pub async fn log(&self, run_id: &str) -> String {
        let answer = self.get(&format!("/api/v1/{run_id}/logs?raw_text=true")).await;
        String::from_utf8(answer.bytes).unwrap()
    }

    /// The reasons of a run's events, in their order; without what an engine adds, which is its own affair.
    pub async fn story(&self, run_id: &str) -> Vec<String> {
        let run = self.history(run_id).await;
        let events = run["pod_events"].as_array().unwrap().iter();
        let own = events.filter(|event| event["source_object"] == "flotilla");
        own.map(|event| text(&event["reason"])).collect()
    }

    /// Time goes by: at once where the test has the clock in its hand, else by itself.
    pub fn advance(&self, time: jiff::SignedDuration) {
        if let Some(hand) = &self.clock {
            hand.advance(time);
        }
    }

    /// Somebody sets the machine's clock. No time passes. Only the worlds with the fake engine have such a clock.
    pub fn set_clock(&self, by: jiff::SignedDuration) {
        self.clock.as_ref().expect("the clock is in the test's hand").set(self.control.clock.now() + by);
    }

    /// Time passes, and the server's own loop sees it pass.
    pub async fn pass(&self, time: jiff::SignedDuration) {
        let mut age = KeptTime::new(Arc::clone(&self.store), self.control.clock.clone());
        age.keep_time().await.unwrap();
        self.advance(time);
        age.keep_time().await.unwrap();
    }

    /// Sets the wall clock of the server alone: no time passes, and the engine's clock stays right.
    pub fn set_clock_to(&self, to: &str) {
        if let Some(hand) = &self.clock {
            hand.set(to.parse().unwrap());
        }
    }

    /// What the engine is told to do: only the fake one does what it is told.
    pub fn script(&self) -> &FakeEngine {
        match &self.stage {
            Stage::Fake(fake) => fake,
            Stage::Docker { .. } | Stage::Kubernetes => panic!("a real engine can't be scripted"),
        }
    }

    /// Lets a run whose command is at a [`WAIT`], or about to be, go on behind it.
    ///
    /// A command that goes on may end at once, and what its container still runs is killed with it: the signal too,
    /// which then tells of no success. That it came shows in the run's end.
    pub async fn go_on(&self, run_id: &str) {
        self.stepping("the command waits", async || {
            let has_gone_on = match &self.stage {
                Stage::Fake(fake) => fake.go_on(Self::attempt(run_id, 1)),
                // By this signal a shell says nothing about the end of what it waits for.
                Stage::Docker { host, .. } => {
                    docker(host, &["exec", &container(run_id), "killall", "-PIPE", "sleep"]).status.success()
                }
                // Not what the pod itself sleeps with, which is seen in it as well.
                Stage::Kubernetes => {
                    let kill = "kill -PIPE $(ps -o pid,args | awk '$2 == \"sleep\" && $3 == 1000 { print $1 }')";
                    kubectl(&["exec", &container(run_id), "--", "sh", "-c", kill]).status.success()
                }
            };
            (has_gone_on || self.history(run_id).await["status"] == "STOPPED").then_some(())
        })
        .await;
    }

    /// Takes a run's object away, behind the server's back.
    pub fn vanish(&self, run_id: &str) {
        match &self.stage {
            Stage::Fake(fake) => fake.vanish(Self::attempt(run_id, 1)),
            Stage::Docker { host, .. } => {
                let output = docker(host, &["rm", "--force", &container(run_id)]);
                assert!(output.status.success(), "{output:?}");
            }
            Stage::Kubernetes => {
                let pod = container(run_id);
                let unfinalized = r#"{"metadata":{"finalizers":null}}"#;
                for arguments in [
                    &["patch", "pod", &pod, "--type=merge", "-p", unfinalized][..],
                    &["delete", "pod", &pod, "--force", "--grace-period=0"],
                ] {
                    let output = kubectl(arguments);
                    assert!(output.status.success(), "{output:?}");
                }
            }
        }
    }

    /// Launches what the engine refuses for good, because of a user `ghost`, or an account of that name.
    pub async fn run_refused(&self) -> String {
        if let Stage::Fake(fake) = &self.stage {
            fake.refuse_launches(Some(("unable to find user ghost", StartFault::Task)));
        }
        // What is not a number is refused by Kubernetes clusters before it is launched.
        let (user, launch) = match &self.stage {
            Stage::Kubernetes => (Value::Null, json!({"service_account": "ghost"})),
            Stage::Fake(_) | Stage::Docker { .. } => (json!("ghost"), json!({})),
        };
        let body = json!({"group_name": "testing", "image": self.image, "command": "exit 0", "user": user});
        let definition_id = text(&self.post("/api/v1/task", body).await.ok()["definition_id"]);
        self.launch(&definition_id, launch).await
    }

    /// Whether the engine has nothing of ours.
    pub async fn is_engine_empty(&self) -> bool {
        self.control.engine.list_ours().await.unwrap().is_empty()
    }

    pub fn attempt(run_id: &str, attempt: u32) -> AttemptId {
        AttemptId { run_id: run_id.parse().unwrap(), attempt }
    }
}

impl Drop for World {
    /// What a test leaves running ends with it.
    fn drop(&mut self) {
        if matches!(self.stage, Stage::Kubernetes) {
            let engine = Arc::clone(&self.control.engine);
            // A thread of its own, for the test's runtime may be what runs this.
            let removal = std::thread::spawn(move || {
                tokio::runtime::Runtime::new().unwrap().block_on(async {
                    for handle in engine.list_ours().await.unwrap_or_default() {
                        if let Err(error) = engine.remove(&handle).await {
                            eprintln!("left behind: {error}");
                        }
                    }
                });
            });
            removal.join().unwrap();
        }
        if let Stage::Docker { host, installation_id } = &self.stage {
            let output = docker(
                host,
                &["ps", "--all", "--quiet", "--filter", &format!("label=flotilla.server={installation_id}")],
            );
            let ids = String::from_utf8(output.stdout).unwrap();
            let ids: Vec<_> = ids.split_whitespace().collect();
            if !ids.is_empty() {
                docker(host, &[vec!["rm", "--force", "--volumes"], ids].concat());
            }
        }
    }
}

async fn sqlite() -> (Store, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Store::open_sqlite(&folder.path().join("flotilla.db")).await.unwrap(), folder)
}

fn docker(host: &str, arguments: &[&str]) -> Output {
    Command::new("docker")
        .env_remove("DOCKER_CONTEXT")
        .args(["--host", host])
        .args(arguments)
        .output()
        .expect("docker is installed")
}

fn kubectl(arguments: &[&str]) -> Output {
    let kubeconfig = support::kubernetes_config().expect("the world was made with it");
    Command::new("kubectl").arg("--kubeconfig").arg(kubeconfig).args(arguments).output().expect("kubectl is installed")
}

fn container(run_id: &str) -> String {
    format!("flotilla-{}", World::attempt(run_id, 1))
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

/// One field of each item of a list.
pub fn each(list: &Value, field: &str) -> Vec<String> {
    list.as_array().unwrap().iter().map(|item| text(&item[field])).collect()
}
