//! The route table: every route of the API, with the callers that it admits and its documentation.

use std::future::Future;

use actix_web::http::Method;
use actix_web::{FromRequest, Handler, HttpRequest, Responder, Route, web};
use futures_util::FutureExt;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Value, json};

use super::admission::{Callers, Permit, Rules};
use super::call::ActingTenant;
use super::envelope::ReplySchema;
use super::extract::{Body, FromQuery, Query, QueryString};
use super::openapi;
use super::routing::{MethodRoute, PathRoutes};
use crate::error::{Code, Error};
use crate::http::{
    agents, app_packages, articles, attachments, audit_events, auth, channels, companies, docs,
    events, guide, installs, keys, messages, meta, new_sessions, sessions, stats, teams, tenant,
    tenants, tokens, turns, users,
};
use crate::input::fields::{Fields, FromFields};

/// The KiB of replies that repeat an object with a few long texts, each character of which JSON
/// writes as up to six bytes.
const LONG_TEXTS: u32 = 1_024;
/// The KiB of replies that repeat an agent with all of its users, or an answer.
const ANY_REPLY: u32 = 8 * 1_024;

/// One row of the route table.
pub struct Row {
    /// The method.
    pub method: Method,
    /// The path, without the prefix.
    pub path: &'static str,
    /// The callers that the route admits.
    pub callers: Callers,
    /// The tenant on which a platform call counts at the rate limit.
    pub tenant: ActingTenant,
    /// Whether the call ends access, and so goes on when its tenant has reached its limit.
    pub has_allowance: bool,
    /// The documentation of the route.
    pub operation: Operation,
    /// The KiB of room that a reply can need beyond a small one, for a route that changes something
    /// and so cannot be called again once there is room.
    reply_kib: u32,
    route: Route,
}

/// The documentation of a route (OpenAPI 3.1, Operation Object).
#[derive(Debug)]
pub struct Operation {
    /// The `operationId`, from which client generators derive a function's name.
    pub id: &'static str,
    /// One sentence about what the route does.
    pub summary: &'static str,
    /// Whether the handler takes a [`Permit`]. Such a route must not be public.
    pub needs_permit: bool,
    /// The query parameters, each with its JSON Schema.
    pub query: Vec<(String, Value)>,
    /// The kind of request body.
    pub body: RequestBody,
    /// A request body that succeeds against the demo.
    pub example: Option<fn() -> Value>,
    /// The status codes of a success.
    pub successes: Vec<u16>,
    /// The schema of a success's `data`.
    pub data: fn(&mut SchemaGenerator) -> Option<Schema>,
    /// The media types of a success that has no envelope.
    pub media_types: Vec<&'static str>,
    /// The request headers that the route reads, each with a description.
    pub headers: Vec<(&'static str, &'static str)>,
    /// The codes that only this route returns. The document adds the codes that all routes share.
    pub refusals: Vec<Code>,
}

/// The kind of a request body.
#[derive(Clone, Copy, Debug)]
pub enum RequestBody {
    /// No body.
    None,
    /// A JSON object. The function runs the handler's own reader.
    Json(fn(&Fields<'_>)),
    /// The bytes of a file of this media type.
    File(&'static str),
}

/// All routes.
pub fn table() -> Vec<Row> {
    let mut table = meta_rows();
    table.extend(management_rows());
    table.extend(channel_rows());
    table.extend(company_rows());
    table.extend(chat_rows().into_iter().map(Row::in_found_tenant));
    table
}

#[rustfmt::skip]
fn meta_rows() -> Vec<Row> {
    vec![
        row(Method::GET, "/health", Callers::Public, meta::health)
            .doc("health", "Reports that the server is running"),
        row(Method::GET, "/ready", Callers::Public, meta::ready)
            .doc("ready", "Reports whether the server takes requests and can write to its database"),
        row(Method::GET, "/openapi.json", Callers::Public, openapi::document)
            .doc("openapi", "Returns this document")
            .media_type("application/json").status(304),
        row(Method::GET, "/docs", Callers::Public, docs::page)
            .doc("docs", "Returns a page that shows this document and can send its requests")
            .media_type("text/html"),
        // This path precedes `/docs/{file}`, whose parameter would match it.
        row(Method::GET, "/docs/guide", Callers::Public, guide::first_page)
            .doc("guide", "Returns the first page of the guide")
            .media_type("text/html").status(304),
        row(Method::GET, "/docs/guide/{page}", Callers::Public, guide::page_or_picture)
            .doc("guidePage", "Returns a page of the guide, or a picture in one")
            .media_type("text/html").media_type("image/png").media_type("image/svg+xml").status(304),
        row(Method::GET, "/docs/{file}", Callers::Public, docs::file)
            .doc("docsFile", "Returns a script or a style sheet of the documentation page")
            .media_type("text/css").media_type("text/javascript"),
        row(Method::GET, "/auth/config", Callers::Public, auth::config)
            .doc("getSignInConfig", "Returns the available sign-in methods"),
        row(Method::POST, "/auth/exchange", Callers::Public, auth::exchange)
            .doc("exchangeCode", "Exchanges the code of a sign-in link for a token that is valid for 12 hours; a code works once")
            .example(|| json!({ "code": "the code at the end of a sign-in link" }))
            .errors(&[Code::Unauthorized, Code::RateLimited]),
        row(Method::POST, "/auth/sign-out", Callers::Person, auth::sign_out)
            .doc("signOut", "Ends a local sign-in; its token stops working at once")
            .with_allowance(),
        row(Method::GET, "/whoami", Callers::Anyone, tenant::who_am_i)
            .doc("whoAmI", "Returns the caller that the credential belongs to"),
        row(Method::GET, "/tenant", Callers::Member, tenant::get)
            .doc("getTenant", "Returns the caller's tenant"),
        row(Method::PATCH, "/tenant", Callers::CanManage, tenant::patch)
            .doc("updateOwnTenant", "Updates the addresses of the caller's tenant that the body contains")
            .example(|| json!({ "privacy_url": "https://northwind-it.example/privacy" })),
    ]
}

#[rustfmt::skip]
fn management_rows() -> Vec<Row> {
    vec![
        row(Method::GET, "/agents", Callers::Member, agents::list)
            .doc("listAgents", "Lists the tenant's agents, newest first"),
        row(Method::POST, "/agents", Callers::CanManage, agents::create)
            .doc("createAgent", "Creates a CONVERSATIONAL agent")
            .reply_kib(ANY_REPLY)
            .example(|| json!({ "name": "Onboarding", "audience": "MSP", "agent_settings": { "custom_instructions": "Answer briefly." } }))
            .created().repeatable()
            .errors(&[Code::AgentManagedByNeo]),
        row(Method::GET, "/agents/{agent_id}", Callers::Member, agents::get)
            .doc("getAgent", "Returns one agent"),
        row(Method::PUT, "/agents/{agent_id}", Callers::CanManage, agents::update)
            .doc("updateAgent", "Updates the fields of an agent that the body contains")
            .reply_kib(ANY_REPLY)
            .example(|| json!({ "description": "Answers technicians' questions." }))
            .errors(&[Code::AgentManagedByNeo, Code::AgentUpdateConflict]),
        row(Method::DELETE, "/agents/{agent_id}", Callers::CanManage, agents::delete)
            .doc("deleteAgent", "Deletes an agent that no channel uses; its sessions remain")
            .errors(&[Code::AgentManagedByNeo, Code::AgentInUse]),

        row(Method::GET, "/knowledge-articles", Callers::Member, articles::list)
            .doc("listArticles", "Lists the tenant's knowledge articles, newest first"),
        row(Method::POST, "/knowledge-articles", Callers::CanManage, articles::create)
            .doc("createArticle", "Creates a knowledge article")
            .reply_kib(LONG_TEXTS)
            .example(|| json!({ "title": "Wi-Fi for guests", "body": "The network is **Guests**.", "audience": "END_USER", "end_company_id": "1001" }))
            .created().repeatable()
            .errors(&[Code::AlreadyExists]),
        row(Method::GET, "/knowledge-articles/{article_id}", Callers::Member, articles::get)
            .doc("getArticle", "Returns one knowledge article"),
        row(Method::PUT, "/knowledge-articles/{article_id}", Callers::CanManage, articles::update)
            .doc("updateArticle", "Updates the fields of a knowledge article that the body contains")
            .reply_kib(LONG_TEXTS)
            .example(|| json!({ "url": "https://kb.example.com/wifi" }))
            .errors(&[Code::AlreadyExists]),
        row(Method::DELETE, "/knowledge-articles/{article_id}", Callers::CanManage, articles::delete)
            .doc("deleteArticle", "Deletes a knowledge article"),

        row(Method::GET, "/api-keys", Callers::Admin, keys::list)
            .doc("listApiKeys", "Lists the tenant's API keys, newest first, including expired and revoked ones"),
        row(Method::POST, "/api-keys", Callers::Admin, keys::create)
            .doc("createApiKey", "Creates an API key; only this reply contains the key itself")
            .example(|| json!({ "name": "Ticket system" }))
            .created()
            .errors(&[Code::AlreadyExists]),
        row(Method::POST, "/api-keys/{key_id}/rotate", Callers::Admin, keys::rotate)
            .doc("rotateApiKey", "Creates a successor of an API key; the old key works for 24 more hours")
            .created(),
        row(Method::DELETE, "/api-keys/{key_id}", Callers::Admin, keys::revoke)
            .doc("revokeApiKey", "Revokes an API key at once, together with the session tokens that it minted"),
        row(Method::GET, "/users", Callers::Admin, users::list)
            .doc("listUsers", "Lists the tenant's users, newest first"),
        row(Method::POST, "/users", Callers::Admin, users::create)
            .doc("createUser", "Adds a user before the first sign-in, such as a guest of the tenant's directory")
            .example(|| json!({ "id": "7f0c1a9e-4f5d-4a38-9c26-8a1d0e6b2c56", "name": "Ines Guest", "role": "VIEWER" }))
            .created().repeatable()
            .errors(&[Code::AlreadyExists]),
        row(Method::DELETE, "/users/{user_id}", Callers::Admin, users::delete)
            .doc("deleteUser", "Removes a user, and revokes the session tokens that the user minted")
            .errors(&[Code::LastAdmin]),
        row(Method::PATCH, "/users/{user_id}", Callers::Admin, users::patch)
            .doc("updateUser", "Sets the role of a user")
            .example(|| json!({ "role": "ADMIN" }))
            .errors(&[Code::LastAdmin]),

        row(Method::GET, "/tenants", Callers::Platform, tenants::list)
            .doc("listTenants", "Lists all tenants, newest first; with bot_id those with a channel of that bot, with entra_tenant_id the one whose people sign in with it"),
        row(Method::POST, "/tenants", Callers::Platform, tenants::create)
            .doc("createTenant", "Creates a tenant and its managed agent")
            .example(|| json!({ "client_id": "proseware-it", "name": "Proseware IT", "retention_days": 365 }))
            .created().repeatable()
            .errors(&[Code::AlreadyExists, Code::InstallConflict]),
        row(Method::GET, "/tenants/{client_id}", Callers::Platform, tenants::get)
            .doc("getAnyTenant", "Returns one tenant"),
        row(Method::PATCH, "/tenants/{client_id}", Callers::Platform, tenants::patch)
            .doc("updateTenant", "Updates the fields of a tenant that the body contains")
            .example(|| json!({ "rate_limit_per_minute": 2400 }))
            .errors(&[Code::AlreadyExists, Code::InstallConflict]),

        row(Method::GET, "/stats", Callers::CanManage, stats::get)
            .doc("getStats", "Returns sessions, turns, failures and the time to the first word, by day and by agent; the last week by default"),
        row(Method::GET, "/stats/active-users", Callers::CanManage, stats::active_users)
            .doc("getActiveUsers", "Counts the people who wrote at least two messages in a month, in all and for each client company"),
        row(Method::GET, "/audit-events", Callers::CanManage, audit_events::list)
            .doc("listAuditEvents", "Lists changes and refused attempts with their callers, newest first"),
    ]
}

/// The routes of client companies. Literal paths precede the path with a parameter.
#[rustfmt::skip]
fn company_rows() -> Vec<Row> {
    use Code::{ClientIdNotAllowed, NotFound};

    vec![
        row(Method::GET, "/end-companies", Callers::Member, companies::list)
            .doc("listEndCompanies", "Lists the tenant's client companies, newest first"),
        row(Method::POST, "/end-companies", Callers::CanManage, companies::create)
            .doc("createEndCompany", "Creates a client company and, if tenant_id is given, links it to that M365 tenant")
            .reply_kib(LONG_TEXTS)
            .example(|| json!({
                "psa_company_id": "1005", "psa_company_name": "Wide World Importers", "tenant_id": "1abe11ed-c0de-4bee-8ace-deed50fab1e5",
            }))
            .created().repeatable()
            .errors(&[Code::AlreadyExists]),
        row(Method::GET, "/end-companies/health", Callers::Member, companies::health)
            .doc("getEndCompanyHealth", "Returns the mapping problems that cause refusals, with what to do about each"),
        row(Method::GET, "/end-companies/unlinked-tenants", Callers::Member, companies::list_unlinked)
            .in_found_tenant()
            .doc("listUnlinkedTenants", "Lists M365 tenants that were refused because no single company is linked to them, newest first; a platform account may name another tenant")
            .errors(&[ClientIdNotAllowed, NotFound]),
        row(Method::DELETE, "/end-companies/unlinked-tenants/{inbound_tenant_id}", Callers::CanManage, companies::forget_unlinked)
            .doc("deleteUnlinkedTenant", "Deletes the record of a refused M365 tenant"),
        row(Method::GET, "/end-companies/{psa_company_id}", Callers::Member, companies::get)
            .doc("getEndCompany", "Returns one client company"),
        row(Method::PUT, "/end-companies/{psa_company_id}", Callers::CanManage, companies::update)
            .doc("updateEndCompany", "Updates the fields of a client company that the body contains, including its link to an M365 tenant")
            .reply_kib(LONG_TEXTS)
            .example(|| json!({ "tenant_id": "0ddba110-face-4fee-9add-1eaf1ed0dd01" })),
        row(Method::DELETE, "/end-companies/{psa_company_id}", Callers::CanManage, companies::delete)
            .doc("deleteEndCompany", "Deletes a client company and the articles for that company only; its sessions remain but refuse new turns"),
    ]
}

#[rustfmt::skip]
fn channel_rows() -> Vec<Row> {
    use Code::*;

    vec![
        row(Method::GET, "/channels", Callers::Member, channels::list)
            .in_found_tenant()
            .doc("listChannels", "Lists the tenant's channels, newest first; a platform account may name another tenant")
            .errors(&[ClientIdNotAllowed, NotFound]),
        row(Method::POST, "/channels", Callers::CanManage, channels::create)
            .doc("createChannel", "Creates a channel, which binds an agent to a bot")
            .reply_kib(LONG_TEXTS)
            .example(|| json!({ "internal_name": "Night desk", "audience": "MSP", "agent_id": 102, "display_name": "Northwind at night" }))
            .created().repeatable()
            .errors(&[AlreadyExists, AudienceMismatch]),
        // This path precedes `/channels/{channel_id}`, whose parameter would match it.
        row(Method::POST, "/channels/install-events", Callers::Platform, channels::install_event)
            .doc("installEvent", "Returns whether a bot is installed for an M365 tenant, and its welcome message there; changes nothing")
            .reply_kib(LONG_TEXTS)
            .example(|| json!({ "bot_id": "b07fab1e-c0de-4bee-8ace-facade0fb075", "end_client_tenant_id": "ca5cade0-4ce5-4d0e-9b1d-0f0a51deca5e" }))
            .in_found_tenant(),
        row(Method::GET, "/channels/{channel_id}", Callers::Member, channels::get)
            .in_found_tenant()
            .doc("getChannel", "Returns one channel; a platform account may name another tenant")
            .errors(&[ClientIdNotAllowed]),
        row(Method::PATCH, "/channels/{channel_id}", Callers::CanManage, channels::update)
            .in_found_tenant()
            .doc("updateChannel", "Updates the fields of a channel that the body contains; null restores a default; a platform account may release another tenant's bot")
            .reply_kib(LONG_TEXTS)
            .example(|| json!({ "welcome_message": "Hello! What can I do for you?", "relay_prefix": null }))
            .errors(&[AlreadyExists, AudienceMismatch, InstallConflict, ClientIdNotAllowed]),
        row(Method::DELETE, "/channels/{channel_id}", Callers::CanManage, channels::delete)
            .doc("deleteChannel", "Deletes a channel; its installs refuse requests until their bot and M365 tenant are installed on another channel"),
        row(Method::GET, "/channels/{channel_id}/app-package", Callers::Member, app_packages::download)
            .in_found_tenant()
            .doc("getAppPackage", "Returns the app package of a channel's bot, for the Teams admin center; a platform account may name another tenant")
            .media_type("application/zip")
            .errors(&[AppPackageIncomplete, ClientIdNotAllowed]),
        row(Method::GET, "/channels/{channel_id}/icons/{kind}", Callers::Member, app_packages::get_icon)
            .in_found_tenant()
            .doc("getIcon", "Returns an icon of the app package: the uploaded one, or a drawn one; a platform account may name another tenant")
            .media_type("image/png")
            .errors(&[ClientIdNotAllowed]),
        row(Method::PUT, "/channels/{channel_id}/icons/{kind}", Callers::CanManage, app_packages::put_icon)
            .doc("putIcon", "Uploads an icon of the app package: a PNG of 192 x 192 (color) or 32 x 32 pixels (outline)")
            .reply_kib(LONG_TEXTS)
            .receives("image/png")
            .errors(&[ValidationError, PayloadTooLarge, UnsupportedMediaType]),
        row(Method::DELETE, "/channels/{channel_id}/icons/{kind}", Callers::CanManage, app_packages::delete_icon)
            .doc("deleteIcon", "Removes an uploaded icon; the server draws one again"),
        row(Method::GET, "/channels/{channel_id}/teams", Callers::Member, teams::of_channel)
            .doc("getChannelTeams", "Returns how a channel's bot is connected to Microsoft Teams, and what came in and went out last"),
        row(Method::GET, "/channels/{channel_id}/installs", Callers::Member, installs::list)
            .doc("listInstalls", "Lists the M365 tenants that a channel's bot serves, newest first")
            .in_found_tenant(),
        row(Method::POST, "/channels/{channel_id}/installs", Callers::CanManage, installs::create)
            .doc("createInstall", "Installs a channel's bot for an M365 tenant and can link a company to it in the same step; 200 if already installed")
            .example(|| json!({ "end_client_tenant_id": "1dea15ed-5eed-4b0a-8f1e-ab1e5ca1ab1e", "psa_company_id": "1002" }))
            .created().status(200).repeatable()
            .errors(&[InstallConflict, CompanyAlreadyBound, AudienceMismatch])
            .in_found_tenant(),
        row(Method::DELETE, "/channels/{channel_id}/installs/{install_id}", Callers::CanManage, installs::delete)
            .doc("deleteInstall", "Deletes an install; the bot no longer serves the M365 tenant")
            .in_found_tenant(),
    ]
}

/// The routes of chat. A platform call acts in the tenant of its session.
#[rustfmt::skip]
fn chat_rows() -> Vec<Row> {
    use Code::*;

    const ROUTED: &[Code] = &[
        ClientIdNotAllowed, AgentNotAllowed, AgentAccessDenied, NotFound, EndCompanyNotMapped, ChannelDisconnected, AgentDisabled,
        AgentNotConversational, EndCompanyRequired,
    ];
    vec![
        row(Method::POST, "/chat/sessions", Callers::CanChat, new_sessions::create)
            .doc("createSession", "Creates a session: decides which agent answers, on behalf of which tenant and for which company")
            .example(|| json!({ "managed_agent_key": "NEO_SUPPORT", "title": "Printer on fire" }))
            .created().status(200).repeatable()
            .errors(ROUTED).errors(&[SessionArchived, AlreadyExists]),
        row(Method::GET, "/chat/sessions", Callers::Member, sessions::list)
            .doc("listSessions", "Lists the sessions that the caller may read, newest first")
            .errors(&[ClientIdNotAllowed, NotFound]),
        row(Method::POST, "/chat/sessions/resolve", Callers::CanChat, new_sessions::resolve)
            .doc("resolveSession", "Returns which agent would answer, without creating a session (dry run)")
            .example(|| json!({ "managed_agent_key": "NEO_SUPPORT" }))
            .errors(ROUTED),
        row(Method::GET, "/chat/sessions/{session_id}", Callers::Anyone, sessions::get)
            .doc("getSession", "Returns one session"),
        row(Method::PATCH, "/chat/sessions/{session_id}", Callers::CanChat, sessions::patch)
            .doc("updateSession", "Updates the fields of a session that the body contains")
            .example(|| json!({ "title": "Printer, second floor", "metadata": { "ticket": "4711" } }))
            .errors(&[AlreadyExists]),
        row(Method::DELETE, "/chat/sessions/{session_id}", Callers::CanManage, sessions::delete)
            .doc("deleteSession", "Deletes a session with its messages, turns, events and files"),
        row(Method::POST, "/chat/sessions/{session_id}/reset", Callers::CanChat, sessions::reset)
            .doc("resetSession", "Archives a session and cancels its turns")
            .with_allowance(),
        row(Method::POST, "/chat/sessions/{session_id}/messages", Callers::CanSend, messages::append)
            .doc("appendMessage", "Appends a message and queues the turn that answers it")
            .example(|| json!({ "message": "How do I reset a password?", "client_message_id": "m-1" }))
            .accepted().repeatable()
            .errors(&[
                AgentAccessDenied, EndCompanyNotMapped, ChannelDisconnected, AgentDisabled, DuplicateClientMessage, SessionArchived,
                TooManyPendingTurns,
            ]),
        row(Method::GET, "/chat/sessions/{session_id}/messages", Callers::Anyone, messages::list)
            .doc("listMessages", "Lists a session's messages, oldest first by default"),
        row(Method::PATCH, "/chat/sessions/{session_id}/messages/{message_id}", Callers::CanSend, messages::edit)
            .doc("editMessage", "Changes the text of one's own last message before it was answered")
            .reply_kib(ANY_REPLY)
            .example(|| json!({ "message": "How do I reset my own password?" }))
            .errors(&[
                AgentAccessDenied, EndCompanyNotMapped, ChannelDisconnected, AgentDisabled, SessionArchived, MessageNotLast,
                MessageAnswered,
            ]),
        row(Method::POST, "/chat/sessions/{session_id}/messages/{message_id}/regenerate", Callers::CanSend, messages::regenerate)
            .doc("regenerateAnswer", "Queues a turn that gives another answer to the session's last question")
            .accepted().repeatable()
            .errors(&[
                AgentAccessDenied, EndCompanyNotMapped, ChannelDisconnected, AgentDisabled, SessionArchived, MessageNotLast,
                TurnInProgress,
            ]),
        row(Method::GET, "/chat/sessions/{session_id}/turns/{chat_turn_id}", Callers::Anyone, turns::get)
            .doc("getTurn", "Returns the state of a turn; wait_seconds delays the reply until the turn ends"),
        row(Method::PUT, "/chat/sessions/{session_id}/messages/{message_id}/feedback", Callers::CanSend, messages::give_feedback)
            .doc("giveFeedback", "Sets or clears the rating and the comment of an answer")
            .reply_kib(ANY_REPLY)
            .example(|| json!({ "rating": "UP", "comment": "Just right." })),
        row(Method::POST, "/chat/sessions/{session_id}/cancel", Callers::CanSend, turns::cancel)
            .doc("cancelTurns", "Cancels the session's running and queued turns"),
        row(Method::GET, "/chat/sessions/{session_id}/events", Callers::Anyone, events::stream_events)
            .doc("streamEvents", "Streams the session's answers as server-sent events of the Vercel AI SDK v6; 204 if there is nothing to resume")
            .header("Last-Event-Id", "The cursor of the last event that the reader received; takes precedence over since")
            .media_type("text/event-stream").status(204),
        row(Method::POST, "/chat/sessions/{session_id}/attachments/upload-url", Callers::CanSend, attachments::make_upload_url)
            .doc("createUploadUrl", "Creates a signed URL to upload a file to")
            .example(|| json!({ "content_type": "image/png", "filename": "screenshot.png" }))
            .created()
            .errors(&[TooManyAttachments]),
        row(Method::PUT, "/chat/attachments/{attachment_id}", Callers::Public, attachments::put)
            .doc("putAttachment", "Uploads a file to its signed URL")
            .errors(&[ValidationError, Forbidden, PayloadTooLarge, UnsupportedMediaType, AlreadyExists, TooManyAttachments]),
        row(Method::GET, "/chat/attachments/{attachment_id}", Callers::Public, attachments::get)
            .doc("getAttachment", "Downloads a file from its signed URL")
            .media_type("application/octet-stream")
            .errors(&[Forbidden]),
        row(Method::POST, "/sessions", Callers::CanChat, tokens::mint)
            .doc("mintSessionToken", "Mints a token that is valid for one session")
            .example(|| json!({ "session_id": "ses_019ab697-e800-703f-8721-0ac0a49bf0a6", "end_user": "ines", "ttl_seconds": 3600 }))
            .created()
            .errors(&[ClientIdNotAllowed, AgentNotAllowed, NotFound]),
        row(Method::DELETE, "/sessions/{jti}", Callers::CanChat, tokens::revoke)
            .doc("revokeSessionToken", "Revokes a session token at once"),
    ]
}

/// A handler's argument, which adds to the documentation of the route.
trait Argument {
    fn describe(_: &mut Operation) {}
}

impl<T: 'static> Argument for web::Data<T> {}
impl Argument for HttpRequest {}

impl Argument for Permit {
    fn describe(operation: &mut Operation) {
        operation.needs_permit = true;
    }
}

impl Argument for web::Payload {
    fn describe(operation: &mut Operation) {
        operation.body = RequestBody::File("application/octet-stream");
    }
}

impl<T: FromFields> Argument for Body<T> {
    fn describe(operation: &mut Operation) {
        operation.body = RequestBody::Json(|fields| {
            T::read(fields);
        });
    }
}

impl<T: FromQuery> Argument for Query<T> {
    fn describe(operation: &mut Operation) {
        operation.query = QueryString::describe::<T>();
    }
}

/// The tuple of a handler's arguments.
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
    F::Output: Responder + ReplySchema + 'static,
{
    let route = web::method(method.clone()).to(CatchPanic(handler));
    let mut operation = Operation {
        id: "",
        summary: "",
        needs_permit: false,
        query: Vec::new(),
        body: RequestBody::None,
        example: None,
        successes: vec![F::Output::STATUS],
        data: F::Output::data,
        media_types: Vec::new(),
        headers: Vec::new(),
        refusals: Vec::new(),
    };
    Args::describe(&mut operation);
    Row {
        // What deletes or revokes must always be possible.
        has_allowance: method == Method::DELETE,
        method,
        path,
        callers,
        tenant: ActingTenant::Own,
        operation,
        reply_kib: 0,
        route,
    }
}

impl Row {
    fn doc(mut self, id: &'static str, summary: &'static str) -> Self {
        self.operation.id = id;
        self.operation.summary = summary;
        self
    }

    /// The handler finds the tenant that a platform call acts in, and counts the call there.
    fn in_found_tenant(mut self) -> Self {
        self.tenant = ActingTenant::Found;
        self
    }

    /// The call ends access, as a DELETE does.
    fn with_allowance(mut self) -> Self {
        self.has_allowance = true;
        self
    }

    fn example(mut self, body: fn() -> Value) -> Self {
        self.operation.example = Some(body);
        self
    }

    fn header(mut self, name: &'static str, description: &'static str) -> Self {
        self.operation.headers.push((name, description));
        self
    }

    /// The call creates something, once for each idempotency key.
    fn repeatable(self) -> Self {
        const HEADER: &str = "1 to 128 visible characters; a repeated request within 24 hours receives the first reply again";
        self.header("Idempotency-Key", HEADER)
            .errors(&[Code::NotFound, Code::IdempotencyKeyReused])
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

    /// The route takes a file of this media type.
    fn receives(mut self, media_type: &'static str) -> Self {
        self.operation.body = RequestBody::File(media_type);
        self
    }

    fn media_type(mut self, media_type: &'static str) -> Self {
        self.operation.media_types.push(media_type);
        self
    }

    fn reply_kib(mut self, kib: u32) -> Self {
        self.reply_kib = kib;
        self
    }

    fn errors(mut self, codes: &[Code]) -> Self {
        self.operation.refusals.extend(codes);
        self
    }
}

/// Turns a panic of the handler into `internal_error`, so that the client receives an envelope.
#[derive(Clone)]
struct CatchPanic<F>(F);

impl<F, Args> Handler<Args> for CatchPanic<F>
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

/// The route table, grouped by path.
pub(in crate::http) fn path_routes() -> Vec<PathRoutes> {
    group_by_path(table())
}

fn group_by_path(rows: impl IntoIterator<Item = Row>) -> Vec<PathRoutes> {
    let mut paths: Vec<PathRoutes> = Vec::new();
    for row in rows {
        let route = MethodRoute {
            method: row.method,
            rules: Rules {
                callers: row.callers,
                tenant: row.tenant,
                has_allowance: row.has_allowance,
                reply_kib: row.reply_kib,
            },
            route: row.route,
        };
        match paths.iter_mut().find(|path| path.path == row.path) {
            Some(path) => path.methods.push(route),
            None => paths.push(PathRoutes {
                path: row.path,
                is_prefixed: true,
                methods: vec![route],
            }),
        }
    }
    paths
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
    use crate::http::edge::routing::RouterFactory;
    use crate::model::caller::Who;
    use crate::model::clock::Clock;
    use crate::model::directory::DirectoryRule;
    use crate::model::ids::{SessionId, TokenId};
    use crate::store::Store;
    use crate::turns::respond::Responders;

    #[actix_web::test]
    async fn a_panic_in_a_handler_is_an_internal_error() {
        async fn panics() -> &'static str {
            panic!("this test panics on purpose")
        }
        let outcome = CatchPanic(panics).call(()).await;
        assert!(matches!(outcome, Err(Error::Internal(_))));
    }

    #[test]
    fn no_public_route_takes_a_permit() {
        for row in table() {
            let is_public = row.callers == Callers::Public;
            assert!(!(is_public && row.operation.needs_permit), "{}", row.path);
        }
    }

    #[test]
    fn no_route_with_an_allowance_admits_an_end_user() {
        let end_user = Who::EndUserSession {
            jti: TokenId::from_bytes([0; 16]),
            session: SessionId::from_bytes([0; 16]),
            end_user: None,
        };
        for row in table().iter().filter(|row| row.has_allowance) {
            assert!(!row.callers.allow(&end_user), "{}", row.path);
        }
    }

    #[actix_web::test]
    async fn a_route_refuses_callers_even_if_its_handler_takes_no_permit() {
        async fn without_permit() -> Result<HttpResponse, Error> {
            Ok(HttpResponse::Ok().body("open"))
        }
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), Clock::System).unwrap();
        let signing = SigningSecret::of_folder(folder.path()).unwrap();
        let authenticator = Authenticator::new("test".to_owned(), signing);
        let config = ServerConfig {
            public_url: None,
            host_names: Vec::new(),
            rate_limit: 0,
            platform_rate_limit: 0,
            cors_origins: Vec::new(),
            behind_proxy: false,
            workers: None,
            max_connections: 1,
            turn_concurrency: 1,
            drain_seconds: 0,
            metrics: false,
            entra_sign_in: None,
            directories: DirectoryRule::default(),
            teams: crate::teams::Settings::default(),
            timeouts: ClientTimeouts::default(),
        };
        let app = App::new(store, authenticator, Responders::new(None), config).unwrap();
        let rows = [
            row(Method::GET, "/open", Callers::Public, without_permit),
            row(Method::GET, "/closed", Callers::Admin, without_permit),
        ];
        let service = init_service(
            actix_web::App::new()
                .app_data(web::Data::from(app))
                .default_service(RouterFactory::of(group_by_path(rows)))
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
