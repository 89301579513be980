//! A run's log as lines: those of its attempts, one after the other, counted from 1 on through all of them.
//!
//! A view is the log as it was when it was taken; what is written later belongs to the next one. The end of an attempt
//! ends its last line.

use std::io;
use std::path::PathBuf;

use jiff::Timestamp;
use memchr::memchr;

use super::lines::FileLines;
use super::style::Style;
use super::times::Times;
use super::{LogToken, Logs};
use crate::escapes::{Piece, Pieces, whole_length};
use crate::model::{AttemptId, RunId};

/// How much of one line is read: a page shows no more of it.
pub const LINE_BYTES: usize = 16 * 1024;
/// How much one request for lines reads, however many were asked for.
const LINES_BYTES: usize = 1024 * 1024;

/// One line, without its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub number: u64,
    pub bytes: Vec<u8>,
    /// How many bytes of the line are left out.
    pub cut_bytes: u64,
    /// When the line began to arrive, to the second; not known of logs from before that was noted.
    pub written_at: Option<Timestamp>,
    /// How the text before `bytes` makes them look, wherever reading began. An attempt begins in the default style.
    pub style: Style,
}

/// A log as it was when the view was taken.
pub struct LogView {
    pub(super) parts: Vec<Part>,
}

/// What one attempt wrote.
pub(super) struct Part {
    pub(super) attempt: u32,
    /// How many lines are before it.
    pub(super) before: u64,
    pub(super) lines: FileLines,
    path: PathBuf,
}

impl Logs {
    /// The current log. Takes the time to index data that was never viewed.
    pub fn view(&self, run_id: RunId, attempts: u32) -> io::Result<LogView> {
        let mut parts = Vec::new();
        let mut before = 0;
        for attempt in 1..=attempts.max(1) {
            let path = self.path(AttemptId { run_id, attempt });
            if let Some(lines) = self.indexes.lines(&path)? {
                let count = lines.count();
                parts.push(Part { attempt, before, lines, path });
                before += count;
            }
        }
        Ok(LogView { parts })
    }
}

impl LogView {
    /// How many lines there are, one without its end yet among them.
    #[must_use]
    pub fn line_count(&self) -> u64 {
        self.parts.last().map_or(0, |part| part.before + part.lines.count())
    }

    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.lines.length).sum()
    }

    /// At most `count` lines from this number on, fewer where they are long: at least one where there is one.
    pub fn lines(&self, from: u64, count: usize) -> io::Result<Vec<Line>> {
        let from = from.max(1);
        let mut found = Vec::new();
        let mut room = LINES_BYTES;
        for part in &self.parts {
            let wanted = from + found.len() as u64;
            if wanted > part.before + part.lines.count() {
                continue;
            }
            // What was asked for may end with the attempt before.
            let Some(line) = (wanted - 1).checked_sub(part.before) else { break };
            let mut reader = LineReader::new(&part.lines, line)?;
            let mut times = Times::open(&part.path);
            while found.len() < count && (room > 0 || found.is_empty()) {
                let written_at = times.at(reader.offset);
                let Some(Shown { bytes, cut_bytes, style }) = reader.next()? else { break };
                room = room.saturating_sub(bytes.len().max(1));
                found.push(Line { number: from + found.len() as u64, bytes, cut_bytes, written_at, style });
            }
        }
        Ok(found)
    }

    /// Where a line begins.
    pub fn place_of(&self, line: u64) -> io::Result<LogToken> {
        for part in &self.parts {
            if line <= part.before + part.lines.count() {
                let offset = part.lines.start_of(line.max(1) - 1 - part.before)?;
                return Ok(LogToken { attempt: part.attempt, offset });
            }
        }
        let end = self.parts.last().map(|part| LogToken { attempt: part.attempt, offset: part.lines.length });
        Ok(end.unwrap_or_default())
    }
}

/// Reads the lines of a file one after the other, and skips the middle of long ones.
struct LineReader<'a> {
    lines: &'a FileLines,
    /// The line at `offset`, and the style there.
    line: u64,
    offset: u64,
    style: Style,
    /// Read ahead: what begins at `offset`, after what was given already.
    buffer: Vec<u8>,
    given: usize,
}

/// What is shown of a line.
struct Shown {
    bytes: Vec<u8>,
    cut_bytes: u64,
    style: Style,
}

impl<'a> LineReader<'a> {
    fn new(lines: &'a FileLines, line: u64) -> io::Result<Self> {
        let offset = lines.start_of(line)?;
        let (style, _) = lines.style_at(offset)?;
        Ok(Self { lines, line, offset, style, buffer: Vec::new(), given: 0 })
    }

    fn next(&mut self) -> io::Result<Option<Shown>> {
        if self.line >= self.lines.count() {
            return Ok(None);
        }
        if memchr(b'\n', &self.buffer[self.given..]).is_none() {
            self.buffer = self.lines.read(self.offset, 4 * LINE_BYTES)?;
            self.given = 0;
        }
        let ahead = &self.buffer[self.given..];
        let in_sight = memchr(b'\n', ahead)
            .or_else(|| (self.offset + ahead.len() as u64 >= self.lines.length).then_some(ahead.len()));
        let next = match in_sight {
            Some(end) => (self.offset + end as u64 + 1).min(self.lines.length),
            None => self.lines.start_of(self.line + 1)?,
        };
        let is_ended = next < self.lines.length || self.lines.read(next - 1, 1)? == b"\n";
        let end = next - u64::from(is_ended);
        let line = &ahead[..in_sight.unwrap_or(ahead.len())];
        let mut shown =
            Shown { bytes: line[..whole_length(line, LINE_BYTES)].to_vec(), cut_bytes: 0, style: self.style };
        let is_cut = end - self.offset > shown.bytes.len() as u64;
        // For text that is overwritten repeatedly, its last state is shown.
        if is_cut && memchr(b'\r', &shown.bytes).is_some() {
            (shown.style, shown.bytes) = self.last_overwritten(end)?;
        }
        shown.cut_bytes = end - self.offset - shown.bytes.len() as u64;
        match in_sight {
            Some(end) => {
                self.style.pass(&ahead[..end], end);
                self.given += usize::try_from(next - self.offset).unwrap_or(usize::MAX);
            }
            None => {
                (self.style, _) = self.lines.style_at(next)?;
                (self.buffer, self.given) = (Vec::new(), 0);
            }
        }
        (self.line, self.offset) = (self.line + 1, next);
        Ok(Some(shown))
    }

    /// The last part of a line that ends here, from where the cursor goes back to its beginning; and the style there.
    fn last_overwritten(&self, end: u64) -> io::Result<(Style, Vec<u8>)> {
        let (first, from) = self.lines.style_at(end - LINE_BYTES as u64)?;
        let mut tail = self.lines.read(from, usize::try_from(end - from).unwrap_or(LINE_BYTES))?;
        let mut style = first;
        for piece in Pieces::new(&tail) {
            match piece {
                Piece::Text(range) => {
                    if let Some(at) = memchr(b'\r', &tail[range.clone()]) {
                        return Ok((style, tail.split_off(range.start + at)));
                    }
                }
                Piece::Command(range) => style.obey(&tail[range]),
            }
        }
        Ok((first, tail))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{logs, write};
    use super::*;

    fn texts(lines: &[Line]) -> Vec<(u64, String)> {
        let text = |line: &Line| String::from_utf8_lossy(&line.bytes).into_owned();
        lines.iter().map(|line| (line.number, text(line))).collect()
    }

    #[test]
    fn the_lines_of_all_attempts_are_counted_through() {
        let (_folder, logs, run_id) = logs();
        assert_eq!(logs.view(run_id, 0).unwrap().line_count(), 0);
        assert!(logs.view(run_id, 0).unwrap().lines(1, 10).unwrap().is_empty());
        write(&logs, run_id, 1, b"one\n\nthree");
        write(&logs, run_id, 3, b"four\nfive\n");
        let view = logs.view(run_id, 3).unwrap();
        assert_eq!((view.line_count(), view.bytes()), (5, 20));
        let expected: Vec<_> = ["one", "", "three", "four", "five"]
            .into_iter()
            .zip(1..)
            .map(|(text, number)| (number, text.to_owned()))
            .collect();
        assert_eq!(texts(&view.lines(1, 10).unwrap()), expected);
        assert_eq!(texts(&view.lines(0, 2).unwrap()), expected[..2]);
        assert_eq!(texts(&view.lines(3, 2).unwrap()), expected[2..4]);
        assert_eq!(texts(&view.lines(5, 2).unwrap()), expected[4..]);
        assert!(view.lines(6, 2).unwrap().is_empty());
        assert_eq!(view.place_of(4).unwrap(), LogToken { attempt: 3, offset: 0 });
        assert_eq!(view.place_of(99).unwrap(), LogToken { attempt: 3, offset: 10 });
    }

    #[test]
    fn a_long_line_is_cut_and_says_how_much_is_left_out() {
        let (_folder, logs, run_id) = logs();
        let long = 10 * LINE_BYTES;
        write(&logs, run_id, 1, format!("first\n{}\nlast", "x".repeat(long)).as_bytes());
        let found = logs.view(run_id, 1).unwrap().lines(1, 10).unwrap();
        assert_eq!(found.len(), 3);
        assert_eq!((found[1].bytes.len(), found[1].cut_bytes), (LINE_BYTES, (long - LINE_BYTES) as u64));
        assert_eq!((found[2].number, found[2].bytes.as_slice()), (3, &b"last"[..]));
    }

    #[test]
    fn a_long_line_that_overwrites_itself_is_shown_as_it_is_at_last() {
        let (_folder, logs, run_id) = logs();
        let progress: String = (0..10_000).map(|i| format!("\rstep {i} of 10000")).collect();
        for end in ["", "\n"] {
            write(&logs, run_id, if end.is_empty() { 1 } else { 2 }, format!("{progress}{end}").as_bytes());
        }
        for line in logs.view(run_id, 2).unwrap().lines(1, 9).unwrap() {
            assert!(line.bytes.starts_with(b"\r") && line.bytes.ends_with(b"\rstep 9999 of 10000"));
            assert_eq!(line.cut_bytes + line.bytes.len() as u64, progress.len() as u64);
        }
    }

    #[test]
    fn one_look_reads_a_bounded_amount() {
        let (_folder, logs, run_id) = logs();
        write(&logs, run_id, 1, format!("{}\n", "x".repeat(LINE_BYTES)).repeat(100).as_bytes());
        let view = logs.view(run_id, 1).unwrap();
        assert_eq!(view.lines(1, 100).unwrap().len(), LINES_BYTES / LINE_BYTES);
        assert_eq!(view.lines(90, 100).unwrap().len(), 11);
    }

    /// The style in which each line of a log begins, read in one go.
    fn styles(view: &LogView) -> Vec<Style> {
        let mut styles = Vec::new();
        while let Some(lines) =
            Some(view.lines(styles.len() as u64 + 1, 1000).unwrap()).filter(|found| !found.is_empty())
        {
            styles.extend(lines.into_iter().map(|line| line.style));
        }
        styles
    }

    #[test]
    fn colours_are_the_same_from_wherever_one_reads() {
        let (folder, logs, run_id) = logs();
        let long = "x".repeat(10 * LINE_BYTES);
        // A reset far back in a line that is cut, a colour over many lines, one that begins across a block, and a link
        // without an end, which hides no reset.
        let text = format!(
            "\x1b[31mred{long}\x1b[0m\nplain\n\x1b[32mgreen\n{}\x1b[0m\n\x1b[1m{}\x1b[38;2;0;0;255mblue\n{}\x1b]8;;\x1b[0m\nstill\n",
            "still green\n".repeat(40_000),
            "y".repeat(64 * 1024 - 5),
            "still blue\n".repeat(10_000),
        );
        write(&logs, run_id, 1, text.as_bytes());
        write(&logs, run_id, 2, b"\x1b[35munended");
        write(&logs, run_id, 3, b"plain again\nplain");
        let view = logs.view(run_id, 3).unwrap();
        let styles = styles(&view);
        let colour = |line: u64| styles[usize::try_from(line - 1).unwrap()].text;
        assert_eq!([1, 2, 3, 4, 40_004, 40_005].map(colour), [None, None, None, Some(2), Some(2), None]);
        assert_eq!([40_006, 40_007, 50_006].map(colour), [Some(12); 3]);
        let last = view.line_count();
        assert_eq!([last - 3, last - 2, last - 1, last].map(colour), [None; 4]);
        // From each line on, and with an index of its own that knows less or more of the log.
        let other = Logs::open(folder.path()).unwrap();
        for line in (1..=last).step_by(997).chain([2, 3, 4, 40_004, 40_005, 40_006, 50_006, 50_007, last - 1, last]) {
            for view in [&view, &other.view(run_id, 3).unwrap()] {
                let found = view.lines(line, 2).unwrap();
                for line in found {
                    assert_eq!(
                        Some(&line.style),
                        styles.get(usize::try_from(line.number - 1).unwrap()),
                        "{}",
                        line.number
                    );
                }
            }
        }
    }

    #[test]
    fn a_progress_bar_that_is_cut_is_shown_in_the_colour_that_it_has_at_last() {
        let (_folder, logs, run_id) = logs();
        let progress = "\r\x1b[31mred".repeat(20_000) + &"\x1b[32m\rgreen".repeat(3000) + "\x1b[0m\nplain";
        write(&logs, run_id, 1, progress.as_bytes());
        let lines = logs.view(run_id, 1).unwrap().lines(1, 2).unwrap();
        assert!(lines[0].bytes.starts_with(b"\rgreen"), "{:?}", String::from_utf8_lossy(&lines[0].bytes[..40]));
        assert_eq!((lines[0].style.text, lines[1].style), (Some(2), Style::default()));
    }

    #[test]
    fn a_long_line_is_cut_between_characters_and_commands() {
        let (_folder, logs, run_id) = logs();
        let filled = "x".repeat(LINE_BYTES - 2);
        write(&logs, run_id, 1, format!("{filled}€{filled}\n{filled}\x1b[31mred{filled}\n").as_bytes());
        for line in logs.view(run_id, 1).unwrap().lines(1, 2).unwrap() {
            assert_eq!(line.bytes, filled.as_bytes());
        }
    }

    proptest! {
        #[test]
        fn the_style_of_a_line_is_the_same_from_each_line_before_it(
            pieces in prop::collection::vec(prop_oneof!["[ab]{0,3}", "\n", "\x1b\\[[0-9;]{0,4}m", "\x1b\\]", "\x07", Just("z".repeat(LINE_BYTES))], 0..40),
        ) {
            let (_folder, logs, run_id) = logs();
            write(&logs, run_id, 1, pieces.concat().as_bytes());
            let view = logs.view(run_id, 1).unwrap();
            let styles = styles(&view);
            for from in 1..=view.line_count() {
                let found: Vec<_> = view.lines(from, 100).unwrap().into_iter().map(|line| line.style).collect();
                let first = usize::try_from(from - 1).unwrap();
                prop_assert_eq!(&found[..], &styles[first..first + found.len()]);
            }
        }

        #[test]
        fn ranges_of_any_size_make_the_whole(
            lines in prop::collection::vec(prop_oneof![".{0,40}", Just("y".repeat(4 * LINE_BYTES - 1))], 0..12),
            is_ended: bool,
            count in 1_usize..5,
        ) {
            let (_folder, logs, run_id) = logs();
            let mut text = lines.join("\n");
            if is_ended { text.push('\n') }
            write(&logs, run_id, 1, text.as_bytes());
            let view = logs.view(run_id, 1).unwrap();
            let expected: Vec<&[u8]> = text.as_bytes().split_inclusive(|byte| *byte == b'\n').collect();
            let mut from = 1;
            while let Some(range) = Some(view.lines(from, count).unwrap()).filter(|range| !range.is_empty()) {
                for line in range {
                    prop_assert_eq!(line.number, from);
                    let whole = expected[usize::try_from(from).unwrap() - 1];
                    let whole = whole.strip_suffix(b"\n").unwrap_or(whole);
                    prop_assert_eq!(line.bytes.len() as u64 + line.cut_bytes, whole.len() as u64);
                    prop_assert!(line.cut_bytes > 0 || line.bytes == whole);
                    from += 1;
                }
            }
            prop_assert_eq!(from - 1, expected.len() as u64);
            prop_assert_eq!(view.line_count(), expected.len() as u64);
        }
    }
}
