//! Rules for every call: the two shapes of a reply, sizes, types, ids, cursors, order of checks.

use serde_json::{Value, json};
use switchboard::http::edge::router;
use uuid::Uuid;

use crate::support::{
    CONTOSO, MINUTE, NORTHWIND, Server, TECHNICIAN_BOT, agent, from, not_found, technician,
};
use crate::wire::{Connection, Reply, Request};

/// The maximum size of a JSON body in bytes.
const MOST_BYTES: usize = 256 * 1_024;
/// The id of a session that does not exist.
const ABSENT_SESSION: &str = "ses_019ab697-e807-7000-8000-000000000000";

/// The reply's JSON without its request id and time, which are checked.
#[track_caller]
fn checked(reply: &Reply) -> Value {
    assert_eq!(reply.header("content-type"), Some("application/json"));
    let mut json = reply.json();
    let meta = json["meta"].as_object_mut().unwrap();
    let request_id = meta.remove("request_id").unwrap();
    assert_eq!(reply.header("x-request-id"), request_id.as_str());
    let request_id = request_id.as_str().unwrap();
    assert_eq!(Uuid::parse_str(request_id).unwrap().to_string(), request_id);
    if let Some(timings) = meta.remove("timings_ms") {
        let timings = timings.as_object().unwrap();
        assert_eq!(timings.len(), 1);
        assert!(timings["total"].as_f64().unwrap() >= 0.0);
    }
    json
}

#[test]
fn a_success_is_data_and_meta() {
    let server = Server::demo();
    let reply = server.northwind().get("/tenant").expect(200);
    assert!(reply.json()["meta"]["timings_ms"]["total"].is_number());
    assert_eq!(
        checked(&reply),
        json!({
            "data": {
                "client_id": "northwind-it",
                "name": "Northwind IT",
                "entra_tenant_id": "ab0de0a1-fa00-4c1a-9cab-ab0de000a1fa",
                "retention_days": null,
                "website_url": null,
                "privacy_url": null,
                "terms_url": null,
                "created_at": "2025-11-24T16:00:00.000Z",
            },
            "meta": { "warnings": [] },
        })
    );
}

#[test]
fn a_list_has_its_pagination_in_meta() {
    let server = Server::demo();
    let northwind = server.northwind();
    let reply = northwind.list_sessions("").expect(200);
    assert_eq!(
        checked(&reply),
        json!({
            "data": [],
            "meta": { "warnings": [], "pagination": { "has_more": false, "next_cursor": null } },
        })
    );
    northwind.session(technician());
    northwind.session(technician());
    let meta =
        northwind.list_sessions("page_size=1").expect(200).json()["meta"]["pagination"].clone();
    assert_eq!(meta["has_more"], true);
    assert!(meta["next_cursor"].is_string());
}

#[test]
fn a_refusal_is_error_and_meta() {
    let server = Server::demo();
    let reply = server.northwind().read_session(ABSENT_SESSION).expect(404);
    assert!(reply.json()["meta"].get("timings_ms").is_none());
    assert_eq!(checked(&reply), json!({ "error": not_found(), "meta": {} }));
}

#[test]
fn an_ignored_field_is_a_warning() {
    let server = Server::demo();
    let reply = server
        .northwind()
        .create_session(json!({ "agent_id": 102, "bot_id": "some bot", "end_company_id": "1001" }))
        .expect(201);
    assert_eq!(
        reply.json()["meta"]["warnings"],
        json!([
            "bot_id and inbound_tenant_id were ignored: they route only a platform service account.",
            "end_company_id was ignored: an agent with the audience MSP serves no client company.",
        ])
    );
}

#[test]
fn a_request_id_that_is_a_uuid_is_adopted_and_any_other_is_replaced() {
    let server = Server::demo();
    let anonymous = server.anonymous();
    let asked = |path: &str, id: &str| {
        let reply = anonymous.send(Request::new("GET", path).header("x-request-id", id));
        let told = reply.header("x-request-id").unwrap().to_owned();
        assert_eq!(reply.json()["meta"]["request_id"], told.as_str());
        told
    };
    let id = "0d1e2f30-4152-4637-8899-aabbccddeeff";
    for path in ["/health", "/whoami", "/nowhere"] {
        assert_eq!(asked(path, id), id);
    }
    for other in [
        "",
        "x",
        "0d1e2f30-4152-4637-8899-aabbccddeef",
        "'; --",
        "\u{e9}",
    ] {
        let made = asked("/health", other);
        assert!(Uuid::parse_str(&made).is_ok());
        assert_ne!(made, other);
    }
    assert_ne!(asked("/health", "x"), asked("/health", "x"));
}

#[test]
fn every_reply_has_a_request_id_even_without_a_body() {
    let server = Server::with_world(
        crate::support::DEMO,
        &["--cors-origin=https://portal.example"],
    );
    let northwind = server.northwind();
    let session = northwind.session(technician());
    let gone = northwind.delete_session(&session).expect(204);
    assert!(gone.body.is_empty());
    let preflight = server
        .anonymous()
        .send(
            Request::new("OPTIONS", "/chat/sessions")
                .header("origin", "https://portal.example")
                .header("access-control-request-method", "POST"),
        )
        .expect(204);
    for reply in [gone, preflight] {
        assert!(Uuid::parse_str(reply.header("x-request-id").unwrap()).is_ok());
    }
}

#[test]
fn every_path_is_served_below_the_prefix_and_without_it() {
    let server = Server::demo();
    let northwind = server.northwind();
    for path in [
        "/health",
        "/ready",
        "/whoami",
        "/tenant",
        "/agents",
        "/agents/102",
        "/chat/sessions",
    ] {
        let with = northwind
            .send(Request::new("GET", format!("/public-api{path}")))
            .expect(200);
        let without = northwind.send(Request::new("GET", path)).expect(200);
        assert_eq!(checked(&with), checked(&without), "{path}");
    }
    for prefix in ["/public-api", ""] {
        let made = northwind
            .send(Request::new("POST", format!("{prefix}/chat/sessions")).json(&technician()))
            .expect(201);
        let location = format!("/public-api/chat/sessions/{}", made.id());
        assert_eq!(made.header("location"), Some(location.as_str()));
        northwind.send(Request::new("GET", location)).expect(200);
        let path = format!("{prefix}/chat/sessions/{}", made.id());
        northwind.send(Request::new("DELETE", path)).expect(204);
    }
}

#[test]
fn an_unknown_route_is_a_404_for_every_caller() {
    let server = Server::demo();
    for client in [
        server.northwind(),
        server.anonymous(),
        server.with_credential("nonsense"),
    ] {
        for path in [
            "/public-api",
            "/public-api/",
            "/public-api/public-api/whoami",
            "/Whoami",
            "/Whoami/",
            "/chat",
            "/chat/sessions/a/b",
            "/sessions/a/b",
            "/robots.txt",
            "/%",
            "/%00",
            "/chat/sessions/%2e%2e/tenant",
        ] {
            for method in ["GET", "POST", "DELETE", "PATCH", "PUT", "OPTIONS"] {
                if (method, path) == ("OPTIONS", "/") {
                    continue;
                }
                let reply = client.send(Request::new(method, path));
                assert_eq!(
                    checked(&reply),
                    json!({ "error": not_found(), "meta": {} }),
                    "{method} {path}"
                );
                assert_eq!(reply.status, 404);
            }
        }
    }
}

#[test]
fn a_wrong_method_gets_the_list_of_allowed_ones() {
    let server = Server::demo();
    let anonymous = server.anonymous();
    for row in router::table() {
        let mut allow = Vec::new();
        for other in router::table()
            .iter()
            .filter(|other| other.path == row.path)
        {
            allow.push(other.method.as_str().to_owned());
            if other.method == "GET" {
                allow.push("HEAD".to_owned());
            }
        }
        allow.push("OPTIONS".to_owned());
        let path = row.path.replace(['{', '}'], "");
        for method in [
            "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW",
        ] {
            if allow.iter().any(|allowed| allowed == method) {
                continue;
            }
            let reply = anonymous.send(Request::new(method, format!("/public-api{path}")));
            let allowed = allow.join(", ");
            assert_eq!(
                reply.header("allow"),
                Some(allowed.as_str()),
                "{method} {path}"
            );
            if method == "HEAD" {
                assert_eq!(reply.status, 405);
                continue;
            }
            assert_eq!(
                checked(&reply.refused(405, "method_not_allowed")),
                json!({
                    "error": {
                        "code": "method_not_allowed",
                        "message": "This path does not support that method. Use one of the methods in the Allow header.",
                    },
                    "meta": {},
                })
            );
        }
    }
}

#[test]
fn a_body_that_is_not_a_json_object_is_refused() {
    let server = Server::demo();
    let northwind = server.northwind();
    let post = || Request::new("POST", "/chat/sessions");
    for body in [
        "",
        " ",
        "{",
        "{\"agent_id\": 102",
        "{'agent_id': 102}",
        "nul",
        "{} {}",
        "{\"a\":1,}",
    ] {
        let reply = northwind
            .send(post().text(body))
            .refused(400, "validation_error");
        let details = &reply.error()["details"];
        assert_eq!(details["field"], "body", "{body}");
        assert!(
            details["reason"]
                .as_str()
                .unwrap()
                .starts_with("is not valid JSON: "),
            "{body}"
        );
    }
    for body in [&b"\xff\xfe"[..], b"{\"title\": \"\xc3\x28\"}"] {
        let reply = northwind
            .send(post().text(body))
            .refused(400, "validation_error");
        assert_eq!(reply.error()["details"]["field"], "body");
    }
    let deep = "[".repeat(100_000);
    let reply = northwind
        .send(post().text(deep))
        .refused(400, "validation_error");
    assert_eq!(reply.error()["details"]["field"], "body");
    for body in [
        "[]",
        "null",
        "1",
        "\"agent_id\"",
        "true",
        "[{\"agent_id\": 102}]",
    ] {
        northwind
            .send(post().text(body))
            .refused_field("body", "must be a JSON object");
    }
    northwind
        .send(post())
        .refused_field("body", "is missing; send a JSON object");
}

#[test]
fn a_field_of_the_wrong_type_is_named_with_its_reason() {
    let server = Server::demo();
    let northwind = server.northwind();
    let long = |characters: usize| "\u{e9}".repeat(characters);
    let cases = [
        (
            json!({ "agent_id": "102" }),
            "agent_id",
            "must be a whole number",
        ),
        (
            json!({ "agent_id": 102.5 }),
            "agent_id",
            "must be a whole number",
        ),
        (
            json!({ "agent_id": 1e30 }),
            "agent_id",
            "must be a whole number",
        ),
        (
            json!({ "agent_id": u64::MAX }),
            "agent_id",
            "must be a whole number",
        ),
        (
            json!({ "agent_id": [102] }),
            "agent_id",
            "must be a whole number",
        ),
        (
            json!({ "agent_id": true }),
            "agent_id",
            "must be a whole number",
        ),
        (
            json!({ "managed_agent_key": "neo_support" }),
            "managed_agent_key",
            "must be one of NEO_SUPPORT",
        ),
        (
            json!({ "managed_agent_key": "" }),
            "managed_agent_key",
            "must be one of NEO_SUPPORT",
        ),
        (
            json!({ "managed_agent_key": 1 }),
            "managed_agent_key",
            "must be a string",
        ),
        (
            json!({ "agent_id": 102, "title": 7 }),
            "title",
            "must be a string",
        ),
        (
            json!({ "agent_id": 102, "title": long(201) }),
            "title",
            "must have at most 200 characters",
        ),
        (
            json!({ "agent_id": 102, "title": "a\u{0}b" }),
            "title",
            "must not contain U+0000",
        ),
        (
            json!({ "agent_id": 102, "client_id": {} }),
            "client_id",
            "must be a string",
        ),
        (
            json!({ "agent_id": 102, "bot_id": 5 }),
            "bot_id",
            "must be a string",
        ),
        (
            json!({ "agent_id": 102, "bot_id": "" }),
            "bot_id",
            "must not be empty",
        ),
        (
            json!({ "agent_id": 102, "inbound_tenant_id": false }),
            "inbound_tenant_id",
            "must be a string",
        ),
        (
            json!({ "agent_id": 102, "inbound_tenant_id": "" }),
            "inbound_tenant_id",
            "must not be empty",
        ),
        (
            json!({ "agent_id": 102, "end_company_id": 1001 }),
            "end_company_id",
            "must be a string",
        ),
        (
            json!({ "agent_id": 102, "end_company_id": "" }),
            "end_company_id",
            "must not be empty",
        ),
        (
            json!({ "agent_id": 102, "metadata": [] }),
            "metadata",
            "must be an object of strings",
        ),
        (
            json!({ "agent_id": 102, "metadata": { "a": 1 } }),
            "metadata",
            "has an invalid value for \"a\": a value must be a string",
        ),
        (
            json!({ "agent_id": 102, "metadata": { "a": null } }),
            "metadata",
            "has an invalid value for \"a\": a value must be a string",
        ),
        (
            json!({ "agent_id": 102, "metadata": { "a": long(513) } }),
            "metadata",
            "has an invalid value for \"a\": a value must have at most 512 characters",
        ),
        (
            json!({ "agent_id": 102, "metadata": { long(65): "" } }),
            "metadata",
            "has an invalid key: a key must have at most 64 characters",
        ),
        (
            json!({ "agent_id": 102, "metadata": { "a\u{0}": "" } }),
            "metadata",
            "has an invalid key: a key must not contain U+0000",
        ),
    ];
    for (body, field, reason) in cases {
        northwind.create_session(body).refused_field(field, reason);
    }
    let pairs: serde_json::Map<String, Value> =
        (0..17).map(|n| (n.to_string(), "".into())).collect();
    northwind
        .create_session(json!({ "agent_id": 102, "metadata": pairs }))
        .refused_field("metadata", "must have at most 16 pairs");
    let form = "must be 1 to 64 characters of A-Z, a-z, 0-9, '.', '_' and '-'";
    for (field, text) in [
        ("bot_id", String::new()),
        ("bot_id", "a b".to_owned()),
        ("bot_id", "a".repeat(65)),
        ("inbound_tenant_id", "a/b".to_owned()),
        ("inbound_tenant_id", long(1)),
    ] {
        server
            .relay()
            .create_session(json!({ "agent_id": 102, field: text }))
            .refused_field(field, form);
    }
}

#[test]
fn the_largest_values_are_accepted() {
    let server = Server::demo();
    let pairs: serde_json::Map<String, Value> = (0..16)
        .map(|n| (format!("{n:0>64}"), "\u{1f600}".repeat(512).into()))
        .collect();
    let title = "\u{1f600}".repeat(200);
    let made = server
        .northwind()
        .create_session(json!({ "agent_id": 102, "title": title, "metadata": pairs }))
        .expect(201);
    assert_eq!(made.data()["title"], title.as_str());
    assert_eq!(made.data()["metadata"], Value::Object(pairs));
}

#[test]
fn a_body_of_256_kib_is_accepted_and_one_byte_more_refused() {
    let server = Server::demo();
    let northwind = server.northwind();
    let body = |bytes: usize| {
        let start = technician().to_string();
        let rest = " ".repeat(bytes - start.len());
        start + &rest
    };
    let post = || Request::new("POST", "/chat/sessions");
    northwind.send(post().text(body(MOST_BYTES))).expect(201);
    let refused = northwind
        .send(post().text(body(MOST_BYTES + 1)))
        .refused(413, "payload_too_large");
    assert_eq!(
        refused.error(),
        json!({ "code": "payload_too_large", "message": "The request body is too large. Send at most 262,144 bytes." })
    );
    northwind
        .send(post().text(body(40 * MOST_BYTES)))
        .refused(413, "payload_too_large");
}

#[test]
fn a_body_with_too_large_a_content_length_is_refused_before_it_arrives() {
    let server = Server::demo();
    let mut connection = Connection::open(server.address);
    let head = format!(
        "POST /chat/sessions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {NORTHWIND}\r\n\
         content-type: application/json\r\ncontent-length: 1000000000\r\n\r\n"
    );
    connection.write(head.as_bytes()).unwrap();
    connection
        .read("POST")
        .unwrap()
        .unwrap()
        .refused(413, "payload_too_large");
}

#[test]
fn a_chunked_body_is_counted_as_it_arrives() {
    let server = Server::demo();
    let send = |chunks: usize| {
        let mut connection = Connection::open(server.address);
        let mut request = format!(
            "POST /chat/sessions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {NORTHWIND}\r\n\
             content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
        );
        let start = technician().to_string();
        request += &format!("{:x}\r\n{start}\r\n", start.len());
        for _ in 0..chunks {
            request += &format!("400\r\n{}\r\n", " ".repeat(1_024));
        }
        request += "0\r\n\r\n";
        // The server need not read a refused body to its end, so writing may fail.
        let _ = connection.write(request.as_bytes());
        connection.read("POST").unwrap().unwrap()
    };
    send(255).expect(201);
    send(256).refused(413, "payload_too_large");
}

/// Sends a body whose sender closes its half of the connection. Returns the reply.
fn half_closed(server: &Server, length: &str, body: &str) -> Option<Reply> {
    let mut connection = Connection::open(server.address);
    let request = format!(
        "POST /chat/sessions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {NORTHWIND}\r\n\
         content-type: application/json\r\n{length}\r\n\r\n{body}"
    );
    connection.write(request.as_bytes()).unwrap();
    connection.shutdown_write();
    connection.read("POST").unwrap()
}

#[test]
fn a_truncated_body_is_refused() {
    let server = Server::demo();
    for (length, body) in [
        ("content-length: 50", "{\"agent_id\": 102}"),
        (
            "transfer-encoding: chunked",
            "11\r\n{\"agent_id\": 102}\r\n",
        ),
    ] {
        let reply = half_closed(&server, length, body).unwrap();
        reply.refused_field("body", "ended before it was complete");
    }
    assert_eq!(server.northwind().list_sessions("").ids(), [""; 0]);
}

#[test]
fn a_body_whose_chunks_are_malformed_creates_nothing() {
    let server = Server::demo();
    let body = "zz\r\n{\"agent_id\": 102}\r\n0\r\n\r\n";
    // A server that waits for its database when it reads the chunk closes without a reply.
    if let Some(reply) = half_closed(&server, "transfer-encoding: chunked", body) {
        reply.refused_field("body", "ended before it was complete");
    }
    assert_eq!(server.northwind().list_sessions("").ids(), [""; 0]);
}

#[test]
fn a_body_of_another_media_type_is_refused() {
    let server = Server::demo();
    let northwind = server.northwind();
    let post = |media_type: &str| {
        Request::new("POST", "/chat/sessions")
            .header("content-type", media_type)
            .bytes(technician().to_string())
    };
    for taken in [
        "application/json",
        "application/json; charset=utf-8",
        "Application/JSON",
        "application/json ;x=y",
    ] {
        northwind.send(post(taken)).expect(201);
    }
    for refused in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/jsonp",
        "application/vnd.api+json",
        "multipart/form-data; boundary=x",
        "json",
        "",
    ] {
        let reply = northwind
            .send(post(refused))
            .refused(415, "unsupported_media_type");
        assert_eq!(
            reply.error(),
            json!({ "code": "unsupported_media_type", "message": "Send the body as 'Content-Type: application/json'." })
        );
    }
    northwind
        .send(Request::new("POST", "/chat/sessions").bytes("{}"))
        .refused(415, "unsupported_media_type");
}

#[test]
fn a_malformed_id_in_a_path_is_not_found() {
    let server = Server::demo();
    let northwind = server.northwind();
    let session = northwind.session(technician());
    let turn = northwind.append_text(&session, "Hello").expect(202).data()["chat_turn_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let others = |id: &str| {
        let (_, body) = id.split_once('_').unwrap();
        vec![
            "x".to_owned(),
            "0".to_owned(),
            "%00".to_owned(),
            "%20".to_owned(),
            "%F0%9F%98%80".to_owned(),
            "%ff".to_owned(),
            "a".repeat(4_000),
            body.to_owned(),
            format!("key_{body}"),
            format!("{id}0"),
            format!("{id}%20"),
            id.to_uppercase(),
            id.replace('-', ""),
            id.replace("-7", "-4"),
        ]
    };
    for other in others(&session) {
        northwind.read_session(&other).not_found();
        northwind.update_session(&other, json!({})).not_found();
        northwind.reset_session(&other).not_found();
        northwind.delete_session(&other).not_found();
        northwind.append_text(&other, "Hello").not_found();
        northwind.messages(&other, "").not_found();
        northwind.turn(&other, &turn, "").not_found();
        northwind.delete(&format!("/sessions/{other}")).not_found();
    }
    for other in others(&turn) {
        northwind.turn(&session, &other, "").not_found();
    }
    for other in [
        "x",
        "-",
        "+102",
        "0102",
        "102.0",
        "1e2",
        "%20102",
        "102x",
        "9223372036854775808",
        "-1",
    ] {
        northwind.get(&format!("/agents/{other}")).not_found();
    }
}

#[test]
fn unknown_fields_and_query_parameters_are_ignored() {
    let server = Server::demo();
    let northwind = server.northwind();
    let made = northwind
        .create_session(json!({ "agent_id": 102, "tenant": 5, "end_user": null, "": [], "agentId": "x", "rule": "selected" }))
        .expect(201);
    assert_eq!(made.json()["meta"]["warnings"], json!([]));
    let listed = northwind
        .list_sessions("tenant=fabrikam-support&order=sideways&&=&page=0&%ff=%ff")
        .expect(200);
    assert_eq!(listed.ids(), [made.id()]);
    northwind
        .get("/whoami?client_id=fabrikam-support&q=%00")
        .expect(200);
    northwind
        .update_session(
            &made.id(),
            json!({ "agent_id": 201, "client_id": "fabrikam-support", "end_company_id": "1001" }),
        )
        .expect(200);
    let read = northwind.read_session(&made.id()).expect(200).data();
    assert_eq!(read["agent_id"], 102);
    assert_eq!(read["client_id"], "northwind-it");
    assert_eq!(read["end_company_id"], Value::Null);
}

#[test]
fn an_explicit_null_is_the_same_as_absent() {
    let server = Server::demo();
    let northwind = server.northwind();
    let nulls = json!({
        "agent_id": 102, "managed_agent_key": null, "title": null, "client_id": null, "bot_id": null,
        "inbound_tenant_id": null, "end_company_id": null, "metadata": null,
    });
    let made = northwind.create_session(nulls.clone()).expect(201);
    assert_eq!(made.json()["meta"]["warnings"], json!([]));
    assert_eq!(made.data()["metadata"], json!({}));
    northwind.resolve(nulls).expect(200);
    let session = made.id();
    northwind
        .append(&session, json!({ "message": "Hello", "attachments": null, "client_message_id": null, "model_tier": null }))
        .expect(202);
    northwind
        .mint_token(json!({
            "session_id": session, "client_id": null, "end_user": null, "end_user_email": null,
            "end_company_id": null, "allowed_agent_ids": null, "ttl_seconds": null,
        }))
        .expect(201);
    northwind
        .mint_token(json!({ "session_id": null }))
        .refused_field("session_id", "is required");
}

#[test]
fn u_0000_is_refused_in_a_query_too() {
    let server = Server::demo();
    let northwind = server.northwind();
    northwind
        .list_sessions("q=a%00b")
        .refused_field("q", "must not contain U+0000");
    northwind
        .get("/agents?q=%00")
        .refused_field("q", "must not contain U+0000");
}

#[test]
fn a_page_has_1_to_200_rows() {
    let server = Server::demo();
    let northwind = server.northwind();
    let session = northwind.session(technician());
    for path in [
        "/chat/sessions".to_owned(),
        "/agents".to_owned(),
        format!("/chat/sessions/{session}/messages"),
    ] {
        for size in ["1", "200", "0001"] {
            northwind
                .get(&format!("{path}?page_size={size}"))
                .expect(200);
        }
        for size in [
            "0",
            "201",
            "-1",
            "1.0",
            "",
            "ten",
            "%2B5",
            "99999999999999999999",
        ] {
            northwind
                .get(&format!("{path}?page_size={size}"))
                .refused_field("page_size", "must be a whole number from 1 to 200");
        }
    }
}

#[test]
fn a_page_has_50_rows_by_default() {
    let agents: Vec<Value> = (1..=60).map(|id| agent(id, "MSP")).collect();
    let server = Server::demo();
    server.import_tenant("northwind-it", json!({ "agents": agents }));
    let northwind = server.northwind();
    let first = northwind.get("/agents").expect(200);
    assert_eq!(first.ids().len(), 50);
    let next = first.next_cursor().unwrap();
    let second = northwind.get(&format!("/agents?cursor={next}")).expect(200);
    assert_eq!((second.ids().len(), second.next_cursor()), (16, None));
}

#[test]
fn a_foreign_or_damaged_cursor_is_refused() {
    let server = Server::demo();
    let (northwind, fabrikam) = (server.northwind(), server.fabrikam());
    let sessions = [
        northwind.session(technician()),
        northwind.session(technician()),
    ];
    for session in &sessions {
        northwind.append_text(session, "one").expect(202);
        northwind.append_text(session, "two").expect(202);
    }
    for _ in 0..2 {
        fabrikam.session(json!({ "agent_id": 202 }));
    }
    let messages = |session: &str| format!("/chat/sessions/{session}/messages?page_size=1");
    let lists = [
        (&northwind, "/chat/sessions?page_size=1".to_owned()),
        (&fabrikam, "/chat/sessions?page_size=1".to_owned()),
        (&northwind, "/agents?page_size=1".to_owned()),
        (&fabrikam, "/agents?page_size=1".to_owned()),
        (&northwind, messages(&sessions[0])),
        (&northwind, messages(&sessions[1])),
        (&northwind, messages(&sessions[0]) + "&order=desc"),
    ];
    let reason = "is invalid or belongs to another list; start again without a cursor";
    for (index, (client, path)) in lists.iter().enumerate() {
        let cursor = client.get(path).expect(200).next_cursor().unwrap();
        client.get(&format!("{path}&cursor={cursor}")).expect(200);
        for (other, (foreigner, elsewhere)) in lists.iter().enumerate() {
            if other != index {
                foreigner
                    .get(&format!("{elsewhere}&cursor={cursor}"))
                    .refused_field("cursor", reason);
            }
        }
        let mut damaged = vec![
            String::new(),
            "x".to_owned(),
            cursor[1..].to_owned(),
            format!("{cursor}0"),
            cursor.to_uppercase(),
            "%00".to_owned(),
            "%C3%A9".repeat(16),
        ];
        for place in 0..cursor.len() {
            let mut letters = cursor.clone().into_bytes();
            letters[place] = if letters[place] == b'0' { b'1' } else { b'0' };
            damaged.push(String::from_utf8(letters).unwrap());
        }
        for text in damaged {
            if text != cursor {
                client
                    .get(&format!("{path}&cursor={text}"))
                    .refused_field("cursor", reason);
            }
        }
    }
}

#[test]
fn no_cors_header_is_sent_unless_an_origin_is_configured() {
    let server = Server::demo();
    let asked = server
        .northwind()
        .send(Request::new("GET", "/whoami").header("origin", "https://portal.example"));
    let preflight = server.anonymous().send(
        Request::new("OPTIONS", "/whoami")
            .header("origin", "https://portal.example")
            .header("access-control-request-method", "GET"),
    );
    assert_eq!(preflight.status, 204);
    for reply in [asked.expect(200), preflight] {
        assert!(
            !reply
                .headers
                .iter()
                .any(|(name, _)| name.starts_with("access-control-"))
        );
    }
}

#[test]
fn a_configured_origin_may_call_and_no_other() {
    let server = Server::with_world(
        crate::support::DEMO,
        &[
            "--cors-origin=https://portal.example",
            "--cors-origin=http://localhost:3000",
        ],
    );
    let whoami = |origin: &str| {
        server
            .northwind()
            .send(Request::new("GET", "/whoami").header("origin", origin))
    };
    for origin in ["https://portal.example", "http://localhost:3000"] {
        let reply = whoami(origin).expect(200);
        assert_eq!(reply.header("access-control-allow-origin"), Some(origin));
        assert_eq!(reply.header("vary"), Some("Origin"));
        assert!(
            reply
                .header("access-control-expose-headers")
                .unwrap()
                .contains("location")
        );
        let refused = server
            .anonymous()
            .send(Request::new("GET", "/whoami").header("origin", origin))
            .expect(401);
        assert_eq!(refused.header("access-control-allow-origin"), Some(origin));
        let preflight = server
            .anonymous()
            .send(
                Request::new("OPTIONS", "/public-api/chat/sessions")
                    .header("origin", origin)
                    .header("access-control-request-method", "POST")
                    .header("access-control-request-headers", "authorization"),
            )
            .expect(204);
        assert_eq!(
            preflight.header("access-control-allow-origin"),
            Some(origin)
        );
        assert!(
            preflight
                .header("access-control-allow-methods")
                .unwrap()
                .contains("PATCH")
        );
        let allowed = preflight.header("access-control-allow-headers").unwrap();
        for name in [
            "authorization",
            "content-type",
            "idempotency-key",
            "last-event-id",
            "x-request-id",
        ] {
            assert!(allowed.contains(name), "{name}");
        }
    }
    for origin in [
        "https://portal.example.evil.example",
        "https://portal.example/",
        "http://portal.example",
        "null",
    ] {
        let reply = whoami(origin).expect(200);
        assert!(
            !reply
                .headers
                .iter()
                .any(|(name, _)| name.starts_with("access-control-")),
            "{origin}"
        );
    }
}

#[test]
fn the_first_failing_check_decides_the_reply() {
    let server = Server::demo();
    server.import_tenant("northwind-it", json!({ "rate_limit_per_minute": 6 }));
    let northwind = server.northwind();
    let session = northwind.session(technician());
    let guest = northwind.with_session_token(&session);
    let oversize = "x".repeat(MOST_BYTES + 1);
    let wrong_in_every_way = || {
        Request::new("POST", "/chat/sessions")
            .header("content-type", "text/plain")
            .header("idempotency-key", "not visible")
            .bytes(oversize.clone())
    };

    let mut nowhere = wrong_in_every_way();
    nowhere.target = "/chat".to_owned();
    server.anonymous().send(nowhere).refused(404, "not_found");
    let mut wrong_method = wrong_in_every_way();
    wrong_method.method = "PUT".to_owned();
    server
        .anonymous()
        .send(wrong_method)
        .refused(405, "method_not_allowed");

    server
        .anonymous()
        .send(wrong_in_every_way())
        .refused(401, "unauthorized");
    for _ in 0..4 {
        northwind.get("/whoami").expect(200);
    }
    guest
        .send(wrong_in_every_way())
        .refused(429, "rate_limited");
    server.advance_clock(MINUTE);
    guest.send(wrong_in_every_way()).refused(403, "forbidden");
    northwind
        .send(wrong_in_every_way())
        .refused(413, "payload_too_large");
    server.advance_clock(MINUTE);

    let post = |media_type: &str, key: &str, body: &str| {
        northwind.send(
            Request::new("POST", "/chat/sessions")
                .header("content-type", media_type)
                .header("idempotency-key", key)
                .bytes(body),
        )
    };
    let json = "application/json";
    post(json, "k", "{\"agent_id\": 102}").expect(201);
    post("text/plain", "k", "{").refused(415, "unsupported_media_type");
    post(json, "k", "{").refused(400, "validation_error");
    post(json, "k", "{\"agent_id\": \"102\", \"client_id\": \"x\"}")
        .refused_field("agent_id", "must be a whole number");
    post(json, "k", "{\"client_id\": \"x\"}").refused(422, "idempotency_key_reused");
    post(json, "other", "{\"client_id\": \"x\"}").refused(403, "client_id_not_allowed");
    server.advance_clock(MINUTE);
    post(json, "other", "{}").refused_choice();
    post(json, "other", "{\"agent_id\": 201}").not_found();
}

#[test]
fn a_403_by_role_reveals_nothing_of_what_exists() {
    let server = Server::demo();
    let northwind = server.northwind();
    let session = northwind.session(technician());
    let guest = northwind.with_session_token(&session);
    for id in [session.as_str(), ABSENT_SESSION, "nonsense"] {
        guest.delete_session(id).refused(403, "forbidden");
        guest
            .update_session(id, json!({ "title": 5 }))
            .refused(403, "forbidden");
        guest.reset_session(id).refused(403, "forbidden");
    }
}

#[test]
fn only_the_platform_may_send_client_id_anywhere() {
    let server = Server::demo();
    let northwind = server.northwind();
    let session = northwind.session(technician());
    for client_id in [
        "northwind-it",
        "fabrikam-support",
        "no-such-tenant",
        "NOT A NAME",
        "",
    ] {
        let mut create = technician();
        create["client_id"] = client_id.into();
        let mint = json!({ "session_id": session, "client_id": client_id });
        let query = format!("client_id={}", client_id.replace(' ', "%20"));
        for reply in [
            northwind.create_session(create.clone()),
            northwind.resolve(create),
            northwind.mint_token(mint),
            northwind.list_sessions(&query),
        ] {
            assert_eq!(
                reply.refused(403, "client_id_not_allowed").error(),
                json!({
                    "code": "client_id_not_allowed",
                    "message": "Only a platform service account may send client_id. Remove client_id from the request.",
                    "details": { "field": "client_id" },
                })
            );
        }
    }
}

#[test]
fn times_are_rfc_3339_in_utc_with_milliseconds() {
    let server = Server::demo();
    server.advance_clock(123_456_789);
    let made = server
        .northwind()
        .create_session(technician())
        .expect(201)
        .data();
    assert_eq!(made["created_at"], "2025-11-26T02:17:36.789Z");
    assert_eq!(made["resolution"]["decided_at"], "2025-11-26T02:17:36.789Z");
}

#[test]
fn m365_tenants_and_bots_are_case_insensitive() {
    let server = Server::demo();
    let mut shouted = from(&CONTOSO.to_uppercase());
    shouted["bot_id"] = shouted["bot_id"].as_str().unwrap().to_uppercase().into();
    assert_eq!(
        server.relay().create_session(shouted).expect(201).data()["end_company_id"],
        "1001"
    );
    let routed = json!({
        "managed_agent_key": "NEO_SUPPORT", "client_id": "northwind-it", "bot_id": TECHNICIAN_BOT.to_uppercase(),
    });
    assert_eq!(
        server.relay().create_session(routed).expect(201).data()["agent_id"],
        102
    );
}

#[test]
fn a_500_reveals_no_internals() {
    let server = Server::demo();
    let northwind = server.northwind();
    let session = northwind.session(technician());
    assert_eq!(
        server.execute_sql("UPDATE sessions SET metadata = 'no JSON, for the test'"),
        1
    );
    let reply = northwind
        .read_session(&session)
        .refused(500, "internal_error");
    assert_eq!(
        checked(&reply),
        json!({
            "error": {
                "code": "internal_error",
                "message": "The server failed to handle this request. Try again. If the error persists, report the request_id.",
            },
            "meta": {},
        })
    );
}

#[test]
fn a_draining_server_accepts_no_new_work() {
    let server = Server::demo();
    server.anonymous().get("/ready").expect(200);
    server.app.drain();
    for reply in [
        server.anonymous().get("/ready"),
        server.northwind().get("/whoami"),
        server.anonymous().get("/whoami"),
    ] {
        let reply = reply.refused(503, "shutting_down");
        assert!(reply.header("retry-after").unwrap().parse::<u64>().unwrap() > 0);
    }
    server.anonymous().get("/health").expect(200);
}

#[test]
fn health_and_readiness_need_no_credential() {
    let server = Server::demo();
    let engine = server.app.store.engine_name();
    let health = server.anonymous().get("/health").expect(200).data();
    assert_eq!(
        health,
        json!({ "status": "ok", "version": env!("CARGO_PKG_VERSION"), "engine": engine, "nodes": 1 })
    );
    assert_eq!(
        server.anonymous().get("/ready").expect(200).data(),
        json!({ "status": "ready", "engine": engine, "nodes": 1 })
    );
}
