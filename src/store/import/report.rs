//! What an import did, or what a dry run would do, thing by thing.

use std::fmt::Display;

use serde_json::Value;

use super::ImportOptions;
use crate::input::fields::Problems;
use crate::store::rules::Violation;
use crate::text::shorten;

/// How many things an import created, changed and left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Things that are new.
    pub created: usize,
    /// Things that changed.
    pub updated: usize,
    /// Things that did not change.
    pub unchanged: usize,
}

impl Imported {
    pub(super) fn changes(self) -> usize {
        self.created + self.updated
    }

    pub(super) fn add(&mut self, others: Self) {
        self.created += others.created;
        self.updated += others.updated;
        self.unchanged += others.unchanged;
    }

    pub(super) fn count(&mut self, change: Change) {
        match change {
            Change::Created => self.created += 1,
            Change::Updated => self.updated += 1,
            Change::Unchanged => self.unchanged += 1,
        }
    }
}

/// The result of an import.
#[derive(Debug, Default)]
pub struct Report {
    /// The numbers of things.
    pub done: Imported,
    /// A dry run's line for each thing: the change, the tenant, the kind, the name, and the fields
    /// that change, with tabs between. Empty unless it is a dry run.
    pub lines: Vec<String>,
    /// The findings of a dry run: see [`super::findings`]. Of an import, they are read afterwards.
    pub findings: Vec<String>,
}

/// What an import does to a thing.
#[derive(Clone, Copy)]
pub(super) enum Change {
    Created,
    Updated,
    Unchanged,
}

impl Change {
    fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Unchanged => "unchanged",
        }
    }
}

/// What an import finds out, thing by thing.
pub(super) struct Tally<'o> {
    pub(super) options: ImportOptions<'o>,
    pub(super) problems: Problems,
    pub(super) done: Imported,
    pub(super) lines: Vec<String>,
    /// The tenant whose things are imported now.
    pub(super) client_id: String,
    /// What separates the path of a thing from the name of a field.
    pub(super) separator: &'static str,
}

impl<'o> Tally<'o> {
    pub(super) fn new(options: ImportOptions<'o>) -> Self {
        Self {
            options,
            problems: Problems::default(),
            done: Imported::default(),
            lines: Vec::new(),
            client_id: String::new(),
            separator: ".",
        }
    }

    /// Counts a thing. A dry run adds its line, with what the thing is `before` and `after`.
    pub(super) fn count(
        &mut self,
        change: Change,
        kind: &str,
        name: impl Display,
        show: impl FnOnce() -> (Value, Value),
    ) {
        self.done.count(change);
        (self.options.step)();
        if self.options.dry_run {
            let (before, after) = show();
            let name = name.to_string();
            let line = line(change, &self.client_id, kind, &name, (&before, &after));
            self.lines.push(line);
        }
    }

    pub(super) fn created(&mut self, kind: &str, name: impl Display, show: impl FnOnce() -> Value) {
        self.count(Change::Created, kind, name, || (Value::Null, show()));
    }

    /// Counts a known thing. Returns whether it has to be written.
    pub(super) fn differs<T: PartialEq>(
        &mut self,
        kind: &str,
        name: impl Display,
        (before, after): (&T, &T),
        show: fn(&T) -> Value,
    ) -> bool {
        let differs = before != after;
        let change = if differs {
            Change::Updated
        } else {
            Change::Unchanged
        };
        self.count(change, kind, name, || (show(before), show(after)));
        differs
    }

    pub(super) fn problem(
        &self,
        path: &str,
        field: &str,
        value: &Value,
        reason: impl Into<String>,
    ) {
        let separator = self.separator;
        let path = format!("{path}{separator}{field}");
        self.problems.add(path, value, reason);
    }

    pub(super) fn refuse(&self, path: &str, violation: Violation) {
        let value = Value::String(violation.value);
        self.problem(path, &violation.field, &value, violation.reason);
    }

    /// Adds a problem for each violation. Returns whether there is one.
    pub(super) fn refuse_all(&self, path: &str, violations: Vec<Violation>) -> bool {
        let is_refused = !violations.is_empty();
        for violation in violations {
            self.refuse(path, violation);
        }
        is_refused
    }

    pub(super) fn require(&self, path: &str, field: &str, kind: &str) {
        let reason = format!("is required for a new {kind}");
        let path = format!("{path}{}{field}", self.separator);
        self.problems.add_absent(path, reason);
    }
}

/// Characters of a value that a dry run shows.
const SHOWN: usize = 60;
/// Elements of a list that a dry run shows.
const LISTED: usize = 10;

/// A dry run's line for a thing.
pub(super) fn line(
    change: Change,
    client_id: &str,
    kind: &str,
    name: &str,
    (before, after): (&Value, &Value),
) -> String {
    let change = change.as_str();
    let mut fields = Vec::new();
    add_changed_fields("", before, after, &mut fields);
    format!(
        "{change}\t{client_id}\t{kind}\t{name}\t{}",
        fields.join(", ")
    )
}

/// Adds each field of `after` that differs from `before`. Of a new thing these are the fields that
/// are set.
fn add_changed_fields(path: &str, before: &Value, after: &Value, fields: &mut Vec<String>) {
    if let Value::Object(members) = after {
        for (name, after) in members {
            let path = match path {
                "" => name.clone(),
                path => format!("{path}.{name}"),
            };
            add_changed_fields(&path, &before[name], after, fields);
        }
    } else if before != after && !(before.is_null() && is_unset(after)) {
        let after = shown(after);
        fields.push(if before.is_null() {
            format!("{path}: {after}")
        } else {
            format!("{path}: {} -> {after}", shown(before))
        });
    }
}

fn is_unset(value: &Value) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty)
}

fn shown(value: &Value) -> String {
    let Value::Array(items) = value else {
        return shorten(&value.to_string(), SHOWN);
    };
    let mut listed: Vec<String> = items.iter().take(LISTED).map(shown).collect();
    if items.len() > LISTED {
        listed.push("…".to_owned());
    }
    format!("[{}]", listed.join(","))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_has_the_fields_that_change_and_of_a_new_thing_those_that_are_set() {
        let line = |before: &Value, after: &Value| {
            line(Change::Updated, "msp", "agent", "1", (before, after))
        };
        let before = json!({ "name": "A", "settings": { "texts": [], "welcome": "Hi" } });
        let mut after = before.clone();
        assert_eq!(line(&before, &after), "updated\tmsp\tagent\t1\t");
        after["settings"]["welcome"] = Value::Null;
        after["name"] = "x".repeat(100).into();
        let expected = format!(
            "name: \"A\" -> \"{}…, settings.welcome: \"Hi\" -> null",
            "x".repeat(59)
        );
        assert_eq!(
            line(&before, &after),
            format!("updated\tmsp\tagent\t1\t{expected}")
        );
        assert_eq!(
            line(&Value::Null, &before),
            "updated\tmsp\tagent\t1\tname: \"A\", settings.welcome: \"Hi\""
        );
    }
}
