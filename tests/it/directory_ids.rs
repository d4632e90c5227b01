//! Ids of Microsoft directories that come from people: spellings, text that is not an id, ids that
//! name no organization, and ids that older versions stored.

use serde_json::{Value, json};

use crate::process::{CommandOutput, DEMO_FINDINGS, Workspace, finish};
use crate::support::{CONTOSO, SHARED_BOT, Server, TAILSPIN, from};

const WHERE: &str = "find it in the Microsoft Entra admin center under Overview > Tenant ID";
/// All private Microsoft accounts.
const PRIVATE: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";
/// The ids that name no organization, each with what it stands for.
const NOBODYS: [(&str, &str); 9] = [
    (
        PRIVATE,
        "all private Microsoft accounts, which cannot be served",
    ),
    (
        "consumers",
        "all private Microsoft accounts, which cannot be served",
    ),
    (
        "f8cdef31-a31e-4b4a-93e4-5f571e91255a",
        "a directory of Microsoft's own services",
    ),
    (
        "d6d49420-f39b-4df7-a1dc-d59a935871db",
        "a directory of Microsoft's own services",
    ),
    (
        "cab8a31a-1906-4287-a0d8-4eef66b95f6e",
        "a directory of Microsoft's own services",
    ),
    (
        "00000000-0000-0000-0000-000000000000",
        "no directory in particular",
    ),
    (
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
        "no directory in particular",
    ),
    ("common", "no directory in particular"),
    ("organizations", "no directory in particular"),
];
const NO_GUIDS: [&str; 9] = [
    "contoso.onmicrosoft.com",
    "contoso-dir",
    "none",
    "NULL",
    "N/A",
    "TBC",
    "-",
    "",
    "{ca5cade0-4ce5-4d0e-9b1d-0f0a51deca5e",
];

fn no_guid(value: &str) -> String {
    format!("must be the GUID of a Microsoft directory, but {value:?} is not one; {WHERE}")
}

fn nobodys(id: &str, meaning: &str) -> String {
    format!(
        "must be the id of an organization's directory, but {id:?} stands for {meaning}; {WHERE}"
    )
}

fn spellings(guid: &str) -> [String; 8] {
    let plain = guid.replace('-', "");
    [
        guid.to_uppercase(),
        plain.to_uppercase(),
        plain,
        format!("{{{guid}}}"),
        format!("({guid})"),
        format!("  {guid}\t"),
        format!("urn:uuid:{guid}"),
        format!(" {{{}}}", guid.to_uppercase()),
    ]
}

fn through_northwinds_bot(directory: &str) -> Value {
    let mut body = from(directory);
    body["client_id"] = "northwind-it".into();
    body
}

#[test]
fn a_guid_in_any_spelling_names_the_directory_that_the_relay_names() {
    let server = Server::with_guids_only();
    let northwind = server.northwind();
    for spelled in spellings(TAILSPIN) {
        let linked = northwind.put("/end-companies/1002", json!({ "tenant_id": spelled }));
        assert_eq!(linked.expect(200).data()["tenant_id"], TAILSPIN);
        server.relay().session(from(TAILSPIN));
        northwind
            .put("/end-companies/1002", json!({ "tenant_id": null }))
            .expect(200);
        let query: String = form_urlencoded::byte_serialize(spelled.as_bytes()).collect();
        northwind
            .put("/end-companies/1002", json!({ "tenant_id": TAILSPIN }))
            .expect(200);
        let list = northwind.get(&format!("/end-companies?tenant_id={query}"));
        assert_eq!(list.expect(200).data()[0]["psa_company_id"], "1002");
    }

    let channel = server.client_help_bot();
    let new = "1dea15ed-5eed-4b0a-8f1e-ab1e5ca1ab1e";
    let mut statuses = Vec::new();
    for spelled in spellings(new) {
        let body = json!({ "end_client_tenant_id": spelled });
        let made = northwind.post(&format!("/channels/{channel}/installs"), body);
        assert_eq!(made.data()["end_client_tenant_id"], new);
        statuses.push(made.status);
    }
    assert_eq!(statuses, [201, 200, 200, 200, 200, 200, 200, 200]);

    for (number, spelled) in spellings("5ea51de0-0000-4000-8000-000000000001")
        .iter()
        .enumerate()
    {
        let body = json!({ "client_id": format!("msp-{number}"), "name": "M", "entra_tenant_id": spelled });
        let made = server.relay().post("/tenants", body);
        match number {
            0 => assert_eq!(
                made.expect(201).data()["entra_tenant_id"],
                "5ea51de0-0000-4000-8000-000000000001"
            ),
            _ => drop(made.refused(409, "already_exists")),
        }
    }
}

#[test]
fn a_relay_may_name_a_guid_in_upper_case_or_without_dashes() {
    let server = Server::with_guids_only();
    for spelled in [CONTOSO.to_uppercase(), CONTOSO.replace('-', "")] {
        let session = server
            .relay()
            .create_session(from(&spelled))
            .expect(201)
            .data();
        assert_eq!(session["end_company_id"], "1001");
        assert_eq!(session["resolution"]["rule"], "white_label_install");
        let event = json!({ "bot_id": SHARED_BOT, "end_client_tenant_id": spelled });
        let installed = server.relay().post("/channels/install-events", event);
        assert_eq!(installed.expect(200).data()["matched"], true);
    }
    // Other ids keep their form: the message does not tell a relay where to find the right id.
    server
        .relay()
        .create_session(through_northwinds_bot("Contoso.Example"))
        .refused(409, "end_company_not_mapped");
    let refused = server.northwind().get("/end-companies/unlinked-tenants");
    assert_eq!(
        refused.expect(200).data()[0]["inbound_tenant_id"],
        "contoso.example"
    );
}

#[test]
fn an_id_that_is_no_guid_is_refused_with_the_value_and_where_to_find_the_right_one() {
    let server = Server::with_guids_only();
    for value in NO_GUIDS {
        is_refused_everywhere(&server, value, &no_guid(value));
    }
    let key = "neo_sk_demo_northwind00000000";
    is_refused_everywhere(&server, key, &no_guid("neo_sk_…"));
    is_refused_everywhere(&server, &format!("X.{key}.Y"), &no_guid("X.neo_sk_….Y"));
}

#[test]
fn an_id_that_names_no_organization_is_refused_also_where_names_are_allowed() {
    for server in [Server::with_guids_only(), Server::demo()] {
        for (id, meaning) in NOBODYS {
            let upper = id.to_uppercase();
            is_refused_everywhere(&server, &upper, &nobodys(&upper, meaning));
        }
        let braced = format!("{{{}}}", PRIVATE.replace('-', ""));
        is_refused_everywhere(&server, &braced, &nobodys(&braced, NOBODYS[0].1));
    }
}

/// Every call that gives an id to a directory refuses this one.
#[track_caller]
fn is_refused_everywhere(server: &Server, value: &str, reason: &str) {
    let (northwind, relay) = (server.northwind(), server.relay());
    northwind
        .put("/end-companies/1002", json!({ "tenant_id": value }))
        .refused_field("tenant_id", reason);
    let company = json!({ "psa_company_id": "9", "psa_company_name": "N", "tenant_id": value });
    northwind
        .post("/end-companies", company)
        .refused_field("tenant_id", reason);
    let installs = format!("/channels/{}/installs", server.client_help_bot());
    for client in [&northwind, &relay] {
        client
            .post(&installs, json!({ "end_client_tenant_id": value }))
            .refused_field("end_client_tenant_id", reason);
    }
    let tenant = json!({ "client_id": "msp-9", "name": "M", "entra_tenant_id": value });
    relay
        .post("/tenants", tenant)
        .refused_field("entra_tenant_id", reason);
    relay
        .patch("/tenants/northwind-it", json!({ "entra_tenant_id": value }))
        .refused_field("entra_tenant_id", reason);
}

#[test]
fn microsofts_own_corporate_directory_is_an_organizations() {
    let server = Server::with_guids_only();
    let microsoft = "72f988bf-86f1-41af-91ab-2d7cd011db47";
    let linked = server
        .northwind()
        .put("/end-companies/1002", json!({ "tenant_id": microsoft }));
    assert_eq!(linked.expect(200).data()["tenant_id"], microsoft);
}

#[test]
fn a_private_account_is_told_that_it_cannot_be_served_and_is_not_offered_for_linking() {
    let server = Server::with_guids_only();
    for (id, meaning) in NOBODYS {
        let message = if meaning.starts_with("all private") {
            "Private Microsoft accounts cannot be served here. Please write from your organization's account, or contact Northwind IT.".to_owned()
        } else {
            format!(
                "This chat serves organizations only, and the Microsoft 365 tenant {id} names none. Please contact Northwind IT."
            )
        };
        for reply in [
            server.relay().create_session(through_northwinds_bot(id)),
            server.relay().resolve(through_northwinds_bot(id)),
        ] {
            let refused = reply.refused(409, "end_company_not_mapped").error();
            assert_eq!(refused["message"], message);
            assert_eq!(
                refused["details"],
                json!({ "inbound_tenant_id": id, "client_id": "northwind-it", "linked_companies": 0 })
            );
        }
    }
    let offered = server.northwind().get("/end-companies/unlinked-tenants");
    assert_eq!(offered.expect(200).data(), json!([]));
    let health = server.northwind().get("/end-companies/health").expect(200);
    assert_eq!(health.data()["unusable_directories"]["count"], 0);
}

#[test]
fn an_install_that_is_stored_with_a_name_is_made_again_as_it_is() {
    let server = Server::with_guids_only();
    let installs = format!("/channels/{}/installs", server.client_help_bot());
    server.execute_sql(&format!(
        "UPDATE installs SET m365_tenant_id = 'contoso.example' WHERE m365_tenant_id = '{CONTOSO}'"
    ));
    let named = json!({ "end_client_tenant_id": "Contoso.Example" });
    server.northwind().post(&installs, named).expect(200);
    let other = json!({ "end_client_tenant_id": "other.example" });
    let refused = server.northwind().post(&installs, other);
    assert_eq!(refused.status, 400, "{}", refused.text());
}

#[test]
fn nobody_is_pinned_by_a_stored_id_that_names_no_organization() {
    let server = Server::with_guids_only();
    let pinned = server.relay().session(from(CONTOSO));
    for table in ["company_directories", "installs"] {
        server.execute_sql(&format!(
            "UPDATE {table} SET m365_tenant_id = '{PRIVATE}' WHERE m365_tenant_id = '{CONTOSO}'"
        ));
    }
    server.execute_sql(&format!(
        "UPDATE sessions SET inbound_m365_tenant_id = '{PRIVATE}'"
    ));
    let refused = server
        .relay()
        .create_session(from(PRIVATE))
        .refused(409, "end_company_not_mapped");
    assert_eq!(refused.error()["details"]["linked_companies"], 1);
    // A session that an older version pinned takes no new message.
    server
        .relay()
        .append_text(&pinned, "Hello?")
        .refused(409, "end_company_not_mapped");
    let offered = server.northwind().get("/end-companies/unlinked-tenants");
    assert_eq!(offered.expect(200).data(), json!([]));
}

#[test]
fn a_stored_id_that_is_none_stays_readable_and_is_a_finding() {
    let server = Server::with_guids_only();
    let northwind = server.northwind();
    let channel = server.client_help_bot();
    let link = "UPDATE company_directories SET m365_tenant_id = 'contoso.example' WHERE psa_company_id = '1001'";
    server.execute_sql(link);
    server.execute_sql(&format!(
        "UPDATE installs SET m365_tenant_id = '{PRIVATE}' WHERE m365_tenant_id = '{CONTOSO}'"
    ));
    server
        .execute_sql("UPDATE tenants SET entra_tenant_id = 'tbc' WHERE client_id = 'northwind-it'");

    let unchanged = json!({ "psa_company_name": "Contoso Ltd", "tenant_id": "Contoso.Example" });
    let company = northwind.put("/end-companies/1001", unchanged).expect(200);
    assert_eq!(company.data()["tenant_id"], "contoso.example");
    let list = northwind.get("/end-companies?tenant_id=contoso.example");
    assert_eq!(list.expect(200).data()[0]["psa_company_id"], "1001");
    northwind
        .put(
            "/end-companies/1001",
            json!({ "tenant_id": "contoso2.example" }),
        )
        .refused_field("tenant_id", &no_guid("contoso2.example"));
    server
        .relay()
        .patch(
            "/tenants/northwind-it",
            json!({ "entra_tenant_id": "TBC", "retention_days": 9 }),
        )
        .expect(200);

    let found = |what: &str, id: &str, code: &str, reason: String| {
        json!({
            "tenant_id": id, "psa_company_id": null, "psa_company_name": null, "channel_id": null, "internal_name": null,
            "code": code, "message": format!("{what} {reason}."),
        })
    };
    let mut of_company = found(
        "The tenant_id of the company 1001 \"Contoso Ltd\"",
        "contoso.example",
        "end_company_not_mapped",
        no_guid("contoso.example"),
    );
    of_company["psa_company_id"] = "1001".into();
    of_company["psa_company_name"] = "Contoso Ltd".into();
    let mut of_install = found(
        "The end_client_tenant_id of an install of the channel \"Client help bot\"",
        PRIVATE,
        "end_company_not_mapped",
        nobodys(PRIVATE, NOBODYS[0].1),
    );
    of_install["channel_id"] = channel.into();
    of_install["internal_name"] = "Client help bot".into();
    let of_tenant = found(
        "The entra_tenant_id of the tenant",
        "tbc",
        "unauthorized",
        no_guid("tbc"),
    );
    let health = northwind.get("/end-companies/health").expect(200).data();
    assert_eq!(
        health["unusable_directories"],
        json!({ "count": 3, "items": [of_tenant, of_company, of_install] })
    );
    // Nobody is told to link what cannot be linked.
    assert_eq!(health["installed_without_company"]["count"], 1);

    let checked = Workspace::check_of(server.database());
    for message in [
        no_guid("tbc"),
        no_guid("contoso.example"),
        nobodys(PRIVATE, NOBODYS[0].1),
    ] {
        assert!(
            checked.contains(&format!("{message}.\n")),
            "{message}\n{checked}"
        );
    }
}

#[test]
fn where_names_are_allowed_only_ids_without_an_organization_are_findings() {
    let server = Server::demo();
    server
        .northwind()
        .put(
            "/end-companies/1002",
            json!({ "tenant_id": "Tailspin-Dir" }),
        )
        .expect(200);
    server.execute_sql(
        "UPDATE company_directories SET m365_tenant_id = 'common' WHERE psa_company_id = '1001'",
    );
    let health = server.northwind().get("/end-companies/health").expect(200);
    let found = &health.data()["unusable_directories"];
    assert_eq!(found["count"], 1);
    assert_eq!(found["items"][0]["tenant_id"], "common");
}

/// Runs a command with the product's own rule.
fn run(workspace: &Workspace, arguments: &[&str]) -> CommandOutput {
    let mut command = workspace.command(arguments);
    finish(command.env_remove("SWITCHBOARD_ANY_TENANT_ID"))
}

#[test]
fn the_command_line_takes_guids_and_names_only_with_the_flag() {
    let workspace = Workspace::new();
    let create = |id: &str, entra: &str, more: &[&str]| {
        let mut arguments = vec!["tenants", "create", "--client-id", id, "--name", "M"];
        arguments.extend(["--entra-tenant-id", entra]);
        arguments.extend(more);
        run(&workspace, &arguments)
    };
    for value in ["contoso.onmicrosoft.com", "n/a", "-"] {
        let refused = create("m-1", value, &[]);
        assert_eq!(refused.code, 2, "{refused:?}");
        let line = format!("error: --entra-tenant-id {}", no_guid(value));
        assert!(refused.stderr.contains(&line), "{refused:?}");
    }
    for (id, meaning) in NOBODYS {
        for more in [&[][..], &["--any-tenant-id"]] {
            let refused = create("m-1", id, more);
            assert_eq!(refused.code, 2, "{refused:?}");
            let line = format!("error: --entra-tenant-id {}", nobodys(id, meaning));
            assert!(refused.stderr.contains(&line), "{refused:?}");
        }
    }
    assert_eq!(
        create("m-1", "{CA5CADE0-4CE5-4D0E-9B1D-0F0A51DECA5E}", &[]).code,
        0
    );
    assert_eq!(create("m-2", "Msp-Dir", &["--any-tenant-id"]).code, 0);
    let listed = run(&workspace, &["tenants", "list"]).stdout;
    let directories: Vec<&str> = listed
        .lines()
        .filter_map(|line| line.split('\t').nth(2))
        .collect();
    assert_eq!(directories, [CONTOSO, "msp-dir"]);
}

#[test]
fn a_word_for_no_directory_in_a_list_is_an_empty_cell_with_a_warning() {
    let workspace = Workspace::with_demo_world();
    let list = "psa_company_id,psa_company_name,tenant_id\n\
                1001,Contoso,N/A\n1002,Tailspin Toys,n/a\n2001,A,-\n2002,B,None\n2003,C,NULL\n2004,None, none \n2005,E,\n";
    let file = workspace.file("companies.csv", list);
    let done = run(&workspace, &["import", &file, "--tenant", "northwind-it"]);
    let warning = |line: u8, cell: &str| {
        format!("warning: ignored: line {line}, tenant_id: {cell:?}: is read as an empty cell\n")
    };
    let warnings = warning(2, "N/A")
        + &warning(3, "n/a")
        + &warning(4, "-")
        + &warning(5, "None")
        + &warning(6, "NULL")
        + &warning(7, "none")
        + DEMO_FINDINGS;
    assert_eq!(
        (done.code, done.stderr.as_str(), done.stdout.as_str()),
        (0, warnings.as_str(), "5 created, 0 updated, 2 unchanged\n")
    );
    let world = workspace.ok(["export", "--tenant", "northwind-it"]);
    let world: Value = serde_json::from_str(&world).unwrap();
    let companies = world["tenants"][0]["end_companies"].as_array().unwrap();
    let named = |id: &str| {
        let found = companies.iter().find(|row| row["psa_company_id"] == id);
        let row = found.unwrap();
        (row["psa_company_name"].clone(), row["tenant_id"].clone())
    };
    assert_eq!(named("1001"), ("Contoso".into(), CONTOSO.into()));
    assert_eq!(named("2004"), ("None".into(), Value::Null));
}

#[test]
fn an_import_lists_each_id_that_is_none_and_takes_what_is_stored_already() {
    let workspace = Workspace::with_demo_world();
    let list = format!(
        "psa_company_id,psa_company_name,tenant_id\n2001,A,contoso.onmicrosoft.com\n2002,B,{PRIVATE}\n2003,C,{{{}}}\n2004,D,no good\n",
        CONTOSO.to_uppercase()
    );
    let file = workspace.file("companies.csv", list);
    let arguments = ["import", &file, "--tenant", "northwind-it"];
    let done = run(&workspace, &arguments);
    let no_good = no_guid("no good");
    assert_eq!(
        (done.code, done.stderr),
        (1, format!("line 5, tenant_id: \"no good\": {no_good}\n"))
    );
    let list = format!(
        "psa_company_id,psa_company_name,tenant_id\n2001,A,contoso.onmicrosoft.com\n2002,B,{PRIVATE}\n2003,C,{{{}}}\n",
        CONTOSO.to_uppercase()
    );
    workspace.file("companies.csv", list);
    let done = run(&workspace, &arguments);
    let (name, private) = (
        no_guid("contoso.onmicrosoft.com"),
        nobodys(PRIVATE, NOBODYS[0].1),
    );
    assert_eq!(
        (done.code, done.stderr),
        (
            1,
            format!(
                "line 2, tenant_id: \"contoso.onmicrosoft.com\": {name}\nline 3, tenant_id: \"{PRIVATE}\": {private}\n"
            )
        )
    );

    let seed = json!({ "tenants": [{
        "client_id": "northwind-it", "entra_tenant_id": "common",
        "end_companies": [{ "psa_company_id": "1001", "tenant_id": "TBC" }],
        "channels": [{ "internal_name": "Client help bot", "installs": [{ "end_client_tenant_id": "tailspin" }] }],
    }] });
    let file = workspace.file("seed.json", seed.to_string());
    let done = run(&workspace, &["import", &file]);
    assert_eq!(
        (done.code, done.stderr),
        (
            1,
            format!(
                "tenants[0].entra_tenant_id: \"common\": {}\n\
                 tenants[0].end_companies[0].tenant_id: \"TBC\": {}\n\
                 tenants[0].channels[0].installs[0].end_client_tenant_id: \"tailspin\": {}\n",
                nobodys("common", "no directory in particular"),
                no_guid("TBC"),
                no_guid("tailspin")
            )
        )
    );

    // What an older version stored can be exported and imported again.
    let mut seed = seed;
    seed["tenants"][0]["entra_tenant_id"] = "northwind.example".into();
    let file = workspace.file("seed.json", seed.to_string());
    let named = run(&workspace, &["import", &file, "--any-tenant-id"]);
    assert_eq!(
        (named.code, named.stderr.as_str()),
        (0, DEMO_FINDINGS),
        "{named:?}"
    );
    let again = run(&workspace, &["import", &file]);
    assert_eq!(
        (again.code, again.stdout.as_str()),
        (0, "0 created, 0 updated, 4 unchanged\n")
    );
}
