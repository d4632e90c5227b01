//! Checks a file: damage, and rows that contradict each other.

use rusqlite::ErrorCode;

use crate::error::{Error, Result};
use crate::store::consistency;
use crate::store::sql::Reader;

const INTEGRITY: &str = "PRAGMA integrity_check";
const FOREIGN_KEYS: &str = "PRAGMA foreign_key_check";

/// The warning about a copy without its write-ahead log.
pub const LACKS_LOG: &str = "a server had this database open when it was copied, and the copy has no write-ahead log \
                             (switchboard.db-wal): the last changes before the copy may be missing, unless Litestream made it; \
                             'switchboard backup' makes a complete copy";

/// The faults that SQLite finds in a file, at any schema version.
pub fn damage(reader: &Reader<'_>) -> Result<Vec<String>> {
    let mut damage: Vec<String> = reader.all(INTEGRITY, (), |row| row.get("integrity_check"))?;
    damage.retain(|line| line != "ok");
    Ok(damage)
}

/// Checks of the tables by which requests are routed, including that their rows agree with their
/// indexes. These tables are small even in a large database.
const ROUTING: [&str; 8] = [
    "PRAGMA integrity_check('tenants')",
    "PRAGMA integrity_check('agents')",
    "PRAGMA integrity_check('end_companies')",
    "PRAGMA integrity_check('company_directories')",
    "PRAGMA integrity_check('channels')",
    "PRAGMA integrity_check('installs')",
    "PRAGMA integrity_check('api_keys')",
    "PRAGMA integrity_check('users')",
];

/// The faults that SQLite finds in the tables by which requests are routed. Quick enough for every
/// start.
pub fn routing_damage(reader: &Reader<'_>) -> Result<Vec<String>> {
    let mut damage: Vec<String> = Vec::new();
    for sql in ROUTING {
        damage.extend(reader.all::<String>(sql, (), |row| row.get("integrity_check"))?);
    }
    damage.retain(|line| line != "ok");
    Ok(damage)
}

/// Whether an error means that the file is damaged. If the disk fails instead, a backup would not
/// help.
pub fn is_damage(error: &Error) -> bool {
    let Error::Internal(cause) = error else {
        return false;
    };
    let error = cause.downcast_ref::<rusqlite::Error>();
    error.and_then(rusqlite::Error::sqlite_error_code) == Some(ErrorCode::DatabaseCorrupt)
}

/// The tables whose rows refer to a missing row, at any schema version.
pub(in crate::store) fn orphans(reader: &Reader<'_>) -> Result<Vec<String>> {
    let orphans: Vec<String> = reader.all(FOREIGN_KEYS, (), |row| row.get("table"))?;
    let missing = |table| format!("a row of {table} refers to a missing row");
    Ok(orphans.into_iter().map(missing).collect())
}

/// Rows that contradict each other, at any schema version.
pub fn contradictions(reader: &Reader<'_>) -> Result<Vec<String>> {
    let mut found = orphans(reader)?;
    found.extend(consistency::broken(reader)?);
    Ok(found)
}
