//! A shutdown: no new work is accepted, running answers end, and the drain keeps to its timeout.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::metrics::ask as scrape;
use crate::process::{Client, NORTHWIND, Server, Workspace};
use crate::scripted_model::{Reply, ScriptedModel, chunk, text_chunk};

/// Starts a server on the demo world with this model.
fn start_server(workspace: &Workspace, model: &ScriptedModel, drain_seconds: &str) -> Server {
    workspace.serve([
        "--env",
        "demo",
        "--rate-limit",
        "0",
        "--drain-seconds",
        drain_seconds,
        "--metrics-listen",
        "127.0.0.1:0",
        "--model-url",
        model.url(),
        "--model-fast",
        "quick",
        "--model-smart",
        "deep",
    ])
}

/// Asks a question in a new session; returns the session's path, and its stream after the first
/// word.
fn ask(client: &Client, server: &Server) -> (String, TcpStream) {
    let created = client.post(NORTHWIND, "/chat/sessions", &json!({"agent_id": 102}));
    let session = created.data()["id"].as_str().unwrap().to_owned();
    let path = format!("/chat/sessions/{session}");
    let said = client.post(
        NORTHWIND,
        &format!("{path}/messages"),
        &json!({"message": "Hello"}),
    );
    assert_eq!(said.status, 202, "{said:?}");
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let head = format!(
        "GET /public-api{path}/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {NORTHWIND}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut read = String::new();
    let mut buffer = [0; 1_024];
    while !read.contains("First") {
        let length = stream.read(&mut buffer).unwrap();
        assert_ne!(length, 0, "{read}");
        read += std::str::from_utf8(&buffer[..length]).unwrap();
    }
    (path, stream)
}

#[test]
fn while_an_answer_finishes_no_new_work_is_accepted_and_its_reader_gets_all_of_it() {
    let (go_on, waits) = channel();
    let rest =
        text_chunk("last.") + &chunk(json!({"choices": [{"delta": {}, "finish_reason": "stop"}]}));
    let model = ScriptedModel::start(vec![
        Reply::events(text_chunk("First "))
            .then_wait(waits)
            .then(rest + "data: [DONE]\n\n"),
    ]);
    let workspace = Workspace::with_demo_world();
    let server = start_server(&workspace, &model, "3600");
    let client = server.client();
    let (path, mut stream) = ask(&client, &server);
    let line = server.wait_for_log("metrics on http://");
    let metrics = line
        .split("http://")
        .nth(1)
        .unwrap()
        .split('/')
        .next()
        .unwrap()
        .to_owned();

    server.signal("TERM");
    server.wait_for_log("shutting down");
    let ready = client.get("", "/ready");
    assert_eq!(
        (ready.status, ready.code().as_str()),
        (503, "shutting_down")
    );
    assert!(ready.header("retry-after").is_some());
    assert_eq!(client.get("", "/health").status, 200);
    let refused = client.post(NORTHWIND, "/chat/sessions", &json!({"agent_id": 102}));
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (503, "shutting_down")
    );
    let scraped = scrape(&metrics, "GET", "/metrics");
    assert!(
        scraped.body.contains("\nswitchboard_draining 1\n"),
        "{scraped:?}"
    );

    let reading = thread::spawn(move || {
        let mut rest = String::new();
        stream.read_to_string(&mut rest).unwrap();
        rest
    });
    go_on.send(()).unwrap();
    let rest = reading.join().unwrap();
    for part in ["last.", "\"type\":\"finish\"", "data: [DONE]"] {
        assert!(rest.contains(part), "{rest}");
    }
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log:#?}");
    assert!(log.last().unwrap().ends_with("stopped"), "{log:#?}");
    assert!(log.iter().all(|line| !line.contains("cut off")), "{log:#?}");

    let server = start_server(&workspace, &model, "0");
    let listed = server.client().get(NORTHWIND, &format!("{path}/messages"));
    assert_eq!(listed.data()[1]["content"], "First last.");
}

#[test]
fn an_answer_that_does_not_end_in_time_is_cut_off_and_runs_again_at_the_next_start() {
    let model = ScriptedModel::start(vec![
        Reply::events(text_chunk("First ")).then_hang(),
        Reply::answer("All of it."),
    ]);
    let workspace = Workspace::with_demo_world();
    let server = start_server(&workspace, &model, "1");
    let (path, mut stream) = ask(&server.client(), &server);
    server.signal("TERM");
    // The connection breaks, so that a client does not mistake this for the end of the answer.
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!(!String::from_utf8_lossy(&rest).contains("[DONE]"));
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log:#?}");
    let says = |what: &str| log.iter().any(|line| line.contains(what));
    assert!(
        says("some answers were cut off; they run again at the next start"),
        "{log:#?}"
    );
    assert!(!says("some requests were cut off"), "{log:#?}");

    let server = start_server(&workspace, &model, "1");
    let client = server.client();
    let turns = client.get(NORTHWIND, &format!("{path}/messages"));
    let question = turns.data()[0].clone();
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let head = format!(
        "GET /public-api{path}/events?since=0-0 HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {NORTHWIND}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut read = String::new();
    stream.read_to_string(&mut read).unwrap();
    assert!(read.contains("[DONE]"), "{read}");
    let listed = client.get(NORTHWIND, &format!("{path}/messages")).data();
    assert_eq!(listed[0], question);
    assert_eq!(listed[1]["content"], "All of it.");
}

#[test]
fn systemd_is_notified_when_the_server_listens_and_when_it_stops() {
    let workspace = Workspace::with_demo_world();
    let path = workspace.path().join("notify");
    let systemd = UnixDatagram::bind(&path).unwrap();
    systemd
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let mut command = workspace.command(["serve", "--listen", "127.0.0.1:0"]);
    command.env("NOTIFY_SOCKET", &path);
    let server = Server::start(command);
    let told = || {
        let mut buffer = [0; 64];
        let length = systemd.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    assert_eq!(told().trim(), "READY=1");
    server.signal("TERM");
    assert_eq!(told().trim(), "STOPPING=1");
    let (status, _) = server.wait();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_second_signal_ends_the_server_at_once() {
    let model = ScriptedModel::start(vec![Reply::events(text_chunk("First ")).then_hang()]);
    let workspace = Workspace::with_demo_world();
    let server = start_server(&workspace, &model, "3600");
    let _asked = ask(&server.client(), &server);
    server.signal("TERM");
    server.wait_for_log("shutting down");
    server.signal("TERM");
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(1), "{log:#?}");
}
