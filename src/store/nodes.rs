//! The nodes that serve one database on PostgreSQL. On SQLite there is none.

use super::sql::Reader;
use crate::error::Result;

const COUNT: &str = "SELECT count(*) AS nodes FROM nodes";

/// The number of nodes that have joined.
pub fn count(reader: &Reader<'_>) -> Result<u64> {
    reader.one(COUNT, (), |row| row.get("nodes"))
}

const PLACE: &str = "
SELECT public_url, coalesce(address, '') AS address FROM nodes ORDER BY node_no LIMIT 1";

/// Where one of the nodes is reached: by browsers, and by the other nodes. The address is empty if
/// the node listens on a socket file.
pub fn place(reader: &Reader<'_>) -> Result<Option<(Option<String>, String)>> {
    reader.optional(PLACE, (), |row| {
        Ok((row.get("public_url")?, row.get("address")?))
    })
}

const ADDRESS: &str = "SELECT address FROM nodes WHERE lease_no = ?1 AND address <> ''";

/// Where the node with this lease is reached.
pub fn address_of(reader: &Reader<'_>, lease: i64) -> Result<Option<String>> {
    reader.optional(ADDRESS, [lease], |row| row.get("address"))
}
