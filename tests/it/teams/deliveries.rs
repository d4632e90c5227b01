//! The outbox: order, tries, tokens, and what ends a delivery.

use serde_json::json;
use switchboard::store::teams::ConversationKind;

use super::connector::Fault;
use super::outbox::{BOT, OTHER_BOT, Outbox};
use crate::scripted_model::{Reply, ScriptedModel};
use crate::support::{DAY, SECOND};
use crate::watchdog::until;

#[test]
fn a_group_sees_typing_and_then_one_message() {
    let outbox = Outbox::new();
    let group = outbox.group();
    outbox.ask(&group, "How do I reset my password?");
    outbox.connector.wait_for_texts(&group.id, 1);
    outbox.wait_for_states(&group, "SENT");
    let state = outbox.connector.state();
    let kinds = state.kinds(&group.id);
    assert!(
        kinds == ["typing", "message"] || kinds == ["message"],
        "{kinds:?}"
    );
    let shown = &state.shown(&group.id)[0];
    assert_eq!(shown.bot, BOT);
    assert_eq!(shown.activity["from"]["id"], format!("28:{BOT}"));
    assert_eq!(shown.activity["textFormat"], "markdown");
}

#[test]
fn a_delivery_waits_as_long_as_the_connector_asks_and_those_after_it_wait_too() {
    let outbox = Outbox::new();
    let group = outbox.group();
    let busy = Fault::Refuse(429, "retry-after: 90\r\n", json!({}));
    outbox.connector.fail_next(&group.id, "message", busy);
    outbox.say(&group, "first");
    assert_eq!(outbox.pause_after(&group, 1), 90 * SECOND);
    outbox.say(&group, "second");
    outbox.say(&group, "third");
    outbox.server.advance_clock(89 * SECOND);
    outbox.say(&group, "fourth");
    assert!(outbox.connector.state().texts(&group.id).is_empty());
    outbox.server.advance_clock(SECOND);
    let texts = outbox.connector.wait_for_texts(&group.id, 4);
    assert_eq!(texts, ["first", "second", "third", "fourth"]);
    outbox.wait_for_states(&group, "SENT SENT SENT SENT");
}

#[test]
fn what_may_pass_is_tried_again_and_what_does_not_pass_is_given_up_at_once() {
    let outbox = Outbox::new();
    for (index, status) in [408, 412, 429, 500, 502, 503, 504].into_iter().enumerate() {
        let id = format!("19:again-{index}@thread.v2");
        let group = outbox.conversation(BOT, ConversationKind::Group, &id);
        outbox
            .connector
            .fail_next(&id, "message", Fault::Refuse(status, "", json!({})));
        outbox.say(&group, "hello");
        assert!(
            (SECOND..=2 * SECOND).contains(&outbox.pause_after(&group, 1)),
            "{status}"
        );
        outbox.server.advance_clock(2 * SECOND);
        outbox.wait_for_states(&group, "SENT");
    }
    for (index, (status, code)) in [
        (403, "BotNotInConversationRoster"),
        (403, "BotDisabledByAdmin"),
        (404, "ConversationNotFound"),
        (400, "BadArgument"),
        (413, "MessageSizeTooBig"),
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("19:never-{index}@thread.v2");
        let group = outbox.conversation(BOT, ConversationKind::Group, &id);
        let error = json!({"error": {"code": code, "message": "No."}});
        outbox
            .connector
            .fail_next(&id, "message", Fault::Refuse(status, "", error));
        outbox.say(&group, "hello");
        outbox.wait_for_states(&group, "GIVEN_UP");
        assert_eq!(
            outbox.last(&group, "last_error"),
            format!("the connector answered {status} {code} (No.)")
        );
    }
}

#[test]
fn a_delivery_that_fails_for_a_day_is_given_up() {
    let outbox = Outbox::new();
    let group = outbox.group();
    for _ in 0..3 {
        outbox
            .connector
            .fail_next(&group.id, "message", Fault::Refuse(503, "", json!({})));
    }
    outbox.say(&group, "hello");
    outbox.pause_after(&group, 1);
    outbox.server.advance_clock(DAY / 2);
    outbox.pause_after(&group, 2);
    outbox.server.advance_clock(DAY / 2);
    outbox.wait_for_states(&group, "GIVEN_UP");
    assert_eq!(
        outbox.last(&group, "last_error"),
        "the connector answered 503; given up after a day"
    );
    outbox.say(&group, "the next one");
    assert_eq!(
        outbox.connector.wait_for_texts(&group.id, 1),
        ["the next one"]
    );
}

#[test]
fn a_message_is_sent_again_only_if_its_reply_was_lost() {
    let outbox = Outbox::new();
    let group = outbox.group();
    outbox
        .connector
        .fail_next(&group.id, "message", Fault::LoseReply);
    outbox.say(&group, "hello");
    outbox.pause_after(&group, 1);
    outbox.server.advance_clock(2 * SECOND);
    outbox.wait_for_states(&group, "SENT");
    let state = outbox.connector.state();
    let lost: Vec<bool> = state
        .shown(&group.id)
        .iter()
        .map(|shown| shown.is_reply_lost)
        .collect();
    assert_eq!(lost, [true, false]);
}

#[test]
fn a_long_answer_is_several_messages_of_which_none_is_sent_twice() {
    let text = "A sentence of the long answer. ".repeat(1_500);
    let model = ScriptedModel::start(vec![Reply::answer(&text)]);
    let outbox = Outbox::with_model(&model);
    let group = outbox.group();
    let busy = |id: &str| {
        outbox
            .connector
            .fail_next(id, "message", Fault::Refuse(503, "", json!({})))
    };
    busy(&group.id);
    outbox.ask(&group, "Tell me all.");
    outbox.pause_after(&group, 1);
    outbox.server.advance_clock(2 * SECOND);
    let texts = outbox.connector.wait_for_texts(&group.id, 3);
    outbox.wait_for_states(&group, "SENT");
    assert_eq!(texts.join(" "), text.trim_end());
    let state = outbox.connector.state();
    let shown = state.shown(&group.id);
    assert_eq!(shown.len(), 3);
    let have_buttons: Vec<bool> = shown
        .iter()
        .map(|shown| shown.activity["channelData"].is_object())
        .collect();
    assert_eq!(have_buttons, [false, false, true]);
    let last = shown[2].id.clone();
    drop(state);
    assert_eq!(outbox.last(&group, "sent_activity_id"), last);
    assert_eq!(outbox.last(&group, "parts_sent"), "3");
}

#[test]
fn a_bot_fetches_its_token_once_and_again_when_the_connector_refuses_it() {
    let outbox = Outbox::new();
    let groups: Vec<_> = (0..8)
        .map(|index| {
            let id = format!("19:{index}@thread.v2");
            outbox.conversation(BOT, ConversationKind::Group, &id)
        })
        .collect();
    for group in &groups {
        outbox.say(group, "hello");
    }
    for group in &groups {
        outbox.wait_for_states(group, "SENT");
    }
    let directory = "/ca5cade0-4ce5-4d0e-9b1d-0f0a51deca5e/oauth2/v2.0/token";
    assert_eq!(outbox.connector.state().logins, [directory]);
    outbox.connector.revoke_tokens();
    outbox.say(&groups[0], "again");
    outbox.wait_for_states(&groups[0], "SENT SENT");
    assert_eq!(outbox.connector.state().logins, [directory; 2]);
    // Shortly before it expires, it is fetched anew.
    outbox.server.advance_clock(3_300 * SECOND);
    outbox.say(&groups[0], "later");
    outbox.wait_for_states(&groups[0], "SENT SENT SENT");
    assert_eq!(outbox.connector.state().logins.len(), 3);
}

#[test]
fn a_bot_without_a_token_tries_again_and_says_why() {
    let outbox = Outbox::new();
    let group = outbox.group();
    outbox.connector.refuse_logins(Some(401));
    outbox.say(&group, "hello");
    outbox.pause_after(&group, 1);
    let error = outbox.last(&group, "last_error");
    assert!(
        error.ends_with(
            "answered 401 (AADSTS7000215): the client secret is wrong: enter the secret's value, not its id"
        ),
        "{error}"
    );
    outbox.connector.refuse_logins(None);
    // A failed login answers the calls of the next two seconds.
    until("the delivery is sent", || {
        std::thread::sleep(std::time::Duration::from_millis(20));
        let next_at: i64 = outbox.last(&group, "next_at").parse().unwrap();
        outbox
            .server
            .advance_clock((next_at - outbox.server.app.store.now()).max(0));
        outbox.states(&group) == "SENT"
    });
    let unknown = outbox.conversation("unknown-bot", ConversationKind::Group, "19:u@thread.v2");
    outbox.say(&unknown, "hello");
    outbox.pause_after(&unknown, 1);
    assert_eq!(
        outbox.last(&unknown, "last_error"),
        "--teams-bots does not list the bot unknown-bot"
    );
}

#[test]
fn a_host_that_does_not_answer_holds_up_the_conversations_of_its_bot_only() {
    let outbox = Outbox::new();
    for index in 0..40 {
        let id = format!("19:dead-{index}@thread.v2");
        let dead = outbox.conversation(OTHER_BOT, ConversationKind::Group, &id);
        outbox.connector.fail_next(&id, "message", Fault::Hang);
        outbox.say(&dead, "hello");
    }
    let group = outbox.group();
    outbox.say(&group, "hello");
    outbox.wait_for_states(&group, "SENT");
    assert!(outbox.connector.faults_left() < 40);
}

#[test]
fn what_waits_is_sent_after_a_restart_in_order() {
    let outbox = Outbox::new();
    let group = outbox.group();
    outbox.stop_worker();
    outbox.say(&group, "first");
    outbox.say(&group, "second");
    let outbox = outbox.restarted();
    assert_eq!(
        outbox.connector.wait_for_texts(&group.id, 2),
        ["first", "second"]
    );
    outbox.wait_for_states(&group, "SENT SENT");
}

#[test]
fn the_answer_of_a_cancelled_turn_or_of_a_deleted_session_is_not_sent() {
    let (_never, wait) = std::sync::mpsc::channel();
    let (_neither, wait_too) = std::sync::mpsc::channel();
    let model = ScriptedModel::start(vec![
        super::outbox::begun("One ").then_wait(wait),
        super::outbox::begun("One ").then_wait(wait_too),
    ]);
    let outbox = Outbox::with_model(&model);
    let group = outbox.group();
    outbox.ask(&group, "Count!");
    let path = format!("/chat/sessions/{}", group.session);
    let northwind = outbox.server.northwind();
    northwind
        .post(&format!("{path}/cancel"), json!({}))
        .expect(200);
    outbox.wait_for_states(&group, "CANCELLED");
    outbox.ask(&group, "Count!");
    northwind.delete(&path).expect(204);
    // The deliveries go with their turns.
    outbox.wait_for_states(&group, "");
    outbox.say(&group, "hello");
    assert_eq!(outbox.connector.wait_for_texts(&group.id, 1), ["hello"]);
}
