//! A run in brief: the facts that task lists show about many runs at once.

use jiff::{SignedDuration, Timestamp};

use super::{DefinitionId, Outcome, RunId, Status};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunBrief {
    pub run_id: RunId,
    pub definition_id: DefinitionId,
    pub status: Status,
    pub outcome: Option<Outcome>,
    pub queued_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
}

impl RunBrief {
    /// How long its command ran, once it has ended.
    #[must_use]
    pub fn duration(&self) -> Option<SignedDuration> {
        Some(self.finished_at?.duration_since(self.started_at?))
    }
}

/// The typical duration of a successful run: the median over the runs that succeeded, since one that hung says little
/// about the next.
#[must_use]
pub fn typical_duration(runs: &[RunBrief]) -> Option<SignedDuration> {
    let succeeded = runs.iter().filter(|run| run.outcome == Some(Outcome::Succeeded));
    let mut durations: Vec<_> = succeeded.filter_map(RunBrief::duration).collect();
    durations.sort_unstable();
    durations.get(durations.len().saturating_sub(1) / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(outcome: Outcome, seconds: i64) -> RunBrief {
        RunBrief {
            run_id: RunId::generate(),
            definition_id: DefinitionId::from_text("a-1"),
            status: Status::Stopped,
            outcome: Some(outcome),
            queued_at: Timestamp::UNIX_EPOCH,
            started_at: Some(Timestamp::UNIX_EPOCH),
            finished_at: Timestamp::from_second(seconds).ok(),
        }
    }

    #[test]
    fn the_typical_duration_is_the_middle_one_of_those_that_went_well() {
        let runs =
            [(Outcome::Succeeded, 10), (Outcome::Succeeded, 1000), (Outcome::Failed, 1), (Outcome::Succeeded, 20)];
        let runs = runs.map(|(outcome, seconds)| run(outcome, seconds));
        assert_eq!(typical_duration(&runs), Some(SignedDuration::from_secs(20)));
        assert_eq!(typical_duration(&runs[..2]), Some(SignedDuration::from_secs(10)));
        assert_eq!(typical_duration(&[]), None);
    }
}
