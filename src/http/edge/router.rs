//! The route table: every route of the server in one place, with who may call it and what the document says of it.

use std::future::Future;

use actix_web::http::Method;
use actix_web::{FromRequest, Handler, HttpRequest, Responder, Route, web};
use futures_util::FutureExt;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Value, json};

use super::admission::{Callers, Permit};
use super::envelope::Gives;
use super::extract::{Body, FromQuery, Query, QueryString};
use super::openapi;
use super::routing::{Address, Call};
use crate::error::{Code, Error};
use crate::http::{
    agents, articles, attachments, audit_events, auth, channels, companies, docs, events, installs,
    keys, messages, meta, sessions, stats, tenant, tenants, tokens, turns, users,
};
use crate::input::fields::{Fields, FromFields};

/// One line of the table.
pub struct Row {
    /// The method.
    pub method: Method,
    /// The path, without the prefix.
    pub path: &'static str,
    /// Who may call it.
    pub callers: Callers,
    /// What the document says of it.
    pub operation: Operation,
    route: Route,
}

/// What the document says of a route (OpenAPI 3.1, Operation Object).
#[derive(Debug)]
pub struct Operation {
    /// Names it for programs that are made from the document.
    pub id: &'static str,
    /// Says in a sentence what it does.
    pub summary: &'static str,
    /// The handler takes a [`Permit`], so that the route must not be public.
    pub needs_caller: bool,
    /// The parameters of its query, each with its JSON Schema.
    pub query: Vec<(String, Value)>,
    /// What it takes for a body.
    pub body: Taken,
    /// A body that works against the demo.
    pub example: Option<fn() -> Value>,
    /// The statuses of its successes.
    pub successes: Vec<u16>,
    /// What a success's `data` is.
    pub data: fn(&mut SchemaGenerator) -> Option<Schema>,
    /// The media types of a success without an envelope.
    pub media_types: Vec<&'static str>,
    /// Headers that it reads, each with what it is for.
    pub headers: Vec<(&'static str, &'static str)>,
    /// Its own refusals; those that every route has are added.
    pub refusals: Vec<Code>,
}

/// What a route takes for a body.
#[derive(Clone, Copy, Debug)]
pub enum Taken {
    /// None.
    Nothing,
    /// A JSON object that the handler's own reader reads.
    Json(fn(&Fields<'_>)),
    /// A file as it is.
    File,
}

/// Every route.
pub fn table() -> Vec<Row> {
    let mut table = meta_rows();
    table.extend(management_rows());
    table.extend(channel_rows());
    table.extend(company_rows());
    table.extend(chat_rows());
    table
}

#[rustfmt::skip]
fn meta_rows() -> Vec<Row> {
    vec![
        row(Method::GET, "/health", Callers::Public, meta::health)
            .doc("health", "Tells that the server is alive"),
        row(Method::GET, "/ready", Callers::Public, meta::ready)
            .doc("ready", "Tells whether the server can work"),
        row(Method::GET, "/openapi.json", Callers::Public, openapi::document)
            .doc("openapi", "This document")
            .media_type("application/json"),
        row(Method::GET, "/docs", Callers::Public, docs::page)
            .doc("docs", "A page that shows this document and makes its calls")
            .media_type("text/html"),
        row(Method::GET, "/docs/{file}", Callers::Public, docs::file)
            .doc("docsFile", "What that page is made of")
            .media_type("text/css").media_type("text/javascript"),
        row(Method::GET, "/auth/config", Callers::Public, auth::config)
            .doc("getSignInConfig", "Tells a browser what sign-in there is"),
        row(Method::POST, "/auth/exchange", Callers::Public, auth::exchange)
            .doc("exchangeCode", "Exchanges a sign-in link's code for a token of 12 hours, once")
            .errors(&[Code::Unauthorized, Code::RateLimited]),
        row(Method::POST, "/auth/sign-out", Callers::Person, auth::sign_out)
            .doc("signOut", "Ends a local sign-in at once"),
        row(Method::GET, "/whoami", Callers::Anyone, tenant::who_am_i)
            .doc("whoAmI", "Tells the caller who it is"),
        row(Method::GET, "/tenant", Callers::Member, tenant::get)
            .doc("getTenant", "The caller's tenant"),
    ]
}

#[rustfmt::skip]
fn management_rows() -> Vec<Row> {
    vec![
        row(Method::GET, "/agents", Callers::Member, agents::list)
            .doc("listAgents", "The tenant's agents, newest first"),
        row(Method::POST, "/agents", Callers::CanManage, agents::create)
            .doc("createAgent", "Makes a CONVERSATIONAL agent")
            .example(|| json!({ "name": "Onboarding", "audience": "MSP", "agent_settings": { "custom_instructions": "Answer briefly." } }))
            .created()
            .errors(&[Code::AgentManagedByNeo]),
        row(Method::GET, "/agents/{agent_id}", Callers::Member, agents::get)
            .doc("getAgent", "One agent"),
        row(Method::PUT, "/agents/{agent_id}", Callers::CanManage, agents::update)
            .doc("updateAgent", "Changes what is sent of an agent")
            .example(|| json!({ "description": "Answers technicians' questions." }))
            .errors(&[Code::AgentManagedByNeo, Code::AgentUpdateConflict]),
        row(Method::DELETE, "/agents/{agent_id}", Callers::CanManage, agents::delete)
            .doc("deleteAgent", "Removes an agent that no channel uses; its sessions stay")
            .errors(&[Code::AgentManagedByNeo, Code::AgentInUse]),

        row(Method::GET, "/knowledge-articles", Callers::Member, articles::list)
            .doc("listArticles", "The tenant's knowledge articles, newest first"),
        row(Method::POST, "/knowledge-articles", Callers::CanManage, articles::create)
            .doc("createArticle", "Adds a knowledge article")
            .example(|| json!({ "title": "Wi-Fi for guests", "body": "The network is **Guests**.", "audience": "END_USER", "end_company_id": "1001" }))
            .created()
            .errors(&[Code::NotFound, Code::AlreadyExists]),
        row(Method::GET, "/knowledge-articles/{article_id}", Callers::Member, articles::get)
            .doc("getArticle", "One knowledge article"),
        row(Method::PUT, "/knowledge-articles/{article_id}", Callers::CanManage, articles::update)
            .doc("updateArticle", "Changes what is sent of a knowledge article")
            .example(|| json!({ "url": "https://kb.example.com/wifi" }))
            .errors(&[Code::AlreadyExists]),
        row(Method::DELETE, "/knowledge-articles/{article_id}", Callers::CanManage, articles::delete)
            .doc("deleteArticle", "Removes a knowledge article"),

        row(Method::GET, "/api-keys", Callers::Admin, keys::list)
            .doc("listApiKeys", "The tenant's API keys, newest first, ended ones too"),
        row(Method::POST, "/api-keys", Callers::Admin, keys::create)
            .doc("createApiKey", "Makes an API key; it is shown in this reply and never again")
            .example(|| json!({ "name": "Ticket system" }))
            .created()
            .errors(&[Code::AlreadyExists]),
        row(Method::POST, "/api-keys/{key_id}/rotate", Callers::Admin, keys::rotate)
            .doc("rotateApiKey", "Makes the next key of an account; the old one works for 24 hours more")
            .created(),
        row(Method::DELETE, "/api-keys/{key_id}", Callers::Admin, keys::revoke)
            .doc("revokeApiKey", "Ends an API key at once, and the tokens that it minted"),
        row(Method::GET, "/users", Callers::Admin, users::list)
            .doc("listUsers", "The tenant's people, newest first"),
        row(Method::PATCH, "/users/{user_id}", Callers::Admin, users::patch)
            .doc("updateUser", "Gives a person a role")
            .example(|| json!({ "role": "ADMIN" }))
            .errors(&[Code::LastAdmin]),

        row(Method::GET, "/tenants", Callers::Platform, tenants::list)
            .doc("listTenants", "All tenants, newest first"),
        row(Method::POST, "/tenants", Callers::Platform, tenants::create)
            .doc("createTenant", "Makes a tenant and its managed agent")
            .example(|| json!({ "client_id": "proseware-it", "name": "Proseware IT", "retention_days": 365 }))
            .created()
            .errors(&[Code::AlreadyExists, Code::InstallConflict]),
        row(Method::GET, "/tenants/{client_id}", Callers::Platform, tenants::get)
            .doc("getAnyTenant", "One tenant"),
        row(Method::PATCH, "/tenants/{client_id}", Callers::Platform, tenants::patch)
            .doc("updateTenant", "Changes what is sent of a tenant")
            .example(|| json!({ "rate_limit_per_minute": 2400 }))
            .errors(&[Code::AlreadyExists, Code::InstallConflict]),

        row(Method::GET, "/stats", Callers::CanManage, stats::get)
            .doc("getStats", "Sessions, turns, failures and the time to the first word, by day and by agent; without from, of a week"),
        row(Method::GET, "/audit-events", Callers::CanManage, audit_events::list)
            .doc("listAuditEvents", "Who changed or was refused what, newest first"),
    ]
}

/// Paths that are spelt out come before the one that takes any name.
#[rustfmt::skip]
fn company_rows() -> Vec<Row> {
    vec![
        row(Method::GET, "/end-companies", Callers::Member, companies::list)
            .doc("listEndCompanies", "The tenant's client companies, newest first"),
        row(Method::POST, "/end-companies", Callers::CanManage, companies::create)
            .doc("createEndCompany", "Makes a client company, linked to an M365 tenant or not")
            .example(|| json!({
                "psa_company_id": "1005", "psa_company_name": "Wide World Importers", "tenant_id": "1abe11ed-c0de-4bee-8ace-deed50fab1e5",
            }))
            .created()
            .errors(&[Code::AlreadyExists]),
        row(Method::GET, "/end-companies/health", Callers::Member, companies::health)
            .doc("getEndCompanyHealth", "What would be refused today, why, and what to do about it"),
        row(Method::GET, "/end-companies/unlinked-tenants", Callers::Member, companies::list_unlinked)
            .doc("listUnlinkedTenants", "M365 tenants that were refused for want of exactly one company, newest first"),
        row(Method::DELETE, "/end-companies/unlinked-tenants/{inbound_tenant_id}", Callers::CanManage, companies::forget_unlinked)
            .doc("deleteUnlinkedTenant", "Forgets that an M365 tenant was refused"),
        row(Method::GET, "/end-companies/{psa_company_id}", Callers::Member, companies::get)
            .doc("getEndCompany", "One client company"),
        row(Method::PUT, "/end-companies/{psa_company_id}", Callers::CanManage, companies::update)
            .doc("updateEndCompany", "Changes what is sent of a client company, its link too")
            .example(|| json!({ "tenant_id": "0ddba110-face-4fee-9add-1eaf1ed0dd01" })),
        row(Method::DELETE, "/end-companies/{psa_company_id}", Callers::CanManage, companies::delete)
            .doc("deleteEndCompany", "Removes a client company and the articles that are for it alone; its sessions stay, and refuse new turns"),
    ]
}

#[rustfmt::skip]
fn channel_rows() -> Vec<Row> {
    use Code::*;

    vec![
        row(Method::GET, "/channels", Callers::Member, channels::list)
            .doc("listChannels", "The tenant's channels, newest first"),
        row(Method::POST, "/channels", Callers::CanManage, channels::create)
            .doc("createChannel", "Binds an agent to a bot")
            .example(|| json!({ "internal_name": "Night desk", "audience": "MSP", "agent_id": 102, "display_name": "Northwind at night" }))
            .created()
            .errors(&[NotFound, AlreadyExists, AudienceMismatch]),
        // Ahead of what it would be one of.
        row(Method::POST, "/channels/install-events", Callers::Platform, channels::install_event)
            .doc("installEvent", "Tells whether a bot is installed for an M365 tenant, and what it says there; changes nothing")
            .example(|| json!({ "bot_id": "b07fab1e-c0de-4bee-8ace-facade0fb075", "end_client_tenant_id": "ca5cade0-4ce5-4d0e-9b1d-0f0a51deca5e" })),
        row(Method::GET, "/channels/{channel_id}", Callers::Member, channels::get)
            .doc("getChannel", "One channel"),
        row(Method::PATCH, "/channels/{channel_id}", Callers::CanManage, channels::update)
            .doc("updateChannel", "Changes what is sent of a channel; null restores a default")
            .example(|| json!({ "welcome_message": "Hello! What can I do for you?", "relay_prefix": null }))
            .errors(&[AlreadyExists, AudienceMismatch, InstallConflict]),
        row(Method::DELETE, "/channels/{channel_id}", Callers::CanManage, channels::delete)
            .doc("deleteChannel", "Removes a channel; its installs go on refusing until their bot and M365 tenant are installed on another"),
        row(Method::GET, "/channels/{channel_id}/installs", Callers::Member, installs::list)
            .doc("listInstalls", "The M365 tenants that a channel's bot serves, newest first"),
        row(Method::POST, "/channels/{channel_id}/installs", Callers::CanManage, installs::create)
            .doc("createInstall", "Has a channel's bot serve an M365 tenant, and links a company to it in the same step; 200 if it did already")
            .example(|| json!({ "end_client_tenant_id": "1dea15ed-5eed-4b0a-8f1e-ab1e5ca1ab1e", "psa_company_id": "1002" }))
            .created().status(200)
            .errors(&[InstallConflict, CompanyAlreadyBound, AudienceMismatch]),
        row(Method::DELETE, "/channels/{channel_id}/installs/{install_id}", Callers::CanManage, installs::delete)
            .doc("deleteInstall", "Ends a bot's service of an M365 tenant"),
    ]
}

#[rustfmt::skip]
fn chat_rows() -> Vec<Row> {
    use Code::*;

    const ROUTED: &[Code] = &[
        ClientIdNotAllowed, AgentNotAllowed, AgentAccessDenied, NotFound, EndCompanyNotMapped, ChannelDisconnected, AgentDisabled,
        AgentNotConversational, EndCompanyRequired,
    ];
    vec![
        row(Method::POST, "/chat/sessions", Callers::CanChat, sessions::create)
            .doc("createSession", "Begins a session: decides which agent answers, acting for which tenant, for which company")
            .example(|| json!({ "managed_agent_key": "NEO_SUPPORT", "title": "Printer on fire" }))
            .header("Idempotency-Key", "1 to 128 visible characters; a repeat within 24 hours gets the first reply again")
            .created()
            .errors(ROUTED).errors(&[IdempotencyKeyReused]),
        row(Method::GET, "/chat/sessions", Callers::Member, sessions::list)
            .doc("listSessions", "Sessions that the caller may see, newest first")
            .errors(&[ClientIdNotAllowed, NotFound]),
        row(Method::POST, "/chat/sessions/resolve", Callers::CanChat, sessions::resolve)
            .doc("resolveSession", "Tells who would answer, and writes nothing")
            .example(|| json!({ "managed_agent_key": "NEO_SUPPORT" }))
            .errors(ROUTED),
        row(Method::GET, "/chat/sessions/{session_id}", Callers::Anyone, sessions::get)
            .doc("getSession", "One session"),
        row(Method::PATCH, "/chat/sessions/{session_id}", Callers::CanChat, sessions::patch)
            .doc("updateSession", "Changes what is sent of a session")
            .example(|| json!({ "title": "Printer, second floor", "metadata": { "ticket": "4711" } })),
        row(Method::DELETE, "/chat/sessions/{session_id}", Callers::CanManage, sessions::delete)
            .doc("deleteSession", "Removes a session and all that hangs on it"),
        row(Method::POST, "/chat/sessions/{session_id}/reset", Callers::CanChat, sessions::reset)
            .doc("resetSession", "Archives a session and cancels its turns"),
        row(Method::POST, "/chat/sessions/{session_id}/messages", Callers::CanSend, messages::append)
            .doc("appendMessage", "Adds a message and queues the turn that answers it")
            .example(|| json!({ "message": "How do I reset a password?", "client_message_id": "m-1" }))
            .accepted()
            .errors(&[
                AgentAccessDenied, EndCompanyNotMapped, ChannelDisconnected, AgentDisabled, DuplicateClientMessage, SessionArchived,
                TooManyPendingTurns,
            ]),
        row(Method::GET, "/chat/sessions/{session_id}/messages", Callers::Anyone, messages::list)
            .doc("listMessages", "A session's messages, oldest first"),
        row(Method::GET, "/chat/sessions/{session_id}/turns/{chat_turn_id}", Callers::Anyone, turns::get)
            .doc("getTurn", "Where a turn stands; wait_seconds holds the reply until it ends"),
        row(Method::PUT, "/chat/sessions/{session_id}/messages/{message_id}/feedback", Callers::CanSend, messages::give_feedback)
            .doc("giveFeedback", "Rates an answer")
            .example(|| json!({ "rating": "UP", "comment": "Just right." })),
        row(Method::POST, "/chat/sessions/{session_id}/cancel", Callers::CanSend, turns::cancel)
            .doc("cancelTurns", "Cancels the running and the queued turns"),
        row(Method::GET, "/chat/sessions/{session_id}/events", Callers::Anyone, events::stream_events)
            .doc("streamEvents", "The stream of answers as server-sent events of the Vercel AI SDK v6; 204 when there is nothing to resume")
            .header("Last-Event-Id", "The cursor that the reader has; wins over since")
            .media_type("text/event-stream").status(204),
        row(Method::POST, "/chat/sessions/{session_id}/attachments/upload-url", Callers::CanSend, attachments::make_upload_url)
            .doc("createUploadUrl", "A signed address to PUT a file to")
            .example(|| json!({ "content_type": "image/png", "filename": "screenshot.png" }))
            .created()
            .errors(&[TooManyAttachments]),
        row(Method::PUT, "/chat/attachments/{attachment_id}", Callers::Public, attachments::put)
            .doc("putAttachment", "Sends a file to its signed address")
            .errors(&[ValidationError, Forbidden, PayloadTooLarge, UnsupportedMediaType, AlreadyExists, TooManyAttachments]),
        row(Method::GET, "/chat/attachments/{attachment_id}", Callers::Public, attachments::get)
            .doc("getAttachment", "Fetches a file from its signed address")
            .media_type("application/octet-stream")
            .errors(&[Forbidden]),
        row(Method::POST, "/sessions", Callers::CanChat, tokens::mint)
            .doc("mintSessionToken", "Mints a token for one session")
            .created()
            .errors(&[ClientIdNotAllowed, AgentNotAllowed, NotFound]),
        row(Method::DELETE, "/sessions/{jti}", Callers::CanChat, tokens::revoke)
            .doc("revokeSessionToken", "Revokes a session's token at once"),
    ]
}

/// What an argument of a handler says of its route.
trait Argument {
    fn describe(_: &mut Operation) {}
}

impl<T: 'static> Argument for web::Data<T> {}
impl Argument for HttpRequest {}

impl Argument for Permit {
    fn describe(operation: &mut Operation) {
        operation.needs_caller = true;
    }
}

impl Argument for web::Payload {
    fn describe(operation: &mut Operation) {
        operation.body = Taken::File;
    }
}

impl<T: FromFields> Argument for Body<T> {
    fn describe(operation: &mut Operation) {
        operation.body = Taken::Json(|fields| {
            T::read(fields);
        });
    }
}

impl<T: FromQuery> Argument for Query<T> {
    fn describe(operation: &mut Operation) {
        operation.query = QueryString::describe::<T>();
    }
}

/// All arguments of a handler.
trait Arguments {
    fn describe(operation: &mut Operation);
}

macro_rules! arguments {
    ($(($($argument:ident)*))+) => {$(
        impl<$($argument: Argument),*> Arguments for ($($argument,)*) {
            fn describe(_operation: &mut Operation) {
                $($argument::describe(_operation);)*
            }
        }
    )+};
}

arguments! { () (A) (A B) (A B C) (A B C D) (A B C D E) }

fn row<F, Args>(method: Method, path: &'static str, callers: Callers, handler: F) -> Row
where
    F: Handler<Args>,
    Args: FromRequest + Arguments + 'static,
    F::Output: Responder + Gives + 'static,
{
    let route = web::method(method.clone()).to(Caught(handler));
    let mut operation = Operation {
        id: "",
        summary: "",
        needs_caller: false,
        query: Vec::new(),
        body: Taken::Nothing,
        example: None,
        successes: vec![F::Output::STATUS],
        data: F::Output::data,
        media_types: Vec::new(),
        headers: Vec::new(),
        refusals: Vec::new(),
    };
    Args::describe(&mut operation);
    Row {
        method,
        path,
        callers,
        operation,
        route,
    }
}

impl Row {
    fn doc(mut self, id: &'static str, summary: &'static str) -> Self {
        self.operation.id = id;
        self.operation.summary = summary;
        self
    }

    fn example(mut self, body: fn() -> Value) -> Self {
        self.operation.example = Some(body);
        self
    }

    fn header(mut self, name: &'static str, what_for: &'static str) -> Self {
        self.operation.headers.push((name, what_for));
        self
    }

    fn created(mut self) -> Self {
        self.operation.successes = vec![201];
        self
    }

    fn accepted(mut self) -> Self {
        self.operation.successes = vec![202];
        self
    }

    fn status(mut self, status: u16) -> Self {
        self.operation.successes.push(status);
        self
    }

    fn media_type(mut self, media_type: &'static str) -> Self {
        self.operation.media_types.push(media_type);
        self
    }

    fn errors(mut self, codes: &[Code]) -> Self {
        self.operation.refusals.extend(codes);
        self
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

/// The table by paths.
pub(in crate::http) fn addresses() -> Vec<Address> {
    addresses_of(table())
}

fn addresses_of(rows: impl IntoIterator<Item = Row>) -> Vec<Address> {
    let mut addresses: Vec<Address> = Vec::new();
    for row in rows {
        let call = Call {
            method: row.method,
            callers: row.callers,
            route: row.route,
        };
        match addresses.iter_mut().find(|known| known.path == row.path) {
            Some(known) => known.calls.push(call),
            None => addresses.push(Address {
                path: row.path,
                is_prefixed: true,
                calls: vec![call],
            }),
        }
    }
    addresses
}

#[cfg(test)]
mod tests {
    use actix_web::HttpResponse;
    use actix_web::test::{TestRequest, call_service, init_service};

    use super::*;
    use crate::auth::Authenticator;
    use crate::auth::signing::SigningSecret;
    use crate::config::{ClientTimeouts, ServerConfig};
    use crate::http::App;
    use crate::http::edge::middleware;
    use crate::http::edge::routing::Routing;
    use crate::model::clock::Clock;
    use crate::store::Store;
    use crate::turns::respond::Responders;

    #[actix_web::test]
    async fn a_panic_in_a_handler_is_an_inner_failure() {
        async fn panics() -> &'static str {
            panic!("on purpose, for the test")
        }
        let outcome = Caught(panics).call(()).await;
        assert!(matches!(outcome, Err(Error::Internal(_))));
    }

    #[test]
    fn no_public_route_takes_a_permit() {
        for row in table() {
            let is_public = row.callers == Callers::Public;
            assert!(!(is_public && row.operation.needs_caller), "{}", row.path);
        }
    }

    #[actix_web::test]
    async fn a_row_whose_handler_takes_no_permit_is_closed_all_the_same() {
        async fn careless() -> Result<HttpResponse, Error> {
            Ok(HttpResponse::Ok().body("open"))
        }
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), Clock::System).unwrap();
        let signing = SigningSecret::of_folder(folder.path()).unwrap();
        let authenticator = Authenticator::new("test".to_owned(), signing);
        let config = ServerConfig {
            public_url: None,
            rate_limit: 0,
            cors_origins: Vec::new(),
            behind_proxy: false,
            workers: None,
            max_connections: 1,
            turn_concurrency: 1,
            drain_seconds: 0,
            metrics: false,
            entra_sign_in: None,
            timeouts: ClientTimeouts::default(),
        };
        let app = App::new(store, authenticator, Responders::new(None), config).unwrap();
        let rows = [
            row(Method::GET, "/open", Callers::Public, careless),
            row(Method::GET, "/closed", Callers::Admin, careless),
        ];
        let service = init_service(
            actix_web::App::new()
                .app_data(web::Data::from(app))
                .default_service(Routing::of(addresses_of(rows)))
                .wrap(actix_web::middleware::from_fn(middleware::handle)),
        )
        .await;
        for (path, status) in [("/open", 200), ("/closed", 401)] {
            let request = TestRequest::get().uri(path).to_request();
            let response = call_service(&service, request).await;
            assert_eq!(response.status().as_u16(), status, "{path}");
        }
    }
}
