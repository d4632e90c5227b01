//! Repeats: a create that is sent twice makes one session.

use serde_json::json;
use switchboard::digest;
use switchboard::model::api_key;
use switchboard::store::keys;

use crate::support::{CONTOSO, DAY, MINUTE, NORTHWIND, Server, TAILSPIN, from, technician};
use crate::wire::{Reply, Request};

#[test]
fn a_repeat_gets_the_first_reply_again() {
    let server = Server::demo();
    let northwind = server.northwind();
    let body = json!({ "agent_id": 102, "title": "Once" });
    let first = northwind.opens_once("key-1", body.clone()).expect(201);
    assert_eq!(first.header("idempotent-replayed"), None);
    northwind
        .changes(&first.id(), json!({ "title": "Changed since" }))
        .expect(200);
    server.passes(MINUTE);
    let data = |reply: &Reply| {
        let text = reply.text();
        let (data, _) = text.split_once(",\"meta\":").unwrap();
        data.to_owned()
    };
    let again = northwind.opens_once("key-1", body.clone()).expect(201);
    assert_eq!(data(&again), data(&first));
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(again.header("location"), first.header("location"));
    assert_eq!(northwind.lists("").ids(), [first.id()]);

    let server = server.restarted();
    let again = server
        .northwind()
        .opens_once("key-1", body.clone())
        .expect(201);
    assert_eq!(data(&again), data(&first));
    assert_eq!(again.header("idempotent-replayed"), Some("true"));

    // Whatever it was refused for now, it was done before.
    server.changes(
        "northwind-it",
        json!({ "agents": [{ "agent_id": 102, "state": "DISABLED" }] }),
    );
    assert_eq!(
        server
            .northwind()
            .opens_once("key-1", body)
            .expect(201)
            .id(),
        first.id()
    );
}

#[test]
fn a_key_with_another_body_is_refused_byte_for_byte() {
    let server = Server::demo();
    let northwind = server.northwind();
    let post = |body: &str| {
        northwind.sends(
            Request::new("POST", "/chat/sessions")
                .header("idempotency-key", "k")
                .text(body),
        )
    };
    let first = post("{\"agent_id\":102}").expect(201);
    for other in [
        "{\"agent_id\": 102}",
        "{\"agent_id\":102,\"title\":null}",
        "{\"agent_id\":100}",
        "{\"agent_id\":201}",
    ] {
        assert_eq!(
            post(other).refused(422, "idempotency_key_reused").error(),
            json!({
                "code": "idempotency_key_reused",
                "message": "This Idempotency-Key was already used with another body. Use a new key.",
            })
        );
    }
    assert_eq!(post("{\"agent_id\":102}").expect(201).id(), first.id());
}

#[test]
fn a_refusal_is_not_kept() {
    let server = Server::demo();
    let northwind = server.northwind();
    northwind
        .opens_once("k", json!({ "agent_id": 103 }))
        .refused(409, "agent_disabled");
    server.changes(
        "northwind-it",
        json!({ "agents": [{ "agent_id": 103, "state": "ENABLED" }] }),
    );
    let made = northwind
        .opens_once("k", json!({ "agent_id": 103 }))
        .expect(201);
    assert_eq!(made.header("idempotent-replayed"), None);
    server
        .relay()
        .opens_once("k", from(TAILSPIN))
        .refused(409, "end_company_not_mapped");
    server.relay().opens_once("k", from(CONTOSO)).expect(201);
}

#[test]
fn a_repeat_of_a_deleted_session_is_a_404() {
    let server = Server::demo();
    let northwind = server.northwind();
    let first = northwind.opens_once("k", technician()).expect(201);
    northwind.removes(&first.id()).expect(204);
    northwind.opens_once("k", technician()).not_found();
    northwind
        .opens_once("k", json!({ "agent_id": 100 }))
        .refused(422, "idempotency_key_reused");
    server.passes(DAY);
    let fresh = northwind.opens_once("k", technician()).expect(201);
    assert_ne!(fresh.id(), first.id());
}

#[test]
fn a_reply_is_kept_for_a_day() {
    let server = Server::demo();
    let northwind = server.northwind();
    let first = northwind.opens_once("k", technician()).expect(201);
    server.passes(DAY - 1);
    assert_eq!(
        northwind.opens_once("k", technician()).expect(201).id(),
        first.id()
    );
    server.passes(1);
    let second = northwind
        .opens_once("k", json!({ "agent_id": 100 }))
        .expect(201);
    assert_eq!(second.header("idempotent-replayed"), None);
    server.passes(DAY - 1);
    assert_eq!(
        northwind
            .opens_once("k", json!({ "agent_id": 100 }))
            .expect(201)
            .id(),
        second.id()
    );
}

#[test]
fn repeats_belong_to_an_account_with_the_keys_that_it_was_rotated_into() {
    let server = Server::demo();
    let (northwind, fabrikam) = (server.northwind(), server.fabrikam());
    let managed = json!({ "managed_agent_key": "NEO_SUPPORT" });
    let first = northwind.opens_once("k", managed.clone()).expect(201);
    let other = fabrikam.opens_once("k", managed.clone()).expect(201);
    assert_ne!(first.id(), other.id());
    server.changes(
        "northwind-it",
        json!({ "api_keys": [{ "name": "Second", "key": "neo_sk_demo_second00" }] }),
    );
    let second = server
        .holder_of("neo_sk_demo_second00")
        .opens_once("k", managed.clone())
        .expect(201);
    assert_ne!(first.id(), second.id());

    let successor = "neo_sk_demo_successor00";
    let sha256 = digest::sha256(NORTHWIND);
    let key = server
        .app
        .store
        .read_now(|reader| keys::by_sha256(reader, &sha256))
        .unwrap()
        .unwrap()
        .key
        .id;
    server
        .app
        .store
        .write_now(move |tx| {
            keys::rotate(tx, key, digest::sha256(successor), api_key::hint(successor))
        })
        .unwrap();
    for actor in [northwind, server.holder_of(successor)] {
        assert_eq!(
            actor.opens_once("k", managed.clone()).expect(201).id(),
            first.id()
        );
    }
}

#[test]
fn an_idempotency_key_has_1_to_128_visible_characters() {
    let server = Server::demo();
    let northwind = server.northwind();
    let longest = "~".repeat(128);
    northwind.opens_once(&longest, technician()).expect(201);
    northwind.opens_once("!", technician()).expect(201);
    for bad in ["", "a b", "\u{e9}", "a\tb", &"x".repeat(129)] {
        northwind
            .opens_once(bad, technician())
            .refused_field("Idempotency-Key", "must be 1 to 128 visible characters");
    }
    assert_eq!(northwind.lists("").ids().len(), 2);
}
