//! Cuts text into the terms that a search compares, and folds away case, accents and widths.
//!
//! This is the only place that knows what a word is. An engine's full-text index gets the terms
//! joined by spaces and must not change them. So a change of this module needs a migration that
//! empties the search index, as `V13` does: the server then builds the index again.

mod snippet;

use std::ops::Range;

use unicode_normalization::char::{compose, decompose_compatible, is_combining_mark};

pub use self::snippet::{SNIPPET_CHARS, Snippet, snippet};

/// A folded letter and the bytes of the original text that it stands for.
#[derive(Clone, Copy, Debug)]
struct Letter {
    char: char,
    start: usize,
    end: usize,
}

/// The folded letters of a text.
///
/// Text is decomposed (NFKD), lower-cased, freed of the marks that [`is_accent`] names, and composed
/// again. So composed and decomposed text, full-width and ordinary letters become equal.
#[derive(Default)]
struct Folded(Vec<Letter>);

impl Folded {
    fn push(&mut self, c: char, bytes: Range<usize>) {
        if c.is_ascii() {
            return self.0.push(Letter {
                char: c.to_ascii_lowercase(),
                start: bytes.start,
                end: bytes.end,
            });
        }
        let before = self.0.len();
        if !is_ignored(c) {
            decompose_compatible(c, |part| self.push_part(part, &bytes));
        }
        // A mark that was dropped belongs to the letter before it.
        if self.0.len() == before
            && let Some(last) = self.0.last_mut()
        {
            last.end = bytes.end;
        }
    }

    fn push_part(&mut self, part: char, bytes: &Range<usize>) {
        if is_accent(part) {
            return;
        }
        let is_mark = is_combining_mark(part);
        if (is_mark || matches!(part, '\u{1161}'..='\u{11c2}'))
            && let Some(last) = self.0.last_mut()
        {
            let composed = match part {
                // In Cyrillic, the breve makes another letter: й is not и.
                BREVE if !matches!(last.char, '\u{400}'..='\u{52f}') => None,
                _ => compose(last.char, part),
            };
            if let Some(composed) = composed {
                last.char = composed;
                last.end = bytes.end;
                return;
            }
        }
        if part == BREVE {
            return;
        }
        let mut add = |char| {
            self.0.push(Letter {
                char,
                start: bytes.start,
                end: bytes.end,
            });
        };
        for lower in part.to_lowercase() {
            match lower {
                'ß' => ['s', 's'].into_iter().for_each(&mut add),
                'æ' => ['a', 'e'].into_iter().for_each(&mut add),
                'œ' => ['o', 'e'].into_iter().for_each(&mut add),
                'þ' => ['t', 'h'].into_iter().for_each(&mut add),
                'ø' => add('o'),
                'ł' => add('l'),
                'đ' | 'ð' => add('d'),
                'ħ' => add('h'),
                'ı' => add('i'),
                'ς' => add('σ'),
                other => add(other),
            }
        }
    }
}

/// U+0306, an accent except in Cyrillic.
const BREVE: char = '\u{306}';

/// Whether a mark is an accent or a point that readers leave out: in Latin, Greek, Cyrillic, Hebrew,
/// Arabic and Syriac, and marks for any script. The vowel signs of Indic scripts and of Thai are
/// letters, and so are the voiced marks of Japanese.
fn is_accent(c: char) -> bool {
    c != BREVE
        && matches!(
            c,
            '\u{300}'..='\u{36f}'
                | '\u{483}'..='\u{489}'
                | '\u{591}'..='\u{5bd}'
                | '\u{5bf}'
                | '\u{5c1}'..='\u{5c2}'
                | '\u{5c4}'..='\u{5c5}'
                | '\u{5c7}'
                | '\u{610}'..='\u{61a}'
                | '\u{640}'
                | '\u{64b}'..='\u{65f}'
                | '\u{670}'
                | '\u{6d6}'..='\u{6dc}'
                | '\u{6df}'..='\u{6e4}'
                | '\u{6e7}'..='\u{6e8}'
                | '\u{6ea}'..='\u{6ed}'
                | '\u{711}'
                | '\u{730}'..='\u{74a}'
                | '\u{8d3}'..='\u{8ff}'
                | '\u{1ab0}'..='\u{1aff}'
                | '\u{1dc0}'..='\u{1dff}'
                | '\u{20d0}'..='\u{20ff}'
                | '\u{fe00}'..='\u{fe0f}'
                | '\u{fe20}'..='\u{fe2f}'
                | '\u{e0100}'..='\u{e01ef}'
        )
}

/// Whether a character is invisible within a word: a soft hyphen, a joiner, a place to break a line.
fn is_ignored(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{feff}'
    )
}

/// Whether a letter belongs to a script that writes words without spaces, or with words that are
/// too long to be found whole: Chinese, Japanese, Korean, Thai, Lao, Khmer, Burmese.
fn is_unspaced(c: char) -> bool {
    matches!(
        c,
        '\u{e00}'..='\u{eff}'
            | '\u{1000}'..='\u{109f}'
            | '\u{1100}'..='\u{11ff}'
            | '\u{1780}'..='\u{17ff}'
            | '\u{2e80}'..='\u{2fdf}'
            | '\u{3005}'..='\u{3007}'
            | '\u{3021}'..='\u{9fff}'
            | '\u{a960}'..='\u{a97f}'
            | '\u{a9e0}'..='\u{a9ff}'
            | '\u{aa60}'..='\u{aa7f}'
            | '\u{ac00}'..='\u{d7ff}'
            | '\u{f900}'..='\u{faff}'
            | '\u{1aff0}'..='\u{1b16f}'
            | '\u{20000}'..='\u{3ffff}'
    )
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || is_combining_mark(c)
}

/// Visits the words of a text: runs of letters, digits and marks.
fn each_word(text: &str, mut visit: impl FnMut(&[Letter])) {
    let mut word = Folded::default();
    let mut end_word = |word: &mut Folded| {
        // A compatibility form can contain punctuation, as in ⑴.
        word.0.retain(|letter| is_of_word(letter.char));
        if word.0.iter().any(|letter| letter.char.is_alphanumeric()) {
            visit(&word.0);
        }
        word.0.clear();
    };
    for (start, c) in text.char_indices() {
        if is_of_word(c) || is_ignored(c) {
            word.push(c, start..start + c.len_utf8());
        } else if !word.0.is_empty() {
            end_word(&mut word);
        }
    }
    end_word(&mut word);
}

/// Splits a word where it changes between letters of an unspaced script and others.
fn runs(word: &[Letter]) -> impl Iterator<Item = &[Letter]> {
    word.chunk_by(|one, next| is_unspaced(one.char) == is_unspaced(next.char))
}

/// Visits the terms of a run.
///
/// A run of an unspaced script has a term for each two neighbors, and one for its last letter, which
/// a query for a single letter finds. Any other run is one term.
fn each_term_of_run(run: &[Letter], mut visit: impl FnMut(&[Letter])) {
    if is_unspaced(run[0].char) {
        for start in 0..run.len() {
            visit(&run[start..run.len().min(start + 2)]);
        }
    } else {
        visit(run);
    }
}

fn append(text: &mut String, letters: &[Letter]) {
    text.extend(letters.iter().map(|letter| letter.char));
}

/// The terms of a text, joined by spaces, as an index stores them.
pub fn of(text: &str) -> String {
    let mut terms = String::with_capacity(text.len() + text.len() / 8);
    if text.is_ascii() {
        for word in text.split(|c: char| !c.is_ascii_alphanumeric()) {
            if !terms.is_empty() && !word.is_empty() {
                terms.push(' ');
            }
            terms.push_str(word);
        }
        terms.make_ascii_lowercase();
        return terms;
    }
    each_word(text, |word| {
        for run in runs(word) {
            each_term_of_run(run, |term| {
                if !terms.is_empty() {
                    terms.push(' ');
                }
                append(&mut terms, term);
            });
        }
    });
    terms
}

/// The words by which a question is looked up.
///
/// Of an unspaced script, each two neighboring letters are a word. Of Thai, Lao, Khmer and Burmese,
/// which have few letters, each four are one. Single letters of these scripts and hiragana alone,
/// which is grammar, say nothing about what is asked.
pub fn of_question(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut push = |letters: &[Letter]| {
        let mut text = String::new();
        append(&mut text, letters);
        words.push(text);
    };
    each_word(text, |word| {
        for run in runs(word) {
            if !is_unspaced(run[0].char) {
                push(run);
            } else if run.len() > 1 {
                let is_alphabet =
                    matches!(run[0].char, '\u{e00}'..='\u{109f}' | '\u{1780}'..='\u{17ff}');
                let size = if is_alphabet { 4 } else { 2 };
                let is_grammar = |part: &&[Letter]| {
                    part.iter()
                        .all(|letter| matches!(letter.char, '\u{3041}'..='\u{309f}'))
                };
                let parts = run.windows(size.min(run.len()));
                parts.filter(|part| !is_grammar(part)).for_each(&mut push);
            }
        }
    });
    words
}

/// The number of words of a text.
pub fn word_count(text: &str) -> usize {
    let mut count = 0;
    each_word(text, |_| count += 1);
    count
}

/// Terms that follow each other in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Phrase {
    /// The terms.
    pub terms: Vec<String>,
    /// Whether the last term may be the beginning of a longer one.
    pub is_prefix: bool,
}

impl Phrase {
    /// The phrase of a part of a query. `None` if the part has neither a letter nor a digit.
    ///
    /// `is_last` says that the last word may be the beginning of a longer one. A single letter may
    /// not: it begins too many words.
    pub fn of(text: &str, is_last: bool) -> Option<Self> {
        let mut phrase = Self {
            terms: Vec::new(),
            is_prefix: false,
        };
        let mut last_run = 0;
        each_word(text, |word| {
            for run in runs(word) {
                each_term_of_run(run, |term| {
                    let mut text = String::new();
                    append(&mut text, term);
                    phrase.terms.push(text);
                });
                let is_unspaced = is_unspaced(run[0].char);
                phrase.is_prefix = if is_unspaced {
                    run.len() == 1
                } else {
                    is_last && run.len() > 1
                };
                last_run = if is_unspaced { run.len() } else { 1 };
            }
        });
        // The text may go on after the last letter, so that this letter need not end a run.
        if last_run > 1 {
            phrase.terms.pop();
        }
        (!phrase.terms.is_empty()).then_some(phrase)
    }

    /// Whether the phrase begins at the first of these terms of a text.
    fn begins(&self, terms: &[(String, Range<usize>)]) -> bool {
        let last = self.terms.len() - 1;
        terms.len() > last
            && self.terms.iter().enumerate().all(|(nth, term)| {
                let other = &terms[nth].0;
                if nth == last && self.is_prefix {
                    other.starts_with(term.as_str())
                } else {
                    other == term
                }
            })
    }
}

/// The phrases of a query, one for each part between white space.
pub fn phrases(query: &str) -> Vec<Phrase> {
    let mut parts: Vec<&str> = Vec::new();
    // Of equal parts the last one counts, which may be the beginning of a word.
    for part in query.split_whitespace().filter(|part| word_count(part) > 0) {
        parts.retain(|earlier| *earlier != part);
        parts.push(part);
    }
    let last = parts.len().wrapping_sub(1);
    let phrases = parts.into_iter().enumerate();
    phrases
        .filter_map(|(nth, part)| Phrase::of(part, nth == last))
        .collect()
}

/// Folds case, accents and widths of a whole text, so that a list can look for a part of it.
pub fn fold(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let mut folded = Folded::default();
    for (start, c) in text.char_indices() {
        folded.push(c, start..start + c.len_utf8());
    }
    folded.0.iter().map(|letter| letter.char).collect()
}

/// The parts of a query of a list, between white space.
pub fn parts(query: &str) -> Vec<String> {
    let folded = fold(query);
    folded.split_whitespace().map(str::to_owned).collect()
}

/// Whether each of the parts is somewhere in one of the texts.
pub fn contain<'a>(texts: impl IntoIterator<Item = &'a str>, parts: &[String]) -> bool {
    let folded: Vec<String> = texts.into_iter().map(fold).collect();
    parts
        .iter()
        .all(|part| folded.iter().any(|text| text.contains(part.as_str())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_equal_however_a_text_is_written() {
        for (text, terms) in [
            ("", ""),
            ("* - .", ""),
            ("Printer, floor 3", "printer floor 3"),
            ("a.b_c", "a b c"),
            ("Österreich O\u{308}STERREICH", "osterreich osterreich"),
            ("Straße STRASSE STRA\u{1e9e}E", "strasse strasse strasse"),
            ("İstanbul ISTANBUL ıstanbul", "istanbul istanbul istanbul"),
            ("ΟΔΟΣ οδός", "οδοσ οδοσ"),
            ("Ёлка елка", "елка елка"),
            ("Й й и\u{306} и", "й й й и"),
            ("ＫＢ５０３４", "kb5034"),
            ("Łódź Ærø", "lodz aero"),
            ("co\u{ad}operate", "cooperate"),
            ("العَرَبِيَّة", "العربية"),
            ("हिन्दी", "हिन\u{94d}दी"),
            ("\u{2764}\u{fe0f} 1\u{fe0f}\u{20e3}", "1"),
            ("\u{2474} \u{37a}", "1"),
        ] {
            assert_eq!(of(text), terms, "{text}");
        }
    }

    #[test]
    fn unspaced_scripts_have_a_term_for_each_two_letters() {
        for (text, terms) in [
            ("打印机", "打印 印机 机"),
            ("机", "机"),
            ("Windows更新3", "windows 更新 新 3"),
            ("ｶﾞｽ ガス カ\u{3099}ス", "ガス ス ガス ス ガス ス"),
            ("프린터", "프린 린터 터"),
            ("\u{1111}\u{1173}\u{1105}\u{1175}\u{11ab}", "프린 린"),
            ("ภาษา", "ภา าษ ษา า"),
        ] {
            assert_eq!(of(text), terms, "{text}");
        }
    }

    #[test]
    fn a_question_in_an_unspaced_script_has_several_words() {
        for (text, words) in [
            ("Where is my Büro?", vec!["where", "is", "my", "buro"]),
            ("打印机坏了", vec!["打印", "印机", "机坏", "坏了"]),
            ("我 3楼", vec!["3"]),
            ("動きません", vec!["動き"]),
            ("พิมพ์", vec!["พิมพ", "ิมพ์"]),
        ] {
            assert_eq!(of_question(text), words, "{text}");
        }
    }

    #[test]
    fn words_are_counted_as_the_index_separates_them() {
        for (query, count) in [
            ("", 0),
            ("* - .", 0),
            ("printer", 1),
            ("a.b,c", 3),
            ("  floor 3 ", 2),
            ("caf\u{e9} cafe\u{301}", 2),
            ("\u{939}\u{93f}\u{928}\u{94d}\u{926}\u{940}", 1),
            ("\u{5370}\u{5237}\u{6a5f}\u{3001}\u{6545}\u{969c}", 2),
        ] {
            assert_eq!(word_count(query), count, "{query}");
        }
    }

    #[test]
    fn only_the_last_word_of_a_query_and_a_single_unspaced_letter_are_beginnings() {
        let shown = |query: &str| -> Vec<String> {
            let phrases = phrases(query).into_iter();
            phrases
                .map(|one| one.terms.join(" ") + if one.is_prefix { "*" } else { "" })
                .collect()
        };
        assert_eq!(shown("\" OR * -- ( \0 )"), ["or*"]);
        assert_eq!(shown("*** \" ' ;"), [""; 0]);
        assert_eq!(shown("the a.bc KB5034 ,"), ["the", "a bc", "kb5034*"]);
        assert_eq!(shown("floor 3"), ["floor", "3"]);
        assert_eq!(shown("打印机 机 印机x"), ["打印 印机", "机*", "印机 机 x"]);
        assert_eq!(shown("印机xy"), ["印机 机 xy*"]);
    }

    #[test]
    fn a_list_finds_each_part_in_any_of_its_texts() {
        let finds = |texts: &[&str], q: &str| contain(texts.iter().copied(), &parts(q));
        assert!(finds(&["ÖSTERREICH"], "o\u{308}ster"));
        assert!(finds(&["Tech & Co", "1001"], "1001 & tech"));
        assert!(finds(&["東京支店"], "京支"));
        assert!(finds(&["anything"], " "));
        assert!(!finds(&["Tech & Co"], "tech co-op"));
    }

    /// Run by hand: `cargo test --release --lib terms -- --ignored --nocapture`.
    #[test]
    #[ignore = "a measurement"]
    fn words_per_second() {
        for (name, sentence) in [
            (
                "English",
                "The printer on floor 3 does not print since Monday, please help. ",
            ),
            (
                "German",
                "Der Drucker im Büro für Österreich druckt größere Pläne nicht. ",
            ),
            ("Chinese", "三楼的打印机从星期一开始无法打印，请帮忙。"),
        ] {
            let text = sentence.repeat(200);
            let begun = std::time::Instant::now();
            let mut terms = 0;
            for _ in 0..200 {
                terms += of(&text).split(' ').count();
            }
            let seconds = begun.elapsed().as_secs_f64();
            println!(
                "{name}: {:.1} million terms a second",
                terms as f64 / seconds / 1e6
            );
        }
    }
}
