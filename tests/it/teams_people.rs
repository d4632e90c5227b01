//! Who talks in conversations of Teams, and which session they are in.

use serde_json::{Value, json};

use crate::support::{SHARED_BOT, Server, TAILSPIN, WOODGROVE};
use crate::teams_bots::{
    BotFramework, deliver, from_directory, in_group, message, messages, outbox, with,
};

/// Northwind's sessions, newest first.
fn sessions(server: &Server) -> Vec<Value> {
    let list = server.northwind().list_sessions("archived=all");
    list.expect(200).data().as_array().unwrap().clone()
}

#[test]
fn a_private_chat_has_its_person_and_in_a_group_each_message_has_its_author() {
    let framework = BotFramework::new();
    let server = framework.serve();
    deliver(&server, &message("1", "Hello"));
    deliver(&server, &in_group("1", "kim", "who knows Vimto"));
    let of_ann = with(
        in_group("2", "Ann Petrova", "I do"),
        &[
            ("/from/id", "29:ann".into()),
            ("/from/aadObjectId", Value::Null),
        ],
    );
    deliver(&server, &of_ann);
    let found = sessions(&server);
    let [group, private] = found.as_slice() else {
        panic!("{found:?}");
    };
    let person = "0b1ec700-c0de-4aaa-8bbb-00000000c1a0";
    assert_eq!(
        private["end_user"],
        json!({ "id": person, "name": "Kim Ellery", "email": null })
    );
    assert_eq!(group["end_user"], Value::Null);
    let external = |session: &Value| session["external_id"].as_str().unwrap().to_owned();
    assert!(
        external(private).starts_with(SHARED_BOT) && external(private).ends_with("/a:private-kim")
    );
    assert!(external(group).ends_with("/19:group@thread.v2"));
    let authors = |session: &Value| -> Vec<Value> {
        let id = session["id"].as_str().unwrap();
        let list = server.northwind().messages(id, "").expect(200).data();
        let list = list.as_array().unwrap().iter();
        list.map(|message| message["author"].clone()).collect()
    };
    let author = |id: &str, name: &str| json!({ "kind": "end_user", "id": id, "name": name });
    assert_eq!(authors(private), [author(person, "Kim Ellery")]);
    assert_eq!(
        authors(group),
        [author(person, "kim"), author("29:ann", "Ann Petrova")]
    );
    for (word, found) in [("Ellery", private), ("Petrova", group)] {
        let list = server.northwind().list_sessions(&format!("q={word}"));
        assert_eq!(
            list.expect(200).ids(),
            [found["id"].as_str().unwrap()],
            "{word}"
        );
    }
    let query = format!("end_user_id={person}");
    let list = server.northwind().list_sessions(&query).expect(200);
    assert_eq!(list.ids(), [private["id"].as_str().unwrap()]);
}

#[test]
fn a_channel_can_have_its_bot_answer_all_messages_of_a_group() {
    let framework = BotFramework::new();
    let server = framework.serve();
    let unmentioned = |id: &str, text: &str| {
        with(
            in_group(id, "kim", ""),
            &[("/entities", json!([])), ("/text", text.into())],
        )
    };
    deliver(&server, &unmentioned("1", "among us"));
    let channel = format!("/channels/{}", server.client_help_bot());
    let set = |word: &str| {
        server
            .northwind()
            .patch(&channel, json!({ "group_replies": word }))
            .expect(200);
    };
    set("ALWAYS");
    deliver(&server, &unmentioned("2", "for all"));
    set("MENTIONED");
    deliver(&server, &unmentioned("3", "among us again"));
    assert_eq!(messages(&server), ["for all"]);
}

#[test]
fn a_conversation_that_another_agent_answers_now_goes_on_in_another_session() {
    let framework = BotFramework::new();
    let server = framework.serve();
    let from_woodgrove = |id: &str, text: &str| from_directory(message(id, text), WOODGROVE);
    deliver(&server, &from_woodgrove("1", "To the helpline"));
    let channel = server.fabrikam().get("/channels?q=helpline").expect(200);
    let channel = format!("/channels/{}", channel.ids().swap_remove(0));
    server.execute_sql("UPDATE agents SET state = 'ENABLED' WHERE agent_id = 203");
    server
        .fabrikam()
        .patch(&channel, json!({ "agent_id": 203 }))
        .expect(200);
    deliver(&server, &from_woodgrove("2", "To the weekend helpline"));
    deliver(&server, &from_woodgrove("3", "And again"));
    let rows = server.database().rows(
        "SELECT agent_id || ' ' || archived || ' ' || message_count FROM sessions ORDER BY seq",
    );
    let rows: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(rows, ["201 1 1", "203 0 2"]);
}

#[test]
fn a_session_that_an_administrator_opens_again_is_the_conversations_session() {
    let framework = BotFramework::new();
    let server = framework.serve();
    deliver(&server, &message("1", "first"));
    deliver(&server, &message("2", "/new"));
    let first = sessions(&server)[0]["id"].as_str().unwrap().to_owned();
    server
        .northwind()
        .update_session(&first, json!({ "archived": false }))
        .expect(200);
    deliver(&server, &message("3", "second"));
    assert_eq!(sessions(&server)[0]["message_count"], 2);
    // It can be reset like any other.
    deliver(&server, &message("4", "/reset"));
    deliver(&server, &message("5", "third"));
    let found = sessions(&server);
    assert_eq!(found.len(), 2);
    assert!(!found[1]["archived_at"].is_null());
    assert_eq!(outbox(&server).len(), 5);
}

#[test]
fn an_install_that_moves_to_another_msp_takes_nothing_of_the_conversation_along() {
    let framework = BotFramework::new();
    let server = framework.serve();
    let channel = |word: &str, client: &crate::support::ApiClient| {
        let list = client.get(&format!("/channels?q={word}")).expect(200);
        format!("/channels/{}/teams", list.ids().swap_remove(0))
    };
    let northwinds = channel("client+help", &server.northwind());
    let fabrikams = channel("helpline", &server.fabrikam());
    let shown = || {
        let northwind = server.northwind().get(&northwinds).expect(200).data();
        (
            northwind,
            server.fabrikam().get(&fabrikams).expect(200).data(),
        )
    };
    deliver(&server, &from_directory(message("1", "Hello"), TAILSPIN));
    let (northwind, _) = shown();
    let told = northwind["last_refusal"]["message"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(told.contains("Northwind IT"), "{told}");
    assert_eq!(northwind["waiting_deliveries"], 1);
    server.execute_sql(
        "UPDATE installs SET (tenant_no, channel_seq) = (SELECT tenant_no, seq FROM channels WHERE internal_name = 'Helpline bot')
         WHERE m365_tenant_id = '0ddba110-face-4fee-9add-1eaf1ed0dd01'",
    );
    let installed = with(
        from_directory(message("2", ""), TAILSPIN),
        &[
            ("/type", "installationUpdate".into()),
            ("/action", "add".into()),
        ],
    );
    deliver(&server, &installed);
    deliver(&server, &from_directory(message("3", "Hello"), TAILSPIN));
    let (northwind, fabrikam) = shown();
    assert_eq!(northwind["last_received_at"], Value::Null);
    let told = fabrikam["last_refusal"]["message"].as_str().unwrap();
    assert!(told.contains("Fabrikam Support"), "{told}");
    assert_eq!(fabrikam["waiting_deliveries"], 1);
    assert!(!fabrikam.to_string().contains("Northwind"), "{fabrikam}");
}
