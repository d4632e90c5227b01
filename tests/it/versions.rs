//! Questions that are answered again or changed: their turns, their answers, and who may do it.

use std::sync::mpsc::{Sender, channel};

use serde_json::{Value, json};
use switchboard::model::words::Role;
use switchboard::store::check;

use crate::event_reader::{Events, text_of};
use crate::scripted_model::{Reply as ModelReply, ScriptedModel, text_chunk};
use crate::sign_in::signed_in;
use crate::support::{ApiClient, CONTOSO, NORTHWIND, Server, from, technician};
use crate::wire::{Reply, Request};

/// A server whose model gives these answers, one after another.
fn answering(answers: &[&str]) -> (ScriptedModel, Server) {
    let replies = answers.iter().map(|text| ModelReply::answer(text));
    let model = ScriptedModel::start(replies.collect());
    let server = Server::with_model(&model, &[]);
    (model, server)
}

fn regenerate(client: &ApiClient, session: &str, message: &str) -> Reply {
    client.send(Request::new(
        "POST",
        format!("/chat/sessions/{session}/messages/{message}/regenerate"),
    ))
}

fn edit(client: &ApiClient, session: &str, message: &str, text: &str) -> Reply {
    let path = format!("/chat/sessions/{session}/messages/{message}");
    client.patch(&path, json!({ "message": text }))
}

/// The turn of an accepted message, after its end.
fn ended(client: &ApiClient, session: &str, accepted: &Value) -> Value {
    let turn = accepted["chat_turn_id"].as_str().unwrap();
    client
        .turn(session, turn, "wait_seconds=60")
        .expect(200)
        .data()
}

/// Asks and waits for the answer. Returns the question and the answer.
fn asks(client: &ApiClient, session: &str, text: &str) -> (String, Value) {
    let accepted = client.append_text(session, text).expect(202).data();
    let answer = ended(client, session, &accepted)["assistant_message"].clone();
    (id(&accepted["user_message_id"]), answer)
}

fn id(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// The texts of the session's messages, oldest first.
fn texts(client: &ApiClient, session: &str) -> Vec<Value> {
    let all = client.messages(session, "").expect(200).data();
    let texts = all
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["content"].clone());
    texts.collect()
}

#[test]
fn a_new_answer_takes_the_place_of_the_earlier_one_which_is_kept() {
    let (model, server) = answering(&["One.", "Two.", "Three.", "Four."]);
    let northwind = server.northwind();
    let session = northwind.session(technician());
    let (question, first) = asks(&northwind, &session, "Hello");
    assert_eq!(first["versions"], json!([]));
    let accepted = regenerate(&northwind, &session, &id(&first["id"]))
        .expect(202)
        .data();
    assert_eq!(accepted["user_message_id"], question.as_str());
    assert_eq!(accepted["show_agent_progress_steps"], true);
    let query = format!("since={}", accepted["since_cursor"].as_str().unwrap());
    let events = Events::open(server.address, NORTHWIND, &session, &query).rest();
    assert_eq!(text_of(&events), "Two.");
    let second = ended(&northwind, &session, &accepted)["assistant_message"].clone();
    assert_eq!(events[0].envelope["messageId"], second["id"]);
    assert_ne!(first["id"], second["id"]);
    // The question itself can be asked again, too.
    let accepted = regenerate(&northwind, &session, &question)
        .expect(202)
        .data();
    let third = ended(&northwind, &session, &accepted)["assistant_message"].clone();
    assert_eq!(texts(&northwind, &session), ["Hello", "Three."]);
    let list = northwind
        .messages(&session, "order=desc")
        .expect(200)
        .data();
    assert_eq!((&list[0], &list[1]["id"]), (&third, &json!(question)));
    assert_eq!(list[1]["chat_turn_id"], third["chat_turn_id"]);
    let version = |answer: &Value| {
        json!({
            "id": answer["id"],
            "chat_turn_id": answer["chat_turn_id"],
            "finish_reason": "stop",
            "created_at": answer["created_at"],
        })
    };
    let versions = json!([version(&first), version(&second), version(&third)]);
    assert_eq!(third["versions"], versions);
    assert_eq!(
        northwind.read_session(&session).expect(200).data()["message_count"],
        2
    );
    // An earlier answer is read through its turn, and has its own feedback.
    let earlier = id(&first["chat_turn_id"]);
    let rated = northwind.put(
        &format!(
            "/chat/sessions/{session}/messages/{}/feedback",
            id(&first["id"])
        ),
        json!({ "rating": "DOWN" }),
    );
    assert_eq!(rated.expect(200).data()["versions"], versions);
    let earlier = northwind.turn(&session, &earlier, "").expect(200).data();
    assert_eq!(earlier["assistant_message"]["content"], "One.");
    assert_eq!(earlier["assistant_message"]["feedback"]["rating"], "DOWN");
    assert_eq!(list[0]["feedback"], Value::Null);
    // The model sees the newest answer only, and none when it answers again.
    asks(&northwind, &session, "Thanks");
    let seen: Vec<Vec<Value>> = model
        .requests()
        .iter()
        .map(|request| {
            let messages = request.body["messages"].as_array().unwrap();
            messages[1..]
                .iter()
                .map(|one| one["content"].clone())
                .collect()
        })
        .collect();
    assert_eq!(seen[1], ["Hello"]);
    assert_eq!(seen[2], ["Hello"]);
    assert_eq!(seen[3], ["Hello", "Three.", "Thanks"]);
    assert_eq!(
        check::run(&server.app.store).unwrap().contradictions,
        Vec::<String>::new()
    );
}

#[test]
fn an_answer_without_a_word_leaves_the_earlier_one() {
    let replies = vec![
        ModelReply::answer("One."),
        ModelReply::status(401, "", "{}"),
        ModelReply::answer("Two."),
    ];
    let model = ScriptedModel::start(replies);
    let server = Server::with_model(&model, &[]);
    let northwind = server.northwind();
    let session = northwind.session(technician());
    let (question, first) = asks(&northwind, &session, "Hello");
    let accepted = regenerate(&northwind, &session, &question)
        .expect(202)
        .data();
    assert_eq!(ended(&northwind, &session, &accepted)["status"], "FAILED");
    assert_eq!(texts(&northwind, &session), ["Hello", "One."]);
    let accepted = regenerate(&northwind, &session, &id(&first["id"]))
        .expect(202)
        .data();
    ended(&northwind, &session, &accepted);
    assert_eq!(texts(&northwind, &session), ["Hello", "Two."]);
}

#[test]
fn only_the_last_question_is_answered_again_and_only_after_its_turn() {
    let server = Server::answering(&[]);
    let northwind = server.northwind();
    let session = northwind.session(technician());
    let (question, answer) = asks(&northwind, &session, "Hello");
    asks(&northwind, &session, "Hello again");
    for message in [&question, &id(&answer["id"])] {
        regenerate(&northwind, &session, message).refused(409, "message_not_last");
    }
    regenerate(
        &northwind,
        &session,
        "msg_019ab697-e807-7abc-8def-0123456789ab",
    )
    .not_found();
    let other = northwind.session(technician());
    regenerate(&northwind, &other, &question).not_found();
    northwind
        .update_session(&session, json!({ "archived": true }))
        .expect(200);
    regenerate(&northwind, &session, &question).refused(409, "session_archived");
    northwind
        .update_session(&session, json!({ "archived": false }))
        .expect(200);
    northwind
        .put("/agents/102", json!({ "state": "DISABLED" }))
        .expect(200);
    regenerate(&northwind, &session, &question).refused(409, "agent_disabled");
}

#[test]
fn a_retry_of_a_regeneration_with_its_key_queues_no_second_turn() {
    let server = Server::answering(&[]);
    let northwind = server.northwind();
    let session = northwind.session(technician());
    let (question, _) = asks(&northwind, &session, "Hello");
    let path = format!("/chat/sessions/{session}/messages/{question}/regenerate");
    let send =
        || northwind.send(Request::new("POST", path.clone()).header("Idempotency-Key", "again"));
    let first = send().expect(202).data();
    ended(&northwind, &session, &first);
    assert_eq!(send().expect(202).data(), first);
    let all = northwind.messages(&session, "").expect(200).data();
    assert_eq!(all[1]["versions"].as_array().unwrap().len(), 2);
}

/// A server whose model begins an answer and waits for a word to go on; later answers are whole.
fn hesitating() -> (ScriptedModel, Server, Sender<()>) {
    let (go_on, waits) = channel();
    let replies = vec![
        ModelReply::events(text_chunk("Old words")).then_wait(waits),
        ModelReply::answer("New answer."),
    ];
    let model = ScriptedModel::start(replies);
    let server = Server::with_model(&model, &[]);
    (model, server, go_on)
}

#[test]
fn a_message_that_is_changed_while_it_is_answered_gets_an_answer_to_the_new_text() {
    let (model, server, _go_on) = hesitating();
    let northwind = server.northwind();
    let session = northwind.session(technician());
    let accepted = northwind
        .append_text(&session, "Old zebra")
        .expect(202)
        .data();
    let message = id(&accepted["user_message_id"]);
    let mut events = Events::open(server.address, NORTHWIND, &session, "since=0-0");
    events.read_until_text("Old words");
    // What is not answered yet cannot be answered again.
    regenerate(&northwind, &session, &message).refused(409, "turn_in_progress");
    let edited = edit(&northwind, &session, &message, "New giraffe")
        .expect(200)
        .data();
    assert_eq!(
        (&edited["id"], &edited["content"]),
        (&json!(message), &json!("New giraffe"))
    );
    assert_ne!(edited["chat_turn_id"], accepted["chat_turn_id"]);
    let turn = ended(&northwind, &session, &edited);
    assert_eq!(turn["status"], "COMPLETED");
    assert_eq!(
        ended(&northwind, &session, &accepted)["status"],
        "CANCELLED"
    );
    assert_eq!(texts(&northwind, &session), ["New giraffe", "New answer."]);
    let query = format!("since={}", edited["since_cursor"].as_str().unwrap());
    let events = Events::open(server.address, NORTHWIND, &session, &query).rest();
    assert_eq!(text_of(&events), "New answer.");
    let last = model.requests().pop().unwrap();
    assert!(last.has("New giraffe") && !last.has("zebra") && !last.has("Old words"));
    assert_eq!(
        northwind.list_sessions("q=giraffe").expect(200).ids(),
        std::slice::from_ref(&session)
    );
    // The title came from the old text.
    let read = northwind.read_session(&session).expect(200).data();
    assert_eq!(read["title"], "New giraffe");
    assert_eq!(
        northwind.list_sessions("q=zebra").expect(200).data(),
        json!([])
    );
    edit(&northwind, &session, &message, "Newer").refused(409, "message_answered");
    assert_eq!(
        check::run(&server.app.store).unwrap().contradictions,
        Vec::<String>::new()
    );
}

#[test]
fn a_message_that_waits_for_another_one_is_answered_by_its_own_turn_with_the_new_text() {
    let (model, server, go_on) = hesitating();
    let northwind = server.northwind();
    let session = northwind.session(technician());
    let first = northwind.append_text(&session, "First").expect(202).data();
    let second = northwind
        .append_text(&session, "Old zebra")
        .expect(202)
        .data();
    let message = id(&second["user_message_id"]);
    edit(&northwind, &session, &id(&first["user_message_id"]), "x")
        .refused(409, "message_not_last");
    // Both engines find the old words now, and the new ones after the change.
    assert_eq!(
        northwind.list_sessions("q=zebra").expect(200).ids(),
        std::slice::from_ref(&session)
    );
    let edited = edit(&northwind, &session, &message, "New giraffe")
        .expect(200)
        .data();
    assert_eq!(edited["chat_turn_id"], second["chat_turn_id"]);
    assert_eq!(edited["since_cursor"], second["since_cursor"]);
    assert_eq!(
        northwind.list_sessions("q=zebra").expect(200).data(),
        json!([])
    );
    assert_eq!(
        northwind.list_sessions("q=giraffe").expect(200).ids(),
        std::slice::from_ref(&session)
    );
    go_on.send(()).unwrap();
    ended(&northwind, &session, &second);
    assert!(model.requests().pop().unwrap().has("New giraffe"));
}

#[test]
fn only_ones_own_last_message_is_changed() {
    let server = Server::demo();
    let (northwind, relay) = (server.northwind(), server.relay());
    let session = relay.session(from(CONTOSO));
    let body = json!({ "message": "Hello", "author": { "id": "1", "name": "Mia" } });
    let message = id(&relay.append(&session, body).expect(202).data()["user_message_id"]);
    let admin = signed_in(&server, "northwind-it", Role::Admin);
    let guest = relay.with_session_token(&session);
    for other in [&northwind, &admin, &guest] {
        edit(other, &session, &message, "Taken over").refused(403, "forbidden");
    }
    let edited = edit(&relay, &session, &message, "Hello there")
        .expect(200)
        .data();
    assert_eq!(
        edited["author"],
        json!({ "kind": "end_user", "id": "1", "name": "Mia" })
    );
    let own = id(&guest.append_text(&session, "Mine").expect(202).data()["user_message_id"]);
    edit(&relay, &session, &own, "Taken over").refused(403, "forbidden");
    edit(&guest, &session, &own, "Mine alone").expect(200);
    edit(&guest, &session, &own, "")
        .refused_field("message", "must not be empty without an attachment");
    guest
        .patch(
            &format!("/chat/sessions/{session}/messages/{own}"),
            json!({}),
        )
        .refused_field("message", "is required");
    edit(&server.fabrikam(), &session, &own, "x").not_found();
}

#[test]
fn an_answer_is_not_changed() {
    let server = Server::answering(&[]);
    let northwind = server.northwind();
    let session = northwind.session(technician());
    let (_, answer) = asks(&northwind, &session, "Hello");
    edit(&northwind, &session, &id(&answer["id"]), "x")
        .refused_field("message_id", "must be the id of a user's message");
}
