//! The life of a run: which status may follow which, and what an observation of the engine's makes of a run.
//!
//! ```text
//! QUEUED ──→ PENDING ──→ RUNNING ──→ STOPPED
//!   ↑ │         │ └──────────────────↗ ↑ ↑
//!   │ └─────────┼──────────────────────┘ │
//!   └──── NEEDS_RETRY ───────────────────┘
//! ```
//!
//! Everything here is a function of values, with `now` passed in. The store applies a [`Change`] only where the run
//! still is what the change was decided from.

use jiff::{SignedDuration, Timestamp};

use super::reason::{reason_of_end, started_event, stop_reason, unseen_event};
use super::{
    EndCause, Ended, Event, Instance, Observation, Outcome, Run, StartFault, Started, Status, StopCause, StopRequest,
    Usage, reason,
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

/// Said of a run that was seen running, and of which the engine has no trace.
const LOST_REASON: &str = "it was running, and the engine has no trace of it any more";

/// What a change was decided from. The change holds only for a run that is still so.
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

/// One step in a run's life, decided from `from`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub from: Basis,
    pub to: Status,
    pub outcome: Option<Outcome>,
    pub exit_code: Option<i64>,
    pub exit_reason: Option<String>,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    pub due_at: Option<Timestamp>,
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
            finished_at: None,
            due_at: None,
            instance: None,
            image_digest: None,
            usage: Usage::default(),
            is_log_complete: false,
            run_exceptions: None,
            events: Vec::new(),
        }
    }

    /// An end without an exit code: it never ran, or nobody saw how it ended.
    fn end_unseen(run: &Run, outcome: Outcome, reason: String, now: Timestamp) -> Self {
        // A run never ends before it started, whatever two machines' clocks say.
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

/// What an observation makes of a run; `None` where nothing is new.
#[must_use]
pub fn decide(run: &Run, observation: Observation, now: Timestamp) -> Option<Change> {
    match (run.status, observation) {
        (Status::Queued | Status::NeedsRetry | Status::Stopped, _)
        | (Status::Pending | Status::Running, Observation::Starting | Observation::Unknown { .. })
        | (Status::Running, Observation::Running(_)) => None,
        (Status::Pending, Observation::Running(started)) => {
            let Started { at, instance, usage, image_digest, mut notes } = started;
            notes.insert(0, started_event(at, &instance));
            Some(Change {
                started_at: Some(at),
                instance: Some(instance),
                image_digest,
                usage,
                events: notes,
                ..Change::new(run, Status::Running)
            })
        }
        (Status::Pending | Status::Running, Observation::Ended(ended)) => Some(end(run, ended)),
        (Status::Pending | Status::Running, Observation::NeverRan { reason, fault }) => {
            Some(never_ran(run, reason, fault, now))
        }
        (Status::Pending | Status::Running, Observation::Gone { reason }) => Some(lose(run, reason, now)),
        (Status::Pending | Status::Running, Observation::Lost { reason, started, last_seen_at }) => {
            Some(lose_started(run, reason, started, last_seen_at, now))
        }
    }
}

fn never_ran(run: &Run, reason: String, fault: StartFault, now: Timestamp) -> Change {
    if run.stop.is_none() && fault.is_retried() {
        // What was seen running did run, whatever is left of it: starting it again would repeat its work.
        let was_seen_running = run.status == Status::Running;
        return if was_seen_running {
            Change::end_unseen(run, Outcome::Lost, LOST_REASON.to_owned(), now)
        } else {
            retry(run, &reason, now)
        };
    }
    let outcome = run.stop.as_ref().map_or(Outcome::Rejected, |stop| stop.cause.outcome());
    Change { is_log_complete: true, ..Change::end_unseen(run, outcome, reason, now) }
}

/// The end of a run that is not there any more. Where it was asked to stop, that is why.
fn lose(run: &Run, reason: String, now: Timestamp) -> Change {
    let (outcome, reason) = match &run.stop {
        Some(stop) => (stop.cause.outcome(), format!("{}; {reason}", stop_reason(run, stop.cause))),
        None => (Outcome::Lost, reason),
    };
    Change::end_unseen(run, outcome, reason, now)
}

/// The same, with what is known of its start. It ended when it was last seen, for all that is known.
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
    // A run that ended by itself before anyone asked it to stop has not been stopped.
    let stop = run.stop.as_ref().filter(|stop| stop.at <= ended.finished_at).map(|stop| stop.cause);
    let (outcome, reason) = match stop {
        Some(cause) => (cause.outcome(), Some(stop_reason(run, cause))),
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

/// How a run ended that nobody asked to end.
const fn outcome_of(ended: &Ended) -> Outcome {
    match &ended.cause {
        EndCause::Exited if ended.exit_code == 0 => Outcome::Succeeded,
        EndCause::Deadline => Outcome::TimedOut,
        EndCause::Exited | EndCause::Signal { .. } | EndCause::Stopped | EndCause::Outside { .. } => Outcome::Failed,
    }
}

/// The machine's fault: the attempt is given up and the run queued again after a while, which doubles from one second
/// with each attempt up to a minute.
#[must_use]
pub fn retry(run: &Run, reason: &str, now: Timestamp) -> Change {
    const LONGEST_SECS: i64 = 60;
    let doublings = run.attempt_count.saturating_sub(1).min(6);
    let delay_secs = (1_i64 << doublings).min(LONGEST_SECS);
    let message =
        format!("attempt {} could not start and is tried again in {delay_secs} s: {reason}", run.attempt_count);
    Change {
        due_at: Some(now.saturating_add(SignedDuration::from_secs(delay_secs)).unwrap_or(Timestamp::MAX)),
        exit_reason: Some(reason.to_owned()),
        events: vec![Event::warning(now, "NeedsRetry", message)],
        ..Change::new(run, Status::NeedsRetry)
    }
}

/// The task's fault: the engine says that this can never run.
#[must_use]
pub fn refuse(run: &Run, reason: &str, now: Timestamp) -> Change {
    Change { is_log_complete: true, ..Change::end_unseen(run, Outcome::Rejected, reason.to_owned(), now) }
}

/// The end of a run that no engine has: nothing was started, nothing has to be stopped.
#[must_use]
pub fn stop_before_start(run: &Run, cause: StopCause, now: Timestamp) -> Option<Change> {
    matches!(run.status, Status::Queued | Status::NeedsRetry).then(|| {
        let reason = format!("{} before it started", stop_reason(run, cause));
        Change { is_log_complete: true, ..Change::end_unseen(run, cause.outcome(), reason, now) }
    })
}

/// A status that a job reports about itself. `Err` tells the client why not; `Ok(None)` is nothing new.
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
            run_exceptions,
            events: vec![event("Started")],
            ..Change::new(run, status)
        }));
    }
    let outcome = match exit_code {
        Some(0) => Outcome::Succeeded,
        Some(_) => Outcome::Failed,
        None => Outcome::Stopped,
    };
    Ok(Some(Change {
        outcome: Some(outcome),
        exit_code,
        exit_reason: exit_reason.or_else(|| exit_code.filter(|code| *code != 0).map(reason::exit_reason)),
        finished_at: Some(now),
        is_log_complete: matches!(run.status, Status::Queued | Status::NeedsRetry),
        run_exceptions,
        events: vec![event("Reported")],
        ..Change::new(run, Status::Stopped)
    }))
}

#[cfg(test)]
mod tests {
    use super::super::{
        DefinitionUpdate, LaunchPolicy, LaunchRequest, NewDefinition, RunId, StopRequest, Target, plan_launch,
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
            for stop in [None, Some(StopCause::Request), Some(StopCause::Parent), Some(StopCause::Deadline)] {
                for observation in observations() {
                    let stop = stop.map(|cause| StopRequest { at: at(7), cause });
                    let run = Run { stop, ..run(status) };
                    let Some(change) = decide(&run, observation.clone(), at(10)) else { continue };
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
                ended(137, EndCause::Outside { by: "the machine was shut down".into() }),
                Outcome::Failed,
                Some("stopped from outside of flotilla: the machine was shut down"),
            ),
            (ended(143, EndCause::Deadline), Outcome::TimedOut, Some("stopped because it passed its deadline of 60 s")),
            (never_ran("no such image", StartFault::Task), Outcome::Rejected, Some("no such image")),
            (Observation::Gone { reason: "it is gone".into() }, Outcome::Lost, Some("it is gone")),
            (lost(None, None), Outcome::Lost, Some("its machine lost power")),
        ];
        for (observation, outcome, reason) in table {
            let change = decide(&run(Status::Pending), observation.clone(), at(10)).unwrap();
            assert_eq!((change.outcome, change.exit_reason.as_deref()), (Some(outcome), reason), "{observation:?}");
        }
    }

    #[test]
    fn a_run_that_was_seen_running_is_lost_and_never_tried_again() {
        for fault in StartFault::ALL {
            let seen = never_ran("no container", fault);
            let outcome = |status| decide(&run(status), seen.clone(), at(10)).map(|change| (change.to, change.outcome));
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
            let change = decide(&run, lost(started, last_seen_at.map(at)), at(10)).unwrap();
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
        let change = decide(&run(Status::Running), killed_for_memory(0, EndCause::Exited), at(10)).unwrap();
        assert!(change.events[0].message.contains("a process of it was killed for memory"), "{:?}", change.events);
    }

    #[test]
    fn a_stop_counts_only_for_a_run_that_had_not_ended_before() {
        for (stopped_at, outcome) in [(8, Outcome::Stopped), (11, Outcome::Failed)] {
            let stop = Some(StopRequest { at: at(stopped_at), cause: StopCause::Request });
            let run = Run { stop, ..run(Status::Running) };
            assert_eq!(decide(&run, ended(1, EndCause::Exited), at(12)).unwrap().outcome, Some(outcome));
        }
    }

    #[test]
    fn the_delay_before_a_retry_doubles_up_to_a_minute() {
        let delays = [1, 2, 3, 6, 7, 100].map(|attempt_count| {
            let change = retry(&Run { attempt_count, ..run(Status::Pending) }, "no space", at(0));
            change.due_at.unwrap().as_second()
        });
        assert_eq!(delays, [1, 2, 4, 32, 60, 60]);
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
}
