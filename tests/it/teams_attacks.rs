//! Attacks on `POST /api/messages`: forged, altered and misused tokens, and activities that are not
//! those of their tokens. None is accepted.

use std::collections::BTreeSet;

use aws_lc_rs::hmac;
use serde_json::{Value, json};

use crate::authority::{attackers, base64url, current, next};
use crate::support::{NORTHWIND, RELAY, SHARED_BOT, START, TECHNICIAN_BOT};
use crate::teams_bots::{
    BotFramework, ISSUER, SERVICE_URL, claims, endorsed, message, post, token, with,
};

/// A token and an activity.
type Sent = (String, Value);
/// A name, what is sent, and the expected status and reason.
type Attack = (&'static str, fn() -> Sent, u16, &'static str);

fn good_activity() -> Value {
    message("1", "Let me in")
}

/// A token that is valid except for this claim; null removes it.
fn claim(name: &str, value: impl Into<Value>) -> Sent {
    let claims = with(claims(SHARED_BOT), &[(&format!("/{name}"), value.into())]);
    (current().issue(&claims), good_activity())
}

/// A token whose claim is null.
fn null(name: &str) -> Sent {
    let mut claims = claims(SHARED_BOT);
    claims[name] = Value::Null;
    (current().issue(&claims), good_activity())
}

/// A token that is valid except for this entry of its header, which the right key has signed.
fn header(name: &str, value: impl Into<Value>) -> Sent {
    let header = with(current().header(), &[(&format!("/{name}"), value.into())]);
    (
        current().sign(&header, &claims(SHARED_BOT)),
        good_activity(),
    )
}

/// The same, signed by the attacker.
fn forged(name: &str, value: impl Into<Value>) -> Sent {
    let header = with(current().header(), &[(&format!("/{name}"), value.into())]);
    (
        attackers().sign(&header, &claims(SHARED_BOT)),
        good_activity(),
    )
}

/// An activity that is valid except for the value at this path; null removes it.
fn activity(path: &str, value: impl Into<Value>) -> Sent {
    let activity = with(good_activity(), &[(path, value.into())]);
    (token(SHARED_BOT), activity)
}

/// A service URL in the claim and in the activity.
fn service_url(url: &str) -> Sent {
    let (token, _) = claim("serviceurl", url);
    (token, with(good_activity(), &[("/serviceUrl", url.into())]))
}

/// The good token's text, changed.
fn text(change: impl FnOnce(String) -> String) -> Sent {
    (change(token(SHARED_BOT)), good_activity())
}

fn by_secret(secret: &[u8]) -> Sent {
    let header = with(current().header(), &[("/alg", "HS256".into())]);
    let signed = format!(
        "{}.{}",
        base64url(header.to_string()),
        base64url(claims(SHARED_BOT).to_string())
    );
    let tag = hmac::sign(
        &hmac::Key::new(hmac::HMAC_SHA256, secret),
        signed.as_bytes(),
    );
    (format!("{signed}.{}", base64url(tag)), good_activity())
}

fn adding(entry: &str) -> Sent {
    let claims = claims(SHARED_BOT).to_string();
    let claims = format!("{}, {entry}}}", claims.strip_suffix('}').unwrap());
    let token = current().sign_text(&current().header().to_string(), &claims);
    (token, good_activity())
}

fn of_key(kid: &str) -> Sent {
    header("kid", kid)
}

const NOW: i64 = START / 1_000;

const ATTACKS: &[Attack] = &[
    // No token, or something else.
    (
        "an empty credential",
        || text(|_| String::new()),
        401,
        "malformed",
    ),
    (
        "the relay's API key",
        || (RELAY.to_owned(), good_activity()),
        401,
        "malformed",
    ),
    (
        "an account's API key",
        || (NORTHWIND.to_owned(), good_activity()),
        401,
        "malformed",
    ),
    (
        "words",
        || text(|_| "let me in".to_owned()),
        401,
        "malformed",
    ),
    (
        "two parts of three",
        || text(|token| token.rsplit_once('.').unwrap().0.to_owned()),
        401,
        "malformed",
    ),
    (
        "a fourth part",
        || text(|token| format!("{token}.AAAA")),
        401,
        "malformed",
    ),
    (
        "no signature",
        || text(|token| format!("{}.", token.rsplit_once('.').unwrap().0)),
        401,
        "bad_signature",
    ),
    (
        "a longer token than any",
        || claim("x", "x".repeat(20_000)),
        401,
        "malformed",
    ),
    // The algorithm is the server's choice.
    ("alg none", || header("alg", "none"), 401, "malformed"),
    ("alg None", || header("alg", "None"), 401, "malformed"),
    ("no alg", || header("alg", Value::Null), 401, "malformed"),
    (
        "alg RS384, rightly signed",
        || {
            let header = with(current().header(), &[("/alg", "RS384".into())]);
            (
                current().sign_as("RS384", &header, &claims(SHARED_BOT)),
                good_activity(),
            )
        },
        401,
        "bad_signature",
    ),
    (
        "alg RS512, rightly signed",
        || {
            let header = with(current().header(), &[("/alg", "RS512".into())]);
            (
                current().sign_as("RS512", &header, &claims(SHARED_BOT)),
                good_activity(),
            )
        },
        401,
        "bad_signature",
    ),
    (
        "alg PS256, rightly signed",
        || {
            let header = with(current().header(), &[("/alg", "PS256".into())]);
            (
                current().sign_as("PS256", &header, &claims(SHARED_BOT)),
                good_activity(),
            )
        },
        401,
        "bad_signature",
    ),
    (
        "HS256 with the modulus as the secret",
        || by_secret(&current().numbers().0),
        401,
        "bad_signature",
    ),
    (
        "HS256 with the public key as the secret",
        || by_secret(&current().der()),
        401,
        "bad_signature",
    ),
    (
        "HS256 with an empty secret",
        || by_secret(b""),
        401,
        "bad_signature",
    ),
    // The key.
    ("no kid", || header("kid", Value::Null), 401, "unknown_key"),
    (
        "a kid that is not known",
        || of_key("nobody's"),
        401,
        "unknown_key",
    ),
    (
        "a kid that is a list",
        || header("kid", json!(["current-key"])),
        401,
        "unknown_key",
    ),
    (
        "an attacker's key under the right kid",
        || forged("typ", "JWT"),
        401,
        "bad_signature",
    ),
    (
        "an embedded key",
        || forged("jwk", attackers().jwk()),
        401,
        "bad_signature",
    ),
    (
        "an address of keys",
        || forged("jku", "https://evil.example/keys"),
        401,
        "bad_signature",
    ),
    (
        "a certificate",
        || forged("x5c", json!(["AAAA"])),
        401,
        "bad_signature",
    ),
    (
        "a key for encryption",
        || {
            (
                next().sign(&next().header(), &claims(SHARED_BOT)),
                good_activity(),
            )
        },
        401,
        "unknown_key",
    ),
    (
        "a key without a use",
        || {
            let header = with(next().header(), &[("/kid", "no-use".into())]);
            (next().sign(&header, &claims(SHARED_BOT)), good_activity())
        },
        401,
        "unknown_key",
    ),
    (
        "a key of 1,024 bits",
        || of_key("short"),
        401,
        "unknown_key",
    ),
    (
        "a key of another algorithm",
        || {
            let header = with(next().header(), &[("/kid", "rs512".into())]);
            (next().sign(&header, &claims(SHARED_BOT)), good_activity())
        },
        401,
        "unknown_key",
    ),
    (
        "a key that endorses another channel",
        || {
            let header = with(next().header(), &[("/kid", "webchat".into())]);
            (next().sign(&header, &claims(SHARED_BOT)), good_activity())
        },
        403,
        "wrong_channel",
    ),
    (
        "a key without endorsements",
        || {
            let header = with(next().header(), &[("/kid", "unendorsed".into())]);
            (next().sign(&header, &claims(SHARED_BOT)), good_activity())
        },
        403,
        "wrong_channel",
    ),
    (
        "a critical extension",
        || header("crit", json!(["exp"])),
        401,
        "malformed",
    ),
    (
        "a critical extension that nobody knows",
        || header("crit", json!(["http://evil.example"])),
        401,
        "malformed",
    ),
    (
        "no critical extension",
        || header("crit", json!([])),
        401,
        "malformed",
    ),
    (
        "another type of token",
        || header("typ", "at+jwt"),
        401,
        "bad_signature",
    ),
    // The issuer: emulators, skills, the bot's own tokens.
    (
        "no issuer",
        || claim("iss", Value::Null),
        401,
        "missing_claim",
    ),
    (
        "an issuer with a slash behind",
        || claim("iss", format!("{ISSUER}/")),
        401,
        "wrong_issuer",
    ),
    (
        "an issuer in capitals",
        || claim("iss", ISSUER.to_uppercase()),
        401,
        "wrong_issuer",
    ),
    (
        "a list of issuers",
        || claim("iss", json!([ISSUER])),
        401,
        "malformed",
    ),
    (
        "the government's issuer",
        || claim("iss", "https://api.botframework.us"),
        401,
        "wrong_issuer",
    ),
    (
        "an emulator's token",
        || {
            claim(
                "iss",
                "https://sts.windows.net/d6d49420-f39b-4df7-a1dc-d59a935871db/",
            )
        },
        401,
        "wrong_issuer",
    ),
    (
        "a skill's token",
        || {
            let claims = with(claims(SHARED_BOT), &[
            ("/iss", "https://login.microsoftonline.com/ab0de0a1-fa00-4c1a-9cab-ab0de000a1fa/v2.0".into()),
            ("/ver", "2.0".into()), ("/azp", TECHNICIAN_BOT.into()),
        ]);
            (current().issue(&claims), good_activity())
        },
        401,
        "wrong_issuer",
    ),
    (
        "the bot's own token for the connector",
        || {
            let claims = with(
                claims(SHARED_BOT),
                &[
                    (
                        "/iss",
                        "https://sts.windows.net/ab0de0a1-fa00-4c1a-9cab-ab0de000a1fa/".into(),
                    ),
                    ("/aud", ISSUER.into()),
                    ("/appid", SHARED_BOT.into()),
                ],
            );
            (current().issue(&claims), good_activity())
        },
        401,
        "wrong_issuer",
    ),
    // The audience.
    (
        "no audience",
        || claim("aud", Value::Null),
        401,
        "missing_claim",
    ),
    (
        "an audience that is null",
        || null("aud"),
        401,
        "missing_claim",
    ),
    (
        "another audience",
        || claim("aud", "11111111-2222-4333-8444-555555555555"),
        401,
        "wrong_audience",
    ),
    (
        "the connector as the audience",
        || claim("aud", ISSUER),
        401,
        "wrong_audience",
    ),
    (
        "a list of audiences with ours",
        || claim("aud", json!([SHARED_BOT])),
        401,
        "wrong_audience",
    ),
    (
        "both bots as the audience",
        || claim("aud", json!([SHARED_BOT, TECHNICIAN_BOT])),
        401,
        "wrong_audience",
    ),
    (
        "an audience with the account's prefix",
        || claim("aud", format!("28:{SHARED_BOT}")),
        401,
        "wrong_audience",
    ),
    (
        "an audience as a URI",
        || claim("aud", format!("api://{SHARED_BOT}")),
        401,
        "wrong_audience",
    ),
    (
        "an audience in capitals",
        || claim("aud", SHARED_BOT.to_uppercase()),
        401,
        "wrong_audience",
    ),
    (
        "an audience with a space behind",
        || claim("aud", format!("{SHARED_BOT} ")),
        401,
        "wrong_audience",
    ),
    (
        "an audience that is a number",
        || claim("aud", 28),
        401,
        "wrong_audience",
    ),
    (
        "two audiences",
        || adding(&format!(r#""aud": "{SHARED_BOT}""#)),
        401,
        "malformed",
    ),
    (
        "two issuers",
        || adding(&format!(r#""iss": "{ISSUER}""#)),
        401,
        "malformed",
    ),
    // The times.
    ("no end", || claim("exp", Value::Null), 401, "missing_claim"),
    ("an end that is null", || null("exp"), 401, "missing_claim"),
    (
        "an end that is text",
        || claim("exp", "9999999999"),
        401,
        "malformed",
    ),
    (
        "an end five minutes ago",
        || claim("exp", NOW - 300),
        401,
        "expired",
    ),
    ("an end at 0", || claim("exp", 0), 401, "expired"),
    (
        "a beginning in 301 seconds",
        || claim("nbf", NOW + 301),
        401,
        "not_yet_valid",
    ),
    (
        "issued in a year",
        || claim("iat", NOW + 31_536_000),
        401,
        "not_yet_valid",
    ),
    // The service URL: the bot's token goes there.
    (
        "no service URL in the token",
        || claim("serviceurl", Value::Null),
        401,
        "missing_claim",
    ),
    (
        "a service URL that is a list",
        || claim("serviceurl", json!([SERVICE_URL])),
        401,
        "malformed",
    ),
    (
        "another service URL in the activity",
        || activity("/serviceUrl", "http://127.0.0.1:9/other/"),
        403,
        "wrong_service_url",
    ),
    (
        "a service URL without the slash",
        || activity("/serviceUrl", SERVICE_URL.trim_end_matches('/')),
        403,
        "wrong_service_url",
    ),
    (
        "no service URL in the activity",
        || activity("/serviceUrl", Value::Null),
        403,
        "wrong_service_url",
    ),
    (
        "a foreign host in both",
        || service_url("https://evil.example/teams/"),
        403,
        "wrong_service_url",
    ),
    (
        "a host under a listed one",
        || service_url("https://evil.smba.trafficmanager.net/"),
        403,
        "wrong_service_url",
    ),
    (
        "a neighbor of a listed host",
        || service_url("https://evil.trafficmanager.net/"),
        403,
        "wrong_service_url",
    ),
    (
        "a listed host as a prefix",
        || service_url("https://smba.trafficmanager.net.evil.example/"),
        403,
        "wrong_service_url",
    ),
    (
        "a listed host as a user",
        || service_url("https://smba.trafficmanager.net@evil.example/"),
        403,
        "wrong_service_url",
    ),
    (
        "a backslash behind a listed host",
        || service_url("https://evil.example\\@smba.trafficmanager.net/"),
        403,
        "wrong_service_url",
    ),
    (
        "a listed host by http",
        || service_url("http://smba.trafficmanager.net/"),
        403,
        "wrong_service_url",
    ),
    (
        "a listed host at another port",
        || service_url("https://smba.trafficmanager.net:8443/"),
        403,
        "wrong_service_url",
    ),
    (
        "a listed host with a dot behind",
        || service_url("https://smba.trafficmanager.net./"),
        403,
        "wrong_service_url",
    ),
    (
        "a loopback host that is not listed",
        || service_url("http://localhost:9/"),
        403,
        "wrong_service_url",
    ),
    (
        "a service URL with a query",
        || service_url("http://127.0.0.1:9/?to="),
        403,
        "wrong_service_url",
    ),
    (
        "a service URL that is none",
        || service_url("smba.trafficmanager.net"),
        403,
        "wrong_service_url",
    ),
    // The activity is for another bot, or of another channel.
    (
        "another recipient",
        || activity("/recipient/id", format!("28:{TECHNICIAN_BOT}")),
        403,
        "wrong_recipient",
    ),
    (
        "a recipient that is no bot",
        || activity("/recipient/id", "29:kim"),
        403,
        "wrong_recipient",
    ),
    (
        "no recipient",
        || activity("/recipient", Value::Null),
        403,
        "wrong_recipient",
    ),
    (
        "a recipient that is a list",
        || activity("/recipient/id", json!([SHARED_BOT])),
        403,
        "wrong_recipient",
    ),
    (
        "another bot's token",
        || (token(TECHNICIAN_BOT), good_activity()),
        403,
        "wrong_recipient",
    ),
    (
        "a twice prefixed recipient",
        || activity("/recipient/id", format!("28:28:{SHARED_BOT}")),
        403,
        "wrong_recipient",
    ),
    (
        "another channel",
        || activity("/channelId", "webchat"),
        403,
        "wrong_channel",
    ),
    (
        "another channel that the key endorses",
        || {
            let header = with(next().header(), &[("/kid", "webchat".into())]);
            let activity = with(good_activity(), &[("/channelId", "webchat".into())]);
            (next().sign(&header, &claims(SHARED_BOT)), activity)
        },
        403,
        "wrong_channel",
    ),
    (
        "the emulator's channel",
        || activity("/channelId", "emulator"),
        403,
        "wrong_channel",
    ),
    (
        "the channel in capitals",
        || activity("/channelId", "MSTEAMS"),
        403,
        "wrong_channel",
    ),
    (
        "no channel",
        || activity("/channelId", Value::Null),
        403,
        "wrong_channel",
    ),
];

/// The key set of the attacks: one good key, and keys that may not sign messages of Teams.
fn keys() -> Vec<Value> {
    let named = |kid: &str, changes: &[(&str, Value)]| {
        let mut changes = changes.to_vec();
        changes.push(("/kid", kid.into()));
        with(endorsed(next(), &["msteams"]), &changes)
    };
    vec![
        endorsed(current(), &["msteams", "webchat"]),
        named("next-key", &[("/use", "enc".into())]),
        named("no-use", &[("/use", Value::Null)]),
        named("short", &[("/n", base64url([0xff; 128]).into())]),
        named("rs512", &[("/alg", "RS512".into())]),
        named(
            "webchat",
            &[("/endorsements", json!(["webchat", "directline"]))],
        ),
        named("unendorsed", &[("/endorsements", Value::Null)]),
    ]
}

#[test]
fn no_attack_is_accepted_and_each_gets_401_or_403_with_its_reason() {
    let framework = BotFramework::new();
    framework.publish(&keys());
    let server = framework.serve();
    let mut names = BTreeSet::new();
    for (name, attack, status, reason) in ATTACKS {
        let (token, activity) = attack();
        let reply = post(&server, &token, &activity);
        let body = reply.json();
        assert_eq!(
            (reply.status, &body["error"]["details"]["reason"]),
            (*status, &json!(reason)),
            "{name}: {body}"
        );
        assert!(names.insert(*name), "{name} is there twice");
    }
    assert!(names.len() >= 60, "{}", names.len());
    for table in [
        "teams_conversations",
        "teams_activities",
        "teams_deliveries",
        "sessions",
        "messages",
    ] {
        let rows: i64 = server.stored(&format!("SELECT count(*) FROM {table}"));
        assert_eq!(rows, 0, "{table}");
    }
    // What the attacks differ from is accepted.
    assert_eq!(
        post(&server, &token(SHARED_BOT), &good_activity()).status,
        202
    );
}
