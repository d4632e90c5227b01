//! Streams that the network or a crash cuts anywhere, and that readers resume: no event is lost,
//! duplicated or reordered.

use std::net::ToSocketAddrs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::{Value, json};

use crate::event_reader::{Event, Events, Next, joined, pair, text_of};
use crate::process::Workspace;
use crate::random::{Random, seed};
use crate::scripted_model::{Reply as ModelReply, ScriptedModel, text_chunk};
use crate::support::{NORTHWIND, Server, technician};

/// The types of the envelopes of an answer that is text alone, with adjacent deltas joined.
pub const TEXT_ANSWER: [&str; 7] = [
    "start",
    "start-step",
    "text-start",
    "text-delta",
    "text-end",
    "finish-step",
    "finish",
];

/// The number of streams that are cut.
const CUTS: usize = 1_000;
/// Concurrent readers.
const READERS: usize = 4;
/// Questions with short and long answers, with and without sources.
const QUESTIONS: &[&str] = &[
    "Hello",
    "How do I connect to the VPN?",
    "How do I restore files from a backup?",
    "The printer does not print",
    "What is the escalation matrix?",
    "zzyzx",
];

/// Reads a turn over as many connections as the cuts require, each from the last cursor seen.
fn read_through_cuts(
    address: impl ToSocketAddrs + Copy,
    session: &str,
    since: &str,
    random: &mut Random,
    cuts: &AtomicUsize,
) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    loop {
        let cursor = events.last().map_or(since, |event| &event.id);
        let stream = if random.chance(1, 2) {
            Events::open(address, NORTHWIND, session, &format!("since={cursor}"))
        } else {
            let header = format!("last-event-id: {cursor}\r\n");
            Events::ask(address, NORTHWIND, session, "", &header)
        };
        assert_eq!(stream.status, 200, "{}", stream.head);
        // Small limits fall into the first events, large ones after the end.
        let most = random.pick(&[60, 400, 2_000, 8_000]);
        let mut stream = stream.cut_after(random.below(most));
        loop {
            match stream.next() {
                Next::Event(event) => {
                    if let Some(last) = events.last() {
                        assert!(pair(&last.id) < pair(&event.id), "{last:?} then {event:?}");
                    }
                    assert!(!events.last().is_some_and(Event::is_terminal), "{event:?}");
                    events.push(event);
                }
                Next::Done | Next::End => {
                    assert!(events.last().is_some_and(Event::is_terminal));
                    return events;
                }
                Next::Cut => {
                    cuts.fetch_add(1, Ordering::Relaxed);
                    if events.last().is_some_and(Event::is_terminal) {
                        return events;
                    }
                    break;
                }
                Next::Broken => panic!("the server broke a stream that it had no reason to break"),
            }
        }
    }
}

/// The events add up to the stored message, and the turn is complete and ends once.
fn holds_the_message(events: &[Event], turn: &str, messages: &Value) {
    let answer = (messages.as_array().unwrap().iter())
        .find(|item| item["role"] == "assistant" && item["chat_turn_id"] == turn)
        .unwrap_or_else(|| panic!("{turn} has no answer: {messages}"));
    assert_eq!(
        events[0].envelope,
        json!({ "type": "start", "messageId": answer["id"], "messageMetadata": { "chat_turn_id": turn } })
    );
    assert_eq!(text_of(events), answer["content"].as_str().unwrap());
    let ends = events.iter().filter(|event| event.is_terminal()).count();
    assert_eq!(ends, 1, "{events:?}");
    let kinds: Vec<Value> = joined(events)
        .iter()
        .map(|envelope| envelope["type"].clone())
        .filter(|kind| !kind.as_str().unwrap().starts_with("source-"))
        .collect();
    assert_eq!(json!(kinds), json!(TEXT_ANSWER));
}

#[test]
fn a_thousand_streams_cut_at_random_bytes_lose_and_duplicate_nothing() {
    let seed = seed();
    let server = Server::answering(&[]);
    let cuts = AtomicUsize::new(0);
    thread::scope(|scope| {
        for reader in 0..READERS {
            let (server, cuts) = (&server, &cuts);
            scope.spawn(move || {
                let mut random = Random::new(seed.wrapping_add(reader as u64));
                let northwind = server.northwind();
                while cuts.load(Ordering::Relaxed) < CUTS {
                    let session = northwind.session(technician());
                    // The turns after the first are queued, and are read from their own cursors
                    // meanwhile.
                    let turns: Vec<Value> = (0..=random.below(4))
                        .map(|_| {
                            northwind
                                .append_text(&session, random.pick(QUESTIONS))
                                .expect(202)
                                .data()
                        })
                        .collect();
                    let read: Vec<Vec<Event>> = thread::scope(|scope| {
                        let readers: Vec<_> = turns
                            .iter()
                            .map(|turn| {
                                let mut random = Random::new(random.bits());
                                let session = session.as_str();
                                scope.spawn(move || {
                                    let since = turn["since_cursor"].as_str().unwrap();
                                    read_through_cuts(
                                        server.address,
                                        session,
                                        since,
                                        &mut random,
                                        cuts,
                                    )
                                })
                            })
                            .collect();
                        readers
                            .into_iter()
                            .map(|reader| reader.join().unwrap())
                            .collect()
                    });
                    let messages = northwind.messages(&session, "").expect(200).data();
                    for (turn, events) in turns.iter().zip(&read) {
                        holds_the_message(
                            events,
                            turn["chat_turn_id"].as_str().unwrap(),
                            &messages,
                        );
                    }
                }
            });
        }
    });
    assert!(cuts.into_inner() >= CUTS);
}

/// The appends of a session that were accepted before the crash, in order.
struct Accepted {
    session: String,
    turns: Vec<Value>,
    /// The events that a reader saw of the first turn.
    seen: Vec<Event>,
}

#[test]
fn after_a_crash_every_accepted_message_is_answered_under_the_same_id() {
    let mut random = Random::new(seed());
    let workspace = Workspace::with_demo_world();
    for round in 0..4 {
        let server = workspace.serve_demo_world();
        let client = server.client();
        let mut accepted = Vec::new();
        for _ in 0..6 {
            let opened = client.post(NORTHWIND, "/chat/sessions", &technician());
            assert_eq!(opened.status, 201, "{opened:?}");
            let session = opened.data()["id"].as_str().unwrap().to_owned();
            let path = format!("/chat/sessions/{session}/messages");
            let turns = (0..3)
                .map(|_| {
                    let body = json!({ "message": random.pick(QUESTIONS) });
                    let reply = client.post(NORTHWIND, &path, &body);
                    assert_eq!(reply.status, 202, "{reply:?}");
                    reply.data()
                })
                .collect();
            // Some readers see a little, some everything, some nothing.
            let mut seen = Vec::new();
            let reader = Events::open(server.address(), NORTHWIND, &session, "since=0-0");
            let mut reader = reader.cut_after(random.below(3_000));
            while let Next::Event(event) = reader.next() {
                seen.push(event);
            }
            accepted.push(Accepted {
                session,
                turns,
                seen,
            });
        }
        server.crash();

        let server = workspace.serve_demo_world();
        for Accepted {
            session,
            turns,
            seen,
        } in &accepted
        {
            let read: Vec<Vec<Event>> = turns
                .iter()
                .map(|turn| {
                    let since = turn["since_cursor"].as_str().unwrap();
                    Events::open(
                        server.address(),
                        NORTHWIND,
                        session,
                        &format!("since={since}"),
                    )
                    .rest()
                })
                .collect();
            let path = format!("/chat/sessions/{session}/messages");
            let messages = server.client().get(NORTHWIND, &path).data();
            for (turn, events) in turns.iter().zip(&read) {
                holds_the_message(events, turn["chat_turn_id"].as_str().unwrap(), &messages);
            }
            let (Some(start), Some(last)) = (seen.first(), seen.last()) else {
                continue;
            };
            assert_eq!(start.envelope, read[0][0].envelope, "round {round}");
            if last.is_terminal() {
                continue;
            }
            // From the reader's last cursor: the rest of the same attempt, or the new one from its
            // start.
            let query = format!("since={}", last.id);
            let rest = Events::open(server.address(), NORTHWIND, session, &query).rest();
            if rest[0].kind() == "start" {
                assert_eq!(joined(&rest), joined(&read[0]), "round {round}");
            } else {
                let whole = [seen.as_slice(), &rest].concat();
                assert_eq!(joined(&whole), joined(&read[0]), "round {round}");
            }
        }
        server.stop();
    }
}

#[test]
fn a_cursor_inside_an_attempt_that_a_crash_cut_off_continues_at_the_next_attempt() {
    let words = text_chunk("Some ") + &text_chunk("words ");
    let model = ScriptedModel::start(vec![ModelReply::events(words).then_hang()]);
    let workspace = Workspace::with_demo_world();
    let asks = [
        "--env=demo",
        "--rate-limit=0",
        "--model-fast=quick",
        "--model-smart=deep",
        &format!("--model-url={}", model.url()),
    ];
    let server = workspace.serve(asks);
    let client = server.client();
    let opened = client
        .post(NORTHWIND, "/chat/sessions", &technician())
        .data();
    let session = opened["id"].as_str().unwrap();
    let path = format!("/chat/sessions/{session}/messages");
    let turns: Vec<Value> = ["How do I connect to the VPN?", "Hello"]
        .iter()
        .map(|text| {
            client
                .post(NORTHWIND, &path, &json!({ "message": text }))
                .data()
        })
        .collect();
    let seen =
        Events::open(server.address(), NORTHWIND, session, "since=0-0").read_until_text("words ");
    server.crash();

    let server = workspace.serve_demo_world();
    let fresh = Events::open(server.address(), NORTHWIND, session, "since=0-0").rest();
    assert_eq!(fresh[0].envelope, seen[0].envelope);
    assert!(pair(&seen[seen.len() - 1].id) < pair(&fresh[0].id));
    for event in &seen {
        let rest = Events::open(
            server.address(),
            NORTHWIND,
            session,
            &format!("since={}", event.id),
        );
        assert_eq!(joined(&rest.rest()), joined(&fresh), "from {}", event.id);
    }
    let since = turns[1]["since_cursor"].as_str().unwrap();
    let second = Events::open(
        server.address(),
        NORTHWIND,
        session,
        &format!("since={since}"),
    )
    .rest();
    let messages = server.client().get(NORTHWIND, &path).data();
    for (turn, events) in turns.iter().zip([&fresh, &second]) {
        holds_the_message(events, turn["chat_turn_id"].as_str().unwrap(), &messages);
    }
    server.stop();
}
