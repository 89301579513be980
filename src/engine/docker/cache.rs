//! What was observed of containers so far: caches facts that no longer change, and collects usage samples.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use bollard::models::ContainerStatsResponse;
use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};

use super::link::Connection;
use super::usage::{Peak, Sampling, Use};
use crate::model::{AttemptId, Started};

/// Maximum number of images remembered; beyond that all are dropped and queried again.
const MAX_IMAGES: usize = 10_000;
/// A container that runs this long has started its shell: the init process tries that at once.
pub(super) const SHELL_STARTS_WITHIN: Duration = Duration::from_millis(250);

#[derive(Default)]
pub(super) struct Cache {
    containers: Mutex<Containers>,
    /// By image id, and by the name it was requested under.
    digests: Mutex<HashMap<(String, String), Digest>>,
    images: Mutex<Images>,
}

/// Facts that never change for an image, by its id.
#[derive(Default)]
struct Images {
    /// Which attempt's labels the image has, if any: it was made from that attempt's container.
    attempts: HashMap<String, Option<AttemptId>>,
    /// Images whose shell was observed to start.
    with_shell: HashSet<String>,
}

/// The digest by which a registry knows the image, if any.
#[derive(Debug, Clone)]
pub(super) struct Digest(pub Option<String>);

#[derive(Default)]
struct Containers {
    started: BTreeMap<AttemptId, Container>,
    /// Attempts known to have ended, including those whose start was not observed yet.
    ended: BTreeSet<AttemptId>,
    /// When containers whose shell may not have started were first seen.
    unproven: HashMap<AttemptId, Instant>,
}

struct Container {
    id: String,
    started: Started,
    sampling: Sampling,
    /// When it was last seen running, and on which connection.
    seen_at: Timestamp,
    seen_in: Connection,
}

/// What is remembered of a container that was seen running.
#[derive(Debug, Clone, Copy)]
pub(super) struct LastObserved {
    pub at: Timestamp,
    pub connection: Connection,
}

impl Cache {
    fn containers(&self) -> MutexGuard<'_, Containers> {
        self.containers.lock()
    }

    /// How it started, if this same container was seen running before and has not been reported as ended. Records
    /// that it is running now.
    pub(super) fn started(&self, attempt_id: AttemptId, id: &str, now: LastObserved) -> Option<Started> {
        let mut containers = self.containers();
        if containers.ended.contains(&attempt_id) {
            return None;
        }
        let seen = containers.started.get_mut(&attempt_id).filter(|seen| seen.id == id)?;
        (seen.seen_at, seen.seen_in) = (now.at, now.connection);
        Some(seen.started.clone())
    }

    pub(super) fn add_started(&self, attempt_id: AttemptId, id: &str, started: Started, now: LastObserved) {
        let sampling = Sampling::start(Instant::now());
        let container = Container { id: id.to_owned(), started, sampling, seen_at: now.at, seen_in: now.connection };
        let mut containers = self.containers();
        containers.unproven.remove(&attempt_id);
        containers.started.insert(attempt_id, container);
    }

    /// When it was last seen running.
    pub(super) fn last(&self, attempt_id: AttemptId) -> Option<LastObserved> {
        let containers = self.containers();
        let seen = containers.started.get(&attempt_id)?;
        Some(LastObserved { at: seen.seen_at, connection: seen.seen_in })
    }

    /// Whether the image's shell is known to start.
    pub(super) fn has_shell(&self, image_id: &str) -> bool {
        self.images().with_shell.contains(image_id)
    }

    pub(super) fn add_shell(&self, image_id: &str) {
        let mut images = self.images();
        if images.with_shell.len() >= MAX_IMAGES {
            images.with_shell.clear();
        }
        images.with_shell.insert(image_id.to_owned());
    }

    /// How long a container whose shell may not have started has been seen running, and whether this is the first
    /// time.
    pub(super) fn unproven_for(&self, attempt_id: AttemptId, now: Instant) -> (Duration, bool) {
        let mut containers = self.containers();
        let is_new = !containers.unproven.contains_key(&attempt_id);
        let since = *containers.unproven.entry(attempt_id).or_insert(now);
        (now.saturating_duration_since(since), is_new)
    }

    /// Which attempt's labels an image has; the outer `None` means that it was not inspected.
    #[expect(clippy::option_option, reason = "not looked at is something else than not ours")]
    pub(super) fn attempt_of_image(&self, image_id: &str) -> Option<Option<AttemptId>> {
        self.images().attempts.get(image_id).copied()
    }

    pub(super) fn add_attempt_of_image(&self, image_id: &str, attempt_id: Option<AttemptId>) {
        let mut images = self.images();
        if images.attempts.len() >= MAX_IMAGES {
            images.attempts.clear();
        }
        images.attempts.insert(image_id.to_owned(), attempt_id);
    }

    fn images(&self) -> MutexGuard<'_, Images> {
        self.images.lock()
    }

    pub(super) fn peak(&self, attempt_id: AttemptId) -> Peak {
        self.containers().started.get(&attempt_id).map(|seen| seen.sampling.peak).unwrap_or_default()
    }

    pub(super) fn has_ended(&self, attempt_id: AttemptId) -> bool {
        self.containers().ended.contains(&attempt_id)
    }

    pub(super) fn mark_ended(&self, attempt_id: AttemptId) {
        self.containers().ended.insert(attempt_id);
    }

    pub(super) fn remove(&self, attempt_id: AttemptId) {
        let mut containers = self.containers();
        containers.started.remove(&attempt_id);
        containers.ended.remove(&attempt_id);
        containers.unproven.remove(&attempt_id);
    }

    /// Forgets all containers that no longer exist.
    pub(super) fn retain(&self, is_there: impl Fn(AttemptId) -> bool) {
        let mut containers = self.containers();
        containers.started.retain(|attempt_id, _| is_there(*attempt_id));
        containers.ended.retain(|attempt_id| is_there(*attempt_id));
        containers.unproven.retain(|attempt_id, _| is_there(*attempt_id));
    }

    /// The containers due for a sample, with their ids.
    pub(super) fn due(&self, now: Instant) -> Vec<(AttemptId, String)> {
        let containers = self.containers();
        let running = containers.started.iter().filter(|(attempt_id, _)| !containers.ended.contains(attempt_id));
        let due = running.filter(|(_, seen)| seen.sampling.due <= now);
        due.map(|(attempt_id, seen)| (*attempt_id, seen.id.clone())).collect()
    }

    /// Adds a sample; returns the usage of a container that was seen running.
    pub(super) fn add_look(
        &self,
        attempt_id: AttemptId,
        stats: Option<&ContainerStatsResponse>,
        now: Instant,
    ) -> Option<Use> {
        let mut containers = self.containers();
        let sampling = &mut containers.started.get_mut(&attempt_id)?.sampling;
        match stats {
            Some(stats) => Some(sampling.add(stats, now)),
            None => {
                sampling.postpone(now);
                None
            }
        }
    }

    pub(super) fn digest(&self, image_id: &str, name: &str) -> Option<Digest> {
        let digests = self.digests.lock();
        digests.get(&(image_id.to_owned(), name.to_owned())).cloned()
    }

    pub(super) fn add_digest(&self, image_id: &str, name: &str, digest: Digest) {
        let mut digests = self.digests.lock();
        if digests.len() >= MAX_IMAGES {
            digests.clear();
        }
        digests.insert((image_id.to_owned(), name.to_owned()), digest);
    }
}
