//! An engine without processes, for tests: it plays a small script instead of running a command.
//!
//! A command is a list of steps separated by `;`, each written so that a shell would do the same:
//! `echo TEXT` prints a line, `exit N` ends, `kill -9 $$` ends by a signal, `sleep N` lasts until the attempt is
//! stopped or [`FakeEngine::go_on`] is called. What a shell can't express is set on the engine:
//! [`FakeEngine::refuse_launches`], [`FakeEngine::set_available`], [`FakeEngine::vanish`],
//! [`FakeEngine::hold_output`], [`FakeEngine::keep_objects`].
//!
//! Nothing happens on its own: an attempt is reported as starting, then running, then ended, one step per
//! observation.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;
use jiff::{SignedDuration, Timestamp};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

use super::{Chunk, Engine, EngineError, EngineState, Handle, LaunchSpec, Output, Reports};
use crate::model::{
    AttemptId, EndCause, Ended, EngineId, EngineIdentity, Instance, LogPosition, Observation, StartFault, Started,
    TaskSpec, Usage,
};

/// [`Engine::check`] refuses more than this, like a cluster without a larger machine.
const LARGEST_MEMORY_MB: i64 = 1 << 20;

#[derive(Clone)]
pub struct FakeEngine {
    now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    reports: Reports,
    world: Arc<Mutex<World>>,
    /// How much of each attempt's output is returned; `None` is all of it, including its end.
    output_limit: Arc<watch::Sender<Option<usize>>>,
    launches: watch::Sender<Gate>,
}

#[derive(Default)]
struct World {
    attempts: BTreeMap<AttemptId, Attempt>,
    /// How often each attempt's command was actually started. More than once must never happen.
    starts: BTreeMap<AttemptId, u32>,
    /// How often the launch of each was requested.
    launches: BTreeMap<AttemptId, u32>,
    /// What every call returns while the engine is away.
    outage: Option<(Timestamp, String)>,
    refusal: Option<Refusal>,
    /// Why objects can't be removed.
    kept: Option<String>,
    /// Why no output can be read.
    unreadable: Option<String>,
    /// Launched attempts are not reported as started.
    are_starts_held: bool,
    /// Stops return as if there were nothing to stop, and change nothing.
    are_stops_swallowed: bool,
    /// How far the engine's clock is ahead.
    skew: SignedDuration,
    /// The identity it reports; `None` is the engine that every test begins with.
    identity: Option<EngineId>,
    /// The identity that callers assume if the engine was replaced without their noticing.
    believed: Option<EngineIdentity>,
    /// Attempts of engines that currently do not answer, by engine identity.
    replaced: BTreeMap<String, BTreeMap<AttemptId, Attempt>>,
}

#[derive(Clone)]
enum Refusal {
    Rejected(String),
    NotStarted(String, StartFault),
    Unavailable(String),
}

/// Where calls to launch wait, if they have to.
#[derive(Debug, Clone, Copy, Default)]
struct Gate {
    is_closed: bool,
    waiting: usize,
}

struct Attempt {
    /// How many of starting, running, ended have been reported.
    shown: u8,
    /// It was asked to end before it was reported as running.
    was_stopped_early: bool,
    started_at: Timestamp,
    /// The remaining steps.
    script: VecDeque<String>,
    end: Option<(Timestamp, i64, EndCause)>,
    /// Why its end was not observed, if it ended that way.
    lost: Option<String>,
    output: watch::Sender<(Vec<u8>, bool)>,
}

impl FakeEngine {
    pub fn new(now: impl Fn() -> Timestamp + Send + Sync + 'static, reports: Reports) -> Self {
        let output_limit = Arc::default();
        let launches = watch::Sender::default();
        Self { now: Arc::new(now), reports, world: Arc::default(), output_limit, launches }
    }

    /// The current time by the engine's own clock.
    fn now(&self) -> Timestamp {
        let skew = self.world().skew;
        (self.now)().saturating_add(skew).unwrap_or(Timestamp::MAX)
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock()
    }

    fn reachable(&self) -> Result<MutexGuard<'_, World>, EngineError> {
        let world = self.world();
        match &world.outage {
            Some((_, reason)) => Err(EngineError::Unavailable(reason.clone())),
            None => Ok(world),
        }
    }

    /// Makes every call fail with [`EngineError::Unavailable`], or lets them work again.
    pub fn set_available(&self, outage: Option<&str>) {
        self.world().outage = outage.map(|reason| ((self.now)(), reason.to_owned()));
    }

    /// From now on another engine answers, which has none of the previous one's attempts; or one that was replaced
    /// earlier returns with all its attempts.
    pub fn replace(&self, identity: &str) {
        let mut world = self.world();
        let before = world.identity.replace(EngineId::from_text(identity)).unwrap_or_else(first_identity);
        let had = std::mem::take(&mut world.attempts);
        world.replaced.insert(before.to_string(), had);
        world.attempts = world.replaced.remove(identity).unwrap_or_default();
    }

    /// Like `replace`, but callers that knew the previous identity keep assuming it until they ask again.
    pub fn replace_unnoticed(&self, identity: &str) {
        let known = self.known_identity();
        self.replace(identity);
        self.world().believed = known;
    }

    /// Refuses every launch from now on, with this fault.
    pub fn refuse_launches(&self, refusal: Option<(&str, StartFault)>) {
        self.world().refusal = refusal.map(|(reason, fault)| match fault.is_retried() {
            true => Refusal::NotStarted(reason.to_owned(), fault),
            false => Refusal::Rejected(reason.to_owned()),
        });
    }

    /// From now on launches can't be carried out for the moment, though the engine answers.
    pub fn delay_launches(&self, reason: &str) {
        self.world().refusal = Some(Refusal::Unavailable(reason.to_owned()));
    }

    /// Makes calls to launch wait before they do anything, or lets them proceed.
    pub fn hold_launches(&self, is_closed: bool) {
        self.launches.send_modify(|gate| gate.is_closed = is_closed);
    }

    /// Waits until a call to launch is waiting.
    pub async fn until_launch_waits(&self) {
        // An error would mean that the engine is gone, but the engine is `self`.
        let _ = self.launches.subscribe().wait_for(|gate| gate.waiting > 0).await;
    }

    async fn pass_gate(&self) {
        self.launches.send_modify(|gate| gate.waiting += 1);
        let _ = self.launches.subscribe().wait_for(|gate| !gate.is_closed).await;
        self.launches.send_modify(|gate| gate.waiting -= 1);
    }

    /// Keeps attempts that have not been reported as running from being reported so, or lets them proceed.
    pub fn hold_starts(&self, are_held: bool) {
        self.world().are_starts_held = are_held;
    }

    /// Loses every stop from now on.
    pub fn swallow_stops(&self, are_swallowed: bool) {
        self.world().are_stops_swallowed = are_swallowed;
    }

    /// Sets the engine's own clock ahead of the server's, or behind it.
    pub fn set_skew(&self, skew: SignedDuration) {
        self.world().skew = skew;
    }

    /// Wakes a sleeping attempt, which then plays its next steps. Returns `false` if it is not sleeping.
    pub fn go_on(&self, attempt_id: AttemptId) -> bool {
        let now = self.now();
        let mut world = self.world();
        let sleeping = world.attempts.get_mut(&attempt_id).filter(|attempt| attempt.end.is_none());
        let was_sleeping = sleeping.map(|attempt| attempt.play(now)).is_some();
        drop(world);
        self.reports.changed(attempt_id);
        was_sleeping
    }

    /// Appends to the output of a sleeping attempt.
    pub fn print(&self, attempt_id: AttemptId, text: impl AsRef<[u8]>) {
        if let Some(attempt) = self.world().attempts.get(&attempt_id) {
            attempt.output.send_modify(|(bytes, _)| bytes.extend_from_slice(text.as_ref()));
        }
    }

    /// Every output stream hangs after this many bytes, even after the attempt has ended, until this is lifted.
    pub fn hold_output(&self, limit: Option<usize>) {
        self.output_limit.send_replace(limit);
    }

    /// Makes reading output fail, while everything else works.
    pub fn set_readable(&self, fault: Option<&str>) {
        self.world().unreadable = fault.map(str::to_owned);
    }

    /// Makes removing objects fail, while everything else works.
    pub fn keep_objects(&self, reason: Option<&str>) {
        self.world().kept = reason.map(str::to_owned);
    }

    /// Forgets an attempt, as if its container had been removed by someone else.
    pub fn vanish(&self, attempt_id: AttemptId) {
        self.world().attempts.remove(&attempt_id);
        self.reports.changed(attempt_id);
    }

    /// Loses an attempt, as in a power failure of its machine: the output so far is all there is.
    pub fn lose(&self, attempt_id: AttemptId, reason: &str) {
        if let Some(attempt) = self.world().attempts.get_mut(&attempt_id) {
            attempt.lost = Some(reason.to_owned());
            attempt.output.send_modify(|(_, is_complete)| *is_complete = true);
        }
        self.reports.changed(attempt_id);
    }

    #[must_use]
    pub fn launches_of(&self, attempt_id: AttemptId) -> u32 {
        self.world().launches.get(&attempt_id).copied().unwrap_or(0)
    }

    #[must_use]
    pub fn times_started(&self, attempt_id: AttemptId) -> u32 {
        self.world().starts.get(&attempt_id).copied().unwrap_or(0)
    }
}

impl Attempt {
    fn new(command: &str, now: Timestamp) -> Self {
        let script = command.split([';', '\n']).map(|step| step.trim().to_owned()).collect();
        let output = watch::Sender::new((Vec::new(), false));
        let mut attempt =
            Self { shown: 0, was_stopped_early: false, started_at: now, script, end: None, lost: None, output };
        attempt.play(now);
        attempt
    }

    /// Plays the script to its end, or until it sleeps.
    fn play(&mut self, now: Timestamp) {
        while let Some(step) = self.script.pop_front() {
            if let Some(text) = step.strip_prefix("echo ") {
                let line = format!("{}\n", text.trim_matches(['\'', '"']));
                self.output.send_modify(|(bytes, _)| bytes.extend_from_slice(line.as_bytes()));
            } else if let Some(code) = step.strip_prefix("exit ") {
                return self.end(now, code.parse().unwrap_or(2), EndCause::Exited);
            } else if step == "kill -9 $$" {
                return self.end(now, 137, EndCause::Signal { name: "SIGKILL".to_owned() });
            } else if step.starts_with("sleep ") {
                return;
            }
        }
        self.end(now, 0, EndCause::Exited);
    }

    fn end(&mut self, now: Timestamp, exit_code: i64, cause: EndCause) {
        if self.end.is_none() {
            self.end = Some((now, exit_code, cause));
            self.output.send_modify(|(_, is_complete)| *is_complete = true);
        }
    }
}

fn first_identity() -> EngineId {
    EngineId::from_text("fake")
}

fn gone(attempt_id: AttemptId) -> EngineError {
    EngineError::Gone(format!("no attempt {attempt_id} is known here"))
}

#[async_trait]
impl Engine for FakeEngine {
    fn kind(&self) -> &'static str {
        "fake"
    }

    async fn identity(&self) -> Result<EngineIdentity, EngineError> {
        let mut world = self.reachable()?;
        world.believed = None;
        Ok(EngineIdentity::Known(world.identity.clone().unwrap_or_else(first_identity)))
    }

    fn known_identity(&self) -> Option<EngineIdentity> {
        let world = self.world();
        let now = || EngineIdentity::Known(world.identity.clone().unwrap_or_else(first_identity));
        Some(world.believed.clone().unwrap_or_else(now))
    }

    fn state(&self) -> EngineState {
        match self.world().outage.clone() {
            Some((since, reason)) => EngineState::Unreachable { reason, since },
            None => EngineState::Reachable,
        }
    }

    async fn check(&self, task: &TaskSpec) -> Result<(), EngineError> {
        drop(self.reachable()?);
        match task.memory_mb {
            Some(memory) if memory > LARGEST_MEMORY_MB => Err(EngineError::Rejected(format!(
                "the cluster cannot support running the job: no node has {memory} MB of memory, the largest has {LARGEST_MEMORY_MB} MB"
            ))),
            _ => Ok(()),
        }
    }

    async fn launch(&self, spec: &LaunchSpec) -> Result<Handle, EngineError> {
        self.pass_gate().await;
        let now = self.now();
        let attempt_id = spec.attempt_id;
        let handle = Handle { attempt_id, text: attempt_id.to_string() };
        let mut world = self.reachable()?;
        *world.launches.entry(attempt_id).or_default() += 1;
        match world.refusal.clone() {
            Some(Refusal::Rejected(reason)) => return Err(EngineError::Rejected(reason)),
            Some(Refusal::NotStarted(reason, fault)) => return Err(EngineError::NotStarted { reason, fault }),
            Some(Refusal::Unavailable(reason)) => return Err(EngineError::Unavailable(reason)),
            None => {}
        }
        if !world.attempts.contains_key(&attempt_id) {
            *world.starts.entry(attempt_id).or_default() += 1;
            world.attempts.insert(attempt_id, Attempt::new(&spec.task.command, now));
        }
        drop(world);
        self.reports.changed(attempt_id);
        Ok(handle)
    }

    async fn observe(&self, handles: &[Handle]) -> Result<Vec<Observation>, EngineError> {
        let mut world = self.reachable()?;
        let are_starts_held = world.are_starts_held;
        let observe = |handle: &Handle| {
            let Some(attempt) = world.attempts.get_mut(&handle.attempt_id) else {
                return Observation::Gone { reason: gone(handle.attempt_id).to_string() };
            };
            if attempt.was_stopped_early {
                let reason = "stopped before it started".to_owned();
                return Observation::NeverRan { reason, fault: StartFault::Task };
            }
            if are_starts_held && attempt.shown < 2 {
                return Observation::Starting;
            }
            attempt.shown = (attempt.shown + 1).min(3);
            let started = Started {
                at: attempt.started_at,
                instance: Instance {
                    instance_id: format!("fake-{}", handle.attempt_id.attempt),
                    dns_name: "localhost".into(),
                },
                usage: Usage::default(),
                image_digest: None,
                notes: vec![],
            };
            if let Some(reason) = &attempt.lost {
                return Observation::Lost { reason: reason.clone(), started: Some(started), last_seen_at: None };
            }
            match (attempt.shown, &attempt.end) {
                (1, _) => Observation::Starting,
                (3, Some((finished_at, exit_code, cause))) => Observation::Ended(Ended {
                    started,
                    finished_at: *finished_at,
                    exit_code: *exit_code,
                    cause: cause.clone(),
                    killed_for_memory: false,
                    usage: Usage { max_memory_bytes: Some(1 << 20), cpu_time_ms: Some(1), ..Usage::default() },
                    is_log_complete: false,
                    notes: vec![],
                }),
                _ => {
                    attempt.shown = 2;
                    Observation::Running(started)
                }
            }
        };
        Ok(handles.iter().map(observe).collect())
    }

    async fn stop(&self, handle: &Handle, _grace: Duration) -> Result<(), EngineError> {
        let now = self.now();
        let mut world = self.reachable()?;
        if world.are_stops_swallowed {
            return Err(gone(handle.attempt_id));
        }
        let are_starts_held = world.are_starts_held;
        let attempt = world.attempts.get_mut(&handle.attempt_id).ok_or_else(|| gone(handle.attempt_id))?;
        if are_starts_held && attempt.shown < 2 {
            attempt.was_stopped_early = true;
        } else if attempt.end.is_some() {
            return Err(EngineError::Gone(format!("attempt {} has ended", handle.attempt_id)));
        }
        attempt.end(now, 143, EndCause::Stopped);
        drop(world);
        self.reports.changed(handle.attempt_id);
        Ok(())
    }

    async fn output(&self, handle: &Handle, from: &LogPosition) -> Result<Output, EngineError> {
        let attempt_id = handle.attempt_id;
        let world = self.reachable()?;
        if let Some(fault) = &world.unreadable {
            return Err(EngineError::Unavailable(fault.clone()));
        }
        let attempt = world.attempts.get(&attempt_id).ok_or_else(|| gone(attempt_id))?;
        let from = usize::try_from(from.bytes).unwrap_or(usize::MAX);
        let state = Some((attempt.output.subscribe(), self.output_limit.subscribe(), from));
        let chunks = stream::unfold(state, move |state| async move {
            let (mut output, mut limit, from) = state?;
            loop {
                let most = *limit.borrow_and_update();
                let (chunk, is_complete) = {
                    let seen = output.borrow_and_update();
                    let given = seen.0.len().min(most.unwrap_or(usize::MAX));
                    (Bytes::copy_from_slice(seen.0.get(from..given).unwrap_or_default()), seen.1)
                };
                if !chunk.is_empty() {
                    let next = from + chunk.len();
                    return Some((Ok(Chunk { bytes: chunk, marker: None }), Some((output, limit, next))));
                }
                if is_complete && most.is_none() {
                    return None;
                }
                tokio::select! {
                    changed = output.changed() => {
                        if changed.is_err() && !is_complete {
                            return Some((Err(gone(attempt_id)), None));
                        }
                        if changed.is_err() && limit.changed().await.is_err() {
                            return None;
                        }
                    }
                    Ok(()) = limit.changed() => {}
                }
            }
        });
        Ok(Output::Stream(chunks.boxed()))
    }

    async fn list_ours(&self) -> Result<Vec<Handle>, EngineError> {
        let world = self.reachable()?;
        Ok(world.attempts.keys().map(|&attempt_id| Handle { attempt_id, text: attempt_id.to_string() }).collect())
    }

    async fn remove(&self, handle: &Handle) -> Result<(), EngineError> {
        let mut world = self.reachable()?;
        if let Some(reason) = &world.kept {
            return Err(EngineError::Unavailable(reason.clone()));
        }
        world.attempts.remove(&handle.attempt_id);
        Ok(())
    }
}
