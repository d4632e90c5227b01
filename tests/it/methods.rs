//! Methods and paths as clients write them: HEAD, OPTIONS, and a slash too many.

use serde_json::json;
use switchboard::http::edge::router;
use switchboard::model::words::Role;

use crate::sign_in::signed_in;
use crate::support::{ApiClient, DEMO, Server, not_found, technician};
use crate::wire::{Connection, Reply, Request};

/// The headers of a reply, without those that vary from reply to reply.
fn lasting_headers(reply: &Reply) -> Vec<(String, String)> {
    const OF_THE_MOMENT: [&str; 3] = ["x-request-id", "date", "content-length"];
    let mut headers = reply.headers.clone();
    headers.retain(|(name, _)| {
        !OF_THE_MOMENT.contains(&name.as_str()) && !name.starts_with("x-ratelimit-")
    });
    headers.sort();
    headers
}

/// Sends a request with exactly this path.
#[track_caller]
fn ask(client: &ApiClient, method: &str, path: &str) -> Reply {
    client.send(Request::new(method, path))
}

/// A path of the table with things of the demo world.
fn filled(path: &str, session: &str, turn: &str) -> String {
    path.replace("{session_id}", session)
        .replace("{chat_turn_id}", turn)
        .replace("{agent_id}", "102")
        .replace("{psa_company_id}", "1001")
        .replace("{client_id}", "northwind-it")
        .replace("{file}", "page.css")
        .replace(['{', '}'], "")
}

#[test]
fn head_answers_every_route_and_caller_as_get_does_without_the_body() {
    let server = Server::answering(&[]);
    let northwind = server.northwind();
    let session = northwind.session(technician());
    let appended = northwind
        .append(&session, json!({ "message": "Hello" }))
        .expect(202)
        .data();
    let turn = appended["chat_turn_id"].as_str().unwrap();
    northwind
        .turn(&session, turn, "wait_seconds=30")
        .expect(200);
    let callers = [
        northwind.with_session_token(&session),
        northwind,
        signed_in(&server, "northwind-it", Role::Admin),
        signed_in(&server, "northwind-it", Role::Viewer),
        server.relay(),
        server.anonymous(),
    ];
    let mut found = 0;
    for row in router::table().iter().filter(|row| row.method == "GET") {
        let path = format!("/public-api{}", filled(row.path, &session, turn));
        for (index, caller) in callers.iter().enumerate() {
            let get = ask(caller, "GET", &path);
            let head = ask(caller, "HEAD", &path);
            assert_eq!(
                (head.status, lasting_headers(&head)),
                (get.status, lasting_headers(&get)),
                "{path} by caller {index}"
            );
            assert_eq!(
                head.header("content-length").is_some(),
                get.header("content-length").is_some(),
                "{path} by caller {index}"
            );
            found += usize::from(head.status == 200);
        }
    }
    assert!(found > 60, "{found}");
}

#[test]
fn head_tells_the_length_of_what_get_sends_and_nothing_follows() {
    let server = Server::with_world(DEMO, &["--metrics"]);
    let northwind = server.northwind();
    let session = northwind.session(technician());
    let file = northwind.upload(&session, "text/plain", &[b'x'; 300_000]);
    let carrying =
        json!({ "message": "", "attachments": [{ "blob_path": file, "mime": "text/plain" }] });
    northwind.append(&session, carrying).expect(202);
    let listed = northwind.messages(&session, "").expect(200).data();
    let link = listed[0]["attachments"][0]["url"].as_str().unwrap();
    let link = link.strip_prefix("http://localhost").unwrap();
    let mut connection = Connection::open(server.address);
    for path in [
        "/public-api/openapi.json",
        "/docs",
        "/docs/swagger-ui-bundle.js",
        "/dashboard",
        "/dashboard/app.js",
        link,
    ] {
        let get = ask(&server.anonymous(), "GET", path).expect(200);
        let length = get.body.len().to_string();
        // If a body followed, it would be read as the next reply.
        connection
            .write(&Request::new("HEAD", path).written())
            .unwrap();
        let head = connection.read("HEAD").unwrap().unwrap();
        assert_eq!(
            head.header("content-length"),
            Some(length.as_str()),
            "{path}"
        );
    }
    ask(&server.anonymous(), "HEAD", "/metrics").expect(200);
}

#[test]
fn a_head_of_a_stream_ends_at_once() {
    let server = Server::demo();
    let northwind = server.northwind();
    let session = northwind.session(technician());
    let path = format!("/chat/sessions/{session}/events?follow=true");
    let head = northwind.send(Request::new("HEAD", path)).expect(200);
    assert_eq!(
        (head.header("content-type"), head.header("content-length")),
        (Some("text/event-stream; charset=utf-8"), None)
    );
    northwind.get("/whoami").expect(200);
}

#[test]
fn options_tells_the_methods_of_a_path_without_a_credential() {
    let server = Server::demo();
    let anonymous = server.anonymous();
    let allowed = |path: &str| {
        let reply = anonymous.send(Request::new("OPTIONS", path)).expect(204);
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
        reply.header("allow").unwrap().to_owned()
    };
    for (path, methods) in [
        ("/public-api/chat/sessions", "POST, GET, HEAD, OPTIONS"),
        ("/chat/sessions/ses_1/", "GET, HEAD, PATCH, DELETE, OPTIONS"),
        ("/chat/sessions/resolve", "POST, OPTIONS"),
        ("/health", "GET, HEAD, OPTIONS"),
        ("/dashboard", "GET, HEAD, OPTIONS"),
        ("*", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
    ] {
        assert_eq!(allowed(path), methods, "{path}");
    }
    anonymous
        .send(Request::new("OPTIONS", "/nowhere"))
        .not_found();
}

#[test]
fn a_health_check_of_a_proxy_finds_the_server_up() {
    let server = Server::demo();
    // HAProxy's check by default has no Host, and nginx's and Kubernetes' ask for a path.
    for (head, method, status) in [
        ("OPTIONS / HTTP/1.0\r\n\r\n", "OPTIONS", 204),
        ("HEAD /health HTTP/1.0\r\n\r\n", "HEAD", 200),
        ("GET /ready HTTP/1.0\r\nhost: 10.0.0.7\r\n\r\n", "GET", 200),
    ] {
        let mut connection = Connection::open(server.address);
        connection.write(head.as_bytes()).unwrap();
        let reply = connection.read(method).unwrap().unwrap();
        assert_eq!(reply.status, status, "{head}");
    }
}

#[test]
fn a_slash_too_many_finds_the_route() {
    let server = Server::demo();
    let northwind = server.northwind();
    let session = northwind.session(technician());
    for path in [
        "/health/",
        "//health",
        "/public-api/agents/",
        "/public-api//agents",
        "//public-api///agents//102//",
        "/agents/?page_size=1",
        &format!("/chat/sessions/{session}/"),
        &format!("/public-api//chat/sessions//{session}/messages/"),
    ] {
        ask(&northwind, "GET", path).expect(200);
    }
    let path = format!("/public-api//chat/sessions/{session}/messages/");
    let append = Request::new("POST", path).json(&json!({ "message": "Hello" }));
    northwind.send(append).expect(202);
    ask(&northwind, "GET", "//public-api/agents/1/").not_found();
    // Whoever leaves out an id reaches the path without it, never another resource.
    ask(&northwind, "DELETE", "/chat/sessions//").refused(405, "method_not_allowed");
    ask(&server.anonymous(), "GET", "/agents/").refused(401, "unauthorized");
    for path in ["/nowhere/", "/public-api/", "/agents/102/x/"] {
        assert_eq!(
            ask(&northwind, "GET", path).expect(404).error(),
            not_found(),
            "{path}"
        );
    }
}

#[test]
fn a_page_with_a_slash_too_many_is_told() {
    let server = Server::demo();
    let anonymous = server.anonymous();
    for (path, meant) in [
        ("/dashboard/app.js/", "/dashboard/app.js"),
        ("//dashboard", "/dashboard"),
    ] {
        assert_eq!(
            ask(&anonymous, "GET", path).expect(404).error(),
            json!({
                "code": "not_found",
                "message": format!("This path does not exist. Did you mean {meant}?"),
                "details": { "path": meant },
            })
        );
    }
    for path in ["/docs/", "/public-api/docs/"] {
        let redirected = ask(&anonymous, "GET", path).expect(308);
        assert_eq!(redirected.header("location"), Some("../docs"));
    }
}
