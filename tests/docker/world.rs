//! An engine on a daemon, as its own server, and how a test waits for what it does.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use flotilla::engine::docker::{DockerEngine, DockerSettings, Identity};
use flotilla::engine::{Engine, EngineError, Handle, LaunchSpec, Output, Reports};
use flotilla::model::{AttemptId, Ended, Event, Execution, LogPosition, Observation, RunId, Started, TaskSpec};
use futures_util::{FutureExt, StreamExt};
use jiff::Timestamp;
use tokio::time::{Instant, timeout};

use crate::support::origin;

pub use crate::support::DOCKER_IMAGE as IMAGE;
pub use crate::support::docker_address as shared_host;

/// Nothing in these tests takes so long, unless it is broken.
pub const LONGEST: Duration = Duration::from_mins(1);
pub const GRACE: Duration = Duration::from_secs(10);
const LOOK_ANYWAY: Duration = Duration::from_millis(100);

pub struct World {
    pub engine: Option<DockerEngine>,
    pub reports: Reports,
    pub host: String,
    pub config: DockerSettings,
    pub identity: Identity,
}

/// A server of its own on the shared daemon.
pub fn world() -> Option<World> {
    shared_host().map(|host| World::new(&host, config(&host)))
}

pub fn config(host: &str) -> DockerSettings {
    // Containers of these tests need no network, and the daemons of some have none to give.
    DockerSettings { host: Some(host.to_owned()), network_mode: Some("none".to_owned()), ..DockerSettings::default() }
}

impl World {
    pub fn new(host: &str, config: DockerSettings) -> Self {
        let identity = Identity { installation_id: RunId::generate().to_string(), cluster: "test".to_owned() };
        let mut world = Self { engine: None, reports: Reports::default(), host: host.to_owned(), config, identity };
        world.restart();
        world
    }

    /// What a server that was killed and started again has: the same words, and no memory.
    pub fn restart(&mut self) {
        self.engine = None;
        self.reports = Reports::default();
        let (config, identity) = (self.config.clone(), self.identity.clone());
        self.engine = Some(DockerEngine::new(config, identity, self.reports.clone(), Timestamp::now));
    }

    pub fn engine(&self) -> &dyn Engine {
        self.engine.as_ref().unwrap()
    }

    #[allow(clippy::unused_self, reason = "reads as what this world launches")]
    pub fn spec(&self, command: &str) -> LaunchSpec {
        let task = TaskSpec { image: IMAGE.into(), command: command.into(), ..TaskSpec::default() };
        LaunchSpec {
            attempt_id: AttemptId { run_id: RunId::generate(), attempt: 1 },
            origin: origin(),
            task,
            execution: Execution { user: "ada".into(), ..Execution::default() },
            log_path: "unused".into(),
            log_cap_bytes: 200 << 20,
            grace: GRACE,
            longest_start: None,
        }
    }

    pub fn task(&self, command: &str, change: impl FnOnce(&mut TaskSpec)) -> LaunchSpec {
        let mut spec = self.spec(command);
        change(&mut spec.task);
        spec
    }

    pub async fn launch(&self, command: &str) -> Handle {
        self.engine().launch(&self.spec(command)).await.unwrap()
    }

    pub async fn try_observe(&self, handle: &Handle) -> Result<Observation, EngineError> {
        self.engine().observe(std::slice::from_ref(handle)).await.map(|mut seen| seen.remove(0))
    }

    /// Looks until it sees what is waited for; a daemon that is away is waited for as well.
    pub async fn until(&self, handle: &Handle, what: &str, is_it: impl Fn(&Observation) -> bool) -> Observation {
        let deadline = Instant::now() + LONGEST;
        loop {
            let seen = self.try_observe(handle).await;
            match seen {
                Ok(observation) if is_it(&observation) => return observation,
                seen => assert!(Instant::now() < deadline, "waited in vain until it is {what}, saw last {seen:?}"),
            }
            let _ = timeout(LOOK_ANYWAY, self.reports.take()).await;
        }
    }

    pub async fn running(&self, handle: &Handle) -> Started {
        match self.until(handle, "running", |seen| !matches!(seen, Observation::Starting)).await {
            Observation::Running(started) => started,
            other => panic!("it should run: {other:?}"),
        }
    }

    /// What it came to, whatever that is.
    pub async fn over(&self, handle: &Handle) -> Observation {
        self.until(handle, "over", |seen| !matches!(seen, Observation::Starting | Observation::Running(_))).await
    }

    pub async fn ended(&self, handle: &Handle) -> Ended {
        match self.over(handle).await {
            Observation::Ended(ended) => ended,
            other => panic!("it should have ended: {other:?}"),
        }
    }

    pub async fn run(&self, spec: &LaunchSpec) -> (Ended, String) {
        let handle = self.engine().launch(spec).await.unwrap();
        let ended = self.ended(&handle).await;
        (ended, String::from_utf8(self.output(&handle).await).unwrap())
    }

    /// All of the output.
    pub async fn output(&self, handle: &Handle) -> Vec<u8> {
        let (mut bytes, mut position) = (Vec::new(), LogPosition::default());
        self.pump(handle, &mut bytes, &mut position, usize::MAX).await.unwrap();
        bytes
    }

    /// Stores output as the control loop does, until it is complete or `limit` bytes came.
    pub async fn pump(
        &self,
        handle: &Handle,
        log: &mut Vec<u8>,
        position: &mut LogPosition,
        limit: usize,
    ) -> Result<(), EngineError> {
        log.truncate(usize::try_from(position.bytes).unwrap());
        let Output::Stream(mut chunks) = self.engine().output(handle, position).await? else {
            panic!("the output is a stream")
        };
        while let Some(chunk) = timeout(LONGEST, chunks.next()).await.expect("output goes on") {
            let chunk = chunk?;
            log.extend_from_slice(&chunk.bytes);
            position.bytes = log.len() as u64;
            position.marker = chunk.marker;
            if log.len() >= limit {
                break;
            }
        }
        Ok(())
    }

    /// What was poked about until now.
    pub fn pokes_now(&self) -> BTreeSet<AttemptId> {
        self.reports.take().now_or_never().unwrap_or_default()
    }

    /// Notes until one with this reason.
    pub async fn notes_until(&self, reason: &str) -> Vec<Event> {
        let (deadline, mut notes) = (Instant::now() + LONGEST, Vec::new());
        while !notes.iter().any(|note: &Event| note.reason == reason) {
            assert!(Instant::now() < deadline, "waited in vain for {reason}, have {notes:?}");
            notes.extend(self.reports.take_notes().into_iter().map(|(_, event)| event));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        notes
    }

    /// Another client of the same daemon.
    pub fn docker(&self, arguments: &[&str]) -> String {
        docker(&self.host, arguments)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.engine = None;
        if self.host.contains("fltfake") {
            return;
        }
        let filter = format!("label=flotilla.server={}", self.identity.installation_id);
        let output = command(&self.host, &["ps", "-aq", "--filter", &filter]).output().unwrap();
        for id in String::from_utf8_lossy(&output.stdout).split_whitespace() {
            let _ = command(&self.host, &["rm", "-fv", id]).output();
        }
    }
}

pub fn container(handle: &Handle) -> String {
    format!("flotilla-{}", handle.attempt_id)
}

fn command(host: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("docker");
    command.env_remove("DOCKER_CONTEXT").args(["--host", host]).args(arguments);
    command
}

pub fn docker(host: &str, arguments: &[&str]) -> String {
    let output = command(host, arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "docker {arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Waits for what is not an observation.
pub async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + LONGEST;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Shares the world's daemon with a second server.
pub fn neighbour(world: &World) -> Arc<World> {
    Arc::new(World::new(&world.host, world.config.clone()))
}
