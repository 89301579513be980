//! The clock of one run: the wall clock at its start, advanced by a clock that is never set. So the recorded end is
//! exactly the run's duration after the start, even if the wall clock was corrected in between.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use nix::time::{ClockId, clock_gettime};

#[derive(Debug, Clone, Copy)]
pub(super) struct RunClock {
    started_at: Timestamp,
    started: Duration,
}

impl RunClock {
    pub fn start(now: Timestamp) -> Self {
        Self { started_at: now, started: since_boot() }
    }

    pub fn started_at(&self) -> Timestamp {
        self.started_at
    }

    /// In whole microseconds, like every stored time.
    pub fn now(&self) -> Timestamp {
        self.at(since_boot())
    }

    fn at(&self, since_boot: Duration) -> Timestamp {
        let elapsed = since_boot.saturating_sub(self.started).as_micros();
        let elapsed = SignedDuration::from_micros(i64::try_from(elapsed).unwrap_or(i64::MAX));
        self.started_at.checked_add(elapsed).unwrap_or(Timestamp::MAX)
    }
}

/// The time since boot, including time suspended.
pub(super) fn since_boot() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_as_long_after_the_start_as_the_run_took_whatever_the_wall_clock_says() {
        let wrong = Timestamp::from_second(4_000_000_000).unwrap();
        let clock = RunClock::start(wrong);
        assert_eq!(clock.at(clock.started), wrong);
        let later = clock.at(clock.started + Duration::from_millis(1500));
        assert_eq!(later.duration_since(wrong), SignedDuration::from_millis(1500));
        assert_eq!(clock.at(Duration::ZERO), wrong, "never before the start");
        let lasted = clock.now().duration_since(wrong);
        assert!(lasted < SignedDuration::from_secs(60), "{lasted}");
    }
}
