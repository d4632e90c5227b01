//! Agents.

use schemars::JsonSchema;
use serde::Serialize;

use super::rules::{self, Violation, refuse};
use super::sql::{Part, Reader, Row, params};
use super::{WriteTx, articles};
use crate::error::{Code, Refusal, Result};
use crate::input::draft::AgentDraft;
use crate::input::fields::Field;
use crate::model::clock::Timestamp;
use crate::model::ids::Tick;
use crate::model::names::{AgentId, TenantNo};
use crate::model::words::{Access, AgentState, Audience, AutonomyType, ManagedAgentKey};
use crate::resolver;

/// Numbers that the server gives start here; those of a seed file may be any.
const FIRST_GIVEN: i64 = 1_000_000;

/// An agent as the wire shows it (contract, section 6).
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct AgentRecord {
    /// Its number as a string.
    pub id: String,
    /// Its number.
    pub agent_id: AgentId,
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// How it works.
    pub autonomy_type: AutonomyType,
    /// Whom it may talk to.
    pub audience: Audience,
    /// Which dashboard users may use it.
    pub access: Access,
    /// Those users.
    pub allowed_users: Vec<String>,
    /// Whether it answers.
    pub state: AgentState,
    /// How it answers.
    pub agent_settings: AgentSettings,
    /// Set for an agent that the server provides.
    pub managed_agent_key: Option<ManagedAgentKey>,
    /// Grows with every change.
    pub version: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// Creation order.
    #[serde(skip)]
    pub seq: Tick,
    /// The MSP that it belongs to.
    #[serde(skip)]
    pub tenant: TenantNo,
}

/// How an agent answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct AgentSettings {
    /// What it is told about its work.
    pub custom_instructions: Option<String>,
    /// What it says first.
    pub welcome_message: Option<String>,
    /// What a person might ask.
    pub suggested_prompts: Vec<String>,
}

impl AgentRecord {
    /// What it becomes; settings that are given are laid over `settings`.
    #[must_use]
    pub fn changed(&self, draft: &AgentDraft, settings: &AgentSettings) -> Self {
        let draft = draft.clone();
        let agent_settings = match draft.settings {
            Field::Absent => self.agent_settings.clone(),
            Field::Null => AgentSettings::default(),
            Field::Set(given) => {
                let under = settings.clone();
                AgentSettings {
                    custom_instructions: given
                        .custom_instructions
                        .over_optional(under.custom_instructions),
                    welcome_message: given.welcome_message.over_optional(under.welcome_message),
                    suggested_prompts: given
                        .suggested_prompts
                        .over(under.suggested_prompts, Vec::new()),
                }
            }
        };
        Self {
            name: draft.name.over(self.name.clone(), self.name.clone()),
            description: draft.description.over_optional(self.description.clone()),
            autonomy_type: draft
                .autonomy_type
                .over(self.autonomy_type, AutonomyType::Conversational),
            audience: draft.audience.over(self.audience, Audience::Msp),
            access: draft.access.over(self.access, Access::AllUsers),
            allowed_users: draft
                .allowed_users
                .over(self.allowed_users.clone(), Vec::new()),
            state: draft.state.over(self.state, AgentState::Enabled),
            agent_settings,
            ..self.clone()
        }
    }
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT agent_id, seq, tenant_no, name, description, autonomy_type, audience, access, allowed_users, state, \
             custom_instructions, welcome_message, suggested_prompts, managed_agent_key, version, created_at, updated_at \
             FROM agents ",
            $rest
        )
    };
}

fn record(row: &Row<'_>) -> Result<AgentRecord> {
    let agent_id: AgentId = row.get("agent_id")?;
    Ok(AgentRecord {
        id: agent_id.to_string(),
        agent_id,
        name: row.get("name")?,
        description: row.get("description")?,
        autonomy_type: row.get("autonomy_type")?,
        audience: row.get("audience")?,
        access: row.get("access")?,
        allowed_users: row.json("allowed_users")?,
        state: row.get("state")?,
        agent_settings: AgentSettings {
            custom_instructions: row.get("custom_instructions")?,
            welcome_message: row.get("welcome_message")?,
            suggested_prompts: row.json("suggested_prompts")?,
        },
        managed_agent_key: row.get("managed_agent_key")?,
        version: row.get("version")?,
        created_at: Timestamp(row.get("created_at")?),
        updated_at: Timestamp(row.get("updated_at")?),
        seq: row.get("seq")?,
        tenant: row.get("tenant_no")?,
    })
}

const BY_ID: &str = select!("WHERE agent_id = ?1");

/// The agent with this number, whoever owns it.
///
/// # Errors
/// The file cannot be read.
pub fn by_id(reader: &Reader<'_>, id: AgentId) -> Result<Option<AgentRecord>> {
    reader.optional(BY_ID, [id], record)
}

/// The tenant's agent with this number.
///
/// # Errors
/// The file cannot be read.
pub fn of_tenant(
    reader: &Reader<'_>,
    tenant: TenantNo,
    id: AgentId,
) -> Result<Option<AgentRecord>> {
    Ok(by_id(reader, id)?.filter(|agent| agent.tenant == tenant))
}

const ALL: &str = select!("WHERE tenant_no = ?1 ORDER BY seq");

/// All agents of a tenant, oldest first.
///
/// # Errors
/// The file cannot be read.
pub fn all(reader: &Reader<'_>, tenant: TenantNo) -> Result<Vec<AgentRecord>> {
    reader.all(ALL, [tenant], record)
}

/// Which agents a list holds.
#[derive(Clone, Debug, Default)]
pub struct AgentFilter {
    /// Only those in this state.
    pub state: Option<AgentState>,
    /// Only those for this audience.
    pub audience: Option<Audience>,
    /// Only those that work so.
    pub autonomy_type: Option<AutonomyType>,
    /// Only those whose name holds this text, without case.
    pub q: Option<String>,
}

const PAGE: &str = select!(
    "WHERE tenant_no = ?1 AND seq < ?2
       AND (?3 IS NULL OR state = ?3)
       AND (?4 IS NULL OR audience = ?4)
       AND (?5 IS NULL OR autonomy_type = ?5)
       AND (?6 IS NULL OR instr(lower(name), lower(?6)) > 0)
     ORDER BY seq DESC LIMIT ?7"
);

/// A page of a tenant's agents, newest first, from before a tick.
///
/// # Errors
/// The file cannot be read.
pub fn page(
    reader: &Reader<'_>,
    tenant: TenantNo,
    filter: &AgentFilter,
    before: Tick,
    limit: usize,
) -> Result<Part<AgentRecord>> {
    reader.page(
        PAGE,
        params![
            tenant,
            before,
            filter.state,
            filter.audience,
            filter.autonomy_type,
            filter.q,
            limit
        ],
        record,
    )
}

macro_rules! select_facts {
    ($rest:literal) => {
        concat!(
            "SELECT agent_id, tenant_no, name, autonomy_type, audience, access, allowed_users, state FROM agents ",
            $rest
        )
    };
}

fn facts(row: &Row<'_>) -> Result<(TenantNo, resolver::Agent)> {
    let access = row.get("access")?;
    let allowed_users = match access {
        Access::SpecificUsers => row.json("allowed_users")?,
        Access::AllUsers | Access::AdminsOnly => Vec::new(),
    };
    let agent = resolver::Agent {
        id: row.get("agent_id")?,
        name: row.get("name")?,
        autonomy_type: row.get("autonomy_type")?,
        audience: row.get("audience")?,
        access,
        allowed_users,
        state: row.get("state")?,
    };
    Ok((row.get("tenant_no")?, agent))
}

const FACTS: &str = select_facts!("WHERE agent_id = ?1");

/// What the resolver needs of the tenant's agent with this number.
///
/// # Errors
/// The file cannot be read.
pub fn facts_of(
    reader: &Reader<'_>,
    tenant: TenantNo,
    id: AgentId,
) -> Result<Option<resolver::Agent>> {
    let found = reader.optional(FACTS, [id], facts)?;
    Ok(found
        .filter(|(owner, _)| *owner == tenant)
        .map(|(_, agent)| agent))
}

const MANAGED: &str = select_facts!("WHERE tenant_no = ?1 AND managed_agent_key = ?2");

/// What the resolver needs of the tenant's managed agent.
///
/// # Errors
/// The file cannot be read.
pub fn managed_facts(
    reader: &Reader<'_>,
    tenant: TenantNo,
    key: ManagedAgentKey,
) -> Result<Option<resolver::Agent>> {
    Ok(reader
        .optional(MANAGED, (tenant, key), facts)?
        .map(|(_, agent)| agent))
}

const GIVE_ID: &str = "
UPDATE given_numbers SET last = max(last + 1, ?1) WHERE what = 'agent' RETURNING last";

/// Gives out the next number; one that was given before, or that a seed file brought, is never given again.
///
/// # Errors
/// The file cannot be written.
pub fn give_id(tx: &mut WriteTx<'_>) -> Result<AgentId> {
    tx.returning_one(GIVE_ID, [FIRST_GIVEN], |row| row.get("last"))
}

// A seed file may bring numbers up to the greatest that JSON carries exactly; far ones do not push the server's own there.
const TAKE_ID: &str = "
UPDATE given_numbers SET last = max(last, ?1) WHERE what = 'agent' AND ?1 < 4503599627370496";

const INSERT: &str = "
INSERT INTO agents (agent_id, seq, tenant_no, name, description, autonomy_type, audience, access, allowed_users, state,
                    custom_instructions, welcome_message, suggested_prompts, managed_agent_key, version, created_at, updated_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)";

/// Makes an agent; its order, times and version are set here.
///
/// # Errors
/// A unique index: the number, or the managed key, is taken.
pub fn insert(tx: &mut WriteTx<'_>, agent: &AgentRecord) -> Result<()> {
    let (now, seq) = (tx.now(), tx.tick());
    let settings = &agent.agent_settings;
    tx.execute(TAKE_ID, [agent.agent_id])?;
    tx.execute(
        INSERT,
        params![
            agent.agent_id,
            seq,
            agent.tenant,
            agent.name,
            agent.description,
            agent.autonomy_type,
            agent.audience,
            agent.access,
            list(&agent.allowed_users)?,
            agent.state,
            settings.custom_instructions,
            settings.welcome_message,
            list(&settings.suggested_prompts)?,
            agent.managed_agent_key,
            1_i64,
            now,
            now,
        ],
    )
    .map(drop)
}

/// Creates an agent of a tenant, with a number that the server gives.
pub fn create(tx: &mut WriteTx<'_>, tenant: TenantNo, draft: &AgentDraft) -> Result<AgentRecord> {
    let id = give_id(tx)?;
    let fresh = fresh(tenant, id, draft);
    insert(tx, &fresh.changed(draft, &fresh.agent_settings))?;
    stored(tx.reader(), id)
}

fn stored(reader: &Reader<'_>, id: AgentId) -> Result<AgentRecord> {
    by_id(reader, id)?.ok_or_else(|| Code::NotFound.into())
}

/// Makes a tenant's managed `NEO_SUPPORT` agent.
///
/// # Errors
/// The file cannot be written.
pub fn insert_managed(tx: &mut WriteTx<'_>, tenant: TenantNo) -> Result<()> {
    let agent_id = give_id(tx)?;
    insert(tx, &managed(tenant, agent_id))
}

/// An agent before anything is said of it but its kind and audience, which never change.
pub fn fresh(tenant: TenantNo, agent_id: AgentId, draft: &AgentDraft) -> AgentRecord {
    AgentRecord {
        name: String::new(),
        description: None,
        autonomy_type: draft
            .autonomy_type
            .clone()
            .value()
            .unwrap_or(AutonomyType::Conversational),
        audience: draft.audience.clone().value().unwrap_or(Audience::Msp),
        managed_agent_key: None,
        ..managed(tenant, agent_id)
    }
}

/// The managed agent as every tenant gets it.
pub fn managed(tenant: TenantNo, agent_id: AgentId) -> AgentRecord {
    AgentRecord {
        id: agent_id.to_string(),
        agent_id,
        name: "Neo Support".to_owned(),
        description: Some(
            "Answers technicians' questions where no other agent is routed.".to_owned(),
        ),
        autonomy_type: AutonomyType::Conversational,
        audience: Audience::Msp,
        access: Access::AllUsers,
        allowed_users: Vec::new(),
        state: AgentState::Enabled,
        agent_settings: AgentSettings::default(),
        managed_agent_key: Some(ManagedAgentKey::NeoSupport),
        version: 1,
        created_at: Timestamp(0),
        updated_at: Timestamp(0),
        seq: Tick(0),
        tenant,
    }
}

/// An agent's audience and kind cannot change.
pub(super) fn changed_fixed_fields(before: &AgentRecord, after: &AgentRecord) -> Vec<Violation> {
    let kind = |agent: &AgentRecord| agent.autonomy_type.as_str();
    rules::changed_fixed_fields(&[
        (
            "audience",
            before.audience.as_str(),
            after.audience.as_str(),
        ),
        ("autonomy_type", kind(before), kind(after)),
    ])
}

/// Where a managed agent would not be what the server promises of it (contract, section 6).
pub(super) fn broken_promises(agent: &AgentRecord) -> Vec<Violation> {
    let promised = managed(agent.tenant, agent.agent_id);
    [
        (
            "autonomy_type",
            agent.autonomy_type.as_str(),
            promised.autonomy_type.as_str(),
        ),
        (
            "audience",
            agent.audience.as_str(),
            promised.audience.as_str(),
        ),
        ("access", agent.access.as_str(), promised.access.as_str()),
        ("state", agent.state.as_str(), promised.state.as_str()),
    ]
    .into_iter()
    .filter(|(_, value, promised)| value != promised)
    .map(|(field, value, promised)| Violation {
        field,
        value: value.to_owned(),
        reason: format!("is fixed for NEO_SUPPORT: {promised}"),
        refusal: Refusal::new(Code::AgentManagedByNeo),
    })
    .collect()
}

/// Through the API nothing of a managed agent changes.
fn refuse_managed(agent: &AgentRecord) -> Result<()> {
    match agent.managed_agent_key {
        None => Ok(()),
        Some(ManagedAgentKey::NeoSupport) => Err(Code::AgentManagedByNeo.into()),
    }
}

/// Changes an agent, unless the change is none. Settings that are not sent return to their defaults.
///
/// # Errors
/// `agent_managed_by_neo`; `validation_error` for a field that cannot change;
/// `agent_update_conflict` if the agent has another version than `version`.
pub fn change(
    tx: &mut WriteTx<'_>,
    before: &AgentRecord,
    draft: &AgentDraft,
    version: Option<i64>,
) -> Result<()> {
    refuse_managed(before)?;
    let after = before.changed(draft, &AgentSettings::default());
    refuse(changed_fixed_fields(before, &after))?;
    if version.is_some_and(|version| version != before.version) {
        return Err(Refusal::new(Code::AgentUpdateConflict)
            .with("version", before.version)
            .into());
    }
    if after == *before {
        return Ok(());
    }
    update(tx, &after)
}

const UPDATE: &str = "
UPDATE agents SET name = ?2, description = ?3, access = ?4, allowed_users = ?5, state = ?6, custom_instructions = ?7,
                  welcome_message = ?8, suggested_prompts = ?9, version = version + 1, updated_at = ?10
WHERE agent_id = ?1";

/// Writes what can change of an agent.
///
/// # Errors
/// The file cannot be written.
pub fn update(tx: &mut WriteTx<'_>, agent: &AgentRecord) -> Result<()> {
    let settings = &agent.agent_settings;
    let now = tx.now();
    tx.execute(
        UPDATE,
        params![
            agent.agent_id,
            agent.name,
            agent.description,
            agent.access,
            list(&agent.allowed_users)?,
            agent.state,
            settings.custom_instructions,
            settings.welcome_message,
            list(&settings.suggested_prompts)?,
            now,
        ],
    )
    .map(drop)
}

const CHANNEL_USING: &str = "
SELECT internal_name FROM channels WHERE tenant_no = ?1 AND agent_id = ?2 AND deleted_at IS NULL ORDER BY seq LIMIT 1";
const DELETE: &str = "DELETE FROM agents WHERE agent_id = ?1";

/// Removes an agent; articles that name it beside others name the others alone from now on. How many articles those were.
///
/// # Errors
/// `agent_managed_by_neo`; `agent_in_use` when a living channel uses it, or an article is for it alone: without it that article would be for all agents.
pub fn delete(tx: &mut WriteTx<'_>, agent: &AgentRecord) -> Result<usize> {
    refuse_managed(agent)?;
    let (tenant, id) = (agent.tenant, agent.agent_id);
    let used: Option<String> = tx
        .reader()
        .optional(CHANNEL_USING, (tenant, id), |row| row.get("internal_name"))?;
    if let Some(channel) = used {
        return Err(Refusal::new(Code::AgentInUse)
            .saying(format!(
                "The channel {channel:?} uses this agent. Bind the channel to another agent first."
            ))
            .with("channel", channel)
            .into());
    }
    let named = articles::forget_agent(tx, tenant, id)?;
    tx.execute(DELETE, [id])?;
    Ok(named)
}

fn list(items: &[String]) -> Result<String> {
    serde_json::to_string(items).map_err(|error| crate::error::Error::Internal(error.into()))
}
