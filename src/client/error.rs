//! Errors between the client and a server, by what the caller can do about them.

use std::error::Error;
use std::fmt::Display;
use std::time::Duration;

use reqwest::Url;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// Nothing was sent.
    #[error("cannot reach the server at {server}: {cause}")]
    Unreachable { server: String, cause: String },
    /// The request was sent; whether it was carried out is unknown.
    #[error("the server at {server} gave no answer: {cause}")]
    NoAnswer { server: String, cause: String },
    /// The server's own words.
    #[error("{error}")]
    Refused { status: u16, error: String },
    /// The answer is not one of a Flotilla server of our version.
    #[error("unexpected answer from {server}: {cause}")]
    Unexpected { server: String, status: Option<u16>, cause: String },
    #[error("{0:?} can't be the name of anything")]
    BadName(String),
}

impl ClientError {
    /// Whether the same request may succeed later without any change.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::NoAnswer { .. } => true,
            // A proxy in front of an unavailable server answers with its own page.
            Self::Refused { status, .. } | Self::Unexpected { status: Some(status), .. } => *status >= 500,
            Self::Unexpected { status: None, .. } | Self::BadName(_) => false,
        }
    }

    /// Whether the server reports the requested object as unknown.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }

    pub(super) fn unreachable(server: &Url, error: &dyn Error) -> Self {
        Self::Unreachable { server: shown(server), cause: root_cause(error) }
    }

    pub(super) fn no_answer(server: &Url, error: &reqwest::Error) -> Self {
        let cause = if error.is_timeout() { "it took too long".to_owned() } else { root_cause(error) };
        Self::NoAnswer { server: shown(server), cause }
    }

    /// From a stream that broke.
    pub(super) fn broken(server: &Url, cause: &str) -> Self {
        Self::NoAnswer { server: shown(server), cause: cause.to_owned() }
    }

    pub(super) fn silent(server: &Url, waited: Duration) -> Self {
        let cause = format!("nothing came for {} s", waited.as_secs());
        Self::NoAnswer { server: shown(server), cause }
    }

    /// From a request that failed before its answer began.
    pub(super) fn not_sent(server: &Url, error: &reqwest::Error) -> Self {
        if error.is_connect() {
            let cause =
                if error.is_timeout() { "it doesn't accept a connection".to_owned() } else { root_cause(error) };
            return Self::Unreachable { server: shown(server), cause };
        }
        Self::no_answer(server, error)
    }

    /// With the status, if the error is about the status.
    pub(super) fn unexpected(server: &Url, status: Option<u16>, cause: &dyn Display) -> Self {
        Self::Unexpected { server: shown(server), status, cause: cause.to_string() }
    }
}

/// The address without possible secrets.
fn shown(server: &Url) -> String {
    let mut server = server.clone();
    // Both fail only for addresses without a host, which have neither.
    let _ = server.set_username("");
    let _ = server.set_password(None);
    server.set_query(None);
    server.as_str().trim_end_matches('/').to_owned()
}

/// The innermost error: the outer ones repeat it in other words.
fn root_cause(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_in_an_address_are_not_shown() {
        assert_eq!(shown(&"http://ada:s3cret@h:3000/x/?token=s3cret".parse().unwrap()), "http://h:3000/x");
    }
}
