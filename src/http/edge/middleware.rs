//! What every request passes: it gets an id, its failure an envelope, its reply the common headers, the log a line.

use std::fmt;
use std::net::IpAddr;
use std::time::Instant;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{HttpMessage, HttpResponse, web};
use uuid::Uuid;

use super::body::Held;
use super::context::Context;
use super::routing::RoutePath;
use super::{cors, envelope};
use crate::error::{Error, Refusal};
use crate::http::App;
use crate::model::caller::Caller;

/// The target of the lines that tell of requests.
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
        remote: remote(&request),
        caller: None,
        standing: None,
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
        put(reply.headers_mut(), REQUEST_ID, &request_id.to_string());
        if let Some(app) = &app {
            // Answered ahead of the routes, for whatever path.
            let took = Context::of(request.request()).started.elapsed();
            let (method, status) = (request.method(), reply.status());
            app.metrics
                .answered(RoutePath::NOWHERE, method, status, took);
        }
        return Ok(request.into_response(reply));
    }

    let body = Held::of(&mut request);
    let mut response = next.call(request).await?.map_into_boxed_body();
    let route = RoutePath::of(response.request());
    if let Some(failure) = response.response().error().map(Failure::of) {
        let context = Context::of(response.request());
        if let Some(app) = &app {
            app.metrics.refused(failure.refusal.code);
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
    write_line(&context, route, &response);
    if let Some(app) = &app {
        let (method, status) = (response.request().method(), response.status());
        app.metrics
            .answered(route, method, status, context.started.elapsed());
    }
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
    Ok(match body {
        Some(body) => body.until_the_end_of(response),
        None => response,
    })
}

/// Why a request was not served.
struct Failure {
    refusal: Refusal,
    /// Told by our own code, not by the framework, and no inner failure.
    is_ours: bool,
    /// For the log alone.
    cause: Option<String>,
}

impl Failure {
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

    /// Its envelope; an inner cause is logged here, once, and told to nobody.
    fn rendered(self, context: &Context) -> HttpResponse {
        if let Some(cause) = self.cause {
            log::error!(id:% = context.request_id; "{cause}");
        }
        envelope::refuse(&self.refusal, context.request_id)
    }
}

fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// A caller as the log names it.
struct Sender<'a>(Option<&'a Caller>);

impl fmt::Display for Sender<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(caller) = self.0 else {
            return f.write_str("-");
        };
        let (tenant, kind) = (&caller.tenant.client_id, caller.kind().as_str());
        write!(f, "{tenant}/{kind}:{}", caller.account())
    }
}

/// From where a request comes. What is sent in `X-Forwarded-For` counts only behind a proxy of ours, which puts the address
/// that it sees last.
fn remote(request: &ServiceRequest) -> Option<IpAddr> {
    let is_behind_proxy = request
        .app_data::<web::Data<App>>()
        .is_some_and(|app| app.config.behind_proxy);
    let forwarded = request
        .headers()
        .get_all("X-Forwarded-For")
        .last()
        .filter(|_| is_behind_proxy)
        .and_then(|header| {
            header
                .to_str()
                .ok()?
                .rsplit(',')
                .next()?
                .trim()
                .parse()
                .ok()
        });
    forwarded.or_else(|| request.peer_addr().map(|peer| peer.ip()))
}

/// One line a request: its id, caller, method, route, status and time; never a query, a credential or a text.
fn write_line(context: &Context, route: RoutePath, response: &ServiceResponse<BoxBody>) {
    let (request, route) = (response.request(), route.pattern);
    log::info!(
        target: ACCESS_LOG,
        id:% = context.request_id,
        caller:% = Sender(context.caller.as_deref()),
        method:% = request.method(),
        route = route,
        status = response.status().as_u16(),
        ms = context.elapsed_ms();
        "request"
    );
}
