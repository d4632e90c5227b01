//! The one shape of every reply, and the one place that renders a refusal (contract, section 1).

use std::borrow::Cow;
use std::fmt;

use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName};
use actix_web::{HttpRequest, HttpResponse, Responder, ResponseError};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::context::Context;
use crate::error::{Code, Error, Refusal};

const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// Room for a usual reply, so that it is written without moving.
const USUAL_BYTES: usize = 1_024;

/// A success.
#[derive(Debug)]
pub struct Reply<T> {
    status: StatusCode,
    data: T,
    location: Option<String>,
    replayed: bool,
    warnings: Vec<&'static str>,
    pagination: Option<Pagination>,
}

/// Whether a list goes on.
#[derive(Clone, Debug, Serialize)]
pub struct Pagination {
    /// Whether there is more.
    pub has_more: bool,
    /// Where it goes on.
    pub next_cursor: Option<String>,
}

/// What a handler gives.
pub type Outcome<T> = Result<Reply<T>, Error>;

/// What a handler's success has for a body, for the document of the routes.
pub trait Gives {
    /// The status that it has unless the table says otherwise.
    const STATUS: u16 = 200;

    /// The schema of `data`; none where the body is no envelope.
    fn data(generator: &mut SchemaGenerator) -> Option<Schema>;
}

impl<T: JsonSchema> Gives for Outcome<T> {
    fn data(generator: &mut SchemaGenerator) -> Option<Schema> {
        Some(generator.subschema_for::<T>())
    }
}

impl Gives for Result<Gone, Error> {
    const STATUS: u16 = 204;

    fn data(_: &mut SchemaGenerator) -> Option<Schema> {
        None
    }
}

impl Gives for Result<HttpResponse, Error> {
    fn data(_: &mut SchemaGenerator) -> Option<Schema> {
        None
    }
}

/// A `T`, or one that was written as JSON before.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Written<T> {
    /// It is written with the reply.
    Now(T),
    /// What was written.
    Before(Box<RawValue>),
}

impl<T: JsonSchema> JsonSchema for Written<T> {
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    // The same thing, so that the document has it once.
    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }

    fn inline_schema() -> bool {
        T::inline_schema()
    }
}

impl<T: Serialize> Reply<T> {
    /// 200.
    pub fn ok(data: T) -> Self {
        Self::with_status(StatusCode::OK, data)
    }

    /// 202: it will be done.
    pub fn accepted(data: T) -> Self {
        Self::with_status(StatusCode::ACCEPTED, data)
    }

    /// 201, with the path of what was made, without the prefix.
    pub fn created(path: impl fmt::Display, data: T) -> Self {
        let mut reply = Self::with_status(StatusCode::CREATED, data);
        reply.location = Some(format!("{}{path}", super::routing::PREFIX));
        reply
    }

    fn with_status(status: StatusCode, data: T) -> Self {
        Self {
            status,
            data,
            location: None,
            replayed: false,
            warnings: Vec::new(),
            pagination: None,
        }
    }

    /// Says that this is a first reply once more.
    #[must_use]
    pub fn replayed(mut self) -> Self {
        self.replayed = true;
        self
    }

    /// Adds sentences about what was ignored.
    #[must_use]
    pub fn warning(mut self, warnings: Vec<&'static str>) -> Self {
        self.warnings = warnings;
        self
    }

    /// Says whether the list goes on.
    #[must_use]
    pub fn paged(mut self, pagination: Pagination) -> Self {
        self.pagination = Some(pagination);
        self
    }
}

#[derive(Serialize)]
struct Success<'a, T> {
    data: &'a T,
    meta: Meta<'a>,
}

#[derive(Serialize)]
struct Meta<'a> {
    request_id: Uuid,
    timings_ms: Timings,
    warnings: &'a [&'static str],
    #[serde(skip_serializing_if = "Option::is_none")]
    pagination: Option<&'a Pagination>,
}

#[derive(Serialize)]
struct Timings {
    total: f64,
}

impl<T: Serialize> Responder for Reply<T> {
    type Body = BoxBody;

    fn respond_to(self, request: &HttpRequest) -> HttpResponse {
        let context = Context::of(request);
        let success = Success {
            data: &self.data,
            meta: Meta {
                request_id: context.request_id,
                timings_ms: Timings {
                    total: context.elapsed_ms(),
                },
                warnings: &self.warnings,
                pagination: self.pagination.as_ref(),
            },
        };
        let mut body = Vec::with_capacity(USUAL_BYTES);
        if let Err(error) = serde_json::to_writer(&mut body, &success) {
            return HttpResponse::from_error(Error::Internal(error.into()));
        }
        let mut response = HttpResponse::build(self.status);
        response.insert_header((header::CONTENT_TYPE, "application/json"));
        if let Some(location) = self.location {
            response.insert_header((header::LOCATION, location));
        }
        if self.replayed {
            response.insert_header((REPLAYED, "true"));
        }
        response.body(body)
    }
}

#[derive(Serialize)]
struct Failure<'a> {
    error: FailureBody<'a>,
    meta: FailureMeta,
}

#[derive(Serialize)]
struct FailureBody<'a> {
    code: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<&'a Map<String, Value>>,
}

#[derive(Serialize)]
struct FailureMeta {
    request_id: Uuid,
}

/// A refusal's reply.
pub(in crate::http) fn refuse(refusal: &Refusal, request_id: Uuid) -> HttpResponse {
    let failure = Failure {
        error: FailureBody {
            code: refusal.code.as_str(),
            message: &refusal.message,
            details: refusal.details.as_ref(),
        },
        meta: FailureMeta { request_id },
    };
    let status =
        StatusCode::from_u16(refusal.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = HttpResponse::build(status);
    if refusal.code == Code::Unauthorized {
        response.insert_header((header::WWW_AUTHENTICATE, "Bearer"));
    }
    if let Some(seconds) = refusal.retry_after_s {
        response.insert_header((header::RETRY_AFTER, seconds));
    }
    if let Some(allow) = &refusal.allow {
        response.insert_header((header::ALLOW, allow.as_str()));
    }
    response.json(failure)
}

/// What is told of an inner failure.
pub(in crate::http) fn internal() -> Refusal {
    Refusal::new(Code::InternalError)
}

/// A refusal of the framework's own, in our words, and what the log should have of it.
pub(in crate::http) fn framework_refusal(error: &actix_web::Error) -> (Refusal, Option<String>) {
    let status = error.as_response_error().status_code();
    match status.as_u16() {
        404 => (Refusal::new(Code::NotFound), None),
        405 => (Refusal::new(Code::MethodNotAllowed), None),
        413 => (Refusal::new(Code::PayloadTooLarge), None),
        415 => (Refusal::new(Code::UnsupportedMediaType), None),
        400..=499 => (
            Refusal::new(Code::ValidationError).saying("The request cannot be read."),
            Some(error.to_string()),
        ),
        _ => (internal(), Some(error.to_string())),
    }
}

impl ResponseError for Error {
    fn status_code(&self) -> StatusCode {
        let code = match self {
            Self::Refused(refusal) => refusal.code,
            Self::Internal(_) => Code::InternalError,
        };
        StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Only a place-holder: the door renders the envelope, since it knows the request's id.
    fn error_response(&self) -> HttpResponse {
        HttpResponse::new(self.status_code())
    }
}

/// 204, without a body.
#[derive(Debug)]
pub struct Gone;

impl Responder for Gone {
    type Body = BoxBody;

    fn respond_to(self, _: &HttpRequest) -> HttpResponse {
        HttpResponse::NoContent().finish()
    }
}
