//! Text helpers.

use std::fmt::Display;

/// Cuts text to `max` characters. `…` marks the cut.
pub fn shorten(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A number with its noun, in the singular for 1.
pub fn counted<N: Display + PartialEq + From<u8>>(number: N, one: &str, many: &str) -> String {
    let noun = if number == N::from(1) { one } else { many };
    format!("{number} {noun}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_noun_is_singular_for_one_thing_only() {
        let companies = |number: i64| counted(number, "company", "companies");
        assert_eq!(companies(0), "0 companies");
        assert_eq!(companies(1), "1 company");
        assert_eq!(companies(2), "2 companies");
    }

    #[test]
    fn text_is_cut_between_characters_and_only_if_it_is_too_long() {
        assert_eq!(shorten("äöü", 3), "äöü");
        assert_eq!(shorten("äöü", 2), "äö…");
        assert_eq!(shorten("", 0), "");
    }
}
