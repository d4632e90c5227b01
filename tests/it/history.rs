//! Histories of clients: the operations that a server acknowledged, checked against a database.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

use serde_json::{Value, json};
use switchboard::model::clock::Clock;
use switchboard::store::check;

use crate::database::{Database, Row};
use crate::process::NORTHWIND;
use crate::random::Random;
use crate::wire::{Connection, Reply, Request};

/// An operation that a client requested.
#[derive(Debug)]
pub struct Operation {
    /// The length of the server's recording at the request.
    sent_at: u64,
    /// The length of the recording at the acknowledgement; `None` without one.
    acknowledged_at: Option<u64>,
    change: Change,
}

#[derive(Debug)]
enum Change {
    Session {
        id: String,
        title: String,
        key: String,
        data: Value,
    },
    Title {
        session: String,
        title: String,
    },
    Message {
        session: String,
        id: String,
        text: String,
    },
    File {
        session: String,
        id: String,
        content: Vec<u8>,
    },
    Deletion {
        session: String,
        key: String,
    },
    Company {
        id: String,
        name: String,
    },
}

impl Operation {
    /// The length of the server's recording at the acknowledgement.
    pub fn acknowledged_at(&self) -> Option<u64> {
        self.acknowledged_at
    }
}

/// The outcome of a call that failed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// A reply with this status and code.
    Status(u16, String),
    /// The connection ended without a reply.
    NoReply,
}

/// A client that makes one request at a time and keeps their history.
pub struct Writer<'a> {
    name: String,
    address: SocketAddr,
    connection: Option<Connection>,
    random: Random,
    /// The current length of the recording.
    recorded: &'a (dyn Fn() -> u64 + Sync),
    /// The client's sessions, with their idempotency keys.
    sessions: Vec<(String, String)>,
    companies: usize,
    number: usize,
    /// The client's operations.
    pub history: Vec<Operation>,
    /// The kinds of refusals that the client got.
    pub refusals: BTreeSet<Refusal>,
}

impl<'a> Writer<'a> {
    /// A client with a unique name, which all its texts contain.
    pub fn new(
        name: String,
        address: SocketAddr,
        seed: u64,
        recorded: &'a (dyn Fn() -> u64 + Sync),
    ) -> Self {
        Self {
            name,
            address,
            connection: None,
            random: Random::new(seed),
            recorded,
            sessions: Vec::new(),
            companies: 0,
            number: 0,
            history: Vec::new(),
            refusals: BTreeSet::new(),
        }
    }

    /// Creates a session with messages, and at random a title, a file, a deletion, a company.
    ///
    /// # Errors
    /// The first refusal; the client stops there.
    pub fn write_some(&mut self) -> Result<(), Refusal> {
        let session = self.write_session()?;
        if self.random.chance(1, 3) {
            self.update_title(&session)?;
        }
        if self.random.chance(1, 4) {
            self.upload(&session)?;
        }
        if self.random.chance(1, 3) {
            self.delete()?;
        }
        if self.random.chance(1, 3) {
            self.write_company()?;
        }
        Ok(())
    }

    /// Creates a session and appends messages to it.
    ///
    /// # Errors
    /// The first refusal; the client stops there.
    pub fn write_session(&mut self) -> Result<String, Refusal> {
        let session = self.create_session()?;
        for _ in 0..=self.random.below(3) {
            self.append(&session)?;
        }
        Ok(session)
    }

    /// A text that this client has not used before.
    fn text(&mut self, what: &str) -> String {
        self.number += 1;
        format!("{}, {what} {}", self.name, self.number)
    }

    fn create_session(&mut self) -> Result<String, Refusal> {
        let title = self.text("session");
        let key = title.replace([' ', ','], "-");
        let request = post(
            "/chat/sessions",
            &json!({ "agent_id": 102, "title": title }),
        );
        let request = request.header("idempotency-key", key.as_str());
        let (sent_at, reply) = self.call(&request)?;
        let data = reply.json()["data"].clone();
        let id = data["id"].as_str().unwrap().to_owned();
        self.sessions.push((id.clone(), key.clone()));
        let change = Change::Session {
            id: id.clone(),
            title,
            key,
            data,
        };
        self.record_acknowledged(sent_at, change);
        Ok(id)
    }

    fn append(&mut self, session: &str) -> Result<(), Refusal> {
        let text = self.text("How do I connect to the VPN? Message");
        let body = json!({ "message": text, "client_message_id": text });
        let path = format!("/chat/sessions/{session}/messages");
        let (sent_at, reply) = self.call(&post(&path, &body))?;
        let change = Change::Message {
            session: session.to_owned(),
            id: of(&reply, "user_message_id"),
            text,
        };
        self.record_acknowledged(sent_at, change);
        Ok(())
    }

    fn update_title(&mut self, session: &str) -> Result<(), Refusal> {
        let title = self.text("title");
        let path = format!("/public-api/chat/sessions/{session}");
        let request = Request::new("PATCH", path).json(&json!({ "title": title }));
        let session = session.to_owned();
        self.attempt(Change::Title { session, title }, &request)
    }

    fn upload(&mut self, session: &str) -> Result<(), Refusal> {
        let length = 1 + self.random.below(100_000);
        let content = self.text("file").into_bytes();
        let content: Vec<u8> = content.into_iter().cycle().take(length).collect();
        let path = format!("/chat/sessions/{session}/attachments/upload-url");
        let (_, reply) = self.call(&post(&path, &json!({ "content_type": "text/plain" })))?;
        let (url, blob) = (of(&reply, "upload_url"), of(&reply, "blob_path"));
        let target = url.strip_prefix("http://localhost").unwrap();
        let put = Request::new("PUT", target).bytes(content.clone());
        let change = Change::File {
            session: session.to_owned(),
            id: blob.rsplit_once('/').unwrap().1.to_owned(),
            content,
        };
        self.attempt(change, &put)
    }

    /// Deletes a random one of the client's sessions.
    ///
    /// # Errors
    /// The refusal.
    pub fn delete(&mut self) -> Result<(), Refusal> {
        let which = self.random.below(self.sessions.len());
        let (session, key) = self.sessions.swap_remove(which);
        let path = format!("/public-api/chat/sessions/{session}");
        let request = Request::new("DELETE", path);
        self.attempt(Change::Deletion { session, key }, &request)
    }

    fn write_company(&mut self) -> Result<(), Refusal> {
        let name = self.text("company");
        let is_new = self.companies == 0 || self.random.chance(1, 2);
        let number = if is_new {
            self.companies + 1
        } else {
            1 + self.random.below(self.companies)
        };
        let id = format!("{}-{number}", self.name.replace([' ', ','], "-"));
        let request = if is_new {
            post(
                "/end-companies",
                &json!({ "psa_company_id": id, "psa_company_name": name }),
            )
        } else {
            let path = format!("/public-api/end-companies/{id}");
            Request::new("PUT", path).json(&json!({ "psa_company_name": name }))
        };
        self.attempt(Change::Company { id, name }, &request)?;
        self.companies += usize::from(is_new);
        Ok(())
    }

    /// Requests a change that is known beforehand, which may or may not exist if no reply comes.
    fn attempt(&mut self, change: Change, request: &Request) -> Result<(), Refusal> {
        let sent_at = (self.recorded)();
        let outcome = self.call(request);
        let acknowledged_at = outcome.is_ok().then(self.recorded);
        self.history.push(Operation {
            sent_at,
            acknowledged_at,
            change,
        });
        outcome.map(drop)
    }

    fn record_acknowledged(&mut self, sent_at: u64, change: Change) {
        self.history.push(Operation {
            sent_at,
            acknowledged_at: Some((self.recorded)()),
            change,
        });
    }

    fn call(&mut self, request: &Request) -> Result<(u64, Reply), Refusal> {
        let sent_at = (self.recorded)();
        let outcome = match self.exchange(request) {
            Ok(Some(reply)) if reply.status < 300 => return Ok((sent_at, reply)),
            Ok(Some(reply)) => {
                let code = reply.json()["error"]["code"].as_str().unwrap().to_owned();
                Refusal::Status(reply.status, code)
            }
            Ok(None) | Err(_) => Refusal::NoReply,
        };
        self.refusals.insert(outcome.clone());
        Err(outcome)
    }

    fn exchange(&mut self, request: &Request) -> io::Result<Option<Reply>> {
        let request = request
            .clone()
            .header("authorization", format!("Bearer {NORTHWIND}"));
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::over(TcpStream::connect(self.address)?),
        };
        let (reply, connection) = connection.exchange(&request)?;
        self.connection = connection;
        Ok(reply)
    }
}

fn post(path: &str, body: &Value) -> Request {
    Request::new("POST", format!("/public-api{path}")).json(body)
}

fn of(reply: &Reply, name: &str) -> String {
    reply.json()["data"][name].as_str().unwrap().to_owned()
}

/// The data that a folder must hold at a point of the recording, by the acknowledgements so far.
#[derive(Default)]
struct Expected<'a> {
    sessions: HashMap<&'a str, &'a str>,
    replies: HashMap<&'a str, Option<&'a Value>>,
    messages: HashMap<&'a str, (&'a str, &'a str)>,
    files: HashMap<&'a str, (&'a str, &'a [u8])>,
    companies: HashMap<&'a str, &'a str>,
    gone: HashSet<&'a str>,
    /// Sessions with a requested, unacknowledged deletion.
    may_be_gone: HashSet<&'a str>,
    /// Requested, unacknowledged titles and names.
    may_be: HashMap<&'a str, HashSet<&'a str>>,
}

impl<'a> Expected<'a> {
    fn at(histories: &'a [Vec<Operation>], length: u64) -> Self {
        let mut expected = Self::default();
        for operation in histories.iter().flatten() {
            if operation
                .acknowledged_at
                .is_some_and(|acknowledged_at| acknowledged_at <= length)
            {
                expected.add(&operation.change);
            } else if operation.sent_at <= length {
                match &operation.change {
                    Change::Deletion { session, key } => {
                        expected.may_be_gone.insert(session);
                        expected.replies.remove(key.as_str());
                    }
                    Change::Title { session, title } => {
                        expected.may_be.entry(session).or_default().insert(title);
                    }
                    Change::Company { id, name } => {
                        expected.may_be.entry(id).or_default().insert(name);
                    }
                    Change::Session { .. } | Change::Message { .. } | Change::File { .. } => {}
                }
            }
        }
        let (gone, may_be_gone) = (&expected.gone, &expected.may_be_gone);
        let stays = |session: &str| !gone.contains(session) && !may_be_gone.contains(session);
        expected.sessions.retain(|session, _| stays(session));
        expected.messages.retain(|_, (session, _)| stays(session));
        expected.files.retain(|_, (session, _)| stays(session));
        expected
    }

    fn add(&mut self, change: &'a Change) {
        match change {
            Change::Session {
                id,
                title,
                key,
                data,
            } => {
                self.sessions.insert(id, title);
                self.replies.insert(key, Some(data));
            }
            Change::Title { session, title } => {
                self.sessions.insert(session, title);
                self.may_be.remove(session.as_str());
            }
            Change::Message { session, id, text } => {
                self.messages.insert(id, (session, text));
            }
            Change::File {
                session,
                id,
                content,
            } => {
                self.files.insert(id, (session, content));
            }
            Change::Deletion { session, key } => {
                self.gone.insert(session);
                self.replies.insert(key, None);
            }
            Change::Company { id, name } => {
                self.companies.insert(id, name);
                self.may_be.remove(id.as_str());
            }
        }
    }

    fn rows(&self) -> usize {
        let rows = self.sessions.len() + self.messages.len() + self.files.len();
        rows + self.replies.len() + self.companies.len() + self.gone.len()
    }
}

/// Opens a database as `check` does and compares it with all acknowledgements up to a point.
///
/// Returns the number of compared rows.
///
/// # Errors
/// The database does not open, is damaged, or lacks acknowledged data.
pub fn holds(
    database: &Database,
    histories: &[Vec<Operation>],
    length: u64,
) -> Result<usize, String> {
    let store = database.try_open(Clock::System)?;
    let found = check::run(&store).map_err(|error| error.to_string())?;
    drop(store);
    if !found.damage.is_empty() {
        return Err(found.damage.join("; "));
    }
    let expected = Expected::at(histories, length);
    let lacks = Stored::read(database).lacks(&expected);
    match lacks.as_slice() {
        [] => Ok(expected.rows()),
        [first, ..] => Err(format!(
            "{} rows are not as they were told: {first}",
            lacks.len()
        )),
    }
}

/// The content of a file, with public ids.
struct Stored {
    sessions: HashMap<String, String>,
    messages: HashMap<String, (String, String)>,
    files: HashMap<String, (String, Option<Vec<u8>>)>,
    replies: HashMap<String, Option<String>>,
    companies: HashMap<String, String>,
}

impl Stored {
    fn read(database: &Database) -> Self {
        Self {
            sessions: rows(database, "SELECT id, coalesce(title, '') FROM sessions", |row| {
                (id("ses", row, 0), row.get(1))
            }),
            messages: rows(
                database,
                "SELECT m.id, s.id, m.content FROM messages m JOIN sessions s ON s.seq = m.session_seq",
                |row| (id("msg", row, 0), (id("ses", row, 1), row.get(2))),
            ),
            files: rows(
                database,
                "SELECT a.id, s.id, c.content FROM attachments a JOIN sessions s ON s.seq = a.session_seq
                 LEFT JOIN attachment_contents c ON c.attachment_seq = a.seq",
                |row| (id("att", row, 0), (id("ses", row, 1), row.get(2))),
            ),
            replies: rows(database, "SELECT key, reply FROM idempotency_keys", |row| {
                (row.get(0), row.get(1))
            }),
            companies: rows(
                database,
                "SELECT psa_company_id, psa_company_name FROM end_companies",
                |row| (row.get(0), row.get(1)),
            ),
        }
    }

    /// The expected data that is missing or different.
    fn lacks(&self, expected: &Expected<'_>) -> Vec<String> {
        let mut lacks = Vec::new();
        let mut is = |holds: bool, lack: &dyn Fn() -> String| {
            if !holds {
                lacks.push(lack());
            }
        };
        let is_named = |found: Option<&String>, id: &str, name: &str| {
            let may_be = |found: &str| {
                expected
                    .may_be
                    .get(id)
                    .is_some_and(|names| names.contains(found))
            };
            found.is_some_and(|found| found == name || may_be(found))
        };
        for (id, title) in &expected.sessions {
            let found = self.sessions.get(*id);
            is(is_named(found, id, title), &|| {
                format!("the session {title:?}, found as {found:?}")
            });
        }
        for (id, name) in &expected.companies {
            let found = self.companies.get(*id);
            is(is_named(found, id, name), &|| {
                format!("the company {name:?}, found as {found:?}")
            });
        }
        for (id, (session, text)) in &expected.messages {
            let found = self.messages.get(*id);
            let holds = found.is_some_and(|(of, found)| of == session && found == text);
            is(holds, &|| {
                format!("the message {text:?}, found as {found:?}")
            });
        }
        for (id, (session, content)) in &expected.files {
            let found = self.files.get(*id);
            let holds = found
                .is_some_and(|(of, found)| of == session && found.as_deref() == Some(*content));
            is(holds, &|| {
                format!("the file {id} of {} bytes", content.len())
            });
        }
        for (key, data) in &expected.replies {
            let found = self.replies.get(*key).map(|reply| {
                let reply = reply.as_deref();
                reply.map(|reply| serde_json::from_str::<Value>(reply).unwrap())
            });
            let holds = found.as_ref().is_some_and(|found| found.as_ref() == *data);
            is(holds, &|| format!("the reply to {key}, found as {found:?}"));
        }
        for session in &expected.gone {
            is(!self.sessions.contains_key(*session), &|| {
                format!("the deletion of {session}")
            });
        }
        lacks
    }
}

fn rows<T>(
    database: &Database,
    sql: &str,
    read: impl FnMut(&Row) -> (String, T),
) -> HashMap<String, T> {
    database.rows(sql).iter().map(read).collect()
}

fn id(prefix: &str, row: &Row, column: usize) -> String {
    let bytes: [u8; 16] = row.get(column);
    format!("{prefix}_{}", uuid::Uuid::from_bytes(bytes))
}

/// The secret that signs tokens.
pub fn secret(folder: &Path) -> Option<Vec<u8>> {
    fs::read(folder.join("signing.secret")).ok()
}
