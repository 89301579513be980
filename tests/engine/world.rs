//! An engine to be tested, and how a test waits for what it does: by its pokes, with a deadline.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use flotilla::engine::{Engine, Handle, LaunchSpec, Output, Reports};
use flotilla::model::{AttemptId, Ended, Execution, LogPosition, Observation, RunId, Started, TaskSpec};
use futures_util::StreamExt;
use tempfile::TempDir;
use tokio::time::{Instant, timeout};

use crate::support::origin;

/// Nothing in these tests takes so long, unless it is broken.
pub const LONGEST: Duration = Duration::from_mins(2);
/// How long a poke is waited for before one looks anyway: the fake's steps come without pokes.
const LOOK_ANYWAY: Duration = Duration::from_millis(50);
pub const GRACE: Duration = Duration::from_secs(10);

pub struct World {
    pub engine: Arc<dyn Engine>,
    pub reports: Reports,
    pub folder: TempDir,
    /// An image with a shell, where the engine has images.
    pub image: &'static str,
    /// Whether the engine knows what a run used that was over before anyone could look.
    pub measures_short_runs: bool,
    /// How long a stopped command may take to be seen ended.
    pub poke_patience: Duration,
}

impl World {
    pub fn new(engine: Arc<dyn Engine>, reports: Reports, folder: TempDir) -> Self {
        Self {
            engine,
            reports,
            folder,
            image: "busybox:1",
            measures_short_runs: true,
            poke_patience: Duration::from_secs(2),
        }
    }

    pub fn spec(&self, command: &str) -> LaunchSpec {
        let attempt_id = AttemptId { run_id: RunId::generate(), attempt: 1 };
        LaunchSpec {
            attempt_id,
            origin: origin(),
            task: TaskSpec { image: self.image.into(), command: command.into(), ..TaskSpec::default() },
            execution: Execution::default(),
            log_path: self.folder.path().join("logs").join(attempt_id.to_string()),
            log_cap_bytes: 100 << 20,
            grace: GRACE,
            longest_start: None,
        }
    }

    pub async fn launch(&self, command: &str) -> (LaunchSpec, Handle) {
        let spec = self.spec(command);
        let handle = self.engine.launch(&spec).await.unwrap();
        (spec, handle)
    }

    /// Runs a changed spec to its end.
    pub async fn run_spec(&self, spec: &LaunchSpec) -> (Ended, String) {
        let handle = self.engine.launch(spec).await.unwrap();
        self.finish(spec, &handle).await
    }

    pub async fn observe(&self, handle: &Handle) -> Observation {
        self.engine.observe(std::slice::from_ref(handle)).await.unwrap().remove(0)
    }

    /// Looks until it sees what is waited for.
    pub async fn until(&self, handle: &Handle, what: &str, is_it: impl Fn(&Observation) -> bool) -> Observation {
        let deadline = Instant::now() + LONGEST;
        loop {
            let observation = self.observe(handle).await;
            if is_it(&observation) {
                return observation;
            }
            assert!(Instant::now() < deadline, "waited in vain until it is {what}, saw last {observation:?}");
            let _ = timeout(LOOK_ANYWAY, self.reports.take()).await;
        }
    }

    pub async fn running(&self, handle: &Handle) -> Started {
        match self.until(handle, "running", |seen| !matches!(seen, Observation::Starting)).await {
            Observation::Running(started) => started,
            other => panic!("it should run: {other:?}"),
        }
    }

    pub async fn ended(&self, handle: &Handle) -> Ended {
        let is_over = |seen: &Observation| !matches!(seen, Observation::Starting | Observation::Running(_));
        match self.until(handle, "ended", is_over).await {
            Observation::Ended(ended) => ended,
            other => panic!("it should have ended: {other:?}"),
        }
    }

    /// Runs a command to its end; returns that and the output.
    pub async fn run(&self, command: &str) -> (Ended, String) {
        let (spec, handle) = self.launch(command).await;
        self.finish(&spec, &handle).await
    }

    pub async fn finish(&self, spec: &LaunchSpec, handle: &Handle) -> (Ended, String) {
        let ended = self.ended(handle).await;
        let output = String::from_utf8_lossy(&self.output(spec, handle, 0).await).into_owned();
        (ended, output)
    }

    /// A command that runs may not have come to its first word yet.
    pub async fn until_printed(&self, spec: &LaunchSpec, handle: &Handle, text: &str) {
        let printed = async {
            match self.engine.output(handle, &LogPosition::default()).await.unwrap() {
                Output::InPlace => {
                    let is_there = || std::fs::read_to_string(&spec.log_path).is_ok_and(|log| log.contains(text));
                    eventually(&format!("{text:?} is printed"), is_there).await;
                }
                Output::Stream(mut chunks) => {
                    let mut log = Vec::new();
                    while !String::from_utf8_lossy(&log).contains(text) {
                        log.extend(chunks.next().await.expect("the command goes on").unwrap().bytes);
                    }
                }
            }
        };
        timeout(LONGEST, printed).await.unwrap();
    }

    pub async fn output(&self, spec: &LaunchSpec, handle: &Handle, from: u64) -> Vec<u8> {
        match self.engine.output(handle, &LogPosition { bytes: from, marker: None }).await.unwrap() {
            Output::InPlace => std::fs::read(&spec.log_path).unwrap()[usize::try_from(from).unwrap()..].to_vec(),
            Output::Stream(chunks) => {
                let chunks: Vec<_> = timeout(LONGEST, chunks.collect()).await.unwrap();
                chunks.into_iter().flat_map(|chunk| chunk.unwrap().bytes.to_vec()).collect()
            }
        }
    }
}

/// Ends and removes what a test left with its engine.
pub fn remove_everything(engine: &Arc<dyn Engine>) {
    let engine = Arc::clone(engine);
    // A thread of its own, for the test's runtime may be what runs this.
    let removal = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            for handle in engine.list_ours().await.unwrap_or_default() {
                if let Err(error) = engine.remove(&handle).await {
                    eprintln!("left behind: {error}");
                }
            }
        });
    });
    removal.join().unwrap();
}

/// Waits for what is not an observation.
pub async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + LONGEST;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits for a file that a task writes in one piece, and reads it.
pub async fn written(path: &Path) -> String {
    let path = PathBuf::from(path);
    eventually(&format!("{} is written", path.display()), || {
        std::fs::read_to_string(&path).is_ok_and(|text| text.ends_with('\n'))
    })
    .await;
    std::fs::read_to_string(path).unwrap()
}
