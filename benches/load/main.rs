//! A load program that anyone can run: the built server under load, beside the ceilings of the same machine.
//!
//! `cargo bench --bench load` measures each call at several numbers of connections, together with what the framework
//! alone, SQLite alone and a server with one commit a request do in the same minutes; then what readers of streams wait
//! for, cost, and keep when they are cut. `-- --big` compares an empty file with one of a million sessions. Figures of one run can be compared with each other; between machines only the ratios.

mod ceilings;
mod client;
mod cuts;
mod fill;
mod idle;
mod numbers;
mod report;
mod requests;
mod server;
mod streams;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;

use client::{Measured, Source, Target, ask, measure};
use fill::Filled;
use report::{Ratio, Report};
use requests::{Appends, Keyed, Rotating};
use server::Server;

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// Two MSPs, a relay, and a white-label bot that serves both.
const WORLD: &str = include_str!("world.json");

const CREATES: &str = "creates";
const WHITE_LABEL: &str = "white-label";
const IDEMPOTENT: &str = "idempotent";
const APPENDS: &str = "appends";
const LIST_PAGES: &str = "list-pages";
const MESSAGE_PAGES: &str = "message-pages";
const DRY_RUNS: &str = "dry-runs";
const FIXED_JSON: &str = "fixed-json";
const COMMIT_PER_REQUEST: &str = "commit-per-request";
const SQLITE: &str = "sqlite";
const FIRST_DELTA: &str = "first-delta";
const IDLE_READERS: &str = "idle-readers";
const CUT_STREAMS: &str = "cut-streams";
/// In the order in which they are measured: what is compared stands together, so that both meet the same machine.
const ALL: [&str; 13] = [
    SQLITE,
    FIXED_JSON,
    COMMIT_PER_REQUEST,
    CREATES,
    WHITE_LABEL,
    IDEMPOTENT,
    APPENDS,
    FIRST_DELTA,
    LIST_PAGES,
    MESSAGE_PAGES,
    DRY_RUNS,
    IDLE_READERS,
    CUT_STREAMS,
];
/// What is compared between an empty and a big file, at these numbers of connections.
const GROWING: [&str; 4] = [CREATES, LIST_PAGES, MESSAGE_PAGES, DRY_RUNS];
const GROWING_CONNECTIONS: [usize; 2] = [1, 16];
/// Times that the two files take turns in each comparison.
const ROUNDS: u32 = 5;

/// Sessions that are made a second of a cell of appends: at 15 messages each more than a server takes.
const SESSIONS_PER_SECOND: f64 = 3_000.0;

#[derive(Parser)]
#[command(
    name = "load",
    about = "Puts load on the built server and on the ceilings of this machine"
)]
struct Options {
    /// Seconds that each cell is measured
    #[arg(long, default_value_t = 3.0, value_parser = seconds)]
    seconds: f64,
    /// Connections that are open at one time, one table line each
    #[arg(long, value_delimiter = ',', default_value = "1,16,64,256", value_parser = connections)]
    connections: Vec<usize>,
    /// Only these, of creates, white-label, idempotent, appends, first-delta, list-pages, message-pages, dry-runs,
    /// fixed-json, commit-per-request, sqlite, idle-readers, cut-streams
    #[arg(long, value_delimiter = ',', value_parser = clap::builder::PossibleValuesParser::new(ALL))]
    only: Vec<String>,
    /// Readers that wait, of idle-readers
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(1..=20_000))]
    readers: u64,
    /// Seconds that they wait while the server does nothing else
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..=600))]
    idle_seconds: u64,
    /// Streams that are cut, of cut-streams
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    cuts: u64,
    /// What their random choices begin with; by default another one in each run, which is said
    #[arg(long)]
    seed: Option<u64>,
    /// Where the same is written as JSON
    #[arg(long, default_value = "target/bench/load.json")]
    json: PathBuf,
    /// Compare an empty file with one of 1,000,000 sessions and 5,000,000 messages instead
    #[arg(long)]
    big: bool,
    /// Where the big file is kept for the next run
    #[arg(long, default_value = "target/bench/big")]
    big_folder: PathBuf,
    /// Say the server's process id on stderr, for a profiler
    #[arg(long)]
    say_process: bool,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
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
    let outcome = if options.big {
        compare_files(&options)
    } else {
        measure_all(&options)
    };
    let report = match outcome {
        Ok(report) => report,
        Err(error) => {
            eprintln!("load: {error}");
            return ExitCode::FAILURE;
        }
    };
    print!("{}", report.table());
    if let Err(error) = report.write(&options.json) {
        eprintln!("load: {}: {error}", options.json.display());
        return ExitCode::FAILURE;
    }
    if report.errors() > 0 {
        eprintln!("load: {} requests were refused", report.errors());
        return ExitCode::FAILURE;
    }
    if !report.failures.is_empty() {
        eprintln!("load: {} failures", report.failures.len());
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Every call and every ceiling, at each number of connections.
fn measure_all(options: &Options) -> Result<Report, Failed> {
    let folder = tempfile::tempdir()?;
    let wanted =
        |what: &str| options.only.is_empty() || options.only.iter().any(|only| only == what);
    let duration = Duration::from_secs_f64(options.seconds);
    let mut report = Report::new(options.seconds);
    if wanted(IDLE_READERS) {
        idle::allow_files(options.readers)?;
    }

    let data = folder.path().join("served");
    let filled = fill::small(&data)?;
    let server = Server::start(&data, &folder.path().join("served.log"))?;
    if options.say_process {
        eprintln!("the server is process {}", server.process());
    }
    let reply = ask(server.address, &requests::create(), 1)?.remove(0);

    let plain_data = folder.path().join("plain");
    server::import(&plain_data, WORLD)?;
    let plain = ceilings::commit_per_request(&plain_data, std::str::from_utf8(&reply)?)?;
    let fixed = ceilings::fixed_json(reply)?;
    if wanted(SQLITE) {
        let alone = folder.path().join("alone");
        server::import(&alone, WORLD)?;
        let rows = ceilings::sqlite_alone(&alone, duration)?;
        eprintln!("SQLite alone: {rows:.0} rows/s in groups of 64");
        report.sqlite_rows_per_second = Some(rows);
    }
    for connections in &options.connections {
        for what in ALL.into_iter().filter(|what| wanted(what)) {
            let target: &dyn Target = match what {
                SQLITE | IDLE_READERS | CUT_STREAMS => continue,
                FIXED_JSON => &fixed,
                COMMIT_PER_REQUEST => &plain,
                _ => &server,
            };
            let measured = if what == FIRST_DELTA {
                // What the appends before have left would be in its way.
                server.settle()?;
                streams::first_deltas(&server, *connections, duration)?
            } else {
                let source = source(what, &server, &filled, duration)?;
                measure(target, *connections, duration, &source)?
            };
            report.add(what, *connections, measured);
        }
    }
    let all = &options.connections;
    let aim = Some("at least 5 at 64 connections");
    report.compare(CREATES, COMMIT_PER_REQUEST, all, aim);
    report.compare(CREATES, FIXED_JSON, all, None);
    report.compare_with_sqlite(CREATES, all);
    report.compare(WHITE_LABEL, CREATES, all, None);
    report.compare(IDEMPOTENT, CREATES, all, None);
    report.compare(APPENDS, CREATES, all, None);
    report.compare(LIST_PAGES, FIXED_JSON, all, None);
    report.compare(MESSAGE_PAGES, FIXED_JSON, all, None);
    report.compare(DRY_RUNS, FIXED_JSON, all, None);
    if let Some(first) = report.cell(FIRST_DELTA, 1).map(|cell| cell.p50_ms) {
        report.figure("first-delta at 1, p50 in ms", first, Some("less than 5"));
    }
    drop((server, plain, fixed));
    if wanted(IDLE_READERS) {
        let idle = Duration::from_secs(options.idle_seconds);
        let readers = usize::try_from(options.readers)?;
        idle::measure_idle(folder.path(), readers, idle, duration, &mut report)?;
    }
    if wanted(CUT_STREAMS) {
        let seed = options.seed.unwrap_or_else(|| {
            let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            since.map_or(0, |since| since.as_secs())
        });
        let cuts = usize::try_from(options.cuts)?;
        cuts::measure_cuts(folder.path(), cuts, seed, &mut report)?;
    }
    Ok(report)
}

/// The requests of a line of the table.
fn source(
    what: &str,
    server: &Server,
    filled: &Filled,
    duration: Duration,
) -> Result<Arc<dyn Source>, Failed> {
    Ok(match what {
        WHITE_LABEL => Arc::new(Rotating::white_label_creates()),
        IDEMPOTENT => Arc::new(Keyed::new()),
        APPENDS => Arc::new(Appends::new(&sessions_for_appends(server, duration)?)),
        LIST_PAGES => Arc::new(Rotating::list_pages()),
        MESSAGE_PAGES => Arc::new(Rotating::message_pages(&filled.read_sessions)),
        DRY_RUNS => Arc::new(Rotating::dry_runs()),
        _ => Arc::new(Rotating::creates()),
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

/// New sessions, so many that none of them gets too many messages.
fn sessions_for_appends(server: &Server, duration: Duration) -> Result<Vec<String>, Failed> {
    let sessions = (duration.as_secs_f64() + 0.5) * SESSIONS_PER_SECOND;
    made_sessions(server, &requests::create(), sessions as usize)
}

/// So many new sessions.
fn made_sessions(server: &Server, create: &[u8], number: usize) -> Result<Vec<String>, Failed> {
    ask(server.address, create, number)?
        .iter()
        .map(|body| Ok(serde_json::from_slice::<Created>(body)?.data.id))
        .collect()
}

/// The same calls on a small and on a big file, in turn; what counts is how much slower the big one is.
fn compare_files(options: &Options) -> Result<Report, Failed> {
    let folder = tempfile::tempdir()?;
    let small_data = folder.path().join("small");
    let small = fill::small(&small_data)?;
    let big = fill::big(&options.big_folder)?;
    let big_data = options.big_folder.join("data");
    let on = |data: &Path, log: &str| Server::start(data, &folder.path().join(log));
    let on_small = on(&small_data, "small.log")?;
    let on_big = on(&big_data, "big.log")?;

    let duration = Duration::from_secs_f64(options.seconds / f64::from(ROUNDS));
    let mut report = Report::new(options.seconds);
    for what in GROWING {
        for connections in GROWING_CONNECTIONS {
            let mut rounds = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                let source_of_small = source(what, &on_small, &small, duration)?;
                let source_of_big = source(what, &on_big, &big, duration)?;
                rounds
                    .0
                    .push(measure(&on_small, connections, duration, &source_of_small)?);
                rounds
                    .1
                    .push(measure(&on_big, connections, duration, &source_of_big)?);
            }
            let p50 = |round: &Measured| round.p50_ms;
            let (small_file, big_file) = (middle(rounds.0, p50), middle(rounds.1, p50));
            report.ratios.push(Ratio {
                what: format!("{what} at {connections}, p50 big / small"),
                ratio: big_file.p50_ms / small_file.p50_ms,
                aim: Some("at most 1.3"),
            });
            report.add(what, connections, small_file);
            report.add(on_a_big_file(what), connections, big_file);
        }
    }
    Ok(report)
}

fn on_a_big_file(what: &str) -> &'static str {
    match what {
        LIST_PAGES => "list-pages, big",
        MESSAGE_PAGES => "message-pages, big",
        DRY_RUNS => "dry-runs, big",
        _ => "creates, big",
    }
}

/// The round with the middle one of these figures, with the errors of all.
fn middle(mut rounds: Vec<Measured>, figure: impl Fn(&Measured) -> f64) -> Measured {
    let errors = rounds.iter().map(|round| round.errors).sum();
    let first_error = rounds.iter().find_map(|round| round.first_error.clone());
    rounds.sort_by(|one, other| figure(one).total_cmp(&figure(other)));
    let mut middle = rounds.swap_remove(rounds.len() / 2);
    middle.errors = errors;
    middle.first_error = first_error;
    middle
}
