//! An index in memory over exactly the articles that one session may see, so that no other article can change a rank.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::error::Result;
use crate::model::article::{Article, Passage};
use crate::store::sqlite::full_text::{self, FullText};

/// Passages of articles, ranked by the words that people use.
#[derive(Debug)]
pub struct PassageIndex {
    text: FullText,
    articles: Vec<Article>,
    /// Each with its article's place.
    passages: Vec<(usize, Passage)>,
    /// By article: how many passages it has.
    lengths: Vec<usize>,
    /// Every word of the articles, and how often it is in them.
    words: BTreeMap<String, usize>,
    /// What was found for a word or phrase before: many people ask in the same words.
    known: RefCell<TermCache>,
}

#[derive(Debug, Default)]
struct TermCache {
    words: HashMap<String, Arc<[Match]>>,
    matches: usize,
}

impl TermCache {
    fn keep(&mut self, word: &str, found: &Arc<[Match]>) {
        if word.len() > LONGEST_KNOWN || found.len() > MOST_MATCHES {
            return;
        }
        if self.words.len() >= MOST_KNOWN || self.matches + found.len() > MOST_MATCHES {
            *self = Self::default();
        }
        self.matches += found.len();
        self.words.insert(word.to_owned(), Arc::clone(found));
    }
}

/// A passage that has a word.
#[derive(Debug)]
struct Match {
    position: usize,
    fit: Fit,
    is_in_title: bool,
    is_in_heading: bool,
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
    /// It has all that was asked for: words that are each too common to tell anything do tell it where they stand together,
    /// and one alone does where no article is without it.
    pub has_all: bool,
    /// Its article's title has all that was asked for, and no heading below it has any: the article is best read from its beginning.
    pub is_titled: bool,
}

/// A synonym's share of the score of the word that was said.
const SYNONYM_SCORE: f64 = 0.7;
/// A word in a title or heading says what the article is about, a synonym in a title nearly so, one in the text much less.
const TITLE_COVERS: f64 = 1.0;
const SYNONYM_IN_TITLE_COVERS: f64 = 0.85;
const TEXT_COVERS: f64 = 0.6;
/// A word that no article has is often beside the point, such as a day or a name.
const UNKNOWN_WORD: f64 = 0.5;
/// To cover this much is to cover any question, however long.
const COVERED: f64 = 3.0;

/// Words and phrases whose passages are kept.
const MOST_KNOWN: usize = 1_024;
/// Bytes of one that is kept.
const LONGEST_KNOWN: usize = 32;
/// Passages that are kept of all of them together: with the words, a quarter of a megabyte.
const MOST_MATCHES: usize = 4_096;

/// A word of fewer letters has too many neighbours to say which of them was meant.
const SHORTEST_MISSPELT: usize = 5;
/// Terms of less weight say little of what is wanted.
const STRONG: f64 = 1.0;

impl PassageIndex {
    /// Indexes these articles, in a database of its own.
    ///
    /// # Errors
    ///
    /// When SQLite fails.
    pub fn build(articles: &[Article]) -> Result<Self> {
        let mut passages = Vec::new();
        let mut lengths = Vec::new();
        let mut words = BTreeMap::new();
        for (article, written) in articles.iter().enumerate() {
            for text in [&written.title, &written.body] {
                let letters = |c: char| !c.is_alphabetic();
                for word in text.split(letters).filter(|word| !word.is_empty()) {
                    *words.entry(word.to_lowercase()).or_default() += 1;
                }
            }
            let of_article = written.passages();
            lengths.push(of_article.len());
            passages.extend(of_article.into_iter().map(|passage| (article, passage)));
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
            lengths,
            words,
            known: RefCell::default(),
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
    pub fn search(&self, terms: &[Term], limit: usize) -> Result<Vec<Hit<'_>>> {
        let mut scores = vec![0.0; self.passages.len()];
        let mut details = vec![0.0; self.passages.len()];
        let mut together = vec![0; self.passages.len()];
        let mut covered = vec![0.0; self.articles.len()];
        let mut titles = vec![0; self.articles.len()];
        let mut is_below = vec![false; self.articles.len()];
        let mut asked = 0.0;
        let mut is_everywhere = true;
        let strong = terms.iter().filter(|term| term.weight >= STRONG).count();
        for term in terms {
            let found = self.found(term)?;
            // What is to be done covers nothing of a question that also says with what.
            let share = if strong == 0 || term.weight >= STRONG {
                1.0
            } else {
                0.0
            };
            is_everywhere &= term.weight < STRONG || found.len() == self.articles.len();
            let rarity = self.rarity(found.len());
            if found.is_empty() {
                asked += share * term.weight * UNKNOWN_WORD;
                continue;
            }
            let weight = term.weight * rarity;
            asked += share * weight;
            for (article, found) in found {
                let in_text = TEXT_COVERS * rarity / self.rarity(1);
                covered[article] += share * weight * found.in_title.unwrap_or(in_text);
                titles[article] += usize::from(found.is_title);
                is_below[article] |= found.is_heading;
                let tells = self.tells(article, &found);
                for (position, fit) in found.passages {
                    scores[position] += weight * fit.whole;
                    // What is to be done, or what happens, is just what tells passages of one topic apart.
                    details[position] += rarity * fit.below_title * tells;
                    together[position] += 1;
                }
            }
        }
        let enough = f64::min(asked, COVERED);
        let can_tell = strong >= 2 || (strong == 1 && is_everywhere);
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
                    has_all: can_tell && together[position] == terms.len(),
                    is_titled: titles[*article] == terms.len() && !is_below[*article],
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

    /// How much a term tells one passage of an article from the others.
    fn tells(&self, article: usize, found: &Found) -> f64 {
        let having = found.passages.values();
        let having = having.filter(|fit| fit.below_title > 0.0).count();
        ((count(self.lengths[article]) + 1.0) / (count(having) + 0.5)).ln()
    }

    /// Whether any article has a term, or a synonym of it.
    ///
    /// # Errors
    ///
    /// When SQLite fails.
    pub fn has(&self, term: &Term) -> Result<bool> {
        Ok(!self.found(term)?.is_empty())
    }

    /// The word of the articles that was meant by one with a single wrong, missing, doubled or swapped letter.
    pub fn meant_by(&self, word: &str, is_word: impl Fn(&str) -> bool) -> Option<&str> {
        let letters: Vec<char> = word.chars().collect();
        if letters.len() < SHORTEST_MISSPELT || !letters.iter().all(|c| c.is_alphabetic()) {
            return None;
        }
        // The first letter is seldom wrong, and what differs in it is mostly another word.
        let first = letters[0].to_string();
        self.words
            .range(first.clone()..)
            .take_while(|(other, _)| other.starts_with(&first))
            .filter_map(|(other, times)| {
                let others: Vec<char> = other.chars().collect();
                let common = differs_in_one(&letters, &others)?;
                is_word(other).then_some((common, *times, other))
            })
            .max_by_key(|(common, times, other)| (*common, *times, std::cmp::Reverse(*other)))
            .map(|(_, _, other)| other.as_str())
    }

    /// By article: where a term or its synonyms are.
    fn found(&self, term: &Term) -> Result<BTreeMap<usize, Found>> {
        let mut found: BTreeMap<usize, Found> = BTreeMap::new();
        let said = (&term.word, 1.0, TITLE_COVERS, true);
        let meant = term
            .synonyms
            .iter()
            .map(|word| (word, SYNONYM_SCORE, SYNONYM_IN_TITLE_COVERS, false));
        for (word, share, in_title, is_said) in std::iter::once(said).chain(meant) {
            for one in self.matches(word)?.iter() {
                let found = found.entry(self.passages[one.position].0).or_default();
                found.is_title |= one.is_in_title;
                found.is_heading |= one.is_in_heading;
                // A heading is often about a case of what the article is about: there only the word itself counts.
                if one.is_in_title || (one.is_in_heading && is_said) {
                    found.in_title = found.in_title.or(Some(in_title));
                }
                let best = found.passages.entry(one.position).or_default();
                best.whole = best.whole.max(share * one.fit.whole);
                best.below_title = best.below_title.max(share * one.fit.below_title);
            }
        }
        Ok(found)
    }

    /// Every passage that has a word.
    fn matches(&self, word: &str) -> Result<Arc<[Match]>> {
        if let Some(known) = self.known.borrow().words.get(word) {
            return Ok(Arc::clone(known));
        }
        let found = self.text.matches(word)?.into_iter().map(|found| Match {
            position: found.position,
            fit: Fit {
                whole: found.whole,
                below_title: found.below_title,
            },
            is_in_title: found.is_in_title,
            is_in_heading: found.is_in_heading,
        });
        let found: Arc<[Match]> = found.collect();
        self.known.borrow_mut().keep(word, &found);
        Ok(found)
    }
}

/// Where a term is in one article.
#[derive(Default)]
struct Found {
    /// How far a title or heading covers it, if one has it.
    in_title: Option<f64>,
    is_title: bool,
    is_heading: bool,
    passages: BTreeMap<usize, Fit>,
}

/// How well a passage fits a word: with its article's title, and by its headings and text alone.
#[derive(Debug, Default)]
struct Fit {
    whole: f64,
    below_title: f64,
}

/// Whether one letter more, less or another, or two swapped ones, is all the difference; how many letters they share before it.
fn differs_in_one(one: &[char], other: &[char]) -> Option<usize> {
    let before = |pair: (&char, &char)| pair.0 == pair.1;
    let common = one
        .iter()
        .zip(other)
        .take_while(|pair| before(*pair))
        .count();
    let (one, other) = (&one[common..], &other[common..]);
    let is_one = match (one, other) {
        ([], [_]) | ([_], []) => true,
        ([a, b, one @ ..], [c, d, other @ ..]) if a == d && b == c && one == other => true,
        ([_, one @ ..], [_, other @ ..]) if one == other => true,
        ([_, one @ ..], other) if one == other => true,
        (one, [_, other @ ..]) => one == other,
        (_, []) => false,
    };
    is_one.then_some(common)
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
    fn a_word_with_one_wrong_letter_is_known_by_its_neighbours() {
        let index = index(&[(
            "Valves",
            "Open the valve of the boiler. Then shut the valve. The charger is charging.",
        )]);
        let meant = |word: &str| index.meant_by(word, |word| word != "boiler");
        for word in ["boyler", "biler", "boiiler", "bioler", "boile"] {
            assert_eq!(index.meant_by(word, |_| true), Some("boiler"), "{word}");
        }
        // Of several the one that is alike for longest, then the one that is said most often.
        assert_eq!(meant("valvex"), Some("valve"));
        assert_eq!(meant("valvess"), Some("valves"));
        assert_eq!(meant("charge"), Some("charger"));
        // Too short, too far, with another first letter, no word, or one that is not to be meant.
        for word in [
            "valv",
            "volvos",
            "calves",
            "valve5",
            "boilar",
            "",
            "valves boiler",
        ] {
            assert_eq!(meant(word), None, "{word}");
        }
    }

    #[test]
    fn what_was_found_for_a_word_is_found_again_however_many_words_came_between() {
        let index = index(&[
            ("One", "Mind the valve."),
            ("Valve", "Mind this.\n\n## Tap"),
        ]);
        let first = found(&index, "valve", &["tap"]);
        assert_eq!(first, [1, 0]);
        assert_eq!(found(&index, "valve", &["tap"]), first);
        for number in 0..=MOST_KNOWN {
            assert!(found(&index, &format!("word{number}"), &[]).is_empty());
            assert!(index.known.borrow().words.len() <= MOST_KNOWN);
        }
        assert_eq!(found(&index, "valve", &["tap"]), first);
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
