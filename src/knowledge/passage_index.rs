//! An in-memory index over the articles of one scope. Articles outside the scope cannot change a
//! rank, so ranks reveal nothing about them.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::spelling::Vocabulary;
use crate::error::Result;
use crate::model::article::{Article, Passage};
use crate::store::sqlite::full_text::{self, FullText};
use crate::terms;

/// A full-text index over the passages of articles.
#[derive(Debug)]
pub struct PassageIndex {
    text: FullText,
    articles: Vec<Article>,
    /// Each passage with the index of its article.
    passages: Vec<(usize, Passage)>,
    /// The number of passages of each article.
    passage_counts: Vec<usize>,
    /// The words of the articles, for spelling correction.
    words: Vocabulary,
    /// The matches of recent words and phrases: many people ask in the same words.
    cache: RefCell<MatchCache>,
}

/// Matches by word or phrase. A full cache is cleared.
#[derive(Debug, Default)]
struct MatchCache {
    by_phrase: HashMap<String, Arc<[Match]>>,
    /// The number of matches of all phrases.
    size: usize,
}

impl MatchCache {
    fn insert(&mut self, phrase: &str, matches: &Arc<[Match]>) {
        if phrase.len() > MAX_CACHED_PHRASE_BYTES || matches.len() > MAX_CACHED_MATCHES {
            return;
        }
        if self.by_phrase.len() >= MAX_CACHED_PHRASES
            || self.size + matches.len() > MAX_CACHED_MATCHES
        {
            *self = Self::default();
        }
        self.size += matches.len();
        self.by_phrase
            .insert(phrase.to_owned(), Arc::clone(matches));
    }
}

/// A passage that contains a word or phrase.
#[derive(Debug)]
struct Match {
    position: usize,
    score: MatchScore,
    is_in_title: bool,
    is_in_heading: bool,
}

/// A word or phrase to search for.
#[derive(Clone, Debug, PartialEq)]
pub struct Term {
    /// The word or phrase of the message.
    pub word: String,
    /// Synonyms. They score a little less than the word itself.
    pub synonyms: Vec<String>,
    /// The weight relative to other terms.
    pub weight: f64,
}

/// A passage that contains at least one of the terms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit<'a> {
    /// The index of the passage's article in [`PassageIndex::articles`].
    pub article: usize,
    /// The position among all passages, which are in the order of the articles.
    pub position: usize,
    /// The headings above the passage.
    pub heading: Option<&'a str>,
    /// The passage's Markdown.
    pub passage: &'a str,
    /// The score, comparable within one search.
    pub score: f64,
    /// The score relative to the other passages of the same article.
    pub detail: f64,
    /// The share of the question that the article covers, from 0 to 1.
    pub coverage: f64,
    /// Whether the passage has all terms, and the terms are significant. Two strong terms are
    /// significant together, even if each is common. A single one is only if every article has it.
    pub has_all: bool,
    /// Whether the article's title has all terms and none of its headings has any, so that the
    /// article is best quoted from its beginning.
    pub is_titled: bool,
}

/// The score of a synonym, relative to the word itself.
const SYNONYM_SCORE: f64 = 0.7;
/// The coverage of a word in a title or heading, which names the article's topic.
const TITLE_COVERAGE: f64 = 1.0;
/// The coverage of a synonym in a title.
const SYNONYM_IN_TITLE_COVERAGE: f64 = 0.85;
/// The coverage of a word in the text.
const TEXT_COVERAGE: f64 = 0.6;
/// The weight of a word that no article has. Such a word is often beside the point, such as a day
/// or a name.
const UNKNOWN_WORD_WEIGHT: f64 = 0.5;
/// The covered weight that is enough for any question, however long.
const FULL_COVERAGE: f64 = 3.0;

/// The maximum number of words and phrases in the cache.
const MAX_CACHED_PHRASES: usize = 1_024;
/// The maximum length of a cached word or phrase, in bytes.
const MAX_CACHED_PHRASE_BYTES: usize = 32;
/// The maximum number of cached matches. With the phrases they take a quarter of a megabyte.
const MAX_CACHED_MATCHES: usize = 4_096;

/// The minimum weight of a strong term. Weaker terms say little about what is asked.
const STRONG_WEIGHT: f64 = 1.0;

impl PassageIndex {
    /// Builds an index over these articles.
    ///
    /// # Errors
    /// `internal_error` if SQLite fails.
    pub fn build(articles: &[Article]) -> Result<Self> {
        let mut passages = Vec::new();
        let mut passage_counts = Vec::new();
        let mut words: BTreeMap<String, usize> = BTreeMap::new();
        for (index, article) in articles.iter().enumerate() {
            for text in [&article.title, &article.body] {
                for word in terms::of_question(text) {
                    *words.entry(word).or_default() += 1;
                }
            }
            let of_article = article.passages();
            passage_counts.push(of_article.len());
            passages.extend(of_article.into_iter().map(|passage| (index, passage)));
        }
        let text = FullText::build(
            passages
                .iter()
                .map(|(article, passage)| full_text::Passage {
                    title: &articles[*article].title,
                    heading: &passage.topics,
                    body: &passage.text,
                }),
        )?;
        Ok(Self {
            text,
            articles: articles.to_vec(),
            passages,
            passage_counts,
            words: Vocabulary::of(&words),
            cache: RefCell::default(),
        })
    }

    /// The articles, in the order in which they were given.
    pub fn articles(&self) -> &[Article] {
        &self.articles
    }

    /// Finds the passages that contain any of the terms, best first. Equal scores keep the
    /// articles' order.
    ///
    /// # Errors
    /// `internal_error` if SQLite fails.
    pub fn search(&self, terms: &[Term], limit: usize) -> Result<Vec<Hit<'_>>> {
        let mut scores = vec![0.0; self.passages.len()];
        let mut details = vec![0.0; self.passages.len()];
        let mut term_counts = vec![0; self.passages.len()];
        let mut covered = vec![0.0; self.articles.len()];
        let mut title_counts = vec![0; self.articles.len()];
        let mut is_in_heading = vec![false; self.articles.len()];
        let mut total = 0.0;
        let mut is_in_all_articles = true;
        let is_strong = |term: &Term| term.weight >= STRONG_WEIGHT;
        let strong = terms.iter().filter(|term| is_strong(term)).count();
        for term in terms {
            let occurrences = self.occurrences(term)?;
            // If a question has strong terms, its weak terms do not count for the coverage.
            let share = if strong == 0 || is_strong(term) {
                1.0
            } else {
                0.0
            };
            is_in_all_articles &= !is_strong(term) || occurrences.len() == self.articles.len();
            let rarity = self.rarity(occurrences.len());
            if occurrences.is_empty() {
                total += share * term.weight * UNKNOWN_WORD_WEIGHT;
                continue;
            }
            let weight = term.weight * rarity;
            total += share * weight;
            for (article, found) in occurrences {
                let in_text = TEXT_COVERAGE * rarity / self.rarity(1);
                covered[article] += share * weight * found.title_coverage.unwrap_or(in_text);
                title_counts[article] += usize::from(found.is_in_title);
                is_in_heading[article] |= found.is_in_heading;
                let selectivity = self.selectivity(article, &found);
                for (position, score) in found.passages {
                    scores[position] += weight * score.whole;
                    // Without the term's weight: words for actions distinguish the passages of one
                    // topic.
                    details[position] += rarity * score.below_title * selectivity;
                    term_counts[position] += 1;
                }
            }
        }
        let full = f64::min(total, FULL_COVERAGE);
        let are_significant = strong >= 2 || (strong == 1 && is_in_all_articles);
        let mut hits: Vec<_> = (self.passages.iter().zip(scores).enumerate())
            .filter(|(_, (_, score))| *score > 0.0)
            .map(|(position, ((article, passage), score))| {
                let coverage = f64::min(covered[*article] / full, 1.0);
                Hit {
                    article: *article,
                    position,
                    heading: passage.heading.as_deref(),
                    passage: &passage.text,
                    score: score * coverage,
                    detail: details[position],
                    coverage,
                    has_all: are_significant && term_counts[position] == terms.len(),
                    is_titled: title_counts[*article] == terms.len() && !is_in_heading[*article],
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

    /// The inverse document frequency of a word that this many articles have, scaled to 0 to 1.
    fn rarity(&self, articles: usize) -> f64 {
        // Smoothing: with few articles every word would look common, so five more without the word
        // are assumed.
        let all = count(self.articles.len() + 5);
        (all / count(articles + 1)).ln() / all.ln()
    }

    /// The inverse frequency of a term among the passages of one article.
    fn selectivity(&self, article: usize, found: &Occurrences) -> f64 {
        let containing = found.passages.values();
        let containing = containing.filter(|score| score.below_title > 0.0).count();
        ((count(self.passage_counts[article]) + 1.0) / (count(containing) + 0.5)).ln()
    }

    /// Whether any article contains a term or one of its synonyms.
    ///
    /// # Errors
    /// `internal_error` if SQLite fails.
    pub fn has(&self, term: &Term) -> Result<bool> {
        Ok(!self.occurrences(term)?.is_empty())
    }

    /// Corrects a misspelled word to a word of the articles at a Damerau-Levenshtein distance of 1.
    /// `is_candidate` filters the words.
    pub fn correct_spelling(
        &self,
        word: &str,
        is_candidate: impl Fn(&str) -> bool,
    ) -> Option<&str> {
        self.words.correct(word, is_candidate)
    }

    /// The occurrences of a term and its synonyms, by article.
    fn occurrences(&self, term: &Term) -> Result<BTreeMap<usize, Occurrences>> {
        let mut by_article: BTreeMap<usize, Occurrences> = BTreeMap::new();
        let word = (&term.word, 1.0, TITLE_COVERAGE, true);
        let synonyms = term
            .synonyms
            .iter()
            .map(|synonym| (synonym, SYNONYM_SCORE, SYNONYM_IN_TITLE_COVERAGE, false));
        for (phrase, share, coverage, is_word) in std::iter::once(word).chain(synonyms) {
            for found in self.matches(phrase)?.iter() {
                let article = self.passages[found.position].0;
                let occurrences = by_article.entry(article).or_default();
                occurrences.is_in_title |= found.is_in_title;
                occurrences.is_in_heading |= found.is_in_heading;
                // A heading often names a special case of the topic, so there only the word itself
                // counts.
                if found.is_in_title || (found.is_in_heading && is_word) {
                    occurrences.title_coverage = occurrences.title_coverage.or(Some(coverage));
                }
                let best = occurrences.passages.entry(found.position).or_default();
                best.whole = best.whole.max(share * found.score.whole);
                best.below_title = best.below_title.max(share * found.score.below_title);
            }
        }
        Ok(by_article)
    }

    /// The passages that contain a word or phrase.
    fn matches(&self, phrase: &str) -> Result<Arc<[Match]>> {
        if let Some(matches) = self.cache.borrow().by_phrase.get(phrase) {
            return Ok(Arc::clone(matches));
        }
        let matches = self.text.matches(phrase)?.into_iter().map(|found| Match {
            position: found.position,
            score: MatchScore {
                whole: found.whole,
                below_title: found.below_title,
            },
            is_in_title: found.is_in_title,
            is_in_heading: found.is_in_heading,
        });
        let matches: Arc<[Match]> = matches.collect();
        self.cache.borrow_mut().insert(phrase, &matches);
        Ok(matches)
    }
}

/// The occurrences of a term in one article.
#[derive(Default)]
struct Occurrences {
    /// The coverage of the term by the title or a heading, if one contains it.
    title_coverage: Option<f64>,
    is_in_title: bool,
    is_in_heading: bool,
    /// The scores by position of the passage.
    passages: BTreeMap<usize, MatchScore>,
}

/// The BM25 score of a passage for a word or phrase.
#[derive(Debug, Default)]
struct MatchScore {
    /// Over title, headings and text.
    whole: f64,
    /// Over headings and text.
    below_title: f64,
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

    /// The articles of the hits for a term, best first.
    fn search(index: &PassageIndex, word: &str, synonyms: &[&str]) -> Vec<usize> {
        let term = Term {
            word: word.to_owned(),
            synonyms: synonyms.iter().map(|word| (*word).to_owned()).collect(),
            weight: 1.0,
        };
        let hits = index.search(&[term], 9).unwrap();
        hits.iter().map(|hit| hit.article).collect()
    }

    #[test]
    fn a_title_ranks_before_a_heading_and_a_heading_before_the_text() {
        let index = index(&[
            ("One", "Mind the valve."),
            ("Two", "Mind this.\n\n## Valve"),
            ("Valve", "Mind this."),
            ("Four", "Mind this."),
        ]);
        assert_eq!(search(&index, "valves", &[]), [2, 1, 0]);
    }

    #[test]
    fn a_word_ranks_before_its_synonym() {
        let index = index(&[("Tap", ""), ("Valve", "")]);
        assert_eq!(search(&index, "valve", &["tap"]), [1, 0]);
    }

    #[test]
    fn passages_of_equal_score_keep_their_order() {
        let index = index(&[("Valve", "One."), ("Valve", "One."), ("Valve", "One.")]);
        assert_eq!(search(&index, "valve", &[]), [0, 1, 2]);
    }

    #[test]
    fn a_word_with_one_wrong_letter_is_corrected() {
        let index = index(&[(
            "Valves",
            "Open the valve of the boiler. Then shut the valve. The charger is charging.",
        )]);
        let corrected = |word: &str| index.correct_spelling(word, |word| word != "boiler");
        for word in ["boyler", "biler", "boiiler", "bioler", "boile"] {
            assert_eq!(
                index.correct_spelling(word, |_| true),
                Some("boiler"),
                "{word}"
            );
        }
        // Of several candidates, the one with the longest common prefix wins, then the most
        // frequent one.
        assert_eq!(corrected("valvex"), Some("valve"));
        assert_eq!(corrected("valvess"), Some("valves"));
        assert_eq!(corrected("charge"), Some("charger"));
        // Too short, too distant, with another first letter, not a word, or filtered out.
        for word in [
            "valv",
            "volvos",
            "calves",
            "valve5",
            "boilar",
            "",
            "valves boiler",
        ] {
            assert_eq!(corrected(word), None, "{word}");
        }
    }

    #[test]
    fn a_search_returns_the_same_after_any_number_of_other_searches() {
        let index = index(&[
            ("One", "Mind the valve."),
            ("Valve", "Mind this.\n\n## Tap"),
        ]);
        let first = search(&index, "valve", &["tap"]);
        assert_eq!(first, [1, 0]);
        assert_eq!(search(&index, "valve", &["tap"]), first);
        for number in 0..=MAX_CACHED_PHRASES {
            assert!(search(&index, &format!("word{number}"), &[]).is_empty());
            assert!(index.cache.borrow().by_phrase.len() <= MAX_CACHED_PHRASES);
        }
        assert_eq!(search(&index, "valve", &["tap"]), first);
    }

    #[test]
    fn no_word_is_an_operator() {
        let index = index(&[("Valve", "Open it."), ("Tap", "Shut it.")]);
        assert_eq!(search(&index, "valve\" OR \"tap", &[]), [0; 0]);
        assert_eq!(search(&index, "title:valve*", &[]), [0; 0]);
        assert_eq!(search(&index, "\0\"", &[]), [0; 0]);
        assert_eq!(search(&index, "", &[]), [0; 0]);
    }
}
