//! Attachments: uploaded once, then attached to one message. Unattached files expire after a day.

use super::sql::{Reader, Row};
use super::{Extent, Store, WriteTx, sessions};
use crate::error::{Code, Refusal, Result};
use crate::model::clock::Millis;
use crate::model::file::LINK_LIFETIME_MS;
use crate::model::ids::{AttachmentId, MessageId, SessionId, Tick};
use crate::model::names::TenantNo;
use crate::model::session::Attachment;
use crate::model::words::FileType;

/// Unattached files of one session.
const MAX_UNATTACHED: i64 = 20;
/// Bytes of all files of one session.
const MAX_BYTES: i64 = 200 * 1_024 * 1_024;
/// How long an unattached file is kept: a day.
const UNATTACHED_TTL_MS: Millis = 24 * 60 * 60 * 1_000;
/// Files that one change removes. Each can be large, and other writes have to wait.
const BATCH: usize = 8;

// A file whose upload link has expired does not count.
const USAGE: &str = "
SELECT CAST(coalesce(sum(bytes), 0) AS BIGINT) AS bytes,
       count(*) FILTER (WHERE message_seq IS NULL AND (bytes IS NOT NULL OR created_at > ?2)) AS waiting
FROM attachments WHERE session_seq = ?1";

/// A session's usage: the bytes of all its files, and the number of unattached files.
fn usage(tx: &WriteTx<'_>, session: Tick) -> Result<(i64, i64)> {
    let oldest_link = tx.now() - LINK_LIFETIME_MS;
    tx.reader().one(USAGE, (session, oldest_link), |row| {
        Ok((row.get("bytes")?, row.get("waiting")?))
    })
}

const INSERT: &str = "
INSERT INTO attachments (seq, id, session_seq, mime, filename, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";

/// Creates the record of a file that is to be uploaded.
///
/// # Errors
/// `too_many_attachments`; `not_found` if the session no longer exists.
pub fn insert(
    tx: &mut WriteTx<'_>,
    session: SessionId,
    mime: FileType,
    filename: Option<&str>,
) -> Result<AttachmentId> {
    if sessions::by_id(tx.reader(), session)?.is_none() {
        return Err(Code::NotFound.into());
    }
    let (bytes, unattached) = usage(tx, session.tick())?;
    if unattached >= MAX_UNATTACHED || bytes >= MAX_BYTES {
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
    /// The media type.
    pub mime: FileType,
    /// The file name.
    pub filename: Option<String>,
    /// The size of the content; none before the upload.
    pub bytes: Option<u64>,
    /// The session.
    pub session: Tick,
    /// The session's tenant.
    pub tenant: TenantNo,
}

const BY_ID: &str =
"
SELECT a.mime AS mime, a.filename AS filename, a.bytes AS bytes, a.session_seq AS session_seq, s.tenant_no AS tenant_no
FROM attachments a JOIN sessions s ON s.seq = a.session_seq WHERE a.seq = ?1 AND a.id = ?2";

/// The file with this id.
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

/// Up to `limit` bytes of a file's content, from an offset.
///
/// # Errors
/// `internal_error` if the file was removed.
pub fn content_slice(
    reader: &Reader<'_>,
    id: AttachmentId,
    offset: u64,
    limit: usize,
) -> Result<Vec<u8>> {
    reader.blob_slice("attachment_contents", "content", id.tick(), offset, limit)
}

const INSERT_CONTENT: &str =
    "INSERT INTO attachment_contents (attachment_seq, content) VALUES (?1, ?2)";
const SET_BYTES: &str = "UPDATE attachments SET bytes = ?2 WHERE seq = ?1";

/// Stores the uploaded content of a file.
///
/// # Errors
/// `not_found` if the file no longer exists, `already_exists` if it was uploaded before,
/// `too_many_attachments`.
pub fn store_content(tx: &mut WriteTx<'_>, id: AttachmentId, content: &[u8]) -> Result<()> {
    let record = by_id(tx.reader(), id)?.ok_or(Code::NotFound)?;
    if record.bytes.is_some() {
        return Err(already_uploaded().into());
    }
    let bytes = i64::try_from(content.len()).unwrap_or(i64::MAX);
    let (used, _) = usage(tx, record.session)?;
    if bytes > MAX_BYTES - used {
        return Err(Code::TooManyAttachments.into());
    }
    tx.execute(INSERT_CONTENT, (id.tick(), content))?;
    tx.execute(SET_BYTES, (id.tick(), bytes)).map(drop)
}

/// Stores a file together with the message that carries it.
///
/// # Errors
/// `too_many_attachments`; `not_found` if the session no longer exists.
pub(super) fn insert_into(
    tx: &mut WriteTx<'_>,
    session: SessionId,
    message: MessageId,
    place: i64,
    mime: FileType,
    filename: Option<&str>,
    content: &[u8],
) -> Result<()> {
    let id = insert(tx, session, mime, filename)?;
    store_content(tx, id, content)?;
    let (alt, kept) = (None::<String>, None::<String>);
    tx.execute(ATTACH, (id.tick(), message.tick(), place, &alt, &kept))
        .map(drop)
}

/// The refusal of a second upload.
pub fn already_uploaded() -> Refusal {
    Refusal::new(Code::AlreadyExists)
        .saying("This file was already uploaded. Request an upload URL for each file.")
}

/// An attachment as the sender of a message describes it.
#[derive(Clone, Debug)]
pub struct NewAttachment {
    /// The file; none, if the sent path cannot be the path of a file.
    pub id: Option<AttachmentId>,
    /// The media type that the sender declares.
    pub mime: String,
    /// A description of an image in words.
    pub alt: Option<String>,
    /// A file name that replaces the one of the upload.
    pub filename: Option<String>,
}

const UPLOADED: &str = "
SELECT mime, message_seq IS NOT NULL AS carried FROM attachments
WHERE seq = ?2 AND session_seq = ?1 AND id = ?3 AND bytes IS NOT NULL";

/// Checks that a message of this session may have these attachments. Returns their ids.
///
/// # Errors
/// `validation_error`, for the first attachment that is not allowed.
pub fn check(
    reader: &Reader<'_>,
    session: SessionId,
    attachments: &[NewAttachment],
) -> Result<Vec<AttachmentId>> {
    let mut ids: Vec<AttachmentId> = Vec::with_capacity(attachments.len());
    for (index, attachment) in attachments.iter().enumerate() {
        let refuse = |field: &str, reason: &str| -> Result<Vec<AttachmentId>> {
            Err(Refusal::invalid(format!("attachments[{index}].{field}"), reason).into())
        };
        let found = match attachment.id {
            None => None,
            Some(id) => reader
                .optional(UPLOADED, (session.tick(), id.tick(), id), |row| {
                    let mime: FileType = row.get("mime")?;
                    Ok((mime, row.get::<bool>("carried")?))
                })?
                .map(|(mime, is_attached)| (id, mime, is_attached)),
        };
        let Some((id, mime, is_attached)) = found else {
            return refuse(
                "blob_path",
                "is not the path of a file that was uploaded for this session",
            );
        };
        if is_attached {
            return refuse(
                "blob_path",
                "names a file that is attached to a message already",
            );
        }
        if ids.contains(&id) {
            return refuse("blob_path", "names the same file twice");
        }
        if attachment.mime != mime.as_str() {
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

/// Attaches files to a message, after [`check`] in the same change.
pub(super) fn attach(
    tx: &WriteTx<'_>,
    message: MessageId,
    ids: &[AttachmentId],
    attachments: &[NewAttachment],
) -> Result<()> {
    for (index, (id, attachment)) in ids.iter().zip(attachments).enumerate() {
        tx.execute(
            ATTACH,
            (
                id.tick(),
                message.tick(),
                index,
                &attachment.alt,
                &attachment.filename,
            ),
        )?;
    }
    Ok(())
}

const OF_MESSAGES: &str = "
SELECT message_seq, id, mime, filename, alt, bytes FROM attachments
WHERE session_seq = ?1 AND message_seq BETWEEN ?2 AND ?3 ORDER BY message_seq, place";

/// The attachments of a range of a session's messages, in the order of the messages.
pub fn of_messages(
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

/// An image that is attached to a message.
#[derive(Clone, Debug)]
pub struct StoredImage {
    /// The media type.
    pub mime: FileType,
    /// The content of the file.
    pub content: Vec<u8>,
}

const IMAGES: &str = "
SELECT a.mime AS mime, c.content AS content
FROM attachments a JOIN attachment_contents c ON c.attachment_seq = a.seq
WHERE a.session_seq = ?1 AND a.message_seq = ?2 AND a.mime IN ('image/png', 'image/jpeg', 'image/gif', 'image/webp')
ORDER BY a.place DESC LIMIT ?3";

/// The last images of a message, up to `limit`, in their order.
pub fn images(
    reader: &Reader<'_>,
    session: SessionId,
    message: Tick,
    limit: usize,
) -> Result<Vec<StoredImage>> {
    let of_message = (session.tick(), message, limit);
    let mut images = reader.all(IMAGES, of_message, |row| {
        Ok(StoredImage {
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
    /// Removes expired unattached files, in small batches.
    pub async fn purge_attachments(&self) -> Result<()> {
        loop {
            let removed = self
                .write(Extent::Configuration, |tx| {
                    let expired = tx.now() - UNATTACHED_TTL_MS;
                    tx.execute(PURGE, (expired, BATCH))
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
    fn the_query_for_images_selects_exactly_the_image_types() {
        for mime in FileType::ALL {
            let is_selected = IMAGES.contains(&format!("'{}'", mime.as_str()));
            assert_eq!(is_selected, mime.is_image(), "{mime:?}");
        }
    }
}
