//! The envelopes of the AI SDK's UI message stream that this server sends (contract, section 5,
//! Envelopes).

use serde::Serialize;

use crate::model::ids::{MessageId, TurnId};
use crate::model::session::Usage;

/// One envelope. Its fields are those that version 6.0.0 of the SDK knows, and none is ever `null`:
/// that version's strict schema ends the stream otherwise.
#[derive(Clone, Debug, Serialize)]
#[serde(
    tag = "type",
    rename_all = "kebab-case",
    rename_all_fields = "camelCase"
)]
#[expect(
    missing_docs,
    reason = "the names are those of the SDK, and the contract explains each"
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

/// The metadata of a turn's `start`.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct StartMetadata {
    /// The turn.
    pub chat_turn_id: TurnId,
}

/// The metadata of a turn's `finish`.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct FinishMetadata {
    /// The tokens that the answer used.
    pub usage: Usage,
}

impl Envelope<'_> {
    /// The envelope as JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|error| {
            // An envelope holds only strings, numbers and ids, so serialization cannot fail. If it
            // ever does, the reader gets an error envelope instead of a gap.
            log::error!("an envelope was not serialized: {error}");
            r#"{"type":"error","errorText":"The answer could not be written."}"#.to_owned()
        })
    }
}
