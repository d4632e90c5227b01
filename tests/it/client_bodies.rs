//! Bodies and queries as editors, languages and clients write them.

use serde_json::{Value, json};

use crate::process::Workspace;
use crate::support::{ApiClient, Server, technician};
use crate::wire::{Reply, Request};

fn create(client: &ApiClient, body: &[u8]) -> Reply {
    client.send(Request::new("POST", "/chat/sessions").text(body))
}

/// The text in UTF-16, little-endian, with or without a byte order mark.
fn utf16(text: &str, mark: &[u8]) -> Vec<u8> {
    let units = text.encode_utf16().flat_map(u16::to_le_bytes);
    mark.iter().copied().chain(units).collect()
}

#[test]
fn a_byte_order_mark_before_json_is_passed_over() {
    let server = Server::demo();
    let northwind = server.northwind();
    create(&northwind, b"\xef\xbb\xbf{\"agent_id\": 102}").expect(201);
    create(&northwind, b"\xef\xbb\xbf\xef\xbb\xbf{}").refused(400, "validation_error");

    let workspace = Workspace::new();
    let seed = r#"{"tenants": [{"client_id": "x-msp", "name": "X"}]}"#;
    let file = workspace.file("seed.json", format!("\u{feff}{seed}"));
    let told = workspace.ok(["import", &file]);
    assert_eq!(
        told.lines().last(),
        Some("2 created, 0 updated, 0 unchanged")
    );
}

#[test]
fn a_body_or_seed_file_in_utf_16_is_told() {
    let server = Server::demo();
    let northwind = server.northwind();
    let text = r#"{"agent_id": 102}"#;
    for body in [utf16(text, b"\xff\xfe"), utf16(text, b"")] {
        let refused = create(&northwind, &body);
        assert_eq!(
            (refused.status, refused.error()),
            (
                400,
                json!({
                    "code": "validation_error",
                    "message": "The body is UTF-16; send UTF-8.",
                    "details": { "field": "body", "reason": "is UTF-16; send UTF-8" },
                })
            )
        );
    }
    create(&northwind, b"{\"title\": \"M\xfcller\"}")
        .refused_field("body", "is not UTF-8 at byte 13; send UTF-8");

    let workspace = Workspace::new();
    for (content, reason) in [
        (
            utf16(text, b"\xff\xfe"),
            "the file is UTF-16; save it as UTF-8",
        ),
        (
            b"{\"\xe4\"".to_vec(),
            "byte 3 is not UTF-8; save the file as UTF-8",
        ),
    ] {
        let file = workspace.file("seed.json", content);
        let done = workspace.run(["import", &file]);
        assert_eq!(done.failure(), format!("cannot read {file}: {reason}"));
    }
}

#[test]
fn an_encoded_body_is_an_unsupported_media_type() {
    let server = Server::demo();
    let northwind = server.northwind();
    let post = |encoding: &str| {
        let request = Request::new("POST", "/chat/sessions").json(&technician());
        northwind.send(request.header("content-encoding", encoding))
    };
    for encoding in ["gzip", "br", "identity, deflate", "GZIP"] {
        let refused = post(encoding).refused(415, "unsupported_media_type");
        assert_eq!(
            refused.error()["message"],
            "The server takes no body with a Content-Encoding. Send the body as it is."
        );
    }
    post("Identity").expect(201);
    let session = northwind.session(technician());
    let asked = northwind.request_upload(&session, "text/plain");
    let url = asked.expect(201).data()["upload_url"].clone();
    let target = url
        .as_str()
        .unwrap()
        .strip_prefix("http://localhost")
        .unwrap();
    let upload = Request::new("PUT", target).bytes("x");
    let encoded = upload.clone().header("content-encoding", "gzip");
    northwind
        .send(encoded)
        .refused(415, "unsupported_media_type");
    northwind.send(upload).expect(200);
}

#[test]
fn half_an_emoji_is_told_with_its_field() {
    const REASON: &str =
        "contains half of a surrogate pair, such as half an emoji; send the whole character";
    let server = Server::demo();
    let northwind = server.northwind();
    let session = northwind.session(technician());
    for (body, field) in [
        (&br#"{"agent_id": 102, "title": "Hi \ud83d"}"#[..], "title"),
        (br#"{"agent_id": 102, "title": "\ude00 Hi"}"#, "title"),
        (
            br#"{"agent_id": 102, "metadata": {"a": "\ud83d\ud83d"}}"#,
            "metadata.a",
        ),
        (b"{\"agent_id\": 102, \"title\": \"\xed\xa0\xbd\"}", "title"),
        (br#"{"\ud83d": 102}"#, "body"),
    ] {
        create(&northwind, body).refused_field(field, REASON);
    }
    let whole = create(
        &northwind,
        br#"{"agent_id": 102, "title": "Hi \ud83d\ude00"}"#,
    );
    assert_eq!(whole.expect(201).data()["title"], "Hi \u{1f600}");
    let path = format!("/chat/sessions/{session}/messages");
    let request = Request::new("POST", path).text(r#"{"message": "\ud83d"}"#);
    northwind.send(request).refused_field("message", REASON);

    let workspace = Workspace::new();
    let seed = r#"{"tenants": [{"client_id": "n", "name": "\ud83d"}]}"#;
    let done = workspace.run(["import", &workspace.file("seed.json", seed)]);
    assert_eq!(
        (done.code, done.stderr.as_str()),
        (1, format!("tenants[0].name: {REASON}\n").as_str())
    );
}

#[test]
fn a_whole_number_may_be_written_as_a_fraction() {
    let server = Server::demo();
    let northwind = server.northwind();
    for body in [r#"{"agent_id": 102.0}"#, r#"{"agent_id": 1.02e2}"#] {
        let made = create(&northwind, body.as_bytes()).expect(201).data();
        assert_eq!(made["agent_id"], json!(102));
    }
    for number in ["102.5", "1e300", "9007199254740993.0", "true"] {
        let body = format!(r#"{{"agent_id": {number}}}"#);
        create(&northwind, body.as_bytes()).refused_field("agent_id", "must be a whole number");
    }
    let article = json!({ "title": "T", "body": "B", "audience": "MSP", "agent_ids": [102.0] });
    let article = northwind.post("/knowledge-articles", article).expect(201);
    assert_eq!(article.data()["agent_ids"], json!([102]));

    let workspace = Workspace::new();
    let seed = r#"{"tenants": [{"client_id": "n", "name": "N", "retention_days": 30.0,
        "agents": [{"agent_id": 7.0, "name": "A", "audience": "MSP"}]}]}"#;
    workspace.ok(["import", &workspace.file("seed.json", seed)]);
    let exported: Value = serde_json::from_str(&workspace.ok(["export"])).unwrap();
    let tenant = &exported["tenants"][0];
    let agents = tenant["agents"].as_array().unwrap();
    assert_eq!(tenant["retention_days"], json!(30));
    assert!(agents.iter().any(|agent| agent["agent_id"] == json!(7)));
}

#[track_caller]
fn warnings(reply: Reply) -> Vec<String> {
    let json = reply.expect(200).json();
    serde_json::from_value(json["meta"]["warnings"].clone()).unwrap()
}

#[test]
fn a_query_parameter_that_a_call_does_not_have_is_told() {
    let server = Server::demo();
    let northwind = server.northwind();
    for (path, told) in [
        ("/agents?page_size=1&q=desk", &[][..]),
        (
            "/agents?pageSize=1&q=desk",
            &[
                "The query parameter pageSize was ignored: this call does not have it. Did you mean page_size?",
            ],
        ),
        (
            "/agents?end_company_id=1001",
            &[
                "The query parameter end_company_id was ignored: this call does not have it. \
               Calls that have it: GET /knowledge-articles, GET /chat/sessions.",
            ],
        ),
        (
            "/whoami?zzz=1&zzz=2&%22=",
            &[
                "The query parameter zzz was ignored: this call does not have it.",
                r#"The query parameter "\"" was ignored: this call does not have it."#,
            ],
        ),
        (
            "/agents?neo_sk_demo_northwind00000000=1",
            &["The query parameter neo_sk_… was ignored: this call does not have it."],
        ),
        (
            "/health?probe=1",
            &["The query parameter probe was ignored: this call does not have it."],
        ),
    ] {
        assert_eq!(warnings(northwind.get(path)), told, "{path}");
    }
    // A search that a list does not have.
    let channels = northwind.get("/channels").expect(200).ids();
    let told = warnings(northwind.get(&format!("/channels/{}/installs?q=x", channels[0])));
    assert_eq!(told.len(), 1);
    assert!(
        told[0].starts_with("The query parameter q was ignored"),
        "{told:?}"
    );

    let many: String = (0..1_000).map(|name| format!("a{name}=1&")).collect();
    let told = warnings(northwind.get(&format!("/agents?{many}")));
    assert_eq!(
        (told.len(), told[8].as_str()),
        (9, "Query parameters that were ignored too: 56.")
    );
    let long = "a".repeat(4_000);
    let told = warnings(northwind.get(&format!("/agents?{long}=1")));
    assert!(told[0].len() < 250, "{told:?}");
}
