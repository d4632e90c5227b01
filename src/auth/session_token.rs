//! Tokens for one session: HS256 with this server's own secret (contract, sections 2 and 8).

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use super::jwt::Token;
use crate::error::{Error, Refusal, Result};
use crate::model::ids::{SessionId, TokenId};
use crate::model::names::{ClientId, CompanyId};

const FILE: &str = "signing.secret";
const SECRET_BYTES: usize = 32;
const TYPE: &str = "session+jwt";
/// Who issues them.
pub(super) const ISSUER: &str = "switchboard:session";
const AUDIENCE: &str = "switchboard:session-api";

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
            SystemRandom::new()
                .fill(&mut secret)
                .map_err(|_| failed("make", &"the system has no random bytes"))?;
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
        let secret = fs::read(&path).map_err(|error| failed("read", &error))?;
        if secret.len() != SECRET_BYTES {
            return Err(failed(
                "use",
                &"it has not 32 bytes; remove it to have a new one made, which ends all tokens",
            ));
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

/// What a token says.
#[derive(Clone, Debug, Serialize)]
pub struct NewClaims<'a> {
    /// Names the token.
    pub jti: TokenId,
    /// Its session.
    pub session_id: SessionId,
    /// The session's tenant.
    pub client_id: &'a ClientId,
    /// The session's company.
    pub end_company_id: Option<&'a CompanyId>,
    /// Whom it is for.
    pub end_user: Option<&'a str>,
    /// When it was made, in Unix seconds.
    pub iat: i64,
    /// When it ends, in Unix seconds.
    pub exp: i64,
}

#[derive(Serialize)]
struct Signed<'a> {
    iss: &'static str,
    aud: &'static str,
    sub: SessionId,
    #[serde(flatten)]
    claims: &'a NewClaims<'a>,
}

/// Signs a token.
///
/// # Errors
/// The signature could not be made.
pub fn sign(secret: &SigningSecret, claims: &NewClaims<'_>) -> Result<String> {
    let mut header = Header::new(Algorithm::HS256);
    header.typ = Some(TYPE.to_owned());
    let signed = Signed {
        iss: ISSUER,
        aud: AUDIENCE,
        sub: claims.session_id,
        claims,
    };
    jsonwebtoken::encode(&header, &signed, &secret.encoding)
        .map_err(|error| Error::Internal(error.into()))
}

/// What counts of a token whose signature holds.
#[derive(Clone, Debug)]
pub struct Claims {
    /// Names the token.
    pub jti: TokenId,
    /// When it ends, in Unix seconds.
    pub exp: i64,
}

#[derive(Deserialize)]
struct Sent {
    jti: Option<String>,
    exp: Option<i64>,
}

/// Checks a token that says to be of this issuer; whether it is still good is the store's to say.
///
/// # Errors
/// `unauthorized` with the contract's reason.
pub(super) fn verify(secret: &SigningSecret, token: &Token<'_>) -> Result<Claims> {
    let unproven = || {
        Error::from(Refusal::unauthorized(
            "bad_signature",
            "The token's signature does not hold. Mint another one.",
        ))
    };
    if token.header_text("alg") != Some("HS256") || token.header_text("typ") != Some(TYPE) {
        return Err(unproven());
    }
    let mut validation = Validation::new(Algorithm::HS256);
    validation.set_issuer(&[ISSUER]);
    validation.set_audience(&[AUDIENCE]);
    validation.set_required_spec_claims(&["iss", "aud"]);
    // The store knows when it ends, by the server's own clock.
    validation.validate_exp = false;
    let sent = jsonwebtoken::decode::<Sent>(token.text, &secret.decoding, &validation)
        .map_err(|error| {
            if matches!(error.kind(), ErrorKind::InvalidAudience) {
                Refusal::unauthorized("wrong_audience", "This token is meant for another purpose.")
                    .into()
            } else if matches!(error.kind(), ErrorKind::MissingRequiredClaim(_)) {
                missing_claim()
            } else {
                unproven()
            }
        })?
        .claims;
    let jti = sent
        .jti
        .as_deref()
        .and_then(TokenId::parse)
        .ok_or_else(missing_claim)?;
    Ok(Claims {
        jti,
        exp: sent.exp.ok_or_else(missing_claim)?,
    })
}

fn missing_claim() -> Error {
    Refusal::unauthorized(
        "missing_claim",
        "The token lacks a claim that it must have.",
    )
    .into()
}

/// The refusal of a token that was revoked, by itself, with its key or with its session.
pub fn revoked() -> Error {
    Refusal::unauthorized("revoked", "This token was revoked. Mint another one.").into()
}
