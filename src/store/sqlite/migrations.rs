//! Migrates a database's schema, or tells the operator why it cannot be used.

use std::error::Error;
use std::fmt;
use std::path::Path;

use refinery::Target;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Row};

use super::errors::describe;
use crate::model::clock::parse_rfc3339;
use crate::store::OpenError;

mod embedded {
    refinery::embed_migrations!("migrations/sqlite");
}

const APPLIED: &str = "SELECT version, name, applied_on, checksum FROM refinery_schema_history";
const HISTORY_EXISTS: &str =
    "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'refinery_schema_history'";
const IS_UNFINISHED: &str =
    "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'unfinished_copy'";
const HAS_TABLES: &str = "SELECT 1 FROM sqlite_schema WHERE type = 'table' LIMIT 1";

/// The newest schema version that this program supports.
pub fn newest() -> i64 {
    embedded::migrations::runner()
        .get_migrations()
        .iter()
        .map(|migration| i64::from(migration.version()))
        .max()
        .unwrap_or(0)
}

/// The database's schema version, if this program can use it. An empty file has version 0.
pub(super) fn check(connection: &Connection, path: &Path) -> Result<i64, OpenError> {
    let failed = |error: rusqlite::Error| OpenError(describe(path, &error));
    let supported = newest();
    if exists(connection, IS_UNFINISHED).map_err(failed)? {
        return Err(OpenError(format!(
            "{} is a copy that was not finished, and nothing can use it: remove its folder, then copy again",
            path.display()
        )));
    }
    let has_history = exists(connection, HISTORY_EXISTS).map_err(failed)?;
    if has_history {
        let (applied, is_readable) = applied(connection).map_err(failed)?;
        if applied > supported {
            return Err(OpenError(format!(
                "{} was written by a newer switchboard (its schema is {applied}, this version supports {supported}); use the newer version",
                path.display()
            )));
        }
        if !is_readable {
            return Err(OpenError(damaged(
                path,
                "the record of migrations cannot be read",
            )));
        }
        return Ok(applied);
    }
    if exists(connection, HAS_TABLES).map_err(failed)? {
        return Err(OpenError(format!(
            "{} is a database of another program, or its schema is damaged; choose another --data or restore a backup",
            path.display()
        )));
    }
    Ok(0)
}

/// Applies the missing migrations and records them, all in one transaction. In two transactions, a
/// crash in between would leave a schema that no later start could migrate.
pub(super) fn run(connection: &mut Connection, path: &Path) -> Result<(), OpenError> {
    embedded::migrations::runner()
        .set_grouped(true)
        .run(connection)
        .map(drop)
        .map_err(|error| OpenError(describe_failure(&error, path)))
}

/// A new database in memory at a schema version, to compare another one with.
pub(super) fn fresh(version: i64) -> Result<Connection, Box<dyn Error>> {
    let mut connection = Connection::open_in_memory()?;
    let target = Target::Version(version.try_into()?);
    let runner = embedded::migrations::runner().set_target(target);
    runner.set_grouped(true).run(&mut connection)?;
    Ok(connection)
}

/// Describes a failed migration. A full or failing disk is not reported as a damaged schema: a
/// backup would not help.
fn describe_failure(error: &refinery::Error, path: &Path) -> String {
    let cause = error
        .source()
        .and_then(|cause| cause.downcast_ref::<rusqlite::Error>());
    match cause {
        Some(cause) if cause.sqlite_error_code() != Some(ErrorCode::Unknown) => {
            describe(path, cause)
        }
        Some(_) | None => damaged(path, error),
    }
}

fn damaged(path: &Path, cause: impl fmt::Display) -> String {
    format!(
        "the schema of {} is damaged ({cause}); restore it from a backup",
        path.display()
    )
}

/// The newest migration that was applied, 0 for none, and whether every record of a migration is
/// valid. Refinery panics on an invalid record.
fn applied(connection: &Connection) -> rusqlite::Result<(i64, bool)> {
    let mut statement = connection.prepare(APPLIED)?;
    let mut rows = statement.query([])?;
    let (mut newest, mut is_readable) = (0, true);
    while let Some(row) = rows.next()? {
        let version: Option<i64> = row.get("version").ok();
        newest = newest.max(version.unwrap_or(0));
        is_readable &= version.is_some() && is_valid(row);
    }
    Ok((newest, is_readable))
}

/// Whether refinery can read the record of a migration.
fn is_valid(row: &Row<'_>) -> bool {
    let text = |column: &str| row.get::<_, String>(column).ok();
    text("name").is_some()
        && text("applied_on").is_some_and(|time| parse_rfc3339(&time).is_some())
        && text("checksum").is_some_and(|sum| sum.parse::<u64>().is_ok())
}

fn exists(connection: &Connection, sql: &str) -> rusqlite::Result<bool> {
    Ok(connection
        .query_row(sql, [], |_| Ok(()))
        .optional()?
        .is_some())
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::super::session::Session;
    use super::*;
    use crate::store::sql::{Reader, Session as Engine};

    #[test]
    fn every_consistency_rule_can_be_checked_at_every_schema_version() {
        for version in 1..=newest() {
            let connection = fresh(version).unwrap();
            let found =
                check::contradictions(&Reader::on(Engine::Sqlite(Session::of(&connection))))
                    .unwrap();
            assert_eq!(found, Vec::<String>::new(), "{version}");
        }
    }
}
