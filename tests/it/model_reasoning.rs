//! A model's thoughts: separated from its answers, and shown to those who may see them.

use std::sync::mpsc;

use serde_json::{Value, json};

use crate::cuts::TEXT_ANSWER;
use crate::event_reader::{Event, Events, joined, text_of};
use crate::scripted_model::{Reply as ModelReply, ScriptedModel, chunk, text_chunk};
use crate::support::{ApiClient, CONTOSO, Server, WOODGROVE, from, technician};

/// The thought of the model. Each test looks for this text wherever no reader may find it.
const THOUGHT: &str = "Secret plan";

/// An answer in these pieces.
fn answer(pieces: &[&str]) -> ModelReply {
    let texts: String = pieces.iter().map(|piece| text_chunk(piece)).collect();
    let end = chunk(json!({ "choices": [{ "delta": {}, "finish_reason": "stop" }] }));
    ModelReply::events(texts + &end + "data: [DONE]\n\n")
}

fn tagged() -> ModelReply {
    answer(&[
        "\n<thi",
        "nk>\nSecret ",
        "plan.\n</th",
        "ink>\n\nTry the ",
        "door.",
    ])
}

fn unopened() -> ModelReply {
    answer(&["Secret ", "plan.\n</th", "ink>\n\nTry the ", "door."])
}

/// Text that a limit of length ends.
fn cut_off(pieces: &[&str]) -> ModelReply {
    let texts: String = pieces.iter().map(|piece| text_chunk(piece)).collect();
    let end = chunk(json!({ "choices": [{ "delta": {}, "finish_reason": "length" }] }));
    ModelReply::events(texts + &end + "data: [DONE]\n\n")
}

/// The number of models whose answers are known to begin within a thought.
const UNOPENED: &str = "SELECT count(*) FROM unopened_models";

/// A session and somebody who reads it.
struct Chat<'a> {
    server: &'a Server,
    client: ApiClient,
    session: String,
}

/// An ended turn.
struct Ended {
    since: String,
    events: Vec<Event>,
    turn: String,
}

impl<'a> Chat<'a> {
    fn new(server: &'a Server, client: ApiClient, body: Value) -> Self {
        let session = client.session(body);
        Self {
            server,
            client,
            session,
        }
    }

    /// A technician of Northwind.
    fn technician(server: &'a Server) -> Self {
        Self::new(server, server.northwind(), technician())
    }

    /// The same session as the holder of a session token reads it.
    fn end_user(&self) -> Self {
        Self {
            server: self.server,
            client: self.client.with_session_token(&self.session),
            session: self.session.clone(),
        }
    }

    fn open(&self, since: &str) -> Events {
        let key = self.client.authorization().unwrap();
        let key = key.strip_prefix("Bearer ").unwrap();
        let query = format!("since={since}");
        Events::open(self.server.address, key, &self.session, &query)
    }

    fn append(&self, text: &str) -> (String, String) {
        let appended = self.client.append_text(&self.session, text).expect(202);
        let field = |name: &str| appended.data()[name].as_str().unwrap().to_owned();
        (field("since_cursor"), field("chat_turn_id"))
    }

    fn ask(&self, text: &str) -> Ended {
        let (since, turn) = self.append(text);
        let events = self.open(&since).rest();
        Ended {
            since,
            events,
            turn,
        }
    }

    /// The newest answer, from the list of messages. Asserts that the turn shows the same.
    fn stored(&self, turn: &str) -> Value {
        let query = "order=desc&page_size=1";
        let listed = self
            .client
            .messages(&self.session, query)
            .expect(200)
            .data();
        let turn = self.client.turn(&self.session, turn, "wait_seconds=60");
        assert_eq!(turn.expect(200).data()["assistant_message"], listed[0]);
        listed[0].clone()
    }

    /// Asserts that this reader finds no thought, and this answer.
    #[track_caller]
    fn assert_without_thought(&self, ended: &Ended, text: &str) {
        let again = self.open(&ended.since).rest();
        assert_eq!(kinds(&again), TEXT_ANSWER);
        assert_eq!(text_of(&again), text);
        let message = self.stored(&ended.turn);
        assert_eq!(message["content"], text);
        assert_eq!(message["parts"], json!([{ "type": "text", "text": text }]));
    }

    /// Asserts that this reader finds the thought and the answer.
    #[track_caller]
    fn assert_with_thought(&self, ended: &Ended) {
        let again = self.open(&ended.since).rest();
        assert_eq!(joined(&again)[2..8], shown());
        let message = self.stored(&ended.turn);
        assert_eq!(message["content"], "Try the door.");
        assert_eq!(
            message["parts"],
            json!([
                { "type": "reasoning", "text": "Secret plan." },
                { "type": "text", "text": "Try the door." },
            ])
        );
    }
}

/// The envelopes of the thought and the answer.
fn shown() -> Vec<Value> {
    vec![
        json!({ "type": "reasoning-start", "id": "1" }),
        json!({ "type": "reasoning-delta", "id": "1", "delta": "Secret plan." }),
        json!({ "type": "reasoning-end", "id": "1" }),
        json!({ "type": "text-start", "id": "2" }),
        json!({ "type": "text-delta", "id": "2", "delta": "Try the door." }),
        json!({ "type": "text-end", "id": "2" }),
    ]
}

fn kinds(events: &[Event]) -> Vec<String> {
    let envelopes = joined(events);
    let kind = |envelope: &Value| envelope["type"].as_str().unwrap().to_owned();
    envelopes.iter().map(kind).collect()
}

fn mentions_thought(events: &[Event]) -> bool {
    json!(joined(events)).to_string().contains(THOUGHT)
}

/// The rows of the database that hold the thought.
fn stored_thoughts(server: &Server) -> i64 {
    server.stored(
        "SELECT (SELECT count(*) FROM messages WHERE content LIKE '%Secret plan%' OR parts LIKE '%Secret plan%')
              + (SELECT count(*) FROM turn_logs WHERE log LIKE '%Secret plan%')",
    )
}

fn show_to_everybody(client: &ApiClient, agent: i64) {
    let settings = json!({ "agent_settings": { "show_reasoning": true } });
    client
        .put(&format!("/agents/{agent}"), settings)
        .expect(200);
}

#[test]
fn a_technician_sees_a_thought_as_reasoning_and_an_end_user_of_the_same_session_does_not() {
    let model = ScriptedModel::start(vec![tagged()]);
    let server = Server::with_model(&model, &[]);
    let technician = Chat::technician(&server);
    let end_user = technician.end_user();
    let ended = technician.ask("The gate squeaks");
    assert_eq!(joined(&ended.events)[2..8], shown());
    technician.assert_with_thought(&ended);
    end_user.assert_without_thought(&ended, "Try the door.");
    // A cursor within the thought continues after it.
    for event in &ended.events[..ended.events.len() - 1] {
        let rest = end_user.open(&event.id).rest();
        assert!(!mentions_thought(&rest), "{}", event.id);
    }
    let message = technician.stored(&ended.turn);
    let path = format!(
        "/chat/sessions/{}/messages/{}/feedback",
        technician.session,
        message["id"].as_str().unwrap()
    );
    for (reader, parts) in [(&technician, 2), (&end_user, 1)] {
        let rated = reader
            .client
            .put(&path, json!({ "rating": "UP" }))
            .expect(200);
        assert_eq!(rated.data()["parts"].as_array().unwrap().len(), parts);
    }
    let again = end_user.ask("And now?");
    assert!(!mentions_thought(&again.events));
    assert!(!model.requests()[1].body.to_string().contains("Secret"));
    // The setting counts as it is now.
    show_to_everybody(&technician.client, 102);
    assert!(mentions_thought(&end_user.open(&ended.since).rest()));
    end_user.assert_with_thought(&again);
}

#[test]
fn a_white_label_session_shows_and_stores_no_thought_unless_the_agent_says_so() {
    let field = json!({ "choices": [{ "delta": { "reasoning": "Secret plan." } }] });
    let named =
        ModelReply::events(chunk(field) + &text_chunk("Try the door.") + "data: [DONE]\n\n");
    let model = ScriptedModel::start(vec![tagged(), named, tagged(), tagged()]);
    let server = Server::with_model(&model, &[]);
    let relay = Chat::new(&server, server.relay(), from(WOODGROVE));
    for _ in 0..2 {
        let ended = relay.ask("The gate squeaks");
        assert!(!mentions_thought(&ended.events));
        relay.assert_without_thought(&ended, "Try the door.");
        relay
            .end_user()
            .assert_without_thought(&ended, "Try the door.");
    }
    assert_eq!(stored_thoughts(&server), 0);

    show_to_everybody(&server.fabrikam(), 201);
    let ended = relay.ask("The gate squeaks");
    relay.assert_with_thought(&ended);
    relay.end_user().assert_with_thought(&ended);
    let stored = stored_thoughts(&server);

    // This channel has `show_agent_progress_steps: false`.
    show_to_everybody(&server.northwind(), 101);
    let quiet = Chat::new(&server, server.relay(), from(CONTOSO));
    let ended = quiet.ask("The gate squeaks");
    assert!(!mentions_thought(&ended.events));
    quiet.assert_without_thought(&ended, "Try the door.");
    assert_eq!(stored_thoughts(&server), stored);
}

#[test]
fn a_thought_that_ends_without_having_begun_is_corrected_learned_and_kept_over_a_restart() {
    let (go_on, waits) = mpsc::channel();
    let model = ScriptedModel::start(vec![
        unopened(),
        ModelReply::events(text_chunk("Secret ") + &text_chunk("plan."))
            .then_wait(waits)
            .then(text_chunk("\n</think>\n\nTry the door.") + "data: [DONE]\n\n"),
        unopened(),
        answer(&["No thought ", "at all."]),
    ]);
    let server = Server::with_model(&model, &[]);
    assert_eq!(server.stored::<i64>(UNOPENED), 0);
    let relay = Chat::new(&server, server.relay(), from(WOODGROVE));
    let first = relay.ask("The gate squeaks");
    relay.assert_without_thought(&first, "Try the door.");
    assert_eq!(stored_thoughts(&server), 0);
    let learned = "SELECT endpoint || ' ' || model FROM unopened_models";
    let name = format!("{}/chat/completions quick", model.url());
    assert_eq!(server.stored::<String>(learned), name);

    let technician = Chat::technician(&server);
    let end_user = technician.end_user();
    let (since, turn) = technician.append("The gate squeaks");
    let mut live = technician.open(&since);
    let mut events = Vec::new();
    while !mentions_thought(&events) {
        events.push(live.event());
    }
    let mut reads = end_user.open(&since);
    assert_eq!(
        [reads.event().kind(), reads.event().kind()],
        ["start", "start-step"]
    );
    go_on.send(()).unwrap();
    events.extend(live.rest());
    assert_eq!(joined(&events)[2..8], shown());
    assert!(!mentions_thought(&reads.rest()));
    let ended = Ended {
        since,
        events,
        turn,
    };
    technician.assert_with_thought(&ended);

    let server = server.restarted();
    let relay = Chat::new(&server, server.relay(), from(WOODGROVE));
    let third = relay.ask("The gate squeaks");
    assert_eq!(
        kinds(&third.events)[..3],
        ["start", "start-step", "text-start"]
    );
    assert!(!mentions_thought(&third.events));
    relay.assert_without_thought(&third, "Try the door.");
    let technician = Chat::technician(&server);
    let fourth = technician.ask("The gate squeaks");
    technician.assert_without_thought(&fourth, "No thought at all.");
    assert_eq!(model.requests().len(), 4);
}

#[test]
fn a_model_that_three_answers_in_a_row_show_to_begin_with_text_is_unlearned() {
    let plain = || answer(&["No thought ", "at all."]);
    let model = ScriptedModel::start(vec![
        unopened(),
        plain(),
        plain(),
        unopened(),
        plain(),
        plain(),
        cut_off(&["Secret ", "plan."]),
        plain(),
        cut_off(&["Try the ", "door."]),
    ]);
    let server = Server::with_model(&model, &[]);
    let ask = || {
        let chat = Chat::technician(&server);
        let ended = chat.ask("The gate squeaks");
        let turn = chat.client.turn(&chat.session, &ended.turn, "");
        let content = turn.expect(200).data()["assistant_message"]["content"].clone();
        (content, server.stored::<i64>(UNOPENED))
    };
    let (door, none) = (json!("Try the door."), json!("No thought at all."));
    for (content, learned) in [
        (&door, 1),
        (&none, 1),
        (&none, 1),
        (&door, 1),
        (&none, 1),
        (&none, 1),
        // An answer that was cut off within its thought shows nothing.
        (&json!(null), 1),
        (&none, 0),
        (&door, 0),
    ] {
        assert_eq!(ask(), (content.clone(), learned));
    }
}

#[test]
fn the_reader_of_a_misread_answer_gets_it_again_from_a_fresh_start() {
    let (go_on, waits) = mpsc::channel();
    let model = ScriptedModel::start(vec![
        ModelReply::events(text_chunk("Secret plan."))
            .then_wait(waits)
            .then(text_chunk("</think>Try the door.") + "data: [DONE]\n\n"),
    ]);
    let server = Server::with_model(&model, &[]);
    let technician = Chat::technician(&server);
    let (since, turn) = technician.append("The gate squeaks");
    let mut live = technician.open(&since);
    let misread = live.read_until_text("Secret plan.");
    go_on.send(()).unwrap();
    let events = live.rest();
    assert_eq!(events[0].envelope, misread[0].envelope);
    assert_eq!(joined(&events)[2..8], shown());
    let ended = Ended {
        since,
        events,
        turn,
    };
    technician.assert_with_thought(&ended);
    technician
        .end_user()
        .assert_without_thought(&ended, "Try the door.");
    // A cursor of the misread attempt continues at the fresh start.
    let rest = technician.open(&misread[2].id).rest();
    assert_eq!(rest[0].envelope, misread[0].envelope);
    assert_eq!(joined(&rest), joined(&ended.events));
}

#[test]
fn an_answer_teaches_nothing_if_it_repeats_a_tag_that_the_user_wrote() {
    let model = ScriptedModel::start(vec![unopened(), answer(&["Plain."])]);
    let server = Server::with_model(&model, &[]);
    let chat = Chat::technician(&server);
    let ended = chat.ask("Say a</THINK>b");
    // The answer may repeat the tag, so that its beginning is no thought.
    let whole = "Secret plan.\n</think>\n\nTry the door.";
    let message = chat.stored(&ended.turn);
    assert_eq!(message["content"], whole);
    assert_eq!(
        message["parts"][0],
        json!({ "type": "text", "text": whole })
    );
    assert_eq!(server.stored::<i64>(UNOPENED), 0);
}

#[test]
fn the_operator_says_how_the_models_mark_their_thoughts() {
    let texts = |flag: &str, reply: ModelReply| {
        let model = ScriptedModel::start(vec![reply]);
        let server = Server::with_model(&model, &[flag]);
        let chat = Chat::technician(&server);
        let ended = chat.ask("The gate squeaks");
        let starts = kinds(&ended.events)
            .iter()
            .filter(|kind| *kind == "start")
            .count();
        assert_eq!(server.stored::<i64>(UNOPENED), 0);
        (
            chat.stored(&ended.turn)["content"]
                .as_str()
                .unwrap()
                .to_owned(),
            starts,
        )
    };
    let text = |text: &str| (text.to_owned(), 1);
    for flag in ["--model-reasoning=unopened", "--model-reasoning=tagged"] {
        assert_eq!(texts(flag, tagged()), text("Try the door."), "{flag}");
    }
    let whole = "Secret plan.\n</think>\n\nTry the door.";
    assert_eq!(
        texts("--model-reasoning=unopened", unopened()),
        text("Try the door.")
    );
    assert_eq!(texts("--model-reasoning=tagged", unopened()), text(whole));
    assert_eq!(texts("--model-reasoning=none", unopened()), text(whole));
    let whole = format!("\n<think>\n{whole}");
    assert_eq!(texts("--model-reasoning=none", tagged()), text(&whole));
}

#[test]
fn an_answer_that_is_nothing_but_a_thought_fails_as_empty() {
    for pieces in [
        &["<think>Secret plan.</think>", " \n"][..],
        &["<think>Secret plan."],
        &["Secret plan.\n</think>\n"],
    ] {
        let model = ScriptedModel::start(vec![answer(pieces)]);
        let server = Server::with_model(&model, &[]);
        let chat = Chat::technician(&server);
        let ended = chat.ask("The gate squeaks");
        assert_eq!(ended.events[ended.events.len() - 1].kind(), "error");
        let turn = chat
            .client
            .turn(&chat.session, &ended.turn, "")
            .expect(200)
            .data();
        assert_eq!(turn["error"]["code"], "model_empty_reply");
        assert_eq!(turn["assistant_message"], json!(null));
    }
}

#[test]
fn a_right_that_is_withdrawn_between_two_turns_hides_all_of_the_second() {
    let model = ScriptedModel::start(vec![tagged()]);
    let server = Server::with_model(&model, &[]);
    let technician = Chat::technician(&server);
    let end_user = technician.end_user();
    show_to_everybody(&technician.client, 102);
    let mut follower = end_user.open("0-0&follow=true");
    technician.ask("The gate squeaks");
    assert!(mentions_thought(&follower.turn()));
    let settings = json!({ "agent_settings": { "show_reasoning": false } });
    technician.client.put("/agents/102", settings).expect(200);
    technician.ask("And now?");
    assert_eq!(kinds(&follower.turn()), TEXT_ANSWER);
}

#[test]
fn a_channel_that_hides_the_steps_hides_thoughts_in_its_earlier_sessions_too() {
    let model = ScriptedModel::start(vec![tagged()]);
    let server = Server::with_model(&model, &[]);
    show_to_everybody(&server.fabrikam(), 201);
    let relay = Chat::new(&server, server.relay(), from(WOODGROVE));
    let ended = relay.ask("The gate squeaks");
    relay.assert_with_thought(&ended);
    let session = relay.client.read_session(&relay.session).expect(200).data();
    let path = format!("/channels/{}", session["channel_id"].as_str().unwrap());
    let set = |shows: bool| {
        let body = json!({ "show_agent_progress_steps": shows });
        server.fabrikam().patch(&path, body).expect(200);
    };
    set(false);
    relay.assert_without_thought(&ended, "Try the door.");
    let stored = stored_thoughts(&server);
    let again = relay.ask("And now?");
    assert!(!mentions_thought(&again.events));
    assert_eq!(stored_thoughts(&server), stored);
    set(true);
    assert!(mentions_thought(&relay.open(&ended.since).rest()));
}

#[test]
fn a_thought_that_begins_a_later_line_is_reasoning_between_two_texts() {
    let model = ScriptedModel::start(vec![answer(&[
        "Sure.\n<thi",
        "nk>Secret plan.",
        "</think>\n\nTry the door.",
    ])]);
    let server = Server::with_model(&model, &[]);
    let technician = Chat::technician(&server);
    let ended = technician.ask("The gate squeaks");
    let message = technician.stored(&ended.turn);
    assert_eq!(message["content"], "Sure.\nTry the door.");
    assert_eq!(
        message["parts"],
        json!([
            { "type": "text", "text": "Sure.\n" },
            { "type": "reasoning", "text": "Secret plan." },
            { "type": "text", "text": "Try the door." },
        ])
    );
    let read = technician.end_user().open(&ended.since).rest();
    assert_eq!(text_of(&read), "Sure.\nTry the door.");
    assert!(!mentions_thought(&read));
}

#[test]
fn a_stored_answer_goes_to_the_model_without_the_thought_at_its_beginning() {
    let model = ScriptedModel::start(vec![answer(&["Try the door."])]);
    let server = Server::with_model(&model, &[]);
    let chat = Chat::technician(&server);
    let replace = |content: &str| {
        server.execute_sql(&format!(
            "UPDATE messages SET content = '{content}' WHERE role = 'assistant'"
        ))
    };
    chat.ask("The gate squeaks");
    assert_eq!(replace("<think>Secret plan.</think>\n\nTry the window."), 1);
    chat.ask("And now?");
    assert_eq!(replace("<think>Secret plan."), 2);
    chat.ask("And then?");
    let history = |request: usize| -> Vec<Value> {
        let body = &model.requests()[request].body;
        let messages = body["messages"].as_array().unwrap();
        let content = |message: &Value| message["content"].clone();
        messages[1..].iter().map(content).collect()
    };
    assert_eq!(
        history(1),
        ["The gate squeaks", "Try the window.", "And now?"]
    );
    assert_eq!(history(2), ["The gate squeaks\n\nAnd now?\n\nAnd then?"]);
}
