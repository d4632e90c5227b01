//! An index in memory over exactly the articles that one session may see, so that no other article can change a rank.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};

use crate::model::article::{Article, Passage};

/// The index could not be built or asked.
#[derive(Debug, thiserror::Error)]
#[error("passage index: {0}")]
pub struct IndexError(#[from] rusqlite::Error);

/// Passages of articles, ranked by the words that people use.
#[derive(Debug)]
pub struct PassageIndex {
    connection: Connection,
    articles: Vec<Article>,
    /// Each with its article's place.
    passages: Vec<(usize, Passage)>,
}

/// A word or phrase to look for.
#[derive(Clone, Debug, PartialEq)]
pub struct Term {
    /// As it was said.
    pub word: String,
    /// Other words for the same; they count a little less.
    pub synonyms: Vec<String>,
    /// How much it counts beside other terms.
    pub weight: f64,
}

/// A passage that has at least one of the terms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit<'a> {
    /// Its article's place in [`PassageIndex::articles`].
    pub article: usize,
    /// Its place among all passages; it grows along an article.
    pub position: usize,
    /// The headings that it stands under.
    pub heading: Option<&'a str>,
    /// Its Markdown.
    pub passage: &'a str,
    /// How well it fits, for comparison within one search.
    pub score: f64,
    /// How well it fits beside the other passages of its article.
    pub detail: f64,
    /// From 0 to 1: how much of what was asked for its article speaks of.
    pub coverage: f64,
}

/// A synonym's share of the score of the word that was said.
const SYNONYM_SCORE: f64 = 0.7;
/// A word in a title or heading says what the article is about, a synonym there nearly so, one in the text much less.
const TITLE_COVERS: f64 = 1.0;
const SYNONYM_IN_TITLE_COVERS: f64 = 0.85;
const TEXT_COVERS: f64 = 0.6;
/// A word that no article has is often beside the point, such as a day or a name.
const UNKNOWN_WORD: f64 = 0.5;
/// To cover this much is to cover any question, however long.
const COVERED: f64 = 3.0;

const CREATE: &str = "CREATE VIRTUAL TABLE passages USING fts5(
    title, heading, body, content = '', tokenize = 'porter unicode61 remove_diacritics 2')";
const ADD: &str = "INSERT INTO passages (rowid, title, heading, body) VALUES (?1, ?2, ?3, ?4)";
/// A word in a title counts most, then in a heading, then in the text.
const MATCHES: &str =
    "SELECT rowid, -bm25(passages, 6.0, 3.0, 1.0), -bm25(passages, 0.0, 3.0, 1.0),
    bm25(passages, 1.0, 1.0, 0.0) < 0.0
    FROM passages WHERE passages MATCH ?1";

impl PassageIndex {
    /// Indexes these articles, in a database of its own.
    ///
    /// # Errors
    ///
    /// When SQLite fails.
    pub fn build(articles: &[Article]) -> Result<Self, IndexError> {
        let mut connection = Connection::open_in_memory()?;
        connection.execute_batch(CREATE)?;
        let transaction = connection.transaction()?;
        let mut passages = Vec::new();
        {
            let mut add = transaction.prepare(ADD)?;
            for (article, written) in articles.iter().enumerate() {
                for passage in written.passages() {
                    let position = i64::try_from(passages.len()).unwrap_or(i64::MAX);
                    add.execute(params![
                        position,
                        written.title,
                        passage.topics,
                        passage.text
                    ])?;
                    passages.push((article, passage));
                }
            }
        }
        transaction.commit()?;
        Ok(Self {
            connection,
            articles: articles.to_vec(),
            passages,
        })
    }

    /// The articles, in the order in which they were given.
    pub fn articles(&self) -> &[Article] {
        &self.articles
    }

    /// The passages that have any of the terms, best first, those of equal score in the articles' order.
    ///
    /// # Errors
    ///
    /// When SQLite fails.
    pub fn search(&self, terms: &[Term], limit: usize) -> Result<Vec<Hit<'_>>, IndexError> {
        let mut scores = vec![0.0; self.passages.len()];
        let mut details = vec![0.0; self.passages.len()];
        let mut covered = vec![0.0; self.articles.len()];
        let mut asked = 0.0;
        for term in terms {
            let found = self.found(term)?;
            let rarity = self.rarity(found.len());
            if found.is_empty() {
                asked += term.weight * UNKNOWN_WORD;
                continue;
            }
            let weight = term.weight * rarity;
            asked += weight;
            for (article, found) in found {
                let in_text = TEXT_COVERS * rarity / self.rarity(1);
                covered[article] += weight * found.in_title.unwrap_or(in_text);
                for (position, fit) in found.passages {
                    scores[position] += weight * fit.whole;
                    details[position] += weight * fit.below_title;
                }
            }
        }
        let enough = f64::min(asked, COVERED);
        let mut hits: Vec<_> = (self.passages.iter().zip(scores).enumerate())
            .filter(|(_, (_, score))| *score > 0.0)
            .map(|(position, ((article, passage), score))| {
                let coverage = f64::min(covered[*article] / enough, 1.0);
                Hit {
                    article: *article,
                    position,
                    heading: passage.heading.as_deref(),
                    passage: &passage.text,
                    score: score * coverage,
                    detail: details[position],
                    coverage,
                }
            })
            .collect();
        hits.sort_by(|one, other| {
            let better = other.score.total_cmp(&one.score);
            better.then(one.position.cmp(&other.position))
        });
        hits.truncate(limit);
        Ok(hits)
    }

    /// From 0 to 1: how much a word tells that this many articles have.
    fn rarity(&self, articles: usize) -> f64 {
        // Five imagined articles without the word keep a handful of articles from making every word look common.
        let all = count(self.articles.len() + 5);
        (all / count(articles + 1)).ln() / all.ln()
    }

    /// By article: where a term or its synonyms are.
    fn found(&self, term: &Term) -> Result<BTreeMap<usize, Found>, IndexError> {
        let mut found: BTreeMap<usize, Found> = BTreeMap::new();
        let said = (&term.word, 1.0, TITLE_COVERS);
        let meant = term
            .synonyms
            .iter()
            .map(|word| (word, SYNONYM_SCORE, SYNONYM_IN_TITLE_COVERS));
        for (word, share, in_title) in std::iter::once(said).chain(meant) {
            for (position, fit, titled) in self.matches(word)? {
                let found = found.entry(self.passages[position].0).or_default();
                if titled {
                    found.in_title = found.in_title.or(Some(in_title));
                }
                let best = found.passages.entry(position).or_default();
                best.whole = best.whole.max(share * fit.whole);
                best.below_title = best.below_title.max(share * fit.below_title);
            }
        }
        Ok(found)
    }

    /// For every passage that has the word: its position, how well it fits, and whether a title or heading has the word.
    fn matches(&self, word: &str) -> Result<Vec<(usize, Fit, bool)>, IndexError> {
        let mut select = self.connection.prepare_cached(MATCHES)?;
        let rows = select.query_map([quoted(word)], |row| {
            let position: i64 = row.get(0)?;
            let fit = Fit {
                whole: row.get(1)?,
                below_title: row.get(2)?,
            };
            Ok((usize::try_from(position).unwrap_or(0), fit, row.get(3)?))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

/// Where a term is in one article.
#[derive(Default)]
struct Found {
    /// How far a title or heading covers it, if one has it.
    in_title: Option<f64>,
    passages: BTreeMap<usize, Fit>,
}

/// How well a passage fits a word: with its article's title, and by its headings and text alone.
#[derive(Default)]
struct Fit {
    whole: f64,
    below_title: f64,
}

/// A full-text query for a word or phrase, quoted so that no text is an operator.
fn quoted(word: &str) -> String {
    format!("\"{}\"", word.replace(['"', '\0'], " "))
}

fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::{ArticleId, Tick};

    fn index(articles: &[(&str, &str)]) -> PassageIndex {
        let articles: Vec<_> = (1..)
            .zip(articles)
            .map(|(number, (title, body))| Article {
                id: ArticleId::new(Tick(number), 1),
                title: (*title).to_owned(),
                body: (*body).to_owned(),
                url: None,
            })
            .collect();
        PassageIndex::build(&articles).unwrap()
    }

    fn found(index: &PassageIndex, word: &str, synonyms: &[&str]) -> Vec<usize> {
        let term = Term {
            word: word.to_owned(),
            synonyms: synonyms.iter().map(|word| (*word).to_owned()).collect(),
            weight: 1.0,
        };
        let hits = index.search(&[term], 9).unwrap();
        hits.iter().map(|hit| hit.article).collect()
    }

    #[test]
    fn a_title_goes_before_a_heading_and_that_before_the_text() {
        let index = index(&[
            ("One", "Mind the valve."),
            ("Two", "Mind this.\n\n## Valve"),
            ("Valve", "Mind this."),
            ("Four", "Mind this."),
        ]);
        assert_eq!(found(&index, "valves", &[]), [2, 1, 0]);
    }

    #[test]
    fn the_word_that_was_said_goes_before_a_synonym() {
        let index = index(&[("Tap", ""), ("Valve", "")]);
        assert_eq!(found(&index, "valve", &["tap"]), [1, 0]);
    }

    #[test]
    fn equally_good_passages_keep_their_order() {
        let index = index(&[("Valve", "One."), ("Valve", "One."), ("Valve", "One.")]);
        assert_eq!(found(&index, "valve", &[]), [0, 1, 2]);
    }

    #[test]
    fn no_word_is_an_operator() {
        let index = index(&[("Valve", "Open it."), ("Tap", "Shut it.")]);
        assert_eq!(found(&index, "valve\" OR \"tap", &[]), [0; 0]);
        assert_eq!(found(&index, "title:valve*", &[]), [0; 0]);
        assert_eq!(found(&index, "\0\"", &[]), [0; 0]);
        assert_eq!(found(&index, "", &[]), [0; 0]);
    }
}
