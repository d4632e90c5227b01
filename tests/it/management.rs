//! Management over HTTP: tenants by the platform, people and keys by an ADMIN, the audit trail.

use serde_json::{Value, json};

use crate::authority::{Authority, FABRIKAM_DIRECTORY, NEWCOMER, current};
use crate::support::{ApiClient, CONTOSO, DEMO, Server, technician};

/// The flags of a server that accepts an authority's tokens.
pub fn flags(authority: &Authority) -> [String; 2] {
    [
        format!("--entra-authority={}", authority.url()),
        format!("--entra-audience={}", crate::authority::AUDIENCE),
    ]
}

fn with_people(authority: &Authority) -> Server {
    let [url, audience] = flags(authority);
    Server::with_world(DEMO, &[&url, &audience])
}

/// A person of Northwind with this role in the token.
pub fn person(server: &Server, authority: &Authority, oid: &str, role: &str) -> ApiClient {
    let mut claims = authority.claims(oid);
    if !role.is_empty() {
        claims["roles"] = json!([role]);
    }
    server.with_credential(&current().issue(&claims))
}

#[test]
fn the_platform_creates_a_tenant_with_its_managed_agent_and_changes_it() {
    let server = Server::demo();
    let relay = server.relay();
    let made = relay
        .post("/tenants", json!({ "client_id": "proseware-it", "name": "Proseware IT", "rate_limit_per_minute": 7 }))
        .expect(201);
    assert_eq!(
        made.header("location"),
        Some("/public-api/tenants/proseware-it")
    );
    assert_eq!(
        made.data(),
        json!({
            "client_id": "proseware-it", "name": "Proseware IT", "entra_tenant_id": null, "retention_days": null,
            "website_url": null, "privacy_url": null, "terms_url": null, "rate_limit_per_minute": 7, "created_at": "2025-11-24T16:00:00.000Z",
        })
    );
    let managed = json!({ "managed_agent_key": "NEO_SUPPORT", "client_id": "proseware-it" });
    assert_eq!(
        relay.create_session(managed).expect(201).data()["client_id"],
        "proseware-it"
    );
    let changed = relay.patch(
        "/tenants/proseware-it",
        json!({ "name": "Proseware", "rate_limit_per_minute": null, "retention_days": 30 }),
    );
    let changed = changed.expect(200).data();
    assert_eq!(changed["name"], "Proseware");
    assert_eq!(
        (
            &changed["rate_limit_per_minute"],
            &changed["retention_days"]
        ),
        (&Value::Null, &json!(30))
    );
    assert_eq!(
        relay.get("/tenants/proseware-it").expect(200).data(),
        changed
    );
    assert_eq!(relay.get("/tenants").expect(200).data()[0], changed);
    assert_eq!(
        relay.get("/tenants?q=prose").expect(200).data(),
        json!([changed])
    );
    relay.get("/tenants/no-such").not_found();
    relay.get("/tenants/NO%20SUCH").not_found();
}

#[test]
fn an_invalid_tenant_is_refused() {
    let server = Server::demo();
    let relay = server.relay();
    for (body, field, reason) in [
        (json!({ "name": "x" }), "client_id", "is required"),
        (json!({ "client_id": "x" }), "name", "is required"),
        (
            json!({ "client_id": "X", "name": "x" }),
            "client_id",
            "must be 1 to 63 characters of a-z, 0-9 and '-', and must not start with '-'",
        ),
        (
            json!({ "client_id": "x", "name": "x", "retention_days": 0 }),
            "retention_days",
            "must be from 1 to 36500",
        ),
    ] {
        relay.post("/tenants", body).refused_field(field, reason);
    }
    let taken = json!({ "client_id": "northwind-it", "name": "x" });
    let refused = relay.post("/tenants", taken).refused(409, "already_exists");
    assert_eq!(
        refused.error(),
        json!({
            "code": "already_exists", "message": "The tenant northwind-it already exists. Choose another client_id.", "details": { "field": "client_id" },
        })
    );
    let directory = json!({ "client_id": "x", "name": "x", "entra_tenant_id": FABRIKAM_DIRECTORY });
    let refused = relay
        .post("/tenants", directory)
        .refused(409, "already_exists");
    assert_eq!(
        refused.error(),
        json!({
            "code": "already_exists",
            "message": format!("Another tenant already signs in with the directory {FABRIKAM_DIRECTORY}. Check entra_tenant_id."),
            "details": { "field": "entra_tenant_id" },
        })
    );
    // Northwind's bot is installed in that directory.
    let home = json!({ "client_id": "x", "name": "x", "entra_tenant_id": CONTOSO });
    let refused = relay
        .post("/tenants", home)
        .refused(409, "install_conflict");
    assert!(!refused.text().to_lowercase().contains("northwind"));
    relay.get("/tenants/x").not_found();
    relay
        .patch("/tenants/northwind-it", json!({ "name": null }))
        .refused_field("name", "must not be null: it has no default");
    server.northwind().get("/tenants").refused(403, "forbidden");
}

#[test]
fn what_the_platform_does_to_a_tenant_is_in_both_audit_trails() {
    let server = Server::demo();
    server
        .relay()
        .patch(
            "/tenants/northwind-it",
            json!({ "rate_limit_per_minute": 5000 }),
        )
        .expect(200);
    for reader in [server.relay(), server.northwind()] {
        let events = reader
            .get("/audit-events?action=tenant.update")
            .expect(200)
            .data();
        assert_eq!(events[0]["target"], "northwind-it");
        assert_eq!(
            events[0]["details"],
            json!({ "changed": { "rate_limit_per_minute": { "from": null, "to": 5000 } } })
        );
    }
    let fabrikam = server.fabrikam().get("/audit-events?action=tenant.update");
    assert_eq!(fabrikam.expect(200).data(), json!([]));
}

#[test]
fn an_admin_creates_rotates_and_revokes_keys_and_each_is_shown_once() {
    let authority = Authority::new();
    let server = with_people(&authority);
    let admin = person(&server, &authority, NEWCOMER, "Admin");
    let made = admin
        .post(
            "/api-keys",
            json!({ "name": "Tickets", "expires_at": "2030-01-31T12:00:00Z" }),
        )
        .expect(201);
    let location = made.header("location").map(str::to_owned);
    let made = made.data();
    let key = made["key"].as_str().unwrap().to_owned();
    assert!(key.starts_with("neo_sk_demo_"));
    assert_eq!(key.len(), "neo_sk_demo_".len() + 43);
    assert_eq!(made["hint"], key[key.len() - 4..]);
    assert_eq!(
        (
            &made["platform"],
            &made["expires_at"],
            &made["last_used_at"],
            &made["revoked_at"]
        ),
        (
            &json!(false),
            &json!("2030-01-31T12:00:00.000Z"),
            &Value::Null,
            &Value::Null
        )
    );
    let holder = server.with_credential(&key);
    assert_eq!(
        holder.get("/whoami").expect(200).data()["client_id"],
        "northwind-it"
    );
    let id = made["id"].as_str().unwrap();
    assert_eq!(location, Some(format!("/public-api/api-keys/{id}")));
    assert_eq!(
        newest(&admin, "api_key.create").1,
        json!({ "name": made["name"], "expires_at": "2030-01-31T12:00:00.000Z" })
    );

    let rotated = admin
        .send(crate::wire::Request::new(
            "POST",
            format!("/api-keys/{id}/rotate"),
        ))
        .expect(201)
        .data();
    let next = rotated["key"].as_str().unwrap().to_owned();
    assert_ne!(rotated["id"], made["id"]);
    let account = holder.get("/whoami").expect(200).data()["id"].clone();
    assert_eq!(
        server
            .with_credential(&next)
            .get("/whoami")
            .expect(200)
            .data()["id"],
        account
    );
    let path = format!("/api-keys/{}", rotated["id"].as_str().unwrap());
    admin.delete(&path).expect(204);
    let revoked = server
        .with_credential(&next)
        .get("/whoami")
        .refused(401, "unauthorized");
    assert_eq!(revoked.error()["details"]["reason"], "revoked");
    admin.delete(&path).expect(204);
    let listed = admin.get("/api-keys?q=tickets").expect(200);
    assert!(!listed.text().contains(&key) && !listed.text().contains(&next));
    assert_eq!(listed.data().as_array().unwrap().len(), 2);
    let told = admin.get("/audit-events?q=Tickets").expect(200).data();
    let actions: Vec<&str> = told
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["action"].as_str().unwrap())
        .collect();
    assert_eq!(
        actions,
        ["api_key.revoke", "api_key.rotate", "api_key.create"]
    );

    server.advance_clock(24 * 60 * 60 * 1_000);
    assert_eq!(
        holder.get("/whoami").refused(401, "unauthorized").error()["details"]["reason"],
        "expired"
    );
}

#[test]
fn a_key_that_is_rotated_twice_ends_at_its_own_time_and_not_with_the_overlap() {
    let authority = Authority::new();
    let server = with_people(&authority);
    let admin = person(&server, &authority, NEWCOMER, "Admin");
    for (end, own_end) in [
        (Value::Null, Value::Null),
        (
            json!("2030-01-31T12:00:00Z"),
            json!("2030-01-31T12:00:00.000Z"),
        ),
    ] {
        let name = format!("Ends {end}");
        let made = admin
            .post("/api-keys", json!({ "name": name, "expires_at": end }))
            .expect(201)
            .data();
        let path = format!("/api-keys/{}/rotate", made["id"].as_str().unwrap());
        // The second round stands for a retry after a lost reply.
        for _ in 0..2 {
            let rotated = admin
                .send(crate::wire::Request::new("POST", path.clone()))
                .expect(201)
                .data();
            assert_eq!(rotated["expires_at"], own_end);
        }
    }
}

#[test]
fn an_invalid_key_request_is_refused_and_a_foreign_key_is_not_found() {
    let authority = Authority::new();
    let server = with_people(&authority);
    let admin = person(&server, &authority, NEWCOMER, "Admin");
    for (body, field, reason) in [
        (json!({}), "name", "is required"),
        (
            json!({ "name": "x", "expires_at": "2025-01-01T00:00:00Z" }),
            "expires_at",
            "must be in the future",
        ),
        (
            json!({ "name": "x", "expires_at": "soon" }),
            "expires_at",
            "must be an RFC 3339 time, such as 2030-01-31T12:00:00Z",
        ),
        (
            json!({ "name": "x", "platform": true }),
            "platform",
            "must not be true; create platform keys on the command line: switchboard keys create --platform",
        ),
    ] {
        admin.post("/api-keys", body).refused_field(field, reason);
    }
    admin
        .post("/api-keys", json!({ "name": "Twice" }))
        .expect(201);
    admin
        .post("/api-keys", json!({ "name": "Twice" }))
        .refused(409, "already_exists");
    admin
        .delete("/api-keys/key_019ab697-e807-7abc-8def-0123456789ab")
        .not_found();
    admin.delete("/api-keys/x").not_found();
    for role in ["User", "Viewer"] {
        person(&server, &authority, "u-2", role)
            .get("/api-keys")
            .refused(403, "forbidden");
    }
    server
        .northwind()
        .post("/api-keys", json!({ "name": "Mine" }))
        .refused(403, "forbidden");
}

#[test]
fn people_are_listed_and_given_roles_but_the_last_admin_remains() {
    let authority = Authority::new();
    let server = with_people(&authority);
    let admin = person(&server, &authority, NEWCOMER, "Admin");
    let everybody = admin.get("/users").expect(200).data();
    let newcomer = everybody
        .as_array()
        .unwrap()
        .iter()
        .find(|user| user["id"] == NEWCOMER)
        .unwrap()
        .clone();
    // A role in a token applies to its request and is not recorded.
    assert_eq!(newcomer["role"], "USER");
    assert_eq!(newcomer["last_seen_at"], "2025-11-24T16:00:00.000Z");
    let admins = admin.get("/users?role=ADMIN").expect(200).data();
    let recorded: Vec<String> = admins
        .as_array()
        .unwrap()
        .iter()
        .map(|user| user["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(recorded.len(), 1, "{admins}");

    let last = format!("/users/{}", recorded[0]);
    for role in [json!("USER"), json!("VIEWER"), Value::Null] {
        admin
            .patch(&last, json!({ "role": role }))
            .refused(409, "last_admin");
    }
    let path = format!("/users/{NEWCOMER}");
    assert_eq!(
        admin
            .patch(&path, json!({ "role": "ADMIN" }))
            .expect(200)
            .data()["role"],
        "ADMIN"
    );
    assert_eq!(
        person(&server, &authority, NEWCOMER, "")
            .get("/whoami")
            .expect(200)
            .data()["role"],
        "ADMIN"
    );
    assert_eq!(
        admin
            .patch(&last, json!({ "role": "VIEWER" }))
            .expect(200)
            .data()["role"],
        "VIEWER"
    );
    admin
        .patch(&path, json!({ "role": null }))
        .refused(409, "last_admin");
    admin
        .patch("/users/nobody", json!({ "role": "USER" }))
        .not_found();
    admin
        .patch(&path, json!({ "role": "OWNER" }))
        .refused_field("role", "must be one of VIEWER, USER, ADMIN");
    let told = admin
        .get("/audit-events?action=user.update")
        .expect(200)
        .data();
    assert_eq!(
        told[1]["details"]["changed"],
        json!({ "role": { "from": "USER", "to": "ADMIN" } })
    );
    let refused = admin
        .get("/audit-events?action=request.refused&q=last_admin")
        .expect(200)
        .data();
    assert_eq!(refused.as_array().unwrap().len(), 4);
}

#[test]
fn audit_events_are_filtered_by_actor_and_action_and_record_the_address() {
    let server = Server::demo();
    let northwind = server.northwind();
    northwind
        .post("/agents", json!({ "name": "One" }))
        .expect(201);
    northwind
        .post("/agents", json!({ "name": "Two" }))
        .expect(201);
    let me = northwind.get("/whoami").expect(200).data();
    let event = &northwind.get("/audit-events").expect(200).data()[0];
    assert_eq!(event["action"], "agent.create");
    assert_eq!(
        event["actor"],
        json!({ "kind": "service_account", "id": me["id"], "name": me["name"] })
    );
    assert_eq!(event["remote_address"], "127.0.0.1");
    assert_eq!(event["created_at"], "2025-11-24T16:00:00.000Z");
    let count = |query: &str| {
        northwind
            .get(&format!("/audit-events?{query}"))
            .expect(200)
            .data()
            .as_array()
            .unwrap()
            .len()
    };
    let id = me["id"].as_str().unwrap();
    assert_eq!(count(&format!("actor={id}")), 2);
    assert_eq!(count("actor=nobody"), 0);
    assert_eq!(
        count(&format!("actor={id}&action=agent.create&page_size=1")),
        1
    );
    assert_eq!(count("action=agent.delete"), 0);
    northwind
        .get("/audit-events?actor=")
        .refused_field("actor", "must not be empty");
    server
        .northwind()
        .with_session_token(&northwind.session(technician()))
        .get("/audit-events")
        .refused(403, "forbidden");
}

#[test]
fn statistics_count_sessions_turns_failures_and_first_words_by_day_and_agent() {
    let server = Server::answering(&[]);
    let northwind = server.northwind();
    let asks = |body: Value| {
        let session = northwind.session(body);
        let turn =
            northwind.append_text(&session, "Hello").expect(202).data()["chat_turn_id"].clone();
        northwind
            .turn(&session, turn.as_str().unwrap(), "wait_seconds=60")
            .expect(200);
    };
    asks(technician());
    server.advance_clock(24 * 60 * 60 * 1_000);
    asks(technician());
    asks(json!({ "managed_agent_key": "NEO_SUPPORT" }));
    let stats = northwind.get("/stats").expect(200).data();
    // The clock stands still while a turn is answered.
    let counts = |sessions: i64| json!({ "sessions": sessions, "turns": sessions, "failures": 0, "median_first_word_ms": 0, "active_users": 0 });
    let with = |mut counts: Value, more: Value| {
        counts
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        counts
    };
    assert_eq!(stats["total"], counts(3));
    assert_eq!(
        stats["by_day"],
        json!([
            with(counts(1), json!({ "day": "2025-11-24" })),
            with(counts(2), json!({ "day": "2025-11-25" }))
        ])
    );
    assert_eq!(
        stats["by_agent"],
        json!([
            with(
                counts(1),
                json!({ "agent_id": 100, "agent_name": "Neo support" })
            ),
            with(
                counts(2),
                json!({ "agent_id": 102, "agent_name": "Technician assistant" })
            ),
        ])
    );
    // The end is exclusive, the start inclusive.
    let day = northwind
        .get("/stats?from=2025-11-24T16:00:00Z&to=2025-11-25T16:00:00Z")
        .expect(200)
        .data();
    assert_eq!(day["total"], counts(1));
    for (query, reason) in [
        (
            "from=2025-11-25T00:00:00Z&to=2025-11-25T00:00:00Z",
            "must be before to",
        ),
        (
            "from=2020-11-25T00:00:00Z",
            "must be at most 366 days before to",
        ),
    ] {
        northwind
            .get(&format!("/stats?{query}"))
            .refused_field("from", reason);
    }
}

#[test]
fn the_caller_is_admitted_before_the_body_is_checked_even_if_that_takes_time() {
    let authority = Authority::new();
    let broken = || crate::wire::Request::new("POST", "/agents").text("{");
    // The server still has to fetch the keys and to record the person.
    let server = with_people(&authority);
    let viewer = person(&server, &authority, "somebody-new", "Viewer");
    viewer.send(broken()).refused(403, "forbidden");
    let server = with_people(&authority);
    let stranger = crate::authority::attackers().issue(&authority.claims(NEWCOMER));
    let stranger = server.with_credential(&stranger);
    stranger.send(broken()).refused(401, "unauthorized");
    let server = with_people(&authority);
    let admin = person(&server, &authority, "somebody-new", "Admin");
    admin.send(broken()).refused(400, "validation_error");
}

/// The newest event of this action: its target and its details.
fn newest(client: &ApiClient, action: &str) -> (Value, Value) {
    let events = client
        .get(&format!("/audit-events?action={action}"))
        .expect(200)
        .data();
    (events[0]["target"].clone(), events[0]["details"].clone())
}

#[test]
fn tokens_and_the_sharing_of_a_session_are_audit_events() {
    let server = Server::demo();
    let northwind = server.northwind();
    let session = northwind.session(json!({ "agent_id": 102 }));
    let minted = northwind
        .mint_token(json!({ "session_id": session }))
        .expect(201);
    let (jti, token) = (minted.data()["jti"].clone(), minted.data()["token"].clone());
    assert_eq!(
        newest(&northwind, "session_token.mint"),
        (
            jti.clone(),
            json!({ "session_id": session, "expires_at": "2025-11-24T17:00:00.000Z" })
        )
    );
    for _ in 0..2 {
        northwind
            .delete(&format!("/sessions/{}", jti.as_str().unwrap()))
            .expect(204);
    }
    assert_eq!(
        newest(&northwind, "session_token.revoke"),
        (jti, json!({ "session_id": session }))
    );
    for shared in [true, true] {
        northwind
            .update_session(&session, json!({ "shared": shared, "title": "x" }))
            .expect(200);
    }
    assert_eq!(
        newest(&northwind, "session.update"),
        (
            json!(session),
            json!({ "changed": { "shared": { "from": false, "to": true } } })
        )
    );
    let all = northwind.get("/audit-events").expect(200);
    assert_eq!(
        all.data()
            .as_array()
            .unwrap()
            .iter()
            .filter(|event| event["target"] == session.as_str())
            .count(),
        1
    );
    assert_eq!(
        all.data()
            .as_array()
            .unwrap()
            .iter()
            .filter(|event| event["action"] == "session_token.revoke")
            .count(),
        1
    );
    assert!(!all.text().contains(token.as_str().unwrap()));
}

#[test]
fn the_audit_event_of_a_new_tenant_has_its_settings() {
    let server = Server::demo();
    let relay = server.relay();
    let directory = "11111111-2222-4333-8444-555555555555";
    let new = json!({
        "client_id": "new", "name": "New", "entra_tenant_id": directory, "rate_limit_per_minute": 5, "retention_days": 30,
        "website_url": "https://new.example", "privacy_url": null, "terms_url": null,
    });
    relay.post("/tenants", new.clone()).expect(201);
    assert_eq!(newest(&relay, "tenant.create"), (json!("new"), new));
}

#[test]
fn an_invalid_period_without_a_start_is_an_error_of_its_end() {
    let server = Server::demo();
    server
        .northwind()
        .get("/stats?to=1970-01-02T00:00:00Z")
        .refused_field(
            "to",
            "must be at least a week after 1970-01-01 unless from is given",
        );
}
