//! The size of the write-ahead log: under creates alone, and during continuous long searches.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use switchboard::store::database_file;

use crate::measure::{Measured, Source, measure};
use crate::report::{Aim, Place, Report};
use crate::requests::Rotating;
use crate::server::{self, Server};
use crate::{Failed, SEED_FILE};

/// The number of connections that create sessions.
const CONNECTIONS: usize = 64;
/// The number of connections that search: the server's limit of concurrent long reads.
const SEARCHING: usize = 4;
/// The minimum duration of a cell, so that the log restarts within it more than once.
const SHORTEST_CELL: Duration = Duration::from_secs(10);
/// The interval of reading the log's size.
const POLL_INTERVAL: Duration = Duration::from_millis(5);
pub const MIB: f64 = (1 << 20) as f64;

/// Measures on a server with a new file, and on one with a big file, in which searches take long.
pub fn measure_log(
    folder: &Path,
    big: Option<&Path>,
    cell: Duration,
    report: &mut Report,
) -> Result<(), Failed> {
    let cell = cell.max(SHORTEST_CELL);
    let creates: Arc<dyn Source> = Arc::new(Rotating::creates());
    let data = folder.join("log");
    server::import(&data, SEED_FILE)?;
    let server = Server::start(&data, &folder.join("log.log"))?;
    let create = |cell| measure(&server, CONNECTIONS, cell, &creates)?.without_errors();
    let (alone, _) = largest_while(&data, || create(cell))?;
    // The log restarts at 64 MiB, but up to a thousand frames and a commit later.
    report.demand("log under creates, MiB", alone, Aim::AtMost(72.0));
    drop(server);

    let Some(data) = big else {
        return Ok(());
    };
    let server = Server::start(data, &folder.join("log-big.log"))?;
    let create = |cell| measure(&server, CONNECTIONS, cell, &creates)?.without_errors();
    let searches: Arc<dyn Source> = Arc::new(Rotating::long_searches());
    let busy = || -> Result<Measured, Failed> {
        thread::scope(|scope| {
            let searching = scope.spawn(|| measure(&server, SEARCHING, cell, &searches));
            create(cell)?;
            searching.join().map_err(|_| "the searches panicked")?
        })
    };
    let (first, _) = largest_while(data, busy)?;
    let (second, searched) = largest_while(data, busy)?;
    report.add("searches, creates", Place::Big, SEARCHING, searched);
    let what = "log under creates and searches, MiB";
    report.figure(what, second, Some(Aim::AtMost(256.0)));
    // A log without a bound doubles in twice the time. The reading's phase in a cycle is random.
    let what = "log under creates and searches, later / before";
    report.figure(what, second / first, Some(Aim::AtMost(1.5)));
    create(cell / 2)?;
    let after = length(&log_of(data)) as f64 / MIB;
    let what = "log when the searches have ended, MiB";
    report.figure(what, after, Some(Aim::AtMost(256.0)));
    Ok(())
}

pub fn log_of(data: &Path) -> PathBuf {
    let mut log = database_file(data).into_os_string();
    log.push("-wal");
    log.into()
}

pub fn length(log: &Path) -> u64 {
    fs::metadata(log).map_or(0, |log| log.len())
}

/// Returns the log's largest size while an activity runs, in MiB.
fn largest_while<T>(
    data: &Path,
    go_on: impl FnOnce() -> Result<T, Failed>,
) -> Result<(f64, T), Failed> {
    let (log, largest, is_over) = (log_of(data), AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                largest.fetch_max(length(&log), Ordering::Relaxed);
                thread::sleep(POLL_INTERVAL);
            }
        });
        let outcome = go_on();
        is_over.store(true, Ordering::Relaxed);
        Ok((largest.load(Ordering::Relaxed) as f64 / MIB, outcome?))
    })
}
