//! "Look at this attempt now": what an engine says to the control loops when it notices something.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::model::AttemptId;

/// A set of attempts worth a look, shared by one engine and one watch loop. A poke only makes the loop look sooner;
/// several for one attempt are one, so the set is never larger than the attempts that are active.
#[derive(Debug, Clone, Default)]
pub struct Pokes(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    waiting: Mutex<BTreeSet<AttemptId>>,
    notify: Notify,
}

impl Pokes {
    pub fn poke(&self, attempt_id: AttemptId) {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(attempt_id);
        self.0.notify.notify_one();
    }

    /// Waits until there is at least one, and takes them all. Loses none when it is cancelled.
    pub async fn take(&self) -> BTreeSet<AttemptId> {
        loop {
            let taken = std::mem::take(&mut *self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner));
            if !taken.is_empty() {
                return taken;
            }
            self.0.notify.notified().await;
        }
    }
}
