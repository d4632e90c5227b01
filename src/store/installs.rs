//! Installs: which Microsoft directories a channel's bot serves.

use schemars::JsonSchema;
use serde::Serialize;

use super::channels::{self, ChannelRecord};
use super::rules::{Violation, refuse};
use super::sql::{Reader, Row};
use super::{WriteTx, companies};
use crate::error::{Code, Refusal, Result};
use crate::model::clock::Timestamp;
use crate::model::ids::{ChannelId, InstallId, Tick};
use crate::model::names::{BotId, CompanyId, M365TenantId, TenantNo};
use crate::model::words::Audience;
use crate::resolver::Linked;

/// An install as the wire shows it (contract, section 6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct InstallRecord {
    /// Its id.
    pub id: InstallId,
    /// Its channel.
    pub channel_id: ChannelId,
    /// The directory that is served.
    pub end_client_tenant_id: M365TenantId,
    /// Its channel's bot.
    pub bot_id: Option<BotId>,
    /// The company that is linked to the directory, if it is exactly one.
    pub psa_company_id: Option<CompanyId>,
    /// When it was made.
    pub created_at: Timestamp,
    /// The MSP that owns it.
    #[serde(skip)]
    pub tenant: TenantNo,
    /// Whether its channel was deleted.
    #[serde(skip)]
    pub is_of_deleted: bool,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT i.id AS id, c.id AS channel_id, i.m365_tenant_id AS m365_tenant_id, i.bot_id AS bot_id, \
             (SELECT CASE count(*) WHEN 1 THEN min(e.psa_company_id) END FROM end_companies e \
              WHERE e.tenant_no = i.tenant_no AND e.m365_tenant_id = i.m365_tenant_id) AS psa_company_id, \
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

/// The install with this id, whoever owns it.
///
/// # Errors
/// The file cannot be read.
pub fn by_id(reader: &Reader<'_>, id: InstallId) -> Result<Option<InstallRecord>> {
    reader.optional(BY_ID, (id.tick(), id), record)
}

const OF_CHANNEL: &str = select!("WHERE i.channel_seq = ?1 ORDER BY i.seq");

/// A channel's installs, oldest first.
///
/// # Errors
/// The file cannot be read.
pub fn of_channel(reader: &Reader<'_>, channel: ChannelId) -> Result<Vec<InstallRecord>> {
    reader.all(OF_CHANNEL, [channel.tick()], record)
}

const PAGE: &str = select!("WHERE i.channel_seq = ?1 AND i.seq < ?2 ORDER BY i.seq DESC LIMIT ?3");

/// Every range's SQL, for the test that reads its plan.
pub const RANGES: &[(&str, &str)] = &[("installs_of_channel", PAGE)];

/// A page of a channel's installs, newest first, from before a tick.
///
/// # Errors
/// The file cannot be read.
pub fn page(
    reader: &Reader<'_>,
    channel: ChannelId,
    before: Tick,
    limit: usize,
) -> Result<Vec<InstallRecord>> {
    reader.all(PAGE, (channel.tick(), before, limit), record)
}

const ROUTED: &str = select!("WHERE i.bot_id = ?1 AND i.m365_tenant_id = ?2");

/// The install that holds a bot and a directory, on the whole server.
///
/// # Errors
/// The file cannot be read.
pub fn routed(
    reader: &Reader<'_>,
    bot: &BotId,
    directory: &M365TenantId,
) -> Result<Option<InstallRecord>> {
    reader.optional(ROUTED, (bot, directory), record)
}

const BOUND: &str = select!("WHERE i.tenant_no = ?1 AND i.m365_tenant_id = ?2");

/// The tenant's install for a directory.
///
/// # Errors
/// The file cannot be read.
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

/// Only an `END_USER` channel is installed.
pub(super) fn wrong_audience(
    channel: &ChannelRecord,
    directory: &M365TenantId,
) -> Option<Violation> {
    (channel.audience != Audience::EndUser).then(|| Violation {
        field: "end_client_tenant_id",
        value: directory.to_string(),
        reason: "only END_USER channels have installs".to_owned(),
        refusal: Refusal::new(Code::AudienceMismatch)
            .saying("Only END_USER channels are installed. Choose one."),
    })
}

/// A bot and a directory belong to one tenant's install. A deleted channel's install counts too.
pub(super) fn held_by_another_tenant(
    reader: &Reader<'_>,
    channel: &ChannelRecord,
    directory: &M365TenantId,
) -> Result<Option<Violation>> {
    let Some(bot) = &channel.bot_id else {
        return Ok(None);
    };
    let held = routed(reader, bot, directory)?.filter(|install| install.tenant != channel.tenant);
    Ok(held.map(|_| Violation {
        field: "end_client_tenant_id",
        value: directory.to_string(),
        reason: "is installed for this bot by another tenant".to_owned(),
        refusal: conflict("end_client_tenant_id"),
    }))
}

const CANNOT_FOLLOW: &str = "
SELECT i.m365_tenant_id AS m365_tenant_id FROM installs i
JOIN installs o ON o.bot_id = ?2 AND o.m365_tenant_id = i.m365_tenant_id AND o.tenant_no <> i.tenant_no
WHERE i.channel_seq = ?1 ORDER BY i.seq LIMIT 1";

/// A channel's installs follow its new bot, unless another tenant's install holds that bot for one
/// of their directories.
pub(super) fn cannot_follow(
    reader: &Reader<'_>,
    channel: Tick,
    bot: &BotId,
) -> Result<Option<Violation>> {
    let held: Option<M365TenantId> = reader.optional(CANNOT_FOLLOW, (channel, bot), |row| {
        row.get("m365_tenant_id")
    })?;
    Ok(held.map(|directory| Violation {
        field: "bot_id",
        value: bot.to_string(),
        reason: format!("is installed for {directory} by another tenant"),
        refusal: bot_conflict(&directory),
    }))
}

fn bot_conflict(directory: &M365TenantId) -> Refusal {
    conflict("bot_id").with("end_client_tenant_id", directory.as_str())
}

const IS_HOME_OF_ANOTHER: &str =
    "SELECT 1 FROM tenants WHERE entra_tenant_id = ?1 AND tenant_no <> ?2";

fn is_home_of_another(
    reader: &Reader<'_>,
    tenant: TenantNo,
    directory: &M365TenantId,
) -> Result<bool> {
    Ok(reader
        .optional(IS_HOME_OF_ANOTHER, (directory, tenant), |_| Ok(()))?
        .is_some())
}

const FOREIGN_HOMES: &str = "
SELECT o.client_id AS client_id, i.m365_tenant_id AS m365_tenant_id
FROM installs i
JOIN tenants h ON h.entra_tenant_id = i.m365_tenant_id AND h.tenant_no <> i.tenant_no
JOIN tenants o ON o.tenant_no = i.tenant_no
WHERE i.tenant_no = ?1
UNION ALL
SELECT o.client_id, i.m365_tenant_id
FROM tenants h
JOIN installs i ON i.m365_tenant_id = h.entra_tenant_id AND i.tenant_no <> h.tenant_no
JOIN tenants o ON o.tenant_no = i.tenant_no
WHERE h.tenant_no = ?1";

/// A bot must never be installed into the directory of another MSP's own people: where this tenant has done so, or has had it
/// done to it. Who installed, and the directory.
///
/// # Errors
/// The file cannot be read.
pub fn foreign_homes(reader: &Reader<'_>, tenant: TenantNo) -> Result<Vec<(String, M365TenantId)>> {
    reader.all(FOREIGN_HOMES, [tenant], |row| {
        Ok((row.get("client_id")?, row.get("m365_tenant_id")?))
    })
}

const IN_FOREIGN_HOME: &str = "
SELECT i.m365_tenant_id AS m365_tenant_id FROM installs i
JOIN tenants h ON h.entra_tenant_id = i.m365_tenant_id AND h.tenant_no <> i.tenant_no
WHERE i.channel_seq = ?1 ORDER BY i.seq LIMIT 1";

/// Checks a channel's installs again, for its new bot.
///
/// # Errors
/// `install_conflict` for the first that could not be made for this bot; it names no one.
pub(super) fn check_new_bot(reader: &Reader<'_>, channel: ChannelId, bot: &BotId) -> Result<()> {
    refuse(cannot_follow(reader, channel.tick(), bot)?)?;
    let foreign: Option<M365TenantId> =
        reader.optional(IN_FOREIGN_HOME, [channel.tick()], |row| {
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

/// What a request to install did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// The install, as it is now.
    pub install: InstallRecord,
    /// Whether the request created it.
    pub is_new: bool,
    /// The install of a deleted channel that the new one replaced.
    pub instead_of: Option<InstallId>,
    /// Whether the request linked the company.
    pub is_linked: bool,
    /// The companies that are linked to the directory now.
    pub linked: Linked,
}

/// Installs a channel for a directory, and links the directory to `company` (contract, section 6).
///
/// # Errors
/// In this order: `not_found` for a deleted channel; `audience_mismatch`; `install_conflict`, which
/// names no one; `company_already_bound` for a directory that the tenant has installed elsewhere;
/// `not_found` for the company; `company_already_bound` for a company with another link.
pub fn install(
    tx: &mut WriteTx<'_>,
    channel: &ChannelRecord,
    directory: &M365TenantId,
    company: Option<&CompanyId>,
) -> Result<Installed> {
    if channel.is_deleted {
        return Err(Code::NotFound.into());
    }
    refuse(wrong_audience(channel, directory))?;
    let (id, is_new, instead_of) = match make(tx, channel, directory)? {
        Made::Before(id) => (id, false, None),
        Made::Now { id, instead_of } => (id, true, instead_of),
    };
    let is_linked = match company {
        Some(company) => companies::link(tx, channel.tenant, company, directory)?,
        None => false,
    };
    Ok(Installed {
        install: by_id(tx.reader(), id)?.ok_or(Code::NotFound)?,
        is_new,
        instead_of,
        is_linked,
        linked: companies::linked(tx.reader(), channel.tenant, directory)?,
    })
}

enum Made {
    /// It was so already.
    Before(InstallId),
    /// A new install; it may have taken the place of a deleted channel's.
    Now {
        id: InstallId,
        instead_of: Option<InstallId>,
    },
}

/// Installs a channel for a directory, unless the directory is held. Whoever is second finds what the
/// first did, since all writes run one behind the other; the unique indexes hold it too.
///
/// A deleted channel's install gives way where that lets nothing through that it refused: to a channel of the same tenant and
/// bot, or where it has no bot.
fn make(tx: &mut WriteTx<'_>, channel: &ChannelRecord, directory: &M365TenantId) -> Result<Made> {
    let reader = tx.reader();
    refuse(held_by_another_tenant(reader, channel, directory)?)?;
    let own = match &channel.bot_id {
        Some(bot) => routed(reader, bot, directory)?,
        None => None,
    };
    let is_in_the_way = own.is_some_and(|own| own.channel_id != channel.id && !own.is_of_deleted);
    if is_in_the_way || is_home_of_another(reader, channel.tenant, directory)? {
        return Err(conflict("end_client_tenant_id").into());
    }
    match bound(reader, channel.tenant, directory)? {
        None => Ok(Made::Now {
            id: insert(tx, channel, directory)?,
            instead_of: None,
        }),
        Some(bound) if bound.channel_id == channel.id => Ok(Made::Before(bound.id)),
        Some(bound)
            if bound.is_of_deleted
                && (bound.bot_id.is_none() || bound.bot_id == channel.bot_id) =>
        {
            delete(tx, bound.id)?;
            Ok(Made::Now {
                id: insert(tx, channel, directory)?,
                instead_of: Some(bound.id),
            })
        }
        Some(bound) => Err(bound_elsewhere(reader, &bound)?.into()),
    }
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
            "This M365 tenant is bound to the {kind} {name:?}. Remove that install first."
        ))
        .with("field", "end_client_tenant_id")
        .with("channel_id", bound.channel_id.to_string())
        .with("install_id", bound.id.to_string()))
}

const INSERT: &str = "
INSERT INTO installs (seq, id, tenant_no, channel_seq, bot_id, m365_tenant_id, created_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";

/// Makes an install.
///
/// # Errors
/// A unique index: the directory is taken for this bot, or for this tenant.
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

/// Removes an install.
///
/// # Errors
/// The file cannot be written.
pub fn delete(tx: &mut WriteTx<'_>, install: InstallId) -> Result<()> {
    tx.execute(DELETE, [install.tick()]).map(drop)
}

const TAKE_OVER: &str = "UPDATE installs SET channel_seq = ?2, bot_id = ?3 WHERE channel_seq = ?1";

/// Moves the installs of one channel to another.
///
/// # Errors
/// A unique index: the new bot's install for a directory is taken.
pub fn take_over(tx: &mut WriteTx<'_>, from: Tick, to: &ChannelRecord) -> Result<()> {
    tx.execute(TAKE_OVER, (from, to.id.tick(), &to.bot_id))
        .map(drop)
}
