//! Local sign-in: the codes of sign-in links, and the tokens for which they are exchanged
//! (contract, section 9).

use serde::Serialize;

use super::api_key;
use super::signing::{self, SigningSecret, TokenKind};
use crate::error::Result;
use crate::model::ids::TokenId;
use crate::model::names::ClientId;
use crate::model::words::Role;

/// The name of every user who signs in by a link. The link carries no other name.
pub const NAME: &str = "Local sign-in";

/// The header and claims that distinguish sign-in tokens from others.
pub(super) const KIND: TokenKind = TokenKind {
    typ: "signin+jwt",
    issuer: "switchboard:sign-in",
    audience: "switchboard:sign-in-api",
};

/// Generates a code. Only its SHA-256 is stored.
///
/// # Errors
/// `internal_error` if the system's random number generator fails.
pub fn new_code() -> Result<String> {
    api_key::random_secret()
}

/// The user id of local sign-ins with a role. The colon keeps it apart from the ids of Entra.
pub fn id_of(role: Role) -> String {
    format!("local:{}", role.as_str())
}

/// Signs a token. The server takes the user's rights from the store; the claims inform the client.
///
/// # Errors
/// `internal_error` if the claims cannot be signed.
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
