//! What a relay looks up over HTTP, so that it keeps no lists of its own.

use serde_json::{Value, json};

use crate::support::{ApiClient, CONTOSO, SHARED_BOT, Server, TAILSPIN, TECHNICIAN_BOT, from};

/// The directory that Northwind's technicians sign in with.
const NORTHWINDS_OWN: &str = "ab0de0a1-fa00-4c1a-9cab-ab0de000a1fa";

const NO_CHANNEL: &str = "inbound_tenant_id led to no channel: the bot is not installed for it, and the acting tenant has no ACTIVE channel of the \
     bot for it. The tenant's own NEO_SUPPORT agent answers, which is for the MSP's technicians.";

/// A message that a technician of Northwind writes to this bot.
fn from_technician(bot: &str) -> Value {
    json!({
        "managed_agent_key": "NEO_SUPPORT",
        "client_id": "northwind-it",
        "bot_id": bot,
        "inbound_tenant_id": NORTHWINDS_OWN,
    })
}

fn unlinked(client: &ApiClient, query: &str) -> Vec<Value> {
    let list = client.get(&format!("/end-companies/unlinked-tenants{query}"));
    list.expect(200)
        .data()
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["inbound_tenant_id"].clone())
        .collect()
}

#[test]
fn the_platform_finds_the_tenant_whose_people_sign_in_with_a_directory() {
    let server = Server::demo();
    let relay = server.relay();
    let found = |query: &str| {
        let list = relay.get(&format!("/tenants?{query}")).expect(200).data();
        let tenants = list.as_array().unwrap().clone();
        tenants
            .iter()
            .map(|tenant| tenant["client_id"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    for spelling in [
        NORTHWINDS_OWN.to_owned(),
        NORTHWINDS_OWN.to_uppercase(),
        NORTHWINDS_OWN.replace('-', ""),
        format!("%7B{NORTHWINDS_OWN}%7D"),
    ] {
        let query = format!("entra_tenant_id={spelling}");
        assert_eq!(found(&query), ["northwind-it"], "{query}");
    }
    let both = format!("entra_tenant_id={NORTHWINDS_OWN}&bot_id={SHARED_BOT}&q=north");
    assert_eq!(found(&both), ["northwind-it"]);
    // A client's directory is nobody's own.
    for none in [
        format!("entra_tenant_id={CONTOSO}"),
        format!("entra_tenant_id={NORTHWINDS_OWN}&bot_id=no-bot"),
        format!("entra_tenant_id={NORTHWINDS_OWN}&q=fabrikam"),
    ] {
        assert_eq!(found(&none), [""; 0], "{none}");
    }
    let malformed = relay.get("/tenants?entra_tenant_id=a%20b").expect(400);
    assert_eq!(malformed.error()["details"]["field"], "entra_tenant_id");
}

#[test]
fn the_platform_reads_any_tenants_channel_and_refused_directories() {
    let server = Server::demo();
    let (relay, fabrikam) = (server.relay(), server.fabrikam());
    relay.create_session(from(TAILSPIN)).expect(409);

    let channel = format!("/channels/{}", server.client_help_bot());
    let own = server.northwind().get(&channel).expect(200).data();
    let named = relay.get(&format!("{channel}?client_id=northwind-it"));
    assert_eq!(named.expect(200).data(), own);
    relay
        .get(&format!("{channel}?client_id=fabrikam-support"))
        .not_found();

    assert_eq!(unlinked(&relay, "?client_id=northwind-it"), [TAILSPIN]);
    assert_eq!(unlinked(&relay, "?client_id=fabrikam-support"), [""; 0]);
    assert_eq!(unlinked(&relay, ""), [""; 0]);
    relay
        .get("/end-companies/unlinked-tenants?client_id=nobody")
        .not_found();
    fabrikam
        .get("/end-companies/unlinked-tenants?client_id=northwind-it")
        .refused(403, "client_id_not_allowed");
}

#[test]
fn a_session_and_an_install_event_show_the_prefix_that_the_channel_has_now() {
    let server = Server::demo();
    let (relay, northwind) = (server.relay(), server.northwind());
    let prefix =
        |session: &str| relay.read_session(session).expect(200).data()["relay_prefix"].clone();
    let event = || {
        let asked = json!({ "bot_id": SHARED_BOT, "end_client_tenant_id": CONTOSO });
        let told = relay.post("/channels/install-events", asked).expect(200);
        told.data()["relay_prefix"].clone()
    };
    let made = relay.create_session(from(CONTOSO)).expect(201);
    assert_eq!(made.data()["relay_prefix"], "Northwind IT");
    assert_eq!(prefix(&made.id()), "Northwind IT");
    assert_eq!(event(), "Northwind IT");
    let listed = northwind.list_sessions("").expect(200).data();
    assert_eq!(listed[0]["relay_prefix"], "Northwind IT");

    let channel = format!("/channels/{}", server.client_help_bot());
    northwind
        .patch(&channel, json!({ "relay_prefix": "Northwind helper" }))
        .expect(200);
    let later = relay.create_session(from(CONTOSO)).expect(201);
    assert_eq!(later.data()["relay_prefix"], "Northwind helper");
    assert_eq!(prefix(&made.id()), "Northwind helper");
    assert_eq!(event(), "Northwind helper");

    northwind
        .patch(&channel, json!({ "status": "DISCONNECTED" }))
        .expect(200);
    assert_eq!(event(), Value::Null);
    // No channel routes a session of the tenant itself.
    let own = northwind.create_session(json!({ "managed_agent_key": "NEO_SUPPORT" }));
    assert_eq!(own.expect(201).data()["relay_prefix"], Value::Null);
}

#[test]
fn a_platform_call_whose_directory_led_to_no_channel_is_warned_of() {
    let server = Server::demo();
    let relay = server.relay();
    let warnings = |body: Value| {
        let dry = relay.resolve(body.clone()).expect(200);
        let made = relay.create_session(body).expect(201);
        let warnings = made.json()["meta"]["warnings"].clone();
        assert_eq!(dry.json()["meta"]["warnings"], warnings);
        (made.data()["resolution"]["rule"].clone(), warnings)
    };
    let routed = |directory: Value, bot: Value| {
        json!({
            "managed_agent_key": "NEO_SUPPORT", "client_id": "northwind-it", "bot_id": bot, "inbound_tenant_id": directory,
        })
    };
    let nowhere = (json!("neo_support"), json!([NO_CHANNEL]));
    assert_eq!(warnings(routed(json!(TAILSPIN), json!("no-bot"))), nowhere);
    assert_eq!(warnings(routed(json!(TAILSPIN), Value::Null)), nowhere);
    // Without a directory, nobody expects a channel. A channel that answers is no surprise.
    let quiet = |rule: &str| (json!(rule), json!([]));
    assert_eq!(
        warnings(routed(Value::Null, json!("no-bot"))),
        quiet("neo_support")
    );
    assert_eq!(
        warnings(from_technician(TECHNICIAN_BOT)),
        quiet("bot_channel")
    );
    assert_eq!(warnings(from(CONTOSO)), quiet("white_label_install"));

    let both = json!({
        "managed_agent_key": "NEO_SUPPORT", "client_id": "northwind-it", "inbound_tenant_id": TAILSPIN, "end_company_id": "1001",
    });
    let ignored =
        "end_company_id was ignored: inbound_tenant_id decides the company of a platform call.";
    assert_eq!(warnings(both).1, json!([ignored, NO_CHANNEL]));
}

#[test]
fn a_technician_who_writes_to_the_clients_bot_is_told_so_and_offered_to_nobody() {
    let server = Server::demo();
    let (relay, northwind) = (server.relay(), server.northwind());
    let told = "This chat is for the clients of Northwind IT, and you write from Northwind IT's own Microsoft 365 tenant. \
                Please use the chat for Northwind IT's technicians.";
    let refused = || {
        let refused = relay
            .create_session(from_technician(SHARED_BOT))
            .refused(409, "end_company_not_mapped");
        assert_eq!(refused.error()["message"], told);
        refused.error()["details"].clone()
    };
    let details = json!({
        "inbound_tenant_id": NORTHWINDS_OWN, "client_id": "northwind-it", "linked_companies": 0,
    });
    assert_eq!(refused(), details);
    assert_eq!(unlinked(&northwind, ""), [""; 0]);

    // What an older version recorded is not offered either.
    server.execute_sql(&format!(
        "INSERT INTO unlinked_tenants (tenant_no, m365_tenant_id, seq, channel_id, bot_id, attempts, first_seen_at, last_seen_at)
         VALUES (1, '{NORTHWINDS_OWN}', 7, NULL, NULL, 1, 1, 1)"
    ));
    assert_eq!(unlinked(&northwind, ""), [""; 0]);

    // An MSP that is its own client is answered.
    let company = json!({ "psa_company_id": "SELF", "psa_company_name": "Northwind", "tenant_id": NORTHWINDS_OWN });
    northwind.post("/end-companies", company).expect(201);
    let answered = relay
        .create_session(from_technician(SHARED_BOT))
        .expect(201);
    assert_eq!(answered.data()["end_company_id"], "SELF");

    // After the link is gone, the session says the same.
    northwind
        .put("/end-companies/SELF", json!({ "tenant_id": null }))
        .expect(200);
    let late = relay
        .append_text(&answered.id(), "Hello?")
        .refused(409, "end_company_not_mapped");
    assert_eq!(late.error()["message"], told);
    assert_eq!(unlinked(&northwind, ""), [""; 0]);
}
