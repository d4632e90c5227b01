//! The sources of an answer: the articles that its responder was given, or those of them that the
//! answer cites by their numbers.

use std::collections::BTreeSet;

use crate::model::answer::Chunk;
use crate::model::article::Article;

/// An article as a source of an answer.
pub fn source(article: &Article) -> Chunk {
    let (id, title) = (article.id.to_string(), article.title.clone());
    match article.url.clone() {
        Some(url) => Chunk::SourceUrl { id, url, title },
        None => Chunk::SourceDocument { id, title },
    }
}

/// Those of the sources that an answer cites, in their order, or all of them if it cites none. The
/// first source has the number 1.
pub fn cited(sources: Vec<Chunk>, answer: &str) -> Vec<Chunk> {
    let mut is_cited = vec![false; sources.len()];
    for number in prose(answer).flat_map(numbers) {
        if let Some(is_cited) = is_cited.get_mut(number.wrapping_sub(1)) {
            *is_cited = true;
        }
    }
    if !is_cited.contains(&true) {
        return sources;
    }
    let cited = sources.into_iter().zip(is_cited);
    cited
        .filter_map(|(source, is_cited)| is_cited.then_some(source))
        .collect()
}

/// The numbers in brackets of an answer, outside of code.
pub fn numbers_in(answer: &str) -> BTreeSet<usize> {
    prose(answer).flat_map(numbers).collect()
}

/// The pieces of a Markdown text that are not code. An index such as `items[1]` cites nothing.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut is_fenced = false;
    text.lines()
        .filter(move |line| {
            let is_fence = line.trim_start().starts_with("```");
            is_fenced ^= is_fence;
            !is_fenced && !is_fence
        })
        .flat_map(|line| line.split('`').step_by(2))
}

/// The numbers in brackets, as in `[1]`, `[1, 2]`, `[1][2]` and `【1】`.
fn numbers(text: &str) -> impl Iterator<Item = usize> {
    text.split(['[', '【']).skip(1).flat_map(|rest| {
        let inner = rest.split([']', '】']).next().unwrap_or_default();
        let is_list = inner.len() < rest.len()
            && inner
                .chars()
                .all(|c| c.is_ascii_digit() || matches!(c, ',' | ';' | ' ' | '^'));
        let numbers = inner.split([',', ';', ' ', '^']);
        numbers
            .filter(move |_| is_list)
            .filter_map(|number| number.parse().ok())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_the_sources_that_it_cites_or_all() {
        let source = |number: usize| Chunk::SourceDocument {
            id: number.to_string(),
            title: format!("Title {number}"),
        };
        let all: Vec<Chunk> = (1..=3).map(source).collect();
        for (answer, expected) in [
            ("Restart it [2].", &[2][..]),
            ("Restart it[3][1].", &[1, 3]),
            ("Restart it [1, 3] or [9].", &[1, 3]),
            ("Restart it [^2]; see [1](https://example.com).", &[1, 2]),
            ("Restart it 【3】.", &[3]),
            ("Restart it.", &[1, 2, 3]),
            ("Restart it [0], [4], [], [a], [1", &[1, 2, 3]),
            ("Set `items[1]`, as [2] says.", &[2]),
            ("```\nitems[1]\n```\nSee [3].", &[3]),
            ("[99999999999999999999999]", &[1, 2, 3]),
        ] {
            let expected: Vec<Chunk> = expected.iter().copied().map(source).collect();
            assert_eq!(cited(all.clone(), answer), expected, "{answer}");
        }
        assert_eq!(cited(Vec::new(), "[1]"), []);
    }
}
