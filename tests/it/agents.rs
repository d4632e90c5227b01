//! Agents over HTTP: create, change by version, delete, and the reasons for a refusal.

use std::thread;

use serde_json::{Value, json};

use crate::support::{DEMO, Server, agent, technician};

/// An agent without the fields that the server sets.
fn shown(mut agent: Value) -> Value {
    for given in ["id", "agent_id", "created_at", "updated_at"] {
        agent.as_object_mut().unwrap().remove(given).unwrap();
    }
    agent
}

#[test]
fn an_agent_is_created_with_defaults_and_read_back() {
    let server = Server::demo();
    let northwind = server.northwind();
    let made = northwind
        .post("/agents", json!({ "name": "Onboarding" }))
        .expect(201);
    let agent = made.data();
    assert_eq!(agent["agent_id"], 1_000_002);
    assert_eq!(agent["id"], "1000002");
    assert_eq!(made.header("location"), Some("/public-api/agents/1000002"));
    assert_eq!(
        shown(agent.clone()),
        json!({
            "name": "Onboarding",
            "description": null,
            "autonomy_type": "CONVERSATIONAL",
            "audience": "MSP",
            "access": "ALL_USERS",
            "allowed_users": [],
            "state": "ENABLED",
            "agent_settings": { "custom_instructions": null, "welcome_message": null, "suggested_prompts": [], "show_reasoning": false },
            "managed_agent_key": null,
            "version": 1,
        })
    );
    assert_eq!(northwind.get("/agents/1000002").expect(200).data(), agent);
    assert_eq!(northwind.get("/agents").expect(200).data()[0], agent);
    let session = northwind
        .create_session(json!({ "agent_id": 1_000_002 }))
        .expect(201);
    assert_eq!(session.data()["agent_id"], 1_000_002);
}

#[test]
fn a_patch_of_an_agent_changes_sent_fields_resets_nulls_and_replaces_settings_whole() {
    let server = Server::demo();
    let northwind = server.northwind();
    let settings = json!({ "custom_instructions": "Be brief.", "welcome_message": "Hi", "suggested_prompts": ["One"], "show_reasoning": true });
    let id = northwind
        .post(
            "/agents",
            json!({
                "name": "Desk", "description": "First line", "audience": "END_USER", "access": "SPECIFIC_USERS",
                "allowed_users": ["u-1"], "state": "DISABLED", "agent_settings": settings,
            }),
        )
        .expect(201)
        .data()["agent_id"]
        .clone();
    let path = format!("/agents/{id}");
    let changed = northwind
        .put(
            &path,
            json!({ "description": null, "access": null, "agent_settings": { "welcome_message": "Hello" }, "version": 1 }),
        )
        .expect(200)
        .data();
    assert_eq!(
        shown(changed),
        json!({
            "name": "Desk",
            "description": null,
            "autonomy_type": "CONVERSATIONAL",
            "audience": "END_USER",
            "access": "ALL_USERS",
            "allowed_users": ["u-1"],
            "state": "DISABLED",
            "agent_settings": { "custom_instructions": null, "welcome_message": "Hello", "suggested_prompts": [], "show_reasoning": false },
            "managed_agent_key": null,
            "version": 2,
        })
    );
    // A change of nothing creates no new version.
    let same = northwind.put(&path, json!({ "name": "Desk", "audience": "END_USER" }));
    assert_eq!(same.expect(200).data()["version"], 2);
}

#[test]
fn an_invalid_agent_is_refused_by_field() {
    let server = Server::demo();
    let northwind = server.northwind();
    for (body, field, reason) in [
        (json!({}), "name", "is required"),
        (json!({ "name": "" }), "name", "must not be empty"),
        (
            json!({ "name": "x".repeat(201) }),
            "name",
            "must have at most 200 characters",
        ),
        (
            json!({ "name": "A", "audience": "ALL" }),
            "audience",
            "must be one of MSP, END_USER",
        ),
        (
            json!({ "name": "A", "autonomy_type": "AGENTIC" }),
            "autonomy_type",
            "must be CONVERSATIONAL; only a seed file creates agents of other kinds",
        ),
        (
            json!({ "name": "A", "agent_settings": [] }),
            "agent_settings",
            "must be an object",
        ),
        (
            json!({ "name": "A", "allowed_users": [1] }),
            "allowed_users[0]",
            "must be a string",
        ),
    ] {
        northwind.post("/agents", body).refused_field(field, reason);
    }
    for (body, field, reason) in [
        (
            json!({ "name": null }),
            "name",
            "must not be null: it has no default",
        ),
        (
            json!({ "audience": "END_USER" }),
            "audience",
            "cannot change",
        ),
        (
            json!({ "autonomy_type": "AGENTIC" }),
            "autonomy_type",
            "cannot change",
        ),
    ] {
        northwind
            .put("/agents/102", body)
            .refused_field(field, reason);
    }
    // A reset of the audience does not turn an END_USER agent into one for the MSP.
    let reset = northwind.put("/agents/101", json!({ "audience": null }));
    reset.refused_field("audience", "cannot change");
}

#[test]
fn a_managed_agent_cannot_be_created_changed_or_deleted() {
    let server = Server::demo();
    let northwind = server.northwind();
    let managed = json!({ "name": "Mine", "managed_agent_key": "NEO_SUPPORT" });
    for reply in [
        northwind.post("/agents", managed),
        northwind.put("/agents/100", json!({ "state": "DISABLED" })),
        northwind.delete("/agents/100"),
    ] {
        reply.refused(403, "agent_managed_by_neo");
    }
}

#[test]
fn of_two_concurrent_changes_of_one_version_exactly_one_wins() {
    let server = Server::demo();
    for version in 1..=20 {
        let statuses: Vec<u16> = thread::scope(|scope| {
            let writers: Vec<_> = ["one", "other"]
                .into_iter()
                .map(|name| {
                    let body = json!({ "name": format!("{name} {version}"), "version": version });
                    let northwind = server.northwind();
                    scope.spawn(move || northwind.put("/agents/102", body).status)
                })
                .collect();
            writers
                .into_iter()
                .map(|writer| writer.join().unwrap())
                .collect()
        });
        let mut sorted = statuses.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, [200, 409]);
    }
    let late = server
        .northwind()
        .put("/agents/102", json!({ "version": 1 }));
    let late = late.refused(409, "agent_update_conflict");
    assert_eq!(late.error()["details"]["version"], 21);
}

#[test]
fn an_agent_in_use_by_a_channel_cannot_be_deleted_and_a_deleted_agent_leaves_its_sessions() {
    let server = Server::demo();
    let northwind = server.northwind();
    let in_use = northwind.delete("/agents/101").refused(409, "agent_in_use");
    assert!(
        in_use.error()["message"]
            .as_str()
            .unwrap()
            .contains("channel")
    );

    let id = northwind
        .post("/agents", json!({ "name": "Passing" }))
        .expect(201)
        .data()["agent_id"]
        .clone();
    let session = northwind.session(json!({ "agent_id": id }));
    northwind.append_text(&session, "Hello").expect(202);
    northwind.delete(&format!("/agents/{id}")).expect(204);
    northwind.get(&format!("/agents/{id}")).not_found();
    assert_eq!(
        northwind.read_session(&session).expect(200).data()["agent_id"],
        id
    );
    northwind
        .append_text(&session, "Still there?")
        .refused(409, "agent_disabled");

    // The number is never reused: the old session would continue with another agent.
    let next = northwind
        .post("/agents", json!({ "name": "Next" }))
        .expect(201)
        .data()["agent_id"]
        .clone();
    assert_eq!(next.as_i64(), id.as_i64().map(|id| id + 1));
}

#[test]
fn an_agent_that_is_an_articles_only_one_cannot_be_deleted_and_other_articles_drop_it() {
    let server = Server::with_world(DEMO, &[]);
    server.import_tenant(
        "northwind-it",
        json!({
            "agents": [agent(901, "MSP"), agent(902, "MSP")],
            "knowledge_articles": [
                { "title": "For both", "body": "x", "agent_ids": [901, 902] },
                { "title": "For one", "body": "x", "agent_ids": [902] },
            ],
        }),
    );
    let northwind = server.northwind();
    northwind.delete("/agents/901").expect(204);
    let named: String =
        server.stored("SELECT agent_ids FROM knowledge_articles WHERE title = 'For both'");
    assert_eq!(named, "[902]");
    let events: String =
        server.stored("SELECT details FROM audit_events WHERE action = 'agent.delete'");
    assert_eq!(
        events,
        format!(
            r#"{{"knowledge_articles":1,"name":{}}}"#,
            agent(901, "MSP")["name"]
        )
    );
    let kept = northwind.delete("/agents/902").refused(409, "agent_in_use");
    assert_eq!(
        kept.error()["message"],
        "The article \"For both\" is for this agent only. Delete the article first, or name other agents in it."
    );
}

#[test]
fn each_change_of_an_agent_and_each_refused_attempt_is_an_audit_event() {
    let server = Server::demo();
    let northwind = server.northwind();
    let guest = northwind.with_session_token(&northwind.session(technician()));
    let before: i64 = server.stored("SELECT count(*) FROM audit_events");
    let id = northwind
        .post("/agents", json!({ "name": "Audited" }))
        .expect(201)
        .data()["agent_id"]
        .clone();
    let path = format!("/agents/{id}");
    northwind
        .put(&path, json!({ "name": "Renamed" }))
        .expect(200);
    northwind.delete(&path).expect(204);
    northwind
        .delete("/agents/100")
        .refused(403, "agent_managed_by_neo");
    guest
        .post("/agents", json!({ "name": "x" }))
        .refused(403, "forbidden");
    northwind.put(&path, json!({})).not_found();
    assert_eq!(
        server.stored::<i64>("SELECT count(*) FROM audit_events"),
        before + 5
    );
    let events: String = server.stored(
        "SELECT string_agg(action || ' ' || target || ' ' || actor_kind || ' ' || details || ' ' || remote, '\n') FROM
         (SELECT * FROM audit_events ORDER BY seq DESC LIMIT 5) e",
    );
    assert_eq!(
        events.lines().rev().collect::<Vec<_>>(),
        [
            format!("agent.create {id} service_account {{}} 127.0.0.1"),
            format!(r#"agent.update {id} service_account {{"changed":{{"name":{{"from":"Audited","to":"Renamed"}}}}}} 127.0.0.1"#),
            format!(r#"agent.delete {id} service_account {{"knowledge_articles":0,"name":"Renamed"}} 127.0.0.1"#),
            r#"request.refused /public-api/agents/100 service_account {"code":"agent_managed_by_neo","method":"DELETE","route":"/agents/{agent_id}"} 127.0.0.1"#.to_owned(),
            r#"request.refused /public-api/agents end_user_session {"code":"forbidden","method":"POST","route":"/agents"} 127.0.0.1"#.to_owned(),
        ]
    );
}
