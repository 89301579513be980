//! The bodies on the wire: what clients send and get, shared by the server's routes and our own client.
//!
//! The field names are the Flotilla API's. Where its documents differ, a request may use either and a response carries
//! both. No answer holds `null`: a field without a value is left out, but for the texts that clients have always been given,
//! which are empty. docs/api.md has the table.

/// The header of a log as plain text that says `false` where the end of the log is missing.
pub const LOG_COMPLETE: &str = "log-complete";
/// The header of each answer that says what time it is at the server, to the millisecond.
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
