//! What was seen of containers so far: what does not change any more is asked for once, and samples of use gather here.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bollard::models::ContainerStatsResponse;

use super::stats::{Peak, Sampling, Use};
use crate::model::{AttemptId, Started};

/// Digests of images that are remembered; beyond, all are forgotten and asked for again.
const MAX_DIGESTS: usize = 10_000;

#[derive(Default)]
pub(super) struct Seen {
    containers: Mutex<Containers>,
    /// By image id, and by the name under which it was asked for.
    digests: Mutex<HashMap<(String, String), Digest>>,
}

/// The digest by which a registry knows an image, if one does.
#[derive(Debug, Clone)]
pub(super) struct Digest(pub Option<String>);

#[derive(Default)]
struct Containers {
    started: BTreeMap<AttemptId, Container>,
    /// Those that are known to have ended, also where their start was not seen yet.
    ended: BTreeSet<AttemptId>,
}

struct Container {
    id: String,
    started: Started,
    sampling: Sampling,
}

impl Seen {
    fn containers(&self) -> MutexGuard<'_, Containers> {
        self.containers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it started, if this very container was seen running, and not heard to have ended.
    pub(super) fn started(&self, attempt_id: AttemptId, id: &str) -> Option<Started> {
        let containers = self.containers();
        let seen = containers.started.get(&attempt_id).filter(|seen| seen.id == id)?;
        (!containers.ended.contains(&attempt_id)).then(|| seen.started.clone())
    }

    pub(super) fn add_started(&self, attempt_id: AttemptId, id: &str, started: Started) {
        let sampling = Sampling::start(Instant::now());
        self.containers().started.insert(attempt_id, Container { id: id.to_owned(), started, sampling });
    }

    pub(super) fn peak(&self, attempt_id: AttemptId) -> Peak {
        self.containers().started.get(&attempt_id).map(|seen| seen.sampling.peak).unwrap_or_default()
    }

    pub(super) fn mark_ended(&self, attempt_id: AttemptId) {
        self.containers().ended.insert(attempt_id);
    }

    pub(super) fn remove(&self, attempt_id: AttemptId) {
        let mut containers = self.containers();
        containers.started.remove(&attempt_id);
        containers.ended.remove(&attempt_id);
    }

    /// Forgets all containers that are not there any more.
    pub(super) fn retain(&self, is_there: impl Fn(AttemptId) -> bool) {
        let mut containers = self.containers();
        containers.started.retain(|attempt_id, _| is_there(*attempt_id));
        containers.ended.retain(|attempt_id| is_there(*attempt_id));
    }

    pub(super) fn due(&self, now: Instant) -> Vec<AttemptId> {
        let containers = self.containers();
        let running = containers.started.iter().filter(|(attempt_id, _)| !containers.ended.contains(attempt_id));
        running.filter(|(_, seen)| seen.sampling.due <= now).map(|(attempt_id, _)| *attempt_id).collect()
    }

    /// Takes a look at a container into account; what it says of one that was seen running.
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
        let digests = self.digests.lock().unwrap_or_else(PoisonError::into_inner);
        digests.get(&(image_id.to_owned(), name.to_owned())).cloned()
    }

    pub(super) fn add_digest(&self, image_id: &str, name: &str, digest: Digest) {
        let mut digests = self.digests.lock().unwrap_or_else(PoisonError::into_inner);
        if digests.len() >= MAX_DIGESTS {
            digests.clear();
        }
        digests.insert((image_id.to_owned(), name.to_owned()), digest);
    }
}
