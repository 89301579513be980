//! A container's output as a stream of chunks, from any place on and complete to the last byte.
//!
//! The daemon closes the stream when the container ends, when the daemon itself ends, and in some versions a little too
//! early or never. So the end of the stream is not waited for when the container is known to have ended, and is believed
//! only if the daemon's last message is one that came; otherwise the rest is read, or the reader is told to ask again.
//!
//! The daemon cuts a line of more than 16 KB into messages, and its `local` driver forgets the newline behind the last
//! of them. It is put back here. (The other driver, `json-file`, can't be repaired: it replaces every byte that is not
//! UTF-8, and every character that such a cut goes through.)

use std::sync::Arc;

use bollard::container::LogOutput;
use bollard::query_parameters::LogsOptions;
use bytes::BytesMut;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt};

use super::ends::EndSignal;
use super::link::{ApiError, Link};
use super::observe::{Stage, stage};
use crate::engine::marker::{Counter, Marker, Stamp, Take};
use crate::engine::{Chunk, EngineError};
use crate::model::LogPosition;

/// Messages are put together up to about this size, for they may be as small as a line.
const CHUNK_BYTES: usize = 256 * 1024;

type Messages = BoxStream<'static, Result<LogOutput, bollard::errors::Error>>;

/// The output of a container from `from` on. It ends when everything came.
pub(super) async fn read(
    link: Arc<Link>,
    name: String,
    ended: EndSignal,
    from: &LogPosition,
) -> Result<BoxStream<'static, Result<Chunk, EngineError>>, EngineError> {
    let (marker, skip_bytes) = Marker::of(from)?;
    let unpacker = Unpacker::new(marker, skip_bytes);
    let mut reader = Reader { link, name, ended, unpacker, phase: Phase::Done };
    reader.phase = match reader.stage().await? {
        Some(Stage::Running) => Phase::Following(reader.open(true).await?),
        Some(Stage::Ended) => Phase::Finishing(reader.open(false).await?),
        Some(Stage::Created) => return Err(EngineError::Unavailable("the container has not started yet".to_owned())),
        Some(Stage::Failed) => Phase::Done,
        None => return Err(EngineError::Gone(format!("there is no container {}", reader.name))),
    };
    Ok(stream::unfold(reader, |mut reader| async move {
        let chunk = reader.next().await.transpose()?;
        if chunk.is_err() {
            reader.phase = Phase::Done;
        }
        Some((chunk, reader))
    })
    .boxed())
}

struct Reader {
    link: Arc<Link>,
    name: String,
    ended: EndSignal,
    unpacker: Unpacker,
    phase: Phase,
}

/// Turns the daemon's messages into what was printed, and knows the place in it.
struct Unpacker {
    counter: Counter,
    cut_lines: CutLines,
    skip_bytes: u64,
}

enum Phase {
    /// Everything until the container ends.
    Following(Messages),
    /// What there is, of a container that has ended.
    Finishing(Messages),
    Done,
}

impl Reader {
    async fn next(&mut self) -> Result<Option<Chunk>, EngineError> {
        loop {
            let (messages, is_following) = match &mut self.phase {
                Phase::Following(messages) => (messages, true),
                Phase::Finishing(messages) => (messages, false),
                Phase::Done => return Ok(None),
            };
            let is_overdue =
                async { if is_following { self.ended.overdue().await } else { std::future::pending().await } };
            let chunk = tokio::select! {
                biased;
                chunk = next_chunk(messages, &mut self.unpacker, &self.link) => chunk?,
                // Nothing is lost by this: a chunk waits only before its first message.
                () = is_overdue => {
                    if self.stage().await? == Some(Stage::Running) {
                        // Some versions lose track of a file that is turned over.
                        if !self.has_last_message().await? {
                            self.phase = Phase::Following(self.open(true).await?);
                        }
                        continue;
                    }
                    None
                }
            };
            if chunk.is_some() {
                return Ok(chunk);
            }
            self.phase = if is_following { self.after_following().await? } else { Phase::Done };
        }
    }

    async fn after_following(&mut self) -> Result<Phase, EngineError> {
        match self.stage().await? {
            Some(Stage::Ended) if self.has_last_message().await? => Ok(Phase::Done),
            Some(Stage::Ended) => Ok(Phase::Finishing(self.open(false).await?)),
            Some(Stage::Running | Stage::Created) => {
                Err(EngineError::Unavailable("the daemon stopped sending output".to_owned()))
            }
            Some(Stage::Failed) => Ok(Phase::Done),
            None => Err(EngineError::Gone("somebody removed the container before all of it was read".to_owned())),
        }
    }

    // By `&mut`, for a stream can be sent to another thread and not be shared by two.
    async fn stage(&mut self) -> Result<Option<Stage>, EngineError> {
        match self.link.call(async |docker| docker.inspect_container(&self.name, None).await).await {
            Ok(container) => Ok(Some(stage(&container))),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the last message that the daemon has is among those that came.
    async fn has_last_message(&mut self) -> Result<bool, EngineError> {
        let options = LogsOptions { tail: "1".to_owned(), ..options(Marker::default(), false) };
        let docker = self.link.docker().await?;
        let mut messages = docker.logs(&self.name, Some(options));
        let newest = self.unpacker.counter.marker().newest;
        while let Some(message) = messages.next().await {
            let message = message.map_err(|error| self.link.missed(error.into()))?;
            if Stamp::split(message.as_ref()).is_some_and(|(stamp, _)| Some(stamp) > newest) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Asks for the output behind the place where it is, and counts anew from there.
    async fn open(&mut self, follow: bool) -> Result<Messages, EngineError> {
        let marker = self.unpacker.counter.marker();
        self.unpacker = Unpacker::new(marker, self.unpacker.skip_bytes);
        let docker = self.link.docker().await?;
        Ok(docker.logs(&self.name, Some(options(marker, follow))).boxed())
    }
}

fn options(marker: Marker, follow: bool) -> LogsOptions {
    LogsOptions {
        follow,
        stdout: true,
        stderr: true,
        timestamps: true,
        // Docker takes 0 as "from the beginning". bollard's type is as narrow as the API's text says.
        since: i32::try_from(marker.since_secs).unwrap_or(i32::MAX),
        ..LogsOptions::default()
    }
}

/// New messages, as many as are there; waits only for the first. `None` at the end of the stream.
async fn next_chunk(
    messages: &mut Messages,
    unpacker: &mut Unpacker,
    link: &Link,
) -> Result<Option<Chunk>, EngineError> {
    let mut bytes = BytesMut::new();
    while bytes.len() < CHUNK_BYTES {
        let next = match messages.next().now_or_never() {
            Some(next) => next,
            None if bytes.is_empty() => messages.next().await,
            None => break,
        };
        match next {
            None if bytes.is_empty() => return Ok(None),
            None => break,
            Some(Ok(output)) => unpacker.add(&output, &mut bytes)?,
            // What came is handed on. The stream ends behind an error, and its end is not believed blindly.
            Some(Err(_)) if !bytes.is_empty() => break,
            Some(Err(error)) => return Err(EngineError::from(link.missed(ApiError::from(error)))),
        }
    }
    Ok(Some(Chunk { bytes: bytes.freeze(), marker: Some(unpacker.counter.marker().to_string()) }))
}

impl Unpacker {
    fn new(marker: Marker, skip_bytes: u64) -> Self {
        Self { counter: Counter::from(marker), cut_lines: CutLines::default(), skip_bytes }
    }

    fn add(&mut self, output: &LogOutput, bytes: &mut BytesMut) -> Result<(), EngineError> {
        let (stream, line) = match output {
            LogOutput::StdOut { message } | LogOutput::StdIn { message } => (0, message),
            LogOutput::StdErr { message } => (1, message),
            // Our containers have no terminal: what comes outside of the frames is an error of the daemon's own.
            LogOutput::Console { message } => {
                let text = String::from_utf8_lossy(message);
                return Err(EngineError::Unavailable(format!("the daemon can't read the output: {}", text.trim())));
            }
        };
        let Some((stamp, message)) = Stamp::split(line) else {
            return Err(EngineError::Unavailable("the daemon sent output without a time".to_owned()));
        };
        // Also of what is stored already: a place may lie between the parts of a line.
        let newline: &[u8] = if self.cut_lines.lost_newline(stream, stamp, message) { b"\n" } else { b"" };
        match self.counter.take(stamp) {
            Take::Stored => return Ok(()),
            Take::NewAfterGap => bytes.extend_from_slice(GAP.as_bytes()),
            Take::New => {}
        }
        for part in [message, newline] {
            let skipped = usize::try_from(self.skip_bytes).unwrap_or(usize::MAX).min(part.len());
            self.skip_bytes -= skipped as u64;
            bytes.extend_from_slice(&part[skipped..]);
        }
        Ok(())
    }
}

/// Lines that the daemon cut, of standard output and standard error.
#[derive(Default)]
struct CutLines([Option<Stamp>; 2]);

impl CutLines {
    /// The daemon cuts a line into parts of this size.
    const PART_BYTES: usize = 16 * 1024;

    /// Whether a message is the last part of a line and came without its newline. All parts carry the time of the first.
    /// An unterminated line at the very end of the output that was cut as well looks the same, and gets one newline
    /// too many: one that ends a line is by far the more common.
    fn lost_newline(&mut self, stream: usize, stamp: Stamp, message: &[u8]) -> bool {
        let is_terminated = message.last() == Some(&b'\n');
        let goes_on = !is_terminated && message.len() >= Self::PART_BYTES;
        let was_cut = std::mem::replace(&mut self.0[stream], goes_on.then_some(stamp)) == Some(stamp);
        was_cut && !goes_on && !is_terminated
    }
}

/// What stands in the log where the daemon turned its file over twice before we read it.
const GAP: &str = "\n[flotilla: some output may be missing here: the Docker daemon threw it away before it was read]\n";

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const STAMPS: [&str; 2] = ["2026-11-22T14:38:52.000000000Z", "2026-11-22T14:38:53.000000000Z"];

    fn message(stamp: &str, text: &str) -> Bytes {
        Bytes::from(format!("{stamp} {text}"))
    }

    fn unpack(unpacker: &mut Unpacker, outputs: &[LogOutput]) -> String {
        let mut bytes = BytesMut::new();
        for output in outputs {
            unpacker.add(output, &mut bytes).unwrap();
        }
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[test]
    fn bytes_that_are_stored_are_skipped_where_there_is_no_marker() {
        let texts = ["one\n", "two\n", "", "three\n"];
        let outputs = texts.map(|text| LogOutput::StdOut { message: message(STAMPS[0], text) });
        let mut unpacker = Unpacker::new(Marker::default(), 6);
        assert_eq!(unpack(&mut unpacker, &outputs), "o\nthree\n");
    }

    #[test]
    fn the_newline_of_a_line_that_was_cut_is_put_back() {
        let part = "x".repeat(CutLines::PART_BYTES);
        let out = |stamp: usize, text: &str| LogOutput::StdOut { message: message(STAMPS[stamp], text) };
        let err = |stamp: usize, text: &str| LogOutput::StdErr { message: message(STAMPS[stamp], text) };
        let table = [
            (vec![out(0, &part), err(0, "e\n"), out(0, "end"), out(1, "b\n")], format!("{part}e\nend\nb\n")),
            (vec![out(0, &part), out(0, &part), out(0, "")], format!("{part}{part}\n")),
            // A daemon that remembers it.
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
        let mut unpacker = Unpacker::new(Marker::default(), 0);
        let console = LogOutput::Console { message: Bytes::from_static(b"Error grabbing logs: EOF") };
        let stampless = LogOutput::StdErr { message: Bytes::from_static(b"hello") };
        for output in [console, stampless] {
            assert!(unpacker.add(&output, &mut BytesMut::new()).is_err());
        }
    }
}
