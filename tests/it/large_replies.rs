//! Large replies: their size, their bytes in flight, and which requests wait for room.

use std::time::Duration;

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use switchboard::config::ClientTimeouts;

use crate::scripted_model::{Reply as ModelReply, ScriptedModel, chunk, text_chunk};
use crate::support::{ApiClient, Server, technician};
use crate::watchdog::until;
use crate::wire::{Connection, Request};

/// Longer than any test runs.
const LONG: Duration = Duration::from_secs(600);
/// The timeout of a server whose test waits for it.
const SHORT: Duration = Duration::from_millis(300);

const MIB: usize = 1_024 * 1_024;
/// The most bytes of one reply, and of an account's replies in flight (contract, section 1, Size).
const REPLY: usize = 8 * MIB;
const IN_FLIGHT: usize = 32 * MIB;

/// Timeouts under which nobody is cut off, and a reply without room is refused soon.
fn refusing() -> ClientTimeouts {
    ClientTimeouts {
        reply_wait: SHORT,
        stuck: LONG,
        ..ClientTimeouts::default()
    }
}

/// A session with this number of answered messages, each of which JSON writes as 400 KB; and the
/// ids of all its messages.
fn session_of_control_characters(northwind: &ApiClient, messages: usize) -> (String, Vec<String>) {
    let session = northwind.session(technician());
    let text = "\u{1}".repeat(32_000);
    for _ in 0..messages {
        let accepted = northwind.append_text(&session, &text).expect(202).data();
        let turn = accepted["chat_turn_id"].as_str().unwrap();
        let ended = northwind
            .turn(&session, turn, "wait_seconds=60")
            .expect(200);
        assert_eq!(ended.data()["status"], "COMPLETED");
    }
    let mut ids = Vec::new();
    let mut query = "page_size=5".to_owned();
    loop {
        let page = northwind.messages(&session, &query).expect(200);
        ids.extend(page.ids());
        match page.next_cursor() {
            Some(cursor) => query = format!("page_size=5&cursor={cursor}"),
            None => return (session, ids),
        }
    }
}

/// A request of this client.
fn request_of(client: &ApiClient, path: &str) -> Request {
    let credential = client.authorization().unwrap();
    Request::new("GET", format!("/public-api{path}")).header("authorization", credential)
}

/// The request for a session's largest page.
fn largest_page(client: &ApiClient, session: &str) -> Request {
    let path = format!("/chat/sessions/{session}/messages?page_size=200");
    request_of(client, &path)
}

/// Sends a request on a connection with a small receive buffer, and reads nothing.
fn unread(server: &Server, request: &Request) -> Connection {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    socket.connect(&server.address.into()).unwrap();
    let mut connection = Connection::over(socket.into());
    connection.write(&request.written()).unwrap();
    connection
}

/// The value of a metric without labels, or with these.
fn metric(server: &Server, name: &str) -> usize {
    let scrape = server
        .anonymous()
        .send(Request::new("GET", "/metrics"))
        .expect(200);
    let value = scrape.text().lines().find_map(|line| {
        let value = line.strip_prefix(name)?.strip_prefix(' ')?;
        Some(value.parse().unwrap())
    });
    value.unwrap_or_else(|| panic!("no metric {name}"))
}

fn bytes_in_flight(server: &Server) -> usize {
    metric(server, "switchboard_reply_bytes")
}

fn refused_for_load(server: &Server) -> usize {
    metric(server, "switchboard_refusals_total{code=\"overloaded\"}")
}

/// Occupies the room of an account with four pages that are not read.
fn occupy(server: &Server, client: &ApiClient, session: &str) -> Vec<Connection> {
    let pages = (1..=4).map(|pages| {
        let page = unread(server, &largest_page(client, session));
        until("the page is in flight", || {
            let bytes = bytes_in_flight(server);
            (pages - 1) * REPLY + REPLY / 2 < bytes && bytes < pages * REPLY
        });
        page
    });
    pages.collect()
}

#[test]
fn a_page_ends_before_its_reply_exceeds_8_mib_and_the_cursors_lead_to_each_row_once() {
    let server = Server::measured(refusing());
    let northwind = server.northwind();
    let (session, mut expected) = session_of_control_characters(&northwind, 45);
    for order in ["asc", "desc"] {
        let mut seen = Vec::new();
        let mut sizes = Vec::new();
        let mut query = format!("page_size=200&order={order}");
        loop {
            let page = northwind.messages(&session, &query).expect(200);
            sizes.push(page.body.len());
            seen.extend(page.ids());
            let json = page.json();
            let pagination = &json["meta"]["pagination"];
            let cursor = page.next_cursor();
            assert_eq!(pagination["has_more"], cursor.is_some());
            match cursor {
                Some(cursor) => query = format!("page_size=200&order={order}&cursor={cursor}"),
                None => break,
            }
        }
        assert_eq!(seen, expected);
        assert_eq!(sizes.len(), 3);
        let whole = &sizes[..2];
        assert!(
            whole
                .iter()
                .all(|size| (REPLY - MIB..=REPLY).contains(size)),
            "{sizes:?}"
        );
        expected.reverse();
    }
    assert_eq!(bytes_in_flight(&server), 0);
}

#[test]
fn four_hundred_unread_pages_hold_bounded_bytes_and_others_are_served() {
    let server = Server::measured(refusing());
    let northwind = server.northwind();
    let (session, ids) = session_of_control_characters(&northwind, 25);
    let end_user = northwind.with_session_token(&session);
    let request = largest_page(&end_user, &session);
    let unread: Vec<Connection> = (0..400).map(|_| unread(&server, &request)).collect();
    // Four replies of 8 MiB have room. The others wait for it, and are refused.
    until("all others are refused", || {
        assert!(bytes_in_flight(&server) <= IN_FLIGHT);
        refused_for_load(&server) == 396
    });
    let bytes = bytes_in_flight(&server);
    assert!((IN_FLIGHT - REPLY..=IN_FLIGHT).contains(&bytes), "{bytes}");
    let refused = server.anonymous().send(request.clone());
    assert_eq!(
        (refused.status, refused.header("retry-after")),
        (503, Some("1"))
    );
    assert_eq!(refused.error()["code"], "overloaded");
    // Small replies need no room. Another account of the same tenant has room of its own.
    end_user.get("/whoami").expect(200);
    let small = end_user
        .messages(&session, "page_size=1&order=desc")
        .expect(200);
    assert_eq!(small.ids(), ids[ids.len() - 1..]);
    northwind.messages(&session, "page_size=200").expect(200);
    let fabrikam = server.fabrikam();
    fabrikam.get("/whoami").expect(200);
    fabrikam.get("/agents").expect(200);
    drop(unread);
    until("all bytes are released", || bytes_in_flight(&server) == 0);
    end_user.messages(&session, "page_size=200").expect(200);
}

#[test]
fn a_client_that_takes_nothing_of_its_reply_is_cut_off_and_served_again_later() {
    let server = Server::measured(ClientTimeouts {
        reply_wait: LONG,
        stuck: SHORT,
        ..ClientTimeouts::default()
    });
    let northwind = server.northwind();
    let (session, _) = session_of_control_characters(&northwind, 25);
    let request = largest_page(&northwind, &session);
    let unread: Vec<Connection> = (0..12).map(|_| unread(&server, &request)).collect();
    // Each four make room for the next four.
    until("all are cut off", || {
        metric(&server, "switchboard_clients_cut_off_total") == 12
    });
    until("all bytes are released", || bytes_in_flight(&server) == 0);
    for mut connection in unread {
        assert!(connection.read("GET").is_err());
    }
    northwind.messages(&session, "page_size=200").expect(200);
}

#[test]
fn a_large_reply_waits_for_room() {
    let server = Server::measured(ClientTimeouts {
        reply_wait: LONG,
        stuck: LONG,
        ..ClientTimeouts::default()
    });
    let northwind = server.northwind();
    let (session, ids) = session_of_control_characters(&northwind, 25);
    let mut unread_pages = occupy(&server, &northwind, &session);
    let mut waits = unread(&server, &largest_page(&northwind, &session));
    // The handlers of this account go on.
    northwind.get("/whoami").expect(200);
    let mut first = unread_pages.swap_remove(0);
    let read = first.read("GET").unwrap().unwrap().expect(200);
    assert!(ids.starts_with(&read.ids()));
    let late = waits.read("GET").unwrap().unwrap().expect(200);
    assert_eq!(late.ids(), read.ids());
}

#[test]
fn a_change_with_a_large_reply_is_refused_before_it_happens() {
    let server = Server::measured(refusing());
    let northwind = server.northwind();
    let agent = json!({ "name": "Wordy", "audience": "MSP" });
    let agent = northwind.post("/agents", agent).expect(201).id();
    let path = format!("/agents/{agent}");
    let text = "\u{1}".repeat(32_000);
    for change in [
        json!({ "description": text }),
        json!({ "agent_settings": { "custom_instructions": text } }),
        json!({ "agent_settings": { "welcome_message": text } }),
    ] {
        northwind.put(&path, change).expect(200);
    }
    let mut unchanged = request_of(&northwind, &path).json(&json!({}));
    unchanged.method = "PUT".to_owned();
    // A change needs room for 8 MiB of the account's 16 MiB.
    let mut unread_replies = Vec::new();
    while bytes_in_flight(&server) <= REPLY {
        let before = bytes_in_flight(&server);
        unread_replies.push(unread(&server, &unchanged));
        until("the reply is in flight", || {
            let bytes = bytes_in_flight(&server);
            before < bytes && bytes < before + MIB
        });
    }
    let renamed = json!({ "name": "Renamed" });
    let refused = northwind.put(&path, renamed.clone());
    assert_eq!(refused.error()["code"], "overloaded");
    drop(unread_replies);
    until("all bytes are released", || bytes_in_flight(&server) == 0);
    let read = northwind.get(&path).expect(200).data();
    assert_eq!(read["name"], "Wordy");
    let changed = northwind.put(&path, renamed).expect(200).data();
    assert_eq!(changed["name"], "Renamed");
    assert_eq!(bytes_in_flight(&server), 0);
}

#[test]
fn pages_that_nobody_takes_hold_up_no_change() {
    let server = Server::measured(refusing());
    let northwind = server.northwind();
    let (session, ids) = session_of_control_characters(&northwind, 25);
    let _pages = occupy(&server, &northwind, &session);
    northwind
        .messages(&session, "page_size=200")
        .refused(503, "overloaded");
    let path = format!("/chat/sessions/{session}/messages/{}/feedback", ids[1]);
    let rated = northwind.put(&path, json!({ "rating": "UP" })).expect(200);
    assert_eq!(rated.data()["feedback"]["rating"], "UP");
    let agent = json!({ "name": "Night desk", "audience": "MSP" });
    northwind.post("/agents", agent).expect(201);
}

#[test]
fn unread_replies_with_a_long_answer_are_bounded_and_waiting_for_a_turn_takes_no_room() {
    let piece = "0123456789abcde ".repeat(64);
    let answer = ModelReply::events(text_chunk(&piece).repeat(900)).then(chunk(json!({
        "choices": [{ "delta": {}, "finish_reason": "stop" }]
    })));
    let model = ScriptedModel::start(vec![
        answer.then("data: [DONE]\n\n"),
        ModelReply::events(text_chunk("So ")).then_hang(),
    ]);
    let server = Server::with_timeouts_and_model(refusing(), &model);
    let northwind = server.northwind();
    let session = northwind.session(technician());
    let queue = || {
        let accepted = northwind
            .append_text(&session, "Tell me all")
            .expect(202)
            .data();
        accepted["chat_turn_id"].as_str().unwrap().to_owned()
    };
    let turn = queue();
    let ended = northwind
        .turn(&session, &turn, "wait_seconds=60")
        .expect(200);
    let content = &ended.data()["assistant_message"]["content"];
    assert_eq!(content.as_str().unwrap().len(), 900 * 1_024);

    let running = queue();
    let path = |turn: &str| format!("/chat/sessions/{session}/turns/{turn}?wait_seconds=60");
    let waits: Vec<Connection> = (0..8)
        .map(|_| unread(&server, &request_of(&northwind, &path(&running))))
        .collect();
    northwind.get("/whoami").expect(200);
    assert_eq!(bytes_in_flight(&server), 0);

    let long = request_of(&northwind, &path(&turn));
    let unread: Vec<Connection> = (0..60).map(|_| unread(&server, &long)).collect();
    until("some are refused", || {
        assert!(bytes_in_flight(&server) <= IN_FLIGHT);
        refused_for_load(&server) >= 40
    });
    assert!(bytes_in_flight(&server) > IN_FLIGHT / 2);
    drop((unread, waits));
    until("all bytes are released", || bytes_in_flight(&server) == 0);
    assert_eq!(
        northwind
            .send(Request::new("GET", "/public-api/whoami"))
            .status,
        200
    );
}

#[test]
fn an_answer_is_cut_where_a_reply_with_it_would_exceed_8_mib() {
    let noise = ModelReply::events(text_chunk(&"\u{1}".repeat(10_000)).repeat(100));
    let model = ScriptedModel::start(vec![noise.then("data: [DONE]\n\n")]);
    let server = Server::with_timeouts_and_model(refusing(), &model);
    let northwind = server.northwind();
    let session = northwind.session(technician());
    let accepted = northwind.append_text(&session, "Hiss").expect(202).data();
    let turn = accepted["chat_turn_id"].as_str().unwrap();
    let ended = northwind
        .turn(&session, turn, "wait_seconds=60")
        .expect(200);
    let message = &ended.data()["assistant_message"];
    assert_eq!(message["content"].as_str().unwrap().len(), (3 << 20) / 6);
    assert_eq!(message["finish_reason"], "length");
    assert!((6 * MIB..=REPLY).contains(&ended.body.len()));
    let listed = northwind.messages(&session, "").expect(200);
    assert!(listed.body.len() <= REPLY);
}

#[test]
fn every_list_ends_early_where_its_rows_are_long() {
    let server = Server::measured(refusing());
    let northwind = server.northwind();
    let long = "\u{1}".repeat(40_000);
    for number in 0..40 {
        let article: Value = json!({ "title": format!("Noise {number}"), "body": long });
        northwind.post("/knowledge-articles", article).expect(201);
    }
    let mut titles = Vec::new();
    let mut query = "page_size=200&q=Noise".to_owned();
    loop {
        let page = northwind
            .get(&format!("/knowledge-articles?{query}"))
            .expect(200);
        assert!(page.body.len() <= REPLY, "{}", page.body.len());
        let data = page.data();
        let rows = data.as_array().unwrap().iter();
        titles.extend(rows.map(|row| row["title"].as_str().unwrap().to_owned()));
        match page.next_cursor() {
            Some(cursor) => query = format!("page_size=200&q=Noise&cursor={cursor}"),
            None => break,
        }
    }
    let expected: Vec<String> = (0..40)
        .rev()
        .map(|number| format!("Noise {number}"))
        .collect();
    assert_eq!(titles, expected);
}
