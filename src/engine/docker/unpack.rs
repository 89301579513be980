//! Turns the daemon's messages back into the printed output, and tracks the position in it.
//!
//! The daemon splits a line of more than 16 KB into messages, and its `local` driver drops the newline after the last
//! of them. It is restored here. (The other driver, `json-file`, can't be repaired: it replaces every byte that is
//! not UTF-8, and every character that such a split cuts through.)

use bollard::container::LogOutput;
use bytes::{Bytes, BytesMut};

use crate::engine::EngineError;
use crate::engine::container::marker::{Counter, Marker, Stamp, Take};

pub(super) struct Unpacker {
    counter: Counter,
    cut_lines: CutLines,
    skip_bytes: u64,
    last: Option<Message>,
}

/// One message from the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    /// 0 for standard output, 1 for standard error.
    stream: usize,
    pub stamp: Stamp,
    text: Bytes,
}

/// Whether one of the daemon's messages was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    Yes,
    /// It is part of a long line, and another part of the same line was identical.
    Perhaps,
    No,
}

impl Message {
    pub(super) fn read(output: &LogOutput) -> Result<Self, EngineError> {
        let (stream, line) = match output {
            LogOutput::StdOut { message } | LogOutput::StdIn { message } => (0, message),
            LogOutput::StdErr { message } => (1, message),
            // Our containers have no terminal: a message outside the frames is an error of the daemon itself.
            LogOutput::Console { message } => {
                let text = String::from_utf8_lossy(message);
                return Err(EngineError::Unavailable(format!("the daemon can't read the output: {}", text.trim())));
            }
        };
        match Stamp::split(line) {
            Some((stamp, text)) => Ok(Self { stream, stamp, text: line.slice_ref(text) }),
            None => Err(EngineError::Unavailable("the daemon sent output without a time".to_owned())),
        }
    }

    pub(super) fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.text)
    }

    /// Bytes of output, plus a few for the overhead in the daemon's file.
    pub(super) fn bytes_in_file(&self) -> u64 {
        const MOST_BESIDE: u64 = 64;
        self.text.len() as u64 + MOST_BESIDE
    }
}

impl Unpacker {
    /// Expects what the daemon sends from `marker` on; `skip_bytes` of the output after it are already stored.
    pub(super) fn new(marker: Marker, skip_bytes: u64) -> Self {
        Self { counter: Counter::from(marker), cut_lines: CutLines::default(), skip_bytes, last: None }
    }

    /// A new unpacker that continues at the current position.
    pub(super) fn renewed(&self) -> Self {
        Self::new(self.marker(), self.skip_bytes)
    }

    pub(super) fn marker(&self) -> Marker {
        self.counter.marker()
    }

    /// Appends new output to `bytes`; returns whether the message contained any.
    pub(super) fn add(&mut self, message: Message, bytes: &mut BytesMut) -> bool {
        // Also for what is already stored: a position may lie between the parts of a line.
        let part = self.cut_lines.part(&message);
        let newline: &[u8] = if part.lost_newline { b"\n" } else { b"" };
        let take = self.counter.take_part(message.stream, message.stamp, part.goes_on);
        match take {
            Take::Stored => {}
            Take::New | Take::NewAfterGap => {
                if take == Take::NewAfterGap {
                    bytes.extend_from_slice(GAP.as_bytes());
                }
                for part in [&message.text[..], newline] {
                    let skipped = usize::try_from(self.skip_bytes).unwrap_or(usize::MAX).min(part.len());
                    self.skip_bytes -= skipped as u64;
                    bytes.extend_from_slice(&part[skipped..]);
                }
            }
        }
        self.last = Some(message);
        take != Take::Stored
    }

    /// Whether the daemon's newest message is the last one added. The daemon sends messages in the order of its file,
    /// so everything before it was received too.
    pub(super) fn has_as_last(&self, newest: &Message) -> Seen {
        match &self.last {
            Some(last) if last == newest && self.cut_lines.was_part => Seen::Perhaps,
            Some(last) if last == newest => Seen::Yes,
            _ => Seen::No,
        }
    }
}

/// Lines that the daemon split, on standard output and standard error.
#[derive(Default)]
struct CutLines {
    open: [Option<Stamp>; 2],
    /// Whether the last message was a part of a split line.
    was_part: bool,
}

struct Part {
    /// It is the last part of its line and came without the newline.
    lost_newline: bool,
    /// More parts of its line follow.
    goes_on: bool,
}

impl CutLines {
    /// The daemon splits a line into parts of this size.
    const PART_BYTES: usize = 16 * 1024;

    /// The message's part in its line. All parts carry the time of the first. An unterminated split line at the very
    /// end of the output looks like one that lost its newline, and gets one newline too many: terminated lines are
    /// far more common.
    fn part(&mut self, message: &Message) -> Part {
        let is_terminated = message.text.last() == Some(&b'\n');
        let goes_on = !is_terminated && message.text.len() >= Self::PART_BYTES;
        let open = std::mem::replace(&mut self.open[message.stream], goes_on.then_some(message.stamp));
        let was_cut = open == Some(message.stamp);
        self.was_part = was_cut || goes_on;
        Part { lost_newline: was_cut && !goes_on && !is_terminated, goes_on }
    }
}

/// Written to the log where the daemon rotated its file twice before we read it.
const GAP: &str = "\n[flotilla: some output may be missing here: the Docker daemon threw it away before it was read]\n";

#[cfg(test)]
mod tests {
    use super::*;

    const STAMPS: [&str; 2] = ["2026-11-22T14:38:52.000000000Z", "2026-11-22T14:38:53.000000000Z"];

    fn output(stream: usize, stamp: usize, text: &str) -> LogOutput {
        let message = Bytes::from(format!("{} {text}", STAMPS[stamp]));
        if stream == 0 { LogOutput::StdOut { message } } else { LogOutput::StdErr { message } }
    }

    fn unpack(unpacker: &mut Unpacker, outputs: &[LogOutput]) -> String {
        let mut bytes = BytesMut::new();
        for output in outputs {
            unpacker.add(Message::read(output).unwrap(), &mut bytes);
        }
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[test]
    fn bytes_that_are_stored_are_skipped_where_there_is_no_marker() {
        let outputs = ["one\n", "two\n", "", "three\n"].map(|text| output(0, 0, text));
        let mut unpacker = Unpacker::new(Marker::default(), 6);
        assert_eq!(unpack(&mut unpacker, &outputs), "o\nthree\n");
    }

    #[test]
    fn the_newline_of_a_line_that_was_cut_is_put_back() {
        let part = "x".repeat(CutLines::PART_BYTES);
        let out = |stamp: usize, text: &str| output(0, stamp, text);
        let err = |stamp: usize, text: &str| output(1, stamp, text);
        let table = [
            (vec![out(0, &part), err(0, "e\n"), out(0, "end"), out(1, "b\n")], format!("{part}e\nend\nb\n")),
            (vec![out(0, &part), out(0, &part), out(0, "")], format!("{part}{part}\n")),
            // A daemon that keeps the newline.
            (vec![out(0, &part), out(0, "end\n")], format!("{part}end\n")),
            // The end of the output, without a newline.
            (vec![out(0, "a\n"), out(1, "end")], "a\nend".to_owned()),
            (vec![out(0, &part), out(1, "end")], format!("{part}end")),
        ];
        for (outputs, expected) in table {
            let text = unpack(&mut Unpacker::new(Marker::default(), 0), &outputs);
            assert!(text == expected, "{} bytes instead of {}", text.len(), expected.len());
        }
    }

    #[test]
    fn what_is_not_output_is_an_error() {
        let console = LogOutput::Console { message: Bytes::from_static(b"Error grabbing logs: EOF") };
        let stampless = LogOutput::StdErr { message: Bytes::from_static(b"hello") };
        for output in [console, stampless] {
            assert!(Message::read(&output).is_err());
        }
    }

    #[test]
    fn the_newest_message_is_known_only_where_it_is_the_very_last_that_came() {
        let part = "x".repeat(CutLines::PART_BYTES);
        let read = |output: &LogOutput| Message::read(output).unwrap();
        let seen = |outputs: &[LogOutput], newest: &LogOutput| {
            let mut unpacker = Unpacker::new(Marker::default(), 0);
            unpack(&mut unpacker, outputs);
            unpacker.has_as_last(&read(newest))
        };
        let (one, two) = (output(0, 0, "one\n"), output(0, 1, "two\n"));
        assert_eq!(seen(&[], &one), Seen::No);
        assert_eq!(seen(&[one.clone(), two.clone()], &two), Seen::Yes);
        assert_eq!(seen(std::slice::from_ref(&one), &two), Seen::No);
        // Older than the newest message received, because the streams overtook each other.
        assert_eq!(seen(std::slice::from_ref(&two), &output(1, 0, "late\n")), Seen::No);
        // A later part of a long line carries the time of the first.
        assert_eq!(seen(&[output(0, 0, &part)], &output(0, 0, "end")), Seen::No);
        assert_eq!(seen(&[output(0, 0, &part)], &output(0, 0, &part)), Seen::Perhaps);
    }
}
