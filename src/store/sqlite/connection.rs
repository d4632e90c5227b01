//! Sets up connections, and runs a step on one snapshot.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, MAIN_DB, OpenFlags, ffi};

use super::lock_holder;
use super::session::Session;
use crate::error::Result;
use crate::model::ids::Tick;
use crate::store::sql::{Reader, Session as Engine};

/// How long a connection waits for the lock of another process, such as a command next to a server.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a writer waits for the lock before the log says who holds it.
pub(super) const WARN_AFTER: Duration = Duration::from_millis(500);
/// The capacity of a connection's cache of prepared statements.
const STATEMENTS: usize = 128;

/// Waits for the lock of another process, in short steps. An import holds the lock most of the
/// time, with short pauses, and a step of many milliseconds would miss the pauses.
fn wait_for_lock(waits: i32) -> bool {
    const STEP: Duration = Duration::from_millis(1);
    let waited = STEP.saturating_mul(waits.unsigned_abs());
    let is_over = waited > BUSY_TIMEOUT;
    if waited == WARN_AFTER {
        lock_holder::warn_of_waiting();
    }
    if !is_over {
        std::thread::sleep(STEP);
    }
    !is_over
}

/// Makes a connection that writes wait for the lock of another process.
pub(super) fn wait_for_locks(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_handler(Some(wait_for_lock))
}

/// Sets what the reading connections and the writing connection have in common.
fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    // The query planner stability guarantee: plans do not depend on bound values. SQLite would
    // otherwise prepare the statement of a list again for each page.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    distrust_schema(connection)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.pragma_update(None, "temp_store", "MEMORY")
}

/// Forbids a foreign schema to call functions and virtual tables that have effects outside the
/// database.
fn distrust_schema(connection: &Connection) -> rusqlite::Result<()> {
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)
        .map(drop)
}

/// Keeps statements from changing the text of the schema and the tables inside the search indexes,
/// as only migrations may.
pub(super) fn protect_schema(connection: &Connection) -> rusqlite::Result<()> {
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)
        .map(drop)
}

/// Opens a connection that can write. Changes nothing yet: the file may belong to another program.
pub(super) fn open_writer(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    // SQLite falls back to a read-only connection if the system refuses write access, for example
    // for lack of file descriptors.
    if connection.is_readonly(MAIN_DB)? {
        return Err(sqlite_error(ffi::SQLITE_CANTOPEN));
    }
    distrust_schema(&connection)?;
    wait_for_locks(&connection)?;
    Ok(connection)
}

/// Refuses a file whose last page is truncated: SQLite reads the missing bytes as zeros. A log, as
/// after a crash, may still hold the page.
pub(super) fn check_length(connection: &Connection, path: &Path) -> rusqlite::Result<()> {
    let length = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let page: u64 = connection.query_row("PRAGMA page_size", [], |row| row.get(0))?;
    if length(Path::new(&log)) == 0 && !length(path).is_multiple_of(page) {
        return Err(sqlite_error(ffi::SQLITE_CORRUPT));
    }
    Ok(())
}

/// SQLite's error with this code.
pub(super) fn sqlite_error(number: i32) -> rusqlite::Error {
    let message = ffi::code_to_str(number).to_owned();
    rusqlite::Error::SqliteFailure(ffi::Error::new(number), Some(message))
}

/// Sets up the connection that writes.
pub(super) fn prepare_writer(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    connection.pragma_update(None, "secure_delete", "ON")?;
    // 32 MiB: the right-hand edge of every index, and the pages of the sessions in use.
    connection.pragma_update(None, "cache_size", -32_768)?;
    // The background connection checkpoints, off the hot path.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    prepare(connection)
}

/// Sets up a connection that reads.
pub(super) fn prepare_reader(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "query_only", "ON")?;
    // 4 MiB: every commit invalidates the page cache, so only one read, or reads without writes in
    // between, gain from it.
    connection.pragma_update(None, "cache_size", -4_096)?;
    protect_schema(connection)?;
    prepare(connection)
}

/// Instructions of SQLite's virtual machine between two polls of the progress handler: some tens of
/// microseconds.
const INSTRUCTIONS: i32 = 10_000;

/// Runs a step and interrupts its statements as soon as `must_stop` returns true.
///
/// # Errors
/// Those of the step; `overloaded` if it was interrupted.
pub(super) fn interruptible<T>(
    connection: &Connection,
    must_stop: impl FnMut() -> bool + Send + 'static,
    step: impl FnOnce() -> Result<T>,
) -> Result<T> {
    connection.progress_handler(INSTRUCTIONS, Some(must_stop))?;
    let _handler = ProgressHandler { connection };
    step()
}

/// Removes the handler, also if the step panics: the connection goes back to the pool.
struct ProgressHandler<'a> {
    connection: &'a Connection,
}

impl Drop for ProgressHandler<'_> {
    fn drop(&mut self) {
        let removed = self.connection.progress_handler(0, None::<fn() -> bool>);
        if let Err(error) = removed {
            log::error!("the progress handler of a read was not removed: {error}");
        }
    }
}

/// Runs a step in one read transaction.
pub(super) fn on_snapshot<T>(
    connection: &Connection,
    step: impl FnOnce(&Reader<'_>) -> Result<T>,
) -> Result<T> {
    let reader = Reader::on(Engine::Sqlite(Session::of(connection)));
    let _snapshot = Snapshot::begin(connection)?;
    step(&reader)
}

/// Ends the read transaction, also if the step fails or panics.
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
            // The step has reported a damaged file already.
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
  coalesce((SELECT max(session_seq) FROM removed_sessions), 0),
  coalesce((SELECT max(done_seq) FROM search_progress), 0))";

/// The greatest tick in the file. New ids continue after it, even if the clock was set back.
///
/// The position of the search index counts too. If the newest message was deleted, a new message
/// could otherwise get a tick that the index has passed already, and would never be indexed.
pub(super) fn last_tick(connection: &Connection) -> rusqlite::Result<Tick> {
    connection
        .query_row(LAST_TICK, [], |row| row.get(0))
        .map(Tick)
}

/// Records that no server has the file open any longer.
pub(super) const END_USE: &str = "UPDATE folder SET in_use = 0 WHERE one = 1";
const IS_IN_USE: &str = "SELECT in_use FROM folder WHERE one = 1";

/// Whether a server has the file open, or had it open and did not end its work.
pub(super) fn is_in_use(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row(IS_IN_USE, [], |row| row.get(0))
}

/// A number that changes with every commit of another connection, but not with those of this one.
pub(super) fn data_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("PRAGMA data_version")?
        .query_row([], |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::error::{Code, Error};

    const COUNT: &str = "
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) SELECT count(*) AS many FROM n";

    fn count(connection: &Connection) -> Result<i64> {
        Reader::on(Engine::Sqlite(Session::of(connection))).one(COUNT, (), |row| row.get("many"))
    }

    #[test]
    fn a_read_is_interrupted_and_the_next_one_is_not_even_after_a_panic() {
        let connection = Connection::open_in_memory().unwrap();
        let interrupted = interruptible(&connection, || true, || count(&connection));
        assert!(
            matches!(interrupted, Err(Error::Refused(refusal)) if refusal.code == Code::Overloaded)
        );
        assert_eq!(count(&connection).unwrap(), 100_000);
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            interruptible(
                &connection,
                || true,
                || -> Result<()> { panic!("on purpose, for the test") },
            )
        }));
        assert!(panicked.is_err());
        assert_eq!(count(&connection).unwrap(), 100_000);
    }
}
