//! What container engines share: how they resume output, name signals, and read API errors.

pub(in crate::engine) mod api_error;
pub(in crate::engine) mod marker;
pub mod pull_policy;
pub(in crate::engine) mod refusal;
pub(in crate::engine) mod signal;
