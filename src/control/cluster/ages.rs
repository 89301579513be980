//! How long attempts have been starting, and runs running: measured by a clock that never jumps while this process
//! lives. For a phase that began before this process, the age is taken from the wall clock when it is first asked
//! for, and measured from then on.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use parking_lot::{Mutex, MutexGuard};

use crate::clock::Clock;
use crate::model::AttemptId;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    /// Since the claim.
    Starting,
    /// Since it was first observed running.
    Running,
}

/// When each phase began, in [`Clock::elapsed`]'s time; negative if that was before this process started.
#[derive(Default)]
pub(super) struct Ages(Mutex<HashMap<(AttemptId, Phase), SignedDuration>>);

impl Ages {
    fn map(&self) -> MutexGuard<'_, HashMap<(AttemptId, Phase), SignedDuration>> {
        self.0.lock()
    }

    /// Records that a phase begins now.
    pub(super) fn begin(&self, attempt_id: AttemptId, phase: Phase, clock: &Clock) {
        self.map().entry((attempt_id, phase)).or_insert_with(|| clock.elapsed());
    }

    /// How long a phase has lasted that began at `began_at` by this machine's clock.
    pub(super) fn of(&self, attempt_id: AttemptId, phase: Phase, began_at: Timestamp, clock: &Clock) -> SignedDuration {
        let elapsed = clock.elapsed();
        let began = *self.map().entry((attempt_id, phase)).or_insert_with(|| {
            let age = clock.now().duration_since(began_at).max(SignedDuration::ZERO);
            elapsed.saturating_sub(age)
        });
        elapsed.saturating_sub(began).max(SignedDuration::ZERO)
    }

    /// Forgets all but these attempts.
    pub(super) fn retain(&self, is_active: impl Fn(AttemptId) -> bool) {
        self.map().retain(|(attempt_id, _), _| is_active(*attempt_id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RunId;

    const SECOND: SignedDuration = SignedDuration::from_secs(1);

    #[test]
    fn an_age_grows_with_time_and_not_with_the_wall_clock() {
        let (clock, hand) = Clock::manual("2026-01-01T00:00:00Z".parse().unwrap());
        let (ages, id) = (Ages::default(), AttemptId { run_id: RunId::generate(), attempt: 1 });
        ages.begin(id, Phase::Running, &clock);
        hand.advance(SECOND * 3);
        for jump in ["2030-01-01T00:00:00Z", "1990-01-01T00:00:00Z"] {
            hand.set(jump.parse().unwrap());
            assert_eq!(ages.of(id, Phase::Running, Timestamp::UNIX_EPOCH, &clock), SECOND * 3);
        }
    }

    #[test]
    fn what_began_before_this_process_is_measured_on_from_its_first_look() {
        let (clock, hand) = Clock::manual("2026-01-01T00:01:00Z".parse().unwrap());
        let (ages, id) = (Ages::default(), AttemptId { run_id: RunId::generate(), attempt: 1 });
        let began_at = "2026-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(ages.of(id, Phase::Starting, began_at, &clock), SECOND * 60);
        hand.set("2025-01-01T00:00:00Z".parse().unwrap());
        hand.advance(SECOND);
        assert_eq!(ages.of(id, Phase::Starting, began_at, &clock), SECOND * 61);
        ages.retain(|_| false);
        assert_eq!(ages.of(id, Phase::Starting, began_at, &clock), SignedDuration::ZERO, "it began in the future");
    }
}
