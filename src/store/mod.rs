//! The store: all SQL of the program, one file per noun, above the engine that runs it.

mod closed;
mod long_reads;
pub mod people;
pub mod postgres;
pub mod sql;
pub mod sqlite;
mod writer_metrics;

pub mod agents;
pub mod articles;
pub mod attachments;
pub mod audit;
pub mod cache;
pub mod channels;
pub mod check;
pub mod companies;
pub mod company_directories;
mod consistency;
pub mod contents;
pub mod copy;
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
pub mod nodes;
pub mod packages;
pub mod reasoning;
mod removal;
pub mod retention;
pub mod rules;
pub mod search;
pub mod search_index;
pub mod sessions;
pub mod sign_ins;
pub mod signing_secret;
pub mod stats;
pub mod teams;
pub mod teams_files;
pub mod teams_outbox;
pub mod tenant_removal;
pub mod tenants;
pub mod tokens;
pub mod turns;
pub mod unlinked;
pub mod users;
pub mod versions;

use std::cell::Cell;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::oneshot;

use self::cache::{Cache, Cached};
pub use self::closed::Closed;
pub use self::long_reads::LongRead;
use self::long_reads::LongReads;
use self::postgres::search_texts as tsvector;
use self::postgres::{NodeAddress, Postgres};
use self::sessions::NewSession;
use self::sql::Session as EngineSession;
pub use self::sql::{Extent, Reader, Rows, WriteTx};
use self::sqlite::Sqlite;
use self::sqlite::search_texts as fts5;
pub use self::sqlite::{ServeLock, database_file, running_server};
pub use self::writer_metrics::WriterMetrics;
use crate::error::{Error, Result};
use crate::model::clock::{Clock, Millis};
use crate::model::ids::{Tick, Ticker};
use crate::model::names::TenantNo;
use crate::model::session::Session;

/// A statement that always writes, because SQLite does not write a row that stays the same. The
/// server then reads the caches again.
const PROBE: &str = "UPDATE configuration_version SET version = version + 1";

/// Why a data folder or a database file cannot be used: a sentence for the operator.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct OpenError(pub String);

/// What holds the data.
enum Engine {
    Sqlite(Sqlite),
    Postgres(Postgres),
}

/// One database: the connections that read and the writer. Clones share them.
#[derive(Clone)]
pub struct Store {
    engine: Arc<Engine>,
    long_reads: Arc<LongReads>,
    cache: Arc<Cache>,
    clock: Clock,
    ticker: Ticker,
    index_tasks: Arc<search_index::IndexTasks>,
}

/// The lock of a large import, of which one runs at a time.
pub struct ImportLock {
    _held: Box<dyn Send>,
}

/// The right to clean up.
pub struct CleanUpLock {
    _held: Box<dyn Send>,
}

/// The sizes of the database's files, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// The database file.
    pub database: u64,
    /// The write-ahead log, which belongs to the server on PostgreSQL.
    pub log: Option<u64>,
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
        Ok(Self::on(Engine::Sqlite(engine), ticker, clock))
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
        Ok((Self::on(Engine::Sqlite(engine), ticker, clock), lock))
    }

    /// Opens a database on a PostgreSQL server and migrates its schema, with up to `connections`
    /// connections. `is_server` says whether this program is a node that serves, or a command.
    ///
    /// # Errors
    /// The server cannot be reached or used; a newer schema.
    pub fn connect(
        target: &postgres::Target,
        clock: Clock,
        connections: usize,
        is_server: bool,
    ) -> Result<Self, OpenError> {
        let clock = match clock {
            Clock::System => Clock::Shifted(Arc::default()),
            clock @ (Clock::Shifted(_) | Clock::Manual(_)) => clock,
        };
        let (engine, ticker) = Postgres::open(target, &clock, connections, is_server)?;
        Ok(Self::on(Engine::Postgres(engine), ticker, clock))
    }

    fn on(engine: Engine, ticker: Ticker, clock: Clock) -> Self {
        let limits = match &engine {
            Engine::Sqlite(_) => sqlite::LONG_READS,
            Engine::Postgres(_) => postgres::LONG_READS,
        };
        Self {
            engine: Arc::new(engine),
            long_reads: Arc::new(LongReads::new(limits)),
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
        match &*self.engine {
            Engine::Sqlite(engine) => {
                let lock = engine.lock_for_import(waits);
                let lock = lock.map_err(|error| Error::internal(error.0))?;
                Ok(lock.map(|lock| ImportLock {
                    _held: Box::new(lock),
                }))
            }
            Engine::Postgres(engine) => {
                let lock = engine.lock_for_import(waits)?;
                Ok(lock.map(|lock| ImportLock {
                    _held: Box::new(lock),
                }))
            }
        }
    }

    /// Whether the database file was copied beside a running server, without its write-ahead log.
    pub fn lacks_log(&self) -> bool {
        match &*self.engine {
            Engine::Sqlite(engine) => engine.lacks_log(),
            Engine::Postgres(_) => false,
        }
    }

    /// A handle that waits until the database is closed. Dropping the last clone closes it.
    pub fn closed(&self) -> Closed {
        match &*self.engine {
            Engine::Sqlite(engine) => engine.closed(),
            Engine::Postgres(engine) => engine.closed(),
        }
    }

    /// The data folder. None on PostgreSQL.
    pub fn folder(&self) -> Option<&Path> {
        match &*self.engine {
            Engine::Sqlite(engine) => Some(engine.folder()),
            Engine::Postgres(_) => None,
        }
    }

    /// The engine as one of several nodes. None on SQLite.
    pub(crate) fn node(&self) -> Option<&Postgres> {
        match &*self.engine {
            Engine::Sqlite(_) => None,
            Engine::Postgres(engine) => Some(engine),
        }
    }

    /// Joins the nodes that serve this database. The other nodes reach this one at the address. On
    /// SQLite there are none.
    pub async fn join(&self, address: NodeAddress) {
        if let Some(node) = self.node() {
            node.join(address).await;
        }
    }

    /// The lease under which this node runs turns. None on SQLite, where no other node does.
    pub fn lease(&self) -> Option<i64> {
        self.node().map(Postgres::lease)
    }

    /// The number of nodes that serve this database, with this one.
    pub fn live_nodes(&self) -> usize {
        self.node().map_or(1, Postgres::live_nodes)
    }

    /// Takes the right to clean up, which one node has at a time. None if another node has it.
    ///
    /// # Errors
    /// `overloaded` if the database cannot be reached.
    pub async fn clean_up_lock(&self) -> Result<Option<CleanUpLock>> {
        let store = self.clone();
        let take = move || match &*store.engine {
            Engine::Sqlite(_) => Ok(Some(CleanUpLock {
                _held: Box::new(()),
            })),
            Engine::Postgres(engine) => {
                let lock = engine.clean_up_lock()?;
                Ok(lock.map(|lock| CleanUpLock {
                    _held: Box::new(lock),
                }))
            }
        };
        tokio::task::spawn_blocking(take)
            .await
            .map_err(|error| Error::Internal(error.into()))?
    }

    /// The kind of the engine's search index.
    fn search_index(&self) -> search_index::Index {
        match &*self.engine {
            Engine::Sqlite(_) => search_index::Index::Fts5,
            Engine::Postgres(_) => search_index::Index::Tsvector,
        }
    }

    /// The engine's name in replies and metrics.
    pub fn engine_name(&self) -> &'static str {
        match &*self.engine {
            Engine::Sqlite(_) => "sqlite",
            Engine::Postgres(_) => "postgresql",
        }
    }

    /// Where the data is, for logs and messages: a folder, or a URL without its password.
    pub fn place(&self) -> String {
        match &*self.engine {
            Engine::Sqlite(engine) => engine.folder().display().to_string(),
            Engine::Postgres(engine) => engine.target().to_string(),
        }
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

    /// Makes all later ticks of this node greater than one of another node.
    pub fn pass_tick(&self, other: Tick) {
        self.ticker.pass(other);
    }

    /// Runs one step of a request on one snapshot of the database.
    ///
    /// On SQLite the step runs inline, on the calling thread. On PostgreSQL it runs on a thread of
    /// the pool, because it waits for the network.
    ///
    /// # Errors
    /// Those of `step`; `overloaded` if no connection is free within 5 s.
    pub async fn read<T, F>(&self, step: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Reader<'_>) -> Result<T> + Send + 'static,
    {
        match &*self.engine {
            Engine::Sqlite(engine) => engine.read(step),
            Engine::Postgres(engine) => reply_of(engine.read(step)?).await,
        }
    }

    /// As [`Store::read`], through the cache entries that are valid on this snapshot.
    pub async fn read_cached<T, F>(&self, step: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Cached<'_, Reader<'_>>) -> Result<T> + Send + 'static,
    {
        match &*self.engine {
            Engine::Sqlite(engine) => self.read_cached_here(engine, step),
            Engine::Postgres(engine) => {
                let cache = Arc::clone(&self.cache);
                let read =
                    engine.read(move |reader| step(&cache.at(cache::version(reader)?, reader)));
                reply_of(read?).await
            }
        }
    }

    /// As [`Store::read_cached`], on the calling thread.
    fn read_cached_here<T>(
        &self,
        engine: &Sqlite,
        step: impl FnOnce(&Cached<'_, Reader<'_>>) -> Result<T>,
    ) -> Result<T> {
        engine.read(|reader| step(&self.cache.at(cache::version(reader)?, reader)))
    }

    /// As [`Store::read_cached`], for a step that mostly finds all in the cache. On PostgreSQL such a
    /// step takes no connection: one look at the version serves all requests that wait for it.
    pub async fn look_up<T, F>(&self, step: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&Cached<'_, Reader<'_>>) -> Result<T> + Send + 'static,
    {
        match &*self.engine {
            Engine::Sqlite(engine) => self.read_cached_here(engine, step),
            Engine::Postgres(engine) => {
                let version = engine.version().await?;
                match self.look_up_cached(version, &step) {
                    Some(outcome) => outcome,
                    None => self.read_cached(step).await,
                }
            }
        }
    }

    /// Runs a step on the cache alone. None if the cache lacks something.
    fn look_up_cached<T>(
        &self,
        version: i64,
        step: &impl Fn(&Cached<'_, Reader<'_>>) -> Result<T>,
    ) -> Option<Result<T>> {
        let missed = Cell::new(false);
        let reader = Reader::on(EngineSession::CacheOnly(&missed));
        let outcome = step(&self.cache.at(version, &reader));
        (!missed.get()).then_some(outcome)
    }

    /// As [`Store::read`], for the command line and other threads that may block.
    pub fn read_now<T: Send>(
        &self,
        step: impl FnOnce(&Reader<'_>) -> Result<T> + Send,
    ) -> Result<T> {
        match &*self.engine {
            Engine::Sqlite(engine) => engine.read(step),
            Engine::Postgres(engine) => engine.read_now(step),
        }
    }

    /// As [`Store::read`], for work that takes longer than a few rows: on SQLite, it runs on the
    /// blocking pool.
    pub async fn read_on_pool<T: Send + 'static>(
        &self,
        step: impl FnOnce(&Reader<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        if let Engine::Postgres(_) = &*self.engine {
            return self.read(step).await;
        }
        let store = self.clone();
        tokio::task::spawn_blocking(move || store.read_now(step))
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
        let permit = self.long_reads.permit(kind, tenant).await?;
        let engine = Arc::clone(&self.engine);
        let read = move || {
            let _permit = permit;
            match &*engine {
                Engine::Sqlite(engine) => engine.read_long(kind, step),
                Engine::Postgres(engine) => blocking_reply_of(engine.read_long(kind, step)?),
            }
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
        let reply = self.submit(extent, change);
        async move { reply_of(reply?).await }
    }

    fn submit<T: Send + 'static>(
        &self,
        extent: Extent,
        change: impl FnOnce(&mut WriteTx<'_>) -> Result<T> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<T>>> {
        match &*self.engine {
            Engine::Sqlite(engine) => engine.submit(extent, change),
            Engine::Postgres(engine) => engine.submit(extent, change),
        }
    }

    /// As [`Store::write`] of a change that has a transaction of its own, for the command line and
    /// other threads that may block.
    pub fn write_now<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut WriteTx<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        blocking_reply_of(self.submit(Extent::Alone, change)?)
    }

    /// Creates a session, unless the configuration has changed since it was decided at `version`.
    /// `None` tells the caller to decide again.
    ///
    /// On SQLite the session is created in any case: the change of the configuration was concurrent
    /// with the request.
    ///
    /// # Errors
    /// Those of [`Store::write`].
    pub async fn create_session(&self, new: NewSession, version: i64) -> Result<Option<Session>> {
        match &*self.engine {
            Engine::Sqlite(engine) => {
                let created = engine.submit(Extent::Statement, |tx| sessions::insert(tx, new));
                reply_of(created?).await.map(Some)
            }
            Engine::Postgres(engine) => reply_of(engine.create(new, version)?).await,
        }
    }

    /// The writer's metrics.
    pub fn writer_metrics(&self) -> &WriterMetrics {
        match &*self.engine {
            Engine::Sqlite(engine) => engine.writer_metrics(),
            Engine::Postgres(engine) => engine.writer_metrics(),
        }
    }

    /// The sizes of the database file and of its log; 0 for a file that cannot be read.
    pub fn sizes(&self) -> Sizes {
        match &*self.engine {
            Engine::Sqlite(engine) => engine.sizes(),
            Engine::Postgres(engine) => engine.sizes(),
        }
    }

    /// Whether the last group that wrote was committed.
    pub fn is_writable(&self) -> bool {
        match &*self.engine {
            Engine::Sqlite(engine) => engine.is_writable(),
            Engine::Postgres(engine) => engine.is_writable(),
        }
    }

    /// Checks that the store accepts changes. After a group that failed, a probe finds out when
    /// writes work again. A PostgreSQL server is asked whether it takes changes.
    ///
    /// # Errors
    /// `storage_full`, `overloaded`, or `internal_error` if the disk fails.
    pub async fn check_writable(&self) -> Result<()> {
        if let Engine::Postgres(engine) = &*self.engine {
            engine.check_server().await?;
        }
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

/// Waits for the reply of a thread of the engine.
async fn reply_of<T>(reply: oneshot::Receiver<Result<T>>) -> Result<T> {
    reply.await.map_err(|_| has_stopped())?
}

/// As [`reply_of`], on a thread that may block.
fn blocking_reply_of<T>(reply: oneshot::Receiver<Result<T>>) -> Result<T> {
    reply.blocking_recv().map_err(|_| has_stopped())?
}

fn has_stopped() -> Error {
    Error::internal("the store has stopped")
}
