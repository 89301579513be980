//! Requested, limited and used resources of a run: each as a small bar, and over time if it was sampled.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::svg::Svg;
use super::usage::{Resource, course, round_up_bytes, round_up_millis};
use crate::http::ui::parts::words;
use crate::model::{Run, UsageSample, memory_text};

const MB: i64 = 1024 * 1024;
/// From this share on, a limit counts as nearly reached.
const NEARLY: f64 = 0.9;

pub struct Meter {
    pub name: &'static str,
    /// `64 MB` and `now` or `at its peak`; `None` if it was not measured.
    pub used: Option<(String, &'static str)>,
    /// What it is compared with: `limit 128 MB`, `asked for 128 MB`.
    pub beside: Option<String>,
    pub bar: Option<Svg>,
    pub course: Option<Svg>,
}

/// The known values of a resource.
#[derive(Default)]
struct Known {
    peak: Option<i64>,
    limit: Option<i64>,
    asked: Option<i64>,
}

const MEMORY: Resource =
    Resource { name: "Memory", of: |sample| sample.memory_bytes, word: memory_text, round_up: round_up_bytes };
const CPU: Resource = Resource {
    name: "CPU",
    of: |sample| sample.cpu_millis,
    // The measurements are no more precise than this.
    word: |millis| words::cores((millis + 5) / 10 * 10),
    round_up: round_up_millis,
};

/// One meter per resource; a resource without known values is left out.
pub fn meters(run: &Run, samples: &[UsageSample], now: Timestamp) -> Vec<Meter> {
    let usage = &run.usage;
    let memory = Known {
        peak: usage.max_memory_bytes,
        limit: usage.memory_limit_bytes,
        asked: run.task.memory_mb.filter(|mb| *mb > 0).map(|mb| mb.saturating_mul(MB)),
    };
    let cpu = Known {
        peak: usage.max_cpu_millis,
        limit: usage.cpu_limit_millis,
        asked: run.task.cpu_millis.filter(|millis| *millis > 0),
    };
    let mut meters = Vec::new();
    for (resource, known) in [(MEMORY, memory), (CPU, cpu)] {
        let time = run.started_at.map(|started_at| (started_at, run.finished_at.unwrap_or(now)));
        let mark = known.limit.map(|limit| (limit, "limit")).or(known.asked.map(|asked| (asked, "asked for")));
        let course = time.and_then(|time| course(samples, &resource, mark, time));
        let last = samples.iter().rev().find_map(resource.of);
        let last = last.map(|last| (last, if run.status.is_terminal() { "when it was last seen" } else { "now" }));
        meters.extend(meter(&resource, &known, last).map(|meter| Meter { course, ..meter }));
    }
    let plain = [
        ("GPUs", run.task.gpu.filter(|gpus| *gpus > 0).map(|gpus| gpus.to_string())),
        ("Scratch disk", run.task.ephemeral_storage_mb.filter(|mb| *mb > 0).map(words::megabytes)),
    ];
    meters.extend(plain.into_iter().filter_map(|(name, asked)| {
        asked.map(|asked| Meter {
            name,
            used: None,
            beside: Some(format!("asked for {asked}")),
            bar: None,
            course: None,
        })
    }));
    meters
}

fn meter(resource: &Resource, known: &Known, last: Option<(i64, &'static str)>) -> Option<Meter> {
    let Known { peak, limit, asked } = *known;
    let word = resource.word;
    let used = peak.map(|peak| (peak, "at its peak")).or(last);
    let whole = limit.or(asked).filter(|whole| *whole > 0);
    if used.is_none() && whole.is_none() {
        return None;
    }
    let beside = match (limit, asked) {
        (Some(limit), Some(asked)) if limit != asked => {
            Some(format!("limit {}, asked for {}", word(limit), word(asked)))
        }
        (Some(limit), _) => Some(format!("limit {}", word(limit))),
        (None, Some(asked)) => Some(format!("asked for {}", word(asked))),
        (None, None) => None,
    };
    let bar = used.zip(whole).map(|((used, _), whole)| bar(used, whole));
    let used = used.map(|(used, when)| (word(used), when));
    Some(Meter { name: resource.name, used, beside, bar, course: None })
}

/// The used share of the whole; more than the whole fills the bar.
pub fn bar(used: i64, whole: i64) -> Svg {
    #[expect(clippy::cast_precision_loss, reason = "a bar has some hundred dots")]
    let share = (used as f64 / whole.max(1) as f64).clamp(0.0, 1.0);
    let class = if share >= NEARLY { "is-high" } else { "is-low" };
    let percent = share * 100.0;
    let mut svg = String::new();
    write!(
        svg,
        "<svg class=\"meter\" width=\"100%\" height=\"6\" role=\"img\" aria-label=\"{percent:.0} %\"><rect class=\"track\" width=\"100%\" height=\"6\" rx=\"3\"/><rect class=\"{class}\" width=\"{percent:.1}%\" height=\"6\" rx=\"3\"/></svg>"
    )
    .expect("writing to a string works");
    Svg::drawn(svg)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::sample;
    use crate::model::{TaskSpec, Usage};

    fn with(usage: Usage, memory_mb: Option<i64>) -> Vec<Meter> {
        let run = sample::run();
        meters(&Run { usage, task: TaskSpec { memory_mb, ..run.task.clone() }, ..run }, &[], sample::now())
    }

    #[test]
    fn what_was_used_is_compared_with_the_limit_before_what_was_asked_for() {
        let usage = Usage { max_memory_bytes: Some(60 * MB), memory_limit_bytes: Some(64 * MB), ..Usage::default() };
        let meters = with(usage, Some(32));
        assert_eq!(meters.len(), 1);
        assert_eq!(meters[0].used, Some(("60 MB".to_owned(), "at its peak")));
        assert_eq!(meters[0].beside.as_deref(), Some("limit 64 MB, asked for 32 MB"));
        let bar = meters[0].bar.as_ref().unwrap().to_string();
        assert!(bar.contains("class=\"is-high\" width=\"93.8%\""), "{bar}");
    }

    #[test]
    fn what_is_not_known_is_not_drawn() {
        assert!(with(Usage::default(), None).is_empty());
        let asked = with(Usage::default(), Some(64));
        assert_eq!(asked[0].beside.as_deref(), Some("asked for 64 MB"));
        assert!(asked[0].bar.is_none() && asked[0].used.is_none());
        let used = with(Usage { max_memory_bytes: Some(1 << 10), ..Usage::default() }, None);
        assert_eq!((used[0].used.clone(), used[0].beside.as_deref()), (Some(("1 KB".to_owned(), "at its peak")), None));
        assert!(used[0].bar.is_none());
    }

    #[test]
    fn a_run_that_goes_on_tells_what_it_uses_now_and_how_it_came_to_it() {
        let now = sample::now();
        let run = Run { started_at: Some(now), ..sample::run() };
        let sample = |second, cpu| UsageSample {
            at: now + jiff::SignedDuration::from_secs(second),
            memory_bytes: None,
            cpu_millis: Some(cpu),
        };
        let meters = meters(&run, &[sample(1, 900), sample(2, 250)], now);
        let cpu = meters.iter().find(|meter| meter.name == "CPU").unwrap();
        assert_eq!(cpu.used, Some(("0.25 cores".to_owned(), "now")));
        assert!(cpu.course.as_ref().unwrap().to_string().contains("0.9 cores at most"));
        assert!(meters.iter().any(|meter| meter.name == "Memory" && meter.course.is_none()));
    }

    #[test]
    fn more_than_the_whole_fills_the_bar() {
        assert!(bar(200, 100).to_string().contains("width=\"100.0%\""));
        assert!(bar(0, 0).to_string().contains("width=\"0.0%\""));
    }
}
