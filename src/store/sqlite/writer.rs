//! The one writer: it takes what waits, runs each change so that it can fail alone, commits all of it once, and only then answers.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ffi};
use tokio::sync::oneshot;

use super::checkpoint::Checkpoints;
use super::session::Session;
use super::{connection, errors};
use crate::error::{Code, Error, Result};
use crate::metrics::{Counter, Histogram};
use crate::model::clock::Clock;
use crate::model::ids::Ticker;
pub(super) use crate::store::sql::Extent;
use crate::store::sql::{Effects, Random, WriteTx};

/// Changes that may wait; more are refused as `overloaded`.
const QUEUE: usize = 4_096;
/// Changes in one commit: enough to share an fsync, few enough to bound how long the first waits for the last.
pub(super) const GROUP: usize = 256;

/// A change and its waiting caller, whatever its result's type.
trait Pending: Send {
    fn extent(&self) -> Extent;
    /// Runs the change; whether it succeeded.
    fn run(&mut self, tx: &mut WriteTx<'_>) -> bool;
    /// Whether the disk was full.
    fn was_full(&self) -> bool;
    /// Answers the caller, once the group is on disk or has failed.
    fn answer(self: Box<Self>, failed: Option<&GroupFailed>);
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
        let has_succeeded = result.is_ok();
        self.result = Some(result);
        has_succeeded
    }

    fn was_full(&self) -> bool {
        matches!(&self.result, Some(Err(error)) if error.is(Code::StorageFull))
    }

    fn answer(self: Box<Self>, failed: Option<&GroupFailed>) {
        let result = match (failed, self.result) {
            (Some(failed), _) => Err(failed.as_error()),
            (None, Some(result)) => result,
            (None, None) => Err(Error::internal("a change was not run")),
        };
        // The caller may have gone; what it asked for is done all the same.
        drop(self.reply.send(result));
    }
}

/// Why a whole group was not committed.
enum GroupFailed {
    Full,
    Busy,
    Broken(String),
}

impl GroupFailed {
    fn as_error(&self) -> Error {
        match self {
            Self::Full => Code::StorageFull.into(),
            Self::Busy => Code::Overloaded.into(),
            Self::Broken(cause) => Error::internal(cause.as_str()),
        }
    }
}

impl From<rusqlite::Error> for GroupFailed {
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

/// Changes in a commit.
const CHANGES: [u64; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 256];
/// Microseconds of a commit: from a quick disk to one that others keep busy.
const TIMES: [u64; 13] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000,
    10_000_000,
];

/// What the writer counts.
#[derive(Debug)]
pub struct WriterMetrics {
    submitted: Counter,
    taken: Counter,
    /// Changes in one commit.
    pub changes: Histogram<{ CHANGES.len() }>,
    /// Microseconds of one commit, its changes included.
    pub times: Histogram<{ TIMES.len() }>,
    /// Commits that failed.
    pub failures: Counter,
}

impl WriterMetrics {
    fn new() -> Self {
        Self {
            submitted: Counter::new(),
            taken: Counter::new(),
            changes: Histogram::new(&CHANGES),
            times: Histogram::new(&TIMES),
            failures: Counter::new(),
        }
    }

    /// Changes that wait.
    pub fn waiting(&self) -> u64 {
        // What was taken is read first: meanwhile there may come more, and no fewer.
        let taken = self.taken.get();
        self.submitted.get().saturating_sub(taken)
    }

    fn committed(&self, changes: usize, took: Duration, went_well: bool) {
        self.changes.observe(changes as u64);
        self.times
            .observe(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        if !went_well {
            self.failures.add(1);
        }
    }
}

/// The handle to the writer's thread; the thread ends when the handle is dropped.
pub(super) struct Writer {
    queue: Option<SyncSender<Box<dyn Pending>>>,
    metrics: Arc<WriterMetrics>,
    writable: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
    ended: Closed,
}

/// Tells who waits for it that the writer has closed the file.
#[derive(Clone, Debug, Default)]
pub struct Closed(Arc<(Mutex<bool>, Condvar)>);

impl Closed {
    /// Waits until the file is closed, for so long at most; whether it is.
    pub fn wait(&self, limit: Duration) -> bool {
        let (has_ended, told) = &*self.0;
        let has_ended = has_ended.lock().unwrap_or_else(PoisonError::into_inner);
        let (has_ended, _) = told
            .wait_timeout_while(has_ended, limit, |has_ended| !*has_ended)
            .unwrap_or_else(PoisonError::into_inner);
        *has_ended
    }
}

struct NotifyOnDrop(Closed);

impl Drop for NotifyOnDrop {
    fn drop(&mut self) {
        let (has_ended, told) = &*self.0.0;
        *has_ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
        told.notify_all();
    }
}

impl Writer {
    pub(super) fn start(
        connection: Connection,
        clock: Clock,
        ticker: Ticker,
        checkpoints: Checkpoints,
        most_changes: usize,
    ) -> Self {
        let (queue, waiting) = sync_channel(QUEUE);
        let writable = Arc::new(AtomicBool::new(true));
        let metrics = Arc::new(WriterMetrics::new());
        let group_writer = GroupWriter {
            connection,
            clock,
            ticker,
            others: None,
            effects: Effects::default(),
            random: Random::default(),
            checkpoints,
            writable: Arc::clone(&writable),
            metrics: Arc::clone(&metrics),
        };
        let ended = Closed::default();
        let says_so = NotifyOnDrop(ended.clone());
        let thread = std::thread::spawn(move || {
            // Dropped last, when the connection has been closed.
            let _says_so = says_so;
            let mut group_writer = group_writer;
            group_writer.work(&waiting, most_changes);
            drop(group_writer);
        });
        Self {
            queue: Some(queue),
            metrics,
            writable,
            thread: Mutex::new(Some(thread)),
            ended,
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
                self.metrics.submitted.add(1);
                Ok(receiver)
            }
            Err(TrySendError::Full(_)) => Err(Code::Overloaded.into()),
            Err(TrySendError::Disconnected(_)) => Err(Error::internal("the writer has stopped")),
        }
    }

    pub(super) fn ended(&self) -> Closed {
        self.ended.clone()
    }

    pub(super) fn metrics(&self) -> &WriterMetrics {
        &self.metrics
    }

    pub(super) fn is_writable(&self) -> bool {
        self.writable.load(Ordering::Relaxed)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // What waits is still written: the thread ends when the queue is empty and closed.
        self.queue = None;
        let thread = self.thread.lock().ok().and_then(|mut thread| thread.take());
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            log::error!("the writer's thread had panicked");
        }
    }
}

struct GroupWriter {
    connection: Connection,
    clock: Clock,
    ticker: Ticker,
    /// The file's version as it was after the last commit of another connection that is known here.
    others: Option<i64>,
    random: Random,
    checkpoints: Checkpoints,
    writable: Arc<AtomicBool>,
    metrics: Arc<WriterMetrics>,
    effects: Effects,
}

impl GroupWriter {
    fn work(&mut self, waiting: &Receiver<Box<dyn Pending>>, most_changes: usize) {
        let mut group = Vec::with_capacity(most_changes);
        while let Ok(first) = waiting.recv() {
            group.push(first);
            self.add_waiting(&mut group, waiting, most_changes);
            self.metrics.taken.add(1);
            let begun = Instant::now();
            let outcome = self.commit(&mut group, waiting, most_changes);
            self.metrics
                .committed(group.len(), begun.elapsed(), outcome.is_ok());
            self.writable.store(outcome.is_ok(), Ordering::Relaxed);
            let failed = outcome.err();
            let on_commit = self.effects.on_commit.drain(..);
            if failed.is_none() {
                on_commit.for_each(|then| then());
            }
            for pending in group.drain(..) {
                pending.answer(failed.as_ref());
            }
            if failed.is_none() {
                self.checkpoints.after_commit(&self.connection);
                if std::mem::take(&mut self.effects.scrub_log) {
                    self.checkpoints.erase();
                }
            }
        }
        if let Err(error) = self.checkpoints.end(&self.connection) {
            log::error!("the checkpoints did not end: {error}");
        }
    }

    fn commit(
        &mut self,
        group: &mut Vec<Box<dyn Pending>>,
        waiting: &Receiver<Box<dyn Pending>>,
        most_changes: usize,
    ) -> Result<(), GroupFailed> {
        execute(&self.connection, "BEGIN IMMEDIATE")?;
        let outcome = self
            .run_all(group, waiting, most_changes)
            .and_then(|()| execute(&self.connection, "COMMIT"));
        if let Err(error) = outcome {
            // A full disk may have rolled back already; there is nothing left to undo then.
            if !self.connection.is_autocommit() {
                execute(&self.connection, "ROLLBACK")?;
            }
            return Err(error.into());
        }
        Ok(())
    }

    /// Another process, such as the command line beside a server, hands out ticks too; what it wrote is passed.
    fn pass_others(&mut self) -> rusqlite::Result<()> {
        let others = connection::version_of_others(&self.connection)?;
        if self.others != Some(others) {
            self.ticker.pass(connection::last_tick(&self.connection)?);
            self.others = Some(others);
        }
        Ok(())
    }

    /// Runs a group, and what comes to wait while it is run.
    fn run_all(
        &mut self,
        group: &mut Vec<Box<dyn Pending>>,
        waiting: &Receiver<Box<dyn Pending>>,
        most_changes: usize,
    ) -> rusqlite::Result<()> {
        self.pass_others()?;
        let mut run = 0;
        while run < group.len() {
            self.run_each(&mut group[run..])?;
            run = group.len();
            self.add_waiting(group, waiting, most_changes);
        }
        Ok(())
    }

    fn add_waiting(
        &self,
        group: &mut Vec<Box<dyn Pending>>,
        waiting: &Receiver<Box<dyn Pending>>,
        most_changes: usize,
    ) {
        let before = group.len();
        group.extend(waiting.try_iter().take(most_changes - before));
        self.metrics.taken.add((group.len() - before) as u64);
    }

    fn run_each(&mut self, changes: &mut [Box<dyn Pending>]) -> rusqlite::Result<()> {
        let now = self.clock.now();
        for pending in changes {
            // A savepoint costs about as much as the statement: SQLite keeps a copy of every page that is changed behind it.
            let extent = pending.extent();
            let is_kept_apart = extent != Extent::Statement;
            if is_kept_apart {
                execute(&self.connection, "SAVEPOINT change")?;
            }
            let wanted_before = self.effects.on_commit.len();
            let mut tx = WriteTx::on(
                Session::of(&self.connection),
                extent,
                &self.ticker,
                &mut self.random,
                now,
                &mut self.effects,
            );
            let is_kept = pending.run(&mut tx) && !tx.is_rolled_back();
            if !is_kept {
                self.effects.on_commit.truncate(wanted_before);
                if self.connection.is_autocommit() {
                    // SQLite undid the whole group by itself, as it does when the disk is full or fails.
                    return Err(connection::failure(match pending.was_full() {
                        true => ffi::SQLITE_FULL,
                        false => ffi::SQLITE_IOERR,
                    }));
                }
                if is_kept_apart {
                    execute(&self.connection, "ROLLBACK TO change")?;
                }
            }
            if is_kept_apart {
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
    async fn in_a_group_a_change_that_fails_leaves_nothing_and_takes_nothing_along() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), Clock::System).unwrap();
        let (go_on, waits) = std::sync::mpsc::channel();
        // While this one waits, all others come together.
        let first = store.write(Extent::Configuration, move |_| {
            waits.recv().unwrap();
            Ok(())
        });
        let one = store.write(Extent::Statement, |tx| add(tx, 1));
        let one_again = store.write(Extent::Statement, |tx| add(tx, 1));
        let half_done = store.write(Extent::Configuration, |tx| {
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
        go_on.send(()).unwrap();
        first.await.unwrap();
        assert!(one.await.is_ok());
        assert!(one_again.await.is_err());
        assert!(half_done.await.is_err());
        assert!(panics.await.is_err());
        assert!(both.await.is_ok());
        assert!(last.await.is_ok());
        let kept: Vec<i64> = store
            .read_now(|reader| reader.all(ALL, (), |row| row.get("tenant_no")))
            .unwrap();
        assert_eq!(kept, [1, 4, 5, 6]);
        // The first waited while it was run; what came meanwhile went with it.
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
