//! The nodes that serve one database on PostgreSQL. On SQLite there is none.

use super::sql::Reader;
use crate::error::Result;

const COUNT: &str = "SELECT count(*) AS nodes FROM nodes";

/// The number of nodes that have joined.
pub fn count(reader: &Reader<'_>) -> Result<u64> {
    reader.one(COUNT, (), |row| row.get("nodes"))
}

const ADDRESSES: &str = "SELECT address FROM nodes WHERE address <> '' ORDER BY node_no";

/// Where the nodes are reached, each as a host and a port.
pub fn addresses(reader: &Reader<'_>) -> Result<Vec<String>> {
    reader.all(ADDRESSES, (), |row| row.get("address"))
}

const ADDRESS: &str = "SELECT address FROM nodes WHERE lease_no = ?1 AND address <> ''";

/// Where the node with this lease is reached.
pub fn address_of(reader: &Reader<'_>, lease: i64) -> Result<Option<String>> {
    reader.optional(ADDRESS, [lease], |row| row.get("address"))
}
