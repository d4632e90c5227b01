//! Retention: deleted data leaves the files, and idle sessions are deleted automatically.

use serde_json::json;

use crate::database::{Database, sqlite_only};
use crate::faults::wait_until_all_turns_end;
use crate::process::{Client, NORTHWIND, Workspace};
use crate::support::{Server, block_on, technician};
use crate::watchdog::until;

const DAY: i64 = 24 * 60 * 60 * 1_000;

/// Waits until no file and no row contains a text: the write-ahead log is truncated in the
/// background.
fn wait_until_erased(database: &Database, text: &str) {
    until("it is nowhere", || !database.holds(text));
}

#[test]
fn a_deleted_session_leaves_nothing_in_files_and_tables() {
    let server = Server::answering(&[]);
    let northwind = server.northwind();
    let kept = northwind.session(technician());
    northwind
        .append_text(&kept, "Quetzalcoatl stays")
        .expect(202);
    let body =
        json!({ "agent_id": 102, "title": "Xylophonist", "metadata": { "ticket": "Zymurgist" } });
    let session = northwind
        .create_session_once("Idempotent-1", body)
        .expect(201)
        .id();
    let file = northwind.upload(&session, "text/plain", b"Vexillologist");
    let message = json!({ "message": "Quadrumanous question", "attachments": [{ "blob_path": file, "mime": "text/plain", "alt": "Mnemonician" }] });
    let turn = northwind.append(&session, message).expect(202).data()["chat_turn_id"].clone();
    northwind
        .turn(&session, turn.as_str().unwrap(), "wait_seconds=60")
        .expect(200);
    // The search index contains the text too.
    assert_eq!(
        northwind.list_sessions("q=quadrumanous").ids(),
        std::slice::from_ref(&session)
    );
    let words = [
        "Xylophonist",
        "Zymurgist",
        "Vexillologist",
        "Quadrumanous",
        "Mnemonician",
    ];
    for word in words {
        assert!(server.database().holds(word), "{word}");
    }
    northwind.delete_session(&session).expect(204);
    for word in words {
        wait_until_erased(server.database(), word);
    }
    assert!(server.database().holds("Quetzalcoatl"));
    assert_eq!(northwind.list_sessions("q=quetzalcoatl").ids(), [kept]);
}

#[test]
fn idle_sessions_are_deleted_after_their_tenants_retention_and_others_remain() {
    let server = Server::demo();
    let (northwind, fabrikam) = (server.northwind(), server.fabrikam());
    server.import_tenant("northwind-it", json!({ "retention_days": 30 }));
    let many: Vec<String> = (0..120).map(|_| northwind.session(technician())).collect();
    let (idle, archived, waiting) = (
        northwind.session(technician()),
        northwind.session(technician()),
        northwind.session(technician()),
    );
    let foreign = fabrikam.session(json!({ "agent_id": 202 }));
    northwind.reset_session(&archived).expect(200);
    server.advance_clock(20 * DAY);
    let young = northwind.session(technician());
    northwind
        .update_session(&idle, json!({ "title": "Touched" }))
        .expect(200);
    northwind.append_text(&waiting, "Still waits").expect(202);
    server.advance_clock(10 * DAY + 1);
    let purge = || {
        let (tell, told) = std::sync::mpsc::channel();
        let purge = server
            .app
            .store
            .purge_sessions(move |session| tell.send(session).unwrap());
        let removed = block_on(purge);
        let mut gone: Vec<_> = told.iter().collect();
        assert_eq!(gone.len(), removed);
        gone.sort();
        gone.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let mut expected = many;
    expected.push(archived.clone());
    expected.sort();
    assert_eq!(purge(), expected);
    for gone in [&archived, &expected[0]] {
        northwind.read_session(gone).not_found();
    }
    for kept in [&idle, &young, &waiting] {
        northwind.read_session(kept).expect(200);
    }
    fabrikam.read_session(&foreign).expect(200);
    assert_eq!(purge(), Vec::<String>::new());
    // A session with a queued turn is not idle.
    server.advance_clock(20 * DAY);
    let mut expected = vec![idle, young];
    expected.sort();
    assert_eq!(purge(), expected);
    let told = northwind
        .get("/audit-events?action=session.purge")
        .expect(200)
        .data();
    assert_eq!(
        told[0]["details"],
        json!({ "retention_days": 30, "sessions": 2 })
    );
    assert_eq!(told[0]["actor"]["id"], "retention");
    server.import_tenant("northwind-it", json!({ "retention_days": null }));
    server.advance_clock(400 * DAY);
    assert_eq!(purge(), Vec::<String>::new());
}

#[test]
fn data_deleted_before_a_crash_leaves_the_write_ahead_log_after_it() {
    sqlite_only!();
    let workspace = Workspace::with_demo_world();
    let server = workspace.serve_demo_world();
    let client = server.client();
    let session = client
        .post(
            NORTHWIND,
            "/chat/sessions",
            &json!({ "agent_id": 102, "title": "Abecedarian" }),
        )
        .data()["id"]
        .clone();
    // A long read prevents the truncation of the write-ahead log.
    let mut reader = rusqlite::Connection::open(workspace.database()).unwrap();
    let snapshot = reader.transaction().unwrap();
    let count = |tx: &rusqlite::Transaction<'_>| {
        tx.query_row("SELECT count(*) FROM sessions", [], |row| {
            row.get::<_, i64>(0)
        })
        .unwrap()
    };
    assert_eq!(count(&snapshot), 1);
    let path = format!("/chat/sessions/{}", session.as_str().unwrap());
    delete(&client, &path);
    server.crash();
    let server = workspace.serve_demo_world();
    assert_eq!(count(&snapshot), 1);
    assert!(workspace.sql().holds("Abecedarian"));
    drop(snapshot);
    drop(reader);
    wait_until_erased(workspace.sql(), "Abecedarian");
    server.stop();
}

fn delete(client: &Client, path: &str) {
    let removed = client.call("DELETE", NORTHWIND, path, &[], None).unwrap();
    assert_eq!(removed.status, 204, "{removed:?}");
}

/// Creates a session with this number of turns, each with a word in both messages, and waits until
/// all are in the search index; returns its path.
fn talk(workspace: &Workspace, client: &Client, turns: usize, word: &str) -> String {
    let opened = client.post(NORTHWIND, "/chat/sessions", &technician());
    let id = opened.data()["id"].as_str().unwrap().to_owned();
    let path = format!("/chat/sessions/{id}");
    for _ in 0..turns {
        let message = json!({ "message": format!("{word} question") });
        let said = client.post(NORTHWIND, &format!("{path}/messages"), &message);
        assert_eq!(said.status, 202, "{said:?}");
        wait_until_all_turns_end(workspace);
    }
    let found = client.get(NORTHWIND, &format!("/chat/sessions?q={word}"));
    assert_eq!(found.data()[0]["id"], id);
    path
}

#[test]
fn deleted_words_that_a_crash_left_in_the_search_index_are_removed_at_the_next_start() {
    sqlite_only!();
    let workspace = Workspace::with_demo_world();
    let server = workspace.serve_demo_world();
    talk(&workspace, &server.client(), 1, "Quadrumanous");
    server.stop();

    // The state after a crash directly after the deletion.
    let file = workspace.closed_file();
    file.execute_batch(
        "PRAGMA foreign_keys = ON; PRAGMA secure_delete = ON;
         INSERT INTO search_removals (message_seq, tenant_no, terms)
           SELECT m.seq, s.tenant_no, lower(m.content) FROM messages m JOIN sessions s ON s.seq = m.session_seq;
         INSERT INTO removed_sessions (session_seq, tenant_no, indexed_seq) SELECT seq, tenant_no, 0 FROM sessions;
         DELETE FROM sessions;",
    )
    .unwrap();
    drop(file);
    let server = workspace.serve_demo_world();
    let file = rusqlite::Connection::open(workspace.database()).unwrap();
    let waiting = || -> String {
        let sql = "SELECT coalesce(group_concat(message_seq), '') FROM search_removals";
        file.query_row(sql, [], |row| row.get(0)).unwrap()
    };
    until("none waits", || waiting().is_empty());
    wait_until_erased(workspace.sql(), "Quadrumanous");

    // Later removals work as usual, even next to a message whose words cannot be removed.
    file.execute_batch(
        "BEGIN;
         INSERT INTO search_removals (message_seq, tenant_no, terms) SELECT 1, min(tenant_no), 'unheard' FROM tenants;
         CREATE TRIGGER stays BEFORE DELETE ON search_removals WHEN OLD.message_seq = 1 BEGIN SELECT RAISE(ABORT, 'stays'); END;
         COMMIT",
    )
    .unwrap();
    let path = talk(&workspace, &server.client(), 1, "Hippopotamic");
    delete(&server.client(), &path);
    until("none waits but one", || waiting() == "1");
    wait_until_erased(workspace.sql(), "Hippopotamic");
    server.stop();
    file.execute_batch("DROP TRIGGER stays").unwrap();
    drop(file);
    let checked = workspace.run(["check"]);
    assert_eq!(checked.code, 0, "{checked:?}");
}

#[test]
fn data_deleted_just_before_a_stop_is_not_in_the_closed_file() {
    sqlite_only!();
    let workspace = Workspace::with_demo_world();
    let server = workspace.serve_demo_world();
    let client = server.client();
    let path = talk(&workspace, &client, 60, "Quadrumanous");
    delete(&client, &path);
    server.stop();
    assert!(!workspace.sql().holds("Quadrumanous"));
}
