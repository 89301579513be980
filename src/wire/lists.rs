//! List responses on the wire: one page, how it was paginated, and the filters used.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Run, TaskDefinition};

/// A filter's value: a string if given once, a list if given several times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DefinitionList {
    pub definitions: Vec<TaskDefinition>,
    /// Total number of matches.
    pub total: u64,
    pub limit: u32,
    pub offset: u32,
    pub sort_by: String,
    pub order: String,
    /// Filters by environment variable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env_filters: Option<BTreeMap<String, OneOrMany>>,
    /// The request's other filters.
    #[serde(flatten)]
    pub filters: BTreeMap<String, OneOrMany>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RunList {
    pub history: Vec<Run>,
    /// Total number of matches.
    pub total: u64,
    pub limit: u32,
    pub offset: u32,
    pub sort_by: String,
    pub order: String,
    /// Filters by environment variable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env_filters: Option<BTreeMap<String, OneOrMany>>,
    /// The request's other filters.
    #[serde(flatten)]
    pub filters: BTreeMap<String, OneOrMany>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GroupList {
    pub groups: Vec<String>,
    pub total: u64,
    pub limit: u32,
    pub offset: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TagList {
    pub tags: Vec<String>,
    pub total: u64,
    pub limit: u32,
    pub offset: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Names of the clusters that runs can be launched on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClusterList {
    pub clusters: Vec<String>,
}
