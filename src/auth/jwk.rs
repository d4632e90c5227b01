//! RSA public keys as JSON Web Keys write them (RFC 7517), for RS256.

use std::fmt;
use std::ops::RangeInclusive;

use aws_lc_rs::signature::{ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

/// The accepted lengths of a modulus, in bytes.
const MODULUS_BYTES: RangeInclusive<usize> = 256..=1_024;

/// An RSA public key of 2,048 to 8,192 bits, used only for RS256.
#[derive(Clone)]
pub struct PublicKey(ParsedPublicKey);

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PublicKey(…)")
    }
}

impl PublicKey {
    /// Whether a signature over text is valid under this key.
    pub fn verifies(&self, text: &str, signature: &[u8]) -> bool {
        self.0.verify_sig(text.as_bytes(), signature).is_ok()
    }
}

/// The entries of a key that say what it is, and its numbers.
#[derive(Debug, Deserialize)]
pub struct Jwk {
    kty: String,
    /// The id of the key.
    pub kid: String,
    n: String,
    e: String,
    alg: Option<String>,
    /// What the key is for.
    #[serde(rename = "use")]
    pub purpose: Option<String>,
}

impl Jwk {
    /// The key, if it is for RS256 signatures and of an accepted length.
    pub fn public_key(&self) -> Option<PublicKey> {
        let is_signing_key = self.kty == "RSA"
            && self.alg.as_deref().is_none_or(|alg| alg == "RS256")
            && self
                .purpose
                .as_deref()
                .is_none_or(|purpose| purpose == "sig");
        let number = |text: &str| {
            let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()?;
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            Some(bytes[zeros..].to_vec())
        };
        let n = number(&self.n)?;
        // Checked here, so that a set of only such keys is refused when it is loaded.
        if !is_signing_key || !MODULUS_BYTES.contains(&n.len()) {
            return None;
        }
        let e = number(&self.e)?;
        let key = RsaPublicKeyComponents { n, e };
        let key = key.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256).ok()?;
        Some(PublicKey(key))
    }
}
