//! The part of a text that shows where a search has found its words.

use std::ops::Range;

use unicode_normalization::char::is_combining_mark;

use super::{Phrase, append, each_term_of_run, each_word, runs};

/// The most characters of a snippet.
pub const SNIPPET_CHARS: usize = 160;
/// The most characters of a snippet before its first mark.
const CHARS_BEFORE_MARK: usize = 40;
/// The most characters of a word that a snippet leaves out rather than cuts.
const CHARS_OF_CUT_WORD: usize = 24;

/// A part of a text around the first place that a search has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snippet {
    /// Up to [`SNIPPET_CHARS`] characters of the text.
    pub text: String,
    /// Where the phrases are, in UTF-16 code units of `text`: ascending, apart from each other.
    pub marks: Vec<[usize; 2]>,
}

/// The snippet of a text. Without a mark, if the text has none of the phrases.
pub fn snippet(text: &str, phrases: &[Phrase]) -> Snippet {
    let marks = places(text, phrases);
    let window = window(text, marks.first().cloned().unwrap_or(0..0));
    let part = &text[window.clone()];
    let units = |end: usize| part[..end].encode_utf16().count();
    let marks = marks
        .into_iter()
        .filter(|mark| mark.start >= window.start && mark.start < window.end)
        .map(|mark| {
            let end = mark.end.min(window.end);
            [units(mark.start - window.start), units(end - window.start)]
        })
        .collect();
    Snippet {
        text: part.to_owned(),
        marks,
    }
}

/// Where the phrases are in a text, in bytes. Places that overlap are joined.
fn places(text: &str, phrases: &[Phrase]) -> Vec<Range<usize>> {
    let mut terms: Vec<(String, Range<usize>)> = Vec::new();
    each_word(text, |word| {
        for run in runs(word) {
            each_term_of_run(run, |term| {
                let mut text = String::new();
                append(&mut text, term);
                terms.push((text, term[0].start..term[term.len() - 1].end));
            });
        }
    });
    let mut places: Vec<Range<usize>> = Vec::new();
    for first in 0..terms.len() {
        for phrase in phrases.iter().filter(|one| one.begins(&terms[first..])) {
            let last = phrase.terms.len() - 1;
            let (_, bytes) = &terms[first + last];
            let end = match &phrase.terms[last] {
                prefix if phrase.is_prefix => {
                    bytes.start + end_of_prefix(&text[bytes.clone()], prefix)
                }
                _ => bytes.end,
            };
            let start = terms[first].1.start;
            match places.last_mut() {
                Some(before) if start < before.end => before.end = before.end.max(end),
                _ => places.push(start..end),
            }
        }
    }
    places
}

/// The end of the letters of a word that a prefix covers, in bytes.
fn end_of_prefix(word: &str, prefix: &str) -> usize {
    let (mut folded_bytes, mut end) = (0, 0);
    each_word(word, |letters| {
        for letter in letters {
            if folded_bytes < prefix.len() {
                folded_bytes += letter.char.len_utf8();
                end = letter.end;
            }
        }
    });
    if end == 0 { word.len() } else { end }
}

/// The bytes of a text that a snippet shows: some characters before the first mark, and what
/// follows. The snippet begins and ends between two words, if there is such a place nearby, or
/// between two letters.
fn window(text: &str, mark: Range<usize>) -> Range<usize> {
    let before = text[..mark.start].char_indices().rev();
    let mut start = before
        .take(CHARS_BEFORE_MARK)
        .last()
        .map_or(mark.start, |(at, _)| at);
    if start > 0 && !text[..start].ends_with(char::is_whitespace) {
        let lead = &text[start..mark.start];
        let space = lead[..nth_char(lead, CHARS_OF_CUT_WORD)].find(char::is_whitespace);
        start += space.unwrap_or_else(|| first_cut(lead));
    }
    let lead = &text[start..mark.start];
    start += lead.len() - lead.trim_start().len();
    let rest = &text[start..];
    let mut end = nth_char(rest, SNIPPET_CHARS);
    if end < rest.len() && !rest[end..].starts_with(char::is_whitespace) {
        let marked = mark.end.saturating_sub(start).min(end);
        let last_word = nth_char(rest, SNIPPET_CHARS - CHARS_OF_CUT_WORD).max(marked);
        end = match rest[last_word..end].rfind(char::is_whitespace) {
            Some(space) => last_word + space,
            None => last_cut(rest, end),
        };
    }
    start..start + rest[..end].trim_end().len()
}

/// Where the nth character of a text begins, or the text's end.
fn nth_char(text: &str, nth: usize) -> usize {
    text.char_indices()
        .nth(nth)
        .map_or(text.len(), |(at, _)| at)
}

/// The first place between two letters of a text, its beginning included.
fn first_cut(text: &str) -> usize {
    let mut places = text.char_indices().map(|(at, _)| at);
    places.find(|at| is_cut(text, *at)).unwrap_or(0)
}

/// The last place between two letters of a text up to `end`.
fn last_cut(text: &str, end: usize) -> usize {
    let earlier = text[..end].char_indices().rev().map(|(at, _)| at);
    let mut places = std::iter::once(end).chain(earlier);
    places
        .find(|at| *at > 0 && is_cut(text, *at))
        .unwrap_or(end)
}

/// Whether a text can be cut here without taking a mark from its letter or an emoji apart.
fn is_cut(text: &str, at: usize) -> bool {
    let joins = |c: char| c == '\u{200d}';
    let follows = |c: char| {
        is_combining_mark(c)
            || joins(c)
            || matches!(c, '\u{1f3fb}'..='\u{1f3ff}' | '\u{e0020}'..='\u{e007f}')
    };
    !text[..at].ends_with(joins) && !text[at..].starts_with(follows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terms::phrases;

    #[test]
    fn marks_cover_what_was_found_in_the_original_text() {
        for (text, query, marked) in [
            ("My Printer is on fire", "printer", vec!["Printer"]),
            ("Get KB5034441 now", "kb5034", vec!["KB5034"]),
            (
                "O\u{308}sterreich, Österreich",
                "österreich",
                vec!["O\u{308}sterreich", "Österreich"],
            ),
            ("Die Straße", "stras", vec!["Straß"]),
            ("cafe\u{301} au lait", "cafe", vec!["cafe\u{301}"]),
            ("新的打印机坏了", "打印机", vec!["打印机"]),
            ("新的打印机坏了", "机", vec!["机"]),
            ("host.example.com", "host.example", vec!["host.example"]),
            ("one two", "three", vec![]),
            ("aba", "aba ab", vec!["aba"]),
            ("机机机", "机机", vec!["机机机"]),
            ("\u{1f600} printer \u{1f600}", "printer", vec!["printer"]),
        ] {
            let snippet = snippet(text, &phrases(query));
            let units: Vec<u16> = snippet.text.encode_utf16().collect();
            let found = snippet
                .marks
                .iter()
                .map(|[start, end]| String::from_utf16(&units[*start..*end]).unwrap());
            assert_eq!(found.collect::<Vec<_>>(), marked, "{text} {query}");
        }
    }

    #[test]
    fn a_snippet_is_short_and_cuts_no_word_and_no_letter() {
        let words = "word ".repeat(50);
        let text = format!("{words}needle {words}");
        let shown = snippet(&text, &phrases("needle"));
        assert_eq!(
            shown.text,
            format!("{}needle{}", "word ".repeat(8), " word".repeat(22))
        );
        assert_eq!(shown.marks, [[40, 46]]);

        let accents = "e\u{301}".repeat(100);
        let shown = snippet(&format!("{accents}.needle.{accents}"), &phrases("needle"));
        let end = "e\u{301}".repeat(57);
        let start = "e\u{301}".repeat(19);
        assert_eq!(shown.text, format!("{start}.needle.{end}"));

        let long = "x".repeat(1_000);
        let shown = snippet(&long, &phrases("xxx"));
        assert_eq!((shown.text.len(), shown.marks), (160, vec![[0, 3]]));
        let shown = snippet(&long, &phrases(&long[..200]));
        assert_eq!((shown.text.len(), shown.marks), (160, vec![[0, 160]]));

        let family = "\u{1f469}\u{200d}\u{1f467}".repeat(60);
        let shown = snippet(&format!("\u{1f600} a {family}"), &phrases("a"));
        assert_eq!(shown.marks, [[3, 4]]);
        assert_eq!(
            shown.text,
            format!("\u{1f600} a {}", "\u{1f469}\u{200d}\u{1f467}".repeat(52))
        );
        assert_eq!(snippet("", &phrases("a")).text, "");
    }
}
