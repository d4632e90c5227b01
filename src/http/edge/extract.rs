//! Bodies, queries and ids, read with the contract's limits and refused in its words.

use std::cell::RefCell;
use std::future::{Future, Ready, ready};
use std::marker::PhantomData;
use std::ops::RangeInclusive;
use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::http::header;
use actix_web::{FromRequest, HttpRequest, web};
use serde_json::{Value, json};

use super::body::{declared_length, receive};
use super::routing::segment;
use crate::config::ClientTimeouts;
use crate::error::{Code, Error, Refusal, Result};
use crate::http::App;
use crate::input::fields::{Fields, FromFields, Problems, TIME_RULE, integer_schema};
use crate::model::clock::{Millis, parse_rfc3339};
use crate::model::ids::{Id, Kind};
use crate::model::names::Name;

/// Bytes that a JSON body may have (contract, section 1, Size).
pub const BODY_LIMIT: usize = 256 * 1_024;
const JSON: &str = "application/json";

/// A JSON body that is read as a `T`, with its bytes.
pub struct Body<T> {
    /// The bytes as they came.
    pub bytes: Vec<u8>,
    value: Value,
    read_as: PhantomData<fn() -> T>,
}

impl<T: FromFields> Body<T> {
    /// Reads the body's object.
    ///
    /// # Errors
    /// `validation_error` for the first field that is refused.
    pub fn read(&self) -> Result<T> {
        self.read_by(T::read)
    }
}

impl<T> Body<T> {
    /// As [`Body::read`], by a reader that depends on more than the body.
    ///
    /// # Errors
    /// As [`Body::read`].
    pub fn read_by<R>(&self, read: impl FnOnce(&Fields<'_>) -> R) -> Result<R> {
        let problems = Problems::default();
        let value = Fields::root(&self.value, &problems).map(|fields| read(&fields));
        problems.into_result()?;
        value.ok_or_else(|| Error::internal("a body without a problem gave nothing"))
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
                return Err(Refusal::invalid("body", "is required, as JSON").into());
            }
            if !media_type.is_some_and(|media_type| is_json(&media_type)) {
                return Err(Code::UnsupportedMediaType.into());
            }
            let value = serde_json::from_slice(&bytes)
                .map_err(|error| Refusal::invalid("body", format!("is not valid JSON: {error}")))?;
            Ok(Self {
                bytes,
                value,
                read_as: PhantomData,
            })
        })
    }
}

fn is_json(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case(JSON)
}

/// What a query is read as.
pub trait FromQuery: Sized {
    /// Reads the query's parameters. Every parameter is asked for, so that the document can list them.
    ///
    /// # Errors
    /// `validation_error` for the first parameter that is refused.
    fn read(query: &QueryString) -> Result<Self>;
}

impl FromQuery for () {
    fn read(_: &QueryString) -> Result<Self> {
        Ok(())
    }
}

/// The search text alone.
pub struct Search {
    /// The text; none, if it is empty.
    pub q: Option<String>,
}

impl FromQuery for Search {
    fn read(query: &QueryString) -> Result<Self> {
        Ok(Self { q: query.search()? })
    }
}

/// A query that was read as a `T`.
pub struct Query<T>(pub T);

impl<T: FromQuery> FromRequest for Query<T> {
    type Error = Error;
    type Future = Ready<Result<Self>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let pairs = form_urlencoded::parse(request.query_string().as_bytes());
        let query = QueryString {
            pairs: pairs.into_owned().collect(),
            sketch: None,
        };
        ready(T::read(&query).map(Self))
    }
}

/// A query's parameters. Parameters that are not asked for are ignored.
pub struct QueryString {
    pairs: Vec<(String, String)>,
    /// Where a reader is drawn instead of served: see [`QueryString::describe`].
    sketch: Option<RefCell<Vec<(String, Value)>>>,
}

impl QueryString {
    /// The parameters that a `T` asks for, each with its JSON Schema: its reader runs on an empty query.
    pub fn describe<T: FromQuery>() -> Vec<(String, Value)> {
        let query = Self {
            pairs: Vec::new(),
            sketch: Some(RefCell::default()),
        };
        drop(T::read(&query));
        query.sketch.map(RefCell::into_inner).unwrap_or_default()
    }

    fn note(&self, name: &str, schema: impl FnOnce() -> Value) {
        if let Some(sketch) = &self.sketch {
            sketch.borrow_mut().push((name.to_owned(), schema()));
        }
    }

    /// Of several the last.
    fn get(&self, name: &str) -> Option<&str> {
        self.pairs
            .iter()
            .rev()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// A parameter's text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.note(name, || json!({ "type": "string" }));
        self.get(name)
    }

    /// The text that a list is searched for; none, when it is empty.
    ///
    /// # Errors
    /// `validation_error` for U+0000, which is refused wherever it is sent.
    pub fn search(&self) -> Result<Option<String>> {
        match self.text("q") {
            Some(q) if q.contains('\0') => {
                Err(Refusal::invalid("q", "must not contain U+0000").into())
            }
            q => Ok(q.filter(|q| !q.is_empty()).map(str::to_owned)),
        }
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

    /// A name from outside that is checked later, after checks that come first.
    pub fn unchecked<T: Name>(&self, name: &str) -> Option<String> {
        self.note(name, || json!({ "type": "string", "pattern": T::PATTERN }));
        self.get(name).map(str::to_owned)
    }

    /// A name from outside.
    ///
    /// # Errors
    /// `validation_error` with the name's rule.
    pub fn named<T: Name>(&self, name: &str) -> Result<Option<T>> {
        self.note(name, || json!({ "type": "string", "pattern": T::PATTERN }));
        self.parsed(name, T::read, T::RULE)
    }

    /// An id that this server gave.
    ///
    /// # Errors
    /// `validation_error`.
    pub fn id<K: Kind>(&self, name: &str) -> Result<Option<Id<K>>> {
        self.note(
            name,
            || json!({ "type": "string", "pattern": Id::<K>::pattern() }),
        );
        let rule = format!("must be an id that begins with {}", K::PREFIX);
        self.parsed(name, Id::parse, &rule)
    }

    /// A time (RFC 3339).
    ///
    /// # Errors
    /// `validation_error`.
    pub fn time(&self, name: &str) -> Result<Option<Millis>> {
        self.note(name, || json!({ "type": "string", "format": "date-time" }));
        self.parsed(name, parse_rfc3339, TIME_RULE)
    }

    /// One of a few words.
    ///
    /// # Errors
    /// `validation_error` with the choices.
    pub fn word<T>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Option<T>,
        choices: &str,
    ) -> Result<Option<T>> {
        self.note(name, || {
            let words: Vec<&str> = choices.split(", ").collect();
            json!({ "type": "string", "enum": words })
        });
        self.parsed(name, parse, &format!("must be one of {choices}"))
    }

    /// `true` or `false`, where absent is `false`.
    ///
    /// # Errors
    /// `validation_error` for anything else.
    pub fn flag(&self, name: &str) -> Result<bool> {
        let parse = |text: &str| match text {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        };
        self.note(name, || json!({ "type": "boolean" }));
        Ok(self
            .parsed(name, parse, "must be one of true, false")?
            .unwrap_or(false))
    }

    /// A whole number in a range.
    ///
    /// # Errors
    /// `validation_error` with the range.
    pub fn number(&self, name: &str, range: RangeInclusive<i64>) -> Result<Option<i64>> {
        self.note(name, || integer_schema(&range));
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

/// An id in the path; malformed ones name nothing.
///
/// # Errors
/// `not_found`.
pub fn path_id<K: Kind>(request: &HttpRequest, name: &str) -> Result<Id<K>> {
    segment(request, name)
        .and_then(Id::parse)
        .ok_or_else(|| Code::NotFound.into())
}

/// A name from outside in the path; text of another form names nothing.
///
/// # Errors
/// `not_found`.
pub fn path_name<T: Name>(request: &HttpRequest, name: &str) -> Result<T> {
    segment(request, name)
        .and_then(T::read)
        .ok_or_else(|| Code::NotFound.into())
}
