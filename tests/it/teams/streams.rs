//! Answers in personal chats, which Teams shows while they are written.

use std::sync::mpsc::channel;

use serde_json::json;

use super::connector::{Fault, stream_refusal};
use super::outbox::{Outbox, begun, end_of_reply};
use crate::scripted_model::{Reply, ScriptedModel, text_chunk};

const STOPPED: &str = "Content stream was canceled by user";
const TIMED_OUT: &str = "Content stream finished due to exceeded streaming time.";

#[test]
fn a_personal_chat_shows_typing_the_text_so_far_and_at_last_the_answer() {
    let (go_on, wait) = channel();
    let (end, wait_for_end) = channel();
    let model = ScriptedModel::start(vec![
        begun("")
            .then_wait(wait)
            .then(text_chunk("Hello "))
            .then_wait(wait_for_end)
            .then(text_chunk("there."))
            .then(end_of_reply()),
    ]);
    let outbox = Outbox::with_model(&model);
    let chat = outbox.chat();
    outbox.ask(&chat, "Hello?");
    let kinds = |count: usize| {
        outbox.connector.wait_for("the calls", |state| {
            let kinds = state.kinds(&chat.id);
            (kinds.len() >= count).then_some(kinds)
        })
    };
    assert_eq!(kinds(2), ["typing", "informative"]);
    go_on.send(()).unwrap();
    assert_eq!(kinds(3), ["typing", "informative", "streaming"]);
    end.send(()).unwrap();
    assert_eq!(
        outbox.connector.wait_for_texts(&chat.id, 1),
        ["Hello there."]
    );
    outbox.wait_for_states(&chat, "SENT");
    assert_eq!(kinds(4), ["typing", "informative", "streaming", "final"]);
    let state = outbox.connector.state();
    let calls: Vec<_> = state.calls_of(&chat.id).collect();
    assert_eq!(calls[2].text(), "Hello");
    let shown = &state.shown(&chat.id)[0];
    assert_eq!(
        shown.activity["channelData"]["feedbackLoop"],
        json!({"type": "default"})
    );
    let entities = shown.activity["entities"].as_array().unwrap();
    assert_eq!(entities.len(), 2);
    assert_eq!(
        entities[0],
        json!({"type": "streaminfo", "streamType": "final", "streamId": shown.id})
    );
    assert_eq!(entities[1]["additionalType"], json!(["AIGeneratedContent"]));
    let id = shown.id.clone();
    drop(state);
    // Feedback will refer to the stream.
    assert_eq!(outbox.last(&chat, "sent_activity_id"), id);
}

#[test]
fn stop_cancels_the_turn_and_nothing_more_is_sent_of_its_answer() {
    let (go_on, wait) = channel();
    let model = ScriptedModel::start(vec![
        begun("One ")
            .then_wait(wait)
            .then(text_chunk("two "))
            .then_hang(),
        Reply::answer("The second answer."),
    ]);
    let outbox = Outbox::with_model(&model);
    let chat = outbox.chat();
    let turn = outbox.ask(&chat, "Count!");
    outbox.connector.wait_for("a stream", |state| {
        state
            .kinds(&chat.id)
            .contains(&"streaming".to_owned())
            .then_some(())
    });
    outbox.connector.end_streams(&chat.id, STOPPED);
    go_on.send(()).unwrap();
    outbox.wait_for_states(&chat, "CANCELLED");
    model.wait_for_hang_up();
    assert_eq!(outbox.status_of(&chat, &turn), "CANCELLED");
    outbox.ask(&chat, "And now?");
    assert_eq!(
        outbox.connector.wait_for_texts(&chat.id, 1),
        ["The second answer."]
    );
    outbox.wait_for_states(&chat, "CANCELLED SENT");
}

#[test]
fn an_answer_that_takes_longer_than_a_stream_may_replaces_what_the_stream_shows() {
    let (go_on, wait) = channel();
    let (end, wait_for_end) = channel();
    let model = ScriptedModel::start(vec![
        begun("One ")
            .then_wait(wait)
            .then(text_chunk("two "))
            .then_wait(wait_for_end)
            .then(text_chunk("three"))
            .then(end_of_reply()),
    ]);
    let outbox = Outbox::with_model(&model);
    let chat = outbox.chat();
    outbox.ask(&chat, "Count!");
    let is_step = |is_refused: bool| {
        outbox.connector.wait_for("a step", |state| {
            let mut calls = state.calls_of(&chat.id);
            let is_so =
                |status: Option<u16>| status.is_some_and(|code| (code == 403) == is_refused);
            calls
                .any(|call| call.kind() == "streaming" && is_so(call.status))
                .then_some(())
        });
    };
    is_step(false);
    outbox.connector.end_streams(&chat.id, TIMED_OUT);
    go_on.send(()).unwrap();
    is_step(true);
    end.send(()).unwrap();
    assert_eq!(
        outbox.connector.wait_for_texts(&chat.id, 1),
        ["One two three"]
    );
    outbox.wait_for_states(&chat, "SENT");
    let state = outbox.connector.state();
    assert_eq!(state.kinds(&chat.id).last().unwrap(), "update");
    assert_eq!(state.shown(&chat.id).len(), 1);
}

#[test]
fn an_answer_whose_last_step_comes_too_late_replaces_what_the_stream_shows() {
    let outbox = Outbox::new();
    let chat = outbox.chat();
    outbox
        .connector
        .fail_next(&chat.id, "final", stream_refusal(TIMED_OUT));
    outbox.ask(&chat, "How do I reset my password?");
    outbox.connector.wait_for_texts(&chat.id, 1);
    outbox.wait_for_states(&chat, "SENT");
    let state = outbox.connector.state();
    assert_eq!(state.kinds(&chat.id).last().unwrap(), "update");
    assert_eq!(state.shown(&chat.id).len(), 1);
}

#[test]
fn the_last_step_of_a_stream_whose_reply_was_lost_counts_as_sent_when_a_second_one_is_refused() {
    let outbox = Outbox::new();
    let chat = outbox.chat();
    outbox
        .connector
        .fail_next(&chat.id, "final", Fault::LoseReply);
    outbox.ask(&chat, "How do I reset my password?");
    outbox.pause_after(&chat, 1);
    outbox.server.advance_clock(10_000);
    outbox.wait_for_states(&chat, "SENT");
    let state = outbox.connector.state();
    let finals: Vec<Option<u16>> = state
        .calls_of(&chat.id)
        .filter(|call| call.kind() == "final")
        .map(|call| call.status)
        .collect();
    assert_eq!(finals, [None, Some(403)]);
    assert_eq!(state.shown(&chat.id).len(), 1);
}

#[test]
fn a_chat_in_which_no_stream_is_allowed_gets_one_message() {
    let outbox = Outbox::new();
    let chat = outbox.chat();
    for kind in ["informative", "streaming"] {
        let refusal = stream_refusal("Content stream is not allowed");
        outbox.connector.fail_next(&chat.id, kind, refusal);
    }
    outbox.ask(&chat, "How do I reset my password?");
    outbox.connector.wait_for_texts(&chat.id, 1);
    outbox.wait_for_states(&chat, "SENT");
    let state = outbox.connector.state();
    assert_eq!(state.kinds(&chat.id).last().unwrap(), "message");
    assert_eq!(state.shown(&chat.id).len(), 1);
}

#[test]
fn a_step_that_fails_is_left_out_and_the_next_one_has_the_text_so_far() {
    let (go_on, wait) = channel();
    let model = ScriptedModel::start(vec![
        begun("One ")
            .then_wait(wait)
            .then(text_chunk("two"))
            .then(end_of_reply()),
    ]);
    let outbox = Outbox::with_model(&model);
    let chat = outbox.chat();
    for fault in [
        Fault::Cut,
        Fault::Refuse(500, "", json!({})),
        Fault::Refuse(429, "retry-after: 1\r\n", json!({})),
    ] {
        outbox.connector.fail_next(&chat.id, "*", fault);
    }
    outbox.ask(&chat, "Count!");
    outbox.connector.wait_for("a step", |state| {
        let mut calls = state.calls_of(&chat.id);
        calls.any(|call| call.status == Some(201)).then_some(())
    });
    go_on.send(()).unwrap();
    assert_eq!(outbox.connector.wait_for_texts(&chat.id, 1), ["One two"]);
    outbox.wait_for_states(&chat, "SENT");
}

#[test]
fn an_answer_that_was_being_shown_when_the_server_stopped_ends_its_stream_after_the_start() {
    let (_never, wait) = channel();
    let model = ScriptedModel::start(vec![
        begun("One ").then_wait(wait),
        Reply::answer("One two three"),
    ]);
    let outbox = Outbox::with_model(&model);
    let chat = outbox.chat();
    outbox.ask(&chat, "Count!");
    outbox.connector.wait_for("a stream", |state| {
        state
            .kinds(&chat.id)
            .contains(&"streaming".to_owned())
            .then_some(())
    });
    crate::watchdog::until("the stream is recorded", || {
        !outbox.last(&chat, "stream_id").is_empty()
    });
    let outbox = outbox.restarted();
    assert_eq!(
        outbox.connector.wait_for_texts(&chat.id, 1),
        ["One two three"]
    );
    outbox.wait_for_states(&chat, "SENT");
    let state = outbox.connector.state();
    let started = state
        .calls_of(&chat.id)
        .filter(|call| call.status == Some(201));
    assert_eq!(started.count(), 1);
}

#[test]
fn a_turn_that_fails_tells_its_error_and_one_that_is_cancelled_ends_its_stream() {
    let (_never, wait) = channel();
    let model = ScriptedModel::start(vec![
        Reply::status(401, "", "{}"),
        begun("One ").then_wait(wait),
    ]);
    let outbox = Outbox::with_model(&model);
    let chat = outbox.chat();
    outbox.ask(&chat, "Hello?");
    let texts = outbox.connector.wait_for_texts(&chat.id, 1);
    assert!(texts[0].starts_with("The assistant"), "{texts:?}");
    let before = outbox.connector.state().calls.len();
    outbox.ask(&chat, "Again?");
    outbox.connector.wait_for("a stream", |state| {
        let mut calls = state.calls[before..].iter();
        calls.any(|call| call.kind() == "streaming").then_some(())
    });
    let path = format!("/chat/sessions/{}/cancel", chat.session);
    outbox.server.northwind().post(&path, json!({})).expect(200);
    assert_eq!(outbox.connector.wait_for_texts(&chat.id, 2)[1], "One");
    outbox.wait_for_states(&chat, "SENT SENT");
}
