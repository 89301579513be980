//! The last lines of a run's log, shown beside the explanation of how it ended, since they may contain the reason.

use super::ansi::{Painted, paint};
use crate::http::Asked;
use crate::http::error::ApiError;
use crate::model::{Outcome, Run};
use crate::service::{LinesFrom, LogLines, whole_length};

/// Number of lines shown, and of lines at the end of the log that they are selected from.
const LINES: usize = 6;
const LOOKED_AT: usize = 30;
/// Maximum length of a line shown here; the log shows it in full.
const LINE_BYTES: usize = 400;

/// A line with its number.
pub type TailLine = (u64, Painted);

/// The last lines that are not blank, where the run ended in a way that they may explain.
pub async fn tail(app: &Asked, run: &Run) -> Result<Vec<TailLine>, ApiError> {
    let may_explain = matches!(run.outcome, Some(Outcome::Failed | Outcome::TimedOut | Outcome::Lost));
    if !may_explain || run.started_at.is_none() {
        return Ok(Vec::new());
    }
    Ok(last(app.service.log_lines(run, LinesFrom::End, LOOKED_AT).await?))
}

fn last(LogLines { found, .. }: LogLines) -> Vec<TailLine> {
    let lines = found.into_iter().map(|line| {
        let shown = &line.bytes[..whole_length(&line.bytes, LINE_BYTES)];
        (line.number, line.bytes.trim_ascii().is_empty(), paint(shown, line.style))
    });
    let mut lines: Vec<_> =
        lines.filter(|(_, is_blank, _)| !is_blank).map(|(number, _, text)| (number, text)).collect();
    lines.split_off(lines.len().saturating_sub(LINES))
}

#[cfg(test)]
pub fn sample() -> Vec<TailLine> {
    vec![(7, paint(b"<b>no such file</b>", crate::service::Style::default()))]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::{Line, LogExtent, Style};

    #[test]
    fn the_last_lines_that_say_something_are_shown_in_their_colours() {
        let texts: Vec<_> = (1..=9).map(|i| if i % 4 == 0 { String::from(" ") } else { format!("line {i}") }).collect();
        let lines = (1..).zip(texts).map(|(number, text)| Line {
            number,
            bytes: text.into_bytes(),
            cut_bytes: 0,
            written_at: None,
            style: Style { text: Some(1), ..Style::default() },
        });
        let shown = last(LogLines { found: lines.collect(), extent: LogExtent::default() });
        assert_eq!(shown.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [2, 3, 5, 6, 7, 9]);
        assert!(shown.iter().all(|(_, text)| text.to_string().contains("class=\"f1\"")), "{shown:?}");
    }
    #[test]
    fn a_line_that_is_cut_ends_with_a_whole_character_and_command() {
        let shown = |text: String| {
            let line =
                Line { number: 1, bytes: text.into_bytes(), cut_bytes: 0, written_at: None, style: Style::default() };
            last(LogLines { found: vec![line], extent: LogExtent::default() })[0].1.to_string()
        };
        let filled = "x".repeat(LINE_BYTES - 1);
        assert_eq!(shown(format!("{filled}€")), filled);
        assert_eq!(shown(format!("{filled}\x1b[31mred")), filled);
    }
}
