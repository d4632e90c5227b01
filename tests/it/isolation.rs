//! Tenant isolation: a foreign resource looks byte for byte like an absent one, on every route and
//! for every kind of caller.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use switchboard::digest;
use switchboard::http::edge::router;
use switchboard::model::ids::KeyId;
use switchboard::store::keys;

use crate::isolation_plan::{PLAN, Things, absent, lost_at};
use crate::support::{
    ApiClient, CONTOSO, SHARED_BOT, Server, TAILSPIN, WOODGROVE, from, technician,
};
use crate::wire::{Reply, Request};

/// A reply without its request id, its time and the id of a created resource.
fn comparable(reply: &Reply) -> (u16, Vec<(String, String)>, String) {
    let mut body = reply.text();
    let mut headers = reply.headers.clone();
    // These vary from reply to reply. Whether a connection with an unread body stays open depends
    // on timing, not on the request.
    const OF_THE_MOMENT: [&str; 4] = ["x-request-id", "date", "content-length", "connection"];
    headers.retain(|(name, _)| !OF_THE_MOMENT.contains(&name.as_str()));
    if let Ok(json) = serde_json::from_slice::<Value>(&reply.body) {
        let request_id = json["meta"]["request_id"].as_str().unwrap_or("<none>");
        body = body.replace(request_id, "<request_id>");
        body = body.replace(&json["meta"]["timings_ms"].to_string(), "<timings>");
        if reply.status == 201 {
            body = body.replace(json["data"]["id"].as_str().unwrap_or("<none>"), "<made>");
            headers.retain(|(name, _)| name != "location");
        }
    }
    headers.sort();
    (reply.status, headers, body)
}

/// Creates a session with a secret message, and a token for it.
fn things_of(
    client: &ApiClient,
    body: Value,
    agent: i64,
    company: &'static str,
    client_id: &'static str,
) -> Things {
    let mut body = body;
    let secret = format!("secret-{client_id}");
    body["end_user"] = json!({ "id": secret, "name": "Secret person" });
    body["metadata"] = json!({ "secret": client_id });
    let mut named = body.clone();
    named["external_id"] = secret.into();
    let made = client.create_session(named);
    let session = match made.status {
        201 => made.id(),
        // An earlier session of the account has the id.
        _ => client.session(body),
    };
    let said = client
        .append(
            &session,
            json!({ "message": "A secret", "client_message_id": "known" }),
        )
        .expect(202)
        .data();
    let waiting = client.upload(&session, "text/plain", b"A secret");
    let minted = client
        .mint_token(json!({ "session_id": session }))
        .expect(201)
        .data();
    Things {
        turn: said["chat_turn_id"].as_str().unwrap().to_owned(),
        message: said["user_message_id"].as_str().unwrap().to_owned(),
        attachment: waiting
            .strip_prefix("chat/attachments/")
            .unwrap()
            .to_owned(),
        token: minted["jti"].as_str().unwrap().to_owned(),
        session,
        channel: absent().channel,
        article: client.get("/knowledge-articles").expect(200).data()[0]["id"]
            .as_str()
            .map_or_else(|| absent().article, str::to_owned),
        key: absent().key,
        user: absent().user,
        install: absent().install,
        agent,
        helper: agent - 1,
        company,
        directory: lost_at(client_id),
        client_id,
    }
}

/// The server, and the resources of each tenant that the other callers must not see.
struct Stage {
    server: Server,
    northwinds: Things,
    fabrikams: Things,
    relays: Things,
    other_platforms: Things,
}

const OTHER_PLATFORM: &str = "neo_sk_demo_otherplatform00";
/// The id of Northwind's oldest key.
const KEY_OF_NORTHWIND: &str = "
SELECT k.id FROM api_keys k JOIN tenants t USING (tenant_no) WHERE t.client_id = 'northwind-it' ORDER BY k.seq LIMIT 1";
const USER_OF_NORTHWIND: &str = "
SELECT user_id FROM users u JOIN tenants t USING (tenant_no) WHERE t.client_id = 'northwind-it' ORDER BY u.seq LIMIT 1";
const SPENT: &str = "neo_sk_demo_spent0000000000";

impl Stage {
    fn new() -> Self {
        let server = Server::demo();
        server.import_tenant(
            "fabrikam-support",
            json!({
                "rate_limit_per_minute": 0,
                "api_keys": [{ "name": "Their relay", "key": OTHER_PLATFORM, "platform": true }],
            }),
        );
        server.import_tenant(
            "northwind-it",
            json!({ "api_keys": [{ "name": "Spent", "key": SPENT }] }),
        );
        server.import_tenant(
            "relay-platform",
            json!({ "end_companies": [{ "psa_company_id": "RELAY-01", "psa_company_name": "Relay" }] }),
        );
        server.execute_sql(
            "INSERT INTO unlinked_tenants (tenant_no, m365_tenant_id, seq, attempts, first_seen_at, last_seen_at)
             SELECT tenant_no, 'lost-' || client_id, seq, 1, 0, 0 FROM tenants",
        );
        let sha256 = digest::sha256(SPENT);
        let spent = server
            .app
            .store
            .read_now(|reader| keys::by_sha256(reader, &sha256))
            .unwrap()
            .unwrap()
            .key
            .id;
        server
            .app
            .store
            .write_now(move |tx| keys::revoke(tx, spent))
            .unwrap();

        let (relay, other) = (server.relay(), server.with_credential(OTHER_PLATFORM));
        let channel = |client: &ApiClient, directory: &str| {
            let told = client.resolve(from(directory)).expect(200).data();
            told["channel_id"].as_str().unwrap().to_owned()
        };
        let (of_northwind, of_fabrikam) = (channel(&relay, CONTOSO), channel(&relay, WOODGROVE));
        let mut northwinds = things_of(
            &server.northwind(),
            technician(),
            102,
            "1001",
            "northwind-it",
        );
        northwinds.channel.clone_from(&of_northwind);
        northwinds.install = server.install_of(CONTOSO);
        let own_agent = json!({ "agent_id": 202 });
        let mut fabrikams = things_of(
            &server.fabrikam(),
            own_agent,
            202,
            "WOOD-01",
            "fabrikam-support",
        );
        fabrikams.channel.clone_from(&of_fabrikam);
        northwinds.key = KeyId::from_bytes(server.stored(KEY_OF_NORTHWIND)).to_string();
        northwinds.user = server.stored::<String>(USER_OF_NORTHWIND);
        let installs = server
            .fabrikam()
            .get(&format!("/channels/{of_fabrikam}/installs"));
        fabrikams.install = installs.expect(200).ids().swap_remove(0);
        let managed = relay.get("/agents").expect(200).data()[0]["agent_id"]
            .as_i64()
            .unwrap();
        let mut relays = things_of(&relay, from(CONTOSO), managed, "RELAY-01", "relay-platform");
        relays.helper = managed;
        relays.channel.clone_from(&of_northwind);
        relays.install = server.install_of(TAILSPIN);
        let mut other_platforms = things_of(&other, from(CONTOSO), 102, "1001", "northwind-it");
        other_platforms.channel.clone_from(&of_northwind);
        other_platforms.article.clone_from(&northwinds.article);
        other_platforms.install = server.install_of(TAILSPIN);
        Self {
            server,
            northwinds,
            fabrikams,
            relays,
            other_platforms,
        }
    }
}

/// Whether a request names a tenant, whose existence the platform may know.
fn names_a_tenant(request: &Request, things: &Things) -> bool {
    let body = String::from_utf8_lossy(request.body.as_deref().unwrap_or_default()).into_owned();
    request
        .target
        .contains(&format!("client_id={}", things.client_id))
        || request.target.starts_with("/tenants")
        || body.contains("\"client_id\"")
}

#[test]
fn the_plan_covers_the_route_table() {
    let table = router::table();
    let routes: BTreeSet<(String, &str)> = table
        .iter()
        .map(|row| (row.method.to_string(), row.path))
        .collect();
    let planned: BTreeSet<(String, &str)> = PLAN
        .iter()
        .map(|row| (row.method.to_owned(), row.path))
        .collect();
    assert_eq!(
        planned, routes,
        "every route needs a row in the plan of this walk, and no other"
    );
    assert_eq!(PLAN.len(), table.len());
}

#[test]
fn no_caller_can_tell_a_foreign_resource_from_an_absent_one() {
    let stage = Stage::new();
    let server = &stage.server;
    let guest = server
        .northwind()
        .with_session_token(&stage.northwinds.session);
    // For a session token, other sessions of the same tenant are foreign too.
    let neighbours = things_of(
        &server.northwind(),
        technician(),
        102,
        "1001",
        "northwind-it",
    );
    let callers: [(&str, ApiClient, Things, Vec<&Things>); 8] = [
        (
            "the relay",
            server.relay(),
            stage.relays.clone(),
            vec![&stage.northwinds, &stage.fabrikams, &stage.other_platforms],
        ),
        (
            "another tenant's platform account",
            server.with_credential(OTHER_PLATFORM),
            stage.fabrikams.clone(),
            vec![&stage.northwinds, &stage.relays],
        ),
        (
            "Northwind",
            server.northwind(),
            stage.northwinds.clone(),
            vec![&stage.fabrikams],
        ),
        (
            "Fabrikam",
            server.fabrikam(),
            stage.fabrikams.clone(),
            vec![&stage.northwinds, &stage.relays, &stage.other_platforms],
        ),
        (
            "a guest",
            guest,
            stage.northwinds.clone(),
            vec![&stage.fabrikams, &stage.relays, &neighbours],
        ),
        (
            "a revoked key",
            server.with_credential(SPENT),
            stage.northwinds.clone(),
            vec![&stage.northwinds, &stage.fabrikams],
        ),
        (
            "an unknown key",
            server.with_credential("neo_sk_demo_unknown00"),
            stage.northwinds.clone(),
            vec![&stage.northwinds, &stage.fabrikams],
        ),
        (
            "nobody",
            server.anonymous(),
            stage.northwinds.clone(),
            vec![&stage.northwinds, &stage.fabrikams],
        ),
    ];
    let kept = |things: &Things| -> Vec<Value> {
        let owner = if things.client_id == "fabrikam-support" {
            server.fabrikam()
        } else {
            server.northwind()
        };
        let path = format!("/chat/sessions/{}", things.session);
        [
            path.clone(),
            format!("{path}/messages"),
            format!("{path}/turns/{}", things.turn),
            "/channels".to_owned(),
            "/end-companies".to_owned(),
            "/end-companies/unlinked-tenants".to_owned(),
        ]
        .map(|path| owner.get(&path).expect(200).data())
        .to_vec()
    };
    let all = [
        &stage.northwinds,
        &stage.fabrikams,
        &stage.relays,
        &stage.other_platforms,
        &neighbours,
    ];
    let before: Vec<_> = all.iter().map(|things| kept(things)).collect();
    let mut compared = 0;
    for (name, caller, own, foreigners) in &callers {
        let is_platform = name.contains("relay") || name.contains("platform");
        for foreign in foreigners {
            let nothing = absent();
            for row in PLAN {
                let asked = (row.ask)(foreign, own)
                    .into_iter()
                    .zip((row.ask)(&nothing, own));
                for (of_foreign, of_absent) in asked {
                    if is_platform && names_a_tenant(&of_foreign, foreign) {
                        continue;
                    }
                    if is_platform && row.path.contains("/installs") {
                        // The platform manages every tenant's installs.
                        continue;
                    }
                    let (one, other) = (caller.send(of_foreign.clone()), caller.send(of_absent));
                    assert_eq!(
                        comparable(&one),
                        comparable(&other),
                        "{name}: {} {} of {foreign:?}",
                        of_foreign.method,
                        of_foreign.target
                    );
                    compared += 1;
                }
            }
        }
    }
    assert!(compared > 500, "only {compared} pairs were compared");
    let after: Vec<_> = all.iter().map(|things| kept(things)).collect();
    assert_eq!(after, before, "nobody changed what is not theirs");
}

#[test]
fn every_caller_gets_as_far_with_its_own_resources_as_the_contract_says() {
    for row in PLAN {
        let without = match row.path {
            "/health" | "/ready" | "/openapi.json" | "/docs" | "/docs/guide"
            | "/docs/guide/{page}" | "/docs/{file}" | "/auth/config" => 200,
            "/auth/exchange" => 400,
            // A link needs a signature instead of a credential.
            "/chat/attachments/{attachment_id}" => 403,
            _ => 401,
        };
        // Each row gets its own server, so that no row's changes affect another.
        let stage = Stage::new();
        let server = &stage.server;
        let relay = server.relay();
        let at_home = relay.session(json!({ "managed_agent_key": "NEO_SUPPORT" }));
        let said = relay.append_text(&at_home, "Hello").expect(202).data();
        let mut relays = stage.relays.clone();
        relays.session = at_home;
        relays.turn = said["chat_turn_id"].as_str().unwrap().to_owned();
        relays.message = said["user_message_id"].as_str().unwrap().to_owned();
        let guest = server
            .northwind()
            .with_session_token(&stage.northwinds.session);
        let spent = server.with_credential(SPENT);
        let nobody = server.anonymous();
        for (caller, own, status) in [
            (&spent, &stage.northwinds, without),
            (&nobody, &stage.northwinds, without),
            (&guest, &stage.northwinds, row.own[2]),
            (&server.northwind(), &stage.northwinds, row.own[1]),
            (&server.fabrikam(), &stage.fabrikams, row.own[1]),
            (&relay, &relays, row.own[0]),
        ] {
            let first = (row.ask)(own, own).swap_remove(0);
            let path = first.target.clone();
            let reply = caller.send(first);
            assert_eq!(
                reply.status,
                status,
                "{} {path} by {own:?}: {}",
                row.method,
                reply.text()
            );
        }
    }
}

#[test]
fn a_dry_run_hides_where_another_msps_bot_is_installed() {
    let server = Server::demo();
    let northwind = server.northwind();
    let ask = |agent: i64| {
        let body =
            json!({ "agent_id": agent, "bot_id": SHARED_BOT, "inbound_tenant_id": WOODGROVE });
        northwind.resolve(body)
    };
    let expected = comparable(&northwind.resolve(json!({ "agent_id": 987_654 })));
    for agent in [102, 201, 987_654] {
        assert_eq!(comparable(&ask(agent)), expected);
    }
}
