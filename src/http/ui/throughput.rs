//! How many runs ended over time, and how: stacked bars, drawn from counts by the hour.

use std::fmt::Write as _;

use jiff::{SignedDuration, Timestamp};

use super::chart::Svg;
use super::words;
use crate::model::{EndedRuns, Outcome};

/// Pixels; widths are percentages, so that words keep their size on a narrow page.
const HEIGHT: f64 = 132.0;
/// Above the highest bar, for the scale's word.
const TOP: f64 = 16.0;
/// Below the bars, for the words of time.
const BOTTOM: f64 = 18.0;

/// Over which time, and in which steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Range {
    Day,
    Fortnight,
}

impl Range {
    pub(super) const ALL: [Self; 2] = [Self::Day, Self::Fortnight];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Fortnight => "fortnight",
        }
    }

    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Day => "24 hours",
            Self::Fortnight => "14 days",
        }
    }

    const fn steps(self) -> usize {
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

    /// When the first step begins: the last one is the hour or the day that is now, by UTC.
    fn from(self, now: Timestamp) -> i64 {
        let current = now.as_second().div_euclid(self.step_secs());
        (current + 1 - i64::try_from(self.steps()).unwrap_or(i64::MAX)) * self.step_secs()
    }

    /// How far back that is.
    pub(super) fn span(self, now: Timestamp) -> SignedDuration {
        SignedDuration::from_secs(now.as_second().saturating_sub(self.from(now)))
    }

    /// `14:00` or `Jan 2`.
    fn label(self, at: Timestamp) -> String {
        at.strftime(match self {
            Self::Day => "%H:%M",
            Self::Fortnight => "%b %-d",
        })
        .to_string()
    }

    /// Which steps are labelled.
    fn is_labelled(self, step: usize, at: Timestamp) -> bool {
        match self {
            Self::Day => at.as_second().div_euclid(3600) % 6 == 0,
            Self::Fortnight => step % 4 == 1,
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

/// What a bar is made of, from the bottom up: how it looks, and what it counts.
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

pub(super) struct Throughput {
    pub(super) chart: Svg,
    /// Each kind there is: its name in the stylesheet, its word, how many.
    pub(super) legend: Vec<(&'static str, &'static str, u64)>,
    pub(super) total: u64,
}

pub(super) fn throughput(ended: &[EndedRuns], range: Range, now: Timestamp) -> Throughput {
    let steps = steps(ended, range, now);
    let sums = steps.iter().fold(Counts::default(), |mut sums, counts| {
        for (sum, count) in sums.iter_mut().zip(counts) {
            *sum += count;
        }
        sums
    });
    let legend = Kind::ALL.into_iter().zip(sums).filter(|(_, count)| *count > 0);
    Throughput {
        chart: draw(&steps, sums, range, now),
        legend: legend.map(|(kind, count)| (kind.name(), kind.word(), count)).collect(),
        total: sums.iter().sum(),
    }
}

/// The counts of each step. What lies outside is left out.
fn steps(ended: &[EndedRuns], range: Range, now: Timestamp) -> Vec<Counts> {
    let mut steps = vec![Counts::default(); range.steps()];
    for EndedRuns { hour, outcome, runs } in ended {
        let step = (hour.as_second() - range.from(now)).div_euclid(range.step_secs());
        if let Some(counts) = usize::try_from(step).ok().and_then(|step| steps.get_mut(step)) {
            counts[Kind::of(*outcome) as usize] += runs;
        }
    }
    steps
}

#[expect(clippy::cast_precision_loss, reason = "a chart has some hundred dots")]
fn draw(steps: &[Counts], sums: Counts, range: Range, now: Timestamp) -> Svg {
    let highest = steps.iter().map(|counts| counts.iter().sum()).max().unwrap_or(0);
    let top = round_up(highest);
    let plot = HEIGHT - TOP - BOTTOM;
    let y = |runs: u64| HEIGHT - BOTTOM - runs as f64 / top as f64 * plot;
    let place = 100.0 / steps.len() as f64;
    let told = format!("{} ended in the last {}", words::count(sums.iter().sum(), "run"), range.word());
    let told = [told, tell(sums)].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ");
    let mut svg = format!("<svg class=\"bars\" width=\"100%\" height=\"{HEIGHT}\" role=\"img\" aria-label=\"{told}\">");
    let mut write = |text: std::fmt::Arguments<'_>| svg.write_fmt(text).expect("writing to a string works");
    for (i, counts) in steps.iter().enumerate() {
        let at = range.from(now) + i64::try_from(i).unwrap_or_default() * range.step_secs();
        let at = Timestamp::from_second(at).unwrap_or(now);
        let x = i as f64 * place;
        if range.is_labelled(i, at) {
            let label = range.label(at);
            write(format_args!(
                "<text class=\"time\" x=\"{:.2}%\" y=\"{:.0}\">{label}</text>",
                x + place / 2.0,
                HEIGHT - 4.0
            ));
        }
        let what = tell(*counts);
        let what = if what.is_empty() { "nothing ended" } else { &what };
        write(format_args!("<g><title>{}: {what}</title>", title(range, at)));
        // What can be pointed at is as high as the chart.
        write(format_args!(
            "<rect class=\"spot\" x=\"{x:.2}%\" y=\"0\" width=\"{place:.2}%\" height=\"{:.0}\"/>",
            HEIGHT - BOTTOM
        ));
        let mut below = 0;
        for (kind, count) in Kind::ALL.into_iter().zip(counts).filter(|(_, count)| **count > 0) {
            let (from, to) = (y(below), y(below + count));
            // One run among thousands is seen as well.
            let height = (from - to).max(1.5);
            write(format_args!(
                "<rect class=\"is-{}\" x=\"{:.2}%\" y=\"{:.1}\" width=\"{:.2}%\" height=\"{height:.1}\"/>",
                kind.name(),
                x + place * 0.12,
                from - height,
                place * 0.76,
            ));
            below += count;
        }
        write(format_args!("</g>"));
    }
    for runs in [top, top / 2, 0].into_iter().filter(|runs| *runs * 2 == top || *runs == top || *runs == 0) {
        let height = y(runs);
        write(format_args!("<line x1=\"0\" x2=\"100%\" y1=\"{height:.1}\" y2=\"{height:.1}\"/>"));
        if runs > 0 {
            write(format_args!("<text class=\"scale\" x=\"0\" y=\"{:.1}\">{runs}</text>", height - 4.0));
        }
    }
    svg.push_str("</svg>");
    Svg::drawn(svg)
}

/// `2026-01-02 14:00–15:00 UTC`, `2026-01-02`
fn title(range: Range, at: Timestamp) -> String {
    let day = at.strftime("%Y-%m-%d");
    match range {
        Range::Day => {
            let end = at.saturating_add(SignedDuration::from_hours(1)).unwrap_or(at);
            format!("{day} {}–{} UTC", at.strftime("%H:%M"), end.strftime("%H:%M"))
        }
        Range::Fortnight => format!("{day} UTC"),
    }
}

/// `3 succeeded, 1 failed`
fn tell(counts: Counts) -> String {
    let told = Kind::ALL.into_iter().zip(counts).filter(|(_, count)| *count > 0);
    told.map(|(kind, count)| format!("{count} {}", kind.word())).collect::<Vec<_>>().join(", ")
}

/// The smallest of 2, 4, 10, 20, 40, 100 … that is not below, so that its half is whole, too.
fn round_up(highest: u64) -> u64 {
    let mut power = 1_u64;
    loop {
        for factor in [2, 4, 10] {
            let round = power.saturating_mul(factor);
            if round >= highest || round == u64::MAX {
                return round;
            }
        }
        power = power.saturating_mul(10);
    }
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
    fn what_is_asked_of_the_store_reaches_back_to_the_first_bar() {
        assert_eq!(Range::Day.span(now()), SignedDuration::from_secs(23 * 3600 + 245));
        assert!(Range::Fortnight.span(now()) > SignedDuration::from_hours(13 * 24));
    }

    #[test]
    fn a_chart_is_told_in_words_and_its_bars_are_to_scale() {
        let all =
            [ended("2026-01-02T03:00:00Z", Outcome::Succeeded, 3), ended("2026-01-02T02:00:00Z", Outcome::TimedOut, 1)];
        let Throughput { chart, legend, total } = throughput(&all, Range::Day, now());
        let svg = chart.to_string();
        assert_eq!(total, 4);
        assert_eq!(legend, [("succeeded", "succeeded", 3), ("timed-out", "timed out", 1)]);
        for part in [
            "aria-label=\"4 runs ended in the last 24 hours: 3 succeeded, 1 timed out\"",
            "<title>2026-01-02 03:00–04:00 UTC: 3 succeeded</title>",
            "class=\"is-succeeded\" x=\"96.33%\" y=\"40.5\" width=\"3.17%\" height=\"73.5\"",
            "class=\"is-timed-out\" x=\"92.17%\" y=\"89.5\" width=\"3.17%\" height=\"24.5\"",
        ] {
            assert!(svg.contains(part), "{part} is missing in {svg}");
        }
    }

    #[test]
    fn nothing_at_all_is_drawn_as_well() {
        let svg = throughput(&[], Range::Fortnight, now()).chart.to_string();
        assert!(svg.contains("0 runs ended in the last 14 days"), "{svg}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn a_scale_ends_at_a_round_number() {
        for (highest, top) in [(0, 2), (1, 2), (3, 4), (5, 10), (11, 20), (41, 100), (u64::MAX, u64::MAX)] {
            assert_eq!(round_up(highest), top);
        }
    }
}
