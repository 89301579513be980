//! Why a use case was refused, by who is at fault.

use std::io;

use crate::model::Faults;
use crate::store::StoreError;

#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The client's error; the text names the field and the value.
    #[error("{0}")]
    Invalid(String),
    /// The same, with the field of each fault.
    #[error("{0}")]
    Faulty(#[from] Faults),
    #[error("{0}")]
    NotFound(String),
    /// The operator does not allow requests to do this.
    #[error("{0}")]
    Forbidden(String),
    /// It contradicts what is stored.
    #[error("{0}")]
    Conflict(String),
    #[error("`alias` {0:?} is taken by another task definition")]
    AliasTaken(String),
    /// The disk is full: nothing was stored.
    #[error("the request could not be stored")]
    NoSpace(#[source] StoreError),
    /// The database is currently unavailable.
    #[error("the request could not be carried out now")]
    Unavailable(#[source] StoreError),
    /// The database timed out.
    #[error("the request asks for too much, or the database is too busy")]
    TookTooLong(#[source] StoreError),
    /// A server error.
    #[error("the request could not be carried out")]
    Store(#[source] StoreError),
    #[error("the log could not be read")]
    Log(#[source] io::Error),
    /// The server or its machine has run out of file descriptors; one will be released sooner or later.
    #[error("too many files are open to read the log")]
    OutOfFiles(#[source] io::Error),
}

impl From<io::Error> for ServiceError {
    fn from(error: io::Error) -> Self {
        if is_out_of_files(&error) { Self::OutOfFiles(error) } else { Self::Log(error) }
    }
}

/// Whether the process or its machine has run out of file descriptors.
#[must_use]
pub fn is_out_of_files(error: &io::Error) -> bool {
    // By number, because the standard library has no names for them: those of Linux, the BSDs and macOS are the same.
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    matches!(error.raw_os_error(), Some(ENFILE | EMFILE))
}

impl From<StoreError> for ServiceError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full(_) => Self::NoSpace(error),
            StoreError::Unavailable(_) => Self::Unavailable(error),
            StoreError::TookTooLong(_) => Self::TookTooLong(error),
            StoreError::Duplicate(_)
            | StoreError::Corrupt(_)
            | StoreError::Unusable(_)
            | StoreError::Decode { .. }
            | StoreError::Other(_) => Self::Store(error),
        }
    }
}

impl ServiceError {
    pub(super) fn no_definition(id: impl std::fmt::Display) -> Self {
        Self::NotFound(format!("there is no task definition {id}"))
    }

    pub(super) fn no_alias(alias: &str) -> Self {
        Self::NotFound(format!("there is no task definition with the alias {alias:?}"))
    }

    pub(super) fn no_run(id: impl std::fmt::Display) -> Self {
        Self::NotFound(format!("there is no run {id}"))
    }
}
