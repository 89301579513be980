//! Apply: stores a decided transition of one of the cluster's runs, and does what follows from it in this process.

use super::Control;
use super::ages::Phase;
use crate::control::apply::apply;
use crate::model::{Change, Run, Status};

impl Control {
    /// Returns whether the transition was stored; see [`apply`].
    pub(super) async fn apply(&self, run: &Run, change: Change) -> bool {
        if !apply(&self.store, &self.wake, run, &change).await {
            return false;
        }
        if change.to == Status::Running {
            self.state.ages.begin(run.attempt_id(), Phase::Running, &self.clock);
        }
        if let Some(due_at) = change.due_at {
            self.retries.add(run.attempt_id(), due_at, &self.clock);
        }
        if change.to.is_terminal() || change.to == Status::NeedsRetry {
            self.wake.queue();
            // What the attempt left on the engine has to be removed.
            self.reports.changed(run.attempt_id());
        }
        true
    }
}
