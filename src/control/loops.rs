//! What repeats the steps of a loop: its period, whatever makes it due sooner, and the next try after an error.

use std::future::{Future, pending};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{LoopRegistry, StepError};
use crate::lease::Tenure;
use crate::store::StoreError;

/// How soon a step is repeated that failed.
const PAUSE_AFTER_ERROR: Duration = Duration::from_secs(1);
/// How soon a loop asks again whether the server may decide.
const PAUSE_WITHOUT_LEASE: Duration = Duration::from_millis(500);

/// One loop: a step that is safe to repeat, and when it is repeated.
pub(super) trait Loop: Send + 'static {
    /// As operators see it.
    const NAME: &'static str;
    /// The longest pause between two steps.
    const PERIOD: Duration;
    /// How long one step may take before it is cut off, which is like a crash in its midst. The slowest looks at thousands
    /// of attempts.
    const PATIENCE: Duration = Duration::from_mins(2);
    /// Whether its steps decide about runs, which only the server with the lease may do.
    const NEEDS_LEASE: bool = true;

    fn step(&mut self) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Resolves when a step is due before the period is over. It may be dropped and asked again.
    fn is_due(&mut self) -> impl Future<Output = ()> + Send {
        pending()
    }
}

/// Repeats the steps until `stop`. One that has begun is finished.
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
        let pause = match registered.step(work.step()).await {
            Ok(()) => L::PERIOD,
            Err(error) => {
                warn(cluster.as_deref(), L::NAME, &error);
                PAUSE_AFTER_ERROR.min(L::PERIOD)
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
            () = work.is_due() => {}
        }
    }
}

fn warn(cluster: Option<&str>, step: &str, error: &StepError) {
    tracing::warn!(cluster, step, error = error as &dyn std::error::Error, "a step failed and is repeated");
}
