//! THE table: every route of the server, in one place.

use std::future::Future;

use actix_web::http::Method;
use actix_web::{FromRequest, Handler, Responder, Route, web};
use futures_util::FutureExt;

use super::{agents, attachments, events, messages, meta, sessions, tenant, tokens, turns};
use crate::error::{Code, Error, Refusal};

/// Every path is served below this prefix, and by the same handler without it.
pub const PREFIX: &str = "/public-api";

/// One line of the table.
pub struct Row {
    /// The method.
    pub method: Method,
    /// The path, without the prefix.
    pub path: &'static str,
    route: Route,
}

/// The pattern of the path that was matched, for the log.
#[derive(Clone, Copy)]
pub(super) struct RoutePath(pub(super) &'static str);

/// Every route.
pub fn table() -> Vec<Row> {
    vec![
        row(Method::GET, "/health", meta::health),
        row(Method::GET, "/ready", meta::ready),
        row(Method::GET, "/whoami", tenant::who_am_i),
        row(Method::GET, "/tenant", tenant::get),
        row(Method::GET, "/agents", agents::list),
        row(Method::GET, "/agents/{agent_id}", agents::get),
        row(Method::POST, "/chat/sessions", sessions::create),
        row(Method::GET, "/chat/sessions", sessions::list),
        row(Method::POST, "/chat/sessions/resolve", sessions::resolve),
        row(Method::GET, "/chat/sessions/{session_id}", sessions::get),
        row(
            Method::PATCH,
            "/chat/sessions/{session_id}",
            sessions::patch,
        ),
        row(
            Method::DELETE,
            "/chat/sessions/{session_id}",
            sessions::delete,
        ),
        row(
            Method::POST,
            "/chat/sessions/{session_id}/reset",
            sessions::reset,
        ),
        row(
            Method::POST,
            "/chat/sessions/{session_id}/messages",
            messages::append,
        ),
        row(
            Method::GET,
            "/chat/sessions/{session_id}/messages",
            messages::list,
        ),
        row(
            Method::GET,
            "/chat/sessions/{session_id}/turns/{chat_turn_id}",
            turns::get,
        ),
        row(
            Method::PUT,
            "/chat/sessions/{session_id}/messages/{message_id}/feedback",
            messages::give_feedback,
        ),
        row(
            Method::POST,
            "/chat/sessions/{session_id}/cancel",
            turns::cancel,
        ),
        row(
            Method::GET,
            "/chat/sessions/{session_id}/events",
            events::stream_events,
        ),
        row(
            Method::POST,
            "/chat/sessions/{session_id}/attachments/upload-url",
            attachments::make_upload_url,
        ),
        row(
            Method::PUT,
            "/chat/attachments/{attachment_id}",
            attachments::put,
        ),
        row(
            Method::GET,
            "/chat/attachments/{attachment_id}",
            attachments::get,
        ),
        row(Method::POST, "/sessions", tokens::mint),
        row(Method::DELETE, "/sessions/{jti}", tokens::revoke),
    ]
}

fn row<F, Args>(method: Method, path: &'static str, handler: F) -> Row
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    let route = web::method(method.clone()).to(Caught(handler));
    Row {
        method,
        path,
        route,
    }
}

/// A handler whose panic is an inner failure like any other, told in an envelope.
#[derive(Clone)]
struct Caught<F>(F);

impl<F, Args> Handler<Args> for Caught<F>
where
    F: Handler<Args>,
    Args: 'static,
{
    type Output = Result<F::Output, Error>;
    type Future = std::pin::Pin<Box<dyn Future<Output = Self::Output>>>;

    fn call(&self, args: Args) -> Self::Future {
        let handler = self.0.clone();
        let served = async move { handler.call(args).await };
        Box::pin(
            std::panic::AssertUnwindSafe(served)
                .catch_unwind()
                .map(|outcome| outcome.map_err(|_| Error::internal("a handler panicked"))),
        )
    }
}

/// Registers the table, with the prefix and without.
pub(super) fn configure(config: &mut web::ServiceConfig) {
    for prefix in [PREFIX, ""] {
        let mut rows = table();
        while let Some(first) = rows.first() {
            let path = first.path;
            let (here, others): (Vec<Row>, Vec<Row>) =
                rows.into_iter().partition(|row| row.path == path);
            rows = others;
            let allow = here
                .iter()
                .map(|row| row.method.as_str())
                .collect::<Vec<_>>()
                .join(", ");
            let mut resource = web::resource(format!("{prefix}{path}")).app_data(RoutePath(path));
            for row in here {
                resource = resource.route(row.route);
            }
            config.service(resource.default_service(web::to(move || wrong_method(allow.clone()))));
        }
    }
}

async fn wrong_method(allow: String) -> Result<&'static str, Error> {
    let mut refusal = Refusal::new(Code::MethodNotAllowed);
    refusal.allow = Some(allow);
    Err(refusal.into())
}

pub(super) async fn unknown_route() -> Result<&'static str, Error> {
    Err(Code::NotFound.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix_web::test]
    async fn a_panic_in_a_handler_is_an_inner_failure() {
        async fn panics() -> &'static str {
            panic!("on purpose, for the test")
        }
        let outcome = Caught(panics).call(()).await;
        assert!(matches!(outcome, Err(Error::Internal(_))));
    }
}
