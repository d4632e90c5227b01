//! Local sign-in: the codes of links, and the tokens that they are exchanged for (contract, section 9).

use serde::Serialize;

use super::api_key;
use super::signing::{self, Kind, SigningSecret};
use crate::error::Result;
use crate::model::ids::TokenId;
use crate::model::names::ClientId;
use crate::model::words::Role;

/// What a person is called who signed in by a link: nobody knows more.
pub const NAME: &str = "Local sign-in";

/// What tells sign-in tokens from others.
pub(super) const KIND: Kind = Kind {
    typ: "signin+jwt",
    issuer: "switchboard:sign-in",
    audience: "switchboard:sign-in-api",
};

/// A new code; only its SHA-256 is kept.
///
/// # Errors
/// The system has no random bytes.
pub fn new_code() -> Result<String> {
    api_key::random_secret()
}

/// The id of everybody who signs in locally with a role; no id of Entra's has a colon.
pub fn id_of(role: Role) -> String {
    format!("local:{}", role.as_str())
}

/// Signs a token; its row in the file says what it opens, its claims are for who reads it.
///
/// # Errors
/// The signature could not be made.
pub fn sign(
    secret: &SigningSecret,
    jti: TokenId,
    client_id: &ClientId,
    role: Role,
    iat_s: i64,
    exp_s: i64,
) -> Result<String> {
    #[derive(Serialize)]
    struct Claims<'a> {
        sub: String,
        jti: TokenId,
        client_id: &'a ClientId,
        role: Role,
        iat: i64,
        exp: i64,
    }
    let claims = Claims {
        sub: id_of(role),
        jti,
        client_id,
        role,
        iat: iat_s,
        exp: exp_s,
    };
    signing::sign(secret, KIND, &claims)
}
