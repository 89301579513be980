//! What was seen of containers so far: what does not change any more is asked for once, and samples of use gather here.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bollard::models::ContainerStatsResponse;

use super::stats::{Peak, Sampling};
use crate::model::{AttemptId, Started};

/// Digests of images that are remembered; beyond, all are forgotten and asked for again.
const MAX_DIGESTS: usize = 10_000;

#[derive(Default)]
pub(super) struct Seen {
    containers: Mutex<BTreeMap<AttemptId, Container>>,
    /// By image id, and by the name under which it was asked for.
    digests: Mutex<HashMap<(String, String), Digest>>,
}

/// The digest by which a registry knows an image, if one does.
#[derive(Debug, Clone)]
pub(super) struct Digest(pub Option<String>);

struct Container {
    id: String,
    started: Started,
    sampling: Sampling,
    is_running: bool,
}

impl Seen {
    fn containers(&self) -> MutexGuard<'_, BTreeMap<AttemptId, Container>> {
        self.containers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it started, if this very container was seen running.
    pub(super) fn started(&self, attempt_id: AttemptId, id: &str) -> Option<Started> {
        self.containers().get(&attempt_id).filter(|seen| seen.id == id).map(|seen| seen.started.clone())
    }

    pub(super) fn add_started(&self, attempt_id: AttemptId, id: &str, started: Started) {
        let sampling = Sampling::start(Instant::now());
        self.containers().insert(attempt_id, Container { id: id.to_owned(), started, sampling, is_running: true });
    }

    pub(super) fn peak(&self, attempt_id: AttemptId) -> Peak {
        self.containers().get(&attempt_id).map(|seen| seen.sampling.peak).unwrap_or_default()
    }

    pub(super) fn mark_ended(&self, attempt_id: AttemptId) {
        if let Some(seen) = self.containers().get_mut(&attempt_id) {
            seen.is_running = false;
        }
    }

    pub(super) fn remove(&self, attempt_id: AttemptId) {
        self.containers().remove(&attempt_id);
    }

    /// Forgets all containers that are not there any more.
    pub(super) fn retain(&self, is_there: impl Fn(AttemptId) -> bool) {
        self.containers().retain(|attempt_id, _| is_there(*attempt_id));
    }

    pub(super) fn due(&self, now: Instant) -> Vec<AttemptId> {
        let containers = self.containers();
        let due = containers.iter().filter(|(_, seen)| seen.is_running && seen.sampling.due <= now);
        due.map(|(attempt_id, _)| *attempt_id).collect()
    }

    pub(super) fn add_sample(&self, attempt_id: AttemptId, stats: Option<&ContainerStatsResponse>, now: Instant) {
        if let Some(seen) = self.containers().get_mut(&attempt_id) {
            match stats {
                Some(stats) => seen.sampling.add(stats, now),
                None => seen.sampling.postpone(now),
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
