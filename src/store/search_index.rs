//! The search index: adds the words of titles and messages, and removes those of deleted ones.

use std::time::{Duration, Instant};

use tokio::sync::{Mutex, Semaphore};
use tokio::time::{sleep, timeout};

use super::sql::Reader;
use super::{Extent, Store, WriteTx};
use crate::error::Result;
use crate::model::ids::Tick;
use crate::model::names::TenantNo;

/// Bytes of text that one change adds to the index: some milliseconds of work, for which other
/// changes wait. A longer message is added alone.
pub const BATCH_BYTES: usize = 32 * 1_024;
/// Messages that one change adds to the index.
const BATCH: usize = 256;
/// Pages that one change merges. A batch writes about twelve pages, and each page is merged about
/// three times until the index has one part.
const MERGE_PAGES: i64 = 32;
/// Merges after each batch.
const MERGES: usize = 2;
/// Bytes of deleted text that one change removes from the index. A word takes some fifty
/// microseconds, because the index overwrites it in place, so a long message is removed in parts.
pub const REMOVAL_BYTES: usize = 512;
/// Deleted messages that one change removes from the index.
const REMOVAL_BATCH: usize = 16;
/// The longest rest after a background change.
const MAX_REST: Duration = Duration::from_millis(200);

/// The term of a tenant. Each indexed text has one, so that a query reads only the postings of its
/// tenant.
pub(super) fn scope(tenant: TenantNo) -> String {
    format!("t{}", tenant.0)
}

const HAS_TITLE: &str = "SELECT 1 FROM title_search WHERE rowid = ?1";
const ADD_TITLE: &str = "INSERT INTO title_search (rowid, scope, words) VALUES (?1, ?2, ?3)";
pub(super) const REMOVE_TITLE: &str = "
INSERT INTO title_search (title_search, rowid, scope, words) VALUES ('delete', ?1, ?2, ?3)";

pub(super) fn add_title(
    tx: &WriteTx<'_>,
    tenant: TenantNo,
    session: Tick,
    title: &str,
) -> Result<()> {
    tx.execute(ADD_TITLE, (session, scope(tenant), title))
        .map(drop)
}

/// Indexes a title that was derived from the session's first message, unless the message has the
/// same words.
pub(super) fn add_derived_title(
    tx: &WriteTx<'_>,
    tenant: TenantNo,
    session: Tick,
    title: &str,
    message: &str,
) -> Result<()> {
    if is_of_whole_words(title, message) {
        return Ok(());
    }
    add_title(tx, tenant, session, title)
}

/// Whether each word of a title that was cut from a message is a whole word of the message.
fn is_of_whole_words(title: &str, message: &str) -> bool {
    let text = title.strip_suffix('…').unwrap_or(title);
    let rest = message.split_once(text).map(|(_, rest)| rest);
    rest.is_some_and(|rest| !rest.starts_with(|c: char| !c.is_whitespace()))
}

pub(super) fn replace_title(
    tx: &WriteTx<'_>,
    tenant: TenantNo,
    session: Tick,
    before: Option<&str>,
    title: Option<&str>,
) -> Result<()> {
    if before == title {
        return Ok(());
    }
    let is_indexed = tx
        .reader()
        .optional(HAS_TITLE, [session], |_| Ok(()))?
        .is_some();
    if let Some(before) = before.filter(|_| is_indexed) {
        tx.execute(REMOVE_TITLE, (session, scope(tenant), before))?;
    }
    match title {
        Some(title) => add_title(tx, tenant, session, title),
        None => Ok(()),
    }
}

const INDEXED: &str = "SELECT done_seq FROM search_progress WHERE what = 'messages'";
const SET_INDEXED: &str = "UPDATE search_progress SET done_seq = ?1 WHERE what = 'messages'";
const UNINDEXED: &str = "
SELECT m.seq AS seq, s.tenant_no AS tenant_no, m.content AS content
FROM messages m JOIN sessions s ON s.seq = m.session_seq
WHERE m.seq > ?1 ORDER BY m.seq LIMIT ?2";
const HAS_UNINDEXED: &str = "
SELECT coalesce((SELECT max(seq) FROM messages), 0) > (SELECT done_seq FROM search_progress WHERE what = 'messages') AS behind";
const ADD_MESSAGE: &str = "INSERT INTO message_search (rowid, scope, words) VALUES (?1, ?2, ?3)";
pub(super) const REMOVE_MESSAGE: &str = "
INSERT INTO message_search (message_search, rowid, scope, words) VALUES ('delete', ?1, ?2, ?3)";

/// The tick up to which every message is indexed.
pub(super) fn indexed_up_to(reader: &Reader<'_>) -> Result<Tick> {
    reader.one(INDEXED, (), |row| row.get("done_seq"))
}

/// Indexes one message.
pub(super) fn add_message(
    tx: &WriteTx<'_>,
    tenant: TenantNo,
    message: Tick,
    content: &str,
) -> Result<()> {
    tx.execute(ADD_MESSAGE, (message, scope(tenant), content))
        .map(drop)
}

/// Indexes a batch of new messages. Returns the bytes of their texts, and whether more may follow.
fn add_batch(tx: &mut WriteTx<'_>) -> Result<(usize, bool)> {
    let reader = tx.reader();
    let after = indexed_up_to(reader)?;
    let unindexed = reader.first_within(BATCH_BYTES, UNINDEXED, (after, BATCH), |row| {
        let (seq, tenant): (Tick, TenantNo) = (row.get("seq")?, row.get("tenant_no")?);
        Ok((seq, tenant, row.get::<String>("content")?))
    })?;
    let mut bytes = 0;
    for (seq, tenant, content) in &unindexed.rows {
        add_message(tx, *tenant, *seq, content)?;
        bytes += content.len();
    }
    if let Some((last, ..)) = unindexed.rows.last() {
        tx.execute(SET_INDEXED, [last])?;
    }
    let has_more = unindexed.ends_early || unindexed.rows.len() == BATCH;
    Ok((bytes, has_more))
}

const MERGE: &str = "INSERT INTO message_search (message_search, rank) VALUES ('merge', ?1)";

/// Merges parts of the index that batches have written, so that a search reads few of them.
fn merge(tx: &mut WriteTx<'_>) -> Result<()> {
    tx.execute(MERGE, [MERGE_PAGES]).map(drop)
}

const REMOVALS: &str = "
SELECT message_seq, tenant_no, content FROM search_removals WHERE message_seq > ?1 ORDER BY message_seq LIMIT ?2";
const DELETE_REMOVAL: &str = "DELETE FROM search_removals WHERE message_seq = ?1";
const SHORTEN_REMOVAL: &str = "UPDATE search_removals SET content = ?2 WHERE message_seq = ?1";

/// How many deleted messages one change removes from the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RemovalBatch {
    Several,
    /// One message, to find the one that fails.
    One,
}

/// Removes deleted messages after a tick from the index, or a part of a long one. Returns the
/// bytes of the removed text.
pub(super) fn remove_batch(
    tx: &mut WriteTx<'_>,
    after: Tick,
    batch: RemovalBatch,
) -> Result<usize> {
    let limit = match batch {
        RemovalBatch::Several => REMOVAL_BATCH,
        RemovalBatch::One => 1,
    };
    let removals = tx
        .reader()
        .first_within(REMOVAL_BYTES, REMOVALS, (after, limit), |row| {
            let message: Tick = row.get("message_seq")?;
            let tenant: TenantNo = row.get("tenant_no")?;
            Ok((message, tenant, row.get::<String>("content")?))
        })?;
    let mut bytes = 0;
    for (message, tenant, content) in &removals.rows {
        let (part, rest) = content.split_at(end_of_part(content, REMOVAL_BYTES));
        bytes += part.len();
        // FTS5 needs the text that was indexed.
        if rest.is_empty() {
            tx.execute(REMOVE_MESSAGE, (message, scope(*tenant), part))?;
            tx.execute(DELETE_REMOVAL, [message])?;
        } else {
            tx.execute(REMOVE_MESSAGE, (message, "", part))?;
            // FTS5 counts its rows, and the row with the other words is still there.
            tx.execute(ADD_MESSAGE, (message, "", ""))?;
            tx.execute(SHORTEN_REMOVAL, (message, rest))?;
        }
    }
    Ok(bytes)
}

/// The end of a part of up to `max` bytes. The part is longer if it would otherwise cut a word.
fn end_of_part(text: &str, max: usize) -> usize {
    if text.len() <= max {
        return text.len();
    }
    let max = text.floor_char_boundary(max);
    let gap = text[..max].rfind(is_gap);
    gap.filter(|gap| *gap > 0)
        .or_else(|| text[max..].find(is_gap).map(|gap| max + gap))
        .unwrap_or(text.len())
}

/// Whether a character separates words in the index, as in the tokenizer `unicode61`: it is neither
/// a letter nor a digit, nor a diacritic on one, nor of a private use area.
fn is_gap(c: char) -> bool {
    let is_in_words = matches!(
        c,
        '\u{300}'..='\u{36f}' | '\u{e000}'..='\u{f8ff}' | '\u{f0000}'..='\u{10ffff}'
    );
    !c.is_alphanumeric() && !is_in_words
}

/// How a background task takes turns with other changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// Rests after each change for as long as the change took.
    Resting,
    /// Goes on at once, because a caller waits.
    Steady,
}

impl Pace {
    /// Rests after a change that began at this time.
    pub(super) async fn rest(self, begun: Instant) {
        if self == Self::Resting {
            sleep(begun.elapsed().min(MAX_REST)).await;
        }
    }
}

/// The tasks that change the index. Each kind makes one change at a time: several of them in one
/// commit would hold up the other changes of that commit.
pub(super) struct IndexTasks {
    adding: Mutex<()>,
    pub(super) removal: Mutex<super::removal::Progress>,
    pub(super) removals: Semaphore,
}

impl Default for IndexTasks {
    fn default() -> Self {
        Self {
            adding: Mutex::default(),
            removal: Mutex::default(),
            removals: Semaphore::new(2),
        }
    }
}

impl Store {
    /// Indexes all new messages, a batch at a time, so that a search finds every message that was
    /// acknowledged before the search.
    pub async fn complete_search(&self) -> Result<()> {
        self.index_all(Pace::Steady).await
    }

    async fn index_all(&self, pace: Pace) -> Result<()> {
        while self.has_unindexed().await? {
            let _one = self.index_tasks.adding.lock().await;
            let begun = Instant::now();
            let (_, has_more) = self.write(Extent::Configuration, add_batch).await?;
            pace.rest(begun).await;
            if pace == Pace::Resting {
                self.merge_batches().await?;
            }
            if !has_more {
                break;
            }
        }
        Ok(())
    }

    /// Merges as much as a batch adds, in changes of their own. A search does not wait for this.
    async fn merge_batches(&self) -> Result<()> {
        for _ in 0..MERGES {
            let begun = Instant::now();
            self.write(Extent::Configuration, merge).await?;
            Pace::Resting.rest(begun).await;
        }
        Ok(())
    }

    /// Indexes the next batch of new messages. Returns the bytes of their texts.
    pub async fn index_batch(&self) -> Result<usize> {
        let _one = self.index_tasks.adding.lock().await;
        let (bytes, _) = self.write(Extent::Configuration, add_batch).await?;
        Ok(bytes)
    }

    async fn has_unindexed(&self) -> Result<bool> {
        self.read(|reader| reader.one(HAS_UNINDEXED, (), |row| row.get("behind")))
            .await
    }

    /// Indexes new messages and removes deleted ones, each within a time limit. Logs a failure; the
    /// next call tries again.
    pub async fn maintain_index(&self, limit: Duration) {
        let warn = |outcome: Option<Result<()>>, message: &str| {
            if let Some(Err(error)) = outcome {
                log::warn!("{message}: {error}");
            }
        };
        let added = async {
            self.index_all(Pace::Resting).await?;
            // Searches have added batches too.
            self.merge_batches().await
        };
        let added = timeout(limit, added).await;
        warn(added.ok(), "new messages are not in the search index yet");
        let removed = timeout(limit, self.remove_until(0, Pace::Resting)).await;
        warn(removed.ok(), super::removal::NOT_REMOVED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_that_ends_within_a_word_is_not_of_whole_words() {
        assert!(is_of_whole_words(
            "My printer",
            "  \nMy printer\nis on fire"
        ));
        assert!(is_of_whole_words("My printer…", "My printer is on fire"));
        assert!(!is_of_whole_words("https://exa…", "https://example.com/"));
        assert!(!is_of_whole_words("Another title", "My printer"));
    }

    #[test]
    fn a_part_of_a_text_ends_between_two_words() {
        assert_eq!(end_of_part("one two", 7), 7);
        assert_eq!(end_of_part("one two", 6), 3);
        assert_eq!(end_of_part("one two", 2), 3);
        assert_eq!(end_of_part("one", 2), 3);
        assert_eq!(end_of_part(" one", 2), 4);
        // A letter is not cut, nor a diacritic from its letter.
        assert_eq!(end_of_part("\u{e9}\u{e9}\u{e9} two", 3), 6);
        assert_eq!(end_of_part("a e\u{301}a b", 4), 1);
    }
}
