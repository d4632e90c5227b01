//! The resolver and its model over every small world.

use std::iter;

use switchboard::model::names::{AgentId, BotId, CompanyRow, M365TenantId, TenantNo};
use switchboard::model::words::{
    Access, AgentState, Audience, AutonomyType, ChannelStatus, ManagedAgentKey, Role,
};
use switchboard::resolver::{Asker, Choice, Purpose, Request, Tenant};

use crate::resolver_model::Question;
use crate::resolver_tally::{Tally, on_two_threads};
use crate::world::{self, CompanyFact, World};

/// A fault of a channel's agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Nothing,
    Disabled,
    Agentic,
    DisabledAndAgentic,
    Gone,
}

/// A channel of a small world. Its agent has the same audience.
#[derive(Clone, Copy, Debug)]
struct ChannelShape {
    owner: usize,
    audience: Audience,
    status: ChannelStatus,
    deleted: bool,
    bot: Option<usize>,
    /// One bit per M365 tenant.
    installs: u8,
    fault: Fault,
}

const NO_FAULT: &[Fault] = &[Fault::Nothing];
const FAULTS: &[Fault] = &[Fault::Disabled, Fault::Agentic, Fault::DisabledAndAgentic];
const ALL_FAULTS: &[Fault] = &[
    Fault::Nothing,
    Fault::Disabled,
    Fault::Agentic,
    Fault::DisabledAndAgentic,
    Fault::Gone,
];

fn channel_shapes(bot: Option<usize>, faults: &[Fault]) -> Vec<ChannelShape> {
    let mut shapes = Vec::new();
    for owner in 0..2 {
        for (audience, installs) in [
            (Audience::Msp, 0),
            (Audience::EndUser, 0),
            (Audience::EndUser, 0b01),
            (Audience::EndUser, 0b10),
            (Audience::EndUser, 0b11),
        ] {
            for &status in ChannelStatus::ALL {
                for deleted in [false, true] {
                    for &fault in faults {
                        shapes.push(ChannelShape {
                            owner,
                            audience,
                            status,
                            deleted,
                            bot,
                            installs,
                            fault,
                        });
                    }
                }
            }
        }
    }
    shapes
}

/// Whether the store accepts both: see [`World::may_install`].
fn can_stand_together(one: &ChannelShape, other: &ChannelShape) -> bool {
    let rivals = one.owner == other.owner || (one.bot.is_some() && one.bot == other.bot);
    !rivals || one.installs & other.installs == 0
}

/// A company of a small world: its owner, and the mask of its M365 tenants.
type CompanyShape = (usize, u8);

/// Up to two companies, sorted, because their order has no meaning.
fn company_shapes() -> Vec<Vec<CompanyShape>> {
    let each: Vec<CompanyShape> = (0..2)
        .flat_map(|owner| (0..4).map(move |links| (owner, links)))
        .collect();
    let mut shapes = vec![Vec::new()];
    for (index, one) in each.iter().enumerate() {
        shapes.push(vec![*one]);
        shapes.extend(each[index..].iter().map(|other| vec![*one, *other]));
    }
    shapes
}

/// A mask of two M365 tenants in the other order.
fn swapped(mask: u8) -> u8 {
    mask >> 1 | (mask & 1) << 1
}

/// Selects one of two worlds that differ only in the order of the M365 tenants.
fn is_the_chosen_twin(installs: &[u8], companies: &[CompanyShape]) -> bool {
    let swapped_installs: Vec<u8> = installs.iter().map(|mask| swapped(*mask)).collect();
    let mut swapped_companies: Vec<CompanyShape> = companies
        .iter()
        .map(|(owner, links)| (*owner, swapped(*links)))
        .collect();
    swapped_companies.sort_unstable();
    (installs, companies) <= (swapped_installs.as_slice(), swapped_companies.as_slice())
}

const FIRST_AGENT: AgentId = AgentId(11);
const SECOND_AGENT: AgentId = AgentId(12);
const OWN_SUPPORT: AgentId = AgentId(901);
const OTHER_SUPPORT: AgentId = AgentId(902);
const MANAGED: Choice = Choice::Managed(ManagedAgentKey::NeoSupport);

/// The names in small worlds, and the lists that are built from them once.
struct SmallWorlds {
    bots: [BotId; 2],
    directories: [M365TenantId; 3],
    companies: Vec<(Vec<CompanyShape>, Vec<CompanyFact>)>,
}

impl SmallWorlds {
    fn new() -> Self {
        let directories = ["directory-1", "directory-2", "directory-3"].map(world::directory);
        let companies =
            company_shapes()
                .into_iter()
                .map(|shape| {
                    let facts = shape.iter().zip([("c1", 1), ("c2", 2)]).map(
                        |((owner, links), (id, row))| CompanyFact {
                            owner: TenantNo(*owner as i64 + 1),
                            id: world::company(id),
                            row: CompanyRow(row),
                            links: (0..2)
                                .filter(|index| links >> index & 1 == 1)
                                .map(|index| directories[index].clone())
                                .collect(),
                        },
                    );
                    let facts = facts.collect();
                    (shape, facts)
                })
                .collect();
        Self {
            bots: ["bot-1", "bot-2"].map(world::bot),
            directories,
            companies,
        }
    }

    fn empty() -> World {
        let mut world = World::default();
        world.add_tenant("msp-1");
        world.add_tenant("msp-2");
        world
    }

    fn world(&self, channels: &[ChannelShape]) -> World {
        let mut world = Self::empty();
        for (shape, id) in channels.iter().zip([FIRST_AGENT, SECOND_AGENT]) {
            let owner = TenantNo(shape.owner as i64 + 1);
            if shape.fault != Fault::Gone {
                let agent = &mut world.add_agent(owner, id, shape.audience).agent;
                if matches!(shape.fault, Fault::Disabled | Fault::DisabledAndAgentic) {
                    agent.state = AgentState::Disabled;
                }
                if matches!(shape.fault, Fault::Agentic | Fault::DisabledAndAgentic) {
                    agent.autonomy_type = AutonomyType::Agentic;
                }
            }
            let fact = world.add_channel(owner, id, shape.audience);
            fact.channel.status = shape.status;
            fact.channel.deleted = shape.deleted;
            fact.bot = shape.bot.map(|index| self.bots[index].clone());
            for (index, directory) in self.directories[..2].iter().enumerate() {
                if shape.installs >> index & 1 == 1 {
                    fact.installs.push(directory.clone());
                }
            }
        }
        world
    }

    /// Compares the answers in this world with every set of companies. In every other world each M365
    /// tenant was refused at the caller's tenant, and in each world at the other tenant.
    fn compare(
        &self,
        tally: &mut Tally,
        world: &mut World,
        installs: &[u8],
        questions: &[Question],
    ) {
        for (shape, companies) in &self.companies {
            if is_the_chosen_twin(installs, shape) {
                world.companies.clone_from(companies);
                let refused_at = if tally.worlds.is_multiple_of(2) {
                    2..=2
                } else {
                    1..=2
                };
                world.refused = refused_at
                    .flat_map(|no| {
                        self.directories
                            .each_ref()
                            .map(|name| (TenantNo(no), name.clone()))
                    })
                    .collect();
                tally.compare(world, questions);
            }
        }
    }

    fn home() -> Tenant {
        Self::empty().tenant_numbered(TenantNo(1)).clone()
    }

    fn user(role: Role) -> Asker {
        Asker::User {
            tenant: Self::home(),
            id: "user-1".to_owned(),
            role,
        }
    }

    fn inbounds(&self) -> impl Iterator<Item = Option<&M365TenantId>> {
        iter::once(None).chain(self.directories.iter().map(Some))
    }

    /// Every question to a world of at most one channel. Pruned: only the platform sends
    /// `client_id` (the HTTP layer refuses it from others), and a platform caller's
    /// `end_company_id` is present or absent, because its text is never read.
    fn every_question(&self) -> Vec<Question> {
        let clients = [
            None,
            Some("msp-1"),
            Some("msp-2"),
            Some("msp-9"),
            Some("No Client"),
        ];
        let companies = [None, Some("c1"), Some("c2"), Some("c9")];
        let mut askers = vec![
            (Asker::Platform(Self::home()), &clients[..], &companies[..2]),
            (
                Asker::ServiceAccount(Self::home()),
                &clients[..1],
                &companies[..],
            ),
        ];
        askers.extend(
            Role::ALL
                .iter()
                .map(|&role| (Self::user(role), &clients[..1], &companies[..])),
        );
        let mut questions = Questions::default();
        for (asker, clients, companies) in &askers {
            for bot in iter::once(None).chain(self.bots.iter().map(Some)) {
                for inbound in self.inbounds() {
                    questions.bot = bot.cloned();
                    questions.inbound = inbound.cloned();
                    for purpose in [Purpose::Create, Purpose::DryRun] {
                        for client in *clients {
                            for company in *companies {
                                for choice in [FIRST_AGENT, OWN_SUPPORT, OTHER_SUPPORT] {
                                    questions.ask(
                                        asker,
                                        purpose,
                                        *client,
                                        Choice::Agent(choice),
                                        *company,
                                    );
                                }
                                questions.ask(asker, purpose, *client, MANAGED, *company);
                            }
                        }
                    }
                }
            }
        }
        questions.asked
    }

    /// The questions to a world of two channels with these bots. Left to worlds of at most one
    /// channel:
    ///
    /// * no bot, or a bot of no channel: the channels are then indistinguishable;
    /// * most questions that do not depend on the named agent: they are asked once, with
    ///   `NEO_SUPPORT`;
    /// * most of rule d, which reads no channel.
    fn questions_about_two_channels(&self, bots: &[BotId]) -> Vec<Question> {
        use Purpose::{Create, DryRun};
        let platform = Asker::Platform(Self::home());
        let service_account = Asker::ServiceAccount(Self::home());
        let admin = Self::user(Role::Admin);
        let user = Self::user(Role::User);
        let channels_agents = [FIRST_AGENT, SECOND_AGENT].map(Choice::Agent);
        let support = [OWN_SUPPORT, OTHER_SUPPORT].map(Choice::Agent);

        let mut questions = Questions::default();
        for bot in bots {
            for inbound in self.inbounds() {
                questions.bot = Some(bot.clone());
                questions.inbound = inbound.cloned();

                for choice in channels_agents.into_iter().chain(support).chain([MANAGED]) {
                    questions.ask(&platform, Create, None, choice, None);
                    questions.ask(&platform, Create, Some("msp-2"), choice, None);
                    questions.ask(&service_account, DryRun, None, choice, None);
                }
                for client in ["msp-1", "msp-9", "No Client"] {
                    questions.ask(&platform, Create, Some(client), MANAGED, None);
                }
                questions.ask(&platform, DryRun, None, MANAGED, None);
                questions.ask(&platform, DryRun, Some("msp-2"), MANAGED, None);
                questions.ask(&platform, Create, None, MANAGED, Some("c1"));
                questions.ask(&service_account, DryRun, None, MANAGED, Some("c1"));
                questions.ask(&admin, DryRun, None, MANAGED, None);

                for choice in channels_agents {
                    questions.ask(&service_account, Create, None, choice, Some("c1"));
                    questions.ask(&user, Create, None, choice, None);
                    questions.ask(&user, DryRun, None, choice, None);
                }
            }
        }
        questions.asked
    }
}

/// A list of questions under construction, about one bot and one M365 tenant at a time.
#[derive(Default)]
struct Questions {
    bot: Option<BotId>,
    inbound: Option<M365TenantId>,
    asked: Vec<Question>,
}

impl Questions {
    fn ask(
        &mut self,
        asker: &Asker,
        purpose: Purpose,
        client_id: Option<&str>,
        choice: Choice,
        end_company_id: Option<&str>,
    ) {
        self.asked.push(Question {
            asker: asker.clone(),
            request: Request {
                choice,
                client_id: client_id.map(str::to_owned),
                bot_id: self.bot.clone(),
                inbound_tenant_id: self.inbound.clone(),
                end_company_id: end_company_id.map(str::to_owned),
            },
            purpose,
        });
    }
}

/// Worlds without channels, for rule d: one agent of any type and access, without a binding.
fn compare_loose_agents(small: &SmallWorlds, tally: &mut Tally) {
    let questions = small.every_question();
    let accesses = [
        (Access::AllUsers, "user-1"),
        (Access::AdminsOnly, "user-1"),
        (Access::SpecificUsers, "user-1"),
        (Access::SpecificUsers, "user-2"),
    ];
    for owner in [TenantNo(1), TenantNo(2)] {
        for &audience in Audience::ALL {
            for &autonomy_type in AutonomyType::ALL {
                for &state in AgentState::ALL {
                    for (access, allowed) in accesses {
                        let mut world = SmallWorlds::empty();
                        let agent = &mut world.add_agent(owner, FIRST_AGENT, audience).agent;
                        agent.autonomy_type = autonomy_type;
                        agent.state = state;
                        agent.access = access;
                        agent.allowed_users.push(allowed.to_owned());
                        small.compare(tally, &mut world, &[], &questions);
                    }
                }
            }
        }
    }
}

/// Worlds of zero or one channel.
fn compare_up_to_one_channel(small: &SmallWorlds, tally: &mut Tally) {
    let questions = small.every_question();
    small.compare(tally, &mut small.world(&[]), &[], &questions);
    for bot in [None, Some(0)] {
        for shape in channel_shapes(bot, ALL_FAULTS) {
            let mut world = small.world(&[shape]);
            small.compare(tally, &mut world, &[shape.installs], &questions);
        }
    }
}

/// One half of the worlds of two channels. At most one of the two agents has a fault, because at
/// most one answers.
fn compare_two_channels(small: &SmallWorlds, half: usize, tally: &mut Tally) {
    // Up to renaming, the bot that occurs first is the first bot.
    for bots in [
        [None, Some(0)],
        [Some(0), None],
        [Some(0), Some(0)],
        [Some(0), Some(1)],
    ] {
        let carried = if bots.contains(&Some(1)) { 2 } else { 1 };
        let questions = small.questions_about_two_channels(&small.bots[..carried]);
        for faults in [[NO_FAULT, NO_FAULT], [FAULTS, NO_FAULT], [NO_FAULT, FAULTS]] {
            for (index, older) in channel_shapes(bots[0], faults[0]).into_iter().enumerate() {
                if index % 2 != half {
                    continue;
                }
                for younger in channel_shapes(bots[1], faults[1]) {
                    if can_stand_together(&older, &younger) {
                        let mut world = small.world(&[older, younger]);
                        let installs = [older.installs, younger.installs];
                        small.compare(tally, &mut world, &installs, &questions);
                    }
                }
            }
        }
    }
}

/// Every world of two tenants, two bots, two M365 tenants, at most two channels and at most two
/// companies, up to renaming. Left out: two channels without a bot, which nothing is routed to.
#[test]
fn the_resolver_agrees_with_the_model_over_every_small_world() {
    let tally = on_two_threads(|half| {
        let small = SmallWorlds::new();
        let mut tally = Tally::default();
        if half == 0 {
            compare_loose_agents(&small, &mut tally);
        } else {
            compare_up_to_one_channel(&small, &mut tally);
        }
        compare_two_channels(&small, half, &mut tally);
        tally
    });
    tally.assert_each_outcome_was_seen();
    assert!(tally.worlds > 500_000, "{} worlds", tally.worlds);
    assert!(
        tally.questions() > 100_000_000,
        "{} questions",
        tally.questions()
    );
}
