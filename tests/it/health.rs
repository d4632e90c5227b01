//! Findings: what would be refused now, over HTTP and in the same words by `check`.

use serde_json::{Value, json};

use crate::process::Workspace;
use crate::support::{CONTOSO, FOURTH_COFFEE, SHARED_BOT, Server, TAILSPIN, agent, channel, from};

/// Northwind's findings, without the ids that the server gave.
fn health_of(server: &Server) -> Value {
    let mut health = server
        .northwind()
        .get("/end-companies/health")
        .expect(200)
        .data();
    for kind in ["installed_without_company", "channels_without_agent"] {
        for item in health[kind]["items"].as_array_mut().unwrap() {
            let id = item.as_object_mut().unwrap().remove("channel_id").unwrap();
            assert!(id.as_str().unwrap().starts_with("chn_"));
        }
    }
    health
}

#[test]
fn an_unlinked_and_an_ambiguous_directory_are_each_one_finding_with_its_remedy() {
    let server = Server::demo();
    assert_eq!(
        health_of(&server),
        json!({
            "installed_without_company": { "count": 1, "items": [{
                "end_client_tenant_id": TAILSPIN,
                "internal_name": "Client help bot",
                "bot_id": SHARED_BOT,
                "code": "end_company_not_mapped",
                "message": format!(
                    "The channel \"Client help bot\" is installed for the M365 tenant {TAILSPIN}, and no company is linked to it. \
                     Link exactly one."
                ),
            }] },
            "shared_directories": { "count": 1, "items": [{
                "tenant_id": FOURTH_COFFEE,
                "linked_companies": 2,
                "companies": [
                    { "psa_company_id": "1003", "psa_company_name": "Fourth Coffee" },
                    { "psa_company_id": "1004", "psa_company_name": "Fourth Coffee Roastery" },
                ],
                "code": "end_company_not_mapped",
                "message": format!(
                    "The companies 1003 \"Fourth Coffee\", 1004 \"Fourth Coffee Roastery\" share the M365 tenant {FOURTH_COFFEE}. \
                     Leave exactly one of them linked."
                ),
            }] },
            "duplicate_names": { "count": 0, "items": [] },
            "channels_without_agent": { "count": 0, "items": [] },
            "unusable_directories": { "count": 0, "items": [] },
            "installed_elsewhere": { "count": 0, "items": [] },
        })
    );
    // The findings match the refusals, and a fixed finding disappears.
    for directory in [TAILSPIN, FOURTH_COFFEE] {
        server
            .relay()
            .create_session(from(directory))
            .refused(409, "end_company_not_mapped");
    }
    let northwind = server.northwind();
    northwind
        .put("/end-companies/1002", json!({ "tenant_id": TAILSPIN }))
        .expect(200);
    northwind
        .put("/end-companies/1004", json!({ "tenant_id": null }))
        .expect(200);
    let mended = health_of(&server);
    for kind in ["installed_without_company", "shared_directories"] {
        assert_eq!(mended[kind], json!({ "count": 0, "items": [] }));
    }
    for directory in [TAILSPIN, FOURTH_COFFEE, CONTOSO] {
        server.relay().create_session(from(directory)).expect(201);
    }
}

#[test]
fn an_active_channel_whose_agent_cannot_answer_is_a_finding() {
    let server = Server::demo();
    let mut triage = agent(902, "MSP");
    triage["autonomy_type"] = "AGENTIC".into();
    let mut off = agent(903, "MSP");
    off["state"] = "DISABLED".into();
    let mut asleep = channel("Asleep", "MSP", "bot-3", 903);
    asleep["status"] = "DISCONNECTED".into();
    server.import_tenant(
        "northwind-it",
        json!({
            "agents": [triage, off],
            "channels": [
                channel("Triage bot", "MSP", "bot-1", 902),
                channel("Night bot", "MSP", "bot-2", 903),
                asleep,
            ],
        }),
    );
    assert_eq!(
        health_of(&server)["channels_without_agent"],
        json!({ "count": 2, "items": [
            {
                "internal_name": "Triage bot",
                "bot_id": "bot-1",
                "agent_id": 902,
                "agent_name": "Agent 902",
                "code": "agent_not_conversational",
                "message": "The channel \"Triage bot\" cannot answer: its agent 902 \"Agent 902\" does not chat. \
                            Bind the channel to a CONVERSATIONAL agent.",
            },
            {
                "internal_name": "Night bot",
                "bot_id": "bot-2",
                "agent_id": 903,
                "agent_name": "Agent 903",
                "code": "agent_disabled",
                "message": "The channel \"Night bot\" cannot answer: its agent 903 \"Agent 903\" is DISABLED. \
                            Enable the agent, or bind the channel to another one.",
            },
        ] })
    );
}

#[test]
fn a_long_list_of_findings_is_truncated_and_all_are_counted() {
    let server = Server::demo();
    let companies: Vec<Value> = (0..430)
        .map(|number| {
            json!({
                "psa_company_id": format!("C-{number:03}"), "psa_company_name": format!("Company {number}"),
                "tenant_id": if number < 30 { "crowd".to_owned() } else { format!("pair-{:03}", number / 2) },
            })
        })
        .collect();
    let installs: Vec<Value> = (0..201)
        .map(|number| json!({ "end_client_tenant_id": format!("lonely-{number:03}") }))
        .collect();
    server.import_tenant(
        "fabrikam-support",
        json!({
            "end_companies": companies,
            "channels": [{ "internal_name": "Helpline bot", "installs": installs }],
        }),
    );
    let health = server
        .fabrikam()
        .get("/end-companies/health")
        .expect(200)
        .data();
    for (kind, count) in [
        ("installed_without_company", 201),
        ("shared_directories", 201),
    ] {
        assert_eq!(health[kind]["count"], count);
        assert_eq!(health[kind]["items"].as_array().unwrap().len(), 200);
    }
    let crowd = &health["shared_directories"]["items"][0];
    assert_eq!(crowd["linked_companies"], 30);
    assert_eq!(crowd["companies"].as_array().unwrap().len(), 20);
    let message = crowd["message"].as_str().unwrap();
    assert!(
        message.ends_with("C-019 \"Company 19\" and 10 more share the M365 tenant crowd. Leave exactly one of them linked."),
        "{message}"
    );
}

#[test]
fn an_install_of_a_deleted_channel_is_no_finding_because_a_link_would_not_help() {
    let server = Server::demo();
    server
        .execute_sql("UPDATE channels SET deleted_at = 1 WHERE internal_name = 'Client help bot'");
    assert_eq!(
        health_of(&server)["installed_without_company"],
        json!({ "count": 0, "items": [] })
    );
}

#[test]
fn check_reports_the_same_findings_in_the_same_words() {
    let workspace = Workspace::with_demo_world();
    let checked = workspace.ok(["check"]);
    let server = workspace.serve_demo_world();
    let health = server
        .client()
        .get(crate::process::NORTHWIND, "/end-companies/health")
        .data();
    let told = ["installed_without_company", "shared_directories"].map(|kind| {
        health[kind]["items"][0]["message"]
            .as_str()
            .unwrap()
            .to_owned()
    });
    let expected = format!(
        "warning: northwind-it: {}\nwarning: northwind-it: {}\nok: 0 sessions, 0 messages, 2 warnings\n",
        told[0], told[1]
    );
    assert_eq!(checked, expected);
}
