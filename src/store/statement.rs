//! Statements and the values bound to them.
//!
//! A statement's text is in the dialect that both databases share: `$1` parameters, `RETURNING`, `ON CONFLICT`, row
//! comparison. Every column is a text or a 64-bit integer: times are microseconds since 1970, booleans are 0 or 1,
//! structures are JSON.

use std::borrow::Cow;
use std::fmt::Write as _;

use jiff::Timestamp;
use serde::Serialize;

use super::text::Text;

/// A value bound to a parameter, or read from a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Int(Option<i64>),
    Text(Option<Text>),
}

impl Value {
    /// A text exactly as a column holds it.
    pub(super) fn stored(text: Option<String>) -> Self {
        Self::Text(text.map(Text::stored))
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(Some(value))
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Int(Some(value.into()))
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Int(Some(value.into()))
    }
}

impl From<Option<i64>> for Value {
    fn from(value: Option<i64>) -> Self {
        Self::Int(value)
    }
}

impl From<Timestamp> for Value {
    fn from(value: Timestamp) -> Self {
        Self::Int(Some(value.as_microsecond()))
    }
}

impl From<Option<Timestamp>> for Value {
    fn from(value: Option<Timestamp>) -> Self {
        Self::Int(value.map(Timestamp::as_microsecond))
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(Some(Text::clean(value.to_owned())))
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(Some(Text::clean(value)))
    }
}

impl From<Option<String>> for Value {
    fn from(value: Option<String>) -> Self {
        Self::Text(value.map(Text::clean))
    }
}

/// A structure as JSON text.
pub(super) fn json(value: &impl Serialize) -> Value {
    Value::Text(Some(Text::json(value)))
}

/// Text from outside: an engine, a kernel, a registry.
pub(super) fn words(value: &str) -> Value {
    Value::Text(Some(Text::words(value)))
}

pub(super) fn maybe_words(value: Option<&str>) -> Value {
    Value::Text(value.map(Text::words))
}

/// A statement with its values.
#[derive(Debug, Clone)]
pub(super) struct Statement {
    pub(super) sql: Cow<'static, str>,
    pub(super) args: Vec<Value>,
    /// Whether the whole write is undone if this statement affects no row.
    pub(super) is_required: bool,
}

impl Statement {
    pub(super) fn new<const N: usize>(sql: &'static str, args: [Value; N]) -> Self {
        Self { sql: Cow::Borrowed(sql), args: args.into(), is_required: false }
    }

    /// Undoes the whole write if this statement affects no row.
    pub(super) fn required(self) -> Self {
        Self { is_required: true, ..self }
    }

    /// Whether it returns rows, in which case the number of affected rows must not be requested.
    pub(super) fn returns_rows(&self) -> bool {
        self.sql.starts_with("SELECT") || self.sql.contains("RETURNING")
    }
}

/// A statement built from parts, for lists with free filters. Each bound value gets the next `$n`.
#[derive(Debug, Default)]
pub(super) struct Builder {
    sql: String,
    args: Vec<Value>,
}

impl Builder {
    pub(super) fn new(sql: &str) -> Self {
        Self { sql: sql.to_owned(), args: Vec::new() }
    }

    pub(super) fn push(&mut self, sql: &str) -> &mut Self {
        self.sql.push_str(sql);
        self
    }

    pub(super) fn bind(&mut self, value: impl Into<Value>) -> &mut Self {
        self.args.push(value.into());
        write!(self.sql, "${}", self.args.len()).expect("writing to a string works");
        self
    }

    /// `$1, $2, …` for the items of an `IN (…)`.
    pub(super) fn bind_all<V: Into<Value>>(&mut self, values: impl IntoIterator<Item = V>) -> &mut Self {
        for (i, value) in values.into_iter().enumerate() {
            if i > 0 {
                self.push(", ");
            }
            self.bind(value);
        }
        self
    }

    pub(super) fn build(self) -> Statement {
        Statement { sql: Cow::Owned(self.sql), args: self.args, is_required: false }
    }
}
