//! A load program for the built server, which also measures the ceilings of the same machine.
//!
//! `cargo bench --bench load` measures each call at several numbers of connections, on an empty
//! file and on one with a million sessions. In the same minutes it measures the framework alone,
//! SQLite alone and a server with one commit per request. It then measures memory and start, the
//! growth of the file and its log, fairness, and readers of streams. It prints a table, and writes
//! the table as JSON and as SVG. Compare figures within one run. Between machines, only ratios are
//! comparable. With `--database`, the same calls are measured on PostgreSQL too, with one node and
//! with two.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a program that measures ends where something is not as expected, and prints"
)]

mod ceilings;
mod client;
mod cuts;
mod fairness;
mod fill;
mod growth;
mod idle;
mod log_bound;
mod measure;
mod nodes;
mod numbers;
mod plot;
mod postgres;
mod report;
mod requests;
mod rows;
mod server;
mod single;
mod soak;
mod start;
mod streams;
mod what;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use mimalloc::MiMalloc;

use postgres::Cluster;
use report::Report;
use what::Benchmark;

/// The program's allocator, so that the ceilings are comparable.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// The seed file: two MSPs, a relay, and a white-label bot that serves both MSPs.
const SEED_FILE: &str = include_str!("world.json");

#[derive(Parser)]
#[command(
    name = "load",
    about = "Measures the built server under load, and the ceilings of this machine"
)]
struct Options {
    /// Seconds of each measured cell
    #[arg(long, default_value_t = 2.5, value_parser = seconds)]
    seconds: f64,
    /// Random of concurrent connections, separated by commas; each is a line of the table
    #[arg(long, value_delimiter = ',', default_value = "1,16,64,256", value_parser = connections)]
    connections: Vec<usize>,
    /// Measure only these, separated by commas; soak runs only if it is listed [default: all except
    /// soak]
    #[arg(long, value_delimiter = ',')]
    only: Vec<Benchmark>,
    /// Measure on PostgreSQL too, with one node and with two, in databases that the program makes:
    /// the URL of a superuser, or nothing for a server that the program starts in the folder
    #[arg(long, value_name = "URL", num_args = 0..=1, default_missing_value = "")]
    database: Option<String>,
    /// Skip the file with 1,000,000 sessions and 5,000,000 messages; the file takes minutes to
    /// make, and is kept
    #[arg(long)]
    no_big: bool,
    /// The folder of the measured files; it must be on the disk to be measured
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    folder: PathBuf,
    /// The file for the table as JSON [default: load.json in the folder]
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The file for the table as SVG [default: load.svg in the folder]
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Number of waiting readers, for idle-readers
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=20_000))]
    readers: u64,
    /// Seconds that the readers of idle-readers wait while the server is idle
    #[arg(long, value_name = "SECONDS", default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..=600))]
    idle_seconds: u64,
    /// Number of streams to cut, for cut-streams
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    cuts: u64,
    /// The seed of the random choices of cut-streams [default: the time, which is printed]
    #[arg(long)]
    seed: Option<u64>,
    /// Minutes of soak
    #[arg(long, value_name = "MINUTES", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    soak_minutes: u64,
    /// Print the server's process id on stderr, for a profiler
    #[arg(long)]
    say_process: bool,
    /// Serve this data folder with a commit for each change
    #[arg(long, hide = true)]
    serve_single_commits: Option<PathBuf>,
    /// Passed by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    fn wants(&self, what: Benchmark) -> bool {
        let is_possible = self.database.is_some() || !what.needs_database();
        let by_default = self.only.is_empty() && what != Benchmark::Soak;
        is_possible && (by_default || self.only.contains(&what))
    }

    fn wants_rows(&self) -> bool {
        let mut rows = Benchmark::TABLE.into_iter().flatten();
        self.wants(Benchmark::Sqlite) || rows.any(|what| self.wants(*what))
    }

    fn wants_big(&self) -> bool {
        let on_files = Benchmark::TABLE
            .into_iter()
            .flatten()
            .filter(|what| !Benchmark::OTHERS.contains(what));
        let mut on_big = on_files.chain([&Benchmark::MemoryAndStart, &Benchmark::LogBound]);
        !self.no_big && on_big.any(|what| self.wants(*what))
    }

    /// Returns the duration of a measured cell.
    fn cell(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    fn json(&self) -> PathBuf {
        let given = self.json.clone();
        given.unwrap_or_else(|| self.folder.join("load.json"))
    }

    fn plot(&self) -> PathBuf {
        let given = self.plot.clone();
        given.unwrap_or_else(|| self.folder.join("load.svg"))
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|seconds| (0.1..=600.0).contains(seconds))
        .ok_or_else(|| "must be a number from 0.1 to 600".to_owned())
}

fn connections(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|connections| (1..=1_024).contains(connections))
        .ok_or_else(|| "must be a number from 1 to 1024".to_owned())
}

fn main() -> ExitCode {
    let options = Options::parse();
    let outcome = match &options.serve_single_commits {
        Some(data) => single::serve(data).map(|()| 0),
        None => run(&options),
    };
    match outcome {
        Ok(0) => ExitCode::SUCCESS,
        Ok(number) => {
            eprintln!("load: {number} refused requests or failures");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures, prints the table, and returns the number of errors and failures.
fn run(options: &Options) -> Result<usize, Failed> {
    let needs = options.only.iter().find(|what| what.needs_database());
    if let (Some(what), None) = (needs, &options.database) {
        return Err(format!("{what} needs --database").into());
    }
    fs::create_dir_all(&options.folder)?;
    let lock = File::create(options.folder.join("lock"))?;
    if lock.try_lock().is_err() {
        return Err("another run uses this folder; choose another folder with --folder".into());
    }
    let folder = options.folder.join("run");
    // An interrupted run leaves its folder.
    if folder.is_dir() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir(&folder)?;
    let mut report = Report::new(options.seconds);
    measure_all(&folder, options, &mut report)?;
    fs::remove_dir_all(&folder)?;

    print!("{}", report.table());
    report.write(&options.json())?;
    if options.wants_rows() {
        plot::draw(&report, &options.plot())?;
    }
    Ok(report.errors() + report.failures.len())
}

fn measure_all(folder: &Path, options: &Options, report: &mut Report) -> Result<(), Failed> {
    if options.wants(Benchmark::IdleReaders) {
        idle::allow_files(options.readers)?;
    }
    if options.wants(Benchmark::Soak) {
        idle::allow_files(soak::MAX_FILES)?;
    }
    let big = if options.wants_big() {
        let filled = fill::big(&options.folder.join("big"))?;
        let data = folder.join("big");
        fill::copy(&filled, &data)?;
        Some(data)
    } else {
        None
    };
    let cluster = match &options.database {
        Some(url) => Some(Cluster::open(url, folder)?),
        None => None,
    };
    let cell = options.cell();
    if options.wants(Benchmark::MemoryAndStart) {
        let measured = start::measure_start(folder, big.as_deref(), report);
        report.keep(Benchmark::MemoryAndStart, measured);
    }
    if options.wants_rows() {
        rows::measure_rows(folder, big.as_deref(), cluster.as_ref(), options, report)?;
    }
    if let Some(cluster) = cluster.as_ref().filter(|_| options.wants(Benchmark::Nodes)) {
        let measured = nodes::measure_nodes(cluster, folder, report);
        report.keep(Benchmark::Nodes, measured);
    }
    if options.wants(Benchmark::LogBound) {
        let measured = log_bound::measure_log(folder, big.as_deref(), cell, report);
        report.keep(Benchmark::LogBound, measured);
    }
    if options.wants(Benchmark::Growth) {
        let measured = growth::measure_growth(folder, report);
        report.keep(Benchmark::Growth, measured);
    }
    if options.wants(Benchmark::Fairness) {
        let measured = fairness::measure_fairness(folder, cell, report);
        report.keep(Benchmark::Fairness, measured);
    }
    if options.wants(Benchmark::IdleReaders) {
        let idle = Duration::from_secs(options.idle_seconds);
        let readers = usize::try_from(options.readers)?;
        let measured = idle::measure_idle(folder, readers, idle, cell, report);
        report.keep(Benchmark::IdleReaders, measured);
    }
    if options.wants(Benchmark::CutStreams) {
        let seed = options.seed.unwrap_or_else(|| {
            let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            since.map_or(0, |since| since.as_secs())
        });
        let cuts = usize::try_from(options.cuts)?;
        let measured = cuts::measure_cuts(folder, cuts, seed, report);
        report.keep(Benchmark::CutStreams, measured);
    }
    if options.wants(Benchmark::Soak) {
        let whole = Duration::from_secs(options.soak_minutes * 60);
        let measured = soak::measure_soak(folder, whole, report);
        report.keep(Benchmark::Soak, measured);
    }
    Ok(())
}
