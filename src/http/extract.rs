//! Bodies, queries and ids, read with the contract's limits and refused in its words.

use std::future::{Future, Ready, ready};
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::str::FromStr;

use actix_web::dev::Payload;
use actix_web::http::header;
use actix_web::{FromRequest, HttpRequest};
use futures_util::StreamExt;
use serde_json::Value;

use crate::error::{Code, Error, Refusal, Result};
use crate::fields::{Fields, Problems};
use crate::model::ids::{Id, Kind};

/// Bytes that a JSON body may have (contract, section 1, Size).
pub const BODY_LIMIT: usize = 256 * 1_024;
const JSON: &str = "application/json";

/// A JSON body, with its bytes.
pub struct Body {
    /// The bytes as they came.
    pub bytes: Vec<u8>,
    value: Value,
}

impl Body {
    /// Reads the body's object.
    ///
    /// # Errors
    /// `validation_error` for the first field that `read` refuses.
    pub fn read<T>(&self, read: impl FnOnce(&Fields<'_>) -> T) -> Result<T> {
        let problems = Problems::default();
        let value = Fields::root(&self.value, &problems).map(|fields| read(&fields));
        problems.into_result()?;
        value.ok_or_else(|| Error::internal("a body without a problem gave nothing"))
    }
}

impl FromRequest for Body {
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let declared = request
            .headers()
            .get(header::CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok())
            .and_then(|length| length.parse::<u64>().ok());
        let media_type = request
            .headers()
            .get(header::CONTENT_TYPE)
            .map(|media_type| String::from_utf8_lossy(media_type.as_bytes()).into_owned());
        let mut payload = payload.take();
        Box::pin(async move {
            if declared.is_some_and(|bytes| bytes > BODY_LIMIT as u64) {
                return Err(Code::PayloadTooLarge.into());
            }
            let mut bytes = Vec::new();
            while let Some(chunk) = payload.next().await {
                let chunk = chunk
                    .map_err(|_| Refusal::invalid("body", "ended before all of it had come"))?;
                if bytes.len() + chunk.len() > BODY_LIMIT {
                    return Err(Code::PayloadTooLarge.into());
                }
                bytes.extend_from_slice(&chunk);
            }
            if bytes.is_empty() && media_type.is_none() {
                return Err(Refusal::invalid("body", "is required, as JSON").into());
            }
            if !media_type.is_some_and(|media_type| is_json(&media_type)) {
                return Err(Code::UnsupportedMediaType.into());
            }
            let value = serde_json::from_slice(&bytes)
                .map_err(|error| Refusal::invalid("body", format!("is no JSON: {error}")))?;
            Ok(Self { bytes, value })
        })
    }
}

fn is_json(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case(JSON)
}

/// A query's parameters; those that nobody asks for are ignored.
pub struct Query(Vec<(String, String)>);

impl FromRequest for Query {
    type Error = Error;
    type Future = Ready<Result<Self>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let pairs = form_urlencoded::parse(request.query_string().as_bytes());
        ready(Ok(Self(pairs.into_owned().collect())))
    }
}

impl Query {
    /// A parameter's text; of several the last.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .rev()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The text that a list is searched for; none, when it is empty.
    ///
    /// # Errors
    /// `validation_error` for U+0000, which is refused wherever it is sent.
    pub fn search(&self) -> Result<Option<&str>> {
        match self.text("q") {
            Some(q) if q.contains('\0') => {
                Err(Refusal::invalid("q", "must not contain U+0000").into())
            }
            q => Ok(q.filter(|q| !q.is_empty())),
        }
    }

    /// A parameter that `parse` reads.
    ///
    /// # Errors
    /// `validation_error` with `rule`.
    pub fn parsed<T>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Option<T>,
        rule: &str,
    ) -> Result<Option<T>> {
        self.text(name)
            .map(|text| parse(text).ok_or_else(|| Refusal::invalid(name, rule).into()))
            .transpose()
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
        Ok(self.word(name, parse, "true, false")?.unwrap_or(false))
    }

    /// A whole number in a range.
    ///
    /// # Errors
    /// `validation_error` with the range.
    pub fn number<T: FromStr + PartialOrd + std::fmt::Display>(
        &self,
        name: &str,
        range: RangeInclusive<T>,
    ) -> Result<Option<T>> {
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
    request
        .match_info()
        .get(name)
        .and_then(Id::parse)
        .ok_or_else(|| Code::NotFound.into())
}
