//! What an operator sets about Entra ID tokens, and what the log tells of a refused one.

use std::fs;

use serde_json::{Value, json};

use crate::authority::{AUDIENCE, Authority, NEWCOMER, NORTHWIND_DIRECTORY, attackers, current};
use crate::log_book;
use crate::process::{finish, program};
use crate::support::{DEMO, START, Server};
use crate::wire::Reply;

const APPLICATION: &str = "0d6e2b3c-5a49-4b0e-8f7d-1c2b3a495867";

fn start_server(authority: &Authority, flags: &[&str]) -> Server {
    let url = format!("--entra-authority={}", authority.url());
    Server::with_world(DEMO, &[&[url.as_str()], flags].concat())
}

fn whoami(server: &Server, claims: &Value) -> Reply {
    let token = current().issue(claims);
    server.with_credential(&token).get("/whoami")
}

/// `None` for a token that is accepted.
fn reason(server: &Server, claims: &Value) -> Option<String> {
    let reply = whoami(server, claims);
    let reason = || {
        reply.error()["details"]["reason"]
            .as_str()
            .map(str::to_owned)
    };
    match reply.status {
        200 => None,
        _ => Some(reason().unwrap()),
    }
}

fn with(claims: &Value, name: &str, value: impl Into<Value>) -> Value {
    let mut claims = claims.clone();
    claims[name] = value.into();
    claims
}

#[test]
fn an_applications_id_with_and_without_api_is_one_audience() {
    let authority = Authority::new();
    let uri = format!("api://{APPLICATION}");
    let upper = APPLICATION.to_uppercase();
    for configured in [APPLICATION, uri.as_str(), upper.as_str()] {
        let server = start_server(&authority, &["--entra-audience", configured]);
        let of =
            |audience: &str| reason(&server, &with(&authority.claims(NEWCOMER), "aud", audience));
        for same in [APPLICATION, &uri, &upper, &format!("api://{upper}")] {
            assert_eq!(of(same), None, "{configured} {same}");
        }
        for other in [
            format!("{uri}/"),
            format!("{uri}/access"),
            format!("api://{uri}"),
            format!("spn:{APPLICATION}"),
            format!("https://{APPLICATION}"),
            format!("{{{APPLICATION}}}"),
            format!("api://{}", APPLICATION.replace('-', "")),
            APPLICATION.replace('0', "1"),
        ] {
            assert_eq!(
                of(&other).as_deref(),
                Some("wrong_audience"),
                "{configured} {other}"
            );
        }
    }
    // A name is an audience only as it is written.
    let server = start_server(&authority, &["--entra-audience", AUDIENCE]);
    let bare = with(&authority.claims(NEWCOMER), "aud", "switchboard");
    assert_eq!(reason(&server, &bare).as_deref(), Some("wrong_audience"));
    assert_eq!(reason(&server, &authority.claims(NEWCOMER)), None);
}

#[test]
fn clocks_may_differ_by_five_minutes_or_by_what_the_flag_says() {
    let authority = Authority::new();
    let now = START / 1_000;
    for (flag, leeway) in [
        (None, 300),
        (Some("--entra-leeway=0"), 0),
        (Some("--entra-leeway=3600"), 3_600),
    ] {
        let flags: Vec<&str> = ["--entra-audience", AUDIENCE]
            .into_iter()
            .chain(flag)
            .collect();
        let server = start_server(&authority, &flags);
        let claims = authority.claims(NEWCOMER);
        for (name, within, outside, refused) in [
            ("exp", now - leeway + 1, now - leeway, "expired"),
            ("nbf", now + leeway, now + leeway + 1, "not_yet_valid"),
            ("iat", now + leeway, now + leeway + 1, "not_yet_valid"),
        ] {
            let mut claims = with(&claims, "exp", now + 10_000);
            claims[name] = within.into();
            assert_eq!(reason(&server, &claims), None, "{flag:?} {name}");
            claims[name] = outside.into();
            assert_eq!(
                reason(&server, &claims).as_deref(),
                Some(refused),
                "{flag:?} {name}"
            );
        }
    }
    for refused in [
        "--entra-leeway=3601",
        "--entra-leeway=-1",
        "--entra-leeway=x",
    ] {
        let done = finish(&mut program(["serve", "--entra-audience", "a", refused]));
        assert_eq!(done.code, 2, "{done:?}");
        assert!(done.stderr.contains("--entra-leeway"), "{done:?}");
    }
}

#[test]
fn tokens_of_21vianets_cloud_are_accepted_with_keys_from_a_file() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    fs::write(&path, json!({ "keys": [current().jwk()] }).to_string()).unwrap();
    let keys = format!("--entra-keys={}", path.display());
    let china = "--entra-authority=https://login.partner.microsoftonline.cn";
    let server = Server::with_world(DEMO, &[china, "--entra-audience", AUDIENCE, &keys]);
    let of = |issuer: String| reason(&server, &with(&authority.claims(NEWCOMER), "iss", issuer));
    for issuer in [
        format!("https://sts.chinacloudapi.cn/{NORTHWIND_DIRECTORY}/"),
        format!("https://login.partner.microsoftonline.cn/{NORTHWIND_DIRECTORY}/v2.0"),
    ] {
        assert_eq!(of(issuer.clone()), None, "{issuer}");
    }
    for issuer in [
        format!("https://sts.chinacloudapi.cn/{NORTHWIND_DIRECTORY}"),
        format!("https://sts.chinacloudapi.cn/{APPLICATION}/"),
        format!("http://sts.chinacloudapi.cn/{NORTHWIND_DIRECTORY}/"),
        format!("https://sts.chinacloudapi.cn.example/{NORTHWIND_DIRECTORY}/"),
    ] {
        assert_eq!(
            of(issuer.clone()).as_deref(),
            Some("wrong_issuer"),
            "{issuer}"
        );
    }
}

#[test]
fn the_log_says_what_a_refused_token_has_and_what_was_expected() {
    let book = log_book::open();
    let authority = Authority::new();
    let server = start_server(&authority, &["--entra-audience", AUDIENCE]);
    let good = authority.claims(NEWCOMER);
    let issuer = good["iss"].as_str().unwrap();
    assert_eq!(reason(&server, &good), None);
    let v1 = format!("https://sts.windows.net/{NORTHWIND_DIRECTORY}/");
    let expected =
        format!("expected are the audience \"{AUDIENCE}\" and the issuer \"{issuer}\", \"{v1}\"");
    let came = |audience: &str, issuer: &str, tenant: &str| {
        format!(
            "the token has the audience \"{audience}\", the issuer \"{issuer}\" and the tenant \"{tenant}\", and is valid from "
        )
    };
    let elsewhere = "https://login.example/v2.0";
    let nobody = authority.claims_of(APPLICATION, NEWCOMER);
    let nobodys_issuer = nobody["iss"].as_str().unwrap();
    let home = NORTHWIND_DIRECTORY;
    for (signer, claims, reason, came, expected) in [
        (
            current(),
            with(&good, "aud", "api://zq-other"),
            "wrong_audience",
            came("api://zq-other", issuer, home),
            expected.as_str(),
        ),
        (
            current(),
            with(&good, "iss", elsewhere),
            "wrong_issuer",
            came(AUDIENCE, elsewhere, home),
            &expected,
        ),
        // A terminal would obey these characters.
        (
            current(),
            with(&good, "iss", "https://x/\u{202e}\u{9b}2J\u{7f}"),
            "wrong_issuer",
            came(AUDIENCE, "https://x/\\u{202e}\\u{9b}2J\\u{7f}", home),
            &expected,
        ),
        (
            attackers(),
            good.clone(),
            "bad_signature",
            came(AUDIENCE, issuer, home),
            &expected,
        ),
        (
            current(),
            with(&good, "exp", 7),
            "expired",
            came(AUDIENCE, issuer, home),
            &expected,
        ),
        (
            current(),
            nobody.clone(),
            "unknown_tenant",
            came(AUDIENCE, nobodys_issuer, APPLICATION),
            "expected is the entra_tenant_id of a tenant of this server",
        ),
    ] {
        let token = signer.issue(&claims);
        let reply = server.with_credential(&token).get("/whoami");
        assert_eq!(reply.error()["details"], json!({ "reason": reason }));
        let id = reply.header("x-request-id").unwrap();
        let lines = book.lines();
        let line = lines
            .iter()
            .find(|line| line.contains(&format!(" 401 {reason}: ")) && line.contains(id));
        let line = line.unwrap_or_else(|| panic!("{reason}: {lines:#?}"));
        assert!(line.contains(&came) && line.contains(expected), "{line}");
        let signature = token.rsplit('.').next().unwrap();
        assert!(
            !lines
                .iter()
                .any(|line| line.contains(signature) || line.contains(&token[..40]))
        );
        assert!(!reply.text().contains("expected are"), "{}", reply.text());
    }
    // A claim that is as long as a token, or is an API key, is not shown whole.
    let key = "neo_sk_demo_northwind00000000";
    for (claim, hidden) in [
        ("x".repeat(2_000), "x".repeat(201)),
        (key.to_owned(), key.to_owned()),
    ] {
        let claims = with(&good, "aud", claim);
        assert_eq!(reason(&server, &claims).as_deref(), Some("wrong_audience"));
        assert!(
            !book
                .lines()
                .iter()
                .any(|line| line.contains(" 401 ") && line.contains(&hidden))
        );
    }

    let off = Server::demo();
    assert_eq!(reason(&off, &good).as_deref(), Some("wrong_issuer"));
    let told = "expected is none, because no --entra-audience is given";
    assert!(book.lines().iter().any(|line| line.contains(told)));
}
