//! Parses the authority's public keys from a JSON Web Key Set.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;

use super::issuer_for;
use crate::auth::jwk::{Jwk, PublicKey};

/// A key of the authority.
#[derive(Clone, Debug)]
pub(super) struct Key {
    /// The issuer whose tokens the key signs, if the set names one. `{tenantid}` stands for any
    /// directory.
    issuer: Option<String>,
    public: PublicKey,
}

impl Key {
    /// Whether the key may sign for a directory. The key of one directory is not valid for another.
    pub(super) fn is_for(&self, tid: &str) -> bool {
        let issuer = self.issuer.as_deref();
        issuer.is_none_or(|issuer| issuer_for(issuer, tid).is_some())
    }

    /// Whether a signature over text is valid under this key.
    pub(super) fn verifies(&self, text: &str, signature: &[u8]) -> bool {
        self.public.verifies(text, signature)
    }
}

/// Keys by `kid`. A set may contain several keys with one `kid`.
pub(super) type Keys = HashMap<String, Vec<Key>>;

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct EntraJwk {
    #[serde(flatten)]
    jwk: Jwk,
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
        let Ok(EntraJwk { jwk, issuer }) = serde_json::from_value(jwk) else {
            continue;
        };
        if let Some(public) = jwk.public_key() {
            let same = keys.entry(jwk.kid).or_default();
            same.push(Key { issuer, public });
        }
    }
    if keys.is_empty() {
        return Err("has no RSA signing key of 2,048 to 8,192 bits".to_owned());
    }
    Ok(keys)
}
