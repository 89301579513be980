//! How many runs waited over time: bars with the maximum of each step.

use jiff::Timestamp;

use super::bars::{Bar, bars};
use super::range::Range;
use super::svg::Svg;
use crate::http::ui::parts::words;
use crate::model::QueueDepth;

pub struct Waited {
    pub chart: Svg,
    /// The maximum number of runs waiting at once.
    pub most: u64,
}

pub fn waited(depths: &[QueueDepth], height: u32, range: Range, now: Timestamp) -> Waited {
    let mut steps = vec![0; range.steps()];
    for QueueDepth { from, waiting } in depths {
        if let Some(step) = range.step_of(*from, now) {
            steps[step] = steps[step].max(*waiting);
        }
    }
    let most = steps.iter().copied().max().unwrap_or(0);
    let told = format!("{} waited at once in the last {}", words::count(most, "run"), range.word());
    let drawn: Vec<_> = steps.into_iter().map(bar).collect();
    Waited { chart: bars(&drawn, &told, height, range, now), most }
}

fn bar(most: u64) -> Bar {
    let told =
        if most == 0 { "none was seen waiting".to_owned() } else { format!("{} at once", words::thousands(most)) };
    Bar { told, parts: vec![("queued", most)] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bar_is_the_most_that_waited_at_once() {
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let depth = |from: &str, waiting| QueueDepth { from: from.parse().unwrap(), waiting };
        let depths = [
            depth("2026-01-02T02:05:00Z", 1200),
            depth("2026-01-02T02:55:00Z", 7),
            depth("2026-01-01T03:55:00Z", 9000),
        ];
        let Waited { chart, most } = waited(&depths, 90, Range::Day, now);
        let svg = chart.to_string();
        assert_eq!(most, 1200, "what was before is left out");
        for part in [
            "\"1,200 runs waited at once in the last 24 hours\"",
            "02:00–03:00 UTC: 1,200 at once</title>",
            "03:00–04:00 UTC: none was seen waiting</title>",
        ] {
            assert!(svg.contains(part), "{part} is missing in {svg}");
        }
    }
}
