//! How often a tenant may call: the window, the headers, and whose requests count.

use serde_json::json;

use crate::support::{
    Actor, CONTOSO, DEMO, MINUTE, NORTHWIND, SECOND, START, Server, from, technician,
};
use crate::wire::{Connection, Reply, Request};

/// The limit, what is left of it, and the second in which all of it is free again.
fn standing(reply: &Reply) -> [i64; 3] {
    [
        "x-ratelimit-limit",
        "x-ratelimit-remaining",
        "x-ratelimit-reset",
    ]
    .map(|name| reply.header(name).unwrap().parse().unwrap())
}

fn has_standing(reply: &Reply) -> bool {
    reply
        .headers
        .iter()
        .any(|(name, _)| name.starts_with("x-ratelimit-"))
}

/// A demo world whose Northwind may call so often a minute.
fn limited_to(figure: i64) -> Server {
    let server = Server::demo();
    server.changes("northwind-it", json!({ "rate_limit_per_minute": figure }));
    server
}

fn calls(actor: &Actor) -> Reply {
    actor.gets("/whoami")
}

#[test]
fn a_tenant_may_call_1200_times_a_minute_unless_it_is_told_otherwise() {
    let server = Server::serving(DEMO, &["--rate-limit=1200"]);
    let now = START / 1_000;
    assert_eq!(
        standing(&calls(&server.northwind()).expect(200)),
        [1_200, 1_199, now + 60]
    );
    assert_eq!(
        standing(&calls(&server.northwind()).expect(200)),
        [1_200, 1_198, now + 60]
    );
    // Fabrikam carries its own figure, and the relay's tenant has none.
    assert_eq!(
        standing(&calls(&server.fabrikam()).expect(200)),
        [600, 599, now + 60]
    );
    assert!(!has_standing(&calls(&server.relay()).expect(200)));
}

#[test]
fn the_window_slides() {
    let server = limited_to(3);
    let northwind = server.northwind();
    let now = START / 1_000;
    assert_eq!(standing(&calls(&northwind).expect(200)), [3, 2, now + 60]);
    server.passes(20 * SECOND);
    assert_eq!(standing(&calls(&northwind).expect(200)), [3, 1, now + 80]);
    server.passes(20 * SECOND);
    assert_eq!(standing(&calls(&northwind).expect(200)), [3, 0, now + 100]);
    server.passes(20 * SECOND - 1);
    calls(&northwind).refused(429, "rate_limited");
    server.passes(1);
    assert_eq!(standing(&calls(&northwind).expect(200)), [3, 0, now + 120]);
    calls(&northwind).refused(429, "rate_limited");
    server.passes(MINUTE);
    assert_eq!(standing(&calls(&northwind).expect(200)), [3, 2, now + 180]);
}

#[test]
fn who_calls_too_often_is_told_how_long_to_wait() {
    let server = limited_to(2);
    let northwind = server.northwind();
    calls(&northwind).expect(200);
    server.passes(500);
    calls(&northwind).expect(200);
    server.passes(1_000);
    let refused = calls(&northwind).refused(429, "rate_limited");
    assert_eq!(
        refused.error(),
        json!({ "code": "rate_limited", "message": "Too many requests. Wait for the seconds in the Retry-After header, then try again." })
    );
    assert_eq!(refused.header("retry-after"), Some("59"));
    assert_eq!(
        standing(&refused),
        [2, 0, (START + 500 + 60_000 + 999) / 1_000]
    );
    // Who waits for just that long gets through, however often it asked meanwhile.
    server.passes(58 * SECOND);
    assert_eq!(
        calls(&northwind)
            .refused(429, "rate_limited")
            .header("retry-after"),
        Some("1")
    );
    server.passes(SECOND);
    calls(&northwind).expect(200);
}

#[test]
fn all_credentials_of_a_tenant_share_its_limit() {
    let server = limited_to(6);
    server.changes(
        "northwind-it",
        json!({ "api_keys": [{ "name": "Second", "key": "neo_sk_demo_second00" }] }),
    );
    let (first, second) = (server.northwind(), server.holder_of("neo_sk_demo_second00"));
    let session = first.session(technician());
    let guest = second.guest_of(&session);
    // A token counts on its session's tenant, though somebody else minted it.
    let relays_guest = server
        .relay()
        .guest_of(&server.relay().session(from(CONTOSO)));
    for (actor, left) in [(&first, 3), (&second, 2), (&guest, 1), (&relays_guest, 0)] {
        assert_eq!(standing(&calls(actor).expect(200))[1], left);
    }
    for actor in [&first, &second, &guest, &relays_guest] {
        calls(actor).refused(429, "rate_limited");
    }
    for actor in [server.fabrikam(), server.relay()] {
        calls(&actor).expect(200);
    }
    server.relay().opens(from(CONTOSO)).expect(201);
}

#[test]
fn a_figure_of_0_means_no_limit() {
    let server = Server::serving(DEMO, &["--rate-limit=2"]);
    server.changes("northwind-it", json!({ "rate_limit_per_minute": 0 }));
    for _ in 0..20 {
        assert!(!has_standing(&calls(&server.northwind()).expect(200)));
    }
    server.changes("northwind-it", json!({ "rate_limit_per_minute": null }));
    calls(&server.northwind()).expect(200);
    calls(&server.northwind()).expect(200);
    calls(&server.northwind()).refused(429, "rate_limited");
    let unlimited = Server::demo();
    assert!(!has_standing(&calls(&unlimited.northwind()).expect(200)));
    assert!(has_standing(&calls(&unlimited.fabrikam()).expect(200)));
}

#[test]
fn a_new_figure_counts_at_once() {
    let server = limited_to(2);
    let northwind = server.northwind();
    calls(&northwind).expect(200);
    calls(&northwind).expect(200);
    calls(&northwind).refused(429, "rate_limited");
    server.changes("northwind-it", json!({ "rate_limit_per_minute": 3 }));
    assert_eq!(standing(&calls(&northwind).expect(200))[..2], [3, 0]);
    server.changes("northwind-it", json!({ "rate_limit_per_minute": 1 }));
    calls(&northwind).refused(429, "rate_limited");
    server.passes(MINUTE);
    assert_eq!(standing(&calls(&northwind).expect(200))[..2], [1, 0]);
}

#[test]
fn only_a_known_callers_requests_count_whatever_comes_of_them() {
    let server = limited_to(4);
    let (northwind, anyone) = (server.northwind(), server.anyone());
    for reply in [
        anyone.gets("/whoami").expect(401),
        server
            .holder_of("neo_sk_demo_12345678")
            .gets("/whoami")
            .expect(401),
        northwind.gets("/nowhere").expect(404),
        northwind.deletes("/whoami").expect(405),
        northwind.gets("/health").expect(200),
        northwind.gets("/ready").expect(200),
    ] {
        assert!(!has_standing(&reply));
    }
    let counted = [
        northwind.reads("nonsense").expect(404),
        northwind.lists("page_size=0").expect(400),
        northwind.lists("client_id=x").expect(403),
        northwind
            .sends(Request::new("POST", "/chat/sessions").bytes("x"))
            .expect(415),
    ];
    for (reply, left) in counted.iter().zip([3, 2, 1, 0]) {
        assert_eq!(standing(reply)[..2], [4, left]);
    }
    calls(&northwind).refused(429, "rate_limited");
}

#[test]
fn who_is_refused_keeps_the_connection_whatever_small_body_came_along() {
    let server = limited_to(1);
    server.northwind().gets("/whoami").expect(200);
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
