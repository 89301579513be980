//! The commands for a terminal among the text of a log (ECMA-48, as terminals read it). Each begins with an escape
//! character, is at most [`COMMAND_BYTES`] long and ends on its line, so that what a byte is part of depends on few bytes
//! before it, and a line always begins outside of a command.

use std::ops::{Range, RangeInclusive};

use memchr::{memchr, memchr3};

pub const ESCAPE: u8 = 0x1b;
const BELL: u8 = 0x07;

/// How long a command may be, with its escape character. Links and titles are shorter; what is longer is text.
pub const COMMAND_BYTES: usize = 4 * 1024;

/// A part of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    Text(Range<usize>),
    /// A command without its escape character; empty where the character begins none.
    Command(Range<usize>),
}

/// The pieces of these bytes, which begin outside of a command.
pub struct Pieces<'a> {
    bytes: &'a [u8],
    at: usize,
    /// No title, link or picture ends before this offset, so the search is done only once.
    unended_until: usize,
}

impl<'a> Pieces<'a> {
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, unended_until: 0 }
    }

    /// Where the command ends whose escape character is just before `start`.
    fn end_of_command(&mut self, start: usize) -> usize {
        let limit = self.bytes.len().min(start + COMMAND_BYTES - 1);
        let text = &self.bytes[start..limit];
        start
            + match text {
                // Without its end it would hide the rest of the line.
                [b']' | b'P' | b'X' | b'^' | b'_', ..] => {
                    return self.end_of_string(start + 1, limit).unwrap_or(start + 1);
                }
                [b'[', ..] => {
                    let numbers = 1 + span(&text[1..], b'0'..=b'?');
                    ended(text, numbers + span(&text[numbers..], b' '..=b'/'), b'@'..=b'~')
                }
                [b' '..=b'/', ..] => ended(text, span(text, b' '..=b'/'), b'0'..=b'~'),
                [b'0'..=b'~', ..] => 1,
                _ => 0,
            }
    }

    /// Where a title, a link or a picture ends: with a bell, or an escape character and a backslash.
    fn end_of_string(&mut self, start: usize, limit: usize) -> Option<usize> {
        let mut from = start.max(self.unended_until).min(limit);
        while let Some(at) = memchr3(BELL, ESCAPE, b'\n', &self.bytes[from..limit]) {
            let at = from + at;
            match self.bytes[at..limit] {
                [BELL, ..] => return Some(at + 1),
                [ESCAPE, b'\\', ..] => return Some(at + 2),
                [ESCAPE, _, ..] => from = at + 1,
                // The end of the line, or an escape character whose backslash is too far away.
                _ => {
                    self.unended_until = at;
                    return None;
                }
            }
        }
        self.unended_until = limit;
        None
    }
}

impl Iterator for Pieces<'_> {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        let rest = self.bytes.get(self.at..).filter(|rest| !rest.is_empty())?;
        let start = self.at;
        match memchr(ESCAPE, rest) {
            Some(0) => {
                self.at = self.end_of_command(start + 1);
                Some(Piece::Command(start + 1..self.at))
            }
            escape => {
                self.at = escape.map_or(self.bytes.len(), |escape| start + escape);
                Some(Piece::Text(start..self.at))
            }
        }
    }
}

/// Includes the last byte of a command, if present.
fn ended(text: &[u8], length: usize, last: RangeInclusive<u8>) -> usize {
    length + usize::from(text.get(length).is_some_and(|byte| last.contains(byte)))
}

/// How many bytes at the beginning are in this range.
fn span(text: &[u8], range: RangeInclusive<u8>) -> usize {
    text.iter().take_while(|byte| range.contains(byte)).count()
}

/// The ranges of these bytes that are text.
#[must_use]
pub fn seen(bytes: &[u8]) -> Vec<Range<usize>> {
    let text = |piece| match piece {
        Piece::Text(range) => Some(range),
        Piece::Command(_) => None,
    };
    Pieces::new(bytes).filter_map(text).collect()
}

/// How many of the first `most` bytes can be shown without splitting a command or a character.
#[must_use]
pub fn whole_length(bytes: &[u8], most: usize) -> usize {
    if bytes.len() <= most {
        return bytes.len();
    }
    for piece in Pieces::new(bytes) {
        match piece {
            Piece::Text(range) if range.end > most => return character_start(bytes, range.start, most),
            // With its escape character.
            Piece::Command(range) if range.end > most => return range.start - 1,
            _ => {}
        }
    }
    bytes.len()
}

/// The start of the character that contains the byte at `place`. Invalid bytes may be split anywhere.
fn character_start(bytes: &[u8], from: usize, place: usize) -> usize {
    let first = (from.max(place.saturating_sub(3))..=place).rev().find(|at| bytes[*at] & 0b1100_0000 != 0b1000_0000);
    let Some(first) = first else { return place };
    let length = match bytes[first] {
        0xC2..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xF4 => 4,
        _ => 1,
    };
    if first + length > place { first } else { place }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(line: &[u8]) -> String {
        let seen: Vec<u8> = seen(line).into_iter().flat_map(|range| line[range].to_vec()).collect();
        String::from_utf8(seen).unwrap()
    }

    #[test]
    fn what_is_seen_is_what_no_command_takes() {
        for (line, expected) in [
            ("plain\n", "plain\n"),
            ("red \x1b[1mbold\x1b[0m\n", "red bold\n"),
            ("\x1b[38;5;208mx\x1b[38:2::1:2:3my", "xy"),
            ("\x1b]0;title\x07x\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "xlink"),
            ("\x1b]0;no end\nnext\x07", "0;no end\nnext\x07"),
            ("\x1b]a\x1b[31mb\x1b]c\n\x1b]d\x07e", "abc\ne"),
            ("\x1bPx\x1b\\y\x1b(Bz\x1b=", "yz"),
            ("\x1b[31\nx\x1b[\x1b\x1b", "\nx"),
            ("\x1b\nx", "\nx"),
        ] {
            assert_eq!(text(line.as_bytes()), expected, "{line:?}");
        }
    }

    #[test]
    fn a_command_that_is_too_long_is_text() {
        let body = COMMAND_BYTES - 3;
        assert_eq!(text(format!("\x1b]{}\x07y", "x".repeat(body)).as_bytes()), "y");
        assert_eq!(text(format!("\x1b]{}\x07y", "x".repeat(body + 1)).as_bytes()).len(), body + 3);
        assert_eq!(text(format!("\x1b]{}\x1b\\y", "x".repeat(body - 1)).as_bytes()), "y");
        assert_eq!(text(format!("\x1b]{}\x1b\\y", "x".repeat(body)).as_bytes()).len(), body + 1);
        assert_eq!(text(format!("\x1b[{}m", "1".repeat(2 * COMMAND_BYTES)).as_bytes()).len(), COMMAND_BYTES + 3);
    }

    #[test]
    fn commands_without_an_end_take_no_time() {
        let line = "\x1b]".repeat(500_000);
        let begun = std::time::Instant::now();
        assert_eq!(text(line.as_bytes()), "");
        assert!(begun.elapsed() < std::time::Duration::from_secs(5), "{:?}", begun.elapsed());
    }

    #[test]
    fn a_cut_splits_neither_a_character_nor_a_command() {
        for (text, lengths) in [
            ("a€b", &[0, 1, 1, 1, 4, 5][..]),
            ("ä😀", &[0, 0, 2, 2, 2, 2, 6]),
            ("x\x1b[31my", &[0, 1, 1, 1, 1, 1, 6, 7]),
            ("\x1b]8;;u\x1b\\l", &[0, 0, 0, 0, 0, 0, 0, 0, 8, 9]),
            ("\x1b]8;;u", &[0, 0, 2, 3, 4, 5, 6]),
        ] {
            for (most, expected) in lengths.iter().enumerate() {
                assert_eq!(whole_length(text.as_bytes(), most), *expected, "{text:?} at {most}");
            }
        }
        // Invalid UTF-8.
        assert_eq!(whole_length(&[0x80; 9], 5), 5);
        assert_eq!(whole_length(&[0xff; 9], 5), 5);
    }

    proptest! {
        #[test]
        fn the_pieces_are_the_same_from_each_of_their_ends(text in "(\\x1b(\\[[0-9;]{0,3}[a-z]?|\\]|\\\\|P)?|[a\\n\\x07]){0,60}") {
            let bytes = text.as_bytes();
            let all: Vec<_> = Pieces::new(bytes).collect();
            for (number, piece) in all.iter().enumerate() {
                let (Piece::Text(range) | Piece::Command(range)) = piece;
                let shift = range.end;
                let moved = |range: Range<usize>| range.start + shift..range.end + shift;
                let rest: Vec<_> = Pieces::new(&bytes[shift..]).map(|piece| match piece {
                    Piece::Text(range) => Piece::Text(moved(range)),
                    Piece::Command(range) => Piece::Command(moved(range)),
                }).collect();
                prop_assert_eq!(&rest[..], &all[number + 1..]);
            }
        }
    }
}
