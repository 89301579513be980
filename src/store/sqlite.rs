//! SQLite: one thread writes, and commits many callers' writes in one transaction (group commit); a few connections
//! read, and never wait for it (write-ahead log). Each kind of work has some of its own.
//!
//! A caller is answered only after the commit that holds its write is on the disk (`synchronous=FULL`). Each write
//! stands in a savepoint of its own, so one that fails does not take its neighbours with it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::config::DbConfig;
use rusqlite::types::{Null, ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags, ToSql, params_from_iter};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::StoreError;
use super::purpose::Purpose;
use super::row::{FromRow, Row, Written};
use super::statement::{Statement, Value};
use super::text::Text;

/// How many writes may wait before callers are held back.
const QUEUED_WRITES: usize = 1024;
/// Most writes committed together; more would only delay the first of them.
const GROUP: usize = 256;
/// How many reads run concurrently, by purpose. Searches leave a core to the others on most machines.
const FOR_REQUESTS: usize = 3;
const FOR_LOOPS: usize = 2;
const FOR_SEARCHES: usize = 2;
/// How long a read that is not a search may take: such reads take milliseconds.
const READ_PATIENCE: Duration = Duration::from_secs(10);
/// How long a write may wait for its turn, and then for its completion: the disk may hang, or another program may
/// lock the file.
const WRITE_PATIENCE: Duration = Duration::from_secs(15);
/// How many virtual machine steps SQLite executes between two checks of the time, a fraction of a millisecond.
const STEPS_BETWEEN_LOOKS: i32 = 1000;
/// The largest file that is read completely at the start: that takes a tenth of a second.
const CHECKED_BYTES: u64 = 64 << 20;
/// Prepared statements kept by each connection; the program has fewer, apart from those with free filters.
const STATEMENTS: usize = 128;

struct Job {
    statements: Vec<Statement>,
    /// The write is not begun after this: its caller has been told that it failed.
    until: Instant,
    reply: oneshot::Sender<Result<Written, StoreError>>,
}

pub(super) struct Sqlite {
    writer: mpsc::Sender<Job>,
    requests: Arc<Readers>,
    loops: Arc<Readers>,
    searches: Arc<Readers>,
}

impl Sqlite {
    /// Opens the file, creating it if missing, and brings its schema up to date with `migrate`.
    pub(super) fn open(
        path: &Path,
        migrate: impl FnOnce(&mut Connection) -> Result<(), StoreError>,
    ) -> Result<Self, StoreError> {
        let mut connection = Connection::open(path)?;
        // A database that can't be used is left as it is, including the contents of its write-ahead log.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        // The rollback data of a savepoint, which for a launch exceeds the 64 KB that may stay in memory, would be
        // written to a new file in /var/tmp each time.
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        configure(&connection)?;
        check(&connection, path)?;
        migrate(&mut connection)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
        let (writer, jobs) = mpsc::channel(QUEUED_WRITES);
        std::thread::Builder::new()
            .name("sqlite-writer".to_owned())
            .spawn(move || write_until_closed(&connection, jobs))
            .map_err(|error| StoreError::Unavailable(error.into()))?;
        let readers = |number| Ok::<_, StoreError>(Arc::new(Readers::open(path, number)?));
        let (requests, loops, searches) = (readers(FOR_REQUESTS)?, readers(FOR_LOOPS)?, readers(FOR_SEARCHES)?);
        Ok(Self { writer, requests, loops, searches })
    }

    pub(super) async fn write(&self, statements: Vec<Statement>) -> Result<Written, StoreError> {
        let stopped = || StoreError::Unavailable("the database writer has ended".into());
        let silent = || StoreError::Unavailable("the disk did not answer in time".into());
        let (reply, answer) = oneshot::channel();
        let until = Instant::now() + WRITE_PATIENCE;
        timeout_at(until, self.writer.send(Job { statements, until, reply }))
            .await
            .map_err(|_| silent())?
            .map_err(|_| stopped())?;
        timeout_at(until + WRITE_PATIENCE, answer).await.map_err(|_| silent())?.map_err(|_| stopped())?
    }

    pub(super) async fn read<T: FromRow + Send + 'static>(
        &self,
        purpose: Purpose,
        statement: Statement,
    ) -> Result<Vec<T>, StoreError> {
        read_in_thread(self.readers(purpose), statement, Instant::now() + READ_PATIENCE).await
    }

    /// Like `read`, for a statement that may scan every row. It ends at `until`, or when its caller stops waiting.
    pub(super) async fn search<T: FromRow + Send + 'static>(
        &self,
        statement: Statement,
        until: Instant,
    ) -> Result<Vec<T>, StoreError> {
        read_in_thread(&self.searches, statement, until).await
    }

    pub(super) async fn read_one<T: FromRow>(
        &self,
        purpose: Purpose,
        statement: &Statement,
    ) -> Result<Option<T>, StoreError> {
        let readers = self.readers(purpose);
        let until = Instant::now() + READ_PATIENCE;
        let permit = timeout_at(until, readers.permits.acquire()).await.map_err(|_| too_busy())?;
        let rows = readers.with(|connection| query(connection, statement, T::from_row));
        drop(permit);
        Ok(rows?.pop())
    }

    const fn readers(&self, purpose: Purpose) -> &Arc<Readers> {
        match purpose {
            Purpose::Requests | Purpose::Readiness => &self.requests,
            Purpose::Loops => &self.loops,
        }
    }
}

async fn read_in_thread<T: FromRow + Send + 'static>(
    readers: &Arc<Readers>,
    statement: Statement,
    until: Instant,
) -> Result<Vec<T>, StoreError> {
    let permit = timeout_at(until, Arc::clone(&readers.permits).acquire_owned()).await.map_err(|_| too_busy())?;
    let readers = Arc::clone(readers);
    let abandoned = CancellationToken::new();
    let (is_abandoned, at_end) = (abandoned.clone(), abandoned.drop_guard());
    let reading = tokio::task::spawn_blocking(move || {
        let is_over = move || is_abandoned.is_cancelled() || Instant::now() >= until;
        let result = readers.with(|connection| {
            connection.progress_handler(STEPS_BETWEEN_LOOKS, Some(is_over))?;
            let result = query(connection, &statement, T::from_row);
            connection.progress_handler(0, None::<fn() -> bool>)?;
            result
        });
        drop(permit);
        result
    });
    let result = reading.await.map_err(|error| StoreError::Other(error.into()))?;
    drop(at_end);
    result
}

fn too_busy() -> StoreError {
    StoreError::TookTooLong("too many other searches are running".into())
}

/// Connections that only read. All are opened at the start, while files can still be opened.
struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
}

impl Readers {
    fn open(path: &Path, number: usize) -> Result<Self, StoreError> {
        let idle = (0..number).map(|_| open_reader(path)).collect::<Result<_, _>>()?;
        Ok(Self { path: path.to_owned(), idle: Mutex::new(idle), permits: Arc::new(Semaphore::new(number)) })
    }

    fn with<T>(&self, read: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let idle = self.idle.lock().pop();
        // A read that panicked took its connection with it.
        let connection = idle.map_or_else(|| open_reader(&self.path), Ok)?;
        let result = read(&connection);
        self.idle.lock().push(connection);
        result
    }
}

fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    configure(&connection)?;
    // The write-ahead log is opened by the first read.
    connection.query_one("SELECT COUNT(*) FROM sqlite_schema", [], |_| Ok(()))?;
    Ok(connection)
}

/// Checks for damage if that takes negligible time: earlier than a request would hit it, and before more is written
/// on top.
fn check(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let length = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    if length > CHECKED_BYTES {
        return Ok(());
    }
    let found: String = connection.query_one("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    // The first line may only say where the second was found.
    let damage = found.lines().last().unwrap_or_default();
    if damage == "ok" { Ok(()) } else { Err(StoreError::Corrupt(damage.into())) }
}

fn configure(connection: &Connection) -> Result<(), StoreError> {
    // Another program may read the file while the server runs.
    connection.busy_timeout(std::time::Duration::from_secs(10))?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // Otherwise a statement with a bound LIMIT is planned anew each time it is used, because another number might
    // suit another plan. For the statement that reads the last runs of a hundred tasks, that is half of its time.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(())
}

fn write_until_closed(connection: &Connection, mut jobs: mpsc::Receiver<Job>) {
    let mut group = Vec::new();
    loop {
        if jobs.blocking_recv_many(&mut group, GROUP) == 0 {
            return;
        }
        let (replies, results) = write_group(connection, std::mem::take(&mut group));
        for (reply, result) in replies.into_iter().zip(results) {
            // A caller that went away no longer needs the answer, but still wants the write.
            let _ = reply.send(result);
        }
    }
}

type Replies = Vec<oneshot::Sender<Result<Written, StoreError>>>;

/// Executes a group in one transaction. If that can't begin or commit, or is rolled back on the way, every write of
/// the group has failed.
fn write_group(connection: &Connection, group: Vec<Job>) -> (Replies, Vec<Result<Written, StoreError>>) {
    let now = Instant::now();
    let (late, group): (Vec<_>, Vec<_>) = group.into_iter().partition(|job| job.until <= now);
    for job in late {
        // The caller has gone, or is answered now; none of its write was executed.
        let _ = job.reply.send(Err(StoreError::Unavailable("the disk did not answer in time".into())));
    }
    let (jobs, replies): (Vec<_>, Replies) = group.into_iter().map(|job| (job.statements, job.reply)).unzip();
    let results = carry_out_together(connection, &jobs).unwrap_or_else(|error| {
        // A full disk may have rolled the transaction back already, and the error says so.
        if let Err(error) = connection.execute_batch("ROLLBACK") {
            tracing::debug!(%error, "nothing was left to roll back");
        }
        jobs.iter().map(|_| Err(error.again())).collect()
    });
    (replies, results)
}

/// The outer error applies to the whole group.
fn carry_out_together(
    connection: &Connection,
    jobs: &[Vec<Statement>],
) -> Result<Vec<Result<Written, StoreError>>, StoreError> {
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let results = jobs.iter().map(|statements| write_one(connection, statements)).collect::<Result<_, _>>()?;
    connection.execute_batch("COMMIT")?;
    Ok(results)
}

/// Executes one write completely or not at all. The outer error applies to the whole group.
fn write_one(connection: &Connection, statements: &[Statement]) -> Result<Result<Written, StoreError>, StoreError> {
    connection.execute_batch("SAVEPOINT one")?;
    match carry_out(connection, statements) {
        // After some errors SQLite has rolled back the whole transaction (https://sqlite.org/lang_transaction.html,
        // section 3). A further savepoint would begin another, and keep writes whose callers are told that they
        // failed.
        Err(error) if connection.is_autocommit() => Err(error),
        result => {
            let is_kept = matches!(result, Ok(Written::Done(_)));
            connection.execute_batch(if is_kept { "RELEASE one" } else { "ROLLBACK TO one; RELEASE one" })?;
            Ok(result)
        }
    }
}

fn carry_out(connection: &Connection, statements: &[Statement]) -> Result<Written, StoreError> {
    let mut returned = Vec::with_capacity(statements.len());
    for statement in statements {
        let (rows, touched) = if statement.returns_rows() {
            let rows = query(connection, statement, |row| Ok(std::mem::replace(row, Row::new(vec![]))))?;
            let touched = rows.len();
            (rows, touched)
        } else {
            let touched = connection.prepare_cached(&placeholders(statement))?.execute(bound(statement))?;
            (Vec::new(), touched)
        };
        if statement.is_required && touched == 0 {
            return Ok(Written::Refused);
        }
        returned.push(rows);
    }
    Ok(Written::Done(returned))
}

fn query<T>(
    connection: &Connection,
    statement: &Statement,
    decode: impl Fn(&mut Row) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let mut prepared = connection.prepare_cached(&placeholders(statement))?;
    let columns = prepared.column_count();
    let mut rows = prepared.query(bound(statement))?;
    let mut decoded = Vec::new();
    while let Some(row) = rows.next()? {
        let values = (0..columns).map(|i| value(row.get_ref(i)?, i)).collect::<Result<_, StoreError>>()?;
        decoded.push(decode(&mut Row::new(values))?);
    }
    Ok(decoded)
}

/// SQLite takes `$1` for a name and numbers names in order of appearance; `?1` is the first value wherever it stands.
/// Our statements contain no other `$`.
fn placeholders(statement: &Statement) -> String {
    statement.sql.replace('$', "?")
}

fn bound(statement: &Statement) -> impl rusqlite::Params {
    params_from_iter(statement.args.iter().map(|value| -> &dyn ToSql {
        match value {
            Value::Int(value) => value,
            Value::Text(Some(value)) => value,
            Value::Text(None) => &Null,
        }
    }))
}

impl ToSql for Text {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.as_str().into())
    }
}

fn value(value: ValueRef<'_>, column: usize) -> Result<Value, StoreError> {
    match value {
        ValueRef::Null => Ok(Value::Int(None)),
        ValueRef::Integer(value) => Ok(Value::Int(Some(value))),
        ValueRef::Text(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Value::stored(Some(text.to_owned()))),
            Err(error) => Err(StoreError::Decode { column, problem: error.to_string() }),
        },
        ValueRef::Real(_) | ValueRef::Blob(_) => {
            Err(StoreError::Decode { column, problem: "is neither text nor an integer".to_owned() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(statements: Vec<Statement>) -> Job {
        Job { statements, until: Instant::now() + WRITE_PATIENCE, reply: oneshot::channel().0 }
    }

    fn insert(name: &str, bytes: usize) -> Job {
        let sql = "INSERT INTO things (name, content) VALUES ($1, $2)";
        job(vec![Statement::new(sql, [name.into(), "x".repeat(bytes).into()])])
    }

    fn names(connection: &Connection) -> Vec<String> {
        let mut select = connection.prepare("SELECT name FROM things ORDER BY name").unwrap();
        select.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn a_write_that_does_not_fit_on_the_disk_fails_with_all_of_its_group_and_nothing_of_it_stays() {
        let folder = tempfile::tempdir().unwrap();
        let connection = Connection::open(folder.path().join("db")).unwrap();
        connection.execute_batch("CREATE TABLE things (name TEXT PRIMARY KEY, content TEXT)").unwrap();
        connection.pragma_update(None, "max_page_count", 20).unwrap();
        let (_, results) = write_group(&connection, vec![insert("a", 10), insert("b", 1 << 20), insert("c", 10)]);
        for result in results {
            assert!(matches!(result, Err(StoreError::Full(_))), "{result:?}");
        }
        assert!(names(&connection).is_empty());

        let (_, results) = write_group(&connection, vec![insert("d", 10), insert("d", 10), insert("e", 10)]);
        assert!(matches!(results[..], [Ok(_), Err(StoreError::Duplicate(_)), Ok(_)]), "{results:?}");
        assert_eq!(names(&connection), ["d", "e"]);
    }
}
