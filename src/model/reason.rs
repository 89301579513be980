//! The texts for how a run ended: its `exit_reason`, and the event that goes with it.

use jiff::{SignedDuration, Timestamp};

use super::{EndCause, Ended, Event, Instance, Outcome, Run, StopCause, StopRequest, Usage, memory_text};

/// The beginning of a run's reason if the kernel ended it for its memory.
pub const OUT_OF_MEMORY: &str = "out of memory";

/// The exit code of a process that the kernel killed: 128 + SIGKILL.
const KILLED: i64 = 137;

/// Why a run ended without being asked to.
pub(super) fn reason_of_end(run: &Run, ended: &Ended, usage: Usage) -> Option<String> {
    let exit_code = ended.exit_code;
    let may_be_kernel = matches!(ended.cause, EndCause::Exited | EndCause::Signal { .. });
    if ended.killed_for_memory && exit_code == KILLED && may_be_kernel {
        return Some(format!("{OUT_OF_MEMORY}: killed by the kernel at {}", memory_limit(usage)));
    }
    let reason = match &ended.cause {
        EndCause::Exited if exit_code == 0 => return None,
        EndCause::Exited => exit_reason(exit_code),
        EndCause::Signal { name } => format!("ended by signal {} ({name})", exit_code - 128),
        EndCause::Stopped => "stopped from outside of flotilla".to_owned(),
        EndCause::Outside { by } => format!("stopped from outside of flotilla: {by}"),
        EndCause::GivenUp { why } => format!("it started after flotilla had given it up, and was ended: {why}"),
        EndCause::Forgotten { why } => format!("{}; {why}", exit_reason(exit_code)),
        EndCause::Deadline => stop_reason(run, &StopRequest::new(StopCause::Deadline, ended.finished_at)),
    };
    Some(match ended.killed_for_memory {
        true => format!("{reason}; {}", process_killed(usage)),
        false => reason,
    })
}

/// Used if the kernel killed a process and the run continued, or ended for another reason.
fn process_killed(usage: Usage) -> String {
    format!("a process of it was killed for memory at {}", memory_limit(usage))
}

fn memory_limit(usage: Usage) -> String {
    let limit = usage
        .memory_limit_bytes
        .map_or_else(|| "the machine's limit".to_owned(), |limit| format!("its limit of {}", memory_text(limit)));
    let peak = usage.max_memory_bytes.map_or_else(String::new, |peak| format!(" (peak {})", memory_text(peak)));
    format!("{limit}{peak}")
}

pub(super) fn exit_reason(exit_code: i64) -> String {
    // The meanings that POSIX gives a shell's exit status (Shell Command Language, 2.8.2).
    let hint = match exit_code {
        126 => " (a command was found and could not be executed)".to_owned(),
        127 => " (a command was not found)".to_owned(),
        129..=192 => format!(" (a shell's exit code for a command that was ended by signal {})", exit_code - 128),
        _ => String::new(),
    };
    format!("exited with code {exit_code}{hint}")
}

pub(super) fn stop_reason(run: &Run, stop: &StopRequest) -> String {
    match stop.cause {
        StopCause::Request => "stopped on request".to_owned(),
        StopCause::Parent => "stopped because its parent was stopped".to_owned(),
        StopCause::Deadline => {
            let seconds = run.execution.active_deadline_secs.unwrap_or_default();
            format!("stopped because it passed its deadline of {seconds} s")
        }
        StopCause::SlowStart => slow_start(stop),
    }
}

/// The reason of a run that was stopped before its command ran; `told` is what the engine reported about it.
pub(super) fn stop_reason_before_start(run: &Run, stop: &StopRequest, told: Option<&str>) -> String {
    let reason = match stop.cause {
        StopCause::SlowStart => return slow_start(stop),
        StopCause::Request | StopCause::Parent | StopCause::Deadline => stop_reason(run, stop),
    };
    // An engine that was asked to stop it reports no more than that.
    match told.filter(|told| !told.starts_with("stopped")) {
        Some(told) => format!("{reason} before it started; {told}"),
        None => format!("{reason} before it started"),
    }
}

fn slow_start(stop: &StopRequest) -> String {
    stop.words.clone().unwrap_or_else(|| "it did not start in time".to_owned())
}

pub(super) fn started_event(at: Timestamp, instance: &Instance) -> Event {
    let place = if instance.instance_id.is_empty() { String::new() } else { format!(" as {}", instance.instance_id) };
    Event::normal(at, "Started", format!("the command started{place}"))
}

/// The event of an end that the engine observed.
pub(super) fn ended_event(ended: &Ended, outcome: Outcome, reason: Option<&str>, usage: Usage) -> Event {
    let (at, exit_code) = (ended.finished_at, ended.exit_code);
    let mut message = match reason {
        None => format!("the command ended with exit code {exit_code}"),
        // "exited with code 1" includes the code already, and its meaning if it has one.
        Some(reason) if reason.contains(&format!("code {exit_code}")) => format!("the command {reason}"),
        Some(reason) => format!("the command ended with exit code {exit_code}: {reason}"),
    };
    // The reason of a run that survived it, or that was stopped, does not mention it.
    if ended.killed_for_memory && !reason.is_some_and(|reason| reason.contains("memory")) {
        message.push_str(&format!("; {}", process_killed(usage)));
    }
    if let Some(bytes) = usage.max_memory_bytes {
        message.push_str(&format!("; it used at most {}", memory_text(bytes)));
    }
    if let Some(ms) = usage.cpu_time_ms {
        message.push_str(&format!("; {:.2} s of CPU time", SignedDuration::from_millis(ms).as_secs_f64()));
    }
    event_of(outcome, at, message)
}

/// The event of an end without an exit code.
pub(super) fn unseen_event(outcome: Outcome, at: Timestamp, reason: &str) -> Event {
    match outcome {
        Outcome::Lost => Event::warning(at, "Lost", reason),
        Outcome::Rejected => Event::warning(at, "Rejected", reason),
        _ => event_of(outcome, at, reason.to_owned()),
    }
}

fn event_of(outcome: Outcome, at: Timestamp, message: String) -> Event {
    match outcome {
        Outcome::Succeeded => Event::normal(at, "Succeeded", message),
        Outcome::Stopped => Event::normal(at, "Stopped", message),
        Outcome::TimedOut => Event::warning(at, "DeadlineExceeded", message),
        Outcome::Failed | Outcome::Lost | Outcome::Rejected => Event::warning(at, "Failed", message),
    }
}
