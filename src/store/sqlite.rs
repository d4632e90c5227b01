//! How connections are set up, and how SQLite's values and errors become ours.

use std::cell::{Cell, RefCell};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, MAIN_DB, OpenFlags, Params, ffi};

use crate::error::{Code, Error, Result};
use crate::model::ids::{Id, Tick};
use crate::model::names::{AgentId, BotId, ClientId, CompanyId, M365TenantId, TenantNo};

/// How long a connection waits for another process, such as the command line beside a server.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Statements that a connection keeps prepared.
const STATEMENTS: usize = 128;

/// Bytes after which a page ends early; what is read of it is held until it has been sent.
const PAGE_BYTES: usize = 4 * 1_024 * 1_024;

/// Rows of a list.
#[derive(Debug)]
pub struct Part<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// Whether there are more, although fewer came than were asked for.
    pub ends_early: bool,
}

impl<T> From<Vec<T>> for Part<T> {
    fn from(rows: Vec<T>) -> Self {
        Self {
            rows,
            ends_early: false,
        }
    }
}

/// A connection on one snapshot of the file.
pub struct Reader<'a> {
    connection: &'a Connection,
}

impl<'a> Reader<'a> {
    /// Reads through a connection that somebody else holds in a transaction.
    pub(super) fn within(connection: &'a Connection) -> Self {
        Self { connection }
    }

    /// The one row, or none.
    pub(super) fn optional<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(params)?;
        Ok(rows.next()?.map(|row| read(&Row::of(row))).transpose()?)
    }

    /// The one row that must be there.
    pub(super) fn one<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<T> {
        let mut statement = self.connection.prepare_cached(sql)?;
        Ok(statement.query_row(params, |row| read(&Row::of(row)))?)
    }

    /// All rows.
    pub(super) fn all<T>(
        &self,
        sql: &str,
        params: impl Params,
        mut read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let places = Places::default();
        let rows = statement.query_map(params, |row| read(&Row::of_list(row, &places)))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Reads row after row, without keeping them.
    pub(super) fn each(
        &self,
        sql: &str,
        params: impl Params,
        mut read: impl FnMut(&Row<'_>) -> rusqlite::Result<()>,
    ) -> Result<()> {
        self.all(sql, params, |row| read(row)).map(|_: Vec<()>| ())
    }

    /// The rows of a page: it ends early once a lot has been read, and says so if there was another row.
    pub(super) fn page<T>(
        &self,
        sql: &str,
        params: impl Params,
        mut read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Part<T>> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let columns = statement.column_count();
        let mut found = statement.query(params)?;
        let places = Places::default();
        let (mut rows, mut bytes) = (Vec::new(), 0);
        while let Some(row) = found.next()? {
            if bytes >= PAGE_BYTES {
                return Ok(Part {
                    rows,
                    ends_early: true,
                });
            }
            for column in 0..columns {
                bytes += match row.get_ref(column)? {
                    ValueRef::Text(value) | ValueRef::Blob(value) => value.len(),
                    ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => 0,
                };
            }
            rows.push(read(&Row::of_list(row, &places))?);
        }
        Ok(Part::from(rows))
    }

    /// At most so many bytes of a value, from a place in it on: SQLite reads no more of it.
    pub(super) fn piece(
        &self,
        table: &str,
        column: &str,
        row: Tick,
        from: u64,
        most: usize,
    ) -> Result<Vec<u8>> {
        let mut value = self
            .connection
            .blob_open("main", table, column, row.0, true)?;
        let unreadable = |error: io::Error| Error::Internal(error.into());
        value.seek(SeekFrom::Start(from)).map_err(unreadable)?;
        let left = value
            .len()
            .saturating_sub(usize::try_from(from).unwrap_or(usize::MAX));
        let mut piece = vec![0; left.min(most)];
        value.read_exact(&mut piece).map_err(unreadable)?;
        Ok(piece)
    }

    /// Runs a statement and says how many rows it changed.
    pub(super) fn execute(&self, sql: &str, params: impl Params) -> Result<usize> {
        Ok(self.connection.prepare_cached(sql)?.execute(params)?)
    }
}

/// A row whose columns are read by name.
///
/// SQLite compares a name with those of all columns. Rows are read in the order of their SELECT, so each name is looked
/// for where the last one was found; and the rows of a list are read alike, so it is where it was in the row before.
pub(super) struct Row<'a> {
    row: &'a rusqlite::Row<'a>,
    next: Cell<usize>,
    read: Cell<usize>,
    before: Option<&'a Places>,
}

/// The names that were read of a list's rows, in turn, and their places.
#[derive(Default)]
struct Places(RefCell<Vec<(&'static str, usize)>>);

impl Places {
    /// Where this very name was, if the row before was asked for it at the same turn.
    fn get(&self, nth: usize, name: &'static str) -> Option<usize> {
        let (known, place) = *self.0.borrow().get(nth)?;
        std::ptr::eq(known, name).then_some(place)
    }

    fn remember(&self, nth: usize, name: &'static str, place: usize) {
        let mut places = self.0.borrow_mut();
        places.truncate(nth);
        if places.len() == nth {
            places.push((name, place));
        }
    }
}

impl<'a> Row<'a> {
    fn of(row: &'a rusqlite::Row<'a>) -> Self {
        Self {
            row,
            next: Cell::new(0),
            read: Cell::new(0),
            before: None,
        }
    }

    fn of_list(row: &'a rusqlite::Row<'a>, before: &'a Places) -> Self {
        Self {
            before: Some(before),
            ..Self::of(row)
        }
    }

    /// The value of a column.
    pub(super) fn get<T: FromSql>(&self, name: &'static str) -> rusqlite::Result<T> {
        let nth = self.read.replace(self.read.get() + 1);
        let before = self.before.and_then(|places| places.get(nth, name));
        let place = match before {
            Some(place) => place,
            None => self.find(nth, name)?,
        };
        self.next.set(place + 1);
        self.row.get(place)
    }

    fn find(&self, nth: usize, name: &'static str) -> rusqlite::Result<usize> {
        let statement = self.row.as_ref();
        let next = self.next.get();
        let is_it = |place: &usize| {
            statement
                .column_name(*place)
                .is_ok_and(|column| column == name)
        };
        let place = (next..statement.column_count())
            .chain(0..next)
            .find(is_it)
            .ok_or_else(|| rusqlite::Error::InvalidColumnName(name.to_owned()))?;
        if let Some(places) = self.before {
            places.remember(nth, name, place);
        }
        Ok(place)
    }
}

/// Keeps a statement's plan whatever is bound to it: SQLite would otherwise compile a list anew for each page.
fn keep_plans(connection: &Connection) -> rusqlite::Result<()> {
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)
        .map(drop)
}

/// Opens a connection that writes; nothing is changed yet, since the file may be another program's.
pub(super) fn open_writer(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    // SQLite makes do with reading where the system has just refused more, as for want of file descriptors.
    if connection.is_readonly(MAIN_DB)? {
        return Err(failure(ffi::SQLITE_CANTOPEN));
    }
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(connection)
}

/// Finds a file whose last page is cut short: SQLite takes what is missing there for zeros. With a log beside it, as after a crash,
/// the page may be one that the log still has.
pub(super) fn check_length(connection: &Connection, path: &Path) -> rusqlite::Result<()> {
    let length = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let page: u64 = connection.query_row("PRAGMA page_size", [], |row| row.get(0))?;
    if length(Path::new(&log)) == 0 && !length(path).is_multiple_of(page) {
        return Err(failure(ffi::SQLITE_CORRUPT));
    }
    Ok(())
}

/// An error of SQLite by its number.
pub(super) fn failure(number: i32) -> rusqlite::Error {
    let message = ffi::code_to_str(number).to_owned();
    rusqlite::Error::SqliteFailure(ffi::Error::new(number), Some(message))
}

/// Sets up the connection that writes.
pub(super) fn prepare_writer(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    connection.pragma_update(None, "secure_delete", "ON")?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    // 32 MiB: the right-hand edges of every index, and the pages of the sessions that are talking now.
    connection.pragma_update(None, "cache_size", -32_768)?;
    // Checkpoints have a connection of their own, off the hot path.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    keep_plans(connection)?;
    Ok(())
}

/// Sets up a connection that reads.
pub(super) fn prepare_reader(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "query_only", "ON")?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    // 4 MiB: what it holds is forgotten with the next commit of anybody, so only one read, or the reads of a quiet time, have use of it.
    connection.pragma_update(None, "cache_size", -4_096)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    keep_plans(connection)?;
    Ok(())
}

/// Virtual machine steps of SQLite between two looks at the clock: some tens of microseconds.
const STEPS: i32 = 10_000;

/// Runs a step whose statements are interrupted once it is over.
pub(super) fn unless<T>(
    connection: &Connection,
    is_over: impl FnMut() -> bool + Send + 'static,
    step: impl FnOnce() -> Result<T>,
) -> Result<T> {
    connection.progress_handler(STEPS, Some(is_over))?;
    let _limited = Limited { connection };
    step()
}

/// Lifts the limit also when a step panics: its connection goes back to those that read for everybody.
struct Limited<'a> {
    connection: &'a Connection,
}

impl Drop for Limited<'_> {
    fn drop(&mut self) {
        let lifted = self.connection.progress_handler(0, None::<fn() -> bool>);
        if let Err(error) = lifted {
            log::error!("a read's limit was not lifted: {error}");
        }
    }
}

/// Runs a step in one read transaction.
pub(super) fn on_a_snapshot<T>(
    connection: &Connection,
    step: impl FnOnce(&Reader<'_>) -> Result<T>,
) -> Result<T> {
    let reader = Reader { connection };
    let _snapshot = Snapshot::begin(connection)?;
    step(&reader)
}

/// Ends the read transaction also when a step fails or panics.
struct Snapshot<'a> {
    connection: &'a Connection,
}

impl<'a> Snapshot<'a> {
    fn begin(connection: &'a Connection) -> Result<Self> {
        connection.prepare_cached("BEGIN DEFERRED")?.execute([])?;
        Ok(Self { connection })
    }
}

impl Drop for Snapshot<'_> {
    fn drop(&mut self) {
        let ended = self
            .connection
            .prepare_cached("COMMIT")
            .and_then(|mut statement| statement.execute([]));
        if let Err(error) = ended {
            // Of a damaged file it is told where it was read.
            if error.sqlite_error_code() != Some(ErrorCode::DatabaseCorrupt) {
                log::error!("a read transaction did not end: {error}");
            }
            drop(self.connection.execute_batch("ROLLBACK"));
        }
    }
}

const LAST_TICK: &str = "
SELECT max(
  coalesce((SELECT max(seq) FROM sessions), 0),
  coalesce((SELECT max(seq) FROM messages), 0),
  coalesce((SELECT max(seq) FROM turns), 0),
  coalesce((SELECT last_tick FROM turn_logs ORDER BY turn_seq DESC LIMIT 1), 0),
  coalesce((SELECT max(seq) FROM attachments), 0),
  coalesce((SELECT max(seq) FROM channels), 0),
  coalesce((SELECT max(seq) FROM installs), 0),
  coalesce((SELECT max(seq) FROM api_keys), 0),
  coalesce((SELECT max(seq) FROM knowledge_articles), 0),
  coalesce((SELECT max(seq) FROM audit_events), 0),
  coalesce((SELECT max(seq) FROM tenants), 0),
  coalesce((SELECT max(seq) FROM agents), 0),
  coalesce((SELECT max(seq) FROM end_companies), 0),
  coalesce((SELECT max(seq) FROM users), 0),
  coalesce((SELECT max(seq) FROM unlinked_tenants), 0),
  coalesce((SELECT max(done_seq) FROM search_progress), 0))";

/// The greatest tick in the file: ids go on behind it, also when the clock was set back between two starts.
///
/// How far the search index has come counts too: the newest message may be gone, and one behind it would never be indexed.
pub(super) fn last_tick(connection: &Connection) -> rusqlite::Result<Tick> {
    connection
        .query_row(LAST_TICK, [], |row| row.get(0))
        .map(Tick)
}

/// A number that changes with every commit of another connection, and with none of this one.
pub(super) fn version_of_others(connection: &Connection) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("PRAGMA data_version")?
        .query_row([], |row| row.get(0))
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        if is_full(&error) {
            return Code::StorageFull.into();
        }
        match error.sqlite_error_code() {
            Some(
                ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::OperationInterrupted,
            ) => Code::Overloaded.into(),
            _ => Self::Internal(error.into()),
        }
    }
}

/// Whether the disk is full. Where it is the file of the shared memory that cannot grow, SQLite gives no other reason.
pub(super) fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|failure| {
        failure.code == ErrorCode::DiskFull || failure.extended_code == ffi::SQLITE_IOERR_SHMSIZE
    })
}

/// Whether a statement failed on a unique index: what it wanted to add is there already.
pub(super) fn is_taken(error: &Error) -> bool {
    let Error::Internal(cause) = error else {
        return false;
    };
    cause
        .downcast_ref::<rusqlite::Error>()
        .is_some_and(|error| {
            matches!(
                error.sqlite_error().map(|failure| failure.extended_code),
                Some(ffi::SQLITE_CONSTRAINT_UNIQUE | ffi::SQLITE_CONSTRAINT_PRIMARYKEY)
            )
        })
}

impl<K> ToSql for Id<K> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Blob(self.as_bytes())))
    }
}

impl<K> FromSql for Id<K> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        <[u8; 16]>::column_result(value).map(Self::from_bytes)
    }
}

macro_rules! integers {
    ($($name:ident),*) => {$(
        impl ToSql for $name {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                Ok(self.0.into())
            }
        }

        impl FromSql for $name {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                i64::column_result(value).map(Self)
            }
        }
    )*};
}

integers!(Tick, AgentId, TenantNo);

macro_rules! texts {
    ($($name:ident),*) => {$(
        impl ToSql for $name {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                Ok(self.as_str().into())
            }
        }

        impl FromSql for $name {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                let text = value.as_str()?;
                Self::parse(text).ok_or_else(|| FromSqlError::Other(unreadable(text)))
            }
        }
    )*};
}

texts!(ClientId, M365TenantId, BotId, CompanyId);

mod words {
    use super::*;
    use crate::model::words::*;

    texts!(
        Audience,
        AutonomyType,
        Access,
        AgentState,
        FileType,
        ChannelStatus,
        Transport,
        ManagedAgentKey,
        SessionChannel,
        Role,
        Rule,
        TurnStatus,
        ModelTier,
        MessageRole,
        Rating,
        CallerKind
    );
}

fn unreadable(text: &str) -> Box<dyn std::error::Error + Send + Sync> {
    format!("the file holds {text:?}, which this version does not know").into()
}

/// Reads a column that holds JSON that this server wrote.
pub(super) fn json<T: serde::de::DeserializeOwned>(
    row: &Row<'_>,
    column: &'static str,
) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, error.into())
    })
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    const MANY: &str = "
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) SELECT count(*) AS many FROM n";

    fn count(connection: &Connection) -> Result<i64> {
        Reader { connection }.one(MANY, [], |row| row.get("many"))
    }

    #[test]
    fn the_columns_of_a_list_are_found_by_name_however_each_row_is_read() {
        let connection = Connection::open_in_memory().unwrap();
        let sql = "SELECT 1 AS one, 2 AS two, 3 AS three UNION ALL SELECT 4, 5, 6 UNION ALL SELECT 7, 8, 9";
        let rows: Vec<Vec<i64>> = Reader::within(&connection)
            .all(sql, [], |row| {
                let one = row.get("one")?;
                // A row may be read in part, and in any order.
                let others = if one == 4 {
                    [row.get("three")?, row.get("two")?]
                } else {
                    [row.get("two")?, row.get("three")?]
                };
                assert!(row.get::<i64>("four").is_err());
                Ok([&[one], &others[..]].concat())
            })
            .unwrap();
        assert_eq!(rows, [[1, 2, 3], [4, 6, 5], [7, 8, 9]]);
    }

    #[test]
    fn a_read_that_is_over_is_interrupted_and_the_limit_goes_with_it_also_by_a_panic() {
        let connection = Connection::open_in_memory().unwrap();
        let late = unless(&connection, || true, || count(&connection));
        assert!(matches!(late, Err(Error::Refused(refusal)) if refusal.code == Code::Overloaded));
        assert_eq!(count(&connection).unwrap(), 100_000);
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            unless(
                &connection,
                || true,
                || -> Result<()> { panic!("on purpose, for the test") },
            )
        }));
        assert!(panicked.is_err());
        assert_eq!(count(&connection).unwrap(), 100_000);
    }
}
