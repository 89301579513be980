//! An engine on a cluster, as its own server, and how a test waits for what it does.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use flotilla::engine::kubernetes::{KubernetesEngine, KubernetesSettings};
use flotilla::engine::{Engine, EngineError, Handle, Identity, LaunchSpec, Output, Reports};
use flotilla::model::{
    AttemptId, Ended, Event, Execution, LogPosition, Observation, RunId, StartFault, Started, TaskSpec,
};
use futures_util::StreamExt;
use jiff::Timestamp;
use tokio::sync::{RwLock, RwLockReadGuard};
use tokio::time::{Instant, timeout};

use crate::support::{kubernetes_config, origin, skip};

pub use crate::support::KUBERNETES_IMAGE as IMAGE;

/// Nothing in these tests takes so long, unless it is broken.
pub const LONGEST: Duration = Duration::from_mins(2);
pub const GRACE: Duration = Duration::from_secs(10);
const LOOK_ANYWAY: Duration = Duration::from_millis(100);

/// Held for writing by the tests that take a part of the cluster away.
pub static CLUSTER: RwLock<()> = RwLock::const_new(());

pub struct World {
    pub engine: Option<KubernetesEngine>,
    pub reports: Reports,
    pub config: KubernetesSettings,
    pub identity: Identity,
    /// The cluster stays whole as long as this lives; `None` for the one who takes it apart.
    _whole: Option<RwLockReadGuard<'static, ()>>,
}

/// A server of its own on the shared cluster.
pub async fn world() -> Option<World> {
    let whole = CLUSTER.read().await;
    world_with(|_| {}, Some(whole))
}

pub async fn world_where(change: impl FnOnce(&mut KubernetesSettings)) -> Option<World> {
    let whole = CLUSTER.read().await;
    world_with(change, Some(whole))
}

pub fn world_with(
    change: impl FnOnce(&mut KubernetesSettings),
    whole: Option<RwLockReadGuard<'static, ()>>,
) -> Option<World> {
    let mut config = KubernetesSettings {
        kubeconfig: Some(kubernetes_config()?),
        context: Some("flotilla".into()),
        ..KubernetesSettings::default()
    };
    change(&mut config);
    let identity = Identity { installation_id: RunId::generate().to_string(), cluster: "test".to_owned() };
    let mut world = World { engine: None, reports: Reports::default(), config, identity, _whole: whole };
    world.restart();
    Some(world)
}

impl World {
    /// What a server that was killed and started again has: the same words, and no memory.
    pub fn restart(&mut self) {
        self.engine = None;
        self.reports = Reports::default();
        let (config, identity) = (self.config.clone(), self.identity.clone());
        self.engine = Some(KubernetesEngine::new(config, identity, self.reports.clone(), Timestamp::now).unwrap());
    }

    pub fn engine(&self) -> &dyn Engine {
        self.engine.as_ref().unwrap()
    }

    #[allow(clippy::unused_self, reason = "reads as what this world launches")]
    pub fn task(&self, command: &str, change: impl FnOnce(&mut TaskSpec)) -> LaunchSpec {
        let mut task = TaskSpec { image: IMAGE.into(), command: command.into(), ..TaskSpec::default() };
        change(&mut task);
        LaunchSpec {
            attempt_id: AttemptId { run_id: RunId::generate(), attempt: 1 },
            origin: origin(),
            task,
            execution: Execution { user: "ada@example.org".into(), ..Execution::default() },
            log_path: "unused".into(),
            log_cap_bytes: 200 << 20,
            grace: GRACE,
            longest_start: None,
        }
    }

    pub async fn launch(&self, command: &str) -> Handle {
        self.engine().launch(&self.task(command, |_| {})).await.unwrap()
    }

    pub async fn observe(&self, handle: &Handle) -> Result<Observation, EngineError> {
        self.engine().observe(std::slice::from_ref(handle)).await.map(|mut seen| seen.remove(0))
    }

    /// Looks until it sees what is waited for; a cluster that is away is waited for as well.
    pub async fn until(&self, handle: &Handle, what: &str, is_it: impl Fn(&Observation) -> bool) -> Observation {
        let deadline = Instant::now() + LONGEST;
        loop {
            let seen = self.observe(handle).await;
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

    pub async fn never_ran(&self, handle: &Handle) -> (String, StartFault) {
        match self.over(handle).await {
            Observation::NeverRan { reason, fault } => (reason, fault),
            other => panic!("it should never have run: {other:?}"),
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
}

impl Drop for World {
    fn drop(&mut self) {
        let Some(engine) = self.engine.take() else { return };
        // A thread of its own, for the test's runtime may be what runs this.
        let removal = std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async {
                for handle in engine.list_ours().await.unwrap_or_default() {
                    let _ = engine.remove(&handle).await;
                }
            });
        });
        let _ = removal.join();
    }
}

pub fn object(handle: &Handle) -> String {
    format!("flotilla-{}", handle.attempt_id)
}

/// Another client of the same cluster.
pub fn kubectl(arguments: &[&str]) -> String {
    let output =
        Command::new("kubectl").arg("--kubeconfig").arg(kubernetes_config().unwrap()).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "kubectl {arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// A part of the cluster, where `scripts/kube` has started that: with its pid in a file.
pub struct Part {
    name: &'static str,
    folder: PathBuf,
    pid: i32,
}

impl Part {
    /// `None`, and said so, where nobody here could start it again.
    pub fn of(name: &'static str) -> Option<Self> {
        let folder = std::env::var_os("FLOTILLA_KUBE_DIR").map(PathBuf::from);
        let folder = folder.or_else(|| Some(kubernetes_config()?.parent()?.to_owned()))?;
        let Ok(text) = std::fs::read_to_string(folder.join("run").join(format!("{name}.pid"))) else {
            skip("kubernetes restarts", "the cluster was not started by scripts/kube");
            return None;
        };
        Some(Self { name, folder, pid: text.split_whitespace().next().unwrap().parse().unwrap() })
    }

    pub fn kill(&self) {
        let pid = nix::unistd::Pid::from_raw(self.pid);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        while std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).is_ok_and(|stat| !stat.contains(") Z ")) {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Brings it back with the cluster's state.
    pub fn start(&self) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/kube");
        let output = Command::new(script).arg("up").env("FLOTILLA_KUBE_DIR", &self.folder).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{} can't be started again: {said}", self.name);
    }
}

/// A pod template in a file, as the settings name it.
pub fn template_file(template: &serde_json::Value) -> std::path::PathBuf {
    let (mut file, path) = tempfile::NamedTempFile::new().unwrap().keep().unwrap();
    std::io::Write::write_all(&mut file, template.to_string().as_bytes()).unwrap();
    path
}
