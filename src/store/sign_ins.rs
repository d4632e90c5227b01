//! Local sign-in: codes of links and the sign-ins that came of them (contract, section 9).

use super::sql::Reader;
use super::{Extent, Store, WriteTx};
use crate::error::Result;
use crate::model::clock::Millis;
use crate::model::ids::TokenId;
use crate::model::names::{ClientId, TenantNo};
use crate::model::tenant::Tenant;
use crate::model::words::Role;

/// How long a link works: 15 minutes.
pub const LINK_LIVES_MS: Millis = 15 * 60 * 1_000;
/// How long a sign-in lasts: 12 hours.
pub const SIGN_IN_LIVES_MS: Millis = 12 * 60 * 60 * 1_000;
/// How long what has ended is remembered, so that its reason stays exact: a day.
const REMEMBERED_MS: Millis = 24 * 60 * 60 * 1_000;
/// Rows that one clean-up removes at most.
const BATCH: usize = 1_000;

const OFFER: &str = "
INSERT INTO sign_in_codes (sha256, tenant_no, role, created_at, expires_at) VALUES (?1, ?2, ?3, ?4, ?5)";

/// Keeps a new code's SHA-256; it can be exchanged once, for 15 minutes.
///
/// # Errors
/// The file cannot be written.
pub fn offer(tx: &mut WriteTx<'_>, sha256: [u8; 32], tenant: TenantNo, role: Role) -> Result<()> {
    let now = tx.now();
    tx.execute(OFFER, (sha256, tenant, role, now, now + LINK_LIVES_MS))
        .map(drop)
}

/// A code's worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// It can be exchanged.
    Good,
    /// Its time has passed.
    Expired,
    /// It was used, or never given out.
    Unknown,
}

const CODE: &str = "SELECT expires_at FROM sign_in_codes WHERE sha256 = ?1";

/// What a code is worth at a time.
///
/// # Errors
/// The file cannot be read.
pub fn worth(reader: &Reader<'_>, sha256: &[u8; 32], now: Millis) -> Result<Code> {
    let expires_at: Option<Millis> =
        reader.optional(CODE, [sha256], |row| row.get("expires_at"))?;
    Ok(match expires_at {
        None => Code::Unknown,
        Some(expires_at) if expires_at <= now => Code::Expired,
        Some(_) => Code::Good,
    })
}

/// A sign-in as it was made.
#[derive(Clone, Debug)]
pub struct NewSignIn {
    /// Its token.
    pub jti: TokenId,
    /// The tenant.
    pub tenant: TenantNo,
    /// That tenant's name on the wire.
    pub client_id: ClientId,
    /// What the person may do.
    pub role: Role,
    /// When it was made.
    pub created_at: Millis,
    /// When it ends.
    pub expires_at: Millis,
}

const TAKE: &str = "
DELETE FROM sign_in_codes WHERE sha256 = ?1 AND expires_at > ?2
RETURNING tenant_no, role, (SELECT client_id FROM tenants t WHERE t.tenant_no = sign_in_codes.tenant_no) AS client_id";
const BEGIN: &str = "
INSERT INTO sign_ins (jti, tenant_no, role, created_at, expires_at) VALUES (?1, ?2, ?3, ?4, ?5)";

/// Exchanges a code for a sign-in of 12 hours; of two that do so at once, one gets it.
///
/// # Errors
/// The file cannot be written. A code that is not good gives `None`.
pub fn exchange(tx: &mut WriteTx<'_>, sha256: &[u8; 32]) -> Result<Option<NewSignIn>> {
    let now = tx.now();
    let taken = tx.returning(TAKE, (sha256, now), |row| {
        let role: Role = row.get("role")?;
        let client_id: ClientId = row.get("client_id")?;
        Ok((row.get("tenant_no")?, client_id, role))
    })?;
    let Some((tenant, client_id, role)) = taken else {
        return Ok(None);
    };
    let jti: TokenId = tx.new_id()?;
    // Tokens count in whole seconds.
    let expires_at = (now + SIGN_IN_LIVES_MS).div_euclid(1_000) * 1_000;
    tx.execute(BEGIN, (jti, tenant, role, now, expires_at))?;
    Ok(Some(NewSignIn {
        jti,
        tenant,
        client_id,
        role,
        created_at: now,
        expires_at,
    }))
}

/// A sign-in as it stands now.
#[derive(Clone, Debug)]
pub struct SignIn {
    /// The tenant.
    pub tenant: Tenant,
    /// That tenant's own figure.
    pub rate_limit_per_minute: Option<i64>,
    /// What the person may do.
    pub role: Role,
    /// Whether the person signed out.
    pub has_ended: bool,
}

const BY_JTI: &str = "
SELECT t.tenant_no AS tenant_no, t.client_id AS client_id, t.name AS tenant_name, t.rate_limit_per_minute AS rate_limit_per_minute,
       s.role AS role, s.ended_at IS NOT NULL AS has_ended
FROM sign_ins s JOIN tenants t ON t.tenant_no = s.tenant_no
WHERE s.jti = ?1";

/// The sign-in with this token.
///
/// # Errors
/// The file cannot be read.
pub fn by_jti(reader: &Reader<'_>, jti: TokenId) -> Result<Option<SignIn>> {
    reader.optional(BY_JTI, [jti], |row| {
        let client_id: ClientId = row.get("client_id")?;
        Ok(SignIn {
            tenant: Tenant {
                no: row.get("tenant_no")?,
                client_id,
                name: row.get("tenant_name")?,
            },
            rate_limit_per_minute: row.get("rate_limit_per_minute")?,
            role: row.get("role")?,
            has_ended: row.get("has_ended")?,
        })
    })
}

const END: &str = "UPDATE sign_ins SET ended_at = coalesce(ended_at, ?2) WHERE jti = ?1";

/// Ends a sign-in at once.
///
/// # Errors
/// The file cannot be written.
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
    /// Removes codes and sign-ins that ended a day ago, in small batches.
    ///
    /// # Errors
    /// The file cannot be written.
    pub async fn purge_sign_ins(&self) -> Result<()> {
        for purge in PURGES {
            loop {
                let removed = self
                    .write(Extent::Configuration, move |tx| {
                        let ended = tx.now() - REMEMBERED_MS;
                        tx.execute(purge, (ended, BATCH))
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
