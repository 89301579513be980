//! The life of a run: which status may follow which, and what an engine's observation changes about a run.
//!
//! ```text
//! QUEUED ──→ PENDING ──→ RUNNING ──→ STOPPED
//!   ↑ │         │ └──────────────────↗ ↑ ↑
//!   │ └─────────┼──────────────────────┘ │
//!   └──── NEEDS_RETRY ───────────────────┘
//! ```
//!
//! Everything here is a function of values, with `now` passed in. The store applies a [`Change`] only if the run
//! still matches what the change was decided from.

use jiff::{SignedDuration, Timestamp};

use super::reason::{reason_of_end, started_event, stop_reason, stop_reason_before_start, unseen_event};
use super::{
    EndCause, Ended, Event, FailedStarts, Instance, Observation, Outcome, Run, StartFault, StartLimits, Started,
    Status, StopCause, StopRequest, Usage, reason,
};

/// Whether a run may go from one status to the other.
#[must_use]
pub const fn is_allowed(from: Status, to: Status) -> bool {
    use Status::{NeedsRetry, Pending, Queued, Running, Stopped};
    matches!(
        (from, to),
        (Queued, Pending | Stopped)
            | (Pending, Running | Stopped | NeedsRetry)
            | (Running, Stopped)
            | (NeedsRetry, Queued | Stopped)
    )
}

/// The reason of a run that was observed running, and of which the engine has no trace.
const LOST_REASON: &str = "it was running, and the engine no longer knows it";

/// The state that a change was decided from. The change is valid only while the run still has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Basis {
    pub status: Status,
    pub attempt: u32,
    pub stop: Option<StopRequest>,
}

impl Basis {
    #[must_use]
    pub fn of(run: &Run) -> Self {
        Self { status: run.status, attempt: run.attempt_count, stop: run.stop.clone() }
    }
}

/// One transition of a run, decided from `from`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub from: Basis,
    pub to: Status,
    pub outcome: Option<Outcome>,
    pub exit_code: Option<i64>,
    pub exit_reason: Option<String>,
    pub started_at: Option<Timestamp>,
    pub seen_running_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    pub due_at: Option<Timestamp>,
    pub failed_starts: Option<FailedStarts>,
    pub instance: Option<Instance>,
    pub image_digest: Option<String>,
    pub usage: Usage,
    pub is_log_complete: bool,
    pub run_exceptions: Option<serde_json::Value>,
    pub events: Vec<Event>,
}

impl Change {
    fn new(run: &Run, to: Status) -> Self {
        debug_assert!(is_allowed(run.status, to), "{} never becomes {to}", run.status);
        Self {
            from: Basis::of(run),
            to,
            outcome: None,
            exit_code: None,
            exit_reason: None,
            started_at: None,
            seen_running_at: None,
            finished_at: None,
            due_at: None,
            failed_starts: None,
            instance: None,
            image_digest: None,
            usage: Usage::default(),
            is_log_complete: false,
            run_exceptions: None,
            events: Vec::new(),
        }
    }

    /// An end without an exit code: it never ran, or its end was not observed.
    fn end_unseen(run: &Run, outcome: Outcome, reason: String, now: Timestamp) -> Self {
        // A run never ends before it started, whatever the clocks of two machines say.
        let finished_at = run.started_at.map_or(now, |started_at| started_at.max(now));
        Self {
            outcome: Some(outcome),
            finished_at: Some(finished_at),
            events: vec![unseen_event(outcome, now, &reason)],
            exit_reason: Some(reason),
            ..Self::new(run, Status::Stopped)
        }
    }
}

/// What is known apart from the observation.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    pub now: Timestamp,
    /// How long ago the attempt was claimed.
    pub since_claim: SignedDuration,
    pub limits: &'a StartLimits,
}

/// The change that follows from an observation; `None` if nothing is new.
#[must_use]
pub fn decide(run: &Run, observation: Observation, situation: Situation<'_>) -> Option<Change> {
    let now = situation.now;
    match (run.status, observation) {
        (Status::Queued | Status::NeedsRetry | Status::Stopped, _)
        | (Status::Pending | Status::Running, Observation::Starting | Observation::Unknown { .. })
        | (Status::Running, Observation::Running(_)) => None,
        (Status::Pending, Observation::Running(started)) => {
            let Started { at, instance, usage, image_digest, mut notes } = started;
            notes.insert(0, started_event(at, &instance));
            Some(Change {
                started_at: Some(at),
                seen_running_at: Some(now),
                instance: Some(instance),
                image_digest,
                usage,
                events: notes,
                ..Change::new(run, Status::Running)
            })
        }
        (Status::Pending | Status::Running, Observation::Ended(ended)) => Some(end(run, ended)),
        (Status::Pending | Status::Running, Observation::NeverRan { reason, fault }) => {
            Some(never_ran(run, &reason, fault, situation))
        }
        (Status::Pending | Status::Running, Observation::Gone { reason }) => Some(lose(run, reason, now)),
        (Status::Pending | Status::Running, Observation::Lost { reason, started, last_seen_at }) => {
            Some(lose_started(run, reason, started, last_seen_at, now))
        }
    }
}

fn never_ran(run: &Run, reason: &str, fault: StartFault, situation: Situation<'_>) -> Change {
    match &run.stop {
        Some(stop) => {
            let reason = stop_reason_before_start(run, stop, Some(reason));
            let end = Change::end_unseen(run, stop.cause.outcome_before_start(), reason, situation.now);
            Change { is_log_complete: true, ..end }
        }
        // A run that was observed running did run, whatever is left of it: starting it again would repeat its work.
        None if fault.is_retried() && run.status == Status::Running => {
            Change::end_unseen(run, Outcome::Lost, LOST_REASON.to_owned(), situation.now)
        }
        None => fail_start(run, reason, fault, situation),
    }
}

/// The end of a run that no longer exists. If it was asked to stop, that is the reason.
fn lose(run: &Run, reason: String, now: Timestamp) -> Change {
    let (outcome, reason) = match &run.stop {
        Some(stop) => {
            let was_seen_running = run.status == Status::Running;
            let outcome = if was_seen_running { stop.cause.outcome() } else { stop.cause.outcome_before_start() };
            (outcome, format!("{}; {reason}", stop_reason(run, stop)))
        }
        None => (Outcome::Lost, reason),
    };
    Change::end_unseen(run, outcome, reason, now)
}

/// Like `lose`, with what is known of its start. It counts as ended when it was last observed.
fn lose_started(
    run: &Run,
    reason: String,
    started: Option<Started>,
    last_seen_at: Option<Timestamp>,
    now: Timestamp,
) -> Change {
    let mut change = lose(run, reason, now);
    let started_at = run.started_at.or(started.as_ref().map(|started| started.at));
    let finished_at = last_seen_at.unwrap_or(now);
    change.finished_at = Some(started_at.map_or(finished_at, |started_at| started_at.max(finished_at)));
    if let Some(Started { at, instance, usage, image_digest, notes }) =
        started.filter(|_| run.status == Status::Pending)
    {
        let told: Vec<_> = std::iter::once(started_event(at, &instance)).chain(notes).collect();
        change.events.splice(0..0, told);
        change.started_at = Some(at);
        change.instance = Some(instance);
        change.image_digest = image_digest;
        change.usage = usage;
    }
    change
}

fn end(run: &Run, ended: Ended) -> Change {
    let limits = ended.started.usage;
    let usage = Usage {
        memory_limit_bytes: ended.usage.memory_limit_bytes.or(limits.memory_limit_bytes),
        cpu_limit_millis: ended.usage.cpu_limit_millis.or(limits.cpu_limit_millis),
        ..ended.usage
    };
    let (outcome, reason) = match ending_stop(run, &ended) {
        Some(stop) => (stop.cause.outcome(), Some(stop_reason(run, stop))),
        None => (outcome_of(&ended), reason_of_end(run, &ended, usage)),
    };
    let ended_event = reason::ended_event(&ended, outcome, reason.as_deref(), usage);
    let Ended { started, finished_at, exit_code, is_log_complete, notes, .. } = ended;
    let mut events = Vec::new();
    if run.status == Status::Pending {
        events.push(started_event(started.at, &started.instance));
        events.extend(started.notes);
    }
    events.extend(notes);
    events.push(ended_event);
    Change {
        outcome: Some(outcome),
        exit_code: Some(exit_code),
        exit_reason: reason,
        started_at: Some(started.at),
        finished_at: Some(finished_at),
        instance: Some(started.instance),
        image_digest: started.image_digest,
        usage,
        is_log_complete,
        events,
        ..Change::new(run, Status::Stopped)
    }
}

/// The stop that ended a run, if one did. A run that ended before its engine was asked to stop it ended by itself,
/// and so did one ended by the engine's own deadline mechanism; otherwise the request is the cause, however the
/// command reacted to it. The time of the end is not considered: the engine's clock may differ from ours.
fn ending_stop<'a>(run: &'a Run, ended: &Ended) -> Option<&'a StopRequest> {
    let stop = run.stop.as_ref()?;
    match ended.cause {
        EndCause::Stopped => Some(stop),
        EndCause::Deadline => None,
        EndCause::Exited
        | EndCause::Signal { .. }
        | EndCause::Outside { .. }
        | EndCause::GivenUp { .. }
        | EndCause::Forgotten { .. } => Some(stop).filter(|stop| stop.sent_at.is_some()),
    }
}

/// The outcome of a run that ended without being asked to.
const fn outcome_of(ended: &Ended) -> Outcome {
    match &ended.cause {
        EndCause::Exited if ended.exit_code == 0 => Outcome::Succeeded,
        EndCause::Deadline => Outcome::TimedOut,
        EndCause::Exited
        | EndCause::Signal { .. }
        | EndCause::Stopped
        | EndCause::Outside { .. }
        | EndCause::GivenUp { .. }
        | EndCause::Forgotten { .. } => Outcome::Failed,
    }
}

/// The longest pause before another attempt.
pub const LONGEST_RETRY_DELAY: SignedDuration = SignedDuration::from_secs(60);

/// Handles an attempt that certainly never started. The run is rejected if it can never work, or if the bound of this
/// kind of fault is reached; otherwise it is queued again after a pause, which doubles from one second with each
/// attempt up to a minute.
#[must_use]
pub fn fail_start(run: &Run, reason: &str, fault: StartFault, situation: Situation<'_>) -> Change {
    if !fault.is_retried() {
        return refuse(run, reason, situation.now);
    }
    let doublings = run.attempt_count.saturating_sub(1).min(6);
    let delay = SignedDuration::from_secs(1 << doublings).min(LONGEST_RETRY_DELAY);
    let failed_starts = run.failed_starts.and(fault, situation.since_claim.saturating_add(delay));
    if let Some(why) = failed_starts.why_given_up(fault, situation.limits) {
        return refuse(run, &format!("{reason}; {why}"), situation.now);
    }
    let message =
        format!("attempt {} could not start and is tried again in {} s: {reason}", run.attempt_count, delay.as_secs());
    Change {
        due_at: Some(situation.now.saturating_add(delay).unwrap_or(Timestamp::MAX)),
        failed_starts: Some(failed_starts),
        exit_reason: Some(reason.to_owned()),
        events: vec![Event::warning(situation.now, "NeedsRetry", message)],
        ..Change::new(run, Status::NeedsRetry)
    }
}

/// Rejects a run that can never run, or that is not tried any more.
#[must_use]
pub fn refuse(run: &Run, reason: &str, now: Timestamp) -> Change {
    Change { is_log_complete: true, ..Change::end_unseen(run, Outcome::Rejected, reason.to_owned(), now) }
}

/// Queues the run for its next attempt after the pause. `None` if it does not need one, or has to stop.
#[must_use]
pub fn requeue(run: &Run, now: Timestamp) -> Option<Change> {
    (run.status == Status::NeedsRetry && run.stop.is_none()).then(|| Change {
        // The reason why the last attempt failed still applies.
        exit_reason: run.exit_reason.clone(),
        events: vec![Event::normal(now, "Queued", "queued again for another attempt")],
        ..Change::new(run, Status::Queued)
    })
}

/// The end of a run that no engine has: nothing was started, so nothing has to be stopped.
#[must_use]
pub fn stop_before_start(run: &Run, cause: StopCause, now: Timestamp) -> Option<Change> {
    matches!(run.status, Status::Queued | Status::NeedsRetry).then(|| {
        let asked = StopRequest::new(cause, now);
        let stop = run.stop.as_ref().unwrap_or(&asked);
        let reason = stop_reason_before_start(run, stop, None);
        let end = Change::end_unseen(run, stop.cause.outcome_before_start(), reason, now);
        Change { is_log_complete: true, ..end }
    })
}

/// A status that a job reports about itself. `Err` explains the refusal to the client; `Ok(None)` means nothing is
/// new.
pub fn set_by_hand(
    run: &Run,
    status: Status,
    exit_code: Option<i64>,
    exit_reason: Option<String>,
    run_exceptions: Option<serde_json::Value>,
    now: Timestamp,
) -> Result<Option<Change>, String> {
    if status == run.status {
        let is_same = exit_code.is_none_or(|code| run.exit_code == Some(code));
        return if is_same {
            Ok(None)
        } else {
            Err(format!("the run is {} already, with another exit code", run.status))
        };
    }
    let is_for_the_server = matches!(status, Status::Queued | Status::Pending | Status::NeedsRetry);
    if !is_allowed(run.status, status) || is_for_the_server {
        return Err(format!("a run that is {} can't be set to {status}", run.status));
    }
    let event =
        |reason: &str| Event::normal(now, reason, format!("{status} was reported through the API")).from_source("api");
    if status == Status::Running {
        return Ok(Some(Change {
            started_at: Some(now),
            seen_running_at: Some(now),
            run_exceptions,
            events: vec![event("Started")],
            ..Change::new(run, status)
        }));
    }
    let outcome = match exit_code {
        Some(0) => Outcome::Succeeded,
        Some(_) => Outcome::Failed,
        None => run.stop.as_ref().map_or(Outcome::Stopped, |stop| stop.cause.outcome()),
    };
    let finished_at = run.started_at.map_or(now, |started_at| started_at.max(now));
    Ok(Some(Change {
        outcome: Some(outcome),
        exit_code,
        exit_reason: exit_reason.or_else(|| exit_code.filter(|code| *code != 0).map(reason::exit_reason)),
        finished_at: Some(finished_at),
        is_log_complete: matches!(run.status, Status::Queued | Status::NeedsRetry),
        run_exceptions,
        events: vec![event("Reported")],
        ..Change::new(run, Status::Stopped)
    }))
}

#[cfg(test)]
mod tests {
    use super::super::{
        DefinitionUpdate, LaunchPolicy, LaunchRequest, NewDefinition, RetryLimit, RunId, Target, plan_launch,
    };
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn run(status: Status) -> Run {
        let fields =
            DefinitionUpdate { image: Some("i".into()), command: Some("c".into()), ..DefinitionUpdate::default() };
        let definition = NewDefinition { group_name: Some("g".into()), fields }.validate(at(0)).unwrap();
        let request = LaunchRequest { active_deadline_secs: Some(60), ..LaunchRequest::default() };
        let place = Target { cluster: "default", resolved_cluster: "default", engine: "fake" };
        let run = plan_launch(&definition, request, &LaunchPolicy::default(), place, RunId::generate(), at(0)).unwrap();
        Run { status, attempt_count: 1, ..run }
    }

    /// An observation at this second of an attempt that was claimed three seconds before, without limits.
    fn situation(second: i64) -> Situation<'static> {
        const LIMITS: &StartLimits = &StartLimits::NONE;
        Situation { now: at(second), since_claim: SignedDuration::from_secs(3), limits: LIMITS }
    }

    #[expect(clippy::unnecessary_wraps, reason = "it is what a run has")]
    fn stop(cause: StopCause, is_sent: bool) -> Option<StopRequest> {
        Some(StopRequest { sent_at: is_sent.then(|| at(7)), ..StopRequest::new(cause, at(7)) })
    }

    fn started() -> Started {
        Started { at: at(5), instance: Instance::default(), usage: Usage::default(), image_digest: None, notes: vec![] }
    }

    fn ended(exit_code: i64, cause: EndCause) -> Observation {
        let usage = Usage { max_memory_bytes: Some(64 << 20), memory_limit_bytes: Some(64 << 20), ..Usage::default() };
        Observation::Ended(Ended {
            started: started(),
            finished_at: at(9),
            exit_code,
            cause,
            killed_for_memory: false,
            usage,
            is_log_complete: true,
            notes: vec![],
        })
    }

    fn killed_for_memory(exit_code: i64, cause: EndCause) -> Observation {
        match ended(exit_code, cause) {
            Observation::Ended(ended) => Observation::Ended(Ended { killed_for_memory: true, ..ended }),
            other => other,
        }
    }

    fn never_ran(reason: &str, fault: StartFault) -> Observation {
        Observation::NeverRan { reason: reason.to_owned(), fault }
    }

    fn lost(started: Option<Started>, last_seen_at: Option<Timestamp>) -> Observation {
        Observation::Lost { reason: "its machine lost power".into(), started, last_seen_at }
    }

    /// No stop, and every kind of one, sent and not.
    fn stops() -> Vec<Option<StopRequest>> {
        let each = StopCause::ALL.into_iter().flat_map(|cause| [stop(cause, false), stop(cause, true)]);
        std::iter::once(None).chain(each).collect()
    }

    fn observations() -> Vec<Observation> {
        vec![
            Observation::Starting,
            Observation::Unknown { reason: "the disk does not answer".into() },
            Observation::Running(started()),
            ended(0, EndCause::Exited),
            ended(3, EndCause::Exited),
            ended(139, EndCause::Signal { name: "SIGSEGV".into() }),
            killed_for_memory(137, EndCause::Exited),
            killed_for_memory(3, EndCause::Exited),
            ended(143, EndCause::Stopped),
            ended(143, EndCause::Deadline),
            ended(143, EndCause::GivenUp { why: "no such host".into() }),
            never_ran("no such image", StartFault::Task),
            never_ran("the registry is away", StartFault::Image),
            never_ran("no space", StartFault::Machine),
            never_ran("preempted", StartFault::Displaced),
            lost(None, None),
            lost(Some(started()), Some(at(8))),
            Observation::Gone { reason: "it is gone".into() },
        ]
    }

    #[test]
    fn the_table_of_statuses_is_this_and_nothing_else() {
        use Status::{NeedsRetry, Pending, Queued, Running, Stopped};
        let table = [
            (Queued, [false, true, false, false, true]),
            (Pending, [false, false, true, true, true]),
            (Running, [false, false, false, false, true]),
            (NeedsRetry, [true, false, false, false, true]),
            (Stopped, [false, false, false, false, false]),
        ];
        for (from, row) in table {
            for (to, allowed) in Status::ALL.into_iter().zip(row) {
                assert_eq!(is_allowed(from, to), allowed, "{from} → {to}");
            }
        }
    }

    #[test]
    fn whatever_is_observed_in_whatever_status_the_table_holds() {
        for status in Status::ALL {
            for stop in stops() {
                for observation in observations() {
                    let run = Run { stop: stop.clone(), ..run(status) };
                    let Some(change) = decide(&run, observation.clone(), situation(10)) else { continue };
                    assert!(is_allowed(status, change.to), "{status} → {} on {observation:?}", change.to);
                    assert_eq!(change.from, Basis::of(&run));
                    assert!(!change.events.is_empty(), "every change tells its story");
                    assert_eq!(change.outcome.is_some(), change.to == Status::Stopped);
                    assert_eq!(change.finished_at.is_some(), change.to == Status::Stopped);
                    assert_eq!(change.due_at.is_some(), change.to == Status::NeedsRetry);
                }
            }
        }
    }

    #[test]
    fn each_end_has_its_outcome_and_a_reason_in_words() {
        let table = [
            (ended(0, EndCause::Exited), Outcome::Succeeded, None),
            (ended(3, EndCause::Exited), Outcome::Failed, Some("exited with code 3")),
            (ended(127, EndCause::Exited), Outcome::Failed, Some("exited with code 127 (a command was not found)")),
            (
                ended(139, EndCause::Signal { name: "SIGSEGV".into() }),
                Outcome::Failed,
                Some("ended by signal 11 (SIGSEGV)"),
            ),
            (
                killed_for_memory(137, EndCause::Signal { name: "SIGKILL".into() }),
                Outcome::Failed,
                Some("out of memory: killed by the kernel at its limit of 64 MB (peak 64 MB)"),
            ),
            (
                killed_for_memory(137, EndCause::Exited),
                Outcome::Failed,
                Some("out of memory: killed by the kernel at its limit of 64 MB (peak 64 MB)"),
            ),
            (
                killed_for_memory(3, EndCause::Exited),
                Outcome::Failed,
                Some("exited with code 3; a process of it was killed for memory at its limit of 64 MB (peak 64 MB)"),
            ),
            (
                killed_for_memory(139, EndCause::Signal { name: "SIGSEGV".into() }),
                Outcome::Failed,
                Some(
                    "ended by signal 11 (SIGSEGV); a process of it was killed for memory at its limit of 64 MB (peak 64 MB)",
                ),
            ),
            (killed_for_memory(0, EndCause::Exited), Outcome::Succeeded, None),
            (ended(143, EndCause::Stopped), Outcome::Failed, Some("stopped from outside of flotilla")),
            (
                ended(255, EndCause::Forgotten { why: "nobody knows more".into() }),
                Outcome::Failed,
                Some("exited with code 255; nobody knows more"),
            ),
            (
                ended(137, EndCause::Outside { by: "the machine was shut down".into() }),
                Outcome::Failed,
                Some("stopped from outside of flotilla: the machine was shut down"),
            ),
            (ended(143, EndCause::Deadline), Outcome::TimedOut, Some("stopped because it passed its deadline of 60 s")),
            (
                ended(143, EndCause::GivenUp { why: "no such host".into() }),
                Outcome::Failed,
                Some("it started after flotilla had given it up, and was ended: no such host"),
            ),
            (never_ran("no such image", StartFault::Task), Outcome::Rejected, Some("no such image")),
            (Observation::Gone { reason: "it is gone".into() }, Outcome::Lost, Some("it is gone")),
            (lost(None, None), Outcome::Lost, Some("its machine lost power")),
        ];
        for (observation, outcome, reason) in table {
            let change = decide(&run(Status::Pending), observation.clone(), situation(10)).unwrap();
            assert_eq!((change.outcome, change.exit_reason.as_deref()), (Some(outcome), reason), "{observation:?}");
        }
    }

    #[test]
    fn a_run_that_was_seen_running_is_lost_and_never_tried_again() {
        for fault in StartFault::ALL {
            let seen = never_ran("no container", fault);
            let outcome =
                |status| decide(&run(status), seen.clone(), situation(10)).map(|change| (change.to, change.outcome));
            let (pending, running) = match fault {
                StartFault::Task => ((Status::Stopped, Some(Outcome::Rejected)), Outcome::Rejected),
                _ => ((Status::NeedsRetry, None), Outcome::Lost),
            };
            assert_eq!(outcome(Status::Pending), Some(pending), "{fault}");
            assert_eq!(outcome(Status::Running), Some((Status::Stopped, Some(running))), "{fault}");
        }
    }

    #[test]
    fn a_lost_run_ends_when_it_was_last_seen_and_never_before_its_start() {
        let times = |status, started: Option<Started>, last_seen_at: Option<i64>| {
            let run = Run { started_at: (status == Status::Running).then(|| at(6)), ..run(status) };
            let change = decide(&run, lost(started, last_seen_at.map(at)), situation(10)).unwrap();
            (change.started_at.map(Timestamp::as_second), change.finished_at.unwrap().as_second())
        };
        assert_eq!(times(Status::Pending, None, None), (None, 10));
        assert_eq!(times(Status::Pending, Some(started()), Some(8)), (Some(5), 8));
        assert_eq!(times(Status::Running, Some(started()), Some(8)), (None, 8));
        assert_eq!(times(Status::Running, None, Some(2)), (None, 6));
        assert_eq!(times(Status::Running, None, None), (None, 10));
    }

    #[test]
    fn a_killed_process_of_a_run_that_went_well_is_told_in_its_story() {
        let change = decide(&run(Status::Running), killed_for_memory(0, EndCause::Exited), situation(10)).unwrap();
        assert!(change.events[0].message.contains("a process of it was killed for memory"), "{:?}", change.events);
    }

    #[test]
    fn a_stop_is_the_cause_of_an_end_only_where_the_engine_was_asked_before() {
        use StopCause::{Deadline, Parent, Request, SlowStart};
        let signal = || EndCause::Signal { name: "SIGTERM".into() };
        let outside = || EndCause::Outside { by: "x".into() };
        let table = [
            (stop(Request, false), 0, EndCause::Exited, Outcome::Succeeded),
            (stop(Request, false), 1, EndCause::Exited, Outcome::Failed),
            (stop(Deadline, false), 143, signal(), Outcome::Failed),
            (stop(Request, true), 0, EndCause::Exited, Outcome::Stopped),
            (stop(Request, true), 143, signal(), Outcome::Stopped),
            (stop(Request, true), 137, outside(), Outcome::Stopped),
            (stop(Parent, true), 143, signal(), Outcome::Stopped),
            (stop(Deadline, true), 143, signal(), Outcome::TimedOut),
            (stop(SlowStart, true), 143, signal(), Outcome::TimedOut),
            // The engine itself reports what ended it.
            (stop(Request, false), 143, EndCause::Stopped, Outcome::Stopped),
            (stop(Deadline, false), 143, EndCause::Stopped, Outcome::TimedOut),
            (stop(Request, true), 143, EndCause::Deadline, Outcome::TimedOut),
        ];
        for (stop, exit_code, cause, expected) in table {
            // The engine's clock is slow, or fast.
            for finished_at in [at(-3600), at(3600)] {
                let run = Run { stop: stop.clone(), ..run(Status::Running) };
                let Observation::Ended(ended) = ended(exit_code, cause.clone()) else { panic!("it ended") };
                let seen = Observation::Ended(Ended { finished_at, ..ended });
                let change = decide(&run, seen, situation(12)).unwrap();
                assert_eq!(change.outcome, Some(expected), "{stop:?} {exit_code} {cause:?}");
                assert_eq!(change.exit_reason.is_none(), expected == Outcome::Succeeded);
            }
        }
    }

    #[test]
    fn a_run_that_was_stopped_before_it_started_says_who_asked() {
        use StopCause::{Deadline, Parent, Request, SlowStart};
        let words = "it did not start within 1h: no room";
        let reason = |cause, told: &str| {
            let stop = Some(StopRequest { words: Some(words.to_owned()), ..StopRequest::new(cause, at(7)) });
            let run = Run { stop, ..run(Status::Pending) };
            let change = decide(&run, never_ran(told, StartFault::Image), situation(9)).unwrap();
            (change.outcome.unwrap(), change.exit_reason.unwrap())
        };
        let told = "stopped while its image was being fetched";
        assert_eq!(reason(Request, told), (Outcome::Stopped, "stopped on request before it started".into()));
        let with_parent = "stopped because its parent was stopped before it started";
        assert_eq!(reason(Parent, told), (Outcome::Stopped, with_parent.into()));
        assert_eq!(reason(Deadline, told).0, Outcome::TimedOut);
        assert_eq!(reason(SlowStart, told), (Outcome::Rejected, words.into()));
        let late = "stopped on request before it started; the registry is away";
        assert_eq!(reason(Request, "the registry is away"), (Outcome::Stopped, late.into()));
    }

    #[test]
    fn the_delay_before_a_retry_doubles_up_to_a_minute() {
        let delays = [1, 2, 3, 6, 7, 100].map(|attempt_count| {
            let run = Run { attempt_count, ..run(Status::Pending) };
            fail_start(&run, "no space", StartFault::Machine, situation(0)).due_at.unwrap().as_second()
        });
        assert_eq!(delays, [1, 2, 4, 32, 60, 60]);
    }

    #[test]
    fn starts_that_fail_are_given_up_at_the_bound_of_their_kind_with_the_last_words() {
        let two = RetryLimit { attempts: Some(2), time: None };
        let limits = StartLimits { image: two, ..StartLimits::NONE };
        let situation = Situation { limits: &limits, ..situation(9) };
        for fault in StartFault::ALL {
            let first = fail_start(&run(Status::Pending), "not now", fault, situation);
            if fault == StartFault::Task {
                assert_eq!((first.outcome, first.exit_reason.as_deref()), (Some(Outcome::Rejected), Some("not now")));
                continue;
            }
            let failed_starts = first.failed_starts.unwrap();
            let again = Run { attempt_count: 2, failed_starts, ..run(Status::Pending) };
            let second = fail_start(&again, "not now either", fault, situation);
            if fault == StartFault::Image {
                // Three seconds each, with pauses of one and of two.
                let reason = "not now either; given up after 2 attempts in 9s";
                assert_eq!((second.outcome, second.exit_reason.as_deref()), (Some(Outcome::Rejected), Some(reason)));
                assert!(second.is_log_complete && second.due_at.is_none());
            } else {
                assert_eq!(second.to, Status::NeedsRetry, "{fault}");
            }
        }
    }

    #[test]
    fn a_run_is_queued_again_only_where_it_needs_a_retry_and_is_not_to_stop() {
        for status in Status::ALL {
            let change = requeue(&run(status), at(9));
            assert_eq!(change.is_some(), status == Status::NeedsRetry, "{status}");
            let stopping = Run { stop: stop(StopCause::Request, false), ..run(status) };
            assert_eq!(requeue(&stopping, at(9)), None, "{status}");
        }
    }

    #[test]
    fn a_status_set_by_hand_keeps_to_the_order() {
        for from in Status::ALL {
            for to in Status::ALL {
                let result = set_by_hand(&run(from), to, None, None, None, at(10));
                let is_fine = from == to || (is_allowed(from, to) && matches!(to, Status::Running | Status::Stopped));
                assert_eq!(result.is_ok(), is_fine, "{from} → {to}");
            }
        }
    }

    #[test]
    fn a_run_that_no_engine_has_is_stopped_at_once() {
        for status in Status::ALL {
            let change = stop_before_start(&run(status), StopCause::Request, at(1));
            assert_eq!(change.is_some(), matches!(status, Status::Queued | Status::NeedsRetry), "{status}");
        }
    }

    #[test]
    fn the_stop_that_is_stored_is_the_one_that_is_told() {
        let run = Run { stop: stop(StopCause::Parent, false), ..run(Status::NeedsRetry) };
        let change = stop_before_start(&run, StopCause::Request, at(9)).unwrap();
        assert_eq!(change.exit_reason.as_deref(), Some("stopped because its parent was stopped before it started"));
    }

    #[test]
    fn a_job_that_reports_its_end_while_it_is_being_stopped_ended_by_that_stop() {
        let run = Run { stop: stop(StopCause::Deadline, true), ..run(Status::Running) };
        let outcome = |code| set_by_hand(&run, Status::Stopped, code, None, None, at(9)).unwrap().unwrap().outcome;
        assert_eq!((outcome(None), outcome(Some(0))), (Some(Outcome::TimedOut), Some(Outcome::Succeeded)));
    }
}
