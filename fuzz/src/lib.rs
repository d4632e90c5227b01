//! The checks that every target applies to errors: they are short, and they show no API key.

use serde_json::Value;
use switchboard::error::{Code, Error, Refusal};
use switchboard::input::fields::Problem;

/// The maximum length of reasons and messages, in characters. A metadata key may be quoted in full,
/// with every character escaped.
const MAX_REASON: usize = 1_000;
/// The maximum length of a shown value, in characters, including the ellipsis.
const MAX_VALUE: usize = 81;
/// The maximum length of a path, in characters.
const MAX_PATH: usize = 120;

/// Returns the refusal in an error. An internal failure is a finding.
pub fn refusal(error: Error) -> Refusal {
    let refusal = match error {
        Error::Refused(refusal) => *refusal,
        Error::Internal(cause) => panic!("internal failure: {cause}"),
    };
    assert_brief(&refusal.message, MAX_REASON);
    refusal
}

/// Returns the field of a `validation_error`, which must have a reason too.
pub fn refused_field(error: Error) -> String {
    let refusal = refusal(error);
    assert_eq!(refusal.code, Code::ValidationError);
    let details = refusal.details.unwrap_or_default();
    let text = |name: &str| {
        details
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    assert_brief(text("reason"), MAX_REASON);
    assert_brief(text("field"), MAX_PATH);
    text("field").to_owned()
}

/// Checks the problems of a file as an operator sees them.
pub fn assert_readable(problems: &[Problem]) {
    assert!(!problems.is_empty(), "refused without a reason");
    for problem in problems {
        assert_brief(&problem.path, MAX_PATH);
        assert_brief(&problem.reason, MAX_REASON);
        let shown = problem.value.chars().count();
        assert!(shown <= MAX_VALUE, "a value of {shown} characters is shown");
        assert_shows_no_key(&problem.value);
    }
}

fn assert_brief(text: &str, max: usize) {
    let characters = text.chars().count();
    assert!((1..=max).contains(&characters), "{characters}: {text}");
    assert_shows_no_key(text);
}

fn assert_shows_no_key(text: &str) {
    let shows = text
        .split("neo_sk_")
        .skip(1)
        .any(|rest| rest.starts_with(|first: char| first.is_ascii_alphanumeric()));
    assert!(!shows, "a key is shown: {text}");
}
