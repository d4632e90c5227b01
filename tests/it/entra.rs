//! Entra ID access tokens: which are valid, what people may do, and an unreachable authority.

use std::fs;

use serde_json::{Value, json};

use crate::authority::{
    AUDIENCE, Authority, FABRIKAM_DIRECTORY, NEWCOMER, NORTHWIND_DIRECTORY, current, next,
};
use crate::log_book;
use crate::process::{CommandOutput, Server as Process, Workspace};
use crate::support::{ApiClient, DEMO, MINUTE, SECOND, START, Server};
use crate::watchdog::until;
use crate::wire::Reply;

/// Northwind's administrator in the demo world.
const ADMIN: &str = "3d8c1f52-7a94-4e0b-b6d1-52f09c7e4a18";

/// Starts a server on the demo world that accepts this authority's tokens.
fn start_server(authority: &Authority, flags: &[&str]) -> Server {
    let url = format!("--entra-authority={}", authority.url());
    let all = [&[url.as_str(), "--entra-audience", AUDIENCE], flags].concat();
    Server::with_world(DEMO, &all)
}

/// A client with a token of these claims.
fn with_token(server: &Server, claims: &Value) -> ApiClient {
    server.with_credential(&current().issue(claims))
}

#[track_caller]
fn assert_unauthorized(reply: &Reply, reason: &str) {
    assert_eq!(
        (reply.status, &reply.error()["details"]),
        (401, &json!({ "reason": reason })),
        "{}",
        reply.text()
    );
    assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
}

fn with(claims: &Value, name: &str, value: impl Into<Value>) -> Value {
    let mut claims = claims.clone();
    claims[name] = value.into();
    claims
}

/// A user's row in the database: name, email, role, last seen.
fn recorded(server: &Server, oid: &str) -> Vec<Value> {
    server.wait_for_records();
    let row = server.database().rows(&format!(
        "SELECT name, email, role, last_seen_at FROM users WHERE user_id = '{oid}'"
    ));
    let Some(row) = row.first() else {
        return Vec::new();
    };
    let (name, email, role): (Option<String>, Option<String>, String) =
        (row.get(0), row.get(1), row.get(2));
    vec![
        json!(name),
        json!(email),
        json!(role),
        json!(row.get::<i64>(3)),
    ]
}

#[test]
fn a_token_of_either_version_names_the_person_and_the_tenant() {
    let authority = Authority::new();
    let server = start_server(&authority, &[]);
    let second = authority.claims(NEWCOMER);
    let first = with(
        &with(&second, "ver", "1.0"),
        "iss",
        format!("https://sts.windows.net/{NORTHWIND_DIRECTORY}/"),
    );
    for claims in [&second, &first] {
        assert_eq!(
            with_token(&server, claims)
                .get("/whoami")
                .expect(200)
                .data(),
            json!({
                "kind": "dashboard_user", "id": NEWCOMER, "name": "Noor Castellanos", "client_id": "northwind-it",
                "role": "USER", "platform": false, "session_id": null,
            })
        );
    }
    let elsewhere = authority.claims_of(FABRIKAM_DIRECTORY, NEWCOMER);
    let whoami = with_token(&server, &elsewhere)
        .get("/whoami")
        .expect(200)
        .data();
    assert_eq!(whoami["client_id"], "fabrikam-support");
}

#[test]
fn without_an_audience_nobody_signs_in_by_entra() {
    let authority = Authority::new();
    let server = Server::demo();
    assert_unauthorized(
        &with_token(&server, &authority.claims(NEWCOMER)).get("/whoami"),
        "wrong_issuer",
    );
    assert_eq!(authority.requested_paths(), Vec::<String>::new());
}

#[test]
fn every_configured_audience_is_accepted_and_no_other() {
    let authority = Authority::new();
    let id = "0d6e2b3c-5a49-4b0e-8f7d-1c2b3a495867";
    let server = start_server(&authority, &["--entra-audience", id]);
    let both = format!("{AUDIENCE},{id}");
    let listed = Server::with_world(
        DEMO,
        &[
            &format!("--entra-authority={}", authority.url()),
            "--entra-audience",
            &both,
        ],
    );
    for server in [&server, &listed] {
        for audience in [AUDIENCE, id] {
            let claims = with(&authority.claims(NEWCOMER), "aud", audience);
            with_token(server, &claims).get("/whoami").expect(200);
        }
        let claims = with(&authority.claims(NEWCOMER), "aud", both.as_str());
        assert_unauthorized(
            &with_token(server, &claims).get("/whoami"),
            "wrong_audience",
        );
    }
}

#[test]
fn the_clock_skew_of_the_flag_is_allowed_on_either_side() {
    let authority = Authority::new();
    let server = start_server(&authority, &["--entra-leeway=60"]);
    let now = START / 1_000;
    let claims = authority.claims(NEWCOMER);
    for (name, within, outside, reason) in [
        ("exp", now - 59, now - 60, "expired"),
        ("nbf", now + 60, now + 61, "not_yet_valid"),
        ("iat", now + 60, now + 61, "not_yet_valid"),
    ] {
        let asks = |time: i64| with_token(&server, &with(&claims, name, time)).get("/whoami");
        asks(within).expect(200);
        assert_unauthorized(&asks(outside), reason);
    }
    let person = with_token(&server, &claims);
    server.advance_clock(3_660 * SECOND - 1);
    person.get("/whoami").expect(200);
    server.advance_clock(1);
    assert_unauthorized(&person.get("/whoami"), "expired");
}

#[test]
fn a_program_needs_an_app_role() {
    let authority = Authority::new();
    let server = start_server(&authority, &[]);
    let mut without_scope = authority.claims(NEWCOMER);
    without_scope.as_object_mut().unwrap().remove("scp");
    let app = with(&without_scope, "idtyp", "app");
    let role_of = |claims: &Value| {
        with_token(&server, claims)
            .get("/whoami")
            .expect(200)
            .data()
    };
    for claims in [&without_scope, &app] {
        for roles in [
            json!([]),
            json!(["Reader", "admin", "ADMIN"]),
            json!("Admin"),
        ] {
            let reply = with_token(&server, &with(claims, "roles", roles)).get("/whoami");
            assert_unauthorized(&reply, "missing_claim");
        }
        let viewer = with(claims, "roles", json!(["Viewer"]));
        assert_eq!(role_of(&viewer)["role"], "VIEWER");
    }
    let both = with(&authority.claims(NEWCOMER), "idtyp", "app");
    assert_unauthorized(&with_token(&server, &both).get("/whoami"), "missing_claim");
}

#[test]
fn a_person_is_recorded_at_the_first_request_and_last_seen_to_the_minute() {
    let authority = Authority::new();
    let server = start_server(&authority, &[]);
    assert_eq!(recorded(&server, NEWCOMER), Vec::<Value>::new());
    let person = with_token(&server, &authority.claims(NEWCOMER));
    server.advance_clock(30 * SECOND);
    person.get("/whoami").expect(200);
    let row = |last_seen: i64| {
        vec![
            json!("Noor Castellanos"),
            json!("noor@northwind-it.example"),
            json!("USER"),
            json!(last_seen),
        ]
    };
    let first = START - START.rem_euclid(MINUTE);
    assert_eq!(recorded(&server, NEWCOMER), row(first));
    let writes = || -> i64 {
        server.wait_for_records();
        server.stored("SELECT count(*) FROM users")
    };
    let users = writes();
    server.advance_clock(29 * SECOND);
    person.get("/whoami").expect(200);
    assert_eq!(recorded(&server, NEWCOMER), row(first));
    server.advance_clock(SECOND);
    person.get("/whoami").expect(200);
    assert_eq!(recorded(&server, NEWCOMER), row(first + MINUTE));
    assert_eq!(writes(), users);

    // Claims of later tokens do not overwrite recorded values.
    server.advance_clock(MINUTE);
    let renamed = with(&authority.claims(NEWCOMER), "name", "Somebody Else");
    let whoami = with_token(&server, &renamed)
        .get("/whoami")
        .expect(200)
        .data();
    assert_eq!(whoami["name"], "Noor Castellanos");
    assert_eq!(recorded(&server, NEWCOMER), row(first + 2 * MINUTE));
}

#[test]
fn a_person_without_name_and_email_claims_is_still_recorded() {
    let authority = Authority::new();
    let server = start_server(&authority, &[]);
    let mut claims = authority.claims("somebody");
    claims["name"] = json!("\u{0}");
    claims["preferred_username"] = json!("no address");
    let whoami = with_token(&server, &claims)
        .get("/whoami")
        .expect(200)
        .data();
    assert_eq!(whoami["name"], Value::Null);
    let minute = START - START.rem_euclid(MINUTE);
    assert_eq!(
        recorded(&server, "somebody"),
        [Value::Null, Value::Null, json!("USER"), json!(minute)]
    );
    claims["name"] = json!(format!("  {}  ", "n".repeat(300)));
    claims["upn"] = json!("late@northwind-it.example");
    server.advance_clock(MINUTE);
    with_token(&server, &claims).get("/whoami").expect(200);
    assert_eq!(
        recorded(&server, "somebody")[..2],
        [json!("n".repeat(200)), json!("late@northwind-it.example")]
    );
}

#[test]
fn the_tokens_highest_role_applies_to_its_requests_else_the_recorded_one() {
    let authority = Authority::new();
    let server = start_server(&authority, &[]);
    let role = |oid: &str, roles: Value| {
        let claims = with(&authority.claims(oid), "roles", roles);
        let whoami = with_token(&server, &claims)
            .get("/whoami")
            .expect(200)
            .data();
        whoami["role"].as_str().unwrap().to_owned()
    };
    for (roles, of_admin, of_newcomer) in [
        (json!(null), "ADMIN", "USER"),
        (json!([]), "ADMIN", "USER"),
        (json!(["Viewer"]), "VIEWER", "VIEWER"),
        (json!(["Viewer", "User"]), "USER", "USER"),
        (json!(["Viewer", "Admin", "User"]), "ADMIN", "ADMIN"),
        (json!(["Something", 5, null, "Viewer"]), "VIEWER", "VIEWER"),
        (json!(["admin", "ADMIN", " Admin"]), "ADMIN", "USER"),
        (json!("Viewer"), "ADMIN", "USER"),
        (json!({ "Viewer": true }), "ADMIN", "USER"),
    ] {
        assert_eq!(role(ADMIN, roles.clone()), of_admin, "{roles}");
        assert_eq!(role(NEWCOMER, roles.clone()), of_newcomer, "{roles}");
    }
    assert_eq!(recorded(&server, NEWCOMER)[2], "USER");
    assert_eq!(recorded(&server, ADMIN)[2], "ADMIN");
    // A changed record of the role applies to the next request.
    server.import_tenant(
        "northwind-it",
        json!({ "users": [{ "id": NEWCOMER, "role": "VIEWER" }] }),
    );
    assert_eq!(role(NEWCOMER, json!(null)), "VIEWER");
}

#[test]
fn a_directory_that_is_configured_later_can_sign_in_at_once() {
    let authority = Authority::new();
    let server = start_server(&authority, &[]);
    let directory = "11111111-2222-4333-8444-555555555555";
    let person = with_token(&server, &authority.claims_of(directory, NEWCOMER));
    assert_unauthorized(&person.get("/whoami"), "unknown_tenant");
    assert_eq!(recorded(&server, NEWCOMER), Vec::<Value>::new());
    server.import_tenant(
        "relay-platform",
        json!({ "entra_tenant_id": directory.to_uppercase() }),
    );
    let whoami = person.get("/whoami").expect(200).data();
    assert_eq!(whoami["client_id"], "relay-platform");
}

#[test]
fn concurrent_requests_share_one_key_load_and_block_no_other_request() {
    let authority = Authority::new();
    authority.stop_answering();
    let server = start_server(&authority, &[]);
    let token = current().issue(&authority.claims(NEWCOMER));
    std::thread::scope(|scope| {
        let waiting: Vec<_> = (0..16)
            .map(|_| scope.spawn(|| server.with_credential(&token).get("/whoami")))
            .collect();
        // Both documents are requested, and both threads of the server keep serving.
        authority.wait_for_requests(2);
        for _ in 0..8 {
            server.northwind().get("/whoami").expect(200);
        }
        authority.resume_answering();
        for reply in waiting {
            reply.join().unwrap().expect(200);
        }
    });
    let mut asked = authority.requested_paths();
    asked.sort_unstable();
    assert_eq!(
        asked,
        [
            "/common/.well-known/openid-configuration",
            "/common/discovery/keys",
            "/common/discovery/v2.0/keys",
            "/common/v2.0/.well-known/openid-configuration",
        ]
    );
    assert_eq!(
        server.stored::<i64>(&format!(
            "SELECT count(*) FROM users WHERE user_id = '{NEWCOMER}'"
        )),
        1
    );
}

#[test]
fn a_server_starts_without_the_authority_and_retries_after_five_seconds() {
    let book = log_book::open();
    let authority = Authority::new();
    authority.refuse_connections();
    let server = start_server(&authority, &[]);
    server.anonymous().get("/ready").expect(200);
    let person = with_token(&server, &authority.claims(NEWCOMER));
    assert_unauthorized(&person.get("/whoami"), "unknown_key");
    let told = book.lines().into_iter().any(|line| {
        line.contains(&authority.url())
            && line.contains("refused as unknown_key until it can be loaded")
    });
    assert!(told, "{:#?}", book.lines());
    assert_eq!(authority.requested_paths().len(), 2);

    authority.resume_answering();
    server.advance_clock(5 * SECOND - 1);
    assert_unauthorized(&person.get("/whoami"), "unknown_key");
    assert_eq!(authority.requested_paths().len(), 2);
    server.advance_clock(1);
    person.get("/whoami").expect(200);
}

#[test]
fn one_discovery_document_is_enough_for_tokens_of_its_version() {
    let authority = Authority::new();
    authority.publish(
        "/common/.well-known/openid-configuration",
        &json!({ "issuer": 5 }),
    );
    let server = start_server(&authority, &[]);
    let claims = authority.claims(NEWCOMER);
    with_token(&server, &claims).get("/whoami").expect(200);
    let issuer = format!("https://sts.windows.net/{NORTHWIND_DIRECTORY}/");
    let first = with_token(&server, &with(&claims, "iss", issuer));
    assert_unauthorized(&first.get("/whoami"), "unknown_key");
    authority.publish(
        "/common/.well-known/openid-configuration",
        &json!({
            "issuer": "https://sts.windows.net/{tenantid}/", "jwks_uri": format!("{}/common/discovery/keys", authority.url()),
        }),
    );
    server.advance_clock(5 * SECOND);
    first.get("/whoami").expect(200);
}

#[test]
fn a_cached_key_works_while_the_authority_is_unreachable() {
    let authority = Authority::new();
    let server = start_server(&authority, &[]);
    let claims = with(&authority.claims(NEWCOMER), "exp", START / 1_000 + 90_000);
    let person = with_token(&server, &claims);
    person.get("/whoami").expect(200);
    authority.refuse_connections();
    for _ in 0..3 {
        server.advance_clock(8 * 60 * MINUTE);
        // An unknown key makes the server ask the authority, without success.
        let stranger = server.with_credential(&next().issue(&claims));
        assert_unauthorized(&stranger.get("/whoami"), "unknown_key");
        person.get("/whoami").expect(200);
    }
    assert!(authority.requested_paths().len() > 4);
}

#[test]
fn an_unknown_kid_fetches_the_keys_at_once_and_then_at_most_once_a_minute() {
    let authority = Authority::new();
    let server = start_server(&authority, &[]);
    let claims = authority.claims(NEWCOMER);
    let (old, new) = (
        with_token(&server, &claims),
        server.with_credential(&next().issue(&claims)),
    );
    old.get("/whoami").expect(200);
    assert_eq!(authority.requested_paths().len(), 4);
    // The server fetches at once, however recent the last load. The key is not published yet.
    assert_unauthorized(&new.get("/whoami"), "unknown_key");
    assert_eq!(authority.requested_paths().len(), 8);
    authority.publish_keys(&[current().jwk(), next().jwk()]);
    server.advance_clock(MINUTE - 1);
    assert_unauthorized(&new.get("/whoami"), "unknown_key");
    assert_eq!(authority.requested_paths().len(), 8);
    server.advance_clock(1);
    new.get("/whoami").expect(200);
    assert_eq!(authority.requested_paths().len(), 12);
    old.get("/whoami").expect(200);

    // A withdrawn key is invalid after the next fetch.
    authority.publish_keys(&[next().jwk()]);
    old.get("/whoami").expect(200);
    server.advance_clock(MINUTE);
    let header = json!({ "alg": "RS256", "kid": "no-such-key" });
    let stranger = server.with_credential(&next().sign(&header, &claims));
    assert_unauthorized(&stranger.get("/whoami"), "unknown_key");
    assert_unauthorized(&old.get("/whoami"), "unknown_key");
    new.get("/whoami").expect(200);
}

#[test]
fn an_old_key_set_is_refreshed_in_the_background() {
    let authority = Authority::new();
    let server = start_server(&authority, &[]);
    let claims = with(&authority.claims(NEWCOMER), "exp", START / 1_000 + 90_000);
    with_token(&server, &claims).get("/whoami").expect(200);
    server.advance_clock(60 * MINUTE - 1);
    with_token(&server, &claims).get("/whoami").expect(200);
    assert_eq!(authority.requested_paths().len(), 4);
    server.advance_clock(1);
    with_token(&server, &claims).get("/whoami").expect(200);
    authority.wait_for_requests(8);
}

#[test]
fn a_key_of_one_directory_is_not_valid_for_another() {
    let authority = Authority::new();
    let mut key = current().jwk();
    key["issuer"] = format!("{}/{NORTHWIND_DIRECTORY}/v2.0", authority.url()).into();
    let mut common = next().jwk();
    common["issuer"] = format!("{}/{{tenantid}}/v2.0", authority.url()).into();
    authority.publish_keys(&[key, common]);
    let server = start_server(&authority, &[]);
    let (own, foreign) = (
        authority.claims(NEWCOMER),
        authority.claims_of(FABRIKAM_DIRECTORY, NEWCOMER),
    );
    with_token(&server, &own).get("/whoami").expect(200);
    assert_unauthorized(
        &with_token(&server, &foreign).get("/whoami"),
        "wrong_issuer",
    );
    for claims in [&own, &foreign] {
        let person = server.with_credential(&next().issue(claims));
        person.get("/whoami").expect(200);
    }
}

#[test]
fn unusable_keys_in_a_key_set_are_skipped() {
    let authority = Authority::new();
    let changed = |name: &str, value: &str| {
        let mut key = current().jwk();
        key[name] = value.into();
        key
    };
    let mut padded = next().jwk();
    padded["alg"] = "RS256".into();
    padded["n"] = format!("{}==", padded["n"].as_str().unwrap()).into();
    authority.publish_keys(&[
        changed("use", "enc"),
        changed("alg", "RS512"),
        changed("kty", "EC"),
        changed("n", "AQAB"),
        changed("e", "!"),
        json!({ "kty": "oct", "kid": "current-key", "k": "c2VjcmV0" }),
        json!("no key"),
        padded,
    ]);
    let server = start_server(&authority, &[]);
    let claims = authority.claims(NEWCOMER);
    assert_unauthorized(&with_token(&server, &claims).get("/whoami"), "unknown_key");
    let person = server.with_credential(&next().issue(&claims));
    person.get("/whoami").expect(200);
}

#[test]
fn a_malicious_discovery_document_is_not_followed() {
    for keys_at in ["http://192.0.2.1/keys", "file:///etc/hostname", "nonsense"] {
        let authority = Authority::new();
        for path in [
            "/common/v2.0/.well-known/openid-configuration",
            "/common/.well-known/openid-configuration",
        ] {
            authority.publish(
                path,
                &json!({ "issuer": format!("{}/{{tenantid}}/v2.0", authority.url()), "jwks_uri": keys_at }),
            );
        }
        let server = start_server(&authority, &[]);
        let person = with_token(&server, &authority.claims(NEWCOMER));
        assert_unauthorized(&person.get("/whoami"), "unknown_key");
    }
}

#[test]
fn an_issuer_of_one_directory_is_valid_for_that_directory_only() {
    let authority = Authority::new();
    let own = format!("{}/{NORTHWIND_DIRECTORY}/v2.0", authority.url());
    for path in [
        "/common/v2.0/.well-known/openid-configuration",
        "/common/.well-known/openid-configuration",
    ] {
        authority.publish(
            path,
            &json!({ "issuer": own, "jwks_uri": format!("{}/common/discovery/keys", authority.url()) }),
        );
    }
    let server = start_server(&authority, &[]);
    let claims = authority.claims(NEWCOMER);
    with_token(&server, &claims).get("/whoami").expect(200);
    let foreign = with(&claims, "tid", FABRIKAM_DIRECTORY);
    assert_unauthorized(
        &with_token(&server, &foreign).get("/whoami"),
        "wrong_issuer",
    );
}

#[test]
fn keys_on_disk_need_no_authority_and_are_read_again_when_they_change() {
    let book = log_book::open();
    let authority = Authority::new();
    authority.refuse_connections();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let puts = |text: String| fs::write(&path, text).unwrap();
    puts(json!({ "keys": [current().jwk()] }).to_string());
    let server = start_server(&authority, &["--entra-keys", path.to_str().unwrap()]);
    let claims = authority.claims(NEWCOMER);
    let issuer = format!("https://sts.windows.net/{NORTHWIND_DIRECTORY}/");
    for claims in [&claims, &with(&claims, "iss", issuer)] {
        with_token(&server, claims).get("/whoami").expect(200);
    }
    let other = with(&claims, "iss", format!("{}/other/v2.0", authority.url()));
    assert_unauthorized(&with_token(&server, &other).get("/whoami"), "wrong_issuer");

    let (old, new) = (
        with_token(&server, &claims),
        server.with_credential(&next().issue(&claims)),
    );
    assert_unauthorized(&new.get("/whoami"), "unknown_key");
    puts(json!({ "keys": [next().jwk(), current().jwk()] }).to_string());
    // The server checks the files at most once a second, however many requests arrive.
    assert_unauthorized(&new.get("/whoami"), "unknown_key");
    server.advance_clock(SECOND);
    new.get("/whoami").expect(200);
    old.get("/whoami").expect(200);
    puts(json!({ "keys": [next().jwk()] }).to_string());
    server.advance_clock(SECOND);
    assert_unauthorized(&old.get("/whoami"), "unknown_key");
    new.get("/whoami").expect(200);
    for broken in ["", "{}", "{\"keys\": []}", "no JSON"] {
        puts(broken.to_owned());
        server.advance_clock(SECOND);
        new.get("/whoami").expect(200);
    }
    fs::remove_file(&path).unwrap();
    server.advance_clock(SECOND);
    new.get("/whoami").expect(200);
    let told = book
        .lines()
        .iter()
        .any(|line| line.contains("keys.json") && line.contains("the previous keys stay in use"));
    assert!(told);
    assert_eq!(authority.requested_paths(), Vec::<String>::new());
}

/// Runs `serve` with invalid flags.
fn refused_at_start(flags: &[&str]) -> CommandOutput {
    let workspace = Workspace::new();
    let mut command = workspace.command(["serve", "--listen", "127.0.0.1:0"]);
    command.args(flags);
    match Process::try_start(command) {
        Ok(_) => panic!("{flags:?} were taken"),
        Err(done) => done,
    }
}

#[test]
fn invalid_settings_are_refused_at_the_start() {
    let on = "--entra-audience=api://switchboard";
    let workspace = Workspace::new();
    let empty = workspace.file("empty.json", "{}");
    let at = |value: &str| format!("--entra-authority={value}");
    for (flags, told) in [
        (vec!["--entra-audience="], "1 to 2,048 visible characters"),
        (
            vec!["--entra-audience=a b"],
            "1 to 2,048 visible characters",
        ),
        (vec!["--entra-audience=a,"], "1 to 2,048 visible characters"),
        (vec!["--entra-keys=keys.json"], "--entra-audience"),
        (vec!["--entra-client-id=x"], "--entra-audience"),
        (vec![on, "--entra-scope=x"], "--entra-client-id"),
        (
            vec![on, &at("http://login.example.com")],
            "must be an https URL; http is allowed only for loopback addresses",
        ),
        (vec![on, &at("login.example.com")], "must be an https URL"),
        (vec![on, &at("ftp://127.0.0.1")], "must be an https URL"),
        (
            vec![on, &at("https://u:p@login.example.com")],
            "must not contain a user name, password, query or fragment",
        ),
        (
            vec![on, &at("https://login.example.com/?x=1")],
            "must not contain a user name, password, query or fragment",
        ),
        (
            vec![on, "--entra-keys=/no/such/file"],
            "cannot use --entra-keys /no/such/file: No such file",
        ),
        (
            vec![on, "--entra-keys", &empty],
            "empty.json: it is not a JSON Web Key Set",
        ),
    ] {
        let done = refused_at_start(&flags);
        assert!(
            matches!(done.code, 1 | 2) && done.stderr.contains(told),
            "{flags:?}: {done:?}"
        );
    }
}

#[test]
fn a_server_logs_at_its_start_whether_the_authority_answers() {
    let authority = Authority::new();
    let workspace = Workspace::with_demo_world();
    let server = workspace.serve([
        "--env",
        "demo",
        "--entra-audience",
        AUDIENCE,
        "--entra-authority",
        &authority.url(),
    ]);
    server.wait_for_log("entra: loaded 2 issuers and 1 keys");
    authority.refuse_connections();
    let other_place = Workspace::new();
    let away = other_place.serve([
        "--entra-audience",
        AUDIENCE,
        "--entra-authority",
        &authority.url(),
    ]);
    away.wait_for_log("refused as unknown_key until it can be loaded");
    let reply = away.client().get("", "/ready");
    assert_eq!(reply.status, 200);
    server.stop();
    away.stop();
}

#[test]
fn a_withdrawn_key_expires_within_an_hour_even_while_one_document_is_missing() {
    let authority = Authority::new();
    authority.publish("/common/.well-known/openid-configuration", &json!("none"));
    let server = start_server(&authority, &[]);
    let mut claims = authority.claims(NEWCOMER);
    claims["exp"] = (START / 1_000 + 90_000).into();
    let person = with_token(&server, &claims);
    person.get("/whoami").expect(200);
    let asked = authority.requested_paths().len();
    authority.publish_keys(&[next().jwk()]);
    server.advance_clock(60 * MINUTE);
    // The server fetches the keys in the background.
    person.get("/whoami").expect(200);
    authority.wait_for_requests(asked + 3);
    until("the key is forgotten", || {
        person.get("/whoami").status != 200
    });
    assert_unauthorized(&person.get("/whoami"), "unknown_key");
}

#[test]
fn a_token_waits_at_most_five_seconds_for_a_silent_authority() {
    let authority = Authority::new();
    authority.stop_answering();
    let server = start_server(&authority, &[]);
    let begun = std::time::Instant::now();
    let person = with_token(&server, &authority.claims(NEWCOMER));
    assert_unauthorized(&person.get("/whoami"), "unknown_key");
    let took = begun.elapsed().as_secs_f64();
    assert!((4.5..9.0).contains(&took), "{took} s");
}
