//! Searches a log for the lines that contain a text. One search is bounded in time and in lines, and returns the
//! place to continue from; so a log of any size is searched without blocking anything.
//!
//! The visible text is searched: terminal commands are left out, so that a text is found regardless of its colours,
//! and nothing is found in the commands.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use memchr::{memchr, memchr_iter, memrchr};
use regex::bytes::{Regex, RegexBuilder};

use super::LogToken;
use super::style::Style;
use super::view::{LogView, Part};
use crate::escapes::{COMMAND_BYTES, ESCAPE, seen};

/// What a person types, and still takes no time to prepare.
pub const PATTERN_CHARS: usize = 200;
/// How many lines one search gives.
pub const MOST_HITS: usize = 1000;
/// The time limit of one search: short enough to wait for its answer.
const LONGEST: Duration = Duration::from_millis(300);
/// How much is read between checks of the clock.
const PIECE_BYTES: usize = 1024 * 1024;

/// A text to look for, in any case or in the one that it has.
#[derive(Debug, Clone)]
pub struct Pattern {
    regex: Regex,
    /// No match is longer.
    longest_bytes: usize,
}

#[derive(Debug, thiserror::Error)]
#[error("a search is for 1 to {PATTERN_CHARS} characters on one line")]
pub struct NotAPattern;

impl Pattern {
    pub fn new(text: &str, is_case_sensitive: bool) -> Result<Self, NotAPattern> {
        let chars = text.chars().count();
        if chars == 0 || chars > PATTERN_CHARS || text.contains('\n') {
            return Err(NotAPattern);
        }
        let built = RegexBuilder::new(&regex::escape(text)).case_insensitive(!is_case_sensitive).build();
        // The other case of a character may be longer than the character.
        Ok(Self { regex: built.map_err(|_| NotAPattern)?, longest_bytes: 4 * chars })
    }
}

/// The lines that hold a text, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    pub lines: Vec<u64>,
    /// Where to go on; `None` at the end of the log.
    pub next: Option<LogToken>,
}

impl LogView {
    /// The lines from this place on that contain the text. Stops when no caller waits any more.
    pub fn find(&self, pattern: &Pattern, from: LogToken, is_given_up: &AtomicBool) -> io::Result<Found> {
        self.find_within(pattern, from, LONGEST, is_given_up)
    }

    /// Whether what is shown of a line holds the text: of a long one a part is left out.
    pub fn is_shown(&self, pattern: &Pattern, line: u64) -> io::Result<bool> {
        let found = self.lines(line, 1)?;
        Ok(found.iter().any(|line| pattern.regex.is_match(&without_commands(&line.bytes, &seen(&line.bytes)))))
    }

    fn find_within(
        &self,
        pattern: &Pattern,
        from: LogToken,
        longest: Duration,
        is_given_up: &AtomicBool,
    ) -> io::Result<Found> {
        let started = Instant::now();
        let mut found = Found::default();
        for part in self.parts.iter().filter(|part| part.attempt >= from.attempt) {
            let mut offset = if part.attempt == from.attempt { from.offset } else { 0 };
            while offset < part.lines.length {
                let is_enough = found.lines.len() >= MOST_HITS || started.elapsed() >= longest;
                if is_enough || is_given_up.load(Ordering::Relaxed) {
                    found.next = Some(LogToken { attempt: part.attempt, offset });
                    return Ok(found);
                }
                offset = part.find(pattern, offset, &mut found.lines)?;
            }
        }
        Ok(found)
    }
}

impl Part {
    /// Searches one piece, and returns where the next one begins.
    fn find(&self, pattern: &Pattern, offset: u64, hits: &mut Vec<u64>) -> io::Result<u64> {
        let bytes = self.lines.read(offset, PIECE_BYTES)?;
        if memchr(ESCAPE, &bytes).is_some() {
            return self.find_seen(pattern, offset, &bytes, hits);
        }
        let end = offset + bytes.len() as u64;
        let mut searched = 0;
        while let Some(hit) = pattern.regex.find_at(&bytes, searched) {
            let line = self.lines.ends_before(offset + hit.start() as u64)?;
            hits.push(self.before + line + 1);
            match memchr(b'\n', &bytes[hit.start()..]) {
                Some(line_end) => searched = hit.start() + line_end + 1,
                // A line is reported once, however long it is.
                None => return self.lines.start_of(line + 1),
            }
            if hits.len() >= MOST_HITS {
                return Ok(offset + searched as u64);
            }
        }
        if end >= self.lines.length {
            return Ok(end);
        }
        // What begins in this piece may end in the next one.
        let overlap = (bytes.len() - searched).min(pattern.longest_bytes - 1);
        Ok(end - overlap as u64)
    }

    /// The same for a piece with commands for a terminal: in a copy without them, of whole lines where there are any.
    fn find_seen(&self, pattern: &Pattern, offset: u64, bytes: &[u8], hits: &mut Vec<u64>) -> io::Result<u64> {
        let is_last = offset + bytes.len() as u64 >= self.lines.length;
        let length = if is_last { bytes.len() } else { whole(bytes) };
        let ranges = seen(&bytes[..length]);
        let text = without_commands(bytes, &ranges);
        let mut line = self.lines.ends_before(offset)?;
        let mut searched = 0;
        while let Some(hit) = pattern.regex.find_at(&text, searched) {
            line += memchr_iter(b'\n', &text[searched..hit.start()]).count() as u64;
            hits.push(self.before + line + 1);
            let line_end = memchr(b'\n', &text[hit.start()..]);
            line += 1;
            match line_end {
                Some(line_end) if hits.len() < MOST_HITS => searched = hit.start() + line_end + 1,
                _ => return self.lines.start_of(line),
            }
        }
        if is_last || text.ends_with(b"\n") {
            return Ok(offset + length as u64);
        }
        // A line that is longer than the piece: what begins here may end in the next one.
        let again = place_before_end(&ranges, (text.len() - searched).min(pattern.longest_bytes - 1));
        Ok(offset + if again == 0 { length } else { again } as u64)
    }
}

fn without_commands(bytes: &[u8], seen: &[Range<usize>]) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes.len());
    for range in seen {
        text.extend_from_slice(&bytes[range.clone()]);
    }
    text
}

/// How much of a piece is whole lines; where that is none, what surely is whole commands.
fn whole(bytes: &[u8]) -> usize {
    let lines = memrchr(b'\n', bytes).map(|end| end + 1);
    lines.unwrap_or_else(|| Style::default().pass(bytes, bytes.len().saturating_sub(COMMAND_BYTES).max(1)))
}

/// Where the last so many bytes of what is seen begin.
fn place_before_end(seen: &[Range<usize>], mut bytes: usize) -> usize {
    for range in seen.iter().rev() {
        if range.len() >= bytes {
            return range.end - bytes;
        }
        bytes -= range.len();
    }
    0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::LINE_BYTES;
    use super::super::tests::{logs, write};
    use super::*;

    fn find_all(view: &LogView, pattern: &Pattern, longest: Duration) -> (Vec<u64>, usize) {
        let (mut lines, mut from, mut answers) = (Vec::new(), LogToken::default(), 0);
        loop {
            let found = view.find_within(pattern, from, longest, &AtomicBool::new(false)).unwrap();
            answers += 1;
            lines.extend(found.lines);
            match found.next {
                // Without any time nothing is searched, so one piece is granted.
                Some(next) if next == from => from = LogToken { offset: next.offset + 1, ..next },
                Some(next) => from = next,
                None => return (lines, answers),
            }
        }
    }

    #[test]
    fn a_text_is_found_in_any_case_unless_the_case_matters() {
        let (_folder, logs, run_id) = logs();
        write(&logs, run_id, 1, "Error: a.b\nnothing\nERROR errors\n".as_bytes());
        write(&logs, run_id, 2, "ÜBER error".as_bytes());
        let view = logs.view(run_id, 2).unwrap();
        for (text, is_case_sensitive, expected) in [
            ("error", false, vec![1, 3, 4]),
            ("error", true, vec![3, 4]),
            ("a.b", false, vec![1]),
            ("a?b", false, vec![]),
            ("über", false, vec![4]),
            (".*", false, vec![]),
        ] {
            let pattern = Pattern::new(text, is_case_sensitive).unwrap();
            assert_eq!(find_all(&view, &pattern, LONGEST).0, expected, "{text}");
        }
        for text in ["", "a\nb", &"x".repeat(PATTERN_CHARS + 1)] {
            assert!(Pattern::new(text, false).is_err(), "{text}");
        }
    }

    #[test]
    fn one_answer_gives_so_many_lines_and_the_next_one_goes_on() {
        let (_folder, logs, run_id) = logs();
        write(&logs, run_id, 1, "hit hit\nmiss\n".repeat(2 * MOST_HITS + 1).as_bytes());
        let view = logs.view(run_id, 1).unwrap();
        let (lines, answers) = find_all(&view, &Pattern::new("hit", false).unwrap(), Duration::from_mins(1));
        let expected: Vec<u64> = (0..=2 * MOST_HITS as u64).map(|i| 2 * i + 1).collect();
        assert_eq!((lines, answers), (expected, 3));
    }

    #[test]
    fn a_text_across_pieces_is_found_and_a_long_line_is_told_once() {
        let (_folder, logs, run_id) = logs();
        let text = format!("{}needle{}needle\nneedle", "x".repeat(PIECE_BYTES - 3), "y".repeat(2 * PIECE_BYTES));
        write(&logs, run_id, 1, text.as_bytes());
        let view = logs.view(run_id, 1).unwrap();
        assert_eq!(find_all(&view, &Pattern::new("NEEDLE", false).unwrap(), LONGEST).0, [1, 2]);
    }

    #[test]
    fn what_is_found_is_what_is_seen() {
        let (_folder, logs, run_id) = logs();
        let lines = [
            "red \x1b[1mbold\x1b[0m",
            "red bold",
            "\x1b[38;5;208mr\x1b[me\x1b[38:2::1:2:3md\x1b[m bold",
            "red \x1b[1m\nbold",
            "\x1b]8;;http://red bold\x1b\\link\x1b]8;;\x1b\\ red b\x07",
            "\x1b]red\x1b[m bold",
        ];
        write(&logs, run_id, 1, b"first\n");
        write(&logs, run_id, 2, lines.join("\n").as_bytes());
        let view = logs.view(run_id, 2).unwrap();
        for (text, expected) in [
            ("red bold", vec![2, 3, 4, 8]),
            ("38;5", vec![]),
            ("[1m", vec![]),
            ("http", vec![]),
            ("link red", vec![7]),
            ("first", vec![1]),
        ] {
            let pattern = Pattern::new(text, false).unwrap();
            assert_eq!(find_all(&view, &pattern, LONGEST).0, expected, "{text}");
        }
    }

    #[test]
    fn a_coloured_text_across_pieces_is_found() {
        let (_folder, logs, run_id) = logs();
        let coloured = "\x1b[31mne\x1b[1med\x1b[0mle";
        let mut expected = Vec::new();
        let mut text = String::new();
        // The end of a piece is everywhere in it once, on lines that are longer than a piece and on short ones.
        for shift in 0..coloured.len() {
            text.push_str(&"x".repeat(PIECE_BYTES - shift - text.len() % PIECE_BYTES));
            text.push_str(coloured);
            text.push('\n');
            expected.push(shift as u64 + 1);
        }
        write(&logs, run_id, 1, text.as_bytes());
        write(&logs, run_id, 2, format!("{}\n", coloured.replace("ne", "x\nne")).repeat(100_000).as_bytes());
        let view = logs.view(run_id, 2).unwrap();
        let found = find_all(&view, &Pattern::new("NEEDLE", false).unwrap(), Duration::from_mins(1)).0;
        let short = coloured.len() as u64 + 2;
        expected.extend((0..100_000).map(|number| short + 2 * number));
        assert_eq!(found, expected);
    }

    #[test]
    fn a_text_that_is_left_out_of_a_long_line_is_known_to_be() {
        let (_folder, logs, run_id) = logs();
        let long = "x".repeat(2 * LINE_BYTES);
        write(&logs, run_id, 1, format!("nee\x1b[1mdle\n{long}needle\nneedle{long}\n{long}").as_bytes());
        let view = logs.view(run_id, 1).unwrap();
        let pattern = Pattern::new("needle", false).unwrap();
        assert_eq!(
            [1, 2, 3, 4, 5].map(|line| view.is_shown(&pattern, line).unwrap()),
            [true, false, true, false, false]
        );
    }

    #[test]
    fn a_search_that_nobody_waits_for_breaks_off() {
        let (_folder, logs, run_id) = logs();
        write(&logs, run_id, 1, b"hit\n");
        let view = logs.view(run_id, 1).unwrap();
        let found =
            view.find(&Pattern::new("hit", false).unwrap(), LogToken::default(), &AtomicBool::new(true)).unwrap();
        assert_eq!(found, Found { lines: vec![], next: Some(LogToken::default()) });
    }

    proptest! {
        #[test]
        fn the_lines_that_are_found_are_those_that_hold_the_text(text in "[ab\n]{0,200}", sought in "[ab]{1,3}") {
            let (_folder, logs, run_id) = logs();
            write(&logs, run_id, 1, text.as_bytes());
            let view = logs.view(run_id, 1).unwrap();
            let expected: Vec<u64> =
                text.split('\n').zip(1..).filter(|(line, _)| line.contains(&sought)).map(|(_, number)| number).collect();
            prop_assert_eq!(find_all(&view, &Pattern::new(&sought, true).unwrap(), LONGEST).0, expected);
        }

        #[test]
        fn colours_change_nothing_of_what_is_found(
            pieces in prop::collection::vec(prop_oneof!["[ab\n]{0,3}", "\x1b\\[[0-9;]{0,3}m"], 0..60),
            sought in "[ab]{1,3}",
        ) {
            let (_folder, logs, run_id) = logs();
            write(&logs, run_id, 1, pieces.concat().as_bytes());
            let view = logs.view(run_id, 1).unwrap();
            let text: String = pieces.iter().filter(|piece| !piece.starts_with('\x1b')).cloned().collect();
            let expected: Vec<u64> =
                text.split('\n').zip(1..).filter(|(line, _)| line.contains(&sought)).map(|(_, number)| number).collect();
            prop_assert_eq!(find_all(&view, &Pattern::new(&sought, true).unwrap(), LONGEST).0, expected);
        }
    }
}
