//! Turns that a model answers, through the whole server: each ends as documented, whatever the
//! model does.

use serde_json::{Value, json};

use crate::event_reader::{Event, Events, joined, text_of};
use crate::process::{Server as Program, Workspace};
use crate::scripted_model::{
    RefusedAddress, Reply as ModelReply, ScriptedModel, chunk, text_chunk,
};
use crate::support::{ApiClient, DEMO, NORTHWIND, Server, technician};

/// Text of the endpoint, which a user must never read.
const UPSTREAM: &str = "upstream-secret-words";

const UNREACHED: &str = "The assistant could not be reached. Please try again in a moment.";
const LATE: &str = "The assistant took too long to answer. Please try again in a moment.";
const BROKEN: &str = "The assistant's answer broke off. Please try again.";
/// The sentence of a refused request.
pub const REJECTED: &str = "The assistant could not take this message. If that happens again, please tell an administrator.";

/// An ended turn, as its stream and its own call report it.
pub struct Ended {
    /// The turn's events.
    pub events: Vec<Event>,
    /// The turn.
    pub turn: Value,
}

/// A technician's session.
pub struct Chat<'a> {
    server: &'a Server,
    /// The technician's client.
    pub client: ApiClient,
    /// The session's id.
    pub session: String,
}

impl<'a> Chat<'a> {
    /// Opens a session.
    pub fn on(server: &'a Server) -> Self {
        let client = server.northwind();
        let session = client.session(technician());
        Self {
            server,
            client,
            session,
        }
    }

    /// Sends a message and waits for the end of its turn.
    pub fn ask_with(&self, body: Value) -> Ended {
        let appended = self.client.append(&self.session, body).expect(202).data();
        let since = appended["since_cursor"].as_str().unwrap();
        let query = format!("since={since}");
        let events = Events::open(self.server.address, NORTHWIND, &self.session, &query).rest();
        let id = appended["chat_turn_id"].as_str().unwrap();
        let turn = self
            .client
            .turn(&self.session, id, "wait_seconds=60")
            .expect(200)
            .data();
        Ended { events, turn }
    }

    /// Sends a text and reads the stream of its turn.
    pub fn stream(&self, text: &str) -> Events {
        let appended = self.client.append_text(&self.session, text).expect(202);
        let since = appended.data()["since_cursor"].as_str().unwrap().to_owned();
        let query = format!("since={since}");
        Events::open(self.server.address, NORTHWIND, &self.session, &query)
    }

    /// Sends a text and waits for the end of its turn.
    pub fn ask(&self, text: &str) -> Ended {
        self.ask_with(json!({ "message": text }))
    }
}

/// Runs a turn on a failing model; the turn must end with this code and message and keep this text.
#[track_caller]
fn assert_fails(server: &Server, address: &str, code: &str, sentence: &str, kept: &str) {
    let Ended { events, turn } = Chat::on(server).ask("The door is stuck");
    let last = &events[events.len() - 1].envelope;
    assert_eq!(*last, json!({ "type": "error", "errorText": sentence }));
    assert_eq!(text_of(&events), kept);
    assert_eq!(turn["status"], "FAILED");
    assert_eq!(turn["error"], json!({ "code": code, "message": sentence }));
    let message = &turn["assistant_message"];
    if kept.is_empty() {
        assert_eq!(*message, json!(null));
    } else {
        assert_eq!(
            (&message["content"], &message["finish_reason"]),
            (&json!(kept), &json!("error"))
        );
    }
    let shown = turn.to_string() + &json!(joined(&events)).to_string();
    for hidden in [UPSTREAM, address, "127.0.0.1", "http"] {
        assert!(!shown.contains(hidden), "{hidden} is shown: {shown}");
    }
}

/// [`assert_fails`] for a model that always gives the same reply.
#[track_caller]
fn assert_fails_for(reply: ModelReply, flags: &[&str], code: &str, sentence: &str, kept: &str) {
    let model = ScriptedModel::start(vec![reply]);
    assert_fails(
        &Server::with_model(&model, flags),
        model.url(),
        code,
        sentence,
        kept,
    );
}

#[test]
fn a_model_that_refuses_connections_ends_the_turn_with_a_sentence() {
    let refused = RefusedAddress::take();
    let url = format!("--model-url={}", refused.url());
    let server = Server::answering(&[&url, "--model-fast=quick", "--model-smart=deep"]);
    assert_fails(&server, refused.url(), "model_unavailable", UNREACHED, "");
}

#[test]
fn a_refused_request_is_not_retried() {
    for status in [401, 403, 404] {
        let model = ScriptedModel::start(vec![ModelReply::status(status, "", UPSTREAM)]);
        assert_fails(
            &Server::with_model(&model, &[]),
            model.url(),
            "model_rejected",
            REJECTED,
            "",
        );
        assert_eq!(model.requests().len(), 1);
    }
}

#[test]
fn a_request_to_a_busy_model_is_retried() {
    let model = ScriptedModel::start(vec![
        ModelReply::status(429, "retry-after: 0\r\n", UPSTREAM),
        ModelReply::status(503, "retry-after: 0\r\n", UPSTREAM),
        ModelReply::answer("Try the other door."),
    ]);
    let server = Server::with_model(&model, &[]);
    let ended = Chat::on(&server).ask("The door is stuck");
    assert_eq!(text_of(&ended.events), "Try the other door.");
    assert_eq!(ended.turn["status"], "COMPLETED");
    assert_eq!(model.requests().len(), 3);
}

#[test]
fn a_failing_model_gets_four_requests_and_no_more() {
    let model = ScriptedModel::start(vec![ModelReply::status(
        500,
        "retry-after: 0\r\n",
        UPSTREAM,
    )]);
    assert_fails(
        &Server::with_model(&model, &[]),
        model.url(),
        "model_unavailable",
        UNREACHED,
        "",
    );
    assert_eq!(model.requests().len(), 4);
}

#[test]
fn an_invalid_answer_ends_the_turn_as_broken_off() {
    let line = "x".repeat(10 << 20);
    for garbage in [
        ModelReply::raw("SMTP ready upstream-secret-words\r\n\r\n"),
        ModelReply::nothing(),
        ModelReply::events(format!("data: {{{UPSTREAM}\n\n")),
        ModelReply::events(format!(
            "data: {{\"choices\":[{{\"delta\":{{\"content\":\"{line}"
        )),
        ModelReply::events(chunk(json!({ "error": { "message": UPSTREAM } }))),
    ] {
        assert_fails_for(garbage, &[], "model_broken_reply", BROKEN, "");
    }
}

#[test]
fn the_text_before_the_break_is_stored() {
    for end in [
        String::new(),
        format!("data: {{{UPSTREAM}\n\n"),
        chunk(json!({ "error": { "message": UPSTREAM } })),
    ] {
        let reply = ModelReply::events(text_chunk("Try the ") + &text_chunk("other") + &end);
        assert_fails_for(reply, &[], "model_broken_reply", BROKEN, "Try the other");
    }
}

#[test]
fn a_silent_model_times_out() {
    let timeout = &["--model-timeout=1"];
    assert_fails_for(
        ModelReply::raw("").then_hang(),
        timeout,
        "model_timeout",
        LATE,
        "",
    );
    let reply = ModelReply::events(text_chunk("Try the ")).then_hang();
    assert_fails_for(reply, timeout, "model_timeout", LATE, "Try the ");
}

#[test]
fn an_answer_without_text_is_a_failure() {
    let reply = ModelReply::events(
        chunk(json!({ "choices": [{ "delta": {}, "finish_reason": "stop" }] }))
            + "data: [DONE]\n\n",
    );
    let sentence = "The assistant gave no answer. Please ask again, perhaps in other words.";
    assert_fails_for(reply, &[], "model_empty_reply", sentence, "");
}

#[test]
fn an_endless_answer_can_be_cancelled() {
    let reply = ModelReply::events(text_chunk("On ")).then_flood(text_chunk("and on "));
    let model = ScriptedModel::start(vec![reply]);
    let server = Server::with_model(&model, &[]);
    let chat = Chat::on(&server);
    chat.client
        .append_text(&chat.session, "Tell me all")
        .expect(202);
    let mut stream = Events::open(server.address, NORTHWIND, &chat.session, "since=0-0");
    let mut events = stream.read_until_text("On and on and on ");
    let path = format!("/chat/sessions/{}/cancel", chat.session);
    assert_eq!(
        chat.client.post(&path, json!({})).expect(200).data()["cancelled"],
        1
    );
    events.extend(stream.rest());
    model.wait_for_hang_up();
    assert_eq!(events[events.len() - 1].kind(), "abort");
    let messages = chat.client.messages(&chat.session, "").expect(200).data();
    assert_eq!(messages[1]["finish_reason"], "cancelled");
    assert!(messages[1]["content"] == text_of(&events).as_str());
}

#[test]
fn reasoning_is_streamed_and_stored_with_the_answer() {
    let thought =
        |text: &str| chunk(json!({ "choices": [{ "delta": { "reasoning_content": text } }] }));
    let body = thought("A door ")
        + &thought("has two sides.")
        + &text_chunk("Try the ")
        + &text_chunk("other side.")
        + &chunk(json!({ "choices": [{ "delta": {}, "finish_reason": "length" }] }))
        + &chunk(
            json!({ "choices": [], "usage": { "prompt_tokens": 11, "completion_tokens": 5 } }),
        )
        + "data: [DONE]\n\n";
    let model = ScriptedModel::start(vec![ModelReply::events(body)]);
    let server = Server::with_model(&model, &[]);
    let Ended { events, turn } =
        Chat::on(&server).ask_with(json!({ "message": "The gate squeaks", "model_tier": "SMART" }));
    assert_eq!(
        joined(&events)[1..],
        [
            json!({ "type": "start-step" }),
            json!({ "type": "reasoning-start", "id": "1" }),
            json!({ "type": "reasoning-delta", "id": "1", "delta": "A door has two sides." }),
            json!({ "type": "reasoning-end", "id": "1" }),
            json!({ "type": "text-start", "id": "2" }),
            json!({ "type": "text-delta", "id": "2", "delta": "Try the other side." }),
            json!({ "type": "text-end", "id": "2" }),
            json!({ "type": "finish-step" }),
            json!({
                "type": "finish", "finishReason": "length",
                "messageMetadata": { "usage": { "input_tokens": 11, "output_tokens": 5 } },
            }),
        ]
    );
    assert_eq!(
        turn["usage"],
        json!({ "input_tokens": 11, "output_tokens": 5 })
    );
    let message = &turn["assistant_message"];
    assert_eq!(message["content"], "Try the other side.");
    assert_eq!(message["model_tier"], "SMART");
    assert_eq!(message["finish_reason"], "length");
    assert_eq!(
        message["parts"],
        json!([
            { "type": "reasoning", "text": "A door has two sides." },
            { "type": "text", "text": "Try the other side." },
        ])
    );
    let asked = &model.requests()[0].body;
    assert_eq!(asked["model"], "deep");
    assert_eq!(asked["stream"], true);
    assert_eq!(asked["stream_options"], json!({ "include_usage": true }));
}

#[test]
fn a_failed_turns_message_is_joined_to_the_next_and_a_partial_answer_is_part_of_the_history() {
    let model = ScriptedModel::start(vec![
        ModelReply::status(404, "", UPSTREAM),
        ModelReply::answer("Which door?"),
        ModelReply::events(text_chunk("The left ")),
        ModelReply::answer("Now it opens."),
    ]);
    let server = Server::with_world_and_model(DEMO, &model, &[]);
    let chat = Chat::on(&server);
    for text in [
        "The door is stuck",
        "Are you there?",
        "The left one",
        "Go on",
    ] {
        chat.ask(text);
    }
    let histories: Vec<Vec<(String, String)>> = model
        .requests()
        .iter()
        .map(|request| {
            let messages = request.body["messages"].as_array().unwrap();
            messages[1..]
                .iter()
                .map(|message| {
                    let field = |name: &str| message[name].as_str().unwrap().to_owned();
                    (field("role"), field("content"))
                })
                .collect()
        })
        .collect();
    let whole = [
        ("user", "The door is stuck\n\nAre you there?"),
        ("assistant", "Which door?"),
        ("user", "The left one"),
        ("assistant", "The left "),
        ("user", "Go on"),
    ]
    .map(|(role, content)| (role.to_owned(), content.to_owned()));
    assert_eq!(
        histories[0],
        [("user".to_owned(), "The door is stuck".to_owned())]
    );
    assert_eq!(histories[1], whole[..1]);
    assert_eq!(histories[2], whole[..3]);
    assert_eq!(histories[3], whole);
}

#[test]
fn the_models_key_is_sent_to_the_model_and_shown_to_nobody() {
    const KEY: &str = "sk-hush-0123456789abcdef";
    let echo = format!("{UPSTREAM} {KEY}");
    let model = ScriptedModel::start(vec![ModelReply::status(401, "", &echo)]);
    let workspace = Workspace::with_demo_world();
    let mut command = workspace.command(["serve", "--listen=127.0.0.1:0", "--env=demo"]);
    command
        .args([
            "--model-fast=quick",
            "--model-smart=deep",
            "--model-url",
            model.url(),
        ])
        .env("SWITCHBOARD_MODEL_API_KEY", KEY);
    let server = Program::start(command);
    let client = server.client();
    let opened = client
        .post(NORTHWIND, "/chat/sessions", &technician())
        .data();
    let session = opened["id"].as_str().unwrap();
    let path = format!("/chat/sessions/{session}/messages");
    let appended = client.post(NORTHWIND, &path, &json!({ "message": "The door is stuck" }));
    assert_eq!(appended.status, 202, "{appended:?}");
    let events = Events::open(server.address(), NORTHWIND, session, "since=0-0").rest();
    assert_eq!(
        events[events.len() - 1].envelope,
        json!({ "type": "error", "errorText": REJECTED })
    );
    let head = &model.requests()[0].head;
    assert!(
        head.contains(&format!("authorization: Bearer {KEY}\n")),
        "{head}"
    );
    let log = server.stop();
    // The log has the endpoint's message, without the key that the message quotes.
    let line = log.iter().find(|line| line.contains("model_rejected"));
    assert!(
        line.is_some_and(|line| line.contains("401") && line.contains(UPSTREAM)),
        "{log:#?}"
    );
    assert!(!log.iter().any(|line| line.contains(KEY)), "{log:#?}");
}
