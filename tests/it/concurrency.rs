//! Invariants under concurrent requests.

use std::collections::BTreeSet;
use std::slice::from_ref;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::event_reader::Events;
use crate::scripted_model::{Reply as ModelReply, ScriptedModel, text_chunk};
use crate::support::{ApiClient, NORTHWIND, Server, technician};
use crate::wire::Reply;

/// Sends this number of requests at the same time, each on its own connection and by the senders in
/// turn.
pub fn at_once(
    count: usize,
    senders: &[ApiClient],
    send: impl Fn(&ApiClient, usize) -> Reply + Sync,
) -> Vec<Reply> {
    let start = Barrier::new(count);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..count)
            .map(|number| {
                let (start, send) = (&start, &send);
                let sender = &senders[number % senders.len()];
                scope.spawn(move || {
                    start.wait();
                    send(sender, number)
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    })
}

pub fn with_status(replies: &[Reply], status: u16) -> Vec<&Reply> {
    replies
        .iter()
        .filter(|reply| reply.status == status)
        .collect()
}

#[test]
fn of_200_appends_of_one_message_one_is_accepted_and_the_others_get_its_ids() {
    let server = Server::demo();
    let northwind = server.northwind();
    let session = northwind.session(technician());
    let body = json!({ "message": "Hello", "client_message_id": "c-1" });
    let replies = at_once(200, from_ref(&northwind), |client, _| {
        client.append(&session, body.clone())
    });
    let accepted = with_status(&replies, 202);
    assert_eq!((accepted.len(), with_status(&replies, 409).len()), (1, 199));
    let first = accepted[0].data();
    for reply in with_status(&replies, 409) {
        let error = reply.error();
        assert_eq!(error["code"], "duplicate_client_message");
        for id in ["user_message_id", "chat_turn_id", "since_cursor"] {
            assert_eq!(error["details"][id], first[id]);
        }
    }
    assert_eq!(server.stored::<i64>("SELECT count(*) FROM turns"), 1);
    assert_eq!(server.stored::<i64>("SELECT count(*) FROM messages"), 1);
    assert_eq!(
        northwind.read_session(&session).expect(200).data()["message_count"],
        1
    );
}

#[test]
fn of_64_creates_with_one_idempotency_key_one_creates_the_session() {
    let server = Server::demo();
    let northwind = server.northwind();
    let replies = at_once(64, from_ref(&northwind), |client, _| {
        client.create_session_once("k", technician())
    });
    let ids: BTreeSet<String> = replies.iter().map(Reply::id).collect();
    assert_eq!((with_status(&replies, 201).len(), ids.len()), (64, 1));
    let first = replies
        .iter()
        .filter(|reply| reply.header("idempotent-replayed").is_none());
    assert_eq!(first.count(), 1);
    assert_eq!(server.stored::<i64>("SELECT count(*) FROM sessions"), 1);
}

#[test]
fn of_creates_with_one_idempotency_key_and_other_bodies_one_wins() {
    let server = Server::demo();
    let northwind = server.northwind();
    let replies = at_once(32, from_ref(&northwind), |client, number| {
        client.create_session_once("k", json!({ "agent_id": 102, "title": number.to_string() }))
    });
    assert_eq!(
        (
            with_status(&replies, 201).len(),
            with_status(&replies, 422).len()
        ),
        (1, 31)
    );
    for reply in with_status(&replies, 422) {
        assert_eq!(reply.error()["code"], "idempotency_key_reused");
    }
    assert_eq!(server.stored::<i64>("SELECT count(*) FROM sessions"), 1);
}

#[test]
fn of_48_messages_at_once_16_are_accepted() {
    let server = Server::demo();
    let northwind = server.northwind();
    let session = northwind.session(technician());
    let replies = at_once(48, from_ref(&northwind), |client, number| {
        client.append_text(&session, &number.to_string())
    });
    let accepted = with_status(&replies, 202);
    assert_eq!((accepted.len(), with_status(&replies, 409).len()), (16, 32));
    for reply in with_status(&replies, 409) {
        assert_eq!(reply.error()["code"], "too_many_pending_turns");
    }
    let cursors: BTreeSet<String> = accepted
        .iter()
        .map(|reply| reply.data()["since_cursor"].to_string())
        .collect();
    assert_eq!(cursors.len(), 16, "no other turn has a turn's pair");
    assert_eq!(
        northwind.read_session(&session).expect(200).data()["message_count"],
        16
    );
    assert_eq!(northwind.messages(&session, "").expect(200).ids().len(), 16);
}

#[test]
fn no_turn_is_left_queued_in_a_session_that_a_concurrent_call_resets() {
    let server = Server::demo();
    let northwind = server.northwind();
    for _ in 0..8 {
        let session = northwind.session(technician());
        let replies = at_once(9, from_ref(&northwind), |client, number| {
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
        assert_eq!(
            northwind.read_session(&session).expect(200).data()["message_count"],
            accepted
        );
    }
    assert_eq!(
        server.stored::<i64>("SELECT count(*) FROM turns WHERE status <> 'CANCELLED'"),
        0
    );
}

#[test]
fn writes_in_a_session_that_a_concurrent_call_deletes_leave_no_rows() {
    let server = Server::demo();
    let northwind = server.northwind();
    for _ in 0..8 {
        let session = northwind.session(technician());
        let replies = at_once(12, from_ref(&northwind), |client, number| {
            match number % 6 {
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
    for table in ["sessions", "messages", "turns", "session_tokens"] {
        assert_eq!(
            server.stored::<i64>(&format!("SELECT count(*) FROM {table}")),
            0,
            "{table}"
        );
    }
    assert_eq!(
        northwind.list_sessions("q=hello").expect(200).data(),
        json!([])
    );
    assert_eq!(
        northwind
            .list_sessions("q=changed&archived=all")
            .expect(200)
            .data(),
        Value::Array(Vec::new())
    );
}

#[test]
fn ids_given_at_the_same_time_are_all_different() {
    let server = Server::demo();
    let northwind = server.northwind();
    let replies = at_once(100, from_ref(&northwind), |client, _| {
        client.create_session(technician())
    });
    let ids: BTreeSet<String> = replies.iter().map(Reply::id).collect();
    assert_eq!(ids.len(), 100);
    // The clock stands still, yet the list is in the order of the ids.
    let listed = northwind.list_sessions("page_size=200").expect(200).ids();
    assert_eq!(listed, ids.into_iter().rev().collect::<Vec<_>>());
}

#[test]
fn a_cancel_at_any_moment_of_a_turns_start_ends_it() {
    let model = ScriptedModel::start(vec![ModelReply::events(text_chunk("So ")).then_hang()]);
    let server = Server::with_model(&model, &[]);
    let northwind = server.northwind();
    let session = northwind.session(technician());
    let cancel = format!("/chat/sessions/{session}/cancel");
    for trial in 0..300_u64 {
        let start = Barrier::new(2);
        let (accepted, early) = thread::scope(|scope| {
            let says = scope.spawn(|| {
                start.wait();
                northwind.append_text(&session, "Hello").expect(202).data()
            });
            let cancels = scope.spawn(|| {
                start.wait();
                // Every round cancels a little later, up to a few milliseconds.
                let until = Instant::now() + Duration::from_micros(trial * 15);
                while Instant::now() < until {
                    std::hint::spin_loop();
                }
                let asked = Instant::now();
                let cancelled = northwind.post(&cancel, json!({})).expect(200).data();
                // The call waits for the turn that it cancels, never for a message that came after
                // it.
                assert!(asked.elapsed() < Duration::from_millis(1_900));
                cancelled
            });
            (says.join().unwrap(), cancels.join().unwrap())
        });
        // A cancel before the message had nothing to cancel.
        let mut cancelled = early["cancelled"].as_u64().unwrap();
        if cancelled == 0 {
            let late = northwind.post(&cancel, json!({})).expect(200).data();
            cancelled = late["cancelled"].as_u64().unwrap();
        }
        assert_eq!(cancelled, 1, "trial {trial}");
        let (turn, since) = (&accepted["chat_turn_id"], &accepted["since_cursor"]);
        let query = format!("since={}", since.as_str().unwrap());
        let events = Events::open(server.address, NORTHWIND, &session, &query).rest();
        assert_eq!(events.last().unwrap().kind(), "abort", "trial {trial}");
        let looked = northwind.turn(&session, turn.as_str().unwrap(), "");
        assert_eq!(looked.expect(200).data()["status"], "CANCELLED");
    }
}
