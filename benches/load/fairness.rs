//! Fairness: how a tenant that sends ten times its limit affects the latency of another tenant.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::time::sleep_until;

use crate::client::Connection;
use crate::measure::{Measured, Observed, Source, Window, measure, measure_talk, median_ratio};
use crate::report::{Aim, Place, Report};
use crate::requests::{self, Rotating};
use crate::server::{self, Server};
use crate::{Failed, SEED_FILE};

/// The limit of the flooding tenant, in requests per minute: ten times the default limit.
const LIMIT: u32 = 12_000;
/// How many times its limit the flooding tenant sends.
const EXCESS: u32 = 10;
/// The share of the server's capacity that the other tenant uses.
const PART: f64 = 0.3;
/// The number of connections of each tenant.
const CONNECTIONS: usize = 16;
/// The number of rounds in which the other tenant is measured alone and during the flood, in turn.
const ROUNDS: usize = 21;
/// The priority (`nice`) of the flooding threads.
const LOWEST_PRIORITY: i32 = 19;
/// The minimum duration of a round, so that 1% of its requests are some dozens.
const SHORTEST_ROUND: Duration = Duration::from_millis(1_500);

/// Measures on a server of its own.
pub fn measure_fairness(folder: &Path, cell: Duration, report: &mut Report) -> Result<(), Failed> {
    let data = folder.join("fairness");
    server::import(&data, &seed_file()?)?;
    let server = Server::start(&data, &folder.join("fairness.log"))?;
    let creates: Arc<dyn Source> = Arc::new(Rotating::creates());
    let round = (cell / 2).max(SHORTEST_ROUND);
    let most = measure(&server, CONNECTIONS, round, &creates)?.per_second;
    let calm = Pace::new(requests::create(), most * PART);
    let flood = Pace::new(
        requests::create_of_flood(),
        f64::from(LIMIT * EXCESS) / 60.0,
    );

    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        without.push(calm.measure(&server, round)?);
        let beside = thread::scope(|scope| {
            let flooding = scope.spawn(|| {
                // In production the flood comes from another machine, so its sending must not slow
                // down the other tenant's client here.
                rustix::process::setpriority_process(None, LOWEST_PRIORITY)?;
                flood.measure(&server, round)
            });
            let beside = calm.measure(&server, round);
            flooding
                .join()
                .map_err(|_| "the flood panicked")??
                .without_errors()?;
            beside
        })?;
        with.push(beside);
    }
    report.add(
        "creates, paced",
        Place::Small,
        CONNECTIONS,
        Measured::median_of(&without),
    );
    report.add(
        "creates, paced, flood",
        Place::Small,
        CONNECTIONS,
        Measured::median_of(&with),
    );
    let of_flood = |count: &AtomicUsize| count.load(Ordering::Relaxed) as f64;
    report.figure("flood, admitted", of_flood(&flood.admitted), None);
    report.figure("flood, refused with 429", of_flood(&flood.refused), None);
    let aim = Some(Aim::AtMost(1.2));
    report.figure(
        "another tenant's p99 beside the flood / alone",
        median_ratio(&with, &without, |round| round.p99_ms),
        aim,
    );
    if of_flood(&flood.refused) == 0.0 {
        report.fail("the flood was not refused".to_owned());
    }
    let refused = calm.refused.load(Ordering::Relaxed);
    if refused > 0 {
        report.fail(format!(
            "{refused} requests of the other tenant were refused with 429"
        ));
    }
    Ok(())
}

/// Returns the usual seed with another MSP, which has a limit.
fn seed_file() -> Result<String, Failed> {
    let mut seed_file: Value = serde_json::from_str(SEED_FILE)?;
    let tenants = seed_file["tenants"].as_array_mut();
    tenants.ok_or("the seed file has no tenants")?.push(json!({
        "client_id": "flood", "name": "Flood", "rate_limit_per_minute": LIMIT,
        "agents": [{ "agent_id": requests::AGENT_OF_FLOOD, "name": "Technician assistant",
                     "autonomy_type": "CONVERSATIONAL", "audience": "MSP" }],
        "api_keys": [{ "name": "load", "key": requests::KEY_OF_FLOOD, "platform": false }],
    }));
    Ok(seed_file.to_string())
}

/// A source that sends each request at its due time, however long earlier ones take.
#[derive(Clone)]
struct Pace {
    request: Arc<[u8]>,
    /// The interval between the requests of a connection.
    apart: Duration,
    admitted: Arc<AtomicUsize>,
    refused: Arc<AtomicUsize>,
}

impl Pace {
    fn new(request: Vec<u8>, per_second: f64) -> Self {
        Self {
            request: request.into(),
            apart: Duration::from_secs_f64(CONNECTIONS as f64 / per_second),
            admitted: Arc::default(),
            refused: Arc::default(),
        }
    }

    fn measure(&self, server: &Server, duration: Duration) -> Result<Measured, Failed> {
        let (address, begun) = (server.address, Instant::now());
        let opened = AtomicUsize::new(0);
        measure_talk(server, CONNECTIONS, duration, |window| {
            let index = opened.fetch_add(1, Ordering::Relaxed) as f64;
            let first = begun + self.apart.mul_f64(index / CONNECTIONS as f64);
            self.clone().talk(address, window, first)
        })
    }

    async fn talk(
        self,
        address: SocketAddr,
        window: Window,
        first: Instant,
    ) -> io::Result<Observed> {
        let mut connection = Connection::open(address).await?;
        let mut observed = Observed::default();
        let mut due = first;
        loop {
            // Waiting for the previous reply counts as latency. The timer's granularity of a
            // millisecond does not.
            let is_late = Instant::now() > due;
            sleep_until(due.into()).await;
            let sent = if is_late { due } else { Instant::now() };
            let (status, body) = connection.exchange(&self.request).await?;
            let answered = Instant::now();
            match status {
                200..300 => {
                    self.admitted.fetch_add(1, Ordering::Relaxed);
                }
                429 => {
                    self.refused.fetch_add(1, Ordering::Relaxed);
                    connection = connection.or_another(address).await?;
                }
                status => observed.refuse(status, body),
            }
            if !observed.take(window, sent, answered) {
                return Ok(observed);
            }
            due += self.apart;
        }
    }
}
