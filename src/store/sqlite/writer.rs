//! Group commit: one thread runs all waiting changes in one transaction, then answers.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;

use rusqlite::{Connection, ffi};
use tokio::sync::oneshot;

use super::checkpoint::{self, Checkpoints};
use super::connection::END_USE;
use super::session::Session;
use super::{connection, errors, lock_holder};
use crate::error::{Code, Error, Result};
use crate::model::clock::Clock;
use crate::model::ids::Ticker;
use crate::store::closed::Closed;
pub(super) use crate::store::sql::Extent;
use crate::store::sql::{Effects, Random, Session as Engine, WriteTx};
use crate::store::writer_metrics::WriterMetrics;
use crate::text::counted;

/// Changes that may wait. Further changes are refused as `overloaded`.
const QUEUE: usize = 4_096;
/// Changes in one commit: enough to share an fsync, and few enough to bound how long the first
/// change waits for the last.
pub(super) const GROUP: usize = 256;

/// A change and its waiting caller, independent of the type of the result.
trait Pending: Send {
    fn extent(&self) -> Extent;
    /// Runs the change. Returns `false` if the change failed and has to be rolled back.
    fn run(&mut self, tx: &mut WriteTx<'_>) -> bool;
    /// Whether the change failed because the disk was full.
    fn was_full(&self) -> bool;
    /// Answers the caller, after the group is on disk or has failed.
    fn answer(self: Box<Self>, failure: Option<&GroupFailure>);
}

struct Change<F, T> {
    change: Option<F>,
    extent: Extent,
    result: Option<Result<T>>,
    reply: oneshot::Sender<Result<T>>,
}

impl<F, T> Pending for Change<F, T>
where
    F: FnOnce(&mut WriteTx<'_>) -> Result<T> + Send,
    T: Send,
{
    fn extent(&self) -> Extent {
        self.extent
    }

    fn run(&mut self, tx: &mut WriteTx<'_>) -> bool {
        let Some(change) = self.change.take() else {
            return false;
        };
        let result = catch_unwind(AssertUnwindSafe(|| change(tx)))
            .unwrap_or_else(|_| Err(Error::internal("a change panicked")));
        let is_ok = result.is_ok();
        self.result = Some(result);
        is_ok
    }

    fn was_full(&self) -> bool {
        matches!(&self.result, Some(Err(error)) if error.is(Code::StorageFull))
    }

    fn answer(self: Box<Self>, failure: Option<&GroupFailure>) {
        let result = match (failure, self.result) {
            (Some(failure), _) => Err(failure.as_error()),
            (None, Some(result)) => result,
            (None, None) => Err(Error::internal("a change was not run")),
        };
        // The caller may no longer wait. The change stands all the same.
        drop(self.reply.send(result));
    }
}

/// Why a whole group was not committed.
enum GroupFailure {
    Full,
    Busy,
    Broken(String),
}

impl GroupFailure {
    fn as_error(&self) -> Error {
        match self {
            Self::Full => Code::StorageFull.into(),
            Self::Busy => Code::Overloaded.into(),
            Self::Broken(cause) => Error::internal(cause.as_str()),
        }
    }
}

impl From<rusqlite::Error> for GroupFailure {
    fn from(error: rusqlite::Error) -> Self {
        if errors::is_full(&error) {
            return Self::Full;
        }
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked) => {
                Self::Busy
            }
            _ => Self::Broken(format!("a group was not committed: {error}")),
        }
    }
}

/// The handle of the writer's thread. The thread ends when the handle is dropped.
pub(super) struct Writer {
    queue: Option<SyncSender<Box<dyn Pending>>>,
    metrics: Arc<WriterMetrics>,
    writable: Arc<AtomicBool>,
    is_serving: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
    closed: Closed,
}

impl Writer {
    pub(super) fn start(
        connection: Connection,
        clock: Clock,
        ticker: Ticker,
        checkpoints: Checkpoints,
        max_changes: usize,
        database: &Path,
    ) -> Self {
        let (queue, waiting) = sync_channel(QUEUE);
        let writable = Arc::new(AtomicBool::new(true));
        let is_serving = Arc::new(AtomicBool::new(false));
        let metrics = Arc::new(WriterMetrics::new());
        let group_writer = GroupWriter {
            connection,
            alone: None,
            clock,
            ticker,
            data_version: None,
            effects: Effects::default(),
            random: Random::default(),
            checkpoints,
            database: database.to_owned(),
            writable: Arc::clone(&writable),
            is_serving: Arc::clone(&is_serving),
            metrics: Arc::clone(&metrics),
        };
        let closed = Closed::default();
        let notify = closed.notify_on_drop();
        let thread = std::thread::spawn(move || {
            lock_holder::watch(&group_writer.database);
            // Dropped last, after the connection is closed.
            let _notify = notify;
            let mut group_writer = group_writer;
            group_writer.run(&waiting, max_changes);
            drop(group_writer);
        });
        Self {
            queue: Some(queue),
            metrics,
            writable,
            is_serving,
            thread: Mutex::new(Some(thread)),
            closed,
        }
    }

    pub(super) fn submit<T: Send + 'static>(
        &self,
        extent: Extent,
        change: impl FnOnce(&mut WriteTx<'_>) -> Result<T> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<T>>> {
        let (reply, receiver) = oneshot::channel();
        let pending = Box::new(Change {
            change: Some(change),
            extent,
            result: None,
            reply,
        });
        let Some(queue) = &self.queue else {
            return Err(Error::internal("the writer has stopped"));
        };
        match queue.try_send(pending) {
            Ok(()) => {
                self.metrics.submit();
                Ok(receiver)
            }
            Err(TrySendError::Full(_)) => Err(Code::Overloaded.into()),
            Err(TrySendError::Disconnected(_)) => Err(Error::internal("the writer has stopped")),
        }
    }

    pub(super) fn closed(&self) -> Closed {
        self.closed.clone()
    }

    pub(super) fn metrics(&self) -> &WriterMetrics {
        &self.metrics
    }

    /// Has the writer record at its end that no server has the file open any longer.
    pub(super) fn ends_use(&self) {
        self.is_serving.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_writable(&self) -> bool {
        self.writable.load(Ordering::Relaxed)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // The thread writes the waiting changes, then ends: the queue is closed.
        self.queue = None;
        let thread = self.thread.lock().ok().and_then(|mut thread| thread.take());
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            log::error!("the writer's thread has panicked");
        }
    }
}

struct GroupWriter {
    connection: Connection,
    /// The next change, which has a transaction of its own.
    alone: Option<Box<dyn Pending>>,
    clock: Clock,
    ticker: Ticker,
    /// SQLite's data version when the ticks of other processes were last read.
    data_version: Option<i64>,
    random: Random,
    checkpoints: Checkpoints,
    /// The database file.
    database: PathBuf,
    writable: Arc<AtomicBool>,
    is_serving: Arc<AtomicBool>,
    metrics: Arc<WriterMetrics>,
    effects: Effects,
}

impl GroupWriter {
    fn run(&mut self, waiting: &Receiver<Box<dyn Pending>>, max_changes: usize) {
        let mut group = Vec::with_capacity(max_changes);
        while let Some(first) = self.alone.take().or_else(|| waiting.recv().ok()) {
            self.metrics.dequeue();
            group.push(first);
            self.add_waiting(&mut group, waiting, max_changes);
            let start = Instant::now();
            let outcome = self.commit(&mut group, waiting, max_changes);
            self.metrics
                .record_commit(group.len(), start.elapsed(), outcome.is_ok());
            // A commit that wrote nothing also succeeds on a full disk.
            let has_written = checkpoint::has_written();
            if has_written || outcome.is_err() {
                self.writable.store(outcome.is_ok(), Ordering::Relaxed);
            }
            let failure = outcome.err();
            let on_commit = self.effects.on_commit.drain(..);
            if failure.is_none() {
                on_commit.for_each(|callback| callback());
            }
            for pending in group.drain(..) {
                pending.answer(failure.as_ref());
            }
            if failure.is_none() {
                self.checkpoints.after_commit(&self.connection);
                if std::mem::take(&mut self.effects.scrub_log) {
                    self.checkpoints.scrub();
                }
            }
        }
        if self.is_serving.load(Ordering::Relaxed)
            && let Err(error) = execute(&self.connection, END_USE)
        {
            log::debug!("the database still counts as in use: {error}");
        }
        if let Err(error) = self.checkpoints.end(&self.connection) {
            log::error!("the checkpoints did not end: {error}");
        }
    }

    fn commit(
        &mut self,
        group: &mut Vec<Box<dyn Pending>>,
        waiting: &Receiver<Box<dyn Pending>>,
        max_changes: usize,
    ) -> Result<(), GroupFailure> {
        self.begin(group.len())?;
        let outcome = self.run_all(group, waiting, max_changes).and_then(|()| {
            match self.connection.is_autocommit() {
                // The only change of the group was rolled back.
                true => Ok(()),
                false => execute(&self.connection, "COMMIT"),
            }
        });
        if let Err(error) = outcome {
            // SQLite may have rolled back already, for example because the disk is full.
            if !self.connection.is_autocommit() {
                execute(&self.connection, "ROLLBACK")?;
            }
            return Err(error.into());
        }
        Ok(())
    }

    /// Begins the transaction of a group of `changes` changes. Logs a long wait for another process's
    /// lock, and the refusal of the changes if the lock does not become free.
    fn begin(&self, changes: usize) -> rusqlite::Result<()> {
        let start = Instant::now();
        let begun = execute(&self.connection, "BEGIN IMMEDIATE");
        let waited = start.elapsed();
        if waited < connection::WARN_AFTER {
            return begun;
        }
        let changes = counted(changes as u64, "change", "changes");
        let (seconds, database) = (waited.as_secs_f64(), self.database.display());
        match &begun {
            Ok(()) => {
                log::warn!("{changes} waited {seconds:.1} s for the write lock of {database}");
            }
            Err(_) => log::error!(
                "{changes} refused, because {} holds the write lock of {database} for {seconds:.1} s already; end that program",
                lock_holder::holder(&self.database)
            ),
        }
        begun
    }

    /// Moves the ticker past the ticks that another process has used, such as a command next to a
    /// server.
    fn pass_other_processes(&mut self) -> rusqlite::Result<()> {
        let data_version = connection::data_version(&self.connection)?;
        if self.data_version != Some(data_version) {
            self.ticker.pass(connection::last_tick(&self.connection)?);
            self.data_version = Some(data_version);
        }
        Ok(())
    }

    /// Runs a group, and the changes that arrive while it runs.
    fn run_all(
        &mut self,
        group: &mut Vec<Box<dyn Pending>>,
        waiting: &Receiver<Box<dyn Pending>>,
        max_changes: usize,
    ) -> rusqlite::Result<()> {
        self.pass_other_processes()?;
        let mut done = 0;
        while done < group.len() {
            self.run_each(&mut group[done..])?;
            done = group.len();
            self.add_waiting(group, waiting, max_changes);
        }
        Ok(())
    }

    /// Adds waiting changes to a group, up to one that has a transaction of its own.
    fn add_waiting(
        &mut self,
        group: &mut Vec<Box<dyn Pending>>,
        waiting: &Receiver<Box<dyn Pending>>,
        max_changes: usize,
    ) {
        let is_alone = |pending: &dyn Pending| pending.extent() == Extent::Alone;
        if group.first().is_some_and(|first| is_alone(first.as_ref())) {
            return;
        }
        while group.len() < max_changes && self.alone.is_none() {
            match waiting.try_recv() {
                Err(_) => return,
                Ok(pending) if is_alone(pending.as_ref()) => self.alone = Some(pending),
                Ok(pending) => {
                    self.metrics.dequeue();
                    group.push(pending);
                }
            }
        }
    }

    fn run_each(&mut self, changes: &mut [Box<dyn Pending>]) -> rusqlite::Result<()> {
        let now = self.clock.now();
        for pending in changes {
            // A savepoint costs about as much as the statement: SQLite copies every page that the
            // change modifies. Each statement with a trigger then walks through all the copies, so
            // that a change of very many rows has a transaction instead.
            let extent = pending.extent();
            let needs_savepoint = extent != Extent::Statement && extent != Extent::Alone;
            if needs_savepoint {
                execute(&self.connection, "SAVEPOINT change")?;
            }
            let callbacks_before = self.effects.on_commit.len();
            let mut tx = WriteTx::on(
                Engine::Sqlite(Session::of(&self.connection)),
                extent,
                &self.ticker,
                &mut self.random,
                now,
                &mut self.effects,
            );
            let is_kept = pending.run(&mut tx) && !tx.is_rolled_back();
            if !is_kept {
                self.effects.on_commit.truncate(callbacks_before);
                if self.connection.is_autocommit() {
                    // SQLite rolled back the whole group, because the disk is full or fails.
                    return Err(connection::sqlite_error(match pending.was_full() {
                        true => ffi::SQLITE_FULL,
                        false => ffi::SQLITE_IOERR,
                    }));
                }
                if needs_savepoint {
                    execute(&self.connection, "ROLLBACK TO change")?;
                } else if extent == Extent::Alone {
                    execute(&self.connection, "ROLLBACK")?;
                }
            }
            if needs_savepoint {
                execute(&self.connection, "RELEASE change")?;
            }
        }
        Ok(())
    }
}

fn execute(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([]).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    const ADD: &str = "INSERT INTO tenants (tenant_no, seq, client_id, name, created_at) VALUES (?1, ?1, 'no ' || ?1, '', 0)";
    const ALL: &str = "SELECT tenant_no FROM tenants ORDER BY tenant_no";

    fn add(tx: &mut WriteTx<'_>, number: i64) -> Result<()> {
        tx.execute(ADD, [number]).map(drop)
    }

    #[tokio::test]
    async fn a_change_with_a_transaction_of_its_own_shares_neither_it_nor_a_savepoint() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), Clock::System).unwrap();
        let before = store.write(Extent::Configuration, |tx| add(tx, 1));
        let alone = store.write(Extent::Alone, |tx| {
            add(tx, 2)?;
            // There is no savepoint of this name.
            tx.execute("ROLLBACK TO change", ()).unwrap_err();
            add(tx, 3)
        });
        let refused = store.write(Extent::Alone, |tx| {
            add(tx, 4)?;
            add(tx, 1)
        });
        let undone = store.write(Extent::Alone, |tx| {
            add(tx, 5)?;
            tx.roll_back()
        });
        let after = store.write(Extent::Configuration, |tx| add(tx, 6));
        before.await.unwrap();
        alone.await.unwrap();
        refused.await.unwrap_err();
        undone.await.unwrap();
        after.await.unwrap();
        let all = store.read_now(|reader| reader.all(ALL, (), |row| row.get::<i64>("tenant_no")));
        assert_eq!(all.unwrap(), [1, 2, 3, 6]);
        assert_eq!(store.writer_metrics().waiting(), 0);
    }

    #[tokio::test]
    async fn a_change_that_fails_is_rolled_back_alone_within_its_group() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), Clock::System).unwrap();
        let (release, blocked) = std::sync::mpsc::channel();
        // This change blocks the writer until all the others are queued.
        let first = store.write(Extent::Configuration, move |_| {
            blocked.recv().unwrap();
            Ok(())
        });
        let one = store.write(Extent::Statement, |tx| add(tx, 1));
        let duplicate = store.write(Extent::Statement, |tx| add(tx, 1));
        let fails_halfway = store.write(Extent::Configuration, |tx| {
            add(tx, 2)?;
            add(tx, 1)
        });
        let panics = store.write(Extent::Configuration, |tx| -> Result<()> {
            add(tx, 3)?;
            panic!("on purpose, for the test")
        });
        let both = store.write(Extent::Configuration, |tx| {
            add(tx, 4)?;
            add(tx, 5)
        });
        let last = store.write(Extent::Statement, |tx| add(tx, 6));
        release.send(()).unwrap();
        first.await.unwrap();
        assert!(one.await.is_ok());
        assert!(duplicate.await.is_err());
        assert!(fails_halfway.await.is_err());
        assert!(panics.await.is_err());
        assert!(both.await.is_ok());
        assert!(last.await.is_ok());
        let committed: Vec<i64> = store
            .read_now(|reader| reader.all(ALL, (), |row| row.get("tenant_no")))
            .unwrap();
        assert_eq!(committed, [1, 4, 5, 6]);
        // The changes that were queued while the first one ran joined its group.
        assert_eq!(store.writer_metrics().changes.read().count, 1);
    }

    #[tokio::test]
    async fn a_change_that_is_rolled_back_returns_its_result_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), Clock::System).unwrap();
        let (go_on, waits) = std::sync::mpsc::channel();
        let (told, ran_on_commit) = std::sync::mpsc::channel();
        let tell = move |tx: &mut WriteTx<'_>, number: i64| {
            let told = told.clone();
            tx.on_commit(move || told.send(number).unwrap());
        };
        let tell_of_last = tell.clone();
        // All others are run in the group of this one.
        let first = store.write(Extent::Configuration, move |tx| {
            waits.recv().unwrap();
            add(tx, 1)
        });
        let dry_run = store.write(Extent::Configuration, move |tx| {
            tx.roll_back()?;
            tell(tx, 2);
            add(tx, 2)?;
            tx.reader().all(ALL, (), |row| row.get::<i64>("tenant_no"))
        });
        let statement = store.write(Extent::Statement, |tx| tx.roll_back());
        let last = store.write(Extent::Configuration, move |tx| {
            tell_of_last(tx, 3);
            add(tx, 3)
        });
        go_on.send(()).unwrap();
        first.await.unwrap();
        assert_eq!(dry_run.await.unwrap(), [1, 2]);
        assert!(matches!(statement.await, Err(Error::Internal(_))));
        last.await.unwrap();
        let kept: Vec<i64> = store
            .read_now(|reader| reader.all(ALL, (), |row| row.get("tenant_no")))
            .unwrap();
        assert_eq!(kept, [1, 3]);
        assert_eq!(ran_on_commit.try_iter().collect::<Vec<_>>(), [3]);
        assert_eq!(store.writer_metrics().changes.read().count, 1);
    }
}
