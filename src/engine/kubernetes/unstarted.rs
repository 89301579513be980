//! An attempt whose command has not begun, or of which nobody can say so: what keeps it, why it is given up, and whether
//! it may be tried again.
//!
//! Only what certainly never ran is called so. A pod that is deleted while its image is pulled may still start, and from
//! about Kubernetes 1.27 on a node writes the same status, `ContainerStatusUnknown`, for a container that never began and
//! for one that ran and was lost. So the pod's events are asked as well; where they say nothing, the attempt is lost.

use std::time::Duration;

use super::facts::{Evidence, Facts, Trouble, Verdict};
use super::read::{NODE_PATIENCE, Reading, is_overdue, node_lost, taken_away};
use super::view::{Container, Deleting, PodView};
use crate::engine::docker::refusal::is_final;
use crate::model::{Observation, StartFault};

/// How long the news that a command started may be under way when its node has let go of the pod already.
pub(super) const NEWS_PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn waiting(pod: &PodView, reason: &str, message: &str, facts: &Facts) -> Reading {
    let image = &pod.image;
    let has_waited = facts.trouble.is_some() && facts.troubled_for >= facts.pull_grace;
    let give_up = |reason: String, fault: StartFault| Reading::GiveUp(Verdict { reason, fault });
    // It ran before: its node says what becomes of it.
    if pod.has_run_before() {
        return Reading::Seen(Observation::Starting);
    }
    match reason {
        "InvalidImageName" => {
            give_up(format!("image `{image}` can't be pulled: its name is not valid"), StartFault::Task)
        }
        "ErrImageNeverPull" => {
            let words = format!("image `{image}` is not on the node, and this cluster does not fetch images");
            give_up(words, StartFault::Task)
        }
        "ErrImagePull"
        | "ImagePullBackOff"
        | "RegistryUnavailable"
        | "ImageInspectError"
        | "SignatureValidationFailed"
            if has_waited =>
        {
            let why = facts.trouble.as_ref().map_or(message, |trouble| &trouble.words);
            give_up(format!("image `{image}` can't be pulled: {why}"), fault_of_image(why))
        }
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" if has_waited => {
            // As a refusal of the API's: for good, unless its words say that it passes.
            let fault = if is_final(400, message) { StartFault::Task } else { StartFault::Machine };
            give_up(format!("its container can't be made: {message}"), fault)
        }
        _ => Reading::Seen(Observation::Starting),
    }
}

fn fault_of_image(why: &str) -> StartFault {
    if is_hopeless(why) { StartFault::Task } else { StartFault::Image }
}

fn is_hopeless(why: &str) -> bool {
    is_final(500, why) || why.contains("pull policy of Never")
}

/// A pod that was deleted, of whose command no start is known.
pub(super) fn deleted(pod: &PodView, deleting: Deleting, facts: &Facts) -> Reading {
    if pod.node.is_none() {
        return never_ran(pod, facts, None);
    }
    if facts.is_node_lost && is_overdue(deleting, facts) {
        return Reading::lost(pod, facts, node_lost(pod));
    }
    // What releases the pod is its node, except where the deletion was forced.
    let patience = if facts.had_grace { NEWS_PATIENCE } else { NODE_PATIENCE };
    let is_certain = facts.had_grace && facts.trouble.is_some();
    if !deleting.is_released() || !(is_certain || facts.released_for > patience) {
        return Reading::Seen(Observation::Starting);
    }
    if pod.has_run_before() {
        return it_ran(pod, facts);
    }
    if facts.running_since.is_some() {
        let by = taken_away(pod, facts).unwrap_or_default();
        return Reading::lost(pod, facts, format!("its end was not seen: {by}"));
    }
    match &facts.evidence {
        Evidence::NotAsked => Reading::AskEvents,
        Evidence::Ran => it_ran(pod, facts),
        Evidence::CouldNotStart(trouble) => never_ran(pod, facts, Some(trouble)),
        Evidence::Nothing | Evidence::MayHaveStarted(_) => never_ran(pod, facts, facts.trouble.as_ref()),
    }
}

/// A container that its node has no trace of: it never began, or it was lost.
pub(super) fn without_a_trace(pod: &PodView, facts: &Facts) -> Reading {
    if facts.running_since.is_some() || pod.has_run_before() || pod.has_container {
        return it_ran(pod, facts);
    }
    if pod.node.is_none() {
        return never_ran(pod, facts, None);
    }
    match &facts.evidence {
        Evidence::NotAsked => Reading::AskEvents,
        Evidence::Ran => it_ran(pod, facts),
        Evidence::CouldNotStart(trouble) => never_ran(pod, facts, Some(trouble)),
        Evidence::MayHaveStarted(trouble) => not_known(pod, facts, Some(trouble)),
        Evidence::Nothing => match &facts.trouble {
            Some(trouble) => never_ran(pod, facts, Some(trouble)),
            None => not_known(pod, facts, None),
        },
    }
}

/// A pod that has failed without an end of its container's being known.
pub(super) fn failed(pod: &PodView, facts: &Facts) -> Reading {
    let reason = pod.reason.as_deref().unwrap_or_default();
    let message = pod.message.as_deref().unwrap_or_default();
    if pod.has_run_before() {
        return it_ran(pod, facts);
    }
    if pod.has_started() || facts.running_since.is_some() {
        let why = taken_away(pod, facts).unwrap_or_else(|| describe(reason, message));
        return Reading::lost(pod, facts, format!("its end was not seen: {why}"));
    }
    if pod.node.is_none() {
        return never_ran(pod, facts, None);
    }
    if facts.was_asked_to_stop && pod.init_failure.is_some() {
        return never_ran(pod, facts, None);
    }
    if let Some(failure) = &pod.init_failure {
        let displaced = taken_away(pod, facts);
        return match (displaced, failure.is_of_node) {
            (Some(by), _) => Reading::never(format!("{by}, before its command started"), StartFault::Displaced),
            (None, true) => {
                let words = "its node restarted before its command started".to_owned();
                Reading::never(words, StartFault::Machine)
            }
            (None, false) => Reading::never(format!("it could not be prepared: {}", failure.words), StartFault::Task),
        };
    }
    // The node was not asked.
    if pod.disruption.as_ref().is_some_and(super::view::Disruption::is_without_node) {
        return match &facts.evidence {
            Evidence::NotAsked => Reading::AskEvents,
            Evidence::Ran => it_ran(pod, facts),
            Evidence::CouldNotStart(trouble) => never_ran(pod, facts, Some(trouble)),
            Evidence::Nothing | Evidence::MayHaveStarted(_) => not_known(pod, facts, facts.trouble.as_ref()),
        };
    }
    match (reason, &pod.container) {
        ("DeadlineExceeded", _) => {
            let words = "its pod's deadline passed before it started".to_owned();
            Reading::never(words, StartFault::Task)
        }
        // Evicted while it ran, or before: an older release says nothing about the container. What may have run does
        // not run again.
        ("Evicted", Container::Unknown) if !message.contains("The node had condition") => {
            Reading::lost(pod, facts, format!("evicted from its node: {message}"))
        }
        _ => {
            let fault = if reason == "Evicted" { StartFault::Displaced } else { StartFault::Machine };
            Reading::never(format!("its node did not take it: {}", describe(reason, message)), fault)
        }
    }
}

fn describe(reason: &str, message: &str) -> String {
    match (reason, message) {
        ("", "") => "no reason was given".to_owned(),
        ("", words) | (words, "") => words.to_owned(),
        (reason, message) => format!("{reason}: {message}"),
    }
}

/// It certainly never ran. Why: we gave it up, or were asked to stop it, or somebody took it away.
fn never_ran(pod: &PodView, facts: &Facts, trouble: Option<&Trouble>) -> Reading {
    if facts.was_asked_to_stop {
        return Reading::never("stopped before it started".to_owned(), StartFault::Displaced);
    }
    if let Some(verdict) = &facts.verdict {
        return Reading::never(verdict.reason.clone(), verdict.fault);
    }
    let trouble_words = trouble.map(|trouble| words_of(pod, trouble));
    // Another attempt would fail by the same.
    if let Some(trouble) = trouble.filter(|trouble| trouble.is_about_image && is_hopeless(&trouble.words)) {
        return Reading::never(words_of(pod, trouble), StartFault::Task);
    }
    let beside = trouble_words.map_or_else(String::new, |words| format!(" ({words})"));
    match taken_away(pod, facts) {
        Some(by) => Reading::never(format!("{by}, before its command started{beside}"), StartFault::Displaced),
        None => {
            let words = format!("its node gave it up before its command started{beside}");
            Reading::never(words, StartFault::Machine)
        }
    }
}

fn words_of(pod: &PodView, trouble: &Trouble) -> String {
    if trouble.is_about_image {
        format!("image `{}` can't be pulled: {}", pod.image, trouble.words)
    } else {
        format!("its container could not be made: {}", trouble.words)
    }
}

fn it_ran(pod: &PodView, facts: &Facts) -> Reading {
    let by = taken_away(pod, facts).map_or_else(String::new, |by| format!("; {by}"));
    Reading::lost(
        pod,
        facts,
        format!("its node lost the container after it was started, so that how it ended is not known{by}"),
    )
}

fn not_known(pod: &PodView, facts: &Facts, trouble: Option<&Trouble>) -> Reading {
    let by = taken_away(pod, facts).unwrap_or_else(|| "its pod failed".to_owned());
    let beside = trouble.map_or_else(String::new, |trouble| format!("; before that, {}", words_of(pod, trouble)));
    let words = "and its node has no trace of its container: whether its command ran is not known";
    Reading::lost(pod, facts, format!("{by}, {words}{beside}"))
}
