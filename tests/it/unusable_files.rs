//! Database files that cannot be used: newer, foreign, damaged, or contradicting themselves.

use std::fs;
use std::io::{Seek, SeekFrom, Write};

use crate::command_line::with_tenant;
use crate::database::sqlite_only;
use crate::process::Workspace;

#[test]
fn a_file_of_a_newer_version_is_refused_and_not_changed() {
    sqlite_only!();
    let workspace = with_tenant();
    let file = workspace.closed_file();
    file.execute(
        "INSERT INTO refinery_schema_history (version, name, applied_on, checksum) VALUES (9999, 'later', '', '')",
        [],
    )
    .unwrap();
    drop(file);
    let before = fs::read(workspace.database()).unwrap();
    for line in [
        vec!["serve", "--listen", "127.0.0.1:0"],
        vec!["check"],
        vec!["export"],
    ] {
        let done = workspace.run(&line);
        assert!(done.failure().contains("newer"), "{line:?}: {done:?}");
    }
    assert_eq!(fs::read(workspace.database()).unwrap(), before);
}

#[test]
fn a_database_of_another_program_is_refused_and_not_changed() {
    sqlite_only!();
    let workspace = Workspace::new();
    fs::create_dir(workspace.data()).unwrap();
    let file = rusqlite::Connection::open(workspace.database()).unwrap();
    file.execute_batch("CREATE TABLE recipes (name TEXT); INSERT INTO recipes VALUES ('soup')")
        .unwrap();
    drop(file);
    let before = fs::read(workspace.database()).unwrap();
    for line in [vec!["serve", "--listen", "127.0.0.1:0"], vec!["check"]] {
        let done = workspace.run(&line);
        assert!(
            done.failure().contains("another program"),
            "{line:?}: {done:?}"
        );
    }
    assert!(fs::read(workspace.database()).unwrap() == before);
}

#[test]
fn a_file_that_is_not_a_database_is_refused_and_not_changed() {
    sqlite_only!();
    let workspace = Workspace::new();
    fs::create_dir(workspace.data()).unwrap();
    let text = "a shopping list, long enough to be looked at as a file's head\n".repeat(100);
    fs::write(workspace.database(), &text).unwrap();
    for line in [
        vec!["serve", "--listen", "127.0.0.1:0"],
        vec!["check"],
        vec!["tenants", "list"],
    ] {
        let done = workspace.run(&line);
        assert!(
            done.failure().contains("not a database"),
            "{line:?}: {done:?}"
        );
    }
    assert_eq!(fs::read_to_string(workspace.database()).unwrap(), text);
}

#[test]
fn a_damaged_file_header_is_refused_in_one_sentence() {
    sqlite_only!();
    let workspace = Workspace::with_demo_world();
    drop(workspace.closed_file());
    let bytes = fs::read(workspace.database()).unwrap();
    let cut_off = &bytes[..5_000];
    let mut overwritten = bytes.clone();
    overwritten[100..4_096].fill(0xa5);
    for damaged in [cut_off, &overwritten] {
        fs::write(workspace.database(), damaged).unwrap();
        for line in [vec!["serve", "--listen", "127.0.0.1:0"], vec!["check"]] {
            let done = workspace.run(&line);
            assert!(done.failure().contains("damaged"), "{line:?}: {done:?}");
        }
    }
}

#[test]
fn the_check_finds_damage_in_the_middle_of_the_file() {
    sqlite_only!();
    let workspace = Workspace::with_demo_world();
    assert_eq!(workspace.run(["check"]).code, 0);
    let page = {
        let file = workspace.closed_file();
        file.query_row(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'knowledge_articles_titled'",
            [],
            |row| row.get::<_, u64>(0),
        )
        .unwrap()
    };
    let mut file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(workspace.database())
        .unwrap();
    file.seek(SeekFrom::Start((page - 1) * 4_096 + 8)).unwrap();
    file.write_all(&[0xa5; 4_000]).unwrap();
    drop(file);
    let done = workspace.run(["check"]);
    assert_eq!(done.code, 1, "{done:?}");
    assert!(!done.stderr.is_empty() && !done.stderr.contains("panicked"));
}

#[test]
fn the_check_finds_inconsistent_data() {
    sqlite_only!();
    let workspace = Workspace::with_demo_world();
    let file = workspace.closed_file();
    file.execute_batch(
        "DELETE FROM agents WHERE managed_agent_key IS NOT NULL;
         UPDATE installs SET bot_id = 'stray' WHERE seq = (SELECT min(seq) FROM installs)",
    )
    .unwrap();
    drop(file);
    let done = workspace.run(["check"]);
    assert_eq!(done.code, 1, "{done:?}");
    for says in ["northwind-it", "NEO_SUPPORT", "an install does not agree"] {
        assert!(done.stderr.contains(says), "{done:?}");
    }
}
