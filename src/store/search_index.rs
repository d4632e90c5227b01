//! The search index: adds the words of titles and messages, and removes those of deleted ones.

use std::borrow::Cow;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, Semaphore};
use tokio::time::{sleep, timeout};

use super::search::Spelling;
use super::sql::{Reader, Row};
use super::{Extent, Store, WriteTx, fts5, tsvector};
use crate::error::Result;
use crate::model::ids::Tick;
use crate::model::names::TenantNo;
use crate::terms;

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
/// Titles of which one change adds those that the index lacks.
const TITLE_BATCH: usize = 64;
/// Bytes of deleted terms that one change removes from the index. A term takes some fifty
/// microseconds, because the index overwrites it in place, so a long message is removed in parts.
pub const REMOVAL_BYTES: usize = 512;
/// Deleted messages that one change removes from the index.
const REMOVAL_BATCH: usize = 16;
/// How long a search works on an index that is built again. A small folder is complete then.
const REBUILD_LIMIT: Duration = Duration::from_secs(1);
/// The longest rest after a background change.
const MAX_REST: Duration = Duration::from_millis(200);

/// The kind of an engine's search index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Index {
    /// FTS5. Changes in the background add messages and remove deleted ones, because the one writer
    /// would otherwise be slow.
    Fts5,
    /// `tsvector`. The words are stored and deleted with the text.
    Tsvector,
}

impl Index {
    /// How a search reads the index.
    pub(super) fn spelling(self) -> &'static Spelling {
        match self {
            Self::Fts5 => &fts5::SPELLING,
            Self::Tsvector => &tsvector::SPELLING,
        }
    }
}

/// What the index of titles has of a session: its title, and the name of the person who talks in
/// it. One text, so that a search finds both as it finds a title.
pub(super) fn heading<'a>(title: Option<&'a str>, name: Option<&'a str>) -> Option<Cow<'a, str>> {
    match (title, name) {
        (Some(title), Some(name)) => Some(Cow::Owned(format!("{title}\n{name}"))),
        (Some(one), None) | (None, Some(one)) => Some(Cow::Borrowed(one)),
        (None, None) => None,
    }
}

pub(super) fn add_title(
    tx: &WriteTx<'_>,
    tenant: TenantNo,
    session: Tick,
    title: &str,
) -> Result<()> {
    match tx.reader().search_index() {
        Index::Fts5 => {
            let row = (session, fts5::scope(tenant), terms::of(title));
            tx.execute(fts5::ADD_TITLE, row)
        }
        Index::Tsvector => {
            let rows = tsvector::rows(tenant, title);
            tx.execute(tsvector::ADD_TITLE, (session, rows))
        }
    }
    .map(drop)
}

fn remove_title(tx: &WriteTx<'_>, tenant: TenantNo, session: Tick, title: &str) -> Result<()> {
    match tx.reader().search_index() {
        // FTS5 needs the terms that were indexed.
        Index::Fts5 if has_title(tx.reader(), session)? => {
            let row = (session, fts5::scope(tenant), terms::of(title));
            tx.execute(fts5::REMOVE_TITLE, row)
        }
        Index::Fts5 => Ok(0),
        Index::Tsvector => tx.execute(tsvector::REMOVE_TITLE, [session]),
    }
    .map(drop)
}

/// Indexes a title that was derived from the session's first message, unless the message has the
/// same words.
pub(super) fn add_derived_title(
    tx: &WriteTx<'_>,
    tenant: TenantNo,
    session: Tick,
    title: &str,
    name: Option<&str>,
    message: &str,
) -> Result<()> {
    if name.is_some() {
        // The index has the name already, and one text for both.
        let heading = heading(Some(title), name);
        return replace_title(tx, tenant, session, name, heading.as_deref());
    }
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

fn has_title(reader: &Reader<'_>, session: Tick) -> Result<bool> {
    Ok(reader
        .optional(fts5::HAS_TITLE, [session], |_| Ok(()))?
        .is_some())
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
    if let Some(before) = before {
        remove_title(tx, tenant, session, before)?;
    }
    match title {
        Some(title) => add_title(tx, tenant, session, title),
        None => Ok(()),
    }
}

const INDEXED: &str = "SELECT done_seq FROM search_progress WHERE what = 'messages'";
const SET_INDEXED: &str = "UPDATE search_progress SET done_seq = ?1 WHERE what = 'messages'";
const UNINDEXED: &str = "
SELECT m.seq AS seq, s.tenant_no AS tenant_no, m.content AS content, m.searched_name AS searched_name
FROM messages m JOIN sessions s ON s.seq = m.session_seq
WHERE m.seq > ?1 ORDER BY m.seq LIMIT ?2";
const HAS_UNINDEXED: &str = "
SELECT coalesce((SELECT max(seq) FROM messages), 0) > (SELECT done_seq FROM search_progress WHERE what = 'messages') AS behind";

/// The tick up to which every message is indexed.
pub(super) fn indexed_up_to(reader: &Reader<'_>) -> Result<Tick> {
    match reader.search_index() {
        Index::Fts5 => reader.one(INDEXED, (), |row| row.get("done_seq")),
        Index::Tsvector => Ok(Tick(i64::MAX)),
    }
}

/// The text that the index has of a message: its content, and the author's name if the client gave
/// one.
pub(super) fn searched<'a>(content: &'a str, name: Option<&str>) -> Cow<'a, str> {
    match name {
        None => Cow::Borrowed(content),
        Some(name) => Cow::Owned(format!("{content}\n{name}")),
    }
}

/// As [`searched`], of a row with `content` and `searched_name`.
pub(super) fn searched_of(row: &Row<'_>) -> Result<String> {
    let (content, name): (String, Option<String>) =
        (row.get("content")?, row.get("searched_name")?);
    Ok(match name {
        None => content,
        Some(name) => searched(&content, Some(&name)).into_owned(),
    })
}

/// Indexes a message in the change that stores it, unless a later change in the background does.
pub(super) fn add_message(
    tx: &WriteTx<'_>,
    tenant: TenantNo,
    session: Tick,
    message: Tick,
    content: &str,
) -> Result<()> {
    match tx.reader().search_index() {
        Index::Fts5 => Ok(()),
        Index::Tsvector => {
            let rows = tsvector::rows(tenant, content);
            tx.execute(tsvector::ADD_MESSAGE, (message, session, rows))
                .map(drop)
        }
    }
}

/// As [`add_message`], for a message whose tick may be older than the newest one.
pub(super) fn add_answer(
    tx: &WriteTx<'_>,
    tenant: TenantNo,
    session: Tick,
    answer: Tick,
    content: &str,
) -> Result<()> {
    match tx.reader().search_index() {
        // The index already has newer messages, so that the background does not reach the answer.
        Index::Fts5 if answer <= indexed_up_to(tx.reader())? => {
            add_to_fts5(tx, tenant, answer, content)
        }
        Index::Fts5 => Ok(()),
        Index::Tsvector => add_message(tx, tenant, session, answer, content),
    }
}

fn add_to_fts5(tx: &WriteTx<'_>, tenant: TenantNo, message: Tick, content: &str) -> Result<()> {
    let row = (message, fts5::scope(tenant), terms::of(content));
    tx.execute(fts5::ADD_MESSAGE, row).map(drop)
}

/// Removes a deleted message, which may be one that the index does not have.
pub(super) fn remove_message(
    tx: &WriteTx<'_>,
    tenant: TenantNo,
    indexed: RangeInclusive<Tick>,
    message: Tick,
    content: &str,
) -> Result<()> {
    match tx.reader().search_index() {
        Index::Fts5 if indexed.contains(&message) => queue_removal(tx, tenant, message, content),
        Index::Fts5 => Ok(()),
        Index::Tsvector => tx.execute(tsvector::REMOVE_MESSAGE, [message]).map(drop),
    }
}

/// Replaces the text of a message, which may be one that the index does not have yet. `place` is the
/// session and the message, `before` the text and the author's name.
pub(super) fn replace_message(
    tx: &WriteTx<'_>,
    tenant: TenantNo,
    place: (Tick, Tick),
    before: (&str, Option<&str>),
    content: &str,
) -> Result<()> {
    let (session, message) = place;
    let name = before.1;
    let text = searched(content, name);
    match tx.reader().search_index() {
        Index::Fts5 => {
            let from = rebuild_of(tx.reader())?.messages_from;
            if message < from || message > indexed_up_to(tx.reader())? {
                return Ok(());
            }
            // FTS5 needs the terms that were indexed.
            let terms = terms::of(&searched(before.0, name));
            tx.execute(fts5::REMOVE_MESSAGE, (message, fts5::scope(tenant), terms))?;
            add_to_fts5(tx, tenant, message, &text)
        }
        Index::Tsvector => {
            tx.execute(tsvector::REMOVE_MESSAGE, [message])?;
            add_message(tx, tenant, session, message, &text)
        }
    }
}

/// As [`remove_message`], with the range of the messages that the index has now.
pub(super) fn remove_one(
    tx: &WriteTx<'_>,
    tenant: TenantNo,
    message: Tick,
    content: &str,
) -> Result<()> {
    let from = rebuild_of(tx.reader())?.messages_from;
    let to = indexed_up_to(tx.reader())?;
    remove_message(tx, tenant, from..=to, message, content)
}

/// Indexes a batch of new messages. Returns the bytes of their texts, and whether more may follow.
fn add_batch(tx: &mut WriteTx<'_>) -> Result<(usize, bool)> {
    let reader = tx.reader();
    let after = indexed_up_to(reader)?;
    let unindexed = reader.first_within(BATCH_BYTES, UNINDEXED, (after, BATCH), |row| {
        let (seq, tenant): (Tick, TenantNo) = (row.get("seq")?, row.get("tenant_no")?);
        Ok((seq, tenant, searched_of(row)?))
    })?;
    let mut bytes = 0;
    for (seq, tenant, content) in &unindexed.rows {
        add_to_fts5(tx, *tenant, *seq, content)?;
        bytes += content.len();
    }
    if let Some((last, ..)) = unindexed.rows.last() {
        tx.execute(SET_INDEXED, [last])?;
    }
    let has_more = unindexed.ends_early || unindexed.rows.len() == BATCH;
    Ok((bytes, has_more))
}

/// What is still missing in an index that is built again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rebuild {
    /// Messages that are older than this one are missing.
    pub(super) messages_from: Tick,
    /// Titles of sessions that are older than this one may be missing.
    titles_from: Tick,
}

impl Rebuild {
    /// Nothing is missing.
    const DONE: Self = Self {
        messages_from: Tick(0),
        titles_from: Tick(0),
    };
}

const REBUILD: &str = "
SELECT max(CASE WHEN what = 'messages' THEN from_seq ELSE 0 END) AS messages_from,
       max(CASE WHEN what = 'titles' THEN from_seq ELSE 0 END) AS titles_from
FROM search_rebuild";

pub(super) fn rebuild_of(reader: &Reader<'_>) -> Result<Rebuild> {
    if reader.search_index() == Index::Tsvector {
        return Ok(Rebuild::DONE);
    }
    reader.one(REBUILD, (), |row| {
        Ok(Rebuild {
            messages_from: row.get("messages_from")?,
            titles_from: row.get("titles_from")?,
        })
    })
}

const OLDER_MESSAGES: &str = "
SELECT m.seq AS seq, s.tenant_no AS tenant_no, m.content AS content, m.searched_name AS searched_name
FROM messages m CROSS JOIN sessions s
WHERE s.seq = m.session_seq AND m.seq < ?1 ORDER BY m.seq DESC LIMIT ?2";
const OLDER_TITLES: &str = "
SELECT seq, tenant_no, title, end_user_name FROM sessions WHERE seq < ?1 ORDER BY seq DESC LIMIT ?2";
const SET_REBUILT: &str = "UPDATE search_rebuild SET from_seq = ?2 WHERE what = ?1";

/// The SQL that finds the next older messages and titles. A test reads the query plans.
pub const OLDER: [&str; 2] = [OLDER_MESSAGES, OLDER_TITLES];

/// Adds the next older messages and titles to an index that is built again. Returns what is still
/// missing.
fn rebuild_batch(tx: &mut WriteTx<'_>) -> Result<Rebuild> {
    let before = rebuild_of(tx.reader())?;
    if before == Rebuild::DONE {
        return Ok(before);
    }
    let messages_from = add_older_messages(tx, before.messages_from)?;
    tx.execute(SET_REBUILT, ("messages", messages_from))?;
    let titles_from = add_older_titles(tx, before.titles_from)?;
    tx.execute(SET_REBUILT, ("titles", titles_from))?;
    let after = rebuild_of(tx.reader())?;
    if after == Rebuild::DONE {
        tx.on_commit(|| log::info!("the search index has all messages and titles again"));
    }
    Ok(after)
}

/// Indexes messages that are older than `before`. Returns the oldest, or 0 after the last batch.
fn add_older_messages(tx: &WriteTx<'_>, before: Tick) -> Result<Tick> {
    let older = tx
        .reader()
        .first_within(BATCH_BYTES, OLDER_MESSAGES, (before, BATCH), |row| {
            let (seq, tenant): (Tick, TenantNo) = (row.get("seq")?, row.get("tenant_no")?);
            Ok((seq, tenant, searched_of(row)?))
        })?;
    // In ascending order, because the index writes a part of its own for each step back.
    for (seq, tenant, content) in older.rows.iter().rev() {
        add_to_fts5(tx, *tenant, *seq, content)?;
    }
    let has_more = older.ends_early || older.rows.len() == BATCH;
    let oldest = older.rows.last().filter(|_| has_more);
    Ok(oldest.map_or(Tick(0), |(seq, ..)| *seq))
}

/// As [`add_older_messages`], for titles. A title that was changed since is in the index already.
fn add_older_titles(tx: &WriteTx<'_>, before: Tick) -> Result<Tick> {
    let older: Vec<(Tick, TenantNo, [Option<String>; 2])> =
        tx.reader()
            .all(OLDER_TITLES, (before, TITLE_BATCH), |row| {
                let texts = [row.get("title")?, row.get("end_user_name")?];
                Ok((row.get("seq")?, row.get("tenant_no")?, texts))
            })?;
    for (session, tenant, [title, name]) in older.iter().rev() {
        if let Some(heading) = heading(title.as_deref(), name.as_deref())
            && !has_title(tx.reader(), *session)?
        {
            add_title(tx, *tenant, *session, &heading)?;
        }
    }
    let oldest = older.last().filter(|_| older.len() == TITLE_BATCH);
    Ok(oldest.map_or(Tick(0), |(seq, ..)| *seq))
}

/// Merges parts of the index that batches have written, so that a search reads few of them.
fn merge(tx: &mut WriteTx<'_>) -> Result<()> {
    tx.execute(fts5::MERGE, [MERGE_PAGES]).map(drop)
}

const REMOVALS: &str = "
SELECT message_seq, part, is_last, tenant_no, terms FROM search_removals
WHERE message_seq > ?1 ORDER BY message_seq, part LIMIT ?2";
const DELETE_REMOVAL: &str = "DELETE FROM search_removals WHERE message_seq = ?1 AND part = ?2";

/// How many parts of deleted messages one change removes from the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RemovalBatch {
    Several,
    /// One part, to find the message that fails.
    One,
}

/// Removes parts of deleted messages after a tick from the index. Returns the bytes of their terms.
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
            let key: (Tick, i64) = (row.get("message_seq")?, row.get("part")?);
            let (is_last, tenant) = (row.get("is_last")?, row.get("tenant_no")?);
            Ok((key, is_last, tenant, row.get::<String>("terms")?))
        })?;
    let mut bytes = 0;
    for (key, is_last, tenant, terms) in &removals.rows {
        bytes += terms.len();
        // FTS5 needs the terms that were indexed.
        if *is_last {
            tx.execute(fts5::REMOVE_MESSAGE, (key.0, fts5::scope(*tenant), terms))?;
        } else {
            tx.execute(fts5::REMOVE_MESSAGE, (key.0, "", terms))?;
            // FTS5 counts its rows, and the row with the other words is still there.
            tx.execute(fts5::ADD_MESSAGE, (key.0, "", ""))?;
        }
        tx.execute(DELETE_REMOVAL, *key)?;
    }
    Ok(bytes)
}

const QUEUE_REMOVAL: &str = "
INSERT INTO search_removals (message_seq, part, is_last, tenant_no, terms) VALUES (?1, ?2, ?3, ?4, ?5)";

/// Queues the removal of a deleted message, in parts that one change each removes.
fn queue_removal(tx: &WriteTx<'_>, tenant: TenantNo, message: Tick, content: &str) -> Result<()> {
    let terms = terms::of(content);
    let mut rest = terms.as_str();
    for part in 0_i64.. {
        let (terms, after) = rest.split_at(end_of_part(rest, REMOVAL_BYTES));
        tx.execute(
            QUEUE_REMOVAL,
            (message, part, after.is_empty(), tenant, terms),
        )?;
        if after.is_empty() {
            break;
        }
        rest = after;
    }
    Ok(())
}

/// The end of a part of up to `max` bytes. The part is longer if it would otherwise cut a term.
fn end_of_part(terms: &str, max: usize) -> usize {
    if terms.len() <= max {
        return terms.len();
    }
    let max = terms.floor_char_boundary(max);
    let space = terms[..max].rfind(' ');
    space
        .or_else(|| terms[max..].find(' ').map(|space| max + space))
        .map_or(terms.len(), |space| space + 1)
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

const COUNT_OLDER: &str = "SELECT count(*) AS messages FROM messages WHERE seq < ?1";

impl Store {
    /// Indexes all new messages, a batch at a time, so that a search finds every message that was
    /// acknowledged before the search. Goes on with an index that is built again, for a moment.
    /// Returns whether the index has everything.
    pub async fn complete_search(&self) -> Result<bool> {
        if self.search_index() == Index::Tsvector {
            return Ok(true);
        }
        self.index_all(Pace::Steady).await?;
        self.rebuild(Pace::Steady, REBUILD_LIMIT).await
    }

    /// Adds older texts to an index that is built again, a batch at a time, until it has all of them
    /// or the time is over. Returns whether it has all of them.
    async fn rebuild(&self, pace: Pace, limit: Duration) -> Result<bool> {
        let started = Instant::now();
        let mut missing = self.read(rebuild_of).await?;
        if missing == Rebuild::DONE {
            return Ok(true);
        }
        while missing != Rebuild::DONE {
            if started.elapsed() >= limit {
                return Ok(false);
            }
            let begun = Instant::now();
            missing = self.rebuild_batch().await?;
            pace.rest(begun).await;
            if pace == Pace::Resting {
                self.merge_batches().await?;
            }
        }
        Ok(true)
    }

    async fn rebuild_batch(&self) -> Result<Rebuild> {
        let _one = self.index_tasks.adding.lock().await;
        self.write(Extent::Configuration, rebuild_batch).await
    }

    /// Adds the next older texts to an index that is built again. Returns whether it has all of
    /// them.
    pub async fn rebuild_search_batch(&self) -> Result<bool> {
        Ok(self.rebuild_batch().await? == Rebuild::DONE)
    }

    /// How many messages an index that is built again still lacks.
    ///
    /// # Errors
    /// `internal_error` if the database cannot be read.
    pub async fn missing_in_search(&self) -> Result<u64> {
        self.read(|reader| {
            let from = rebuild_of(reader)?.messages_from;
            if from == Rebuild::DONE.messages_from {
                return Ok(0);
            }
            reader.one(COUNT_OLDER, [from], |row| row.get("messages"))
        })
        .await
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
        if self.search_index() == Index::Tsvector {
            return Ok(());
        }
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
        if self.search_index() == Index::Tsvector {
            return Ok(false);
        }
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
            self.merge_batches().await?;
            self.rebuild(Pace::Resting, limit).await.map(drop)
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
    fn a_part_of_the_terms_ends_after_a_space() {
        assert_eq!(end_of_part("one two", 7), 7);
        assert_eq!(end_of_part("one two", 6), 4);
        assert_eq!(end_of_part("one two", 2), 4);
        assert_eq!(end_of_part("one", 2), 3);
        assert_eq!(end_of_part("\u{e9}\u{e9}\u{e9} two", 3), 7);
    }
}
