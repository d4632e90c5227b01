//! Signs and verifies this server's own tokens: HS256, with a secret that the first start creates
//! (contract, section 2).

use std::fmt;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
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
use crate::store::{Store, signing_secret};

const FILE: &str = "signing.secret";
const SECRET_BYTES: usize = 32;
const NOT_32_BYTES: &str =
    "it does not have 32 bytes; delete it to have a new one created, which invalidates all tokens";
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

    /// Whether a store has a secret. Without one, this is its first start.
    ///
    /// # Errors
    /// `internal_error` if the database cannot be read.
    pub fn is_of(store: &Store) -> Result<bool> {
        match store.folder() {
            Some(folder) => Ok(Self::is_in(folder)),
            None => Ok(store.read_now(signing_secret::stored)?.is_some()),
        }
    }

    /// Reads the secret of a store, or creates it at the first start: in the data folder, or in the
    /// database that several nodes share.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn of_store(store: &Store) -> Result<Self, String> {
        if let Some(folder) = store.folder() {
            return Self::of_folder(folder);
        }
        let failed = |error: &dyn fmt::Display| {
            format!(
                "cannot read the signing secret of {}: {error}",
                store.place()
            )
        };
        let stored = store.read_now(signing_secret::stored);
        let secret = match stored.map_err(|error| failed(&error))? {
            Some(secret) => secret,
            None => {
                let mut new = [0; SECRET_BYTES];
                getrandom::fill(&mut new).map_err(|error| failed(&error))?;
                store
                    .write_now(move |tx| signing_secret::get_or_store(tx, new.to_vec()))
                    .map_err(|error| failed(&error))?
            }
        };
        Self::of_bytes(&secret).ok_or_else(|| failed(&NOT_32_BYTES))
    }

    /// Reads the secret of a file that the operator made: 32 bytes.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn of_file(path: &Path) -> Result<Self, String> {
        let failed = |error: &dyn fmt::Display| {
            format!(
                "--signing-secret-file: cannot use {}: {error}",
                path.display()
            )
        };
        let secret = fs::read(path).map_err(|error| failed(&error))?;
        Self::of_bytes(&secret)
            .ok_or_else(|| failed(&"it must have 32 bytes; make one with: head -c 32 /dev/urandom"))
    }

    fn of_bytes(secret: &[u8]) -> Option<Self> {
        (secret.len() == SECRET_BYTES).then(|| Self {
            encoding: EncodingKey::from_secret(secret),
            decoding: DecodingKey::from_secret(secret),
            root: hmac::Key::new(hmac::HMAC_SHA256, secret),
        })
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
            Self::create_in(folder, &secret)?;
        }
        // At each start, because a crash may have interrupted an earlier start before this line.
        sync_names(folder).map_err(|error| failed("sync", &error))?;
        let secret = fs::read(&path).map_err(|error| failed("read", &error))?;
        let parsed = Self::of_bytes(&secret).ok_or_else(|| failed("use", &NOT_32_BYTES))?;
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
        Ok(parsed)
    }

    /// The key by which the nodes of one database know one another.
    pub fn node_key(&self) -> hmac::Key {
        self.derive("nodes")
    }

    /// The secret of a data folder, if it has one.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn bytes_in(folder: &Path) -> Result<Option<Vec<u8>>, String> {
        let path = folder.join(FILE);
        match fs::read(&path) {
            Ok(secret) => Ok(Some(secret)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("cannot read {}: {error}", path.display())),
        }
    }

    /// Writes the secret of a data folder that has none.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn create_in(folder: &Path, secret: &[u8]) -> Result<(), String> {
        let path = folder.join(FILE);
        let failed = |error: io::Error| format!("cannot write {}: {error}", path.display());
        // Written under another name and renamed, so that a crash leaves no incomplete file.
        let draft = folder.join(format!("{FILE}.new"));
        drop(fs::remove_file(&draft));
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft)
            .map_err(failed)?;
        file.write_all(secret)
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::rename(&draft, &path))
            .and_then(|()| sync_names(folder))
            .map_err(failed)
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
