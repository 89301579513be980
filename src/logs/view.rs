//! A run's log as lines: those of its attempts, one after the other, counted from 1 on through all of them.
//!
//! A view is the log as it was when it was taken; what is written later belongs to the next one. The end of an attempt
//! ends its last line.

use std::io;
use std::path::PathBuf;

use jiff::Timestamp;
use memchr::memchr;

use super::lines::FileLines;
use super::times::Times;
use super::{LogToken, Logs};
use crate::model::{AttemptId, RunId};

/// How much of one line is read: nobody reads more of it on a page.
pub const LINE_BYTES: usize = 16 * 1024;
/// How much one look at lines reads, however many were asked for.
const LINES_BYTES: usize = 1024 * 1024;
/// How far back colours are looked for that still hold at the first line.
const LEAD_BYTES: usize = 4 * 1024;

/// One line, without its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub number: u64,
    pub bytes: Vec<u8>,
    /// How many bytes of the line are left out.
    pub cut_bytes: u64,
    /// When the line began to arrive, to the second; not known of logs from before that was noted.
    pub written_at: Option<Timestamp>,
}

/// Some lines that follow one another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lines {
    pub lines: Vec<Line>,
    /// The whole lines just before them, whose colours may reach into them.
    pub lead: Vec<u8>,
}

/// A log as it was when it was looked at.
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
    /// The log as it is now. Takes the time to read what was never looked at.
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
    pub fn lines(&self, from: u64, count: usize) -> io::Result<Lines> {
        let from = from.max(1);
        let mut found = Lines::default();
        let mut room = LINES_BYTES;
        for part in &self.parts {
            let wanted = from + found.lines.len() as u64;
            if wanted > part.before + part.lines.count() {
                continue;
            }
            // What was asked for may end with the attempt before.
            let Some(line) = (wanted - 1).checked_sub(part.before) else { break };
            let mut reader = LineReader::new(&part.lines, line)?;
            if found.lines.is_empty() {
                found.lead = part.lines.read_before(reader.offset, LEAD_BYTES)?;
            }
            let mut times = Times::open(&part.path);
            while found.lines.len() < count && (room > 0 || found.lines.is_empty()) {
                let written_at = times.at(reader.offset);
                let Some((bytes, cut_bytes)) = reader.next()? else { break };
                room = room.saturating_sub(bytes.len().max(1));
                found.lines.push(Line { number: from + found.lines.len() as u64, bytes, cut_bytes, written_at });
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

/// Reads the lines of a file one after the other, and leaps over the middle of long ones.
struct LineReader<'a> {
    lines: &'a FileLines,
    /// The line at `offset`.
    line: u64,
    offset: u64,
    /// Read ahead: what begins at `offset`, but for what of it was given already.
    buffer: Vec<u8>,
    given: usize,
}

impl<'a> LineReader<'a> {
    fn new(lines: &'a FileLines, line: u64) -> io::Result<Self> {
        Ok(Self { lines, line, offset: lines.start_of(line)?, buffer: Vec::new(), given: 0 })
    }

    /// A line, and how many of its bytes are left out.
    fn next(&mut self) -> io::Result<Option<(Vec<u8>, u64)>> {
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
        let length = next - self.offset - u64::from(is_ended);
        let shown = usize::try_from(length).unwrap_or(usize::MAX).min(LINE_BYTES);
        let cut_bytes = length - shown as u64;
        let mut bytes = ahead[..shown].to_vec();
        // What is overwritten again and again is worth seeing as it is at last.
        if cut_bytes > 0 && memchr(b'\r', &bytes).is_some() {
            let tail = self.lines.read(next - u64::from(is_ended) - shown as u64, shown)?;
            bytes = tail[memchr(b'\r', &tail).unwrap_or_default()..].to_vec();
        }
        let cut_bytes = length - bytes.len() as u64;
        match in_sight {
            Some(_) => self.given += usize::try_from(next - self.offset).unwrap_or(usize::MAX),
            None => (self.buffer, self.given) = (Vec::new(), 0),
        }
        (self.line, self.offset) = (self.line + 1, next);
        Ok(Some((bytes, cut_bytes)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{logs, write};
    use super::*;

    fn texts(lines: &Lines) -> Vec<(u64, String)> {
        let text = |line: &Line| String::from_utf8_lossy(&line.bytes).into_owned();
        lines.lines.iter().map(|line| (line.number, text(line))).collect()
    }

    #[test]
    fn the_lines_of_all_attempts_are_counted_through() {
        let (_folder, logs, run_id) = logs();
        assert_eq!(logs.view(run_id, 0).unwrap().line_count(), 0);
        assert!(logs.view(run_id, 0).unwrap().lines(1, 10).unwrap().lines.is_empty());
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
        assert!(view.lines(6, 2).unwrap().lines.is_empty());
        assert_eq!(view.lines(3, 1).unwrap().lead, b"one\n\n");
        assert_eq!(view.place_of(4).unwrap(), LogToken { attempt: 3, offset: 0 });
        assert_eq!(view.place_of(99).unwrap(), LogToken { attempt: 3, offset: 10 });
    }

    #[test]
    fn a_long_line_is_cut_and_says_how_much_is_left_out() {
        let (_folder, logs, run_id) = logs();
        let long = 10 * LINE_BYTES;
        write(&logs, run_id, 1, format!("first\n{}\nlast", "x".repeat(long)).as_bytes());
        let found = logs.view(run_id, 1).unwrap().lines(1, 10).unwrap().lines;
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
        for line in logs.view(run_id, 2).unwrap().lines(1, 9).unwrap().lines {
            assert!(line.bytes.starts_with(b"\r") && line.bytes.ends_with(b"\rstep 9999 of 10000"));
            assert_eq!(line.cut_bytes + line.bytes.len() as u64, progress.len() as u64);
        }
    }

    #[test]
    fn one_look_reads_a_bounded_amount() {
        let (_folder, logs, run_id) = logs();
        write(&logs, run_id, 1, format!("{}\n", "x".repeat(LINE_BYTES)).repeat(100).as_bytes());
        let view = logs.view(run_id, 1).unwrap();
        assert_eq!(view.lines(1, 100).unwrap().lines.len(), LINES_BYTES / LINE_BYTES);
        assert_eq!(view.lines(90, 100).unwrap().lines.len(), 11);
    }

    proptest! {
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
            while let Some(range) = Some(view.lines(from, count).unwrap().lines).filter(|range| !range.is_empty()) {
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
