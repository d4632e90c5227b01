//! The table: each call and each ceiling, at each number of connections, on a small and on a big
//! file.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::ceilings::{self, InProcessServer};
use crate::client::{ask, made_sessions};
use crate::fill;
use crate::measure::{Measured, Source, Target, measure, median_ratio};
use crate::postgres::{Cluster, Nodes};
use crate::report::{Aim, Place, Report};
use crate::requests::{self, Activities, Appends, Keyed, Rotating};
use crate::server::{self, Server};
use crate::what::Benchmark;
use crate::{Failed, Options, SEED_FILE, single, streams};

/// The number of rounds of cells that are compared. Each round measures all of them in turn.
const ROUNDS: u32 = 5;
/// The number of rounds of cells that leave queued turns, which each round waits for.
const ROUNDS_WITH_WORK: u32 = 3;
/// The number of sessions for a second of appends: with 15 messages each, more than a server
/// accepts.
const SESSIONS_PER_SECOND: f64 = 3_000.0;
/// The number of sessions whose answers are read as streams.
const ANSWERED: usize = 64;
/// The number of sessions whose messages fill a page, in a database, and of their answers.
const FILLED: usize = 64;
const ANSWERS: usize = 10;

/// A server, or several, and the sessions in its data.
struct FilledServer<'a> {
    place: Place,
    server: Box<dyn Target + 'a>,
    /// The sessions whose messages fill a page.
    filled: Vec<String>,
    /// The sessions with an answer.
    answered: Vec<String>,
    /// Where the answers of bots go.
    sink: InProcessServer,
}

impl<'a> FilledServer<'a> {
    fn start(place: Place, data: &Path, log: &Path, options: &Options) -> Result<Self, Failed> {
        let server = Server::start_with_bots(data, log)?;
        if options.say_process && place == Place::Small {
            eprintln!("the server is process {}", server.process());
        }
        Self::on(place, Box::new(server), fill::read_sessions(data)?, options)
    }

    /// Starts nodes on a database.
    fn start_nodes(
        cluster: &'a Cluster,
        place: Place,
        folder: &Path,
        options: &Options,
    ) -> Result<Self, Failed> {
        let (name, number) = match place {
            Place::TwoNodes => ("two", 2),
            Place::OneNode | Place::Small | Place::Big => ("one", 1),
        };
        let flags = server::bot_flags();
        let nodes = Nodes::start(cluster, name, number, &flags, folder)?;
        if options.say_process {
            let processes: Vec<_> = nodes.servers.iter().map(Server::process).collect();
            eprintln!("the nodes of {place:?} are {processes:?}");
        }
        let filled = if options.wants(Benchmark::MessagePages) {
            streams::answered_sessions(&nodes, FILLED, ANSWERS)?
        } else {
            Vec::new()
        };
        Self::on(place, Box::new(nodes), filled, options)
    }

    fn on(
        place: Place,
        server: Box<dyn Target + 'a>,
        filled: Vec<String>,
        options: &Options,
    ) -> Result<Self, Failed> {
        let answered = if options.wants(Benchmark::Streams) {
            streams::answered_sessions(&*server, ANSWERED, 1)?
        } else {
            Vec::new()
        };
        Ok(Self {
            place,
            server,
            filled,
            answered,
            sink: ceilings::fixed_json(br#"{"id":"1"}"#.to_vec())?,
        })
    }

    fn measure(
        &self,
        what: Benchmark,
        connections: usize,
        duration: Duration,
    ) -> Result<Measured, Failed> {
        let server = &*self.server;
        let measured = if what == Benchmark::FirstDelta {
            streams::first_deltas(server, connections, duration)?
        } else if what == Benchmark::Streams {
            streams::whole_answers(server, &self.answered, connections, duration)?
        } else if what == Benchmark::Activities {
            let url = format!("http://{}/", self.sink.address());
            let conversations = (duration.as_secs_f64() + 0.5) * SESSIONS_PER_SECOND;
            let activities = Activities::new(&url, conversations as usize);
            let source: Arc<dyn Source> = Arc::new(activities);
            measure(server, connections, duration, &source)?
        } else {
            let source = source(what, server, &self.filled, duration)?;
            measure(server, connections, duration, &source)?
        };
        if what.leaves_work() {
            server.settle()?;
        }
        Ok(measured)
    }
}

/// The servers of the ceilings and variants.
struct Others {
    fixed_json: InProcessServer,
    commit_per_request: InProcessServer,
    single: Server,
}

impl Others {
    fn start(folder: &Path, reply: Vec<u8>) -> Result<Self, Failed> {
        let data = |name: &str| -> Result<_, Failed> {
            let data = folder.join(name);
            server::import(&data, SEED_FILE)?;
            Ok(data)
        };
        let template = std::str::from_utf8(&reply)?;
        let plain = ceilings::commit_per_request(&data("plain")?, template)?;
        Ok(Self {
            commit_per_request: plain,
            fixed_json: ceilings::fixed_json(reply)?,
            single: single::start(&data("single")?, &folder.join("single.log"))?,
        })
    }

    fn measure(
        &self,
        what: Benchmark,
        connections: usize,
        duration: Duration,
    ) -> Result<Measured, Failed> {
        let target: &dyn Target = if what == Benchmark::FixedJson {
            &self.fixed_json
        } else if what == Benchmark::CommitPerRequest {
            &self.commit_per_request
        } else {
            &self.single
        };
        let source = source(what, target, &[], duration)?;
        let measured = measure(target, connections, duration, &source)?;
        if what.leaves_work() {
            self.single.settle()?;
        }
        Ok(measured)
    }
}

/// Measures the wanted lines of the table.
pub fn measure_rows(
    folder: &Path,
    big: Option<&Path>,
    cluster: Option<&Cluster>,
    options: &Options,
    report: &mut Report,
) -> Result<(), Failed> {
    let duration = options.cell();
    let data = folder.join("small");
    fill::small(&data)?;
    let start =
        |place, data: &Path, log| FilledServer::start(place, data, &folder.join(log), options);
    let mut servers = vec![start(Place::Small, &data, "small.log")?];
    if let Some(data) = big {
        servers.push(start(Place::Big, data, "big.log")?);
    }
    for place in [Place::OneNode, Place::TwoNodes] {
        if let Some(cluster) = cluster {
            servers.push(FilledServer::start_nodes(cluster, place, folder, options)?);
        }
    }
    let reply = ask(servers[0].server.address(), &requests::create(), 1)?.remove(0);
    let others = Others::start(folder, reply)?;
    if options.wants(Benchmark::Sqlite) {
        let alone = folder.join("alone");
        server::import(&alone, SEED_FILE)?;
        let rows = ceilings::sqlite_alone(&alone, duration)?;
        eprintln!("SQLite alone: {rows:.0} rows/s in groups of 64");
        report.sqlite_rows_per_second = Some(rows);
    }
    for connections in options.connections.iter().copied() {
        for group in Benchmark::TABLE {
            let mut lines = Vec::new();
            for what in group.iter().copied().filter(|what| options.wants(*what)) {
                if what == Benchmark::Pgbench {
                    if let Some(cluster) = cluster.filter(|cluster| cluster.allows(connections)) {
                        let run = |connections, cell| cluster.insert_rows(connections, cell);
                        lines.push(Line::new(what, Place::Small, run));
                    }
                } else if Benchmark::OTHERS.contains(&what) {
                    let others = &others;
                    let run = move |connections, cell| others.measure(what, connections, cell);
                    lines.push(Line::new(what, Place::Small, run));
                } else {
                    lines.extend(servers.iter().map(|server| {
                        let run = move |connections, cell| server.measure(what, connections, cell);
                        Line::new(what, server.place, run)
                    }));
                }
            }
            measure_in_turn(&mut lines, connections, duration)?;
            report_ratios(&lines, connections, report);
        }
    }
    report_latencies(report);
    Ok(())
}

/// Measures at a number of connections for a time.
type Run<'a> = Box<dyn Fn(usize, Duration) -> Result<Measured, Failed> + 'a>;

/// A line of the table.
struct Line<'a> {
    what: Benchmark,
    place: Place,
    run: Run<'a>,
    rounds: Vec<Measured>,
}

impl<'a> Line<'a> {
    fn new(
        what: Benchmark,
        place: Place,
        run: impl Fn(usize, Duration) -> Result<Measured, Failed> + 'a,
    ) -> Self {
        Self {
            what,
            place,
            run: Box::new(run),
            rounds: Vec::new(),
        }
    }
}

fn measure_in_turn(
    lines: &mut [Line<'_>],
    connections: usize,
    duration: Duration,
) -> Result<(), Failed> {
    let rounds = if lines.len() < 2 {
        1
    } else if lines.iter().any(|line| line.what.leaves_work()) {
        ROUNDS_WITH_WORK
    } else {
        ROUNDS
    };
    for _ in 0..rounds {
        for line in &mut *lines {
            let measured = (line.run)(connections, duration / rounds)?;
            line.rounds.push(measured);
        }
    }
    Ok(())
}

/// Adds the cells of a group to the report, and the ratios within the group.
fn report_ratios(lines: &[Line<'_>], connections: usize, report: &mut Report) {
    for line in lines {
        let measured = Measured::median_of(&line.rounds);
        report.add(line.what, line.place, connections, measured);
    }
    let rounds = |what, place| {
        let mut found = lines.iter();
        found
            .find(|line| line.what == what && line.place == place)
            .map(|line| &line.rounds)
    };
    for line in lines.iter().filter(|line| line.place == Place::Big) {
        let what = line.what;
        if let Some(small) = rounds(what, Place::Small) {
            let ratio = median_ratio(&line.rounds, small, |round| round.p50_ms);
            let aim = what.is_to_stay_quick().then_some(Aim::AtMost(1.3));
            let figure = format!("{what} at {connections}, p50 big / small");
            report.figure(figure, ratio, aim);
        }
    }
    for line in lines {
        let what = line.what;
        let nodes = match line.place {
            Place::OneNode => "PG",
            Place::TwoNodes => "PG, 2 nodes",
            Place::Small | Place::Big => continue,
        };
        let is_aimed = what == Benchmark::Creates && connections == TARGET_CONNECTIONS;
        let mut compare = |with: &str, other, figure: fn(&Measured) -> f64, aim| {
            let ratio = median_ratio(&line.rounds, other, figure);
            let aim = Some(aim).filter(|_| is_aimed && line.place == Place::OneNode);
            report.figure(
                format!("{what} at {connections}, {nodes} / {with}"),
                ratio,
                aim,
            );
        };
        if let Some(file) = rounds(what, Place::Small) {
            compare("SQLite", file, |round| round.per_second, MIN_RATE);
            let cpu = |round: &Measured| round.server_cpu_us.unwrap_or(f64::NAN);
            compare("SQLite, server CPU", file, cpu, MAX_CPU);
        }
        if let Some(pgbench) = rounds(Benchmark::Pgbench, Place::Small) {
            compare(
                "pgbench",
                pgbench,
                |round| round.per_second,
                Aim::AtLeast(1.0),
            );
        }
    }
    for (what, with, aim) in COMPARED {
        if let Some(one) = rounds(what, Place::Small)
            && let Some(other) = rounds(with, Place::Small)
        {
            let ratio = median_ratio(one, other, |round| round.per_second);
            let aim = aim.filter(|_| connections == TARGET_CONNECTIONS);
            report.figure(format!("{what} / {with} at {connections}"), ratio, aim);
        }
    }
}

/// The minimum rate of creates on PostgreSQL, and the maximum processor time of its server, as
/// multiples of those on SQLite.
const MIN_RATE: Aim = Aim::AtLeast(0.4);
const MAX_CPU: Aim = Aim::AtMost(1.7);
/// The number of connections at which figures have targets.
pub const TARGET_CONNECTIONS: usize = 64;
/// The maximum latency of a create at that number, and of the first word of an answer to one
/// client.
pub const MAX_LATENCY_MS: f64 = 5.0;
/// The rates that are compared, and the target of the first as a multiple of the second.
pub const COMPARED: [(Benchmark, Benchmark, Option<Aim>); 7] = {
    const fn at_least(times: f64) -> Option<Aim> {
        Some(Aim::AtLeast(times))
    }
    [
        (Benchmark::Creates, Benchmark::FixedJson, at_least(0.4)),
        (
            Benchmark::Creates,
            Benchmark::CommitPerRequest,
            at_least(8.0),
        ),
        (Benchmark::Creates, Benchmark::CreatesCommitEach, None),
        (Benchmark::WhiteLabel, Benchmark::Creates, None),
        (Benchmark::Idempotent, Benchmark::Creates, None),
        (
            Benchmark::Appends,
            Benchmark::AppendsCommitEach,
            at_least(5.0),
        ),
        (Benchmark::Activities, Benchmark::Appends, at_least(0.5)),
    ]
};

/// Adds the latencies that have targets of their own.
fn report_latencies(report: &mut Report) {
    let small = |what, connections| report.cell(what, Place::Small, connections);
    let creates = small(Benchmark::Creates, TARGET_CONNECTIONS).map(|cell| cell.p99_ms);
    // They are answered meanwhile, by as many turns as may run at a time.
    let activities = small(Benchmark::Activities, TARGET_CONNECTIONS).map(|cell| cell.p99_ms);
    let first_word = small(Benchmark::FirstDelta, 1).map(|cell| cell.p50_ms);
    let aim = Some(Aim::AtMost(MAX_LATENCY_MS));
    for (what, figure, aim) in [
        (
            format!("creates at {TARGET_CONNECTIONS}, p99 in ms"),
            creates,
            aim,
        ),
        (
            format!("activities at {TARGET_CONNECTIONS} beside 64 running turns, p99 in ms"),
            activities,
            None,
        ),
        ("first-delta at 1, p50 in ms".to_owned(), first_word, aim),
    ] {
        if let Some(figure) = figure {
            report.figure(what, figure, aim);
        }
    }
}

/// Returns the requests of a line of the table.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "all other lines are creates"
)]
fn source(
    what: Benchmark,
    target: &dyn Target,
    filled: &[String],
    duration: Duration,
) -> Result<Arc<dyn Source>, Failed> {
    Ok(match what {
        Benchmark::WhiteLabel => Arc::new(Rotating::white_label_creates()),
        Benchmark::Idempotent => Arc::new(Keyed::new()),
        Benchmark::Appends | Benchmark::AppendsCommitEach => {
            // There are enough sessions that none gets too many messages.
            let sessions = (duration.as_secs_f64() + 0.5) * SESSIONS_PER_SECOND;
            let sessions = made_sessions(target.address(), &requests::create(), sessions as usize)?;
            Arc::new(Appends::new(&sessions))
        }
        Benchmark::ListPages => Arc::new(Rotating::list_pages()),
        Benchmark::MessagePages => Arc::new(Rotating::message_pages(filled)),
        Benchmark::DryRuns => Arc::new(Rotating::dry_runs()),
        _ => Arc::new(Rotating::creates()),
    })
}
