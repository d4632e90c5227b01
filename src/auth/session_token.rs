//! Tokens for one session (contract, sections 2 and 8).

use serde::Serialize;

use super::signing::{self, Kind, SigningSecret};
use crate::error::Result;
use crate::model::ids::{SessionId, TokenId};
use crate::model::names::{ClientId, CompanyId};

/// What tells them from others.
pub(super) const KIND: Kind = Kind {
    typ: "session+jwt",
    issuer: "switchboard:session",
    audience: "switchboard:session-api",
};

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
    sub: SessionId,
    #[serde(flatten)]
    claims: &'a NewClaims<'a>,
}

/// Signs a token.
///
/// # Errors
/// The signature could not be made.
pub fn sign(secret: &SigningSecret, claims: &NewClaims<'_>) -> Result<String> {
    let signed = Signed {
        sub: claims.session_id,
        claims,
    };
    signing::sign(secret, KIND, &signed)
}
