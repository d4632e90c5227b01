//! Teams bots: the conversations, the activities that were acknowledged, and the outbox of what has
//! still to be said.

use super::WriteTx;
use super::sql::{FromValue, Reader, Row, ToValue, Type, Value, params};
use crate::error::{Error, Result};
use crate::model::clock::Millis;
use crate::model::ids::{ChannelId, SessionId, Tick, TurnId};
use crate::model::names::{BotId, TenantNo};

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident { $($(#[$item_doc:meta])* $item:ident = $word:literal,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$item_doc])* $item,)*
        }

        impl $name {
            /// The spelling in the database.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$item => $word,)*
                }
            }

            /// Parses the exact spelling; `None` for any other text.
            pub fn parse(text: &str) -> Option<Self> {
                match text {
                    $($word => Some(Self::$item),)*
                    _ => None,
                }
            }
        }

        impl ToValue for $name {
            const TYPE: Type = Type::Text;

            fn to_value(&self) -> Value<'_> {
                Value::Text(self.as_str())
            }
        }

        impl FromValue for $name {
            fn from_value(value: Value<'_>) -> Option<Self> {
                match value {
                    Value::Text(text) => Self::parse(text),
                    Value::Null(_) | Value::Integer(_) | Value::Blob(_) => None,
                }
            }
        }
    )*};
}

words! {
    /// The kinds of conversations, in Teams' spelling.
    ConversationKind {
        /// One person and the bot.
        Personal = "personal",
        /// Several people and the bot.
        Group = "groupChat",
        /// A thread of a team's channel.
        Channel = "channel",
    }
    /// The kinds of activities that are known by their id.
    ActivityKind {
        /// A person's message.
        Message = "message",
        /// A change of a message, whose id it repeats.
        Edit = "edit",
        /// The deletion of a message, whose id it repeats.
        Delete = "delete",
        /// A call that Teams waits for, such as feedback.
        Invoke = "invoke",
        /// The bot was installed, removed or added.
        Install = "install",
    }
    /// What a delivery says.
    DeliveryKind {
        /// The answer of a turn, when there is one.
        Answer = "ANSWER",
        /// A text of this server: a refusal, a welcome, the reply to a command.
        Text = "TEXT",
    }
    /// The states of a delivery. The last three are final.
    DeliveryState {
        /// It was not tried yet, or has to be tried again.
        Waiting = "WAITING",
        /// A part of it was sent.
        Sending = "SENDING",
        /// All of it was sent.
        Sent = "SENT",
        /// It could not be sent for a day.
        GivenUp = "GIVEN_UP",
        /// Nobody wants it any longer.
        Cancelled = "CANCELLED",
    }
}

/// A conversation of a bot.
#[derive(Clone, Debug)]
pub struct Conversation {
    /// The key of the row.
    pub no: Tick,
    /// The bot.
    pub bot: BotId,
    /// The M365 tenant; empty if the activities name none.
    pub directory: String,
    /// The id in Teams.
    pub id: String,
    /// The kind.
    pub kind: ConversationKind,
    /// The acting tenant of the last activity.
    pub tenant: Option<TenantNo>,
    /// The session of the next message.
    pub session: Option<SessionId>,
    /// The channel that routed the last activity.
    pub channel: Option<Tick>,
    /// The URL that replies go to.
    pub service_url: String,
    /// What a reply names, as JSON: a conversation reference.
    pub reference: String,
    /// When the welcome was said.
    pub welcomed_at: Option<Millis>,
    /// When the bot was removed.
    pub uninstalled_at: Option<Millis>,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT c.conversation_no AS conversation_no, c.bot_id AS bot_id, c.directory AS directory, \
             c.conversation_id AS conversation_id, c.kind AS kind, c.tenant_no AS tenant_no, s.id AS session_id, \
             c.channel_seq AS channel_seq, c.service_url AS service_url, c.reference AS reference, \
             c.welcomed_at AS welcomed_at, c.uninstalled_at AS uninstalled_at \
             FROM teams_conversations c LEFT JOIN sessions s ON s.seq = c.session_seq ",
            $rest
        )
    };
}

fn record(row: &Row<'_>) -> Result<Conversation> {
    Ok(Conversation {
        no: row.get("conversation_no")?,
        bot: row.get("bot_id")?,
        directory: row.get("directory")?,
        id: row.get("conversation_id")?,
        kind: row.get("kind")?,
        tenant: row.get("tenant_no")?,
        session: row.get("session_id")?,
        channel: row.get("channel_seq")?,
        service_url: row.get("service_url")?,
        reference: row.get("reference")?,
        welcomed_at: row.get("welcomed_at")?,
        uninstalled_at: row.get("uninstalled_at")?,
    })
}

const FIND: &str = select!("WHERE c.bot_id = ?1 AND c.directory = ?2 AND c.conversation_id = ?3");
const BY_NO: &str = select!("WHERE c.conversation_no = ?1");

/// The conversation of a bot with this id in Teams.
pub fn find(
    reader: &Reader<'_>,
    bot: &BotId,
    directory: &str,
    id: &str,
) -> Result<Option<Conversation>> {
    reader.optional(FIND, (bot, directory, id), record)
}

/// The conversation of this row.
pub fn by_no(reader: &Reader<'_>, no: Tick) -> Result<Option<Conversation>> {
    reader.optional(BY_NO, [no], record)
}

/// What an activity says of its conversation.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The bot.
    pub bot: BotId,
    /// The M365 tenant; empty if the activity names none.
    pub directory: String,
    /// The id in Teams.
    pub id: String,
    /// The kind.
    pub kind: ConversationKind,
    /// The URL that replies go to.
    pub service_url: String,
    /// What a reply names, as JSON.
    pub reference: String,
    /// The acting tenant, if the activity was routed.
    pub tenant: Option<TenantNo>,
    /// The channel that routed it.
    pub channel: Option<ChannelId>,
}

/// A conversation that stays locked until the change ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Locked {
    /// The key of the row.
    pub no: Tick,
    /// The session of the next message.
    pub session: Option<Tick>,
    /// When the welcome was said.
    pub welcomed_at: Option<Millis>,
}

/// The update of the row serializes all changes of one conversation, on every node.
const SEE: &str = "
INSERT INTO teams_conversations (conversation_no, bot_id, directory, conversation_id, kind, tenant_no, channel_seq, service_url,
                                 reference, created_at, seen_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?10)
ON CONFLICT (bot_id, directory, conversation_id) DO UPDATE
SET kind = excluded.kind, tenant_no = coalesce(excluded.tenant_no, teams_conversations.tenant_no),
    channel_seq = coalesce(excluded.channel_seq, teams_conversations.channel_seq),
    service_url = excluded.service_url, reference = excluded.reference, seen_at = excluded.seen_at
RETURNING conversation_no, session_seq, welcomed_at";

/// Makes the conversation, or keeps what a newer activity says of it.
pub fn see(tx: &mut WriteTx<'_>, seen: &Seen) -> Result<Locked> {
    let (no, now) = (tx.tick(), tx.now());
    tx.returning_one(
        SEE,
        params![
            no,
            seen.bot,
            seen.directory,
            seen.id,
            seen.kind,
            seen.tenant,
            seen.channel.map(|channel| channel.tick()),
            seen.service_url,
            seen.reference,
            now
        ],
        |row| {
            Ok(Locked {
                no: row.get("conversation_no")?,
                session: row.get("session_seq")?,
                welcomed_at: row.get("welcomed_at")?,
            })
        },
    )
}

const SET_SESSION: &str =
    "UPDATE teams_conversations SET session_seq = ?2 WHERE conversation_no = ?1";

/// Has the next message go to this session; without one, it makes a session.
pub fn set_session(tx: &WriteTx<'_>, no: Tick, session: Option<SessionId>) -> Result<()> {
    let session = session.map(|session| session.tick());
    tx.execute(SET_SESSION, (no, session)).map(drop)
}

/// An activity that is acknowledged.
#[derive(Clone, Debug)]
pub struct NewActivity<'a> {
    /// The conversation.
    pub conversation: Tick,
    /// The id in Teams.
    pub id: &'a str,
    /// The kind.
    pub kind: ActivityKind,
    /// The activity's own time, if it has one.
    pub stamp: Option<&'a str>,
}

const INSERT_ACTIVITY: &str = "
INSERT INTO teams_activities (conversation_no, activity_id, kind, stamp, received_at) VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT (conversation_no, activity_id, kind) DO NOTHING";

/// Records an activity. Returns whether it is new: one that is delivered again changes nothing.
pub fn insert_activity(tx: &WriteTx<'_>, new: &NewActivity<'_>) -> Result<bool> {
    let params = (new.conversation, new.id, new.kind, new.stamp, tx.now());
    Ok(tx.execute(INSERT_ACTIVITY, params)? > 0)
}

/// What a delivery says.
#[derive(Clone, Debug)]
pub enum Saying {
    /// The answer of a turn.
    Answer(TurnId),
    /// A text of this server.
    Text {
        /// The text.
        body: String,
        /// The prompts that it suggests.
        prompts: Vec<String>,
    },
}

/// Something to say in a conversation.
#[derive(Clone, Debug)]
pub struct NewDelivery<'a> {
    /// The conversation.
    pub conversation: Tick,
    /// The acting tenant, if there is one.
    pub tenant: Option<TenantNo>,
    /// What it says.
    pub saying: Saying,
    /// The activity that it answers.
    pub reply_to: Option<&'a str>,
}

const INSERT_DELIVERY: &str = "
INSERT INTO teams_deliveries (seq, conversation_no, tenant_no, kind, turn_seq, body, prompts, reply_to, state, next_at, created_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 'WAITING', ?9, ?9)";

/// Puts a delivery into the outbox, after all others of its conversation. The caller has locked the
/// conversation. Returns the key of the row.
pub fn insert_delivery(tx: &mut WriteTx<'_>, new: NewDelivery<'_>) -> Result<Tick> {
    let (seq, now) = (tx.tick(), tx.now());
    let (kind, turn, body, prompts) = match new.saying {
        Saying::Answer(turn) => (DeliveryKind::Answer, Some(turn.tick()), None, None),
        Saying::Text { body, prompts } => {
            let prompts = (!prompts.is_empty()).then(|| serde_json::to_string(&prompts));
            let prompts = prompts
                .transpose()
                .map_err(|error| Error::Internal(error.into()))?;
            (DeliveryKind::Text, None, Some(body), prompts)
        }
    };
    tx.execute(
        INSERT_DELIVERY,
        params![
            seq,
            new.conversation,
            new.tenant,
            kind,
            turn,
            body,
            prompts,
            new.reply_to,
            now
        ],
    )?;
    Ok(seq)
}

const CANCEL_DELIVERIES: &str = "
UPDATE teams_deliveries SET state = 'CANCELLED', ended_at = ?2 WHERE conversation_no = ?1 AND ended_at IS NULL";

/// Cancels what has still to be said in a conversation. Returns how many deliveries.
pub fn cancel_deliveries(tx: &WriteTx<'_>, conversation: Tick) -> Result<usize> {
    tx.execute(CANCEL_DELIVERIES, (conversation, tx.now()))
}
