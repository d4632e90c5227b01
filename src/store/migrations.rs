//! Brings a file's schema up to date, or says in a sentence why it cannot be used.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension};

use super::{OpenError, describe};

mod embedded {
    refinery::embed_migrations!("migrations");
}

const NEWEST_APPLIED: &str = "SELECT max(version) FROM refinery_schema_history";
const HISTORY_EXISTS: &str =
    "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'refinery_schema_history'";
const HAS_TABLES: &str = "SELECT 1 FROM sqlite_schema WHERE type = 'table' LIMIT 1";

/// The newest schema that this program knows.
pub fn newest() -> i64 {
    embedded::migrations::runner()
        .get_migrations()
        .iter()
        .map(|migration| i64::from(migration.version()))
        .max()
        .unwrap_or(0)
}

/// The file's schema, if this version can use it; an empty file has the schema 0.
pub(super) fn check(connection: &Connection, path: &Path) -> Result<i64, OpenError> {
    let broken = |error: rusqlite::Error| OpenError(describe(path, &error));
    let known = newest();
    let has_history = exists(connection, HISTORY_EXISTS).map_err(broken)?;
    if has_history {
        let applied: Option<i64> = connection
            .query_row(NEWEST_APPLIED, [], |row| row.get(0))
            .map_err(broken)?;
        let applied = applied.unwrap_or(0);
        if applied > known {
            return Err(OpenError(format!(
                "{} was written by a newer switchboard (schema {applied}; this one knows {known}); use that version",
                path.display()
            )));
        }
        return Ok(applied);
    }
    if exists(connection, HAS_TABLES).map_err(broken)? {
        return Err(OpenError(format!(
            "{} is a database of another program, or its schema is damaged; give another --data or restore a backup",
            path.display()
        )));
    }
    Ok(0)
}

/// Applies what is missing, each migration in a transaction of its own.
pub(super) fn run(connection: &mut Connection, path: &Path) -> Result<(), OpenError> {
    embedded::migrations::runner()
        .run(connection)
        .map(drop)
        .map_err(|error| {
            OpenError(format!(
                "the schema of {} is damaged ({error}); restore it from a backup",
                path.display()
            ))
        })
}

fn exists(connection: &Connection, sql: &str) -> rusqlite::Result<bool> {
    Ok(connection
        .query_row(sql, [], |_| Ok(()))
        .optional()?
        .is_some())
}

#[cfg(test)]
mod tests {
    use refinery::Target;

    use super::super::check;
    use super::super::sqlite::Reader;
    use super::*;

    #[test]
    fn each_rule_can_be_asked_of_a_file_of_any_version() {
        for version in 1..=newest() {
            let mut file = Connection::open_in_memory().unwrap();
            let target = Target::Version(version.try_into().unwrap());
            let runner = embedded::migrations::runner().set_target(target);
            runner.run(&mut file).unwrap();
            let found = check::contradictions(&Reader::within(&file)).unwrap();
            assert_eq!(found, Vec::<String>::new(), "{version}");
        }
    }
}
