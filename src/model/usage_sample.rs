//! What an attempt used at one time, and how to reduce the number of such samples.

use jiff::{SignedDuration, Timestamp};

/// One measurement of what an attempt uses. `None` is "not measured".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsageSample {
    pub at: Timestamp,
    /// In use at this time, in bytes; for joined samples, their maximum.
    pub memory_bytes: Option<i64>,
    /// On average since the sample before, in thousandths of a core.
    pub cpu_millis: Option<i64>,
}

impl UsageSample {
    /// Joins this sample and the next into one. This one covers the time since `before`.
    #[must_use]
    pub fn join(self, next: Self, before: Option<Timestamp>) -> Self {
        let length = |from: Timestamp, to: Timestamp| to.duration_since(from).max(SignedDuration::from_micros(1));
        let next_length = length(self.at, next.at);
        let own_length = before.map_or(next_length, |before| length(before, self.at));
        let cpu_millis = match (self.cpu_millis, next.cpu_millis) {
            (Some(own), Some(next)) => Some(average((own, own_length), (next, next_length))),
            (own, next) => next.or(own),
        };
        Self { at: next.at, memory_bytes: self.memory_bytes.max(next.memory_bytes), cpu_millis }
    }

    /// Half as many samples for the same time, oldest first.
    #[must_use]
    pub fn halve(samples: &[Self]) -> Vec<Self> {
        let mut before = None;
        let join = |pair: &[Self]| {
            let joined = pair[1..].iter().fold(pair[0], |first, next| first.join(*next, before));
            before = Some(joined.at);
            joined
        };
        samples.chunks(2).map(join).collect()
    }
}

/// The average of two values, weighted by how long each held.
fn average((a, a_length): (i64, SignedDuration), (b, b_length): (i64, SignedDuration)) -> i64 {
    let (a_length, b_length) = (a_length.as_micros(), b_length.as_micros());
    let sum = i128::from(a) * a_length + i128::from(b) * b_length;
    i64::try_from(sum / (a_length + b_length)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(second: i64, memory_bytes: Option<i64>, cpu_millis: Option<i64>) -> UsageSample {
        UsageSample { at: Timestamp::from_second(second).unwrap(), memory_bytes, cpu_millis }
    }

    #[test]
    fn the_most_memory_and_the_average_of_cpu_are_kept() {
        let start = Timestamp::from_second(0).unwrap();
        let joined = sample(1, Some(5), Some(1000)).join(sample(4, Some(3), Some(200)), Some(start));
        assert_eq!(joined, sample(4, Some(5), Some(400)));
        // How long the first sample lasted is not known.
        assert_eq!(sample(1, None, Some(100)).join(sample(4, Some(3), Some(300)), None), sample(4, Some(3), Some(200)));
        assert_eq!(sample(1, None, None).join(sample(2, None, Some(7)), None), sample(2, None, Some(7)));
    }

    #[test]
    fn half_of_them_tell_of_the_same_time() {
        let samples: Vec<_> = (1..=5).map(|i| sample(i, Some(i), Some(i * 10))).collect();
        let expected = [sample(2, Some(2), Some(15)), sample(4, Some(4), Some(35)), sample(5, Some(5), Some(50))];
        assert_eq!(UsageSample::halve(&samples), expected);
        assert!(UsageSample::halve(&[]).is_empty());
    }
}
