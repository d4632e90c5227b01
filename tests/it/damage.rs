//! A damaged file: a clear refusal to start, or a server that works; never a panic.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use serde_json::Value;

use crate::database::sqlite_only;
use crate::faults::wait_until_all_turns_end;
use crate::history::Writer;
use crate::process::{Client, NORTHWIND, RELAY, SERVE, Server, Workspace};
use crate::random::{Random, number, seed};
use crate::upgrade::newest_migration;

/// The number of damaged files; `SWITCHBOARD_DAMAGES` sets another one.
const DAMAGES: u64 = 200;
const SECTOR: usize = 512;

/// The replies to calls; the status alone if a call failed.
type Answers = BTreeMap<(&'static str, String), Value>;

/// Removes links, whose signatures differ each time.
fn without_links(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("url");
            fields.values_mut().for_each(without_links);
        }
        Value::Array(items) => items.iter_mut().for_each(without_links),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Reads most of the data.
fn read_all(client: &Client) -> Answers {
    let mut answers = Answers::new();
    let mut ask = |key: &'static str, path: &str| {
        let reply = client.get(key, path);
        let mut data = reply.json()["data"].take();
        without_links(&mut data);
        let items = data.as_array().into_iter().flatten();
        let ids = items.filter_map(|item| item["id"].as_str().map(str::to_owned));
        let ids: Vec<String> = ids.collect();
        let answer = match reply.status {
            200 => data,
            status => status.into(),
        };
        answers.insert((key, path.to_owned()), answer);
        ids
    };
    for key in [NORTHWIND, RELAY] {
        for path in [
            "/whoami",
            "/tenant",
            "/audit-events?page_size=200",
            "/end-companies/health",
        ] {
            ask(key, path);
        }
        for list in [
            "/agents",
            "/knowledge-articles",
            "/channels",
            "/end-companies",
        ] {
            for id in ask(key, &format!("{list}?page_size=200")) {
                ask(key, &format!("{list}/{id}"));
            }
        }
    }
    ask(RELAY, "/tenants");
    ask(NORTHWIND, "/chat/sessions?q=vpn&page_size=200");
    for id in ask(NORTHWIND, "/chat/sessions?page_size=200") {
        ask(NORTHWIND, &format!("/chat/sessions/{id}"));
        ask(
            NORTHWIND,
            &format!("/chat/sessions/{id}/messages?page_size=200"),
        );
    }
    answers
}

#[derive(Clone, Copy, Debug)]
enum Damage {
    Cut(usize),
    EmptySector(usize),
    Flip(usize, u8),
}

impl Damage {
    fn any(bytes: usize, random: &mut Random) -> Self {
        let at = random.below(bytes);
        match random.below(10) {
            0 => Self::Cut(at),
            1 => Self::EmptySector(at / SECTOR * SECTOR),
            2 => Self::Flip(at, 0xff),
            _ => Self::Flip(at, 1 << random.below(8)),
        }
    }

    fn done_to(self, whole: &[u8]) -> Vec<u8> {
        let mut bytes = whole.to_vec();
        match self {
            Self::Cut(length) => bytes.truncate(length),
            Self::EmptySector(at) => bytes[at..at + SECTOR].fill(0),
            Self::Flip(at, bits) => bytes[at] ^= bits,
        }
        bytes
    }
}

/// A closed data folder with some data of every kind, and the replies that it gives.
fn world() -> (Workspace, Answers) {
    let workspace = Workspace::with_demo_world();
    let server = workspace.serve_demo_world();
    let recorded = || 0;
    let address = server.address().parse().unwrap();
    let mut writer = Writer::new("Writer".to_owned(), address, 0, &recorded);
    for _ in 0..8 {
        writer.write_some().unwrap();
    }
    wait_until_all_turns_end(&workspace);
    server.stop();
    let server = workspace.serve_demo_world();
    let answers = read_all(&server.client());
    assert!(read_all(&server.client()) == answers);
    server.stop();
    (workspace, answers)
}

/// The outcome for a damaged file, as a category of the printed counts.
fn outcome(damage: Damage, workspace: &Workspace, whole: &[u8], answers: &Answers) -> &'static str {
    let damaged = Workspace::new();
    let bytes = damage.done_to(whole);
    fs::create_dir(damaged.data()).unwrap();
    for file in ["signing.secret", "switchboard.db"] {
        fs::copy(workspace.data().join(file), damaged.data().join(file)).unwrap();
    }
    fs::write(damaged.database(), bytes).unwrap();
    let server = match Server::try_start(damaged.command(SERVE)) {
        Ok(server) => server,
        Err(done) => {
            done.failure();
            return "not started";
        }
    };
    assert!(
        !matches!(damage, Damage::Cut(_)),
        "{damage:?} is not noticed"
    );
    let read = read_all(&server.client());
    server.signal("KILL");
    let (_, log) = server.wait();
    assert!(
        !log.iter().any(|line| line.contains("panicked")),
        "{damage:?}: {log:#?}"
    );
    // A resource that a list no longer shows is not requested.
    let is_same = |(call, said): (_, &Value)| answers.get(call) == Some(said) || *said == 500;
    if !read.iter().all(is_same) {
        "a wrong answer"
    } else if read == *answers {
        "the same answers"
    } else {
        "a failure where it was read"
    }
}

#[test]
fn a_file_that_was_cut_is_refused_and_no_damage_makes_a_server_panic() {
    sqlite_only!();
    let (workspace, answers) = world();
    let whole = fs::read(workspace.database()).unwrap();
    let seed = seed();
    let damages = number("SWITCHBOARD_DAMAGES").unwrap_or(DAMAGES);
    let (next, outcomes) = (AtomicU64::new(0), Mutex::new(BTreeMap::new()));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let which = next.fetch_add(1, Ordering::Relaxed);
                    if which >= damages {
                        return;
                    }
                    let mut random = Random::new(seed.wrapping_add(which));
                    let damage = Damage::any(whole.len(), &mut random);
                    let outcome = outcome(damage, &workspace, &whole, &answers);
                    *outcomes.lock().unwrap().entry(outcome).or_insert(0) += 1;
                }
            });
        }
    });
    // SQLite has no checksums: a flipped bit in a value is read as it is, so it is only counted
    // here.
    println!(
        "{} calls on {damages} damaged files: {outcomes:?}",
        answers.len()
    );
}

#[test]
fn a_damaged_directory_id_in_a_row_or_an_index_routes_nothing() {
    sqlite_only!();
    const CONTOSO: &[u8] = b"ca5cade0-4ce5-4d0e-9b1d-0f0a51deca5e";
    let workspace = Workspace::with_demo_world();
    drop(workspace.closed_file());
    let whole = fs::read(workspace.database()).unwrap();
    let stands = |at: &usize| whole[*at..].starts_with(CONTOSO);
    let places: Vec<usize> = (0..whole.len()).filter(stands).collect();
    // The rows of the install and of the company, and their index entries.
    assert!(places.len() >= 4, "{places:?}");
    for at in places {
        let mut damaged = whole.clone();
        damaged[at] ^= 4;
        fs::write(workspace.database(), damaged).unwrap();
        let done = Server::try_start(workspace.command(SERVE)).err();
        let done = done.unwrap_or_else(|| panic!("byte {at} was not missed"));
        let said = done.failure();
        assert!(
            said.contains("switchboard.db is damaged (")
                && said.ends_with("); restore it from a backup"),
            "{said}"
        );
    }
}

#[test]
fn a_file_without_its_last_byte_is_refused_in_one_sentence() {
    sqlite_only!();
    let workspace = Workspace::with_demo_world();
    let file = fs::File::options()
        .write(true)
        .open(workspace.database())
        .unwrap();
    let length = file.metadata().unwrap().len();
    file.set_len(length - 1).unwrap();
    let done = workspace.run(["check"]);
    assert!(
        done.failure()
            .ends_with("is damaged; restore it from a backup"),
        "{done:?}"
    );
}

#[test]
fn a_record_of_the_schema_that_cannot_be_read_is_refused_in_one_sentence() {
    sqlite_only!();
    for damage in [
        "applied_on = 'yesterday'",
        "applied_on = NULL",
        "checksum = 'none'",
        "checksum = NULL",
        "version = 2147483648",
        "version = 'first'",
        "name = NULL",
    ] {
        let workspace = Workspace::with_demo_world();
        let file = workspace.closed_file();
        let damaged = format!("UPDATE refinery_schema_history SET {damage} WHERE version = 1");
        assert_eq!(file.execute(&damaged, []).unwrap(), 1);
        drop(file);
        let done = workspace.run(["check"]);
        let newest = newest_migration();
        let says = match damage {
            "version = 2147483648" => format!(
                "was written by a newer switchboard (its schema is 2147483648, this version supports {newest}); use the newer version"
            ),
            _ => "is damaged (the record of migrations cannot be read); restore it from a backup"
                .to_owned(),
        };
        assert!(done.failure().ends_with(&says), "{damage}: {done:?}");
    }
}

#[test]
fn an_emptied_file_is_not_mistaken_for_a_first_start() {
    sqlite_only!();
    let workspace = Workspace::with_demo_world();
    workspace.serve_demo_world().stop();
    fs::write(workspace.database(), "").unwrap();
    let with_log = Workspace::with_demo_world();
    fs::write(with_log.database(), "").unwrap();
    fs::write(with_log.data().join("switchboard.db-wal"), "a log").unwrap();
    for workspace in [workspace, with_log] {
        for command in ["check", "serve"] {
            let done = workspace.run([command]);
            let says = "switchboard.db is empty, but was in use before; restore it from a backup, or remove it if it held nothing";
            assert!(done.failure().ends_with(says), "{done:?}");
        }
    }
}
