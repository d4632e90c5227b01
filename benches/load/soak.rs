//! Half an hour of what people and programs do all day, and whether the server is then as it was: memory, open files, the
//! log, and how long requests wait.

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
use crate::measure::{Measured, Seen, Target, Window, measure_talk};
use crate::numbers::Numbers;
use crate::report::{Aim, Report, Size};
use crate::requests::{self, QUESTIONS};
use crate::server::{self, Server};
use crate::streams::Events;
use crate::{Failed, WORLD};

/// Clients at one time; each thinks between its requests.
const CLIENTS: usize = 300;
/// A connection and a stream each, and one that is about to be closed.
pub const MOST_FILES: u64 = 3 * CLIENTS as u64;
/// The longest that a client thinks.
const LONGEST_THOUGHT: Duration = Duration::from_millis(1_000);
/// Parts of the run: the first and the last are compared.
const PARTS: u32 = 6;
/// Sessions that a client keeps; older ones it removes or puts into the archive.
const KEPT_SESSIONS: usize = 5;
/// Questions of one conversation.
const MOST_QUESTIONS: usize = 4;
/// How often the process and its files are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How often the command line takes the seed file in again, beside the server.
const IMPORT_EVERY: usize = 60;
const MB: f64 = 1e6;
/// How long streams may stay open whose readers went away.
const PATIENCE: Duration = Duration::from_secs(90);
/// What `Retry-After` says when the server is busy.
const COME_AGAIN: Duration = Duration::from_secs(1);
/// Files that a server may have open at rest beyond those it had before: its pool's connections open as they are needed.
const MORE_FILES: f64 = 64.0;

/// What the process and its files were like at one time.
#[derive(Clone, Copy)]
struct Look {
    at: Duration,
    resident: f64,
    files: f64,
    log: f64,
}

impl Look {
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

/// A server whose processor time is that of many kinds of requests, and said of none.
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
    server::import(&data, WORLD)?;
    let server = Server::start(&data, &folder.join("soak.log"))?;
    let begun = Instant::now();
    let at_first = Look::now(&server, &data, begun)?;
    let (is_over, imports) = (AtomicBool::new(false), AtomicUsize::new(0));
    let part = whole / PARTS;
    let sent_away = Arc::default();
    let (parts, looks) = thread::scope(|scope| {
        let looking = scope.spawn(|| look_on(&server, &data, begun, whole, &is_over, &imports));
        let parts = (0..PARTS).map(|number| converse(&server, number, part, &sent_away));
        let parts: Result<Vec<_>, Failed> = parts.collect();
        is_over.store(true, Ordering::Relaxed);
        let looks = looking.join().map_err(|_| "who looks on panicked")??;
        Ok::<_, Failed>((parts?, looks))
    })?;
    let at_rest = look_at_rest(&server, &data, begun, at_first.files)?;

    report.figure("soak, minutes", whole.as_secs_f64() / 60.0, None);
    report.figure(
        "soak, imports beside the server",
        imports.load(Ordering::Relaxed) as f64,
        None,
    );
    report.figure(
        "soak, times that somebody was told to come again",
        sent_away.load(Ordering::Relaxed) as f64,
        None,
    );
    tell_waits(&parts, report);
    let within = |from: Duration, to: Duration| {
        let looks: Vec<Look> = looks
            .iter()
            .filter(|look| (from..to).contains(&look.at))
            .copied()
            .collect();
        looks
    };
    let (first, last) = (
        within(Duration::ZERO, part),
        within(whole - part, whole * 2),
    );
    // Caches fill in the beginning.
    let later = within(whole / 3, whole * 2);
    let largest = |looks: &[Look], of: fn(&Look) -> f64| looks.iter().map(of).fold(0.0, f64::max);
    let files = |looks: &[Look]| largest(looks, |look| look.files);
    report.figure(
        "soak, resident MB at most, first part",
        largest(&first, |look| look.resident),
        None,
    );
    report.figure(
        "soak, resident MB at most, last part",
        largest(&last, |look| look.resident),
        None,
    );
    report.figure(
        "soak, resident MB at rest behind it",
        at_rest.resident,
        None,
    );
    report.demand(
        "soak, slope of memory in the last two thirds, MB an hour",
        slope(&later) * 3_600.0,
        Aim::AtMost(10.0),
    );
    report.figure("soak, open files at most, first part", files(&first), None);
    report.demand(
        "soak, open files at most, last part / first",
        files(&last) / files(&first),
        Aim::AtMost(1.1),
    );
    report.demand(
        "soak, open files at rest, more than before",
        at_rest.files - at_first.files,
        Aim::AtMost(MORE_FILES),
    );
    report.demand(
        "soak, log at most, MiB",
        largest(&looks, |look| look.log),
        Aim::AtMost(72.0),
    );
    report.figure(
        "soak, file behind it, MB",
        database_file(&data).metadata()?.len() as f64 / MB,
        None,
    );
    server.stop()?;
    server::check(&data)
}

/// Waits until the streams are closed whose readers went away: the server sees it by the comments that nobody takes.
fn look_at_rest(
    server: &Server,
    data: &Path,
    begun: Instant,
    files_before: f64,
) -> Result<Look, Failed> {
    let latest = Instant::now() + PATIENCE;
    loop {
        server.settle()?;
        let look = Look::now(server, data, begun)?;
        if look.files <= files_before + MORE_FILES || Instant::now() > latest {
            return Ok(look);
        }
    }
}

/// Looks on, and takes the seed file in again from time to time, as an operator's job would.
fn look_on(
    server: &Server,
    data: &Path,
    begun: Instant,
    whole: Duration,
    is_over: &AtomicBool,
    imports: &AtomicUsize,
) -> Result<Vec<Look>, Failed> {
    let style = ProgressStyle::with_template("soak {wide_bar} {elapsed} of {len} s")?;
    let bar = ProgressBar::new(whole.as_secs()).with_style(style);
    let mut looks = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        let look = Look::now(server, data, begun)?;
        looks.push(look);
        bar.set_position(look.at.as_secs());
        if looks.len().is_multiple_of(IMPORT_EVERY) {
            server::import(data, WORLD)?;
            imports.fetch_add(1, Ordering::Relaxed);
        }
        thread::sleep(LOOK);
    }
    bar.finish_and_clear();
    Ok(looks)
}

/// All clients for one part of the run.
fn converse(
    server: &Server,
    part: u32,
    duration: Duration,
    sent_away: &Arc<AtomicUsize>,
) -> Result<Measured, Failed> {
    let address = Address(server.address);
    let opened = AtomicUsize::new(0);
    measure_talk(&address, CLIENTS, duration, |window| {
        let number = opened.fetch_add(1, Ordering::Relaxed) as u64;
        let seed = (u64::from(part) << 32 | number).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        Client::converse(address.0, window, Numbers::new(seed), Arc::clone(sent_away))
    })
}

fn tell_waits(parts: &[Measured], report: &mut Report) {
    for (number, part) in parts.iter().enumerate() {
        let what = format!("soak, part {}", number + 1);
        report.add(what, Size::Small, CLIENTS, part.clone());
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

/// Megabytes a second by which resident memory rises, by least squares.
fn slope(looks: &[Look]) -> f64 {
    let number = looks.len() as f64;
    let at = |look: &Look| look.at.as_secs_f64();
    let middle_at = looks.iter().map(at).sum::<f64>() / number;
    let middle = looks.iter().map(|look| look.resident).sum::<f64>() / number;
    let both = looks
        .iter()
        .map(|look| (at(look) - middle_at) * (look.resident - middle));
    let spread = looks.iter().map(|look| (at(look) - middle_at).powi(2));
    both.sum::<f64>() / spread.sum::<f64>()
}

/// Somebody who opens sessions, asks, reads the answers as they come and looks around.
struct Client {
    address: SocketAddr,
    connection: Connection,
    window: Window,
    numbers: Numbers,
    seen: Seen,
    /// Times that anybody was told to come again.
    sent_away: Arc<AtomicUsize>,
    /// The oldest first.
    sessions: Vec<String>,
    is_over: bool,
}

impl Client {
    async fn converse(
        address: SocketAddr,
        window: Window,
        numbers: Numbers,
        sent_away: Arc<AtomicUsize>,
    ) -> io::Result<Seen> {
        let mut client = Self {
            address,
            connection: Connection::open(address).await?,
            window,
            numbers,
            seen: Seen::default(),
            sent_away,
            sessions: Vec::new(),
            is_over: false,
        };
        while !client.is_over {
            client.talk().await?;
            client.look_around().await?;
            client.tidy_up().await?;
        }
        Ok(client.seen)
    }

    /// A session, and some questions whose answers are read as they come; now and then the reader goes away amid one.
    async fn talk(&mut self) -> io::Result<()> {
        let created = self.ask(&requests::create_with_articles()).await?;
        let session = created_id(&created)?;
        let mut events =
            Events::open(self.address, &requests::follow(&session), usize::MAX).await?;
        for _ in 0..=self.numbers.below(MOST_QUESTIONS) {
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

    /// Pages, a search, a dry run, a session of a white-label bot.
    async fn look_around(&mut self) -> io::Result<()> {
        let session = self.sessions[self.numbers.below(self.sessions.len())].clone();
        self.ask(&requests::messages(&session)).await?;
        let request = requests::any_look(&mut self.numbers);
        self.ask(&request).await.map(drop)
    }

    async fn tidy_up(&mut self) -> io::Result<()> {
        while self.sessions.len() > KEPT_SESSIONS {
            let oldest = self.sessions.remove(0);
            let request = requests::tidy_up(&oldest, &mut self.numbers);
            self.ask(&request).await?;
        }
        Ok(())
    }

    /// Thinks, asks and waits for the reply, which is to be a success.
    async fn ask(&mut self, request: &[u8]) -> io::Result<Vec<u8>> {
        let most = usize::try_from(LONGEST_THOUGHT.as_micros()).unwrap_or(usize::MAX);
        sleep(Duration::from_micros(self.numbers.below(most) as u64)).await;
        let sent = Instant::now();
        let (status, body) = loop {
            let (status, body) = self.connection.exchange(request).await?;
            if status != 503 {
                break (status, body.to_vec());
            }
            self.sent_away.fetch_add(1, Ordering::Relaxed);
            sleep(COME_AGAIN).await;
        };
        let answered = Instant::now();
        if !(200..300).contains(&status) {
            self.seen.refuse(status, &body);
            let text = String::from_utf8_lossy(&body);
            return Err(invalid(&format!("{status} {text}")));
        }
        self.is_over |= !self.seen.take(self.window, sent, answered);
        Ok(body)
    }
}
