//! The envelopes of the AI SDK's UI message stream that this server sends (contract, section 5, Envelopes).

use serde::Serialize;

use crate::model::ids::{MessageId, TurnId};
use crate::model::session::Usage;

/// One envelope. No field is ever `null`, and none is there that version 6.0.0 of the SDK does not know.
#[derive(Clone, Debug, Serialize)]
#[serde(
    tag = "type",
    rename_all = "kebab-case",
    rename_all_fields = "camelCase"
)]
#[expect(
    missing_docs,
    reason = "the names are the SDK's, the contract says what each means"
)]
pub enum Envelope<'a> {
    Start {
        message_id: MessageId,
        message_metadata: StartMetadata,
    },
    StartStep,
    TextStart {
        id: &'a str,
    },
    TextDelta {
        id: &'a str,
        delta: &'a str,
    },
    TextEnd {
        id: &'a str,
    },
    ReasoningStart {
        id: &'a str,
    },
    ReasoningDelta {
        id: &'a str,
        delta: &'a str,
    },
    ReasoningEnd {
        id: &'a str,
    },
    SourceUrl {
        source_id: &'a str,
        url: &'a str,
        title: &'a str,
    },
    SourceDocument {
        source_id: &'a str,
        media_type: &'a str,
        title: &'a str,
    },
    FinishStep,
    Finish {
        finish_reason: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        message_metadata: Option<FinishMetadata>,
    },
    Abort,
    Error {
        error_text: &'a str,
    },
}

/// What the start says of its turn.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct StartMetadata {
    /// The turn.
    pub chat_turn_id: TurnId,
}

/// What the end says of its turn.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct FinishMetadata {
    /// What it cost.
    pub usage: Usage,
}

impl Envelope<'_> {
    /// As JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|error| {
            // Strings and ids alone: this cannot fail; were it to, an error envelope is the honest thing.
            log::error!("an envelope was not written: {error}");
            r#"{"type":"error","errorText":"The answer could not be written."}"#.to_owned()
        })
    }
}
