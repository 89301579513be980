//! An attempt whose command has not begun, or may not have: what delays it, why it is given up, and whether it may be
//! retried.
//!
//! An attempt is reported as never run only if that is certain. A pod that is deleted while its image is pulled may
//! still start, and from about Kubernetes 1.27 on a node writes the same status, `ContainerStatusUnknown`, for a
//! container that never began and for one that ran and was lost. So the pod's events are queried too; if they are
//! inconclusive, the attempt is lost.

use std::time::Duration;

use super::facts::{Evidence, Facts, Init, Trouble, Verdict};
use super::reading::{NODE_PATIENCE, Reading, is_overdue, node_lost, taken_away};
use super::view::{Container, Deleting, PodView};
use crate::engine::container::refusal::is_final;
use crate::model::{Observation, StartFault};

/// How long the news of a command's start may be in transit after its node has released the pod.
pub(super) const NEWS_PATIENCE: Duration = Duration::from_secs(10);

/// How long an image may take that was being fetched when its pod was over: once it is present, the command may still
/// start.
const FETCH_PATIENCE: Duration = Duration::from_mins(10);

pub(super) fn waiting(pod: &PodView, reason: &str, message: &str, facts: &Facts) -> Reading {
    // It ran before: its node will report what becomes of it.
    if pod.has_run_before() {
        return Reading::Seen(Observation::Starting);
    }
    let (reason, message, init) = match &pod.init_waiting {
        Some(waiting) => (waiting.reason.as_str(), waiting.message.as_str(), Some(&waiting.init)),
        None => (reason, message, None),
    };
    let has_waited = facts.trouble.is_some() && facts.troubled_for >= facts.pull_grace;
    let give_up = |reason: String, fault: StartFault| Reading::GiveUp(Verdict { reason, fault });
    match reason {
        "InvalidImageName" => {
            give_up(format!("{} can't be pulled: its name is not valid", image_of(pod, init)), StartFault::Task)
        }
        "ErrImageNeverPull" => {
            let words = format!("{} is not on the node, and this cluster does not fetch images", image_of(pod, init));
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
            give_up(format!("{} can't be pulled: {why}", image_of(pod, init)), fault_of_image(why))
        }
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" if has_waited => {
            // Like an API refusal: permanent, unless its message indicates a temporary fault.
            let fault = if is_final(400, message) { StartFault::Task } else { StartFault::Machine };
            give_up(format!("{} can't be made: {message}", container_of(init)), fault)
        }
        _ => Reading::Seen(Observation::Starting),
    }
}

fn image_of(pod: &PodView, init: Option<&Init>) -> String {
    match init {
        Some(Init { name, image }) => format!("image `{image}` of its init container `{name}`"),
        None => format!("image `{}`", pod.image),
    }
}

fn container_of(init: Option<&Init>) -> String {
    init.map_or_else(|| "its container".to_owned(), |init| format!("its init container `{}`", init.name))
}

fn fault_of_image(why: &str) -> StartFault {
    if is_hopeless(why) { StartFault::Task } else { StartFault::Image }
}

fn is_hopeless(why: &str) -> bool {
    is_final(500, why) || why.contains("pull policy of Never")
}

/// A deleted pod whose command is not known to have started.
pub(super) fn deleted(pod: &PodView, deleting: Deleting, facts: &Facts) -> Reading {
    if pod.node.is_none() {
        return never_ran(pod, facts, None);
    }
    if facts.is_node_lost && is_overdue(deleting, facts) {
        return Reading::lost(pod, facts, node_lost(pod));
    }
    // A forced deletion looks like a release by the node, which may be about to start the container. Where nodes write
    // a last status, `read` has found none. Elsewhere its news may be in transit.
    let patience = if facts.had_grace && !facts.has_last_status { NEWS_PATIENCE } else { NODE_PATIENCE };
    if !deleting.is_released() || facts.released_for <= patience {
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
        Evidence::Made => was_made(pod, facts),
        Evidence::Fetching => fetching(pod, facts, facts.released_for),
        Evidence::MayHaveStarted(trouble) => not_known(pod, facts, trouble.as_ref()),
        Evidence::CouldNotStart(trouble) if facts.has_last_status => not_known(pod, facts, Some(trouble)),
        Evidence::Nothing if facts.has_last_status => not_known(pod, facts, facts.trouble.as_ref()),
        Evidence::NotAllowed => not_known(pod, facts, facts.trouble.as_ref()),
        Evidence::CouldNotStart(trouble) => never_ran(pod, facts, Some(trouble)),
        Evidence::Nothing => never_ran(pod, facts, facts.trouble.as_ref()),
    }
}

/// A pod that is over while its node still fetches the image: the outcome is awaited, unless the run should no longer
/// start.
fn fetching(pod: &PodView, facts: &Facts, over_for: Duration) -> Reading {
    if facts.was_asked_to_stop || over_for > FETCH_PATIENCE {
        not_known(pod, facts, facts.trouble.as_ref())
    } else if facts.evidence_age > NEWS_PATIENCE {
        Reading::AskEvents
    } else {
        Reading::Seen(Observation::Starting)
    }
}

/// A container without a trace on its node: it never began, or it was lost.
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
        Evidence::Made => was_made(pod, facts),
        Evidence::CouldNotStart(trouble) => never_ran(pod, facts, Some(trouble)),
        Evidence::MayHaveStarted(trouble) => not_known(pod, facts, trouble.as_ref()),
        // A node writes this only when it is no longer fetching anything.
        Evidence::Nothing | Evidence::NotAllowed | Evidence::Fetching => match &facts.trouble {
            Some(trouble) => never_ran(pod, facts, Some(trouble)),
            None => not_known(pod, facts, None),
        },
    }
}

/// A pod that has failed without its container's end being known.
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
    if (facts.was_asked_to_stop || facts.verdict.is_some()) && pod.init_failure.is_some() {
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
    // The node was not consulted.
    let is_without_node = pod.disruption.as_ref().is_some_and(super::view::Disruption::is_without_node);
    let is_refused = !is_without_node && is_refusal(reason, message);
    if !is_without_node && !is_refused && facts.failed_for <= NEWS_PATIENCE {
        return Reading::Seen(Observation::Starting);
    }
    // Releases before about 1.22 write the same status for a pod that ran and for one that did not, without its
    // container's status. A restarted agent may even refuse a pod that ran before.
    let is_unsaid = matches!(pod.container, Container::Unknown);
    let could_not_start = matches!(facts.evidence, Evidence::CouldNotStart(_));
    let is_late = reason == "DeadlineExceeded" && (could_not_start || !is_unsaid);
    match &facts.evidence {
        Evidence::NotAsked => Reading::AskEvents,
        Evidence::Ran => it_ran(pod, facts),
        Evidence::Made => was_made(pod, facts),
        Evidence::MayHaveStarted(trouble) => not_known(pod, facts, trouble.as_ref()),
        _ if is_refused => {
            let fault = if reason == "Evicted" { StartFault::Displaced } else { StartFault::Machine };
            Reading::never(format!("its node did not take it: {}", describe(reason, message)), fault)
        }
        Evidence::Fetching if !is_without_node => fetching(pod, facts, facts.failed_for),
        Evidence::CouldNotStart(_) | Evidence::Nothing if is_late && !is_without_node => {
            let words = "its pod's deadline passed before it started".to_owned();
            Reading::never(words, StartFault::Task)
        }
        Evidence::CouldNotStart(trouble) => never_ran(pod, facts, Some(trouble)),
        Evidence::Nothing if !is_unsaid && !is_without_node => never_ran(pod, facts, facts.trouble.as_ref()),
        Evidence::Nothing | Evidence::NotAllowed | Evidence::Fetching => not_known(pod, facts, facts.trouble.as_ref()),
    }
}

/// Whether a node's agent refused the pod on first sight, as worded by every release from 1.20 on.
fn is_refusal(reason: &str, message: &str) -> bool {
    const REASONS: [&str; 17] = [
        "AppArmor",
        "HostName",
        "InitContainerRestartPolicyForbidden",
        "InvalidNodeInfo",
        "MatchNodeSelector",
        "NoNewPrivs",
        "NodeAffinity",
        "NodeName",
        "NodePorts",
        "PodFeatureUnsupported",
        "PodFitsHostPorts",
        "PodOSNotSupported",
        "SysctlForbidden",
        "TaintToleration",
        "TopologyAffinityError",
        "UnexpectedAdmissionError",
        "UnexpectedPredicateFailureType",
    ];
    const WORDS: [&str; 3] = ["Pod was rejected", "The node had condition", "not admitting any new pods"];
    reason.starts_with("OutOf") || REASONS.contains(&reason) || WORDS.iter().any(|words| message.contains(words))
}

fn describe(reason: &str, message: &str) -> String {
    match (reason, message) {
        ("", "") => "no reason was given".to_owned(),
        ("", words) | (words, "") => words.to_owned(),
        (reason, message) => format!("{reason}: {message}"),
    }
}

/// It certainly never ran. The reason: we gave it up, we were asked to stop it, or someone removed it.
fn never_ran(pod: &PodView, facts: &Facts, trouble: Option<&Trouble>) -> Reading {
    if facts.was_asked_to_stop {
        return Reading::never("stopped before it started".to_owned(), StartFault::Displaced);
    }
    if let Some(verdict) = &facts.verdict {
        return Reading::never(verdict.reason.clone(), verdict.fault);
    }
    let trouble_words = trouble.map(|trouble| words_of(pod, trouble));
    // Another attempt would fail for the same reason.
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
    let init = trouble.init.as_ref();
    if trouble.is_about_image {
        format!("{} can't be pulled: {}", image_of(pod, init), trouble.words)
    } else {
        format!("{} could not be made: {}", container_of(init), trouble.words)
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

/// A container that was created, without a report that it started.
fn was_made(pod: &PodView, facts: &Facts) -> Reading {
    let by = taken_away(pod, facts).map_or_else(String::new, |by| format!("; {by}"));
    let words = "its container was made, and may have started: whether its command ran is not known";
    Reading::lost(pod, facts, format!("{words}{by}"))
}

fn not_known(pod: &PodView, facts: &Facts, trouble: Option<&Trouble>) -> Reading {
    let by = taken_away(pod, facts).unwrap_or_else(|| match pod.reason.as_deref().unwrap_or_default() {
        "" => "its pod failed".to_owned(),
        reason => format!("its pod failed ({})", describe(reason, pod.message.as_deref().unwrap_or_default())),
    });
    // A verdict already states it.
    let trouble = trouble.filter(|_| facts.verdict.is_none());
    let beside = trouble.map_or_else(String::new, |trouble| format!("; before that, {}", words_of(pod, trouble)));
    let words = "and its node has no trace of its container: whether its command ran is not known";
    Reading::lost(pod, facts, format!("{by}, {words}{beside}"))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::engine::kubernetes::facts::Now;
    use crate::engine::kubernetes::read::read;
    use crate::engine::kubernetes::view::{InitWaiting, Phase};
    use crate::model::Observation::{Lost, NeverRan, Starting};

    fn now() -> Now {
        Now { wall: Timestamp::UNIX_EPOCH, uptime: Duration::ZERO }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn waiting_for(reason: &str) -> Container {
        Container::Waiting { reason: reason.to_owned(), message: "m".to_owned() }
    }

    fn pod(container: Container) -> PodView {
        PodView { node: Some("node-1".to_owned()), image: "x:1".to_owned(), container, ..PodView::default() }
    }

    fn failed_pod(reason: &str, message: &str, container: Container) -> PodView {
        let (reason, message) = (Some(reason.to_owned()), Some(message.to_owned()));
        PodView { phase: Phase::Failed, reason, message, ..pod(container) }
    }

    /// A deleted and released pod.
    fn released(container: Container) -> PodView {
        PodView { deleting: Some(Deleting { grace: Duration::ZERO }), ..pod(container) }
    }

    fn trouble() -> Trouble {
        Trouble { is_about_image: true, words: "no such host".to_owned(), init: None }
    }

    /// What is known of a pod that was over a while ago, by its node's release.
    fn facts(evidence: Evidence, has_last_status: bool) -> Facts {
        let patience = if has_last_status { NODE_PATIENCE } else { NEWS_PATIENCE };
        Facts {
            evidence,
            has_last_status,
            had_grace: true,
            failed_for: patience + seconds(1),
            released_for: patience + seconds(1),
            ..Facts::default()
        }
    }

    fn words(pod: &PodView, facts: &Facts) -> String {
        match read(pod, facts, now()) {
            Reading::Seen(NeverRan { reason, fault }) if fault.is_retried() => format!("again ({fault}): {reason}"),
            Reading::Seen(NeverRan { reason, .. }) => format!("rejected: {reason}"),
            Reading::Seen(Lost { reason, .. }) => format!("lost: {reason}"),
            Reading::Seen(Starting) => "starting".to_owned(),
            other => format!("{other:?}"),
        }
    }

    /// Releases before about 1.22 write only these three fields for a pod that they end, whatever ran in it.
    #[test]
    fn a_pod_that_failed_without_a_word_about_its_container_is_tried_again_only_where_it_certainly_never_ran() {
        let ended = [
            ("Preempting", "Preempted in order to admit critical pod", "preempted by a run of higher priority"),
            ("Shutdown", "Node is shutting, evicting pods", "its node was shut down"),
            ("Terminated", "Pod was terminated in response to imminent node shutdown.", "its node was shut down"),
            ("Evicted", "The node was low on resource: memory.", "evicted from its node"),
            ("SomethingNew", "m", "its pod failed (SomethingNew: m)"),
            ("", "", "its pod failed"),
            (
                "DeadlineExceeded",
                "Pod was active on the node longer than the specified deadline",
                "its pod failed (Dead",
            ),
        ];
        for (reason, message, by) in ended {
            let pod = failed_pod(reason, message, Container::Unknown);
            let told = |evidence: Evidence| words(&pod, &facts(evidence, false));
            assert_eq!(told(Evidence::NotAsked), "AskEvents", "{reason}");
            assert!(
                told(Evidence::Ran).starts_with("lost: its node lost the container after it was started"),
                "{reason}"
            );
            assert!(told(Evidence::Made).starts_with("lost: its container was made, and may have started"), "{reason}");
            for unsure in [Evidence::Nothing, Evidence::NotAllowed, Evidence::MayHaveStarted(None)] {
                let told = told(unsure);
                assert!(
                    told.starts_with(&format!("lost: {by}")) && told.ends_with("its command ran is not known"),
                    "{told}"
                );
            }
            let never = told(Evidence::CouldNotStart(trouble()));
            let expected = if reason == "DeadlineExceeded" { "rejected: its pod's deadline passed" } else { "again" };
            assert!(never.starts_with(expected), "{reason}: {never}");
            assert_eq!(told(Evidence::Fetching), "starting", "{reason}");
            let just_now = Facts { failed_for: seconds(1), ..facts(Evidence::NotAsked, false) };
            assert_eq!(words(&pod, &just_now), "starting", "{reason}: news may be under way");
        }
        let refused = [
            ("OutOfcpu", "Pod Node didn't have enough resource: cpu"),
            ("OutOfnvidia.com/gpu", "Pod Node didn't have enough resource"),
            ("NodeAffinity", "Pod Predicate NodeAffinity failed"),
            ("UnexpectedAdmissionError", "Pod Allocate failed due to no device"),
            ("Evicted", "Pod The node had condition: [MemoryPressure]. "),
            ("Shutdown", "Pod Node is in progress of shutting down, not admitting any new pods"),
            ("NodeShutdown", "Pod was rejected as the node is shutting down."),
        ];
        for (reason, message) in refused {
            let pod = failed_pod(reason, message, Container::Unknown);
            let told = |evidence: Evidence| words(&pod, &Facts { failed_for: seconds(0), ..facts(evidence, false) });
            assert_eq!(told(Evidence::NotAsked), "AskEvents", "an agent that began anew may refuse what ran");
            assert!(told(Evidence::Ran).starts_with("lost: "), "{reason}");
            let again = told(Evidence::Nothing);
            assert!(again.starts_with("again") && again.contains("its node did not take it"), "{again}");
        }
    }

    #[test]
    fn a_forced_deletion_behind_a_normal_one_is_no_release_by_the_node() {
        let old = |evidence: Evidence, seconds_ago: u64| {
            let known = Some(trouble());
            let facts = Facts { released_for: seconds(seconds_ago), trouble: known, ..facts(evidence, false) };
            words(&released(waiting_for("ErrImagePull")), &facts)
        };
        // As observed: 0.4 s after the forced deletion, with the node about to fetch the image again.
        assert_eq!(old(Evidence::NotAsked, 0), "starting");
        assert_eq!(old(Evidence::NotAsked, 11), "AskEvents");
        assert_eq!(old(Evidence::Fetching, 11), "starting");
        assert!(old(Evidence::Fetching, 601).starts_with("lost: its pod was deleted"));
        assert!(old(Evidence::MayHaveStarted(Some(trouble())), 11).starts_with("lost: its pod was deleted"));
        assert!(old(Evidence::NotAllowed, 11).starts_with("lost: its pod was deleted"));
        assert!(old(Evidence::Made, 11).starts_with("lost: its container was made"));
        assert!(old(Evidence::CouldNotStart(trouble()), 11).starts_with("again (displaced): its pod was deleted"));
        assert!(old(Evidence::Nothing, 11).starts_with("again (displaced): its pod was deleted"));
        // A fetch in progress is checked again, and not awaited if the run is to be stopped.
        let asked_long_ago = Facts { evidence_age: seconds(11), ..facts(Evidence::Fetching, false) };
        assert_eq!(words(&released(waiting_for("ErrImagePull")), &asked_long_ago), "AskEvents");
        let stopped = Facts { was_asked_to_stop: true, ..facts(Evidence::Fetching, false) };
        assert!(words(&released(waiting_for("ErrImagePull")), &stopped).starts_with("lost: its pod was deleted"));

        // A newer node writes a last status before it releases the pod.
        let pod = released(waiting_for("ErrImagePull"));
        let soon = Facts { released_for: seconds(11), ..facts(Evidence::NotAsked, true) };
        assert_eq!(words(&pod, &soon), "starting");
        for evidence in [Evidence::Nothing, Evidence::CouldNotStart(trouble()), Evidence::MayHaveStarted(None)] {
            assert!(words(&pod, &facts(evidence, true)).starts_with("lost: its pod was deleted"));
        }
        let failed = PodView { phase: Phase::Failed, ..pod };
        let could_not = facts(Evidence::CouldNotStart(trouble()), true);
        assert!(words(&failed, &could_not).starts_with("again (displaced): its pod was deleted, before"));
    }

    #[test]
    fn what_was_given_up_is_told_in_the_words_of_why() {
        let reason = "image `x:1` can't be pulled: 500 Internal Server Error".to_owned();
        let verdict = Some(Verdict { reason, fault: StartFault::Image });
        let pod = released(waiting_for("ErrImagePull"));
        let told = |evidence: Evidence| words(&pod, &Facts { verdict: verdict.clone(), ..facts(evidence, false) });
        // The image arrived after it had been given up, and the runtime could not start the container.
        let runc = Trouble { is_about_image: false, words: "runc create failed".to_owned(), init: None };
        let never = told(Evidence::CouldNotStart(runc));
        assert_eq!(never, "again (image): image `x:1` can't be pulled: 500 Internal Server Error");
        for evidence in [Evidence::Ran, Evidence::Made, Evidence::MayHaveStarted(Some(trouble()))] {
            let lost = told(evidence);
            assert!(lost.starts_with("lost: "), "{lost}");
            assert!(
                lost.contains("flotilla gave it up and deleted its pod (image `x:1` can't be pulled: 500"),
                "{lost}"
            );
            assert!(!lost.contains("no such host"), "{lost}");
        }
    }

    #[test]
    fn an_init_container_that_cannot_start_is_given_up_as_the_runs_own() {
        let give_up = |reason: &str, waited: u64, words: &str| {
            let init = Init { name: "prep".to_owned(), image: "tools:2".to_owned() };
            let waiting = InitWaiting { init: init.clone(), reason: reason.to_owned(), message: "m".to_owned() };
            let pod = PodView { init_waiting: Some(waiting), ..pod(waiting_for("PodInitializing")) };
            let trouble = Trouble { is_about_image: true, words: words.to_owned(), init: Some(init) };
            let facts = Facts {
                trouble: Some(trouble),
                troubled_for: seconds(waited),
                pull_grace: seconds(60),
                ..Facts::default()
            };
            read(&pod, &facts, now())
        };
        let verdict = |reason: &str, fault| Reading::GiveUp(Verdict { reason: reason.to_owned(), fault });
        assert_eq!(give_up("ImagePullBackOff", 59, "no such host"), Reading::Seen(Starting));
        assert_eq!(
            give_up("ImagePullBackOff", 60, "no such host"),
            verdict("image `tools:2` of its init container `prep` can't be pulled: no such host", StartFault::Image)
        );
        assert_eq!(
            give_up("ErrImagePull", 60, "manifest unknown"),
            verdict("image `tools:2` of its init container `prep` can't be pulled: manifest unknown", StartFault::Task)
        );
        assert_eq!(
            give_up("CreateContainerConfigError", 60, "m"),
            verdict("its init container `prep` can't be made: m", StartFault::Task)
        );
    }
}
