//! Signs and verifies this server's own tokens: HS256, with a secret that the first start creates
//! (contract, section 2).

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
/// The permission bits of group and others, none of which the file may have.
const NON_OWNER_BITS: u32 = 0o077;

/// The secret that signs this server's own tokens. It is a file in the data folder that only the
/// owner can read.
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
    /// Whether a data folder has a secret. Without one, this is the folder's first start.
    pub fn is_in(folder: &Path) -> bool {
        folder.join(FILE).exists()
    }

    /// Reads a data folder's secret, or creates it at the first start.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn of_folder(folder: &Path) -> Result<Self, String> {
        let path = folder.join(FILE);
        let failed = |action: &str, error: &dyn fmt::Display| {
            format!("cannot {action} {}: {error}", path.display())
        };
        if !path.exists() {
            let mut secret = [0; SECRET_BYTES];
            getrandom::fill(&mut secret).map_err(|error| failed("create", &error))?;
            // Written under another name and renamed, so that a crash leaves no incomplete file.
            let draft = folder.join(format!("{FILE}.new"));
            drop(fs::remove_file(&draft));
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&draft)
                .map_err(|error| failed("create", &error))?;
            file.write_all(&secret)
                .and_then(|()| file.sync_all())
                .and_then(|()| fs::rename(&draft, &path))
                .map_err(|error| failed("write", &error))?;
        }
        // At each start, because a crash may have interrupted an earlier start before this line.
        sync_names(folder).map_err(|error| failed("sync", &error))?;
        let secret = fs::read(&path).map_err(|error| failed("read", &error))?;
        if secret.len() != SECRET_BYTES {
            return Err(failed(
                "use",
                &"it does not have 32 bytes; delete it to have a new one created, which invalidates all tokens",
            ));
        }
        let mode = fs::metadata(&path)
            .map_err(|error| failed("read", &error))?
            .permissions()
            .mode();
        if mode & NON_OWNER_BITS != 0 {
            // A restored copy may have such a mode. Every user who can read the secret can sign
            // tokens.
            log::warn!(
                "other users had access to {}; its mode is now 0600",
                path.display()
            );
            fs::set_permissions(&path, Permissions::from_mode(0o600))
                .map_err(|error| failed("set the mode of", &error))?;
        }
        Ok(Self {
            encoding: EncodingKey::from_secret(&secret),
            decoding: DecodingKey::from_secret(&secret),
            root: hmac::Key::new(hmac::HMAC_SHA256, &secret),
        })
    }

    /// Derives a key for another purpose. Signatures of one purpose are not valid for another.
    pub(super) fn derive(&self, purpose: &str) -> hmac::Key {
        let secret = hmac::sign(&self.root, purpose.as_bytes());
        hmac::Key::new(hmac::HMAC_SHA256, secret.as_ref())
    }
}

/// A kind of token. A token of one kind is never accepted as another.
#[derive(Clone, Copy, Debug)]
pub(super) struct TokenKind {
    /// `typ` of the header.
    pub(super) typ: &'static str,
    /// `iss`, which selects the verifier.
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
/// `internal_error` if the claims cannot be signed.
pub(super) fn sign(
    secret: &SigningSecret,
    kind: TokenKind,
    claims: &impl Serialize,
) -> Result<String> {
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

/// The verified claims of a token. Everything else is read from the store.
#[derive(Clone, Debug)]
pub(super) struct Claims {
    /// The id of the token.
    pub(super) jti: TokenId,
    /// The expiry, in Unix seconds.
    pub(super) exp: i64,
}

#[derive(Deserialize)]
struct RawClaims {
    jti: Option<String>,
    exp: Option<i64>,
}

/// Verifies the signature, issuer and audience of a token. It checks neither expiry nor revocation.
///
/// # Errors
/// `unauthorized` with the contract's reason.
pub(super) fn verify(secret: &SigningSecret, kind: TokenKind, token: &Token<'_>) -> Result<Claims> {
    if token.header_text("alg") != Some("HS256") || token.header_text("typ") != Some(kind.typ) {
        return Err(Reason::BadSignature.into());
    }
    let mut validation = Validation::new(Algorithm::HS256);
    validation.set_issuer(&[kind.issuer]);
    validation.set_audience(&[kind.audience]);
    validation.set_required_spec_claims(&["iss", "aud"]);
    // The caller checks the expiry against the store's clock, which a test can set.
    validation.validate_exp = false;
    let claims = jsonwebtoken::decode::<RawClaims>(token.text, &secret.decoding, &validation)
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
    let jti = claims.jti.as_deref().and_then(TokenId::parse);
    Ok(Claims {
        jti: jti.ok_or(Reason::MissingClaim)?,
        exp: claims.exp.ok_or(Reason::MissingClaim)?,
    })
}
