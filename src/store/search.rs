//! Full-text search over titles and messages, separately for each tenant.

use std::collections::{BTreeMap, HashMap};

use super::search_index::scope;
use super::sql::{Reader, Row};
use crate::error::{Code, Result};
use crate::model::ids::Tick;
use crate::model::names::TenantNo;
use crate::terms::Phrase;

/// The most words of a query.
pub const MAX_WORDS: usize = 16;
/// Ticks that the first step of a search covers. The later steps grow by [`SPAN_FACTOR`], so that a
/// search for a frequent word ends soon, and twenty steps cover everything.
const FIRST_SPAN: i64 = Tick::new(4_000, 0).0;
const SPAN_FACTOR: i64 = 4;
/// Postings in a step after which the next step is smaller instead: what a step has read is held
/// in memory.
const STEP_POSTINGS: usize = if cfg!(test) { 16 } else { 16_384 };
/// Sessions that a search may hold in memory, and texts of one step: some 25 MB each. A search that
/// has to hold more is refused.
const MAX_FOUND: usize = 1 << 19;
/// Postings of a phrase that a search reads at first. Most phrases have fewer.
const FIRST_POSTINGS: usize = if cfg!(test) { 8 } else { 256 };
/// Older than every posting.
const BEFORE_ALL: Tick = Tick(0);

/// The FTS5 expression for a tenant's texts with a phrase. In quotes, no term is an operator.
fn expression(tenant: TenantNo, phrase: &Phrase) -> String {
    let beginning = if phrase.is_prefix { " *" } else { "" };
    let terms = phrase.terms.join(" ");
    format!(
        "scope : \"{}\" AND words : \"{terms}\"{beginning}",
        scope(tenant)
    )
}

/// The messages with a phrase, in a range of ticks, and their sessions.
///
/// In ascending order: after any deletion, a descending read walks all postings of the phrase,
/// whatever the range.
pub const MESSAGES_WITH: &str = "
SELECT f.rowid AS posting, m.session_seq AS session_seq
FROM message_search f CROSS JOIN messages m ON m.seq = f.rowid
WHERE message_search MATCH ?1 AND f.rowid >= ?2 AND f.rowid < ?3";
/// The sessions of the titles with a phrase, in a range of ticks.
pub const TITLES_WITH: &str = "
SELECT rowid AS posting, rowid AS session_seq FROM title_search WHERE title_search MATCH ?1 AND rowid >= ?2 AND rowid < ?3";
const FIRST_MESSAGES_WITH: &str = "
SELECT f.rowid AS posting, m.session_seq AS session_seq
FROM message_search f CROSS JOIN messages m ON m.seq = f.rowid
WHERE message_search MATCH ?1 ORDER BY f.rowid LIMIT ?2";
const FIRST_TITLES_WITH: &str = "
SELECT rowid AS posting, rowid AS session_seq FROM title_search WHERE title_search MATCH ?1 ORDER BY rowid LIMIT ?2";
const NEWEST_SESSION: &str = "
SELECT max(coalesce((SELECT max(seq) FROM sessions WHERE tenant_no = ?1 AND archived = 0), 0),
           coalesce((SELECT max(seq) FROM sessions WHERE tenant_no = ?1 AND archived = 1), 0)) AS newest";

/// The postings of a phrase in one of the two indexes.
struct Postings {
    sql: &'static str,
    expression: String,
    /// The phrase's bit in the set of phrases.
    bit: u32,
    /// The oldest posting; none if the first read returned all postings.
    oldest: Option<Tick>,
}

/// A message, or a title, which has the tick of its session.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Posting {
    session: Tick,
    text: Tick,
}

/// What was found in a session so far.
#[derive(Clone, Copy, Default)]
struct Found {
    /// The phrases of title and messages.
    phrases: u32,
    /// How many phrases the best message has.
    best_count: u32,
    /// The message with the most phrases, of several the newest.
    best: Tick,
}

impl Found {
    fn add(&mut self, posting: Posting, phrases: u32) {
        self.phrases |= phrases;
        let rank = (phrases.count_ones(), posting.text);
        if posting.text != posting.session && rank > (self.best_count, self.best) {
            (self.best_count, self.best) = rank;
        }
    }
}

/// A session that has all phrases.
pub(super) struct Match {
    pub(super) session: Tick,
    /// The message with the most phrases. None if only the title has some.
    pub(super) message: Option<Tick>,
}

/// A search for a tenant's sessions whose title and messages contain all phrases.
///
/// The search goes back in steps, from the newest session to the oldest, and reads only as much of
/// the index as the caller asks for.
pub(super) struct SessionSearch<'a> {
    reader: &'a Reader<'a>,
    postings: Vec<Postings>,
    /// What was found so far in each session whose postings are not all read.
    found: BTreeMap<Tick, Found>,
    /// The phrases of the texts that the first reads returned.
    first: HashMap<Posting, u32>,
    all_phrases: u32,
    /// All postings from this tick on are read.
    read_from: Tick,
    /// Where the first step starts.
    start: Tick,
    /// Ticks that the next step covers.
    span: i64,
}

impl<'a> SessionSearch<'a> {
    /// Starts a search at `before`. The first step can return newer sessions too.
    pub(super) fn new(
        reader: &'a Reader<'a>,
        tenant: TenantNo,
        phrases: &[Phrase],
        before: Tick,
    ) -> Result<Self> {
        let newest: Tick = reader.one(NEWEST_SESSION, [tenant], |row| row.get("newest"))?;
        let mut search = Self {
            reader,
            postings: Vec::with_capacity(2 * phrases.len()),
            found: BTreeMap::new(),
            first: HashMap::new(),
            all_phrases: 0,
            read_from: Tick(i64::MAX),
            start: newest.min(before),
            span: FIRST_SPAN,
        };
        for (index, phrase) in phrases.iter().enumerate() {
            let bit = 1 << index;
            search.all_phrases |= bit;
            for (first, rest) in [
                (FIRST_MESSAGES_WITH, MESSAGES_WITH),
                (FIRST_TITLES_WITH, TITLES_WITH),
            ] {
                search.read_first(first, rest, expression(tenant, phrase), bit)?;
            }
        }
        for (posting, phrases) in &search.first {
            let found = search.found.entry(posting.session).or_default();
            found.add(*posting, *phrases);
        }
        Ok(search)
    }

    /// Reads the first postings of a phrase.
    fn read_first(
        &mut self,
        first: &str,
        rest: &'static str,
        expression: String,
        bit: u32,
    ) -> Result<()> {
        let (mut oldest, mut count) = (None, 0);
        self.reader
            .each(first, (&expression, FIRST_POSTINGS), |row| {
                let posting = posting(row)?;
                oldest.get_or_insert(posting.text);
                count += 1;
                *self.first.entry(posting).or_default() |= bit;
                Ok(())
            })?;
        self.postings.push(Postings {
            sql: rest,
            expression,
            bit,
            oldest: oldest.filter(|_| count == FIRST_POSTINGS),
        });
        Ok(())
    }

    /// Takes the next step. Returns the sessions that the step found, newest first, or `None` after
    /// the last step. A step may find no session.
    ///
    /// A message is younger than its session, and a title has the tick of its session. So all
    /// postings of a session are read as soon as the search has passed the session's tick.
    pub(super) fn step(&mut self) -> Result<Option<impl Iterator<Item = Match>>> {
        if self.read_from <= BEFORE_ALL {
            return Ok(None);
        }
        let end = self.read_from;
        self.read_from = Tick(end.min(self.start).0.saturating_sub(self.span));
        let mut read: HashMap<Posting, u32> = HashMap::new();
        for postings in self.postings.iter().filter(|one| one.oldest.is_some()) {
            let params = (&postings.expression, self.read_from, end);
            self.reader.each(postings.sql, params, |row| {
                *read.entry(posting(row)?).or_default() |= postings.bit;
                if read.len() > MAX_FOUND {
                    return Err(Code::Overloaded.into());
                }
                Ok(())
            })?;
        }
        self.span = if read.len() > STEP_POSTINGS {
            (self.span / SPAN_FACTOR).max(1)
        } else {
            self.span.saturating_mul(SPAN_FACTOR)
        };
        for (posting, phrases) in read {
            let first = self.first.get(&posting).copied().unwrap_or_default();
            let found = self.found.entry(posting.session).or_default();
            found.add(posting, phrases | first);
        }
        if self.found.len() > MAX_FOUND {
            return Err(Code::Overloaded.into());
        }
        let has_more = |one: &&Postings| one.oldest.is_some_and(|oldest| oldest < self.read_from);
        let unread = self.postings.iter().filter(has_more);
        let read_phrases = unread.fold(self.all_phrases, |phrases, one| phrases & !one.bit);
        // All postings of these phrases are read: a session without one of them cannot match.
        self.found
            .retain(|_, found| found.phrases & read_phrases == read_phrases);
        if read_phrases == self.all_phrases || read_phrases > 0 && self.found.is_empty() {
            self.read_from = BEFORE_ALL;
        }
        let all_phrases = self.all_phrases;
        let complete = self.found.split_off(&self.read_from);
        let newest_first = complete.into_iter().rev();
        Ok(Some(newest_first.filter_map(move |(session, found)| {
            (found.phrases == all_phrases).then_some(Match {
                session,
                message: (found.best_count > 0).then_some(found.best),
            })
        })))
    }
}

fn posting(row: &Row<'_>) -> Result<Posting> {
    Ok(Posting {
        text: row.get("posting")?,
        session: row.get("session_seq")?,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rusqlite::Connection;

    use super::*;
    use crate::model::ids::Ticker;
    use crate::store::search_index::{REMOVE_MESSAGE, REMOVE_TITLE, add_message, add_title};
    use crate::store::sql::{Effects, Extent, Random, WriteTx};
    use crate::store::sqlite::Session;
    use crate::terms;

    #[test]
    fn a_phrase_is_searched_within_its_tenant_and_its_last_term_may_be_a_beginning() {
        let expressions = |query: &str| -> Vec<String> {
            let phrases = terms::phrases(query);
            let expressions = phrases.iter().map(|one| expression(TenantNo(5), one));
            expressions.collect()
        };
        assert_eq!(
            expressions("a\" scope:\"t6"),
            [
                "scope : \"t5\" AND words : \"a\"",
                "scope : \"t5\" AND words : \"scope t6\" *",
            ]
        );
    }

    /// The sessions that contain each word, in the title or in a message.
    type SessionsByWord = BTreeMap<&'static str, BTreeSet<i64>>;

    const VOCABULARY: [&str; 4] = ["everywhere", "often", "seldom", "never"];

    /// A generator with the same numbers in every run.
    struct Xorshift(u64);

    impl Xorshift {
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

    /// A database with indexed titles and messages. Some of them are deleted, and some of those are
    /// still in the index. A second tenant uses every word everywhere.
    fn indexed_sessions(random: &mut Xorshift) -> (Connection, SessionsByWord) {
        let file = Connection::open_in_memory().unwrap();
        // With small pages, so that the postings of a word take many of them.
        file.execute_batch(
            "CREATE TABLE messages (seq INTEGER PRIMARY KEY, session_seq INTEGER NOT NULL);
             CREATE TABLE sessions (seq INTEGER PRIMARY KEY, tenant_no INTEGER NOT NULL, archived INTEGER NOT NULL);
             CREATE VIRTUAL TABLE message_search USING fts5 (scope, words, content = '', tokenize = 'ascii');
             CREATE VIRTUAL TABLE title_search USING fts5 (scope, words, content = '', tokenize = 'ascii');
             INSERT INTO message_search (message_search, rank) VALUES ('secure-delete', 1), ('pgsz', 64);
             INSERT INTO title_search (title_search, rank) VALUES ('secure-delete', 1), ('pgsz', 64);",
        )
        .unwrap();
        let (ticker, mut id_random, mut effects) = (
            Ticker::after(Tick(0)),
            Random::default(),
            Effects::default(),
        );
        let tx = WriteTx::on(
            Session::of(&file),
            Extent::Configuration,
            &ticker,
            &mut id_random,
            0,
            &mut effects,
        );
        let mut texts: Vec<Text> = Vec::new();
        let mut sessions = Vec::new();
        for seq in 1..400 {
            let is_session = sessions.is_empty() || random.below(3) == 0;
            if is_session {
                sessions.push(seq);
            }
            let session = match random.below(4) {
                // Most messages belong to the newest session.
                0 if !is_session => sessions[random.below(sessions.len() as u64) as usize],
                _ => sessions[sessions.len() - 1],
            };
            let is_ours = session % 5 != 0;
            let rarities = [1, 3, 40].iter().zip(VOCABULARY);
            let words: Vec<&str> = rarities
                .filter_map(|(rarity, word)| (random.below(*rarity) == 0).then_some(word))
                .collect();
            let text = Text {
                seq,
                session,
                tenant: TenantNo(if is_ours { 1 } else { 2 }),
                words: if is_ours { &words } else { &VOCABULARY[..] }.join(" "),
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
        let first_deleted = random.below(300) as i64;
        let deleted = first_deleted..first_deleted + 60;
        texts.retain(|text| {
            let is_deleted = deleted.contains(&text.seq) || random.below(8) == 0;
            let deletion = (Tick(text.seq), scope(text.tenant), &text.words);
            if is_deleted && text.is_title() {
                tx.execute(REMOVE_TITLE, deletion).unwrap();
            } else if is_deleted {
                let message = "DELETE FROM messages WHERE seq = ?1";
                tx.execute(message, [text.seq]).unwrap();
                if random.below(3) > 0 {
                    tx.execute(REMOVE_MESSAGE, deletion).unwrap();
                }
            }
            !is_deleted
        });
        let mut sessions = SessionsByWord::new();
        for text in texts.iter().filter(|text| text.tenant == TenantNo(1)) {
            for word in VOCABULARY.iter().filter(|word| text.words.contains(*word)) {
                sessions.entry(word).or_default().insert(text.session);
            }
        }
        (file, sessions)
    }

    #[test]
    fn a_search_with_any_step_finds_the_sessions_of_a_full_scan_newest_first() {
        let mut random = Xorshift(7);
        let mut found = 0;
        for _ in 0..20 {
            let (file, sessions) = indexed_sessions(&mut random);
            let reader = Reader::on(Session::of(&file));
            for query in 1..1 << VOCABULARY.len() {
                let words: Vec<String> = VOCABULARY
                    .iter()
                    .enumerate()
                    .filter(|(index, _)| query & 1 << index != 0)
                    .map(|(_, word)| (*word).to_owned())
                    .collect();
                let mut expected: BTreeSet<i64> = (1..400).collect();
                for word in &words {
                    let of_word = sessions.get(word.as_str()).cloned().unwrap_or_default();
                    expected.retain(|session| of_word.contains(session));
                }
                let expected: Vec<i64> = expected.into_iter().rev().collect();
                for span in [1, 2, 7, 64, FIRST_SPAN] {
                    let phrases = terms::phrases(&words.join(" "));
                    let mut search =
                        SessionSearch::new(&reader, TenantNo(1), &phrases, Tick(i64::MAX)).unwrap();
                    search.span = span;
                    let mut actual = Vec::new();
                    while let Some(matches) = search.step().unwrap() {
                        actual.extend(matches.map(|found| found.session.0));
                    }
                    assert_eq!(actual, expected, "{words:?} by {span}");
                }
                found += expected.len();
            }
        }
        assert!(found > 1_000, "{found}");
    }

    #[test]
    fn the_newest_sessions_with_a_frequent_word_are_found_without_reading_the_others() {
        let (file, sessions) = indexed_sessions(&mut Xorshift(11));
        let reader = Reader::on(Session::of(&file));
        let mut search = SessionSearch::new(
            &reader,
            TenantNo(1),
            &terms::phrases("everywhere"),
            Tick(i64::MAX),
        )
        .unwrap();
        search.span = 8;
        let mut found = Vec::new();
        while found.is_empty() {
            found.extend(search.step().unwrap().unwrap().map(|found| found.session.0));
        }
        assert_eq!(found[0], *sessions["everywhere"].last().unwrap());
        assert!(search.read_from > Tick(300));
    }
}
