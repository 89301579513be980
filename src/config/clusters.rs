//! The clusters: one section each, two built-in ones, and the one that `default` refers to.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use serde_json::Map;

use crate::engine::settings::EngineSettings;
use crate::model::Settings;
use crate::settings::checks::within;
use crate::settings::{Reader, Section};

/// The cluster of launches that name none.
pub const DEFAULT_CLUSTER: &str = "default";
/// The cluster of the server's own machine, which exists unless its section says otherwise.
pub const LOCAL_CLUSTER: &str = "local";
/// The cluster of a Docker Engine detected without a configuration.
pub const DOCKER_CLUSTER: &str = "docker";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    pub engine: EngineSettings,
    /// How many runs may be pending or running there at a time; `None` is no limit.
    pub max_running: Option<NonZeroU32>,
}

/// The cluster that `default` refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DefaultCluster {
    Named(String),
    /// No clusters are configured: a Docker Engine if one answers at the usual address, else [`LOCAL_CLUSTER`].
    WhatIsFound,
}

/// The clusters of the file and [`LOCAL_CLUSTER`], by name, and the target of `default`.
pub(super) fn read_all(reader: &mut Reader) -> (BTreeMap<String, Cluster>, DefaultCluster) {
    let configured = reader.sections_below("clusters", cluster_name);
    let mut names = configured.clone();
    if !names.iter().any(|name| name == LOCAL_CLUSTER) {
        names.push(LOCAL_CLUSTER.to_owned());
    }
    let mut clusters = BTreeMap::new();
    for name in names {
        if let Some(cluster) = Cluster::read(&mut reader.section_below("clusters", &name), &name) {
            clusters.insert(name, cluster);
        }
    }
    let default = read_default(reader, &clusters, &configured);
    (clusters, default)
}

/// Set by `default_cluster`; else a section of that name, or the only cluster in the file besides the local one.
fn read_default(reader: &mut Reader, clusters: &BTreeMap<String, Cluster>, configured: &[String]) -> DefaultCluster {
    let mut section = reader.section("launch");
    let known = |name: &str| match clusters.contains_key(name) {
        true => Ok(Some(name.to_owned())),
        false => {
            let names: Vec<_> = clusters.keys().map(String::as_str).collect();
            Err(format!("must be one of the clusters ({}), not {name:?}", names.join(", ")))
        }
    };
    let named = section.text("default_cluster", None, known);
    let is_other = |name: &&String| clusters.contains_key(*name) && *name != LOCAL_CLUSTER;
    let others: Vec<_> = configured.iter().filter(is_other).collect();
    match (named, others.as_slice()) {
        (Some(name), _) => DefaultCluster::Named(name),
        (None, _) if clusters.contains_key(DEFAULT_CLUSTER) => DefaultCluster::Named(DEFAULT_CLUSTER.to_owned()),
        (None, [only]) => DefaultCluster::Named((*only).clone()),
        // A section that only tunes the local cluster does not select a default.
        (None, []) if clusters.contains_key(LOCAL_CLUSTER) => DefaultCluster::WhatIsFound,
        (None, _) => {
            section.fault("names no `default_cluster`, and it is not clear which cluster is meant");
            DefaultCluster::WhatIsFound
        }
    }
}

impl Cluster {
    /// The cluster defined by these keys and values; the error lists all faults.
    pub fn from_settings(name: &str, settings: &Settings) -> Result<Self, String> {
        cluster_name(name).map_err(|message| format!("`name` {message}"))?;
        if [DEFAULT_CLUSTER, LOCAL_CLUSTER].contains(&name) {
            return Err(format!("`name` must not be {name}, which only the server's own configuration can set up"));
        }
        let clusters = Map::from_iter([(name.to_owned(), settings.clone().into())]);
        let mut reader = Reader::json(&Map::from_iter([("clusters".to_owned(), clusters.into())]));
        // `clusters` is a section that is known.
        reader.sections_below("clusters", cluster_name);
        let cluster = Self::read(&mut reader.section_below("clusters", name), name);
        reader.finish().map_err(|faults| faults.join("; "))?;
        let cluster = cluster.ok_or("`enabled` must not be false; make the cluster `offline`")?;
        // All servers of the database get this cluster.
        if cluster.engine.is_of_one_machine() {
            return Err("`engine` must not be `local`, which belongs to one server's machine".to_owned());
        }
        Ok(cluster)
    }

    /// `None` if it is disabled.
    fn read(section: &mut Section<'_>, name: &str) -> Option<Self> {
        // A forgotten `engine` must not silently run on the server's machine what was meant for another place.
        if name != LOCAL_CLUSTER {
            section.require("engine");
        }
        let is_enabled = section.read("enabled", true, Ok);
        let engine = EngineSettings::read(section);
        let max_running = section.read("max_running", default_max_running(), within(0..=1_000_000));
        is_enabled.then_some(Self { engine, max_running: NonZeroU32::new(max_running) })
    }
}

/// How many runs at a time do not yet overwhelm the place: most of them compute, often on the server's own machine; a
/// few that wait on the network must not block the others on a small one.
pub fn default_max_running() -> u32 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    u32::try_from(cores).unwrap_or(u32::MAX).saturating_mul(4).max(16)
}

/// Names stand in addresses, labels and file names, so they are kept to what is safe in all of them.
fn cluster_name(name: &str) -> Result<(), String> {
    const LONGEST: usize = 255;
    let is_safe = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.chars().all(is_safe) && name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.len() <= LONGEST {
        return Ok(());
    }
    Err(format!(
        "must be 1 to {LONGEST} letters, digits, `-`, `_` and `.`, beginning with a letter or digit, not {name:?}"
    ))
}
