//! A question that is asked again or changed, and the answers that it got (contract, section 4,
//! Versions).

use super::sql::{Reader, params};
use super::{WriteTx, messages};
use crate::error::{Code, Refusal, Result};
use crate::model::author::{Author, Authorship};
use crate::model::clock::Timestamp;
use crate::model::ids::{MessageId, SessionId, Tick, TurnId};
use crate::model::names::TenantNo;
use crate::model::session::{Appended, Cursor, Message, Version};
use crate::model::words::{MessageRole, TurnStatus};

/// The answers to one question, from the question's first turn to the newest answer. No message of
/// another question lies between, because only the last question of a session gets another answer.
const ANSWERS: &str = "
SELECT m.id AS id, t.id AS turn_id, m.finish_reason AS finish_reason, m.created_at AS created_at
FROM messages m JOIN turns t ON t.seq = m.turn_seq
WHERE m.session_seq = ?1 AND m.seq > ?2 AND m.seq <= ?3 AND m.role = 'assistant' AND (t.seq = ?2 OR t.again_of = ?2)
ORDER BY m.seq DESC LIMIT ?4";
/// The newest versions that a message lists.
const MOST_VERSIONS: usize = 50;

/// Adds the versions to those messages that are one of several answers.
pub(super) fn add(reader: &Reader<'_>, session: SessionId, messages: &mut [Message]) -> Result<()> {
    for message in messages {
        let Some([first_turn, newest]) = message.answers else {
            continue;
        };
        let range = (session.tick(), first_turn, newest, MOST_VERSIONS);
        message.versions = reader.all(ANSWERS, range, |row| {
            Ok(Version {
                id: row.get("id")?,
                chat_turn_id: row.get("turn_id")?,
                finish_reason: row.get("finish_reason")?,
                created_at: Timestamp(row.get("created_at")?),
            })
        })?;
        message.versions.reverse();
    }
    Ok(())
}

const SUPERSEDE: &str = "
UPDATE messages SET superseded_by = ?2 WHERE session_seq = ?1 AND seq > ?3 AND seq < ?2 AND role = 'assistant'";

/// Makes an answer the newest one to its question. Returns whether there were others.
pub(super) fn supersede(
    tx: &WriteTx<'_>,
    session: SessionId,
    answer: MessageId,
    first_turn: Tick,
) -> Result<bool> {
    let older = tx.execute(SUPERSEDE, (session.tick(), answer.tick(), first_turn))?;
    Ok(older > 0)
}

/// The newest turn of a session. It is a turn of the session's last question.
struct NewestTurn {
    id: TurnId,
    question: MessageId,
    status: TurnStatus,
    since: Tick,
    /// Whether it waits for another turn.
    waits: bool,
    author: Option<Author>,
    sent_by: Option<String>,
}

const NEWEST_TURN: &str = "
SELECT id, user_message_id, status, since_tick, author_kind, author_id, author_name, sent_by,
       EXISTS (SELECT 1 FROM turns o WHERE o.session_seq = ?1 AND o.terminal_tick IS NULL AND o.seq < t.seq) AS waits
FROM turns t WHERE t.session_seq = ?1 ORDER BY t.seq DESC LIMIT 1";

fn newest_turn(reader: &Reader<'_>, session: SessionId) -> Result<Option<NewestTurn>> {
    reader.optional(NEWEST_TURN, [session.tick()], |row| {
        Ok(NewestTurn {
            id: row.get("id")?,
            question: row.get("user_message_id")?,
            status: row.get("status")?,
            since: row.get("since_tick")?,
            waits: row.get("waits")?,
            author: messages::author(row)?,
            sent_by: row.get("sent_by")?,
        })
    })
}

const QUESTION: &str = "
SELECT t.user_message_id AS question FROM messages m JOIN turns t ON t.seq = m.turn_seq
WHERE m.seq = ?2 AND m.session_seq = ?1 AND m.id = ?3";

/// The question that a message is, or answers.
///
/// # Errors
/// `not_found` if the session has no such message.
pub fn question_of(reader: &Reader<'_>, session: SessionId, id: MessageId) -> Result<MessageId> {
    let found = reader.optional(QUESTION, (session.tick(), id.tick(), id), |row| {
        row.get("question")
    })?;
    found.ok_or_else(|| Code::NotFound.into())
}

/// The turn of the session's last question, which has to be this one.
fn turn_of_last(
    reader: &Reader<'_>,
    session: SessionId,
    question: MessageId,
) -> Result<NewestTurn> {
    let newest = newest_turn(reader, session)?.ok_or(Code::NotFound)?;
    if newest.question != question {
        return Err(Code::MessageNotLast.into());
    }
    Ok(newest)
}

const TOUCH: &str = "UPDATE sessions SET updated_at = ?2 WHERE seq = ?1 AND archived = 0";

fn touch(tx: &WriteTx<'_>, session: SessionId) -> Result<()> {
    match tx.execute(TOUCH, (session.tick(), tx.now()))? {
        0 => Err(messages::closed(tx.reader(), session)?),
        _ => Ok(()),
    }
}

const AGAIN: &str = "
INSERT INTO turns (seq, id, session_seq, tenant_no, status, model_tier, user_message_id, assistant_message_id, since_tick, queued_at,
                   author_kind, author_id, author_name, sent_by, again_of)
SELECT ?1, ?2, session_seq, tenant_no, 'QUEUED', model_tier, user_message_id, ?3, ?1, ?4,
       author_kind, author_id, author_name, sent_by, coalesce(again_of, seq)
FROM turns WHERE seq = ?5";
const MOVE_QUESTION: &str = "UPDATE messages SET turn_seq = ?2 WHERE seq = ?1";

/// Queues another turn of a question, which moves to that turn.
fn ask_again(tx: &mut WriteTx<'_>, before: &NewestTurn) -> Result<Appended> {
    let turn: TurnId = tx.new_id()?;
    let answer: MessageId = tx.new_id()?;
    let now = tx.now();
    tx.execute(
        AGAIN,
        params![turn.tick(), turn, answer, now, before.id.tick()],
    )?;
    tx.execute(MOVE_QUESTION, (before.question.tick(), turn.tick()))?;
    Ok(Appended {
        user_message_id: before.question,
        chat_turn_id: turn,
        since_cursor: Cursor(turn.tick()),
    })
}

/// Queues another answer to the session's last question. `message` is the question or an answer to
/// it.
///
/// # Errors
/// `session_archived`; `not_found`; `message_not_last` for an earlier question;
/// `turn_in_progress` if an answer is on its way.
pub fn regenerate(
    tx: &mut WriteTx<'_>,
    session: SessionId,
    message: MessageId,
) -> Result<Appended> {
    touch(tx, session)?;
    let question = question_of(tx.reader(), session, message)?;
    let newest = turn_of_last(tx.reader(), session, question)?;
    match newest.status {
        TurnStatus::Queued | TurnStatus::Running => Err(Code::TurnInProgress.into()),
        TurnStatus::Completed | TurnStatus::Failed | TurnStatus::Cancelled => {
            ask_again(tx, &newest)
        }
    }
}

/// A new text of a person's last message.
#[derive(Clone, Debug)]
pub struct NewText {
    /// The message's session.
    pub session: SessionId,
    /// The session's tenant.
    pub tenant: TenantNo,
    /// The message.
    pub message: MessageId,
    /// The text.
    pub content: String,
    /// The account that changes the message.
    pub account: String,
    /// The author of what the account writes in the session.
    pub authorship: Authorship,
}

/// What a changed message leads to.
#[derive(Debug)]
pub struct Edited {
    /// The turn that answers the new text.
    pub appended: Appended,
    /// Whether another turn was cancelled.
    pub has_cancelled: bool,
}

const CANCEL: &str = "UPDATE turns SET status = 'CANCELLED', finished_at = ?2 WHERE seq = ?1";

/// Changes the text of a message that is not answered yet.
///
/// A turn that waits for another one answers the new text. A turn that runs, or may begin at any
/// moment, may have read the old text: it is cancelled, and another one answers.
///
/// # Errors
/// `session_archived`; `not_found`; `validation_error` for an answer, and for an empty text without
/// a file; `forbidden` for another author's message; `message_not_last`; `message_answered`.
pub fn edit(tx: &mut WriteTx<'_>, new: &NewText) -> Result<Edited> {
    let session = new.session;
    touch(tx, session)?;
    let message = messages::by_id(tx.reader(), session, new.message)?.ok_or(Code::NotFound)?;
    if message.role != MessageRole::User {
        return Err(Refusal::invalid("message_id", "must be the id of a user's message").into());
    }
    if new.content.is_empty() && message.attachments.is_empty() {
        return Err(Refusal::invalid("message", "must not be empty without an attachment").into());
    }
    let newest = turn_of_last(tx.reader(), session, new.message)?;
    // An account that writes in the name of the session's person is not that person.
    let is_author = new.authorship.sent_by.is_none()
        && (newest.author.as_ref()).is_some_and(|author| author.is(&new.authorship.author));
    let is_own = is_author || newest.sent_by.as_deref() == Some(new.account.as_str());
    if !is_own {
        return Err(Code::Forbidden.into());
    }
    let (asks_again, has_cancelled) = match newest.status {
        TurnStatus::Completed => return Err(Code::MessageAnswered.into()),
        TurnStatus::Queued if newest.waits => (false, false),
        TurnStatus::Queued | TurnStatus::Running => (true, true),
        TurnStatus::Failed | TurnStatus::Cancelled => (true, false),
    };
    messages::replace_text(tx, new.tenant, session, new.message.tick(), &new.content)?;
    if has_cancelled {
        tx.execute(CANCEL, (newest.id.tick(), tx.now()))?;
    }
    let appended = if asks_again {
        ask_again(tx, &newest)?
    } else {
        Appended {
            user_message_id: new.message,
            chat_turn_id: newest.id,
            since_cursor: Cursor(newest.since),
        }
    };
    Ok(Edited {
        appended,
        has_cancelled,
    })
}
