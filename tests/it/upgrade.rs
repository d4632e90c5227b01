//! Data folders of released versions open in this version, with all their data.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::database::sqlite_only;
use crate::process::Workspace;
use crate::support::{ApiClient, CONTOSO, NORTHWIND, START, Server, from};
use crate::wire::{Connection, Request};

/// Removes signed links, which contain the server's address and expire.
fn without_links(value: &Value) -> Value {
    match value {
        Value::String(text) if text.contains("signature=") => "link".into(),
        Value::Array(items) => items.iter().map(without_links).collect(),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| (name.clone(), without_links(value)))
            .collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/data-0.1")
}

/// The number of the newest migration.
pub fn newest_migration() -> i64 {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/sqlite");
    let number = |name: &str| name.strip_prefix('V')?.split_once("__")?.0.parse().ok();
    fs::read_dir(folder)
        .unwrap()
        .filter_map(|file| number(file.unwrap().file_name().to_str()?))
        .max()
        .unwrap()
}

/// Unpacks a data folder that version 0.1 wrote.
pub fn unpack_version_0_1(folder: &Path) {
    let packed = fs::File::open(fixture().join("switchboard.db.gz")).unwrap();
    let mut database = Vec::new();
    GzDecoder::new(packed).read_to_end(&mut database).unwrap();
    fs::write(folder.join("switchboard.db"), database).unwrap();
    let secret = "signing.secret";
    fs::copy(fixture().join(secret), folder.join(secret)).unwrap();
}
/// Ids of directories that version 0.1 took: a GUID without dashes, which refused the company's
/// staff, and refusals that nobody can resolve by a link.
const OLDER_IDS: &str = "
UPDATE end_companies SET m365_tenant_id = replace(m365_tenant_id, '-', '') WHERE psa_company_id = '1001';
INSERT INTO unlinked_tenants (tenant_no, m365_tenant_id, seq, attempts, first_seen_at, last_seen_at)
SELECT tenant_no, '9188040d-6c67-4c5b-b112-36a304b66dad', 1, 1, 1, 1 FROM tenants WHERE client_id = 'northwind-it';
INSERT INTO unlinked_tenants (tenant_no, m365_tenant_id, seq, attempts, first_seen_at, last_seen_at)
SELECT tenant_no, 'common', 2, 1, 1, 1 FROM tenants WHERE client_id = 'northwind-it';";

/// Asserts that a reply has all that the stored one had, field by field. Later versions add fields.
#[track_caller]
fn assert_covers(reply: &Value, stored: &Value, path: &str) {
    match (reply, stored) {
        (Value::Object(reply), Value::Object(stored)) => {
            for (name, stored) in stored {
                assert_covers(&reply[name], stored, &format!("{path} {name}"));
            }
        }
        (Value::Array(reply), Value::Array(stored)) => {
            assert_eq!(reply.len(), stored.len(), "{path}");
            for (reply, stored) in reply.iter().zip(stored) {
                assert_covers(reply, stored, path);
            }
        }
        (reply, stored) => assert_eq!(reply, stored, "{path}"),
    }
}

#[test]
fn a_data_folder_of_version_0_1_is_served_with_everything_that_was_in_it() {
    sqlite_only!();
    let expected = fs::read_to_string(fixture().join("expected.json")).unwrap();
    let expected: Value = serde_json::from_str(&expected).unwrap();
    let folder = TempDir::new().unwrap();
    unpack_version_0_1(folder.path());
    let path = folder.path().join("switchboard.db");
    let stored = rusqlite::Connection::open(path).unwrap();
    stored.execute_batch(OLDER_IDS).unwrap();
    drop(stored);

    let server = Server::on(folder, expected["now_ms"].as_i64().unwrap());
    let replies = expected["replies"].as_array().unwrap();
    assert_eq!(replies.len(), 16);
    for stored in replies {
        let caller = server.with_credential(stored["key"].as_str().unwrap());
        let path = stored["path"].as_str().unwrap();
        let reply = caller.get(path).expect(200);
        match stored["text"].as_str() {
            Some(text) => assert_eq!(reply.text(), text, "{path}"),
            None => assert_covers(&without_links(&reply.data()), &stored["data"], path),
        }
    }

    // The one directory of a company has become its list.
    let companies = server.with_credential(NORTHWIND).get("/end-companies");
    let linked = companies.expect(200).data();
    for company in linked.as_array().unwrap() {
        let directories: Vec<&Value> = company["tenant_id"]
            .as_str()
            .map(|_| &company["tenant_id"])
            .into_iter()
            .collect();
        assert_eq!(company["tenant_ids"], json!(directories));
    }
    let is_linked = |company: &&Value| !company["tenant_id"].is_null();
    assert_eq!(
        linked.as_array().unwrap().iter().filter(is_linked).count(),
        4
    );

    // A repeat of a request to the old version still gets its stored reply, which lacks the fields
    // of later versions, so that it is not held to the document.
    let body =
        r#"{"agent_id": 102, "title": "Printer on floor 3", "metadata": {"ticket": "4711"}}"#;
    let repeat = Request::new("POST", "/chat/sessions")
        .header("Content-Type", "application/json")
        .header("Idempotency-Key", "first-key")
        .header("Authorization", format!("Bearer {NORTHWIND}"))
        .text(body);
    let (reply, _) = Connection::open(server.address).exchange(&repeat).unwrap();
    let reply = reply.unwrap().expect(201);
    let northwind = server.with_credential(NORTHWIND);
    assert_eq!(reply.data()["id"], replies[0]["data"]["id"]);
    // An old session accepts new messages.
    let id = replies[0]["data"]["id"].as_str().unwrap();
    let said = northwind.post(
        &format!("/chat/sessions/{id}/messages"),
        json!({ "message": "And the scanner?" }),
    );
    said.expect(202);
}

/// Ids of directories without dashes that another install and another tenant have with dashes.
const LEFTOVERS: &str = "
UPDATE installs SET m365_tenant_id = 'ca5cade04ce54d0e9b1d0f0a51deca5e' WHERE m365_tenant_id = '0ddba110-face-4fee-9add-1eaf1ed0dd01';
UPDATE tenants SET entra_tenant_id = 'ab0de0a1fa004c1a9cabab0de000a1fa' WHERE client_id = 'fabrikam-support';";

#[test]
fn an_id_without_dashes_beside_the_same_id_with_dashes_is_a_finding_that_says_what_to_remove() {
    sqlite_only!();
    let folder = TempDir::new().unwrap();
    unpack_version_0_1(folder.path());
    let path = folder.path().join("switchboard.db");
    let stored = rusqlite::Connection::open(path).unwrap();
    let sql = "SELECT lower(hex(id)) FROM installs WHERE m365_tenant_id LIKE '0ddba110%'";
    let leftover: String = stored.query_row(sql, [], |row| row.get(0)).unwrap();
    stored.execute_batch(LEFTOVERS).unwrap();
    drop(stored);

    let server = Server::on(folder, START);
    let (northwind, fabrikam) = (server.northwind(), server.fabrikam());
    let channel = server.client_help_bot();
    let installs = format!("/channels/{channel}/installs");
    let list = northwind.get(&installs).expect(200).data();
    let is_leftover = |id: &&Value| id.as_str().unwrap().replace('-', "").ends_with(&leftover);
    let ids: Vec<&Value> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|row| &row["id"])
        .collect();
    let install = ids.into_iter().find(is_leftover).unwrap().as_str().unwrap();

    let findings = |client: &ApiClient| {
        let health = client.get("/end-companies/health").expect(200).data();
        assert_eq!(health["installed_without_company"]["count"], 0);
        health["unusable_directories"].clone()
    };
    let of_install = format!(
        "The end_client_tenant_id of an install of the channel \"Client help bot\" is stored without dashes \
         (\"ca5cade04ce54d0e9b1d0f0a51deca5e\") beside the same id with dashes, so that no request reaches it; \
         remove the install {install}."
    );
    let of_tenant = "The entra_tenant_id of the tenant is stored without dashes (\"ab0de0a1fa004c1a9cabab0de000a1fa\") \
                     beside the same id with dashes, so that no request reaches it; ask the platform's operator to remove it.";
    assert_eq!(
        findings(&northwind),
        json!({ "count": 1, "items": [{
            "tenant_id": "ca5cade04ce54d0e9b1d0f0a51deca5e", "psa_company_id": null, "psa_company_name": null,
            "channel_id": channel, "internal_name": "Client help bot", "code": "end_company_not_mapped", "message": of_install,
        }] })
    );
    assert_eq!(
        findings(&fabrikam),
        json!({ "count": 1, "items": [{
            "tenant_id": "ab0de0a1fa004c1a9cabab0de000a1fa", "psa_company_id": null, "psa_company_name": null,
            "channel_id": null, "internal_name": null, "code": "unauthorized", "message": of_tenant,
        }] })
    );
    let checked = Workspace::check_of(server.database());
    for message in [of_install.as_str(), of_tenant] {
        assert!(checked.contains(&format!("{message}\n")), "{checked}");
    }

    northwind
        .delete(&format!("{installs}/{install}"))
        .expect(204);
    let change = json!({ "entra_tenant_id": null });
    let tenant = "/tenants/fabrikam-support";
    server.relay().patch(tenant, change).expect(200);
    for client in [&northwind, &fabrikam] {
        assert_eq!(findings(client), json!({ "count": 0, "items": [] }));
    }
    let session = server.relay().session(from(CONTOSO));
    assert!(session.starts_with("ses_"));
}
