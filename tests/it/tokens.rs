//! Session tokens: who may mint them, their claims, what they permit, and when they end.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use switchboard::digest;
use switchboard::http::edge::router;
use switchboard::model::api_key;
use switchboard::store::keys;

use crate::support::{
    ApiClient, CONTOSO, NORTHWIND, SECOND, START, Server, WOODGROVE, from, technician,
};
use crate::wire::{Reply, Request};

/// The claims of a minted token, without checking the signature.
fn claims(minted: &Reply) -> Value {
    let data = minted.data();
    let body = data["token"].as_str().unwrap().split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(body).unwrap()).unwrap()
}

/// A client with this token.
fn holder(server: &Server, minted: &Reply) -> ApiClient {
    server.with_credential(minted.data()["token"].as_str().unwrap())
}

#[track_caller]
fn assert_unauthorized(reply: &Reply, reason: &str) {
    assert_eq!(
        (reply.status, &reply.error()["details"]),
        (401, &json!({ "reason": reason }))
    );
}

#[test]
fn a_token_is_minted_for_an_hour_by_default() {
    let server = Server::demo();
    let northwind = server.northwind();
    let session = northwind.session(technician());
    let minted = northwind
        .mint_token(json!({ "session_id": session }))
        .expect(201);
    let data = minted.data();
    assert_eq!(
        data,
        json!({
            "token": data["token"], "jti": data["jti"], "session_id": session, "expires_at": "2025-11-24T17:00:00.000Z",
        })
    );
    let location = format!("/public-api/sessions/{}", data["jti"].as_str().unwrap());
    assert_eq!(minted.header("location"), Some(location.as_str()));
    let header = data["token"].as_str().unwrap().split('.').next().unwrap();
    assert_eq!(
        serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap(),
        json!({ "typ": "session+jwt", "alg": "HS256" })
    );
    let claims = claims(&minted);
    for (name, value) in [
        ("sub", json!(session)),
        ("session_id", json!(session)),
        ("jti", data["jti"].clone()),
        ("client_id", json!("northwind-it")),
        ("end_company_id", Value::Null),
        ("iat", json!(START / 1_000)),
        ("exp", json!(START / 1_000 + 3_600)),
    ] {
        assert_eq!(claims[name], value, "{name}");
    }
}

#[test]
fn a_token_lives_60_to_86400_seconds_and_expires_by_the_clock() {
    let server = Server::demo();
    let northwind = server.northwind();
    let session = northwind.session(technician());
    let mint =
        |ttl: Value| northwind.mint_token(json!({ "session_id": session, "ttl_seconds": ttl }));
    for bad in [0, 59, 86_401, -60, i64::MAX] {
        mint(bad.into()).refused_field("ttl_seconds", "must be from 60 to 86400");
    }
    for bad in [json!(60.5), json!("60"), json!([60])] {
        mint(bad).refused_field("ttl_seconds", "must be a whole number");
    }
    let (shortest, longest) = (mint(60.into()).expect(201), mint(86_400.into()).expect(201));
    assert_eq!(shortest.data()["expires_at"], "2025-11-24T16:01:00.000Z");
    assert_eq!(longest.data()["expires_at"], "2025-11-25T16:00:00.000Z");
    let (shortest, longest) = (holder(&server, &shortest), holder(&server, &longest));
    server.advance_clock(60 * SECOND - 1);
    shortest.read_session(&session).expect(200);
    server.advance_clock(1);
    assert_unauthorized(&shortest.read_session(&session), "expired");
    server.advance_clock(86_340 * SECOND - 1);
    longest.read_session(&session).expect(200);
    server.advance_clock(1);
    assert_unauthorized(&longest.read_session(&session), "expired");
}

#[test]
fn an_invalid_mint_request_is_refused_by_field() {
    let server = Server::demo();
    let northwind = server.northwind();
    let session = northwind.session(technician());
    for (field, value, reason) in [
        ("session_id", json!(5), "must be a string"),
        ("session_id", json!(""), "must not be empty"),
        ("end_user", json!(5), "must be a string"),
        (
            "end_user",
            json!("x".repeat(257)),
            "must have at most 256 characters",
        ),
        ("end_user", json!("\u{0}"), "must not contain U+0000"),
        ("end_user_email", json!({}), "must be a string"),
        ("end_company_id", json!(1001), "must be a string"),
        ("end_company_id", json!(""), "must not be empty"),
        ("allowed_agent_ids", json!(102), "must be an array"),
        ("client_id", json!(5), "must be a string"),
    ] {
        northwind
            .mint_token(json!({ "session_id": session, field: value }))
            .refused_field(field, reason);
    }
    northwind
        .mint_token(json!({ "session_id": session, "allowed_agent_ids": [102, "102"] }))
        .refused_field("allowed_agent_ids[1]", "must be a whole number");
    northwind
        .mint_token(json!({}))
        .refused_field("session_id", "is required");
    for unknown in [
        "nonsense",
        "ses_",
        "ses_019ab697-e807-7000-8000-000000000000",
    ] {
        northwind
            .mint_token(json!({ "session_id": unknown }))
            .not_found();
    }
}

#[test]
fn a_caller_that_may_write_in_a_session_may_mint_for_it() {
    let server = Server::demo();
    let (relay, northwind, fabrikam) = (server.relay(), server.northwind(), server.fabrikam());
    let own = northwind.session(technician());
    let routed = relay.session(from(CONTOSO));
    let elsewhere = relay.session(from(WOODGROVE));
    for (client, session, status) in [
        (&northwind, &own, 201),
        (&northwind, &routed, 201),
        (&northwind, &elsewhere, 404),
        (&fabrikam, &own, 404),
        (&fabrikam, &routed, 404),
        (&fabrikam, &elsewhere, 201),
        (&relay, &own, 404),
        (&relay, &routed, 201),
        (&relay, &elsewhere, 201),
    ] {
        client
            .mint_token(json!({ "session_id": session }))
            .expect(status);
    }
    let guest = northwind.with_session_token(&own);
    guest
        .mint_token(json!({ "session_id": own }))
        .refused(403, "forbidden");
    // In its own tenant the platform is an ordinary service account.
    let plain = json!({ "api_keys": [{ "name": "Reports", "key": "neo_sk_demo_reports0" }] });
    server.import_tenant("relay-platform", plain);
    let home = server
        .with_credential("neo_sk_demo_reports0")
        .session(json!({ "managed_agent_key": "NEO_SUPPORT" }));
    relay.mint_token(json!({ "session_id": home })).expect(201);
}

#[test]
fn the_platform_may_name_the_tenant_of_the_session() {
    let server = Server::demo();
    let relay = server.relay();
    let routed = relay.session(from(CONTOSO));
    let mint =
        |client_id: &str| relay.mint_token(json!({ "session_id": routed, "client_id": client_id }));
    mint("northwind-it").expect(201);
    mint("fabrikam-support").not_found();
    mint("relay-platform").not_found();
    mint("no-such-tenant").not_found();
    for malformed in ["", "NOT A NAME"] {
        mint(malformed).refused_field(
            "client_id",
            "must be 1 to 63 characters of a-z, 0-9 and '-', and must not start with '-'",
        );
    }
}

#[test]
fn the_company_of_a_token_is_its_sessions_for_any_body() {
    let server = Server::demo();
    let (relay, northwind) = (server.relay(), server.northwind());
    let pinned = relay.session(from(CONTOSO));
    let tried = northwind.session(json!({ "agent_id": 101, "end_company_id": "1002" }));
    let internal = northwind.session(technician());
    for said in [
        Value::Null,
        "1003".into(),
        "WOOD-01".into(),
        "no form / at all".into(),
    ] {
        let mint = |client: &ApiClient, session: &str| {
            let minted = client
                .mint_token(json!({ "session_id": session, "end_company_id": said }))
                .expect(201);
            claims(&minted)["end_company_id"].clone()
        };
        assert_eq!(mint(&relay, &pinned), "1001");
        assert_eq!(mint(&northwind, &tried), "1002");
        assert_eq!(mint(&northwind, &internal), Value::Null);
    }
    let recorded: i64 =
        server.stored("SELECT count(*) FROM session_tokens WHERE psa_company_id = '1003'");
    assert_eq!(recorded, 3);
    for (session, company) in [(&pinned, json!("1001")), (&internal, Value::Null)] {
        assert_eq!(
            northwind.read_session(session).expect(200).data()["end_company_id"],
            company
        );
    }
}

#[test]
fn a_list_of_allowed_agents_must_contain_the_sessions_own() {
    let server = Server::demo();
    let northwind = server.northwind();
    let session = northwind.session(technician());
    let mint = |allowed: Value| {
        northwind.mint_token(json!({ "session_id": session, "allowed_agent_ids": allowed }))
    };
    mint(json!([102])).expect(201);
    mint(json!([999, 102, 102])).expect(201);
    for without in [json!([]), json!([101]), json!([-102, 201])] {
        assert_eq!(
            mint(without).refused(403, "agent_not_allowed").error(),
            json!({
                "code": "agent_not_allowed",
                "message": "allowed_agent_ids does not contain the session's agent. Add the agent, or leave out the list.",
                "details": { "field": "allowed_agent_ids" },
            })
        );
    }
}

#[test]
fn a_token_opens_its_session_and_nothing_else() {
    let server = Server::answering(&[]);
    let northwind = server.northwind();
    let session = northwind.session(technician());
    let guest = northwind.with_session_token(&session);
    let turn = guest.append_text(&session, "Hello").expect(202).data()["chat_turn_id"]
        .as_str()
        .unwrap()
        .to_owned();
    for row in router::table() {
        let path = row
            .path
            .replace("{session_id}", &session)
            .replace("{chat_turn_id}", &turn)
            .replace("{agent_id}", "102")
            .replace("{message_id}", "msg_019ab697-e807-7000-8000-000000000000")
            .replace(
                "{attachment_id}",
                "att_019ab697-e807-7000-8000-000000000000",
            )
            .replace("{jti}", "jti_019ab697-e807-7000-8000-000000000000")
            .replace("{channel_id}", "chn_019ab697-e807-7000-8000-000000000000")
            .replace("{install_id}", "ins_019ab697-e807-7000-8000-000000000000")
            .replace("{file}", "page.js");
        let request = Request::new(
            row.method.as_str(),
            path.replace("/events", "/events?resume=true"),
        )
        .json(&json!({ "message": "Hello", "agent_id": 102, "content_type": "image/png" }));
        let reply = guest.send(request);
        match (row.method.as_str(), row.path) {
            ("POST", "/auth/exchange") => reply.refused_field("code", "is required"),
            (
                "GET",
                "/health" | "/ready" | "/openapi.json" | "/docs" | "/docs/guide" | "/docs/{file}"
                | "/whoami" | "/auth/config",
            )
            | ("GET", "/chat/sessions/{session_id}")
            | ("GET", "/chat/sessions/{session_id}/messages")
            | ("GET", "/chat/sessions/{session_id}/turns/{chat_turn_id}")
            | ("POST", "/chat/sessions/{session_id}/cancel") => reply.expect(200),
            ("POST", "/chat/sessions/{session_id}/attachments/upload-url") => reply.expect(201),
            ("GET", "/chat/sessions/{session_id}/events") => reply.expect(204),
            ("GET", "/docs/guide/{page}")
            | ("PATCH", "/chat/sessions/{session_id}/messages/{message_id}")
            | ("POST", "/chat/sessions/{session_id}/messages/{message_id}/regenerate")
            | ("PUT", "/chat/sessions/{session_id}/messages/{message_id}/feedback") => {
                reply.not_found()
            }
            ("POST", "/chat/sessions/{session_id}/messages") => reply.expect(202),
            _ => reply.refused(403, "forbidden"),
        };
    }
}

#[test]
fn for_a_token_another_session_does_not_exist() {
    let server = Server::demo();
    let (northwind, fabrikam) = (server.northwind(), server.fabrikam());
    let session = northwind.session(technician());
    let guest = northwind.with_session_token(&session);
    let shared = northwind.session(technician());
    northwind
        .update_session(&shared, json!({ "shared": true }))
        .expect(200);
    let foreign = fabrikam.session(json!({ "agent_id": 202 }));
    let absent = "ses_019ab697-e807-7000-8000-000000000000".to_owned();
    let turn = northwind.append_text(&shared, "Hello").expect(202).data()["chat_turn_id"]
        .as_str()
        .unwrap()
        .to_owned();
    for other in [&shared, &foreign, &absent] {
        guest.read_session(other).not_found();
        guest.messages(other, "").not_found();
        guest.append_text(other, "Hello").not_found();
        guest.turn(other, &turn, "").not_found();
        guest.turn(&session, &turn, "").not_found();
    }
}

#[test]
fn a_token_holder_writes_like_other_callers_and_gets_the_same_refusals() {
    let server = Server::demo();
    let relay = server.relay();
    let session = relay.session(from(CONTOSO));
    let guest = relay.with_session_token(&session);
    let first = guest
        .append(
            &session,
            json!({ "message": "Hello", "client_message_id": "c" }),
        )
        .expect(202);
    relay
        .append(
            &session,
            json!({ "message": "Hello", "client_message_id": "c" }),
        )
        .refused(409, "duplicate_client_message");
    assert_eq!(
        guest.messages(&session, "").expect(200).ids(),
        [first.data()["user_message_id"].as_str().unwrap()]
    );
    relay.reset_session(&session).expect(200);
    guest.read_session(&session).expect(200);
    guest
        .append_text(&session, "Hello?")
        .refused(409, "session_archived");
}

#[test]
fn a_revoked_token_ends_at_once_and_the_others_stay_valid() {
    let server = Server::demo();
    let northwind = server.northwind();
    let session = northwind.session(technician());
    let minted = northwind
        .mint_token(json!({ "session_id": session }))
        .expect(201);
    let other = northwind.with_session_token(&session);
    let guest = holder(&server, &minted);
    guest.read_session(&session).expect(200);
    let address = format!("/sessions/{}", minted.data()["jti"].as_str().unwrap());
    guest.delete(&address).refused(403, "forbidden");
    assert!(northwind.delete(&address).expect(204).body.is_empty());
    assert_unauthorized(&guest.read_session(&session), "revoked");
    assert_unauthorized(&guest.get("/whoami"), "revoked");
    northwind.delete(&address).expect(204);
    other.read_session(&session).expect(200);
    let server = server.restarted();
    assert_unauthorized(&holder(&server, &minted).read_session(&session), "revoked");
}

#[test]
fn a_caller_that_may_not_mint_a_token_may_not_revoke_it() {
    let server = Server::demo();
    let (relay, northwind, fabrikam) = (server.relay(), server.northwind(), server.fabrikam());
    let own = northwind.session(technician());
    let routed = relay.session(from(CONTOSO));
    let address = |minted: Reply| {
        format!(
            "/sessions/{}",
            minted.expect(201).data()["jti"].as_str().unwrap()
        )
    };
    let of_own = address(northwind.mint_token(json!({ "session_id": own })));
    let of_routed = address(relay.mint_token(json!({ "session_id": routed })));
    fabrikam.delete(&of_own).not_found();
    relay.delete(&of_own).not_found();
    fabrikam.delete(&of_routed).not_found();
    relay.delete(&of_routed).expect(204);
    northwind.delete(&of_routed).expect(204);
    northwind.delete(&of_own).expect(204);
    for unknown in ["jti_019ab697-e807-7000-8000-000000000000", "nonsense", &own] {
        northwind
            .delete(&format!("/sessions/{unknown}"))
            .not_found();
    }
}

#[test]
fn a_token_ends_with_the_key_that_minted_it_and_with_no_other_key() {
    let server = Server::demo();
    let find = |key: &str| {
        let sha256 = digest::sha256(key);
        server
            .app
            .store
            .read_now(|reader| keys::by_sha256(reader, &sha256))
            .unwrap()
            .unwrap()
            .key
            .id
    };
    let (first_key, second_key) = (find(NORTHWIND), "neo_sk_demo_successor00000000");
    server
        .app
        .store
        .write_now(move |tx| {
            keys::rotate(
                tx,
                first_key,
                digest::sha256(second_key),
                api_key::hint(second_key),
            )
        })
        .unwrap();
    let (first, second) = (server.northwind(), server.with_credential(second_key));
    let session = first.session(technician());
    let (of_first, of_second) = (
        first.with_session_token(&session),
        second.with_session_token(&session),
    );
    server
        .app
        .store
        .write_now(move |tx| keys::revoke(tx, first_key))
        .unwrap();
    assert_unauthorized(&of_first.read_session(&session), "revoked");
    of_second.read_session(&session).expect(200);
    let id = find(second_key);
    server
        .app
        .store
        .write_now(move |tx| keys::revoke(tx, id))
        .unwrap();
    assert_unauthorized(&of_second.read_session(&session), "revoked");
}

#[test]
fn tokens_survive_a_restart() {
    let server = Server::demo();
    let session = server.northwind().session(technician());
    let minted = server
        .northwind()
        .mint_token(json!({ "session_id": session }))
        .expect(201);
    let server = server.restarted();
    holder(&server, &minted).read_session(&session).expect(200);
}
