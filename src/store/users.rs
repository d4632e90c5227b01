//! Users: people who sign in through Entra ID.

use schemars::JsonSchema;
use serde::Serialize;

use super::sql::{Keyset, Reader, Row, Rows};
use super::{WriteTx, tenants, tokens};
use crate::error::{Code, Refusal, Result};
use crate::model::clock::{Millis, Timestamp};
use crate::model::ids::Tick;
use crate::model::names::{M365TenantId, TenantNo};
use crate::model::tenant::Tenant;
use crate::model::words::Role;

/// The fields of a user that a seed file sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRecord {
    /// The token's `oid`.
    pub id: String,
    /// The person's name.
    pub name: Option<String>,
    /// The person's email address.
    pub email: Option<String>,
    /// The person's role.
    pub role: Role,
}

const ALL: &str = "SELECT user_id, name, email, role FROM users WHERE tenant_no = ?1 ORDER BY seq";
const BY_ID: &str =
    "SELECT user_id, name, email, role FROM users WHERE tenant_no = ?1 AND user_id = ?2";

fn record(row: &Row<'_>) -> Result<UserRecord> {
    Ok(UserRecord {
        id: row.get("user_id")?,
        name: row.get("name")?,
        email: row.get("email")?,
        role: row.get("role")?,
    })
}

/// All users of a tenant, oldest first.
pub fn all(reader: &Reader<'_>, tenant: TenantNo) -> Result<Vec<UserRecord>> {
    reader.all(ALL, [tenant], record)
}

/// The tenant's user with this id.
pub fn by_id(reader: &Reader<'_>, tenant: TenantNo, id: &str) -> Result<Option<UserRecord>> {
    reader.optional(BY_ID, (tenant, id), record)
}

const UPSERT: &str = "
INSERT INTO users (tenant_no, user_id, seq, name, email, role) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
ON CONFLICT (tenant_no, user_id) DO UPDATE SET name = excluded.name, email = excluded.email, role = excluded.role";

/// Creates a user, or updates its name, email address and role.
pub fn upsert(tx: &mut WriteTx<'_>, tenant: TenantNo, user: &UserRecord) -> Result<()> {
    let seq = tx.tick();
    tx.execute(
        UPSERT,
        (tenant, &user.id, seq, &user.name, &user.email, user.role),
    )
    .map(drop)
}

/// A person who signs in through Entra ID: the tenant of the directory, and the user's record.
#[derive(Clone, Debug)]
pub struct EntraUser {
    /// The tenant.
    pub tenant: Tenant,
    /// The user's record; none before the first request.
    pub user: Option<StoredUser>,
}

/// The fields of a user's record that every request needs.
#[derive(Clone, Debug)]
pub struct StoredUser {
    /// The person's name.
    pub name: Option<String>,
    /// The person's role.
    pub role: Role,
    /// The minute of the last request.
    pub last_seen_at: Option<Millis>,
}

const ENTRA_USER: &str = "
SELECT t.tenant_no AS tenant_no, t.client_id AS client_id, t.name AS tenant_name, t.rate_limit_per_minute AS rate_limit_per_minute,
       u.name AS name, u.role AS role, u.last_seen_at AS last_seen_at
FROM tenants t LEFT JOIN users u ON u.tenant_no = t.tenant_no AND u.user_id = ?2
WHERE t.entra_tenant_id = ?1";

/// The tenant of a directory, and the user with this id. `None` if no tenant has the directory.
pub fn entra_user(
    reader: &Reader<'_>,
    directory: &M365TenantId,
    id: &str,
) -> Result<Option<EntraUser>> {
    reader.optional(ENTRA_USER, (directory, id), |row| {
        let role: Option<Role> = row.get("role")?;
        Ok(EntraUser {
            tenant: tenants::facts(row)?,
            user: match role {
                None => None,
                Some(role) => Some(StoredUser {
                    name: row.get("name")?,
                    role,
                    last_seen_at: row.get("last_seen_at")?,
                }),
            },
        })
    })
}

/// A user's request, and the claims of its token.
#[derive(Clone, Debug)]
pub struct LastSeen {
    /// The tenant.
    pub tenant: TenantNo,
    /// The token's `oid`.
    pub id: String,
    /// The person's name in the token.
    pub name: Option<String>,
    /// The person's email address in the token.
    pub email: Option<String>,
    /// The minute of the request.
    pub minute: Millis,
    /// Whether to record the user if there is no record. A user whom an administrator has just
    /// removed must not come back.
    pub is_unknown: bool,
}

// A token's claims do not overwrite values that are stored already, for example by a seed file.
const SET_LAST_SEEN: &str = "
INSERT INTO users (tenant_no, user_id, seq, name, email, role, last_seen_at) VALUES (?1, ?2, ?3, ?4, ?5, 'USER', ?6)
ON CONFLICT (tenant_no, user_id) DO UPDATE
SET name = coalesce(users.name, excluded.name), email = coalesce(users.email, excluded.email),
    last_seen_at = CASE WHEN users.last_seen_at > excluded.last_seen_at THEN users.last_seen_at ELSE excluded.last_seen_at END";

const SEE_AGAIN: &str = "
UPDATE users SET name = coalesce(name, ?3), email = coalesce(email, ?4), last_seen_at = CASE WHEN last_seen_at > ?5 THEN last_seen_at ELSE ?5 END
WHERE tenant_no = ?1 AND user_id = ?2";

/// Records the time of a user's request. Creates an unknown user with the role `USER`.
pub fn record_last_seen(tx: &mut WriteTx<'_>, seen: &LastSeen) -> Result<()> {
    if !seen.is_unknown {
        let params = (seen.tenant, &seen.id, &seen.name, &seen.email, seen.minute);
        return tx.execute(SEE_AGAIN, params).map(drop);
    }
    let seq = tx.tick();
    tx.execute(
        SET_LAST_SEEN,
        (
            seen.tenant,
            &seen.id,
            seq,
            &seen.name,
            &seen.email,
            seen.minute,
        ),
    )
    .map(drop)
}

/// A user as the API returns it (contract, section 7).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct User {
    /// The token's `oid`.
    pub id: String,
    /// The person's name.
    pub name: Option<String>,
    /// The person's email address.
    pub email: Option<String>,
    /// The person's role.
    pub role: Role,
    /// When the person's last request came, to the minute.
    pub last_seen_at: Option<Timestamp>,
    /// The order of creation.
    #[serde(skip)]
    pub seq: Tick,
}

macro_rules! select_user {
    ($rest:literal) => {
        concat!(
            "SELECT user_id, name, email, role, last_seen_at, seq FROM users ",
            $rest
        )
    };
}

fn user(row: &Row<'_>) -> Result<User> {
    Ok(User {
        id: row.get("user_id")?,
        name: row.get("name")?,
        email: row.get("email")?,
        role: row.get("role")?,
        last_seen_at: row.get::<Option<i64>>("last_seen_at")?.map(Timestamp),
        seq: row.get("seq")?,
    })
}

const PAGE: &str = select_user!(
    "WHERE tenant_no = ?1 AND seq < ?3 AND (?2 IS NULL OR role = ?2)
     ORDER BY seq DESC LIMIT ?4"
);

/// A page of a tenant's users older than a tick, newest first.
pub fn page(
    reader: &Reader<'_>,
    tenant: TenantNo,
    role: Option<Role>,
    q: Option<&str>,
    before: Tick,
    limit: usize,
) -> Result<Rows<User>> {
    reader.page_matching(
        q.map(|q| (q, &["name", "email"][..])),
        [PAGE, PAGE],
        Keyset { before, limit },
        (tenant, role),
        user,
    )
}

const LIST: &str = select_user!("WHERE tenant_no = ?1 ORDER BY seq");

/// All users of a tenant as the API returns them, oldest first.
pub fn list(reader: &Reader<'_>, tenant: TenantNo) -> Result<Vec<User>> {
    reader.all(LIST, [tenant], user)
}

const ONE: &str = select_user!("WHERE tenant_no = ?1 AND user_id = ?2");

/// The tenant's user with this id, as the API returns it.
///
/// # Errors
/// `not_found` if the tenant has no such user.
pub fn of_tenant(reader: &Reader<'_>, tenant: TenantNo, id: &str) -> Result<User> {
    Ok(reader
        .optional(ONE, (tenant, id), user)?
        .ok_or(Code::NotFound)?)
}

/// Records a user whom an administrator adds before the first request.
///
/// # Errors
/// `already_exists` if the tenant has a user with this id.
pub fn create(tx: &mut WriteTx<'_>, tenant: TenantNo, new: &UserRecord) -> Result<User> {
    if by_id(tx.reader(), tenant, &new.id)?.is_some() {
        return Err(Refusal::new(Code::AlreadyExists)
            .saying("This user already exists. Change the role with PATCH.")
            .with("field", "id")
            .into());
    }
    upsert(tx, tenant, new)?;
    of_tenant(tx.reader(), tenant, &new.id)
}

const DELETE: &str = "DELETE FROM users WHERE tenant_no = ?1 AND user_id = ?2";

/// Removes a user, and revokes the session tokens that the user minted. Returns the user as it was.
///
/// # Errors
/// `not_found`; `last_admin` if the tenant would have no ADMIN left.
pub fn delete(tx: &mut WriteTx<'_>, tenant: TenantNo, id: &str) -> Result<User> {
    let (before, _) = set_role(tx, tenant, id, Role::Viewer)?;
    // The demotion revokes the tokens, unless an app role has allowed a VIEWER to mint them.
    tokens::revoke_of_user(tx, tenant, id)?;
    tx.execute(DELETE, (tenant, id))?;
    Ok(before)
}

const OTHER_ADMIN: &str =
    "SELECT 1 FROM users WHERE tenant_no = ?1 AND role = 'ADMIN' AND user_id <> ?2 LIMIT 1";
const SET_ROLE: &str = "UPDATE users SET role = ?3 WHERE tenant_no = ?1 AND user_id = ?2";

/// Changes a user's role. Returns the user before and after the change.
///
/// # Errors
/// `not_found`; `last_admin` if the tenant would have no ADMIN left.
pub fn set_role(
    tx: &mut WriteTx<'_>,
    tenant: TenantNo,
    id: &str,
    role: Role,
) -> Result<(User, User)> {
    let before = of_tenant(tx.reader(), tenant, id)?;
    let others = tx
        .reader()
        .optional(OTHER_ADMIN, (tenant, id), |_| Ok(()))?;
    if before.role == Role::Admin && role != Role::Admin && others.is_none() {
        return Err(Code::LastAdmin.into());
    }
    tx.execute(SET_ROLE, (tenant, id, role))?;
    let after = of_tenant(tx.reader(), tenant, id)?;
    Ok((before, after))
}
