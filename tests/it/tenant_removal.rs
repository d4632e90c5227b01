//! `tenants delete` takes everything of a tenant with it, also beside a running server, and nothing
//! of the others. `users` shows and changes the people of a tenant.

use serde_json::json;

use switchboard::model::names::TenantNo;
use switchboard::store::check;

use crate::database::Database;
use crate::process::{FABRIKAM, NORTHWIND, RELAY, Workspace, finish};
use crate::support::{self, technician};

/// The rows of a tenant in each table that names tenants.
fn rows_of(database: &Database, tenant: i64) -> Vec<(String, i64)> {
    let tables = database.tables_with("tenant_no").into_iter();
    tables
        .map(|name| {
            let count = format!("SELECT count(*) FROM {name} WHERE tenant_no = {tenant}");
            let count = database.stored(&count);
            (name, count)
        })
        .filter(|(_, count)| *count > 0)
        .collect()
}

fn number_of(database: &Database, client_id: &str) -> i64 {
    database.stored(&format!(
        "SELECT tenant_no FROM tenants WHERE client_id = '{client_id}'"
    ))
}

#[test]
fn a_deleted_tenant_leaves_nothing_and_the_others_stay_as_they_were() {
    let workspace = Workspace::with_demo_world();
    let server = workspace.serve_demo_world();
    let client = server.client();
    let agents = client.get(FABRIKAM, "/agents").data();
    let agent = &agents[0]["agent_id"];
    let body = json!({"agent_id": agent, "title": "Zanzibar printer"});
    let mut sessions = Vec::new();
    for _ in 0..3 {
        let session = client.post(FABRIKAM, "/chat/sessions", &body);
        assert_eq!(session.status, 201, "{session:?}");
        let id = session.data()["id"].as_str().unwrap().to_owned();
        let message = json!({"message": "The Zanzibar printer is on fire"});
        let path = format!("/chat/sessions/{id}/messages");
        assert!(client.post(FABRIKAM, &path, &message).status < 300);
        let token = client.post(FABRIKAM, "/sessions", &json!({"session_id": id}));
        assert_eq!(token.status, 201, "{token:?}");
        sessions.push(id);
    }
    // The stored reply of a call with an idempotency key has the text too.
    let article = json!({"title": "Zanzibar", "body": "Zanzibar's printer.", "audience": "MSP"});
    let once = [("Idempotency-Key", "k")];
    let path = "/knowledge-articles";
    let made = client.call("POST", FABRIKAM, path, &once, Some(&article));
    assert_eq!(made.unwrap().status, 201);
    let before = workspace.ok(["export", "--tenant", "northwind-it"]);
    let database = workspace.sql();
    let number = number_of(database, "fabrikam-support");
    let rows = rows_of(database, number);
    assert!(rows.len() > 8, "{rows:?}");

    let delete = ["tenants", "delete", "fabrikam-support"];
    let unconfirmed = workspace.run(delete);
    assert_eq!(
        unconfirmed.failure(),
        "nothing was deleted: there is no terminal to ask on; confirm with --yes fabrikam-support"
    );
    let wrong = workspace.run(delete.iter().chain(&["--yes", "fabrikam"]));
    assert_eq!(
        wrong.failure(),
        "nothing was deleted: the confirmation is not fabrikam-support"
    );
    assert_eq!(client.get(FABRIKAM, "/whoami").status, 200);

    let done = workspace.ok(delete.iter().chain(&["--yes", "fabrikam-support"]));
    assert!(
        done.starts_with("fabrikam-support\tdeleted: 3 sessions, "),
        "{done}"
    );
    assert_eq!(rows_of(database, number), []);
    for table in [
        "sessions",
        "messages",
        "turns",
        "turn_logs",
        "attachments",
        "search_removals",
        "removed_sessions",
    ] {
        let count = format!("SELECT count(*) FROM {table}");
        assert_eq!(database.stored::<i64>(&count), 0, "{table}");
    }
    assert_eq!(client.get(FABRIKAM, "/whoami").status, 401);
    let path = format!("/chat/sessions/{}", sessions[0]);
    assert_eq!(client.get(NORTHWIND, &path).status, 404);
    assert_eq!(workspace.ok(["export", "--tenant", "northwind-it"]), before);
    assert_eq!(client.get(NORTHWIND, "/whoami").status, 200);
    server.stop();
    let check = workspace.ok(["check"]);
    assert!(
        check
            .lines()
            .last()
            .unwrap()
            .starts_with("ok: 0 sessions, 0 messages"),
        "{check}"
    );
    for word in ["Zanzibar", "fabrikam-support"] {
        assert!(!database.holds(word), "the database holds {word}");
    }

    // The number of a deleted tenant is not given again.
    workspace.ok(["tenants", "create", "--client-id", "new", "--name", "New"]);
    assert!(number_of(database, "new") > number);
}

#[test]
fn the_tenant_of_a_platform_key_is_not_deleted() {
    let workspace = Workspace::with_demo_world();
    let owner = "SELECT client_id FROM tenants JOIN api_keys USING (tenant_no) WHERE platform = 1";
    let owner: String = workspace.sql().stored(owner);
    let delete = ["tenants", "delete", &owner, "--yes", &owner];
    let refused = workspace.run(delete);
    assert!(
        refused
            .failure()
            .contains("this tenant is the platform's own"),
        "{refused:?}"
    );
    let server = workspace.serve_demo_world();
    assert_eq!(server.client().get(RELAY, "/whoami").status, 200);
    server.stop();

    let keys = workspace.ok(["keys", "list", "--tenant", &owner]);
    for key in keys.lines().filter(|line| line.contains("\tplatform\t")) {
        workspace.ok(["keys", "revoke", key.split('\t').next().unwrap()]);
    }
    workspace.ok(delete);
    let unknown = workspace.run(delete);
    assert!(unknown.failure().contains("does not exist"), "{unknown:?}");
}

#[test]
fn users_are_listed_and_their_roles_changed() {
    let workspace = Workspace::without_tenants();
    let world = json!({"tenants": [{"client_id": "n", "name": "N", "users": [
        {"id": "oid-1", "role": "ADMIN", "name": "Ada\tLovelace", "email": "ada@example.com"},
        {"id": "oid-2", "email": "Bob@Example.com"}, {"id": "oid-3", "email": "same@x.y"}, {"id": "oid-4", "email": "same@x.y"}]}]});
    let file = workspace.file("world.json", world.to_string());
    workspace.ok(["import", &file]);
    let users = || workspace.ok(["users", "list", "--tenant", "n"]);
    let listed = users();
    assert_eq!(
        listed.lines().take(2).collect::<Vec<_>>(),
        [
            "oid-1\tADMIN\tAda Lovelace\tada@example.com\t-",
            "oid-2\tUSER\t-\tBob@Example.com\t-"
        ]
    );
    let set = |user: &str, role: &str| {
        let mut command =
            workspace.command(["users", "set-role", user, "--tenant", "n", "--role", role]);
        finish(&mut command)
    };
    assert!(
        set("oid-1", "USER")
            .failure()
            .contains("The last administrator")
    );
    let done = set("bob@example.com", "ADMIN");
    assert_eq!(
        done.stdout, "oid-2\tADMIN\t-\tBob@Example.com\t-\n",
        "{done:?}"
    );
    assert_eq!(set("oid-1", "VIEWER").code, 0);
    assert!(users().starts_with("oid-1\tVIEWER\t"), "{}", users());
    assert!(
        set("nobody", "USER")
            .failure()
            .contains("the tenant has no user \"nobody\"")
    );
    assert!(
        set("same@x.y", "USER")
            .failure()
            .contains("2 users have the email address")
    );
    assert_eq!(set("oid-1", "BOSS").code, 2);
    let events = "SELECT count(*) FROM audit_events WHERE action = 'user.update' AND actor_kind = 'operator'";
    assert_eq!(workspace.sql().stored::<i64>(events), 2);
}

#[test]
fn a_deletion_that_stops_halfway_leaves_no_damage_and_goes_on() {
    let server = support::Server::demo();
    let store = &server.app.store;
    let session = server.northwind().session(technician());
    let number = "SELECT tenant_no FROM tenants WHERE client_id = 'northwind-it'";
    let tenant = TenantNo(server.stored(number));
    server
        .database()
        .refuse("DELETE", "sessions", "raise_exception");
    let delete = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(store.delete_tenant(tenant))
    };
    assert!(delete().is_err());
    server.northwind().read_session(&session).expect(401);
    let found = check::run(store).unwrap();
    assert_eq!(
        (found.damage, found.contradictions),
        (Vec::new(), Vec::new())
    );
    server.database().accept_again("sessions");
    delete().unwrap();
    let left = format!("SELECT count(*) FROM agents WHERE tenant_no = {}", tenant.0);
    assert_eq!(server.stored::<i64>(&left), 0);
}
