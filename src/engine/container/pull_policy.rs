//! When an image is fetched from its registry.

use std::str::FromStr;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PullPolicy {
    /// If the machine does not have it.
    #[default]
    Missing,
    /// Before every run, so that a moved tag is noticed.
    Always,
    /// Never: an image that the machine does not have can't be run.
    Never,
}

impl FromStr for PullPolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "missing" => Ok(Self::Missing),
            "always" => Ok(Self::Always),
            "never" => Ok(Self::Never),
            _ => Err(format!("must be `missing`, `always` or `never`, not {text:?}")),
        }
    }
}
