//! What may be read from a pod, and what `read` and `unstarted` have in common.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::facts::{Facts, Verdict};
use super::view::{Deleting, PodView};
use crate::model::{Instance, Observation, StartFault, Started, Usage};

/// How long after a pod should have been gone its node may still be silent about it.
pub(super) const NODE_PATIENCE: Duration = Duration::from_mins(1);

#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "nearly always the large one, and used up at once")]
pub(super) enum Reading {
    Seen(Observation),
    /// It does not start, and never will: delete it, and only then report that.
    GiveUp(Verdict),
    /// Query the pod's events first to find out whether it ran.
    AskEvents,
    /// Read the beginning of the output to find out whether its command was executed.
    AskOutput,
}

impl Reading {
    pub(super) fn lost(pod: &PodView, facts: &Facts, reason: String) -> Self {
        let started = facts.running_since.map(|at| started(pod, facts, at));
        Self::Seen(Observation::Lost { reason, started, last_seen_at: facts.last_seen_at })
    }

    pub(super) const fn never(reason: String, fault: StartFault) -> Self {
        Self::Seen(Observation::NeverRan { reason, fault })
    }
}

/// Whether a pod's node should long have reported its end.
pub(super) fn is_overdue(deleting: Deleting, facts: &Facts) -> bool {
    facts.deleting_for > deleting.grace + NODE_PATIENCE
}

pub(super) fn node_lost(pod: &PodView) -> String {
    let node = pod.node.as_deref().unwrap_or_default();
    format!("its node {node} was lost; what ran there may still run")
}

pub(super) fn started(pod: &PodView, facts: &Facts, at: Timestamp) -> Started {
    Started {
        at: at.saturating_add(clock_offset(at, facts)).unwrap_or(at),
        instance: Instance {
            instance_id: format!("{}/{}", pod.namespace, pod.name),
            dns_name: pod.node.clone().unwrap_or_default(),
        },
        usage: Usage {
            memory_limit_bytes: pod.memory_limit_bytes,
            cpu_limit_millis: pod.cpu_limit_millis,
            ..Usage::default()
        },
        image_digest: pod.image_digest.clone(),
        notes: Vec::new(),
    }
}

/// The offset to add to a node's times so that they fit the observations: a command starts after its launch, and
/// before it is observed running. Nodes write whole seconds, and their clocks may be wrong.
pub(super) fn clock_offset(started_at: Timestamp, facts: &Facts) -> SignedDuration {
    let seen_at = facts.running_seen_at.or(facts.end_seen_at);
    let earliest = facts.launched_at.filter(|launched_at| started_at < *launched_at);
    let latest = seen_at.filter(|seen_at| started_at > *seen_at);
    earliest.or(latest).map_or(SignedDuration::ZERO, |moved| moved.duration_since(started_at))
}

/// Who removed a pod whose command did not end by itself.
pub(super) fn taken_away(pod: &PodView, facts: &Facts) -> Option<String> {
    let message = pod.message.as_deref().unwrap_or_default();
    if let Some(verdict) = facts.verdict.as_ref().filter(|_| pod.deleting.is_some()) {
        return Some(format!("flotilla gave it up and deleted its pod ({})", verdict.reason));
    }
    match pod.reason.as_deref() {
        Some("Evicted") => return Some(format!("evicted from its node: {message}")),
        Some("Shutdown" | "NodeShutdown" | "Terminated") => return Some(format!("its node was shut down: {message}")),
        Some("Preempting" | "Preempted") => return Some(format!("preempted by a run of higher priority: {message}")),
        Some("NodeLost") => return Some(format!("its node was lost: {message}")),
        _ => {}
    }
    if let Some(disruption) = &pod.disruption {
        return Some(format!("its pod was taken away: {}", disruption.words()));
    }
    let what = match (facts.was_suspended, facts.is_job_gone) {
        (true, _) => "its job was suspended",
        (_, true) => "its job was deleted",
        _ => "its pod was deleted",
    };
    pod.deleting.map(|_| what.to_owned())
}
