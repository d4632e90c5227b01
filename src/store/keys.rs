//! API keys. Only the SHA-256 of a key is stored.

use super::sql::{Keyset, Reader, Row, Rows, params};
use super::{WriteTx, tenants};
use crate::error::{Code, Refusal, Result};
use crate::model::clock::Millis;
use crate::model::ids::{KeyId, Tick};
use crate::model::names::TenantNo;
use crate::model::tenant::Tenant;

/// How long a key stays valid after its rotation: 24 hours.
pub const ROTATION_OVERLAP_MS: Millis = 24 * 60 * 60 * 1_000;

/// The record of a key.
#[derive(Clone, Debug)]
pub struct KeyRecord {
    /// The key's id.
    pub id: KeyId,
    /// The id of the account's first key. A rotation keeps the account.
    pub account: KeyId,
    /// The MSP that the key acts for.
    pub tenant: TenantNo,
    /// The key's name.
    pub name: String,
    /// The last four characters of the key.
    pub hint: String,
    /// Whether the key is that of a platform service account.
    pub platform: bool,
    /// When the key was created.
    pub created_at: Millis,
    /// When the key expires.
    pub expires_at: Option<Millis>,
    /// When the key was last used, to the minute.
    pub last_used_at: Option<Millis>,
    /// When the key was revoked.
    pub revoked_at: Option<Millis>,
    /// The SHA-256 of the key.
    pub sha256: [u8; 32],
}

impl KeyRecord {
    /// Whether the key is valid: neither expired nor revoked.
    pub fn is_living(&self, now: Millis) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|expires| expires > now)
    }
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT seq, id, account_id, tenant_no, name, hint, platform, created_at, expires_at, last_used_at, revoked_at, sha256 \
             FROM api_keys ",
            $rest
        )
    };
}

fn record(row: &Row<'_>) -> Result<KeyRecord> {
    Ok(KeyRecord {
        id: row.get("id")?,
        account: row.get("account_id")?,
        tenant: row.get("tenant_no")?,
        name: row.get("name")?,
        hint: row.get("hint")?,
        platform: row.get("platform")?,
        created_at: row.get("created_at")?,
        expires_at: row.get("expires_at")?,
        last_used_at: row.get("last_used_at")?,
        revoked_at: row.get("revoked_at")?,
        sha256: row.get("sha256")?,
    })
}

/// A key with the tenant that it acts for.
#[derive(Clone, Debug)]
pub struct Credential {
    /// The key.
    pub key: KeyRecord,
    /// The key's tenant.
    pub tenant: Tenant,
}

const BY_SHA256: &str = "
SELECT k.id AS id, k.account_id AS account_id, k.tenant_no AS tenant_no, k.name AS name, k.hint AS hint,
       k.platform AS platform, k.created_at AS created_at, k.expires_at AS expires_at, k.last_used_at AS last_used_at,
       k.revoked_at AS revoked_at, k.sha256 AS sha256, t.client_id AS client_id, t.name AS tenant_name, t.rate_limit_per_minute AS rate_limit_per_minute
FROM api_keys k JOIN tenants t ON t.tenant_no = k.tenant_no
WHERE k.sha256 = ?1";

/// The key with this SHA-256, even if revoked or expired.
pub fn by_sha256(reader: &Reader<'_>, sha256: &[u8; 32]) -> Result<Option<Credential>> {
    reader.optional(BY_SHA256, [sha256], |row| {
        Ok(Credential {
            key: record(row)?,
            tenant: tenants::facts(row)?,
        })
    })
}

const BY_ID: &str = select!("WHERE seq = ?1 AND id = ?2");

/// The key with this id.
pub fn by_id(reader: &Reader<'_>, id: KeyId) -> Result<Option<KeyRecord>> {
    reader.optional(BY_ID, (id.tick(), id), record)
}

const ALL: &str = select!("WHERE tenant_no = ?1 ORDER BY seq");

/// All keys of a tenant, oldest first.
pub fn all(reader: &Reader<'_>, tenant: TenantNo) -> Result<Vec<KeyRecord>> {
    reader.all(ALL, [tenant], record)
}

const PAGE: &str = select!("WHERE tenant_no = ?1 AND seq < ?2 ORDER BY seq DESC LIMIT ?3");

/// A page of a tenant's keys older than a tick, newest first. Includes expired and revoked keys.
pub fn page(
    reader: &Reader<'_>,
    tenant: TenantNo,
    q: Option<&str>,
    before: Tick,
    limit: usize,
) -> Result<Rows<KeyRecord>> {
    reader.page_matching(
        q.map(|q| (q, &["name"][..])),
        [PAGE, PAGE],
        Keyset { before, limit },
        [tenant],
        record,
    )
}

const NAMED: &str = select!("WHERE tenant_no = ?1 AND name = ?2 ORDER BY seq");

/// All keys of a tenant with this name. Includes expired and revoked keys, and both keys of a
/// rotation.
pub fn named(reader: &Reader<'_>, tenant: TenantNo, name: &str) -> Result<Vec<KeyRecord>> {
    reader.all(NAMED, (tenant, name), record)
}

/// A key to create.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// The MSP that the key acts for.
    pub tenant: TenantNo,
    /// The key's name.
    pub name: String,
    /// Whether the key is that of a platform service account.
    pub platform: bool,
    /// When the key expires.
    pub expires_at: Option<Millis>,
    /// The SHA-256 of the key.
    pub sha256: [u8; 32],
    /// The last four characters of the key.
    pub hint: String,
}

const INSERT: &str = "
INSERT INTO api_keys (seq, id, tenant_no, account_id, name, sha256, hint, platform, created_at, expires_at, own_expires_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?10)";

const IS_STORED: &str = "SELECT 1 FROM api_keys WHERE sha256 = ?1";

fn insert(tx: &mut WriteTx<'_>, new: &NewKey, account: Option<KeyId>) -> Result<KeyId> {
    let in_use = tx.reader().optional(IS_STORED, [new.sha256], |_| Ok(()))?;
    if in_use.is_some() {
        return Err(Refusal::new(Code::AlreadyExists)
            .saying("This key is already in use. Generate another key.")
            .with("field", "key")
            .into());
    }
    let id: KeyId = tx.new_id()?;
    let now = tx.now();
    tx.execute(
        INSERT,
        params![
            id.tick(),
            id,
            new.tenant,
            account.unwrap_or(id),
            &new.name,
            new.sha256,
            &new.hint,
            new.platform,
            now,
            new.expires_at
        ],
    )?;
    Ok(id)
}

/// Creates an account with its first key.
///
/// # Errors
/// `already_exists` if the tenant has a valid key of this name.
pub fn create(tx: &mut WriteTx<'_>, new: &NewKey) -> Result<KeyId> {
    let now = tx.now();
    if named(tx.reader(), new.tenant, &new.name)?
        .iter()
        .any(|key| key.is_living(now))
    {
        return Err(Refusal::new(Code::AlreadyExists)
            .saying(format!(
                "A key named {:?} already exists. Choose another name, or rotate that key.",
                new.name
            ))
            .with("field", "name")
            .into());
    }
    insert(tx, new, None)
}

const OWN_END: &str = "SELECT own_expires_at FROM api_keys WHERE seq = ?1";
const END_AT: &str = "UPDATE api_keys SET expires_at = ?2 WHERE seq = ?1";

/// Creates the next key of an account. The old key stays valid for up to 24 hours.
///
/// # Errors
/// `not_found` if there is no valid key with this id.
pub fn rotate(
    tx: &mut WriteTx<'_>,
    id: KeyId,
    sha256: [u8; 32],
    hint: String,
) -> Result<(KeyId, KeyRecord)> {
    let now = tx.now();
    let old = by_id(tx.reader(), id)?
        .filter(|key| key.is_living(now))
        .ok_or_else(|| {
            Refusal::new(Code::NotFound).saying("There is no valid key with this id.")
        })?;
    // The own expiry, not that of an overlap: a key can be rotated again, as after a lost reply.
    let own_end = tx
        .reader()
        .one(OWN_END, [id.tick()], |row| row.get("own_expires_at"))?;
    let new = NewKey {
        tenant: old.tenant,
        name: old.name.clone(),
        platform: old.platform,
        expires_at: own_end,
        sha256,
        hint,
    };
    let new_id = insert(tx, &new, Some(old.account))?;
    let overlap = now + ROTATION_OVERLAP_MS;
    let ends = old
        .expires_at
        .map_or(overlap, |expires| expires.min(overlap));
    tx.execute(END_AT, (id.tick(), ends))?;
    Ok((new_id, old))
}

const REVOKE: &str =
    "UPDATE api_keys SET revoked_at = ?3 WHERE seq = ?1 AND id = ?2 AND revoked_at IS NULL";

/// Revokes a key at once. A revoked key keeps its time of revocation.
///
/// # Errors
/// `not_found` if there is no key with this id.
pub fn revoke(tx: &mut WriteTx<'_>, id: KeyId) -> Result<KeyRecord> {
    let key = by_id(tx.reader(), id)?
        .ok_or_else(|| Refusal::new(Code::NotFound).saying("There is no key with this id."))?;
    let now = tx.now();
    tx.execute(REVOKE, (id.tick(), id, now))?;
    Ok(key)
}

const USED: &str =
    "UPDATE api_keys SET last_used_at = ?2 WHERE seq = ?1 AND coalesce(last_used_at, 0) < ?2";

/// Records the minute in which a key was used.
pub fn record_use(tx: &mut WriteTx<'_>, key: Tick, minute: Millis) -> Result<()> {
    tx.execute(USED, (key, minute)).map(drop)
}
