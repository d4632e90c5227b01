//! Decides which agent answers, for which tenant and which client company (contract, section 3).
//!
//! The resolver knows neither HTTP nor SQL. It reads facts from a [`Directory`]. It returns a
//! [`Resolution`] with the rule that decided, or a [`Refused`] with the reason why no agent may
//! answer.

use crate::error::{Code, Refusal};
use crate::model::caller::{Caller, Who};
use crate::model::directory::NoOrganization;
use crate::model::ids::ChannelId;
use crate::model::names::{
    AgentId, BotId, ClientId, CompanyId, CompanyRow, M365TenantId, Name, TenantNo,
};
pub use crate::model::tenant::Tenant;
use crate::model::words::{
    Access, AgentState, Audience, AutonomyType, ChannelStatus, GroupReplies, ManagedAgentKey, Role,
    Rule,
};

/// An agent, as far as the resolver needs one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// The agent's number.
    pub id: AgentId,
    /// The agent's name.
    pub name: String,
    /// How the agent works.
    pub autonomy_type: AutonomyType,
    /// The people that the agent may talk to.
    pub audience: Audience,
    /// Which dashboard users may use the agent.
    pub access: Access,
    /// The users that `SPECIFIC_USERS` admits.
    pub allowed_users: Vec<String>,
    /// Whether the agent answers.
    pub state: AgentState,
}

/// A channel, as far as the resolver needs one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    /// The channel's id. Newer channels have greater ids.
    pub id: ChannelId,
    /// The tenant that owns the channel.
    pub owner: TenantNo,
    /// The people that the channel reaches.
    pub audience: Audience,
    /// Whether the channel is in use.
    pub status: ChannelStatus,
    /// Whether the channel is deleted.
    pub deleted: bool,
    /// The agent that the channel is bound to.
    pub agent_id: AgentId,
    /// The text that the relay puts before each message.
    pub relay_prefix: Option<String>,
    /// Whether clients show the agent's steps.
    pub show_agent_progress_steps: bool,
    /// Which messages of a group the bot answers.
    pub group_replies: GroupReplies,
}

/// An end company.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Company {
    /// The id in the MSP's PSA.
    pub id: CompanyId,
    /// The row, which stays the company's own after a deletion.
    pub row: CompanyRow,
}

/// The end companies that are linked to one M365 tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Linked {
    /// Exactly one company.
    One(Company),
    /// Not exactly one: the number of companies.
    Not(u64),
}

/// The facts that the rules read, from the store or from a test.
pub trait Directory {
    /// The error of a failed read.
    type Error;

    /// The tenant with this `client_id`.
    fn tenant(&self, client_id: &ClientId) -> Result<Option<Tenant>, Self::Error>;

    /// The tenant with this number. It must exist.
    fn tenant_by_no(&self, no: TenantNo) -> Result<Tenant, Self::Error>;

    /// The `END_USER` channel of this bot that is installed for this M365 tenant.
    ///
    /// The channel may be deleted or disconnected.
    fn installed_channel(
        &self,
        bot: &BotId,
        inbound: &M365TenantId,
    ) -> Result<Option<Channel>, Self::Error>;

    /// The tenant's `ACTIVE` channels of this bot that are not deleted, oldest first.
    fn active_channels(&self, tenant: TenantNo, bot: &BotId) -> Result<Vec<Channel>, Self::Error>;

    /// The tenant's agent with this number.
    fn agent(&self, tenant: TenantNo, id: AgentId) -> Result<Option<Agent>, Self::Error>;

    /// The tenant's managed agent.
    fn managed_agent(
        &self,
        tenant: TenantNo,
        key: ManagedAgentKey,
    ) -> Result<Option<Agent>, Self::Error>;

    /// The tenant's end companies that are linked to this M365 tenant.
    fn linked(&self, tenant: TenantNo, inbound: &M365TenantId) -> Result<Linked, Self::Error>;

    /// Whether the M365 tenant is this tenant's own: its people sign in with it, one of its
    /// companies is linked to it, one of its channels is installed for it, or it was refused at one
    /// of its channels.
    fn owns_directory(&self, tenant: TenantNo, inbound: &M365TenantId)
    -> Result<bool, Self::Error>;

    /// Whether the tenant's own people sign in with this M365 tenant.
    fn is_home(&self, tenant: TenantNo, inbound: &M365TenantId) -> Result<bool, Self::Error>;

    /// The tenant's end company with this id.
    fn company(&self, tenant: TenantNo, id: &CompanyId) -> Result<Option<Company>, Self::Error>;
}

/// The caller, as far as the resolution depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asker {
    /// A platform service account whose own tenant is this one.
    Platform(Tenant),
    /// An ordinary service account of this tenant.
    ServiceAccount(Tenant),
    /// A dashboard user of this tenant.
    User {
        /// The user's tenant.
        tenant: Tenant,
        /// The user's id.
        id: String,
        /// The user's role.
        role: Role,
    },
}

impl Asker {
    /// The caller as the resolver sees it. `None` for a session token, which asks for no other
    /// session.
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

/// The agent that the caller names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// An agent by its number.
    Agent(AgentId),
    /// An agent that the server provides.
    Managed(ManagedAgentKey),
}

/// A request with valid fields, except `client_id`: rule a ignores it, so later rules validate it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The agent that the caller names.
    pub choice: Choice,
    /// The acting tenant that a platform caller names.
    pub client_id: Option<String>,
    /// The bot that received the message.
    pub bot_id: Option<BotId>,
    /// The M365 tenant that the message came from.
    pub inbound_tenant_id: Option<M365TenantId>,
    /// The company for which an admin or a service account tries the agent.
    pub end_company_id: Option<String>,
}

/// Whether the call creates a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// `POST /chat/sessions`.
    Create,
    /// `POST /chat/sessions/resolve`: admins and service accounts may ask as the relay would.
    DryRun,
}

/// The decision: the agent, the acting tenant and the company.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// The rule that decided.
    pub rule: Rule,
    /// The agent that answers.
    pub agent: Agent,
    /// The acting tenant.
    pub tenant: Tenant,
    /// The company that the session is pinned to, or that the agent is tried for.
    pub company: Option<Company>,
    /// The channel that routed the message.
    pub channel: Option<Channel>,
    /// The M365 tenant that the company was pinned by.
    pub pinned_by: Option<M365TenantId>,
    /// Sentences about fields that were ignored.
    pub warnings: Vec<&'static str>,
}

/// Why no agent may answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// `client_id` has an invalid format.
    MalformedClientId,
    /// The tenant does not exist.
    UnknownTenant,
    /// The caller's tenant does not have the agent.
    UnknownAgent,
    /// The caller's tenant does not have the company.
    UnknownCompany,
    /// The dry run asks about an M365 tenant that is not the caller's own.
    ForeignDirectory,
    /// The dry run would be routed to this other tenant.
    RoutedElsewhere(TenantNo),
    /// The channel that routes the message is disconnected or deleted.
    ChannelDisconnected,
    /// The caller named another agent than the routed one.
    AgentNotAllowed,
    /// The agent does not chat.
    AgentNotConversational,
    /// The agent is disabled.
    AgentDisabled,
    /// The agent's `access` or its audience excludes this user.
    AgentAccessDenied,
    /// The caller selected an `END_USER` agent without a company.
    EndCompanyRequired,
    /// The number of the acting tenant's companies that are linked to the M365 tenant is not one.
    EndCompanyNotMapped(Box<NotMapped>),
}

/// The facts that tell the MSP's administrator what to link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotMapped {
    /// The acting tenant.
    pub tenant: Tenant,
    /// The M365 tenant, if the caller named one.
    pub inbound: Option<M365TenantId>,
    /// The number of companies that are linked to the M365 tenant.
    pub linked_companies: u64,
    /// Whether the M365 tenant is the one with which the acting tenant's own people sign in.
    pub is_home: bool,
    /// The channel that routed the message.
    pub channel: ChannelId,
    /// The bot that received the message.
    pub bot: Option<BotId>,
}

/// A decision or a refusal, or the error of a failed read.
pub type Outcome<E> = Result<Result<Resolution, Refused>, E>;

const ROUTING_IGNORED: &str =
    "bot_id and inbound_tenant_id were ignored: they route only a platform service account.";
const COMPANY_IGNORED_FOR_PLATFORM: &str =
    "end_company_id was ignored: inbound_tenant_id decides the company of a platform call.";
const NO_CHANNEL: &str = "inbound_tenant_id led to no channel: the bot is not installed for it, and the acting tenant has no ACTIVE channel of the \
     bot for it. The tenant's own NEO_SUPPORT agent answers, which is for the MSP's technicians.";
const COMPANY_IGNORED_FOR_MSP: &str =
    "end_company_id was ignored: an agent with the audience MSP serves no client company.";

/// Decides which agent answers.
///
/// # Errors
/// The directory's error if a read fails. A refusal is inside the outcome.
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
            // Only the tenant's own facts are read for this, so that an M365 tenant that another
            // tenant serves cannot be told from one that nobody knows, by the reply or by its time.
            if let Some(inbound) = &request.inbound_tenant_id
                && !directory.owns_directory(tenant.no, inbound)?
            {
                return Ok(Err(Refused::ForeignDirectory));
            }
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

/// The tenants whose channels rule a may match.
#[derive(Clone, Copy)]
enum Owner {
    Any,
    Only(TenantNo),
}

/// The result of a rule, before the agent and the company are checked.
struct Route {
    rule: Rule,
    tenant: Tenant,
    channel: Option<Channel>,
}

/// Applies rules a, b and c.
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
                return Ok(Err(Refused::RoutedElsewhere(channel.owner)));
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
    // A channel's agent and the managed agent cannot be deleted. If one is missing all the same,
    // no other agent may answer instead.
    let Some(agent) = agent else {
        return Ok(Err(Refused::AgentDisabled));
    };
    if let Choice::Agent(named) = request.choice
        && named != agent.id
    {
        return Ok(Err(Refused::AgentNotAllowed));
    }
    if let Err(refused) = check_answers(&agent) {
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
            Err(not_mapped) => {
                return Ok(Err(Refused::EndCompanyNotMapped(Box::new(not_mapped))));
            }
        },
    };
    let mut warnings = Vec::new();
    if request.end_company_id.is_some() {
        warnings.push(COMPANY_IGNORED_FOR_PLATFORM);
    }
    if found.rule == Rule::NeoSupport && request.inbound_tenant_id.is_some() {
        warnings.push(NO_CHANNEL);
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

/// Returns the tenant that a platform call acts in, whether or not an agent answers there. `None`
/// if the request names a tenant that does not exist, and for other callers, who act in their own.
///
/// # Errors
/// The directory's error if a read fails.
pub fn acting<D: Directory>(
    directory: &D,
    asker: &Asker,
    request: &Request,
) -> Result<Option<Tenant>, D::Error> {
    match asker {
        Asker::Platform(home) => match by_install(directory, request)? {
            Some(channel) => directory.tenant_by_no(channel.owner).map(Some),
            None => Ok(acting_tenant(directory, home, request)?.ok()),
        },
        Asker::ServiceAccount(_) | Asker::User { .. } => Ok(None),
    }
}

/// Applies rule a.
fn by_install<D: Directory>(directory: &D, request: &Request) -> Result<Option<Channel>, D::Error> {
    match (&request.bot_id, &request.inbound_tenant_id) {
        (Some(bot), Some(inbound)) => directory.installed_channel(bot, inbound),
        (Some(_), None) | (None, Some(_)) | (None, None) => Ok(None),
    }
}

/// Returns the tenant that rules b and c act for.
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

/// Applies rule b to the acting tenant's own channels, so that no other MSP's agent answers.
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
        let is_from_company = match &request.inbound_tenant_id {
            Some(inbound) => directory.linked(tenant.no, inbound)? != Linked::Not(0),
            None => false,
        };
        if is_from_company {
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

/// Checks that this agent chats and is enabled.
fn check_answers(agent: &Agent) -> Result<(), Refused> {
    if agent.autonomy_type != AutonomyType::Conversational {
        return Err(Refused::AgentNotConversational);
    }
    match agent.state {
        AgentState::Enabled => Ok(()),
        AgentState::Disabled => Err(Refused::AgentDisabled),
    }
}

/// Returns the one company of the acting tenant that the message comes from. An M365 tenant that
/// names no organization is no company's, whatever an older version has stored.
fn pin<D: Directory>(
    directory: &D,
    tenant: &Tenant,
    channel: &Channel,
    request: &Request,
) -> Result<Result<Company, NotMapped>, D::Error> {
    let linked = match &request.inbound_tenant_id {
        Some(inbound) => directory.linked(tenant.no, inbound)?,
        None => Linked::Not(0),
    };
    let linked_companies = match linked {
        Linked::One(company) if is_organization(request.inbound_tenant_id.as_ref()) => {
            return Ok(Ok(company));
        }
        Linked::One(_) => 1,
        Linked::Not(companies) => companies,
    };
    let is_home = match &request.inbound_tenant_id {
        Some(inbound) => directory.is_home(tenant.no, inbound)?,
        None => false,
    };
    Ok(Err(NotMapped {
        tenant: tenant.clone(),
        inbound: request.inbound_tenant_id.clone(),
        linked_companies,
        is_home,
        channel: channel.id,
        bot: request.bot_id.clone(),
    }))
}

fn is_organization(inbound: Option<&M365TenantId>) -> bool {
    inbound.is_some_and(|inbound| inbound.no_organization().is_none())
}

/// Whether the agent's `access` admits this caller. It restricts dashboard users only.
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

/// Applies rule d.
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
        Audience::EndUser => match trial_company(directory, asker, request)? {
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

/// Returns the company for which an admin or a service account tries an `END_USER` agent.
fn trial_company<D: Directory>(
    directory: &D,
    asker: &Asker,
    request: &Request,
) -> Result<Result<Company, Refused>, D::Error> {
    if let Asker::User { role, .. } = asker
        && *role != Role::Admin
    {
        return Ok(Err(Refused::AgentAccessDenied));
    }
    let Some(named) = &request.end_company_id else {
        return Ok(Err(Refused::EndCompanyRequired));
    };
    // Text in another format cannot name a company, so the refusal is that of a missing company.
    let Some(id) = CompanyId::parse(named) else {
        return Ok(Err(Refused::UnknownCompany));
    };
    let company = directory.company(asker.tenant().no, &id)?;
    Ok(company.ok_or(Refused::UnknownCompany))
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::MalformedClientId => Self::invalid("client_id", ClientId::RULE),
            Refused::UnknownTenant
            | Refused::UnknownAgent
            | Refused::UnknownCompany
            | Refused::ForeignDirectory
            | Refused::RoutedElsewhere(_) => Self::new(Code::NotFound),
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

/// The message of a refusal that no link can resolve.
fn no_organization(inbound: &M365TenantId, msp: &str) -> String {
    match inbound.no_organization() {
        Some(NoOrganization::PrivateAccounts) => format!(
            "Private Microsoft accounts cannot be served here. Please write from your organization's account, or contact {msp}."
        ),
        Some(NoOrganization::MicrosoftServices | NoOrganization::Placeholder) | None => format!(
            "This chat serves organizations only, and the Microsoft 365 tenant {inbound} names none. Please contact {msp}."
        ),
    }
}

impl NotMapped {
    /// Makes a refusal that an end user may see.
    ///
    /// It names the MSP and the M365 tenant, but no company.
    pub fn refusal(&self) -> Refusal {
        let msp = &self.tenant.name;
        let message = match (&self.inbound, self.linked_companies) {
            (None, _) => format!(
                "This chat cannot tell which organization you belong to, because the message names no Microsoft 365 tenant. \
                 Please contact {msp}."
            ),
            (Some(inbound), _) if !is_organization(Some(inbound)) => no_organization(inbound, msp),
            (Some(_), companies) if self.is_home && companies != 1 => format!(
                "This chat is for the clients of {msp}, and you write from {msp}'s own Microsoft 365 tenant. \
                 Please use the chat for {msp}'s technicians."
            ),
            (Some(inbound), 0) => format!(
                "Your organization is not set up for this chat yet. Please contact {msp}: \
                 its administrator must link one company to the Microsoft 365 tenant {inbound}."
            ),
            (Some(inbound), 1) => format!(
                "Your organization's setup has changed since this chat began. Please start a new chat, or contact {msp}: \
                 its administrator has linked another company to the Microsoft 365 tenant {inbound}."
            ),
            (Some(inbound), several) => format!(
                "Your organization is not set up for this chat yet. Please contact {msp}: \
                 its administrator must leave exactly one company linked to the Microsoft 365 tenant {inbound}; {several} are linked now."
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
