//! Why a statement is sent.

/// What waits for a statement. Each kind of work has connections of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Requests,
    Loops,
    Readiness,
}
