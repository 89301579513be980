//! Attempts that this process is starting, and what it knows of those that it started.
//!
//! ```text
//!            ┌─────── stop ───────┐
//!  Pulling ──┤                    ├─→ NeverRan
//!            └─→ Making ─→ failed ┘
//!                      └─→ Started
//! ```
//!
//! Only a pull can be given up. Once the daemon has been asked to make a container, the answer is waited for, and a stop
//! is then a matter between the daemon and us. What is kept here dies with the process, and counts only where the daemon
//! shows no container.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::model::{AttemptId, StartFault};

/// How long it is known why an attempt never ran, if nobody removes it.
const VERDICT_KEPT_FOR: Duration = Duration::from_hours(1);

#[derive(Default)]
pub(super) struct Launches {
    map: Mutex<HashMap<AttemptId, Launching>>,
    /// A container was made, or could not be.
    ended: Notify,
}

#[derive(Debug, Clone)]
pub(super) enum Launching {
    /// Its image is being fetched, until this is cancelled.
    Pulling(CancellationToken),
    /// The daemon is asked to make its container and to start it.
    Making,
    /// The daemon was asked to start its container, and did not refuse.
    Started,
    NeverRan {
        reason: String,
        fault: StartFault,
        since: Instant,
    },
}

/// What is to be done for a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ToStop {
    /// Nothing: there is no container yet, and now there won't be one.
    Nothing,
    /// Nothing now: whether there is a container is not known yet. Whoever makes it pokes when it is.
    NotYet,
    /// What the daemon shows has to be stopped.
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

    /// Forgets an attempt, and gives up its pull; `false` where its container is being made, so that it has to stay.
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

    /// Gives up a pull, or says what else there is to stop.
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

    /// Marks an attempt as being made, after any other call to launch it. Otherwise says what is known of it already.
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

    /// The same after the pull that `cancelled` would have given up; `None` where it was given up.
    pub(super) fn begin_after_pull(&self, attempt_id: AttemptId, cancelled: &CancellationToken) -> Option<Making<'_>> {
        let mut map = self.map();
        // Whoever cancels does so while holding the map.
        if cancelled.is_cancelled() || !matches!(map.get(&attempt_id), Some(Launching::Pulling(_))) {
            return None;
        }
        map.insert(attempt_id, Launching::Making);
        Some(Making { launches: self, attempt_id })
    }

    /// Notes why an attempt whose image was to be fetched never ran, unless that was given up.
    pub(super) fn fail_pull(&self, attempt_id: AttemptId, cancelled: &CancellationToken, verdict: Launching) {
        let mut map = self.map();
        if !cancelled.is_cancelled() && matches!(map.get(&attempt_id), Some(Launching::Pulling(_))) {
            map.insert(attempt_id, verdict);
        }
    }
}

/// The daemon is asked to make and to start an attempt's container. However that ends, also by being dropped, it is not
/// being made afterwards.
pub(super) struct Making<'a> {
    launches: &'a Launches,
    attempt_id: AttemptId,
}

impl Making<'_> {
    /// Ends with what is known now; `None` leaves everything to what the daemon shows.
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
        // Asked again, the daemon's word counts.
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
