//! How an engine notifies the control loops that an attempt needs another check.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::model::{AttemptId, Event, UsageSample};

/// The maximum number of notes kept for a watch loop that does not fetch them; the oldest are dropped first.
const MAX_NOTES: usize = 10_000;
/// The same for samples: ten seconds of them for 10,000 attempts.
const MAX_SAMPLES: usize = 50_000;

/// A set of attempts to check, shared by one engine and one watch loop. A poke only makes the loop check sooner;
/// several for one attempt count as one, so the set is never larger than the number of active attempts.
#[derive(Debug, Clone, Default)]
pub struct Reports(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    waiting: Mutex<BTreeSet<AttemptId>>,
    /// When each delayed poke is due.
    later: Mutex<BTreeMap<AttemptId, Instant>>,
    notes: Mutex<VecDeque<(AttemptId, Event)>>,
    samples: Mutex<VecDeque<(AttemptId, UsageSample)>>,
    notify: Notify,
}

impl Reports {
    pub fn changed(&self, attempt_id: AttemptId) {
        self.0.waiting.lock().insert(attempt_id);
        self.0.notify.notify_one();
    }

    /// Pokes after a pause, unless an earlier request is due no later. A caller that pokes because of what it
    /// observed when it was itself poked needs a pause, or it would loop without end.
    pub fn changed_after(&self, attempt_id: AttemptId, pause: Duration) {
        let due = Instant::now() + pause;
        let mut later = self.0.later.lock();
        if later.get(&attempt_id).is_some_and(|known| *known <= due) {
            return;
        }
        later.insert(attempt_id, due);
        drop(later);
        let inner = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            sleep_until(due).await;
            if let Some(inner) = inner.upgrade() {
                let mut later = inner.later.lock();
                if later.get(&attempt_id) == Some(&due) {
                    later.remove(&attempt_id);
                }
                drop(later);
                Self(inner).changed(attempt_id);
            }
        });
    }

    /// Reports something that happened to an attempt besides its status, for the run's events, such as an image being
    /// pulled.
    pub fn note(&self, attempt_id: AttemptId, event: Event) {
        push(&self.0.notes, MAX_NOTES, (attempt_id, event));
        self.changed(attempt_id);
    }

    /// Puts back notes that could not be stored, oldest first, ahead of those that came since. Where there would be
    /// too many, the oldest are dropped. Nothing is poked: the caller that failed retries anyway.
    pub fn put_back(&self, notes: Vec<(AttemptId, Event)>) {
        let mut queue = self.0.notes.lock();
        for note in notes.into_iter().rev() {
            if queue.len() == MAX_NOTES {
                break;
            }
            queue.push_front(note);
        }
    }

    /// Reports an attempt's resource usage. This needs no poke: the samples wait for the loop's next pass.
    pub fn sample(&self, attempt_id: AttemptId, sample: UsageSample) {
        push(&self.0.samples, MAX_SAMPLES, (attempt_id, sample));
    }

    /// Takes the notes since the last call, oldest first. Each note also pokes its attempt.
    #[must_use]
    pub fn take_notes(&self) -> Vec<(AttemptId, Event)> {
        take(&self.0.notes)
    }

    /// Takes the samples since the last call, oldest first.
    #[must_use]
    pub fn take_samples(&self) -> Vec<(AttemptId, UsageSample)> {
        take(&self.0.samples)
    }

    /// Waits until there is at least one poke, and takes them all. Cancel-safe: loses none.
    pub async fn take(&self) -> BTreeSet<AttemptId> {
        loop {
            let taken = std::mem::take(&mut *self.0.waiting.lock());
            if !taken.is_empty() {
                return taken;
            }
            self.0.notify.notified().await;
        }
    }
}

/// Appends the item; the oldest is dropped where there would be more than `most`.
fn push<T>(queue: &Mutex<VecDeque<T>>, most: usize, item: T) {
    let mut queue = queue.lock();
    if queue.len() == most {
        queue.pop_front();
    }
    queue.push_back(item);
}

fn take<T>(queue: &Mutex<VecDeque<T>>) -> Vec<T> {
    queue.lock().drain(..).collect()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::model::RunId;

    fn note(text: &str) -> (AttemptId, Event) {
        (AttemptId { run_id: RunId::generate(), attempt: 1 }, Event::normal(Timestamp::UNIX_EPOCH, "Note", text))
    }

    fn texts(reports: &Reports) -> Vec<String> {
        reports.take_notes().into_iter().map(|(_, event)| event.message).collect()
    }

    #[tokio::test]
    async fn notes_that_were_put_back_come_again_before_newer_ones() {
        let reports = Reports::default();
        for text in ["one", "two"] {
            let (attempt_id, event) = note(text);
            reports.note(attempt_id, event);
        }
        let taken = reports.take_notes();
        let (attempt_id, event) = note("three");
        reports.note(attempt_id, event);
        reports.put_back(taken);
        assert_eq!(texts(&reports), ["one", "two", "three"]);
    }

    #[tokio::test]
    async fn no_more_notes_are_kept_than_there_is_room_for_and_the_newest_stay() {
        let reports = Reports::default();
        let (attempt_id, event) = note("newest");
        reports.note(attempt_id, event);
        reports.put_back((0..MAX_NOTES).map(|i| note(&i.to_string())).collect());
        let texts = texts(&reports);
        assert_eq!((texts.len(), texts[0].as_str(), texts[MAX_NOTES - 1].as_str()), (MAX_NOTES, "1", "newest"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_poke_after_a_pause_comes_after_it() {
        let (reports, attempt_id) = (Reports::default(), note("").0);
        let begin = tokio::time::Instant::now();
        reports.changed_after(attempt_id, Duration::from_secs(1));
        assert!(reports.take().await.contains(&attempt_id));
        assert_eq!(begin.elapsed(), Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_poke_that_is_to_come_late_keeps_no_earlier_one_from_coming() {
        let (reports, attempt_id) = (Reports::default(), note("").0);
        let begin = Instant::now();
        for secs in [30, 1, 2] {
            reports.changed_after(attempt_id, Duration::from_secs(secs));
        }
        for expected in [1, 30] {
            assert!(reports.take().await.contains(&attempt_id));
            assert_eq!(begin.elapsed(), Duration::from_secs(expected));
        }
        reports.changed_after(attempt_id, Duration::from_secs(1));
        assert!(reports.take().await.contains(&attempt_id));
        assert_eq!(begin.elapsed(), Duration::from_secs(31));
    }
}
