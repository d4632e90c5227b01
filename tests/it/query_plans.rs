//! Query plans of SQLite: each range of a list scans the index made for it, and nothing is sorted.

use rusqlite::Connection;
use switchboard::store::database_file;
use switchboard::store::sqlite::search_texts;
use switchboard::store::{
    channels, companies, health, installs, search_index, sessions, tenants, turns, unlinked,
};

use crate::database::sqlite_only;
use crate::support::{Server, technician};

/// Ranges, each with its index.
type Ranges = &'static [(&'static str, &'static str)];

/// Each list's table, the number of steps of its plan (including reads by key), and its ranges.
const LISTS: &[(&str, usize, Ranges)] = &[
    ("s", 3, sessions::RANGES),
    ("channels", 5, channels::RANGES),
    ("i", 4, installs::RANGES),
];

fn file_of(server: &Server) -> Connection {
    Connection::open(database_file(server.folder())).unwrap()
}

/// The steps of SQLite's query plan.
fn plan_of(file: &Connection, sql: &str) -> Vec<String> {
    let mut statement = file.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    let mut rows = statement.raw_query();
    let mut plan = Vec::new();
    while let Some(row) = rows.next().unwrap() {
        plan.push(row.get::<_, String>("detail").unwrap());
    }
    plan
}

#[test]
fn every_range_of_a_list_scans_its_index_newest_first() {
    sqlite_only!();
    let server = Server::demo();
    let file = file_of(&server);
    let ranges = LISTS
        .iter()
        .flat_map(|(table, steps, ranges)| ranges.iter().map(move |range| (table, steps, range)));
    for (table, steps, (index, sql)) in ranges {
        let plan = plan_of(&file, sql);
        let whole = plan.join("\n");
        let walk = plan
            .iter()
            .find(|step| step.starts_with(&format!("SEARCH {table} USING INDEX {index} (")))
            .unwrap_or_else(|| panic!("{index} is not used:\n{whole}"));
        assert!(
            walk.ends_with(" AND rowid<?)") || walk.ends_with(" AND seq<?)"),
            "{index} does not begin at the cursor: {walk}"
        );
        assert!(
            !whole.contains("TEMP B-TREE"),
            "{index} is sorted:\n{whole}"
        );
        assert!(!whole.contains("SCAN"), "{index} is read whole:\n{whole}");
        assert_eq!(plan.len(), *steps, "{whole}");
    }
}

/// The lists of an external id and of a pair of metadata: an id has few open sessions, which are
/// sorted, and the pairs are in the order of the sessions.
#[test]
fn sessions_are_found_by_an_external_id_or_a_pair_of_metadata_through_an_index_of_its_own() {
    sqlite_only!();
    let server = Server::demo();
    let file = file_of(&server);
    let steps = [
        "SEARCH s USING INDEX sessions_external (tenant_no=? AND external_id=?)",
        "SEARCH m USING COVERING INDEX session_metadata_newest (tenant_no=? AND key=? AND value=? AND archived=? AND session_seq<?)",
    ];
    let plan = plan_of(&file, sessions::OPEN);
    let one = "SEARCH s USING INDEX sessions_external (tenant_no=? AND external_id=? AND created_by_kind=? AND created_by_id=?)";
    assert!(plan.iter().any(|step| step == one), "{plan:#?}");
    for ((index, sql), step) in sessions::OTHERS.iter().zip(steps) {
        let plan = plan_of(&file, sql);
        let whole = plan.join("\n");
        assert!(plan.iter().any(|one| one == step), "{index}: {whole}");
        assert!(!whole.contains("SCAN"), "{index} is read whole: {whole}");
        let is_sorted = whole.contains("TEMP B-TREE");
        assert_eq!(is_sorted, *index == "sessions_external", "{whole}");
    }
}

#[test]
fn lists_of_companies_and_refused_directories_seek_to_the_cursor_in_their_index() {
    sqlite_only!();
    let server = Server::demo();
    let file = file_of(&server);
    for (index, sql) in companies::RANGES.iter().chain([&unlinked::RANGE]) {
        let plan = plan_of(&file, sql);
        assert!(
            plan[0].contains(&format!("USING {index} (tenant_no=? AND "))
                && plan[0].ends_with("seq<?)"),
            "{index}: {plan:#?}"
        );
        let whole = plan.join("\n");
        assert!(!whole.contains("TEMP B-TREE"), "{index} is sorted: {whole}");
        assert!(!whole.contains("SCAN"), "{index} is read whole: {whole}");
    }
}

#[test]
fn the_tenant_of_a_directory_is_found_by_an_index() {
    sqlite_only!();
    let plan = plan_of(&file_of(&Server::demo()), tenants::OF_SIGN_IN);
    assert!(
        plan[0].starts_with("SEARCH tenants USING INDEX sqlite_autoindex_tenants_")
            && plan[0].contains("(entra_tenant_id=?"),
        "{plan:#?}"
    );
}

#[test]
fn findings_are_read_from_one_tenants_range_of_an_index() {
    sqlite_only!();
    let server = Server::demo();
    let file = file_of(&server);
    for (index, sql) in health::RANGES {
        let plan = plan_of(&file, sql);
        assert!(
            plan[0].contains(&format!("{index} (tenant_no=?")),
            "{index}: {plan:#?}"
        );
        let whole = plan.join("\n");
        assert!(!whole.contains("TEMP B-TREE"), "{index} is sorted: {whole}");
        assert!(!whole.contains("SCAN"), "{index} is read whole: {whole}");
    }
}

#[test]
fn a_search_reads_a_range_of_the_postings_and_never_sorts_them() {
    sqlite_only!();
    let server = Server::demo();
    let file = file_of(&server);
    let titles = plan_of(&file, search_texts::TITLES_WITH);
    assert_eq!(titles.len(), 1, "{titles:#?}");
    let messages = plan_of(&file, search_texts::MESSAGES_WITH);
    assert_eq!(messages.len(), 2, "{messages:#?}");
    // FTS5 applies the word and both bounds itself.
    for (plan, table) in [(&titles, "title_search"), (&messages, "f")] {
        assert_eq!(plan[0], format!("SCAN {table} VIRTUAL TABLE INDEX 0:M2><"));
    }
    assert_eq!(messages[1], "SEARCH m USING INTEGER PRIMARY KEY (rowid=?)");
}

#[test]
fn an_index_that_is_built_again_reads_older_rows_by_their_key() {
    sqlite_only!();
    let server = Server::demo();
    let file = file_of(&server);
    let [messages, titles] = search_index::OLDER;
    assert_eq!(
        plan_of(&file, messages),
        [
            "SEARCH m USING INTEGER PRIMARY KEY (rowid<?)",
            "SEARCH s USING INTEGER PRIMARY KEY (rowid=?)",
        ]
    );
    assert_eq!(
        plan_of(&file, titles),
        ["SEARCH sessions USING INTEGER PRIMARY KEY (rowid<?)"]
    );
}

#[test]
fn a_new_session_and_a_turn_need_no_temporary_table() {
    sqlite_only!();
    let server = Server::demo();
    let file = file_of(&server);
    for written in [
        "INSERT INTO sessions DEFAULT VALUES",
        "INSERT INTO messages DEFAULT VALUES",
        "INSERT INTO turns DEFAULT VALUES",
        "INSERT INTO turn_logs DEFAULT VALUES",
        "UPDATE turns SET status = ?1 WHERE seq = ?2",
        "UPDATE sessions SET message_count = ?1 WHERE seq = ?2",
    ] {
        let mut statement = file.prepare(&format!("EXPLAIN {written}")).unwrap();
        let mut rows = statement.raw_query();
        while let Some(row) = rows.next().unwrap() {
            let step: String = row.get("opcode").unwrap();
            assert!(!step.starts_with("OpenEphemeral"), "{written}");
        }
    }
}

#[test]
fn a_session_s_channel_and_a_turn_s_status_are_still_constrained() {
    sqlite_only!();
    let server = Server::demo();
    let northwind = server.northwind();
    let session = northwind.session(technician());
    northwind.append_text(&session, "Hello").expect(202);
    let file = Connection::open(database_file(server.folder())).unwrap();
    let writes = |sql: &str| file.execute(sql, []).map_err(|error| error.to_string());
    for (table, column, known) in [
        (
            "sessions",
            "channel",
            ["DASHBOARD", "TEAMS", "API"].as_slice(),
        ),
        (
            "turns",
            "status",
            &["QUEUED", "RUNNING", "COMPLETED", "FAILED", "CANCELLED"],
        ),
    ] {
        for word in known {
            assert_eq!(
                writes(&format!("UPDATE {table} SET {column} = '{word}'")),
                Ok(1)
            );
        }
        let refused = writes(&format!("UPDATE {table} SET {column} = 'LOST'")).unwrap_err();
        assert!(refused.starts_with("CHECK constraint failed"), "{refused}");
    }
}

#[test]
fn a_start_finds_interrupted_turns_without_reading_all_turns() {
    sqlite_only!();
    let server = Server::demo();
    let file = file_of(&server);
    for sql in [turns::REQUEUE_RUNNING, turns::ALL_UNSETTLED] {
        let plan = plan_of(&file, sql);
        assert!(
            plan[0].ends_with(" USING INDEX turns_unsettled"),
            "{plan:#?}"
        );
    }
}

#[test]
fn queued_turns_are_counted_along_the_index_of_unsettled_turns() {
    sqlite_only!();
    let server = Server::demo();
    let file = file_of(&server);
    assert_eq!(
        plan_of(&file, turns::QUEUED),
        ["SCAN turns USING INDEX turns_unsettled"]
    );
}
