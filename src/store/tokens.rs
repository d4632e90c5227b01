//! Session tokens: each gives access to one session (contract, section 8).

use super::sql::{Reader, params};
use super::{Extent, Store, WriteTx, tenants};
use crate::error::Result;
use crate::model::caller::Actor;
use crate::model::clock::Millis;
use crate::model::ids::{SessionId, Tick, TokenId};
use crate::model::names::TenantNo;
use crate::model::tenant::Tenant;

/// How long an expired token is kept, so that a refusal can name the exact reason: a day.
const GRACE_MS: Millis = 24 * 60 * 60 * 1_000;
/// Tokens that one change removes.
const BATCH: usize = 1_000;

/// A token to mint.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// The session.
    pub session: SessionId,
    /// The session's tenant.
    pub tenant: TenantNo,
    /// The account that mints the token.
    pub minted_by: Actor,
    /// The key that mints the token. Revoking the key revokes the token.
    pub minted_by_key: Option<Tick>,
    /// The end user who receives the token.
    pub end_user: Option<String>,
    /// The end user's email address.
    pub end_user_email: Option<String>,
    /// The company that the minting account names. Recorded, but not used.
    pub company: Option<String>,
    /// When the token expires.
    pub expires_at: Millis,
}

const INSERT: &str = "
INSERT INTO session_tokens (jti, session_seq, tenant_no, minted_by_kind, minted_by_id, minted_by_key, end_user, end_user_email,
                            psa_company_id, created_at, expires_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";

/// Records a token. The session must exist.
pub fn insert(tx: &mut WriteTx<'_>, new: &NewToken) -> Result<TokenId> {
    let jti: TokenId = tx.new_id()?;
    let now = tx.now();
    tx.execute(
        INSERT,
        params![
            jti,
            new.session.tick(),
            new.tenant,
            new.minted_by.kind,
            &new.minted_by.id,
            new.minted_by_key,
            &new.end_user,
            &new.end_user_email,
            &new.company,
            now,
            new.expires_at
        ],
    )?;
    Ok(jti)
}

/// The current state of a token.
#[derive(Clone, Debug)]
pub struct TokenRecord {
    /// The session.
    pub session: SessionId,
    /// The session's tenant.
    pub tenant: Tenant,
    /// The end user who received the token.
    pub end_user: Option<String>,
    /// Whether the token, or the key that minted it, was revoked.
    pub revoked: bool,
}

const BY_JTI: &str = "
SELECT s.id AS session_id, t.tenant_no AS tenant_no, t.client_id AS client_id, t.name AS tenant_name,
       t.rate_limit_per_minute AS rate_limit_per_minute, k.end_user AS end_user,
       k.revoked_at IS NOT NULL OR (a.seq IS NOT NULL AND a.revoked_at IS NOT NULL) AS revoked
FROM session_tokens k
JOIN sessions s ON s.seq = k.session_seq
JOIN tenants t ON t.tenant_no = k.tenant_no
LEFT JOIN api_keys a ON a.seq = k.minted_by_key
WHERE k.jti = ?1";

/// The token with this `jti`, unless its session was deleted.
pub fn by_jti(reader: &Reader<'_>, jti: TokenId) -> Result<Option<TokenRecord>> {
    reader.optional(BY_JTI, [jti], |row| {
        Ok(TokenRecord {
            session: row.get("session_id")?,
            tenant: tenants::facts(row)?,
            end_user: row.get("end_user")?,
            revoked: row.get("revoked")?,
        })
    })
}

const REVOKE: &str =
    "UPDATE session_tokens SET revoked_at = ?2 WHERE jti = ?1 AND revoked_at IS NULL";

/// Revokes a token at once. Returns `false` if the token was revoked already.
pub fn revoke(tx: &mut WriteTx<'_>, jti: TokenId) -> Result<bool> {
    let now = tx.now();
    Ok(tx.execute(REVOKE, (jti, now))? > 0)
}

const REVOKE_OF_USER: &str = "
UPDATE session_tokens SET revoked_at = ?3
WHERE tenant_no = ?1 AND minted_by_kind = 'dashboard_user' AND minted_by_id = ?2 AND revoked_at IS NULL";

/// Revokes the tokens that a user of a tenant minted.
pub fn revoke_of_user(tx: &mut WriteTx<'_>, tenant: TenantNo, user: &str) -> Result<()> {
    let now = tx.now();
    tx.execute(REVOKE_OF_USER, (tenant, user, now)).map(drop)
}

const PURGE: &str = "
DELETE FROM session_tokens WHERE jti IN (
  SELECT jti FROM session_tokens WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2)";

impl Store {
    /// Removes tokens that expired a day ago, in small batches.
    pub async fn purge_session_tokens(&self) -> Result<()> {
        loop {
            let removed = self
                .write(Extent::Configuration, |tx| {
                    let expired = tx.now() - GRACE_MS;
                    tx.execute(PURGE, (expired, BATCH))
                })
                .await?;
            if removed < BATCH {
                return Ok(());
            }
        }
    }
}
