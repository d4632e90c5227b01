//! Local sign-in: one-time links, their tokens, and the end of a sign-in.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use switchboard::auth::api_key;
use switchboard::digest;
use switchboard::model::names::ClientId;
use switchboard::model::words::Role;
use switchboard::store::{sign_ins, tenants};

use crate::authority::{AUDIENCE, Authority, NEWCOMER, current};
use crate::database::sqlite_only;
use crate::process::{Server as Process, Workspace, program};
use crate::support::{ApiClient, DAY, DEMO, MINUTE, SECOND, START, Server, block_on, technician};
use crate::wire::Reply;

const HOUR: i64 = 60 * MINUTE;
/// Northwind's administrator in the demo world.
const ADMIN: &str = "3d8c1f52-7a94-4e0b-b6d1-52f09c7e4a18";

/// Stores a code as `login-link` does.
pub fn offer(server: &Server, client_id: &str, role: Role, code: &str) {
    let (sha256, client_id) = (digest::sha256(code), ClientId::parse(client_id).unwrap());
    server
        .app
        .store
        .write_now(move |tx| {
            let tenant = tenants::by_client_id(tx.reader(), &client_id)?.unwrap();
            sign_ins::insert_code(tx, sha256, tenant.no, role)
        })
        .unwrap();
}

fn exchange(server: &Server, code: &str) -> Reply {
    server
        .anonymous()
        .post("/auth/exchange", json!({ "code": code }))
}

/// Signs a person in by a link.
pub fn signed_in(server: &Server, client_id: &str, role: Role) -> ApiClient {
    let code = api_key::random_secret().unwrap();
    offer(server, client_id, role, &code);
    let data = exchange(server, &code).expect(200).data();
    server.with_credential(data["token"].as_str().unwrap())
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

/// A part of a token, without checking the signature.
fn part(token: &str, which: usize) -> Value {
    let part = token.split('.').nth(which).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

/// A token signed with this server's own secret.
fn forged(server: &Server, kind: &str, claims: &Value) -> ApiClient {
    let secret = server.database().signing_secret();
    let mut header = Header::new(Algorithm::HS256);
    header.typ = Some(kind.to_owned());
    let key = EncodingKey::from_secret(&secret);
    server.with_credential(&jsonwebtoken::encode(&header, claims, &key).unwrap())
}

#[test]
fn a_code_gives_a_token_of_twelve_hours_for_its_tenant_and_role() {
    let server = Server::demo();
    for (client_id, role) in [
        ("northwind-it", Role::Admin),
        ("northwind-it", Role::User),
        ("fabrikam-support", Role::Viewer),
    ] {
        let code = api_key::random_secret().unwrap();
        offer(&server, client_id, role, &code);
        let data = exchange(&server, &code).expect(200).data();
        let token = data["token"].as_str().unwrap();
        assert_eq!(
            data,
            json!({ "token": token, "expires_at": "2025-11-25T04:00:00.000Z" })
        );
        let id = format!("local:{}", role.as_str());
        assert_eq!(
            part(token, 0),
            json!({ "typ": "signin+jwt", "alg": "HS256" })
        );
        let claims = part(token, 1);
        assert_eq!(
            claims,
            json!({
                "iss": "switchboard:sign-in", "aud": "switchboard:sign-in-api", "sub": id, "jti": claims["jti"],
                "client_id": client_id, "role": role.as_str(), "iat": START / 1_000, "exp": START / 1_000 + 43_200,
            })
        );
        assert_eq!(
            server
                .with_credential(token)
                .get("/whoami")
                .expect(200)
                .data(),
            json!({
                "kind": "dashboard_user", "id": id, "name": "Local sign-in", "client_id": client_id,
                "role": role.as_str(), "platform": false, "session_id": null,
            })
        );
    }
}

#[test]
fn a_code_works_once_and_for_fifteen_minutes() {
    let server = Server::demo();
    offer(&server, "northwind-it", Role::Admin, "first");
    offer(&server, "northwind-it", Role::Admin, "second");
    exchange(&server, "first").expect(200);
    assert_unauthorized(&exchange(&server, "first"), "unknown");
    assert_unauthorized(&exchange(&server, "never given out"), "unknown");
    server.advance_clock(15 * MINUTE - 1);
    offer(&server, "northwind-it", Role::Admin, "third");
    server.advance_clock(1);
    assert_unauthorized(&exchange(&server, "second"), "expired");
    exchange(&server, "third").expect(200);
    for (body, reason) in [
        (json!({}), "is required"),
        (json!({ "code": null }), "is required"),
        (json!({ "code": 5 }), "must be a string"),
        (json!({ "code": "" }), "must not be empty"),
        (
            json!({ "code": "x".repeat(129) }),
            "must have at most 128 characters",
        ),
    ] {
        server
            .anonymous()
            .post("/auth/exchange", body)
            .refused_field("code", reason);
    }
}

#[test]
fn of_many_concurrent_exchanges_of_one_code_exactly_one_succeeds() {
    let server = Server::demo();
    for round in 0..20 {
        let code = format!("code-{round}");
        offer(&server, "northwind-it", Role::Admin, &code);
        let tokens: Vec<Reply> = std::thread::scope(|scope| {
            let tries: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| exchange(&server, &code)))
                .collect();
            tries
                .into_iter()
                .map(|tried| tried.join().unwrap())
                .collect()
        });
        let (won, lost): (Vec<_>, Vec<_>) =
            tokens.into_iter().partition(|reply| reply.status == 200);
        assert_eq!((won.len(), lost.len()), (1, 7));
        for reply in &lost {
            assert_unauthorized(reply, "unknown");
        }
        // The failures of this round must not throttle the next one.
        server.advance_clock(MINUTE);
    }
    assert_eq!(server.stored::<i64>("SELECT count(*) FROM sign_ins"), 20);
}

#[test]
fn wrong_codes_make_wrong_ones_wait_and_no_good_one() {
    let server = Server::demo();
    offer(&server, "northwind-it", Role::Admin, "good");
    offer(&server, "northwind-it", Role::Admin, "late");
    for _ in 0..20 {
        assert_unauthorized(&exchange(&server, "guess"), "unknown");
    }
    let throttled = || {
        for _ in 0..30 {
            let reply = exchange(&server, "guess").refused(429, "rate_limited");
            assert_eq!(reply.header("retry-after"), Some("60"));
        }
    };
    throttled();
    let token = exchange(&server, "good").expect(200).data()["token"].clone();
    let person = server.with_credential(token.as_str().unwrap());
    person.get("/whoami").expect(200);
    throttled();
    // A used code is a wrong one, and so is an expired one.
    exchange(&server, "good").refused(429, "rate_limited");
    assert_eq!(server.stored::<i64>("SELECT count(*) FROM sign_ins"), 1);
    server.advance_clock(MINUTE);
    assert_unauthorized(&exchange(&server, "good"), "unknown");
    server.advance_clock(15 * MINUTE);
    for _ in 0..20 {
        assert_unauthorized(&exchange(&server, "late"), "expired");
    }
    exchange(&server, "late").refused(429, "rate_limited");
}

#[test]
fn a_sign_in_ends_after_twelve_hours() {
    let server = Server::demo();
    let person = signed_in(&server, "northwind-it", Role::User);
    server.advance_clock(12 * HOUR - 1);
    person.get("/whoami").expect(200);
    server.advance_clock(1);
    assert_unauthorized(&person.get("/whoami"), "expired");
}

#[test]
fn signing_out_ends_that_sign_in_at_once_and_no_other() {
    let server = Server::demo();
    for role in [Role::Admin, Role::User, Role::Viewer] {
        let (person, other) = (
            signed_in(&server, "northwind-it", role),
            signed_in(&server, "northwind-it", role),
        );
        let reply = person.post("/auth/sign-out", json!({})).expect(204);
        assert!(reply.body.is_empty());
        assert_unauthorized(&person.get("/whoami"), "revoked");
        assert_unauthorized(&person.post("/auth/sign-out", json!({})), "revoked");
        other.get("/whoami").expect(200);
    }
    let person = signed_in(&server, "northwind-it", Role::Admin);
    person.post("/auth/sign-out", json!({})).expect(204);
    let (server, token) = (server.restarted(), person);
    let again = ApiClient::new(server.address, token.authorization().map(str::to_owned));
    assert_unauthorized(&again.get("/whoami"), "revoked");
}

#[test]
fn only_a_local_sign_in_can_be_signed_out() {
    let authority = Authority::new();
    let url = format!("--entra-authority={}", authority.url());
    let server = Server::with_world(DEMO, &[&url, "--entra-audience", AUDIENCE]);
    let by_entra = server.with_credential(&current().issue(&authority.claims(NEWCOMER)));
    let session = server.northwind().session(technician());
    for client in [
        by_entra,
        server.northwind(),
        server.relay(),
        server.northwind().with_session_token(&session),
    ] {
        let reply = client.post("/auth/sign-out", json!({}));
        reply.refused(403, "forbidden");
        client.get("/whoami").expect(200);
    }
    assert_unauthorized(
        &server.anonymous().post("/auth/sign-out", json!({})),
        "missing",
    );
}

#[test]
fn sign_ins_and_codes_survive_a_restart_and_are_invalid_on_other_servers() {
    let server = Server::demo();
    offer(&server, "northwind-it", Role::User, "kept");
    let person = signed_in(&server, "northwind-it", Role::User);
    let credential = person.authorization().map(str::to_owned);
    let other = Server::demo();
    assert_unauthorized(
        &ApiClient::new(other.address, credential.clone()).get("/whoami"),
        "bad_signature",
    );
    let server = server.restarted();
    ApiClient::new(server.address, credential)
        .get("/whoami")
        .expect(200);
    exchange(&server, "kept").expect(200);
}

#[test]
fn a_token_of_one_kind_is_never_accepted_as_another() {
    let server = Server::demo();
    let person = signed_in(&server, "northwind-it", Role::Admin);
    let token = person.authorization().unwrap()["Bearer ".len()..].to_owned();
    let good = part(&token, 1);
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        claims
    };
    let session = server.northwind().session(technician());
    let minted = server
        .northwind()
        .mint_token(json!({ "session_id": session }))
        .expect(201)
        .data();
    forged(&server, "signin+jwt", &good)
        .get("/whoami")
        .expect(200);
    for (kind, claims, reason) in [
        ("session+jwt", good.clone(), "bad_signature"),
        ("JWT", good.clone(), "bad_signature"),
        ("SIGNIN+JWT", good.clone(), "bad_signature"),
        (
            "signin+jwt",
            with("iss", json!("switchboard:session")),
            "bad_signature",
        ),
        // A complete session token, but for another session.
        (
            "session+jwt",
            with("iss", json!("switchboard:session")),
            "wrong_audience",
        ),
        (
            "signin+jwt",
            with("iss", json!("switchboard")),
            "wrong_issuer",
        ),
        ("signin+jwt", with("iss", json!(null)), "missing_claim"),
        (
            "signin+jwt",
            with("aud", json!("switchboard:session-api")),
            "wrong_audience",
        ),
        ("signin+jwt", with("aud", json!(null)), "missing_claim"),
        ("signin+jwt", with("jti", json!(null)), "missing_claim"),
        ("signin+jwt", with("jti", json!("jti_1")), "missing_claim"),
        ("signin+jwt", with("exp", json!(null)), "missing_claim"),
        ("signin+jwt", with("exp", json!(START / 1_000)), "expired"),
        // A session token is not a sign-in, and a sign-in is not a session token.
        ("signin+jwt", with("jti", minted["jti"].clone()), "revoked"),
        (
            "session+jwt",
            json!({ "iss": "switchboard:session", "aud": "switchboard:session-api", "jti": good["jti"], "exp": good["exp"] }),
            "revoked",
        ),
    ] {
        assert_unauthorized(&forged(&server, kind, &claims).get("/whoami"), reason);
    }
    // The claims of a token grant nothing: the stored sign-in does.
    let bent = with("role", json!("VIEWER"));
    let whoami = forged(&server, "signin+jwt", &bent)
        .get("/whoami")
        .expect(200)
        .data();
    assert_eq!(whoami["role"], "ADMIN");
}

#[test]
fn people_of_two_tenants_share_nothing_but_the_format_of_their_ids() {
    let server = Server::demo();
    let (one, other) = (
        signed_in(&server, "northwind-it", Role::Admin),
        signed_in(&server, "fabrikam-support", Role::Admin),
    );
    let made = one
        .create_session_once("same-key", technician())
        .expect(201);
    other.read_session(&made.id()).not_found();
    other
        .create_session_once("same-key", technician())
        .not_found();
    let theirs = other
        .create_session_once("same-key", json!({ "managed_agent_key": "NEO_SUPPORT" }))
        .expect(201);
    assert_ne!(theirs.id(), made.id());
    one.read_session(&theirs.id()).not_found();
}

#[test]
fn demoting_a_user_revokes_the_tokens_that_the_user_minted() {
    let authority = Authority::new();
    let url = format!("--entra-authority={}", authority.url());
    let server = Server::with_world(DEMO, &[&url, "--entra-audience", AUDIENCE]);
    let admin = server.with_credential(&current().issue(&authority.claims(ADMIN)));
    let session = admin.session(technician());
    let by_key = server.northwind().with_session_token(&session);
    let becomes = |role: &str| {
        let users = json!([{ "id": ADMIN, "role": role }]);
        server.import_tenant("northwind-it", json!({ "users": users }));
    };
    let guest = admin.with_session_token(&session);
    becomes("ADMIN");
    server.import_tenant(
        "northwind-it",
        json!({ "users": [{ "id": ADMIN, "name": "Renamed" }] }),
    );
    guest.read_session(&session).expect(200);
    becomes("USER");
    assert_unauthorized(&guest.read_session(&session), "revoked");
    becomes("ADMIN");
    assert_unauthorized(&guest.read_session(&session), "revoked");
    by_key.read_session(&session).expect(200);
    let later = admin.with_session_token(&session);
    later.read_session(&session).expect(200);
    becomes("VIEWER");
    assert_unauthorized(&later.read_session(&session), "revoked");
    by_key.read_session(&session).expect(200);
}

#[test]
fn no_code_is_in_the_database() {
    let server = Server::demo();
    let code = "hushhushhushhushhushhushhushhushhushhush1234";
    offer(&server, "northwind-it", Role::Admin, code);
    exchange(&server, code).expect(200);
    offer(&server, "northwind-it", Role::Admin, code);
    assert!(!server.database().holds("hushhush"));
}

#[test]
fn sign_ins_that_ended_a_day_ago_are_pruned() {
    let server = Server::demo();
    offer(&server, "northwind-it", Role::Admin, "left");
    let person = signed_in(&server, "northwind-it", Role::Admin);
    let rows = || -> i64 {
        block_on(server.app.store.purge_sign_ins());
        server.stored(
            "SELECT (SELECT count(*) FROM sign_in_codes) * 10 + (SELECT count(*) FROM sign_ins)",
        )
    };
    server.advance_clock(DAY + 15 * MINUTE - 1);
    assert_eq!(rows(), 11);
    server.advance_clock(1);
    assert_eq!(rows(), 1);
    server.advance_clock(12 * HOUR - 15 * MINUTE - 1);
    assert_eq!(rows(), 1);
    assert_unauthorized(&person.get("/whoami"), "expired");
    server.advance_clock(1);
    assert_eq!(rows(), 0);
}

#[test]
fn a_browser_learns_which_sign_ins_are_configured() {
    let tells = |flags: &[&str]| {
        let server = Server::with_world(DEMO, flags);
        server.anonymous().get("/auth/config").expect(200).data()
    };
    let local = json!({ "local": true, "entra": null });
    assert_eq!(tells(&[]), local);
    assert_eq!(tells(&["--entra-audience=api://switchboard"]), local);
    let entra = |scopes: Value| {
        json!({
            "local": true,
            "entra": { "authority": "https://login.microsoftonline.com", "client_id": "dashboard", "scopes": scopes },
        })
    };
    let client = "--entra-client-id=dashboard";
    for (flags, scopes) in [
        (
            vec!["--entra-audience=api://switchboard,other"],
            json!(["api://switchboard/.default"]),
        ),
        (
            vec!["--entra-audience=0d6e2b3c"],
            json!(["api://0d6e2b3c/.default"]),
        ),
        (
            vec![
                "--entra-audience=a",
                "--entra-scope=api://a/chat",
                "--entra-scope=openid,profile",
            ],
            json!(["api://a/chat", "openid", "profile"]),
        ),
    ] {
        assert_eq!(tells(&[&flags[..], &[client]].concat()), entra(scopes));
    }
}

/// Follows a link as the dashboard does; returns the person that it signs in.
#[track_caller]
fn follow(server: &Process, link: &str) -> Value {
    let (page, code) = link.split_once("#code=").unwrap();
    assert_eq!(page, format!("http://{}/dashboard", server.address()));
    let client = server.client();
    let reply = client.post("", "/auth/exchange", &json!({ "code": code }));
    assert_eq!(reply.status, 200, "{reply:?}");
    let data = reply.data();
    client
        .get(data["token"].as_str().unwrap(), "/whoami")
        .data()
}

#[test]
fn the_command_prints_a_link_while_the_server_runs() {
    let workspace = Workspace::with_demo_world();
    let server = workspace.serve_demo_world();
    let link = |arguments: &[&str]| {
        let fixed = [
            "login-link",
            "--tenant",
            "northwind-it",
            "--listen",
            server.address(),
        ];
        workspace
            .ok(fixed.iter().chain(arguments))
            .trim_end()
            .to_owned()
    };
    let whoami = follow(&server, &link(&[]));
    assert_eq!(
        (&whoami["id"], &whoami["role"], &whoami["client_id"]),
        (
            &json!("local:ADMIN"),
            &json!("ADMIN"),
            &json!("northwind-it")
        )
    );
    let whoami = follow(&server, &link(&["--role", "VIEWER"]));
    assert_eq!(whoami["id"], "local:VIEWER");

    let public = link(&["--public-url", "https://chat.example.com/"]);
    assert!(
        public.starts_with("https://chat.example.com/dashboard#code="),
        "{public}"
    );
    let codes: BTreeSet<String> = (0..5).map(|_| link(&[])).collect();
    assert_eq!(codes.len(), 5);
    let code = public.split_once('=').unwrap().1;
    assert_eq!(code.len(), 43);
    let everywhere = workspace.ok([
        "login-link",
        "--tenant",
        "northwind-it",
        "--listen",
        "0.0.0.0:9",
    ]);
    assert!(
        everywhere.starts_with("http://127.0.0.1:9/dashboard#code="),
        "{everywhere}"
    );

    let unknown = workspace.run(["login-link", "--tenant", "nobody"]);
    assert!(
        unknown
            .failure()
            .contains("the tenant \"nobody\" does not exist")
    );
    let wrong = workspace.run(["login-link", "--tenant", "northwind-it", "--role", "admin"]);
    assert_eq!(wrong.code, 2);
    assert!(
        wrong.stderr.contains("must be one of VIEWER, USER, ADMIN"),
        "{wrong:?}"
    );
}

#[test]
fn the_first_start_prints_how_to_sign_in() {
    let workspace = Workspace::new();
    workspace.ok([
        "tenants",
        "create",
        "--client-id",
        "northwind-it",
        "--name",
        "Northwind IT",
    ]);
    let server = workspace.serve::<&str>([]);
    let line = server.wait_for_stdout("/dashboard#code=");
    assert!(
        line.starts_with("Sign in as an administrator of Northwind IT ("),
        "{line}"
    );
    let link = line.split_whitespace().last().unwrap();
    assert_eq!(follow(&server, link)["role"], "ADMIN");
    server.stop();
    let again = workspace.serve::<&str>([]);
    assert_eq!(again.stdout_lines(), Vec::<String>::new());
    again.stop();

    let several = Workspace::with_demo_world();
    let server = several.serve_demo_world();
    server.wait_for_stdout("To sign in, run: switchboard login-link --tenant CLIENT_ID");
    server.stop();
}

#[test]
fn the_demo_prints_a_link_to_its_dashboard() {
    let workspace = Workspace::new();
    let mut command = program(["demo", "--listen", "127.0.0.1:0"]);
    command.current_dir(workspace.path());
    let server = Process::start(command);
    let link = server.wait_for_stdout("/dashboard#code=");
    let whoami = follow(&server, &link);
    assert_eq!(
        (&whoami["role"], &whoami["client_id"]),
        (&json!("ADMIN"), &json!("northwind-it"))
    );
    server.stop();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn only_the_owner_can_read_the_signing_secret_and_it_stays_so() {
    sqlite_only!();
    let server = Server::demo();
    let path = server.folder().join("signing.secret");
    let secret = fs::read(&path).unwrap();
    assert_eq!((secret.len(), mode(&path)), (32, 0o600));
    let person = signed_in(&server, "northwind-it", Role::Admin);
    let credential = person.authorization().map(str::to_owned);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let server = server.restarted();
    assert_eq!((fs::read(&path).unwrap(), mode(&path)), (secret, 0o600));
    server.advance_clock(SECOND);
    ApiClient::new(server.address, credential)
        .get("/whoami")
        .expect(200);
}
