//! THE table: every route of the server in one place, with who may call it and what the document says of it.

use std::future::Future;

use actix_web::http::Method;
use actix_web::{FromRequest, Handler, Responder, Route, web};
use futures_util::FutureExt;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Value, json};

use super::cursor;
use super::envelope::Gives;
use super::extract::Query;
use super::openapi;
use super::permit::Callers;
use super::routing::{Address, Call};
use super::{
    agents, articles, attachments, audit_events, auth, channels, companies, docs, events, installs,
    keys, messages, meta, sessions, stats, tenant, tenants, tokens, turns, users,
};
use crate::error::{Code, Error};
use crate::fields::Fields;

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
    /// The handler's own reader of its query.
    pub query: Option<fn(&Query)>,
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
            .says("health", "Tells that the server is alive"),
        row(Method::GET, "/ready", Callers::Public, meta::ready)
            .says("ready", "Tells whether the server can work"),
        row(Method::GET, "/openapi.json", Callers::Public, openapi::document)
            .says("openapi", "This document")
            .gives("application/json"),
        row(Method::GET, "/docs", Callers::Public, docs::page)
            .says("docs", "A page that shows this document and makes its calls")
            .gives("text/html"),
        row(Method::GET, "/docs/{file}", Callers::Public, docs::file)
            .says("docsFile", "What that page is made of")
            .gives("text/css").gives("text/javascript"),
        row(Method::GET, "/auth/config", Callers::Public, auth::config)
            .says("getSignInConfig", "Tells a browser what sign-in there is"),
        row(Method::POST, "/auth/exchange", Callers::Public, auth::exchange)
            .says("exchangeCode", "Exchanges a sign-in link's code for a token of 12 hours, once")
            .body(auth::exchange_body)
            .refuses(&[Code::Unauthorized, Code::RateLimited]),
        row(Method::POST, "/auth/sign-out", Callers::Person, auth::sign_out)
            .says("signOut", "Ends a local sign-in at once"),
        row(Method::GET, "/whoami", Callers::Anyone, tenant::who_am_i)
            .says("whoAmI", "Tells the caller who it is"),
        row(Method::GET, "/tenant", Callers::Member, tenant::get)
            .says("getTenant", "The caller's tenant"),
    ]
}

#[rustfmt::skip]
fn management_rows() -> Vec<Row> {
    vec![
        row(Method::GET, "/agents", Callers::Member, agents::list)
            .says("listAgents", "The tenant's agents, newest first")
            .query(agents::list_query),
        row(Method::POST, "/agents", Callers::Keeper, agents::create)
            .says("createAgent", "Makes a CONVERSATIONAL agent")
            .body(agents::create_body)
            .example(|| json!({ "name": "Onboarding", "audience": "MSP", "agent_settings": { "custom_instructions": "Answer briefly." } }))
            .created()
            .refuses(&[Code::AgentManagedByNeo]),
        row(Method::GET, "/agents/{agent_id}", Callers::Member, agents::get)
            .says("getAgent", "One agent"),
        row(Method::PUT, "/agents/{agent_id}", Callers::Keeper, agents::update)
            .says("updateAgent", "Changes what is sent of an agent")
            .body(agents::update_body)
            .example(|| json!({ "description": "Answers technicians' questions." }))
            .refuses(&[Code::AgentManagedByNeo, Code::AgentUpdateConflict]),
        row(Method::DELETE, "/agents/{agent_id}", Callers::Keeper, agents::delete)
            .says("deleteAgent", "Removes an agent that no channel uses; its sessions stay")
            .refuses(&[Code::AgentManagedByNeo, Code::AgentInUse]),

        row(Method::GET, "/knowledge-articles", Callers::Member, articles::list)
            .says("listArticles", "The tenant's knowledge articles, newest first")
            .query(articles::list_query),
        row(Method::POST, "/knowledge-articles", Callers::Keeper, articles::create)
            .says("createArticle", "Adds a knowledge article")
            .body(articles::create_body)
            .example(|| json!({ "title": "Wi-Fi for guests", "body": "The network is **Guests**.", "audience": "END_USER", "end_company_id": "1001" }))
            .created()
            .refuses(&[Code::NotFound, Code::AlreadyExists]),
        row(Method::GET, "/knowledge-articles/{article_id}", Callers::Member, articles::get)
            .says("getArticle", "One knowledge article"),
        row(Method::PUT, "/knowledge-articles/{article_id}", Callers::Keeper, articles::update)
            .says("updateArticle", "Changes what is sent of a knowledge article")
            .body(articles::update_body)
            .example(|| json!({ "url": "https://kb.example.com/wifi" }))
            .refuses(&[Code::AlreadyExists]),
        row(Method::DELETE, "/knowledge-articles/{article_id}", Callers::Keeper, articles::delete)
            .says("deleteArticle", "Removes a knowledge article"),

        row(Method::GET, "/api-keys", Callers::Admin, keys::list)
            .says("listApiKeys", "The tenant's API keys, newest first, ended ones too")
            .query(keys::list_query),
        row(Method::POST, "/api-keys", Callers::Admin, keys::create)
            .says("createApiKey", "Makes an API key; it is shown in this reply and never again")
            .body(keys::create_body)
            .example(|| json!({ "name": "Ticket system" }))
            .created()
            .refuses(&[Code::AlreadyExists]),
        row(Method::POST, "/api-keys/{key_id}/rotate", Callers::Admin, keys::rotate)
            .says("rotateApiKey", "Makes the next key of an account; the old one works for 24 hours more")
            .created(),
        row(Method::DELETE, "/api-keys/{key_id}", Callers::Admin, keys::revoke)
            .says("revokeApiKey", "Ends an API key at once, and the tokens that it minted"),
        row(Method::GET, "/users", Callers::Admin, users::list)
            .says("listUsers", "The tenant's people, newest first")
            .query(users::list_query),
        row(Method::PATCH, "/users/{user_id}", Callers::Admin, users::patch)
            .says("updateUser", "Gives a person a role")
            .body(users::change_body)
            .example(|| json!({ "role": "ADMIN" }))
            .refuses(&[Code::LastAdmin]),

        row(Method::GET, "/tenants", Callers::Platform, tenants::list)
            .says("listTenants", "All tenants, newest first")
            .query(tenants::list_query),
        row(Method::POST, "/tenants", Callers::Platform, tenants::create)
            .says("createTenant", "Makes a tenant and its managed agent")
            .body(tenants::create_body)
            .example(|| json!({ "client_id": "proseware-it", "name": "Proseware IT", "retention_days": 365 }))
            .created()
            .refuses(&[Code::AlreadyExists, Code::InstallConflict]),
        row(Method::GET, "/tenants/{client_id}", Callers::Platform, tenants::get)
            .says("getAnyTenant", "One tenant"),
        row(Method::PATCH, "/tenants/{client_id}", Callers::Platform, tenants::patch)
            .says("updateTenant", "Changes what is sent of a tenant")
            .body(tenants::update_body)
            .example(|| json!({ "rate_limit_per_minute": 2400 }))
            .refuses(&[Code::AlreadyExists, Code::InstallConflict]),

        row(Method::GET, "/stats", Callers::Keeper, stats::get)
            .says("getStats", "Sessions, turns, failures and the time to the first word, by day and by agent; without from, of a week")
            .query(stats::query),
        row(Method::GET, "/audit-events", Callers::Keeper, audit_events::list)
            .says("listAuditEvents", "Who changed or was refused what, newest first")
            .query(audit_events::list_query),
    ]
}

/// Paths that are spelt out come before the one that takes any name.
#[rustfmt::skip]
fn company_rows() -> Vec<Row> {
    vec![
        row(Method::GET, "/end-companies", Callers::Member, companies::list)
            .says("listEndCompanies", "The tenant's client companies, newest first")
            .query(companies::list_query),
        row(Method::POST, "/end-companies", Callers::Keeper, companies::create)
            .says("createEndCompany", "Makes a client company, linked to an M365 tenant or not")
            .body(companies::create_body)
            .example(|| json!({
                "psa_company_id": "1005", "psa_company_name": "Wide World Importers", "tenant_id": "1abe11ed-c0de-4bee-8ace-deed50fab1e5",
            }))
            .created()
            .refuses(&[Code::AlreadyExists]),
        row(Method::GET, "/end-companies/health", Callers::Member, companies::health)
            .says("getEndCompanyHealth", "What would be refused today, why, and what to do about it"),
        row(Method::GET, "/end-companies/unlinked-tenants", Callers::Member, companies::list_unlinked)
            .says("listUnlinkedTenants", "M365 tenants that were refused for want of exactly one company, newest first")
            .query(cursor::describe),
        row(Method::DELETE, "/end-companies/unlinked-tenants/{inbound_tenant_id}", Callers::Keeper, companies::forget_unlinked)
            .says("deleteUnlinkedTenant", "Forgets that an M365 tenant was refused"),
        row(Method::GET, "/end-companies/{psa_company_id}", Callers::Member, companies::get)
            .says("getEndCompany", "One client company"),
        row(Method::PUT, "/end-companies/{psa_company_id}", Callers::Keeper, companies::update)
            .says("updateEndCompany", "Changes what is sent of a client company, its link too")
            .body(companies::update_body)
            .example(|| json!({ "tenant_id": "0ddba110-face-4fee-9add-1eaf1ed0dd01" })),
        row(Method::DELETE, "/end-companies/{psa_company_id}", Callers::Keeper, companies::delete)
            .says("deleteEndCompany", "Removes a client company and the articles that are for it alone; its sessions stay, and refuse new turns"),
    ]
}

#[rustfmt::skip]
fn channel_rows() -> Vec<Row> {
    use Code::*;

    vec![
        row(Method::GET, "/channels", Callers::Member, channels::list)
            .says("listChannels", "The tenant's channels, newest first")
            .query(channels::list_query),
        row(Method::POST, "/channels", Callers::Keeper, channels::create)
            .says("createChannel", "Binds an agent to a bot")
            .body(channels::create_body)
            .example(|| json!({ "internal_name": "Night desk", "audience": "MSP", "agent_id": 102, "display_name": "Northwind at night" }))
            .created()
            .refuses(&[NotFound, AlreadyExists, AudienceMismatch]),
        // Ahead of what it would be one of.
        row(Method::POST, "/channels/install-events", Callers::Platform, channels::install_event)
            .says("installEvent", "Tells whether a bot is installed for an M365 tenant, and what it says there; changes nothing")
            .body(channels::install_event_body)
            .example(|| json!({ "bot_id": "b07fab1e-c0de-4bee-8ace-facade0fb075", "end_client_tenant_id": "ca5cade0-4ce5-4d0e-9b1d-0f0a51deca5e" })),
        row(Method::GET, "/channels/{channel_id}", Callers::Member, channels::get)
            .says("getChannel", "One channel"),
        row(Method::PATCH, "/channels/{channel_id}", Callers::Keeper, channels::update)
            .says("updateChannel", "Changes what is sent of a channel; null restores a default")
            .body(channels::update_body)
            .example(|| json!({ "welcome_message": "Hello! What can I do for you?", "relay_prefix": null }))
            .refuses(&[AlreadyExists, AudienceMismatch, InstallConflict]),
        row(Method::DELETE, "/channels/{channel_id}", Callers::Keeper, channels::delete)
            .says("deleteChannel", "Removes a channel; its installs go on refusing until their bot and M365 tenant are installed on another"),
        row(Method::GET, "/channels/{channel_id}/installs", Callers::Member, installs::list)
            .says("listInstalls", "The M365 tenants that a channel's bot serves, newest first")
            .query(installs::list_query),
        row(Method::POST, "/channels/{channel_id}/installs", Callers::Keeper, installs::create)
            .says("createInstall", "Has a channel's bot serve an M365 tenant, and links a company to it in the same step; 200 if it did already")
            .body(installs::create_body)
            .example(|| json!({ "end_client_tenant_id": "1dea15ed-5eed-4b0a-8f1e-ab1e5ca1ab1e", "psa_company_id": "1002" }))
            .created().also(200)
            .refuses(&[InstallConflict, CompanyAlreadyBound, AudienceMismatch]),
        row(Method::DELETE, "/channels/{channel_id}/installs/{install_id}", Callers::Keeper, installs::delete)
            .says("deleteInstall", "Ends a bot's service of an M365 tenant"),
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
        row(Method::POST, "/chat/sessions", Callers::Chatter, sessions::create)
            .says("createSession", "Begins a session: decides which agent answers, acting for which tenant, for which company")
            .body(sessions::ask_body)
            .example(|| json!({ "managed_agent_key": "NEO_SUPPORT", "title": "Printer on fire" }))
            .header("Idempotency-Key", "1 to 128 visible characters; a repeat within 24 hours gets the first reply again")
            .created()
            .refuses(ROUTED).refuses(&[IdempotencyKeyReused]),
        row(Method::GET, "/chat/sessions", Callers::Member, sessions::list)
            .says("listSessions", "Sessions that the caller may see, newest first")
            .query(sessions::list_query)
            .refuses(&[ClientIdNotAllowed, NotFound]),
        row(Method::POST, "/chat/sessions/resolve", Callers::Chatter, sessions::resolve)
            .says("resolveSession", "Tells who would answer, and writes nothing")
            .body(sessions::ask_body)
            .example(|| json!({ "managed_agent_key": "NEO_SUPPORT" }))
            .refuses(ROUTED),
        row(Method::GET, "/chat/sessions/{session_id}", Callers::Anyone, sessions::get)
            .says("getSession", "One session"),
        row(Method::PATCH, "/chat/sessions/{session_id}", Callers::Chatter, sessions::patch)
            .says("updateSession", "Changes what is sent of a session")
            .body(sessions::change_body)
            .example(|| json!({ "title": "Printer, second floor", "metadata": { "ticket": "4711" } })),
        row(Method::DELETE, "/chat/sessions/{session_id}", Callers::Keeper, sessions::delete)
            .says("deleteSession", "Removes a session and all that hangs on it"),
        row(Method::POST, "/chat/sessions/{session_id}/reset", Callers::Chatter, sessions::reset)
            .says("resetSession", "Archives a session and cancels its turns"),
        row(Method::POST, "/chat/sessions/{session_id}/messages", Callers::Sender, messages::append)
            .says("appendMessage", "Adds a message and queues the turn that answers it")
            .body(messages::append_body)
            .example(|| json!({ "message": "How do I reset a password?", "client_message_id": "m-1" }))
            .accepted()
            .refuses(&[
                AgentAccessDenied, EndCompanyNotMapped, ChannelDisconnected, AgentDisabled, DuplicateClientMessage, SessionArchived,
                TooManyPendingTurns,
            ]),
        row(Method::GET, "/chat/sessions/{session_id}/messages", Callers::Anyone, messages::list)
            .says("listMessages", "A session's messages, oldest first")
            .query(messages::list_query),
        row(Method::GET, "/chat/sessions/{session_id}/turns/{chat_turn_id}", Callers::Anyone, turns::get)
            .says("getTurn", "Where a turn stands; wait_seconds holds the reply until it ends")
            .query(turns::get_query),
        row(Method::PUT, "/chat/sessions/{session_id}/messages/{message_id}/feedback", Callers::Sender, messages::give_feedback)
            .says("giveFeedback", "Rates an answer")
            .body(messages::feedback_body)
            .example(|| json!({ "rating": "UP", "comment": "Just right." })),
        row(Method::POST, "/chat/sessions/{session_id}/cancel", Callers::Sender, turns::cancel)
            .says("cancelTurns", "Cancels the running and the queued turns"),
        row(Method::GET, "/chat/sessions/{session_id}/events", Callers::Anyone, events::stream_events)
            .says("streamEvents", "The stream of answers as server-sent events of the Vercel AI SDK v6; 204 when there is nothing to resume")
            .query(events::stream_query)
            .header("Last-Event-Id", "The cursor that the reader has; wins over since")
            .gives("text/event-stream").also(204),
        row(Method::POST, "/chat/sessions/{session_id}/attachments/upload-url", Callers::Sender, attachments::make_upload_url)
            .says("createUploadUrl", "A signed address to PUT a file to")
            .body(attachments::upload_body)
            .example(|| json!({ "content_type": "image/png", "filename": "screenshot.png" }))
            .created()
            .refuses(&[TooManyAttachments]),
        row(Method::PUT, "/chat/attachments/{attachment_id}", Callers::Public, attachments::put)
            .says("putAttachment", "Sends a file to its signed address")
            .query(attachments::link_query)
            .takes_file()
            .refuses(&[ValidationError, Forbidden, PayloadTooLarge, UnsupportedMediaType, AlreadyExists, TooManyAttachments]),
        row(Method::GET, "/chat/attachments/{attachment_id}", Callers::Public, attachments::get)
            .says("getAttachment", "Fetches a file from its signed address")
            .query(attachments::link_query)
            .gives("application/octet-stream")
            .refuses(&[Forbidden]),
        row(Method::POST, "/sessions", Callers::Chatter, tokens::mint)
            .says("mintSessionToken", "Mints a token for one session")
            .body(tokens::mint_body)
            .created()
            .refuses(&[ClientIdNotAllowed, AgentNotAllowed, NotFound]),
        row(Method::DELETE, "/sessions/{jti}", Callers::Chatter, tokens::revoke)
            .says("revokeSessionToken", "Revokes a session's token at once"),
    ]
}

fn row<F, Args>(method: Method, path: &'static str, callers: Callers, handler: F) -> Row
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + Gives + 'static,
{
    let route = web::method(method.clone()).to(Caught(handler));
    Row {
        method,
        path,
        callers,
        operation: Operation {
            id: "",
            summary: "",
            query: None,
            body: Taken::Nothing,
            example: None,
            successes: vec![F::Output::STATUS],
            data: F::Output::data,
            media_types: Vec::new(),
            headers: Vec::new(),
            refusals: Vec::new(),
        },
        route,
    }
}

impl Row {
    fn says(mut self, id: &'static str, summary: &'static str) -> Self {
        self.operation.id = id;
        self.operation.summary = summary;
        self
    }

    /// The very reader of the handler's query.
    fn query(mut self, read: fn(&Query)) -> Self {
        self.operation.query = Some(read);
        self
    }

    /// The very reader of the handler's body.
    fn body(mut self, read: fn(&Fields<'_>)) -> Self {
        self.operation.body = Taken::Json(read);
        self
    }

    /// A body that is a file, and nothing to be read field by field.
    fn takes_file(mut self) -> Self {
        self.operation.body = Taken::File;
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

    fn also(mut self, status: u16) -> Self {
        self.operation.successes.push(status);
        self
    }

    fn gives(mut self, media_type: &'static str) -> Self {
        self.operation.media_types.push(media_type);
        self
    }

    fn refuses(mut self, codes: &[Code]) -> Self {
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
pub(super) fn addresses() -> Vec<Address> {
    let mut addresses: Vec<Address> = Vec::new();
    for row in table() {
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
