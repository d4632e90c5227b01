//! Thousands of idle readers: what they cost an idle server, and what they cost active clients.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::{Semaphore, watch};

use crate::client::{ask_each, made_sessions, runtime};
use crate::measure::{Measured, Source, Target, measure, median_ratio};
use crate::report::{Aim, Place, Report};
use crate::requests::{self, Appends, QUESTIONS};
use crate::server::{self, Server};
use crate::streams::{Events, Next};
use crate::{Failed, SEED_FILE};

/// The number of connections that append while readers wait.
const CONNECTIONS: usize = 16;
/// The number of rounds in which appends are measured with and without readers, in turn.
const ROUNDS: usize = 3;
/// The minimum duration of a cell, so that the access of every reader is checked again within it.
const SHORTEST_CELL: Duration = Duration::from_secs(11);
/// The number of sessions for a second of appends, at 15 messages each.
const SESSIONS_PER_SECOND: f64 = 800.0;
/// The number of readers that connect at the same time.
const OPENING: usize = 64;
/// The timeout until all readers wait.
const TIMEOUT: Duration = Duration::from_secs(120);
/// The server's interval of comments on a stream.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// The number of open files that this process and the server need besides one per reader.
const OTHER_FILES: u64 = 500;

/// Readers on a thread of their own, each on a session of its own.
struct Readers {
    counters: Arc<Counters>,
    /// Dropping the sender stops the readers.
    stop: watch::Sender<()>,
    thread: Option<JoinHandle<()>>,
}

struct Counters {
    waiting: AtomicUsize,
    lost: AtomicUsize,
    comments: Vec<AtomicUsize>,
}

impl Readers {
    /// Opens all streams. Each reader reads the stored events and then waits.
    fn open(address: SocketAddr, sessions: &[String]) -> Result<Self, Failed> {
        let counters = Arc::new(Counters {
            waiting: AtomicUsize::new(0),
            lost: AtomicUsize::new(0),
            comments: sessions.iter().map(|_| AtomicUsize::new(0)).collect(),
        });
        let requests: Vec<Vec<u8>> = sessions.iter().map(|id| requests::follow(id)).collect();
        let (stop, stopped) = watch::channel(());
        let runtime = runtime()?;
        let all = Arc::clone(&counters);
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                let opening = Arc::new(Semaphore::new(OPENING));
                for (number, request) in requests.into_iter().enumerate() {
                    let (counters, opening) = (Arc::clone(&all), Arc::clone(&opening));
                    tokio::spawn(async move {
                        if let Err(error) =
                            wait(address, &request, number, &counters, &opening).await
                            && counters.lost.fetch_add(1, Ordering::Relaxed) == 0
                        {
                            eprintln!("the first lost reader: {error}");
                        }
                    });
                }
                let mut stopped = stopped;
                // An error means that the sender is gone, which stops the reader.
                while stopped.changed().await.is_ok() {}
            });
        });
        let readers = Self {
            counters,
            stop,
            thread: Some(thread),
        };
        let latest = Instant::now() + TIMEOUT;
        while readers.waiting() < sessions.len() {
            if readers.lost() > 0 || Instant::now() > latest {
                return Err(format!(
                    "of {} readers {} wait and {} were lost",
                    sessions.len(),
                    readers.waiting(),
                    readers.lost()
                )
                .into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(readers)
    }

    fn waiting(&self) -> usize {
        self.counters.waiting.load(Ordering::Relaxed)
    }

    fn lost(&self) -> usize {
        self.counters.lost.load(Ordering::Relaxed)
    }

    /// Returns the number of comments that each reader has received.
    fn comments(&self) -> Vec<usize> {
        let all = self.counters.comments.iter();
        all.map(|had| had.load(Ordering::Relaxed)).collect()
    }

    /// Stops the readers, and returns how many were lost before.
    fn close(mut self) -> usize {
        let lost = self.lost();
        drop(self.stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        lost
    }
}

/// Reads the answer of a session, and then only comments.
async fn wait(
    address: SocketAddr,
    request: &[u8],
    number: usize,
    counters: &Counters,
    opening: &Semaphore,
) -> Result<(), Failed> {
    let permit = opening.acquire().await?;
    let mut events = Events::open(address, request, usize::MAX).await?;
    while !events.event().await?.is_terminal() {}
    counters.waiting.fetch_add(1, Ordering::Relaxed);
    drop(permit);
    loop {
        match events.next().await? {
            Next::Comment => {
                counters.comments[number].fetch_add(1, Ordering::Relaxed);
            }
            Next::Event(event) => {
                return Err(format!("unexpected event: {event:?}").into());
            }
            Next::Begins | Next::Refused(_) => return Err("a stream began twice".into()),
            Next::Done | Next::End | Next::Broken | Next::Cut => {
                return Err("the server ended a stream".into());
            }
        }
    }
}

/// Raises the limit of open files of this process, and thus of its servers, for these readers.
pub fn allow_files(readers: u64) -> Result<(), Failed> {
    let files = readers + OTHER_FILES;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= files) {
        return Ok(());
    }
    if limit.maximum.is_some_and(|maximum| maximum < files) {
        return Err(format!(
            "these readers need {files} open files, but this shell allows {}; raise `ulimit -Hn`, or choose fewer with --readers",
            limit.maximum.unwrap_or(0)
        )
        .into());
    }
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(files),
            maximum: limit.maximum,
        },
    )?;
    Ok(())
}

/// Measures on a server of its own, so that the memory is that of a fresh server.
pub fn measure_idle(
    folder: &Path,
    readers: usize,
    idle: Duration,
    cell: Duration,
    report: &mut Report,
) -> Result<(), Failed> {
    let data = folder.join("idle");
    server::import(&data, SEED_FILE)?;
    let server = Server::start(&data, &folder.join("idle.log"))?;
    let sessions = made_sessions(server.address, &requests::create_with_articles(), readers)?;
    let asks: Vec<Vec<u8>> = sessions
        .iter()
        .zip(QUESTIONS.iter().cycle())
        .map(|(id, question)| requests::append(id, question, None))
        .collect();
    ask_each(server.address, asks)?;
    server.settle()?;

    let before = server.resident()?;
    let open = Readers::open(server.address, &sessions)?;
    server.settle()?;
    let (comments, cpu, begun) = (open.comments(), server.cpu(), Instant::now());
    std::thread::sleep(idle);
    let (spent, took) = (server.cpu().zip(cpu), begun.elapsed());
    let resident = server.resident()?;
    let least = open
        .comments()
        .iter()
        .zip(&comments)
        .map(|(after, before)| after - before)
        .min();
    let grown = resident.saturating_sub(before) as f64;
    // The aim is for 10,000 readers. Fewer readers get their share of it.
    let share = readers as f64 / 10_000.0;
    report.figure("idle readers", readers as f64, None);
    let aim = Some(Aim::AtMost(150.0 * share));
    report.figure("idle readers, resident MB for all", grown / 1e6, aim);
    let each = grown / 1_024.0 / readers as f64;
    report.figure("idle readers, resident KiB each", each, None);
    if let Some((after, before)) = spent {
        let part = (after - before).as_secs_f64() / took.as_secs_f64();
        let aim = Some(Aim::AtMost(5.0 * share));
        report.figure("idle readers, % of a core for all", part * 100.0, aim);
    }
    let least = least.unwrap_or(0);
    report.figure("idle readers, fewest heartbeats", least as f64, None);
    if least < (idle.as_secs() / HEARTBEAT.as_secs()) as usize {
        report.fail(format!("a reader had {least} heartbeats in {idle:?}"));
    }

    let cell = cell.max(SHORTEST_CELL);
    let number = cell.as_secs_f64() * (2 * ROUNDS) as f64 * SESSIONS_PER_SECOND;
    let others = made_sessions(server.address, &requests::create(), number as usize)?;
    let source: Arc<dyn Source> = Arc::new(Appends::new(&others));
    let appends = |server: &Server| {
        server.settle()?;
        measure(server, CONNECTIONS, cell, &source)
    };
    let (mut with, mut without) = (Vec::new(), Vec::new());
    let mut open = Some(open);
    for _ in 0..ROUNDS {
        let readers = match open.take() {
            Some(readers) => readers,
            None => Readers::open(server.address, &sessions)?,
        };
        with.push(appends(&server)?);
        let lost = readers.close();
        if lost > 0 {
            report.fail(format!("{lost} readers were lost"));
        }
        without.push(appends(&server)?);
    }
    let p50 = median_ratio(&with, &without, |round| round.p50_ms);
    let p99 = median_ratio(&with, &without, |round| round.p99_ms);
    let aim = Some(Aim::AtMost(1.5));
    for (which, ratio, aim) in [("p50", p50, None), ("p99", p99, aim)] {
        let what = format!("appends at {CONNECTIONS}, {which} with readers / without");
        report.figure(what, ratio, aim);
    }
    for (what, rounds) in [("appends, no readers", without), ("appends, readers", with)] {
        report.add(
            what,
            Place::Small,
            CONNECTIONS,
            Measured::median_of(&rounds),
        );
    }
    Ok(())
}
