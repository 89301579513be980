//! "Look at this attempt now": what an engine says to the control loops when it notices something.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::model::{AttemptId, Event};

/// Notes that are kept for a watch loop that does not come; older ones are forgotten first.
const MAX_NOTES: usize = 10_000;

/// A set of attempts worth a look, shared by one engine and one watch loop. A poke only makes the loop look sooner;
/// several for one attempt are one, so the set is never larger than the attempts that are active.
#[derive(Debug, Clone, Default)]
pub struct Pokes(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    waiting: Mutex<BTreeSet<AttemptId>>,
    notes: Mutex<VecDeque<(AttemptId, Event)>>,
    notify: Notify,
}

impl Pokes {
    pub fn poke(&self, attempt_id: AttemptId) {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(attempt_id);
        self.0.notify.notify_one();
    }

    /// Tells something that happened to an attempt beside its status, for the run's story: an image is being pulled.
    pub fn note(&self, attempt_id: AttemptId, event: Event) {
        let mut notes = self.0.notes.lock().unwrap_or_else(PoisonError::into_inner);
        if notes.len() == MAX_NOTES {
            notes.pop_front();
        }
        notes.push_back((attempt_id, event));
        drop(notes);
        self.poke(attempt_id);
    }

    /// Takes the notes that came since the last time, oldest first. Each is poked about as well.
    #[must_use]
    pub fn take_notes(&self) -> Vec<(AttemptId, Event)> {
        self.0.notes.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
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
