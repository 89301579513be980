//! Which loops there are, and whether each still ends its steps.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::store::StoreError;

/// The loops of a server. Copies share it.
#[derive(Clone, Default)]
pub struct LoopRegistry(Arc<Mutex<Entries>>);

#[derive(Default)]
struct Entries {
    next: u64,
    by_number: BTreeMap<u64, Entry>,
}

struct Entry {
    name: &'static str,
    cluster: Option<String>,
    patience: Duration,
    /// When the first step began that has not ended, nor has one since. A step that was cut off has not ended.
    waits_since: Option<Instant>,
}

/// A loop that has not ended a step within its bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LateLoop {
    pub name: &'static str,
    pub cluster: Option<String>,
    pub since: Duration,
}

/// Why a step did not do what it should have.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("it had not ended after {} s and was cut off", .0.as_secs())]
    TookTooLong(Duration),
}

impl LoopRegistry {
    /// Enters a loop, whose steps may take `patience` each, until the returned value is dropped.
    #[must_use]
    pub fn register(&self, name: &'static str, cluster: Option<&str>, patience: Duration) -> RegisteredLoop {
        let mut entries = self.entries();
        let number = entries.next;
        entries.next += 1;
        entries
            .by_number
            .insert(number, Entry { name, cluster: cluster.map(str::to_owned), patience, waits_since: None });
        RegisteredLoop { registry: self.clone(), number, patience }
    }

    /// The loops that have not ended a step within their bounds, the longest first.
    #[must_use]
    pub fn late(&self) -> Vec<LateLoop> {
        let entries = self.entries();
        let late = |entry: &Entry| {
            let since = entry.waits_since?.elapsed();
            (since >= entry.patience).then(|| LateLoop { name: entry.name, cluster: entry.cluster.clone(), since })
        };
        let mut late: Vec<_> = entries.by_number.values().filter_map(late).collect();
        late.sort_by_key(|late| std::cmp::Reverse(late.since));
        late
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A loop's own entry.
pub struct RegisteredLoop {
    registry: LoopRegistry,
    number: u64,
    patience: Duration,
}

impl RegisteredLoop {
    /// Carries out a step, and cuts it off where it takes too long: it is repeated like one that a crash had ended.
    pub async fn step<T>(&self, step: impl Future<Output = Result<T, StoreError>>) -> Result<T, StepError> {
        self.begin();
        match timeout(self.patience, step).await {
            Ok(result) => {
                self.end();
                Ok(result?)
            }
            Err(_) => Err(StepError::TookTooLong(self.patience)),
        }
    }

    /// The same for a step that must not be cut off.
    pub async fn observe<T>(&self, step: impl Future<Output = T>) -> T {
        self.begin();
        let result = step.await;
        self.end();
        result
    }

    fn begin(&self) {
        if let Some(entry) = self.registry.entries().by_number.get_mut(&self.number) {
            entry.waits_since.get_or_insert_with(Instant::now);
        }
    }

    fn end(&self) {
        if let Some(entry) = self.registry.entries().by_number.get_mut(&self.number) {
            entry.waits_since = None;
        }
    }
}

impl Drop for RegisteredLoop {
    fn drop(&mut self) {
        self.registry.entries().by_number.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_mins(1);

    #[tokio::test(start_paused = true)]
    async fn a_step_that_hangs_is_cut_off_and_its_loop_is_late_until_one_ends() {
        let registry = LoopRegistry::default();
        let watch = registry.register("watch", Some("local"), PATIENCE);
        let other = registry.register("age", None, PATIENCE);
        other.step(async { Ok(()) }).await.unwrap();
        assert!(registry.late().is_empty());

        for steps in 1..=2 {
            let cut = watch.step(std::future::pending::<Result<(), StoreError>>()).await;
            assert!(matches!(cut, Err(StepError::TookTooLong(PATIENCE))), "{cut:?}");
            let late = LateLoop { name: "watch", cluster: Some("local".to_owned()), since: PATIENCE * steps };
            assert_eq!(registry.late(), [late], "while it waits, and while the next one does");
        }
        watch
            .step(async { Err::<(), _>(StoreError::Unusable("a failed step has ended".to_owned())) })
            .await
            .unwrap_err();
        assert!(registry.late().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_was_ended_is_not_late() {
        let registry = LoopRegistry::default();
        let ended = registry.register("watch", Some("removed"), PATIENCE);
        let going_on = ended.observe(std::future::pending::<()>());
        assert!(timeout(PATIENCE * 2, going_on).await.is_err());
        assert_eq!(registry.late().len(), 1);
        drop(ended);
        assert!(registry.late().is_empty());
    }
}
