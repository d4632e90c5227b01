//! Headers that every reply has, credentials that are sent twice, and where links lead.

use serde_json::json;

use crate::log_book;
use crate::support::{DEMO, NORTHWIND, Server, technician};
use crate::wire::Request;

#[test]
fn every_reply_forbids_sniffing_and_no_cache_keeps_what_is_private() {
    let server = Server::with_world(DEMO, &["--cors-origin=https://portal.example", "--metrics"]);
    let northwind = server.northwind();
    let session = northwind.session(technician());
    let quiet = northwind.session(technician());
    let file = northwind.upload(&session, "text/plain", b"x");
    let carrying =
        json!({ "message": "", "attachments": [{ "blob_path": file, "mime": "text/plain" }] });
    northwind.append(&session, carrying).expect(202);
    let listed = northwind.messages(&session, "").expect(200).data();
    let link = listed[0]["attachments"][0]["url"].as_str().unwrap();
    let link = link.strip_prefix("http://localhost").unwrap();
    let below = |path: &str| format!("/public-api{path}");
    let of_session = |path: &str| below(&format!("/chat/sessions/{session}{path}"));
    for (method, target, status, cache_control) in [
        ("GET", below("/whoami"), 200, "no-store"),
        ("GET", of_session("/messages"), 200, "no-store"),
        ("GET", of_session("/messages?page_size=0"), 400, "no-store"),
        (
            "GET",
            below(&format!("/chat/sessions/{quiet}/events?resume=true")),
            204,
            "no-store",
        ),
        ("GET", of_session("/turns/trn_1"), 404, "no-store"),
        ("GET", below("/users"), 403, "no-store"),
        ("DELETE", below("/whoami"), 405, "no-store"),
        ("POST", below("/sessions"), 400, "no-store"),
        ("POST", below("/auth/exchange"), 400, "no-store"),
        ("GET", link.to_owned(), 200, "private, no-store"),
        ("PUT", link.to_owned(), 403, "no-store"),
        ("GET", "/nowhere".to_owned(), 404, "no-store"),
        ("GET", "/".to_owned(), 302, "no-cache"),
        (
            "GET",
            "/favicon.ico".to_owned(),
            200,
            "public, max-age=86400",
        ),
        ("GET", "/dashboard".to_owned(), 200, "no-cache"),
        (
            "GET",
            "/dashboard/login-command".to_owned(),
            200,
            "no-store",
        ),
        ("GET", "/dashboard/".to_owned(), 308, "no-cache"),
        ("GET", below("/docs"), 200, "no-cache"),
        (
            "GET",
            below("/docs/swagger-ui.css"),
            200,
            "public, max-age=86400",
        ),
        ("GET", below("/openapi.json"), 200, "no-cache"),
        ("GET", "/metrics".to_owned(), 200, "no-store"),
    ] {
        let reply = northwind.send(Request::new(method, target.clone()));
        assert_eq!(reply.status, status, "{method} {target}");
        assert_eq!(
            reply.header("x-content-type-options"),
            Some("nosniff"),
            "{target}"
        );
        assert_eq!(
            reply.header("cache-control"),
            Some(cache_control),
            "{target}"
        );
    }
    let unknown = server.anonymous().get("/whoami").expect(401);
    assert_eq!(unknown.header("cache-control"), Some("no-store"));
    let minted = northwind
        .mint_token(json!({ "session_id": session }))
        .expect(201);
    assert_eq!(minted.header("cache-control"), Some("no-store"));
    let preflight = Request::new("OPTIONS", below("/whoami"))
        .header("origin", "https://portal.example")
        .header("access-control-request-method", "GET");
    let allowed = server.anonymous().send(preflight).expect(204);
    assert_eq!(allowed.header("x-content-type-options"), Some("nosniff"));
}

#[test]
fn two_authorization_headers_are_malformed() {
    let server = Server::demo();
    for second in [
        format!("Bearer {NORTHWIND}"),
        "Bearer x".to_owned(),
        String::new(),
    ] {
        let request = Request::new("GET", "/public-api/whoami").header("authorization", second);
        let refused = server
            .northwind()
            .send(request)
            .refused(401, "unauthorized");
        assert_eq!(
            refused.error(),
            json!({
                "code": "unauthorized",
                "message": "The request has several Authorization headers. Send one.",
                "details": { "reason": "malformed" },
            })
        );
    }
}

#[test]
fn a_signed_link_has_one_spelling() {
    let server = Server::demo();
    let (northwind, anonymous) = (server.northwind(), server.anonymous());
    let session = northwind.session(technician());
    let asked = northwind
        .request_upload(&session, "text/plain")
        .expect(201)
        .data();
    let link = asked["upload_url"].as_str().unwrap();
    let (path, query) = link.split_once('?').unwrap();
    let (expires, signature) = query.split_once('&').unwrap();
    let number = expires.strip_prefix("expires=").unwrap();
    let signed = signature.strip_prefix("signature=").unwrap();
    let first = signed.as_bytes()[0];
    for query in [
        format!("expires=0{number}&{signature}"),
        format!("expires=+{number}&{signature}"),
        format!("expires=%2B{number}&{signature}"),
        format!("expires=%20{number}&{signature}"),
        format!("expires=%31{}&{signature}", &number[1..]),
        format!("{expires}&{expires}&{signature}"),
        format!("expires=1&{expires}&{signature}"),
        format!("{expires}&{signature}&{signature}"),
        format!("{expires}&signature=x&{signature}"),
        format!("%65xpires=1&{expires}&{signature}"),
        format!("{expires}&{signature}="),
        format!("{expires}&signature=%{first:02X}{}", &signed[1..]),
    ] {
        let refused = anonymous.follow_link("PUT", &format!("{path}?{query}"), Some(b"x"));
        refused.refused(403, "forbidden");
    }
    // Parameters that the server does not know change nothing.
    anonymous
        .follow_link("PUT", &format!("{link}&from=mail"), Some(b"x"))
        .expect(200);
}

/// The beginning of an upload link, up to the path, for a request with these headers.
fn base_of_links(server: &Server, headers: &[(&str, &str)]) -> String {
    let northwind = server.northwind();
    let session = northwind.session(technician());
    let path = format!("/public-api/chat/sessions/{session}/attachments/upload-url");
    let mut request = Request::new("POST", path).json(&json!({ "content_type": "image/png" }));
    for (name, value) in headers {
        request = request.header(name, *value);
    }
    let reply = northwind.send(request).expect(201).data();
    let url = reply["upload_url"].as_str().unwrap();
    let (base, _) = url.split_once("/public-api/chat/attachments/att_").unwrap();
    base.to_owned()
}

#[test]
fn a_link_leads_to_the_requests_host_only_if_that_is_this_machine() {
    let log = log_book::open();
    let server = Server::demo();
    for (host, base) in [
        ("127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("127.9.9.9", "http://127.9.9.9"),
        ("localhost:1", "http://localhost:1"),
        ("LocalHost", "http://LocalHost"),
        ("[::1]:8080", "http://[::1]:8080"),
        ("switchboard:80", "http://switchboard:80"),
        ("evil.example", ""),
        ("localhost.evil.example", ""),
        ("192.0.2.7:8080", ""),
        ("0.0.0.0", ""),
        ("user@localhost", ""),
        ("localhost:port", ""),
    ] {
        assert_eq!(base_of_links(&server, &[("host", host)]), base, "{host}");
    }
    // Without --behind-proxy, a client can write these headers itself.
    let forged = [
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-proto", "https"),
    ];
    assert_eq!(base_of_links(&server, &forged), "http://localhost");
    let line = "WARN a link in a reply is a path alone, because the request's Host does not name this machine; \
                set --public-url to the address that clients use";
    assert!(log.lines().iter().any(|logged| logged == line));
}

#[test]
fn behind_a_proxy_a_link_leads_to_the_forwarded_host() {
    let log = log_book::open();
    let server = Server::with_world(DEMO, &["--behind-proxy"]);
    let host = |value| ("x-forwarded-host", value);
    let proto = |value| ("x-forwarded-proto", value);
    let foreign = ("host", "evil.example");
    for (headers, base) in [
        (vec![host("chat.example.com")], "http://chat.example.com"),
        (
            vec![host("chat.example.com:8443"), proto("https")],
            "https://chat.example.com:8443",
        ),
        (
            vec![host("evil.example, chat.example.com"), proto("http, HTTPS")],
            "https://chat.example.com",
        ),
        (
            vec![host("evil.example"), host("chat.example.com"), foreign],
            "http://chat.example.com",
        ),
        (
            vec![host("chat.example.com"), proto("javascript")],
            "http://chat.example.com",
        ),
        (vec![host("chat.example.com/path")], "http://localhost"),
        (vec![host("...")], "http://localhost"),
        (vec![host("-")], "http://localhost"),
        (vec![host("user@chat.example.com"), foreign], ""),
        (vec![proto("https"), foreign], ""),
        (vec![], "http://localhost"),
    ] {
        assert_eq!(base_of_links(&server, &headers), base, "{headers:?}");
    }
    let line = "WARN a link in a reply begins with the request's Host, because the proxy sent no host in \
                X-Forwarded-Host; let the proxy set it, or set --public-url";
    assert!(log.lines().iter().any(|logged| logged == line));
    let flags = ["--behind-proxy", "--public-url=https://public.example"];
    let server = Server::with_world(DEMO, &flags);
    let base = base_of_links(&server, &[host("chat.example.com")]);
    assert_eq!(base, "https://public.example");
}
