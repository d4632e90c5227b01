//! Idempotency keys: stores the first reply for 24 hours (contract, section 3, Retries).

use super::sql::Reader;
use super::{Extent, Store, WriteTx};
use crate::error::Result;
use crate::model::clock::Millis;
use crate::model::ids::SessionId;
use crate::model::names::TenantNo;

/// How long a key and its reply are stored.
const TTL_MS: Millis = 24 * 60 * 60 * 1_000;
/// Keys that one change removes.
const BATCH: usize = 1_000;

/// A request with an idempotency key.
#[derive(Clone, Debug)]
pub struct IdempotentRequest {
    /// The account, unique on the server.
    pub account: String,
    /// The value of `Idempotency-Key`.
    pub key: String,
    /// The SHA-256 of the raw body.
    pub body_sha256: [u8; 32],
}

/// Whether a request replays an earlier one with the same key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replay {
    /// No: the key is new.
    No,
    /// The earlier request had another body.
    OtherBody,
    /// The session that the earlier request created was deleted.
    SessionDeleted,
    /// The earlier request created this session.
    Session(FirstReply),
}

/// The first reply with a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstReply {
    /// The data of the reply, as JSON.
    pub json: String,
    /// The tenant that the session acts for, with its own limit of requests per minute.
    pub tenant: (TenantNo, Option<i64>),
}

const FIND: &str = "
SELECT k.body_sha256 AS body_sha256, k.reply AS reply, s.tenant_no AS tenant_no, t.rate_limit_per_minute AS rate_limit_per_minute
FROM idempotency_keys k
LEFT JOIN sessions s ON s.seq = k.session_seq
LEFT JOIN tenants t ON t.tenant_no = s.tenant_no
WHERE k.account_id = ?1 AND k.key = ?2 AND k.created_at > ?3";

/// Finds the earlier request with the same account and key.
pub fn find(reader: &Reader<'_>, request: &IdempotentRequest, now: Millis) -> Result<Replay> {
    let key = (&request.account, &request.key, now - TTL_MS);
    let found = reader.optional(FIND, key, |row| {
        let body: [u8; 32] = row.get("body_sha256")?;
        if body != request.body_sha256 {
            return Ok(Replay::OtherBody);
        }
        let (json, tenant): (Option<String>, Option<TenantNo>) =
            (row.get("reply")?, row.get("tenant_no")?);
        Ok(match (json, tenant) {
            (Some(json), Some(tenant)) => Replay::Session(FirstReply {
                json,
                tenant: (tenant, row.get("rate_limit_per_minute")?),
            }),
            (Some(_), None) | (None, _) => Replay::SessionDeleted,
        })
    })?;
    Ok(found.unwrap_or(Replay::No))
}

const INSERT: &str = "
INSERT INTO idempotency_keys (account_id, key, body_sha256, session_seq, reply, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
ON CONFLICT (account_id, key) DO UPDATE
SET body_sha256 = excluded.body_sha256, session_seq = excluded.session_seq, reply = excluded.reply, created_at = excluded.created_at";

/// Stores the first reply of a key. An expired reply of the same key is replaced.
pub fn insert(
    tx: &mut WriteTx<'_>,
    request: &IdempotentRequest,
    session: SessionId,
    reply: &str,
) -> Result<()> {
    let now = tx.now();
    tx.execute(
        INSERT,
        (
            &request.account,
            &request.key,
            request.body_sha256,
            session.tick(),
            reply,
            now,
        ),
    )
    .map(drop)
}

const CLEAR_REPLY: &str = "UPDATE idempotency_keys SET reply = NULL WHERE session_seq = ?1";

/// Clears the stored reply of a deleted session, and keeps its key.
pub(super) fn clear_reply(tx: &WriteTx<'_>, session: SessionId) -> Result<()> {
    tx.execute(CLEAR_REPLY, [session.tick()]).map(drop)
}

const PURGE: &str = "
DELETE FROM idempotency_keys WHERE (account_id, key) IN (
  SELECT account_id, key FROM idempotency_keys WHERE created_at <= ?1 ORDER BY created_at LIMIT ?2)";

impl Store {
    /// Removes expired keys, in small batches.
    pub async fn purge_idempotency_keys(&self) -> Result<()> {
        loop {
            let removed = self
                .write(Extent::Configuration, |tx| {
                    let expired = tx.now() - TTL_MS;
                    tx.execute(PURGE, (expired, BATCH))
                })
                .await?;
            if removed < BATCH {
                return Ok(());
            }
        }
    }
}
