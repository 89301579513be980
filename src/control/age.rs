//! Age: keeps the time by which logs and idempotence keys expire. One loop for the whole server.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::LoopRegistry;
use crate::clock::Clock;
use crate::model::suspicious_difference;
use crate::store::{Store, StoreError};

const PERIOD: Duration = Duration::from_mins(10);
const STEP_PATIENCE: Duration = Duration::from_mins(1);

/// The kept time and the process's own part in it.
pub struct Age {
    store: Arc<Store>,
    clock: Clock,
    /// How much time had passed when it was last stored.
    passed_before: Duration,
    has_warned: bool,
}

impl Age {
    #[must_use]
    pub fn new(store: Arc<Store>, clock: Clock) -> Self {
        let passed_before = clock.elapsed().unsigned_abs();
        Self { store, clock, passed_before, has_warned: false }
    }

    /// Stores how far time has come.
    pub async fn keep_time(&mut self) -> Result<(), StoreError> {
        let passed = self.clock.elapsed().unsigned_abs();
        let (kept, clock) = self.store.keep_time(self.clock.now(), passed.saturating_sub(self.passed_before)).await?;
        self.passed_before = passed;
        let difference = suspicious_difference(kept, clock);
        if let Some(difference) = difference
            && !self.has_warned
        {
            let days = difference.as_hours() / 24;
            tracing::warn!(
                days, %kept, %clock,
                "the clock is not where time has come to by what the server has seen pass: it was off for long, or the clock \
                 is or was wrong; old logs are removed by the earlier of both, which catches up within days"
            );
        }
        self.has_warned = difference.is_some();
        Ok(())
    }

    /// Keeps time until `stop`.
    pub async fn run(mut self, registry: LoopRegistry, stop: CancellationToken) {
        let registered = registry.register("age", None, STEP_PATIENCE);
        loop {
            if let Err(error) = registered.step(self.keep_time()).await {
                tracing::warn!(step = "age", error = &error as &dyn std::error::Error, "a step failed and is repeated");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(PERIOD) => {}
            }
        }
    }
}
