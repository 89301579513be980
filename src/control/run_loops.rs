//! What makes the steps happen again and again: wake-ups, pokes and timers.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{Control, LoopRegistry, RegisteredLoop, StepError};
use crate::store::StoreError;

/// How often a loop looks although nothing woke it.
const DISPATCH_PERIOD: Duration = Duration::from_secs(10);
const AWAY_PERIOD: Duration = Duration::from_secs(2);
const WATCH_PERIOD: Duration = Duration::from_secs(5);
const SWEEP_PERIOD: Duration = Duration::from_secs(30);
const QUEUE_DEPTH_PERIOD: Duration = Duration::from_secs(10);
const PRUNE_PERIOD: Duration = Duration::from_hours(1);
/// How long one step may take before it is cut off, which is like a crash in its midst. The slowest looks at thousands of
/// attempts.
const STEP_PATIENCE: Duration = Duration::from_mins(2);
/// How soon a step is tried again that the database did not let through.
const PAUSE_AFTER_ERROR: Duration = Duration::from_secs(1);
/// How soon a loop looks whether the server may decide again.
const PAUSE_WITHOUT_LEASE: Duration = Duration::from_millis(500);

/// Runs the loops of one cluster until `stop`. A step that has begun is finished.
pub fn run_loops(control: &Arc<Control>, registry: &LoopRegistry, stop: &CancellationToken, tasks: &mut JoinSet<()>) {
    let registered = |name, patience| registry.register(name, Some(&control.cluster), patience);
    let periodic = |name, period| Periodic {
        period,
        name,
        registered: registered(name, STEP_PATIENCE),
        stop: stop.clone(),
        control: Arc::clone(control),
    };
    tasks.spawn(dispatch(Arc::clone(control), registered("dispatch", STEP_PATIENCE), stop.clone()));
    tasks.spawn(watch(Arc::clone(control), registered("watch", STEP_PATIENCE), stop.clone()));
    tasks.spawn(periodic("sweep", SWEEP_PERIOD).run(|control| async move { control.sweep().await }));
    tasks.spawn(
        periodic("queue_depth", QUEUE_DEPTH_PERIOD).run(|control| async move { control.note_queue_depth().await }),
    );
    tasks.spawn(periodic("prune", PRUNE_PERIOD).run(|control| async move { control.prune_logs().await.map(|_| ()) }));
}

async fn dispatch(control: Arc<Control>, registered: RegisteredLoop, stop: CancellationToken) {
    let mut queue = control.wake.on_queue();
    loop {
        queue.mark_unchanged();
        if !control.tenure.is_held() {
            if is_stopped_within(PAUSE_WITHOUT_LEASE, &stop).await {
                return;
            }
            continue;
        }
        let pause = match registered.step(control.dispatch()).await {
            Ok(()) => control.until_next_retry().unwrap_or(DISPATCH_PERIOD).min(dispatch_period(&control)),
            Err(error) => pause_after(&control, "dispatch", &error),
        };
        tokio::select! {
            () = stop.cancelled() => return,
            Ok(()) = queue.changed() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn watch(control: Arc<Control>, registered: RegisteredLoop, stop: CancellationToken) {
    let mut stops = control.wake.on_stops();
    let mut look_at_all = Instant::now();
    loop {
        if !control.tenure.is_held() {
            if is_stopped_within(PAUSE_WITHOUT_LEASE, &stop).await {
                return;
            }
            continue;
        }
        let result = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = sleep_until(look_at_all) => {
                look_at_all = Instant::now() + WATCH_PERIOD;
                registered.step(control.watch_all()).await
            }
            Ok(()) = stops.changed() => registered.step(control.watch_stops()).await,
            poked = control.pokes.take() => registered.step(control.watch_some(poked)).await,
        };
        match result {
            Ok(Some(left)) => {
                let left = Duration::try_from(left).unwrap_or(Duration::ZERO).min(WATCH_PERIOD);
                look_at_all = look_at_all.min(Instant::now() + left);
            }
            Ok(None) => {}
            Err(error) => look_at_all = Instant::now() + pause_after(&control, "watch", &error),
        }
    }
}

/// A loop whose steps only time asks for.
struct Periodic {
    period: Duration,
    name: &'static str,
    registered: RegisteredLoop,
    stop: CancellationToken,
    control: Arc<Control>,
}

impl Periodic {
    async fn run<F: Future<Output = Result<(), StoreError>> + Send>(self, step: impl Fn(Arc<Control>) -> F + Send) {
        loop {
            let mut pause = self.period;
            if !self.control.tenure.is_held() {
                pause = PAUSE_WITHOUT_LEASE;
            } else if let Err(error) = self.registered.step(step(Arc::clone(&self.control))).await {
                pause_after(&self.control, self.name, &error);
            }
            if is_stopped_within(pause, &self.stop).await {
                return;
            }
        }
    }
}

/// While the engine is away nothing is claimed, and nobody tells when it is back.
fn dispatch_period(control: &Control) -> Duration {
    if control.engine.known_identity().is_some() { DISPATCH_PERIOD } else { AWAY_PERIOD }
}

async fn is_stopped_within(time: Duration, stop: &CancellationToken) -> bool {
    stop.run_until_cancelled(tokio::time::sleep(time)).await.is_none()
}

fn pause_after(control: &Control, step: &str, error: &StepError) -> Duration {
    tracing::warn!(
        cluster = control.cluster,
        step,
        error = error as &dyn std::error::Error,
        "a step failed and is repeated"
    );
    PAUSE_AFTER_ERROR
}
