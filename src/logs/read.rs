//! Reading a run's log from a token on.
//!
//! The log of a run is the logs of its attempts, one after the other; but for attempts that never ran there is one. A
//! token says which attempt and how many bytes of it have been read, so it stays good while the run writes, after it
//! ended, and over a restart.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::str::FromStr;

use super::Logs;
use crate::model::{AttemptId, RunId};

/// Up to where a run's log has been read. Clients treat its text as opaque.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogToken {
    pub attempt: u32,
    pub offset: u64,
}

impl LogToken {
    /// The texts of tokens, as a regular expression.
    pub const PATTERN: &str = "^f/[1-9][0-9]{0,8}/(0|[1-9][0-9]{0,17})$";
}

impl Default for LogToken {
    /// The beginning.
    fn default() -> Self {
        Self { attempt: 1, offset: 0 }
    }
}

impl fmt::Display for LogToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "f/{}/{}", self.attempt, self.offset)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a token of this server")]
pub struct NotAToken(pub String);

impl FromStr for LogToken {
    type Err = NotAToken;

    fn from_str(text: &str) -> Result<Self, NotAToken> {
        let parsed = text.strip_prefix("f/").and_then(|rest| rest.split_once('/')).and_then(|(attempt, offset)| {
            // No file goes further.
            let offset = offset.parse().ok().filter(|offset| i64::try_from(*offset).is_ok())?;
            Some(Self { attempt: attempt.parse().ok().filter(|n| *n > 0)?, offset })
        });
        // One text for one place: `f/01/+5` is none of ours.
        parsed.filter(|token| token.to_string() == text).ok_or_else(|| NotAToken(text.to_owned()))
    }
}

/// Some bytes of a log, and the token for what comes after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPiece {
    pub bytes: Vec<u8>,
    pub next: LogToken,
}

#[derive(Debug, thiserror::Error)]
pub enum TokenProblem {
    #[error(transparent)]
    Foreign(#[from] NotAToken),
    #[error("the log can't be read")]
    Io(#[from] io::Error),
}

impl Logs {
    /// At most `most` bytes after the token, whole UTF-8 characters as long as more may come. No bytes and the same
    /// token where there is nothing new. `most` is at least 4, the longest character.
    ///
    /// A token beyond the end of a complete log is not ours. One of a log that was removed, or that a restarted server
    /// is still catching up with, reads nothing.
    pub fn read(
        &self,
        run_id: RunId,
        attempts: u32,
        from: LogToken,
        most: usize,
        is_complete: bool,
    ) -> Result<LogPiece, TokenProblem> {
        if from.attempt > attempts.max(1) {
            return Err(NotAToken(from.to_string()).into());
        }
        for attempt in from.attempt..=attempts.max(1) {
            let offset = if attempt == from.attempt { from.offset } else { 0 };
            let is_final = is_complete || attempt < attempts;
            let Some(mut file) = self.file(AttemptId { run_id, attempt })? else { continue };
            let length = file.metadata()?.len();
            if offset > length && is_final {
                return Err(NotAToken(from.to_string()).into());
            }
            // Few file systems let anybody seek as far as a number can be large.
            let bytes = if offset > length { Vec::new() } else { read_at(&mut file, offset, most)? };
            let is_end = offset + bytes.len() as u64 >= length;
            let bytes = if is_final && is_end { bytes } else { whole_characters(bytes) };
            if !bytes.is_empty() {
                let next = LogToken { attempt, offset: offset + bytes.len() as u64 };
                return Ok(LogPiece { bytes, next });
            }
        }
        Ok(LogPiece { bytes: Vec::new(), next: from })
    }

    fn file(&self, attempt_id: AttemptId) -> io::Result<Option<File>> {
        match File::open(self.path(attempt_id)) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn read_at(file: &mut File, offset: u64, most: usize) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.take(most as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Without the beginning of a character at the end, which the next bytes may complete. What can't become a character
/// stays: a log may hold any bytes.
fn whole_characters(mut bytes: Vec<u8>) -> Vec<u8> {
    let tail = bytes.iter().rev().take(4).position(|byte| !is_continuation(*byte));
    if let Some(back) = tail {
        let start = bytes.len() - 1 - back;
        let needed = match bytes[start] {
            0xC2..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF4 => 4,
            _ => 1,
        };
        if bytes.len() - start < needed {
            bytes.truncate(start);
        }
    }
    bytes
}

const fn is_continuation(byte: u8) -> bool {
    byte & 0b1100_0000 == 0b1000_0000
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{logs, write};
    use super::*;

    #[test]
    fn a_token_reads_back_from_its_text_and_nothing_else_does() {
        let token = LogToken { attempt: 3, offset: 4096 };
        assert_eq!(token.to_string().parse(), Ok(token));
        for text in [
            "",
            "f/",
            "f/0/1",
            "f/1",
            "f/1/-1",
            "f/1/01",
            "f/+1/1",
            "g/1/1",
            "f/1/1/1",
            "f/1/9223372036854775808",
            "f/1/99999999999999999999",
        ] {
            assert!(text.parse::<LogToken>().is_err(), "{text}");
        }
    }

    #[test]
    fn nothing_new_gives_the_same_token_back() {
        let (_folder, logs, run_id) = logs();
        let start = LogToken::default();
        assert_eq!(logs.read(run_id, 0, start, 100, false).unwrap().next, start);
        write(&logs, run_id, 1, b"hello\n");
        let piece = logs.read(run_id, 1, start, 100, false).unwrap();
        assert_eq!(piece.bytes, b"hello\n");
        let again = logs.read(run_id, 1, piece.next, 100, true).unwrap();
        assert_eq!(again, LogPiece { bytes: vec![], next: piece.next });
    }

    #[test]
    fn the_attempts_of_a_run_are_read_as_one_log() {
        let (_folder, logs, run_id) = logs();
        write(&logs, run_id, 1, b"one ");
        write(&logs, run_id, 3, b"three");
        let first = logs.read(run_id, 3, LogToken::default(), 100, true).unwrap();
        let second = logs.read(run_id, 3, first.next, 100, true).unwrap();
        assert_eq!((first.bytes.as_slice(), second.bytes.as_slice()), (&b"one "[..], &b"three"[..]));
        assert!(logs.read(run_id, 3, second.next, 100, true).unwrap().bytes.is_empty());
    }

    #[test]
    fn a_token_beyond_the_end_is_refused_once_the_log_is_complete() {
        let (_folder, logs, run_id) = logs();
        write(&logs, run_id, 1, b"abc");
        let beyond = LogToken { attempt: 1, offset: 4 };
        assert!(logs.read(run_id, 1, beyond, 100, true).is_err());
        assert_eq!(logs.read(run_id, 1, beyond, 100, false).unwrap().next, beyond);
        assert!(logs.read(run_id, 1, LogToken { attempt: 2, offset: 0 }, 100, true).is_err());
        let farthest: LogToken = "f/1/9223372036854775807".parse().unwrap();
        assert_eq!(logs.read(run_id, 1, farthest, 100, false).unwrap().next, farthest);
    }

    #[test]
    fn a_character_is_held_back_until_it_is_whole_or_the_log_is_complete() {
        let (_folder, logs, run_id) = logs();
        let euro = "€".as_bytes();
        write(&logs, run_id, 1, &euro[..2]);
        assert!(logs.read(run_id, 1, LogToken::default(), 100, false).unwrap().bytes.is_empty());
        assert_eq!(logs.read(run_id, 1, LogToken::default(), 100, true).unwrap().bytes, &euro[..2]);
        write(&logs, run_id, 1, &euro[2..]);
        assert_eq!(logs.read(run_id, 1, LogToken::default(), 100, false).unwrap().bytes, euro);
    }

    proptest! {
        #[test]
        fn pieces_of_any_size_make_the_whole_without_cutting_a_character(text in ".{0,60}", most in 4_usize..20) {
            let (_folder, logs, run_id) = logs();
            write(&logs, run_id, 1, text.as_bytes());
            let mut token = LogToken::default();
            let mut whole = String::new();
            loop {
                let piece = logs.read(run_id, 1, token, most, false).unwrap();
                if piece.bytes.is_empty() { break }
                whole.push_str(std::str::from_utf8(&piece.bytes).unwrap());
                token = piece.next;
            }
            prop_assert_eq!(whole, text);
        }

        #[test]
        fn any_bytes_are_read_to_the_end(bytes in prop::collection::vec(any::<u8>(), 0..60), most in 4_usize..20) {
            let (_folder, logs, run_id) = logs();
            write(&logs, run_id, 1, &bytes);
            let mut token = LogToken::default();
            let mut whole = Vec::new();
            loop {
                let piece = logs.read(run_id, 1, token, most, true).unwrap();
                if piece.bytes.is_empty() { break }
                whole.extend(piece.bytes);
                token = piece.next;
            }
            prop_assert_eq!(whole, bytes);
        }
    }
}
