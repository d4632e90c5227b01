//! The input and output of a responder. The built-in responder and the model client share them.

use crate::model::ids::SessionId;
use crate::model::session::Usage;
use crate::model::words::{MessageRole, ModelTier};

/// One image of a prompt.
#[derive(Clone)]
pub struct Image {
    /// The file's name, media type and description, for a text in place of the image.
    pub label: String,
    /// The media type, such as `image/png`.
    pub mime: String,
    /// The content of the file.
    pub bytes: Vec<u8>,
}

/// One message of the conversation.
#[derive(Clone)]
pub struct HistoryMessage {
    /// The author.
    pub role: MessageRole,
    /// The text.
    pub text: String,
    /// The attached images. A model gets only those of the user's messages.
    pub images: Vec<Image>,
}

/// Adds a paragraph to a text.
pub fn add_paragraph(text: &mut String, paragraph: &str) {
    if !text.is_empty() && !paragraph.is_empty() {
        text.push_str("\n\n");
    }
    text.push_str(paragraph);
}

/// The text in place of a file that the model does not see.
pub fn unseen_file(label: &str) -> String {
    format!("(The user sent a file that you cannot see: {label}.)")
}

/// The prompt of one turn.
#[derive(Clone)]
pub struct Prompt {
    /// The session. What the server learns about a model must not hang on one session's messages.
    pub session: SessionId,
    /// The model tier that answers.
    pub tier: ModelTier,
    /// The system message: instructions and knowledge.
    pub system: String,
    /// The conversation, oldest message first. The last message is the user's, which the responder
    /// answers. Messages that failed turns left unanswered follow each other.
    pub history: Vec<HistoryMessage>,
}

impl Prompt {
    /// Whether the message to answer has images.
    pub fn asks_about_images(&self) -> bool {
        self.history
            .last()
            .is_some_and(|message| !message.images.is_empty())
    }

    /// Whether the prompt contains the tag that ends a thought. An answer may repeat the tag then,
    /// which tells nothing about the model.
    pub fn mentions_thoughts(&self) -> bool {
        let texts = self.history.iter().map(|message| &message.text);
        texts.chain([&self.system]).any(|text| {
            let mut ends = text.match_indices("</");
            ends.any(|(at, _)| {
                let name = text.as_bytes().get(at + 2..at + 7);
                name.is_some_and(|name| name.eq_ignore_ascii_case(b"think"))
            })
        })
    }
}

/// The reason why a complete answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The answer is complete.
    Stop,
    /// The answer reached a length limit.
    Length,
    /// The model's provider withheld the rest.
    ContentFilter,
    /// The model wanted to call a tool.
    ToolCalls,
    /// Any other reason.
    Other,
}

impl FinishReason {
    /// Whether the answer has its end. The rest of the thought and the answer may be missing
    /// otherwise.
    pub fn is_complete(self) -> bool {
        match self {
            Self::Stop | Self::ToolCalls | Self::Other => true,
            Self::Length | Self::ContentFilter => false,
        }
    }

    /// The reason as the AI SDK spells it.
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
    /// The reason why the answer ended.
    pub finish_reason: FinishReason,
    /// The tokens that the answer used, if the responder reports them.
    pub usage: Option<Usage>,
    /// Whether the responder did not see images of the message that it answered.
    pub hides_images: bool,
}

/// The reason why an answer ended early. Chunks that were sent before it stay part of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponderError {
    /// The code that a client branches on, in snake case.
    pub code: &'static str,
    /// A sentence for the user, without the API key, the address, or any text of the model's
    /// server.
    pub message: String,
    /// One line for the operator, without the API key.
    pub log: String,
}

impl ResponderError {
    /// The error of a message that a content filter of the model's provider refused.
    pub fn filtered(log: String) -> Self {
        Self {
            code: "model_content_filtered",
            message: "The assistant's content filter refused this message. Please ask again in other words."
                .to_owned(),
            log,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::Tick;

    #[test]
    fn a_prompt_mentions_thoughts_in_its_system_message_or_its_history() {
        let prompt = |system: &str, text: &str| Prompt {
            session: SessionId::new(Tick(1), 0),
            tier: ModelTier::Fast,
            system: system.to_owned(),
            history: vec![HistoryMessage {
                role: MessageRole::User,
                text: text.to_owned(),
                images: Vec::new(),
            }],
        };
        assert!(prompt("", "What is </b></ThinK>?").mentions_thoughts());
        assert!(prompt("End it with </think", "").mentions_thoughts());
        for text in ["", "</", "</thin", "<think>", "</ think>", "</\u{fc}think>"] {
            assert!(!prompt(text, text).mentions_thoughts(), "{text}");
        }
    }
}
