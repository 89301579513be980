//! The time by which logs and keys expire. A machine's clock may be wrong, or be set while the server runs, and what
//! was deleted because of that does not come back. So the expiry time is kept in the database, and follows the clock
//! only as far as the servers themselves have observed time pass.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// How many times faster than real time the kept time may advance to catch up with the clock after the servers were
/// off. A wrong clock deletes no more in a day than four days do.
const MOST_SPEED: u32 = 4;
/// From this difference on, the clock is probably wrong, or was.
const SUSPICIOUS: SignedDuration = SignedDuration::from_hours(24);

/// The kept time `passed` after `kept` was stored. It never goes back.
#[must_use]
pub fn next_kept_time(kept: Timestamp, clock: Timestamp, passed: Duration) -> Timestamp {
    let most = SignedDuration::try_from(passed.saturating_mul(MOST_SPEED)).unwrap_or(SignedDuration::MAX);
    let reachable = kept.checked_add(most).unwrap_or(Timestamp::MAX);
    clock.min(reachable).max(kept)
}

/// How far the clock is from the kept time, if that is worth a warning.
#[must_use]
pub fn suspicious_difference(kept: Timestamp, clock: Timestamp) -> Option<SignedDuration> {
    let difference = clock.duration_since(kept);
    (difference.abs() > SUSPICIOUS).then_some(difference)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn day(days: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * days)
    }

    #[test]
    fn the_kept_time_follows_a_clock_that_goes_right() {
        assert_eq!(next_kept_time(day(1), day(1), HOUR), day(1));
        assert_eq!(next_kept_time(day(1), day(1) + HOUR, HOUR), day(1) + HOUR);
    }

    #[test]
    fn a_clock_that_jumps_moves_it_by_no_more_than_time_has_passed() {
        assert_eq!(next_kept_time(day(1), day(41), Duration::ZERO), day(1), "a restart gains nothing");
        assert_eq!(next_kept_time(day(1), day(41), HOUR), day(1) + 4 * HOUR);
        assert_eq!(next_kept_time(day(1), day(-40), HOUR), day(1), "it does not go back");
        assert_eq!(next_kept_time(day(1), Timestamp::MAX, Duration::MAX), Timestamp::MAX);
    }

    #[test]
    fn it_catches_up_after_a_time_in_which_no_server_ran() {
        let mut kept = day(0);
        for hour in 0..24 * 3 {
            kept = next_kept_time(kept, day(7) + HOUR * hour, HOUR);
        }
        assert_eq!(kept, day(7) + HOUR * 71);
    }

    #[test]
    fn a_large_difference_is_suspicious() {
        assert_eq!(suspicious_difference(day(0), day(1)), None);
        assert_eq!(suspicious_difference(day(0), day(40)), Some(SignedDuration::from_hours(960)));
        assert_eq!(suspicious_difference(day(40), day(0)), Some(SignedDuration::from_hours(-960)));
    }
}
