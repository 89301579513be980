//! Notices that a log has grown. One inotify instance serves all followers, since a user may have only some hundred;
//! it watches the folders that hold followed logs, so a log may be followed before it exists.
//!
//! A notice only makes a follower check sooner: followers also poll, which covers file systems that send no notices.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use futures_util::{Stream, StreamExt};
use inotify::{Event, EventMask, Inotify, WatchMask, Watches};
use parking_lot::Mutex;
use tokio::sync::watch;

/// Room for what the system reports at once: some hundred events.
const BUFFER_BYTES: usize = 16 << 10;

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

#[derive(Default)]
struct Followers(Mutex<HashMap<OsString, watch::Sender<()>>>);

pub(super) struct Tail {
    followers: Arc<Followers>,
    watches: OnceLock<Option<Watches>>,
}

impl Tail {
    pub(super) fn new() -> Self {
        Self { followers: Arc::default(), watches: OnceLock::new() }
    }

    /// Must be called within the runtime.
    pub(super) fn growth(&self, path: &Path) -> Growth {
        let name = path.file_name().unwrap_or_default().to_owned();
        let growth = self.followers.subscribe(name);
        let watches = self.watches.get_or_init(|| self.start());
        if let (Some(watches), Some(folder)) = (watches, path.parent())
            && let Err(error) = watch_folder(watches.clone(), folder)
        {
            tracing::warn!(folder = %folder.display(), %error, "a log folder can't be watched; its logs are followed by looking");
        }
        growth
    }

    /// Starts listening when the first log is followed.
    fn start(&self) -> Option<Watches> {
        let opened = Inotify::init().and_then(|inotify| {
            let watches = inotify.watches();
            Ok((watches, inotify.into_event_stream(vec![0; BUFFER_BYTES])?))
        });
        match opened {
            Ok((watches, events)) => {
                tokio::spawn(listen(events, Arc::clone(&self.followers)));
                Some(watches)
            }
            Err(error) => {
                tracing::warn!(%error, "inotify is not to be had; logs are followed by looking");
                None
            }
        }
    }
}

fn watch_folder(mut watches: Watches, folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    // Watching a folder twice is watching it once.
    watches.add(folder, WatchMask::MODIFY | WatchMask::CREATE)?;
    Ok(())
}

async fn listen(mut events: impl Stream<Item = std::io::Result<Event<OsString>>> + Unpin, followers: Arc<Followers>) {
    while let Some(event) = events.next().await {
        match event {
            Ok(Event { name: Some(name), mask, .. }) if !mask.contains(EventMask::Q_OVERFLOW) => followers.tell(&name),
            Ok(_) => followers.tell_all(),
            Err(error) => {
                tracing::warn!(%error, "inotify ended; logs are followed by looking");
                return;
            }
        }
    }
}

impl Followers {
    fn subscribe(&self, name: OsString) -> Growth {
        let mut senders = self.0.lock();
        senders.retain(|_, sender| sender.receiver_count() > 0);
        Growth(senders.entry(name).or_insert_with(|| watch::Sender::new(())).subscribe())
    }

    fn tell(&self, name: &OsStr) {
        if let Some(sender) = self.0.lock().get(name) {
            sender.send_replace(());
        }
    }

    fn tell_all(&self) {
        for sender in self.0.lock().values() {
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
