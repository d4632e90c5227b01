//! Moves what was committed from the write-ahead log into the main file, off the hot path, and bounds the log.

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

/// New log frames (of 4 KiB) from which the background connection copies them back.
const WORTH_COPYING: i64 = 1_000;
/// Log frames from which the writer itself begins the log again, or has long reads make way for that: 64 MiB.
const LOG_LIMIT: i64 = 16_384;
/// Log frames from which reads make way that had to before: 192 MiB.
const LOG_LIMIT_FOR_ALL: i64 = 3 * LOG_LIMIT;
/// Bytes of the log's file that a long read may leave behind; more are given back.
const FILE_LIMIT: u64 = 256 << 20;
/// How long the writer lets readers end before it goes on with the old log.
const RESTART_WAIT: Duration = Duration::from_millis(50);
/// How long the background connection leaves that to the writer: one that has nothing to write does not do it.
const WRITER_WAIT: Duration = Duration::from_millis(250);
/// After so long it is tried again to begin it again, however little it has grown meanwhile.
const BEGIN_AGAIN_SELDOM: Duration = Duration::from_secs(30);
/// How long a connection waits for another one's lock.
const USUAL_WAIT: Duration = Duration::from_secs(10);
/// How soon the log is emptied again, or tried again if readers kept it from that; after each try in vain it takes twice as long.
const ERASE_AGAIN: Duration = Duration::from_millis(500);
/// When it took longer than this the last time, long reads make way.
const MAKE_WAY_TO_ERASE: Duration = Duration::from_secs(2);
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
    log: PathBuf,
    /// The log's frames when the background connection was last woken.
    copied: i64,
    /// The log's frames from which it is to be begun again.
    begin_again_from: i64,
    tried_to_begin_again: Instant,
    make_way: Arc<MakeWay>,
    begun_again: SyncSender<()>,
    kept: Kept,
}

/// How the writer and the background connection have long reads make way for a log that is to be begun again.
#[derive(Default)]
struct MakeWay {
    /// How often a read may be begun again for it; 0 while it is not wanted.
    wanted: AtomicU8,
    /// None of them runs, and all of the log has been copied back.
    is_made: AtomicBool,
}

/// What it means, for the operator.
const KEPT: &str = "the log of the database is kept and grows, and what is deleted stays in it, until the server is started again: do that soon";

/// Whether the log must stay as it is, for the next start to copy all of it back. A file beside the database says so to the
/// processes that work beside this one; it need not outlive a power cut, behind which all of the log is copied back anyhow.
#[derive(Clone)]
struct Kept {
    here: Arc<AtomicBool>,
    mark: PathBuf,
}

impl Kept {
    fn of(path: &Path) -> Self {
        Self {
            here: Arc::default(),
            mark: beside(path, "-kept"),
        }
    }

    fn is_so_here(&self) -> bool {
        self.here.load(Ordering::Acquire)
    }

    fn is_so(&self) -> bool {
        self.is_so_here() || self.mark.exists()
    }

    /// The same, and has this process tell of it and keep to it from then on.
    fn is_so_from_now_on(&self) -> bool {
        if !self.is_so_here() && self.mark.exists() {
            self.here.store(true, Ordering::Release);
            log::error!("the disk failed another program; {KEPT}");
        }
        self.is_so_here()
    }

    /// Keeps it. The system forgets what it could not write, and SQLite what it had copied back before without waiting for the
    /// disk: going on from there, it would let go of frames that the main file has lost.
    fn keep(&self, error: &rusqlite::Error) {
        self.here.store(true, Ordering::Release);
        log::error!("the disk failed ({error}); {KEPT}");
        if let Err(error) = File::create(&self.mark) {
            log::error!(
                "{} could not be made ({error}): use no other command on this data folder until then",
                self.mark.display()
            );
        }
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Starts the background connection; it ends with the writer.
pub(super) fn start(path: &Path, long_reads: Arc<ReadGate>) -> rusqlite::Result<Checkpoints> {
    let connection = open(path)?;
    let (wake, woken) = sync_channel(1);
    let (begun_again, is_begun_again) = sync_channel(1);
    let make_way = Arc::<MakeWay>::default();
    let log = beside(path, "-wal");
    // What a crash left in the log may be something that was deleted.
    let is_left = fs::metadata(&log).is_ok_and(|log| log.len() > 0);
    let erase = Arc::new(AtomicBool::new(is_left));
    let kept = Kept::of(path);
    let background = Background {
        connection,
        path: path.to_owned(),
        woken,
        long_reads,
        make_way: Arc::clone(&make_way),
        is_begun_again,
        erase: Arc::clone(&erase),
        kept: kept.clone(),
        // A start has enough to do.
        not_before: Instant::now() + ERASE_AGAIN,
        pause: ERASE_AGAIN,
    };
    let thread = std::thread::spawn(move || background.copy_back());
    Ok(Checkpoints {
        wake: Some(wake),
        erase,
        thread: Some(thread),
        log,
        copied: 0,
        begin_again_from: LOG_LIMIT,
        tried_to_begin_again: Instant::now(),
        make_way,
        begun_again,
        kept,
    })
}

/// Moves what an earlier server left in the log into the main file. Where a sync failed, the disk may lack what the system still
/// shows of the log, and nothing that is added behind it would be found after a power cut.
pub(super) fn take_up(path: &Path) -> rusqlite::Result<()> {
    empty_log(&open(path)?).map(drop)
}

/// Moves all of a log that was kept into the main file, from its first frame on. What was copied back before is forgotten with
/// the memory that processes share of the log, so none of them may have the file open; whether none has.
pub(super) fn take_up_kept(path: &Path) -> rusqlite::Result<bool> {
    let kept = Kept::of(path);
    if !kept.is_so() {
        return Ok(true);
    }
    match empty_kept(path) {
        Ok(true) => {}
        Ok(false) => return Ok(false),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
            return Ok(false);
        }
        Err(error) => return Err(error),
    }
    match fs::remove_file(&kept.mark) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            log::warn!("{} is still there: {error}", kept.mark.display());
            Ok(false)
        }
        _ => Ok(true),
    }
}

fn empty_kept(path: &Path) -> rusqlite::Result<bool> {
    let connection = connection::open_writer(path)?;
    connection.busy_timeout(RESTART_WAIT)?;
    // Ahead of all that reads the file: without others, SQLite makes that memory anew and for itself.
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    empty_log(&connection)
}

/// Whether a log is kept.
pub(super) fn is_kept(path: &Path) -> bool {
    Kept::of(path).is_so()
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
    make_way: Arc<MakeWay>,
    is_begun_again: Receiver<()>,
    erase: Arc<AtomicBool>,
    kept: Kept,
    /// The log is not tried again before.
    not_before: Instant,
    /// How long it waits if the next try is in vain too.
    pause: Duration,
}

impl Background {
    fn copy_back(mut self) {
        while self.is_wanted() && !self.kept.is_so_from_now_on() {
            let is_time = Instant::now() >= self.not_before;
            let wanted = self.make_way.wanted.swap(0, Ordering::AcqRel);
            let outcome = if wanted > 0 {
                self.have_long_reads_make_way(wanted)
            } else if is_time && self.erase.swap(false, Ordering::AcqRel) {
                self.try_to_erase()
            } else {
                // PASSIVE waits for nobody: what a reader still needs is copied next time.
                checkpoint(&self.connection, "PASSIVE").map(drop)
            };
            if let Err(error) = outcome {
                self.failed(&error);
            }
        }
    }

    /// Has the log begun again while no long read runs: by the writer, since under load it leaves nobody else a chance to. What
    /// is still to be copied back then is little.
    fn have_long_reads_make_way(&self, how_often: u8) -> rusqlite::Result<()> {
        let _shut = self.long_reads.shut(how_often);
        if self.kept.is_so_from_now_on() {
            return Ok(());
        }
        checkpoint(&self.connection, "PASSIVE")?;
        self.make_way.is_made.store(true, Ordering::Release);
        let begun_again = self.is_begun_again.recv_timeout(WRITER_WAIT);
        if begun_again == Err(RecvTimeoutError::Timeout) {
            if self.make_way.is_made.swap(false, Ordering::AcqRel) {
                if !self.kept.is_so_here() {
                    briefly(&self.connection, "RESTART")?;
                }
            } else {
                // The writer is at it, and a slow disk takes its time.
                let _ = self.is_begun_again.recv();
            }
        }
        Ok(())
    }

    fn try_to_erase(&mut self) -> rusqlite::Result<()> {
        let outcome = {
            // Reads that follow one another would always be in the way.
            let _shut = (self.pause > MAKE_WAY_TO_ERASE).then(|| self.long_reads.shut(1));
            empty_log(&self.connection)
        };
        if matches!(outcome, Ok(true)) {
            // Not for each of many deletions: writers wait for it.
            self.not_before = Instant::now() + ERASE_AGAIN;
            self.pause = ERASE_AGAIN;
        } else {
            self.erase.store(true, Ordering::Release);
            self.not_before = Instant::now() + self.pause;
            self.pause = (self.pause * 2).min(ERASE_SELDOM);
        }
        outcome.map(drop)
    }

    /// Waits until the log is to be copied back; whether it ever is.
    fn is_wanted(&self) -> bool {
        if self.erase.load(Ordering::Acquire) {
            let wait = self.not_before.saturating_duration_since(Instant::now());
            self.woken.recv_timeout(wait) != Err(RecvTimeoutError::Disconnected)
        } else {
            self.woken.recv().is_ok()
        }
    }

    fn failed(&mut self, error: &rusqlite::Error) {
        if has_lost(error) {
            self.kept.keep(error);
            return;
        }
        log::error!("a checkpoint failed: {error}");
        // It may have come by a log that it can only read, when the system refused more for a moment.
        if let Ok(fresh) = open(&self.path) {
            self.connection = fresh;
        }
    }
}

/// Whether the disk may have lost what had been written to it.
fn has_lost(error: &rusqlite::Error) -> bool {
    error
        .sqlite_error()
        .is_some_and(|failure| failure.extended_code == ffi::SQLITE_IOERR_FSYNC)
}

/// Moves the whole log into the main file and cuts it to nothing, unless readers are in the way; whether it is empty now.
fn empty_log(connection: &Connection) -> rusqlite::Result<bool> {
    // Writers wait meanwhile, so it is tried briefly and often rather than waited for.
    briefly(connection, "TRUNCATE")
}

/// As [`checkpoint`], and soon over, whoever is in the way.
fn briefly(connection: &Connection, mode: &str) -> rusqlite::Result<bool> {
    connection.busy_timeout(RESTART_WAIT)?;
    let outcome = checkpoint(connection, mode);
    connection.busy_timeout(USUAL_WAIT)?;
    outcome
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
        if !self.erase.swap(true, Ordering::AcqRel) {
            self.wake();
        }
    }

    pub(super) fn after_commit(&mut self, writer: &Connection) {
        let way_is_made = self.make_way.is_made.swap(false, Ordering::AcqRel);
        self.follow(writer, FRAMES.get(), way_is_made);
        if way_is_made {
            // The background connection waits for it, whatever came of it.
            let _ = self.begun_again.try_send(());
        }
    }

    fn follow(&mut self, writer: &Connection, frames: i64, way_is_made: bool) {
        if self.kept.is_so_here() {
            if frames - self.copied >= LOG_LIMIT {
                self.copied = frames;
                let mib = frames * 4 / 1_024;
                log::error!(
                    "the log of the database is kept since the disk failed, and is {mib} MiB long: start the server again"
                );
            }
            return;
        }
        if frames < self.copied {
            // SQLite has begun the log again.
            self.copied = 0;
            self.begin_again_from = LOG_LIMIT;
        }
        if frames - self.copied < WORTH_COPYING && !way_is_made {
            return;
        }
        self.copied = frames;
        if self.kept.is_so_from_now_on() {
            return;
        }
        // Under steady load PASSIVE never catches up with the writer, so the log would only grow.
        let is_due = frames >= self.begin_again_from
            || (frames > LOG_LIMIT && self.tried_to_begin_again.elapsed() > BEGIN_AGAIN_SELDOM);
        if way_is_made || is_due {
            if !self.restart_log(writer) && !way_is_made {
                let how_often = if frames > LOG_LIMIT_FOR_ALL { 2 } else { 1 };
                self.make_way.wanted.store(how_often, Ordering::Release);
            }
            // More and more seldom: somebody who reads beside the server for long does not make way.
            self.begin_again_from = frames + frames / 2;
            self.tried_to_begin_again = Instant::now();
        }
        self.wake();
    }

    fn wake(&self) {
        // A full channel means that the background connection has been woken already.
        let _ = self.wake.as_ref().map(|wake| wake.try_send(()));
    }

    /// Whether the next commit begins the log again.
    fn restart_log(&self, writer: &Connection) -> bool {
        let bytes = fs::metadata(&self.log).map_or(0, |log| log.len());
        // Writing over a file is cheaper for the disk than making it longer, so its length is kept.
        let mode = if bytes > FILE_LIMIT {
            "TRUNCATE"
        } else {
            "RESTART"
        };
        match briefly(writer, mode) {
            Ok(is_whole) => return is_whole,
            Err(error) if has_lost(&error) => self.kept.keep(&error),
            Err(error) => log::warn!("the write-ahead log could not be begun again: {error}"),
        }
        false
    }

    /// Ends the background connection, so that the writer's is known to be the last to close: it moves the whole log into the
    /// main file, unless the log is kept.
    pub(super) fn end(&mut self, writer: &Connection) -> rusqlite::Result<()> {
        self.wake = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the thread of the checkpoints had panicked");
        }
        writer
            .set_db_config(
                DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE,
                self.kept.is_so(),
            )
            .map(drop)
    }
}

/// Copies the log back; whether nobody was in the way.
fn checkpoint(connection: &Connection, mode: &str) -> rusqlite::Result<bool> {
    let sql = format!("PRAGMA wal_checkpoint({mode})");
    let busy: i64 = connection.query_row(&sql, [], |row| row.get("busy"))?;
    Ok(busy == 0)
}
