//! What one turn may hold in memory, whatever the model sends.

use std::fs;

use serde_json::{Value, json};

use crate::event_reader::{Event, Events, text_of};
use crate::process::{Client, Server, Workspace};
use crate::scripted_model::{Reply as ModelReply, ScriptedModel, chunk, text_chunk};
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

/// A server with a model, and the sessions of a technician.
struct Chats {
    server: Server,
    client: Client,
    _workspace: Workspace,
}

impl Chats {
    fn with(model: &ScriptedModel) -> Self {
        let workspace = Workspace::with_demo_world();
        let mut command = workspace.command(["serve", "--listen=127.0.0.1:0", "--env=demo"]);
        command.args([
            "--model-fast=quick",
            "--model-smart=deep",
            "--model-url",
            model.url(),
        ]);
        let server = Server::start(command);
        Self {
            client: server.client(),
            server,
            _workspace: workspace,
        }
    }

    /// Asks in a session of its own: the session, and the events of the answer.
    fn ask(&self, text: &str) -> (String, Vec<Event>) {
        let session = self
            .client
            .post(NORTHWIND, "/chat/sessions", &technician())
            .data();
        let session = session["id"].as_str().unwrap().to_owned();
        let path = format!("/chat/sessions/{session}/messages");
        let appended = self
            .client
            .post(NORTHWIND, &path, &json!({ "message": text }));
        assert_eq!(appended.status, 202, "{appended:?}");
        let events = self.events(&session);
        (session, events)
    }

    fn events(&self, session: &str) -> Vec<Event> {
        Events::open(self.server.address(), NORTHWIND, session, "since=0-0").rest()
    }

    /// The newest message of a session.
    fn stored(&self, session: &str) -> Value {
        let path = format!("/chat/sessions/{session}/messages?order=desc&page_size=1");
        self.client.get(NORTHWIND, &path).data()[0].clone()
    }
}

#[test]
fn an_answer_that_alternates_between_thought_and_text_has_64_parts_and_takes_little_memory() {
    let thought = chunk(json!({ "choices": [{ "delta": { "reasoning_content": "r" } }] }));
    let model = ScriptedModel::start(vec![
        ModelReply::answer("Hello."),
        ModelReply::events("").then_flood(thought + &text_chunk("t")),
    ]);
    let chats = Chats::with(&model);
    chats.ask("The door is stuck");
    let before = peak_kib(&chats.server);
    let (session, events) = chats.ask("Say t");
    let grown = peak_kib(&chats.server) - before;
    assert!(grown < MOST_KIB, "{grown} KiB");
    let text = "t".repeat(LONGEST / 2);
    assert!(text_of(&events) == text);
    let starts = |kind: &str| events.iter().filter(|event| event.kind() == kind).count();
    assert_eq!((starts("reasoning-start"), starts("text-start")), (32, 32));
    let stored = chats.stored(&session);
    assert!(stored["content"] == text);
    assert_eq!(stored["parts"].as_array().unwrap().len(), 64);
    assert!(text_of(&chats.events(&session)) == text);
}

#[test]
fn an_endless_answer_of_one_byte_events_ends_at_its_longest_and_takes_little_memory() {
    let model = ScriptedModel::start(vec![
        ModelReply::answer("Hello."),
        ModelReply::events("").then_flood(text_chunk("x")),
    ]);
    let chats = Chats::with(&model);
    chats.ask("The door is stuck");
    let before = peak_kib(&chats.server);
    let (session, events) = chats.ask("Say x");
    let grown = peak_kib(&chats.server) - before;
    assert!(grown < MOST_KIB, "{grown} KiB");

    let finish = &events[events.len() - 1].envelope;
    assert_eq!(
        *finish,
        json!({ "type": "finish", "finishReason": "length" })
    );
    assert!(text_of(&events) == "x".repeat(LONGEST));
    let stored = chats.stored(&session);
    assert_eq!(stored["finish_reason"], "length");
    assert!(stored["content"] == "x".repeat(LONGEST));
    assert!(text_of(&chats.events(&session)) == "x".repeat(LONGEST));
}
