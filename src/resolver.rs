//! Who answers, acting for which MSP, for which client company: facts in, verdict and reason out (contract, section 3).
//!
//! It knows neither HTTP nor SQL. It asks a [`Directory`] and returns a [`Resolution`] that carries the rule that
//! decided, or a [`Refused`] that says why nobody may answer.

use crate::error::{Code, Refusal};
use crate::model::caller::{Caller, Who};
use crate::model::ids::ChannelId;
use crate::model::names::{AgentId, BotId, ClientId, CompanyId, M365TenantId, Name, TenantNo};
pub use crate::model::tenant::Tenant;
use crate::model::words::{
    Access, AgentState, Audience, AutonomyType, ChannelStatus, ManagedAgentKey, Role, Rule,
};

/// What the resolver needs to know of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// Its number.
    pub id: AgentId,
    /// Its name.
    pub name: String,
    /// How it works.
    pub autonomy_type: AutonomyType,
    /// Whom it may talk to.
    pub audience: Audience,
    /// Which dashboard users may use it.
    pub access: Access,
    /// Those users, for `SPECIFIC_USERS`.
    pub allowed_users: Vec<String>,
    /// Whether it answers.
    pub state: AgentState,
}

/// What the resolver needs to know of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    /// Its id; ids grow with age.
    pub id: ChannelId,
    /// The MSP that owns it.
    pub owner: TenantNo,
    /// Whom it reaches.
    pub audience: Audience,
    /// Whether it works.
    pub status: ChannelStatus,
    /// Whether it was deleted.
    pub deleted: bool,
    /// The agent that it is bound to.
    pub agent_id: AgentId,
    /// Whether its clients show the agent's steps.
    pub show_agent_progress_steps: bool,
}

/// The end companies that carry one M365 tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Linked {
    /// Exactly one.
    One(CompanyId),
    /// None, or several: how many.
    Not(u64),
}

/// The facts that decide, as the store (or a test) knows them.
pub trait Directory {
    /// What can go wrong when a fact is looked up.
    type Error;

    /// The tenant with this `client_id`.
    fn tenant(&self, client_id: &ClientId) -> Result<Option<Tenant>, Self::Error>;

    /// The tenant with this number, which exists.
    fn tenant_by_no(&self, no: TenantNo) -> Result<Tenant, Self::Error>;

    /// The `END_USER` channel of this bot that is installed for this M365 tenant, deleted and disconnected ones too.
    fn installed_channel(
        &self,
        bot: &BotId,
        inbound: &M365TenantId,
    ) -> Result<Option<Channel>, Self::Error>;

    /// The tenant's living `ACTIVE` channels of this bot, oldest first.
    fn active_channels(&self, tenant: TenantNo, bot: &BotId) -> Result<Vec<Channel>, Self::Error>;

    /// The tenant's agent with this number.
    fn agent(&self, tenant: TenantNo, id: AgentId) -> Result<Option<Agent>, Self::Error>;

    /// The tenant's managed agent.
    fn managed_agent(
        &self,
        tenant: TenantNo,
        key: ManagedAgentKey,
    ) -> Result<Option<Agent>, Self::Error>;

    /// The tenant's end companies whose link is this M365 tenant.
    fn linked(&self, tenant: TenantNo, inbound: &M365TenantId) -> Result<Linked, Self::Error>;

    /// Whether the tenant has this end company.
    fn has_company(&self, tenant: TenantNo, company: &CompanyId) -> Result<bool, Self::Error>;
}

/// Who asks, as far as the resolution depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asker {
    /// A service account of the platform, at home in this tenant.
    Platform(Tenant),
    /// An ordinary service account of this tenant.
    ServiceAccount(Tenant),
    /// A dashboard user of this tenant.
    User {
        /// The user's tenant.
        tenant: Tenant,
        /// The user's id.
        id: String,
        /// What the user may do.
        role: Role,
    },
}

impl Asker {
    /// Who asks, as the resolution sees a caller; `None` for the token of one session, which asks for no other.
    pub fn of(caller: &Caller) -> Option<Self> {
        let tenant = caller.tenant.clone();
        match &caller.who {
            Who::ServiceAccount { platform: true, .. } => Some(Self::Platform(tenant)),
            Who::ServiceAccount {
                platform: false, ..
            } => Some(Self::ServiceAccount(tenant)),
            Who::DashboardUser { id, role, .. } => Some(Self::User {
                tenant,
                id: id.clone(),
                role: *role,
            }),
            Who::EndUserSession { .. } => None,
        }
    }

    fn tenant(&self) -> &Tenant {
        match self {
            Self::Platform(tenant) | Self::ServiceAccount(tenant) | Self::User { tenant, .. } => {
                tenant
            }
        }
    }
}

/// Which agent the caller names: exactly one of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// By number.
    Agent(AgentId),
    /// One that the server provides.
    Managed(ManagedAgentKey),
}

/// What is asked, its form checked but for `client_id`, which rule a never looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The agent that the caller names.
    pub choice: Choice,
    /// The acting tenant that a platform caller names.
    pub client_id: Option<String>,
    /// The bot that was written to.
    pub bot_id: Option<BotId>,
    /// The M365 tenant that the message came from.
    pub inbound_tenant_id: Option<M365TenantId>,
    /// The company that an admin or a service account wants to try the agent as.
    pub end_company_id: Option<String>,
}

/// Whether a session is to be made, or only asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// `POST /chat/sessions`.
    Create,
    /// `POST /chat/sessions/resolve`: admins and service accounts may ask as the relay would.
    DryRun,
}

/// Who answers, acting as whom, for which company.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// The rule that decided.
    pub rule: Rule,
    /// The agent that answers.
    pub agent: Agent,
    /// The acting tenant.
    pub tenant: Tenant,
    /// The company that the session is pinned to, or tried as.
    pub company: Option<CompanyId>,
    /// The channel that routed here.
    pub channel: Option<Channel>,
    /// The M365 tenant that the company was pinned by.
    pub pinned_by: Option<M365TenantId>,
    /// What was ignored, in sentences.
    pub warnings: Vec<&'static str>,
}

/// Why nobody may answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// `client_id` is not of its form.
    MalformedClientId,
    /// No such tenant.
    UnknownTenant,
    /// No such agent in the caller's tenant.
    UnknownAgent,
    /// No such company in the caller's tenant.
    UnknownCompany,
    /// A dry run that would be routed to another tenant.
    RoutedElsewhere,
    /// The channel that routes here is disconnected or deleted.
    ChannelDisconnected,
    /// The caller named another agent than the routed one.
    AgentNotAllowed,
    /// The agent does not chat.
    AgentNotConversational,
    /// The agent is disabled.
    AgentDisabled,
    /// The agent's `access`, or its audience, keeps this user out.
    AgentAccessDenied,
    /// An `END_USER` agent was selected without a company.
    EndCompanyRequired,
    /// Not exactly one company of the acting tenant carries the M365 tenant.
    EndCompanyNotMapped(NotMapped),
}

/// What the MSP's admin has to link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotMapped {
    /// The acting tenant.
    pub tenant: Tenant,
    /// The M365 tenant, if the caller named one.
    pub inbound: Option<M365TenantId>,
    /// How many companies carry it.
    pub linked_companies: u64,
    /// The channel that routed here.
    pub channel: ChannelId,
    /// The bot that was written to.
    pub bot: Option<BotId>,
}

/// An answer to the question, or a failure to look something up.
pub type Outcome<E> = Result<Result<Resolution, Refused>, E>;

const ROUTING_IGNORED: &str =
    "bot_id and inbound_tenant_id were ignored: only a platform service account is routed by them.";
const COMPANY_IGNORED_FOR_PLATFORM: &str =
    "end_company_id was ignored: a platform call is pinned by its M365 tenant.";
const COMPANY_IGNORED_FOR_MSP: &str =
    "end_company_id was ignored: an MSP agent works for no single company.";

/// Decides who answers.
pub fn resolve<D: Directory>(
    directory: &D,
    asker: &Asker,
    request: &Request,
    purpose: Purpose,
) -> Outcome<D::Error> {
    let names_a_route = request.bot_id.is_some() || request.inbound_tenant_id.is_some();
    match asker {
        Asker::Platform(home) => route(directory, home, request, Owner::Any),
        Asker::ServiceAccount(tenant)
        | Asker::User {
            tenant,
            role: Role::Admin,
            ..
        } if purpose == Purpose::DryRun && names_a_route => {
            let as_the_relay = Request {
                client_id: None,
                ..request.clone()
            };
            route(directory, tenant, &as_the_relay, Owner::Only(tenant.no))
        }
        Asker::ServiceAccount(_) | Asker::User { .. } => {
            let mut warnings = Vec::new();
            if names_a_route {
                warnings.push(ROUTING_IGNORED);
            }
            select(directory, asker, request, warnings)
        }
    }
}

/// Whose channels rule a may lead to.
#[derive(Clone, Copy)]
enum Owner {
    Any,
    Only(TenantNo),
}

/// What a rule found, before the agent and the company are looked at.
struct Route {
    rule: Rule,
    tenant: Tenant,
    channel: Option<Channel>,
}

/// Rules a, b and c.
fn route<D: Directory>(
    directory: &D,
    home: &Tenant,
    request: &Request,
    owner: Owner,
) -> Outcome<D::Error> {
    let found = match by_install(directory, request)? {
        Some(channel) => {
            if let Owner::Only(tenant) = owner
                && channel.owner != tenant
            {
                return Ok(Err(Refused::RoutedElsewhere));
            }
            if channel.deleted || channel.status == ChannelStatus::Disconnected {
                return Ok(Err(Refused::ChannelDisconnected));
            }
            Route {
                rule: Rule::WhiteLabelInstall,
                tenant: directory.tenant_by_no(channel.owner)?,
                channel: Some(channel),
            }
        }
        None => {
            let tenant = match acting_tenant(directory, home, request)? {
                Ok(tenant) => tenant,
                Err(refused) => return Ok(Err(refused)),
            };
            let channel = by_bot(directory, &tenant, request)?;
            let rule = if channel.is_some() {
                Rule::BotChannel
            } else {
                Rule::NeoSupport
            };
            Route {
                rule,
                tenant,
                channel,
            }
        }
    };

    let agent = match &found.channel {
        Some(channel) => directory.agent(found.tenant.no, channel.agent_id)?,
        None => directory.managed_agent(found.tenant.no, ManagedAgentKey::NeoSupport)?,
    };
    // A channel's agent and the managed one cannot be deleted; were one gone all the same, nobody else may step in.
    let Some(agent) = agent else {
        return Ok(Err(Refused::AgentDisabled));
    };
    if let Choice::Agent(named) = request.choice
        && named != agent.id
    {
        return Ok(Err(Refused::AgentNotAllowed));
    }
    if let Err(refused) = answers(&agent) {
        return Ok(Err(refused));
    }
    let white_label = found
        .channel
        .as_ref()
        .filter(|channel| channel.audience == Audience::EndUser);
    let company = match white_label {
        None => None,
        Some(channel) => match pin(directory, &found.tenant, channel, request)? {
            Ok(company) => Some(company),
            Err(not_mapped) => return Ok(Err(Refused::EndCompanyNotMapped(not_mapped))),
        },
    };
    let mut warnings = Vec::new();
    if request.end_company_id.is_some() {
        warnings.push(COMPANY_IGNORED_FOR_PLATFORM);
    }
    Ok(Ok(Resolution {
        rule: found.rule,
        agent,
        tenant: found.tenant,
        pinned_by: company.as_ref().and(request.inbound_tenant_id.clone()),
        company,
        channel: found.channel,
        warnings,
    }))
}

/// Rule a.
fn by_install<D: Directory>(directory: &D, request: &Request) -> Result<Option<Channel>, D::Error> {
    match (&request.bot_id, &request.inbound_tenant_id) {
        (Some(bot), Some(inbound)) => directory.installed_channel(bot, inbound),
        (Some(_), None) | (None, Some(_)) | (None, None) => Ok(None),
    }
}

/// The tenant that rules b and c act for.
fn acting_tenant<D: Directory>(
    directory: &D,
    home: &Tenant,
    request: &Request,
) -> Result<Result<Tenant, Refused>, D::Error> {
    let Some(named) = &request.client_id else {
        return Ok(Ok(home.clone()));
    };
    let Some(client_id) = ClientId::parse(named) else {
        return Ok(Err(Refused::MalformedClientId));
    };
    Ok(directory.tenant(&client_id)?.ok_or(Refused::UnknownTenant))
}

/// Rule b: only the acting tenant's own channels count, so that no MSP's agent is lent to another.
fn by_bot<D: Directory>(
    directory: &D,
    tenant: &Tenant,
    request: &Request,
) -> Result<Option<Channel>, D::Error> {
    let Some(bot) = &request.bot_id else {
        return Ok(None);
    };
    let mut channels = directory.active_channels(tenant.no, bot)?;
    if channels.len() > 1 {
        let from_a_company = match &request.inbound_tenant_id {
            Some(inbound) => directory.linked(tenant.no, inbound)? != Linked::Not(0),
            None => false,
        };
        if from_a_company {
            channels.retain(|channel| channel.audience == Audience::EndUser);
        } else if let Some(internal) = channels
            .iter()
            .position(|channel| channel.audience == Audience::Msp)
        {
            channels.swap(0, internal);
        }
    }
    Ok(channels.into_iter().next())
}

/// Whether this agent chats at all.
fn answers(agent: &Agent) -> Result<(), Refused> {
    if agent.autonomy_type != AutonomyType::Conversational {
        return Err(Refused::AgentNotConversational);
    }
    match agent.state {
        AgentState::Enabled => Ok(()),
        AgentState::Disabled => Err(Refused::AgentDisabled),
    }
}

/// The one company of the acting tenant that the message comes from.
fn pin<D: Directory>(
    directory: &D,
    tenant: &Tenant,
    channel: &Channel,
    request: &Request,
) -> Result<Result<CompanyId, NotMapped>, D::Error> {
    let linked = match &request.inbound_tenant_id {
        Some(inbound) => directory.linked(tenant.no, inbound)?,
        None => Linked::Not(0),
    };
    Ok(match linked {
        Linked::One(company) => Ok(company),
        Linked::Not(linked_companies) => Err(NotMapped {
            tenant: tenant.clone(),
            inbound: request.inbound_tenant_id.clone(),
            linked_companies,
            channel: channel.id,
            bot: request.bot_id.clone(),
        }),
    })
}

/// Whether the agent's `access` lets this caller in; it binds dashboard users only.
pub fn may_use(agent: &Agent, asker: &Asker) -> bool {
    match asker {
        Asker::Platform(_) | Asker::ServiceAccount(_) => true,
        Asker::User { id, role, .. } => match agent.access {
            Access::AllUsers => true,
            Access::AdminsOnly => *role == Role::Admin,
            Access::SpecificUsers => agent.allowed_users.contains(id),
        },
    }
}

/// Rule d.
fn select<D: Directory>(
    directory: &D,
    asker: &Asker,
    request: &Request,
    mut warnings: Vec<&'static str>,
) -> Outcome<D::Error> {
    let tenant = asker.tenant();
    let agent = match request.choice {
        Choice::Agent(id) => directory.agent(tenant.no, id)?,
        Choice::Managed(key) => directory.managed_agent(tenant.no, key)?,
    };
    let Some(agent) = agent else {
        return Ok(Err(Refused::UnknownAgent));
    };
    if agent.autonomy_type != AutonomyType::Conversational {
        return Ok(Err(Refused::AgentNotConversational));
    }
    if !may_use(&agent, asker) {
        return Ok(Err(Refused::AgentAccessDenied));
    }
    if agent.state == AgentState::Disabled {
        return Ok(Err(Refused::AgentDisabled));
    }
    let company = match agent.audience {
        Audience::Msp => {
            if request.end_company_id.is_some() {
                warnings.push(COMPANY_IGNORED_FOR_MSP);
            }
            None
        }
        Audience::EndUser => match tried_company(directory, asker, request)? {
            Ok(company) => Some(company),
            Err(refused) => return Ok(Err(refused)),
        },
    };
    Ok(Ok(Resolution {
        rule: Rule::Selected,
        agent,
        tenant: tenant.clone(),
        company,
        channel: None,
        pinned_by: None,
        warnings,
    }))
}

/// The company that an admin or a service account tries an `END_USER` agent as.
fn tried_company<D: Directory>(
    directory: &D,
    asker: &Asker,
    request: &Request,
) -> Result<Result<CompanyId, Refused>, D::Error> {
    if let Asker::User { role, .. } = asker
        && *role != Role::Admin
    {
        return Ok(Err(Refused::AgentAccessDenied));
    }
    let Some(named) = &request.end_company_id else {
        return Ok(Err(Refused::EndCompanyRequired));
    };
    // Text of another form names no company: the same answer as for one that the tenant lacks.
    let Some(company) = CompanyId::parse(named) else {
        return Ok(Err(Refused::UnknownCompany));
    };
    let known = directory.has_company(asker.tenant().no, &company)?;
    Ok(known.then_some(company).ok_or(Refused::UnknownCompany))
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::MalformedClientId => Self::invalid("client_id", ClientId::RULE),
            Refused::UnknownTenant
            | Refused::UnknownAgent
            | Refused::UnknownCompany
            | Refused::RoutedElsewhere => Self::new(Code::NotFound),
            Refused::ChannelDisconnected => Self::new(Code::ChannelDisconnected),
            Refused::AgentNotAllowed => Self::new(Code::AgentNotAllowed),
            Refused::AgentNotConversational => Self::new(Code::AgentNotConversational),
            Refused::AgentDisabled => Self::new(Code::AgentDisabled),
            Refused::AgentAccessDenied => Self::new(Code::AgentAccessDenied),
            Refused::EndCompanyRequired => Self::new(Code::EndCompanyRequired),
            Refused::EndCompanyNotMapped(not_mapped) => not_mapped.refusal(),
        }
    }
}

impl NotMapped {
    /// The refusal as the end user may see it: it names the MSP and the directory, and no company.
    pub fn refusal(&self) -> Refusal {
        let msp = &self.tenant.name;
        let message = match (&self.inbound, self.linked_companies) {
            (None, _) => format!(
                "This chat cannot tell which organisation you belong to, since the message names no Microsoft 365 tenant. \
                 Please contact {msp}."
            ),
            (Some(inbound), 0) => format!(
                "Your organisation is not set up for this chat yet. Please ask {msp}: \
                 its administrator has to link one company to the Microsoft 365 tenant {inbound}."
            ),
            (Some(inbound), 1) => format!(
                "Your organisation's set-up has changed since this chat began. Please start a new chat, or ask {msp}: \
                 its administrator has linked another company to the Microsoft 365 tenant {inbound}."
            ),
            (Some(inbound), several) => format!(
                "Your organisation is not set up for this chat yet. Please ask {msp}: \
                 its administrator has to leave exactly one company linked to the Microsoft 365 tenant {inbound}; {several} are linked now."
            ),
        };
        Refusal::new(Code::EndCompanyNotMapped)
            .saying(message)
            .with(
                "inbound_tenant_id",
                self.inbound.as_ref().map(M365TenantId::as_str),
            )
            .with("client_id", self.tenant.client_id.as_str())
            .with("linked_companies", self.linked_companies)
    }
}
