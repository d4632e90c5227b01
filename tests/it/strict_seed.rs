//! A seed file says each name once, and only names that the import reads.

use serde_json::Value;

use crate::process::{CommandOutput, DEMO_FINDINGS, DEMO_WORLD, Workspace};

/// Imports a file's text in the environment `dev`.
fn import(workspace: &Workspace, text: &str, flags: &[&str]) -> CommandOutput {
    let file = workspace.file("world.json", text);
    workspace.run([&["import", &file], flags].concat())
}

/// Asserts that a file is refused with these lines, and that nothing of it is imported.
fn assert_refused(workspace: &Workspace, text: &str, flags: &[&str], lines: &[&str]) {
    let before = workspace.ok(["export"]);
    let done = import(workspace, text, flags);
    assert_eq!((done.code, done.stdout.as_str()), (1, ""), "{done:?}");
    assert_eq!(done.stderr.lines().collect::<Vec<_>>(), lines, "{text}");
    assert_eq!(workspace.ok(["export"]), before, "nothing was imported");
}

#[test]
fn a_name_said_twice_in_one_object_of_a_seed_file_is_a_problem() {
    let workspace = Workspace::without_tenants();
    let platform = r#"{"tenants": [{"client_id": "n", "name": "N", "api_keys": [
        {"name": "relay", "key": "neo_sk_dev_00000000", "platform": false, "platform": true}]}]}"#;
    let emptied = r#"{"tenants": [{"client_id": "n", "name": "N"}], "tenants": []}"#;
    let with_others =
        r#"{"tenants": [{"client_id": "n", "name": "N", "name": "N", "agents": [{}]}]}"#;
    for flags in [&[][..], &["--allow-unknown"], &["--dry-run"]] {
        assert_refused(
            &workspace,
            platform,
            flags,
            &[
                "tenants[0].api_keys[0].platform: appears more than once in its object; keep one of them",
            ],
        );
        assert_refused(
            &workspace,
            emptied,
            flags,
            &["tenants: appears more than once in its object; keep one of them"],
        );
        assert_refused(
            &workspace,
            with_others,
            flags,
            &[
                "tenants[0].name: appears more than once in its object; keep one of them",
                "tenants[0].agents[0].agent_id: is required",
            ],
        );
    }
}

/// A file with an unknown name in every kind of object.
const MISSPELLED: &str = r#"{"comment": "ours", "tenants": [{
    "client_id": "n", "name": "N", "end_companys": [{"psa_company_id": "1"}],
    "agents": [{"agent_id": 1, "name": "A", "audience": "END_USER", "agent_settings": {"welcome_mesage": "Hi"}}],
    "end_companies": [{"psa_company_id": "1", "psa_company_name": "C", "tenantId": "d"}],
    "channels": [{"internal_name": "B", "audience": "END_USER", "agent_id": 1, "bot": "b", "bot_id": "b",
                  "installs": [{"end_client_tenant_id": "d", "state": "ON"}]}],
    "knowledge_articles": [{"title": "T", "body": "B", "agents": [1]}],
    "users": [{"id": "u", "rol": "ADMIN"}],
    "api_keys": [{"name": "k", "key": "neo_sk_dev_00000000", "Platform": true}]}]}"#;

/// The lines for its names, in the order of the objects' names.
const UNKNOWN: [&str; 9] = [
    "comment: is not a known field; the nearest known one is tenants",
    "tenants[0].agents[0].agent_settings.welcome_mesage: is not a known field; did you mean welcome_message?",
    "tenants[0].api_keys[0].Platform: is not a known field; did you mean platform?",
    "tenants[0].channels[0].bot: is not a known field; did you mean bot_id?",
    "tenants[0].channels[0].installs[0].state: is not a known field; the nearest known one is end_client_tenant_id",
    "tenants[0].end_companies[0].tenantId: is not a known field; did you mean tenant_id?",
    "tenants[0].end_companys: is not a known field; did you mean end_companies?",
    "tenants[0].knowledge_articles[0].agents: is not a known field; did you mean agent_ids?",
    "tenants[0].users[0].rol: is not a known field; did you mean role?",
];

#[test]
fn a_field_that_the_import_does_not_know_is_a_problem_with_the_nearest_known_name() {
    let workspace = Workspace::without_tenants();
    let lines = &UNKNOWN;
    assert_refused(&workspace, MISSPELLED, &[], lines);
    assert_refused(&workspace, MISSPELLED, &["--dry-run"], lines);
}

#[test]
fn a_file_of_a_later_version_is_imported_with_a_warning_for_each_unknown_field() {
    let workspace = Workspace::new();
    let done = import(&workspace, MISSPELLED, &["--allow-unknown"]);
    let stdout = "9 created, 0 updated, 0 unchanged\n";
    assert_eq!((done.code, done.stdout.as_str()), (0, stdout), "{done:?}");
    let warnings: Vec<String> = UNKNOWN
        .iter()
        .map(|line| format!("warning: ignored: {line}"))
        .collect();
    assert_eq!(done.stderr.lines().collect::<Vec<_>>(), warnings);
    let exported: Value = serde_json::from_str(&workspace.ok(["export"])).unwrap();
    let tenant = &exported["tenants"][0];
    assert_eq!(
        tenant["agents"][0]["agent_settings"]["welcome_message"],
        Value::Null
    );
    assert_eq!(tenant["users"][0]["role"], "USER");

    // By its variable, and for the columns of a list that can be one field.
    let list = workspace.file(
        "list.csv",
        "psa_company_id,Client,Customer,Phone\n1,A,B,555\n",
    );
    let arguments = ["import", &list, "--tenant", "n"];
    assert_eq!(
        workspace.run(arguments).failure(),
        "line 1, psa_company_name: the columns \"Client\", \"Customer\" can each be this; choose one with --map \"HEADING=psa_company_name\", or remove the others"
    );
    let mut command = workspace.command(arguments);
    let done = crate::process::finish(command.env("SWITCHBOARD_ALLOW_UNKNOWN", "yes"));
    let unread = "warning: ignored: line 1: these columns are no fields of a company: \"Client\", \"Customer\", \"Phone\"";
    assert_eq!(
        (done.code, done.stdout.as_str(), done.stderr.trim_end()),
        (0, "0 created, 0 updated, 1 unchanged\n", unread)
    );
}

#[test]
fn every_example_and_every_export_has_known_fields_only() {
    let workspace = Workspace::new();
    workspace.ok(["--env", "demo", "import", DEMO_WORLD]);
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/seed.json");
    workspace.ok(["import", example]);
    let exported = workspace.ok(["export"]);
    let done = import(&workspace, &exported, &[]);
    assert_eq!(
        (done.code, done.stderr.as_str()),
        (0, DEMO_FINDINGS),
        "{done:?}"
    );
}
