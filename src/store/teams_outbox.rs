//! The outbox of the Teams bots: what has still to be said, by which node, and what was said.

use super::sql::{Reader, Row, params};
use super::teams::{self, Conversation, DeliveryKind, DeliveryState};
use super::{WriteTx, turns};
use crate::error::{Error, Result};
use crate::model::clock::Millis;
use crate::model::ids::{SessionId, Tick, TurnId};
use crate::model::names::TenantNo;
use crate::model::session::{Message, TurnError};
use crate::model::words::TurnStatus;

/// Reads the index of deliveries that wait. The conversation of a node that is gone is nobody's.
pub const DUE: &str = "
SELECT d.conversation_no AS conversation_no FROM teams_deliveries d JOIN teams_conversations c ON c.conversation_no = d.conversation_no
WHERE d.ended_at IS NULL AND d.next_at <= ?1
  AND NOT EXISTS (SELECT 1 FROM teams_deliveries o WHERE o.conversation_no = d.conversation_no AND o.ended_at IS NULL AND o.seq < d.seq)
  AND (c.owner_lease IS NULL OR c.owner_lease = ?2 OR NOT EXISTS (SELECT 1 FROM nodes n WHERE n.lease_no = c.owner_lease))
ORDER BY d.next_at LIMIT ?3";

/// The conversations whose oldest delivery is due, up to a limit: those that nobody has, and those of
/// this lease.
pub fn due(
    reader: &Reader<'_>,
    now: Millis,
    lease: Option<i64>,
    limit: usize,
) -> Result<Vec<Tick>> {
    reader.all(DUE, (now, lease, limit), |row| row.get("conversation_no"))
}

const NEWEST: &str = "SELECT coalesce(max(seq), -1) AS seq FROM teams_deliveries";

/// The key of the newest delivery.
pub fn newest(reader: &Reader<'_>) -> Result<Tick> {
    reader.one(NEWEST, (), |row| row.get("seq"))
}

const ADDED: &str =
    "SELECT seq, conversation_no FROM teams_deliveries WHERE seq > ?1 ORDER BY seq LIMIT ?2";

/// The deliveries that were added after this one, with their conversations, up to a limit. Only one
/// writer commits them in this order.
pub fn added(reader: &Reader<'_>, after: Tick, limit: usize) -> Result<Vec<(Tick, Tick)>> {
    reader.all(ADDED, (after, limit), |row| {
        Ok((row.get("seq")?, row.get("conversation_no")?))
    })
}

/// Reads the index of deliveries that wait.
pub const NEXT_DUE: &str =
    "SELECT min(next_at) AS next_at FROM teams_deliveries WHERE ended_at IS NULL AND next_at > ?1";

/// When the next delivery is due that is not due yet.
pub fn next_due(reader: &Reader<'_>, now: Millis) -> Result<Option<Millis>> {
    reader.one(NEXT_DUE, [now], |row| row.get("next_at"))
}

const CLAIM: &str = "
UPDATE teams_conversations SET owner_lease = ?2
WHERE conversation_no = ?1
  AND (owner_lease IS NULL OR owner_lease = ?2 OR NOT EXISTS (SELECT 1 FROM nodes o WHERE o.lease_no = teams_conversations.owner_lease))
  AND EXISTS (SELECT 1 FROM nodes n WHERE n.lease_no = ?2)";

/// Takes a conversation for a node's lease. Returns whether the node has it.
pub fn claim(tx: &WriteTx<'_>, conversation: Tick, lease: i64) -> Result<bool> {
    Ok(tx.execute(CLAIM, (conversation, lease))? > 0)
}

const RELEASE: &str = "
UPDATE teams_conversations SET owner_lease = NULL WHERE conversation_no = ?1 AND owner_lease = ?2";

/// Gives a conversation back.
pub fn release(tx: &WriteTx<'_>, conversation: Tick, lease: i64) -> Result<()> {
    tx.execute(RELEASE, (conversation, lease)).map(drop)
}

/// Something to say.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The key of the row.
    pub seq: Tick,
    /// What it is.
    pub kind: DeliveryKind,
    /// The turn whose answer it is.
    pub turn: Option<Tick>,
    /// What a text says.
    pub body: Option<String>,
    /// The prompts that a text suggests.
    pub prompts: Vec<String>,
    /// The activity that it answers.
    pub reply_to: Option<String>,
    /// The stream that shows it.
    pub stream: Option<String>,
    /// How many of its messages were sent.
    pub parts_sent: usize,
    /// How often it failed.
    pub attempts: i64,
    /// When it is due.
    pub next_at: Millis,
    /// When it was put into the outbox.
    pub created_at: Millis,
}

const HEAD: &str = "
SELECT seq, kind, turn_seq, body, prompts, reply_to, stream_id, parts_sent, attempts, next_at, created_at
FROM teams_deliveries WHERE conversation_no = ?1 AND ended_at IS NULL ORDER BY seq LIMIT 1";

fn delivery(row: &Row<'_>) -> Result<Delivery> {
    let kind = row.get("kind")?;
    let turn = row.get("turn_seq")?;
    let body = row.get("body")?;
    let prompts: Option<String> = row.get("prompts")?;
    let prompts = prompts.map(|json| serde_json::from_str(&json)).transpose();
    Ok(Delivery {
        kind,
        turn,
        body,
        prompts: prompts
            .map_err(|error| Error::Internal(error.into()))?
            .unwrap_or_default(),
        reply_to: row.get("reply_to")?,
        stream: row.get("stream_id")?,
        parts_sent: usize::try_from(row.get::<i64>("parts_sent")?).unwrap_or(0),
        attempts: row.get("attempts")?,
        next_at: row.get("next_at")?,
        created_at: row.get("created_at")?,
        seq: row.get("seq")?,
    })
}

const PREFIX: &str = "SELECT relay_prefix FROM channels WHERE seq = ?1";

/// What a conversation says next, and how its channel begins each message.
#[derive(Clone, Debug)]
pub struct Next {
    /// The conversation.
    pub conversation: Conversation,
    /// The oldest delivery that has not ended.
    pub delivery: Delivery,
    /// What begins each message.
    pub prefix: Option<String>,
}

/// What a conversation says next. `None` if it has nothing to say.
pub fn next(reader: &Reader<'_>, conversation: Tick) -> Result<Option<Next>> {
    let Some(delivery) = reader.optional(HEAD, [conversation], delivery)? else {
        return Ok(None);
    };
    let Some(conversation) = teams::by_no(reader, conversation)? else {
        return Ok(None);
    };
    let prefix = match conversation.channel {
        None => None,
        Some(channel) => reader
            .optional(PREFIX, [channel], |row| {
                row.get::<Option<String>>("relay_prefix")
            })?
            .flatten(),
    };
    Ok(Some(Next {
        conversation,
        delivery,
        prefix: prefix.filter(|prefix| !prefix.trim().is_empty()),
    }))
}

/// The turn of an answer.
#[derive(Clone, Copy, Debug)]
pub struct AnswerTurn {
    /// The turn.
    pub id: TurnId,
    /// Its session.
    pub session: SessionId,
    /// The session's tenant.
    pub tenant: TenantNo,
    /// The cursor before the turn's events.
    pub since: Tick,
    /// Whether its stream has ended.
    pub is_settled: bool,
}

const TURN: &str = "
SELECT t.id AS id, s.id AS session_id, t.tenant_no AS tenant_no, t.since_tick AS since_tick, t.terminal_tick IS NOT NULL AS is_settled
FROM turns t JOIN sessions s ON s.seq = t.session_seq WHERE t.seq = ?1";

/// The turn of this row. `None` if it was deleted with its session.
pub fn turn(reader: &Reader<'_>, turn: Tick) -> Result<Option<AnswerTurn>> {
    reader.optional(TURN, [turn], |row| {
        Ok(AnswerTurn {
            id: row.get("id")?,
            session: row.get("session_id")?,
            tenant: row.get("tenant_no")?,
            since: row.get("since_tick")?,
            is_settled: row.get("is_settled")?,
        })
    })
}

/// How a turn ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The status, a final one.
    pub status: TurnStatus,
    /// The answer, or what there is of it.
    pub answer: Option<Message>,
    /// Why the turn failed.
    pub error: Option<TurnError>,
    /// When it ended.
    pub ended_at: Option<Millis>,
}

/// How a settled turn ended. `None` if it was deleted with its session.
pub fn ended(reader: &Reader<'_>, turn: &AnswerTurn) -> Result<Option<Ended>> {
    let found = turns::by_id(reader, turn.session, turn.id)?;
    Ok(found.map(|found| Ended {
        status: found.status,
        answer: found.assistant_message,
        error: found.error,
        ended_at: found.finished_at.map(|at| at.0),
    }))
}

macro_rules! update {
    ($set:literal, $lease:literal) => {
        concat!(
            "UPDATE teams_deliveries SET ",
            $set,
            " WHERE seq = ?1 AND ended_at IS NULL AND (",
            $lease,
            " IS NULL OR EXISTS (SELECT 1 FROM teams_conversations c \
             WHERE c.conversation_no = teams_deliveries.conversation_no AND c.owner_lease = ",
            $lease,
            "))"
        )
    };
}

const BEGIN_STREAM: &str = update!(
    "state = 'SENDING', stream_id = ?2, stream_sequence = 1",
    "?3"
);

/// Records the stream that shows a delivery. Returns whether the delivery is still this node's.
pub fn begin_stream(
    tx: &WriteTx<'_>,
    delivery: Tick,
    stream: &str,
    lease: Option<i64>,
) -> Result<bool> {
    Ok(tx.execute(BEGIN_STREAM, (delivery, stream, lease))? > 0)
}

/// What was sent of a delivery.
#[derive(Clone, Debug)]
pub struct Progress {
    /// How many of its messages were sent.
    pub parts_sent: usize,
    /// The id of the last one, to which feedback refers.
    pub sent_activity: Option<String>,
    /// Whether that was all.
    pub is_complete: bool,
}

const PROGRESS: &str = update!(
    "parts_sent = ?2, sent_activity_id = ?3, state = ?4, ended_at = ?5, last_error = NULL",
    "?6"
);
const SENT_AT: &str = "
UPDATE teams_conversations SET sent_at = ?2
WHERE conversation_no = (SELECT conversation_no FROM teams_deliveries WHERE seq = ?1)";

/// Records what was sent. Returns whether the delivery is still this node's.
pub fn progress(
    tx: &WriteTx<'_>,
    delivery: Tick,
    progress: &Progress,
    lease: Option<i64>,
) -> Result<bool> {
    let now = tx.now();
    let (state, ended_at) = match progress.is_complete {
        true => (DeliveryState::Sent, Some(now)),
        false => (DeliveryState::Sending, None),
    };
    let changed = tx.execute(
        PROGRESS,
        params![
            delivery,
            progress.parts_sent,
            &progress.sent_activity,
            state,
            ended_at,
            lease
        ],
    )?;
    tx.execute(SENT_AT, (delivery, now))?;
    Ok(changed > 0)
}

const END: &str = update!("state = ?2, last_error = ?3, ended_at = ?4", "?5");

/// Ends a delivery that is not sent. Returns whether it is still this node's.
pub fn end(
    tx: &WriteTx<'_>,
    delivery: Tick,
    state: DeliveryState,
    error: Option<&str>,
    lease: Option<i64>,
) -> Result<bool> {
    Ok(tx.execute(END, (delivery, state, error, tx.now(), lease))? > 0)
}

const RETRY: &str = update!(
    "attempts = attempts + 1, next_at = ?2, last_error = ?3",
    "?4"
);

/// Has a delivery tried again at a time. Returns whether it is still this node's.
pub fn retry(
    tx: &WriteTx<'_>,
    delivery: Tick,
    next_at: Millis,
    error: &str,
    lease: Option<i64>,
) -> Result<bool> {
    Ok(tx.execute(RETRY, (delivery, next_at, error, lease))? > 0)
}

/// Reads the index of deliveries that wait.
pub const BACKLOG: &str = "
SELECT count(*) AS waiting, min(created_at) AS oldest FROM teams_deliveries WHERE ended_at IS NULL";

/// How many deliveries have not ended, and when the oldest of them was put into the outbox.
pub fn backlog(reader: &Reader<'_>) -> Result<(i64, Option<Millis>)> {
    reader.one(BACKLOG, (), |row| {
        Ok((row.get("waiting")?, row.get("oldest")?))
    })
}
