//! The id of an end company, as PSAs write it (contract, section 1, Ids).

use std::borrow::Cow;

use unicode_normalization::char::is_combining_mark;
use unicode_normalization::{UnicodeNormalization, is_nfc};

/// The format as the rest of a sentence that begins with the field's name.
pub(super) const RULE: &str = "must be 1 to 64 letters, digits, spaces and characters of ._-&/+,'()#@: and neither 'health' nor 'unlinked-tenants'";

/// The format of all ids, also of stored ones, as a regular expression (ECMA-262). Engines differ in
/// the names of character classes, so the expression names what an id cannot contain. It lets
/// symbols outside of ASCII pass.
pub(super) const PATTERN: &str = r#"^\s*(?!(health|unlinked-tenants)\s*$)[^\u0000-\u001f!"$%*;<=>?\[\\\]^\u0060{|}~\u007f-\u00a0]{1,64}\s*$"#;

/// The maximum length of an id, in characters.
const MAX_CHARACTERS: usize = 64;
/// The maximum length of text that can be an id in any spelling, in bytes.
const MAX_BYTES: usize = 2_048;
/// The characters of an id that are neither letters, digits nor marks.
const OTHERS: &str = " ._-&/+,'()#@:";
/// The ids that are paths of their own in the API.
const PATHS: [&str; 2] = ["health", "unlinked-tenants"];

/// The reason for an id that a spreadsheet exported as a formula.
const FORMULA: &str = "must not begin with '=': a spreadsheet wrote the id as a formula; export the list again, with the id as plain text";
/// The reason for an id that a spreadsheet rounded.
const ROUNDED: &str = "must not be a number with an exponent, such as 1.00E+05: a spreadsheet has rounded the id; format the column as text and export the list again";

/// The reason for an id that browsers and proxies would take as another path.
const DOTS: &str = "must not be '.' or '..', and must not have one of them between slashes: browsers and proxies change such a path";

/// The id as it is stored and compared: without space around it, in Unicode's normal form C. `None`
/// for text that names no company.
pub(super) fn normalized(text: &str) -> Option<String> {
    if text.len() > MAX_BYTES {
        return None;
    }
    let text = text.trim();
    let id: Cow<'_, str> = match is_nfc(text) {
        true => text.into(),
        false => text.nfc().collect::<String>().into(),
    };
    let is_valid = (1..=MAX_CHARACTERS).contains(&id.chars().count())
        && id.chars().all(is_allowed)
        && !PATHS.contains(&id.as_ref());
    is_valid.then(|| id.into_owned())
}

fn is_allowed(character: char) -> bool {
    character.is_alphanumeric() || OTHERS.contains(character) || is_combining_mark(character)
}

/// The reason if no new company may have this id.
pub(super) fn refused(text: &str) -> Option<&'static str> {
    let text = text.trim();
    if text.starts_with('=') {
        return Some(FORMULA);
    }
    if is_rounded(text) {
        return Some(ROUNDED);
    }
    if text.split('/').any(|part| matches!(part, "." | "..")) {
        return Some(DOTS);
    }
    match normalized(text) {
        Some(_) => None,
        None => Some(RULE),
    }
}

/// Whether text is a number with an exponent that has a sign, as spreadsheets show long numbers.
fn is_rounded(text: &str) -> bool {
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let Some((number, exponent)) = text.split_once(['E', 'e']) else {
        return false;
    };
    let number = number.strip_prefix(['+', '-']).unwrap_or(number);
    let is_number = match number.split_once(['.', ',']) {
        Some((whole, fraction)) => is_digits(whole) && is_digits(fraction),
        None => is_digits(number),
    };
    is_number && exponent.strip_prefix(['+', '-']).is_some_and(is_digits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::names::CompanyId;

    #[test]
    fn an_id_has_letters_of_any_script_and_the_marks_that_psas_write() {
        for text in [
            "1001",
            "ACME & Sons",
            "SMITH/JONES",
            "MÜLLER",
            "12 345",
            "1,234",
            "'00124",
            "A+B (UK) #7, a@b: c.d_e-f",
            "株式会社アクメ",
            "ООО Ромашка",
            "बैंक",
            "A..B",
            "Health",
            "1E5",
            "12-E+4x",
        ] {
            assert_eq!(CompanyId::parse(text).unwrap().as_str(), text);
            assert_eq!(refused(text), None, "{text}");
        }
        // Those of older versions stay readable.
        for text in [".", "..", "../agents/102", "a/./b"] {
            assert!(CompanyId::parse(text).is_some());
            assert_eq!(refused(text), Some(DOTS), "{text}");
        }
        let long = "ü".repeat(64);
        assert!(CompanyId::parse(&long).is_some());
        assert_eq!(refused(&format!("{long}x")), Some(RULE));
    }

    #[test]
    fn space_around_an_id_and_its_spelling_in_unicode_do_not_matter() {
        let composed = CompanyId::parse("Caf\u{e9}").unwrap();
        assert_eq!(CompanyId::parse(" Cafe\u{301}\u{a0}").unwrap(), composed);
        assert_eq!(composed.as_str(), "Caf\u{e9}");
        // Each decomposed character counts once.
        assert!(CompanyId::parse(&"e\u{301}".repeat(64)).is_some());
        assert!(CompanyId::parse(&"e\u{301}".repeat(65)).is_none());
    }

    #[test]
    fn other_text_is_no_id() {
        for text in [
            "",
            " ",
            "health",
            " unlinked-tenants ",
            "a;b",
            "a\"b",
            "a%b",
            "a*b",
            "a\nb",
            "a\u{0}",
            "a\u{a0}b",
            "a\u{200b}b",
            "😀",
            "a=b",
            "a\\b",
        ] {
            assert_eq!(CompanyId::parse(text), None, "{text:?}");
            assert_eq!(refused(text), Some(RULE), "{text:?}");
        }
    }

    #[test]
    fn what_a_spreadsheet_has_damaged_is_no_new_id() {
        for text in ["1.00E+05", "1,23e+11", "1E+05", " 2.5E-07 ", "-1E+5"] {
            assert_eq!(refused(text), Some(ROUNDED), "{text}");
        }
        for text in ["=\"00123\"", "=1+2", " =A1"] {
            assert_eq!(refused(text), Some(FORMULA), "{text}");
        }
        // Older versions took this id.
        assert!(CompanyId::parse("1E-05").is_some());
    }
}
