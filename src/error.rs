//! Every way to be refused: one table of codes, and one type that carries a refusal or an inner failure to the door.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;

use serde_json::{Map, Value};

macro_rules! codes {
    ($($name:ident = $code:literal, $status:literal, $sentence:literal;)*) => {
        /// What a client branches on; a code never changes (contract, section 1).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[expect(missing_docs, reason = "each is explained by its sentence in the table")]
        pub enum Code {
            $($name,)*
        }

        impl Code {
            /// Every code, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// As it is written on the wire.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $code,)*
                }
            }

            /// The HTTP status that it goes with.
            pub fn status(self) -> u16 {
                match self {
                    $(Self::$name => $status,)*
                }
            }

            /// What to tell a person where there is nothing more exact to say.
            pub fn sentence(self) -> &'static str {
                match self {
                    $(Self::$name => $sentence,)*
                }
            }
        }
    };
}

codes! {
    ValidationError = "validation_error", 400, "The request is not valid. Correct what details names and send it again.";
    Unauthorized = "unauthorized", 401, "Send a valid credential as 'Authorization: Bearer <token>'.";
    Forbidden = "forbidden", 403, "This credential may not do that. Ask an administrator for one that may.";
    ClientIdNotAllowed = "client_id_not_allowed", 403, "Only a platform service account may send client_id. Leave it out.";
    AgentNotAllowed = "agent_not_allowed", 403, "That agent does not answer here. Leave agent_id to the route, or name the routed agent.";
    AgentAccessDenied = "agent_access_denied", 403, "You may not use this agent. Ask an administrator for access.";
    AgentManagedByNeo = "agent_managed_by_neo", 403, "This agent is managed by the server and cannot be changed.";
    NotFound = "not_found", 404, "There is no such thing here. Check the address and the id.";
    MethodNotAllowed = "method_not_allowed", 405, "This address does not take that method. The Allow header lists those it takes.";
    EndCompanyNotMapped = "end_company_not_mapped", 409, "Your organisation is not set up for this chat yet.";
    ChannelDisconnected = "channel_disconnected", 409, "This chat is not connected at the moment. Please contact your IT support.";
    AgentDisabled = "agent_disabled", 409, "This agent is switched off. Ask an administrator to enable it.";
    AgentUpdateConflict = "agent_update_conflict", 409, "The agent was changed meanwhile. Read it again and repeat the change.";
    AgentInUse = "agent_in_use", 409, "A channel uses this agent. Bind the channel to another agent first.";
    DuplicateClientMessage = "duplicate_client_message", 409, "This message was accepted before; details has its ids.";
    SessionArchived = "session_archived", 409, "This session is archived. Start a new one.";
    TooManyPendingTurns = "too_many_pending_turns", 409, "Too many messages wait for an answer in this session. Wait for one to be answered.";
    TooManyAttachments = "too_many_attachments", 409, "This session has too many files. Send or wait for those that were uploaded.";
    InstallConflict = "install_conflict", 409, "That M365 tenant cannot be installed for this bot. Ask the platform's operator.";
    CompanyAlreadyBound = "company_already_bound", 409, "That company or directory is bound already. Unbind it first.";
    AlreadyExists = "already_exists", 409, "There is one of that name already. Choose another.";
    LastAdmin = "last_admin", 409, "The last administrator cannot be demoted. Make another one first.";
    PayloadTooLarge = "payload_too_large", 413, "The body is too large. Send at most 262,144 bytes.";
    UnsupportedMediaType = "unsupported_media_type", 415, "Send the body as 'Content-Type: application/json'.";
    AgentNotConversational = "agent_not_conversational", 422, "This agent does not chat. Choose a CONVERSATIONAL one.";
    EndCompanyRequired = "end_company_required", 422, "This agent serves client companies. Send end_company_id to say which one.";
    AudienceMismatch = "audience_mismatch", 422, "The audiences of the two do not fit together.";
    IdempotencyKeyReused = "idempotency_key_reused", 422, "This Idempotency-Key was used with another body. Use a new key.";
    RateLimited = "rate_limited", 429, "Too many requests. Wait as long as Retry-After says.";
    InternalError = "internal_error", 500, "Something went wrong on our side. Try again; if it stays, report the request_id.";
    Overloaded = "overloaded", 503, "The server is busy. Try again as Retry-After says.";
    ShuttingDown = "shutting_down", 503, "The server is shutting down. Try again as Retry-After says.";
    StorageFull = "storage_full", 503, "The server's disk is full; reading still works. Free some space and try again.";
}

/// A refusal that is told to the caller.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// What a client branches on.
    pub code: Code,
    /// A sentence for a person that says what to do.
    pub message: Cow<'static, str>,
    /// What failed, by name.
    pub details: Option<Map<String, Value>>,
    /// Seconds to wait before another try, for `Retry-After`.
    pub retry_after_s: Option<u64>,
    /// The methods that the address takes, for `Allow`.
    pub allow: Option<String>,
}

impl Refusal {
    /// A refusal with the code's own sentence.
    pub fn new(code: Code) -> Self {
        let retry_after_s = match code.status() {
            503 => Some(1),
            _ => None,
        };
        Self {
            code,
            message: code.sentence().into(),
            details: None,
            retry_after_s,
            allow: None,
        }
    }

    /// Says something more exact than the code's sentence.
    #[must_use]
    pub fn saying(mut self, message: impl Into<Cow<'static, str>>) -> Self {
        self.message = message.into();
        self
    }

    /// Adds an entry to `details`.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details
            .get_or_insert_default()
            .insert(name.to_owned(), value.into());
        self
    }

    /// Bad input: which field, and why (`validation_error`).
    pub fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Self {
        let (field, reason) = (field.into(), reason.into());
        Self::new(Code::ValidationError)
            .saying(format!("{field} {reason}."))
            .with("field", field)
            .with("reason", reason)
    }

    /// A credential that does not count, and the contract's word for why.
    pub fn unauthorized(reason: &'static str, message: &'static str) -> Self {
        Self::new(Code::Unauthorized)
            .saying(message)
            .with("reason", reason)
    }
}

/// A refusal, or a failure whose cause is for the log alone.
#[derive(Debug)]
pub enum Error {
    /// Told to the caller as it is.
    Refused(Box<Refusal>),
    /// Logged once under its request id, and told as `internal_error`.
    Internal(Box<dyn StdError + Send + Sync>),
}

impl Error {
    /// An inner failure that has no error value of its own.
    pub fn internal(cause: impl Into<String>) -> Self {
        Self::Internal(cause.into().into())
    }

    /// Whether it is a refusal with this code.
    pub fn is(&self, code: Code) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.code == code)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => f.write_str(&refusal.message),
            Self::Internal(cause) => fmt::Display::fmt(cause, f),
        }
    }
}

impl StdError for Error {}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

impl From<Code> for Error {
    fn from(code: Code) -> Self {
        Refusal::new(code).into()
    }
}

/// What almost everything here returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;
