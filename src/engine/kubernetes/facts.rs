//! What is known of an attempt besides its pod's status: the values that `read` decides from.
//!
//! Durations are measured on this process's monotonic clock, from the first observation. Timestamps written by two
//! machines are never compared to decide anything.

use std::time::Duration;

use jiff::Timestamp;

use crate::model::{StartFault, Usage};

/// A moment, by both clocks of this process.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    /// For timestamps that people read.
    pub wall: Timestamp,
    /// For durations: the time since this engine was created.
    pub uptime: Duration,
}

#[derive(Debug, Clone, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, and they come in any combination")]
pub(super) struct Facts {
    /// Whether this server requested the deletion in order to stop the run.
    pub was_asked_to_stop: bool,
    /// Why this server deleted the pod before it started.
    pub verdict: Option<Verdict>,
    /// When the command started, by its node's clock, if it was observed running.
    pub running_since: Option<Timestamp>,
    /// When it was first observed running, and last observed alive, by our clock.
    pub running_seen_at: Option<Timestamp>,
    pub last_seen_at: Option<Timestamp>,
    pub launched_at: Option<Timestamp>,
    pub end_seen_at: Option<Timestamp>,
    /// Why its container can't start, and for how long that has been so.
    pub trouble: Option<Trouble>,
    pub troubled_for: Duration,
    /// How long an image, or anything else a container needs, may be missing.
    pub pull_grace: Duration,
    /// For how long the pod is known to be deleted, and to be released by its node.
    pub deleting_for: Duration,
    pub released_for: Duration,
    /// For how long its phase is known to be `Failed`.
    pub failed_for: Duration,
    /// The deletion began with a grace period, so that either the node released the pod, or someone forced the
    /// deletion later.
    pub had_grace: bool,
    /// The nodes of this release write how a deleted pod ended before they release it, even if nothing of it ran.
    pub has_last_status: bool,
    /// The pod's node no longer exists, or does not answer the cluster.
    pub is_node_lost: bool,
    /// Someone suspended its job, or deleted it.
    pub was_suspended: bool,
    pub is_job_gone: bool,
    pub is_job_past_deadline: bool,
    pub evidence: Evidence,
    /// How long ago the events were queried.
    pub evidence_age: Duration,
    /// The first bytes of the output of a container that failed at once.
    pub first_output: FirstOutput,
    pub peak: Usage,
}

/// Why an attempt that has not started is given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    pub reason: String,
    pub fault: StartFault,
}

/// What keeps a container from starting, as worded by its node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    pub is_about_image: bool,
    pub words: String,
    /// Set if it is not the run's own container.
    pub init: Option<Init>,
}

/// An init container of the operator's template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Init {
    pub name: String,
    pub image: String,
}

/// What the events of a pod say about whether its command began. Events are kept for an hour and may be dropped: a
/// missing event proves nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Evidence {
    #[default]
    NotAsked,
    /// The server may not read events.
    NotAllowed,
    Nothing,
    Ran,
    /// The container was created, and is normally started right after that.
    Made,
    /// The node's last message was why it can't start.
    CouldNotStart(Trouble),
    /// Its image is present, perhaps after trouble with it, and its node was about to create the container.
    MayHaveStarted(Option<Trouble>),
    /// Its node is fetching the image, or was at the last report.
    Fetching,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum FirstOutput {
    #[default]
    NotAsked,
    Known(String),
}

/// Why a container that waits with this reason is in trouble, as opposed to merely starting.
pub(super) fn trouble_of(reason: &str, message: &str) -> Option<Trouble> {
    let is_about_image = match reason {
        "ErrImagePull"
        | "ImagePullBackOff"
        | "RegistryUnavailable"
        | "ImageInspectError"
        | "ErrImageNeverPull"
        | "InvalidImageName"
        | "SignatureValidationFailed" => true,
        "CreateContainerConfigError"
        | "CreateContainerError"
        | "RunContainerError"
        | "PreStartHookError"
        | "PostStartHookError" => false,
        _ => return None,
    };
    let words = if message.is_empty() { reason } else { message };
    Some(Trouble { is_about_image, words: words.to_owned(), init: None })
}
