//! `flotilla clusters`, `drain`, `resume`: where runs go, and where just now none.

use std::process::ExitCode;

use super::Context;
use crate::model::ClusterStatus;
use crate::wire::ClusterBody;

const DRAIN_HELP: &str = "\
Examples:
  flotilla drain batch --reason \"new disks, back at noon\"
  flotilla drain batch --offline
  flotilla resume batch

No run starts there from now on; those that have started go on, and those that wait say why.
`flotilla clusters` shows how many are left.";

/// List the clusters: their state, what runs there and what waits
#[derive(Debug, clap::Args)]
pub struct Clusters {}

/// Let no further run start on a cluster
#[derive(Debug, clap::Args)]
#[command(after_help = DRAIN_HELP)]
pub struct Drain {
    #[arg(value_name = "CLUSTER")]
    name: String,
    /// What the owners of waiting runs are told
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    reason: Option<String>,
    /// Call it offline, not in maintenance
    #[arg(long)]
    offline: bool,
}

/// Let runs start on a cluster again
#[derive(Debug, clap::Args)]
pub struct Resume {
    #[arg(value_name = "CLUSTER")]
    name: String,
}

const ADOPT_HELP: &str = "\
Where a cluster has another engine than the one that a run is on, such as a Docker daemon on a new disk,
nothing is concluded about the run, for its container may still be there. This says that it is not:
the engine that the cluster has now is asked instead, and what it does not have is lost.";

/// Say that the engine which a cluster had before is gone
#[derive(Debug, clap::Args)]
#[command(after_help = ADOPT_HELP)]
pub struct Adopt {
    #[arg(value_name = "CLUSTER")]
    name: String,
}

impl Clusters {
    pub async fn execute(self, context: &mut Context) -> anyhow::Result<ExitCode> {
        let list = context.client.clusters().await?;
        let now = context.now();
        context.output.clusters(&list, now)?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Drain {
    pub async fn execute(self, context: &mut Context) -> anyhow::Result<ExitCode> {
        let status = match self.offline {
            true => ClusterStatus::Offline,
            false => ClusterStatus::Maintenance,
        };
        set(context, &self.name, status, self.reason).await
    }
}

impl Resume {
    pub async fn execute(self, context: &mut Context) -> anyhow::Result<ExitCode> {
        set(context, &self.name, ClusterStatus::Active, None).await
    }
}

impl Adopt {
    pub async fn execute(self, context: &mut Context) -> anyhow::Result<ExitCode> {
        let adopted = context.client.adopt(&self.name).await?;
        context.output.adopted(&adopted)?;
        Ok(ExitCode::SUCCESS)
    }
}

async fn set(
    context: &mut Context,
    name: &str,
    status: ClusterStatus,
    status_reason: Option<String>,
) -> anyhow::Result<ExitCode> {
    let body = ClusterBody { status: Some(status.to_string()), status_reason, ..ClusterBody::default() };
    let cluster = context.client.change_cluster(name, &body).await?;
    context.output.cluster(&cluster)?;
    Ok(ExitCode::SUCCESS)
}
