//! Agents: their records, their rules, and the managed agent of each tenant.

use schemars::JsonSchema;
use serde::Serialize;

use super::rules::{self, Violation, refuse};
use super::sql::{Keyset, Reader, Row, Rows, params};
use super::{WriteTx, articles};
use crate::error::{Code, Refusal, Result};
use crate::input::draft::AgentDraft;
use crate::input::fields::Field;
use crate::model::clock::Timestamp;
use crate::model::ids::Tick;
use crate::model::names::{AgentId, TenantNo};
use crate::model::words::{Access, AgentState, Audience, AutonomyType, ManagedAgentKey};
use crate::resolver;

/// The first number that the server gives. A seed file may name any number.
const FIRST_GIVEN: i64 = 1_000_000;

/// An agent as the API returns it (contract, section 6).
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct AgentRecord {
    /// The agent's number as a string.
    pub id: String,
    /// The agent's number.
    pub agent_id: AgentId,
    /// The agent's name.
    pub name: String,
    /// The agent's purpose.
    pub description: Option<String>,
    /// The kind of agent. Only a CONVERSATIONAL agent chats.
    pub autonomy_type: AutonomyType,
    /// The people whom the agent may talk to.
    pub audience: Audience,
    /// The dashboard users who may use the agent.
    pub access: Access,
    /// The ids of those users, for SPECIFIC_USERS.
    pub allowed_users: Vec<String>,
    /// Whether the agent answers.
    pub state: AgentState,
    /// The settings of the agent's answers.
    pub agent_settings: AgentSettings,
    /// The key of an agent that the server provides; null for any other agent.
    pub managed_agent_key: Option<ManagedAgentKey>,
    /// A number that grows with every change of the agent.
    pub version: i64,
    /// The time of creation.
    pub created_at: Timestamp,
    /// The time of the last change.
    pub updated_at: Timestamp,
    /// The order of creation.
    #[serde(skip)]
    pub seq: Tick,
    /// The tenant that owns the agent.
    #[serde(skip)]
    pub tenant: TenantNo,
}

/// The settings of an agent's answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct AgentSettings {
    /// Instructions for the agent.
    pub custom_instructions: Option<String>,
    /// The agent's first words in a session.
    pub welcome_message: Option<String>,
    /// Questions that a client can suggest to its user.
    pub suggested_prompts: Vec<String>,
    /// Whether everybody who talks to the agent sees what the model thinks before it answers.
    pub show_reasoning: bool,
}

impl AgentRecord {
    /// The agent with the draft's fields. A setting that the draft lacks is taken from `settings`.
    #[must_use]
    pub fn changed(&self, draft: &AgentDraft, settings: &AgentSettings) -> Self {
        let draft = draft.clone();
        let agent_settings = match draft.settings {
            Field::Absent => self.agent_settings.clone(),
            Field::Null => AgentSettings::default(),
            Field::Set(given) => {
                let base = settings.clone();
                AgentSettings {
                    custom_instructions: given
                        .custom_instructions
                        .over_optional(base.custom_instructions),
                    welcome_message: given.welcome_message.over_optional(base.welcome_message),
                    suggested_prompts: given
                        .suggested_prompts
                        .over(base.suggested_prompts, Vec::new()),
                    show_reasoning: given.show_reasoning.over(base.show_reasoning, false),
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
             custom_instructions, welcome_message, suggested_prompts, show_reasoning, managed_agent_key, version, created_at, \
             updated_at \
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
            show_reasoning: row.get("show_reasoning")?,
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

/// The agent with this number, of any tenant.
pub fn by_id(reader: &Reader<'_>, id: AgentId) -> Result<Option<AgentRecord>> {
    reader.optional(BY_ID, [id], record)
}

/// The tenant's agent with this number.
pub fn of_tenant(
    reader: &Reader<'_>,
    tenant: TenantNo,
    id: AgentId,
) -> Result<Option<AgentRecord>> {
    Ok(by_id(reader, id)?.filter(|agent| agent.tenant == tenant))
}

const SHOWS_REASONING: &str =
    "SELECT show_reasoning FROM agents WHERE agent_id = ?1 AND tenant_no = ?2";

/// Whether everybody who talks to the tenant's agent with this number sees the model's thoughts.
pub fn shows_reasoning(reader: &Reader<'_>, tenant: TenantNo, id: AgentId) -> Result<bool> {
    let found = reader.optional(SHOWS_REASONING, (id, tenant), |row| {
        row.get("show_reasoning")
    })?;
    Ok(found.unwrap_or(false))
}

const ALL: &str = select!("WHERE tenant_no = ?1 ORDER BY seq");

/// All agents of a tenant, oldest first.
pub fn all(reader: &Reader<'_>, tenant: TenantNo) -> Result<Vec<AgentRecord>> {
    reader.all(ALL, [tenant], record)
}

/// The filter of a list of agents. Each field that is set narrows the list.
#[derive(Clone, Debug, Default)]
pub struct AgentFilter {
    /// Agents in this state.
    pub state: Option<AgentState>,
    /// Agents for this audience.
    pub audience: Option<Audience>,
    /// Agents of this kind.
    pub autonomy_type: Option<AutonomyType>,
    /// Agents whose name contains these words.
    pub q: Option<String>,
}

const PAGE: &str = select!(
    "WHERE tenant_no = ?1 AND seq < ?5
       AND (?2 IS NULL OR state = ?2)
       AND (?3 IS NULL OR audience = ?3)
       AND (?4 IS NULL OR autonomy_type = ?4)
     ORDER BY seq DESC LIMIT ?6"
);

/// A page of a tenant's agents that are older than `before`, newest first.
pub fn page(
    reader: &Reader<'_>,
    tenant: TenantNo,
    filter: &AgentFilter,
    before: Tick,
    limit: usize,
) -> Result<Rows<AgentRecord>> {
    reader.page_matching(
        filter.q.as_deref().map(|q| (q, &["name"][..])),
        [PAGE, PAGE],
        Keyset { before, limit },
        params![tenant, filter.state, filter.audience, filter.autonomy_type],
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

/// The resolver's view of the tenant's agent with this number.
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

/// The resolver's view of the tenant's managed agent.
pub fn managed_facts(
    reader: &Reader<'_>,
    tenant: TenantNo,
    key: ManagedAgentKey,
) -> Result<Option<resolver::Agent>> {
    Ok(reader
        .optional(MANAGED, (tenant, key), facts)?
        .map(|(_, agent)| agent))
}

const NEXT_ID: &str = "
UPDATE given_numbers SET last = CASE WHEN last < ?1 THEN ?1 ELSE last + 1 END WHERE what = 'agent' RETURNING last";

/// Reserves the next number. The server never gives a number twice, and none that a seed file has
/// brought: an old session must not resume with another agent.
fn next_id(tx: &mut WriteTx<'_>) -> Result<AgentId> {
    tx.returning_one(NEXT_ID, [FIRST_GIVEN], |row| row.get("last"))
}

// A seed file may bring numbers up to 2^53 - 1. The server's own numbers do not follow a number of
// 2^52 or more, since they could run out.
const TAKE_ID: &str = "
UPDATE given_numbers SET last = ?1 WHERE what = 'agent' AND last < ?1 AND ?1 < 4503599627370496";

const INSERT: &str = "
INSERT INTO agents (agent_id, seq, tenant_no, name, description, autonomy_type, audience, access, allowed_users, state,
                    custom_instructions, welcome_message, suggested_prompts, managed_agent_key, version, created_at, updated_at,
                    show_reasoning)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)";

/// Inserts an agent. Sets its order, its times and its version.
///
/// # Errors
/// `internal_error` if the number or the managed key is taken.
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
            settings.show_reasoning,
        ],
    )
    .map(drop)
}

/// Creates an agent of a tenant, with a number that the server gives.
pub fn create(tx: &mut WriteTx<'_>, tenant: TenantNo, draft: &AgentDraft) -> Result<AgentRecord> {
    let id = next_id(tx)?;
    let fresh = fresh(tenant, id, draft);
    insert(tx, &fresh.changed(draft, &fresh.agent_settings))?;
    by_id(tx.reader(), id)?.ok_or_else(|| Code::NotFound.into())
}

/// Inserts a tenant's managed `NEO_SUPPORT` agent.
pub fn insert_managed(tx: &mut WriteTx<'_>, tenant: TenantNo) -> Result<()> {
    let agent_id = next_id(tx)?;
    insert(tx, &managed(tenant, agent_id))
}

/// A new agent with the draft's kind and audience, which cannot change later. The other fields have
/// their defaults.
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

/// A tenant's managed agent, as the server creates it.
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

/// The violations of a change of an agent's audience or kind, which cannot change.
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

/// The fields of a managed agent that differ from what the server promises (contract, section 6).
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
        field: field.into(),
        value: value.to_owned(),
        reason: format!("must be {promised} for NEO_SUPPORT"),
        refusal: Refusal::new(Code::AgentManagedByNeo),
    })
    .collect()
}

/// Refuses a managed agent: the API cannot change or delete it.
fn refuse_managed(agent: &AgentRecord) -> Result<()> {
    match agent.managed_agent_key {
        None => Ok(()),
        Some(ManagedAgentKey::NeoSupport) => Err(Code::AgentManagedByNeo.into()),
    }
}

/// Changes an agent. Nothing is written if nothing differs. If the draft has settings, those that
/// it lacks return to their defaults.
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
                  welcome_message = ?8, suggested_prompts = ?9, show_reasoning = ?11, version = version + 1, updated_at = ?10
WHERE agent_id = ?1";

/// Writes the fields of an agent that can change.
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
            settings.show_reasoning,
        ],
    )
    .map(drop)
}

const CHANNEL_USING: &str = "
SELECT internal_name FROM channels WHERE tenant_no = ?1 AND agent_id = ?2 AND deleted_at IS NULL ORDER BY seq LIMIT 1";
const DELETE: &str = "DELETE FROM agents WHERE agent_id = ?1";

/// Deletes an agent, also from the articles that name other agents too. Returns how many articles
/// those are.
///
/// # Errors
/// `agent_managed_by_neo`; `agent_in_use` if a channel uses the agent, or if an article names this
/// agent only, since that article would then be for all agents.
pub fn delete(tx: &mut WriteTx<'_>, agent: &AgentRecord) -> Result<usize> {
    refuse_managed(agent)?;
    let (tenant, id) = (agent.tenant, agent.agent_id);
    let used_by: Option<String> = tx
        .reader()
        .optional(CHANNEL_USING, (tenant, id), |row| row.get("internal_name"))?;
    if let Some(channel) = used_by {
        return Err(Refusal::new(Code::AgentInUse)
            .saying(format!(
                "The channel {channel:?} uses this agent. Bind the channel to another agent first."
            ))
            .with("channel", channel)
            .into());
    }
    let articles = articles::forget_agent(tx, tenant, id)?;
    tx.execute(DELETE, [id])?;
    Ok(articles)
}

fn list(items: &[String]) -> Result<String> {
    serde_json::to_string(items).map_err(|error| crate::error::Error::Internal(error.into()))
}
