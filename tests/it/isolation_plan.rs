//! What the walk over the isolation asks of every route: a row a route.

use serde_json::{Value, json};

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

/// Things that nobody has.
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

/// How a route is asked for things; `own` is what the caller may name where a request needs something that works.
pub type Ask = fn(things: &Things, own: &Things) -> Vec<Request>;

/// A line of the walk: a route, who of the callers gets how far with its own things, and the questions.
pub struct Row {
    pub method: &'static str,
    pub path: &'static str,
    /// What its own things get: the relay, an MSP's account, a session's token.
    pub own: [u16; 3],
    pub ask: Ask,
}

fn get(path: String) -> Vec<Request> {
    vec![Request::new("GET", path)]
}

fn post(path: &str, bodies: impl IntoIterator<Item = Value>) -> Vec<Request> {
    let bodies = bodies.into_iter();
    bodies
        .map(|body| Request::new("POST", path).json(&body))
        .collect()
}

fn choices(things: &Things, own: &Things) -> [Value; 3] {
    [
        json!({ "agent_id": things.agent }),
        json!({ "agent_id": own.agent, "client_id": things.client_id }),
        json!({ "agent_id": things.agent, "end_company_id": things.company, "bot_id": "no-bot", "title": "x" }),
    ]
}

pub const PLAN: &[Row] = &[
    Row {
        method: "GET",
        path: "/health",
        own: [200; 3],
        ask: |_, _| get("/health".to_owned()),
    },
    Row {
        method: "GET",
        path: "/ready",
        own: [200; 3],
        ask: |_, _| get("/ready".to_owned()),
    },
    Row {
        method: "GET",
        path: "/auth/config",
        own: [200; 3],
        ask: |things, _| get(format!("/auth/config?client_id={}", things.client_id)),
    },
    Row {
        method: "POST",
        path: "/auth/exchange",
        own: [400; 3],
        ask: |things, _| post("/auth/exchange", [json!({ "client_id": things.client_id })]),
    },
    Row {
        method: "POST",
        path: "/auth/sign-out",
        own: [403; 3],
        ask: |_, _| vec![Request::new("POST", "/auth/sign-out")],
    },
    Row {
        method: "GET",
        path: "/whoami",
        own: [200; 3],
        ask: |things, _| get(format!("/whoami?client_id={}", things.client_id)),
    },
    Row {
        method: "GET",
        path: "/tenant",
        own: [200, 200, 403],
        ask: |things, _| get(format!("/tenant?client_id={}", things.client_id)),
    },
    Row {
        method: "GET",
        path: "/agents",
        own: [200, 200, 403],
        ask: |things, _| {
            get(format!(
                "/agents?client_id={}&q={}",
                things.client_id, things.agent
            ))
        },
    },
    Row {
        method: "GET",
        path: "/agents/{agent_id}",
        own: [200, 200, 403],
        ask: |things, _| get(format!("/agents/{}", things.agent)),
    },
    Row {
        method: "GET",
        path: "/openapi.json",
        own: [200; 3],
        ask: |_, _| get("/openapi.json".to_owned()),
    },
    Row {
        method: "GET",
        path: "/docs",
        own: [200; 3],
        ask: |_, _| get("/docs".to_owned()),
    },
    Row {
        method: "GET",
        path: "/docs/{file}",
        own: [200; 3],
        ask: |_, _| get("/docs/page.js".to_owned()),
    },
    Row {
        method: "POST",
        path: "/agents",
        own: [201, 201, 403],
        ask: |things, _| {
            post(
                "/agents",
                [
                    json!({ "name": "Another", "client_id": things.client_id, "agent_id": things.agent }),
                ],
            )
        },
    },
    Row {
        method: "PUT",
        path: "/agents/{agent_id}",
        // The relay's own is the managed one.
        own: [403, 200, 403],
        ask: |things, _| {
            let path = format!("/agents/{}", things.agent);
            [
                json!({ "description": "Taken over" }),
                json!({ "state": "DISABLED", "version": 1 }),
                json!({ "audience": "END_USER" }),
            ]
            .map(|body| Request::new("PUT", path.clone()).json(&body))
            .to_vec()
        },
    },
    Row {
        method: "GET",
        path: "/knowledge-articles",
        own: [200, 200, 403],
        ask: |things, _| {
            get(format!(
                "/knowledge-articles?agent_id={}&end_company_id={}",
                things.agent, things.company
            ))
        },
    },
    Row {
        method: "POST",
        path: "/knowledge-articles",
        own: [201, 201, 403],
        ask: |things, _| {
            post(
                "/knowledge-articles",
                [
                    json!({ "title": "For one agent", "body": "x", "agent_ids": [things.agent] }),
                    json!({ "title": "For one company", "body": "x", "end_company_id": things.company }),
                ],
            )
        },
    },
    Row {
        method: "GET",
        path: "/knowledge-articles/{article_id}",
        own: [404, 200, 403],
        ask: |things, _| get(format!("/knowledge-articles/{}", things.article)),
    },
    Row {
        method: "PUT",
        path: "/knowledge-articles/{article_id}",
        own: [404, 200, 403],
        ask: |things, _| {
            let request = Request::new("PUT", format!("/knowledge-articles/{}", things.article));
            vec![request.json(&json!({ "body": "Taken over" }))]
        },
    },
    Row {
        method: "DELETE",
        path: "/knowledge-articles/{article_id}",
        own: [404, 204, 403],
        ask: |things, _| {
            let path = format!("/knowledge-articles/{}", things.article);
            vec![Request::new("DELETE", path)]
        },
    },
    // A program makes itself no key and gives nobody a role.
    Row {
        method: "GET",
        path: "/api-keys",
        own: [403; 3],
        ask: |_, _| get("/api-keys".to_owned()),
    },
    Row {
        method: "POST",
        path: "/api-keys",
        own: [403; 3],
        ask: |_, _| post("/api-keys", [json!({ "name": "Mine" })]),
    },
    Row {
        method: "POST",
        path: "/api-keys/{key_id}/rotate",
        own: [403; 3],
        ask: |things, _| {
            let path = format!("/api-keys/{}/rotate", things.key);
            vec![Request::new("POST", path)]
        },
    },
    Row {
        method: "DELETE",
        path: "/api-keys/{key_id}",
        own: [403; 3],
        ask: |things, _| vec![Request::new("DELETE", format!("/api-keys/{}", things.key))],
    },
    Row {
        method: "GET",
        path: "/users",
        own: [403; 3],
        ask: |_, _| get("/users".to_owned()),
    },
    Row {
        method: "PATCH",
        path: "/users/{user_id}",
        own: [403; 3],
        ask: |things, _| {
            let request = Request::new("PATCH", format!("/users/{}", things.user));
            vec![request.json(&json!({ "role": "ADMIN" }))]
        },
    },
    // The platform manages every tenant.
    Row {
        method: "GET",
        path: "/tenants",
        own: [200, 403, 403],
        ask: |things, _| get(format!("/tenants?q={}", things.client_id)),
    },
    Row {
        method: "POST",
        path: "/tenants",
        own: [409, 403, 403],
        ask: |things, _| {
            post(
                "/tenants",
                [json!({ "client_id": things.client_id, "name": "Twice" })],
            )
        },
    },
    Row {
        method: "GET",
        path: "/tenants/{client_id}",
        own: [200, 403, 403],
        ask: |things, _| get(format!("/tenants/{}", things.client_id)),
    },
    Row {
        method: "PATCH",
        path: "/tenants/{client_id}",
        own: [200, 403, 403],
        ask: |things, _| {
            let request = Request::new("PATCH", format!("/tenants/{}", things.client_id));
            vec![request.json(&json!({ "name": "Taken over" }))]
        },
    },
    Row {
        method: "GET",
        path: "/stats",
        own: [200, 200, 403],
        ask: |things, _| get(format!("/stats?client_id={}", things.client_id)),
    },
    Row {
        method: "GET",
        path: "/audit-events",
        own: [200, 200, 403],
        // What was refused is recorded with its address, so that two requests never find the same events.
        ask: |things, _| get(format!("/audit-events?q={}-nothing", things.session)),
    },
    Row {
        method: "DELETE",
        path: "/agents/{agent_id}",
        // A channel uses it.
        own: [403, 409, 403],
        ask: |things, _| vec![Request::new("DELETE", format!("/agents/{}", things.agent))],
    },
    Row {
        method: "GET",
        path: "/channels",
        own: [200, 200, 403],
        ask: |things, _| {
            [
                format!("client_id={}", things.client_id),
                format!("agent_id={}", things.agent),
                "bot_id=b07be7a0-c0de-4bee-8ace-feed0be7a001&q=engineer".to_owned(),
            ]
            .map(|query| Request::new("GET", format!("/channels?{query}")))
            .to_vec()
        },
    },
    Row {
        method: "POST",
        path: "/channels",
        own: [201, 201, 403],
        ask: |things, _| {
            let named =
                json!({ "internal_name": "Another", "audience": "MSP", "agent_id": things.agent });
            let mut of_bot = named.clone();
            of_bot["bot_id"] = "b-1".into();
            of_bot["client_id"] = things.client_id.into();
            post("/channels", [named, of_bot])
        },
    },
    Row {
        method: "POST",
        path: "/channels/install-events",
        own: [200, 403, 403],
        ask: |things, _| {
            post(
                "/channels/install-events",
                [json!({ "bot_id": "b-1", "end_client_tenant_id": things.client_id })],
            )
        },
    },
    Row {
        method: "GET",
        path: "/channels/{channel_id}",
        // The relay's is Northwind's: it is installed, and neither read nor changed.
        own: [404, 200, 403],
        ask: |things, _| get(format!("/channels/{}", things.channel)),
    },
    Row {
        method: "PATCH",
        path: "/channels/{channel_id}",
        own: [404, 200, 403],
        ask: |things, own| {
            let path = format!("/channels/{}", things.channel);
            let mut asked = [
                json!({ "description": "Taken over" }),
                json!({ "audience": "MSP" }),
                json!({ "internal_name": "Taken over", "agent_id": own.helper, "bot_id": null }),
            ]
            .map(|body| Request::new("PATCH", path.clone()).json(&body))
            .to_vec();
            let own = format!("/channels/{}", own.channel);
            let agent = json!({ "agent_id": things.helper });
            asked.push(Request::new("PATCH", own).json(&agent));
            asked
        },
    },
    Row {
        method: "DELETE",
        path: "/channels/{channel_id}",
        own: [404, 204, 403],
        ask: |things, _| {
            vec![Request::new(
                "DELETE",
                format!("/channels/{}", things.channel),
            )]
        },
    },
    Row {
        method: "GET",
        path: "/channels/{channel_id}/installs",
        own: [200, 200, 403],
        ask: |things, _| {
            let path = format!("/channels/{}/installs", things.channel);
            [path.clone(), format!("{path}?page_size=1&cursor=x")]
                .map(|path| Request::new("GET", path))
                .to_vec()
        },
    },
    Row {
        method: "POST",
        path: "/channels/{channel_id}/installs",
        own: [201, 201, 403],
        ask: |things, own| {
            let directory = format!("{}-d", things.client_id);
            let mut asked = post(
                &format!("/channels/{}/installs", things.channel),
                [
                    json!({ "end_client_tenant_id": directory }),
                    json!({ "end_client_tenant_id": directory, "psa_company_id": own.company }),
                ],
            );
            asked.extend(post(
                &format!("/channels/{}/installs", own.channel),
                [json!({ "end_client_tenant_id": directory, "psa_company_id": things.company })],
            ));
            asked
        },
    },
    Row {
        method: "DELETE",
        path: "/channels/{channel_id}/installs/{install_id}",
        own: [204, 204, 403],
        ask: |things, own| {
            [
                format!("/channels/{}/installs/{}", things.channel, things.install),
                format!("/channels/{}/installs/{}", own.channel, things.install),
                format!("/channels/{}/installs/{}", things.channel, own.install),
            ]
            .map(|path| Request::new("DELETE", path))
            .to_vec()
        },
    },
    Row {
        method: "POST",
        path: "/chat/sessions",
        own: [201, 201, 403],
        ask: |things, own| {
            let mut asked = post("/chat/sessions", choices(things, own));
            asked.extend(post(
                "/chat/sessions",
                [json!({ "agent_id": own.helper, "end_company_id": things.company })],
            ));
            asked
        },
    },
    Row {
        method: "GET",
        path: "/chat/sessions",
        own: [200, 200, 403],
        ask: |things, _| {
            let Things {
                agent,
                channel,
                company,
                client_id,
                ..
            } = things;
            [
                format!("agent_id={agent}"),
                format!("channel_id={channel}&archived=all"),
                format!("end_company_id={company}"),
                format!("end_company_id={company}&channel_id={channel}&agent_id={agent}"),
                format!("client_id={client_id}"),
                "q=secret".to_owned(),
            ]
            .map(|query| Request::new("GET", format!("/chat/sessions?{query}")))
            .to_vec()
        },
    },
    Row {
        method: "POST",
        path: "/chat/sessions/resolve",
        own: [200, 200, 403],
        ask: |things, own| {
            let mut asked = post("/chat/sessions/resolve", choices(things, own));
            asked.extend(post(
                "/chat/sessions/resolve",
                [json!({ "agent_id": own.helper, "end_company_id": things.company })],
            ));
            asked
        },
    },
    Row {
        method: "GET",
        path: "/chat/sessions/{session_id}",
        own: [200; 3],
        ask: |things, _| get(format!("/chat/sessions/{}", things.session)),
    },
    Row {
        method: "PATCH",
        path: "/chat/sessions/{session_id}",
        own: [200, 200, 403],
        ask: |things, _| {
            let path = format!("/chat/sessions/{}", things.session);
            [json!({}), json!({ "title": "Taken over", "shared": true, "archived": true, "metadata": null })]
                .map(|body| Request::new("PATCH", path.clone()).json(&body))
                .to_vec()
        },
    },
    Row {
        method: "DELETE",
        path: "/chat/sessions/{session_id}",
        own: [204, 204, 403],
        ask: |things, _| {
            vec![Request::new(
                "DELETE",
                format!("/chat/sessions/{}", things.session),
            )]
        },
    },
    Row {
        method: "POST",
        path: "/chat/sessions/{session_id}/reset",
        own: [200, 200, 403],
        ask: |things, _| {
            vec![Request::new(
                "POST",
                format!("/chat/sessions/{}/reset", things.session),
            )]
        },
    },
    Row {
        method: "POST",
        path: "/chat/sessions/{session_id}/messages",
        own: [202; 3],
        ask: |things, own| {
            let path = format!("/chat/sessions/{}/messages", things.session);
            let blob_path = format!("chat/attachments/{}", things.attachment);
            let file = json!({ "blob_path": blob_path, "mime": "text/plain" });
            let mut asked = post(
                &path,
                [
                    json!({ "message": "Hello" }),
                    json!({ "message": "Hello", "client_message_id": "known" }),
                    json!({ "message": "Hello", "attachments": [{ "blob_path": "x", "mime": "image/png" }] }),
                ],
            );
            asked.extend(post(
                &format!("/chat/sessions/{}/messages", own.session),
                [json!({ "message": "Hello", "attachments": [file] })],
            ));
            asked
        },
    },
    Row {
        method: "GET",
        path: "/chat/sessions/{session_id}/messages",
        own: [200; 3],
        ask: |things, _| {
            let path = format!("/chat/sessions/{}/messages", things.session);
            [path.clone(), format!("{path}?order=desc&page_size=1")]
                .map(|path| Request::new("GET", path))
                .to_vec()
        },
    },
    Row {
        method: "GET",
        path: "/chat/sessions/{session_id}/turns/{chat_turn_id}",
        own: [200; 3],
        ask: |things, own| {
            [
                format!("/chat/sessions/{}/turns/{}", things.session, things.turn),
                format!(
                    "/chat/sessions/{}/turns/{}?wait_seconds=60",
                    own.session, things.turn
                ),
                format!("/chat/sessions/{}/turns/{}", things.session, own.turn),
            ]
            .map(|path| Request::new("GET", path))
            .to_vec()
        },
    },
    Row {
        method: "POST",
        path: "/chat/sessions/{session_id}/attachments/upload-url",
        own: [201; 3],
        ask: |things, _| {
            post(
                &format!("/chat/sessions/{}/attachments/upload-url", things.session),
                [
                    json!({ "content_type": "image/png" }),
                    json!({ "content_type": "text/plain", "filename": "x.txt" }),
                ],
            )
        },
    },
    Row {
        method: "PUT",
        path: "/chat/attachments/{attachment_id}",
        own: [403; 3],
        ask: |things, _| {
            let path = format!("/chat/attachments/{}", things.attachment);
            [
                path.clone(),
                format!("{path}?expires=9999999999&signature={}", "A".repeat(43)),
            ]
            .map(|path| Request::new("PUT", path).bytes("x"))
            .to_vec()
        },
    },
    Row {
        method: "GET",
        path: "/chat/attachments/{attachment_id}",
        own: [403; 3],
        ask: |things, _| {
            let path = format!("/chat/attachments/{}", things.attachment);
            [
                path.clone(),
                format!("{path}?expires=9999999999&signature={}", "A".repeat(43)),
            ]
            .map(|path| Request::new("GET", path))
            .to_vec()
        },
    },
    Row {
        method: "POST",
        path: "/sessions",
        own: [201, 201, 403],
        ask: |things, own| {
            post(
                "/sessions",
                [
                    json!({ "session_id": things.session }),
                    json!({ "session_id": things.session, "ttl_seconds": 60, "end_company_id": own.company }),
                    json!({ "session_id": things.session, "client_id": things.client_id }),
                    json!({ "session_id": own.session, "client_id": things.client_id }),
                ],
            )
        },
    },
    Row {
        method: "PUT",
        path: "/chat/sessions/{session_id}/messages/{message_id}/feedback",
        // One's own question is found, and is no answer.
        own: [400; 3],
        ask: |things, _| {
            let path = format!(
                "/chat/sessions/{}/messages/{}/feedback",
                things.session, things.message
            );
            vec![Request::new("PUT", path).json(&json!({ "rating": "UP" }))]
        },
    },
    Row {
        method: "POST",
        path: "/chat/sessions/{session_id}/cancel",
        own: [200; 3],
        ask: |things, _| {
            vec![Request::new(
                "POST",
                format!("/chat/sessions/{}/cancel", things.session),
            )]
        },
    },
    Row {
        method: "GET",
        path: "/chat/sessions/{session_id}/events",
        // One's own session is found before the cursor is read, and the cursor is none.
        own: [400; 3],
        ask: |things, _| {
            get(format!(
                "/chat/sessions/{}/events?since=none",
                things.session
            ))
        },
    },
    Row {
        method: "DELETE",
        path: "/sessions/{jti}",
        own: [204, 204, 403],
        ask: |things, _| {
            vec![Request::new(
                "DELETE",
                format!("/sessions/{}", things.token),
            )]
        },
    },
    Row {
        method: "GET",
        path: "/end-companies",
        own: [200, 200, 403],
        ask: |things, _| {
            [
                format!("q={}", things.company),
                format!("client_id={}&q={}", things.client_id, things.company),
                format!("tenant_id={}", things.directory),
            ]
            .map(|query| Request::new("GET", format!("/end-companies?{query}")))
            .to_vec()
        },
    },
    Row {
        method: "POST",
        path: "/end-companies",
        // There is one of its own.
        own: [409, 409, 403],
        ask: |things, own| {
            post(
                "/end-companies",
                [json!({
                    "psa_company_id": own.company, "psa_company_name": "Another", "tenant_id": things.directory,
                    "client_id": things.client_id,
                })],
            )
        },
    },
    Row {
        method: "GET",
        path: "/end-companies/health",
        own: [200, 200, 403],
        ask: |things, _| {
            get(format!(
                "/end-companies/health?client_id={}",
                things.client_id
            ))
        },
    },
    Row {
        method: "GET",
        path: "/end-companies/unlinked-tenants",
        own: [200, 200, 403],
        ask: |things, _| {
            get(format!(
                "/end-companies/unlinked-tenants?client_id={}",
                things.client_id
            ))
        },
    },
    Row {
        method: "DELETE",
        path: "/end-companies/unlinked-tenants/{inbound_tenant_id}",
        own: [204, 204, 403],
        ask: |things, _| {
            vec![Request::new(
                "DELETE",
                format!("/end-companies/unlinked-tenants/{}", things.directory),
            )]
        },
    },
    Row {
        method: "GET",
        path: "/end-companies/{psa_company_id}",
        own: [200, 200, 403],
        ask: |things, _| get(format!("/end-companies/{}", things.company)),
    },
    Row {
        method: "PUT",
        path: "/end-companies/{psa_company_id}",
        own: [200, 200, 403],
        ask: |things, _| {
            let path = format!("/end-companies/{}", things.company);
            [
                json!({ "custom_instructions": "Taken over" }),
                json!({ "tenant_id": things.directory, "psa_company_name": null }),
                json!({ "psa_company_id": "another" }),
            ]
            .map(|body| Request::new("PUT", path.clone()).json(&body))
            .to_vec()
        },
    },
    Row {
        method: "DELETE",
        path: "/end-companies/{psa_company_id}",
        own: [204, 204, 403],
        ask: |things, _| {
            vec![Request::new(
                "DELETE",
                format!("/end-companies/{}", things.company),
            )]
        },
    },
];
