//! The slots of the turn queue: no tenant can take them all.

use serde_json::json;

use crate::event_reader::Events;
use crate::scripted_model::{Reply as ModelReply, ScriptedModel, text_chunk};
use crate::support::{NORTHWIND, Server, technician};

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
