//! Repeats of calls that create something: an `Idempotency-Key` makes it once.

use serde_json::{Value, json};
use switchboard::model::words::Role;

use crate::sign_in::signed_in;
use crate::support::{ApiClient, Server, technician};
use crate::wire::{Reply, Request};

fn post_once(client: &ApiClient, path: &str, key: &str, body: &Value) -> Reply {
    let request = Request::new("POST", path).json(body);
    client.send(request.header("idempotency-key", key))
}

/// The data of a reply, byte for byte.
#[track_caller]
fn data(reply: &Reply) -> String {
    let text = reply.text();
    let (data, _) = text.split_once(",\"meta\":").unwrap();
    data.to_owned()
}

/// Asserts that a reply repeats the first one.
#[track_caller]
fn assert_repeats(again: &Reply, first: &Reply) {
    assert_eq!(
        (again.status, data(again), again.header("location")),
        (first.status, data(first), first.header("location"))
    );
    assert_eq!(first.header("idempotent-replayed"), None);
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
}

#[test]
fn every_call_that_creates_does_so_once_for_a_key() {
    let server = Server::demo();
    let northwind = server.northwind();
    let admin = signed_in(&server, "northwind-it", Role::Admin);
    let session = northwind.session(technician());
    let bot = json!({ "internal_name": "Once", "audience": "END_USER", "agent_id": 101, "bot_id": "once-bot" });
    let channel = northwind.post("/channels", bot).expect(201).id();
    for (client, path, body, changed, status) in [
        (
            &northwind,
            "/agents".to_owned(),
            json!({ "name": "Once", "audience": "MSP" }),
            json!({ "name": "Twice", "audience": "MSP" }),
            201,
        ),
        (
            &northwind,
            "/knowledge-articles".to_owned(),
            json!({ "title": "Once", "body": "B", "audience": "MSP" }),
            json!({ "title": "Twice", "body": "B", "audience": "MSP" }),
            201,
        ),
        (
            &northwind,
            "/channels".to_owned(),
            json!({ "internal_name": "One", "audience": "MSP", "agent_id": 102 }),
            json!({ "internal_name": "Two", "audience": "MSP", "agent_id": 102 }),
            201,
        ),
        (
            &northwind,
            "/end-companies".to_owned(),
            json!({ "psa_company_id": "once", "psa_company_name": "Once" }),
            json!({ "psa_company_id": "twice", "psa_company_name": "Twice" }),
            201,
        ),
        (
            &northwind,
            format!("/channels/{channel}/installs"),
            json!({ "end_client_tenant_id": "0ddba110-face-4fee-9add-1eaf1ed0dd99" }),
            json!({ "end_client_tenant_id": "0ddba110-face-4fee-9add-1eaf1ed0dd98" }),
            201,
        ),
        (
            &admin,
            "/users".to_owned(),
            json!({ "id": "once@example.com" }),
            json!({ "id": "twice" }),
            201,
        ),
        (
            &server.relay(),
            "/tenants".to_owned(),
            json!({ "client_id": "once-it", "name": "Once" }),
            json!({ "client_id": "twice-it", "name": "Twice" }),
            201,
        ),
        (
            &northwind,
            format!("/chat/sessions/{session}/messages"),
            json!({ "message": "Once", "client_message_id": "m-1" }),
            json!({ "message": "Twice" }),
            202,
        ),
    ] {
        let first = post_once(client, &path, "k", &body).expect(status);
        let again = post_once(client, &format!("/public-api{path}"), "k", &body);
        assert_repeats(&again, &first);
        post_once(client, &path, "k", &changed).refused(422, "idempotency_key_reused");
        for bad in ["", "a b", &"x".repeat(129)] {
            post_once(client, &path, bad, &body)
                .refused_field("Idempotency-Key", "must be 1 to 128 visible characters");
        }
        // A refusal is not kept.
        post_once(client, &path, "k2", &json!({})).refused(400, "validation_error");
        post_once(client, &path, "k2", &changed).expect(status);
    }
    let agents = northwind.get("/agents?q=Once").expect(200);
    assert_eq!(agents.data().as_array().unwrap().len(), 1);
}

#[test]
fn a_message_is_appended_once_for_a_key_across_a_restart() {
    let server = Server::demo();
    let northwind = server.northwind();
    let sessions = [(); 2].map(|()| northwind.session(technician()));
    let path = |session: &str| format!("/chat/sessions/{session}/messages");
    let body = json!({ "message": "Hello", "client_message_id": "m-1" });
    let first = post_once(&northwind, &path(&sessions[0]), "k", &body).expect(202);
    // A key belongs to a session, and to an account.
    let other = post_once(&northwind, &path(&sessions[1]), "k", &body).expect(202);
    assert_ne!(other.data()["chat_turn_id"], first.data()["chat_turn_id"]);
    let token = northwind.with_session_token(&sessions[0]);
    post_once(&token, &path(&sessions[0]), "k", &body).refused(409, "duplicate_client_message");

    let server = server.restarted();
    let northwind = server.northwind();
    let again = post_once(&northwind, &path(&sessions[0]), "k", &body);
    assert_repeats(&again, &first);
    let listed = northwind.messages(&sessions[0], "").expect(200).data();
    let asked = listed.as_array().unwrap().iter();
    assert_eq!(asked.filter(|message| message["role"] == "user").count(), 1);
    northwind.delete_session(&sessions[0]).expect(204);
    post_once(&northwind, &path(&sessions[0]), "k", &body).not_found();
}

#[test]
fn a_key_whose_session_was_archived_since_is_told_with_the_session() {
    let server = Server::demo();
    let northwind = server.northwind();
    let made = northwind.create_session_once("k", technician()).expect(201);
    let session = made.id();
    let path = format!("/chat/sessions/{session}/messages");
    let body = json!({ "message": "Hello" });
    post_once(&northwind, &path, "k", &body).expect(202);
    northwind.reset_session(&session).expect(200);
    for refused in [
        northwind.create_session_once("k", technician()),
        post_once(&northwind, &path, "k", &body),
    ] {
        assert_eq!(
            (refused.status, refused.error()),
            (
                409,
                json!({
                    "code": "session_archived",
                    "message": "This session is archived. Start a new session.",
                    "details": { "session_id": session },
                })
            )
        );
    }
    northwind
        .create_session_once("k", json!({ "agent_id": 100 }))
        .refused(422, "idempotency_key_reused");
    northwind
        .update_session(&session, json!({ "archived": false }))
        .expect(200);
    let again = northwind.create_session_once("k", technician()).expect(201);
    assert_eq!(again.id(), session);
}

#[test]
fn a_repeat_of_a_deleted_thing_is_a_404_and_its_text_is_gone() {
    let server = Server::demo();
    let northwind = server.northwind();
    let article = json!({ "title": "Secret plan", "body": "B", "audience": "MSP" });
    let company = json!({ "psa_company_id": "gone", "psa_company_name": "Secret company" });
    for (path, body) in [
        ("/knowledge-articles", article),
        ("/end-companies", company),
        (
            "/agents",
            json!({ "name": "Secret agent", "audience": "MSP" }),
        ),
        (
            "/channels",
            json!({ "internal_name": "Secret channel", "audience": "MSP", "agent_id": 102 }),
        ),
    ] {
        let made = post_once(&northwind, path, "k", &body).expect(201);
        let location = made.header("location").unwrap().to_owned();
        northwind.send(Request::new("DELETE", location)).expect(204);
        post_once(&northwind, path, "k", &body).not_found();
    }
    let kept = "SELECT count(*) FROM idempotency_keys WHERE reply LIKE '%Secret%'";
    assert_eq!(server.stored::<i64>(kept), 0);
}

#[test]
fn a_repeat_does_not_show_what_went_with_something_else() {
    let server = Server::demo();
    let northwind = server.northwind();
    // An article that was deleted with its company.
    let article = json!({ "title": "Theirs", "body": "Secret recipe", "audience": "END_USER", "end_company_id": "1002" });
    post_once(&northwind, "/knowledge-articles", "k", &article).expect(201);
    northwind.delete("/end-companies/1002").expect(204);
    post_once(&northwind, "/knowledge-articles", "k", &article).not_found();
    let kept = "SELECT count(*) FROM idempotency_keys WHERE reply LIKE '%Secret recipe%'";
    assert_eq!(server.stored::<i64>(kept), 0);
    // An install that another channel of the same bot took over.
    let directory = json!({ "end_client_tenant_id": "f4e50000-0000-4000-8000-000000000001" });
    let channel = |name: &str| {
        let channel = json!({ "internal_name": name, "audience": "END_USER", "agent_id": 101, "bot_id": "moved-bot" });
        northwind.post("/channels", channel).expect(201).id()
    };
    let first = channel("First");
    let path = format!("/channels/{first}/installs");
    post_once(&northwind, &path, "k", &directory).expect(201);
    northwind.delete(&format!("/channels/{first}")).expect(204);
    let second = format!("/channels/{}/installs", channel("Second"));
    northwind.post(&second, directory.clone()).expect(201);
    post_once(&northwind, &path, "k", &directory).not_found();
}

#[test]
fn a_reply_with_a_secret_is_never_stored_and_says_so() {
    const IGNORED: &str =
        "Idempotency-Key was ignored: this reply holds a secret, which the server does not store.";
    let server = Server::demo();
    let northwind = server.northwind();
    let admin = signed_in(&server, "northwind-it", Role::Admin);
    let session = northwind.session(technician());
    let key = admin
        .post("/api-keys", json!({ "name": "Old" }))
        .expect(201);
    for (client, path, body) in [
        (
            &northwind,
            "/sessions".to_owned(),
            json!({ "session_id": session }),
        ),
        (
            &northwind,
            format!("/chat/sessions/{session}/attachments/upload-url"),
            json!({ "content_type": "image/png" }),
        ),
        (&admin, "/api-keys".to_owned(), json!({ "name": "New" })),
        (&admin, format!("/api-keys/{}/rotate", key.id()), json!({})),
    ] {
        let made = post_once(client, &path, "not visible", &body).expect(201);
        assert_eq!(made.json()["meta"]["warnings"], json!([IGNORED]), "{path}");
        assert_eq!(made.header("idempotent-replayed"), None);
    }
    let tokens = [(); 2].map(|()| {
        let body = json!({ "session_id": session });
        post_once(&northwind, "/sessions", "k", &body)
            .expect(201)
            .data()["jti"]
            .clone()
    });
    assert_ne!(tokens[0], tokens[1]);
    assert_eq!(
        server.stored::<i64>("SELECT count(*) FROM idempotency_keys"),
        0
    );
}
