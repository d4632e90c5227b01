//! The slots of the turn queue: no tenant can take them all.

use serde_json::json;

use crate::event_reader::{Event, Events};
use crate::scripted_model::{Reply as ModelReply, ScriptedModel, text_chunk};
use crate::support::{FABRIKAM, NORTHWIND, Server, technician};

#[test]
fn a_tenant_with_many_slow_turns_leaves_a_slot_in_which_another_tenants_turn_starts_at_once() {
    let slow = ModelReply::events(text_chunk("Wait ")).then_hang();
    let mut replies = vec![slow; 7];
    replies.push(ModelReply::answer("At once."));
    let model = ScriptedModel::start(replies);
    let server = Server::with_model(&model, &["--turn-concurrency=8"]);
    let many = server.northwind();
    let sessions: Vec<String> = (0..20).map(|_| many.session(technician())).collect();
    for session in &sessions {
        many.append_text(session, "The door is stuck").expect(202);
    }
    for session in &sessions[..7] {
        Events::open(server.address, NORTHWIND, session, "since=0-0").read_until_text("Wait ");
    }

    let one = server.fabrikam();
    let session = one.session(json!({ "agent_id": 202 }));
    let appended = one.append_text(&session, "The window is stuck").expect(202);
    let turn = appended.data()["chat_turn_id"].as_str().unwrap().to_owned();
    let turn = one.turn(&session, &turn, "wait_seconds=60").expect(200);
    assert_eq!(turn.data()["assistant_message"]["content"], "At once.");
    let asked: Vec<String> = model
        .requests()
        .iter()
        .map(|request| request.body["messages"][1]["content"].to_string())
        .collect();
    assert_eq!(asked[..7], vec![json!("The door is stuck").to_string(); 7]);
    assert_eq!(asked[7..], [json!("The window is stuck").to_string()]);
}

#[test]
fn a_cancelled_turn_that_waits_for_its_tenants_share_ends_at_once() {
    let slow = ModelReply::events(text_chunk("Wait ")).then_hang();
    let model = ScriptedModel::start(vec![slow]);
    let server = Server::with_model(&model, &["--turn-concurrency=2"]);
    let client = server.northwind();
    let sessions = [(); 3].map(|()| client.session(technician()));
    for session in &sessions {
        client.append_text(session, "The door is stuck").expect(202);
    }
    let open = |session: &str| Events::open(server.address, NORTHWIND, session, "since=0-0");
    let mut running = open(&sessions[0]);
    running.read_until_text("Wait ");
    let cancel = |session: &str| {
        let path = format!("/chat/sessions/{session}/cancel");
        client.post(&path, json!({})).expect(200).data()["cancelled"].clone()
    };
    let kinds = |events: &[Event]| -> Vec<String> {
        events.iter().map(|event| event.kind().to_owned()).collect()
    };
    // A slot is free, but not for this tenant.
    assert_eq!(cancel(&sessions[1]), 1);
    assert_eq!(kinds(&open(&sessions[1]).rest()), ["start", "abort"]);
    // Another tenant takes the last slot.
    let other = server.fabrikam();
    let session = other.session(json!({ "agent_id": 202 }));
    other
        .append_text(&session, "The window is stuck")
        .expect(202);
    Events::open(server.address, FABRIKAM, &session, "since=0-0").read_until_text("Wait ");
    client
        .append_text(&sessions[2], "The lock is stuck")
        .expect(202);
    assert_eq!(cancel(&sessions[2]), 2);
    let mut events = open(&sessions[2]).rest();
    let since = events[events.len() - 1].id.clone();
    let query = format!("since={since}");
    events.extend(Events::open(server.address, NORTHWIND, &sessions[2], &query).rest());
    assert_eq!(kinds(&events), ["start", "abort", "start", "abort"]);
    // The turns behind a running one end with it, however many sessions wait.
    client
        .append_text(&sessions[1], "The lock is stuck")
        .expect(202);
    client
        .append_text(&sessions[0], "The lock is stuck")
        .expect(202);
    assert_eq!(cancel(&sessions[0]), 2);
    let aborted = running.rest();
    assert_eq!(aborted[aborted.len() - 1].kind(), "abort");
    let since = format!("since={}", aborted[aborted.len() - 1].id);
    let behind = Events::open(server.address, NORTHWIND, &sessions[0], &since).rest();
    assert_eq!(kinds(&behind), ["start", "abort"]);
    // The next turn gets the slot that is free.
    Events::open(server.address, NORTHWIND, &sessions[1], "").read_until_text("Wait ");
    assert_eq!(model.requests().len(), 3);
}
