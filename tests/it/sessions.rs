//! Creating sessions: who answers, and the exact refusals.

use serde_json::{Value, json};

use crate::support::{
    CONTOSO, FOURTH_COFFEE, MINUTE, RELAY, SHARED_BOT, START, Server, TAILSPIN, TECHNICIAN_BOT,
    WOODGROVE, agent, channel, from, technician,
};
use crate::wire::Reply;

/// A world of one MSP, `msp`, with the test's agents and channels, and of the relay's tenant.
fn world(mut msp: Value) -> Server {
    msp["client_id"] = "msp".into();
    msp["name"] = "The MSP".into();
    msp["api_keys"] = json!([{ "name": "own", "key": "neo_sk_demo_own00000" }]);
    Server::of(&json!({ "tenants": [
        msp,
        {
            "client_id": "other-msp", "name": "The other MSP",
            "api_keys": [{ "name": "other", "key": "neo_sk_demo_other000" }],
        },
        {
            "client_id": "relay-platform", "name": "Relay platform",
            "api_keys": [{ "name": "relay", "key": RELAY, "platform": true }],
        },
    ] }))
}

/// The resolution of a session, with the field names of a dry run.
fn verdict(reply: &Reply) -> Value {
    let session = reply.data();
    json!([
        session["resolution"]["rule"],
        session["agent_id"],
        session["client_id"],
        session["end_company_id"],
    ])
}

#[test]
fn a_session_is_returned_with_all_its_fields() {
    let server = Server::demo();
    let northwind = server.northwind();
    let account = northwind.get("/whoami").expect(200).id();
    let made = northwind
        .create_session(json!({ "agent_id": 102, "title": "Printer on floor 3", "metadata": { "ticket": "T-1", "a": "" } }))
        .expect(201);
    let id = made.id();
    assert!(id.starts_with("ses_"));
    let location = format!("/public-api/chat/sessions/{id}");
    assert_eq!(made.header("location"), Some(location.as_str()));
    let whole = json!({
        "id": id,
        "agent_id": 102,
        "client_id": "northwind-it",
        "channel": "API",
        "title": "Printer on floor 3",
        "archived_at": null,
        "created_at": "2025-11-24T16:00:00.000Z",
        "updated_at": "2025-11-24T16:00:00.000Z",
        "show_agent_progress_steps": true,
        "channel_id": null,
        "relay_prefix": null,
        "end_company_id": null,
        "created_by": { "kind": "service_account", "id": account, "name": "PSA integration (demo)" },
        "external_id": null,
        "end_user": null,
        "shared": false,
        "message_count": 0,
        "metadata": { "ticket": "T-1", "a": "" },
        "resolution": { "rule": "selected", "channel_id": null, "decided_at": "2025-11-24T16:00:00.000Z" },
    });
    assert_eq!(made.data(), whole);
    assert_eq!(northwind.read_session(&id).expect(200).data(), whole);
    assert_eq!(
        northwind.list_sessions("").expect(200).data(),
        json!([whole])
    );
}

#[test]
fn an_install_routes_to_its_channels_agent_owner_and_company() {
    let server = Server::demo();
    let relay = server.relay();
    let made = relay.create_session(from(CONTOSO)).expect(201).data();
    let channel_id = made["channel_id"].as_str().unwrap();
    assert!(channel_id.starts_with("chn_"));
    assert_eq!(
        made,
        json!({
            "id": made["id"],
            "agent_id": 101,
            "client_id": "northwind-it",
            "channel": "TEAMS",
            "title": null,
            "archived_at": null,
            "created_at": "2025-11-24T16:00:00.000Z",
            "updated_at": "2025-11-24T16:00:00.000Z",
            "show_agent_progress_steps": false,
            "channel_id": channel_id,
            "relay_prefix": "Northwind IT",
            "end_company_id": "1001",
            "created_by": { "kind": "service_account", "id": relay.get("/whoami").id(), "name": "Teams relay (demo)" },
            "external_id": null,
            "end_user": null,
            "shared": false,
            "message_count": 0,
            "metadata": {},
            "resolution": { "rule": "white_label_install", "channel_id": channel_id, "decided_at": "2025-11-24T16:00:00.000Z" },
        })
    );
    let other = relay.create_session(from(WOODGROVE)).expect(201);
    assert_eq!(
        verdict(&other),
        json!(["white_label_install", 201, "fabrikam-support", "WOOD-01"])
    );
}

#[test]
fn an_install_overrides_client_id_without_checking_it() {
    let server = Server::demo();
    for client_id in ["fabrikam-support", "no-such-tenant", "NOT A NAME", ""] {
        let mut body = from(CONTOSO);
        body["client_id"] = client_id.into();
        let made = server.relay().create_session(body).expect(201);
        assert_eq!(
            verdict(&made),
            json!(["white_label_install", 101, "northwind-it", "1001"])
        );
    }
}

#[test]
fn the_platform_may_name_the_routed_agent_and_no_other() {
    let server = Server::demo();
    let relay = server.relay();
    let named =
        |id: i64| json!({ "agent_id": id, "bot_id": SHARED_BOT, "inbound_tenant_id": CONTOSO });
    relay.create_session(named(101)).expect(201);
    for id in [102, 201, 100, 999_999, -1, i64::MAX] {
        assert_eq!(
            relay
                .create_session(named(id))
                .refused(403, "agent_not_allowed")
                .error(),
            json!({
                "code": "agent_not_allowed",
                "message": "This chat is routed to another agent. Send managed_agent_key: NEO_SUPPORT to use that agent, or send its agent_id.",
            })
        );
    }
    let c = |id: i64| json!({ "agent_id": id, "client_id": "northwind-it" });
    relay.create_session(c(100)).expect(201);
    relay
        .create_session(c(102))
        .refused(403, "agent_not_allowed");
}

#[test]
fn a_bot_routes_to_the_acting_tenants_own_channel() {
    let server = Server::demo();
    let relay = server.relay();
    let ask = |client_id: &str| json!({ "managed_agent_key": "NEO_SUPPORT", "client_id": client_id, "bot_id": TECHNICIAN_BOT });
    let made = relay.create_session(ask("northwind-it")).expect(201);
    assert_eq!(
        verdict(&made),
        json!(["bot_channel", 102, "northwind-it", null])
    );
    assert_eq!(made.data()["channel"], "TEAMS");
    assert_eq!(made.data()["show_agent_progress_steps"], true);
    assert_eq!(
        made.data()["channel_id"],
        made.data()["resolution"]["channel_id"]
    );
    // Another MSP's agent never answers: the same bot for another tenant reaches its managed agent.
    let elsewhere = relay.create_session(ask("fabrikam-support")).expect(201);
    assert_eq!(elsewhere.data()["resolution"]["rule"], "neo_support");
    assert_eq!(elsewhere.data()["client_id"], "fabrikam-support");
    relay.create_session(ask("no-such-tenant")).not_found();
    for malformed in ["NOT A NAME", "", "-a"] {
        relay.create_session(ask(malformed)).refused_field(
            "client_id",
            "must be 1 to 63 characters of a-z, 0-9 and '-', and must not start with '-'",
        );
    }
}

#[test]
fn without_a_route_the_managed_agent_of_the_acting_tenant_answers() {
    let server = Server::demo();
    let relay = server.relay();
    let managed = json!({ "managed_agent_key": "NEO_SUPPORT" });
    let home = relay.create_session(managed.clone()).expect(201);
    assert_eq!(home.data()["resolution"]["rule"], "neo_support");
    assert_eq!(home.data()["client_id"], "relay-platform");
    let mut named = managed;
    named["client_id"] = "northwind-it".into();
    let made = relay.create_session(named.clone()).expect(201);
    assert_eq!(
        verdict(&made),
        json!(["neo_support", 100, "northwind-it", null])
    );
    assert_eq!(made.data()["channel_id"], Value::Null);
    named["bot_id"] = "unregistered".into();
    named["inbound_tenant_id"] = CONTOSO.into();
    assert_eq!(
        verdict(&relay.create_session(named).expect(201)),
        json!(["neo_support", 100, "northwind-it", null])
    );
}

#[test]
fn of_a_bots_channels_the_internal_one_comes_first_except_for_a_companys_staff() {
    let server = world(json!({
        "agents": [agent(1, "END_USER"), agent(2, "END_USER"), agent(3, "MSP")],
        "end_companies": [
            { "psa_company_id": "A", "psa_company_name": "Alpha", "tenant_id": "alpha" },
            { "psa_company_id": "B", "psa_company_name": "Beta", "tenant_id": "beta" },
            { "psa_company_id": "B2", "psa_company_name": "Beta too", "tenant_id": "beta" },
        ],
        "channels": [
            channel("older", "END_USER", "bot", 1),
            channel("younger", "END_USER", "bot", 2),
            channel("internal", "MSP", "bot", 3),
            channel("lonely", "END_USER", "other-bot", 2),
        ],
    }));
    let relay = server.relay();
    let ask = |bot: &str, inbound: Value| {
        relay.create_session(json!({
            "managed_agent_key": "NEO_SUPPORT", "client_id": "msp", "bot_id": bot, "inbound_tenant_id": inbound,
        }))
    };
    assert_eq!(
        verdict(&ask("bot", "alpha".into()).expect(201)),
        json!(["bot_channel", 1, "msp", "A"])
    );
    for inbound in [Value::Null, "somebody-else".into()] {
        assert_eq!(
            verdict(&ask("bot", inbound).expect(201)),
            json!(["bot_channel", 3, "msp", null])
        );
    }
    ask("bot", "beta".into()).refused(409, "end_company_not_mapped");
    assert_eq!(
        verdict(&ask("other-bot", "alpha".into()).expect(201)),
        json!(["bot_channel", 2, "msp", "A"])
    );
    ask("other-bot", Value::Null).refused(409, "end_company_not_mapped");
}

#[test]
fn an_ordinary_account_selects_an_agent_of_its_own_tenant() {
    let server = Server::demo();
    let northwind = server.northwind();
    let opens = |body: Value| northwind.create_session(body);
    assert_eq!(
        verdict(&opens(json!({ "managed_agent_key": "NEO_SUPPORT" })).expect(201)),
        json!(["selected", 100, "northwind-it", null])
    );
    // `access` restricts only people.
    opens(json!({ "agent_id": 104 })).expect(201);
    for id in [201, 202, 203, 999_999, 0, -102, i64::MIN] {
        opens(json!({ "agent_id": id })).not_found();
    }
    assert_eq!(
        opens(json!({ "agent_id": 105 }))
            .refused(422, "agent_not_conversational")
            .error(),
        json!({ "code": "agent_not_conversational", "message": "This agent does not chat. Choose an agent whose autonomy_type is CONVERSATIONAL." })
    );
    assert_eq!(
        opens(json!({ "agent_id": 103 }))
            .refused(409, "agent_disabled")
            .error(),
        json!({ "code": "agent_disabled", "message": "This agent is disabled. Ask an administrator to enable it." })
    );
    for both_or_none in [
        json!({}),
        json!({ "agent_id": 102, "managed_agent_key": "NEO_SUPPORT" }),
        json!({ "agent_id": null }),
    ] {
        opens(both_or_none).refused_choice();
    }
    server
        .relay()
        .create_session(json!({ "bot_id": SHARED_BOT, "inbound_tenant_id": CONTOSO }))
        .refused_choice();
}

#[test]
fn an_end_user_agent_is_tried_out_as_a_company_and_the_trial_is_recorded() {
    let server = Server::demo();
    let northwind = server.northwind();
    assert_eq!(
        northwind
            .create_session(json!({ "agent_id": 101 }))
            .refused(422, "end_company_required")
            .error(),
        json!({
            "code": "end_company_required",
            "message": "This agent serves client companies. Send end_company_id to select one.",
        })
    );
    for unknown in [
        "WOOD-01",
        "9999",
        "health",
        "unlinked-tenants",
        "no form / at all",
        &"x".repeat(100_000),
    ] {
        northwind
            .create_session(json!({ "agent_id": 101, "end_company_id": unknown }))
            .not_found();
    }
    let events = || -> i64 {
        server
            .stored("SELECT count(*) FROM audit_events WHERE action = 'session.create_as_company'")
    };
    assert_eq!(events(), 0);
    let made = northwind
        .create_session(json!({ "agent_id": 101, "end_company_id": "1002" }))
        .expect(201);
    assert_eq!(
        verdict(&made),
        json!(["selected", 101, "northwind-it", "1002"])
    );
    assert_eq!(events(), 1);
    let target: String =
        server.stored("SELECT target FROM audit_events WHERE action = 'session.create_as_company'");
    assert_eq!(target, made.id());
    northwind.create_session(technician()).expect(201);
    assert_eq!(events(), 1);
}

#[test]
fn only_the_platform_is_routed() {
    let server = Server::demo();
    let made = server
        .northwind()
        .create_session(
            json!({ "agent_id": 102, "bot_id": SHARED_BOT, "inbound_tenant_id": TAILSPIN }),
        )
        .expect(201);
    assert_eq!(
        verdict(&made),
        json!(["selected", 102, "northwind-it", null])
    );
    let warning =
        "bot_id and inbound_tenant_id were ignored: they route only a platform service account.";
    assert_eq!(made.json()["meta"]["warnings"], json!([warning]));
    let made = server
        .northwind()
        .create_session(json!({ "agent_id": 102, "bot_id": "\u{1f600} ".repeat(100) }))
        .expect(201);
    assert_eq!(made.json()["meta"]["warnings"], json!([warning]));
    let mut tried = from(CONTOSO);
    tried["end_company_id"] = "1002".into();
    let routed = server.relay().create_session(tried).expect(201);
    assert_eq!(routed.data()["end_company_id"], "1001");
    assert_eq!(
        routed.json()["meta"]["warnings"],
        json!([
            "end_company_id was ignored: inbound_tenant_id decides the company of a platform call."
        ])
    );
}

/// The refusal of an M365 tenant with no linked company or several.
fn not_mapped(message: String, inbound: Value, linked: u64) -> Value {
    json!({
        "code": "end_company_not_mapped",
        "message": message,
        "details": { "inbound_tenant_id": inbound, "client_id": "northwind-it", "linked_companies": linked },
    })
}

#[test]
fn a_directory_without_exactly_one_company_is_refused_without_naming_a_company() {
    let server = Server::demo();
    let relay = server.relay();
    let none = relay
        .create_session(from(TAILSPIN))
        .refused(409, "end_company_not_mapped");
    assert_eq!(
        none.error(),
        not_mapped(
            format!(
                "Your organization is not set up for this chat yet. Please contact Northwind IT: \
                 its administrator must link one company to the Microsoft 365 tenant {TAILSPIN}."
            ),
            TAILSPIN.into(),
            0,
        )
    );
    let several = relay
        .create_session(from(FOURTH_COFFEE))
        .refused(409, "end_company_not_mapped");
    assert_eq!(
        several.error(),
        not_mapped(
            format!(
                "Your organization is not set up for this chat yet. Please contact Northwind IT: its administrator must leave \
                 exactly one company linked to the Microsoft 365 tenant {FOURTH_COFFEE}; 2 are linked now."
            ),
            FOURTH_COFFEE.into(),
            2,
        )
    );
    let unnamed = relay
        .create_session(json!({ "managed_agent_key": "NEO_SUPPORT", "client_id": "northwind-it", "bot_id": SHARED_BOT }))
        .refused(409, "end_company_not_mapped");
    assert_eq!(
        unnamed.error(),
        not_mapped(
            "This chat cannot tell which organization you belong to, because the message names no Microsoft 365 tenant. \
             Please contact Northwind IT."
                .to_owned(),
            Value::Null,
            0,
        )
    );
    for reply in [none, several, unnamed] {
        // The request id is not part of this; it may contain any four digits.
        let told = reply.error().to_string();
        for company in [
            "Contoso", "Tailspin", "Fourth", "Coffee", "Roastery", "1001", "1002", "1003", "1004",
        ] {
            assert!(!told.contains(company), "{told}");
        }
    }
}

#[test]
fn a_refused_directory_is_recorded_until_exactly_one_company_is_linked() {
    let server = Server::demo();
    let relay = server.relay();
    let trace = |directory: &str| -> String {
        server.stored(&format!(
            "SELECT coalesce((SELECT t.client_id || ' ' || u.attempts || ' ' || u.bot_id || ' ' || (u.first_seen_at - {START}) || ' ' ||
                              (u.last_seen_at - {START}) || ' ' || (SELECT c.internal_name FROM channels c WHERE c.id = u.channel_id)
             FROM unlinked_tenants u JOIN tenants t ON t.tenant_no = u.tenant_no WHERE u.m365_tenant_id = '{directory}'), 'none')"
        ))
    };
    relay
        .create_session(from(TAILSPIN))
        .refused(409, "end_company_not_mapped");
    assert_eq!(
        trace(TAILSPIN),
        format!("northwind-it 1 {SHARED_BOT} 0 0 Client help bot")
    );
    server.advance_clock(MINUTE);
    relay
        .create_session(from(TAILSPIN))
        .refused(409, "end_company_not_mapped");
    relay
        .create_session(from(FOURTH_COFFEE))
        .refused(409, "end_company_not_mapped");
    assert_eq!(
        trace(TAILSPIN),
        format!("northwind-it 2 {SHARED_BOT} 0 60000 Client help bot")
    );
    assert_eq!(
        trace(FOURTH_COFFEE),
        format!("northwind-it 1 {SHARED_BOT} 60000 60000 Client help bot")
    );
    relay
        .create_session(json!({ "managed_agent_key": "NEO_SUPPORT", "client_id": "northwind-it", "bot_id": SHARED_BOT }))
        .refused(409, "end_company_not_mapped");
    assert_eq!(
        server.stored::<i64>("SELECT count(*) FROM unlinked_tenants"),
        2
    );

    server.import_tenant(
        "northwind-it",
        json!({ "end_companies": [{ "psa_company_id": "1002", "tenant_id": TAILSPIN }] }),
    );
    assert_eq!(trace(TAILSPIN), "none");
    let made = relay.create_session(from(TAILSPIN)).expect(201);
    assert_eq!(
        verdict(&made),
        json!(["white_label_install", 101, "northwind-it", "1002"])
    );
    server.import_tenant(
        "northwind-it",
        json!({ "end_companies": [{ "psa_company_id": "1004", "tenant_id": null }] }),
    );
    assert_eq!(trace(FOURTH_COFFEE), "none");
    assert_eq!(
        relay.create_session(from(FOURTH_COFFEE)).expect(201).data()["end_company_id"],
        "1003"
    );
}

#[test]
fn a_disconnected_or_deleted_channel_refuses_without_a_fallback() {
    let server = Server::demo();
    let relay = server.relay();
    let mut ask = from(CONTOSO);
    ask["client_id"] = "northwind-it".into();
    let bot =
        json!({ "channels": [{ "internal_name": "Client help bot", "status": "DISCONNECTED" }] });
    server.import_tenant("northwind-it", bot);
    let refused = json!({
        "code": "channel_disconnected",
        "message": "This chat is not connected at the moment. Please contact your IT support.",
    });
    assert_eq!(
        relay
            .create_session(ask.clone())
            .refused(409, "channel_disconnected")
            .error(),
        refused
    );

    server.execute_sql(
        "UPDATE channels SET status = 'ACTIVE', deleted_at = updated_at WHERE internal_name = 'Client help bot'",
    );
    assert_eq!(
        relay
            .create_session(ask.clone())
            .refused(409, "channel_disconnected")
            .error(),
        refused
    );
    // Another channel of the same bot changes nothing until the directory is installed there.
    server.import_tenant(
        "northwind-it",
        json!({ "channels": [channel("Successor", "END_USER", SHARED_BOT, 101)] }),
    );
    assert_eq!(
        relay
            .create_session(ask.clone())
            .refused(409, "channel_disconnected")
            .error(),
        refused
    );
    // A new channel of the same name takes over the installs.
    server.import_tenant(
        "northwind-it",
        json!({ "channels": [channel("Client help bot", "END_USER", SHARED_BOT, 101)] }),
    );
    assert_eq!(
        verdict(&relay.create_session(ask).expect(201)),
        json!(["white_label_install", 101, "northwind-it", "1001"])
    );
    // A disconnected channel without installs does not count.
    server.import_tenant(
        "northwind-it",
        json!({ "channels": [{ "internal_name": "Technician bot", "status": "DISCONNECTED" }] }),
    );
    let internal = relay.create_session(json!({ "managed_agent_key": "NEO_SUPPORT", "client_id": "northwind-it", "bot_id": TECHNICIAN_BOT }));
    assert_eq!(
        internal.expect(201).data()["resolution"]["rule"],
        "neo_support"
    );
}

#[test]
fn a_routed_call_is_refused_in_the_contracts_order() {
    let mut dormant = agent(1, "END_USER");
    dormant["autonomy_type"] = "AGENTIC".into();
    dormant["state"] = "DISABLED".into();
    let mut chats = agent(2, "END_USER");
    chats["state"] = "DISABLED".into();
    let mut bound = channel("bot", "END_USER", "bot", 1);
    bound["installs"] = json!([{ "end_client_tenant_id": "unlinked" }]);
    bound["status"] = "DISCONNECTED".into();
    let server = world(json!({ "agents": [dormant, chats], "channels": [bound] }));
    let relay = server.relay();
    let ask = |id: i64| {
        relay.create_session(
            json!({ "agent_id": id, "bot_id": "bot", "inbound_tenant_id": "unlinked" }),
        )
    };
    let change = |what: Value| {
        let mut channel = what;
        channel["internal_name"] = "bot".into();
        server.import_tenant("msp", json!({ "channels": [channel] }));
    };
    ask(7).refused(409, "channel_disconnected");
    change(json!({ "status": "ACTIVE" }));
    ask(7).refused(403, "agent_not_allowed");
    ask(1).refused(422, "agent_not_conversational");
    change(json!({ "agent_id": 2 }));
    ask(2).refused(409, "agent_disabled");
    server.import_tenant(
        "msp",
        json!({ "agents": [{ "agent_id": 2, "state": "ENABLED" }] }),
    );
    ask(2).refused(409, "end_company_not_mapped");
    assert_eq!(
        server.stored::<i64>("SELECT CAST(sum(attempts) AS bigint) FROM unlinked_tenants"),
        1
    );
}

#[test]
fn a_selection_is_refused_in_the_contracts_order() {
    let mut dormant = agent(1, "END_USER");
    dormant["autonomy_type"] = "AGENTIC".into();
    dormant["state"] = "DISABLED".into();
    let mut disabled = agent(2, "END_USER");
    disabled["state"] = "DISABLED".into();
    let server = world(json!({ "agents": [dormant, disabled, agent(3, "END_USER")] }));
    let own = server.with_credential("neo_sk_demo_own00000");
    let ask = |id: i64| own.create_session(json!({ "agent_id": id, "end_company_id": "unknown" }));
    ask(7).not_found();
    ask(1).refused(422, "agent_not_conversational");
    ask(2).refused(409, "agent_disabled");
    ask(3).not_found();
    own.create_session(json!({ "agent_id": 3 }))
        .refused(422, "end_company_required");
}
