//! Sessions: who answers, refusals word for word, repeats, lists, changes and the end.

use std::collections::BTreeSet;
use std::thread;

use serde_json::{Value, json};
use switchboard::auth::api_key;
use switchboard::store::keys;

use crate::support::{
    Actor, CONTOSO, DAY, FOURTH_COFFEE, MINUTE, NORTHWIND, RELAY, SECOND, SHARED_BOT, START,
    Server, TAILSPIN, TECHNICIAN_BOT, WOODGROVE, agent, channel, from, technician,
};
use crate::wire::{Reply, Request};

/// A world of one MSP, `msp`, whose agents and channels a test chooses, and of the relay's tenant.
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

/// Who answered, in the dry run's words.
fn verdict(reply: &Reply) -> Value {
    let session = reply.data();
    json!([
        session["resolution"]["rule"],
        session["agent_id"],
        session["client_id"],
        session["end_company_id"],
    ])
}

/// What the file holds that a refusal or a dry run must not add to.
fn written(server: &Server) -> i64 {
    server.stored(
        "SELECT (SELECT count(*) FROM sessions) + (SELECT count(*) FROM audit_events) + (SELECT count(*) FROM idempotency_keys)
              + (SELECT coalesce(sum(attempts), 0) FROM unlinked_tenants)",
    )
}

// Rules.

#[test]
fn a_session_is_told_whole() {
    let server = Server::demo();
    let northwind = server.northwind();
    let account = northwind.gets("/whoami").expect(200).id();
    let made = northwind
        .opens(json!({ "agent_id": 102, "title": "Printer on floor 3", "metadata": { "ticket": "T-1", "a": "" } }))
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
        "end_company_id": null,
        "created_by": { "kind": "service_account", "id": account, "name": "PSA integration (demo)" },
        "shared": false,
        "message_count": 0,
        "metadata": { "ticket": "T-1", "a": "" },
        "resolution": { "rule": "selected", "channel_id": null, "decided_at": "2025-11-24T16:00:00.000Z" },
    });
    assert_eq!(made.data(), whole);
    assert_eq!(northwind.reads(&id).expect(200).data(), whole);
    assert_eq!(northwind.lists("").expect(200).data(), json!([whole]));
}

#[test]
fn an_install_routes_to_its_channels_agent_owner_and_company() {
    let server = Server::demo();
    let relay = server.relay();
    let made = relay.opens(from(CONTOSO)).expect(201).data();
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
            "end_company_id": "1001",
            "created_by": { "kind": "service_account", "id": relay.gets("/whoami").id(), "name": "Teams relay (demo)" },
            "shared": false,
            "message_count": 0,
            "metadata": {},
            "resolution": { "rule": "white_label_install", "channel_id": channel_id, "decided_at": "2025-11-24T16:00:00.000Z" },
        })
    );
    let other = relay.opens(from(WOODGROVE)).expect(201);
    assert_eq!(
        verdict(&other),
        json!(["white_label_install", 201, "fabrikam-support", "WOOD-01"])
    );
}

#[test]
fn an_install_overrides_client_id_and_does_not_even_look_it_up() {
    let server = Server::demo();
    for client_id in ["fabrikam-support", "no-such-tenant", "NOT A NAME", ""] {
        let mut body = from(CONTOSO);
        body["client_id"] = client_id.into();
        let made = server.relay().opens(body).expect(201);
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
    relay.opens(named(101)).expect(201);
    for id in [102, 201, 100, 999_999, -1, i64::MAX] {
        assert_eq!(
            relay
                .opens(named(id))
                .refused(403, "agent_not_allowed")
                .error(),
            json!({
                "code": "agent_not_allowed",
                "message": "That agent does not answer here. Leave agent_id to the route, or name the routed agent.",
            })
        );
    }
    let c = |id: i64| json!({ "agent_id": id, "client_id": "northwind-it" });
    relay.opens(c(100)).expect(201);
    relay.opens(c(102)).refused(403, "agent_not_allowed");
}

#[test]
fn a_bot_routes_to_the_acting_tenants_own_channel() {
    let server = Server::demo();
    let relay = server.relay();
    let ask = |client_id: &str| json!({ "managed_agent_key": "NEO_SUPPORT", "client_id": client_id, "bot_id": TECHNICIAN_BOT });
    let made = relay.opens(ask("northwind-it")).expect(201);
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
    // Another MSP's agent is never lent: the same bot, acting for another, reaches that one's managed agent.
    let elsewhere = relay.opens(ask("fabrikam-support")).expect(201);
    assert_eq!(elsewhere.data()["resolution"]["rule"], "neo_support");
    assert_eq!(elsewhere.data()["client_id"], "fabrikam-support");
    relay.opens(ask("no-such-tenant")).not_found();
    for malformed in ["NOT A NAME", "", "-a"] {
        relay.opens(ask(malformed)).refused_field(
            "client_id",
            "must be 1 to 63 of a-z, 0-9 and '-', not starting with '-'",
        );
    }
}

#[test]
fn without_a_route_the_managed_agent_of_the_acting_tenant_answers() {
    let server = Server::demo();
    let relay = server.relay();
    let managed = json!({ "managed_agent_key": "NEO_SUPPORT" });
    let home = relay.opens(managed.clone()).expect(201);
    assert_eq!(home.data()["resolution"]["rule"], "neo_support");
    assert_eq!(home.data()["client_id"], "relay-platform");
    let mut named = managed;
    named["client_id"] = "northwind-it".into();
    let made = relay.opens(named.clone()).expect(201);
    assert_eq!(
        verdict(&made),
        json!(["neo_support", 100, "northwind-it", null])
    );
    assert_eq!(made.data()["channel_id"], Value::Null);
    named["bot_id"] = "unregistered".into();
    named["inbound_tenant_id"] = CONTOSO.into();
    assert_eq!(
        verdict(&relay.opens(named).expect(201)),
        json!(["neo_support", 100, "northwind-it", null])
    );
}

#[test]
fn of_several_channels_of_a_bot_the_internal_one_comes_first_but_for_a_companys_staff() {
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
        relay.opens(json!({
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
    let opens = |body: Value| northwind.opens(body);
    assert_eq!(
        verdict(&opens(json!({ "managed_agent_key": "NEO_SUPPORT" })).expect(201)),
        json!(["selected", 100, "northwind-it", null])
    );
    // `access` binds people only.
    opens(json!({ "agent_id": 104 })).expect(201);
    for id in [201, 202, 203, 999_999, 0, -102, i64::MIN] {
        opens(json!({ "agent_id": id })).not_found();
    }
    assert_eq!(
        opens(json!({ "agent_id": 105 }))
            .refused(422, "agent_not_conversational")
            .error(),
        json!({ "code": "agent_not_conversational", "message": "This agent does not chat. Choose a CONVERSATIONAL one." })
    );
    assert_eq!(
        opens(json!({ "agent_id": 103 }))
            .refused(409, "agent_disabled")
            .error(),
        json!({ "code": "agent_disabled", "message": "This agent is switched off. Ask an administrator to enable it." })
    );
    for both_or_none in [
        json!({}),
        json!({ "agent_id": 102, "managed_agent_key": "NEO_SUPPORT" }),
        json!({ "agent_id": null }),
    ] {
        opens(both_or_none).refused_field(
            "agent_id, managed_agent_key",
            "are two of which exactly one must be given",
        );
    }
    server
        .relay()
        .opens(json!({ "bot_id": SHARED_BOT, "inbound_tenant_id": CONTOSO }))
        .refused_field(
            "agent_id, managed_agent_key",
            "are two of which exactly one must be given",
        );
}

#[test]
fn an_end_user_agent_is_tried_as_a_company_and_that_is_recorded() {
    let server = Server::demo();
    let northwind = server.northwind();
    assert_eq!(
        northwind
            .opens(json!({ "agent_id": 101 }))
            .refused(422, "end_company_required")
            .error(),
        json!({
            "code": "end_company_required",
            "message": "This agent serves client companies. Send end_company_id to say which one.",
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
            .opens(json!({ "agent_id": 101, "end_company_id": unknown }))
            .not_found();
    }
    let events = || -> i64 {
        server
            .stored("SELECT count(*) FROM audit_events WHERE action = 'session.create_as_company'")
    };
    assert_eq!(events(), 0);
    let made = northwind
        .opens(json!({ "agent_id": 101, "end_company_id": "1002" }))
        .expect(201);
    assert_eq!(
        verdict(&made),
        json!(["selected", 101, "northwind-it", "1002"])
    );
    assert_eq!(events(), 1);
    let target: String =
        server.stored("SELECT target FROM audit_events WHERE action = 'session.create_as_company'");
    assert_eq!(target, made.id());
    northwind.opens(technician()).expect(201);
    assert_eq!(events(), 1);
}

#[test]
fn only_the_platform_is_routed() {
    let server = Server::demo();
    let made = server
        .northwind()
        .opens(json!({ "agent_id": 102, "bot_id": SHARED_BOT, "inbound_tenant_id": TAILSPIN }))
        .expect(201);
    assert_eq!(
        verdict(&made),
        json!(["selected", 102, "northwind-it", null])
    );
    let warning = "bot_id and inbound_tenant_id were ignored: only a platform service account is routed by them.";
    assert_eq!(made.json()["meta"]["warnings"], json!([warning]));
    let made = server
        .northwind()
        .opens(json!({ "agent_id": 102, "bot_id": "\u{1f600} ".repeat(100) }))
        .expect(201);
    assert_eq!(made.json()["meta"]["warnings"], json!([warning]));
    let mut tried = from(CONTOSO);
    tried["end_company_id"] = "1002".into();
    let routed = server.relay().opens(tried).expect(201);
    assert_eq!(routed.data()["end_company_id"], "1001");
    assert_eq!(
        routed.json()["meta"]["warnings"],
        json!(["end_company_id was ignored: a platform call is pinned by its M365 tenant."])
    );
}

// Refusals.

/// The refusal of an M365 tenant that no company, or several, are linked to.
fn not_mapped(message: String, inbound: Value, linked: u64) -> Value {
    json!({
        "code": "end_company_not_mapped",
        "message": message,
        "details": { "inbound_tenant_id": inbound, "client_id": "northwind-it", "linked_companies": linked },
    })
}

#[test]
fn a_directory_without_exactly_one_company_is_refused_in_words_that_name_none() {
    let server = Server::demo();
    let relay = server.relay();
    let none = relay
        .opens(from(TAILSPIN))
        .refused(409, "end_company_not_mapped");
    assert_eq!(
        none.error(),
        not_mapped(
            format!(
                "Your organisation is not set up for this chat yet. Please ask Northwind IT: \
                 its administrator has to link one company to the Microsoft 365 tenant {TAILSPIN}."
            ),
            TAILSPIN.into(),
            0,
        )
    );
    let several = relay
        .opens(from(FOURTH_COFFEE))
        .refused(409, "end_company_not_mapped");
    assert_eq!(
        several.error(),
        not_mapped(
            format!(
                "Your organisation is not set up for this chat yet. Please ask Northwind IT: its administrator has to leave \
                 exactly one company linked to the Microsoft 365 tenant {FOURTH_COFFEE}; 2 are linked now."
            ),
            FOURTH_COFFEE.into(),
            2,
        )
    );
    let unnamed = relay
        .opens(json!({ "managed_agent_key": "NEO_SUPPORT", "client_id": "northwind-it", "bot_id": SHARED_BOT }))
        .refused(409, "end_company_not_mapped");
    assert_eq!(
        unnamed.error(),
        not_mapped(
            "This chat cannot tell which organisation you belong to, since the message names no Microsoft 365 tenant. \
             Please contact Northwind IT."
                .to_owned(),
            Value::Null,
            0,
        )
    );
    for reply in [none, several, unnamed] {
        // Without the request's id, which may hold any four digits.
        let told = reply.error().to_string();
        for company in [
            "Contoso", "Tailspin", "Fourth", "Coffee", "Roastery", "1001", "1002", "1003", "1004",
        ] {
            assert!(!told.contains(company), "{told}");
        }
    }
}

#[test]
fn a_refused_directory_leaves_a_trace_until_exactly_one_company_is_linked() {
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
        .opens(from(TAILSPIN))
        .refused(409, "end_company_not_mapped");
    assert_eq!(
        trace(TAILSPIN),
        format!("northwind-it 1 {SHARED_BOT} 0 0 Client help bot")
    );
    server.passes(MINUTE);
    relay
        .opens(from(TAILSPIN))
        .refused(409, "end_company_not_mapped");
    relay
        .opens(from(FOURTH_COFFEE))
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
        .opens(json!({ "managed_agent_key": "NEO_SUPPORT", "client_id": "northwind-it", "bot_id": SHARED_BOT }))
        .refused(409, "end_company_not_mapped");
    assert_eq!(
        server.stored::<i64>("SELECT count(*) FROM unlinked_tenants"),
        2
    );

    server.changes(
        "northwind-it",
        json!({ "end_companies": [{ "psa_company_id": "1002", "tenant_id": TAILSPIN }] }),
    );
    assert_eq!(trace(TAILSPIN), "none");
    let made = relay.opens(from(TAILSPIN)).expect(201);
    assert_eq!(
        verdict(&made),
        json!(["white_label_install", 101, "northwind-it", "1002"])
    );
    server.changes(
        "northwind-it",
        json!({ "end_companies": [{ "psa_company_id": "1004", "tenant_id": null }] }),
    );
    assert_eq!(trace(FOURTH_COFFEE), "none");
    assert_eq!(
        relay.opens(from(FOURTH_COFFEE)).expect(201).data()["end_company_id"],
        "1003"
    );
}

#[test]
fn a_disconnected_or_deleted_channel_refuses_and_nobody_steps_in() {
    let server = Server::demo();
    let relay = server.relay();
    let mut ask = from(CONTOSO);
    ask["client_id"] = "northwind-it".into();
    let bot =
        json!({ "channels": [{ "internal_name": "Client help bot", "status": "DISCONNECTED" }] });
    server.changes("northwind-it", bot);
    let refused = json!({
        "code": "channel_disconnected",
        "message": "This chat is not connected at the moment. Please contact your IT support.",
    });
    assert_eq!(
        relay
            .opens(ask.clone())
            .refused(409, "channel_disconnected")
            .error(),
        refused
    );

    server.tampers(
        "UPDATE channels SET status = 'ACTIVE', deleted_at = updated_at WHERE internal_name = 'Client help bot'",
    );
    assert_eq!(
        relay
            .opens(ask.clone())
            .refused(409, "channel_disconnected")
            .error(),
        refused
    );
    // Another channel of the same bot does not change that, before the directory is installed there.
    server.changes(
        "northwind-it",
        json!({ "channels": [channel("Successor", "END_USER", SHARED_BOT, 101)] }),
    );
    assert_eq!(
        relay
            .opens(ask.clone())
            .refused(409, "channel_disconnected")
            .error(),
        refused
    );
    // The same name made anew takes the installs over.
    server.changes(
        "northwind-it",
        json!({ "channels": [channel("Client help bot", "END_USER", SHARED_BOT, 101)] }),
    );
    assert_eq!(
        verdict(&relay.opens(ask).expect(201)),
        json!(["white_label_install", 101, "northwind-it", "1001"])
    );
    // A disconnected channel that nothing is installed on does not count at all.
    server.changes(
        "northwind-it",
        json!({ "channels": [{ "internal_name": "Technician bot", "status": "DISCONNECTED" }] }),
    );
    let internal = relay.opens(json!({ "managed_agent_key": "NEO_SUPPORT", "client_id": "northwind-it", "bot_id": TECHNICIAN_BOT }));
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
        relay.opens(json!({ "agent_id": id, "bot_id": "bot", "inbound_tenant_id": "unlinked" }))
    };
    let change = |what: Value| {
        let mut channel = what;
        channel["internal_name"] = "bot".into();
        server.changes("msp", json!({ "channels": [channel] }));
    };
    ask(7).refused(409, "channel_disconnected");
    change(json!({ "status": "ACTIVE" }));
    ask(7).refused(403, "agent_not_allowed");
    ask(1).refused(422, "agent_not_conversational");
    change(json!({ "agent_id": 2 }));
    ask(2).refused(409, "agent_disabled");
    server.changes(
        "msp",
        json!({ "agents": [{ "agent_id": 2, "state": "ENABLED" }] }),
    );
    ask(2).refused(409, "end_company_not_mapped");
    assert_eq!(
        server.stored::<i64>("SELECT sum(attempts) FROM unlinked_tenants"),
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
    let own = server.holder_of("neo_sk_demo_own00000");
    let ask = |id: i64| own.opens(json!({ "agent_id": id, "end_company_id": "unknown" }));
    ask(7).not_found();
    ask(1).refused(422, "agent_not_conversational");
    ask(2).refused(409, "agent_disabled");
    ask(3).not_found();
    own.opens(json!({ "agent_id": 3 }))
        .refused(422, "end_company_required");
}

// Dry runs.

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
    northwind.asks_who_answers(both).refused_field(
        "agent_id, managed_agent_key",
        "are two of which exactly one must be given",
    );
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

// Repeats.

#[test]
fn a_repeat_gets_the_first_reply_again() {
    let server = Server::demo();
    let northwind = server.northwind();
    let body = json!({ "agent_id": 102, "title": "Once" });
    let first = northwind.opens_once("key-1", body.clone()).expect(201);
    assert_eq!(first.header("idempotent-replayed"), None);
    northwind
        .changes(&first.id(), json!({ "title": "Changed since" }))
        .expect(200);
    server.passes(MINUTE);
    let data = |reply: &Reply| {
        let text = reply.text();
        let (data, _) = text.split_once(",\"meta\":").unwrap();
        data.to_owned()
    };
    let again = northwind.opens_once("key-1", body.clone()).expect(201);
    assert_eq!(data(&again), data(&first));
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(again.header("location"), first.header("location"));
    assert_eq!(northwind.lists("").ids(), [first.id()]);

    let server = server.restarted();
    let again = server
        .northwind()
        .opens_once("key-1", body.clone())
        .expect(201);
    assert_eq!(data(&again), data(&first));
    assert_eq!(again.header("idempotent-replayed"), Some("true"));

    // Whatever it was refused for now, it was done before.
    server.changes(
        "northwind-it",
        json!({ "agents": [{ "agent_id": 102, "state": "DISABLED" }] }),
    );
    assert_eq!(
        server
            .northwind()
            .opens_once("key-1", body)
            .expect(201)
            .id(),
        first.id()
    );
}

#[test]
fn a_key_with_another_body_is_refused_byte_for_byte() {
    let server = Server::demo();
    let northwind = server.northwind();
    let post = |body: &str| {
        northwind.sends(
            Request::new("POST", "/chat/sessions")
                .header("idempotency-key", "k")
                .text(body),
        )
    };
    let first = post("{\"agent_id\":102}").expect(201);
    for other in [
        "{\"agent_id\": 102}",
        "{\"agent_id\":102,\"title\":null}",
        "{\"agent_id\":100}",
        "{\"agent_id\":201}",
    ] {
        assert_eq!(
            post(other).refused(422, "idempotency_key_reused").error(),
            json!({
                "code": "idempotency_key_reused",
                "message": "This Idempotency-Key was used with another body. Use a new key.",
            })
        );
    }
    assert_eq!(post("{\"agent_id\":102}").expect(201).id(), first.id());
}

#[test]
fn a_refusal_is_not_kept() {
    let server = Server::demo();
    let northwind = server.northwind();
    northwind
        .opens_once("k", json!({ "agent_id": 103 }))
        .refused(409, "agent_disabled");
    server.changes(
        "northwind-it",
        json!({ "agents": [{ "agent_id": 103, "state": "ENABLED" }] }),
    );
    let made = northwind
        .opens_once("k", json!({ "agent_id": 103 }))
        .expect(201);
    assert_eq!(made.header("idempotent-replayed"), None);
    server
        .relay()
        .opens_once("k", from(TAILSPIN))
        .refused(409, "end_company_not_mapped");
    server.relay().opens_once("k", from(CONTOSO)).expect(201);
}

#[test]
fn a_repeat_of_a_deleted_session_is_a_404() {
    let server = Server::demo();
    let northwind = server.northwind();
    let first = northwind.opens_once("k", technician()).expect(201);
    northwind.removes(&first.id()).expect(204);
    northwind.opens_once("k", technician()).not_found();
    northwind
        .opens_once("k", json!({ "agent_id": 100 }))
        .refused(422, "idempotency_key_reused");
    server.passes(DAY);
    let fresh = northwind.opens_once("k", technician()).expect(201);
    assert_ne!(fresh.id(), first.id());
}

#[test]
fn a_reply_is_kept_for_a_day() {
    let server = Server::demo();
    let northwind = server.northwind();
    let first = northwind.opens_once("k", technician()).expect(201);
    server.passes(DAY - 1);
    assert_eq!(
        northwind.opens_once("k", technician()).expect(201).id(),
        first.id()
    );
    server.passes(1);
    let second = northwind
        .opens_once("k", json!({ "agent_id": 100 }))
        .expect(201);
    assert_eq!(second.header("idempotent-replayed"), None);
    server.passes(DAY - 1);
    assert_eq!(
        northwind
            .opens_once("k", json!({ "agent_id": 100 }))
            .expect(201)
            .id(),
        second.id()
    );
}

#[test]
fn repeats_belong_to_an_account_with_the_keys_that_it_was_rotated_into() {
    let server = Server::demo();
    let (northwind, fabrikam) = (server.northwind(), server.fabrikam());
    let managed = json!({ "managed_agent_key": "NEO_SUPPORT" });
    let first = northwind.opens_once("k", managed.clone()).expect(201);
    let other = fabrikam.opens_once("k", managed.clone()).expect(201);
    assert_ne!(first.id(), other.id());
    server.changes(
        "northwind-it",
        json!({ "api_keys": [{ "name": "Second", "key": "neo_sk_demo_second00" }] }),
    );
    let second = server
        .holder_of("neo_sk_demo_second00")
        .opens_once("k", managed.clone())
        .expect(201);
    assert_ne!(first.id(), second.id());

    let successor = "neo_sk_demo_successor00";
    let sha256 = api_key::sha256(NORTHWIND);
    let key = server
        .app
        .store
        .read(|reader| keys::by_sha256(reader, &sha256))
        .unwrap()
        .unwrap()
        .key
        .id;
    server
        .app
        .store
        .write_now(move |tx| {
            keys::rotate(
                tx,
                key,
                api_key::sha256(successor),
                api_key::hint(successor),
            )
        })
        .unwrap();
    for actor in [northwind, server.holder_of(successor)] {
        assert_eq!(
            actor.opens_once("k", managed.clone()).expect(201).id(),
            first.id()
        );
    }
}

#[test]
fn an_idempotency_key_has_1_to_128_visible_characters() {
    let server = Server::demo();
    let northwind = server.northwind();
    let longest = "~".repeat(128);
    northwind.opens_once(&longest, technician()).expect(201);
    northwind.opens_once("!", technician()).expect(201);
    for bad in ["", "a b", "\u{e9}", "a\tb", &"x".repeat(129)] {
        northwind
            .opens_once(bad, technician())
            .refused_field("Idempotency-Key", "must be 1 to 128 visible characters");
    }
    assert_eq!(northwind.lists("").ids().len(), 2);
}

// Lists.

/// Walks a list to its end and gives every id, page by page.
fn walked(actor: &Actor, query: &str, size: usize) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = actor
            .lists(&format!("{query}&page_size={size}{cursor}"))
            .expect(200);
        pages.push(page.ids());
        match page.next_cursor() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return pages,
        }
    }
}

#[test]
fn a_list_is_walked_to_any_depth_without_a_gap_or_a_repeat() {
    let server = Server::demo();
    let northwind = server.northwind();
    let count = 430;
    thread::scope(|scope| {
        for worker in 0..8 {
            let northwind = &northwind;
            scope.spawn(move || {
                for number in (worker..count).step_by(8) {
                    northwind
                        .session(json!({ "agent_id": 102, "title": format!("Session {number}") }));
                }
            });
        }
    });
    server.fabrikam().session(json!({ "agent_id": 202 }));
    let whole: Vec<String> = walked(&northwind, "", 200).concat();
    assert_eq!(whole.len(), count);
    assert_eq!(whole.iter().collect::<BTreeSet<_>>().len(), count);
    let mut newest_first = whole.clone();
    newest_first.sort_unstable_by(|one, other| other.cmp(one));
    assert_eq!(whole, newest_first, "ids grow in the order of creation");
    for size in [43, 61, 199] {
        let pages = walked(&northwind, "", size);
        assert!(
            pages[..pages.len() - 1]
                .iter()
                .all(|page| page.len() == size)
        );
        assert_eq!(pages.concat(), whole);
    }
    // What comes and goes meanwhile shifts nothing.
    let first = northwind.lists("page_size=10").expect(200);
    northwind.session(technician());
    northwind.removes(&first.ids()[9]).expect(204);
    let second = northwind
        .lists(&format!(
            "page_size=10&cursor={}",
            first.next_cursor().unwrap()
        ))
        .expect(200);
    assert_eq!(second.ids(), whole[10..20]);
}

#[test]
fn a_page_that_just_fits_is_the_last() {
    let server = Server::demo();
    let northwind = server.northwind();
    for _ in 0..4 {
        northwind.session(technician());
    }
    assert_eq!(walked(&northwind, "", 4).len(), 1);
    assert_eq!(walked(&northwind, "", 2).len(), 2);
    assert_eq!(walked(&northwind, "", 3).len(), 2);
}

#[test]
fn a_list_is_filtered() {
    let server = Server::demo();
    let (northwind, relay) = (server.northwind(), server.relay());
    let a = northwind.session(technician());
    let b = northwind.session(json!({ "agent_id": 100 }));
    let c = northwind.session(json!({ "agent_id": 101, "end_company_id": "1001" }));
    let d = northwind.session(json!({ "agent_id": 101, "end_company_id": "1002" }));
    let routed = relay.opens(from(CONTOSO)).expect(201);
    let (e, channel) = (
        routed.id(),
        routed.data()["channel_id"].as_str().unwrap().to_owned(),
    );
    northwind.resets(&b).expect(200);
    northwind.resets(&c).expect(200);

    let lists = |query: &str| northwind.lists(query).expect(200).ids();
    assert_eq!(lists(""), [&*e, &d, &a]);
    assert_eq!(lists("archived=false"), [&*e, &d, &a]);
    assert_eq!(lists("archived=true"), [&*c, &b]);
    assert_eq!(lists("archived=all"), [&*e, &d, &c, &b, &a]);
    assert_eq!(lists("agent_id=102"), [&*a]);
    assert_eq!(lists("agent_id=101&archived=all"), [&*e, &d, &c]);
    assert_eq!(lists("agent_id=201"), [""; 0]);
    assert_eq!(lists("end_company_id=1001"), [&*e]);
    assert_eq!(lists("end_company_id=1001&archived=all"), [&*e, &c]);
    assert_eq!(lists("end_company_id=1001&archived=true"), [&*c]);
    assert_eq!(lists("end_company_id=WOOD-01"), [""; 0]);
    assert_eq!(lists(&format!("channel_id={channel}")), [&*e]);
    assert_eq!(
        lists(&format!("channel_id={channel}&agent_id=102")),
        [""; 0]
    );
    assert_eq!(
        lists(&format!(
            "channel_id={channel}&end_company_id=1001&agent_id=101"
        )),
        [&*e]
    );
    assert_eq!(
        walked(&northwind, "archived=all", 2).concat(),
        [&*e, &d, &c, &b, &a]
    );
    assert_eq!(
        server.fabrikam().lists("archived=all").expect(200).ids(),
        [""; 0]
    );
    assert_eq!(
        server
            .fabrikam()
            .lists(&format!("channel_id={channel}&archived=all"))
            .expect(200)
            .ids(),
        [""; 0]
    );

    for (query, field, reason) in [
        (
            "archived=yes",
            "archived",
            "must be one of false, true, all",
        ),
        ("archived=", "archived", "must be one of false, true, all"),
        (
            "agent_id=x",
            "agent_id",
            "must be a whole number from -9223372036854775808 to 9223372036854775807",
        ),
        (
            "agent_id=",
            "agent_id",
            "must be a whole number from -9223372036854775808 to 9223372036854775807",
        ),
        (
            "channel_id=x",
            "channel_id",
            "must be an id that begins with chn_",
        ),
        (
            "channel_id=",
            "channel_id",
            "must be an id that begins with chn_",
        ),
        (
            "end_company_id=a%2Fb",
            "end_company_id",
            "must be 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-', and neither 'health' nor 'unlinked-tenants'",
        ),
    ] {
        northwind.lists(query).refused_field(field, reason);
    }
}

#[test]
fn the_platform_lists_what_its_tenants_platform_accounts_made_in_a_tenant() {
    let server = Server::demo();
    server.changes(
        "relay-platform",
        json!({ "api_keys": [
            { "name": "Second relay", "key": "neo_sk_demo_relaytwo", "platform": true },
            { "name": "Reports", "key": "neo_sk_demo_reports0", "platform": false },
        ] }),
    );
    server.changes("fabrikam-support", json!({ "api_keys": [{ "name": "Their relay", "key": "neo_sk_demo_theirs00", "platform": true }] }));
    let (relay, northwind) = (server.relay(), server.northwind());
    let (second, reports, theirs) = (
        server.holder_of("neo_sk_demo_relaytwo"),
        server.holder_of("neo_sk_demo_reports0"),
        server.holder_of("neo_sk_demo_theirs00"),
    );
    let routed = relay.session(from(CONTOSO));
    let own = northwind.session(technician());
    let foreign = theirs.session(from(CONTOSO));
    let home = relay.session(json!({ "managed_agent_key": "NEO_SUPPORT" }));
    let plain = reports.session(json!({ "managed_agent_key": "NEO_SUPPORT" }));

    for actor in [&relay, &second] {
        assert_eq!(
            actor.lists("client_id=northwind-it").expect(200).ids(),
            [&*routed]
        );
        assert_eq!(actor.lists("").expect(200).ids(), [&*plain, &home]);
        assert_eq!(
            actor.lists("client_id=relay-platform").expect(200).ids(),
            [&*home]
        );
        assert_eq!(
            actor.lists("client_id=fabrikam-support").expect(200).ids(),
            [""; 0]
        );
        assert_eq!(
            actor
                .lists("client_id=northwind-it&agent_id=101&end_company_id=1001")
                .expect(200)
                .ids(),
            [&*routed]
        );
        assert_eq!(
            actor
                .lists("client_id=northwind-it&agent_id=102")
                .expect(200)
                .ids(),
            [""; 0]
        );
        actor.lists("client_id=no-such-tenant").not_found();
        for malformed in ["client_id=", "client_id=NOT%20A%20NAME"] {
            actor.lists(malformed).refused_field(
                "client_id",
                "must be 1 to 63 of a-z, 0-9 and '-', not starting with '-'",
            );
        }
        actor.reads(&routed).expect(200);
        actor.reads(&own).not_found();
        actor.reads(&foreign).not_found();
    }
    assert_eq!(
        theirs.lists("client_id=northwind-it").expect(200).ids(),
        [&*foreign]
    );
    theirs.reads(&routed).not_found();
    assert_eq!(reports.lists("").expect(200).ids(), [&*plain, &home]);
    reports.reads(&routed).not_found();
    // To the MSP it is one of its own sessions.
    assert_eq!(
        northwind.lists("").expect(200).ids(),
        [&*foreign, &own, &routed]
    );
    northwind.reads(&routed).expect(200);
}

#[test]
fn the_platform_writes_in_the_sessions_that_it_made_elsewhere_but_never_deletes_them() {
    let server = Server::demo();
    let (relay, northwind) = (server.relay(), server.northwind());
    let routed = relay.session(from(CONTOSO));
    let own = northwind.session(technician());
    relay.says(&routed, "Hello").expect(202);
    relay
        .changes(&routed, json!({ "title": "By the relay" }))
        .expect(200);
    relay.mints(json!({ "session_id": routed })).expect(201);
    assert_eq!(
        relay.removes(&routed).refused(403, "forbidden").error(),
        json!({ "code": "forbidden", "message": "This credential may not do that. Ask an administrator for one that may." })
    );
    relay.resets(&routed).expect(200);
    relay.removes(&routed).refused(403, "forbidden");
    for reply in [
        relay.says(&own, "Hello"),
        relay.changes(&own, json!({})),
        relay.messages(&own, ""),
        relay.resets(&own),
        relay.removes(&own),
        relay.mints(json!({ "session_id": own })),
    ] {
        reply.not_found();
    }
    northwind.removes(&routed).expect(204);
    relay.removes(&routed).not_found();
    let home = relay.session(json!({ "managed_agent_key": "NEO_SUPPORT" }));
    relay.removes(&home).expect(204);
}

#[test]
fn a_search_finds_words_of_titles_and_messages() {
    let server = Server::demo();
    let northwind = server.northwind();
    let titled = northwind.session(json!({ "agent_id": 102, "title": "Printer on floor 3" }));
    let said = northwind.session(json!({ "agent_id": 102, "title": "Something else" }));
    northwind
        .says(&said, "The PRINTER caf\u{e9} is on fire")
        .expect(202);
    let other = northwind.session(json!({ "agent_id": 100, "title": "Billing" }));
    let finds = |q: &str| northwind.lists(&format!("q={q}")).expect(200).ids();
    assert_eq!(finds("printer"), [&*said, &titled]);
    assert_eq!(finds("Printer+fire"), [&*said]);
    assert_eq!(finds("fire+floor"), [""; 0]);
    // A word may stand in the title and another in a message.
    assert_eq!(finds("something+fire"), [&*said]);
    assert_eq!(finds("cafe"), [&*said]);
    assert_eq!(finds("CAF%C3%89"), [&*said]);
    assert_eq!(finds("print"), [""; 0]);
    assert_eq!(finds(""), [&*other, &said, &titled]);
    assert_eq!(finds("billing&agent_id=102"), [""; 0]);
    assert_eq!(finds("billing&agent_id=100"), [&*other]);
    let page = northwind.lists("q=printer&page_size=1").expect(200);
    assert_eq!(page.ids(), [&*said]);
    let rest = northwind
        .lists(&format!(
            "q=printer&page_size=1&cursor={}",
            page.next_cursor().unwrap()
        ))
        .expect(200);
    assert_eq!(
        (rest.ids(), rest.next_cursor()),
        (vec![titled.clone()], None)
    );

    northwind
        .changes(&titled, json!({ "title": "Scanner" }))
        .expect(200);
    assert_eq!(finds("printer"), [&*said]);
    assert_eq!(finds("scanner"), [&*titled]);
    northwind
        .changes(&titled, json!({ "title": null }))
        .expect(200);
    assert_eq!(finds("scanner"), [""; 0]);
    northwind.resets(&said).expect(200);
    assert_eq!(finds("printer"), [""; 0]);
    assert_eq!(finds("printer&archived=true"), [&*said]);
    assert_eq!(finds("printer&archived=all"), [&*said]);
}

#[test]
fn any_text_is_a_harmless_query() {
    let server = Server::demo();
    let northwind = server.northwind();
    let session = northwind.session(json!({ "agent_id": 102, "title": "alpha t1 OR scope" }));
    northwind.says(&session, "beta").expect(202);
    for q in [
        "\"",
        "'",
        "\"\"",
        "*",
        "alpha*",
        "alpha NEAR beta",
        "NEAR(",
        "AND",
        "OR",
        "NOT alpha",
        "alpha AND",
        "-alpha",
        "^alpha",
        "scope:t1",
        "scope : \"t2\"",
        "words:alpha",
        "\" OR scope : \"t2",
        "{scope words}: alpha",
        "(",
        ")",
        "alpha\" AND \"",
        "\\",
        ";",
        "'; DROP TABLE sessions; --",
        "\u{1f600}",
        "\u{1e900}\u{1e901}",
        "\u{301}",
        "\u{200d}",
        "\u{feff}",
        "%",
        "_",
        "a\nb\tc",
        "\u{7f}",
        "\u{b2}",
        "1e999",
        "\u{fb01}",
        "\u{130}",
        "\u{d7ff}",
    ] {
        let query: String = form_urlencoded::Serializer::new(String::new())
            .append_pair("q", q)
            .finish();
        northwind.lists(&query).expect(200);
        northwind.gets(&format!("/agents?{query}")).expect(200);
    }
    let long = "alpha ".repeat(1_000);
    let query: String = form_urlencoded::Serializer::new(String::new())
        .append_pair("q", &long)
        .finish();
    assert_eq!(northwind.lists(&query).expect(200).ids(), [&*session]);
    // What looks like a query language is looked for as it stands.
    assert_eq!(northwind.lists("q=OR").expect(200).ids(), [&*session]);
    assert_eq!(northwind.lists("q=alpha*").expect(200).ids(), [&*session]);
    assert_eq!(
        northwind.lists("q=gamma+OR+alpha").expect(200).ids(),
        [""; 0]
    );
}

#[test]
fn a_search_stays_in_what_the_caller_may_list() {
    let server = Server::demo();
    let (northwind, fabrikam, relay) = (server.northwind(), server.fabrikam(), server.relay());
    let ours = northwind.session(json!({ "agent_id": 102, "title": "zebra" }));
    let theirs = fabrikam.session(json!({ "agent_id": 202, "title": "zebra" }));
    let routed = relay.session(from(CONTOSO));
    for (actor, session) in [(&northwind, &ours), (&fabrikam, &theirs), (&relay, &routed)] {
        actor.says(session, "zebra crossing").expect(202);
    }
    assert_eq!(
        northwind.lists("q=zebra").expect(200).ids(),
        [&*routed, &ours]
    );
    assert_eq!(fabrikam.lists("q=zebra").expect(200).ids(), [&*theirs]);
    assert_eq!(relay.lists("q=zebra").expect(200).ids(), [""; 0]);
    assert_eq!(
        relay
            .lists("q=zebra&client_id=northwind-it")
            .expect(200)
            .ids(),
        [&*routed]
    );
    for leak in ["q=t1", "q=t2", "q=scope"] {
        assert_eq!(northwind.lists(leak).expect(200).ids(), [""; 0]);
    }
}

#[test]
fn what_is_deleted_is_not_found_any_more_nor_left_in_the_file() {
    let server = Server::demo();
    let northwind = server.northwind();
    let said = northwind.session(json!({ "agent_id": 102, "title": "xylophone" }));
    northwind.says(&said, "glockenspiel").expect(202);
    let unsearched = northwind.session(technician());
    assert_eq!(
        northwind.lists("q=glockenspiel").expect(200).ids(),
        [&*said]
    );
    northwind.says(&unsearched, "marimbaphone").expect(202);
    northwind.removes(&said).expect(204);
    northwind.removes(&unsearched).expect(204);
    for word in ["xylophone", "glockenspiel", "marimbaphone"] {
        assert_eq!(
            northwind.lists(&format!("q={word}")).expect(200).ids(),
            [""; 0]
        );
    }
    for table in ["sessions", "messages", "turns", "session_tokens"] {
        assert_eq!(
            server.stored::<i64>(&format!("SELECT count(*) FROM {table}")),
            0,
            "{table}"
        );
    }
    let kept = northwind.session(json!({ "agent_id": 102, "title": "marimbaphone" }));
    assert_eq!(
        northwind.lists("q=marimbaphone").expect(200).ids(),
        [&*kept]
    );
}

#[test]
fn what_is_said_after_a_restart_is_found_though_the_newest_was_deleted() {
    let server = Server::demo();
    let kept = server
        .northwind()
        .session(json!({ "agent_id": 102, "title": "Kept" }));
    let deleted = server.northwind().session(technician());
    server.northwind().says(&deleted, "bassoon").expect(202);
    assert_eq!(
        server.northwind().lists("q=bassoon").expect(200).ids(),
        [&*deleted]
    );
    server.northwind().removes(&deleted).expect(204);
    // The clock stands still, as if it had been set back between the two starts.
    let server = server.restarted();
    server.northwind().says(&kept, "zither").expect(202);
    assert_eq!(
        server.northwind().lists("q=zither").expect(200).ids(),
        [&*kept]
    );
    server.northwind().removes(&kept).expect(204);
    assert_eq!(
        server.northwind().lists("q=zither").expect(200).ids(),
        [""; 0]
    );
}

#[test]
fn housekeeping_removes_only_what_is_past_its_time() {
    let server = Server::demo();
    let northwind = server.northwind();
    let first = northwind.opens_once("k", technician()).expect(201);
    let minted = northwind
        .mints(json!({ "session_id": first.id(), "ttl_seconds": 60 }))
        .expect(201);
    let guest = server.holder_of(minted.data()["token"].as_str().unwrap());
    let cleans_up = || {
        actix_web::rt::System::new().block_on(async {
            server.app.store.purge_idempotency_keys().await.unwrap();
            server.app.store.purge_session_tokens().await.unwrap();
        });
        ["idempotency_keys", "session_tokens"]
            .map(|table| server.stored::<i64>(&format!("SELECT count(*) FROM {table}")))
    };
    server.passes(DAY - 1);
    assert_eq!(cleans_up(), [1, 1]);
    assert_eq!(
        northwind.opens_once("k", technician()).expect(201).id(),
        first.id()
    );
    server.passes(1);
    assert_eq!(cleans_up(), [0, 1]);
    server.passes(MINUTE);
    assert_eq!(cleans_up(), [0, 0]);
    assert_eq!(
        guest.gets("/whoami").refused(401, "unauthorized").error()["details"]["reason"],
        "expired"
    );
}

// Changes and the end.

#[test]
fn a_patch_changes_what_is_sent_and_null_resets() {
    let server = Server::demo();
    let northwind = server.northwind();
    let made = northwind
        .opens(json!({ "agent_id": 102, "title": "Before", "metadata": { "a": "1" } }))
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
    server.passes(SECOND);
    let changed = northwind
        .changes(
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
    server.passes(SECOND);
    let third = "2025-11-24T16:00:02.000Z";
    let archived = northwind
        .changes(session, json!({ "archived": true }))
        .expect(200)
        .data();
    assert_eq!(archived["archived_at"], third);
    assert_eq!(archived["title"], "After");
    server.passes(SECOND);
    assert_eq!(
        northwind
            .changes(session, json!({ "archived": true }))
            .expect(200)
            .data()["archived_at"],
        third
    );
    let reset = northwind
        .changes(
            session,
            json!({ "title": null, "archived": null, "shared": null, "metadata": null }),
        )
        .expect(200)
        .data();
    assert_eq!(
        reset,
        with(json!({ "title": null, "metadata": {}, "updated_at": "2025-11-24T16:00:03.000Z" }))
    );
    assert_eq!(northwind.reads(session).expect(200).data(), reset);
    assert_eq!(
        northwind
            .changes(session, json!({ "title": "" }))
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
            "has a value, at \"a\", that must be a string",
        ),
    ] {
        northwind
            .changes(session, body)
            .refused_field(field, reason);
    }
}

#[test]
fn a_session_that_comes_out_of_the_archive_takes_messages_again() {
    let server = Server::demo();
    let northwind = server.northwind();
    let session = northwind.session(technician());
    northwind
        .changes(&session, json!({ "archived": true }))
        .expect(200);
    northwind
        .says(&session, "Hello")
        .refused(409, "session_archived");
    northwind
        .changes(&session, json!({ "archived": false }))
        .expect(200);
    northwind.says(&session, "Hello").expect(202);
}

#[test]
fn a_reset_archives_and_cancels_and_may_be_repeated() {
    let server = Server::demo();
    let northwind = server.northwind();
    let session = northwind.session(technician());
    let turn = northwind.says(&session, "Hello").expect(202).data()["chat_turn_id"]
        .as_str()
        .unwrap()
        .to_owned();
    server.passes(SECOND);
    let reset = northwind.resets(&session).expect(200);
    assert_eq!(reset.id(), session);
    assert_eq!(reset.data()["archived_at"], "2025-11-24T16:00:01.000Z");
    let cancelled = northwind.turn(&session, &turn, "").expect(200).data();
    assert_eq!(cancelled["status"], "CANCELLED");
    assert_eq!(cancelled["finished_at"], "2025-11-24T16:00:01.000Z");
    server.passes(SECOND);
    assert_eq!(
        northwind.resets(&session).expect(200).data()["archived_at"],
        "2025-11-24T16:00:01.000Z"
    );
    northwind
        .says(&session, "Still there?")
        .refused(409, "session_archived");
    assert_eq!(northwind.messages(&session, "").expect(200).ids().len(), 1);
    // It asks for no body, and minds none.
    northwind
        .sends(Request::new(
            "POST",
            format!("/chat/sessions/{session}/reset"),
        ))
        .expect(200);
    northwind
        .sends(Request::new("POST", format!("/chat/sessions/{session}/reset")).text("{"))
        .expect(200);
}

#[test]
fn a_deleted_session_is_gone_with_all_that_hung_on_it() {
    let server = Server::demo();
    let northwind = server.northwind();
    let session = northwind.session(technician());
    let guest = northwind.guest_of(&session);
    let said = northwind.says(&session, "Hello").expect(202).data();
    let turn = said["chat_turn_id"].as_str().unwrap();
    let gone = northwind.removes(&session).expect(204);
    assert!(gone.body.is_empty());
    assert_eq!(gone.header("content-type"), None);
    northwind.reads(&session).not_found();
    northwind.changes(&session, json!({})).not_found();
    northwind.resets(&session).not_found();
    northwind.says(&session, "Hello").not_found();
    northwind.messages(&session, "").not_found();
    northwind.turn(&session, turn, "").not_found();
    northwind
        .mints(json!({ "session_id": session }))
        .not_found();
    northwind.removes(&session).not_found();
    assert_eq!(northwind.lists("archived=all").expect(200).ids(), [""; 0]);
    guest.gets("/whoami").refused(401, "unauthorized");
}

#[test]
fn sessions_survive_a_restart_and_ids_go_on_growing() {
    let server = Server::demo();
    let before = server.northwind().session(technician());
    server.northwind().says(&before, "Hello").expect(202);
    let whole = server.northwind().reads(&before).expect(200).data();
    let server = server.restarted();
    assert_eq!(server.northwind().reads(&before).expect(200).data(), whole);
    let after = server.northwind().session(technician());
    assert!(after > before, "although the clock stands still");
    assert_eq!(
        server.northwind().lists("").expect(200).ids(),
        [after, before]
    );
}

#[test]
fn the_pin_does_not_move_with_the_link() {
    let server = Server::demo();
    let routed = server.relay().session(from(CONTOSO));
    server.changes(
        "northwind-it",
        json!({ "end_companies": [
            { "psa_company_id": "1001", "tenant_id": null },
            { "psa_company_id": "1002", "tenant_id": CONTOSO },
        ] }),
    );
    assert_eq!(
        server.relay().reads(&routed).expect(200).data()["end_company_id"],
        "1001"
    );
    assert_eq!(
        server.relay().opens(from(CONTOSO)).expect(201).data()["end_company_id"],
        "1002"
    );
    assert_eq!(
        server
            .northwind()
            .lists("end_company_id=1001")
            .expect(200)
            .ids(),
        [routed]
    );
}
