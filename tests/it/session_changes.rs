//! Sessions over HTTP: change, reset, delete.

use serde_json::{Value, json};

use crate::support::{CONTOSO, SECOND, Server, from, technician};
use crate::wire::Request;

#[test]
fn a_patch_changes_sent_fields_and_null_resets() {
    let server = Server::demo();
    let northwind = server.northwind();
    let made = northwind
        .create_session(json!({ "agent_id": 102, "title": "Before", "metadata": { "a": "1" } }))
        .expect(201)
        .data();
    let session = made["id"].as_str().unwrap();
    let with = |changes: Value| {
        let mut expected = made.clone();
        expected
            .as_object_mut()
            .unwrap()
            .extend(changes.as_object().unwrap().clone());
        expected
    };
    server.advance_clock(SECOND);
    let changed = northwind
        .update_session(
            session,
            json!({ "title": "After", "shared": true, "metadata": { "b": "2" } }),
        )
        .expect(200)
        .data();
    let second = "2025-11-24T16:00:01.000Z";
    assert_eq!(
        changed,
        with(
            json!({ "title": "After", "shared": true, "metadata": { "b": "2" }, "updated_at": second })
        )
    );
    server.advance_clock(SECOND);
    let third = "2025-11-24T16:00:02.000Z";
    let archived = northwind
        .update_session(session, json!({ "archived": true }))
        .expect(200)
        .data();
    assert_eq!(archived["archived_at"], third);
    assert_eq!(archived["title"], "After");
    server.advance_clock(SECOND);
    assert_eq!(
        northwind
            .update_session(session, json!({ "archived": true }))
            .expect(200)
            .data()["archived_at"],
        third
    );
    let reset = northwind
        .update_session(
            session,
            json!({ "title": null, "archived": null, "shared": null, "metadata": null }),
        )
        .expect(200)
        .data();
    assert_eq!(
        reset,
        with(json!({ "title": null, "metadata": {}, "updated_at": "2025-11-24T16:00:03.000Z" }))
    );
    assert_eq!(northwind.read_session(session).expect(200).data(), reset);
    assert_eq!(
        northwind
            .update_session(session, json!({ "title": "" }))
            .expect(200)
            .data()["title"],
        Value::Null
    );
    for (body, field, reason) in [
        (json!({ "title": 1 }), "title", "must be a string"),
        (
            json!({ "title": "x".repeat(201) }),
            "title",
            "must have at most 200 characters",
        ),
        (
            json!({ "archived": "true" }),
            "archived",
            "must be true or false",
        ),
        (json!({ "shared": 0 }), "shared", "must be true or false"),
        (
            json!({ "metadata": { "a": 1 } }),
            "metadata",
            "has an invalid value for \"a\": a value must be a string",
        ),
    ] {
        northwind
            .update_session(session, body)
            .refused_field(field, reason);
    }
}

#[test]
fn an_unarchived_session_accepts_messages_again() {
    let server = Server::demo();
    let northwind = server.northwind();
    let session = northwind.session(technician());
    northwind
        .update_session(&session, json!({ "archived": true }))
        .expect(200);
    northwind
        .append_text(&session, "Hello")
        .refused(409, "session_archived");
    northwind
        .update_session(&session, json!({ "archived": false }))
        .expect(200);
    northwind.append_text(&session, "Hello").expect(202);
}

#[test]
fn a_reset_archives_and_cancels_and_may_be_repeated() {
    let server = Server::demo();
    let northwind = server.northwind();
    let session = northwind.session(technician());
    let turn = northwind.append_text(&session, "Hello").expect(202).data()["chat_turn_id"]
        .as_str()
        .unwrap()
        .to_owned();
    server.advance_clock(SECOND);
    let reset = northwind.reset_session(&session).expect(200);
    assert_eq!(reset.id(), session);
    assert_eq!(reset.data()["archived_at"], "2025-11-24T16:00:01.000Z");
    let cancelled = northwind.turn(&session, &turn, "").expect(200).data();
    assert_eq!(cancelled["status"], "CANCELLED");
    assert_eq!(cancelled["finished_at"], "2025-11-24T16:00:01.000Z");
    server.advance_clock(SECOND);
    assert_eq!(
        northwind.reset_session(&session).expect(200).data()["archived_at"],
        "2025-11-24T16:00:01.000Z"
    );
    northwind
        .append_text(&session, "Still there?")
        .refused(409, "session_archived");
    assert_eq!(northwind.messages(&session, "").expect(200).ids().len(), 1);
    // A reset needs no body and ignores one.
    northwind
        .send(Request::new(
            "POST",
            format!("/chat/sessions/{session}/reset"),
        ))
        .expect(200);
    northwind
        .send(Request::new("POST", format!("/chat/sessions/{session}/reset")).text("{"))
        .expect(200);
}

#[test]
fn a_deleted_session_is_deleted_with_everything_that_belongs_to_it() {
    let server = Server::demo();
    let northwind = server.northwind();
    let session = northwind.session(technician());
    let guest = northwind.with_session_token(&session);
    let said = northwind.append_text(&session, "Hello").expect(202).data();
    let turn = said["chat_turn_id"].as_str().unwrap();
    let gone = northwind.delete_session(&session).expect(204);
    assert!(gone.body.is_empty());
    assert_eq!(gone.header("content-type"), None);
    northwind.read_session(&session).not_found();
    northwind.update_session(&session, json!({})).not_found();
    northwind.reset_session(&session).not_found();
    northwind.append_text(&session, "Hello").not_found();
    northwind.messages(&session, "").not_found();
    northwind.turn(&session, turn, "").not_found();
    northwind
        .mint_token(json!({ "session_id": session }))
        .not_found();
    northwind.delete_session(&session).not_found();
    assert_eq!(
        northwind.list_sessions("archived=all").expect(200).ids(),
        [""; 0]
    );
    guest.get("/whoami").refused(401, "unauthorized");
}

#[test]
fn sessions_survive_a_restart_and_ids_keep_growing() {
    let server = Server::demo();
    let before = server.northwind().session(technician());
    server.northwind().append_text(&before, "Hello").expect(202);
    let whole = server.northwind().read_session(&before).expect(200).data();
    let server = server.restarted();
    assert_eq!(
        server.northwind().read_session(&before).expect(200).data(),
        whole
    );
    let after = server.northwind().session(technician());
    assert!(after > before, "although the clock stands still");
    assert_eq!(
        server.northwind().list_sessions("").expect(200).ids(),
        [after, before]
    );
}

#[test]
fn the_pin_does_not_follow_the_link() {
    let server = Server::demo();
    let routed = server.relay().session(from(CONTOSO));
    server.import_tenant(
        "northwind-it",
        json!({ "end_companies": [
            { "psa_company_id": "1001", "tenant_id": null },
            { "psa_company_id": "1002", "tenant_id": CONTOSO },
        ] }),
    );
    assert_eq!(
        server.relay().read_session(&routed).expect(200).data()["end_company_id"],
        "1001"
    );
    assert_eq!(
        server
            .relay()
            .create_session(from(CONTOSO))
            .expect(201)
            .data()["end_company_id"],
        "1002"
    );
    assert_eq!(
        server
            .northwind()
            .list_sessions("end_company_id=1001")
            .expect(200)
            .ids(),
        [routed]
    );
}
