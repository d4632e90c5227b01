//! The tables of a copy: which are copied, which are left out and why, and in which order.
//!
//! What a database has comes from the database itself. A table that is neither copied nor left out
//! is an error, so that no copy forgets a new one.

use crate::store::OpenError;
use crate::store::sql::{Type, Value};

/// A table as an engine describes it.
#[derive(Debug)]
pub(in crate::store) struct Described {
    pub(in crate::store) name: String,
    /// The columns in their order, each with its type in the engine's spelling.
    pub(in crate::store) columns: Vec<(String, String)>,
    /// The columns of the primary key.
    pub(in crate::store) key: Vec<String>,
    /// The tables that foreign keys name.
    pub(in crate::store) refers_to: Vec<String>,
}

/// A table that is copied.
#[derive(Debug)]
pub(in crate::store) struct Table {
    pub(in crate::store) name: String,
    pub(in crate::store) columns: Vec<Column>,
    /// The columns of the primary key, by which both engines sort alike.
    pub(in crate::store) key: Vec<String>,
    refers_to: Vec<String>,
}

/// A column that is copied.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::store) struct Column {
    pub(in crate::store) name: String,
    pub(in crate::store) kind: Type,
    /// What every row of the target has here, in place of the source's value.
    pub(in crate::store) replaced_by: Option<Value<'static>>,
}

/// The table that says that a copy into this database was not finished.
pub(in crate::store) const MARK: &str = "unfinished_copy";

/// Makes [`MARK`].
pub(in crate::store) const ADD_MARK: &str = "CREATE TABLE unfinished_copy (one integer)";
/// Removes [`MARK`].
pub(in crate::store) const REMOVE_MARK: &str = "DROP TABLE unfinished_copy";

/// The table whose number the triggers of others raise, so that it is copied after them.
const LAST: &str = "configuration_version";

/// The tables that are copied.
const COPIED: [&str; 36] = [
    "agents",
    "api_keys",
    "attachment_contents",
    "attachments",
    "audit_events",
    "channel_icons",
    "channel_packages",
    "channels",
    "company_directories",
    LAST,
    "end_companies",
    "folder",
    "given_numbers",
    "idempotency_keys",
    "import_holds",
    "import_rows",
    "imports",
    "installs",
    "knowledge_articles",
    "messages",
    "removed_sessions",
    "session_metadata",
    "session_tokens",
    "sessions",
    "sign_in_codes",
    "sign_ins",
    "teams_activities",
    "teams_conversations",
    "teams_deliveries",
    "teams_files",
    "tenants",
    "turn_logs",
    "turns",
    "unlinked_tenants",
    "unopened_models",
    "users",
];

/// Tables in which migrations put one row.
pub(super) const SEEDED: [&str; 3] = [LAST, "folder", "given_numbers"];

const IS_INDEX: &str = "the search index is built again from the texts";
const IS_OF_SCHEMA: &str = "it belongs to the schema, which the target has";

/// The tables that are left out, each with the reason. An engine does not describe its own record
/// of migrations.
const LEFT_OUT: [(&str, &str); 9] = [
    ("message_search", IS_INDEX),
    ("title_search", IS_INDEX),
    ("search_progress", IS_INDEX),
    ("search_rebuild", IS_INDEX),
    ("search_removals", IS_INDEX),
    ("min_reader", IS_OF_SCHEMA),
    ("nodes", "no server runs on the source or the target"),
    (
        "signing_secret",
        "a data folder has the secret in a file, so that the command copies it",
    ),
    (MARK, "it is the mark of this copy"),
];

/// Tables of SQLite and of Litestream.
const FOREIGN: [&str; 2] = ["sqlite_", "_litestream_"];

/// Columns whose value belongs to the source alone.
const REPLACED: [(&str, &str, Value<'static>); 5] = [
    // No server has the target open.
    ("folder", "in_use", Value::Integer(0)),
    // Nothing of a deleted session is in the new search index.
    ("removed_sessions", "indexed_seq", Value::Integer(0)),
    ("removed_sessions", "indexed_from", Value::Integer(0)),
    // Leases of the source's servers.
    (
        "teams_conversations",
        "owner_lease",
        Value::Null(Type::Integer),
    ),
    ("turns", "owner_lease", Value::Null(Type::Integer)),
];

impl Table {
    /// The names of all columns, quoted.
    pub(in crate::store) fn column_list(&self) -> String {
        list(self.columns.iter().map(|column| column.name.as_str()))
    }

    /// Selects all rows in the order of the key.
    pub(in crate::store) fn select(&self) -> String {
        let key = list(self.key.iter().map(String::as_str));
        format!(
            "SELECT {} FROM \"{}\" ORDER BY {key}",
            self.column_list(),
            self.name
        )
    }

    /// Counts all rows.
    pub(in crate::store) fn count(&self) -> String {
        format!("SELECT count(*) FROM \"{}\"", self.name)
    }

    /// Deletes all rows.
    pub(in crate::store) fn clear(&self) -> String {
        format!("DELETE FROM \"{}\"", self.name)
    }

    /// Whether another database has the same table.
    fn equals(&self, other: &Self) -> bool {
        let sorted = |table: &Self| {
            let columns = table.columns.iter();
            let mut columns: Vec<(String, Type)> = columns
                .map(|column| (column.name.clone(), column.kind))
                .collect();
            columns.sort_by(|one, other| one.0.cmp(&other.0));
            columns
        };
        self.key == other.key && sorted(self) == sorted(other)
    }
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = names.map(|name| format!("\"{name}\"")).collect();
    quoted.join(", ")
}

/// Why a table is not copied.
fn reason(name: &str) -> Option<&'static str> {
    // The tables in which FTS5 keeps an index.
    const SHADOWS: [&str; 5] = ["_config", "_content", "_data", "_docsize", "_idx"];
    let index = SHADOWS.iter().find_map(|end| name.strip_suffix(end));
    if index.is_some_and(|index| index == "message_search" || index == "title_search") {
        return Some(IS_INDEX);
    }
    if FOREIGN.iter().any(|start| name.starts_with(start)) {
        return Some("it belongs to another program");
    }
    let left_out = LEFT_OUT.iter().find(|(left_out, _)| *left_out == name);
    left_out.map(|(_, reason)| *reason)
}

fn kind(name: &str) -> Option<Type> {
    match name {
        "INTEGER" | "bigint" => Some(Type::Integer),
        "TEXT" | "text" => Some(Type::Text),
        "BLOB" | "bytea" => Some(Type::Blob),
        _ => None,
    }
}

/// The tables that are copied, in an order in which each comes after those that it refers to.
///
/// # Errors
/// A sentence that names a table or column that this program does not know.
pub(in crate::store) fn plan(described: Vec<Described>) -> Result<Vec<Table>, OpenError> {
    let mut tables = Vec::new();
    for found in described {
        if COPIED.contains(&found.name.as_str()) {
            tables.push(of(found)?);
        } else if let Some(reason) = reason(&found.name) {
            log::debug!("{} is not copied: {reason}", found.name);
        } else {
            return Err(unknown(format!("the table {}", found.name)));
        }
    }
    for name in COPIED {
        if !tables.iter().any(|table| table.name == name) {
            return Err(OpenError(format!("the table {name} is missing")));
        }
    }
    for (table, column, _) in REPLACED {
        let has_column = |found: &Table| {
            found.name == table && found.columns.iter().any(|found| found.name == column)
        };
        if !tables.iter().any(has_column) {
            return Err(OpenError(format!(
                "the column {column} of {table} is missing"
            )));
        }
    }
    in_order(tables)
}

fn unknown(what: String) -> OpenError {
    OpenError(format!(
        "this version does not know {what}, so that a copy could lose data; use the version that made it"
    ))
}

fn of(found: Described) -> Result<Table, OpenError> {
    let name = found.name;
    if found.key.is_empty() {
        return Err(OpenError(format!("the table {name} has no primary key")));
    }
    let columns = found.columns.into_iter().map(|(column, spelling)| {
        let Some(kind) = kind(&spelling) else {
            return Err(unknown(format!("the type {spelling} of {name}.{column}")));
        };
        let replaced = REPLACED
            .iter()
            .find(|(table, replaced, _)| *table == name && *replaced == column);
        Ok(Column {
            kind,
            replaced_by: replaced.map(|(.., value)| *value),
            name: column,
        })
    });
    Ok(Table {
        columns: columns.collect::<Result<_, _>>()?,
        key: found.key,
        refers_to: found.refers_to,
        name,
    })
}

fn in_order(mut waiting: Vec<Table>) -> Result<Vec<Table>, OpenError> {
    let mut ordered: Vec<Table> = Vec::new();
    while !waiting.is_empty() {
        let is_last = waiting.len() == 1;
        let is_next = |table: &Table| {
            let mut others = table.refers_to.iter().filter(|name| **name != table.name);
            (table.name != LAST || is_last)
                && others.all(|name| ordered.iter().any(|done| done.name == *name))
        };
        let Some(next) = waiting.iter().position(is_next) else {
            return Err(OpenError(
                "the tables refer to one another in a circle".to_owned(),
            ));
        };
        ordered.push(waiting.remove(next));
    }
    Ok(ordered)
}

/// Refuses two databases of different schemas.
pub(super) fn refuse_difference(source: &[Table], target: &[Table]) -> Result<(), OpenError> {
    for table in source {
        let is_equal = |other: &&Table| other.name == table.name && table.equals(other);
        if !target.iter().any(|other| is_equal(&other)) {
            return Err(OpenError(format!(
                "the table {} of the source differs from that of the target",
                table.name
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(name: &str, refers_to: &[&str]) -> Described {
        let mut columns = vec![("seq".to_owned(), "INTEGER".to_owned())];
        for (table, column, _) in REPLACED {
            if table == name {
                columns.push((column.to_owned(), "INTEGER".to_owned()));
            }
        }
        Described {
            name: name.to_owned(),
            columns,
            key: vec!["seq".to_owned()],
            refers_to: refers_to.iter().map(ToString::to_string).collect(),
        }
    }

    fn all() -> Vec<Described> {
        let of = |name: &&str| match *name {
            "agents" => described(name, &["tenants"]),
            "attachment_contents" => described(name, &["attachments"]),
            _ => described(name, &[]),
        };
        COPIED.iter().map(of).collect()
    }

    #[test]
    fn a_table_comes_after_those_that_it_refers_to_and_the_configurations_version_last() {
        let names: Vec<String> = plan(all())
            .unwrap()
            .into_iter()
            .map(|table| table.name)
            .collect();
        let at = |name: &str| names.iter().position(|other| other == name).unwrap();
        assert!(at("tenants") < at("agents"));
        assert!(at("attachments") < at("attachment_contents"));
        assert_eq!(names.last().map(String::as_str), Some(LAST));
        assert_eq!(names.len(), COPIED.len());
    }

    #[test]
    fn a_table_a_type_or_a_column_that_is_not_known_is_an_error() {
        let refused = |change: &dyn Fn(&mut Vec<Described>)| {
            let mut tables = all();
            change(&mut tables);
            plan(tables).unwrap_err().0
        };
        let unknown = refused(&|tables| tables.push(described("invoices", &[])));
        assert!(
            unknown.starts_with("this version does not know the table invoices,"),
            "{unknown}"
        );
        let real = refused(&|tables| {
            tables[0]
                .columns
                .push(("rate".to_owned(), "double precision".to_owned()));
        });
        assert!(
            real.starts_with("this version does not know the type double precision of agents.rate"),
            "{real}"
        );
        assert_eq!(
            refused(&|tables| drop(tables.remove(0))),
            "the table agents is missing"
        );
        assert_eq!(
            refused(&|tables| {
                let turns = tables.iter_mut().find(|table| table.name == "turns");
                turns.unwrap().columns.truncate(1);
            }),
            "the column owner_lease of turns is missing"
        );
        let circle = refused(&|tables| tables[0].refers_to.push("agents_of".to_owned()));
        assert_eq!(circle, "the tables refer to one another in a circle");
    }

    #[test]
    fn every_table_that_is_left_out_has_a_reason() {
        for name in [
            "message_search",
            "message_search_data",
            "title_search_docsize",
            "sqlite_stat1",
            "_litestream_seq",
            "nodes",
            "signing_secret",
        ] {
            assert!(reason(name).is_some(), "{name}");
        }
        assert!(reason("other_search_data").is_none());
        assert!(COPIED.iter().all(|name| reason(name).is_none()));
    }
}
