//! Values formatted for people.

use std::fmt;

use askama::filters::HtmlSafe;
use jiff::Timestamp;

use crate::model::{Run, RunId};
pub use crate::words::{bytes, count, duration, megabytes, thousands};

/// A time relative to now: `3 min ago`, with the exact time as its tooltip. Renders as `<time>`.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    pub at: Timestamp,
    pub now: Timestamp,
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = self.at.strftime("%Y-%m-%d %H:%M:%S UTC");
        write!(f, "<time datetime=\"{:.3}\" title=\"{exact}\">{}</time>", self.at, relative(self.at, self.now))
    }
}

impl HtmlSafe for Moment {}

/// How long something took, or has taken so far; in that case `assets/live.js` keeps counting in the same format.
#[derive(Debug, Clone, Copy)]
pub struct Elapsed {
    pub since: Timestamp,
    pub until: Option<Timestamp>,
    pub now: Timestamp,
}

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let took = duration(self.until.unwrap_or(self.now).duration_since(self.since));
        match self.until {
            Some(_) => f.write_str(&took),
            None => write!(f, "<span data-since=\"{:.3}\">{took}</span>", self.since),
        }
    }
}

impl HtmlSafe for Elapsed {}

/// `just now`, `40 s ago`, `in 5 min`, `3 d ago`; the date if it is more than a month away. `assets/live.js` updates
/// these words as time passes, and must use the same format.
fn relative(at: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(at).as_secs();
    let words = match seconds.abs() {
        0..5 => return "just now".to_owned(),
        amount @ 5..60 => format!("{amount} s"),
        amount @ 60..3600 => format!("{} min", amount / 60),
        amount @ 3600..86_400 => format!("{} h", amount / 3600),
        amount @ 86_400..2_592_000 => format!("{} d", amount / 86_400),
        _ => return at.strftime("%Y-%m-%d").to_string(),
    };
    if seconds > 0 { format!("{words} ago") } else { format!("in {words}") }
}

/// Thousandths of a core: `1 core`, `0.25 cores`.
pub fn cores(millis: i64) -> String {
    let (whole, rest) = (millis / 1000, format!("{:03}", millis % 1000));
    match rest.trim_end_matches('0') {
        "" if whole == 1 => "1 core".to_owned(),
        "" => format!("{whole} cores"),
        rest => format!("{whole}.{rest} cores"),
    }
}

/// The beginning of a text that may be long.
pub fn excerpt(text: &str, most_chars: usize) -> String {
    let mut shown: String = text.chars().take(most_chars).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

/// A run has no name of its own: users know it by its task's name.
pub fn name(run: &Run) -> String {
    run.alias.clone().unwrap_or_else(|| run.definition_id.to_string())
}

/// The end of its id, by which users distinguish runs.
pub fn short_id(run_id: RunId) -> String {
    let id = run_id.to_string();
    id[id.len() - 8..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_moment_is_told_from_now_with_the_exact_time_beside_it() {
        let moment = Moment { at: at(1_767_225_600), now: at(1_767_225_600 + 200) };
        assert_eq!(
            moment.to_string(),
            "<time datetime=\"2026-01-01T00:00:00.000Z\" title=\"2026-01-01 00:00:00 UTC\">3 min ago</time>"
        );
        for (seconds, words) in [
            (4, "just now"),
            (59, "59 s ago"),
            (-90, "in 1 min"),
            (7200, "2 h ago"),
            (200_000, "2 d ago"),
            (9_000_000, "1970-01-01"),
        ] {
            assert_eq!(relative(at(1000), at(1000 + seconds)), words);
        }
    }

    #[test]
    fn what_goes_on_is_counted_on_and_what_is_over_is_not() {
        let elapsed = |until| Elapsed { since: at(1000), until, now: at(1075) }.to_string();
        assert_eq!(elapsed(None), "<span data-since=\"1970-01-01T00:16:40.000Z\">1 min 15 s</span>");
        assert_eq!(elapsed(Some(at(1002))), "2.0 s");
    }

    #[test]
    fn cores_are_told_without_needless_digits() {
        assert_eq!(
            [250, 1000, 1500, 2000, 5].map(cores),
            ["0.25 cores", "1 core", "1.5 cores", "2 cores", "0.005 cores"]
        );
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!([excerpt("äöü", 3), excerpt("äöüß", 3), excerpt("", 3)], ["äöü", "äöü…", ""]);
    }
}
