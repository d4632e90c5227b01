//! What every responder takes and gives, whatever writes the words.

use crate::model::session::Usage;
use crate::model::words::{MessageRole, ModelTier};

/// One image handed to a model.
#[derive(Clone)]
pub struct Image {
    /// Its media type, such as `image/png`.
    pub mime: String,
    /// The file itself.
    pub bytes: Vec<u8>,
}

/// One message of the conversation.
#[derive(Clone)]
pub struct HistoryMessage {
    /// Who said it.
    pub role: MessageRole,
    /// What was said.
    pub text: String,
    /// What was shown with it; a model sees only those of a user.
    pub images: Vec<Image>,
}

/// What a responder is asked.
#[derive(Clone)]
pub struct Question {
    /// Which model is to answer.
    pub tier: ModelTier,
    /// What the responder must know and keep to.
    pub system: String,
    /// Oldest first, user and assistant in turn; the last is the user's message to answer.
    pub history: Vec<HistoryMessage>,
}

/// Why a complete answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// All was said.
    Stop,
    /// It grew too long.
    Length,
    /// The model's provider withheld the rest.
    ContentFilter,
    /// The model wanted to call a tool.
    ToolCalls,
    /// Something else.
    Other,
}

impl FinishReason {
    /// How the AI SDK spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ContentFilter => "content-filter",
            Self::ToolCalls => "tool-calls",
            Self::Other => "other",
        }
    }
}

/// How a complete answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// What it cost, where the responder says so.
    pub usage: Option<Usage>,
}

/// Why an answer ended early; the chunks said until then stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What a client branches on, in snake case.
    pub code: &'static str,
    /// A sentence for the user, without key, address or anything that the model's server said.
    pub message: String,
    /// One line for the operator, without the key.
    pub log: String,
}
