//! The activities that Teams sends (Bot Framework protocol), as far as this server reads them.

use serde_json::{Map, Value, json};

use super::token::without_prefix;
use crate::error::{Refusal, Result};
use crate::model::author::one_line;
use crate::model::directory::guid;
use crate::store::teams::ConversationKind;

/// The most characters of an id that is stored.
const MAX_ID: usize = 1_024;
/// The most characters of a person's id.
const MAX_PERSON: usize = 255;
/// The most characters of a person's name.
const MAX_NAME: usize = 200;

/// What the token of an activity is compared with.
#[derive(Clone, Debug, Default)]
pub struct Envelope {
    /// The channel, such as `msteams`.
    pub channel_id: Option<String>,
    /// Where replies go.
    pub service_url: Option<String>,
    /// The account that the activity is sent to.
    pub recipient: Option<String>,
}

impl Envelope {
    /// Reads the three fields. Other types are no values.
    pub fn of(activity: &Value) -> Self {
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        Self {
            channel_id: text(activity.get("channelId")),
            service_url: text(activity.get("serviceUrl")),
            recipient: text(activity.pointer("/recipient/id")),
        }
    }
}

/// A person or a bot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// The account in Teams.
    pub id: String,
    /// The id in the directory, if it is a person's.
    pub directory_id: Option<String>,
    /// The name.
    pub name: Option<String>,
}

impl Account {
    /// The id of a person: that of the directory if Teams tells it, which is the same in all
    /// conversations, else that of the account.
    pub fn person(&self) -> &str {
        self.directory_id.as_deref().unwrap_or(&self.id)
    }
}

/// A mention in a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mention {
    /// The account that is mentioned.
    pub id: String,
    /// The name.
    pub name: String,
    /// The text of the message that mentions it.
    pub text: String,
}

/// What an activity is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A message.
    Message,
    /// A changed message.
    Edit,
    /// A deleted message.
    Delete,
    /// The bot was added to the conversation, or the person installed it.
    Installed,
    /// The bot was removed.
    Removed,
    /// Feedback on the message that `reply_to` names.
    Feedback,
    /// Another call that Teams waits for.
    OtherInvoke,
    /// Anything else.
    Other,
}

/// An activity.
#[derive(Clone, Debug)]
pub struct Activity {
    /// What it is about.
    pub event: Event,
    /// Its id. Some kinds have none.
    pub id: Option<String>,
    /// Its own time.
    pub stamp: Option<String>,
    /// The conversation.
    pub conversation: String,
    /// The kind of conversation.
    pub kind: ConversationKind,
    /// The M365 tenant of the conversation, and that of the channel's data.
    pub directories: [Option<String>; 2],
    /// Who sent it.
    pub from: Account,
    /// The bot's account.
    pub recipient: Account,
    /// Where replies go.
    pub service_url: String,
    /// The text as Teams writes it.
    pub text: String,
    /// The mentions in the text.
    pub mentions: Vec<Mention>,
    /// The attachments as they came.
    pub attachments: Vec<Value>,
    /// The message that it answers or is about.
    pub reply_to: Option<String>,
    /// The value of an invoke.
    pub value: Value,
    /// The whole conversation, for a reply.
    whole_conversation: Value,
    locale: Option<String>,
}

impl Activity {
    /// Reads an activity.
    ///
    /// # Errors
    /// `validation_error` for an activity without a conversation or a sender, and for a message
    /// without an id.
    pub fn parse(body: &Value) -> Result<Self> {
        let text = |path: &str| body.pointer(path).and_then(Value::as_str);
        let id_at = |path: &'static str| {
            let id = text(path).filter(|id| !id.is_empty() && id.chars().count() <= MAX_ID);
            id.map(str::to_owned)
        };
        let invalid = |field: &str| {
            let reason = format!("must be a text of 1 to {MAX_ID} characters");
            crate::error::Error::from(Refusal::invalid(field, reason))
        };
        let conversation = id_at("/conversation/id").ok_or_else(|| invalid("conversation.id"))?;
        let event = event(body);
        let id = id_at("/id");
        if id.is_none() && matches!(event, Event::Message | Event::Edit | Event::Delete) {
            return Err(invalid("id"));
        }
        let list = |name: &str| body.get(name).and_then(Value::as_array).cloned();
        Ok(Self {
            event,
            id,
            stamp: text("/timestamp").map(str::to_owned),
            conversation,
            kind: kind(body),
            directories: [
                text("/conversation/tenantId"),
                text("/channelData/tenant/id"),
            ]
            .map(|id| id.filter(|id| !id.is_empty()).map(spelled)),
            from: account(body.get("from")),
            recipient: account(body.get("recipient")),
            service_url: text("/serviceUrl").unwrap_or_default().to_owned(),
            text: text("/text").unwrap_or_default().to_owned(),
            mentions: list("entities")
                .unwrap_or_default()
                .iter()
                .filter_map(mention)
                .collect(),
            attachments: list("attachments").unwrap_or_default(),
            reply_to: id_at("/replyToId"),
            value: body.get("value").cloned().unwrap_or_default(),
            whole_conversation: body.get("conversation").cloned().unwrap_or_default(),
            locale: text("/locale").map(str::to_owned),
        })
    }

    /// The M365 tenant, if the activity names exactly one.
    ///
    /// # Errors
    /// Both that the activity names, if they differ: a guest, or a channel that organizations share.
    pub fn directory(&self) -> Result<Option<&str>, [&str; 2]> {
        match &self.directories {
            [Some(one), Some(other)] if one != other => Err([one, other]),
            [Some(one), _] | [None, Some(one)] => Ok(Some(one)),
            [None, None] => Ok(None),
        }
    }

    /// Whether several people may write in the conversation.
    pub fn is_group(&self) -> bool {
        self.kind != ConversationKind::Personal
    }

    /// Whether the message mentions the bot.
    pub fn mentions_bot(&self) -> bool {
        self.mentions.iter().any(|mention| self.is_bot(&mention.id))
    }

    /// Whether an account is the bot.
    pub fn is_bot(&self, account: &str) -> bool {
        without_prefix(account).eq_ignore_ascii_case(without_prefix(&self.recipient.id))
    }

    /// What a reply names, as JSON: a conversation reference of the Bot Framework.
    pub fn reference(&self) -> String {
        let account = |account: &Account| json!({ "id": account.id, "name": account.name, "aadObjectId": account.directory_id });
        let mut reference = Map::new();
        reference.insert("bot".to_owned(), account(&self.recipient));
        reference.insert("user".to_owned(), account(&self.from));
        reference.insert("conversation".to_owned(), self.whole_conversation.clone());
        reference.insert("locale".to_owned(), self.locale.clone().into());
        Value::from(reference).to_string()
    }
}

/// A directory's id in one spelling, so that comparisons ignore case and dashes.
fn spelled(id: &str) -> String {
    guid(id).unwrap_or_else(|| id.to_ascii_lowercase())
}

fn event(body: &Value) -> Event {
    let text = |name: &str| body.get(name).and_then(Value::as_str);
    let recipient = body.pointer("/recipient/id").and_then(Value::as_str);
    let has_bot = |name: &str| {
        let members = body.get(name).and_then(Value::as_array);
        let mut ids = members
            .into_iter()
            .flatten()
            .filter_map(|member| member.get("id"));
        ids.any(|id| id.as_str().is_some() && id.as_str() == recipient)
    };
    match text("type") {
        Some("message") => Event::Message,
        Some("messageUpdate") => Event::Edit,
        Some("messageDelete") => Event::Delete,
        Some("installationUpdate") => match text("action") {
            Some("add") => Event::Installed,
            Some("remove") => Event::Removed,
            Some(_) | None => Event::Other,
        },
        Some("conversationUpdate") if has_bot("membersAdded") => Event::Installed,
        Some("conversationUpdate") if has_bot("membersRemoved") => Event::Removed,
        Some("invoke") => match text("name") {
            Some("message/submitAction") => Event::Feedback,
            Some(_) | None => Event::OtherInvoke,
        },
        Some(_) | None => Event::Other,
    }
}

fn kind(body: &Value) -> ConversationKind {
    let kind = body.pointer("/conversation/conversationType");
    let is_group = body.pointer("/conversation/isGroup") == Some(&Value::Bool(true));
    match kind
        .and_then(Value::as_str)
        .and_then(ConversationKind::parse)
    {
        Some(kind) => kind,
        None if is_group => ConversationKind::Group,
        None => ConversationKind::Personal,
    }
}

fn account(value: Option<&Value>) -> Account {
    let text = |name: &str| {
        let text = value
            .and_then(|value| value.get(name))
            .and_then(Value::as_str);
        text.map(str::trim)
            .filter(|text| !text.is_empty() && !text.contains('\0'))
    };
    Account {
        id: text("id")
            .unwrap_or("unknown")
            .chars()
            .take(MAX_PERSON)
            .collect(),
        directory_id: text("aadObjectId").map(|id| id.chars().take(MAX_PERSON).collect()),
        name: text("name").and_then(|name| {
            let name: String = name.chars().take(MAX_NAME).collect();
            one_line(&name)
        }),
    }
}

fn mention(entity: &Value) -> Option<Mention> {
    let text = |path: &str| entity.pointer(path).and_then(Value::as_str);
    if text("/type") != Some("mention") {
        return None;
    }
    Some(Mention {
        id: text("/mentioned/id")?.to_owned(),
        name: text("/mentioned/name").unwrap_or_default().to_owned(),
        text: text("/text").unwrap_or_default().to_owned(),
    })
}
