//! The authority's public keys, out of a JSON Web Key Set.

use std::collections::HashMap;
use std::fmt;
use std::ops::RangeInclusive;

use aws_lc_rs::signature::{ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;

use super::issuer_for;

/// How long a modulus may be.
const MODULUS_BYTES: RangeInclusive<usize> = 256..=1_024;

/// An RSA key of 2,048 to 8,192 bits that signs by RS256, whatever else it could be used for.
#[derive(Clone)]
pub(super) struct Key {
    /// Whose tokens it signs, where the set says so; `{tenantid}` stands for any directory.
    issuer: Option<String>,
    public: ParsedPublicKey,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

impl Key {
    /// Whether it may sign for a directory: a key of one directory signs for that one only.
    pub(super) fn is_for(&self, tid: &str) -> bool {
        let issuer = self.issuer.as_deref();
        issuer.is_none_or(|issuer| issuer_for(issuer, tid).is_some())
    }

    /// Whether it made this signature.
    pub(super) fn signed(&self, text: &str, signature: &[u8]) -> bool {
        self.public.verify_sig(text.as_bytes(), signature).is_ok()
    }
}

/// Keys by their `kid`; nothing keeps a set from having several of one.
pub(super) type Keys = HashMap<String, Vec<Key>>;

#[derive(Deserialize)]
struct Sent {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: String,
    n: String,
    e: String,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    issuer: Option<String>,
}

/// Reads a key set; keys of other kinds are passed over.
///
/// # Errors
/// What is wrong with it, in words for the operator.
pub(super) fn read(json: &[u8]) -> Result<Keys, String> {
    let sent: Sent =
        serde_json::from_slice(json).map_err(|error| format!("no JSON Web Key Set: {error}"))?;
    let mut keys = Keys::new();
    for jwk in sent.keys {
        let Ok(jwk) = serde_json::from_value::<Jwk>(jwk) else {
            continue;
        };
        let fits = jwk.kty == "RSA"
            && jwk.alg.as_deref().is_none_or(|alg| alg == "RS256")
            && jwk
                .purpose
                .as_deref()
                .is_none_or(|purpose| purpose == "sig");
        if let Some(public) = public_key(&jwk).filter(|_| fits) {
            let issuer = jwk.issuer;
            keys.entry(jwk.kid)
                .or_default()
                .push(Key { issuer, public });
        }
    }
    if keys.is_empty() {
        return Err("a key set without an RSA signing key of 2,048 to 8,192 bits".to_owned());
    }
    Ok(keys)
}

fn public_key(jwk: &Jwk) -> Option<ParsedPublicKey> {
    let number = |text: &str| {
        let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()?;
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        Some(bytes[zeros..].to_vec())
    };
    let n = number(&jwk.n)?;
    // Told here already, so that a set of nothing else is told to be of no use.
    if !MODULUS_BYTES.contains(&n.len()) {
        return None;
    }
    RsaPublicKeyComponents {
        n,
        e: number(&jwk.e)?,
    }
    .to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256)
    .ok()
}
