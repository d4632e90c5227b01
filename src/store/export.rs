//! Exports tenants in the format of a seed file (contract, section 11).

use serde_json::{Value, json};

use super::agents::AgentRecord;
use super::articles::ArticleRecord;
use super::channels::ChannelRecord;
use super::companies::CompanyRecord;
use super::sql::Reader;
use super::tenants::{NewTenant, TenantRecord};
use super::users::UserRecord;
use super::{agents, articles, channels, companies, installs, users};
use crate::error::Result;

/// Exports the given tenants in the format that [`super::import`] reads, without API keys.
pub fn world(reader: &Reader<'_>, tenants: &[TenantRecord]) -> Result<Value> {
    let tenants = tenants
        .iter()
        .map(|tenant| tenant_with_records(reader, tenant))
        .collect::<Result<Vec<_>>>()?;
    Ok(json!({ "tenants": tenants }))
}

fn tenant_with_records(reader: &Reader<'_>, tenant: &TenantRecord) -> Result<Value> {
    let agents: Vec<Value> = agents::all(reader, tenant.no)?.iter().map(agent).collect();
    let companies: Vec<Value> = companies::all(reader, tenant.no)?
        .iter()
        .map(company)
        .collect();
    let channels = channels::all(reader, tenant.no)?
        .iter()
        .map(|channel| channel_with_installs(reader, channel))
        .collect::<Result<Vec<_>>>()?;
    let articles: Vec<Value> = articles::all(reader, tenant.no)?
        .iter()
        .map(article)
        .collect();
    let users: Vec<Value> = users::all(reader, tenant.no)?.iter().map(user).collect();
    let mut exported = self::tenant(&tenant.as_new());
    exported["agents"] = agents.into();
    exported["end_companies"] = companies.into();
    exported["channels"] = channels.into();
    exported["knowledge_articles"] = articles.into();
    exported["users"] = users.into();
    Ok(exported)
}

pub(super) fn agent(agent: &AgentRecord) -> Value {
    json!({
        "agent_id": agent.agent_id,
        "name": agent.name,
        "description": agent.description,
        "autonomy_type": agent.autonomy_type,
        "audience": agent.audience,
        "access": agent.access,
        "allowed_users": agent.allowed_users,
        "state": agent.state,
        "managed_agent_key": agent.managed_agent_key,
        "agent_settings": agent.agent_settings,
    })
}

pub(super) fn company(company: &CompanyRecord) -> Value {
    json!({
        "psa_company_id": company.psa_company_id,
        "psa_company_name": company.psa_company_name,
        "tenant_id": company.directories.first(),
        "tenant_ids": company.directories.as_slice(),
        "custom_instructions": company.custom_instructions,
        "custom_instructions_for_user_facing_chat": company.custom_instructions_for_user_facing_chat,
    })
}

pub(super) fn article(article: &ArticleRecord) -> Value {
    json!({
        "title": article.title,
        "body": article.body,
        "url": article.url,
        "audience": article.audience,
        "end_company_id": article.end_company_id,
        "agent_ids": article.agent_ids,
    })
}

pub(super) fn user(user: &UserRecord) -> Value {
    json!({ "id": user.id, "name": user.name, "email": user.email, "role": user.role })
}

pub(super) fn tenant(tenant: &NewTenant) -> Value {
    json!({
        "client_id": tenant.client_id,
        "name": tenant.name,
        "entra_tenant_id": tenant.entra_tenant_id,
        "rate_limit_per_minute": tenant.rate_limit_per_minute,
        "retention_days": tenant.retention_days,
        "website_url": tenant.website_url,
        "privacy_url": tenant.privacy_url,
        "terms_url": tenant.terms_url,
    })
}

pub(super) fn install(channel: &str) -> Value {
    json!({ "channel": channel })
}

fn channel_with_installs(reader: &Reader<'_>, channel: &ChannelRecord) -> Result<Value> {
    let installs: Vec<Value> = installs::of_channel(reader, channel.id)?
        .iter()
        .map(|install| json!({ "end_client_tenant_id": install.end_client_tenant_id }))
        .collect();
    let mut exported = self::channel(channel);
    exported["installs"] = installs.into();
    Ok(exported)
}

pub(super) fn channel(channel: &ChannelRecord) -> Value {
    json!({
        "internal_name": channel.internal_name,
        "audience": channel.audience,
        "transport": channel.transport,
        "status": channel.status,
        "bot_id": channel.bot_id,
        "agent_id": channel.agent_id,
        "display_name": channel.display_name,
        "description": channel.description,
        "welcome_message": channel.welcome_message,
        "color_icon_url": channel.color_icon_url,
        "outline_icon_url": channel.outline_icon_url,
        "relay_prefix": channel.relay_prefix,
        "show_agent_progress_steps": channel.show_agent_progress_steps,
        "group_replies": channel.group_replies,
    })
}
