//! The search index on PostgreSQL: two tables with a `tsvector`, whose lexemes are the program's own
//! terms. No parser and no dictionary of the server takes part, so that a search finds what FTS5
//! finds.

use std::collections::HashMap;

use crate::model::names::TenantNo;
use crate::store::search::{Newest, Spelling};
use crate::terms::{self, Phrase};

/// How a search reads the index.
pub(in crate::store) const SPELLING: Spelling = Spelling {
    expression,
    newest: Some(Newest {
        from: NEWEST_FROM,
        texts: [NEWEST_MESSAGES_WITH, NEWEST_TITLES_WITH],
    }),
    first: [FIRST_MESSAGES_WITH, FIRST_TITLES_WITH],
    rest: [MESSAGES_WITH, TITLES_WITH],
    is_oldest_first: false,
};

/// The most bytes of a lexeme. A longer term is cut, in texts and in queries.
const LEXEME_BYTES: usize = 2_046;
/// The most terms of one row. The server keeps no position above 16,383.
const ROW_TERMS: usize = 8_192;
/// The most positions of one lexeme in a row. The server keeps 256.
const POSITIONS: usize = 255;
/// The most bytes of all terms of a row. The server takes 1 MiB.
const ROW_BYTES: usize = 1_000_000;
/// The most terms of a phrase. The query of a search has up to 200 characters, which are more terms
/// only if they are compatibility forms, such as ㌖: then the first terms count.
const PHRASE_TERMS: usize = 200;

/// The lexeme of a tenant, which no term is equal to and no prefix covers. Each indexed text has it.
fn scope(tenant: TenantNo) -> String {
    format!("/{}", tenant.0)
}

/// The `tsquery` for a tenant's texts with a phrase.
fn expression(tenant: TenantNo, phrase: &Phrase) -> String {
    let mut query = String::new();
    push_lexeme(&mut query, &scope(tenant));
    for (nth, term) in phrase.terms.iter().take(PHRASE_TERMS).enumerate() {
        query.push_str(if nth == 0 { " & " } else { " <-> " });
        push_lexeme(&mut query, cut(term));
    }
    if phrase.is_prefix && phrase.terms.len() <= PHRASE_TERMS {
        query.push_str(":*");
    }
    query
}

/// The rows of a text, as literals of `tsvector`, one on each line. Empty for a text without a term.
///
/// A text is one row, unless the server would then lose positions. Two neighboring rows share the
/// terms of a phrase, so that every phrase is whole in one of them.
pub(in crate::store) fn rows(tenant: TenantNo, text: &str) -> String {
    let (text, scope) = (terms::of(text), scope(tenant));
    let terms = text.split(' ').filter(|term| !term.is_empty());
    let terms: Vec<&str> = terms.map(cut).collect();
    let mut rows = String::with_capacity(2 * text.len() + 16);
    let mut rest = terms.as_slice();
    while !rest.is_empty() {
        let row = &rest[..row_length(rest)];
        push_lexeme(&mut rows, &scope);
        for (position, term) in (1_usize..).zip(row) {
            rows.push(' ');
            push_lexeme(&mut rows, term);
            rows.push(':');
            rows.push_str(&position.to_string());
        }
        if row.len() == rest.len() {
            break;
        }
        rows.push('\n');
        rest = &rest[row.len() - (PHRASE_TERMS - 1)..];
    }
    rows
}

/// How many of these terms one row takes.
fn row_length(terms: &[&str]) -> usize {
    if terms.len() <= POSITIONS {
        return terms.len();
    }
    let mut counts: HashMap<&str, usize> = HashMap::new();
    let mut bytes = 0;
    let end = terms.iter().take(ROW_TERMS).position(|term| {
        let count = counts.entry(term).or_default();
        *count += 1;
        bytes += term.len();
        *count > POSITIONS || bytes > ROW_BYTES
    });
    end.unwrap_or(terms.len().min(ROW_TERMS))
}

/// The part of a term that a lexeme holds.
fn cut(term: &str) -> &str {
    &term[..term.floor_char_boundary(LEXEME_BYTES)]
}

/// Appends a lexeme in quotes, so that the server takes it as it is.
fn push_lexeme(text: &mut String, lexeme: &str) {
    text.push('\'');
    for c in lexeme.chars() {
        if matches!(c, '\'' | '\\') {
            text.push(c);
        }
        text.push(c);
    }
    text.push('\'');
}

/// The tick from which on there are up to a number of messages and of titles, of all tenants.
pub const NEWEST_FROM: &str = "
SELECT greatest((SELECT seq FROM message_search ORDER BY seq DESC LIMIT 1 OFFSET ?1),
                (SELECT seq FROM title_search ORDER BY seq DESC LIMIT 1 OFFSET ?1), 0) AS newest_from";
/// The messages with a phrase, in a range of ticks with few messages.
///
/// `IS TRUE` keeps the server from the index of words: the range is read by its key.
pub const NEWEST_MESSAGES_WITH: &str = "
SELECT seq AS posting, session_seq FROM message_search WHERE seq >= ?2 AND seq < ?3 AND (words @@ CAST(?1 AS tsquery)) IS TRUE";
/// As [`NEWEST_MESSAGES_WITH`], of titles.
pub const NEWEST_TITLES_WITH: &str = "
SELECT seq AS posting, seq AS session_seq FROM title_search WHERE seq >= ?2 AND seq < ?3 AND (words @@ CAST(?1 AS tsquery)) IS TRUE";
/// Some messages with a phrase, in any order.
///
/// The subquery hides the phrase from the planner, which then reads the index of words, however
/// frequent a word is in the texts of other tenants.
pub const FIRST_MESSAGES_WITH: &str = "
SELECT seq AS posting, session_seq FROM message_search WHERE words @@ (SELECT CAST(?1 AS tsquery)) LIMIT ?2";
/// As [`FIRST_MESSAGES_WITH`], of titles.
pub const FIRST_TITLES_WITH: &str = "
SELECT seq AS posting, seq AS session_seq FROM title_search WHERE words @@ (SELECT CAST(?1 AS tsquery)) LIMIT ?2";
/// The messages with a phrase, in a range of ticks.
///
/// The planner knows phrase and range, and reads by the key, by the index of words, or by both.
pub const MESSAGES_WITH: &str = "
SELECT seq AS posting, session_seq FROM message_search WHERE words @@ CAST(?1 AS tsquery) AND seq >= ?2 AND seq < ?3";
/// As [`MESSAGES_WITH`], of titles.
pub const TITLES_WITH: &str = "
SELECT seq AS posting, seq AS session_seq FROM title_search WHERE words @@ CAST(?1 AS tsquery) AND seq >= ?2 AND seq < ?3";

pub(in crate::store) const ADD_TITLE: &str = "
INSERT INTO title_search (seq, part, words)
SELECT ?1, r.part, CAST(r.words AS tsvector) FROM unnest(string_to_array(?2, chr(10))) WITH ORDINALITY AS r (words, part)";
pub(in crate::store) const REMOVE_TITLE: &str = "DELETE FROM title_search WHERE seq = ?1";

pub(in crate::store) const ADD_MESSAGE: &str = "
INSERT INTO message_search (seq, part, session_seq, words)
SELECT ?1, r.part, ?2, CAST(r.words AS tsvector) FROM unnest(string_to_array(?3, chr(10))) WITH ORDINALITY AS r (words, part)";
pub(in crate::store) const REMOVE_MESSAGE: &str = "DELETE FROM message_search WHERE seq = ?1";

#[cfg(test)]
mod tests {
    use super::*;

    fn expressions(query: &str) -> Vec<String> {
        let phrases = terms::phrases(query);
        let expressions = phrases.iter().map(|one| expression(TenantNo(5), one));
        expressions.collect()
    }

    #[test]
    fn a_phrase_is_searched_within_its_tenant_and_its_last_term_may_be_a_beginning() {
        assert_eq!(
            expressions("a' & b:* scope:\\t6"),
            ["'/5' & 'a'", "'/5' & 'b'", "'/5' & 'scope' <-> 't6':*"]
        );
    }

    #[test]
    fn a_text_is_one_row_of_its_terms_and_their_positions() {
        assert_eq!(
            rows(TenantNo(5), "To be, or not to"),
            "'/5' 'to':1 'be':2 'or':3 'not':4 'to':5"
        );
        assert_eq!(rows(TenantNo(5), "* - ."), "");
        let mut quoted = String::new();
        push_lexeme(&mut quoted, "it's a \\");
        assert_eq!(quoted, "'it''s a \\\\'");
    }

    /// The terms of each row of a text.
    fn rows_of(text: &str) -> Vec<Vec<String>> {
        let rows = rows(TenantNo(5), text);
        let lines = rows.lines().map(|line| {
            let terms = line.split(' ').skip(1);
            let terms = terms.map(|term| term.split('\'').nth(1).unwrap().to_owned());
            terms.collect()
        });
        lines.collect()
    }

    #[test]
    fn a_long_text_has_several_rows_and_each_phrase_is_whole_in_one_of_them() {
        let many: Vec<String> = (0..20_000).map(|nth| format!("w{nth}")).collect();
        let often = vec!["the".to_owned(); 1_000];
        let long: Vec<String> = (0..2_000)
            .map(|nth| format!("{nth}{}", "x".repeat(5_000)))
            .collect();
        for (terms, expected) in [(many, 3), (often, 15), (long, 7)] {
            let rows = rows_of(&terms.join(" "));
            assert_eq!(rows.len(), expected);
            let cut: Vec<&str> = terms.iter().map(|term| cut(term)).collect();
            let mut end = PHRASE_TERMS - 1;
            for row in &rows {
                let start = end - (PHRASE_TERMS - 1);
                assert_eq!(*row, cut[start..start + row.len()]);
                end = start + row.len();
                assert!(row.len() <= ROW_TERMS);
                assert!(row.iter().map(String::len).sum::<usize>() <= ROW_BYTES);
            }
            assert_eq!(end, terms.len());
        }
    }

    #[test]
    fn a_term_is_cut_between_two_characters_in_texts_and_in_queries() {
        let long = "\u{4e00}a".repeat(1_000);
        assert_eq!(cut(&long).len(), 2_044);
        assert_eq!(cut("short"), "short");
    }
}
