//! How many runs ended over time, and with which outcome: stacked bars from hourly counts.

use jiff::Timestamp;

use super::bars::{Bar, bars};
use super::range::Range;
use super::svg::Svg;
use crate::http::ui::parts::words;
use crate::model::{EndedRuns, Outcome};

/// Pixels.
const HEIGHT: u32 = 132;

/// The parts of a bar, from the bottom up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Succeeded,
    Failed,
    TimedOut,
    Stopped,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Succeeded, Self::Failed, Self::TimedOut, Self::Stopped];

    const fn of(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Succeeded => Self::Succeeded,
            Outcome::Failed | Outcome::Lost | Outcome::Rejected => Self::Failed,
            Outcome::TimedOut => Self::TimedOut,
            Outcome::Stopped => Self::Stopped,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::TimedOut => "timed-out",
            Self::Stopped => "stopped",
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::TimedOut => "timed out",
            Self::Stopped => "stopped",
        }
    }
}

type Counts = [u64; 4];

pub struct Throughput {
    pub chart: Svg,
    /// Each kind that occurs: its stylesheet name, its word, its count.
    pub legend: Vec<(&'static str, &'static str, u64)>,
    pub total: u64,
}

pub fn throughput(ended: &[EndedRuns], range: Range, now: Timestamp) -> Throughput {
    let steps = steps(ended, range, now);
    let sums = steps.iter().fold(Counts::default(), |mut sums, counts| {
        for (sum, count) in sums.iter_mut().zip(counts) {
            *sum += count;
        }
        sums
    });
    let total = sums.iter().sum();
    let told = format!("{} ended in the last {}", words::count(total, "run"), range.word());
    let told = if total > 0 { format!("{told}: {}", tell(sums)) } else { told };
    let drawn: Vec<_> = steps.into_iter().map(bar).collect();
    let legend = Kind::ALL.into_iter().zip(sums).filter(|(_, count)| *count > 0);
    Throughput {
        chart: bars(&drawn, &told, HEIGHT, range, now),
        legend: legend.map(|(kind, count)| (kind.name(), kind.word(), count)).collect(),
        total,
    }
}

/// The counts of each step. Runs outside the range are left out.
fn steps(ended: &[EndedRuns], range: Range, now: Timestamp) -> Vec<Counts> {
    let mut steps = vec![Counts::default(); range.steps()];
    for EndedRuns { hour, outcome, runs } in ended {
        if let Some(step) = range.step_of(*hour, now) {
            steps[step][Kind::of(*outcome) as usize] += runs;
        }
    }
    steps
}

fn bar(counts: Counts) -> Bar {
    let told = tell(counts);
    Bar {
        told: if told.is_empty() { "nothing ended".to_owned() } else { told },
        parts: Kind::ALL.into_iter().zip(counts).map(|(kind, count)| (kind.name(), count)).collect(),
    }
}

/// `3 succeeded, 1 failed`
fn tell(counts: Counts) -> String {
    let told = Kind::ALL.into_iter().zip(counts).filter(|(_, count)| *count > 0);
    told.map(|(kind, count)| format!("{count} {}", kind.word())).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-01-02T03:04:05Z".parse().unwrap()
    }

    fn ended(hour: &str, outcome: Outcome, runs: u64) -> EndedRuns {
        EndedRuns { hour: hour.parse().unwrap(), outcome, runs }
    }

    #[test]
    fn runs_are_counted_in_the_hour_or_day_they_ended_in() {
        let all = [
            ended("2026-01-02T03:00:00Z", Outcome::Succeeded, 3),
            ended("2026-01-02T03:00:00Z", Outcome::Lost, 1),
            ended("2026-01-01T04:00:00Z", Outcome::Stopped, 2),
            ended("2026-01-01T03:00:00Z", Outcome::Failed, 5),
        ];
        let day = steps(&all, Range::Day, now());
        assert_eq!((day.len(), day[23], day[0]), (24, [3, 1, 0, 0], [0, 0, 0, 2]));
        assert_eq!(day.iter().flatten().sum::<u64>(), 6, "what ended before is left out");
        let fortnight = steps(&all, Range::Fortnight, now());
        assert_eq!((fortnight[13], fortnight[12]), ([3, 1, 0, 0], [0, 5, 0, 2]));
    }

    #[test]
    fn a_chart_is_told_in_words() {
        let all =
            [ended("2026-01-02T03:00:00Z", Outcome::Succeeded, 3), ended("2026-01-02T02:00:00Z", Outcome::TimedOut, 1)];
        let Throughput { chart, legend, total } = throughput(&all, Range::Day, now());
        let svg = chart.to_string();
        assert_eq!(total, 4);
        assert_eq!(legend, [("succeeded", "succeeded", 3), ("timed-out", "timed out", 1)]);
        for part in [
            "aria-label=\"4 runs ended in the last 24 hours: 3 succeeded, 1 timed out\"",
            "<title>2026-01-02 03:00–04:00 UTC: 3 succeeded</title>",
            "<title>2026-01-02 01:00–02:00 UTC: nothing ended</title>",
        ] {
            assert!(svg.contains(part), "{part} is missing in {svg}");
        }
        let nothing = throughput(&[], Range::Fortnight, now()).chart.to_string();
        assert!(nothing.contains("\"0 runs ended in the last 14 days\""), "{nothing}");
    }
}
