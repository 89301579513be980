//! How many runs a cluster may have at once: the limit changes while the loops are running.

use std::sync::atomic::{AtomicU64, Ordering};

/// `None` means unlimited.
#[derive(Debug)]
pub struct Limit(AtomicU64);

const NONE: u64 = u64::MAX;

impl Limit {
    #[must_use]
    pub fn get(&self) -> Option<u32> {
        u32::try_from(self.0.load(Ordering::Relaxed)).ok()
    }

    pub fn set(&self, most: Option<u32>) {
        self.0.store(most.map_or(NONE, u64::from), Ordering::Relaxed);
    }
}

impl From<Option<u32>> for Limit {
    fn from(most: Option<u32>) -> Self {
        Self(AtomicU64::new(most.map_or(NONE, u64::from)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_what_it_was_set_to() {
        let limit = Limit::from(None);
        assert_eq!(limit.get(), None);
        for most in [Some(0), Some(u32::MAX), None, Some(8)] {
            limit.set(most);
            assert_eq!(limit.get(), most);
        }
    }
}
