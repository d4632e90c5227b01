//! The reasons for which a credential is refused (contract, section 1).

use crate::error::{Code, Error, Refusal};

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $word:literal, $sentence:literal;)*) => {
        /// The reason for which a token is refused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Reason {
            $($(#[$doc])* $name,)*
        }

        impl Reason {
            /// The value of `details.reason`.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)*
                }
            }

            /// The sentence for a person.
            pub fn sentence(self) -> &'static str {
                match self {
                    $(Self::$name => $sentence,)*
                }
            }
        }
    };
}

reasons! {
    /// The token cannot be parsed.
    Malformed = "malformed", "The credential is malformed. Send the whole token, as 'Authorization: Bearer <token>'.";
    /// The token has expired.
    Expired = "expired", "The token has expired. Get a new one.";
    /// The token's validity has not started.
    NotYetValid = "not_yet_valid", "The token is not valid yet. Check the clocks of both machines, or wait.";
    /// The signature is not valid.
    BadSignature = "bad_signature", "The token's signature is not valid. Get another token.";
    /// The server does not have the signing key that the token names.
    UnknownKey = "unknown_key", "This server does not have the key that signed the token. Sign in again; if the error stays, tell the operator.";
    /// The token is for another program or purpose.
    WrongAudience = "wrong_audience", "The token is for another audience. Get a token for this server.";
    /// The server does not accept the token's issuer.
    WrongIssuer = "wrong_issuer", "This server does not accept tokens from this issuer. Get a token from another issuer.";
    /// A required claim is missing.
    MissingClaim = "missing_claim", "The token lacks a required claim. Get another token.";
    /// No tenant has the token's directory.
    UnknownTenant = "unknown_tenant", "Your organization is not set up on this server. Ask the operator to add its directory.";
    /// The credential does not exist.
    Unknown = "unknown", "This credential does not exist, or was used before. Ask for a new one.";
    /// The token was revoked before its expiry.
    Revoked = "revoked", "The token was revoked. Sign in again.";
}

/// Why the holder of a valid token is not let in, although the tenant is known. Once an
/// administrator has added the user, the same token is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAdmitted {
    /// A guest of the tenant's directory, without a user and without an app role.
    Guest,
    /// A member of the directory, without a user and without an app role, on a server that lets
    /// nobody in at first sight.
    NotRegistered,
}

impl From<NotAdmitted> for Refusal {
    fn from(reason: NotAdmitted) -> Self {
        let (word, message) = match reason {
            NotAdmitted::Guest => (
                "guest",
                "You are a guest of this organization's directory. Ask its administrator to add you as a user here, or to give you an app role.",
            ),
            NotAdmitted::NotRegistered => (
                "not_registered",
                "You are not a user here yet. Ask your administrator to add you, or to give you an app role.",
            ),
        };
        Self::new(Code::Forbidden)
            .saying(message)
            .with("reason", word)
    }
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self::unauthorized(reason.as_str(), reason.sentence())
    }
}

impl From<Reason> for Error {
    fn from(reason: Reason) -> Self {
        Refusal::from(reason).into()
    }
}
