//! The bodies on the wire: what clients send and get, shared by the server's routes and our own client.
//!
//! The field names are the Flotilla API's. Where its documents differ, a request may use either and a response carries
//! both. Every field of a response is always there, as `null` where there is nothing to say.

mod body;
mod cluster;
mod definition;
mod launch;
mod lists;
mod log;
mod run;

pub use body::{BodyError, parse_body, parse_launch_body};
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
