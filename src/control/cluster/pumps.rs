//! Tracks the pumps: which attempts' output is being read, how far that is, and what to do when the output of an
//! ended attempt does not come to its end.
//!
//! ```text
//!            fails, or is asked to end
//!   waiting ←──────────────────────── running ──→ finished, or in place
//!      └──────── next observation ───────↗
//! ```

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::time::{Instant, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::Control;
use super::pump::{Progress, Pump, PumpEnd, PumpError};
use crate::clock::Clock;
use crate::engine::{EngineError, Handle, Reports};
use crate::logs::is_busy;
use crate::model::{AttemptId, Event};
use crate::store::ActiveAttempt;

/// Into how many parts the patience with a silent engine is divided: after each, the output is requested anew.
const TRIES: u32 = 5;
/// How long to wait for the last write of a pump that was asked to end.
const LAST_WRITE: Duration = Duration::from_secs(5);

/// This process's progress with an attempt's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PumpState {
    Running,
    /// It failed or was ended, and is restarted at the next observation.
    Waiting,
    /// Our log is whole and on the disk. `gap` says why some of it may be missing.
    Finished {
        gap: Option<String>,
    },
    /// The engine writes the log itself.
    InPlace,
}

/// What to do about the output of an attempt that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Wait,
    /// No output came for a while: request it anew. The reason is for people.
    AskAnew(String),
    /// No output came for the longest time we wait.
    GiveUp(String),
}

/// Dropping it ends all pumps.
pub(super) struct Pumps {
    entries: Arc<Mutex<HashMap<AttemptId, Entry>>>,
    tasks: TaskTracker,
    stop: CancellationToken,
    _at_end: DropGuard,
}

struct Entry {
    state: PumpState,
    progress: Arc<Progress>,
    started_at: Instant,
    /// Ends the running pump, or the last one.
    stop: CancellationToken,
    /// Cancelled when the pump has ended.
    ended: CancellationToken,
    /// Since when the engine has reported without interruption that the attempt has ended.
    attempt_ended_at: Option<Instant>,
    /// Why the last pumps failed, and how many in a row.
    failure: Option<String>,
    failures: u32,
    /// The engine no longer has any output to give.
    is_gone: bool,
}

impl Default for Pumps {
    fn default() -> Self {
        let stop = CancellationToken::new();
        let at_end = stop.clone().drop_guard();
        Self { entries: Arc::default(), tasks: TaskTracker::new(), stop, _at_end: at_end }
    }
}

impl Pumps {
    fn entries(&self) -> MutexGuard<'_, HashMap<AttemptId, Entry>> {
        lock(&self.entries)
    }

    pub(super) fn state(&self, attempt_id: AttemptId) -> PumpState {
        self.entries().get(&attempt_id).map_or(PumpState::Waiting, |entry| entry.state.clone())
    }

    /// Ends the pump of an attempt. `false` if its last write takes long: it still holds the log then.
    pub(super) async fn end(&self, attempt_id: AttemptId) -> bool {
        let ended = match self.entries().get(&attempt_id) {
            Some(entry) if entry.state == PumpState::Running => {
                entry.stop.cancel();
                entry.ended.clone()
            }
            _ => return true,
        };
        timeout(LAST_WRITE, ended.cancelled()).await.is_ok()
    }

    pub(super) fn forget(&self, attempt_id: AttemptId) {
        self.entries().remove(&attempt_id);
    }

    pub(super) fn forget_except(&self, active: &[ActiveAttempt]) {
        let active: HashSet<_> = active.iter().map(|attempt| attempt.attempt_id).collect();
        self.entries().retain(|attempt_id, entry| entry.state == PumpState::Running || active.contains(attempt_id));
    }

    /// The engine can't be asked: restarts the time in which it gives no output.
    pub(super) fn excuse(&self, attempt_id: AttemptId) {
        if let Some(entry) = self.entries().get_mut(&attempt_id) {
            entry.attempt_ended_at = None;
        }
    }

    /// Called when the engine has just reported that the attempt has ended while its output has not come to its end.
    pub(super) fn judge(&self, attempt_id: AttemptId, patience: Duration, now: Instant) -> Verdict {
        let mut entries = self.entries();
        let Some(entry) = entries.get_mut(&attempt_id) else { return Verdict::Wait };
        if let (true, Some(reason)) = (entry.is_gone, &entry.failure) {
            return Verdict::GiveUp(reason.clone());
        }
        let attempt_ended_at = *entry.attempt_ended_at.get_or_insert(now);
        let silence = Silence {
            since: attempt_ended_at.max(entry.progress.moved_at()),
            pump_started_at: (entry.state == PumpState::Running).then_some(entry.started_at),
        };
        judge(silence, entry.failure.as_deref(), patience, now)
    }
}

/// How long an engine has given no output of an attempt that has ended.
#[derive(Debug, Clone, Copy)]
struct Silence {
    since: Instant,
    /// When the output was last requested, if an answer is awaited.
    pump_started_at: Option<Instant>,
}

fn judge(silence: Silence, failure: Option<&str>, patience: Duration, now: Instant) -> Verdict {
    let part = patience / TRIES;
    let silent_for = now.saturating_duration_since(silence.since);
    let because = failure.map_or_else(String::new, |failure| format!(": {failure}"));
    let reason = || format!("the cluster has delivered no more output for {} s{because}", silent_for.as_secs());
    if silent_for >= patience {
        return Verdict::GiveUp(reason());
    }
    let asked_at = silence.pump_started_at.map_or(silence.since, |started_at| started_at.max(silence.since));
    if now.saturating_duration_since(asked_at) >= part { Verdict::AskAnew(reason()) } else { Verdict::Wait }
}

impl Control {
    /// Starts the pump of an attempt unless one is at work or done.
    pub(super) fn ensure_pump(&self, attempt_id: AttemptId, handle: &Handle) -> PumpState {
        let pumps = &self.state.pumps;
        if pumps.stop.is_cancelled() {
            return pumps.state(attempt_id);
        }
        let mut entries = pumps.entries();
        let entry = entries.entry(attempt_id).or_insert_with(Entry::new);
        if entry.state != PumpState::Waiting {
            return entry.state.clone();
        }
        (entry.stop, entry.ended) = (pumps.stop.child_token(), CancellationToken::new());
        (entry.state, entry.started_at) = (PumpState::Running, Instant::now());
        let pump = Pump {
            engine: Arc::clone(&self.engine),
            logs: Arc::clone(&self.logs),
            cap_bytes: self.settings.log_cap_bytes,
            handle: handle.clone(),
            clock: self.clock.clone(),
            reports: self.reports.clone(),
            progress: Arc::clone(&entry.progress),
            stop: entry.stop.clone(),
        };
        let ended = entry.ended.clone().drop_guard();
        drop(entries);
        let (entries, reports, clock) = (Arc::clone(&pumps.entries), self.reports.clone(), self.clock.clone());
        pumps.tasks.spawn(async move {
            let end = pump.run().await;
            // Before anyone is notified.
            let state = note_end(&mut lock(&entries), attempt_id, end, &reports, &clock);
            drop(ended);
            if matches!(state, PumpState::Finished { .. }) {
                reports.changed(attempt_id);
            }
        });
        PumpState::Running
    }

    /// Ends all pumps, and starts no more. When this returns, what they have read is on the disk and no log is held.
    pub async fn end_pumps(&self) {
        let pumps = &self.state.pumps;
        pumps.stop.cancel();
        pumps.tasks.close();
        pumps.tasks.wait().await;
    }

    /// Reports once why the rest of a log is not there yet.
    pub(super) fn note_log_delay(&self, attempt_id: AttemptId, reason: &str) {
        if let Some(entry) = self.state.pumps.entries().get(&attempt_id) {
            note_delay(attempt_id, entry, reason, &self.reports, &self.clock);
        }
    }
}

impl Entry {
    fn new() -> Self {
        Self {
            state: PumpState::Waiting,
            progress: Arc::new(Progress::new()),
            started_at: Instant::now(),
            stop: CancellationToken::new(),
            ended: CancellationToken::new(),
            attempt_ended_at: None,
            failure: None,
            failures: 0,
            is_gone: false,
        }
    }
}

fn note_end(
    entries: &mut HashMap<AttemptId, Entry>,
    attempt_id: AttemptId,
    end: Result<PumpEnd, PumpError>,
    reports: &Reports,
    clock: &Clock,
) -> PumpState {
    let Some(entry) = entries.get_mut(&attempt_id) else { return PumpState::Waiting };
    entry.state = match &end {
        Ok(PumpEnd::Finished { gap }) => PumpState::Finished { gap: gap.clone() },
        Ok(PumpEnd::InPlace) => PumpState::InPlace,
        Ok(PumpEnd::Stopped) | Err(_) => PumpState::Waiting,
    };
    entry.is_gone = matches!(end, Err(PumpError::Engine(EngineError::Gone(_))));
    let Err(error) = end else {
        (entry.failure, entry.failures) = (None, 0);
        return entry.state.clone();
    };
    let reason = match &error {
        PumpError::Engine(error) => error.to_string(),
        PumpError::Log(error) => format!("the log can't be written: {error}"),
    };
    let is_new = entry.failure.as_ref() != Some(&reason);
    entry.failures += 1;
    if is_new {
        tracing::warn!(%attempt_id, reason, "output could not be read or stored, and is asked for again");
    }
    if let PumpError::Log(error) = &error {
        // Our own fault: the engine keeps what it has, however long that takes. A log that another pump has just
        // released is not worth an event.
        entry.attempt_ended_at = None;
        if !is_busy(error) || entry.failures > 1 {
            let reason = format!("{reason}; the cluster keeps the output until it can be stored");
            note_delay(attempt_id, entry, &reason, reports, clock);
        }
    }
    entry.failure = Some(reason);
    entry.state.clone()
}

fn note_delay(attempt_id: AttemptId, entry: &Entry, reason: &str, reports: &Reports, clock: &Clock) {
    if entry.progress.is_new_delay() {
        let message = format!("the rest of the log is not there yet: {reason}");
        reports.note(attempt_id, Event::warning(clock.now(), "LogDelayed", message));
    }
}

fn lock(entries: &Mutex<HashMap<AttemptId, Entry>>) -> MutexGuard<'_, HashMap<AttemptId, Entry>> {
    entries.lock()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_engine_is_asked_anew_and_given_up_in_the_end() {
        let start = Instant::now();
        let at = |secs: u64| start + Duration::from_secs(secs);
        let patience = Duration::from_secs(100);
        let kind = |since: u64, pump_started_at: Option<u64>, now: u64| {
            let silence = Silence { since: at(since), pump_started_at: pump_started_at.map(at) };
            match judge(silence, Some("no answer"), patience, at(now)) {
                Verdict::Wait => "wait",
                Verdict::AskAnew(reason) | Verdict::GiveUp(reason) if !reason.ends_with(": no answer") => "no reason",
                Verdict::AskAnew(_) => "ask",
                Verdict::GiveUp(_) => "give up",
            }
        };
        let table = [
            (0, Some(0), 19, "wait"),
            (0, Some(0), 20, "ask"),
            (0, Some(20), 39, "wait"),
            (0, Some(20), 40, "ask"),
            (0, Some(90), 100, "give up"),
            // Output came in between.
            (50, Some(0), 69, "wait"),
            (50, Some(0), 149, "ask"),
            (50, Some(0), 150, "give up"),
            // It fails immediately each time.
            (0, None, 19, "wait"),
            (0, None, 100, "give up"),
        ];
        for (since, pump_started_at, now, expected) in table {
            assert_eq!(kind(since, pump_started_at, now), expected, "{since} {pump_started_at:?} {now}");
        }
    }
}
