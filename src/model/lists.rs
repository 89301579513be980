//! Requests for lists: filters and sort fields, as they are named on the wire.

use std::str::FromStr;

use jiff::Timestamp;

use super::{EnvVar, Outcome, Status};

/// Several values of one field match any of them; all fields must match.
#[derive(Debug, Clone, Default)]
pub struct DefinitionFilter {
    pub image: Vec<String>,
    pub group_name: Vec<String>,
    /// A part of the alias, ignoring case.
    pub alias: Vec<String>,
    pub tag: Vec<String>,
    pub env: Vec<EnvVar>,
    /// Words that must each be a part of the alias, the group, the image or a tag, ignoring case.
    pub words: Vec<String>,
}

/// How many words of a search are used: more than anyone types.
const SEARCHED_WORDS: usize = 10;

impl DefinitionFilter {
    /// Matches what contains every word of a search text.
    #[must_use]
    pub fn search(text: &str) -> Self {
        let words = text.split_whitespace().take(SEARCHED_WORDS).map(str::to_owned).collect();
        Self { words, ..Self::default() }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DefinitionSort {
    Alias,
    GroupName,
    Image,
    Memory,
    Cpu,
    TaskType,
    DefinitionId,
    CreatedAt,
    UpdatedAt,
}

impl DefinitionSort {
    pub const ALL: [Self; 9] = [
        Self::Alias,
        Self::GroupName,
        Self::Image,
        Self::Memory,
        Self::Cpu,
        Self::TaskType,
        Self::DefinitionId,
        Self::CreatedAt,
        Self::UpdatedAt,
    ];

    /// The field's name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Alias => "alias",
            Self::GroupName => "group_name",
            Self::Image => "image",
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::TaskType => "task_type",
            Self::DefinitionId => "definition_id",
            Self::CreatedAt => "created_at",
            Self::UpdatedAt => "updated_at",
        }
    }
}

impl FromStr for DefinitionSort {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|field| field.as_str() == text).ok_or(())
    }
}

/// Names in use, found by a part of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameList {
    Groups,
    Tags,
}

/// Several values of one field match any of them; all fields must match.
#[derive(Debug, Clone, Default)]
pub struct RunFilter {
    pub status: Vec<Status>,
    /// Only runs that have stopped have one.
    pub outcome: Vec<Outcome>,
    /// Cluster names as given at the launch.
    pub cluster_name: Vec<String>,
    /// The actual clusters, whatever name was given.
    pub resolved_cluster: Vec<String>,
    pub definition_id: Vec<String>,
    pub alias: Vec<String>,
    pub group_name: Vec<String>,
    pub image: Vec<String>,
    pub user: Vec<String>,
    pub env: Vec<EnvVar>,
    pub queued_at: TimeRange,
    pub started_at: TimeRange,
    pub finished_at: TimeRange,
}

/// From a moment on, and before another. What has not happened yet matches only a range without bounds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TimeRange {
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
}

impl TimeRange {
    #[must_use]
    pub const fn is_unbounded(&self) -> bool {
        self.since.is_none() && self.until.is_none()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunSort {
    QueuedAt,
    StartedAt,
    FinishedAt,
    Status,
    Alias,
    GroupName,
    Image,
    Cluster,
    Engine,
    User,
    ExitCode,
    Memory,
    Cpu,
    DefinitionId,
    RunId,
}

impl RunSort {
    pub const ALL: [Self; 15] = [
        Self::QueuedAt,
        Self::StartedAt,
        Self::FinishedAt,
        Self::Status,
        Self::Alias,
        Self::GroupName,
        Self::Image,
        Self::Cluster,
        Self::Engine,
        Self::User,
        Self::ExitCode,
        Self::Memory,
        Self::Cpu,
        Self::DefinitionId,
        Self::RunId,
    ];
    /// Another name for [`RunSort::Cluster`]: existing clients sort by the name that the field has in `RunStatus`.
    pub const CLUSTER_IN_STATUS: &str = "cluster_name";

    /// The field's name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QueuedAt => "queued_at",
            Self::StartedAt => "started_at",
            Self::FinishedAt => "finished_at",
            Self::Status => "status",
            Self::Alias => "alias",
            Self::GroupName => "group_name",
            Self::Image => "image",
            Self::Cluster => "cluster",
            Self::Engine => "engine",
            Self::User => "user",
            Self::ExitCode => "exit_code",
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::DefinitionId => "definition_id",
            Self::RunId => "run_id",
        }
    }
}

impl FromStr for RunSort {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if text == Self::CLUSTER_IN_STATUS {
            return Ok(Self::Cluster);
        }
        Self::ALL.into_iter().find(|field| field.as_str() == text).ok_or(())
    }
}
