//! Kept time: maintains the time by which logs and idempotence keys expire.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::control::LoopRegistry;
use crate::control::loops::{Loop, run};
use crate::lease::Tenure;
use crate::model::suspicious_difference;
use crate::store::{Store, StoreError};

/// The kept time and this process's contribution to it.
pub struct KeptTime {
    store: Arc<Store>,
    clock: Clock,
    /// How much time had passed when it was last stored.
    passed_before: Duration,
    has_warned: bool,
}

impl KeptTime {
    #[must_use]
    pub fn new(store: Arc<Store>, clock: Clock) -> Self {
        let passed_before = clock.elapsed().unsigned_abs();
        Self { store, clock, passed_before, has_warned: false }
    }

    /// Stores the time reached so far.
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
    pub async fn run(self, registry: LoopRegistry, tenure: Tenure, stop: CancellationToken) {
        run(self, None, registry, tenure, stop).await;
    }
}

impl Loop for KeptTime {
    const NAME: &'static str = "kept_time";
    const PERIOD: Duration = Duration::from_mins(10);
    const PATIENCE: Duration = Duration::from_mins(1);
    const NEEDS_LEASE: bool = false;

    async fn step(&mut self) -> Result<(), StoreError> {
        self.keep_time().await
    }
}
