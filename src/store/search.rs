//! Full-text search over titles and messages, separately for each tenant.

use std::collections::{BTreeMap, HashMap};

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

/// The messages, and the titles, in which a search reads every text before it asks an index for
/// words. A page of a frequent word is complete then.
const NEWEST_TEXTS: usize = if cfg!(test) { 16 } else { 4_096 };

/// How a search reads an engine's index. Each pair of texts is one for messages and one for titles,
/// whose rows have `posting` and `session_seq`.
pub(super) struct Spelling {
    /// What stands for a tenant's texts with a phrase: the first parameter of the texts.
    pub(super) expression: fn(TenantNo, &Phrase) -> String,
    /// How the newest texts are read. None if a range of an index costs no more than its postings.
    pub(super) newest: Option<Newest>,
    /// The first postings of a phrase, up to a number.
    pub(super) first: [&'static str; 2],
    /// The postings of a phrase in a range of ticks.
    pub(super) rest: [&'static str; 2],
    /// Whether the first postings are the oldest, in ascending order.
    pub(super) is_oldest_first: bool,
}

/// How a search reads the newest texts.
#[derive(Clone, Copy)]
pub(super) struct Newest {
    /// The tick from which on there are up to a number of messages and of titles.
    pub(super) from: &'static str,
    /// The texts with a phrase, in a range of ticks.
    pub(super) texts: [&'static str; 2],
}

const NEWEST_SESSION: &str = "
SELECT coalesce(max(half.newest), 0) AS newest
FROM (SELECT max(seq) AS newest FROM sessions WHERE tenant_no = ?1 AND archived = 0
      UNION ALL SELECT max(seq) FROM sessions WHERE tenant_no = ?1 AND archived = 1) AS half";

/// The postings of a phrase in one of the two indexes.
struct Postings {
    /// 0 for messages, 1 for titles.
    texts: usize,
    expression: String,
    /// The phrase's bit in the set of phrases.
    bit: u32,
    /// A tick up to the oldest posting; none if the first read returned all postings.
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
    spelling: &'static Spelling,
    /// Set if the next step reads the newest texts.
    newest: Option<Newest>,
    /// Whether the first postings are read.
    has_first: bool,
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
        let spelling = reader.search_index().spelling();
        let mut search = Self {
            reader,
            spelling,
            newest: spelling.newest,
            has_first: false,
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
            for texts in [0, 1] {
                search.postings.push(Postings {
                    texts,
                    expression: (spelling.expression)(tenant, phrase),
                    bit,
                    oldest: Some(BEFORE_ALL),
                });
            }
        }
        Ok(search)
    }

    /// Reads the first postings of each phrase.
    fn read_first(&mut self) -> Result<()> {
        self.has_first = true;
        for postings in &mut self.postings {
            let params = (&postings.expression, FIRST_POSTINGS);
            let sql = self.spelling.first[postings.texts];
            let first = self.reader.all(sql, params, posting)?;
            postings.oldest = match first.first() {
                Some(oldest) if first.len() == FIRST_POSTINGS => {
                    let is_oldest = self.spelling.is_oldest_first;
                    Some(if is_oldest { oldest.text } else { BEFORE_ALL })
                }
                Some(_) | None => None,
            };
            for posting in first {
                *self.first.entry(posting).or_default() |= postings.bit;
            }
        }
        for (posting, phrases) in &self.first {
            // Newer sessions were found in an earlier step.
            if posting.session < self.read_from {
                let found = self.found.entry(posting.session).or_default();
                found.add(*posting, *phrases);
            }
        }
        Ok(())
    }

    /// Reads the newest texts, if the search begins there and this is its first step.
    fn read_newest(&mut self) -> Result<Option<HashMap<Posting, u32>>> {
        let Some(newest) = self.newest.take() else {
            return Ok(None);
        };
        let from = |row: &Row<'_>| row.get("newest_from");
        let from: Tick = self.reader.one(newest.from, [NEWEST_TEXTS], from)?;
        if from >= self.start {
            return Ok(None);
        }
        let mut read: HashMap<Posting, u32> = HashMap::new();
        for postings in &self.postings {
            let params = (&postings.expression, from, self.read_from);
            let sql = newest.texts[postings.texts];
            for posting in self.reader.all(sql, params, posting)? {
                *read.entry(posting).or_default() |= postings.bit;
            }
        }
        self.read_from = from;
        let span = (self.start.0 - from.0).saturating_mul(SPAN_FACTOR);
        self.span = self.span.max(span);
        Ok(Some(read))
    }

    /// Reads the postings of the next range of ticks.
    fn read_next(&mut self) -> Result<HashMap<Posting, u32>> {
        if !self.has_first {
            self.read_first()?;
        }
        let end = self.read_from;
        self.read_from = Tick(end.min(self.start).0.saturating_sub(self.span));
        let mut read: HashMap<Posting, u32> = HashMap::new();
        for postings in self.postings.iter().filter(|one| one.oldest.is_some()) {
            let params = (&postings.expression, self.read_from, end);
            let sql = self.spelling.rest[postings.texts];
            self.reader.each(sql, params, |row| {
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
        Ok(read)
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
        let read = match self.read_newest()? {
            Some(read) => read,
            None => self.read_next()?,
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
    use crate::store::postgres::scratch::Scratch;
    use crate::store::search_index::{self, Index, add_title};
    use crate::store::sql::{Effects, Extent, Random, Session as Engine, WriteTx};
    use crate::store::sqlite;
    use crate::store::sqlite::search_texts::{ADD_MESSAGE, REMOVE_MESSAGE, REMOVE_TITLE, scope};
    use crate::terms;

    /// An empty database with the tables of a search.
    enum Database {
        Sqlite(Connection),
        Postgres(Scratch),
    }

    impl Database {
        /// With small pages, so that the postings of a word take many of them.
        fn sqlite() -> Self {
            let file = Connection::open_in_memory().unwrap();
            file.execute_batch(
                "CREATE TABLE messages (seq INTEGER PRIMARY KEY, session_seq INTEGER NOT NULL);
                 CREATE TABLE sessions (seq INTEGER PRIMARY KEY, tenant_no INTEGER NOT NULL, archived INTEGER NOT NULL);
                 CREATE VIRTUAL TABLE message_search USING fts5 (scope, words, content = '', tokenize = 'ascii');
                 CREATE VIRTUAL TABLE title_search USING fts5 (scope, words, content = '', tokenize = 'ascii');
                 INSERT INTO message_search (message_search, rank) VALUES ('secure-delete', 1), ('pgsz', 64);
                 INSERT INTO title_search (title_search, rank) VALUES ('secure-delete', 1), ('pgsz', 64);",
            )
            .unwrap();
            Self::Sqlite(file)
        }

        fn postgres() -> Self {
            Self::Postgres(Scratch::with(
                "CREATE TABLE messages (seq bigint PRIMARY KEY, session_seq bigint NOT NULL);
                 CREATE TABLE sessions (seq bigint PRIMARY KEY, tenant_no bigint NOT NULL, archived bigint NOT NULL);
                 CREATE TABLE message_search (seq bigint, part bigint, session_seq bigint NOT NULL, words tsvector NOT NULL, PRIMARY KEY (seq, part));
                 CREATE INDEX message_search_words ON message_search USING gin (words);
                 CREATE TABLE title_search (seq bigint, part bigint, words tsvector NOT NULL, PRIMARY KEY (seq, part));
                 CREATE INDEX title_search_words ON title_search USING gin (words)",
            ))
        }

        fn session(&self) -> Engine<'_> {
            match self {
                Self::Sqlite(file) => Engine::Sqlite(sqlite::Session::of(file)),
                Self::Postgres(scratch) => Engine::Postgres(scratch.session()),
            }
        }
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

    const ADD_SESSION: &str =
        "INSERT INTO sessions (seq, tenant_no, archived) VALUES (?1, ?2, ?1 % 2)";
    const STORE_MESSAGE: &str = "INSERT INTO messages (seq, session_seq) VALUES (?1, ?2)";
    const DELETE_MESSAGE: &str = "DELETE FROM messages WHERE seq = ?1";

    fn add(tx: &WriteTx<'_>, text: &Text) {
        let (tenant, seq) = (text.tenant, Tick(text.seq));
        if text.is_title() {
            tx.execute(ADD_SESSION, (seq, tenant)).unwrap();
            add_title(tx, tenant, seq, &text.words).unwrap();
            return;
        }
        let session = Tick(text.session);
        tx.execute(STORE_MESSAGE, (seq, session)).unwrap();
        match tx.reader().search_index() {
            Index::Fts5 => {
                tx.execute(ADD_MESSAGE, (seq, scope(tenant), &text.words))
                    .unwrap();
            }
            Index::Tsvector => {
                search_index::add_message(tx, tenant, session, seq, &text.words).unwrap();
            }
        }
    }

    /// Deletes a title or a message. The words of some messages stay in FTS5.
    fn delete(tx: &WriteTx<'_>, text: &Text, keeps_words: bool) {
        let (tenant, seq) = (text.tenant, Tick(text.seq));
        let terms = (seq, scope(tenant), &text.words);
        let index = tx.reader().search_index();
        match (index, text.is_title()) {
            (Index::Fts5, true) => drop(tx.execute(REMOVE_TITLE, terms).unwrap()),
            (Index::Fts5, false) if keeps_words => {}
            (Index::Fts5, false) => drop(tx.execute(REMOVE_MESSAGE, terms).unwrap()),
            (Index::Tsvector, true) => {
                let title = Some(text.words.as_str());
                search_index::replace_title(tx, tenant, seq, title, None).unwrap();
            }
            (Index::Tsvector, false) => {
                let indexed = Tick(0)..=Tick(0);
                search_index::remove_message(tx, tenant, indexed, seq, &text.words).unwrap();
            }
        }
        if !text.is_title() {
            tx.execute(DELETE_MESSAGE, [seq]).unwrap();
        }
    }

    /// Indexes titles and messages. Some of them are deleted, and some of those are still in the
    /// index. A second tenant uses every word everywhere.
    fn index_sessions(database: &Database, random: &mut Xorshift) -> SessionsByWord {
        let (ticker, mut id_random, mut effects) = (
            Ticker::after(Tick(0)),
            Random::default(),
            Effects::default(),
        );
        let tx = WriteTx::on(
            database.session(),
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
            add(&tx, &text);
            texts.push(text);
        }
        let first_deleted = random.below(300) as i64;
        let deleted = first_deleted..first_deleted + 60;
        texts.retain(|text| {
            let is_deleted = deleted.contains(&text.seq) || random.below(8) == 0;
            if is_deleted {
                delete(&tx, text, random.below(3) == 0);
            }
            !is_deleted
        });
        let mut sessions = SessionsByWord::new();
        for text in texts.iter().filter(|text| text.tenant == TenantNo(1)) {
            for word in VOCABULARY.iter().filter(|word| text.words.contains(*word)) {
                sessions.entry(word).or_default().insert(text.session);
            }
        }
        sessions
    }

    /// Compares searches, with the first step of each of these spans, with full scans.
    fn assert_finds_what_a_scan_finds(
        database: impl Fn() -> Database,
        rounds: usize,
        spans: &[i64],
    ) {
        let mut random = Xorshift(7);
        let mut found = 0;
        for _ in 0..rounds {
            let database = database();
            let sessions = index_sessions(&database, &mut random);
            let reader = Reader::on(database.session());
            for query in 1..1 << VOCABULARY.len() {
                let words: Vec<&str> = VOCABULARY
                    .into_iter()
                    .enumerate()
                    .filter(|(index, _)| query & 1 << index != 0)
                    .map(|(_, word)| word)
                    .collect();
                let mut expected: BTreeSet<i64> = (1..400).collect();
                for word in &words {
                    let of_word = sessions.get(word).cloned().unwrap_or_default();
                    expected.retain(|session| of_word.contains(session));
                }
                let phrases = terms::phrases(&words.join(" "));
                for before in [i64::MAX, 333] {
                    let expected: Vec<i64> = expected.range(..before).rev().copied().collect();
                    for span in spans {
                        let mut search =
                            SessionSearch::new(&reader, TenantNo(1), &phrases, Tick(before))
                                .unwrap();
                        search.span = *span;
                        let mut actual = Vec::new();
                        while let Some(matches) = search.step().unwrap() {
                            actual.extend(matches.map(|found| found.session.0));
                        }
                        actual.retain(|session| *session < before);
                        assert_eq!(actual, expected, "{words:?} by {span} before {before}");
                    }
                    found += expected.len();
                }
            }
        }
        assert!(found > 100 * rounds, "{found}");
    }

    #[test]
    fn a_search_with_any_step_finds_the_sessions_of_a_full_scan_newest_first() {
        assert_finds_what_a_scan_finds(Database::sqlite, 20, &[1, 2, 7, 64, FIRST_SPAN]);
    }

    #[test]
    fn on_postgres_a_search_finds_the_sessions_of_a_full_scan_newest_first() {
        assert_finds_what_a_scan_finds(Database::postgres, 4, &[32, FIRST_SPAN]);
    }

    #[test]
    fn the_newest_sessions_with_a_frequent_word_are_found_without_reading_the_others() {
        for database in [Database::sqlite(), Database::postgres()] {
            let sessions = index_sessions(&database, &mut Xorshift(11));
            let reader = Reader::on(database.session());
            let phrases = terms::phrases("everywhere");
            let mut search =
                SessionSearch::new(&reader, TenantNo(1), &phrases, Tick(i64::MAX)).unwrap();
            search.span = 8;
            let mut found = Vec::new();
            while found.is_empty() {
                found.extend(search.step().unwrap().unwrap().map(|found| found.session.0));
            }
            assert_eq!(found[0], *sessions["everywhere"].last().unwrap());
            assert!(search.read_from > Tick(300));
        }
    }
}
