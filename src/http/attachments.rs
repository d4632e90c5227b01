//! Files: a link to send one, the file itself, and a link to fetch it (contract, section 5, Attachments).

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
use super::edge::extract::{Body, FromQuery, Query, QueryString, path_id};
use super::edge::routing::PREFIX;
use super::edge::upload_limiter::UploadPermit;
use super::sessions::find;
use crate::auth::signed_link::LinkUse;
use crate::error::{Code, Error, Refusal, Result};
use crate::input::fields::{Fields, FromFields};
use crate::model::caller::Reach;
use crate::model::file::{self, LINK_LIFETIME_MS, MAX_FILE_BYTES};
use crate::model::ids::{AttachmentId, SessionId};
use crate::model::session::{FilePart, Message, Parts};
use crate::model::words::FileType;
use crate::store::attachments::{self, FileRecord};
use crate::store::{Extent, Store};

/// Characters that a file's name may have.
const FILENAME: std::ops::RangeInclusive<usize> = 1..=255;

/// Bytes of a file that are read and held at one time for whoever fetches it.
const PIECE: usize = 64 * 1_024;

/// Where a client sends a file, and how it names it then.
#[derive(Serialize, JsonSchema)]
pub(super) struct UploadUrl {
    upload_url: String,
    blob_path: String,
    mime: FileType,
    max_image_bytes: usize,
}

/// A body that asks for an upload URL.
pub(super) struct Upload {
    mime: Option<FileType>,
    filename: Option<String>,
}

impl FromFields for Upload {
    fn read(fields: &Fields<'_>) -> Self {
        let mime = fields.word("content_type", FileType::parse, &FileType::choices());
        Self {
            mime: fields.required("content_type", mime),
            filename: fields.text("filename", FILENAME).value(),
        }
    }
}

/// The parameters of a signed link.
pub(super) struct Signed {
    expires: Option<String>,
    signature: Option<String>,
}

impl FromQuery for Signed {
    fn read(query: &QueryString) -> Result<Self> {
        let text = |name| query.text(name).map(str::to_owned);
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
    body: Body<Upload>,
) -> Outcome<UploadUrl> {
    let Upload { mime, filename } = body.read()?;
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
    Ok(Reply::created(
        format_args!("/{blob_path}"),
        UploadUrl {
            upload_url: link(&app, &request, LinkUse::Put, id),
            blob_path: blob_path.clone(),
            mime,
            max_image_bytes: MAX_FILE_BYTES,
        },
    ))
}

/// Gives the files of listed messages their links, and the messages their file parts.
pub(super) fn sign_links(app: &App, request: &HttpRequest, messages: &mut [Message]) {
    for message in messages {
        for attachment in &mut message.attachments {
            attachment.url = link(app, request, LinkUse::Get, attachment.id);
            match &mut message.parts {
                Parts::TextAndFiles(_, files) => files.push(FilePart {
                    media_type: attachment.mime,
                    filename: attachment.filename.clone(),
                    url: attachment.url.clone(),
                }),
                // Only answers are stored in parts, and no answer carries files.
                Parts::Stored(_) => {}
            }
        }
    }
}

fn link(app: &App, request: &HttpRequest, link_use: LinkUse, id: AttachmentId) -> String {
    let expires_s = (app.store.now() + LINK_LIFETIME_MS) / 1_000;
    let signature = app.authenticator.links().sign(link_use, id, expires_s);
    format!(
        "{}{PREFIX}/chat/attachments/{id}?expires={expires_s}&signature={signature}",
        base(app, request)
    )
}

/// The address that this server is reached by: as configured, else as the request named it.
fn base(app: &App, request: &HttpRequest) -> String {
    if let Some(url) = &app.config.public_url {
        return url.clone();
    }
    let is_of_a_host = |byte: u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']')
    };
    let host = request
        .headers()
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .filter(|host| !host.is_empty() && host.bytes().all(is_of_a_host))
        .unwrap_or("localhost");
    format!("http://{host}")
}

/// One refusal for a link that is no link of this server, has ended, or leads to nothing: it tells nobody what there is.
fn no_link() -> Error {
    Refusal::new(Code::Forbidden)
        .saying("This link does not hold, or no longer. Ask for a new one.")
        .into()
}

/// The file that a link leads to.
fn linked(
    app: &App,
    request: &HttpRequest,
    query: &Signed,
    link_use: LinkUse,
) -> Result<AttachmentId> {
    if app.is_draining() {
        return Err(Code::ShuttingDown.into());
    }
    let id: AttachmentId = path_id(request, "attachment_id")?;
    let expires_s: Option<i64> = query.expires.as_ref().and_then(|text| text.parse().ok());
    let (Some(expires_s), Some(signature)) = (expires_s, &query.signature) else {
        return Err(no_link());
    };
    let now = app.store.now();
    let links = app.authenticator.links();
    if links.holds(link_use, id, expires_s, signature, now) {
        Ok(id)
    } else {
        Err(no_link())
    }
}

/// What was kept of an upload.
#[derive(Serialize, JsonSchema)]
pub(super) struct Uploaded {
    blob_path: String,
    mime: FileType,
    bytes: usize,
}

pub(super) async fn put(
    app: web::Data<App>,
    request: HttpRequest,
    Query(query): Query<Signed>,
    payload: web::Payload,
) -> Outcome<Uploaded> {
    let id = linked(&app, &request, &query, LinkUse::Put)?;
    let record = app
        .store
        .read(move |reader| attachments::by_id(reader, id))
        .await?
        .ok_or_else(no_link)?;
    if record.bytes.is_some() {
        return Err(attachments::uploaded_before().into());
    }
    let mime = record.mime;
    let (content, _place) = receive(&app, &request, payload, &record).await?;
    if !mime.is_content(&content) {
        let reason = format!("is no file of the type {}", mime.as_str());
        return Err(Refusal::invalid("body", reason).into());
    }
    let bytes = content.len();
    app.store
        .write(Extent::Session(record.session), move |tx| {
            attachments::fill(tx, id, &content).map_err(|error| match error {
                // It went while it was being sent.
                Error::Refused(refusal) if refusal.code == Code::NotFound => no_link(),
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

/// A body of the announced type, up to the limit, and the place that it takes up until it is stored.
async fn receive(
    app: &App,
    request: &HttpRequest,
    payload: web::Payload,
    record: &FileRecord,
) -> Result<(Vec<u8>, UploadPermit)> {
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
    let timeouts = &app.config.timeouts;
    let entering = app.uploads.acquire(record.tenant, record.session);
    let place = match timeout(timeouts.upload_wait, entering).await {
        Ok(place) => place?,
        Err(_) => return Err(Code::Overloaded.into()),
    };
    let content = body::receive(payload, MAX_FILE_BYTES, too_large, timeouts).await?;
    if content.is_empty() {
        return Err(Refusal::invalid("body", "must not be empty").into());
    }
    Ok((content, place))
}

pub(super) async fn get(
    app: web::Data<App>,
    request: HttpRequest,
    Query(query): Query<Signed>,
) -> Result<HttpResponse> {
    let id = linked(&app, &request, &query, LinkUse::Get)?;
    let found = app
        .store
        .read_aside(move |reader| {
            let record = attachments::by_id(reader, id)?;
            let Some((record, bytes)) =
                record.and_then(|file| file.bytes.map(|bytes| (file, bytes)))
            else {
                return Ok(None);
            };
            let first = attachments::piece(reader, id, 0, PIECE)?;
            Ok(Some((record, bytes, first)))
        })
        .await?;
    let (record, bytes, first) = found.ok_or_else(no_link)?;
    Ok(HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, record.mime.as_str()))
        .insert_header((
            header::CONTENT_DISPOSITION,
            disposition(record.filename.as_deref()),
        ))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((header::CACHE_CONTROL, "private, no-store"))
        // A browser that shows it all the same runs nothing in it.
        .insert_header((
            HeaderName::from_static("content-security-policy"),
            "sandbox; default-src 'none'",
        ))
        .body(SizedStream::new(
            bytes,
            pieces(app.store.clone(), id, first, bytes),
        )))
}

/// A file piece by piece, each read when there is room for it: a client that does not read holds one of them.
///
/// A file that goes meanwhile breaks the connection, since its length has been told.
fn pieces(
    store: Store,
    id: AttachmentId,
    first: Vec<u8>,
    bytes: u64,
) -> impl Stream<Item = Result<Bytes>> {
    stream::try_unfold((Some(first), 0), move |(piece, from)| {
        let store = store.clone();
        async move {
            let piece = match piece {
                Some(first) => first,
                None if from >= bytes => return Ok(None),
                None => {
                    store
                        .read_aside(move |reader| attachments::piece(reader, id, from, PIECE))
                        .await?
                }
            };
            let next = from + piece.len() as u64;
            Ok(Some((Bytes::from(piece), (None, next))))
        }
    })
}

/// How a file is to be saved: a name that every client can read, and the exact one (RFC 6266, RFC 8187).
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
    fn a_filename_is_told_plainly_and_exactly() {
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
