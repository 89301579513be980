//! Delays: why attempts can't be launched or observed now, each reason reported once, and when a launch is retried.
//! An engine that answers but can't do what it is asked is not asked again without a pause.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use crate::model::AttemptId;

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How many reasons are reported immediately. A reason that differs each time, by a number in it, is then reported at
/// intervals.
const TOLD_AT_ONCE: u32 = 3;
const BETWEEN_REASONS: Duration = Duration::from_mins(1);

#[derive(Default)]
pub(super) struct Delays(Mutex<HashMap<AttemptId, Delay>>);

#[derive(Default)]
struct Delay {
    noted: Option<Noted>,
    pause: Duration,
    until: Option<Instant>,
}

struct Noted {
    reason: String,
    at: Instant,
    number: u32,
}

impl Delays {
    fn map(&self) -> MutexGuard<'_, HashMap<AttemptId, Delay>> {
        self.0.lock()
    }

    /// Whether this reason still has to be reported.
    pub(super) fn is_news(&self, attempt_id: AttemptId, reason: &str, now: Instant) -> bool {
        let mut map = self.map();
        let noted = &mut map.entry(attempt_id).or_default().noted;
        let number = noted.as_ref().map_or(0, |noted| noted.number);
        let is_news = noted.as_ref().is_none_or(|noted| {
            noted.reason != reason && (number < TOLD_AT_ONCE || now.duration_since(noted.at) >= BETWEEN_REASONS)
        });
        if is_news {
            *noted = Some(Noted { reason: reason.to_owned(), at: now, number: number.saturating_add(1) });
        }
        is_news
    }

    /// Records that a launch has to be retried, and returns after how long. Each pause is twice as long as the one
    /// before.
    pub(super) fn put_off(&self, attempt_id: AttemptId, now: Instant) -> Duration {
        let mut map = self.map();
        let delay = map.entry(attempt_id).or_default();
        delay.pause = (delay.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        delay.until = Some(now + delay.pause);
        delay.pause
    }

    pub(super) fn is_put_off(&self, attempt_id: AttemptId, now: Instant) -> bool {
        self.map().get(&attempt_id).and_then(|delay| delay.until).is_some_and(|until| now < until)
    }

    /// Ends all pauses: an engine that was away is asked immediately when it is back.
    pub(super) fn end_pauses(&self) {
        for delay in self.map().values_mut() {
            (delay.pause, delay.until) = (Duration::ZERO, None);
        }
    }

    pub(super) fn forget(&self, attempt_id: AttemptId) {
        self.map().remove(&attempt_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RunId;

    #[test]
    fn a_launch_is_put_off_for_longer_each_time() {
        let (delays, attempt_id) = (Delays::default(), AttemptId { run_id: RunId::generate(), attempt: 1 });
        let now = Instant::now();
        assert!(!delays.is_put_off(attempt_id, now));
        let pauses = [1, 2, 4, 8, 16, 30, 30].map(Duration::from_secs);
        assert_eq!(pauses.map(|_| delays.put_off(attempt_id, now)), pauses);
        assert!(delays.is_put_off(attempt_id, now + Duration::from_secs(29)));
        assert!(!delays.is_put_off(attempt_id, now + LONGEST_PAUSE));
        delays.end_pauses();
        assert!(!delays.is_put_off(attempt_id, now));
        assert_eq!(delays.put_off(attempt_id, now), FIRST_PAUSE);
    }

    #[test]
    fn a_reason_is_told_once_and_one_that_always_differs_at_intervals() {
        let (delays, attempt_id) = (Delays::default(), AttemptId { run_id: RunId::generate(), attempt: 1 });
        let now = Instant::now();
        for reason in ["port 1", "port 2", "port 3"] {
            assert!(delays.is_news(attempt_id, reason, now));
            assert!(!delays.is_news(attempt_id, reason, now + BETWEEN_REASONS));
        }
        assert!(!delays.is_news(attempt_id, "port 4", now + BETWEEN_REASONS / 2));
        assert!(delays.is_news(attempt_id, "port 5", now + BETWEEN_REASONS));
    }
}
