//! Reads JSON objects field by field, and reports each problem with the path of its field.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::ops::RangeInclusive;
use std::rc::Rc;

use serde_json::{Map, Value, json};
use url::Url;

use crate::error::{Error, Refusal};
use crate::model::api_key;
use crate::model::clock::{Millis, parse_rfc3339};
use crate::model::directory::DirectoryId;
use crate::model::names::Name;
use crate::model::user_id::UserId;
use crate::text::shorten;

/// A field of a JSON object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Field<T> {
    /// The object does not have the field.
    #[default]
    Absent,
    /// The field is `null`.
    Null,
    /// The field has a valid value.
    Set(T),
}

impl<T> Field<T> {
    /// Returns the value. Absent and `null` are both `None`.
    pub fn value(self) -> Option<T> {
        match self {
            Self::Set(value) => Some(value),
            Self::Absent | Self::Null => None,
        }
    }

    /// Converts the value, if there is one.
    pub fn map<U>(self, convert: impl FnOnce(T) -> U) -> Field<U> {
        match self {
            Self::Absent => Field::Absent,
            Self::Null => Field::Null,
            Self::Set(value) => Field::Set(convert(value)),
        }
    }

    /// Updates a value: absent keeps `current`, `null` resets to `default`.
    pub fn over(self, current: T, default: T) -> T {
        match self {
            Self::Absent => current,
            Self::Null => default,
            Self::Set(value) => value,
        }
    }

    /// Updates an optional value: absent keeps `current`, `null` removes the value.
    pub fn over_optional(self, current: Option<T>) -> Option<T> {
        match self {
            Self::Absent => current,
            Self::Null => None,
            Self::Set(value) => Some(value),
        }
    }

    /// Returns the new value, if the field changes it: `null` resets to `default`.
    pub fn change(self, default: T) -> Option<T> {
        match self {
            Self::Absent => None,
            Self::Null => Some(default),
            Self::Set(value) => Some(value),
        }
    }
}

/// An invalid value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The path of the field, such as `tenants[0].agents[1].name`.
    pub path: String,
    /// The beginning of the value; empty if there is none.
    pub value: String,
    /// The reason, as the rest of a sentence that begins with the path.
    pub reason: String,
}

/// The problems found so far.
#[derive(Debug, Default)]
pub struct Problems(RefCell<Vec<Problem>>);

impl Problems {
    /// Adds a problem.
    pub fn add(&self, path: impl Into<String>, value: &Value, reason: impl Into<String>) {
        let problem = Problem {
            path: path.into(),
            value: shortened(value),
            reason: reason.into(),
        };
        self.0.borrow_mut().push(problem);
    }

    /// Adds a problem with a field that is not there.
    pub fn add_absent(&self, path: impl Into<String>, reason: impl Into<String>) {
        let problem = Problem {
            path: path.into(),
            value: String::new(),
            reason: reason.into(),
        };
        self.0.borrow_mut().push(problem);
    }

    /// Adds problems that were found before.
    pub fn extend(&self, problems: Vec<Problem>) {
        self.0.borrow_mut().extend(problems);
    }

    /// Returns all problems in the order in which they were found.
    pub fn into_all(self) -> Vec<Problem> {
        self.0.into_inner()
    }

    /// Succeeds if there is no problem.
    ///
    /// # Errors
    /// `validation_error` with the field and the reason of the first problem.
    pub fn into_result(self) -> Result<(), Error> {
        match self.0.into_inner().into_iter().next() {
            Some(first) => Err(Refusal::invalid(first.path, first.reason).into()),
            None => Ok(()),
        }
    }
}

/// Returns the part of an invalid value that a message may show: its beginning, without API keys.
pub fn shortened(value: &Value) -> String {
    const MAX_CHARACTERS: usize = 80;
    shorten(&without_keys(&value.to_string()), MAX_CHARACTERS)
}

/// Checks the URL of a page or a picture.
///
/// # Errors
/// The reason, as the rest of a sentence that begins with the URL's name.
pub fn web_address<'a>(text: &'a str, schemes: &[&str]) -> Result<&'a str, String> {
    let is_absolute = schemes.iter().any(|scheme| {
        text.strip_prefix(scheme)
            .and_then(|rest| rest.strip_prefix("://"))
            .is_some_and(|rest| !rest.starts_with('/'))
    }) && !text.chars().any(is_forbidden_in_url);
    // The URL must have a host as browsers parse it. A user name or a password in the URL would be
    // shown to everyone.
    let has_host_only = Url::parse(text)
        .is_ok_and(|url| url.has_host() && url.username().is_empty() && url.password().is_none());
    if is_absolute && has_host_only && text.chars().count() <= MAX_URL_CHARACTERS {
        Ok(text)
    } else {
        Err(format!(
            "must be an absolute {} URL without spaces, user name or password",
            schemes.join(" or ")
        ))
    }
}

/// Masks API keys, because a client may send one in the wrong field.
pub(super) fn without_keys(text: &str) -> String {
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

/// A type that is read from a JSON object.
pub trait FromFields: Sized {
    /// Reads the object's fields, and reports problems to `fields`.
    ///
    /// The result is meaningful only if there is no problem.
    fn read(fields: &Fields<'_>) -> Self;
}

/// A JSON object with its path.
pub struct Fields<'a> {
    map: &'a Map<String, Value>,
    path: String,
    problems: &'a Problems,
    /// Records the fields that are read, if the object is read to describe it: see [`describe`].
    recorder: Option<Rc<SchemaRecorder>>,
}

/// The fields that a reader reads from an object.
#[derive(Debug, Default)]
struct SchemaRecorder {
    properties: RefCell<Vec<(String, Property)>>,
    required: RefCell<Vec<String>>,
}

#[derive(Debug)]
enum Property {
    Plain(Value),
    Object(Rc<SchemaRecorder>),
    TextOrObject(Value, Rc<SchemaRecorder>),
    Objects(Rc<SchemaRecorder>),
}

impl SchemaRecorder {
    fn schema(&self) -> Value {
        let required = self.required.borrow();
        let mut properties = Map::new();
        for (name, property) in &*self.properties.borrow() {
            let mut schema = match property {
                Property::Plain(schema) => schema.clone(),
                Property::Object(recorder) => recorder.schema(),
                Property::TextOrObject(text, recorder) => {
                    json!({ "anyOf": [text, recorder.schema(), { "type": "null" }] })
                }
                Property::Objects(recorder) => {
                    json!({ "type": "array", "items": recorder.schema() })
                }
            };
            // An explicit null means the same as absent, or resets the field (contract, section 1).
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

/// Returns the JSON Schema of the objects that a reader accepts.
///
/// The reader runs on an empty object, and each field that it reads is recorded.
pub fn describe(read: impl FnOnce(&Fields<'_>)) -> Value {
    let (map, problems) = (Map::new(), Problems::default());
    let recorder = Rc::new(SchemaRecorder::default());
    read(&Fields {
        map: &map,
        path: String::new(),
        problems: &problems,
        recorder: Some(recorder.clone()),
    });
    recorder.schema()
}

impl<'a> Fields<'a> {
    /// Begins at the root object. Any other value is a problem, and the result is `None`.
    pub fn root(value: &'a Value, problems: &'a Problems) -> Option<Self> {
        let Some(map) = value.as_object() else {
            problems.add("body", value, "must be a JSON object");
            return None;
        };
        Some(Self {
            map,
            path: String::new(),
            problems,
            recorder: None,
        })
    }

    /// Records a field if this object is read to describe it.
    fn record(&self, name: &str, schema: impl FnOnce() -> Value) {
        if let Some(recorder) = &self.recorder {
            let property = Property::Plain(schema());
            let mut properties = recorder.properties.borrow_mut();
            properties.push((name.to_owned(), property));
        }
    }

    fn record_required(&self, name: &str) {
        if let Some(recorder) = &self.recorder {
            recorder.required.borrow_mut().push(name.to_owned());
        }
    }

    /// Makes the fields of an object inside this one.
    fn inner(
        &self,
        map: &'a Map<String, Value>,
        path: String,
        recorder: Option<Rc<SchemaRecorder>>,
    ) -> Self {
        Fields {
            map,
            path,
            problems: self.problems,
            recorder,
        }
    }

    /// Records an object inside this one as a property, and returns the recorder of that object.
    fn record_inner(
        &self,
        name: &str,
        property: impl FnOnce(Rc<SchemaRecorder>) -> Property,
    ) -> Option<Rc<SchemaRecorder>> {
        let recorder = self.recorder.as_ref()?;
        let inner = Rc::new(SchemaRecorder::default());
        let mut properties = recorder.properties.borrow_mut();
        properties.push((name.to_owned(), property(inner.clone())));
        Some(inner)
    }

    /// Returns the path of a field.
    pub fn path(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    /// Returns the path of this object.
    pub fn own_path(&self) -> &str {
        &self.path
    }

    /// Whether the object has a field that is not `null`.
    pub fn has(&self, name: &str) -> bool {
        !matches!(self.map.get(name), None | Some(Value::Null))
    }

    /// Reports a problem with a field.
    pub fn refuse(&self, name: &str, reason: impl Into<String>) {
        match self.map.get(name) {
            Some(value) => self.problems.add(self.path(name), value, reason),
            None => self.problems.add_absent(self.path(name), reason),
        }
    }

    /// Reports a problem with a field whose value must stay secret.
    pub fn refuse_secret(&self, name: &str, reason: impl Into<String>) {
        self.problems
            .add(self.path(name), &Value::String("…".to_owned()), reason);
    }

    /// Reads a required string that must stay secret.
    pub fn required_secret(&self, name: &str) -> Option<&'a str> {
        self.record(name, || json!({ "type": "string" }));
        self.record_required(name);
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

    /// Reads a string whose number of characters is in a range.
    pub fn text(&self, name: &str, characters: RangeInclusive<usize>) -> Field<String> {
        self.record(name, || text_schema(&characters));
        self.read(name, |value| text(value, &characters).map(str::to_owned))
    }

    /// Reads a required string; empty if it is missing or invalid.
    pub fn required_text(&self, name: &str, characters: RangeInclusive<usize>) -> String {
        self.required(name, self.text(name, characters))
            .unwrap_or_default()
    }

    /// Requires a field that was read, and reports a problem if it is missing.
    pub fn required<T>(&self, name: &str, field: Field<T>) -> Option<T> {
        self.record_required(name);
        let value = field.value();
        if value.is_none() && !self.has(name) {
            self.refuse(name, "is required");
        }
        value
    }

    /// Reads a name.
    pub fn named<T: Name>(&self, name: &str) -> Field<T> {
        self.record(name, || json!({ "type": "string", "pattern": T::PATTERN }));
        self.read(name, |value| {
            let text = string(value)?;
            match T::refused(text) {
                Some(reason) => Err(reason.to_owned()),
                None => T::read(text).ok_or_else(|| T::RULE.to_owned()),
            }
        })
    }

    /// Reads the id of a Microsoft directory as a person writes it.
    pub fn directory(&self, name: &str) -> Field<DirectoryId> {
        self.record(
            name,
            || json!({ "type": "string", "pattern": DirectoryId::PATTERN }),
        );
        self.read(name, |value| {
            DirectoryId::parse(string(value)?, &shortened(value))
        })
    }

    /// Reads an array of up to `most` ids of different Microsoft directories, as a person writes
    /// them.
    pub fn directories(&self, name: &str, most: usize) -> Field<Vec<DirectoryId>> {
        self.record(name, || {
            let item = json!({ "type": "string", "pattern": DirectoryId::PATTERN });
            items_schema(item, most)
        });
        let read = self.items(name, most, |value| {
            DirectoryId::parse(string(value)?, &shortened(value))
        });
        if let Field::Set(list) = &read {
            for (index, named) in list.iter().enumerate() {
                let mut earlier = list.iter().take(index);
                if let Some(first) = earlier.position(|other| other.id() == named.id()) {
                    self.problems.add(
                        format!("{}[{index}]", self.path(name)),
                        &named.written().into(),
                        format!("is the same directory as {name}[{first}]"),
                    );
                }
            }
        }
        read
    }

    /// Reads the id of a user as a person writes it.
    pub fn user(&self, name: &str) -> Field<UserId> {
        const CHARACTERS: RangeInclusive<usize> = 1..=128;
        self.record(name, || text_schema(&CHARACTERS));
        self.read(name, |value| {
            Ok(UserId::read(text(value, &CHARACTERS)?, &shortened(value)))
        })
    }

    /// Reads a time (RFC 3339).
    pub fn time(&self, name: &str) -> Field<Millis> {
        self.record(name, || json!({ "type": "string", "format": "date-time" }));
        self.parsed(name, parse_rfc3339, TIME_RULE)
    }

    /// Reads a string in a format that `parse` accepts and `rule` describes.
    fn parsed<T>(&self, name: &str, parse: impl FnOnce(&str) -> Option<T>, rule: &str) -> Field<T> {
        self.read(name, |value| {
            parse(string(value)?).ok_or_else(|| rule.to_owned())
        })
    }

    /// Reads a variant of an enumeration.
    pub fn word<T>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Option<T>,
        choices: &str,
    ) -> Field<T> {
        self.record(name, || {
            let words: Vec<&str> = choices.split(", ").collect();
            json!({ "type": "string", "enum": words })
        });
        self.parsed(name, parse, &format!("must be one of {choices}"))
    }

    /// Reads `true` or `false`.
    pub fn boolean(&self, name: &str) -> Field<bool> {
        self.record(name, || json!({ "type": "boolean" }));
        self.read(name, |value| {
            value
                .as_bool()
                .ok_or_else(|| "must be true or false".to_owned())
        })
    }

    /// Reads a whole number in a range.
    pub fn integer(&self, name: &str, range: RangeInclusive<i64>) -> Field<i64> {
        self.record(name, || integer_schema(&range));
        self.read(name, |value| integer(value, &range))
    }

    /// Reads an array of up to `most` strings.
    pub fn texts(
        &self,
        name: &str,
        most: usize,
        characters: RangeInclusive<usize>,
    ) -> Field<Vec<String>> {
        self.record(name, || items_schema(text_schema(&characters), most));
        self.items(name, most, |value| {
            text(value, &characters).map(str::to_owned)
        })
    }

    /// Reads an array of up to `most` whole numbers.
    pub fn integers(&self, name: &str, most: usize) -> Field<Vec<i64>> {
        const ANY: RangeInclusive<i64> = i64::MIN..=i64::MAX;
        self.record(name, || items_schema(integer_schema(&ANY), most));
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
        match items.len() == values.len() {
            true => Field::Set(items),
            false => Field::Absent,
        }
    }

    /// Reads up to 16 pairs of strings, with keys of 1 to 64 and values of up to 512 characters.
    pub fn metadata(&self, name: &str) -> Field<crate::model::session::Metadata> {
        const PAIRS: usize = 16;
        self.record(name, || {
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
                text_within(key, &(1..=64))
                    .map_err(|reason| format!("has an invalid key: a key {reason}"))?;
                let value = text(value, &(0..=512)).map_err(|reason| {
                    format!("has an invalid value for {key:?}: a value {reason}")
                })?;
                Ok((key.clone(), value.to_owned()))
            });
            pairs.collect()
        })
    }

    /// Reads an absolute URL (contract, section 1, Size).
    pub fn url(&self, name: &str, schemes: &[&str]) -> Field<String> {
        self.record(name, || {
            // Control characters are ranges, because regular expression engines differ in their
            // names of character classes.
            const FORBIDDEN: &str = r"\s\u0000-\u001f\u007f-\u009f";
            let pattern = format!("^({})://[^/{FORBIDDEN}][^{FORBIDDEN}]*$", schemes.join("|"));
            json!({
                "type": "string",
                "minLength": 1,
                "maxLength": MAX_URL_CHARACTERS,
                "pattern": pattern,
            })
        });
        self.read(name, |value| {
            let text = text(value, &(1..=MAX_URL_CHARACTERS))?;
            web_address(text, schemes).map(str::to_owned)
        })
    }

    /// Reads an array of objects.
    pub fn objects(&self, name: &str) -> Vec<Fields<'a>> {
        if let Some(recorder) = self.record_inner(name, Property::Objects) {
            return vec![self.inner(self.map, self.path(name), Some(recorder))];
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

    /// Reads an object inside this one.
    pub fn object(&self, name: &str) -> Field<Fields<'a>> {
        if let Some(recorder) = self.record_inner(name, Property::Object) {
            return Field::Set(self.inner(self.map, self.path(name), Some(recorder)));
        }
        self.read(name, |value| {
            let map = value.as_object().ok_or("must be an object")?;
            Ok(self.inner(map, self.path(name), None))
        })
    }
}

/// A string or an object.
pub enum TextOrObject<'a> {
    /// A string.
    Text(String),
    /// An object.
    Object(Fields<'a>),
}

impl<'a> Fields<'a> {
    /// Reads a string whose number of characters is in a range, or an object inside this one.
    pub fn text_or_object(
        &self,
        name: &str,
        characters: RangeInclusive<usize>,
    ) -> Field<TextOrObject<'a>> {
        let property = |recorder| Property::TextOrObject(text_schema(&characters), recorder);
        if let Some(recorder) = self.record_inner(name, property) {
            let inner = self.inner(self.map, self.path(name), Some(recorder));
            return Field::Set(TextOrObject::Object(inner));
        }
        self.read(name, |value| match value {
            Value::Object(map) => {
                let inner = self.inner(map, self.path(name), None);
                Ok(TextOrObject::Object(inner))
            }
            Value::String(_) => {
                text(value, &characters).map(|text| TextOrObject::Text(text.to_owned()))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => {
                Err("must be a string".to_owned())
            }
        })
    }
}

/// The format of a time, as the rest of a sentence that begins with the field's name.
pub const TIME_RULE: &str = "must be an RFC 3339 time, such as 2030-01-31T12:00:00Z";
/// The maximum length of a URL, in characters (contract, section 1, Size).
const MAX_URL_CHARACTERS: usize = 2_048;

/// Whether a URL must not contain this character.
///
/// U+FEFF is included because it is a space in ECMA-262, whose patterns the OpenAPI document uses.
fn is_forbidden_in_url(character: char) -> bool {
    character.is_whitespace() || character.is_control() || character == '\u{feff}'
}

/// Returns the JSON Schema of strings whose number of characters is in a range.
pub fn text_schema(characters: &RangeInclusive<usize>) -> Value {
    let mut schema = json!({ "type": "string" });
    if *characters.start() > 0 {
        schema["minLength"] = json!(characters.start());
    }
    if *characters.end() < usize::MAX {
        schema["maxLength"] = json!(characters.end());
    }
    schema
}

/// Returns the JSON Schema of whole numbers in a range.
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

/// A whole number that is written as a fraction, such as `102.0` or `1e2`: JSON has one type of
/// numbers, and some languages write each of them so.
fn whole(value: &Value) -> Option<i64> {
    const MAX_SAFE: f64 = 9_007_199_254_740_991.0;
    let number = value.as_f64()?;
    let is_whole = number.fract() == 0.0 && number.abs() <= MAX_SAFE;
    is_whole.then(|| format!("{number:.0}").parse().ok())?
}

fn integer(value: &Value, range: &RangeInclusive<i64>) -> Result<i64, String> {
    let number = value.as_i64().or_else(|| whole(value));
    let number = number.ok_or("must be a whole number")?;
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

/// Checks a text's number of characters.
///
/// # Errors
/// The reason, as the rest of a sentence that begins with the field's name.
pub fn text_within(text: &str, characters: &RangeInclusive<usize>) -> Result<(), String> {
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
    fn a_url_must_not_contain_a_space_of_any_kind() {
        let accepts = |url: String| {
            let (value, problems) = (json!({ "url": url }), Problems::default());
            let read = Fields::root(&value, &problems).map(|root| root.url("url", &["https"]));
            read == Some(Field::Set(url)) && problems.into_all().is_empty()
        };
        assert!(accepts("https://kb.example/é".to_owned()));
        for space in [
            ' ', '\t', '\n', '\u{85}', '\u{a0}', '\u{1680}', '\u{2003}', '\u{2028}', '\u{202f}',
            '\u{3000}', '\u{feff}',
        ] {
            assert!(!accepts(format!("https://kb.example/{space}")), "{space:?}");
        }
    }
}
