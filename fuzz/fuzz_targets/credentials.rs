//! The `Authorization` header: only issued credentials are accepted, and a signed token only as its
//! claims permit.

#![no_main]

use std::borrow::Cow;
use std::sync::LazyLock;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value, json};
use switchboard::auth::entra::{Entra, FirstSight, PUBLIC_AUTHORITY, Settings};
use switchboard::auth::signing::SigningSecret;
use switchboard::auth::{Authenticator, sign_in};
use switchboard::digest;
use switchboard::error::{Code, Error};
use switchboard::input::seed;
use switchboard::model::caller::{Actor, Caller, Who};
use switchboard::model::clock::Clock;
use switchboard::model::words::{CallerKind, Role};
use switchboard::store::{Store, import, sign_ins, tenants};
use switchboard_fuzz::refusal;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

/// The fixed time: 2025-11-24T16:00:00Z, in seconds.
const NOW_S: i64 = 1_764_000_000;
const AUDIENCE: &str = "api://switchboard";
const KID: &str = "current-key";
const DIRECTORIES: [&str; 2] = [
    "ab0de0a1-fa00-4c1a-9cab-ab0de000a1fa",
    "ab0debe7-a000-4c1a-9cab-ab0de00be7a0",
];
/// The reasons that refuse a token with a valid signature.
const AFTER_THE_SIGNATURE: [&str; 5] = [
    "expired",
    "not_yet_valid",
    "revoked",
    "wrong_audience",
    "unknown_tenant",
];
const BEFORE_THE_SIGNATURE: [&str; 8] = [
    "missing",
    "malformed",
    "wrong_environment",
    "unknown",
    "bad_signature",
    "unknown_key",
    "wrong_issuer",
    "missing_claim",
];

/// The demo data with its keys, a user who signed in by a link, and an authority whose key is
/// known.
struct Setup {
    _folder: TempDir,
    runtime: Runtime,
    store: Store,
    authenticator: Authenticator,
    authority: RsaKeyPair,
    own: hmac::Key,
    /// The `jti` of the only sign-in.
    sign_in: String,
    /// All issued credentials.
    genuine: Vec<String>,
}

static SETUP: LazyLock<Setup> = LazyLock::new(setup);

fn setup() -> Setup {
    let folder = tempfile::tempdir().expect("a folder");
    let clock = Clock::Manual(std::sync::Arc::new((NOW_S * 1_000).into()));
    let store = Store::open(folder.path(), clock).expect("a data folder");
    let demo = seed::parse(include_str!("../../fixtures/demo.json"), "demo").expect("the demo");
    let operator = Actor {
        kind: CallerKind::Operator,
        id: "command-line".to_owned(),
        name: None,
    };
    let sha256 = digest::sha256("code");
    let signed_in = store.write_now(move |tx| {
        import::apply(tx, &demo, &operator)?.expect("a world without a conflict");
        let tenant = tenants::all(tx.reader())?.remove(0);
        sign_ins::insert_code(tx, sha256, tenant.no, Role::Admin)?;
        sign_ins::exchange(tx, &sha256)
    });
    let signed_in = signed_in.expect("a setup").expect("a sign-in");
    let secret = SigningSecret::of_folder(folder.path()).expect("a secret");
    let token = sign_in::sign(
        &secret,
        signed_in.jti,
        &signed_in.client_id,
        signed_in.role,
        NOW_S,
        signed_in.expires_at / 1_000,
    );
    let own = std::fs::read(folder.path().join("signing.secret")).expect("the secret's bytes");

    let authority = RsaKeyPair::generate(KeySize::Rsa2048).expect("a key pair");
    let keys = folder.path().join("keys.json");
    std::fs::write(&keys, key_set(&authority).to_string()).expect("a key set");
    let entra = Entra::new(&Settings {
        audiences: vec![AUDIENCE.to_owned()],
        authority: PUBLIC_AUTHORITY.to_owned(),
        keys: Some(keys),
        first_sight: FirstSight::User,
    });
    let authenticator = Authenticator::new("demo".to_owned(), secret)
        .with_entra(Some(entra.expect("an authority")));
    let mut genuine = [
        "neo_sk_demo_northwind00000000",
        "neo_sk_demo_fabrikam000000000",
        "neo_sk_demo_relay0000platform",
    ]
    .map(str::to_owned)
    .to_vec();
    genuine.push(token.expect("a token"));
    let mut setup = Setup {
        _folder: folder,
        runtime: Builder::new_current_thread().build().expect("a runtime"),
        store,
        authenticator,
        own: hmac::Key::new(hmac::HMAC_SHA256, &own),
        sign_in: signed_in.jti.to_string(),
        authority,
        genuine,
    };
    let header = json!({ "typ": "JWT", "alg": "RS256", "kid": KID });
    let claims = json!({
        "aud": AUDIENCE, "iss": format!("{PUBLIC_AUTHORITY}/{}/v2.0", DIRECTORIES[0]), "iat": NOW_S, "nbf": NOW_S,
        "exp": NOW_S + 3_600, "oid": "7f0c1a9e-4f5d-4a38-9c26-8a1d0e6b2c55", "scp": "access_as_user", "tid": DIRECTORIES[0],
    });
    let (header, claims) = (header.to_string(), claims.to_string());
    let token = setup.token_of_authority(header.as_bytes(), claims.as_bytes());
    setup.genuine.push(token);
    setup
}

fn key_set(pair: &RsaKeyPair) -> Value {
    let public = pair.public_key();
    let number = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let (n, e) = (
        public.modulus().big_endian_without_leading_zero(),
        public.exponent().big_endian_without_leading_zero(),
    );
    json!({ "keys": [{ "kty": "RSA", "use": "sig", "kid": KID, "n": number(n), "e": number(e) }] })
}

impl Setup {
    fn token_of_authority(&self, header: &[u8], claims: &[u8]) -> String {
        let signed = signed_part(header, claims);
        let mut signature = vec![0; self.authority.public_modulus_len()];
        self.authority
            .sign(
                &RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                signed.as_bytes(),
                &mut signature,
            )
            .expect("a signature");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn own_token(&self, header: &[u8], claims: &[u8]) -> String {
        let signed = signed_part(header, claims);
        let signature = hmac::sign(&self.own, signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// Returns the caller of a header, or the reason of its refusal.
    fn caller(&self, header: &[u8]) -> Result<Caller, String> {
        let caller = self.authenticator.caller(&self.store, Some(header));
        self.runtime.block_on(caller).map_err(reason)
    }

    /// Checks a header without a valid new signature.
    ///
    /// It is accepted only if it was issued, and the server must not read beyond a wrong signature.
    fn check_unsigned(&self, header: &[u8]) {
        let text = String::from_utf8_lossy(header);
        let shown = text
            .split_once(' ')
            .map(|(scheme, token)| (scheme.to_ascii_lowercase(), token.trim()));
        let is_genuine = shown.is_some_and(|(scheme, token)| {
            scheme == "bearer" && self.genuine.iter().any(|genuine| genuine == token)
        });
        match self.caller(header) {
            Ok(caller) => assert!(is_genuine, "{text} is {:?}", caller.who),
            Err(reason) => {
                assert!(!is_genuine, "{text}: {reason}");
                assert!(
                    BEFORE_THE_SIGNATURE.contains(&reason.as_str()),
                    "{text}: {reason}"
                );
            }
        }
    }

    /// Checks a token that the authority signed: it is accepted only if it keeps every rule.
    fn check_authority(&self, header: &[u8], claims: &[u8]) {
        let token = self.token_of_authority(header, claims);
        let Ok(caller) = self.caller(format!("Bearer {token}").as_bytes()) else {
            return;
        };
        let (header, claims) = (object(header), object(claims));
        let text = |name: &str| claims[name].as_str().expect("a text");
        assert_eq!(
            (&header["alg"], &header["kid"]),
            (&json!("RS256"), &json!(KID))
        );
        assert!(!header.contains_key("crit"));
        let tid = text("tid");
        assert!(
            DIRECTORIES
                .iter()
                .any(|known| known.eq_ignore_ascii_case(tid))
        );
        let issuers = [
            format!("{PUBLIC_AUTHORITY}/{tid}/v2.0"),
            format!("https://sts.windows.net/{tid}/"),
        ];
        assert!(issuers.contains(&text("iss").to_owned()));
        assert_eq!(text("aud"), AUDIENCE);
        let time = |name: &str| claims[name].as_f64().expect("a time");
        #[expect(
            clippy::cast_precision_loss,
            reason = "seconds of this century are exact"
        )]
        let now_s = NOW_S as f64;
        assert!(time("exp").floor() + 60.0 > now_s && time("nbf").floor() - 60.0 <= now_s);
        let roles: Vec<Role> = claims
            .get("roles")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|role| match role.as_str()? {
                "Admin" => Some(Role::Admin),
                "User" => Some(Role::User),
                "Viewer" => Some(Role::Viewer),
                _ => None,
            })
            .collect();
        let scopes = claims
            .get("scp")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let is_app = claims.get("idtyp") == Some(&json!("app"));
        assert!((!is_app && !scopes.trim().is_empty()) || !roles.is_empty());
        match caller.who {
            Who::DashboardUser {
                id, role, sign_in, ..
            } => {
                assert_eq!((id.as_str(), sign_in), (text("oid"), None));
                assert!(roles.iter().max().is_none_or(|highest| *highest == role));
            }
            Who::ServiceAccount { .. } | Who::EndUserSession { .. } => panic!("{:?}", caller.who),
        }
    }

    /// Checks a token with this server's own signature: it is accepted only if it is of its kind,
    /// was issued, and has not expired.
    fn check_own(&self, header: &[u8], claims: &[u8]) {
        let token = self.own_token(header, claims);
        let Ok(caller) = self.caller(format!("Bearer {token}").as_bytes()) else {
            return;
        };
        let (header, claims) = (object(header), object(claims));
        assert_eq!(
            (&header["alg"], &header["typ"]),
            (&json!("HS256"), &json!("signin+jwt"))
        );
        assert_eq!(claims["iss"], "switchboard:sign-in");
        let audience = json!("switchboard:sign-in-api");
        assert!(
            claims["aud"] == audience
                || claims["aud"]
                    .as_array()
                    .is_some_and(|all| all.contains(&audience))
        );
        assert_eq!(claims["jti"], self.sign_in);
        assert!(claims["exp"].as_i64().expect("a time") > NOW_S);
        assert!(matches!(
            caller.who,
            Who::DashboardUser {
                role: Role::Admin,
                sign_in: Some(_),
                ..
            }
        ));
    }
}

fn signed_part(header: &[u8], claims: &[u8]) -> String {
    format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(claims)
    )
}

fn object(json: &[u8]) -> Map<String, Value> {
    serde_json::from_slice(json).expect("accepted claims are an object")
}

/// Returns the reason of a refusal.
///
/// It must be in the contract's list, and the message must be a constant, so that it reveals
/// nothing of the credential.
fn reason(error: Error) -> String {
    let refusal = refusal(error);
    assert_eq!(refusal.code, Code::Unauthorized);
    let details = refusal.details.unwrap_or_default();
    assert_eq!(details.len(), 1, "{details:?}");
    let reason = details["reason"].as_str().expect("a word");
    let known = [&BEFORE_THE_SIGNATURE[..], &AFTER_THE_SIGNATURE[..]].concat();
    assert!(known.contains(&reason), "{reason}");
    assert!(
        matches!(refusal.message, Cow::Borrowed(_)),
        "{}",
        refusal.message
    );
    reason.to_owned()
}

/// Edits a credential: each three bytes are a kind of edit with a position, and a new byte.
fn edited(credential: &str, edits: &[u8]) -> Vec<u8> {
    let mut bytes = credential.as_bytes().to_vec();
    for edit in edits.chunks_exact(3).take(4) {
        let position = usize::from(u16::from_be_bytes([edit[0], edit[1]]));
        let (kind, position) = (position >> 14, (position & 0x3fff) % (bytes.len() + 1));
        match kind {
            0 if position < bytes.len() => bytes[position] = edit[2],
            1 => bytes.insert(position, edit[2]),
            2 if position < bytes.len() => drop(bytes.remove(position)),
            _ => bytes.truncate(position),
        }
    }
    bytes
}

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, rest)) = bytes.split_first() else {
        return;
    };
    // A newline separates the header from the claims.
    let parts = || {
        let at = rest.iter().position(|byte| *byte == b'\n')?;
        Some((&rest[..at], &rest[at + 1..]))
    };
    match (kind, parts()) {
        (b'a', Some((header, claims))) => SETUP.check_authority(header, claims),
        (b'o', Some((header, claims))) => SETUP.check_own(header, claims),
        (b'u', Some((header, claims))) => {
            let signed = signed_part(header, claims);
            SETUP.check_unsigned(
                format!(
                    "Bearer {signed}.{}",
                    URL_SAFE_NO_PAD.encode(signed.as_bytes())
                )
                .as_bytes(),
            );
            SETUP.check_unsigned(format!("Bearer {signed}.").as_bytes());
        }
        (b'g', _) => {
            let Some((which, edits)) = rest.split_first() else {
                return;
            };
            let genuine = &SETUP.genuine[usize::from(*which) % SETUP.genuine.len()];
            SETUP.check_unsigned(&[b"Bearer ", &*edited(genuine, edits)].concat());
        }
        _ => SETUP.check_unsigned(rest),
    }
});
