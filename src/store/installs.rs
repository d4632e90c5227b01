//! Installs: the Microsoft directories that a channel's bot serves.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::channels::{self, ChannelRecord};
use super::companies::NewLink;
use super::rules::{Violation, refuse, unfit_id};
use super::sql::{Reader, Row};
use super::{WriteTx, companies, company_directories, idempotency};
use crate::error::{Code, Contested, Refusal, Result};
use crate::model::clock::Timestamp;
use crate::model::directory::{DirectoryId, DirectoryRule};
use crate::model::ids::{ChannelId, InstallId, Tick};
use crate::model::names::{BotId, CompanyId, M365TenantId, TenantNo};
use crate::model::words::Audience;
use crate::resolver::Linked;

/// An install as the API returns it (contract, section 6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct InstallRecord {
    /// The install's id.
    pub id: InstallId,
    /// The installed channel.
    pub channel_id: ChannelId,
    /// The M365 tenant that the channel serves.
    pub end_client_tenant_id: M365TenantId,
    /// The channel's bot.
    pub bot_id: Option<BotId>,
    /// The company that is linked to the M365 tenant; null unless it is exactly one.
    pub psa_company_id: Option<CompanyId>,
    /// The time of creation.
    pub created_at: Timestamp,
    /// The tenant that owns the channel.
    #[serde(skip)]
    pub tenant: TenantNo,
    /// Whether the channel is deleted.
    #[serde(skip)]
    pub is_of_deleted: bool,
}

impl InstallRecord {
    /// What an audit event says of the install.
    pub fn details(&self) -> Map<String, Value> {
        let (channel, directory) = (self.channel_id.to_string(), &self.end_client_tenant_id);
        let details = [
            ("channel_id", channel),
            ("end_client_tenant_id", directory.to_string()),
        ];
        details
            .into_iter()
            .map(|(name, id)| (name.to_owned(), id.into()))
            .collect()
    }
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT i.id AS id, c.id AS channel_id, i.m365_tenant_id AS m365_tenant_id, i.bot_id AS bot_id, \
             (SELECT CASE count(*) WHEN 1 THEN min(d.psa_company_id) END FROM company_directories d \
              WHERE d.tenant_no = i.tenant_no AND d.m365_tenant_id = i.m365_tenant_id) AS psa_company_id, \
             i.created_at AS created_at, i.tenant_no AS tenant_no, c.deleted_at IS NOT NULL AS is_of_deleted \
             FROM installs i JOIN channels c ON c.seq = i.channel_seq ",
            $rest
        )
    };
}

fn record(row: &Row<'_>) -> Result<InstallRecord> {
    Ok(InstallRecord {
        id: row.get("id")?,
        channel_id: row.get("channel_id")?,
        end_client_tenant_id: row.get("m365_tenant_id")?,
        bot_id: row.get("bot_id")?,
        psa_company_id: row.get("psa_company_id")?,
        created_at: Timestamp(row.get("created_at")?),
        tenant: row.get("tenant_no")?,
        is_of_deleted: row.get("is_of_deleted")?,
    })
}

const BY_ID: &str = select!("WHERE i.seq = ?1 AND i.id = ?2");

/// The install with this id, of any tenant.
pub fn by_id(reader: &Reader<'_>, id: InstallId) -> Result<Option<InstallRecord>> {
    reader.optional(BY_ID, (id.tick(), id), record)
}

const OF_CHANNEL: &str = select!("WHERE i.channel_seq = ?1 ORDER BY i.seq");

/// A channel's installs, oldest first.
pub fn of_channel(reader: &Reader<'_>, channel: ChannelId) -> Result<Vec<InstallRecord>> {
    reader.all(OF_CHANNEL, [channel.tick()], record)
}

const PAGE: &str = select!("WHERE i.channel_seq = ?1 AND i.seq < ?2 ORDER BY i.seq DESC LIMIT ?3");

/// The index of each range and its SQL. A test reads the query plan.
pub const RANGES: &[(&str, &str)] = &[("installs_of_channel", PAGE)];

/// A page of a channel's installs that are older than `before`, newest first.
pub fn page(
    reader: &Reader<'_>,
    channel: ChannelId,
    before: Tick,
    limit: usize,
) -> Result<Vec<InstallRecord>> {
    reader.all(PAGE, (channel.tick(), before, limit), record)
}

const ROUTED: &str = select!("WHERE i.bot_id = ?1 AND i.m365_tenant_id = ?2");

/// The install of a bot for a directory. The server has one at most.
pub fn routed(
    reader: &Reader<'_>,
    bot: &BotId,
    directory: &M365TenantId,
) -> Result<Option<InstallRecord>> {
    reader.optional(ROUTED, (bot, directory), record)
}

const BOUND: &str = select!("WHERE i.tenant_no = ?1 AND i.m365_tenant_id = ?2");

/// The tenant's install for a directory. A tenant has one at most.
pub fn bound(
    reader: &Reader<'_>,
    tenant: TenantNo,
    directory: &M365TenantId,
) -> Result<Option<InstallRecord>> {
    reader.optional(BOUND, (tenant, directory), record)
}

const IS_INSTALLED: &str =
    "SELECT 1 FROM installs WHERE tenant_no = ?1 AND m365_tenant_id = ?2 AND channel_seq = ?3";

/// Whether a channel is installed for a directory.
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

/// The violation of an install of a channel that is not `END_USER`.
pub(super) fn wrong_audience(
    channel: &ChannelRecord,
    directory: &M365TenantId,
) -> Option<Violation> {
    (channel.audience != Audience::EndUser).then(|| Violation {
        field: "end_client_tenant_id".into(),
        value: directory.to_string(),
        reason: "only END_USER channels can have installs".to_owned(),
        refusal: Refusal::new(Code::AudienceMismatch)
            .saying("Only END_USER channels can be installed. Choose an END_USER channel."),
    })
}

/// Another tenant's install that has the channel's bot and the directory. Its channel may be
/// deleted.
pub(super) fn of_another_tenant(
    reader: &Reader<'_>,
    channel: &ChannelRecord,
    directory: &M365TenantId,
) -> Result<Option<InstallRecord>> {
    let Some(bot) = &channel.bot_id else {
        return Ok(None);
    };
    Ok(routed(reader, bot, directory)?.filter(|other| other.tenant != channel.tenant))
}

/// The violation of an operator's install, if another tenant's install has the bot and the
/// directory. An install of a deleted channel gives way to the operator's.
pub(super) fn held_by_another_tenant(held: &InstallRecord) -> Option<Violation> {
    (!held.is_of_deleted).then(|| Violation {
        field: "end_client_tenant_id".into(),
        value: held.end_client_tenant_id.to_string(),
        reason: "is installed for this bot by another tenant".to_owned(),
        refusal: conflict("end_client_tenant_id"),
    })
}

const RIVALS: &str = "
SELECT o.tenant_no AS tenant_no FROM channels o
WHERE o.bot_id = ?1 AND o.tenant_no <> ?2 AND o.deleted_at IS NULL
  AND (EXISTS (SELECT 1 FROM company_directories d WHERE d.tenant_no = o.tenant_no AND d.m365_tenant_id = ?3)
    OR EXISTS (SELECT 1 FROM installs i WHERE i.tenant_no = o.tenant_no AND i.m365_tenant_id = ?3))
UNION
SELECT i.tenant_no FROM installs i WHERE i.bot_id = ?1 AND i.m365_tenant_id = ?3 AND i.tenant_no <> ?2
ORDER BY tenant_no";

/// The other tenants that a directory belongs to, as far as this channel's bot is concerned: those
/// that share the bot and have linked the directory or have an install for it, and the one whose
/// install has the bot and the directory.
fn rivals(
    reader: &Reader<'_>,
    channel: &ChannelRecord,
    directory: &M365TenantId,
) -> Result<Vec<TenantNo>> {
    match &channel.bot_id {
        None => Ok(Vec::new()),
        Some(bot) => reader.all(RIVALS, (bot, channel.tenant, directory), |row| {
            row.get("tenant_no")
        }),
    }
}

const CANNOT_FOLLOW: &str = "
SELECT i.m365_tenant_id AS m365_tenant_id, o.tenant_no AS rival FROM installs i
JOIN installs o ON o.bot_id = ?2 AND o.m365_tenant_id = i.m365_tenant_id AND o.tenant_no <> i.tenant_no
WHERE i.channel_seq = ?1 ORDER BY i.seq LIMIT 1";

/// The violation of a new bot that a channel's installs cannot follow: another tenant's install has
/// the bot and one of their directories.
pub(super) fn cannot_follow(
    reader: &Reader<'_>,
    channel: Tick,
    bot: &BotId,
) -> Result<Option<Violation>> {
    let taken: Option<(M365TenantId, TenantNo)> =
        reader.optional(CANNOT_FOLLOW, (channel, bot), |row| {
            Ok((row.get("m365_tenant_id")?, row.get("rival")?))
        })?;
    Ok(taken.map(|(directory, rival)| Violation {
        field: "bot_id".into(),
        value: bot.to_string(),
        reason: format!("is installed for {directory} by another tenant"),
        refusal: bot_conflict(&directory).contested(contested(&directory, Some(bot), vec![rival])),
    }))
}

fn bot_conflict(directory: &M365TenantId) -> Refusal {
    conflict("bot_id").with("end_client_tenant_id", directory.as_str())
}

const HOME_OF: &str =
    "SELECT tenant_no FROM tenants WHERE entra_tenant_id = ?1 AND tenant_no <> ?2";

/// The other tenant whose people sign in with this directory.
fn home_of_another(
    reader: &Reader<'_>,
    tenant: TenantNo,
    directory: &M365TenantId,
) -> Result<Option<TenantNo>> {
    reader.optional(HOME_OF, (directory, tenant), |row| row.get("tenant_no"))
}

const IN_FOREIGN_DIRECTORIES: &str = "
SELECT 1 AS part, i.tenant_no AS tenant_no, o.client_id AS client_id, i.m365_tenant_id AS m365_tenant_id
FROM installs i
JOIN tenants h ON h.entra_tenant_id = i.m365_tenant_id AND h.tenant_no <> i.tenant_no
JOIN tenants o ON o.tenant_no = i.tenant_no
WHERE i.tenant_no = ?1
UNION ALL
SELECT 2, i.tenant_no, o.client_id, i.m365_tenant_id
FROM tenants h
JOIN installs i ON i.m365_tenant_id = h.entra_tenant_id AND i.tenant_no <> h.tenant_no
JOIN tenants o ON o.tenant_no = i.tenant_no
WHERE h.tenant_no = ?1
ORDER BY part, m365_tenant_id, tenant_no";

/// The installs that serve a directory with which another tenant signs in: those of this tenant,
/// and those for this tenant's directory. No bot may serve another MSP's own people. Returns the
/// `client_id` of the installing tenant and the directory.
pub fn in_foreign_directories(
    reader: &Reader<'_>,
    tenant: TenantNo,
) -> Result<Vec<(String, M365TenantId)>> {
    reader.all(IN_FOREIGN_DIRECTORIES, [tenant], |row| {
        Ok((row.get("client_id")?, row.get("m365_tenant_id")?))
    })
}

const IN_FOREIGN_DIRECTORY: &str = "
SELECT i.m365_tenant_id AS m365_tenant_id FROM installs i
JOIN tenants h ON h.entra_tenant_id = i.m365_tenant_id AND h.tenant_no <> i.tenant_no
WHERE i.channel_seq = ?1 ORDER BY i.seq LIMIT 1";

/// Checks a channel's installs again for its new bot.
///
/// # Errors
/// `install_conflict` for the first directory that the bot cannot serve. The refusal names no
/// tenant.
pub(super) fn check_new_bot(reader: &Reader<'_>, channel: ChannelId, bot: &BotId) -> Result<()> {
    refuse(cannot_follow(reader, channel.tick(), bot)?)?;
    let foreign: Option<M365TenantId> =
        reader.optional(IN_FOREIGN_DIRECTORY, [channel.tick()], |row| {
            row.get("m365_tenant_id")
        })?;
    match foreign {
        Some(directory) => Err(bot_conflict(&directory).into()),
        None => Ok(()),
    }
}

fn conflict(field: &'static str) -> Refusal {
    Refusal::new(Code::InstallConflict).with("field", field)
}

fn contested(directory: &M365TenantId, bot: Option<&BotId>, rivals: Vec<TenantNo>) -> Contested {
    Contested {
        action: "install.refused",
        directory: directory.to_string(),
        bot: bot.map(ToString::to_string),
        rivals: rivals.into_iter().map(|tenant| tenant.0).collect(),
    }
}

/// The result of a request to install.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// The install as it is stored now.
    pub install: InstallRecord,
    /// Whether the request created it.
    pub is_new: bool,
    /// The install of a deleted channel that the new install replaced.
    pub replaced: Option<InstallId>,
    /// The install of another tenant's deleted channel that the operator's install replaced.
    pub lost: Option<InstallRecord>,
    /// Whether the request linked the company.
    pub is_linked: bool,
    /// The companies that are linked to the directory now.
    pub linked: Linked,
}

/// Who makes an install.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Installer {
    /// The operator, through the platform account. The operator decides between tenants that share
    /// a bot.
    Operator,
    /// An account of the channel's tenant.
    Owner,
}

/// Installs a channel for a directory, and links the directory to a company (contract, section 6).
///
/// # Errors
/// The first that applies, in this order: `not_found` for a deleted channel, `audience_mismatch`,
/// `validation_error` for a new directory that the rule excludes, `install_conflict`,
/// `company_already_bound` for a directory that another channel of the tenant serves, `not_found`
/// for the company, `company_already_bound` for a company with another link.
/// An `install_conflict` names no tenant in the reply.
pub fn install(
    tx: &mut WriteTx<'_>,
    channel: &ChannelRecord,
    named: &DirectoryId,
    link: Option<&NewLink>,
    installer: Installer,
    rule: DirectoryRule,
) -> Result<Installed> {
    let directory = named.id();
    if channel.is_deleted {
        return Err(Code::NotFound.into());
    }
    refuse(wrong_audience(channel, directory))?;
    let (id, is_new, replaced, lost) = match bind(tx, channel, named, installer, rule)? {
        Binding::Existing(id) => (id, false, None, None),
        Binding::New { id, replaced, lost } => (id, true, replaced, lost),
    };
    let is_linked = match link {
        Some(link) => companies::link(tx, channel.tenant, link, directory)?,
        None => false,
    };
    Ok(Installed {
        install: by_id(tx.reader(), id)?.ok_or(Code::NotFound)?,
        is_new,
        replaced,
        lost,
        is_linked,
        linked: company_directories::linked(tx.reader(), channel.tenant, directory)?,
    })
}

enum Binding {
    Existing(InstallId),
    New {
        id: InstallId,
        replaced: Option<InstallId>,
        lost: Option<InstallRecord>,
    },
}

/// Installs a channel for a directory, unless the directory is taken. Of two requests that race,
/// the second finds the install of the first, since changes run one after another. The unique
/// indexes guard it too.
///
/// An install of a deleted channel is replaced if nothing can pass that it refused: by a channel of
/// the same tenant and bot, or if it has no bot. The operator also replaces one of another tenant.
fn bind(
    tx: &mut WriteTx<'_>,
    channel: &ChannelRecord,
    named: &DirectoryId,
    installer: Installer,
    rule: DirectoryRule,
) -> Result<Binding> {
    let (reader, directory) = (tx.reader(), named.id());
    let bound = bound(reader, channel.tenant, directory)?;
    let same = bound
        .as_ref()
        .filter(|bound| bound.channel_id == channel.id);
    let stored = same.map(|_| directory).into_iter();
    refuse(unfit_id("end_client_tenant_id", named, stored, rule))?;
    let routed = match &channel.bot_id {
        Some(bot) => routed(reader, bot, directory)?,
        None => None,
    };
    let is_taken = routed
        .as_ref()
        .is_some_and(|other| other.channel_id != channel.id && !other.is_of_deleted);
    let rivals = match installer {
        Installer::Owner => rivals(reader, channel, directory)?,
        Installer::Operator => Vec::new(),
    };
    let is_contested = same.is_none() && !rivals.is_empty();
    let home = home_of_another(reader, channel.tenant, directory)?;
    if is_taken || is_contested || home.is_some() {
        let mut concerned = rivals;
        concerned.extend(home);
        concerned.sort_unstable();
        concerned.dedup();
        let refusal = conflict("end_client_tenant_id");
        return Err(refusal
            .contested(contested(directory, channel.bot_id.as_ref(), concerned))
            .into());
    }
    if let Some(same) = same {
        return Ok(Binding::Existing(same.id));
    }
    let gives_way = |bound: &&InstallRecord| {
        bound.is_of_deleted && (bound.bot_id.is_none() || bound.bot_id == channel.bot_id)
    };
    if let Some(bound) = bound.as_ref().filter(|bound| !gives_way(bound)) {
        return Err(bound_elsewhere(reader, bound)?.into());
    }
    let lost = routed.filter(|other| other.tenant != channel.tenant);
    for old in bound.iter().chain(&lost) {
        delete(tx, old)?;
    }
    Ok(Binding::New {
        id: insert(tx, channel, directory)?,
        replaced: bound.map(|bound| bound.id),
        lost,
    })
}

fn bound_elsewhere(reader: &Reader<'_>, bound: &InstallRecord) -> Result<Refusal> {
    let channel = channels::by_id(reader, bound.channel_id)?;
    let name = channel.map_or_else(String::new, |channel| channel.internal_name);
    let kind = if bound.is_of_deleted {
        "deleted channel"
    } else {
        "channel"
    };
    Ok(Refusal::new(Code::CompanyAlreadyBound)
        .saying(format!(
            "The {kind} {name:?} already has an install for this M365 tenant. Remove that install first."
        ))
        .with("field", "end_client_tenant_id")
        .with("channel_id", bound.channel_id.to_string())
        .with("install_id", bound.id.to_string()))
}

const INSERT: &str = "
INSERT INTO installs (seq, id, tenant_no, channel_seq, bot_id, m365_tenant_id, created_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";

/// Inserts an install.
///
/// # Errors
/// `internal_error` if the bot or the tenant has an install for the directory.
pub fn insert(
    tx: &mut WriteTx<'_>,
    channel: &ChannelRecord,
    directory: &M365TenantId,
) -> Result<InstallId> {
    let (now, id) = (tx.now(), tx.new_id()?);
    tx.execute(
        INSERT,
        (
            InstallId::tick(&id),
            id,
            channel.tenant,
            channel.id.tick(),
            &channel.bot_id,
            directory,
            now,
        ),
    )?;
    Ok(id)
}

const DELETE: &str = "DELETE FROM installs WHERE seq = ?1";

/// Deletes an install, and clears the stored reply that shows it.
pub fn delete(tx: &mut WriteTx<'_>, install: &InstallRecord) -> Result<()> {
    tx.execute(DELETE, [install.id.tick()])?;
    let location = path_to(install.channel_id, install.id);
    idempotency::clear(tx, install.tenant, &location)
}

/// The path of an install in the API, below the prefix.
pub fn path_to(channel: ChannelId, id: InstallId) -> String {
    format!("/channels/{channel}/installs/{id}")
}

const TAKE_OVER: &str = "UPDATE installs SET channel_seq = ?2, bot_id = ?3 WHERE channel_seq = ?1";

/// Moves the installs of one channel to another.
///
/// # Errors
/// `internal_error` if the new bot's install for a directory is taken.
pub fn take_over(tx: &mut WriteTx<'_>, from: Tick, to: &ChannelRecord) -> Result<()> {
    tx.execute(TAKE_OVER, (from, to.id.tick(), &to.bot_id))
        .map(drop)
}
