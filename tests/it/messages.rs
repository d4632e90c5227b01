//! Messages and their turns: what an append accepts, refuses and returns, and how they are read.

use std::thread;

use serde_json::{Value, json};

use crate::support::{
    CONTOSO, FOURTH_COFFEE, SECOND, SHARED_BOT, Server, TAILSPIN, channel, from, technician,
};
use crate::wire::{Connection, Reply, Request};

/// The turn that an append queued.
fn turn_of(accepted: &Reply) -> String {
    accepted.data()["chat_turn_id"].as_str().unwrap().to_owned()
}

#[test]
fn an_append_is_accepted_with_its_ids_and_its_position_in_the_stream() {
    let server = Server::demo();
    let northwind = server.northwind();
    let session = northwind.session(technician());
    let first = northwind.append_text(&session, "Hello").expect(202).data();
    assert_eq!(
        first,
        json!({
            "user_message_id": first["user_message_id"],
            "chat_turn_id": first["chat_turn_id"],
            "since_cursor": "0-0",
            "show_agent_progress_steps": true,
        })
    );
    assert!(
        first["user_message_id"]
            .as_str()
            .unwrap()
            .starts_with("msg_")
    );
    assert!(first["chat_turn_id"].as_str().unwrap().starts_with("trn_"));
    let pair = |accepted: &Value| {
        let cursor = accepted["since_cursor"].as_str().unwrap();
        let (millis, sequence) = cursor.split_once('-').unwrap();
        (
            millis.parse::<u64>().unwrap(),
            sequence.parse::<u64>().unwrap(),
        )
    };
    let second = northwind.append_text(&session, "Again").expect(202).data();
    let third = northwind
        .append_text(&session, "And again")
        .expect(202)
        .data();
    assert!(pair(&first) < pair(&second) && pair(&second) < pair(&third));

    let relay = server.relay();
    let routed = relay.session(from(CONTOSO));
    assert_eq!(
        relay.append_text(&routed, "Hello").expect(202).data()["show_agent_progress_steps"],
        false
    );
}

#[test]
fn a_message_is_returned_with_all_its_fields() {
    let server = Server::demo();
    let northwind = server.northwind();
    let session = northwind.session(technician());
    let text = "Line one\nline \u{2028} two\t<b>\u{1f600}</b> \\ \" \u{7f}";
    let accepted = northwind
        .append(
            &session,
            json!({ "message": text, "model_tier": "SMART", "client_message_id": "c-1" }),
        )
        .expect(202)
        .data();
    let account = northwind.get("/whoami").expect(200).data()["id"].clone();
    assert_eq!(
        northwind.messages(&session, "").expect(200).data(),
        json!([{
            "id": accepted["user_message_id"],
            "role": "user",
            "author": { "kind": "service_account", "id": account, "name": "PSA integration (demo)" },
            "parts": [{ "type": "text", "text": text }],
            "content": text,
            "attachments": [],
            "chat_turn_id": accepted["chat_turn_id"],
            "model_tier": "SMART",
            "finish_reason": null,
            "created_at": "2025-11-24T16:00:00.000Z",
            "feedback": null,
            "versions": [],
        }])
    );
    northwind.append_text(&session, "x").expect(202);
    assert_eq!(
        northwind.messages(&session, "").expect(200).data()[1]["model_tier"],
        "FAST"
    );
    let read = northwind.read_session(&session).expect(200).data();
    assert_eq!(read["message_count"], 2);
}

#[test]
fn a_session_without_a_title_takes_one_from_its_first_message() {
    let server = Server::demo();
    let northwind = server.northwind();
    let title = |create: Value, first: &str| {
        let session = northwind.session(create);
        northwind.append_text(&session, first).expect(202);
        northwind
            .append_text(&session, "A second message")
            .expect(202);
        northwind.read_session(&session).expect(200).data()["title"].clone()
    };
    assert_eq!(
        title(technician(), "  My printer is on fire \nsince noon"),
        "My printer is on fire"
    );
    assert_eq!(
        title(json!({ "agent_id": 102, "title": "Mine" }), "Hello"),
        "Mine"
    );
    assert_eq!(
        title(technician(), &"word ".repeat(40)),
        format!("{}\u{2026}", "word ".repeat(16).trim_end())
    );
    assert_eq!(title(technician(), " \n\t"), Value::Null);
    let session = northwind.session(technician());
    northwind.append_text(&session, "First").expect(202);
    northwind
        .update_session(&session, json!({ "title": null }))
        .expect(200);
    northwind.append_text(&session, "Second").expect(202);
    assert_eq!(
        northwind.read_session(&session).expect(200).data()["title"],
        Value::Null
    );
}

#[test]
fn an_append_touches_its_session() {
    let server = Server::demo();
    let northwind = server.northwind();
    let session = northwind.session(technician());
    server.advance_clock(SECOND);
    northwind.append_text(&session, "Hello").expect(202);
    let read = northwind.read_session(&session).expect(200).data();
    assert_eq!(read["updated_at"], "2025-11-24T16:00:01.000Z");
    assert_eq!(read["created_at"], "2025-11-24T16:00:00.000Z");
}

#[test]
fn an_invalid_append_is_refused_by_field() {
    let server = Server::demo();
    let northwind = server.northwind();
    let session = northwind.session(technician());
    let file = json!({ "blob_path": "x", "mime": "image/png" });
    let cases = [
        (
            json!({}),
            "message",
            "must not be empty without an attachment",
        ),
        (
            json!({ "message": null }),
            "message",
            "must not be empty without an attachment",
        ),
        (
            json!({ "message": "" }),
            "message",
            "must not be empty without an attachment",
        ),
        (
            json!({ "message": "", "attachments": [] }),
            "message",
            "must not be empty without an attachment",
        ),
        (json!({ "message": 5 }), "message", "must be a string"),
        (
            json!({ "message": ["Hello"] }),
            "message",
            "must be a string",
        ),
        (
            json!({ "message": "\u{e9}".repeat(32_001) }),
            "message",
            "must have at most 32000 characters",
        ),
        (
            json!({ "message": "a\u{0}b" }),
            "message",
            "must not contain U+0000",
        ),
        (
            json!({ "message": "x", "client_message_id": "" }),
            "client_message_id",
            "must not be empty",
        ),
        (
            json!({ "message": "x", "client_message_id": 5 }),
            "client_message_id",
            "must be a string",
        ),
        (
            json!({ "message": "x", "client_message_id": "y".repeat(129) }),
            "client_message_id",
            "must have at most 128 characters",
        ),
        (
            json!({ "message": "x", "client_message_id": "\u{0}" }),
            "client_message_id",
            "must not contain U+0000",
        ),
        (
            json!({ "message": "x", "model_tier": "fast" }),
            "model_tier",
            "must be one of FAST, SMART",
        ),
        (
            json!({ "message": "x", "model_tier": 1 }),
            "model_tier",
            "must be a string",
        ),
        (
            json!({ "message": "x", "attachments": {} }),
            "attachments",
            "must be an array",
        ),
        (
            json!({ "message": "x", "attachments": ["x"] }),
            "attachments[0]",
            "must be an object",
        ),
        (
            json!({ "message": "x", "attachments": vec![file.clone(); 7] }),
            "attachments",
            "must have at most 6 entries",
        ),
        (
            json!({ "message": "x", "attachments": [{ "mime": "image/png" }] }),
            "attachments[0].blob_path",
            "is required",
        ),
        (
            json!({ "message": "x", "attachments": [{ "blob_path": "x" }] }),
            "attachments[0].mime",
            "is required",
        ),
        (
            json!({ "message": "", "attachments": [file] }),
            "attachments[0].blob_path",
            "is not the path of a file that was uploaded for this session",
        ),
    ];
    for (body, field, reason) in cases {
        northwind
            .append(&session, body)
            .refused_field(field, reason);
    }
    assert_eq!(
        northwind.read_session(&session).expect(200).data()["message_count"],
        0
    );
}

#[test]
fn a_message_of_32_000_characters_is_accepted() {
    let server = Server::demo();
    let northwind = server.northwind();
    let session = northwind.session(technician());
    let text = "\u{e9}".repeat(32_000);
    northwind.append_text(&session, &text).expect(202);
    assert_eq!(
        northwind.messages(&session, "").expect(200).data()[0]["content"],
        text.as_str()
    );
    let longest = "c".repeat(128);
    northwind
        .append(
            &session,
            json!({ "message": "x", "client_message_id": longest }),
        )
        .expect(202);
}

#[test]
fn a_repeat_gets_the_first_replys_ids_and_no_second_turn() {
    let server = Server::demo();
    let northwind = server.northwind();
    let session = northwind.session(technician());
    northwind.append_text(&session, "Before").expect(202);
    let say = |text: &str| {
        northwind.append(
            &session,
            json!({ "message": text, "client_message_id": "c-1" }),
        )
    };
    let first = say("Hello").expect(202).data();
    let duplicate = json!({
        "code": "duplicate_client_message",
        "message": "This message was already accepted. Its ids are in details.",
        "details": {
            "user_message_id": first["user_message_id"],
            "chat_turn_id": first["chat_turn_id"],
            "since_cursor": first["since_cursor"],
        },
    });
    assert_eq!(
        say("Hello")
            .refused(409, "duplicate_client_message")
            .error(),
        duplicate
    );
    assert_eq!(
        say("Another text")
            .refused(409, "duplicate_client_message")
            .error(),
        duplicate
    );
    assert_eq!(northwind.messages(&session, "").expect(200).ids().len(), 2);
    northwind.reset_session(&session).expect(200);
    assert_eq!(
        say("Hello")
            .refused(409, "duplicate_client_message")
            .error(),
        duplicate
    );
    let server = server.restarted();
    let again = server.northwind().append(
        &session,
        json!({ "message": "Hello", "client_message_id": "c-1" }),
    );
    assert_eq!(
        again.refused(409, "duplicate_client_message").error(),
        duplicate
    );
    let other = server.northwind().session(technician());
    server
        .northwind()
        .append(
            &other,
            json!({ "message": "Hello", "client_message_id": "c-1" }),
        )
        .expect(202);
}

#[test]
fn an_append_is_refused_in_the_contracts_order() {
    let server = Server::demo();
    let relay = server.relay();
    let session = relay.session(from(CONTOSO));
    let say = |id: &str| {
        relay.append(
            &session,
            json!({ "message": "Hello", "client_message_id": id }),
        )
    };
    for number in 0..16 {
        say(&format!("c-{number}")).expect(202);
    }
    // Everything is wrong at first, and is fixed step by step.
    relay
        .update_session(&session, json!({ "archived": true }))
        .expect(200);
    let channel = |status: &str| json!({ "channels": [{ "internal_name": "Client help bot", "status": status }] });
    let agent = |state: &str| json!({ "agents": [{ "agent_id": 101, "state": state }] });
    let link = |directory: Value| json!({ "end_companies": [{ "psa_company_id": "1001", "tenant_id": directory }] });
    for change in [
        channel("DISCONNECTED"),
        agent("DISABLED"),
        link(Value::Null),
    ] {
        server.import_tenant("northwind-it", change);
    }
    say("c-0").refused(409, "duplicate_client_message");
    say("new").refused(409, "session_archived");
    relay
        .update_session(&session, json!({ "archived": false }))
        .expect(200);
    say("new").refused(409, "agent_disabled");
    server.import_tenant("northwind-it", agent("ENABLED"));
    say("new").refused(409, "channel_disconnected");
    server.import_tenant("northwind-it", channel("ACTIVE"));
    say("new").refused(409, "end_company_not_mapped");
    server.import_tenant("northwind-it", link(CONTOSO.into()));
    assert_eq!(
        say("new").refused(409, "too_many_pending_turns").error(),
        json!({
            "code": "too_many_pending_turns",
            "message": "Too many messages in this session are waiting for an answer. Wait for an answer, then send the message again.",
        })
    );
    assert_eq!(
        relay.read_session(&session).expect(200).data()["message_count"],
        16
    );
    relay.reset_session(&session).expect(200);
    relay
        .update_session(&session, json!({ "archived": false }))
        .expect(200);
    say("new").expect(202);
}

#[test]
fn a_session_accepts_messages_only_while_its_link_leads_to_its_company() {
    let server = Server::demo();
    let relay = server.relay();
    let session = relay.session(from(CONTOSO));
    relay.append_text(&session, "Hello").expect(202);
    let link = |company: &str, directory: Value| {
        let companies = json!([{ "psa_company_id": company, "tenant_id": directory }]);
        server.import_tenant("northwind-it", json!({ "end_companies": companies }));
    };
    let refused = |linked: u64, message: &str| {
        assert_eq!(
            relay
                .append_text(&session, "Hello")
                .refused(409, "end_company_not_mapped")
                .error(),
            json!({
                "code": "end_company_not_mapped",
                "message": message,
                "details": { "inbound_tenant_id": CONTOSO, "client_id": "northwind-it", "linked_companies": linked },
            })
        );
    };
    let attempts = || -> i64 {
        server.stored("SELECT CAST(coalesce(sum(attempts), 0) AS bigint) FROM unlinked_tenants")
    };

    link("1001", Value::Null);
    refused(
        0,
        &format!(
            "Your organization is not set up for this chat yet. Please contact Northwind IT: \
             its administrator must link one company to the Microsoft 365 tenant {CONTOSO}."
        ),
    );
    assert_eq!(attempts(), 1);
    link("1002", CONTOSO.into());
    assert_eq!(attempts(), 0);
    refused(
        1,
        &format!(
            "Your organization's setup has changed since this chat began. Please start a new chat, or contact Northwind IT: \
             its administrator has linked another company to the Microsoft 365 tenant {CONTOSO}."
        ),
    );
    // A refused directory is recorded only until exactly one company is linked, so there is no row.
    assert_eq!(attempts(), 0);
    link("1001", CONTOSO.into());
    refused(
        2,
        &format!(
            "Your organization is not set up for this chat yet. Please contact Northwind IT: its administrator must leave \
             exactly one company linked to the Microsoft 365 tenant {CONTOSO}; 2 are linked now."
        ),
    );
    assert_eq!(attempts(), 1);
    link("1002", Value::Null);
    assert_eq!(attempts(), 0);
    relay.append_text(&session, "Hello").expect(202);
}

#[test]
fn a_trial_session_as_a_company_needs_no_link() {
    let server = Server::demo();
    let northwind = server.northwind();
    for company in ["1002", "1003"] {
        let session = northwind.session(json!({ "agent_id": 101, "end_company_id": company }));
        northwind.append_text(&session, "Hello").expect(202);
    }
}

#[test]
fn a_session_ends_with_its_channel_or_its_install() {
    let server = Server::demo();
    let relay = server.relay();
    let session = relay.session(from(CONTOSO));
    let refused = json!({
        "code": "channel_disconnected",
        "message": "This chat is not connected at the moment. Please contact your IT support.",
    });
    let install = "installs WHERE m365_tenant_id = 'ca5cade0-4ce5-4d0e-9b1d-0f0a51deca5e'";
    let internal = relay.session(json!({
        "managed_agent_key": "NEO_SUPPORT", "client_id": "northwind-it",
        "bot_id": crate::support::TECHNICIAN_BOT,
    }));
    assert_eq!(server.execute_sql(&format!("DELETE FROM {install}")), 1);
    assert_eq!(
        relay
            .append_text(&session, "Hello")
            .refused(409, "channel_disconnected")
            .error(),
        refused
    );
    relay.append_text(&internal, "Hello").expect(202);
    server.import_tenant(
        "northwind-it",
        json!({ "channels": [{ "internal_name": "Client help bot", "installs": [{ "end_client_tenant_id": CONTOSO }] }] }),
    );
    relay.append_text(&session, "Hello").expect(202);
    server.execute_sql("UPDATE channels SET deleted_at = updated_at");
    assert_eq!(
        relay
            .append_text(&session, "Hello")
            .refused(409, "channel_disconnected")
            .error(),
        refused
    );
    assert_eq!(
        relay
            .append_text(&internal, "Hello")
            .refused(409, "channel_disconnected")
            .error(),
        refused
    );
    // A new channel of the same name takes over the installs, but has another id.
    server.import_tenant(
        "northwind-it",
        json!({ "channels": [channel("Client help bot", "END_USER", SHARED_BOT, 101)] }),
    );
    assert_eq!(
        relay
            .append_text(&session, "Hello")
            .refused(409, "channel_disconnected")
            .error(),
        refused
    );
}

#[test]
fn a_session_of_a_company_bot_without_an_install_needs_none() {
    let server = Server::demo();
    server.import_tenant(
        "northwind-it",
        json!({ "end_companies": [{ "psa_company_id": "1004", "tenant_id": "roastery" }] }),
    );
    let relay = server.relay();
    let mut ask = from("roastery");
    ask["client_id"] = "northwind-it".into();
    let made = relay.create_session(ask).expect(201);
    assert_eq!(made.data()["resolution"]["rule"], "bot_channel");
    assert_eq!(made.data()["end_company_id"], "1004");
    relay.append_text(&made.id(), "Hello").expect(202);
}

#[test]
fn a_disabled_agent_accepts_no_messages() {
    let server = Server::demo();
    let northwind = server.northwind();
    let session = northwind.session(technician());
    server.import_tenant(
        "northwind-it",
        json!({ "agents": [{ "agent_id": 102, "state": "DISABLED" }] }),
    );
    northwind
        .append_text(&session, "Hello")
        .refused(409, "agent_disabled");
    // Reading still works, and the session of a deleted agent can still be read.
    northwind.messages(&session, "").expect(200);
    server.execute_sql("UPDATE channels SET agent_id = 100 WHERE agent_id = 102");
    server.execute_sql("DELETE FROM agents WHERE agent_id = 102");
    northwind.read_session(&session).expect(200);
    northwind
        .append_text(&session, "Hello")
        .refused(409, "agent_disabled");
}

#[test]
fn at_most_sixteen_turns_are_queued() {
    let server = Server::demo();
    let northwind = server.northwind();
    let session = northwind.session(technician());
    for number in 0..16 {
        northwind
            .append_text(&session, &format!("Message {number}"))
            .expect(202);
    }
    for _ in 0..2 {
        northwind
            .append_text(&session, "One too many")
            .refused(409, "too_many_pending_turns");
    }
    assert_eq!(northwind.messages(&session, "").expect(200).ids().len(), 16);
    northwind
        .append_text(&northwind.session(technician()), "Elsewhere")
        .expect(202);
}

#[test]
fn messages_are_paged_in_both_directions() {
    let server = Server::demo();
    let northwind = server.northwind();
    let session = northwind.session(technician());
    let mut said = Vec::new();
    for number in 0..15 {
        let accepted = northwind
            .append_text(&session, &format!("Message {number}"))
            .expect(202);
        said.push(
            accepted.data()["user_message_id"]
                .as_str()
                .unwrap()
                .to_owned(),
        );
    }
    let walk = |query: &str| {
        let mut ids = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = northwind
                .messages(&session, &format!("{query}&page_size=4{cursor}"))
                .expect(200);
            ids.extend(page.ids());
            match page.next_cursor() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return ids,
            }
        }
    };
    assert_eq!(walk(""), said);
    assert_eq!(walk("order=asc"), said);
    let mut newest_first = said.clone();
    newest_first.reverse();
    assert_eq!(walk("order=desc"), newest_first);
    // A reader at the end of the list finds later messages after its last page.
    let page = northwind.messages(&session, "page_size=15").expect(200);
    assert_eq!(page.next_cursor(), None);
    for order in ["newest", "DESC", ""] {
        northwind
            .messages(&session, &format!("order={order}"))
            .refused_field("order", "must be one of asc, desc");
    }
}

#[test]
fn a_turn_is_returned_with_all_its_fields() {
    let server = Server::demo();
    let northwind = server.northwind();
    let session = northwind.session(technician());
    let turn = turn_of(&northwind.append_text(&session, "Hello").expect(202));
    assert_eq!(
        northwind.turn(&session, &turn, "").expect(200).data(),
        json!({
            "id": turn,
            "status": "QUEUED",
            "error": null,
            "assistant_message": null,
            "usage": null,
            "queued_at": "2025-11-24T16:00:00.000Z",
            "started_at": null,
            "finished_at": null,
        })
    );
    let other = northwind.session(technician());
    northwind.turn(&other, &turn, "").not_found();
    northwind
        .turn(&session, "trn_019ab697-e807-7000-8000-000000000000", "")
        .not_found();
    server.fabrikam().turn(&session, &turn, "").not_found();
}

#[test]
fn a_wait_lasts_0_to_60_seconds() {
    let server = Server::demo();
    let northwind = server.northwind();
    let session = northwind.session(technician());
    let turn = turn_of(&northwind.append_text(&session, "Hello").expect(202));
    for bad in ["-1", "61", "1.5", "", "x", "18446744073709551616"] {
        northwind
            .turn(&session, &turn, &format!("wait_seconds={bad}"))
            .refused_field("wait_seconds", "must be a whole number from 0 to 60");
    }
    northwind
        .turn(&session, &turn, "wait_seconds=0")
        .expect(200);
    let waited = northwind
        .turn(&session, &turn, "wait_seconds=1")
        .expect(200);
    assert_eq!(waited.data()["status"], "QUEUED");
    assert!(
        waited.json()["meta"]["timings_ms"]["total"]
            .as_f64()
            .unwrap()
            >= 1_000.0
    );
}

/// Requests a turn with the longest wait, and makes sure that the server has started to wait.
fn waiting_for(server: &Server, session: &str, turn: &str) -> Connection {
    let mut connection = Connection::open(server.address);
    let question = Request::new(
        "GET",
        format!("/chat/sessions/{session}/turns/{turn}?wait_seconds=60"),
    )
    .header(
        "authorization",
        format!("Bearer {}", crate::support::NORTHWIND),
    );
    connection.write(&question.written()).unwrap();
    // The server has one worker, so it answers these requests only after it has started the wait.
    for _ in 0..20 {
        server.anonymous().get("/health").expect(200);
    }
    connection
}

#[test]
fn a_wait_for_a_turn_returns_as_soon_as_it_ends() {
    let server = Server::with_world(crate::support::DEMO, &["--workers=1"]);
    let northwind = server.northwind();
    let session = northwind.session(technician());
    let turn = turn_of(&northwind.append_text(&session, "Hello").expect(202));
    let mut waiting: Vec<Connection> = (0..3)
        .map(|_| waiting_for(&server, &session, &turn))
        .collect();
    northwind.reset_session(&session).expect(200);
    for connection in &mut waiting {
        let reply = connection.read("GET").unwrap().unwrap().expect(200);
        assert_eq!(reply.data()["status"], "CANCELLED");
        let total = reply.json()["meta"]["timings_ms"]["total"]
            .as_f64()
            .unwrap();
        assert!(total < 60_000.0, "it was not woken, but had waited in vain");
    }
    // The server does not wait for a turn that has ended.
    let ended = northwind
        .turn(&session, &turn, "wait_seconds=60")
        .expect(200);
    assert!(
        ended.json()["meta"]["timings_ms"]["total"]
            .as_f64()
            .unwrap()
            < 60_000.0
    );
}

#[test]
fn a_wait_in_a_deleted_session_returns_at_once() {
    let server = Server::with_world(crate::support::DEMO, &["--workers=1"]);
    let northwind = server.northwind();
    let session = northwind.session(technician());
    let turn = turn_of(&northwind.append_text(&session, "Hello").expect(202));
    let mut waiting = waiting_for(&server, &session, &turn);
    northwind.delete_session(&session).expect(204);
    waiting.read("GET").unwrap().unwrap().not_found();
}

#[test]
fn a_wait_returns_the_turn_as_it_is_when_the_server_drains() {
    let server = Server::with_world(crate::support::DEMO, &["--workers=1"]);
    let northwind = server.northwind();
    let session = northwind.session(technician());
    let turn = turn_of(&northwind.append_text(&session, "Hello").expect(202));
    let mut waiting = waiting_for(&server, &session, &turn);
    server.app.drain();
    let reply = waiting.read("GET").unwrap().unwrap().expect(200);
    assert_eq!(reply.data()["status"], "QUEUED");
    assert!(
        reply.json()["meta"]["timings_ms"]["total"]
            .as_f64()
            .unwrap()
            < 60_000.0
    );
}

#[test]
fn a_refused_append_is_recorded_for_the_admin_for_every_sender() {
    let server = Server::demo();
    let relay = server.relay();
    let session = relay.session(from(CONTOSO));
    let guest = relay.with_session_token(&session);
    server.import_tenant(
        "northwind-it",
        json!({ "end_companies": [{ "psa_company_id": "1001", "tenant_id": null }] }),
    );
    for client in [&relay, &guest, &server.northwind()] {
        client
            .append_text(&session, "Hello")
            .refused(409, "end_company_not_mapped");
    }
    let attempts: i64 = server.stored(
        "SELECT attempts FROM unlinked_tenants WHERE m365_tenant_id = 'ca5cade0-4ce5-4d0e-9b1d-0f0a51deca5e'",
    );
    assert_eq!(attempts, 3);
}

#[test]
fn readers_and_writers_of_one_session_do_not_disturb_one_another() {
    let server = Server::demo();
    let northwind = server.northwind();
    let session = northwind.session(technician());
    thread::scope(|scope| {
        for writer in 0..4 {
            let (northwind, session) = (&northwind, &session);
            scope.spawn(move || {
                for number in 0..4 {
                    northwind
                        .append_text(session, &format!("{writer}.{number}"))
                        .expect(202);
                }
            });
            scope.spawn(move || {
                for _ in 0..8 {
                    let ids = northwind.messages(session, "").expect(200).ids();
                    assert!(ids.is_sorted());
                }
            });
        }
    });
    let read = northwind.read_session(&session).expect(200).data();
    assert_eq!(read["message_count"], 16);
    for directory in [FOURTH_COFFEE, TAILSPIN] {
        server
            .relay()
            .create_session(from(directory))
            .refused(409, "end_company_not_mapped");
    }
}
