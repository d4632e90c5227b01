//! Reads JSON objects from outside, field by field, and names what is wrong by its path.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::ops::RangeInclusive;
use std::rc::Rc;

use serde_json::{Map, Value, json};
use url::Url;

use crate::error::{Error, Refusal};
use crate::model::api_key;
use crate::model::clock::{Millis, parse_rfc3339};
use crate::model::names::Name;
use crate::text::shorten;

/// A field as it was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Field<T> {
    /// Not there.
    #[default]
    Absent,
    /// An explicit `null`.
    Null,
    /// A value of the right form.
    Set(T),
}

impl<T> Field<T> {
    /// The value, where absent and `null` are the same.
    pub fn value(self) -> Option<T> {
        match self {
            Self::Set(value) => Some(value),
            Self::Absent | Self::Null => None,
        }
    }

    /// What a thing becomes: absent leaves `current`, `null` resets to `default`.
    pub fn over(self, current: T, default: T) -> T {
        match self {
            Self::Absent => current,
            Self::Null => default,
            Self::Set(value) => value,
        }
    }

    /// As [`Field::over`], for what may be missing.
    pub fn over_optional(self, current: Option<T>) -> Option<T> {
        match self {
            Self::Absent => current,
            Self::Null => None,
            Self::Set(value) => Some(value),
        }
    }

    /// A change: absent changes nothing, `null` resets to `default`.
    pub fn change(self, default: T) -> Option<T> {
        match self {
            Self::Absent => None,
            Self::Null => Some(default),
            Self::Set(value) => Some(value),
        }
    }
}

/// One thing that is wrong: where, what stands there, and why it will not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The path, such as `tenants[0].agents[1].name`.
    pub path: String,
    /// What stands there, shortened; empty for what must not be shown.
    pub value: String,
    /// Why it will not do, as a phrase behind the path.
    pub reason: String,
}

/// Problems found so far.
#[derive(Debug, Default)]
pub struct Problems(RefCell<Vec<Problem>>);

impl Problems {
    /// Adds one.
    pub fn add(&self, path: impl Into<String>, value: &Value, reason: impl Into<String>) {
        let problem = Problem {
            path: path.into(),
            value: shortened(value),
            reason: reason.into(),
        };
        self.0.borrow_mut().push(problem);
    }

    /// All of them, in the order they were found.
    pub fn into_all(self) -> Vec<Problem> {
        self.0.into_inner()
    }

    /// The first as a refusal, if there is one.
    ///
    /// # Errors
    /// `validation_error` with field and reason.
    pub fn into_result(self) -> Result<(), Error> {
        match self.0.into_inner().into_iter().next() {
            Some(first) => Err(Refusal::invalid(first.path, first.reason).into()),
            None => Ok(()),
        }
    }
}

/// What is shown of a value that will not do: its beginning, without keys.
pub fn shortened(value: &Value) -> String {
    const SHOWN: usize = 80;
    shorten(&without_keys(&value.to_string()), SHOWN)
}

/// A key may stand where it does not belong; it is not shown there either.
fn without_keys(text: &str) -> String {
    let mut parts = text.split(api_key::PREFIX);
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_');
        shown += api_key::PREFIX;
        shown += "…";
        shown += rest;
    }
    shown
}

/// What a JSON object is read as.
pub trait FromFields: Sized {
    /// Reads the object's fields. Problems go to `fields`; the value counts only if there is none.
    fn read(fields: &Fields<'_>) -> Self;
}

/// One JSON object and where it stands.
pub struct Fields<'a> {
    map: &'a Map<String, Value>,
    path: String,
    problems: &'a Problems,
    /// Where a reader is drawn instead of served: see [`describe`].
    sketch: Option<Rc<Sketch>>,
}

/// What a reader of fields asks for, as it asks.
#[derive(Debug, Default)]
struct Sketch {
    properties: RefCell<Vec<(String, Property)>>,
    required: RefCell<Vec<String>>,
}

#[derive(Debug)]
enum Property {
    Plain(Value),
    Object(Rc<Sketch>),
    Objects(Rc<Sketch>),
}

impl Sketch {
    fn schema(&self) -> Value {
        let required = self.required.borrow();
        let mut properties = Map::new();
        for (name, property) in &*self.properties.borrow() {
            let mut schema = match property {
                Property::Plain(schema) => schema.clone(),
                Property::Object(sketch) => sketch.schema(),
                Property::Objects(sketch) => json!({ "type": "array", "items": sketch.schema() }),
            };
            // An explicit null is the same as absent, or resets (contract, section 1).
            if !required.contains(name)
                && let Some(kind) = schema.get_mut("type")
            {
                *kind = json!([kind, "null"]);
                if let Some(Value::Array(words)) = schema.get_mut("enum") {
                    words.push(Value::Null);
                }
            }
            properties.insert(name.clone(), schema);
        }
        let mut schema = json!({ "type": "object", "properties": properties });
        if !required.is_empty() {
            schema["required"] = json!(*required);
        }
        schema
    }
}

/// The JSON Schema of the objects that a reader of fields takes: it is run on nothing, and what it asks for is written down.
pub fn describe(read: impl FnOnce(&Fields<'_>)) -> Value {
    let (map, problems) = (Map::new(), Problems::default());
    let sketch = Rc::new(Sketch::default());
    read(&Fields {
        map: &map,
        path: String::new(),
        problems: &problems,
        sketch: Some(sketch.clone()),
    });
    sketch.schema()
}

impl<'a> Fields<'a> {
    /// The object at the root; `None`, with a problem, for anything else.
    pub fn root(value: &'a Value, problems: &'a Problems) -> Option<Self> {
        let Some(map) = value.as_object() else {
            problems.add("body", value, "must be a JSON object");
            return None;
        };
        Some(Self {
            map,
            path: String::new(),
            problems,
            sketch: None,
        })
    }

    /// Writes down that a field is asked for, where that is what this is for.
    fn note(&self, name: &str, schema: impl FnOnce() -> Value) {
        if let Some(sketch) = &self.sketch {
            let property = Property::Plain(schema());
            let mut properties = sketch.properties.borrow_mut();
            properties.push((name.to_owned(), property));
        }
    }

    fn note_required(&self, name: &str) {
        if let Some(sketch) = &self.sketch {
            sketch.required.borrow_mut().push(name.to_owned());
        }
    }

    /// The fields of an object inside this one.
    fn inner(&self, map: &'a Map<String, Value>, path: String, sketch: Option<Rc<Sketch>>) -> Self {
        Fields {
            map,
            path,
            problems: self.problems,
            sketch,
        }
    }

    /// The sketch of an object inside this one, once it has been noted as what `property` makes of it.
    fn sketch_inner(
        &self,
        name: &str,
        property: impl FnOnce(Rc<Sketch>) -> Property,
    ) -> Option<Rc<Sketch>> {
        let sketch = self.sketch.as_ref()?;
        let inner = Rc::new(Sketch::default());
        let mut properties = sketch.properties.borrow_mut();
        properties.push((name.to_owned(), property(inner.clone())));
        Some(inner)
    }

    /// The path of a field.
    pub fn path(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    /// Where this object stands.
    pub fn here(&self) -> &str {
        &self.path
    }

    /// Whether a field is there and not `null`.
    pub fn has(&self, name: &str) -> bool {
        !matches!(self.map.get(name), None | Some(Value::Null))
    }

    /// Says that a field will not do.
    pub fn refuse(&self, name: &str, reason: impl Into<String>) {
        let value = self.map.get(name).unwrap_or(&Value::Null);
        self.problems.add(self.path(name), value, reason);
    }

    /// As [`Fields::refuse`], for a field whose value must not be shown.
    pub fn refuse_secret(&self, name: &str, reason: impl Into<String>) {
        self.problems
            .add(self.path(name), &Value::String("…".to_owned()), reason);
    }

    /// A string that must be there, and is not shown where it will not do.
    pub fn required_secret(&self, name: &str) -> Option<&'a str> {
        self.note(name, || json!({ "type": "string" }));
        self.note_required(name);
        match self.map.get(name) {
            None | Some(Value::Null) => self.refuse(name, "is required"),
            Some(Value::String(secret)) => return Some(secret),
            Some(_) => self.refuse_secret(name, "must be a string"),
        }
        None
    }

    fn read<T>(&self, name: &str, read: impl FnOnce(&'a Value) -> Result<T, String>) -> Field<T> {
        match self.map.get(name) {
            None => Field::Absent,
            Some(Value::Null) => Field::Null,
            Some(value) => match read(value) {
                Ok(value) => Field::Set(value),
                Err(reason) => {
                    self.refuse(name, reason);
                    Field::Absent
                }
            },
        }
    }

    /// A string of so many characters.
    pub fn text(&self, name: &str, characters: RangeInclusive<usize>) -> Field<String> {
        self.note(name, || text_schema(&characters));
        self.read(name, |value| text(value, &characters).map(str::to_owned))
    }

    /// A string that must be there.
    pub fn required_text(&self, name: &str, characters: RangeInclusive<usize>) -> String {
        self.required(name, self.text(name, characters))
            .unwrap_or_default()
    }

    /// A field that must be there; says so if it is not.
    pub fn required<T>(&self, name: &str, field: Field<T>) -> Option<T> {
        self.note_required(name);
        let value = field.value();
        if value.is_none() && !self.has(name) {
            self.refuse(name, "is required");
        }
        value
    }

    /// A name from outside.
    pub fn named<T: Name>(&self, name: &str) -> Field<T> {
        self.note(name, || json!({ "type": "string", "pattern": T::PATTERN }));
        self.parsed(name, T::read, T::RULE)
    }

    /// A time (RFC 3339).
    pub fn time(&self, name: &str) -> Field<Millis> {
        self.note(name, || json!({ "type": "string", "format": "date-time" }));
        self.parsed(name, parse_rfc3339, TIME_RULE)
    }

    /// A string of a form that `parse` reads and `rule` describes.
    fn parsed<T>(&self, name: &str, parse: impl FnOnce(&str) -> Option<T>, rule: &str) -> Field<T> {
        self.read(name, |value| {
            parse(string(value)?).ok_or_else(|| rule.to_owned())
        })
    }

    /// One of a few words.
    pub fn word<T>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Option<T>,
        choices: &str,
    ) -> Field<T> {
        self.note(name, || {
            let words: Vec<&str> = choices.split(", ").collect();
            json!({ "type": "string", "enum": words })
        });
        self.parsed(name, parse, &format!("must be one of {choices}"))
    }

    /// `true` or `false`.
    pub fn boolean(&self, name: &str) -> Field<bool> {
        self.note(name, || json!({ "type": "boolean" }));
        self.read(name, |value| {
            value
                .as_bool()
                .ok_or_else(|| "must be true or false".to_owned())
        })
    }

    /// A whole number in a range.
    pub fn integer(&self, name: &str, range: RangeInclusive<i64>) -> Field<i64> {
        self.note(name, || integer_schema(&range));
        self.read(name, |value| integer(value, &range))
    }

    /// Up to so many strings.
    pub fn texts(
        &self,
        name: &str,
        most: usize,
        characters: RangeInclusive<usize>,
    ) -> Field<Vec<String>> {
        self.note(name, || items_schema(text_schema(&characters), most));
        self.items(name, most, |value| {
            text(value, &characters).map(str::to_owned)
        })
    }

    /// Up to so many whole numbers.
    pub fn integers(&self, name: &str, most: usize) -> Field<Vec<i64>> {
        const ANY: RangeInclusive<i64> = i64::MIN..=i64::MAX;
        self.note(name, || items_schema(integer_schema(&ANY), most));
        self.items(name, most, |value| integer(value, &ANY))
    }

    fn items<T>(
        &self,
        name: &str,
        most: usize,
        read: impl Fn(&Value) -> Result<T, String>,
    ) -> Field<Vec<T>> {
        let Some(Value::Array(values)) = self.map.get(name) else {
            return self.read(name, |_| Err("must be an array".to_owned()));
        };
        if values.len() > most {
            self.refuse(name, format!("must have at most {most} entries"));
            return Field::Absent;
        }
        let mut items = Vec::with_capacity(values.len());
        for (index, value) in values.iter().enumerate() {
            match read(value) {
                Ok(item) => items.push(item),
                Err(reason) => {
                    self.problems
                        .add(format!("{}[{index}]", self.path(name)), value, reason);
                }
            }
        }
        Field::Set(items)
    }

    /// Pairs of strings: at most 16, keys to 64 characters, values to 512.
    pub fn metadata(&self, name: &str) -> Field<crate::model::session::Metadata> {
        const PAIRS: usize = 16;
        self.note(name, || {
            json!({
                "type": "object", "maxProperties": PAIRS,
                "propertyNames": { "minLength": 1, "maxLength": 64 },
                "additionalProperties": { "type": "string", "maxLength": 512 },
            })
        });
        self.read(name, |value| {
            let map = value.as_object().ok_or("must be an object of strings")?;
            if map.len() > PAIRS {
                return Err(format!("must have at most {PAIRS} pairs"));
            }
            let pairs = map.iter().map(|(key, value)| {
                text_within(key, &(1..=64)).map_err(|reason| format!("has a key that {reason}"))?;
                let value = text(value, &(0..=512))
                    .map_err(|reason| format!("has a value, at {key:?}, that {reason}"))?;
                Ok((key.clone(), value.to_owned()))
            });
            pairs.collect()
        })
    }

    /// An absolute URL (contract, section 1, Size).
    pub fn url(&self, name: &str, schemes: &[&str]) -> Field<String> {
        self.note(name, || {
            // Control characters as ranges: engines that read patterns do not agree on names of classes.
            const NONE: &str = r"\s\u0000-\u001f\u007f-\u009f";
            let pattern = format!("^({})://[^/{NONE}][^{NONE}]*$", schemes.join("|"));
            json!({ "type": "string", "minLength": 1, "maxLength": URL, "pattern": pattern })
        });
        self.read(name, |value| {
            let text = text(value, &(1..=URL))?;
            let is_spelt_out = schemes.iter().any(|scheme| {
                text.strip_prefix(scheme)
                    .and_then(|rest| rest.strip_prefix("://"))
                    .is_some_and(|rest| !rest.starts_with('/'))
            }) && !text.chars().any(is_space);
            // As browsers read it; a name and a password in it would be shown to everyone.
            let leads_somewhere = Url::parse(text).is_ok_and(|url| {
                url.has_host() && url.username().is_empty() && url.password().is_none()
            });
            let fits = is_spelt_out && leads_somewhere;
            if fits {
                Ok(text.to_owned())
            } else {
                Err(format!("must be an absolute {} URL", schemes.join(" or ")))
            }
        })
    }

    /// The objects of an array.
    pub fn objects(&self, name: &str) -> Vec<Fields<'a>> {
        if let Some(sketch) = self.sketch_inner(name, Property::Objects) {
            return vec![self.inner(self.map, self.path(name), Some(sketch))];
        }
        let values = match self.map.get(name) {
            None | Some(Value::Null) => return Vec::new(),
            Some(Value::Array(values)) => values,
            Some(_) => {
                self.refuse(name, "must be an array");
                return Vec::new();
            }
        };
        let mut objects = Vec::with_capacity(values.len());
        for (index, value) in values.iter().enumerate() {
            let mut path = self.path(name);
            write!(path, "[{index}]").unwrap_or_default();
            match value.as_object() {
                Some(map) => objects.push(self.inner(map, path, None)),
                None => self.problems.add(path, value, "must be an object"),
            }
        }
        objects
    }

    /// An object inside this one.
    pub fn object(&self, name: &str) -> Field<Fields<'a>> {
        if let Some(sketch) = self.sketch_inner(name, Property::Object) {
            return Field::Set(self.inner(self.map, self.path(name), Some(sketch)));
        }
        self.read(name, |value| {
            let map = value.as_object().ok_or("must be an object")?;
            Ok(self.inner(map, self.path(name), None))
        })
    }
}

/// The form of a time, as a phrase for a message.
pub const TIME_RULE: &str = "must be a time in RFC 3339, such as 2030-01-31T12:00:00Z";
/// Characters that a URL may have (contract, section 1, Size).
const URL: usize = 2_048;

/// Whether a character has no place in a URL; U+FEFF is a space to ECMA-262, whose patterns the document has.
fn is_space(character: char) -> bool {
    character.is_whitespace() || character.is_control() || character == '\u{feff}'
}

fn text_schema(characters: &RangeInclusive<usize>) -> Value {
    let mut schema = json!({ "type": "string" });
    if *characters.start() > 0 {
        schema["minLength"] = json!(characters.start());
    }
    if *characters.end() < usize::MAX {
        schema["maxLength"] = json!(characters.end());
    }
    schema
}

/// The JSON Schema of whole numbers in a range.
pub fn integer_schema(range: &RangeInclusive<i64>) -> Value {
    let mut schema = json!({ "type": "integer", "format": "int64" });
    if *range.start() > i64::MIN {
        schema["minimum"] = json!(range.start());
    }
    if *range.end() < i64::MAX {
        schema["maximum"] = json!(range.end());
    }
    schema
}

fn items_schema(item: Value, most: usize) -> Value {
    json!({ "type": "array", "items": item, "maxItems": most })
}

fn string(value: &Value) -> Result<&str, String> {
    value.as_str().ok_or_else(|| "must be a string".to_owned())
}

fn integer(value: &Value, range: &RangeInclusive<i64>) -> Result<i64, String> {
    let number = value.as_i64().ok_or("must be a whole number")?;
    if range.contains(&number) {
        Ok(number)
    } else {
        Err(format!("must be from {} to {}", range.start(), range.end()))
    }
}

fn text<'a>(value: &'a Value, characters: &RangeInclusive<usize>) -> Result<&'a str, String> {
    let text = string(value)?;
    text_within(text, characters)?;
    Ok(text)
}

fn text_within(text: &str, characters: &RangeInclusive<usize>) -> Result<(), String> {
    let (least, most) = (*characters.start(), *characters.end());
    let count = text.chars().count();
    if count < least {
        return Err("must not be empty".to_owned());
    }
    if count > most {
        return Err(format!("must have at most {most} characters"));
    }
    if text.contains('\0') {
        return Err("must not contain U+0000".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_no_character_that_is_a_space_where_the_document_is_read() {
        let takes = |url: String| {
            let (value, problems) = (json!({ "url": url }), Problems::default());
            let read = Fields::root(&value, &problems).map(|root| root.url("url", &["https"]));
            read == Some(Field::Set(url)) && problems.into_all().is_empty()
        };
        assert!(takes("https://kb.example/é".to_owned()));
        for space in [
            ' ', '\t', '\n', '\u{85}', '\u{a0}', '\u{1680}', '\u{2003}', '\u{2028}', '\u{202f}',
            '\u{3000}', '\u{feff}',
        ] {
            assert!(!takes(format!("https://kb.example/{space}")), "{space:?}");
        }
    }
}
