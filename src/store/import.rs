//! Takes a seed file, or a list of companies, in one transaction (contract, section 11).

use std::fmt::Display;

use serde_json::{Map, Value, json};

use super::agents::AgentRecord;
use super::articles::ArticleRecord;
use super::channels::{BindingError, ChannelRecord};
use super::companies::CompanyRecord;
use super::tenants::{NewTenant, TenantRecord};
use super::users::UserRecord;
use super::{
    WriteTx, agents, articles, audit, channels, companies, export, installs, keys, tenants, users,
};
use crate::error::{Error, Result};
use crate::input::fields::{Field, Problem, Problems};
use crate::input::seed::{
    Seed, SeedAgent, SeedArticle, SeedChannel, SeedCompany, SeedInstall, SeedKey, SeedTenant,
    SeedUser,
};
use crate::model::caller::Actor;
use crate::model::ids::Tick;
use crate::model::names::{ClientId, TenantNo};
use crate::model::words::{Access, AgentState, Audience, ManagedAgentKey, Role};
use crate::text::shorten;

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

/// What an import did, and what a rehearsal tells of it.
#[derive(Debug, Default)]
pub struct Report {
    /// How much.
    pub done: Imported,
    /// One line a thing: what happens to it, its tenant, its kind, its name, and what changes. Empty but for a rehearsal.
    pub lines: Vec<String>,
}

/// Carries a rehearsal's report out of a transaction that must not be kept.
#[derive(Debug, thiserror::Error)]
#[error("this was a rehearsal")]
pub struct DryRun(pub Report);

/// How an import goes about it.
pub struct ImportOptions<'a> {
    /// All of it is undone at the end, and told line by line: see [`DryRun`].
    pub dry_run: bool,
    /// Called for each thing that is done.
    pub step: &'a mut dyn FnMut(),
}

/// What becomes of a thing.
#[derive(Clone, Copy)]
enum Change {
    Created,
    Updated,
    Unchanged,
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
    let manner = ImportOptions {
        dry_run: false,
        step: &mut || (),
    };
    Ok(apply_so(tx, seed, actor, manner)?.done)
}

/// As [`apply`], in a manner of its own.
///
/// # Errors
/// As [`apply`]; [`DryRun`], in the same way, for a rehearsal without a problem.
pub fn apply_so(
    tx: &mut WriteTx<'_>,
    seed: &Seed,
    actor: &Actor,
    manner: ImportOptions<'_>,
) -> Result<Report> {
    let mut import = Import::new(tx, manner);
    let there = import.release_directories(seed)?;
    let mut taken = Vec::new();
    for (tenant, known) in seed.tenants.iter().zip(there) {
        import.of(&tenant.client_id);
        let before = import.done.changes();
        if let Some(no) = import.tenant(tenant, known)? {
            taken.push((no, tenant, import.done.changes() - before));
        }
    }
    for (no, tenant, changes) in &mut taken {
        import.of(&tenant.client_id);
        let before = import.done.changes();
        import.contents(*no, tenant)?;
        *changes += import.done.changes() - before;
    }
    for (no, tenant, changes) in &mut taken {
        import.of(&tenant.client_id);
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
    import.end()
}

/// Takes a list of companies into one tenant, all of them or none.
///
/// # Errors
/// As [`apply_so`].
pub fn apply_companies(
    tx: &mut WriteTx<'_>,
    tenant: &TenantRecord,
    companies: &[SeedCompany],
    actor: &Actor,
    manner: ImportOptions<'_>,
) -> Result<Report> {
    let mut import = Import::new(tx, manner);
    import.of(&tenant.client_id);
    import.between = ", ";
    for company in companies {
        import.company(tenant.no, company)?;
    }
    let Imported {
        created, updated, ..
    } = import.done;
    if created + updated > 0 {
        let mut details = Map::new();
        details.insert("created".to_owned(), created.into());
        details.insert("updated".to_owned(), updated.into());
        audit::record(
            import.tx,
            &audit::Event {
                tenant: tenant.no,
                actor: actor.clone(),
                action: "companies.import",
                target: Some(tenant.client_id.to_string()),
                details,
                request_id: None,
                remote: None,
            },
        )?;
    }
    import.end()
}

struct Import<'a, 'tx, 'm> {
    tx: &'a mut WriteTx<'tx>,
    manner: ImportOptions<'m>,
    problems: Problems,
    done: Imported,
    lines: Vec<String>,
    /// Whose things are taken now.
    client_id: String,
    /// What stands between a thing's place in the file and a field's name.
    between: &'static str,
}

impl<'a, 'tx, 'm> Import<'a, 'tx, 'm> {
    fn new(tx: &'a mut WriteTx<'tx>, manner: ImportOptions<'m>) -> Self {
        Self {
            tx,
            manner,
            problems: Problems::default(),
            done: Imported::default(),
            lines: Vec::new(),
            client_id: String::new(),
            between: ".",
        }
    }

    fn of(&mut self, client_id: &ClientId) {
        self.client_id = client_id.to_string();
    }

    fn end(self) -> Result<Report> {
        let problems = self.problems.into_all();
        if !problems.is_empty() {
            return Err(Error::Internal(Box::new(Rejected(problems))));
        }
        let report = Report {
            done: self.done,
            lines: self.lines,
        };
        if self.manner.dry_run {
            return Err(Error::Internal(Box::new(DryRun(report))));
        }
        Ok(report)
    }

    /// Counts a thing, and tells what becomes of it where somebody wants to know.
    fn count(
        &mut self,
        fate: Change,
        kind: &str,
        name: impl Display,
        shown: impl FnOnce() -> (Value, Value),
    ) {
        match fate {
            Change::Created => self.done.created += 1,
            Change::Updated => self.done.updated += 1,
            Change::Unchanged => self.done.unchanged += 1,
        }
        (self.manner.step)();
        if self.manner.dry_run {
            let (before, after) = shown();
            let line = line(
                fate,
                &self.client_id,
                kind,
                &name.to_string(),
                &before,
                &after,
            );
            self.lines.push(line);
        }
    }

    fn created(&mut self, kind: &str, name: impl Display, shown: impl FnOnce() -> Value) {
        self.count(Change::Created, kind, name, || (Value::Null, shown()));
    }

    fn place(&self, path: &str, field: &str) -> String {
        format!("{path}{}{field}", self.between)
    }

    fn refuse(&self, path: &str, field: &str, value: impl ToString, reason: impl Into<String>) {
        let value = Value::String(value.to_string());
        self.problems.add(self.place(path, field), &value, reason);
    }

    fn require(&self, path: &str, field: &str) {
        let place = self.place(path, field);
        self.problems
            .add(place, &Value::Null, "is required for a new one");
    }

    /// Counts a known thing; whether it has to be written.
    fn differs<T: PartialEq>(
        &mut self,
        kind: &str,
        name: impl Display,
        (before, after): (&T, &T),
        show: fn(&T) -> Value,
    ) -> bool {
        let differs = before != after;
        let fate = if differs {
            Change::Updated
        } else {
            Change::Unchanged
        };
        self.count(fate, kind, name, || (show(before), show(after)));
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
                self.created("tenant", &after.client_id, || export::tenant(&after));
                tenants::insert(self.tx, &after)
            }
            Some(known) => {
                let name = &after.client_id;
                if self.differs("tenant", name, (&before, &after), export::tenant) {
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
        let key = ManagedAgentKey::NeoSupport.as_str();
        self.created("agent", key, || Value::Null);
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
            if self.differs("agent", after.agent_id, (known, &after), export::agent) {
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
        self.created("agent", after.agent_id, || export::agent(&after));
        agents::insert(self.tx, &after)
    }

    /// A managed agent is what the server promises, also where the file does not say that it is one.
    fn check_managed(&self, seed: &SeedAgent, after: &AgentRecord) {
        let AgentRecord { access, state, .. } = after;
        if *access != Access::AllUsers {
            let reason = "must be ALL_USERS for NEO_SUPPORT";
            self.refuse(&seed.path, "access", access.as_str(), reason);
        }
        if *state != AgentState::Enabled {
            let reason = "must be ENABLED for NEO_SUPPORT";
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
                let name = &after.psa_company_id;
                if self.differs("end_company", name, (&known, &after), export::company) {
                    companies::update(self.tx, tenant, &known, &after)?;
                }
                Ok(())
            }
            None if after.psa_company_name.is_empty() => {
                self.require(&seed.path, "psa_company_name");
                Ok(())
            }
            None => {
                let name = &after.psa_company_id;
                self.created("end_company", name, || export::company(&after));
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
                BindingError::Unknown => "is no agent of this tenant".to_owned(),
                BindingError::OtherAudience(audience) => format!(
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
                let name = &after.internal_name;
                if self.differs("channel", name, (known, &after), export::channel) {
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
                let name = &after.internal_name;
                self.created("channel", name, || export::channel(&after));
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
        let bound = installs::bound(self.tx.reader(), channel.tenant, directory)?;
        match bound {
            Some(bound) if bound.channel_id == channel.id => {
                self.count(Change::Unchanged, "install", directory, Default::default);
                return Ok(());
            }
            Some(bound) => {
                let before = channels::name_of(self.tx.reader(), bound.channel_id.tick())?;
                installs::delete(self.tx, bound.id)?;
                self.count(Change::Updated, "install", directory, || {
                    (
                        export::install(&before),
                        export::install(&channel.internal_name),
                    )
                });
            }
            None => self.created("install", directory, || {
                export::install(&channel.internal_name)
            }),
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
                let name = &after.title;
                if self.differs("knowledge_article", name, (&known, &after), export::article) {
                    articles::update(self.tx, tenant, &after)?;
                }
                Ok(())
            }
            None => {
                let name = &after.title;
                self.created("knowledge_article", name, || export::article(&after));
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
            Some(known) => self.differs("user", &after.id, (known, &after), export::user),
            None => {
                self.created("user", &after.id, || export::user(&after));
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
            self.count(Change::Unchanged, "api_key", &seed.name, Default::default);
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
        self.created(
            "api_key",
            &seed.name,
            || json!({ "platform": new.platform }),
        );
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

/// Characters of a value that a rehearsal shows.
const SHOWN: usize = 60;

/// A rehearsal's line on one thing.
fn line(
    fate: Change,
    client_id: &str,
    kind: &str,
    name: &str,
    before: &Value,
    after: &Value,
) -> String {
    let fate = match fate {
        Change::Created => "created",
        Change::Updated => "updated",
        Change::Unchanged => "unchanged",
    };
    let mut changes = Vec::new();
    tell_changes("", before, after, &mut changes);
    format!(
        "{fate}\t{client_id}\t{kind}\t{name}\t{}",
        changes.join(", ")
    )
}

/// Field by field what a thing becomes; of a new one what is set.
fn tell_changes(path: &str, before: &Value, after: &Value, changes: &mut Vec<String>) {
    if let Value::Object(fields) = after {
        for (name, after) in fields {
            let path = match path {
                "" => name.clone(),
                path => format!("{path}.{name}"),
            };
            tell_changes(&path, &before[name], after, changes);
        }
    } else if before != after && !(before.is_null() && is_unset(after)) {
        let after = shown(after);
        changes.push(if before.is_null() {
            format!("{path}: {after}")
        } else {
            format!("{path}: {} -> {after}", shown(before))
        });
    }
}

fn is_unset(value: &Value) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty)
}

fn shown(value: &Value) -> String {
    shorten(&value.to_string(), SHOWN)
}
