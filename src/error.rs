//! The errors of the API: one table of codes, and one type for refusals and internal failures.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;

use serde_json::{Map, Value};

macro_rules! codes {
    ($($name:ident = $code:literal, $status:literal, $sentence:literal;)*) => {
        /// An error code, on which clients branch. A code never changes (contract, section 1).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[expect(missing_docs, reason = "the sentence in the table explains each code")]
        pub enum Code {
            $($name,)*
        }

        impl Code {
            /// Every code, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The code's spelling in the API.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $code,)*
                }
            }

            /// The code's HTTP status.
            pub fn status(self) -> u16 {
                match self {
                    $(Self::$name => $status,)*
                }
            }

            /// The code's message for people, which a refusal may replace by a more precise one.
            pub fn sentence(self) -> &'static str {
                match self {
                    $(Self::$name => $sentence,)*
                }
            }
        }
    };
}

codes! {
    ValidationError = "validation_error", 400, "The request is not valid. Correct the field that details names and send the request again.";
    Unauthorized = "unauthorized", 401, "Send a valid credential as 'Authorization: Bearer <token>'.";
    Forbidden = "forbidden", 403, "This credential does not permit this request. Ask an administrator for one that does.";
    ClientIdNotAllowed = "client_id_not_allowed", 403, "Only a platform service account may send client_id. Remove client_id from the request.";
    AgentNotAllowed = "agent_not_allowed", 403, "This chat is routed to another agent. Send managed_agent_key: NEO_SUPPORT to use that agent, or send its agent_id.";
    AgentAccessDenied = "agent_access_denied", 403, "You do not have access to this agent. Ask an administrator for access.";
    AgentManagedByNeo = "agent_managed_by_neo", 403, "The server manages this agent, and no request can create, change or delete it. Use an agent of your own instead.";
    NotFound = "not_found", 404, "This resource does not exist. Check the path and the ids.";
    MethodNotAllowed = "method_not_allowed", 405, "This path does not support that method. Use one of the methods in the Allow header.";
    EndCompanyNotMapped = "end_company_not_mapped", 409, "Your organization is not set up for this chat yet. Please contact your IT support.";
    ChannelDisconnected = "channel_disconnected", 409, "This chat is not connected at the moment. Please contact your IT support.";
    AgentDisabled = "agent_disabled", 409, "This agent is disabled. Ask an administrator to enable it.";
    AgentUpdateConflict = "agent_update_conflict", 409, "The agent has changed since you read it. Read it again, then repeat your change.";
    AgentInUse = "agent_in_use", 409, "A channel uses this agent. Bind the channel to another agent first.";
    DuplicateClientMessage = "duplicate_client_message", 409, "This message was already accepted. Its ids are in details.";
    SessionArchived = "session_archived", 409, "This session is archived. Start a new session.";
    TooManyPendingTurns = "too_many_pending_turns", 409, "Too many messages in this session are waiting for an answer. Wait for an answer, then send the message again.";
    TurnInProgress = "turn_in_progress", 409, "This message is being answered. Wait for the answer, or cancel it, then ask again.";
    MessageNotLast = "message_not_last", 409, "Only the last message of a session can be answered again or changed. Send a new message instead.";
    MessageAnswered = "message_answered", 409, "This message was answered already. Send a new message instead.";
    TooManyAttachments = "too_many_attachments", 409, "This session has too many files. Send the uploaded files with a message, wait until unused uploads expire, or start a new session.";
    InstallConflict = "install_conflict", 409, "This M365 tenant cannot be installed for this bot. Ask the platform's operator.";
    CompanyAlreadyBound = "company_already_bound", 409, "This company or M365 tenant is already bound. Remove the existing binding first.";
    AlreadyExists = "already_exists", 409, "A resource with this name already exists. Choose another name.";
    LastAdmin = "last_admin", 409, "The last administrator cannot be demoted. Make another user an administrator first.";
    PayloadTooLarge = "payload_too_large", 413, "The request body is too large. Send at most 262,144 bytes.";
    UnsupportedMediaType = "unsupported_media_type", 415, "Send the body as 'Content-Type: application/json'.";
    AgentNotConversational = "agent_not_conversational", 422, "This agent does not chat. Choose an agent whose autonomy_type is CONVERSATIONAL.";
    EndCompanyRequired = "end_company_required", 422, "This agent serves client companies. Send end_company_id to select one.";
    AppPackageIncomplete = "app_package_incomplete", 409, "The app package lacks something that Teams demands.";
    AudienceMismatch = "audience_mismatch", 422, "The audiences do not match. Choose an agent and a channel with the same audience.";
    IdempotencyKeyReused = "idempotency_key_reused", 422, "This Idempotency-Key was already used with another body. Use a new key.";
    RateLimited = "rate_limited", 429, "Too many requests. Wait for the seconds in the Retry-After header, then try again.";
    InternalError = "internal_error", 500, "The server failed to handle this request. Try again. If the error persists, report the request_id.";
    Overloaded = "overloaded", 503, "The server is busy. Wait for the seconds in the Retry-After header, then try again.";
    ShuttingDown = "shutting_down", 503, "The server is shutting down. Wait for the seconds in the Retry-After header, then try again.";
    StorageFull = "storage_full", 503, "The server's disk is full. Reading still works. Free disk space, then try again.";
}

/// A refused request, as the reply reports it to the caller.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// The error code, for programs.
    pub code: Code,
    /// The message for people: what is wrong and what to do.
    pub message: Cow<'static, str>,
    /// Facts about the refusal, by name.
    pub details: Option<Map<String, Value>>,
    /// The seconds to wait before a retry, for `Retry-After`.
    pub retry_after_s: Option<u64>,
    /// The methods that the path supports, for `Allow`.
    pub allow: Option<String>,
    /// Whom else the refusal concerns. Only audit logs show it, and no reply.
    pub contested: Option<Box<Contested>>,
    /// What the operator has to know. Only the log shows it, and no reply.
    pub logged: Option<Box<str>>,
}

/// An M365 tenant of other tenants that a refused request asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Contested {
    /// The action of the event in the other tenants' audit logs.
    pub action: &'static str,
    /// The M365 tenant.
    pub directory: String,
    /// The bot that the request asked for, if it was about one.
    pub bot: Option<String>,
    /// The numbers of the other tenants.
    pub rivals: Vec<i64>,
}

impl Refusal {
    /// Makes a refusal with the code's own message.
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
            contested: None,
            logged: None,
        }
    }

    /// Replaces the code's message by a more precise one.
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

    /// Has the audit logs of other tenants show that the refused request was about their M365
    /// tenant, since the refusal tells the caller that there is one.
    #[must_use]
    pub fn contested(mut self, contested: Contested) -> Self {
        self.contested = Some(Box::new(contested));
        self
    }

    /// Has the log show this sentence beside the request's id.
    #[must_use]
    pub fn logged(mut self, sentence: impl Into<Box<str>>) -> Self {
        self.logged = Some(sentence.into());
        self
    }

    /// Makes a `validation_error`: the message is the field followed by the reason.
    pub fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Self {
        let (field, reason) = (field.into(), reason.into());
        Self::new(Code::ValidationError)
            .saying(format!("{field} {reason}."))
            .with("field", field)
            .with("reason", reason)
    }

    /// Makes an `unauthorized` refusal with the contract's reason.
    pub fn unauthorized(reason: &'static str, message: &'static str) -> Self {
        Self::new(Code::Unauthorized)
            .saying(message)
            .with("reason", reason)
    }
}

/// A refusal, or an internal failure whose cause only the log shows.
#[derive(Debug)]
pub enum Error {
    /// The caller receives it as it is.
    Refused(Box<Refusal>),
    /// The log shows it once with the request id, and the caller receives `internal_error`.
    Internal(Box<dyn StdError + Send + Sync>),
}

impl Error {
    /// Makes an internal failure that has no error value of its own.
    pub fn internal(cause: impl Into<String>) -> Self {
        Self::Internal(cause.into().into())
    }

    /// Whether this is a refusal with this code.
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

/// The crate's result type.
pub type Result<T, E = Error> = std::result::Result<T, E>;
