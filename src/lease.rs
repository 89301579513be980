//! The lease on the database: this server's right to decide about runs, until it expires or another server takes it.
//! Callers that check it just before acting also stop in time after the process was frozen, because it uses a clock
//! that keeps counting during sleep.
//!
//! ```text
//! held ──not renewed in time──→ unconfirmed ──renewed──→ held
//!  └──────another server took it──────┴───→ lost ──taken again──→ held, of another generation
//! ```

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use tokio::sync::watch;

/// A moment on a clock that cannot be set and that keeps counting while the machine sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(Duration);

impl Moment {
    #[must_use]
    pub fn now() -> Self {
        let time = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("Linux has had this clock since 2.6.39");
        Self(Duration::from(time))
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// No other server can take it: the database is a locked file.
    Permanent,
    Until {
        end: Moment,
        generation: u64,
    },
    Lost {
        by: String,
        generation: u64,
    },
}

/// Whether this server may decide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// A higher generation means that the lease was lost in between: earlier knowledge is no longer valid.
    Held { generation: u64 },
    /// It could not be renewed in time. Another server may or may not have it.
    Unconfirmed,
    /// Another server has it.
    Lost { by: String },
}

/// The lease, until it is lost: earlier decisions are not valid afterwards.
#[derive(Debug, Clone)]
pub struct Tenure {
    lease: Lease,
    generation: u64,
}

impl Tenure {
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.lease.standing() == Standing::Held { generation: self.generation }
    }
}

/// Copies share it.
#[derive(Debug, Clone)]
pub struct Lease(watch::Sender<State>);

impl Lease {
    #[must_use]
    pub fn permanent() -> Self {
        Self(watch::Sender::new(State::Permanent))
    }

    /// A lease that was taken, which is trusted until `end`.
    #[must_use]
    pub fn until(end: Moment) -> Self {
        Self(watch::Sender::new(State::Until { end, generation: 1 }))
    }

    #[must_use]
    pub fn standing(&self) -> Standing {
        match &*self.0.borrow() {
            State::Permanent => Standing::Held { generation: 0 },
            State::Until { end, generation } if Moment::now() < *end => Standing::Held { generation: *generation },
            State::Until { .. } => Standing::Unconfirmed,
            State::Lost { by, .. } => Standing::Lost { by: by.clone() },
        }
    }

    #[must_use]
    pub fn is_held(&self) -> bool {
        matches!(self.standing(), Standing::Held { .. })
    }

    /// The lease as it is held now.
    #[must_use]
    pub fn tenure(&self) -> Tenure {
        let generation = match &*self.0.borrow() {
            State::Permanent => 0,
            State::Until { generation, .. } | State::Lost { generation, .. } => *generation,
        };
        Tenure { lease: self.clone(), generation }
    }

    /// It was renewed, and is trusted until `end`.
    pub fn renew(&self, end: Moment) {
        self.0.send_if_modified(|state| {
            if let State::Until { end: known, .. } = state {
                *known = end;
            }
            // No action is needed.
            false
        });
    }

    /// Another server has it.
    pub fn lose(&self, by: String) {
        self.0.send_modify(|state| {
            if let State::Until { generation, .. } | State::Lost { generation, .. } = *state {
                *state = State::Lost { by, generation };
            }
        });
    }

    /// It was taken again after it had been lost.
    pub fn regain(&self, end: Moment) {
        self.0.send_modify(|state| {
            if let State::Until { generation, .. } | State::Lost { generation, .. } = *state {
                *state = State::Until { end, generation: generation + 1 };
            }
        });
    }

    /// Subscribes to all changes.
    pub fn on_change(&self) -> impl Future<Output = ()> + use<> {
        let mut changes = self.0.subscribe();
        async move {
            // An error means that no sender is left.
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

impl std::ops::Add<Duration> for Moment {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        Self(self.0.saturating_add(time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_held_until_its_end_and_again_when_it_is_renewed() {
        let lease = Lease::until(Moment::now());
        assert_eq!(lease.standing(), Standing::Unconfirmed);
        lease.renew(Moment::now() + Duration::from_mins(1));
        assert_eq!(lease.standing(), Standing::Held { generation: 1 });
        let tenure = lease.tenure();
        assert!(tenure.is_held());
        lease.lose("b".to_owned());
        lease.renew(Moment::now() + Duration::from_mins(1));
        assert_eq!(lease.standing(), Standing::Lost { by: "b".to_owned() }, "what is lost can't be renewed");
        lease.regain(Moment::now() + Duration::from_mins(1));
        assert_eq!(lease.standing(), Standing::Held { generation: 2 });
        assert!(!tenure.is_held() && lease.tenure().is_held());
    }
}
