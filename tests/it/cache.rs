//! The cache of the configuration: the next request sees a change, whatever made the change.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use switchboard::model::clock::Clock;
use switchboard::model::names::{AgentId, ClientId, TenantNo};
use switchboard::model::words::{ManagedAgentKey, Role};
use switchboard::resolver::{Asker, Choice, Purpose, Request, Tenant, resolve};
use switchboard::store::import;

use crate::authority::{AUDIENCE, Authority, NEWCOMER, current};
use crate::process::{NORTHWIND as NORTHWIND_KEY, Workspace};
use crate::random::{self, Random};
use crate::sign_in::signed_in;
use crate::support::{
    ApiClient, CONTOSO, DAY, DEMO, FOURTH_COFFEE, NORTHWIND, SECOND, SHARED_BOT, Server,
    TECHNICIAN_BOT, WOODGROVE, block_on, from,
};
use crate::world;

/// A change that is made twice: over HTTP, and by another process that writes to the same file.
struct Change {
    what: &'static str,
    ask: fn(&Server) -> String,
    before: &'static str,
    over_the_wire: fn(&Server),
    other_process: OtherProcess,
    after: &'static str,
}

/// What another process does.
enum OtherProcess {
    /// The process imports this for Northwind.
    Imports(fn() -> Value),
    /// The process executes this SQL, which no import does.
    Writes(&'static str),
}

/// The verdict, or the refusal, for a message to the shared bot from this M365 tenant.
fn verdict_for(server: &Server, directory: &str) -> String {
    let reply = server.relay().resolve(from(directory));
    if reply.status != 200 {
        let error = reply.error();
        return format!(
            "{} {}",
            error["code"].as_str().unwrap(),
            error["details"]["linked_companies"]
        );
    }
    let data = reply.data();
    format!(
        "{}: {} of {}, for {}",
        data["rule"].as_str().unwrap(),
        data["agent_name"].as_str().unwrap(),
        data["client_id"].as_str().unwrap(),
        data["end_company_id"]
    )
}

fn from_contoso(server: &Server) -> String {
    verdict_for(server, CONTOSO)
}

fn from_fourth_coffee(server: &Server) -> String {
    verdict_for(server, FOURTH_COFFEE)
}

/// Whether Northwind's account may select the disabled agent.
fn choosing_the_migration_helper(server: &Server) -> String {
    let ask = json!({ "agent_id": 103 });
    let reply = server.northwind().resolve(ask);
    reply.error()["code"].as_str().unwrap().to_owned()
}

/// Whether Northwind's key is valid, and its number of requests a minute.
fn northwind_s_key(server: &Server) -> String {
    let reply = server.northwind().get("/whoami");
    match reply.status {
        200 => format!("{:?}", reply.header("x-ratelimit-limit")),
        _ => reply.error()["details"]["reason"].to_string(),
    }
}

/// The MSP's name in the refusal of a message from an M365 tenant without a company.
fn the_msp_s_name(server: &Server) -> String {
    let refused = server.relay().resolve(from(FOURTH_COFFEE));
    let message = refused.error()["message"].to_string();
    let (_, rest) = message.split_once("Please contact ").unwrap();
    rest.split(':').next().unwrap().to_owned()
}

fn alters_agent(server: &Server, id: i64, mut change: Value) {
    let (path, northwind) = (format!("/agents/{id}"), server.northwind());
    change["version"] = northwind.get(&path).expect(200).data()["version"].clone();
    northwind.put(&path, change).expect(200);
}

fn alters_channel(server: &Server, change: Value) {
    let path = format!("/channels/{}", server.client_help_bot());
    server.northwind().patch(&path, change).expect(200);
}

fn links(server: &Server, company: &str, directory: Option<&str>) {
    let path = format!("/end-companies/{company}");
    let link = json!({ "tenant_id": directory });
    server.northwind().put(&path, link).expect(200);
}

fn administrator(server: &Server) -> ApiClient {
    signed_in(server, "northwind-it", Role::Admin)
}

fn key_of(server: &Server) -> String {
    let keys = administrator(server).get("/api-keys").expect(200);
    keys.ids().swap_remove(0)
}

const UNCHANGED: &str = "white_label_install: Service desk of northwind-it, for \"1001\"";

const CHANGES: &[Change] = &[
    Change {
        what: "an agent is disabled",
        ask: from_contoso,
        before: UNCHANGED,
        over_the_wire: |server| alters_agent(server, 101, json!({ "state": "DISABLED" })),
        other_process: OtherProcess::Imports(
            || json!({ "agents": [{ "agent_id": 101, "state": "DISABLED" }] }),
        ),
        after: "agent_disabled null",
    },
    Change {
        what: "an agent is renamed",
        ask: from_contoso,
        before: UNCHANGED,
        over_the_wire: |server| alters_agent(server, 101, json!({ "name": "First line" })),
        other_process: OtherProcess::Imports(
            || json!({ "agents": [{ "agent_id": 101, "name": "First line" }] }),
        ),
        after: "white_label_install: First line of northwind-it, for \"1001\"",
    },
    Change {
        what: "an agent is deleted",
        ask: choosing_the_migration_helper,
        before: "agent_disabled",
        over_the_wire: |server| {
            server.northwind().delete("/agents/103").expect(204);
        },
        other_process: OtherProcess::Writes("DELETE FROM agents WHERE agent_id = 103"),
        after: "not_found",
    },
    Change {
        what: "a channel is disconnected",
        ask: from_contoso,
        before: UNCHANGED,
        over_the_wire: |server| alters_channel(server, json!({ "status": "DISCONNECTED" })),
        other_process: OtherProcess::Imports(
            || json!({ "channels": [{ "internal_name": "Client help bot", "status": "DISCONNECTED" }] }),
        ),
        after: "channel_disconnected null",
    },
    Change {
        what: "a channel is deleted",
        ask: from_contoso,
        before: UNCHANGED,
        over_the_wire: |server| {
            let path = format!("/channels/{}", server.client_help_bot());
            server.northwind().delete(&path).expect(204);
        },
        other_process: OtherProcess::Writes(
            "UPDATE channels SET deleted_at = 1 WHERE internal_name = 'Client help bot'",
        ),
        after: "channel_disconnected null",
    },
    Change {
        what: "a channel gets another agent",
        ask: from_contoso,
        before: UNCHANGED,
        over_the_wire: |server| {
            let new = json!({ "name": "Night shift", "autonomy_type": "CONVERSATIONAL", "audience": "END_USER" });
            let made = server.northwind().post("/agents", new).expect(201).data();
            alters_channel(server, json!({ "agent_id": made["agent_id"] }));
        },
        other_process: OtherProcess::Imports(|| {
            json!({
                "agents": [{ "agent_id": 190, "name": "Night shift", "autonomy_type": "CONVERSATIONAL", "audience": "END_USER" }],
                "channels": [{ "internal_name": "Client help bot", "agent_id": 190 }],
            })
        }),
        after: "white_label_install: Night shift of northwind-it, for \"1001\"",
    },
    Change {
        what: "a channel's bot is another one",
        ask: from_contoso,
        before: UNCHANGED,
        over_the_wire: |server| alters_channel(server, json!({ "bot_id": "another-bot" })),
        other_process: OtherProcess::Imports(
            || json!({ "channels": [{ "internal_name": "Client help bot", "bot_id": "another-bot" }] }),
        ),
        after: "neo_support: Neo Support of relay-platform, for null",
    },
    Change {
        what: "an install is removed",
        ask: from_contoso,
        before: UNCHANGED,
        over_the_wire: |server| {
            let (channel, install) = (server.client_help_bot(), server.install_of(CONTOSO));
            let path = format!("/channels/{channel}/installs/{install}");
            server.northwind().delete(&path).expect(204);
        },
        other_process: OtherProcess::Writes(
            "DELETE FROM installs WHERE m365_tenant_id = 'ca5cade0-4ce5-4d0e-9b1d-0f0a51deca5e'",
        ),
        after: "neo_support: Neo Support of relay-platform, for null",
    },
    Change {
        what: "a company is unlinked",
        ask: from_contoso,
        before: UNCHANGED,
        over_the_wire: |server| links(server, "1001", None),
        other_process: OtherProcess::Imports(
            || json!({ "end_companies": [{ "psa_company_id": "1001", "tenant_id": null }] }),
        ),
        after: "end_company_not_mapped 0",
    },
    Change {
        what: "a second company is linked",
        ask: from_contoso,
        before: UNCHANGED,
        over_the_wire: |server| links(server, "1002", Some(CONTOSO)),
        other_process: OtherProcess::Imports(
            || json!({ "end_companies": [{ "psa_company_id": "1002", "tenant_id": CONTOSO }] }),
        ),
        after: "end_company_not_mapped 2",
    },
    Change {
        what: "a company is made with the link of another",
        ask: from_contoso,
        before: UNCHANGED,
        over_the_wire: |server| {
            let new = json!({ "psa_company_id": "1999", "psa_company_name": "New", "tenant_id": CONTOSO });
            server.northwind().post("/end-companies", new).expect(201);
        },
        other_process: OtherProcess::Imports(
            || json!({ "end_companies": [{ "psa_company_id": "1999", "psa_company_name": "New", "tenant_id": CONTOSO }] }),
        ),
        after: "end_company_not_mapped 2",
    },
    Change {
        what: "the last company but one is deleted",
        ask: from_fourth_coffee,
        before: "end_company_not_mapped 2",
        over_the_wire: |server| {
            let path = "/end-companies/1003";
            server.northwind().delete(path).expect(204);
        },
        other_process: OtherProcess::Writes(
            "DELETE FROM company_directories WHERE psa_company_id = '1003'",
        ),
        after: "white_label_install: Service desk of northwind-it, for \"1004\"",
    },
    Change {
        what: "a key is revoked",
        ask: northwind_s_key,
        before: "None",
        over_the_wire: |server| {
            let path = format!("/api-keys/{}", key_of(server));
            administrator(server).delete(&path).expect(204);
        },
        other_process: OtherProcess::Writes(
            "UPDATE api_keys SET revoked_at = 1 WHERE name = 'PSA integration (demo)'",
        ),
        after: "\"revoked\"",
    },
    Change {
        what: "a key's rotation has ended",
        ask: northwind_s_key,
        before: "None",
        over_the_wire: |server| {
            let path = format!("/api-keys/{}/rotate", key_of(server));
            administrator(server).post(&path, json!({})).expect(201);
            assert_eq!(northwind_s_key(server), "None");
            server.advance_clock(DAY);
        },
        other_process: OtherProcess::Writes(
            "UPDATE api_keys SET expires_at = 1 WHERE name = 'PSA integration (demo)'",
        ),
        after: "\"expired\"",
    },
    Change {
        what: "a tenant's rate limit is another one",
        ask: northwind_s_key,
        before: "None",
        over_the_wire: |server| {
            let (path, limit) = (
                "/tenants/northwind-it",
                json!({ "rate_limit_per_minute": 77 }),
            );
            server.relay().patch(path, limit).expect(200);
        },
        other_process: OtherProcess::Imports(|| json!({ "rate_limit_per_minute": 77 })),
        after: "Some(\"77\")",
    },
    Change {
        what: "a tenant is renamed",
        ask: the_msp_s_name,
        before: "Northwind IT",
        over_the_wire: |server| {
            let (path, name) = ("/tenants/northwind-it", json!({ "name": "Southwind" }));
            server.relay().patch(path, name).expect(200);
        },
        other_process: OtherProcess::Imports(|| json!({ "name": "Southwind" })),
        after: "Southwind",
    },
];

/// Imports through a second process on the same file.
fn import_from_other_process(server: &Server, mut tenant: Value) {
    tenant["client_id"] = "northwind-it".into();
    let world = json!({ "tenants": [tenant] }).to_string();
    let seed = switchboard::input::seed::parse(&world, crate::support::ENVIRONMENT).unwrap();
    let other = server.database().open(Clock::System);
    let operator = switchboard::model::caller::Actor {
        kind: switchboard::model::words::CallerKind::Operator,
        id: "test".to_owned(),
        name: None,
    };
    other
        .write_now(move |tx| import::apply(tx, &seed, &operator))
        .unwrap()
        .unwrap();
}

fn assert_is_seen(change: &Change, who: &str, make: impl FnOnce(&Server)) {
    let server = Server::demo();
    // Twice: the second request reads what the first one cached.
    for _ in 0..2 {
        assert_eq!((change.ask)(&server), change.before, "{}", change.what);
    }
    make(&server);
    for _ in 0..2 {
        assert_eq!((change.ask)(&server), change.after, "{} {who}", change.what);
    }
}

#[test]
fn a_change_over_http_is_seen_by_the_next_request() {
    for change in CHANGES {
        assert_is_seen(change, "over the wire", change.over_the_wire);
    }
}

#[test]
fn a_change_by_another_process_is_seen_by_the_next_request() {
    for change in CHANGES {
        assert_is_seen(change, "beside the server", |server| {
            match change.other_process {
                OtherProcess::Imports(tenant) => import_from_other_process(server, tenant()),
                OtherProcess::Writes(sql) => {
                    assert_eq!(server.execute_sql(sql), 1, "{}", change.what)
                }
            }
        });
    }
}

#[test]
fn a_change_by_the_command_line_is_seen_by_the_next_request() {
    let workspace = Workspace::with_demo_world();
    let server = workspace.serve_demo_world();
    let client = server.client();
    let asks = |agent: i64| {
        let body = json!({ "agent_id": agent });
        let reply = client.post(NORTHWIND_KEY, "/chat/sessions/resolve", &body);
        (reply.status, reply.json()["data"]["agent_name"].clone())
    };
    for name in ["Technician assistant", "Second", "Third"] {
        let tenant =
            json!({ "client_id": "northwind-it", "agents": [{ "agent_id": 102, "name": name }] });
        let file = workspace.file("seed.json", json!({ "tenants": [tenant] }).to_string());
        workspace.ok(["--env", "demo", "import", &file]);
        assert_eq!(asks(102), (200, name.into()));
        assert_eq!(asks(102), (200, name.into()));
    }
    let keys = workspace.ok(["keys", "list", "--tenant", "northwind-it"]);
    let id = keys.split_whitespace().next().unwrap();
    workspace.ok(["keys", "revoke", id]);
    assert_eq!(asks(102).0, 401);
}

#[test]
fn a_cached_key_still_expires() {
    let server = Server::demo();
    server.execute_sql(&format!(
        "UPDATE api_keys SET expires_at = {} WHERE tenant_no = (SELECT tenant_no FROM tenants WHERE client_id = 'northwind-it')",
        crate::support::START + SECOND
    ));
    server.northwind().get("/whoami").expect(200);
    server.advance_clock(SECOND - 1);
    server.northwind().get("/whoami").expect(200);
    server.advance_clock(1);
    let reply = server.northwind().get("/whoami").expect(401);
    assert_eq!(reply.error()["details"]["reason"], "expired");
}

#[test]
fn a_key_that_was_unknown_is_valid_as_soon_as_it_exists() {
    let server = Server::demo();
    let key = "neo_sk_demo_notYetMade123456";
    for _ in 0..2 {
        server.with_credential(key).get("/whoami").expect(401);
    }
    import_from_other_process(
        &server,
        json!({ "api_keys": [{ "name": "new", "key": key }] }),
    );
    server.with_credential(key).get("/whoami").expect(200);
}

#[test]
fn a_sign_out_is_seen_by_the_next_request_for_every_way_to_end_a_sign_in() {
    let server = Server::demo();
    let (one, other) = (administrator(&server), administrator(&server));
    for person in [&one, &other, &one, &other] {
        person.get("/whoami").expect(200);
    }
    one.post("/auth/sign-out", json!({})).expect(204);
    one.get("/whoami").expect(401);
    other.get("/whoami").expect(200);
    assert_eq!(
        server.execute_sql("UPDATE sign_ins SET ended_at = 1 WHERE ended_at IS NULL"),
        1
    );
    other.get("/whoami").expect(401);
}

#[test]
fn a_user_s_role_and_name_are_seen_by_the_next_request() {
    let authority = Authority::new();
    let url = format!("--entra-authority={}", authority.url());
    let server = Server::with_world(DEMO, &[&url, "--entra-audience", AUDIENCE]);
    let person = server.with_credential(&current().issue(&authority.claims(NEWCOMER)));
    let is = |role: &str, name: &str| {
        for _ in 0..2 {
            let data = person.get("/whoami").expect(200).data();
            assert_eq!((&data["role"], &data["name"]), (&json!(role), &json!(name)));
        }
    };
    is("USER", "Noor Castellanos");
    let path = format!("/users/{NEWCOMER}");
    for role in ["ADMIN", "VIEWER"] {
        let change = json!({ "role": role });
        administrator(&server).patch(&path, change).expect(200);
        is(role, "Noor Castellanos");
    }
    let becomes = |user: Value| import_from_other_process(&server, json!({ "users": [user] }));
    becomes(json!({ "id": NEWCOMER, "role": "USER" }));
    is("USER", "Noor Castellanos");
    becomes(json!({ "id": NEWCOMER, "name": "Noor" }));
    is("USER", "Noor");
    // Northwind's directory is removed, so its people can no longer sign in.
    import_from_other_process(&server, json!({ "entra_tenant_id": null }));
    person.get("/whoami").expect(401);
}

#[test]
fn frequent_writes_do_not_invalidate_the_cache() {
    let authority = Authority::new();
    let url = format!("--entra-authority={}", authority.url());
    let server = Server::with_world(DEMO, &[&url, "--entra-audience", AUDIENCE]);
    let person = server.with_credential(&current().issue(&authority.claims(NEWCOMER)));
    let version = || {
        // Records of requests wait in the writer's queue. An empty write waits for all before it.
        server.wait_for_records();
        server.stored::<i64>("SELECT version FROM configuration_version")
    };
    let before = version();
    let session = server.northwind().session(json!({ "agent_id": 102 }));
    let path = format!("/chat/sessions/{session}/messages");
    let said = json!({ "message": "Hello" });
    server.northwind().post(&path, said).expect(202);
    server
        .northwind()
        .with_session_token(&session)
        .read_session(&session);
    administrator(&server).get("/whoami").expect(200);
    for _ in 0..3 {
        server.advance_clock(crate::support::MINUTE);
        server.northwind().get("/whoami").expect(200);
        person.get("/whoami").expect(200);
    }
    let article = json!({ "title": "New", "body": "Text", "audience": "MSP" });
    server
        .northwind()
        .post("/knowledge-articles", article)
        .expect(201);
    assert_eq!(version(), before);
}

const CHANGES_OF_ALL_KINDS: &[&str] = &[
    "UPDATE agents SET state = CASE state WHEN 'ENABLED' THEN 'DISABLED' ELSE 'ENABLED' END WHERE agent_id IN (101, 201)",
    "UPDATE agents SET state = 'ENABLED'",
    "UPDATE agents SET name = name || '.' WHERE agent_id IN (100, 101, 201)",
    "UPDATE agents SET access = 'ADMINS_ONLY' WHERE agent_id = 102",
    "UPDATE agents SET access = 'SPECIFIC_USERS', allowed_users = '[\"ada\"]' WHERE agent_id = 102",
    "UPDATE agents SET autonomy_type = CASE autonomy_type WHEN 'AGENTIC' THEN 'CONVERSATIONAL' ELSE 'AGENTIC' END WHERE agent_id = 201",
    "UPDATE channels SET status = 'DISCONNECTED' WHERE audience = 'END_USER' AND tenant_no = 1",
    "UPDATE channels SET status = 'ACTIVE'",
    "UPDATE channels SET deleted_at = 1 WHERE audience = 'END_USER' AND tenant_no = 1",
    "UPDATE channels SET deleted_at = NULL",
    "UPDATE channels SET bot_id = 'b07fab1e-c0de-4bee-8ace-facade0fb075' WHERE audience = 'MSP'",
    "UPDATE channels SET bot_id = 'b07a1fa0-c0de-4bee-8ace-feed0a1fa001' WHERE audience = 'MSP' AND tenant_no = 1",
    "UPDATE channels SET agent_id = CASE agent_id WHEN 101 THEN 201 WHEN 201 THEN 101 ELSE agent_id END",
    "UPDATE channels SET show_agent_progress_steps = 1 - show_agent_progress_steps",
    "UPDATE installs SET m365_tenant_id = m365_tenant_id || '-gone' WHERE seq = (SELECT min(seq) FROM installs)",
    "UPDATE installs SET m365_tenant_id = replace(m365_tenant_id, '-gone', '')",
    "UPDATE installs SET bot_id = NULL WHERE tenant_no = 2",
    "UPDATE installs SET bot_id = 'b07fab1e-c0de-4bee-8ace-facade0fb075' WHERE tenant_no = 2",
    "DELETE FROM company_directories WHERE psa_company_id = '1001'",
    "INSERT INTO company_directories (tenant_no, m365_tenant_id, company_seq, psa_company_id, position)
     SELECT tenant_no, 'ca5cade0-4ce5-4d0e-9b1d-0f0a51deca5e', seq, psa_company_id, 1 FROM end_companies WHERE psa_company_id IN ('1001', '1002')
     ON CONFLICT DO NOTHING",
    "UPDATE company_directories SET m365_tenant_id = 'c0ffee00-be4d-4ade-8d0e-decafdecaf00' WHERE psa_company_id IN ('1002', '1003')",
    "INSERT INTO end_companies (tenant_no, psa_company_id, seq, psa_company_name, created_at, updated_at)
     SELECT 1, 'n' || (count(*) + 1), -1 - count(*), 'New', 1, 1 FROM end_companies",
    "INSERT INTO company_directories (tenant_no, m365_tenant_id, company_seq, psa_company_id, position)
     SELECT tenant_no, 'ca5cade0-4ce5-4d0e-9b1d-0f0a51deca5e', seq, psa_company_id, 0 FROM end_companies WHERE psa_company_id LIKE 'n%'
     ON CONFLICT DO NOTHING",
    "DELETE FROM end_companies WHERE psa_company_id LIKE 'n%'",
    "UPDATE tenants SET name = name || '.'",
];

fn some_question(tenants: &[Tenant], random: &mut Random) -> (Asker, Request) {
    let tenant = tenants[random.below(tenants.len())].clone();
    let asker = match random.below(4) {
        0 => Asker::ServiceAccount(tenant),
        1 => Asker::User {
            tenant,
            id: random.pick(&["ada", "bob"]).to_owned(),
            role: random.pick(Role::ALL),
        },
        _ => Asker::Platform(tenant),
    };
    let agents = [100, 101, 102, 201].map(|id| Choice::Agent(AgentId(id)));
    let choice = random.pick(&agents);
    let support = Choice::Managed(ManagedAgentKey::NeoSupport);
    let clients = [None, Some("northwind-it"), Some("fabrikam-support")];
    let bots = [None, Some(SHARED_BOT), Some(TECHNICIAN_BOT)];
    let directories = [None, Some(CONTOSO), Some(FOURTH_COFFEE), Some(WOODGROVE)];
    let request = Request {
        choice: if random.chance(2, 3) { support } else { choice },
        client_id: random.pick(&clients).map(str::to_owned),
        bot_id: random.pick(&bots).map(world::bot),
        inbound_tenant_id: random.pick(&directories).map(world::directory),
        end_company_id: random.pick(&[None, Some("1001")]).map(str::to_owned),
    };
    (asker, request)
}

#[test]
fn after_any_sequence_of_changes_the_cache_decides_as_the_database_does() {
    let seed = random::seed();
    let mut random = Random::new(seed);
    let server = Server::demo();
    let store = &server.app.store;
    let tenants: Vec<Tenant> = ["northwind-it", "fabrikam-support", "relay-platform"]
        .into_iter()
        .zip(1..)
        .map(|(client_id, no)| Tenant {
            no: TenantNo(no),
            client_id: ClientId::parse(client_id).unwrap(),
            name: client_id.to_owned(),
            rate_limit_per_minute: None,
        })
        .collect();
    let (mut answered, mut refused) = (0, 0);
    let mut made = BTreeSet::new();
    for _ in 0..1_500 {
        // A change that violates a constraint is skipped.
        let change = random.pick(CHANGES_OF_ALL_KINDS);
        if server.database().try_sql(change).is_ok_and(|rows| rows > 0) {
            made.insert(change);
        }
        for _ in 0..20 {
            let (asker, request) = some_question(&tenants, &mut random);
            let purpose = random.pick(&[Purpose::Create, Purpose::DryRun]);
            let (who, what) = (asker.clone(), request.clone());
            let kept =
                block_on(store.read_cached(move |known| resolve(known, &who, &what, purpose)));
            let version = block_on(store.read_cached(|known| Ok(known.snapshot_version())));
            let decided = block_on(store.resolve(Some(version), &asker, &request, purpose));
            let read = store.read_now(|reader| resolve(reader, &asker, &request, purpose));
            let decided = decided.outcome.map_err(|none| none.refused);
            let read = read.unwrap();
            assert_eq!(kept, read, "{asker:?} {request:?} {purpose:?}");
            assert_eq!(decided, read, "{asker:?} {request:?} {purpose:?}");
            if kept.is_ok() {
                answered += 1;
            } else {
                refused += 1;
            }
        }
    }
    assert!(answered > 1_000 && refused > 1_000, "{answered} {refused}");
    assert_eq!(made.len(), CHANGES_OF_ALL_KINDS.len(), "{made:#?}");
    server.with_credential(NORTHWIND).get("/whoami").expect(200);
}
