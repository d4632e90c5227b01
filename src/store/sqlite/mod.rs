//! The SQLite engine: one file, a pool of connections that read, and one writer that commits many changes at once.

pub mod backup;
pub mod check;
mod checkpoint;
mod connection;
mod errors;
mod folder;
pub(crate) mod full_text;
pub mod migrations;
mod read_gate;
mod session;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use r2d2::{Pool, PooledConnection};
use r2d2_sqlite::SqliteConnectionManager;
use rusqlite::OpenFlags;
use tokio::sync::oneshot;

use self::checkpoint::Checkpoints;
use self::errors::describe;
use self::folder::{FILE, LOG};
pub use self::folder::{ServeLock, database_file};
use self::read_gate::{LongReads, ReadGate};
pub(super) use self::session::{Row, Session};
pub use self::writer::{Closed, WriterMetrics};
use self::writer::{Extent, Writer};
use super::sql::{Reader, WriteTx};
use super::{OpenError, Sizes};
use crate::error::{Code, Error, Result};
use crate::model::clock::Clock;
use crate::model::ids::Ticker;
use crate::model::names::TenantNo;

/// Connections that read at one time. Handlers read on the server's few threads, long reads on the blocking pool.
const READERS: u32 = 8;
/// How long a request waits for a connection.
const READER_WAIT: Duration = Duration::from_secs(5);
/// How long a long read may take.
const LONG_READ: Duration = Duration::from_secs(20);
/// How often a long read is restarted to let the write-ahead log be emptied.
const RESTARTS: u8 = 2;

/// Changes in one commit by default.
pub(super) const GROUP: usize = writer::GROUP;

/// One data folder: its file, its readers and its writer.
pub(super) struct Sqlite {
    folder: PathBuf,
    readers: Pool<SqliteConnectionManager>,
    writer: Writer,
    long_reads: LongReads,
}

impl Sqlite {
    /// Opens a data folder, makes it if it is missing, and brings its schema up to date.
    pub(super) fn open(
        folder: &Path,
        clock: &Clock,
        most_changes: usize,
    ) -> Result<(Self, Ticker), OpenError> {
        folder::make(folder)?;
        let path = folder.join(FILE);
        if folder::is_emptied(folder) {
            return Err(OpenError(format!(
                "{} is empty, but was in use before; restore it from a backup, or remove it if it held nothing",
                path.display()
            )));
        }
        folder::make_private_file(&path)
            .map_err(|error| OpenError(format!("cannot open {}: {error}", path.display())))?;
        let broken = |error: rusqlite::Error| OpenError(describe(&path, &error));
        // Not beside a server, which may be the one that keeps its log.
        if checkpoint::is_kept(&path)
            && let Ok(_nobody_serves) = folder::lock_for_serving(folder)
        {
            checkpoint::take_up_kept(&path).map_err(broken)?;
        }

        let mut connection = connection::open_writer(&path).map_err(broken)?;
        {
            let _lock = folder::lock_for_migration(folder)?;
            migrations::check(&connection, &path)?;
            connection::check_length(&connection, &path).map_err(broken)?;
            connection::prepare_writer(&connection).map_err(broken)?;
            migrations::run(&mut connection, &path)?;
        }
        // SQLite syncs the names of its files too, but goes on when that fails.
        crate::files::sync_names(folder)
            .map_err(|error| OpenError(format!("cannot sync {}: {error}", folder.display())))?;
        let ticker = Ticker::after(connection::last_tick(&connection).map_err(broken)?);
        let readers = Pool::builder()
            .max_size(READERS)
            .min_idle(Some(1))
            .connection_timeout(READER_WAIT)
            .test_on_check_out(false)
            .build(
                SqliteConnectionManager::file(&path)
                    .with_flags(OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)
                    .with_init(|connection| connection::prepare_reader(connection)),
            )
            .map_err(|error| OpenError(format!("cannot read {}: {error}", path.display())))?;
        let gate = Arc::<ReadGate>::default();
        let checkpoints: Checkpoints =
            checkpoint::start(&path, Arc::clone(&gate)).map_err(broken)?;
        checkpoint::watch(&connection);
        let writer = Writer::start(
            connection,
            clock.clone(),
            ticker.clone(),
            checkpoints,
            most_changes,
        );
        let engine = Self {
            folder: folder.to_owned(),
            readers,
            writer,
            long_reads: LongReads::new(gate),
        };
        Ok((engine, ticker))
    }

    /// Takes the folder for a server, and takes up what an earlier one left in its log.
    pub(super) fn lock_for_serving(&self) -> Result<ServeLock, OpenError> {
        let lock = folder::lock_for_serving(&self.folder)?;
        let path = self.folder.join(FILE);
        if checkpoint::is_kept(&path) {
            return Err(OpenError(format!(
                "the log of {} was kept when the disk failed, and another program has the file open; end that program, then start again",
                path.display()
            )));
        }
        checkpoint::take_up(&path).map_err(|error| OpenError(describe(&path, &error)))?;
        Ok(lock)
    }

    pub(super) fn ended(&self) -> Closed {
        self.writer.ended()
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Runs one step on one snapshot, on the calling thread.
    pub(super) fn read<T>(&self, step: impl FnOnce(&Reader<'_>) -> Result<T>) -> Result<T> {
        connection::on_a_snapshot(&*self.connection()?, step)
    }

    /// Waits for a permit to read long: a few at one time, fewer of one tenant.
    pub(super) async fn long_read_permit(
        &self,
        tenant: Option<TenantNo>,
    ) -> Result<read_gate::ReadPermit> {
        self.long_reads.place(tenant).await
    }

    /// Runs a step that can be long, on the calling thread.
    pub(super) fn read_long<T>(&self, step: impl Fn(&Reader<'_>) -> Result<T>) -> Result<T> {
        let gate = self.long_reads.gate();
        let mut restarts = 0;
        loop {
            let _entered = gate.enter();
            let end = Instant::now() + LONG_READ;
            let connection = self.connection()?;
            let late = Arc::clone(gate);
            let is_over = move || late.is_late(restarts) || Instant::now() > end;
            let outcome = connection::on_a_snapshot(&connection, |reader| {
                connection::unless(&connection, is_over, || step(reader))
            });
            let is_interrupted = outcome
                .as_ref()
                .is_err_and(|error| error.is(Code::Overloaded));
            if !is_interrupted || restarts == RESTARTS || Instant::now() > end {
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
            log: bytes(LOG),
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
