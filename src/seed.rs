//! The seed file: a world as JSON, read and checked before anything is written (contract, section 11).

use std::collections::HashSet;

use serde_json::Value;

use crate::auth::api_key;
use crate::fields::{Field, Fields, Problem, Problems};
use crate::model::names::{AgentId, BotId, ClientId, CompanyId, M365TenantId};
use crate::model::words::{
    Access, AgentState, Audience, AutonomyType, ChannelStatus, ManagedAgentKey, Role, Transport,
};

/// A whole file.
#[derive(Debug)]
pub struct Seed {
    /// Its tenants, in the file's order.
    pub tenants: Vec<SeedTenant>,
}

/// A tenant and all that it names.
#[derive(Debug)]
#[expect(
    missing_docs,
    reason = "the fields are those of the contract, section 11"
)]
pub struct SeedTenant {
    pub path: String,
    pub client_id: ClientId,
    pub name: Field<String>,
    pub entra_tenant_id: Field<M365TenantId>,
    pub rate_limit_per_minute: Field<i64>,
    pub retention_days: Field<i64>,
    pub agents: Vec<SeedAgent>,
    pub end_companies: Vec<SeedCompany>,
    pub channels: Vec<SeedChannel>,
    pub knowledge_articles: Vec<SeedArticle>,
    pub users: Vec<SeedUser>,
    pub api_keys: Vec<SeedKey>,
}

#[derive(Debug)]
#[expect(
    missing_docs,
    reason = "the fields are those of the contract, section 11"
)]
pub struct SeedAgent {
    pub path: String,
    pub agent_id: AgentId,
    pub name: Field<String>,
    pub description: Field<String>,
    pub autonomy_type: Field<AutonomyType>,
    pub audience: Field<Audience>,
    pub access: Field<Access>,
    pub allowed_users: Field<Vec<String>>,
    pub state: Field<AgentState>,
    pub managed_agent_key: Field<ManagedAgentKey>,
    pub settings: Field<SeedSettings>,
}

#[derive(Debug)]
#[expect(
    missing_docs,
    reason = "the fields are those of the contract, section 11"
)]
pub struct SeedSettings {
    pub custom_instructions: Field<String>,
    pub welcome_message: Field<String>,
    pub suggested_prompts: Field<Vec<String>>,
}

#[derive(Debug)]
#[expect(
    missing_docs,
    reason = "the fields are those of the contract, section 11"
)]
pub struct SeedCompany {
    pub path: String,
    pub psa_company_id: CompanyId,
    pub psa_company_name: Field<String>,
    pub tenant_id: Field<M365TenantId>,
    pub custom_instructions: Field<String>,
    pub custom_instructions_for_user_facing_chat: Field<String>,
}

#[derive(Debug)]
#[expect(
    missing_docs,
    reason = "the fields are those of the contract, section 11"
)]
pub struct SeedChannel {
    pub path: String,
    pub internal_name: String,
    pub audience: Field<Audience>,
    pub transport: Field<Transport>,
    pub status: Field<ChannelStatus>,
    pub bot_id: Field<BotId>,
    pub agent_id: Field<AgentId>,
    pub display_name: Field<String>,
    pub description: Field<String>,
    pub welcome_message: Field<String>,
    pub color_icon_url: Field<String>,
    pub outline_icon_url: Field<String>,
    pub relay_prefix: Field<String>,
    pub show_agent_progress_steps: Field<bool>,
    pub installs: Vec<SeedInstall>,
}

#[derive(Debug)]
#[expect(
    missing_docs,
    reason = "the fields are those of the contract, section 11"
)]
pub struct SeedInstall {
    pub path: String,
    pub end_client_tenant_id: M365TenantId,
}

#[derive(Debug)]
#[expect(
    missing_docs,
    reason = "the fields are those of the contract, section 11"
)]
pub struct SeedArticle {
    pub path: String,
    pub title: String,
    pub body: Field<String>,
    pub url: Field<String>,
    pub audience: Field<Audience>,
    pub end_company_id: Field<CompanyId>,
    pub agent_ids: Field<Vec<i64>>,
}

#[derive(Debug)]
#[expect(
    missing_docs,
    reason = "the fields are those of the contract, section 11"
)]
pub struct SeedUser {
    pub path: String,
    pub id: String,
    pub name: Field<String>,
    pub email: Field<String>,
    pub role: Field<Role>,
}

#[derive(Debug)]
#[expect(
    missing_docs,
    reason = "the fields are those of the contract, section 11"
)]
pub struct SeedKey {
    pub path: String,
    pub name: String,
    pub sha256: [u8; 32],
    pub hint: String,
    pub platform: Field<bool>,
}

/// The longest instructions, descriptions and welcome texts, in characters.
pub const LONG_TEXT: usize = 32_000;
/// The longest body of an article, in characters; its bytes are bounded too.
pub const ARTICLE_BYTES: usize = 64 * 1_024;
/// The longest keys, in bytes.
const KEY: usize = 512;
/// The longest names and titles, in characters.
pub const NAME: usize = 200;

/// Reads a file's text.
///
/// # Errors
/// Every problem of form in it, so that all can be mended at once.
pub fn parse(text: &str, environment: &str) -> Result<Seed, Vec<Problem>> {
    let value: Value = serde_json::from_str(text).map_err(|error| {
        vec![Problem {
            path: format!("line {}, column {}", error.line(), error.column()),
            value: String::new(),
            reason: format!("is no JSON: {error}"),
        }]
    })?;
    let problems = Problems::default();
    let tenants = Fields::root(&value, &problems)
        .map(|root| {
            if !root.has("tenants") {
                root.refuse("tenants", "is required");
            }
            root.objects("tenants")
        })
        .unwrap_or_default();
    let tenants: Vec<SeedTenant> = tenants
        .iter()
        .filter_map(|fields| tenant(fields, environment))
        .collect();
    named_once(
        &problems,
        tenants.iter().map(|tenant| {
            (
                tenant.path.as_str(),
                "client_id",
                tenant.client_id.to_string(),
            )
        }),
    );
    named_once(
        &problems,
        tenants
            .iter()
            .flat_map(|tenant| &tenant.agents)
            .map(|agent| (agent.path.as_str(), "agent_id", agent.agent_id.to_string())),
    );
    for tenant in &tenants {
        named_once(
            &problems,
            tenant.end_companies.iter().map(|company| {
                (
                    company.path.as_str(),
                    "psa_company_id",
                    company.psa_company_id.to_string(),
                )
            }),
        );
        named_once(
            &problems,
            tenant.channels.iter().map(|channel| {
                (
                    channel.path.as_str(),
                    "internal_name",
                    channel.internal_name.clone(),
                )
            }),
        );
        named_once(
            &problems,
            tenant
                .channels
                .iter()
                .flat_map(|channel| &channel.installs)
                .map(|install| {
                    (
                        install.path.as_str(),
                        "end_client_tenant_id",
                        install.end_client_tenant_id.to_string(),
                    )
                }),
        );
        named_once(
            &problems,
            tenant
                .knowledge_articles
                .iter()
                .map(|article| (article.path.as_str(), "title", article.title.clone())),
        );
        named_once(
            &problems,
            tenant
                .users
                .iter()
                .map(|user| (user.path.as_str(), "id", user.id.clone())),
        );
        named_once(
            &problems,
            tenant
                .api_keys
                .iter()
                .map(|key| (key.path.as_str(), "name", key.name.clone())),
        );
    }
    let problems = problems.into_all();
    if problems.is_empty() {
        Ok(Seed { tenants })
    } else {
        Err(problems)
    }
}

/// A file that names one thing twice contradicts itself.
fn named_once<'a>(
    problems: &Problems,
    names: impl Iterator<Item = (&'a str, &'static str, String)>,
) {
    let mut seen = HashSet::new();
    for (path, field, name) in names {
        if !seen.insert(name.clone()) {
            problems.add(
                format!("{path}.{field}"),
                &Value::String(name),
                "is named twice in the file",
            );
        }
    }
}

fn tenant(fields: &Fields<'_>, environment: &str) -> Option<SeedTenant> {
    let client_id = fields.required(
        "client_id",
        fields.parsed("client_id", ClientId::parse, ClientId::RULE),
    );
    let tenant = SeedTenant {
        path: fields.here().to_owned(),
        name: fields.text("name", 1..=NAME),
        entra_tenant_id: fields.parsed("entra_tenant_id", M365TenantId::parse, M365TenantId::RULE),
        rate_limit_per_minute: fields.integer("rate_limit_per_minute", 0..=1_000_000),
        retention_days: fields.integer("retention_days", 1..=36_500),
        agents: fields.objects("agents").iter().filter_map(agent).collect(),
        end_companies: fields
            .objects("end_companies")
            .iter()
            .filter_map(company)
            .collect(),
        channels: fields
            .objects("channels")
            .iter()
            .filter_map(channel)
            .collect(),
        knowledge_articles: fields
            .objects("knowledge_articles")
            .iter()
            .filter_map(article)
            .collect(),
        users: fields.objects("users").iter().filter_map(user).collect(),
        api_keys: fields
            .objects("api_keys")
            .iter()
            .filter_map(|fields| key(fields, environment))
            .collect(),
        client_id: client_id?,
    };
    Some(tenant)
}

fn agent(fields: &Fields<'_>) -> Option<SeedAgent> {
    let agent_id = fields.required("agent_id", fields.integer("agent_id", 1..=i64::MAX - 1));
    let settings = match fields.object("agent_settings") {
        Field::Absent => Field::Absent,
        Field::Null => Field::Null,
        Field::Set(settings) => Field::Set(SeedSettings {
            custom_instructions: settings.text("custom_instructions", 0..=LONG_TEXT),
            welcome_message: settings.text("welcome_message", 0..=LONG_TEXT),
            suggested_prompts: settings.texts("suggested_prompts", 20, 1..=500),
        }),
    };
    let agent = SeedAgent {
        path: fields.here().to_owned(),
        name: fields.text("name", 1..=NAME),
        description: fields.text("description", 0..=LONG_TEXT),
        autonomy_type: fields.word(
            "autonomy_type",
            AutonomyType::parse,
            &AutonomyType::choices(),
        ),
        audience: fields.word("audience", Audience::parse, &Audience::choices()),
        access: fields.word("access", Access::parse, &Access::choices()),
        allowed_users: fields.texts("allowed_users", 10_000, 1..=128),
        state: fields.word("state", AgentState::parse, &AgentState::choices()),
        managed_agent_key: fields.word(
            "managed_agent_key",
            ManagedAgentKey::parse,
            &ManagedAgentKey::choices(),
        ),
        settings,
        agent_id: AgentId(agent_id?),
    };
    if let Field::Set(ManagedAgentKey::NeoSupport) = agent.managed_agent_key {
        check_managed(fields, &agent);
    }
    Some(agent)
}

/// A managed agent is what the server promises, whatever a file says (contract, section 6).
fn check_managed(fields: &Fields<'_>, agent: &SeedAgent) {
    const FIXED: &str = "is fixed for NEO_SUPPORT:";
    if agent
        .autonomy_type
        .clone()
        .value()
        .is_some_and(|kind| kind != AutonomyType::Conversational)
    {
        fields.refuse("autonomy_type", format!("{FIXED} CONVERSATIONAL"));
    }
    if agent
        .audience
        .clone()
        .value()
        .is_some_and(|audience| audience != Audience::Msp)
    {
        fields.refuse("audience", format!("{FIXED} MSP"));
    }
    if agent
        .access
        .clone()
        .value()
        .is_some_and(|access| access != Access::AllUsers)
    {
        fields.refuse("access", format!("{FIXED} ALL_USERS"));
    }
    if agent
        .state
        .clone()
        .value()
        .is_some_and(|state| state != AgentState::Enabled)
    {
        fields.refuse("state", format!("{FIXED} ENABLED"));
    }
}

fn company(fields: &Fields<'_>) -> Option<SeedCompany> {
    let psa_company_id = fields.required(
        "psa_company_id",
        fields.parsed("psa_company_id", CompanyId::parse, CompanyId::RULE),
    );
    Some(SeedCompany {
        path: fields.here().to_owned(),
        psa_company_name: fields.text("psa_company_name", 1..=NAME),
        tenant_id: fields.parsed("tenant_id", M365TenantId::parse, M365TenantId::RULE),
        custom_instructions: fields.text("custom_instructions", 0..=LONG_TEXT),
        custom_instructions_for_user_facing_chat: fields
            .text("custom_instructions_for_user_facing_chat", 0..=LONG_TEXT),
        psa_company_id: psa_company_id?,
    })
}

fn channel(fields: &Fields<'_>) -> Option<SeedChannel> {
    let installs = fields
        .objects("installs")
        .iter()
        .filter_map(install)
        .collect();
    let internal_name = fields.required("internal_name", fields.text("internal_name", 1..=NAME));
    Some(SeedChannel {
        path: fields.here().to_owned(),
        audience: fields.word("audience", Audience::parse, &Audience::choices()),
        transport: fields.word("transport", Transport::parse, &Transport::choices()),
        status: fields.word("status", ChannelStatus::parse, &ChannelStatus::choices()),
        bot_id: fields.parsed("bot_id", BotId::parse, BotId::RULE),
        agent_id: match fields.integer("agent_id", i64::MIN..=i64::MAX) {
            Field::Set(agent) => Field::Set(AgentId(agent)),
            Field::Null => Field::Null,
            Field::Absent => Field::Absent,
        },
        display_name: fields.text("display_name", 0..=NAME),
        description: fields.text("description", 0..=LONG_TEXT),
        welcome_message: fields.text("welcome_message", 0..=LONG_TEXT),
        color_icon_url: fields.url("color_icon_url", &["https"]),
        outline_icon_url: fields.url("outline_icon_url", &["https"]),
        relay_prefix: fields.text("relay_prefix", 0..=NAME),
        show_agent_progress_steps: fields.boolean("show_agent_progress_steps"),
        installs,
        internal_name: internal_name?,
    })
}

fn install(fields: &Fields<'_>) -> Option<SeedInstall> {
    let end_client_tenant_id = fields.required(
        "end_client_tenant_id",
        fields.parsed(
            "end_client_tenant_id",
            M365TenantId::parse,
            M365TenantId::RULE,
        ),
    );
    Some(SeedInstall {
        path: fields.here().to_owned(),
        end_client_tenant_id: end_client_tenant_id?,
    })
}

fn article(fields: &Fields<'_>) -> Option<SeedArticle> {
    let title = fields.required("title", fields.text("title", 1..=NAME));
    let body = fields.text("body", 1..=ARTICLE_BYTES);
    if let Field::Set(text) = &body
        && text.len() > ARTICLE_BYTES
    {
        fields.refuse("body", format!("must have at most {ARTICLE_BYTES} bytes"));
    }
    Some(SeedArticle {
        path: fields.here().to_owned(),
        body,
        url: fields.url("url", &["https", "http"]),
        audience: fields.word("audience", Audience::parse, &Audience::choices()),
        end_company_id: fields.parsed("end_company_id", CompanyId::parse, CompanyId::RULE),
        agent_ids: fields.integers("agent_ids", 1_000),
        title: title?,
    })
}

fn user(fields: &Fields<'_>) -> Option<SeedUser> {
    let id = fields.required("id", fields.text("id", 1..=128));
    Some(SeedUser {
        path: fields.here().to_owned(),
        name: fields.text("name", 0..=NAME),
        email: fields.text("email", 0..=320),
        role: fields.word("role", Role::parse, &Role::choices()),
        id: id?,
    })
}

fn key(fields: &Fields<'_>, environment: &str) -> Option<SeedKey> {
    let name = fields.required("name", fields.text("name", 1..=NAME));
    let key = fields.required_secret("key")?;
    match api_key::environment_of(key).filter(|_| key.len() <= KEY) {
        None => {
            fields.refuse_secret(
                "key",
                "must be neo_sk_<env>_ and 8 or more of A-Z, a-z and 0-9",
            );
            return None;
        }
        Some(other) if other != environment => {
            fields.refuse_secret(
                "key",
                format!("is a key of the environment {other:?}; this is {environment:?} (--env)"),
            );
            return None;
        }
        Some(_) => {}
    }
    Some(SeedKey {
        path: fields.here().to_owned(),
        sha256: api_key::sha256(key),
        hint: api_key::hint(key),
        platform: fields.boolean("platform"),
        name: name?,
    })
}
