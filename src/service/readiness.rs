//! Whether the server is of use: its database is its own and stores what it is told to, and its loops end their steps.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{Service, ServiceError};
use crate::lease::Standing;

/// An answer is good for so long: who asks often, and without a name, does not make the server write often.
const FRESH: Duration = Duration::from_secs(1);

/// A control loop that does not do what it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoopFault {
    pub name: &'static str,
    /// The cluster that it works for; `None` for the whole server's.
    pub cluster: Option<String>,
    /// How long it has not ended a step; `None` where its last one panicked.
    pub late: Option<Duration>,
}

/// Says which loops have a fault.
pub type LoopFaults = Arc<dyn Fn() -> Vec<LoopFault> + Send + Sync>;

/// Why the server is of no use now, in words for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unready(pub String);

#[derive(Default)]
pub(super) struct Readiness {
    loop_faults: Option<LoopFaults>,
    /// When the database was last asked, and what it answered.
    answer: Mutex<Option<(Instant, Result<(), Unready>)>>,
}

impl Readiness {
    pub(super) fn new(loop_faults: LoopFaults) -> Self {
        Self { loop_faults: Some(loop_faults), answer: Mutex::default() }
    }
}

impl Service {
    /// Whether the server can do its work. The database is asked by a write of its own.
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

    /// Those who ask at the same time get one answer.
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
