//! Full-text search over titles and messages, each tenant's words apart.

use super::sqlite::Reader;
use super::{Store, WriteTx};
use crate::error::Result;
use crate::model::ids::Tick;
use crate::model::names::TenantNo;

/// Messages that one change adds, so that appends wait for little.
const BATCH: usize = 256;
/// Words of a query that count.
const WORDS: usize = 16;

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

const MESSAGES_WITH: &str = "
SELECT DISTINCT m.session_seq AS session_seq FROM message_search f JOIN messages m ON m.seq = f.rowid
WHERE message_search MATCH ?1";
const TITLES_WITH: &str =
    "SELECT rowid AS session_seq FROM title_search WHERE title_search MATCH ?1";

/// A tenant's sessions whose title or messages hold a word, in no order.
pub(super) fn sessions_with(
    reader: &Reader<'_>,
    tenant: TenantNo,
    word: &str,
) -> Result<Vec<Tick>> {
    let expression = expression(tenant, word);
    let mut sessions: Vec<Tick> =
        reader.all(MESSAGES_WITH, [&expression], |row| row.get("session_seq"))?;
    sessions.extend(reader.all::<Tick>(TITLES_WITH, [&expression], |row| row.get("session_seq"))?);
    Ok(sessions)
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
}
