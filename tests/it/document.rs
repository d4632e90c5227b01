//! The OpenAPI document is true: every reply of every test is validated against it, and its
//! examples work against the demo.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock};

use jsonschema::Validator;
use serde_json::{Map, Value, json};
use switchboard::http::edge::admission::Callers;
use switchboard::http::edge::openapi;
use switchboard::http::edge::router;
use switchboard::http::edge::routing::PREFIX;
use switchboard::model::words::Role;

use crate::authority::{Authority, NEWCOMER};
use crate::management::{flags, person};
use crate::sign_in;
use crate::support::{ApiClient, CONTOSO, DEMO, Server, technician};
use crate::wire::{Reply, Request};

fn document() -> &'static Value {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    DOCUMENT.get_or_init(openapi::build)
}

/// The path template of the route that serves a path.
fn pattern_of(path: &str) -> Option<&'static str> {
    static PATTERNS: OnceLock<Vec<&'static str>> = OnceLock::new();
    let path = path.split('?').next().unwrap_or_default();
    let path = path.strip_prefix(PREFIX).unwrap_or(path);
    let patterns = PATTERNS.get_or_init(|| router::table().iter().map(|row| row.path).collect());
    // Literal segments win over parameters.
    let mut fitting: Vec<&'static str> = patterns
        .iter()
        .filter(|pattern| {
            let (parts, asked) = (pattern.split('/'), path.split('/'));
            pattern.split('/').count() == path.split('/').count()
                && parts.zip(asked).all(|(part, asked)| {
                    part == asked || (part.starts_with('{') && !asked.is_empty())
                })
        })
        .copied()
        .collect();
    fitting.sort_by_key(|pattern| pattern.matches('{').count());
    fitting.first().copied()
}

/// A schema without additional properties, which detects fields that the document does not list.
fn strict(schema: &Value) -> Value {
    match schema {
        Value::Object(fields) => {
            let mut fields: Map<String, Value> = fields
                .iter()
                .map(|(name, value)| (name.clone(), strict(value)))
                .collect();
            let is_object = fields
                .get("type")
                .is_some_and(|kind| *kind == "object" || *kind == json!(["object", "null"]));
            if is_object
                && fields.contains_key("properties")
                && !fields.contains_key("additionalProperties")
            {
                fields.insert("additionalProperties".to_owned(), json!(false));
            }
            Value::Object(fields)
        }
        Value::Array(items) => items.iter().map(strict).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => schema.clone(),
    }
}

/// What a reference within the document leads to; anything else as it is.
fn resolved(value: &'static Value) -> &'static Value {
    match value["$ref"].as_str() {
        Some(reference) => document()
            .pointer(reference.trim_start_matches('#'))
            .unwrap(),
        None => value,
    }
}

/// Validates a reply against the document's description of its route.
#[track_caller]
pub fn assert_documented(request: &Request, reply: &Reply) {
    type Validators = HashMap<(String, String, u16), &'static Validator>;
    static VALIDATORS: OnceLock<Mutex<Validators>> = OnceLock::new();

    let Some(pattern) = pattern_of(&request.target) else {
        return;
    };
    if request.method == "OPTIONS" {
        return;
    }
    let path = format!("{PREFIX}{pattern}");
    let item = &document()["paths"][&path];
    // HEAD is answered as GET is, without the body.
    let is_head = request.method == "HEAD";
    let method = if is_head {
        "get".to_owned()
    } else {
        request.method.to_ascii_lowercase()
    };
    let operation = match item.get(&method) {
        Some(operation) => operation,
        // An unknown method is 405 everywhere, and every operation of the path describes that.
        None => item.as_object().unwrap().values().next().unwrap(),
    };
    let asked = format!("{} {}", request.method, request.target);
    let status = reply.status.to_string();
    let response = resolved(&operation["responses"][&status]);
    assert!(
        response.is_object(),
        "{asked}: the document has no status {}: {}",
        reply.status,
        reply.text()
    );
    let needed = response["headers"].as_object().into_iter().flatten();
    for (name, place) in needed {
        let place = place["$ref"].as_str().unwrap().trim_start_matches('#');
        let header = document().pointer(place).unwrap();
        if header["required"] == true {
            assert!(
                reply.header(&name.to_ascii_lowercase()).is_some(),
                "{asked}: {} without {name}",
                reply.status
            );
        }
    }
    if is_head {
        assert!(reply.body.is_empty(), "{asked}: {}", reply.text());
        return;
    }
    if reply.status >= 400 {
        // The statuses share their schema, so the operation lists its codes.
        let code = reply.json()["error"]["code"].clone();
        let codes = operation["x-error-codes"][&status].as_array();
        let is_listed = codes.is_some_and(|codes| codes.contains(&code));
        assert!(is_listed, "{asked}: {status} {code} is not listed");
    }
    let Some(content) = response.get("content") else {
        assert!(reply.body.is_empty(), "{asked}: {}", reply.text());
        return;
    };
    let Some(schema) = content.pointer("/application~1json/schema") else {
        return;
    };
    let key = (path, method, reply.status);
    let mut validators = VALIDATORS.get_or_init(Mutex::default).lock().unwrap();
    let validator = *validators.entry(key).or_insert_with(|| {
        let mut schema = strict(schema);
        schema["components"] = strict(&document()["components"]);
        Box::leak(Box::new(jsonschema::draft202012::new(&schema).unwrap()))
    });
    drop(validators);
    let problems: Vec<String> = validator
        .iter_errors(&reply.json())
        .map(|problem| format!("{} {problem}", problem.instance_path()))
        .collect();
    assert!(
        problems.is_empty(),
        "{asked}: {} is not as the document says: {problems:#?}\n{}",
        reply.status,
        reply.text()
    );
}

#[test]
fn the_document_is_an_openapi_3_1_document_of_every_route() {
    let server = Server::demo();
    let reply = server.anonymous().get("/openapi.json").expect(200);
    assert_eq!(reply.header("content-type"), Some("application/json"));
    let document = reply.json();
    assert_eq!(document["openapi"], "3.1.0");
    let mut names = std::collections::BTreeSet::new();
    for row in router::table() {
        let operation = &document["paths"][format!("{PREFIX}{}", row.path)]
            [row.method.as_str().to_ascii_lowercase()];
        let name = operation["operationId"].as_str().unwrap_or_default();
        assert!(!name.is_empty(), "{} {} has no name", row.method, row.path);
        assert!(names.insert(name.to_owned()), "{name} is there twice");
        assert!(!operation["summary"].as_str().unwrap().is_empty());
        let in_path = row.path.matches('{').count();
        let parameters = operation["parameters"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let described = parameters
            .iter()
            .filter(|parameter| parameter["in"] == "path");
        assert_eq!(described.count(), in_path, "{}", row.path);
    }
}

/// Every part of the document that is an object, with its place.
fn objects(value: &Value, place: String, found: &mut Vec<(String, Map<String, Value>)>) {
    match value {
        Value::Object(object) => {
            found.push((place.clone(), object.clone()));
            for (name, inner) in object {
                objects(inner, format!("{place}/{name}"), found);
            }
        }
        Value::Array(values) => {
            for (at, inner) in values.iter().enumerate() {
                objects(inner, format!("{place}/{at}"), found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn every_operation_parameter_and_field_is_described_and_every_body_has_an_example() {
    let mut missing = Vec::new();
    let mut all = Vec::new();
    objects(document(), String::new(), &mut all);
    for (place, object) in &all {
        let is_described = |object: &Value| {
            object["description"]
                .as_str()
                .is_some_and(|text| text.len() > 5)
        };
        let is_named =
            object.contains_key("responses") || object.get("in").is_some_and(Value::is_string);
        if is_named && !place.ends_with("/components") && !is_described(&json!(object)) {
            missing.push(place.clone());
        }
        let is_example = place.contains("/examples/");
        if let (Some(Value::Object(fields)), false) = (object.get("properties"), is_example) {
            let bare = fields
                .iter()
                .filter(|(_, field)| field.is_object() && !is_described(field));
            missing.extend(bare.map(|(name, _)| format!("{place}/{name}")));
        }
        if let Some(body) = object.get("requestBody") {
            let content = body["content"]
                .as_object()
                .unwrap()
                .values()
                .next()
                .unwrap();
            if !content["examples"].is_object() {
                missing.push(format!("{place}: no example"));
            }
        }
        let words = object.get("enum").and_then(Value::as_array);
        if words.is_some_and(|words| words.contains(&Value::Null)) {
            missing.push(format!("{place}: null in an enum"));
        }
    }
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn operations_are_grouped_in_reading_order_and_named_as_methods() {
    let tags: Vec<&str> = document()["tags"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tag| tag["name"].as_str().unwrap())
        .collect();
    assert_eq!(tags[0], "chat");
    for (path, item) in document()["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let tag = operation["tags"][0].as_str().unwrap_or_default();
            assert!(tags.contains(&tag), "{method} {path} has the tag {tag:?}");
            let name = operation["operationId"].as_str().unwrap();
            let is_camel = name.starts_with(|c: char| c.is_ascii_lowercase())
                && name.chars().all(|c| c.is_ascii_alphanumeric());
            assert!(is_camel, "{name}");
        }
    }
}

#[test]
fn the_document_is_small_and_compressed_for_who_accepts_that() {
    let server = Server::demo();
    let request = || Request::new("GET", "/openapi.json");
    let compressed = server
        .anonymous()
        .send(request().header("accept-encoding", "gzip"))
        .expect(200);
    assert_eq!(compressed.header("content-encoding"), Some("gzip"));
    assert!(compressed.body.len() < 40_000, "{}", compressed.body.len());
    let plain = server.anonymous().send(request()).expect(200);
    assert_eq!(plain.header("content-encoding"), None);
    assert_eq!(plain.json(), *document());
    let tag = plain.header("etag").unwrap().to_owned();
    let again = server
        .anonymous()
        .send(request().header("if-none-match", &tag));
    assert_eq!((again.status, again.body.len()), (304, 0));
}

#[test]
fn the_file_in_the_repository_is_the_document_that_the_program_serves() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json");
    let current = serde_json::to_string_pretty(document()).unwrap() + "\n";
    if std::env::var_os("SWITCHBOARD_WRITE_DOCUMENT").is_some() {
        std::fs::write(file, &current).unwrap();
    }
    let kept = std::fs::read_to_string(file).unwrap_or_default();
    assert!(
        kept == current,
        "docs/openapi.json is out of date: SWITCHBOARD_WRITE_DOCUMENT=1 cargo test --locked document::"
    );
}

#[test]
fn names_in_the_document_are_unique() {
    let schemas = document()["components"]["schemas"].as_object().unwrap();
    // A generator would number the second schema of one name.
    let numbered = schemas
        .keys()
        .filter(|name| name.ends_with(|c: char| c.is_ascii_digit()));
    assert_eq!(numbered.collect::<Vec<_>>(), Vec::<&String>::new());
}

#[test]
fn a_creates_response_links_to_the_operations_that_take_its_id() {
    let link = |path: &str, status: &str, name: &str| {
        document()["paths"][format!("{PREFIX}{path}")]["post"]["responses"][status]["links"][name]
            ["parameters"]
            .clone()
    };
    assert_eq!(
        link("/chat/sessions", "201", "appendMessage"),
        json!({ "session_id": "$response.body#/data/id" })
    );
    assert_eq!(
        link("/chat/sessions/{session_id}/messages", "202", "getTurn"),
        json!({
            "session_id": "$request.path.session_id",
            "chat_turn_id": "$response.body#/data/chat_turn_id",
        })
    );
    assert_eq!(
        link("/end-companies", "201", "getEndCompany"),
        json!({ "psa_company_id": "$response.body#/data/psa_company_id" })
    );
    assert_eq!(link("/chat/sessions", "201", "getAgent"), Value::Null);
}

#[test]
fn a_reply_that_the_document_does_not_describe_is_detected() {
    let reply = |status: u16, body: Value| Reply {
        status,
        headers: vec![("x-request-id".to_owned(), "1".to_owned())],
        body: body.to_string().into_bytes(),
    };
    let request = Request::new("GET", "/public-api/health");
    let meta = json!({ "request_id": "5f0c4c2e-8f3e-4d8e-9d0e-0a1b2c3d4e5f", "timings_ms": { "total": 1.0 }, "warnings": [] });
    let right = json!({ "data": { "status": "ok", "version": "1", "engine": "sqlite", "nodes": 1 }, "meta": meta });
    assert_documented(&request, &reply(200, right.clone()));
    let mut more = right.clone();
    more["data"]["secret"] = json!(1);
    let mut less = right.clone();
    less["data"].as_object_mut().unwrap().remove("status");
    for (status, wrong) in [(200, more), (200, less), (201, right)] {
        let found = std::panic::catch_unwind(|| assert_documented(&request, &reply(status, wrong)));
        assert!(found.is_err());
    }
}

#[test]
fn every_example_of_the_document_works_against_the_demo() {
    let mut tried = 0;
    for row in router::table() {
        let Some(mut example) = row.operation.example.map(|example| example()) else {
            continue;
        };
        // Each example gets its own server, so that no example's change affects another.
        let authority = Authority::new();
        let [url, audience] = flags(&authority);
        // Only a message without an answer is changed.
        let answers = row.operation.id != "editMessage";
        let server = match answers {
            true => Server::answering(&[&url, &audience]),
            false => Server::with_world(DEMO, &[&url, &audience]),
        };
        let places = Places::of(&server, answers);
        let path = places.fill(row.path);
        // What only this server knows.
        if let Some(code) = example.get_mut("code") {
            sign_in::offer(&server, "northwind-it", Role::Admin, "good-code");
            *code = "good-code".into();
        }
        if let Some(session) = example.get_mut("session_id") {
            *session = places.session.as_str().into();
        }
        let request = Request::new(row.method.as_str(), format!("{PREFIX}{path}")).json(&example);
        let reply = client(&server, &authority, row.callers).send(request);
        assert!(
            row.operation.successes.contains(&reply.status),
            "{} {path} {example}: {} {}",
            row.method,
            reply.status,
            reply.text()
        );
        tried += 1;
    }
    assert!(tried > 5);
}

/// Values for the path parameters, from the demo world.
struct Places {
    article: String,
    session: String,
    message: String,
    turn: String,
    channel: String,
    install: String,
}

impl Places {
    /// The message is an answer, or a question if the server does not answer.
    fn of(server: &Server, answers: bool) -> Self {
        let session = server.northwind().session(technician());
        let said = server
            .northwind()
            .append_text(&session, "Hello")
            .expect(202)
            .data();
        let turn = said["chat_turn_id"].as_str().unwrap().to_owned();
        let wait = if answers { "wait_seconds=60" } else { "" };
        let ended = server.northwind().turn(&session, &turn, wait);
        let message = match answers {
            true => ended.expect(200).data()["assistant_message"]["id"].clone(),
            false => said["user_message_id"].clone(),
        };
        let articles = server.northwind().get("/knowledge-articles").expect(200);
        Self {
            article: articles.ids().swap_remove(0),
            message: message.as_str().unwrap().to_owned(),
            session,
            turn,
            channel: server.client_help_bot(),
            install: server.install_of(CONTOSO),
        }
    }

    fn fill(&self, path: &str) -> String {
        path.replace("{session_id}", &self.session)
            .replace("{message_id}", &self.message)
            .replace("{chat_turn_id}", &self.turn)
            .replace("{article_id}", &self.article)
            .replace("{user_id}", "3d8c1f52-7a94-4e0b-b6d1-52f09c7e4a18")
            .replace("{agent_id}", "101")
            .replace("{channel_id}", &self.channel)
            .replace("{install_id}", &self.install)
            .replace("{psa_company_id}", "1001")
            .replace("{client_id}", "northwind-it")
    }
}

/// A client that may make a call.
fn client(server: &Server, authority: &Authority, callers: Callers) -> ApiClient {
    match callers {
        Callers::Public
        | Callers::Anyone
        | Callers::CanSend
        | Callers::Member
        | Callers::CanChat
        | Callers::CanManage => server.northwind(),
        Callers::Person | Callers::Admin => person(server, authority, NEWCOMER, "Admin"),
        Callers::Platform => server.relay(),
    }
}
