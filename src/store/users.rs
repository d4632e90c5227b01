//! People who sign in through Entra ID.

use super::WriteTx;
use super::sqlite::{Reader, Row};
use crate::error::Result;
use crate::model::names::TenantNo;
use crate::model::words::Role;

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRecord {
    /// The token's `oid`.
    pub id: String,
    /// The person's name.
    pub name: Option<String>,
    /// The person's address.
    pub email: Option<String>,
    /// What the person may do.
    pub role: Role,
}

const ALL: &str = "SELECT user_id, name, email, role FROM users WHERE tenant_no = ?1 ORDER BY seq";
const BY_ID: &str =
    "SELECT user_id, name, email, role FROM users WHERE tenant_no = ?1 AND user_id = ?2";

fn record(row: &Row<'_>) -> rusqlite::Result<UserRecord> {
    Ok(UserRecord {
        id: row.get("user_id")?,
        name: row.get("name")?,
        email: row.get("email")?,
        role: row.get("role")?,
    })
}

/// All users of a tenant, oldest first.
///
/// # Errors
/// The file cannot be read.
pub fn all(reader: &Reader<'_>, tenant: TenantNo) -> Result<Vec<UserRecord>> {
    reader.all(ALL, [tenant], record)
}

/// The tenant's user of this id.
///
/// # Errors
/// The file cannot be read.
pub fn by_id(reader: &Reader<'_>, tenant: TenantNo, id: &str) -> Result<Option<UserRecord>> {
    reader.optional(BY_ID, (tenant, id), record)
}

const UPSERT: &str = "
INSERT INTO users (tenant_no, user_id, seq, name, email, role) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
ON CONFLICT (tenant_no, user_id) DO UPDATE SET name = excluded.name, email = excluded.email, role = excluded.role";

/// Makes a user, or writes what can change of one.
///
/// # Errors
/// The file cannot be written.
pub fn upsert(tx: &mut WriteTx<'_>, tenant: TenantNo, user: &UserRecord) -> Result<()> {
    let seq = tx.tick();
    tx.reader()
        .execute(
            UPSERT,
            (tenant, &user.id, seq, &user.name, &user.email, user.role),
        )
        .map(drop)
}
