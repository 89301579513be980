//! What goes wrong between us and a machine's API, by the one thing that matters: "it said no", or "nobody answered".

use crate::engine::EngineError;

/// Why a call did not give what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::engine) enum ApiError {
    /// The machine's API answered, and refused.
    #[error("{message}")]
    Refused { status: u16, message: String },
    /// Nobody answered: nothing is known about what was asked, not even whether it was done.
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
    /// A refusal is taken as one for now; a caller that knows that it is for good says so itself.
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::Refused { status: 404, message } => Self::Gone(message),
            ApiError::Refused { message, .. } | ApiError::Away(message) => Self::Unavailable(message),
        }
    }
}

/// An error and what it rests on, in one line.
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
