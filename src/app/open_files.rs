//! How many files the server may have open: as many as its limit can be raised to. Programs that can't handle so many at
//! once are why the usual limit is lower, so tasks keep that one.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the limit, and returns what it was.
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
