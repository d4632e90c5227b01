//! Parses the authority's public keys from a JSON Web Key Set.

use std::collections::HashMap;
use std::fmt;
use std::ops::RangeInclusive;

use aws_lc_rs::signature::{ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;

use super::issuer_for;

/// The accepted lengths of a modulus, in bytes.
const MODULUS_BYTES: RangeInclusive<usize> = 256..=1_024;

/// An RSA public key of 2,048 to 8,192 bits, used only for RS256.
#[derive(Clone)]
pub(super) struct Key {
    /// The issuer whose tokens the key signs, if the set names one. `{tenantid}` stands for any
    /// directory.
    issuer: Option<String>,
    public: ParsedPublicKey,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

impl Key {
    /// Whether the key may sign for a directory. The key of one directory is not valid for another.
    pub(super) fn is_for(&self, tid: &str) -> bool {
        let issuer = self.issuer.as_deref();
        issuer.is_none_or(|issuer| issuer_for(issuer, tid).is_some())
    }

    /// Whether a signature over text is valid under this key.
    pub(super) fn verifies(&self, text: &str, signature: &[u8]) -> bool {
        self.public.verify_sig(text.as_bytes(), signature).is_ok()
    }
}

/// Keys by `kid`. A set may contain several keys with one `kid`.
pub(super) type Keys = HashMap<String, Vec<Key>>;

#[derive(Deserialize)]
struct KeySet {
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

/// Parses a key set. Keys of other types are ignored.
///
/// # Errors
/// A phrase for the operator that says what is wrong with the key set, such as `is not ...`.
pub(super) fn parse(json: &[u8]) -> Result<Keys, String> {
    let set: KeySet = serde_json::from_slice(json)
        .map_err(|error| format!("is not a JSON Web Key Set: {error}"))?;
    let mut keys = Keys::new();
    for jwk in set.keys {
        let Ok(jwk) = serde_json::from_value::<Jwk>(jwk) else {
            continue;
        };
        let is_signing_key = jwk.kty == "RSA"
            && jwk.alg.as_deref().is_none_or(|alg| alg == "RS256")
            && jwk
                .purpose
                .as_deref()
                .is_none_or(|purpose| purpose == "sig");
        if let Some(public) = public_key(&jwk).filter(|_| is_signing_key) {
            let issuer = jwk.issuer;
            keys.entry(jwk.kid)
                .or_default()
                .push(Key { issuer, public });
        }
    }
    if keys.is_empty() {
        return Err("has no RSA signing key of 2,048 to 8,192 bits".to_owned());
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
    // Checked here, so that a set of only such keys is refused when it is loaded.
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
