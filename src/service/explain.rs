//! Why a run is in its current state, and what its owner can do about it, in words.
//!
//! A pure function of the run and its context. The reasons come from the engine and the service; here they get a
//! plain heading and a next step.

use jiff::{SignedDuration, Timestamp};

use crate::model::{Event, EventType, OUT_OF_MEMORY, Outcome, Run, Status, StopCause, memory_text};
use crate::words;

const MB: i64 = 1024 * 1024;

/// Context beyond the run itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct Context<'a> {
    /// Why it has not started, if it waits.
    pub waiting: Option<&'a str>,
    /// The usual duration of successful runs of its task.
    pub typical: Option<SignedDuration>,
    pub events: &'a [Event],
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    pub heading: String,
    /// In the words of its source; may be empty.
    pub reason: String,
    pub advice: Vec<Advice>,
    /// Since when the state in the heading has lasted.
    pub since: Option<Timestamp>,
    /// When something will happen automatically, and what.
    pub next: Option<(&'static str, Timestamp)>,
}

/// What to do, and the page to do it on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    pub text: String,
    pub step: Option<NextStep>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextStep {
    LaunchAgain,
    EditTask,
    ReadLog,
    SeeCluster,
    SeeParent,
}

impl Explanation {
    fn new(heading: impl Into<String>) -> Self {
        Self { heading: heading.into(), reason: String::new(), advice: Vec::new(), since: None, next: None }
    }

    fn because(self, reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), ..self }
    }

    fn advise(mut self, text: impl Into<String>, step: impl Into<Option<NextStep>>) -> Self {
        self.advice.push(Advice { text: text.into(), step: step.into() });
        self
    }

    fn next(self, what: &'static str, at: Timestamp) -> Self {
        Self { next: Some((what, at)), ..self }
    }
}

/// Explains a run's state as of `now`.
#[must_use]
pub fn explain(run: &Run, context: Context<'_>, now: Timestamp) -> Explanation {
    match (run.status, run.outcome) {
        (Status::Stopped, Some(Outcome::Succeeded)) => {
            Explanation::new(format!("It succeeded{}", after(run, now))).because(usually(context.typical))
        }
        (Status::Stopped, Some(Outcome::Failed)) => failed(run),
        (Status::Stopped, Some(Outcome::Stopped)) => stopped(run),
        (Status::Stopped, Some(Outcome::TimedOut)) => timed_out(run, context),
        (Status::Stopped, Some(Outcome::Lost)) => Explanation::new("It was lost: nobody saw how it ended")
            .because(reason(run))
            .advise("Its log shows how far it came.", NextStep::ReadLog)
            .advise("Launch it again if its work can be done twice without harm.", NextStep::LaunchAgain),
        (Status::Stopped, Some(Outcome::Rejected) | None) => rejected(run),
        (Status::Pending | Status::Running, _) if context.waiting.is_some() => {
            Explanation::new("Nothing is known about it at present")
                .because(sentence(context.waiting.unwrap_or_default()))
                .advise("Its status is the last one that was seen, and a stop is kept.", NextStep::SeeCluster)
        }
        (Status::Queued | Status::Pending | Status::Running | Status::NeedsRetry, _) if run.stop.is_some() => {
            let heading = match run.stop.as_ref().map(|stop| stop.cause) {
                Some(StopCause::Parent) => "It is being stopped, since its parent was",
                Some(StopCause::Deadline) => "It is being stopped, since its deadline has passed",
                Some(StopCause::SlowStart) => "It is given up, since it did not start in time",
                Some(StopCause::Request) | None => "It is being stopped",
            };
            Explanation::new(heading).because("Its command is asked to end first, and killed where it does not.")
        }
        (Status::Queued, _) => waiting(run, context),
        (Status::Pending, _) => starting(run, context),
        (Status::NeedsRetry, _) => {
            let explanation = Explanation::new("It could not start, and is tried again").because(reason(run));
            run.due_at.map_or(explanation.clone(), |due_at| explanation.next("The next try is", due_at))
        }
        (Status::Running, _) => {
            let explanation = Explanation { since: run.started_at, ..Explanation::new("It has been running") };
            let explanation = explanation.because(usually(context.typical));
            run.deadline().map_or(explanation.clone(), |deadline| explanation.next("Its deadline is", deadline))
        }
    }
}

fn waiting(run: &Run, context: Context<'_>) -> Explanation {
    let cluster = &run.execution.resolved_cluster;
    Explanation::new(format!("It waits for a place on the cluster {cluster}"))
        .because(sentence(context.waiting.unwrap_or_default()))
        .advise("It starts by itself as soon as there is one.", NextStep::SeeCluster)
}

/// While an engine has the run, the latest report says what takes long.
fn starting(run: &Run, context: Context<'_>) -> Explanation {
    let since_dispatch = || context.events.iter().rev().take_while(|event| event.reason != "Dispatched");
    let explanation = since_dispatch().find(|event| event.event_type == EventType::Warning || is_progress(event));
    let explanation = explanation.map(|event| match is_bare(event) {
        true => since_dispatch().find(|earlier| is_registry_answer(earlier)).unwrap_or(event),
        false => event,
    });
    let heading = format!("The cluster {} is starting it", run.execution.resolved_cluster);
    match explanation {
        Some(event) if event.event_type == EventType::Warning => Explanation::new(format!(
            "{heading}, and has trouble with it"
        ))
        .because(sentence(&event.message))
        .advise("It is tried again by itself. If this does not pass, look at the cluster.", NextStep::SeeCluster),
        explanation => {
            Explanation::new(heading).because(explanation.map(|event| sentence(&event.message)).unwrap_or_default())
        }
    }
}

/// A node reports only the kind of image problem; the registry's own words came earlier.
fn is_bare(event: &Event) -> bool {
    matches!(event.message.as_str(), "Error: ErrImagePull" | "Error: ImagePullBackOff")
}

fn is_registry_answer(event: &Event) -> bool {
    event.message.starts_with("Failed to pull image ")
}

fn is_progress(event: &Event) -> bool {
    matches!(event.reason.as_str(), "Pulling" | "Pulled")
}

fn failed(run: &Run) -> Explanation {
    if run.exit_reason.as_deref().is_some_and(|reason| reason.starts_with(OUT_OF_MEMORY)) {
        return out_of_memory(run);
    }
    let code = run.exit_code.unwrap_or_default();
    let heading = match code {
        126 => "A command was found, and could not be executed".to_owned(),
        127 => "A command was not found".to_owned(),
        130 => "It was interrupted (SIGINT)".to_owned(),
        134 => "It aborted itself (SIGABRT)".to_owned(),
        137 => "It was killed (SIGKILL)".to_owned(),
        139 => "It crashed: it touched memory that is not its own (SIGSEGV)".to_owned(),
        143 => "It was asked to end (SIGTERM), and not by Flotilla".to_owned(),
        _ => format!("It failed with exit code {code}"),
    };
    // The heading already says what the reason would.
    let says_more = run.exit_reason.as_deref() != Some(format!("exited with code {code}").as_str());
    let explanation = Explanation::new(heading).because(if says_more { reason(run) } else { String::new() });
    match code {
        126 => explanation.advise(
            "Check that the file may be executed, that its first line names an interpreter which is there, and that it was made for this kind of machine.",
            NextStep::EditTask,
        ),
        127 => explanation.advise(
            "Check how the command is spelt, and that the image has it and all that it calls.",
            NextStep::EditTask,
        ),
        137 => explanation.advise(killed(run), NextStep::LaunchAgain).advise("Its log shows how far it came.", NextStep::ReadLog),
        143 => explanation
            .advise("The machine may have been shut down, or the command ended itself so.", None)
            .advise("Launch it again if its work can be done twice without harm.", NextStep::LaunchAgain),
        _ => explanation.advise("The end of its log usually says why.", NextStep::ReadLog),
    }
}

/// Possible causes of a kill with no known origin.
fn killed(run: &Run) -> String {
    let guess = "Most often the machine had no memory left.";
    match run.usage.max_memory_bytes {
        Some(peak) => {
            format!("{guess} It used {} at most; launch it again with more.", memory_text(peak))
        }
        None => format!("{guess} Launch it again with more."),
    }
}

fn out_of_memory(run: &Run) -> Explanation {
    let limit = run.usage.memory_limit_bytes.map(ceil_mb).or(run.task.memory_mb).filter(|mb| *mb > 0);
    let peak = run.usage.max_memory_bytes.map(ceil_mb);
    let heading = match limit {
        Some(limit) => format!("It needed more memory than the {} it may use", words::megabytes(limit)),
        None => "It needed more memory than there was".to_owned(),
    };
    let advice = match limit.or(peak) {
        Some(mb) => {
            format!("Launch it again with more, {} for a start, or let it do with less.", words::megabytes(mb * 2))
        }
        None => "Launch it again with more, or let it do with less.".to_owned(),
    };
    Explanation::new(heading)
        .because(reason(run))
        .advise(advice, NextStep::LaunchAgain)
        .advise("If every run needs as much, change the task.", NextStep::EditTask)
}

fn stopped(run: &Run) -> Explanation {
    let by = match run.stop.as_ref().map(|stop| stop.cause) {
        Some(StopCause::Parent) => "It was stopped, since its parent was",
        Some(StopCause::Request | StopCause::Deadline | StopCause::SlowStart) => "It was stopped on request",
        None if run.exit_reason.as_deref().is_some_and(|reason| reason.starts_with("stopped on request")) => {
            "It was stopped on request"
        }
        None => "It was stopped",
    };
    let never_ran = if run.started_at.is_none() { ", before it started" } else { "" };
    let explanation = Explanation::new(format!("{by}{never_ran}"));
    match &run.stop {
        Some(stop) if stop.cause == StopCause::Parent => {
            explanation.advise("See what its parent did.", NextStep::SeeParent)
        }
        _ => explanation,
    }
}

fn timed_out(run: &Run, context: Context<'_>) -> Explanation {
    if run.stop.as_ref().is_some_and(|stop| stop.cause == StopCause::SlowStart) {
        return Explanation::new("It did not start in time, and was ended when it did").because(reason(run));
    }
    let heading = match run.execution.active_deadline_secs {
        Some(seconds) => {
            format!("It took longer than the {} it had", words::duration(SignedDuration::from_secs(seconds)))
        }
        None => "It took longer than it had".to_owned(),
    };
    Explanation::new(heading)
        .because(usually(context.typical))
        .advise("Its log shows what it was at.", NextStep::ReadLog)
        .advise("If it needs more time, launch it again with a later deadline.", NextStep::LaunchAgain)
}

fn rejected(run: &Run) -> Explanation {
    let text = run.exit_reason.as_deref().unwrap_or_default().to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let explanation = Explanation::new("It could not be started").because(reason(run));
    if says(&["exec:", "executable", "entrypoint"]) {
        return explanation.advise("Check that the image has the command, and how it is spelt.", NextStep::EditTask);
    }
    if says(&["image", "manifest", "repository"]) {
        let image = format!(
            "Check that {} is there under this name and tag, and that the cluster may fetch it.",
            run.task.image
        );
        return Explanation {
            heading: "Its image could not be had".to_owned(),
            ..explanation.advise(image, NextStep::EditTask)
        };
    }
    if says(&["memory", "cpu", "node", "gpu", "machine"]) {
        return explanation.advise("Ask for less, or launch it on a larger cluster.", NextStep::LaunchAgain);
    }
    explanation.advise("Correct the task, and launch it again.", NextStep::EditTask)
}

/// ` in 3 min 2 s`
fn after(run: &Run, now: Timestamp) -> String {
    took(run, now).map_or_else(String::new, |took| format!(" in {}", words::duration(took)))
}

fn took(run: &Run, now: Timestamp) -> Option<SignedDuration> {
    Some(run.finished_at.unwrap_or(now).duration_since(run.started_at?))
}

fn usually(typical: Option<SignedDuration>) -> String {
    typical.map_or_else(String::new, |typical| {
        format!("Other runs of this task usually take {}.", words::duration(typical))
    })
}

fn reason(run: &Run) -> String {
    sentence(run.exit_reason.as_deref().unwrap_or_default())
}

/// Reasons begin in lower case and end without a full stop.
fn sentence(text: &str) -> String {
    let mut characters = text.trim().chars();
    match characters.next() {
        None => String::new(),
        Some(first) => {
            let rest = characters.as_str();
            let stop = if rest.ends_with(['.', '!', '?', ':', '…']) { "" } else { "." };
            format!("{}{rest}{stop}", first.to_uppercase())
        }
    }
}

fn ceil_mb(bytes: i64) -> i64 {
    bytes / MB + i64::from(bytes % MB > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::sample;
    use crate::model::{StopRequest, Usage};

    fn ended(outcome: Outcome, exit_code: Option<i64>, reason: &str) -> Run {
        Run {
            status: Status::Stopped,
            outcome: Some(outcome),
            exit_code,
            exit_reason: Some(reason.to_owned()).filter(|reason| !reason.is_empty()),
            started_at: Some(sample::now()),
            finished_at: Some(sample::now() + SignedDuration::from_secs(90)),
            ..sample::run()
        }
    }

    fn explanation(run: &Run) -> Explanation {
        explain(run, Context::default(), sample::now() + SignedDuration::from_secs(100))
    }

    fn steps(explanation: &Explanation) -> Vec<Option<NextStep>> {
        explanation.advice.iter().map(|advice| advice.step).collect()
    }

    #[test]
    fn one_that_ran_out_of_memory_is_told_how_much_it_had_and_what_to_try() {
        let usage =
            Usage { max_memory_bytes: Some(63 * MB + 1), memory_limit_bytes: Some(64 * MB), ..Usage::default() };
        let run = Run {
            usage,
            ..ended(Outcome::Failed, Some(137), "out of memory: killed by the kernel at its limit of 64 MB")
        };
        let explanation = explanation(&run);
        assert_eq!(explanation.heading, "It needed more memory than the 64 MB it may use");
        assert_eq!(explanation.reason, "Out of memory: killed by the kernel at its limit of 64 MB.");
        assert!(explanation.advice[0].text.contains("128 MB"), "{explanation:?}");
        assert_eq!(steps(&explanation), [Some(NextStep::LaunchAgain), Some(NextStep::EditTask)]);
    }

    #[test]
    fn exit_codes_are_told_in_words() {
        for (code, heading, step) in [
            (1, "It failed with exit code 1", NextStep::ReadLog),
            (126, "A command was found, and could not be executed", NextStep::EditTask),
            (127, "A command was not found", NextStep::EditTask),
            (137, "It was killed (SIGKILL)", NextStep::LaunchAgain),
            (139, "It crashed: it touched memory that is not its own (SIGSEGV)", NextStep::ReadLog),
        ] {
            let explanation = explanation(&ended(Outcome::Failed, Some(code), "exited"));
            assert_eq!((explanation.heading.as_str(), explanation.reason.as_str()), (heading, "Exited."));
            assert_eq!(explanation.advice[0].step, Some(step), "{code}");
        }
        assert!(explanation(&ended(Outcome::Failed, Some(143), "")).heading.contains("SIGTERM"));
    }

    #[test]
    fn what_was_refused_is_told_by_what_is_to_be_corrected() {
        for (reason, heading, step) in [
            ("image `x:1` can't be fetched: manifest unknown", "Its image could not be had", NextStep::EditTask),
            (
                "Docker can't start the container: exec: \"/nope\": no such file",
                "It could not be started",
                NextStep::EditTask,
            ),
            ("no node of the cluster has so much memory", "It could not be started", NextStep::LaunchAgain),
            ("", "It could not be started", NextStep::EditTask),
        ] {
            let explanation = explanation(&ended(Outcome::Rejected, None, reason));
            assert_eq!((explanation.heading.as_str(), explanation.advice[0].step), (heading, Some(step)), "{reason}");
        }
    }

    #[test]
    fn one_that_was_stopped_is_told_by_whom() {
        let with = |cause| Run {
            stop: Some(StopRequest::new(cause, sample::now())),
            ..ended(Outcome::Stopped, Some(143), "stopped")
        };
        assert_eq!(explanation(&with(StopCause::Request)).heading, "It was stopped on request");
        let by_parent = explanation(&with(StopCause::Parent));
        assert_eq!(by_parent.heading, "It was stopped, since its parent was");
        assert_eq!(steps(&by_parent), [Some(NextStep::SeeParent)]);
        let queued = Run { started_at: None, ..with(StopCause::Request) };
        assert_eq!(explanation(&queued).heading, "It was stopped on request, before it started");
        let late = explanation(&Run { execution: sample::run().execution, ..ended(Outcome::TimedOut, Some(143), "") });
        assert_eq!(late.heading, "It took longer than the 1 min it had");
        let active = Run { status: Status::Running, outcome: None, finished_at: None, ..with(StopCause::Parent) };
        assert_eq!(explanation(&active).heading, "It is being stopped, since its parent was");
    }

    #[test]
    fn one_that_waits_is_told_why() {
        let context = Context { waiting: Some("the cluster batch is offline: new disks"), ..Context::default() };
        let explanation = explain(&sample::run(), context, sample::now());
        assert_eq!(explanation.heading, "It waits for a place on the cluster batch");
        assert_eq!(explanation.reason, "The cluster batch is offline: new disks.");
        let run = Run { status: Status::NeedsRetry, due_at: Some(sample::now()), ..sample::run() };
        assert_eq!(explain(&run, Context::default(), sample::now()).next, Some(("The next try is", sample::now())));
    }

    #[test]
    fn one_that_is_being_started_is_told_what_takes_long() {
        let run = Run { status: Status::Pending, attempt_count: 2, ..sample::run() };
        let event = |reason, message: &str| Event::normal(sample::now(), reason, message);
        let warning = |reason, message: &str| Event::warning(sample::now(), reason, message);
        let explanation = |events: &[Event]| explain(&run, Context { events, ..Context::default() }, sample::now());
        let before = [warning("LaunchDelayed", "old"), event("Dispatched", "handed over")];
        assert_eq!(explanation(&before).reason, "", "what an attempt before had trouble with is past");
        let pulling = [before.as_slice(), &[event("Pulling", "fetched 1 of 2 MB")]].concat();
        assert_eq!(explanation(&pulling).reason, "Fetched 1 of 2 MB.");
        let trouble = [pulling.as_slice(), &[warning("PullFailed", "no route")]].concat();
        assert!(explanation(&trouble).heading.ends_with("and has trouble with it"));
    }

    #[test]
    fn one_whose_image_is_not_to_be_had_is_told_the_registrys_words() {
        let run = Run { status: Status::Pending, attempt_count: 1, ..sample::run() };
        let explanation =
            |events: &[Event]| explain(&run, Context { events, ..Context::default() }, sample::now()).reason;
        let event = |reason, message: &str| Event::normal(sample::now(), reason, message);
        let warning = |message: &str| Event::warning(sample::now(), "Failed", message);
        let answer = warning("Failed to pull image \"r/x:1\": manifest unknown");
        // As reported by a node.
        let events = [
            event("Dispatched", "handed over"),
            event("Pulling", "Pulling image \"r/x:1\""),
            answer,
            warning("Error: ErrImagePull"),
            event("BackOff", "Back-off pulling image \"r/x:1\""),
            warning("Error: ImagePullBackOff"),
        ];
        for end in 3..=events.len() {
            assert_eq!(explanation(&events[..end]), "Failed to pull image \"r/x:1\": manifest unknown.");
        }
        assert_eq!(explanation(&[events.as_slice(), &[event("Pulled", "it came")]].concat()), "It came.");
        assert_eq!(explanation(&[warning("Error: ImagePullBackOff")]), "Error: ImagePullBackOff.");
    }

    #[test]
    fn one_that_runs_or_went_well_is_told_with_what_is_usual() {
        let context = Context { typical: Some(SignedDuration::from_secs(5)), ..Context::default() };
        let good = explain(&ended(Outcome::Succeeded, Some(0), ""), context, sample::now());
        assert_eq!(good.heading, "It succeeded in 1 min 30 s");
        assert_eq!(good.reason, "Other runs of this task usually take 5.0 s.");
        let run = Run { status: Status::Running, started_at: Some(sample::now()), ..sample::run() };
        let explanation = explain(&run, context, sample::now() + SignedDuration::from_secs(2));
        assert_eq!((explanation.heading.as_str(), explanation.since), ("It has been running", Some(sample::now())));
        assert_eq!(explanation.next, Some(("Its deadline is", sample::now() + SignedDuration::from_secs(60))));
    }
}
