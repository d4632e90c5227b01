//! A server that is killed under load loses nothing that it acknowledged.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Instant;

use serde_json::{Value, json};

use crate::process::{Client, NORTHWIND, Reply, Server, Workspace};
use crate::random::{Random, seed};

const ROUNDS: usize = 20;
const WRITERS: usize = 8;
/// Messages in a session: fewer than the limit of queued turns.
const MESSAGES: usize = 4;

/// An acknowledged message.
#[derive(Clone)]
struct AcknowledgedMessage {
    id: String,
    text: String,
}

/// An acknowledged session and its acknowledged messages.
#[derive(Clone)]
struct Session {
    id: String,
    title: String,
    messages: Vec<AcknowledgedMessage>,
}

/// A request of a writer that got no reply before the server died.
#[derive(Clone)]
struct Unanswered {
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Value,
}

impl Unanswered {
    fn ask(&self, client: &Client) -> io::Result<Reply> {
        let headers: Vec<(&str, &str)> = self
            .headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        client.call("POST", NORTHWIND, &self.path, &headers, Some(&self.body))
    }
}

struct Written {
    sessions: Vec<Session>,
    unanswered: Unanswered,
}

/// Creates sessions and appends to them until the server dies.
fn write(client: &Client, name: &str, acknowledged: &AtomicUsize, tell: &Sender<usize>) -> Written {
    let mut sessions = Vec::new();
    let acknowledge = || {
        // The receiver is gone after the end of the round.
        let _ = tell.send(acknowledged.fetch_add(1, Ordering::SeqCst) + 1);
    };
    for number in 0.. {
        let title = format!("{name}, session {number}");
        let create = Unanswered {
            path: "/chat/sessions".to_owned(),
            headers: vec![("idempotency-key", title.replace([' ', ','], "-"))],
            body: json!({"agent_id": 102, "title": title}),
        };
        let Ok(reply) = create.ask(client) else {
            return Written {
                sessions,
                unanswered: create,
            };
        };
        assert_eq!(reply.status, 201, "{reply:?}");
        acknowledge();
        let id = reply.data()["id"].as_str().unwrap().to_owned();
        sessions.push(Session {
            id: id.clone(),
            title: title.clone(),
            messages: Vec::new(),
        });
        for message in 0..MESSAGES {
            let text = format!("{title}, message {message}");
            let append = Unanswered {
                path: format!("/chat/sessions/{id}/messages"),
                headers: Vec::new(),
                body: json!({"message": text, "client_message_id": text}),
            };
            let Ok(reply) = append.ask(client) else {
                return Written {
                    sessions,
                    unanswered: append,
                };
            };
            assert_eq!(reply.status, 202, "{reply:?}");
            acknowledge();
            let kept = AcknowledgedMessage {
                id: reply.data()["user_message_id"].as_str().unwrap().to_owned(),
                text,
            };
            if let Some(session) = sessions.last_mut() {
                session.messages.push(kept);
            }
        }
    }
    unreachable!("a server that is killed stops answering")
}

/// Every acknowledged session exists with every acknowledged message, in order.
fn assert_there(client: &Client, sessions: &[Session]) {
    for session in sessions {
        let path = format!("/chat/sessions/{}", session.id);
        let found = client.get(NORTHWIND, &path);
        assert_eq!(found.status, 200, "{}: {found:?}", session.title);
        assert_eq!(found.data()["title"], session.title.as_str());
        let listed = client.get(NORTHWIND, &format!("{path}/messages?page_size=200"));
        let listed = listed.data();
        let listed: Vec<(&str, &str)> = listed
            .as_array()
            .unwrap()
            .iter()
            .filter(|message| message["role"] == "user")
            .map(|message| {
                (
                    message["id"].as_str().unwrap(),
                    message["content"].as_str().unwrap(),
                )
            })
            .collect();
        let kept: Vec<(&str, &str)> = session
            .messages
            .iter()
            .map(|message| (message.id.as_str(), message.text.as_str()))
            .collect();
        // One more message may exist: it was written, but its reply was cut off.
        assert!(
            listed.len() <= kept.len() + 1,
            "{}: {listed:?}",
            session.title
        );
        assert_eq!(listed[..kept.len()], kept, "{}", session.title);
    }
}

/// A client retries a request without a reply: its effect exists once, written before or not.
fn assert_repeatable(client: &Client, unanswered: &Unanswered) {
    let first = unanswered.ask(client).unwrap();
    let second = unanswered.ask(client).unwrap();
    if unanswered.path == "/chat/sessions" {
        assert_eq!(
            (first.status, second.status),
            (201, 201),
            "{first:?} {second:?}"
        );
        assert_eq!(first.data()["id"], second.data()["id"]);
        assert_eq!(second.header("idempotent-replayed"), Some("true"));
        return;
    }
    assert!([202, 409].contains(&first.status), "{first:?}");
    assert_eq!(second.code(), "duplicate_client_message");
    let listed = client.get(NORTHWIND, &format!("{}?page_size=200", unanswered.path));
    let text = &unanswered.body["message"];
    let times = listed
        .data()
        .as_array()
        .unwrap()
        .iter()
        .filter(|message| &message["content"] == text)
        .count();
    assert_eq!(times, 1, "{text}");
}

/// One round: load up to this number of acknowledgements, then a kill; returns the writers'
/// records.
fn round(server: Server, number: usize, until: usize) -> Vec<Written> {
    let acknowledged = AtomicUsize::new(0);
    let (tell, told) = channel();
    thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (client, tell) = (server.client(), tell.clone());
                let acknowledged = &acknowledged;
                scope.spawn(move || {
                    let name = format!("Round {number}, writer {writer}");
                    write(&client, &name, acknowledged, &tell)
                })
            })
            .collect();
        drop(tell);
        while told.recv().unwrap() < until {}
        server.crash();
        writers
            .into_iter()
            .map(|writer| writer.join().unwrap())
            .collect()
    })
}

#[test]
fn nothing_acknowledged_is_lost_when_the_server_is_killed_twenty_times_under_eight_writers() {
    let workspace = Workspace::with_demo_world();
    let mut random = Random::new(seed());
    let mut all: Vec<Session> = Vec::new();
    let mut last: Vec<Written> = Vec::new();
    let mut restarts = Vec::new();
    for number in 0..=ROUNDS {
        if number % 5 == 4 {
            // Also directly after the crash, when the check itself recovers the file.
            let checked = workspace.run(["check"]);
            assert_eq!(checked.code, 0, "{checked:?}");
        }
        let started = Instant::now();
        let server = workspace.serve_demo_world();
        let client = server.client();
        assert_eq!(client.get("", "/ready").status, 200);
        restarts.push(started.elapsed().as_millis());
        for written in &last {
            assert_there(&client, &written.sessions);
            assert_repeatable(&client, &written.unanswered);
        }
        all.extend(last.drain(..).flat_map(|written| written.sessions));
        if number == ROUNDS {
            server.stop();
        } else {
            last = round(server, number, 20 + random.below(100));
        }
    }
    let messages: usize = all.iter().map(|session| session.messages.len()).sum();
    println!(
        "{} sessions and {messages} messages were acknowledged over {ROUNDS} crashes; ready after {restarts:?} ms",
        all.len()
    );
    let checked = workspace.run(["check"]);
    assert_eq!(checked.code, 0, "{checked:?}");

    let mut there: HashMap<String, Vec<String>> = HashMap::new();
    let rows = "SELECT s.title, m.content FROM sessions s LEFT JOIN messages m ON m.session_seq = s.seq AND m.role = 'user'";
    for row in workspace.sql().rows(rows) {
        let content: Option<String> = row.get(1);
        there.entry(row.get(0)).or_default().extend(content);
    }
    for session in &all {
        let found = there
            .get(&session.title)
            .unwrap_or_else(|| panic!("{} is lost", session.title));
        for message in &session.messages {
            let times = found.iter().filter(|text| **text == message.text).count();
            assert_eq!(times, 1, "{}", message.text);
        }
    }
}
