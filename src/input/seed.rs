//! Seed files: tenants and their configuration as JSON, checked before the import writes anything
//! (contract, section 11).

use std::collections::HashSet;

use serde_json::Value;

use crate::digest;
use crate::input::draft::{
    AgentDraft, ArticleDraft, ChannelDraft, CompanyDraft, MAX_SAFE_INTEGER, NAME, TenantDraft,
};
use crate::input::fields::{Field, Fields, Problem, Problems, describe};
use crate::input::json;
use crate::model::api_key;
use crate::model::directory::DirectoryId;
use crate::model::names::{AgentId, ClientId, CompanyId};
use crate::model::user_id;
use crate::model::words::{ManagedAgentKey, Role};

/// A seed file.
#[derive(Debug)]
pub struct Seed {
    /// The tenants, in the file's order.
    pub tenants: Vec<SeedTenant>,
}

impl Seed {
    /// Returns the number of resources in the file.
    pub fn resource_count(&self) -> usize {
        let of_tenant = |tenant: &SeedTenant| {
            let installs = tenant.channels.iter().map(|channel| channel.installs.len());
            1 + tenant.agents.len()
                + tenant.end_companies.len()
                + tenant.channels.len()
                + installs.sum::<usize>()
                + tenant.knowledge_articles.len()
                + tenant.users.len()
                + tenant.api_keys.len()
        };
        self.tenants.iter().map(of_tenant).sum()
    }
}

/// A tenant with its resources.
#[derive(Debug)]
#[expect(
    missing_docs,
    reason = "the contract describes the fields in section 11"
)]
pub struct SeedTenant {
    pub path: String,
    pub client_id: ClientId,
    pub draft: TenantDraft,
    pub agents: Vec<SeedAgent>,
    pub end_companies: Vec<SeedCompany>,
    pub channels: Vec<SeedChannel>,
    pub knowledge_articles: Vec<SeedArticle>,
    pub users: Vec<SeedUser>,
    pub api_keys: Vec<SeedKey>,
}

/// An agent in a seed file.
#[derive(Debug)]
#[expect(
    missing_docs,
    reason = "the contract describes the fields in section 11"
)]
pub struct SeedAgent {
    pub path: String,
    pub agent_id: AgentId,
    pub draft: AgentDraft,
    pub managed_agent_key: Field<ManagedAgentKey>,
}

/// An end company in a seed file or in a list of companies.
#[derive(Clone, Debug)]
#[expect(
    missing_docs,
    reason = "the contract describes the fields in section 11"
)]
pub struct SeedCompany {
    pub path: String,
    pub psa_company_id: CompanyId,
    pub draft: CompanyDraft,
}

/// A channel in a seed file, with its installs.
#[derive(Debug)]
#[expect(
    missing_docs,
    reason = "the contract describes the fields in section 11"
)]
pub struct SeedChannel {
    pub path: String,
    pub internal_name: String,
    pub draft: ChannelDraft,
    pub installs: Vec<SeedInstall>,
}

/// An install of a channel in a seed file.
#[derive(Debug)]
#[expect(
    missing_docs,
    reason = "the contract describes the fields in section 11"
)]
pub struct SeedInstall {
    pub path: String,
    pub end_client_tenant_id: DirectoryId,
}

/// A knowledge article in a seed file.
#[derive(Debug)]
#[expect(
    missing_docs,
    reason = "the contract describes the fields in section 11"
)]
pub struct SeedArticle {
    pub path: String,
    pub title: String,
    pub draft: ArticleDraft,
}

/// A dashboard user in a seed file.
#[derive(Debug)]
#[expect(
    missing_docs,
    reason = "the contract describes the fields in section 11"
)]
pub struct SeedUser {
    pub path: String,
    pub id: String,
    pub name: Field<String>,
    pub email: Field<String>,
    pub role: Field<Role>,
}

/// An API key in a seed file, as its hash.
#[derive(Debug)]
#[expect(
    missing_docs,
    reason = "the contract describes the fields in section 11"
)]
pub struct SeedKey {
    pub path: String,
    pub name: String,
    pub sha256: [u8; 32],
    pub hint: String,
    pub platform: Field<bool>,
}

/// The maximum length of an API key, in bytes.
const MAX_KEY_BYTES: usize = 512;

/// What to do with the fields of a file that this version does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownFields {
    /// They are problems: such a field is most likely misspelled.
    Refuse,
    /// They are ignored: the file is one of a later version.
    Ignore,
}

/// A file that was parsed, with the problems that were ignored.
#[derive(Debug)]
pub struct Parsed<T> {
    /// What the file holds.
    pub contents: T,
    /// The fields that the file has and this version does not know, and cells that say that there is
    /// nothing.
    pub ignored: Vec<Problem>,
}

/// Parses a seed file.
///
/// # Errors
/// All format problems in the file, so that the operator can correct them together.
pub fn parse(text: &str, environment: &str) -> Result<Seed, Vec<Problem>> {
    parse_with(text, environment, UnknownFields::Refuse).map(|parsed| parsed.contents)
}

/// As [`parse`], with a choice about unknown fields.
///
/// # Errors
/// As [`parse`].
pub fn parse_with(
    text: &str,
    environment: &str,
    unknown_fields: UnknownFields,
) -> Result<Parsed<Seed>, Vec<Problem>> {
    let (value, mut problems) = json::parse(text).map_err(|error| {
        let line = format!("line {}, column {}", error.line(), error.column());
        let (path, reason) = match json::half_character(text.as_bytes()) {
            Some(path) if path.is_empty() => (line, json::HALF_CHARACTER.to_owned()),
            Some(path) => (path, json::HALF_CHARACTER.to_owned()),
            None => (line, format!("is not valid JSON: {error}")),
        };
        vec![Problem {
            path,
            value: String::new(),
            reason,
        }]
    })?;
    let schema = describe(|root| drop(tenants(root, environment)));
    let mut ignored = json::unknown_names(&value, &schema);
    if unknown_fields == UnknownFields::Refuse {
        problems.append(&mut ignored);
    }
    let found = Problems::default();
    let tenants = Fields::root(&value, &found).map(|root| tenants(&root, environment));
    let tenants = tenants.unwrap_or_default();
    refuse_repeated_keys(&found, &tenants);
    problems.extend(found.into_all());
    if problems.is_empty() {
        let contents = Seed { tenants };
        Ok(Parsed { contents, ignored })
    } else {
        Err(problems)
    }
}

/// Reads the tenants of a file.
fn tenants(root: &Fields<'_>, environment: &str) -> Vec<SeedTenant> {
    if !root.has("tenants") {
        root.refuse("tenants", "is required");
    }
    let tenants = root.objects("tenants");
    let tenants = tenants.iter();
    tenants
        .filter_map(|fields| tenant(fields, environment))
        .collect()
}

/// Reports the keys by which things are matched that two things of one kind have.
fn refuse_repeated_keys(problems: &Problems, tenants: &[SeedTenant]) {
    refuse_duplicates(
        problems,
        tenants.iter().map(|tenant| {
            (
                tenant.path.as_str(),
                "client_id",
                tenant.client_id.to_string(),
            )
        }),
    );
    refuse_duplicates(
        problems,
        tenants
            .iter()
            .flat_map(|tenant| &tenant.agents)
            .map(|agent| (agent.path.as_str(), "agent_id", agent.agent_id.to_string())),
    );
    for tenant in tenants {
        refuse_duplicates(
            problems,
            tenant.end_companies.iter().map(|company| {
                (
                    company.path.as_str(),
                    "psa_company_id",
                    company.psa_company_id.to_string(),
                )
            }),
        );
        refuse_duplicates(
            problems,
            tenant.channels.iter().map(|channel| {
                (
                    channel.path.as_str(),
                    "internal_name",
                    channel.internal_name.clone(),
                )
            }),
        );
        refuse_duplicates(
            problems,
            tenant
                .channels
                .iter()
                .flat_map(|channel| &channel.installs)
                .map(|install| {
                    (
                        install.path.as_str(),
                        "end_client_tenant_id",
                        install.end_client_tenant_id.id().to_string(),
                    )
                }),
        );
        refuse_duplicates(
            problems,
            tenant
                .knowledge_articles
                .iter()
                .map(|article| (article.path.as_str(), "title", article.title.clone())),
        );
        refuse_duplicates(
            problems,
            tenant
                .users
                .iter()
                .map(|user| (user.path.as_str(), "id", user.id.clone())),
        );
        refuse_duplicates(
            problems,
            tenant
                .api_keys
                .iter()
                .map(|key| (key.path.as_str(), "name", key.name.clone())),
        );
    }
}

/// Reports each name that appears twice, because the two entries may contradict each other.
fn refuse_duplicates<'a>(
    problems: &Problems,
    names: impl Iterator<Item = (&'a str, &'static str, String)>,
) {
    let mut seen = HashSet::new();
    for (path, field, name) in names {
        if !seen.insert(name.clone()) {
            problems.add(
                format!("{path}.{field}"),
                &Value::String(name),
                "appears twice in the file",
            );
        }
    }
}

fn tenant(fields: &Fields<'_>, environment: &str) -> Option<SeedTenant> {
    let client_id = fields.required("client_id", fields.named::<ClientId>("client_id"));
    let tenant = SeedTenant {
        path: fields.own_path().to_owned(),
        draft: TenantDraft::read(fields),
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
    let agent_id = fields.required("agent_id", fields.integer("agent_id", 1..=MAX_SAFE_INTEGER));
    Some(SeedAgent {
        path: fields.own_path().to_owned(),
        draft: AgentDraft::read(fields),
        managed_agent_key: fields.word(
            "managed_agent_key",
            ManagedAgentKey::parse,
            &ManagedAgentKey::choices(),
        ),
        agent_id: AgentId(agent_id?),
    })
}

fn company(fields: &Fields<'_>) -> Option<SeedCompany> {
    let psa_company_id = fields.required("psa_company_id", fields.named("psa_company_id"));
    Some(SeedCompany {
        path: fields.own_path().to_owned(),
        draft: CompanyDraft::read(fields),
        psa_company_id: psa_company_id?,
    })
}

fn channel(fields: &Fields<'_>) -> Option<SeedChannel> {
    let installs = fields
        .objects("installs")
        .iter()
        .filter_map(install)
        .collect();
    let draft = ChannelDraft::read(fields);
    let internal_name = fields.required("internal_name", draft.internal_name.clone());
    Some(SeedChannel {
        path: fields.own_path().to_owned(),
        draft,
        installs,
        internal_name: internal_name?,
    })
}

fn install(fields: &Fields<'_>) -> Option<SeedInstall> {
    let end_client_tenant_id = fields.required(
        "end_client_tenant_id",
        fields.directory("end_client_tenant_id"),
    );
    Some(SeedInstall {
        path: fields.own_path().to_owned(),
        end_client_tenant_id: end_client_tenant_id?,
    })
}

fn article(fields: &Fields<'_>) -> Option<SeedArticle> {
    let draft = ArticleDraft::read(fields);
    let title = fields.required("title", draft.title.clone());
    Some(SeedArticle {
        path: fields.own_path().to_owned(),
        draft,
        title: title?,
    })
}

fn user(fields: &Fields<'_>) -> Option<SeedUser> {
    let id = fields.required("id", fields.text("id", 1..=128));
    Some(SeedUser {
        path: fields.own_path().to_owned(),
        name: fields.text("name", 0..=NAME),
        email: fields.text("email", 0..=320),
        role: fields.word("role", Role::parse, &Role::choices()),
        id: user_id::normalized(id?),
    })
}

fn key(fields: &Fields<'_>, environment: &str) -> Option<SeedKey> {
    let name = fields.required("name", fields.text("name", 1..=NAME));
    // Every field is read before the first return, so that `describe` sees all of them.
    let platform = fields.boolean("platform");
    let key = fields.required_secret("key")?;
    match api_key::environment_of(key).filter(|_| key.len() <= MAX_KEY_BYTES) {
        None => {
            fields.refuse_secret(
                "key",
                "must be neo_sk_<env>_ followed by 8 or more characters of A-Z, a-z and 0-9",
            );
            return None;
        }
        Some(other) if other != environment => {
            fields.refuse_secret(
                "key",
                format!(
                    "is a key of the environment {other:?}, but --env is {environment:?}; use a key of this environment"
                ),
            );
            return None;
        }
        Some(_) => {}
    }
    Some(SeedKey {
        path: fields.own_path().to_owned(),
        sha256: digest::sha256(key),
        hint: api_key::hint(key),
        platform,
        name: name?,
    })
}
