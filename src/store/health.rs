//! Mapping health: which chats would be refused, and why. Serves the API and `check` (contract,
//! sections 6 and 12).

use schemars::JsonSchema;
use serde::Serialize;

use super::sql::{Reader, Row};
use crate::error::{Code, Result};
use crate::model::ids::ChannelId;
use crate::model::names::{AgentId, BotId, CompanyId, M365TenantId, TenantNo};
use crate::model::words::{AgentState, AutonomyType};

/// Companies of a shared directory that are listed. The count covers all of them.
const MAX_LISTED: usize = 20;

/// The findings. Each problem is reported once: an installed directory that several companies share
/// counts as shared.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "MappingHealth")]
pub struct Health {
    /// Directories for which a channel is installed, but to which no company is linked.
    pub installed_without_company: Found<InstalledWithoutCompany>,
    /// Directories to which several companies are linked.
    pub shared_directories: Found<SharedDirectory>,
    /// ACTIVE channels whose agent cannot answer.
    pub channels_without_agent: Found<ChannelWithoutAgent>,
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

/// A company's id and name.
#[derive(Debug, Serialize, JsonSchema)]
pub struct NamedCompany {
    /// The company's id in the MSP's PSA.
    pub psa_company_id: CompanyId,
    /// The company's name.
    pub psa_company_name: String,
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

impl Health {
    /// The message of each finding.
    pub fn messages(&self) -> impl Iterator<Item = &String> {
        let installed = self.installed_without_company.items.iter();
        let shared = self.shared_directories.items.iter();
        let channels = self.channels_without_agent.items.iter();
        installed
            .map(|found| &found.message)
            .chain(shared.map(|found| &found.message))
            .chain(channels.map(|found| &found.message))
    }
}

/// The queries, each with the index that it uses.
pub const RANGES: &[(&str, &str)] = &[
    ("installs_bound", INSTALLED),
    ("end_companies_of_directory", SHARED),
    ("channels_living", CHANNELS),
];

const INSTALLED: &str = "
SELECT i.m365_tenant_id AS m365_tenant_id, c.id AS channel_id, c.internal_name AS internal_name, i.bot_id AS bot_id
FROM installs i JOIN channels c ON c.seq = i.channel_seq
WHERE i.tenant_no = ?1 AND c.deleted_at IS NULL
  AND NOT EXISTS (SELECT 1 FROM end_companies e WHERE e.tenant_no = i.tenant_no AND e.m365_tenant_id = i.m365_tenant_id)
ORDER BY i.m365_tenant_id";

const SHARED: &str = "
SELECT m365_tenant_id, count(*) AS companies FROM end_companies
WHERE tenant_no = ?1 AND m365_tenant_id IS NOT NULL
GROUP BY m365_tenant_id HAVING count(*) > 1 ORDER BY m365_tenant_id";

const SHARING: &str = "
SELECT psa_company_id, psa_company_name FROM end_companies
WHERE tenant_no = ?1 AND m365_tenant_id = ?2 ORDER BY psa_company_id LIMIT ?3";

const CHANNELS: &str = "
SELECT c.id AS channel_id, c.internal_name AS internal_name, c.bot_id AS bot_id, c.agent_id AS agent_id,
       a.name AS agent_name, a.state AS state, a.autonomy_type AS autonomy_type
FROM channels c LEFT JOIN agents a ON a.agent_id = c.agent_id AND a.tenant_no = c.tenant_no
WHERE c.tenant_no = ?1 AND c.deleted_at IS NULL AND c.status = 'ACTIVE'
  AND (a.agent_id IS NULL OR a.state <> 'ENABLED' OR a.autonomy_type <> 'CONVERSATIONAL')
ORDER BY c.seq";

/// The mapping health of a tenant, with up to `limit` findings of each kind.
pub fn of_tenant(reader: &Reader<'_>, tenant: TenantNo, limit: usize) -> Result<Health> {
    let mut shared_directories = find(reader, SHARED, tenant, limit, |row| {
        Ok(SharedDirectory {
            tenant_id: row.get("m365_tenant_id")?,
            linked_companies: row.get("companies")?,
            companies: Vec::new(),
            code: Code::EndCompanyNotMapped.as_str(),
            message: String::new(),
        })
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
    Ok(Health {
        installed_without_company: find(reader, INSTALLED, tenant, limit, installed)?,
        shared_directories,
        channels_without_agent: find(reader, CHANNELS, tenant, limit, channel)?,
    })
}

/// Counts all rows and reads the first ones.
fn find<T>(
    reader: &Reader<'_>,
    sql: &str,
    tenant: TenantNo,
    limit: usize,
    read: impl Fn(&Row<'_>) -> Result<T>,
) -> Result<Found<T>> {
    let mut items = Vec::new();
    let all = reader.all(sql, [tenant], |row| {
        if items.len() < limit {
            items.push(read(row)?);
        }
        Ok(())
    })?;
    Ok(Found {
        count: all.len(),
        items,
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

fn shared(directory: &SharedDirectory) -> String {
    let listed: Vec<String> = directory
        .companies
        .iter()
        .map(|company| format!("{} {:?}", company.psa_company_id, company.psa_company_name))
        .collect();
    let more = match directory.linked_companies - listed.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "The companies {}{more} share the M365 tenant {}. Leave exactly one of them linked.",
        listed.join(", "),
        directory.tenant_id
    )
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
