//! A container's output as a stream of chunks, from any position and complete to the last byte.
//!
//! The daemon closes the stream when the container ends, when the daemon itself ends, and in some versions slightly
//! too early or never. So the reader does not wait for the end of the stream once the container is known to have
//! ended, and trusts it only if the daemon's last message was received; otherwise the rest is read, or the caller
//! gets an error and must ask again. Nor does the reader wait for an answer to end that has already delivered the
//! rest.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bollard::container::LogOutput;
use bollard::query_parameters::LogsOptions;
use bytes::BytesMut;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt};

use super::ends::EndSignal;
use super::link::{ApiError, Link};
use super::read::{Stage, stage};
use super::skips::{Skips, file_bytes};
use super::unpack::{Message, Seen, Unpacker};
use crate::engine::container::marker::Marker;
use crate::engine::{Chunk, EngineError};
use crate::model::LogPosition;

/// Messages are combined up to about this size, because each may be as small as a line.
const CHUNK_BYTES: usize = 256 * 1024;
/// How long the rest of an ended container's output may deliver nothing before it is requested again. Doubles each
/// time, because a slow daemon may have to read a lot before it reaches new output.
const SILENCE: Duration = Duration::from_secs(5);
/// How many requests may yield no bytes before the decision is left to the caller.
const SILENT_ANSWERS: u32 = 4;

type Messages = BoxStream<'static, Result<LogOutput, bollard::errors::Error>>;

/// The output of the container with this id, starting at `from`. The stream ends when everything was received.
pub(super) async fn read(
    link: Arc<Link>,
    id: String,
    ended: EndSignal,
    from: &LogPosition,
) -> Result<BoxStream<'static, Result<Chunk, EngineError>>, EngineError> {
    let (marker, skip_bytes) = Marker::of(from);
    let unpacker = Unpacker::new(marker, skip_bytes);
    let skips = Skips::new(0, from.bytes);
    let mut reader = Reader { link, id, ended, unpacker, skips, silent_answers: 0, phase: Phase::Done };
    let container = reader.inspect().await?;
    reader.skips = Skips::new(container.as_ref().map_or(0, |(_, file_bytes)| *file_bytes), from.bytes);
    reader.phase = match container.map(|(stage, _)| stage) {
        Some(Stage::Running) => Phase::Following(reader.open(true).await?),
        Some(Stage::Ended) => Phase::Finishing(reader.open(false).await?),
        Some(Stage::Created) => return Err(EngineError::Unavailable("the container has not started yet".to_owned())),
        Some(Stage::Failed) => Phase::Done,
        None => return Err(EngineError::Gone(format!("there is no container {}", reader.id))),
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
    id: String,
    ended: EndSignal,
    unpacker: Unpacker,
    skips: Skips,
    /// Consecutive answers with the rest that delivered nothing new.
    silent_answers: u32,
    phase: Phase,
}

enum Phase {
    /// All output until the container ends.
    Following(Messages),
    /// The existing output of a container that has ended.
    Finishing(Messages),
    Done,
}

/// The result of waiting for output.
enum Next {
    Chunk(Chunk),
    /// The answer has ended.
    End,
    /// Something should have arrived by now.
    Overdue,
}

impl Reader {
    async fn next(&mut self) -> Result<Option<Chunk>, EngineError> {
        loop {
            if self.skips.is_suspected() {
                self.phase = Phase::Following(self.open(true).await?);
            }
            let next = match &mut self.phase {
                Phase::Following(messages) => tokio::select! {
                    biased;
                    next = next_chunk(messages, &mut self.unpacker, Some(&mut self.skips), &self.link) => next?,
                    // This loses nothing: a chunk waits only before its first message.
                    () = self.ended.overdue() => Next::Overdue,
                },
                Phase::Finishing(messages) => tokio::select! {
                    biased;
                    next = next_chunk(messages, &mut self.unpacker, None, &self.link) => next?,
                    () = tokio::time::sleep(SILENCE * 2_u32.pow(self.silent_answers)) => Next::Overdue,
                },
                Phase::Done => return Ok(None),
            };
            let is_following = matches!(self.phase, Phase::Following(_));
            self.phase = match next {
                // All of it was already stored.
                Next::Chunk(chunk) if chunk.bytes.is_empty() => continue,
                Next::Chunk(chunk) => {
                    self.silent_answers = 0;
                    return Ok(Some(chunk));
                }
                Next::End if is_following => self.after_following().await?,
                Next::End => Phase::Done,
                Next::Overdue if is_following => match self.stage().await? {
                    // Some versions lose track of a file when it is rotated.
                    Some(Stage::Running) if self.has_last_message().await? == Seen::No => {
                        Phase::Following(self.open(true).await?)
                    }
                    Some(Stage::Running) => continue,
                    _ => self.after_following().await?,
                },
                Next::Overdue => self.after_silence().await?,
            };
        }
    }

    async fn after_following(&mut self) -> Result<Phase, EngineError> {
        match self.stage().await? {
            Some(Stage::Ended) if self.has_last_message().await? == Seen::Yes => Ok(Phase::Done),
            Some(Stage::Ended) => Ok(Phase::Finishing(self.open(false).await?)),
            Some(Stage::Running | Stage::Created) => {
                Err(EngineError::Unavailable("the daemon stopped sending output".to_owned()))
            }
            Some(Stage::Failed) => Ok(Phase::Done),
            None => Err(removed()),
        }
    }

    /// Handles an answer with the rest that sends nothing more and does not end. If everything was received, the
    /// output is complete; otherwise the rest is requested again, a few times. What the daemon does not send now it
    /// may send later, so it does not count as gone.
    async fn after_silence(&mut self) -> Result<Phase, EngineError> {
        if self.stage().await?.is_none() {
            return Err(removed());
        }
        let seen = self.has_last_message().await?;
        if seen == Seen::Yes {
            return Ok(Phase::Done);
        }
        self.silent_answers += 1;
        match seen {
            _ if self.silent_answers < SILENT_ANSWERS => Ok(Phase::Finishing(self.open(false).await?)),
            Seen::Perhaps => Ok(Phase::Done),
            Seen::Yes | Seen::No => Err(not_sent()),
        }
    }

    // `&mut` because a stream is `Send` but not `Sync`.
    async fn stage(&mut self) -> Result<Option<Stage>, EngineError> {
        Ok(self.inspect().await?.map(|(stage, _)| stage))
    }

    /// The container's stage and the size of its output files.
    async fn inspect(&mut self) -> Result<Option<(Stage, u64)>, EngineError> {
        match self.link.call(async |docker| docker.inspect_container(&self.id, None).await).await {
            Ok(container) => Ok(Some((stage(&container), file_bytes(&container)))),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the daemon's last message is among those received. Called after the daemon has answered otherwise.
    async fn has_last_message(&mut self) -> Result<Seen, EngineError> {
        let docker = self.link.docker().await?;
        let mut messages = docker.logs(&self.id, Some(last_messages(1)));
        // Waits only for this message, not for the end of the answer.
        match tokio::time::timeout(SILENCE, messages.next()).await {
            Ok(Some(Ok(output))) => Ok(self.unpacker.has_as_last(&Message::read(&output)?)),
            Ok(Some(Err(error))) => Err(self.link.missed(error.into()).into()),
            Ok(None) => Ok(Seen::Yes),
            Err(_) => Err(not_sent()),
        }
    }

    /// Requests the output after the current position, and starts counting from there.
    async fn open(&mut self, follow: bool) -> Result<Messages, EngineError> {
        self.unpacker = self.unpacker.renewed();
        self.skips.restart();
        let docker = self.link.docker().await?;
        Ok(docker.logs(&self.id, Some(options(self.unpacker.marker(), follow))).boxed())
    }
}

/// Options that request the last messages of an output.
pub(super) fn last_messages(count: usize) -> LogsOptions {
    LogsOptions { tail: count.to_string(), ..options(Marker::default(), false) }
}

fn not_sent() -> EngineError {
    EngineError::Unavailable("the Docker daemon answers, but does not send the output".to_owned())
}

fn removed() -> EngineError {
    EngineError::Gone("the container was removed before all of its output was read".to_owned())
}

fn options(marker: Marker, follow: bool) -> LogsOptions {
    LogsOptions {
        follow,
        stdout: true,
        stderr: true,
        timestamps: true,
        // Docker takes 0 as "from the beginning". bollard's type is as narrow as the API documents it.
        since: i32::try_from(marker.since_secs).unwrap_or(i32::MAX),
        ..LogsOptions::default()
    }
}

/// The next messages, as many as are available; waits only for the first. The chunk is empty if they were already
/// stored.
async fn next_chunk(
    messages: &mut Messages,
    unpacker: &mut Unpacker,
    mut skips: Option<&mut Skips>,
    link: &Link,
) -> Result<Next, EngineError> {
    let (mut bytes, mut taken_bytes) = (BytesMut::new(), 0);
    let clock = link.clock();
    while taken_bytes < CHUNK_BYTES {
        let next = match messages.next().now_or_never() {
            Some(next) => next,
            None if taken_bytes == 0 => messages.next().await,
            None => break,
        };
        match next {
            None if taken_bytes == 0 => return Ok(Next::End),
            None => break,
            Some(Ok(output)) => {
                let (message, now) = (Message::read(&output)?, Instant::now());
                // What was received is returned, and this message is requested again.
                if let Some(skips) = &mut skips
                    && skips.suspects_before(&message, clock.as_ref())
                {
                    break;
                }
                taken_bytes += output.as_ref().len();
                let is_new = unpacker.add(message.clone(), &mut bytes);
                if let Some(skips) = &mut skips {
                    skips.add(&message, is_new, now);
                }
            }
            // The stream ends after an error, and its end is not trusted blindly.
            Some(Err(_)) if taken_bytes > 0 => break,
            Some(Err(error)) => return Err(EngineError::from(link.missed(ApiError::from(error)))),
        }
    }
    Ok(Next::Chunk(Chunk { bytes: bytes.freeze(), marker: Some(unpacker.marker().to_string()) }))
}
