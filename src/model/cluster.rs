//! A cluster as its users and operators see it: whether it takes runs, what it has, and what is taken of it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::run::as_word;
use super::{EngineIdentity, Faults, Resources, UnknownWord, limits};

/// What the operator says of a cluster. Runs are handed to an active one only; those that it has already go on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum ClusterStatus {
    #[default]
    Active,
    /// It comes back by and by.
    Maintenance,
    Offline,
}

impl ClusterStatus {
    pub const ALL: [Self; 3] = [Self::Active, Self::Maintenance, Self::Offline];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Maintenance => "maintenance",
            Self::Offline => "offline",
        }
    }
}

as_word!(ClusterStatus);

/// What is stored about a cluster, for all servers of the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterRecord {
    pub name: String,
    pub status: ClusterStatus,
    pub status_reason: String,
    pub status_since: Timestamp,
    pub details: ClusterDetails,
    /// The keys and values of its section, where the configuration file has none for it: it was created by a request.
    pub settings: Option<Settings>,
    pub updated_at: Timestamp,
}

pub type Settings = serde_json::Map<String, serde_json::Value>;

/// What the operator tells people about a cluster. `allowed_tiers` is held to, the rest is for reading.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterDetails {
    /// A run must name one of these tiers; empty lets every run in.
    pub allowed_tiers: Vec<String>,
    pub capabilities: Vec<String>,
    pub region: String,
    pub namespace: String,
    pub cluster_version: String,
}

/// What a request changes about a cluster; what it leaves out stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterChange {
    pub status: Option<ClusterStatus>,
    pub status_reason: Option<String>,
    pub allowed_tiers: Option<Vec<String>>,
    pub capabilities: Option<Vec<String>>,
    pub region: Option<String>,
    pub namespace: Option<String>,
    pub cluster_version: Option<String>,
    pub settings: Option<Settings>,
}

impl ClusterRecord {
    /// A cluster that nobody has said anything about.
    #[must_use]
    pub fn new(name: impl Into<String>, now: Timestamp) -> Self {
        Self {
            name: name.into(),
            status: ClusterStatus::default(),
            status_reason: String::new(),
            status_since: now,
            details: ClusterDetails::default(),
            settings: None,
            updated_at: now,
        }
    }

    /// The record after a change. A status that changes forgets the reason of the one before.
    pub fn changed(mut self, change: ClusterChange, now: Timestamp) -> Result<Self, Faults> {
        change.check()?;
        if let Some(status) = change.status
            && status != self.status
        {
            (self.status, self.status_since) = (status, now);
            self.status_reason.clear();
        }
        let details = &mut self.details;
        set(&mut self.status_reason, change.status_reason);
        set(&mut details.allowed_tiers, change.allowed_tiers);
        set(&mut details.capabilities, change.capabilities);
        set(&mut details.region, change.region);
        set(&mut details.namespace, change.namespace);
        set(&mut details.cluster_version, change.cluster_version);
        self.settings = change.settings.or(self.settings);
        self.updated_at = now;
        Ok(self)
    }
}

fn set<T>(value: &mut T, change: Option<T>) {
    if let Some(change) = change {
        *value = change;
    }
}

impl ClusterChange {
    fn check(&self) -> Result<(), Faults> {
        let mut faults = Faults::default();
        if let Some(reason) = &self.status_reason {
            faults.check_text("status_reason", reason, limits::TEXT_BYTES);
        }
        for (field, text) in
            [("region", &self.region), ("namespace", &self.namespace), ("cluster_version", &self.cluster_version)]
        {
            faults.check_line(field, text.as_deref().unwrap_or_default(), limits::NAME_BYTES);
        }
        for (field, list) in [("allowed_tiers", &self.allowed_tiers), ("capabilities", &self.capabilities)] {
            let list = list.as_deref().unwrap_or_default();
            if list.len() > limits::LIST_ITEMS {
                faults.add(field, format!("has {} items, at most {} are allowed", list.len(), limits::LIST_ITEMS));
            }
            for item in list {
                faults.check_name(field, item);
            }
        }
        faults.into_result(())
    }
}

/// What a cluster's engine tells about itself, as far as it was last heard of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Condition {
    /// Since when the engine does not answer, and why.
    pub unreachable: Option<(Timestamp, String)>,
    /// Which engine answers; `None` where none does.
    pub identity: Option<EngineIdentity>,
    /// What its machines have for runs, all together.
    pub capacity: Resources,
}

/// What of a cluster is in use, and what waits for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Load {
    /// Runs by status; those that have stopped don't count.
    pub queued: u64,
    pub pending: u64,
    pub running: u64,
    pub needs_retry: u64,
    /// What the pending and running ones asked for.
    pub reserved: Resources,
}

impl Load {
    /// How many runs its engine has.
    #[must_use]
    pub const fn taken(&self) -> u64 {
        self.pending + self.running
    }
}

/// A cluster as it stands: what was said of it, how its engine is, and what it is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    pub record: ClusterRecord,
    /// The kind of engine; `None` where this server has no such cluster, and runs of it stay as they are.
    pub engine: Option<&'static str>,
    /// Whether a launch that names no cluster goes there.
    pub is_default: bool,
    pub max_running: Option<u32>,
    pub condition: Condition,
    pub load: Load,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn record() -> ClusterRecord {
        ClusterRecord::new("batch", at("2026-01-01T00:00:00Z"))
    }

    #[test]
    fn a_status_that_changes_forgets_the_reason_of_the_one_before() {
        let noon = at("2026-01-01T12:00:00Z");
        let drain = ClusterChange {
            status: Some(ClusterStatus::Maintenance),
            status_reason: Some("new disks".into()),
            ..ClusterChange::default()
        };
        let drained = record().changed(drain.clone(), noon).unwrap();
        assert_eq!((drained.status, drained.status_reason.as_str()), (ClusterStatus::Maintenance, "new disks"));
        assert_eq!(drained.status_since, noon);

        let later = at("2026-01-01T13:00:00Z");
        let again = drained.clone().changed(ClusterChange { status_reason: None, ..drain }, later).unwrap();
        assert_eq!((again.status_since, again.status_reason.as_str()), (noon, "new disks"), "it did not change");
        let back = ClusterChange { status: Some(ClusterStatus::Active), ..ClusterChange::default() };
        let back = drained.changed(back, later).unwrap();
        assert_eq!((back.status_since, back.status_reason.as_str()), (later, ""));
    }

    #[test]
    fn what_a_change_leaves_out_stays() {
        let tiers = ClusterChange { allowed_tiers: Some(vec!["gold".into()]), ..ClusterChange::default() };
        let first = record().changed(tiers, at("2026-01-01T01:00:00Z")).unwrap();
        let region = ClusterChange { region: Some("north".into()), ..ClusterChange::default() };
        let second = first.changed(region, at("2026-01-01T02:00:00Z")).unwrap();
        assert_eq!(second.details.allowed_tiers, ["gold"]);
        assert_eq!(second.details.region, "north");
        let emptied = ClusterChange { allowed_tiers: Some(vec![]), ..ClusterChange::default() };
        assert!(second.changed(emptied, at("2026-01-01T03:00:00Z")).unwrap().details.allowed_tiers.is_empty());
    }

    #[test]
    fn everything_wrong_with_a_change_is_told_together() {
        let change = ClusterChange {
            status_reason: Some("\0".into()),
            region: Some("a\nb".into()),
            allowed_tiers: Some(vec![String::new()]),
            ..ClusterChange::default()
        };
        let faults = record().changed(change, at("2026-01-01T00:00:00Z")).unwrap_err().to_string();
        for field in ["status_reason", "region", "allowed_tiers"] {
            assert!(faults.contains(field), "{field}: {faults}");
        }
    }
}
