//! The findings that an import tells at its end: the same as mapping health and `check` have.

use serde_json::{Value, json};

use crate::process::{NORTHWIND, Workspace};
use crate::support::Server;

const ONE: &str = "11111111-2222-4333-8444-555555555501";
const TWO: &str = "11111111-2222-4333-8444-555555555502";

/// The messages of the two kinds of findings that an import tells.
fn messages(health: &Value) -> Vec<String> {
    let kinds = ["shared_directories", "duplicate_names"].into_iter();
    let items = kinds.flat_map(|kind| health[kind]["items"].as_array().unwrap());
    items
        .map(|item| item["message"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn an_import_and_its_dry_run_end_with_the_findings_of_mapping_health() {
    let workspace = Workspace::with_demo_world();
    let list = format!(
        "psa_company_id,psa_company_name,tenant_id\n\
         2021,Acme Ltd,{ONE}\n2022,Acme Ltd ,{TWO}\n2024,Acme Group,{ONE}\n2025,ACME GROUP,\n"
    );
    let file = workspace.file("list.csv", list);
    let before = workspace.ok(["export"]);
    let command = ["import", &file, "--tenant", "northwind-it"];
    let dry = workspace.run([&command[..], &["--dry-run"]].concat());
    assert_eq!(workspace.ok(["export"]), before);
    let done = workspace.run(command);
    assert_eq!((dry.code, done.code), (0, 0), "{dry:?} {done:?}");
    assert_eq!(done.stdout, "4 created, 0 updated, 0 unchanged\n");
    assert_eq!(dry.stderr, done.stderr);

    let server = workspace.serve_demo_world();
    let health = server.client().get(NORTHWIND, "/end-companies/health");
    let messages = messages(&health.data());
    assert_eq!(
        messages,
        [
            format!(
                "The companies 2021 \"Acme Ltd\", 2024 \"Acme Group\" share the M365 tenant {ONE}. Leave exactly one of them linked."
            ),
            "The companies 1003 \"Fourth Coffee\", 1004 \"Fourth Coffee Roastery\" share the M365 tenant c0ffee00-be4d-4ade-8d0e-decafdecaf00. Leave exactly one of them linked.".to_owned(),
            "The companies 2024 \"Acme Group\", 2025 \"ACME GROUP\" have the same name. Check whether they are one company.".to_owned(),
            "The companies 2021 \"Acme Ltd\", 2022 \"Acme Ltd\" have the same name. Check whether they are one company.".to_owned(),
        ]
    );
    let told = messages
        .iter()
        .map(|message| format!("warning: northwind-it: {message}\n"));
    assert_eq!(done.stderr, told.collect::<String>());
    let checked = workspace.ok(["check"]);
    for message in &messages {
        assert!(checked.contains(message), "{checked}");
    }
    server.stop();
}

#[test]
fn names_that_differ_in_space_around_them_or_case_are_duplicates() {
    let server = Server::demo();
    let northwind = server.northwind();
    for (id, name) in [
        ("a", "Adatum "),
        ("b", "adatum"),
        ("c", " ADATUM"),
        ("d", "Adatum 2"),
    ] {
        let company = json!({ "psa_company_id": id, "psa_company_name": name });
        northwind.post("/end-companies", company).expect(201);
    }
    let health = || northwind.get("/end-companies/health").expect(200).data();
    assert_eq!(
        health()["duplicate_names"],
        json!({ "count": 1, "items": [{
            "psa_company_name": "Adatum ",
            "same_named_companies": 3,
            "companies": [
                { "psa_company_id": "a", "psa_company_name": "Adatum " },
                { "psa_company_id": "b", "psa_company_name": "adatum" },
                { "psa_company_id": "c", "psa_company_name": " ADATUM" },
            ],
            "message": "The companies a \"Adatum \", b \"adatum\", c \" ADATUM\" have the same name. Check whether they are one company.",
        }] })
    );
    for id in ["a", "c"] {
        northwind
            .delete(&format!("/end-companies/{id}"))
            .expect(204);
    }
    assert_eq!(
        health()["duplicate_names"],
        json!({ "count": 0, "items": [] })
    );
}

#[test]
fn a_seed_file_ends_with_the_first_findings_of_each_of_its_tenants_and_the_number_of_the_others() {
    let workspace = Workspace::with_demo_world();
    let companies = |pairs: usize| -> Vec<Value> {
        (0..2 * pairs)
            .map(|number| json!({ "psa_company_id": format!("p{number:03}"), "psa_company_name": format!("Pair {:03}", number / 2) }))
            .collect()
    };
    let seed = json!({ "tenants": [
        { "client_id": "a-msp", "name": "A", "end_companies": companies(25) },
        { "client_id": "b-msp", "name": "B", "end_companies": companies(1) },
    ] });
    let file = workspace.file("seed.json", seed.to_string());
    let pair = |tenant: &str, number: usize| {
        format!(
            "warning: {tenant}: The companies p{:03} \"Pair {number:03}\", p{:03} \"Pair {number:03}\" have the same name. Check whether they are one company.\n",
            2 * number,
            2 * number + 1
        )
    };
    let mut expected: String = (0..20).map(|number| pair("a-msp", number)).collect();
    expected += &pair("b-msp", 0);
    expected += "warning: 5 more of these; 'switchboard check' lists all\n";
    for flags in [&["--dry-run"] as &[&str], &[]] {
        let done = workspace.run([&["import", file.as_str()], flags].concat());
        assert_eq!((done.code, done.stderr.as_str()), (0, expected.as_str()));
    }
}
