//! Data folders of released versions open in this version, with all their data.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{NORTHWIND, Server};
use crate::wire::Request;

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
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
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

    // A repeat of a request to the old version still gets its stored reply.
    let body =
        r#"{"agent_id": 102, "title": "Printer on floor 3", "metadata": {"ticket": "4711"}}"#;
    let repeat = Request::new("POST", "/chat/sessions")
        .header("Content-Type", "application/json")
        .header("Idempotency-Key", "first-key")
        .text(body);
    let northwind = server.with_credential(NORTHWIND);
    let reply = northwind.send(repeat).expect(201);
    assert_eq!(reply.data()["id"], replies[0]["data"]["id"]);
    // An old session accepts new messages.
    let id = replies[0]["data"]["id"].as_str().unwrap();
    let said = northwind.post(
        &format!("/chat/sessions/{id}/messages"),
        json!({ "message": "And the scanner?" }),
    );
    said.expect(202);
}
