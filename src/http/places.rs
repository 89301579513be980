//! Limits the number of connections.
//!
//! ```text
//! all places taken, or the address's share ──→ a reserve place: health is answered, everything else gets 503
//! reserve taken too ──→ the connection waits to be accepted
//! ```
//!
//! So health checks are answered even while others hold all connections open.

use std::net::IpAddr;
use std::sync::Arc;

use nix::sys::resource::{Resource, getrlimit};
use tokio::sync::Notify;

use super::room::{self, Room};

/// Maximum number of connections, if the process may open enough files: half of its file limit is kept for other
/// uses. Half of the connections, the share of one address, take 128 MiB if each has sent all of a request's head but
/// its end.
const MOST_CONNECTIONS: u64 = 4096;
/// How many more connections are accepted only to be refused with 503.
const RESERVE: usize = 32;

pub(super) struct Places {
    ordinary: Room,
    reserve: Room,
    returned: Arc<Notify>,
    /// Whether there was no room for the last connection, so that this is logged once.
    was_full: bool,
}

/// What is answered on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Terms {
    /// Everything, for any number of requests.
    Ordinary,
    /// One request.
    OneRequest,
    /// One health request: what the reserve is for.
    HealthAlone,
}

/// A connection's place, held until it is dropped.
pub(super) struct Place {
    pub(super) terms: Terms,
    /// Returned before waiters are notified.
    taken: Option<room::Place>,
    returned: Arc<Notify>,
}

impl Place {
    /// Restricts an ordinary place to a single request.
    pub(super) fn for_one_request(mut self) -> Self {
        if self.terms == Terms::Ordinary {
            self.terms = Terms::OneRequest;
        }
        self
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.taken = None;
        self.returned.notify_one();
    }
}

/// Maximum number of connections that this process can serve at once.
pub(super) fn most_connections() -> usize {
    // `RLIM_INFINITY` is the largest possible number.
    let open_files = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(now, _)| now);
    usize::try_from((open_files / 2).min(MOST_CONNECTIONS)).unwrap_or(usize::MAX).max(1)
}

impl Places {
    pub(super) fn of(number: usize) -> Self {
        // One address may take the whole reserve.
        let reserve = Room::of(2 * RESERVE);
        Self { ordinary: Room::of(number), reserve, returned: Arc::default(), was_full: false }
    }

    /// Waits until any place is free.
    pub(super) async fn until_there_is_one(&self) {
        while !self.ordinary.has_any() && !self.reserve.has_any() {
            self.returned.notified().await;
        }
    }

    /// Takes a place for a connection from this address; `None` if neither an ordinary nor a reserve place is free
    /// for it.
    pub(super) fn take(&mut self, address: IpAddr) -> Option<Place> {
        let ordinary = self.ordinary.take(address);
        let was_full = std::mem::replace(&mut self.was_full, ordinary.is_none());
        if ordinary.is_none() && !was_full {
            tracing::warn!(%address, "there is no room for further connections; they get 503");
        }
        let terms = if ordinary.is_some() { Terms::Ordinary } else { Terms::HealthAlone };
        let taken = Some(ordinary.or_else(|| self.reserve.take(address))?);
        Some(Place { terms, taken, returned: Arc::clone(&self.returned) })
    }

    /// Takes a place from the reserve only, for a connection for which the server has no file left.
    pub(super) fn take_reserve(&self, address: IpAddr) -> Option<Place> {
        let taken = Some(self.reserve.take(address)?);
        Some(Place { terms: Terms::HealthAlone, taken, returned: Arc::clone(&self.returned) })
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
        assert!(reserve.iter().all(|place| place.terms == Terms::HealthAlone));
        assert!(places.take(address(3)).is_none(), "one address has at most half of the reserve");
        reserve.extend((0..RESERVE).map(|_| places.take(address(4)).unwrap()));
        let waiting = places.until_there_is_one();
        let (done, ()) = tokio::join!(waiting, async { drop(reserve) });
        assert_eq!(done, ());
        assert!(places.take(address(3)).is_some());
    }
}
