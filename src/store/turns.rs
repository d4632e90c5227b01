//! Turns: the durable queue of messages to answer, and the stored event logs.

use super::messages::NewMessage;
use super::sql::{Reader, Row, params};
use super::{WriteTx, messages};
use crate::error::Result;
use crate::model::clock::{Millis, Timestamp};
use crate::model::ids::{MessageId, SessionId, Tick, TurnId};
use crate::model::names::TenantNo;
use crate::model::session::{Appended, Cursor, Turn, TurnError, Usage};
use crate::model::words::{ModelTier, TurnStatus};

/// Turns of one session that may be queued.
pub const MAX_QUEUED: i64 = 16;

const ACCEPTED: &str = "
SELECT id, user_message_id, since_tick FROM turns WHERE session_seq = ?1 AND client_message_id = ?2";

/// The reply to the first append with this `client_message_id`.
pub fn accepted(
    reader: &Reader<'_>,
    session: SessionId,
    client_message_id: &str,
) -> Result<Option<Appended>> {
    reader.optional(ACCEPTED, (session.tick(), client_message_id), |row| {
        Ok(Appended {
            user_message_id: row.get("user_message_id")?,
            chat_turn_id: row.get("id")?,
            since_cursor: Cursor(row.get("since_tick")?),
        })
    })
}

const WAITING: &str = "SELECT count(*) AS waiting FROM turns WHERE session_seq = ?1 AND terminal_tick IS NULL AND status = 'QUEUED'";

/// The number of queued turns of a session.
pub fn waiting(reader: &Reader<'_>, session: SessionId) -> Result<i64> {
    reader.one(WAITING, [session.tick()], |row| row.get("waiting"))
}

const INSERT: &str = "
INSERT INTO turns (seq, id, session_seq, tenant_no, status, model_tier, client_message_id, user_message_id, assistant_message_id,
                   since_tick, queued_at, author_kind, author_id, author_name, sent_by)
VALUES (?1, ?2, ?3, ?4, 'QUEUED', ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";

/// Queues a turn.
pub(super) fn insert(
    tx: &mut WriteTx<'_>,
    new: &NewMessage,
    turn: TurnId,
    message: MessageId,
    answer: MessageId,
    since: Tick,
) -> Result<()> {
    let now = tx.now();
    let author = &new.authorship.author;
    tx.execute(
        INSERT,
        params![
            turn.tick(),
            turn,
            new.session.tick(),
            new.tenant,
            new.model_tier,
            &new.client_message_id,
            message,
            answer,
            since,
            now,
            &author.kind,
            &author.id,
            &author.name,
            &new.authorship.sent_by
        ],
    )
    .map(drop)
}

const BY_ID: &str = "
SELECT id, status, assistant_message_id, error_code, error_message, input_tokens, output_tokens, queued_at, started_at, finished_at
FROM turns WHERE seq = ?2 AND session_seq = ?1 AND id = ?3";

/// The session's turn with this id.
pub fn by_id(reader: &Reader<'_>, session: SessionId, id: TurnId) -> Result<Option<Turn>> {
    let found = reader.optional(BY_ID, (session.tick(), id.tick(), id), |row| {
        let error_code: Option<String> = row.get("error_code")?;
        let error_message: Option<String> = row.get("error_message")?;
        let input_tokens: Option<i64> = row.get("input_tokens")?;
        let output_tokens: Option<i64> = row.get("output_tokens")?;
        let answer: MessageId = row.get("assistant_message_id")?;
        let turn = Turn {
            id: row.get("id")?,
            status: row.get("status")?,
            error: error_code
                .zip(error_message)
                .map(|(code, message)| TurnError { code, message }),
            assistant_message: None,
            usage: input_tokens
                .zip(output_tokens)
                .map(|(input_tokens, output_tokens)| Usage {
                    input_tokens,
                    output_tokens,
                }),
            queued_at: Timestamp(row.get("queued_at")?),
            started_at: row.get::<Option<i64>>("started_at")?.map(Timestamp),
            finished_at: row.get::<Option<i64>>("finished_at")?.map(Timestamp),
        };
        Ok((turn, answer))
    })?;
    let Some((mut turn, answer)) = found else {
        return Ok(None);
    };
    turn.assistant_message = messages::by_id(reader, session, answer)?;
    Ok(Some(turn))
}

const CANCEL: &str = "
UPDATE turns SET status = 'CANCELLED', finished_at = ?2
WHERE session_seq = ?1 AND terminal_tick IS NULL AND status IN ('QUEUED', 'RUNNING')";

/// Cancels a session's running and queued turns. Returns their number. Their streams end later.
pub fn cancel(tx: &mut WriteTx<'_>, session: SessionId) -> Result<usize> {
    let now = tx.now();
    tx.execute(CANCEL, (session.tick(), now))
}

const CANCEL_ONE: &str = "
UPDATE turns SET status = 'CANCELLED', finished_at = ?3
WHERE seq = ?1 AND id = ?2 AND terminal_tick IS NULL AND status IN ('QUEUED', 'RUNNING')";

/// Cancels one turn, unless it has ended. Returns whether it is cancelled now. Its stream ends
/// later.
pub fn cancel_one(tx: &WriteTx<'_>, turn: TurnId) -> Result<bool> {
    Ok(tx.execute(CANCEL_ONE, (turn.tick(), turn, tx.now()))? > 0)
}

const BEGIN: &str = "
UPDATE turns SET status = 'RUNNING', started_at = ?2
WHERE seq = ?1 AND status = 'QUEUED' AND (?3 IS NULL OR owner_lease = ?3)";

/// Records that a turn is running, under this lease of the node.
pub fn begin(tx: &mut WriteTx<'_>, turn: TurnId, at: Millis, lease: Option<i64>) -> Result<()> {
    tx.execute(BEGIN, (turn.tick(), at, lease)).map(drop)
}

/// Reads the index of unsettled turns, which are few.
pub const REQUEUE_RUNNING: &str = "
UPDATE turns SET status = 'QUEUED', started_at = NULL WHERE terminal_tick IS NULL AND status = 'RUNNING'";
/// Reads the index of unsettled turns. The `+` keeps SQLite from reading all turns to avoid a sort.
pub const ALL_UNSETTLED: &str = "
SELECT t.tenant_no AS tenant_no, s.id AS session_id FROM turns t JOIN sessions s ON s.seq = t.session_seq
WHERE t.terminal_tick IS NULL ORDER BY +t.seq";

/// Queues the turns again that an earlier process was running. Returns the session of every
/// unsettled turn, oldest turn first.
pub fn recover(tx: &mut WriteTx<'_>) -> Result<Vec<(TenantNo, SessionId)>> {
    tx.execute(REQUEUE_RUNNING, ())?;
    all_unsettled(tx.reader())
}

/// The session of every unsettled turn, oldest turn first.
pub fn all_unsettled(reader: &Reader<'_>) -> Result<Vec<(TenantNo, SessionId)>> {
    reader.all(ALL_UNSETTLED, (), |row| {
        Ok((row.get("tenant_no")?, row.get("session_id")?))
    })
}

/// A turn that waits for its answer, or for the end of its stream.
#[derive(Clone, Debug)]
pub struct Unsettled {
    /// The turn.
    pub id: TurnId,
    /// Whether the turn was cancelled.
    pub is_cancelled: bool,
    /// The id of the answer. Every run of the turn uses the same id.
    pub answer: MessageId,
    /// The model tier of the answer.
    pub model_tier: ModelTier,
    /// The cursor before the start of the stream.
    pub since: Tick,
    /// The lease of the node that runs the turn. On SQLite always none.
    pub owner: Option<i64>,
}

const OLDEST_UNSETTLED: &str = "
SELECT id, status, assistant_message_id, model_tier, since_tick, owner_lease FROM turns
WHERE session_seq = ?1 AND terminal_tick IS NULL ORDER BY seq LIMIT 1";

/// A session's oldest turn whose stream has not ended.
pub fn oldest_unsettled(reader: &Reader<'_>, session: SessionId) -> Result<Option<Unsettled>> {
    reader.optional(OLDEST_UNSETTLED, [session.tick()], |row| {
        let status: TurnStatus = row.get("status")?;
        Ok(Unsettled {
            id: row.get("id")?,
            is_cancelled: status == TurnStatus::Cancelled,
            answer: row.get("assistant_message_id")?,
            model_tier: row.get("model_tier")?,
            since: row.get("since_tick")?,
            owner: row.get("owner_lease")?,
        })
    })
}

/// Reads the index of unsettled turns of all tenants.
pub const QUEUED: &str =
    "SELECT count(*) AS queued FROM turns WHERE terminal_tick IS NULL AND status = 'QUEUED'";

/// The number of queued turns of all tenants.
pub fn queued(reader: &Reader<'_>) -> Result<i64> {
    reader.one(QUEUED, (), |row| row.get("queued"))
}

/// How a turn ended.
#[derive(Clone, Debug)]
pub enum End {
    /// The turn was answered.
    Completed {
        /// The finish reason, in the AI SDK's spelling.
        finish_reason: &'static str,
        /// The tokens that the answer used.
        usage: Option<Usage>,
    },
    /// The turn failed.
    Failed {
        /// The error code for clients.
        code: String,
        /// A sentence for the user.
        message: String,
    },
    /// The turn was cancelled.
    Cancelled,
}

/// The result of a turn that has ended.
#[derive(Clone, Debug)]
pub struct Settlement {
    /// The turn.
    pub id: TurnId,
    /// The turn's session.
    pub session: SessionId,
    /// The session's tenant.
    pub tenant: TenantNo,
    /// The id of the answer.
    pub answer: MessageId,
    /// The text of the answer.
    pub content: String,
    /// The answer's parts as JSON, without the text; none if the answer is a single text.
    pub parts: Option<String>,
    /// When the answer's first word arrived.
    pub first_word_at: Option<Millis>,
    /// How the turn ended. A stored cancellation takes precedence.
    pub end: End,
    /// The lease under which this node ran the turn. On SQLite none.
    pub lease: Option<i64>,
}

const STATUS: &str = "SELECT status, again_of FROM turns WHERE seq = ?1 AND id = ?2 AND terminal_tick IS NULL AND (?3 IS NULL OR owner_lease = ?3)";
/// Another node may have taken the turn over since its status was read.
const SETTLE: &str = "
UPDATE turns SET status = ?2, error_code = ?3, error_message = ?4, input_tokens = ?5, output_tokens = ?6,
                 started_at = coalesce(started_at, ?7), finished_at = coalesce(finished_at, ?8), terminal_tick = ?9,
                 first_word_at = ?10
WHERE seq = ?1 AND (?11 IS NULL OR owner_lease = ?11)";
const INSERT_LOG: &str =
    "INSERT INTO turn_logs (turn_seq, session_seq, last_tick, log) VALUES (?1, ?2, ?3, ?4)";

/// Stores a turn's answer, status, usage and event log. A cancellation that is stored already takes
/// precedence.
///
/// Returns the cursor of the terminal event, and how the turn ended. Returns `None` if the turn was
/// deleted with its session, or if this node no longer owns it.
pub fn settle(
    tx: &mut WriteTx<'_>,
    settlement: &Settlement,
    started_at: Millis,
    log: impl FnOnce(Tick, &End) -> Result<String>,
) -> Result<Option<(Tick, End)>> {
    let id = settlement.id;
    let found = tx
        .reader()
        .optional(STATUS, (id.tick(), id, settlement.lease), |row| {
            Ok((row.get("status")?, row.get("again_of")?))
        })?;
    let Some((status, again_of)) = found else {
        return Ok(None);
    };
    let end = match status {
        TurnStatus::Cancelled => End::Cancelled,
        TurnStatus::Queued | TurnStatus::Running | TurnStatus::Completed | TurnStatus::Failed => {
            settlement.end.clone()
        }
    };
    let (status, finish_reason) = match &end {
        End::Completed { finish_reason, .. } => (TurnStatus::Completed, *finish_reason),
        End::Failed { .. } => (TurnStatus::Failed, "error"),
        End::Cancelled => (TurnStatus::Cancelled, "cancelled"),
    };
    let (error_code, error_message) = match &end {
        End::Failed { code, message } => (Some(code), Some(message)),
        End::Completed { .. } | End::Cancelled => (None, None),
    };
    let usage = match &end {
        End::Completed { usage, .. } => *usage,
        End::Failed { .. } | End::Cancelled => None,
    };
    let now = tx.now();
    let terminal = tx.tick();
    let settled = tx.execute(
        SETTLE,
        params![
            id.tick(),
            status,
            error_code,
            error_message,
            usage.map(|usage| usage.input_tokens),
            usage.map(|usage| usage.output_tokens),
            started_at,
            now,
            terminal,
            settlement.first_word_at,
            settlement.lease
        ],
    )?;
    if settled == 0 {
        return Ok(None);
    }
    if !settlement.content.is_empty() {
        messages::insert_answer(tx, settlement, finish_reason, again_of)?;
    }
    let log = log(terminal, &end)?;
    tx.execute(
        INSERT_LOG,
        (id.tick(), settlement.session.tick(), terminal, log),
    )?;
    Ok(Some((terminal, end)))
}

/// A turn and the state of its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The turn.
    pub id: TurnId,
    /// Whether the stream has ended.
    pub is_settled: bool,
}

fn run(row: &Row<'_>) -> Result<Run> {
    Ok(Run {
        id: row.get("id")?,
        is_settled: row.get("is_settled")?,
    })
}

const NEWEST: &str = "
SELECT id, terminal_tick IS NOT NULL AS is_settled FROM turns WHERE session_seq = ?1 ORDER BY seq DESC LIMIT 1";

/// A session's newest turn.
pub fn newest(reader: &Reader<'_>, session: SessionId) -> Result<Option<Run>> {
    reader.optional(NEWEST, [session.tick()], run)
}

const OF_SINCE: &str = "
SELECT id, terminal_tick IS NOT NULL AS is_settled FROM turns
WHERE session_seq = ?1 AND since_tick = ?2 ORDER BY seq LIMIT 1";

/// The turn with this `since_cursor`.
pub fn of_since(reader: &Reader<'_>, session: SessionId, since: Tick) -> Result<Option<Run>> {
    reader.optional(OF_SINCE, (session.tick(), since), run)
}

const IS_SETTLED: &str = "
SELECT t.terminal_tick IS NOT NULL AS is_settled FROM turns t JOIN sessions s ON s.seq = t.session_seq WHERE t.seq = ?1";

/// Whether a turn's stream has ended. `None` if the turn was deleted with its session.
pub fn is_settled(reader: &Reader<'_>, turn: TurnId) -> Result<Option<bool>> {
    reader.optional(IS_SETTLED, [turn.tick()], |row| row.get("is_settled"))
}

const NEWEST_SINCE: &str =
    "SELECT coalesce(max(since_tick), -1) AS newest FROM turns WHERE session_seq = ?1";
const NEWEST_EVENT: &str =
    "SELECT coalesce(max(last_tick), -1) AS newest FROM turn_logs WHERE session_seq = ?1";

/// A session's greatest `since_cursor`, and the greatest cursor of its stored events; -1 for none.
pub fn newest_ticks(reader: &Reader<'_>, session: SessionId) -> Result<(Tick, Tick)> {
    let newest = |sql| reader.one(sql, [session.tick()], |row| row.get("newest"));
    Ok((newest(NEWEST_SINCE)?, newest(NEWEST_EVENT)?))
}

/// The stored event log of a turn.
#[derive(Clone, Debug)]
pub struct StoredRun {
    /// The turn.
    pub id: TurnId,
    /// The events, as JSON.
    pub log: String,
}

const LOG_OF: &str = "
SELECT t.assistant_message_id AS answer, l.log AS log FROM turn_logs l JOIN turns t ON t.seq = l.turn_seq
WHERE l.turn_seq = ?1";

/// A turn's event log, as JSON, and the text of its answer.
pub fn log_of(reader: &Reader<'_>, turn: TurnId) -> Result<Option<(String, String)>> {
    let found = reader.optional(LOG_OF, [turn.tick()], |row| {
        Ok((row.get::<MessageId>("answer")?, row.get("log")?))
    })?;
    let Some((answer, log)) = found else {
        return Ok(None);
    };
    let content = messages::content_of(reader, answer)?;
    Ok(Some((log, content.unwrap_or_default())))
}

const LOG_AFTER: &str = "
SELECT t.id AS id, l.log AS log FROM turn_logs l JOIN turns t ON t.seq = l.turn_seq
WHERE l.session_seq = ?1 AND l.last_tick > ?2 ORDER BY l.last_tick LIMIT 1";

/// The first event log that ends after a cursor.
pub fn log_after(
    reader: &Reader<'_>,
    session: SessionId,
    after: Tick,
) -> Result<Option<StoredRun>> {
    reader.optional(LOG_AFTER, (session.tick(), after), |row| {
        Ok(StoredRun {
            id: row.get("id")?,
            log: row.get("log")?,
        })
    })
}
