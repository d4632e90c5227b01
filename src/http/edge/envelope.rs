//! The envelope of every reply, and the one place that renders a refusal (contract, section 1).

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
use super::cursor::PageKeys;
use super::reply_body::{BodyWriter, Unwritten};
use super::reply_limiter::{NeedsRoom, reserved};
use super::unknown_parameters;
use crate::error::{Code, Error, Refusal};

const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// A successful reply: the envelope's content, its status and its headers.
pub struct Reply<T> {
    status: StatusCode,
    data: T,
    location: Option<String>,
    replayed: bool,
    warnings: Vec<Cow<'static, str>>,
    rows: Option<PagedRows<T>>,
}

/// How the data of a list is written: up to the number of rows that fit into a reply.
struct PagedRows<T> {
    write: fn(&T, &mut BodyWriter<'_>) -> Result<usize, Unwritten>,
    keys: PageKeys,
}

/// The `pagination` of a list's envelope.
#[derive(Clone, Debug, Serialize)]
pub struct Pagination {
    /// Whether the list continues after this page.
    pub has_more: bool,
    /// The cursor of the next page.
    pub next_cursor: Option<String>,
}

/// The result of a handler.
pub type Outcome<T> = Result<Reply<T>, Error>;

/// Describes a handler's success for the OpenAPI document.
pub trait ReplySchema {
    /// The status of the success, unless the route table lists another.
    const STATUS: u16 = 200;

    /// The schema of `data`; `None` if the body is not an envelope.
    fn data(generator: &mut SchemaGenerator) -> Option<Schema>;
}

impl<T: JsonSchema> ReplySchema for Outcome<T> {
    fn data(generator: &mut SchemaGenerator) -> Option<Schema> {
        Some(generator.subschema_for::<T>())
    }
}

impl ReplySchema for Result<NoContent, Error> {
    const STATUS: u16 = 204;

    fn data(_: &mut SchemaGenerator) -> Option<Schema> {
        None
    }
}

impl ReplySchema for Result<HttpResponse, Error> {
    fn data(_: &mut SchemaGenerator) -> Option<Schema> {
        None
    }
}

/// A `T`, or the JSON that a `T` was serialized to earlier.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum MaybeSerialized<T> {
    /// A value that is serialized with the reply.
    Value(T),
    /// The JSON of a value.
    Json(Box<RawValue>),
}

impl<T: JsonSchema> JsonSchema for MaybeSerialized<T> {
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    // The id of `T`, so that the document defines the schema once.
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
    /// A 200 reply.
    pub fn ok(data: T) -> Self {
        Self::with_status(StatusCode::OK, data)
    }

    /// A 201 reply. `path` is the path of the created resource, without the prefix.
    pub fn created(path: impl fmt::Display, data: T) -> Self {
        Self::made(StatusCode::CREATED, Some(path), data)
    }

    /// The reply of a call that can create something. `path` is the path of the created resource,
    /// without the prefix.
    pub(super) fn made(status: StatusCode, path: Option<impl fmt::Display>, data: T) -> Self {
        let mut reply = Self::with_status(status, data);
        reply.location = path.map(|path| format!("{}{path}", super::routing::PREFIX));
        reply
    }

    fn with_status(status: StatusCode, data: T) -> Self {
        Self {
            status,
            data,
            location: None,
            replayed: false,
            warnings: Vec::new(),
            rows: None,
        }
    }

    /// Marks the reply as a replay of an earlier one.
    #[must_use]
    pub fn replayed(mut self) -> Self {
        self.replayed = true;
        self
    }

    /// Adds warnings, such as which fields were ignored.
    #[must_use]
    pub fn warning(mut self, warnings: impl IntoIterator<Item = &'static str>) -> Self {
        self.warnings.extend(warnings.into_iter().map(Cow::from));
        self
    }

    /// Writes the envelope. An error leaves the body incomplete.
    fn write(&self, context: &Context, body: &mut BodyWriter<'_>) -> Result<(), Unwritten> {
        let mut pagination = None;
        body.put("{\"data\":")?;
        match &self.rows {
            None => body.put_json(&self.data)?,
            Some(rows) => {
                let written = (rows.write)(&self.data, body)?;
                pagination = Some(rows.keys.pagination(written));
            }
        }
        body.put(",\"meta\":")?;
        body.put_json(&Meta {
            request_id: context.request_id,
            timings_ms: Timings {
                total: context.elapsed_ms(),
            },
            warnings: &self.warnings,
            pagination,
        })?;
        body.put("}")
    }
}

impl<T: Serialize> Reply<Vec<T>> {
    /// Makes this the page of a list, which may end early.
    #[must_use]
    pub fn paged(mut self, keys: PageKeys) -> Self {
        self.rows = Some(PagedRows {
            write: |rows, body| body.put_rows(rows),
            keys,
        });
        self
    }
}

#[derive(Serialize)]
struct Meta<'a> {
    request_id: Uuid,
    timings_ms: Timings,
    warnings: &'a [Cow<'static, str>],
    #[serde(skip_serializing_if = "Option::is_none")]
    pagination: Option<Pagination>,
}

#[derive(Serialize)]
struct Timings {
    total: f64,
}

impl<T: Serialize> Responder for Reply<T> {
    type Body = BoxBody;

    fn respond_to(mut self, request: &HttpRequest) -> HttpResponse {
        let unknown = unknown_parameters::warnings(request);
        self.warnings.extend(unknown.into_iter().map(Cow::from));
        let room = reserved(request);
        let has_room = room.is_some();
        let mut body = BodyWriter::new(request, room);
        let is_cut = self
            .rows
            .as_ref()
            .is_some_and(|rows| rows.keys.ends_early());
        let written = if is_cut && !has_room {
            // The page is read again, and further, once there is room for it.
            Err(Unwritten::NoRoom)
        } else {
            self.write(&Context::of(request), &mut body)
        };
        match written {
            Ok(()) => {}
            Err(Unwritten::Invalid(error)) => {
                return HttpResponse::from_error(Error::Internal(error.into()));
            }
            Err(Unwritten::NoRoom | Unwritten::PageIsFull) => {
                // A request that changes nothing can be repeated.
                return if request.method().is_safe() && !has_room {
                    HttpResponse::from_error(NeedsRoom)
                } else {
                    HttpResponse::from_error(Error::from(Code::Overloaded))
                };
            }
        }
        let mut response = HttpResponse::build(self.status);
        response.insert_header((header::CONTENT_TYPE, "application/json"));
        if let Some(location) = self.location {
            response.insert_header((header::LOCATION, location));
        }
        if self.replayed {
            response.insert_header((REPLAYED, "true"));
        }
        response.body(body.finish())
    }
}

#[derive(Serialize)]
struct ErrorEnvelope<'a> {
    error: ErrorBody<'a>,
    meta: ErrorMeta,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    code: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<&'a Map<String, Value>>,
}

#[derive(Serialize)]
struct ErrorMeta {
    request_id: Uuid,
}

/// Renders a refusal as an HTTP response.
pub(in crate::http) fn render_refusal(refusal: &Refusal, request_id: Uuid) -> HttpResponse {
    let envelope = ErrorEnvelope {
        error: ErrorBody {
            code: refusal.code.as_str(),
            message: &refusal.message,
            details: refusal.details.as_ref(),
        },
        meta: ErrorMeta { request_id },
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
    response.json(envelope)
}

/// The refusal that a client receives for an internal error, without its cause.
pub(in crate::http) fn internal() -> Refusal {
    Refusal::new(Code::InternalError)
}

/// Maps an error of the framework to a refusal, and to the cause that is logged.
pub(in crate::http) fn framework_refusal(error: &actix_web::Error) -> (Refusal, Option<String>) {
    let status = error.as_response_error().status_code();
    match status.as_u16() {
        404 => (Refusal::new(Code::NotFound), None),
        405 => (Refusal::new(Code::MethodNotAllowed), None),
        413 => (Refusal::new(Code::PayloadTooLarge), None),
        415 => (Refusal::new(Code::UnsupportedMediaType), None),
        400..=499 => (
            Refusal::new(Code::ValidationError)
                .saying("The server cannot read the request. Check it and send it again."),
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

    /// A placeholder. The middleware renders the envelope, because it knows the request's id.
    fn error_response(&self) -> HttpResponse {
        HttpResponse::new(self.status_code())
    }
}

/// A 204 reply, without a body.
#[derive(Debug)]
pub struct NoContent;

impl Responder for NoContent {
    type Body = BoxBody;

    fn respond_to(self, _: &HttpRequest) -> HttpResponse {
        HttpResponse::NoContent().finish()
    }
}
