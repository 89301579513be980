//! A cluster as its users and operators see it: whether it accepts runs, what it has, and what is in use.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::run::as_word;
use super::{EngineIdentity, Faults, Resources, UnknownWord, limits};

/// The status set by the operator. Only an active cluster is handed runs; those that it already has continue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum ClusterStatus {
    #[default]
    Active,
    /// It will be back later.
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
    /// The keys and values of its section, if the configuration file has none for it: it was created by a request.
    pub settings: Option<Settings>,
    pub updated_at: Timestamp,
}

pub type Settings = serde_json::Map<String, serde_json::Value>;

/// The operator's information for users of a cluster. `allowed_tiers` is enforced, the rest is only shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterDetails {
    /// A run must name one of these tiers; if empty, every run is accepted.
    pub allowed_tiers: Vec<String>,
    pub capabilities: Vec<String>,
    pub region: String,
    pub namespace: String,
    pub cluster_version: String,
}

/// A request's changes to a cluster; omitted fields stay unchanged.
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
    /// A cluster with default values.
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

    /// The record after a change. A change of status drops the reason given for the old status.
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

/// The last known condition of a cluster's engine, as reported by the engine itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Condition {
    /// Since when the engine has not answered, and why.
    pub unreachable: Option<(Timestamp, String)>,
    /// The identity of the engine that answers; `None` if none does.
    pub identity: Option<EngineIdentity>,
    /// The total that its machines offer to runs.
    pub capacity: Resources,
}

/// How much of a cluster is in use, and how much waits for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Load {
    /// Numbers of runs by status, without STOPPED ones.
    pub queued: u64,
    pub pending: u64,
    pub running: u64,
    pub needs_retry: u64,
    /// Resources reserved by the PENDING and RUNNING runs.
    pub reserved: Resources,
}

impl Load {
    /// How many runs its engine has.
    #[must_use]
    pub const fn taken(&self) -> u64 {
        self.pending + self.running
    }
}

/// A cluster's current state: its record, the condition of its engine, and its load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    pub record: ClusterRecord,
    /// The kind of engine; `None` if this server has no cluster of this name, whose runs then stay as they are.
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
