//! The middleware around every request: id, CORS, error envelope, common headers and access log.

use std::fmt;
use std::time::Instant;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{HttpMessage, HttpResponse, web};
use serde_json::Map;
use uuid::Uuid;

use super::body::SharedPayload;
use super::call::Call;
use super::context::Context;
use super::forwarded::client_address;
use super::reply_body::{watch, without_content};
use super::routing::MatchedRoute;
use super::{cors, envelope};
use crate::error::{Error, Refusal};
use crate::http::App;

/// The log target of the access log.
pub const ACCESS_LOG: &str = "switchboard::access";
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

pub(in crate::http) async fn handle(
    mut request: ServiceRequest,
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
        remote: client_address(&request),
        call: None,
        permit: None,
        asked: Map::new(),
    });
    let app = request.app_data::<web::Data<App>>().cloned();
    let origin = app
        .as_ref()
        .and_then(|app| cors::allowed_origin(&app.config, &request));
    if let Some(origin) = &origin
        && cors::is_preflight(&request)
    {
        let mut reply = cors::preflight();
        cors::allow(reply.headers_mut(), origin);
        set_header(reply.headers_mut(), REQUEST_ID, &request_id.to_string());
        set_safe_defaults(reply.headers_mut());
        if let Some(app) = &app {
            // A preflight is answered before routing, so that it counts under no route.
            let elapsed = Context::of(request.request()).started.elapsed();
            let (method, status) = (request.method(), reply.status());
            app.metrics
                .count_reply(MatchedRoute::NONE, method, status, elapsed);
        }
        return Ok(request.into_response(reply));
    }

    let body = SharedPayload::of(&mut request);
    let mut response = next.call(request).await?.map_into_boxed_body();
    let route = MatchedRoute::of(response.request());
    if let Some(failure) = response.response().error().map(FailedRequest::of) {
        let context = Context::of(response.request());
        if let Some(sentence) = &failure.refusal.logged {
            log::info!(id:% = context.request_id; "{} {sentence}", failure.refusal.code.status());
        }
        if let Some(app) = &app {
            app.metrics.count_refusal(failure.refusal.code);
            if failure.is_ours {
                let request = response.request();
                let (method, path) = (request.method().as_str(), request.path());
                app.refusal_audit
                    .record(
                        &app.store,
                        &context,
                        method,
                        route.pattern,
                        path,
                        &failure.refusal,
                    )
                    .await;
            }
        }
        response = response.into_response(failure.rendered(&context));
    }
    let context = Context::of(response.request());
    log_request(&context, route, &response);
    if let Some(app) = &app {
        let (method, status) = (response.request().method(), response.status());
        app.metrics
            .count_reply(route, method, status, context.started.elapsed());
    }
    let headers = response.headers_mut();
    set_header(headers, REQUEST_ID, &request_id.to_string());
    set_safe_defaults(headers);
    if let Some(standing) = context.call.as_ref().and_then(|call| call.standing()) {
        set_header(headers, LIMIT, &standing.limit.to_string());
        set_header(headers, REMAINING, &standing.remaining.to_string());
        set_header(headers, RESET, &standing.reset_s.to_string());
    }
    if let Some(origin) = &origin {
        cors::allow(headers, origin);
    }
    if *response.request().method() == Method::HEAD {
        response = without_content(response);
    } else if let Some(app) = &app {
        response = watch(response, app);
    }
    Ok(match body {
        Some(body) => body.keep_until_sent(response),
        None => response,
    })
}

/// A request that failed, and the refusal that the client receives.
struct FailedRequest {
    refusal: Refusal,
    /// The refusal comes from this crate: neither from the framework nor from an internal error.
    is_ours: bool,
    /// The cause, which is logged and never sent.
    cause: Option<String>,
}

impl FailedRequest {
    fn of(error: &actix_web::Error) -> Self {
        let (refusal, is_ours, cause) = match error.as_error::<Error>() {
            Some(Error::Refused(refusal)) => ((**refusal).clone(), true, None),
            Some(Error::Internal(cause)) => (envelope::internal(), false, Some(cause.to_string())),
            None => {
                let (refusal, cause) = envelope::framework_refusal(error);
                (refusal, false, cause)
            }
        };
        Self {
            refusal,
            is_ours,
            cause,
        }
    }

    /// Renders the error envelope. The cause of an internal error is logged here, once.
    fn rendered(self, context: &Context) -> HttpResponse {
        if let Some(cause) = self.cause {
            log::error!(id:% = context.request_id; "{cause}");
        }
        envelope::render_refusal(&self.refusal, context.request_id)
    }
}

fn set_header(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// Forbids browsers to guess a media type, and caches to keep a reply that does not say how.
fn set_safe_defaults(headers: &mut HeaderMap) {
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}

/// Formats a caller for the access log.
struct LogCaller<'a>(Option<&'a Call>);

impl fmt::Display for LogCaller<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(caller) = self.0 else {
            return f.write_str("-");
        };
        let (tenant, kind) = (&caller.tenant.client_id, caller.kind().as_str());
        write!(f, "{tenant}/{kind}:{}", caller.account())
    }
}

/// Logs one line per request: id, caller, method, route, status and time. The line never contains a
/// query, a credential or the text of a message.
fn log_request(context: &Context, route: MatchedRoute, response: &ServiceResponse<BoxBody>) {
    let (request, route) = (response.request(), route.pattern);
    log::info!(
        target: ACCESS_LOG,
        id:% = context.request_id,
        caller:% = LogCaller(context.call.as_deref()),
        method:% = request.method(),
        route = route,
        status = response.status().as_u16(),
        ms = context.elapsed_ms();
        "request"
    );
}
