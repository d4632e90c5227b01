//! Moves what was committed from the write-ahead log into the main file, off the hot path, and bounds the log.

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};

/// New log frames (of 4 KiB) from which the background connection copies them back.
const WORTH_COPYING: i64 = 1_000;
/// Log frames from which the writer itself begins the log again: 64 MiB.
const LOG_LIMIT: i64 = 16_384;
/// Bytes of the log's file that a long read may leave behind; more are given back.
const FILE_LIMIT: u64 = 256 << 20;
/// How long the writer lets readers end before it goes on with the old log.
const RESTART_WAIT: Duration = Duration::from_millis(50);
/// How long a connection waits for another one's lock.
const USUAL_WAIT: Duration = Duration::from_secs(10);
/// How soon the log is tried again that readers kept from being emptied; after each try in vain it takes twice as long.
const ERASE_AGAIN: Duration = Duration::from_millis(500);
/// How long it takes at most: somebody who always reads, as a program that replicates the log does, must not slow writers down.
const ERASE_SELDOM: Duration = Duration::from_secs(30);

thread_local! {
    /// The log's frames after the last commit of this thread.
    static FRAMES: Cell<i64> = const { Cell::new(0) };
}

/// The writer's side: it follows the log's length, wakes the background connection and guards the log's size.
pub(super) struct Checkpoints {
    wake: Option<SyncSender<()>>,
    /// The log holds something that was deleted.
    erase: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    log: std::path::PathBuf,
    /// The log's frames when the background connection was last woken.
    copied: i64,
}

/// Starts the background connection; it ends with the writer.
pub(super) fn start(path: &Path) -> rusqlite::Result<Checkpoints> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(USUAL_WAIT)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    let (wake, woken) = sync_channel(1);
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    // What a crash left in the log may be something that was deleted.
    let is_left = std::fs::metadata(&log).is_ok_and(|log| log.len() > 0);
    let erase = Arc::new(AtomicBool::new(is_left));
    let wanted = Arc::clone(&erase);
    let thread = std::thread::spawn(move || copy_back(&connection, &woken, &wanted));
    Ok(Checkpoints {
        wake: Some(wake),
        erase,
        thread: Some(thread),
        log: log.into(),
        copied: 0,
    })
}

fn copy_back(connection: &Connection, woken: &Receiver<()>, erase: &AtomicBool) {
    let (mut not_before, mut pause) = (Instant::now(), ERASE_AGAIN);
    loop {
        let is_over = if erase.load(Ordering::Acquire) {
            let wait = not_before.saturating_duration_since(Instant::now());
            woken.recv_timeout(wait) == Err(RecvTimeoutError::Disconnected)
        } else {
            woken.recv().is_err()
        };
        if is_over {
            return;
        }
        let outcome = if Instant::now() >= not_before && erase.swap(false, Ordering::AcqRel) {
            let outcome = empty_log(connection);
            if matches!(outcome, Ok(true)) {
                pause = ERASE_AGAIN;
            } else {
                erase.store(true, Ordering::Release);
                not_before = Instant::now() + pause;
                pause = (pause * 2).min(ERASE_SELDOM);
            }
            outcome
        } else {
            // PASSIVE waits for nobody: what a reader still needs is copied next time.
            checkpoint(connection, "PASSIVE").map(|()| true)
        };
        if let Err(error) = outcome {
            log::error!("a checkpoint failed: {error}");
        }
    }
}

/// Moves the whole log into the main file and cuts it to nothing, unless readers are in the way; whether it is empty now.
fn empty_log(connection: &Connection) -> rusqlite::Result<bool> {
    // Writers wait meanwhile, so it is tried briefly and often rather than waited for.
    connection.busy_timeout(RESTART_WAIT)?;
    let busy: rusqlite::Result<i64> =
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0));
    connection.busy_timeout(USUAL_WAIT)?;
    Ok(busy? == 0)
}

/// Has the connection note the log's length at each commit.
pub(super) fn watch(writer: &Connection) {
    writer.wal_hook(Some(|_, frames| {
        FRAMES.set(i64::from(frames));
        Ok(())
    }));
}

impl Checkpoints {
    /// Has the log emptied soon: what was deleted must not stand there any longer.
    pub(super) fn erase(&self) {
        self.erase.store(true, Ordering::Release);
        let _ = self.wake.as_ref().map(|wake| wake.try_send(()));
    }

    pub(super) fn after_commit(&mut self, writer: &Connection) {
        let frames = FRAMES.get();
        if frames < self.copied {
            // SQLite has begun the log again.
            self.copied = 0;
        }
        if frames - self.copied < WORTH_COPYING {
            return;
        }
        self.copied = frames;
        if frames > LOG_LIMIT {
            // Under steady load PASSIVE never catches up with the writer, so the log would only grow.
            if let Err(error) = self.restart_log(writer) {
                log::warn!("the write-ahead log could not be begun again: {error}");
            }
        } else {
            // A full channel means that the background connection has been woken already.
            let _ = self.wake.as_ref().map(|wake| wake.try_send(()));
        }
    }

    fn restart_log(&self, writer: &Connection) -> rusqlite::Result<()> {
        let bytes = std::fs::metadata(&self.log).map_or(0, |log| log.len());
        // Writing over a file is cheaper for the disk than making it longer, so its length is kept.
        let mode = if bytes > FILE_LIMIT {
            "TRUNCATE"
        } else {
            "RESTART"
        };
        writer.busy_timeout(RESTART_WAIT)?;
        let outcome = checkpoint(writer, mode);
        writer.busy_timeout(USUAL_WAIT)?;
        outcome
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        // Waited for, so that the last connection to close is known to close: it moves the whole log into the main file.
        self.wake = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the thread of the checkpoints had panicked");
        }
    }
}

fn checkpoint(connection: &Connection, mode: &str) -> rusqlite::Result<()> {
    connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(()))
}
