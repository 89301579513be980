//! Charts: SVG drawn from values. Colours are classes of the stylesheet, so that they follow the system's wish; nothing
//! of a task's own text is ever drawn.

use std::fmt;
use std::fmt::Write as _;

use askama::filters::HtmlSafe;
use jiff::SignedDuration;

use crate::http::ui::parts::state::Badge;
use crate::http::ui::parts::{links, words};
use crate::model::RunId;

/// Markup that was drawn here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Svg(String);

impl Svg {
    /// What the caller drew, of numbers and of our own words only.
    pub const fn drawn(markup: String) -> Self {
        Self(markup)
    }
}

impl fmt::Display for Svg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl HtmlSafe for Svg {}

/// A strip's bars: how wide each is with the gap after it, and how high the strip is.
const BAR: usize = 5;
const GAP: usize = 2;
const HEIGHT: usize = 18;

/// The last outcomes of a task as a row of bars, the newest at the right. What went well is low and what failed is
/// high, so that they differ without their colours. `places` is how many bars fit.
pub fn strip(newest_first: &[Badge], places: usize) -> Svg {
    let width = places * (BAR + GAP) - GAP;
    let shown = &newest_first[..newest_first.len().min(places)];
    let mut svg = String::new();
    let told = tally(shown);
    write!(svg, "<svg class=\"strip\" width=\"{width}\" height=\"{HEIGHT}\" role=\"img\" aria-label=\"{told}\"><title>{told}</title>")
        .expect("writing to a string works");
    // One path for each look keeps the page small.
    let mut paths: Vec<(&str, String)> = Vec::new();
    for (i, look) in shown.iter().enumerate() {
        let x = width - BAR - i * (BAR + GAP);
        let height = match look.name {
            "succeeded" => HEIGHT / 2,
            "failed" | "timed-out" | "lost" | "rejected" => HEIGHT,
            _ => HEIGHT / 3,
        };
        let bar = format!("M{x} {}h{BAR}v{height}h-{BAR}z", HEIGHT - height);
        match paths.iter_mut().find(|(name, _)| *name == look.name) {
            Some((_, path)) => path.push_str(&bar),
            None => paths.push((look.name, bar)),
        }
    }
    for (name, path) in paths {
        write!(svg, "<path class=\"is-{name}\" d=\"{path}\"/>").expect("writing to a string works");
    }
    svg.push_str("</svg>");
    Svg(svg)
}

/// What a bar of [`durations`] tells of one run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bar {
    pub look: Badge,
    /// `None` where it never ran; its bar is then a stub.
    pub seconds: Option<f64>,
    pub run_id: RunId,
}

/// The drawing of [`durations`], in the units of its own `viewBox`.
const CHART_WIDTH: f64 = 640.0;
const CHART_HEIGHT: f64 = 124.0;
/// Below the bars, so that the lowest line's word is whole.
const BOTTOM: f64 = 5.0;
/// Left of the bars, for the scale's words.
const SCALE_WIDTH: f64 = 56.0;
/// Above the bars, so that the highest line's word is whole.
const TOP: f64 = 10.0;
/// So few runs that wider bars would look like walls.
const WIDEST_BAR: f64 = 10.0;

/// How long runs took, oldest first, each a bar that leads to its run. The scale begins at zero and has round steps.
pub fn durations(oldest_first: &[Bar], title: &str) -> Svg {
    let longest = oldest_first.iter().filter_map(|bar| bar.seconds).fold(0.0, f64::max);
    let step = round_step(longest / 3.0);
    let top_value = (longest / step).ceil().max(1.0) * step;
    let plot_height = CHART_HEIGHT - TOP - BOTTOM;
    let y = |seconds: f64| CHART_HEIGHT - BOTTOM - seconds / top_value * plot_height;
    let mut svg = format!(
        "<svg class=\"chart\" viewBox=\"0 0 {CHART_WIDTH} {CHART_HEIGHT}\" role=\"group\" aria-label=\"{title}\"><title>{title}</title>"
    );
    let mut write = |text: fmt::Arguments<'_>| svg.write_fmt(text).expect("writing to a string works");
    let mut value = 0.0;
    while value <= top_value + step / 2.0 {
        let (height, word) = (y(value), scale_word(value));
        write(format_args!("<path class=\"grid\" d=\"M{SCALE_WIDTH} {height:.1}H{CHART_WIDTH}\"/>"));
        write(format_args!("<text x=\"{}\" y=\"{:.1}\">{word}</text>", SCALE_WIDTH - 8.0, height + 3.5));
        value += step;
    }
    #[expect(clippy::cast_precision_loss, reason = "there are a few dozen bars")]
    let place = ((CHART_WIDTH - SCALE_WIDTH) / oldest_first.len().max(1) as f64).min(WIDEST_BAR + 4.0);
    let mut x = SCALE_WIDTH + 2.0;
    for Bar { look, seconds, run_id } in oldest_first {
        let height = (seconds.unwrap_or(0.0) / top_value * plot_height).max(3.0);
        let took = seconds.map_or("never ran".to_owned(), scale_word);
        write(format_args!(
            "<a href=\"{}\"><title>{}, {took}</title><rect class=\"is-{}\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{height:.1}\" rx=\"1\"/></a>",
            links::run(*run_id),
            look.word,
            look.name,
            CHART_HEIGHT - BOTTOM - height,
            (place - 3.0).max(1.0),
        ));
        if matches!(look.name, "failed" | "timed-out" | "lost" | "rejected") {
            // A cross, so that what failed is not told by colour alone.
            let (middle, above) = (x + (place - 3.0).max(1.0) / 2.0, CHART_HEIGHT - BOTTOM - height - 5.0);
            write(format_args!("<path class=\"cross\" d=\"M{:.1} {:.1}l4 4m0-4l-4 4\"/>", middle - 2.0, above - 2.0));
        }
        x += place;
    }
    svg.push_str("</svg>");
    Svg(svg)
}

pub fn scale_word(seconds: f64) -> String {
    let exact = SignedDuration::try_from_secs_f64(seconds).unwrap_or(SignedDuration::MAX);
    match seconds {
        0.0 => "0".to_owned(),
        _ => words::duration(exact).replace(".0 s", " s"),
    }
}

/// The smallest step of 1, 2, 5, 10, 15, 30 … seconds, minutes or hours that is not below `least`.
pub fn round_step(least: f64) -> f64 {
    const STEPS: [f64; 27] = [
        0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0,
        600.0, 1200.0, 1800.0, 3600.0, 7200.0, 18000.0, 36000.0, 43200.0, 86400.0,
    ];
    let found = STEPS.into_iter().find(|step| *step >= least);
    found.unwrap_or_else(|| (least / 86_400.0).ceil() * 86_400.0)
}

/// `last 10 runs: 8 succeeded, 2 failed`
fn tally(looks: &[Badge]) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for look in looks {
        match counts.iter_mut().find(|(word, _)| *word == look.word) {
            Some((_, count)) => *count += 1,
            None => counts.push((look.word, 1)),
        }
    }
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let counts: Vec<_> = counts.iter().map(|(word, count)| format!("{count} {}", word.to_lowercase())).collect();
    match looks.len() {
        0 => "no runs yet".to_owned(),
        1 => format!("last run: {}", looks[0].word.to_lowercase()),
        number => format!("last {number} runs: {}", counts.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Outcome, Status};

    fn ended(outcome: Outcome) -> Badge {
        Badge::new(Status::Stopped, Some(outcome))
    }

    #[test]
    fn a_strip_ends_with_the_newest_run_and_says_in_words_what_it_shows() {
        let looks = [ended(Outcome::Failed), ended(Outcome::Succeeded), ended(Outcome::Succeeded)];
        let Svg(svg) = strip(&looks, 4);
        assert!(svg.contains("aria-label=\"last 3 runs: 2 succeeded, 1 failed\""), "{svg}");
        assert!(svg.contains("<path class=\"is-failed\" d=\"M21 0h5v18h-5z\"/>"), "{svg}");
        assert!(svg.contains("<path class=\"is-succeeded\" d=\"M14 9h5v9h-5zM7 9h5v9h-5z\"/>"), "{svg}");
    }

    #[test]
    fn durations_are_drawn_to_a_round_scale_from_zero() {
        let run_id = RunId::generate();
        let bar = |seconds| Bar { look: ended(Outcome::Succeeded), seconds, run_id };
        let Svg(svg) = durations(&[bar(Some(50.0)), bar(None), bar(Some(100.0))], "Durations");
        for word in [">0<", ">1 min<", ">2 min<"] {
            assert!(svg.contains(word), "{word} is missing in {svg}");
        }
        assert!(
            svg.contains("<title>Succeeded, 1 min 40 s</title>") && svg.contains("<title>Succeeded, never ran</title>")
        );
        assert_eq!(svg.matches(&format!("href=\"/ui/runs/{run_id}\"")).count(), 3);
        let heights: Vec<f64> =
            svg.split(" height=\"").skip(1).map(|rest| rest.split('"').next().unwrap().parse().unwrap()).collect();
        assert!((heights[2] - 2.0 * heights[0]).abs() < 0.2, "{heights:?}");
    }

    #[test]
    fn a_scale_has_few_steps_whatever_the_longest() {
        for longest in [0.0, 0.0004, 0.4, 7.0, 59.0, 61.0, 4000.0, 90_000.0, 3e6] {
            let step = round_step(longest / 3.0);
            assert!(longest / step <= 3.0 && step > 0.0, "{longest}: {step}");
        }
    }

    #[test]
    fn a_strip_shows_no_more_than_fits() {
        let Svg(svg) = strip(&[ended(Outcome::Lost); 9], 2);
        assert_eq!(svg.matches("h5").count(), 2, "{svg}");
        assert!(strip(&[], 2).to_string().contains("no runs yet"));
    }
}
