//! The search index on SQLite: two FTS5 tables, which hold terms and no text.

use crate::model::names::TenantNo;
use crate::store::search::Spelling;
use crate::terms::Phrase;

/// How a search reads the index.
pub(in crate::store) const SPELLING: Spelling = Spelling {
    expression,
    newest: None,
    first: [FIRST_MESSAGES_WITH, FIRST_TITLES_WITH],
    rest: [MESSAGES_WITH, TITLES_WITH],
    is_oldest_first: true,
};

/// The term of a tenant. Each indexed text has one, so that a query reads only the postings of its
/// tenant.
pub(in crate::store) fn scope(tenant: TenantNo) -> String {
    format!("t{}", tenant.0)
}

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

pub(in crate::store) const HAS_TITLE: &str = "SELECT 1 FROM title_search WHERE rowid = ?1";
pub(in crate::store) const ADD_TITLE: &str =
    "INSERT INTO title_search (rowid, scope, words) VALUES (?1, ?2, ?3)";
pub(in crate::store) const REMOVE_TITLE: &str = "
INSERT INTO title_search (title_search, rowid, scope, words) VALUES ('delete', ?1, ?2, ?3)";

pub(in crate::store) const ADD_MESSAGE: &str =
    "INSERT INTO message_search (rowid, scope, words) VALUES (?1, ?2, ?3)";
pub(in crate::store) const REMOVE_MESSAGE: &str = "
INSERT INTO message_search (message_search, rowid, scope, words) VALUES ('delete', ?1, ?2, ?3)";
pub(in crate::store) const MERGE: &str =
    "INSERT INTO message_search (message_search, rank) VALUES ('merge', ?1)";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terms;

    #[test]
    fn a_phrase_is_searched_within_its_tenant_and_its_last_term_may_be_a_beginning() {
        let phrases = terms::phrases("a\" scope:\"t6");
        let expressions: Vec<String> = phrases
            .iter()
            .map(|one| expression(TenantNo(5), one))
            .collect();
        assert_eq!(
            expressions,
            [
                "scope : \"t5\" AND words : \"a\"",
                "scope : \"t5\" AND words : \"scope t6\" *",
            ]
        );
    }
}
