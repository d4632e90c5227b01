//! The OpenAPI 3.1 document, derived from the route table, the request readers and the reply types.

mod texts;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use actix_web::http::{Method, StatusCode, header};
use actix_web::web::{self, Bytes};
use actix_web::{HttpRequest, HttpResponse};
use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::admission::Callers;
use super::router::{RequestBody, Row, table};
use super::routing::PREFIX;
use crate::digest;
use crate::error::{Code, Error};
use crate::http::{App, docs};
use crate::input::fields;
use crate::model::ids::{
    ArticleId, AttachmentId, ChannelId, InstallId, KeyId, MessageId, SessionId, TokenId, TurnId,
};
use crate::model::names::{ClientId, CompanyId, M365TenantId, Name};

/// Serves the document, compressed if the client accepts gzip.
pub(in crate::http) async fn document(
    app: web::Data<App>,
    request: HttpRequest,
) -> Result<HttpResponse, Error> {
    static DOCUMENT: OnceLock<(String, [u8; 32])> = OnceLock::new();
    let (document, hash) = DOCUMENT.get_or_init(|| {
        let document = build().to_string();
        let hash = digest::sha256(&document);
        (document, hash)
    });
    let mut response = HttpResponse::Ok();
    response.insert_header((header::CACHE_CONTROL, "no-cache"));
    app.pages
        .send(&request, response, "application/json", *hash, || {
            Ok(Bytes::from_static(document.as_bytes()))
        })
}

/// Builds the document.
pub fn build() -> Value {
    let mut settings = SchemaSettings::draft2020_12().for_serialize();
    settings.definitions_path = "/components/schemas".into();
    settings.meta_schema = None;
    let mut generator = settings.into_generator();
    let mut paths = Map::new();
    let mut bodies = Map::new();
    let rows = table();
    for row in &rows {
        let item = paths
            .entry(format!("{PREFIX}{}", row.path))
            .or_insert_with(|| json!({}));
        item[row.method.as_str().to_ascii_lowercase()] =
            operation(row, &rows, &mut bodies, &mut generator);
    }
    let mut schemas = generator.take_definitions(true);
    schemas.insert("Meta".to_owned(), meta(false));
    schemas.insert("ListMeta".to_owned(), meta(true));
    schemas.insert("Error".to_owned(), error());
    schemas.extend(bodies);
    for (name, schema) in &mut schemas {
        complete(schema, name);
    }
    let tags: Vec<Value> = texts::TAGS
        .iter()
        .map(|(name, description, _)| json!({ "name": name, "description": description }))
        .collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Switchboard",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": env!("CARGO_PKG_DESCRIPTION"),
            "description": "Every path is also served without the prefix /public-api. The contract, docs/contract.md, defines the \
                            terms and explains the rule behind each error.",
            "contact": { "name": "The Switchboard maintainers" },
            "license": { "name": "Apache 2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "tags": tags,
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": shared_responses(&rows),
            "securitySchemes": security_schemes(),
            "headers": headers(),
        },
    })
}

/// Describes the fields of a schema that have no description, and writes a null among an enum's
/// values as a type of its own, which all generators read.
fn complete(schema: &mut Value, owner: &str) {
    match schema {
        Value::Object(object) => {
            let nullable = object
                .get("enum")
                .and_then(Value::as_array)
                .is_some_and(|values| values.contains(&Value::Null));
            if nullable {
                split_null(object);
            }
            if let Some(Value::Object(properties)) = object.get_mut("properties") {
                for (name, property) in properties {
                    if let (Value::Object(property), Some(text)) =
                        (property, texts::field(owner, name))
                    {
                        property.entry("description").or_insert_with(|| text.into());
                    }
                }
            }
            object.values_mut().for_each(|value| complete(value, owner));
        }
        Value::Array(values) => values.iter_mut().for_each(|value| complete(value, owner)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Turns an enum with a null into either the enum without it or null.
fn split_null(object: &mut Map<String, Value>) {
    let mut words = object.remove("enum").unwrap_or_default();
    if let Some(words) = words.as_array_mut() {
        words.retain(|word| !word.is_null());
    }
    object.remove("type");
    let word = json!({ "type": "string", "enum": words });
    object.insert("anyOf".to_owned(), json!([word, { "type": "null" }]));
}

fn security_schemes() -> Value {
    let bearer = |format: &str, description: &str| json!({ "type": "http", "scheme": "bearer", "bearerFormat": format, "description": description });
    json!({
        "serviceAccount": bearer("neo_sk_<env>_<secret>", "The API key of a service account."),
        "dashboardUser": bearer("JWT", "A Microsoft Entra ID access token or a local sign-in token."),
        "endUserSession": bearer("JWT", "A token that is valid for one session."),
    })
}

fn security(callers: Callers) -> Value {
    let kinds: &[&str] = match callers {
        Callers::Public => &[],
        Callers::Anyone | Callers::CanSend => {
            &["serviceAccount", "dashboardUser", "endUserSession"]
        }
        Callers::Member | Callers::CanChat | Callers::CanManage => {
            &["serviceAccount", "dashboardUser"]
        }
        Callers::Person | Callers::Admin => &["dashboardUser"],
        Callers::Platform => &["serviceAccount"],
    };
    kinds.iter().map(|kind| json!({ *kind: [] })).collect()
}

fn headers() -> Value {
    let number = json!({ "type": "integer" });
    json!({
        "X-Request-Id": { "description": "The id of the request, which the server's log also contains.", "required": true, "schema": { "type": "string", "format": "uuid" } },
        "X-RateLimit-Limit": { "description": "Requests that the tenant may send per minute.", "schema": number },
        "X-RateLimit-Remaining": { "description": "Requests that the tenant may still send in the current window.", "schema": number },
        "X-RateLimit-Reset": { "description": "When the full limit is available again, in Unix seconds.", "schema": number },
        "Location": { "description": "The path of the created resource.", "required": true, "schema": { "type": "string" } },
        "Retry-After": { "description": "Seconds to wait before the next attempt.", "required": true, "schema": number },
        "Allow": { "description": "The methods that this path supports.", "required": true, "schema": { "type": "string" } },
        "WWW-Authenticate": { "description": "The authentication scheme, which is Bearer.", "required": true, "schema": { "type": "string" } },
    })
}

fn header_refs(names: &[&str]) -> Value {
    let refs = names.iter().map(|name| {
        let reference = json!({ "$ref": format!("#/components/headers/{name}") });
        ((*name).to_owned(), reference)
    });
    Value::Object(refs.collect())
}

fn meta(is_list: bool) -> Value {
    let mut meta = json!({
        "type": "object",
        "required": ["request_id", "timings_ms", "warnings"],
        "properties": {
            "request_id": { "type": "string", "format": "uuid" },
            "timings_ms": { "type": "object", "required": ["total"], "properties": { "total": { "type": "number" } } },
            "warnings": { "type": "array", "items": { "type": "string" } },
        },
    });
    if is_list {
        meta["required"] = json!(["request_id", "timings_ms", "warnings", "pagination"]);
        meta["properties"]["pagination"] = json!({
            "type": "object",
            "required": ["has_more", "next_cursor"],
            "properties": { "has_more": { "type": "boolean" }, "next_cursor": { "type": ["string", "null"] } },
        });
    }
    meta
}

fn error() -> Value {
    let codes: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    json!({
        "type": "object",
        "required": ["error", "meta"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["code", "message"],
                "properties": {
                    "code": { "type": "string", "enum": codes },
                    "message": { "type": "string", "description": "A sentence for people that says what is wrong and what to do." },
                    "details": { "type": "object", "additionalProperties": true },
                },
            },
            "meta": { "type": "object", "required": ["request_id"], "properties": { "request_id": { "type": "string", "format": "uuid" } } },
        },
    })
}

fn operation(
    row: &Row,
    rows: &[Row],
    bodies: &mut Map<String, Value>,
    generator: &mut SchemaGenerator,
) -> Value {
    let operation = &row.operation;
    let mut parameters: Vec<Value> = path_parameters(row.path);
    for (name, schema) in &operation.query {
        let mut schema = schema.clone();
        complete(&mut schema, operation.id);
        parameters
            .push(json!({ "name": name, "in": "query", "required": false, "schema": schema }));
    }
    for (name, description) in &operation.headers {
        let schema = json!({ "type": "string" });
        parameters.push(json!({ "name": name, "in": "header", "required": false, "description": description, "schema": schema }));
    }
    for parameter in &mut parameters {
        let name = parameter["name"].as_str().unwrap_or_default();
        if let (Some(text), None) = (
            texts::field(operation.id, name),
            parameter.get("description"),
        ) {
            parameter["description"] = text.into();
        }
    }
    let mut described = json!({
        "operationId": operation.id,
        "summary": operation.summary,
        "description": texts::operation(operation.id),
        "tags": [tag(row.path)],
        "x-error-codes": error_codes(row),
        "security": security(row.callers),
        "responses": responses(row, rows, generator),
    });
    if !parameters.is_empty() {
        described["parameters"] = json!(parameters);
    }
    let body = match operation.body {
        RequestBody::None => None,
        RequestBody::Json(read) => {
            let name = body_name(operation.id);
            let reference = json!({ "$ref": format!("#/components/schemas/{name}") });
            let mut schema = fields::describe(read);
            complete(&mut schema, operation.id);
            bodies.insert(name, schema);
            Some(("application/json", reference))
        }
        RequestBody::File(media_type) => {
            Some((media_type, json!({ "type": "string", "format": "binary" })))
        }
    };
    if let Some((media_type, schema)) = body {
        let mut content = json!({ "schema": schema });
        let example = match operation.example {
            Some(example) => example(),
            None => "The bytes of the file.".into(),
        };
        content["examples"] = json!({ "demo": { "value": example } });
        described["requestBody"] = json!({ "required": true, "content": { media_type: content } });
    }
    described
}

/// The name of a request body's schema.
fn body_name(operation: &str) -> String {
    let (first, rest) = operation.split_at(operation.len().min(1));
    format!("{}{rest}Request", first.to_ascii_uppercase())
}

/// The group of a path.
fn tag(path: &str) -> Option<&'static str> {
    let first = path.split('/').nth(1)?;
    let (tag, ..) = texts::TAGS
        .iter()
        .find(|(_, _, segments)| segments.contains(&first))?;
    Some(tag)
}

/// The error codes of a route by status, which the shared responses do not tell apart.
fn error_codes(row: &Row) -> Value {
    let by_status = refusals_of(row).into_iter().map(|(status, codes)| {
        let words: Vec<&str> = codes.iter().map(|code| code.as_str()).collect();
        (status.to_string(), json!(words))
    });
    Value::Object(by_status.collect())
}

/// The names of a path's parameters.
fn path_names(path: &str) -> impl Iterator<Item = &str> {
    path.split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

/// A path's parameters, each with its schema and, where the demo has one, an example value.
fn path_parameters(path: &str) -> Vec<Value> {
    let described = path_names(path).map(|name| {
        let text = |pattern: &str| json!({ "type": "string", "pattern": pattern });
        let (schema, example) = match name {
            "agent_id" => (
                json!({ "type": "integer", "format": "int64" }),
                Some(json!(101)),
            ),
            "session_id" => (text(&SessionId::pattern()), None),
            "message_id" => (text(&MessageId::pattern()), None),
            "chat_turn_id" => (text(&TurnId::pattern()), None),
            "attachment_id" => (text(&AttachmentId::pattern()), None),
            "channel_id" => (text(&ChannelId::pattern()), None),
            "install_id" => (text(&InstallId::pattern()), None),
            "key_id" => (text(&KeyId::pattern()), None),
            "article_id" => (text(&ArticleId::pattern()), None),
            "jti" => (text(&TokenId::pattern()), None),
            "psa_company_id" => (text(CompanyId::PATTERN), Some(json!("1001"))),
            "inbound_tenant_id" => (text(M365TenantId::PATTERN), None),
            "client_id" => (text(ClientId::PATTERN), Some(json!("northwind-it"))),
            "kind" => (
                json!({ "type": "string", "enum": ["color", "outline"] }),
                None,
            ),
            "file" => (
                json!({ "type": "string", "enum": docs::files().collect::<Vec<_>>() }),
                None,
            ),
            _ => (
                json!({ "type": "string", "minLength": 1, "maxLength": 128 }),
                None,
            ),
        };
        let mut parameter =
            json!({ "name": name, "in": "path", "required": true, "schema": schema });
        if let Some(example) = example {
            parameter["example"] = example;
        }
        parameter
    });
    described.collect()
}

fn responses(row: &Row, rows: &[Row], generator: &mut SchemaGenerator) -> Value {
    let operation = &row.operation;
    let mut responses = Map::new();
    for status in &operation.successes {
        responses.insert(status.to_string(), success(row, rows, *status, generator));
    }
    for (status, _) in refusals_of(row) {
        let reference = format!("#/components/responses/{}", response_name(status));
        responses.insert(status.to_string(), json!({ "$ref": reference }));
    }
    Value::Object(responses)
}

fn success(row: &Row, rows: &[Row], status: u16, generator: &mut SchemaGenerator) -> Value {
    let operation = &row.operation;
    let mut names = vec!["X-Request-Id"];
    if row.callers != Callers::Public {
        names.extend([
            "X-RateLimit-Limit",
            "X-RateLimit-Remaining",
            "X-RateLimit-Reset",
        ]);
    }
    if status == 201 {
        names.push("Location");
    }
    let mut described = json!({ "description": operation.summary, "headers": header_refs(&names) });
    if matches!(status, 204 | 304) {
        return described;
    }
    if !operation.media_types.is_empty() {
        let contents = operation.media_types.iter();
        described["content"] = contents
            .map(|media_type| ((*media_type).to_owned(), json!({})))
            .collect();
        return described;
    }
    let is_list = operation.query.iter().any(|(name, _)| name == "page_size");
    let meta = if is_list { "ListMeta" } else { "Meta" };
    let data = (operation.data)(generator);
    let links = links(row, rows, status, data.as_ref(), generator);
    if !links.is_empty() {
        described["links"] = Value::Object(links);
    }
    let mut schema = json!({
        "type": "object",
        "required": ["data", "meta"],
        "properties": { "data": data, "meta": { "$ref": format!("#/components/schemas/{meta}") } },
    });
    complete(&mut schema, operation.id);
    described["content"] = json!({ "application/json": { "schema": schema } });
    described
}

/// Links from a created resource to the operations that take its id. Candidates are the paths below
/// the path that created it, or below its owner.
fn links(
    row: &Row,
    rows: &[Row],
    status: u16,
    data: Option<&Schema>,
    generator: &SchemaGenerator,
) -> Map<String, Value> {
    let mut links = Map::new();
    let (Some(data), 201 | 202) = (data, status) else {
        return links;
    };
    let owner = row.path.rsplit_once('/').map_or("", |(owner, _)| owner);
    let base = if owner.contains('{') { owner } else { row.path };
    for other in rows {
        let below = other.path.strip_prefix(base);
        if !below.is_some_and(|below| below.starts_with('/')) {
            continue;
        }
        let mut uses_reply = false;
        let parameters: Option<Map<String, Value>> = path_names(other.path)
            .map(|name| {
                let parameter = format!("{{{name}}}");
                let expression = if row.path.contains(&parameter) {
                    format!("$request.path.{name}")
                } else {
                    uses_reply = true;
                    let is_child = other.path.starts_with(&format!("{}/{parameter}", row.path));
                    let named = has_property(data, name, generator).then_some(name);
                    let id = (is_child && has_property(data, "id", generator)).then_some("id");
                    format!("$response.body#/data/{}", named.or(id)?)
                };
                Some((name.to_owned(), expression.into()))
            })
            .collect();
        if let (Some(parameters), true) = (parameters, uses_reply) {
            let link = json!({ "operationId": other.operation.id, "parameters": parameters });
            links.insert(other.operation.id.to_owned(), link);
        }
    }
    links
}

fn has_property(schema: &Schema, name: &str, generator: &SchemaGenerator) -> bool {
    let reference = schema.get("$ref").and_then(Value::as_str);
    let definition = reference
        .and_then(|reference| reference.rsplit('/').next())
        .and_then(|name| generator.definitions().get(name));
    let properties = match definition {
        Some(definition) => definition.get("properties"),
        None => schema.get("properties"),
    };
    properties.is_some_and(|properties| properties.get(name).is_some())
}

/// All error codes of a route, by status: its own, and those of routing, admission and extraction.
pub fn refusals_of(row: &Row) -> Vec<(u16, Vec<Code>)> {
    let mut codes = row.operation.refusals.clone();
    codes.extend([
        Code::MethodNotAllowed,
        Code::InternalError,
        Code::Overloaded,
        Code::ShuttingDown,
    ]);
    if row.callers != Callers::Public {
        codes.extend([Code::Unauthorized, Code::RateLimited]);
        // A user who is not let in gets this code everywhere.
        codes.push(Code::Forbidden);
    }
    if !matches!(row.operation.body, RequestBody::None) {
        codes.extend([
            Code::ValidationError,
            Code::PayloadTooLarge,
            Code::UnsupportedMediaType,
        ]);
    }
    if !row.operation.query.is_empty() || !row.operation.headers.is_empty() {
        codes.push(Code::ValidationError);
    }
    if row.path.contains('{') {
        codes.push(Code::NotFound);
    }
    if row.method != Method::GET || row.path == "/ready" {
        codes.push(Code::StorageFull);
    }
    let mut by_status: Vec<(u16, Vec<Code>)> = Vec::new();
    for code in Code::ALL.iter().filter(|code| codes.contains(code)) {
        match by_status
            .iter_mut()
            .find(|(status, _)| *status == code.status())
        {
            Some((_, codes)) => codes.push(*code),
            None => by_status.push((code.status(), vec![*code])),
        }
    }
    by_status.sort_by_key(|(status, _)| *status);
    by_status
}

/// The name of the response that all errors of a status share.
fn response_name(status: u16) -> String {
    let phrase = StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason());
    phrase.unwrap_or("Error").replace(' ', "")
}

/// The responses of all statuses that a route of the table can refuse with.
fn shared_responses(rows: &[Row]) -> Value {
    let mut by_status: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
    for (status, codes) in rows.iter().flat_map(refusals_of) {
        let known = by_status.entry(status).or_default();
        known.extend(codes);
    }
    let responses = by_status.into_iter().map(|(status, codes)| {
        let codes: Vec<Code> = Code::ALL
            .iter()
            .filter(|code| codes.contains(code))
            .copied()
            .collect();
        (response_name(status), refusal(status, &codes))
    });
    Value::Object(responses.collect())
}

fn refusal(status: u16, codes: &[Code]) -> Value {
    let mut names = vec!["X-Request-Id"];
    match status {
        401 => names.push("WWW-Authenticate"),
        405 => names.push("Allow"),
        429 | 503 => names.push("Retry-After"),
        _ => {}
    }
    let sentences: Vec<String> = codes
        .iter()
        .map(|code| format!("`{}`: {}", code.as_str(), code.sentence()))
        .collect();
    json!({
        "description": sentences.join("\n\n"),
        "headers": header_refs(&names),
        "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Error" } } },
    })
}
