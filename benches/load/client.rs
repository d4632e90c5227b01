//! A small keep-alive HTTP/1.1 client.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Failed;

/// The timeout for all requests of a batch.
const TIMEOUT: Duration = Duration::from_secs(120);

/// A connection.
pub struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
    /// Whether the last reply announced that the server closes the connection.
    is_closing: bool,
}

/// The status of a reply, the position of its body in the buffer, and whether the connection ends.
struct Head {
    status: u16,
    body: std::ops::Range<usize>,
    is_last: bool,
}

impl Connection {
    pub async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            received: Vec::with_capacity(64 * 1_024),
            is_closing: false,
        })
    }

    /// Returns this connection, or a new one if the server closes this one.
    pub async fn or_another(self, address: SocketAddr) -> io::Result<Self> {
        if self.is_closing {
            Self::open(address).await
        } else {
            Ok(self)
        }
    }

    /// Sends a request and reads the whole reply.
    pub async fn exchange(&mut self, request: &[u8]) -> io::Result<(u16, &[u8])> {
        self.stream.write_all(request).await?;
        self.received.clear();
        let mut head = None;
        loop {
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Err(invalid("the server closed the connection"));
            }
            if head.is_none() {
                head = read_head(&self.received)?;
            }
            if let Some(head) = &head
                && self.received.len() >= head.body.end
            {
                self.is_closing = head.is_last;
                return Ok((head.status, &self.received[head.body.clone()]));
            }
        }
    }
}

pub fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Parses the head of a reply once it is complete.
///
/// Every reply to these requests has a status line, and a length unless the status is 204.
fn read_head(received: &[u8]) -> io::Result<Option<Head>> {
    let Some(end) = received.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&received[..end]).map_err(|_| invalid("a head is not text"))?;
    let status = text
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .ok_or_else(|| invalid("a reply has no status"))?;
    let field = |wanted: &str| {
        let mut fields = text.split("\r\n").filter_map(|line| line.split_once(':'));
        let found = fields.find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.map(|(_, value)| value.trim())
    };
    let bytes: usize = if status == 204 {
        0
    } else {
        field("content-length")
            .and_then(|length| length.parse().ok())
            .ok_or_else(|| invalid("a reply has no length"))?
    };
    let start = end + 4;
    Ok(Some(Head {
        status,
        body: start..start + bytes,
        is_last: field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")),
    }))
}

/// Sends a request a number of times on a few connections, and returns the bodies of the replies.
pub fn ask(address: SocketAddr, request: &[u8], times: usize) -> Result<Vec<Vec<u8>>, Failed> {
    ask_all(address, vec![request.to_vec()], times)
}

/// Sends each of these requests once, on a few connections.
pub fn ask_each(address: SocketAddr, requests: Vec<Vec<u8>>) -> Result<(), Failed> {
    let times = requests.len();
    ask_all(address, requests, times).map(drop)
}

fn ask_all(
    address: SocketAddr,
    requests: Vec<Vec<u8>>,
    times: usize,
) -> Result<Vec<Vec<u8>>, Failed> {
    const MAX_CONNECTIONS: usize = 32;
    let connections = times.min(MAX_CONNECTIONS);
    let requests: Arc<[Vec<u8>]> = requests.into();
    let ask_in_turn = |first: usize| {
        let requests = Arc::clone(&requests);
        tokio::spawn(async move {
            let mut connection = Connection::open(address).await?;
            let mut bodies = Vec::with_capacity(times / connections + 1);
            for number in (first..times).step_by(connections) {
                let request = &requests[number % requests.len()];
                let (status, body) = connection.exchange(request).await?;
                if !(200..300).contains(&status) {
                    let reply = format!("{status} {}", String::from_utf8_lossy(body));
                    return Err(io::Error::other(reply));
                }
                bodies.push(body.to_vec());
            }
            Ok(bodies)
        })
    };
    runtime()?.block_on(async {
        let running: Vec<_> = (0..connections).map(ask_in_turn).collect();
        let mut bodies = Vec::with_capacity(times);
        for asked in running {
            bodies.extend(tokio::time::timeout(TIMEOUT, asked).await???);
        }
        Ok(bodies)
    })
}

#[derive(serde::Deserialize)]
struct Created {
    data: Named,
}

#[derive(serde::Deserialize)]
struct Named {
    id: String,
}

/// Creates a number of sessions and returns their ids.
pub fn made_sessions(
    address: SocketAddr,
    create: &[u8],
    number: usize,
) -> Result<Vec<String>, Failed> {
    ask(address, create, number)?
        .iter()
        .map(|body| Ok(created_id(body)?))
        .collect()
}

/// Returns the id in the reply to a create request.
pub fn created_id(body: &[u8]) -> io::Result<String> {
    Ok(serde_json::from_slice::<Created>(body)?.data.id)
}

pub fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}
