//! Files: asked for, uploaded once, carried by one message; those that no message carries go after a day.

use super::sql::{Reader, Row};
use super::{Extent, Store, WriteTx, sessions};
use crate::error::{Code, Refusal, Result};
use crate::model::clock::Millis;
use crate::model::file::LINK_LIFETIME_MS;
use crate::model::ids::{AttachmentId, MessageId, SessionId, Tick};
use crate::model::names::TenantNo;
use crate::model::session::Attachment;
use crate::model::words::FileType;

/// Files of one session that no message carries yet.
const MOST_WAITING: i64 = 20;
/// Bytes that all files of one session may have.
const MOST_BYTES: i64 = 200 * 1_024 * 1_024;
/// How long a file waits for a message: a day.
const WAITS_MS: Millis = 24 * 60 * 60 * 1_000;
/// Files that one clean-up removes at most: each can be large, and other writes wait meanwhile.
const BATCH: usize = 8;

// An upload that can no longer happen takes nobody's place.
const HELD: &str = "
SELECT CAST(coalesce(sum(bytes), 0) AS BIGINT) AS bytes,
       count(*) FILTER (WHERE message_seq IS NULL AND (bytes IS NOT NULL OR created_at > ?2)) AS waiting
FROM attachments WHERE session_seq = ?1";

/// What a session holds: the bytes of all its files, and how many of them wait for a message.
fn held(tx: &WriteTx<'_>, session: Tick) -> Result<(i64, i64)> {
    let unreachable = tx.now() - LINK_LIFETIME_MS;
    tx.reader().one(HELD, (session, unreachable), |row| {
        Ok((row.get("bytes")?, row.get("waiting")?))
    })
}

const INSERT: &str = "
INSERT INTO attachments (seq, id, session_seq, mime, filename, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";

/// Makes room for a file that is to be uploaded.
///
/// # Errors
/// `too_many_attachments`; `not_found` when the session was deleted meanwhile.
pub fn insert(
    tx: &mut WriteTx<'_>,
    session: SessionId,
    mime: FileType,
    filename: Option<&str>,
) -> Result<AttachmentId> {
    if sessions::by_id(tx.reader(), session)?.is_none() {
        return Err(Code::NotFound.into());
    }
    let (bytes, waiting) = held(tx, session.tick())?;
    if waiting >= MOST_WAITING || bytes >= MOST_BYTES {
        return Err(Code::TooManyAttachments.into());
    }
    let id: AttachmentId = tx.new_id()?;
    let now = tx.now();
    tx.execute(INSERT, (id.tick(), id, session.tick(), mime, filename, now))?;
    Ok(id)
}

/// A file, without its content.
#[derive(Clone, Debug)]
pub struct FileRecord {
    /// What it is.
    pub mime: FileType,
    /// What it is called.
    pub filename: Option<String>,
    /// How many bytes it has, once its content is here.
    pub bytes: Option<u64>,
    /// Its session.
    pub session: Tick,
    /// The session's tenant.
    pub tenant: TenantNo,
}

const BY_ID: &str =
"
SELECT a.mime AS mime, a.filename AS filename, a.bytes AS bytes, a.session_seq AS session_seq, s.tenant_no AS tenant_no
FROM attachments a JOIN sessions s ON s.seq = a.session_seq WHERE a.seq = ?1 AND a.id = ?2";

/// The file with this id.
///
/// # Errors
/// The file cannot be read.
pub fn by_id(reader: &Reader<'_>, id: AttachmentId) -> Result<Option<FileRecord>> {
    reader.optional(BY_ID, (id.tick(), id), |row| {
        Ok(FileRecord {
            mime: row.get("mime")?,
            filename: row.get("filename")?,
            bytes: row.get("bytes")?,
            session: row.get("session_seq")?,
            tenant: row.get("tenant_no")?,
        })
    })
}

/// A piece of a file's content, which is not read around it.
///
/// # Errors
/// The file cannot be read, or is gone.
pub fn piece(reader: &Reader<'_>, id: AttachmentId, from: u64, most: usize) -> Result<Vec<u8>> {
    reader.blob_slice("attachment_contents", "content", id.tick(), from, most)
}

const FILL: &str = "INSERT INTO attachment_contents (attachment_seq, content) VALUES (?1, ?2)";
const FILLED: &str = "UPDATE attachments SET bytes = ?2 WHERE seq = ?1";

/// Keeps what was uploaded.
///
/// # Errors
/// `not_found` when the file went meanwhile, `already_exists` when it was uploaded before, `too_many_attachments`.
pub fn fill(tx: &mut WriteTx<'_>, id: AttachmentId, content: &[u8]) -> Result<()> {
    let record = by_id(tx.reader(), id)?.ok_or(Code::NotFound)?;
    if record.bytes.is_some() {
        return Err(uploaded_before().into());
    }
    let bytes = i64::try_from(content.len()).unwrap_or(i64::MAX);
    let (held, _) = held(tx, record.session)?;
    if bytes > MOST_BYTES - held {
        return Err(Code::TooManyAttachments.into());
    }
    tx.execute(FILL, (id.tick(), content))?;
    tx.execute(FILLED, (id.tick(), bytes)).map(drop)
}

/// The refusal of a second upload.
pub fn uploaded_before() -> Refusal {
    Refusal::new(Code::AlreadyExists)
        .saying("This file was uploaded already. Ask for another upload URL for another file.")
}

/// A file as the sender of a message names it.
#[derive(Clone, Debug)]
pub struct Carried {
    /// The file; none, if what was sent can be no file's path.
    pub id: Option<AttachmentId>,
    /// What the sender takes it for.
    pub mime: String,
    /// What it shows, in words.
    pub alt: Option<String>,
    /// What it is called, if not as at its upload.
    pub filename: Option<String>,
}

const WAITING: &str = "
SELECT mime, message_seq IS NOT NULL AS carried FROM attachments
WHERE seq = ?2 AND session_seq = ?1 AND id = ?3 AND bytes IS NOT NULL";

/// Whether a message of this session may carry these files; they are given back by their ids.
///
/// # Errors
/// `validation_error` that names the first that it may not.
pub fn check(
    reader: &Reader<'_>,
    session: SessionId,
    carried: &[Carried],
) -> Result<Vec<AttachmentId>> {
    let mut ids: Vec<AttachmentId> = Vec::with_capacity(carried.len());
    for (place, file) in carried.iter().enumerate() {
        let refuse = |field: &str, reason: &str| -> Result<Vec<AttachmentId>> {
            Err(Refusal::invalid(format!("attachments[{place}].{field}"), reason).into())
        };
        let found = match file.id {
            None => None,
            Some(id) => reader
                .optional(WAITING, (session.tick(), id.tick(), id), |row| {
                    let mime: FileType = row.get("mime")?;
                    Ok((mime, row.get::<bool>("carried")?))
                })?
                .map(|(mime, is_carried)| (id, mime, is_carried)),
        };
        let Some((id, mime, is_carried)) = found else {
            return refuse(
                "blob_path",
                "names no file that was uploaded for this session",
            );
        };
        if is_carried {
            return refuse("blob_path", "names a file that a message carries already");
        }
        if ids.contains(&id) {
            return refuse("blob_path", "names a file for the second time");
        }
        if file.mime != mime.as_str() {
            return refuse(
                "mime",
                &format!("must be {mime}, as at the upload", mime = mime.as_str()),
            );
        }
        ids.push(id);
    }
    Ok(ids)
}

const ATTACH: &str = "
UPDATE attachments SET message_seq = ?2, place = ?3, alt = ?4, filename = coalesce(?5, filename) WHERE seq = ?1";

/// Has a message carry files that [`check`] let through in the same change.
pub(super) fn attach(
    tx: &WriteTx<'_>,
    message: MessageId,
    ids: &[AttachmentId],
    carried: &[Carried],
) -> Result<()> {
    for (place, (id, file)) in ids.iter().zip(carried).enumerate() {
        tx.execute(
            ATTACH,
            (id.tick(), message.tick(), place, &file.alt, &file.filename),
        )?;
    }
    Ok(())
}

const OF_MESSAGES: &str = "
SELECT message_seq, id, mime, filename, alt, bytes FROM attachments
WHERE session_seq = ?1 AND message_seq BETWEEN ?2 AND ?3 ORDER BY message_seq, place";

/// The files of a session's messages from one to another, in the order of the messages.
pub(super) fn of_messages(
    reader: &Reader<'_>,
    session: SessionId,
    first: Tick,
    last: Tick,
) -> Result<Vec<(Tick, Attachment)>> {
    let record = |row: &Row<'_>| {
        let message = row.get("message_seq")?;
        let attachment = Attachment {
            id: row.get("id")?,
            mime: row.get("mime")?,
            filename: row.get("filename")?,
            alt: row.get("alt")?,
            bytes: row.get("bytes")?,
            url: String::new(),
        };
        Ok((message, attachment))
    };
    reader.all(OF_MESSAGES, (session.tick(), first, last), record)
}

/// An image that a message carries.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The message.
    pub message: MessageId,
    /// What it is.
    pub mime: FileType,
    /// The file itself.
    pub content: Vec<u8>,
}

const IMAGES: &str = "
SELECT m.id AS message_id, a.mime AS mime, c.content AS content
FROM attachments a JOIN messages m ON m.seq = a.message_seq JOIN attachment_contents c ON c.attachment_seq = a.seq
WHERE a.session_seq = ?1 AND a.message_seq BETWEEN ?2 AND ?3 AND a.mime IN ('image/png', 'image/jpeg', 'image/gif', 'image/webp')
ORDER BY a.message_seq DESC, a.place DESC LIMIT ?4";

/// The newest images of a session's messages from one to another, in the order in which they were sent.
///
/// # Errors
/// The file cannot be read.
pub fn images(
    reader: &Reader<'_>,
    session: SessionId,
    first: MessageId,
    last: MessageId,
    most: usize,
) -> Result<Vec<Shown>> {
    let range = (session.tick(), first.tick(), last.tick(), most);
    let mut images = reader.all(IMAGES, range, |row| {
        Ok(Shown {
            message: row.get("message_id")?,
            mime: row.get("mime")?,
            content: row.get("content")?,
        })
    })?;
    images.reverse();
    Ok(images)
}

const PURGE: &str = "
DELETE FROM attachments WHERE seq IN (
  SELECT seq FROM attachments WHERE message_seq IS NULL AND created_at <= ?1 ORDER BY created_at LIMIT ?2)";

impl Store {
    /// Removes files that no message has carried for a day, in small batches.
    ///
    /// # Errors
    /// The file cannot be written.
    pub async fn purge_attachments(&self) -> Result<()> {
        loop {
            let removed = self
                .write(Extent::Configuration, |tx| {
                    let waited = tx.now() - WAITS_MS;
                    tx.execute(PURGE, (waited, BATCH))
                })
                .await?;
            if removed < BATCH {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_images_that_are_read_are_those_that_a_model_can_look_at() {
        for mime in FileType::ALL {
            let is_read = IMAGES.contains(&format!("'{}'", mime.as_str()));
            assert_eq!(is_read, mime.is_image(), "{mime:?}");
        }
    }
}
