//! Whether the server is ready: it owns its database and can write to it, and its loops complete their steps.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{Service, ServiceError};
use crate::lease::Standing;

/// How long an answer is cached: frequent anonymous requests do not cause frequent writes.
const FRESH: Duration = Duration::from_secs(1);

/// A control loop that is not working.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoopFault {
    pub name: &'static str,
    /// The cluster that it works for; `None` for the loops of the whole server.
    pub cluster: Option<String>,
    /// Time without a completed step; `None` if the last step panicked.
    pub late: Option<Duration>,
}

/// Returns the faulty loops.
pub type LoopFaults = Arc<dyn Fn() -> Vec<LoopFault> + Send + Sync>;

/// Why the server is not ready, in words for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unready(pub String);

#[derive(Default)]
pub(super) struct Readiness {
    loop_faults: Option<LoopFaults>,
    /// When the database was last checked, and the result.
    answer: Mutex<Option<(Instant, Result<(), Unready>)>>,
}

impl Readiness {
    pub(super) fn new(loop_faults: LoopFaults) -> Self {
        Self { loop_faults: Some(loop_faults), answer: Mutex::default() }
    }
}

impl Service {
    /// Whether the server can do its work. The database is checked with a write of its own.
    pub async fn ready(&self) -> Result<(), Unready> {
        self.may_decide()?;
        self.database_answers().await?;
        let fault = self.readiness.loop_faults.as_ref().and_then(|faults| faults().into_iter().next());
        fault.map_or(Ok(()), |fault| Err(Unready(words(&fault))))
    }

    /// Whether the database is still this server's.
    fn may_decide(&self) -> Result<(), Unready> {
        match self.lease.standing() {
            Standing::Held { .. } => Ok(()),
            Standing::Unconfirmed => Err(Unready(
                "the lease on the database could not be renewed in time; nothing is done to any run".to_owned(),
            )),
            Standing::Lost { by } => Err(Unready(format!(
                "another server has taken over the database ({by}); this one does nothing to any run until that one has stopped"
            ))),
        }
    }

    /// Concurrent requests share one answer.
    async fn database_answers(&self) -> Result<(), Unready> {
        let mut answer = self.readiness.answer.lock().await;
        if let Some((at, known)) = &*answer
            && at.elapsed() < FRESH
        {
            return known.clone();
        }
        let checked = self.store.check_writable().await.map_err(ServiceError::from);
        let result = checked.map_err(|error| {
            tracing::warn!(error = &error as &dyn std::error::Error, "not ready");
            Unready(match error {
                ServiceError::NoSpace(_) => "the disk that holds the database is full".to_owned(),
                ServiceError::TookTooLong(_) => "the database is too slow".to_owned(),
                _ => "the database does not answer, or can't be written to".to_owned(),
            })
        });
        *answer = Some((Instant::now(), result.clone()));
        result
    }
}

fn words(fault: &LoopFault) -> String {
    let of = fault.cluster.as_ref().map(|cluster| format!(" of cluster {cluster}")).unwrap_or_default();
    match fault.late {
        Some(late) => {
            format!("the control loop `{}`{of} has not ended a step for {} s", fault.name, late.as_secs())
        }
        None => format!("the last step of the control loop `{}`{of} panicked; the server's log says how", fault.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_loop_is_named_with_its_cluster() {
        let late = |cluster: Option<&str>| LoopFault {
            name: "watch",
            cluster: cluster.map(str::to_owned),
            late: Some(Duration::from_millis(61_500)),
        };
        let of_cluster = "the control loop `watch` of cluster local has not ended a step for 61 s";
        assert_eq!(words(&late(Some("local"))), of_cluster);
        assert_eq!(words(&late(None)), "the control loop `watch` has not ended a step for 61 s");
        let panicked = LoopFault { late: None, ..late(Some("local")) };
        let of_cluster =
            "the last step of the control loop `watch` of cluster local panicked; the server's log says how";
        assert_eq!(words(&panicked), of_cluster);
    }
}
