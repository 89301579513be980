//! One server per database. On PostgreSQL it holds a lease, which it renews; a second server is refused and given the
//! holder's name. On SQLite it holds a lock on the file.
//!
//! A server that follows one that ended uncleanly waits until the lease has expired, or takes it at once if it has
//! the same data directory on the same machine, whose lock proves that the other is gone.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio_util::sync::CancellationToken;

use super::handover;
use crate::config::Database;
use crate::lease::{Lease, Moment};
use crate::store::{Holder, Store, StoreError, Taken};

/// How long a lease lasts from its renewal on.
const VALID_FOR: Duration = Duration::from_secs(10);
/// How long the server itself trusts it: it has stopped deciding before another can begin.
const TRUSTED_FOR: Duration = Duration::from_secs(8);
const RENEWAL_PERIOD: Duration = Duration::from_secs(3);
/// How long one renewal may take.
const RENEWAL_TIMEOUT: Duration = Duration::from_secs(3);
/// How often a waiting server checks again.
const LOOK_PERIOD: Duration = Duration::from_millis(500);

/// Takes the lease, waiting for the end of one that is not renewed: either the database's clock says that it has
/// expired, or a whole lease period has passed here. A changed clock must not cause a wait of hours.
pub(super) async fn take(store: &Store, holder: &Holder, database: &Database) -> anyhow::Result<Lease> {
    let mut seen: Option<(i64, Moment)> = None;
    loop {
        let asked = Moment::now();
        let unrenewed = seen.filter(|(_, since)| asked >= *since + VALID_FOR).map(|(until, _)| until);
        let taken = store.take_lease(holder, VALID_FOR, true, unrenewed).await;
        let (by, until, left) = match taken.with_context(|| format!("cannot use the database {database}"))? {
            Taken::Yes { .. } => return Ok(Lease::until(asked + TRUSTED_FOR)),
            Taken::No { by, until, left } => (by, until, left),
        };
        match seen {
            None => {
                seen = Some((until, Moment::now()));
                tracing::info!(
                    holder = by,
                    left_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
                    "another server had the database; this one begins when the lease of that one ends without being renewed"
                );
            }
            Some((first, _)) if first != until => bail!(
                "cannot use the database {database}: another flotilla server uses it, {by}; stop that one, or give this one a \
                 database of its own"
            ),
            Some(_) => {}
        }
        tokio::time::sleep(LOOK_PERIOD).await;
    }
}

/// Renews the lease until the server stops, and then ends it. If another server took it, this one waits until it can
/// take it again.
pub(super) async fn keep(store: Arc<Store>, lease: Lease, holder: Holder, stop: CancellationToken) {
    let mut is_late = false;
    while stop.run_until_cancelled(tokio::time::sleep(RENEWAL_PERIOD)).await.is_some() {
        let asked = Moment::now();
        match tokio::time::timeout(RENEWAL_TIMEOUT, store.renew_lease(VALID_FOR)).await {
            Ok(Ok(true)) => {
                lease.renew(asked + TRUSTED_FOR);
                is_late = false;
            }
            Ok(Ok(false)) => {
                if stop.run_until_cancelled(wait_for_return(&store, &lease, &holder)).await.is_none() {
                    return;
                }
            }
            Ok(Err(error)) if !is_late => {
                is_late = true;
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the lease on the database could not be renewed yet"
                );
            }
            Err(_) if !is_late => {
                is_late = true;
                tracing::warn!("the lease on the database could not be renewed yet: no answer");
            }
            Ok(Err(_)) | Err(_) => {}
        }
    }
}

/// Gives the lease up at the end of the server, after its last step.
pub(super) async fn resign(store: &Store, lease: &Lease) {
    if lease.is_held()
        && let Ok(Err(error)) = tokio::time::timeout(RENEWAL_TIMEOUT, store.resign_lease()).await
    {
        tracing::debug!(error = &error as &dyn std::error::Error, "the lease could not be ended and ends by itself");
    }
}

async fn wait_for_return(store: &Store, lease: &Lease, holder: &Holder) {
    let mut known = String::new();
    loop {
        let asked = Moment::now();
        match store.take_lease(holder, VALID_FOR, false, None).await {
            Ok(Taken::Yes { .. }) => {
                tracing::warn!("this server has the database again, and begins anew");
                lease.regain(asked + TRUSTED_FOR);
                return;
            }
            Ok(Taken::No { by, .. }) => {
                if by != known {
                    tracing::error!(
                        holder = by,
                        "another server has taken over the database; this one does nothing more to any run"
                    );
                    known.clone_from(&by);
                }
                lease.lose(by);
            }
            Err(error) => log_unread(&error),
        }
        tokio::time::sleep(RENEWAL_PERIOD).await;
    }
}

fn log_unread(error: &StoreError) {
    tracing::debug!(error = error as &dyn std::error::Error, "the lease could not be read");
}

/// Locks an SQLite database against a server of another data directory, for as long as the result lives. The inner
/// error says that locking is unavailable.
pub(super) async fn lock(path: &Path) -> anyhow::Result<io::Result<File>> {
    // The resolved path: a second name of the file is the same database.
    let mut name = path.canonicalize().unwrap_or_else(|_| path.to_owned()).into_os_string();
    name.push(".lock");
    let lock = match File::options().create(true).truncate(false).write(true).open(&name) {
        Ok(lock) => lock,
        Err(error) => return Ok(Err(error)),
    };
    let is_held = |result: &Result<(), TryLockError>| matches!(result, Err(TryLockError::WouldBlock));
    match handover::wait_while(is_held, async || lock.try_lock()).await {
        Ok(()) => Ok(Ok(lock)),
        Err(TryLockError::WouldBlock) => bail!(
            "cannot use the database sqlite:{}: another flotilla server uses it, with another data directory; stop that one, \
             or give this one a database of its own by --database-url",
            path.display()
        ),
        Err(TryLockError::Error(error)) => Ok(Err(error)),
    }
}
