//! The ids of companies as PSAs write them: letters of any script, spaces, `&` and `/`.

use serde_json::{Value, json};

use crate::process::Workspace;
use crate::support::{Server, from};

/// The start of an encoded id, and the id.
const IDS: [(&str, &str); 9] = [
    ("ACME & Sons", "ACME%20%26%20Sons"),
    ("SMITH/JONES", "SMITH%2FJONES"),
    ("MÜLLER", "M%C3%9CLLER"),
    ("12 345", "12%20345"),
    ("1,234", "1%2C234"),
    ("'00124", "%2700124"),
    ("a+b (c) #1: d@e", "a%2Bb%20%28c%29%20%231%3A%20d%40e"),
    ("株式会社", "%E6%A0%AA%E5%BC%8F%E4%BC%9A%E7%A4%BE"),
    ("a../health", "a..%2Fhealth"),
];

const RULE: &str = "must be 1 to 64 letters, digits, spaces and characters of ._-&/+,'()#@: and neither 'health' nor 'unlinked-tenants'";
const FORMULA: &str = "must not begin with '=': a spreadsheet wrote the id as a formula; export the list again, with the id as plain text";
const DOTS: &str = "must not be '.' or '..', and must not have one of them between slashes: browsers and proxies change such a path";
const ROUNDED: &str = "must not be a number with an exponent, such as 1.00E+05: a spreadsheet has rounded the id; format the column as text and export the list again";

fn company(id: &str) -> Value {
    json!({ "psa_company_id": id, "psa_company_name": "A" })
}

#[test]
fn a_company_with_any_id_of_a_psa_is_found_by_its_encoded_path() {
    let server = Server::demo();
    let northwind = server.northwind();
    for (number, (id, encoded)) in IDS.into_iter().enumerate() {
        let path = format!("/end-companies/{encoded}");
        let made = northwind.post("/end-companies", company(id)).expect(201);
        assert_eq!(made.data()["psa_company_id"], id);
        let location = format!("/public-api{path}");
        assert_eq!(made.header("location"), Some(location.as_str()));
        assert_eq!(northwind.get(&path).expect(200).data(), made.data());
        let change = json!({ "psa_company_id": id, "tenant_id": format!("odd-{number}") });
        let changed = northwind.put(&path, change).expect(200).data();
        assert_eq!(changed["tenant_id"], format!("odd-{number}"));

        let article =
            json!({ "title": id, "body": "B", "audience": "END_USER", "end_company_id": id });
        let article = northwind.post("/knowledge-articles", article).expect(201);
        assert_eq!(article.data()["end_company_id"], id);
        let query = format!("/knowledge-articles?end_company_id={encoded}");
        assert_eq!(northwind.get(&query).expect(200).ids(), [article.id()]);

        let install =
            json!({ "end_client_tenant_id": format!("odd-{number}"), "psa_company_id": id });
        let installs = format!("/channels/{}/installs", server.client_help_bot());
        let install = northwind.post(&installs, install).expect(201);
        assert_eq!(install.data()["psa_company_id"], id);
        let session = server.relay().session(from(&format!("odd-{number}")));
        let sessions = northwind.list_sessions(&format!("end_company_id={encoded}"));
        assert_eq!(sessions.expect(200).ids(), [session]);

        northwind.delete(&path).expect(204);
        northwind.get(&path).refused(404, "not_found");
    }
}

#[test]
fn space_around_an_id_and_composed_or_decomposed_letters_name_the_same_company() {
    let server = Server::demo();
    let northwind = server.northwind();
    let made = northwind.post("/end-companies", company(" Cafe\u{301} "));
    assert_eq!(made.expect(201).data()["psa_company_id"], "Caf\u{e9}");
    for path in ["Caf%C3%A9", "Cafe%CC%81", "%20Caf%c3%a9%20"] {
        let found = northwind.get(&format!("/end-companies/{path}")).expect(200);
        assert_eq!(found.data()["psa_company_id"], "Caf\u{e9}");
    }
    for id in ["Caf\u{e9}", "Cafe\u{301}"] {
        northwind
            .post("/end-companies", company(id))
            .refused(409, "already_exists");
    }
    let seed = json!({ "end_companies": [{ "psa_company_id": "Cafe\u{301}", "psa_company_name": "Renamed" }] });
    server.import_tenant("northwind-it", seed);
    let found = northwind.get("/end-companies/Caf%C3%A9").expect(200);
    assert_eq!(found.data()["psa_company_name"], "Renamed");
}

#[test]
fn an_id_has_at_most_64_characters_however_many_bytes_they_take() {
    let server = Server::demo();
    let northwind = server.northwind();
    let longest = "社".repeat(64);
    northwind
        .post("/end-companies", company(&longest))
        .expect(201);
    northwind
        .post("/end-companies", company(&format!("{longest}社")))
        .refused_field("psa_company_id", RULE);
}

#[test]
fn an_encoded_slash_or_dot_in_a_path_is_a_part_of_the_id_and_leads_nowhere_else() {
    let server = Server::demo();
    let northwind = server.northwind();
    for path in [
        "1001%2F",
        "x%2F..%2F1001",
        "..%2F..%2Ftenant",
        "%2E%2E",
        "..",
        "%2e%2e%2f1001",
        "1001%252F",
        "1001%00",
        "%FF",
    ] {
        northwind
            .get(&format!("/end-companies/{path}"))
            .refused(404, "not_found");
    }
    // Only whole segments are decoded, and only once.
    northwind.get("/end-companies/%31001").expect(200);
    northwind
        .get("/end-companies/%2531001")
        .refused(404, "not_found");
}

#[test]
fn an_id_that_a_spreadsheet_has_damaged_is_refused_with_the_reason() {
    let server = Server::demo();
    let northwind = server.northwind();
    for (id, reason) in [
        ("1.00E+05", ROUNDED),
        ("1,5e+12", ROUNDED),
        ("=\"00123\"", FORMULA),
        ("..", DOTS),
        ("../health", DOTS),
        ("a/./b", DOTS),
        ("a;b", RULE),
        ("a\u{7}b", RULE),
        ("a\u{a0}b", RULE),
        ("  ", RULE),
    ] {
        northwind
            .post("/end-companies", company(id))
            .refused_field("psa_company_id", reason);
    }
    let workspace = Workspace::new();
    let seed = json!({ "tenants": [{ "client_id": "n", "name": "N", "end_companies": [company("1.00E+05")] }] });
    let file = workspace.file("seed.json", seed.to_string());
    assert_eq!(
        workspace.run(["import", &file]).failure(),
        format!("tenants[0].end_companies[0].psa_company_id: \"1.00E+05\": {ROUNDED}")
    );
}

#[test]
fn a_stored_id_that_nothing_new_may_have_stays_readable() {
    let server = Server::demo();
    let northwind = server.northwind();
    northwind.post("/end-companies", company("old")).expect(201);
    server.execute_sql(
        "UPDATE end_companies SET psa_company_id = '1E-05' WHERE psa_company_id = 'old'",
    );
    let found = northwind.get("/end-companies/1E-05").expect(200).data();
    assert_eq!(found["psa_company_id"], "1E-05");
    northwind.delete("/end-companies/1E-05").expect(204);
}
