//! Idempotency keys: stores the first reply for 24 hours (contract, section 3, Retries).

use super::sql::{Reader, params};
use super::{Extent, Store, WriteTx};
use crate::error::{Error, Result};
use crate::model::clock::Millis;
use crate::model::ids::{SessionId, Tick};
use crate::model::names::TenantNo;

/// How long a key and its reply are stored.
const TTL_MS: Millis = 24 * 60 * 60 * 1_000;
/// Keys that one change removes.
const BATCH: usize = 1_000;
/// Stands for no session.
const NO_SESSION: Tick = Tick(0);

/// A request with an idempotency key.
#[derive(Clone, Debug)]
pub struct IdempotentRequest {
    /// The account and the path, unique on the server.
    pub scope: String,
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
    /// What the earlier request created was deleted.
    Deleted,
    /// The session of the earlier request was archived since.
    Archived(SessionId, ActingTenant),
    /// The reply of the earlier request.
    Reply(FirstReply, ActingTenant),
}

/// The tenant of what a request created, with its own limit of requests per minute.
pub type ActingTenant = (TenantNo, Option<i64>);

/// The first reply with a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstReply {
    /// The status.
    pub status: u16,
    /// The path of the created thing; `None` for a session and a message.
    pub location: Option<String>,
    /// The data of the reply, as JSON.
    pub json: String,
}

const FIND: &str = "
SELECT k.body_sha256 AS body_sha256, k.session_seq AS session_seq, k.status AS status, k.location AS location, k.reply AS reply,
       k.tenant_no AS tenant_no, t.rate_limit_per_minute AS rate_limit_per_minute, s.id AS session_id, s.archived_at AS archived_at
FROM idempotency_keys k
LEFT JOIN sessions s ON s.seq = k.session_seq
LEFT JOIN tenants t ON t.tenant_no = k.tenant_no
WHERE k.account_id = ?1 AND k.key = ?2 AND k.created_at > ?3";

/// Finds the earlier request with the same account, path and key.
pub fn find(reader: &Reader<'_>, request: &IdempotentRequest, now: Millis) -> Result<Replay> {
    let key = (&request.scope, &request.key, now - TTL_MS);
    let found = reader.optional(FIND, key, |row| {
        let body: [u8; 32] = row.get("body_sha256")?;
        if body != request.body_sha256 {
            return Ok(Replay::OtherBody);
        }
        let of_session: Tick = row.get("session_seq")?;
        let session: Option<SessionId> = row.get("session_id")?;
        let archived_at: Option<Millis> = row.get("archived_at")?;
        let tenant = (row.get("tenant_no")?, row.get("rate_limit_per_minute")?);
        let json: Option<String> = row.get("reply")?;
        Ok(match (json, session, archived_at) {
            (None, _, _) => Replay::Deleted,
            (Some(_), None, _) if of_session != NO_SESSION => Replay::Deleted,
            (Some(_), Some(session), Some(_)) => Replay::Archived(session, tenant),
            (Some(json), _, _) => {
                let status: i64 = row.get("status")?;
                let reply = FirstReply {
                    status: u16::try_from(status).map_err(|error| Error::Internal(error.into()))?,
                    location: row.get("location")?,
                    json,
                };
                Replay::Reply(reply, tenant)
            }
        })
    })?;
    Ok(found.unwrap_or(Replay::No))
}

/// What a request created.
#[derive(Clone, Copy, Debug)]
pub struct Created {
    /// The tenant of the created thing.
    pub tenant: TenantNo,
    /// The session that was created or that got a message.
    pub session: Option<SessionId>,
}

const INSERT: &str = "
INSERT INTO idempotency_keys (account_id, key, body_sha256, session_seq, reply, created_at, tenant_no, status, location)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
ON CONFLICT (account_id, key) DO UPDATE
SET body_sha256 = excluded.body_sha256, session_seq = excluded.session_seq, reply = excluded.reply, created_at = excluded.created_at,
    tenant_no = excluded.tenant_no, status = excluded.status, location = excluded.location";

/// Stores the first reply of a key. An expired reply of the same key is replaced.
pub fn insert(
    tx: &mut WriteTx<'_>,
    request: &IdempotentRequest,
    created: Created,
    reply: &FirstReply,
) -> Result<()> {
    let now = tx.now();
    let session = created.session.map_or(NO_SESSION, |session| session.tick());
    tx.execute(
        INSERT,
        params![
            &request.scope,
            &request.key,
            request.body_sha256,
            session,
            &reply.json,
            now,
            created.tenant,
            i64::from(reply.status),
            &reply.location,
        ],
    )
    .map(drop)
}

const CLEAR_SESSION: &str = "UPDATE idempotency_keys SET reply = NULL WHERE session_seq = ?1";

/// Clears the stored replies of a deleted session and its messages, and keeps their keys.
pub(super) fn clear_session(tx: &WriteTx<'_>, session: SessionId) -> Result<()> {
    tx.execute(CLEAR_SESSION, [session.tick()]).map(drop)
}

const CLEAR: &str =
    "UPDATE idempotency_keys SET reply = NULL WHERE tenant_no = ?1 AND location = ?2";

/// Clears the stored reply that shows a deleted thing of a tenant, and keeps its key.
pub fn clear(tx: &WriteTx<'_>, tenant: TenantNo, location: &str) -> Result<()> {
    tx.execute(CLEAR, (tenant, location)).map(drop)
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
