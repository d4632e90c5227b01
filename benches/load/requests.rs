//! The requests that are measured. Each is formatted once, so that sending it costs little.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::measure::Source;
use crate::numbers::Random;

/// The ordinary key of the first MSP in the seed file.
const ORDINARY_KEY: &str = "neo_sk_bench_northwind00000000";
/// The relay's key.
const RELAY_KEY: &str = "neo_sk_bench_relay0000platform";
/// The key of the flooding MSP, and its agent.
pub const KEY_OF_FLOOD: &str = "neo_sk_bench_flood000000000000";
pub const AGENT_OF_FLOOD: i64 = 301;
/// The key of the third MSP in a big file.
const KEY_IN_BIG_FILE: &str = "neo_sk_bench_program00000002";
/// An agent for the technicians of the first MSP.
const AGENT: i64 = 102;
/// Another agent of the first MSP, which answers from articles.
const LIBRARIAN: i64 = 103;
/// The white-label bot, and its installs: each an agent and an M365 tenant.
const BOT: &str = "b07fab1e-c0de-4bee-8ace-facade0fb075";
const INSTALLS: [(i64, &str); 4] = [
    (101, "ca5cade0-4ce5-4d0e-9b1d-0f0a51deca5e"),
    (101, "0ddba110-face-4fee-9add-1eaf1ed0dd01"),
    (101, "c0ffee00-be4d-4ade-8d0e-decafdecaf00"),
    (201, "adbead00-70b0-4a7e-8a11-5ade0f0e5ea1"),
];
/// A search for the sessions that contain a common word.
const SEARCH: &str = "/chat/sessions?q=printer&page_size=20";
/// The number of an agent that does not exist.
const NO_AGENT: i64 = 999_999;
/// The number of messages for a session, so that never too many of its turns are queued.
const APPENDS_PER_SESSION: usize = 15;
const MESSAGE: &str = "The printer on the second floor shows error 0x0000011b since this morning. I restarted it twice; \
                       other people can print. What can I try before somebody comes over?";

fn post(key: &str, path: &str, header: &str, body: &str) -> Vec<u8> {
    send("POST", key, path, header, body)
}

fn send(method: &str, key: &str, path: &str, header: &str, body: &str) -> Vec<u8> {
    format!(
        "{method} /public-api{path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n{header}\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn get(path: &str) -> Vec<u8> {
    get_as(ORDINARY_KEY, path)
}

fn get_as(key: &str, path: &str) -> Vec<u8> {
    format!(
        "GET /public-api{path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\r\n"
    )
    .into_bytes()
}

fn create_body(agent: i64) -> String {
    format!(r#"{{"agent_id": {agent}}}"#)
}

fn routed_body((agent, inbound): (i64, &str)) -> String {
    format!(r#"{{"agent_id": {agent}, "bot_id": "{BOT}", "inbound_tenant_id": "{inbound}"}}"#)
}

/// A source that sends a few requests in turn.
pub struct Rotating {
    requests: Vec<Vec<u8>>,
    sent: AtomicUsize,
}

impl Rotating {
    fn new(requests: Vec<Vec<u8>>) -> Self {
        Self {
            requests,
            sent: AtomicUsize::new(0),
        }
    }

    /// An ordinary service account opens sessions with an agent of its own.
    pub fn creates() -> Self {
        Self::new(vec![create()])
    }

    /// The relay opens sessions where a white-label bot is installed.
    pub fn white_label_creates() -> Self {
        Self::new(INSTALLS.map(white_label_create).into())
    }

    /// The relay asks for dry runs.
    pub fn dry_runs() -> Self {
        Self::new(INSTALLS.map(dry_run).into())
    }

    /// Reads the newest sessions of a tenant.
    pub fn list_pages() -> Self {
        Self::new(vec![list_page()])
    }

    /// Long searches of two tenants of a big file.
    ///
    /// Each is for a common word in the sessions of an agent that does not exist.
    pub fn long_searches() -> Self {
        let search = |key| get_as(key, &format!("{SEARCH}&agent_id={NO_AGENT}"));
        Self::new([ORDINARY_KEY, KEY_IN_BIG_FILE].map(search).into())
    }

    /// Reads the first messages of these sessions.
    pub fn message_pages(sessions: &[String]) -> Self {
        let page = |id: &String| get(&format!("/chat/sessions/{id}/messages?page_size=20"));
        Self::new(sessions.iter().map(page).collect())
    }
}

impl Source for Rotating {
    fn next(&self, request: &mut Vec<u8>) -> bool {
        let turn = self.sent.fetch_add(1, Ordering::Relaxed) % self.requests.len();
        request.extend_from_slice(&self.requests[turn]);
        true
    }
}

/// Opens a session where the white-label bot is installed.
fn white_label_create(install: (i64, &str)) -> Vec<u8> {
    post(RELAY_KEY, "/chat/sessions", "", &routed_body(install))
}

/// A dry run of the same request.
fn dry_run(install: (i64, &str)) -> Vec<u8> {
    let body = routed_body(install);
    post(RELAY_KEY, "/chat/sessions/resolve", "", &body)
}

/// Reads the newest sessions of the first MSP.
pub fn list_page() -> Vec<u8> {
    get("/chat/sessions?page_size=20")
}

/// Returns one of the requests of a user who browses.
pub fn browsing_request(numbers: &mut Random) -> Vec<u8> {
    match numbers.below(40) {
        0 => get(SEARCH),
        1..=10 => dry_run(numbers.pick(&INSTALLS)),
        11..=20 => white_label_create(numbers.pick(&INSTALLS)),
        _ => list_page(),
    }
}

/// Deletes or archives a session.
pub fn delete_or_archive(session: &str, numbers: &mut Random) -> Vec<u8> {
    let path = format!("/chat/sessions/{session}");
    match numbers.below(2) {
        0 => send("DELETE", ORDINARY_KEY, &path, "", ""),
        _ => send("PATCH", ORDINARY_KEY, &path, "", r#"{"archived": true}"#),
    }
}

/// Asks for the server's readiness.
pub fn ready() -> Vec<u8> {
    get("/ready")
}

/// The request of a plain create.
pub fn create() -> Vec<u8> {
    post(ORDINARY_KEY, "/chat/sessions", "", &create_body(AGENT))
}

/// The same request of the flooding MSP.
pub fn create_of_flood() -> Vec<u8> {
    let body = create_body(AGENT_OF_FLOOD);
    post(KEY_OF_FLOOD, "/chat/sessions", "", &body)
}

/// Questions to the librarian, which have short and long answers, with and without sources.
pub const QUESTIONS: [&str; 6] = [
    "Hello",
    MESSAGE,
    "The VPN drops every few minutes",
    "How do I restore a file from the backup of last night?",
    "A mailbox is full, and a user got a suspicious message",
    "zzyzx",
];

/// Opens a session with the librarian.
pub fn create_with_articles() -> Vec<u8> {
    post(ORDINARY_KEY, "/chat/sessions", "", &create_body(LIBRARIAN))
}

/// Sends a question. Under the same `message_id`, a repeated question is accepted once.
pub fn append(session: &str, message: &str, message_id: Option<&str>) -> Vec<u8> {
    let body = serde_json::json!({ "message": message, "client_message_id": message_id });
    let path = format!("/chat/sessions/{session}/messages");
    post(ORDINARY_KEY, &path, "", &body.to_string())
}

/// Reads all messages of a short session.
pub fn messages(session: &str) -> Vec<u8> {
    get(&format!("/chat/sessions/{session}/messages?page_size=200"))
}

/// Follows a session's answers, the current one and later ones.
pub fn follow(session: &str) -> Vec<u8> {
    get(&format!("/chat/sessions/{session}/events?follow=true"))
}

/// Reads an answer from a cursor, which is in the URL or in the header.
pub fn resume(session: &str, cursor: &str, in_header: bool) -> Vec<u8> {
    let path = format!("/chat/sessions/{session}/events");
    if in_header {
        return format!(
            "GET /public-api{path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {ORDINARY_KEY}\r\n\
             Last-Event-Id: {cursor}\r\n\r\n"
        )
        .into_bytes();
    }
    get(&format!("{path}?since={cursor}"))
}

/// Creates, each with its own `Idempotency-Key`.
pub struct Keyed {
    /// A number that distinguishes this run's keys from those in the file.
    run: u128,
    sent: AtomicUsize,
}

impl Keyed {
    pub fn new() -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self {
            run: since.map_or(0, |since| since.as_nanos()),
            sent: AtomicUsize::new(0),
        }
    }
}

impl Source for Keyed {
    fn next(&self, request: &mut Vec<u8>) -> bool {
        let number = self.sent.fetch_add(1, Ordering::Relaxed);
        let header = format!("Idempotency-Key: {:x}-{number}\r\n", self.run);
        let body = create_body(AGENT);
        request.extend_from_slice(&post(ORDINARY_KEY, "/chat/sessions", &header, &body));
        true
    }
}

/// Messages, distributed over many sessions.
pub struct Appends {
    requests: Vec<Vec<u8>>,
    sent: AtomicUsize,
}

impl Appends {
    pub fn new(sessions: &[String]) -> Self {
        Self {
            requests: sessions
                .iter()
                .map(|id| append(id, MESSAGE, None))
                .collect(),
            sent: AtomicUsize::new(0),
        }
    }
}

/// Messages of Teams to a bot, distributed over many group chats.
pub struct Activities {
    /// A number that distinguishes this cell's messages from those of others.
    run: u128,
    service_url: String,
    conversations: usize,
    sent: AtomicUsize,
}

impl Activities {
    /// Messages for this many conversations, whose answers go to this URL.
    pub fn new(service_url: &str, conversations: usize) -> Self {
        Self {
            run: Keyed::new().run,
            service_url: service_url.to_owned(),
            conversations,
            sent: AtomicUsize::new(0),
        }
    }
}

impl Source for Activities {
    fn next(&self, request: &mut Vec<u8>) -> bool {
        let number = self.sent.fetch_add(1, Ordering::Relaxed);
        if number >= self.conversations * APPENDS_PER_SESSION {
            return false;
        }
        let (run, conversation) = (self.run, number % self.conversations);
        let (_, directory) = INSTALLS[0];
        let activity = serde_json::json!({
            "type": "message", "id": format!("{run:x}-{number}"), "channelId": "msteams",
            "serviceUrl": self.service_url, "text": format!("<at>Helper</at> {MESSAGE}"),
            "from": { "id": "29:kim", "name": "Kim", "aadObjectId": "0b1ec700-c0de-4aaa-8bbb-00000000c1a0" },
            "recipient": { "id": format!("28:{BOT}"), "name": "Helper" },
            "conversation": {
                "id": format!("19:{run:x}-{conversation}@thread.v2"), "tenantId": directory, "conversationType": "groupChat",
            },
            "channelData": { "tenant": { "id": directory } },
            "entities": [{ "type": "mention", "text": "<at>Helper</at>", "mentioned": { "id": format!("28:{BOT}"), "name": "Helper" } }],
        })
        .to_string();
        let head = format!(
            "POST /api/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            activity.len()
        );
        request.extend_from_slice(head.as_bytes());
        request.extend_from_slice(activity.as_bytes());
        true
    }
}

impl Source for Appends {
    fn next(&self, request: &mut Vec<u8>) -> bool {
        let number = self.sent.fetch_add(1, Ordering::Relaxed);
        if number >= self.requests.len() * APPENDS_PER_SESSION {
            return false;
        }
        request.extend_from_slice(&self.requests[number % self.requests.len()]);
        true
    }
}
