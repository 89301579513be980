//! Caller: on whose behalf a use case is asked for. There is no use case without one.

use std::ops::Deref;
use std::sync::Arc;

use super::Service;

/// Who asks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Caller {
    /// Whoever reaches the server: without access control, anybody may do anything.
    #[default]
    Anybody,
}

/// The service, acting for a caller: every use case is a method of this. Copies act for the same caller.
#[derive(Clone)]
pub struct Acting {
    service: Arc<Service>,
    caller: Caller,
}

impl Service {
    /// The use cases, as this caller may use them.
    #[must_use]
    pub fn acting_for(self: &Arc<Self>, caller: Caller) -> Acting {
        Acting { service: Arc::clone(self), caller }
    }
}

impl Acting {
    #[must_use]
    pub const fn caller(&self) -> Caller {
        self.caller
    }
}

impl Deref for Acting {
    type Target = Service;

    fn deref(&self) -> &Service {
        &self.service
    }
}
