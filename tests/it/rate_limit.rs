//! The rate limit of a tenant: the window, the headers, and which requests count.

use serde_json::json;
use switchboard::model::words::Role;

use crate::sign_in::signed_in;
use crate::support::{
    ApiClient, CONTOSO, DEMO, MINUTE, NORTHWIND, SECOND, START, Server, from, technician,
};
use crate::wire::{Connection, Reply, Request};

/// The limit, the remaining requests, and the second in which the whole limit is free again.
pub fn standing(reply: &Reply) -> [i64; 3] {
    [
        "x-ratelimit-limit",
        "x-ratelimit-remaining",
        "x-ratelimit-reset",
    ]
    .map(|name| reply.header(name).unwrap().parse().unwrap())
}

pub fn has_standing(reply: &Reply) -> bool {
    reply
        .headers
        .iter()
        .any(|(name, _)| name.starts_with("x-ratelimit-"))
}

/// The demo world with this limit per minute for Northwind.
fn limited_to(figure: i64) -> Server {
    let server = Server::demo();
    server.import_tenant("northwind-it", json!({ "rate_limit_per_minute": figure }));
    server
}

fn call(client: &ApiClient) -> Reply {
    client.get("/whoami")
}

#[test]
fn a_tenant_may_call_1200_times_a_minute_by_default() {
    let server = Server::with_world(DEMO, &["--rate-limit=1200"]);
    let now = START / 1_000;
    assert_eq!(
        standing(&call(&server.northwind()).expect(200)),
        [1_200, 1_199, now + 60]
    );
    assert_eq!(
        standing(&call(&server.northwind()).expect(200)),
        [1_200, 1_198, now + 60]
    );
    // Fabrikam has its own limit, and the relay's tenant has none, but its account does.
    assert_eq!(
        standing(&call(&server.fabrikam()).expect(200)),
        [600, 599, now + 60]
    );
    assert_eq!(
        standing(&call(&server.relay()).expect(200)),
        [60_000, 59_999, now + 60]
    );
}

#[test]
fn the_window_slides() {
    let server = limited_to(3);
    let northwind = server.northwind();
    let now = START / 1_000;
    assert_eq!(standing(&call(&northwind).expect(200)), [3, 2, now + 60]);
    server.advance_clock(20 * SECOND);
    assert_eq!(standing(&call(&northwind).expect(200)), [3, 1, now + 80]);
    server.advance_clock(20 * SECOND);
    assert_eq!(standing(&call(&northwind).expect(200)), [3, 0, now + 100]);
    server.advance_clock(20 * SECOND - 1);
    call(&northwind).refused(429, "rate_limited");
    server.advance_clock(1);
    assert_eq!(standing(&call(&northwind).expect(200)), [3, 0, now + 120]);
    call(&northwind).refused(429, "rate_limited");
    server.advance_clock(MINUTE);
    assert_eq!(standing(&call(&northwind).expect(200)), [3, 2, now + 180]);
}

#[test]
fn a_caller_over_its_limit_gets_the_time_to_wait() {
    let server = limited_to(2);
    let northwind = server.northwind();
    call(&northwind).expect(200);
    server.advance_clock(500);
    call(&northwind).expect(200);
    server.advance_clock(1_000);
    let refused = call(&northwind).refused(429, "rate_limited");
    assert_eq!(
        refused.error(),
        json!({ "code": "rate_limited", "message": "Too many requests. Wait for the seconds in the Retry-After header, then try again." })
    );
    assert_eq!(refused.header("retry-after"), Some("59"));
    assert_eq!(
        standing(&refused),
        [2, 0, (START + 500 + 60_000 + 999) / 1_000]
    );
    // A caller that waits exactly this long is served, however many refused calls it made
    // meanwhile.
    server.advance_clock(58 * SECOND);
    assert_eq!(
        call(&northwind)
            .refused(429, "rate_limited")
            .header("retry-after"),
        Some("1")
    );
    server.advance_clock(SECOND);
    call(&northwind).expect(200);
}

#[test]
fn all_credentials_of_a_tenant_share_its_limit() {
    let server = limited_to(8);
    server.import_tenant(
        "northwind-it",
        json!({ "api_keys": [{ "name": "Second", "key": "neo_sk_demo_second00" }] }),
    );
    let (first, second) = (
        server.northwind(),
        server.with_credential("neo_sk_demo_second00"),
    );
    let session = first.session(technician());
    let guest = second.with_session_token(&session);
    // A token counts for its session's tenant, although another tenant minted it.
    let relays_guest = server
        .relay()
        .with_session_token(&server.relay().session(from(CONTOSO)));
    for (client, left) in [(&first, 3), (&second, 2), (&guest, 1), (&relays_guest, 0)] {
        assert_eq!(standing(&call(client).expect(200))[1], left);
    }
    for client in [&first, &second, &guest, &relays_guest] {
        call(client).refused(429, "rate_limited");
    }
    for client in [server.fabrikam(), server.relay()] {
        call(&client).expect(200);
    }
    // The relay's calls for Northwind counted there too.
    server
        .relay()
        .create_session(from(CONTOSO))
        .refused(429, "rate_limited");
}

#[test]
fn a_limit_of_0_means_no_limit() {
    let server = Server::with_world(DEMO, &["--rate-limit=2"]);
    server.import_tenant("northwind-it", json!({ "rate_limit_per_minute": 0 }));
    for _ in 0..20 {
        assert!(!has_standing(&call(&server.northwind()).expect(200)));
    }
    server.import_tenant("northwind-it", json!({ "rate_limit_per_minute": null }));
    call(&server.northwind()).expect(200);
    call(&server.northwind()).expect(200);
    call(&server.northwind()).refused(429, "rate_limited");
    let unlimited = Server::demo();
    assert!(!has_standing(&call(&unlimited.northwind()).expect(200)));
    assert!(has_standing(&call(&unlimited.fabrikam()).expect(200)));
}

#[test]
fn a_new_limit_applies_at_once() {
    let server = limited_to(2);
    let northwind = server.northwind();
    call(&northwind).expect(200);
    call(&northwind).expect(200);
    call(&northwind).refused(429, "rate_limited");
    server.import_tenant("northwind-it", json!({ "rate_limit_per_minute": 3 }));
    assert_eq!(standing(&call(&northwind).expect(200))[..2], [3, 0]);
    server.import_tenant("northwind-it", json!({ "rate_limit_per_minute": 1 }));
    call(&northwind).refused(429, "rate_limited");
    server.advance_clock(MINUTE);
    assert_eq!(standing(&call(&northwind).expect(200))[..2], [1, 0]);
}

#[test]
fn only_authenticated_requests_count_with_any_outcome() {
    let server = limited_to(4);
    let (northwind, anonymous) = (server.northwind(), server.anonymous());
    for reply in [
        anonymous.get("/whoami").expect(401),
        server
            .with_credential("neo_sk_demo_12345678")
            .get("/whoami")
            .expect(401),
        northwind.get("/nowhere").expect(404),
        northwind.delete("/whoami").expect(405),
        northwind.get("/health").expect(200),
        northwind.get("/ready").expect(200),
    ] {
        assert!(!has_standing(&reply));
    }
    let counted = [
        northwind.read_session("nonsense").expect(404),
        northwind.list_sessions("page_size=0").expect(400),
        northwind.list_sessions("client_id=x").expect(403),
        northwind
            .send(Request::new("POST", "/chat/sessions").bytes("x"))
            .expect(415),
    ];
    for (reply, left) in counted.iter().zip([3, 2, 1, 0]) {
        assert_eq!(standing(reply)[..2], [4, left]);
    }
    call(&northwind).refused(429, "rate_limited");
}

#[test]
fn a_refused_caller_keeps_the_connection_for_any_small_body() {
    let server = limited_to(1);
    server.northwind().get("/whoami").expect(200);
    let create = |credential: &str| {
        Request::new("POST", "/public-api/chat/sessions")
            .header("authorization", format!("Bearer {credential}"))
            .json(&json!({ "agent_id": 102 }))
    };
    let mut connection = Connection::open(server.address);
    for _ in 0..3 {
        for (credential, status, code) in [
            (NORTHWIND, 429, "rate_limited"),
            ("nobody", 401, "unauthorized"),
        ] {
            let (reply, kept) = connection.exchange(&create(credential)).unwrap();
            reply.unwrap().refused(status, code);
            connection = kept.expect("the connection was closed");
        }
    }
}

/// The standing after this many calls of a client, which must all succeed.
#[track_caller]
fn after(client: &ApiClient, calls: usize) -> [i64; 2] {
    let mut last = [0; 2];
    for _ in 0..calls {
        let [limit, remaining, _] = standing(&call(client).expect(200));
        last = [limit, remaining];
    }
    last
}

/// The limit that refuses a client.
#[track_caller]
fn refusing(client: &ApiClient) -> i64 {
    let refused = call(client).refused(429, "rate_limited");
    let [limit, remaining, _] = standing(&refused);
    assert_eq!(remaining, 0);
    limit
}

#[test]
fn an_end_user_token_has_a_tenth_of_its_tenants_limit() {
    let server = limited_to(200);
    let northwind = server.northwind();
    let session = northwind.session(technician());
    let first = northwind.with_session_token(&session);
    let second = northwind.with_session_token(&session);
    assert_eq!(after(&first, 1), [20, 19]);
    assert_eq!(after(&first, 19), [20, 0]);
    for _ in 0..50 {
        assert_eq!(refusing(&first), 20);
    }
    assert_eq!(after(&second, 1), [20, 19]);
    // The token's calls count on the tenant, without those that were refused.
    assert_eq!(after(&northwind, 1), [200, 200 - 3 - 21 - 1]);
    server.advance_clock(MINUTE);
    assert_eq!(after(&first, 1), [20, 19]);
}

#[test]
fn all_end_user_tokens_of_a_tenant_have_half_of_its_limit() {
    let server = limited_to(51);
    let northwind = server.northwind();
    let session = northwind.session(technician());
    let tokens = [(); 3].map(|()| northwind.with_session_token(&session));
    server.advance_clock(MINUTE);
    // A token has at least ten requests. Half of the limit is 26, rounded up.
    assert_eq!(after(&tokens[0], 10), [10, 0]);
    assert_eq!(after(&tokens[1], 10), [10, 0]);
    assert_eq!(after(&tokens[2], 6), [26, 0]);
    assert_eq!(refusing(&tokens[2]), 26);
    assert_eq!(after(&northwind, 25), [51, 0]);
    assert_eq!(refusing(&northwind), 51);
}

#[test]
fn a_small_limit_leaves_end_users_a_request() {
    let server = limited_to(2);
    let session = server.northwind().session(technician());
    let token = server.northwind().with_session_token(&session);
    server.advance_clock(MINUTE);
    assert_eq!(after(&token, 1), [1, 0]);
    assert_eq!(refusing(&token), 1);
    assert_eq!(after(&server.northwind(), 1), [2, 0]);
}

#[test]
fn the_end_users_of_a_tenant_without_a_limit_have_none() {
    let server = limited_to(0);
    let session = server.northwind().session(technician());
    let token = server.northwind().with_session_token(&session);
    for _ in 0..50 {
        assert!(!has_standing(&call(&token).expect(200)));
    }
}

#[test]
fn what_ends_access_goes_on_when_the_limit_is_reached() {
    let server = Server::demo();
    let northwind = server.northwind();
    let admin = signed_in(&server, "northwind-it", Role::Admin);
    let session = northwind.session(technician());
    let minted = northwind
        .mint_token(json!({ "session_id": session }))
        .expect(201)
        .data();
    let token = server.with_credential(minted["token"].as_str().unwrap());
    let key = json!({ "name": "Leaked" });
    let key = admin.post("/api-keys", key).expect(201).id();
    server.import_tenant("northwind-it", json!({ "rate_limit_per_minute": 5 }));

    assert_eq!(after(&northwind, 5), [5, 0]);
    assert_eq!(refusing(&admin), 5);
    let left = |reply: &Reply| standing(reply)[..2].to_vec();
    let jti = minted["jti"].as_str().unwrap();
    let revoked = northwind.delete(&format!("/sessions/{jti}")).expect(204);
    assert_eq!(left(&revoked), [5, 4]);
    call(&token).refused(401, "unauthorized");
    assert_eq!(left(&northwind.reset_session(&session).expect(200)), [5, 3]);
    assert_eq!(
        left(&northwind.delete_session(&session).expect(204)),
        [5, 2]
    );
    // Each account has an allowance of its own.
    let revoked = admin.delete(&format!("/api-keys/{key}")).expect(204);
    assert_eq!(left(&revoked), [5, 4]);
    let signed_out = admin.post("/auth/sign-out", json!({})).expect(204);
    assert_eq!(left(&signed_out), [5, 3]);
    // The allowance has an end too, and serves nothing else.
    for remaining in [1, 0] {
        let deleted = northwind.delete_session(&session).expect(404);
        assert_eq!(left(&deleted), [5, remaining]);
    }
    northwind
        .delete_session(&session)
        .refused(429, "rate_limited");
    assert_eq!(refusing(&northwind), 5);
    server.advance_clock(MINUTE);
    assert_eq!(
        left(&northwind.delete_session(&session).expect(404)),
        [5, 4]
    );
}

#[test]
fn an_end_user_who_uses_up_the_limit_can_be_revoked() {
    let server = limited_to(1_200);
    let northwind = server.northwind();
    let session = northwind.session(technician());
    let minted = northwind
        .mint_token(json!({ "session_id": session }))
        .expect(201)
        .data();
    let token = server.with_credential(minted["token"].as_str().unwrap());
    assert_eq!(after(&token, 120), [120, 0]);
    for _ in 0..1_080 {
        assert_eq!(refusing(&token), 120);
    }
    assert_eq!(after(&northwind, 1), [1_200, 1_200 - 2 - 120 - 1]);
    let jti = minted["jti"].as_str().unwrap();
    northwind.delete(&format!("/sessions/{jti}")).expect(204);
    call(&token).refused(401, "unauthorized");
}

#[test]
fn a_forbidden_call_uses_up_nothing_of_the_allowance() {
    let server = Server::demo();
    let northwind = server.northwind();
    let user = signed_in(&server, "northwind-it", Role::User);
    let session = northwind.session(technician());
    northwind
        .update_session(&session, json!({ "shared": true }))
        .expect(200);
    server.import_tenant("northwind-it", json!({ "rate_limit_per_minute": 2 }));
    after(&northwind, 2);
    for _ in 0..5 {
        // By role: the rate limit answers first, as without an allowance.
        user.delete("/agents/102").refused(429, "rate_limited");
        user.delete_session(&session).refused(429, "rate_limited");
        // By the session's owner.
        user.reset_session(&session).refused(403, "forbidden");
    }
    let reset = northwind.reset_session(&session).expect(200);
    assert_eq!(standing(&reset)[..2], [2, 1]);
}

#[test]
fn nobody_uses_up_an_administrators_allowance() {
    let server = limited_to(3);
    let admin = signed_in(&server, "northwind-it", Role::Admin);
    let leaked = admin
        .post("/api-keys", json!({ "name": "Leaked" }))
        .expect(201)
        .data();
    let thief = server.with_credential(leaked["key"].as_str().unwrap());
    let user = signed_in(&server, "northwind-it", Role::User);
    after(&server.northwind(), 2);
    for flooding in [&thief, &user] {
        for left in [2, 1, 0] {
            let reset = flooding.reset_session("nonsense").expect(404);
            assert_eq!(standing(&reset)[..2], [3, left]);
        }
        flooding
            .reset_session("nonsense")
            .refused(429, "rate_limited");
    }
    let key = leaked["id"].as_str().unwrap();
    let revoked = admin.delete(&format!("/api-keys/{key}")).expect(204);
    assert_eq!(standing(&revoked)[..2], [3, 2]);
    thief
        .delete_session("nonsense")
        .refused(401, "unauthorized");
}

#[test]
fn the_keys_of_a_rotation_share_an_allowance() {
    let server = limited_to(6);
    let admin = signed_in(&server, "northwind-it", Role::Admin);
    let first = admin
        .post("/api-keys", json!({ "name": "Desk" }))
        .expect(201)
        .data();
    let path = format!("/api-keys/{}/rotate", first["id"].as_str().unwrap());
    let second = admin
        .post(&path, json!({ "grace_seconds": 3_600 }))
        .expect(201)
        .data();
    let [first, second] =
        [first, second].map(|key| server.with_credential(key["key"].as_str().unwrap()));
    after(&first, 4);
    for (client, left) in [(&first, 5), (&second, 4), (&first, 3)] {
        let deleted = client.delete_session("nonsense").expect(404);
        assert_eq!(standing(&deleted)[..2], [6, left]);
    }
}

#[test]
fn what_the_relay_resets_uses_up_nothing_of_the_tenants_allowance() {
    let server = limited_to(2);
    let relay = server.relay();
    let sessions = [(); 2].map(|()| relay.session(from(CONTOSO)));
    for left in [1, 0] {
        let reset = relay.reset_session(&sessions[0]).expect(200);
        assert_eq!(standing(&reset)[..2], [2, left]);
    }
    relay
        .reset_session(&sessions[1])
        .refused(429, "rate_limited");
    for left in [1, 0] {
        let reset = server.northwind().reset_session(&sessions[1]).expect(200);
        assert_eq!(standing(&reset)[..2], [2, left]);
    }
}

#[test]
fn with_limit_and_allowance_used_up_the_shorter_wait_is_told() {
    let server = limited_to(1);
    let northwind = server.northwind();
    after(&northwind, 1);
    server.advance_clock(10 * SECOND);
    northwind.delete_session("nonsense").expect(404);
    server.advance_clock(10 * SECOND);
    let refused = northwind
        .delete_session("nonsense")
        .refused(429, "rate_limited");
    assert_eq!(refused.header("retry-after"), Some("40"));
    server.advance_clock(40 * SECOND);
    northwind.delete_session("nonsense").expect(404);
    let refused = northwind
        .delete_session("nonsense")
        .refused(429, "rate_limited");
    assert_eq!(refused.header("retry-after"), Some("10"));
}
