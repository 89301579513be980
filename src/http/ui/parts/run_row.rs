//! A run as a row of a list.

use jiff::Timestamp;

use super::links;
use super::pager::Address;
use super::state::Badge;
use super::words::{self, Elapsed, Moment};
use crate::model::{RunSummary, UNKNOWN_OWNER};
use crate::words::first_line;

/// Maximum length of a reason in a row; the run's page shows it in full.
const REASON_CHARS: usize = 160;

pub struct RunRow {
    pub id: String,
    pub address: String,
    /// The end of its id, by which users distinguish runs.
    pub short_id: String,
    pub name: String,
    pub look: Badge,
    pub reason: String,
    pub queued: Moment,
    pub took: Option<Elapsed>,
    /// `None` if no owner was given.
    pub owner: Option<String>,
    pub owner_address: Address,
    pub cluster: String,
}

impl RunRow {
    pub fn new(run: RunSummary, now: Timestamp) -> Self {
        Self {
            address: links::run(run.run_id),
            short_id: words::short_id(run.run_id),
            id: run.run_id.to_string(),
            name: run.name(),
            look: Badge::new(run.status, run.outcome),
            reason: first_line(&run.exit_reason.unwrap_or_default(), REASON_CHARS),
            queued: Moment { at: run.queued_at, now },
            took: run.started_at.map(|since| Elapsed { since, until: run.finished_at, now }),
            owner_address: links::runs().with("owner", [&run.user]),
            owner: Some(run.user).filter(|owner| owner != UNKNOWN_OWNER),
            cluster: run.resolved_cluster,
        }
    }
}

#[cfg(test)]
impl RunRow {
    pub fn sample() -> Self {
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().expect("it is a time");
        Self {
            id: "1".to_owned(),
            address: "/ui/runs/1".to_owned(),
            short_id: "1".to_owned(),
            name: "train <model>".to_owned(),
            look: Badge::new(crate::model::Status::Running, None),
            reason: "<b>".to_owned(),
            queued: Moment { at: now, now },
            took: Some(Elapsed { since: now, until: None, now }),
            owner: Some("<ada>".to_owned()),
            owner_address: links::runs().with("owner", ["<ada>"]),
            cluster: "default".to_owned(),
        }
    }
}
