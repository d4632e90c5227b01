//! Extractors for bodies, queries and path segments, with the contract's limits and error messages.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::{Future, Ready, ready};
use std::marker::PhantomData;
use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::http::header;
use actix_web::{FromRequest, HttpMessage, HttpRequest, web};
use serde_json::{Value, json};

use super::body::{declared_length, receive};
use super::reply_limiter::is_reserved;
use super::routing::{decoded_segment, segment};
use crate::config::ClientTimeouts;
use crate::error::{Code, Error, Refusal, Result};
use crate::http::App;
use crate::input::fields::{
    Fields, FromFields, Problems, TIME_RULE, integer_schema, shortened, text_schema, text_within,
};
use crate::input::json::{self, NotUtf8};
use crate::model::clock::{Millis, parse_rfc3339};
use crate::model::directory::DirectoryId;
use crate::model::ids::{Id, Kind};
use crate::model::names::{M365TenantId, Name};
use crate::store::search::MAX_WORDS;
use crate::terms;

/// Largest JSON body, in bytes (contract, section 1, Size).
pub const BODY_LIMIT: usize = 256 * 1_024;
const JSON: &str = "application/json";
/// The most characters of a parameter's name that a message shows.
const SHOWN_NAME: usize = 80;
/// Stands for any name in the name of a described parameter.
pub(super) const ANY_NAME: &str = "<key>";
/// Largest search text, in characters (contract, section 1, Lists).
const MAX_SEARCH_CHARS: usize = 200;

/// A JSON body that is read as a `T`.
pub struct Body<T> {
    /// The bytes as received.
    pub bytes: Vec<u8>,
    value: Value,
    read_as: PhantomData<fn() -> T>,
}

impl<T: FromFields> Body<T> {
    /// Reads the body's object.
    ///
    /// # Errors
    /// `validation_error` for the first invalid field.
    pub fn read(&self) -> Result<T> {
        self.read_by(T::read)
    }
}

impl<T> Body<T> {
    /// Reads the body's object with `read`, which may depend on more than the body.
    ///
    /// # Errors
    /// `validation_error` for the first invalid field.
    pub fn read_by<R>(&self, read: impl FnOnce(&Fields<'_>) -> R) -> Result<R> {
        let problems = Problems::default();
        let value = Fields::root(&self.value, &problems).map(|fields| read(&fields));
        problems.into_result()?;
        value.ok_or_else(|| Error::internal("a valid body has no value"))
    }
}

impl<T: 'static> FromRequest for Body<T> {
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let declared = declared_length(request);
        let media_type = request
            .headers()
            .get(header::CONTENT_TYPE)
            .map(|media_type| String::from_utf8_lossy(media_type.as_bytes()).into_owned());
        let unencoded = refuse_encoded(request);
        let payload = payload.take();
        let timeouts = request
            .app_data::<web::Data<App>>()
            .map_or_else(ClientTimeouts::default, |app| app.config.timeouts);
        Box::pin(async move {
            if declared.is_some_and(|bytes| bytes > BODY_LIMIT as u64) {
                return Err(Code::PayloadTooLarge.into());
            }
            let too_large = || Code::PayloadTooLarge.into();
            let bytes = receive(payload, BODY_LIMIT, too_large, &timeouts).await?;
            if bytes.is_empty() && media_type.is_none() {
                return Err(Refusal::invalid("body", "is missing; send a JSON object").into());
            }
            if !media_type.is_some_and(|media_type| is_json(&media_type)) {
                return Err(Code::UnsupportedMediaType.into());
            }
            unencoded?;
            let value = parse(&bytes)?;
            Ok(Self {
                bytes,
                value,
                read_as: PhantomData,
            })
        })
    }
}

/// Refuses a request with a body that is compressed.
///
/// # Errors
/// `unsupported_media_type` for any `Content-Encoding` other than `identity`.
pub fn refuse_encoded(request: &HttpRequest) -> Result<()> {
    let encodings = request.headers().get_all(header::CONTENT_ENCODING);
    for encoding in encodings.flat_map(|value| value.as_bytes().split(|byte| *byte == b',')) {
        let encoding = encoding.trim_ascii();
        if !encoding.is_empty() && !encoding.eq_ignore_ascii_case(b"identity") {
            return Err(Refusal::new(Code::UnsupportedMediaType)
                .saying("The server takes no body with a Content-Encoding. Send the body as it is.")
                .into());
        }
    }
    Ok(())
}

fn parse(bytes: &[u8]) -> Result<Value> {
    let half = || {
        let path = json::half_character(bytes)?;
        let field = if path.is_empty() { "body" } else { &path };
        Some(Refusal::invalid(field, json::HALF_CHARACTER))
    };
    let text = match json::text_of(bytes) {
        Ok(text) => text,
        Err(NotUtf8::Encoded(encoding)) => {
            let reason = format!("is {encoding}; send UTF-8");
            let message = format!("The body {reason}.");
            return Err(Refusal::invalid("body", reason).saying(message).into());
        }
        Err(NotUtf8::At(byte)) => {
            let invalid = || {
                let reason = format!("is not UTF-8 at byte {byte}; send UTF-8");
                Refusal::invalid("body", reason)
            };
            return Err(half().unwrap_or_else(invalid).into());
        }
    };
    serde_json::from_str(text).map_err(|error| {
        let invalid = || Refusal::invalid("body", format!("is not valid JSON: {error}"));
        half().unwrap_or_else(invalid).into()
    })
}

fn is_json(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case(JSON)
}

/// A type that is read from a query string.
pub trait FromQuery: Sized {
    /// Reads the query's parameters. An implementation reads every parameter on every call, so that
    /// [`QueryString::describe`] finds all of them.
    ///
    /// # Errors
    /// `validation_error` for the first invalid parameter.
    fn read(query: &QueryString) -> Result<Self>;
}

impl FromQuery for () {
    fn read(_: &QueryString) -> Result<Self> {
        Ok(())
    }
}

/// A query with a search text and no filter.
pub struct Search {
    /// The text; `None` if it is empty.
    pub q: Option<String>,
}

impl FromQuery for Search {
    fn read(query: &QueryString) -> Result<Self> {
        Ok(Self { q: query.search()? })
    }
}

/// A query that is read as a `T`.
pub struct Query<T>(pub T);

impl<T: FromQuery> FromRequest for Query<T> {
    type Error = Error;
    type Future = Ready<Result<Self>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let query = QueryString {
            pairs: pairs(request).collect(),
            unknown: RefCell::new(names(request)),
            described: None,
            has_room: is_reserved(request),
        };
        // As in a handler, a panic is an internal error and gets an envelope.
        let read = catch_unwind(AssertUnwindSafe(|| T::read(&query)));
        let read = read.unwrap_or_else(|_| Err(Error::internal("reading a query panicked")));
        if !query.pairs.is_empty() {
            request.extensions_mut().insert(UnknownParameters {
                names: query.unknown.into_inner(),
                known: QueryString::describe::<T>,
            });
        }
        ready(read.map(Self))
    }
}

fn pairs(request: &HttpRequest) -> impl Iterator<Item = (String, String)> {
    form_urlencoded::parse(request.query_string().as_bytes()).into_owned()
}

/// The names of a query's first parameters, each once.
fn names(request: &HttpRequest) -> Vec<String> {
    const MAX_PAIRS: usize = 64;
    let mut names = Vec::new();
    for (name, _) in pairs(request).take(MAX_PAIRS) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// The parameters of a query that its route does not know.
pub(super) struct UnknownParameters {
    /// Their names.
    pub(super) names: Vec<String>,
    /// Returns the parameters that the route knows.
    pub(super) known: fn() -> Vec<(String, Value)>,
}

impl UnknownParameters {
    /// Takes the parameters of this request's query that its route does not know.
    pub(super) fn take(request: &HttpRequest) -> Self {
        let read = request.extensions_mut().remove::<Self>();
        read.unwrap_or_else(|| Self {
            names: names(request),
            known: Vec::new,
        })
    }
}

/// The parameters of a query.
pub struct QueryString {
    pairs: Vec<(String, String)>,
    /// The names of the parameters that no reader has asked for yet.
    unknown: RefCell<Vec<String>>,
    /// The parameters read so far. Only [`QueryString::describe`] collects them.
    described: Option<RefCell<Vec<(String, Value)>>>,
    /// Whether there is room for a large reply.
    pub(super) has_room: bool,
}

impl QueryString {
    /// The parameters that a `T` reads, each with its JSON Schema. The reader runs on an empty
    /// query.
    pub fn describe<T: FromQuery>() -> Vec<(String, Value)> {
        let query = Self {
            pairs: Vec::new(),
            unknown: RefCell::default(),
            described: Some(RefCell::default()),
            has_room: false,
        };
        drop(T::read(&query));
        query.described.map(RefCell::into_inner).unwrap_or_default()
    }

    fn describe_parameter(&self, name: &str, schema: impl FnOnce() -> Value) {
        self.unknown.borrow_mut().retain(|unknown| unknown != name);
        if let Some(described) = &self.described {
            described.borrow_mut().push((name.to_owned(), schema()));
        }
    }

    /// The parameter's value. If the parameter is repeated, the last value counts.
    fn get(&self, name: &str) -> Option<&str> {
        self.pairs
            .iter()
            .rev()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The parameter as text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.describe_parameter(name, || json!({ "type": "string" }));
        self.get(name)
    }

    /// The parameter as text whose number of characters is in a range.
    ///
    /// # Errors
    /// `validation_error` for text that is empty, too long, or has U+0000.
    pub fn characters(
        &self,
        name: &str,
        characters: RangeInclusive<usize>,
    ) -> Result<Option<String>> {
        self.describe_parameter(name, || text_schema(&characters));
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        match text_within(text, &characters) {
            Ok(()) => Ok(Some(text.to_owned())),
            Err(reason) => Err(Refusal::invalid(name, reason).into()),
        }
    }

    /// The parameters whose names begin with a prefix, by the rest of their names.
    ///
    /// # Errors
    /// `validation_error` for a name or a value whose number of characters is not in its range, and
    /// for U+0000.
    pub fn prefixed(
        &self,
        prefix: &str,
        names: RangeInclusive<usize>,
        values: RangeInclusive<usize>,
    ) -> Result<BTreeMap<String, String>> {
        self.describe_parameter(&format!("{prefix}{ANY_NAME}"), || text_schema(&values));
        let mut unknown = self.unknown.borrow_mut();
        unknown.retain(|unknown| !unknown.starts_with(prefix));
        let mut found = BTreeMap::new();
        for (name, value) in &self.pairs {
            let Some(rest) = name.strip_prefix(prefix) else {
                continue;
            };
            let checked = text_within(rest, &names)
                .map_err(|reason| format!("has an invalid name: what follows {prefix} {reason}"))
                .and_then(|()| text_within(value, &values));
            if let Err(reason) = checked {
                let shown: String = name.chars().take(SHOWN_NAME).collect();
                return Err(Refusal::invalid(shown, reason).into());
            }
            found.insert(rest.to_owned(), value.clone());
        }
        Ok(found)
    }

    /// The parameter as text; `None` also if the parameter is repeated.
    pub fn only_text(&self, name: &str) -> Option<&str> {
        let occurrences = self.pairs.iter().filter(|(key, _)| key == name).count();
        self.text(name).filter(|_| occurrences == 1)
    }

    /// The search text `q` of a list; `None` if it is empty.
    ///
    /// # Errors
    /// `validation_error` for a text with too many characters or words, and for U+0000, which the
    /// server refuses everywhere.
    pub fn search(&self) -> Result<Option<String>> {
        let schema = || json!({ "type": "string", "maxLength": MAX_SEARCH_CHARS });
        self.describe_parameter("q", schema);
        let Some(q) = self.search_text() else {
            return Ok(None);
        };
        let refuse = |reason: String| Err(Refusal::invalid("q", reason).into());
        if q.contains('\0') {
            return refuse("must not contain U+0000".to_owned());
        }
        // The cost of a search grows with both.
        if q.chars().count() > MAX_SEARCH_CHARS {
            return refuse(format!("must have at most {MAX_SEARCH_CHARS} characters"));
        }
        if terms::word_count(q) > MAX_WORDS {
            return refuse(format!("must have at most {} words", MAX_WORDS));
        }
        Ok(Some(q.to_owned()))
    }

    /// The parameter `q`, unchecked; `None` if it is empty.
    pub fn search_text(&self) -> Option<&str> {
        self.get("q").filter(|q| !q.is_empty())
    }

    fn parsed<T>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Option<T>,
        rule: &str,
    ) -> Result<Option<T>> {
        self.get(name)
            .map(|text| parse(text).ok_or_else(|| Refusal::invalid(name, rule).into()))
            .transpose()
    }

    /// The parameter as text, for a handler that checks the name only after other checks.
    pub fn unchecked<T: Name>(&self, name: &str) -> Option<String> {
        self.describe_parameter(name, || json!({ "type": "string", "pattern": T::PATTERN }));
        self.get(name).map(str::to_owned)
    }

    /// The parameter as a name.
    ///
    /// # Errors
    /// `validation_error` with the name's rule.
    pub fn named<T: Name>(&self, name: &str) -> Result<Option<T>> {
        self.describe_parameter(name, || json!({ "type": "string", "pattern": T::PATTERN }));
        self.parsed(name, T::read, T::RULE)
    }

    /// The parameter as the id of a Microsoft directory in any spelling. An id that the server
    /// would now refuse from a person is valid too, because older versions may have stored it.
    ///
    /// # Errors
    /// `validation_error` for text that no version stores.
    pub fn directory(&self, name: &str) -> Result<Option<M365TenantId>> {
        self.describe_parameter(
            name,
            || json!({ "type": "string", "pattern": M365TenantId::PATTERN }),
        );
        self.get(name)
            .map(|text| {
                DirectoryId::parse(text, &shortened(&text.into()))
                    .map(DirectoryId::into_id)
                    .map_err(|reason| Refusal::invalid(name, reason).into())
            })
            .transpose()
    }

    /// The parameter as an id that this server issued.
    ///
    /// # Errors
    /// `validation_error` if the parameter does not have the id's form.
    pub fn id<K: Kind>(&self, name: &str) -> Result<Option<Id<K>>> {
        self.describe_parameter(
            name,
            || json!({ "type": "string", "pattern": Id::<K>::pattern() }),
        );
        let rule = format!("must be an id that begins with {}", K::PREFIX);
        self.parsed(name, Id::parse, &rule)
    }

    /// The parameter as a time (RFC 3339).
    ///
    /// # Errors
    /// `validation_error` for any other form.
    pub fn time(&self, name: &str) -> Result<Option<Millis>> {
        self.describe_parameter(name, || json!({ "type": "string", "format": "date-time" }));
        self.parsed(name, parse_rfc3339, TIME_RULE)
    }

    /// The parameter as one of `choices`, a list that is separated by commas.
    ///
    /// # Errors
    /// `validation_error` with the choices.
    pub fn word<T>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Option<T>,
        choices: &str,
    ) -> Result<Option<T>> {
        self.describe_parameter(name, || {
            let words: Vec<&str> = choices.split(", ").collect();
            json!({ "type": "string", "enum": words })
        });
        self.parsed(name, parse, &format!("must be one of {choices}"))
    }

    /// The parameter as `true` or `false`. An absent parameter is `false`.
    ///
    /// # Errors
    /// `validation_error` for anything else.
    pub fn flag(&self, name: &str) -> Result<bool> {
        let parse = |text: &str| match text {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        };
        self.describe_parameter(name, || json!({ "type": "boolean" }));
        Ok(self
            .parsed(name, parse, "must be one of true, false")?
            .unwrap_or(false))
    }

    /// The parameter as an integer in a range.
    ///
    /// # Errors
    /// `validation_error` with the range.
    pub fn number(&self, name: &str, range: RangeInclusive<i64>) -> Result<Option<i64>> {
        self.describe_parameter(name, || integer_schema(&range));
        let rule = format!(
            "must be a whole number from {} to {}",
            range.start(),
            range.end()
        );
        self.parsed(
            name,
            |text| {
                let digits = text.strip_prefix('-').unwrap_or(text);
                let is_plain =
                    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
                text.parse()
                    .ok()
                    .filter(|number| is_plain && range.contains(number))
            },
            &rule,
        )
    }
}

/// The id in a path segment.
///
/// # Errors
/// `not_found` for a malformed id, as for an id that does not exist.
pub fn path_id<K: Kind>(request: &HttpRequest, name: &str) -> Result<Id<K>> {
    segment(request, name)
        .and_then(Id::parse)
        .ok_or_else(|| Code::NotFound.into())
}

/// The name in a path segment.
///
/// # Errors
/// `not_found` for a malformed name, as for a name that does not exist.
pub fn path_name<T: Name>(request: &HttpRequest, name: &str) -> Result<T> {
    decoded_segment(request, name)
        .and_then(|text| T::read(&text))
        .ok_or_else(|| Code::NotFound.into())
}

/// The id of a Microsoft directory in a path segment, in any spelling.
///
/// # Errors
/// `not_found` for text that no version stores.
pub fn path_directory(request: &HttpRequest, name: &str) -> Result<M365TenantId> {
    segment(request, name)
        .and_then(|text| DirectoryId::parse(text, "").ok())
        .map(DirectoryId::into_id)
        .ok_or_else(|| Code::NotFound.into())
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    struct Panics;

    impl FromQuery for Panics {
        fn read(_: &QueryString) -> Result<Self> {
            panic!("on purpose, for the test")
        }
    }

    #[actix_web::test]
    async fn a_panic_in_the_reader_of_a_query_is_an_internal_error() {
        let request = TestRequest::default().to_http_request();
        let read = Query::<Panics>::from_request(&request, &mut Payload::None).await;
        assert!(matches!(read, Err(Error::Internal(_))));
    }
}
