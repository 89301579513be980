//! What each kind of engine does with its settings.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use super::{Engine, Identity, Reports};
use crate::clock::Clock;
use crate::logs::Logs;

/// The settings of one kind of engine.
pub(super) trait Kind {
    /// Whether its runs are tied to the machine of one server, so that other servers on the database can't share it.
    fn is_of_one_machine(&self) -> bool {
        false
    }

    /// Identifies the place, as far as the settings say. Runs there are found nowhere else, so the place can't change
    /// while anything runs. How it is reached (keys, certificates) may change.
    fn endpoint(&self) -> String;

    /// Must be called within a tokio runtime.
    fn make(&self, surroundings: &Surroundings<'_>, reports: Reports) -> Made;
}

/// An engine, or why the settings can't be used on this machine, worded for the operator.
pub type Made = Result<Arc<dyn Engine>, Box<dyn Error + Send + Sync>>;

/// What engines need besides their settings.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// The cluster's name.
    pub cluster: &'a str,
    pub data_dir: &'a Path,
    pub logs: &'a Arc<Logs>,
    /// The database's identity, which distinguishes our containers from those of another database's servers.
    pub installation_id: &'a str,
    pub clock: &'a Clock,
    /// How many files a local task may have open.
    pub usual_open_files: Option<u64>,
}

impl Surroundings<'_> {
    pub(super) fn identity(&self) -> Identity {
        Identity { installation_id: self.installation_id.to_owned(), cluster: self.cluster.to_owned() }
    }
}
