//! Dry runs: who would answer, and nothing is written.

use serde_json::json;

use crate::support::{
    CONTOSO, FOURTH_COFFEE, SHARED_BOT, Server, TAILSPIN, TECHNICIAN_BOT, WOODGROVE, from,
};

/// What the file holds that a refusal or a dry run must not add to.
fn written(server: &Server) -> i64 {
    server.stored(
        "SELECT (SELECT count(*) FROM sessions) + (SELECT count(*) FROM audit_events) + (SELECT count(*) FROM idempotency_keys)
              + (SELECT coalesce(sum(attempts), 0) FROM unlinked_tenants)",
    )
}

#[test]
fn a_dry_run_answers_as_the_call_would_and_writes_nothing() {
    let server = Server::demo();
    let (relay, northwind) = (server.relay(), server.northwind());
    let before = written(&server);
    let told = relay.asks_who_answers(from(CONTOSO)).expect(200).data();
    assert_eq!(
        told,
        json!({
            "rule": "white_label_install", "agent_id": 101, "agent_name": "Service desk", "client_id": "northwind-it",
            "end_company_id": "1001", "channel_id": told["channel_id"],
        })
    );
    assert!(told["channel_id"].as_str().unwrap().starts_with("chn_"));
    assert_eq!(
        northwind
            .asks_who_answers(json!({ "agent_id": 101, "end_company_id": "1002", "title": "x" }))
            .expect(200)
            .data(),
        json!({
            "rule": "selected", "agent_id": 101, "agent_name": "Service desk", "client_id": "northwind-it",
            "end_company_id": "1002", "channel_id": null,
        })
    );
    assert_eq!(written(&server), before);
    let managed =
        |client_id: &str| json!({ "managed_agent_key": "NEO_SUPPORT", "client_id": client_id });
    let refusals = [
        (&relay, from(TAILSPIN)),
        (&relay, from(FOURTH_COFFEE)),
        (&relay, managed("no-such-tenant")),
        (&relay, managed("")),
        (
            &relay,
            json!({ "agent_id": 102, "bot_id": SHARED_BOT, "inbound_tenant_id": CONTOSO }),
        ),
        (&northwind, json!({ "agent_id": 101 })),
        (&northwind, json!({ "agent_id": 103 })),
        (&northwind, json!({ "agent_id": 105 })),
        (&northwind, json!({ "agent_id": 201 })),
        (
            &northwind,
            json!({ "agent_id": 101, "end_company_id": "WOOD-01" }),
        ),
        (&northwind, json!({})),
        (&northwind, managed("northwind-it")),
        (&northwind, json!({ "agent_id": 102, "title": 5 })),
    ];
    for (actor, body) in refusals {
        let before = written(&server);
        let tried = actor.asks_who_answers(body.clone());
        assert_eq!(written(&server), before, "{body}");
        let done = actor.opens(body.clone());
        assert_eq!(
            (tried.status, tried.error()),
            (done.status, done.error()),
            "{body}"
        );
        server.tampers("DELETE FROM unlinked_tenants");
    }
}

#[test]
fn an_account_may_ask_as_the_relay_would_and_learns_nothing_of_others() {
    let server = Server::demo();
    let (northwind, fabrikam) = (server.northwind(), server.fabrikam());
    let told = northwind.asks_who_answers(from(CONTOSO)).expect(200).data();
    assert_eq!(told["rule"], "white_label_install");
    assert_eq!(told["end_company_id"], "1001");
    let internal = json!({ "managed_agent_key": "NEO_SUPPORT", "bot_id": TECHNICIAN_BOT });
    let told = northwind
        .asks_who_answers(internal.clone())
        .expect(200)
        .data();
    assert_eq!(
        (&told["rule"], &told["agent_id"]),
        (&json!("bot_channel"), &json!(102))
    );
    let told = fabrikam.asks_who_answers(internal).expect(200).data();
    assert_eq!(
        (&told["rule"], &told["client_id"]),
        (&json!("neo_support"), &json!("fabrikam-support"))
    );
    northwind
        .asks_who_answers(from(TAILSPIN))
        .refused(409, "end_company_not_mapped");
    northwind
        .asks_who_answers(
            json!({ "agent_id": 102, "bot_id": SHARED_BOT, "inbound_tenant_id": CONTOSO }),
        )
        .refused(403, "agent_not_allowed");

    let elsewhere = |agent_id: i64| json!({ "agent_id": agent_id, "bot_id": SHARED_BOT, "inbound_tenant_id": WOODGROVE });
    for agent_id in [201, 101, 999] {
        northwind.asks_who_answers(elsewhere(agent_id)).not_found();
    }
    server.changes(
        "fabrikam-support",
        json!({ "channels": [{ "internal_name": "Helpline bot", "status": "DISCONNECTED" }] }),
    );
    northwind.asks_who_answers(elsewhere(201)).not_found();
    server.tampers(
        "UPDATE channels SET deleted_at = updated_at WHERE internal_name = 'Helpline bot'",
    );
    northwind.asks_who_answers(elsewhere(201)).not_found();
    fabrikam
        .asks_who_answers(elsewhere(201))
        .refused(409, "channel_disconnected");
    let mut both = elsewhere(201);
    both["managed_agent_key"] = "NEO_SUPPORT".into();
    northwind.asks_who_answers(both).refused_choice();
}

#[test]
fn a_dry_run_tells_exactly_what_the_call_then_does() {
    let server = Server::demo();
    let relay = server.relay();
    for body in [
        from(CONTOSO),
        from(WOODGROVE),
        json!({ "managed_agent_key": "NEO_SUPPORT" }),
        json!({ "agent_id": 102, "client_id": "northwind-it", "bot_id": TECHNICIAN_BOT }),
    ] {
        let told = relay.asks_who_answers(body.clone()).expect(200).data();
        let made = relay.opens(body).expect(201).data();
        for field in ["agent_id", "client_id", "end_company_id", "channel_id"] {
            assert_eq!(told[field], made[field]);
        }
        assert_eq!(told["rule"], made["resolution"]["rule"]);
    }
}
