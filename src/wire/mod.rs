//! Request and response bodies, shared by the server's routes and our own client.
//!
//! Field names are those of the Flotilla API. Where its documents differ, a request may use either name and a
//! response carries both. Responses never contain `null`: a field without a value is omitted, except the texts that
//! clients have always received, which are empty. docs/api.md has the table.

/// Header of a plain-text log; `false` if the end of the log is missing.
pub const LOG_COMPLETE: &str = "log-complete";
/// Header of every response with the server's time, to the millisecond.
pub const SERVER_TIME: &str = "x-server-time";

mod body;
mod cluster;
mod definition;
mod launch;
mod lists;
mod log;
mod run;

pub use body::{BodyError, FromBody, parse_body};
pub use cluster::{
    Cluster, ClusterAdopted, ClusterBody, ClusterCreated, ClusterDeleted, ClusterDetailList, ClusterUpdated,
};
pub use definition::{DefinitionBody, Deregistered, EnvVarBody, TaskDefinition};
pub use launch::LaunchBody;
pub use lists::{ClusterList, DefinitionList, GroupList, OneOrMany, RunList, TagList};
pub use log::{LogChunk, LogEnd};
pub use run::{
    ErrorBody, EventList, Health, PodEvent, Run, RunInstance, RunStatus, SpawnedRun, StatusUpdate, StoppedRun,
    UpdatedRun,
};
