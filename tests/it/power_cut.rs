//! A power cut takes what was not synced: at any point of a run, nothing that was acknowledged is lost, and the file opens.

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

use crate::disk::{Chance, Disk, FOLDER, LOG, MAIN_FILE, Record};
use crate::history::{Refusal, Told, Writer, holds, secret};
use crate::process::{DEMO_WORLD, Place, SERVE, Server, finish};
use crate::random::{Random, number, seed};
use crate::shim::{Call, Failure, Shim};
use crate::watchdog::until;

/// Points of the run at which the power is cut; `SWITCHBOARD_POWER_CUTS` asks for others.
const CUTS: u64 = 200;
const WRITERS: u64 = 4;
/// Times that a writer asks for a session and what belongs to it, in each part of the run.
const TIMES: u64 = 12;

/// What was written, and what clients were told.
struct Run {
    record: Record,
    histories: Vec<Vec<Told>>,
    secret: Vec<u8>,
    /// The files as they were in the end.
    files: BTreeMap<String, Vec<u8>>,
}

impl Run {
    fn in_place(place: &Place, shim: &Shim, histories: Vec<Vec<Told>>) -> Self {
        let read = |file: io::Result<DirEntry>| {
            let file = file.unwrap();
            let content = fs::read(file.path()).unwrap();
            (file.file_name().into_string().unwrap(), content)
        };
        Self {
            record: Record::read(shim.record()),
            histories,
            secret: secret(&place.data()).unwrap(),
            files: fs::read_dir(place.data()).unwrap().map(read).collect(),
        }
    }
}

/// What several clients were told, and what they were refused with.
#[derive(Default)]
struct Asked {
    histories: Vec<Vec<Told>>,
    refusals: BTreeSet<Refusal>,
}

impl Asked {
    fn and(mut self, other: Self) -> Self {
        self.histories.extend(other.histories);
        self.refusals.extend(other.refusals);
        self
    }
}

/// Has clients ask a server until they have asked enough, or it is gone; something else may be done meanwhile.
fn ask(
    shim: &Shim,
    server: &Server,
    part: u64,
    times: u64,
    meanwhile: impl FnOnce(&dyn Fn() -> bool),
) -> Asked {
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
                        if writer.asks_for_some() == Err(Refusal::Nothing) {
                            break;
                        }
                    }
                    writer
                })
            })
            .collect();
        meanwhile(&|| writers.iter().all(|writer| writer.is_finished()));
        let mut asked = Asked::default();
        for writer in writers {
            let writer = writer.join().unwrap();
            asked.histories.push(writer.history);
            asked.refusals.extend(writer.refusals);
        }
        asked
    })
}

fn import(shim: &Shim, place: &Place) -> i32 {
    let arguments = ["--env", "demo", "import", DEMO_WORLD];
    finish(&mut shim.recording(place.command(arguments))).code
}

fn serve(shim: &Shim, place: &Place) -> Server {
    Server::start(shim.recording(place.command(SERVE)))
}

/// A first start, a crash, a clean end, and a start after each.
fn run() -> Run {
    let place = Place::new();
    let shim = Shim::of(&place);
    assert_eq!(import(&shim, &place), 0);

    let server = serve(&shim, &place);
    shim.fail(Call::Write, Failure::Death, 2_000, 1);
    let asked = ask(&shim, &server, 0, u64::MAX, |_| {});
    let (status, log) = server.wait();
    assert_eq!(status.code(), None, "{log:#?}");

    let server = serve(&shim, &place);
    let asked = asked.and(ask(&shim, &server, 1, TIMES, |_| {}));
    server.stop();

    let server = serve(&shim, &place);
    let asked = asked.and(ask(&shim, &server, 2, TIMES, |_| {}));
    server.crash();

    // The crash is all that kept any of them from an answer.
    assert_eq!(asked.refusals, BTreeSet::from([Refusal::Nothing]));
    let run = Run::in_place(&place, &shim, asked.histories);
    let logs = run.record.beginnings_of(LOG);
    println!(
        "{} entries; the log was begun {logs} times",
        run.record.len()
    );
    // At the import and at each start; under load now and then between them.
    assert!(logs >= 4);
    run
}

static RUN: LazyLock<Run> = LazyLock::new(run);

/// Cuts the power at so many points; what was found wrong.
fn cut(run: &Run, mut disk: Disk<'_>, random: &mut Random, cuts: u64) -> (usize, Vec<String>) {
    let told: Vec<u64> = run
        .histories
        .iter()
        .flatten()
        .filter_map(Told::told_at)
        .collect();
    let mut points: Vec<usize> = (0..cuts)
        .map(|_| match random.below(2) {
            0 => random.below(run.record.len() + 1),
            // Right behind an acknowledgement, when what it hangs on is as fresh as can be.
            _ => run.record.happened_at(told[random.below(told.len())]),
        })
        .collect();
    points.sort_unstable();
    let (mut rows, mut wrong) = (0, Vec::new());
    for point in points {
        disk.go_on(point, random);
        let chance = Chance::any(random);
        let length = run.record.length_at(point);
        let place = TempDir::new().unwrap();
        let folder = place.path().join("data");
        disk.cut(&folder, chance, random);
        let found_secret = secret(&folder);
        match holds(&folder, &run.histories, length) {
            Ok(found) => rows += found,
            Err(fault) => wrong.push(format!(
                "at {point} of {}, {chance:?}: {fault}",
                run.record.len()
            )),
        }
        if told.iter().any(|told| *told <= length) && found_secret.as_ref() != Some(&run.secret) {
            wrong.push(format!("at {point}: the secret that signs tokens is lost"));
        }
    }
    (rows, wrong)
}

#[test]
fn what_was_acknowledged_outlives_a_power_cut_at_any_point() {
    let run = &*RUN;
    let mut random = Random::new(seed());
    let cuts = number("SWITCHBOARD_POWER_CUTS").unwrap_or(CUTS);
    let (rows, wrong) = cut(run, Disk::of(&run.record), &mut random, cuts);
    println!("{cuts} power cuts; {rows} rows compared");
    assert!(wrong.is_empty(), "{} of {cuts}: {wrong:#?}", wrong.len());
}

#[test]
fn a_disk_that_forgets_what_was_synced_is_found_out() {
    let run = &*RUN;
    let mut random = Random::new(seed());
    for file in [LOG, MAIN_FILE, FOLDER] {
        let disk = Disk::forgetting(&run.record, file);
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
fn the_record_is_what_programs_see_in_the_files() {
    let run = &*RUN;
    let mut disk = Disk::of(&run.record);
    disk.go_on(run.record.len(), &mut Random::new(0));
    for (name, content) in disk.as_seen() {
        assert!(run.files.get(&name) == Some(&content), "{name}");
    }
}

#[test]
fn what_a_failed_sync_has_lost_takes_nothing_along_that_was_acknowledged_later() {
    let mut random = Random::new(seed());
    let place = Place::new();
    let shim = Shim::of(&place);
    assert_eq!(import(&shim, &place), 0);
    let mut histories = Vec::new();
    for part in 0..6 {
        let server = serve(&shim, &place);
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
    let run = Run::in_place(&place, &shim, histories);
    let (_, wrong) = cut(&run, Disk::of(&run.record), &mut random, CUTS / 4);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).unwrap().len()
}

#[test]
fn what_was_copied_back_without_a_sync_is_copied_again_after_a_sync_that_failed() {
    const FRAME: u64 = 4_120;
    let place = Place::new();
    let shim = Shim::of(&place);
    assert_eq!(import(&shim, &place), 0);
    let server = serve(&shim, &place);
    let (log, main) = (place.data().join(LOG), place.data().join(MAIN_FILE));
    until("the log is empty", || length(&log) == 0);
    let recorded = || shim.recorded();
    let address = server.address().parse().unwrap();
    let mut writer = Writer::new("Writer".to_owned(), address, 0, &recorded);
    let grow = |writer: &mut Writer<'_>, frames: u64| {
        until("the log has grown", || {
            writer.asks_for_a_session().unwrap();
            length(&log) >= frames * FRAME
        });
    };
    grow(&mut writer, 500);
    // Somebody reads for long, so that the first part of the log is copied back and the rest is not: this is not synced.
    let reader = rusqlite::Connection::open(place.database()).unwrap();
    reader
        .execute_batch("BEGIN; SELECT count(*) FROM sessions")
        .unwrap();
    let before = length(&main);
    grow(&mut writer, 1_200);
    until("some is copied back", || length(&main) > before);
    drop(reader);
    // The rest is copied back, and the disk fails.
    shim.fail(Call::SyncMain, Failure::With(Errno::IO), 0, 1);
    writer.deletes().unwrap();
    until("a sync failed", || shim.failed(Call::SyncMain) == 1);
    server.logs("until the server is started again");
    // Asked for again, it is not done, nor at the end.
    writer.deletes().unwrap();
    grow(&mut writer, 2_000);
    // Nor by a command beside the server, however much it writes.
    let article = |number: u64| {
        json!({ "title": format!("Article {number}"), "body": "word ".repeat(1_000), "audience": "MSP",
                "end_company_id": null, "agent_ids": [] })
    };
    let articles: Vec<Value> = (0..1_500).map(article).collect();
    let seed =
        json!({ "tenants": [{ "client_id": "northwind-it", "knowledge_articles": articles }] });
    let before = length(&log);
    let file = place.file("articles.json", seed.to_string());
    let import = ["--env", "demo", "import", &file];
    let done = finish(&mut shim.recording(place.command(import)));
    assert_eq!(done.code, 0, "{done:?}");
    let grown = length(&log);
    assert!(grown > before + 1_000 * FRAME, "{before} {grown}");
    grow(&mut writer, grown / FRAME + 10);
    // Nor is a server started while another program has the file open.
    let readable = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let reader = rusqlite::Connection::open_with_flags(place.database(), readable).unwrap();
    // It need not even read at that moment.
    reader
        .execute_batch("SELECT count(*) FROM sessions")
        .unwrap();
    server.stop();
    let refused = finish(&mut shim.recording(place.command(SERVE)));
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(
        refused.stderr.contains("another program has the file open"),
        "{refused:?}"
    );
    drop(reader);
    assert!(length(&log) > grown);
    let run = Run::in_place(&place, &shim, vec![writer.history]);
    has_all_at_the_end(&run);
    // The next start copies all of it, and is as any other.
    serve(&shim, &place).stop();
    assert!(!log.exists());
    holds(&place.data(), &run.histories, u64::MAX).unwrap();
}

#[test]
fn nothing_is_built_upon_a_change_that_a_failed_sync_lost_and_a_restart_finds_again() {
    let place = Place::new();
    let shim = Shim::of(&place);
    assert_eq!(import(&shim, &place), 0);
    let server = serve(&shim, &place);
    let recorded = || shim.recorded();
    let writer = |name: &str, server: &Server| {
        let address = server.address().parse().unwrap();
        Writer::new(name.to_owned(), address, 0, &recorded)
    };
    let mut before = writer("Before", &server);
    before.asks_for_a_session().unwrap();
    shim.fail(Call::Sync, Failure::With(Errno::IO), 0, i64::MAX);
    let refused = before.asks_for_a_session().unwrap_err();
    assert_eq!(refused, Refusal::Said(500, "internal_error".to_owned()));
    server.crash();
    shim.heal(Call::Sync);
    let server = serve(&shim, &place);
    let mut after = writer("After", &server);
    after.asks_for_a_session().unwrap();
    server.crash();
    let histories = vec![before.history, after.history];
    has_all_at_the_end(&Run::in_place(&place, &shim, histories));
}

/// Cuts the power at the end, and leaves nothing that was not synced.
fn has_all_at_the_end(run: &Run) {
    let mut random = Random::new(0);
    let mut disk = Disk::of(&run.record);
    disk.go_on(run.record.len(), &mut random);
    let cut = TempDir::new().unwrap();
    let folder = cut.path().join("data");
    disk.cut(&folder, Chance { kept: 0, torn: 0 }, &mut random);
    holds(&folder, &run.histories, u64::MAX).unwrap();
}

#[test]
fn a_sync_that_fails_at_the_first_start_leaves_nothing_that_a_power_cut_could_take_later() {
    for which in 0.. {
        let place = Place::new();
        let shim = Shim::of(&place);
        shim.fail(Call::Sync, Failure::With(Errno::IO), which, 1);
        if import(&shim, &place) != 0 {
            assert_eq!(import(&shim, &place), 0);
        }
        if shim.failed(Call::Sync) == 0 {
            assert!(which > 4);
            break;
        }
        let server = serve(&shim, &place);
        let asked = ask(&shim, &server, 0, 1, |_| {});
        server.crash();
        has_all_at_the_end(&Run::in_place(&place, &shim, asked.histories));
    }
}
