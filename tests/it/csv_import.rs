//! `switchboard import` of a list of companies, and dry runs of both file types.

use serde_json::{Value, json};

use crate::process::{CommandOutput, DEMO_FINDINGS, DEMO_WORLD, NORTHWIND, RELAY, Workspace};

const TAILSPIN: &str = "0ddba110-face-4fee-9add-1eaf1ed0dd01";
const CONTOSO: &str = "ca5cade0-4ce5-4d0e-9b1d-0f0a51deca5e";

/// Imports a list into Northwind.
fn import(workspace: &Workspace, list: impl AsRef<[u8]>) -> CommandOutput {
    let file = workspace.file("companies.csv", list);
    workspace.run(["import", &file, "--tenant", "northwind-it"])
}

/// Imports a list, which must succeed; returns stdout.
fn import_ok(workspace: &Workspace, list: impl AsRef<[u8]>) -> String {
    let done = import(workspace, list);
    assert_eq!(done.code, 0, "{done:?}");
    let is_finding = |line: &str| line.starts_with("warning: northwind-it: The companies ");
    assert!(done.stderr.lines().all(is_finding), "{done:?}");
    assert!(done.stderr.contains(DEMO_FINDINGS), "{done:?}");
    done.stdout
}

/// The problems of a list that is refused, of which nothing is imported.
fn problems(workspace: &Workspace, list: impl AsRef<[u8]>) -> Vec<String> {
    let before = workspace.ok(["export"]);
    let done = import(workspace, list);
    assert_eq!((done.code, done.stdout.as_str()), (1, ""), "{done:?}");
    assert_eq!(workspace.ok(["export"]), before, "nothing was imported");
    done.stderr.lines().map(str::to_owned).collect()
}

/// Northwind's companies: id, name, linked directory.
fn companies(workspace: &Workspace) -> Vec<(String, String, Option<String>)> {
    let world: Value =
        serde_json::from_str(&workspace.ok(["export", "--tenant", "northwind-it"])).unwrap();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let companies = world["tenants"][0]["end_companies"].as_array().unwrap();
    companies
        .iter()
        .map(|company| {
            (
                text(&company["psa_company_id"]).unwrap(),
                text(&company["psa_company_name"]).unwrap(),
                text(&company["tenant_id"]),
            )
        })
        .collect()
}

/// One value from the database.
fn stored(workspace: &Workspace, sql: &str) -> String {
    workspace.sql().stored(sql)
}

#[test]
fn a_list_creates_changes_and_keeps_companies_and_importing_it_again_changes_nothing() {
    let workspace = Workspace::with_demo_world();
    let list = "psa_company_id,psa_company_name,tenant_id\n\
                1001,Contoso Ltd,\n1002,,AB-1\n2001,New one,DIR-2\n2002,Unlinked,\n1003,Fourth Coffee,\n";
    assert_eq!(
        import_ok(&workspace, list),
        "2 created, 2 updated, 1 unchanged\n"
    );
    let told = companies(&workspace);
    let of = |id: &str| {
        let found = told.iter().find(|company| company.0 == id).unwrap();
        (found.1.as_str(), found.2.as_deref())
    };
    // An empty cell removes neither a link nor a name.
    assert_eq!(of("1001"), ("Contoso Ltd", Some(CONTOSO)));
    assert_eq!(of("1002"), ("Tailspin Toys", Some("ab-1")));
    assert_eq!(of("2001"), ("New one", Some("dir-2")));
    assert_eq!(of("2002"), ("Unlinked", None));
    assert_eq!(told.len(), 6);
    assert_eq!(
        import_ok(&workspace, list),
        "0 created, 0 updated, 5 unchanged\n"
    );
    let events = "SELECT string_agg(target || ' ' || actor_kind || ' ' || details, '\n') FROM audit_events WHERE action = 'companies.import'";
    assert_eq!(
        stored(&workspace, events),
        r#"northwind-it operator {"created":2,"updated":2}"#
    );
}

#[test]
fn columns_may_be_in_any_order_with_a_bom_crlf_line_ends_and_quoted_cells() {
    let workspace = Workspace::with_demo_world();
    let list = "\u{feff}Tenant_ID,\"psa_company_name\", PSA_COMPANY_ID \r\n\
                dir-1,\"Smith, \"\"Jones\"\" & Söhne\", S-1 \r\n\r\n,,\r\n\"dir-2\",\"Last\",\"S-2\"";
    assert_eq!(
        import_ok(&workspace, list),
        "2 created, 0 updated, 0 unchanged\n"
    );
    let told = companies(&workspace);
    assert_eq!(
        told[4..],
        [
            (
                "S-1".to_owned(),
                "Smith, \"Jones\" & Söhne".to_owned(),
                Some("dir-1".to_owned())
            ),
            (
                "S-2".to_owned(),
                "Last".to_owned(),
                Some("dir-2".to_owned())
            ),
        ]
    );
    // A missing column changes nothing.
    assert_eq!(
        import_ok(&workspace, "psa_company_id,psa_company_name\nS-2,Renamed\n"),
        "0 created, 1 updated, 0 unchanged\n"
    );
    assert_eq!(
        companies(&workspace)[5],
        (
            "S-2".to_owned(),
            "Renamed".to_owned(),
            Some("dir-2".to_owned())
        )
    );
    assert_eq!(
        import_ok(&workspace, "psa_company_id\n"),
        "0 created, 0 updated, 0 unchanged\n"
    );
}

#[test]
fn every_problem_of_a_list_is_reported_by_line_and_nothing_of_it_is_imported() {
    let workspace = Workspace::with_demo_world();
    let list = b"psa_company_id,psa_company_name,tenant_id\n\
                 3001,Fine,\n\
                 a;b,Bad id,\n\
                 ,No id,\n\
                 health,Reserved,\n\
                 3002,Bad link,no good\n\
                 3001,Again,\n\
                 3003,Short\n\
                 3004,Long,,,x\n\
                 \n\
                 3005,M\xc3\xbcller S\xc3\xb6hne \xff,\n\
                 3006,\"Open, dir\n3007,Swallowed\",dir\n";
    let id = "must be 1 to 64 letters, digits, spaces and characters of ._-&/+,'()#@: and neither 'health' nor 'unlinked-tenants'";
    assert_eq!(
        problems(&workspace, list),
        [
            format!("line 3, psa_company_id: \"a;b\": {id}"),
            "line 4, psa_company_id: is required".to_owned(),
            format!("line 5, psa_company_id: \"health\": {id}"),
            "line 6, tenant_id: \"no good\": must be the GUID of a Microsoft directory, but \"no good\" is not one; find it in the Microsoft Entra admin center under Overview > Tenant ID".to_owned(),
            "line 7, psa_company_name: \"Again\": is not the name that line 2 gives the same company, \"Fine\"; give both lines one name, or each company its own id".to_owned(),
            "line 8: has 2 cells, but the first line names 3 columns; give each row one cell per column".to_owned(),
            "line 9: has 5 cells, but the first line names 3 columns; give each row one cell per column".to_owned(),
            "line 11, psa_company_name: \"Müller Söhne \u{fffd}\": is not UTF-8; save the file as CSV UTF-8".to_owned(),
            "line 12, psa_company_name: \"Open, dir\": must not contain a line break; check for a missing closing quote".to_owned(),
        ]
    );
    // Conflicts with existing data are reported in the same way.
    assert_eq!(
        problems(
            &workspace,
            "psa_company_id,psa_company_name\n1001,Known\n4001,\n4002,New\n4003,\n"
        ),
        [
            "line 3, psa_company_name: is required for a new company",
            "line 5, psa_company_name: is required for a new company",
        ]
    );
    let long = format!(
        "psa_company_id,psa_company_name\n5001,{}\n",
        "x".repeat(201)
    );
    let told = problems(&workspace, long);
    assert_eq!(told.len(), 1);
    assert!(
        told[0].ends_with("…: must have at most 200 characters"),
        "{told:?}"
    );
}

#[test]
fn a_list_whose_first_line_does_not_name_the_columns_is_refused() {
    let workspace = Workspace::with_demo_world();
    let rule = |has: &str| {
        format!(
            "line 1, psa_company_id: the first line must name the columns: psa_company_id, and optionally psa_company_name and tenant_id; it has {has}; if one of them is the id, name it with --map \"HEADING=psa_company_id\""
        )
    };
    for (list, expected) in [
        (
            "",
            "line 1, psa_company_id: the file has no text; the first line must name the columns: psa_company_id, and optionally psa_company_name and tenant_id".to_owned(),
        ),
        (
            "psa_company_name,tenant_id\nA,b\n",
            rule("\"psa_company_name\", \"tenant_id\""),
        ),
        (
            "1001,Contoso,\n",
            rule("\"1001\", \"Contoso\", column 3"),
        ),
        (
            "psa_company_id,tenant_id,Tenant_id\n1,2,3\n",
            "line 1, tenant_id: the columns \"tenant_id\", \"Tenant_id\" can each be this; choose one with --map \"HEADING=tenant_id\", or remove the others".to_owned(),
        ),
    ] {
        assert_eq!(problems(&workspace, list), [expected], "{list}");
    }
}

#[test]
fn the_file_type_comes_from_its_name_or_a_flag_and_a_flag_that_does_not_fit_is_wrong_usage() {
    let workspace = Workspace::with_demo_world();
    let list = "psa_company_id,psa_company_name\n6001,A\n";
    let (upper, other) = (
        workspace.file("LIST.CSV", list),
        workspace.file("list.txt", list),
    );
    let tenant = ["--tenant", "northwind-it"];
    let created = workspace.ok(["import", &upper, tenant[0], tenant[1]]);
    assert_eq!(created, "1 created, 0 updated, 0 unchanged\n");
    let known = workspace.ok(["import", &other, "--csv", tenant[0], tenant[1]]);
    assert_eq!(known, "0 created, 0 updated, 1 unchanged\n");

    for (arguments, says) in [
        (vec!["import", upper.as_str()], "--tenant CLIENT_ID"),
        (
            vec!["import", "--csv", other.as_str()],
            "--tenant CLIENT_ID",
        ),
        (
            vec!["import", DEMO_WORLD, "--tenant", "northwind-it"],
            "--tenant is for a CSV file",
        ),
    ] {
        let done = workspace.run(arguments);
        assert_eq!((done.code, done.stdout.as_str()), (2, ""), "{done:?}");
        assert!(done.stderr.contains(says), "{done:?}");
    }
    for unknown in ["nobody", "No Tenant"] {
        let done = workspace.run(["import", &upper, "--tenant", unknown]);
        assert!(done.failure().contains(unknown), "{done:?}");
    }
    let done = workspace.run(["import", "missing.csv", tenant[0], tenant[1]]);
    assert!(done.failure().contains("missing.csv"));
}

#[test]
fn a_dry_run_lists_what_would_change_line_by_line_and_writes_nothing() {
    let workspace = Workspace::with_demo_world();
    let count = "SELECT cast(count(*) AS TEXT) FROM audit_events";
    let (world, events) = (workspace.ok(["export"]), stored(&workspace, count));
    let list = format!(
        "psa_company_id,psa_company_name,tenant_id\n1001,Contoso,\n1002,,{TAILSPIN}\n7001,\"Tab\tand bell\u{7}\",d\n"
    );
    let file = workspace.file("list.csv", list);
    let command = ["import", &file, "--tenant", "northwind-it", "--dry-run"];
    let expected = format!(
        "unchanged\tnorthwind-it\tend_company\t1001\n\
         updated\tnorthwind-it\tend_company\t1002\ttenant_id: \"{TAILSPIN}\"\n\
         created\tnorthwind-it\tend_company\t7001\tpsa_company_id: \"7001\", psa_company_name: \"Tab\\tand bell\\u0007\", tenant_id: \"d\"\n\
         dry run, nothing was written: 1 created, 1 updated, 1 unchanged\n"
    );
    assert_eq!(workspace.ok(command), expected);
    assert_eq!(workspace.ok(command), expected);
    assert_eq!(
        (workspace.ok(["export"]), stored(&workspace, count)),
        (world, events)
    );
    // A dry run reports problems too.
    let wrong = workspace.file("wrong.csv", "psa_company_id,psa_company_name\n8001,\n");
    let done = workspace.run(["import", &wrong, "--tenant", "northwind-it", "--dry-run"]);
    assert_eq!(
        done.failure(),
        "line 2, psa_company_name: is required for a new company"
    );
}

#[test]
fn a_seed_file_has_the_same_dry_run() {
    let workspace = Workspace::with_demo_world();
    let world = workspace.ok(["export"]);
    let demo = workspace.ok(["--env", "demo", "import", DEMO_WORLD, "--dry-run"]);
    let lines: Vec<&str> = demo.lines().collect();
    let (last, things) = lines.split_last().unwrap();
    assert!(
        things.iter().all(|line| line.starts_with("unchanged\t")),
        "{demo}"
    );
    assert_eq!(
        *last,
        format!(
            "dry run, nothing was written: 0 created, 0 updated, {} unchanged",
            things.len()
        )
    );

    let change = json!({ "tenants": [
        {
            "client_id": "northwind-it", "retention_days": 30,
            "agents": [{ "agent_id": 102, "description": null, "agent_settings": { "welcome_message": "Hi" } }],
            "channels": [{ "internal_name": "Second bot", "audience": "END_USER", "agent_id": 101, "bot_id": "b-2",
                           "installs": [{ "end_client_tenant_id": CONTOSO }] }],
            "users": [{ "id": "u-new", "role": "ADMIN" }],
            "api_keys": [{ "name": "New key", "key": "neo_sk_demo_secretsecret" }],
        },
        { "client_id": "new-msp", "name": "New MSP" },
    ] });
    let file = workspace.file("change.json", change.to_string());
    let told = workspace.ok(["--env", "demo", "import", &file, "--dry-run"]);
    assert!(!told.contains("secretsecret"));
    let lines: Vec<&str> = told.lines().collect();
    let starts = [
        "updated\tnorthwind-it\ttenant\tnorthwind-it\tretention_days: 30",
        "created\tnew-msp\ttenant\tnew-msp\tclient_id: \"new-msp\", name: \"New MSP\"",
        "updated\tnorthwind-it\tagent\t102\t",
        "created\tnorthwind-it\tchannel\tSecond bot\t",
        "updated\tnorthwind-it\tinstall\tca5cade0-4ce5-4d0e-9b1d-0f0a51deca5e\tchannel: \"Client help bot\" -> \"Second bot\"",
        "created\tnorthwind-it\tuser\tu-new\tid: \"u-new\", role: \"ADMIN\"",
        "created\tnorthwind-it\tapi_key\tNew key\tplatform: false",
        "created\tnew-msp\tagent\tNEO_SUPPORT",
        "dry run, nothing was written: 5 created, 3 updated, 0 unchanged",
    ];
    assert_eq!(lines.len(), starts.len(), "{told}");
    for (line, start) in lines.iter().zip(starts) {
        assert!(line.starts_with(start), "{line}");
    }
    assert!(lines[2].contains("-> null"), "{}", lines[2]);
    assert!(
        lines[2].contains("agent_settings.welcome_message: "),
        "{}",
        lines[2]
    );
    assert_eq!(workspace.ok(["export"]), world);
    // The import does what the dry run reported.
    let done = workspace.ok(["--env", "demo", "import", &file]);
    assert_eq!(done, "5 created, 3 updated, 0 unchanged\n");
}

#[test]
fn a_list_imported_while_the_server_runs_admits_refused_directories() {
    let workspace = Workspace::with_demo_world();
    let server = workspace.serve_demo_world();
    let client = server.client();
    let ask = json!({
        "managed_agent_key": "NEO_SUPPORT", "bot_id": "b07fab1e-c0de-4bee-8ace-facade0fb075", "inbound_tenant_id": TAILSPIN,
    });
    let refused = client.post(RELAY, "/chat/sessions", &ask);
    assert_eq!(refused.code(), "end_company_not_mapped");
    let unlinked = || {
        client
            .get(NORTHWIND, "/end-companies/unlinked-tenants")
            .data()
    };
    assert_eq!(unlinked()[0]["inbound_tenant_id"], TAILSPIN);
    let list = format!("tenant_id,psa_company_id\n{TAILSPIN},1002\n");
    assert_eq!(
        import_ok(&workspace, list),
        "0 created, 1 updated, 0 unchanged\n"
    );
    assert_eq!(unlinked(), json!([]));
    let created = client.post(RELAY, "/chat/sessions", &ask);
    assert_eq!(
        (created.status, created.data()["end_company_id"].as_str()),
        (201, Some("1002"))
    );
}

#[test]
fn a_hundred_thousand_companies_of_one_directory_are_imported_and_reported() {
    let workspace = Workspace::with_demo_world();
    let mut list = String::from("psa_company_id,psa_company_name,tenant_id\n");
    for number in 0..100_000 {
        list += &format!("C-{number},Company {number},c40bd000-0000-4000-8000-000000000001\n");
    }
    assert_eq!(
        import_ok(&workspace, &list),
        "100000 created, 0 updated, 0 unchanged\n"
    );
    assert!(
        workspace
            .ok(["check"])
            .contains("and 99980 more share the M365 tenant c40bd000-0000-4000-8000-000000000001")
    );
}
