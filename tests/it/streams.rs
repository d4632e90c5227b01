//! The stream of answers as readers see it: where it starts, its exact events, how it ends.

use std::collections::HashSet;

use serde_json::{Value, json};
use switchboard::model::ids::KeyId;
use switchboard::store::keys;

use crate::event_reader::{Event, Events, Next, joined, pair, text_of};
use crate::scripted_model::{Reply as ModelReply, ScriptedModel, text_chunk};
use crate::support::{ApiClient, CONTOSO, NORTHWIND, Server, from, technician};
use crate::wire::Request;

/// A conversation of Northwind's account.
struct Chat<'a> {
    server: &'a Server,
    client: ApiClient,
    session: String,
}

impl<'a> Chat<'a> {
    fn on(server: &'a Server) -> Self {
        let client = server.northwind();
        let session = client.session(technician());
        Self {
            server,
            client,
            session,
        }
    }

    #[track_caller]
    fn append_text(&self, text: &str) -> Turn {
        let data = self
            .client
            .append_text(&self.session, text)
            .expect(202)
            .data();
        Turn {
            id: data["chat_turn_id"].as_str().unwrap().to_owned(),
            since: data["since_cursor"].as_str().unwrap().to_owned(),
        }
    }

    fn stream(&self, query: &str) -> Events {
        Events::open(self.server.address, NORTHWIND, &self.session, query)
    }

    fn stream_of(&self, turn: &Turn) -> Events {
        self.stream(&format!("since={}", turn.since))
    }

    /// Requests a stream that the server refuses.
    fn request_stream(&self, query: &str) -> crate::wire::Reply {
        self.client
            .get(&format!("/chat/sessions/{}/events?{query}", self.session))
    }

    /// Appends a message and reads the answer to its end.
    fn read_answer(&self, text: &str) -> (Turn, Vec<Event>) {
        let turn = self.append_text(text);
        let events = self.stream_of(&turn).rest();
        (turn, events)
    }

    fn read_turn(&self, turn: &Turn) -> Value {
        let looked = self.client.turn(&self.session, &turn.id, "wait_seconds=60");
        looked.expect(200).data()
    }

    /// The answer of a turn in the list of messages.
    fn answer_to(&self, turn: &Turn) -> Value {
        let list = self
            .client
            .messages(&self.session, "page_size=200")
            .expect(200)
            .data();
        let answers: Vec<&Value> = (list.as_array().unwrap().iter())
            .filter(|item| item["role"] == "assistant" && item["chat_turn_id"] == turn.id.as_str())
            .collect();
        assert_eq!(answers.len(), 1, "{list}");
        answers[0].clone()
    }

    fn cancel(&self) -> u64 {
        let path = format!("/chat/sessions/{}/cancel", self.session);
        let data = self.client.post(&path, json!({})).expect(200).data();
        data["cancelled"].as_u64().unwrap()
    }

    fn rate(&self, message: &str, body: Value) -> crate::wire::Reply {
        let path = format!(
            "/public-api/chat/sessions/{}/messages/{message}/feedback",
            self.session
        );
        self.client.send(Request::new("PUT", path).json(&body))
    }
}

struct Turn {
    id: String,
    since: String,
}

fn kinds(events: &[Event]) -> Vec<&str> {
    events.iter().map(Event::kind).collect()
}

fn message_id(events: &[Event]) -> &str {
    events[0].envelope["messageId"].as_str().unwrap()
}

fn start_of(message: &Value, turn: &Turn) -> Value {
    json!({ "type": "start", "messageId": message["id"], "messageMetadata": { "chat_turn_id": turn.id } })
}

/// A model's reply that hangs after these words.
fn reply_without_end(words: &[&str]) -> ModelReply {
    let text: String = words.iter().map(|word| text_chunk(word)).collect();
    ModelReply::events(text).then_hang()
}

#[test]
fn a_stream_has_headers_for_proxies_and_clients() {
    let server = Server::answering(&[]);
    let chat = Chat::on(&server);
    let turn = chat.append_text("Hello");
    let stream = chat.stream_of(&turn);
    assert_eq!(stream.status, 200);
    assert_eq!(
        stream.header("content-type"),
        Some("text/event-stream; charset=utf-8")
    );
    assert_eq!(stream.header("cache-control"), Some("no-cache"));
    assert_eq!(stream.header("x-accel-buffering"), Some("no"));
    assert_eq!(stream.header("x-vercel-ai-ui-message-stream"), Some("v1"));
    stream.rest();
}

#[test]
fn a_models_turn_is_streamed_exactly() {
    let model = ScriptedModel::start(vec![ModelReply::answer("Try the other door.")]);
    let server = Server::with_model(&model, &[]);
    let chat = Chat::on(&server);
    let (turn, events) = chat.read_answer("The gate squeaks");
    let answer = chat.answer_to(&turn);
    assert_eq!(
        joined(&events),
        [
            start_of(&answer, &turn),
            json!({ "type": "start-step" }),
            json!({ "type": "text-start", "id": "1" }),
            json!({ "type": "text-delta", "id": "1", "delta": "Try the other door." }),
            json!({ "type": "text-end", "id": "1" }),
            json!({ "type": "finish-step" }),
            json!({
                "type": "finish", "finishReason": "stop",
                "messageMetadata": { "usage": { "input_tokens": 7, "output_tokens": 3 } },
            }),
        ]
    );
    assert_eq!(answer["content"], "Try the other door.");
    assert_eq!(answer["finish_reason"], "stop");
    assert_eq!(
        answer["parts"],
        json!([{ "type": "text", "text": "Try the other door." }])
    );
}

#[test]
fn an_article_is_named_as_the_source_in_stream_and_message() {
    let server = Server::answering(&[]);
    let chat = Chat::on(&server);
    for (question, title, url) in [
        (
            "How do I connect to the VPN?",
            "Connect to the VPN",
            Some("https://help.northwind-it.example/vpn"),
        ),
        (
            "The printer does not print",
            "The printer does not print",
            None,
        ),
    ] {
        let (turn, events) = chat.read_answer(question);
        let answer = chat.answer_to(&turn);
        let envelopes = joined(&events);
        assert_eq!(envelopes[0], start_of(&answer, &turn));
        assert_eq!(
            envelopes[1..3],
            [
                json!({ "type": "start-step" }),
                json!({ "type": "text-start", "id": "1" })
            ]
        );
        assert_eq!(
            envelopes[envelopes.len() - 1],
            json!({ "type": "finish", "finishReason": "stop" })
        );
        assert_eq!(
            envelopes[envelopes.len() - 2],
            json!({ "type": "finish-step" })
        );
        let is_source = |value: &&Value| value["type"].as_str().unwrap().starts_with("source-");
        let sources: Vec<&Value> = envelopes.iter().filter(is_source).collect();
        let id = sources[0]["sourceId"].as_str().unwrap();
        assert!(id.starts_with("art_"));
        let source = match url {
            Some(url) => {
                json!({ "type": "source-url", "sourceId": id, "url": url, "title": title })
            }
            None => json!({
                "type": "source-document", "sourceId": id, "mediaType": "text/markdown", "title": title,
            }),
        };
        assert_eq!(sources[0], &source);
        assert_eq!(text_of(&events), answer["content"].as_str().unwrap());
        let parts = answer["parts"].as_array().unwrap();
        assert_eq!(
            parts[0],
            json!({ "type": "text", "text": answer["content"] })
        );
        assert_eq!(parts[1..].iter().collect::<Vec<_>>(), sources);
    }
}

/// An event log as version 0.1.0 stored it: deltas with their text, and a step before each.
fn log_of_0_1_0(log: &str, said: &str) -> String {
    let mut entries: Vec<Value> = serde_json::from_str(log).unwrap();
    for entry in &mut entries {
        let Some(deltas) = entry.get("deltas") else {
            continue;
        };
        let (mut cuts, mut step) = (Vec::new(), 1);
        for number in deltas["cuts"].as_array().unwrap() {
            match number.as_i64().unwrap() {
                number if number < 0 => step = -number,
                bytes => {
                    cuts.push((step, bytes));
                    step = 1;
                }
            }
        }
        *entry = json!({ "joined": { "kind": "text", "part": deltas["part"], "text": said, "cuts": cuts } });
    }
    json!(entries).to_string()
}

#[test]
fn an_answer_that_version_0_1_0_stored_is_still_readable() {
    let server = Server::answering(&[]);
    let chat = Chat::on(&server);
    let (turn, heard) = chat.read_answer("How do I connect to the VPN?");
    let within = &heard[heard.len() / 2].id;
    let seen = || {
        let rest = chat.stream(&format!("since={within}")).rest();
        (chat.answer_to(&turn), chat.stream_of(&turn).rest(), rest)
    };
    let before = seen();
    assert_eq!(joined(&before.1), joined(&heard));
    let (answer, quoted) = (&before.0, |text: &str| text.replace('\'', "''"));
    let parts = quoted(&answer["parts"].to_string());
    assert_eq!(
        server.execute_sql(&format!(
            "UPDATE messages SET parts = '{parts}' WHERE parts LIKE '%\"bytes\":%'"
        )),
        1
    );
    let log: String = server.stored("SELECT log FROM turn_logs");
    let older = log_of_0_1_0(&log, answer["content"].as_str().unwrap());
    assert!(older.len() > log.len(), "{older}");
    let older = quoted(&older);
    assert_eq!(
        server.execute_sql(&format!("UPDATE turn_logs SET log = '{older}'")),
        1
    );
    assert_eq!(seen(), before);
}

#[test]
fn the_first_turn_starts_at_0_0_and_every_other_at_an_unused_cursor() {
    let server = Server::answering(&[]);
    let chat = Chat::on(&server);
    let turns: Vec<(Turn, Vec<Event>)> = (0..5).map(|_| chat.read_answer("Hello")).collect();
    assert_eq!(turns[0].0.since, "0-0");
    let mut seen = HashSet::new();
    for (turn, events) in &turns {
        assert!(seen.insert(turn.since.clone()));
        for event in events {
            assert!(seen.insert(event.id.clone()));
        }
    }
    let in_order: Vec<(u64, u64)> = turns
        .iter()
        .flat_map(|(turn, events)| {
            std::iter::once(pair(&turn.since)).chain(events.iter().map(|event| pair(&event.id)))
        })
        .collect();
    assert!(in_order.is_sorted());
}

#[test]
fn a_reader_of_a_queued_turn_never_gets_another_turns_envelopes() {
    let model = ScriptedModel::start(vec![
        reply_without_end(&["First "]),
        ModelReply::answer("The second answer."),
        ModelReply::answer("The third answer."),
    ]);
    let server = Server::with_model(&model, &["--model-timeout=1"]);
    let chat = Chat::on(&server);
    let first = chat.append_text("One");
    let mut running = chat.stream_of(&first);
    running.read_until_text("First ");
    let (second, third) = (chat.append_text("Two"), chat.append_text("Three"));
    let (of_second, of_third) = (chat.stream_of(&second), chat.stream_of(&third));
    let (of_second, of_third) = (of_second.rest(), of_third.rest());
    assert_eq!(running.rest().last().unwrap().kind(), "error");
    assert_eq!(
        of_second[0].envelope,
        start_of(&chat.answer_to(&second), &second)
    );
    assert_eq!(text_of(&of_second), "The second answer.");
    assert_eq!(
        of_third[0].envelope,
        start_of(&chat.answer_to(&third), &third)
    );
    assert_eq!(text_of(&of_third), "The third answer.");
}

#[test]
fn without_a_cursor_a_reader_gets_the_newest_turn() {
    let server = Server::answering(&[]);
    let chat = Chat::on(&server);
    chat.read_answer("Hello");
    let (newest, events) = chat.read_answer("Who are you?");
    let again = chat.stream("").rest();
    assert_eq!(message_id(&again), message_id(&events));
    assert_eq!(
        again[0].envelope,
        start_of(&chat.answer_to(&newest), &newest)
    );
    assert_eq!(joined(&again), joined(&events));
}

#[test]
fn the_header_overrides_since() {
    let server = Server::answering(&[]);
    let chat = Chat::on(&server);
    let (first, _) = chat.read_answer("Hello");
    let (second, events) = chat.read_answer("Who are you?");
    let read = Events::ask(
        server.address,
        NORTHWIND,
        &chat.session,
        &format!("since={}", first.since),
        &format!("last-event-id: {}\r\n", second.since),
    );
    assert_eq!(joined(&read.rest()), joined(&events));
}

#[test]
fn a_malformed_or_future_cursor_is_refused() {
    let server = Server::answering(&[]);
    let chat = Chat::on(&server);
    let (_, events) = chat.read_answer("Hello");
    let malformed = "is not a stream cursor; send a cursor from this stream or leave it out";
    for bad in [
        "",
        "0",
        "-",
        "0-",
        "-0",
        "0-0-0",
        "00-0",
        "0-4096",
        "+1-0",
        "1-x",
        "1 -0",
        "9999999999999999-0",
    ] {
        let query: String = form_urlencoded::Serializer::new(String::new())
            .append_pair("since", bad)
            .finish();
        chat.request_stream(&query)
            .refused_field("since", malformed);
        if !bad.is_empty() {
            let request = Request::new(
                "GET",
                format!("/public-api/chat/sessions/{}/events", chat.session),
            );
            let refused = chat.client.send(request.header("last-event-id", bad));
            refused.refused_field("Last-Event-Id", malformed);
        }
    }
    let (millis, sequence) = pair(&events.last().unwrap().id);
    for ahead in [
        format!("{millis}-{}", sequence + 1),
        format!("{}-0", millis + 1_000),
    ] {
        for more in ["", "&resume=true"] {
            chat.request_stream(&format!("since={ahead}{more}"))
                .refused_field("since", "is ahead of all events of this session");
        }
    }
}

#[test]
fn there_is_no_stream_without_a_turn() {
    let server = Server::answering(&[]);
    let chat = Chat::on(&server);
    for query in ["", "resume=true", "since=0-0"] {
        let reply = chat.request_stream(query);
        assert_eq!(
            (reply.status, reply.text()),
            (204, String::new()),
            "{query:?}"
        );
    }
    let (turn, events) = chat.read_answer("Hello");
    let last = &events.last().unwrap().id;
    for query in [
        format!("since={last}"),
        format!("since={last}&resume=true"),
        format!("since={}&resume=true", turn.since),
        "resume=true".to_owned(),
    ] {
        let reply = chat.request_stream(&query);
        assert_eq!(
            (reply.status, reply.text()),
            (204, String::new()),
            "{query:?}"
        );
    }
}

#[test]
fn a_queued_turn_can_be_resumed() {
    let server = Server::demo();
    let chat = Chat::on(&server);
    chat.append_text("Hello");
    for query in [
        "",
        "resume=true",
        "since=0-0",
        "since=0-0&resume=true",
        "since=999999999999-0&resume=true",
    ] {
        assert_eq!(chat.stream(query).status, 200, "{query:?}");
    }
}

#[test]
fn a_follower_reads_all_later_turns_until_the_server_stops() {
    let server = Server::answering(&[]);
    let chat = Chat::on(&server);
    let mut follower = chat.stream("follow=true");
    assert_eq!(follower.status, 200);
    for text in ["Hello", "Who are you?", "How do I connect to the VPN?"] {
        let turn = chat.append_text(text);
        let events = follower.turn();
        let answer = chat.answer_to(&turn);
        assert_eq!(events[0].envelope, start_of(&answer, &turn));
        assert_eq!(text_of(&events), answer["content"].as_str().unwrap());
    }
    let mut late = chat.stream("follow=true&since=0-0");
    let twice: Vec<Event> = (0..3).flat_map(|_| late.turn()).collect();
    assert_eq!(
        kinds(&twice)
            .iter()
            .filter(|kind| **kind == "start")
            .count(),
        3
    );
    let mut idle = chat.stream(&format!(
        "follow=true&resume=true&since={}",
        twice.last().unwrap().id
    ));
    assert_eq!(idle.status, 200);
    server.app.drain();
    for stream in [&mut follower, &mut late, &mut idle] {
        assert_eq!(stream.next(), Next::Done);
        assert_eq!(stream.next(), Next::End);
    }
}

#[test]
fn a_replay_from_every_cursor_gives_exactly_the_rest() {
    let words = ["Zürich ", "has ", "🦀 ", "and ", "snow "];
    let model = ScriptedModel::start(vec![reply_without_end(&words), ModelReply::answer("Next.")]);
    let server = Server::with_model(&model, &[]);
    let chat = Chat::on(&server);
    let turn = chat.append_text("What is there?");
    let mut live = chat.stream_of(&turn);
    let mut events = live.read_until_text("snow ");
    chat.cancel();
    events.extend(live.rest());
    assert_eq!(
        kinds(&events),
        [
            "start",
            "start-step",
            "text-start",
            "text-delta",
            "text-delta",
            "text-delta",
            "text-delta",
            "text-delta",
            "text-end",
            "abort",
        ]
    );
    // Events after the turn's end belong to another turn.
    chat.read_answer("And then?");
    for (at, event) in events.iter().enumerate() {
        if event.is_terminal() {
            continue;
        }
        let rest = chat.stream(&format!("since={}", event.id)).rest();
        assert_eq!(
            joined(&rest),
            joined(&events[at + 1..]),
            "from {}",
            event.id
        );
        let by_header = format!("last-event-id: {}\r\n", event.id);
        let rest_again =
            Events::ask(server.address, NORTHWIND, &chat.session, "", &by_header).rest();
        assert_eq!(rest_again, rest);
    }
    let behind = chat
        .stream(&format!("since={}", events.last().unwrap().id))
        .rest();
    assert_eq!(text_of(&behind), "Next.");
}

#[test]
fn a_cancelled_turn_keeps_its_text_and_ends_with_abort() {
    let model = ScriptedModel::start(vec![reply_without_end(&["So ", "far "])]);
    let server = Server::with_model(&model, &[]);
    let chat = Chat::on(&server);
    let turn = chat.append_text("Tell me all");
    let mut stream = chat.stream_of(&turn);
    stream.read_until_text("far ");
    let waiting: Vec<Turn> = ["Two", "Three"]
        .iter()
        .map(|text| chat.append_text(text))
        .collect();
    let readers: Vec<Events> = waiting.iter().map(|turn| chat.stream_of(turn)).collect();
    assert_eq!(chat.cancel(), 3);
    assert_eq!(kinds(&stream.rest()), ["text-end", "abort"]);
    let answer = chat.answer_to(&turn);
    assert_eq!(
        (&answer["content"], &answer["finish_reason"]),
        (&json!("So far "), &json!("cancelled"))
    );
    assert_eq!(chat.read_turn(&turn)["status"], "CANCELLED");
    let mut ids = HashSet::new();
    for (turn, reader) in waiting.iter().zip(readers) {
        let events = reader.rest();
        assert_eq!(kinds(&events), ["start", "abort"]);
        assert_eq!(
            events[0].envelope["messageMetadata"]["chat_turn_id"],
            turn.id.as_str()
        );
        assert!(ids.insert(message_id(&events).to_owned()));
        let looked = chat.read_turn(turn);
        assert_eq!(
            (&looked["status"], &looked["assistant_message"]),
            (&json!("CANCELLED"), &json!(null))
        );
    }
    model.wait_for_hang_up();
    assert_eq!(model.requests().len(), 1);
    assert_eq!(chat.cancel(), 0);
}

#[test]
fn a_reset_ends_the_turns_with_abort() {
    let model = ScriptedModel::start(vec![reply_without_end(&["So ", "far "])]);
    let server = Server::with_model(&model, &[]);
    let chat = Chat::on(&server);
    let turn = chat.append_text("Tell me all");
    let mut stream = chat.stream_of(&turn);
    stream.read_until_text("far ");
    let waiting = chat.append_text("And more");
    let reader = chat.stream_of(&waiting);
    chat.client.reset_session(&chat.session).expect(200);
    assert_eq!(kinds(&stream.rest()), ["text-end", "abort"]);
    assert_eq!(kinds(&reader.rest()), ["start", "abort"]);
    assert_eq!(chat.answer_to(&turn)["finish_reason"], "cancelled");
    chat.client.reset_session(&chat.session).expect(200);
}

#[test]
fn a_failed_turn_has_a_message_and_keeps_its_text() {
    let model = ScriptedModel::start(vec![ModelReply::events(
        text_chunk("Half an ") + &text_chunk("answer"),
    )]);
    let server = Server::with_model(&model, &[]);
    let chat = Chat::on(&server);
    let (turn, events) = chat.read_answer("Tell me all");
    let sentence = "The assistant's answer broke off. Please try again.";
    let answer = chat.answer_to(&turn);
    assert_eq!(
        joined(&events)[2..],
        [
            json!({ "type": "text-start", "id": "1" }),
            json!({ "type": "text-delta", "id": "1", "delta": "Half an answer" }),
            json!({ "type": "text-end", "id": "1" }),
            json!({ "type": "error", "errorText": sentence }),
        ]
    );
    assert_eq!(
        (&answer["content"], &answer["finish_reason"]),
        (&json!("Half an answer"), &json!("error"))
    );
    let looked = chat.read_turn(&turn);
    assert_eq!(looked["status"], "FAILED");
    assert_eq!(
        looked["error"],
        json!({ "code": "model_broken_reply", "message": sentence })
    );
    assert_eq!(looked["assistant_message"]["id"], answer["id"]);
}

#[test]
fn the_deletion_of_a_session_breaks_its_streams() {
    let model = ScriptedModel::start(vec![reply_without_end(&["So ", "far "])]);
    let server = Server::with_model(&model, &[]);
    let chat = Chat::on(&server);
    let turn = chat.append_text("Tell me all");
    let mut reader = chat.stream_of(&turn);
    reader.read_until_text("far ");
    let mut waits = chat.stream_of(&chat.append_text("And more"));
    chat.client.delete_session(&chat.session).expect(204);
    for stream in [&mut reader, &mut waits] {
        // Pending events may still arrive, but never one that looks like the end of the answer.
        let broken = loop {
            match stream.next() {
                Next::Event(event) => assert!(!event.is_terminal(), "{event:?}"),
                end @ (Next::Done | Next::End | Next::Broken | Next::Cut) => break end,
            }
        };
        assert_eq!(broken, Next::Broken);
    }
    chat.request_stream("").not_found();
}

#[test]
fn a_follower_whose_token_or_key_is_revoked_sees_nothing_of_the_next_turn() {
    const SECOND_KEY: &str = "neo_sk_demo_second00000000000";
    let server = Server::answering(&[]);
    server.import_tenant(
        "northwind-it",
        json!({ "api_keys": [{ "name": "second", "key": SECOND_KEY }] }),
    );
    let chat = Chat::on(&server);
    let minted = chat
        .client
        .mint_token(json!({ "session_id": chat.session }))
        .expect(201)
        .data();
    let token = minted["token"].as_str().unwrap();
    let mut followers = [SECOND_KEY, token]
        .map(|credential| Events::open(server.address, credential, &chat.session, "follow=true"));
    let mut stays = chat.stream("follow=true");
    chat.append_text("Hello");
    for follower in &mut followers {
        follower.turn();
    }
    stays.turn();
    let jti = minted["jti"].as_str().unwrap();
    chat.client.delete(&format!("/sessions/{jti}")).expect(204);
    let key: Vec<u8> = server.stored("SELECT id FROM api_keys WHERE name = 'second'");
    let key = KeyId::from_bytes(key.try_into().unwrap());
    server
        .app
        .store
        .write_now(move |tx| keys::revoke(tx, key))
        .unwrap();
    chat.append_text("Hello");
    for follower in &mut followers {
        assert_eq!(follower.next(), Next::Broken);
    }
    stays.turn();
}

#[test]
fn an_answer_is_rated_and_only_an_answer() {
    let server = Server::answering(&[]);
    let chat = Chat::on(&server);
    let (turn, events) = chat.read_answer("Hello");
    let answer = message_id(&events);
    assert_eq!(chat.answer_to(&turn)["feedback"], json!(null));
    for (body, shown) in [
        (
            json!({ "rating": "UP", "comment": "Quick" }),
            json!({ "rating": "UP", "comment": "Quick" }),
        ),
        (
            json!({ "rating": "DOWN" }),
            json!({ "rating": "DOWN", "comment": null }),
        ),
        (json!({ "rating": null }), json!(null)),
    ] {
        chat.rate(answer, body).expect(200);
        assert_eq!(chat.answer_to(&turn)["feedback"], shown);
    }
    chat.rate(answer, json!({ "rating": "SIDEWAYS" }))
        .refused(400, "validation_error");
    let list = chat.client.messages(&chat.session, "").expect(200).ids();
    chat.rate(&list[0], json!({ "rating": "UP" }))
        .refused(400, "validation_error");
    let absent = "msg_019ab697-e807-7000-8000-000000000000";
    chat.rate(absent, json!({ "rating": "UP" })).not_found();
}

#[test]
fn a_script_gets_its_answer_with_two_calls() {
    let model = ScriptedModel::start(vec![ModelReply::answer("Try the other door.")]);
    let server = Server::with_model(&model, &[]);
    let chat = Chat::on(&server);
    let turn = chat.append_text("The door is stuck");
    let looked = chat.read_turn(&turn);
    assert_eq!(looked["status"], "COMPLETED");
    assert_eq!(looked["error"], json!(null));
    assert_eq!(
        looked["usage"],
        json!({ "input_tokens": 7, "output_tokens": 3 })
    );
    assert_eq!(looked["assistant_message"], chat.answer_to(&turn));
    for time in ["queued_at", "started_at", "finished_at"] {
        assert!(looked[time].is_string(), "{looked}");
    }
}

#[test]
fn any_number_of_readers_read_the_same() {
    let server = Server::answering(&[]);
    let relay = server.relay();
    let session = relay.session(from(CONTOSO));
    let guest = relay
        .mint_token(json!({ "session_id": session }))
        .expect(201)
        .data();
    let guest = guest["token"].as_str().unwrap().to_owned();
    relay
        .append_text(&session, "How do I connect to the VPN?")
        .expect(202);
    let readers: Vec<Events> = (0..20)
        .map(|_| Events::open(server.address, &guest, &session, "since=0-0"))
        .collect();
    let read: Vec<Vec<Value>> = readers
        .into_iter()
        .map(|reader| joined(&reader.rest()))
        .collect();
    assert!(read.iter().all(|one| *one == read[0]));
}
