//! Why a use case was refused, by whose fault it is.

use crate::model::Faults;
use crate::store::StoreError;

#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The client's fault; the text names the field and the value.
    #[error("{0}")]
    Invalid(String),
    /// The same, each with the field it is about.
    #[error("{0}")]
    Faulty(#[from] Faults),
    #[error("{0}")]
    NotFound(String),
    /// The operator does not let requests do it.
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
    /// The database can't be asked now.
    #[error("the request could not be carried out now")]
    Unavailable(#[source] StoreError),
    /// Our fault.
    #[error("the request could not be carried out")]
    Store(#[source] StoreError),
    #[error("the log could not be read")]
    Log(#[from] std::io::Error),
}

impl From<StoreError> for ServiceError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full(_) => Self::NoSpace(error),
            StoreError::Unavailable(_) => Self::Unavailable(error),
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
