//! What a data folder remembers of itself: the environment of its API keys, and whether a server
//! has it open.

use super::WriteTx;
use super::sql::Reader;
use crate::error::Result;
use crate::model::names::TenantNo;

const ENVIRONMENT: &str = "SELECT environment FROM folder WHERE one = 1";

/// The environment of the folder's API keys. `None` before the first server, and before the first
/// command with `--env`.
pub fn environment(reader: &Reader<'_>) -> Result<Option<String>> {
    reader.one(ENVIRONMENT, (), |row| row.get("environment"))
}

const SET_ENVIRONMENT: &str = "UPDATE folder SET environment = ?1 WHERE one = 1";

/// Records the environment.
pub fn set_environment(tx: &WriteTx<'_>, environment: &str) -> Result<()> {
    tx.execute(SET_ENVIRONMENT, [environment]).map(drop)
}

const NEXT_TENANT_NO: &str =
    "UPDATE folder SET last_tenant_no = last_tenant_no + 1 WHERE one = 1 RETURNING last_tenant_no";

/// The number of the next tenant. No tenant gets the number of a deleted one, which sessions of
/// other tenants may still name as the tenant of the platform account that created them.
pub fn next_tenant_no(tx: &WriteTx<'_>) -> Result<TenantNo> {
    tx.returning_one(NEXT_TENANT_NO, (), |row| row.get("last_tenant_no"))
}

const SET_IN_USE: &str = "UPDATE folder SET in_use = ?1 WHERE one = 1";

/// Records whether a server has the folder open.
pub fn set_in_use(tx: &WriteTx<'_>, is_in_use: bool) -> Result<()> {
    tx.execute(SET_IN_USE, [i64::from(is_in_use)]).map(drop)
}
