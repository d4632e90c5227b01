//! A world of tenants, agents, channels, installs and companies in plain lists, as a resolver
//! directory.

use std::convert::Infallible;

use switchboard::model::ids::{ChannelId, Tick};
use switchboard::model::names::{
    AgentId, BotId, ClientId, CompanyId, CompanyRow, M365TenantId, TenantNo,
};
use switchboard::model::words::{
    Access, AgentState, Audience, AutonomyType, ChannelStatus, GroupReplies, ManagedAgentKey,
};
use switchboard::resolver::{Agent, Channel, Company, Directory, Linked, Tenant};

/// The whole world. Channels are in the order of their age.
#[derive(Debug, Default)]
pub struct World {
    pub tenants: Vec<Tenant>,
    pub agents: Vec<AgentFact>,
    pub channels: Vec<ChannelFact>,
    pub companies: Vec<CompanyFact>,
    /// The M365 tenants that were refused at a tenant's channels, for an admin to link.
    pub refused: Vec<(TenantNo, M365TenantId)>,
    /// The M365 tenants that the tenants' people sign in with.
    pub homes: Vec<(TenantNo, M365TenantId)>,
}

/// Who makes an install.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// A platform account or a seed file.
    Operator,
    /// An account of the channel's tenant.
    Owner,
}

/// An agent, its owner, and whether the server provides it.
#[derive(Debug)]
pub struct AgentFact {
    pub owner: TenantNo,
    pub managed: Option<ManagedAgentKey>,
    pub agent: Agent,
}

/// A channel, its bot, and its installs by M365 tenant.
#[derive(Debug)]
pub struct ChannelFact {
    pub channel: Channel,
    pub bot: Option<BotId>,
    pub installs: Vec<M365TenantId>,
}

/// An end company and its links.
#[derive(Clone, Debug)]
pub struct CompanyFact {
    pub owner: TenantNo,
    pub id: CompanyId,
    pub row: CompanyRow,
    pub links: Vec<M365TenantId>,
}

impl CompanyFact {
    /// The resolver's view of the company.
    pub fn company(&self) -> Company {
        Company {
            id: self.id.clone(),
            row: self.row,
        }
    }
}

impl ChannelFact {
    /// Registers the channel for a bot.
    pub fn of_bot(&mut self, name: &str) -> &mut Self {
        self.bot = Some(bot(name));
        self
    }

    /// Installs the channel's bot for an M365 tenant.
    pub fn installed_for(&mut self, name: &str) -> &mut Self {
        self.installs.push(directory(name));
        self
    }

    /// Disconnects the channel.
    pub fn disconnected(&mut self) -> &mut Self {
        self.channel.status = ChannelStatus::Disconnected;
        self
    }

    /// Deletes the channel.
    pub fn deleted(&mut self) -> &mut Self {
        self.channel.deleted = true;
        self
    }
}

/// A bot of this name, which must be valid.
pub fn bot(name: &str) -> BotId {
    BotId::parse(name).unwrap()
}

/// An M365 tenant of this name, which must be valid.
pub fn directory(name: &str) -> M365TenantId {
    M365TenantId::parse(name).unwrap()
}

/// A company of this name, which must be valid.
pub fn company(name: &str) -> CompanyId {
    CompanyId::parse(name).unwrap()
}

impl World {
    /// Adds a tenant with its `NEO_SUPPORT` agent, as the server does.
    pub fn add_tenant(&mut self, client_id: &str) -> TenantNo {
        let no = TenantNo(i64::try_from(self.tenants.len()).unwrap() + 1);
        self.tenants.push(Tenant {
            no,
            client_id: ClientId::parse(client_id).unwrap(),
            name: format!("The MSP {client_id}"),
            rate_limit_per_minute: None,
        });
        let support = self.add_agent(no, AgentId(900 + no.0), Audience::Msp);
        support.managed = Some(ManagedAgentKey::NeoSupport);
        no
    }

    /// Adds an enabled, conversational agent that is open to all users; the caller may change it.
    pub fn add_agent(
        &mut self,
        owner: TenantNo,
        id: AgentId,
        audience: Audience,
    ) -> &mut AgentFact {
        self.agents.push(AgentFact {
            owner,
            managed: None,
            agent: Agent {
                id,
                name: format!("Agent {id}"),
                autonomy_type: AutonomyType::Conversational,
                audience,
                access: Access::AllUsers,
                allowed_users: Vec::new(),
                state: AgentState::Enabled,
            },
        });
        self.agents.last_mut().unwrap()
    }

    /// Adds the youngest channel: `ACTIVE`, not deleted, without a bot; the caller may change it.
    pub fn add_channel(
        &mut self,
        owner: TenantNo,
        agent_id: AgentId,
        audience: Audience,
    ) -> &mut ChannelFact {
        let age = i64::try_from(self.channels.len()).unwrap() + 1;
        self.channels.push(ChannelFact {
            channel: Channel {
                id: ChannelId::new(Tick(age), 0),
                owner,
                audience,
                status: ChannelStatus::Active,
                deleted: false,
                agent_id,
                relay_prefix: None,
                show_agent_progress_steps: true,
                group_replies: GroupReplies::Mentioned,
            },
            bot: None,
            installs: Vec::new(),
        });
        self.channels.last_mut().unwrap()
    }

    /// Adds a company.
    pub fn add_company(
        &mut self,
        owner: TenantNo,
        id: CompanyId,
        links: impl IntoIterator<Item = M365TenantId>,
    ) {
        let row = CompanyRow(i64::try_from(self.companies.len()).unwrap() + 1);
        self.companies.push(CompanyFact {
            owner,
            id,
            row,
            links: links.into_iter().collect(),
        });
    }

    /// The tenant with this number.
    pub fn tenant_numbered(&self, no: TenantNo) -> &Tenant {
        self.tenants.iter().find(|tenant| tenant.no == no).unwrap()
    }

    /// The mutable agent with this number.
    pub fn agent_numbered(&mut self, id: AgentId) -> &mut Agent {
        let mut facts = self.agents.iter_mut();
        &mut facts.find(|fact| fact.agent.id == id).unwrap().agent
    }

    /// Whether the contract lets this install be made: one per bot and M365 tenant on the server, one
    /// per tenant and M365 tenant. Installs of deleted channels count, because they still occupy
    /// both, but those of another tenant give way to the operator's install.
    ///
    /// "Tenants share a bot if each tenant has a channel with this bot_id that is not deleted. If
    /// tenants share a bot, none of them can install the bot for an M365 tenant that another of
    /// them has linked to a company or has any install for. A platform account and a seed file can
    /// make such an install."
    pub fn may_install(
        &self,
        owner: TenantNo,
        bot: Option<&BotId>,
        directory: &M365TenantId,
        by: By,
    ) -> bool {
        let is_occupied = self.channels.iter().any(|fact| {
            let gives_way =
                by == By::Operator && fact.channel.deleted && fact.channel.owner != owner;
            let same_bot = bot.is_some() && fact.bot.as_ref() == bot && !gives_way;
            fact.installs.contains(directory) && (same_bot || fact.channel.owner == owner)
        });
        let mut sharing = Vec::new();
        for fact in &self.channels {
            if bot.is_some() && fact.bot.as_ref() == bot && !fact.channel.deleted {
                sharing.push(fact.channel.owner);
            }
        }
        let is_anothers = self.tenants.iter().any(|tenant| {
            let links = |company: &CompanyFact| {
                company.owner == tenant.no && company.links.contains(directory)
            };
            let installs = |fact: &ChannelFact| {
                fact.channel.owner == tenant.no && fact.installs.contains(directory)
            };
            tenant.no != owner
                && sharing.contains(&tenant.no)
                && (self.companies.iter().any(links) || self.channels.iter().any(installs))
        });
        match by {
            By::Operator => !is_occupied,
            By::Owner => !is_occupied && !is_anothers,
        }
    }
}

impl Directory for World {
    type Error = Infallible;

    fn tenant(&self, client_id: &ClientId) -> Result<Option<Tenant>, Infallible> {
        let found = self
            .tenants
            .iter()
            .find(|tenant| tenant.client_id == *client_id);
        Ok(found.cloned())
    }

    fn tenant_by_no(&self, no: TenantNo) -> Result<Tenant, Infallible> {
        Ok(self.tenant_numbered(no).clone())
    }

    fn installed_channel(
        &self,
        bot: &BotId,
        inbound: &M365TenantId,
    ) -> Result<Option<Channel>, Infallible> {
        let mut of_bot = self
            .channels
            .iter()
            .filter(|fact| fact.bot.as_ref() == Some(bot));
        let found = of_bot.find(|fact| {
            fact.channel.audience == Audience::EndUser && fact.installs.contains(inbound)
        });
        Ok(found.map(|fact| fact.channel.clone()))
    }

    fn active_channels(&self, tenant: TenantNo, bot: &BotId) -> Result<Vec<Channel>, Infallible> {
        let of_bot = self
            .channels
            .iter()
            .filter(|fact| fact.bot.as_ref() == Some(bot));
        Ok(of_bot
            .map(|fact| &fact.channel)
            .filter(|channel| channel.owner == tenant && !channel.deleted)
            .filter(|channel| channel.status == ChannelStatus::Active)
            .cloned()
            .collect())
    }

    fn agent(&self, tenant: TenantNo, id: AgentId) -> Result<Option<Agent>, Infallible> {
        let mut own = self.agents.iter().filter(|fact| fact.owner == tenant);
        let found = own.find(|fact| fact.agent.id == id);
        Ok(found.map(|fact| fact.agent.clone()))
    }

    fn managed_agent(
        &self,
        tenant: TenantNo,
        key: ManagedAgentKey,
    ) -> Result<Option<Agent>, Infallible> {
        let mut own = self.agents.iter().filter(|fact| fact.owner == tenant);
        let found = own.find(|fact| fact.managed == Some(key));
        Ok(found.map(|fact| fact.agent.clone()))
    }

    fn linked(&self, tenant: TenantNo, inbound: &M365TenantId) -> Result<Linked, Infallible> {
        let own = self
            .companies
            .iter()
            .filter(|company| company.owner == tenant);
        let mut carrying = own.filter(|company| company.links.contains(inbound));
        Ok(match (carrying.next(), carrying.count()) {
            (Some(only), 0) => Linked::One(only.company()),
            (None, _) => Linked::Not(0),
            (Some(_), others) => Linked::Not(others as u64 + 1),
        })
    }

    fn owns_directory(&self, tenant: TenantNo, inbound: &M365TenantId) -> Result<bool, Infallible> {
        let linked = self
            .companies
            .iter()
            .any(|company| company.owner == tenant && company.links.contains(inbound));
        let installed = self
            .channels
            .iter()
            .any(|fact| fact.channel.owner == tenant && fact.installs.contains(inbound));
        let refused = self.refused.contains(&(tenant, inbound.clone()));
        let home = self.homes.contains(&(tenant, inbound.clone()));
        Ok(linked || installed || refused || home)
    }

    fn is_home(&self, tenant: TenantNo, inbound: &M365TenantId) -> Result<bool, Infallible> {
        Ok(self.homes.contains(&(tenant, inbound.clone())))
    }

    fn company(&self, tenant: TenantNo, id: &CompanyId) -> Result<Option<Company>, Infallible> {
        let mut own = self.companies.iter().filter(|fact| fact.owner == tenant);
        Ok(own.find(|fact| fact.id == *id).map(CompanyFact::company))
    }
}
