//! The seed file: an import is all or nothing and idempotent, and an export can be imported.

use std::fs;

use serde_json::{Value, json};

use crate::process::{
    CommandOutput, DEMO_FINDINGS, DEMO_WORLD, NORTHWIND, RELAY, Workspace, finish,
};

const DIRECTORY: &str = "aaaaaaaa-0000-4000-8000-000000000001";
const BOT: &str = "bbbbbbbb-0000-4000-8000-000000000001";

/// Imports a world in the environment `dev`.
fn import(workspace: &Workspace, world: &Value) -> CommandOutput {
    let file = workspace.file("world.json", world.to_string());
    workspace.run(["import", &file])
}

/// Imports a world, which must succeed; returns the counts of created, updated and unchanged items.
fn import_ok(workspace: &Workspace, world: &Value) -> [usize; 3] {
    let done = import(workspace, world);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(
        ["", DEMO_FINDINGS].contains(&done.stderr.as_str()),
        "{done:?}"
    );
    counts(&done.stdout)
}

fn counts(line: &str) -> [usize; 3] {
    let numbers: Vec<usize> = line
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|part| part.parse().ok())
        .collect();
    numbers.try_into().unwrap_or_else(|_| panic!("{line:?}"))
}

/// Imports a world that is refused as a whole; returns its problems.
fn refused(workspace: &Workspace, world: &Value) -> Vec<String> {
    // Without a data folder, there is nothing to export. A conflict is found in an empty one.
    let exported = || match workspace.run(["export"]).stdout {
        none if none.is_empty() => "{\n  \"tenants\": []\n}\n".to_owned(),
        world => world,
    };
    let before = exported();
    let done = import(workspace, world);
    assert_eq!((done.code, done.stdout.as_str()), (1, ""), "{done:?}");
    assert_eq!(exported(), before, "nothing was imported");
    done.stderr.lines().map(str::to_owned).collect()
}

fn assert_problems(workspace: &Workspace, world: &Value, problems: &[&str]) {
    let mut found = refused(workspace, world);
    found.sort();
    let mut wanted = problems.to_vec();
    wanted.sort_unstable();
    assert_eq!(found, wanted, "{world}");
}

fn exported(workspace: &Workspace) -> Value {
    serde_json::from_str(&workspace.ok(["export"])).unwrap()
}

fn tenants(tenants: &[Value]) -> Value {
    json!({ "tenants": tenants })
}

/// One tenant with an END_USER agent on an installed channel, a linked company, an article and a
/// user.
fn northwind() -> Value {
    json!({
        "client_id": "northwind-it", "name": "Northwind IT",
        "agents": [{"agent_id": 11, "name": "Service desk", "audience": "END_USER"}, {"agent_id": 12, "name": "Assistant"}],
        "end_companies": [{"psa_company_id": "1001", "psa_company_name": "Contoso", "tenant_id": DIRECTORY}],
        "channels": [{"internal_name": "Help", "audience": "END_USER", "agent_id": 11, "bot_id": BOT,
                      "installs": [{"end_client_tenant_id": DIRECTORY}]}],
        "knowledge_articles": [{"title": "VPN", "body": "Restart it."}],
        "users": [{"id": "u1", "name": "Avery", "role": "ADMIN"}],
        "api_keys": [{"name": "script", "key": "neo_sk_dev_northwind0"}],
    })
}

fn fabrikam() -> Value {
    json!({
        "client_id": "fabrikam", "name": "Fabrikam",
        "agents": [{"agent_id": 21, "name": "Helpline", "audience": "END_USER"}, {"agent_id": 22, "name": "Engineer"}],
    })
}

/// A tenant with some fields replaced.
fn with(mut tenant: Value, fields: Value) -> Value {
    for (name, value) in fields.as_object().unwrap() {
        tenant[name] = value.clone();
    }
    tenant
}

fn seeded() -> Workspace {
    let workspace = Workspace::new();
    import_ok(&workspace, &tenants(&[northwind(), fabrikam()]));
    workspace
}

#[test]
fn the_demo_world_twice_changes_nothing() {
    let workspace = Workspace::new();
    let import = ["--env", "demo", "import", DEMO_WORLD];
    let first = counts(&workspace.ok(import));
    assert!(first[0] > 40, "{first:?}");
    assert_eq!(first[1..], [0, 0]);
    let before = workspace.ok(["export"]);
    let audited = |workspace: &Workspace| {
        let count = "SELECT count(*) FROM audit_events";
        workspace.sql().stored::<i64>(count)
    };
    let events = audited(&workspace);
    let second = workspace.ok(import);
    assert!(second.starts_with("0 created, 0 updated, "), "{second}");
    assert_eq!(workspace.ok(["export"]), before);
    assert_eq!(audited(&workspace), events);
}

#[test]
fn a_file_on_standard_input_is_imported() {
    let workspace = Workspace::new();
    let file = fs::File::open(DEMO_WORLD).unwrap();
    let mut command = workspace.command(["--env", "demo", "import", "-"]);
    let done = finish(command.stdin(file));
    assert_eq!(done.code, 0, "{done:?}");
}

#[test]
fn a_changed_file_updates_by_key_and_keeps_what_it_does_not_name() {
    let workspace = seeded();
    let changed = json!({
        "client_id": "northwind-it", "name": "Northwind & Sons",
        "agents": [{"agent_id": 11, "description": "First line"}, {"agent_id": 13, "name": "New"}],
        "end_companies": [{"psa_company_id": "1001", "psa_company_name": "Contoso Ltd"}],
        "channels": [{"internal_name": "Help", "display_name": "Helper", "installs": [{"end_client_tenant_id": "another"}]}],
        "knowledge_articles": [{"title": "VPN", "audience": "END_USER"}],
        "users": [{"id": "u1", "role": "VIEWER"}, {"id": "u2"}],
        "api_keys": [{"name": "script", "key": "neo_sk_dev_northwind0"}],
    });
    // Updated: tenant, agent, company, channel, article, user. New: agent, install, user.
    // Unchanged: the key.
    assert_eq!(
        import_ok(&workspace, &tenants(std::slice::from_ref(&changed))),
        [3, 6, 1]
    );
    assert_eq!(import_ok(&workspace, &tenants(&[changed])), [0, 0, 10]);
    let world = exported(&workspace);
    let tenant = &world["tenants"][0];
    assert_eq!(tenant["name"], "Northwind & Sons");
    let agents = tenant["agents"].as_array().unwrap();
    let names: Vec<&Value> = agents.iter().map(|agent| &agent["name"]).collect();
    assert_eq!(names, ["Service desk", "Assistant", "Neo Support", "New"]);
    assert_eq!(agents[0]["description"], "First line");
    assert_eq!(agents[0]["audience"], "END_USER");
    let company = &tenant["end_companies"][0];
    assert_eq!(
        (&company["psa_company_name"], &company["tenant_id"]),
        (&json!("Contoso Ltd"), &json!(DIRECTORY))
    );
    let channel = &tenant["channels"][0];
    assert_eq!(
        (&channel["display_name"], &channel["bot_id"]),
        (&json!("Helper"), &json!(BOT))
    );
    assert_eq!(
        channel["installs"],
        json!([{"end_client_tenant_id": DIRECTORY}, {"end_client_tenant_id": "another"}])
    );
    let article = &tenant["knowledge_articles"][0];
    assert_eq!(
        (&article["body"], &article["audience"]),
        (&json!("Restart it."), &json!("END_USER"))
    );
    assert_eq!(
        tenant["users"],
        json!([{"id": "u1", "name": "Avery", "email": null, "role": "VIEWER"},
               {"id": "u2", "name": null, "email": null, "role": "USER"}])
    );
    assert_eq!(world["tenants"][1]["client_id"], "fabrikam");
}

#[test]
fn an_absent_field_of_an_existing_object_stays_and_null_resets_it() {
    let workspace = Workspace::new();
    let full = json!({
        "client_id": "n", "name": "N", "entra_tenant_id": "home", "rate_limit_per_minute": 7, "retention_days": 30,
        "website_url": "https://a.example", "privacy_url": "https://a.example/p", "terms_url": "https://a.example/t",
        "agents": [{"agent_id": 1, "name": "A", "description": "D", "access": "SPECIFIC_USERS", "allowed_users": ["u"], "state": "DISABLED",
                    "agent_settings": {"custom_instructions": "I", "welcome_message": "W", "suggested_prompts": ["P"], "show_reasoning": true}}],
        "end_companies": [{"psa_company_id": "1", "psa_company_name": "C", "tenant_id": "away", "custom_instructions": "I",
                           "custom_instructions_for_user_facing_chat": "U"}],
        "channels": [{"internal_name": "H", "audience": "MSP", "agent_id": 1, "status": "DISCONNECTED", "bot_id": "b", "display_name": "D",
                      "description": "D", "welcome_message": "W", "color_icon_url": "https://a.example/c", "outline_icon_url": "https://a.example/o",
                      "relay_prefix": "R", "show_agent_progress_steps": false, "group_replies": "ALWAYS"}],
        "knowledge_articles": [{"title": "T", "body": "B", "url": "http://a.example/t", "audience": "END_USER", "end_company_id": "1", "agent_ids": [1]}],
        "users": [{"id": "u", "name": "U", "email": "u@a.example", "role": "ADMIN"}],
    });
    import_ok(&workspace, &tenants(&[full]));
    let before = workspace.ok(["export"]);
    let bare = json!({
        "client_id": "n", "agents": [{"agent_id": 1, "agent_settings": {}}], "end_companies": [{"psa_company_id": "1"}],
        "channels": [{"internal_name": "H"}], "knowledge_articles": [{"title": "T"}], "users": [{"id": "u"}],
    });
    assert_eq!(import_ok(&workspace, &tenants(&[bare])), [0, 0, 6]);
    assert_eq!(workspace.ok(["export"]), before);

    let reset = json!({
        "client_id": "n", "entra_tenant_id": null, "rate_limit_per_minute": null, "retention_days": null,
        "website_url": null, "privacy_url": null, "terms_url": null,
        "agents": [{"agent_id": 1, "description": null, "access": null, "allowed_users": null, "state": null, "agent_settings": null}],
        "end_companies": [{"psa_company_id": "1", "tenant_id": null, "custom_instructions": null,
                           "custom_instructions_for_user_facing_chat": null}],
        "channels": [{"internal_name": "H", "status": null, "bot_id": null, "display_name": null, "description": null, "welcome_message": null,
                      "color_icon_url": null, "outline_icon_url": null, "relay_prefix": null, "show_agent_progress_steps": null, "group_replies": null,
                      "transport": null, "installs": null}],
        "knowledge_articles": [{"title": "T", "url": null, "audience": null, "end_company_id": null, "agent_ids": null}],
        "users": [{"id": "u", "name": null, "email": null, "role": null}],
    });
    assert_eq!(
        import_ok(&workspace, &tenants(std::slice::from_ref(&reset))),
        [0, 6, 0]
    );
    assert_eq!(import_ok(&workspace, &tenants(&[reset])), [0, 0, 6]);
    let tenant = &exported(&workspace)["tenants"][0];
    assert_eq!(
        tenant["agents"][0],
        json!({"agent_id": 1, "name": "A", "description": null, "autonomy_type": "CONVERSATIONAL", "audience": "MSP", "access": "ALL_USERS",
               "allowed_users": [], "state": "ENABLED", "managed_agent_key": null,
               "agent_settings": {"custom_instructions": null, "welcome_message": null, "suggested_prompts": [], "show_reasoning": false}})
    );
    assert_eq!(
        tenant["end_companies"][0],
        json!({"psa_company_id": "1", "psa_company_name": "C", "tenant_id": null, "tenant_ids": [], "custom_instructions": null,
               "custom_instructions_for_user_facing_chat": null})
    );
    assert_eq!(
        tenant["channels"][0],
        json!({"internal_name": "H", "audience": "MSP", "transport": "TEAMS", "status": "ACTIVE", "bot_id": null, "agent_id": 1,
               "display_name": null, "description": null, "welcome_message": null, "color_icon_url": null, "outline_icon_url": null,
               "relay_prefix": null, "show_agent_progress_steps": true, "group_replies": "MENTIONED", "installs": []})
    );
    assert_eq!(
        tenant["knowledge_articles"][0],
        json!({"title": "T", "body": "B", "url": null, "audience": "MSP", "end_company_id": null, "agent_ids": []})
    );
    assert_eq!(
        tenant["users"][0],
        json!({"id": "u", "name": null, "email": null, "role": "USER"})
    );
    for field in [
        "entra_tenant_id",
        "rate_limit_per_minute",
        "retention_days",
        "website_url",
        "privacy_url",
        "terms_url",
    ] {
        assert_eq!(tenant[field], Value::Null, "{field}");
    }
}

#[test]
fn only_tenants_that_changed_are_recorded_as_imported() {
    let workspace = seeded();
    let changed = with(northwind(), json!({"name": "Northwind & Sons"}));
    import_ok(
        &workspace,
        &tenants(&[
            fabrikam(),
            changed,
            json!({"client_id": "third", "name": "Third"}),
        ]),
    );
    let targets = "SELECT target FROM audit_events WHERE action = 'seed.import' ORDER BY seq";
    let targets = workspace.sql().rows(targets);
    let targets: Vec<String> = targets.iter().map(|row| row.get(0)).collect();
    assert_eq!(
        targets,
        ["northwind-it", "fabrikam", "northwind-it", "third"]
    );
}

#[test]
fn text_that_is_not_json_is_refused_with_its_position() {
    let workspace = seeded();
    for (text, says) in [
        ("", "line 1, column 0: is not valid JSON"),
        (
            "{\"tenants\": [\n  {]}",
            "line 2, column 4: is not valid JSON",
        ),
        ("[]", "must be a JSON object"),
        ("{}", "tenants: is required"),
        ("{\"tenants\": 5}", "tenants: 5: must be an array"),
        ("{\"tenants\": [5]}", "tenants[0]: 5: must be an object"),
    ] {
        let file = workspace.file("world.json", text);
        let done = workspace.run(["import", &file]);
        assert!(done.failure().contains(says), "{text}: {done:?}");
    }
    let file = workspace.file("world.json", b"{\"tenants\": \"\xff\"}");
    assert!(
        workspace
            .run(["import", &file])
            .failure()
            .contains("world.json")
    );
}

#[test]
fn every_syntax_problem_is_listed_one_a_line_and_nothing_is_imported() {
    let workspace = seeded();
    let world = tenants(&[
        json!({"client_id": "North", "name": "N"}),
        json!({
            "client_id": "n", "name": "", "entra_tenant_id": "a b", "rate_limit_per_minute": -1, "retention_days": 0, "agents": "none",
            "end_companies": [{"psa_company_id": "health", "psa_company_name": "H"}, {"psa_company_name": 5}, 7],
            "channels": [{"internal_name": "A\u{0}B", "audience": "ALL", "transport": "SLACK", "status": "GONE", "bot_id": "a/b", "agent_id": "11",
                          "color_icon_url": "http://a.example/c", "show_agent_progress_steps": "yes", "installs": [{"end_client_tenant_id": ""}]}],
            "knowledge_articles": [{"title": "T", "body": "", "url": "file:///etc", "agent_ids": [1, "2"]}, {"title": "T", "body": "B"}],
            "users": [{"id": "u", "role": "ROOT"}, {"name": "nobody"}],
        }),
        json!({"client_id": "m", "name": "M", "agents": [
            {"agent_id": 0, "name": "zero"}, {"name": "no number"}, {"agent_id": 1.5}, {"agent_id": 31, "name": "A", "autonomy_type": "CHATTY"},
            {"agent_id": 31, "name": "A again", "agent_settings": {"suggested_prompts": ["", "two\nlines"], "custom_instructions": []}},
            {"agent_id": 32, "name": "B", "managed_agent_key": "NEO_HELP"}]}),
        json!({"client_id": "m", "name": "M again"}),
    ]);
    let problems = refused(&workspace, &world);
    let wanted = [
        ("tenants[0].client_id", "\"North\""),
        ("tenants[1].name", "\"\""),
        ("tenants[1].entra_tenant_id", "\"a b\""),
        ("tenants[1].rate_limit_per_minute", "-1"),
        ("tenants[1].retention_days", "0"),
        ("tenants[1].agents", "\"none\""),
        ("tenants[1].end_companies[0].psa_company_id", "\"health\""),
        ("tenants[1].end_companies[1].psa_company_id", "is required"),
        ("tenants[1].end_companies[1].psa_company_name", "5"),
        ("tenants[1].end_companies[2]", "7"),
        ("tenants[1].channels[0].internal_name", "\"A\\u0000B\""),
        ("tenants[1].channels[0].audience", "\"ALL\""),
        ("tenants[1].channels[0].transport", "\"SLACK\""),
        ("tenants[1].channels[0].status", "\"GONE\""),
        ("tenants[1].channels[0].bot_id", "\"a/b\""),
        ("tenants[1].channels[0].agent_id", "\"11\""),
        (
            "tenants[1].channels[0].color_icon_url",
            "\"http://a.example/c\"",
        ),
        (
            "tenants[1].channels[0].show_agent_progress_steps",
            "\"yes\"",
        ),
        (
            "tenants[1].channels[0].installs[0].end_client_tenant_id",
            "\"\"",
        ),
        ("tenants[1].knowledge_articles[0].body", "\"\""),
        ("tenants[1].knowledge_articles[0].url", "\"file:///etc\""),
        ("tenants[1].knowledge_articles[0].agent_ids[1]", "\"2\""),
        ("tenants[1].knowledge_articles[1].title", "\"T\""),
        ("tenants[1].users[0].role", "\"ROOT\""),
        ("tenants[1].users[1].id", "is required"),
        ("tenants[2].agents[0].agent_id", "0"),
        ("tenants[2].agents[1].agent_id", "is required"),
        ("tenants[2].agents[2].agent_id", "1.5"),
        ("tenants[2].agents[3].autonomy_type", "\"CHATTY\""),
        ("tenants[2].agents[4].agent_id", "\"31\""),
        (
            "tenants[2].agents[4].agent_settings.custom_instructions",
            "[]",
        ),
        (
            "tenants[2].agents[4].agent_settings.suggested_prompts[0]",
            "\"\"",
        ),
        ("tenants[2].agents[5].managed_agent_key", "\"NEO_HELP\""),
        ("tenants[3].client_id", "\"m\""),
    ];
    for (path, value) in wanted {
        // A field that is not there has no value.
        let is_absent = value == "is required";
        let start = format!("{path}: {value}{}", if is_absent { "" } else { ": " });
        let found = problems
            .iter()
            .filter(|line| line.starts_with(&start))
            .filter(|line| (line.len() == start.len()) == is_absent)
            .count();
        assert_eq!(found, 1, "{start}: {problems:#?}");
    }
    assert_eq!(problems.len(), wanted.len(), "{problems:#?}");
}

#[test]
fn every_conflict_with_existing_data_is_listed_too() {
    let workspace = seeded();
    let world = tenants(&[
        with(
            northwind(),
            json!({
                "agents": [{"agent_id": 11, "audience": "MSP", "autonomy_type": "AGENTIC"}, {"agent_id": 14}, {"agent_id": 21, "name": "Lent"}],
                "end_companies": [{"psa_company_id": "1002"}],
                "channels": [{"internal_name": "Help", "audience": "MSP"}, {"internal_name": "Bare"},
                             {"internal_name": "Lent", "audience": "MSP", "agent_id": 22},
                             {"internal_name": "Wrong", "audience": "MSP", "agent_id": 11},
                             {"internal_name": "Inside", "audience": "MSP", "agent_id": 12, "installs": [{"end_client_tenant_id": "x"}]}],
                "knowledge_articles": [{"title": "Bare", "end_company_id": "1003", "agent_ids": [12, 22, 99]}],
            }),
        ),
        json!({"client_id": "third"}),
    ]);
    assert_problems(
        &workspace,
        &world,
        &[
            "tenants[0].agents[0].audience: \"MSP\": cannot change",
            "tenants[0].agents[0].autonomy_type: \"AGENTIC\": cannot change",
            "tenants[0].agents[1].name: is required for a new agent",
            "tenants[0].agents[2].agent_id: \"21\": is another tenant's agent",
            "tenants[0].end_companies[0].psa_company_name: is required for a new company",
            "tenants[0].channels[0].audience: \"MSP\": cannot change",
            "tenants[0].channels[1].audience: is required for a new channel",
            "tenants[0].channels[1].agent_id: is required for a new channel",
            "tenants[0].channels[2].agent_id: \"22\": is not an agent of this tenant",
            "tenants[0].channels[3].agent_id: \"11\": is an END_USER agent; the channel is MSP",
            "tenants[0].channels[4].installs[0].end_client_tenant_id: \"x\": only END_USER channels can have installs",
            "tenants[0].knowledge_articles[0].end_company_id: \"1003\": is not a company of this tenant",
            "tenants[0].knowledge_articles[0].agent_ids: \"22\": is not an agent of this tenant",
            "tenants[0].knowledge_articles[0].agent_ids: \"99\": is not an agent of this tenant",
            "tenants[0].knowledge_articles[0].body: is required for a new article",
            "tenants[1].name: is required for a new tenant",
        ],
    );
}

#[test]
fn a_long_value_is_shortened_and_stays_on_its_line() {
    let workspace = seeded();
    let long = format!("line\n{}", "é".repeat(40_000));
    let world = tenants(&[json!({"client_id": long, "name": "N"})]);
    let problems = refused(&workspace, &world);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].chars().count() < 300, "{problems:?}");
}

#[test]
fn no_problem_shows_a_key() {
    let workspace = seeded();
    let secret = "verysecret0123456789";
    let key = format!("neo_sk_dev_{secret}");
    let keys = |keys: Value| tenants(&[with(northwind(), json!({ "api_keys": keys }))]);
    let long = format!("neo_sk_dev_{}", secret.repeat(100));
    for world in [
        keys(json!([{"name": "a", "key": format!("neo_sk_prod_{secret}")}])),
        keys(json!([{"name": "a", "key": format!("neo_sk_dev_{secret}!")}])),
        keys(json!([{"name": "a", "key": secret}])),
        keys(json!([{"name": "a", "key": long}])),
        keys(json!([{"name": "a", "key": [secret]}])),
        keys(json!([{"name": "a", "key": {"secret": key}}])),
        keys(json!([{"name": "script", "key": key}])),
        keys(json!([{"name": "a", "key": key}, {"name": "b", "key": key}])),
        keys(json!([{"name": "a", "key": key, "platform": key}])),
        keys(json!([{"key": key}])),
        keys(json!([{"name": "a", "key": key, "ky": secret, (key.as_str()): 1}])),
        keys(json!([key])),
        keys(json!(key)),
        tenants(&[json!({"client_id": key, "name": "N"})]),
    ] {
        let problems = refused(&workspace, &world).join("\n");
        assert!(
            problems.starts_with("tenants[0].") && !problems.contains(secret),
            "{world}: {problems}"
        );
    }
    let text = format!("{{\"tenants\": [{{\"key\": \"{key}\" \"{key}\"}}]}}");
    let file = workspace.file("world.json", text);
    assert!(!workspace.run(["import", &file]).failure().contains(secret));
}

#[test]
fn a_key_of_the_file_belongs_to_its_environment_and_its_name() {
    let workspace = seeded();
    let keys = |keys: Value| tenants(&[with(northwind(), json!({ "api_keys": keys }))]);
    assert_problems(
        &workspace,
        &keys(json!([
            {"name": "other", "key": "neo_sk_prod_northwind0"},
            {"name": "short", "key": "neo_sk_dev_1234567"},
            {"name": "none"},
        ])),
        &[
            "tenants[0].api_keys[0].key: \"…\": is a key of the environment \"prod\", but --env is \"dev\"; use a key of this environment",
            "tenants[0].api_keys[1].key: \"…\": must be neo_sk_<env>_ followed by 8 or more characters of A-Z, a-z and 0-9",
            "tenants[0].api_keys[2].key: is required",
        ],
    );
    assert_problems(
        &workspace,
        &keys(json!([
            {"name": "script", "key": "neo_sk_dev_another00"},
            {"name": "alias", "key": "neo_sk_dev_northwind0"},
        ])),
        &[
            "tenants[0].api_keys[0].name: \"script\": already names another key; rotate that key, or choose another name",
            "tenants[0].api_keys[1].key: \"…\": is in use under another name",
        ],
    );
    assert_problems(
        &workspace,
        &keys(json!([{"name": "script", "key": "neo_sk_dev_northwind0", "platform": true}])),
        &["tenants[0].api_keys[0].platform: \"true\": cannot change"],
    );
    assert_problems(
        &workspace,
        &tenants(&[with(
            fabrikam(),
            json!({"api_keys": [{"name": "stolen", "key": "neo_sk_dev_northwind0"}]}),
        )]),
        &["tenants[0].api_keys[0].key: \"…\": is in use under another name"],
    );
}

#[test]
fn a_revoked_key_stays_revoked_when_its_file_is_imported_again() {
    let workspace = seeded();
    let server = workspace.serve::<&str>([]);
    let status = |key: &str| server.client().get(key, "/whoami").status;
    assert_eq!(status("neo_sk_dev_northwind0"), 200);
    let listed = workspace.ok(["keys", "list", "--tenant", "northwind-it"]);
    let id = listed.split('\t').next().unwrap();
    workspace.ok(["keys", "revoke", id]);
    assert_eq!(
        import_ok(&workspace, &tenants(&[northwind(), fabrikam()]))[..2],
        [0, 0]
    );
    assert_eq!(status("neo_sk_dev_northwind0"), 401);
}

#[test]
fn a_rotated_key_of_the_file_is_still_recognized_by_its_name() {
    let workspace = seeded();
    let listed = workspace.ok(["keys", "list", "--tenant", "northwind-it"]);
    workspace.ok(["keys", "rotate", listed.split('\t').next().unwrap()]);
    assert_eq!(
        import_ok(&workspace, &tenants(&[northwind(), fabrikam()]))[..2],
        [0, 0]
    );
}

#[test]
fn an_agent_s_number_belongs_to_one_tenant() {
    let workspace = seeded();
    assert_problems(
        &workspace,
        &tenants(&[
            json!({"client_id": "third", "name": "Third", "agents": [{"agent_id": 12, "name": "Mine"}]}),
        ]),
        &["tenants[0].agents[0].agent_id: \"12\": is another tenant's agent"],
    );
}

#[test]
fn a_directory_signs_in_to_one_tenant() {
    let workspace = seeded();
    let home = |tenant: Value, directory: &str| with(tenant, json!({"entra_tenant_id": directory}));
    import_ok(&workspace, &tenants(&[home(northwind(), "HOME-A")]));
    assert_problems(
        &workspace,
        &tenants(&[home(fabrikam(), "home-a")]),
        &["tenants[0].entra_tenant_id: \"home-a\": already belongs to another tenant"],
    );
    assert_problems(
        &workspace,
        &tenants(&[
            json!({"client_id": "third", "name": "Third", "entra_tenant_id": "new"}),
            json!({"client_id": "fourth", "name": "Fourth", "entra_tenant_id": "NEW"}),
        ]),
        &["tenants[1].entra_tenant_id: \"new\": already belongs to another tenant"],
    );
}

#[test]
fn directories_move_between_tenants_within_one_file_in_any_order() {
    let workspace = seeded();
    let homes = |northwind_home: Value, fabrikam_home: Value| {
        tenants(&[
            json!({"client_id": "northwind-it", "entra_tenant_id": northwind_home}),
            json!({"client_id": "fabrikam", "entra_tenant_id": fabrikam_home}),
        ])
    };
    assert_eq!(
        import_ok(&workspace, &homes(json!("a"), json!("b"))),
        [0, 2, 0]
    );
    assert_eq!(
        import_ok(&workspace, &homes(json!("b"), json!("a"))),
        [0, 2, 0]
    );
    assert_eq!(
        import_ok(&workspace, &homes(json!("b"), json!("a"))),
        [0, 0, 2]
    );
    assert_eq!(
        import_ok(&workspace, &homes(json!("a"), json!(null))),
        [0, 2, 0]
    );
    let world = exported(&workspace);
    assert_eq!(world["tenants"][0]["entra_tenant_id"], "a");
    assert_eq!(world["tenants"][1]["entra_tenant_id"], Value::Null);
}

#[test]
fn a_bot_is_never_installed_into_the_directory_of_another_tenant_s_people() {
    let workspace = seeded();
    let install = |directory: &str| {
        with(
            fabrikam(),
            json!({"channels": [{"internal_name": "Help", "audience": "END_USER", "agent_id": 21, "bot_id": "other-bot",
                                 "installs": [{"end_client_tenant_id": directory}]}]}),
        )
    };
    let says = "is installed by fabrikam, but another tenant signs in with this directory";
    import_ok(
        &workspace,
        &tenants(&[with(northwind(), json!({"entra_tenant_id": "home"}))]),
    );
    assert_problems(
        &workspace,
        &tenants(&[install("HOME")]),
        &[&format!("tenants[0].channels: \"home\": {says}")],
    );
    import_ok(&workspace, &tenants(&[install("elsewhere")]));
    let problems = refused(
        &workspace,
        &tenants(&[json!({"client_id": "third", "name": "Third", "entra_tenant_id": "elsewhere"})]),
    );
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].contains(says), "{problems:?}");
    // A tenant may install its bot in the directory of its own people.
    import_ok(
        &workspace,
        &tenants(&[with(install("own"), json!({"entra_tenant_id": "own"}))]),
    );
}

#[test]
fn a_bot_and_directory_occupied_by_another_tenant_are_refused() {
    let workspace = seeded();
    let channel = |bot: &str, directories: &[&str]| {
        let installs: Vec<Value> = directories
            .iter()
            .map(|directory| json!({ "end_client_tenant_id": directory }))
            .collect();
        tenants(&[with(
            fabrikam(),
            json!({"channels": [{"internal_name": "Help", "audience": "END_USER", "agent_id": 21, "bot_id": bot, "installs": installs}]}),
        )])
    };
    assert_problems(
        &workspace,
        &channel(&BOT.to_uppercase(), &[&DIRECTORY.to_uppercase()]),
        &[&format!(
            "tenants[0].channels[0].installs[0].end_client_tenant_id: {DIRECTORY:?}: is installed for this bot by another tenant"
        )],
    );
    // The bot may be shared, and the directory too, but not both together.
    import_ok(&workspace, &channel(BOT, &["elsewhere"]));
    import_ok(&workspace, &channel("other-bot", &[DIRECTORY]));
    assert_problems(
        &workspace,
        &channel(BOT, &[]),
        &[&format!(
            "tenants[0].channels[0].bot_id: {BOT:?}: is installed for {DIRECTORY} by another tenant"
        )],
    );
}

#[test]
fn a_bot_has_one_active_msp_channel_in_a_tenant() {
    let workspace = seeded();
    let channels = |second: &str| {
        tenants(&[with(
            northwind(),
            json!({"channels": [{"internal_name": "One", "audience": "MSP", "agent_id": 12, "bot_id": "inside"},
                                {"internal_name": "Two", "audience": "MSP", "agent_id": 12, "bot_id": "INSIDE", "status": second}]}),
        )])
    };
    let problems = refused(&workspace, &channels("ACTIVE"));
    assert!(
        problems.iter().any(|line| line
            == "tenants[0].channels[1].bot_id: \"inside\": already has an ACTIVE MSP channel in this tenant"),
        "{problems:?}"
    );
    import_ok(&workspace, &channels("DISCONNECTED"));
    refused(&workspace, &channels("ACTIVE"));
    // The reverse order within one file: only the final state counts.
    import_ok(
        &workspace,
        &tenants(&[with(
            northwind(),
            json!({"channels": [{"internal_name": "Two", "status": "ACTIVE"}, {"internal_name": "One", "status": "DISCONNECTED"}]}),
        )]),
    );
}

#[test]
fn the_managed_agent_is_created_named_and_protected_as_documented() {
    let workspace = Workspace::new();
    let managed = |fields: Value| {
        let agent = with(
            json!({"agent_id": 5, "managed_agent_key": "NEO_SUPPORT"}),
            fields,
        );
        tenants(&[json!({"client_id": "n", "name": "N", "agents": [agent]})])
    };
    for (field, value, promise) in [
        ("autonomy_type", "AGENTIC", "CONVERSATIONAL"),
        ("audience", "END_USER", "MSP"),
        ("access", "ADMINS_ONLY", "ALL_USERS"),
        ("state", "DISABLED", "ENABLED"),
    ] {
        assert_problems(
            &workspace,
            &managed(json!({ field: value })),
            &[&format!(
                "tenants[0].agents[0].{field}: {value:?}: must be {promise} for NEO_SUPPORT"
            )],
        );
    }
    import_ok(
        &workspace,
        &managed(json!({"name": "Support", "state": "ENABLED"})),
    );
    let agents = exported(&workspace)["tenants"][0]["agents"].clone();
    assert_eq!(agents.as_array().unwrap().len(), 1);
    assert_eq!(
        (&agents[0]["agent_id"], &agents[0]["name"]),
        (&json!(5), &json!("Support"))
    );
    let agent = |fields: Value| {
        tenants(&[json!({"client_id": "n", "agents": [with(json!({"agent_id": 5}), fields)]})])
    };
    assert_problems(
        &workspace,
        &agent(json!({"state": "DISABLED", "access": "ADMINS_ONLY"})),
        &[
            "tenants[0].agents[0].access: \"ADMINS_ONLY\": must be ALL_USERS for NEO_SUPPORT",
            "tenants[0].agents[0].state: \"DISABLED\": must be ENABLED for NEO_SUPPORT",
        ],
    );
    assert_problems(
        &workspace,
        &agent(json!({"managed_agent_key": null})),
        &["tenants[0].agents[0].managed_agent_key: \"null\": cannot change"],
    );
    assert_problems(
        &workspace,
        &tenants(&[
            json!({"client_id": "n", "agents": [{"agent_id": 6, "managed_agent_key": "NEO_SUPPORT"}]}),
        ]),
        &[
            "tenants[0].agents[0].managed_agent_key: \"NEO_SUPPORT\": is already the tenant's agent 5",
        ],
    );
    import_ok(
        &workspace,
        &tenants(&[json!({"client_id": "n", "agents": [{"agent_id": 6, "name": "Plain"}]})]),
    );
    assert_problems(
        &workspace,
        &tenants(&[
            json!({"client_id": "n", "agents": [{"agent_id": 6, "managed_agent_key": "NEO_SUPPORT"}]}),
        ]),
        &["tenants[0].agents[0].managed_agent_key: \"NEO_SUPPORT\": cannot change"],
    );
}

#[test]
fn agent_numbers_that_the_server_gives_avoid_those_of_the_file() {
    let workspace = Workspace::new();
    // The server creates the first tenant's managed agent; its number must not be in the second
    // tenant.
    let world = tenants(&[
        json!({"client_id": "a", "name": "A"}),
        json!({"client_id": "b", "name": "B", "agents": [{"agent_id": 1_000_000, "name": "Mine"}]}),
    ]);
    assert_eq!(import_ok(&workspace, &world), [5, 0, 0]);
    let world = exported(&workspace);
    assert_eq!(world["tenants"][0]["agents"][0]["agent_id"], 1_000_001);
    assert_eq!(world["tenants"][1]["agents"][0]["agent_id"], 1_000_000);
    assert_eq!(world["tenants"][1]["agents"][1]["agent_id"], 1_000_002);
}

#[test]
fn an_install_moves_to_the_channel_named_in_the_file() {
    let workspace = seeded();
    let moved = tenants(&[with(
        northwind(),
        json!({"channels": [{"internal_name": "New help", "audience": "END_USER", "agent_id": 11, "bot_id": "other-bot",
                             "installs": [{"end_client_tenant_id": DIRECTORY}]}]}),
    )]);
    let [created, updated, _] = import_ok(&workspace, &moved);
    assert_eq!((created, updated), (1, 1));
    let channels = exported(&workspace)["tenants"][0]["channels"].clone();
    assert_eq!(channels[0]["installs"], json!([]));
    assert_eq!(
        channels[1]["installs"],
        json!([{ "end_client_tenant_id": DIRECTORY }])
    );
    assert_eq!(workspace.run(["check"]).code, 0);
}

#[test]
fn an_export_gives_the_same_bytes_after_an_import_and_a_second_export() {
    let workspace = Workspace::with_demo_world();
    let first = workspace.ok(["export"]);
    assert!(!first.contains("neo_sk_") && !first.contains("api_keys"));
    let other = Workspace::new();
    let file = other.file("world.json", &first);
    let [created, updated, unchanged] = counts(&other.ok(["import", &file]));
    assert_eq!((updated, unchanged), (0, 0));
    assert!(created > 40);
    assert_eq!(other.ok(["export"]), first);
    assert!(
        other
            .ok(["import", &file])
            .starts_with("0 created, 0 updated, ")
    );
    // The export contains everything in the seed file except keys, so importing that adds only
    // keys.
    let done = other.ok(["--env", "demo", "import", DEMO_WORLD]);
    assert!(done.starts_with("3 created, 0 updated, "), "{done}");
}

#[test]
fn one_tenant_can_be_exported_alone() {
    let workspace = Workspace::with_demo_world();
    let all = exported(&workspace);
    let text = workspace.ok(["export", "--tenant", "fabrikam-support"]);
    let one: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(one["tenants"].as_array().unwrap().len(), 1);
    assert_eq!(one["tenants"][0], all["tenants"][1]);
    let other = Workspace::new();
    let file = other.file("one.json", &text);
    other.ok(["import", &file]);
    assert_eq!(other.ok(["export"]), text);
}

#[test]
fn a_deleted_channel_is_created_again_and_takes_over_its_installs() {
    let workspace = Workspace::with_demo_world();
    let deleted = workspace.sql().execute_sql(
        "UPDATE channels SET deleted_at = created_at + 1 WHERE internal_name = 'Client help bot'",
    );
    assert_eq!(deleted, 1);
    let server = workspace.serve_demo_world();
    let client = server.client();
    let request = json!({"bot_id": "b07fab1e-c0de-4bee-8ace-facade0fb075",
                         "inbound_tenant_id": "ca5cade0-4ce5-4d0e-9b1d-0f0a51deca5e", "agent_id": 101});
    let refused = client.post(RELAY, "/chat/sessions", &request);
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (409, "channel_disconnected")
    );
    assert!(!workspace.ok(["export"]).contains("Client help bot"));

    // The file names the channel without installs, and they are still taken over.
    let world = json!({"tenants": [{"client_id": "northwind-it", "channels": [
        {"internal_name": "Client help bot", "audience": "END_USER", "agent_id": 101,
         "bot_id": "b07fab1e-c0de-4bee-8ace-facade0fb075"}]}]});
    assert_eq!(import_ok(&workspace, &world)[..2], [1, 0]);
    let created = client.post(RELAY, "/chat/sessions", &request);
    assert_eq!(created.status, 201, "{created:?}");
    assert_eq!(created.data()["end_company_id"], "1001");
    let channels = exported(&workspace)["tenants"][0]["channels"].clone();
    let anew = channels
        .as_array()
        .unwrap()
        .iter()
        .find(|channel| channel["internal_name"] == "Client help bot")
        .unwrap();
    assert_eq!(anew["installs"].as_array().unwrap().len(), 3);
    assert_eq!(import_ok(&workspace, &world)[..2], [0, 0]);
    assert_eq!(workspace.run(["check"]).code, 0);
}

#[test]
fn a_link_from_a_file_admits_the_chat_that_was_refused() {
    let workspace = Workspace::with_demo_world();
    let server = workspace.serve_demo_world();
    let client = server.client();
    let request = json!({"bot_id": "b07fab1e-c0de-4bee-8ace-facade0fb075",
                         "inbound_tenant_id": "0ddba110-face-4fee-9add-1eaf1ed0dd01", "agent_id": 101});
    let refused = client.post(RELAY, "/chat/sessions", &request);
    assert_eq!(refused.code(), "end_company_not_mapped");
    let link = json!({"tenants": [{"client_id": "northwind-it", "end_companies": [
        {"psa_company_id": "1002", "tenant_id": "0DDBA110-face-4fee-9add-1eaf1ed0dd01"}]}]});
    assert_eq!(import_ok(&workspace, &link)[..2], [0, 1]);
    let created = client.post(RELAY, "/chat/sessions", &request).data();
    assert_eq!(created["end_company_id"], "1002");
    assert_eq!(client.get(NORTHWIND, "/agents").status, 200);
    let traces = "SELECT count(*) FROM unlinked_tenants";
    assert_eq!(workspace.sql().stored::<i64>(traces), 0);
}
