//! A pod's output as a stream of chunks, from any position and complete to the last byte that its node still has.
//!
//! The API closes the stream when the container ends, when the API or its node's agent ends, and sometimes a little
//! too early; sometimes it never closes it. So the end of a stream is accepted only if the node's last line is one
//! that arrived; otherwise the rest is read, or the reader is told to ask again. No wait is unbounded.
//!
//! A node discards the output as soon as a *deleted* pod has ended, but an open stream continues to the end. So
//! before this server deletes a pod whose output is not being read, it reads and keeps the output itself
//! ([`Inner::keep_output`]).

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_util::io::{AsyncBufRead, AsyncBufReadExt, Cursor};
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::LogParams;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

use super::Inner;
use super::lines::{Line, Lines};
use super::link::ApiError;
use super::names::CONTAINER;
use super::place::{Place, Tracker};
use super::stop::is_over;
use super::view::{Container, PodView};
use crate::engine::container::marker::Stamp;
use crate::engine::{Chunk, EngineError};
use crate::model::{AttemptId, LogPosition};

/// Lines are combined up to about this size.
const CHUNK_BYTES: usize = 256 * 1024;
/// How long the stream may be silent before a check whether an end went unnoticed.
const LOOK_ANYWAY: Duration = Duration::from_secs(5);
/// How long a node may be silent while it sends the output of a container that has ended.
const IDLE_LIMIT: Duration = Duration::from_secs(30);
/// A node rotates a file at most this often, so that no file can have been missed within this time.
const TURNOVER: Duration = Duration::from_secs(3);
/// How much output of one pod is kept that is not being read. By default a node itself keeps no more than 10 MiB of
/// it accessible.
const KEPT_BYTES: usize = 32 << 20;

/// How long a node takes at most to begin sending existing output: the stream is open before that.
const BEGIN_PATIENCE: Duration = Duration::from_secs(1);

type Source = Pin<Box<dyn AsyncBufRead + Send>>;

/// Which outputs are being read, and which are kept.
#[derive(Default)]
pub(super) struct Outputs {
    readers: Mutex<HashMap<AttemptId, Weak<Instant>>>,
    kept: Mutex<HashMap<AttemptId, watch::Receiver<Keeping>>>,
}

/// The progress of keeping an output.
#[derive(Debug, Clone, Default)]
enum Keeping {
    #[default]
    Reading,
    Done(Bytes),
}

impl Outputs {
    fn readers(&self) -> MutexGuard<'_, HashMap<AttemptId, Weak<Instant>>> {
        self.readers.lock()
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<AttemptId, watch::Receiver<Keeping>>> {
        self.kept.lock()
    }

    /// Counts as a reader for as long as the mark lives.
    fn begin(&self, attempt_id: AttemptId) -> Arc<Instant> {
        let mark = Arc::new(Instant::now());
        let mut readers = self.readers();
        readers.retain(|_, mark| mark.strong_count() > 0);
        readers.insert(attempt_id, Arc::downgrade(&mark));
        mark
    }

    /// Whether it is being read, and for long enough that the node has surely begun to send it.
    fn is_read(&self, attempt_id: AttemptId) -> bool {
        let mark = self.readers().get(&attempt_id).and_then(Weak::upgrade);
        mark.is_some_and(|since| since.elapsed() > BEGIN_PATIENCE)
    }

    pub(super) fn forget(&self, attempt_id: AttemptId) {
        self.kept().remove(&attempt_id);
    }
}

impl Inner {
    /// The output of an attempt from `from` on. The stream ends when everything has arrived.
    pub(super) async fn output(
        self: &Arc<Self>,
        attempt_id: AttemptId,
        from: &LogPosition,
    ) -> Result<BoxStream<'static, Result<Chunk, EngineError>>, EngineError> {
        let (place, skip_bytes) = Place::of(from);
        let Some(pod) = self.pod_of(attempt_id).await? else {
            return Err(EngineError::Gone(format!("attempt {attempt_id} has no pod")));
        };
        let mut reader = Reader {
            inner: Arc::clone(self),
            attempt_id,
            pod_name: pod.name.clone(),
            unpacker: Unpacker::new(place, skip_bytes, false),
            ended_at: None,
            phase: Phase::Done,
            _mark: self.outputs.begin(attempt_id),
        };
        reader.phase = match &pod.container {
            // No output was observed, and none will be.
            Container::Unknown | Container::Waiting { .. } if is_over(&pod) => Phase::Done,
            Container::Unknown | Container::Waiting { .. } => {
                return Err(EngineError::Unavailable("the container has not started yet".to_owned()));
            }
            Container::Terminated { started_at: None, .. } => Phase::Done,
            Container::Running { .. } => match reader.kept().await {
                Some(source) => Phase::Finishing(source),
                None => Phase::Following(reader.open(true).await?),
            },
            Container::Terminated { .. } => match reader.kept().await {
                Some(source) => Phase::Finishing(source),
                None => Phase::Finishing(reader.open(false).await?),
            },
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

    /// Reads the output of a pod that is about to be deleted, unless it is already being read. Returns when reading
    /// has begun.
    pub(super) async fn keep_output(self: &Arc<Self>, attempt_id: AttemptId, pod: &PodView) {
        if self.outputs.is_read(attempt_id) || self.outputs.kept().contains_key(&attempt_id) {
            return;
        }
        let mut source = match self.open(&pod.name, &params(Place::default(), true)).await {
            Ok(source) => source,
            Err(error) => {
                tracing::warn!(%attempt_id, %error, "the output of a run that is stopped can't be read beforehand");
                return;
            }
        };
        // A pod that has printed nothing by then has nothing to lose.
        let _ = tokio::time::timeout(BEGIN_PATIENCE, source.fill_buf()).await;
        let (sender, receiver) = watch::channel(Keeping::default());
        self.outputs.kept().insert(attempt_id, receiver);
        let inner = Arc::clone(self);
        let keeping = async move {
            let mut bytes = BytesMut::new();
            loop {
                let Ok(filled) = tokio::time::timeout(LOOK_ANYWAY, source.fill_buf()).await else {
                    // Readers of the kept output would wait for a stream that is not closed at the end.
                    if inner.is_running(attempt_id) {
                        continue;
                    }
                    break;
                };
                let Ok(new) = filled else { break };
                let length = new.len();
                if length == 0 || bytes.len() + length > KEPT_BYTES {
                    break;
                }
                bytes.extend_from_slice(new);
                source.consume_unpin(length);
            }
            sender.send_replace(Keeping::Done(bytes.freeze()));
        };
        let until_closed = self.closing.clone().run_until_cancelled_owned(keeping);
        tokio::spawn(async move {
            until_closed.await;
        });
    }

    /// Whether an attempt's container runs, according to the watches.
    fn is_running(&self, attempt_id: AttemptId) -> bool {
        let pod = self.cache.get(attempt_id).filter(|entry| !entry.has_vanished).and_then(|entry| entry.pod);
        pod.is_some_and(|pod| matches!(pod.container, Container::Running { .. }))
    }

    async fn open(&self, pod_name: &str, params: &LogParams) -> Result<Source, ApiError> {
        let stream = self.link.call(async |client| self.api::<Pod>(client).log_stream(pod_name, params).await).await?;
        Ok(Box::pin(stream))
    }
}

struct Reader {
    inner: Arc<Inner>,
    attempt_id: AttemptId,
    pod_name: String,
    unpacker: Unpacker,
    phase: Phase,
    /// When a stream that followed the output ended.
    ended_at: Option<Instant>,
    _mark: Arc<Instant>,
}

enum Phase {
    /// Everything until the container ends.
    Following(Source),
    /// The existing output of a container that has ended.
    Finishing(Source),
    Done,
}

impl Reader {
    async fn next(&mut self) -> Result<Option<Chunk>, EngineError> {
        loop {
            let (source, is_following) = match &mut self.phase {
                Phase::Following(source) => (source, true),
                Phase::Finishing(source) => (source, false),
                Phase::Done => return Ok(None),
            };
            let reading = next_chunk(source, &mut self.unpacker);
            let limit = if is_following { LOOK_ANYWAY } else { IDLE_LIMIT };
            match tokio::time::timeout(limit, reading).await {
                Ok(Ok(Some(chunk))) => return Ok(Some(chunk)),
                Ok(Ok(None)) if is_following => {
                    self.ended_at = Some(Instant::now()).filter(|_| !self.unpacker.has_broken);
                    self.phase = self.after_following().await?;
                }
                Ok(Ok(None)) => self.phase = Phase::Done,
                // Output that the node has discarded can't be recovered.
                Ok(Err(ReadError::Lost)) => {
                    self.phase = Phase::Done;
                    return Ok(Some(self.unpacker.lost(LOST)));
                }
                Ok(Err(ReadError::Broken(reason))) => {
                    return Err(self.inner.link.missed(ApiError::Away(reason)).into());
                }
                // Nothing is lost here: a chunk waits only before its first line.
                Err(_) if is_following => {
                    if self.has_ended().await? {
                        self.phase = self.after_following().await?;
                    }
                }
                // What it does not send now it may send later: the reader decides how long to continue.
                Err(_) => {
                    let reason = format!("the node sent no output for {} s", IDLE_LIMIT.as_secs());
                    return Err(EngineError::Unavailable(reason));
                }
            }
        }
    }

    // By `&mut`, because a stream can be sent to another thread but not shared by two.
    async fn has_ended(&mut self) -> Result<bool, EngineError> {
        let pod = self.inner.pod_of(self.attempt_id).await?;
        Ok(pod.is_none_or(|pod| !matches!(pod.container, Container::Running { .. })))
    }

    async fn after_following(&mut self) -> Result<Phase, EngineError> {
        // The stream ends a moment before the news of the end arrives.
        let ended = self.inner.cache.until(self.attempt_id, |entry| {
            let pod = entry.filter(|entry| !entry.has_vanished).and_then(|entry| entry.pod.as_ref());
            pod.is_none_or(|pod| !matches!(pod.container, Container::Running { .. }))
        });
        let is_over = tokio::time::timeout(LOOK_ANYWAY, ended).await.is_ok();
        if !is_over && !self.has_ended().await? {
            return Err(EngineError::Unavailable("the API stopped sending output".to_owned()));
        }
        if self.has_last_line().await? { Ok(Phase::Done) } else { Ok(Phase::Finishing(self.open(false).await?)) }
    }

    /// Whether the node's last line is among those that arrived. A node that has discarded it has nothing more.
    async fn has_last_line(&mut self) -> Result<bool, EngineError> {
        let params = LogParams { tail_lines: Some(1), ..params(Place::default(), false) };
        let mut source = match self.inner.open(&self.pod_name, &params).await {
            Ok(source) => source,
            Err(ApiError::Refused { .. }) => return Ok(true),
            Err(error) => return Err(error.into()),
        };
        let mut line = Vec::new();
        let read = tokio::time::timeout(IDLE_LIMIT, source.read_until(b' ', &mut line)).await;
        let read = read.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)));
        read.map_err(|error| EngineError::Unavailable(format!("the end of the output can't be read: {error}")))?;
        let stamp = line.strip_suffix(b" ").and_then(Stamp::parse);
        Ok(stamp.is_none_or(|stamp| Some(stamp) <= self.unpacker.tracker.place().newest))
    }

    /// What was read before the pod was deleted, once it is complete.
    async fn kept(&mut self) -> Option<Source> {
        let mut kept = self.inner.outputs.kept().get(&self.attempt_id).cloned()?;
        let keeping = kept.wait_for(|keeping| matches!(keeping, Keeping::Done(_))).await.ok()?.clone();
        let Keeping::Done(bytes) = keeping else { return None };
        let source: Source = Box::pin(Cursor::new(bytes));
        Some(source)
    }

    /// Requests the output after the current position, and counts from there.
    async fn open(&mut self, follow: bool) -> Result<Source, EngineError> {
        let place = self.unpacker.tracker.place();
        let source = self.inner.open(&self.pod_name, &params(place, follow)).await?;
        // A stream that ended reached the end of a file: the next one continues right after it.
        let is_continuous = self.ended_at.is_some_and(|ended_at| ended_at.elapsed() < TURNOVER);
        self.unpacker = Unpacker::new(place, self.unpacker.skip_bytes, is_continuous);
        Ok(source)
    }
}

fn params(place: Place, follow: bool) -> LogParams {
    LogParams {
        container: Some(CONTAINER.to_owned()),
        follow,
        timestamps: true,
        since_time: Some(place.since_secs).filter(|secs| *secs > 0).and_then(|secs| Timestamp::from_second(secs).ok()),
        ..LogParams::default()
    }
}

enum ReadError {
    Lost,
    Broken(String),
}

/// New output, as much as is available; waits only for the first. `None` at the end of the stream.
async fn next_chunk(source: &mut Source, unpacker: &mut Unpacker) -> Result<Option<Chunk>, ReadError> {
    let mut bytes = BytesMut::new();
    while bytes.len() < CHUNK_BYTES {
        let filled = match source.fill_buf().now_or_never() {
            Some(filled) => filled,
            None if bytes.is_empty() => source.fill_buf().await,
            None => break,
        };
        let length = match filled {
            Ok([]) => {
                unpacker.finish(&mut bytes);
                if bytes.is_empty() {
                    return if unpacker.is_lost { Err(ReadError::Lost) } else { Ok(None) };
                }
                break;
            }
            Ok(new) => {
                unpacker.add(new, &mut bytes);
                new.len()
            }
            // What arrived is passed on. The stream ends after an error, and its end is verified.
            Err(_) if !bytes.is_empty() => {
                unpacker.has_broken = true;
                break;
            }
            Err(error) => return Err(ReadError::Broken(error.to_string())),
        };
        source.consume_unpin(length);
    }
    Ok(Some(Chunk { bytes: bytes.freeze(), marker: Some(unpacker.tracker.place().to_string()) }))
}

/// Converts the API's lines into the output, and tracks the position in it.
struct Unpacker {
    lines: Lines,
    tracker: Tracker,
    has_begun: bool,
    /// What arrived is not output, but the message that there is none.
    is_lost: bool,
    /// The stream broke off: its apparent end is not the end.
    has_broken: bool,
    skip_bytes: u64,
}

impl Unpacker {
    fn new(place: Place, skip_bytes: u64, is_continuous: bool) -> Self {
        let (lines, tracker) = (Lines::default(), Tracker::from(place, is_continuous));
        Self { lines, tracker, has_begun: false, is_lost: false, has_broken: false, skip_bytes }
    }

    fn add(&mut self, new: &[u8], bytes: &mut BytesMut) {
        self.lines.add(new);
        while let Some(line) = self.lines.next() {
            self.take(line, bytes);
        }
    }

    fn finish(&mut self, bytes: &mut BytesMut) {
        while let Some(line) = self.lines.rest() {
            self.take(line, bytes);
        }
    }

    fn take(&mut self, line: Line, bytes: &mut BytesMut) {
        match line {
            Line::Begin(stamp) => {
                self.has_begun = true;
                if self.tracker.begin(stamp) {
                    bytes.extend_from_slice(GAP.as_bytes());
                }
            }
            Line::Text(text) => {
                let new = &text[self.tracker.text(text.len())..];
                let skipped = usize::try_from(self.skip_bytes).unwrap_or(usize::MAX).min(new.len());
                self.skip_bytes -= skipped as u64;
                bytes.extend_from_slice(&new[skipped..]);
            }
            // After output, this message means that the container was removed after its end, which is also the end.
            Line::NoOutput => self.is_lost = !self.has_begun,
        }
    }

    fn lost(&self, words: &'static str) -> Chunk {
        let marker = Some(self.tracker.place().to_string());
        Chunk { bytes: Bytes::from_static(words.as_bytes()), marker }
    }
}

/// Written into the log where a node rotated its file twice before we read it.
const GAP: &str = "\n[flotilla: some output may be missing here: the node threw it away before it was read]\n";
/// Written at the log's end if the pod was deleted before we had read everything.
const LOST: &str =
    "\n[flotilla: output may be missing here: the pod was deleted, and its node threw the output away]\n";

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt;

    use super::*;
    use crate::engine::kubernetes::{KubernetesEngine, KubernetesSettings};
    use crate::engine::{Identity, Reports};
    use crate::model::RunId;

    fn engine() -> KubernetesEngine {
        let config = KubernetesSettings { kubeconfig: Some("/nonexistent".into()), ..KubernetesSettings::default() };
        let identity = Identity { installation_id: "s".into(), cluster: "c".into() };
        KubernetesEngine::new(config, identity, Reports::default(), Timestamp::now).unwrap()
    }

    /// A source that yields these bytes, and then nothing, not even its end.
    fn silent_after(bytes: &'static [u8]) -> Source {
        let first = stream::iter([Ok::<_, io::Error>(bytes)]).chain(stream::pending());
        Box::pin(first.into_async_read())
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_does_not_send_the_end_of_an_output_is_asked_again_as_long_as_anybody_wants_it() {
        let engine = engine();
        let attempt_id = AttemptId { run_id: RunId::generate(), attempt: 1 };
        let mut place = Place::default();
        let mut log = Vec::new();
        for _ in 0..10 {
            let mut reader = Reader {
                inner: Arc::clone(&engine.inner),
                attempt_id,
                pod_name: "p".into(),
                unpacker: Unpacker::new(place, 0, false),
                phase: Phase::Finishing(silent_after(b"2026-11-22T14:38:52.000000001Z hello\n")),
                ended_at: None,
                _mark: engine.inner.outputs.begin(attempt_id),
            };
            let result = loop {
                match reader.next().await {
                    Ok(Some(chunk)) => {
                        log.extend_from_slice(&chunk.bytes);
                        place = chunk.marker.unwrap().parse().unwrap();
                    }
                    other => break other,
                }
            };
            let Err(EngineError::Unavailable(reason)) = result else { panic!("{result:?}") };
            assert!(reason.contains("sent no output"), "{reason}");
        }
        assert_eq!(String::from_utf8(log).unwrap(), "hello\n");
    }
}
