//! Failures of calls to a machine's API, by the one distinction that matters: "it refused" or "it did not answer".

use crate::engine::EngineError;

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::engine) enum ApiError {
    /// The machine's API answered, and refused.
    #[error("{message}")]
    Refused { status: u16, message: String },
    /// No answer: the outcome of the request is unknown, including whether it was carried out.
    #[error("{0}")]
    Away(String),
}

impl ApiError {
    pub(in crate::engine) const fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }

    pub(in crate::engine) const fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused { status: 409, .. })
    }
}

impl From<ApiError> for EngineError {
    /// A refusal counts as temporary; a caller that knows it is permanent says so itself.
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::Refused { status: 404, message } => Self::Gone(message),
            ApiError::Refused { message, .. } | ApiError::Away(message) => Self::Unavailable(message),
        }
    }
}

/// An error and its causes, in one line.
pub(in crate::engine) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        let part = source.to_string();
        if !text.contains(&part) {
            text = format!("{text}: {part}");
        }
        cause = source.source();
    }
    text
}
