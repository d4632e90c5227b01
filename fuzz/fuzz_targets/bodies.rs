//! Request bodies: the reader of each route must accept and refuse what the route's schema in the
//! OpenAPI document accepts and refuses.

#![no_main]

use std::cell::RefCell;
use std::sync::LazyLock;

use actix_web::FromRequest;
use actix_web::test::TestRequest;
use jsonschema::Validator;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use switchboard::http::edge::extract::Body;
use switchboard::http::edge::router::{self, RequestBody};
use switchboard::input::fields::{self, Fields, Problem, Problems};
use switchboard_fuzz::{assert_readable, refused_field};
use tokio::runtime::{Builder, Runtime};

/// The reader of a route, and its schema in the OpenAPI document.
struct Reader {
    operation: &'static str,
    read: fn(&Fields<'_>),
    schema: Value,
    validator: Validator,
}

static READERS: LazyLock<Vec<Reader>> = LazyLock::new(|| {
    let rows = router::table().into_iter();
    let operations = rows.map(|row| row.operation);
    operations
        .filter_map(|operation| match operation.body {
            RequestBody::Json(read) => {
                let schema = fields::describe(read);
                Some(Reader {
                    operation: operation.id,
                    read,
                    validator: jsonschema::validator_for(&schema).expect("a schema"),
                    schema,
                })
            }
            RequestBody::None | RequestBody::File => None,
        })
        .collect()
});

thread_local! {
    static RUNTIME: RefCell<Runtime> =
        RefCell::new(Builder::new_current_thread().enable_time().build().expect("a runtime"));
}

/// Receives a body as a request does.
fn receive(bytes: &[u8]) -> Result<Body<()>, switchboard::error::Error> {
    let request = TestRequest::post()
        .insert_header(("Content-Type", "application/json"))
        .set_payload(bytes.to_vec());
    let (request, mut payload) = request.to_http_parts();
    RUNTIME.with_borrow_mut(|runtime| runtime.block_on(Body::from_request(&request, &mut payload)))
}

fn problems_of(reader: &Reader, value: &Value) -> Vec<Problem> {
    let problems = Problems::default();
    if let Some(fields) = Fields::root(value, &problems) {
        (reader.read)(&fields);
    }
    problems.into_all()
}

/// Returns the paths and reasons without the values, because a fraction may be formatted shorter.
fn paths_and_reasons(problems: &[Problem]) -> Vec<(&str, &str)> {
    let parts = |problem| {
        let Problem { path, reason, .. }: &Problem = problem;
        (path.as_str(), reason.as_str())
    };
    problems.iter().map(parts).collect()
}

fuzz_target!(|bytes: &[u8]| {
    let value: Option<Value> = serde_json::from_slice(bytes).ok();
    let (body, value) = match (receive(bytes), value) {
        (Ok(body), Some(value)) => (body, value),
        (Err(error), None) => return assert_eq!(refused_field(error), "body"),
        (Ok(_), None) => panic!("invalid JSON is accepted"),
        (Err(error), Some(_)) => panic!("valid JSON is refused: {error}"),
    };
    assert_eq!(body.bytes, bytes);
    let formatted: Value =
        serde_json::from_str(&value.to_string()).expect("formatted JSON is valid");
    for reader in &*READERS {
        let problems = problems_of(reader, &value);
        assert_eq!(
            paths_and_reasons(&problems_of(reader, &formatted)),
            paths_and_reasons(&problems),
            "{}: the formatted body is read differently",
            reader.operation
        );
        match (body.read_by(reader.read), problems.first()) {
            (Ok(()), None) => assert!(
                reader.validator.is_valid(&value),
                "{} accepts what its schema refuses: {value}",
                reader.operation
            ),
            (Err(error), Some(first)) => {
                assert_readable(&problems);
                let field = refused_field(error);
                assert_eq!(field, first.path);
                let name = field.split(['.', '[']).next().unwrap_or_default();
                assert!(
                    !value.is_object() || reader.schema["properties"].get(name).is_some(),
                    "{} refuses a field that is not in its schema: {field}",
                    reader.operation
                );
            }
            (Ok(()), Some(problem)) => panic!("{}: {problem:?} is lost", reader.operation),
            (Err(error), None) => panic!("{}: {error}", reader.operation),
        }
    }
});
