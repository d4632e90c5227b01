//! The only place with SQL: one SQLite file, a pool of readers, one writer that commits many requests at once.

mod checkpoint;
mod long_reads;
pub mod migrations;
pub mod sqlite;
mod writer;

pub mod agents;
pub mod articles;
pub mod attachments;
pub mod audit;
pub mod backup;
pub mod cache;
pub mod channels;
pub mod check;
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
pub mod passage_index;
pub mod retention;
pub mod search;
pub mod sessions;
pub mod sign_ins;
pub mod stats;
pub mod tenants;
pub mod tokens;
pub mod turns;
pub mod unlinked;
pub mod users;

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::future::Future;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use r2d2::{Pool, PooledConnection};
use r2d2_sqlite::SqliteConnectionManager;
use rusqlite::OpenFlags;
use tokio::sync::oneshot;

use self::cache::{Cache, Cached};
use self::long_reads::{Gate, LongReads};
pub use self::sqlite::{Part, Reader};
pub use self::writer::{Ended, WriteTx, WriterMetrics};
use self::writer::{Extent, Writer};
use crate::error::{Code, Error, Refusal, Result};
use crate::model::clock::{Clock, Millis};
use crate::model::ids::{Tick, Ticker};
use crate::model::names::TenantNo;

/// The database's name in the data folder.
const FILE: &str = "switchboard.db";
/// The name of its write-ahead log.
const LOG: &str = "switchboard.db-wal";
/// Held by the one `serve` of a data folder.
const SERVE_LOCK: &str = "serve.lock";
/// Held while a schema is brought up to date.
const MIGRATE_LOCK: &str = "migrate.lock";
/// Connections that read at one time; handlers read on the server's few threads, long reads on the blocking pool.
const READERS: u32 = 8;
/// How long a request waits for one of them.
const READER_WAIT: Duration = Duration::from_secs(5);
/// How long a long read may take.
const LONG_READ: Duration = Duration::from_secs(20);

/// How often one is begun again at most.
const BEGUN_AGAIN: u8 = 2;

/// A write that changes nothing.
const TRIAL: &str = "UPDATE search_progress SET done_seq = done_seq";

/// A data folder or a file that cannot be used, in a sentence for the operator.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct OpenError(pub String);

/// One data folder: its file, its readers and its writer. Clones share them.
#[derive(Clone)]
pub struct Store {
    folder: Arc<PathBuf>,
    readers: Pool<SqliteConnectionManager>,
    cache: Arc<Cache>,
    writer: Arc<Writer>,
    clock: Clock,
    ticker: Ticker,
    long_reads: Arc<LongReads>,
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

/// Keeps a second `serve` off a data folder for as long as it lives.
#[derive(Debug)]
pub struct ServeLock {
    _file: File,
}

impl Store {
    /// Opens a data folder, makes it if it is missing, and brings its schema up to date.
    ///
    /// # Errors
    /// A sentence for the operator: no permission, a file that is no database, a damaged or newer schema.
    pub fn open(folder: &Path, clock: Clock) -> Result<Self, OpenError> {
        Self::open_for_groups(folder, clock, writer::GROUP)
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
        make_folder(folder)?;
        let path = folder.join(FILE);
        if is_emptied(folder) {
            return Err(OpenError(format!(
                "{} is empty, although it was in use; restore it from a backup, or remove it if nothing was in it",
                path.display()
            )));
        }
        make_private_file(&path)
            .map_err(|error| OpenError(format!("cannot open {}: {error}", path.display())))?;
        let broken = |error: rusqlite::Error| OpenError(describe(&path, &error));
        // Not beside a server, which may be the one that keeps its log.
        if checkpoint::is_kept(&path)
            && let Ok(_nobody_serves) = lock_for_serving(folder)
        {
            checkpoint::take_up_kept(&path).map_err(broken)?;
        }

        let mut connection = sqlite::open_writer(&path).map_err(broken)?;
        {
            let _lock = lock_for_migration(folder)?;
            migrations::check(&connection, &path)?;
            sqlite::check_length(&connection, &path).map_err(broken)?;
            sqlite::prepare_writer(&connection).map_err(broken)?;
            migrations::run(&mut connection, &path)?;
        }
        // SQLite has the names of its files kept too, but goes on where the disk fails to.
        keep_names(folder)
            .map_err(|error| OpenError(format!("cannot sync {}: {error}", folder.display())))?;
        let ticker = Ticker::after(sqlite::last_tick(&connection).map_err(broken)?);
        let readers = Pool::builder()
            .max_size(READERS)
            .min_idle(Some(1))
            .connection_timeout(READER_WAIT)
            .test_on_check_out(false)
            .build(
                SqliteConnectionManager::file(&path)
                    .with_flags(OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)
                    .with_init(|connection| sqlite::prepare_reader(connection)),
            )
            .map_err(|error| OpenError(format!("cannot read {}: {error}", path.display())))?;
        let gate = Arc::<Gate>::default();
        let checkpoints = checkpoint::start(&path, Arc::clone(&gate)).map_err(broken)?;
        checkpoint::watch(&connection);
        let writer = Writer::start(
            connection,
            clock.clone(),
            ticker.clone(),
            checkpoints,
            most_changes,
        );
        Ok(Self {
            folder: Arc::new(folder.to_owned()),
            readers,
            cache: Arc::default(),
            writer: Arc::new(writer),
            clock,
            ticker,
            long_reads: Arc::new(LongReads::new(gate)),
            removal: Arc::default(),
        })
    }

    /// Takes the folder for a server, and takes up what an earlier one left in its log.
    ///
    /// # Errors
    /// A sentence for the operator if another server has it, or the disk fails.
    pub fn lock_for_serving(&self) -> Result<ServeLock, OpenError> {
        let lock = lock_for_serving(&self.folder)?;
        let path = database_file(&self.folder);
        if checkpoint::is_kept(&path) {
            return Err(OpenError(format!(
                "the log of {} was kept when the disk failed, and another program has the file open; end that one, then start again",
                path.display()
            )));
        }
        checkpoint::take_up(&path).map_err(|error| OpenError(describe(&path, &error)))?;
        Ok(lock)
    }

    /// Tells when the file has been closed, which the last clone does when it goes.
    pub fn ended(&self) -> Ended {
        self.writer.ended()
    }

    /// The data folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The time now.
    pub fn now(&self) -> Millis {
        self.clock.now()
    }

    /// A tick greater than any before it; those of ids and of stream cursors are one sequence.
    pub fn tick(&self) -> Tick {
        self.ticker.next(self.clock.now())
    }

    /// Runs one step of a request on one snapshot of the file, on the calling thread.
    ///
    /// # Errors
    /// Whatever `step` returns; `overloaded` when no reader comes free in time.
    pub fn read<T>(&self, step: impl FnOnce(&Reader<'_>) -> Result<T>) -> Result<T> {
        let connection = self.reader()?;
        sqlite::on_a_snapshot(&connection, step)
    }

    /// As [`Store::read`], with the answers of earlier requests that still hold on this snapshot.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub fn look_up<T>(&self, step: impl FnOnce(&Cached<'_, Reader<'_>>) -> Result<T>) -> Result<T> {
        self.read(|reader| step(&self.cache.at(cache::version(reader)?, reader)))
    }

    /// Runs a step on the blocking pool, for work that must not be refused for want of room.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub async fn read_aside<T: Send + 'static>(
        &self,
        step: impl FnOnce(&Reader<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let store = self.clone();
        tokio::task::spawn_blocking(move || store.read(step))
            .await
            .map_err(|error| Error::Internal(error.into()))?
    }

    /// Runs a step that can be long on the blocking pool: a few at one time, fewer of one tenant, each for 20 s at most. It may
    /// be begun again, on a newer snapshot and with as much time, when the write-ahead log has grown long.
    ///
    /// # Errors
    /// Whatever `step` returns; `overloaded` when there is no room in time, and for a step that takes too long.
    pub async fn read_long<T: Send + 'static>(
        &self,
        tenant: Option<TenantNo>,
        step: impl Fn(&Reader<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let place = self.long_reads.place(tenant).await?;
        let store = self.clone();
        let read = move || {
            let _place = place;
            let gate = store.long_reads.gate();
            let mut begun_again = 0;
            loop {
                let _entered = gate.enter();
                let end = Instant::now() + LONG_READ;
                let connection = store.reader()?;
                let late = Arc::clone(gate);
                let is_over = move || late.is_late(begun_again) || Instant::now() > end;
                let outcome = sqlite::on_a_snapshot(&connection, |reader| {
                    sqlite::unless(&connection, is_over, || step(reader))
                });
                let is_interrupted = outcome
                    .as_ref()
                    .is_err_and(|error| error.is(Code::Overloaded));
                if !is_interrupted || begun_again == BEGUN_AGAIN || Instant::now() > end {
                    return outcome;
                }
                begun_again += 1;
            }
        };
        tokio::task::spawn_blocking(read)
            .await
            .map_err(|error| Error::Internal(error.into()))?
    }

    /// Has the writer run `change` in its next group; resolves once the group is on disk.
    ///
    /// # Errors
    /// Whatever `change` returns (it is rolled back alone), `overloaded` when the queue is full, `storage_full`.
    pub fn write<T, F>(&self, change: F) -> impl Future<Output = Result<T>> + use<T, F>
    where
        T: Send + 'static,
        F: FnOnce(&mut WriteTx<'_>) -> Result<T> + Send + 'static,
    {
        Self::written(self.writer.submit(change, Extent::Any))
    }

    async fn written<T>(reply: Result<oneshot::Receiver<Result<T>>>) -> Result<T> {
        reply?
            .await
            .map_err(|_| Error::internal("the writer has stopped"))?
    }

    /// As [`Store::write`], for a change that writes with one statement and cannot fail once that is done.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub fn write_statement<T, F>(&self, change: F) -> impl Future<Output = Result<T>> + use<T, F>
    where
        T: Send + 'static,
        F: FnOnce(&mut WriteTx<'_>) -> Result<T> + Send + 'static,
    {
        Self::written(self.writer.submit(change, Extent::OneStatement))
    }

    /// As [`Store::write`], for the command line.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub fn write_now<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut WriteTx<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let reply = self.writer.submit(change, Extent::Any)?;
        reply
            .blocking_recv()
            .map_err(|_| Error::internal("the writer has stopped"))?
    }

    /// What the writer counts.
    pub fn writer_metrics(&self) -> &WriterMetrics {
        self.writer.metrics()
    }

    /// The sizes of the file and of its log; 0 for what cannot be looked at.
    pub fn sizes(&self) -> Sizes {
        let bytes = |path: PathBuf| path.metadata().map_or(0, |file| file.len());
        Sizes {
            database: bytes(self.folder.join(FILE)),
            log: bytes(self.folder.join(LOG)),
        }
    }

    /// Whether the last group could be written.
    pub fn is_writable(&self) -> bool {
        self.writer.is_writable()
    }

    /// Whether changes can be written; after a group that could not be, a trial tells when they can again.
    ///
    /// # Errors
    /// Why they cannot: `storage_full`, `overloaded`.
    pub async fn check_writable(&self) -> Result<()> {
        if self.is_writable() {
            return Ok(());
        }
        self.write(|tx| tx.reader().execute(TRIAL, []).map(drop))
            .await
    }

    fn reader(&self) -> Result<PooledConnection<SqliteConnectionManager>> {
        self.readers
            .get()
            .map_err(|_| Refusal::new(Code::Overloaded).into())
    }
}

/// The database file of a data folder.
pub fn database_file(folder: &Path) -> PathBuf {
    folder.join(FILE)
}

fn make_folder(folder: &Path) -> Result<(), OpenError> {
    try_make_folder(folder).map_err(|error| {
        OpenError(format!(
            "cannot make the data folder {}: {error}",
            folder.display()
        ))
    })
}

/// Makes a folder for its owner alone, with the parents that it lacks.
fn try_make_folder(folder: &Path) -> io::Result<()> {
    let was_there = folder.is_dir();
    if !was_there {
        make_parent(folder)?;
        make(folder, DirBuilder::new().mode(0o700))?;
    }
    // Until something is in the file, an earlier start may have been cut off before it came to this.
    if folder
        .join(FILE)
        .metadata()
        .is_ok_and(|file| file.len() > 0)
    {
        return Ok(());
    }
    match keep_names(parent_of(folder)) {
        // Whoever made it for us keeps its name.
        Err(error) if was_there && error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        outcome => outcome,
    }
}

fn make_parent(folder: &Path) -> io::Result<()> {
    let parent = parent_of(folder);
    match parent.metadata() {
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound && parent != folder => {}
        // As in a working directory that may not be entered.
        Err(error) => return Err(error),
    }
    make_parent(parent)?;
    make(parent, &DirBuilder::new())?;
    keep_names(parent_of(parent))
}

fn make(folder: &Path, builder: &DirBuilder) -> io::Result<()> {
    match builder.create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        outcome => outcome,
    }
}

fn parent_of(folder: &Path) -> &Path {
    match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    }
}

/// Has the names in a folder outlive a power cut: that of a new file does not by the file being synced.
///
/// # Errors
/// The folder cannot be opened, or the disk fails.
pub fn keep_names(folder: &Path) -> io::Result<()> {
    match File::open(folder)?.sync_all() {
        // Some file systems know no sync of a folder.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        outcome => outcome,
    }
}

/// Whether the file has lost all that was in it. The others are made once something is; SQLite would remove the log.
fn is_emptied(folder: &Path) -> bool {
    let length = |name: &str| folder.join(name).metadata().map(|file| file.len());
    length(FILE).is_ok_and(|bytes| bytes == 0)
        && (length(LOG).is_ok_and(|bytes| bytes > 0) || length(SERVE_LOCK).is_ok())
}

/// SQLite gives its side files the permissions of the main one.
fn make_private_file(path: &Path) -> io::Result<()> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    Ok(())
}

fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

fn lock_for_serving(folder: &Path) -> Result<ServeLock, OpenError> {
    let path = folder.join(SERVE_LOCK);
    let file = open_lock(&path)
        .map_err(|error| OpenError(format!("cannot open {}: {error}", path.display())))?;
    match file.try_lock() {
        Ok(()) => Ok(ServeLock { _file: file }),
        Err(TryLockError::WouldBlock) => Err(OpenError(format!(
            "another switchboard serves the data folder {}; stop it first, or give this one its own --data",
            folder.display()
        ))),
        Err(TryLockError::Error(error)) => Err(OpenError(format!(
            "cannot lock {}: {error}",
            path.display()
        ))),
    }
}

fn lock_for_migration(folder: &Path) -> Result<File, OpenError> {
    let path = folder.join(MIGRATE_LOCK);
    let refused = |error| OpenError(format!("cannot lock {}: {error}", path.display()));
    let file = open_lock(&path).map_err(refused)?;
    file.lock().map_err(refused)?;
    Ok(file)
}

fn describe(path: &Path, error: &rusqlite::Error) -> String {
    match fault(error) {
        Some(fault) => format!("{} {fault}; restore it from a backup", path.display()),
        None if sqlite::is_full(error) => format!(
            "cannot open {}: the disk is full; free some space",
            path.display()
        ),
        None => format!("cannot open {}: {error}", path.display()),
    }
}

/// What is wrong with a file itself, if this error says so.
fn fault(error: &rusqlite::Error) -> Option<&'static str> {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::NotADatabase) => Some("is no database, or is damaged"),
        Some(rusqlite::ErrorCode::DatabaseCorrupt) => Some("is damaged"),
        _ => None,
    }
}
