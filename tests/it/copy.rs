//! All data moves between a data folder and a PostgreSQL database, whole or not at all.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rusqlite::Connection as File;
use rusqlite::types::Value;
use tempfile::TempDir;

use crate::postgres_server::Database;
use crate::process::{CommandOutput, DEMO_WORLD, NORTHWIND, Server, finish, program};
use crate::upgrade::unpack_version_0_1;

/// Tables that a copy leaves out, or that belong to the engine.
const NOT_COPIED: [&str; 8] = [
    "message_search",
    "title_search",
    "search_",
    "sqlite_",
    "nodes",
    "signing_secret",
    "min_reader",
    "refinery_schema_history",
];

fn sqlite(folder: &Path) -> String {
    format!("sqlite:{}", folder.display())
}

/// Runs a command to its end. What the log says of a server without fsync is left out.
fn run(command: &mut Command) -> CommandOutput {
    let mut done = finish(command);
    let lines = done
        .stderr
        .lines()
        .filter(|line| !line.contains(": fsync is off; "));
    done.stderr = lines.map(|line| format!("{line}\n")).collect();
    done
}

fn copy(from: &str, to: &str) -> CommandOutput {
    run(&mut program(["copy", "--from", from, "--to", to]))
}

/// Runs a command on a side of a copy.
fn on(place: &str, arguments: &[&str]) -> CommandOutput {
    let mut command = program(arguments);
    match place.strip_prefix("sqlite:") {
        Some(folder) => command.env("SWITCHBOARD_DATA", folder),
        None => command.env("SWITCHBOARD_DATABASE", place),
    };
    run(&mut command)
}

/// A folder with the demo world, and the folder around it.
fn demo_world() -> (TempDir, PathBuf) {
    let around = tempfile::tempdir().unwrap();
    let folder = around.path().join("data");
    let done = on(&sqlite(&folder), &["--env", "demo", "import", DEMO_WORLD]);
    assert_eq!(done.code, 0, "{done:?}");
    (around, folder)
}

fn file(folder: &Path) -> File {
    File::open(folder.join("switchboard.db")).unwrap()
}

/// Every copied row of a folder, by its table.
fn rows(folder: &Path) -> BTreeMap<String, Vec<Vec<Value>>> {
    let file = file(folder);
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table'";
    let mut tables = file.prepare(sql).unwrap();
    let names = tables.query_map([], |row| row.get::<_, String>(0)).unwrap();
    let names = names.map(Result::unwrap);
    names
        .filter(|name| !NOT_COPIED.iter().any(|start| name.starts_with(start)))
        .map(|name| {
            let sql = format!("SELECT * FROM {name} ORDER BY 1, 2");
            let mut select = file.prepare(&sql).unwrap();
            let columns = select.column_count();
            let found = select.query_map([], |row| (0..columns).map(|nth| row.get(nth)).collect());
            (name, found.unwrap().map(Result::unwrap).collect())
        })
        .collect()
}

#[test]
fn a_folder_of_version_0_1_goes_to_postgresql_and_back_row_for_row() {
    let around = tempfile::tempdir().unwrap();
    let (old, back) = (around.path().join("old"), around.path().join("back"));
    fs::create_dir(&old).unwrap();
    unpack_version_0_1(&old);
    let database = Database::new();

    let there = copy(&sqlite(&old), database.url());
    assert_eq!((there.code, there.stderr.as_str()), (0, ""), "{there:?}");
    let shown = database.url();
    assert!(
        there.stdout.starts_with("ok: copied ")
            && there.stdout.contains(&format!(
                " of 36 tables from {} to {shown}; ",
                old.display()
            )),
        "{there:?}"
    );
    let and_back = copy(database.url(), &sqlite(&back));
    assert_eq!(and_back.code, 0, "{and_back:?}");

    let before = rows(&old);
    assert!(before["messages"].len() > 3 && !before["attachment_contents"].is_empty());
    assert_eq!(before, rows(&back));
    let secrets = [&old, &back].map(|folder| folder.join("signing.secret"));
    assert_eq!(
        fs::read(&secrets[0]).unwrap(),
        fs::read(&secrets[1]).unwrap()
    );
    for name in ["signing.secret", "switchboard.db"] {
        let mode = fs::metadata(back.join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let secret = database.query("SELECT encode(secret, 'hex') FROM signing_secret");
    let hex: String = fs::read(&secrets[0])
        .unwrap()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(secret, [hex]);

    // `check` finds all three good, and says the same of each.
    let checked = [sqlite(&old), database.url().to_owned(), sqlite(&back)]
        .map(|place| on(&place, &["check"]));
    assert!(checked[0].stdout.contains("\nok: ") || checked[0].stdout.starts_with("ok: "));
    for done in &checked {
        let lines = done
            .stdout
            .lines()
            .filter(|line| !line.starts_with("skipped: "));
        let expected: Vec<&str> = checked[0].stdout.lines().collect();
        assert_eq!(lines.collect::<Vec<_>>(), expected, "{done:?}");
    }
}

/// Serves a side of a copy.
fn serve(place: &str) -> Server {
    let mut command = program(["serve", "--listen", "127.0.0.1:0", "--rate-limit", "0"]);
    match place.strip_prefix("sqlite:") {
        Some(folder) => command.env("SWITCHBOARD_DATA", folder),
        None => command.env("SWITCHBOARD_DATABASE", place),
    };
    Server::start(command)
}

#[test]
fn a_copy_is_served_with_the_keys_the_environment_the_numbers_and_the_search_of_its_source() {
    let (around, folder) = demo_world();
    let back = around.path().join("back");
    let server = serve(&sqlite(&folder));
    let session = serde_json::json!({ "agent_id": 102, "title": "The kraken of floor 3" });
    let made = server.client().post(NORTHWIND, "/chat/sessions", &session);
    assert_eq!(made.status, 201, "{made:?}");
    let id = made.data()["id"].as_str().unwrap().to_owned();
    server.stop();
    let (first, other) = (Database::new(), Database::new());
    for (from, to) in [
        (sqlite(&folder), first.url().to_owned()),
        (first.url().to_owned(), other.url().to_owned()),
        (other.url().to_owned(), sqlite(&back)),
    ] {
        let done = copy(&from, &to);
        assert_eq!(done.code, 0, "{done:?}");
        let done = on(&to, &["environment"]);
        assert_eq!(done.stdout, "demo\n");
    }
    for place in [first.url().to_owned(), sqlite(&back)] {
        let server = serve(&place);
        let client = server.client();
        let found = client.get(NORTHWIND, "/chat/sessions?q=krak");
        assert_eq!(found.data()[0]["id"], id.as_str(), "{found:?}");
        let found = client.get(NORTHWIND, &format!("/chat/sessions/{id}"));
        assert_eq!(found.data()["title"], "The kraken of floor 3", "{place}");
        let agent = serde_json::json!({ "name": "New", "audience": "MSP" });
        let agent = client.post(NORTHWIND, "/agents", &agent).data()["id"].clone();
        assert_eq!(agent, next_agent(&folder), "{place}");
        server.stop();
    }
}

/// The number that the next agent of a folder gets.
fn next_agent(folder: &Path) -> String {
    let sql = "SELECT CAST(last + 1 AS TEXT) FROM given_numbers WHERE what = 'agent'";
    file(folder).query_row(sql, [], |row| row.get(0)).unwrap()
}

#[test]
fn a_target_that_is_not_empty_is_refused_and_stays_as_it_is() {
    let (around, folder) = demo_world();
    let database = Database::new();
    assert_eq!(copy(&sqlite(&folder), database.url()).code, 0);
    let tenants = database.query("SELECT client_id FROM tenants ORDER BY 1");

    let again = copy(&sqlite(&folder), database.url());
    let expected = format!(
        "{} is not empty: its table tenants has 3 rows; copy into a new folder or database",
        database.url()
    );
    assert_eq!(again.failure(), expected);
    assert_eq!(
        database.query("SELECT client_id FROM tenants ORDER BY 1"),
        tenants
    );

    let (_other_around, other) = demo_world();
    let before = rows(&other);
    let into = copy(database.url(), &sqlite(&other));
    assert!(
        into.failure()
            .contains(" is not empty: its table tenants has 3 rows; "),
        "{into:?}"
    );
    assert_eq!(rows(&other), before);
    assert_eq!(on(&sqlite(&other), &["check"]).code, 0);

    let with_secret = around.path().join("with-secret");
    fs::create_dir(&with_secret).unwrap();
    fs::write(with_secret.join("signing.secret"), "secret").unwrap();
    let into = copy(database.url(), &sqlite(&with_secret));
    assert!(
        into.failure()
            .contains(" is not empty: it has a signing.secret; "),
        "{into:?}"
    );
    assert!(!with_secret.join("switchboard.db").exists());

    // A database that a server has started on has no tenant, but a secret.
    for (sql, what) in [
        (
            "UPDATE folder SET environment = 'prod'",
            "it belongs to the environment prod",
        ),
        (
            "INSERT INTO signing_secret VALUES (1, '\\x00')",
            "it has a signing secret",
        ),
    ] {
        let used = Database::new();
        assert_eq!(on(used.url(), &["tenants", "list"]).code, 0);
        used.batch(sql);
        let into = copy(&sqlite(&folder), used.url());
        assert!(into.failure().contains(what), "{into:?}");
    }
    // One that has the schema alone is empty.
    let empty = Database::new();
    assert_eq!(on(empty.url(), &["tenants", "list"]).code, 0);
    assert_eq!(copy(&sqlite(&folder), empty.url()).code, 0);
}

#[test]
fn wrong_sides_of_a_copy_are_refused_and_no_password_is_shown() {
    let (around, folder) = demo_world();
    let missing = around.path().join("missing");
    let done = copy(&sqlite(&missing), &sqlite(&around.path().join("new")));
    let expected = format!(
        "there is no data in {}; choose another folder",
        missing.display()
    );
    assert_eq!(done.failure(), expected);
    assert!(!missing.exists() && !around.path().join("new").exists());
    let same = copy(&sqlite(&folder), &sqlite(&folder.join(".")));
    assert_eq!(same.failure(), "--from and --to are the same folder");

    let nobody = "postgres://u:s3cret@127.0.0.1:1/none";
    for (from, to, code, said) in [
        (
            nobody,
            "sqlite:",
            2,
            "--to must be sqlite:DIR or postgres://USER@HOST/DATABASE",
        ),
        (
            "mysql://u:s3cret@h/d",
            nobody,
            2,
            "--from must be sqlite:DIR or postgres://USER@HOST/DATABASE",
        ),
        (
            nobody,
            "sqlite:new",
            1,
            "cannot use postgres://u@127.0.0.1:1/none: ",
        ),
        (
            "postgres://u:s3cret@h/d?sslmode=some",
            "sqlite:new",
            1,
            "--from: sslmode=some is not known",
        ),
    ] {
        let done = copy(from, to);
        assert_eq!(done.code, code, "{done:?}");
        assert!(done.stderr.contains(said), "{done:?}");
        assert!(
            !done.stderr.contains("s3cret") && done.stdout.is_empty(),
            "{done:?}"
        );
    }
    let unnamed = run(&mut program(["copy", "--from", nobody]));
    assert_eq!(unnamed.code, 2);
}

#[test]
fn a_side_that_a_server_works_on_is_refused() {
    let (around, folder) = demo_world();
    let database = Database::new();
    let server = serve(&sqlite(&folder));
    let done = copy(&sqlite(&folder), database.url());
    assert!(
        done.failure()
            .starts_with("another switchboard serves the data folder "),
        "{done:?}"
    );
    assert_eq!(database.query("SELECT to_regclass('tenants')::text"), [""]);
    server.stop();
    assert_eq!(copy(&sqlite(&folder), database.url()).code, 0);

    let server = serve(database.url());
    let new = around.path().join("new");
    let refused = format!(
        "1 server runs on {}; stop them first (one that was killed counts for 30 s)",
        database.url()
    );
    let done = copy(database.url(), &sqlite(&new));
    assert_eq!(done.failure(), refused);
    let done = copy(&sqlite(&folder), database.url());
    assert_eq!(done.failure(), refused);
    assert!(!new.exists());
    // A killed server's row stays for a while. The clock of the database decides.
    server.crash();
    database.batch("UPDATE nodes SET seen_at = 0");
    let done = copy(database.url(), &sqlite(&new));
    assert_eq!(done.code, 0, "{done:?}");
}

/// Starts a copy.
fn start(from: &str, to: &str) -> Child {
    let mut command = program(["copy", "--from", from, "--to", to]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

/// Waits until something is so.
fn until(mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "it did not become so");
        std::thread::yield_now();
    }
}

#[test]
fn a_copy_that_was_killed_leaves_a_target_that_nothing_uses() {
    let (around, folder) = demo_world();
    let full = Database::new();
    assert_eq!(copy(&sqlite(&folder), full.url()).code, 0);

    // The copy waits for a table that somebody else has locked.
    let database = Database::new();
    assert_eq!(on(database.url(), &["tenants", "list"]).code, 0);
    let lock = database.lock("LOCK TABLE messages IN SHARE MODE");
    let mut copying = start(&sqlite(&folder), database.url());
    let waiting = "SELECT count(*)::text FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                   WHERE d.datname = current_database() AND NOT l.granted";
    until(|| database.query(waiting) == ["1"]);
    copying.kill().unwrap();
    copying.wait().unwrap();
    drop(lock);

    let new = around.path().join("new");
    let lock = full.lock("LOCK TABLE messages IN ACCESS EXCLUSIVE MODE");
    let mut copying = start(full.url(), &sqlite(&new));
    until(|| full.query(waiting) == ["1"]);
    copying.kill().unwrap();
    copying.wait().unwrap();
    drop(lock);

    let unfinished = format!(
        "{} is a copy that was not finished, and nothing can use it: drop and create the database, then copy again",
        database.url()
    );
    let unfinished_folder = format!(
        "{} is a copy that was not finished, and nothing can use it: remove its folder, then copy again",
        new.join("switchboard.db").display()
    );
    for (place, said) in [
        (database.url().to_owned(), unfinished),
        (sqlite(&new), unfinished_folder),
    ] {
        for command in [
            &["serve", "--listen", "127.0.0.1:0"][..],
            &["check"],
            &["tenants", "list"],
        ] {
            assert_eq!(on(&place, command).failure(), said, "{command:?}");
        }
        assert_eq!(copy(&sqlite(&folder), &place).failure(), said);
        assert_eq!(
            copy(&place, &sqlite(&around.path().join("other"))).failure(),
            said
        );
    }
    // The sources are as they were.
    assert_eq!(on(full.url(), &["check"]).code, 0);
    assert_eq!(on(&sqlite(&folder), &["check"]).code, 0);
    fs::remove_dir_all(&new).unwrap();
    let done = copy(full.url(), &sqlite(&new));
    assert_eq!(done.code, 0, "{done:?}");
}

#[test]
fn a_copy_of_rows_that_refer_to_nothing_fails_whole() {
    let (around, folder) = demo_world();
    let broken = file(&folder);
    broken.pragma_update(None, "foreign_keys", "OFF").unwrap();
    broken
        .execute(
            "UPDATE installs SET channel_seq = 7 WHERE seq = (SELECT min(seq) FROM installs)",
            [],
        )
        .unwrap();
    drop(broken);
    let database = Database::new();
    let new = around.path().join("new");
    for (to, cause, remedy) in [
        (
            database.url().to_owned(),
            "violates foreign key constraint \"installs_channel_seq_fkey\" (SQLSTATE 23503)",
            "drop and create the database before you copy again",
        ),
        (
            sqlite(&new),
            "a row of installs refers to a missing row",
            "remove it before you copy again",
        ),
    ] {
        let done = copy(&sqlite(&folder), &to);
        let said = done.failure();
        let shown = to.strip_prefix("sqlite:").unwrap_or(&to);
        assert!(
            said.starts_with(&format!("the copy of {} failed: ", folder.display())),
            "{said}"
        );
        assert!(said.contains(cause), "{said}");
        assert!(
            said.ends_with(&format!(
                "; {shown} is not complete and cannot be used: {remedy}"
            )),
            "{said}"
        );
        assert!(
            on(&to, &["check"])
                .failure()
                .contains("is a copy that was not finished")
        );
    }
}

#[test]
fn a_text_with_the_character_zero_gets_a_replacement_on_postgresql_alone() {
    let (around, folder) = demo_world();
    let changed = file(&folder);
    changed
        .execute(
            "UPDATE agents SET description = 'a' || char(0) || 'b' WHERE agent_id = 102",
            [],
        )
        .unwrap();
    drop(changed);
    let database = Database::new();
    let done = copy(&sqlite(&folder), database.url());
    assert!(
        done.stdout.starts_with(
            "warning: 1 text has the character U+0000, which PostgreSQL cannot store; the copy has U+FFFD in its place\nok: "
        ),
        "{done:?}"
    );
    let description = "SELECT description FROM agents WHERE agent_id = 102";
    assert_eq!(database.query(description), ["a\u{fffd}b"]);
    let other = around.path().join("other");
    assert_eq!(copy(&sqlite(&folder), &sqlite(&other)).code, 0);
    assert_eq!(rows(&folder), rows(&other));
}

const LARGE: &str = "
INSERT INTO sessions (seq, id, tenant_no, agent_id, channel, show_agent_progress_steps, rule, created_by_kind, created_by_id,
                      metadata, created_at, updated_at)
SELECT 1, zeroblob(16), min(tenant_no), 102, 'API', 0, 'default', 'api_key', 'x', '{}', 1, 1 FROM tenants;
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 6)
INSERT INTO attachments (seq, id, session_seq, mime, bytes, created_at) SELECT i, randomblob(16), 1, 'image/png', 9000000 + i, 1 FROM n;
INSERT INTO attachment_contents SELECT seq, randomblob(bytes) FROM attachments;";

#[test]
fn files_of_many_megabytes_are_copied_whole() {
    let (around, folder) = demo_world();
    file(&folder).execute_batch(LARGE).unwrap();
    let database = Database::new();
    let back = around.path().join("back");
    for (from, to) in [
        (sqlite(&folder), database.url().to_owned()),
        (database.url().to_owned(), sqlite(&back)),
    ] {
        let done = copy(&from, &to);
        assert_eq!(done.code, 0, "{done:?}");
        let checked = on(&to, &["check"]);
        assert!(
            checked
                .stdout
                .ends_with("ok: 1 session, 0 messages, 2 warnings\n"),
            "{checked:?}"
        );
    }
    assert!(rows(&folder) == rows(&back));
}

#[test]
fn check_on_postgresql_finds_what_it_finds_in_a_file_and_compares_indexes_with_amcheck() {
    let (_around, folder) = demo_world();
    let database = Database::new();
    assert_eq!(copy(&sqlite(&folder), database.url()).code, 0);
    let check = || on(database.url(), &["check"]);
    let good = on(&sqlite(&folder), &["check"]).stdout;
    assert!(good.ends_with("\nok: 0 sessions, 0 messages, 2 warnings\n"));
    let skipped = "skipped: the indexes were not compared with their tables, because the database has no extension amcheck; \
                   a superuser adds it: CREATE EXTENSION amcheck\n";
    let without = check();
    assert_eq!(
        without.stdout,
        good.replace("ok: ", &format!("{skipped}ok: "))
    );
    database.batch("CREATE EXTENSION amcheck");
    assert_eq!(check().stdout, good);

    // A row that its index does not have.
    let index = |ready: bool| {
        database.batch(&format!(
            "UPDATE pg_index SET indisready = {ready} WHERE indexrelid = CAST('channels_living' AS regclass)"
        ));
    };
    index(false);
    database.batch("UPDATE channels SET display_name = display_name || '.', seq = seq + 1 WHERE seq NOT IN (SELECT channel_seq FROM installs)");
    index(true);
    let damaged = check();
    assert_eq!(damaged.code, 1);
    assert!(good.starts_with(&damaged.stdout) && !damaged.stdout.contains("ok: "));
    assert!(
        damaged
            .stderr
            .starts_with("damage: index channels_living: heap tuple ")
            && damaged.stderr.contains("lacks matching index tuple"),
        "{damaged:?}"
    );
    database.batch("REINDEX INDEX channels_living");
    assert_eq!(check().stdout, good);

    // Rows that contradict each other, in the words that a file gets.
    let broken = "UPDATE agents SET managed_agent_key = NULL WHERE tenant_no = (SELECT max(tenant_no) FROM tenants)";
    database.batch(broken);
    file(&folder).execute(broken, []).unwrap();
    let (found, in_file) = (check(), on(&sqlite(&folder), &["check"]));
    assert_eq!(
        found.stderr,
        "damage: a tenant has no NEO_SUPPORT agent: relay-platform\n"
    );
    assert_eq!((found.code, &found.stderr), (in_file.code, &in_file.stderr));

    database.batch(
        "ALTER TABLE installs DROP CONSTRAINT installs_channel_seq_fkey;
         ALTER TABLE installs ADD CONSTRAINT installs_channel_seq_fkey FOREIGN KEY (channel_seq) REFERENCES channels (seq) NOT VALID",
    );
    let found = check().stderr;
    assert!(
        found.starts_with(
            "damage: the reference installs_channel_seq_fkey of installs is not validated; "
        ),
        "{found}"
    );
}
