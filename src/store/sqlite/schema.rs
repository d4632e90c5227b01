//! Refuses a database whose schema is not the one that the migrations make: a foreign trigger or
//! view, or a missing index, would change what the program's own statements do.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

use rusqlite::Connection;

use super::errors::describe;
use super::migrations;
use crate::store::OpenError;

/// What a schema has by a kind and a name: the table that it belongs to, and its SQL.
type Objects = BTreeMap<(String, String), (String, Option<String>)>;

const OBJECTS: &str = "SELECT type, name, tbl_name, sql FROM sqlite_schema";

/// Refuses a database whose schema is not that of a new one at the same version. The message names
/// the first difference.
pub(super) fn refuse_foreign(
    connection: &Connection,
    path: &Path,
    version: i64,
) -> Result<(), OpenError> {
    let found = objects(connection).map_err(|error| OpenError(describe(path, &error)))?;
    let difference = if version == migrations::newest() {
        first_difference(newest()?, &found)
    } else {
        let wanted = wanted(version).map_err(OpenError)?;
        first_difference(&wanted, &found)
    };
    match difference {
        None => Ok(()),
        Some(difference) => Err(OpenError(format!(
            "the schema of {} is not the one of this program: {difference}; restore the file from a backup, \
             and do not use a file that somebody else could write to",
            path.display()
        ))),
    }
}

/// The newest schema, which takes some milliseconds to make.
static NEWEST: OnceLock<Result<Objects, String>> = OnceLock::new();

/// Makes the newest schema on another thread, while the caller opens the database.
pub(super) fn prepare() {
    std::thread::spawn(|| drop(newest()));
}

fn newest() -> Result<&'static Objects, OpenError> {
    let newest = NEWEST.get_or_init(|| wanted(migrations::newest()));
    newest.as_ref().map_err(|error| OpenError(error.clone()))
}

fn wanted(version: i64) -> Result<Objects, String> {
    migrations::fresh(version)
        .and_then(|fresh| Ok(objects(&fresh)?))
        .map_err(|error| format!("cannot make a schema to compare with: {error}"))
}

fn objects(connection: &Connection) -> rusqlite::Result<Objects> {
    let mut statement = connection.prepare(OBJECTS)?;
    let rows = statement.query_map([], |row| {
        let key = (row.get("type")?, row.get("name")?);
        Ok((key, (row.get("tbl_name")?, row.get("sql")?)))
    })?;
    rows.collect()
}

fn first_difference(wanted: &Objects, found: &Objects) -> Option<String> {
    let missing_or_changed = wanted.iter().filter_map(|(key, object)| {
        let fault = match found.get(key) {
            None => "is missing",
            Some(found) if found != object => "differs",
            Some(_) => return None,
        };
        Some((key, fault))
    });
    let foreign = found
        .iter()
        .filter(|(key, object)| !wanted.contains_key(*key) && !is_allowed(key, object))
        .map(|(key, _)| (key, "is foreign"));
    let differences = foreign.chain(missing_or_changed);
    // An index that SQLite made for a table follows from that table.
    let first = differences.min_by_key(|((_, name), _)| name.starts_with("sqlite_"));
    let ((kind, name), fault) = first?;
    Some(format!("the {kind} {name:?} {fault}"))
}

/// Whether an object belongs to SQLite itself, or to Litestream, which replicates the file.
///
/// SQLite makes an object from its SQL, so a row of the schema cannot be judged by its name alone.
fn is_allowed((kind, name): &(String, String), (table, sql): &(String, Option<String>)) -> bool {
    const SQLITE: [&str; 4] = [
        "sqlite_stat1",
        "sqlite_stat3",
        "sqlite_stat4",
        "sqlite_sequence",
    ];
    const LITESTREAM: &str = "_litestream_";
    match (kind.as_str(), sql) {
        ("table", Some(sql)) => {
            let is_known = SQLITE.contains(&name.as_str()) || name.starts_with(LITESTREAM);
            is_known && name == table && is_plain_table(name, sql)
        }
        // The index of a primary key.
        ("index", None) => table.starts_with(LITESTREAM),
        _ => false,
    }
}

/// Whether the SQL makes an ordinary table of this name without references to other tables.
fn is_plain_table(name: &str, sql: &str) -> bool {
    let columns = sql.strip_prefix("CREATE TABLE ").and_then(|rest| {
        let quoted = ["\"", "'", "`"].map(|quote| format!("{quote}{name}{quote}"));
        let names = quoted.iter().map(String::as_str).chain([name]);
        names.filter_map(|name| rest.strip_prefix(name)).next()
    });
    columns.is_some_and(|columns| {
        columns.trim_start().starts_with('(')
            && !columns.to_ascii_lowercase().contains("references")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a new database differs in after some changes to it.
    fn after(changes: &str) -> Option<String> {
        let fresh = migrations::fresh(migrations::newest()).unwrap();
        let wanted = objects(&fresh).unwrap();
        fresh.execute_batch(changes).unwrap();
        first_difference(&wanted, &objects(&fresh).unwrap())
    }

    #[test]
    fn statistics_and_the_tables_of_litestream_are_allowed_and_what_looks_like_them_is_not() {
        for allowed in [
            "",
            "ANALYZE",
            "CREATE TABLE _litestream_seq (id INTEGER PRIMARY KEY, seq INTEGER);
             CREATE TABLE _litestream_lock (id INTEGER); CREATE TABLE \"_litestream_new\"(name TEXT PRIMARY KEY)",
        ] {
            assert_eq!(after(allowed), None, "{allowed}");
        }
        for (changes, difference) in [
            (
                "CREATE VIEW _litestream_seq AS SELECT * FROM api_keys",
                "the view \"_litestream_seq\" is foreign",
            ),
            (
                "CREATE TABLE _litestream_seq (id INTEGER); CREATE TRIGGER _litestream_t AFTER INSERT ON _litestream_seq BEGIN SELECT 1; END",
                "the trigger \"_litestream_t\" is foreign",
            ),
            (
                "CREATE TABLE _litestream_seq (no INTEGER REFERENCES tenants ON DELETE RESTRICT)",
                "the table \"_litestream_seq\" is foreign",
            ),
            (
                "CREATE VIRTUAL TABLE _litestream_words USING fts5 (x)",
                "the table \"_litestream_words\" is foreign",
            ),
            (
                "PRAGMA writable_schema = ON;
                 INSERT INTO sqlite_schema VALUES ('table', '_litestream_x', '_litestream_x', 0, 'CREATE TRIGGER x AFTER INSERT ON api_keys BEGIN SELECT 1; END')",
                "the table \"_litestream_x\" is foreign",
            ),
            (
                "CREATE TABLE stray (id INTEGER PRIMARY KEY AUTOINCREMENT)",
                "the table \"stray\" is foreign",
            ),
            ("DROP TRIGGER tenants_made", "the trigger \"tenants_made\" is missing"),
            ("ALTER TABLE users ADD COLUMN x TEXT", "the table \"users\" differs"),
        ] {
            assert_eq!(after(changes).as_deref(), Some(difference), "{changes}");
        }
    }
}
