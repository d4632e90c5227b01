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

use crate::authority::{Authority, NEWCOMER};
use crate::management::{flags, person};
use crate::support::{ApiClient, CONTOSO, Server, technician};
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
    let response = &operation["responses"][reply.status.to_string()];
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
    let right = json!({ "data": { "status": "ok", "version": "1" }, "meta": meta });
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
        let Some(example) = row.operation.example.map(|example| example()) else {
            continue;
        };
        // Each example gets its own server, so that no example's change affects another.
        let authority = Authority::new();
        let [url, audience] = flags(&authority);
        let server = Server::answering(&[&url, &audience]);
        let places = Places::of(&server);
        let path = places.fill(row.path);
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
    fn of(server: &Server) -> Self {
        let session = server.northwind().session(technician());
        let said = server
            .northwind()
            .append_text(&session, "Hello")
            .expect(202)
            .data();
        let turn = said["chat_turn_id"].as_str().unwrap().to_owned();
        let ended = server.northwind().turn(&session, &turn, "wait_seconds=60");
        let answer = &ended.expect(200).data()["assistant_message"]["id"];
        let articles = server.northwind().get("/knowledge-articles").expect(200);
        Self {
            article: articles.ids().swap_remove(0),
            message: answer.as_str().unwrap().to_owned(),
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
