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

/// The most characters of a title that comes from a first message.
const DERIVED_TITLE: usize = 80;

/// The title that a first message gives to its session: its first line, cut between words.
pub fn title_of(message: &str) -> Option<String> {
    let line = message
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty())?;
    let Some((end, _)) = line.char_indices().nth(DERIVED_TITLE) else {
        return Some(line.to_owned());
    };
    let cut = &line[..end];
    let cut = cut
        .rfind(char::is_whitespace)
        .map_or(cut, |space| &cut[..space]);
    Some(format!("{}…", cut.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_the_first_line_cut_between_words() {
        assert_eq!(
            title_of("\n  My printer is on fire \nsince noon"),
            Some("My printer is on fire".to_owned())
        );
        assert_eq!(title_of(" \n"), None);
        let long = "word ".repeat(40);
        assert_eq!(
            title_of(&long),
            Some(format!("{}…", "word ".repeat(16).trim_end()))
        );
        assert_eq!(
            title_of(&"é".repeat(100)),
            Some(format!("{}…", "é".repeat(80)))
        );
    }

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
