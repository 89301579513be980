//! How long the server tries to start a run: failed starts are counted by whose fault they were, each kind with
//! bounds on attempts and on time, and no attempt may stay indefinitely between its claim and its command's start.

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use super::StartFault;

/// The operator's limits on starting runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartLimits {
    /// How long one attempt may take from its claim to its command's start; `None` means no limit.
    pub longest: Option<SignedDuration>,
    pub image: RetryLimit,
    pub machine: RetryLimit,
    pub displaced: RetryLimit,
}

/// Bounds on the attempts that fail for one kind of fault. `None` means no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryLimit {
    pub attempts: Option<u32>,
    /// Bound on the time that these attempts took, including the pauses after them.
    pub time: Option<SignedDuration>,
}

impl Default for StartLimits {
    fn default() -> Self {
        let limit = |hours| RetryLimit { attempts: Some(100), time: Some(SignedDuration::from_hours(hours)) };
        Self { longest: Some(SignedDuration::from_hours(24)), image: limit(6), machine: limit(6), displaced: limit(24) }
    }
}

impl StartLimits {
    /// Nothing is ever given up.
    pub const NONE: Self = {
        let none = RetryLimit { attempts: None, time: None };
        Self { longest: None, image: none, machine: none, displaced: none }
    };

    const fn of(&self, fault: StartFault) -> RetryLimit {
        match fault {
            StartFault::Task => RetryLimit { attempts: Some(1), time: None },
            StartFault::Image => self.image,
            StartFault::Machine => self.machine,
            StartFault::Displaced => self.displaced,
        }
    }
}

/// A run's attempts that never started, by whose fault that was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FailedStarts {
    pub image: Tally,
    pub machine: Tally,
    pub displaced: Tally,
}

/// How many attempts failed for one kind of fault, and how long they took. Durations are added up as they were
/// measured, so that setting a clock does not change them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tally {
    pub attempts: u32,
    pub took_ms: i64,
}

impl FailedStarts {
    const fn of(&mut self, fault: StartFault) -> Option<&mut Tally> {
        match fault {
            StartFault::Task => None,
            StartFault::Image => Some(&mut self.image),
            StartFault::Machine => Some(&mut self.machine),
            StartFault::Displaced => Some(&mut self.displaced),
        }
    }

    /// Counts one more failed attempt, and the time it took.
    #[must_use]
    pub fn and(mut self, fault: StartFault, took: SignedDuration) -> Self {
        if let Some(tally) = self.of(fault) {
            tally.attempts = tally.attempts.saturating_add(1);
            tally.took_ms = tally.took_ms.saturating_add(milliseconds(took));
        }
        self
    }

    /// Why no further attempt is made after faults of this kind; `None` if one is.
    #[must_use]
    pub fn why_given_up(mut self, fault: StartFault, limits: &StartLimits) -> Option<String> {
        let tally = *self.of(fault)?;
        let limit = limits.of(fault);
        let took = SignedDuration::from_millis(tally.took_ms);
        let has_enough = limit.attempts.is_some_and(|most| tally.attempts >= most);
        let is_late = limit.time.is_some_and(|longest| took >= longest);
        (has_enough || is_late).then(|| {
            let attempts = if tally.attempts == 1 { "attempt" } else { "attempts" };
            format!("given up after {} {attempts} in {}", tally.attempts, span(took))
        })
    }
}

fn milliseconds(duration: SignedDuration) -> i64 {
    i64::try_from(duration.as_millis().max(0)).unwrap_or(i64::MAX)
}

/// `45s`, `1h 30m`: whole seconds, as people write them.
pub(super) fn span(duration: SignedDuration) -> String {
    format!("{:#}", SignedDuration::from_secs(duration.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_fault_is_given_up_at_its_own_bound() {
        let limits = StartLimits {
            image: RetryLimit { attempts: Some(3), time: None },
            machine: RetryLimit { attempts: None, time: Some(SignedDuration::from_secs(90)) },
            displaced: RetryLimit { attempts: None, time: None },
            ..StartLimits::NONE
        };
        let after = |fault, attempts: u32| {
            let failed = (0..attempts)
                .fold(FailedStarts::default(), |failed, _| failed.and(fault, SignedDuration::from_secs(30)));
            failed.why_given_up(fault, &limits)
        };
        assert_eq!(after(StartFault::Image, 2), None);
        assert_eq!(after(StartFault::Image, 3).as_deref(), Some("given up after 3 attempts in 1m 30s"));
        assert_eq!(after(StartFault::Machine, 2), None);
        assert_eq!(after(StartFault::Machine, 3).as_deref(), Some("given up after 3 attempts in 1m 30s"));
        assert_eq!(after(StartFault::Displaced, 1000), None);
    }

    #[test]
    fn faults_of_one_kind_do_not_count_for_another() {
        let failed = FailedStarts::default().and(StartFault::Image, SignedDuration::from_secs(1));
        let limits = StartLimits { machine: RetryLimit { attempts: Some(1), time: None }, ..StartLimits::NONE };
        assert_eq!(failed.why_given_up(StartFault::Machine, &limits), None);
    }

    #[test]
    fn a_tally_that_an_earlier_version_wrote_without_a_kind_reads() {
        let failed: FailedStarts = serde_json::from_str(r#"{"image": {"attempts": 2}}"#).unwrap();
        assert_eq!((failed.image.attempts, failed.machine), (2, Tally::default()));
    }
}
