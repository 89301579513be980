//! The time of day, handed to everything that needs it, so that a test can set it. The only reader of the wall clock.
//!
//! Times are kept in whole microseconds, as both databases store them, so that what comes back equals what went in.
//!
//! A point in time comes from the wall clock, which may be set at any time. Durations are measured with
//! [`Clock::elapsed`], which never jumps.

use std::sync::{Arc, LazyLock};
use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

/// Where the time comes from; copies share it.
#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    System,
    Manual(Arc<Mutex<Hands>>),
}

/// The values set by a test.
#[derive(Debug)]
struct Hands {
    now: Timestamp,
    elapsed: SignedDuration,
}

/// When this process first asked how much time had passed.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Clock {
    #[must_use]
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands still at `start` until the other half moves it.
    #[must_use]
    pub fn manual(start: Timestamp) -> (Self, ManualClock) {
        let hands = Arc::new(Mutex::new(Hands { now: start, elapsed: SignedDuration::ZERO }));
        (Self(Source::Manual(Arc::clone(&hands))), ManualClock(hands))
    }

    /// The present time in whole microseconds. It follows the machine's clock, also where that is set back.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let now = match &self.0 {
            Source::System => Timestamp::now(),
            Source::Manual(hands) => hands.lock().now,
        };
        Timestamp::from_microsecond(now.as_microsecond()).expect("a timestamp without its nanoseconds is in range")
    }

    /// The time since a moment that is fixed for the life of the process. It only grows, regardless of changes to the
    /// machine's clock, and stands still while the machine sleeps.
    #[must_use]
    pub fn elapsed(&self) -> SignedDuration {
        match &self.0 {
            Source::System => SignedDuration::try_from(START.elapsed()).unwrap_or(SignedDuration::MAX),
            Source::Manual(hands) => hands.lock().elapsed,
        }
    }
}

/// Moves the time of a [`Clock::manual`].
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<Mutex<Hands>>);

impl ManualClock {
    /// Lets time pass.
    pub fn advance(&self, by: SignedDuration) {
        let mut hands = self.0.lock();
        hands.now += by;
        hands.elapsed = hands.elapsed.saturating_add(by);
    }

    /// Sets the wall clock, which takes no time.
    pub fn set(&self, to: Timestamp) {
        self.0.lock().now = to;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_by_hand_and_for_all_its_copies() {
        let (clock, hand) = Clock::manual(Timestamp::UNIX_EPOCH);
        let copy = clock.clone();
        assert_eq!(clock.now(), Timestamp::UNIX_EPOCH);
        hand.advance(SignedDuration::from_secs(90));
        assert_eq!(copy.now(), "1970-01-01T00:01:30Z".parse().unwrap());
        hand.set(Timestamp::UNIX_EPOCH);
        assert_eq!(
            (clock.now(), clock.elapsed()),
            (copy.now(), SignedDuration::from_secs(90)),
            "setting it takes no time"
        );
    }

    #[test]
    fn a_time_holds_no_nanoseconds() {
        let (clock, _hand) = Clock::manual("2026-01-01T00:00:00.123456789Z".parse().unwrap());
        assert_eq!(clock.now(), "2026-01-01T00:00:00.123456Z".parse().unwrap());
        assert_eq!(Clock::system().now().subsec_nanosecond() % 1000, 0);
    }
}
