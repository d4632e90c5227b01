//! Sessions are found by the client's own id and by pairs of their metadata.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::database::sqlite_only;
use crate::support::{ApiClient, CONTOSO, DAY, Server, from, technician};
use crate::upgrade::unpack_version_0_1;

fn with(mut body: Value, metadata: Value) -> Value {
    body["metadata"] = metadata;
    body
}

#[track_caller]
fn found(client: &ApiClient, query: &str) -> Vec<String> {
    let reply = client.list_sessions(query).expect(200);
    assert_eq!(reply.json()["meta"]["warnings"], json!([]));
    reply.ids()
}

const NONE: [&str; 0] = [];

#[test]
fn sessions_are_listed_by_pairs_of_their_metadata() {
    let server = Server::demo();
    let (northwind, relay) = (server.northwind(), server.relay());
    let first = northwind.session(with(
        technician(),
        json!({ "ticket": "4711", "site": "north" }),
    ));
    let second = northwind.session(with(
        technician(),
        json!({ "ticket": "4711", "site": "süd & west" }),
    ));
    let routed = relay.session(with(from(CONTOSO), json!({ "ticket": "4711" })));
    northwind.session(with(technician(), json!({ "ticket": "47", "empty": "" })));
    northwind.session(technician());
    server.fabrikam().session(with(
        json!({ "agent_id": 202 }),
        json!({ "ticket": "4711" }),
    ));
    let [first, second, routed] = [&first, &second, &routed].map(String::as_str);
    let newest_first = [routed, second, first];
    assert_eq!(found(&northwind, "metadata.ticket=4711"), newest_first);
    for (query, expected) in [
        ("metadata.ticket=4711&metadata.site=north", vec![first]),
        ("metadata.site=s%C3%BCd+%26+west", vec![second]),
        ("metadata.ticket=4711&end_company_id=1001", vec![routed]),
        ("metadata.ticket=4711&agent_id=102", vec![second, first]),
        (
            "metadata.ticket=1&metadata.ticket=4711",
            newest_first.to_vec(),
        ),
        ("metadata.ticket=", vec![]),
        ("metadata.Ticket=4711", vec![]),
        ("metadata.ticket=4711&metadata.site=east", vec![]),
    ] {
        assert_eq!(found(&northwind, query), expected, "{query}");
    }
    assert_eq!(found(&northwind, "metadata.empty=").len(), 1);
    let of_platform = "client_id=northwind-it&metadata.ticket=4711";
    assert_eq!(found(&relay, of_platform), [routed]);
    northwind.append_text(second, "Printer").expect(202);
    let searched = "q=printer&metadata.ticket=4711";
    assert_eq!(found(&northwind, searched), [second]);
    let searched = "q=printer&metadata.ticket=4711&metadata.site=north";
    assert_eq!(found(&northwind, searched), NONE);
}

#[test]
fn a_list_with_several_pairs_is_paged_over_sessions_that_have_some_of_them() {
    let server = Server::demo();
    let northwind = server.northwind();
    let wanted: Vec<String> = (0..24)
        .filter_map(|number| {
            let is_wanted = number % 5 == 0;
            let site = if is_wanted { "north" } else { "south" };
            let metadata = json!({ "a": "same", "site": site });
            let session = northwind.session(with(technician(), metadata));
            is_wanted.then_some(session)
        })
        .collect();
    let newest_first: Vec<&String> = wanted.iter().rev().collect();
    for size in [1, 2, 3, 5, 50] {
        let (mut sessions, mut cursor) = (Vec::new(), String::new());
        loop {
            let query = format!("metadata.a=same&metadata.site=north&page_size={size}{cursor}");
            let page = northwind.list_sessions(&query).expect(200);
            sessions.extend(page.ids());
            match page.next_cursor() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(sessions.iter().collect::<Vec<_>>(), newest_first, "{size}");
    }
}

#[test]
fn the_filter_follows_changes_archival_and_deletion() {
    let server = Server::demo();
    let northwind = server.northwind();
    let session = northwind.session(with(technician(), json!({ "ticket": "1", "site": "a" })));
    let change = |body: Value| drop(northwind.update_session(&session, body).expect(200));
    let is_found = |query: &str| !found(&northwind, query).is_empty();

    change(json!({ "metadata": { "ticket": "2" } }));
    assert!(is_found("metadata.ticket=2"));
    assert!(!is_found("metadata.ticket=1&archived=all"));
    assert!(!is_found("metadata.site=a&archived=all"));
    change(json!({ "title": "Other" }));
    assert!(is_found("metadata.ticket=2"));

    northwind.reset_session(&session).expect(200);
    assert!(!is_found("metadata.ticket=2"));
    assert!(is_found("metadata.ticket=2&archived=true"));
    assert!(is_found("metadata.ticket=2&archived=all"));
    change(json!({ "archived": false, "metadata": { "ticket": "3" } }));
    assert!(is_found("metadata.ticket=3"));
    change(json!({ "archived": true }));
    change(json!({ "archived": false }));
    assert!(is_found("metadata.ticket=3"));
    assert!(!is_found("metadata.ticket=3&archived=true"));

    let pairs = || server.stored::<i64>("SELECT count(*) FROM session_metadata");
    assert_eq!(pairs(), 1);
    change(json!({ "metadata": null }));
    assert_eq!(pairs(), 0);
    change(json!({ "metadata": { "ticket": "4" } }));
    northwind.delete_session(&session).expect(204);
    assert_eq!(pairs(), 0);
}

#[test]
fn retention_and_the_removal_of_a_tenant_leave_no_pairs() {
    let server = Server::demo();
    server.import_tenant("northwind-it", json!({ "retention_days": 30 }));
    let body = with(technician(), json!({ "ticket": "4711" }));
    server.northwind().session(body);
    let body = with(json!({ "agent_id": 202 }), json!({ "ticket": "4711" }));
    server.fabrikam().session(body);
    let pairs = || server.stored::<i64>("SELECT count(*) FROM session_metadata");
    assert_eq!(pairs(), 2);
    server.advance_clock(31 * DAY);
    let store = &server.app.store;
    crate::support::block_on(store.purge_sessions(|_| {}));
    assert_eq!(pairs(), 1);
    let tenant =
        server.stored::<i64>("SELECT tenant_no FROM tenants WHERE client_id = 'fabrikam-support'");
    let tenant = switchboard::model::names::TenantNo(tenant);
    crate::support::block_on(store.delete_tenant(tenant));
    assert_eq!(pairs(), 0);
}

#[test]
fn the_metadata_of_version_0_1_is_found_after_the_upgrade() {
    sqlite_only!();
    let folder = TempDir::new().unwrap();
    unpack_version_0_1(folder.path());
    let server = Server::on(folder, crate::support::START + 400 * DAY);
    let northwind = server.northwind();
    let sessions = northwind.list_sessions("archived=all&metadata.ticket=4711");
    let sessions = sessions.expect(200).data();
    let titles: Vec<&Value> = sessions
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["title"])
        .collect();
    assert_eq!(titles, ["Printer on floor 3"]);
}

#[test]
fn sessions_are_listed_by_the_clients_own_id() {
    let server = Server::demo();
    let (northwind, relay) = (server.northwind(), server.relay());
    let named = |mut body: Value, id: &str| {
        body["external_id"] = id.into();
        body
    };
    let old = northwind.session(named(technician(), "chat-1"));
    northwind.reset_session(&old).expect(200);
    let routed = relay.session(named(from(CONTOSO), "chat-1"));
    let own = northwind.session(named(technician(), "chat-1"));
    northwind.session(named(technician(), "chat-10"));
    northwind.session(technician());
    server
        .fabrikam()
        .session(named(json!({ "agent_id": 202 }), "chat-1"));
    let [old, routed, own] = [&old, &routed, &own].map(String::as_str);
    for (query, expected) in [
        ("external_id=chat-1", vec![own, routed]),
        ("external_id=chat-1&archived=true", vec![old]),
        ("external_id=chat-1&archived=all", vec![own, routed, old]),
        ("external_id=chat-1&end_company_id=1001", vec![routed]),
        ("external_id=chat", vec![]),
        ("external_id=CHAT-1", vec![]),
        ("external_id=chat-1&page_size=1", vec![own]),
    ] {
        assert_eq!(found(&northwind, query), expected, "{query}");
    }
    let first = northwind.list_sessions("external_id=chat-1&archived=all&page_size=2");
    let next = format!(
        "external_id=chat-1&archived=all&page_size=2&cursor={}",
        first.next_cursor().unwrap()
    );
    assert_eq!(found(&northwind, &next), [old]);
    assert_eq!(
        found(&relay, "client_id=northwind-it&external_id=chat-1"),
        [routed]
    );
    northwind
        .list_sessions("external_id=a+b")
        .refused_field("external_id", "must be 1 to 255 visible characters");
}

#[test]
fn a_filter_of_metadata_has_the_form_of_metadata() {
    let server = Server::demo();
    let northwind = server.northwind();
    let (name, value) = ("k".repeat(64), "v".repeat(512));
    assert_eq!(found(&northwind, &format!("metadata.{name}={value}")), NONE);
    for (query, field, reason) in [
        (
            "metadata.=x".to_owned(),
            "metadata.",
            "has an invalid name: what follows metadata. must not be empty",
        ),
        (
            format!("metadata.k={value}v"),
            "metadata.k",
            "must have at most 512 characters",
        ),
        (
            "metadata.k=%00".to_owned(),
            "metadata.k",
            "must not contain U+0000",
        ),
    ] {
        northwind.list_sessions(&query).refused_field(field, reason);
    }
    let long = northwind.list_sessions(&format!("metadata.{name}k=x"));
    let error = long.refused(400, "validation_error").error();
    assert_eq!(
        error["details"]["reason"],
        "has an invalid name: what follows metadata. must have at most 64 characters"
    );
    let elsewhere = northwind.get("/agents?metadata.ticket=4711").expect(200);
    assert_eq!(
        elsewhere.json()["meta"]["warnings"],
        json!([
            "The query parameter \"metadata.ticket\" was ignored: this call does not have it. Calls that have it: GET /chat/sessions."
        ])
    );
}
