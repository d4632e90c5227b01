//! The files of messages from Teams that are still to be fetched.

use super::sql::Reader;
use super::teams::{self, NewDelivery, Saying};
use super::{WriteTx, attachments};
use crate::error::{Code, Result};
use crate::model::ids::{MessageId, SessionId, Tick, TurnId};
use crate::model::names::{BotId, TenantNo};
use crate::model::words::FileType;

/// A file that a message names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedFile {
    /// Where it is; empty if a bot cannot read it.
    pub url: String,
    /// Its name.
    pub name: Option<String>,
    /// Its media type, as the activity has it.
    pub content_type: Option<String>,
}

const INSERT: &str = "
INSERT INTO teams_files (turn_seq, place, bot_id, url, name, content_type) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";

/// Records the files that a turn fetches before it is answered.
pub fn insert(tx: &WriteTx<'_>, turn: TurnId, bot: &BotId, files: &[NamedFile]) -> Result<()> {
    for (place, file) in files.iter().enumerate() {
        let params = (
            turn.tick(),
            place,
            bot,
            &file.url,
            &file.name,
            &file.content_type,
        );
        tx.execute(INSERT, params)?;
    }
    Ok(())
}

/// A file that a turn has still to fetch.
#[derive(Clone, Debug)]
pub struct PendingFile {
    /// Its place within the message.
    pub place: i64,
    /// The bot that the message was sent to.
    pub bot: BotId,
    /// What the message says of it.
    pub file: NamedFile,
}

const PENDING: &str = "
SELECT place, bot_id, url, name, content_type FROM teams_files WHERE turn_seq = ?1 ORDER BY place";

/// The files that a turn has still to fetch, in their order.
pub fn pending(reader: &Reader<'_>, turn: TurnId) -> Result<Vec<PendingFile>> {
    reader.all(PENDING, [turn.tick()], |row| {
        Ok(PendingFile {
            place: row.get("place")?,
            bot: row.get("bot_id")?,
            file: NamedFile {
                url: row.get("url")?,
                name: row.get("name")?,
                content_type: row.get("content_type")?,
            },
        })
    })
}

const DONE: &str = "DELETE FROM teams_files WHERE turn_seq = ?1 AND place = ?2";

/// Takes a file off the list. Returns whether it was on it: another run of the turn may have been
/// quicker.
fn done(tx: &WriteTx<'_>, turn: TurnId, place: i64) -> Result<bool> {
    Ok(tx.execute(DONE, (turn.tick(), place))? > 0)
}

const MESSAGE: &str = "SELECT user_message_id FROM turns WHERE seq = ?1 AND id = ?2";

/// Stores a file that was fetched with its message.
///
/// # Errors
/// `too_many_attachments`; `not_found` if the session no longer exists.
pub fn store(
    tx: &mut WriteTx<'_>,
    session: SessionId,
    turn: TurnId,
    place: i64,
    mime: FileType,
    name: Option<&str>,
    content: &[u8],
) -> Result<()> {
    let message: Option<MessageId> = tx.reader().optional(MESSAGE, (turn.tick(), turn), |row| {
        row.get("user_message_id")
    })?;
    let message = message.ok_or(Code::NotFound)?;
    if !done(tx, turn, place)? {
        return Ok(());
    }
    attachments::insert_into(tx, session, message, place, mime, name, content)
}

const CONVERSATION: &str = "
SELECT conversation_no, tenant_no, reply_to FROM teams_deliveries WHERE turn_seq = ?1 ORDER BY seq LIMIT 1";

/// Gives a file up, and tells the person why.
pub fn give_up(tx: &mut WriteTx<'_>, turn: TurnId, place: i64, why: String) -> Result<()> {
    if !done(tx, turn, place)? {
        return Ok(());
    }
    let found = tx.reader().optional(CONVERSATION, [turn.tick()], |row| {
        Ok((
            row.get::<Tick>("conversation_no")?,
            row.get::<Option<TenantNo>>("tenant_no")?,
            row.get::<Option<String>>("reply_to")?,
        ))
    })?;
    if let Some((conversation, tenant, reply_to)) = found {
        let saying = Saying::Text {
            body: why,
            prompts: Vec::new(),
        };
        let new = NewDelivery {
            conversation,
            tenant,
            saying,
            reply_to: reply_to.as_deref(),
        };
        teams::insert_delivery(tx, new)?;
    }
    Ok(())
}
