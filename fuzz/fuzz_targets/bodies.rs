//! Request bodies: every reader of the table of routes is held to the schema that the document gives of it.

#![no_main]

use std::cell::RefCell;
use std::sync::LazyLock;

use actix_web::FromRequest;
use actix_web::test::TestRequest;
use jsonschema::Validator;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use switchboard::input::fields::{self, Fields, Problem, Problems};
use switchboard::http::edge::extract::Body;
use switchboard::http::edge::router::{self, Taken};
use switchboard_fuzz::{assert_told, refused_field};
use tokio::runtime::{Builder, Runtime};

/// A route's reader, and what the document says that it takes.
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
            Taken::Json(read) => {
                let schema = fields::describe(read);
                Some(Reader {
                    operation: operation.id,
                    read,
                    validator: jsonschema::validator_for(&schema).expect("a schema"),
                    schema,
                })
            }
            Taken::Nothing | Taken::File => None,
        })
        .collect()
});

thread_local! {
    static RUNTIME: RefCell<Runtime> =
        RefCell::new(Builder::new_current_thread().enable_time().build().expect("a runtime"));
}

/// The body as a request brings it in.
fn received(bytes: &[u8]) -> Result<Body, switchboard::error::Error> {
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

/// Where and why, without what stands there: a fraction may be written shorter than it came.
fn places(problems: &[Problem]) -> Vec<(&str, &str)> {
    let place = |problem| {
        let Problem { path, reason, .. }: &Problem = problem;
        (path.as_str(), reason.as_str())
    };
    problems.iter().map(place).collect()
}

fuzz_target!(|bytes: &[u8]| {
    let value: Option<Value> = serde_json::from_slice(bytes).ok();
    let (body, value) = match (received(bytes), value) {
        (Ok(body), Some(value)) => (body, value),
        (Err(error), None) => return assert_eq!(refused_field(error), "body"),
        (Ok(_), None) => panic!("what is no JSON is taken"),
        (Err(error), Some(_)) => panic!("JSON is refused: {error}"),
    };
    assert_eq!(body.bytes, bytes);
    let written: Value =
        serde_json::from_str(&value.to_string()).expect("what was written is JSON");
    for reader in &*READERS {
        let problems = problems_of(reader, &value);
        assert_eq!(
            places(&problems_of(reader, &written)),
            places(&problems),
            "{}: written again it is another",
            reader.operation
        );
        match (body.read(reader.read), problems.first()) {
            (Ok(()), None) => assert!(
                reader.validator.is_valid(&value),
                "{} takes what its schema refuses: {value}",
                reader.operation
            ),
            (Err(error), Some(first)) => {
                assert_told(&problems);
                let field = refused_field(error);
                assert_eq!(field, first.path);
                let name = field.split(['.', '[']).next().unwrap_or_default();
                assert!(
                    !value.is_object() || reader.schema["properties"].get(name).is_some(),
                    "{} refuses a field that its schema does not know: {field}",
                    reader.operation
                );
            }
            (Ok(()), Some(problem)) => panic!("{}: {problem:?} is forgotten", reader.operation),
            (Err(error), None) => panic!("{}: {error}", reader.operation),
        }
    }
});
