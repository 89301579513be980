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
//! still has the status the change was decided from.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Event, Instance, Outcome, Run, Status, StopCause, Usage, memory_text};

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

/// What the reason of a run begins with that the kernel ended for its memory.
pub const OUT_OF_MEMORY: &str = "out of memory";

/// What an engine saw of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// The engine has it, and its command has not started.
    Starting,
    Running(Started),
    Ended(Ended),
    /// It can't start, and the engine says why: the machine's fault (`retry`) or the task's.
    NeverRan {
        reason: String,
        retry: bool,
    },
    /// This one could not be seen; nothing is concluded about it.
    Unknown {
        reason: String,
    },
    /// The engine does not have it, though it was handed over.
    Gone {
        reason: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    pub at: Timestamp,
    pub instance: Instance,
    /// Limits in force, as far as the engine has set them.
    pub usage: Usage,
    /// Which image it really runs, as `REPOSITORY@sha256:…`, or by its own id where no registry has it under that name.
    pub image_digest: Option<String>,
    /// What a person should know about how it runs, told once.
    pub notes: Vec<Event>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    pub started: Started,
    pub finished_at: Timestamp,
    /// 128 + n for signal n.
    pub exit_code: i64,
    pub cause: EndCause,
    pub usage: Usage,
    /// Whether the attempt's log holds everything already.
    pub is_log_complete: bool,
    /// What a person should know about how it ran and ended, told once.
    #[serde(default)]
    pub notes: Vec<Event>,
}

/// Why a process ended, as far as the engine knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EndCause {
    Exited,
    /// Its name, such as `SIGSEGV`.
    Signal {
        name: String,
    },
    /// The kernel ended it, or one of its processes, at the memory limit.
    OutOfMemory,
    /// The engine ended it because the server asked.
    Stopped,
    /// Somebody or something else ended it; the words follow "stopped from outside of flotilla: ".
    Outside {
        by: String,
    },
    /// The engine's own guard of the deadline ended it.
    Deadline,
}

/// One step in a run's life, decided from `from`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub from: Status,
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
    fn new(from: Status, to: Status) -> Self {
        debug_assert!(is_allowed(from, to), "{from} never becomes {to}");
        Self {
            from,
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
        let event = match outcome {
            Outcome::Stopped => Event::normal(now, "Stopped", reason.clone()),
            Outcome::TimedOut => Event::warning(now, "DeadlineExceeded", reason.clone()),
            Outcome::Lost => Event::warning(now, "Lost", reason.clone()),
            Outcome::Rejected => Event::warning(now, "Rejected", reason.clone()),
            Outcome::Succeeded => Event::normal(now, "Succeeded", reason.clone()),
            Outcome::Failed => Event::warning(now, "Failed", reason.clone()),
        };
        Self {
            outcome: Some(outcome),
            exit_reason: Some(reason),
            finished_at: Some(now),
            events: vec![event],
            ..Self::new(run.status, Status::Stopped)
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
                ..Change::new(Status::Pending, Status::Running)
            })
        }
        (Status::Pending | Status::Running, Observation::Ended(ended)) => Some(end(run, ended)),
        (Status::Pending | Status::Running, Observation::NeverRan { reason, retry: is_retried }) => {
            if run.stop.is_none() && is_retried {
                // What was seen running did run, whatever is left of it: starting it again would repeat its work.
                let was_seen_running = run.status == Status::Running;
                return Some(if was_seen_running {
                    Change::end_unseen(run, Outcome::Lost, LOST_REASON.to_owned(), now)
                } else {
                    retry(run, &reason, now)
                });
            }
            let outcome = run.stop.as_ref().map_or(Outcome::Rejected, |stop| stop.cause.outcome());
            Some(Change { is_log_complete: true, ..Change::end_unseen(run, outcome, reason, now) })
        }
        (Status::Pending | Status::Running, Observation::Gone { reason }) => {
            let (outcome, reason) = match &run.stop {
                Some(stop) => (stop.cause.outcome(), format!("{}; {reason}", stop_reason(run, stop.cause))),
                None => (Outcome::Lost, reason),
            };
            Some(Change::end_unseen(run, outcome, reason, now))
        }
    }
}

fn end(run: &Run, ended: Ended) -> Change {
    let Ended { started, finished_at, exit_code, cause, usage, is_log_complete, notes } = ended;
    let usage = Usage {
        memory_limit_bytes: usage.memory_limit_bytes.or(started.usage.memory_limit_bytes),
        cpu_limit_millis: usage.cpu_limit_millis.or(started.usage.cpu_limit_millis),
        ..usage
    };
    // A run that ended by itself before anyone asked it to stop has not been stopped.
    let stop = run.stop.as_ref().filter(|stop| stop.at <= finished_at).map(|stop| stop.cause);
    let (outcome, reason) = match (stop, cause) {
        (None, EndCause::Exited) if exit_code == 0 => (Outcome::Succeeded, None),
        (Some(cause), _) => (cause.outcome(), Some(stop_reason(run, cause))),
        (None, EndCause::Deadline) => (Outcome::TimedOut, Some(stop_reason(run, StopCause::Deadline))),
        (None, EndCause::Exited) => (Outcome::Failed, Some(exit_reason(exit_code))),
        (None, EndCause::Signal { name }) => {
            (Outcome::Failed, Some(format!("ended by signal {} ({name})", exit_code - 128)))
        }
        (None, EndCause::OutOfMemory) => (Outcome::Failed, Some(out_of_memory_reason(usage))),
        (None, EndCause::Stopped) => (Outcome::Failed, Some("stopped from outside of flotilla".to_owned())),
        (None, EndCause::Outside { by }) => (Outcome::Failed, Some(format!("stopped from outside of flotilla: {by}"))),
    };
    let mut events = Vec::new();
    if run.status == Status::Pending {
        events.push(started_event(started.at, &started.instance));
        events.extend(started.notes);
    }
    events.extend(notes);
    events.push(ended_event(finished_at, outcome, exit_code, reason.as_deref(), usage));
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
        ..Change::new(run.status, Status::Stopped)
    }
}

fn started_event(at: Timestamp, instance: &Instance) -> Event {
    let place = if instance.instance_id.is_empty() { String::new() } else { format!(" as {}", instance.instance_id) };
    Event::normal(at, "Started", format!("the command started{place}"))
}

fn ended_event(at: Timestamp, outcome: Outcome, exit_code: i64, reason: Option<&str>, usage: Usage) -> Event {
    let mut message = match reason {
        None => format!("the command ended with exit code {exit_code}"),
        // "exited with code 1" says it already, with what the code means where it has a meaning.
        Some(reason) if reason.contains(&format!("code {exit_code}")) => format!("the command {reason}"),
        Some(reason) => format!("the command ended with exit code {exit_code}: {reason}"),
    };
    if let Some(bytes) = usage.max_memory_bytes {
        message.push_str(&format!("; it used at most {}", memory_text(bytes)));
    }
    if let Some(ms) = usage.cpu_time_ms {
        message.push_str(&format!("; {:.2} s of CPU time", SignedDuration::from_millis(ms).as_secs_f64()));
    }
    match outcome {
        Outcome::Succeeded => Event::normal(at, "Succeeded", message),
        Outcome::Stopped => Event::normal(at, "Stopped", message),
        Outcome::TimedOut => Event::warning(at, "DeadlineExceeded", message),
        Outcome::Failed | Outcome::Lost | Outcome::Rejected => Event::warning(at, "Failed", message),
    }
}

fn exit_reason(exit_code: i64) -> String {
    // The meanings that POSIX gives a shell's exit status (Shell Command Language, 2.8.2).
    let hint = match exit_code {
        126 => " (a command was found and could not be executed)".to_owned(),
        127 => " (a command was not found)".to_owned(),
        129..=192 => format!(" (what a shell says when a command was ended by signal {})", exit_code - 128),
        _ => String::new(),
    };
    format!("exited with code {exit_code}{hint}")
}

fn out_of_memory_reason(usage: Usage) -> String {
    let limit = usage
        .memory_limit_bytes
        .map_or_else(|| "the machine's limit".to_owned(), |limit| format!("its limit of {}", memory_text(limit)));
    let peak = usage.max_memory_bytes.map_or_else(String::new, |peak| format!(" (peak {})", memory_text(peak)));
    format!("{OUT_OF_MEMORY}: killed by the kernel at {limit}{peak}")
}

fn stop_reason(run: &Run, cause: StopCause) -> String {
    match cause {
        StopCause::Request => "stopped on request".to_owned(),
        StopCause::Parent => "stopped because its parent was stopped".to_owned(),
        StopCause::Deadline => {
            let seconds = run.execution.active_deadline_secs.unwrap_or_default();
            format!("stopped because it passed its deadline of {seconds} s")
        }
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
        ..Change::new(run.status, Status::NeedsRetry)
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
            ..Change::new(run.status, status)
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
        exit_reason: exit_reason.or_else(|| exit_code.filter(|code| *code != 0).map(self::exit_reason)),
        finished_at: Some(now),
        is_log_complete: matches!(run.status, Status::Queued | Status::NeedsRetry),
        run_exceptions,
        events: vec![event("Reported")],
        ..Change::new(run.status, Status::Stopped)
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
            usage,
            is_log_complete: true,
            notes: vec![],
        })
    }

    fn observations() -> Vec<Observation> {
        vec![
            Observation::Starting,
            Observation::Unknown { reason: "the disk does not answer".into() },
            Observation::Running(started()),
            ended(0, EndCause::Exited),
            ended(3, EndCause::Exited),
            ended(139, EndCause::Signal { name: "SIGSEGV".into() }),
            ended(137, EndCause::OutOfMemory),
            ended(143, EndCause::Stopped),
            ended(143, EndCause::Deadline),
            Observation::NeverRan { reason: "no space".into(), retry: true },
            Observation::NeverRan { reason: "no such image".into(), retry: false },
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
                    assert_eq!(change.from, status);
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
                ended(137, EndCause::OutOfMemory),
                Outcome::Failed,
                Some("out of memory: killed by the kernel at its limit of 64 MB (peak 64 MB)"),
            ),
            (ended(143, EndCause::Stopped), Outcome::Failed, Some("stopped from outside of flotilla")),
            (
                ended(137, EndCause::Outside { by: "the machine was shut down".into() }),
                Outcome::Failed,
                Some("stopped from outside of flotilla: the machine was shut down"),
            ),
            (ended(143, EndCause::Deadline), Outcome::TimedOut, Some("stopped because it passed its deadline of 60 s")),
            (
                Observation::NeverRan { reason: "no such image".into(), retry: false },
                Outcome::Rejected,
                Some("no such image"),
            ),
            (Observation::Gone { reason: "it is gone".into() }, Outcome::Lost, Some("it is gone")),
        ];
        for (observation, outcome, reason) in table {
            let change = decide(&run(Status::Pending), observation.clone(), at(10)).unwrap();
            assert_eq!((change.outcome, change.exit_reason.as_deref()), (Some(outcome), reason), "{observation:?}");
        }
    }

    #[test]
    fn a_run_that_was_seen_running_is_lost_and_never_tried_again() {
        let never_ran = Observation::NeverRan { reason: "no container".into(), retry: true };
        let outcome =
            |status| decide(&run(status), never_ran.clone(), at(10)).map(|change| (change.to, change.outcome));
        assert_eq!(outcome(Status::Pending), Some((Status::NeedsRetry, None)));
        assert_eq!(outcome(Status::Running), Some((Status::Stopped, Some(Outcome::Lost))));
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
