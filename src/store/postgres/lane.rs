//! A few connections for one kind of work, so that another kind can't take them all.
//!
//! A connection is returned only by work that ended in an orderly way. Anything else that happens to the work (an
//! error, a bound that passes, a request whose client went away) closes it, and another is opened when needed: so
//! neither a statement that hangs nor a silent server keeps a place.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout, timeout_at};

use super::StoreError;
use super::connect::Connector;
use super::session::Session;

/// How long work waits for a connection.
const PATIENCE: Duration = Duration::from_secs(5);
/// A connection that was idle for longer is pinged before use. Under load none is idle that long, and occasional
/// callers get no error for a connection that the database has closed meanwhile.
const FRESH: Duration = Duration::from_millis(10);
/// How long a ping may take.
const PING_PATIENCE: Duration = Duration::from_secs(2);
/// Connections are replaced after this time, so that after a failover all servers are eventually used again.
const LIFETIME: Duration = Duration::from_mins(30);

pub(super) struct Lane {
    connector: Arc<Connector>,
    places: Semaphore,
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    session: Session,
    since: Instant,
}

impl Lane {
    pub(super) const fn new(connector: Arc<Connector>, places: usize) -> Self {
        Self { connector, places: Semaphore::const_new(places), idle: Mutex::new(Vec::new()) }
    }

    /// A connection that works, or did a moment ago.
    pub(super) async fn take(&self, until: Option<Instant>) -> Result<Lease<'_>, StoreError> {
        let until = until.unwrap_or_else(|| Instant::now() + PATIENCE);
        let place = timeout_at(until, self.places.acquire()).await;
        let place = place
            .map_err(|_| StoreError::Unavailable("all connections to the database are in use".into()))?
            .map_err(|_| StoreError::Unavailable("the database was closed".into()))?;
        let session = match self.take_idle().await {
            Some(session) => session,
            None => Box::pin(self.connector.connect()).await?,
        };
        Ok(Lease { lane: self, session: Some(session), _place: place })
    }

    async fn take_idle(&self) -> Option<Session> {
        loop {
            let Idle { mut session, since } = self.idle().pop()?;
            if session.opened_at.elapsed() > LIFETIME {
                continue;
            }
            if since.elapsed() < FRESH {
                return Some(session);
            }
            if timeout(PING_PATIENCE, session.ping()).await.unwrap_or(false) {
                return Some(session);
            }
            // The others are probably broken too, and waiting for each would take too long.
            self.idle().clear();
        }
    }

    fn idle(&self) -> parking_lot::MutexGuard<'_, Vec<Idle>> {
        self.idle.lock()
    }
}

/// A connection in use. Dropping it closes the connection; see [`Lease::give_back`].
pub(super) struct Lease<'a> {
    lane: &'a Lane,
    session: Option<Session>,
    _place: SemaphorePermit<'a>,
}

impl Lease<'_> {
    pub(super) fn session(&mut self) -> &mut Session {
        self.session.as_mut().expect("only `give_back` takes it, which ends the lease")
    }

    /// The work has ended, and the connection can be used for other work.
    pub(super) fn give_back(mut self) {
        if let Some(session) = self.session.take() {
            self.lane.idle().push(Idle { session, since: Instant::now() });
        }
    }
}
