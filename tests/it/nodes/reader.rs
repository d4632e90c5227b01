//! A reader of a stream that goes on at another node with its cursor, whatever happens to the one
//! that it reads from.

use std::io::{self, BufRead, BufReader, Read as _, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::group::Group;
use crate::event_reader::{Event, pair};
use crate::random::Random;

/// How long a stream may take to its end; only a failing test waits this long.
const TIMEOUT: Duration = Duration::from_secs(90);
/// The pause of a client before it asks again.
pub const PAUSE: Duration = Duration::from_millis(20);

/// What a reader wants.
pub struct Wanted<'a> {
    pub key: &'a str,
    pub session: &'a str,
    /// The cursor before the first turn.
    pub since: &'a str,
    /// The number of turns: more than one for a reader that follows the session.
    pub turns: usize,
}

/// What a reader got.
#[derive(Default)]
pub struct Read {
    /// The events of each turn, from its last `start` to its terminal one.
    pub turns: Vec<Vec<Event>>,
    /// How long the reader had nothing after each break of its connection.
    pub gaps: Vec<Duration>,
}

enum Item {
    Event(Event),
    Done,
}

struct Stream(BufReader<TcpStream>);

/// Why a stream has no next item.
#[derive(Debug)]
enum Broken {
    /// The node says that it cannot answer now.
    Refused(u16, String),
    Io,
}

impl From<io::Error> for Broken {
    fn from(_: io::Error) -> Self {
        Self::Io
    }
}

fn ended() -> Broken {
    Broken::Io
}

impl Stream {
    fn open(
        group: &Group,
        node: usize,
        wanted: &Wanted<'_>,
        after: Option<&str>,
    ) -> Result<Self, Broken> {
        let mut stream = group.connect(node)?;
        let resumed = after.map_or_else(String::new, |id| format!("last-event-id: {id}\r\n"));
        // Without chunks, because HTTP/1.0 has none.
        let request = format!(
            "GET /public-api/chat/sessions/{}/events?since={}&follow={} HTTP/1.0\r\nhost: nodes\r\nauthorization: Bearer {}\r\n{resumed}\r\n",
            wanted.session,
            wanted.since,
            wanted.turns > 1,
            wanted.key
        );
        stream.write_all(request.as_bytes())?;
        let mut stream = Self(BufReader::new(stream));
        let head = stream.line()?;
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        while !stream.line()?.is_empty() {}
        match status {
            Some(200) => Ok(stream),
            Some(status) => Err(Broken::Refused(status, stream.rest())),
            None => Err(ended()),
        }
    }

    fn line(&mut self) -> Result<String, Broken> {
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        match line.strip_suffix('\n') {
            Some(line) => Ok(line.trim_end_matches('\r').to_owned()),
            None => Err(ended()),
        }
    }

    fn rest(mut self) -> String {
        let mut body = String::new();
        // A reply that is cut off is shown as far as it came.
        drop(self.0.read_to_string(&mut body));
        body
    }

    fn next(&mut self) -> Result<Item, Broken> {
        loop {
            let line = self.line()?;
            if line == "data: [DONE]" {
                return Ok(Item::Done);
            }
            if let Some(id) = line.strip_prefix("id: ") {
                let data = self.line()?;
                let data = data.strip_prefix("data: ").expect("an event has data");
                // An event that is cut off has no empty line.
                self.line()?;
                let envelope: Value = serde_json::from_str(data).unwrap();
                return Ok(Item::Event(Event {
                    id: id.to_owned(),
                    envelope,
                }));
            }
        }
    }
}

/// Reads turns to their ends, on random nodes. Now and then the reader leaves by itself.
pub fn read(group: &Group, random: &mut Random, wanted: &Wanted<'_>) -> Read {
    let session = wanted.session;
    let deadline = Instant::now() + TIMEOUT;
    let mut read = Read::default();
    let mut current: Vec<Event> = Vec::new();
    let mut last: Option<String> = None;
    let mut broken_at: Option<Instant> = None;
    let mut trail: Vec<String> = Vec::new();
    loop {
        assert!(
            Instant::now() < deadline,
            "{session} from {}: no end after {last:?}: {trail:#?}",
            wanted.since
        );
        let node = random.below(group.len());
        let opened = Stream::open(group, node, wanted, last.as_deref());
        trail.push(format!(
            "{:?} node {node} from {last:?}: {:?}",
            Instant::now(),
            opened.as_ref().err()
        ));
        let mut stream = match opened {
            Ok(stream) => stream,
            // A node that stood still for long refuses what it had not read until then.
            Err(Broken::Refused(status, said)) if !matches!(status, 408 | 503) => {
                panic!(
                    "{session} from {}, after {last:?}: {status} {said}: {trail:#?}",
                    wanted.since
                )
            }
            Err(_) => {
                broken_at.get_or_insert_with(Instant::now);
                thread::sleep(PAUSE);
                continue;
            }
        };
        loop {
            let event = match stream.next() {
                Ok(Item::Event(event)) => event,
                Ok(Item::Done) => {
                    // A follower that was sent away by a node that stops.
                    assert!(
                        wanted.turns > 1,
                        "{session}: a stream ended without a terminal envelope: {current:?}"
                    );
                    break;
                }
                Err(_) => {
                    broken_at.get_or_insert_with(Instant::now);
                    break;
                }
            };
            if let Some(at) = broken_at.take() {
                read.gaps.push(at.elapsed());
            }
            let before = last.as_deref().unwrap_or(wanted.since);
            assert!(
                pair(before) < pair(&event.id),
                "{session}: {} comes after {before}: {trail:#?}",
                event.id
            );
            last = Some(event.id.clone());
            if event.kind() == "start" {
                current.clear();
            }
            let is_terminal = event.is_terminal();
            current.push(event);
            if is_terminal {
                read.turns.push(std::mem::take(&mut current));
                if read.turns.len() == wanted.turns {
                    if wanted.turns == 1 {
                        // Nothing more comes, unless the node dies.
                        match stream.next() {
                            Ok(Item::Event(event)) => {
                                panic!("{session}: {event:?} after the terminal envelope")
                            }
                            Ok(Item::Done) | Err(_) => {}
                        }
                    }
                    return read;
                }
            } else if random.chance(1, 60) {
                break;
            }
        }
    }
}
