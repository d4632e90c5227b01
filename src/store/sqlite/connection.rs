//! How connections are set up, and how a step runs on one snapshot.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, MAIN_DB, OpenFlags, ffi};

use super::session::Session;
use crate::error::Result;
use crate::model::ids::Tick;
use crate::store::sql::Reader;

/// How long a connection waits for another process, such as the command line beside a server.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Statements that a connection keeps prepared.
const STATEMENTS: usize = 128;

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
    let reader = Reader::on(Session::of(connection));
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

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::error::{Code, Error};

    const MANY: &str = "
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) SELECT count(*) AS many FROM n";

    fn count(connection: &Connection) -> Result<i64> {
        Reader::on(Session::of(connection)).one(MANY, (), |row| row.get("many"))
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
