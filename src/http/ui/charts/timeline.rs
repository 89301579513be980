//! A run's timeline, drawn to scale: its attempts one below the other, each with its phases.
//!
//! [`attempts`] derives the phases from the run's times and events; the drawing code only measures.

use std::fmt::Write as _;

use jiff::{SignedDuration, Timestamp};

use super::svg::{Svg, round_step, scale_word};
use crate::http::ui::parts::state::Badge;
use crate::http::ui::parts::words;
use crate::model::{Event, Run};

/// Maximum number of attempts drawn: the newest. For a run that is retried for hours, the hundredth adds no
/// information.
const MOST_ROWS: usize = 5;
const BAR_HEIGHT: u32 = 22;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Queued,
    Starting,
    Fetching,
    /// The image could not be fetched, and the same attempt will try again.
    BackingOff,
    Running,
    /// Waiting to retry.
    Waiting,
}

impl Phase {
    const ALL: [Self; 6] =
        [Self::Queued, Self::Starting, Self::Fetching, Self::BackingOff, Self::Running, Self::Waiting];

    /// The name used by the stylesheet.
    const fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Starting => "starting",
            Self::Fetching => "fetching",
            Self::Running => "running",
            Self::BackingOff | Self::Waiting => "waiting",
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Queued => "Queued",
            Self::Starting => "Starting",
            Self::Fetching => "Fetching the image",
            Self::BackingOff => "Waiting to fetch the image again",
            Self::Running => "Running",
            Self::Waiting => "Waiting for the next try",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub phase: Phase,
    pub from: Timestamp,
    pub to: Timestamp,
}

impl Span {
    fn duration(self) -> SignedDuration {
        self.to.duration_since(self.from)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    pub number: u32,
    pub spans: Vec<Span>,
}

/// An event that moves a run from one phase to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Queue,
    Dispatch,
    Fetch,
    FetchFailed,
    Fetched,
    Start,
    Retry,
}

/// The attempts of a run, oldest first. If the oldest events are missing from `events`, so are their steps.
pub fn attempts(run: &Run, events: &[Event], now: Timestamp) -> Vec<Attempt> {
    let end = run.finished_at.unwrap_or(now).max(run.queued_at);
    let mut rows = vec![Vec::new()];
    let (mut phase, mut since) = (Phase::Queued, run.queued_at);
    for (at, step) in steps(run, events) {
        let next = match (phase, step) {
            (Phase::Queued, Step::Dispatch) | (Phase::Fetching | Phase::BackingOff, Step::Fetched) => Phase::Starting,
            (Phase::Queued | Phase::Starting | Phase::BackingOff, Step::Fetch) => Phase::Fetching,
            (Phase::Starting | Phase::Fetching, Step::FetchFailed) => Phase::BackingOff,
            (Phase::Queued | Phase::Starting | Phase::Fetching | Phase::BackingOff, Step::Start) => Phase::Running,
            (Phase::Starting | Phase::Fetching | Phase::BackingOff, Step::Retry) => Phase::Waiting,
            (Phase::Waiting, Step::Queue) => Phase::Queued,
            _ => continue,
        };
        // With clock differences between machines, a step may appear earlier than its predecessor.
        let at = at.clamp(since, end);
        push(&mut rows, Span { phase, from: since, to: at });
        if step == Step::Queue {
            rows.push(Vec::new());
        }
        (phase, since) = (next, at);
    }
    push(&mut rows, Span { phase, from: since, to: end });
    // A queued run waits for an attempt that has no number yet.
    let last = (run.attempt_count + u32::from(phase == Phase::Queued)).max(1);
    let oldest = last.saturating_sub(u32::try_from(rows.len()).unwrap_or(u32::MAX) - 1).max(1);
    rows.into_iter().zip(oldest..).map(|(spans, number)| Attempt { number, spans }).collect()
}

fn push(rows: &mut [Vec<Span>], span: Span) {
    if span.to > span.from
        && let Some(row) = rows.last_mut()
    {
        row.push(span);
    }
}

fn steps(run: &Run, events: &[Event]) -> Vec<(Timestamp, Step)> {
    let mut steps: Vec<_> = events.iter().filter_map(|event| Some((event.timestamp, step(event)?))).collect();
    steps.extend(run.started_at.map(|at| (at, Step::Start)));
    steps.sort_by_key(|(at, _)| *at);
    steps
}

fn step(event: &Event) -> Option<Step> {
    Some(match event.reason.as_str() {
        "Queued" => Step::Queue,
        "Dispatched" => Step::Dispatch,
        "Pulling" => Step::Fetch,
        "Pulled" => Step::Fetched,
        // A Kubernetes node fetches again by itself and reports each try in the same words, which are stored once.
        "Failed" if event.message.starts_with("Failed to pull image ") => Step::FetchFailed,
        "BackOff" if event.message.starts_with("Back-off pulling image ") => Step::FetchFailed,
        "NeedsRetry" => Step::Retry,
        _ => return None,
    })
}

/// A timeline, row by row.
pub struct Timeline {
    /// Each attempt's label, if there are several, and its bar.
    pub rows: Vec<(String, Svg)>,
    pub axis: Svg,
    /// Each phase: its stylesheet name, its word, and its total duration.
    pub legend: Vec<(&'static str, &'static str, String)>,
    /// Number of earlier attempts that are not drawn.
    pub left_out: Option<String>,
}

pub fn draw(run: &Run, attempts: &[Attempt]) -> Timeline {
    let left_out = attempts.len().saturating_sub(MOST_ROWS);
    let shown = &attempts[left_out..];
    let spans = || shown.iter().flat_map(|attempt| &attempt.spans);
    let from = spans().map(|span| span.from).min().unwrap_or(run.queued_at);
    let to = spans().map(|span| span.to).max().unwrap_or(from);
    let scale = Scale { from, length: to.duration_since(from) };
    let look = Badge::new(run.status, run.outcome);
    let is_single = attempts.len() == 1;
    let rows = shown.iter().map(|attempt| {
        let label = if is_single { String::new() } else { format!("Attempt {}", attempt.number) };
        (label, bar(attempt, run, look, scale))
    });
    Timeline {
        rows: rows.collect(),
        axis: axis(scale.length),
        legend: legend(shown, look),
        left_out: (left_out > 0).then(|| words::count(left_out as u64, "attempt")),
    }
}

#[derive(Clone, Copy)]
struct Scale {
    from: Timestamp,
    length: SignedDuration,
}

impl Scale {
    fn percent(self, length: SignedDuration) -> f64 {
        if self.length.is_zero() { 0.0 } else { length.as_secs_f64() / self.length.as_secs_f64() * 100.0 }
    }

    fn place(self, at: Timestamp) -> f64 {
        self.percent(at.duration_since(self.from))
    }
}

/// Positions are percentages, so that the bar fills the width of the page.
fn bar(attempt: &Attempt, run: &Run, look: Badge, scale: Scale) -> Svg {
    let told: Vec<_> = attempt
        .spans
        .iter()
        .map(|span| format!("{} {}", span.phase.word().to_lowercase(), words::duration(span.duration())))
        .collect();
    let told = if told.is_empty() { "nothing yet".to_owned() } else { told.join(", ") };
    let mut svg = format!(
        "<svg class=\"bar\" width=\"100%\" height=\"{BAR_HEIGHT}\" role=\"img\" aria-label=\"Attempt {}: {told}\">",
        attempt.number
    );
    for span in &attempt.spans {
        write!(
            svg,
            "<rect class=\"phase-{}\" x=\"{:.3}%\" y=\"3\" width=\"{:.3}%\" height=\"{}\"><title>{} {}</title></rect>",
            class(span.phase, look),
            scale.place(span.from),
            scale.percent(span.duration()),
            BAR_HEIGHT - 6,
            span.phase.word(),
            words::duration(span.duration()),
        )
        .expect("writing to a string works");
    }
    let ends = attempt.spans.first().map(|span| span.from).zip(attempt.spans.last().map(|span| span.to));
    if let (Some(stop), Some((from, to))) = (&run.stop, ends)
        && (from..=to).contains(&stop.at)
    {
        let place = scale.place(stop.at);
        write!(
            svg,
            "<line class=\"mark\" x1=\"{place:.3}%\" x2=\"{place:.3}%\" y1=\"0\" y2=\"{BAR_HEIGHT}\"><title>Asked to stop</title></line>"
        )
        .expect("writing to a string works");
    }
    svg.push_str("</svg>");
    Svg::drawn(svg)
}

/// The running phase is coloured by the run's outcome.
const fn class(phase: Phase, look: Badge) -> &'static str {
    match phase {
        Phase::Running => look.name,
        _ => phase.name(),
    }
}

/// The time axis from the start, in a few round steps.
fn axis(length: SignedDuration) -> Svg {
    let mut svg = "<svg class=\"axis\" width=\"100%\" height=\"20\" aria-hidden=\"true\">".to_owned();
    let length = length.as_secs_f64();
    let step = round_step(length / 4.0);
    for at in (0..=4).map(|i| f64::from(i) * step).take_while(|at| *at <= length) {
        let percent = if length > 0.0 { at / length * 100.0 } else { 0.0 };
        let anchor = match percent {
            ..3.0 => "start",
            ..94.0 => "middle",
            _ => "end",
        };
        let word = scale_word(at);
        write!(
            svg,
            "<line x1=\"{percent:.3}%\" x2=\"{percent:.3}%\" y1=\"0\" y2=\"4\"/><text x=\"{percent:.3}%\" y=\"16\" text-anchor=\"{anchor}\">{word}</text>"
        )
        .expect("writing to a string works");
    }
    svg.push_str("</svg>");
    Svg::drawn(svg)
}

fn legend(attempts: &[Attempt], look: Badge) -> Vec<(&'static str, &'static str, String)> {
    let mut legend = Vec::new();
    for phase in Phase::ALL {
        let spans = attempts.iter().flat_map(|attempt| &attempt.spans).filter(|span| span.phase == phase);
        let took = spans
            .map(|span| span.duration())
            .fold(None, |sum: Option<SignedDuration>, one| Some(sum.unwrap_or_default().saturating_add(one)));
        if let Some(took) = took {
            legend.push((class(phase, look), phase.word(), words::duration(took)));
        }
    }
    legend
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::sample;
    use crate::model::{Outcome, Status, StopCause, StopRequest};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn event(second: i64, reason: &str) -> Event {
        Event::normal(at(second), reason, "<b>")
    }

    fn run(status: Status, attempt_count: u32) -> Run {
        Run { status, attempt_count, queued_at: at(0), started_at: None, finished_at: None, ..sample::run() }
    }

    fn phases(attempt: &Attempt) -> Vec<(&'static str, i64, i64)> {
        let spans = attempt.spans.iter();
        spans.map(|span| (span.phase.name(), span.from.as_second(), span.to.as_second())).collect()
    }

    #[test]
    fn a_run_goes_through_its_phases_to_its_end() {
        let run = Run {
            started_at: Some(at(10)),
            finished_at: Some(at(30)),
            outcome: Some(Outcome::Succeeded),
            ..run(Status::Stopped, 1)
        };
        let events = [event(0, "Queued"), event(2, "Dispatched"), event(3, "Pulling"), event(9, "Pulled")];
        let attempts = attempts(&run, &events, at(99));
        assert_eq!(attempts.len(), 1);
        let expected =
            [("queued", 0, 2), ("starting", 2, 3), ("fetching", 3, 9), ("starting", 9, 10), ("running", 10, 30)];
        assert_eq!(phases(&attempts[0]), expected);
    }

    #[test]
    fn what_goes_on_goes_on_until_now() {
        assert_eq!(phases(&attempts(&run(Status::Queued, 0), &[event(0, "Queued")], at(7))[0]), [("queued", 0, 7)]);
        let pulling = [event(2, "Dispatched"), event(3, "Pulling"), event(5, "Pulling")];
        let attempts = attempts(&run(Status::Pending, 1), &pulling, at(7));
        assert_eq!(phases(&attempts[0]), [("queued", 0, 2), ("starting", 2, 3), ("fetching", 3, 7)]);
    }

    #[test]
    fn an_image_that_is_tried_again_is_not_being_fetched_meanwhile() {
        let said = |second, reason: &str, message: &str| Event::warning(at(second), reason, message);
        let mut events = vec![
            event(1, "Dispatched"),
            event(2, "Pulling"),
            said(4, "Failed", "Failed to pull image \"r/x:1\": no such host"),
            said(4, "Failed", "Error: ErrImagePull"),
            said(5, "BackOff", "Back-off pulling image \"r/x:1\""),
        ];
        let run = run(Status::Pending, 1);
        let before = [("queued", 0, 1), ("starting", 1, 2), ("fetching", 2, 4)];
        assert_eq!(phases(&attempts(&run, &events, at(50))[0]), [before.as_slice(), &[("waiting", 4, 50)]].concat());
        let timeline = draw(&run, &attempts(&run, &events, at(50)));
        let told: Vec<_> = timeline.legend.iter().map(|(_, word, took)| (*word, took.as_str())).collect();
        assert_eq!(told[2..], [("Fetching the image", "2.0 s"), ("Waiting to fetch the image again", "46.0 s")]);
        let tried_again = [events.as_slice(), &[event(50, "NeedsRetry"), event(51, "Queued")]].concat();
        assert_eq!(attempts(&run, &tried_again, at(60)).len(), 2);
        events.push(event(45, "Pulled"));
        let run = Run { started_at: Some(at(46)), ..run };
        let after = [("waiting", 4, 45), ("starting", 45, 46), ("running", 46, 50)];
        assert_eq!(phases(&attempts(&run, &events, at(50))[0]), [before.as_slice(), &after].concat());
    }

    #[test]
    fn each_try_is_an_attempt_of_its_own() {
        let events = [
            event(0, "Queued"),
            event(1, "Dispatched"),
            event(3, "NeedsRetry"),
            event(4, "Queued"),
            event(6, "Dispatched"),
        ];
        let run = Run { started_at: Some(at(8)), ..run(Status::Running, 2) };
        let attempts = attempts(&run, &events, at(9));
        assert_eq!(attempts.iter().map(|attempt| attempt.number).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(phases(&attempts[0]), [("queued", 0, 1), ("starting", 1, 3), ("waiting", 3, 4)]);
        assert_eq!(phases(&attempts[1]), [("queued", 4, 6), ("starting", 6, 8), ("running", 8, 9)]);
    }

    #[test]
    fn one_that_is_queued_again_waits_for_its_next_attempt() {
        let events = [event(1, "Dispatched"), event(3, "NeedsRetry"), event(4, "Queued")];
        let attempts = attempts(&run(Status::Queued, 1), &events, at(9));
        assert_eq!(attempts.last().map(|attempt| attempt.number), Some(2));
    }

    #[test]
    fn clocks_that_differ_never_turn_a_phase_around() {
        let run = Run {
            started_at: Some(at(-5)),
            finished_at: Some(at(-1)),
            outcome: Some(Outcome::Failed),
            ..run(Status::Stopped, 1)
        };
        for attempt in attempts(&run, &[event(2, "Dispatched")], at(9)) {
            assert!(attempt.spans.iter().all(|span| span.from < span.to), "{attempt:?}");
        }
        draw(&run, &attempts(&run, &[], at(9)));
    }

    #[test]
    fn a_drawing_is_to_scale_and_told_in_words() {
        let stop = Some(StopRequest::new(StopCause::Request, at(6)));
        let run = Run {
            started_at: Some(at(2)),
            finished_at: Some(at(8)),
            outcome: Some(Outcome::Stopped),
            stop,
            ..run(Status::Stopped, 1)
        };
        let timeline = draw(&run, &attempts(&run, &[event(1, "Dispatched")], at(9)));
        let bar = timeline.rows[0].1.to_string();
        for part in [
            "aria-label=\"Attempt 1: queued 1.0 s, starting 1.0 s, running 6.0 s\"",
            "class=\"phase-queued\" x=\"0.000%\" y=\"3\" width=\"12.500%\"",
            "class=\"phase-stopped\" x=\"25.000%\" y=\"3\" width=\"75.000%\"",
            "class=\"mark\" x1=\"75.000%\"",
        ] {
            assert!(bar.contains(part), "{part} is missing in {bar}");
        }
        let axis = timeline.axis.to_string();
        assert_eq!(axis.matches("<text").count(), 5, "{axis}");
        assert!(axis.contains(">0<") && axis.contains(">8 s<"), "{axis}");
        assert_eq!(
            timeline.legend.iter().map(|(_, word, _)| *word).collect::<Vec<_>>(),
            ["Queued", "Starting", "Running"]
        );
    }

    #[test]
    fn only_the_newest_attempts_are_drawn() {
        let tries = (0..40)
            .flat_map(|i| [event(i * 10, "Queued"), event(i * 10 + 1, "Dispatched"), event(i * 10 + 2, "NeedsRetry")]);
        let run = run(Status::NeedsRetry, 40);
        let attempts = attempts(&run, &tries.collect::<Vec<_>>(), at(400));
        let timeline = draw(&run, &attempts);
        assert_eq!((timeline.rows.len(), timeline.left_out.as_deref()), (MOST_ROWS, Some("35 attempts")));
        assert_eq!(timeline.rows.last().unwrap().0, "Attempt 40");
    }
}
