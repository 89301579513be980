//! Parses the API's output format: lines that each begin with a timestamp.
//!
//! The runtime stores a line of more than 16 KB in parts of that size, each with its own timestamp. Nodes before 1.21
//! put the timestamp of each part in the middle of the line; it is removed here.

use bytes::{Buf, BytesMut};

use crate::engine::container::marker::{STAMP_BYTES, Stamp};

/// A runtime splits long lines into parts of this size.
const PART_BYTES: usize = 16 * 1024;
/// No timestamp is longer.
const LONGEST_STAMP: usize = 40;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A line, or a further part of one, begins.
    Begin(Stamp),
    /// Some of its text, including the newline if it ends here.
    Text(BytesMut),
    /// A line without a timestamp: the node's message that it has no output.
    NoOutput,
}

#[derive(Debug, Default)]
pub(super) struct Lines {
    buffer: BytesMut,
    place: Place,
}

#[derive(Debug, Clone, Copy, Default)]
enum Place {
    #[default]
    LineBegin,
    /// This many bytes of a part were returned.
    InPart(usize),
}

impl Lines {
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next line that the bytes so far determine.
    pub(super) fn next(&mut self) -> Option<Line> {
        self.take(false)
    }

    /// What is left when no more bytes come.
    pub(super) fn rest(&mut self) -> Option<Line> {
        self.take(true)
    }

    fn take(&mut self, is_end: bool) -> Option<Line> {
        if self.buffer.is_empty() {
            return None;
        }
        match self.place {
            Place::LineBegin => self.take_begin(is_end),
            Place::InPart(PART_BYTES) => {
                // Either a timestamp of the next part, or more text.
                if self.buffer.len() <= STAMP_BYTES && !self.buffer.contains(&b'\n') && !is_end {
                    return None;
                }
                self.place = Place::InPart(0);
                match Stamp::split(&self.buffer) {
                    Some((stamp, _)) => {
                        self.buffer.advance(STAMP_BYTES + 1);
                        Some(Line::Begin(stamp))
                    }
                    None => self.take(is_end),
                }
            }
            Place::InPart(so_far) => {
                let end = self.buffer.iter().take(PART_BYTES - so_far).position(|byte| *byte == b'\n');
                let length = end.map_or((PART_BYTES - so_far).min(self.buffer.len()), |end| end + 1);
                self.place = if end.is_some() { Place::LineBegin } else { Place::InPart(so_far + length) };
                Some(Line::Text(self.buffer.split_to(length)))
            }
        }
    }

    fn take_begin(&mut self, is_end: bool) -> Option<Line> {
        let space = self.buffer.iter().take(LONGEST_STAMP + 1).position(|byte| *byte == b' ');
        match space.map(|space| (space, Stamp::parse(&self.buffer[..space]))) {
            Some((space, Some(stamp))) => {
                self.buffer.advance(space + 1);
                self.place = Place::InPart(0);
                Some(Line::Begin(stamp))
            }
            None if self.buffer.len() <= LONGEST_STAMP && !is_end => None,
            Some((_, None)) | None => {
                self.buffer.clear();
                Some(Line::NoOutput)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STAMPS: [&str; 2] = ["2026-11-22T14:38:52.000000001Z", "2026-11-22T14:38:53.000000000Z"];

    fn stamp(text: &str) -> Stamp {
        Stamp::parse(text.as_bytes()).unwrap()
    }

    /// The lines of bytes that arrive in pieces; consecutive texts are joined.
    fn read(pieces: &[&[u8]]) -> Vec<(Option<Stamp>, String)> {
        let (mut lines, mut found) = (Lines::default(), Vec::<(Option<Stamp>, String)>::new());
        let mut take = |line: Line| match line {
            Line::Begin(stamp) => found.push((Some(stamp), String::new())),
            Line::Text(text) => found.last_mut().unwrap().1.push_str(std::str::from_utf8(&text).unwrap()),
            Line::NoOutput => found.push((None, String::new())),
        };
        for piece in pieces {
            lines.add(piece);
            while let Some(line) = lines.next() {
                take(line);
            }
        }
        while let Some(line) = lines.rest() {
            take(line);
        }
        found
    }

    #[test]
    fn lines_are_told_with_their_times_in_whatever_zone() {
        let text = format!("{} one\n2026-11-22T15:38:53+01:00 two\n{} \n{} end", STAMPS[0], STAMPS[1], STAMPS[1]);
        let [first, second] = STAMPS.map(stamp);
        let expected = [(first, "one\n"), (second, "two\n"), (second, "\n"), (second, "end")];
        assert_eq!(read(&[text.as_bytes()]), expected.map(|(stamp, text)| (Some(stamp), text.to_owned())));
    }

    #[test]
    fn the_times_in_the_midst_of_a_long_line_are_taken_out() {
        let part = "x".repeat(PART_BYTES);
        let [first, second] = STAMPS.map(stamp);
        let old = format!("{0} {part}{1} {part}{1} end\n{1} b\n", STAMPS[0], STAMPS[1]);
        let expected = [(first, part.as_str()), (second, &part), (second, "end\n"), (second, "b\n")];
        assert_eq!(read(&[old.as_bytes()]), expected.map(|(stamp, text)| (Some(stamp), text.to_owned())));
        let new = format!("{} {part}{part}end\n", STAMPS[0]);
        assert_eq!(read(&[new.as_bytes()]), [(Some(first), format!("{part}{part}end\n"))]);
        let exact = format!("{} {part}\n{} b\n", STAMPS[0], STAMPS[1]);
        assert_eq!(read(&[exact.as_bytes()]), [(Some(first), format!("{part}\n")), (Some(second), "b\n".into())]);
    }

    #[test]
    fn words_of_the_nodes_own_are_no_output() {
        let words = b"unable to retrieve container logs for containerd://65e419cdc9dea7abd46b0e4d90";
        assert_eq!(read(&[words]), [(None, String::new())]);
        assert_eq!(read(&[b"x"]), [(None, String::new())]);
        assert_eq!(read(&[]), []);
    }

    proptest! {
        #[test]
        fn however_the_bytes_come_the_lines_are_the_same(cuts in prop::collection::vec(0_usize..40_000, 0..8)) {
            let part = "y".repeat(PART_BYTES);
            let text = format!("{0} a\n{0} {part}{1} rest\n{1} b\n{1} {part}", STAMPS[0], STAMPS[1]);
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces: Vec<_> = cuts.windows(2).map(|pair| &text.as_bytes()[pair[0]..pair[1]]).collect();
            prop_assert_eq!(read(&pieces), read(&[text.as_bytes()]));
        }
    }
}
