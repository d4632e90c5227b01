//! Idempotency keys: stores the first reply for 24 hours (contract, section 3, Retries).

use super::sql::Reader;
use super::{Extent, Store, WriteTx};
use crate::error::Result;
use crate::model::clock::Millis;
use crate::model::ids::SessionId;

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
    /// The data of the earlier reply, as JSON.
    Reply(String),
}

const FIND: &str = "
SELECT body_sha256, reply FROM idempotency_keys WHERE account_id = ?1 AND key = ?2 AND created_at > ?3";

/// Finds the earlier request with the same account and key.
pub fn find(reader: &Reader<'_>, request: &IdempotentRequest, now: Millis) -> Result<Replay> {
    let found: Option<([u8; 32], Option<String>)> = reader.optional(
        FIND,
        (&request.account, &request.key, now - TTL_MS),
        |row| Ok((row.get("body_sha256")?, row.get("reply")?)),
    )?;
    Ok(match found {
        None => Replay::No,
        Some((body, _)) if body != request.body_sha256 => Replay::OtherBody,
        Some((_, None)) => Replay::SessionDeleted,
        Some((_, Some(reply))) => Replay::Reply(reply),
    })
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
