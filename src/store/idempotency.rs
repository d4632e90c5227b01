//! First replies of creates with an `Idempotency-Key`, kept for 24 hours (contract, section 3, Retries).

use super::sql::Reader;
use super::{Extent, Store, WriteTx};
use crate::error::Result;
use crate::model::clock::Millis;
use crate::model::ids::SessionId;

/// How long a first reply is kept.
const KEPT_MS: Millis = 24 * 60 * 60 * 1_000;
/// Replies that one clean-up removes at most.
const BATCH: usize = 1_000;

/// A repeatable request: who, under which key, with which body.
#[derive(Clone, Debug)]
pub struct Repeatable {
    /// The account, unique over the server.
    pub account: String,
    /// The key that it sent.
    pub key: String,
    /// SHA-256 of the body, byte for byte.
    pub body_sha256: [u8; 32],
}

/// What is known of a request that may be a repeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replay {
    /// It is the first.
    No,
    /// The first had another body.
    OtherBody,
    /// The first made a session that was deleted since.
    Deleted,
    /// The first reply's data, as JSON.
    Reply(String),
}

const FIND: &str = "
SELECT body_sha256, reply FROM idempotency_keys WHERE account_id = ?1 AND key = ?2 AND created_at > ?3";

/// Looks a request up.
///
/// # Errors
/// The file cannot be read.
pub fn find(reader: &Reader<'_>, request: &Repeatable, now: Millis) -> Result<Replay> {
    let found: Option<([u8; 32], Option<String>)> = reader.optional(
        FIND,
        (&request.account, &request.key, now - KEPT_MS),
        |row| Ok((row.get("body_sha256")?, row.get("reply")?)),
    )?;
    Ok(match found {
        None => Replay::No,
        Some((body, _)) if body != request.body_sha256 => Replay::OtherBody,
        Some((_, None)) => Replay::Deleted,
        Some((_, Some(reply))) => Replay::Reply(reply),
    })
}

const KEEP: &str = "
INSERT INTO idempotency_keys (account_id, key, body_sha256, session_seq, reply, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
ON CONFLICT (account_id, key) DO UPDATE
SET body_sha256 = excluded.body_sha256, session_seq = excluded.session_seq, reply = excluded.reply, created_at = excluded.created_at";

/// Keeps a first reply; an older one under the same key is past its time.
///
/// # Errors
/// The file cannot be written.
pub fn keep(
    tx: &mut WriteTx<'_>,
    request: &Repeatable,
    session: SessionId,
    reply: &str,
) -> Result<()> {
    let now = tx.now();
    tx.execute(
        KEEP,
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

const FORGET: &str = "UPDATE idempotency_keys SET reply = NULL WHERE session_seq = ?1";

/// Forgets what a deleted session's first reply said, and remembers that there was one.
pub(super) fn forget_session(tx: &WriteTx<'_>, session: SessionId) -> Result<()> {
    tx.execute(FORGET, [session.tick()]).map(drop)
}

const PURGE: &str = "
DELETE FROM idempotency_keys WHERE (account_id, key) IN (
  SELECT account_id, key FROM idempotency_keys WHERE created_at <= ?1 ORDER BY created_at LIMIT ?2)";

impl Store {
    /// Removes replies past their time, in small batches.
    ///
    /// # Errors
    /// The file cannot be written.
    pub async fn purge_idempotency_keys(&self) -> Result<()> {
        loop {
            let removed = self
                .write(Extent::Configuration, |tx| {
                    let oldest = tx.now() - KEPT_MS;
                    tx.execute(PURGE, (oldest, BATCH))
                })
                .await?;
            if removed < BATCH {
                return Ok(());
            }
        }
    }
}
