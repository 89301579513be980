//! The use cases: what people and programs do with definitions and runs, called alike by the API and the pages.
//!
//! It knows the store and the logs, and no engine: whether a cluster can run something reaches it as a function.

mod definitions;
mod error;
mod launches;
mod logs;
mod runs;

use std::sync::Arc;

use futures_util::future::BoxFuture;

pub use definitions::DefinitionChange;
pub use error::ServiceError;
pub use logs::{LogFollower, LogRead};
pub use runs::RunDetails;

use crate::clock::Clock;
use crate::logs::Logs;
use crate::model::{LaunchPolicy, TaskSpec};
use crate::store::Store;
use crate::wake::Wake;

/// The cluster of a launch that names none.
pub const DEFAULT_CLUSTER: &str = "default";

/// Whether a cluster could ever run this; the error is for the client. What can't be found out now is no reason to refuse.
pub type LaunchCheck = Arc<dyn Fn(TaskSpec) -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// A cluster, as far as launches need to know it.
#[derive(Clone)]
pub struct Cluster {
    pub name: String,
    /// The cluster that this name stands for: itself, or another, as `default` may.
    pub resolved_name: String,
    /// The kind of engine it has.
    pub engine: &'static str,
    pub check: LaunchCheck,
}

pub struct Service {
    store: Arc<Store>,
    logs: Arc<Logs>,
    wake: Wake,
    clock: Clock,
    policy: LaunchPolicy,
    /// In the order they are listed.
    clusters: Vec<Cluster>,
}

impl Service {
    #[must_use]
    pub const fn new(
        store: Arc<Store>,
        logs: Arc<Logs>,
        wake: Wake,
        clock: Clock,
        policy: LaunchPolicy,
        clusters: Vec<Cluster>,
    ) -> Self {
        Self { store, logs, wake, clock, policy, clusters }
    }

    /// The names of the clusters that runs can be launched on.
    #[must_use]
    pub fn cluster_names(&self) -> Vec<String> {
        self.clusters.iter().map(|cluster| cluster.name.clone()).collect()
    }

    /// The clusters that runs can be launched on, in the order they are listed.
    #[must_use]
    pub fn clusters(&self) -> &[Cluster] {
        &self.clusters
    }

    #[must_use]
    pub const fn is_owner_required(&self) -> bool {
        self.policy.is_owner_required
    }

    /// The time by the server's clock, which what it stores is told by.
    #[must_use]
    pub fn now(&self) -> jiff::Timestamp {
        self.clock.now()
    }

    /// Whether the database answers: what a server needs to be of use.
    pub async fn ready(&self) -> Result<(), ServiceError> {
        Ok(self.store.ping().await?)
    }
}
