//! The store: all SQL of the program, one file per noun, above the engine that runs it.

pub mod sql;
pub mod sqlite;

pub mod agents;
pub mod articles;
pub mod attachments;
pub mod audit;
pub mod cache;
pub mod channels;
pub mod companies;
pub mod company_directories;
pub mod contents;
pub mod directory;
pub mod duplicate_names;
pub mod export;
pub mod folder;
pub mod health;
pub mod idempotency;
pub mod import;
pub mod installs;
pub mod keys;
pub mod messages;
pub mod reasoning;
mod removal;
pub mod retention;
pub mod rules;
pub mod search;
pub mod search_index;
pub mod sessions;
pub mod sign_ins;
pub mod stats;
pub mod tenant_removal;
pub mod tenants;
pub mod tokens;
pub mod turns;
pub mod unlinked;
pub mod users;

use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use self::cache::{Cache, Cached};
pub use self::sql::{Extent, Reader, Rows, WriteTx};
use self::sqlite::Sqlite;
pub use self::sqlite::{
    Closed, ImportLock, LongRead, ServeLock, WriterMetrics, database_file, running_server,
};
use crate::error::{Error, Result};
use crate::model::clock::{Clock, Millis};
use crate::model::ids::{Tick, Ticker};
use crate::model::names::TenantNo;

/// A statement that always writes, because SQLite does not write a row that stays the same. The
/// server then reads the caches again.
const PROBE: &str = "UPDATE configuration_version SET version = version + 1";

/// Why a data folder or a database file cannot be used: a sentence for the operator.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct OpenError(pub String);

/// One data folder: its database, the connections that read and the writer. Clones share them.
#[derive(Clone)]
pub struct Store {
    engine: Arc<Sqlite>,
    cache: Arc<Cache>,
    clock: Clock,
    ticker: Ticker,
    index_tasks: Arc<search_index::IndexTasks>,
}

/// The sizes of the database's files, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// The database file.
    pub database: u64,
    /// The write-ahead log.
    pub log: u64,
}

impl Store {
    /// Opens a data folder, creates it if it is missing, and migrates its schema.
    ///
    /// # Errors
    /// No permission, a file that is not a database, a damaged or newer schema.
    pub fn open(folder: &Path, clock: Clock) -> Result<Self, OpenError> {
        Self::open_with_group_limit(folder, clock, sqlite::GROUP)
    }

    /// As [`Store::open`], with up to `max_changes` changes in one commit. A benchmark passes 1 to
    /// measure what group commit gains.
    pub fn open_with_group_limit(
        folder: &Path,
        clock: Clock,
        max_changes: usize,
    ) -> Result<Self, OpenError> {
        let (engine, ticker) = Sqlite::open(folder, &clock, max_changes)?;
        Ok(Self::on(engine, ticker, clock))
    }

    /// As [`Store::open`], for the folder's one server. Locks the folder and the database, and
    /// checkpoints what an earlier server left in the write-ahead log.
    ///
    /// A full disk is no error if the database was in use before: the server can read.
    ///
    /// # Errors
    /// Those of [`Store::open`]; another server holds a lock; the disk fails.
    pub fn open_to_serve(folder: &Path, clock: Clock) -> Result<(Self, ServeLock), OpenError> {
        let (engine, ticker, lock) = Sqlite::open_to_serve(folder, &clock, sqlite::GROUP)?;
        Ok((Self::on(engine, ticker, clock), lock))
    }

    fn on(engine: Sqlite, ticker: Ticker, clock: Clock) -> Self {
        Self {
            engine: Arc::new(engine),
            cache: Arc::default(),
            clock,
            ticker,
            index_tasks: Arc::default(),
        }
    }

    /// Locks the folder for a large import, which may take minutes. Waits for another import, or
    /// returns `None`.
    ///
    /// # Errors
    /// The disk fails.
    fn lock_for_import(&self, waits: bool) -> Result<Option<ImportLock>> {
        let lock = self.engine.lock_for_import(waits);
        lock.map_err(|error| Error::internal(error.0))
    }

    /// Whether the database file was copied beside a running server, without its write-ahead log.
    pub fn lacks_log(&self) -> bool {
        self.engine.lacks_log()
    }

    /// A handle that waits until the database is closed. Dropping the last clone closes it.
    pub fn closed(&self) -> Closed {
        self.engine.closed()
    }

    /// The data folder.
    pub fn folder(&self) -> &Path {
        self.engine.folder()
    }

    /// The clock.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The current time.
    pub fn now(&self) -> Millis {
        self.clock.now()
    }

    /// A tick greater than any before it. Ids and stream cursors share one sequence of ticks.
    pub fn tick(&self) -> Tick {
        self.ticker.next(self.clock.now())
    }

    /// Runs one step of a request on one snapshot of the database.
    ///
    /// On SQLite the step runs inline, on the calling thread.
    ///
    /// # Errors
    /// Those of `step`; `overloaded` if no connection is free within 5 s.
    pub async fn read<T, F>(&self, step: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Reader<'_>) -> Result<T> + Send + 'static,
    {
        self.engine.read(step)
    }

    /// As [`Store::read`], through the cache entries that are valid on this snapshot.
    pub async fn read_cached<T, F>(&self, step: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Cached<'_, Reader<'_>>) -> Result<T> + Send + 'static,
    {
        self.engine
            .read(|reader| step(&self.cache.at(cache::version(reader)?, reader)))
    }

    /// As [`Store::read`], for the command line and other threads that may block.
    pub fn read_now<T>(&self, step: impl FnOnce(&Reader<'_>) -> Result<T>) -> Result<T> {
        self.engine.read(step)
    }

    /// As [`Store::read`], on the blocking pool: for work that takes longer than a few rows.
    pub async fn read_on_pool<T: Send + 'static>(
        &self,
        step: impl FnOnce(&Reader<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let engine = Arc::clone(&self.engine);
        tokio::task::spawn_blocking(move || engine.read(step))
            .await
            .map_err(|error| Error::Internal(error.into()))?
    }

    /// Runs a step that can be long on the blocking pool, for up to 20 s, or 5 s for a search.
    /// Permits limit how many such steps of each kind run at a time, in total and per tenant.
    ///
    /// The step can be restarted on a newer snapshot, with as much time again, so that an engine
    /// can truncate its log.
    ///
    /// # Errors
    /// Those of `step`; `overloaded` if no permit is free in time or the step takes too long.
    pub async fn read_long<T: Send + 'static>(
        &self,
        kind: LongRead,
        tenant: Option<TenantNo>,
        step: impl Fn(&Reader<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let permit = self.engine.long_read_permit(kind, tenant).await?;
        let engine = Arc::clone(&self.engine);
        let read = move || {
            let _permit = permit;
            engine.read_long(kind, step)
        };
        tokio::task::spawn_blocking(read)
            .await
            .map_err(|error| Error::Internal(error.into()))?
    }

    /// Runs `change` in the writer's next group. Resolves after the group is on disk.
    ///
    /// # Errors
    /// Those of `change`, which is rolled back alone; `overloaded` if the queue is full or the
    /// database is locked; `storage_full`.
    pub fn write<T, F>(
        &self,
        extent: Extent,
        change: F,
    ) -> impl Future<Output = Result<T>> + use<T, F>
    where
        T: Send + 'static,
        F: FnOnce(&mut WriteTx<'_>) -> Result<T> + Send + 'static,
    {
        let reply = self.engine.submit(extent, change);
        async move {
            reply?
                .await
                .map_err(|_| Error::internal("the writer has stopped"))?
        }
    }

    /// As [`Store::write`] of a change that has a transaction of its own, for the command line and
    /// other threads that may block.
    pub fn write_now<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut WriteTx<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let reply = self.engine.submit(Extent::Alone, change)?;
        reply
            .blocking_recv()
            .map_err(|_| Error::internal("the writer has stopped"))?
    }

    /// The writer's metrics.
    pub fn writer_metrics(&self) -> &WriterMetrics {
        self.engine.writer_metrics()
    }

    /// The sizes of the database file and of its log; 0 for a file that cannot be read.
    pub fn sizes(&self) -> Sizes {
        self.engine.sizes()
    }

    /// Whether the last group that wrote was committed.
    pub fn is_writable(&self) -> bool {
        self.engine.is_writable()
    }

    /// Checks that the store accepts changes. After a group that failed, a probe finds out when
    /// writes work again.
    ///
    /// # Errors
    /// `storage_full`, `overloaded`, or `internal_error` if the disk fails.
    pub async fn check_writable(&self) -> Result<()> {
        if self.is_writable() {
            return Ok(());
        }
        self.probe().await
    }

    /// Writes once, to find out whether the store accepts changes.
    ///
    /// # Errors
    /// Those of [`Store::check_writable`].
    pub async fn probe(&self) -> Result<()> {
        self.write(Extent::Statement, |tx| tx.execute(PROBE, ()).map(drop))
            .await
    }
}
