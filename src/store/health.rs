//! Mapping health: which chats would be refused, and why. Serves the API and `check` (contract,
//! sections 6 and 12).

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::Serialize;

use super::companies::CompanyRecord;
use super::duplicate_names::{self, DuplicateName};
use super::sql::{Reader, Row};
use crate::error::{Code, Result};
use crate::input::fields::shortened;
use crate::model::directory::{self, DirectoryRule};
use crate::model::ids::{ChannelId, InstallId};
use crate::model::names::{AgentId, BotId, ClientId, CompanyId, M365TenantId, TenantNo};
use crate::model::words::{AgentState, AutonomyType};

/// Companies of a shared directory, or of one name, that are listed. The count covers all of them.
pub(super) const MAX_LISTED: usize = 20;

/// Who reads the findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Viewer {
    /// The tenant itself. It does not learn whom other tenants serve from its own new links.
    Tenant,
    /// The operator, who may know everything.
    Operator,
}

/// The findings. Each problem is reported once: an installed directory that several companies share
/// counts as shared.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "MappingHealth")]
pub struct Health {
    /// Directories for which a channel is installed, but to which no company is linked.
    pub installed_without_company: Found<InstalledWithoutCompany>,
    /// Directories to which several companies are linked.
    pub shared_directories: Found<SharedDirectory>,
    /// Names that several companies have.
    pub duplicate_names: Found<DuplicateName>,
    /// ACTIVE channels whose agent cannot answer.
    pub channels_without_agent: Found<ChannelWithoutAgent>,
    /// Stored ids that are no organization's directory, which only older versions accepted.
    pub unusable_directories: Found<UnusableDirectory>,
    /// Directories of the tenant for which another tenant has the install of the tenant's bot.
    pub installed_elsewhere: Found<InstalledElsewhere>,
}

/// Findings of one kind.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Found{T}")]
pub struct Found<T> {
    /// The number of all findings of this kind.
    pub count: usize,
    /// The first findings.
    pub items: Vec<T>,
}

/// A directory for which a channel is installed, but to which no company is linked.
#[derive(Debug, Serialize, JsonSchema)]
pub struct InstalledWithoutCompany {
    /// The directory.
    pub end_client_tenant_id: M365TenantId,
    /// The channel.
    pub channel_id: ChannelId,
    /// The channel's name.
    pub internal_name: String,
    /// The channel's bot.
    pub bot_id: Option<BotId>,
    /// The error code that users of the directory receive.
    pub code: &'static str,
    /// The problem and its solution, in a sentence.
    pub message: String,
}

/// A directory to which several companies are linked.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SharedDirectory {
    /// The directory.
    pub tenant_id: M365TenantId,
    /// The number of companies that are linked to the directory.
    pub linked_companies: usize,
    /// The first of these companies.
    pub companies: Vec<NamedCompany>,
    /// The error code that users of the directory receive.
    pub code: &'static str,
    /// The problem and its solution, in a sentence.
    pub message: String,
}

/// A directory of the tenant, for which another tenant has the install of the tenant's bot.
#[derive(Debug, Serialize, JsonSchema)]
pub struct InstalledElsewhere {
    /// The directory.
    pub end_client_tenant_id: M365TenantId,
    /// The bot.
    pub bot_id: BotId,
    /// The tenant's own channel of the bot.
    pub channel_id: ChannelId,
    /// The channel's name.
    pub internal_name: String,
    /// The error code that an install of that channel for the directory would receive.
    pub code: &'static str,
    /// The problem and its solution, in a sentence.
    pub message: String,
    /// The tenant that has the install, for the operator only.
    #[serde(skip)]
    pub rival: ClientId,
}

/// A company's id and name.
#[derive(Debug, Serialize, JsonSchema)]
pub struct NamedCompany {
    /// The company's id in the MSP's PSA.
    pub psa_company_id: CompanyId,
    /// The company's name.
    pub psa_company_name: String,
}

impl From<&CompanyRecord> for NamedCompany {
    fn from(company: &CompanyRecord) -> Self {
        Self {
            psa_company_id: company.psa_company_id.clone(),
            psa_company_name: company.psa_company_name.clone(),
        }
    }
}

/// An ACTIVE channel whose agent cannot answer.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ChannelWithoutAgent {
    /// The channel.
    pub channel_id: ChannelId,
    /// The channel's name.
    pub internal_name: String,
    /// The channel's bot.
    pub bot_id: Option<BotId>,
    /// The agent's number.
    pub agent_id: AgentId,
    /// The agent's name; null if the agent no longer exists.
    pub agent_name: Option<String>,
    /// The error code that users of the channel receive.
    pub code: &'static str,
    /// The problem and its solution, in a sentence.
    pub message: String,
}

/// A stored id that is no organization's directory: the link of a company, an install of a channel,
/// or, without both, the directory that the tenant's people sign in with.
#[derive(Debug, Serialize, JsonSchema)]
pub struct UnusableDirectory {
    /// The id, as it is stored.
    pub tenant_id: String,
    /// The company that is linked to the id.
    pub psa_company_id: Option<CompanyId>,
    /// The company's name.
    pub psa_company_name: Option<String>,
    /// The channel that is installed for the id.
    pub channel_id: Option<ChannelId>,
    /// The channel's name.
    pub internal_name: Option<String>,
    /// The error code that the directory's users receive.
    pub code: &'static str,
    /// The problem and its solution, in a sentence.
    pub message: String,
}

impl Health {
    /// The message of each finding, for the operator: it may name another tenant.
    pub fn messages(&self) -> impl Iterator<Item = Cow<'_, str>> {
        let installed = self.installed_without_company.items.iter();
        let shared = self.shared_directories.items.iter();
        let names = self.duplicate_names.items.iter();
        let channels = self.channels_without_agent.items.iter();
        let unusable = self.unusable_directories.items.iter();
        let elsewhere = self.installed_elsewhere.items.iter();
        installed
            .map(|found| &found.message)
            .chain(shared.map(|found| &found.message))
            .chain(names.map(|found| &found.message))
            .chain(channels.map(|found| &found.message))
            .chain(unusable.map(|found| &found.message))
            .map(|message| Cow::from(message.as_str()))
            .chain(elsewhere.map(|found| {
                Cow::from(format!(
                    "{} The other tenant is {}.",
                    found.message, found.rival
                ))
            }))
    }
}

/// The queries, each with the key that it uses.
pub const RANGES: &[(&str, &str)] = &[
    ("INDEX installs_bound", INSTALLED),
    ("PRIMARY KEY", SHARED),
    ("INDEX channels_living", CHANNELS),
    ("PRIMARY KEY", UNUSABLE_LINKS),
    ("INDEX installs_bound", UNUSABLE_INSTALLS),
];

const INSTALLED: &str = "
SELECT i.m365_tenant_id AS m365_tenant_id, c.id AS channel_id, c.internal_name AS internal_name, i.bot_id AS bot_id
FROM installs i JOIN channels c ON c.seq = i.channel_seq
WHERE i.tenant_no = ?1 AND c.deleted_at IS NULL
  AND NOT EXISTS (SELECT 1 FROM company_directories d WHERE d.tenant_no = i.tenant_no AND d.m365_tenant_id = i.m365_tenant_id)
ORDER BY i.m365_tenant_id";

const SHARED: &str = "
SELECT m365_tenant_id, count(*) AS companies FROM company_directories WHERE tenant_no = ?1
GROUP BY m365_tenant_id HAVING count(*) > 1 ORDER BY m365_tenant_id";

const SHARING: &str = "
SELECT e.psa_company_id AS psa_company_id, e.psa_company_name AS psa_company_name
FROM company_directories d JOIN end_companies e ON e.tenant_no = d.tenant_no AND e.psa_company_id = d.psa_company_id
WHERE d.tenant_no = ?1 AND d.m365_tenant_id = ?2 ORDER BY d.psa_company_id LIMIT ?3";

const CHANNELS: &str = "
SELECT c.id AS channel_id, c.internal_name AS internal_name, c.bot_id AS bot_id, c.agent_id AS agent_id,
       a.name AS agent_name, a.state AS state, a.autonomy_type AS autonomy_type
FROM channels c LEFT JOIN agents a ON a.agent_id = c.agent_id AND a.tenant_no = c.tenant_no
WHERE c.tenant_no = ?1 AND c.deleted_at IS NULL AND c.status = 'ACTIVE'
  AND (a.agent_id IS NULL OR a.state <> 'ENABLED' OR a.autonomy_type <> 'CONVERSATIONAL')
ORDER BY c.seq";

/// A condition on an id: it is one of `?2`, which have spaces around them, or a GUID without dashes,
/// or, if `?3` is set, anything but a GUID in lower case with dashes.
macro_rules! unusable {
    ($select:literal, $id:literal, $order:literal) => {
        concat!(
            $select,
            " AND (replace(?2, ' ' || ",
            $id,
            " || ' ', '') <> ?2 OR (length(",
            $id,
            ") = 32 AND ltrim(",
            $id,
            ", '0123456789abcdef') = '') OR (?3 = 1 AND NOT (",
            $id,
            " LIKE '________-____-____-____-____________' AND length(replace(",
            $id,
            ", '-', '')) = 32 AND ltrim(",
            $id,
            ", '0123456789abcdef-') = ''))) ",
            $order
        )
    };
}

const UNUSABLE_LINKS: &str = unusable!(
    "SELECT d.m365_tenant_id AS m365_tenant_id, e.psa_company_id AS psa_company_id, e.psa_company_name AS psa_company_name,
            d.position AS position
     FROM company_directories d JOIN end_companies e ON e.tenant_no = d.tenant_no AND e.psa_company_id = d.psa_company_id
     WHERE d.tenant_no = ?1",
    "d.m365_tenant_id",
    "ORDER BY d.m365_tenant_id, d.company_seq"
);
const UNUSABLE_INSTALLS: &str = unusable!(
    "SELECT i.m365_tenant_id AS m365_tenant_id, c.id AS channel_id, c.internal_name AS internal_name, i.id AS install_id
     FROM installs i JOIN channels c ON c.seq = i.channel_seq
     WHERE i.tenant_no = ?1 AND c.deleted_at IS NULL",
    "i.m365_tenant_id",
    "ORDER BY i.m365_tenant_id"
);
const UNUSABLE_SIGN_IN: &str = unusable!(
    "SELECT entra_tenant_id AS m365_tenant_id FROM tenants WHERE tenant_no = ?1 AND entra_tenant_id IS NOT NULL",
    "entra_tenant_id",
    ""
);
const SHARED_BOTS: &str = "
SELECT c.bot_id AS bot_id FROM channels c
WHERE c.tenant_no = ?1 AND c.deleted_at IS NULL
  AND (EXISTS (SELECT 1 FROM channels o WHERE o.bot_id = c.bot_id AND o.tenant_no <> ?1 AND o.deleted_at IS NULL)
    OR EXISTS (SELECT 1 FROM installs i WHERE i.bot_id = c.bot_id AND i.tenant_no <> ?1))
LIMIT 1";

const ELSEWHERE: &str = "
SELECT own.m365_tenant_id AS m365_tenant_id, bots.bot_id AS bot_id, c.id AS channel_id, c.internal_name AS internal_name,
       rival.client_id AS rival, holder.deleted_at IS NOT NULL AS is_of_deleted
FROM (SELECT m365_tenant_id FROM company_directories WHERE tenant_no = ?1
      UNION SELECT m365_tenant_id FROM installs WHERE tenant_no = ?1) own
CROSS JOIN (SELECT bot_id, min(seq) AS first_seq FROM channels
            WHERE tenant_no = ?1 AND deleted_at IS NULL AND bot_id IS NOT NULL GROUP BY bot_id) bots
JOIN installs i ON i.bot_id = bots.bot_id AND i.m365_tenant_id = own.m365_tenant_id AND i.tenant_no <> ?1
JOIN tenants rival ON rival.tenant_no = i.tenant_no
JOIN channels holder ON holder.seq = i.channel_seq
JOIN channels c ON c.seq = bots.first_seq
WHERE ?2 = 1
  OR EXISTS (SELECT 1 FROM installs b
             WHERE b.tenant_no = ?1 AND b.m365_tenant_id = own.m365_tenant_id AND b.created_at <= i.created_at)
  OR EXISTS (SELECT 1 FROM unlinked_tenants u WHERE u.tenant_no = ?1 AND u.m365_tenant_id = own.m365_tenant_id)
  OR EXISTS (SELECT 1 FROM company_directories d JOIN end_companies e ON e.tenant_no = ?1 AND e.psa_company_id = d.psa_company_id
             WHERE d.tenant_no = ?1 AND d.m365_tenant_id = own.m365_tenant_id AND e.updated_at <= i.created_at)
ORDER BY own.m365_tenant_id, bots.bot_id";

/// The mapping health of a tenant, with up to `limit` findings of each kind.
pub fn of_tenant(
    reader: &Reader<'_>,
    tenant: TenantNo,
    limit: usize,
    rule: DirectoryRule,
    viewer: Viewer,
) -> Result<Health> {
    let CompanyFindings {
        shared_directories,
        duplicate_names,
    } = of_companies(reader, tenant, limit, rule)?;
    Ok(Health {
        installed_without_company: find(reader, INSTALLED, tenant, limit, |row| {
            let is_leftover = directory::lacks_dashes(&row.get::<String>("m365_tenant_id")?);
            let found = installed(row)?;
            let is_finding = !is_leftover && found.end_client_tenant_id.is_fit(rule);
            Ok(is_finding.then_some(found))
        })?,
        shared_directories,
        duplicate_names,
        channels_without_agent: find(reader, CHANNELS, tenant, limit, |row| {
            channel(row).map(Some)
        })?,
        unusable_directories: unusable(reader, tenant, limit, rule)?,
        installed_elsewhere: installed_elsewhere(reader, tenant, limit, viewer)?,
    })
}

/// The findings that the companies of a tenant have among themselves.
pub struct CompanyFindings {
    /// See [`Health::shared_directories`].
    pub shared_directories: Found<SharedDirectory>,
    /// See [`Health::duplicate_names`].
    pub duplicate_names: Found<DuplicateName>,
}

/// The findings of a tenant's companies, with up to `limit` of each kind.
pub fn of_companies(
    reader: &Reader<'_>,
    tenant: TenantNo,
    limit: usize,
    rule: DirectoryRule,
) -> Result<CompanyFindings> {
    let is_usable = |id: &M365TenantId| id.is_fit(rule);
    let mut shared_directories = find(reader, SHARED, tenant, limit, |row| {
        let tenant_id: M365TenantId = row.get("m365_tenant_id")?;
        Ok(is_usable(&tenant_id).then_some(SharedDirectory {
            tenant_id,
            linked_companies: row.get("companies")?,
            companies: Vec::new(),
            code: Code::EndCompanyNotMapped.as_str(),
            message: String::new(),
        }))
    })?;
    for directory in &mut shared_directories.items {
        directory.companies =
            reader.all(SHARING, (tenant, &directory.tenant_id, MAX_LISTED), |row| {
                Ok(NamedCompany {
                    psa_company_id: row.get("psa_company_id")?,
                    psa_company_name: row.get("psa_company_name")?,
                })
            })?;
        directory.message = shared(directory);
    }
    Ok(CompanyFindings {
        shared_directories,
        duplicate_names: duplicate_names::of_tenant(reader, tenant, limit)?,
    })
}

/// The directories of a tenant that shares a bot. For other tenants, the query does not look at
/// each directory.
///
/// The tenant itself sees a directory that has its own install, that was refused at its channels,
/// or that was linked before the other tenant's install was made. Otherwise a new link would tell
/// whom the other tenant serves.
fn installed_elsewhere(
    reader: &Reader<'_>,
    tenant: TenantNo,
    limit: usize,
    viewer: Viewer,
) -> Result<Found<InstalledElsewhere>> {
    let mut found = Found::none();
    let shared = reader.optional(SHARED_BOTS, [tenant], |_| Ok(()))?;
    if shared.is_none() {
        return Ok(found);
    }
    reader.each(ELSEWHERE, (tenant, viewer == Viewer::Operator), |row| {
        let end_client_tenant_id: M365TenantId = row.get("m365_tenant_id")?;
        let bot_id: BotId = row.get("bot_id")?;
        let is_of_deleted: bool = row.get("is_of_deleted")?;
        let message = if is_of_deleted {
            format!(
                "A deleted channel of another tenant has the install of the bot {bot_id} for the M365 tenant \
                 {end_client_tenant_id}: messages from there are refused. Ask the platform's operator to install your \
                 channel for it, or remove your link and install."
            )
        } else {
            format!(
                "The bot {bot_id} is shared with another tenant, whose channel has the install for the M365 tenant \
                 {end_client_tenant_id}: messages from there go to the other tenant. Ask the platform's operator to remove \
                 that install, or remove your link and install."
            )
        };
        let item = InstalledElsewhere {
            end_client_tenant_id,
            bot_id,
            channel_id: row.get("channel_id")?,
            internal_name: row.get("internal_name")?,
            code: Code::InstallConflict.as_str(),
            message,
            rival: row.get("rival")?,
        };
        found.add(item, limit);
        Ok(())
    })?;
    Ok(found)
}

/// Counts all findings and keeps the first ones. A row for which `read` returns `None` is not a
/// finding.
fn find<T>(
    reader: &Reader<'_>,
    sql: &str,
    tenant: TenantNo,
    limit: usize,
    read: impl Fn(&Row<'_>) -> Result<Option<T>>,
) -> Result<Found<T>> {
    let mut found = Found::none();
    reader.each(sql, [tenant], |row| {
        if let Some(item) = read(row)? {
            found.add(item, limit);
        }
        Ok(())
    })?;
    Ok(found)
}

impl<T> Found<T> {
    pub(super) fn none() -> Self {
        Self {
            count: 0,
            items: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, item: T, limit: usize) {
        self.count += 1;
        if self.items.len() < limit {
            self.items.push(item);
        }
    }
}

/// The stored ids that the server would now refuse from a person.
fn unusable(
    reader: &Reader<'_>,
    tenant: TenantNo,
    limit: usize,
    rule: DirectoryRule,
) -> Result<Found<UnusableDirectory>> {
    let mut found = Found::none();
    let mut ids = String::from(" ");
    for id in directory::no_organizations() {
        ids += id;
        ids.push(' ');
    }
    let params = (tenant, ids.as_str(), rule == DirectoryRule::Guid);
    reader.each(UNUSABLE_SIGN_IN, params, |row| {
        let what = "The entra_tenant_id of the tenant";
        let remedy = || Ok("ask the platform's operator to remove it".to_owned());
        found.add(finding(row, Code::Unauthorized, what, remedy)?, limit);
        Ok(())
    })?;
    reader.each(UNUSABLE_LINKS, params, |row| {
        let id: CompanyId = row.get("psa_company_id")?;
        let name: String = row.get("psa_company_name")?;
        let field = match row.get("position")? {
            0_i64 => "tenant_id".to_owned(),
            position => format!("tenant_ids[{position}]"),
        };
        let what = format!("The {field} of the company {id} {name:?}");
        let remedy = || Ok("remove it from the company".to_owned());
        let item = UnusableDirectory {
            psa_company_id: Some(id),
            psa_company_name: Some(name),
            ..finding(row, Code::EndCompanyNotMapped, &what, remedy)?
        };
        found.add(item, limit);
        Ok(())
    })?;
    reader.each(UNUSABLE_INSTALLS, params, |row| {
        let name: String = row.get("internal_name")?;
        let what = format!("The end_client_tenant_id of an install of the channel {name:?}");
        let remedy = || {
            Ok(format!(
                "remove the install {}",
                row.get::<InstallId>("install_id")?
            ))
        };
        let item = UnusableDirectory {
            channel_id: Some(row.get("channel_id")?),
            internal_name: Some(name),
            ..finding(row, Code::EndCompanyNotMapped, &what, remedy)?
        };
        found.add(item, limit);
        Ok(())
    })?;
    Ok(found)
}

/// A finding about the id of a row. `remedy` says what to do with an id that the upgrade left
/// without dashes.
fn finding(
    row: &Row<'_>,
    code: Code,
    what: &str,
    remedy: impl FnOnce() -> Result<String>,
) -> Result<UnusableDirectory> {
    let tenant_id: String = row.get("m365_tenant_id")?;
    let shown = shortened(&tenant_id.as_str().into());
    let reason = match directory::lacks_dashes(&tenant_id) {
        true => format!(
            "is stored without dashes ({shown}) beside the same id with dashes, so that no request reaches it; {}",
            remedy()?
        ),
        false => directory::unusable(&tenant_id, &shown),
    };
    Ok(UnusableDirectory {
        tenant_id,
        psa_company_id: None,
        psa_company_name: None,
        channel_id: None,
        internal_name: None,
        code: code.as_str(),
        message: format!("{what} {reason}."),
    })
}

fn installed(row: &Row<'_>) -> Result<InstalledWithoutCompany> {
    let end_client_tenant_id: M365TenantId = row.get("m365_tenant_id")?;
    let channel_id = row.get("channel_id")?;
    let internal_name: String = row.get("internal_name")?;
    let message = format!(
        "The channel {internal_name:?} is installed for the M365 tenant {end_client_tenant_id}, and no company is linked to it. \
         Link exactly one."
    );
    Ok(InstalledWithoutCompany {
        end_client_tenant_id,
        channel_id,
        internal_name,
        bot_id: row.get("bot_id")?,
        code: Code::EndCompanyNotMapped.as_str(),
        message,
    })
}

/// The finding of a directory that these companies share.
pub(super) fn shared_directory(
    tenant_id: M365TenantId,
    mut companies: Vec<NamedCompany>,
) -> SharedDirectory {
    let linked_companies = companies.len();
    companies.truncate(MAX_LISTED);
    let mut found = SharedDirectory {
        tenant_id,
        linked_companies,
        companies,
        code: Code::EndCompanyNotMapped.as_str(),
        message: String::new(),
    };
    found.message = shared(&found);
    found
}

fn shared(directory: &SharedDirectory) -> String {
    format!(
        "The companies {} share the M365 tenant {}. Leave exactly one of them linked.",
        sentence(&directory.companies, directory.linked_companies),
        directory.tenant_id
    )
}

/// Companies as a sentence names them, and the number of the others.
pub(super) fn sentence(companies: &[NamedCompany], count: usize) -> String {
    let listed: Vec<String> = companies
        .iter()
        .map(|company| format!("{} {:?}", company.psa_company_id, company.psa_company_name))
        .collect();
    let more = match count - listed.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{}{more}", listed.join(", "))
}

fn channel(row: &Row<'_>) -> Result<ChannelWithoutAgent> {
    let channel_id = row.get("channel_id")?;
    let internal_name: String = row.get("internal_name")?;
    let bot_id = row.get("bot_id")?;
    let agent_id: AgentId = row.get("agent_id")?;
    let agent_name: Option<String> = row.get("agent_name")?;
    let state: Option<AgentState> = row.get("state")?;
    let kind: Option<AutonomyType> = row.get("autonomy_type")?;
    let agent = format!(
        "agent {agent_id} {:?}",
        agent_name.as_deref().unwrap_or_default()
    );
    // In the order of the resolver's refusals: the kind of the agent comes before its state.
    let (code, cause) = match (state, kind) {
        (None, _) | (_, None) => (
            Code::AgentDisabled,
            format!("its agent {agent_id} no longer exists. Bind the channel to another agent."),
        ),
        (Some(_), Some(AutonomyType::ChainedActions | AutonomyType::Agentic)) => (
            Code::AgentNotConversational,
            format!("its {agent} does not chat. Bind the channel to a CONVERSATIONAL agent."),
        ),
        (Some(AgentState::Enabled | AgentState::Disabled), Some(AutonomyType::Conversational)) => (
            Code::AgentDisabled,
            format!(
                "its {agent} is DISABLED. Enable the agent, or bind the channel to another one."
            ),
        ),
    };
    Ok(ChannelWithoutAgent {
        message: format!("The channel {internal_name:?} cannot answer: {cause}"),
        channel_id,
        internal_name,
        bot_id,
        agent_id,
        agent_name,
        code: code.as_str(),
    })
}
