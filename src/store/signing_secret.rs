//! The signing secret that all nodes of one database share.

use super::sql::{Reader, WriteTx};
use crate::error::Result;

const SECRET: &str = "SELECT secret FROM signing_secret WHERE one = 1";
const INSERT: &str = "INSERT INTO signing_secret (one, secret) VALUES (1, ?1)";

/// The secret, if the database has one.
pub fn stored(reader: &Reader<'_>) -> Result<Option<Vec<u8>>> {
    reader.optional(SECRET, (), |row| row.get("secret"))
}

/// The secret; this one if the database has none yet.
pub fn get_or_store(tx: &mut WriteTx<'_>, new: Vec<u8>) -> Result<Vec<u8>> {
    if let Some(stored) = stored(tx.reader())? {
        return Ok(stored);
    }
    tx.execute(INSERT, [&new])?;
    Ok(new)
}
