//! The rate limit of platform calls: the account's own limit first, then the acting tenant's.

use std::collections::{BTreeSet, HashMap};

use serde_json::{Value, json};
use switchboard::digest;
use switchboard::http::edge::admission::Callers;
use switchboard::http::edge::call::ActingTenant;
use switchboard::http::edge::router;
use switchboard::model::ids::KeyId;
use switchboard::model::words::Role;
use switchboard::store::keys;

use crate::rate_limit::{has_standing, standing};
use crate::sign_in::signed_in;
use crate::support::{
    ApiClient, CONTOSO, DEMO, FOURTH_COFFEE, MINUTE, SHARED_BOT, START, Server, TAILSPIN,
    WOODGROVE, from,
};
use crate::wire::{Reply, Request};

/// The demo world with these limits for the platform account and for Northwind.
fn limited(platform: i64, northwind: i64) -> Server {
    let server = Server::with_world(DEMO, &[&format!("--platform-rate-limit={platform}")]);
    let figure = json!({ "rate_limit_per_minute": northwind });
    server.import_tenant("northwind-it", figure);
    server
}

fn sessions(server: &Server) -> i64 {
    server.stored("SELECT count(*) FROM sessions")
}

#[test]
fn a_flood_in_one_tenant_limits_the_relay_in_no_other_tenant() {
    let server = limited(60_000, 3);
    let relay = server.relay();
    for left in [2, 1, 0] {
        let created = relay.create_session(from(CONTOSO)).expect(201);
        assert_eq!(standing(&created), [3, left, START / 1_000 + 60]);
    }
    for _ in 0..20 {
        let refused = relay
            .create_session(from(CONTOSO))
            .refused(429, "rate_limited");
        assert_eq!(refused.header("retry-after"), Some("60"));
        assert_eq!(standing(&refused), [3, 0, START / 1_000 + 60]);
    }
    assert_eq!(sessions(&server), 3);
    relay.create_session(from(WOODGROVE)).expect(201);
    relay.get("/whoami").expect(200);
    // The tenant's own keys share its limit.
    server
        .northwind()
        .get("/whoami")
        .refused(429, "rate_limited");
    server.advance_clock(MINUTE);
    relay.create_session(from(CONTOSO)).expect(201);
}

#[test]
fn a_tenants_own_calls_use_up_what_the_relay_may_do_there() {
    let server = limited(60_000, 2);
    server.northwind().get("/whoami").expect(200);
    server.northwind().get("/whoami").expect(200);
    let relay = server.relay();
    relay
        .create_session(from(CONTOSO))
        .refused(429, "rate_limited");
    relay.create_session(from(WOODGROVE)).expect(201);
}

#[test]
fn a_chat_that_is_refused_counts_on_the_tenant_that_it_acts_in() {
    let server = limited(60_000, 4);
    let (relay, northwind) = (server.relay(), server.northwind());
    for directory in [TAILSPIN, FOURTH_COFFEE, TAILSPIN] {
        relay
            .create_session(from(directory))
            .refused(409, "end_company_not_mapped");
    }
    let channel = server.client_help_bot();
    for _ in 0..5 {
        relay
            .create_session(from(TAILSPIN))
            .refused(429, "rate_limited");
        relay.resolve(from(CONTOSO)).refused(429, "rate_limited");
    }
    let attempts: i64 = server.stored("SELECT CAST(sum(attempts) AS bigint) FROM unlinked_tenants");
    assert_eq!(attempts, 3, "a refused call is recorded nowhere");
    server.advance_clock(MINUTE);
    northwind
        .patch(
            &format!("/channels/{channel}"),
            json!({ "status": "DISCONNECTED" }),
        )
        .expect(200);
    for _ in 0..3 {
        relay
            .create_session(from(CONTOSO))
            .refused(409, "channel_disconnected");
    }
    relay
        .create_session(from(CONTOSO))
        .refused(429, "rate_limited");
    relay.create_session(from(WOODGROVE)).expect(201);
}

#[test]
fn a_call_that_names_no_tenant_counts_on_the_account_alone() {
    let server = limited(4, 1_000);
    server.import_tenant("relay-platform", json!({ "rate_limit_per_minute": 1 }));
    let relay = server.relay();
    let unknown = json!({ "managed_agent_key": "NEO_SUPPORT", "client_id": "nobody" });
    let malformed = json!({ "managed_agent_key": "NEO_SUPPORT", "client_id": "No Body" });
    assert_eq!(standing(&relay.create_session(unknown).expect(404))[1], 3);
    assert_eq!(standing(&relay.create_session(malformed).expect(400))[1], 2);
    assert_eq!(
        standing(&relay.read_session("nonsense").expect(404))[..2],
        [4, 1]
    );
    // The platform's own tenant is as free as before.
    assert_eq!(standing(&relay.get("/whoami").expect(200))[..2], [4, 0]);
    relay.get("/whoami").refused(429, "rate_limited");
}

#[test]
fn the_accounts_own_limit_is_looked_at_first_and_shared_by_its_keys() {
    let server = limited(3, 1);
    let relay = server.relay();
    let admin = signed_in(&server, "relay-platform", Role::Admin);
    let key = admin.get("/api-keys").expect(200).ids().swap_remove(0);
    let key = KeyId::parse(&key).unwrap();
    let sha256 = digest::sha256("neo_sk_demo_rotated0");
    server
        .app
        .store
        .write_now(move |tx| keys::rotate(tx, key, sha256, "ted0".to_owned()))
        .unwrap();
    let successor = server.with_credential("neo_sk_demo_rotated0");
    server.import_tenant(
        "relay-platform",
        json!({ "api_keys": [{ "name": "Other", "key": "neo_sk_demo_other000", "platform": true }] }),
    );
    let other = server.with_credential("neo_sk_demo_other000");
    let now = START / 1_000;

    relay.create_session(from(CONTOSO)).expect(201);
    assert_eq!(
        standing(&successor.get("/whoami").expect(200)),
        [3, 1, now + 60]
    );
    server.advance_clock(10_000);
    relay.get("/whoami").expect(200);
    // Both limits are reached: the account's answers, before the body is looked at.
    for client in [&relay, &successor] {
        let refused = client
            .create_session(json!({ "agent_id": "x" }))
            .refused(429, "rate_limited");
        assert_eq!(standing(&refused), [3, 0, now + 70]);
        assert_eq!(refused.header("retry-after"), Some("50"));
    }
    // Another platform account has a limit of its own; the tenant's is the same.
    assert_eq!(standing(&other.get("/whoami").expect(200))[..2], [3, 2]);
    let refused = other
        .create_session(from(CONTOSO))
        .refused(429, "rate_limited");
    assert_eq!(standing(&refused), [1, 0, now + 60]);
    server.advance_clock(50_000);
    relay.get("/whoami").expect(200);
}

#[test]
fn a_call_that_a_tenants_limit_refuses_does_not_count_on_the_account() {
    let server = limited(5, 2);
    let relay = server.relay();
    for _ in 0..2 {
        relay.create_session(from(CONTOSO)).expect(201);
    }
    for _ in 0..50 {
        relay
            .create_session(from(CONTOSO))
            .refused(429, "rate_limited");
    }
    let created = relay.create_session(from(WOODGROVE)).expect(201);
    assert_eq!(standing(&created)[..2], [5, 2]);
}

#[test]
fn the_headers_show_the_limit_that_is_nearer() {
    let server = limited(10, 6);
    let relay = server.relay();
    let create = |directory| standing(&relay.create_session(from(directory)).expect(201));
    assert_eq!(create(CONTOSO)[..2], [6, 5]);
    for left in [8, 7, 6] {
        assert_eq!(create(WOODGROVE)[..2], [10, left]);
    }
    assert_eq!(create(CONTOSO)[..2], [6, 4]);
    assert_eq!(create(WOODGROVE)[..2], [10, 4]);
    assert_eq!(
        standing(&server.northwind().get("/whoami").expect(200))[..2],
        [6, 3]
    );
    assert_eq!(create(CONTOSO)[..2], [6, 2]);
    assert_eq!(create(WOODGROVE)[..2], [10, 2]);
    // One and one are left: the account's limit is shown.
    assert_eq!(create(CONTOSO)[..2], [10, 1]);
}

#[test]
fn without_a_limit_for_tenants_the_account_has_one_only_if_it_is_given() {
    for (flags, limit) in [
        (["--rate-limit=1200"].as_slice(), Some(60_000)),
        (&["--rate-limit=0"], None),
        (&["--rate-limit=0", "--platform-rate-limit=5"], Some(5)),
        (&["--rate-limit=1200", "--platform-rate-limit=0"], None),
    ] {
        let server = Server::with_world(DEMO, flags);
        let reply = server.relay().get("/whoami").expect(200);
        let shown = has_standing(&reply).then(|| standing(&reply)[0]);
        assert_eq!(shown, limit, "{flags:?}");
    }
}

#[test]
fn a_replay_counts_on_the_tenant_of_its_session() {
    let server = limited(60_000, 2);
    let create = || server.relay().create_session_once("once", from(CONTOSO));
    let first = create().expect(201);
    let again = create().expect(201);
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(standing(&again)[..2], [2, 0]);
    assert_eq!(
        create().refused(429, "rate_limited").header("retry-after"),
        Some("60")
    );
    server.advance_clock(MINUTE);
    assert_eq!(create().expect(201).id(), first.id());
    assert_eq!(sessions(&server), 1);
}

#[test]
fn a_call_in_the_platforms_own_tenant_counts_there() {
    let server = limited(60_000, 1_000);
    server.import_tenant("relay-platform", json!({ "rate_limit_per_minute": 2 }));
    let relay = server.relay();
    assert_eq!(standing(&relay.get("/agents").expect(200))[..2], [2, 1]);
    let own = json!({ "managed_agent_key": "NEO_SUPPORT" });
    assert_eq!(
        standing(&relay.create_session(own).expect(201))[..2],
        [2, 0]
    );
    relay.get("/whoami").refused(429, "rate_limited");
    relay.list_sessions("").refused(429, "rate_limited");
    relay.create_session(from(CONTOSO)).expect(201);
}

#[test]
fn the_platform_can_raise_the_limit_of_a_tenant_that_has_reached_it() {
    let server = limited(60_000, 1);
    let relay = server.relay();
    relay.create_session(from(CONTOSO)).expect(201);
    relay
        .create_session(from(CONTOSO))
        .refused(429, "rate_limited");
    relay
        .patch(
            "/tenants/northwind-it",
            json!({ "rate_limit_per_minute": 2 }),
        )
        .expect(200);
    relay.get("/tenants/northwind-it").expect(200);
    let created = relay.create_session(from(CONTOSO)).expect(201);
    assert_eq!(standing(&created)[..2], [2, 0]);
}

/// What the calls of [`calls`] name.
struct Named {
    session: String,
    /// A session of the platform's own tenant.
    own_session: String,
    token: String,
    channel: String,
}

/// A call of the relay: method, path of the route, target, body.
type Call = (&'static str, &'static str, String, Option<Value>);

/// One call of each route whose handler finds the acting tenant.
fn calls(named: &Named) -> Vec<Call> {
    let id = |prefix: &str| format!("{prefix}_019ab697-e807-7abc-8def-0123456789ab");
    let below = |rest: &str| format!("/chat/sessions/{}{rest}", named.session);
    let installs = format!("/channels/{}/installs", named.channel);
    let event = json!({ "bot_id": SHARED_BOT, "end_client_tenant_id": CONTOSO });
    let install = json!({ "end_client_tenant_id": CONTOSO });
    let upload = json!({ "content_type": "image/png", "filename": "a.png" });
    let mint = json!({ "session_id": named.session });
    let relay = Some(from(CONTOSO));
    #[rustfmt::skip]
    let calls = vec![
        ("POST", "/chat/sessions", "/chat/sessions".to_owned(), relay.clone()),
        ("POST", "/chat/sessions/resolve", "/chat/sessions/resolve".to_owned(), relay),
        ("GET", "/chat/sessions", "/chat/sessions?client_id=northwind-it".to_owned(), None),
        ("GET", "/chat/sessions/{session_id}", below(""), None),
        ("PATCH", "/chat/sessions/{session_id}", below(""), Some(json!({ "title": "A" }))),
        ("GET", "/chat/sessions/{session_id}/events", below("/events?resume=true"), None),
        ("GET", "/chat/sessions/{session_id}/messages", below("/messages"), None),
        ("GET", "/chat/sessions/{session_id}/turns/{chat_turn_id}", below(&format!("/turns/{}", id("trn"))), None),
        ("PATCH", "/chat/sessions/{session_id}/messages/{message_id}",
         below(&format!("/messages/{}", id("msg"))), Some(json!({ "message": "Hi" }))),
        ("POST", "/chat/sessions/{session_id}/messages/{message_id}/regenerate",
         below(&format!("/messages/{}/regenerate", id("msg"))), None),
        ("PUT", "/chat/sessions/{session_id}/messages/{message_id}/feedback",
         below(&format!("/messages/{}/feedback", id("msg"))), Some(json!({ "rating": "UP" }))),
        ("POST", "/chat/sessions/{session_id}/attachments/upload-url", below("/attachments/upload-url"), Some(upload)),
        ("POST", "/chat/sessions/{session_id}/messages", below("/messages"), Some(json!({ "message": "Hi" }))),
        ("POST", "/chat/sessions/{session_id}/cancel", below("/cancel"), Some(json!({}))),
        ("POST", "/sessions", "/sessions".to_owned(), Some(mint)),
        ("DELETE", "/sessions/{jti}", format!("/sessions/{}", named.token), None),
        ("POST", "/chat/sessions/{session_id}/reset", below("/reset"), Some(json!({}))),
        // In another tenant, this call is forbidden.
        ("DELETE", "/chat/sessions/{session_id}", format!("/chat/sessions/{}", named.own_session), None),
        ("POST", "/channels/install-events", "/channels/install-events".to_owned(), Some(event)),
        ("GET", "/channels", "/channels?client_id=northwind-it".to_owned(), None),
        ("GET", "/channels/{channel_id}", format!("/channels/{}?client_id=northwind-it", named.channel), None),
        // The server has no address, so there is no package.
        ("GET", "/channels/{channel_id}/app-package", format!("/channels/{}/app-package?client_id=northwind-it", named.channel), None),
        ("GET", "/channels/{channel_id}/icons/{kind}", format!("/channels/{}/icons/color?client_id=northwind-it", named.channel), None),
        ("GET", "/end-companies/unlinked-tenants", "/end-companies/unlinked-tenants?client_id=northwind-it".to_owned(), None),
        // The platform sets no bot of another tenant.
        ("PATCH", "/channels/{channel_id}", format!("/channels/{}?client_id=northwind-it", named.channel), Some(json!({ "bot_id": "b" }))),
        ("GET", "/channels/{channel_id}/installs", installs.clone(), None),
        ("POST", "/channels/{channel_id}/installs", installs.clone(), Some(install)),
        ("DELETE", "/channels/{channel_id}/installs/{install_id}", format!("{installs}/{}", id("ins")), None),
    ];
    calls
}

#[test]
fn every_call_that_acts_in_a_tenant_counts_there_once() {
    const NORTHWIND: i64 = 1_000;
    const OWN: i64 = 900;
    let server = limited(60_000, NORTHWIND);
    server.import_tenant("relay-platform", json!({ "rate_limit_per_minute": OWN }));
    let relay = server.relay();
    let session = relay.session(from(CONTOSO));
    let minted = relay
        .mint_token(json!({ "session_id": session }))
        .expect(201);
    let named = Named {
        own_session: relay.session(json!({ "managed_agent_key": "NEO_SUPPORT" })),
        token: minted.data()["jti"].as_str().unwrap().to_owned(),
        channel: server.client_help_bot(),
        session,
    };
    // One call of a tenant each shows what the preparation used.
    let mut left: HashMap<i64, i64> = [
        relay.list_sessions("client_id=northwind-it"),
        relay.get("/whoami"),
    ]
    .iter()
    .map(|reply| (standing(reply)[0], standing(reply)[1]))
    .collect();
    assert_eq!(left.len(), 2);

    let calls = calls(&named);
    for (method, path, target, body) in &calls {
        let reply = send(&relay, method, target, body.as_ref());
        let [limit, remaining, _] = standing(&reply);
        let tenant = if *target == format!("/chat/sessions/{}", named.own_session) {
            OWN
        } else {
            NORTHWIND
        };
        assert_eq!(limit, tenant, "{method} {path}: {}", reply.text());
        let before = left.insert(limit, remaining).unwrap();
        assert_eq!(remaining, before - 1, "{method} {path}: {}", reply.text());
    }
    let called: BTreeSet<_> = calls
        .iter()
        .map(|(method, path, ..)| format!("{method} {path}"))
        .collect();
    let table: BTreeSet<_> = router::table()
        .iter()
        .filter(|row| row.tenant == ActingTenant::Found && row.callers != Callers::Public)
        .map(|row| format!("{} {}", row.method, row.path))
        .collect();
    assert_eq!(called, table);
}

fn send(client: &ApiClient, method: &str, target: &str, body: Option<&Value>) -> Reply {
    let request = Request::new(method, format!("/public-api{target}"));
    client.send(match body {
        Some(body) => request.json(body),
        None => request,
    })
}
