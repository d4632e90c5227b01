//! Long messages: their words are indexed and removed in small changes, and a deleted session is
//! gone at once.

use serde_json::json;
use switchboard::store::search_index::{BATCH_BYTES, REMOVAL_BYTES};

use crate::database::{is_on_postgres, sqlite_only};
use crate::support::{ApiClient, Server, block_on, technician};

/// A message of 32,000 characters without a word twice, and without a word of another number.
fn long_message(number: usize) -> String {
    let mut text = String::new();
    for word in 0.. {
        text += &format!("w{number}x{word} ");
        if text.len() > 31_980 {
            return text;
        }
    }
    text
}

/// Appends long messages, each to a session of its own.
fn sessions_with_long_messages(client: &ApiClient, count: usize) -> Vec<String> {
    (0..count)
        .map(|number| {
            let session = client.session(technician());
            client
                .append_text(&session, &long_message(number))
                .expect(202);
            session
        })
        .collect()
}

fn finds(client: &ApiClient, q: &str) -> Vec<String> {
    client.list_sessions(&format!("q={q}")).expect(200).ids()
}

/// Checks the index against itself, including its count of rows.
fn assert_index_is_sound(server: &Server) {
    if is_on_postgres() {
        return;
    }
    for index in ["message_search", "title_search"] {
        let check = format!("INSERT INTO {index} ({index}) VALUES ('integrity-check')");
        server.execute_sql(&check);
    }
}

#[test]
fn a_change_indexes_a_bounded_number_of_bytes() {
    sqlite_only!();
    let server = Server::demo();
    let store = &server.app.store;
    let northwind = server.northwind();
    let sessions = sessions_with_long_messages(&northwind, 4);
    let short = northwind.session(technician());
    for number in 0..16 {
        let text = format!("short{number} {}", "x".repeat(5_000));
        northwind.append_text(&short, &text).expect(202);
    }
    let mut batches = Vec::new();
    loop {
        match block_on(store.index_batch()) {
            0 => break,
            bytes => batches.push(bytes),
        }
    }
    assert!(
        batches.iter().all(|bytes| *bytes <= BATCH_BYTES),
        "{batches:?}"
    );
    assert_eq!(batches.len(), 4 + 3, "{batches:?}");
    for (number, session) in sessions.iter().enumerate() {
        assert_eq!(finds(&northwind, &format!("w{number}x0")), [&**session]);
    }
    assert_eq!(finds(&northwind, "short15"), [short]);
}

#[test]
fn a_change_removes_a_bounded_number_of_bytes_and_the_rest_of_the_index_stays_right() {
    sqlite_only!();
    let server = Server::demo();
    let store = &server.app.store;
    let northwind = server.northwind();
    let sessions = sessions_with_long_messages(&northwind, 3);
    let [kept, removed, later] = &sessions[..] else {
        unreachable!("there are three sessions")
    };
    assert_eq!(finds(&northwind, "w1x7"), [&**removed]);
    // The state after a deletion, before its background work.
    let content: String =
        server.stored("SELECT rtrim(content) FROM messages WHERE content LIKE 'w1x0 %'");
    let words: Vec<&str> = content.split(' ').collect();
    let parts = words.chunks(REMOVAL_BYTES / 8);
    let last = parts.len() - 1;
    for (part, words) in parts.enumerate() {
        let (terms, is_last) = (words.join(" "), i64::from(part == last));
        server.execute_sql(&format!(
            "INSERT INTO search_removals (message_seq, part, is_last, tenant_no, terms)
             SELECT m.seq, {part}, {is_last}, s.tenant_no, '{terms}' FROM messages m JOIN sessions s ON s.seq = m.session_seq
             WHERE m.content LIKE 'w1x0 %'"
        ));
    }
    let length: i64 = server.stored("SELECT sum(length(terms)) FROM search_removals");
    let mut left = usize::try_from(length).unwrap();
    let mut batches = 0;
    let rows: i64 = server.stored("SELECT count(*) FROM message_search_docsize");
    while left > 0 {
        let bytes = block_on(store.remove_word_batch());
        assert!(bytes > 0 && bytes <= REMOVAL_BYTES, "{bytes}");
        left -= bytes;
        batches += 1;
        // While the message is removed in part, other messages are found, by any of their words.
        if batches % 8 == 1 {
            assert_eq!(finds(&northwind, "w0x7+w0x1500"), [&**kept]);
            assert_eq!(finds(&northwind, "w2x7+w2x1500"), [&**later]);
            // Its removed words are not found.
            assert_eq!(finds(&northwind, "w1x7+w1"), [""; 0]);
            assert_index_is_sound(&server);
        }
    }
    assert!(batches > 31, "{batches}");
    assert_eq!(block_on(store.remove_word_batch()), 0);
    assert_eq!(
        server.stored::<i64>("SELECT count(*) FROM message_search_docsize"),
        rows - 1
    );
    assert_index_is_sound(&server);
    for word in ["w1x0", "w1x7", "w1x1500"] {
        assert_eq!(finds(&northwind, word), [""; 0], "{word}");
    }
}

#[test]
fn a_deleted_session_is_gone_at_once_and_its_rows_leave_in_small_changes() {
    let server = Server::demo();
    let store = server.app.store.clone();
    let northwind = server.northwind();
    let session = northwind.session(json!({ "agent_id": 102, "title": "Doomed" }));
    for number in 0..8 {
        northwind
            .append_text(&session, &long_message(number))
            .expect(202);
    }
    let file = northwind.upload(&session, "text/plain", b"Vexillologist");
    let kept = northwind.session(json!({ "agent_id": 102, "title": "Kept" }));
    northwind.append_text(&kept, "w3x7 stays").expect(202);
    assert_eq!(finds(&northwind, "w3x7"), [&*kept, &*session]);
    // The state just after the deletion, as a crash would leave it: the background has done nothing.
    let no: i64 = server.stored("SELECT seq FROM sessions WHERE title = 'Doomed'");
    let tenant: i64 = server.stored("SELECT tenant_no FROM sessions WHERE title = 'Doomed'");
    server.execute_sql(&format!(
        "INSERT INTO removed_sessions (session_seq, tenant_no, indexed_seq)
         SELECT {no}, {tenant}, done_seq FROM search_progress"
    ));
    server.execute_sql(&format!(
        "UPDATE turns SET status = 'CANCELLED', terminal_tick = 1 WHERE session_seq = {no}"
    ));
    server.execute_sql(&format!("DELETE FROM sessions WHERE seq = {no}"));
    let counts = |table: &str| -> i64 {
        server.stored(&format!(
            "SELECT count(*) FROM {table} WHERE session_seq = {no}"
        ))
    };
    assert_eq!(counts("messages"), 8);

    let mut left = counts("messages");
    let mut steps = 0;
    loop {
        northwind.read_session(&session).not_found();
        northwind.messages(&session, "").not_found();
        northwind.append_text(&session, "more").not_found();
        assert_eq!(finds(&northwind, "w3x7"), [&*kept]);
        assert_eq!(northwind.list_sessions("").expect(200).ids(), [&*kept]);
        if !block_on(store.remove_row_batch()) {
            break;
        }
        steps += 1;
        let now = counts("messages");
        // A change ends after the message that takes it over 16 KiB.
        assert!(left - now <= 1, "{left} {now}");
        left = now;
    }
    // A file, each message, and the last row.
    assert_eq!(steps, 10);
    for table in [
        "messages",
        "turns",
        "turn_logs",
        "attachments",
        "removed_sessions",
    ] {
        assert_eq!(counts(table), 0, "{table}");
    }
    assert!(!file.is_empty());
    // On SQLite, the words leave the index after the rows.
    let words = "SELECT count(DISTINCT message_seq) FROM search_removals";
    let waiting = if is_on_postgres() { 0 } else { 8 };
    assert_eq!(server.stored::<i64>(words), waiting);
    block_on(store.complete_removal());
    assert_eq!(
        server.stored::<i64>("SELECT count(*) FROM search_removals"),
        0
    );
    assert_eq!(finds(&northwind, "w3x7"), [&*kept]);
    assert_index_is_sound(&server);
}

#[test]
fn no_answer_is_added_to_a_session_after_its_deletion() {
    let server = Server::demo();
    let northwind = server.northwind();
    let session = northwind.session(technician());
    northwind.append_text(&session, "Hello").expect(202);
    northwind.delete_session(&session).expect(204);
    // The turn is not found by a start either.
    let server = server.restarted();
    block_on(server.app.engine.recover());
    block_on(server.app.store.complete_removal());
    for table in ["messages", "turns", "removed_sessions", "search_removals"] {
        let count = format!("SELECT count(*) FROM {table}");
        assert_eq!(server.stored::<i64>(&count), 0, "{table}");
    }
}

#[test]
fn the_words_of_a_deleted_message_are_queued_in_parts_that_one_change_removes() {
    sqlite_only!();
    let server = Server::demo();
    let northwind = server.northwind();
    let session = northwind.session(technician());
    // Letters of a script without spaces make several bytes of terms each.
    let text: String = ('\u{4e00}'..'\u{9f00}').take(8_000).collect();
    northwind.append_text(&session, &text).expect(202);
    block_on(server.app.store.index_batch());
    server.execute_sql("CREATE TABLE queued (message INTEGER, bytes INTEGER, is_last INTEGER)");
    server.execute_sql(
        "CREATE TRIGGER queues AFTER INSERT ON search_removals
         BEGIN INSERT INTO queued VALUES (NEW.message_seq, length(CAST(NEW.terms AS BLOB)), NEW.is_last); END",
    );
    northwind.delete_session(&session).expect(204);
    block_on(server.app.store.complete_removal());
    let longest = usize::try_from(server.stored::<i64>("SELECT max(bytes) FROM queued")).unwrap();
    assert!(longest <= REMOVAL_BYTES, "{longest}");
    let without_one_end =
        "SELECT count(*) FROM (SELECT 1 FROM queued GROUP BY message HAVING sum(is_last) <> 1)";
    assert_eq!(server.stored::<i64>(without_one_end), 0);
    assert!(server.stored::<i64>("SELECT count(*) FROM queued") > 100);
    assert_eq!(finds(&northwind, "%E4%B8%80%E4%B8%81"), [""; 0]);
    assert_index_is_sound(&server);
}
