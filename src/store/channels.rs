//! Channels: each binds an agent to a bot, with its branding.

use schemars::JsonSchema;
use serde::Serialize;

use super::rules::{self, Violation, refuse};
use super::sql::{Keyset, Reader, Row, Rows, params};
use super::{WriteTx, agents, installs, packages};
use crate::error::{Code, Refusal, Result};
use crate::input::draft::ChannelDraft;
use crate::model::clock::Timestamp;
use crate::model::ids::{ChannelId, Tick};
use crate::model::names::{AgentId, BotId, M365TenantId, TenantNo};
use crate::model::words::{Audience, ChannelStatus, GroupReplies, Transport};
use crate::resolver;

/// A channel as the API returns it (contract, section 6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ChannelRecord {
    /// The channel's id.
    pub id: ChannelId,
    /// The people whom the channel reaches.
    pub audience: Audience,
    /// The channel's name, which no other channel of the tenant has.
    pub internal_name: String,
    /// The transport of the channel's messages.
    pub transport: Transport,
    /// The agent that answers.
    pub agent_id: AgentId,
    /// Whether the channel is connected.
    pub status: ChannelStatus,
    /// The channel's bot.
    pub bot_id: Option<BotId>,
    /// The bot's name for its users.
    pub display_name: Option<String>,
    /// The bot's purpose.
    pub description: Option<String>,
    /// The bot's first words after it is installed.
    pub welcome_message: Option<String>,
    /// The URL of the colored icon.
    pub color_icon_url: Option<String>,
    /// The URL of the outline icon.
    pub outline_icon_url: Option<String>,
    /// The text that the relay puts before each message.
    pub relay_prefix: Option<String>,
    /// Whether clients show the agent's steps.
    pub show_agent_progress_steps: bool,
    /// Which messages of a group the bot answers.
    pub group_replies: GroupReplies,
    /// Whether the color icon of the app package was uploaded. Else the server draws it.
    pub color_icon_uploaded: bool,
    /// Whether the outline icon of the app package was uploaded. Else the server draws it.
    pub outline_icon_uploaded: bool,
    /// The time of creation.
    pub created_at: Timestamp,
    /// The time of the last change.
    pub updated_at: Timestamp,
    /// The tenant that owns the channel.
    #[serde(skip)]
    pub tenant: TenantNo,
    /// Whether the channel is deleted. Its installs still refuse what was routed through it.
    #[serde(skip)]
    pub is_deleted: bool,
}

impl ChannelRecord {
    /// A new channel with the defaults of its optional fields.
    pub fn fresh(
        id: ChannelId,
        tenant: TenantNo,
        internal_name: &str,
        audience: Audience,
        agent_id: AgentId,
    ) -> Self {
        Self {
            id,
            audience,
            internal_name: internal_name.to_owned(),
            transport: Transport::Teams,
            agent_id,
            status: ChannelStatus::Active,
            bot_id: None,
            display_name: None,
            description: None,
            welcome_message: None,
            color_icon_url: None,
            outline_icon_url: None,
            relay_prefix: None,
            show_agent_progress_steps: true,
            group_replies: GroupReplies::Mentioned,
            color_icon_uploaded: false,
            outline_icon_uploaded: false,
            created_at: Timestamp(0),
            updated_at: Timestamp(0),
            tenant,
            is_deleted: false,
        }
    }

    /// The channel with the draft's fields.
    #[must_use]
    pub fn changed(&self, draft: &ChannelDraft) -> Self {
        let (draft, before) = (draft.clone(), self.clone());
        Self {
            id: before.id,
            internal_name: draft
                .internal_name
                .over(before.internal_name.clone(), before.internal_name),
            audience: draft.audience.over(before.audience, before.audience),
            transport: draft.transport.over(before.transport, Transport::Teams),
            status: draft.status.over(before.status, ChannelStatus::Active),
            bot_id: draft.bot_id.over_optional(before.bot_id),
            agent_id: draft.agent_id.over(before.agent_id, before.agent_id),
            display_name: draft.display_name.over_optional(before.display_name),
            description: draft.description.over_optional(before.description),
            welcome_message: draft.welcome_message.over_optional(before.welcome_message),
            color_icon_url: draft.color_icon_url.over_optional(before.color_icon_url),
            outline_icon_url: draft
                .outline_icon_url
                .over_optional(before.outline_icon_url),
            relay_prefix: draft.relay_prefix.over_optional(before.relay_prefix),
            show_agent_progress_steps: draft
                .show_agent_progress_steps
                .over(before.show_agent_progress_steps, true),
            group_replies: draft
                .group_replies
                .over(before.group_replies, GroupReplies::Mentioned),
            color_icon_uploaded: before.color_icon_uploaded,
            outline_icon_uploaded: before.outline_icon_uploaded,
            created_at: before.created_at,
            updated_at: before.updated_at,
            tenant: before.tenant,
            is_deleted: before.is_deleted,
        }
    }
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT seq, id, tenant_no, internal_name, audience, transport, status, bot_id, agent_id, display_name, description, \
             welcome_message, color_icon_url, outline_icon_url, relay_prefix, show_agent_progress_steps, group_replies, created_at, updated_at, \
             deleted_at IS NOT NULL AS is_deleted, \
             EXISTS (SELECT 1 FROM channel_icons i WHERE i.channel_seq = channels.seq AND i.kind = 'color') AS color_icon_uploaded, \
             EXISTS (SELECT 1 FROM channel_icons i WHERE i.channel_seq = channels.seq AND i.kind = 'outline') AS outline_icon_uploaded \
             FROM channels ",
            $rest
        )
    };
}

fn record(row: &Row<'_>) -> Result<ChannelRecord> {
    Ok(ChannelRecord {
        id: row.get("id")?,
        tenant: row.get("tenant_no")?,
        internal_name: row.get("internal_name")?,
        audience: row.get("audience")?,
        transport: row.get("transport")?,
        status: row.get("status")?,
        bot_id: row.get("bot_id")?,
        agent_id: row.get("agent_id")?,
        display_name: row.get("display_name")?,
        description: row.get("description")?,
        welcome_message: row.get("welcome_message")?,
        color_icon_url: row.get("color_icon_url")?,
        outline_icon_url: row.get("outline_icon_url")?,
        relay_prefix: row.get("relay_prefix")?,
        show_agent_progress_steps: row.get("show_agent_progress_steps")?,
        group_replies: row.get("group_replies")?,
        color_icon_uploaded: row.get("color_icon_uploaded")?,
        outline_icon_uploaded: row.get("outline_icon_uploaded")?,
        created_at: Timestamp(row.get("created_at")?),
        updated_at: Timestamp(row.get("updated_at")?),
        is_deleted: row.get("is_deleted")?,
    })
}

const BY_ID: &str = select!("WHERE seq = ?1 AND id = ?2");

/// The channel with this id, of any tenant. It may be deleted.
pub fn by_id(reader: &Reader<'_>, id: ChannelId) -> Result<Option<ChannelRecord>> {
    reader.optional(BY_ID, (id.tick(), id), record)
}

/// The tenant's channel with this id, unless it is deleted.
pub fn of_tenant(
    reader: &Reader<'_>,
    tenant: TenantNo,
    id: ChannelId,
) -> Result<Option<ChannelRecord>> {
    Ok(by_id(reader, id)?.filter(|channel| channel.tenant == tenant && !channel.is_deleted))
}

/// The filter of a list of channels. Each field that is set narrows the list.
#[derive(Clone, Debug, Default)]
pub struct ChannelFilter {
    /// Channels of this bot.
    pub bot_id: Option<BotId>,
    /// Channels of this agent.
    pub agent_id: Option<AgentId>,
    /// Channels that reach these people.
    pub audience: Option<Audience>,
    /// Channels in this state.
    pub status: Option<ChannelStatus>,
    /// Channels whose internal name and display name contain these words.
    pub q: Option<String>,
}

macro_rules! range {
    ($range:literal) => {
        concat!(
            select!("WHERE tenant_no = ?1 AND seq < ?6 AND deleted_at IS NULL"),
            $range,
            " AND (?2 IS NULL OR bot_id = ?2)
              AND (?3 IS NULL OR agent_id = ?3)
              AND (?4 IS NULL OR audience = ?4)
              AND (?5 IS NULL OR status = ?5)
              ORDER BY seq DESC LIMIT ?7"
        )
    };
}

const OF_TENANT: &str = range!("");
const OF_BOT: &str = range!(" AND bot_id = ?2");
const OF_AGENT: &str = range!(" AND agent_id = ?3");

/// The index of each range and its SQL. A test reads the query plan.
pub const RANGES: &[(&str, &str)] = &[
    ("channels_living", OF_TENANT),
    ("channels_of_bot", OF_BOT),
    ("channels_of_agent", OF_AGENT),
];

/// A page of a tenant's channels that are older than `before`, newest first, without deleted
/// channels.
pub fn page(
    reader: &Reader<'_>,
    tenant: TenantNo,
    filter: &ChannelFilter,
    before: Tick,
    limit: usize,
) -> Result<Rows<ChannelRecord>> {
    let range = match filter {
        ChannelFilter {
            bot_id: Some(_), ..
        } => OF_BOT,
        ChannelFilter {
            agent_id: Some(_), ..
        } => OF_AGENT,
        ChannelFilter {
            bot_id: None,
            agent_id: None,
            ..
        } => OF_TENANT,
    };
    reader.page_matching(
        filter
            .q
            .as_deref()
            .map(|q| (q, &["internal_name", "display_name"][..])),
        [range, range],
        Keyset { before, limit },
        params![
            tenant,
            filter.bot_id,
            filter.agent_id,
            filter.audience,
            filter.status
        ],
        record,
    )
}

const ALL: &str = select!("WHERE tenant_no = ?1 AND deleted_at IS NULL ORDER BY seq");

/// All channels of a tenant, oldest first, without deleted channels.
pub fn all(reader: &Reader<'_>, tenant: TenantNo) -> Result<Vec<ChannelRecord>> {
    reader.all(ALL, [tenant], record)
}

const NAMED: &str = select!("WHERE tenant_no = ?1 AND internal_name = ?2 AND deleted_at IS NULL");

/// The tenant's channel of this name, unless it is deleted.
pub fn named(
    reader: &Reader<'_>,
    tenant: TenantNo,
    internal_name: &str,
) -> Result<Option<ChannelRecord>> {
    reader.optional(NAMED, (tenant, internal_name), record)
}

const LATEST_DELETED: &str = "
SELECT seq FROM channels WHERE tenant_no = ?1 AND internal_name = ?2 AND deleted_at IS NOT NULL ORDER BY seq DESC LIMIT 1";

/// The tick of the tenant's newest deleted channel of this name.
pub fn latest_deleted(
    reader: &Reader<'_>,
    tenant: TenantNo,
    internal_name: &str,
) -> Result<Option<Tick>> {
    reader.optional(LATEST_DELETED, (tenant, internal_name), |row| {
        row.get("seq")
    })
}

macro_rules! facts {
    ($rest:literal) => {
        concat!(
            "SELECT c.id AS id, c.tenant_no AS tenant_no, c.audience AS audience, c.status AS status, \
             c.deleted_at IS NOT NULL AS deleted, c.agent_id AS agent_id, c.relay_prefix AS relay_prefix, \
             c.show_agent_progress_steps AS show_agent_progress_steps, c.group_replies AS group_replies ",
            $rest
        )
    };
}

fn facts(row: &Row<'_>) -> Result<resolver::Channel> {
    Ok(resolver::Channel {
        id: row.get("id")?,
        owner: row.get("tenant_no")?,
        audience: row.get("audience")?,
        status: row.get("status")?,
        deleted: row.get("deleted")?,
        agent_id: row.get("agent_id")?,
        relay_prefix: row.get("relay_prefix")?,
        show_agent_progress_steps: row.get("show_agent_progress_steps")?,
        group_replies: row.get("group_replies")?,
    })
}

const INSTALLED: &str = facts!(
    "FROM installs i JOIN channels c ON c.seq = i.channel_seq
     WHERE i.bot_id = ?1 AND i.m365_tenant_id = ?2 AND c.audience = 'END_USER'"
);

/// The `END_USER` channel of a bot that is installed for a directory. It may be deleted.
pub fn installed(
    reader: &Reader<'_>,
    bot: &BotId,
    directory: &M365TenantId,
) -> Result<Option<resolver::Channel>> {
    reader.optional(INSTALLED, (bot, directory), facts)
}

const ACTIVE: &str = facts!(
    "FROM channels c
     WHERE c.tenant_no = ?1 AND c.bot_id = ?2 AND c.deleted_at IS NULL AND c.status = 'ACTIVE' ORDER BY c.seq"
);

/// A tenant's `ACTIVE` channels of a bot, oldest first, without deleted channels.
pub fn active(
    reader: &Reader<'_>,
    tenant: TenantNo,
    bot: &BotId,
) -> Result<Vec<resolver::Channel>> {
    reader.all(ACTIVE, (tenant, bot), facts)
}

const FACTS: &str = facts!("FROM channels c WHERE c.seq = ?1");

/// The resolver's view of a channel.
pub fn facts_of(reader: &Reader<'_>, id: ChannelId) -> Result<Option<resolver::Channel>> {
    reader.optional(FACTS, [id.tick()], facts)
}

const BOT_OF: &str = "SELECT bot_id FROM channels WHERE seq = ?1";

/// A channel's bot.
pub fn bot_of(reader: &Reader<'_>, id: ChannelId) -> Result<Option<BotId>> {
    Ok(reader
        .optional(BOT_OF, [id.tick()], |row| row.get("bot_id"))?
        .flatten())
}

const INSERT: &str = "
INSERT INTO channels (seq, id, tenant_no, internal_name, audience, transport, status, bot_id, agent_id, display_name, description,
                      welcome_message, color_icon_url, outline_icon_url, relay_prefix, show_agent_progress_steps, group_replies,
                      created_at, updated_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?18)";

/// Inserts a channel.
///
/// # Errors
/// `internal_error` if the name is taken.
pub fn insert(tx: &mut WriteTx<'_>, channel: &ChannelRecord) -> Result<()> {
    let now = tx.now();
    tx.execute(
        INSERT,
        params![
            channel.id.tick(),
            channel.id,
            channel.tenant,
            channel.internal_name,
            channel.audience,
            channel.transport,
            channel.status,
            channel.bot_id,
            channel.agent_id,
            channel.display_name,
            channel.description,
            channel.welcome_message,
            channel.color_icon_url,
            channel.outline_icon_url,
            channel.relay_prefix,
            channel.show_agent_progress_steps,
            channel.group_replies,
            now,
        ],
    )
    .map(drop)
}

const UPDATE: &str = "
UPDATE channels SET internal_name = ?2, status = ?3, bot_id = ?4, agent_id = ?5, display_name = ?6, description = ?7,
                    welcome_message = ?8, color_icon_url = ?9, outline_icon_url = ?10, relay_prefix = ?11,
                    show_agent_progress_steps = ?12, group_replies = ?13, updated_at = ?14
WHERE seq = ?1";
const MOVE_BOT: &str =
    "UPDATE installs SET bot_id = ?2 WHERE channel_seq = ?1 AND bot_id IS DISTINCT FROM ?2";

/// Writes the fields of a channel that can change. Its installs follow its bot.
///
/// # Errors
/// `internal_error` if the name, or the new bot's install for a directory, is taken.
pub fn update(tx: &mut WriteTx<'_>, channel: &ChannelRecord) -> Result<()> {
    let now = tx.now();
    tx.execute(
        UPDATE,
        params![
            channel.id.tick(),
            channel.internal_name,
            channel.status,
            channel.bot_id,
            channel.agent_id,
            channel.display_name,
            channel.description,
            channel.welcome_message,
            channel.color_icon_url,
            channel.outline_icon_url,
            channel.relay_prefix,
            channel.show_agent_progress_steps,
            channel.group_replies,
            now,
        ],
    )?;
    tx.execute(MOVE_BOT, (channel.id.tick(), &channel.bot_id))
        .map(drop)
}

const DELETE: &str = "UPDATE channels SET deleted_at = ?2, updated_at = ?2 WHERE seq = ?1";

/// Marks a channel as deleted. Its row and its installs stay, to refuse what was routed through it.
pub fn delete(tx: &mut WriteTx<'_>, id: ChannelId) -> Result<()> {
    let now = tx.now();
    packages::clear(tx, id)?;
    tx.execute(DELETE, (id.tick(), now)).map(drop)
}

const NAME_OF: &str = "SELECT internal_name FROM channels WHERE seq = ?1";

/// A channel's name.
pub fn name_of(reader: &Reader<'_>, channel: Tick) -> Result<String> {
    reader.one(NAME_OF, [channel], |row| row.get("internal_name"))
}

/// The violations of a change of a channel's audience or transport, which cannot change.
pub(super) fn changed_fixed_fields(
    before: &ChannelRecord,
    after: &ChannelRecord,
) -> Vec<Violation> {
    let transport = |channel: &ChannelRecord| channel.transport.as_str();
    rules::changed_fixed_fields(&[
        (
            "audience",
            before.audience.as_str(),
            after.audience.as_str(),
        ),
        ("transport", transport(before), transport(after)),
    ])
}

/// The violation of a channel whose agent is not of its tenant, or not of its audience.
pub(super) fn unfit_agent(
    reader: &Reader<'_>,
    channel: &ChannelRecord,
) -> Result<Option<Violation>> {
    let (reason, refusal) = match agents::of_tenant(reader, channel.tenant, channel.agent_id)? {
        None => (
            "is not an agent of this tenant".to_owned(),
            Refusal::new(Code::NotFound),
        ),
        Some(agent) if agent.audience != channel.audience => {
            let (agent, channel) = (agent.audience.as_str(), channel.audience.as_str());
            let refusal = Refusal::new(Code::AudienceMismatch)
                .saying(format!(
                    "The agent's audience is {agent}, and the channel's is {channel}. Choose an agent with the channel's audience."
                ))
                .with("field", "agent_id");
            (
                format!("is an {agent} agent; the channel is {channel}"),
                refusal,
            )
        }
        Some(_) => return Ok(None),
    };
    Ok(Some(Violation {
        field: "agent_id".into(),
        value: channel.agent_id.to_string(),
        reason,
        refusal,
    }))
}

const HAS_ACTIVE_INTERNAL: &str = "
SELECT 1 FROM channels
WHERE tenant_no = ?1 AND bot_id = ?2 AND deleted_at IS NULL AND status = 'ACTIVE' AND audience = 'MSP' AND seq <> ?3";

/// The violation of a channel that would be the second `ACTIVE` `MSP` channel of its tenant and
/// bot. With two the older one would answer, and the younger never.
pub(super) fn second_internal(
    reader: &Reader<'_>,
    channel: &ChannelRecord,
) -> Result<Option<Violation>> {
    let Some(bot) = &channel.bot_id else {
        return Ok(None);
    };
    if channel.audience != Audience::Msp || channel.status != ChannelStatus::Active {
        return Ok(None);
    }
    let other = reader.optional(
        HAS_ACTIVE_INTERNAL,
        (channel.tenant, bot, channel.id.tick()),
        |_| Ok(()),
    )?;
    Ok(other.map(|()| Violation {
        field: "bot_id".into(),
        value: bot.to_string(),
        reason: "already has an ACTIVE MSP channel in this tenant".to_owned(),
        refusal: taken(
            "bot_id",
            "This bot already has an ACTIVE MSP channel. Disconnect that channel first, or choose another bot.",
        ),
    }))
}

const CARRIED_ELSEWHERE: &str =
    "SELECT 1 FROM channels WHERE bot_id = ?1 AND tenant_no <> ?2 AND deleted_at IS NULL LIMIT 1";

/// Checks a channel before it is written. `before` is the channel as it is stored.
fn check(
    reader: &Reader<'_>,
    before: Option<&ChannelRecord>,
    channel: &ChannelRecord,
) -> Result<()> {
    refuse(unfit_agent(reader, channel)?)?;
    let named = named(reader, channel.tenant, &channel.internal_name)?;
    if named.is_some_and(|named| named.id != channel.id) {
        let sentence = "A channel with this name already exists. Choose another name.";
        return Err(taken("internal_name", sentence).into());
    }
    // Only the operator's seed file lets tenants share a bot. Such a channel may keep its bot.
    let new_bot = channel
        .bot_id
        .as_ref()
        .filter(|bot| before.is_none_or(|before| before.bot_id.as_ref() != Some(bot)));
    if let Some(bot) = new_bot {
        let elsewhere = reader.optional(CARRIED_ELSEWHERE, (bot, channel.tenant), |_| Ok(()))?;
        if elsewhere.is_some() {
            let sentence = "This bot is already in use. Choose another bot.";
            return Err(taken("bot_id", sentence).into());
        }
    }
    refuse(second_internal(reader, channel)?)?;
    match new_bot {
        Some(bot) => installs::check_new_bot(reader, channel.id, bot),
        None => Ok(()),
    }
}

fn taken(field: &'static str, sentence: &'static str) -> Refusal {
    Refusal::new(Code::AlreadyExists)
        .saying(sentence)
        .with("field", field)
}

/// Creates a channel.
///
/// # Errors
/// The first that applies, in this order: `not_found` or `audience_mismatch` for the agent,
/// `already_exists` for the name or the bot, `install_conflict`.
pub fn create(tx: &mut WriteTx<'_>, channel: &ChannelRecord) -> Result<ChannelRecord> {
    check(tx.reader(), None, channel)?;
    insert(tx, channel)?;
    of_tenant(tx.reader(), channel.tenant, channel.id)?.ok_or_else(|| Code::NotFound.into())
}

/// Changes a channel. Nothing is written if nothing differs.
///
/// # Errors
/// `validation_error` for a field that cannot change; those of [`create`].
pub fn change(tx: &mut WriteTx<'_>, before: &ChannelRecord, draft: &ChannelDraft) -> Result<()> {
    let after = before.changed(draft);
    refuse(changed_fixed_fields(before, &after))?;
    if after == *before {
        return Ok(());
    }
    check(tx.reader(), Some(before), &after)?;
    update(tx, &after)
}
