//! Detects what supervisors do, without polling them: each has its own FIFO, to which it writes a byte when its
//! command has started, and which closes when the supervisor ends, however that happens.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::process::Child;
use tokio::time::Instant;

use super::folder::Folder;
use super::living;
use crate::engine::Reports;
use crate::model::AttemptId;

/// How long the kernel may take from closing a process's FIFO to releasing its lock: it closes the files of an ending
/// process in no defined order.
const LONGEST_END: Duration = Duration::from_secs(2);
/// The pause between two scans of all processes; it doubles up to the second value.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);
/// The pause between two checks of an attempt that can't be watched, because its folder is damaged.
const PAUSE_WITHOUT_WATCH: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub(super) struct Watches {
    reports: Reports,
    watched: Arc<Mutex<HashSet<AttemptId>>>,
}

impl Watches {
    pub fn new(reports: Reports) -> Self {
        Self { reports, watched: Arc::default() }
    }

    /// Watches a supervisor that was started here, and reaps it.
    pub fn watch_own(&self, attempt_id: AttemptId, folder: &Folder, status: Receiver, supervisor: Child) {
        self.lock().insert(attempt_id);
        self.spawn(attempt_id, folder, status, Some(supervisor));
    }

    /// Watches another server's supervisor, such as this server's before a restart. Does nothing if it is already
    /// watched or there is none.
    pub fn watch(&self, attempt_id: AttemptId, folder: &Folder) -> io::Result<()> {
        if !self.lock().insert(attempt_id) {
            return Ok(());
        }
        let opened = folder.open_status().and_then(Receiver::from_file);
        // After the FIFO is open: the end of a supervisor seen alive now will be seen there.
        match opened.and_then(|status| folder.is_supervised().map(|is_supervised| (status, is_supervised))) {
            Ok((status, true)) => {
                self.spawn(attempt_id, folder, status, None);
                Ok(())
            }
            Ok((_, false)) => {
                self.lock().remove(&attempt_id);
                // The caller has seen it alive, perhaps only as a process, and needs to know when it ends.
                self.reports.changed_after(attempt_id, PAUSE_WITHOUT_WATCH);
                Ok(())
            }
            Err(error) => {
                self.lock().remove(&attempt_id);
                Err(error)
            }
        }
    }

    fn spawn(&self, attempt_id: AttemptId, folder: &Folder, mut status: Receiver, supervisor: Option<Child>) {
        let watches = self.clone();
        let folder = folder.clone();
        tokio::spawn(async move {
            let mut bytes = [0; 16];
            while status.read(&mut bytes).await.is_ok_and(|length| length > 0) {
                watches.reports.changed(attempt_id);
            }
            match supervisor {
                Some(mut supervisor) => drop(supervisor.wait().await),
                None => wait_for_lock(&folder).await,
            }
            watches.lock().remove(&attempt_id);
            watches.reports.changed(attempt_id);
        });
    }

    fn lock(&self) -> parking_lot::MutexGuard<'_, HashSet<AttemptId>> {
        self.watched.lock()
    }
}

/// Waits until the folder has no supervisor, at most for `longest`; `false` if it still has one.
pub(super) async fn wait_for_end(folder: &Folder, longest: Duration) -> io::Result<bool> {
    let Ok(mut status) = folder.open_status().and_then(Receiver::from_file) else {
        return wait_without_its_folder(folder, longest).await;
    };
    // As above: only the end of a supervisor seen alive after the FIFO was opened will be seen there.
    if folder.is_supervised()? {
        let end = async {
            let mut bytes = [0; 16];
            while status.read(&mut bytes).await.is_ok_and(|length| length > 0) {}
        };
        if tokio::time::timeout(longest, end).await.is_ok() {
            wait_for_lock(folder).await;
        }
    }
    wait_without_its_folder(folder, longest).await
}

/// As above, by scanning processes repeatedly: for a folder that is damaged or gone.
async fn wait_without_its_folder(folder: &Folder, longest: Duration) -> io::Result<bool> {
    let deadline = Instant::now() + longest;
    let mut pause = FIRST_PAUSE;
    while folder.is_supervised().unwrap_or(false) || living::find(folder.path()).is_some() {
        if Instant::now() > deadline {
            return Ok(false);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    Ok(true)
}

async fn wait_for_lock(folder: &Folder) {
    let mut pause = Duration::from_micros(200);
    while pause < LONGEST_END && folder.is_supervised().unwrap_or(false) {
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
}
