//! A small keep-alive HTTP/1.1 client, and many of it at once on a clock.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Failed;

/// How long a cell runs before its requests count: caches fill, connections settle.
const WARM_UP: Duration = Duration::from_millis(200);
/// How long after its time a cell may still wait for replies.
const GRACE: Duration = Duration::from_secs(20);
/// Refused requests after which a connection gives up.
const MOST_ERRORS: usize = 20;

/// What is sent, request after request, by all connections of a cell.
pub trait Source: Send + Sync {
    /// Writes the next request; `false` when there is none left.
    fn next(&self, request: &mut Vec<u8>) -> bool;
}

/// A server under load.
pub trait Target {
    fn address(&self) -> SocketAddr;
    /// What its process has spent so far, where that can be known apart from the client's.
    fn cpu(&self) -> Option<Duration>;
}

/// The figures of one cell.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    pub requests: usize,
    pub per_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub errors: usize,
    /// What the server's process spent on one request; less noisy than a rate where others use the machine too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_cpu_us: Option<f64>,
    /// The first reply that was not a success.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_error: Option<String>,
}

/// One connection.
pub struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
}

/// A reply's status, and where in the buffer its body is.
struct Head {
    status: u16,
    body: std::ops::Range<usize>,
}

impl Connection {
    pub async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            received: Vec::with_capacity(64 * 1_024),
        })
    }

    /// Sends a request and reads all of its reply.
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
            if let Some(Head { status, body }) = &head
                && self.received.len() >= body.end
            {
                return Ok((*status, &self.received[body.clone()]));
            }
        }
    }
}

pub fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// The head, once all of it is there. Every reply to these requests has a status line and a length.
fn read_head(received: &[u8]) -> io::Result<Option<Head>> {
    let Some(end) = received.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&received[..end]).map_err(|_| invalid("a head is no text"))?;
    let mut lines = text.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1))
        .and_then(|status| status.parse().ok())
        .ok_or_else(|| invalid("a reply has no status"))?;
    let bytes: usize = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse().ok())
        .ok_or_else(|| invalid("a reply has no length"))?;
    let start = end + 4;
    Ok(Some(Head {
        status,
        body: start..start + bytes,
    }))
}

/// Sends a request so many times on a few connections; the bodies of the replies.
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
    const CONNECTIONS: usize = 32;
    let requests: Arc<[Vec<u8>]> = requests.into();
    let ask_in_turn = |first: usize| {
        let requests = Arc::clone(&requests);
        tokio::spawn(async move {
            let mut connection = Connection::open(address).await?;
            let mut bodies = Vec::with_capacity(times / CONNECTIONS + 1);
            for number in (first..times).step_by(CONNECTIONS) {
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
        let running: Vec<_> = (0..CONNECTIONS).map(ask_in_turn).collect();
        let mut bodies = Vec::with_capacity(times);
        for asked in running {
            bodies.extend(tokio::time::timeout(GRACE, asked).await???);
        }
        Ok(bodies)
    })
}

/// When a cell's requests count.
#[derive(Clone, Copy)]
pub struct Window {
    begin: Instant,
    end: Instant,
}

/// What one connection saw.
#[derive(Default)]
pub struct Seen {
    latencies_us: Vec<u32>,
    errors: usize,
    first_error: Option<String>,
    last: Option<Instant>,
    /// Those of the warm-up too.
    answered: usize,
}

impl Seen {
    /// Takes an answer into account; whether there is time for another request.
    pub fn take(&mut self, window: Window, sent: Instant, answered: Instant) -> bool {
        self.answered += 1;
        if answered > window.end {
            return false;
        }
        if sent >= window.begin {
            let us = (answered - sent).as_micros();
            self.latencies_us
                .push(u32::try_from(us).unwrap_or(u32::MAX));
            self.last = Some(answered);
        }
        true
    }
}

/// Keeps `connections` busy for a time; a request counts if it was sent and answered within it.
pub fn measure(
    target: &dyn Target,
    connections: usize,
    duration: Duration,
    source: &Arc<dyn Source>,
) -> Result<Measured, Failed> {
    let address = target.address();
    measure_talk(target, connections, duration, |window| {
        talk(address, window, Arc::clone(source))
    })
}

/// The same for clients that do more than ask: so many of these talks at one time.
pub fn measure_talk<Talk>(
    target: &dyn Target,
    connections: usize,
    duration: Duration,
    talk: impl Fn(Window) -> Talk + Sync,
) -> Result<Measured, Failed>
where
    Talk: Future<Output = io::Result<Seen>> + Send + 'static,
{
    let cpu_before = target.cpu();
    // Half of the cores at most: the server is to have the others.
    let threads = std::thread::available_parallelism()
        .map_or(1, |cores| cores.get() / 2)
        .clamp(1, connections);
    let begin = Instant::now() + WARM_UP;
    let window = Window {
        begin,
        end: begin + duration,
    };
    let seen: Vec<Seen> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|thread| {
                let share = (connections + thread) / threads;
                let talk = &talk;
                scope.spawn(move || talk_on_all(share, window, talk))
            })
            .collect();
        running
            .into_iter()
            .map(|thread| thread.join().map_err(|_| "a client's thread panicked")?)
            .collect::<Result<Vec<_>, Failed>>()
    })?
    .into_iter()
    .flatten()
    .collect();

    let cpu = target.cpu().zip(cpu_before);
    let answered: usize = seen.iter().map(|one| one.answered).sum();
    let mut latencies_us: Vec<u32> = seen
        .iter()
        .flat_map(|one| one.latencies_us.iter().copied())
        .collect();
    latencies_us.sort_unstable();
    // A source that runs dry ends a cell early.
    let last = seen.iter().filter_map(|one| one.last).max();
    let seconds = last.map_or(f64::INFINITY, |last| {
        last.saturating_duration_since(begin).as_secs_f64()
    });
    Ok(Measured {
        requests: latencies_us.len(),
        per_second: latencies_us.len() as f64 / seconds,
        p50_ms: percentile_ms(&latencies_us, 0.50),
        p99_ms: percentile_ms(&latencies_us, 0.99),
        errors: seen.iter().map(|one| one.errors).sum(),
        server_cpu_us: cpu
            .map(|(after, before)| (after - before).as_secs_f64() * 1e6 / answered as f64),
        first_error: seen.into_iter().find_map(|one| one.first_error),
    })
}

fn percentile_ms(sorted_us: &[u32], part: f64) -> f64 {
    let place = (sorted_us.len() as f64 * part) as usize;
    let place = place.min(sorted_us.len().saturating_sub(1));
    sorted_us
        .get(place)
        .map_or(0.0, |us| f64::from(*us) / 1_000.0)
}

pub fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

fn talk_on_all<Talk>(
    connections: usize,
    window: Window,
    talk: impl Fn(Window) -> Talk,
) -> Result<Vec<Seen>, Failed>
where
    Talk: Future<Output = io::Result<Seen>> + Send + 'static,
{
    let latest = window.end + GRACE;
    runtime()?.block_on(async {
        let talks: Vec<_> = (0..connections)
            .map(|_| tokio::spawn(talk(window)))
            .collect();
        let mut seen = Vec::with_capacity(connections);
        for talk in talks {
            seen.push(
                tokio::time::timeout_at(latest.into(), talk)
                    .await
                    .map_err(|_| "a reply did not come in time")???,
            );
        }
        Ok(seen)
    })
}

async fn talk(address: SocketAddr, window: Window, source: Arc<dyn Source>) -> io::Result<Seen> {
    let mut connection = Connection::open(address).await?;
    let mut seen = Seen::default();
    let mut request = Vec::new();
    while seen.errors < MOST_ERRORS {
        request.clear();
        if !source.next(&mut request) {
            break;
        }
        let sent = Instant::now();
        let (status, body) = connection.exchange(&request).await?;
        let answered = Instant::now();
        if !(200..300).contains(&status) {
            seen.errors += 1;
            seen.first_error
                .get_or_insert_with(|| format!("{status} {}", String::from_utf8_lossy(body)));
        }
        if !seen.take(window, sent, answered) {
            break;
        }
    }
    Ok(seen)
}
