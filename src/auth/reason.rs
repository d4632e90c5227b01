//! Why a credential does not count, in the contract's words (contract, section 1).

use crate::error::{Error, Refusal};

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $word:literal, $sentence:literal;)*) => {
        /// Why a token does not count.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Reason {
            $($(#[$doc])* $name,)*
        }

        impl Reason {
            /// As `details.reason` has it.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)*
                }
            }

            /// What to tell a person.
            pub fn sentence(self) -> &'static str {
                match self {
                    $(Self::$name => $sentence,)*
                }
            }
        }
    };
}

reasons! {
    /// It cannot be read.
    Malformed = "malformed", "The credential cannot be read. Send it whole, as 'Authorization: Bearer <token>'.";
    /// It is past its end.
    Expired = "expired", "The token has expired. Get another one.";
    /// Its time has not come.
    NotYetValid = "not_yet_valid", "The token is not valid yet. Check the clocks of both machines, or wait.";
    /// Its signature does not prove it.
    BadSignature = "bad_signature", "The token's signature does not hold. Get another one.";
    /// The key that it names is not known here.
    UnknownKey = "unknown_key", "The key that signed the token is not known here. Sign in again; if it stays, tell the operator.";
    /// It is meant for another program or purpose.
    WrongAudience = "wrong_audience", "The token is meant for another purpose. Get one for this server.";
    /// It comes from somebody whose tokens do not count here.
    WrongIssuer = "wrong_issuer", "This token was issued by somebody whom this server does not accept.";
    /// It says too little.
    MissingClaim = "missing_claim", "The token lacks a claim that it must have.";
    /// Its directory is no tenant's.
    UnknownTenant = "unknown_tenant", "Your organisation is not set up here. Ask the operator to enter its directory.";
    /// It was given out by nobody here.
    Unknown = "unknown", "This is not known here, or was used before. Ask for a new one.";
    /// It was ended before its time.
    Revoked = "revoked", "The token was ended. Sign in again.";
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
