//! Local sign-in: the codes of sign-in links, and sign-ins (contract, section 9).

use super::sql::Reader;
use super::{Extent, Store, WriteTx, tenants};
use crate::error::Result;
use crate::model::clock::Millis;
use crate::model::ids::TokenId;
use crate::model::names::{ClientId, TenantNo};
use crate::model::tenant::Tenant;
use crate::model::words::Role;

/// How long a link is valid: 15 minutes.
pub const LINK_TTL_MS: Millis = 15 * 60 * 1_000;
/// How long a sign-in is valid: 12 hours.
pub const SIGN_IN_TTL_MS: Millis = 12 * 60 * 60 * 1_000;
/// How long expired rows are kept, so that a refusal can name the exact reason: a day.
const GRACE_MS: Millis = 24 * 60 * 60 * 1_000;
/// Rows that one change removes.
const BATCH: usize = 1_000;

const INSERT_CODE: &str = "
INSERT INTO sign_in_codes (sha256, tenant_no, role, created_at, expires_at) VALUES (?1, ?2, ?3, ?4, ?5)";

/// Stores the SHA-256 of a new code. The code can be exchanged once within 15 minutes.
pub fn insert_code(
    tx: &mut WriteTx<'_>,
    sha256: [u8; 32],
    tenant: TenantNo,
    role: Role,
) -> Result<()> {
    let now = tx.now();
    tx.execute(INSERT_CODE, (sha256, tenant, role, now, now + LINK_TTL_MS))
        .map(drop)
}

/// The state of a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeState {
    /// The code can be exchanged.
    Valid,
    /// The code has expired.
    Expired,
    /// The code was exchanged, or never existed.
    Unknown,
}

const CODE: &str = "SELECT expires_at FROM sign_in_codes WHERE sha256 = ?1";

/// The state of a code at a time.
pub fn code_state(reader: &Reader<'_>, sha256: &[u8; 32], now: Millis) -> Result<CodeState> {
    let expires_at: Option<Millis> =
        reader.optional(CODE, [sha256], |row| row.get("expires_at"))?;
    Ok(match expires_at {
        None => CodeState::Unknown,
        Some(expires_at) if expires_at <= now => CodeState::Expired,
        Some(_) => CodeState::Valid,
    })
}

/// A sign-in that was just created.
#[derive(Clone, Debug)]
pub struct NewSignIn {
    /// The id of the token.
    pub jti: TokenId,
    /// The tenant.
    pub tenant: TenantNo,
    /// The tenant's `client_id`.
    pub client_id: ClientId,
    /// The person's role.
    pub role: Role,
    /// When the sign-in was created.
    pub created_at: Millis,
    /// When the sign-in expires.
    pub expires_at: Millis,
}

const TAKE_CODE: &str = "
DELETE FROM sign_in_codes WHERE sha256 = ?1 AND expires_at > ?2
RETURNING tenant_no, role, (SELECT client_id FROM tenants t WHERE t.tenant_no = sign_in_codes.tenant_no) AS client_id";
const INSERT_SIGN_IN: &str = "
INSERT INTO sign_ins (jti, tenant_no, role, created_at, expires_at) VALUES (?1, ?2, ?3, ?4, ?5)";

/// Exchanges a code for a sign-in of 12 hours. Returns `None` if the code is not valid. Of two
/// concurrent exchanges, one succeeds.
pub fn exchange(tx: &mut WriteTx<'_>, sha256: &[u8; 32]) -> Result<Option<NewSignIn>> {
    let now = tx.now();
    let taken = tx.returning(TAKE_CODE, (sha256, now), |row| {
        let role: Role = row.get("role")?;
        let client_id: ClientId = row.get("client_id")?;
        Ok((row.get("tenant_no")?, client_id, role))
    })?;
    let Some((tenant, client_id, role)) = taken else {
        return Ok(None);
    };
    let jti: TokenId = tx.new_id()?;
    // The token's `exp` is in whole seconds.
    let expires_at = (now + SIGN_IN_TTL_MS).div_euclid(1_000) * 1_000;
    tx.execute(INSERT_SIGN_IN, (jti, tenant, role, now, expires_at))?;
    Ok(Some(NewSignIn {
        jti,
        tenant,
        client_id,
        role,
        created_at: now,
        expires_at,
    }))
}

/// The current state of a sign-in.
#[derive(Clone, Debug)]
pub struct SignIn {
    /// The tenant.
    pub tenant: Tenant,
    /// The person's role.
    pub role: Role,
    /// Whether the person signed out.
    pub has_ended: bool,
}

const BY_JTI: &str = "
SELECT t.tenant_no AS tenant_no, t.client_id AS client_id, t.name AS tenant_name, t.rate_limit_per_minute AS rate_limit_per_minute,
       s.role AS role, s.ended_at IS NOT NULL AS has_ended
FROM sign_ins s JOIN tenants t ON t.tenant_no = s.tenant_no
WHERE s.jti = ?1";

/// The sign-in with this token id.
pub fn by_jti(reader: &Reader<'_>, jti: TokenId) -> Result<Option<SignIn>> {
    reader.optional(BY_JTI, [jti], |row| {
        Ok(SignIn {
            tenant: tenants::facts(row)?,
            role: row.get("role")?,
            has_ended: row.get("has_ended")?,
        })
    })
}

const END: &str = "UPDATE sign_ins SET ended_at = coalesce(ended_at, ?2) WHERE jti = ?1";

/// Ends a sign-in at once.
pub fn end(tx: &mut WriteTx<'_>, jti: TokenId) -> Result<()> {
    let now = tx.now();
    tx.execute(END, (jti, now)).map(drop)
}

const PURGES: [&str; 2] = [
    "DELETE FROM sign_in_codes WHERE sha256 IN (
       SELECT sha256 FROM sign_in_codes WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2)",
    "DELETE FROM sign_ins WHERE jti IN (
       SELECT jti FROM sign_ins WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2)",
];

impl Store {
    /// Removes codes and sign-ins that expired a day ago, in small batches.
    pub async fn purge_sign_ins(&self) -> Result<()> {
        for purge in PURGES {
            loop {
                let removed = self
                    .write(Extent::Configuration, move |tx| {
                        let expired = tx.now() - GRACE_MS;
                        tx.execute(purge, (expired, BATCH))
                    })
                    .await?;
                if removed < BATCH {
                    break;
                }
            }
        }
        Ok(())
    }
}
