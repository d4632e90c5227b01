//! Authors: who wrote a message, as lists and transcripts name them (contract, section 4, Authors).

use schemars::JsonSchema;
use serde::Serialize;

use super::caller::{Caller, Who};
use super::names::AgentId;
use super::session::Session;
use super::words::CallerKind;

/// The kind of a person whom a client names, unless the client says another kind.
pub const END_USER: &str = "end_user";
/// The kind of an agent, which writes answers.
const AGENT: &str = "agent";
/// Kinds that no client can claim for a person.
const RESERVED: [&str; 4] = [AGENT, "service_account", "end_user_session", "operator"];
/// The most characters of a kind.
const MAX_KIND: usize = 32;

/// Who wrote a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Author {
    /// The kind of author: a kind of caller, `end_user`, `agent`, or another word of the client.
    pub kind: String,
    /// The author's id among those of the kind.
    pub id: String,
    /// The author's name.
    pub name: Option<String>,
}

impl Author {
    /// What a kind of a person has to be, as the rest of a sentence.
    pub const KIND_RULE: &str = "must be 1 to 32 lower-case letters, digits or _, beginning with a letter, and none of agent, service_account, end_user_session and operator";

    /// Whether a client may call a person of this kind.
    pub fn is_kind_of_person(kind: &str) -> bool {
        kind.len() <= MAX_KIND
            && kind.starts_with(|first: char| first.is_ascii_lowercase())
            && kind
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
            && !RESERVED.contains(&kind)
    }

    /// The agent of a session, which writes the answers.
    pub fn agent(id: AgentId, name: Option<String>) -> Self {
        Self {
            kind: AGENT.to_owned(),
            id: id.to_string(),
            name,
        }
    }

    /// Whether both are the same author, whatever the names.
    pub fn is(&self, other: &Self) -> bool {
        (&self.kind, &self.id) == (&other.kind, &other.id)
    }
}

/// A name on one line, without control characters. `None` if nothing is left.
pub fn one_line(name: &str) -> Option<String> {
    let words = name.split(|c: char| c.is_whitespace() || c.is_control());
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    (!words.is_empty()).then(|| words.join(" "))
}

/// The author of a new message, and who says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorship {
    /// The author.
    pub author: Author,
    /// Whether the caller named the author.
    pub is_given: bool,
    /// The account that sends the message in the author's name; none if the author does.
    pub sent_by: Option<String>,
}

impl Authorship {
    /// Who writes in a session: the author that the caller names, else the person of the session,
    /// else the caller. A person who signed in writes for nobody else.
    pub fn of(caller: &Caller, session: &Session, given: Option<Author>) -> Self {
        let account = || Some(caller.account().to_string());
        let (author, is_given, sent_by) = match (&caller.who, given) {
            (_, Some(author)) => (author, true, account()),
            (Who::DashboardUser { .. }, None) => (of_caller(caller), false, None),
            (Who::ServiceAccount { .. }, None) => match person_of(session) {
                Some(person) => (person, false, account()),
                None => (of_caller(caller), false, None),
            },
            (Who::EndUserSession { end_user, .. }, None) => {
                let person = match end_user.as_deref() {
                    Some(name) if !is_called(session, name) => Some(holder(name)),
                    Some(_) | None => person_of(session),
                };
                (person.unwrap_or_else(|| of_caller(caller)), false, None)
            }
        };
        Self {
            author,
            is_given,
            sent_by,
        }
    }

    /// The name that a search finds with the message's text. Other names are found elsewhere: with
    /// the session, or not at all.
    pub fn searched_name(&self) -> Option<&str> {
        self.author.name.as_deref().filter(|_| self.is_given)
    }
}

/// The person who talks in a session. Somebody who signed in is the same person everywhere.
fn person_of(session: &Session) -> Option<Author> {
    let user = session.end_user.as_ref()?;
    let creator = &session.created_by;
    let kind = match creator.kind {
        CallerKind::DashboardUser if creator.id == user.id => creator.kind.as_str(),
        CallerKind::DashboardUser
        | CallerKind::ServiceAccount
        | CallerKind::EndUserSession
        | CallerKind::Operator => END_USER,
    };
    Some(Author {
        kind: kind.to_owned(),
        id: user.id.clone(),
        name: user.name.as_deref().and_then(one_line),
    })
}

/// Whether a name is that of the session's person. A token knows its holder by name alone.
fn is_called(session: &Session, name: &str) -> bool {
    let user = session.end_user.as_ref();
    user.is_some_and(|user| user.display_name() == name)
}

/// A person of whom only the name is known.
fn holder(name: &str) -> Author {
    Author {
        kind: END_USER.to_owned(),
        id: name.to_owned(),
        name: one_line(name),
    }
}

fn of_caller(caller: &Caller) -> Author {
    let actor = caller.actor();
    Author {
        kind: actor.kind.as_str().to_owned(),
        id: actor.id,
        name: actor.name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_names_the_kind_of_a_person_by_a_word_that_no_program_has() {
        for kind in [END_USER, "dashboard_user", "guest2", &"a".repeat(32)] {
            assert!(Author::is_kind_of_person(kind), "{kind}");
        }
        for kind in [
            "",
            "_a",
            "2nd",
            "End_user",
            "end user",
            "agent",
            "service_account",
            &"a".repeat(33),
        ] {
            assert!(!Author::is_kind_of_person(kind), "{kind}");
        }
    }

    #[test]
    fn a_name_is_one_line() {
        assert_eq!(
            one_line(" Mia\r\n\u{2028}\tM\u{fc}ller\u{0} "),
            Some("Mia M\u{fc}ller".to_owned())
        );
        assert_eq!(one_line(" \n\u{7f}"), None);
    }
}
