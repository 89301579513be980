//! "Look at this attempt now": what an engine says to the control loops when it notices something.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::model::{AttemptId, Event, UsageSample};

/// Notes that are kept for a watch loop that does not come; the oldest is forgotten first.
const MAX_NOTES: usize = 10_000;
/// The same for samples: those of 10,000 attempts for ten seconds.
const MAX_SAMPLES: usize = 50_000;

/// A set of attempts worth a look, shared by one engine and one watch loop. A poke only makes the loop look sooner;
/// several for one attempt are one, so the set is never larger than the attempts that are active.
#[derive(Debug, Clone, Default)]
pub struct Pokes(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    waiting: Mutex<BTreeSet<AttemptId>>,
    notes: Mutex<VecDeque<(AttemptId, Event)>>,
    samples: Mutex<VecDeque<(AttemptId, UsageSample)>>,
    notify: Notify,
}

impl Pokes {
    pub fn poke(&self, attempt_id: AttemptId) {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(attempt_id);
        self.0.notify.notify_one();
    }

    /// Tells something that happened to an attempt beside its status, for the run's story: an image is being pulled.
    pub fn note(&self, attempt_id: AttemptId, event: Event) {
        push(&self.0.notes, MAX_NOTES, (attempt_id, event));
        self.poke(attempt_id);
    }

    /// Tells what an attempt uses. Nobody needs to look at it for that: the samples wait for the loop's next time.
    pub fn sample(&self, attempt_id: AttemptId, sample: UsageSample) {
        push(&self.0.samples, MAX_SAMPLES, (attempt_id, sample));
    }

    /// Takes the notes that came since the last time, oldest first. Each is poked about as well.
    #[must_use]
    pub fn take_notes(&self) -> Vec<(AttemptId, Event)> {
        take(&self.0.notes)
    }

    /// Takes the samples that came since the last time, oldest first.
    #[must_use]
    pub fn take_samples(&self) -> Vec<(AttemptId, UsageSample)> {
        take(&self.0.samples)
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

/// Puts it at the end; the oldest goes where there would be more than `most`.
fn push<T>(queue: &Mutex<VecDeque<T>>, most: usize, item: T) {
    let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
    if queue.len() == most {
        queue.pop_front();
    }
    queue.push_back(item);
}

fn take<T>(queue: &Mutex<VecDeque<T>>) -> Vec<T> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
}
