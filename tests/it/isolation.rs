//! What is somebody else's is, byte for byte, what does not exist: every route, asked by every kind of caller.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use switchboard::auth::api_key;
use switchboard::http::router;
use switchboard::store::keys;

use crate::support::{Actor, CONTOSO, SHARED_BOT, Server, TAILSPIN, WOODGROVE, from, technician};
use crate::wire::{Reply, Request};

/// One of each kind of thing that a request can name.
#[derive(Clone, Debug)]
struct Things {
    session: String,
    turn: String,
    message: String,
    attachment: String,
    token: String,
    channel: String,
    article: String,
    key: String,
    user: String,
    install: String,
    agent: i64,
    /// The agent that talks to companies.
    helper: i64,
    company: &'static str,
    client_id: &'static str,
    /// The M365 tenant that was refused.
    directory: String,
}

/// Things that nobody has.
fn absent() -> Things {
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
fn lost_at(client_id: &str) -> String {
    format!("lost-{client_id}")
}

/// How a route is asked for things; `own` is what the caller may name where a request needs something that works.
type Ask = fn(things: &Things, own: &Things) -> Vec<Request>;

/// A line of the walk: a route, who of the callers gets how far with its own things, and the questions.
struct Row {
    method: &'static str,
    path: &'static str,
    /// What its own things get: the relay, an MSP's account, a session's token.
    own: [u16; 3],
    ask: Ask,
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

const PLAN: &[Row] = &[
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

/// All of a reply but its request id, its time and the name of what it made: no reply tells what was asked for.
fn told(reply: &Reply) -> (u16, Vec<(String, String)>, String) {
    let mut body = reply.text();
    let mut headers = reply.headers.clone();
    // Whether a connection is kept over a body that nobody read hangs on when the reply was written, not on what was asked for.
    const OF_THE_MOMENT: [&str; 4] = ["x-request-id", "date", "content-length", "connection"];
    headers.retain(|(name, _)| !OF_THE_MOMENT.contains(&name.as_str()));
    if let Ok(json) = serde_json::from_slice::<Value>(&reply.body) {
        let request_id = json["meta"]["request_id"].as_str().unwrap_or("<none>");
        body = body.replace(request_id, "<request_id>");
        body = body.replace(&json["meta"]["timings_ms"].to_string(), "<timings>");
        if reply.status == 201 {
            body = body.replace(json["data"]["id"].as_str().unwrap_or("<none>"), "<made>");
            headers.retain(|(name, _)| name != "location");
        }
    }
    headers.sort();
    (reply.status, headers, body)
}

/// Makes a session with a secret message, and a token for it.
fn things_of(
    actor: &Actor,
    body: Value,
    agent: i64,
    company: &'static str,
    client_id: &'static str,
) -> Things {
    let session = actor.session(body);
    let said = actor
        .appends(
            &session,
            json!({ "message": "A secret", "client_message_id": "known" }),
        )
        .expect(202)
        .data();
    let waiting = actor.puts_up(&session, "text/plain", b"A secret");
    let minted = actor
        .mints(json!({ "session_id": session }))
        .expect(201)
        .data();
    Things {
        turn: said["chat_turn_id"].as_str().unwrap().to_owned(),
        message: said["user_message_id"].as_str().unwrap().to_owned(),
        attachment: waiting
            .strip_prefix("chat/attachments/")
            .unwrap()
            .to_owned(),
        token: minted["jti"].as_str().unwrap().to_owned(),
        session,
        channel: absent().channel,
        article: actor.gets("/knowledge-articles").expect(200).data()[0]["id"]
            .as_str()
            .map_or_else(|| absent().article, str::to_owned),
        key: absent().key,
        user: absent().user,
        install: absent().install,
        agent,
        helper: agent - 1,
        company,
        directory: lost_at(client_id),
        client_id,
    }
}

/// Everybody who asks, and whose things they must not see.
struct Stage {
    server: Server,
    northwinds: Things,
    fabrikams: Things,
    relays: Things,
    other_platforms: Things,
}

const OTHER_PLATFORM: &str = "neo_sk_demo_otherplatform00";
/// As text; what is random in an id has no meaning here, but its version and variant.
const KEY_OF_NORTHWIND: &str = "
SELECT 'key_' || lower(substr(hex(id), 1, 8) || '-' || substr(hex(id), 9, 4) || '-' || substr(hex(id), 13, 4) || '-'
                       || substr(hex(id), 17, 4) || '-' || substr(hex(id), 21))
FROM api_keys k JOIN tenants t USING (tenant_no) WHERE t.client_id = 'northwind-it' ORDER BY k.seq LIMIT 1";
const USER_OF_NORTHWIND: &str = "
SELECT user_id FROM users u JOIN tenants t USING (tenant_no) WHERE t.client_id = 'northwind-it' ORDER BY u.seq LIMIT 1";
const SPENT: &str = "neo_sk_demo_spent0000000000";

impl Stage {
    fn new() -> Self {
        let server = Server::demo();
        server.changes(
            "fabrikam-support",
            json!({
                "rate_limit_per_minute": 0,
                "api_keys": [{ "name": "Their relay", "key": OTHER_PLATFORM, "platform": true }],
            }),
        );
        server.changes(
            "northwind-it",
            json!({ "api_keys": [{ "name": "Spent", "key": SPENT }] }),
        );
        server.changes(
            "relay-platform",
            json!({ "end_companies": [{ "psa_company_id": "RELAY-01", "psa_company_name": "Relay" }] }),
        );
        server.tampers(
            "INSERT INTO unlinked_tenants (tenant_no, m365_tenant_id, seq, attempts, first_seen_at, last_seen_at)
             SELECT tenant_no, 'lost-' || client_id, seq, 1, 0, 0 FROM tenants",
        );
        let sha256 = api_key::sha256(SPENT);
        let spent = server
            .app
            .store
            .read(|reader| keys::by_sha256(reader, &sha256))
            .unwrap()
            .unwrap()
            .key
            .id;
        server
            .app
            .store
            .write_now(move |tx| keys::revoke(tx, spent))
            .unwrap();

        let (relay, other) = (server.relay(), server.holder_of(OTHER_PLATFORM));
        let channel = |actor: &Actor, directory: &str| {
            let told = actor.asks_who_answers(from(directory)).expect(200).data();
            told["channel_id"].as_str().unwrap().to_owned()
        };
        let (of_northwind, of_fabrikam) = (channel(&relay, CONTOSO), channel(&relay, WOODGROVE));
        let mut northwinds = things_of(
            &server.northwind(),
            technician(),
            102,
            "1001",
            "northwind-it",
        );
        northwinds.channel.clone_from(&of_northwind);
        northwinds.install = server.install_of(CONTOSO);
        let own_agent = json!({ "agent_id": 202 });
        let mut fabrikams = things_of(
            &server.fabrikam(),
            own_agent,
            202,
            "WOOD-01",
            "fabrikam-support",
        );
        fabrikams.channel.clone_from(&of_fabrikam);
        northwinds.key = server.stored::<String>(KEY_OF_NORTHWIND);
        northwinds.user = server.stored::<String>(USER_OF_NORTHWIND);
        let installs = server
            .fabrikam()
            .gets(&format!("/channels/{of_fabrikam}/installs"));
        fabrikams.install = installs.expect(200).ids().swap_remove(0);
        let managed = relay.gets("/agents").expect(200).data()[0]["agent_id"]
            .as_i64()
            .unwrap();
        let mut relays = things_of(&relay, from(CONTOSO), managed, "RELAY-01", "relay-platform");
        relays.helper = managed;
        relays.channel.clone_from(&of_northwind);
        relays.install = server.install_of(TAILSPIN);
        let mut other_platforms = things_of(&other, from(CONTOSO), 102, "1001", "northwind-it");
        other_platforms.channel.clone_from(&of_northwind);
        other_platforms.article.clone_from(&northwinds.article);
        other_platforms.install = server.install_of(TAILSPIN);
        Self {
            server,
            northwinds,
            fabrikams,
            relays,
            other_platforms,
        }
    }
}

/// Whether a request names a tenant, which is no secret to the platform.
fn names_a_tenant(request: &Request, things: &Things) -> bool {
    let body = String::from_utf8_lossy(request.body.as_deref().unwrap_or_default()).into_owned();
    request
        .target
        .contains(&format!("client_id={}", things.client_id))
        || request.target.starts_with("/tenants")
        || body.contains("\"client_id\"")
}

#[test]
fn the_plan_covers_the_table() {
    let table = router::table();
    let routes: BTreeSet<(String, &str)> = table
        .iter()
        .map(|row| (row.method.to_string(), row.path))
        .collect();
    let planned: BTreeSet<(String, &str)> = PLAN
        .iter()
        .map(|row| (row.method.to_owned(), row.path))
        .collect();
    assert_eq!(
        planned, routes,
        "every route needs a row in the plan of this walk, and no other"
    );
    assert_eq!(PLAN.len(), table.len());
}

#[test]
fn a_foreign_thing_is_told_from_an_absent_one_by_nobody() {
    let stage = Stage::new();
    let server = &stage.server;
    let guest = server.northwind().guest_of(&stage.northwinds.session);
    // Another session of the guest's own tenant is as foreign to it.
    let neighbours = things_of(
        &server.northwind(),
        technician(),
        102,
        "1001",
        "northwind-it",
    );
    let callers: [(&str, Actor, Things, Vec<&Things>); 8] = [
        (
            "the relay",
            server.relay(),
            stage.relays.clone(),
            vec![&stage.northwinds, &stage.fabrikams, &stage.other_platforms],
        ),
        (
            "another tenant's platform account",
            server.holder_of(OTHER_PLATFORM),
            stage.fabrikams.clone(),
            vec![&stage.northwinds, &stage.relays],
        ),
        (
            "Northwind",
            server.northwind(),
            stage.northwinds.clone(),
            vec![&stage.fabrikams],
        ),
        (
            "Fabrikam",
            server.fabrikam(),
            stage.fabrikams.clone(),
            vec![&stage.northwinds, &stage.relays, &stage.other_platforms],
        ),
        (
            "a guest",
            guest,
            stage.northwinds.clone(),
            vec![&stage.fabrikams, &stage.relays, &neighbours],
        ),
        (
            "a revoked key",
            server.holder_of(SPENT),
            stage.northwinds.clone(),
            vec![&stage.northwinds, &stage.fabrikams],
        ),
        (
            "an unknown key",
            server.holder_of("neo_sk_demo_unknown00"),
            stage.northwinds.clone(),
            vec![&stage.northwinds, &stage.fabrikams],
        ),
        (
            "nobody",
            server.anyone(),
            stage.northwinds.clone(),
            vec![&stage.northwinds, &stage.fabrikams],
        ),
    ];
    let kept = |things: &Things| -> Vec<Value> {
        let owner = if things.client_id == "fabrikam-support" {
            server.fabrikam()
        } else {
            server.northwind()
        };
        let path = format!("/chat/sessions/{}", things.session);
        [
            path.clone(),
            format!("{path}/messages"),
            format!("{path}/turns/{}", things.turn),
            "/channels".to_owned(),
            "/end-companies".to_owned(),
            "/end-companies/unlinked-tenants".to_owned(),
        ]
        .map(|path| owner.gets(&path).expect(200).data())
        .to_vec()
    };
    let all = [
        &stage.northwinds,
        &stage.fabrikams,
        &stage.relays,
        &stage.other_platforms,
        &neighbours,
    ];
    let before: Vec<_> = all.iter().map(|things| kept(things)).collect();
    let mut compared = 0;
    for (name, caller, own, foreigners) in &callers {
        let is_platform = name.contains("relay") || name.contains("platform");
        for foreign in foreigners {
            let nothing = absent();
            for row in PLAN {
                let asked = (row.ask)(foreign, own)
                    .into_iter()
                    .zip((row.ask)(&nothing, own));
                for (of_foreign, of_absent) in asked {
                    if is_platform && names_a_tenant(&of_foreign, foreign) {
                        continue;
                    }
                    if is_platform && row.path.contains("/installs") {
                        // The platform manages anyone's.
                        continue;
                    }
                    let (one, other) = (caller.sends(of_foreign.clone()), caller.sends(of_absent));
                    assert_eq!(
                        told(&one),
                        told(&other),
                        "{name}: {} {} of {foreign:?}",
                        of_foreign.method,
                        of_foreign.target
                    );
                    compared += 1;
                }
            }
        }
    }
    assert!(compared > 500, "only {compared} pairs were compared");
    let after: Vec<_> = all.iter().map(|things| kept(things)).collect();
    assert_eq!(after, before, "nobody changed what is not theirs");
}

#[test]
fn everybody_gets_as_far_with_their_own_things_as_the_contract_says() {
    for row in PLAN {
        let without = match row.path {
            "/health" | "/ready" | "/openapi.json" | "/docs" | "/docs/{file}" | "/auth/config" => {
                200
            }
            "/auth/exchange" => 400,
            // A link needs no credential, but a signature.
            "/chat/attachments/{attachment_id}" => 403,
            _ => 401,
        };
        // What one row does must not stand in another's way.
        let stage = Stage::new();
        let server = &stage.server;
        let relay = server.relay();
        let at_home = relay.session(json!({ "managed_agent_key": "NEO_SUPPORT" }));
        let said = relay.says(&at_home, "Hello").expect(202).data();
        let mut relays = stage.relays.clone();
        relays.session = at_home;
        relays.turn = said["chat_turn_id"].as_str().unwrap().to_owned();
        relays.message = said["user_message_id"].as_str().unwrap().to_owned();
        let guest = server.northwind().guest_of(&stage.northwinds.session);
        let spent = server.holder_of(SPENT);
        let nobody = server.anyone();
        for (caller, own, status) in [
            (&spent, &stage.northwinds, without),
            (&nobody, &stage.northwinds, without),
            (&guest, &stage.northwinds, row.own[2]),
            (&server.northwind(), &stage.northwinds, row.own[1]),
            (&server.fabrikam(), &stage.fabrikams, row.own[1]),
            (&relay, &relays, row.own[0]),
        ] {
            let first = (row.ask)(own, own).swap_remove(0);
            let path = first.target.clone();
            let reply = caller.sends(first);
            assert_eq!(
                reply.status,
                status,
                "{} {path} by {own:?}: {}",
                row.method,
                reply.text()
            );
        }
    }
}

#[test]
fn a_dry_run_hides_where_another_msps_bot_is_installed() {
    let server = Server::demo();
    let northwind = server.northwind();
    let ask = |agent: i64| {
        let body =
            json!({ "agent_id": agent, "bot_id": SHARED_BOT, "inbound_tenant_id": WOODGROVE });
        northwind.asks_who_answers(body)
    };
    let expected = told(&northwind.asks_who_answers(json!({ "agent_id": 987_654 })));
    for agent in [102, 201, 987_654] {
        assert_eq!(told(&ask(agent)), expected);
    }
}
