//! Attacks by token: forged, altered, oversized and misused ones, each with its reason.

use std::collections::BTreeSet;

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RSA_PKCS1_SHA512, RSA_PSS_SHA256};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::authority::{
    AUDIENCE, Authority, FABRIKAM_DIRECTORY, NEWCOMER, NORTHWIND_DIRECTORY, attackers, base64url,
    current, next,
};
use crate::support::{DEMO, START, Server};

/// The material of an attacker.
struct Bench {
    /// The authority's base URL.
    issuer: String,
    /// The URL at which the attacker serves keys.
    attacker_url: String,
    /// Valid claims.
    claims: Value,
}

impl Bench {
    /// A token that is valid except for this claim.
    fn with(&self, name: &str, value: impl Into<Value>) -> String {
        current().issue(&self.changed(name, value))
    }

    fn changed(&self, name: &str, value: impl Into<Value>) -> Value {
        let mut claims = self.claims.clone();
        claims[name] = value.into();
        claims
    }

    /// A token that is valid except that this claim is missing.
    fn without(&self, name: &str) -> String {
        let mut claims = self.claims.clone();
        claims.as_object_mut().unwrap().remove(name);
        current().issue(&claims)
    }

    /// A token of the valid claims with this text appended inside the JSON object.
    fn adding(&self, text: &str) -> String {
        let claims = self.claims.to_string();
        let claims = format!("{}, {text}}}", claims.strip_suffix('}').unwrap());
        current().sign_text(&current().header().to_string(), &claims)
    }

    /// A token that is valid except for this header entry, which the authority itself signed.
    fn headed(&self, name: &str, value: impl Into<Value>) -> String {
        current().sign(&headed(name, value), &self.claims)
    }

    /// The same token, signed by the attacker.
    fn forged(&self, name: &str, value: impl Into<Value>) -> String {
        attackers().sign(&headed(name, value), &self.claims)
    }

    fn good(&self) -> String {
        current().issue(&self.claims)
    }

    /// The valid token with another signature.
    fn resigned(&self, change: impl FnOnce(Vec<u8>) -> Vec<u8>) -> String {
        let good = self.good();
        let (signed, signature) = good.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        format!("{signed}.{}", base64url(change(signature)))
    }

    /// The valid token's signature on other claims.
    fn swapped(&self, claims: &Value) -> String {
        let good = self.good();
        let (signed, signature) = good.rsplit_once('.').unwrap();
        let header = signed.split('.').next().unwrap();
        format!("{header}.{}.{signature}", base64url(claims.to_string()))
    }

    /// A token with an HMAC signature, as if the public key were the shared secret.
    fn by_secret(&self, alg: &str, secret: &[u8]) -> String {
        let kind = match alg {
            "HS384" => hmac::HMAC_SHA384,
            "HS512" => hmac::HMAC_SHA512,
            _ => hmac::HMAC_SHA256,
        };
        let header = headed("alg", alg).to_string();
        let signed = format!(
            "{}.{}",
            base64url(header),
            base64url(self.claims.to_string())
        );
        let tag = hmac::sign(&hmac::Key::new(kind, secret), signed.as_bytes());
        format!("{signed}.{}", base64url(tag))
    }
}

fn headed(name: &str, value: impl Into<Value>) -> Value {
    let mut header = current().header();
    header[name] = value.into();
    header
}

fn unheaded(name: &str) -> Value {
    let mut header = current().header();
    header.as_object_mut().unwrap().remove(name);
    header
}

fn pem(der: &[u8]) -> String {
    format!(
        "-----BEGIN RSA PUBLIC KEY-----\n{}\n-----END RSA PUBLIC KEY-----\n",
        STANDARD.encode(der)
    )
}

/// Changes the unused bits in the last character of unpadded base64url.
fn with_stray_bits(text: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let last = text.as_bytes()[text.len() - 1];
    let place = ALPHABET.iter().position(|byte| *byte == last).unwrap();
    let other = char::from(ALPHABET[place ^ 1]);
    format!("{}{other}", &text[..text.len() - 1])
}

/// Adds the modulus to a signature: an equivalent number for a verifier that does not check the
/// range.
fn plus_modulus(signature: &[u8]) -> Vec<u8> {
    let (modulus, _) = current().numbers();
    let mut sum = vec![0; signature.len() + 1];
    let mut carry = 0;
    for place in (0..signature.len()).rev() {
        let digits = u16::from(signature[place]) + u16::from(modulus[place]) + carry;
        sum[place + 1] = digits.to_be_bytes()[1];
        carry = digits >> 8;
    }
    sum[0] = carry.to_be_bytes()[1];
    if sum[0] == 0 { sum[1..].to_vec() } else { sum }
}

/// A name, the token, and the expected reason.
type Attack = (&'static str, fn(&Bench) -> String, &'static str);

const ATTACKS: &[Attack] = &[
    // The algorithm is the server's choice.
    (
        "none, without a signature",
        |b| {
            let header = json!({ "alg": "none", "typ": "JWT", "kid": "current-key" });
            format!(
                "{}.{}.",
                base64url(header.to_string()),
                base64url(b.claims.to_string())
            )
        },
        "malformed",
    ),
    (
        "none, with a good signature",
        |b| b.headed("alg", "none"),
        "malformed",
    ),
    (
        "None in another case",
        |b| b.headed("alg", "nOnE"),
        "malformed",
    ),
    ("NONE in capitals", |b| b.headed("alg", "NONE"), "malformed"),
    (
        "no alg",
        |b| current().sign(&unheaded("alg"), &b.claims),
        "malformed",
    ),
    (
        "an alg that is null",
        |b| b.headed("alg", Value::Null),
        "malformed",
    ),
    ("an alg that is empty", |b| b.headed("alg", ""), "malformed"),
    (
        "an alg that is a number",
        |b| b.headed("alg", 256),
        "malformed",
    ),
    (
        "an alg that is a list",
        |b| b.headed("alg", json!(["RS256"])),
        "malformed",
    ),
    (
        "rs256 in small letters",
        |b| b.headed("alg", "rs256"),
        "malformed",
    ),
    (
        "an alg that nobody knows",
        |b| b.headed("alg", "RS257"),
        "malformed",
    ),
    (
        "HS256 with the modulus as the secret",
        |b| b.by_secret("HS256", &current().numbers().0),
        "bad_signature",
    ),
    (
        "HS256 with the public key's DER as the secret",
        |b| b.by_secret("HS256", &current().der()),
        "bad_signature",
    ),
    (
        "HS256 with the public key's PEM as the secret",
        |b| b.by_secret("HS256", pem(&current().der()).as_bytes()),
        "bad_signature",
    ),
    (
        "HS256 with the JWK as the secret",
        |b| b.by_secret("HS256", current().jwk().to_string().as_bytes()),
        "bad_signature",
    ),
    (
        "HS256 with an empty secret",
        |b| b.by_secret("HS256", b""),
        "bad_signature",
    ),
    (
        "HS384 with the public key as the secret",
        |b| b.by_secret("HS384", &current().der()),
        "bad_signature",
    ),
    (
        "HS512 with the public key as the secret",
        |b| b.by_secret("HS512", &current().der()),
        "bad_signature",
    ),
    (
        "HS256 over an RS256 signature",
        |b| b.headed("alg", "HS256"),
        "bad_signature",
    ),
    (
        "RS384, rightly signed",
        |b| current().sign_as("RS384", &headed("alg", "RS384"), &b.claims),
        "bad_signature",
    ),
    (
        "RS512, rightly signed",
        |b| current().sign_as("RS512", &headed("alg", "RS512"), &b.claims),
        "bad_signature",
    ),
    (
        "PS256, rightly signed",
        |b| current().sign_as("PS256", &headed("alg", "PS256"), &b.claims),
        "bad_signature",
    ),
    (
        "RS256 said, PSS done",
        |b| current().sign_as("PS256", &current().header(), &b.claims),
        "bad_signature",
    ),
    (
        "RS256 said, RS512 done",
        |b| current().sign_as("RS512", &current().header(), &b.claims),
        "bad_signature",
    ),
    (
        "RS512 said, RS256 done",
        |b| b.headed("alg", "RS512"),
        "bad_signature",
    ),
    ("ES256 said", |b| b.headed("alg", "ES256"), "bad_signature"),
    ("EdDSA said", |b| b.headed("alg", "EdDSA"), "bad_signature"),
    // The authority chooses the key.
    (
        "a kid that is not known",
        |b| b.headed("kid", "somebody-elses"),
        "unknown_key",
    ),
    (
        "no kid",
        |b| current().sign(&unheaded("kid"), &b.claims),
        "unknown_key",
    ),
    ("an empty kid", |b| b.headed("kid", ""), "unknown_key"),
    (
        "a kid that is null",
        |b| b.headed("kid", Value::Null),
        "unknown_key",
    ),
    (
        "a kid that is a number",
        |b| b.headed("kid", 0),
        "unknown_key",
    ),
    (
        "a kid that is a list",
        |b| b.headed("kid", json!(["current-key"])),
        "unknown_key",
    ),
    (
        "a kid in capitals",
        |b| b.headed("kid", "CURRENT-KEY"),
        "unknown_key",
    ),
    (
        "a kid with a space behind",
        |b| b.headed("kid", "current-key "),
        "unknown_key",
    ),
    (
        "a kid that is a path",
        |b| b.headed("kid", "../../../../dev/null"),
        "unknown_key",
    ),
    (
        "a kid that is SQL",
        |b| b.headed("kid", "x' OR '1'='1"),
        "unknown_key",
    ),
    (
        "the kid of another key of the authority",
        |b| b.headed("kid", "next-key"),
        "bad_signature",
    ),
    (
        "a key of the attacker's under the authority's kid",
        |b| attackers().issue(&b.claims),
        "bad_signature",
    ),
    (
        "an embedded jwk under the authority's kid",
        |b| b.forged("jwk", attackers().jwk()),
        "bad_signature",
    ),
    (
        "an embedded jwk under a kid of its own",
        |b| {
            let mut header = headed("jwk", attackers().jwk());
            header["kid"] = "attackers".into();
            attackers().sign(&header, &b.claims)
        },
        "unknown_key",
    ),
    (
        "an embedded jwk and no kid",
        |b| {
            let mut header = unheaded("kid");
            header["jwk"] = attackers().jwk();
            attackers().sign(&header, &b.claims)
        },
        "unknown_key",
    ),
    (
        "a jku of the attacker's",
        |b| b.forged("jku", format!("{}/keys", b.attacker_url)),
        "bad_signature",
    ),
    (
        "a jku and a kid of the attacker's",
        |b| {
            let mut header = headed("jku", format!("{}/keys", b.attacker_url));
            header["kid"] = "attackers".into();
            attackers().sign(&header, &b.claims)
        },
        "unknown_key",
    ),
    (
        "an x5u of the attacker's",
        |b| b.forged("x5u", format!("{}/chain", b.attacker_url)),
        "bad_signature",
    ),
    (
        "an x5c of the attacker's",
        |b| b.forged("x5c", json!([STANDARD.encode(attackers().der())])),
        "bad_signature",
    ),
    (
        "an x5t of the authority's",
        |b| b.forged("x5t", "current-key"),
        "bad_signature",
    ),
    // Critical header parameters are refused.
    (
        "crit, naming a claim",
        |b| b.headed("crit", json!(["exp"])),
        "malformed",
    ),
    (
        "crit, naming b64",
        |b| {
            let mut header = headed("crit", json!(["b64"]));
            header["b64"] = false.into();
            current().sign(&header, &b.claims)
        },
        "malformed",
    ),
    ("crit, empty", |b| b.headed("crit", json!([])), "malformed"),
    ("crit, null", |b| b.headed("crit", Value::Null), "malformed"),
    (
        "the type of a session's token",
        |b| b.headed("typ", "session+jwt"),
        "bad_signature",
    ),
    (
        "the type of a sign-in token",
        |b| b.headed("typ", "signin+jwt"),
        "bad_signature",
    ),
    (
        "a type of somebody else's",
        |b| b.headed("typ", "logout+jwt"),
        "bad_signature",
    ),
    (
        "a type that is a number",
        |b| b.headed("typ", 1),
        "bad_signature",
    ),
    // The audience.
    (
        "another audience",
        |b| b.with("aud", "api://somebody-else"),
        "wrong_audience",
    ),
    (
        "Microsoft Graph's audience",
        |b| b.with("aud", "00000003-0000-0000-c000-000000000000"),
        "wrong_audience",
    ),
    (
        "a list of audiences with ours",
        |b| b.with("aud", json!([AUDIENCE])),
        "wrong_audience",
    ),
    (
        "a list of audiences with ours second",
        |b| b.with("aud", json!(["x", AUDIENCE])),
        "wrong_audience",
    ),
    (
        "an audience with a slash behind",
        |b| b.with("aud", format!("{AUDIENCE}/")),
        "wrong_audience",
    ),
    (
        "an audience that begins as ours",
        |b| b.with("aud", format!("{AUDIENCE}.evil.example")),
        "wrong_audience",
    ),
    (
        "an audience in capitals",
        |b| b.with("aud", AUDIENCE.to_uppercase()),
        "wrong_audience",
    ),
    (
        "an audience that is a number",
        |b| b.with("aud", 1),
        "wrong_audience",
    ),
    (
        "an audience that is an object",
        |b| b.with("aud", json!({ "api://switchboard": true })),
        "wrong_audience",
    ),
    ("an empty audience", |b| b.with("aud", ""), "wrong_audience"),
    ("no audience", |b| b.without("aud"), "missing_claim"),
    (
        "an audience that is null",
        |b| b.with("aud", Value::Null),
        "missing_claim",
    ),
    // The issuer.
    (
        "the issuer of another directory",
        |b| b.with("iss", format!("{}/{FABRIKAM_DIRECTORY}/v2.0", b.issuer)),
        "wrong_issuer",
    ),
    (
        "the directory of another issuer",
        |b| b.with("tid", FABRIKAM_DIRECTORY),
        "wrong_issuer",
    ),
    (
        "the old issuer of another directory",
        |b| {
            b.with(
                "iss",
                format!("https://sts.windows.net/{FABRIKAM_DIRECTORY}/"),
            )
        },
        "wrong_issuer",
    ),
    (
        "the issuer as the document writes it",
        |b| b.with("iss", format!("{}/{{tenantid}}/v2.0", b.issuer)),
        "wrong_issuer",
    ),
    (
        "the placeholder as the directory",
        |b| {
            let mut claims = b.changed("tid", "{tenantid}");
            claims["iss"] = format!("{}/{{tenantid}}/v2.0", b.issuer).into();
            current().issue(&claims)
        },
        "malformed",
    ),
    (
        "the issuer common",
        |b| b.with("iss", format!("{}/common/v2.0", b.issuer)),
        "wrong_issuer",
    ),
    (
        "the issuer of another host",
        |b| {
            b.with(
                "iss",
                format!("https://evil.example/{NORTHWIND_DIRECTORY}/v2.0"),
            )
        },
        "wrong_issuer",
    ),
    (
        "the issuer with a slash behind",
        |b| b.with("iss", format!("{}/{NORTHWIND_DIRECTORY}/v2.0/", b.issuer)),
        "wrong_issuer",
    ),
    (
        "the issuer by https",
        |b| {
            b.with(
                "iss",
                format!(
                    "{}/{NORTHWIND_DIRECTORY}/v2.0",
                    b.issuer.replace("http:", "https:")
                ),
            )
        },
        "wrong_issuer",
    ),
    (
        "the issuer in capitals",
        |b| {
            b.with(
                "iss",
                format!("{}/{}/v2.0", b.issuer, NORTHWIND_DIRECTORY.to_uppercase()),
            )
        },
        "wrong_issuer",
    ),
    (
        "the issuer with a query",
        |b| b.with("iss", format!("{}/{NORTHWIND_DIRECTORY}/v2.0?x", b.issuer)),
        "wrong_issuer",
    ),
    ("no issuer", |b| b.without("iss"), "missing_claim"),
    ("an empty issuer", |b| b.with("iss", ""), "missing_claim"),
    (
        "an issuer that is a list",
        |b| {
            b.with(
                "iss",
                json!([format!("{}/{NORTHWIND_DIRECTORY}/v2.0", b.issuer)]),
            )
        },
        "malformed",
    ),
    (
        "the issuer of a session's token",
        |b| b.with("iss", "switchboard:session"),
        "bad_signature",
    ),
    // The directory and the person.
    ("no directory", |b| b.without("tid"), "missing_claim"),
    (
        "a directory that is a number",
        |b| b.with("tid", 5),
        "malformed",
    ),
    (
        "a directory that is a path",
        |b| {
            let mut claims = b.changed("tid", "a/b");
            claims["iss"] = format!("{}/a/b/v2.0", b.issuer).into();
            current().issue(&claims)
        },
        "malformed",
    ),
    (
        "a directory that is no tenant's",
        |b| {
            let mut claims = b.changed("tid", "99999999-0000-4000-8000-000000000000");
            claims["iss"] =
                format!("{}/99999999-0000-4000-8000-000000000000/v2.0", b.issuer).into();
            current().issue(&claims)
        },
        "unknown_tenant",
    ),
    (
        "a tenant's client_id as the directory",
        |b| {
            let mut claims = b.changed("tid", "northwind-it");
            claims["iss"] = format!("{}/northwind-it/v2.0", b.issuer).into();
            current().issue(&claims)
        },
        "unknown_tenant",
    ),
    ("nobody", |b| b.without("oid"), "missing_claim"),
    (
        "somebody who is null",
        |b| b.with("oid", Value::Null),
        "missing_claim",
    ),
    (
        "somebody who is empty",
        |b| b.with("oid", ""),
        "missing_claim",
    ),
    (
        "somebody who is a number",
        |b| b.with("oid", 7),
        "malformed",
    ),
    (
        "somebody who is a list",
        |b| b.with("oid", json!([NEWCOMER])),
        "malformed",
    ),
    (
        "the name of a local sign-in",
        |b| b.with("oid", "local:ADMIN"),
        "malformed",
    ),
    // The times.
    ("no end", |b| b.without("exp"), "missing_claim"),
    (
        "an end that is null",
        |b| b.with("exp", Value::Null),
        "missing_claim",
    ),
    (
        "an end that is text",
        |b| b.with("exp", "1764003600"),
        "malformed",
    ),
    ("an end that is true", |b| b.with("exp", true), "malformed"),
    (
        "an end five minutes ago",
        |b| b.with("exp", START / 1_000 - 300),
        "expired",
    ),
    (
        "an end a year ago",
        |b| b.with("exp", START / 1_000 - 31_536_000),
        "expired",
    ),
    ("an end at 0", |b| b.with("exp", 0), "expired"),
    (
        "an end before all time",
        |b| b.with("exp", i64::MIN),
        "expired",
    ),
    (
        "an end at minus infinity, nearly",
        |b| b.with("exp", -1.0e300),
        "expired",
    ),
    ("no beginning", |b| b.without("nbf"), "missing_claim"),
    (
        "a beginning that is text",
        |b| b.with("nbf", "0"),
        "malformed",
    ),
    (
        "a beginning in 301 seconds",
        |b| b.with("nbf", START / 1_000 + 301),
        "not_yet_valid",
    ),
    (
        "a beginning past all time",
        |b| b.with("nbf", i64::MAX),
        "not_yet_valid",
    ),
    (
        "issued in a year",
        |b| b.with("iat", START / 1_000 + 31_536_000),
        "not_yet_valid",
    ),
    (
        "issued past all time",
        |b| b.with("iat", 1.0e300),
        "not_yet_valid",
    ),
    // The scopes and roles.
    (
        "a program's token without a role",
        |b| b.without("scp"),
        "missing_claim",
    ),
    (
        "a program's token that says so",
        |b| b.with("idtyp", "app"),
        "missing_claim",
    ),
    (
        "scopes that are blank",
        |b| b.with("scp", " "),
        "missing_claim",
    ),
    (
        "scopes that are a list",
        |b| b.with("scp", json!(["access_as_user"])),
        "missing_claim",
    ),
    // Duplicates.
    (
        "two audiences",
        |b| b.adding(r#""aud": "api://switchboard""#),
        "malformed",
    ),
    (
        "two issuers",
        |b| {
            b.adding(&format!(
                r#""iss": "{}/{NORTHWIND_DIRECTORY}/v2.0""#,
                b.issuer
            ))
        },
        "malformed",
    ),
    (
        "two directories",
        |b| b.adding(&format!(r#""tid": "{NORTHWIND_DIRECTORY}""#)),
        "malformed",
    ),
    (
        "two people",
        |b| b.adding(&format!(r#""oid": "{NEWCOMER}""#)),
        "malformed",
    ),
    (
        "two ends",
        |b| b.adding(r#""exp": 9999999999"#),
        "malformed",
    ),
    (
        "two lists of roles, one spelt with an escape",
        |b| b.adding(r#""roles": ["Viewer"], "role\u0073": ["Admin"]"#),
        "malformed",
    ),
    (
        "a claim twice, deep down",
        |b| b.adding(r#""x": [{"y": {"z": 1, "z": 2}}]"#),
        "malformed",
    ),
    (
        "two algs",
        |b| {
            let header = r#"{"alg": "none", "alg": "RS256", "kid": "current-key"}"#;
            current().sign_text(header, &b.claims.to_string())
        },
        "malformed",
    ),
    (
        "two kids",
        |b| {
            let header = r#"{"alg": "RS256", "kid": "x", "kid": "current-key"}"#;
            current().sign_text(header, &b.claims.to_string())
        },
        "malformed",
    ),
    // Sizes.
    (
        "100 KB of claims",
        |b| b.with("x", "x".repeat(75_000)),
        "malformed",
    ),
    (
        "100 KB of header",
        |b| b.headed("x", "x".repeat(75_000)),
        "malformed",
    ),
    (
        "100 KB of signature",
        |b| b.resigned(|s| s.repeat(300)),
        "malformed",
    ),
    (
        "17 KB of claims",
        |b| b.with("x", "x".repeat(12_000)),
        "malformed",
    ),
    (
        "5,000 lists in one another",
        |b| {
            b.adding(&format!(
                r#""x": {}{}"#,
                "[".repeat(5_000),
                "]".repeat(5_000)
            ))
        },
        "malformed",
    ),
    (
        "1,000 objects in one another",
        |b| {
            b.adding(&format!(
                r#""x": {}1{}"#,
                r#"{"x":"#.repeat(1_000),
                "}".repeat(1_000)
            ))
        },
        "malformed",
    ),
    // Malformed tokens.
    (
        "two parts",
        |b| b.good().rsplit_once('.').unwrap().0.to_owned(),
        "malformed",
    ),
    ("four parts", |b| format!("{}.e30", b.good()), "malformed"),
    (
        "five parts, as encrypted ones have",
        |b| format!("{}.e30.e30", b.good()),
        "malformed",
    ),
    ("a dot behind", |b| format!("{}.", b.good()), "malformed"),
    (
        "no header",
        |b| format!(".{}", b.good().split_once('.').unwrap().1),
        "malformed",
    ),
    (
        "a header that is a list",
        |b| current().sign_text("[]", &b.claims.to_string()),
        "malformed",
    ),
    (
        "a header that is not valid JSON",
        |b| current().sign_text("alg: RS256", &b.claims.to_string()),
        "malformed",
    ),
    (
        "claims that are a list",
        |_| current().sign_text(&current().header().to_string(), "[]"),
        "malformed",
    ),
    (
        "claims that are null",
        |_| current().sign_text(&current().header().to_string(), "null"),
        "malformed",
    ),
    (
        "claims with something behind them",
        |b| current().sign_text(&current().header().to_string(), &format!("{}x", b.claims)),
        "malformed",
    ),
    (
        "claims behind a byte order mark",
        |b| {
            current().sign_text(
                &current().header().to_string(),
                &format!("\u{feff}{}", b.claims),
            )
        },
        "malformed",
    ),
    (
        "claims that are not UTF-8",
        |b| {
            let mut claims = b.claims.to_string().into_bytes();
            let place = claims.iter().position(|byte| *byte == b'N').unwrap();
            claims[place] = 0xff;
            let signed = format!(
                "{}.{}",
                base64url(current().header().to_string()),
                base64url(claims)
            );
            format!(
                "{signed}.{}",
                base64url(current().signature(&RSA_PKCS1_SHA256, &signed))
            )
        },
        "malformed",
    ),
    (
        "padded base64",
        |b| {
            let signed = format!(
                "{}.{}",
                URL_SAFE.encode(headed("x", "xx").to_string()),
                base64url(b.claims.to_string())
            );
            format!(
                "{signed}.{}=",
                base64url(current().signature(&RSA_PKCS1_SHA256, &signed))
            )
        },
        "malformed",
    ),
    (
        "the wrong alphabet of base64",
        |b| b.good().replace(['-', '_'], "+").replacen('e', "/", 1),
        "malformed",
    ),
    (
        "a character that base64 lacks",
        |b| b.good().replacen('e', "!", 1),
        "malformed",
    ),
    (
        "a base64 length that cannot be",
        |b| b.good().replacen('.', "A.", 1).replacen("A.", "AAAAA.", 1),
        "malformed",
    ),
    // The signature.
    (
        "no signature",
        |b| format!("{}.", b.good().rsplit_once('.').unwrap().0),
        "bad_signature",
    ),
    (
        "a signature without its last byte",
        |b| b.resigned(|s| s[..255].to_vec()),
        "bad_signature",
    ),
    (
        "a signature without its first byte",
        |b| b.resigned(|s| s[1..].to_vec()),
        "bad_signature",
    ),
    (
        "half a signature",
        |b| b.resigned(|s| s[..128].to_vec()),
        "bad_signature",
    ),
    (
        "a signature without its last character",
        |b| {
            let good = b.good();
            good[..good.len() - 1].to_owned()
        },
        "bad_signature",
    ),
    (
        "a signature with a byte behind",
        |b| b.resigned(|s| [s, vec![0]].concat()),
        "bad_signature",
    ),
    (
        "a signature with a zero before",
        |b| b.resigned(|s| [vec![0], s].concat()),
        "bad_signature",
    ),
    (
        "a signature twice",
        |b| b.resigned(|s| s.repeat(2)),
        "bad_signature",
    ),
    (
        "a signature with a bit turned",
        |b| {
            b.resigned(|mut s| {
                s[100] ^= 1;
                s
            })
        },
        "bad_signature",
    ),
    (
        "a signature with stray bits at its end",
        |b| {
            let good = b.good();
            let (signed, signature) = good.rsplit_once('.').unwrap();
            format!("{signed}.{}", with_stray_bits(signature))
        },
        "bad_signature",
    ),
    (
        "a signature and the modulus more",
        |b| b.resigned(|s| plus_modulus(&s)),
        "bad_signature",
    ),
    (
        "a signature of zeros",
        |b| b.resigned(|s| vec![0; s.len()]),
        "bad_signature",
    ),
    (
        "a signature of one",
        |b| b.resigned(|s| [vec![0; s.len() - 1], vec![1]].concat()),
        "bad_signature",
    ),
    (
        "the modulus as the signature",
        |b| b.resigned(|_| current().numbers().0),
        "bad_signature",
    ),
    (
        "the signature of another token",
        |b| {
            let other = b.with("name", "Another");
            let signature = other.rsplit_once('.').unwrap().1;
            format!("{}.{signature}", b.good().rsplit_once('.').unwrap().0)
        },
        "bad_signature",
    ),
    (
        "a signature over the claims alone",
        |b| {
            b.resigned(|_| current().signature(&RSA_PKCS1_SHA256, &base64url(b.claims.to_string())))
        },
        "bad_signature",
    ),
    (
        "a PSS signature in place of the right one",
        |b| b.resigned(|_| current().signature(&RSA_PSS_SHA256, "x")),
        "bad_signature",
    ),
    (
        "a signature of another digest",
        |b| {
            let good = b.good();
            let signed = good.rsplit_once('.').unwrap().0.to_owned();
            b.resigned(|_| current().signature(&RSA_PKCS1_SHA512, &signed))
        },
        "bad_signature",
    ),
    (
        "a role added behind the signer's back",
        |b| b.swapped(&b.changed("roles", json!(["Admin"]))),
        "bad_signature",
    ),
    (
        "another person behind the signer's back",
        |b| b.swapped(&b.changed("oid", "3d8c1f52-7a94-4e0b-b6d1-52f09c7e4a18")),
        "bad_signature",
    ),
    (
        "a later end behind the signer's back",
        |b| b.swapped(&b.changed("exp", START / 1_000 + 999_999)),
        "bad_signature",
    ),
    (
        "another directory behind the signer's back",
        |b| {
            let mut claims = b.changed("tid", FABRIKAM_DIRECTORY);
            claims["iss"] = format!("{}/{FABRIKAM_DIRECTORY}/v2.0", b.issuer).into();
            b.swapped(&claims)
        },
        "bad_signature",
    ),
];

#[test]
fn no_attack_succeeds_and_each_gets_its_reason() {
    let (authority, attacker_url) = (Authority::new(), Authority::new());
    authority.publish_keys(&[current().jwk(), next().jwk()]);
    let server = Server::with_world(
        DEMO,
        &[
            &format!("--entra-authority={}", authority.url()),
            "--entra-audience",
            AUDIENCE,
        ],
    );
    let bench = Bench {
        issuer: authority.url(),
        attacker_url: attacker_url.url(),
        claims: authority.claims(NEWCOMER),
    };
    let names: BTreeSet<&str> = ATTACKS.iter().map(|(name, ..)| *name).collect();
    assert_eq!(names.len(), ATTACKS.len(), "two attacks have one name");
    assert!(ATTACKS.len() >= 60);
    server
        .with_credential(&bench.good())
        .get("/whoami")
        .expect(200);
    let mut accepted = 0;
    let mut wrong = Vec::new();
    for (name, token, reason) in ATTACKS {
        let reply = server.with_credential(&token(&bench)).get("/whoami");
        if reply.status != 401 {
            accepted += 1;
        }
        let told = reply.error()["details"]["reason"].clone();
        if told != *reason {
            wrong.push(format!("{name}: {} {told}, not {reason}", reply.status));
        }
    }
    assert_eq!(accepted, 0, "{wrong:#?}");
    assert_eq!(wrong, Vec::<String>::new());
    // Only the authority was asked for keys, and a valid token is still accepted.
    assert_eq!(attacker_url.requested_paths(), Vec::<String>::new());
    server
        .with_credential(&bench.good())
        .get("/whoami")
        .expect(200);
}

#[test]
fn addresses_and_keys_in_a_signed_header_are_ignored() {
    let (authority, attacker_url) = (Authority::new(), Authority::new());
    let server = Server::with_world(
        DEMO,
        &[
            &format!("--entra-authority={}", authority.url()),
            "--entra-audience",
            AUDIENCE,
        ],
    );
    let bench = Bench {
        issuer: authority.url(),
        attacker_url: attacker_url.url(),
        claims: authority.claims(NEWCOMER),
    };
    for token in [
        bench.headed("jwk", attackers().jwk()),
        bench.headed("jku", format!("{}/keys", bench.attacker_url)),
        bench.headed("x5u", format!("{}/chain", bench.attacker_url)),
        current().sign(&unheaded("typ"), &bench.claims),
        bench.headed("typ", "at+jwt"),
        // The maximum number of groups that Entra puts into a token.
        bench.with("groups", vec![NORTHWIND_DIRECTORY; 200]),
    ] {
        server.with_credential(&token).get("/whoami").expect(200);
    }
    assert_eq!(attacker_url.requested_paths(), Vec::<String>::new());
}
