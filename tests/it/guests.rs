//! Who is let in with a valid Entra ID token: guests, members at first sight, and users whom an
//! administrator adds.

use serde_json::{Value, json};

use crate::authority::{
    AUDIENCE, Authority, FABRIKAM_DIRECTORY, NEWCOMER, NORTHWIND_DIRECTORY, current,
};
use crate::rate_limit::standing;
use crate::support::{ApiClient, DEMO, MINUTE, NORTHWIND, Server};
use crate::wire::Reply;

/// Northwind's administrator in the demo world.
const ADMIN: &str = "3d8c1f52-7a94-4e0b-b6d1-52f09c7e4a18";
const GUEST: &str = "You are a guest of this organization's directory. Ask its administrator to add you as a user here, or to give you an app role.";
const NOT_REGISTERED: &str =
    "You are not a user here yet. Ask your administrator to add you, or to give you an app role.";

/// Spellings of the newcomer's object id other than Microsoft's own.
fn spellings() -> [String; 5] {
    let plain = NEWCOMER.replace('-', "");
    [
        NEWCOMER.to_uppercase(),
        format!("{{{NEWCOMER}}}"),
        format!(" ({})\t", NEWCOMER.to_uppercase()),
        format!("urn:uuid:{NEWCOMER}"),
        plain,
    ]
}

fn start_server(authority: &Authority, flags: &[&str]) -> Server {
    let url = format!("--entra-authority={}", authority.url());
    let all = [&[url.as_str(), "--entra-audience", AUDIENCE], flags].concat();
    Server::with_world(DEMO, &all)
}

fn start_guids_only(authority: &Authority) -> Server {
    let url = format!("--entra-authority={}", authority.url());
    Server::with_guids_only_and(&[&url, "--entra-audience", AUDIENCE])
}

/// A person of Northwind's directory whose token has these claims too.
fn person(server: &Server, authority: &Authority, oid: &str, claims: &Value) -> ApiClient {
    let mut all = authority.claims(oid);
    for (name, value) in claims.as_object().unwrap() {
        all[name] = value.clone();
    }
    server.with_credential(&current().issue(&all))
}

fn is_recorded(server: &Server, oid: &str) -> bool {
    // Records of requests wait in the writer's queue. An empty write waits for all before it.
    server.wait_for_records();
    server.stored::<i64>(&format!(
        "SELECT count(*) FROM users WHERE user_id = '{oid}'"
    )) == 1
}

#[track_caller]
fn assert_barred(reply: &Reply, reason: &str, message: &str) {
    assert_eq!(
        (reply.status, reply.error()),
        (
            403,
            json!({ "code": "forbidden", "message": message, "details": { "reason": reason } })
        )
    );
}

#[test]
fn a_guest_without_a_user_and_an_app_role_is_refused_everywhere_and_not_recorded() {
    let authority = Authority::new();
    let server = start_server(&authority, &[]);
    let foreign = format!("https://sts.windows.net/{FABRIKAM_DIRECTORY}/");
    for claims in [
        json!({ "acct": 1 }),
        json!({ "acct": "1" }),
        json!({ "acct": 1.0 }),
        json!({ "acct": true }),
        json!({ "idp": foreign }),
        json!({ "idp": format!("https://login.microsoftonline.com/{FABRIKAM_DIRECTORY}/v2.0") }),
        json!({ "idp": "live.com" }),
        json!({ "idp": "mail" }),
        json!({ "idp": "google.com" }),
        json!({ "idp": ["live.com"] }),
        json!({ "acct": 0, "idp": "live.com" }),
        json!({ "upn": "mia_contoso.com#EXT#@northwind.onmicrosoft.com" }),
        json!({ "preferred_username": "mia_contoso.com#ext#@northwind.onmicrosoft.com" }),
        json!({ "unique_name": "mia_contoso.com#EXT#@northwind.onmicrosoft.com" }),
        json!({ "acct": 1, "roles": [] }),
        json!({ "acct": 1, "roles": ["Reader", "admin"] }),
    ] {
        let guest = person(&server, &authority, NEWCOMER, &claims);
        for path in [
            "/whoami",
            "/agents",
            "/knowledge-articles",
            "/chat/sessions",
        ] {
            assert_barred(&guest.get(path), "guest", GUEST);
        }
        let session = guest.create_session(json!({ "agent_id": 102 }));
        assert_barred(&session, "guest", GUEST);
        assert!(!is_recorded(&server, NEWCOMER), "{claims}");
    }
}

#[test]
fn a_member_is_no_guest_however_the_token_says_so() {
    let authority = Authority::new();
    let server = start_server(&authority, &[]);
    let upper = NORTHWIND_DIRECTORY.to_uppercase();
    for (number, claims) in [
        json!({}),
        json!({ "acct": 0 }),
        json!({ "acct": "0" }),
        json!({ "acct": null, "idp": null }),
        json!({ "acct": "", "idp": "" }),
        json!({ "idp": format!("https://sts.windows.net/{NORTHWIND_DIRECTORY}/") }),
        json!({ "idp": format!("https://sts.windows.net/{upper}/") }),
        json!({ "idp": format!("{}/{NORTHWIND_DIRECTORY}/v2.0", authority.url()) }),
    ]
    .iter()
    .enumerate()
    {
        let oid = format!("member-{number}");
        let whoami = person(&server, &authority, &oid, claims).get("/whoami");
        assert_eq!(whoami.expect(200).data()["role"], "USER", "{claims}");
        assert!(is_recorded(&server, &oid), "{claims}");
    }
}

#[test]
fn a_guest_with_an_app_role_is_let_in_for_as_long_as_the_token_has_it() {
    let authority = Authority::new();
    let server = start_server(&authority, &[]);
    let guest = |roles: Value| {
        let claims = json!({ "acct": 1, "roles": roles });
        person(&server, &authority, NEWCOMER, &claims)
    };
    for (word, role) in [("Viewer", "VIEWER"), ("User", "USER"), ("Admin", "ADMIN")] {
        let whoami = guest(json!([word])).get("/whoami").expect(200).data();
        assert_eq!(
            (&whoami["role"], &whoami["name"], &whoami["id"]),
            (&role.into(), &"Noor Castellanos".into(), &NEWCOMER.into())
        );
        server.advance_clock(MINUTE);
    }
    let session = guest(json!(["User"])).create_session(json!({ "agent_id": 102 }));
    assert_eq!(
        session.expect(201).data()["created_by"],
        json!({ "kind": "dashboard_user", "id": NEWCOMER, "name": "Noor Castellanos" })
    );
    assert!(!is_recorded(&server, NEWCOMER));
    assert_barred(&guest(json!([])).get("/whoami"), "guest", GUEST);
}

#[test]
fn an_administrator_adds_a_guest_and_removes_the_guest_again() {
    let authority = Authority::new();
    let server = start_server(&authority, &[]);
    let admin = person(&server, &authority, ADMIN, &json!({}));
    let guest = person(&server, &authority, NEWCOMER, &json!({ "acct": 1 }));
    assert_barred(&guest.get("/whoami"), "guest", GUEST);

    let body =
        json!({ "id": NEWCOMER, "name": "Mia", "email": "mia@contoso.example", "role": "VIEWER" });
    let added = admin.post("/users", body.clone()).expect(201);
    assert_eq!(
        added.header("location"),
        Some(format!("/public-api/users/{NEWCOMER}").as_str())
    );
    assert_eq!(
        added.data(),
        json!({
            "id": NEWCOMER, "name": "Mia", "email": "mia@contoso.example", "role": "VIEWER", "last_seen_at": null,
        })
    );
    admin.post("/users", body).refused(409, "already_exists");
    assert_eq!(guest.get("/whoami").expect(200).data()["role"], "VIEWER");

    let path = format!("/users/{NEWCOMER}");
    admin.patch(&path, json!({ "role": "USER" })).expect(200);
    let session = guest.session(json!({ "agent_id": 102 }));
    let token = guest.with_session_token(&session);
    token.read_session(&session).expect(200);
    admin.delete(&path).expect(204);
    admin.delete(&path).not_found();
    assert_barred(&guest.get("/whoami"), "guest", GUEST);
    assert_eq!(token.read_session(&session).status, 401);
    assert!(!is_recorded(&server, NEWCOMER));
    admin
        .delete(&format!("/users/{ADMIN}"))
        .refused(409, "last_admin");

    for (action, role) in [("user.create", "VIEWER"), ("user.delete", "USER")] {
        let events = admin.get(&format!("/audit-events?action={action}"));
        let events = events.expect(200).data();
        assert_eq!(events.as_array().unwrap().len(), 1, "{events}");
        assert_eq!(
            (&events[0]["target"], &events[0]["details"]),
            (&json!(NEWCOMER), &json!({ "role": role }))
        );
    }
}

#[test]
fn a_guest_is_added_by_an_object_id_in_any_spelling() {
    let authority = Authority::new();
    let server = start_guids_only(&authority);
    let admin = person(&server, &authority, ADMIN, &json!({}));
    let guest = person(&server, &authority, NEWCOMER, &json!({ "acct": 1 }));
    let path = format!("/users/{NEWCOMER}");
    for spelled in spellings() {
        assert_barred(&guest.get("/whoami"), "guest", GUEST);
        let added = admin.post("/users", json!({ "id": spelled })).expect(201);
        assert_eq!(added.data()["id"], NEWCOMER);
        assert_eq!(
            added.header("location"),
            Some(format!("/public-api{path}").as_str())
        );
        assert_eq!(guest.get("/whoami").expect(200).data()["id"], NEWCOMER);
        admin
            .post("/users", json!({ "id": NEWCOMER }))
            .refused(409, "already_exists");
        admin.delete(&path).expect(204);
    }
}

#[test]
fn an_object_id_that_is_no_guid_is_refused_with_the_value_and_where_to_find_the_right_one() {
    let authority = Authority::new();
    let server = start_guids_only(&authority);
    let admin = person(&server, &authority, ADMIN, &json!({}));
    let half = &NEWCOMER[..18];
    for (text, shown) in [
        ("Mia@Contoso.example", "Mia@Contoso.example"),
        ("N/A", "N/A"),
        (" ", " "),
        (half, half),
        ("neo_sk_demo_northwind00000000", "neo_sk_…"),
    ] {
        let reason = format!(
            "must be the GUID of a user, but {shown:?} is not one; \
             find it in the Microsoft Entra admin center under Users > the person > Object ID"
        );
        admin
            .post("/users", json!({ "id": text }))
            .refused_field("id", &reason);
    }
    let long = "x".repeat(128);
    let refused = admin.post("/users", json!({ "id": long }));
    let error = refused.refused(400, "validation_error").error();
    let message = error["message"].as_str().unwrap();
    assert!(message.contains(&format!("but \"{}… is not one", "x".repeat(79))));

    // Tests may give a user a name, and a GUID is still read in any spelling.
    let server = start_server(&authority, &[]);
    let admin = person(&server, &authority, ADMIN, &json!({}));
    for (text, id) in [("Mia", "Mia"), (spellings()[1].as_str(), NEWCOMER)] {
        let added = admin.post("/users", json!({ "id": text })).expect(201);
        assert_eq!(added.data()["id"], id);
    }
}

#[test]
fn a_seed_file_names_a_user_by_an_object_id_in_any_spelling() {
    let authority = Authority::new();
    for spelled in spellings() {
        let server = start_guids_only(&authority);
        let users = json!([{ "id": spelled, "role": "VIEWER" }, { "id": "Older" }]);
        server.import_tenant("northwind-it", json!({ "users": users }));
        let again = json!([{ "id": NEWCOMER, "name": "Mia" }, { "id": "Older", "name": "O" }]);
        server.import_tenant("northwind-it", json!({ "users": again }));
        let guest = person(&server, &authority, NEWCOMER, &json!({ "acct": 1 }));
        let whoami = guest.get("/whoami").expect(200).data();
        assert_eq!(
            (&whoami["role"], &whoami["name"]),
            (&"VIEWER".into(), &"Mia".into())
        );
        let admin = person(&server, &authority, ADMIN, &json!({}));
        let added = admin.get("/users?page_size=2").expect(200).data();
        assert_eq!(
            (&added[0]["id"], &added[1]["id"]),
            (&"Older".into(), &NEWCOMER.into())
        );
    }
}

#[test]
fn a_token_and_an_agent_name_a_user_by_an_object_id_in_any_spelling() {
    let authority = Authority::new();
    let server = start_server(&authority, &[]);
    let admin = person(&server, &authority, ADMIN, &json!({}));
    admin.post("/users", json!({ "id": NEWCOMER })).expect(201);
    let upper = NEWCOMER.to_uppercase();
    for oid in [upper.as_str(), &spellings()[4]] {
        let guest = person(&server, &authority, oid, &json!({ "acct": 1 }));
        assert_eq!(guest.get("/whoami").expect(200).data()["id"], NEWCOMER);
    }
    let change = json!({ "access": "SPECIFIC_USERS", "allowed_users": [upper, "Older"] });
    let agent = admin.put("/agents/102", change).expect(200).data();
    assert_eq!(agent["allowed_users"], json!([NEWCOMER, "Older"]));
    let guest = person(&server, &authority, NEWCOMER, &json!({ "acct": 1 }));
    guest.create_session(json!({ "agent_id": 102 })).expect(201);
}

#[test]
fn a_user_whom_a_seed_file_names_is_let_in_although_a_guest() {
    let authority = Authority::new();
    let server = start_server(&authority, &["--entra-first-sight=none"]);
    server.import_tenant(
        "northwind-it",
        json!({ "users": [{ "id": NEWCOMER, "role": "VIEWER" }] }),
    );
    let guest = person(&server, &authority, NEWCOMER, &json!({ "idp": "live.com" }));
    assert_eq!(guest.get("/whoami").expect(200).data()["role"], "VIEWER");
}

#[test]
fn with_first_sight_none_a_member_is_let_in_only_as_a_user_or_with_an_app_role() {
    let authority = Authority::new();
    let server = start_server(&authority, &["--entra-first-sight=none"]);
    let member = |claims: Value| person(&server, &authority, NEWCOMER, &claims);
    assert_barred(
        &member(json!({})).get("/whoami"),
        "not_registered",
        NOT_REGISTERED,
    );
    assert_barred(&member(json!({ "acct": 1 })).get("/whoami"), "guest", GUEST);
    let whoami = member(json!({ "roles": ["Admin"] })).get("/whoami");
    assert_eq!(whoami.expect(200).data()["role"], "ADMIN");
    // The role of one request lets nobody in later.
    assert!(!is_recorded(&server, NEWCOMER));
    assert_barred(
        &member(json!({})).get("/whoami"),
        "not_registered",
        NOT_REGISTERED,
    );

    let admin = person(&server, &authority, ADMIN, &json!({}));
    admin.post("/users", json!({ "id": NEWCOMER })).expect(201);
    let whoami = member(json!({})).get("/whoami").expect(200).data();
    assert_eq!(whoami["role"], "USER");
}

#[test]
fn a_refused_guest_is_an_audit_event_of_the_tenant_up_to_the_quota() {
    let authority = Authority::new();
    let server = start_server(&authority, &[]);
    let guest = person(&server, &authority, NEWCOMER, &json!({ "acct": 1 }));
    for _ in 0..70 {
        assert_barred(&guest.get("/agents"), "guest", GUEST);
    }
    let events = server
        .northwind()
        .get("/audit-events?action=request.refused&page_size=200");
    let events = events.expect(200).data();
    let events = events.as_array().unwrap();
    assert_eq!(events.len(), 10);
    assert_eq!(
        (
            &events[0]["actor"],
            &events[0]["target"],
            &events[0]["details"]
        ),
        (
            &json!({ "kind": "dashboard_user", "id": NEWCOMER, "name": "Noor Castellanos" }),
            &json!("/public-api/agents"),
            &json!({ "code": "forbidden", "method": "GET", "route": "/agents", "reason": "guest" }),
        )
    );
    // They crowd out no refusal of the tenant's own accounts.
    northwind_is_refused_and_recorded(&server);
    // The events are this tenant's, and no other tenant's.
    let other = server
        .fabrikam()
        .get("/audit-events?action=request.refused");
    assert_eq!(other.expect(200).data(), json!([]));
}

/// Makes a refused attempt of Northwind's key, and expects it as the newest event.
#[track_caller]
fn northwind_is_refused_and_recorded(server: &Server) {
    let northwind = server.northwind();
    northwind.get("/users").refused(403, "forbidden");
    let newest = northwind.get("/audit-events?action=request.refused&page_size=1");
    let newest = newest.expect(200).data();
    assert_eq!(
        (&newest[0]["actor"]["kind"], &newest[0]["details"]),
        (
            &json!("service_account"),
            &json!({ "code": "forbidden", "method": "GET", "route": "/users" })
        )
    );
}

#[test]
fn people_who_are_not_let_in_use_up_nothing_of_the_tenants_limit() {
    let authority = Authority::new();
    let server = start_server(&authority, &["--entra-first-sight=none"]);
    let guest = person(&server, &authority, NEWCOMER, &json!({ "acct": 1 }));
    let member = person(&server, &authority, "somebody", &json!({}));
    let admin = person(&server, &authority, ADMIN, &json!({}));
    let limit_to = |figure: i64| {
        server.import_tenant("northwind-it", json!({ "rate_limit_per_minute": figure }));
    };
    let left = |reply: &Reply| standing(reply)[..2].to_vec();
    limit_to(130);
    for remaining in (0..13).rev() {
        // All of them count together, whatever they call.
        let reply = match remaining % 3 {
            0 => guest.post("/auth/sign-out", json!({})),
            1 => guest.delete("/users/x"),
            _ => member.get("/whoami"),
        };
        assert_eq!((reply.status, left(&reply)), (403, vec![13, remaining]));
    }
    for barred in [&guest, &member] {
        for reply in [barred.get("/whoami"), barred.delete("/users/x")] {
            let refused = reply.refused(429, "rate_limited");
            assert_eq!(left(&refused), [13, 0]);
            assert_eq!(refused.header("retry-after"), Some("60"));
        }
    }
    let whoami = server.with_credential(NORTHWIND).get("/whoami").expect(200);
    assert_eq!(left(&whoami), [130, 129]);
    let deleted = admin.delete("/users/nobody").expect(404);
    assert_eq!(left(&deleted), [130, 128]);
    // Another tenant's people are not concerned.
    server.fabrikam().get("/whoami").expect(200);

    // They have at least ten calls, and no limit where the tenant has none.
    server.advance_clock(MINUTE);
    limit_to(5);
    assert_eq!(left(&guest.get("/whoami").expect(403)), [10, 9]);
    limit_to(0);
    for _ in 0..20 {
        guest.get("/whoami").expect(403);
    }
}

#[test]
fn a_user_needs_an_id_and_only_an_administrator_adds_one() {
    let authority = Authority::new();
    let server = start_server(&authority, &[]);
    let admin = person(&server, &authority, ADMIN, &json!({}));
    for (body, field, reason) in [
        (json!({}), "id", "is required"),
        (json!({ "id": "" }), "id", "must not be empty"),
        (
            json!({ "id": "a", "role": "OWNER" }),
            "role",
            "must be one of VIEWER, USER, ADMIN",
        ),
    ] {
        admin.post("/users", body).refused_field(field, reason);
    }
    let member = person(&server, &authority, NEWCOMER, &json!({}));
    member
        .post("/users", json!({ "id": "mine" }))
        .refused(403, "forbidden");
}

#[test]
fn a_token_of_the_private_accounts_names_no_tenant_whatever_is_stored() {
    let authority = Authority::new();
    let server = start_server(&authority, &[]);
    let private = "9188040d-6c67-4c5b-b112-36a304b66dad";
    server.execute_sql(&format!(
        "UPDATE tenants SET entra_tenant_id = '{private}' WHERE client_id = 'northwind-it'"
    ));
    let token = current().issue(&authority.claims_of(private, NEWCOMER));
    let refused = server
        .with_credential(&token)
        .get("/whoami")
        .refused(401, "unauthorized");
    assert_eq!(refused.error()["details"]["reason"], "unknown_tenant");
    assert!(!is_recorded(&server, NEWCOMER));
}

#[test]
fn the_removal_of_a_viewer_with_an_app_role_revokes_the_tokens_that_it_minted() {
    let authority = Authority::new();
    let server = start_server(&authority, &[]);
    let admin = person(&server, &authority, ADMIN, &json!({}));
    let added = json!({ "id": NEWCOMER, "role": "VIEWER" });
    admin.post("/users", added).expect(201);
    let viewer = person(
        &server,
        &authority,
        NEWCOMER,
        &json!({ "roles": ["Admin"] }),
    );
    let session = viewer.session(json!({ "agent_id": 102 }));
    let token = viewer.with_session_token(&session);
    token.get("/whoami").expect(200);
    admin.delete(&format!("/users/{NEWCOMER}")).expect(204);
    token.get("/whoami").refused(401, "unauthorized");
}
