//! The invariants of tests/it/concurrency.rs, with each second request at another node.

use std::collections::BTreeSet;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::group::Group;
use crate::concurrency::{at_once, with_status};
use crate::event_reader::Events;
use crate::process::NORTHWIND;
use crate::scripted_model::{Reply as ModelReply, ScriptedModel, text_chunk};
use crate::support::technician;
use crate::wire::Reply;

/// Turns begin and do not end by themselves.
fn hanging() -> ScriptedModel {
    ScriptedModel::start(vec![ModelReply::events(text_chunk("So ")).then_hang()])
}

#[test]
fn of_100_appends_of_one_message_at_two_nodes_one_is_accepted_and_the_others_get_its_ids() {
    let model = hanging();
    let group = Group::of_two(&model);
    let session = group.northwind(0).session(technician());
    let body = json!({ "message": "Hello", "client_message_id": "c-1" });
    let replies = at_once(100, &group.northwinds(), |client, _| {
        client.append(&session, body.clone())
    });
    let accepted = with_status(&replies, 202);
    assert_eq!((accepted.len(), with_status(&replies, 409).len()), (1, 99));
    let first = accepted[0].data();
    for reply in with_status(&replies, 409) {
        let error = reply.error();
        assert_eq!(error["code"], "duplicate_client_message");
        for id in ["user_message_id", "chat_turn_id", "since_cursor"] {
            assert_eq!(error["details"][id], first[id]);
        }
    }
    assert_eq!(group.database.number("SELECT count(*) FROM turns"), 1);
    assert_eq!(group.database.number("SELECT count(*) FROM messages"), 1);
}

#[test]
fn of_64_creates_with_one_idempotency_key_at_two_nodes_one_creates_the_session() {
    let model = hanging();
    let group = Group::of_two(&model);
    let replies = at_once(64, &group.northwinds(), |client, _| {
        client.create_session_once("k", technician())
    });
    let ids: BTreeSet<String> = replies.iter().map(Reply::id).collect();
    assert_eq!((with_status(&replies, 201).len(), ids.len()), (64, 1));
    let first = replies
        .iter()
        .filter(|reply| reply.header("idempotent-replayed").is_none());
    assert_eq!(first.count(), 1);
    assert_eq!(group.database.number("SELECT count(*) FROM sessions"), 1);

    let replies = at_once(32, &group.northwinds(), |client, number| {
        client.create_session_once(
            "other",
            json!({ "agent_id": 102, "title": number.to_string() }),
        )
    });
    let found = (
        with_status(&replies, 201).len(),
        with_status(&replies, 422).len(),
    );
    assert_eq!(found, (1, 31), "of other bodies, one wins");
    for reply in with_status(&replies, 422) {
        assert_eq!(reply.error()["code"], "idempotency_key_reused");
    }
    assert_eq!(group.database.number("SELECT count(*) FROM sessions"), 2);
}

#[test]
fn of_64_creates_with_one_external_id_at_two_nodes_one_makes_the_session() {
    let model = hanging();
    let group = Group::of_two(&model);
    let body = json!({ "agent_id": 102, "external_id": "chat-1", "if_exists": "return" });
    let replies = at_once(64, &group.northwinds(), |client, number| match number % 4 {
        0 | 1 => client.create_session(body.clone()),
        _ => client.create_session_once(&format!("k-{number}"), body.clone()),
    });
    let ids: BTreeSet<String> = replies.iter().map(Reply::id).collect();
    let counts = (
        with_status(&replies, 201).len(),
        with_status(&replies, 200).len(),
    );
    assert_eq!((counts, ids.len()), ((1, 63), 1));
    assert_eq!(group.database.number("SELECT count(*) FROM sessions"), 1);
}

#[test]
fn of_48_messages_at_once_at_two_nodes_16_are_queued() {
    let model = hanging();
    let group = Group::of_two(&model);
    let session = group.northwind(1).session(technician());
    let replies = at_once(48, &group.northwinds(), |client, number| {
        client.append_text(&session, &number.to_string())
    });
    let accepted = with_status(&replies, 202);
    // The first turn leaves the queue when it begins.
    assert!(matches!(accepted.len(), 16 | 17), "{}", accepted.len());
    assert_eq!(accepted.len() + with_status(&replies, 409).len(), 48);
    for reply in with_status(&replies, 409) {
        assert_eq!(reply.error()["code"], "too_many_pending_turns");
    }
    let cursors: BTreeSet<String> = accepted
        .iter()
        .map(|reply| reply.data()["since_cursor"].to_string())
        .collect();
    assert_eq!(
        cursors.len(),
        accepted.len(),
        "no other turn has a turn's pair"
    );
    let one = |node: usize| {
        group
            .northwind(node)
            .messages(&session, "page_size=100")
            .expect(200)
            .ids()
    };
    assert_eq!(one(0), one(1));
    assert_eq!(one(0).len(), accepted.len());
}

#[test]
fn no_turn_is_left_queued_in_a_session_that_a_concurrent_call_at_another_node_resets() {
    let model = hanging();
    let group = Group::of_two(&model);
    let mut before = 0;
    for _ in 0..8 {
        let session = group.northwind(0).session(technician());
        let replies = at_once(9, &group.northwinds(), |client, number| {
            if number == 4 {
                client.reset_session(&session)
            } else {
                client.append_text(&session, "Hello")
            }
        });
        for reply in &replies {
            assert!(matches!(reply.status, 200 | 202 | 409), "{}", reply.text());
        }
        let accepted = i64::try_from(with_status(&replies, 202).len()).unwrap();
        // A turn that began leaves a part of an answer.
        let stored = group
            .database
            .number("SELECT count(*) FROM messages WHERE role = 'user'");
        assert_eq!(stored, before + accepted);
        before = stored;
    }
    assert_eq!(
        group
            .database
            .number("SELECT count(*) FROM turns WHERE status <> 'CANCELLED'"),
        0
    );
    group
        .database
        .until("SELECT count(*) FROM turns WHERE terminal_tick IS NULL", 0);
}

#[test]
fn writes_in_a_session_that_a_concurrent_call_at_another_node_deletes_leave_no_rows() {
    let model = hanging();
    let group = Group::of_two(&model);
    for _ in 0..8 {
        let session = group.northwind(0).session(technician());
        // Each kind of request at both nodes.
        let replies = at_once(24, &group.northwinds(), |client, number| {
            match number / 2 % 6 {
                0 => client.append_text(&session, "Hello"),
                1 => client.update_session(&session, json!({ "title": "Changed" })),
                2 => client.mint_token(json!({ "session_id": session })),
                3 => client.reset_session(&session),
                4 => client.list_sessions("q=hello"),
                _ => client.delete_session(&session),
            }
        });
        for reply in replies {
            assert!(
                matches!(reply.status, 200..=204 | 404 | 409),
                "{}",
                reply.text()
            );
        }
    }
    for table in [
        "sessions",
        "messages",
        "turns",
        "turn_logs",
        "session_tokens",
    ] {
        assert_eq!(
            group
                .database
                .number(&format!("SELECT count(*) FROM {table}")),
            0,
            "{table}"
        );
    }
    for query in ["q=hello", "q=changed&archived=all"] {
        let listed = group.northwind(1).list_sessions(query).expect(200);
        assert_eq!(listed.data(), json!([]));
    }
}

#[test]
fn ids_given_by_two_nodes_at_the_same_time_are_all_different() {
    let model = hanging();
    let group = Group::of_two(&model);
    let replies = at_once(100, &group.northwinds(), |client, _| {
        client.create_session(technician())
    });
    let ids: BTreeSet<String> = replies.iter().map(Reply::id).collect();
    assert_eq!(ids.len(), 100);
    for node in 0..2 {
        let listed = group
            .northwind(node)
            .list_sessions("page_size=200")
            .expect(200)
            .ids();
        assert_eq!(listed, ids.iter().rev().cloned().collect::<Vec<_>>());
    }
}

#[test]
fn a_cancel_at_another_node_at_any_moment_of_a_turns_start_ends_it() {
    let model = hanging();
    let group = Group::of_two(&model);
    let (says_at, cancels_at) = (group.northwind(0), group.northwind(1));
    let session = says_at.session(technician());
    let cancel = format!("/chat/sessions/{session}/cancel");
    for trial in 0..60_u64 {
        let start = Barrier::new(2);
        let (accepted, early) = thread::scope(|scope| {
            let says = scope.spawn(|| {
                start.wait();
                says_at.append_text(&session, "Hello").expect(202).data()
            });
            let cancels = scope.spawn(|| {
                start.wait();
                let until = Instant::now() + Duration::from_micros(trial * 500);
                while Instant::now() < until {
                    std::hint::spin_loop();
                }
                cancels_at.post(&cancel, json!({})).expect(200).data()
            });
            (says.join().unwrap(), cancels.join().unwrap())
        });
        let mut cancelled = early["cancelled"].as_u64().unwrap();
        if cancelled == 0 {
            let late = cancels_at.post(&cancel, json!({})).expect(200).data();
            cancelled = late["cancelled"].as_u64().unwrap();
        }
        assert_eq!(cancelled, 1, "trial {trial}");
        let query = format!("since={}", accepted["since_cursor"].as_str().unwrap());
        for node in 0..2 {
            let events = Events::open(group.address(node), NORTHWIND, &session, &query).rest();
            assert_eq!(events.last().unwrap().kind(), "abort", "trial {trial}");
        }
    }
}
