//! Reads JSON as model servers write it: with bytes that are not UTF-8, halves of surrogate pairs,
//! `NaN` and `Infinity`, and control characters within strings.

use std::borrow::Cow;

use serde_json::Value;

/// Stands for the first half of a surrogate pair, U+D800, in the strings of [`Json`] that is mended.
/// The last 2,048 code points, which are for private use, stand for the halves.
const FIRST_HALF: u32 = 0x10_F800;

/// Half of a surrogate pair as UTF-8 would encode it, if UTF-8 allowed that.
const ENCODED_HALF_BYTES: usize = 3;

/// Decodes UTF-8. Half of a surrogate pair becomes its JSON escape, and every other invalid byte
/// becomes U+FFFD.
pub(super) fn decode(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Cow::Borrowed(text);
    }
    let mut text = String::with_capacity(bytes.len());
    let mut rest = bytes;
    while !rest.is_empty() {
        let half = rest
            .windows(ENCODED_HALF_BYTES)
            .position(|three| matches!(three, [0xED, 0xA0..=0xBF, 0x80..=0xBF]));
        let (before, after) = rest.split_at(half.unwrap_or(rest.len()));
        text.push_str(&String::from_utf8_lossy(before));
        rest = after;
        if let [0xED, second, third, others @ ..] = rest {
            let unit = 0xD000 | u32::from(second & 0x3F) << 6 | u32::from(third & 0x3F);
            text.push_str(&format!("\\u{unit:04x}"));
            rest = others;
        }
    }
    Cow::Owned(text)
}

/// JSON of a model server.
#[derive(Debug, PartialEq)]
pub(super) struct Json {
    /// The value. `NaN` and the like are `null`.
    pub(super) value: Value,
    /// Whether the text was no JSON. Its strings may then hold halves of surrogate pairs, which
    /// [`Halves`] joins.
    pub(super) is_mended: bool,
}

/// Parses JSON.
pub(super) fn parse(text: &str) -> Option<Json> {
    let (value, is_mended) = match serde_json::from_str(text) {
        Ok(value) => (value, false),
        Err(_) => (serde_json::from_str(&mend(text)).ok()?, true),
    };
    Some(Json { value, is_mended })
}

/// Rewrites what servers write although it is not JSON.
fn mend(text: &str) -> String {
    let mut mended = String::with_capacity(text.len());
    let mut rest = text;
    let mut is_string = false;
    while let Some(next) = rest.chars().next() {
        let mut length = next.len_utf8();
        match next {
            '"' => {
                is_string = !is_string;
                mended.push(next);
            }
            '\\' if is_string => length = mend_escape(rest, &mut mended),
            '\0'..='\u{1f}' if is_string => {
                mended.push_str(&format!("\\u{:04x}", u32::from(next)));
            }
            '-' | 'N' | 'I' if !is_string => {
                let word = ["NaN", "Infinity", "-Infinity", "-NaN"]
                    .into_iter()
                    .find(|word| rest.starts_with(word));
                length = word.map_or(length, str::len);
                mended.push_str(if word.is_some() {
                    "null"
                } else {
                    &rest[..length]
                });
            }
            _ => mended.push(next),
        }
        rest = &rest[length..];
    }
    mended
}

/// Copies the escape with which a text begins, and returns its length.
fn mend_escape(text: &str, mended: &mut String) -> usize {
    let unit = text
        .strip_prefix("\\u")
        .and_then(|rest| rest.get(..4))
        .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
        .and_then(|digits| u32::from_str_radix(digits, 16).ok());
    if let Some(unit) = unit {
        let half = (0xD800..=0xDFFF)
            .contains(&unit)
            .then(|| char::from_u32(FIRST_HALF + unit - 0xD800))
            .flatten();
        match half {
            Some(half) => mended.push(half),
            None => mended.push_str(&text[..6]),
        }
        return 6;
    }
    match text.as_bytes().get(1) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
            mended.push_str(&text[..2]);
            2
        }
        Some(b'\'') => {
            mended.push('\'');
            2
        }
        // No escape: a backslash.
        Some(_) | None => {
            mended.push_str("\\\\");
            1
        }
    }
}

/// Joins halves of surrogate pairs, however the pieces of a text are cut. A half that stays alone
/// becomes U+FFFD, and U+0000, which no client needs, is dropped.
#[derive(Debug, Default)]
pub(super) struct Halves {
    /// The first half of a pair at the end of the last piece.
    first: Option<u32>,
}

impl Halves {
    /// Takes the next piece of the text. Only a piece of mended JSON `has_halves`.
    pub(super) fn join(&mut self, text: String, has_halves: bool) -> String {
        let is_plain = !has_halves && self.first.is_none() && !text.contains('\0');
        if text.is_empty() || is_plain {
            return text;
        }
        let mut joined = String::with_capacity(text.len());
        for character in text.chars().filter(|character| *character != '\0') {
            let half = half(character).filter(|_| has_halves);
            let pair = match (self.first.take(), half) {
                (Some(first), Some(second @ 0x400..)) => {
                    char::from_u32(0x1_0000 + (first << 10) + (second - 0x400))
                }
                (Some(_), _) => {
                    joined.push(char::REPLACEMENT_CHARACTER);
                    None
                }
                (None, _) => None,
            };
            match (pair, half) {
                (Some(pair), _) => joined.push(pair),
                (None, Some(first @ ..0x400)) => self.first = Some(first),
                (None, Some(_)) => joined.push(char::REPLACEMENT_CHARACTER),
                (None, None) => joined.push(character),
            }
        }
        joined
    }

    /// The end of the text.
    pub(super) fn end(&mut self) -> String {
        let first = self.first.take();
        first
            .map(|_| char::REPLACEMENT_CHARACTER)
            .into_iter()
            .collect()
    }
}

/// Which half of a pair a character stands for: below 0x400 a first one.
fn half(character: char) -> Option<u32> {
    u32::from(character).checked_sub(FIRST_HALF)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_as_servers_write_it_is_read() {
        for (text, value) in [
            (
                r#"{"a":NaN,"b":[-Infinity,Infinity],"c":"NaN \" Infinity"}"#,
                json!({"a": null, "b": [null, null], "c": "NaN \" Infinity"}),
            ),
            (
                r#"{"a":-NaN,"b":-1.5,"c":"\\"}"#,
                json!({"a": null, "b": -1.5, "c": "\\"}),
            ),
            ("{\"a\":\"x\ty\u{1}\nz\0\"}", json!({"a": "x\ty\u{1}\nz\0"})),
            (
                r#"{"a":"it\'s \x41 \u12 \ud83d"}"#,
                json!({"a": "it's \\x41 \\u12 \u{10f83d}"}),
            ),
            (
                r#"{"a":"\u00e9\ud83d\ude00","b":NaN}"#,
                json!({"a": "é\u{10f83d}\u{10fe00}", "b": null}),
            ),
            (r#"{"a":"\ud83d\ude00"}"#, json!({"a": "😀"})),
        ] {
            assert_eq!(parse(text).map(|json| json.value), Some(value), "{text}");
        }
        for garbage in [
            "",
            "{",
            "N",
            "{\"a\":Na}",
            "\"\\",
            "{\"a\":\"\\u",
            "nothing",
        ] {
            assert_eq!(parse(garbage), None, "{garbage}");
        }
    }

    #[test]
    fn invalid_bytes_are_replaced_and_encoded_halves_are_kept() {
        assert_eq!(decode("é😀".as_bytes()), "é😀");
        assert_eq!(decode(b"caf\xe9\""), "caf\u{fffd}\"");
        assert_eq!(decode(b"\xff\xfe"), "\u{fffd}\u{fffd}");
        assert_eq!(
            decode(b"\xed\xa0\xbd\xed\xb8\x80 \xed"),
            "\\ud83d\\ude00 \u{fffd}"
        );
        assert_eq!(
            decode("\u{d7ff}\u{e000}\u{ff}".as_bytes()),
            "\u{d7ff}\u{e000}\u{ff}"
        );
    }

    #[test]
    fn halves_are_joined_however_the_text_is_cut() {
        let read = |pieces: &[&str]| {
            let mut halves = Halves::default();
            let mut text = String::new();
            for piece in pieces {
                let Json { value, is_mended } = parse(&format!("[\"{piece}\"]")).unwrap();
                text += &halves.join(value[0].as_str().unwrap().to_owned(), is_mended);
            }
            text + &halves.end()
        };
        for (pieces, text) in [
            (&[r"Nice ", r"\ud83d", r"\ude00", " day"][..], "Nice 😀 day"),
            (&[r"a\ud83d", "", r"\ude00b"], "a😀b"),
            (&[r"\ud83d\ude00\ud83d", r"\ude00"], "😀😀"),
            (&[r"\ud83d", "x"], "\u{fffd}x"),
            (&[r"\ud83d", r"\ud83d", r"\ude00"], "\u{fffd}😀"),
            (&[r"\ude00\ud83d"], "\u{fffd}\u{fffd}"),
            (&[r"\ude00", r"\udbff\udfff"], "\u{fffd}\u{10ffff}"),
            (&[r"a\u0000", r"\ud83d\u0000\ude00"], "a😀"),
            (&["é", "😀"], "é😀"),
            (&["\u{10f83d}", "\u{10fe00}"], "\u{10f83d}\u{10fe00}"),
        ] {
            assert_eq!(read(pieces), text, "{pieces:?}");
        }
    }
}
