//! Attachments: uploads and downloads by signed links (contract, section 5, Attachments).

use std::fmt::Write as _;

use actix_web::body::SizedStream;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use futures_util::stream::{self, Stream};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::time::timeout;

use super::App;
use super::edge::admission::Permit;
use super::edge::body;
use super::edge::envelope::{Outcome, Reply};
use super::edge::extract::{Body, FromQuery, Query, QueryString, path_id, refuse_encoded};
use super::edge::forwarded::base_url;
use super::edge::once;
use super::edge::routing::PREFIX;
use super::sessions::find;
use crate::auth::signed_link::LinkUse;
use crate::error::{Code, Error, Refusal, Result};
use crate::input::fields::{Fields, FromFields};
use crate::limits::{FairPermit, FairSemaphore};
use crate::model::caller::Reach;
use crate::model::file::{self, LINK_LIFETIME_MS, MAX_FILE_BYTES};
use crate::model::ids::{AttachmentId, SessionId, Tick};
use crate::model::session::{FilePart, Message, Parts};
use crate::model::words::FileType;
use crate::store::attachments::{self, FileRecord};
use crate::store::{Extent, Store};

/// Length of a file name, in characters.
const FILENAME_CHARS: std::ops::RangeInclusive<usize> = 1..=255;

/// Bytes of a file that a download reads and buffers at a time.
const CHUNK_BYTES: usize = 64 * 1_024;

/// Uploads of one tenant and of one session that are received at the same time.
const UPLOADS_PER_TENANT: usize = 4;
const UPLOADS_PER_SESSION: usize = 2;

/// Limits the uploads that are received at the same time, each of which is held in memory.
pub(super) fn upload_limiter(uploads: usize) -> FairSemaphore<Tick> {
    FairSemaphore::new(uploads, UPLOADS_PER_TENANT, UPLOADS_PER_SESSION)
}

/// A signed URL for an upload.
#[derive(Serialize, JsonSchema)]
pub(super) struct UploadUrl {
    /// The URL to PUT the file to.
    upload_url: String,
    /// The name of the file in a message's attachments.
    blob_path: String,
    /// The media type that the file must have.
    mime: FileType,
    /// The largest accepted size, in bytes.
    max_image_bytes: usize,
}

/// The body of a request for an upload URL.
pub(super) struct UploadRequest {
    mime: Option<FileType>,
    filename: Option<String>,
}

impl FromFields for UploadRequest {
    fn read(fields: &Fields<'_>) -> Self {
        let mime = fields.word("content_type", FileType::parse, &FileType::choices());
        Self {
            mime: fields.required("content_type", mime),
            filename: fields.text("filename", FILENAME_CHARS).value(),
        }
    }
}

/// The parameters of a signed link. A parameter that is repeated counts as absent.
pub(super) struct LinkQuery {
    expires: Option<String>,
    signature: Option<String>,
}

impl FromQuery for LinkQuery {
    fn read(query: &QueryString) -> Result<Self> {
        let text = |name| query.only_text(name).map(str::to_owned);
        Ok(Self {
            expires: text("expires"),
            signature: text("signature"),
        })
    }
}

pub(super) async fn make_upload_url(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
    body: Body<UploadRequest>,
) -> Outcome<UploadUrl> {
    let UploadRequest { mime, filename } = body.read()?;
    let mime = mime.ok_or_else(|| Error::internal("a required field is missing"))?;
    let session: SessionId = path_id(&request, "session_id")?;
    find(&app, &caller, session, Reach::Write).await?;
    let id = app
        .store
        .write(Extent::Session(session.tick()), move |tx| {
            attachments::insert(tx, session, mime, filename.as_deref())
        })
        .await?;
    let blob_path = file::blob_path(id);
    let reply = Reply::created(
        format_args!("/{blob_path}"),
        UploadUrl {
            upload_url: link(&app, &base_url(&app, &request), LinkUse::Put, id),
            blob_path: blob_path.clone(),
            mime,
            max_image_bytes: MAX_FILE_BYTES,
        },
    );
    Ok(reply.warning(once::ignored(&request)))
}

/// Adds signed URLs to the attachments of listed messages, and file parts to the messages.
pub(super) fn sign_links(app: &App, request: &HttpRequest, messages: &mut [Message]) {
    if messages
        .iter()
        .all(|message| message.attachments.is_empty())
    {
        return;
    }
    let base = base_url(app, request);
    for message in messages {
        for attachment in &mut message.attachments {
            attachment.url = link(app, &base, LinkUse::Get, attachment.id);
            match &mut message.parts {
                Parts::TextAndFiles(_, files) => files.push(FilePart {
                    media_type: attachment.mime,
                    filename: attachment.filename.clone(),
                    url: attachment.url.clone(),
                }),
                // Only answers are stored as parts, and answers have no attachments.
                Parts::Stored(_) => {}
            }
        }
    }
}

/// A signed link. With an empty base, it is a path.
fn link(app: &App, base: &str, link_use: LinkUse, id: AttachmentId) -> String {
    let expires_s = (app.store.now() + LINK_LIFETIME_MS) / 1_000;
    let signature = app.authenticator.links().sign(link_use, id, expires_s);
    format!("{base}{PREFIX}/chat/attachments/{id}?expires={expires_s}&signature={signature}")
}

/// The refusal of a link. A forged link, an expired one and a link to a missing file look the same,
/// so that a link does not reveal which files exist.
fn invalid_link() -> Error {
    Refusal::new(Code::Forbidden)
        .saying("This link is invalid or has expired. Request a new one.")
        .into()
}

/// Verifies a signed link and returns the file that it names.
fn verify_link(
    app: &App,
    request: &HttpRequest,
    query: &LinkQuery,
    link_use: LinkUse,
) -> Result<AttachmentId> {
    if app.is_draining() {
        return Err(Code::ShuttingDown.into());
    }
    let id: AttachmentId = path_id(request, "attachment_id")?;
    let (Some(expires), Some(signature)) = (&query.expires, &query.signature) else {
        return Err(invalid_link());
    };
    let expires_s = plain_number(expires).ok_or_else(invalid_link)?;
    let now = app.store.now();
    let links = app.authenticator.links();
    if has_plain_pair(request, "expires", expires)
        && has_plain_pair(request, "signature", signature)
        && links.verify(link_use, id, expires_s, signature, now)
    {
        Ok(id)
    } else {
        Err(invalid_link())
    }
}

/// A number in its one spelling: without a plus sign and leading zeros.
fn plain_number(text: &str) -> Option<i64> {
    let number: i64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// Whether the query has the pair as this server writes it, without percent-encoding. A link has
/// one spelling, so that two links that differ are never the same link.
fn has_plain_pair(request: &HttpRequest, name: &str, value: &str) -> bool {
    let mut pairs = request.query_string().split('&');
    pairs.any(|pair| pair.split_once('=') == Some((name, value)))
}

/// A stored upload.
#[derive(Serialize, JsonSchema)]
pub(super) struct Uploaded {
    /// The name of the file in a message's attachments.
    blob_path: String,
    /// The media type of the file.
    mime: FileType,
    /// The size of the file, in bytes.
    bytes: usize,
}

pub(super) async fn put(
    app: web::Data<App>,
    request: HttpRequest,
    Query(query): Query<LinkQuery>,
    payload: web::Payload,
) -> Outcome<Uploaded> {
    let id = verify_link(&app, &request, &query, LinkUse::Put)?;
    let record = app
        .store
        .read(move |reader| attachments::by_id(reader, id))
        .await?
        .ok_or_else(invalid_link)?;
    if record.bytes.is_some() {
        return Err(attachments::already_uploaded().into());
    }
    let mime = record.mime;
    let (content, _permit) = receive(&app, &request, payload, &record).await?;
    if !mime.is_content(&content) {
        let reason = format!("is not a file of the type {}", mime.as_str());
        return Err(Refusal::invalid("body", reason).into());
    }
    let bytes = content.len();
    app.store
        .write(Extent::Session(record.session), move |tx| {
            attachments::store_content(tx, id, &content).map_err(|error| match error {
                // The session was deleted during the upload.
                Error::Refused(refusal) if refusal.code == Code::NotFound => invalid_link(),
                Error::Refused(_) | Error::Internal(_) => error,
            })
        })
        .await?;
    Ok(Reply::ok(Uploaded {
        blob_path: file::blob_path(id),
        mime,
        bytes,
    }))
}

/// Receives a file of the announced type and up to the size limit. The caller holds the permit
/// until the file is stored.
async fn receive(
    app: &App,
    request: &HttpRequest,
    payload: web::Payload,
    record: &FileRecord,
) -> Result<(Vec<u8>, FairPermit)> {
    let mime = record.mime;
    let too_large = || {
        let message = format!("The file is too large. Send at most {MAX_FILE_BYTES} bytes.");
        Error::from(Refusal::new(Code::PayloadTooLarge).saying(message))
    };
    let declared = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok())
        .and_then(|length| length.parse::<u64>().ok());
    if declared.is_some_and(|bytes| bytes > MAX_FILE_BYTES as u64) {
        return Err(too_large());
    }
    let is_announced = |sent: &HeaderValue| {
        let sent = String::from_utf8_lossy(sent.as_bytes()).into_owned();
        let essence = sent.split(';').next().unwrap_or_default().trim();
        essence.eq_ignore_ascii_case(mime.as_str())
    };
    if !request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_none_or(is_announced)
    {
        let message = format!("Send the file as 'Content-Type: {}'.", mime.as_str());
        return Err(Refusal::new(Code::UnsupportedMediaType)
            .saying(message)
            .into());
    }
    refuse_encoded(request)?;
    let timeouts = &app.config.timeouts;
    let acquiring = app.uploads.acquire(record.tenant, record.session, 1);
    let permit = match timeout(timeouts.upload_wait, acquiring).await {
        Ok(permit) => permit.map_err(|closed| Error::Internal(closed.into()))?,
        Err(_) => return Err(Code::Overloaded.into()),
    };
    let content = body::receive(payload, MAX_FILE_BYTES, too_large, timeouts).await?;
    if content.is_empty() {
        return Err(Refusal::invalid("body", "must not be empty").into());
    }
    Ok((content, permit))
}

pub(super) async fn get(
    app: web::Data<App>,
    request: HttpRequest,
    Query(query): Query<LinkQuery>,
) -> Result<HttpResponse> {
    let id = verify_link(&app, &request, &query, LinkUse::Get)?;
    let found = app
        .store
        .read_on_pool(move |reader| {
            let record = attachments::by_id(reader, id)?;
            let Some((record, bytes)) =
                record.and_then(|file| file.bytes.map(|bytes| (file, bytes)))
            else {
                return Ok(None);
            };
            let first = attachments::content_slice(reader, id, 0, CHUNK_BYTES)?;
            Ok(Some((record, bytes, first)))
        })
        .await?;
    let (record, bytes, first) = found.ok_or_else(invalid_link)?;
    Ok(HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, record.mime.as_str()))
        .insert_header((
            header::CONTENT_DISPOSITION,
            disposition(record.filename.as_deref()),
        ))
        .insert_header((header::CACHE_CONTROL, "private, no-store"))
        // If a browser displays the file anyway, the file cannot run scripts.
        .insert_header((
            HeaderName::from_static("content-security-policy"),
            "sandbox; default-src 'none'",
        ))
        .body(SizedStream::new(
            bytes,
            chunks(app.store.clone(), id, first, bytes),
        )))
}

/// Streams a file in chunks. A chunk is read only when the connection accepts more data, so that a
/// client that stops reading occupies one chunk.
///
/// If the file is deleted meanwhile, the connection breaks, because `Content-Length` is already
/// sent.
fn chunks(
    store: Store,
    id: AttachmentId,
    first: Vec<u8>,
    bytes: u64,
) -> impl Stream<Item = Result<Bytes>> {
    stream::try_unfold((Some(first), 0), move |(chunk, from)| {
        let store = store.clone();
        async move {
            let chunk = match chunk {
                Some(first) => first,
                None if from >= bytes => return Ok(None),
                None => {
                    store
                        .read_on_pool(move |reader| {
                            attachments::content_slice(reader, id, from, CHUNK_BYTES)
                        })
                        .await?
                }
            };
            let next = from + chunk.len() as u64;
            Ok(Some((Bytes::from(chunk), (None, next))))
        }
    })
}

/// The `Content-Disposition` of a download: an ASCII name for every client, and the exact name if
/// it differs (RFC 6266, RFC 8187).
fn disposition(filename: Option<&str>) -> String {
    let Some(filename) = filename else {
        return "attachment".to_owned();
    };
    let plain: String = filename
        .chars()
        .map(|c| match c {
            '"' | '\\' | '/' | '%' => '_',
            ' '..='~' => c,
            _ => '_',
        })
        .collect();
    let mut text = format!("attachment; filename=\"{plain}\"");
    if plain != filename {
        text.push_str("; filename*=UTF-8''");
        for byte in filename.bytes() {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_') {
                text.push(char::from(byte));
            } else {
                write!(text, "%{byte:02X}").unwrap_or_default();
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filename_is_sent_in_ascii_and_exactly() {
        assert_eq!(disposition(None), "attachment");
        assert_eq!(
            disposition(Some("a report.pdf")),
            "attachment; filename=\"a report.pdf\""
        );
        assert_eq!(
            disposition(Some("Übersicht \"1/2\"\r\n.pdf")),
            "attachment; filename=\"_bersicht _1_2___.pdf\"; \
             filename*=UTF-8''%C3%9Cbersicht%20%221%2F2%22%0D%0A.pdf"
        );
    }
}
