//! Takes a seed file in one transaction, and writes one (contract, section 11).

use serde_json::{Map, Value, json};

use super::agents::AgentRecord;
use super::articles::ArticleRecord;
use super::channels::{ChannelRecord, Misfit};
use super::companies::CompanyRecord;
use super::sqlite::Reader;
use super::tenants::{NewTenant, TenantRecord};
use super::users::UserRecord;
use super::{
    WriteTx, agents, articles, audit, channels, companies, installs, keys, tenants, users,
};
use crate::error::{Error, Result};
use crate::fields::{Field, Problem, Problems};
use crate::model::caller::Actor;
use crate::model::ids::Tick;
use crate::model::names::TenantNo;
use crate::model::words::{Access, AgentState, Audience, ManagedAgentKey, Role};
use crate::seed::{
    Seed, SeedAgent, SeedArticle, SeedChannel, SeedCompany, SeedInstall, SeedKey, SeedTenant,
    SeedUser,
};

/// How much an import did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Things that are new.
    pub created: usize,
    /// Things that changed.
    pub updated: usize,
    /// Things that were so already.
    pub unchanged: usize,
}

impl Imported {
    fn changes(self) -> usize {
        self.created + self.updated
    }
}

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
#[error("the file has {} problems", .0.len())]
pub struct Rejected(pub Vec<Problem>);

/// Takes a file, all of it or nothing.
///
/// # Errors
/// [`Rejected`], as the cause of an inner error, with every problem that the file has with what is there.
pub fn apply(tx: &mut WriteTx<'_>, seed: &Seed, actor: &Actor) -> Result<Imported> {
    let mut import = Import {
        tx,
        problems: Problems::default(),
        done: Imported::default(),
    };
    let there = import.release_directories(seed)?;
    let mut taken = Vec::new();
    for (tenant, known) in seed.tenants.iter().zip(there) {
        let before = import.done.changes();
        if let Some(no) = import.tenant(tenant, known)? {
            taken.push((no, tenant, import.done.changes() - before));
        }
    }
    for (no, tenant, changes) in &mut taken {
        let before = import.done.changes();
        import.contents(*no, tenant)?;
        *changes += import.done.changes() - before;
    }
    for (no, tenant, changes) in &mut taken {
        // Behind every agent of the file, whose numbers come first.
        *changes += import.managed(*no)?;
        if *changes > 0 {
            audit::record(
                import.tx,
                &audit::Event {
                    tenant: *no,
                    actor: actor.clone(),
                    action: "seed.import",
                    target: Some(tenant.client_id.to_string()),
                    details: Map::new(),
                    request_id: None,
                    remote: None,
                },
            )?;
        }
    }
    for (no, tenant, _) in &taken {
        import.check_directories(*no, tenant)?;
    }
    let done = import.done;
    let problems = import.problems.into_all();
    if problems.is_empty() {
        Ok(done)
    } else {
        Err(Error::Internal(Box::new(Rejected(problems))))
    }
}

struct Import<'a, 'tx> {
    tx: &'a mut WriteTx<'tx>,
    problems: Problems,
    done: Imported,
}

impl Import<'_, '_> {
    fn refuse(&self, path: &str, field: &str, value: impl ToString, reason: impl Into<String>) {
        self.problems.add(
            format!("{path}.{field}"),
            &Value::String(value.to_string()),
            reason,
        );
    }

    fn require(&self, path: &str, field: &str) {
        self.problems.add(
            format!("{path}.{field}"),
            &Value::Null,
            "is required for a new one",
        );
    }

    /// Counts a known thing; whether it has to be written.
    fn differs<T: PartialEq>(&mut self, before: &T, after: &T) -> bool {
        let differs = before != after;
        if differs {
            self.done.updated += 1;
        } else {
            self.done.unchanged += 1;
        }
        differs
    }

    /// The tenants that are there already, in the file's order. A directory that one gives up is free before another
    /// takes it, whichever of them the file names first.
    fn release_directories(&mut self, seed: &Seed) -> Result<Vec<Option<TenantRecord>>> {
        let mut there = Vec::with_capacity(seed.tenants.len());
        for tenant in &seed.tenants {
            let known = tenants::by_client_id(self.tx.reader(), &tenant.client_id)?;
            if let Some(known) = &known
                && tenant
                    .draft
                    .entra_tenant_id
                    .clone()
                    .over_optional(known.entra_tenant_id.clone())
                    != known.entra_tenant_id
            {
                let released = NewTenant {
                    entra_tenant_id: None,
                    ..known.as_new()
                };
                tenants::update(self.tx, known.no, &released)?;
            }
            there.push(known);
        }
        Ok(there)
    }

    fn tenant(
        &mut self,
        seed: &SeedTenant,
        known: Option<TenantRecord>,
    ) -> Result<Option<TenantNo>> {
        let (before, is_new) = match &known {
            Some(known) => (known.as_new(), false),
            None => (blank(seed), true),
        };
        if is_new && seed.draft.name.clone().value().is_none() {
            self.require(&seed.path, "name");
        }
        let after = before.changed(&seed.draft);
        let outcome = match &known {
            None => {
                self.done.created += 1;
                tenants::insert(self.tx, &after)
            }
            Some(known) => {
                if self.differs(&before, &after) {
                    tenants::update(self.tx, known.no, &after).map(|()| known.no)
                } else {
                    Ok(known.no)
                }
            }
        };
        match outcome {
            Ok(no) => Ok(Some(no)),
            Err(Error::Refused(_)) => {
                let directory = after
                    .entra_tenant_id
                    .as_ref()
                    .map_or_else(String::new, ToString::to_string);
                self.refuse(
                    &seed.path,
                    "entra_tenant_id",
                    directory,
                    "is another tenant's already",
                );
                Ok(known.map(|known| known.no))
            }
            Err(error) => Err(error),
        }
    }

    fn contents(&mut self, tenant: TenantNo, seed: &SeedTenant) -> Result<()> {
        for agent in &seed.agents {
            self.agent(tenant, agent)?;
        }
        for company in &seed.end_companies {
            self.company(tenant, company)?;
        }
        let mut bound = Vec::new();
        for channel in &seed.channels {
            if let Some(record) = self.channel(tenant, channel)? {
                bound.push((channel, record));
            }
        }
        for (seed, channel) in &bound {
            for install in &seed.installs {
                self.install(channel, install)?;
            }
            self.check_internal(seed, channel)?;
        }
        for article in &seed.knowledge_articles {
            self.article(tenant, article)?;
        }
        for user in &seed.users {
            self.user(tenant, user)?;
        }
        for key in &seed.api_keys {
            self.key(tenant, key)?;
        }
        Ok(())
    }

    /// Gives a tenant without a `NEO_SUPPORT` agent one; how many were made.
    fn managed(&mut self, tenant: TenantNo) -> Result<usize> {
        if agents::managed_facts(self.tx.reader(), tenant, ManagedAgentKey::NeoSupport)?.is_some() {
            return Ok(0);
        }
        agents::insert_managed(self.tx, tenant)?;
        self.done.created += 1;
        Ok(1)
    }

    fn agent(&mut self, tenant: TenantNo, seed: &SeedAgent) -> Result<()> {
        let known = agents::by_id(self.tx.reader(), seed.agent_id)?;
        if known.as_ref().is_some_and(|known| known.tenant != tenant) {
            self.refuse(
                &seed.path,
                "agent_id",
                seed.agent_id,
                "is another tenant's agent",
            );
            return Ok(());
        }
        let is_managed = matches!(seed.managed_agent_key, Field::Set(_));
        let before = match &known {
            Some(known) => known.clone(),
            None if is_managed => agents::managed(tenant, seed.agent_id),
            None => agents::fresh(tenant, seed.agent_id, &seed.draft),
        };
        let after = before.changed(&seed.draft, &before.agent_settings);
        if let Some(known) = &known {
            if after.autonomy_type != known.autonomy_type {
                self.refuse(
                    &seed.path,
                    "autonomy_type",
                    after.autonomy_type.as_str(),
                    "cannot change",
                );
            }
            if after.audience != known.audience {
                self.refuse(
                    &seed.path,
                    "audience",
                    after.audience.as_str(),
                    "cannot change",
                );
            }
            let named = seed
                .managed_agent_key
                .clone()
                .over_optional(known.managed_agent_key);
            if named != known.managed_agent_key {
                let value = named.map_or("null", ManagedAgentKey::as_str);
                self.refuse(&seed.path, "managed_agent_key", value, "cannot change");
            }
            if known.managed_agent_key.is_some() {
                self.check_managed(seed, &after);
            }
            if self.differs(known, &after) {
                agents::update(self.tx, &after)?;
            }
            return Ok(());
        }
        if seed.draft.name.clone().value().is_none() && !is_managed {
            self.require(&seed.path, "name");
            return Ok(());
        }
        if is_managed
            && let Some(other) =
                agents::managed_facts(self.tx.reader(), tenant, ManagedAgentKey::NeoSupport)?
        {
            self.refuse(
                &seed.path,
                "managed_agent_key",
                ManagedAgentKey::NeoSupport.as_str(),
                format!("is the tenant's agent {} already", other.id),
            );
            return Ok(());
        }
        self.done.created += 1;
        agents::insert(self.tx, &after)
    }

    /// A managed agent is what the server promises, also where the file does not say that it is one.
    fn check_managed(&self, seed: &SeedAgent, after: &AgentRecord) {
        let AgentRecord { access, state, .. } = after;
        if *access != Access::AllUsers {
            let reason = "is fixed for NEO_SUPPORT: ALL_USERS";
            self.refuse(&seed.path, "access", access.as_str(), reason);
        }
        if *state != AgentState::Enabled {
            let reason = "is fixed for NEO_SUPPORT: ENABLED";
            self.refuse(&seed.path, "state", state.as_str(), reason);
        }
    }

    fn company(&mut self, tenant: TenantNo, seed: &SeedCompany) -> Result<()> {
        let known = companies::by_id(self.tx.reader(), tenant, &seed.psa_company_id)?;
        let before = known
            .clone()
            .unwrap_or_else(|| CompanyRecord::fresh(seed.psa_company_id.clone()));
        let after = before.changed(&seed.draft);
        match known {
            Some(known) => {
                if self.differs(&known, &after) {
                    companies::update(self.tx, tenant, &known, &after)?;
                }
                Ok(())
            }
            None if after.psa_company_name.is_empty() => {
                self.require(&seed.path, "psa_company_name");
                Ok(())
            }
            None => {
                self.done.created += 1;
                companies::insert(self.tx, tenant, &after)
            }
        }
    }

    fn channel(&mut self, tenant: TenantNo, seed: &SeedChannel) -> Result<Option<ChannelRecord>> {
        let known = channels::named(self.tx.reader(), tenant, &seed.internal_name)?;
        let before = match &known {
            Some(known) => known.clone(),
            None => {
                let audience = seed.draft.audience.clone().value();
                if audience.is_none() {
                    self.require(&seed.path, "audience");
                }
                let agent_id = seed.draft.agent_id.clone().value();
                if agent_id.is_none() {
                    self.require(&seed.path, "agent_id");
                }
                let (Some(audience), Some(agent_id)) = (audience, agent_id) else {
                    return Ok(None);
                };
                ChannelRecord {
                    audience,
                    agent_id,
                    ..ChannelRecord::fresh(self.tx.new_id()?, tenant, &seed.internal_name)
                }
            }
        };
        let after = before.changed(&seed.draft);
        if after.audience != before.audience {
            self.refuse(
                &seed.path,
                "audience",
                after.audience.as_str(),
                "cannot change",
            );
            return Ok(None);
        }
        if let Some(misfit) = channels::misfit(self.tx.reader(), &after)? {
            let reason = match misfit {
                Misfit::Unknown => "is no agent of this tenant".to_owned(),
                Misfit::OtherAudience(audience) => format!(
                    "is an {} agent; the channel is {}",
                    audience.as_str(),
                    after.audience.as_str()
                ),
            };
            self.refuse(&seed.path, "agent_id", after.agent_id, reason);
            return Ok(None);
        }
        match &known {
            Some(known) => {
                if known.bot_id != after.bot_id
                    && !self.bot_is_free(&seed.path, after.id.tick(), &after)?
                {
                    return Ok(None);
                }
                if self.differs(known, &after) {
                    channels::update(self.tx, &after)?;
                }
            }
            None => {
                let deleted =
                    channels::latest_deleted(self.tx.reader(), tenant, &seed.internal_name)?;
                // Only such a channel has installs that it can take over.
                let deleted = deleted.filter(|_| after.audience == Audience::EndUser);
                if let Some(deleted) = deleted
                    && !self.bot_is_free(&seed.path, deleted, &after)?
                {
                    return Ok(None);
                }
                channels::insert(self.tx, &after)?;
                if let Some(deleted) = deleted {
                    installs::take_over(self.tx, deleted, &after)?;
                }
                self.done.created += 1;
            }
        }
        Ok(Some(after))
    }

    /// Whether the installs of a channel can follow it to its bot.
    fn bot_is_free(
        &mut self,
        path: &str,
        installs_of: Tick,
        channel: &ChannelRecord,
    ) -> Result<bool> {
        let Some(bot) = &channel.bot_id else {
            return Ok(true);
        };
        let Some(directory) = installs::cannot_follow(self.tx.reader(), installs_of, bot)? else {
            return Ok(true);
        };
        self.refuse(
            path,
            "bot_id",
            bot,
            format!("is installed for {directory} by another tenant"),
        );
        Ok(false)
    }

    fn install(&mut self, channel: &ChannelRecord, seed: &SeedInstall) -> Result<()> {
        let directory = &seed.end_client_tenant_id;
        if channel.audience != Audience::EndUser {
            self.refuse(
                &seed.path,
                "end_client_tenant_id",
                directory,
                "only END_USER channels have installs",
            );
            return Ok(());
        }
        if installs::is_held_by_another(self.tx.reader(), channel, directory)? {
            self.refuse(
                &seed.path,
                "end_client_tenant_id",
                directory,
                "is installed for this bot by another tenant",
            );
            return Ok(());
        }
        match installs::bound(self.tx.reader(), channel.tenant, directory)? {
            Some(bound) if bound.channel_id == channel.id => {
                self.done.unchanged += 1;
                return Ok(());
            }
            Some(bound) => {
                installs::delete(self.tx, bound.id)?;
                self.done.updated += 1;
            }
            None => self.done.created += 1,
        }
        installs::insert(self.tx, channel, directory).map(drop)
    }

    fn check_internal(&mut self, seed: &SeedChannel, channel: &ChannelRecord) -> Result<()> {
        if let Some(bot) = &channel.bot_id
            && channels::is_second_internal(self.tx.reader(), channel)?
        {
            self.refuse(
                &seed.path,
                "bot_id",
                bot,
                "has another ACTIVE MSP channel in this tenant",
            );
        }
        Ok(())
    }

    fn article(&mut self, tenant: TenantNo, seed: &SeedArticle) -> Result<()> {
        let known = articles::titled(self.tx.reader(), tenant, &seed.title)?;
        let before = match &known {
            Some(known) => known.clone(),
            None => ArticleRecord::fresh(self.tx.new_id()?, seed.title.clone()),
        };
        let after = before.changed(&seed.draft);
        let mut fits = true;
        if let Some(company) = &after.end_company_id
            && !companies::exists(self.tx.reader(), tenant, company)?
        {
            self.refuse(
                &seed.path,
                "end_company_id",
                company,
                "is no company of this tenant",
            );
            fits = false;
        }
        for agent in &after.agent_ids {
            if agents::of_tenant(self.tx.reader(), tenant, *agent)?.is_none() {
                self.refuse(&seed.path, "agent_ids", agent, "is no agent of this tenant");
                fits = false;
            }
        }
        if known.is_none() && after.body.is_empty() {
            self.require(&seed.path, "body");
            fits = false;
        }
        if !fits {
            return Ok(());
        }
        match known {
            Some(known) => {
                if self.differs(&known, &after) {
                    articles::update(self.tx, tenant, &after)?;
                }
                Ok(())
            }
            None => {
                self.done.created += 1;
                articles::insert(self.tx, tenant, &after)
            }
        }
    }

    fn user(&mut self, tenant: TenantNo, seed: &SeedUser) -> Result<()> {
        let known = users::by_id(self.tx.reader(), tenant, &seed.id)?;
        let before = known.clone().unwrap_or_else(|| UserRecord {
            id: seed.id.clone(),
            name: None,
            email: None,
            role: Role::User,
        });
        let after = UserRecord {
            id: before.id,
            name: seed.name.clone().over_optional(before.name),
            email: seed.email.clone().over_optional(before.email),
            role: seed.role.clone().over(before.role, Role::User),
        };
        let write = match &known {
            Some(known) => self.differs(known, &after),
            None => {
                self.done.created += 1;
                true
            }
        };
        if write {
            users::upsert(self.tx, tenant, &after)
        } else {
            Ok(())
        }
    }

    fn key(&mut self, tenant: TenantNo, seed: &SeedKey) -> Result<()> {
        let named = keys::named(self.tx.reader(), tenant, &seed.name)?;
        if let Some(known) = named.iter().find(|key| key.sha256 == seed.sha256) {
            if seed
                .platform
                .clone()
                .value()
                .is_some_and(|platform| platform != known.platform)
            {
                self.refuse(&seed.path, "platform", !known.platform, "cannot change");
            }
            self.done.unchanged += 1;
            return Ok(());
        }
        if !named.is_empty() {
            self.refuse(
                &seed.path,
                "name",
                &seed.name,
                "is known with another key; rotate that one, or choose another name",
            );
            return Ok(());
        }
        if keys::by_sha256(self.tx.reader(), &seed.sha256)?.is_some() {
            self.refuse(&seed.path, "key", "…", "is in use under another name");
            return Ok(());
        }
        let new = keys::NewKey {
            tenant,
            name: seed.name.clone(),
            platform: seed.platform.clone().value().unwrap_or(false),
            expires_at: None,
            sha256: seed.sha256,
            hint: seed.hint.clone(),
        };
        self.done.created += 1;
        keys::create(self.tx, &new).map(drop)
    }

    /// A bot must never be installed into the directory of another MSP's own people.
    fn check_directories(&mut self, tenant: TenantNo, seed: &SeedTenant) -> Result<()> {
        for (client_id, directory) in installs::foreign_homes(self.tx.reader(), tenant)? {
            self.problems.add(
                format!("{}.channels", seed.path),
                &Value::String(directory.to_string()),
                format!("is installed by {client_id}, and is the directory that another tenant signs in with"),
            );
        }
        Ok(())
    }
}

fn blank(seed: &SeedTenant) -> NewTenant {
    NewTenant {
        client_id: seed.client_id.clone(),
        name: String::new(),
        entra_tenant_id: None,
        rate_limit_per_minute: None,
        retention_days: None,
    }
}

/// Writes a file of the tenants given, in the format that [`apply`] takes, without keys.
///
/// # Errors
/// The file cannot be read.
pub fn export(reader: &Reader<'_>, tenants: &[TenantRecord]) -> Result<Value> {
    let tenants = tenants
        .iter()
        .map(|tenant| export_tenant(reader, tenant))
        .collect::<Result<Vec<_>>>()?;
    Ok(json!({ "tenants": tenants }))
}

fn export_tenant(reader: &Reader<'_>, tenant: &TenantRecord) -> Result<Value> {
    let agents: Vec<Value> = agents::all(reader, tenant.no)?
        .iter()
        .map(export_agent)
        .collect();
    let companies: Vec<Value> = companies::all(reader, tenant.no)?
        .iter()
        .map(|company| {
            json!({
                "psa_company_id": company.psa_company_id,
                "psa_company_name": company.psa_company_name,
                "tenant_id": company.tenant_id,
                "custom_instructions": company.custom_instructions,
                "custom_instructions_for_user_facing_chat": company.custom_instructions_for_user_facing_chat,
            })
        })
        .collect();
    let channels = channels::living(reader, tenant.no)?
        .iter()
        .map(|channel| export_channel(reader, channel))
        .collect::<Result<Vec<_>>>()?;
    let articles: Vec<Value> = articles::all(reader, tenant.no)?
        .iter()
        .map(|article| {
            json!({
                "title": article.title,
                "body": article.body,
                "url": article.url,
                "audience": article.audience,
                "end_company_id": article.end_company_id,
                "agent_ids": article.agent_ids,
            })
        })
        .collect();
    let users: Vec<Value> = users::all(reader, tenant.no)?
        .iter()
        .map(|user| {
            json!({ "id": user.id, "name": user.name, "email": user.email, "role": user.role })
        })
        .collect();
    Ok(json!({
        "client_id": tenant.client_id,
        "name": tenant.name,
        "entra_tenant_id": tenant.entra_tenant_id,
        "rate_limit_per_minute": tenant.rate_limit_per_minute,
        "retention_days": tenant.retention_days,
        "agents": agents,
        "end_companies": companies,
        "channels": channels,
        "knowledge_articles": articles,
        "users": users,
    }))
}

fn export_agent(agent: &AgentRecord) -> Value {
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

fn export_channel(reader: &Reader<'_>, channel: &ChannelRecord) -> Result<Value> {
    let installs: Vec<Value> = installs::of_channel(reader, channel.id)?
        .iter()
        .map(|install| json!({ "end_client_tenant_id": install.end_client_tenant_id }))
        .collect();
    Ok(json!({
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
        "installs": installs,
    }))
}
