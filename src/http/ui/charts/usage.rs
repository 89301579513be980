//! Resource usage of a run over time, one chart per resource: usage as an area, and the limit or request as a line if
//! it is close enough to compare. Widths are percentages, so that text keeps its size on any page.

use std::fmt::Write as _;

use jiff::{SignedDuration, Timestamp};

use super::svg::Svg;
use crate::http::ui::parts::words;
use crate::model::UsageSample;

/// Pixels.
const HEIGHT: f64 = 72.0;
/// Space above the area, for the scale's label.
const TOP: f64 = 14.0;
/// As many as can be distinguished in a narrow column.
const MOST_POINTS: usize = 96;
/// The value that usage is compared with, and its name: `limit`, `asked for`.
pub type Mark = (i64, &'static str);

/// A mark more than this many times the peak is left out, since it would flatten the curve.
const FAR: i64 = 3;
/// Samples that are this many times further apart than usual, and at least this long, leave a gap.
const GAP_TIMES: i32 = 5;
const GAP: SignedDuration = SignedDuration::from_secs(30);

/// The resource that is drawn, and how its amounts are formatted.
pub struct Resource {
    pub name: &'static str,
    pub of: fn(&UsageSample) -> Option<i64>,
    pub word: fn(i64) -> String,
    /// Rounds up to the end of the scale: a round number times a power of ten or of two.
    pub round_up: fn(i64) -> i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Point {
    at: Timestamp,
    /// Start of the interval on the time axis that this value covers.
    from: Timestamp,
    value: i64,
    /// The usage before it is unknown.
    is_after_gap: bool,
}

/// The chart, from the start of the run to its end or now; `None` if there are too few samples to show a curve.
pub fn course(
    samples: &[UsageSample],
    resource: &Resource,
    mark: Option<Mark>,
    (start, end): (Timestamp, Timestamp),
) -> Option<Svg> {
    let points = points(samples, resource.of, start);
    if points.len() < 2 {
        return None;
    }
    let end = points.last()?.at.max(end);
    let most = points.iter().map(|point| point.value).max()?;
    let mark = mark.filter(|(value, _)| *value / FAR <= most);
    let top = (resource.round_up)(most.max(mark.map_or(0, |(value, _)| value)).max(1));
    Some(draw(&points, resource, (most, mark, top), (start, end)))
}

fn points(samples: &[UsageSample], of: fn(&UsageSample) -> Option<i64>, start: Timestamp) -> Vec<Point> {
    let mut samples: Vec<_> =
        samples.iter().filter(|sample| of(sample).is_some() && sample.at >= start).copied().collect();
    while samples.len() > MOST_POINTS {
        samples = UsageSample::halve(&samples);
    }
    let mut gaps: Vec<_> = samples.windows(2).map(|pair| pair[1].at.duration_since(pair[0].at)).collect();
    gaps.sort_unstable();
    let usual = gaps.get(gaps.len() / 2).copied().unwrap_or_default();
    let longest = (usual * GAP_TIMES).max(GAP);
    let mut from = start;
    let points = samples.into_iter().map(|sample| {
        let is_after_gap = sample.at.duration_since(from) > longest;
        if is_after_gap {
            from = sample.at - usual.min(sample.at.duration_since(from));
        }
        let point = Point { at: sample.at, from, value: of(&sample).unwrap_or_default(), is_after_gap };
        from = sample.at;
        point
    });
    points.collect()
}

#[expect(clippy::cast_precision_loss, reason = "a chart has some hundred dots")]
fn draw(
    points: &[Point],
    resource: &Resource,
    (most, mark, top): (i64, Option<Mark>, i64),
    (start, end): (Timestamp, Timestamp),
) -> Svg {
    let length = end.duration_since(start).as_secs_f64().max(0.001);
    // The area is drawn in a 100 × 100 box that is then stretched; text is not stretched.
    let x = |at: Timestamp| at.duration_since(start).as_secs_f64() / length * 100.0;
    let share = |value: i64| value as f64 / top as f64;
    let pixels = |value: i64| TOP + (1.0 - share(value)) * (HEIGHT - TOP);
    let last = points.last().map_or(0, |point| point.value);
    let told =
        format!("{} over time: {} at most, {} at the end", resource.name, (resource.word)(most), (resource.word)(last));
    let mut svg =
        format!("<svg class=\"usage\" width=\"100%\" height=\"{HEIGHT}\" role=\"img\" aria-label=\"{told}\">");
    let mut write = |text: std::fmt::Arguments<'_>| svg.write_fmt(text).expect("writing to a string works");
    for height in [TOP, HEIGHT - 0.5] {
        write(format_args!("<line class=\"grid\" x1=\"0\" x2=\"100%\" y1=\"{height}\" y2=\"{height}\"/>"));
    }
    write(format_args!(
        "<svg y=\"{TOP}\" width=\"100%\" height=\"{}\" viewBox=\"0 0 100 100\" preserveAspectRatio=\"none\">",
        HEIGHT - TOP
    ));
    let (area, line) = outline(points, x, |value| 100.0 - share(value) * 100.0);
    write(format_args!("<path class=\"area\" d=\"{area}\"/><path class=\"line\" d=\"{line}\"/></svg>"));
    if let Some((value, word)) = mark {
        let height = pixels(value);
        write(format_args!("<line class=\"mark\" x1=\"0\" x2=\"100%\" y1=\"{height:.1}\" y2=\"{height:.1}\"/>"));
        write(format_args!("<text class=\"mark-word\" x=\"100%\" y=\"{:.1}\">{word}</text>", height - 4.0));
    }
    for point in points {
        let (from, to) = (x(point.from), x(point.at));
        write(format_args!(
            "<rect class=\"spot\" x=\"{from:.2}%\" width=\"{:.2}%\" height=\"{HEIGHT}\"><title>{}: {}</title></rect>",
            (to - from).max(0.0),
            words::duration(point.at.duration_since(start)),
            (resource.word)(point.value),
        ));
    }
    write(format_args!("<text x=\"0\" y=\"10\">{}</text>", (resource.word)(top)));
    svg.push_str("</svg>");
    Svg::drawn(svg)
}

/// The area below the values, and the line on top of it, both split where there is a gap.
fn outline(points: &[Point], x: impl Fn(Timestamp) -> f64, y: impl Fn(i64) -> f64) -> (String, String) {
    let (mut area, mut line) = (String::new(), String::new());
    let write =
        |text: &mut String, part: std::fmt::Arguments<'_>| text.write_fmt(part).expect("writing to a string works");
    for part in points.chunk_by(|_, next| !next.is_after_gap) {
        let (Some(first), Some(last)) = (part.first(), part.last()) else { continue };
        let mut tops = format!("{:.2} {:.2}", x(first.from), y(first.value));
        for point in part {
            write(&mut tops, format_args!("L{:.2} {:.2}", x(point.at), y(point.value)));
        }
        write(&mut line, format_args!("M{tops}"));
        write(&mut area, format_args!("M{:.2} 100L{tops}L{:.2} 100z", x(first.from), x(last.at)));
    }
    (area, line)
}

/// The smallest of 1, 1.5, 2, 3, 4, 6 … MB that is at least this many bytes.
pub fn round_up_bytes(bytes: i64) -> i64 {
    let mut step = 1 << 20;
    loop {
        for round in [step, step / 2 * 3] {
            if round >= bytes || step > i64::MAX / 4 {
                return round;
            }
        }
        step *= 2;
    }
}

/// The smallest of 10, 20, 30, 50, 100 … thousandths of a core that is at least this value.
pub fn round_up_millis(millis: i64) -> i64 {
    let mut step = 10;
    loop {
        for factor in [1, 2, 3, 5] {
            if step * factor >= millis || step > i64::MAX / 100 {
                return step * factor;
            }
        }
        step *= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: i64 = 1 << 20;

    const MEMORY: Resource = Resource {
        name: "Memory",
        of: |sample| sample.memory_bytes,
        word: crate::model::memory_text,
        round_up: round_up_bytes,
    };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn sample(second: i64, megabytes: i64) -> UsageSample {
        UsageSample { at: at(second), memory_bytes: Some(megabytes * MB), cpu_millis: None }
    }

    fn drawn(samples: &[UsageSample], limit: Option<i64>) -> Option<String> {
        course(samples, &MEMORY, limit.map(|limit| (limit, "limit")), (at(0), at(10))).map(|svg| svg.to_string())
    }

    #[test]
    fn use_is_drawn_to_scale_and_told_in_words() {
        let svg = drawn(&[sample(5, 50), sample(10, 100)], Some(128 * MB)).unwrap();
        for part in [
            "aria-label=\"Memory over time: 100 MB at most, 100 MB at the end\"",
            // Relative to 128 MB, the end of the scale.
            "<path class=\"line\" d=\"M0.00 60.94L50.00 60.94L100.00 21.88\"/>",
            "<path class=\"area\" d=\"M0.00 100L0.00 60.94L50.00 60.94L100.00 21.88L100.00 100z\"/>",
            "class=\"mark\" x1=\"0\" x2=\"100%\" y1=\"14.0\"",
            "<title>5.0 s: 50 MB</title>",
            ">128 MB</text>",
        ] {
            assert!(svg.contains(part), "{part} is missing in {svg}");
        }
    }

    #[test]
    fn a_limit_far_above_is_not_drawn() {
        let svg = drawn(&[sample(5, 1), sample(10, 2)], Some(1024 * MB)).unwrap();
        assert!(!svg.contains("limit") && svg.contains(">2 MB</text>"), "{svg}");
    }

    #[test]
    fn one_look_shows_no_course() {
        assert_eq!(drawn(&[sample(5, 50)], None), None);
        assert_eq!(drawn(&[], None), None);
        let unknown = UsageSample { memory_bytes: None, ..sample(6, 0) };
        assert_eq!(drawn(&[sample(5, 50), unknown, unknown], None), None);
    }

    #[test]
    fn what_was_not_looked_at_is_left_out() {
        let samples: Vec<_> = (1..=5).chain(1000..=1005).map(|second| sample(second, 1)).collect();
        let points = points(&samples, MEMORY.of, at(0));
        let gaps: Vec<_> =
            points.iter().filter(|point| point.is_after_gap).map(|point| (point.from, point.at)).collect();
        assert_eq!(gaps, [(at(999), at(1000))]);
        let svg = drawn(&samples, None).unwrap();
        assert_eq!(svg.matches('M').count() - svg.matches("MB").count() - svg.matches("Memory").count(), 4, "{svg}");
    }

    #[test]
    fn many_looks_become_few_points() {
        let samples: Vec<_> = (1..=500).map(|second| sample(second, second)).collect();
        let points = points(&samples, MEMORY.of, at(0));
        assert!(points.len() <= MOST_POINTS && points.len() > MOST_POINTS / 2);
        assert_eq!(points.last().unwrap().value, 500 * MB);
    }

    #[test]
    fn scales_end_at_round_amounts() {
        assert_eq!([0, 1, 1 << 20, 100 << 20, 129 << 20].map(|bytes| round_up_bytes(bytes) >> 20), [1, 1, 1, 128, 192]);
        assert_eq!([0, 11, 400, 1000, 1001].map(round_up_millis), [10, 20, 500, 1000, 2000]);
        assert!(round_up_bytes(i64::MAX) > 0 && round_up_millis(i64::MAX) > 0);
    }
}
