//! Turns: the durable queue of what is to be answered.

use super::messages::NewMessage;
use super::sqlite::Reader;
use super::{WriteTx, messages};
use crate::error::Result;
use crate::model::clock::Timestamp;
use crate::model::ids::{MessageId, SessionId, Tick, TurnId};
use crate::model::session::{Appended, Cursor, Turn, TurnError, Usage};

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

const WAITING: &str =
    "SELECT count(*) AS waiting FROM turns WHERE session_seq = ?1 AND status = 'QUEUED'";

/// How many turns of a session wait.
///
/// # Errors
/// The file cannot be read.
pub fn waiting(reader: &Reader<'_>, session: SessionId) -> Result<i64> {
    reader.one(WAITING, [session.tick()], |row| row.get("waiting"))
}

const INSERT: &str = "
INSERT INTO turns (seq, id, session_seq, tenant_no, status, model_tier, client_message_id, user_message_id, since_tick, queued_at)
VALUES (?1, ?2, ?3, ?4, 'QUEUED', ?5, ?6, ?7, ?8, ?9)";

/// Queues a turn.
pub(super) fn insert(
    tx: &mut WriteTx<'_>,
    new: &NewMessage,
    turn: TurnId,
    message: MessageId,
    since: Tick,
) -> Result<()> {
    let now = tx.now();
    tx.reader()
        .execute(
            INSERT,
            (
                turn.tick(),
                turn,
                new.session.tick(),
                new.tenant,
                new.model_tier,
                &new.client_message_id,
                message,
                since,
                now,
            ),
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
        let answer: Option<MessageId> = row.get("assistant_message_id")?;
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
            started_at: row.get::<_, Option<i64>>("started_at")?.map(Timestamp),
            finished_at: row.get::<_, Option<i64>>("finished_at")?.map(Timestamp),
        };
        Ok((turn, answer))
    })?;
    let Some((mut turn, answer)) = found else {
        return Ok(None);
    };
    if let Some(answer) = answer {
        turn.assistant_message = messages::by_id(reader, session, answer)?;
    }
    Ok(Some(turn))
}

const CANCEL: &str = "
UPDATE turns SET status = 'CANCELLED', finished_at = ?2 WHERE session_seq = ?1 AND status = 'QUEUED'";

/// Calls off a session's waiting turns; how many there were.
///
/// # Errors
/// The file cannot be written.
pub fn cancel_waiting(tx: &mut WriteTx<'_>, session: SessionId) -> Result<usize> {
    let now = tx.now();
    tx.reader().execute(CANCEL, (session.tick(), now))
}
