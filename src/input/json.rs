//! Reads JSON text strictly: a name that an object says twice is reported, and so is a name that
//! the reader of the object does not know (contract, section 11).

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::input::fields::{Problem, without_keys};
use crate::text::shorten;

/// The reason for refusing a string with half of a character. No UTF-8 text can hold it.
pub const HALF_CHARACTER: &str =
    "contains half of a surrogate pair, such as half an emoji; send the whole character";

/// Why bytes are not UTF-8 text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotUtf8 {
    /// They are text in this encoding.
    Encoded(&'static str),
    /// The first byte that is not UTF-8 is at this position, counted from 1.
    At(usize),
}

/// The text that bytes are. Windows editors write a byte order mark before UTF-8, which is not part
/// of the text.
///
/// # Errors
/// The bytes are not UTF-8.
pub fn text_of(bytes: &[u8]) -> Result<&str, NotUtf8> {
    if let Some(encoding) = wide_encoding(bytes) {
        return Err(NotUtf8::Encoded(encoding));
    }
    let without_mark = bytes.strip_prefix(b"\xef\xbb\xbf");
    let marked = bytes.len() - without_mark.unwrap_or(bytes).len();
    str::from_utf8(without_mark.unwrap_or(bytes))
        .map_err(|error| NotUtf8::At(marked + error.valid_up_to() + 1))
}

/// The encoding of text whose characters have two or four bytes. JSON begins with an ASCII
/// character, so that such text has a zero byte near its beginning. Valid JSON has none.
fn wide_encoding(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => Some("UTF-32"),
        [_, 0, 0, 0, ..] | [0, 0, 0, _, ..] => Some("UTF-32"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, _, ..] | [_, 0, ..] => Some("UTF-16"),
        _ => None,
    }
}

/// The path of the first string in a JSON text that has half of a surrogate pair (RFC 8259, section
/// 8.2). It is empty if the string is a name in the root object or if the text has other faults too.
/// `None` if no string has half of a pair.
pub fn half_character(text: &[u8]) -> Option<String> {
    // No character, so that the text does not have it by itself.
    const MARK: char = '\u{ffff}';
    let mut marked = Vec::with_capacity(text.len());
    let mut rest = text;
    let mut is_found = false;
    while let Some((piece, is_half)) = next_piece(rest) {
        let (piece, after) = rest.split_at(piece);
        rest = after;
        if is_half {
            let mark = if is_found { '\u{fffd}' } else { MARK };
            is_found = true;
            marked.extend_from_slice(mark.encode_utf8(&mut [0; 4]).as_bytes());
        } else {
            marked.extend_from_slice(piece);
        }
    }
    let value = is_found.then(|| serde_json::from_slice::<Value>(&marked))?;
    Some(
        value
            .ok()
            .and_then(|value| path_of(&At::Root, &value, MARK))
            .unwrap_or_default(),
    )
}

/// The length of the next byte, escape or pair of escapes of a JSON text, and whether it is half of a
/// surrogate pair.
fn next_piece(text: &[u8]) -> Option<(usize, bool)> {
    let unit = |text: &[u8]| {
        let digits = text.strip_prefix(b"\\u")?.get(..4)?;
        u16::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
    };
    match text {
        [] => None,
        // UTF-8 as some programs write it, with each half on its own.
        [0xed, 0xa0..=0xbf, _, ..] => Some((3, true)),
        [b'\\', ..] => Some(match unit(text) {
            Some(0xd800..=0xdbff) => match text.get(6..).and_then(unit) {
                Some(0xdc00..=0xdfff) => (12, false),
                Some(_) | None => (6, true),
            },
            Some(0xdc00..=0xdfff) => (6, true),
            Some(_) => (6, false),
            None => (text.len().min(2), false),
        }),
        [_, ..] => Some((1, false)),
    }
}

/// The path of the first string in a value that has this character, or of the object that has it in
/// a name.
fn path_of(at: &At<'_>, value: &Value, mark: char) -> Option<String> {
    match value {
        Value::String(text) => text.contains(mark).then(|| at.to_string()),
        Value::Array(items) => {
            let mut items = items.iter().enumerate();
            items.find_map(|(index, item)| path_of(&At::Index(at, index), item, mark))
        }
        Value::Object(members) => members.iter().find_map(|(name, value)| {
            if name.contains(mark) {
                return Some(at.to_string());
            }
            path_of(&At::Name(at, name), value, mark)
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

/// Parses JSON text. Returns the value, and a problem for each name that an object says more than
/// once: parsers differ in which one counts. Here the last one does.
///
/// # Errors
/// The text is not JSON.
pub fn parse(text: &str) -> serde_json::Result<(Value, Vec<Problem>)> {
    let repeated = RefCell::default();
    let root = Reader {
        at: &At::Root,
        repeated: &repeated,
    };
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = root.deserialize(&mut deserializer)?;
    deserializer.end()?;
    let mut seen = HashSet::new();
    let paths = repeated.into_inner().into_iter();
    let problems = paths
        .filter(|path| seen.insert(path.clone()))
        .map(|path| Problem {
            path,
            value: String::new(),
            reason: "appears more than once in its object; keep one of them".to_owned(),
        });
    Ok((value, problems.collect()))
}

/// A position in a JSON text.
enum At<'a> {
    Root,
    Name(&'a At<'a>, &'a str),
    Index(&'a At<'a>, usize),
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Name(Self::Root, name) => f.write_str(&shown(name)),
            Self::Name(object, name) => write!(f, "{object}.{}", shown(name)),
            Self::Index(array, index) => write!(f, "{array}[{index}]"),
        }
    }
}

/// The maximum length of a name in a path, in characters.
const SHOWN: usize = 80;

/// A name as a path shows it: quoted if it is not a plain word, shortened, without API keys.
pub fn shown(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !name.is_empty() && name.len() <= SHOWN && name.chars().all(is_plain) {
        return without_keys(name);
    }
    shorten(&without_keys(&format!("{name:?}")), SHOWN)
}

/// Reads one value.
#[derive(Clone, Copy)]
struct Reader<'a> {
    at: &'a At<'a>,
    repeated: &'a RefCell<Vec<String>>,
}

impl Reader<'_> {
    fn inner<'b>(&'b self, at: &'b At<'b>) -> Reader<'b> {
        Reader {
            at,
            repeated: self.repeated,
        }
    }
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        loop {
            let at = At::Index(self.at, values.len());
            match array.next_element_seed(self.inner(&at))? {
                Some(value) => values.push(value),
                None => return Ok(values.into()),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = object.next_key::<String>()? {
            let at = At::Name(self.at, &name);
            let value = object.next_value_seed(self.inner(&at))?;
            if members.contains_key(&name) {
                self.repeated.borrow_mut().push(at.to_string());
            }
            members.insert(name, value);
        }
        Ok(members.into())
    }
}

/// Returns a problem for each name in a value that the schema of its object lacks, with the nearest
/// name that the object may have. The schema is that of [`describe`](super::fields::describe).
pub fn unknown_names(value: &Value, schema: &Value) -> Vec<Problem> {
    let mut problems = Vec::new();
    add_unknown(&At::Root, value, schema, &mut problems);
    problems
}

fn add_unknown(at: &At<'_>, value: &Value, schema: &Value, problems: &mut Vec<Problem>) {
    match value {
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                add_unknown(&At::Index(at, index), item, &schema["items"], problems);
            }
        }
        Value::Object(members) => {
            // A value of another type than its field is a problem of its own.
            let Some(known) = schema["properties"].as_object() else {
                return;
            };
            for (name, value) in members {
                let at = At::Name(at, name);
                match known.get(name) {
                    Some(schema) => add_unknown(&at, value, schema, problems),
                    None => problems.push(Problem {
                        path: at.to_string(),
                        // It may be a secret.
                        value: String::new(),
                        reason: unknown(name, known.keys().map(String::as_str)),
                    }),
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The reason for an unknown name, with the nearest known one.
fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    const UNKNOWN: &str = "is not a known field";
    match nearest(name, known) {
        Some((nearest, true)) => format!("{UNKNOWN}; did you mean {nearest}?"),
        Some((nearest, false)) => format!("{UNKNOWN}; the nearest known one is {nearest}"),
        None => UNKNOWN.to_owned(),
    }
}

/// The known name that is nearest to a name, and whether it is near enough to be meant.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<(&'a str, bool)> {
    let name = folded(name);
    let distances = known.map(|known| (distance(&name, &folded(known)), known));
    let (distance, nearest) = distances.min()?;
    Some((nearest, distance <= 2.max(nearest.len() / 3)))
}

/// The beginning of a name without its case and separators: people mix `tenantId` and `tenant_id`.
fn folded(name: &str) -> Vec<char> {
    let letters = name.chars().filter(|c| c.is_alphanumeric());
    letters.flat_map(char::to_lowercase).take(SHOWN).collect()
}

/// The number of characters to insert, remove or replace between two words.
pub(crate) fn distance(from: &[char], to: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (line, left) in from.iter().enumerate() {
        let mut diagonal = line;
        row[0] = line + 1;
        for (column, right) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(left != right);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn text_without_repeated_names_is_read_as_any_parser_reads_it() {
        let text = r#" {"a": [1, -2, 3.5, 1e400, "x\u00e9", true, null, {}, []], "": {"b": 18446744073709551615}} "#;
        let without_infinity = text.replace("1e400", "1e40");
        let (value, repeated) = parse(&without_infinity).unwrap();
        assert_eq!(
            value,
            serde_json::from_str::<Value>(&without_infinity).unwrap()
        );
        assert_eq!(repeated, []);
        for text in [
            "",
            "{",
            "{} {}",
            "[1,]",
            "{\"a\" 1}",
            text,
            &"[".repeat(1_000),
        ] {
            let (ours, theirs) = (parse(text), serde_json::from_str::<Value>(text));
            assert_eq!(
                ours.unwrap_err().to_string(),
                theirs.unwrap_err().to_string()
            );
        }
    }

    #[test]
    fn a_repeated_name_is_reported_once_with_its_path_however_it_is_spelled() {
        let text =
            r#"{"t": [{}, {"a": 1, "\u0061": 2, "a": 3, "b c\n": {"x": 1, "x": 1}}], "t": 0}"#;
        let (value, repeated) = parse(text).unwrap();
        assert_eq!(value, json!({ "t": 0 }));
        let paths: Vec<&str> = repeated
            .iter()
            .map(|problem| problem.path.as_str())
            .collect();
        assert_eq!(paths, ["t[1].a", r#"t[1]."b c\n".x"#, "t"]);
    }

    #[test]
    fn text_is_utf_8_with_or_without_a_mark() {
        assert_eq!(text_of(b"{}"), Ok("{}"));
        assert_eq!(text_of(b"\xef\xbb\xbf{}"), Ok("{}"));
        assert_eq!(text_of(b""), Ok(""));
        assert_eq!(text_of(b"{\xff}"), Err(NotUtf8::At(2)));
        assert_eq!(text_of(b"\xef\xbb\xbf{\xe9"), Err(NotUtf8::At(5)));
        for (encoding, texts) in [
            (
                "UTF-16",
                [
                    &b"\xff\xfe{\0}\0"[..],
                    b"\xfe\xff\0{\0}",
                    b"{\0}\0",
                    b"\0{\0}",
                ],
            ),
            (
                "UTF-32",
                [
                    b"\xff\xfe\0\0{\0\0\0",
                    b"\0\0\xfe\xff\0\0\0{",
                    b"{\0\0\0}\0\0\0",
                    b"\0\0\0{",
                ],
            ),
        ] {
            for text in texts {
                assert_eq!(text_of(text), Err(NotUtf8::Encoded(encoding)), "{text:?}");
            }
        }
    }

    #[test]
    fn half_of_a_pair_is_found_by_its_path() {
        for (text, path) in [
            (r#"{"a": "\ud83d\ude00 \\ud83d \u00e9"}"#, None),
            (
                r#"{"a": "x", "b": [{}, {"c d": "\ud83d"}]}"#,
                Some(r#"b[1]."c d""#),
            ),
            (r#"{"a": "\ude00"}"#, Some("a")),
            (r#"{"a": "\ud83d\ud83d\ude00"}"#, Some("a")),
            (r#"{"a": "\ud83d\u0041", "b": "\ud83d"}"#, Some("a")),
            (r#"{"a": {"\ud83d": 1}}"#, Some("a")),
            (r#"["\ud83d"#, Some("")),
            (r#"{"a": "\u12"}"#, None),
            ("\\", None),
            ("", None),
        ] {
            assert_eq!(half_character(text.as_bytes()).as_deref(), path, "{text}");
        }
        let raw = b"{\"a\": \"\xed\xa0\xbd\"}";
        assert_eq!(half_character(raw).as_deref(), Some("a"));
    }

    #[test]
    fn an_unknown_name_comes_with_the_nearest_known_one() {
        let known = ["tenant_id", "psa_company_id", "psa_company_name"];
        for (name, nearest) in [
            ("tenantId", "did you mean tenant_id?"),
            ("Psa-Company-Nmae", "did you mean psa_company_name?"),
            ("psa_company", "did you mean psa_company_id?"),
            ("", "the nearest known one is tenant_id"),
            ("comment", "the nearest known one is tenant_id"),
        ] {
            let reason = unknown(name, known.into_iter());
            assert_eq!(reason, format!("is not a known field; {nearest}"), "{name}");
        }
    }
}
