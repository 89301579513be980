//! Apply: stores a decided transition of a run.

use crate::model::{Change, Outcome, Run};
use crate::store::Store;
use crate::wake::Wake;

/// Stores a transition and wakes everything that waits for the run. Returns `false`, with nothing stored, if the run
/// has changed since the decision was made: the other writer acted on newer state.
pub(super) async fn apply(store: &Store, wake: &Wake, run: &Run, change: &Change) -> bool {
    let (run_id, to) = (run.run_id, change.to);
    match store.apply(run_id, change).await {
        Ok(true) => {
            let (outcome, exit_code) = (change.outcome.map(Outcome::as_str), change.exit_code);
            let cluster = run.execution.resolved_cluster.as_str();
            tracing::info!(%run_id, cluster, status = %to, outcome, exit_code, "status changed");
            wake.changed(run_id);
            true
        }
        Ok(false) => {
            tracing::debug!(%run_id, status = %to, "the run had changed before");
            false
        }
        Err(error) => {
            tracing::warn!(%run_id, error = &error as &dyn std::error::Error, "a status change was not stored; it will be observed again");
            false
        }
    }
}
