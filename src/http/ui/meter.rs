//! What a run asked for, what it was limited to and what it used at most, each resource as a small bar.

use std::fmt::Write as _;

use super::chart::Svg;
use super::words;
use crate::model::Run;

const MB: i64 = 1024 * 1024;
/// From here on a limit is as good as reached.
const NEARLY: f64 = 0.9;

pub(super) struct Meter {
    pub(super) name: &'static str,
    /// `64 MB`; `None` where it was not measured.
    pub(super) used: Option<String>,
    /// What it is to be compared with: `limit 128 MB`, `asked for 128 MB`.
    pub(super) beside: Option<String>,
    pub(super) bar: Option<Svg>,
}

/// What is known of each resource; one of which nothing is known is left out.
pub(super) fn meters(run: &Run) -> Vec<Meter> {
    let megabytes = |bytes: i64| words::megabytes(bytes / MB + i64::from(bytes % MB > 0));
    let usage = &run.usage;
    let asked_memory = run.task.memory_mb.filter(|mb| *mb > 0).map(|mb| mb.saturating_mul(MB));
    let asked_cpu = run.task.cpu_millis.filter(|millis| *millis > 0);
    let mut meters = Vec::new();
    meters.extend(meter("Memory", usage.max_memory_bytes, usage.memory_limit_bytes, asked_memory, megabytes));
    meters.extend(meter("CPU", usage.max_cpu_millis, usage.cpu_limit_millis, asked_cpu, words::cores));
    let plain = [
        ("GPUs", run.task.gpu.filter(|gpus| *gpus > 0).map(|gpus| gpus.to_string())),
        ("Scratch disk", run.task.ephemeral_storage_mb.filter(|mb| *mb > 0).map(words::megabytes)),
    ];
    meters.extend(plain.into_iter().filter_map(|(name, asked)| {
        asked.map(|asked| Meter { name, used: None, beside: Some(format!("asked for {asked}")), bar: None })
    }));
    meters
}

fn meter(
    name: &'static str,
    used: Option<i64>,
    limit: Option<i64>,
    asked: Option<i64>,
    word: impl Fn(i64) -> String,
) -> Option<Meter> {
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
    let bar = used.zip(whole).map(|(used, whole)| bar(used, whole));
    Some(Meter { name, used: used.map(word), beside, bar })
}

/// How much of the whole was used; what is more than the whole fills the bar.
pub(super) fn bar(used: i64, whole: i64) -> Svg {
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
    use crate::http::ui::sample;
    use crate::model::{TaskSpec, Usage};

    fn with(usage: Usage, memory_mb: Option<i64>) -> Vec<Meter> {
        let run = sample::run();
        meters(&Run { usage, task: TaskSpec { memory_mb, ..run.task.clone() }, ..run })
    }

    #[test]
    fn what_was_used_is_compared_with_the_limit_before_what_was_asked_for() {
        let usage = Usage { max_memory_bytes: Some(60 * MB), memory_limit_bytes: Some(64 * MB), ..Usage::default() };
        let meters = with(usage, Some(32));
        assert_eq!(meters.len(), 1);
        assert_eq!(meters[0].used.as_deref(), Some("60 MB"));
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
        let used = with(Usage { max_memory_bytes: Some(1), ..Usage::default() }, None);
        assert_eq!((used[0].used.as_deref(), used[0].beside.as_deref()), (Some("1 MB"), None));
        assert!(used[0].bar.is_none());
    }

    #[test]
    fn more_than_the_whole_fills_the_bar() {
        assert!(bar(200, 100).to_string().contains("width=\"100.0%\""));
        assert!(bar(0, 0).to_string().contains("width=\"0.0%\""));
    }
}
