//! Session tokens: each gives access to one session (contract, sections 2 and 8).

use serde::Serialize;

use super::signing::{self, SigningSecret, TokenKind};
use crate::error::Result;
use crate::model::ids::{SessionId, TokenId};
use crate::model::names::{ClientId, CompanyId};

/// The header and claims that distinguish session tokens from others.
pub(super) const KIND: TokenKind = TokenKind {
    typ: "session+jwt",
    issuer: "switchboard:session",
    audience: "switchboard:session-api",
};

/// The claims of a new token.
#[derive(Clone, Debug, Serialize)]
pub struct NewClaims<'a> {
    /// The id of the token.
    pub jti: TokenId,
    /// The session.
    pub session_id: SessionId,
    /// The session's tenant.
    pub client_id: &'a ClientId,
    /// The session's company.
    pub end_company_id: Option<&'a CompanyId>,
    /// The end user that the token is for.
    pub end_user: Option<&'a str>,
    /// The time of issue, in Unix seconds.
    pub iat: i64,
    /// The expiry, in Unix seconds.
    pub exp: i64,
}

#[derive(Serialize)]
struct Signed<'a> {
    sub: SessionId,
    #[serde(flatten)]
    claims: &'a NewClaims<'a>,
}

/// Signs a token.
///
/// # Errors
/// `internal_error` if the claims cannot be signed.
pub fn sign(secret: &SigningSecret, claims: &NewClaims<'_>) -> Result<String> {
    let signed = Signed {
        sub: claims.session_id,
        claims,
    };
    signing::sign(secret, KIND, &signed)
}
