//! The requests that the isolation tests send to every route: one row a route.

use serde_json::Value;

use crate::wire::Request;

/// One of each kind of thing that a request can name.
#[derive(Clone, Debug)]
pub struct Things {
    pub session: String,
    pub turn: String,
    pub message: String,
    pub attachment: String,
    pub token: String,
    pub channel: String,
    pub article: String,
    pub key: String,
    pub user: String,
    pub install: String,
    pub agent: i64,
    /// The agent that talks to companies.
    pub helper: i64,
    pub company: &'static str,
    pub client_id: &'static str,
    /// The M365 tenant that was refused.
    pub directory: String,
}

impl Things {
    /// Each thing under the name that the rows of [`PLAN`] use.
    fn named(&self) -> [(&'static str, String); 15] {
        [
            ("session_id", self.session.clone()),
            ("chat_turn_id", self.turn.clone()),
            ("message_id", self.message.clone()),
            ("attachment_id", self.attachment.clone()),
            ("jti", self.token.clone()),
            ("channel_id", self.channel.clone()),
            ("article_id", self.article.clone()),
            ("key_id", self.key.clone()),
            ("user_id", self.user.clone()),
            ("install_id", self.install.clone()),
            ("agent_id", self.agent.to_string()),
            ("helper_id", self.helper.to_string()),
            ("psa_company_id", self.company.to_owned()),
            ("client_id", self.client_id.to_owned()),
            ("inbound_tenant_id", self.directory.clone()),
        ]
    }
}

/// Things that do not exist.
pub fn absent() -> Things {
    let id = |prefix: &str| format!("{prefix}_019ab697-e807-7abc-8def-0123456789ab");
    Things {
        session: id("ses"),
        turn: id("trn"),
        message: id("msg"),
        attachment: id("att"),
        token: id("jti"),
        channel: id("chn"),
        article: id("art"),
        key: id("key"),
        user: "nobody".to_owned(),
        install: id("ins"),
        agent: 987_654,
        helper: 987_655,
        company: "NO-SUCH-COMPANY",
        client_id: "no-such-tenant",
        directory: lost_at("no-such-tenant"),
    }
}

/// The M365 tenant that was refused at an MSP.
pub fn lost_at(client_id: &str) -> String {
    format!("lost-{client_id}")
}

/// Makes the requests of a row for `things`. `own` is what the caller itself has, for the parts of
/// a request that must work so that the part under test decides.
pub type Ask = fn(things: &Things, own: &Things) -> Vec<Request>;

/// A row of the plan.
pub struct Row {
    pub method: &'static str,
    pub path: &'static str,
    /// The status of the first request, for the caller's own things: relay, MSP, session's token.
    pub own: [u16; 3],
    pub ask: Ask,
}

/// Makes rows of a method, a path, the statuses of [`Row::own`] and the templates of the requests.
macro_rules! plan {
    ($($method:literal $path:literal $own:tt $requests:tt)*) => {
        &[$(Row {
            method: $method,
            path: $path,
            own: $own,
            ask: |things, own| requests($method, $path, &$requests, things, own),
        }),*]
    };
}

/// Makes requests from their templates. A template is a target, then a space and a body if there
/// is one. The target is a query of the row's path, a path of its own, or left out. `{name}`
/// stands for one of `things`, `{own.name}` for one of `own`.
fn requests(
    method: &str,
    path: &str,
    templates: &[&str],
    things: &Things,
    own: &Things,
) -> Vec<Request> {
    let request = |template: &&str| {
        let (target, body) = if template.starts_with('{') {
            ("", *template)
        } else {
            template.split_once(' ').unwrap_or((template, ""))
        };
        let target = if target.starts_with('/') {
            target.to_owned()
        } else {
            format!("{path}{target}")
        };
        let request = Request::new(method, fill(&target, things, own));
        match body {
            "" => request,
            json if json.starts_with('{') => {
                let filled = fill(json, things, own);
                let body: Value = serde_json::from_str(&filled)
                    .unwrap_or_else(|error| panic!("{error}: {filled}"));
                request.json(&body)
            }
            bytes => request.bytes(bytes),
        }
    };
    templates.iter().map(request).collect()
}

/// Replaces the names in a template.
fn fill(template: &str, things: &Things, own: &Things) -> String {
    let mut text = template.to_owned();
    for (prefix, things) in [("", things), ("own.", own)] {
        for (name, value) in things.named() {
            text = text.replace(&format!("{{{prefix}{name}}}"), &value);
        }
    }
    let unknown = text.split('{').skip(1);
    let mut unknown = unknown.filter(|rest| rest.starts_with(|next: char| next.is_alphabetic()));
    assert_eq!(unknown.next(), None, "a name of no thing in {template}");
    text
}

/// What a session can be created and a dry run be asked for.
const CREATIONS: [&str; 4] = [
    r#"{"agent_id": {agent_id}}"#,
    r#"{"agent_id": {own.agent_id}, "client_id": "{client_id}"}"#,
    r#"{"agent_id": {agent_id}, "end_company_id": "{psa_company_id}", "bot_id": "no-bot", "title": "x"}"#,
    r#"{"agent_id": {own.helper_id}, "end_company_id": "{psa_company_id}"}"#,
];

pub const PLAN: &[Row] = plan! {
    "GET"    "/health"                                [200, 200, 200] [""]
    "GET"    "/ready"                                 [200, 200, 200] [""]
    "GET"    "/auth/config"                           [200, 200, 200] ["?client_id={client_id}"]
    "POST"   "/auth/exchange"                         [400, 400, 400] [r#"{"client_id": "{client_id}"}"#]
    "POST"   "/auth/sign-out"                         [403, 403, 403] [""]
    "GET"    "/whoami"                                [200, 200, 200] ["?client_id={client_id}"]
    "GET"    "/tenant"                                [200, 200, 403] ["?client_id={client_id}"]
    "PATCH"  "/tenant"                                [200, 200, 403] [
        r#"{"terms_url": "https://terms.example", "client_id": "{client_id}"}"#,
    ]
    "GET"    "/agents"                                [200, 200, 403] ["?client_id={client_id}&q={agent_id}"]
    "GET"    "/agents/{agent_id}"                     [200, 200, 403] [""]
    "GET"    "/openapi.json"                          [200, 200, 200] [""]
    "GET"    "/docs"                                  [200, 200, 200] [""]
    "GET"    "/docs/guide"                            [200, 200, 200] [""]
    "GET"    "/docs/guide/{page}"                     [200, 200, 200] ["/docs/guide/concepts"]
    "GET"    "/docs/{file}"                           [200, 200, 200] ["/docs/page.js"]
    "POST"   "/agents"                                [201, 201, 403] [
        r#"{"name": "Another", "client_id": "{client_id}", "agent_id": {agent_id}}"#,
    ]
    // The relay's own agent is the managed one.
    "PUT"    "/agents/{agent_id}"                     [403, 200, 403] [
        r#"{"description": "Taken over"}"#,
        r#"{"state": "DISABLED", "version": 1}"#,
        r#"{"audience": "END_USER"}"#,
    ]
    "GET"    "/knowledge-articles"                    [200, 200, 403] [
        "?agent_id={agent_id}&end_company_id={psa_company_id}",
    ]
    "POST"   "/knowledge-articles"                    [201, 201, 403] [
        r#"{"title": "For one agent", "body": "x", "agent_ids": [{agent_id}]}"#,
        r#"{"title": "For one company", "body": "x", "end_company_id": "{psa_company_id}"}"#,
    ]
    "GET"    "/knowledge-articles/{article_id}"       [404, 200, 403] [""]
    "PUT"    "/knowledge-articles/{article_id}"       [404, 200, 403] [r#"{"body": "Taken over"}"#]
    "DELETE" "/knowledge-articles/{article_id}"       [404, 204, 403] [""]
    // A program can neither create keys nor give roles.
    "GET"    "/api-keys"                              [403, 403, 403] [""]
    "POST"   "/api-keys"                              [403, 403, 403] [r#"{"name": "Mine"}"#]
    "POST"   "/api-keys/{key_id}/rotate"              [403, 403, 403] [""]
    "DELETE" "/api-keys/{key_id}"                     [403, 403, 403] [""]
    "GET"    "/users"                                 [403, 403, 403] [""]
    "POST"   "/users"                                 [403, 403, 403] [r#"{"id": "mine", "role": "ADMIN"}"#]
    "DELETE" "/users/{user_id}"                       [403, 403, 403] [""]
    "PATCH"  "/users/{user_id}"                       [403, 403, 403] [r#"{"role": "ADMIN"}"#]
    // The platform manages every tenant.
    "GET"    "/tenants"                               [200, 403, 403] ["?q={client_id}", "?entra_tenant_id={inbound_tenant_id}"]
    "POST"   "/tenants"                               [409, 403, 403] [
        r#"{"client_id": "{client_id}", "name": "Twice"}"#,
    ]
    "GET"    "/tenants/{client_id}"                   [200, 403, 403] [""]
    "PATCH"  "/tenants/{client_id}"                   [200, 403, 403] [r#"{"name": "Taken over"}"#]
    "GET"    "/stats"                                 [200, 200, 403] ["?client_id={client_id}"]
    "GET"    "/stats/active-users"                    [200, 200, 403] ["?client_id={client_id}", "?month=2025-11"]
    // A refusal is recorded with its address, so two requests would never find the same events.
    "GET"    "/audit-events"                          [200, 200, 403] ["?q={session_id}-nothing"]
    // A channel uses the MSP's agent.
    "DELETE" "/agents/{agent_id}"                     [403, 409, 403] [""]
    "GET"    "/channels"                              [200, 200, 403] [
        "?agent_id={agent_id}",
        "?client_id={client_id}",
        "?bot_id=b07be7a0-c0de-4bee-8ace-feed0be7a001&q=engineer",
    ]
    "POST"   "/channels"                              [201, 201, 403] [
        r#"{"internal_name": "Another", "audience": "MSP", "agent_id": {agent_id}}"#,
        r#"{"internal_name": "Another", "audience": "MSP", "agent_id": {agent_id}, "bot_id": "b-1", "client_id": "{client_id}"}"#,
    ]
    "POST"   "/channels/install-events"               [200, 403, 403] [
        r#"{"bot_id": "b-1", "end_client_tenant_id": "{client_id}"}"#,
    ]
    // The relay's channel is Northwind's: the relay may install it, but neither read nor change it.
    "GET"    "/channels/{channel_id}"                 [404, 200, 403] ["", "?client_id={client_id}"]
    "PATCH"  "/channels/{channel_id}"                 [404, 200, 403] [
        r#"{"description": "Taken over"}"#,
        r#"{"audience": "MSP"}"#,
        r#"{"internal_name": "Taken over", "agent_id": {own.helper_id}, "bot_id": null}"#,
        r#"?client_id={client_id} {"bot_id": null}"#,
        r#"/channels/{own.channel_id} {"agent_id": {helper_id}}"#,
    ]
    "DELETE" "/channels/{channel_id}"                 [404, 204, 403] [""]
    "GET"    "/channels/{channel_id}/app-package"     [404, 409, 403] ["", "?client_id={client_id}"]
    "GET"    "/channels/{channel_id}/icons/{kind}"    [404, 200, 403] [
        "/channels/{channel_id}/icons/color",
        "/channels/{channel_id}/icons/outline?client_id={client_id}",
    ]
    // The media type is looked at before the channel.
    "PUT"    "/channels/{channel_id}/icons/{kind}"    [415, 415, 403] ["/channels/{channel_id}/icons/color x"]
    "DELETE" "/channels/{channel_id}/icons/{kind}"    [404, 204, 403] ["/channels/{channel_id}/icons/color"]
    "GET"    "/channels/{channel_id}/teams"           [404, 200, 403] [""]
    "GET"    "/channels/{channel_id}/installs"        [200, 200, 403] ["", "?page_size=1&cursor=x"]
    "POST"   "/channels/{channel_id}/installs"        [201, 201, 403] [
        r#"{"end_client_tenant_id": "{client_id}-d"}"#,
        r#"{"end_client_tenant_id": "{client_id}-d", "psa_company_id": "{own.psa_company_id}"}"#,
        r#"/channels/{own.channel_id}/installs {"end_client_tenant_id": "{client_id}-d", "psa_company_id": "{psa_company_id}"}"#,
    ]
    "DELETE" "/channels/{channel_id}/installs/{install_id}" [204, 204, 403] [
        "",
        "/channels/{own.channel_id}/installs/{install_id}",
        "/channels/{channel_id}/installs/{own.install_id}",
    ]
    "POST"   "/chat/sessions"                         [201, 201, 403] CREATIONS
    "GET"    "/chat/sessions"                         [200, 200, 403] [
        "?agent_id={agent_id}",
        "?channel_id={channel_id}&archived=all",
        "?end_company_id={psa_company_id}",
        "?end_company_id={psa_company_id}&channel_id={channel_id}&agent_id={agent_id}",
        "?client_id={client_id}",
        "?q=secret",
        "?external_id=secret-{client_id}&archived=all",
        "?end_user_id=secret-{client_id}",
        "?metadata.secret={client_id}",
        "?metadata.secret={client_id}&end_user_id=secret-{client_id}&q=person",
    ]
    "POST"   "/chat/sessions/resolve"                 [200, 200, 403] CREATIONS
    "GET"    "/chat/sessions/{session_id}"            [200, 200, 200] [""]
    "PATCH"  "/chat/sessions/{session_id}"            [200, 200, 403] [
        "{}",
        r#"{"title": "Taken over", "shared": true, "archived": true, "metadata": null}"#,
    ]
    "DELETE" "/chat/sessions/{session_id}"            [204, 204, 403] [""]
    "POST"   "/chat/sessions/{session_id}/reset"      [200, 200, 403] [""]
    "POST"   "/chat/sessions/{session_id}/messages"   [202, 202, 202] [
        r#"{"message": "Hello"}"#,
        r#"{"message": "Hello", "client_message_id": "known"}"#,
        r#"{"message": "Hello", "attachments": [{"blob_path": "x", "mime": "image/png"}]}"#,
        r#"/chat/sessions/{own.session_id}/messages {"message": "Hello", "attachments": [{"blob_path": "chat/attachments/{attachment_id}", "mime": "text/plain"}]}"#,
    ]
    "GET"    "/chat/sessions/{session_id}/messages"   [200, 200, 200] ["", "?order=desc&page_size=1"]
    "GET"    "/chat/sessions/{session_id}/turns/{chat_turn_id}" [200, 200, 200] [
        "",
        "/chat/sessions/{own.session_id}/turns/{chat_turn_id}?wait_seconds=60",
        "/chat/sessions/{session_id}/turns/{own.chat_turn_id}",
    ]
    "POST"   "/chat/sessions/{session_id}/attachments/upload-url" [201, 201, 201] [
        r#"{"content_type": "image/png"}"#,
        r#"{"content_type": "text/plain", "filename": "x.txt"}"#,
    ]
    // Forty-three letters are as long as a signature.
    "PUT"    "/chat/attachments/{attachment_id}"      [403, 403, 403] [
        " x",
        "?expires=9999999999&signature=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA x",
    ]
    "GET"    "/chat/attachments/{attachment_id}"      [403, 403, 403] [
        "",
        "?expires=9999999999&signature=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    ]
    "POST"   "/sessions"                              [201, 201, 403] [
        r#"{"session_id": "{session_id}"}"#,
        r#"{"session_id": "{session_id}", "ttl_seconds": 60, "end_company_id": "{own.psa_company_id}"}"#,
        r#"{"session_id": "{session_id}", "client_id": "{client_id}"}"#,
        r#"{"session_id": "{own.session_id}", "client_id": "{client_id}"}"#,
    ]
    "PATCH"  "/chat/sessions/{session_id}/messages/{message_id}" [200, 200, 200] [
        r#"{"message": "Taken over"}"#,
        r#"/chat/sessions/{own.session_id}/messages/{message_id} {"message": "Taken over"}"#,
        r#"/chat/sessions/{session_id}/messages/{own.message_id} {"message": "Taken over"}"#,
    ]
    // The caller's own question is being answered.
    "POST"   "/chat/sessions/{session_id}/messages/{message_id}/regenerate" [409, 409, 409] [
        "",
        "/chat/sessions/{own.session_id}/messages/{message_id}/regenerate",
        "/chat/sessions/{session_id}/messages/{own.message_id}/regenerate",
    ]
    // The message is the caller's own question, and only answers can be rated.
    "PUT"    "/chat/sessions/{session_id}/messages/{message_id}/feedback" [400, 400, 400] [
        r#"{"rating": "UP"}"#,
    ]
    "POST"   "/chat/sessions/{session_id}/cancel"     [200, 200, 200] [""]
    // The session is found before the cursor is read, and the cursor is malformed.
    "GET"    "/chat/sessions/{session_id}/events"     [400, 400, 400] ["?since=none"]
    "DELETE" "/sessions/{jti}"                        [204, 204, 403] [""]
    "GET"    "/end-companies"                         [200, 200, 403] [
        "?q={psa_company_id}",
        "?client_id={client_id}&q={psa_company_id}",
        "?tenant_id={inbound_tenant_id}",
    ]
    // The caller has a company of this id already.
    "POST"   "/end-companies"                         [409, 409, 403] [
        r#"{"psa_company_id": "{own.psa_company_id}", "psa_company_name": "Another", "tenant_id": "{inbound_tenant_id}", "client_id": "{client_id}"}"#,
    ]
    "GET"    "/end-companies/health"                  [200, 200, 403] ["?client_id={client_id}"]
    "GET"    "/end-companies/unlinked-tenants"        [200, 200, 403] ["", "?client_id={client_id}"]
    "DELETE" "/end-companies/unlinked-tenants/{inbound_tenant_id}" [204, 204, 403] [""]
    "GET"    "/end-companies/{psa_company_id}"        [200, 200, 403] [""]
    "PUT"    "/end-companies/{psa_company_id}"        [200, 200, 403] [
        r#"{"custom_instructions": "Taken over"}"#,
        r#"{"tenant_id": "{inbound_tenant_id}", "psa_company_name": null}"#,
        r#"{"psa_company_id": "another"}"#,
    ]
    "DELETE" "/end-companies/{psa_company_id}"        [204, 204, 403] [""]
};
