//! What every request passes: it gets an id, its failure an envelope, its reply the common headers, the log a line.

use std::time::Instant;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{HttpMessage, web};
use uuid::Uuid;

use super::context::Context;
use super::router::RoutePath;
use super::{App, cors, envelope};
use crate::error::Error;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

pub(super) async fn pass(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let request_id = request
        .headers()
        .get(REQUEST_ID)
        .and_then(|id| id.to_str().ok())
        .and_then(|id| Uuid::try_parse(id).ok())
        .unwrap_or_else(Uuid::new_v4);
    request.extensions_mut().insert(Context {
        request_id,
        started: Instant::now(),
        caller: None,
        standing: None,
    });
    let app = request.app_data::<web::Data<App>>().cloned();
    let origin = app
        .as_ref()
        .and_then(|app| cors::allowed_origin(&app.limits, &request));
    if let Some(origin) = &origin
        && cors::is_preflight(&request)
    {
        let mut reply = cors::preflight();
        cors::allow(reply.headers_mut(), origin);
        put(reply.headers_mut(), REQUEST_ID, &request_id.to_string());
        return Ok(request.into_response(reply));
    }

    let mut response = next.call(request).await?.map_into_boxed_body();
    let failure = response.response().error().map(render);
    if let Some(rendered) = failure {
        let rendered = rendered(response.request());
        response = response.into_response(rendered);
    }
    let context = Context::of(response.request());
    write_line(&context, &response);
    let headers = response.headers_mut();
    put(headers, REQUEST_ID, &request_id.to_string());
    if let Some(standing) = context.standing {
        put(headers, LIMIT, &standing.limit.to_string());
        put(headers, REMAINING, &standing.remaining.to_string());
        put(headers, RESET, &standing.reset_s.to_string());
    }
    if let Some(origin) = &origin {
        cors::allow(headers, origin);
    }
    Ok(response)
}

/// A failure's envelope; an inner cause is logged here, once, and told to nobody.
fn render(
    error: &actix_web::Error,
) -> impl FnOnce(&actix_web::HttpRequest) -> actix_web::HttpResponse + use<> {
    let (refusal, cause) = match error.as_error::<Error>() {
        Some(Error::Refused(refusal)) => ((**refusal).clone(), None),
        Some(Error::Internal(cause)) => (envelope::internal(), Some(cause.to_string())),
        None => envelope::framework_refusal(error),
    };
    move |request| {
        let context = Context::of(request);
        if let Some(cause) = cause {
            log::error!("{} {cause}", context.request_id);
        }
        envelope::refuse(&refusal, context.request_id)
    }
}

fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// One line a request: its id, caller, method, route, status and time; never a query, a credential or a text.
fn write_line(context: &Context, response: &ServiceResponse<BoxBody>) {
    let request = response.request();
    let route = request.app_data::<RoutePath>().map_or("-", |path| path.0);
    log::info!(
        target: "switchboard::access",
        "{} {} {} {route} {} {:.1}ms",
        context.request_id,
        context.caller.as_deref().unwrap_or("-"),
        request.method(),
        response.status().as_u16(),
        context.elapsed_ms(),
    );
}
