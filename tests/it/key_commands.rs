//! The commands of API keys: create, list, rotate, revoke.

use serde_json::json;

use crate::command_line::{who_am_i, with_tenant};
use crate::process::{Workspace, id_and_key};

#[test]
fn a_new_key_is_alone_on_the_last_line_and_works_over_http_at_once() {
    let workspace = with_tenant();
    let server = workspace.serve::<&str>([]);
    let made = workspace.ok([
        "keys",
        "create",
        "--tenant",
        "northwind-it",
        "--name",
        "relay",
        "--platform",
    ]);
    let lines: Vec<&str> = made.lines().collect();
    assert!(lines[0].starts_with("key_"), "{made}");
    let key = lines.last().unwrap();
    let secret = key.strip_prefix("neo_sk_dev_").unwrap();
    assert_eq!(secret.len(), 43);
    assert!(secret.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    let reply = server.client().get(key, "/whoami").data();
    assert_eq!(reply["client_id"], "northwind-it");
    assert_eq!(reply["platform"], true);
    assert_eq!(
        reply["id"].as_str().unwrap(),
        lines[0].split('\t').next().unwrap()
    );

    let (_, plain) = workspace.new_key("northwind-it", "script");
    assert_eq!(
        server.client().get(&plain, "/whoami").data()["platform"],
        false
    );
    assert!(!workspace.sql().holds(secret), "the database holds a key");
}

#[test]
fn keys_are_listed_one_a_line_with_their_id_first_and_never_whole() {
    let workspace = with_tenant();
    let (first, first_key) = workspace.new_key("northwind-it", "first\tof\nall");
    let (second, _) = id_and_key(&workspace.ok([
        "keys",
        "create",
        "--tenant",
        "northwind-it",
        "--name",
        "second",
        "--platform",
        "--expires",
        "2999-01-31T00:00:00+02:00",
    ]));
    workspace.ok(["keys", "revoke", &first]);
    let listed = workspace.ok(["keys", "list", "--tenant", "northwind-it"]);
    let lines: Vec<Vec<&str>> = listed
        .lines()
        .map(|line| line.split('\t').collect())
        .collect();
    assert_eq!(lines.len(), 2, "{listed}");
    let hint = format!("…{}", &first_key[first_key.len() - 4..]);
    assert_eq!(
        lines[0][..5],
        [first.as_str(), "first of all", &hint, "tenant", "revoked"]
    );
    assert_eq!((lines[1][0], lines[1][1]), (second.as_str(), "second"));
    assert_eq!((lines[1][3], lines[1][4]), ("platform", "active"));
    assert_eq!(lines[1][6], "2999-01-30T22:00:00.000Z");
    assert!(!listed.contains("neo_sk_"), "{listed}");
}

#[test]
fn a_key_revoked_while_the_server_runs_ends_at_once_with_its_tokens() {
    let workspace = Workspace::with_demo_world();
    let server = workspace.serve_demo_world();
    let (id, key) = id_and_key(&workspace.ok([
        "--env",
        "demo",
        "keys",
        "create",
        "--tenant",
        "northwind-it",
        "--name",
        "script",
    ]));
    let client = server.client();
    let session = client
        .post(&key, "/chat/sessions", &json!({"agent_id": 102}))
        .data();
    let token = client
        .post(&key, "/sessions", &json!({"session_id": session["id"]}))
        .data();
    let token = token["token"].as_str().unwrap();
    let path = format!("/chat/sessions/{}", session["id"].as_str().unwrap());
    assert_eq!(client.get(token, &path).status, 200);

    workspace.ok(["keys", "revoke", &id]);
    for credential in [key.as_str(), token] {
        let reply = client.get(credential, &path);
        assert_eq!(reply.status, 401, "{reply:?}");
        assert_eq!(
            reply.json()["error"]["details"]["reason"],
            "revoked",
            "{reply:?}"
        );
    }
    assert_eq!(workspace.run(["keys", "revoke", &id]).code, 0);
    assert!(
        workspace
            .run(["keys", "rotate", &id])
            .failure()
            .contains("no valid key")
    );
}

#[test]
fn a_rotated_key_and_its_successor_both_work_and_act_as_one_account() {
    let workspace = with_tenant();
    let server = workspace.serve::<&str>([]);
    let (old_id, old) = workspace.new_key("northwind-it", "script");
    let (new_id, new) = id_and_key(&workspace.ok(["keys", "rotate", &old_id]));
    assert_ne!((&old_id, &old), (&new_id, &new));
    assert!(new_id.starts_with("key_") && new.starts_with("neo_sk_dev_"));
    assert_eq!(
        (who_am_i(&server, &old), who_am_i(&server, &new)),
        (200, 200)
    );
    let listed = workspace.ok(["keys", "list", "--tenant", "northwind-it"]);
    let lines: Vec<Vec<&str>> = listed
        .lines()
        .map(|line| line.split('\t').collect())
        .collect();
    assert_eq!(lines.len(), 2, "{listed}");
    assert_ne!(lines[0][6], "-", "the old one ends: {listed}");
    assert_eq!(lines[1][6], "-", "the new one does not: {listed}");

    let agent = server.client().get(&new, "/agents").data()[0]["agent_id"].clone();
    let created = |key: &str| {
        server
            .client()
            .post(key, "/chat/sessions", &json!({"agent_id": agent}))
            .data()["created_by"]["id"]
            .clone()
    };
    assert_eq!(created(&old), old_id.as_str());
    assert_eq!(created(&new), old_id.as_str());

    workspace.ok(["keys", "revoke", &old_id]);
    assert_eq!(
        (who_am_i(&server, &old), who_am_i(&server, &new)),
        (401, 200)
    );
}

#[test]
fn a_key_ends_when_it_expires() {
    let workspace = with_tenant();
    let (id, key) = id_and_key(&workspace.ok([
        "keys",
        "create",
        "--tenant",
        "northwind-it",
        "--name",
        "short",
        "--expires",
        "2999-01-01T00:00:00Z",
    ]));
    // Set the expiry back in the database, so that the test need not wait for it.
    let expire = "UPDATE api_keys SET expires_at = created_at + 1";
    assert_eq!(workspace.sql().execute_sql(expire), 1);
    let server = workspace.serve::<&str>([]);
    let reply = server.client().get(&key, "/whoami");
    assert_eq!(reply.status, 401);
    assert_eq!(reply.json()["error"]["details"]["reason"], "expired");
    assert!(
        workspace
            .ok(["keys", "list", "--tenant", "northwind-it"])
            .contains("\texpired\t")
    );
    assert!(
        workspace
            .run(["keys", "rotate", &id])
            .failure()
            .contains("no valid key")
    );
}

#[test]
fn a_key_s_name_is_free_again_once_it_has_ended() {
    let workspace = with_tenant();
    let (id, _) = workspace.new_key("northwind-it", "script");
    let again = ["keys", "create", "--tenant", "northwind-it"];
    let done = workspace.run(again.iter().chain(&["--name", "script"]));
    assert!(done.failure().contains("script"), "{done:?}");
    assert_eq!(done.stdout, "");
    workspace.ok(["keys", "revoke", &id]);
    workspace.ok(again.iter().chain(&["--name", "script"]));
    workspace.ok([
        "tenants",
        "create",
        "--client-id",
        "other",
        "--name",
        "Other",
    ]);
    workspace.new_key("other", "script");
}

#[test]
fn a_key_of_another_environment_is_recognized_as_such() {
    let workspace = with_tenant();
    let (_, key) = workspace.new_key("northwind-it", "script");
    let server = workspace.serve(["--env", "prod"]);
    let reply = server.client().get(&key, "/whoami");
    assert_eq!(
        reply.json()["error"]["details"]["reason"],
        "wrong_environment"
    );
}
