//! Charts: SVG drawn from values. Colours are classes of the stylesheet, so that they follow the system's wish; nothing
//! of a task's own text is ever drawn.

use std::fmt;
use std::fmt::Write as _;

use askama::filters::HtmlSafe;

use super::look::Look;

/// Markup that was drawn here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Svg(String);

impl Svg {
    /// What the caller drew, of numbers and of our own words only.
    pub(super) const fn drawn(markup: String) -> Self {
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
pub(super) fn strip(newest_first: &[Look], places: usize) -> Svg {
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

/// `last 10 runs: 8 succeeded, 2 failed`
fn tally(looks: &[Look]) -> String {
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

    fn ended(outcome: Outcome) -> Look {
        Look::new(Status::Stopped, Some(outcome))
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
    fn a_strip_shows_no_more_than_fits() {
        let Svg(svg) = strip(&[ended(Outcome::Lost); 9], 2);
        assert_eq!(svg.matches("h5").count(), 2, "{svg}");
        assert!(strip(&[], 2).to_string().contains("no runs yet"));
    }
}
