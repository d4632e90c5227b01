//! Removes what belonged to deleted sessions, a little at a time: messages, turns, files, and their
//! words in the search index.
//!
//! A deletion removes the session's row at once, so nobody finds the session any longer. The rest
//! may take hundreds of megabytes, and other changes must not wait for it.

use std::time::{Duration, Instant};

use super::search_index::{self, Pace, RemovalBatch};
use super::{Extent, Store, WriteTx};
use crate::error::{Error, Result};
use crate::model::ids::{MessageId, Tick};
use crate::model::names::TenantNo;

/// Bytes of messages, event logs and files after which a change removes no further row.
const STEP_BYTES: i64 = 16 * 1_024;
/// Rows of one kind that one change removes.
const STEP_ROWS: usize = 64;
/// The backlog of deleted messages above which a deletion waits.
const MAX_REMOVALS: usize = 20_000;
/// Messages whose removal may fail before the removal pauses for [`FAULT_RETRY`].
const MAX_FAULTS: usize = 3;
const FAULT_RETRY: Duration = Duration::from_secs(600);
/// How long removed text may stay in the write-ahead log while more is removed. Writers wait while
/// the log is truncated.
const SCRUB_EVERY: Duration = Duration::from_secs(10);
/// The warning about a failed removal.
pub(super) const NOT_REMOVED: &str = "words of deleted sessions are still in the search index";

const QUEUE: &str = "
INSERT INTO removed_sessions (session_seq, tenant_no, indexed_from, indexed_seq) VALUES (?1, ?2, ?3, ?4)";
const END_TURNS: &str = "
UPDATE turns SET status = 'CANCELLED', terminal_tick = ?2 WHERE session_seq = ?1 AND terminal_tick IS NULL";

/// Queues a session, in the change that deletes the session's row, for the removal of the rest. Its
/// turns end, so that no answer is added to it.
pub(super) fn queue(tx: &mut WriteTx<'_>, tenant: TenantNo, session: Tick) -> Result<()> {
    let end = tx.tick();
    tx.execute(END_TURNS, (session, end))?;
    // The index skips messages without a session, so the others are never in the index.
    let from = search_index::rebuild_of(tx.reader())?.messages_from;
    let to = search_index::indexed_up_to(tx.reader())?;
    tx.execute(QUEUE, (session, tenant, from, to))?;
    tx.scrub_log();
    Ok(())
}

const NEXT_SESSION: &str = "
SELECT session_seq, tenant_no, indexed_from, indexed_seq FROM removed_sessions ORDER BY session_seq LIMIT 1";
const FORGET_SESSION: &str = "DELETE FROM removed_sessions WHERE session_seq = ?1";

/// A deleted session.
#[derive(Clone, Copy)]
struct Removed {
    session: Tick,
    tenant: TenantNo,
    /// The oldest and the newest message that may be in the search index.
    indexed: (Tick, Tick),
}

/// Removes the next rows of the oldest deleted session.
fn remove_rows(tx: &mut WriteTx<'_>) -> Result<()> {
    let next = tx.reader().optional(NEXT_SESSION, (), |row| {
        Ok(Removed {
            session: row.get("session_seq")?,
            tenant: row.get("tenant_no")?,
            indexed: (row.get("indexed_from")?, row.get("indexed_seq")?),
        })
    })?;
    let Some(removed) = next else { return Ok(()) };
    // In this order, so that what is left never refers to what is gone.
    if !remove_files(tx, removed.session)? && !remove_turns(tx, removed)? {
        tx.execute(FORGET_SESSION, [removed.session])?;
    }
    Ok(())
}

/// Has the log truncated after this change.
fn scrub(tx: &mut WriteTx<'_>) -> Result<()> {
    tx.scrub_log();
    Ok(())
}

const FILES: &str = "
SELECT seq, coalesce(bytes, 0) AS bytes FROM attachments WHERE session_seq = ?1 ORDER BY seq LIMIT ?2";
const DELETE_FILE: &str = "DELETE FROM attachments WHERE seq = ?1";

/// Removes files of a session. Returns whether there were any.
fn remove_files(tx: &WriteTx<'_>, session: Tick) -> Result<bool> {
    let files: Vec<(Tick, i64)> = tx.reader().all(FILES, (session, STEP_ROWS), |row| {
        Ok((row.get("seq")?, row.get("bytes")?))
    })?;
    let mut bytes = 0;
    for (file, file_bytes) in &files {
        tx.execute(DELETE_FILE, [file])?;
        bytes += file_bytes;
        if bytes >= STEP_BYTES {
            break;
        }
    }
    Ok(!files.is_empty())
}

const TURNS: &str = "
SELECT seq, user_message_id, assistant_message_id FROM turns WHERE session_seq = ?1 ORDER BY seq LIMIT ?2";
const DELETE_LOG: &str = "DELETE FROM turn_logs WHERE turn_seq = ?1 RETURNING length(log) AS bytes";
const DELETE_TURN: &str = "DELETE FROM turns WHERE seq = ?1";
const DELETE_MESSAGE: &str = "
DELETE FROM messages WHERE seq = ?1 AND session_seq = ?2 RETURNING content, searched_name";

/// Removes turns of a session with their messages and event logs, and removes the words of the
/// messages, or queues them. Returns whether there were any.
fn remove_turns(tx: &WriteTx<'_>, removed: Removed) -> Result<bool> {
    let Removed {
        session,
        tenant,
        indexed,
    } = removed;
    let turns: Vec<(Tick, [MessageId; 2])> =
        tx.reader().all(TURNS, (session, STEP_ROWS), |row| {
            let messages = [
                row.get("user_message_id")?,
                row.get("assistant_message_id")?,
            ];
            Ok((row.get("seq")?, messages))
        })?;
    let mut bytes = 0;
    for (turn, messages) in &turns {
        for message in messages.map(|message| message.tick()) {
            let deleted = (message, session);
            let text = tx.returning(DELETE_MESSAGE, deleted, search_index::searched_of)?;
            let Some(text) = text else { continue };
            let indexed = indexed.0..=indexed.1;
            search_index::remove_message(tx, tenant, indexed, message, &text)?;
            bytes += i64::try_from(text.len()).unwrap_or(i64::MAX);
        }
        let log: Option<i64> = tx.returning(DELETE_LOG, [turn], |row| row.get("bytes"))?;
        bytes += log.unwrap_or(0);
        tx.execute(DELETE_TURN, [turn])?;
        if bytes >= STEP_BYTES {
            break;
        }
    }
    Ok(!turns.is_empty())
}

const NTH_REMOVAL: &str = "SELECT message_seq FROM search_removals WHERE message_seq > ?1 ORDER BY message_seq, part LIMIT 1 OFFSET ?2";
const HAS_SESSION: &str = "SELECT 1 FROM removed_sessions LIMIT 1";

/// What the removal does next.
enum Work {
    /// Removes words from the index, of this message first.
    Words(Tick),
    /// Removes rows of a session.
    Rows,
}

impl Store {
    /// Removes everything of deleted sessions, unless another task already waits to do so.
    pub async fn begin_removal(&self) {
        // One task removes messages. A second one waits, and removes those queued since then.
        let Ok(_permit) = self.index_tasks.removals.try_acquire() else {
            return;
        };
        if let Err(error) = self.remove_until(0, Pace::Resting).await {
            log::warn!("{NOT_REMOVED}: {error}");
        }
    }

    /// Removes everything of deleted sessions.
    ///
    /// # Errors
    /// `storage_full` and `overloaded` at once; otherwise the error of the last message that could
    /// not be removed. Such messages are tried again after ten minutes.
    pub async fn complete_removal(&self) -> Result<()> {
        self.remove_until(0, Pace::Steady).await
    }

    /// Waits until the backlog of deleted messages is small enough for further deletions.
    pub async fn keep_up_with_removal(&self) -> Result<()> {
        self.remove_until(MAX_REMOVALS, Pace::Steady).await
    }

    /// Removes words until the backlog has up to `backlog` messages. If `backlog` is 0, removes
    /// everything else too.
    ///
    /// All tasks take turns with small changes, so that other changes wait little. A message that
    /// cannot be removed does not block the others. Several of them mean that the disk fails.
    pub(super) async fn remove_until(&self, backlog: usize, pace: Pace) -> Result<()> {
        let (mut batch, mut outcome) = (RemovalBatch::Several, Ok(()));
        loop {
            let mut progress = self.index_tasks.removal.lock().await;
            progress.forget_old_faults();
            if progress.faults >= MAX_FAULTS {
                return outcome;
            }
            let after = progress.after;
            let work = self.next_removal(after, backlog).await?;
            let begun = Instant::now();
            let is_over = work.is_none();
            if progress
                .unscrubbed
                .is_some_and(|since| is_over || since.elapsed() > SCRUB_EVERY)
            {
                self.write(Extent::Configuration, scrub).await?;
                progress.unscrubbed = None;
            }
            let Some(work) = work else {
                return outcome;
            };
            progress.unscrubbed.get_or_insert(begun);
            let next = match work {
                Work::Words(next) => next,
                Work::Rows => {
                    self.write(Extent::Configuration, remove_rows).await?;
                    pace.rest(begun).await;
                    continue;
                }
            };
            match self.remove_words(after, batch).await {
                Ok(_) => batch = RemovalBatch::Several,
                Err(error @ Error::Refused(_)) => return Err(error),
                // One by one from here, to find the message that fails.
                Err(_) if batch == RemovalBatch::Several => batch = RemovalBatch::One,
                Err(error) => {
                    progress.skip(next);
                    outcome = Err(error);
                }
            }
            pace.rest(begun).await;
        }
    }

    async fn remove_words(&self, after: Tick, batch: RemovalBatch) -> Result<usize> {
        self.write(Extent::Configuration, move |tx| {
            search_index::remove_batch(tx, after, batch)
        })
        .await
    }

    /// Removes one batch of words of deleted messages from the index. Returns the bytes of their
    /// text, 0 if there are none.
    pub async fn remove_word_batch(&self) -> Result<usize> {
        let progress = self.index_tasks.removal.lock().await;
        self.remove_words(progress.after, RemovalBatch::Several)
            .await
    }

    /// Removes one batch of rows of a deleted session. Returns whether there was one.
    pub async fn remove_row_batch(&self) -> Result<bool> {
        let _progress = self.index_tasks.removal.lock().await;
        self.write(Extent::Configuration, |tx| {
            let has_session = tx.reader().optional(HAS_SESSION, (), |_| Ok(()))?.is_some();
            remove_rows(tx)?;
            Ok(has_session)
        })
        .await
    }

    /// The next work, if more than `backlog` messages follow the tick. Words go first, so that the
    /// backlog of words stays short.
    async fn next_removal(&self, after: Tick, backlog: usize) -> Result<Option<Work>> {
        self.read(move |reader| {
            let nth = |nth: usize| {
                reader.optional(NTH_REMOVAL, (after, nth), |row| row.get("message_seq"))
            };
            if nth(backlog)?.is_some() {
                return Ok(nth(0)?.map(Work::Words));
            }
            let has_rows = backlog == 0 && reader.optional(HAS_SESSION, (), |_| Ok(()))?.is_some();
            Ok(has_rows.then_some(Work::Rows))
        })
        .await
    }
}

/// The state of the removal of words from the index.
#[derive(Default)]
pub(super) struct Progress {
    /// The last message that could not be removed. Removal continues after it.
    after: Tick,
    faults: usize,
    /// When the failed messages are tried again.
    retry_at: Option<Instant>,
    /// The time since which the write-ahead log holds removed text.
    unscrubbed: Option<Instant>,
}

impl Progress {
    fn skip(&mut self, message: Tick) {
        self.after = message;
        self.faults += 1;
        self.retry_at.get_or_insert(Instant::now() + FAULT_RETRY);
    }

    fn forget_old_faults(&mut self) {
        if self.retry_at.is_some_and(|at| Instant::now() >= at) {
            *self = Self {
                unscrubbed: self.unscrubbed,
                ..Self::default()
            };
        }
    }
}
