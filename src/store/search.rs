//! Full-text search over titles and messages, each tenant's words apart.

use std::collections::BTreeMap;

use super::sqlite::Reader;
use super::{Store, WriteTx};
use crate::error::Result;
use crate::model::ids::Tick;
use crate::model::names::TenantNo;

/// Messages that one change adds, so that appends wait for little.
const BATCH: usize = 256;
/// Words of a query that count.
const WORDS: usize = 16;
/// Postings that are read at one time: few, so that a common word is soon answered, and more and more for a rare one.
const FIRST_CHUNK: usize = 256;
const LARGEST_CHUNK: usize = 16_384;
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

/// A word's newest messages before a place, and the sessions that they are of.
pub const MESSAGES_WITH: &str = "
SELECT f.rowid AS posting, m.session_seq AS session_seq
FROM message_search f CROSS JOIN messages m ON m.seq = f.rowid
WHERE message_search MATCH ?1 AND f.rowid < ?2 ORDER BY f.rowid DESC LIMIT ?3";
/// A word's newest titles before a place, and their sessions.
pub const TITLES_WITH: &str = "
SELECT rowid AS posting, rowid AS session_seq FROM title_search
WHERE title_search MATCH ?1 AND rowid < ?2 ORDER BY rowid DESC LIMIT ?3";

/// Where a word is found in one of the indexes, read from its newest posting on.
struct Postings {
    sql: &'static str,
    expression: String,
    /// The word's bit in what is known of a session.
    word: u32,
    /// Everything from here on was read.
    read_from: Tick,
}

/// A tenant's sessions whose title and messages hold all of the words, newest first: no more of the index is read than it
/// takes to find those that are asked for.
pub(super) struct Matches<'a> {
    reader: &'a Reader<'a>,
    postings: Vec<Postings>,
    /// Which words were found so far in sessions about which not everything is known.
    found: BTreeMap<Tick, u32>,
    all_words: u32,
    chunk: usize,
}

impl<'a> Matches<'a> {
    pub(super) fn of(reader: &'a Reader<'a>, tenant: TenantNo, words: &[String]) -> Self {
        let mut postings = Vec::new();
        let mut all_words = 0;
        for (place, word) in words.iter().enumerate() {
            let word_bit = 1 << place;
            all_words |= word_bit;
            postings.extend([MESSAGES_WITH, TITLES_WITH].map(|sql| Postings {
                sql,
                expression: expression(tenant, word),
                word: word_bit,
                read_from: Tick(i64::MAX),
            }));
        }
        Self {
            reader,
            postings,
            found: BTreeMap::new(),
            all_words,
            chunk: FIRST_CHUNK,
        }
    }

    /// Some more of them, or none at all; nothing, once there are no more.
    ///
    /// A message is younger than its session, and a title is kept under the session's own number: of a session that is not
    /// older than what was read of every word, everything is known.
    pub(super) fn more(&mut self) -> Result<Option<impl Iterator<Item = Tick>>> {
        let behind = self.postings.iter_mut().max_by_key(|one| one.read_from);
        let Some(behind) = behind.filter(|one| one.read_from > BEFORE_ALL) else {
            return Ok(None);
        };
        let params = (&behind.expression, behind.read_from, self.chunk);
        let (mut read, mut last) = (0, BEFORE_ALL);
        self.reader.each(behind.sql, params, |row| {
            *self.found.entry(row.get("session_seq")?).or_default() |= behind.word;
            (read, last) = (read + 1, row.get("posting")?);
            Ok(())
        })?;
        behind.read_from = if read < self.chunk { BEFORE_ALL } else { last };
        self.chunk = (self.chunk * 2).min(LARGEST_CHUNK);
        self.leave_out_hopeless();
        let known_from = self.postings.iter().map(|one| one.read_from).max();
        let known = self.found.split_off(&known_from.unwrap_or(BEFORE_ALL));
        let all_words = self.all_words;
        let newest_first = known.into_iter().rev();
        Ok(Some(newest_first.filter_map(move |(session, words)| {
            (words == all_words).then_some(session)
        })))
    }

    /// Once a word was read to its end, only sessions that it was found in are of interest; without any the search is over.
    fn leave_out_hopeless(&mut self) {
        let unread = self
            .postings
            .iter()
            .filter(|one| one.read_from > BEFORE_ALL);
        let wanted = unread.fold(self.all_words, |words, one| words & !one.word);
        if wanted == 0 {
            return;
        }
        self.found.retain(|_, words| *words & wanted == wanted);
        if self.found.is_empty() {
            self.postings.clear();
        }
    }
}

const HAS_TITLE: &str = "SELECT 1 FROM title_search WHERE rowid = ?1";
const ADD_TITLE: &str = "INSERT INTO title_search (rowid, scope, words) VALUES (?1, ?2, ?3)";
const REMOVE_TITLE: &str = "
INSERT INTO title_search (title_search, rowid, scope, words) VALUES ('delete', ?1, ?2, ?3)";

pub(super) fn add_title(
    reader: &Reader<'_>,
    tenant: TenantNo,
    session: Tick,
    title: &str,
) -> Result<()> {
    reader
        .execute(ADD_TITLE, (session, scope(tenant), title))
        .map(drop)
}

/// Puts the title into the index that a session takes from its first message, unless it is found by the message anyway.
pub(super) fn add_taken_title(
    reader: &Reader<'_>,
    tenant: TenantNo,
    session: Tick,
    title: &str,
    message: &str,
) -> Result<()> {
    if is_of_whole_words(title, message) {
        return Ok(());
    }
    add_title(reader, tenant, session, title)
}

/// Whether each word of a title that was cut from a message is one of the message's too.
fn is_of_whole_words(title: &str, message: &str) -> bool {
    let said = title.strip_suffix('…').unwrap_or(title);
    let behind = message.split_once(said).map(|(_, behind)| behind);
    behind.is_some_and(|behind| !behind.starts_with(|c: char| !c.is_whitespace()))
}

pub(super) fn replace_title(
    reader: &Reader<'_>,
    tenant: TenantNo,
    session: Tick,
    before: Option<&str>,
    title: Option<&str>,
) -> Result<()> {
    if before == title {
        return Ok(());
    }
    let is_there = reader.optional(HAS_TITLE, [session], |_| Ok(()))?.is_some();
    if let Some(before) = before.filter(|_| is_there) {
        reader.execute(REMOVE_TITLE, (session, scope(tenant), before))?;
    }
    match title {
        Some(title) => add_title(reader, tenant, session, title),
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
    reader.one(DONE, [], |row| row.get("done_seq"))
}

/// Puts one message into the index.
pub(super) fn add_message(
    reader: &Reader<'_>,
    tenant: TenantNo,
    message: Tick,
    content: &str,
) -> Result<()> {
    reader
        .execute(ADD_MESSAGE, (message, scope(tenant), content))
        .map(drop)
}

/// Takes a message out of the index, by the text that went in.
pub(super) fn remove_message(
    reader: &Reader<'_>,
    tenant: TenantNo,
    message: Tick,
    content: &str,
) -> Result<()> {
    reader
        .execute(REMOVE_MESSAGE, (message, scope(tenant), content))
        .map(drop)
}

/// Adds some of the messages that wait; whether more do.
fn add_waiting(tx: &mut WriteTx<'_>) -> Result<bool> {
    let reader = tx.reader();
    let waiting: Vec<(Tick, TenantNo, String)> =
        reader.all(WAITING, (done(reader)?, BATCH), |row| {
            Ok((row.get("seq")?, row.get("tenant_no")?, row.get("content")?))
        })?;
    for (seq, tenant, content) in &waiting {
        add_message(reader, *tenant, *seq, content)?;
    }
    if let Some((last, ..)) = waiting.last() {
        reader.execute(SET_DONE, [last])?;
    }
    Ok(waiting.len() == BATCH)
}

impl Store {
    /// Brings the index up to date, a batch at a time, so that a search finds what was acknowledged before it.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub async fn complete_search(&self) -> Result<()> {
        let behind =
            self.read(|reader| reader.one(IS_BEHIND, [], |row| row.get::<bool>("behind")))?;
        if !behind {
            return Ok(());
        }
        while self.write(add_waiting).await? {}
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rusqlite::Connection;

    use super::*;

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
    type Said = BTreeMap<&'static str, BTreeSet<i64>>;

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

    /// Sessions with titles and messages, of which another tenant says all words everywhere.
    fn talks(draws: &mut Draws) -> (Connection, Said) {
        let file = Connection::open_in_memory().unwrap();
        file.execute_batch(
            "CREATE TABLE messages (seq INTEGER PRIMARY KEY, session_seq INTEGER NOT NULL);
             CREATE VIRTUAL TABLE message_search USING fts5 (scope, words, content = '');
             CREATE VIRTUAL TABLE title_search USING fts5 (scope, words, content = '');",
        )
        .unwrap();
        let reader = Reader::within(&file);
        let mut said = Said::new();
        let mut sessions = Vec::new();
        for seq in 1..400 {
            let is_session = sessions.is_empty() || draws.below(3) == 0;
            let session = match draws.below(4) {
                _ if is_session => seq,
                // Most go on with what was opened last.
                0 => sessions[draws.below(sessions.len() as u64) as usize],
                _ => sessions[sessions.len() - 1],
            };
            let words: Vec<&str> = [1, 3, 40]
                .iter()
                .zip(WORDS_SAID)
                .filter_map(|(rarity, word)| (draws.below(*rarity) == 0).then_some(word))
                .collect();
            let is_ours = session % 5 != 0;
            let tenant = TenantNo(if is_ours { 1 } else { 2 });
            for word in words.iter().filter(|_| is_ours) {
                said.entry(word).or_default().insert(session);
            }
            let text = if is_ours {
                words.join(" ")
            } else {
                WORDS_SAID.join(" ")
            };
            if is_session {
                sessions.push(seq);
                add_title(&reader, tenant, Tick(seq), &text).unwrap();
            } else {
                let message = "INSERT INTO messages (seq, session_seq) VALUES (?1, ?2)";
                reader.execute(message, (seq, session)).unwrap();
                add_message(&reader, tenant, Tick(seq), &text).unwrap();
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
            let reader = Reader::within(&file);
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
                for chunk in [1, 2, 7, 64, FIRST_CHUNK] {
                    let mut matches = Matches::of(&reader, TenantNo(1), &words);
                    matches.chunk = chunk;
                    let mut got = Vec::new();
                    while let Some(some) = matches.more().unwrap() {
                        got.extend(some.map(|session| session.0));
                    }
                    assert_eq!(got, wanted, "{words:?} by {chunk}");
                }
                found += wanted.len();
            }
        }
        assert!(found > 1_000, "{found}");
    }

    #[test]
    fn a_common_word_s_newest_sessions_are_found_without_reading_the_others() {
        let (file, said) = talks(&mut Draws(11));
        let reader = Reader::within(&file);
        let mut matches = Matches::of(&reader, TenantNo(1), &["everywhere".to_owned()]);
        matches.chunk = 8;
        let mut got = Vec::new();
        while got.is_empty() {
            got.extend(matches.more().unwrap().unwrap().map(|session| session.0));
        }
        assert_eq!(got[0], *said["everywhere"].last().unwrap());
        assert!(matches.postings.iter().all(|one| one.read_from > Tick(300)));
    }
}
