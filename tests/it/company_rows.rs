//! A company that is created again with a deleted company's id is a different company. It inherits
//! no session, and no session of the deleted company sees its data.

use std::sync::mpsc;

use rusqlite::Connection;
use serde_json::json;
use tempfile::TempDir;

use crate::database::sqlite_only;
use crate::scripted_model::{Reply as ModelReply, ScriptedModel, text_chunk};
use crate::support::{CONTOSO, NORTHWIND, RELAY, Server, from};
use crate::upgrade::unpack_version_0_1;

/// A time after the last change in the data folder of version 0.1.
const END_OF_0_1: i64 = 1_795_974_444_416;

/// Deletes Northwind's company 1001 and creates another one with its id and its M365 tenant.
fn replace_contoso(server: &Server) {
    let northwind = server.northwind();
    northwind.delete("/end-companies/1001").expect(204);
    let heir = json!({
        "psa_company_id": "1001", "psa_company_name": "Litware", "tenant_id": CONTOSO,
        "custom_instructions_for_user_facing_chat": "Mention zqinstructions.",
    });
    northwind.post("/end-companies", heir).expect(201);
}

#[test]
fn a_company_under_a_deleted_companys_id_does_not_get_its_sessions() {
    let server = Server::demo();
    let (relay, northwind) = (server.relay(), server.northwind());
    let pinned = relay.session(from(CONTOSO));
    let tried = northwind.session(json!({ "agent_id": 101, "end_company_id": "1001" }));
    let token = relay.with_session_token(&pinned);
    token.append_text(&pinned, "Hello").expect(202);
    northwind.append_text(&tried, "Hello").expect(202);

    replace_contoso(&server);
    for (client, session) in [(&relay, &pinned), (&token, &pinned), (&northwind, &tried)] {
        client
            .append_text(session, "Still there?")
            .refused(409, "end_company_not_mapped");
    }
    let refused = northwind.append_text(&tried, "Hello?").error();
    assert_eq!(
        refused,
        json!({
            "code": "end_company_not_mapped",
            "message": "The company of this session no longer exists. Start a new session for another company.",
            "details": { "inbound_tenant_id": null, "client_id": "northwind-it", "linked_companies": 0 },
        })
    );
    let refused = relay.append_text(&pinned, "Hello?").error();
    assert_eq!(
        refused["details"],
        json!({ "inbound_tenant_id": CONTOSO, "client_id": "northwind-it", "linked_companies": 1 })
    );

    // The new company's own sessions work, and the old ones can still be read and found.
    let later = relay.session(from(CONTOSO));
    relay.append_text(&later, "Hello").expect(202);
    let also_tried = northwind.session(json!({ "agent_id": 101, "end_company_id": "1001" }));
    northwind.append_text(&also_tried, "Hello").expect(202);
    let kept = northwind.read_session(&tried).expect(200).data();
    assert_eq!(kept["end_company_id"], "1001");
    let found = northwind.list_sessions("end_company_id=1001").expect(200);
    assert_eq!(found.ids(), [also_tried, later, tried, pinned]);
}

#[test]
fn a_changed_company_keeps_its_sessions() {
    let server = Server::demo();
    let (relay, northwind) = (server.relay(), server.northwind());
    let pinned = relay.session(from(CONTOSO));
    northwind
        .put(
            "/end-companies/1001",
            json!({ "psa_company_name": "Contoso AG", "tenant_id": null }),
        )
        .expect(200);
    relay
        .append_text(&pinned, "Hello")
        .refused(409, "end_company_not_mapped");
    northwind
        .put("/end-companies/1001", json!({ "tenant_id": CONTOSO }))
        .expect(200);
    relay.append_text(&pinned, "Hello").expect(202);
    server.import_tenant(
        "northwind-it",
        json!({ "end_companies": [{ "psa_company_id": "1001", "psa_company_name": "Contoso" }] }),
    );
    relay.append_text(&pinned, "Hello again").expect(202);
    let restarted = server.restarted();
    let relay = restarted.relay();
    relay.append_text(&pinned, "And again").expect(202);
}

#[test]
fn a_waiting_turn_of_a_deleted_company_sees_nothing_of_the_company_that_took_its_id() {
    let (go_on, held) = mpsc::channel();
    let model = ScriptedModel::start(vec![
        ModelReply::events(text_chunk("One ")).then_wait(held),
        ModelReply::answer("Two"),
    ]);
    let server = Server::with_model(&model, &[]);
    let (relay, northwind) = (server.relay(), server.northwind());
    let pinned = relay.session(from(CONTOSO));
    let question = "How do I book a meeting room with zqpanels?";
    relay.append_text(&pinned, question).expect(202);
    let waiting = relay.append_text(&pinned, question).expect(202).data();

    replace_contoso(&server);
    northwind
        .post(
            "/knowledge-articles",
            json!({
                "title": "Meeting rooms with zqpanels", "audience": "END_USER", "end_company_id": "1001",
                "body": "Book a meeting room with the zqpanels: press zqsecret twice.",
            }),
        )
        .expect(201);
    go_on.send(()).unwrap();
    let turn = waiting["chat_turn_id"].as_str().unwrap();
    let ended = relay
        .turn(&pinned, turn, "wait_seconds=60")
        .expect(200)
        .data();
    assert_eq!(ended["status"], "COMPLETED");
    let requests = model.requests();
    let prompt = requests.last().unwrap().body.to_string();
    assert!(prompt.contains("zqpanels"), "{prompt}");
    for hidden in ["zqsecret", "Litware", "zqinstructions"] {
        assert!(!prompt.contains(hidden), "{hidden}: {prompt}");
    }
    // The company's own session sees all of it.
    let later = relay.session(from(CONTOSO));
    let asked = relay.append_text(&later, question).expect(202).data();
    let turn = asked["chat_turn_id"].as_str().unwrap();
    relay.turn(&later, turn, "wait_seconds=60").expect(200);
    let prompt = model.requests().last().unwrap().body.to_string();
    for shown in ["zqsecret", "Litware", "zqinstructions"] {
        assert!(prompt.contains(shown), "{shown}: {prompt}");
    }
}

/// A data folder of version 0.1, after these changes to its database.
fn folder_of_0_1(changes: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    unpack_version_0_1(folder.path());
    let file = Connection::open(folder.path().join("switchboard.db")).unwrap();
    file.execute_batch(changes).unwrap();
    folder
}

#[test]
fn an_upgrade_gives_a_session_its_company_unless_the_company_is_younger_or_gone() {
    sqlite_only!();
    let row = "SELECT company_seq IS (SELECT seq FROM end_companies WHERE psa_company_id = '1001') FROM sessions WHERE psa_company_id = '1001'";
    for (changes, is_mapped, status) in [
        ("", true, 202),
        // As version 0.1 left it after a deletion and a second company with the id.
        (
            "UPDATE end_companies SET seq = (SELECT max(seq) + 1 FROM turns) WHERE psa_company_id = '1001'",
            false,
            409,
        ),
        (
            "DELETE FROM knowledge_articles WHERE psa_company_id = '1001';
             DELETE FROM end_companies WHERE psa_company_id = '1001'",
            true,
            409,
        ),
    ] {
        let server = Server::on(folder_of_0_1(changes), END_OF_0_1);
        // A company that is gone has no row, and the session has none either.
        assert_eq!(server.stored::<bool>(row), is_mapped, "{changes}");
        let list = "/chat/sessions?end_company_id=1001";
        let [pinned] = &server
            .with_credential(NORTHWIND)
            .get(list)
            .expect(200)
            .ids()[..]
        else {
            panic!("version 0.1 left one session of the company");
        };
        let said = server.with_credential(RELAY).append_text(pinned, "Hello");
        let said = said.expect(status);
        if status == 409 {
            said.refused(409, "end_company_not_mapped");
        }
    }
}
