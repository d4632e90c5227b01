//! Messages: checked and appended with their turn, and listed in order.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use super::attachments::{self, NewAttachment};
use super::cache::Cached;
use super::sql::{Reader, Row, Rows, params};
use super::turns::Settlement;
use super::{WriteTx, channels, search_index, turns, versions};
use crate::error::{Code, Error, Refusal, Result};
use crate::model::author::{Author, Authorship};
use crate::model::caller::{Caller, Reach};
use crate::model::clock::Timestamp;
use crate::model::ids::{MessageId, SessionId, Tick, TurnId};
use crate::model::names::TenantNo;
use crate::model::session::{
    Appended, Cursor, Feedback, Message, Parts, Session, TextPart, title_of,
};
use crate::model::words::{AgentState, ChannelStatus, MessageRole, ModelTier, Rating, Rule};
use crate::resolver::{self, Asker, Directory, Linked, NotMapped};

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT m.content AS content, m.parts AS parts, m.rating AS rating, m.comment AS comment, m.id AS id, m.role AS role, \
             t.id AS turn_id, t.model_tier AS model_tier, m.finish_reason AS finish_reason, m.created_at AS created_at, \
             t.author_kind AS author_kind, t.author_id AS author_id, t.author_name AS author_name, \
             m.searched_name AS searched_name, m.superseded_by AS superseded_by, t.again_of AS again_of, \
             s.agent_id AS agent_id, a.name AS agent_name \
             FROM messages m JOIN turns t ON t.seq = m.turn_seq JOIN sessions s ON s.seq = m.session_seq \
             LEFT JOIN agents a ON a.tenant_no = s.tenant_no AND a.agent_id = s.agent_id ",
            $rest
        )
    };
}

fn record(row: &Row<'_>) -> Result<Message> {
    let content: String = row.get("content")?;
    let parts: Option<String> = row.get("parts")?;
    let rating: Option<Rating> = row.get("rating")?;
    let comment: Option<String> = row.get("comment")?;
    let parts = match parts {
        None => Parts::TextAndFiles(content.clone(), Vec::new()),
        Some(parts) => Parts::Stored(
            with_text(&parts, &content).map_err(|error| Error::Internal(error.into()))?,
        ),
    };
    let role: MessageRole = row.get("role")?;
    let author = match role {
        MessageRole::User => author(row)?,
        MessageRole::Assistant => Some(Author::agent(row.get("agent_id")?, row.get("agent_name")?)),
    };
    let (id, turn): (MessageId, TurnId) = (row.get("id")?, row.get("turn_id")?);
    let superseded_by: Option<Tick> = row.get("superseded_by")?;
    let again_of: Option<Tick> = row.get("again_of")?;
    let first_turn = again_of.or(superseded_by.map(|_| turn.tick()));
    let first_turn = first_turn.filter(|_| role == MessageRole::Assistant);
    Ok(Message {
        id,
        role,
        author,
        parts,
        content,
        attachments: Vec::new(),
        chat_turn_id: turn,
        model_tier: row.get("model_tier")?,
        finish_reason: row.get("finish_reason")?,
        created_at: Timestamp(row.get("created_at")?),
        feedback: (rating.is_some() || comment.is_some()).then_some(Feedback { rating, comment }),
        versions: Vec::new(),
        answers: first_turn.map(|turn| [turn, superseded_by.unwrap_or(id.tick())]),
        searched_name: row.get("searched_name")?,
    })
}

/// The author of a turn's message. A turn of an earlier version has none.
pub(super) fn author(row: &Row<'_>) -> Result<Option<Author>> {
    let kind: Option<String> = row.get("author_kind")?;
    let id: Option<String> = row.get("author_id")?;
    let name = row.get("author_name")?;
    Ok(kind.zip(id).map(|(kind, id)| Author { kind, id, name }))
}

/// A stored text part: the next bytes of the message's content.
#[derive(Deserialize)]
struct StoredText {
    bytes: usize,
}

#[derive(Serialize)]
#[serde(untagged)]
enum WirePart<'a> {
    Text(TextPart<'a>),
    /// Any other part, and a text part as version 0.1.0 stored it.
    AsStored(&'a RawValue),
}

/// Adds the texts to stored parts. The message's content is the texts of its parts, one after
/// another.
fn with_text(parts: &str, content: &str) -> serde_json::Result<Box<RawValue>> {
    let stored: Vec<&RawValue> = serde_json::from_str(parts)?;
    let mut rest = content;
    let parts = stored.into_iter().map(|part| {
        let Ok(StoredText { bytes }) = serde_json::from_str(part.get()) else {
            return Ok(WirePart::AsStored(part));
        };
        let (text, remaining) = rest.split_at_checked(bytes).ok_or_else(|| {
            serde::de::Error::custom("a message is shorter than its stored parts")
        })?;
        rest = remaining;
        Ok(WirePart::Text(TextPart { text }))
    });
    to_raw_value(&parts.collect::<serde_json::Result<Vec<_>>>()?)
}

const OLDEST_FIRST: &str = select!(
    "WHERE m.session_seq = ?1 AND m.seq > ?2 AND m.superseded_by IS NULL ORDER BY m.seq LIMIT ?3"
);
const NEWEST_FIRST: &str = select!(
    "WHERE m.session_seq = ?1 AND m.seq < ?2 AND m.superseded_by IS NULL ORDER BY m.seq DESC LIMIT ?3"
);
const BY_ID: &str = select!("WHERE m.seq = ?2 AND m.session_seq = ?1 AND m.id = ?3");

/// A page of a session's messages that are newer than `after`, oldest first.
pub fn page_after(
    reader: &Reader<'_>,
    session: SessionId,
    after: Tick,
    limit: usize,
) -> Result<Rows<Message>> {
    let page = reader.page(OLDEST_FIRST, (session.tick(), after, limit), record)?;
    completed(reader, session, page)
}

/// A page of a session's messages that are older than `before`, newest first.
pub fn page_before(
    reader: &Reader<'_>,
    session: SessionId,
    before: Tick,
    limit: usize,
) -> Result<Rows<Message>> {
    let page = reader.page(NEWEST_FIRST, (session.tick(), before, limit), record)?;
    completed(reader, session, page)
}

/// Adds the files to the messages of a page, with one query, and the versions of answers.
fn completed(
    reader: &Reader<'_>,
    session: SessionId,
    mut page: Rows<Message>,
) -> Result<Rows<Message>> {
    versions::add(reader, session, &mut page.rows)?;
    let carriers = || page.rows.iter().filter(|one| one.role == MessageRole::User);
    let ticks = || carriers().map(|message| message.id.tick());
    let (Some(first), Some(last)) = (ticks().min(), ticks().max()) else {
        return Ok(page);
    };
    for (message, attachment) in attachments::of_messages(reader, session, first, last)? {
        let carrier = page
            .rows
            .iter_mut()
            .find(|carrier| carrier.id.tick() == message);
        if let Some(carrier) = carrier {
            carrier.attachments.push(attachment);
        }
    }
    Ok(page)
}

/// The session's message with this id.
pub fn by_id(reader: &Reader<'_>, session: SessionId, id: MessageId) -> Result<Option<Message>> {
    let found = reader.optional(BY_ID, (session.tick(), id.tick(), id), record)?;
    let page = Rows::from(found.into_iter().collect::<Vec<_>>());
    Ok(completed(reader, session, page)?.rows.pop())
}

/// Checks whether a caller may append a message to a session that it may read (contract, section
/// 4). Returns the session, or the directory to which an admin has to link exactly one company.
///
/// # Errors
/// The first that applies, in this order: `duplicate_client_message`,
/// `validation_error` for a file, `session_archived`, `agent_disabled`, `channel_disconnected`,
/// `end_company_not_mapped` for a company that is gone, `agent_access_denied`, `forbidden`,
/// `too_many_pending_turns`.
pub fn check(
    cached: &Cached<'_, Reader<'_>>,
    caller: &Caller,
    session: Session,
    client_message_id: Option<&str>,
    files: &[NewAttachment],
) -> Result<Result<Session, NotMapped>> {
    let (reader, id) = (cached.reader(), session.id);
    refuse_repeat(reader, id, client_message_id)?;
    attachments::check(reader, id, files)?;
    let checked = check_session(cached, caller, session)?;
    if checked.is_ok() {
        refuse_when_full(reader, id)?;
    }
    Ok(checked)
}

/// The checks of [`check`] that do not depend on the new message.
///
/// # Errors
/// As [`check`], from `session_archived` to `forbidden`.
pub fn check_session(
    cached: &Cached<'_, Reader<'_>>,
    caller: &Caller,
    session: Session,
) -> Result<Result<Session, NotMapped>> {
    if session.archived_at.is_some() {
        return Err(Code::SessionArchived.into());
    }
    let agent = cached
        .agent(session.internals.tenant, session.agent_id)?
        .filter(|agent| agent.state == AgentState::Enabled)
        .ok_or(Code::AgentDisabled)?;
    check_channel(cached, &session)?;
    if let Some(not_mapped) = check_link(cached, &session)? {
        return Ok(Err(not_mapped));
    }
    if let Some(asker) = Asker::of(caller)
        && !resolver::may_use(&agent, &asker)
    {
        return Err(Code::AgentAccessDenied.into());
    }
    if caller.reach(&session.facts()) < Reach::Write {
        return Err(Code::Forbidden.into());
    }
    Ok(Ok(session))
}

fn refuse_repeat(
    reader: &Reader<'_>,
    session: SessionId,
    client_message_id: Option<&str>,
) -> Result<()> {
    if let Some(client_message_id) = client_message_id
        && let Some(first) = turns::accepted(reader, session, client_message_id)?
    {
        return Err(duplicate(&first).into());
    }
    Ok(())
}

fn refuse_when_full(reader: &Reader<'_>, session: SessionId) -> Result<()> {
    if turns::waiting(reader, session)? >= turns::MAX_QUEUED {
        return Err(Code::TooManyPendingTurns.into());
    }
    Ok(())
}

/// The channel that routed here must still be active, and still be installed.
fn check_channel(cached: &Cached<'_, Reader<'_>>, session: &Session) -> Result<()> {
    let Some(id) = session.channel_id else {
        return Ok(());
    };
    let channel = cached
        .channel(id)?
        .filter(|channel| !channel.deleted && channel.status == ChannelStatus::Active)
        .ok_or(Code::ChannelDisconnected)?;
    if session.resolution.rule == Rule::WhiteLabelInstall
        && let Some(inbound) = &session.internals.pinned_by
        && !cached.is_installed(channel.owner, id, inbound)?
    {
        return Err(Code::ChannelDisconnected.into());
    }
    Ok(())
}

/// The link that pinned a session must still lead to its company only. The company of a session
/// that tries an agent must still exist. A later company with the same id is another company.
fn check_link(cached: &Cached<'_, Reader<'_>>, session: &Session) -> Result<Option<NotMapped>> {
    let tenant = session.internals.tenant;
    let (Some(inbound), Some(channel)) = (&session.internals.pinned_by, session.channel_id) else {
        let Some(id) = &session.end_company_id else {
            return Ok(None);
        };
        let company = cached.company(tenant, id)?;
        if company.is_some_and(|company| session.is_of(company.row)) {
            return Ok(None);
        }
        let tenant = cached.tenant_by_no(tenant)?;
        return Err(company_is_gone(tenant.client_id.as_str()).into());
    };
    let linked_companies = match cached.linked(tenant, inbound)? {
        Linked::One(company)
            if session.is_of(company.row) && inbound.no_organization().is_none() =>
        {
            return Ok(None);
        }
        Linked::One(_) => 1,
        Linked::Not(companies) => companies,
    };
    Ok(Some(NotMapped {
        is_home: cached.is_home(tenant, inbound)?,
        tenant: cached.tenant_by_no(tenant)?,
        inbound: Some(inbound.clone()),
        linked_companies,
        channel,
        bot: channels::bot_of(cached.reader(), channel)?,
    }))
}

fn company_is_gone(client_id: &str) -> Refusal {
    Refusal::new(Code::EndCompanyNotMapped)
        .saying("The company of this session no longer exists. Start a new session for another company.")
        .with("inbound_tenant_id", Value::Null)
        .with("client_id", client_id)
        .with("linked_companies", 0)
}

/// A message that a person sends.
#[derive(Clone, Debug)]
pub struct NewMessage {
    /// The message's session.
    pub session: SessionId,
    /// The session's tenant.
    pub tenant: TenantNo,
    /// Who writes the message.
    pub authorship: Authorship,
    /// The text.
    pub content: String,
    /// The files that the message carries.
    pub attachments: Vec<NewAttachment>,
    /// The title for a session without a title, if this is its first message.
    pub title: Option<String>,
    /// The model that answers.
    pub model_tier: ModelTier,
    /// The client's own id of the message, by which a retry is recognized.
    pub client_message_id: Option<String>,
}

const COUNT_MESSAGE: &str = "
UPDATE sessions SET message_count = message_count + 1, updated_at = ?2 WHERE seq = ?1 AND archived = 0
RETURNING message_count, title IS NULL AS untitled, end_user_name";
const SET_TITLE: &str = "UPDATE sessions SET title = ?2 WHERE seq = ?1";
const EXISTS: &str = "SELECT 1 FROM sessions WHERE seq = ?1";
const INSERT: &str = "
INSERT INTO messages (seq, id, session_seq, turn_seq, role, content, searched_name, created_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";

/// Why a session takes no change: it is archived, or gone.
pub(super) fn closed(reader: &Reader<'_>, session: SessionId) -> Result<Error> {
    let exists = reader.optional(EXISTS, [session.tick()], |_| Ok(()))?;
    Ok(match exists {
        Some(()) => Code::SessionArchived,
        None => Code::NotFound,
    }
    .into())
}

/// Appends a message and queues the turn that will answer it.
///
/// Repeats those checks of [`check`] that another request may have changed since: a retry, the
/// files, the archive and the waiting turns.
///
/// # Errors
/// `duplicate_client_message`; `validation_error` for a file; `session_archived`; `not_found` if
/// the session was deleted; `too_many_pending_turns`.
pub fn append(tx: &mut WriteTx<'_>, new: &NewMessage) -> Result<Appended> {
    refuse_repeat(tx.reader(), new.session, new.client_message_id.as_deref())?;
    let files = attachments::check(tx.reader(), new.session, &new.attachments)?;
    let now = tx.now();
    let counted = tx.returning(COUNT_MESSAGE, (new.session.tick(), now), |row| {
        Ok((
            row.get::<i64>("message_count")?,
            row.get::<bool>("untitled")?,
            row.get::<Option<String>>("end_user_name")?,
        ))
    })?;
    let Some((message_count, untitled, name)) = counted else {
        return Err(closed(tx.reader(), new.session)?);
    };
    refuse_when_full(tx.reader(), new.session)?;
    if message_count == 1
        && untitled
        && let Some(title) = &new.title
    {
        tx.execute(SET_TITLE, (new.session.tick(), title))?;
        let session = new.session.tick();
        let name = name.as_deref();
        search_index::add_derived_title(tx, new.tenant, session, title, name, &new.content)?;
    }
    let message: MessageId = tx.new_id()?;
    let turn: TurnId = tx.new_id()?;
    let since = if message_count == 1 {
        Tick(0)
    } else {
        turn.tick()
    };
    tx.execute(
        INSERT,
        (
            message.tick(),
            message,
            new.session.tick(),
            turn.tick(),
            MessageRole::User,
            &new.content,
            new.authorship.searched_name(),
            now,
        ),
    )?;
    let session = new.session.tick();
    let searched = search_index::searched(&new.content, new.authorship.searched_name());
    search_index::add_message(tx, new.tenant, session, message.tick(), &searched)?;
    attachments::attach(tx, message, &files, &new.attachments)?;
    let answer: MessageId = tx.new_id()?;
    turns::insert(tx, new, turn, message, answer, since)?;
    Ok(Appended {
        user_message_id: message,
        chat_turn_id: turn,
        since_cursor: Cursor(since),
    })
}

const INSERT_ANSWER: &str = "
INSERT INTO messages (seq, id, session_seq, turn_seq, role, content, parts, finish_reason, created_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
const COUNT_ANSWER: &str =
    "UPDATE sessions SET message_count = message_count + ?3, updated_at = ?2 WHERE seq = ?1";

/// Inserts a turn's answer. `again_of` is the question's first turn, if this one is another.
pub(super) fn insert_answer(
    tx: &mut WriteTx<'_>,
    settlement: &Settlement,
    finish_reason: &str,
    again_of: Option<Tick>,
) -> Result<()> {
    let now = tx.now();
    let (answer, session) = (settlement.answer, settlement.session);
    tx.execute(
        INSERT_ANSWER,
        params![
            answer.tick(),
            answer,
            session.tick(),
            settlement.id.tick(),
            MessageRole::Assistant,
            &settlement.content,
            &settlement.parts,
            finish_reason,
            now
        ],
    )?;
    let replaces = match again_of {
        Some(first_turn) => versions::supersede(tx, session, answer, first_turn)?,
        None => false,
    };
    tx.execute(COUNT_ANSWER, (session.tick(), now, i64::from(!replaces)))?;
    let (tenant, content) = (settlement.tenant, &settlement.content);
    search_index::add_answer(tx, tenant, session.tick(), answer.tick(), content)
}

const CONTENT_OF: &str =
    "SELECT content, searched_name FROM messages WHERE seq = ?1 AND session_seq = ?2";
const DELETE: &str = "DELETE FROM messages WHERE seq = ?1";
const DELETE_FILES: &str = "DELETE FROM attachments WHERE session_seq = ?1 AND message_seq = ?2";
const UNCOUNT: &str =
    "UPDATE sessions SET message_count = message_count - 1, updated_at = ?2 WHERE seq = ?1";

/// The text of a session's message, and the author's name that a search finds with it.
fn text_at(
    reader: &Reader<'_>,
    session: SessionId,
    message: Tick,
) -> Result<Option<(String, Option<String>)>> {
    let key = (message, session.tick());
    reader.optional(CONTENT_OF, key, |row| {
        Ok((row.get("content")?, row.get("searched_name")?))
    })
}

/// The text of a session's message.
pub fn content_at(
    reader: &Reader<'_>,
    session: SessionId,
    message: Tick,
) -> Result<Option<String>> {
    Ok(text_at(reader, session, message)?.map(|(content, _)| content))
}

const SET_CONTENT: &str = "UPDATE messages SET content = ?2 WHERE seq = ?1";

const TITLE: &str = "SELECT title, end_user_name FROM sessions WHERE seq = ?1";

/// A title that comes from the old text becomes that of the new one. Another title stays. The index
/// has either from now on: the words of a title were in it by the old text, perhaps.
fn retitle(
    tx: &WriteTx<'_>,
    tenant: TenantNo,
    session: SessionId,
    before: &str,
    content: &str,
) -> Result<()> {
    let session = session.tick();
    let found = tx.reader().optional(TITLE, [session], |row| {
        let title: Option<String> = row.get("title")?;
        Ok((title, row.get::<Option<String>>("end_user_name")?))
    })?;
    let Some((Some(title), name)) = found else {
        return Ok(());
    };
    let next = if title_of(before).as_ref() == Some(&title) {
        title_of(content)
    } else {
        Some(title.clone())
    };
    tx.execute(SET_TITLE, (session, &next))?;
    let heading = |title| search_index::heading(title, name.as_deref());
    let (old, next) = (heading(Some(&title)), heading(next.as_deref()));
    search_index::replace_title(tx, tenant, session, old.as_deref(), None)?;
    search_index::replace_title(tx, tenant, session, None, next.as_deref())
}

/// Replaces the text of a message, and the session's title if it comes from that text.
pub fn replace_text(
    tx: &WriteTx<'_>,
    tenant: TenantNo,
    session: SessionId,
    message: Tick,
    content: &str,
) -> Result<()> {
    let Some((before, name)) = text_at(tx.reader(), session, message)? else {
        return Ok(());
    };
    tx.execute(SET_CONTENT, (message, content))?;
    let place = (session.tick(), message);
    let indexed = (&*before, name.as_deref());
    search_index::replace_message(tx, tenant, place, indexed, content)?;
    retitle(tx, tenant, session, &before, content)
}

/// Removes a message that its author took back, with its files and its words in the search index.
pub fn remove(
    tx: &mut WriteTx<'_>,
    tenant: TenantNo,
    session: SessionId,
    message: Tick,
) -> Result<()> {
    let Some((content, name)) = text_at(tx.reader(), session, message)? else {
        return Ok(());
    };
    let content = search_index::searched(&content, name.as_deref());
    search_index::remove_one(tx, tenant, message, &content)?;
    tx.execute(DELETE_FILES, (session.tick(), message))?;
    tx.execute(DELETE, [message])?;
    tx.execute(UNCOUNT, (session.tick(), tx.now()))?;
    tx.scrub_log();
    Ok(())
}

const CONTENT: &str = "SELECT content FROM messages WHERE seq = ?1 AND id = ?2";

/// The text of a message.
pub(super) fn content_of(reader: &Reader<'_>, message: MessageId) -> Result<Option<String>> {
    reader.optional(CONTENT, (message.tick(), message), |row| row.get("content"))
}

/// A message of the conversation that a responder receives.
#[derive(Clone, Debug)]
pub struct ConversationMessage {
    /// The message's id.
    pub id: MessageId,
    /// Whether a person or the agent wrote it.
    pub role: MessageRole,
    /// The person, if the server knows.
    pub author: Option<Author>,
    /// The text.
    pub content: String,
}

/// The most messages that a responder receives. A responder's own budget is smaller.
const MOST_MESSAGES: i64 = 400;
const QUESTION: &str = "SELECT user_message_id FROM turns WHERE seq = ?1 AND id = ?2";
const CONVERSATION: &str = "
SELECT m.id AS id, m.role AS role, m.content AS content,
       t.author_kind AS author_kind, t.author_id AS author_id, t.author_name AS author_name
FROM messages m JOIN turns t ON t.seq = m.turn_seq
WHERE m.session_seq = ?1 AND m.seq <= ?2 AND m.superseded_by IS NULL AND (t.error_code IS NULL OR t.error_code <> 'model_content_filtered')
ORDER BY m.seq DESC LIMIT ?3";

/// The conversation up to a turn's own message, oldest first, with the newest answer to each question. A message that a content filter
/// refused is left out, because the filter would refuse every later prompt that contains it.
pub fn conversation(
    reader: &Reader<'_>,
    session: SessionId,
    turn: TurnId,
) -> Result<Vec<ConversationMessage>> {
    let question = reader.optional(QUESTION, (turn.tick(), turn), |row| {
        row.get::<MessageId>("user_message_id")
    })?;
    let Some(question) = question else {
        return Ok(Vec::new());
    };
    let mut messages = reader.all(
        CONVERSATION,
        (session.tick(), question.tick(), MOST_MESSAGES),
        |row| {
            Ok(ConversationMessage {
                id: row.get("id")?,
                role: row.get("role")?,
                author: author(row)?,
                content: row.get("content")?,
            })
        },
    )?;
    messages.reverse();
    Ok(messages)
}

const FEEDBACK: &str =
    "UPDATE messages SET rating = ?3, comment = ?4 WHERE seq = ?1 AND session_seq = ?2";

/// Stores a reader's feedback on an answer.
///
/// # Errors
/// `not_found` if the session has no such message; `validation_error` for a message that is not an
/// answer.
pub fn give_feedback(
    tx: &mut WriteTx<'_>,
    session: SessionId,
    id: MessageId,
    feedback: &Feedback,
) -> Result<Message> {
    let message = by_id(tx.reader(), session, id)?.ok_or(Code::NotFound)?;
    if message.role != MessageRole::Assistant {
        return Err(Refusal::invalid("message_id", "must be the id of an answer").into());
    }
    tx.execute(
        FEEDBACK,
        (
            id.tick(),
            session.tick(),
            feedback.rating,
            &feedback.comment,
        ),
    )?;
    Ok(by_id(tx.reader(), session, id)?.ok_or(Code::NotFound)?)
}

/// The refusal of a message that was accepted before, with the first reply's ids.
fn duplicate(first: &Appended) -> Refusal {
    Refusal::new(Code::DuplicateClientMessage)
        .with("user_message_id", first.user_message_id.to_string())
        .with("chat_turn_id", first.chat_turn_id.to_string())
        .with("since_cursor", first.since_cursor.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_parts_get_their_text_from_the_content_whichever_version_stored_them() {
        let whole =
            |stored: &str| with_text(stored, "Ä 1.\nB \"2\".").map(|parts| parts.to_string());
        let reasoning = r#"{"type":"reasoning","text":"Hm."}"#;
        let of_0_1_0 = format!(
            r#"[{reasoning},{{"type":"text","text":"Ä 1.\nB \"2\"."}},{{"type":"source-url","sourceId":"s","url":"u","title":"t"}}]"#
        );
        assert_eq!(whole(&of_0_1_0).unwrap(), of_0_1_0);
        let stored =
            format!(r#"[{{"type":"text","bytes":6}},{reasoning},{{"type":"text","bytes":6}}]"#);
        let expected = format!(
            r#"[{{"type":"text","text":"Ä 1.\n"}},{reasoning},{{"type":"text","text":"B \"2\"."}}]"#
        );
        assert_eq!(whole(&stored).unwrap(), expected);
        assert!(whole(r#"[{"type":"text","bytes":13}]"#).is_err());
        assert!(whole(r#"[{"type":"text","bytes":1}]"#).is_err());
    }
}
