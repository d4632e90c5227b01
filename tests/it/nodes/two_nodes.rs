//! What a call at one node does to a turn and to streams at another one.

use std::time::{Duration, Instant};

use serde_json::json;

use super::group::Group;
use crate::event_reader::{Events, Next, text_of};
use crate::process::{NORTHWIND, id_and_key};
use crate::scripted_model::{Reply, ScriptedModel, text_chunk};
use crate::support::technician;

/// How soon a stream ends whose credential or session is gone (contract, section 5).
const END_OF_ACCESS: Duration = Duration::from_secs(15);

/// A model that begins to answer and never ends.
fn hanging() -> ScriptedModel {
    ScriptedModel::start(vec![Reply::events(text_chunk("So ")).then_hang()])
}

/// A session with a running turn: its id, the node that runs the turn, and the other one.
fn running_turn(group: &Group) -> (String, usize, usize) {
    let client = group.northwind(0);
    let session = client.session(technician());
    client.append_text(&session, "Hello").expect(202);
    read_at(group, 1, NORTHWIND, &session).read_until_text("So ");
    let rows = group.database.rows(
        "SELECT n.address FROM turns t JOIN nodes n ON n.lease_no = t.owner_lease WHERE t.terminal_tick IS NULL ORDER BY t.seq DESC",
    );
    let owner: String = rows[0].get(0);
    let owner = usize::from(owner != group.address(0).to_string());
    (session, owner, 1 - owner)
}

fn read_at(group: &Group, node: usize, key: &str, session: &str) -> Events {
    Events::open(group.address(node), key, session, "")
}

/// Waits for the end of a stream without a terminal envelope.
fn assert_cut_off(mut stream: Events) {
    let begun = Instant::now();
    let next = loop {
        match stream.next() {
            Next::Event(event) => assert!(!event.is_terminal(), "{event:?}"),
            next @ (Next::Done | Next::End | Next::Broken | Next::Cut) => break next,
        }
    };
    assert!(matches!(next, Next::Broken | Next::End), "{next:?}");
    assert!(begun.elapsed() < END_OF_ACCESS, "{:?}", begun.elapsed());
}

/// Signs an administrator in at a node; returns the token.
fn sign_in(group: &Group, node: usize) -> String {
    let link = group.command(&["login-link", "--tenant", "northwind-it"]);
    let code = link.trim_end().rsplit(['=', '/', '#', ' ']).next().unwrap();
    let exchanged = group
        .northwind(node)
        .post("/auth/exchange", json!({"code": code}))
        .expect(200);
    exchanged.data()["token"].as_str().unwrap().to_owned()
}

#[test]
fn a_cancel_at_one_node_ends_the_turn_that_another_one_runs_for_readers_of_both() {
    let model = hanging();
    let group = Group::of_two(&model);
    for _ in 0..5 {
        let (session, owner, other) = running_turn(&group);
        let mut streams = [owner, other].map(|node| read_at(&group, node, NORTHWIND, &session));
        for stream in &mut streams {
            stream.read_until_text("So ");
        }
        let path = format!("/chat/sessions/{session}/cancel");
        let cancelled = group.northwind(other).post(&path, json!({})).expect(200);
        assert_eq!(cancelled.data()["cancelled"], 1);
        // The reply waits for the end of the stream at the other node.
        assert_eq!(
            group
                .database
                .number("SELECT count(*) FROM turns WHERE terminal_tick IS NULL"),
            0
        );
        for stream in streams {
            assert_eq!(stream.rest().last().unwrap().kind(), "abort");
        }
        let stored = read_at(&group, other, NORTHWIND, &session).rest();
        assert_eq!(
            (text_of(&stored).as_str(), stored.last().unwrap().kind()),
            ("So ", "abort")
        );
    }
}

#[test]
fn a_reset_at_one_node_ends_the_turn_that_another_one_runs() {
    let model = hanging();
    let group = Group::of_two(&model);
    let (session, owner, other) = running_turn(&group);
    let stream = read_at(&group, owner, NORTHWIND, &session);
    group.northwind(other).reset_session(&session).expect(200);
    assert_eq!(stream.rest().last().unwrap().kind(), "abort");
}

#[test]
fn a_session_deleted_at_one_node_ends_its_streams_at_the_other_and_its_turn() {
    let model = hanging();
    let group = Group::of_two(&model);
    for deletes_at_owner in [false, true] {
        let (session, owner, other) = running_turn(&group);
        let mut streams = [owner, other].map(|node| read_at(&group, node, NORTHWIND, &session));
        for stream in &mut streams {
            stream.read_until_text("So ");
        }
        let node = if deletes_at_owner { owner } else { other };
        group.northwind(node).delete_session(&session).expect(204);
        model.wait_for_hang_up();
        for stream in streams {
            assert_cut_off(stream);
        }
        for node in [owner, other] {
            group.northwind(node).read_session(&session).not_found();
        }
    }
    assert_eq!(group.database.number("SELECT count(*) FROM turns"), 0);
}

#[test]
fn a_session_archived_at_one_node_takes_no_message_at_the_other_and_its_stream_goes_on() {
    let model = hanging();
    let group = Group::of_two(&model);
    let (session, owner, other) = running_turn(&group);
    let mut stream = read_at(&group, owner, NORTHWIND, &session);
    stream.read_until_text("So ");
    group
        .northwind(other)
        .update_session(&session, json!({"archived": true}))
        .expect(200);
    group
        .northwind(owner)
        .append_text(&session, "More")
        .refused(409, "session_archived");
    let path = format!("/chat/sessions/{session}/cancel");
    let cancel = group.northwind(other).post(&path, json!({}));
    assert_eq!(cancel.status, 200, "{}", cancel.text());
    assert_eq!(stream.rest().last().unwrap().kind(), "abort");
}

#[test]
fn a_key_revoked_at_one_node_ends_streams_at_the_other_and_is_refused_there_at_once() {
    let model = hanging();
    let group = Group::of_two(&model);
    let (session, owner, other) = running_turn(&group);
    let arguments = [
        "keys",
        "create",
        "--tenant",
        "northwind-it",
        "--name",
        "Leaked",
    ];
    let (id, key) = id_and_key(&group.command(&arguments));
    let mut streams = [owner, other].map(|node| read_at(&group, node, &key, &session));
    for stream in &mut streams {
        stream.read_until_text("So ");
    }
    let admin = sign_in(&group, other);
    group
        .client(other, &admin)
        .delete(&format!("/api-keys/{id}"))
        .expect(204);
    for node in [owner, other] {
        assert_eq!(group.client(node, &key).get("/whoami").status, 401);
    }
    for stream in streams {
        assert_cut_off(stream);
    }
}

#[test]
fn a_person_who_signs_out_at_one_node_is_signed_out_at_the_other_and_streams_end() {
    let model = hanging();
    let group = Group::of_two(&model);
    let (session, owner, other) = running_turn(&group);
    let token = sign_in(&group, other);
    let mut stream = read_at(&group, owner, &token, &session);
    stream.read_until_text("So ");
    let signed_out = group
        .client(other, &token)
        .post("/auth/sign-out", json!({}));
    assert!(
        matches!(signed_out.status, 200 | 204),
        "{}",
        signed_out.text()
    );
    assert_eq!(group.client(owner, &token).get("/whoami").status, 401);
    assert_cut_off(stream);
}

#[test]
fn one_tenant_leaves_slots_to_the_others_over_all_nodes() {
    let slow = Reply::events(text_chunk("Wait ")).then_hang();
    let mut replies = vec![slow; 6];
    replies.push(Reply::answer("At once."));
    let model = ScriptedModel::start(replies);
    let database = super::database::Database::make();
    let url = database.url().to_owned();
    let group = Group::start(
        database,
        &[url.clone(), url],
        &model,
        &["--turn-concurrency=4"],
    );
    let sessions: Vec<String> = (0..12)
        .map(|number| {
            let client = group.northwind(number % 2);
            let session = client.session(technician());
            client
                .append_text(&session, "The door is stuck")
                .expect(202);
            session
        })
        .collect();
    assert_eq!(sessions.len(), 12);
    let running = "SELECT count(*) FROM turns WHERE status = 'RUNNING'";
    group.database.until(running, 6);
    let client = group.fabrikam(1);
    let session = client.session(json!({"agent_id": 202}));
    let appended = client
        .append_text(&session, "The window is stuck")
        .expect(202);
    let turn = appended.data()["chat_turn_id"].as_str().unwrap().to_owned();
    let turn = group
        .fabrikam(0)
        .turn(&session, &turn, "wait_seconds=60")
        .expect(200);
    assert_eq!(turn.data()["assistant_message"]["content"], "At once.");
    assert_eq!(group.database.number(running), 6);
}

#[test]
fn the_limit_of_a_tenant_holds_over_all_nodes() {
    let model = hanging();
    let database = super::database::Database::make();
    let url = database.url().to_owned();
    let group = Group::start(database, &[url.clone(), url], &model, &["--rate-limit=60"]);
    let admitted = |node: usize| {
        (0..60)
            .filter(|_| group.northwind(node).get("/whoami").status == 200)
            .count()
    };
    assert_eq!([admitted(0), admitted(1)], [30, 30]);
}

#[test]
fn a_node_that_stops_hands_its_turns_over_at_once() {
    let hang = Reply::events(text_chunk("So ")).then_hang();
    let model = ScriptedModel::start(vec![hang, Reply::answer("Done.")]);
    let database = super::database::Database::make();
    let url = database.url().to_owned();
    let group = Group::start(
        database,
        &[url.clone(), url],
        &model,
        &["--drain-seconds=1"],
    );
    let (session, owner, other) = running_turn(&group);
    let mut stream = read_at(&group, other, NORTHWIND, &session);
    stream.read_until_text("So ");
    group.stop(owner);
    // The answer starts again at the other node.
    let events = stream.rest();
    let start = events
        .iter()
        .position(|event| event.kind() == "start")
        .unwrap();
    assert_eq!(text_of(&events[start..]), "Done.");
    assert_eq!(group.database.number("SELECT count(*) FROM nodes"), 1);
}

#[test]
fn one_node_at_a_time_cleans_up() {
    let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let model = hanging();
    let group = Group::of_two(&model);
    for node in [0, 1] {
        group.stop(node);
    }
    // A server cleans up when it starts, and begins with this table.
    group.database.while_locked("idempotency_keys", || {
        group.run(0);
        group.database.until(waits, 1);
        group.run(1);
        for _ in 0..20 {
            group.northwind(1).session(technician());
        }
        assert_eq!(group.database.number(waits), 1);
    });
    group.database.until(waits, 0);
}
