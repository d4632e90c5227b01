//! Full-text search over titles and messages, each tenant's words apart.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, Semaphore};
use tokio::time::timeout;

use super::sql::Reader;
use super::{Extent, Store, WriteTx};
use crate::error::{Error, Result};
use crate::model::ids::Tick;
use crate::model::names::TenantNo;

/// Messages that one change adds, so that appends wait for little.
const BATCH: usize = 256;
/// Deleted messages that one change takes out at most, and bytes of their texts from which it takes no further one: a message takes
/// it one to three milliseconds.
const REMOVED_AT_ONCE: usize = 16;
const BYTES_AT_ONCE: usize = 1_024;
/// Deleted messages that may wait to be taken out.
const MOST_TO_REMOVE: usize = 20_000;
/// Messages whose words could not be taken out, after which no further one is tried for as long as this.
const MOST_FAULTS: usize = 3;
const NOT_REMOVED: &str = "words of deleted sessions are still in the search index";
const FAULTS_AGAIN: Duration = Duration::from_secs(600);
/// Words of a query that count.
const WORDS: usize = 16;
/// How far back a search goes with its first step, and how much farther with each next one: an often said word is soon
/// found, and twenty steps go back for ever.
const FIRST_SPAN: i64 = Tick::new(4_000, 0).0;
const SPAN_GROWS: i64 = 4;
/// Postings that are read at once; a word that has fewer is read with that.
const FEW_POSTINGS: usize = if cfg!(test) { 8 } else { 256 };
/// Older than every posting.
const BEFORE_ALL: Tick = Tick(0);

/// The words of a query; none, when the text has nothing to search for.
pub fn words(query: &str) -> Vec<String> {
    query
        .split(|c: char| c.is_whitespace() || c == '\0')
        .filter(|word| word.chars().any(char::is_alphanumeric))
        .take(WORDS)
        .map(str::to_owned)
        .collect()
}

/// The first term of each indexed text names its tenant, so that a query walks that tenant's postings only.
fn scope(tenant: TenantNo) -> String {
    format!("t{}", tenant.0)
}

/// A quoted term is a phrase to FTS5, whatever characters it has.
fn expression(tenant: TenantNo, word: &str) -> String {
    format!(
        "scope : \"{}\" AND words : \"{}\"",
        scope(tenant),
        word.replace('"', "\"\"")
    )
}

/// A word's messages from one place to before another, and their sessions.
///
/// Upwards: once anything was ever deleted, SQLite walks downwards through all of a word's postings, whatever is asked for.
pub const MESSAGES_WITH: &str = "
SELECT m.session_seq AS session_seq
FROM message_search f CROSS JOIN messages m ON m.seq = f.rowid
WHERE message_search MATCH ?1 AND f.rowid >= ?2 AND f.rowid < ?3";
/// A word's titles from one place to before another, by their sessions.
pub const TITLES_WITH: &str = "
SELECT rowid AS session_seq FROM title_search WHERE title_search MATCH ?1 AND rowid >= ?2 AND rowid < ?3";
const FIRST_MESSAGES_WITH: &str = "
SELECT f.rowid AS posting, m.session_seq AS session_seq
FROM message_search f CROSS JOIN messages m ON m.seq = f.rowid
WHERE message_search MATCH ?1 ORDER BY f.rowid LIMIT ?2";
const FIRST_TITLES_WITH: &str = "
SELECT rowid AS posting, rowid AS session_seq FROM title_search WHERE title_search MATCH ?1 ORDER BY rowid LIMIT ?2";
const NEWEST_SESSION: &str = "
SELECT max(coalesce((SELECT max(seq) FROM sessions WHERE tenant_no = ?1 AND archived = 0), 0),
           coalesce((SELECT max(seq) FROM sessions WHERE tenant_no = ?1 AND archived = 1), 0)) AS newest";

/// Where a word stands in one of the indexes.
struct Postings {
    sql: &'static str,
    expression: String,
    /// The word's bit in what is known of a session.
    word: u32,
    /// The oldest of them; none, once all were read.
    oldest: Option<Tick>,
}

/// A tenant's sessions whose title and messages hold all of the words, newest first: no more of the index is read than it
/// takes to find those that are asked for.
pub(super) struct Matches<'a> {
    reader: &'a Reader<'a>,
    postings: Vec<Postings>,
    /// Which words were found so far in sessions about which not everything is known.
    found: BTreeMap<Tick, u32>,
    all_words: u32,
    /// Everything from here on was read.
    read_from: Tick,
    /// Where the first step begins to go back.
    begin: Tick,
    /// How far back the next step goes.
    span: i64,
}

impl<'a> Matches<'a> {
    /// Those that are older than `before`, among others.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn of(
        reader: &'a Reader<'a>,
        tenant: TenantNo,
        words: &[String],
        before: Tick,
    ) -> Result<Self> {
        let newest: Tick = reader.one(NEWEST_SESSION, [tenant], |row| row.get("newest"))?;
        let mut matches = Self {
            reader,
            postings: Vec::with_capacity(2 * words.len()),
            found: BTreeMap::new(),
            all_words: 0,
            read_from: Tick(i64::MAX),
            begin: newest.min(before),
            span: FIRST_SPAN,
        };
        for (place, word) in words.iter().enumerate() {
            let bit = 1 << place;
            matches.all_words |= bit;
            for (first, rest) in [
                (FIRST_MESSAGES_WITH, MESSAGES_WITH),
                (FIRST_TITLES_WITH, TITLES_WITH),
            ] {
                matches.begin_with(first, rest, expression(tenant, word), bit)?;
            }
        }
        Ok(matches)
    }

    /// Reads the first of a word's postings: mostly there are no more.
    fn begin_with(
        &mut self,
        first: &str,
        rest: &'static str,
        expression: String,
        word: u32,
    ) -> Result<()> {
        let read: Vec<(Tick, Tick)> =
            self.reader.all(first, (&expression, FEW_POSTINGS), |row| {
                Ok((row.get("posting")?, row.get("session_seq")?))
            })?;
        for (_, session) in &read {
            *self.found.entry(*session).or_default() |= word;
        }
        let oldest = read.first().filter(|_| read.len() == FEW_POSTINGS);
        self.postings.push(Postings {
            sql: rest,
            expression,
            word,
            oldest: oldest.map(|(posting, _)| *posting),
        });
        Ok(())
    }

    /// Some more of them, or none at all; nothing, once there are no more.
    ///
    /// A message is younger than its session, and a title is kept under the session's own number: of a session that is not
    /// older than what was read, everything is known.
    pub(super) fn more(&mut self) -> Result<Option<impl Iterator<Item = Tick>>> {
        if self.read_from <= BEFORE_ALL {
            return Ok(None);
        }
        let end = self.read_from;
        self.read_from = Tick(end.min(self.begin).0.saturating_sub(self.span));
        self.span = self.span.saturating_mul(SPAN_GROWS);
        for postings in self.postings.iter().filter(|one| one.oldest.is_some()) {
            let params = (&postings.expression, self.read_from, end);
            self.reader.each(postings.sql, params, |row| {
                *self.found.entry(row.get("session_seq")?).or_default() |= postings.word;
                Ok(())
            })?;
        }
        let has_more = |one: &&Postings| one.oldest.is_some_and(|oldest| oldest < self.read_from);
        let unread = self.postings.iter().filter(has_more);
        let read_words = unread.fold(self.all_words, |words, one| words & !one.word);
        // Of a word that was read to its end only the sessions that it was found in are of interest.
        self.found
            .retain(|_, words| *words & read_words == read_words);
        if read_words == self.all_words || read_words > 0 && self.found.is_empty() {
            self.read_from = BEFORE_ALL;
        }
        let all_words = self.all_words;
        let known = self.found.split_off(&self.read_from);
        let newest_first = known.into_iter().rev();
        Ok(Some(newest_first.filter_map(move |(session, words)| {
            (words == all_words).then_some(session)
        })))
    }
}

const HAS_TITLE: &str = "SELECT 1 FROM title_search WHERE rowid = ?1";
const ADD_TITLE: &str = "INSERT INTO title_search (rowid, scope, words) VALUES (?1, ?2, ?3)";
const REMOVE_TITLE: &str = "
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

/// Puts the title into the index that a session takes from its first message, unless it is found by the message anyway.
pub(super) fn add_taken_title(
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

/// Whether each word of a title that was cut from a message is one of the message's too.
fn is_of_whole_words(title: &str, message: &str) -> bool {
    let said = title.strip_suffix('…').unwrap_or(title);
    let behind = message.split_once(said).map(|(_, behind)| behind);
    behind.is_some_and(|behind| !behind.starts_with(|c: char| !c.is_whitespace()))
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
    let is_there = tx
        .reader()
        .optional(HAS_TITLE, [session], |_| Ok(()))?
        .is_some();
    if let Some(before) = before.filter(|_| is_there) {
        tx.execute(REMOVE_TITLE, (session, scope(tenant), before))?;
    }
    match title {
        Some(title) => add_title(tx, tenant, session, title),
        None => Ok(()),
    }
}

const DONE: &str = "SELECT done_seq FROM search_progress WHERE what = 'messages'";
const SET_DONE: &str = "UPDATE search_progress SET done_seq = ?1 WHERE what = 'messages'";
const WAITING: &str = "
SELECT m.seq AS seq, s.tenant_no AS tenant_no, m.content AS content
FROM messages m JOIN sessions s ON s.seq = m.session_seq
WHERE m.seq > ?1 ORDER BY m.seq LIMIT ?2";
const IS_BEHIND: &str = "
SELECT coalesce((SELECT max(seq) FROM messages), 0) > (SELECT done_seq FROM search_progress WHERE what = 'messages') AS behind";
const ADD_MESSAGE: &str = "INSERT INTO message_search (rowid, scope, words) VALUES (?1, ?2, ?3)";
const REMOVE_MESSAGE: &str = "
INSERT INTO message_search (message_search, rowid, scope, words) VALUES ('delete', ?1, ?2, ?3)";

/// Every message up to this one is in the index.
pub(super) fn done(reader: &Reader<'_>) -> Result<Tick> {
    reader.one(DONE, (), |row| row.get("done_seq"))
}

/// Puts one message into the index.
pub(super) fn add_message(
    tx: &WriteTx<'_>,
    tenant: TenantNo,
    message: Tick,
    content: &str,
) -> Result<()> {
    tx.execute(ADD_MESSAGE, (message, scope(tenant), content))
        .map(drop)
}

const LEAVE: &str = "
INSERT INTO search_removals (message_seq, tenant_no, content)
SELECT seq, ?2, content FROM messages WHERE session_seq = ?1 AND seq <= ?3";

/// Has the words of a session's messages, which are about to go, leave the index later.
pub(super) fn leave(tx: &WriteTx<'_>, tenant: TenantNo, session: Tick) -> Result<()> {
    let indexed = done(tx.reader())?;
    tx.execute(LEAVE, (session, tenant, indexed)).map(drop)
}

/// Adds some of the messages that wait; whether more do.
fn add_waiting(tx: &mut WriteTx<'_>) -> Result<bool> {
    let reader = tx.reader();
    let waiting: Vec<(Tick, TenantNo, String)> =
        reader.all(WAITING, (done(reader)?, BATCH), |row| {
            Ok((row.get("seq")?, row.get("tenant_no")?, row.get("content")?))
        })?;
    for (seq, tenant, content) in &waiting {
        add_message(tx, *tenant, *seq, content)?;
    }
    if let Some((last, ..)) = waiting.last() {
        tx.execute(SET_DONE, [last])?;
    }
    Ok(waiting.len() == BATCH)
}

const LEAVING: &str = "
SELECT message_seq, tenant_no, content FROM search_removals WHERE message_seq > ?1 ORDER BY message_seq LIMIT ?2";
const HAS_LEFT: &str = "DELETE FROM search_removals WHERE message_seq = ?1";
const IS_LEFT: &str = "SELECT message_seq FROM search_removals WHERE message_seq > ?1 ORDER BY message_seq LIMIT 1 OFFSET ?2";

/// Takes the words of some deleted messages behind a place, so many at most, out of the index.
fn remove_some(tx: &mut WriteTx<'_>, after: Tick, most: usize) -> Result<()> {
    let reader = tx.reader();
    let leaving: Vec<(Tick, TenantNo, String)> = reader.all(LEAVING, (after, most), |row| {
        let message = row.get("message_seq")?;
        Ok((message, row.get("tenant_no")?, row.get("content")?))
    })?;
    let mut bytes = 0;
    for (message, tenant, content) in &leaving {
        if bytes >= BYTES_AT_ONCE {
            break;
        }
        // By the text that went in.
        tx.execute(REMOVE_MESSAGE, (message, scope(*tenant), content))?;
        tx.execute(HAS_LEFT, [message])?;
        bytes += content.len();
    }
    tx.scrub_log();
    Ok(())
}

impl Store {
    /// Brings the index up to date, a batch at a time, so that a search finds what was acknowledged before it.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub async fn complete_search(&self) -> Result<()> {
        let behind = self
            .read(|reader| reader.one(IS_BEHIND, (), |row| row.get::<bool>("behind")))
            .await?;
        if !behind {
            return Ok(());
        }
        while self.write(Extent::Configuration, add_waiting).await? {}
        Ok(())
    }

    /// Both of them, in the time that there is for it; what cannot be done is told of, and tried again the next time.
    pub async fn keep_index(&self, limit: Duration) {
        let told = |outcome: Option<Result<()>>, what: &str| {
            if let Some(Err(error)) = outcome {
                log::warn!("{what}: {error}");
            }
        };
        let added = timeout(limit, self.complete_search()).await;
        told(added.ok(), "new messages are not in the search index yet");
        let removed = timeout(limit, self.complete_removal()).await;
        told(removed.ok(), NOT_REMOVED);
    }

    /// Takes the words of all that was deleted out of the index, unless somebody is to look for more of it anyway.
    pub async fn begin_removal(&self) {
        // Besides one that is at it, one that looks again behind it will do.
        let Ok(_place) = self.removal.places.try_acquire() else {
            return;
        };
        if let Err(error) = self.complete_removal().await {
            log::warn!("{NOT_REMOVED}: {error}");
        }
    }

    /// Takes the words of all that was deleted out of the index.
    ///
    /// # Errors
    /// The file cannot be read or written, or is damaged; what is left over is tried again some time later.
    pub async fn complete_removal(&self) -> Result<()> {
        self.remove_until_left(0).await
    }

    /// Waits until so few deleted messages' words have still to leave the index that somebody may delete more.
    ///
    /// # Errors
    /// As of [`Self::complete_removal`].
    pub async fn keep_up_with_removal(&self) -> Result<()> {
        self.remove_until_left(MOST_TO_REMOVE).await
    }

    /// The changes are small and are made one at a time, whoever asks for it, so that other ones wait for little. A message whose
    /// words cannot be taken out keeps no other one; several are taken for a fault of the disk.
    async fn remove_until_left(&self, left: usize) -> Result<()> {
        let (mut most, mut outcome) = (REMOVED_AT_ONCE, Ok(()));
        loop {
            let mut turn = self.removal.turn.lock().await;
            turn.forget_old_faults();
            if turn.faults >= MOST_FAULTS {
                return outcome;
            }
            let after = turn.after;
            let Some(next) = self.to_remove(after, left).await? else {
                return outcome;
            };
            match self
                .write(Extent::Configuration, move |tx| {
                    remove_some(tx, after, most)
                })
                .await
            {
                Ok(()) => most = REMOVED_AT_ONCE,
                Err(error @ Error::Refused(_)) => return Err(error),
                // Which one of them it was is still to be found out.
                Err(_) if most > 1 => most = 1,
                Err(error) => {
                    turn.skip(next);
                    outcome = Err(error);
                }
            }
        }
    }

    /// The first behind a place, if there are more than so many there.
    async fn to_remove(&self, after: Tick, left: usize) -> Result<Option<Tick>> {
        self.read(move |reader| {
            let is_more = reader.optional(IS_LEFT, (after, left), |_| Ok(()))?;
            let first = reader.optional(IS_LEFT, (after, 0_usize), |row| row.get("message_seq"))?;
            Ok(is_more.and(first))
        })
        .await
    }
}

/// Who takes words out of the index at the moment, and what could not be taken out.
pub(super) struct Removal {
    turn: Mutex<Turn>,
    places: Semaphore,
}

impl Default for Removal {
    fn default() -> Self {
        Self {
            turn: Mutex::default(),
            places: Semaphore::new(2),
        }
    }
}

#[derive(Default)]
struct Turn {
    /// Messages up to here are left out, of which one could not be taken out.
    after: Tick,
    faults: usize,
    /// When all are tried again.
    again: Option<Instant>,
}

impl Turn {
    fn skip(&mut self, message: Tick) {
        self.after = message;
        self.faults += 1;
        self.again.get_or_insert(Instant::now() + FAULTS_AGAIN);
    }

    fn forget_old_faults(&mut self) {
        if self.again.is_some_and(|again| Instant::now() >= again) {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rusqlite::Connection;

    use super::*;
    use crate::model::ids::Ticker;
    use crate::store::sql::{Effects, Random};
    use crate::store::sqlite::Session;

    #[test]
    fn a_query_of_signs_alone_has_no_words() {
        assert_eq!(words("\" OR * -- ( \0 )"), ["OR"]);
        assert!(words("*** \" ' ;").is_empty());
    }

    #[test]
    fn a_title_of_whole_words_is_told_from_one_that_was_cut_in_a_word() {
        assert!(is_of_whole_words(
            "My printer",
            "  \nMy printer\nis on fire"
        ));
        assert!(is_of_whole_words("My printer…", "My printer is on fire"));
        assert!(!is_of_whole_words("https://exa…", "https://example.com/"));
        assert!(!is_of_whole_words("Another title", "My printer"));
    }

    #[test]
    fn a_word_cannot_leave_its_quotes() {
        assert_eq!(
            expression(TenantNo(5), "a\" OR scope:\"t6"),
            "scope : \"t5\" AND words : \"a\"\" OR scope:\"\"t6\""
        );
    }

    /// A word's sessions as they are said to be, by title or by message.
    type IndexedText = BTreeMap<&'static str, BTreeSet<i64>>;

    const WORDS_SAID: [&str; 4] = ["everywhere", "often", "seldom", "never"];

    /// Numbers that are alike in every run.
    struct Draws(u64);

    impl Draws {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % bound
        }
    }

    /// A title, or a message.
    struct Text {
        seq: i64,
        session: i64,
        tenant: TenantNo,
        words: String,
    }

    impl Text {
        fn is_title(&self) -> bool {
            self.seq == self.session
        }
    }

    /// Sessions with titles and messages, of which another tenant says all words everywhere; some are gone, and of those the
    /// words of some still stand in the index.
    fn talks(draws: &mut Draws) -> (Connection, IndexedText) {
        let file = Connection::open_in_memory().unwrap();
        // So small that a word's postings take many pages.
        file.execute_batch(
            "CREATE TABLE messages (seq INTEGER PRIMARY KEY, session_seq INTEGER NOT NULL);
             CREATE TABLE sessions (seq INTEGER PRIMARY KEY, tenant_no INTEGER NOT NULL, archived INTEGER NOT NULL);
             CREATE VIRTUAL TABLE message_search USING fts5 (scope, words, content = '', tokenize = 'unicode61 remove_diacritics 2');
             CREATE VIRTUAL TABLE title_search USING fts5 (scope, words, content = '', tokenize = 'unicode61 remove_diacritics 2');
             INSERT INTO message_search (message_search, rank) VALUES ('secure-delete', 1), ('pgsz', 64);
             INSERT INTO title_search (title_search, rank) VALUES ('secure-delete', 1), ('pgsz', 64);",
        )
        .unwrap();
        let (ticker, mut random, mut effects) = (
            Ticker::after(Tick(0)),
            Random::default(),
            Effects::default(),
        );
        let tx = WriteTx::on(
            Session::of(&file),
            Extent::Configuration,
            &ticker,
            &mut random,
            0,
            &mut effects,
        );
        let mut texts: Vec<Text> = Vec::new();
        let mut sessions = Vec::new();
        for seq in 1..400 {
            let is_session = sessions.is_empty() || draws.below(3) == 0;
            if is_session {
                sessions.push(seq);
            }
            let session = match draws.below(4) {
                // Most go on with what was opened last.
                0 if !is_session => sessions[draws.below(sessions.len() as u64) as usize],
                _ => sessions[sessions.len() - 1],
            };
            let is_ours = session % 5 != 0;
            let said = [1, 3, 40].iter().zip(WORDS_SAID);
            let words: Vec<&str> = said
                .filter_map(|(rarity, word)| (draws.below(*rarity) == 0).then_some(word))
                .collect();
            let text = Text {
                seq,
                session,
                tenant: TenantNo(if is_ours { 1 } else { 2 }),
                words: if is_ours { &words } else { &WORDS_SAID[..] }.join(" "),
            };
            if text.is_title() {
                let session =
                    "INSERT INTO sessions (seq, tenant_no, archived) VALUES (?1, ?2, ?1 % 2)";
                tx.execute(session, (seq, text.tenant)).unwrap();
                add_title(&tx, text.tenant, Tick(seq), &text.words).unwrap();
            } else {
                let message = "INSERT INTO messages (seq, session_seq) VALUES (?1, ?2)";
                tx.execute(message, (seq, session)).unwrap();
                add_message(&tx, text.tenant, Tick(seq), &text.words).unwrap();
            }
            texts.push(text);
        }
        let gone_from = draws.below(300) as i64;
        let run = gone_from..gone_from + 60;
        texts.retain(|text| {
            let is_gone = run.contains(&text.seq) || draws.below(8) == 0;
            let deletion = (Tick(text.seq), scope(text.tenant), &text.words);
            if is_gone && text.is_title() {
                tx.execute(REMOVE_TITLE, deletion).unwrap();
            } else if is_gone {
                let message = "DELETE FROM messages WHERE seq = ?1";
                tx.execute(message, [text.seq]).unwrap();
                if draws.below(3) > 0 {
                    tx.execute(REMOVE_MESSAGE, deletion).unwrap();
                }
            }
            !is_gone
        });
        let mut said = IndexedText::new();
        for text in texts.iter().filter(|text| text.tenant == TenantNo(1)) {
            for word in WORDS_SAID.iter().filter(|word| text.words.contains(*word)) {
                said.entry(word).or_default().insert(text.session);
            }
        }
        (file, said)
    }

    #[test]
    fn a_search_finds_what_a_reading_of_everything_finds_newest_first_whatever_it_reads_at_a_time()
    {
        let mut draws = Draws(7);
        let mut found = 0;
        for _ in 0..20 {
            let (file, said) = talks(&mut draws);
            let reader = Reader::on(Session::of(&file));
            for looked_for in 1..1 << WORDS_SAID.len() {
                let words: Vec<String> = WORDS_SAID
                    .iter()
                    .enumerate()
                    .filter(|(place, _)| looked_for & 1 << place != 0)
                    .map(|(_, word)| (*word).to_owned())
                    .collect();
                let mut wanted: BTreeSet<i64> = (1..400).collect();
                for word in &words {
                    let of_word = said.get(word.as_str()).cloned().unwrap_or_default();
                    wanted.retain(|session| of_word.contains(session));
                }
                let wanted: Vec<i64> = wanted.into_iter().rev().collect();
                for span in [1, 2, 7, 64, FIRST_SPAN] {
                    let mut matches =
                        Matches::of(&reader, TenantNo(1), &words, Tick(i64::MAX)).unwrap();
                    matches.span = span;
                    let mut got = Vec::new();
                    while let Some(some) = matches.more().unwrap() {
                        got.extend(some.map(|session| session.0));
                    }
                    assert_eq!(got, wanted, "{words:?} by {span}");
                }
                found += wanted.len();
            }
        }
        assert!(found > 1_000, "{found}");
    }

    #[test]
    fn a_common_word_s_newest_sessions_are_found_without_reading_the_others() {
        let (file, said) = talks(&mut Draws(11));
        let reader = Reader::on(Session::of(&file));
        let mut matches = Matches::of(
            &reader,
            TenantNo(1),
            &["everywhere".to_owned()],
            Tick(i64::MAX),
        )
        .unwrap();
        matches.span = 8;
        let mut got = Vec::new();
        while got.is_empty() {
            got.extend(matches.more().unwrap().unwrap().map(|session| session.0));
        }
        assert_eq!(got[0], *said["everywhere"].last().unwrap());
        assert!(matches.read_from > Tick(300));
    }
}
