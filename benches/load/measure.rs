//! Runs many concurrent clients for a time, and measures what they observe.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::Failed;
use crate::client::{Connection, runtime};

/// The warm-up of a cell, in which caches fill and connections settle. Its requests do not count.
const WARM_UP: Duration = Duration::from_millis(200);
/// How long a cell waits for replies after its end.
const GRACE: Duration = Duration::from_secs(20);
/// The timeout until a server has answered the queued turns.
const SETTLE: Duration = Duration::from_secs(120);
/// The number of refused requests after which a connection gives up.
const MAX_ERRORS: usize = 20;

/// The requests that all connections of a cell send.
pub trait Source: Send + Sync {
    /// Writes the next request, and returns `false` if there is none.
    fn next(&self, request: &mut Vec<u8>) -> bool;
}

/// A server under load, or several of one database.
pub trait Target: Sync {
    /// Where the next client connects.
    fn address(&self) -> SocketAddr;
    /// Returns the processor time of the server's process, if it can be told apart from the
    /// client's.
    fn cpu(&self) -> Option<Duration>;

    /// Returns the processor time of a database that has processes of its own on this machine.
    fn database_cpu(&self) -> Option<Duration> {
        None
    }

    /// Waits until the server has finished its remaining work.
    fn settle(&self) -> Result<(), Failed> {
        const POLL_INTERVAL: Duration = Duration::from_millis(500);
        let latest = Instant::now() + SETTLE;
        while Instant::now() < latest {
            let before = self.cpu();
            std::thread::sleep(POLL_INTERVAL);
            let spent = self.cpu().zip(before).map(|(after, before)| after - before);
            // Waiting readers cost a few percent.
            if spent.is_none_or(|spent| spent < POLL_INTERVAL / 6) {
                return Ok(());
            }
        }
        Err("the server did not come to rest in time".into())
    }
}

/// The figures of a cell.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    pub requests: usize,
    pub per_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub errors: usize,
    /// The server's processor time per request, which is less noisy than a rate on a busy machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_cpu_us: Option<f64>,
    /// The database's processor time per request, if the database has processes of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database_cpu_us: Option<f64>,
    /// The first reply that was not a success.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_error: Option<String>,
}

impl Measured {
    /// Combines the rounds of a cell: each figure is a median, so that a disturbed round has no
    /// effect.
    pub fn median_of(rounds: &[Self]) -> Self {
        let of = |figure: fn(&Self) -> f64| median(rounds.iter().map(figure));
        let cpu = |of: fn(&Self) -> Option<f64>| {
            let figures: Option<Vec<f64>> = rounds.iter().map(of).collect();
            figures.map(median)
        };
        Self {
            requests: rounds.iter().map(|round| round.requests).sum(),
            per_second: of(|round| round.per_second),
            p50_ms: of(|round| round.p50_ms),
            p99_ms: of(|round| round.p99_ms),
            errors: rounds.iter().map(|round| round.errors).sum(),
            server_cpu_us: cpu(|round| round.server_cpu_us),
            database_cpu_us: cpu(|round| round.database_cpu_us),
            first_error: rounds.iter().find_map(|round| round.first_error.clone()),
        }
    }
}

impl Measured {
    /// Refuses a cell with refused requests, because those would improve its figures.
    pub fn without_errors(self) -> Result<Self, Failed> {
        match self.first_error {
            None => Ok(self),
            Some(reply) => Err(format!("{} requests were refused: {reply}", self.errors).into()),
        }
    }
}

/// Returns the ratio of a figure in two cells that were measured in turn.
///
/// Each round has a ratio of its own, because the load of the machine changes between rounds. The
/// result is the median of these ratios.
pub fn median_ratio(
    one: &[Measured],
    other: &[Measured],
    figure: impl Fn(&Measured) -> f64,
) -> f64 {
    let rounds = one.iter().zip(other);
    median(rounds.map(|(one, other)| figure(one) / figure(other)))
}

/// Returns the median of these figures.
pub fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.into_iter().collect();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The time in which a cell's requests count.
#[derive(Clone, Copy)]
pub struct Window {
    begin: Instant,
    end: Instant,
}

/// The observations of a connection.
#[derive(Default)]
pub struct Observed {
    latencies_us: Vec<u32>,
    errors: usize,
    first_error: Option<String>,
    last: Option<Instant>,
    /// The number of replies, including those of the warm-up.
    answered: usize,
}

impl Observed {
    /// Counts a reply that should have been a success.
    pub fn refuse(&mut self, status: u16, body: &[u8]) {
        self.errors += 1;
        self.first_error
            .get_or_insert_with(|| format!("{status} {}", String::from_utf8_lossy(body)));
    }

    /// Counts a reply, and returns whether there is time for another request.
    pub fn take(&mut self, window: Window, sent: Instant, answered: Instant) -> bool {
        self.answered += 1;
        // A late reply counts too, because the longest latencies must not be left out.
        if sent >= window.begin {
            let us = (answered - sent).as_micros();
            self.latencies_us
                .push(u32::try_from(us).unwrap_or(u32::MAX));
            self.last = Some(answered);
        }
        answered <= window.end
    }
}

/// Keeps `connections` busy for a time. A request counts if it was sent within that time.
pub fn measure(
    target: &dyn Target,
    connections: usize,
    duration: Duration,
    source: &Arc<dyn Source>,
) -> Result<Measured, Failed> {
    measure_talk(target, connections, duration, |window| {
        talk(target.address(), window, Arc::clone(source))
    })
}

/// Runs a number of concurrent conversations, for clients that do more than send requests.
pub fn measure_talk<Talk>(
    target: &dyn Target,
    connections: usize,
    duration: Duration,
    talk: impl Fn(Window) -> Talk + Sync,
) -> Result<Measured, Failed>
where
    Talk: Future<Output = io::Result<Observed>> + Send + 'static,
{
    let (cpu_before, database_before) = (target.cpu(), target.database_cpu());
    // The clients use at most half of the cores, because the server needs the others.
    let threads = std::thread::available_parallelism()
        .map_or(1, |cores| cores.get() / 2)
        .clamp(1, connections);
    let begin = Instant::now() + WARM_UP;
    let window = Window {
        begin,
        end: begin + duration,
    };
    let observed: Vec<Observed> = std::thread::scope(|scope| {
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
    let database_cpu = target.database_cpu().zip(database_before);
    let answered: usize = observed.iter().map(|one| one.answered).sum();
    let each = |(after, before): (Duration, Duration)| {
        (after - before).as_secs_f64() * 1e6 / answered as f64
    };
    let mut latencies_us: Vec<u32> = observed
        .iter()
        .flat_map(|one| one.latencies_us.iter().copied())
        .collect();
    latencies_us.sort_unstable();
    // A cell ends early when its source has no more requests.
    let last = observed.iter().filter_map(|one| one.last).max();
    let seconds = last.map_or(f64::INFINITY, |last| {
        last.saturating_duration_since(begin).as_secs_f64()
    });
    Ok(Measured {
        requests: latencies_us.len(),
        per_second: latencies_us.len() as f64 / seconds,
        p50_ms: percentile_ms(&latencies_us, 0.50),
        p99_ms: percentile_ms(&latencies_us, 0.99),
        errors: observed.iter().map(|one| one.errors).sum(),
        server_cpu_us: cpu.map(each),
        database_cpu_us: database_cpu.map(each),
        first_error: observed.into_iter().find_map(|one| one.first_error),
    })
}

/// Returns the part of these sorted microseconds, in milliseconds.
pub fn percentile_ms(sorted_us: &[u32], part: f64) -> f64 {
    let index = (sorted_us.len() as f64 * part) as usize;
    let index = index.min(sorted_us.len().saturating_sub(1));
    sorted_us
        .get(index)
        .map_or(f64::NAN, |us| f64::from(*us) / 1_000.0)
}

fn talk_on_all<Talk>(
    connections: usize,
    window: Window,
    talk: impl Fn(Window) -> Talk,
) -> Result<Vec<Observed>, Failed>
where
    Talk: Future<Output = io::Result<Observed>> + Send + 'static,
{
    let latest = window.end + GRACE;
    runtime()?.block_on(async {
        let talks: Vec<_> = (0..connections)
            .map(|_| tokio::spawn(talk(window)))
            .collect();
        let mut observed = Vec::with_capacity(connections);
        for talk in talks {
            observed.push(
                tokio::time::timeout_at(latest.into(), talk)
                    .await
                    .map_err(|_| "a reply did not come in time")???,
            );
        }
        Ok(observed)
    })
}

async fn talk(
    address: SocketAddr,
    window: Window,
    source: Arc<dyn Source>,
) -> io::Result<Observed> {
    let mut connection = Connection::open(address).await?;
    let mut observed = Observed::default();
    let mut request = Vec::new();
    while observed.errors < MAX_ERRORS {
        request.clear();
        if !source.next(&mut request) {
            break;
        }
        let sent = Instant::now();
        let (status, body) = connection.exchange(&request).await?;
        let answered = Instant::now();
        if !(200..300).contains(&status) {
            observed.refuse(status, body);
        }
        if !observed.take(window, sent, answered) {
            break;
        }
    }
    Ok(observed)
}
