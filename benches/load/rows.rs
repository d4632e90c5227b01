//! The table: every call and every ceiling, at each number of connections, on a small file and on a big one.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::ceilings::{self, Inside};
use crate::client::{ask, made_sessions};
use crate::fill;
use crate::measure::{Measured, Source, Target, measure, middle_ratio};
use crate::report::{Aim, Report, Size};
use crate::requests::{self, Appends, Keyed, Rotating};
use crate::server::{self, Server};
use crate::what::What;
use crate::{Failed, Options, WORLD, single, streams};

/// Times that what is compared takes turns.
const ROUNDS: u32 = 5;
/// The same where what each round leaves to answer is waited for.
const ROUNDS_WITH_WORK: u32 = 3;
/// Sessions that are made a second of a cell of appends: at 15 messages each more than a server takes.
const SESSIONS_PER_SECOND: f64 = 3_000.0;
/// Sessions whose answers are read as streams.
const ANSWERED: usize = 64;

/// A server and what its file holds.
struct Place {
    size: Size,
    server: Server,
    /// Sessions whose messages fill a page.
    filled: Vec<String>,
    /// Sessions with an answer.
    answered: Vec<String>,
}

impl Place {
    fn start(size: Size, data: &Path, log: &Path, options: &Options) -> Result<Self, Failed> {
        let server = Server::start(data, log)?;
        let answered = if options.wants(What::Streams) {
            streams::answered_sessions(&server, ANSWERED)?
        } else {
            Vec::new()
        };
        Ok(Self {
            size,
            server,
            filled: fill::read_sessions(data)?,
            answered,
        })
    }

    fn measure(
        &self,
        what: What,
        connections: usize,
        duration: Duration,
    ) -> Result<Measured, Failed> {
        let server = &self.server;
        let measured = if what == What::FirstDelta {
            streams::first_deltas(server, connections, duration)?
        } else if what == What::Streams {
            streams::whole_answers(server, &self.answered, connections, duration)?
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

/// The servers that are no Switchboard, or not quite.
struct Others {
    fixed_json: Inside,
    commit_per_request: Inside,
    single: Server,
}

impl Others {
    fn start(folder: &Path, reply: Vec<u8>) -> Result<Self, Failed> {
        let data = |name: &str| -> Result<_, Failed> {
            let data = folder.join(name);
            server::import(&data, WORLD)?;
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
        what: What,
        connections: usize,
        duration: Duration,
    ) -> Result<Measured, Failed> {
        let target: &dyn Target = if what == What::FixedJson {
            &self.fixed_json
        } else if what == What::CommitPerRequest {
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

/// Measures what is wanted of it.
pub fn measure_rows(
    folder: &Path,
    big: Option<&Path>,
    options: &Options,
    report: &mut Report,
) -> Result<(), Failed> {
    let duration = options.cell();
    let data = folder.join("small");
    fill::small(&data)?;
    let start = |size, data: &Path, log| Place::start(size, data, &folder.join(log), options);
    let mut places = vec![start(Size::Small, &data, "small.log")?];
    if let Some(data) = big {
        places.push(start(Size::Big, data, "big.log")?);
    }
    if options.say_process {
        eprintln!("the server is process {}", places[0].server.process());
    }
    let reply = ask(places[0].server.address, &requests::create(), 1)?.remove(0);
    let others = Others::start(folder, reply)?;
    if options.wants(What::Sqlite) {
        let alone = folder.join("alone");
        server::import(&alone, WORLD)?;
        let rows = ceilings::sqlite_alone(&alone, duration)?;
        eprintln!("SQLite alone: {rows:.0} rows/s in groups of 64");
        report.sqlite_rows_per_second = Some(rows);
    }
    for connections in options.connections.iter().copied() {
        for group in What::TABLE {
            let mut lines = Vec::new();
            for what in group.iter().copied().filter(|what| options.wants(*what)) {
                if What::OTHERS.contains(&what) {
                    let others = &others;
                    let run = move |connections, cell| others.measure(what, connections, cell);
                    lines.push(Line::new(what, Size::Small, run));
                } else {
                    lines.extend(places.iter().map(|place| {
                        let run = move |connections, cell| place.measure(what, connections, cell);
                        Line::new(what, place.size, run)
                    }));
                }
            }
            measure_in_turn(&mut lines, connections, duration)?;
            tell(&lines, connections, report);
        }
    }
    tell_waits(report);
    Ok(())
}

/// Measures at so many connections for so long.
type Run<'a> = Box<dyn Fn(usize, Duration) -> Result<Measured, Failed> + 'a>;

/// A line of the table.
struct Line<'a> {
    what: What,
    size: Size,
    run: Run<'a>,
    rounds: Vec<Measured>,
}

impl<'a> Line<'a> {
    fn new(
        what: What,
        size: Size,
        run: impl Fn(usize, Duration) -> Result<Measured, Failed> + 'a,
    ) -> Self {
        Self {
            what,
            size,
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

/// Keeps the cells of a group, and what can be compared within it.
fn tell(lines: &[Line<'_>], connections: usize, report: &mut Report) {
    for line in lines {
        let measured = Measured::middle_of(&line.rounds);
        report.add(line.what, line.size, connections, measured);
    }
    let rounds = |what, size| {
        let mut found = lines.iter();
        found
            .find(|line| line.what == what && line.size == size)
            .map(|line| &line.rounds)
    };
    for line in lines.iter().filter(|line| line.size == Size::Big) {
        let what = line.what;
        if let Some(small) = rounds(what, Size::Small) {
            let ratio = middle_ratio(&line.rounds, small, |round| round.p50_ms);
            let aim = what.is_to_stay_quick().then_some(Aim::AtMost(1.3));
            let figure = format!("{what} at {connections}, p50 big / small");
            report.figure(figure, ratio, aim);
        }
    }
    for (what, with, aim) in COMPARED {
        if let Some(one) = rounds(what, Size::Small)
            && let Some(other) = rounds(with, Size::Small)
        {
            let ratio = middle_ratio(one, other, |round| round.per_second);
            let aim = aim.filter(|_| connections == AIMED_AT);
            report.figure(format!("{what} / {with} at {connections}"), ratio, aim);
        }
    }
}

/// What is aimed at is aimed at with this many connections.
pub const AIMED_AT: usize = 64;
/// What a create at that many, and the first word of an answer to one, may take.
pub const MOST_WAIT_MS: f64 = 5.0;
/// Rates that are compared, and what the first is to be of the second.
pub const COMPARED: [(What, What, Option<Aim>); 6] = {
    const fn at_least(times: f64) -> Option<Aim> {
        Some(Aim::AtLeast(times))
    }
    [
        (What::Creates, What::FixedJson, at_least(0.4)),
        (What::Creates, What::CommitPerRequest, at_least(8.0)),
        (What::Creates, What::CreatesCommitEach, None),
        (What::WhiteLabel, What::Creates, None),
        (What::Idempotent, What::Creates, None),
        (What::Appends, What::AppendsCommitEach, at_least(5.0)),
    ]
};

/// Figures that are aimed at by themselves.
fn tell_waits(report: &mut Report) {
    let small = |what, connections| report.cell(what, Size::Small, connections);
    let creates = small(What::Creates, AIMED_AT).map(|cell| cell.p99_ms);
    let first_word = small(What::FirstDelta, 1).map(|cell| cell.p50_ms);
    for (what, figure) in [
        (format!("creates at {AIMED_AT}, p99 in ms"), creates),
        ("first-delta at 1, p50 in ms".to_owned(), first_word),
    ] {
        if let Some(figure) = figure {
            report.figure(what, figure, Some(Aim::AtMost(MOST_WAIT_MS)));
        }
    }
}

/// The requests of a line of the table.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "all other lines are creates"
)]
fn source(
    what: What,
    target: &dyn Target,
    filled: &[String],
    duration: Duration,
) -> Result<Arc<dyn Source>, Failed> {
    Ok(match what {
        What::WhiteLabel => Arc::new(Rotating::white_label_creates()),
        What::Idempotent => Arc::new(Keyed::new()),
        What::Appends | What::AppendsCommitEach => {
            // So many that none of them gets too many messages.
            let sessions = (duration.as_secs_f64() + 0.5) * SESSIONS_PER_SECOND;
            let sessions = made_sessions(target.address(), &requests::create(), sessions as usize)?;
            Arc::new(Appends::new(&sessions))
        }
        What::ListPages => Arc::new(Rotating::list_pages()),
        What::MessagePages => Arc::new(Rotating::message_pages(filled)),
        What::DryRuns => Arc::new(Rotating::dry_runs()),
        _ => Arc::new(Rotating::creates()),
    })
}
