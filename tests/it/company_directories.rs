//! Companies with several M365 tenants: each of them pins its people to the company.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::process::{Workspace, finish};
use crate::support::{
    ApiClient, CONTOSO, DEMO, FOURTH_COFFEE, NORTHWIND, SECOND, Server, TAILSPIN, from,
};

const COMPANY: &str = "/end-companies/1001";
/// Directories that the demo world does not name.
const MERGED: &str = "5e7eca5e-0000-4000-8000-000000000001";
const SCHOOL: &str = "5e7eca5e-0000-4000-8000-000000000002";

fn directory(number: usize) -> String {
    format!("d1ec70e5-0000-4000-8000-{number:012x}")
}

#[track_caller]
fn puts(client: &ApiClient, body: Value) -> Value {
    let company = client.put(COMPANY, body).expect(200).data();
    assert_eq!(client.get(COMPANY).expect(200).data(), company);
    json!([company["tenant_id"], company["tenant_ids"]])
}

/// The company that the relay's session from this directory is pinned to.
fn pinned_to(server: &Server, directory: &str) -> Value {
    let reply = server.relay().create_session(through_client_bot(directory));
    match reply.status {
        201 => reply.data()["end_company_id"].clone(),
        _ => {
            let refused = reply.refused(409, "end_company_not_mapped").error();
            refused["details"]["linked_companies"].clone()
        }
    }
}

fn through_client_bot(directory: &str) -> Value {
    let mut body = from(directory);
    body["client_id"] = "northwind-it".into();
    body
}

#[test]
fn each_directory_of_a_company_pins_its_people_to_the_company() {
    let server = Server::with_guids_only();
    let northwind = server.northwind();
    let spelled = format!("{{{}}}", SCHOOL.to_uppercase());
    let new = json!({
        "psa_company_id": "9", "psa_company_name": "Lucerne Group", "tenant_ids": [MERGED, spelled],
    });
    let made = northwind.post("/end-companies", new).expect(201).data();
    assert_eq!(made["tenant_id"], MERGED);
    assert_eq!(made["tenant_ids"], json!([MERGED, SCHOOL]));
    assert_eq!(northwind.get("/end-companies/9").expect(200).data(), made);
    for named in [MERGED, SCHOOL] {
        assert_eq!(pinned_to(&server, named), "9");
        let list = northwind.get(&format!("/end-companies?tenant_id={named}"));
        assert_eq!(list.expect(200).data(), json!([made]));
        let mut dry_run = through_client_bot(named);
        dry_run["client_id"] = Value::Null;
        let decision = northwind.resolve(dry_run).expect(200).data();
        assert_eq!(decision["end_company_id"], "9");
    }
    let whole = northwind.get("/end-companies?q=Lucerne").expect(200);
    assert_eq!(whole.data(), json!([made]));
    // Another tenant finds nothing and may give the directories to a company of its own.
    let list = format!("/end-companies?tenant_id={MERGED}");
    let fabrikam = server.fabrikam();
    assert_eq!(fabrikam.get(&list).expect(200).data(), json!([]));
    let new =
        json!({ "psa_company_id": "9", "psa_company_name": "L", "tenant_ids": [SCHOOL, MERGED] });
    fabrikam.post("/end-companies", new).expect(201);
    assert_eq!(pinned_to(&server, MERGED), "9");
    northwind.delete("/end-companies/9").expect(204);
    assert_eq!(northwind.get(&list).expect(200).data(), json!([]));
    assert_eq!(
        fabrikam.get(&list).expect(200).data()[0]["tenant_ids"],
        json!([SCHOOL, MERGED])
    );
}

#[test]
fn a_list_replaces_the_directories_and_tenant_id_alone_makes_the_list_that_one() {
    let server = Server::with_guids_only();
    let northwind = server.northwind();
    let none = json!([null, []]);
    for (body, after) in [
        (
            json!({ "tenant_ids": [CONTOSO, MERGED] }),
            json!([CONTOSO, [CONTOSO, MERGED]]),
        ),
        (
            json!({ "psa_company_name": "C" }),
            json!([CONTOSO, [CONTOSO, MERGED]]),
        ),
        (
            json!({ "tenant_ids": [MERGED, CONTOSO] }),
            json!([MERGED, [MERGED, CONTOSO]]),
        ),
        (json!({ "tenant_id": CONTOSO }), json!([CONTOSO, [CONTOSO]])),
        (
            json!({ "tenant_id": MERGED, "tenant_ids": [MERGED, CONTOSO] }),
            json!([MERGED, [MERGED, CONTOSO]]),
        ),
        (json!({ "tenant_id": MERGED }), json!([MERGED, [MERGED]])),
        (
            json!({ "tenant_ids": [SCHOOL, MERGED, CONTOSO] }),
            json!([SCHOOL, [SCHOOL, MERGED, CONTOSO]]),
        ),
        (json!({ "tenant_id": null }), none.clone()),
        (
            json!({ "tenant_ids": [CONTOSO] }),
            json!([CONTOSO, [CONTOSO]]),
        ),
        (json!({ "tenant_ids": [] }), none.clone()),
        (json!({ "tenant_id": CONTOSO }), json!([CONTOSO, [CONTOSO]])),
        (json!({ "tenant_ids": null }), none.clone()),
        (json!({ "tenant_id": null, "tenant_ids": [] }), none.clone()),
        (json!({ "tenant_id": null, "tenant_ids": null }), none),
        (
            json!({ "tenant_id": CONTOSO.to_uppercase(), "tenant_ids": [CONTOSO.replace('-', "")] }),
            json!([CONTOSO, [CONTOSO]]),
        ),
    ] {
        assert_eq!(puts(&northwind, body.clone()), after, "{body}");
    }
    // What was read can be sent back.
    let read = northwind.get(COMPANY).expect(200).data();
    server.advance_clock(SECOND);
    assert_eq!(
        northwind.put(COMPANY, read.clone()).expect(200).data(),
        read
    );
}

#[test]
fn directories_that_contradict_or_repeat_themselves_or_are_too_many_are_refused_by_field() {
    let server = Server::with_guids_only();
    let northwind = server.northwind();
    let before = northwind.get(COMPANY).expect(200).data();
    let first = "must be the first of tenant_ids, or null if there is none; send tenant_ids alone to set the whole list";
    let no_guid = "must be the GUID of a Microsoft directory, but \"tbc\" is not one; find it in the Microsoft Entra admin center under Overview > Tenant ID";
    let many: Vec<String> = (0..101).map(directory).collect();
    for (body, field, reason) in [
        (
            json!({ "tenant_id": MERGED, "tenant_ids": [CONTOSO, MERGED] }),
            "tenant_id",
            first,
        ),
        (
            json!({ "tenant_id": MERGED, "tenant_ids": [] }),
            "tenant_id",
            first,
        ),
        (
            json!({ "tenant_id": MERGED, "tenant_ids": null }),
            "tenant_id",
            first,
        ),
        (
            json!({ "tenant_id": null, "tenant_ids": [MERGED] }),
            "tenant_id",
            first,
        ),
        (
            json!({ "tenant_ids": [MERGED, CONTOSO, MERGED.to_uppercase()] }),
            "tenant_ids[2]",
            "is the same directory as tenant_ids[0]",
        ),
        (
            json!({ "tenant_ids": [MERGED, "tbc"] }),
            "tenant_ids[1]",
            no_guid,
        ),
        (
            json!({ "tenant_ids": [MERGED, 1] }),
            "tenant_ids[1]",
            "must be a string",
        ),
        (
            json!({ "tenant_ids": [null] }),
            "tenant_ids[0]",
            "must be a string",
        ),
        (
            json!({ "tenant_ids": MERGED }),
            "tenant_ids",
            "must be an array",
        ),
        (
            json!({ "tenant_ids": many }),
            "tenant_ids",
            "must have at most 100 entries",
        ),
    ] {
        northwind
            .put(COMPANY, body.clone())
            .refused_field(field, reason);
        let mut new = body;
        new["psa_company_id"] = "9".into();
        new["psa_company_name"] = "N".into();
        northwind
            .post("/end-companies", new)
            .refused_field(field, reason);
    }
    assert_eq!(northwind.get(COMPANY).expect(200).data(), before);
    assert_eq!(
        puts(&northwind, json!({ "tenant_ids": many[..100] }))[1],
        json!(many[..100])
    );

    // An id that an older version stored may stay in the list, but not come into another one.
    let stored = format!(
        "UPDATE company_directories SET m365_tenant_id = 'tbc' WHERE m365_tenant_id = '{}'",
        many[1]
    );
    server.execute_sql(&stored);
    assert_eq!(
        puts(&northwind, json!({ "tenant_ids": [MERGED, "TBC"] }))[1],
        json!([MERGED, "tbc"])
    );
    northwind
        .put("/end-companies/1002", json!({ "tenant_ids": ["tbc"] }))
        .refused_field("tenant_ids[0]", no_guid);
    let health = northwind.get("/end-companies/health").expect(200).data();
    let message = &health["unusable_directories"]["items"][0]["message"];
    assert_eq!(
        *message,
        format!("The tenant_ids[1] of the company 1001 \"Contoso\" {no_guid}.")
    );
}

#[test]
fn an_install_adds_a_directory_to_a_linked_company_only_when_told_to() {
    let server = Server::with_guids_only();
    let northwind = server.northwind();
    let installs = format!("/channels/{}/installs", server.client_help_bot());
    let install = |add: Value| json!({ "end_client_tenant_id": MERGED, "psa_company_id": "1001", "add_directory": add });
    for add in [json!(null), json!(false)] {
        let refused = northwind.post(&installs, install(add));
        let error = refused.refused(409, "company_already_bound").error();
        assert_eq!(
            error["message"],
            "This company is linked to another M365 tenant. Remove that link first, or send \"add_directory\": true to link this one too."
        );
        assert_eq!(error["details"], json!({ "field": "psa_company_id" }));
    }
    northwind
        .post(&installs, install(json!("yes")))
        .refused_field("add_directory", "must be true or false");
    assert_eq!(
        northwind.get(COMPANY).expect(200).data()["tenant_ids"],
        json!([CONTOSO])
    );

    let made = northwind.post(&installs, install(json!(true))).expect(201);
    assert_eq!(made.data()["psa_company_id"], "1001");
    let id = made.id();
    let company = northwind.get(COMPANY).expect(200).data();
    assert_eq!(company["tenant_ids"], json!([CONTOSO, MERGED]));
    assert_eq!(company["tenant_id"], CONTOSO);
    assert_eq!(pinned_to(&server, MERGED), "1001");
    assert_eq!(pinned_to(&server, CONTOSO), "1001");
    let details: String =
        server.stored("SELECT action || details FROM audit_events ORDER BY seq DESC LIMIT 1");
    assert_eq!(
        details,
        format!(
            r#"install.create{{"channel_id":"{}","end_client_tenant_id":"{MERGED}","psa_company_id":"1001"}}"#,
            server.client_help_bot()
        )
    );
    // A second time, nothing changes, with and without the word.
    for add in [true, false] {
        assert_eq!(
            northwind
                .post(&installs, install(json!(add)))
                .expect(200)
                .id(),
            id
        );
    }
    // A company without a directory needs no permission, and a directory needs a company.
    let first =
        json!({ "end_client_tenant_id": SCHOOL, "psa_company_id": "1002", "add_directory": true });
    northwind.post(&installs, first).expect(201);
    let without = json!({ "end_client_tenant_id": directory(1), "add_directory": true });
    let warned = northwind.post(&installs, without).expect(201).json();
    assert_eq!(
        warned["meta"]["warnings"],
        json!([
            "add_directory was ignored: it needs the psa_company_id of the company that gets the M365 tenant."
        ])
    );

    let full: Vec<String> = (100..200).map(directory).collect();
    puts(&northwind, json!({ "tenant_ids": full }));
    let refused = northwind.post(&installs, install(json!(true)));
    let error = refused.refused(409, "company_already_bound").error();
    assert_eq!(
        error["message"],
        "This company is linked to 100 M365 tenants already. Remove one of those links first."
    );
}

#[test]
fn a_session_stays_valid_while_the_directory_that_pinned_it_is_one_of_its_companys() {
    let server = Server::with_guids_only();
    let (northwind, relay) = (server.northwind(), server.relay());
    let session = relay.session(from(CONTOSO));
    let may_write = |expected: bool| {
        let said = relay.append_text(&session, "Hello");
        match expected {
            true => drop(said.expect(202)),
            false => drop(said.refused(409, "end_company_not_mapped")),
        }
    };
    for (directories, is_valid) in [
        (json!([CONTOSO, MERGED]), true),
        (json!([MERGED, CONTOSO]), true),
        (json!([MERGED]), false),
        (json!([SCHOOL, MERGED, CONTOSO]), true),
        (json!([]), false),
        (json!([CONTOSO]), true),
    ] {
        puts(&northwind, json!({ "tenant_ids": directories }));
        may_write(is_valid);
    }
    // A second company with the directory refuses both, whichever place it has there.
    let second = json!({ "tenant_ids": [SCHOOL, CONTOSO] });
    northwind.put("/end-companies/1002", second).expect(200);
    may_write(false);
    assert_eq!(pinned_to(&server, CONTOSO), 2);
    assert_eq!(pinned_to(&server, SCHOOL), "1002");
}

#[test]
fn the_findings_and_the_refused_directories_follow_each_directory_of_a_company() {
    let server = Server::with_guids_only();
    let northwind = server.northwind();
    assert_eq!(pinned_to(&server, MERGED), 0);
    assert_eq!(pinned_to(&server, SCHOOL), 0);
    let offered = |client: &ApiClient| -> Vec<Value> {
        let list = client.get("/end-companies/unlinked-tenants").expect(200);
        let items = list.data();
        items
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["inbound_tenant_id"].clone())
            .collect()
    };
    assert_eq!(offered(&northwind), [SCHOOL, MERGED]);
    puts(&northwind, json!({ "tenant_ids": [CONTOSO, MERGED] }));
    assert_eq!(offered(&northwind), [SCHOOL]);

    northwind
        .put(
            "/end-companies/1002",
            json!({ "tenant_ids": [MERGED, TAILSPIN] }),
        )
        .expect(200);
    assert_eq!(pinned_to(&server, MERGED), 2);
    assert_eq!(offered(&northwind), [MERGED, SCHOOL]);
    let health = northwind.get("/end-companies/health").expect(200).data();
    let shared = health["shared_directories"]["items"].as_array().unwrap();
    let merged = shared
        .iter()
        .find(|found| found["tenant_id"] == MERGED)
        .unwrap();
    assert_eq!(
        merged["companies"],
        json!([
            { "psa_company_id": "1001", "psa_company_name": "Contoso" },
            { "psa_company_id": "1002", "psa_company_name": "Tailspin Toys" },
        ])
    );
    assert_eq!(
        shared.len(),
        2,
        "{FOURTH_COFFEE} is shared in the demo world: {shared:?}"
    );
    northwind
        .put("/end-companies/1002", json!({ "tenant_id": TAILSPIN }))
        .expect(200);
    assert_eq!(offered(&northwind), [SCHOOL]);
    assert_eq!(pinned_to(&server, MERGED), "1001");
    let checked = Workspace::check_of(server.database());
    assert!(!checked.contains(MERGED), "{checked}");
}

#[test]
fn an_audit_event_has_the_directories_before_and_after_also_at_the_end_of_a_long_list() {
    let server = Server::with_guids_only();
    let northwind = server.northwind();
    let many: Vec<String> = (0..100).map(directory).collect();
    puts(&northwind, json!({ "tenant_ids": many }));
    let changed = |client: &ApiClient| {
        let events = client.get("/audit-events?page_size=1").expect(200).data();
        events[0]["details"]["changed"].clone()
    };
    assert_eq!(
        changed(&northwind),
        json!({
            "tenant_id": { "from": CONTOSO, "to": many[0] },
            "tenant_ids": { "from": [CONTOSO], "to": many },
        })
    );
    puts(&northwind, json!({ "tenant_ids": many[..99] }));
    let shorter = json!({ "tenant_ids": { "from": many, "to": many[..99] } });
    assert_eq!(changed(&northwind), shorter);
}

/// The companies of Northwind in an export.
fn exported(workspace: &Workspace) -> Value {
    let world: Value = serde_json::from_str(&workspace.ok(["export"])).unwrap();
    world["tenants"][0]["end_companies"].clone()
}

fn import_companies(workspace: &Workspace, companies: Value, dry_run: bool) -> String {
    let world = json!({ "tenants": [{ "client_id": "northwind-it", "end_companies": companies }] });
    let file = workspace.file("companies.json", world.to_string());
    let mut command = workspace.command(["import", &file]);
    command.env_remove("SWITCHBOARD_ANY_TENANT_ID");
    if dry_run {
        command.arg("--dry-run");
    }
    let done = finish(&mut command);
    format!("{}{}", done.stdout, done.stderr)
}

#[test]
fn a_seed_file_sets_the_directories_as_a_put_does_and_an_export_has_them() {
    let workspace = Workspace::with_demo_world();
    let company = |fields: Value| {
        let mut company = json!({ "psa_company_id": "1001" });
        company
            .as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        json!([company])
    };
    let several = company(json!({ "tenant_ids": [CONTOSO, MERGED.to_uppercase(), SCHOOL] }));
    let shown = import_companies(&workspace, several.clone(), true);
    let line = format!(
        "updated\tnorthwind-it\tend_company\t1001\ttenant_ids: [\"{CONTOSO}\"] -> [\"{CONTOSO}\",\"{MERGED}\",\"{SCHOOL}\"]\n"
    );
    assert!(shown.contains(&line), "{shown}");
    for expected in ["0 created, 1 updated", "0 created, 0 updated"] {
        let done = import_companies(&workspace, several.clone(), false);
        assert!(done.starts_with(expected), "{done}");
    }
    let first = &exported(&workspace)[0];
    assert_eq!(first["tenant_id"], CONTOSO);
    assert_eq!(first["tenant_ids"], json!([CONTOSO, MERGED, SCHOOL]));

    let copy = Workspace::new();
    let world = copy.file("world.json", workspace.ok(["export"]));
    copy.ok(["import", &world]);
    assert_eq!(copy.ok(["export"]), workspace.ok(["export"]));

    let refused = import_companies(
        &workspace,
        company(
            json!({ "tenant_id": MERGED, "tenant_ids": [CONTOSO, "tbc", CONTOSO.to_uppercase()] }),
        ),
        false,
    );
    assert_eq!(
        refused,
        format!(
            "tenants[0].end_companies[0].tenant_ids[2]: \"{}\": is the same directory as tenant_ids[0]\n\
             tenants[0].end_companies[0].tenant_id: \"{MERGED}\": must be the first of tenant_ids, or null if there is none; send tenant_ids alone to set the whole list\n",
            CONTOSO.to_uppercase()
        )
    );
    let no_guids = import_companies(
        &workspace,
        company(json!({ "tenant_ids": ["a", CONTOSO, "tbc"] })),
        false,
    );
    assert_eq!(no_guids.lines().count(), 2, "{no_guids}");
    for (line, start) in no_guids
        .lines()
        .zip(["tenant_ids[0]: \"a\": ", "tenant_ids[2]: \"tbc\": "])
    {
        assert!(
            line.starts_with(&format!("tenants[0].end_companies[0].{start}")),
            "{line}"
        );
    }

    let one = company(json!({ "tenant_id": MERGED }));
    let shown = import_companies(&workspace, one.clone(), true);
    let line = format!("tenant_ids: [\"{CONTOSO}\",\"{MERGED}\",\"{SCHOOL}\"] -> [\"{MERGED}\"]\n");
    assert!(shown.contains(&line), "{shown}");
    import_companies(&workspace, one, false);
    assert_eq!(exported(&workspace)[0]["tenant_ids"], json!([MERGED]));
    import_companies(&workspace, company(json!({ "tenant_id": null })), false);
    assert_eq!(exported(&workspace)[0]["tenant_ids"], json!([]));
}

#[test]
fn each_company_of_a_large_import_gets_all_its_directories_and_the_next_import_moves_them() {
    const COMPANIES: usize = 5_100;
    let workspace = Workspace::with_demo_world();
    let companies = |shift: usize| -> Value {
        let company = |number: usize| {
            let shifted = (number + shift) % COMPANIES;
            json!({
                "psa_company_id": format!("n{number}"), "psa_company_name": "New",
                "tenant_ids": [directory(number), directory(COMPANIES + shifted)],
            })
        };
        (0..COMPANIES).map(company).collect()
    };
    for (shift, counts) in [
        (0, "5100 created, 0 updated"),
        (1, "0 created, 5100 updated"),
    ] {
        let done = import_companies(&workspace, companies(shift), false);
        assert!(done.starts_with(counts), "{done}");
        let mut expected = String::new();
        for number in 0..COMPANIES {
            let further = COMPANIES + (number + shift) % COMPANIES;
            writeln!(expected, "{} {}", directory(number), directory(further)).unwrap();
        }
        let all = exported(&workspace);
        let mut found = String::new();
        for company in &all.as_array().unwrap()[4..] {
            let id = |index: usize| company["tenant_ids"][index].as_str().unwrap();
            writeln!(found, "{} {}", id(0), id(1)).unwrap();
        }
        assert!(found == expected);
    }
    workspace.ok(["check"]);
}

#[test]
fn a_change_of_the_list_by_another_process_is_seen_at_once() {
    let server = Server::with_world(DEMO, &[]);
    assert_eq!(pinned_to(&server, CONTOSO), "1001");
    assert_eq!(pinned_to(&server, "merged"), 0);
    let both = json!({ "end_companies": [{ "psa_company_id": "1001", "tenant_ids": ["merged", CONTOSO] }] });
    server.import_tenant("northwind-it", both);
    assert_eq!(pinned_to(&server, "merged"), "1001");
    assert_eq!(pinned_to(&server, CONTOSO), "1001");
    let one = json!({ "end_companies": [{ "psa_company_id": "1001", "tenant_ids": ["merged"] }] });
    server.import_tenant("northwind-it", one);
    assert_eq!(pinned_to(&server, CONTOSO), 0);
    server.with_credential(NORTHWIND).get("/whoami").expect(200);
}
