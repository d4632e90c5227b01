//! Failing system calls, a full disk, killed starts: what is refused, what works, and no data loss.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::thread;

use refinery::Target;
use rustix::io::Errno;
use serde_json::{Value, json};

use crate::database::sqlite_only;
use crate::document;
use crate::history::{Operation, Refusal, Writer, holds};
use crate::process::{CommandOutput, DEMO_WORLD, NORTHWIND, SERVE, Server, Workspace, finish};
use crate::random::number;
use crate::shim::{Call, Failure, Shim, bytes_in};
use crate::watchdog::until;
use crate::wire::{Connection, Reply, Request};

/// The numbers of the calls that fail: a spread up to 200, or all with `SWITCHBOARD_ALL_FAULTS=1`.
fn which() -> Vec<i64> {
    match number("SWITCHBOARD_ALL_FAULTS") {
        None | Some(0) => vec![1, 2, 3, 4, 5, 7, 10, 14, 20, 28, 40, 57, 80, 113, 160, 200],
        Some(_) => (1..=200).collect(),
    }
}

/// The numbers of the calls that fail at a start. A start makes many reads and writes, but few
/// enough other calls to try each of them.
fn which_of_start(call: Call) -> Vec<i64> {
    if matches!(call, Call::Write | Call::Read) {
        which()
    } else {
        (1..=200).collect()
    }
}

const IMPORT: [&str; 4] = ["--env", "demo", "import", DEMO_WORLD];

/// The address of a server.
pub fn address(server: &Server) -> SocketAddr {
    server.address().parse().unwrap()
}

/// Kills a server and asserts that it never panicked.
pub fn kill(server: Server) {
    server.signal("KILL");
    let (_, log) = server.wait();
    assert!(
        !log.iter().any(|line| line.contains("panicked")),
        "{log:#?}"
    );
}

/// Repeatedly makes a client write until a call fails, and then again without failures.
fn fail_and_recover(shim: &Shim, call: Call, error: Errno, writer: &mut Writer<'_>) {
    for which in which() {
        for failing in [1, 4] {
            let failed = shim.failed(call);
            shim.fail(call, Failure::With(error), which - 1, failing);
            until("a call failed", || {
                drop(writer.write_some());
                shim.failed(call) > failed
            });
            shim.heal(call);
            // The writer thread still gets one error for a sync that failed in another thread.
            if call != Call::Sync || writer.write_some().is_err() {
                writer.write_some().unwrap();
            }
        }
    }
}

#[test]
fn a_failing_file_call_is_refused_and_recovered_from_and_loses_nothing_acknowledged() {
    sqlite_only!();
    let full = Refusal::Status(503, "storage_full".to_owned());
    let broken = Refusal::Status(500, "internal_error".to_owned());
    let workspace = Workspace::with_demo_world();
    let shim = Shim::of(&workspace);
    let recorded = || 0;
    let mut histories: Vec<Vec<Operation>> = Vec::new();
    for (number, (call, error, refusal)) in [
        (Call::Write, Errno::IO, &broken),
        (Call::Write, Errno::NOSPC, &full),
        (Call::Sync, Errno::IO, &broken),
        (Call::Read, Errno::IO, &broken),
    ]
    .into_iter()
    .enumerate()
    {
        let server = Server::start(shim.under(workspace.command(SERVE)));
        let name = format!("Writer {number}");
        let mut writer = Writer::new(name, address(&server), 0, &recorded);
        fail_and_recover(&shim, call, error, &mut writer);
        assert_eq!(
            writer.refusals,
            BTreeSet::from([refusal.clone()]),
            "{call:?} {error:?}"
        );
        kill(server);
        histories.push(writer.history);
        holds(workspace.sql(), &histories, u64::MAX).unwrap();
    }
}

#[test]
fn a_first_start_killed_at_any_write_or_sync_is_completed_by_the_next() {
    sqlite_only!();
    for call in [Call::Write, Call::Sync, Call::Open] {
        let mut deaths = 0;
        for which in which_of_start(call) {
            let workspace = Workspace::new();
            let shim = Shim::of(&workspace);
            shim.fail(call, Failure::Death, which - 1, 1);
            let mut first = shim.under(workspace.command(IMPORT));
            if first.output().unwrap().status.code().is_some() {
                break;
            }
            deaths += 1;
            let next = workspace.run(IMPORT);
            assert_eq!(next.code, 0, "{call:?} {which}: {next:?}");
            assert_whole(&workspace);
        }
        assert!(deaths > 4, "{call:?}: {deaths}");
    }
}

mod schemas {
    refinery::embed_migrations!("migrations/sqlite");
}

/// Creates a file of version 0.1.0 with some data.
fn of_version_0_1_0(workspace: &Workspace) {
    fs::create_dir(workspace.data()).unwrap();
    let mut file = rusqlite::Connection::open(workspace.database()).unwrap();
    file.pragma_update(None, "journal_mode", "WAL").unwrap();
    let schemas = schemas::migrations::runner().set_target(Target::Version(3));
    schemas.run(&mut file).unwrap();
    file.execute_batch(
        "INSERT INTO tenants (tenant_no, seq, client_id, name, created_at) VALUES (7, 7, 'old', 'Old', 0);
         INSERT INTO agents VALUES (7, 7, 7, 'Old', NULL, 'CONVERSATIONAL', 'END_USER', 'ALL_USERS', '[]', 'ENABLED',
                                    NULL, NULL, '[]', 'NEO_SUPPORT', 1, 0, 0)",
    )
    .unwrap();
}

fn schema_of(workspace: &Workspace) -> Vec<(String, Option<String>)> {
    let file = workspace.closed_file();
    let mut statement = file
        .prepare("SELECT name, sql FROM sqlite_schema ORDER BY name")
        .unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
    rows.unwrap().map(Result::unwrap).collect()
}

#[test]
fn a_migration_killed_at_any_write_or_sync_is_completed_by_the_next_start() {
    sqlite_only!();
    let new = Workspace::new();
    new.ok(IMPORT);
    let schema = schema_of(&new);
    for call in [Call::Write, Call::Sync] {
        let mut deaths = 0;
        for which in which_of_start(call) {
            let workspace = Workspace::new();
            of_version_0_1_0(&workspace);
            let shim = Shim::of(&workspace);
            shim.fail(call, Failure::Death, which - 1, 1);
            let mut first = shim.under(workspace.command(IMPORT));
            if first.output().unwrap().status.code().is_some() {
                break;
            }
            deaths += 1;
            workspace.ok(IMPORT);
            assert_whole(&workspace);
            assert_eq!(schema_of(&workspace), schema, "{call:?} {which}");
            let sql = "SELECT name FROM tenants WHERE client_id = 'old'";
            let name: String = workspace
                .closed_file()
                .query_row(sql, [], |row| row.get(0))
                .unwrap();
            assert_eq!(name, "Old");
        }
        assert!(deaths > 2, "{call:?}: {deaths}");
    }
}

/// Asserts that the file is intact and holds the demo world, which has two missing links.
fn assert_whole(workspace: &Workspace) {
    let checked = workspace.ok(["check"]);
    assert!(checked.ends_with(" messages, 2 warnings\n"), "{checked}");
}

/// The calls that may fail at a start, with their errors.
const FAILING: [(Call, Errno); 6] = [
    (Call::Open, Errno::MFILE),
    (Call::Write, Errno::IO),
    (Call::Write, Errno::NOSPC),
    (Call::Sync, Errno::IO),
    (Call::Truncate, Errno::IO),
    (Call::Read, Errno::IO),
];

#[test]
fn a_first_start_with_a_failing_call_says_so_in_one_line_and_is_completed_by_the_next() {
    sqlite_only!();
    for (call, error) in FAILING {
        let mut said = BTreeSet::new();
        for which in which_of_start(call) {
            let workspace = Workspace::new();
            let shim = Shim::of(&workspace);
            shim.fail(call, Failure::With(error), which - 1, 1);
            let done = finish(&mut shim.under(workspace.command(IMPORT)));
            if shim.failed(call) == 0 {
                assert_eq!(done.code, 0, "{done:?}");
                break;
            }
            if done.code != 0 {
                said.insert(
                    done.failure()
                        .replace(workspace.path().to_str().unwrap(), ""),
                );
            }
            workspace.ok(IMPORT);
            assert_whole(&workspace);
        }
        assert!(
            !said.iter().any(|line| line.contains("schema")),
            "{said:#?}"
        );
    }
}

#[test]
fn a_server_with_a_failing_call_at_its_start_exits_or_works() {
    sqlite_only!();
    let crashed = Workspace::with_demo_world();
    let server = crashed.serve_demo_world();
    let client = server.client();
    let opened = client.post(NORTHWIND, "/chat/sessions", &json!({ "agent_id": 102 }));
    assert_eq!(opened.status, 201);
    server.crash();
    for (call, error) in FAILING {
        let mut said = BTreeSet::new();
        for which in which_of_start(call) {
            let workspace = Workspace::new();
            let shim = Shim::of(&workspace);
            copy(&crashed.data(), &workspace.data());
            shim.fail(call, Failure::With(error), which - 1, 1);
            match Server::try_start(shim.under(workspace.command(SERVE))) {
                Ok(server) => {
                    if shim.failed(call) == 0 {
                        break;
                    }
                    assert_works(&workspace, &server);
                    server.stop();
                }
                Err(done) => {
                    said.insert(
                        done.failure()
                            .replace(workspace.path().to_str().unwrap(), ""),
                    );
                }
            }
            assert_whole(&workspace);
        }
        assert!(
            !said.iter().any(|line| line.contains("schema")),
            "{said:#?}"
        );
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

/// Asserts that the server writes and checkpoints, which use different connections.
fn assert_works(workspace: &Workspace, server: &Server) {
    let client = server.client();
    let opened = client.post(NORTHWIND, "/chat/sessions", &json!({ "agent_id": 102 }));
    assert_eq!(opened.status, 201, "{opened:?}");
    let path = format!("/chat/sessions/{}", opened.data()["id"].as_str().unwrap());
    let deleted = client.call("DELETE", NORTHWIND, &path, &[], None).unwrap();
    assert_eq!(deleted.status, 204, "{deleted:?}");
    let log = workspace.data().join("switchboard.db-wal");
    until("the log is empty", || {
        fs::metadata(&log).unwrap().len() == 0
    });
}

#[test]
fn of_five_servers_that_start_at_once_after_a_killed_migration_one_comes_up() {
    sqlite_only!();
    for which in [1, 20, 60, 100] {
        let workspace = Workspace::new();
        let shim = Shim::of(&workspace);
        shim.fail(Call::Write, Failure::Death, which, 1);
        let killed = shim.under(workspace.command(SERVE)).output().unwrap();
        assert_eq!(killed.status.code(), None, "{killed:?}");
        let outcomes: Vec<Result<Server, CommandOutput>> = thread::scope(|scope| {
            let starts: Vec<_> = (0..5)
                .map(|_| scope.spawn(|| Server::try_start(workspace.command(SERVE))))
                .collect();
            let ended = starts.into_iter().map(|start| start.join().unwrap());
            ended.collect()
        });
        let mut served = 0;
        for outcome in outcomes {
            match outcome {
                Ok(server) => {
                    assert_eq!(server.client().get("", "/ready").status, 200);
                    server.stop();
                    served += 1;
                }
                Err(done) => {
                    let said = done.failure();
                    assert!(said.starts_with("another switchboard serves"), "{said}");
                }
            }
        }
        assert_eq!(served, 1);
        workspace.ok(["check"]);
    }
}

#[test]
fn five_concurrent_imports_into_a_new_folder_all_succeed() {
    let workspace = Workspace::new();
    thread::scope(|scope| {
        for _ in 0..5 {
            scope.spawn(|| workspace.ok(IMPORT));
        }
    });
    assert_whole(&workspace);
}

#[test]
fn on_a_full_disk_writes_are_refused_reads_work_and_the_server_recovers_by_itself() {
    sqlite_only!();
    let workspace = Workspace::with_demo_world();
    let shim = Shim::of(&workspace);
    let server = Server::start(shim.under(workspace.command(SERVE)));
    let client = server.client();
    let recorded = || 0;
    let mut writer = Writer::new("Writer".to_owned(), address(&server), 0, &recorded);
    let opened = client.post(NORTHWIND, "/chat/sessions", &json!({ "agent_id": 102 }));
    let session = opened.data()["id"].as_str().unwrap().to_owned();
    let full = Refusal::Status(503, "storage_full".to_owned());
    let mut refused = Vec::new();
    for room in [0, 5_000, 100_000, 1_000_000] {
        shim.limit_to(bytes_in(&workspace.data()) + room);
        until("the disk is full", || writer.write_some().is_err());
        // A small change may still succeed in a write-ahead log that has restarted.
        for number in 0..20 {
            let title = format!("Room for {room}, number {number}");
            let body = json!({ "agent_id": 102, "title": title });
            let opened = client.post(NORTHWIND, "/chat/sessions", &body);
            if opened.status != 201 {
                assert_eq!(
                    (opened.status, opened.code().as_str()),
                    (503, "storage_full")
                );
                refused.push(title);
            }
        }
        let path = format!("/chat/sessions/{session}/messages");
        for path in [
            "/whoami",
            "/agents",
            "/chat/sessions",
            &path,
            "/chat/sessions?q=vpn",
            "/channels?q=bot",
        ] {
            assert_eq!(client.get(NORTHWIND, path).status, 200, "{path}");
        }
        let dry = json!({ "agent_id": 102 });
        let dry = client.post(NORTHWIND, "/chat/sessions/resolve", &dry);
        assert_eq!(dry.status, 200, "{dry:?}");
        assert_eq!(client.get("", "/health").status, 200);
        shim.limit_to(0);
        assert_eq!(client.get("", "/ready").status, 200);
        writer.write_some().unwrap();
    }
    assert_eq!(writer.refusals, BTreeSet::from([full]));
    // Messages that were accepted before are still answered.
    wait_until_all_turns_end(&workspace);
    kill(server);
    holds(workspace.sql(), &[writer.history], u64::MAX).unwrap();
    assert!(!refused.is_empty());
    let file = workspace.closed_file();
    for title in refused {
        let sql = "SELECT count(*) FROM sessions WHERE title = ?1";
        let there: i64 = file.query_row(sql, [&title], |row| row.get(0)).unwrap();
        assert_eq!(there, 0, "{title}");
    }
}

#[test]
fn a_search_on_a_full_disk_warns_that_it_is_incomplete() {
    sqlite_only!();
    let workspace = Workspace::with_demo_world();
    let shim = Shim::of(&workspace);
    let server = Server::start(shim.under(workspace.command(SERVE)));
    let client = server.client();
    let opened = client.post(
        NORTHWIND,
        "/chat/sessions",
        &json!({ "agent_id": 102, "title": "Greeting" }),
    );
    let session = opened.data()["id"].as_str().unwrap().to_owned();
    let path = format!("/chat/sessions/{session}/messages");
    let file = rusqlite::Connection::open(workspace.database()).unwrap();
    let search = |warnings: Value| {
        let found = client.get(NORTHWIND, "/chat/sessions?q=hello").json();
        assert_eq!(found["meta"]["warnings"], warnings);
        found["data"].as_array().unwrap().len()
    };
    until("the index is behind", || {
        shim.limit_to(0);
        let said = client.post(NORTHWIND, &path, &json!({ "message": "Hello" }));
        assert_eq!(said.status, 202, "{said:?}");
        shim.limit_to(1);
        let sql =
            "SELECT (SELECT max(seq) FROM messages) > done_seq, done_seq > 0 FROM search_progress";
        let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        let (is_behind, has_some): (bool, bool) = file.query_row(sql, [], read).unwrap();
        // Otherwise the index was just updated, as it is every few seconds.
        if is_behind {
            let left_out =
                "The server's disk is full. The newest messages may be missing from this result.";
            assert_eq!(search(json!([left_out])), usize::from(has_some));
        }
        is_behind
    });
    shim.limit_to(0);
    assert_eq!(search(json!([])), 1);
    server.stop();
}

/// The reply to a write on a full disk.
pub fn reply_on_a_full_disk() -> Reply {
    let workspace = Workspace::with_demo_world();
    let shim = Shim::of(&workspace);
    let server = Server::start(shim.under(workspace.command(SERVE)));
    shim.limit_to(1);
    let request = Request::new("POST", "/public-api/chat/sessions")
        .header("authorization", format!("Bearer {NORTHWIND}"))
        .json(&json!({ "agent_id": 102 }));
    let (reply, _) = Connection::open(address(&server))
        .exchange(&request)
        .unwrap();
    let reply = reply.unwrap();
    document::assert_documented(&request, &reply);
    reply
}

/// Waits until every turn of a session that is not deleted is answered.
pub fn wait_until_all_turns_end(workspace: &Workspace) {
    let count = |condition: &str| -> i64 {
        let sql = format!(
            "SELECT count(*) FROM turns t JOIN sessions s ON s.seq = t.session_seq WHERE {condition}"
        );
        workspace.sql().stored(&sql)
    };
    until("every turn has ended", || {
        count("t.terminal_tick IS NULL") == 0
    });
    assert_eq!(count("t.status <> 'COMPLETED'"), 0);
}

#[test]
fn a_start_on_a_full_disk_reports_the_full_disk() {
    sqlite_only!();
    let workspace = Workspace::with_demo_world();
    workspace.serve_demo_world().crash();
    let shim = Shim::of(&workspace);
    // The room that a server reserves for this case is gone too.
    for name in ["switchboard.db-shm", "reserve"] {
        fs::remove_file(workspace.data().join(name)).unwrap();
    }
    for room in [0, 10_000] {
        shim.limit_to(bytes_in(&workspace.data()) + room);
        let Err(done) = Server::try_start(shim.under(workspace.command(SERVE))) else {
            panic!("it came up");
        };
        assert!(
            done.failure()
                .ends_with("the disk is full; free some space"),
            "{done:?}"
        );
    }
}

#[test]
fn a_disk_error_during_a_big_import_is_not_reported_as_a_full_disk() {
    sqlite_only!();
    let workspace = Workspace::with_demo_world();
    let body = "0123456789".repeat(6_000);
    let articles: Vec<Value> = (0..800)
        .map(|number| json!({ "title": format!("Article {number}"), "body": body }))
        .collect();
    let tenants =
        json!({ "tenants": [{ "client_id": "northwind-it", "knowledge_articles": articles }] });
    let file = workspace.file("big.json", tenants.to_string());
    let import = ["--env", "demo", "import", &file];
    let shim = Shim::of(&workspace);
    // SQLite keeps a few megabytes of a transaction in memory and writes the rest before the
    // commit.
    for (error, said) in [
        (Errno::IO, "a group was not committed: disk I/O error"),
        (
            Errno::NOSPC,
            "The server's disk is full. Reading still works. Free disk space, then try again.",
        ),
    ] {
        shim.fail(Call::Write, Failure::With(error), 100, 1);
        let done = finish(&mut shim.under(workspace.command(import)));
        assert_eq!(done.failure(), said);
    }
    workspace.ok(import);
}

#[test]
fn without_file_descriptors_reads_share_the_existing_connections() {
    sqlite_only!();
    let workspace = Workspace::with_demo_world();
    let shim = Shim::of(&workspace);
    // The server opens as few files as it can start with.
    let server = (0..100).find_map(|passing| {
        shim.fail(Call::Open, Failure::With(Errno::MFILE), passing, i64::MAX);
        Server::try_start(shim.under(workspace.command(SERVE))).ok()
    });
    let server = server.unwrap();
    let client = server.client();
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                for path in [
                    "/whoami",
                    "/agents",
                    "/chat/sessions?q=vpn",
                    "/channels?q=bot",
                ] {
                    let reply = client.get(NORTHWIND, path);
                    assert_eq!(reply.status, 200, "{reply:?}");
                }
                let opened = client.post(NORTHWIND, "/chat/sessions", &json!({ "agent_id": 102 }));
                assert_eq!(opened.status, 201, "{opened:?}");
            });
        }
    });
    assert!(shim.failed(Call::Open) > 0);
    shim.heal(Call::Open);
    assert_works(&workspace, &server);
    server.stop();
}

#[test]
fn a_failed_accept_is_retried_a_little_later() {
    let workspace = Workspace::with_demo_world();
    let shim = Shim::of(&workspace);
    let server = Server::start(shim.under(workspace.command(SERVE)));
    let client = server.client();
    for which in [1, 2, 20, 200] {
        let failed = shim.failed(Call::Accept);
        shim.fail(Call::Accept, Failure::With(Errno::MFILE), which - 1, 2);
        until("two connections were not taken", || {
            assert_eq!(client.get("", "/health").status, 200);
            shim.failed(Call::Accept) >= failed + 2
        });
    }
    server.stop();
}

/// The command with this limit of open files.
fn with_files(files: u32, command: &Command) -> Command {
    let mut limited = Command::new("sh");
    limited
        .args(["-c", "ulimit -n \"$0\" && exec \"$@\"", &files.to_string()])
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    limited
}

#[test]
fn connections_beyond_the_file_limit_wait_and_existing_ones_work() {
    let workspace = Workspace::with_demo_world();
    let server = Server::start(with_files(100, &workspace.command(SERVE)));
    let request = Request::new("GET", "/public-api/chat/sessions")
        .header("authorization", format!("Bearer {NORTHWIND}"));
    let asks = |connection: Connection| {
        let (reply, connection) = connection.exchange(&request).unwrap();
        assert_eq!(reply.unwrap().status, 200);
        connection.unwrap()
    };
    let mut first = asks(Connection::open(address(&server)));
    // So that the server has its connections to a PostgreSQL database.
    for _ in 0..40 {
        first = asks(first);
    }
    let held: Vec<Connection> = (0..150)
        .map(|_| Connection::open(address(&server)))
        .collect();
    server.wait_for_log("Error accepting connection");
    for _ in 0..20 {
        first = asks(first);
    }
    drop(held);
    asks(Connection::open(address(&server)));
    kill(server);
}
