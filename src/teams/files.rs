//! The pictures and files of messages: fetched before a message is answered, from listed hosts only,
//! and never from an address of a private network.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use reqwest::{Response, Url};
use serde_json::Value;
use tokio::sync::{Notify, Semaphore};
use tokio::time::timeout;

use super::connector::{Connector, Failure};
use super::hosts;
use crate::error::{Code, Result};
use crate::model::file::MAX_FILE_BYTES;
use crate::model::ids::{SessionId, TurnId};
use crate::model::words::FileType;
use crate::outbound;
use crate::store::teams_files::{self, NamedFile, PendingFile};
use crate::store::{Extent, Store};
use crate::text::shorten;
use crate::turns::engine::Prepare;

/// The files of a message (contract, section 4).
const MAX_FILES: usize = 6;
/// Files of a message of which the server takes note.
const MAX_NAMED: usize = 20;
/// Redirects that are followed, each to a listed host.
const MAX_REDIRECTS: usize = 3;
/// The timeouts of a connect, of one attempt, and of all files of a message.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);
const FETCH_TIMEOUT: Duration = Duration::from_secs(20);
const ALL_TIMEOUT: Duration = Duration::from_secs(60);
/// Attempts at a file whose host does not answer, and the pause between two.
const ATTEMPTS: usize = 3;
const PAUSE: Duration = Duration::from_secs(1);
/// Files that are fetched at the same time. Each is held in memory.
const FETCHES: usize = 8;
/// The longest name that is kept, in characters, and the longest address, in bytes.
const NAME_CHARS: usize = 255;
const MAX_URL_BYTES: usize = 8_192;

/// The content type of a file that a person attached in a private chat.
const DOWNLOAD: &str = "application/vnd.microsoft.teams.file.download.info";

/// The files that the attachments of an activity name. The HTML form of the text and cards are none.
pub fn named_in(attachments: &[Value]) -> Vec<NamedFile> {
    let files = attachments.iter().filter_map(named);
    files.take(MAX_NAMED).collect()
}

fn named(attachment: &Value) -> Option<NamedFile> {
    let text = |value: &Value| {
        let text = value.as_str().map(str::trim);
        text.filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let content_type = text(&attachment["contentType"]).unwrap_or_default();
    let is_card = content_type.starts_with("application/vnd.microsoft.card.")
        || content_type.starts_with("application/vnd.microsoft.teams.card.");
    if content_type.starts_with("text/html") || is_card || content_type == "messageReference" {
        return None;
    }
    let is_download = content_type == DOWNLOAD;
    let url = match is_download {
        true => text(&attachment["content"]["downloadUrl"]),
        false => text(&attachment["contentUrl"]),
    };
    // In a channel, a file is a reference that a bot cannot read.
    let is_readable = content_type != "reference";
    let mut name = text(&attachment["name"]);
    if let (true, Some(extension)) = (is_download, text(&attachment["content"]["fileType"])) {
        let ending = format!(".{extension}");
        let base = name.take().unwrap_or_else(|| "file".to_owned());
        let has_ending = base.to_lowercase().ends_with(&ending.to_lowercase());
        name = Some(if has_ending { base } else { base + &ending });
    }
    if url.is_none() && is_readable && !is_download {
        return None;
    }
    let url = url.filter(|url| is_readable && url.len() <= MAX_URL_BYTES);
    let name = name.map(|name| {
        let name: String = name.chars().filter(|c| !c.is_control()).collect();
        name.chars().take(NAME_CHARS).collect()
    });
    Some(NamedFile {
        url: url.unwrap_or_default(),
        name,
        content_type: Some(content_type).filter(|_| !is_download),
    })
}

/// Fetches the files of messages from Teams before they are answered.
pub struct Files {
    connector: Arc<Connector>,
    store: Store,
    wake: Arc<Notify>,
    fetches: Semaphore,
}

/// Why a file does not come.
#[derive(Debug)]
enum NoFile {
    /// Another attempt may help.
    NotNow(String),
    /// It never comes, for this reason in words for the person.
    Never(String),
}

fn never(why: &str) -> NoFile {
    NoFile::Never(why.to_owned())
}

impl Prepare for Files {
    fn prepare(
        &self,
        session: SessionId,
        turn: TurnId,
    ) -> Pin<Box<dyn Future<Output = Result<()>> + Send + '_>> {
        Box::pin(self.fetch_all(session, turn))
    }
}

impl Files {
    /// Fetches with the tokens of these bots. `wake` tells the worker of the outbox.
    pub fn new(connector: Arc<Connector>, store: Store, wake: Arc<Notify>) -> Self {
        Self {
            connector,
            store,
            wake,
            fetches: Semaphore::new(FETCHES),
        }
    }

    async fn fetch_all(&self, session: SessionId, turn: TurnId) -> Result<()> {
        let pending = self
            .store
            .read(move |reader| teams_files::pending(reader, turn))
            .await?;
        if pending.is_empty() {
            return Ok(());
        }
        let end = tokio::time::Instant::now() + ALL_TIMEOUT;
        for one in pending {
            let place = one.place;
            let fetched = tokio::time::timeout_at(end, self.fetch(&one)).await;
            let fetched =
                fetched.unwrap_or_else(|_| Err(never("its host does not answer in time")));
            let why = match fetched {
                Ok((mime, content)) => {
                    let name = one.file.name.clone();
                    let stored = self
                        .store
                        .write(Extent::Session(session.tick()), move |tx| {
                            let name = name.as_deref();
                            teams_files::store(tx, session, turn, place, mime, name, &content)
                        })
                        .await;
                    match stored {
                        Ok(()) => continue,
                        Err(error) if error.is(Code::TooManyAttachments) => {
                            "this conversation has too many files".to_owned()
                        }
                        Err(error) if error.is(Code::NotFound) => return Ok(()),
                        Err(error) => return Err(error),
                    }
                }
                Err(NoFile::Never(why) | NoFile::NotNow(why)) => why,
            };
            let file = match &one.file.name {
                Some(name) => format!("The file “{}”", shorten(name, 80)),
                None => "A picture or file".to_owned(),
            };
            log::info!(turn:% = turn; "teams: a file was not read: {why}");
            let told = format!("{file} could not be read: {why}.");
            let give_up = self
                .store
                .write(Extent::Session(session.tick()), move |tx| {
                    teams_files::give_up(tx, turn, place, told)
                });
            give_up.await?;
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Fetches a file, and finds out its type.
    async fn fetch(&self, pending: &PendingFile) -> Result<(FileType, Vec<u8>), NoFile> {
        if usize::try_from(pending.place).unwrap_or(usize::MAX) >= MAX_FILES {
            return Err(never("a message may have up to 6 files"));
        }
        if pending.file.url.is_empty() {
            return Err(never("bots cannot read it here; send it in a private chat"));
        }
        let _permit = self.fetches.acquire().await;
        let mut attempt = 1;
        let (announced, content) = loop {
            let fetched = timeout(FETCH_TIMEOUT, self.get(pending)).await;
            let fetched = fetched
                .unwrap_or_else(|_| Err(NoFile::NotNow("its host does not answer".to_owned())));
            match fetched {
                Ok(fetched) => break fetched,
                Err(NoFile::NotNow(why)) if attempt < ATTEMPTS => {
                    log::debug!("teams: a file is fetched again: {why}");
                    attempt += 1;
                    tokio::time::sleep(PAUSE).await;
                }
                Err(no_file) => return Err(no_file),
            }
        };
        let file = &pending.file;
        let declared = [file.content_type.as_deref(), announced.as_deref()];
        let mime = file_type(file.name.as_deref(), declared, &content);
        match mime {
            Some(mime) => Ok((mime, content)),
            None => Err(never("this kind of file is not supported")),
        }
    }

    async fn get(&self, pending: &PendingFile) -> Result<(Option<String>, Vec<u8>), NoFile> {
        let mut url =
            Url::parse(&pending.file.url).map_err(|_| never("its address is not valid"))?;
        for _ in 0..=MAX_REDIRECTS {
            let reply = self.get_once(pending, &url).await?;
            let status = reply.status();
            if status.is_redirection() {
                let to = reply
                    .headers()
                    .get(LOCATION)
                    .and_then(|to| to.to_str().ok());
                let to = to.and_then(|to| url.join(to).ok());
                url = to.ok_or_else(|| never("its host leads nowhere"))?;
                continue;
            }
            if status.is_success() {
                let announced = reply.headers().get(CONTENT_TYPE);
                let announced = announced
                    .and_then(|text| text.to_str().ok())
                    .map(str::to_owned);
                return Ok((announced, received(reply).await?));
            }
            let why = format!("its host answered {}", status.as_u16());
            return Err(match status.is_server_error() || status.as_u16() == 429 {
                true => NoFile::NotNow(why),
                false => NoFile::Never(why),
            });
        }
        Err(never("its host redirects too often"))
    }

    /// One request, to a listed host and to an address that was checked.
    async fn get_once(&self, pending: &PendingFile, url: &Url) -> Result<Response, NoFile> {
        let settings = self.connector.settings();
        let is_service = hosts::is_service(url, &settings.service_hosts);
        if !is_service && !hosts::is_file_host(url, &settings.file_hosts) {
            return Err(never("it is on a host that this server does not read from"));
        }
        let address = address_of(url).await?;
        let client = outbound::pinned_client(url, address, CONNECT_TIMEOUT);
        let client = client.map_err(NoFile::NotNow)?;
        let mut request = client.get(url.clone());
        // The bot's token goes to the connector only.
        if is_service {
            let token = self.connector.token(&pending.bot).await;
            let token = token.map_err(|failure: Failure| NoFile::NotNow(failure.to_string()))?;
            if let Some(token) = token {
                request = request.header(AUTHORIZATION, format!("Bearer {}", token.reveal()));
            }
        }
        let reply = request.send().await;
        reply.map_err(|error| {
            log::debug!("teams: {}", outbound::causes(&error.without_url()));
            NoFile::NotNow("its host does not answer".to_owned())
        })
    }
}

/// The body of a reply, up to the limit of a file.
async fn received(mut reply: Response) -> Result<Vec<u8>, NoFile> {
    let too_large = || never("it is larger than 10 MB");
    let announced = reply.headers().get(CONTENT_LENGTH);
    let announced = announced.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|bytes| bytes > MAX_FILE_BYTES) {
        return Err(too_large());
    }
    let mut content = Vec::new();
    loop {
        match reply.chunk().await {
            Ok(Some(chunk)) if content.len() + chunk.len() > MAX_FILE_BYTES => {
                return Err(too_large());
            }
            Ok(Some(chunk)) => content.extend_from_slice(&chunk),
            Ok(None) => break,
            Err(_) => {
                return Err(NoFile::NotNow(
                    "its host does not send all of it".to_owned(),
                ));
            }
        }
    }
    match content.is_empty() {
        true => Err(never("it is empty")),
        false => Ok(content),
    }
}

/// The address to connect to: the host's first one, if none of its addresses is private. A listed
/// loopback host is for tests and emulators.
async fn address_of(url: &Url) -> Result<SocketAddr, NoFile> {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let port = url.port_or_known_default().unwrap_or(443);
    let found = tokio::net::lookup_host((host, port)).await;
    let found: Vec<SocketAddr> = found
        .map_err(|_| NoFile::NotNow("its host is not known".to_owned()))?
        .collect();
    let is_loopback = outbound::is_loopback(url);
    let is_allowed = |address: &SocketAddr| match is_loopback {
        true => address.ip().is_loopback(),
        false => is_public(address.ip()),
    };
    match found.first() {
        Some(first) if found.iter().all(is_allowed) => Ok(*first),
        Some(_) => Err(never("its host is in a private network")),
        None => Err(NoFile::NotNow("its host is not known".to_owned())),
    }
}

/// Whether an address is one of the public internet.
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            !(ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_broadcast()
                || ip.is_documentation()
                || ip.is_multicast()
                || a == 0
                || a >= 240
                || (a == 100 && (64..128).contains(&b))
                || (a == 192 && b == 0 && c == 0)
                || (a == 198 && (18..20).contains(&b)))
        }
        IpAddr::V6(ip) => {
            let first = ip.segments()[0];
            // Global unicast only, without what wraps an address of IPv4 or is for documents.
            (first & 0xe000) == 0x2000
                && first != 0x2002
                && !(first == 0x2001 && ip.segments()[1] <= 0x01ff)
                && !(first == 0x2001 && ip.segments()[1] == 0x0db8)
        }
    }
}

/// The type of a file: of what its name and its host say, what its content is.
fn file_type(name: Option<&str>, declared: [Option<&str>; 2], content: &[u8]) -> Option<FileType> {
    const ENDINGS: [(&str, FileType); 18] = [
        ("png", FileType::Png),
        ("jpg", FileType::Jpeg),
        ("jpeg", FileType::Jpeg),
        ("gif", FileType::Gif),
        ("webp", FileType::Webp),
        ("pdf", FileType::Pdf),
        ("txt", FileType::Text),
        ("log", FileType::Text),
        ("md", FileType::Text),
        ("csv", FileType::Csv),
        ("doc", FileType::Doc),
        ("docx", FileType::Docx),
        ("xlsx", FileType::Xlsx),
        ("eml", FileType::Eml),
        ("msg", FileType::Msg),
        ("heic", FileType::Heic),
        ("heif", FileType::Heic),
        ("zip", FileType::Zip),
    ];
    let ending = name.and_then(|name| name.rsplit_once('.'));
    let ending = ending.map(|(_, ending)| ending.to_ascii_lowercase());
    let by_ending = ENDINGS
        .iter()
        .filter(|(known, _)| ending.as_deref() == Some(*known))
        .map(|(_, mime)| *mime);
    let by_word = declared.into_iter().flatten().filter_map(|text| {
        let essence = text.split(';').next().unwrap_or_default().trim();
        FileType::parse(&essence.to_ascii_lowercase())
    });
    // Teams declares pictures as `image/*`.
    let images = FileType::ALL.iter().copied().filter(|mime| mime.is_image());
    let mut candidates = by_ending.chain(by_word).chain(images);
    candidates.find(|mime| mime.is_content(content))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_files_of_a_message_are_its_attachments_without_text_and_cards() {
        let attachments = [
            json!({"contentType": "text/html", "content": "<p>Hi</p>"}),
            json!({"contentType": "image/*", "contentUrl": "https://smba.trafficmanager.net/a/v3/attachments/1/views/original"}),
            json!({"contentType": DOWNLOAD, "name": "a.pdf", "contentUrl": "https://c.sharepoint.com/a.pdf",
                   "content": {"downloadUrl": "https://c.sharepoint.com/d?t=1", "uniqueId": "u", "fileType": "pdf"}}),
            json!({"contentType": "application/vnd.microsoft.card.adaptive", "content": {}}),
            json!({"contentType": "reference", "contentUrl": "https://c.sharepoint.com/x.docx", "name": "x.docx"}),
            json!({"contentType": "image/png"}),
        ];
        let file = |url: &str, name: Option<&str>, content_type: Option<&str>| NamedFile {
            url: url.to_owned(),
            name: name.map(str::to_owned),
            content_type: content_type.map(str::to_owned),
        };
        assert_eq!(
            named_in(&attachments),
            [
                file(
                    "https://smba.trafficmanager.net/a/v3/attachments/1/views/original",
                    None,
                    Some("image/*")
                ),
                file("https://c.sharepoint.com/d?t=1", Some("a.pdf"), None),
                file("", Some("x.docx"), Some("reference")),
            ]
        );
    }

    #[test]
    fn only_public_addresses_are_connected_to() {
        let is_public = |text: &str| is_public(text.parse().unwrap());
        for address in ["13.107.136.10", "2620:1ec:8f8::10", "52.112.0.1"] {
            assert!(is_public(address), "{address}");
        }
        for address in [
            "127.0.0.1",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "198.18.0.1",
            "192.0.0.8",
            "240.0.0.1",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "2002:a00:1::",
            "2001:db8::1",
            "2001::1",
            "ff02::1",
        ] {
            assert!(!is_public(address), "{address}");
        }
    }

    #[test]
    fn the_type_of_a_file_is_what_its_content_is() {
        let png = b"\x89PNG\r\n\x1a\n----";
        assert_eq!(
            file_type(None, [Some("image/*"), None], png),
            Some(FileType::Png)
        );
        assert_eq!(
            file_type(Some("a.JPG"), [None, None], png),
            Some(FileType::Png)
        );
        assert_eq!(
            file_type(Some("a.log"), [None, None], b"line"),
            Some(FileType::Text)
        );
        assert_eq!(
            file_type(None, [None, Some("text/csv; charset=utf-8")], b"a,b"),
            Some(FileType::Csv)
        );
        assert_eq!(
            file_type(Some("a.exe"), [None, Some("application/pdf")], b"MZ"),
            None
        );
    }
}
