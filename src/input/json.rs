//! Reads JSON text strictly: a name that an object says twice is reported, and so is a name that
//! the reader of the object does not know (contract, section 11).

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::input::fields::{Problem, without_keys};
use crate::text::shorten;

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
fn shown(name: &str) -> String {
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
    let name = folded(name);
    let distances = known.map(|known| (distance(&name, &folded(known)), known));
    match distances.min() {
        Some((distance, nearest)) if distance <= 2.max(nearest.len() / 3) => {
            format!("{UNKNOWN}; did you mean {nearest}?")
        }
        Some((_, nearest)) => format!("{UNKNOWN}; the nearest known one is {nearest}"),
        None => UNKNOWN.to_owned(),
    }
}

/// The beginning of a name without its case and separators: people mix `tenantId` and `tenant_id`.
fn folded(name: &str) -> Vec<char> {
    let letters = name.chars().filter(|c| c.is_alphanumeric());
    letters.flat_map(char::to_lowercase).take(SHOWN).collect()
}

/// The number of characters to insert, remove or replace between two words.
fn distance(from: &[char], to: &[char]) -> usize {
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
