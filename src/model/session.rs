//! Sessions, messages and turns as the wire shows them (contract, sections 3 and 4).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::caller::{Actor, SessionFacts};
use super::clock::Timestamp;
use super::file;
use super::ids::{AttachmentId, ChannelId, MessageId, SessionId, Tick, TurnId};
use super::names::{AgentId, ClientId, CompanyId, M365TenantId, TenantNo};
use super::words::{FileType, MessageRole, ModelTier, Rating, Rule, SessionChannel, TurnStatus};

/// Pairs of strings that a client keeps with a session.
pub type Metadata = BTreeMap<String, String>;

/// A session.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// The agent that answers.
    pub agent_id: AgentId,
    /// The acting tenant.
    pub client_id: ClientId,
    /// Where it comes from.
    pub channel: SessionChannel,
    /// Its title.
    pub title: Option<String>,
    /// When it was archived, if it is.
    pub archived_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// Whether clients show the agent's steps.
    pub show_agent_progress_steps: bool,
    /// The channel that routed here.
    pub channel_id: Option<ChannelId>,
    /// The company that it is pinned to.
    pub end_company_id: Option<CompanyId>,
    /// Who made it.
    pub created_by: Actor,
    /// Whether the tenant's other users may read it.
    pub shared: bool,
    /// How many messages it has.
    pub message_count: i64,
    /// What its client keeps with it.
    pub metadata: Metadata,
    /// Why this agent answers.
    pub resolution: Decision,
    /// What the file knows beside, for the rules.
    #[serde(skip)]
    pub inside: Inside,
}

/// Why this agent answers; kept unchanged for the session's life.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Decision {
    /// The rule that decided.
    pub rule: Rule,
    /// The channel that routed here.
    pub channel_id: Option<ChannelId>,
    /// When.
    pub decided_at: Timestamp,
}

/// What the rules need of a session and the wire does not show.
#[derive(Clone, Debug)]
pub struct Inside {
    /// The acting tenant as the file names it.
    pub tenant: TenantNo,
    /// The home of the platform account that made it, if one did.
    pub platform_tenant: Option<TenantNo>,
    /// The M365 tenant that pinned it.
    pub pinned_by: Option<M365TenantId>,
}

impl Session {
    /// What decides who may do what with it.
    pub fn facts(&self) -> SessionFacts {
        SessionFacts {
            id: self.id,
            tenant: self.inside.tenant,
            platform_tenant: self.inside.platform_tenant,
            created_by: self.created_by.clone(),
            shared: self.shared,
        }
    }
}

/// A place in a session's stream: `<milliseconds>-<sequence>` (contract, section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor(pub Tick);

impl Cursor {
    /// Reads a cursor exactly as it is written; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let (millis, counter) = text.split_once('-')?;
        let (millis, counter): (i64, i64) = (millis.parse().ok()?, counter.parse().ok()?);
        let fits = (0..1 << 48).contains(&millis) && (0..1 << 12).contains(&counter);
        let cursor = fits.then(|| Self(Tick::new(millis, counter)))?;
        (cursor.to_string() == text).then_some(cursor)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0.millis(), self.0.counter())
    }
}

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Cursor {
    fn schema_name() -> Cow<'static, str> {
        "Cursor".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9]+-[0-9]+$" })
    }

    fn inline_schema() -> bool {
        true
    }
}

/// What an append gave.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Appended {
    /// The message.
    pub user_message_id: MessageId,
    /// The turn that will answer it.
    pub chat_turn_id: TurnId,
    /// Where its answer begins in the stream.
    pub since_cursor: Cursor,
}

/// A message.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Message {
    /// Its id.
    pub id: MessageId,
    /// Who said it.
    pub role: MessageRole,
    /// Parts of an AI SDK `UIMessage`.
    pub parts: Parts,
    /// The text alone.
    pub content: String,
    /// Its files.
    pub attachments: Vec<Attachment>,
    /// The turn that it belongs to.
    pub chat_turn_id: TurnId,
    /// Which model answers, or answered.
    pub model_tier: ModelTier,
    /// Why an answer ended.
    pub finish_reason: Option<String>,
    /// When.
    pub created_at: Timestamp,
    /// What a reader thought of it.
    pub feedback: Option<Feedback>,
}

/// Parts of an AI SDK `UIMessage`, as a client hands them to the SDK.
#[derive(Clone, Debug)]
pub enum Parts {
    /// One text part, unless it is empty, and the files.
    Said(String, Vec<FilePart>),
    /// Several, as they were stored.
    Stored(Box<RawValue>),
}

/// A text as the AI SDK knows it.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(tag = "type", rename = "text")]
pub struct TextPart<'a> {
    /// What it says.
    pub text: &'a str,
}

/// A file as the AI SDK knows it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(tag = "type", rename = "file", rename_all = "camelCase")]
pub struct FilePart {
    /// What it is.
    pub media_type: FileType,
    /// What it is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filename: Option<String>,
    /// Where it can be fetched, for a while.
    pub url: String,
}

impl Serialize for Parts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Said(text, files) => {
                let mut parts = serializer.serialize_seq(None)?;
                if !text.is_empty() {
                    parts.serialize_element(&TextPart { text })?;
                }
                for file in files {
                    parts.serialize_element(file)?;
                }
                parts.end()
            }
            Self::Stored(parts) => parts.serialize(serializer),
        }
    }
}

impl JsonSchema for Parts {
    fn schema_name() -> Cow<'static, str> {
        "Parts".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "array",
            "items": {
                "type": "object",
                "required": ["type"],
                "properties": { "type": { "type": "string" } },
                "additionalProperties": true,
            },
            "description": "Parts of an AI SDK UIMessage; a text part is exactly {type, text}.",
        })
    }
}

/// A file of a message.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// Names it.
    pub id: AttachmentId,
    /// What it is.
    pub mime: FileType,
    /// What it is called.
    pub filename: Option<String>,
    /// What it shows, in words.
    pub alt: Option<String>,
    /// How large it is.
    pub bytes: i64,
    /// Where it can be fetched, for a while; empty until somebody who knows the server's address has signed it.
    pub url: String,
}

impl Serialize for Attachment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_map(None)?;
        fields.serialize_entry("blob_path", &file::blob_path(self.id))?;
        fields.serialize_entry("mime", &self.mime)?;
        fields.serialize_entry("filename", &self.filename)?;
        if let Some(alt) = &self.alt {
            fields.serialize_entry("alt", alt)?;
        }
        fields.serialize_entry("bytes", &self.bytes)?;
        fields.serialize_entry("url", &self.url)?;
        fields.end()
    }
}

impl JsonSchema for Attachment {
    fn schema_name() -> Cow<'static, str> {
        "Attachment".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "required": ["blob_path", "mime", "filename", "bytes", "url"],
            "properties": {
                "blob_path": { "type": "string" },
                "mime": generator.subschema_for::<FileType>(),
                "filename": { "type": ["string", "null"] },
                "alt": { "type": "string" },
                "bytes": { "type": "integer" },
                "url": { "type": "string" },
            },
        })
    }
}

/// What a reader thought of an answer.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Feedback {
    /// Good or bad.
    pub rating: Option<Rating>,
    /// In words.
    pub comment: Option<String>,
}

/// A turn.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Turn {
    /// Its id.
    pub id: TurnId,
    /// Where it stands.
    pub status: TurnStatus,
    /// Why it failed.
    pub error: Option<TurnError>,
    /// The answer, or what there is of it.
    pub assistant_message: Option<Message>,
    /// What it cost.
    pub usage: Option<Usage>,
    /// When it was accepted.
    pub queued_at: Timestamp,
    /// When its answer began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}

impl Turn {
    /// Whether nothing more will happen to it.
    pub fn has_ended(&self) -> bool {
        match self.status {
            TurnStatus::Queued | TurnStatus::Running => false,
            TurnStatus::Completed | TurnStatus::Failed | TurnStatus::Cancelled => true,
        }
    }
}

/// Why a turn failed.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct TurnError {
    /// What a client branches on.
    pub code: String,
    /// A sentence for the user.
    pub message: String,
}

/// What a turn cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Usage {
    /// Tokens read.
    pub input_tokens: i64,
    /// Tokens written.
    pub output_tokens: i64,
}
