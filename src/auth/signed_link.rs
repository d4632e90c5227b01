//! Signed links to files. A link needs no credential and is valid for one method, one file and a
//! limited time.

use std::fmt;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::signing::SigningSecret;
use crate::model::clock::Millis;
use crate::model::ids::AttachmentId;

const PURPOSE: &str = "switchboard links to files";

/// The action that a link allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkUse {
    /// Upload the file.
    Put,
    /// Download the file.
    Get,
}

impl LinkUse {
    fn method(self) -> &'static str {
        match self {
            Self::Put => "PUT",
            Self::Get => "GET",
        }
    }
}

/// The key that signs links.
pub struct LinkKey(hmac::Key);

impl fmt::Debug for LinkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkKey(…)")
    }
}

impl LinkKey {
    /// Derives the key from the data folder's secret.
    pub(super) fn of(secret: &SigningSecret) -> Self {
        Self(secret.derive(PURPOSE))
    }

    /// Signs a link that expires at a Unix second.
    pub fn sign(&self, link_use: LinkUse, id: AttachmentId, expires_s: i64) -> String {
        let tag = hmac::sign(&self.0, signed(link_use, id, expires_s).as_bytes());
        URL_SAFE_NO_PAD.encode(tag)
    }

    /// Whether this server issued a link for this use, and the link has not expired.
    pub fn verify(
        &self,
        link_use: LinkUse,
        id: AttachmentId,
        expires_s: i64,
        signature: &str,
        now: Millis,
    ) -> bool {
        let Ok(tag) = URL_SAFE_NO_PAD.decode(signature) else {
            return false;
        };
        let text = signed(link_use, id, expires_s);
        let is_signed = hmac::verify(&self.0, text.as_bytes(), &tag).is_ok();
        is_signed && now < expires_s.saturating_mul(1_000)
    }
}

/// The text that is signed. No part contains a line break, so no two links share a text.
fn signed(link_use: LinkUse, id: AttachmentId, expires_s: i64) -> String {
    format!("{}\n{id}\n{expires_s}", link_use.method())
}
