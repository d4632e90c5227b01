//! Tenants that share a bot: none of them can install the bot for an M365 tenant of another, but
//! the operator can. The platform releases a bot that the wrong tenant claimed.

use serde_json::{Value, json};
use switchboard::model::names::{AgentId, TenantNo};
use switchboard::model::words::Audience;
use switchboard::store::check;

use crate::installs::{assert_conflict, directory};
use crate::support::{
    ApiClient, CONTOSO, RELAY, SHARED_BOT, Server, WOODGROVE, agent, channel, from,
};
use crate::world::{self, By, World};

/// An M365 tenant that no fixture knows.
const FRESH: &str = "f4e50000-0000-4000-8000-000000000001";

/// The path of Northwind's installs of the shared bot.
fn northwinds_installs(server: &Server) -> String {
    format!("/channels/{}/installs", server.client_help_bot())
}

/// The path of Fabrikam's installs of the shared bot.
fn fabrikams_installs(server: &Server) -> String {
    let channels = server.fabrikam().get("/channels?audience=END_USER");
    format!("/channels/{}/installs", channels.expect(200).ids()[0])
}

/// The events of an action in a tenant's audit log, newest first.
fn events(client: &ApiClient, action: &str) -> Vec<Value> {
    let list = client.get(&format!("/audit-events?action={action}&page_size=200"));
    list.expect(200).data().as_array().unwrap().clone()
}

/// Links Fabrikam's new company to an M365 tenant.
fn link_at_fabrikam(server: &Server, directory: &str) {
    let company =
        json!({ "psa_company_id": "F-9", "psa_company_name": "Linked", "tenant_id": directory });
    server
        .fabrikam()
        .post("/end-companies", company)
        .expect(201);
}

#[test]
fn a_shared_bot_is_not_installed_for_a_directory_that_another_tenant_has_linked() {
    let server = Server::demo();
    let (northwind, fabrikam) = (server.northwind(), server.fabrikam());
    let path = northwinds_installs(&server);
    link_at_fabrikam(&server, FRESH);
    let mut message = from(FRESH);
    message["client_id"] = "fabrikam-support".into();
    for body in [
        directory(FRESH),
        directory(&FRESH.to_uppercase()),
        json!({ "end_client_tenant_id": FRESH, "psa_company_id": "1002" }),
        json!({ "end_client_tenant_id": FRESH, "psa_company_id": "NO-SUCH-COMPANY" }),
    ] {
        assert_conflict(&northwind.post(&path, body));
    }
    // Nothing was made or linked, and the client's messages still reach their tenant.
    let company = northwind.get("/end-companies/1002").expect(200).data();
    assert_eq!(company["tenant_id"], Value::Null);
    let session = server.relay().create_session(message).expect(201).data();
    assert_eq!(session["client_id"], "fabrikam-support");
    // Once the other tenant gives the M365 tenant up, it is free.
    fabrikam
        .put("/end-companies/F-9", json!({ "tenant_id": null }))
        .expect(200);
    northwind.post(&path, directory(FRESH)).expect(201);
    // A repeat makes nothing, so that a later link does not matter.
    fabrikam
        .put("/end-companies/F-9", json!({ "tenant_id": FRESH }))
        .expect(200);
    northwind.post(&path, directory(FRESH)).expect(200);
}

#[test]
fn each_refused_install_is_an_event_of_both_tenants_and_does_not_name_the_asker() {
    let server = Server::demo();
    let (northwind, fabrikam) = (server.northwind(), server.fabrikam());
    let path = northwinds_installs(&server);
    // Fabrikam has one with an install of the shared bot, the other with a link only.
    link_at_fabrikam(&server, FRESH);
    for id in [WOODGROVE, FRESH] {
        let reply = northwind.post(&path, directory(id));
        let request = reply.json()["meta"]["request_id"].clone();
        assert_conflict(&reply);
        let own = &events(&northwind, "request.refused")[0];
        assert_eq!(own["request_id"], request);
        assert_eq!(own["details"]["code"], "install_conflict");
        let mut told = events(&fabrikam, "install.refused")[0].clone();
        for name in ["id", "created_at"] {
            told.as_object_mut().unwrap().remove(name).unwrap();
        }
        assert_eq!(
            told,
            json!({
                "actor": { "kind": "operator", "id": "server", "name": null },
                "action": "install.refused",
                "target": id,
                "details": { "by": "another tenant", "bot_id": SHARED_BOT },
                "remote_address": null,
                "request_id": null,
            })
        );
        assert_eq!(own["details"]["end_client_tenant_id"], id);
    }
    let all = fabrikam.get("/audit-events?page_size=200").expect(200);
    assert!(!all.text().contains("northwind"), "{}", all.text());
    // A refusal that concerns no other tenant is in no other tenant's log.
    northwind
        .post(&path, json!({ "end_client_tenant_id": "0000face-0000-4000-8000-000000000002", "psa_company_id": "1001" }))
        .refused(409, "company_already_bound");
    let own = &events(&northwind, "request.refused")[0];
    assert_eq!(own["details"]["psa_company_id"], "1001");
    assert_eq!(events(&fabrikam, "install.refused").len(), 2);
    assert_eq!(events(&northwind, "install.refused").len(), 0);
}

#[test]
fn a_bot_that_cannot_follow_its_installs_is_an_event_of_the_tenant_in_the_way() {
    let server = Server::demo();
    let (northwind, fabrikam) = (server.northwind(), server.fabrikam());
    let claim = |client: &ApiClient, name: &str, agent: i64, bot: &str| {
        let channel = json!({ "internal_name": name, "audience": "END_USER", "agent_id": agent, "bot_id": bot });
        let id = client.post("/channels", channel).expect(201).id();
        let installs = format!("/channels/{id}/installs");
        client.post(&installs, directory(FRESH)).expect(201);
        format!("/channels/{id}")
    };
    // Fabrikam's channel is gone, and its install still has the bot.
    let gone = claim(&fabrikam, "Gone", 201, "first-bot");
    fabrikam.delete(&gone).expect(204);
    let path = claim(&northwind, "Second", 101, "second-bot");
    northwind
        .patch(&path, json!({ "bot_id": "first-bot" }))
        .refused(409, "install_conflict");
    let told = events(&fabrikam, "install.refused");
    assert_eq!(told.len(), 1);
    assert_eq!(told[0]["target"], FRESH);
    assert_eq!(told[0]["details"]["bot_id"], "first-bot");
}

#[test]
fn the_operators_install_replaces_that_of_another_tenants_deleted_channel() {
    for by_seed_file in [true, false] {
        let server = Server::demo();
        let (relay, northwind, fabrikam) = (server.relay(), server.northwind(), server.fabrikam());
        let path = northwinds_installs(&server);
        relay.post(&path, directory(FRESH)).expect(201);
        let install = northwind
            .get(&format!("{path}?page_size=1"))
            .expect(200)
            .ids()
            .swap_remove(0);
        let channel = server.client_help_bot();
        northwind
            .delete(&format!("/channels/{channel}"))
            .expect(204);
        link_at_fabrikam(&server, FRESH);

        // The holder is found, although its channel is gone.
        let holders = relay.get(&format!("/tenants?bot_id={SHARED_BOT}"));
        let mut holders: Vec<String> = holders
            .expect(200)
            .data()
            .as_array()
            .unwrap()
            .iter()
            .map(|held| held["client_id"].as_str().unwrap().to_owned())
            .collect();
        holders.sort();
        assert_eq!(holders, ["fabrikam-support", "northwind-it"]);
        let warned = warnings(&server, FRESH);
        assert!(
            warned[0].contains("A deleted channel of another tenant has the install"),
            "{warned:?}"
        );

        assert_conflict(&fabrikam.post(&fabrikams_installs(&server), directory(FRESH)));
        if by_seed_file {
            server.import_tenant(
                "fabrikam-support",
                json!({ "channels": [{ "internal_name": "Helpline bot", "installs": [directory(FRESH)] }] }),
            );
        } else {
            relay
                .post(&fabrikams_installs(&server), directory(FRESH))
                .expect(201);
        }
        let session = relay.create_session(from(FRESH)).expect(201).data();
        assert_eq!(session["client_id"], "fabrikam-support");
        let lost = &events(&northwind, "install.delete")[0];
        assert_eq!(lost["target"], install);
        assert_eq!(lost["details"]["end_client_tenant_id"], FRESH);
        let all = northwind.get("/audit-events?page_size=200").expect(200);
        assert!(!all.text().contains("fabrikam"), "{}", all.text());
        assert_eq!(warnings(&server, FRESH), Vec::<String>::new());
    }
}

#[test]
fn refused_installs_cannot_flood_another_tenants_audit_log() {
    let server = Server::demo();
    let path = northwinds_installs(&server);
    for _ in 0..70 {
        assert_conflict(&server.northwind().post(&path, directory(WOODGROVE)));
    }
    assert_eq!(events(&server.fabrikam(), "install.refused").len(), 60);
    // The tenant's own refusals have a quota of their own.
    let own = server
        .fabrikam()
        .post(&fabrikams_installs(&server), directory(CONTOSO));
    assert_conflict(&own);
    assert_eq!(events(&server.fabrikam(), "request.refused").len(), 1);
    server.advance_clock(60_000);
    assert_conflict(&server.northwind().post(&path, directory(WOODGROVE)));
    let newest = &events(&server.fabrikam(), "install.refused")[0];
    assert_eq!(newest["details"]["not_recorded_before"], 10);
}

/// The parts of Fabrikam's and Northwind's health that list a contested M365 tenant.
fn doubles(server: &Server) -> [Value; 2] {
    [server.fabrikam(), server.northwind()].map(|client| {
        let health = client.get("/end-companies/health").expect(200).data();
        health["installed_elsewhere"].clone()
    })
}

/// What `check` warns of that names an M365 tenant.
fn warnings(server: &Server, directory: &str) -> Vec<String> {
    let mut found = check::run(&server.app.store).unwrap().warnings;
    found.retain(|warning| warning.contains(directory));
    found
}

#[test]
fn the_operator_can_install_all_the_same_and_health_and_check_name_it() {
    let none = json!({ "count": 0, "items": [] });
    for by_seed_file in [true, false] {
        let server = Server::demo();
        link_at_fabrikam(&server, FRESH);
        assert_eq!(doubles(&server), [none.clone(), none.clone()]);
        assert_eq!(warnings(&server, FRESH), Vec::<String>::new());
        if by_seed_file {
            server.import_tenant(
                "northwind-it",
                json!({ "channels": [{ "internal_name": "Client help bot", "installs": [directory(FRESH)] }] }),
            );
        } else {
            let path = northwinds_installs(&server);
            server.relay().post(&path, directory(FRESH)).expect(201);
        }
        let [mut at_fabrikam, at_northwind] = doubles(&server);
        let own = at_fabrikam["items"][0]["channel_id"].take();
        let message = format!(
            "The bot {SHARED_BOT} is shared with another tenant, whose channel has the install for the M365 tenant {FRESH}: \
             messages from there go to the other tenant. Ask the platform's operator to remove that install, or remove your \
             link and install."
        );
        assert_eq!(
            at_fabrikam,
            json!({ "count": 1, "items": [{
                "end_client_tenant_id": FRESH, "bot_id": SHARED_BOT, "channel_id": null, "internal_name": "Helpline bot",
                "code": "install_conflict", "message": message,
            }] })
        );
        assert!(fabrikams_installs(&server).contains(own.as_str().unwrap()));
        // The tenant that got the install is not told whose client it is.
        assert_eq!(at_northwind, none);
        let told = format!("fabrikam-support: {message} The other tenant is northwind-it.");
        assert!(
            warnings(&server, FRESH).contains(&told),
            "{:?}",
            warnings(&server, FRESH)
        );
        // Messages act for the tenant that the operator chose.
        let session = server.relay().create_session(from(FRESH));
        session.refused(409, "end_company_not_mapped");
        server
            .northwind()
            .put("/end-companies/1002", json!({ "tenant_id": FRESH }))
            .expect(200);
        let session = server
            .relay()
            .create_session(from(FRESH))
            .expect(201)
            .data();
        assert_eq!(session["client_id"], "northwind-it");
    }
}

#[test]
fn a_new_link_does_not_tell_that_another_tenant_has_installed_the_directory() {
    let server = Server::demo();
    let northwind = server.northwind();
    let path = northwinds_installs(&server);
    northwind
        .post(
            &path,
            json!({ "end_client_tenant_id": FRESH, "psa_company_id": "1002" }),
        )
        .expect(201);
    server.advance_clock(1_000);
    link_at_fabrikam(&server, FRESH);
    // A link is the tenant's own word. Only the operator sees that it contradicts an install.
    assert_eq!(doubles(&server).map(|found| found["count"].clone()), [0, 0]);
    assert_eq!(warnings(&server, FRESH).len(), 1);
    assert_conflict(
        &server
            .fabrikam()
            .post(&fabrikams_installs(&server), directory(FRESH)),
    );
    // Neither does an install of a channel without a bot, which nothing contradicts.
    let other = "f4e50000-0000-4000-8000-000000000002";
    northwind.post(&path, directory(other)).expect(201);
    server.advance_clock(1_000);
    let channel = json!({ "internal_name": "No bot", "audience": "END_USER", "agent_id": 201 });
    let channel = server
        .fabrikam()
        .post("/channels", channel)
        .expect(201)
        .id();
    let installs = format!("/channels/{channel}/installs");
    server
        .fabrikam()
        .post(&installs, directory(other))
        .expect(201);
    assert_eq!(doubles(&server).map(|found| found["count"].clone()), [0, 0]);
    let told = warnings(&server, other);
    let told = told
        .iter()
        .filter(|warning| warning.contains("The other tenant is northwind-it."));
    assert_eq!(told.count(), 1);
    // An M365 tenant that was refused at the tenant's own channels is the tenant's.
    server.execute_sql(&format!(
        "INSERT INTO unlinked_tenants (tenant_no, m365_tenant_id, seq, attempts, first_seen_at, last_seen_at)
         SELECT tenant_no, '{FRESH}', seq, 1, 0, 0 FROM channels WHERE internal_name = 'Helpline bot'"
    ));
    let [at_fabrikam, at_northwind] = doubles(&server);
    assert_eq!(at_fabrikam["items"][0]["end_client_tenant_id"], FRESH);
    assert_eq!(at_northwind["count"], 0);
    let session = server
        .relay()
        .create_session(from(FRESH))
        .expect(201)
        .data();
    assert_eq!(session["client_id"], "northwind-it");
}

/// What Bravo has beside Alpha's channel, in one case of the walk below.
#[derive(Clone, Copy, Debug)]
struct Case {
    /// Bravo's channel of the bot: its audience, status and whether it is deleted.
    channel: Option<(&'static str, &'static str, bool)>,
    is_linked: bool,
    /// Whether Bravo's install is one of the shared bot or of another, and whether that other
    /// channel is deleted.
    install: Option<Option<bool>>,
    has_bot: bool,
    by: By,
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let channels = [
        None,
        Some(("END_USER", "ACTIVE", false)),
        Some(("END_USER", "DISCONNECTED", false)),
        Some(("END_USER", "ACTIVE", true)),
        Some(("MSP", "ACTIVE", false)),
        Some(("MSP", "ACTIVE", true)),
    ];
    for channel in channels {
        for is_linked in [false, true] {
            for install in [None, Some(None), Some(Some(false)), Some(Some(true))] {
                for has_bot in [true, false] {
                    for by in [By::Owner, By::Operator] {
                        let is_end_user =
                            channel.is_some_and(|(audience, ..)| audience == "END_USER");
                        if install == Some(None) && !is_end_user {
                            continue;
                        }
                        cases.push(Case {
                            channel,
                            is_linked,
                            install,
                            has_bot,
                            by,
                        });
                    }
                }
            }
        }
    }
    cases
}

fn case_directory(number: usize) -> String {
    format!("d14ec704-0000-4000-8000-{number:012}")
}

/// A case's two tenants for a seed file, with channels that SQL deletes afterwards.
fn seed_of(number: usize, case: Case) -> [Value; 2] {
    let (bot, id) = (format!("bot-{number}"), case_directory(number));
    let first_agent = 10_000 + number as i64 * 10;
    let installs = json!([directory(&id)]);
    let mut channels = Vec::new();
    if let Some((audience, status, is_deleted)) = case.channel {
        let bound = first_agent + i64::from(audience == "MSP");
        let name = if is_deleted { "deleted" } else { "shared" };
        let mut shared = channel(name, audience, &bot, bound);
        shared["status"] = status.into();
        if case.install == Some(None) {
            shared["installs"] = installs.clone();
        }
        channels.push(shared);
    }
    if let Some(Some(is_deleted)) = case.install {
        let name = if is_deleted { "deleted other" } else { "other" };
        let mut other = channel(name, "END_USER", &format!("other-{number}"), first_agent);
        other["installs"] = installs;
        channels.push(other);
    }
    let mut own = channel("own", "END_USER", &bot, first_agent + 2);
    if !case.has_bot {
        own["bot_id"] = Value::Null;
    }
    let link = case.is_linked.then_some(id);
    [
        json!({
            "client_id": format!("bravo-{number}"), "name": "Bravo",
            "agents": [agent(first_agent, "END_USER"), agent(first_agent + 1, "MSP")],
            "end_companies": [{ "psa_company_id": "B-1", "psa_company_name": "Client", "tenant_id": link }],
            "channels": channels,
        }),
        json!({
            "client_id": format!("alpha-{number}"), "name": "Alpha",
            "agents": [agent(first_agent + 2, "END_USER")],
            "channels": [own],
            "api_keys": [{ "name": "own", "key": alpha_key(number) }],
        }),
    ]
}

fn alpha_key(number: usize) -> String {
    format!("neo_sk_demo_alpha{number:08}")
}

/// The same case as facts: Bravo is tenant 1, Alpha tenant 2.
fn world_of(case: Case) -> World {
    let mut world = World::default();
    let bravo = world.add_tenant("bravo");
    world.add_tenant("alpha");
    if let Some((audience, status, is_deleted)) = case.channel {
        let audience = Audience::parse(audience).unwrap();
        let fact = world.add_channel(bravo, AgentId(1), audience).of_bot("bot");
        if status == "DISCONNECTED" {
            fact.disconnected();
        }
        if is_deleted {
            fact.deleted();
        }
        if case.install == Some(None) {
            fact.installed_for("directory");
        }
    }
    if let Some(Some(is_deleted)) = case.install {
        let fact = world.add_channel(bravo, AgentId(1), Audience::EndUser);
        fact.of_bot("other").installed_for("directory");
        if is_deleted {
            fact.deleted();
        }
    }
    let link = case.is_linked.then(|| world::directory("directory"));
    world.add_company(bravo, world::company("b-1"), link);
    world
}

#[test]
fn the_server_lets_exactly_those_installs_be_made_that_the_model_lets_be_made() {
    let cases = cases();
    let relay = json!({
        "client_id": "relay", "name": "Relay", "api_keys": [{ "name": "relay", "key": RELAY, "platform": true }],
    });
    let mut tenants = vec![relay];
    for (number, case) in cases.iter().enumerate() {
        tenants.extend(seed_of(number, *case));
    }
    let server = Server::of(&json!({ "tenants": tenants }));
    server.execute_sql(
        "UPDATE channels SET deleted_at = updated_at WHERE internal_name LIKE 'deleted%'",
    );
    let mut made = [0, 0];
    for (number, case) in cases.into_iter().enumerate() {
        let alpha = server.with_credential(&alpha_key(number));
        let channel = alpha.get("/channels").expect(200).ids().swap_remove(0);
        let path = format!("/channels/{channel}/installs");
        let asker = match case.by {
            By::Owner => alpha,
            By::Operator => server.relay(),
        };
        let reply = asker.post(&path, directory(&case_directory(number)));
        let bot = case.has_bot.then(|| world::bot("bot"));
        let alpha = TenantNo(2);
        let may = world_of(case).may_install(
            alpha,
            bot.as_ref(),
            &world::directory("directory"),
            case.by,
        );
        assert_eq!(
            reply.status,
            if may { 201 } else { 409 },
            "{case:?} {}",
            reply.text()
        );
        if !may {
            assert_conflict(&reply);
        }
        made[usize::from(may)] += 1;
    }
    assert!(made.iter().all(|count| *count > 20), "{made:?}");
}

#[test]
fn the_platform_finds_and_releases_a_bot_that_the_wrong_tenant_claimed() {
    let server = Server::demo();
    let (relay, northwind, fabrikam) = (server.relay(), server.northwind(), server.fabrikam());
    let bot = "b0700000-0000-4000-8000-00000c1a13ed";
    let claimed = json!({ "internal_name": "Claimed", "audience": "END_USER", "agent_id": 101, "bot_id": bot });
    let channel = northwind.post("/channels", claimed).expect(201).id();
    northwind
        .post(&format!("/channels/{channel}/installs"), directory(FRESH))
        .expect(201);
    let right =
        json!({ "internal_name": "Right", "audience": "END_USER", "agent_id": 201, "bot_id": bot });
    fabrikam
        .post("/channels", right.clone())
        .refused(409, "already_exists");

    // Which tenant has the bot, and through which channel?
    let holders = relay
        .get(&format!("/tenants?bot_id={bot}"))
        .expect(200)
        .data();
    let holders: Vec<&Value> = holders
        .as_array()
        .unwrap()
        .iter()
        .map(|held| &held["client_id"])
        .collect();
    assert_eq!(holders, [&json!("northwind-it")]);
    let sharing = relay
        .get(&format!("/tenants?bot_id={SHARED_BOT}"))
        .expect(200);
    assert_eq!(sharing.data().as_array().unwrap().len(), 2);
    let list = format!("/channels?client_id=northwind-it&bot_id={bot}");
    let listed = relay.get(&list).expect(200);
    assert_eq!(listed.ids(), std::slice::from_ref(&channel));
    let path = format!("/channels/{channel}?client_id=northwind-it");
    assert_eq!(relay.get(&path).expect(200).data()["bot_id"], bot);

    // Only the bot is taken.
    let reason = "must be null and the only field: the platform only releases another tenant's bot";
    for body in [
        json!({}),
        json!({ "bot_id": "another" }),
        json!({ "bot_id": null, "status": "DISCONNECTED" }),
        json!({ "display_name": "Mine" }),
    ] {
        relay.patch(&path, body).refused_field("bot_id", reason);
    }
    let released = relay
        .patch(&path, json!({ "bot_id": null }))
        .expect(200)
        .data();
    assert_eq!(
        (&released["bot_id"], &released["id"]),
        (&Value::Null, &json!(channel))
    );
    relay.patch(&path, json!({ "bot_id": null })).expect(200);
    let relays_own = relay
        .get("/audit-events?action=channel.release_bot")
        .expect(200)
        .data();
    let northwinds = northwind
        .get("/audit-events?action=channel.release_bot")
        .expect(200)
        .data();
    for log in [&relays_own, &northwinds] {
        assert_eq!(log.as_array().unwrap().len(), 1);
        assert_eq!(log[0]["target"], channel);
        assert_eq!(log[0]["actor"]["name"], "Teams relay (demo)");
        assert_eq!(
            log[0]["details"],
            json!({ "changed": { "bot_id": { "from": bot, "to": null } } })
        );
    }

    // The right tenant takes the bot, even for the M365 tenant that the other tenant had installed.
    let channel = fabrikam.post("/channels", right).expect(201).id();
    fabrikam
        .post(
            &format!("/channels/{channel}/installs"),
            json!({ "end_client_tenant_id": FRESH, "psa_company_id": "WOOD-01" }),
        )
        .refused(409, "company_already_bound");
    fabrikam
        .post(&format!("/channels/{channel}/installs"), directory(FRESH))
        .expect(201);
    let event = json!({ "bot_id": bot, "end_client_tenant_id": FRESH });
    let greeting = relay
        .post("/channels/install-events", event)
        .expect(200)
        .data();
    assert_eq!(greeting["matched"], true);
}

#[test]
fn only_the_platform_names_a_tenant_at_channels_and_it_finds_nothing_of_a_third() {
    let server = Server::demo();
    let (relay, northwind) = (server.relay(), server.northwind());
    let channel = server.client_help_bot();
    let of_one = format!("/channels/{channel}");
    for client_id in ["northwind-it", "fabrikam-support", "no-such-tenant"] {
        let query = format!("?client_id={client_id}");
        for path in [format!("/channels{query}"), format!("{of_one}{query}")] {
            northwind.get(&path).refused(403, "client_id_not_allowed");
        }
        northwind
            .patch(&format!("{of_one}{query}"), json!({ "bot_id": null }))
            .refused(403, "client_id_not_allowed");
    }
    for client_id in ["fabrikam-support", "no-such-tenant", "relay-platform"] {
        let path = format!("{of_one}?client_id={client_id}");
        relay.get(&path).not_found();
        relay.patch(&path, json!({ "bot_id": null })).not_found();
    }
    relay.get("/channels?client_id=no-such-tenant").not_found();
    relay.get(&of_one).not_found();
    relay.patch(&of_one, json!({ "bot_id": null })).not_found();
    let kept = northwind.get(&of_one).expect(200).data();
    assert_eq!(kept["bot_id"], SHARED_BOT);
}
