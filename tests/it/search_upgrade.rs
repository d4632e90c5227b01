//! The search index after an upgrade: built again in small changes, complete at the end.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::database::sqlite_only;
use crate::support::{START, Server, block_on, technician};
use crate::upgrade::unpack_version_0_1;

/// Empties the search index, as the upgrade does.
fn empty_index(server: &Server) {
    for sql in [
        "INSERT INTO message_search (message_search) VALUES ('delete-all')",
        "INSERT INTO title_search (title_search) VALUES ('delete-all')",
        "UPDATE search_rebuild SET from_seq = (SELECT max(seq) + 1 FROM messages)",
    ] {
        server.execute_sql(sql);
    }
}

#[test]
fn messages_and_titles_of_version_0_1_are_found_after_the_upgrade() {
    sqlite_only!();
    let folder = TempDir::new().unwrap();
    unpack_version_0_1(folder.path());
    let server = Server::on(folder, START + 400 * 24 * 60 * 60 * 1_000);
    let northwind = server.northwind();
    let titles = |q: &str| -> Vec<Value> {
        let found = northwind.list_sessions(&format!("archived=all&q={q}"));
        let found = found.expect(200);
        assert_eq!(found.json()["meta"]["warnings"], json!([]));
        let found = found.data();
        let items = found.as_array().unwrap().iter();
        items.map(|item| item["title"].clone()).collect()
    };
    let (printer, wifi) = ("Printer on floor 3", "How do I connect to the Wi-Fi?");
    // Titles, questions and answers, and a title whose session has no message.
    assert_eq!(titles("printer+on+floor"), [printer]);
    assert_eq!(titles("r%C3%89SET+passw"), [printer]);
    assert_eq!(titles("PASSW%C3%96RD"), [wifi, printer]);
    // The turn that the old server left may add an answer with these words elsewhere.
    assert!(titles("do+i+connect+to+the+wi-fi").contains(&wifi.into()));
    assert_eq!(titles("m%C3%A4tter"), ["Old matter"]);
    assert_eq!(titles("nothing+of+this"), [Value::Null; 0]);
    // What the old index had of it is gone, and the new one is sound.
    for index in ["message_search", "title_search"] {
        server.execute_sql(&format!(
            "INSERT INTO {index} ({index}) VALUES ('integrity-check')"
        ));
    }
}

#[test]
fn an_index_is_built_again_in_small_changes_and_deleted_text_does_not_come_back() {
    sqlite_only!();
    let server = Server::demo();
    let store = server.app.store.clone();
    let northwind = server.northwind();
    // 330 messages are two batches, and 66 titles too.
    let sessions: Vec<String> = (0..66)
        .map(|number| {
            let session =
                northwind.session(json!({ "agent_id": 102, "title": format!("Title{number}") }));
            for nth in 0..5 {
                northwind
                    .append_text(&session, &format!("word{number}x{nth}"))
                    .expect(202);
            }
            session
        })
        .collect();
    let finds = |q: &str| northwind.list_sessions(&format!("q={q}")).expect(200).ids();
    assert_eq!(finds("word0x0"), [&*sessions[0]]);
    empty_index(&server);
    let rows = |table: &str| server.stored::<i64>(&format!("SELECT count(*) FROM {table}_docsize"));
    assert_eq!((rows("message_search"), rows("title_search")), (0, 0));

    assert!(!block_on(store.rebuild_search_batch()));
    assert_eq!((rows("message_search"), rows("title_search")), (256, 64));
    // One session is in the index, another one is not yet.
    for gone in [0, 65] {
        northwind.delete_session(&sessions[gone]).expect(204);
    }
    block_on(store.complete_removal());
    northwind
        .update_session(&sessions[1], json!({ "title": "Renamed" }))
        .expect(200);
    northwind.append_text(&sessions[2], "brandnew").expect(202);
    while !block_on(store.rebuild_search_batch()) {}
    assert_eq!(finds("brandn"), [&*sessions[2]]);
    assert_eq!(
        (rows("message_search"), rows("title_search")),
        (64 * 5 + 1, 64)
    );
    for index in ["message_search", "title_search"] {
        server.execute_sql(&format!(
            "INSERT INTO {index} ({index}) VALUES ('integrity-check')"
        ));
    }
    assert_eq!(finds("word1x4"), [&*sessions[1]]);
    assert_eq!(finds("renamed"), [&*sessions[1]]);
    assert_eq!(finds("word64x0+title64"), [&*sessions[64]]);
    for word in ["word0x0", "word65x4", "title0", "title65", "title1+word1x0"] {
        assert_eq!(finds(word), [""; 0], "{word}");
    }
}

#[test]
fn a_search_says_so_while_old_messages_are_missing() {
    sqlite_only!();
    let server = Server::demo();
    let northwind = server.northwind();
    let session = northwind.session(technician());
    northwind.append_text(&session, "Printer").expect(202);
    // A rebuild that never ends.
    server.execute_sql(
        "CREATE TRIGGER endless AFTER UPDATE ON search_rebuild WHEN NEW.from_seq = 0
         BEGIN UPDATE search_rebuild SET from_seq = 1 WHERE what = NEW.what; END",
    );
    server.execute_sql("UPDATE search_rebuild SET from_seq = 1");
    let found = northwind.list_sessions("q=printer").expect(200);
    assert_eq!(found.ids(), [session]);
    assert_eq!(
        found.json()["meta"]["warnings"],
        json!([
            "The server builds its search index again after an upgrade. Old messages may be missing from this result."
        ])
    );
}
