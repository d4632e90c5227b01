//! Backup and restore as an operator runs them: under load, after a crash, with damaged files.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, mpsc};
use std::thread;

use rusqlite::{Connection, OpenFlags};
use serde_json::json;

use crate::database::sqlite_only;
use crate::process::{Client, CommandOutput, NORTHWIND, Server, Workspace};
use crate::upgrade::{newest_migration, unpack_version_0_1};

const WRITERS: usize = 4;
const BACKUPS: usize = 5;
/// Acknowledged writes between two backups.
const BETWEEN: usize = 40;

/// The acknowledged sessions, each with the number of its acknowledged messages.
type Acknowledged = HashMap<String, usize>;

fn begin_session(client: &Client) -> String {
    let created = client.post(NORTHWIND, "/chat/sessions", &json!({"agent_id": 102}));
    assert_eq!(created.status, 201, "{created:?}");
    created.data()["id"].as_str().unwrap().to_owned()
}

/// Appends a message and waits for the answer.
fn converse(client: &Client, session: &str) {
    let path = format!("/chat/sessions/{session}");
    let said = client.post(
        NORTHWIND,
        &format!("{path}/messages"),
        &json!({"message": "How do I connect to the VPN?"}),
    );
    assert_eq!(said.status, 202, "{said:?}");
    let turn = said.data()["chat_turn_id"].as_str().unwrap().to_owned();
    let turn = client.get(NORTHWIND, &format!("{path}/turns/{turn}?wait_seconds=30"));
    assert_eq!(turn.data()["status"], "COMPLETED", "{turn:?}");
}

/// The texts of a session's messages, in their order.
fn messages(client: &Client, session: &str) -> Vec<String> {
    let path = format!("/chat/sessions/{session}/messages");
    let listed = client.get(NORTHWIND, &path);
    assert_eq!(listed.status, 200, "{listed:?}");
    let texts = listed.data();
    let texts = texts.as_array().unwrap().iter();
    texts
        .map(|message| message["content"].as_str().unwrap().to_owned())
        .collect()
}

fn opened(file: &Path) -> Connection {
    Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap()
}

/// The number of messages of each session in a file, by the session's public id.
fn sessions_in(file: &Path) -> Acknowledged {
    let file = opened(file);
    let whole: String = file
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(whole, "ok");
    let mut statement = file
        .prepare(
            "SELECT lower(hex(id)), (SELECT count(*) FROM messages m WHERE m.session_seq = s.seq AND m.role = 'user') FROM sessions s",
        )
        .unwrap();
    let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)));
    rows.unwrap().map(Result::unwrap).collect()
}

/// A session's id as the database stores it.
fn in_hex(session: &str) -> String {
    session.trim_start_matches("ses_").replace('-', "")
}

fn names_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Restores a file into a new workspace's data folder.
fn restored(file: &Path) -> (Workspace, String) {
    let workspace = Workspace::new();
    let said = workspace.ok(["restore".as_ref(), file.as_os_str()]);
    (workspace, said)
}

/// Creates sessions and appends messages to them until the test stops the writer.
fn write(
    client: &Client,
    stop: &AtomicBool,
    acknowledged: &Mutex<Acknowledged>,
    tell: &mpsc::Sender<()>,
) {
    while !stop.load(Ordering::SeqCst) {
        let session = begin_session(client);
        let id = in_hex(&session);
        acknowledged.lock().unwrap().insert(id.clone(), 0);
        for _ in 0..3 {
            let path = format!("/chat/sessions/{session}/messages");
            let said = client.post(NORTHWIND, &path, &json!({"message": "Hello"}));
            assert_eq!(said.status, 202, "{said:?}");
            *acknowledged.lock().unwrap().get_mut(&id).unwrap() += 1;
            tell.send(()).unwrap();
        }
    }
}

#[test]
fn each_backup_under_load_is_consistent_and_holds_everything_acknowledged_before_it() {
    sqlite_only!();
    let workspace = Workspace::with_demo_world();
    let server = workspace.serve_demo_world();
    let (stop, acknowledged) = (AtomicBool::new(false), Mutex::new(Acknowledged::new()));
    let (tell, told) = mpsc::channel();
    let last = thread::scope(|scope| {
        for _ in 0..WRITERS {
            let (client, tell) = (server.client(), tell.clone());
            let (stop, acknowledged) = (&stop, &acknowledged);
            scope.spawn(move || write(&client, stop, acknowledged, &tell));
        }
        let mut last = PathBuf::new();
        for number in 0..BACKUPS {
            told.iter().take(BETWEEN).for_each(drop);
            let before = acknowledged.lock().unwrap().clone();
            last = workspace.path().join(format!("backup-{number}.db"));
            let said = workspace.ok(["backup".as_ref(), last.as_os_str()]);
            let found = sessions_in(&last);
            let of = format!(", {} session", found.len());
            assert!(said.starts_with("ok: ") && said.contains(&of), "{said}");
            for (session, messages) in before {
                assert!(
                    found.get(&session).is_some_and(|kept| *kept >= messages),
                    "{session}"
                );
            }
        }
        stop.store(true, Ordering::SeqCst);
        last
    });
    server.stop();

    // A server on the restored backup works and continues where the backup was taken.
    let found = sessions_in(&last);
    let (workspace, said) = restored(&last);
    assert!(
        said.contains(&format!("{} sessions", found.len())),
        "{said}"
    );
    assert_eq!(sessions_in(&workspace.database()), found);
    assert_eq!(workspace.run(["check"]).code, 0);
    let server = workspace.serve_demo_world();
    let session = begin_session(&server.client());
    converse(&server.client(), &session);
    server.stop();
}

#[test]
fn a_backup_is_one_private_self_describing_file_and_leaves_no_other_file() {
    sqlite_only!();
    let workspace = Workspace::with_demo_world();
    let server = workspace.serve_demo_world();
    let client = server.client();
    let session = begin_session(&client);
    converse(&client, &session);
    let shown = client.get(NORTHWIND, &format!("/chat/sessions/{session}"));
    let created_at = shown.data()["created_at"].as_str().unwrap().to_owned();
    let listed = client.get(NORTHWIND, &format!("/chat/sessions/{session}/messages"));
    let newest = listed.data()[1]["created_at"].as_str().unwrap().to_owned();

    let folder = workspace.path().join("backups");
    fs::create_dir(&folder).unwrap();
    let file = folder.join("monday.db");
    let said = workspace.ok(["backup".as_ref(), file.as_os_str()]);
    let bytes = fs::metadata(&file).unwrap().len();
    let holds = "3 tenants, 3 API keys, 5 companies, 4 channels, 19 articles, 1 session, 2 messages, 0 attachments";
    assert!(
        said.starts_with(&format!("ok: {} has {holds}; ", file.display())),
        "{said}"
    );
    for part in [
        format!("newest session {created_at}, newest message {newest}, newest change 2"),
        format!("; {bytes} bytes; checked, no damage\n"),
    ] {
        assert!(said.contains(&part), "{part}: {said}");
    }
    assert_eq!(names_in(&folder), ["monday.db"]);
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // The backup is a single file: reading it creates no write-ahead log.
    let journal: String = opened(&file)
        .query_row("PRAGMA journal_mode", [], |row| row.get(0))
        .unwrap();
    assert_eq!(journal, "delete");
    assert_eq!(names_in(&folder), ["monday.db"]);

    let answered = messages(&client, &session);
    server.stop();
    let (workspace, said) = restored(&file);
    assert!(
        said.starts_with(&format!(
            "ok: {} now has {holds}; ",
            workspace.data().display()
        )),
        "{said}"
    );
    let server = workspace.serve_demo_world();
    assert_eq!(messages(&server.client(), &session), answered);
}

#[test]
fn a_backup_overwrites_nothing_and_a_failed_one_leaves_nothing() {
    sqlite_only!();
    let workspace = Workspace::with_demo_world();
    let folder = workspace.path().join("backups");
    fs::create_dir(&folder).unwrap();
    let there = folder.join("there.db");
    fs::write(&there, "mine").unwrap();
    symlink("nowhere", folder.join("link.db")).unwrap();
    for (name, says) in [
        ("backups/there.db", "already exists; choose another name"),
        ("backups/link.db", "already exists; choose another name"),
        ("backups", "already exists; choose another name"),
        ("data/switchboard.db", "already exists; choose another name"),
        (
            "data/switchboard.db-wal",
            "is a name of the data folder's own files",
        ),
        ("missing/backup.db", "its folder does not exist"),
    ] {
        let done = workspace.run(["backup", name]);
        assert!(done.failure().contains(says), "{name}: {done:?}");
        assert_eq!(done.stdout, "", "{name}");
    }
    assert_eq!(fs::read_to_string(&there).unwrap(), "mine");
    assert_eq!(names_in(&folder), ["link.db", "there.db"]);
    assert_eq!(
        names_in(&workspace.data()),
        ["migrate.lock", "switchboard.db"]
    );

    drop(workspace.closed_file());
    fs::write(workspace.database(), damaged(&workspace.database())).unwrap();
    let done = workspace.run(["backup", "backups/damaged.db"]);
    let says = "switchboard.db is damaged";
    assert!(done.failure().contains(says), "{done:?}");
    assert_eq!(names_in(&folder), ["link.db", "there.db"]);

    let none = Workspace::new();
    let done = none.run(["backup", "backup.db"]);
    assert!(done.failure().contains("there is no data in"), "{done:?}");
    assert!(!none.data().exists());
    // The state after a first start that was killed at once.
    fs::create_dir(none.data()).unwrap();
    fs::write(none.database(), "").unwrap();
    let done = none.run(["backup", "backup.db"]);
    let says = "is empty: no command has used this data folder yet";
    assert!(done.failure().contains(says), "{done:?}");
    assert_eq!(names_in(none.path()), ["data"]);
}

/// A file's bytes with one of its indexes overwritten.
fn damaged(file: &Path) -> Vec<u8> {
    let page: i64 = opened(file)
        .query_row(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'knowledge_articles_titled'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    let page = usize::try_from(page).unwrap();
    let mut bytes = fs::read(file).unwrap();
    bytes[(page - 1) * 4_096 + 8..page * 4_096].fill(0xa5);
    bytes
}

#[test]
fn an_inconsistent_file_can_be_backed_up_and_restored_and_both_report_the_inconsistency() {
    sqlite_only!();
    let workspace = Workspace::with_demo_world();
    let server = workspace.serve_demo_world();
    let sessions: Vec<String> = (0..25).map(|_| begin_session(&server.client())).collect();
    server.stop();
    let file = workspace.closed_file();
    file.execute_batch("UPDATE sessions SET message_count = 7")
        .unwrap();
    file.execute_batch("UPDATE installs SET bot_id = 'stray'")
        .unwrap();
    drop(file);
    let checked = workspace.run(["check"]);
    let found: Vec<&str> = checked.stderr.lines().collect();
    assert_eq!((checked.code, found.len()), (1, 24), "{checked:?}");

    let tells = |done: &CommandOutput, what: &str| {
        assert_eq!((done.code, done.stdout.matches("ok: ").count()), (1, 0));
        let mut lines: Vec<&str> = done.stderr.lines().collect();
        let last = lines.pop().unwrap();
        assert!(
            last.contains(what) && last.contains(", 25 sessions, "),
            "{last}"
        );
        let says = "; the copy is complete, but it has 24 inconsistencies: run 'switchboard check' before you rely on it";
        assert!(last.ends_with(says), "{last}");
        assert_eq!(
            lines.pop(),
            Some("damage: 4 more; 'switchboard check' lists all")
        );
        assert_eq!(lines, found[..20]);
    };
    tells(
        &workspace.run(["backup", "backup.db"]),
        "backup.db has 3 tenants",
    );
    let backup = workspace.path().join("backup.db");
    assert_eq!(sessions_in(&backup).len(), sessions.len());

    let other = Workspace::new();
    let done = other.run(["restore".as_ref(), backup.as_os_str()]);
    tells(&done, "data now has 3 tenants");
    assert!(done.stdout.contains("signing.secret"), "{done:?}");
    let path = format!("/chat/sessions/{}", sessions[0]);
    let server = other.serve_demo_world();
    assert_eq!(server.client().get(NORTHWIND, &path).status, 200);
}

#[test]
fn a_copy_with_half_a_transaction_is_not_accepted_as_a_backup() {
    sqlite_only!();
    let workspace = Workspace::with_demo_world();
    workspace.ok(["backup", "backup.db"]);
    let copy = workspace.path().join("copy");
    fs::create_dir(&copy).unwrap();
    let (file, journal) = (copy.join("backup.db"), copy.join("backup.db-journal"));
    let writer = Connection::open(workspace.path().join("backup.db")).unwrap();
    writer
        .execute_batch(
            "PRAGMA cache_size = 1;
             BEGIN IMMEDIATE;
             UPDATE knowledge_articles SET body = body || hex(randomblob(20000));",
        )
        .unwrap();
    fs::copy(workspace.path().join("backup.db"), &file).unwrap();
    fs::copy(workspace.path().join("backup.db-journal"), &journal).unwrap();
    drop(writer);
    let before = (fs::read(&file).unwrap(), fs::read(&journal).unwrap());

    let other = Workspace::new();
    for name in ["copy/backup.db", "link.db"] {
        if name == "link.db" {
            symlink(&file, workspace.path().join(name)).unwrap();
        }
        let source = workspace.path().join(name);
        let done = other.run(["restore".as_ref(), source.as_os_str()]);
        let says = "holds an incomplete transaction, and ";
        assert!(done.failure().contains(says), "{done:?}");
        assert!(done.stderr.contains("copy/backup.db-journal"), "{done:?}");
        assert!(!other.data().exists());
    }
    assert!((fs::read(&file).unwrap(), fs::read(&journal).unwrap()) == before);

    // Do what the message asks for.
    Connection::open(&file)
        .unwrap()
        .query_row("SELECT count(*) FROM tenants", [], |_| Ok(()))
        .unwrap();
    other.ok(["restore".as_ref(), file.as_os_str()]);
    server_answers(&other.serve_demo_world());
}

#[test]
fn a_restored_file_that_cannot_be_opened_is_reported_as_restored() {
    sqlite_only!();
    let workspace = Workspace::with_demo_world();
    workspace.ok(["backup", "backup.db"]);
    let backup = workspace.path().join("backup.db");
    let other = Workspace::new();
    let lock = other.data().join("migrate.lock");
    fs::create_dir_all(&lock).unwrap();
    let done = other.run(["restore".as_ref(), backup.as_os_str()]);
    let says = "switchboard.db is in place, and was complete before it was moved there, but it cannot be read there: ";
    assert!(done.failure().contains(says), "{done:?}");
    assert_eq!(
        names_in(&other.data()),
        ["migrate.lock", "serve.lock", "switchboard.db"]
    );
    fs::remove_dir(lock).unwrap();
    assert_eq!(other.run(["check"]).code, 0);
    server_answers(&other.serve_demo_world());
}

#[test]
fn a_backup_and_a_copied_folder_hold_what_a_crash_left_in_the_write_ahead_log() {
    sqlite_only!();
    let workspace = Workspace::with_demo_world();
    let server = workspace.serve_demo_world();
    let session = begin_session(&server.client());
    converse(&server.client(), &session);
    let answered = messages(&server.client(), &session);
    server.crash();

    let copy = workspace.path().join("copy");
    fs::create_dir(&copy).unwrap();
    for name in ["switchboard.db", "switchboard.db-wal"] {
        fs::copy(workspace.data().join(name), copy.join(name)).unwrap();
    }
    let file = workspace.path().join("backup.db");
    workspace.ok(["backup".as_ref(), file.as_os_str()]);
    let before = fs::read(&file).unwrap();
    let link = workspace.path().join("link.db");
    symlink(copy.join("switchboard.db"), &link).unwrap();
    for source in [file.clone(), copy.join("switchboard.db"), link] {
        let (workspace, _) = restored(&source);
        let server = workspace.serve_demo_world();
        assert_eq!(messages(&server.client(), &session), answered);
        server.stop();
    }
    assert!(fs::read(&file).unwrap() == before);
}

#[test]
fn a_restore_refuses_a_folder_with_data_or_leftovers_of_it() {
    sqlite_only!();
    let workspace = Workspace::with_demo_world();
    workspace.ok(["backup", "backup.db"]);
    let before = fs::read(workspace.database()).unwrap();
    let says = "already exists; move it away, or choose another --data";
    let done = workspace.run(["restore", "backup.db"]);
    assert!(done.failure().contains(says), "{done:?}");
    assert!(fs::read(workspace.database()).unwrap() == before);

    // SQLite would apply a write-ahead log without its file to the restored file.
    fs::remove_file(workspace.database()).unwrap();
    for name in ["switchboard.db-wal", "switchboard.db-journal"] {
        let left = workspace.data().join(name);
        fs::write(&left, "left").unwrap();
        let done = workspace.run(["restore", "backup.db"]);
        assert!(
            done.failure().contains(&format!("{name} {says}")),
            "{done:?}"
        );
        assert!(!workspace.database().exists());
        fs::remove_file(left).unwrap();
    }
    workspace.ok(["restore", "backup.db"]);
    assert_eq!(workspace.run(["check"]).code, 0);
}

#[test]
fn a_restore_refuses_a_served_folder_even_if_its_database_file_is_missing() {
    sqlite_only!();
    let workspace = Workspace::with_demo_world();
    workspace.ok(["backup", "backup.db"]);
    let server = workspace.serve_demo_world();
    let refused = |workspace: &Workspace| {
        let done = workspace.run(["restore", "backup.db"]);
        assert!(
            done.failure().contains("another switchboard serves"),
            "{done:?}"
        );
    };
    refused(&workspace);
    for name in names_in(&workspace.data()) {
        if name.starts_with("switchboard.db") {
            fs::remove_file(workspace.data().join(name)).unwrap();
        }
    }
    refused(&workspace);
    assert!(!workspace.database().exists());
    server.crash();
    workspace.ok(["restore", "backup.db"]);
    server_answers(&workspace.serve_demo_world());
}

fn server_answers(server: &Server) {
    assert_eq!(server.client().get(NORTHWIND, "/whoami").status, 200);
}

#[test]
fn an_incomplete_backup_is_refused_and_leaves_the_folder_without_a_database() {
    sqlite_only!();
    let source = Workspace::with_demo_world();
    source.ok(["backup", "backup.db"]);
    let whole = fs::read(source.path().join("backup.db")).unwrap();
    let damaged = damaged(&source.path().join("backup.db"));
    let newer = source.path().join("newer.db");
    fs::write(&newer, &whole).unwrap();
    Connection::open(&newer)
        .unwrap()
        .execute(
            "INSERT INTO refinery_schema_history (version, name, applied_on, checksum) VALUES (9999, 'later', '', '')",
            [],
        )
        .unwrap();
    let other = source.path().join("other.db");
    let recipes = Connection::open(&other).unwrap();
    recipes
        .execute_batch("CREATE TABLE recipes (name TEXT)")
        .unwrap();
    drop(recipes);

    let workspace = Workspace::new();
    workspace.file("damaged.db", damaged);
    workspace.file("short.db", &whole[..whole.len() / 2]);
    workspace.file("list.db", "a shopping list\n".repeat(1_000));
    workspace.file("empty.db", "");
    for (name, says) in [
        ("damaged.db", "damaged"),
        ("short.db", "damaged"),
        ("list.db", "is not a database"),
        ("empty.db", "holds no data"),
        (".", "holds no data"),
        ("missing.db", "cannot read missing.db"),
        (newer.to_str().unwrap(), "newer"),
        (other.to_str().unwrap(), "another program"),
    ] {
        let done = workspace.run(["restore", name]);
        assert!(done.failure().contains(says), "{name}: {done:?}");
        assert_eq!(done.stdout, "", "{name}");
        assert!(!workspace.database().exists(), "{name}");
        let left = workspace.data();
        if left.exists() {
            assert_eq!(names_in(&left), ["serve.lock"], "{name}");
        }
    }
    let before = names_in(workspace.path());
    assert!(
        before.iter().all(|name| !name.starts_with(".switchboard")),
        "{before:?}"
    );
}

#[test]
fn a_backup_of_an_older_version_s_file_stays_as_it_is_and_migrates_when_restored() {
    sqlite_only!();
    let workspace = Workspace::new();
    fs::create_dir(workspace.data()).unwrap();
    unpack_version_0_1(&workspace.data());
    let schema = |file: &Path| -> i64 {
        opened(file)
            .query_row(
                "SELECT max(version) FROM refinery_schema_history",
                [],
                |row| row.get(0),
            )
            .unwrap()
    };
    let old = schema(&workspace.database());
    workspace.ok(["backup", "old.db"]);
    assert_eq!(schema(&workspace.database()), old);
    let backup = workspace.path().join("old.db");
    assert_eq!(schema(&backup), old);
    let (restored, _) = restored(&backup);
    assert_eq!(schema(&restored.database()), newest_migration());
    assert_eq!(schema(&backup), old);
    server_answers(&restored.serve_demo_world());

    // The restored file passes the check.
    let file = workspace.closed_file();
    file.execute_batch("UPDATE installs SET bot_id = 'stray'")
        .unwrap();
    drop(file);
    let done = workspace.run(["backup", "wrong.db"]);
    let says = "damage: an install does not agree with its channel: ";
    assert!(done.code == 1 && done.stderr.starts_with(says), "{done:?}");
    assert_eq!(schema(&workspace.path().join("wrong.db")), old);
}

#[test]
fn tokens_survive_a_restore_if_the_folder_s_secret_is_restored_too() {
    sqlite_only!();
    let workspace = Workspace::with_demo_world();
    let server = workspace.serve_demo_world();
    let session = begin_session(&server.client());
    let minted = server
        .client()
        .post(NORTHWIND, "/sessions", &json!({"session_id": session}));
    let token = minted.data()["token"].as_str().unwrap().to_owned();
    workspace.ok(["backup", "backup.db"]);
    server.stop();
    let backup = workspace.path().join("backup.db");
    let secret = fs::read(workspace.data().join("signing.secret")).unwrap();
    let text = fs::read(&backup).unwrap();
    assert!(!text.windows(secret.len()).any(|window| window == secret));

    let (without, said) = restored(&backup);
    assert!(said.contains("signing.secret"), "{said}");
    let path = format!("/chat/sessions/{session}");
    let server = without.serve_demo_world();
    assert_eq!(server.client().get(&token, &path).status, 401);
    assert_eq!(server.client().get(NORTHWIND, &path).status, 200);

    let with = Workspace::new();
    fs::create_dir(with.data()).unwrap();
    fs::write(with.data().join("signing.secret"), &secret).unwrap();
    let said = with.ok(["restore".as_ref(), backup.as_os_str()]);
    assert!(!said.contains("signing.secret"), "{said}");
    let server = with.serve_demo_world();
    assert_eq!(server.client().get(&token, &path).status, 200);
}
