//! Notices that a log has grown. One inotify instance serves all followers, since a user may have only some hundred;
//! it watches the folders that hold followed logs, so a log may be followed before it exists.
//!
//! A notice only makes a follower check sooner: followers also poll, which covers file systems that send no notices.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

/// Notices of one log's growth.
pub struct Growth(watch::Receiver<()>);

impl Growth {
    /// Waits until the log has grown since the last call, or since this was created. Never returns if the system has
    /// no notices.
    pub async fn grown(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Lets the runtime wait for an instance: nix gives its descriptor only borrowed.
struct Watches(Inotify);

impl AsFd for Watches {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Watches {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

#[derive(Default)]
struct Followers(Mutex<HashMap<OsString, watch::Sender<()>>>);

pub(super) struct Tail {
    followers: Arc<Followers>,
    inotify: OnceLock<Option<Arc<AsyncFd<Watches>>>>,
}

impl Tail {
    pub(super) fn new() -> Self {
        Self { followers: Arc::default(), inotify: OnceLock::new() }
    }

    /// Must be called within the runtime.
    pub(super) fn growth(&self, path: &Path) -> Growth {
        let name = path.file_name().unwrap_or_default().to_owned();
        let growth = self.followers.subscribe(name);
        let inotify = self.inotify.get_or_init(|| self.start());
        if let (Some(inotify), Some(folder)) = (inotify, path.parent())
            && let Err(error) = watch_folder(&inotify.get_ref().0, folder)
        {
            tracing::warn!(folder = %folder.display(), %error, "a log folder can't be watched; its logs are followed by looking");
        }
        growth
    }

    /// Starts listening when the first log is followed.
    fn start(&self) -> Option<Arc<AsyncFd<Watches>>> {
        let flags = InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC;
        let opened = Inotify::init(flags)
            .map_err(std::io::Error::from)
            // SAFETY: the descriptor is the instance's own, and stays open and the same until both are dropped together.
            .and_then(|inotify| unsafe { AsyncFd::register(Watches(inotify)) }.map_err(std::io::Error::from));
        match opened {
            Ok(inotify) => {
                let inotify = Arc::new(inotify);
                tokio::spawn(listen(Arc::clone(&inotify), Arc::clone(&self.followers)));
                Some(inotify)
            }
            Err(error) => {
                tracing::warn!(%error, "inotify is not to be had; logs are followed by looking");
                None
            }
        }
    }
}

fn watch_folder(inotify: &Inotify, folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    // Watching a folder twice is watching it once.
    inotify.add_watch(folder, AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE)?;
    Ok(())
}

async fn listen(inotify: Arc<AsyncFd<Watches>>, followers: Arc<Followers>) {
    loop {
        let mut ready = match inotify.readable().await {
            Ok(ready) => ready,
            Err(error) => {
                tracing::warn!(%error, "inotify ended; logs are followed by looking");
                return;
            }
        };
        match inotify.get_ref().0.read_events() {
            Ok(events) => {
                for event in events {
                    match event.name {
                        Some(name) if !event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) => followers.tell(&name),
                        _ => followers.tell_all(),
                    }
                }
            }
            Err(Errno::EAGAIN) => ready.clear_ready(),
            Err(error) => {
                tracing::warn!(%error, "inotify ended; logs are followed by looking");
                return;
            }
        }
    }
}

impl Followers {
    fn subscribe(&self, name: OsString) -> Growth {
        let mut senders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        senders.retain(|_, sender| sender.receiver_count() > 0);
        Growth(senders.entry(name).or_insert_with(|| watch::Sender::new(())).subscribe())
    }

    fn tell(&self, name: &OsString) {
        if let Some(sender) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name) {
            sender.send_replace(());
        }
    }

    fn tell_all(&self) {
        for sender in self.0.lock().unwrap_or_else(PoisonError::into_inner).values() {
            sender.send_replace(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::Duration;

    use super::super::{CappedLog, Logs};
    use crate::model::{AttemptId, RunId};

    #[tokio::test]
    async fn a_follower_hears_of_a_log_that_is_made_and_grows() {
        let folder = tempfile::tempdir().unwrap();
        let logs = Logs::open(folder.path()).unwrap();
        let attempt_id = AttemptId { run_id: RunId::generate(), attempt: 1 };
        let mut growth = logs.growth(attempt_id);
        let mut log = CappedLog::append(&logs.path(attempt_id), 100, || jiff::Timestamp::UNIX_EPOCH).unwrap();
        for _ in 0..3 {
            log.write_all(b"line\n").unwrap();
            tokio::time::timeout(Duration::from_secs(10), growth.grown()).await.expect("the growth is told");
        }
    }
}
