//! The only place with SQL: one SQLite file, a pool of readers, one writer that commits many requests at once.

pub mod sql;
pub mod sqlite;

pub mod agents;
pub mod articles;
pub mod attachments;
pub mod audit;
pub mod cache;
pub mod channels;
pub mod companies;
pub mod contents;
mod directory;
pub mod export;
pub mod health;
pub mod idempotency;
pub mod import;
pub mod installs;
pub mod keys;
pub mod messages;
pub mod retention;
pub mod rules;
pub mod search;
pub mod sessions;
pub mod sign_ins;
pub mod stats;
pub mod tenants;
pub mod tokens;
pub mod turns;
pub mod unlinked;
pub mod users;

use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use self::cache::{Cache, Cached};
pub use self::sql::{Extent, Part, Reader, WriteTx};
use self::sqlite::Sqlite;
pub use self::sqlite::{Closed, ServeLock, WriterMetrics, database_file};
use crate::error::{Error, Result};
use crate::model::clock::{Clock, Millis};
use crate::model::ids::{Tick, Ticker};
use crate::model::names::TenantNo;

/// A write that changes nothing.
const TRIAL: &str = "UPDATE search_progress SET done_seq = done_seq";

/// A data folder or a file that cannot be used, in a sentence for the operator.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct OpenError(pub String);

/// One data folder: its file, its readers and its writer. Clones share them.
#[derive(Clone)]
pub struct Store {
    engine: Arc<Sqlite>,
    cache: Arc<Cache>,
    clock: Clock,
    ticker: Ticker,
    removal: Arc<search::Removal>,
}

/// Sizes in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Of the database file.
    pub database: u64,
    /// Of its write-ahead log.
    pub log: u64,
}

impl Store {
    /// Opens a data folder, makes it if it is missing, and brings its schema up to date.
    ///
    /// # Errors
    /// A sentence for the operator: no permission, a file that is no database, a damaged or newer schema.
    pub fn open(folder: &Path, clock: Clock) -> Result<Self, OpenError> {
        Self::open_for_groups(folder, clock, sqlite::GROUP)
    }

    /// As [`Store::open`], with at most so many changes in one commit: with 1 it shows what it is worth to share commits.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_for_groups(
        folder: &Path,
        clock: Clock,
        most_changes: usize,
    ) -> Result<Self, OpenError> {
        let (engine, ticker) = Sqlite::open(folder, &clock, most_changes)?;
        Ok(Self {
            engine: Arc::new(engine),
            cache: Arc::default(),
            clock,
            ticker,
            removal: Arc::default(),
        })
    }

    /// Takes the folder for a server, and takes up what an earlier one left in its log.
    ///
    /// # Errors
    /// A sentence for the operator if another server has it, or the disk fails.
    pub fn lock_for_serving(&self) -> Result<ServeLock, OpenError> {
        self.engine.lock_for_serving()
    }

    /// Tells when the file has been closed, which the last clone does when it goes.
    pub fn ended(&self) -> Closed {
        self.engine.ended()
    }

    /// The data folder.
    pub fn folder(&self) -> &Path {
        self.engine.folder()
    }

    /// The time now.
    pub fn now(&self) -> Millis {
        self.clock.now()
    }

    /// A tick greater than any before it; those of ids and of stream cursors are one sequence.
    pub fn tick(&self) -> Tick {
        self.ticker.next(self.clock.now())
    }

    /// Runs one step of a request on one snapshot of the database.
    ///
    /// On SQLite the step runs inline, on the calling thread.
    ///
    /// # Errors
    /// Those of `step`; `overloaded` if no connection becomes free within 5 s.
    pub async fn read<T, F>(&self, step: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Reader<'_>) -> Result<T> + Send + 'static,
    {
        self.engine.read(step)
    }

    /// As [`Store::read`], with the cached answers that hold on this snapshot.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub async fn read_cached<T, F>(&self, step: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Cached<'_, Reader<'_>>) -> Result<T> + Send + 'static,
    {
        self.engine
            .read(|reader| step(&self.cache.at(cache::version(reader)?, reader)))
    }

    /// As [`Store::read`], for the command line and other threads that may block.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub fn read_now<T>(&self, step: impl FnOnce(&Reader<'_>) -> Result<T>) -> Result<T> {
        self.engine.read(step)
    }

    /// Runs a step on the blocking pool, for work that takes longer than a look-up.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub async fn read_aside<T: Send + 'static>(
        &self,
        step: impl FnOnce(&Reader<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let engine = Arc::clone(&self.engine);
        tokio::task::spawn_blocking(move || engine.read(step))
            .await
            .map_err(|error| Error::Internal(error.into()))?
    }

    /// Runs a step that can be long on the blocking pool: a few at one time, fewer of one tenant, each for up to 20 s.
    /// The step is restarted on a newer snapshot, with as much time, when the write-ahead log has grown long.
    ///
    /// # Errors
    /// Those of `step`; `overloaded` if no permit becomes free in time, and for a step that takes too long.
    pub async fn read_long<T: Send + 'static>(
        &self,
        tenant: Option<TenantNo>,
        step: impl Fn(&Reader<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let permit = self.engine.long_read_permit(tenant).await?;
        let engine = Arc::clone(&self.engine);
        let read = move || {
            let _permit = permit;
            engine.read_long(step)
        };
        tokio::task::spawn_blocking(read)
            .await
            .map_err(|error| Error::Internal(error.into()))?
    }

    /// Runs `change` in the writer's next group. Resolves after the group is on disk.
    ///
    /// # Errors
    /// Those of `change`, which is rolled back alone; `overloaded` if the queue is full; `storage_full`.
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

    /// As [`Store::write`] of a configuration change, for the command line and other threads that may block.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub fn write_now<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut WriteTx<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let reply = self.engine.submit(Extent::Configuration, change)?;
        reply
            .blocking_recv()
            .map_err(|_| Error::internal("the writer has stopped"))?
    }

    /// What the writer counts.
    pub fn writer_metrics(&self) -> &WriterMetrics {
        self.engine.writer_metrics()
    }

    /// The sizes of the file and of its log; 0 for what cannot be looked at.
    pub fn sizes(&self) -> Sizes {
        self.engine.sizes()
    }

    /// Whether the last group could be written.
    pub fn is_writable(&self) -> bool {
        self.engine.is_writable()
    }

    /// Whether changes can be written; after a group that could not be, a trial tells when they can again.
    ///
    /// # Errors
    /// Why they cannot: `storage_full`, `overloaded`.
    pub async fn check_writable(&self) -> Result<()> {
        if self.is_writable() {
            return Ok(());
        }
        self.write(Extent::Statement, |tx| tx.execute(TRIAL, ()).map(drop))
            .await
    }
}
