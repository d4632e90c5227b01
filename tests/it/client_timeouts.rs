//! Clients that are too slow to send or to read: whom they block, and when the server drops them.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use socket2::{Domain, Socket, Type};
use switchboard::config::ClientTimeouts;
use switchboard::model::ids::SessionId;

use crate::event_reader::{Event, Events, Next, joined, text_of};
use crate::scripted_model::{Reply as ModelReply, ScriptedModel, text_chunk};
use crate::support::{ApiClient, NORTHWIND, Server, technician};
use crate::watchdog::until;
use crate::wire::{Connection, Reply, Request};

/// Longer than any test runs.
const LONG: Duration = Duration::from_secs(600);
/// The timeout of a server whose test waits for it.
const SHORT: Duration = Duration::from_millis(300);

/// The largest size of a file in bytes.
const LARGEST: usize = 10 * 1_024 * 1_024;
/// How often the long answer repeats its one piece.
const TIMES: usize = 900;

/// The path and query of a link to upload a text file.
fn upload_target(server: &Server) -> String {
    let northwind = server.northwind();
    let session = northwind.session(technician());
    let asked = northwind
        .request_upload(&session, "text/plain")
        .expect(201)
        .data();
    let url = asked["upload_url"].as_str().unwrap();
    url.strip_prefix("http://localhost").unwrap().to_owned()
}

/// Starts a PUT of ten bytes and sends only the first one.
fn start_upload(server: &Server, target: &str) -> Connection {
    let mut connection = Connection::open(server.address);
    let head = Request::new("PUT", target).bytes("0123456789").head();
    connection.write(&head).unwrap();
    connection.write(b"0").unwrap();
    connection
}

fn reply_to_put(connection: &mut Connection) -> Reply {
    connection.read("PUT").unwrap().unwrap()
}

/// Waits until the server has only this number of upload permits left.
fn wait_for_permits(server: &Server, left: usize) {
    until("so many are free", || {
        server.app.uploads.available() == left
    });
}

/// Asserts that the server closes the connection.
fn assert_closed_by_the_server(mut connection: Connection) {
    match connection.read("GET") {
        Ok(None) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        other => panic!("the connection was to end, not {other:?}"),
    }
}

#[test]
fn a_stalled_upload_is_refused_and_its_link_is_not_used_up() {
    let server = Server::with_timeouts(ClientTimeouts {
        body: LONG,
        body_silence: SHORT,
        ..ClientTimeouts::default()
    });
    let target = upload_target(&server);
    let mut silent = start_upload(&server, &target);
    reply_to_put(&mut silent).refused_field("body", "stalled for 0.3 s");
    assert_closed_by_the_server(silent);
    wait_for_permits(&server, 16);
    let again = Request::new("PUT", &target).bytes("0123456789");
    let kept = server.anonymous().send(again).expect(200);
    assert_eq!(kept.data()["bytes"], 10);
}

#[test]
fn an_upload_that_trickles_is_refused_at_its_deadline() {
    let server = Server::with_timeouts(ClientTimeouts {
        body: SHORT,
        body_silence: LONG,
        ..ClientTimeouts::default()
    });
    let target = upload_target(&server);
    let mut trickling = Connection::open(server.address);
    let head = Request::new("PUT", &target).bytes([b'x'; 100_000]).head();
    trickling.write(&head).unwrap();
    // Send another byte whenever no reply arrived for a while.
    trickling.set_read_timeout(Duration::from_millis(10));
    until("there is a reply", || {
        trickling.write(b"x").unwrap();
        trickling.has_data()
    });
    trickling.set_read_timeout(LONG);
    reply_to_put(&mut trickling).refused_field("body", "was not received within 0.3 s");
    wait_for_permits(&server, 16);
    let again = Request::new("PUT", &target).bytes("x");
    server.anonymous().send(again).expect(200);
}

#[test]
fn a_stalled_json_body_is_refused() {
    let server = Server::with_timeouts(ClientTimeouts {
        body_silence: SHORT,
        ..ClientTimeouts::default()
    });
    let northwind = server.northwind();
    for framing in [
        "content-length: 20\r\n\r\n{",
        "transfer-encoding: chunked\r\n\r\n1\r\n{\r\n",
    ] {
        let mut silent = Connection::open(server.address);
        let request = format!(
            "POST /public-api/chat/sessions HTTP/1.1\r\nhost: switchboard\r\ncontent-type: application/json\r\n\
             authorization: Bearer {}\r\n{framing}",
            NORTHWIND
        );
        silent.write(request.as_bytes()).unwrap();
        let reply = silent.read("POST").unwrap().unwrap();
        reply.refused_field("body", "stalled for 0.3 s");
        assert_closed_by_the_server(silent);
    }
    assert_eq!(
        northwind.list_sessions("").expect(200).data(),
        Value::Array(vec![])
    );
}

#[test]
fn an_unread_endless_body_does_not_keep_the_connection_open() {
    let server = Server::demo();
    for (method, path, status, framing) in [
        ("POST", "/chat/sessions", 401, "content-length: 20\r\n\r\n{"),
        (
            "POST",
            "/chat/sessions",
            401,
            "transfer-encoding: chunked\r\n\r\n1\r\n{\r\n",
        ),
        (
            "POST",
            "/nowhere",
            404,
            "transfer-encoding: chunked\r\n\r\n1\r\n{\r\n",
        ),
        (
            "GET",
            "/health",
            200,
            "transfer-encoding: chunked\r\n\r\n1\r\n{\r\n",
        ),
    ] {
        let mut connection = Connection::open(server.address);
        let request =
            format!("{method} /public-api{path} HTTP/1.1\r\nhost: switchboard\r\n{framing}");
        connection.write(request.as_bytes()).unwrap();
        let reply = connection.read(method).unwrap().unwrap();
        assert_eq!(reply.status, status);
        assert_eq!(
            reply.header("connection"),
            Some("close"),
            "{path} {framing:?}"
        );
        assert_closed_by_the_server(connection);
    }
}

#[test]
fn a_chunked_body_that_was_read_to_its_end_keeps_the_connection_open() {
    let server = Server::demo();
    let mut connection = Connection::open(server.address);
    for _ in 0..3 {
        let request = format!(
            "POST /public-api/chat/sessions HTTP/1.1\r\nhost: switchboard\r\ncontent-type: application/json\r\n\
             authorization: Bearer {}\r\ntransfer-encoding: chunked\r\n\r\n11\r\n{{\"agent_id\": 102}}\r\n0\r\n\r\n",
            NORTHWIND
        );
        connection.write(request.as_bytes()).unwrap();
        connection.read("POST").unwrap().unwrap().expect(201);
    }
}

#[test]
fn one_concurrent_upload_too_many_gets_retry_after() {
    let server = Server::with_timeouts(ClientTimeouts {
        uploads: 2,
        upload_wait: SHORT,
        ..ClientTimeouts::default()
    });
    let targets: Vec<String> = (0..3).map(|_| upload_target(&server)).collect();
    let mut begun: Vec<Connection> = targets[..2]
        .iter()
        .map(|target| start_upload(&server, target))
        .collect();
    wait_for_permits(&server, 0);
    let put = Request::new("PUT", &targets[2]).bytes("0123456789");
    let refused = server.anonymous().send(put.clone());
    assert_eq!(refused.header("retry-after"), Some("1"));
    refused.refused(503, "overloaded");
    // An invalid upload is refused at once.
    let wrong = put.clone().header("content-type", "image/png");
    server
        .anonymous()
        .send(wrong)
        .refused(415, "unsupported_media_type");
    // An aborted upload releases its permit, and so does a finished one.
    drop(begun.pop());
    wait_for_permits(&server, 1);
    server.anonymous().send(put).expect(200);
    begun[0].write(b"123456789").unwrap();
    reply_to_put(&mut begun[0]).expect(200);
    wait_for_permits(&server, 2);
}

/// Links to upload this number of text files of one session.
fn upload_targets(client: &ApiClient, session: &str, most: usize) -> Vec<String> {
    let ask = |_| {
        let asked = client
            .request_upload(session, "text/plain")
            .expect(201)
            .data();
        let url = asked["upload_url"].as_str().unwrap();
        url.strip_prefix("http://localhost").unwrap().to_owned()
    };
    (0..most).map(ask).collect()
}

#[test]
fn uploads_of_one_session_or_tenant_leave_permits_for_others() {
    let server = Server::with_timeouts(ClientTimeouts {
        upload_wait: SHORT,
        ..ClientTimeouts::default()
    });
    let (northwind, fabrikam) = (server.northwind(), server.fabrikam());
    let sessions: Vec<Vec<String>> = (0..3)
        .map(|_| upload_targets(&northwind, &northwind.session(technician()), 3))
        .collect();
    let put = |target: &String| {
        server
            .anonymous()
            .send(Request::new("PUT", target).bytes("x"))
    };
    let mut begun: Vec<Connection> = sessions[0][..2]
        .iter()
        .map(|target| start_upload(&server, target))
        .collect();
    wait_for_permits(&server, 14);
    put(&sessions[0][2]).refused(503, "overloaded");
    put(&sessions[1][2]).expect(200);
    begun.extend(
        sessions[1][..2]
            .iter()
            .map(|target| start_upload(&server, target)),
    );
    wait_for_permits(&server, 12);
    put(&sessions[2][0]).refused(503, "overloaded");
    let theirs = fabrikam.session(serde_json::json!({ "agent_id": 202 }));
    put(&upload_targets(&fabrikam, &theirs, 1)[0]).expect(200);
    drop(begun.pop());
    wait_for_permits(&server, 13);
    put(&sessions[2][0]).expect(200);
}

#[test]
fn an_upload_waits_for_a_permit() {
    let server = Server::with_timeouts(ClientTimeouts {
        uploads: 1,
        upload_wait: LONG,
        ..ClientTimeouts::default()
    });
    let (first, second) = (upload_target(&server), upload_target(&server));
    let mut begun = start_upload(&server, &first);
    wait_for_permits(&server, 0);
    let mut waiting = Connection::open(server.address);
    let put = Request::new("PUT", &second).bytes("0123456789");
    waiting.write(&put.written()).unwrap();
    // Other calls are not blocked.
    server.northwind().get("/whoami").expect(200);
    begun.write(b"123456789").unwrap();
    reply_to_put(&mut begun).expect(200);
    reply_to_put(&mut waiting).expect(200);
}

/// A file of the largest size without repeated parts, and the path of a link to download it.
fn uploaded_file(server: &Server) -> (Vec<u8>, String) {
    let northwind = server.northwind();
    let session = northwind.session(technician());
    let content: Vec<u8> = (0..LARGEST / 8)
        .flat_map(|n| format!("{n:07}\n").into_bytes())
        .collect();
    let path = northwind.upload(&session, "text/plain", &content);
    let carried = serde_json::json!({ "message": "", "attachments": [{ "blob_path": path, "mime": "text/plain" }] });
    northwind.append(&session, carried).expect(202);
    let listed = northwind.messages(&session, "").expect(200).data();
    let url = listed[0]["attachments"][0]["url"].as_str().unwrap();
    (
        content,
        url.strip_prefix("http://localhost").unwrap().to_owned(),
    )
}

/// Requests a file and reads only the beginning of the reply.
fn start_download(address: SocketAddr, target: &str) -> Connection {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    socket.connect(&address.into()).unwrap();
    let mut connection = Connection::over(socket.into());
    connection
        .write(&Request::new("GET", target).head())
        .unwrap();
    assert!(connection.has_data());
    connection
}

#[test]
fn downloads_that_are_not_read_block_nobody_and_arrive_whole_later() {
    let server = Server::with_timeouts(ClientTimeouts {
        stuck: LONG,
        ..ClientTimeouts::default()
    });
    let (content, target) = uploaded_file(&server);
    let stuck: Vec<Connection> = (0..100)
        .map(|_| start_download(server.address, &target))
        .collect();
    server.northwind().get("/whoami").expect(200);
    let fetched = server
        .anonymous()
        .send(Request::new("GET", &target))
        .expect(200);
    assert!(fetched.body == content);
    assert_eq!(fetched.header("content-length"), Some("10485760"));
    for mut connection in stuck.into_iter().take(2) {
        let late = connection.read("GET").unwrap().unwrap();
        assert!(late.body == content);
    }
}

#[test]
fn a_file_deleted_during_its_download_breaks_the_connection() {
    let server = Server::with_timeouts(ClientTimeouts {
        stuck: LONG,
        ..ClientTimeouts::default()
    });
    let (_, target) = uploaded_file(&server);
    let mut begun = start_download(server.address, &target);
    assert_eq!(server.execute_sql("DELETE FROM attachment_contents"), 1);
    let broken = begun.read("GET").unwrap_err();
    assert!(
        matches!(
            broken.kind(),
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset
        ),
        "{broken}"
    );
}

/// A model whose answer has nearly the maximum length, and which then hangs unless `ends` is set.
fn long_answer(ends: bool) -> ScriptedModel {
    let much = ModelReply::events(text_chunk(&piece()).repeat(TIMES));
    ScriptedModel::start(vec![if ends {
        much.then(crate::scripted_model::chunk(serde_json::json!({
            "choices": [{ "delta": {}, "finish_reason": "stop" }]
        })))
        .then("data: [DONE]\n\n")
    } else {
        much.then(text_chunk("the end")).then_hang()
    }])
}

fn piece() -> String {
    "0123456789abcde ".repeat(64)
}

/// A reader with a small receive buffer that has read only the response head.
fn open_stalled_reader(address: SocketAddr, session: &str) -> Events {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    socket.connect(&address.into()).unwrap();
    Events::over(socket.into(), NORTHWIND, session, "since=0-0", "")
}

/// Queues a turn in a new session; returns the session and the turn.
fn queue_long_turn(northwind: &ApiClient) -> (String, String) {
    let session = northwind.session(technician());
    let accepted = northwind
        .append_text(&session, "Tell me all")
        .expect(202)
        .data();
    let turn = accepted["chat_turn_id"].as_str().unwrap();
    (session, turn.to_owned())
}

/// Waits until a session's stream has this number of readers.
fn wait_for_readers(server: &Server, session: &str, readers: usize) {
    let session = SessionId::parse(session).unwrap();
    until("so many read", || {
        server.app.signals.listeners(session) == readers
    });
}

/// The events that arrived before the server dropped a reader.
fn until_broken(mut reader: Events) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        match reader.next() {
            Next::Event(event) => events.push(event),
            Next::Broken => return events,
            end @ (Next::Done | Next::End | Next::Cut) => {
                panic!("{end:?} is not how it was to end")
            }
        }
    }
}

#[test]
fn a_stalled_reader_slows_neither_the_turn_nor_other_readers() {
    let model = long_answer(true);
    let server = Server::with_timeouts_and_model(
        ClientTimeouts {
            stuck: LONG,
            ..ClientTimeouts::default()
        },
        &model,
    );
    let northwind = server.northwind();
    let (session, turn) = queue_long_turn(&northwind);
    let stuck: Vec<Events> = (0..8)
        .map(|_| open_stalled_reader(server.address, &session))
        .collect();
    let events = Events::open(server.address, NORTHWIND, &session, "since=0-0").rest();
    assert!(text_of(&events) == piece().repeat(TIMES));
    let looked = northwind
        .turn(&session, &turn, "wait_seconds=60")
        .expect(200);
    assert_eq!(looked.data()["status"], "COMPLETED");
    // The readers are still connected, and get everything when they read on.
    wait_for_readers(&server, &session, 8);
    for reader in stuck {
        assert!(joined(&reader.rest()) == joined(&events));
    }
}

#[test]
fn a_stalled_reader_is_disconnected_and_continues_from_its_cursor() {
    let server = Server::with_timeouts_and_model(
        ClientTimeouts {
            stuck: SHORT,
            ..ClientTimeouts::default()
        },
        &long_answer(false),
    );
    let northwind = server.northwind();
    let (session, _) = queue_long_turn(&northwind);
    let stuck = open_stalled_reader(server.address, &session);
    let mut reads = Events::open(server.address, NORTHWIND, &session, "since=0-0");
    let mut all = reads.read_until_text("the end");
    // The answer has not ended, but only the reader that reads is still connected.
    wait_for_readers(&server, &session, 1);
    let before = until_broken(stuck);
    let cursor = &before.last().unwrap().id;
    let mut goes_on = Events::open(
        server.address,
        NORTHWIND,
        &session,
        &format!("since={cursor}"),
    );
    let mut pieces = before;
    pieces.extend(goes_on.read_until_text("the end"));
    assert!(pieces == all);
    // So does a reader that returns after the answer is stored.
    let path = format!("/chat/sessions/{session}/cancel");
    northwind.post(&path, serde_json::json!({})).expect(200);
    all.extend(reads.rest());
    let late = Events::open(
        server.address,
        NORTHWIND,
        &session,
        &format!("since={}", all[9].id),
    );
    assert!(joined(&late.rest()) == joined(&all[10..]));
}

#[test]
fn an_idle_stream_gets_heartbeat_comments() {
    assert_eq!(ClientTimeouts::default().heartbeat, Duration::from_secs(15));
    let server = Server::with_timeouts(ClientTimeouts {
        heartbeat: Duration::from_millis(20),
        ..ClientTimeouts::default()
    });
    let northwind = server.northwind();
    let session = northwind.session(technician());
    let mut follower = Events::open(server.address, NORTHWIND, &session, "follow=true");
    follower.wait_for_comments(3);
    northwind.append_text(&session, "Hello").expect(202);
    follower.turn();
    follower.wait_for_comments(6);
}

#[test]
fn a_stream_of_a_queued_turn_gets_heartbeat_comments_too() {
    let model = ScriptedModel::start(vec![ModelReply::events(text_chunk("So ")).then_hang()]);
    let server = Server::with_timeouts_and_model(
        ClientTimeouts {
            heartbeat: Duration::from_millis(20),
            ..ClientTimeouts::default()
        },
        &model,
    );
    let northwind = server.northwind();
    let (session, _) = queue_long_turn(&northwind);
    let mut running = Events::open(server.address, NORTHWIND, &session, "since=0-0");
    running.read_until_text("So ");
    let waiting = northwind.append_text(&session, "And?").expect(202).data();
    let since = waiting["since_cursor"].as_str().unwrap();
    let mut waits = Events::open(
        server.address,
        NORTHWIND,
        &session,
        &format!("since={since}"),
    );
    for stream in [&mut running, &mut waits] {
        stream.wait_for_comments(3);
    }
}
