//! Authentication by keys and tokens: every reason to reject one, and what is stored of them.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use switchboard::digest;
use switchboard::model::api_key;
use switchboard::model::ids::KeyId;
use switchboard::model::words::Role;
use switchboard::store::keys;

use crate::log_book;
use crate::sign_in::signed_in;
use crate::support::{ApiClient, DAY, MINUTE, NORTHWIND, RELAY, SECOND, START, Server, technician};
use crate::wire::{Reply, Request};

/// Asserts a 401 with this reason.
#[track_caller]
fn assert_unauthorized(reply: &Reply, reason: &str) {
    assert_eq!(reply.status, 401, "{}", reply.text());
    assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
    let error = reply.error();
    assert_eq!(error["code"], "unauthorized");
    assert_eq!(error["details"], json!({ "reason": reason }), "{error}");
    assert!(error["message"].as_str().unwrap().ends_with('.'));
}

/// The id of a key, as the database stores it.
fn key_of(server: &Server, credential: &str) -> KeyId {
    let sha256 = digest::sha256(credential);
    let found = server
        .app
        .store
        .read_now(|reader| keys::by_sha256(reader, &sha256));
    found.unwrap().unwrap().key.id
}

/// Rotates a key.
fn rotate(server: &Server, credential: &str, next: &str) {
    let id = key_of(server, credential);
    let (sha256, hint) = (digest::sha256(next), api_key::hint(next));
    server
        .app
        .store
        .write_now(move |tx| keys::rotate(tx, id, sha256, hint))
        .unwrap();
}

/// Revokes a key.
fn revoke(server: &Server, credential: &str) {
    let id = key_of(server, credential);
    server
        .app
        .store
        .write_now(move |tx| keys::revoke(tx, id))
        .unwrap();
}

/// A token signed with this server's own secret.
fn forged(server: &Server, algorithm: Algorithm, kind: &str, claims: &Value) -> String {
    let secret = server.database().signing_secret();
    let mut header = Header::new(algorithm);
    header.typ = Some(kind.to_owned());
    jsonwebtoken::encode(&header, claims, &EncodingKey::from_secret(&secret)).unwrap()
}

#[test]
fn no_credential_is_missing() {
    let server = Server::demo();
    assert_unauthorized(&server.anonymous().get("/whoami"), "missing");
}

#[test]
fn a_credential_that_is_neither_key_nor_token_is_malformed() {
    let server = Server::demo();
    let long = format!("Bearer {}", "a".repeat(5_000));
    let headers = [
        "",
        "Bearer",
        "Bearer ",
        NORTHWIND,
        "Basic dXNlcjpwYXNz",
        "Bearer nonsense",
        "Bearer neo_sk_demo_1234567",
        "Bearer neo_sk_demo_12345678!",
        "Bearer neo_sk_DEMO_123456789",
        "Bearer neo_sk_demo",
        "Bearer neo_sk_",
        "Bearer neo_pk_demo_123456789",
        "Bearer a.b",
        "Bearer a.b.c.d",
        "Bearer ..",
        "Bearer a.b.c",
        "Bearer eyJhbGciOiJub25lIn0.e30.",
        "Bearer \u{e9}",
        "Bearer ' OR 1=1 --",
        long.as_str(),
    ];
    for header in headers {
        let client = ApiClient::new(server.address, Some(header.to_owned()));
        assert_unauthorized(&client.get("/whoami"), "malformed");
    }
}

#[test]
fn the_scheme_is_case_insensitive() {
    let server = Server::demo();
    for scheme in ["bearer", "BEARER", "Bearer "] {
        let client = ApiClient::new(server.address, Some(format!("{scheme} {NORTHWIND}")));
        client.get("/whoami").expect(200);
    }
}

#[test]
fn a_key_that_was_never_issued_is_unknown() {
    let server = Server::demo();
    for key in [
        "neo_sk_demo_12345678",
        "neo_sk_demo_northwind00000001",
        &NORTHWIND
            .to_uppercase()
            .replace("NEO_SK_DEMO", "neo_sk_demo"),
    ] {
        assert_unauthorized(&server.with_credential(key).get("/whoami"), "unknown");
    }
}

#[test]
fn a_key_of_another_environment_has_its_own_reason() {
    let server = Server::demo();
    for key in ["neo_sk_prod_northwind00000000", "neo_sk_dev_12345678"] {
        assert_unauthorized(
            &server.with_credential(key).get("/whoami"),
            "wrong_environment",
        );
    }
}

#[test]
fn a_revoked_key_ends_at_once() {
    let server = Server::demo();
    let northwind = server.northwind();
    northwind.get("/whoami").expect(200);
    revoke(&server, NORTHWIND);
    assert_unauthorized(&northwind.get("/whoami"), "revoked");
    server.relay().get("/whoami").expect(200);
}

#[test]
fn after_the_reply_to_a_revoke_no_request_with_that_key_is_accepted() {
    let server = Server::demo();
    let accepted = std::thread::scope(|scope| {
        // Four at a time, so that each revocation happens under the load of the others.
        let askers: Vec<_> = (0..4)
            .map(|part| {
                let server = &server;
                scope.spawn(move || {
                    let admin = signed_in(server, "northwind-it", Role::Admin);
                    let trials = (0..250).filter(|trial| {
                        let name = format!("Trial {part} {trial}");
                        let made = admin.post("/api-keys", json!({ "name": name }));
                        let key = made.expect(201).data();
                        let holder = server.with_credential(key["key"].as_str().unwrap());
                        holder.get("/whoami").expect(200);
                        let path = format!("/api-keys/{}", key["id"].as_str().unwrap());
                        // Half of the revocations over HTTP, half through the store as the command
                        // line does it.
                        if trial % 2 == 0 {
                            admin.delete(&path).expect(204);
                        } else {
                            revoke(server, key["key"].as_str().unwrap());
                        }
                        let reply = holder.get("/whoami");
                        if reply.status != 200 {
                            assert_unauthorized(&reply, "revoked");
                        }
                        reply.status == 200
                    });
                    trials.count()
                })
            })
            .collect();
        let counts = askers.into_iter().map(|asker| asker.join().unwrap());
        counts.sum::<usize>()
    });
    assert_eq!(accepted, 0);
}

#[test]
fn a_rotated_key_works_for_a_day_alongside_its_successor_and_both_are_one_account() {
    let server = Server::demo();
    let successor = "neo_sk_demo_successor00000000";
    let (old, new) = (server.northwind(), server.with_credential(successor));
    assert_unauthorized(&new.get("/whoami"), "unknown");
    let account = old.get("/whoami").expect(200).data();
    rotate(&server, NORTHWIND, successor);
    assert_ne!(key_of(&server, NORTHWIND), key_of(&server, successor));
    assert_eq!(account["id"], key_of(&server, NORTHWIND).to_string());

    server.advance_clock(DAY - 1);
    for client in [&old, &new] {
        assert_eq!(client.get("/whoami").expect(200).data(), account);
        assert_eq!(
            client.create_session(technician()).expect(201).data()["created_by"]["id"],
            account["id"]
        );
    }
    server.advance_clock(1);
    assert_unauthorized(&old.get("/whoami"), "expired");
    assert_eq!(new.get("/whoami").expect(200).data(), account);

    let third = "neo_sk_demo_third000000000000";
    rotate(&server, successor, third);
    assert_eq!(
        server
            .with_credential(third)
            .get("/whoami")
            .expect(200)
            .data(),
        account
    );
}

#[test]
fn the_use_of_a_key_is_recorded_to_the_minute() {
    let server = Server::demo();
    let last_used = || -> Option<i64> {
        // Records of requests wait in the writer's queue. An empty write waits for all before it.
        server.wait_for_records();
        server.stored("SELECT last_used_at FROM api_keys WHERE name = 'PSA integration (demo)'")
    };
    let northwind = server.northwind();
    assert_eq!(last_used(), None);
    northwind.get("/whoami").expect(200);
    assert_eq!(last_used(), Some(START));
    server.advance_clock(MINUTE + 59 * SECOND + 999);
    northwind.get("/whoami").expect(200);
    assert_eq!(last_used(), Some(START + MINUTE));
    server.advance_clock(1);
    assert_eq!(last_used(), Some(START + MINUTE));
    northwind.get("/whoami").expect(200);
    assert_eq!(last_used(), Some(START + 2 * MINUTE));
    server.relay().get("/whoami").expect(200);
    assert_eq!(last_used(), Some(START + 2 * MINUTE));
}

#[test]
fn whoami_describes_every_kind_of_caller() {
    let server = Server::demo();
    let northwind = server.northwind();
    let session = northwind.session(technician());
    assert_eq!(
        northwind.get("/whoami").expect(200).data(),
        json!({
            "kind": "service_account", "id": key_of(&server, NORTHWIND).to_string(), "name": "PSA integration (demo)",
            "client_id": "northwind-it", "role": null, "platform": false, "session_id": null,
        })
    );
    assert_eq!(
        server.relay().get("/whoami").expect(200).data(),
        json!({
            "kind": "service_account", "id": key_of(&server, RELAY).to_string(), "name": "Teams relay (demo)",
            "client_id": "relay-platform", "role": null, "platform": true, "session_id": null,
        })
    );
    let minted = northwind
        .mint_token(json!({ "session_id": session, "end_user": "Mia" }))
        .expect(201)
        .data();
    let guest = server.with_credential(minted["token"].as_str().unwrap());
    assert_eq!(
        guest.get("/whoami").expect(200).data(),
        json!({
            "kind": "end_user_session", "id": minted["jti"], "name": "Mia",
            "client_id": "northwind-it", "role": null, "platform": false, "session_id": session,
        })
    );
}

#[test]
fn a_token_is_rejected_with_the_true_reason() {
    let server = Server::demo();
    let northwind = server.northwind();
    let session = northwind.session(technician());
    let minted = northwind
        .mint_token(json!({ "session_id": session }))
        .expect(201)
        .data();
    let good = json!({
        "iss": "switchboard:session", "aud": "switchboard:session-api", "sub": session, "jti": minted["jti"],
        "session_id": session, "client_id": "northwind-it", "iat": START / 1_000, "exp": START / 1_000 + 60,
    });
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        claims
    };
    let without = |name: &str| {
        let mut claims = good.clone();
        claims.as_object_mut().unwrap().remove(name);
        claims
    };
    let shows = |algorithm: Algorithm, kind: &str, claims: &Value| {
        server
            .with_credential(&forged(&server, algorithm, kind, claims))
            .get("/whoami")
    };
    let kind = "session+jwt";
    shows(Algorithm::HS256, kind, &good).expect(200);

    for (claims, reason) in [
        (with("iss", "switchboard:sign-in".into()), "bad_signature"),
        (with("iss", "switchboard:somebody".into()), "wrong_issuer"),
        (
            with(
                "iss",
                "https://login.microsoftonline.com/common/v2.0".into(),
            ),
            "wrong_issuer",
        ),
        (without("iss"), "missing_claim"),
        (without("aud"), "missing_claim"),
        (without("jti"), "missing_claim"),
        (without("exp"), "missing_claim"),
        (
            with("aud", "switchboard:sign-in-api".into()),
            "wrong_audience",
        ),
        (with("exp", (START / 1_000).into()), "expired"),
        (with("exp", 0.into()), "expired"),
        (with("exp", i64::MIN.into()), "expired"),
        (
            with("jti", "jti_019ab697-e807-7000-8000-000000000000".into()),
            "revoked",
        ),
    ] {
        assert_unauthorized(&shows(Algorithm::HS256, kind, &claims), reason);
    }
    for (algorithm, kind) in [
        (Algorithm::HS384, kind),
        (Algorithm::HS512, kind),
        (Algorithm::HS256, "JWT"),
        (Algorithm::HS256, "signin+jwt"),
        (Algorithm::HS256, "SESSION+JWT"),
    ] {
        assert_unauthorized(&shows(algorithm, kind, &good), "bad_signature");
    }

    let token = minted["token"].as_str().unwrap();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let first = if signature.starts_with('A') { "B" } else { "A" };
    for damaged in [
        format!("{signed}."),
        format!("{signed}.{first}{}", &signature[1..]),
        format!("{signed}.{}", &signature[..20]),
    ] {
        assert_unauthorized(
            &server.with_credential(&damaged).get("/whoami"),
            "bad_signature",
        );
    }
    let other_server = Server::demo();
    assert_unauthorized(
        &other_server.with_credential(token).get("/whoami"),
        "bad_signature",
    );
    server.with_credential(token).get("/whoami").expect(200);
}

#[test]
fn a_credential_is_checked_before_the_request() {
    let server = Server::demo();
    let holder = server.with_credential("neo_sk_demo_12345678");
    for request in [
        Request::new("GET", "/chat/sessions/nonsense"),
        Request::new("POST", "/chat/sessions").text("{"),
        Request::new("DELETE", "/chat/sessions/nonsense"),
        Request::new("GET", "/chat/sessions?page_size=0"),
    ] {
        assert_unauthorized(&holder.send(request), "unknown");
    }
}

#[test]
fn no_credential_is_ever_in_a_reply_or_in_the_log() {
    let book = log_book::open();
    let server = Server::demo();
    let secret = "neo_sk_demo_hushhushhushhushhush";
    server.import_tenant(
        "northwind-it",
        json!({ "api_keys": [{ "name": "Hush", "key": secret }] }),
    );
    let client = server.with_credential(secret);
    let session = client.session(technician());
    let minted = client
        .mint_token(json!({ "session_id": session }))
        .expect(201)
        .data();
    let token = minted["token"].as_str().unwrap();
    let guest = server.with_credential(token);
    let says_the_key = json!({ "message": "hello", "client_message_id": "c", "model_tier": "x" });
    let replies = [
        client.get("/whoami"),
        client.get("/tenant"),
        client.get(&format!("/nowhere?key={secret}")),
        client.get(&format!("/agents?q={secret}&cursor={secret}")),
        client.get(&format!("/chat/sessions/{secret}")),
        client.append(&session, says_the_key),
        client.list_sessions("q=hush"),
        client.delete_session("nonsense"),
        guest.get("/whoami"),
        guest.read_session(&session),
        guest.get("/tenant"),
        server.with_credential(&format!("{secret}x")).get("/whoami"),
    ];
    revoke(&server, secret);
    for reply in replies
        .into_iter()
        .chain([client.get("/whoami"), guest.get("/whoami")])
    {
        let told = format!("{:?} {}", reply.headers, reply.text());
        assert!(
            !told.contains("hushhush") && !told.contains(token),
            "{told}"
        );
    }
    let whole = book.lines();
    assert!(
        whole
            .iter()
            .any(|line| line.contains("northwind-it/service_account:"))
    );
    for line in whole {
        assert!(
            !line.contains("hushhush") && !line.contains(token),
            "{line}"
        );
    }
    let kept: i64 = server.stored("SELECT count(*) FROM api_keys WHERE hint = 'hush'");
    assert_eq!(kept, 1);
    assert!(!server.database().holds("hushhush"));
}

#[test]
fn a_failure_is_in_the_log_under_its_request_id() {
    let book = log_book::open();
    let server = Server::demo();
    let session = server.northwind().session(technician());
    server.execute_sql("UPDATE sessions SET metadata = 'hardly JSON'");
    let id = "0d1e2f30-4152-4637-8899-aabbccddee01";
    server
        .northwind()
        .send(Request::new("GET", format!("/chat/sessions/{session}")).header("x-request-id", id))
        .refused(500, "internal_error");
    let lines: Vec<String> = book
        .lines()
        .into_iter()
        .filter(|line| line.contains(id))
        .collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("ERROR"));
    assert!(lines[1].contains("GET /chat/sessions/{session_id} 500"));
}
