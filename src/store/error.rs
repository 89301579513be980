//! Database errors, classified by what the caller does about them.

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A unique index already holds the value.
    #[error("another row holds the same value")]
    Duplicate(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The disk is full: nothing was stored.
    #[error("the disk that holds the database is full")]
    Full(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The database can't be reached or queried now.
    #[error("the database is unavailable")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A statement was given up because it took too long: it asked for too much, or the database is too busy.
    #[error("the database took too long")]
    TookTooLong(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The file is not a database, or a damaged one.
    #[error("the database is damaged or no database")]
    Corrupt(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The database can't be used by this program.
    #[error("{0}")]
    Unusable(String),
    /// A row holds a value that the code does not understand.
    #[error("column {column} of a row can't be read: {problem}")]
    Decode { column: usize, problem: String },
    #[error("the database refused a statement")]
    Other(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl StoreError {
    /// A copy of the error, for another caller affected by it.
    pub(super) fn again(&self) -> Self {
        match self {
            Self::Duplicate(source) => Self::Duplicate(source.to_string().into()),
            Self::Full(source) => Self::Full(source.to_string().into()),
            Self::Unavailable(source) => Self::Unavailable(source.to_string().into()),
            Self::TookTooLong(source) => Self::TookTooLong(source.to_string().into()),
            Self::Corrupt(source) => Self::Corrupt(source.to_string().into()),
            Self::Unusable(reason) => Self::Unusable(reason.clone()),
            Self::Decode { column, problem } => Self::Decode { column: *column, problem: problem.clone() },
            Self::Other(source) => Self::Other(source.to_string().into()),
        }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode as Code;
        const UNIQUE: [i32; 2] = [rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE, rusqlite::ffi::SQLITE_CONSTRAINT_PRIMARYKEY];
        let Some(&failure) = error.sqlite_error() else { return Self::Other(error.into()) };
        // Only the text: the error's source repeats it.
        let error = error.to_string();
        match failure.code {
            Code::ConstraintViolation if UNIQUE.contains(&failure.extended_code) => Self::Duplicate(error.into()),
            Code::DiskFull => Self::Full(error.into()),
            // The index of the write-ahead log could not grow: its file is beside the database.
            Code::SystemIoFailure if failure.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE => {
                Self::Full(error.into())
            }
            Code::OperationInterrupted => Self::TookTooLong(error.into()),
            Code::NotADatabase | Code::DatabaseCorrupt => Self::Corrupt(error.into()),
            Code::DatabaseBusy
            | Code::DatabaseLocked
            | Code::CannotOpen
            | Code::ReadOnly
            | Code::PermissionDenied
            | Code::SystemIoFailure => Self::Unavailable(error.into()),
            _ => Self::Other(error.into()),
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        // https://www.postgresql.org/docs/current/errcodes-appendix.html
        let code =
            error.as_database_error().and_then(sqlx::error::DatabaseError::code).unwrap_or_default().into_owned();
        let is_unreachable = matches!(
            error,
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed
        );
        // Only the text: it includes the source's, and the human-readable part of the database's own message.
        let error = error.as_database_error().map_or_else(|| error.to_string(), |words| words.message().to_owned());
        match code.as_str() {
            "23505" => Self::Duplicate(error.into()),
            "53100" => Self::Full(error.into()),
            // Canceled by its time limit.
            "57014" => Self::TookTooLong(error.into()),
            "XX001" | "XX002" => Self::Corrupt(error.into()),
            _ if is_unreachable => Self::Unavailable(error.into()),
            // Connection, transaction state (read-only, or ended by a time limit), authorization, resources, operator
            // intervention (the server stops or starts), serialization; and a missing database.
            code if ["08", "25", "28", "3D", "40", "53", "57"].iter().any(|class| code.starts_with(class)) => {
                Self::Unavailable(error.into())
            }
            _ => Self::Other(error.into()),
        }
    }
}
