//! The loops of one cluster.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::Control;
use crate::control::LoopRegistry;
use crate::control::loops::{Loop, Starter};
use crate::model::AttemptId;
use crate::store::StoreError;

/// How often claiming is retried, since a returning engine does not announce itself.
const AWAY_PERIOD: Duration = Duration::from_secs(2);

/// Runs the loops of one cluster until `stop`. A step that has begun is finished.
pub fn run_loops(control: &Arc<Control>, registry: &LoopRegistry, stop: &CancellationToken, tasks: &mut JoinSet<()>) {
    let mut starter = Starter { cluster: Some(&control.cluster), registry, tenure: &control.tenure, stop, tasks };
    starter.start(Dispatch { queue: control.wake.on_queue(), control: Arc::clone(control) });
    starter.start(Watch::new(control));
    starter.start(Strays(Arc::clone(control)));
    starter.start(QueueDepths(Arc::clone(control)));
}

/// Claims and launches queued runs.
struct Dispatch {
    control: Arc<Control>,
    queue: watch::Receiver<()>,
}

impl Loop for Dispatch {
    const NAME: &'static str = "dispatch";
    const PERIOD: Duration = Duration::from_secs(10);

    async fn step(&mut self) -> Result<(), StoreError> {
        self.queue.mark_unchanged();
        self.control.dispatch().await
    }

    async fn is_due(&mut self) {
        // While the engine is away nothing is claimed, and it does not announce its return.
        let period = if self.control.engine.known_identity().is_some() { Self::PERIOD } else { AWAY_PERIOD };
        tokio::select! {
            // An error would mean that the sender is gone, but `control` holds it.
            Ok(()) = self.queue.changed() => {}
            () = tokio::time::sleep(period) => {}
        }
    }
}

/// Observes attempts: all of them periodically, and those named by a report or a stop immediately.
struct Watch {
    control: Arc<Control>,
    stops: watch::Receiver<()>,
    /// When all attempts are observed again.
    all_due: Instant,
    cause: Cause,
}

#[derive(Default)]
enum Cause {
    #[default]
    Time,
    Stops,
    Reports(BTreeSet<AttemptId>),
}

impl Watch {
    fn new(control: &Arc<Control>) -> Self {
        let (control, stops) = (Arc::clone(control), control.wake.on_stops());
        Self { control, stops, all_due: Instant::now(), cause: Cause::Time }
    }

    async fn look(&mut self) -> Result<Option<SignedDuration>, StoreError> {
        match std::mem::take(&mut self.cause) {
            Cause::Time => self.control.watch_all().await,
            Cause::Stops => self.control.watch_stops().await,
            Cause::Reports(attempt_ids) => self.control.watch_some(attempt_ids).await,
        }
    }
}

impl Loop for Watch {
    const NAME: &'static str = "watch";
    const PERIOD: Duration = Duration::from_secs(5);

    async fn step(&mut self) -> Result<(), StoreError> {
        let next = match self.cause {
            Cause::Time => Instant::now() + Self::PERIOD,
            Cause::Stops | Cause::Reports(_) => self.all_due,
        };
        // A step that fails or is cut off may not have reached the attempts it was asked to observe. The next one observes
        // them all, for the cause has been taken.
        let left = self.look().await?.map(|left| Instant::now() + Duration::try_from(left).unwrap_or(Duration::ZERO));
        self.all_due = left.into_iter().chain([next]).min().unwrap_or(next);
        Ok(())
    }

    async fn is_due(&mut self) {
        self.cause = tokio::select! {
            biased;
            () = sleep_until(self.all_due) => Cause::Time,
            Ok(()) = self.stops.changed() => Cause::Stops,
            attempt_ids = self.control.reports.take() => Cause::Reports(attempt_ids),
        };
    }
}

/// Removes objects that belong to no attempt.
struct Strays(Arc<Control>);

impl Loop for Strays {
    const NAME: &'static str = "strays";
    const PERIOD: Duration = Duration::from_secs(30);

    async fn step(&mut self) -> Result<(), StoreError> {
        self.0.remove_strays().await
    }
}

/// Records how many runs wait.
struct QueueDepths(Arc<Control>);

impl Loop for QueueDepths {
    const NAME: &'static str = "queue_depth";
    const PERIOD: Duration = Duration::from_secs(10);

    async fn step(&mut self) -> Result<(), StoreError> {
        self.0.note_queue_depth().await
    }
}
