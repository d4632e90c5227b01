//! The SQLite engine: one file, a pool of reading connections, and one writer with group commit.

pub mod backup;
pub mod check;
mod checkpoint;
mod connection;
pub(in crate::store) mod copy;
mod errors;
mod folder;
pub(crate) mod full_text;
mod lock_holder;
pub mod migrations;
mod read_gate;
mod schema;
pub mod search_texts;
mod session;
mod writer;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use r2d2::{Pool, PooledConnection};
use r2d2_sqlite::SqliteConnectionManager;
use rusqlite::OpenFlags;
use tokio::sync::oneshot;

use self::checkpoint::Checkpoints;
use self::errors::describe;
use self::folder::{FILE, LOG};
pub use self::folder::{ServeLock, database_file, running_server};
use self::read_gate::ReadGate;
pub(super) use self::session::{Row, Session};
use self::writer::{Extent, Writer};
use super::closed::Closed;
use super::long_reads::{Limits, LongRead, READER_WAIT};
use super::sql::{Reader, WriteTx};
use super::writer_metrics::WriterMetrics;
use super::{OpenError, Sizes};
use crate::error::{Code, Error, Result};
use crate::model::clock::Clock;
use crate::model::ids::Ticker;

/// Connections that read: enough for all lists and searches that run at a time, and four for the
/// short reads of handlers and turns.
const READERS: u32 = 12;
/// How often a long read is restarted so that the write-ahead log can be.
const RESTARTS: u8 = 2;

/// The version of the SQLite library in this program.
pub fn library_version() -> &'static str {
    rusqlite::version()
}

/// The default limit of changes in one commit.
pub(super) const GROUP: usize = writer::GROUP;

/// Half of the connections that read are free for the short reads of every request.
pub(super) const LONG_READS: Limits = Limits {
    all: 4,
    of_tenant: 2,
};

/// One data folder: its database, the connections that read and the writer.
pub(super) struct Sqlite {
    folder: PathBuf,
    readers: Pool<SqliteConnectionManager>,
    writer: Writer,
    gate: Arc<ReadGate>,
    /// The database file, opened before SQLite opens it and closed after: when a process closes any
    /// descriptor of a file, it loses all of SQLite's locks on that file.
    file: Arc<File>,
    /// A server had the file open when it was copied, and the copy has no write-ahead log.
    lacks_log: bool,
    /// A server had the file open and did not end its work, or still works.
    is_in_use: bool,
}

impl Sqlite {
    /// Opens a data folder, creates it if it is missing, and migrates its schema.
    pub(super) fn open(
        folder: &Path,
        clock: &Clock,
        max_changes: usize,
    ) -> Result<(Self, Ticker), OpenError> {
        // Do not open this connection in the background: it could close after the writer, and leave
        // the write-ahead log behind.
        let idle_readers = 0;
        let (engine, ticker) =
            Self::open_for(folder, clock, max_changes, idle_readers, |_| Ok(()))?;
        // The log of a server that crashed is complete, and the last connection removes it.
        if engine.is_in_use && !engine.lacks_log && folder::lock_for_serving(folder).is_ok() {
            engine.mark_in_use(false);
        }
        Ok((engine, ticker))
    }

    /// Records whether a server has the file open. A full disk is no reason not to serve.
    fn mark_in_use(&self, is_in_use: bool) {
        let marked = self.submit(Extent::Statement, move |tx| {
            super::folder::set_in_use(tx, is_in_use)
        });
        let marked = marked.map(|reply| reply.blocking_recv());
        if !matches!(marked, Ok(Ok(Ok(())))) {
            log::debug!("the database does not know that a server uses it");
        }
    }

    /// Whether the file was copied beside a running server, without its write-ahead log.
    pub(super) fn lacks_log(&self) -> bool {
        self.lacks_log
    }

    /// As [`Sqlite::open`], for the folder's one server. Checkpoints what an earlier server left in
    /// the log.
    pub(super) fn open_to_serve(
        folder: &Path,
        clock: &Clock,
        max_changes: usize,
    ) -> Result<(Self, Ticker, ServeLock), OpenError> {
        // Before SQLite opens the file: through a link in another folder, it would use another log.
        let open = || {
            Self::open_for(folder, clock, max_changes, 1, |file| {
                folder::lock_database(file, folder)
            })
        };
        let (engine, ticker) = match open() {
            // On a full disk, SQLite may lack the room for the memory that its processes share.
            Err(_) if folder::release_room(folder) => open(),
            outcome => outcome,
        }?;
        let lock = engine.lock_for_serving()?;
        folder::reserve_room(folder);
        Ok((engine, ticker, lock))
    }

    fn open_for(
        folder: &Path,
        clock: &Clock,
        max_changes: usize,
        idle_readers: u32,
        lock: impl FnOnce(&File) -> Result<(), OpenError>,
    ) -> Result<(Self, Ticker), OpenError> {
        schema::prepare();
        folder::create(folder)?;
        let path = folder.join(FILE);
        if folder::has_lost_database(folder) {
            return Err(OpenError(format!(
                "{} is empty, but was in use before; restore it from a backup, or remove it if it held nothing",
                path.display()
            )));
        }
        let file = folder::open_private_file(&path)
            .map_err(|error| OpenError(format!("cannot open {}: {error}", path.display())))?;
        lock(&file)?;
        // A server works in this folder, or worked here: the log is where it left it.
        let was_served = folder::was_served(folder);
        let has_log = folder.join(LOG).exists() || checkpoint::is_quarantined(&path);
        let failed = |error: rusqlite::Error| OpenError(describe(&path, &error));
        // Only if no server runs: that server may be the one that quarantined its log.
        if checkpoint::is_quarantined(&path)
            && let Ok(_no_server) = folder::lock_for_serving(folder)
        {
            checkpoint::recover_quarantined(&path).map_err(failed)?;
        }

        let mut connection = connection::open_writer(&path).map_err(failed)?;
        {
            let _lock = folder::lock_for_migration(folder)?;
            let version = migrations::check(&connection, &path)?;
            connection::check_length(&connection, &path).map_err(failed)?;
            // An empty file may hold the empty record of migrations that a crash left there.
            if version > 0 {
                schema::refuse_foreign(&connection, &path, version)?;
            }
            connection::prepare_writer(&connection).map_err(failed)?;
            migrations::run(&mut connection, &path)?;
            if version != migrations::newest() {
                schema::refuse_foreign(&connection, &path, migrations::newest())?;
            }
            connection::protect_schema(&connection).map_err(failed)?;
        }
        // SQLite syncs the folder of its files too, but ignores a failure.
        crate::files::sync_names(folder)
            .map_err(|error| OpenError(format!("cannot sync {}: {error}", folder.display())))?;
        let ticker = Ticker::after(connection::last_tick(&connection).map_err(failed)?);
        let readers = Pool::builder()
            .max_size(READERS)
            .min_idle(Some(idle_readers))
            .connection_timeout(READER_WAIT)
            .test_on_check_out(false)
            .build(
                SqliteConnectionManager::file(&path)
                    .with_flags(OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)
                    .with_init(|connection| connection::prepare_reader(connection)),
            )
            .map_err(|error| OpenError(format!("cannot read {}: {error}", path.display())))?;
        // The first read of a damaged file reports the damage.
        let is_in_use = connection::is_in_use(&connection).unwrap_or_default();
        let gate = Arc::<ReadGate>::default();
        let checkpoints: Checkpoints =
            checkpoint::start(&path, Arc::clone(&gate)).map_err(failed)?;
        checkpoint::watch(&connection);
        let writer = Writer::start(
            connection,
            clock.clone(),
            ticker.clone(),
            checkpoints,
            max_changes,
            &path,
        );
        let engine = Self {
            folder: folder.to_owned(),
            readers,
            writer,
            gate,
            file: Arc::new(file),
            lacks_log: is_in_use && !has_log && !was_served,
            is_in_use,
        };
        Ok((engine, ticker))
    }

    fn lock_for_serving(&self) -> Result<ServeLock, OpenError> {
        let lock = folder::lock_for_serving(&self.folder)?;
        let lock = ServeLock::new(lock, Arc::clone(&self.file));
        let path = self.folder.join(FILE);
        if checkpoint::is_quarantined(&path) {
            return Err(OpenError(format!(
                "the write-ahead log of {} was not checkpointed after the disk failed, and another program has the database open; \
                 end that program, then start again",
                path.display()
            )));
        }
        // The checkpoint takes the mark into the file, where a copy of the file alone has it too.
        self.mark_in_use(true);
        self.writer.ends_use();
        match checkpoint::recover(&path) {
            Ok(()) => Ok(lock),
            // The log is complete without the checkpoint.
            Err(error) if errors::is_full(&error) => Ok(lock),
            Err(error) => Err(OpenError(describe(&path, &error))),
        }
    }

    /// Locks the folder for a large import. Waits for another import, or returns `None`.
    pub(super) fn lock_for_import(&self, waits: bool) -> Result<Option<File>, OpenError> {
        folder::lock_for_import(&self.folder, waits)
    }

    pub(super) fn closed(&self) -> Closed {
        self.writer.closed()
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Runs one step on one snapshot, on the calling thread.
    pub(super) fn read<T>(&self, step: impl FnOnce(&Reader<'_>) -> Result<T>) -> Result<T> {
        connection::on_snapshot(&*self.connection()?, step)
    }

    /// Runs a step that can be long, on the calling thread. A step that must yield is restarted.
    pub(super) fn read_long<T>(
        &self,
        kind: LongRead,
        step: impl Fn(&Reader<'_>) -> Result<T>,
    ) -> Result<T> {
        let gate = &self.gate;
        let mut restarts = 0;
        loop {
            let _active = gate.enter();
            let deadline = Instant::now() + kind.time_limit();
            let connection = self.connection()?;
            let yielding = Arc::clone(gate);
            let must_stop = move || yielding.must_yield(restarts) || Instant::now() > deadline;
            let outcome = connection::on_snapshot(&connection, |reader| {
                connection::interruptible(&connection, must_stop, || step(reader))
            });
            let is_interrupted = outcome
                .as_ref()
                .is_err_and(|error| error.is(Code::Overloaded));
            if !is_interrupted || restarts == RESTARTS || Instant::now() > deadline {
                return outcome;
            }
            restarts += 1;
        }
    }

    /// Queues a change for the writer's next group.
    pub(super) fn submit<T: Send + 'static>(
        &self,
        extent: Extent,
        change: impl FnOnce(&mut WriteTx<'_>) -> Result<T> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<T>>> {
        self.writer.submit(extent, change)
    }

    pub(super) fn writer_metrics(&self) -> &WriterMetrics {
        self.writer.metrics()
    }

    /// The sizes of the file and of its log; 0 for a file that cannot be read.
    pub(super) fn sizes(&self) -> Sizes {
        let bytes = |name| {
            let file = self.folder.join(name).metadata();
            file.map_or(0, |file| file.len())
        };
        Sizes {
            database: bytes(FILE),
            log: Some(bytes(LOG)),
        }
    }

    pub(super) fn is_writable(&self) -> bool {
        self.writer.is_writable()
    }

    fn connection(&self) -> Result<PooledConnection<SqliteConnectionManager>> {
        self.readers
            .get()
            .map_err(|_| Error::from(Code::Overloaded))
    }
}
