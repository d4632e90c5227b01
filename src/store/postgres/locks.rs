//! The advisory locks of one database. They end with the connection or the transaction that holds
//! them.

/// Begins a change of the configuration: one at a time, on all nodes.
pub(super) const BEGIN_CONFIGURATION: &str = "BEGIN; SELECT pg_advisory_xact_lock(21335, 1)";
/// Waits until no other program migrates the schema.
pub(super) const MIGRATION: &str = "SELECT pg_advisory_lock(21335, 2)";
/// See [`MIGRATION`].
pub(super) const END_MIGRATION: &str = "SELECT pg_advisory_unlock(21335, 2)";
/// Whether this node may clean up until the transaction ends.
pub(super) const CLEAN_UP: &str = "SELECT pg_try_advisory_lock(21335, 3) AS is_mine";
/// Waits until no other change of the same idempotency key runs.
pub(super) const KEY: &str = "SELECT pg_advisory_xact_lock(?1)";
/// Takes the lowest free number of a node (`$1` up to `$2`), or the highest (`$2` before `$1`),
/// for as long as the connection lives.
pub(super) const NODE: &str = "SELECT pg_try_advisory_lock(21336, $1) AS is_mine";
/// Whether this program may import now. The connection holds the lock.
pub(super) const IMPORT: &str = "SELECT pg_try_advisory_lock(21335, 4) AS is_mine";
/// Locks the row of a session until the change ends, so that its changes run one after another.
pub(super) const SESSION: &str = "SELECT seq FROM sessions WHERE seq = ?1 FOR UPDATE";
