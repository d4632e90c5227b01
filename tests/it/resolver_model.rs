//! A second, naive implementation of the contract's section 3, which the resolver must match.

use std::convert::Infallible;

use switchboard::model::names::{ClientId, M365TenantId};
use switchboard::model::words::{
    Access, AgentState, Audience, AutonomyType, ChannelStatus, ManagedAgentKey, Role, Rule,
};
use switchboard::resolver::{
    Agent, Asker, Channel, Choice, Directory, NotMapped, Purpose, Refused, Request, Resolution,
    Tenant, resolve,
};

use crate::world::{CompanyFact, World};

/// The ids that name no organization, as the contract lists them.
const NOBODYS: [&str; 9] = [
    "9188040d-6c67-4c5b-b112-36a304b66dad",
    "f8cdef31-a31e-4b4a-93e4-5f571e91255a",
    "d6d49420-f39b-4df7-a1dc-d59a935871db",
    "cab8a31a-1906-4287-a0d8-4eef66b95f6e",
    "00000000-0000-0000-0000-000000000000",
    "ffffffff-ffff-ffff-ffff-ffffffffffff",
    "common",
    "organizations",
    "consumers",
];

/// A caller and its request.
#[derive(Clone, Debug)]
pub struct Question {
    pub asker: Asker,
    pub request: Request,
    pub purpose: Purpose,
}

/// The resolution that the contract requires, if it allows one.
#[derive(Debug)]
struct Expected<'w> {
    rule: Rule,
    agent: &'w Agent,
    tenant: &'w Tenant,
    company: Option<&'w CompanyFact>,
    channel: Option<&'w Channel>,
    pinned_by: Option<&'w M365TenantId>,
    ignored_routing: bool,
    ignored_company: bool,
    led_nowhere: bool,
}

/// The outcome that the contract requires for a question.
fn expected<'w>(world: &'w World, question: &'w Question) -> Result<Expected<'w>, Refused> {
    let Question {
        asker,
        request,
        purpose,
    } = question;
    let names_a_route = request.bot_id.is_some() || request.inbound_tenant_id.is_some();
    let (is_platform, is_trusted) = match asker {
        Asker::Platform(_) => (true, true),
        Asker::ServiceAccount(_) => (false, true),
        Asker::User { role, .. } => (false, *role == Role::Admin),
    };
    let asks_as_the_relay = *purpose == Purpose::DryRun && is_trusted && names_a_route;
    if is_platform || asks_as_the_relay {
        routed(world, home(world, asker), is_platform, request)
    } else {
        selected(world, home(world, asker), asker, request)
    }
}

fn home<'w>(world: &'w World, asker: &Asker) -> &'w Tenant {
    match asker {
        Asker::Platform(tenant) | Asker::ServiceAccount(tenant) | Asker::User { tenant, .. } => {
            world.tenant_numbered(tenant.no)
        }
    }
}

/// Rules a to c.
fn routed<'w>(
    world: &'w World,
    home: &'w Tenant,
    is_platform: bool,
    request: &'w Request,
) -> Result<Expected<'w>, Refused> {
    let bot = request.bot_id.as_ref();
    let inbound = request.inbound_tenant_id.as_ref();

    // Rule a: "an END_USER channel of that bot is installed for that M365 tenant", in any state.
    let installed = world.channels.iter().find(|fact| {
        bot.is_some()
            && fact.bot.as_ref() == bot
            && fact.channel.audience == Audience::EndUser
            && fact
                .installs
                .iter()
                .any(|installed_for| Some(installed_for) == inbound)
    });

    // "The M365 tenant must be the tenant's own: its entra_tenant_id, among the tenant_ids of its
    // companies, the end_client_tenant_id of an install of one of its channels, or among its
    // unlinked M365 tenants. For every other one the reply is 404."
    if let (false, Some(inbound)) = (is_platform, inbound) {
        let mut own = Vec::new();
        for company in &world.companies {
            if company.owner == home.no {
                own.extend(&company.links);
            }
        }
        for fact in &world.channels {
            own.extend(
                fact.installs
                    .iter()
                    .filter(|_| fact.channel.owner == home.no),
            );
        }
        for (tenant, refused) in world.refused.iter().chain(&world.homes) {
            own.extend((*tenant == home.no).then_some(refused));
        }
        if !own.contains(&inbound) {
            return Err(Refused::ForeignDirectory);
        }
    }

    // "Whenever rule a matches another tenant's channel, whatever its state, the reply is 404,
    // before any other check."
    if let (false, Some(fact)) = (is_platform, installed)
        && fact.channel.owner != home.no
    {
        return Err(Refused::RoutedElsewhere(fact.channel.owner));
    }

    // "client_id is overridden and not even looked up" in a; elsewhere a malformed one is 400, an
    // unknown one 404, and without one the caller's home acts. Callers other than the platform are
    // answered "as the relay would be with that tenant's client_id".
    let client_id = request.client_id.as_ref().filter(|_| is_platform);
    let acting = match (installed, client_id) {
        (Some(fact), _) => world.tenant_numbered(fact.channel.owner),
        (None, None) => home,
        (None, Some(text)) => {
            let client_id = ClientId::parse(text).ok_or(Refused::MalformedClientId)?;
            let mut named = world
                .tenants
                .iter()
                .filter(|tenant| tenant.client_id == client_id);
            named.next().ok_or(Refused::UnknownTenant)?
        }
    };

    let carrying: Vec<&CompanyFact> = world
        .companies
        .iter()
        .filter(|company| company.owner == acting.no)
        .filter(|company| company.links.iter().any(|link| Some(link) == inbound))
        .collect();

    // Rule b: "the acting tenant has an ACTIVE channel registered for bot_id"; "only the acting
    // tenant's own count".
    let mut registered: Vec<_> = world
        .channels
        .iter()
        .filter(|fact| bot.is_some() && fact.bot.as_ref() == bot)
        .filter(|fact| fact.channel.owner == acting.no)
        .filter(|fact| fact.channel.status == ChannelStatus::Active && !fact.channel.deleted)
        .collect();
    // "Of several, if inbound_tenant_id is among the tenant_ids of its end companies, only END_USER
    // channels; else the MSP one first; among END_USER ones the oldest."
    if registered.len() > 1 {
        if !carrying.is_empty() {
            registered.retain(|fact| fact.channel.audience == Audience::EndUser);
        }
        registered
            .sort_by_key(|fact| (fact.channel.audience == Audience::EndUser, fact.channel.id));
    }

    let (rule, fact) = match (installed, registered.first()) {
        (Some(fact), _) => (Rule::WhiteLabelInstall, Some(fact)),
        (None, Some(fact)) => (Rule::BotChannel, Some(*fact)),
        (None, None) => (Rule::NeoSupport, None),
    };

    // "Order in a to c: channel_disconnected, agent_not_allowed, kind, state, company." A deleted
    // agent is indistinguishable from one that does not answer, and no agent that the caller names
    // matches it.
    if let (Rule::WhiteLabelInstall, Some(fact)) = (rule, fact)
        && (fact.channel.status == ChannelStatus::Disconnected || fact.channel.deleted)
    {
        return Err(Refused::ChannelDisconnected);
    }
    let mut agents = world.agents.iter().filter(|agent| agent.owner == acting.no);
    let agent = match fact {
        Some(fact) => agents.find(|agent| agent.agent.id == fact.channel.agent_id),
        None => agents.find(|agent| agent.managed == Some(ManagedAgentKey::NeoSupport)),
    };
    let agent = &agent.ok_or(Refused::AgentDisabled)?.agent;
    let names_another = match request.choice {
        Choice::Agent(id) => id != agent.id,
        Choice::Managed(ManagedAgentKey::NeoSupport) => false,
    };
    first_that_holds([
        (names_another, Refused::AgentNotAllowed),
        (
            agent.autonomy_type != AutonomyType::Conversational,
            Refused::AgentNotConversational,
        ),
        (agent.state != AgentState::Enabled, Refused::AgentDisabled),
    ])?;

    // "Pinned if the channel is END_USER, else none": to "the one end company of the acting tenant
    // whose tenant_ids have inbound_tenant_id. None, several, or no inbound_tenant_id: 409."
    // "Nor is a session ever pinned by an id that names no organization."
    let pinning = fact.filter(|fact| fact.channel.audience == Audience::EndUser);
    let is_nobodys = inbound.is_some_and(|inbound| NOBODYS.contains(&inbound.as_str()));
    let company = match (pinning, carrying.as_slice()) {
        (None, _) => None,
        (Some(_), [only]) if !is_nobodys => Some(*only),
        (Some(fact), none_or_several) => {
            return Err(Refused::EndCompanyNotMapped(Box::new(NotMapped {
                tenant: acting.clone(),
                inbound: inbound.cloned(),
                linked_companies: none_or_several.len() as u64,
                // "A technician who writes from the MSP's own directory is told that the chat is
                // for clients."
                is_home: world
                    .homes
                    .iter()
                    .any(|(tenant, home)| *tenant == acting.no && Some(home) == inbound),
                channel: fact.channel.id,
                bot: bot.cloned(),
            })));
        }
    };

    Ok(Expected {
        rule,
        agent,
        tenant: acting,
        company,
        channel: fact.map(|fact| &fact.channel),
        pinned_by: company.and(inbound),
        ignored_routing: false,
        ignored_company: request.end_company_id.is_some(),
        led_nowhere: rule == Rule::NeoSupport && inbound.is_some(),
    })
}

/// Rule d.
fn selected<'w>(
    world: &'w World,
    home: &'w Tenant,
    asker: &Asker,
    request: &'w Request,
) -> Result<Expected<'w>, Refused> {
    // "No such agent in the caller's tenant 404, kind 422, access 403, state 409, then the
    // company."
    let mut own = world.agents.iter().filter(|fact| fact.owner == home.no);
    let found = own.find(|fact| match request.choice {
        Choice::Agent(id) => fact.agent.id == id,
        Choice::Managed(key) => fact.managed == Some(key),
    });
    let agent = &found.ok_or(Refused::UnknownAgent)?.agent;
    first_that_holds([
        (
            agent.autonomy_type != AutonomyType::Conversational,
            Refused::AgentNotConversational,
        ),
        (!lets_in(agent, asker), Refused::AgentAccessDenied),
        (agent.state != AgentState::Enabled, Refused::AgentDisabled),
    ])?;

    // "An END_USER agent needs a company": an ADMIN or a service account names it, a USER may not.
    let may_try = match asker {
        Asker::Platform(_) | Asker::ServiceAccount(_) => true,
        Asker::User { role, .. } => *role == Role::Admin,
    };
    let known = world.companies.iter().find(|company| {
        company.owner == home.no && Some(company.id.as_str()) == request.end_company_id.as_deref()
    });
    let for_clients = agent.audience == Audience::EndUser;
    first_that_holds([
        (for_clients && !may_try, Refused::AgentAccessDenied),
        (
            for_clients && request.end_company_id.is_none(),
            Refused::EndCompanyRequired,
        ),
        (for_clients && known.is_none(), Refused::UnknownCompany),
    ])?;

    Ok(Expected {
        rule: Rule::Selected,
        agent,
        tenant: home,
        company: known.filter(|_| for_clients),
        channel: None,
        pinned_by: None,
        ignored_routing: request.bot_id.is_some() || request.inbound_tenant_id.is_some(),
        ignored_company: request.end_company_id.is_some() && !for_clients,
        led_nowhere: false,
    })
}

/// "access binds dashboard users only: ADMINS_ONLY, or SPECIFIC_USERS without that user."
pub fn lets_in(agent: &Agent, asker: &Asker) -> bool {
    match asker {
        Asker::Platform(_) | Asker::ServiceAccount(_) => true,
        Asker::User { id, role, .. } => match agent.access {
            Access::AllUsers => true,
            Access::AdminsOnly => *role == Role::Admin,
            Access::SpecificUsers => agent.allowed_users.iter().any(|allowed| allowed == id),
        },
    }
}

fn first_that_holds<const N: usize>(refusals: [(bool, Refused); N]) -> Result<(), Refused> {
    match refusals.into_iter().find(|(holds, _)| *holds) {
        Some((_, refused)) => Err(refused),
        None => Ok(()),
    }
}

impl Expected<'_> {
    /// Compares warnings by their subject, not by their text.
    fn is(&self, actual: &Resolution) -> bool {
        let warns_of = |field: &str| actual.warnings.iter().any(|text| text.starts_with(field));
        let warnings = [self.ignored_routing, self.ignored_company, self.led_nowhere];
        let warnings = warnings.into_iter().filter(|warns| *warns).count();
        self.rule == actual.rule
            && *self.agent == actual.agent
            && *self.tenant == actual.tenant
            && self.company.map(CompanyFact::company) == actual.company
            && self.channel == actual.channel.as_ref()
            && self.pinned_by == actual.pinned_by.as_ref()
            && self.ignored_routing == warns_of("bot_id and inbound_tenant_id")
            && self.ignored_company == warns_of("end_company_id")
            && self.led_nowhere == warns_of("inbound_tenant_id")
            && warnings == actual.warnings.len()
    }
}

/// The resolver's outcome, after asserting that the model has the same.
pub fn agreed(world: &World, question: &Question) -> Result<Resolution, Refused> {
    agreed_through(world, world, question)
}

/// [`agreed`] for a resolver that reads the world through this directory.
pub fn agreed_through(
    directory: &impl Directory<Error = Infallible>,
    world: &World,
    question: &Question,
) -> Result<Resolution, Refused> {
    let Ok(actual) = resolve(
        directory,
        &question.asker,
        &question.request,
        question.purpose,
    );
    let expected = expected(world, question);
    let agree = match (&expected, &actual) {
        (Ok(expected), Ok(actual)) => expected.is(actual),
        (Err(expected), Err(actual)) => expected == actual,
        (Ok(_), Err(_)) | (Err(_), Ok(_)) => false,
    };
    assert!(
        agree,
        "the model says {expected:#?}\nthe resolver says {actual:#?}\nto {question:#?}\nin {world:#?}"
    );
    actual
}
