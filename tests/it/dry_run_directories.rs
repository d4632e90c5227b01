//! Dry runs by an MSP's own accounts: they answer about the MSP's own M365 tenants only, and their
//! refusals leave audit events.

use serde_json::{Value, json};

use crate::support::{
    ApiClient, CONTOSO, SHARED_BOT, Server, TAILSPIN, TECHNICIAN_BOT, WOODGROVE, from,
};
use crate::wire::Reply;

/// An M365 tenant that Fabrikam has linked, and no channel serves.
const LINKED_ELSEWHERE: &str = "11114ced-0000-4000-8000-000000000001";
/// An M365 tenant that was refused at Fabrikam's channel.
const REFUSED_ELSEWHERE: &str = "4ef05ed0-0000-4000-8000-000000000002";
/// An M365 tenant that nobody knows.
const UNKNOWN: &str = "dead0000-0000-4000-8000-000000000003";

/// The demo world with what Fabrikam knows beside.
fn world() -> Server {
    let server = Server::demo();
    let company = json!({ "psa_company_id": "L-1", "psa_company_name": "Linked", "tenant_id": LINKED_ELSEWHERE });
    server
        .fabrikam()
        .post("/end-companies", company)
        .expect(201);
    let mut lost = from(REFUSED_ELSEWHERE);
    lost["client_id"] = "fabrikam-support".into();
    server
        .relay()
        .create_session(lost)
        .refused(409, "end_company_not_mapped");
    server
}

/// All that a reply says, without its request's id.
fn told(reply: &Reply) -> (u16, String, Option<String>) {
    let id = reply.json()["meta"]["request_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let length = reply.header("content-length").map(str::to_owned);
    (reply.status, reply.text().replace(&id, "…"), length)
}

/// A dry run's body without an agent's number.
fn ask(bot: Option<&str>, directory: &str) -> Value {
    json!({ "managed_agent_key": "NEO_SUPPORT", "bot_id": bot, "inbound_tenant_id": directory })
}

/// The refused requests in a tenant's audit log, newest first.
fn refusals(client: &ApiClient) -> Vec<Value> {
    let list = client
        .get("/audit-events?action=request.refused&page_size=200")
        .expect(200);
    list.data().as_array().unwrap().clone()
}

#[test]
fn a_dry_run_about_anyone_elses_directory_gets_the_one_reply_of_an_unknown_one() {
    let server = world();
    let northwind = server.northwind();
    for bot in [None, Some(SHARED_BOT), Some(TECHNICIAN_BOT), Some("no-bot")] {
        for choice in [
            json!({ "managed_agent_key": "NEO_SUPPORT" }),
            json!({ "agent_id": 201 }),
        ] {
            let asked = |directory: &str| {
                let mut body = choice.clone();
                body["bot_id"] = json!(bot);
                body["inbound_tenant_id"] = directory.into();
                let reply = northwind.resolve(body);
                let told = told(&reply);
                reply.not_found();
                told
            };
            let unknown = asked(UNKNOWN);
            for directory in [WOODGROVE, LINKED_ELSEWHERE, REFUSED_ELSEWHERE] {
                assert_eq!(asked(directory), unknown, "{bot:?} {directory}");
            }
        }
    }
    // The platform's own dry runs answer about every M365 tenant.
    let found = server.relay().resolve(from(WOODGROVE)).expect(200).data();
    assert_eq!(found["client_id"], "fabrikam-support");
}

#[test]
fn a_dry_run_answers_about_directories_that_are_linked_installed_or_were_refused() {
    let server = world();
    let (northwind, relay) = (server.northwind(), server.relay());
    // Linked and installed.
    let resolved = northwind.resolve(from(CONTOSO)).expect(200).data();
    assert_eq!(resolved["rule"], "white_label_install");
    let resolved = northwind.resolve(ask(None, CONTOSO)).expect(200).data();
    assert_eq!(resolved["rule"], "neo_support");
    // Installed only.
    northwind
        .resolve(from(TAILSPIN))
        .refused(409, "end_company_not_mapped");
    // Linked only.
    northwind.resolve(from(UNKNOWN)).not_found();
    northwind
        .put("/end-companies/1002", json!({ "tenant_id": UNKNOWN }))
        .expect(200);
    let resolved = northwind.resolve(from(UNKNOWN)).expect(200).data();
    assert_eq!(resolved["end_company_id"], "1002");
    // Refused only.
    let lost = "105700aa-0000-4000-8000-000000000004";
    let mut ask_for_lost = from(lost);
    ask_for_lost["client_id"] = "northwind-it".into();
    northwind.resolve(from(lost)).not_found();
    relay
        .create_session(ask_for_lost)
        .refused(409, "end_company_not_mapped");
    northwind
        .resolve(from(lost))
        .refused(409, "end_company_not_mapped");
    northwind
        .delete(&format!("/end-companies/unlinked-tenants/{lost}"))
        .expect(204);
    northwind.resolve(from(lost)).not_found();
    // The M365 tenant that the MSP's own people sign in with.
    let home = "4017e000-0000-4000-8000-000000000005";
    northwind.resolve(ask(None, home)).not_found();
    relay
        .patch("/tenants/northwind-it", json!({ "entra_tenant_id": home }))
        .expect(200);
    let resolved = northwind.resolve(ask(None, home)).expect(200).data();
    assert_eq!(resolved["rule"], "neo_support");
}

#[test]
fn a_dry_run_about_an_own_directory_that_another_msp_serves_is_not_found_either() {
    let server = world();
    let northwind = server.northwind();
    let unknown = told(&northwind.resolve(from(UNKNOWN)));
    northwind
        .put("/end-companies/1002", json!({ "tenant_id": WOODGROVE }))
        .expect(200);
    assert_eq!(told(&northwind.resolve(from(WOODGROVE))), unknown);
    // The MSP that serves it learns that somebody asked, and not who.
    let log = server
        .fabrikam()
        .get("/audit-events?action=dry_run.refused")
        .expect(200);
    let mut event = log.data()[0].clone();
    for name in ["id", "created_at"] {
        event.as_object_mut().unwrap().remove(name).unwrap();
    }
    assert_eq!(
        event,
        json!({
            "actor": { "kind": "operator", "id": "server", "name": null },
            "action": "dry_run.refused",
            "target": WOODGROVE,
            "details": { "by": "another tenant", "bot_id": SHARED_BOT },
            "remote_address": null,
            "request_id": null,
        })
    );
    assert_eq!(log.data().as_array().unwrap().len(), 1);
    // With a bot for which no other tenant has the install, the link counts.
    let asked = ask(Some(TECHNICIAN_BOT), WOODGROVE);
    let resolved = northwind.resolve(asked).expect(200).data();
    assert_eq!(resolved["rule"], "bot_channel");
}

#[test]
fn a_refused_dry_run_is_an_audit_event_with_the_ids_that_were_asked_for() {
    let server = world();
    let northwind = server.northwind();
    assert_eq!(refusals(&northwind), Vec::<Value>::new());
    let reply = northwind.resolve(json!({
        "agent_id": 201, "bot_id": SHARED_BOT, "inbound_tenant_id": WOODGROVE, "end_company_id": "1001", "title": "Hello",
    }));
    let request = reply.json()["meta"]["request_id"].clone();
    reply.not_found();
    let events = refusals(&northwind);
    let [event] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!(event["request_id"], request);
    assert_eq!(event["target"], "/public-api/chat/sessions/resolve");
    assert_eq!(
        event["details"],
        json!({
            "code": "not_found", "method": "POST", "route": "/chat/sessions/resolve",
            "agent_id": 201, "bot_id": SHARED_BOT, "inbound_tenant_id": WOODGROVE, "end_company_id": "1001",
        })
    );
    // Refusals by the rules leave one too, and other replies and mistakes leave none.
    northwind
        .resolve(from(TAILSPIN))
        .refused(409, "end_company_not_mapped");
    northwind.resolve(from(CONTOSO)).expect(200);
    northwind.resolve(json!({})).refused_choice();
    let events = refusals(&northwind);
    assert_eq!(events.len(), 2);
    assert_eq!(
        events[0]["details"],
        json!({
            "code": "end_company_not_mapped", "method": "POST", "route": "/chat/sessions/resolve",
            "managed_agent_key": "NEO_SUPPORT", "bot_id": SHARED_BOT, "inbound_tenant_id": TAILSPIN,
        })
    );
    // A refusal leaves nothing to link, and a key in the wrong field is not recorded.
    let key = "neo_sk_demo_secretsecret12";
    northwind.resolve(ask(Some(key), UNKNOWN)).not_found();
    let newest = &refusals(&northwind)[0];
    assert_eq!(newest["details"]["inbound_tenant_id"], UNKNOWN);
    assert_eq!(newest["details"]["bot_id"], Value::Null);
    let waiting = "SELECT count(*) FROM unlinked_tenants WHERE tenant_no = 1";
    assert_eq!(server.stored::<i64>(waiting), 0);
}

#[test]
fn refused_dry_runs_share_the_quota_of_the_other_refused_attempts() {
    let server = world();
    let northwind = server.northwind();
    for _ in 0..70 {
        northwind.resolve(from(UNKNOWN)).not_found();
    }
    assert_eq!(refusals(&northwind).len(), 60);
    assert_eq!(refusals(&server.fabrikam()), Vec::<Value>::new());
}
