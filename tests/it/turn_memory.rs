//! What one turn may hold in memory, whatever the model sends.

use std::fs;

use serde_json::json;

use crate::event_reader::{Events, text_of};
use crate::process::{Server, Workspace};
use crate::scripted_model::{Reply as ModelReply, ScriptedModel, text_chunk};
use crate::support::{NORTHWIND, technician};

/// The longest answer, in bytes.
const LONGEST: usize = 1 << 20;
/// What an answer may add to the peak of resident memory, in KiB: its text several times over.
const MOST_KIB: usize = 64 << 10;

fn peak_kib(server: &Server) -> usize {
    let status = fs::read_to_string(server.path("status")).unwrap();
    let mut lines = status.lines();
    let peak = lines.find_map(|line| line.strip_prefix("VmHWM:")?.strip_suffix("kB"));
    peak.unwrap().trim().parse().unwrap()
}

#[test]
fn an_endless_answer_of_one_byte_events_ends_at_its_longest_and_takes_little_memory() {
    let model = ScriptedModel::start(vec![
        ModelReply::answer("Hello."),
        ModelReply::events("").then_flood(text_chunk("x")),
    ]);
    let workspace = Workspace::with_demo_world();
    let mut command = workspace.command(["serve", "--listen=127.0.0.1:0", "--env=demo"]);
    command.args([
        "--model-fast=quick",
        "--model-smart=deep",
        "--model-url",
        model.url(),
    ]);
    let server = Server::start(command);
    let client = server.client();
    let ask = |text: &str| {
        let session = client
            .post(NORTHWIND, "/chat/sessions", &technician())
            .data();
        let session = session["id"].as_str().unwrap().to_owned();
        let path = format!("/chat/sessions/{session}/messages");
        let appended = client.post(NORTHWIND, &path, &json!({ "message": text }));
        assert_eq!(appended.status, 202, "{appended:?}");
        let events = Events::open(server.address(), NORTHWIND, &session, "since=0-0").rest();
        (session, events)
    };
    ask("The door is stuck");
    let before = peak_kib(&server);
    let (session, events) = ask("Say x");
    let grown = peak_kib(&server) - before;
    assert!(grown < MOST_KIB, "{grown} KiB");

    let finish = &events[events.len() - 1].envelope;
    assert_eq!(
        *finish,
        json!({ "type": "finish", "finishReason": "length" })
    );
    assert!(text_of(&events) == "x".repeat(LONGEST));
    let path = format!("/chat/sessions/{session}/messages?order=desc&page_size=1");
    let stored = &client.get(NORTHWIND, &path).data()[0];
    assert_eq!(stored["finish_reason"], "length");
    assert!(stored["content"] == "x".repeat(LONGEST));
    let again = Events::open(server.address(), NORTHWIND, &session, "since=0-0").rest();
    assert!(text_of(&again) == "x".repeat(LONGEST));
}
