//! Moves what was committed from the write-ahead log into the main file, off the hot path, and bounds the log.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

/// Commits between two looks at the log's size.
const LOOK_EVERY: u32 = 64;
/// Log frames (of 4 KiB) from which the background connection copies them back.
const WORTH_COPYING: i64 = 1_000;
/// Log bytes from which the writer itself has the log started afresh: 64 MiB.
const LOG_LIMIT: u64 = 64 << 20;
/// How long the writer lets readers end before it goes on with the old log.
const RESTART_WAIT: Duration = Duration::from_millis(50);

/// The writer's side: it counts commits, wakes the background connection and guards the log's size.
pub(super) struct Checkpoints {
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    log: std::path::PathBuf,
    commits: u32,
}

/// Starts the background connection; it ends with the writer.
pub(super) fn start(path: &Path) -> rusqlite::Result<Checkpoints> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(Duration::from_secs(10))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    let (wake, woken) = sync_channel(1);
    let thread = std::thread::spawn(move || copy_back(&connection, &woken));
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    Ok(Checkpoints {
        wake: Some(wake),
        thread: Some(thread),
        log: log.into(),
        commits: 0,
    })
}

fn copy_back(connection: &Connection, woken: &Receiver<()>) {
    while woken.recv().is_ok() {
        // PASSIVE waits for nobody: what a reader still needs is copied next time.
        if let Err(error) = checkpoint(connection, "PASSIVE") {
            log::error!("a checkpoint failed: {error}");
        }
    }
}

impl Checkpoints {
    pub(super) fn after_commit(&mut self, writer: &Connection) {
        self.commits += 1;
        if !self.commits.is_multiple_of(LOOK_EVERY) {
            return;
        }
        let bytes = std::fs::metadata(&self.log).map_or(0, |log| log.len());
        if bytes > LOG_LIMIT {
            // Under steady load PASSIVE never catches up with the writer, so the log would only grow.
            if let Err(error) = restart_log(writer) {
                log::warn!("the write-ahead log could not be started afresh: {error}");
            }
        }
        if i64::try_from(bytes / 4_096).unwrap_or(i64::MAX) > WORTH_COPYING {
            // A full channel means that the background connection has been woken already.
            let _ = self.wake.as_ref().map(|wake| wake.try_send(()));
        }
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

fn restart_log(writer: &Connection) -> rusqlite::Result<()> {
    let usual = Duration::from_secs(10);
    writer.busy_timeout(RESTART_WAIT)?;
    let outcome = checkpoint(writer, "TRUNCATE");
    writer.busy_timeout(usual)?;
    outcome
}

fn checkpoint(connection: &Connection, mode: &str) -> rusqlite::Result<()> {
    connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(()))
}
