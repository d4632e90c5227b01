//! Checkpoints the write-ahead log in the background, and bounds the log's length.

use std::cell::Cell;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, ffi};

use super::connection;
use super::read_gate::ReadGate;

/// New log frames (of 4 KiB) after which the background connection checkpoints.
const CHECKPOINT_FRAMES: i64 = 1_000;
/// Log frames from which the writer restarts the log, or asks long reads to yield: 64 MiB.
const LOG_LIMIT: i64 = 16_384;
/// Log frames from which long reads must yield a second time: 192 MiB.
const HARD_LOG_LIMIT: i64 = 3 * LOG_LIMIT;
/// Bytes that the log's file may keep after a restart. A longer file is truncated.
const FILE_LIMIT: u64 = 256 << 20;
/// How long a restart or a truncation waits for readers. Writers have to wait too.
const RESTART_WAIT: Duration = Duration::from_millis(50);
/// How long the background connection leaves the restart to the writer. An idle writer never
/// restarts the log.
const WRITER_WAIT: Duration = Duration::from_millis(250);
/// How long after a restart the writer tries again, even if the log has grown little.
const RESTART_RETRY: Duration = Duration::from_secs(30);
/// How long the log stays as it is after it was scrubbed. The wait doubles with each attempt that
/// readers prevent.
const SCRUB_WAIT: Duration = Duration::from_millis(500);
/// A longer wait means that readers prevented several attempts: long reads must yield.
const SCRUB_YIELD_WAIT: Duration = Duration::from_secs(2);
/// The longest wait. A permanent reader, such as a program that replicates the log, must not slow
/// down writers.
const MAX_SCRUB_WAIT: Duration = Duration::from_secs(30);

thread_local! {
    /// The log's frames after the last commit of this thread.
    static FRAMES: Cell<i64> = const { Cell::new(0) };
    /// Whether a commit of this thread has written to the log since [`has_written`] was last asked.
    static HAS_WRITTEN: Cell<bool> = const { Cell::new(false) };
}

/// The writer's handle: it follows the log's length, wakes the background connection and restarts
/// the log.
pub(super) struct Checkpoints {
    wake: Option<SyncSender<()>>,
    /// The log holds deleted data.
    needs_scrub: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    log: PathBuf,
    /// The log's frames when the background connection was last woken.
    checkpointed: i64,
    /// The log's frames at which the next restart is due.
    restart_at: i64,
    last_restart_attempt: Instant,
    yield_request: Arc<YieldRequest>,
    restart_attempted: SyncSender<()>,
    quarantine: QuarantinedWal,
}

/// The writer's request that long reads yield, so that the log can be restarted.
#[derive(Default)]
struct YieldRequest {
    /// Reads that were restarted fewer times than this must yield; 0 without a request.
    yield_below: AtomicU8,
    /// No long read runs and the log is checkpointed, so that the writer can restart it.
    is_granted: AtomicBool,
}

/// What a quarantine means to the operator.
const QUARANTINED: &str = "the write-ahead log is no longer checkpointed: it grows and keeps deleted data until the server is restarted; \
     check the disk, then restart the server soon";

/// Whether the log is quarantined: nothing may reset it until a start has checkpointed it from its
/// first frame.
///
/// A marker file tells the other processes that use the data folder. The marker need not survive a
/// power cut: after one, SQLite checkpoints the log from its first frame anyway.
#[derive(Clone)]
struct QuarantinedWal {
    is_set_here: Arc<AtomicBool>,
    marker: PathBuf,
}

impl QuarantinedWal {
    fn of(path: &Path) -> Self {
        Self {
            is_set_here: Arc::default(),
            marker: side_file(path, "-kept"),
        }
    }

    /// Whether this process knows of the quarantine.
    fn is_set_here(&self) -> bool {
        self.is_set_here.load(Ordering::Acquire)
    }

    fn is_set(&self) -> bool {
        self.is_set_here() || self.marker.exists()
    }

    /// As [`QuarantinedWal::is_set`]. This process observes the quarantine of another one from now
    /// on, even if the marker disappears.
    fn adopt(&self) -> bool {
        if !self.is_set_here() && self.marker.exists() {
            self.is_set_here.store(true, Ordering::Release);
            log::error!("the disk failed another program; {QUARANTINED}");
        }
        self.is_set_here()
    }

    /// Quarantines the log after a failed sync.
    ///
    /// The kernel discards the pages that it could not write, and SQLite does not remember which
    /// frames it had copied without a sync. The next checkpoint would release frames that the main
    /// file has lost.
    fn set(&self, error: &rusqlite::Error) {
        self.is_set_here.store(true, Ordering::Release);
        log::error!("the disk failed ({error}); {QUARANTINED}");
        if let Err(error) = File::create(&self.marker) {
            log::error!(
                "cannot create {} ({error}): run no other command on this data folder before the restart",
                self.marker.display()
            );
        }
    }
}

fn side_file(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Starts the background connection. It ends with the writer.
pub(super) fn start(path: &Path, long_reads: Arc<ReadGate>) -> rusqlite::Result<Checkpoints> {
    let connection = open(path)?;
    let (wake, woken) = sync_channel(1);
    let (restart_attempted, restart_attempts) = sync_channel(1);
    let yield_request = Arc::<YieldRequest>::default();
    let log = side_file(path, "-wal");
    // A log that a crash left behind may hold deleted data.
    let has_log = fs::metadata(&log).is_ok_and(|log| log.len() > 0);
    let needs_scrub = Arc::new(AtomicBool::new(has_log));
    let quarantine = QuarantinedWal::of(path);
    let background = Background {
        connection,
        path: path.to_owned(),
        woken,
        long_reads,
        yield_request: Arc::clone(&yield_request),
        restart_attempts,
        needs_scrub: Arc::clone(&needs_scrub),
        quarantine: quarantine.clone(),
        // Not at once: a start has enough to do.
        scrub_at: Instant::now() + SCRUB_WAIT,
        scrub_wait: SCRUB_WAIT,
    };
    let thread = std::thread::spawn(move || background.run());
    Ok(Checkpoints {
        wake: Some(wake),
        needs_scrub,
        thread: Some(thread),
        log,
        checkpointed: 0,
        restart_at: LOG_LIMIT,
        last_restart_attempt: Instant::now(),
        yield_request,
        restart_attempted,
        quarantine,
    })
}

/// Checkpoints what an earlier server left in the log.
///
/// After a failed sync, the kernel can still show log frames that the disk lacks. A power cut would
/// lose those frames and every frame that is appended after them.
pub(super) fn recover(path: &Path) -> rusqlite::Result<()> {
    truncate_log(&open(path)?).map(drop)
}

/// Checkpoints a quarantined log from its first frame and ends the quarantine.
///
/// SQLite must forget how far the log was checkpointed. The memory that processes share holds that,
/// so no other process may have the database open. Returns `false` if one has, or if the marker
/// cannot be removed.
pub(super) fn recover_quarantined(path: &Path) -> rusqlite::Result<bool> {
    let quarantine = QuarantinedWal::of(path);
    if !quarantine.is_set() {
        return Ok(true);
    }
    match truncate_exclusively(path) {
        Ok(true) => {}
        Ok(false) => return Ok(false),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
            return Ok(false);
        }
        Err(error) => return Err(error),
    }
    match fs::remove_file(&quarantine.marker) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            log::warn!("cannot remove {}: {error}", quarantine.marker.display());
            Ok(false)
        }
        _ => Ok(true),
    }
}

fn truncate_exclusively(path: &Path) -> rusqlite::Result<bool> {
    let connection = connection::open_writer(path)?;
    connection.busy_timeout(RESTART_WAIT)?;
    // Before the first read of the file: SQLite then rebuilds the log's index in private memory.
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    truncate_log(&connection)
}

/// Whether the log of a database is quarantined.
pub(super) fn is_quarantined(path: &Path) -> bool {
    QuarantinedWal::of(path).is_set()
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let connection = connection::open_writer(path)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    Ok(connection)
}

/// The background connection.
struct Background {
    connection: Connection,
    path: PathBuf,
    woken: Receiver<()>,
    long_reads: Arc<ReadGate>,
    yield_request: Arc<YieldRequest>,
    restart_attempts: Receiver<()>,
    needs_scrub: Arc<AtomicBool>,
    quarantine: QuarantinedWal,
    /// When the log may be scrubbed next.
    scrub_at: Instant,
    /// How long to wait after the next attempt that readers prevent.
    scrub_wait: Duration,
}

impl Background {
    fn run(mut self) {
        while self.wait_for_work() && !self.quarantine.adopt() {
            let may_scrub = Instant::now() >= self.scrub_at;
            let yield_below = self.yield_request.yield_below.swap(0, Ordering::AcqRel);
            let outcome = if yield_below > 0 {
                self.restart_without_long_reads(yield_below)
            } else if may_scrub && self.needs_scrub.swap(false, Ordering::AcqRel) {
                self.scrub()
            } else {
                // PASSIVE waits for nobody. It leaves the frames that a reader needs for next time.
                checkpoint(&self.connection, "PASSIVE").map(drop)
            };
            if let Err(error) = outcome {
                self.handle_failure(&error);
            }
        }
    }

    /// Holds back long reads while the writer restarts the log. Under load only the writer gets the
    /// chance to. The checkpoint beforehand leaves little for the writer to copy.
    fn restart_without_long_reads(&self, yield_below: u8) -> rusqlite::Result<()> {
        let _closed = self.long_reads.close(yield_below);
        if self.quarantine.adopt() {
            return Ok(());
        }
        checkpoint(&self.connection, "PASSIVE")?;
        self.yield_request.is_granted.store(true, Ordering::Release);
        let attempt = self.restart_attempts.recv_timeout(WRITER_WAIT);
        if attempt == Err(RecvTimeoutError::Timeout) {
            if self.yield_request.is_granted.swap(false, Ordering::AcqRel) {
                if !self.quarantine.is_set_here() {
                    try_checkpoint(&self.connection, "RESTART")?;
                }
            } else {
                // The writer has begun the restart, and a slow disk takes its time.
                let _ = self.restart_attempts.recv();
            }
        }
        Ok(())
    }

    /// Truncates the log, so that deleted data leaves it.
    fn scrub(&mut self) -> rusqlite::Result<()> {
        let outcome = {
            // Overlapping long reads would prevent every attempt.
            let must_yield = self.scrub_wait > SCRUB_YIELD_WAIT;
            let _closed = must_yield.then(|| self.long_reads.close(1));
            // Writers do not wait for this checkpoint. They do wait for the truncation, which then
            // has little left to copy.
            checkpoint(&self.connection, "PASSIVE").and_then(|_| truncate_log(&self.connection))
        };
        if matches!(outcome, Ok(true)) {
            // Writers wait for a truncation, so one of them serves many deletions.
            self.scrub_at = Instant::now() + SCRUB_WAIT;
            self.scrub_wait = SCRUB_WAIT;
        } else {
            self.needs_scrub.store(true, Ordering::Release);
            self.scrub_at = Instant::now() + self.scrub_wait;
            self.scrub_wait = (self.scrub_wait * 2).min(MAX_SCRUB_WAIT);
        }
        outcome.map(drop)
    }

    /// Waits until there is work. Returns `false` when the writer has ended.
    fn wait_for_work(&self) -> bool {
        if self.needs_scrub.load(Ordering::Acquire) {
            let wait = self.scrub_at.saturating_duration_since(Instant::now());
            self.woken.recv_timeout(wait) != Err(RecvTimeoutError::Disconnected)
        } else {
            self.woken.recv().is_ok()
        }
    }

    fn handle_failure(&mut self, error: &rusqlite::Error) {
        if is_failed_sync(error) {
            self.quarantine.set(error);
            return;
        }
        log::error!("a checkpoint failed: {error}");
        // SQLite may have opened the log read-only, if the system refused more for a moment.
        if let Ok(fresh) = open(&self.path) {
            self.connection = fresh;
        }
    }
}

/// Whether a sync failed, so that the disk may lack data that was written.
fn is_failed_sync(error: &rusqlite::Error) -> bool {
    error
        .sqlite_error()
        .is_some_and(|failure| failure.extended_code == ffi::SQLITE_IOERR_FSYNC)
}

/// Checkpoints the whole log and truncates it. Returns `false` if readers prevented that.
fn truncate_log(connection: &Connection) -> rusqlite::Result<bool> {
    // Writers have to wait, so many short attempts are better than a long one.
    try_checkpoint(connection, "TRUNCATE")
}

/// As [`checkpoint`], waiting for readers for up to [`RESTART_WAIT`].
fn try_checkpoint(connection: &Connection, mode: &str) -> rusqlite::Result<bool> {
    connection.busy_timeout(RESTART_WAIT)?;
    let outcome = checkpoint(connection, mode);
    connection::wait_for_locks(connection)?;
    outcome
}

/// Records the log's length at each commit of the writer.
pub(super) fn watch(writer: &Connection) {
    writer.wal_hook(Some(|_, frames| {
        FRAMES.set(i64::from(frames));
        HAS_WRITTEN.set(true);
        Ok(())
    }));
}

/// Whether a commit of this thread has written to the log since the last call.
pub(super) fn has_written() -> bool {
    HAS_WRITTEN.take()
}

impl Checkpoints {
    /// Requests that the log is truncated soon, because it holds deleted data.
    pub(super) fn scrub(&self) {
        if !self.needs_scrub.swap(true, Ordering::AcqRel) {
            self.wake();
        }
    }

    pub(super) fn after_commit(&mut self, writer: &Connection) {
        let is_granted = self.yield_request.is_granted.swap(false, Ordering::AcqRel);
        self.bound_log(writer, FRAMES.get(), is_granted);
        if is_granted {
            // The background connection waits for the attempt, whatever its outcome.
            let _ = self.restart_attempted.try_send(());
        }
    }

    fn bound_log(&mut self, writer: &Connection, frames: i64, is_granted: bool) {
        if self.quarantine.is_set_here() {
            if frames - self.checkpointed >= LOG_LIMIT {
                self.checkpointed = frames;
                let mib = frames * 4 / 1_024;
                log::error!(
                    "the write-ahead log has not been checkpointed since the disk failed, and has grown to {mib} MiB: restart the server"
                );
            }
            return;
        }
        if frames < self.checkpointed {
            // SQLite has restarted the log.
            self.checkpointed = 0;
            self.restart_at = LOG_LIMIT;
        }
        if frames - self.checkpointed < CHECKPOINT_FRAMES && !is_granted {
            return;
        }
        self.checkpointed = frames;
        if self.quarantine.adopt() {
            return;
        }
        // Under steady load PASSIVE never catches up with the writer, so the log would only grow.
        let is_due = frames >= self.restart_at
            || (frames > LOG_LIMIT && self.last_restart_attempt.elapsed() > RESTART_RETRY);
        if is_granted || is_due {
            if !self.restart_log(writer) && !is_granted {
                let yield_below = if frames > HARD_LOG_LIMIT { 2 } else { 1 };
                self.yield_request
                    .yield_below
                    .store(yield_below, Ordering::Release);
            }
            // Attempts become rarer: a long reader in another process never yields.
            self.restart_at = frames + frames / 2;
            self.last_restart_attempt = Instant::now();
        }
        self.wake();
    }

    fn wake(&self) {
        // A full channel means that the background connection has been woken already.
        let _ = self.wake.as_ref().map(|wake| wake.try_send(()));
    }

    /// Has the next commit restart the log. Returns `false` if readers prevent that.
    fn restart_log(&self, writer: &Connection) -> bool {
        let bytes = fs::metadata(&self.log).map_or(0, |log| log.len());
        // Overwriting a file is cheaper for the disk than extending it, so RESTART is the rule.
        let mode = if bytes > FILE_LIMIT {
            "TRUNCATE"
        } else {
            "RESTART"
        };
        match try_checkpoint(writer, mode) {
            Ok(is_complete) => return is_complete,
            Err(error) if is_failed_sync(&error) => self.quarantine.set(&error),
            Err(error) => log::warn!("the write-ahead log could not be restarted: {error}"),
        }
        false
    }

    /// Ends the background connection, so that the writer's connection is the last of this process.
    /// When that one closes, SQLite checkpoints the whole log, unless the log is quarantined.
    pub(super) fn end(&mut self, writer: &Connection) -> rusqlite::Result<()> {
        self.wake = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the checkpoint thread has panicked");
        }
        writer
            .set_db_config(
                DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE,
                self.quarantine.is_set(),
            )
            .map(drop)
    }
}

/// Runs a checkpoint. Returns `false` if readers or another checkpoint prevented its completion.
fn checkpoint(connection: &Connection, mode: &str) -> rusqlite::Result<bool> {
    let sql = format!("PRAGMA wal_checkpoint({mode})");
    let busy: i64 = connection.query_row(&sql, [], |row| row.get("busy"))?;
    Ok(busy == 0)
}
