//! Every command refuses a database whose schema was changed, and names the first change.

use std::fs;
use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;
use rusqlite::Connection;

use crate::database::sqlite_only;
use crate::process::{SERVE, Workspace};

/// Asserts that an output names the file and the change.
fn assert_names(said: &str, file: &str, change: &str) {
    let expected = format!(
        "{file} is not the one of this program: {change}; restore the file from a backup, and do not use a file that somebody else could write to"
    );
    assert!(said.ends_with(&expected), "{change}: {said}");
}

#[test]
fn a_changed_schema_is_refused_by_every_command_with_the_first_change() {
    sqlite_only!();
    for (changes, change) in [
        (
            "CREATE TRIGGER promote AFTER INSERT ON api_keys BEGIN UPDATE api_keys SET platform = 1; END",
            "the trigger \"promote\" is foreign",
        ),
        (
            "CREATE TABLE stolen (content TEXT);
             CREATE TRIGGER copy AFTER INSERT ON messages BEGIN INSERT INTO stolen VALUES (NEW.content); END",
            "the table \"stolen\" is foreign",
        ),
        (
            "DROP INDEX api_keys_newest; CREATE INDEX api_keys_newest ON api_keys (tenant_no, seq)",
            "the index \"api_keys_newest\" differs",
        ),
        (
            "DROP INDEX api_keys_newest",
            "the index \"api_keys_newest\" is missing",
        ),
        (
            "PRAGMA legacy_alter_table = ON; ALTER TABLE users RENAME TO users_kept;
             CREATE VIEW users AS SELECT * FROM users_kept",
            "the table \"users_kept\" is foreign",
        ),
        (
            "PRAGMA writable_schema = ON;
             UPDATE sqlite_schema SET sql = replace(sql, ' CHECK (role IN (''ADMIN'', ''USER'', ''VIEWER''))', '') WHERE name = 'users'",
            "the table \"users\" differs",
        ),
        (
            "DROP TRIGGER users_demoted",
            "the trigger \"users_demoted\" is missing",
        ),
    ] {
        let workspace = Workspace::with_demo_world();
        let file = workspace.closed_file();
        file.execute_batch(changes).unwrap();
        drop(file);
        let before = fs::read(workspace.database()).unwrap();
        let seed = crate::process::DEMO_WORLD;
        for command in [
            &SERVE[..],
            &["check"],
            &["export"],
            &["--env", "demo", "import", seed],
            &["keys", "list", "--tenant", "northwind-it"],
            &["backup", "copy.db"],
        ] {
            let done = workspace.run(command);
            assert_names(done.failure(), "data/switchboard.db", change);
        }
        assert!(!workspace.path().join("copy.db").exists());
        assert!(fs::read(workspace.database()).unwrap() == before, "{change}");

        // A copy that an operator is given is not taken either.
        fs::copy(workspace.database(), workspace.path().join("given.db")).unwrap();
        let other = workspace.path().join("other");
        let done = workspace.run(["--data", other.to_str().unwrap(), "restore", "given.db"]);
        assert_names(done.failure(), "given.db", change);
        assert!(!other.join("switchboard.db").exists());
    }
}

#[test]
fn an_older_file_is_compared_with_its_own_version_before_it_is_migrated() {
    sqlite_only!();
    let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/data-0.1/switchboard.db.gz");
    let mut whole = Vec::new();
    let mut packed = GzDecoder::new(fs::File::open(packed).unwrap());
    packed.read_to_end(&mut whole).unwrap();
    let folder = |changes: &str| {
        let workspace = Workspace::new();
        fs::create_dir(workspace.data()).unwrap();
        fs::write(workspace.database(), &whole).unwrap();
        let file = Connection::open(workspace.database()).unwrap();
        file.execute_batch(changes).unwrap();
        drop(file);
        workspace
    };
    let changed = folder(
        "CREATE TRIGGER promote AFTER INSERT ON api_keys BEGIN UPDATE api_keys SET platform = 1; END",
    );
    let done = changed.run(["check"]);
    let change = "the trigger \"promote\" is foreign";
    assert_names(done.failure(), "data/switchboard.db", change);
    folder("").ok(["check"]);
}

#[test]
fn statistics_of_the_planner_and_the_tables_of_litestream_are_allowed() {
    sqlite_only!();
    let workspace = Workspace::with_demo_world();
    let file = workspace.closed_file();
    file.execute_batch(
        "ANALYZE;
         CREATE TABLE _litestream_seq (id INTEGER PRIMARY KEY, seq INTEGER);
         CREATE TABLE _litestream_lock (id INTEGER);",
    )
    .unwrap();
    drop(file);
    workspace.ok(["check"]);
    workspace.ok(["backup", "copy.db"]);
    workspace.ok(["--data", "other", "restore", "copy.db"]);
}
