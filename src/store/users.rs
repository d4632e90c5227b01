//! People who sign in through Entra ID.

use schemars::JsonSchema;
use serde::Serialize;

use super::WriteTx;
use super::sql::{Reader, Row};
use crate::error::{Code, Result};
use crate::model::clock::{Millis, Timestamp};
use crate::model::ids::Tick;
use crate::model::names::{ClientId, M365TenantId, TenantNo};
use crate::model::tenant::Tenant;
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

fn record(row: &Row<'_>) -> Result<UserRecord> {
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
    tx.execute(
        UPSERT,
        (tenant, &user.id, seq, &user.name, &user.email, user.role),
    )
    .map(drop)
}

/// The tenant that a directory signs in to, and what is recorded of a person there.
#[derive(Clone, Debug)]
pub struct SignsIn {
    /// The tenant.
    pub tenant: Tenant,
    /// That tenant's own figure.
    pub rate_limit_per_minute: Option<i64>,
    /// The person, if there is a record.
    pub user: Option<KnownUser>,
}

/// What a request needs of a user's record.
#[derive(Clone, Debug)]
pub struct KnownUser {
    /// The person's name.
    pub name: Option<String>,
    /// What the person may do.
    pub role: Role,
    /// The minute of the last request.
    pub last_seen_at: Option<Millis>,
}

const WHO_SIGNS_IN: &str = "
SELECT t.tenant_no AS tenant_no, t.client_id AS client_id, t.name AS tenant_name, t.rate_limit_per_minute AS rate_limit_per_minute,
       u.name AS name, u.role AS role, u.last_seen_at AS last_seen_at
FROM tenants t LEFT JOIN users u ON u.tenant_no = t.tenant_no AND u.user_id = ?2
WHERE t.entra_tenant_id = ?1";

/// Who signs in from a directory; `None` when no tenant has it.
///
/// # Errors
/// The file cannot be read.
pub fn who_signs_in(
    reader: &Reader<'_>,
    directory: &M365TenantId,
    id: &str,
) -> Result<Option<SignsIn>> {
    reader.optional(WHO_SIGNS_IN, (directory, id), |row| {
        let client_id: ClientId = row.get("client_id")?;
        let role: Option<Role> = row.get("role")?;
        Ok(SignsIn {
            tenant: Tenant {
                no: row.get("tenant_no")?,
                client_id,
                name: row.get("tenant_name")?,
            },
            rate_limit_per_minute: row.get("rate_limit_per_minute")?,
            user: match role {
                None => None,
                Some(role) => Some(KnownUser {
                    name: row.get("name")?,
                    role,
                    last_seen_at: row.get("last_seen_at")?,
                }),
            },
        })
    })
}

/// A person's request, as it is recorded.
#[derive(Clone, Debug)]
pub struct LastSeen {
    /// The tenant.
    pub tenant: TenantNo,
    /// The token's `oid`.
    pub id: String,
    /// The token's name of the person.
    pub name: Option<String>,
    /// The token's address of the person.
    pub email: Option<String>,
    /// The minute of the request.
    pub minute: Millis,
}

// What is recorded already, as by a seed file, is not written over by what tokens say.
const SEE: &str = "
INSERT INTO users (tenant_no, user_id, seq, name, email, role, last_seen_at) VALUES (?1, ?2, ?3, ?4, ?5, 'USER', ?6)
ON CONFLICT (tenant_no, user_id) DO UPDATE
SET name = coalesce(users.name, excluded.name), email = coalesce(users.email, excluded.email),
    last_seen_at = max(coalesce(users.last_seen_at, 0), excluded.last_seen_at)";

/// Records that a person was seen; at first sight the role is `USER`.
///
/// # Errors
/// The file cannot be written.
pub fn see(tx: &mut WriteTx<'_>, sight: &LastSeen) -> Result<()> {
    let seq = tx.tick();
    tx.execute(
        SEE,
        (
            sight.tenant,
            &sight.id,
            seq,
            &sight.name,
            &sight.email,
            sight.minute,
        ),
    )
    .map(drop)
}

/// A user as the wire shows it (contract, section 7).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct User {
    /// The token's `oid`.
    pub id: String,
    /// The person's name.
    pub name: Option<String>,
    /// The person's address.
    pub email: Option<String>,
    /// What the person may do.
    pub role: Role,
    /// When the person was last seen, to the minute.
    pub last_seen_at: Option<Timestamp>,
    /// Creation order.
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
    "WHERE tenant_no = ?1 AND seq < ?2 AND (?3 IS NULL OR role = ?3)
       AND (?4 IS NULL OR instr(lower(coalesce(name, '')), lower(?4)) > 0 OR instr(lower(coalesce(email, '')), lower(?4)) > 0)
     ORDER BY seq DESC LIMIT ?5"
);

/// A page of a tenant's users, newest first, from before a tick.
///
/// # Errors
/// The file cannot be read.
pub fn page(
    reader: &Reader<'_>,
    tenant: TenantNo,
    role: Option<Role>,
    q: Option<&str>,
    before: Tick,
    limit: usize,
) -> Result<Vec<User>> {
    reader.all(PAGE, (tenant, before, role, q, limit), user)
}

const ONE: &str = select_user!("WHERE tenant_no = ?1 AND user_id = ?2");

/// The tenant's user of this id, as the wire shows it.
///
/// # Errors
/// `not_found`.
pub fn of_tenant(reader: &Reader<'_>, tenant: TenantNo, id: &str) -> Result<User> {
    Ok(reader
        .optional(ONE, (tenant, id), user)?
        .ok_or(Code::NotFound)?)
}

const OTHER_ADMIN: &str =
    "SELECT 1 FROM users WHERE tenant_no = ?1 AND role = 'ADMIN' AND user_id <> ?2 LIMIT 1";
const SET_ROLE: &str = "UPDATE users SET role = ?3 WHERE tenant_no = ?1 AND user_id = ?2";

/// Gives a user a role; gives what the user was before, and is now.
///
/// # Errors
/// `not_found`; `last_admin` when nobody else is one.
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
