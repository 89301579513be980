//! The database, as configured by the operator. A password in it is never shown.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// Which database, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Database {
    /// Embedded, in one file, which is created if missing.
    Sqlite {
        path: PathBuf,
    },
    Postgres {
        url: PostgresUrl,
    },
}

/// The address of a PostgreSQL database. Its text forms hide possible secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl(String);

impl PostgresUrl {
    /// The whole address, for the driver only.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl Database {
    /// `postgres://…`, `postgresql://…`, or `sqlite:` and a path. No error text holds more than the scheme.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let needed = "must begin with `postgres://` or `sqlite:`";
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return Ok(Self::Postgres { url: PostgresUrl(text.to_owned()) });
        }
        if let Some(rest) = text.strip_prefix("sqlite:") {
            // `sqlite://x` and `sqlite:x` both are the relative path x, `sqlite:///x` is the absolute one.
            let path = rest.strip_prefix("//").unwrap_or(rest);
            return match path {
                "" => Err("must name a file after `sqlite:`".to_owned()),
                ":memory:" => Err("must name a file: a database in memory forgets every run".to_owned()),
                path if path.contains(['?', '\0']) => {
                    Err("must be a plain path after `sqlite:`, without `?`".to_owned())
                }
                path => Ok(Self::Sqlite { path: path.into() }),
            };
        }
        match text.split_once("://") {
            Some((scheme, _))
                if !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric() || c == '+') =>
            {
                Err(format!("{needed}, not with `{scheme}://`"))
            }
            _ => Err(needed.to_owned()),
        }
    }
}

impl Database {
    /// The address in a file, possibly surrounded by white space.
    pub(super) fn read_file(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let text = fs::read(path).map_err(|error| format!("can't be read: {shown}: {error}"))?;
        let text = String::from_utf8(text).map_err(|_| format!("must hold an address, and {shown} is no text"))?;
        match text.trim() {
            "" => Err(format!("must hold an address, and {shown} is empty")),
            text if text.contains(char::is_whitespace) => {
                Err(format!("must hold an address and nothing else, and {shown} holds several words or lines"))
            }
            text => Self::parse(text).map_err(|message| format!("can't be used: what {shown} holds {message}")),
        }
    }
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite { path } => write!(f, "sqlite:{}", path.display()),
            Self::Postgres { url } => url.fmt(f),
        }
    }
}

impl fmt::Display for PostgresUrl {
    /// Scheme, host and path. What stands before the last `@` is credentials, even where a password that isn't escaped
    /// confuses the rest, and parameters may hold a password too. Where there is no `@`, a `user:password` is shown
    /// as little as a port.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, rest) = self.0.split_once("://").unwrap_or(("postgres", ""));
        let (credentials, place) = match rest.rsplit_once('@') {
            Some((_, place)) => ("…@", place),
            None => ("", rest),
        };
        let place = place.split(['?', '#']).next().unwrap_or_default();
        let (host, path) = place.split_once('/').map_or((place, ""), |(host, path)| (host, path));
        let slash = if place.contains('/') { "/" } else { "" };
        match host.rsplit_once(':') {
            Some((name, port)) if !port.is_empty() && port.chars().all(|c| c.is_ascii_digit()) => {
                write!(f, "{scheme}://{credentials}{name}:{port}{slash}{path}")
            }
            Some(_) => write!(f, "{scheme}://{credentials}…"),
            None => write!(f, "{scheme}://{credentials}{host}{slash}{path}"),
        }
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_named_by_its_scheme() {
        let sqlite = |path: &str| Ok(Database::Sqlite { path: path.into() });
        assert_eq!(Database::parse("sqlite:a/b.db"), sqlite("a/b.db"));
        assert_eq!(Database::parse("sqlite://b.db"), sqlite("b.db"));
        assert_eq!(Database::parse("sqlite:///var/b c.db"), sqlite("/var/b c.db"));
        for text in ["postgres://h/d", "postgresql://u:p@h:5432/d?sslmode=require"] {
            let Ok(Database::Postgres { url }) = Database::parse(text) else { panic!("{text}") };
            assert_eq!(url.expose(), text);
        }
    }

    #[test]
    fn what_is_not_a_database_is_refused_without_showing_it() {
        for (text, message) in [
            ("", "must begin with `postgres://` or `sqlite:`"),
            ("host=h password=s3cret", "must begin with `postgres://` or `sqlite:`"),
            ("s3cret@h://x", "must begin with `postgres://` or `sqlite:`"),
            ("mysql://u:s3cret@h/d", "must begin with `postgres://` or `sqlite:`, not with `mysql://`"),
            ("sqlite:", "must name a file after `sqlite:`"),
            ("sqlite::memory:", "must name a file: a database in memory forgets every run"),
            ("sqlite://:memory:", "must name a file: a database in memory forgets every run"),
            ("sqlite:a.db?mode=ro", "must be a plain path after `sqlite:`, without `?`"),
        ] {
            assert_eq!(Database::parse(text), Err(message.to_owned()), "{text}");
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        for (text, shown) in [
            ("postgres://u:s3cret@h:5432/d", "postgres://…@h:5432/d"),
            ("postgres://u:s3cret@h/d?password=s3cret", "postgres://…@h/d"),
            ("postgres://u:s3/cr@et@h/d", "postgres://…@h/d"),
            ("postgres://u:s3cret?s3cret@h", "postgres://…@h"),
            ("postgres://u:s3cret", "postgres://…"),
            ("postgres://u:s3cret/d", "postgres://…"),
            ("postgres://h/d", "postgres://h/d"),
            ("postgres:///d?host=/run", "postgres:///d"),
            ("postgresql://[::1]:5432/d", "postgresql://[::1]:5432/d"),
        ] {
            let database = Database::parse(text).unwrap();
            assert_eq!(database.to_string(), shown);
            assert!(!format!("{database:?}").contains("s3"), "{database:?}");
        }
    }
}
