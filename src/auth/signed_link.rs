//! Links to files that need no credential: signed for one method and one file, until a time.

use std::fmt;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::signing::SigningSecret;
use crate::model::clock::Millis;
use crate::model::ids::AttachmentId;

const PURPOSE: &str = "switchboard links to files";

/// What a link lets its holder do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkUse {
    /// Send the file.
    Put,
    /// Fetch it.
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

/// What signs links.
pub struct LinkKey(hmac::Key);

impl fmt::Debug for LinkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkKey(…)")
    }
}

impl LinkKey {
    /// The key for links, which is made of the folder's secret.
    pub(super) fn of(secret: &SigningSecret) -> Self {
        Self(secret.derive(PURPOSE))
    }

    /// The signature of a link that ends at this Unix second.
    pub fn sign(&self, link_use: LinkUse, id: AttachmentId, expires_s: i64) -> String {
        let tag = hmac::sign(&self.0, signed(link_use, id, expires_s).as_bytes());
        URL_SAFE_NO_PAD.encode(tag)
    }

    /// Whether a link is one that this server gave out for this use, and has not ended.
    pub fn holds(
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
        let is_ours = hmac::verify(&self.0, text.as_bytes(), &tag).is_ok();
        is_ours && now < expires_s.saturating_mul(1_000)
    }
}

/// Each part is of a fixed form without line breaks, so no two links share a text.
fn signed(link_use: LinkUse, id: AttachmentId, expires_s: i64) -> String {
    format!("{}\n{id}\n{expires_s}", link_use.method())
}
