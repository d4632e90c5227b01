//! Teams bots: the conversations, the activities that were acknowledged, and the outbox of what has
//! still to be said.

use schemars::JsonSchema;
use serde::Serialize;

use super::sql::{FromValue, Reader, Row, ToValue, Type, Value, params};
use super::{Extent, Store, WriteTx, sessions};
use crate::error::{Error, Result};
use crate::model::clock::{Millis, Timestamp};
use crate::model::ids::{ChannelId, MessageId, SessionId, Tick, TurnId};
use crate::model::names::{BotId, TenantNo};
use crate::model::session::Session;
use crate::model::words::TurnStatus;

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

/// The update of the row serializes all changes of one conversation, on every node. Another channel
/// may be another tenant's, which sees nothing of what was said before.
const SEE: &str = "
INSERT INTO teams_conversations (conversation_no, bot_id, directory, conversation_id, kind, tenant_no, channel_seq, service_url,
                                 reference, created_at, seen_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?10)
ON CONFLICT (bot_id, directory, conversation_id) DO UPDATE
SET kind = excluded.kind, tenant_no = coalesce(excluded.tenant_no, teams_conversations.tenant_no),
    channel_seq = coalesce(excluded.channel_seq, teams_conversations.channel_seq),
    service_url = excluded.service_url, reference = excluded.reference, seen_at = excluded.seen_at,
    uninstalled_at = NULL,
    refusal_code = CASE WHEN coalesce(excluded.channel_seq, teams_conversations.channel_seq) = teams_conversations.channel_seq
                        THEN teams_conversations.refusal_code END,
    refusal_message = CASE WHEN coalesce(excluded.channel_seq, teams_conversations.channel_seq) = teams_conversations.channel_seq
                           THEN teams_conversations.refusal_message END,
    refused_at = CASE WHEN coalesce(excluded.channel_seq, teams_conversations.channel_seq) = teams_conversations.channel_seq
                      THEN teams_conversations.refused_at END,
    sent_at = CASE WHEN coalesce(excluded.channel_seq, teams_conversations.channel_seq) = teams_conversations.channel_seq
                   THEN teams_conversations.sent_at END
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

const IS_KNOWN: &str = "
SELECT 1 FROM teams_activities WHERE conversation_no = ?1 AND activity_id = ?2 AND kind = ?3";

/// Whether an activity is recorded.
pub fn is_known(
    reader: &Reader<'_>,
    conversation: Tick,
    id: &str,
    kind: ActivityKind,
) -> Result<bool> {
    let found = reader.optional(IS_KNOWN, (conversation, id, kind), |_| Ok(()))?;
    Ok(found.is_some())
}

const SESSION_ID: &str = "SELECT id FROM sessions WHERE seq = ?1";

/// Whether the session of a locked conversation still exists and goes on.
pub fn has_living_session(
    reader: &Reader<'_>,
    locked: Locked,
    goes_on: &dyn Fn(&Session) -> bool,
) -> Result<bool> {
    let Some(session) = locked.session else {
        return Ok(false);
    };
    let id: Option<SessionId> = reader.optional(SESSION_ID, [session], |row| row.get("id"))?;
    let session = match id {
        Some(id) => sessions::by_id(reader, id)?,
        None => None,
    };
    Ok(session.is_some_and(|session| goes_on(&session)))
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

/// The message and the turn that an activity became.
#[derive(Clone, Copy, Debug)]
pub struct Became {
    /// The message.
    pub message: Tick,
    /// The turn.
    pub turn: Tick,
}

/// A message without an answer.
#[derive(Clone, Copy, Debug)]
pub struct Unanswered {
    /// What it became.
    pub became: Became,
    /// Whether the answer is being written.
    pub is_running: bool,
    /// Whether an earlier message of the session is answered first.
    pub waits: bool,
}

const SET_BECAME: &str = "
UPDATE teams_activities SET message_seq = ?3, turn_seq = ?4 WHERE conversation_no = ?1 AND activity_id = ?2 AND kind = 'message'";

/// Records the message and the turn that a message became.
pub fn set_became(tx: &WriteTx<'_>, conversation: Tick, id: &str, became: Became) -> Result<()> {
    let params = (conversation, id, became.message, became.turn);
    tx.execute(SET_BECAME, params).map(drop)
}

const UNANSWERED: &str = "
SELECT a.message_seq AS message_seq, a.turn_seq AS turn_seq, t.status AS status,
       EXISTS (SELECT 1 FROM turns e WHERE e.session_seq = t.session_seq AND e.seq < t.seq AND e.terminal_tick IS NULL) AS has_earlier
FROM teams_activities a JOIN turns t ON t.seq = a.turn_seq
WHERE a.conversation_no = ?1 AND a.activity_id = ?2 AND a.kind = 'message' AND t.terminal_tick IS NULL AND t.status IN ('QUEUED', 'RUNNING')";

/// What a message became, while it has no answer.
pub fn unanswered(reader: &Reader<'_>, conversation: Tick, id: &str) -> Result<Option<Unanswered>> {
    reader.optional(UNANSWERED, (conversation, id), |row| {
        let became = Became {
            message: row.get("message_seq")?,
            turn: row.get("turn_seq")?,
        };
        let status: TurnStatus = row.get("status")?;
        Ok(Unanswered {
            became,
            is_running: status == TurnStatus::Running,
            waits: status == TurnStatus::Queued && row.get("has_earlier")?,
        })
    })
}

const STAMP: &str = "
INSERT INTO teams_activities (conversation_no, activity_id, kind, stamp, received_at) VALUES (?1, ?2, 'edit', ?3, ?4)
ON CONFLICT (conversation_no, activity_id, kind) DO UPDATE SET stamp = excluded.stamp, received_at = excluded.received_at
WHERE teams_activities.stamp IS NULL OR excluded.stamp IS NULL OR excluded.stamp > teams_activities.stamp";

/// Records the change of a message. Returns whether it is newer than the last one: each change
/// repeats the id of the message, so that its own time tells them apart.
pub fn insert_edit(
    tx: &WriteTx<'_>,
    conversation: Tick,
    id: &str,
    stamp: Option<&str>,
) -> Result<bool> {
    Ok(tx.execute(STAMP, (conversation, id, stamp, tx.now()))? > 0)
}

const CANCEL_TURN: &str = "
UPDATE turns SET status = 'CANCELLED', finished_at = ?2
WHERE seq = ?1 AND terminal_tick IS NULL AND status IN ('QUEUED', 'RUNNING')";
const CANCEL_ANSWER: &str = "
UPDATE teams_deliveries SET state = 'CANCELLED', ended_at = ?2 WHERE turn_seq = ?1 AND state = 'WAITING'";

/// Cancels a turn, and its delivery if nothing of the answer was sent.
pub fn cancel_turn(tx: &WriteTx<'_>, turn: Tick) -> Result<()> {
    tx.execute(CANCEL_TURN, (turn, tx.now()))?;
    tx.execute(CANCEL_ANSWER, (turn, tx.now())).map(drop)
}

const CANCEL_WAITING: &str = "
UPDATE teams_deliveries SET state = 'CANCELLED', ended_at = ?2
WHERE conversation_no = ?1 AND ended_at IS NULL AND kind = 'ANSWER' AND state = 'WAITING'";

/// Cancels the answers of a conversation of which nothing was sent.
pub fn cancel_answers(tx: &WriteTx<'_>, conversation: Tick) -> Result<()> {
    tx.execute(CANCEL_WAITING, (conversation, tx.now()))
        .map(drop)
}

const SET_REFUSAL: &str = "
UPDATE teams_conversations SET refusal_code = ?2, refusal_message = ?3, refused_at = ?4 WHERE conversation_no = ?1";

/// Records why the last refused message of a conversation was refused.
pub fn set_refusal(tx: &WriteTx<'_>, conversation: Tick, code: &str, message: &str) -> Result<()> {
    tx.execute(SET_REFUSAL, (conversation, code, message, tx.now()))
        .map(drop)
}

const SET_WELCOMED: &str =
    "UPDATE teams_conversations SET welcomed_at = ?2 WHERE conversation_no = ?1";

/// Records that the welcome is in the outbox.
pub fn set_welcomed(tx: &WriteTx<'_>, conversation: Tick) -> Result<()> {
    tx.execute(SET_WELCOMED, (conversation, tx.now())).map(drop)
}

const UNINSTALL: &str = "
UPDATE teams_conversations SET uninstalled_at = ?2, welcomed_at = NULL WHERE conversation_no = ?1";

/// Records that the bot was removed. Nothing that waits is said any more, and a new installation is
/// welcomed again.
pub fn uninstall(tx: &WriteTx<'_>, conversation: Tick) -> Result<()> {
    tx.execute(UNINSTALL, (conversation, tx.now()))?;
    cancel_deliveries(tx, conversation).map(drop)
}

const ANSWERED_BY: &str = "
SELECT s.id AS session_id, t.assistant_message_id AS message_id
FROM teams_deliveries d JOIN turns t ON t.seq = d.turn_seq JOIN sessions s ON s.seq = t.session_seq
WHERE d.conversation_no = ?1 AND (d.sent_activity_id = ?2 OR d.stream_id = ?2)
ORDER BY d.seq DESC LIMIT 1";

/// The answer that was sent as this activity, with its session.
pub fn answer_of(
    reader: &Reader<'_>,
    conversation: Tick,
    sent: &str,
) -> Result<Option<(SessionId, MessageId)>> {
    reader.optional(ANSWERED_BY, (conversation, sent), |row| {
        Ok((row.get("session_id")?, row.get("message_id")?))
    })
}

const SET_LAST_TICK: &str = "UPDATE sessions SET last_tick = ?2 WHERE seq = ?1 AND last_tick < ?2";

/// Records the greatest tick of a session that was made in the same change, so that another node's
/// ticks in it are greater.
pub fn set_last_tick(tx: &mut WriteTx<'_>, session: SessionId) -> Result<()> {
    let tick = tx.tick();
    tx.execute(SET_LAST_TICK, (session.tick(), tick)).map(drop)
}

const PURGE_ACTIVITIES: &str = "
DELETE FROM teams_activities WHERE (conversation_no, activity_id, kind) IN (
  SELECT conversation_no, activity_id, kind FROM teams_activities WHERE received_at < ?1 LIMIT ?2)";
const PURGE_DELIVERIES: &str = "
DELETE FROM teams_deliveries WHERE seq IN (
  SELECT seq FROM teams_deliveries WHERE ended_at IS NOT NULL AND ended_at < ?1 LIMIT ?2)";
/// How long an activity is known, in milliseconds. The channel delivers it again for minutes only.
const ACTIVITIES_KEPT: Millis = 7 * 24 * 60 * 60 * 1_000;
/// How long a delivery is known after its end: feedback refers to it.
const DELIVERIES_KEPT: Millis = 30 * 24 * 60 * 60 * 1_000;
/// Rows that one change removes.
const PURGED_ROWS: usize = 256;

impl Store {
    /// Removes old activities and deliveries, some at a time.
    ///
    /// # Errors
    /// Those of [`Store::write`].
    pub async fn purge_teams(&self) -> Result<()> {
        for (sql, kept) in [
            (PURGE_ACTIVITIES, ACTIVITIES_KEPT),
            (PURGE_DELIVERIES, DELIVERIES_KEPT),
        ] {
            let step = move |tx: &mut WriteTx<'_>| {
                let before = tx.now() - kept;
                tx.execute(sql, (before, PURGED_ROWS))
            };
            while self.write(Extent::Configuration, step).await? > 0 {}
        }
        Ok(())
    }
}

/// What an administrator sees of a channel's bot.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ChannelTraffic {
    /// When the last activity came in.
    pub last_received_at: Option<Timestamp>,
    /// When the last reply was accepted.
    pub last_sent_at: Option<Timestamp>,
    /// The last message that was refused.
    pub last_refusal: Option<LastRefusal>,
    /// Deliveries that wait, or are being sent.
    pub waiting_deliveries: i64,
    /// Deliveries that were given up, in the last 30 days.
    pub given_up_deliveries: i64,
    /// Why the last attempt of a delivery that waits or was given up has failed.
    pub last_error: Option<String>,
}

/// A message that was refused.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct LastRefusal {
    /// The error code.
    pub code: String,
    /// The sentence that the person got.
    pub message: String,
    /// When the message was refused.
    pub at: Timestamp,
}

const TRAFFIC: &str = "
SELECT max(seen_at) AS seen_at, max(sent_at) AS sent_at FROM teams_conversations WHERE channel_seq = ?1";
const LAST_REFUSAL: &str = "
SELECT refusal_code, refusal_message, refused_at FROM teams_conversations
WHERE channel_seq = ?1 AND refused_at IS NOT NULL ORDER BY refused_at DESC, conversation_no DESC LIMIT 1";
const WAITING: &str = "
SELECT count(*) AS deliveries FROM teams_conversations c JOIN teams_deliveries d ON d.conversation_no = c.conversation_no
WHERE c.channel_seq = ?1 AND d.tenant_no = c.tenant_no AND d.ended_at IS NULL";
const GIVEN_UP: &str = "
SELECT count(*) AS deliveries FROM teams_conversations c JOIN teams_deliveries d ON d.conversation_no = c.conversation_no
WHERE c.channel_seq = ?1 AND d.tenant_no = c.tenant_no AND d.state = 'GIVEN_UP'";
const LAST_ERROR: &str = "
SELECT d.last_error AS last_error FROM teams_conversations c JOIN teams_deliveries d ON d.conversation_no = c.conversation_no
WHERE c.channel_seq = ?1 AND d.tenant_no = c.tenant_no AND d.state IN ('WAITING', 'SENDING', 'GIVEN_UP') AND d.last_error IS NOT NULL
ORDER BY d.seq DESC LIMIT 1";

/// What came in and went out through a channel.
pub fn traffic(reader: &Reader<'_>, channel: ChannelId) -> Result<ChannelTraffic> {
    let channel = [channel.tick()];
    let (seen, sent): (Option<Millis>, Option<Millis>) = reader.one(TRAFFIC, channel, |row| {
        Ok((row.get("seen_at")?, row.get("sent_at")?))
    })?;
    let last_refusal = reader.optional(LAST_REFUSAL, channel, |row| {
        Ok(LastRefusal {
            code: row.get("refusal_code")?,
            message: row.get("refusal_message")?,
            at: Timestamp(row.get("refused_at")?),
        })
    })?;
    let count = |sql| reader.one(sql, channel, |row| row.get("deliveries"));
    Ok(ChannelTraffic {
        last_received_at: seen.map(Timestamp),
        last_sent_at: sent.map(Timestamp),
        last_refusal,
        waiting_deliveries: count(WAITING)?,
        given_up_deliveries: count(GIVEN_UP)?,
        last_error: reader.optional(LAST_ERROR, channel, |row| row.get("last_error"))?,
    })
}
