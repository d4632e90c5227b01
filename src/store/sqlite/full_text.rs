//! A full-text index over passages with a title and a heading, in a SQLite database in memory.

use rusqlite::{Connection, params};

use crate::error::{Error, Result};
use crate::terms::{self, Phrase};

const CREATE: &str = "CREATE VIRTUAL TABLE passages USING fts5(
    title, heading, body, content = '', tokenize = 'porter ascii')";
const ADD: &str = "INSERT INTO passages (rowid, title, heading, body) VALUES (?1, ?2, ?3, ?4)";
/// A word in the title counts most, then a word in the heading, then one in the text.
const MATCHES: &str =
    "SELECT rowid, -bm25(passages, 6.0, 3.0, 1.0), -bm25(passages, 0.0, 3.0, 1.0),
    bm25(passages, 1.0, 0.0, 0.0) < 0.0, bm25(passages, 0.0, 1.0, 0.0) < 0.0
    FROM passages WHERE passages MATCH ?1";

/// A passage to index.
pub(crate) struct Passage<'a> {
    pub(crate) title: &'a str,
    pub(crate) heading: &'a str,
    pub(crate) body: &'a str,
}

/// A passage that contains the phrase.
#[derive(Debug)]
pub(crate) struct Match {
    /// The position of the passage among the indexed ones.
    pub(crate) position: usize,
    /// BM25 over title, heading and body.
    pub(crate) whole: f64,
    /// BM25 over heading and body.
    pub(crate) below_title: f64,
    pub(crate) is_in_title: bool,
    pub(crate) is_in_heading: bool,
}

/// The index of one set of passages.
#[derive(Debug)]
pub(crate) struct FullText(Connection);

impl FullText {
    /// Indexes the passages, in their order.
    ///
    /// # Errors
    /// `internal_error` if SQLite fails, for example for lack of memory.
    pub(crate) fn build<'a>(passages: impl IntoIterator<Item = Passage<'a>>) -> Result<Self> {
        let mut connection = Connection::open_in_memory().map_err(failed)?;
        connection.execute_batch(CREATE).map_err(failed)?;
        let transaction = connection.transaction().map_err(failed)?;
        {
            let mut add = transaction.prepare(ADD).map_err(failed)?;
            for (position, passage) in (0_i64..).zip(passages) {
                let [title, heading, body] =
                    [passage.title, passage.heading, passage.body].map(terms::of);
                add.execute(params![position, title, heading, body])
                    .map_err(failed)?;
            }
        }
        transaction.commit().map_err(failed)?;
        Ok(Self(connection))
    }

    /// Every passage that contains a phrase, by position. None for a phrase without a word.
    ///
    /// # Errors
    /// `internal_error` if SQLite fails.
    pub(crate) fn matches(&self, phrase: &str) -> Result<Vec<Match>> {
        let is_last = false;
        let Some(phrase) = Phrase::of(phrase, is_last) else {
            return Ok(Vec::new());
        };
        let mut select = self.0.prepare_cached(MATCHES).map_err(failed)?;
        let rows = select.query_map([expression(&phrase)], |row| {
            let position: i64 = row.get(0)?;
            Ok(Match {
                position: usize::try_from(position).unwrap_or(0),
                whole: row.get(1)?,
                below_title: row.get(2)?,
                is_in_title: row.get(3)?,
                is_in_heading: row.get(4)?,
            })
        });
        rows.and_then(Iterator::collect).map_err(failed)
    }
}

/// The FTS5 expression of a phrase. In quotes, no term is an operator.
fn expression(phrase: &Phrase) -> String {
    let terms = phrase.terms.join(" ");
    let beginning = if phrase.is_prefix { " *" } else { "" };
    format!("\"{terms}\"{beginning}")
}

fn failed(error: rusqlite::Error) -> Error {
    Error::internal(format!("passage index: {error}"))
}
