//! Turns: the durable queue of what is to be answered.

use super::messages::NewMessage;
use super::sql::{Reader, Row, params};
use super::{WriteTx, messages};
use crate::error::Result;
use crate::model::clock::{Millis, Timestamp};
use crate::model::ids::{MessageId, SessionId, Tick, TurnId};
use crate::model::names::TenantNo;
use crate::model::session::{Appended, Cursor, Turn, TurnError, Usage};
use crate::model::words::{ModelTier, TurnStatus};

/// Turns of one session that may wait.
pub const MOST_WAITING: i64 = 16;

const ACCEPTED: &str = "
SELECT id, user_message_id, since_tick FROM turns WHERE session_seq = ?1 AND client_message_id = ?2";

/// What the first append with this `client_message_id` gave.
///
/// # Errors
/// The file cannot be read.
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

/// How many turns of a session wait.
///
/// # Errors
/// The file cannot be read.
pub fn waiting(reader: &Reader<'_>, session: SessionId) -> Result<i64> {
    reader.one(WAITING, [session.tick()], |row| row.get("waiting"))
}

const INSERT: &str = "
INSERT INTO turns (seq, id, session_seq, tenant_no, status, model_tier, client_message_id, user_message_id, assistant_message_id,
                   since_tick, queued_at)
VALUES (?1, ?2, ?3, ?4, 'QUEUED', ?5, ?6, ?7, ?8, ?9, ?10)";

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
            now
        ],
    )
    .map(drop)
}

const BY_ID: &str = "
SELECT id, status, assistant_message_id, error_code, error_message, input_tokens, output_tokens, queued_at, started_at, finished_at
FROM turns WHERE seq = ?2 AND session_seq = ?1 AND id = ?3";

/// The session's turn with this id.
///
/// # Errors
/// The file cannot be read.
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

/// Calls off a session's running and waiting turns; how many there were. Their streams are still to be ended.
///
/// # Errors
/// The file cannot be written.
pub fn cancel(tx: &mut WriteTx<'_>, session: SessionId) -> Result<usize> {
    let now = tx.now();
    tx.execute(CANCEL, (session.tick(), now))
}

const BEGIN: &str =
    "UPDATE turns SET status = 'RUNNING', started_at = ?2 WHERE seq = ?1 AND status = 'QUEUED'";

/// Records that a turn's answer has begun.
///
/// # Errors
/// The file cannot be written.
pub fn begin(tx: &mut WriteTx<'_>, turn: TurnId, at: Millis) -> Result<()> {
    tx.execute(BEGIN, (turn.tick(), at)).map(drop)
}

/// Among those that are unsettled, which are few, however many turns there are.
pub const CUT_OFF: &str = "
UPDATE turns SET status = 'QUEUED', started_at = NULL WHERE terminal_tick IS NULL AND status = 'RUNNING'";
/// The same; the sign keeps SQLite from walking all turns to spare itself the sorting.
pub const ALL_UNSETTLED: &str = "
SELECT t.tenant_no AS tenant_no, s.id AS session_id FROM turns t JOIN sessions s ON s.seq = t.session_seq
WHERE t.terminal_tick IS NULL ORDER BY +t.seq";

/// What a dead process left: turns that it was answering wait again; the sessions that have any, oldest turn first.
///
/// # Errors
/// The file cannot be written.
pub fn recover(tx: &mut WriteTx<'_>) -> Result<Vec<(TenantNo, SessionId)>> {
    tx.execute(CUT_OFF, ())?;
    tx.reader().all(ALL_UNSETTLED, (), |row| {
        Ok((row.get("tenant_no")?, row.get("session_id")?))
    })
}

/// A turn that is to be answered, or whose stream is still to be ended.
#[derive(Clone, Debug)]
pub struct Unsettled {
    /// The turn.
    pub id: TurnId,
    /// Whether it was called off.
    pub is_cancelled: bool,
    /// The answer's id, the same however often it runs.
    pub answer: MessageId,
    /// Which model is to answer.
    pub model_tier: ModelTier,
    /// The cursor just before its start.
    pub since: Tick,
}

const OLDEST_UNSETTLED: &str = "
SELECT id, status, assistant_message_id, model_tier, since_tick FROM turns
WHERE session_seq = ?1 AND terminal_tick IS NULL ORDER BY seq LIMIT 1";

/// A session's oldest turn whose stream has not ended.
///
/// # Errors
/// The file cannot be read.
pub fn oldest_unsettled(reader: &Reader<'_>, session: SessionId) -> Result<Option<Unsettled>> {
    reader.optional(OLDEST_UNSETTLED, [session.tick()], |row| {
        let status: TurnStatus = row.get("status")?;
        Ok(Unsettled {
            id: row.get("id")?,
            is_cancelled: status == TurnStatus::Cancelled,
            answer: row.get("assistant_message_id")?,
            model_tier: row.get("model_tier")?,
            since: row.get("since_tick")?,
        })
    })
}

/// Of all tenants, among those that are unsettled.
pub const QUEUED: &str =
    "SELECT count(*) AS queued FROM turns WHERE terminal_tick IS NULL AND status = 'QUEUED'";

/// How many turns wait for an answer.
///
/// # Errors
/// The file cannot be read.
pub fn queued(reader: &Reader<'_>) -> Result<i64> {
    reader.one(QUEUED, (), |row| row.get("queued"))
}

/// How a turn ended.
#[derive(Clone, Debug)]
pub enum End {
    /// It was answered.
    Completed {
        /// How the SDK spells why.
        finish_reason: &'static str,
        /// What it cost.
        usage: Option<Usage>,
    },
    /// It failed.
    Failed {
        /// What a client branches on.
        code: String,
        /// A sentence for the user.
        message: String,
    },
    /// It was called off.
    Cancelled,
}

/// What is stored of a turn that has ended.
#[derive(Clone, Debug)]
pub struct Settlement {
    /// The turn.
    pub id: TurnId,
    /// Its session.
    pub session: SessionId,
    /// The session's tenant.
    pub tenant: TenantNo,
    /// The answer's id.
    pub answer: MessageId,
    /// What was said.
    pub content: String,
    /// The answer's parts as JSON, without the text; nothing, if they are one text.
    pub parts: Option<String>,
    /// When its first word was said.
    pub first_word_at: Option<Millis>,
    /// How it ended, as far as the worker knows.
    pub end: End,
}

const STATUS: &str =
    "SELECT status FROM turns WHERE seq = ?1 AND id = ?2 AND terminal_tick IS NULL";
const SETTLE: &str = "
UPDATE turns SET status = ?2, error_code = ?3, error_message = ?4, input_tokens = ?5, output_tokens = ?6,
                 started_at = coalesce(started_at, ?7), finished_at = coalesce(finished_at, ?8), terminal_tick = ?9,
                 first_word_at = ?10
WHERE seq = ?1";
const KEEP_LOG: &str =
    "INSERT INTO turn_logs (turn_seq, session_seq, last_tick, log) VALUES (?1, ?2, ?3, ?4)";

/// Stores a turn's answer, status, usage and stream. It was called off after all if that is on disk already.
///
/// Gives how it ended and the cursor of its terminal envelope; nothing, if it went with its session.
///
/// # Errors
/// The file cannot be written.
pub fn settle(
    tx: &mut WriteTx<'_>,
    settlement: &Settlement,
    started_at: Millis,
    log: impl FnOnce(Tick, &End) -> Result<String>,
) -> Result<Option<(Tick, End)>> {
    let id = settlement.id;
    let status: Option<TurnStatus> = tx
        .reader()
        .optional(STATUS, (id.tick(), id), |row| row.get("status"))?;
    let end = match status {
        None => return Ok(None),
        Some(TurnStatus::Cancelled) => End::Cancelled,
        Some(
            TurnStatus::Queued | TurnStatus::Running | TurnStatus::Completed | TurnStatus::Failed,
        ) => settlement.end.clone(),
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
    if !settlement.content.is_empty() {
        messages::insert_answer(tx, settlement, finish_reason)?;
    }
    let now = tx.now();
    let terminal = tx.tick();
    tx.execute(
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
            settlement.first_word_at
        ],
    )?;
    let log = log(terminal, &end)?;
    tx.execute(
        KEEP_LOG,
        (id.tick(), settlement.session.tick(), terminal, log),
    )?;
    Ok(Some((terminal, end)))
}

/// A turn of a session's stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The turn.
    pub id: TurnId,
    /// Whether its stream has ended.
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
///
/// # Errors
/// The file cannot be read.
pub fn newest(reader: &Reader<'_>, session: SessionId) -> Result<Option<Run>> {
    reader.optional(NEWEST, [session.tick()], run)
}

const OF_SINCE: &str = "
SELECT id, terminal_tick IS NOT NULL AS is_settled FROM turns
WHERE session_seq = ?1 AND since_tick = ?2 ORDER BY seq LIMIT 1";

/// The turn that a `since_cursor` belongs to.
///
/// # Errors
/// The file cannot be read.
pub fn of_since(reader: &Reader<'_>, session: SessionId, since: Tick) -> Result<Option<Run>> {
    reader.optional(OF_SINCE, (session.tick(), since), run)
}

const IS_SETTLED: &str = "SELECT terminal_tick IS NOT NULL AS is_settled FROM turns WHERE seq = ?1";

/// Whether a turn's stream has ended; `None` when it went with its session.
///
/// # Errors
/// The file cannot be read.
pub fn is_settled(reader: &Reader<'_>, turn: TurnId) -> Result<Option<bool>> {
    reader.optional(IS_SETTLED, [turn.tick()], |row| row.get("is_settled"))
}

const NEWEST_SINCE: &str =
    "SELECT coalesce(max(since_tick), -1) AS newest FROM turns WHERE session_seq = ?1";
const NEWEST_EVENT: &str =
    "SELECT coalesce(max(last_tick), -1) AS newest FROM turn_logs WHERE session_seq = ?1";

/// The greatest `since_cursor`, and the greatest cursor of a stored event, of a session; -1 where there is none.
///
/// # Errors
/// The file cannot be read.
pub fn newest_ticks(reader: &Reader<'_>, session: SessionId) -> Result<(Tick, Tick)> {
    let newest = |sql| reader.one(sql, [session.tick()], |row| row.get("newest"));
    Ok((newest(NEWEST_SINCE)?, newest(NEWEST_EVENT)?))
}

/// A stored run of a session's stream.
#[derive(Clone, Debug)]
pub struct StoredRun {
    /// Its turn.
    pub id: TurnId,
    /// Its events, as JSON.
    pub log: String,
}

const LOG_OF: &str = "
SELECT t.assistant_message_id AS answer, l.log AS log FROM turn_logs l JOIN turns t ON t.seq = l.turn_seq
WHERE l.turn_seq = ?1";

/// A turn's events, as JSON, and what was said in them.
///
/// # Errors
/// The file cannot be read.
pub fn log_of(reader: &Reader<'_>, turn: TurnId) -> Result<Option<(String, String)>> {
    let found = reader.optional(LOG_OF, [turn.tick()], |row| {
        Ok((row.get::<MessageId>("answer")?, row.get("log")?))
    })?;
    let Some((answer, log)) = found else {
        return Ok(None);
    };
    let said = messages::content_of(reader, answer)?;
    Ok(Some((log, said.unwrap_or_default())))
}

const LOG_AFTER: &str = "
SELECT t.id AS id, l.log AS log FROM turn_logs l JOIN turns t ON t.seq = l.turn_seq
WHERE l.session_seq = ?1 AND l.last_tick > ?2 ORDER BY l.last_tick LIMIT 1";

/// The first stored run that ends behind a cursor.
///
/// # Errors
/// The file cannot be read.
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
