//! What a tenant of a seed file contains: each thing is matched, checked by its rules, and written.

use serde_json::{Value, json};

use super::Import;
use super::companies::decide;
use super::report::Change;
use crate::error::Result;
use crate::input::fields::Field;
use crate::input::seed::{
    SeedAgent, SeedArticle, SeedChannel, SeedCompany, SeedInstall, SeedKey, SeedTenant, SeedUser,
};
use crate::model::names::TenantNo;
use crate::model::words::{Audience, ManagedAgentKey, Role};
use crate::store::agents::{self, AgentRecord};
use crate::store::articles::{self, ArticleRecord};
use crate::store::channels::{self, ChannelRecord};
use crate::store::installs::InstallRecord;
use crate::store::rules::{self, Violation};
use crate::store::users::{self, UserRecord};
use crate::store::{export, installs, keys};

impl Import<'_, '_, '_> {
    pub(super) fn contents(&mut self, tenant: TenantNo, seed: &SeedTenant) -> Result<()> {
        for agent in &seed.agents {
            self.agent(tenant, agent)?;
        }
        match self.staged.remove(&seed.client_id) {
            Some(staged) => self.staged_companies(tenant, &seed.client_id, staged)?,
            None => {
                for company in &seed.end_companies {
                    self.company(tenant, company)?;
                }
            }
        }
        let mut imported = Vec::new();
        for channel in &seed.channels {
            if let Some(record) = self.channel(tenant, channel)? {
                imported.push((channel, record));
            }
        }
        for (seed, channel) in &imported {
            for install in &seed.installs {
                self.install(channel, install)?;
            }
            // After all channels, since they may swap their bots within one file.
            if let Some(violation) = channels::second_internal(self.tx.reader(), channel)? {
                self.tally.refuse(&seed.path, violation);
            }
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

    /// Creates the `NEO_SUPPORT` agent of a tenant that has none. Returns how many were created.
    pub(super) fn managed_agent(&mut self, tenant: TenantNo) -> Result<usize> {
        let key = ManagedAgentKey::NeoSupport;
        if agents::managed_facts(self.tx.reader(), tenant, key)?.is_some() {
            return Ok(0);
        }
        agents::insert_managed(self.tx, tenant)?;
        self.tally.created("agent", key.as_str(), || Value::Null);
        Ok(1)
    }

    fn agent(&mut self, tenant: TenantNo, seed: &SeedAgent) -> Result<()> {
        match agents::by_id(self.tx.reader(), seed.agent_id)? {
            None => self.new_agent(tenant, seed),
            Some(known) if known.tenant == tenant => self.known_agent(&known, seed),
            Some(_) => {
                let id = Value::String(seed.agent_id.to_string());
                self.tally
                    .problem(&seed.path, "agent_id", &id, "is another tenant's agent");
                Ok(())
            }
        }
    }

    fn known_agent(&mut self, known: &AgentRecord, seed: &SeedAgent) -> Result<()> {
        let key = seed.managed_agent_key.clone();
        let key = key.over_optional(known.managed_agent_key);
        if key != known.managed_agent_key {
            let key = key.map_or("null", ManagedAgentKey::as_str);
            self.tally
                .refuse(&seed.path, Violation::fixed("managed_agent_key", key));
        }
        let after = known.changed(&seed.draft, &known.agent_settings);
        let violations = match known.managed_agent_key {
            Some(ManagedAgentKey::NeoSupport) => agents::broken_promises(&after),
            None => agents::changed_fixed_fields(known, &after),
        };
        self.tally.refuse_all(&seed.path, violations);
        if self
            .tally
            .differs("agent", after.agent_id, (known, &after), export::agent)
        {
            agents::update(self.tx, &after)?;
        }
        Ok(())
    }

    fn new_agent(&mut self, tenant: TenantNo, seed: &SeedAgent) -> Result<()> {
        let key = seed.managed_agent_key.clone().value();
        let fresh = match key {
            Some(ManagedAgentKey::NeoSupport) => agents::managed(tenant, seed.agent_id),
            None => agents::fresh(tenant, seed.agent_id, &seed.draft),
        };
        let after = fresh.changed(&seed.draft, &fresh.agent_settings);
        if let Some(key) = key {
            if let Some(other) = agents::managed_facts(self.tx.reader(), tenant, key)? {
                let reason = format!("is already the tenant's agent {}", other.id);
                let key = Value::String(key.as_str().to_owned());
                self.tally
                    .problem(&seed.path, "managed_agent_key", &key, reason);
                return Ok(());
            }
            self.tally
                .refuse_all(&seed.path, agents::broken_promises(&after));
        }
        if after.name.is_empty() {
            self.tally.require(&seed.path, "name", "agent");
            return Ok(());
        }
        self.tally
            .created("agent", after.agent_id, || export::agent(&after));
        agents::insert(self.tx, &after)
    }

    /// Reports a company and writes it.
    pub(super) fn company(&mut self, tenant: TenantNo, seed: &SeedCompany) -> Result<()> {
        let rule = self.tally.options.directories;
        let decision = decide(self.tx.reader(), Some(tenant), seed, rule)?;
        self.tally.company(&seed.path, &decision);
        decision.write(self.tx, tenant)
    }

    /// Returns the channel as it is stored, unless it is refused.
    fn channel(&mut self, tenant: TenantNo, seed: &SeedChannel) -> Result<Option<ChannelRecord>> {
        match channels::named(self.tx.reader(), tenant, &seed.internal_name)? {
            Some(known) => self.known_channel(&known, seed),
            None => self.new_channel(tenant, seed),
        }
    }

    fn known_channel(
        &mut self,
        known: &ChannelRecord,
        seed: &SeedChannel,
    ) -> Result<Option<ChannelRecord>> {
        let after = known.changed(&seed.draft);
        let reader = self.tx.reader();
        let mut violations = channels::changed_fixed_fields(known, &after);
        if violations.is_empty() {
            violations.extend(channels::unfit_agent(reader, &after)?);
        }
        if known.bot_id != after.bot_id
            && let Some(bot) = &after.bot_id
        {
            violations.extend(installs::cannot_follow(reader, after.id.tick(), bot)?);
        }
        if self.tally.refuse_all(&seed.path, violations) {
            return Ok(None);
        }
        let name = &after.internal_name;
        if self
            .tally
            .differs("channel", name, (known, &after), export::channel)
        {
            channels::update(self.tx, &after)?;
        }
        Ok(Some(after))
    }

    fn new_channel(
        &mut self,
        tenant: TenantNo,
        seed: &SeedChannel,
    ) -> Result<Option<ChannelRecord>> {
        let audience = seed.draft.audience.clone().value();
        if audience.is_none() {
            self.tally.require(&seed.path, "audience", "channel");
        }
        let agent_id = seed.draft.agent_id.clone().value();
        if agent_id.is_none() {
            self.tally.require(&seed.path, "agent_id", "channel");
        }
        let (Some(audience), Some(agent_id)) = (audience, agent_id) else {
            return Ok(None);
        };
        let (id, name) = (self.tx.new_id()?, &seed.internal_name);
        let after = ChannelRecord::fresh(id, tenant, name, audience, agent_id).changed(&seed.draft);
        let reader = self.tx.reader();
        let mut violations: Vec<Violation> =
            channels::unfit_agent(reader, &after)?.into_iter().collect();
        // The new channel takes over the installs of a deleted one with its name.
        let deleted = match after.audience {
            Audience::EndUser => channels::latest_deleted(reader, tenant, name)?,
            Audience::Msp => None,
        };
        if let (Some(deleted), Some(bot)) = (deleted, &after.bot_id) {
            violations.extend(installs::cannot_follow(reader, deleted, bot)?);
        }
        if self.tally.refuse_all(&seed.path, violations) {
            return Ok(None);
        }
        channels::insert(self.tx, &after)?;
        if let Some(deleted) = deleted {
            installs::take_over(self.tx, deleted, &after)?;
        }
        self.tally
            .created("channel", name, || export::channel(&after));
        Ok(Some(after))
    }

    fn install(&mut self, channel: &ChannelRecord, seed: &SeedInstall) -> Result<()> {
        let directory = seed.end_client_tenant_id.id();
        let reader = self.tx.reader();
        let held = installs::of_another_tenant(reader, channel, directory)?;
        let violation = installs::wrong_audience(channel, directory)
            .or_else(|| held.as_ref().and_then(installs::held_by_another_tenant));
        if let Some(violation) = violation {
            self.tally.refuse(&seed.path, violation);
            return Ok(());
        }
        let bound = installs::bound(reader, channel.tenant, directory)?;
        let is_here = |bound: &InstallRecord| bound.channel_id == channel.id;
        if bound.as_ref().is_some_and(is_here) {
            self.tally
                .count(Change::Unchanged, "install", directory, Default::default);
            return Ok(());
        }
        let named = Field::Set(seed.end_client_tenant_id.clone());
        let (field, rule) = ("end_client_tenant_id", self.tally.options.directories);
        if let Some(violation) = rules::unfit_directory(field, &named, None, rule) {
            self.tally.refuse(&seed.path, violation);
            return Ok(());
        }
        match bound {
            Some(bound) => {
                let before = channels::name_of(reader, bound.channel_id.tick())?;
                installs::delete(self.tx, &bound)?;
                self.tally.count(Change::Updated, "install", directory, || {
                    (
                        export::install(&before),
                        export::install(&channel.internal_name),
                    )
                });
            }
            None => self.tally.created("install", directory, || {
                export::install(&channel.internal_name)
            }),
        }
        if let Some(lost) = held {
            installs::delete(self.tx, &lost)?;
            self.lost.push(lost);
        }
        installs::insert(self.tx, channel, directory).map(drop)
    }

    fn article(&mut self, tenant: TenantNo, seed: &SeedArticle) -> Result<()> {
        let known = articles::titled(self.tx.reader(), tenant, &seed.title)?;
        let after = match &known {
            Some(known) => known.changed(&seed.draft),
            None => {
                ArticleRecord::fresh(self.tx.new_id()?, seed.title.clone()).changed(&seed.draft)
            }
        };
        let unknown = articles::unknown_names(self.tx.reader(), tenant, &after)?;
        let mut is_refused = self.tally.refuse_all(&seed.path, unknown);
        if after.body.is_empty() {
            self.tally.require(&seed.path, "body", "article");
            is_refused = true;
        }
        if is_refused {
            return Ok(());
        }
        let name = &after.title;
        let Some(known) = known else {
            self.tally
                .created("knowledge_article", name, || export::article(&after));
            return articles::insert(self.tx, tenant, &after);
        };
        if self
            .tally
            .differs("knowledge_article", name, (&known, &after), export::article)
        {
            articles::update(self.tx, tenant, &after)?;
        }
        Ok(())
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
        let is_written = match &known {
            Some(known) => self
                .tally
                .differs("user", &after.id, (known, &after), export::user),
            None => {
                self.tally
                    .created("user", &after.id, || export::user(&after));
                true
            }
        };
        if is_written {
            users::upsert(self.tx, tenant, &after)?;
        }
        Ok(())
    }

    fn key(&mut self, tenant: TenantNo, seed: &SeedKey) -> Result<()> {
        let named = keys::named(self.tx.reader(), tenant, &seed.name)?;
        if let Some(known) = named.iter().find(|key| key.sha256 == seed.sha256) {
            if let Field::Set(platform) = seed.platform
                && platform != known.platform
            {
                self.tally
                    .refuse(&seed.path, Violation::fixed("platform", platform));
            }
            self.tally
                .count(Change::Unchanged, "api_key", &seed.name, Default::default);
            return Ok(());
        }
        if !named.is_empty() {
            let name = Value::String(seed.name.clone());
            let reason = "already names another key; rotate that key, or choose another name";
            self.tally.problem(&seed.path, "name", &name, reason);
            return Ok(());
        }
        if keys::by_sha256(self.tx.reader(), &seed.sha256)?.is_some() {
            let hidden = Value::String("…".to_owned());
            self.tally
                .problem(&seed.path, "key", &hidden, "is in use under another name");
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
        self.tally.created(
            "api_key",
            &seed.name,
            || json!({ "platform": new.platform }),
        );
        keys::create(self.tx, &new).map(drop)
    }
}
