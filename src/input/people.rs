//! Reads the person who talks in a session.

use super::fields::{Field, Fields, TextOrObject};
use crate::model::session::EndUser;

/// The most characters of an address.
pub const MAX_EMAIL_CHARS: usize = 320;
/// The most characters of a person's name, and of what a token says whom it is for.
const MAX_NAME_CHARS: usize = 256;

/// Reads `{id, name, email}`. An empty name or address counts as none.
pub fn end_user(fields: &Fields<'_>, name: &str) -> Option<EndUser> {
    fields.object(name).value().map(|inner| person(&inner))
}

/// As [`end_user`]. A string is both the id and the name.
pub fn end_user_or_name(fields: &Fields<'_>, name: &str) -> Option<EndUser> {
    match fields.text_or_object(name, 1..=MAX_NAME_CHARS) {
        Field::Set(TextOrObject::Object(inner)) => Some(person(&inner)),
        Field::Set(TextOrObject::Text(text)) => Some(EndUser {
            id: text.clone(),
            name: Some(text),
            email: None,
        }),
        Field::Absent | Field::Null => None,
    }
}

fn person(fields: &Fields<'_>) -> EndUser {
    let text = |name, most| {
        let text = fields.text(name, 0..=most).value();
        text.filter(|text| !text.is_empty())
    };
    EndUser {
        id: fields.required_text("id", 1..=255),
        name: text("name", MAX_NAME_CHARS),
        email: text("email", MAX_EMAIL_CHARS),
    }
}
