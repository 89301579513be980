//! Events: a run's history, one entry each, in the shape of Kubernetes events.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::run::{UnknownWord, as_word};

/// The reason of the event that reports that the end of a run's log may be missing.
pub const LOG_CUT: &str = "LogCut";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventType {
    Normal,
    Warning,
}

/// Something that happened to a run. `reason` is one word for programs, `message` a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub timestamp: Timestamp,
    pub event_type: EventType,
    pub reason: String,
    /// The source of the event: `flotilla`, or the engine's own source.
    pub source_object: String,
    pub message: String,
}

impl Event {
    /// An event from the server itself.
    #[must_use]
    pub fn normal(timestamp: Timestamp, reason: &str, message: impl Into<String>) -> Self {
        Self {
            timestamp,
            event_type: EventType::Normal,
            reason: reason.to_owned(),
            source_object: "flotilla".to_owned(),
            message: message.into(),
        }
    }

    #[must_use]
    pub fn warning(timestamp: Timestamp, reason: &str, message: impl Into<String>) -> Self {
        Self { event_type: EventType::Warning, ..Self::normal(timestamp, reason, message) }
    }

    #[must_use]
    pub fn from_source(self, source_object: impl Into<String>) -> Self {
        Self { source_object: source_object.into(), ..self }
    }
}

impl EventType {
    pub const ALL: [Self; 2] = [Self::Normal, Self::Warning];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

as_word!(EventType);
