//! A cluster as shown on pages: its state in a word, and its load.

use jiff::Timestamp;

use super::links;
use super::state::Badge;
use super::words::{self, Moment};
use crate::http::ui::charts::meter::bar;
use crate::http::ui::charts::svg::Svg;
use crate::model::{Cluster, ClusterStatus};

pub struct ClusterCard {
    pub name: String,
    pub address: String,
    pub is_default: bool,
    pub state: Badge,
    /// Why it takes no runs, or why it can't be reached.
    pub reason: String,
    pub since: Option<Moment>,
    /// `3 of at most 16`, and that ratio as a bar.
    pub running: String,
    pub running_bar: Option<Svg>,
    pub waiting: u64,
    /// What its runs requested of its capacity, per resource: the name, in words, as a bar.
    pub reserved: Vec<(&'static str, String, Option<Svg>)>,
}

impl ClusterCard {
    pub fn new(cluster: &Cluster, now: Timestamp) -> Self {
        let Cluster { record, load, condition, .. } = cluster;
        let (state, reason, since) = state(cluster);
        let (running, taken, whole) = (load.taken(), load.reserved, condition.capacity);
        Self {
            address: links::cluster(&record.name),
            name: record.name.clone(),
            is_default: cluster.is_default,
            state,
            reason,
            since: since.map(|at| Moment { at, now }),
            running: match cluster.max_running {
                Some(most) => format!("{running} of at most {most}"),
                None => running.to_string(),
            },
            running_bar: cluster.max_running.map(|most| bar(i64::try_from(running).unwrap_or(i64::MAX), most.into())),
            waiting: load.queued + load.needs_retry,
            reserved: [
                reserved("Memory", taken.memory_mb, whole.memory_mb, words::megabytes),
                reserved("CPU", taken.cpu_millis, whole.cpu_millis, words::cores),
                // Most clusters have none, which need not be shown.
                reserved("GPUs", taken.gpus, whole.gpus.filter(|gpus| *gpus > 0), |gpus| gpus.to_string()),
            ]
            .into_iter()
            .flatten()
            .collect(),
        }
    }

    /// Whether it currently takes runs.
    pub fn is_well(&self) -> bool {
        self.state.name == "succeeded"
    }
}

/// The conditions that keep it from taking runs come first.
fn state(cluster: &Cluster) -> (Badge, String, Option<Timestamp>) {
    let record = &cluster.record;
    let look = |name, word| Badge { name, word };
    if cluster.engine.is_none() {
        let reason = "The configuration of this server has no such cluster; runs that wait for it stay as they are.";
        return (look("rejected", "Unknown"), reason.to_owned(), None);
    }
    let said = (record.status_reason.clone(), Some(record.status_since));
    match (record.status, &cluster.condition.unreachable) {
        (ClusterStatus::Maintenance, _) => (look("timed-out", "Maintenance"), said.0, said.1),
        (ClusterStatus::Offline, _) => (look("rejected", "Offline"), said.0, said.1),
        (ClusterStatus::Active, Some((since, reason))) => (look("lost", "Unreachable"), reason.clone(), Some(*since)),
        (ClusterStatus::Active, None) => (look("succeeded", "Active"), said.0, None),
    }
}

fn reserved(
    name: &'static str,
    reserved: Option<i64>,
    whole: Option<i64>,
    word: impl Fn(i64) -> String,
) -> Option<(&'static str, String, Option<Svg>)> {
    let reserved = reserved.unwrap_or(0);
    match whole {
        Some(whole) => Some((name, format!("{} of {}", word(reserved), word(whole)), Some(bar(reserved, whole)))),
        None if reserved > 0 => Some((name, word(reserved), None)),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::sample;
    use crate::model::{Condition, Load, Resources};

    #[test]
    fn what_keeps_a_cluster_from_taking_runs_is_its_state() {
        let state = |cluster: &Cluster| ClusterCard::new(cluster, sample::now()).state.word;
        let mut cluster = sample::cluster();
        cluster.record.status = ClusterStatus::Active;
        assert_eq!(state(&cluster), "Active");
        cluster.condition.unreachable = Some((sample::now(), "no route".to_owned()));
        assert_eq!(state(&cluster), "Unreachable");
        cluster.record.status = ClusterStatus::Maintenance;
        assert_eq!(state(&cluster), "Maintenance");
        cluster.engine = None;
        assert_eq!(state(&cluster), "Unknown");
    }

    #[test]
    fn load_is_told_beside_what_there_is() {
        let cluster = Cluster {
            max_running: Some(4),
            load: Load {
                running: 1,
                pending: 2,
                queued: 5,
                needs_retry: 1,
                reserved: Resources { memory_mb: Some(512), gpus: Some(1), ..Resources::default() },
            },
            condition: Condition {
                capacity: Resources { memory_mb: Some(2048), gpus: Some(4), ..Resources::default() },
                ..Condition::default()
            },
            ..sample::cluster()
        };
        let card = ClusterCard::new(&cluster, sample::now());
        assert_eq!((card.running.as_str(), card.waiting), ("3 of at most 4", 6));
        let reserved: Vec<_> = card.reserved.iter().map(|(name, text, _)| (*name, text.as_str())).collect();
        assert_eq!(reserved, [("Memory", "512 MB of 2 GB"), ("GPUs", "1 of 4")]);
        let unlimited = ClusterCard::new(&Cluster { max_running: None, ..cluster }, sample::now());
        assert!(unlimited.running == "3" && unlimited.running_bar.is_none());
    }
}
