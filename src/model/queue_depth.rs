//! How many runs waited over time: pages draw it beside the runs that ended.

use jiff::{SignedDuration, Timestamp};

/// The most runs observed waiting within [`QueueDepth::SPAN`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueDepth {
    /// The beginning of that interval.
    pub from: Timestamp,
    pub waiting: u64,
}

impl QueueDepth {
    pub const SPAN: SignedDuration = SignedDuration::from_mins(5);

    /// The number of runs waiting now.
    #[must_use]
    pub fn now(waiting: u64, now: Timestamp) -> Self {
        let span = Self::SPAN.as_secs();
        let from = now.as_second().div_euclid(span) * span;
        Self { from: Timestamp::from_second(from).unwrap_or(Timestamp::MIN), waiting }
    }

    /// Whether it adds anything to what was recorded before: another interval, or a higher number.
    #[must_use]
    pub fn is_news_after(self, before: Option<Self>) -> bool {
        self.waiting > 0 && before.is_none_or(|before| before.from != self.from || before.waiting < self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn depth(waiting: u64, second: i64) -> QueueDepth {
        QueueDepth::now(waiting, Timestamp::from_second(second).unwrap())
    }

    #[test]
    fn a_longer_queue_or_another_time_is_news() {
        assert_eq!(depth(1, 899).from.as_second(), 600);
        let before = Some(depth(3, 600));
        for (seen, is_news) in
            [(depth(3, 700), false), (depth(4, 700), true), (depth(3, 900), true), (depth(0, 900), false)]
        {
            assert_eq!(seen.is_news_after(before), is_news, "{seen:?}");
        }
        assert!(depth(1, 0).is_news_after(None) && !depth(0, 0).is_news_after(None));
    }
}
