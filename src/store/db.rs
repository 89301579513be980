//! The seam between the statements, written once, and the two databases.
//!
//! A statement's text is in the dialect both share: `$1` parameters, `RETURNING`, `ON CONFLICT`, row comparison. Every
//! column is a text or a 64-bit integer: times are microseconds since 1970, truth is 0 or 1, structures are JSON.
//! A write is a short list of statements that take effect together or not at all; it can't look at the rows of one
//! statement to decide the next, so each says itself, in its `WHERE`, when it applies.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::StoreError;
use super::postgres::Postgres;
use super::sqlite::Sqlite;
use super::text::Text;

/// How long a search may take where nothing else is configured.
const SEARCH_PATIENCE: Duration = Duration::from_secs(10);

/// A value bound to a parameter, or read from a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Int(Option<i64>),
    Text(Option<Text>),
}

impl Value {
    /// A text as a column holds it.
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

/// What somebody else said: an engine, a kernel, a registry.
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
    /// The whole write is undone where this statement touches no row.
    pub(super) is_required: bool,
}

impl Statement {
    pub(super) fn new<const N: usize>(sql: &'static str, args: [Value; N]) -> Self {
        Self { sql: Cow::Borrowed(sql), args: args.into(), is_required: false }
    }

    /// Undoes the whole write where no row is touched.
    pub(super) fn required(self) -> Self {
        Self { is_required: true, ..self }
    }

    /// Whether it gives rows back, and is not to be asked how many it touched.
    pub(super) fn returns_rows(&self) -> bool {
        self.sql.starts_with("SELECT") || self.sql.contains("RETURNING")
    }
}

/// A statement put together from parts, for the lists with free filters. Each bound value gets the next `$n`.
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

    /// ` IN (…)` of any number of texts, which are bound as one value, so that the statement stays the same.
    pub(super) fn push_in(&mut self, db: &Db, texts: &[&str]) -> &mut Self {
        let (before, after) = match db.is_postgres() {
            true => (" IN (SELECT json_array_elements_text(CAST(", " AS json)))"),
            false => (" IN (SELECT value FROM json_each(", "))"),
        };
        self.push(before).bind(json(&texts)).push(after)
    }

    pub(super) fn build(self) -> Statement {
        Statement { sql: Cow::Owned(self.sql), args: self.args, is_required: false }
    }
}

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

    pub(super) fn small(&mut self) -> Result<u32, StoreError> {
        let value = self.int()?;
        u32::try_from(value).map_err(|_| self.error(format!("{value} is no small count")))
    }

    pub(super) fn truth(&mut self) -> Result<bool, StoreError> {
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

    /// A word or an id that reads itself from text.
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

/// A structure that one row holds.
pub(super) trait FromRow: Sized {
    fn from_row(row: &mut Row) -> Result<Self, StoreError>;
}

/// What became of a write.
#[derive(Debug)]
pub(super) enum Written {
    /// It is durable; these are the rows that each statement gave back.
    Done(Vec<Vec<Row>>),
    /// A required statement touched nothing, so nothing was changed.
    Refused,
}

impl Written {
    pub(super) const fn is_done(&self) -> bool {
        matches!(self, Self::Done(_))
    }

    /// How many rows this statement gave back.
    pub(super) fn rows(&self, statement: usize) -> usize {
        match self {
            Self::Done(returned) => returned.get(statement).map_or(0, Vec::len),
            Self::Refused => 0,
        }
    }
}

/// Who waits for a statement. Each kind of work has connections of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Requests,
    Loops,
    Readiness,
}

/// The database, for one purpose. Copies share it.
#[derive(Clone)]
pub(super) struct Db {
    backend: Arc<Backend>,
    purpose: Purpose,
    search_patience: Duration,
}

#[expect(clippy::large_enum_variant, reason = "there is one in a process")]
enum Backend {
    Sqlite(Sqlite),
    Postgres(Postgres),
}

impl Db {
    pub(super) fn sqlite(sqlite: Sqlite) -> Self {
        Self::new(Backend::Sqlite(sqlite))
    }

    pub(super) fn postgres(postgres: Postgres) -> Self {
        Self::new(Backend::Postgres(postgres))
    }

    fn new(backend: Backend) -> Self {
        Self { backend: Arc::new(backend), purpose: Purpose::Requests, search_patience: SEARCH_PATIENCE }
    }

    pub(super) fn with_purpose(&self, purpose: Purpose) -> Self {
        Self { purpose, ..self.clone() }
    }

    pub(super) fn with_search_patience(self, search_patience: Duration) -> Self {
        Self { search_patience, ..self }
    }

    /// A connection of its own to change the schema by, where that was not done when the database was opened.
    pub(super) async fn connect_for_schema(&self) -> Result<Option<sqlx::PgConnection>, StoreError> {
        match &*self.backend {
            Backend::Sqlite(_) => Ok(None),
            Backend::Postgres(db) => db.connect_for_schema().await.map(Some),
        }
    }

    /// Carries out the statements in one transaction, and returns when it is durable.
    pub(super) async fn write(&self, statements: Vec<Statement>) -> Result<Written, StoreError> {
        match &*self.backend {
            Backend::Sqlite(db) => db.write(statements).await,
            // Boxed, as below: it keeps the futures of all callers small.
            Backend::Postgres(db) => Box::pin(db.write(self.purpose, &statements)).await,
        }
    }

    pub(super) async fn read<T: FromRow + Send + 'static>(&self, statement: Statement) -> Result<Vec<T>, StoreError> {
        match &*self.backend {
            Backend::Sqlite(db) => db.read(self.purpose, statement).await,
            Backend::Postgres(db) => Box::pin(db.read(self.purpose, &statement)).await,
        }
    }

    /// At most one row, found by a key: quick enough to be read on the spot.
    pub(super) async fn read_one<T: FromRow>(&self, statement: Statement) -> Result<Option<T>, StoreError> {
        match &*self.backend {
            Backend::Sqlite(db) => db.read_one(self.purpose, &statement).await,
            Backend::Postgres(db) => Ok(Box::pin(db.read(self.purpose, &statement)).await?.into_iter().next()),
        }
    }

    /// What a statement gives that may look at every row, on connections which only such statements use.
    /// [`StoreError::TookTooLong`] after `until`.
    pub(super) async fn search<T: FromRow + Send + 'static>(
        &self,
        statement: Statement,
        until: Instant,
    ) -> Result<Vec<T>, StoreError> {
        match &*self.backend {
            Backend::Sqlite(db) => db.search(statement, until).await,
            Backend::Postgres(db) => Box::pin(db.search(&statement, until)).await,
        }
    }

    /// A search where it has to end by some time, else a read.
    pub(super) async fn list<T: FromRow + Send + 'static>(
        &self,
        statement: Statement,
        until: Option<Instant>,
    ) -> Result<Vec<T>, StoreError> {
        match until {
            Some(until) => self.search(statement, until).await,
            None => self.read(statement).await,
        }
    }

    /// When a search that begins now is given up.
    pub(super) fn search_deadline(&self) -> Instant {
        Instant::now() + self.search_patience
    }

    /// Where one text is found in another, counted from 1, as a function of both databases.
    pub(super) fn position_function(&self) -> &'static str {
        if self.is_postgres() { "strpos" } else { "instr" }
    }

    /// A field of the JSON that a column holds, as JSON, as each database says it.
    pub(super) fn json_field(&self, column: &str, field: &str) -> String {
        match self.is_postgres() {
            true => format!("CAST(CAST({column} AS json) -> '{field}' AS text)"),
            false => format!("({column} -> '{field}')"),
        }
    }

    pub(super) fn is_postgres(&self) -> bool {
        matches!(*self.backend, Backend::Postgres(_))
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
