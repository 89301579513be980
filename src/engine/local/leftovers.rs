//! Remains of attempts that could not be deleted: something is mounted in them, they contain another user's files, or
//! the disk refuses. Nothing waits for them: they are kept under another name, out of the way, and deletion is
//! retried with a growing pause. Each is reported once, in the log and on the run's page, and again only if the
//! reason changes.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::folder;
use super::tree::remove_tree;
use crate::clock::Clock;
use crate::engine::Reports;
use crate::model::{AttemptId, Event};

/// The pause after a failed try; it doubles up to the second value.
const FIRST_PAUSE: Duration = Duration::from_secs(30);
const LONGEST_PAUSE: Duration = Duration::from_hours(1);

#[derive(Clone)]
pub(super) struct Leftovers(Arc<Inner>);

struct Inner {
    runs_dir: PathBuf,
    reports: Reports,
    /// Failed tries.
    failed: Mutex<HashMap<PathBuf, Failure>>,
    /// Deletions under way, so that none is done twice at once.
    deleting: Mutex<HashSet<PathBuf>>,
    is_busy: AtomicBool,
}

struct Failure {
    reason: String,
    pause: Duration,
    due: Instant,
}

impl Leftovers {
    pub fn new(runs_dir: &Path, reports: Reports) -> Self {
        Self(Arc::new(Inner {
            runs_dir: runs_dir.to_owned(),
            reports,
            failed: Mutex::default(),
            deleting: Mutex::default(),
            is_busy: AtomicBool::new(false),
        }))
    }

    /// Starts deleting what exists and is due, unless that is under way. Runs in the background, because it may take
    /// long.
    pub fn begin(&self) {
        if !self.0.is_busy.swap(true, Ordering::AcqRel) {
            let leftovers = self.clone();
            let spawned = std::thread::Builder::new().name("leftovers".to_owned()).spawn(move || {
                leftovers.delete_due();
                leftovers.0.is_busy.store(false, Ordering::Release);
            });
            if let Err(error) = spawned {
                self.0.is_busy.store(false, Ordering::Release);
                tracing::debug!(%error, "what is left of ended attempts is deleted later");
            }
        }
    }

    /// Deletes what was set aside of an attempt; retried later if that fails.
    pub fn delete(&self, path: &Path, attempt_id: Option<AttemptId>) {
        let deleting = || self.0.deleting.lock();
        if !deleting().insert(path.to_owned()) {
            return;
        }
        let deleted = remove_tree(path);
        deleting().remove(path);
        match deleted {
            Ok(()) => {
                if self.failed().remove(path).is_some() {
                    tracing::info!(path = %path.display(), "deleted the remaining files of an ended attempt");
                }
            }
            Err(error) => self.note(path, attempt_id, &error.to_string()),
        }
    }

    /// Reports what can't be deleted, or not even set aside.
    pub fn note(&self, path: &Path, attempt_id: Option<AttemptId>, reason: &str) {
        let is_new = self.postpone(path, reason, Instant::now());
        if !is_new {
            return;
        }
        let path = path.display();
        tracing::warn!(%path, reason, "the remaining files of an ended attempt can't be deleted; tried again later");
        if let Some(attempt_id) = attempt_id {
            let message = format!("what is left of attempt {} can't be deleted: {path}: {reason}", attempt_id.attempt);
            let event = Event::warning(Clock::system().now(), "LeftBehind", message).from_source("local");
            self.0.reports.note(attempt_id, event);
        }
    }

    /// Whether no known failure postpones its deletion.
    pub fn is_due(&self, path: &Path) -> bool {
        self.failed().get(path).is_none_or(|failure| failure.due <= Instant::now())
    }

    fn postpone(&self, path: &Path, reason: &str, now: Instant) -> bool {
        let mut failed = self.failed();
        let before = failed.get(path);
        let pause = before.map_or(FIRST_PAUSE, |failure| (failure.pause * 2).min(LONGEST_PAUSE));
        let is_new = before.is_none_or(|failure| failure.reason != reason);
        failed.insert(path.to_owned(), Failure { reason: reason.to_owned(), pause, due: now + pause });
        is_new
    }

    fn delete_due(&self) {
        match folder::leftovers(&self.0.runs_dir) {
            Ok(found) => {
                for (path, attempt_id) in found.iter().filter(|(path, _)| self.is_due(path)) {
                    self.delete(path, *attempt_id);
                }
                // Forget what was deleted externally.
                self.failed().retain(|path, _| path.exists());
            }
            Err(error) => tracing::debug!(%error, "what is left of ended attempts is looked for later"),
        }
    }

    fn failed(&self) -> parking_lot::MutexGuard<'_, HashMap<PathBuf, Failure>> {
        self.0.failed.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_not_be_deleted_is_reported_once_and_tried_ever_more_rarely() {
        let folder = tempfile::tempdir().unwrap();
        let leftovers = Leftovers::new(folder.path(), Reports::default());
        let (path, now) = (Path::new("/x"), Instant::now());
        assert!(leftovers.postpone(path, "busy", now));
        let mut pauses = vec![];
        for _ in 0..9 {
            assert!(!leftovers.postpone(path, "busy", now));
            pauses.push(leftovers.failed()[path].pause.as_secs());
        }
        assert_eq!(pauses, [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]);
        assert!(!leftovers.is_due(path) && leftovers.is_due(Path::new("/y")));
        assert!(leftovers.postpone(path, "another reason", now));
    }
}
