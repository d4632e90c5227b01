//! Reads a session's stream, byte by byte if needed, and checks every event against the contract.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long the next event may take; only a failing test waits this long.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Every type of envelope, with its required and its optional fields.
const ENVELOPES: &[(&str, &[&str], &[&str])] = &[
    ("start", &[], &["messageId", "messageMetadata"]),
    ("start-step", &[], &[]),
    ("finish-step", &[], &[]),
    ("text-start", &["id"], &["providerMetadata"]),
    ("text-delta", &["id", "delta"], &[]),
    ("text-end", &["id"], &["providerMetadata"]),
    ("reasoning-start", &["id"], &["providerMetadata"]),
    ("reasoning-delta", &["id", "delta"], &[]),
    ("reasoning-end", &["id"], &["providerMetadata"]),
    ("source-url", &["sourceId", "url"], &["title"]),
    (
        "source-document",
        &["sourceId", "mediaType", "title"],
        &["filename"],
    ),
    ("file", &["url", "mediaType"], &[]),
    ("finish", &["finishReason"], &["messageMetadata"]),
    ("abort", &[], &[]),
    ("error", &["errorText"], &[]),
];

/// An event of the stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The event's cursor.
    pub id: String,
    /// The event's data.
    pub envelope: Value,
}

impl Event {
    /// The envelope's type.
    pub fn kind(&self) -> &str {
        self.envelope["type"].as_str().unwrap()
    }

    /// Whether the event ends its turn.
    pub fn is_terminal(&self) -> bool {
        ["finish", "abort", "error"].contains(&self.kind())
    }

    /// The text that the event adds to the answer.
    pub fn text(&self) -> &str {
        match self.kind() {
            "text-delta" => self.envelope["delta"].as_str().unwrap(),
            _ => "",
        }
    }
}

/// The next item of a stream.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// An event.
    Event(Event),
    /// `[DONE]`.
    Done,
    /// The regular end of the reply.
    End,
    /// The end of the connection in the middle of the reply.
    Broken,
    /// The reader's byte budget is used up.
    Cut,
}

/// A reader of one stream.
pub struct Events {
    stream: TcpStream,
    /// The reply's status.
    pub status: u16,
    /// The reply's head, unchanged.
    pub head: String,
    /// Received bytes that are not decoded yet.
    wire: Vec<u8>,
    /// Bytes of the body that are not a whole event yet.
    body: Vec<u8>,
    /// The remaining bytes of the current chunk, including its closing line end.
    in_chunk: usize,
    has_ended: bool,
    /// The number of bytes that may still be read.
    budget: usize,
    last: Option<(u64, u64)>,
    comments: usize,
}

impl Events {
    /// Requests a session's stream; `query` without the question mark.
    pub fn open(address: impl ToSocketAddrs, key: &str, session: &str, query: &str) -> Self {
        Self::ask(address, key, session, query, "")
    }

    /// Requests a stream with more header lines, each ended by `\r\n`.
    pub fn ask(
        address: impl ToSocketAddrs,
        key: &str,
        session: &str,
        query: &str,
        headers: &str,
    ) -> Self {
        Self::over(
            TcpStream::connect(address).unwrap(),
            key,
            session,
            query,
            headers,
        )
    }

    /// Requests a stream over an existing connection.
    pub fn over(
        mut stream: TcpStream,
        key: &str,
        session: &str,
        query: &str,
        headers: &str,
    ) -> Self {
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream.set_nodelay(true).unwrap();
        let request = format!(
            "GET /public-api/chat/sessions/{session}/events?{query} HTTP/1.1\r\nhost: switchboard\r\n\
             authorization: Bearer {key}\r\n{headers}\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut wire = Vec::new();
        let mut buffer = [0; 4_096];
        let end = loop {
            if let Some(end) = wire.windows(4).position(|four| four == b"\r\n\r\n") {
                break end;
            }
            let read = stream.read(&mut buffer).unwrap();
            assert!(read > 0, "the stream got no head");
            wire.extend_from_slice(&buffer[..read]);
        };
        let head = String::from_utf8(wire[..end].to_vec()).unwrap();
        wire.drain(..end + 4);
        Self {
            stream,
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head,
            wire,
            body: Vec::new(),
            in_chunk: 0,
            has_ended: false,
            budget: usize::MAX,
            last: None,
            comments: 0,
        }
    }

    /// Limits further reads to this number of bytes.
    pub fn cut_after(mut self, bytes: usize) -> Self {
        let more = self.wire.len().min(bytes);
        self.wire.truncate(more);
        self.budget = bytes - more;
        self
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// Waits for the next item; comments are skipped.
    #[track_caller]
    pub fn next(&mut self) -> Next {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            self.decode();
            if let Some(next) = self.take() {
                return next;
            }
            if self.has_ended {
                assert!(self.body.is_empty(), "the stream ended amid an event");
                return Next::End;
            }
            if self.budget == 0 {
                return Next::Cut;
            }
            assert!(Instant::now() < deadline, "nothing more comes");
            if !self.read_on() {
                return Next::Broken;
            }
        }
    }

    /// Waits for this number of comments on an idle stream.
    #[track_caller]
    pub fn wait_for_comments(&mut self, comments: usize) {
        while self.comments < comments {
            assert!(self.read_on(), "the connection broke");
            self.decode();
            assert_eq!(self.take(), None);
        }
    }

    /// Waits for more bytes; returns whether more may follow.
    #[track_caller]
    fn read_on(&mut self) -> bool {
        let mut buffer = [0; 16_384];
        let most = buffer.len().min(self.budget);
        match self.stream.read(&mut buffer[..most]) {
            Ok(0) => false,
            Ok(read) => {
                self.budget -= read;
                self.wire.extend_from_slice(&buffer[..read]);
                true
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("nothing more comes: {error}"),
        }
    }

    /// Waits for an event.
    #[track_caller]
    pub fn event(&mut self) -> Event {
        match self.next() {
            Next::Event(event) => event,
            other @ (Next::Done | Next::End | Next::Broken | Next::Cut) => {
                panic!("an event was to come, not {other:?}")
            }
        }
    }

    /// Reads until an answer's text contains this, for a turn that does not end by itself.
    #[track_caller]
    pub fn read_until_text(&mut self, wanted: &str) -> Vec<Event> {
        let mut events = Vec::new();
        while !text_of(&events).contains(wanted) {
            events.push(self.event());
        }
        events
    }

    /// Reads up to a turn's terminal event.
    #[track_caller]
    pub fn turn(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            events.push(self.event());
            if events[events.len() - 1].is_terminal() {
                return events;
            }
        }
    }

    /// Reads to the end, which must be a terminal event, `[DONE]` and the end of the reply.
    #[track_caller]
    pub fn rest(mut self) -> Vec<Event> {
        let events = self.turn();
        assert_eq!(self.next(), Next::Done);
        assert_eq!(self.next(), Next::End);
        events
    }

    /// Decodes the chunked transfer coding.
    fn decode(&mut self) {
        loop {
            if self.in_chunk > 0 {
                let have = self.wire.len().min(self.in_chunk);
                // The last two bytes of a chunk are its line end.
                let of_body = have.min(self.in_chunk.saturating_sub(2));
                self.body.extend_from_slice(&self.wire[..of_body]);
                self.wire.drain(..have);
                self.in_chunk -= have;
                if self.in_chunk > 0 {
                    return;
                }
            }
            let Some(end) = self.wire.windows(2).position(|two| two == b"\r\n") else {
                return;
            };
            let size = std::str::from_utf8(&self.wire[..end]).unwrap();
            let size = usize::from_str_radix(size, 16).unwrap();
            if size == 0 {
                self.has_ended = self.wire.len() >= end + 4;
                return;
            }
            self.wire.drain(..end + 2);
            self.in_chunk = size + 2;
        }
    }

    fn take(&mut self) -> Option<Next> {
        loop {
            let end = self.body.windows(2).position(|two| two == b"\n\n")?;
            let text = String::from_utf8(self.body[..end].to_vec()).unwrap();
            self.body.drain(..end + 2);
            if text.starts_with(':') {
                assert_eq!(text, ": keep-alive");
                self.comments += 1;
                continue;
            }
            if text == "data: [DONE]" {
                return Some(Next::Done);
            }
            let lines: Vec<&str> = text.split('\n').collect();
            let [id, data] = lines.as_slice() else {
                panic!("an event has an id and one line of data, not {text:?}");
            };
            let id = id.strip_prefix("id: ").unwrap().to_owned();
            let envelope = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
            hold_to_the_table(&envelope);
            let cursor = pair(&id);
            assert!(self.last < Some(cursor), "{id} does not grow");
            self.last = Some(cursor);
            return Some(Next::Event(Event { id, envelope }));
        }
    }
}

/// The pair of numbers in a cursor.
pub fn pair(cursor: &str) -> (u64, u64) {
    let (millis, sequence) = cursor.split_once('-').unwrap();
    (millis.parse().unwrap(), sequence.parse().unwrap())
}

/// Asserts all required fields, no unknown ones, and no `null` at any depth.
fn hold_to_the_table(envelope: &Value) {
    let fields = envelope.as_object().unwrap();
    let kind = fields["type"].as_str().unwrap();
    let (_, required, optional) = ENVELOPES
        .iter()
        .find(|(name, ..)| *name == kind)
        .unwrap_or_else(|| panic!("{envelope} is of no known type"));
    for name in *required {
        assert!(fields.contains_key(*name), "{envelope} lacks {name}");
    }
    for name in fields.keys() {
        let known = required.contains(&name.as_str()) || optional.contains(&name.as_str());
        assert!(name == "type" || known, "{envelope} has {name}");
    }
    assert!(!has_null(envelope), "{envelope} has null");
}

fn has_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.iter().any(has_null),
        Value::Object(fields) => fields.values().any(has_null),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// The answer's text in these events.
pub fn text_of(events: &[Event]) -> String {
    events.iter().map(Event::text).collect()
}

/// The envelopes with adjacent deltas of a part joined, which do not depend on how deltas are
/// split.
pub fn joined(events: &[Event]) -> Vec<Value> {
    let mut joined: Vec<Value> = Vec::new();
    for Event { envelope, .. } in events {
        if let (Some(last), Some(delta)) = (joined.last_mut(), envelope["delta"].as_str())
            && last["type"] == envelope["type"]
            && last["id"] == envelope["id"]
        {
            let text = last["delta"].as_str().unwrap().to_owned() + delta;
            last["delta"] = json!(text);
        } else {
            joined.push(envelope.clone());
        }
    }
    joined
}
