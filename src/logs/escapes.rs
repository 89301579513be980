//! The commands for a terminal among the text of a log (ECMA-48, as terminals read it): each begins with an escape
//! character, and nothing of it is seen.

use std::ops::{Range, RangeInclusive};

use memchr::{memchr, memchr2};

pub(super) const ESCAPE: u8 = 0x1b;
const BELL: u8 = 0x07;

/// How many bytes after an escape character belong to its command, of what follows on the same line. None where they
/// make no command.
#[must_use]
pub fn command_length(text: &[u8]) -> usize {
    match text {
        // Without its end it would hide the rest of the line.
        [b']' | b'P' | b'X' | b'^' | b'_', ..] => end_of_string(text).unwrap_or(1),
        [b'[', ..] => {
            let numbers = 1 + span(&text[1..], b'0'..=b'?');
            ended(text, numbers + span(&text[numbers..], b' '..=b'/'), b'@'..=b'~')
        }
        [b' '..=b'/', ..] => ended(text, span(text, b' '..=b'/'), b'0'..=b'~'),
        [b'0'..=b'~', ..] => 1,
        _ => 0,
    }
}

/// With the last byte of a command, where it is there.
fn ended(text: &[u8], length: usize, last: RangeInclusive<u8>) -> usize {
    length + usize::from(text.get(length).is_some_and(|byte| last.contains(byte)))
}

/// How many bytes at the beginning are in this range.
fn span(text: &[u8], range: RangeInclusive<u8>) -> usize {
    text.iter().take_while(|byte| range.contains(byte)).count()
}

/// Where a title, a link or a picture ends: with a bell, or an escape character and a backslash.
fn end_of_string(text: &[u8]) -> Option<usize> {
    let mut from = 1;
    loop {
        let at = from + memchr2(BELL, ESCAPE, &text[from..])?;
        match text[at..] {
            [BELL, ..] => return Some(at + 1),
            [_, b'\\', ..] => return Some(at + 2),
            _ => from = at + 1,
        }
    }
}

/// What of these lines is seen, piece by piece.
pub(super) fn seen(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut seen = Vec::new();
    let mut from = 0;
    // The end of a line on which what is begun does not end: it is looked for once.
    let mut unended_until = 0;
    while let Some(at) = memchr(ESCAPE, &bytes[from..]) {
        let escape = from + at;
        seen.push(from..escape);
        let after = &bytes[escape + 1..];
        let is_string = matches!(after, [b']' | b'P' | b'X' | b'^' | b'_', ..]);
        let length = if is_string && escape < unended_until {
            1
        } else if is_string {
            let line = &after[..memchr(b'\n', after).unwrap_or(after.len())];
            let length = command_length(line);
            if length == 1 {
                unended_until = escape + 1 + line.len();
            }
            length
        } else {
            command_length(after)
        };
        from = escape + 1 + length;
    }
    seen.push(from..bytes.len());
    seen
}

#[cfg(test)]
mod tests {
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
    fn commands_without_an_end_take_no_time() {
        let line = "\x1b]".repeat(500_000);
        let begun = std::time::Instant::now();
        assert_eq!(text(line.as_bytes()), "");
        assert!(begun.elapsed() < std::time::Duration::from_secs(5), "{:?}", begun.elapsed());
    }
}
