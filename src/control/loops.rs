//! Repeats a loop's steps: by its period, by whatever makes a step due sooner, and by a retry after an error.

use std::future::{Future, pending};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{LoopRegistry, StepError};
use crate::lease::Tenure;
use crate::store::StoreError;

/// Pause before a failed step is repeated.
const PAUSE_AFTER_ERROR: Duration = Duration::from_secs(1);
/// How often a loop without the lease checks whether the server may decide.
const PAUSE_WITHOUT_LEASE: Duration = Duration::from_millis(500);

/// One loop: a step that is safe to repeat, and when to repeat it.
pub(super) trait Loop: Send + 'static {
    /// The name that operators see.
    const NAME: &'static str;
    /// The longest pause between two steps.
    const PERIOD: Duration;
    /// How long one step may take before it is cut off, which is like a crash in the middle of it. The slowest step
    /// checks thousands of attempts.
    const PATIENCE: Duration = Duration::from_mins(2);
    /// Whether its steps make decisions about runs, which only the server holding the lease may do.
    const NEEDS_LEASE: bool = true;

    fn step(&mut self) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Resolves when a step is due before the period is over. The future may be dropped and requested again.
    fn is_due(&mut self) -> impl Future<Output = ()> + Send {
        pending()
    }
}

/// Repeats the steps until `stop`. A step that has begun is finished.
pub(super) async fn run<L: Loop>(
    mut work: L,
    cluster: Option<String>,
    registry: LoopRegistry,
    tenure: Tenure,
    stop: CancellationToken,
) {
    let registered = registry.register(L::NAME, cluster.as_deref(), L::PATIENCE);
    loop {
        if L::NEEDS_LEASE && !tenure.is_held() {
            if stop.run_until_cancelled(tokio::time::sleep(PAUSE_WITHOUT_LEASE)).await.is_none() {
                return;
            }
            continue;
        }
        if let Err(error) = registered.step(work.step()).await {
            warn(cluster.as_deref(), L::NAME, &error);
            // Whatever is due meanwhile would most likely fail, too.
            if stop.run_until_cancelled(tokio::time::sleep(PAUSE_AFTER_ERROR)).await.is_none() {
                return;
            }
            continue;
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(L::PERIOD) => {}
            () = work.is_due() => {}
        }
    }
}

/// Starts loops, each in a task of its own.
pub(super) struct Starter<'a> {
    /// The cluster that the loops work for; `None` for the whole database.
    pub cluster: Option<&'a str>,
    pub registry: &'a LoopRegistry,
    pub tenure: &'a Tenure,
    pub stop: &'a CancellationToken,
    pub tasks: &'a mut JoinSet<()>,
}

impl Starter<'_> {
    pub fn start<L: Loop>(&mut self, work: L) {
        let cluster = self.cluster.map(str::to_owned);
        self.tasks.spawn(run(work, cluster, self.registry.clone(), self.tenure.clone(), self.stop.clone()));
    }
}

fn warn(cluster: Option<&str>, step: &str, error: &StepError) {
    tracing::warn!(cluster, step, error = error as &dyn std::error::Error, "a step failed and is repeated");
}
