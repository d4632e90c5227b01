//! Sessions, messages and turns as the API shows them (contract, sections 3 and 4).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::author::Author;
use super::caller::{Actor, SessionFacts};
use super::clock::Timestamp;
use super::file;
use super::ids::{AttachmentId, ChannelId, MessageId, SessionId, Tick, TurnId};
use super::names::{
    AgentId, BotId, ClientId, CompanyId, CompanyRow, ExternalId, M365TenantId, TenantNo,
};
use super::words::{FileType, MessageRole, ModelTier, Rating, Rule, SessionChannel, TurnStatus};

/// Pairs of strings that a client stores with a session.
pub type Metadata = BTreeMap<String, String>;

/// A session.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Session {
    /// The session's id.
    pub id: SessionId,
    /// The agent that answers.
    pub agent_id: AgentId,
    /// The acting tenant.
    pub client_id: ClientId,
    /// The kind of client that opened the session.
    pub channel: SessionChannel,
    /// The title.
    pub title: Option<String>,
    /// When the session was archived; `null` if it is not archived.
    pub archived_at: Option<Timestamp>,
    /// When the session was created.
    pub created_at: Timestamp,
    /// When the session last changed.
    pub updated_at: Timestamp,
    /// Whether clients show the agent's steps.
    pub show_agent_progress_steps: bool,
    /// The channel that routed the session.
    pub channel_id: Option<ChannelId>,
    /// The text that the relay puts before each of its messages, by that channel's setting.
    pub relay_prefix: Option<String>,
    /// The company that the session is pinned to.
    pub end_company_id: Option<CompanyId>,
    /// The caller that created the session.
    pub created_by: Actor,
    /// The creating client's own id of the conversation.
    pub external_id: Option<ExternalId>,
    /// The person who talks in the session; `null` for nobody in particular, such as a group.
    pub end_user: Option<EndUser>,
    /// Whether the tenant's other users may read the session.
    pub shared: bool,
    /// The number of messages.
    pub message_count: i64,
    /// Pairs of strings that the client stores with the session.
    pub metadata: Metadata,
    /// Why this agent answers.
    pub resolution: Decision,
    /// The stored facts that only rules read.
    #[serde(skip)]
    pub internals: SessionInternals,
}

/// A session of a list. A search adds where it found its words.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ListedSession {
    /// The session.
    #[serde(flatten)]
    pub session: Session,
    /// The message in which a search found its words; `null` if only the title has them. Absent in
    /// a list without `q`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Snippet>")]
    pub snippet: Option<Option<Snippet>>,
}

impl From<Session> for ListedSession {
    fn from(session: Session) -> Self {
        Self {
            session,
            snippet: None,
        }
    }
}

/// Where a search found its words in a message.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Snippet {
    /// The message with the most words of the search, of several the newest.
    pub message_id: MessageId,
    /// Up to 160 characters of the message around the first word that was found.
    pub text: String,
    /// The beginning and the end of each place in `text` that was found, in UTF-16 code units.
    /// Ascending, without overlaps.
    pub marks: Vec<[usize; 2]>,
}

/// Why this agent answers. It never changes during the session's life.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Decision {
    /// The rule that decided.
    pub rule: Rule,
    /// The channel that routed the session.
    pub channel_id: Option<ChannelId>,
    /// When the rule decided.
    pub decided_at: Timestamp,
}

/// The facts of a session that rules need and the API does not show.
#[derive(Clone, Debug)]
pub struct SessionInternals {
    /// The database's number of the acting tenant.
    pub tenant: TenantNo,
    /// The acting tenant's own limit of requests per minute, if it has one.
    pub rate_limit_per_minute: Option<i64>,
    /// The own tenant of the platform account that created the session, if one did.
    pub platform_tenant: Option<TenantNo>,
    /// The row of the session's company. Without one, the company is gone.
    pub company: Option<CompanyRow>,
    /// The M365 tenant that the session's company was pinned by.
    pub pinned_by: Option<M365TenantId>,
    /// What the call that gave the external id asked for. Empty without an external id.
    pub external_call: ExternalCall,
}

/// A person who talks in a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct EndUser {
    /// The person's id, as the client names people.
    pub id: String,
    /// The person's name.
    pub name: Option<String>,
    /// The person's email address.
    pub email: Option<String>,
}

impl EndUser {
    /// What people call the person: the name, or else the id.
    pub fn display_name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.id)
    }
}

/// The conversation that a call with an external id is about. Another call with the same id gets
/// the session only if it is about the same one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExternalCall {
    /// The bot that received the message.
    pub bot: Option<BotId>,
    /// The M365 tenant that the message came from.
    pub directory: Option<M365TenantId>,
}

impl Session {
    /// The facts that decide what a caller may do with the session.
    pub fn facts(&self) -> SessionFacts {
        SessionFacts {
            id: self.id,
            tenant: self.internals.tenant,
            platform_tenant: self.internals.platform_tenant,
            created_by: self.created_by.clone(),
            shared: self.shared,
        }
    }

    /// Whether two calls with one external id, of one account in one tenant, are about the same
    /// conversation and decided in the same way.
    pub fn is_same_conversation(&self, other: &Self) -> bool {
        let decided = |session: &Self| {
            let internals = &session.internals;
            (
                (session.agent_id, session.resolution.rule),
                (session.channel_id, internals.company),
                (internals.pinned_by.clone(), internals.external_call.clone()),
            )
        };
        self.end_company_id == other.end_company_id && decided(self) == decided(other)
    }

    /// Whether this row is the session's company. The company's id alone does not tell.
    pub fn is_of(&self, company: CompanyRow) -> bool {
        self.internals.company == Some(company)
    }
}

/// A position in a session's stream: `<milliseconds>-<sequence>` (contract, section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor(pub Tick);

impl Cursor {
    /// Parses a cursor in exactly the form that it is written; `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        let (millis, counter) = text.split_once('-')?;
        let (millis, counter): (i64, i64) = (millis.parse().ok()?, counter.parse().ok()?);
        let is_in_range = (0..1 << 48).contains(&millis) && (0..1 << 12).contains(&counter);
        let cursor = is_in_range.then(|| Self(Tick::new(millis, counter)))?;
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

/// The result of appending a message.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Appended {
    /// The appended message.
    pub user_message_id: MessageId,
    /// The turn that answers the message.
    pub chat_turn_id: TurnId,
    /// The position in the stream where the answer begins.
    pub since_cursor: Cursor,
}

/// A message.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Message {
    /// The message's id.
    pub id: MessageId,
    /// Whether a person or the agent wrote the message.
    pub role: MessageRole,
    /// Who wrote the message; `null` in a message of a version that did not record it.
    pub author: Option<Author>,
    /// The message as parts of an AI SDK `UIMessage`.
    pub parts: Parts,
    /// The text alone.
    pub content: String,
    /// The attachments.
    pub attachments: Vec<Attachment>,
    /// The turn that the message belongs to.
    pub chat_turn_id: TurnId,
    /// The model that answers the turn.
    pub model_tier: ModelTier,
    /// Why the answer ended.
    pub finish_reason: Option<String>,
    /// When the message was created.
    pub created_at: Timestamp,
    /// A reader's feedback.
    pub feedback: Option<Feedback>,
    /// All answers to the question, oldest first, if there are several. The last one is the newest.
    pub versions: Vec<Version>,
    /// The question's first turn and the newest answer, if there may be several answers.
    #[serde(skip)]
    pub answers: Option<[Tick; 2]>,
    /// The author's name that a search finds with the text.
    #[serde(skip)]
    pub searched_name: Option<String>,
}

/// One of several answers to a question.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Version {
    /// The answer.
    pub id: MessageId,
    /// The turn that gave the answer.
    pub chat_turn_id: TurnId,
    /// Why the answer ended.
    pub finish_reason: Option<String>,
    /// When the answer was stored.
    pub created_at: Timestamp,
}

impl Message {
    /// Removes the parts of reasoning.
    ///
    /// # Errors
    /// The stored parts are not valid JSON.
    pub fn hide_reasoning(&mut self) -> serde_json::Result<()> {
        /// A part, as far as its type.
        #[derive(serde::Deserialize)]
        struct Typed<'a> {
            #[serde(borrow)]
            r#type: Cow<'a, str>,
        }
        let Parts::Stored(stored) = &self.parts else {
            return Ok(());
        };
        let parts: Vec<&RawValue> = serde_json::from_str(stored.get())?;
        let mut shown = Vec::with_capacity(parts.len());
        for part in parts {
            if serde_json::from_str::<Typed<'_>>(part.get())?.r#type != "reasoning" {
                shown.push(part);
            }
        }
        self.parts = Parts::Stored(serde_json::value::to_raw_value(&shown)?);
        Ok(())
    }
}

/// The parts of an AI SDK `UIMessage`, which a client passes to the SDK as they are.
#[derive(Clone, Debug)]
pub enum Parts {
    /// A text part, unless the text is empty, and a part for each file.
    TextAndFiles(String, Vec<FilePart>),
    /// The stored parts of an answer.
    Stored(Box<RawValue>),
}

/// A text part of the AI SDK.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(tag = "type", rename = "text")]
pub struct TextPart<'a> {
    /// The text.
    pub text: &'a str,
}

/// A file part of the AI SDK.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(tag = "type", rename = "file", rename_all = "camelCase")]
pub struct FilePart {
    /// The file's media type.
    pub media_type: FileType,
    /// The file's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filename: Option<String>,
    /// A signed URL of the file, which expires.
    pub url: String,
}

impl Serialize for Parts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::TextAndFiles(text, files) => {
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

/// An attachment of a message.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// The attachment's id.
    pub id: AttachmentId,
    /// The media type.
    pub mime: FileType,
    /// The file's name.
    pub filename: Option<String>,
    /// A description of the content for people who cannot see it.
    pub alt: Option<String>,
    /// The size in bytes.
    pub bytes: i64,
    /// A signed URL of the file, which expires.
    ///
    /// It is empty until the HTTP layer signs it, because only that layer knows the server's URL.
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

/// A reader's feedback on an answer.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Feedback {
    /// The rating.
    pub rating: Option<Rating>,
    /// The reader's comment.
    pub comment: Option<String>,
}

/// A turn: a user's message and the agent's answer.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Turn {
    /// The turn's id.
    pub id: TurnId,
    /// The turn's state.
    pub status: TurnStatus,
    /// Why the turn failed.
    pub error: Option<TurnError>,
    /// The answer, or the part of it that is stored.
    pub assistant_message: Option<Message>,
    /// The tokens that the turn used.
    pub usage: Option<Usage>,
    /// When the message was accepted.
    pub queued_at: Timestamp,
    /// When the answer began.
    pub started_at: Option<Timestamp>,
    /// When the turn ended.
    pub finished_at: Option<Timestamp>,
}

impl Turn {
    /// Whether the turn is in a final state.
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
    /// The error code, for programs.
    pub code: String,
    /// A sentence for the user.
    pub message: String,
}

/// The tokens that a turn used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Usage {
    /// Tokens that the model read.
    pub input_tokens: i64,
    /// Tokens that the model wrote.
    pub output_tokens: i64,
}

/// The most characters of a title that comes from a first message.
const DERIVED_TITLE: usize = 80;

/// The title that a first message gives to its session: its first line, cut between words.
pub fn title_of(message: &str) -> Option<String> {
    let line = message
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty())?;
    let Some((end, _)) = line.char_indices().nth(DERIVED_TITLE) else {
        return Some(line.to_owned());
    };
    let cut = &line[..end];
    let cut = cut
        .rfind(char::is_whitespace)
        .map_or(cut, |space| &cut[..space]);
    Some(format!("{}…", cut.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_the_first_line_cut_between_words() {
        assert_eq!(
            title_of("\n  My printer is on fire \nsince noon"),
            Some("My printer is on fire".to_owned())
        );
        assert_eq!(title_of(" \n"), None);
        let long = "word ".repeat(40);
        assert_eq!(
            title_of(&long),
            Some(format!("{}…", "word ".repeat(16).trim_end()))
        );
        assert_eq!(
            title_of(&"é".repeat(100)),
            Some(format!("{}…", "é".repeat(80)))
        );
    }
}
