//! The resolver case by case, after section 3 of the contract.

use switchboard::model::ids::ChannelId;
use switchboard::model::names::{AgentId, TenantNo};
use switchboard::model::words::{
    Access, AgentState, Audience, AutonomyType, ManagedAgentKey, Role, Rule,
};
use switchboard::resolver::{Asker, Choice, NotMapped, Purpose, Refused, Request};

use crate::resolver_model::{Question, agreed};
use crate::world::{World, bot, company, directory};

use Audience::{EndUser, Msp};

const SUPPORT: Choice = Choice::Managed(ManagedAgentKey::NeoSupport);
const HELPER: AgentId = AgentId(1);
const DESK: AgentId = AgentId(2);
const OTHER_HELPER: AgentId = AgentId(3);

/// Two MSPs. Northwind has a helper for its clients' staff and a desk for its technicians, Fabrikam
/// has a helper.
fn two_msps() -> (World, TenantNo, TenantNo) {
    let mut world = World::default();
    let northwind = world.add_tenant("northwind-it");
    let fabrikam = world.add_tenant("fabrikam-it");
    world.add_agent(northwind, HELPER, EndUser);
    world.add_agent(northwind, DESK, Msp);
    world.add_agent(fabrikam, OTHER_HELPER, EndUser);
    (world, northwind, fabrikam)
}

/// [`two_msps`] with Northwind's helper installed for its company Contoso; also returns the
/// channel.
fn installed_for_contoso() -> (World, TenantNo, TenantNo, ChannelId) {
    let (mut world, northwind, fabrikam) = two_msps();
    let fact = world.add_channel(northwind, HELPER, EndUser);
    let channel = fact
        .of_bot("shared-bot")
        .installed_for("contoso")
        .channel
        .id;
    world.add_company(northwind, company("1001"), Some(directory("contoso")));
    (world, northwind, fabrikam, channel)
}

fn support_of(tenant: TenantNo) -> AgentId {
    AgentId(900 + tenant.0)
}

/// A message from the relay, whose home is this tenant.
fn relay(world: &World, home: TenantNo) -> Question {
    asks(
        Asker::Platform(world.tenant_numbered(home).clone()),
        SUPPORT,
    )
}

fn service_account(world: &World, home: TenantNo, agent: AgentId) -> Question {
    let tenant = world.tenant_numbered(home).clone();
    asks(Asker::ServiceAccount(tenant), Choice::Agent(agent))
}

fn user(world: &World, home: TenantNo, role: Role, agent: AgentId) -> Question {
    let asker = Asker::User {
        tenant: world.tenant_numbered(home).clone(),
        id: "ada".to_owned(),
        role,
    };
    asks(asker, Choice::Agent(agent))
}

fn asks(asker: Asker, choice: Choice) -> Question {
    Question {
        asker,
        request: Request {
            choice,
            client_id: None,
            bot_id: None,
            inbound_tenant_id: None,
            end_company_id: None,
        },
        purpose: Purpose::Create,
    }
}

impl Question {
    fn naming(mut self, agent: AgentId) -> Self {
        self.request.choice = Choice::Agent(agent);
        self
    }

    fn acting_for(mut self, client_id: &str) -> Self {
        self.request.client_id = Some(client_id.to_owned());
        self
    }

    fn written_to(mut self, name: &str) -> Self {
        self.request.bot_id = Some(bot(name));
        self
    }

    fn out_of(mut self, name: &str) -> Self {
        self.request.inbound_tenant_id = Some(directory(name));
        self
    }

    fn trying_as(mut self, company: &str) -> Self {
        self.request.end_company_id = Some(company.to_owned());
        self
    }

    fn dry_run(mut self) -> Self {
        self.purpose = Purpose::DryRun;
        self
    }

    fn answer(&self, world: &World) -> Result<Answer, Refused> {
        agreed(world, self).map(|resolution| Answer {
            rule: resolution.rule,
            agent: resolution.agent.id,
            tenant: resolution.tenant.no,
            channel: resolution.channel.map(|channel| channel.id),
            company: resolution.company.map(|company| company.id.to_string()),
            warnings: resolution.warnings.len(),
        })
    }
}

#[derive(Debug, PartialEq)]
struct Answer {
    rule: Rule,
    agent: AgentId,
    tenant: TenantNo,
    channel: Option<ChannelId>,
    company: Option<String>,
    warnings: usize,
}

fn by(rule: Rule, agent: AgentId, tenant: TenantNo) -> Answer {
    Answer {
        rule,
        agent,
        tenant,
        channel: None,
        company: None,
        warnings: 0,
    }
}

impl Answer {
    fn through(mut self, channel: ChannelId) -> Self {
        self.channel = Some(channel);
        self
    }

    fn held_to(mut self, company: &str) -> Self {
        self.company = Some(company.to_owned());
        self
    }

    fn with_a_warning(mut self) -> Self {
        self.warnings += 1;
        self
    }
}

#[test]
fn an_installed_bot_answers_for_its_owner_pinned_to_the_clients_company() {
    let (world, northwind, fabrikam, channel) = installed_for_contoso();
    let answer = by(Rule::WhiteLabelInstall, HELPER, northwind)
        .through(channel)
        .held_to("1001");
    let question = relay(&world, fabrikam)
        .written_to("shared-bot")
        .out_of("contoso");
    assert_eq!(question.answer(&world), Ok(answer));
}

#[test]
fn an_install_overrides_client_id_without_reading_it() {
    let (world, northwind, fabrikam, channel) = installed_for_contoso();
    for client_id in ["fabrikam-it", "nobody", "Not A Client"] {
        let answer = by(Rule::WhiteLabelInstall, HELPER, northwind)
            .through(channel)
            .held_to("1001");
        let question = relay(&world, fabrikam)
            .written_to("shared-bot")
            .out_of("contoso");
        assert_eq!(question.acting_for(client_id).answer(&world), Ok(answer));
    }
}

#[test]
fn a_disconnected_install_refuses_and_does_not_fall_through_to_an_internal_agent() {
    let (mut world, northwind, _, _) = installed_for_contoso();
    world.channels[0].disconnected();
    world.add_channel(northwind, DESK, Msp).of_bot("shared-bot");
    let question = relay(&world, northwind)
        .written_to("shared-bot")
        .out_of("contoso");
    assert_eq!(question.answer(&world), Err(Refused::ChannelDisconnected));
}

#[test]
fn a_deleted_channels_install_refuses_and_does_not_fall_through_either() {
    let (mut world, northwind, _, _) = installed_for_contoso();
    world.channels[0].deleted();
    world.add_channel(northwind, DESK, Msp).of_bot("shared-bot");
    let question = relay(&world, northwind)
        .written_to("shared-bot")
        .out_of("contoso");
    assert_eq!(question.answer(&world), Err(Refused::ChannelDisconnected));
}

#[test]
fn a_disconnected_install_is_reported_before_a_wrong_agent() {
    let (mut world, northwind, _, _) = installed_for_contoso();
    world.channels[0].disconnected();
    let question = relay(&world, northwind)
        .written_to("shared-bot")
        .out_of("contoso")
        .naming(DESK);
    assert_eq!(question.answer(&world), Err(Refused::ChannelDisconnected));
}

#[test]
fn a_directory_without_a_linked_company_is_refused_with_what_to_link() {
    let (mut world, northwind, fabrikam, channel) = installed_for_contoso();
    world.companies.clear();
    world.add_company(northwind, company("1002"), None);
    // Another MSP's company does not count, whatever its link.
    world.add_company(fabrikam, company("7"), Some(directory("contoso")));
    let question = relay(&world, fabrikam)
        .written_to("shared-bot")
        .out_of("contoso");
    let not_mapped = NotMapped {
        tenant: world.tenant_numbered(northwind).clone(),
        inbound: Some(directory("contoso")),
        linked_companies: 0,
        is_home: false,
        channel,
        bot: Some(bot("shared-bot")),
    };
    assert_eq!(
        question.answer(&world),
        Err(Refused::EndCompanyNotMapped(Box::new(not_mapped)))
    );
}

#[test]
fn two_companies_sharing_a_directory_are_refused() {
    let (mut world, northwind, _, channel) = installed_for_contoso();
    world.add_company(northwind, company("1002"), Some(directory("contoso")));
    let question = relay(&world, northwind)
        .written_to("shared-bot")
        .out_of("contoso");
    let not_mapped = NotMapped {
        tenant: world.tenant_numbered(northwind).clone(),
        inbound: Some(directory("contoso")),
        linked_companies: 2,
        is_home: false,
        channel,
        bot: Some(bot("shared-bot")),
    };
    assert_eq!(
        question.answer(&world),
        Err(Refused::EndCompanyNotMapped(Box::new(not_mapped)))
    );
}

#[test]
fn an_end_user_channel_reached_without_a_directory_is_refused() {
    let (world, northwind, _, channel) = installed_for_contoso();
    let not_mapped = NotMapped {
        tenant: world.tenant_numbered(northwind).clone(),
        inbound: None,
        linked_companies: 0,
        is_home: false,
        channel,
        bot: Some(bot("shared-bot")),
    };
    let question = relay(&world, northwind).written_to("shared-bot");
    assert_eq!(
        question.answer(&world),
        Err(Refused::EndCompanyNotMapped(Box::new(not_mapped)))
    );
}

#[test]
fn another_msps_agent_never_answers() {
    let (world, _, fabrikam, _) = installed_for_contoso();
    let question = relay(&world, fabrikam)
        .written_to("shared-bot")
        .out_of("elsewhere");
    let answer = by(Rule::NeoSupport, support_of(fabrikam), fabrikam).with_a_warning();
    assert_eq!(question.answer(&world), Ok(answer));
}

#[test]
fn a_technician_gets_the_internal_channel_before_an_older_one_for_clients() {
    let (mut world, northwind, _, _) = installed_for_contoso();
    let internal = world
        .add_channel(northwind, DESK, Msp)
        .of_bot("shared-bot")
        .channel
        .id;
    let question = relay(&world, northwind)
        .written_to("shared-bot")
        .out_of("northwind");
    let answer = by(Rule::BotChannel, DESK, northwind).through(internal);
    assert_eq!(question.answer(&world), Ok(answer));
}

#[test]
fn a_clients_staff_get_the_oldest_channel_for_clients_though_there_is_an_internal_one() {
    let (mut world, northwind, _) = two_msps();
    world.add_channel(northwind, DESK, Msp).of_bot("shared-bot");
    let oldest = world
        .add_channel(northwind, HELPER, EndUser)
        .of_bot("shared-bot")
        .channel
        .id;
    world
        .add_channel(northwind, HELPER, EndUser)
        .of_bot("shared-bot");
    world.add_company(northwind, company("1001"), Some(directory("contoso")));
    let question = relay(&world, northwind)
        .written_to("shared-bot")
        .out_of("contoso");
    let answer = by(Rule::BotChannel, HELPER, northwind)
        .through(oldest)
        .held_to("1001");
    assert_eq!(question.answer(&world), Ok(answer));
}

#[test]
fn an_internal_channel_that_stands_alone_answers_a_clients_staff_too() {
    let (mut world, northwind, _) = two_msps();
    let only = world
        .add_channel(northwind, DESK, Msp)
        .of_bot("shared-bot")
        .channel
        .id;
    world.add_company(northwind, company("1001"), Some(directory("contoso")));
    let question = relay(&world, northwind)
        .written_to("shared-bot")
        .out_of("contoso");
    let answer = by(Rule::BotChannel, DESK, northwind).through(only);
    assert_eq!(question.answer(&world), Ok(answer));
}

#[test]
fn disconnected_and_deleted_channels_do_not_count_among_a_tenants_own() {
    let (mut world, northwind, _) = two_msps();
    world
        .add_channel(northwind, DESK, Msp)
        .of_bot("shared-bot")
        .disconnected();
    world
        .add_channel(northwind, DESK, Msp)
        .of_bot("shared-bot")
        .deleted();
    let question = relay(&world, northwind).written_to("shared-bot");
    let answer = by(Rule::NeoSupport, support_of(northwind), northwind);
    assert_eq!(question.answer(&world), Ok(answer));
}

#[test]
fn client_id_names_the_tenant_that_the_relay_acts_for_and_must_exist() {
    let (world, northwind, fabrikam) = two_msps();
    let question = relay(&world, northwind);
    let answers = [
        (
            "fabrikam-it",
            Ok(by(Rule::NeoSupport, support_of(fabrikam), fabrikam)),
        ),
        ("nobody", Err(Refused::UnknownTenant)),
        ("Not A Client", Err(Refused::MalformedClientId)),
    ];
    for (client_id, answer) in answers {
        assert_eq!(
            question.clone().acting_for(client_id).answer(&world),
            answer
        );
    }
}

#[test]
fn the_relay_may_name_the_routed_agent_and_no_other() {
    let (world, northwind, _, channel) = installed_for_contoso();
    let question = relay(&world, northwind)
        .written_to("shared-bot")
        .out_of("contoso");
    let answer = by(Rule::WhiteLabelInstall, HELPER, northwind)
        .through(channel)
        .held_to("1001");
    assert_eq!(question.clone().naming(HELPER).answer(&world), Ok(answer));
    assert_eq!(
        question.naming(DESK).answer(&world),
        Err(Refused::AgentNotAllowed)
    );
}

#[test]
fn a_routed_agent_that_does_not_chat_is_reported_before_disabled_and_before_the_company() {
    let (mut world, northwind, _, _) = installed_for_contoso();
    world.companies.clear();
    let question = relay(&world, northwind)
        .written_to("shared-bot")
        .out_of("contoso");
    world.agent_numbered(HELPER).state = AgentState::Disabled;
    assert_eq!(question.answer(&world), Err(Refused::AgentDisabled));
    world.agent_numbered(HELPER).autonomy_type = AutonomyType::Agentic;
    assert_eq!(
        question.answer(&world),
        Err(Refused::AgentNotConversational)
    );
}

#[test]
fn a_deleted_routed_agent_is_reported_as_disabled_for_any_named_agent() {
    let (mut world, northwind, _, _) = installed_for_contoso();
    world.agents.retain(|fact| fact.agent.id != HELPER);
    let question = relay(&world, northwind)
        .written_to("shared-bot")
        .out_of("contoso");
    assert_eq!(question.answer(&world), Err(Refused::AgentDisabled));
    assert_eq!(
        question.naming(DESK).answer(&world),
        Err(Refused::AgentDisabled)
    );
}

#[test]
fn the_relays_end_company_id_is_ignored_with_a_warning() {
    let (mut world, northwind, _, channel) = installed_for_contoso();
    world.add_company(northwind, company("1002"), None);
    let question = relay(&world, northwind)
        .written_to("shared-bot")
        .out_of("contoso");
    let answer = by(Rule::WhiteLabelInstall, HELPER, northwind)
        .through(channel)
        .held_to("1001");
    assert_eq!(
        question.trying_as("1002").answer(&world),
        Ok(answer.with_a_warning())
    );
}

#[test]
fn another_tenants_agent_does_not_exist_for_a_caller_that_selects() {
    let (world, northwind, _) = two_msps();
    for question in [
        service_account(&world, northwind, OTHER_HELPER),
        user(&world, northwind, Role::Admin, OTHER_HELPER),
    ] {
        assert_eq!(question.answer(&world), Err(Refused::UnknownAgent));
    }
}

#[test]
fn an_agent_for_clients_is_tried_out_as_one_of_the_callers_own_companies() {
    let (mut world, northwind, fabrikam) = two_msps();
    world.add_company(northwind, company("1001"), None);
    world.add_company(fabrikam, company("7"), None);
    for question in [
        service_account(&world, northwind, HELPER),
        user(&world, northwind, Role::Admin, HELPER),
    ] {
        let answer = by(Rule::Selected, HELPER, northwind).held_to("1001");
        let trying = |company: &str| question.clone().trying_as(company).answer(&world);
        assert_eq!(question.answer(&world), Err(Refused::EndCompanyRequired));
        assert_eq!(trying("1001"), Ok(answer));
        assert_eq!(trying("7"), Err(Refused::UnknownCompany));
        assert_eq!(trying("no/company"), Err(Refused::UnknownCompany));
    }
}

#[test]
fn a_user_without_admin_role_cannot_use_an_agent_for_clients_with_or_without_a_company() {
    let (mut world, northwind, _) = two_msps();
    world.add_company(northwind, company("1001"), None);
    let question = user(&world, northwind, Role::User, HELPER);
    assert_eq!(question.answer(&world), Err(Refused::AgentAccessDenied));
    assert_eq!(
        question.trying_as("1001").answer(&world),
        Err(Refused::AgentAccessDenied)
    );
}

#[test]
fn a_company_for_an_internal_agent_is_ignored_with_a_warning() {
    let (world, northwind, _) = two_msps();
    let question = user(&world, northwind, Role::User, DESK).trying_as("anything");
    let answer = by(Rule::Selected, DESK, northwind).with_a_warning();
    assert_eq!(question.answer(&world), Ok(answer));
}

#[test]
fn a_list_of_users_restricts_admins_but_no_service_account() {
    let (mut world, northwind, _) = two_msps();
    let guarded = &mut world.add_agent(northwind, AgentId(4), Msp).agent;
    guarded.access = Access::SpecificUsers;
    guarded.allowed_users.push("grace".to_owned());
    let answer = by(Rule::Selected, AgentId(4), northwind);
    let admin = user(&world, northwind, Role::Admin, AgentId(4));
    assert_eq!(admin.answer(&world), Err(Refused::AgentAccessDenied));
    assert_eq!(
        service_account(&world, northwind, AgentId(4)).answer(&world),
        Ok(answer)
    );
}

#[test]
fn an_agent_for_admins_refuses_others_before_they_learn_that_it_is_disabled() {
    let (mut world, northwind, _) = two_msps();
    let guarded = &mut world.add_agent(northwind, AgentId(4), Msp).agent;
    guarded.access = Access::AdminsOnly;
    guarded.state = AgentState::Disabled;
    let admin = user(&world, northwind, Role::Admin, AgentId(4));
    let other = user(&world, northwind, Role::User, AgentId(4));
    assert_eq!(admin.answer(&world), Err(Refused::AgentDisabled));
    assert_eq!(other.answer(&world), Err(Refused::AgentAccessDenied));
}

#[test]
fn bot_and_directory_do_not_route_a_service_account() {
    let (world, northwind, _, _) = installed_for_contoso();
    let question = service_account(&world, northwind, DESK)
        .written_to("shared-bot")
        .out_of("contoso");
    let answer = by(Rule::Selected, DESK, northwind).with_a_warning();
    assert_eq!(question.answer(&world), Ok(answer));
}

#[test]
fn an_admins_dry_run_is_answered_as_the_relay_would_be_and_a_users_is_not() {
    let (world, northwind, _, channel) = installed_for_contoso();
    let routed = by(Rule::WhiteLabelInstall, HELPER, northwind)
        .through(channel)
        .held_to("1001");
    let chosen = by(Rule::Selected, support_of(northwind), northwind).with_a_warning();
    for (role, answer) in [(Role::Admin, routed), (Role::User, chosen)] {
        let mut question = user(&world, northwind, role, DESK)
            .written_to("shared-bot")
            .out_of("contoso");
        question.request.choice = SUPPORT;
        assert_eq!(question.dry_run().answer(&world), Ok(answer));
    }
}

#[test]
fn a_dry_run_without_bot_and_directory_is_a_selection() {
    let (world, northwind, _) = two_msps();
    let question = user(&world, northwind, Role::Admin, DESK).dry_run();
    let answer = by(Rule::Selected, DESK, northwind);
    assert_eq!(question.answer(&world), Ok(answer));
}

#[test]
fn a_dry_run_with_only_a_bot_is_routed() {
    let (mut world, northwind, _) = two_msps();
    let fact = world.add_channel(northwind, DESK, Msp);
    let channel = fact.of_bot("shared-bot").channel.id;
    let question = service_account(&world, northwind, DESK).written_to("shared-bot");
    let answer = by(Rule::BotChannel, DESK, northwind).through(channel);
    assert_eq!(question.dry_run().answer(&world), Ok(answer));
}

#[test]
fn a_dry_run_never_shows_another_tenants_channel_in_any_state() {
    let (mut world, northwind, fabrikam, _) = installed_for_contoso();
    let routed_elsewhere = Err(Refused::RoutedElsewhere(northwind));
    let question = service_account(&world, fabrikam, DESK)
        .written_to("shared-bot")
        .out_of("contoso");
    let question = question.dry_run();
    assert_eq!(question.answer(&world), Err(Refused::ForeignDirectory));
    // The reply shows no more about the MSP's own M365 tenant that the other MSP serves.
    world.add_company(fabrikam, company("7"), Some(directory("contoso")));
    assert_eq!(question.answer(&world), routed_elsewhere);
    world.channels[0].disconnected();
    assert_eq!(question.answer(&world), routed_elsewhere);
    world.channels[0].deleted();
    assert_eq!(question.answer(&world), routed_elsewhere);
}
