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

use crate::error::{Error, Refusal, Result};
use crate::model::ids::{SessionId, TokenId};
use crate::model::names::{ClientId, CompanyId};

const FILE: &str = "signing.secret";
const SECRET_BYTES: usize = 32;
const TYPE: &str = "session+jwt";
const ISSUER: &str = "switchboard:session";
const AUDIENCE: &str = "switchboard:session-api";
/// Longer text is refused before anything in it is read.
const LONGEST: usize = 8 * 1_024;

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

#[derive(Deserialize)]
struct Issuer {
    iss: Option<String>,
}

/// Whether text has the three parts of a JWT.
pub fn looks_like_jwt(token: &str) -> bool {
    let parts: Vec<&str> = token.split('.').collect();
    parts.len() == 3
        && parts[..2].iter().all(|part| !part.is_empty())
        && token
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
}

/// Checks who issued a token and its signature; whether it is still good is the store's to say.
///
/// # Errors
/// `unauthorized` with the contract's reason.
pub fn verify(secret: &SigningSecret, token: &str) -> Result<Claims> {
    let unreadable = || {
        Error::from(Refusal::unauthorized(
            "malformed",
            "The token cannot be read. Send it whole, as it was given.",
        ))
    };
    if token.len() > LONGEST {
        return Err(unreadable());
    }
    let header = jsonwebtoken::decode_header(token).map_err(|_| unreadable())?;
    // Who says to have issued it decides which verifier runs; nothing is tried in turn.
    let Issuer { iss } =
        jsonwebtoken::dangerous::insecure_decode_claims(token).map_err(|_| unreadable())?;
    match iss.as_deref() {
        Some(ISSUER) => {}
        Some(_) => {
            return Err(Refusal::unauthorized(
                "wrong_issuer",
                "This token was issued by somebody whom this server does not accept.",
            )
            .into());
        }
        None => return Err(missing_claim()),
    }
    let unproven = || {
        Error::from(Refusal::unauthorized(
            "bad_signature",
            "The token's signature does not hold. Mint another one.",
        ))
    };
    if header.alg != Algorithm::HS256 || header.typ.as_deref() != Some(TYPE) {
        return Err(unproven());
    }
    let mut validation = Validation::new(Algorithm::HS256);
    validation.set_issuer(&[ISSUER]);
    validation.set_audience(&[AUDIENCE]);
    validation.set_required_spec_claims(&["iss", "aud"]);
    // The store knows when it ends, by the server's own clock.
    validation.validate_exp = false;
    let sent = jsonwebtoken::decode::<Sent>(token, &secret.decoding, &validation)
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
