//! Reads the streams of sessions from the network, to their end or for a number of bytes, and
//! measures how long the first word takes.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Failed;
use crate::client::{Connection, ask_each, invalid, made_sessions};
use crate::measure::{Measured, Observed, Target, Window, measure_talk};
use crate::requests::{self, QUESTIONS};

/// The number of questions that a reader follows before it continues with another session.
const QUESTIONS_PER_SESSION: usize = 10;
/// The number of sessions for a second of a cell: with that many questions each, more than a server
/// answers.
const SESSIONS_PER_SECOND: f64 = 400.0;

/// An event.
#[derive(Clone, Debug)]
pub struct Event {
    pub cursor: String,
    pub envelope: Value,
}

impl Event {
    pub fn kind(&self) -> &str {
        self.envelope["type"].as_str().unwrap_or("")
    }

    /// Whether this event ends its turn.
    pub fn is_terminal(&self) -> bool {
        matches!(self.kind(), "finish" | "abort" | "error")
    }

    /// Returns the text that the event adds to the answer.
    pub fn text(&self) -> &str {
        match self.kind() {
            "text-delta" => self.envelope["delta"].as_str().unwrap_or(""),
            _ => "",
        }
    }
}

/// The next element of a stream.
pub enum Next {
    /// The head of a stream, which precedes everything else.
    Begins,
    Event(Event),
    Comment,
    /// The `[DONE]` line.
    Done,
    /// The regular end of the reply.
    End,
    /// The end of the connection before the end of the reply.
    Broken,
    /// The reader's number of bytes is used up.
    Cut,
    /// A status other than 200.
    Refused(u16),
}

/// A reader of a stream.
pub struct Events {
    stream: TcpStream,
    /// Received bytes that are not decoded yet.
    wire: Vec<u8>,
    /// Bytes of the body that are not a complete event yet.
    body: Vec<u8>,
    /// The remaining bytes of the current chunk, including its line end.
    in_chunk: usize,
    has_begun: bool,
    has_ended: bool,
    /// The number of bytes that may still be read.
    budget: usize,
}

impl Events {
    /// Opens a stream, and reads only a number of bytes of the reply.
    pub async fn open(address: SocketAddr, request: &[u8], budget: usize) -> io::Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        stream.write_all(request).await?;
        Ok(Self::of(stream, budget))
    }

    fn of(stream: TcpStream, budget: usize) -> Self {
        Self {
            stream,
            wire: Vec::new(),
            body: Vec::new(),
            in_chunk: 0,
            has_begun: false,
            has_ended: false,
            budget,
        }
    }

    /// Opens another stream on the connection of a stream that was read to its end.
    async fn then(self, request: &[u8]) -> io::Result<Self> {
        let mut stream = self.stream;
        stream.write_all(request).await?;
        Ok(Self::of(stream, self.budget))
    }

    /// Reads to the end, which must follow a complete answer.
    async fn read_out(&mut self) -> io::Result<()> {
        let mut is_whole = false;
        loop {
            match self.next().await? {
                Next::Event(event) => is_whole = event.is_terminal(),
                Next::Begins | Next::Comment | Next::Done => {}
                Next::End if is_whole => return Ok(()),
                Next::End | Next::Broken | Next::Cut => {
                    return Err(invalid("a stream ended inside an answer"));
                }
                Next::Refused(status) => {
                    return Err(invalid(&format!("a stream was refused: {status}")));
                }
            }
        }
    }

    /// Waits for the next element.
    pub async fn next(&mut self) -> io::Result<Next> {
        loop {
            if let Some(next) = self.take()? {
                return Ok(next);
            }
            if self.budget == 0 {
                return Ok(Next::Cut);
            }
            let mut buffer = [0; 4_096];
            let most = buffer.len().min(self.budget);
            match self.stream.read(&mut buffer[..most]).await {
                Ok(0) => return Ok(Next::Broken),
                Ok(read) => {
                    self.budget -= read;
                    self.wire.extend_from_slice(&buffer[..read]);
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Ok(Next::Broken);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits for an event of a stream that continues.
    pub async fn event(&mut self) -> io::Result<Event> {
        loop {
            match self.next().await? {
                Next::Event(event) => return Ok(event),
                Next::Begins | Next::Comment => {}
                Next::Refused(status) => {
                    return Err(invalid(&format!("a stream was refused: {status}")));
                }
                Next::Done | Next::End | Next::Broken | Next::Cut => {
                    return Err(invalid("a stream ended that was to go on"));
                }
            }
        }
    }

    /// Decodes the next element from the received bytes, if it is complete.
    fn take(&mut self) -> io::Result<Option<Next>> {
        if !self.has_begun {
            let Some(end) = self.wire.windows(4).position(|four| four == b"\r\n\r\n") else {
                return Ok(None);
            };
            let status = std::str::from_utf8(&self.wire[..end])
                .ok()
                .and_then(|head| head.split(' ').nth(1)?.parse().ok())
                .ok_or_else(|| invalid("a reply has no status"))?;
            self.wire.drain(..end + 4);
            self.has_begun = true;
            return Ok(Some(match status {
                200 => Next::Begins,
                status => Next::Refused(status),
            }));
        }
        self.decode()?;
        if let Some(end) = self.body.windows(2).position(|two| two == b"\n\n") {
            let next = read_event(&self.body[..end])?;
            self.body.drain(..end + 2);
            return Ok(Some(next));
        }
        if self.has_ended {
            if !self.body.is_empty() {
                return Err(invalid("a stream ended inside an event"));
            }
            return Ok(Some(Next::End));
        }
        Ok(None)
    }

    /// Decodes the chunks of the body.
    fn decode(&mut self) -> io::Result<()> {
        loop {
            if self.in_chunk > 0 {
                let have = self.wire.len().min(self.in_chunk);
                // The last two bytes of a chunk are its line end.
                let of_body = have.min(self.in_chunk.saturating_sub(2));
                self.body.extend_from_slice(&self.wire[..of_body]);
                self.wire.drain(..have);
                self.in_chunk -= have;
                if self.in_chunk > 0 {
                    return Ok(());
                }
            }
            let Some(end) = self.wire.windows(2).position(|two| two == b"\r\n") else {
                return Ok(());
            };
            let size = std::str::from_utf8(&self.wire[..end])
                .ok()
                .and_then(|size| usize::from_str_radix(size, 16).ok())
                .ok_or_else(|| invalid("a chunk has no size"))?;
            if size == 0 {
                self.has_ended = self.wire.len() >= end + 4;
                return Ok(());
            }
            self.wire.drain(..end + 2);
            self.in_chunk = size + 2;
        }
    }
}

fn read_event(text: &[u8]) -> io::Result<Next> {
    let text = std::str::from_utf8(text).map_err(|_| invalid("an event is no text"))?;
    if text.starts_with(':') {
        return Ok(Next::Comment);
    }
    if text == "data: [DONE]" {
        return Ok(Next::Done);
    }
    text.split_once('\n')
        .and_then(|(id, data)| {
            Some(Next::Event(Event {
                cursor: id.strip_prefix("id: ")?.to_owned(),
                envelope: serde_json::from_str(data.strip_prefix("data: ")?).ok()?,
            }))
        })
        .ok_or_else(|| invalid(&format!("not an event: {text:?}")))
}

/// Measures the time from sending an append to the first word of its answer, for a following
/// reader.
pub fn first_deltas(
    server: &dyn Target,
    connections: usize,
    duration: Duration,
) -> Result<Measured, Failed> {
    let number = (duration.as_secs_f64() + 0.5) * SESSIONS_PER_SECOND;
    let create = requests::create_with_articles();
    let sessions: Arc<[String]> = made_sessions(server.address(), &create, number as usize)?.into();
    let taken = Arc::new(AtomicUsize::new(0));
    measure_talk(server, connections, duration, |window| {
        let (sessions, taken) = (Arc::clone(&sessions), Arc::clone(&taken));
        ask_and_read(server.address(), window, sessions, taken)
    })
}

async fn ask_and_read(
    address: SocketAddr,
    window: Window,
    sessions: Arc<[String]>,
    taken: Arc<AtomicUsize>,
) -> io::Result<Observed> {
    let mut connection = Connection::open(address).await?;
    let mut observed = Observed::default();
    while let Some(session) = sessions.get(taken.fetch_add(1, Ordering::Relaxed)) {
        let mut events = Events::open(address, &requests::follow(session), usize::MAX).await?;
        if !matches!(events.next().await?, Next::Begins) {
            return Err(invalid("a reader was refused"));
        }
        for question in QUESTIONS.iter().cycle().take(QUESTIONS_PER_SESSION) {
            let append = requests::append(session, question, None);
            let sent = Instant::now();
            let asked = async {
                match connection.exchange(&append).await? {
                    (202, _) => Ok(()),
                    (status, body) => {
                        let reply = format!("{status} {}", String::from_utf8_lossy(body));
                        Err(io::Error::other(reply))
                    }
                }
            };
            let heard = async {
                while events.event().await?.kind() != "text-delta" {}
                Ok(Instant::now())
            };
            let ((), first) = tokio::try_join!(asked, heard)?;
            while !events.event().await?.is_terminal() {}
            if !observed.take(window, sent, first) {
                return Ok(observed);
            }
        }
    }
    Ok(observed)
}

/// Creates sessions that each have a number of answers.
pub fn answered_sessions(
    server: &dyn Target,
    number: usize,
    answers: usize,
) -> Result<Vec<String>, Failed> {
    let create = requests::create_with_articles();
    let sessions = made_sessions(server.address(), &create, number)?;
    let asks = sessions.iter().cycle().take(number * answers);
    let asks = asks.zip(QUESTIONS.iter().cycle());
    let asks = asks.map(|(id, question)| requests::append(id, question, None));
    ask_each(server.address(), asks.collect())?;
    server.settle()?;
    Ok(sessions)
}

/// Reads the answers of these sessions as streams, each from its first event to its end.
pub fn whole_answers(
    server: &dyn Target,
    sessions: &[String],
    connections: usize,
    duration: Duration,
) -> Result<Measured, Failed> {
    let requests = sessions.iter().map(|id| requests::resume(id, "0-0", false));
    let requests: Arc<[Vec<u8>]> = requests.collect();
    let taken = Arc::new(AtomicUsize::new(0));
    measure_talk(server, connections, duration, |window| {
        let (requests, taken) = (Arc::clone(&requests), Arc::clone(&taken));
        read_whole_answers(server.address(), window, requests, taken)
    })
}

async fn read_whole_answers(
    address: SocketAddr,
    window: Window,
    requests: Arc<[Vec<u8>]>,
    taken: Arc<AtomicUsize>,
) -> io::Result<Observed> {
    let next = || &requests[taken.fetch_add(1, Ordering::Relaxed) % requests.len()];
    let mut observed = Observed::default();
    let mut sent = Instant::now();
    let mut events = Events::open(address, next(), usize::MAX).await?;
    loop {
        events.read_out().await?;
        if !observed.take(window, sent, Instant::now()) {
            return Ok(observed);
        }
        sent = Instant::now();
        events = events.then(next()).await?;
    }
}
