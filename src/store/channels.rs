//! Channels and their installs.

use super::WriteTx;
use super::sqlite::{Reader, Row};
use crate::draft::ChannelDraft;
use crate::error::Result;
use crate::model::ids::{ChannelId, InstallId, Tick};
use crate::model::names::{AgentId, BotId, M365TenantId, TenantNo};
use crate::model::words::{Audience, ChannelStatus, Transport};
use crate::resolver;

/// A channel with its branding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelRecord {
    /// Its id.
    pub id: ChannelId,
    /// The MSP that owns it.
    pub tenant: TenantNo,
    /// Its name among the MSP's channels.
    pub internal_name: String,
    /// Whom it reaches.
    pub audience: Audience,
    /// What carries its messages.
    pub transport: Transport,
    /// Whether it works.
    pub status: ChannelStatus,
    /// Its bot.
    pub bot_id: Option<BotId>,
    /// Its agent.
    pub agent_id: AgentId,
    /// The bot's name for its users.
    pub display_name: Option<String>,
    /// What the bot is for.
    pub description: Option<String>,
    /// What the bot says when it is installed.
    pub welcome_message: Option<String>,
    /// An icon, by URL.
    pub color_icon_url: Option<String>,
    /// An icon, by URL.
    pub outline_icon_url: Option<String>,
    /// What the relay puts before its messages.
    pub relay_prefix: Option<String>,
    /// Whether clients show the agent's steps.
    pub show_agent_progress_steps: bool,
}

/// An install of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstallRecord {
    /// Its id.
    pub id: InstallId,
    /// The MSP that owns it.
    pub tenant: TenantNo,
    /// Its channel's row.
    pub channel_seq: Tick,
    /// Its channel's bot.
    pub bot_id: Option<BotId>,
    /// The directory that is served.
    pub end_client_tenant_id: M365TenantId,
}

impl ChannelRecord {
    /// A channel before anything is said of it; audience and agent have still to be given.
    pub fn fresh(id: ChannelId, tenant: TenantNo, internal_name: &str) -> Self {
        Self {
            id,
            tenant,
            internal_name: internal_name.to_owned(),
            audience: Audience::Msp,
            transport: Transport::Teams,
            status: ChannelStatus::Active,
            bot_id: None,
            agent_id: AgentId(0),
            display_name: None,
            description: None,
            welcome_message: None,
            color_icon_url: None,
            outline_icon_url: None,
            relay_prefix: None,
            show_agent_progress_steps: true,
        }
    }

    /// What it becomes.
    #[must_use]
    pub fn changed(&self, draft: &ChannelDraft) -> Self {
        let (draft, before) = (draft.clone(), self.clone());
        Self {
            id: before.id,
            tenant: before.tenant,
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
        }
    }
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, tenant_no, internal_name, audience, transport, status, bot_id, agent_id, display_name, description, \
             welcome_message, color_icon_url, outline_icon_url, relay_prefix, show_agent_progress_steps FROM channels ",
            $rest
        )
    };
}

fn record(row: &Row<'_>) -> rusqlite::Result<ChannelRecord> {
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
    })
}

const LIVING: &str = select!("WHERE tenant_no = ?1 AND deleted_at IS NULL ORDER BY seq");

/// A tenant's living channels, oldest first.
///
/// # Errors
/// The file cannot be read.
pub fn living(reader: &Reader<'_>, tenant: TenantNo) -> Result<Vec<ChannelRecord>> {
    reader.all(LIVING, [tenant], record)
}

const NAMED: &str = select!("WHERE tenant_no = ?1 AND internal_name = ?2 AND deleted_at IS NULL");

/// The tenant's living channel of this name.
///
/// # Errors
/// The file cannot be read.
pub fn named(
    reader: &Reader<'_>,
    tenant: TenantNo,
    internal_name: &str,
) -> Result<Option<ChannelRecord>> {
    reader.optional(NAMED, (tenant, internal_name), record)
}

const LATEST_DELETED: &str = "
SELECT seq FROM channels WHERE tenant_no = ?1 AND internal_name = ?2 AND deleted_at IS NOT NULL ORDER BY seq DESC LIMIT 1";

/// The row of the tenant's newest deleted channel of this name.
///
/// # Errors
/// The file cannot be read.
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
             c.deleted_at IS NOT NULL AS deleted, c.agent_id AS agent_id, \
             c.show_agent_progress_steps AS show_agent_progress_steps ",
            $rest
        )
    };
}

fn facts(row: &Row<'_>) -> rusqlite::Result<resolver::Channel> {
    Ok(resolver::Channel {
        id: row.get("id")?,
        owner: row.get("tenant_no")?,
        audience: row.get("audience")?,
        status: row.get("status")?,
        deleted: row.get("deleted")?,
        agent_id: row.get("agent_id")?,
        show_agent_progress_steps: row.get("show_agent_progress_steps")?,
    })
}

const INSTALLED: &str = facts!(
    "FROM installs i JOIN channels c ON c.seq = i.channel_seq
     WHERE i.bot_id = ?1 AND i.m365_tenant_id = ?2 AND c.audience = 'END_USER'"
);

/// The `END_USER` channel of a bot that is installed for a directory, deleted ones too.
///
/// # Errors
/// The file cannot be read.
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

/// A tenant's living `ACTIVE` channels of a bot, oldest first.
///
/// # Errors
/// The file cannot be read.
pub fn active(
    reader: &Reader<'_>,
    tenant: TenantNo,
    bot: &BotId,
) -> Result<Vec<resolver::Channel>> {
    reader.all(ACTIVE, (tenant, bot), facts)
}

const FACTS: &str = facts!("FROM channels c WHERE c.seq = ?1");

/// What the rules need of a channel.
///
/// # Errors
/// The file cannot be read.
pub fn facts_of(reader: &Reader<'_>, id: ChannelId) -> Result<Option<resolver::Channel>> {
    reader.optional(FACTS, [id.tick()], facts)
}

const BOT_OF: &str = "SELECT bot_id FROM channels WHERE seq = ?1";

/// A channel's bot.
///
/// # Errors
/// The file cannot be read.
pub fn bot_of(reader: &Reader<'_>, id: ChannelId) -> Result<Option<BotId>> {
    Ok(reader
        .optional(BOT_OF, [id.tick()], |row| row.get("bot_id"))?
        .flatten())
}

const IS_INSTALLED: &str =
    "SELECT 1 FROM installs WHERE tenant_no = ?1 AND m365_tenant_id = ?2 AND channel_seq = ?3";

/// Whether a channel is installed for a directory.
///
/// # Errors
/// The file cannot be read.
pub fn is_installed(
    reader: &Reader<'_>,
    tenant: TenantNo,
    channel: ChannelId,
    directory: &M365TenantId,
) -> Result<bool> {
    Ok(reader
        .optional(
            IS_INSTALLED,
            (tenant, directory, channel.tick()),
            |_| Ok(()),
        )?
        .is_some())
}

const INSERT: &str = "
INSERT INTO channels (seq, id, tenant_no, internal_name, audience, transport, status, bot_id, agent_id, display_name, description,
                      welcome_message, color_icon_url, outline_icon_url, relay_prefix, show_agent_progress_steps, created_at, updated_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?17)";

/// Makes a channel.
///
/// # Errors
/// A unique index: the name is taken.
pub fn insert(tx: &mut WriteTx<'_>, channel: &ChannelRecord) -> Result<()> {
    let now = tx.now();
    tx.reader()
        .execute(
            INSERT,
            rusqlite::params![
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
                now,
            ],
        )
        .map(drop)
}

const UPDATE: &str = "
UPDATE channels SET internal_name = ?2, status = ?3, bot_id = ?4, agent_id = ?5, display_name = ?6, description = ?7,
                    welcome_message = ?8, color_icon_url = ?9, outline_icon_url = ?10, relay_prefix = ?11,
                    show_agent_progress_steps = ?12, updated_at = ?13
WHERE seq = ?1";
const MOVE_BOT: &str =
    "UPDATE installs SET bot_id = ?2 WHERE channel_seq = ?1 AND bot_id IS NOT ?2";

/// Writes what can change of a channel; its installs follow its bot.
///
/// # Errors
/// A unique index: the name, or the new bot's install for a directory, is taken.
pub fn update(tx: &mut WriteTx<'_>, channel: &ChannelRecord) -> Result<()> {
    let now = tx.now();
    tx.reader().execute(
        UPDATE,
        rusqlite::params![
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
            now,
        ],
    )?;
    tx.reader()
        .execute(MOVE_BOT, (channel.id.tick(), &channel.bot_id))
        .map(drop)
}

macro_rules! select_install {
    ($rest:literal) => {
        concat!(
            "SELECT id, tenant_no, channel_seq, bot_id, m365_tenant_id FROM installs ",
            $rest
        )
    };
}

fn install(row: &Row<'_>) -> rusqlite::Result<InstallRecord> {
    Ok(InstallRecord {
        id: row.get("id")?,
        tenant: row.get("tenant_no")?,
        channel_seq: row.get("channel_seq")?,
        bot_id: row.get("bot_id")?,
        end_client_tenant_id: row.get("m365_tenant_id")?,
    })
}

const INSTALLS_OF: &str = select_install!("WHERE channel_seq = ?1 ORDER BY seq");

/// A channel's installs, oldest first.
///
/// # Errors
/// The file cannot be read.
pub fn installs_of(reader: &Reader<'_>, channel: Tick) -> Result<Vec<InstallRecord>> {
    reader.all(INSTALLS_OF, [channel], install)
}

const ROUTED: &str = select_install!("WHERE bot_id = ?1 AND m365_tenant_id = ?2");

/// The install that holds a bot and a directory, on the whole server.
///
/// # Errors
/// The file cannot be read.
pub fn routed(
    reader: &Reader<'_>,
    bot: &BotId,
    directory: &M365TenantId,
) -> Result<Option<InstallRecord>> {
    reader.optional(ROUTED, (bot, directory), install)
}

const BOUND: &str = select_install!("WHERE tenant_no = ?1 AND m365_tenant_id = ?2");

/// The tenant's install for a directory.
///
/// # Errors
/// The file cannot be read.
pub fn bound(
    reader: &Reader<'_>,
    tenant: TenantNo,
    directory: &M365TenantId,
) -> Result<Option<InstallRecord>> {
    reader.optional(BOUND, (tenant, directory), install)
}

const IS_DELETED: &str = "SELECT deleted_at IS NOT NULL AS deleted FROM channels WHERE seq = ?1";

/// Whether a channel was deleted.
///
/// # Errors
/// The file cannot be read, or has no such channel.
pub fn is_deleted(reader: &Reader<'_>, channel: Tick) -> Result<bool> {
    reader.one(IS_DELETED, [channel], |row| row.get("deleted"))
}

const INSERT_INSTALL: &str = "
INSERT INTO installs (seq, id, tenant_no, channel_seq, bot_id, m365_tenant_id, created_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";

/// Makes an install.
///
/// # Errors
/// A unique index: the directory is taken for this bot, or for this tenant.
pub fn insert_install(tx: &mut WriteTx<'_>, install: &InstallRecord) -> Result<()> {
    let now = tx.now();
    tx.reader()
        .execute(
            INSERT_INSTALL,
            (
                install.id.tick(),
                install.id,
                install.tenant,
                install.channel_seq,
                &install.bot_id,
                &install.end_client_tenant_id,
                now,
            ),
        )
        .map(drop)
}

const DELETE_INSTALL: &str = "DELETE FROM installs WHERE seq = ?1";

/// Removes an install.
///
/// # Errors
/// The file cannot be written.
pub fn delete_install(tx: &mut WriteTx<'_>, install: InstallId) -> Result<()> {
    tx.reader()
        .execute(DELETE_INSTALL, [install.tick()])
        .map(drop)
}

const TAKE_OVER: &str = "UPDATE installs SET channel_seq = ?2, bot_id = ?3 WHERE channel_seq = ?1";

/// Moves the installs of one channel to another.
///
/// # Errors
/// A unique index: the new bot's install for a directory is taken.
pub fn take_over(tx: &mut WriteTx<'_>, from: Tick, to: &ChannelRecord) -> Result<()> {
    tx.reader()
        .execute(TAKE_OVER, (from, to.id.tick(), &to.bot_id))
        .map(drop)
}

const HAS_ACTIVE_INTERNAL: &str = "
SELECT 1 FROM channels
WHERE tenant_no = ?1 AND bot_id = ?2 AND deleted_at IS NULL AND status = 'ACTIVE' AND audience = 'MSP' AND seq <> ?3";

/// Whether the tenant has another living `ACTIVE` `MSP` channel of this bot.
///
/// # Errors
/// The file cannot be read.
pub fn has_other_active_internal(
    reader: &Reader<'_>,
    tenant: TenantNo,
    bot: &BotId,
    than: Tick,
) -> Result<bool> {
    Ok(reader
        .optional(HAS_ACTIVE_INTERNAL, (tenant, bot, than), |_| Ok(()))?
        .is_some())
}
