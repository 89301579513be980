//! Identifiers. A run id is a UUID of version 7, so that ids sort by the time they were made.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// `<group_name>-<uuid>`, made by the server; clients treat it as opaque.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DefinitionId(String);

impl DefinitionId {
    #[must_use]
    pub fn generate(group_name: &str) -> Self {
        Self(format!("{group_name}-{}", Uuid::new_v4()))
    }

    /// An id as a client or the database gave it; one that never existed is simply not found.
    #[must_use]
    pub fn from_text(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DefinitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which engine has an attempt: what that engine calls itself, and no other does.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EngineId(String);

impl EngineId {
    #[must_use]
    pub fn from_text(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EngineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(Uuid);

impl RunId {
    /// A new id that sorts after those made in earlier milliseconds.
    #[must_use]
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl FromStr for RunId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::try_parse(text).map(Self)
    }
}

/// One try to execute a run, counted from 1. Its text form names the engine's object, so that a second launch finds the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttemptId {
    pub run_id: RunId,
    pub attempt: u32,
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.run_id, self.attempt)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("`{0}` does not name an attempt: expected RUN_ID-NUMBER")]
pub struct NotAnAttempt(String);

impl FromStr for AttemptId {
    type Err = NotAnAttempt;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = text.rsplit_once('-').and_then(|(run_id, attempt)| {
            Some(Self { run_id: run_id.parse().ok()?, attempt: attempt.parse().ok().filter(|n| *n > 0)? })
        });
        parsed.ok_or_else(|| NotAnAttempt(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_id_reads_back_from_its_text() {
        let id = AttemptId { run_id: RunId::generate(), attempt: 12 };
        assert_eq!(id.to_string().parse::<AttemptId>().unwrap(), id);
    }

    #[test]
    fn what_is_not_an_attempt_is_refused() {
        for text in ["", "x", "-1", &format!("{}-0", RunId::generate()), &RunId::generate().to_string()[..30]] {
            assert!(text.parse::<AttemptId>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_definition_id_starts_with_its_group() {
        assert!(DefinitionId::generate("science").as_str().starts_with("science-"));
    }
}
