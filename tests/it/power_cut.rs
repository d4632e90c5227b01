//! Power cuts lose unsynced data. At any point of a run, nothing acknowledged is lost, and the file
//! opens.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirEntry};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::LazyLock;
use std::thread;

use rustix::io::Errno;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::database::{Database, sqlite_only};
use crate::disk::{Chance, Disk, FOLDER, LOG, MAIN_FILE, Record};
use crate::history::{Operation, Refusal, Writer, holds, secret};
use crate::process::{DEMO_WORLD, SERVE, Server, Workspace, finish};
use crate::random::{Random, number, seed};
use crate::shim::{Call, Failure, Shim};
use crate::watchdog::until;

/// The number of power cuts; `SWITCHBOARD_POWER_CUTS` sets another one.
const CUTS: u64 = 200;
const WRITERS: u64 = 4;
/// The number of sessions that a writer creates in each part of the run.
const TIMES: u64 = 12;

/// The recording of a run, and the clients' histories.
struct Run {
    record: Record,
    histories: Vec<Vec<Operation>>,
    secret: Vec<u8>,
    /// The files at the end of the run.
    files: BTreeMap<String, Vec<u8>>,
}

impl Run {
    fn in_place(workspace: &Workspace, shim: &Shim, histories: Vec<Vec<Operation>>) -> Self {
        let read = |file: io::Result<DirEntry>| {
            let file = file.unwrap();
            let content = fs::read(file.path()).unwrap();
            (file.file_name().into_string().unwrap(), content)
        };
        Self {
            record: Record::read(shim.record()),
            histories,
            secret: secret(&workspace.data()).unwrap(),
            files: fs::read_dir(workspace.data()).unwrap().map(read).collect(),
        }
    }
}

/// The histories of several clients, and their refusals.
#[derive(Default)]
struct Outcome {
    histories: Vec<Vec<Operation>>,
    refusals: BTreeSet<Refusal>,
}

impl Outcome {
    fn and(mut self, other: Self) -> Self {
        self.histories.extend(other.histories);
        self.refusals.extend(other.refusals);
        self
    }
}

/// Runs clients against a server until they are done or the server dies, and `meanwhile` with them.
fn ask(
    shim: &Shim,
    server: &Server,
    part: u64,
    times: u64,
    meanwhile: impl FnOnce(&dyn Fn() -> bool),
) -> Outcome {
    let address: SocketAddr = server.address().parse().unwrap();
    let recorded = || shim.recorded();
    thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let recorded = &recorded;
                scope.spawn(move || {
                    let name = format!("Part {part}, writer {writer}");
                    let seed = part * WRITERS + writer;
                    let mut writer = Writer::new(name, address, seed, recorded);
                    for _ in 0..times {
                        if writer.write_some() == Err(Refusal::NoReply) {
                            break;
                        }
                    }
                    writer
                })
            })
            .collect();
        meanwhile(&|| writers.iter().all(|writer| writer.is_finished()));
        let mut asked = Outcome::default();
        for writer in writers {
            let writer = writer.join().unwrap();
            asked.histories.push(writer.history);
            asked.refusals.extend(writer.refusals);
        }
        asked
    })
}

fn import(shim: &Shim, workspace: &Workspace) -> i32 {
    let arguments = ["--env", "demo", "import", DEMO_WORLD];
    finish(&mut shim.recording(workspace.command(arguments))).code
}

fn serve(shim: &Shim, workspace: &Workspace) -> Server {
    Server::start(shim.recording(workspace.command(SERVE)))
}

/// A first start, a crash, a clean stop, and a start after each.
fn run() -> Run {
    let workspace = Workspace::new();
    let shim = Shim::of(&workspace);
    assert_eq!(import(&shim, &workspace), 0);

    let server = serve(&shim, &workspace);
    shim.fail(Call::Write, Failure::Death, 2_000, 1);
    let asked = ask(&shim, &server, 0, u64::MAX, |_| {});
    let (status, log) = server.wait();
    assert_eq!(status.code(), None, "{log:#?}");

    let server = serve(&shim, &workspace);
    let asked = asked.and(ask(&shim, &server, 1, TIMES, |_| {}));
    server.stop();

    let server = serve(&shim, &workspace);
    let asked = asked.and(ask(&shim, &server, 2, TIMES, |_| {}));
    server.crash();

    // Only the crash left requests without a reply.
    assert_eq!(asked.refusals, BTreeSet::from([Refusal::NoReply]));
    let run = Run::in_place(&workspace, &shim, asked.histories);
    let logs = run.record.restarts_of(LOG);
    println!(
        "{} entries; the log was begun {logs} times",
        run.record.len()
    );
    // The log restarts at the import and at each start, and sometimes under load.
    assert!(logs >= 4);
    run
}

static RUN: LazyLock<Run> = LazyLock::new(run);

/// Cuts the power at this number of points; returns the compared rows and the faults.
fn cut(run: &Run, mut disk: Disk<'_>, random: &mut Random, cuts: u64) -> (usize, Vec<String>) {
    let acknowledged: Vec<u64> = run
        .histories
        .iter()
        .flatten()
        .filter_map(Operation::acknowledged_at)
        .collect();
    let mut points: Vec<usize> = (0..cuts)
        .map(|_| match random.below(2) {
            0 => random.below(run.record.len() + 1),
            // Directly after an acknowledgement, when its data was just synced.
            _ => run
                .record
                .happened_at(acknowledged[random.below(acknowledged.len())]),
        })
        .collect();
    points.sort_unstable();
    let (mut rows, mut wrong) = (0, Vec::new());
    for point in points {
        disk.advance_to(point, random);
        let chance = Chance::any(random);
        let length = run.record.length_at(point);
        let workspace = TempDir::new().unwrap();
        let folder = workspace.path().join("data");
        disk.cut(&folder, chance, random);
        let found_secret = secret(&folder);
        match holds(&Database::of(&folder), &run.histories, length) {
            Ok(found) => rows += found,
            Err(fault) => wrong.push(format!(
                "at {point} of {}, {chance:?}: {fault}",
                run.record.len()
            )),
        }
        if acknowledged
            .iter()
            .any(|acknowledged| *acknowledged <= length)
            && found_secret.as_ref() != Some(&run.secret)
        {
            wrong.push(format!("at {point}: the secret that signs tokens is lost"));
        }
    }
    (rows, wrong)
}

#[test]
fn acknowledged_data_survives_a_power_cut_at_any_point() {
    sqlite_only!();
    let run = &*RUN;
    let mut random = Random::new(seed());
    let cuts = number("SWITCHBOARD_POWER_CUTS").unwrap_or(CUTS);
    let (rows, wrong) = cut(run, Disk::of(&run.record), &mut random, cuts);
    println!("{cuts} power cuts; {rows} rows compared");
    assert!(wrong.is_empty(), "{} of {cuts}: {wrong:#?}", wrong.len());
}

#[test]
fn a_disk_that_loses_synced_data_is_detected() {
    sqlite_only!();
    let run = &*RUN;
    let mut random = Random::new(seed());
    for file in [LOG, MAIN_FILE, FOLDER] {
        let disk = Disk::losing(&run.record, file);
        let (_, wrong) = cut(run, disk, &mut random, 30);
        println!(
            "syncs of {file:?} forgotten: {} of 30 cuts; {:?}",
            wrong.len(),
            wrong.first()
        );
        assert!(!wrong.is_empty(), "{file:?}");
    }
}

#[test]
fn the_recording_yields_the_files_that_programs_see() {
    sqlite_only!();
    let run = &*RUN;
    let mut disk = Disk::of(&run.record);
    disk.advance_to(run.record.len(), &mut Random::new(0));
    for (name, content) in disk.as_seen() {
        assert!(run.files.get(&name) == Some(&content), "{name}");
    }
}

#[test]
fn data_lost_by_a_failed_sync_takes_no_later_acknowledged_data_with_it() {
    sqlite_only!();
    let mut random = Random::new(seed());
    let workspace = Workspace::new();
    let shim = Shim::of(&workspace);
    assert_eq!(import(&shim, &workspace), 0);
    let mut histories = Vec::new();
    for part in 0..6 {
        let server = serve(&shim, &workspace);
        let call = random.pick(&[Call::Sync, Call::SyncMain]);
        let failing = |have_ended: &dyn Fn() -> bool| {
            while !have_ended() {
                let failed = shim.failed(call);
                let [passing, failing] =
                    [10, 2].map(|most| i64::try_from(random.below(most)).unwrap());
                shim.fail(call, Failure::With(Errno::IO), passing, failing + 1);
                while shim.failed(call) == failed && !have_ended() {
                    thread::yield_now();
                }
            }
        };
        let asked = ask(&shim, &server, part, TIMES / 2, failing);
        histories.extend(asked.histories);
        shim.heal(call);
        if random.chance(1, 2) {
            server.crash();
        } else {
            server.stop();
        }
    }
    let run = Run::in_place(&workspace, &shim, histories);
    let (_, wrong) = cut(&run, Disk::of(&run.record), &mut random, CUTS / 4);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).unwrap().len()
}

#[test]
fn pages_checkpointed_without_a_sync_are_checkpointed_again_after_a_failed_sync() {
    sqlite_only!();
    const FRAME: u64 = 4_120;
    let workspace = Workspace::new();
    let shim = Shim::of(&workspace);
    assert_eq!(import(&shim, &workspace), 0);
    let server = serve(&shim, &workspace);
    let (log, main) = (workspace.data().join(LOG), workspace.data().join(MAIN_FILE));
    // The start writes a little.
    until("the log is short", || length(&log) < 20 * FRAME);
    let recorded = || shim.recorded();
    let address = server.address().parse().unwrap();
    let mut writer = Writer::new("Writer".to_owned(), address, 0, &recorded);
    let grow = |writer: &mut Writer<'_>, frames: u64| {
        until("the log has grown", || {
            writer.write_session().unwrap();
            length(&log) >= frames * FRAME
        });
    };
    grow(&mut writer, 500);
    // A long read holds back the checkpoint: the first part of the log is copied, without a sync.
    let reader = rusqlite::Connection::open(workspace.database()).unwrap();
    reader
        .execute_batch("BEGIN; SELECT count(*) FROM sessions")
        .unwrap();
    let before = length(&main);
    grow(&mut writer, 1_200);
    until("some is copied back", || length(&main) > before);
    drop(reader);
    // The checkpoint copies the rest, and the sync fails.
    shim.fail(Call::SyncMain, Failure::With(Errno::IO), 0, 1);
    writer.delete().unwrap();
    until("a sync failed", || shim.failed(Call::SyncMain) == 1);
    server.wait_for_log("until the server is restarted");
    // The server does not checkpoint again, not even at its stop.
    writer.delete().unwrap();
    grow(&mut writer, 2_000);
    // Neither does a command that runs at the same time, however much it writes.
    let article = |number: u64| {
        json!({ "title": format!("Article {number}"), "body": "word ".repeat(1_000), "audience": "MSP",
                "end_company_id": null, "agent_ids": [] })
    };
    let articles: Vec<Value> = (0..1_500).map(article).collect();
    let seed =
        json!({ "tenants": [{ "client_id": "northwind-it", "knowledge_articles": articles }] });
    let before = length(&log);
    let file = workspace.file("articles.json", seed.to_string());
    let import = ["--env", "demo", "import", &file];
    let done = finish(&mut shim.recording(workspace.command(import)));
    assert_eq!(done.code, 0, "{done:?}");
    let grown = length(&log);
    assert!(grown > before + 1_000 * FRAME, "{before} {grown}");
    grow(&mut writer, grown / FRAME + 10);
    // A server refuses to start while another process has the file open.
    let readable = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let reader = rusqlite::Connection::open_with_flags(workspace.database(), readable).unwrap();
    // The other process need not even be in a transaction.
    reader
        .execute_batch("SELECT count(*) FROM sessions")
        .unwrap();
    server.stop();
    let refused = finish(&mut shim.recording(workspace.command(SERVE)));
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(
        refused
            .stderr
            .contains("another program has the database open"),
        "{refused:?}"
    );
    drop(reader);
    assert!(length(&log) > grown);
    let run = Run::in_place(&workspace, &shim, vec![writer.history]);
    has_all_at_the_end(&run);
    // The next start checkpoints the whole log and works as usual.
    serve(&shim, &workspace).stop();
    assert!(!log.exists());
    holds(workspace.sql(), &run.histories, u64::MAX).unwrap();
}

#[test]
fn no_later_change_depends_on_one_that_a_failed_sync_lost() {
    sqlite_only!();
    let workspace = Workspace::new();
    let shim = Shim::of(&workspace);
    assert_eq!(import(&shim, &workspace), 0);
    let server = serve(&shim, &workspace);
    let recorded = || shim.recorded();
    let writer = |name: &str, server: &Server| {
        let address = server.address().parse().unwrap();
        Writer::new(name.to_owned(), address, 0, &recorded)
    };
    let mut before = writer("Before", &server);
    before.write_session().unwrap();
    shim.fail(Call::Sync, Failure::With(Errno::IO), 0, i64::MAX);
    let refused = before.write_session().unwrap_err();
    assert_eq!(refused, Refusal::Status(500, "internal_error".to_owned()));
    server.crash();
    shim.heal(Call::Sync);
    let server = serve(&shim, &workspace);
    let mut after = writer("After", &server);
    after.write_session().unwrap();
    server.crash();
    let histories = vec![before.history, after.history];
    has_all_at_the_end(&Run::in_place(&workspace, &shim, histories));
}

/// Cuts the power at the end and drops all unsynced data; asserts that nothing acknowledged is
/// lost.
fn has_all_at_the_end(run: &Run) {
    let mut random = Random::new(0);
    let mut disk = Disk::of(&run.record);
    disk.advance_to(run.record.len(), &mut random);
    let cut = TempDir::new().unwrap();
    let folder = cut.path().join("data");
    disk.cut(&folder, Chance { kept: 0, torn: 0 }, &mut random);
    holds(&Database::of(&folder), &run.histories, u64::MAX).unwrap();
}

#[test]
fn a_failed_sync_at_the_first_start_leaves_no_data_for_a_power_cut_to_lose() {
    sqlite_only!();
    for which in 0.. {
        let workspace = Workspace::new();
        let shim = Shim::of(&workspace);
        shim.fail(Call::Sync, Failure::With(Errno::IO), which, 1);
        if import(&shim, &workspace) != 0 {
            assert_eq!(import(&shim, &workspace), 0);
        }
        if shim.failed(Call::Sync) == 0 {
            assert!(which > 4);
            break;
        }
        let server = serve(&shim, &workspace);
        let asked = ask(&shim, &server, 0, 1, |_| {});
        server.crash();
        has_all_at_the_end(&Run::in_place(&workspace, &shim, asked.histories));
    }
}
