//! Provokes every error code of the contract.

use std::collections::BTreeSet;

use serde_json::json;
use switchboard::error::Code;
use switchboard::model::words::Role;

use crate::authority::{Authority, NEWCOMER};
use crate::database::is_on_postgres;
use crate::faults;
use crate::management::{flags, person};
use crate::sign_in::signed_in;
use crate::support::{CONTOSO, DEMO, SHARED_BOT, Server, TAILSPIN, WOODGROVE, from, technician};
use crate::wire::{Reply, Request};

/// Provokes a refusal with one code.
type Provocation = fn() -> Reply;

/// A session with one message, and the message.
fn asked(server: &Server) -> (String, String) {
    let northwind = server.northwind();
    let session = northwind.session(technician());
    let accepted = northwind.append_text(&session, "Hello").expect(202).data();
    (
        session,
        accepted["user_message_id"].as_str().unwrap().to_owned(),
    )
}

const PROVOKED: &[(Code, Provocation)] = &[
    (Code::ValidationError, || {
        Server::demo().northwind().create_session(json!({}))
    }),
    (Code::Unauthorized, || {
        Server::demo().anonymous().get("/whoami")
    }),
    (Code::Forbidden, || {
        let server = Server::demo();
        server
            .relay()
            .delete_session(&server.relay().session(from(CONTOSO)))
    }),
    (Code::ClientIdNotAllowed, || {
        Server::demo()
            .northwind()
            .list_sessions("client_id=northwind-it")
    }),
    (Code::AgentNotAllowed, || {
        Server::demo().relay().create_session(
            json!({ "agent_id": 102, "bot_id": SHARED_BOT, "inbound_tenant_id": CONTOSO }),
        )
    }),
    (Code::AgentAccessDenied, || {
        let server = Server::demo();
        let user = signed_in(&server, "northwind-it", Role::User);
        user.create_session(json!({ "agent_id": 101 }))
    }),
    (Code::NotFound, || {
        Server::demo()
            .northwind()
            .create_session(json!({ "agent_id": 201 }))
    }),
    (Code::MethodNotAllowed, || {
        Server::demo().anonymous().delete("/whoami")
    }),
    (Code::EndCompanyNotMapped, || {
        Server::demo().relay().create_session(from(TAILSPIN))
    }),
    (Code::AppPackageIncomplete, || {
        let server = Server::demo();
        let path = format!("/channels/{}/app-package", server.client_help_bot());
        server.northwind().get(&path)
    }),
    (Code::ChannelDisconnected, || {
        let server = Server::demo();
        let channel = json!({ "internal_name": "Helpline bot", "status": "DISCONNECTED" });
        server.import_tenant("fabrikam-support", json!({ "channels": [channel] }));
        server.relay().create_session(from(WOODGROVE))
    }),
    (Code::AgentDisabled, || {
        Server::demo()
            .northwind()
            .create_session(json!({ "agent_id": 103 }))
    }),
    (Code::DuplicateClientMessage, || {
        let server = Server::demo();
        let session = server.northwind().session(technician());
        let body = json!({ "message": "Hello", "client_message_id": "c" });
        server
            .northwind()
            .append(&session, body.clone())
            .expect(202);
        server.northwind().append(&session, body)
    }),
    (Code::SessionArchived, || {
        let server = Server::demo();
        let session = server.northwind().session(technician());
        server.northwind().reset_session(&session).expect(200);
        server.northwind().append_text(&session, "Hello")
    }),
    (Code::TooManyPendingTurns, || {
        let server = Server::demo();
        let session = server.northwind().session(technician());
        for _ in 0..16 {
            server
                .northwind()
                .append_text(&session, "Hello")
                .expect(202);
        }
        server.northwind().append_text(&session, "Hello")
    }),
    (Code::TooManyAttachments, || {
        let server = Server::demo();
        let session = server.northwind().session(technician());
        for _ in 0..20 {
            let made = server.northwind().request_upload(&session, "image/png");
            made.expect(201);
        }
        server.northwind().request_upload(&session, "image/png")
    }),
    (Code::AlreadyExists, || {
        let server = Server::demo();
        let session = server.northwind().session(technician());
        let made = server.northwind().request_upload(&session, "text/plain");
        let url = made.expect(201).data()["upload_url"]
            .as_str()
            .unwrap()
            .to_owned();
        server
            .anonymous()
            .follow_link("PUT", &url, Some(b"x"))
            .expect(200);
        server.anonymous().follow_link("PUT", &url, Some(b"x"))
    }),
    (Code::PayloadTooLarge, || {
        let request = Request::new("POST", "/chat/sessions").text(" ".repeat(300_000));
        Server::demo().northwind().send(request)
    }),
    (Code::UnsupportedMediaType, || {
        Server::demo()
            .northwind()
            .send(Request::new("POST", "/chat/sessions").bytes("{}"))
    }),
    (Code::AgentNotConversational, || {
        Server::demo()
            .northwind()
            .create_session(json!({ "agent_id": 105 }))
    }),
    (Code::EndCompanyRequired, || {
        Server::demo()
            .northwind()
            .create_session(json!({ "agent_id": 101 }))
    }),
    (Code::IdempotencyKeyReused, || {
        let server = Server::demo();
        server
            .northwind()
            .create_session_once("k", technician())
            .expect(201);
        server
            .northwind()
            .create_session_once("k", json!({ "agent_id": 100 }))
    }),
    (Code::AgentManagedByNeo, || {
        Server::demo().northwind().delete("/agents/100")
    }),
    (Code::AgentUpdateConflict, || {
        Server::demo()
            .northwind()
            .put("/agents/102", json!({ "version": 77 }))
    }),
    (Code::AgentInUse, || {
        Server::demo().northwind().delete("/agents/101")
    }),
    (Code::InstallConflict, || {
        let server = Server::demo();
        let path = format!("/channels/{}/installs", server.client_help_bot());
        let northwind = server.northwind();
        northwind.post(&path, json!({ "end_client_tenant_id": WOODGROVE }))
    }),
    (Code::CompanyAlreadyBound, || {
        let server = Server::demo();
        let path = format!("/channels/{}/installs", server.client_help_bot());
        let body = json!({ "end_client_tenant_id": "d-1", "psa_company_id": "1001" });
        server.northwind().post(&path, body)
    }),
    (Code::AudienceMismatch, || {
        let body = json!({ "internal_name": "x", "audience": "MSP", "agent_id": 101 });
        Server::demo().northwind().post("/channels", body)
    }),
    (Code::LastAdmin, || {
        let authority = Authority::new();
        let [url, audience] = flags(&authority);
        let server = Server::with_world(DEMO, &[&url, &audience]);
        let admin = person(&server, &authority, NEWCOMER, "Admin");
        let last = admin
            .get("/users?role=ADMIN")
            .expect(200)
            .ids()
            .swap_remove(0);
        admin.patch(&format!("/users/{last}"), json!({ "role": "USER" }))
    }),
    (Code::TurnInProgress, || {
        let server = Server::demo();
        let (session, message) = asked(&server);
        let path = format!("/chat/sessions/{session}/messages/{message}/regenerate");
        server.northwind().post(&path, json!({}))
    }),
    (Code::MessageNotLast, || {
        let server = Server::demo();
        let (session, message) = asked(&server);
        server
            .northwind()
            .append_text(&session, "Hello?")
            .expect(202);
        let path = format!("/chat/sessions/{session}/messages/{message}");
        server.northwind().patch(&path, json!({ "message": "Hi" }))
    }),
    (Code::MessageAnswered, || {
        let server = Server::answering(&[]);
        let (session, message) = asked(&server);
        let messages = server.northwind().messages(&session, "").expect(200).data();
        let turn = messages[0]["chat_turn_id"].as_str().unwrap();
        server
            .northwind()
            .turn(&session, turn, "wait_seconds=60")
            .expect(200);
        let path = format!("/chat/sessions/{session}/messages/{message}");
        server.northwind().patch(&path, json!({ "message": "Hi" }))
    }),
    (Code::RateLimited, || {
        let server = Server::with_world(DEMO, &["--rate-limit=1"]);
        server.northwind().get("/whoami").expect(200);
        server.northwind().get("/whoami")
    }),
    (Code::InternalError, || {
        let server = Server::demo();
        let session = server.northwind().session(technician());
        server.execute_sql("UPDATE sessions SET metadata = 'no JSON'");
        server.northwind().read_session(&session)
    }),
    (Code::Overloaded, || {
        let server = Server::demo();
        // Another process holds the write lock for longer than a request waits.
        let create = || server.northwind().create_session(technician());
        let reply = server.database().while_locked(create);
        create().expect(201);
        reply
    }),
    (Code::StorageFull, || {
        if !is_on_postgres() {
            return faults::reply_on_a_full_disk();
        }
        let server = Server::demo();
        server.database().refuse("INSERT", "sessions", "disk_full");
        server.northwind().create_session(technician())
    }),
    (Code::ShuttingDown, || {
        let server = Server::demo();
        server.app.drain();
        server.northwind().get("/whoami")
    }),
];

#[test]
fn every_code_is_provoked() {
    let listed: Vec<&str> = PROVOKED.iter().map(|(code, _)| code.as_str()).collect();
    let names: BTreeSet<&str> = listed.iter().copied().collect();
    let all: BTreeSet<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(names, all);
    assert_eq!(listed.len(), names.len(), "a code is listed twice");
    for (code, provocation) in PROVOKED {
        let reply = provocation().refused(code.status(), code.as_str());
        assert_eq!(
            reply.header("retry-after").is_some(),
            matches!(code.status(), 429 | 503),
            "{code:?}"
        );
        assert!(
            reply.error()["message"].as_str().unwrap().ends_with('.'),
            "{code:?}"
        );
    }
}
