//! Stacked bars over time. Widths are percentages, so that text keeps its size on a narrow page.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::range::Range;
use super::svg::Svg;

/// Pixels above the highest bar, for the scale's label.
const TOP: f64 = 16.0;
/// Pixels below the bars, for the time labels.
const BOTTOM: f64 = 18.0;

/// One step of the range.
#[derive(Debug, Default)]
pub struct Bar {
    /// `3 succeeded, 1 failed`
    pub told: String,
    /// From the bottom up: the stylesheet name, and the count.
    pub parts: Vec<(&'static str, u64)>,
}

/// One bar for each step of the range. `told` is the summary of the whole chart.
#[expect(clippy::cast_precision_loss, reason = "a chart has some hundred dots")]
pub fn bars(bars: &[Bar], told: &str, height: u32, range: Range, now: Timestamp) -> Svg {
    let full_height = f64::from(height);
    let highest = bars.iter().map(|bar| bar.parts.iter().map(|(_, count)| count).sum()).max().unwrap_or(0);
    let top = round_up(highest);
    let plot = full_height - TOP - BOTTOM;
    let y = |count: u64| full_height - BOTTOM - count as f64 / top as f64 * plot;
    let place = 100.0 / bars.len().max(1) as f64;
    let mut svg = format!("<svg class=\"bars\" width=\"100%\" height=\"{height}\" role=\"img\" aria-label=\"{told}\">");
    let mut write = |text: std::fmt::Arguments<'_>| svg.write_fmt(text).expect("writing to a string works");
    for count in [top, top / 2, 0] {
        let height = y(count);
        write(format_args!("<line x1=\"0\" x2=\"100%\" y1=\"{height:.1}\" y2=\"{height:.1}\"/>"));
    }
    for (i, Bar { told, parts }) in bars.iter().enumerate() {
        let at = range.at(i, now);
        let x = i as f64 * place;
        if range.is_labelled(i, at) {
            let label = range.label(at);
            write(format_args!(
                "<text class=\"time\" x=\"{:.2}%\" y=\"{:.0}\">{label}</text>",
                x + place / 2.0,
                full_height - 4.0
            ));
        }
        write(format_args!("<g><title>{}: {told}</title>", range.title(at)));
        // The hover area is as high as the chart.
        write(format_args!(
            "<rect class=\"spot\" x=\"{x:.2}%\" y=\"0\" width=\"{place:.2}%\" height=\"{:.0}\"/>",
            full_height - BOTTOM
        ));
        let mut below = 0;
        for (name, count) in parts.iter().filter(|(_, count)| *count > 0) {
            let (from, to) = (y(below), y(below + count));
            // Even one run among thousands is visible.
            let height = (from - to).max(1.5);
            write(format_args!(
                "<rect class=\"is-{name}\" x=\"{:.2}%\" y=\"{:.1}\" width=\"{:.2}%\" height=\"{height:.1}\"/>",
                x + place * 0.12,
                from - height,
                place * 0.76,
            ));
            below += count;
        }
        write(format_args!("</g>"));
    }
    for count in [top, top / 2] {
        write(format_args!("<text class=\"scale\" x=\"0\" y=\"{:.1}\">{count}</text>", y(count) - 4.0));
    }
    svg.push_str("</svg>");
    Svg::drawn(svg)
}

/// The smallest of 2, 4, 10, 20, 40, 100 … that is not below `highest`; half of it is also an integer.
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

    #[test]
    fn bars_are_to_scale() {
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let mut all: Vec<_> = (0..24).map(|_| Bar::default()).collect();
        all[23] = Bar { told: "3 good".to_owned(), parts: vec![("succeeded", 3)] };
        all[22] = Bar { told: "1 late".to_owned(), parts: vec![("succeeded", 0), ("timed-out", 1)] };
        let svg = bars(&all, "4 in all", 132, Range::Day, now).to_string();
        for part in [
            "aria-label=\"4 in all\"",
            "<title>2026-01-02 03:00–04:00 UTC: 3 good</title>",
            "class=\"is-succeeded\" x=\"96.33%\" y=\"40.5\" width=\"3.17%\" height=\"73.5\"",
            "class=\"is-timed-out\" x=\"92.17%\" y=\"89.5\" width=\"3.17%\" height=\"24.5\"",
        ] {
            assert!(svg.contains(part), "{part} is missing in {svg}");
        }
    }

    #[test]
    fn nothing_at_all_is_drawn_as_well() {
        let svg = bars(&[], "nothing", 60, Range::Fortnight, Timestamp::UNIX_EPOCH).to_string();
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn a_scale_ends_at_a_round_number() {
        for (highest, top) in [(0, 2), (1, 2), (3, 4), (5, 10), (11, 20), (41, 100), (u64::MAX, u64::MAX)] {
            assert_eq!(round_up(highest), top);
        }
    }
}
