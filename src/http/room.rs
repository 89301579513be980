//! A limited number of places, of which no single address gets more than its share.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::Mutex;

/// One address may take this fraction of all places: one half. An untrusted proxy is one address, and its users share
/// that.
const SHARE_OF_AN_ADDRESS: usize = 2;

#[derive(Clone)]
pub(super) struct Room {
    places: usize,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

impl Room {
    pub(super) fn of(places: usize) -> Self {
        Self { places, taken: Arc::default() }
    }

    pub(super) fn has_any(&self) -> bool {
        self.taken.lock().all < self.places
    }

    /// Takes a place for this address, held until it is dropped; `None` if all places or the address's share are
    /// taken.
    pub(super) fn take(&self, address: IpAddr) -> Option<Place> {
        let address = subscriber(address);
        let share = (self.places / SHARE_OF_AN_ADDRESS).max(1);
        let mut taken = self.taken.lock();
        let of_address = taken.by_address.get(&address).copied().unwrap_or_default();
        if taken.all >= self.places || of_address >= share {
            return None;
        }
        taken.all += 1;
        taken.by_address.insert(address, of_address + 1);
        drop(taken);
        Some(Place { room: self.clone(), address })
    }
}

/// The address whose share counts: for IPv6 the /64 network, since one machine may use all its addresses.
pub(super) fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) >> 64 << 64).into(),
        address @ IpAddr::V4(_) => address,
    }
}

pub(super) struct Place {
    room: Room,
    address: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.room.taken.lock();
        taken.all -= 1;
        if let Some(number) = taken.by_address.get_mut(&self.address) {
            *number -= 1;
            if *number == 0 {
                taken.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        [127, 0, 0, last].into()
    }

    #[test]
    fn one_address_leaves_room_for_the_others() {
        let room = Room::of(4);
        let held: Vec<_> = (0..2).map(|_| room.take(address(1)).unwrap()).collect();
        assert!(room.take(address(1)).is_none());
        let others = [room.take(address(2)).unwrap(), room.take(address(3)).unwrap()];
        assert!(!room.has_any() && room.take(address(4)).is_none());
        drop(held);
        assert!(room.take(address(1)).is_some() && room.has_any());
        drop(others);
        assert!(room.taken.lock().by_address.is_empty());
    }

    #[test]
    fn addresses_of_one_network_share_and_loopback_is_one_whatever_it_is_called() {
        let room = Room::of(4);
        let take = |text: &str| room.take(text.parse().unwrap());
        let held = [take("2001:db8:1:2::1").unwrap(), take("2001:db8:1:2:ffff::2").unwrap()];
        assert!(take("2001:db8:1:2::3").is_none());
        assert!(take("2001:db8:1:3::1").is_some());
        assert_eq!(subscriber("::ffff:127.0.0.1".parse().unwrap()), address(1));
        drop(held);
        assert!(room.taken.lock().by_address.is_empty());
    }

    #[test]
    fn where_there_is_one_place_anybody_may_have_it() {
        let room = Room::of(1);
        let held = room.take(address(1)).unwrap();
        assert!(room.take(address(2)).is_none());
        drop(held);
        assert!(room.take(address(2)).is_some());
    }
}
