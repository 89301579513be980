//! How many connections there may be.
//!
//! ```text
//! all places taken, or the address's share ──→ a place of the reserve: health is answered, everything else gets 503
//! the reserve taken as well ──→ the connection waits to be accepted
//! ```
//!
//! So whoever asks after the server's health gets an answer also while others hold all their connections open.

use std::net::IpAddr;
use std::sync::Arc;

use nix::sys::resource::{Resource, getrlimit};
use tokio::sync::Notify;

use super::room::{self, Room};

/// How many connections there may be where the process may open many files; it keeps half of those for other ends.
const MOST_CONNECTIONS: u64 = 10_000;
/// How many more are accepted to be told that there is no room.
const RESERVE: usize = 32;

pub(super) struct Places {
    ordinary: Room,
    reserve: Room,
    returned: Arc<Notify>,
    /// Whether there was no room for the last one, so that this is logged once.
    was_full: bool,
}

/// A connection's place, until it is dropped.
pub(super) struct Place {
    /// Whether everything is answered on the connection, or only what the reserve is for.
    pub(super) is_ordinary: bool,
    /// Given back before anybody is notified.
    taken: Option<room::Place>,
    returned: Arc<Notify>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.taken = None;
        self.returned.notify_one();
    }
}

/// How many connections this process can serve at once.
pub(super) fn most_connections() -> usize {
    // `RLIM_INFINITY` is the largest number there is.
    let open_files = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(now, _)| now);
    usize::try_from((open_files / 2).min(MOST_CONNECTIONS)).unwrap_or(usize::MAX).max(1)
}

impl Places {
    pub(super) fn of(number: usize) -> Self {
        // One address may have all of the reserve.
        let reserve = Room::of(2 * RESERVE);
        Self { ordinary: Room::of(number), reserve, returned: Arc::default(), was_full: false }
    }

    /// Waits until a connection could be given any place.
    pub(super) async fn until_there_is_one(&self) {
        while !self.ordinary.has_any() && !self.reserve.has_any() {
            self.returned.notified().await;
        }
    }

    /// A place for a connection from this address; `None` where there is none for it at all.
    pub(super) fn take(&mut self, address: IpAddr) -> Option<Place> {
        let ordinary = self.ordinary.take(address);
        let was_full = std::mem::replace(&mut self.was_full, ordinary.is_none());
        if ordinary.is_none() && !was_full {
            tracing::warn!(%address, "there is no room for further connections; they get 503");
        }
        let is_ordinary = ordinary.is_some();
        let taken = Some(ordinary.or_else(|| self.reserve.take(address))?);
        Some(Place { is_ordinary, taken, returned: Arc::clone(&self.returned) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn when_all_are_taken_there_is_still_the_reserve() {
        let address = |last| IpAddr::from([127, 0, 0, last]);
        let mut places = Places::of(2);
        let _held = [places.take(address(1)).unwrap(), places.take(address(2)).unwrap()];
        let mut reserve: Vec<_> = (0..RESERVE).map(|_| places.take(address(3)).unwrap()).collect();
        assert!(reserve.iter().all(|place| !place.is_ordinary));
        assert!(places.take(address(3)).is_none(), "one address has at most half of the reserve");
        reserve.extend((0..RESERVE).map(|_| places.take(address(4)).unwrap()));
        let waiting = places.until_there_is_one();
        let (done, ()) = tokio::join!(waiting, async { drop(reserve) });
        assert_eq!(done, ());
        assert!(places.take(address(3)).is_some());
    }
}
