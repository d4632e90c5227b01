//! This server's own tokens: HS256 with a secret that is made at the first start (contract, section 2).

use std::fmt;
use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use aws_lc_rs::hmac;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use super::jwt::Token;
use super::reason::Reason;
use crate::error::{Error, Result};
use crate::files::sync_names;
use crate::model::ids::TokenId;

const FILE: &str = "signing.secret";
const SECRET_BYTES: usize = 32;
/// What others than the owner may do with the file: nothing.
const OTHERS: u32 = 0o077;

/// What signs this server's own tokens. It is kept beside the database, readable by its owner alone.
pub struct SigningSecret {
    encoding: EncodingKey,
    decoding: DecodingKey,
    root: hmac::Key,
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningSecret(…)")
    }
}

impl SigningSecret {
    /// Whether a data folder has one, so that this is not its first start.
    pub fn is_in(folder: &Path) -> bool {
        folder.join(FILE).exists()
    }

    /// Reads a data folder's secret, or makes it at the first start.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn of_folder(folder: &Path) -> Result<Self, String> {
        let path = folder.join(FILE);
        let failed = |what: &str, error: &dyn fmt::Display| {
            format!("cannot {what} {}: {error}", path.display())
        };
        if !path.exists() {
            let mut secret = [0; SECRET_BYTES];
            getrandom::fill(&mut secret).map_err(|error| failed("make", &error))?;
            // Under another name first, so that a crash leaves no half of it.
            let draft = folder.join(format!("{FILE}.new"));
            drop(fs::remove_file(&draft));
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&draft)
                .map_err(|error| failed("make", &error))?;
            file.write_all(&secret)
                .and_then(|()| file.sync_all())
                .and_then(|()| fs::rename(&draft, &path))
                .map_err(|error| failed("write", &error))?;
        }
        // At each start, since an earlier one may have been cut off before it came to this.
        sync_names(folder).map_err(|error| failed("keep", &error))?;
        let secret = fs::read(&path).map_err(|error| failed("read", &error))?;
        if secret.len() != SECRET_BYTES {
            return Err(failed(
                "use",
                &"it has not 32 bytes; remove it to have a new one made, which ends all tokens",
            ));
        }
        let mode = fs::metadata(&path)
            .map_err(|error| failed("read", &error))?
            .permissions()
            .mode();
        if mode & OTHERS != 0 {
            // As a copy that was put back may be; whoever could read it could sign.
            log::warn!("{} was open to others; it is not any more", path.display());
            fs::set_permissions(&path, Permissions::from_mode(0o600))
                .map_err(|error| failed("close", &error))?;
        }
        Ok(Self {
            encoding: EncodingKey::from_secret(&secret),
            decoding: DecodingKey::from_secret(&secret),
            root: hmac::Key::new(hmac::HMAC_SHA256, &secret),
        })
    }

    /// A key for another purpose: what it signs is no token, and what a token's key signs is none of that.
    pub(super) fn derive(&self, purpose: &str) -> hmac::Key {
        let secret = hmac::sign(&self.root, purpose.as_bytes());
        hmac::Key::new(hmac::HMAC_SHA256, secret.as_ref())
    }
}

/// One kind of tokens; none is ever taken for another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    /// The header's `typ`.
    pub(super) typ: &'static str,
    /// `iss`: decides who checks it.
    pub(super) issuer: &'static str,
    /// `aud`.
    pub(super) audience: &'static str,
}

#[derive(Serialize)]
struct Signed<'a, C> {
    iss: &'static str,
    aud: &'static str,
    #[serde(flatten)]
    claims: &'a C,
}

/// Signs a token.
///
/// # Errors
/// The signature could not be made.
pub(super) fn sign(secret: &SigningSecret, kind: Kind, claims: &impl Serialize) -> Result<String> {
    let mut header = Header::new(Algorithm::HS256);
    header.typ = Some(kind.typ.to_owned());
    let signed = Signed {
        iss: kind.issuer,
        aud: kind.audience,
        claims,
    };
    jsonwebtoken::encode(&header, &signed, &secret.encoding)
        .map_err(|error| Error::Internal(error.into()))
}

/// What counts of a token whose signature holds; the rest is the store's to say.
#[derive(Clone, Debug)]
pub(super) struct Claims {
    /// Names the token.
    pub(super) jti: TokenId,
    /// When it ends, in Unix seconds.
    pub(super) exp: i64,
}

#[derive(Deserialize)]
struct Sent {
    jti: Option<String>,
    exp: Option<i64>,
}

/// Checks a token that says to be of this kind's issuer; whether it is still good is the store's to say.
///
/// # Errors
/// `unauthorized` with the contract's reason.
pub(super) fn verify(secret: &SigningSecret, kind: Kind, token: &Token<'_>) -> Result<Claims> {
    if token.header_text("alg") != Some("HS256") || token.header_text("typ") != Some(kind.typ) {
        return Err(Reason::BadSignature.into());
    }
    let mut validation = Validation::new(Algorithm::HS256);
    validation.set_issuer(&[kind.issuer]);
    validation.set_audience(&[kind.audience]);
    validation.set_required_spec_claims(&["iss", "aud"]);
    // The store knows when it ends, by the server's own clock.
    validation.validate_exp = false;
    let sent = jsonwebtoken::decode::<Sent>(token.text, &secret.decoding, &validation)
        .map_err(|error| {
            if matches!(error.kind(), ErrorKind::InvalidAudience) {
                Reason::WrongAudience
            } else if matches!(error.kind(), ErrorKind::MissingRequiredClaim(_)) {
                Reason::MissingClaim
            } else {
                Reason::BadSignature
            }
        })?
        .claims;
    let jti = sent.jti.as_deref().and_then(TokenId::parse);
    Ok(Claims {
        jti: jti.ok_or(Reason::MissingClaim)?,
        exp: sent.exp.ok_or(Reason::MissingClaim)?,
    })
}
