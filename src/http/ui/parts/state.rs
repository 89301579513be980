//! How the state of a run is shown: a word, a distinct icon and a colour, so that no state is recognizable by colour
//! alone.

use std::fmt;

use askama::filters::HtmlSafe;

use crate::http::ui::assets;
use crate::model::{Outcome, Status};

/// An icon from `assets/icons.svg`, in the colour of the surrounding text.
#[derive(Debug, Clone, Copy)]
pub struct Icon(pub &'static str);

impl fmt::Display for Icon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(name) = self;
        write!(
            f,
            "<svg class=\"icon\" aria-hidden=\"true\"><use href=\"{}#{name}\"/></svg>",
            assets::address("icons.svg")
        )
    }
}

impl HtmlSafe for Icon {}

/// The state of a run as users know it: its status and, once it has stopped, its outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Badge {
    /// The key that styles and icons use.
    pub name: &'static str,
    pub word: &'static str,
}

impl Badge {
    pub const fn new(status: Status, outcome: Option<Outcome>) -> Self {
        let (name, word) = match (status, outcome) {
            (Status::Queued, _) => ("queued", "Queued"),
            (Status::Pending, _) => ("pending", "Starting"),
            (Status::Running, _) => ("running", "Running"),
            (Status::NeedsRetry, _) => ("retry", "Retrying"),
            (Status::Stopped, Some(Outcome::Succeeded)) => ("succeeded", "Succeeded"),
            (Status::Stopped, Some(Outcome::Failed)) => ("failed", "Failed"),
            (Status::Stopped, Some(Outcome::Stopped)) => ("stopped", "Stopped"),
            (Status::Stopped, Some(Outcome::TimedOut)) => ("timed-out", "Timed out"),
            (Status::Stopped, Some(Outcome::Lost)) => ("lost", "Lost"),
            (Status::Stopped, Some(Outcome::Rejected) | None) => ("rejected", "Rejected"),
        };
        Self { name, word }
    }
}

/// A pill: `<span class="pill is-running">`, its icon and its word.
impl fmt::Display for Badge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, word } = self;
        write!(f, "<span class=\"pill is-{name}\">{}{word}</span>", Icon(name))
    }
}

impl HtmlSafe for Badge {}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_state_has_a_word_an_icon_and_a_style_of_its_own() {
        let active = Status::ALL.into_iter().filter(|status| !status.is_terminal()).map(|status| (status, None));
        let stopped = Outcome::ALL.into_iter().map(|outcome| (Status::Stopped, Some(outcome)));
        let looks: Vec<_> = active.chain(stopped).map(|(status, outcome)| Badge::new(status, outcome)).collect();
        assert_eq!(looks.iter().map(|look| look.word).collect::<HashSet<_>>().len(), looks.len());
        let (icons, style) = (include_str!("../../../../assets/icons.svg"), include_str!("../../../../assets/app.css"));
        for Badge { name, .. } in looks {
            assert!(icons.contains(&format!("id=\"{name}\"")), "there is no icon {name}");
            assert!(style.contains(&format!(".is-{name}")), "there is no style for {name}");
        }
    }
}
