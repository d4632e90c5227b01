//! Idempotency keys: a create that is sent twice creates one session.

use serde_json::json;
use switchboard::digest;
use switchboard::model::api_key;
use switchboard::store::keys;

use crate::support::{CONTOSO, DAY, MINUTE, NORTHWIND, Server, TAILSPIN, from, technician};
use crate::wire::{Reply, Request};

#[test]
fn a_repeat_gets_the_stored_first_reply() {
    let server = Server::demo();
    let northwind = server.northwind();
    let body = json!({ "agent_id": 102, "title": "Once" });
    let first = northwind
        .create_session_once("key-1", body.clone())
        .expect(201);
    assert_eq!(first.header("idempotent-replayed"), None);
    northwind
        .update_session(&first.id(), json!({ "title": "Changed since" }))
        .expect(200);
    server.advance_clock(MINUTE);
    let data = |reply: &Reply| {
        let text = reply.text();
        let (data, _) = text.split_once(",\"meta\":").unwrap();
        data.to_owned()
    };
    let again = northwind
        .create_session_once("key-1", body.clone())
        .expect(201);
    assert_eq!(data(&again), data(&first));
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(again.header("location"), first.header("location"));
    assert_eq!(northwind.list_sessions("").ids(), [first.id()]);

    let server = server.restarted();
    let again = server
        .northwind()
        .create_session_once("key-1", body.clone())
        .expect(201);
    assert_eq!(data(&again), data(&first));
    assert_eq!(again.header("idempotent-replayed"), Some("true"));

    // The repeat gets the first reply, although a new request would be refused now.
    server.import_tenant(
        "northwind-it",
        json!({ "agents": [{ "agent_id": 102, "state": "DISABLED" }] }),
    );
    assert_eq!(
        server
            .northwind()
            .create_session_once("key-1", body)
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
        northwind.send(
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
fn a_refusal_is_not_stored() {
    let server = Server::demo();
    let northwind = server.northwind();
    northwind
        .create_session_once("k", json!({ "agent_id": 103 }))
        .refused(409, "agent_disabled");
    server.import_tenant(
        "northwind-it",
        json!({ "agents": [{ "agent_id": 103, "state": "ENABLED" }] }),
    );
    let made = northwind
        .create_session_once("k", json!({ "agent_id": 103 }))
        .expect(201);
    assert_eq!(made.header("idempotent-replayed"), None);
    server
        .relay()
        .create_session_once("k", from(TAILSPIN))
        .refused(409, "end_company_not_mapped");
    server
        .relay()
        .create_session_once("k", from(CONTOSO))
        .expect(201);
}

#[test]
fn a_repeat_of_a_deleted_session_is_a_404() {
    let server = Server::demo();
    let northwind = server.northwind();
    let first = northwind.create_session_once("k", technician()).expect(201);
    northwind.delete_session(&first.id()).expect(204);
    northwind.create_session_once("k", technician()).not_found();
    northwind
        .create_session_once("k", json!({ "agent_id": 100 }))
        .refused(422, "idempotency_key_reused");
    server.advance_clock(DAY);
    let fresh = northwind.create_session_once("k", technician()).expect(201);
    assert_ne!(fresh.id(), first.id());
}

#[test]
fn a_reply_is_stored_for_a_day() {
    let server = Server::demo();
    let northwind = server.northwind();
    let first = northwind.create_session_once("k", technician()).expect(201);
    server.advance_clock(DAY - 1);
    assert_eq!(
        northwind
            .create_session_once("k", technician())
            .expect(201)
            .id(),
        first.id()
    );
    server.advance_clock(1);
    let second = northwind
        .create_session_once("k", json!({ "agent_id": 100 }))
        .expect(201);
    assert_eq!(second.header("idempotent-replayed"), None);
    server.advance_clock(DAY - 1);
    assert_eq!(
        northwind
            .create_session_once("k", json!({ "agent_id": 100 }))
            .expect(201)
            .id(),
        second.id()
    );
}

#[test]
fn idempotency_keys_belong_to_an_account_across_key_rotations() {
    let server = Server::demo();
    let (northwind, fabrikam) = (server.northwind(), server.fabrikam());
    let managed = json!({ "managed_agent_key": "NEO_SUPPORT" });
    let first = northwind
        .create_session_once("k", managed.clone())
        .expect(201);
    let other = fabrikam
        .create_session_once("k", managed.clone())
        .expect(201);
    assert_ne!(first.id(), other.id());
    server.import_tenant(
        "northwind-it",
        json!({ "api_keys": [{ "name": "Second", "key": "neo_sk_demo_second00" }] }),
    );
    let second = server
        .with_credential("neo_sk_demo_second00")
        .create_session_once("k", managed.clone())
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
    for client in [northwind, server.with_credential(successor)] {
        assert_eq!(
            client
                .create_session_once("k", managed.clone())
                .expect(201)
                .id(),
            first.id()
        );
    }
}

#[test]
fn an_idempotency_key_has_1_to_128_visible_characters() {
    let server = Server::demo();
    let northwind = server.northwind();
    let longest = "~".repeat(128);
    northwind
        .create_session_once(&longest, technician())
        .expect(201);
    northwind.create_session_once("!", technician()).expect(201);
    for bad in ["", "a b", "\u{e9}", "a\tb", &"x".repeat(129)] {
        northwind
            .create_session_once(bad, technician())
            .refused_field("Idempotency-Key", "must be 1 to 128 visible characters");
    }
    assert_eq!(northwind.list_sessions("").ids().len(), 2);
}
