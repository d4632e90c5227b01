//! Dry runs of a create: who would answer. Nothing is written but the audit events of refusals.

use serde_json::json;

use crate::support::{
    CONTOSO, FOURTH_COFFEE, SHARED_BOT, Server, TAILSPIN, TECHNICIAN_BOT, WOODGROVE, from,
};

/// The total of the rows and counters that no dry run may increase.
fn written(server: &Server) -> i64 {
    server.stored(
        "SELECT (SELECT count(*) FROM sessions) + (SELECT count(*) FROM idempotency_keys)
              + (SELECT CAST(coalesce(sum(attempts), 0) AS bigint) FROM unlinked_tenants)",
    )
}

#[test]
fn a_dry_run_answers_as_the_call_would_and_writes_nothing() {
    let server = Server::demo();
    let (relay, northwind) = (server.relay(), server.northwind());
    let events = "SELECT count(*) FROM audit_events";
    let events_before: i64 = server.stored(events);
    let before = written(&server);
    let resolved = relay.resolve(from(CONTOSO)).expect(200).data();
    assert_eq!(
        resolved,
        json!({
            "rule": "white_label_install", "agent_id": 101, "agent_name": "Service desk", "client_id": "northwind-it",
            "end_company_id": "1001", "channel_id": resolved["channel_id"],
        })
    );
    assert!(resolved["channel_id"].as_str().unwrap().starts_with("chn_"));
    assert_eq!(
        northwind
            .resolve(json!({ "agent_id": 101, "end_company_id": "1002", "title": "x" }))
            .expect(200)
            .data(),
        json!({
            "rule": "selected", "agent_id": 101, "agent_name": "Service desk", "client_id": "northwind-it",
            "end_company_id": "1002", "channel_id": null,
        })
    );
    assert_eq!(written(&server), before);
    assert_eq!(server.stored::<i64>(events), events_before);
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
    for (client, body) in refusals {
        let before = written(&server);
        let tried = client.resolve(body.clone());
        assert_eq!(written(&server), before, "{body}");
        let done = client.create_session(body.clone());
        assert_eq!(
            (tried.status, tried.error()),
            (done.status, done.error()),
            "{body}"
        );
        server.execute_sql("DELETE FROM unlinked_tenants");
    }
}

#[test]
fn an_account_may_ask_as_the_relay_would_and_learns_nothing_of_others() {
    let server = Server::demo();
    let (northwind, fabrikam) = (server.northwind(), server.fabrikam());
    let resolved = northwind.resolve(from(CONTOSO)).expect(200).data();
    assert_eq!(resolved["rule"], "white_label_install");
    assert_eq!(resolved["end_company_id"], "1001");
    let internal = json!({ "managed_agent_key": "NEO_SUPPORT", "bot_id": TECHNICIAN_BOT });
    let resolved = northwind.resolve(internal.clone()).expect(200).data();
    assert_eq!(
        (&resolved["rule"], &resolved["agent_id"]),
        (&json!("bot_channel"), &json!(102))
    );
    let resolved = fabrikam.resolve(internal).expect(200).data();
    assert_eq!(
        (&resolved["rule"], &resolved["client_id"]),
        (&json!("neo_support"), &json!("fabrikam-support"))
    );
    northwind
        .resolve(from(TAILSPIN))
        .refused(409, "end_company_not_mapped");
    northwind
        .resolve(json!({ "agent_id": 102, "bot_id": SHARED_BOT, "inbound_tenant_id": CONTOSO }))
        .refused(403, "agent_not_allowed");

    let elsewhere = |agent_id: i64| json!({ "agent_id": agent_id, "bot_id": SHARED_BOT, "inbound_tenant_id": WOODGROVE });
    for agent_id in [201, 101, 999] {
        northwind.resolve(elsewhere(agent_id)).not_found();
    }
    server.import_tenant(
        "fabrikam-support",
        json!({ "channels": [{ "internal_name": "Helpline bot", "status": "DISCONNECTED" }] }),
    );
    northwind.resolve(elsewhere(201)).not_found();
    server.execute_sql(
        "UPDATE channels SET deleted_at = updated_at WHERE internal_name = 'Helpline bot'",
    );
    northwind.resolve(elsewhere(201)).not_found();
    fabrikam
        .resolve(elsewhere(201))
        .refused(409, "channel_disconnected");
    let mut both = elsewhere(201);
    both["managed_agent_key"] = "NEO_SUPPORT".into();
    northwind.resolve(both).refused_choice();
}

#[test]
fn a_dry_run_reports_exactly_what_the_call_then_does() {
    let server = Server::demo();
    let relay = server.relay();
    for body in [
        from(CONTOSO),
        from(WOODGROVE),
        json!({ "managed_agent_key": "NEO_SUPPORT" }),
        json!({ "agent_id": 102, "client_id": "northwind-it", "bot_id": TECHNICIAN_BOT }),
    ] {
        let resolved = relay.resolve(body.clone()).expect(200).data();
        let made = relay.create_session(body).expect(201).data();
        for field in ["agent_id", "client_id", "end_company_id", "channel_id"] {
            assert_eq!(resolved[field], made[field]);
        }
        assert_eq!(resolved["rule"], made["resolution"]["rule"]);
    }
}
