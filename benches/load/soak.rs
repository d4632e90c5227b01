//! A soak test: half an hour of mixed work, and whether the server is then as it was before, in
//! memory, open files, the log and latency.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use switchboard::store::database_file;
use tokio::time::sleep;

use crate::client::{Connection, created_id, invalid};
use crate::log_bound::{MIB, length, log_of};
use crate::measure::{Measured, Observed, Target, Window, measure_talk};
use crate::numbers::Random;
use crate::report::{Aim, Place, Report};
use crate::requests::{self, QUESTIONS};
use crate::server::{self, Server};
use crate::streams::Events;
use crate::{Failed, SEED_FILE};

/// The number of concurrent clients. Each pauses between its requests.
const CLIENTS: usize = 300;
/// Each client needs a connection, a stream, and a connection that is about to be closed.
pub const MAX_FILES: u64 = 3 * CLIENTS as u64;
/// A client's longest pause.
const MAX_PAUSE: Duration = Duration::from_millis(1_000);
/// The number of parts of the run. The first and the last are compared.
const PARTS: u32 = 6;
/// The number of sessions that a client keeps. It deletes or archives older ones.
const KEPT_SESSIONS: usize = 5;
/// The maximum number of questions in a conversation.
const MAX_QUESTIONS: usize = 4;
/// The interval of reading the state of the process.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// The interval of importing the seed file again while the server runs, in readings of the state.
const IMPORT_EVERY: usize = 60;
const MB: f64 = 1e6;
/// How long streams may stay open after their readers have gone.
const TIMEOUT: Duration = Duration::from_secs(90);
/// The value of `Retry-After` when the server is busy.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How many more files a server may have open at rest than at first. Its pool opens connections as
/// they are needed.
const MORE_FILES: f64 = 64.0;

/// The state of the process and its files at a point in time.
#[derive(Clone, Copy)]
struct State {
    at: Duration,
    resident: f64,
    files: f64,
    log: f64,
}

impl State {
    fn now(server: &Server, data: &Path, begun: Instant) -> Result<Self, Failed> {
        let files = fs::read_dir(format!("/proc/{}/fd", server.process()))?.count();
        Ok(Self {
            at: begun.elapsed(),
            resident: server.resident()? as f64 / MB,
            files: files as f64,
            log: length(&log_of(data)) as f64 / MIB,
        })
    }
}

/// A server without a processor time per request, because the requests are of many kinds.
struct Address(SocketAddr);

impl Target for Address {
    fn address(&self) -> SocketAddr {
        self.0
    }

    fn cpu(&self) -> Option<Duration> {
        None
    }
}

/// Measures on a server of its own.
pub fn measure_soak(folder: &Path, whole: Duration, report: &mut Report) -> Result<(), Failed> {
    let data = folder.join("soak");
    server::import(&data, SEED_FILE)?;
    let server = Server::start(&data, &folder.join("soak.log"))?;
    let begun = Instant::now();
    let at_first = State::now(&server, &data, begun)?;
    let (is_over, imports) = (AtomicBool::new(false), AtomicUsize::new(0));
    let part = whole / PARTS;
    let retries = Arc::default();
    let (parts, states) = thread::scope(|scope| {
        let observing = scope.spawn(|| observe(&server, &data, begun, whole, &is_over, &imports));
        let parts = (0..PARTS).map(|number| converse(&server, number, part, &retries));
        let parts: Result<Vec<_>, Failed> = parts.collect();
        is_over.store(true, Ordering::Relaxed);
        let states = observing
            .join()
            .map_err(|_| "the observing thread panicked")??;
        Ok::<_, Failed>((parts?, states))
    })?;
    let at_rest = state_at_rest(&server, &data, begun, at_first.files)?;

    report.figure("soak, minutes", whole.as_secs_f64() / 60.0, None);
    report.figure(
        "soak, imports during the run",
        imports.load(Ordering::Relaxed) as f64,
        None,
    );
    report.figure(
        "soak, requests refused with 503 and retried",
        retries.load(Ordering::Relaxed) as f64,
        None,
    );
    report_latencies(&parts, report);
    let within = |from: Duration, to: Duration| {
        let states: Vec<State> = states
            .iter()
            .filter(|state| (from..to).contains(&state.at))
            .copied()
            .collect();
        states
    };
    let (first, last) = (
        within(Duration::ZERO, part),
        within(whole - part, whole * 2),
    );
    // Caches fill at the beginning.
    let later = within(whole / 3, whole * 2);
    let largest =
        |states: &[State], of: fn(&State) -> f64| states.iter().map(of).fold(0.0, f64::max);
    let files = |states: &[State]| largest(states, |state| state.files);
    report.figure(
        "soak, maximum resident MB, first part",
        largest(&first, |state| state.resident),
        None,
    );
    report.figure(
        "soak, maximum resident MB, last part",
        largest(&last, |state| state.resident),
        None,
    );
    report.figure(
        "soak, resident MB at rest afterwards",
        at_rest.resident,
        None,
    );
    report.demand(
        "soak, slope of memory in the last two thirds, MB per hour",
        slope(&later) * 3_600.0,
        Aim::AtMost(10.0),
    );
    report.figure("soak, maximum open files, first part", files(&first), None);
    report.demand(
        "soak, maximum open files, last part / first",
        files(&last) / files(&first),
        Aim::AtMost(1.1),
    );
    report.demand(
        "soak, open files at rest, increase",
        at_rest.files - at_first.files,
        Aim::AtMost(MORE_FILES),
    );
    report.demand(
        "soak, maximum log, MiB",
        largest(&states, |state| state.log),
        Aim::AtMost(72.0),
    );
    report.figure(
        "soak, file afterwards, MB",
        database_file(&data).metadata()?.len() as f64 / MB,
        None,
    );
    server.stop()?;
    server::check(&data)
}

/// Waits until the streams without readers are closed.
///
/// The server detects a missing reader when it sends a comment.
fn state_at_rest(
    server: &Server,
    data: &Path,
    begun: Instant,
    files_before: f64,
) -> Result<State, Failed> {
    let latest = Instant::now() + TIMEOUT;
    loop {
        server.settle()?;
        let state = State::now(server, data, begun)?;
        if state.files <= files_before + MORE_FILES || Instant::now() > latest {
            return Ok(state);
        }
    }
}

/// Reads the state, and imports the seed file from time to time, as an operator's job does.
fn observe(
    server: &Server,
    data: &Path,
    begun: Instant,
    whole: Duration,
    is_over: &AtomicBool,
    imports: &AtomicUsize,
) -> Result<Vec<State>, Failed> {
    let style = ProgressStyle::with_template("soak {wide_bar} {elapsed} of {len} s")?;
    let bar = ProgressBar::new(whole.as_secs()).with_style(style);
    let mut states = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        let state = State::now(server, data, begun)?;
        states.push(state);
        bar.set_position(state.at.as_secs());
        if states.len().is_multiple_of(IMPORT_EVERY) {
            server::import(data, SEED_FILE)?;
            imports.fetch_add(1, Ordering::Relaxed);
        }
        thread::sleep(POLL_INTERVAL);
    }
    bar.finish_and_clear();
    Ok(states)
}

/// Runs all clients for a part of the run.
fn converse(
    server: &Server,
    part: u32,
    duration: Duration,
    retries: &Arc<AtomicUsize>,
) -> Result<Measured, Failed> {
    let address = Address(server.address);
    let opened = AtomicUsize::new(0);
    measure_talk(&address, CLIENTS, duration, |window| {
        let number = opened.fetch_add(1, Ordering::Relaxed) as u64;
        let seed = (u64::from(part) << 32 | number).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        Client::converse(address.0, window, Random::new(seed), Arc::clone(retries))
    })
}

fn report_latencies(parts: &[Measured], report: &mut Report) {
    for (number, part) in parts.iter().enumerate() {
        let what = format!("soak, part {}", number + 1);
        report.add(what, Place::Small, CLIENTS, part.clone());
    }
    if let (Some(first), Some(last)) = (parts.first(), parts.last()) {
        let ratio = last.p99_ms / first.p99_ms;
        report.figure(
            "soak, p99 of the last part / of the first",
            ratio,
            Some(Aim::AtMost(1.5)),
        );
    }
}

/// Returns the growth of resident memory in megabytes per second, by least squares.
fn slope(states: &[State]) -> f64 {
    let number = states.len() as f64;
    let at = |state: &State| state.at.as_secs_f64();
    let mean_at = states.iter().map(at).sum::<f64>() / number;
    let mean = states.iter().map(|state| state.resident).sum::<f64>() / number;
    let both = states
        .iter()
        .map(|state| (at(state) - mean_at) * (state.resident - mean));
    let spread = states.iter().map(|state| (at(state) - mean_at).powi(2));
    both.sum::<f64>() / spread.sum::<f64>()
}

/// A client that opens sessions, asks, reads the answers as they arrive, and browses.
struct Client {
    address: SocketAddr,
    connection: Connection,
    window: Window,
    numbers: Random,
    observed: Observed,
    /// How often the server asked any client to retry later.
    retries: Arc<AtomicUsize>,
    /// The client's sessions, oldest first.
    sessions: Vec<String>,
    is_over: bool,
}

impl Client {
    async fn converse(
        address: SocketAddr,
        window: Window,
        numbers: Random,
        retries: Arc<AtomicUsize>,
    ) -> io::Result<Observed> {
        let mut client = Self {
            address,
            connection: Connection::open(address).await?,
            window,
            numbers,
            observed: Observed::default(),
            retries,
            sessions: Vec::new(),
            is_over: false,
        };
        while !client.is_over {
            client.talk().await?;
            client.browse().await?;
            client.delete_or_archive().await?;
        }
        Ok(client.observed)
    }

    /// Opens a session and asks some questions.
    ///
    /// The client reads each answer as it arrives, and sometimes disconnects before its end.
    async fn talk(&mut self) -> io::Result<()> {
        let created = self.ask(&requests::create_with_articles()).await?;
        let session = created_id(&created)?;
        let mut events =
            Events::open(self.address, &requests::follow(&session), usize::MAX).await?;
        for _ in 0..=self.numbers.below(MAX_QUESTIONS) {
            let question = self.numbers.pick(&QUESTIONS);
            self.ask(&requests::append(&session, question, None))
                .await?;
            if self.numbers.below(10) == 0 {
                let follow = requests::follow(&session);
                events = Events::open(self.address, &follow, usize::MAX).await?;
            }
            while !events.event().await?.is_terminal() {}
        }
        self.sessions.push(session);
        Ok(())
    }

    /// Reads pages, searches, asks for a dry run, and opens a session of the white-label bot.
    async fn browse(&mut self) -> io::Result<()> {
        let session = self.sessions[self.numbers.below(self.sessions.len())].clone();
        self.ask(&requests::messages(&session)).await?;
        let request = requests::browsing_request(&mut self.numbers);
        self.ask(&request).await.map(drop)
    }

    async fn delete_or_archive(&mut self) -> io::Result<()> {
        while self.sessions.len() > KEPT_SESSIONS {
            let oldest = self.sessions.remove(0);
            let request = requests::delete_or_archive(&oldest, &mut self.numbers);
            self.ask(&request).await?;
        }
        Ok(())
    }

    /// Pauses, sends a request, and waits for the reply, which must be a success.
    async fn ask(&mut self, request: &[u8]) -> io::Result<Vec<u8>> {
        let most = usize::try_from(MAX_PAUSE.as_micros()).unwrap_or(usize::MAX);
        sleep(Duration::from_micros(self.numbers.below(most) as u64)).await;
        let sent = Instant::now();
        let (status, body) = loop {
            let (status, body) = self.connection.exchange(request).await?;
            if status != 503 {
                break (status, body.to_vec());
            }
            self.retries.fetch_add(1, Ordering::Relaxed);
            sleep(RETRY_AFTER).await;
        };
        let answered = Instant::now();
        if !(200..300).contains(&status) {
            self.observed.refuse(status, &body);
            let text = String::from_utf8_lossy(&body);
            return Err(invalid(&format!("{status} {text}")));
        }
        self.is_over |= !self.observed.take(self.window, sent, answered);
        Ok(body)
    }
}
