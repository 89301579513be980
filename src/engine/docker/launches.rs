//! Attempts that this process is starting, and what it knows about those it has started.
//!
//! ```text
//!            ┌─────── stop ───────┐
//!  Pulling ──┤                    ├─→ NeverRan
//!            └─→ Making ─→ failed ┘
//!                      └─→ Started
//! ```
//!
//! Only a pull can be cancelled. Once the daemon has been asked to create a container, its answer is awaited, and a
//! stop then has to go through the daemon. This state is lost with the process, and counts only if the daemon shows
//! no container.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::model::{AttemptId, StartFault};

/// How long the reason why an attempt never ran is kept if the attempt is not removed.
const VERDICT_KEPT_FOR: Duration = Duration::from_hours(1);

#[derive(Default)]
pub(super) struct Launches {
    map: Mutex<HashMap<AttemptId, Launching>>,
    /// A container was created, or its creation failed.
    ended: Notify,
}

#[derive(Debug, Clone)]
pub(super) enum Launching {
    /// Its image is being fetched, until this is cancelled.
    Pulling(CancellationToken),
    /// The daemon has been asked to create and start its container.
    Making,
    /// The daemon was asked to start its container and did not refuse.
    Started,
    NeverRan {
        reason: String,
        fault: StartFault,
        since: Instant,
    },
}

/// What a stop has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ToStop {
    /// Nothing: there is no container yet, and now none will be created.
    Nothing,
    /// Nothing yet: whether there is a container is not known. The task that creates it pokes once it is.
    NotYet,
    /// Stop the container that the daemon shows.
    Container,
}

impl Launching {
    pub(super) fn never_ran(reason: String, fault: StartFault) -> Self {
        Self::NeverRan { reason, fault, since: Instant::now() }
    }

    pub(super) const fn is_under_way(&self) -> bool {
        matches!(self, Self::Pulling(_) | Self::Making)
    }

    fn is_outdated(&self) -> bool {
        matches!(self, Self::NeverRan { since, .. } if since.elapsed() > VERDICT_KEPT_FOR)
    }
}

impl Launches {
    fn map(&self) -> MutexGuard<'_, HashMap<AttemptId, Launching>> {
        self.map.lock()
    }

    pub(super) fn get(&self, attempt_id: AttemptId) -> Option<Launching> {
        self.map().get(&attempt_id).cloned()
    }

    /// Attempts that may have no container yet, or never had one.
    pub(super) fn without_container(&self) -> Vec<AttemptId> {
        let map = self.map();
        let without = map.iter().filter(|(_, launching)| !matches!(launching, Launching::Started));
        without.map(|(attempt_id, _)| *attempt_id).collect()
    }

    /// Forgets an attempt and cancels its pull; `false` if its container is being created, so that the attempt must
    /// stay.
    pub(super) fn remove(&self, attempt_id: AttemptId) -> bool {
        let mut map = self.map();
        match map.get(&attempt_id) {
            Some(Launching::Making) => return false,
            Some(Launching::Pulling(cancelled)) => cancelled.cancel(),
            Some(Launching::Started | Launching::NeverRan { .. }) | None => {}
        }
        map.remove(&attempt_id);
        true
    }

    /// Cancels a pull, or returns what else there is to stop.
    pub(super) fn stop(&self, attempt_id: AttemptId) -> ToStop {
        let mut map = self.map();
        match map.get(&attempt_id) {
            Some(Launching::Pulling(cancelled)) => cancelled.cancel(),
            Some(Launching::Making) => return ToStop::NotYet,
            Some(Launching::Started | Launching::NeverRan { .. }) | None => return ToStop::Container,
        }
        let reason = "stopped while its image was being fetched".to_owned();
        map.insert(attempt_id, Launching::never_ran(reason, StartFault::Task));
        ToStop::Nothing
    }

    /// Marks an attempt as being created, after any other call that launches it. Otherwise returns what is already
    /// known.
    pub(super) async fn begin(&self, attempt_id: AttemptId) -> Result<Making<'_>, Launching> {
        loop {
            let ended = self.ended.notified();
            {
                let mut map = self.map();
                map.retain(|_, launching| !launching.is_outdated());
                match map.get(&attempt_id) {
                    Some(Launching::Making) => {}
                    Some(known) => return Err(known.clone()),
                    None => {
                        map.insert(attempt_id, Launching::Making);
                        return Ok(Making { launches: self, attempt_id });
                    }
                }
            }
            ended.await;
        }
    }

    /// The same after the pull that `cancelled` would have cancelled; `None` if it was cancelled.
    pub(super) fn begin_after_pull(&self, attempt_id: AttemptId, cancelled: &CancellationToken) -> Option<Making<'_>> {
        let mut map = self.map();
        // The token is cancelled only while the map is locked.
        if cancelled.is_cancelled() || !matches!(map.get(&attempt_id), Some(Launching::Pulling(_))) {
            return None;
        }
        map.insert(attempt_id, Launching::Making);
        Some(Making { launches: self, attempt_id })
    }

    /// Records why an attempt with a pending pull never ran, unless the pull was cancelled.
    pub(super) fn fail_pull(&self, attempt_id: AttemptId, cancelled: &CancellationToken, verdict: Launching) {
        let mut map = self.map();
        if !cancelled.is_cancelled() && matches!(map.get(&attempt_id), Some(Launching::Pulling(_))) {
            map.insert(attempt_id, verdict);
        }
    }
}

/// The daemon is being asked to create and start an attempt's container. However this ends, including by being
/// dropped, the attempt is no longer marked as being created.
pub(super) struct Making<'a> {
    launches: &'a Launches,
    attempt_id: AttemptId,
}

impl Making<'_> {
    /// Ends with what is known now; `None` leaves it to what the daemon shows.
    pub(super) fn end(self, known: Option<Launching>) {
        if let Some(known) = known {
            self.launches.map().insert(self.attempt_id, known);
        }
    }
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        let mut map = self.launches.map();
        if matches!(map.get(&self.attempt_id), Some(Launching::Making)) {
            map.remove(&self.attempt_id);
        }
        drop(map);
        self.launches.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RunId;

    fn pulling() -> (Launches, AttemptId, CancellationToken) {
        let (launches, attempt_id) = (Launches::default(), AttemptId { run_id: RunId::generate(), attempt: 1 });
        let cancelled = CancellationToken::new();
        launches.map().insert(attempt_id, Launching::Pulling(cancelled.clone()));
        (launches, attempt_id, cancelled)
    }

    #[test]
    fn a_stop_before_the_end_of_a_pull_makes_nothing() {
        let (launches, attempt_id, cancelled) = pulling();
        assert_eq!(launches.stop(attempt_id), ToStop::Nothing);
        assert!(cancelled.is_cancelled());
        assert!(launches.begin_after_pull(attempt_id, &cancelled).is_none());
        assert!(matches!(launches.get(attempt_id), Some(Launching::NeverRan { .. })));
        // When it is asked again, the daemon's answer counts.
        assert_eq!(launches.stop(attempt_id), ToStop::Container);
    }

    #[test]
    fn a_stop_after_the_end_of_a_pull_waits_for_the_container_and_aborts_nothing() {
        let (launches, attempt_id, cancelled) = pulling();
        let making = launches.begin_after_pull(attempt_id, &cancelled).unwrap();
        assert_eq!(launches.stop(attempt_id), ToStop::NotYet);
        assert!(!cancelled.is_cancelled() && !launches.remove(attempt_id));
        making.end(Some(Launching::Started));
        assert_eq!(launches.stop(attempt_id), ToStop::Container);
        assert!(launches.remove(attempt_id) && launches.get(attempt_id).is_none());
    }

    #[test]
    fn a_launch_that_is_given_up_in_between_leaves_nothing_in_memory() {
        let (launches, attempt_id, cancelled) = pulling();
        drop(launches.begin_after_pull(attempt_id, &cancelled));
        assert!(launches.get(attempt_id).is_none());
    }
}
