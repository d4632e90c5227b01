//! The resolver and its model over random worlds, larger than an exhaustive test can cover.

use switchboard::model::names::{AgentId, TenantNo};
use switchboard::model::words::{
    Access, AgentState, Audience, AutonomyType, ChannelStatus, ManagedAgentKey, Role,
};
use switchboard::resolver::{Asker, Choice, Purpose, Request, may_use};

use crate::random::{self, Random};
use crate::resolver_model::{Question, lets_in};
use crate::resolver_tally::{Tally, on_two_threads};
use crate::world::{self, By, ChannelFact, World};

const USERS: [&str; 3] = ["user-1", "user-2", "user-3"];
const BOTS: [&str; 3] = ["bot-1", "bot-2", "bot-3"];
/// The last one names no organization.
const DIRECTORIES: [&str; 4] = ["directory-1", "directory-2", "directory-3", "common"];
const COMPANIES: [&str; 5] = ["c1", "c2", "c3", "c4", "c5"];

/// A world that the store could hold, except that sometimes an agent is missing or `NEO_SUPPORT`
/// does not answer.
fn random_world(random: &mut Random) -> World {
    let mut world = World::default();
    for client_id in ["msp-1", "msp-2", "msp-3", "msp-4"]
        .iter()
        .take(1 + random.below(4))
    {
        world.add_tenant(client_id);
    }
    world.agents.retain(|_| !random.chance(1, 20));
    let owners: Vec<TenantNo> = world.tenants.iter().map(|tenant| tenant.no).collect();
    for number in 0..random.below(9) {
        let id = AgentId(10 + number as i64);
        world.add_agent(random.pick(&owners), id, random.pick(Audience::ALL));
    }
    for fact in &mut world.agents {
        if random.chance(1, 6) {
            fact.agent.autonomy_type = random.pick(AutonomyType::ALL);
        }
        if random.chance(1, 6) {
            fact.agent.state = random.pick(AgentState::ALL);
        }
        if random.chance(1, 2) {
            fact.agent.access = random.pick(Access::ALL);
            let allowed = USERS.iter().take(random.below(3));
            fact.agent.allowed_users = allowed.map(|user| (*user).to_owned()).collect();
        }
    }
    for _ in 0..random.below(9) {
        let owner = random.pick(&owners);
        let id = world::company(random.pick(&COMPANIES));
        let mut links: Vec<&str> = Vec::new();
        while random.chance(3, 5) {
            let name = random.pick(&DIRECTORIES);
            if !links.contains(&name) {
                links.push(name);
            }
        }
        if !world
            .companies
            .iter()
            .any(|fact| fact.owner == owner && fact.id == id)
        {
            world.add_company(owner, id, links.into_iter().map(world::directory));
        }
    }
    for _ in 0..random.below(7) {
        add_random_channel(&mut world, random, &owners);
    }
    for owner in owners {
        for directory in DIRECTORIES.map(world::directory) {
            if random.chance(1, 6) {
                world.refused.push((owner, directory.clone()));
            }
            if random.chance(1, 8) {
                world.homes.push((owner, directory));
            }
        }
    }
    world
}

fn add_random_channel(world: &mut World, random: &mut Random, owners: &[TenantNo]) {
    let owner = random.pick(owners);
    let audience = random.pick(Audience::ALL);
    let fitting = world
        .agents
        .iter()
        .filter(|fact| fact.owner == owner && fact.agent.audience == audience);
    let mut agents: Vec<AgentId> = fitting.map(|fact| fact.agent.id).collect();
    if agents.is_empty() {
        let id = AgentId(100 + world.agents.len() as i64);
        world.add_agent(owner, id, audience);
        agents.push(id);
    }
    let agent = if random.chance(1, 25) {
        AgentId(999)
    } else {
        random.pick(&agents)
    };
    let bot = random.chance(5, 6).then(|| world::bot(random.pick(&BOTS)));
    let by = random.pick(&[By::Operator, By::Owner]);
    let installs = DIRECTORIES
        .map(world::directory)
        .into_iter()
        .filter(|directory| {
            audience == Audience::EndUser
                && random.chance(1, 3)
                && world.may_install(owner, bot.as_ref(), directory, by)
        });
    let installs = installs.collect();
    let fact = world.add_channel(owner, agent, audience);
    fact.bot = bot;
    fact.installs = installs;
    fact.channel.deleted = random.chance(1, 6);
    if random.chance(1, 4) {
        fact.channel.status = ChannelStatus::Disconnected;
    }
}

/// A question with independent random parts, or half of the time with parts of one of the channels,
/// so that each rule matches often.
fn random_question(world: &World, random: &mut Random) -> Question {
    let tenant = world.tenants[random.below(world.tenants.len())].clone();
    let asker = match random.below(4) {
        0 | 1 => Asker::Platform(tenant),
        2 => Asker::ServiceAccount(tenant),
        _ => Asker::User {
            tenant,
            id: random.pick(&USERS).to_owned(),
            role: random.pick(Role::ALL),
        },
    };
    let clients = ["msp-1", "msp-2", "msp-3", "msp-4", "No Client"];
    let companies = ["c1", "c2", "c3", "c4", "c5", "c6", "no/company"];
    // The HTTP layer refuses `client_id` of other callers. The resolver must ignore it.
    let client_id = random.chance(1, 2).then(|| random.pick(&clients));
    let end_company_id = random.chance(1, 3).then(|| random.pick(&companies));
    let mut request = Request {
        choice: random_choice(world, random),
        client_id: client_id.map(str::to_owned),
        bot_id: random.chance(3, 4).then(|| world::bot(random.pick(&BOTS))),
        inbound_tenant_id: random
            .chance(3, 4)
            .then(|| world::directory(random.pick(&DIRECTORIES))),
        end_company_id: end_company_id.map(str::to_owned),
    };
    if !world.channels.is_empty() && random.chance(1, 2) {
        let about: &ChannelFact = &world.channels[random.below(world.channels.len())];
        request.bot_id.clone_from(&about.bot);
        if !about.installs.is_empty() {
            let installed_for = &about.installs[random.below(about.installs.len())];
            request.inbound_tenant_id = Some(installed_for.clone());
        }
        if random.chance(1, 3) {
            request.choice = Choice::Agent(about.channel.agent_id);
        }
    }
    Question {
        asker,
        request,
        purpose: random.pick(&[Purpose::Create, Purpose::DryRun]),
    }
}

fn random_choice(world: &World, random: &mut Random) -> Choice {
    if world.agents.is_empty() || random.chance(2, 5) {
        Choice::Managed(ManagedAgentKey::NeoSupport)
    } else if random.chance(1, 10) {
        Choice::Agent(AgentId(999))
    } else {
        Choice::Agent(world.agents[random.below(world.agents.len())].agent.id)
    }
}

#[test]
fn the_resolver_agrees_with_the_model_over_random_larger_worlds() {
    let seed = random::seed();
    let worlds = random::number("SWITCHBOARD_WORLDS").unwrap_or(100_000);
    let tally = on_two_threads(|half| {
        let mut tally = Tally::default();
        for index in (half as u64..worlds).step_by(2) {
            let mut random = Random::new(seed.wrapping_add(index));
            let world = random_world(&mut random);
            let questions: Vec<Question> = (0..25)
                .map(|_| random_question(&world, &mut random))
                .collect();
            tally.compare(&world, &questions);
            for (fact, question) in world.agents.iter().zip(&questions) {
                let let_in = may_use(&fact.agent, &question.asker);
                assert_eq!(
                    let_in,
                    lets_in(&fact.agent, &question.asker),
                    "{fact:?} {question:?}"
                );
            }
        }
        tally
    });
    assert_eq!(tally.questions(), worlds * 25);
    if worlds >= 10_000 {
        tally.assert_each_outcome_was_seen();
    }
}
