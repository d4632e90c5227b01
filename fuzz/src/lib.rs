//! What every target holds an error to: it names what is wrong in few words, and shows no key.

use serde_json::Value;
use switchboard::error::{Code, Error, Refusal};
use switchboard::input::fields::Problem;

/// The longest reason and message, in characters: a key of metadata may be quoted with every character escaped.
const LONGEST_REASON: usize = 1_000;
/// The longest value that is shown, in characters, with the sign that it was cut.
const LONGEST_VALUE: usize = 81;
/// The longest path, in characters.
const LONGEST_PATH: usize = 120;

/// The refusal that an error is; a fault of the server's own is a finding.
pub fn refusal(error: Error) -> Refusal {
    let refusal = match error {
        Error::Refused(refusal) => *refusal,
        Error::Internal(cause) => panic!("not refused, but failed: {cause}"),
    };
    assert_brief(&refusal.message, LONGEST_REASON);
    refusal
}

/// The field that a refusal of bad input names; it has a reason too.
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
    assert_brief(text("reason"), LONGEST_REASON);
    assert_brief(text("field"), LONGEST_PATH);
    text("field").to_owned()
}

/// Holds a file's problems to what an operator is shown of them.
pub fn assert_told(problems: &[Problem]) {
    assert!(!problems.is_empty(), "refused without a reason");
    for problem in problems {
        assert_brief(&problem.path, LONGEST_PATH);
        assert_brief(&problem.reason, LONGEST_REASON);
        let shown = problem.value.chars().count();
        assert!(shown <= LONGEST_VALUE, "{shown} characters are shown");
        assert_shows_no_key(&problem.value);
    }
}

fn assert_brief(text: &str, longest: usize) {
    let characters = text.chars().count();
    assert!((1..=longest).contains(&characters), "{characters}: {text}");
    assert_shows_no_key(text);
}

fn assert_shows_no_key(text: &str) {
    let shows = text
        .split("neo_sk_")
        .skip(1)
        .any(|rest| rest.starts_with(|first: char| first.is_ascii_alphanumeric()));
    assert!(!shows, "a key is shown: {text}");
}
