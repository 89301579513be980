//! The server's limit on open files: raised to its maximum. The usual limit is lower because some programs can't
//! handle that many, so tasks keep the usual one.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the limit, and returns the previous one.
pub(super) fn raise_limit() -> Option<u64> {
    let (usual, most) = match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok(limits) => limits,
        Err(error) => {
            tracing::warn!(%error, "the limit of open files can't be read");
            return None;
        }
    };
    if usual < most
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, most, most)
    {
        tracing::warn!(%error, usual, most, "the limit of open files can't be raised");
    }
    Some(usual)
}
