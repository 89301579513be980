//! The time range of a chart, and its steps.

use jiff::{SignedDuration, Timestamp};

/// A time range and its step size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    Day,
    Fortnight,
}

impl Range {
    pub const ALL: [Self; 2] = [Self::Day, Self::Fortnight];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Fortnight => "fortnight",
        }
    }

    pub const fn word(self) -> &'static str {
        match self {
            Self::Day => "24 hours",
            Self::Fortnight => "14 days",
        }
    }

    pub const fn steps(self) -> usize {
        match self {
            Self::Day => 24,
            Self::Fortnight => 14,
        }
    }

    const fn step_secs(self) -> i64 {
        match self {
            Self::Day => 3600,
            Self::Fortnight => 86_400,
        }
    }

    /// Start of the first step, in Unix seconds; the last step is the current hour or day in UTC.
    fn from(self, now: Timestamp) -> i64 {
        let current = now.as_second().div_euclid(self.step_secs());
        (current + 1 - i64::try_from(self.steps()).unwrap_or(i64::MAX)) * self.step_secs()
    }

    /// The step that contains a time; `None` outside the range.
    pub fn step_of(self, at: Timestamp, now: Timestamp) -> Option<usize> {
        let step = (at.as_second() - self.from(now)).div_euclid(self.step_secs());
        usize::try_from(step).ok().filter(|step| *step < self.steps())
    }

    /// Start of a step.
    pub fn at(self, step: usize, now: Timestamp) -> Timestamp {
        let at = self.from(now) + i64::try_from(step).unwrap_or_default() * self.step_secs();
        Timestamp::from_second(at).unwrap_or(now)
    }

    /// The duration from the start of the range until now.
    pub fn span(self, now: Timestamp) -> SignedDuration {
        SignedDuration::from_secs(now.as_second().saturating_sub(self.from(now)))
    }

    /// `14:00` or `Jan 2`.
    pub fn label(self, at: Timestamp) -> String {
        at.strftime(match self {
            Self::Day => "%H:%M",
            Self::Fortnight => "%b %-d",
        })
        .to_string()
    }

    /// Whether this step is labelled.
    pub fn is_labelled(self, step: usize, at: Timestamp) -> bool {
        match self {
            Self::Day => at.as_second().div_euclid(3600) % 6 == 0,
            Self::Fortnight => step % 4 == 1,
        }
    }

    /// `2026-01-02 14:00–15:00 UTC`, `2026-01-02`
    pub fn title(self, at: Timestamp) -> String {
        let day = at.strftime("%Y-%m-%d");
        match self {
            Range::Day => {
                let end = at.saturating_add(SignedDuration::from_hours(1)).unwrap_or(at);
                format!("{day} {}–{} UTC", at.strftime("%H:%M"), end.strftime("%H:%M"))
            }
            Range::Fortnight => format!("{day} UTC"),
        }
    }
}

impl std::str::FromStr for Range {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|range| range.as_str() == text);
        found.ok_or_else(|| format!("{text:?} is none of {}", Self::ALL.map(Self::as_str).join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-01-02T03:04:05Z".parse().unwrap()
    }

    #[test]
    fn the_first_step_begins_where_the_time_that_is_asked_for_does() {
        assert_eq!(Range::Day.span(now()), SignedDuration::from_secs(23 * 3600 + 245));
        assert!(Range::Fortnight.span(now()) > SignedDuration::from_hours(13 * 24));
        for range in Range::ALL {
            assert_eq!(range.step_of(now() - range.span(now()), now()), Some(0));
            assert_eq!(range.step_of(now(), now()), Some(range.steps() - 1));
            assert_eq!(range.step_of(now() - range.span(now()) - SignedDuration::from_secs(1), now()), None);
        }
        assert_eq!(Range::Day.title(Range::Day.at(23, now())), "2026-01-02 03:00–04:00 UTC");
    }
}
