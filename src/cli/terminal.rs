//! The output of tasks on a terminal: its text, and the commands that change colours. With others a task could write over
//! what stands there, name the window, fill the clipboard, or have the terminal type.

use std::io::{self, Write};

use crate::escapes::{COMMAND_BYTES, ESCAPE, Piece, Pieces};

const RESET: &[u8] = b"\x1b[0m";

/// Where a log goes.
#[derive(Debug, Default)]
pub enum LogWriter {
    /// To a file, a program, or a terminal whose user asked for it: byte for byte.
    #[default]
    AsItIs,
    /// To a terminal.
    Safe(Filter),
}

impl LogWriter {
    pub const fn is_exact(&self) -> bool {
        matches!(self, Self::AsItIs)
    }

    pub fn write(&mut self, out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::AsItIs => out.write_all(bytes)?,
            Self::Safe(filter) => out.write_all(&filter.pass(bytes))?,
        }
        out.flush()
    }

    /// The log is over, or something else is written.
    pub fn end(&mut self, out: &mut impl Write) -> io::Result<()> {
        match self {
            Self::AsItIs => Ok(()),
            Self::Safe(filter) => {
                out.write_all(&filter.end())?;
                out.flush()
            }
        }
    }
}

/// Bytes come in pieces, and a command or a character may lie in two of them.
#[derive(Debug, Default)]
pub struct Filter {
    held: Vec<u8>,
    has_style: bool,
}

impl Filter {
    fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(bytes);
        let rest = self.held.split_off(ready_length(&self.held));
        let ready = std::mem::replace(&mut self.held, rest);
        self.shown(&ready)
    }

    fn end(&mut self) -> Vec<u8> {
        let held = std::mem::take(&mut self.held);
        let mut shown = self.shown(&held);
        if std::mem::take(&mut self.has_style) {
            shown.extend_from_slice(RESET);
        }
        shown
    }

    fn shown(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut shown = Vec::with_capacity(bytes.len());
        for piece in Pieces::new(bytes) {
            match piece {
                Piece::Text(range) => push_text(&mut shown, &bytes[range]),
                Piece::Command(range) if is_style(&bytes[range.clone()]) => {
                    self.has_style = true;
                    shown.push(ESCAPE);
                    shown.extend_from_slice(&bytes[range]);
                }
                Piece::Command(_) => {}
            }
        }
        shown
    }
}

/// `CSI … m`: colours, bold, underlined.
fn is_style(command: &[u8]) -> bool {
    let numbers = command.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"m"));
    numbers.is_some_and(|numbers| numbers.iter().all(|byte| matches!(byte, b'0'..=b'9' | b';' | b':')))
}

/// A carriage return alone would let the rest of a line hide its beginning, and becomes a line break.
fn push_text(shown: &mut Vec<u8>, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let c = match c {
            '\r' if chars.peek() == Some(&'\n') => continue,
            '\r' => '\n',
            '\n' | '\t' => c,
            c if c.is_control() => char::REPLACEMENT_CHARACTER,
            c => c,
        };
        shown.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
}

/// How much can be shown before more comes: neither the beginning of a command nor that of a character, nor a carriage
/// return that a line feed may follow.
fn ready_length(bytes: &[u8]) -> usize {
    for piece in Pieces::new(bytes) {
        if let Piece::Command(range) = piece
            && may_go_on(&bytes[range.start..], range.len())
        {
            return range.start - 1;
        }
    }
    if bytes.ends_with(b"\r") {
        return bytes.len() - 1;
    }
    let begins_character = |at: &usize| {
        let begun = std::str::from_utf8(&bytes[*at..]).err();
        begun.is_some_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
    };
    (bytes.len().saturating_sub(3)..bytes.len()).find(begins_character).unwrap_or(bytes.len())
}

/// Whether what comes may still belong to a command of which so many bytes are known. It ends on its line.
fn may_go_on(rest: &[u8], length: usize) -> bool {
    let has_last = |last: std::ops::RangeInclusive<u8>| rest[1..length].last().is_some_and(|byte| last.contains(byte));
    if rest.len() >= COMMAND_BYTES - 1 {
        return false;
    }
    match rest.first() {
        None => true,
        // Whose end is not known.
        Some(b']' | b'P' | b'X' | b'^' | b'_') if length == 1 => !rest.contains(&b'\n'),
        Some(b'[') => length == rest.len() && !has_last(b'@'..=b'~'),
        Some(b' '..=b'/') => length == rest.len() && !has_last(b'0'..=b'~'),
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is shown of these pieces of a log.
    fn shown(pieces: &[&[u8]]) -> Vec<u8> {
        let mut filter = Filter::default();
        let mut shown: Vec<u8> = pieces.iter().flat_map(|piece| filter.pass(piece)).collect();
        shown.extend(filter.end());
        shown
    }

    #[test]
    fn text_and_colours_are_passed_on_and_nothing_else() {
        for (log, expected) in [
            ("plain é 日本 😀\n\tindented\n", "plain é 日本 😀\n\tindented\n"),
            ("\x1b[1;38:5:208mbold\x1b[0m", "\x1b[1;38:5:208mbold\x1b[0m\x1b[0m"),
            ("a\x1b[2Jb\x1b[1;1Hc\x1b[?25l\x1b[6n\x1b[>4;2m\x1b[c", "abc"),
            ("\x1b]0;title\x07a\x1b]52;c;cm0gLXJm\x07b\x1b]8;;http://x\x1b\\c\x1b]8;;\x1b\\", "abc"),
            ("\x1bP+q544e\x1b\\a\x1bcb\x1b7\x1b(0", "ab"),
            // In eight bits, as some terminals take them.
            ("a\u{9b}2Jb\u{9d}0;x\u{9c}", "a\u{fffd}2Jb\u{fffd}0;x\u{fffd}"),
            ("a\x08\x07\0\x7fb", "a\u{fffd}\u{fffd}\u{fffd}\u{fffd}b"),
            ("rm -rf /\rls      \n10 %\r20 %\r\nend\r", "rm -rf /\nls      \n10 %\n20 %\nend\n"),
            // A command without its end hides nothing.
            ("\x1b]0;not ended\nnext", "0;not ended\nnext"),
            ("\x1b[31\nx\x1b", "\nx"),
        ] {
            assert_eq!(String::from_utf8(shown(&[log.as_bytes()])).unwrap(), expected, "{log:?}");
        }
        assert_eq!(shown(&[b"a\xffb\xc3"]), "a\u{fffd}b\u{fffd}".as_bytes());
    }

    #[test]
    fn what_is_complete_is_shown_before_more_comes() {
        let mut filter = Filter::default();
        for (piece, expected) in [
            ("10 %", "10 %"),
            ("\x1b[3", ""),
            ("1mred", "\x1b[31mred"),
            ("\x1b", ""),
            ("]0;ti", ""),
            ("tle\x07 é", " é"),
            ("\r", ""),
            ("\nx\x1b]0;no end", "\nx"),
            ("\n", "0;no end\n"),
        ] {
            assert_eq!(String::from_utf8(filter.pass(piece.as_bytes())).unwrap(), expected, "{piece:?}");
        }
        assert_eq!(filter.end(), RESET);
        let long = format!("\x1b]{}", "x".repeat(2 * COMMAND_BYTES));
        assert_eq!(filter.pass(long.as_bytes()).len(), 2 * COMMAND_BYTES);
    }

    proptest! {
        #[test]
        fn wherever_a_log_is_cut_the_same_is_shown(
            log in "(\\x1b(\\[[0-9;?]{0,3}[a-zA-Z]?|\\]|\\\\|P|c)?|[aé日😀\\n\\r\\x07\\u{9b}]){0,40}",
            cuts in prop::collection::vec(0_usize..200, 0..6),
            extra in prop::collection::vec(any::<u8>(), 0..6),
        ) {
            let bytes = [log.as_bytes(), &extra].concat();
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(bytes.len())).chain([0, bytes.len()]).collect();
            cuts.sort_unstable();
            let pieces: Vec<_> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            let whole = shown(&[&bytes]);
            prop_assert_eq!(&shown(&pieces), &whole);
            let text = String::from_utf8(whole).unwrap();
            let of_style = |rest: &str| rest.starts_with('[') && rest.trim_start_matches(|c: char| "[0123456789;:".contains(c)).starts_with('m');
            for rest in text.split('\x1b').skip(1) {
                prop_assert!(of_style(rest), "{:?}", text);
            }
            prop_assert!(text.chars().all(|c| !c.is_control() || "\n\t\x1b".contains(c)), "{:?}", text);
        }
    }
}
