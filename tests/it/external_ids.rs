//! External ids: a client names its conversations, and a create gives the open session of a name.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::concurrency::{at_once, with_status};
use crate::support::{
    ApiClient, CONTOSO, SHARED_BOT, Server, TECHNICIAN_BOT, WOODGROVE, from, technician,
};
use crate::wire::Reply;

/// A create of this conversation.
fn named(mut body: Value, id: &str) -> Value {
    body["external_id"] = id.into();
    body
}

/// A create that gives the open session of this conversation.
fn or_open(body: Value, id: &str) -> Value {
    let mut body = named(body, id);
    body["if_exists"] = "return".into();
    body
}

#[track_caller]
fn taken(client: &ApiClient, body: Value, open: &str) -> Value {
    let refused = client.create_session(body);
    let error = refused.refused(409, "already_exists").error();
    assert_eq!(error["details"]["session_id"], open);
    error
}

#[test]
fn a_create_gives_the_open_session_of_an_external_id_or_makes_one() {
    let server = Server::demo();
    let northwind = server.northwind();
    let body = or_open(technician(), "chat-1");
    let made = northwind.create_session(body.clone()).expect(201);
    assert_eq!(made.data()["external_id"], "chat-1");
    assert!(made.header("location").is_some());

    let mut other = body.clone();
    other["title"] = "Another title".into();
    other["metadata"] = json!({ "a": "b" });
    for again in [body.clone(), other] {
        let again = northwind.create_session(again).expect(200);
        assert_eq!(again.data(), made.data());
        assert_eq!(again.header("location"), None);
    }
    assert_eq!(northwind.list_sessions("").ids(), [made.id()]);
    assert_eq!(northwind.read_session(&made.id()).data(), made.data());

    let server = server.restarted();
    let again = server.northwind().create_session(body).expect(200);
    assert_eq!(again.data(), made.data());
}

#[test]
fn an_external_id_that_an_open_session_has_is_refused_without_if_exists() {
    let server = Server::demo();
    let northwind = server.northwind();
    let body = named(technician(), "chat-1");
    let open = northwind.session(body.clone());
    let mut titled = body.clone();
    titled["title"] = "Another".into();
    for body in [body, titled] {
        assert_eq!(
            taken(&northwind, body, &open),
            json!({
                "code": "already_exists",
                "message": "An open session of this account has this external_id already. Use that session, archive it first, or send if_exists: return.",
                "details": { "field": "external_id", "session_id": open },
            })
        );
    }
    assert_eq!(northwind.list_sessions("archived=all").ids(), [open]);
}

#[test]
fn after_a_reset_an_archival_or_a_deletion_the_next_create_makes_a_new_session() {
    let server = Server::demo();
    let northwind = server.northwind();
    let body = or_open(technician(), "chat-1");
    let mut sessions = vec![northwind.session(body.clone())];
    let ends: [fn(&ApiClient, &str); 3] = [
        |client, session| drop(client.reset_session(session).expect(200)),
        |client, session| {
            let archived = client.update_session(session, json!({ "archived": true }));
            archived.expect(200);
        },
        |client, session| drop(client.delete_session(session).expect(204)),
    ];
    for end in ends {
        end(&northwind, sessions.last().unwrap());
        sessions.push(northwind.session(body.clone()));
        let again = northwind.create_session(body.clone()).expect(200);
        assert_eq!(again.id(), *sessions.last().unwrap());
    }
    assert_eq!(sessions.iter().collect::<BTreeSet<_>>().len(), 4);
}

#[test]
fn an_archived_session_is_opened_again_only_while_no_other_one_has_its_external_id() {
    let server = Server::demo();
    let northwind = server.northwind();
    let body = or_open(technician(), "chat-1");
    let first = northwind.session(body.clone());
    northwind.reset_session(&first).expect(200);
    let second = northwind.session(body.clone());
    for archived in [json!(false), json!(null)] {
        let reopened = northwind.update_session(&first, json!({ "archived": archived }));
        assert_eq!(
            reopened.refused(409, "already_exists").error(),
            json!({
                "code": "already_exists",
                "message": "Another open session has the external_id of this one. Archive that session first.",
                "details": { "field": "archived", "session_id": second },
            })
        );
    }
    // What is open stays open, and other fields of the archived one can change.
    let kept = northwind.update_session(&second, json!({ "archived": false }));
    kept.expect(200);
    let changed = northwind.update_session(&first, json!({ "title": "Old" }));
    changed.expect(200);
    northwind.reset_session(&second).expect(200);
    let reopened = northwind.update_session(&first, json!({ "archived": false }));
    assert_eq!(reopened.expect(200).data()["archived_at"], json!(null));
    assert_eq!(northwind.create_session(body).expect(200).id(), first);
}

#[test]
fn an_external_id_belongs_to_an_account_and_an_acting_tenant() {
    let server = Server::demo();
    let relay = server.relay();
    let in_tenant = |client_id: &str| {
        let body = json!({ "managed_agent_key": "NEO_SUPPORT", "client_id": client_id });
        relay.session(or_open(body, "chat-1"))
    };
    server.import_tenant(
        "northwind-it",
        json!({ "api_keys": [{ "name": "Second", "key": "neo_sk_demo_second00" }] }),
    );
    let second = server.with_credential("neo_sk_demo_second00");
    let sessions = [
        in_tenant("northwind-it"),
        in_tenant("fabrikam-support"),
        server.northwind().session(or_open(technician(), "chat-1")),
        second.session(or_open(technician(), "chat-1")),
    ];
    assert_eq!(sessions.iter().collect::<BTreeSet<_>>().len(), 4);
    let managed = json!({ "managed_agent_key": "NEO_SUPPORT", "client_id": "fabrikam-support" });
    let again = relay.create_session(or_open(managed, "chat-1")).expect(200);
    assert_eq!(again.id(), sessions[1]);
}

#[test]
fn a_session_of_another_bot_m365_tenant_or_resolution_is_not_given() {
    let server = Server::demo();
    let relay = server.relay();
    let of = |bot: &str, directory: &str| {
        let body = json!({
            "managed_agent_key": "NEO_SUPPORT", "client_id": "northwind-it", "bot_id": bot, "inbound_tenant_id": directory,
        });
        or_open(body, "chat-1")
    };
    // Rule c, in which nothing of the call but these two ids differs.
    let nobody = "0ddba110-face-4fee-9add-1eaf1ed0dd77";
    let open = relay.session(of("some-bot", nobody));
    let spelled = of("SOME-Bot", &nobody.to_uppercase());
    assert_eq!(relay.create_session(spelled).expect(200).id(), open);
    for (bot, directory) in [
        ("other-bot", nobody),
        ("some-bot", "0ddba110-face-4fee-9add-1eaf1ed0dd78"),
        (TECHNICIAN_BOT, nobody),
        (SHARED_BOT, CONTOSO),
    ] {
        let error = taken(&relay, of(bot, directory), &open);
        assert_eq!(
            error["message"],
            "The open session with this external_id has another bot, M365 tenant or agent, or was routed in another way. Reset that session, then create this one again."
        );
    }
    // Another acting tenant is no conflict.
    let elsewhere = relay.create_session(of(SHARED_BOT, WOODGROVE)).expect(201);
    assert_eq!(elsewhere.data()["client_id"], "fabrikam-support");

    let northwind = server.northwind();
    let open = northwind.session(or_open(json!({ "agent_id": 102 }), "chat-1"));
    let other = or_open(json!({ "agent_id": 100 }), "chat-1");
    taken(&northwind, other, &open);
}

#[test]
fn what_refuses_a_create_refuses_one_whose_session_exists() {
    let server = Server::demo();
    let (relay, northwind) = (server.relay(), server.northwind());
    let body = or_open(from(CONTOSO), "chat-1");
    let open = relay.session(body.clone());
    assert_eq!(relay.create_session(body.clone()).expect(200).id(), open);
    let unlinked = northwind.put("/end-companies/1001", json!({ "tenant_ids": [] }));
    unlinked.expect(200);
    let refused = relay.create_session(body.clone());
    refused.refused(409, "end_company_not_mapped");
    // The link leads to another company now: the conversation is not the same.
    let linked = northwind.put("/end-companies/1002", json!({ "tenant_ids": [CONTOSO] }));
    linked.expect(200);
    taken(&relay, body.clone(), &open);
    relay.reset_session(&open).expect(200);
    let moved = relay.create_session(body).expect(201);
    assert_eq!(moved.data()["end_company_id"], "1002");
}

#[test]
fn an_idempotency_key_repeats_the_first_reply_whichever_it_was() {
    let server = Server::demo();
    let northwind = server.northwind();
    let body = or_open(technician(), "chat-1");
    let made = northwind.create_session_once("k-1", body.clone());
    let made = made.expect(201);
    let found = northwind.create_session_once("k-2", body.clone());
    let found = found.expect(200);
    assert_eq!(found.data(), made.data());
    assert_eq!(found.header("idempotent-replayed"), None);
    for (key, status) in [("k-1", 201), ("k-2", 200)] {
        let again = northwind.create_session_once(key, body.clone());
        let again = again.expect(status);
        assert_eq!(again.data(), made.data());
        assert_eq!(again.header("idempotent-replayed"), Some("true"));
        assert_eq!(again.header("location").is_some(), status == 201);
    }
    let taken = northwind.create_session_once("k-3", named(technician(), "chat-1"));
    taken.refused(409, "already_exists");
    northwind.reset_session(&made.id()).expect(200);
    for key in ["k-1", "k-2"] {
        let again = northwind.create_session_once(key, body.clone());
        again.refused(409, "session_archived");
    }
    let next = northwind.create_session_once("k-3", body).expect(201);
    assert_ne!(next.id(), made.id());
}

#[test]
fn of_32_creates_of_an_external_id_at_once_one_makes_the_session() {
    let server = Server::demo();
    let senders = [server.northwind()];
    let replies = at_once(32, &senders, |client, number| {
        let body = or_open(technician(), "chat-1");
        match number % 2 {
            0 => client.create_session(body),
            _ => client.create_session_once(&format!("k-{number}"), body),
        }
    });
    let (made, found) = (with_status(&replies, 201), with_status(&replies, 200));
    assert_eq!((made.len(), found.len()), (1, 31));
    let ids: BTreeSet<String> = replies.iter().map(Reply::id).collect();
    assert_eq!(ids.len(), 1);

    let replies = at_once(32, &senders, |client, _| {
        client.create_session(named(technician(), "chat-2"))
    });
    let (made, taken) = (with_status(&replies, 201), with_status(&replies, 409));
    assert_eq!((made.len(), taken.len()), (1, 31));
    for reply in taken {
        assert_eq!(reply.error()["code"], "already_exists");
    }
}

#[test]
fn an_external_id_has_1_to_255_visible_characters() {
    let server = Server::demo();
    let northwind = server.northwind();
    let longest = "~".repeat(255);
    northwind.session(named(technician(), &longest));
    northwind.session(named(technician(), "!"));
    for bad in ["", "a b", "a\tb", "\u{e9}", "a\u{0}", &"x".repeat(256)] {
        for refused in [
            northwind.create_session(named(technician(), bad)),
            northwind.resolve(named(technician(), bad)),
        ] {
            refused.refused_field("external_id", "must be 1 to 255 visible characters");
        }
    }
    let number = json!({ "agent_id": 102, "external_id": 7 });
    let refused = northwind.create_session(number);
    refused.refused_field("external_id", "must be a string");
    let nothing = json!({ "agent_id": 102, "external_id": null });
    let made = northwind.create_session(nothing).expect(201);
    assert_eq!(made.data()["external_id"], json!(null));
}

#[test]
fn if_exists_is_return_and_needs_an_external_id() {
    let server = Server::demo();
    let northwind = server.northwind();
    let mut body = named(technician(), "chat-1");
    body["if_exists"] = "replace".into();
    let refused = northwind.create_session(body);
    refused.refused_field("if_exists", "must be one of return");
    for body in [
        json!({ "agent_id": 102, "if_exists": "return" }),
        json!({ "agent_id": 102, "if_exists": "return", "external_id": null }),
    ] {
        let refused = northwind.create_session(body);
        refused.refused_field("if_exists", "needs an external_id");
    }
}

#[test]
fn a_dry_run_looks_for_no_session() {
    let server = Server::demo();
    let northwind = server.northwind();
    northwind.session(named(technician(), "chat-1"));
    for body in [
        named(technician(), "chat-1"),
        or_open(json!({ "agent_id": 100 }), "chat-1"),
    ] {
        northwind.resolve(body).expect(200);
    }
}
