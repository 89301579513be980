//! Rows, reading values from them, and the result of a write.

use std::str::FromStr;

use jiff::Timestamp;
use serde::de::DeserializeOwned;

use super::StoreError;
use super::statement::Value;
use super::text::Text;

/// A row, read from left to right.
#[derive(Debug)]
pub(super) struct Row {
    columns: std::vec::IntoIter<Value>,
    read: usize,
}

impl Row {
    pub(super) fn new(columns: Vec<Value>) -> Self {
        Self { columns: columns.into_iter(), read: 0 }
    }

    fn next(&mut self) -> Result<Value, StoreError> {
        self.read += 1;
        self.columns.next().ok_or_else(|| self.error("there is no such column"))
    }

    fn error(&self, problem: impl Into<String>) -> StoreError {
        StoreError::Decode { column: self.read, problem: problem.into() }
    }

    pub(super) fn maybe_int(&mut self) -> Result<Option<i64>, StoreError> {
        match self.next()? {
            Value::Int(value) => Ok(value),
            Value::Text(None) => Ok(None),
            Value::Text(Some(_)) => Err(self.error("is a text, not a number")),
        }
    }

    pub(super) fn maybe_text(&mut self) -> Result<Option<String>, StoreError> {
        match self.next()? {
            Value::Text(value) => Ok(value.map(Text::into_string)),
            Value::Int(None) => Ok(None),
            Value::Int(Some(_)) => Err(self.error("is a number, not a text")),
        }
    }

    pub(super) fn int(&mut self) -> Result<i64, StoreError> {
        self.maybe_int()?.ok_or_else(|| self.error("is null"))
    }

    pub(super) fn count(&mut self) -> Result<u64, StoreError> {
        let value = self.int()?;
        u64::try_from(value).map_err(|_| self.error(format!("{value} is no count")))
    }

    pub(super) fn u32(&mut self) -> Result<u32, StoreError> {
        let value = self.int()?;
        u32::try_from(value).map_err(|_| self.error(format!("{value} is no small count")))
    }

    pub(super) fn boolean(&mut self) -> Result<bool, StoreError> {
        Ok(self.int()? != 0)
    }

    pub(super) fn text(&mut self) -> Result<String, StoreError> {
        self.maybe_text()?.ok_or_else(|| self.error("is null"))
    }

    pub(super) fn maybe_time(&mut self) -> Result<Option<Timestamp>, StoreError> {
        let micros = self.maybe_int()?;
        micros.map(Timestamp::from_microsecond).transpose().map_err(|error| self.error(error.to_string()))
    }

    pub(super) fn time(&mut self) -> Result<Timestamp, StoreError> {
        self.maybe_time()?.ok_or_else(|| self.error("is null"))
    }

    /// A word or an id, parsed from its text.
    pub(super) fn parsed<T: FromStr<Err: ToString>>(&mut self) -> Result<T, StoreError> {
        self.maybe_parsed()?.ok_or_else(|| self.error("is null"))
    }

    pub(super) fn maybe_parsed<T: FromStr<Err: ToString>>(&mut self) -> Result<Option<T>, StoreError> {
        let text = self.maybe_text()?;
        text.map(|text| text.parse()).transpose().map_err(|error: T::Err| self.error(error.to_string()))
    }

    pub(super) fn json<T: DeserializeOwned>(&mut self) -> Result<T, StoreError> {
        let text = self.text()?;
        serde_json::from_str(&text).map_err(|error| self.error(error.to_string()))
    }

    pub(super) fn maybe_json<T: DeserializeOwned>(&mut self) -> Result<Option<T>, StoreError> {
        let text = self.maybe_text()?;
        text.map(|text| serde_json::from_str(&text)).transpose().map_err(|error| self.error(error.to_string()))
    }
}

/// A structure read from one row.
pub(super) trait FromRow: Sized {
    fn from_row(row: &mut Row) -> Result<Self, StoreError>;
}

/// The result of a write.
#[derive(Debug)]
pub(super) enum Written {
    /// It is durable; these are the rows that each statement returned.
    Done(Vec<Vec<Row>>),
    /// A required statement affected no row, so nothing was changed.
    Refused,
}

impl Written {
    pub(super) const fn is_done(&self) -> bool {
        matches!(self, Self::Done(_))
    }

    /// How many rows this statement returned.
    pub(super) fn rows(&self, statement: usize) -> usize {
        match self {
            Self::Done(returned) => returned.get(statement).map_or(0, Vec::len),
            Self::Refused => 0,
        }
    }
}

impl FromRow for u64 {
    fn from_row(row: &mut Row) -> Result<Self, StoreError> {
        row.count()
    }
}

impl FromRow for String {
    fn from_row(row: &mut Row) -> Result<Self, StoreError> {
        row.text()
    }
}
