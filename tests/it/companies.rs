//! End companies over HTTP: create, link, change, delete, and the directories refused before.

use std::thread;

use serde_json::{Value, json};

use crate::support::{
    CONTOSO, DEMO, FOURTH_COFFEE, SECOND, SHARED_BOT, Server, TAILSPIN, from, technician,
};
use crate::wire::Request;

/// The companies' ids, in a list's order.
fn companies_of(list: &Value) -> Vec<&str> {
    let items = list.as_array().unwrap().iter();
    items
        .map(|company| company["psa_company_id"].as_str().unwrap())
        .collect()
}

#[test]
fn a_company_is_created_read_and_changed_field_by_field() {
    let server = Server::demo();
    let northwind = server.northwind();
    let made = northwind
        .post(
            "/end-companies",
            json!({ "psa_company_id": "A.b_c-1", "psa_company_name": "Wide World", "tenant_id": "DIR-1" }),
        )
        .expect(201);
    assert_eq!(
        made.header("location"),
        Some("/public-api/end-companies/A.b_c-1")
    );
    let mut expected = json!({
        "psa_company_id": "A.b_c-1",
        "psa_company_name": "Wide World",
        "tenant_id": "dir-1",
        "tenant_ids": ["dir-1"],
        "custom_instructions": null,
        "custom_instructions_for_user_facing_chat": null,
        "created_at": "2025-11-24T16:00:00.000Z",
        "updated_at": "2025-11-24T16:00:00.000Z",
    });
    assert_eq!(made.data(), expected);
    let path = "/end-companies/A.b_c-1";
    assert_eq!(northwind.get(path).expect(200).data(), expected);

    server.advance_clock(SECOND);
    let change = json!({ "custom_instructions": "Gold plan.", "custom_instructions_for_user_facing_chat": "Be kind." });
    expected["custom_instructions"] = "Gold plan.".into();
    expected["custom_instructions_for_user_facing_chat"] = "Be kind.".into();
    expected["updated_at"] = "2025-11-24T16:00:01.000Z".into();
    assert_eq!(northwind.put(path, change).expect(200).data(), expected);

    server.advance_clock(SECOND);
    // Sending back what was read changes nothing.
    let same = northwind.put(path, expected.clone()).expect(200);
    assert_eq!(same.data(), expected);
    let reset =
        json!({ "psa_company_name": "WWI", "tenant_id": null, "custom_instructions": null });
    expected["psa_company_name"] = "WWI".into();
    expected["tenant_id"] = Value::Null;
    expected["tenant_ids"] = json!([]);
    expected["custom_instructions"] = Value::Null;
    expected["updated_at"] = "2025-11-24T16:00:02.000Z".into();
    assert_eq!(northwind.put(path, reset).expect(200).data(), expected);
    assert_eq!(northwind.get(path).expect(200).data(), expected);
}

#[test]
fn an_invalid_company_or_change_is_refused_by_field() {
    let server = Server::demo();
    let northwind = server.northwind();
    let id_rule = "must be 1 to 64 letters, digits, spaces and characters of ._-&/+,'()#@: and neither 'health' nor 'unlinked-tenants'";
    for (body, field, reason) in [
        (
            json!({ "psa_company_name": "A" }),
            "psa_company_id",
            "is required",
        ),
        (
            json!({ "psa_company_id": "a" }),
            "psa_company_name",
            "is required",
        ),
        (
            json!({ "psa_company_id": "a;b", "psa_company_name": "A" }),
            "psa_company_id",
            id_rule,
        ),
        (
            json!({ "psa_company_id": "health", "psa_company_name": "A" }),
            "psa_company_id",
            id_rule,
        ),
        (
            json!({ "psa_company_id": "", "psa_company_name": "A" }),
            "psa_company_id",
            id_rule,
        ),
        (
            json!({ "psa_company_id": "a", "psa_company_name": "" }),
            "psa_company_name",
            "must not be empty",
        ),
        (
            json!({ "psa_company_id": "a", "psa_company_name": "A", "tenant_id": "" }),
            "tenant_id",
            "must be the GUID of a Microsoft directory, but \"\" is not one; find it in the Microsoft Entra admin center under Overview > Tenant ID",
        ),
        (
            json!({ "psa_company_id": "a", "psa_company_name": "A", "custom_instructions": "x".repeat(32_001) }),
            "custom_instructions",
            "must have at most 32000 characters",
        ),
    ] {
        northwind
            .post("/end-companies", body)
            .refused_field(field, reason);
    }
    for (body, field, reason) in [
        (
            json!({ "psa_company_name": null }),
            "psa_company_name",
            "must not be null: it has no default",
        ),
        (
            json!({ "psa_company_id": "1002" }),
            "psa_company_id",
            "cannot change",
        ),
        (
            json!({ "psa_company_id": null }),
            "psa_company_id",
            "cannot change",
        ),
        (json!({ "tenant_id": 1 }), "tenant_id", "must be a string"),
    ] {
        northwind
            .put("/end-companies/1001", body)
            .refused_field(field, reason);
    }
}

#[test]
fn an_existing_id_cannot_be_created_again_and_a_change_creates_nothing() {
    let server = Server::demo();
    let northwind = server.northwind();
    let body = json!({ "psa_company_id": "1001", "psa_company_name": "Another" });
    let refused = northwind
        .post("/end-companies", body.clone())
        .refused(409, "already_exists");
    assert_eq!(
        refused.error(),
        json!({
            "code": "already_exists",
            "message": "The company 1001 already exists. Change it with PUT, or choose another psa_company_id.",
            "details": { "field": "psa_company_id", "psa_company_id": "1001" },
        })
    );
    // Each MSP has its own ids.
    server.fabrikam().post("/end-companies", body).expect(201);
    let change = json!({ "psa_company_name": "New" });
    for path in [
        "/end-companies/9999",
        "/end-companies/WOOD-01",
        "/end-companies/a%20b",
    ] {
        northwind.put(path, change.clone()).not_found();
        northwind.get(path).not_found();
        northwind.delete(path).not_found();
    }
    assert_eq!(
        northwind
            .get("/end-companies")
            .expect(200)
            .data()
            .as_array()
            .unwrap()
            .len(),
        4
    );
}

#[test]
fn of_many_concurrent_creates_of_one_company_exactly_one_wins() {
    let server = Server::demo();
    let statuses: Vec<u16> = thread::scope(|scope| {
        let makers: Vec<_> = (0..8)
            .map(|number| {
                let northwind = server.northwind();
                let body = json!({ "psa_company_id": "rush", "psa_company_name": format!("Maker {number}") });
                scope.spawn(move || northwind.post("/end-companies", body).status)
            })
            .collect();
        makers
            .into_iter()
            .map(|maker| maker.join().unwrap())
            .collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1);
    assert_eq!(statuses.iter().filter(|status| **status == 409).count(), 7);
}

#[test]
fn companies_are_listed_newest_first_page_by_page_by_directory_and_by_text() {
    let server = Server::demo();
    let northwind = server.northwind();
    let list = |query: &str| {
        northwind
            .get(&format!("/end-companies?{query}"))
            .expect(200)
    };
    assert_eq!(
        companies_of(&list("").data()),
        ["1004", "1003", "1002", "1001"]
    );
    for (query, expected) in [
        (
            format!("tenant_id={}", FOURTH_COFFEE.to_uppercase()),
            vec!["1004", "1003"],
        ),
        ("tenant_id=nobody".to_owned(), vec![]),
        ("q=COFFEE".to_owned(), vec!["1004", "1003"]),
        ("q=02".to_owned(), vec!["1002"]),
        (format!("q=roast&tenant_id={FOURTH_COFFEE}"), vec!["1004"]),
        (format!("q=roast&tenant_id={CONTOSO}"), vec![]),
        ("q=%25".to_owned(), vec![]),
    ] {
        assert_eq!(companies_of(&list(&query).data()), expected, "{query}");
    }
    for filter in ["", &format!("tenant_id={FOURTH_COFFEE}")] {
        let whole = list(filter).data();
        let mut walked = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = list(&format!("{filter}&page_size=1{cursor}"));
            walked.extend(page.data().as_array().unwrap().clone());
            match page.next_cursor() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(Value::Array(walked), whole);
    }
    let cursor = list("page_size=1").next_cursor().unwrap();
    server
        .fabrikam()
        .get(&format!("/end-companies?cursor={cursor}"))
        .refused(400, "validation_error");
    northwind
        .get(&format!("/end-companies/unlinked-tenants?cursor={cursor}"))
        .refused(400, "validation_error");
    northwind
        .get("/end-companies?tenant_id=a%20b")
        .refused_field(
            "tenant_id",
            "must be the GUID of a Microsoft directory, but \"a b\" is not one; find it in the Microsoft Entra admin center under Overview > Tenant ID",
        );
}

#[test]
fn literal_paths_are_not_companies() {
    let server = Server::demo();
    let northwind = server.northwind();
    assert!(
        northwind.get("/end-companies/health").expect(200).data()["shared_directories"].is_object()
    );
    assert!(
        northwind
            .get("/end-companies/unlinked-tenants")
            .expect(200)
            .data()
            .is_array()
    );
    for path in ["/end-companies/health", "/end-companies/unlinked-tenants"] {
        for method in ["PUT", "DELETE"] {
            let request = Request::new(method, format!("/public-api{path}")).json(&json!({}));
            let reply = northwind.send(request).refused(405, "method_not_allowed");
            assert_eq!(reply.header("allow"), Some("GET, HEAD, OPTIONS"));
        }
    }
    // Literal path segments are case-sensitive; these are ordinary companies.
    let body = json!({ "psa_company_id": "Health", "psa_company_name": "A spa" });
    northwind.post("/end-companies", body).expect(201);
    assert_eq!(
        northwind.get("/end-companies/Health").expect(200).data()["psa_company_name"],
        "A spa"
    );
}

#[test]
fn a_refused_directory_is_listed_and_linking_a_company_to_it_admits_it() {
    let server = Server::demo();
    let (relay, northwind) = (server.relay(), server.northwind());
    let unlinked = || northwind.get("/end-companies/unlinked-tenants").expect(200);
    assert_eq!(unlinked().data(), json!([]));
    relay
        .create_session(from(TAILSPIN))
        .refused(409, "end_company_not_mapped");
    server.advance_clock(SECOND);
    relay
        .create_session(from(FOURTH_COFFEE))
        .refused(409, "end_company_not_mapped");
    server.advance_clock(SECOND);
    relay
        .create_session(from(TAILSPIN))
        .refused(409, "end_company_not_mapped");
    let channel = northwind.get("/end-companies/health").expect(200).data()
        ["installed_without_company"]["items"][0]["channel_id"]
        .clone();
    assert_eq!(
        unlinked().data(),
        json!([
            {
                "inbound_tenant_id": FOURTH_COFFEE, "channel_id": channel, "bot_id": SHARED_BOT, "attempts": 1,
                "first_seen_at": "2025-11-24T16:00:01.000Z", "last_seen_at": "2025-11-24T16:00:01.000Z", "linked_companies": 2,
            },
            {
                "inbound_tenant_id": TAILSPIN, "channel_id": channel, "bot_id": SHARED_BOT, "attempts": 2,
                "first_seen_at": "2025-11-24T16:00:00.000Z", "last_seen_at": "2025-11-24T16:00:02.000Z", "linked_companies": 0,
            },
        ])
    );
    // No other tenant sees the directory.
    for other in [server.fabrikam(), server.relay()] {
        let told = other.get("/end-companies/unlinked-tenants").expect(200);
        assert_eq!(told.data(), json!([]));
    }
    let first = northwind
        .get("/end-companies/unlinked-tenants?page_size=1")
        .expect(200);
    assert_eq!(first.data()[0]["inbound_tenant_id"], FOURTH_COFFEE);
    let rest = format!(
        "/end-companies/unlinked-tenants?page_size=1&cursor={}",
        first.next_cursor().unwrap()
    );
    let rest = northwind.get(&rest).expect(200);
    assert_eq!(rest.data()[0]["inbound_tenant_id"], TAILSPIN);
    assert_eq!(rest.next_cursor(), None);

    northwind
        .put(
            "/end-companies/1002",
            json!({ "tenant_id": TAILSPIN.to_uppercase() }),
        )
        .expect(200);
    assert_eq!(unlinked().data()[0]["inbound_tenant_id"], FOURTH_COFFEE);
    assert_eq!(unlinked().data().as_array().unwrap().len(), 1);
    let let_in = relay.create_session(from(TAILSPIN)).expect(201).data();
    assert_eq!(let_in["end_company_id"], "1002");
}

#[test]
fn a_new_linked_company_admits_its_directory_and_a_second_one_makes_it_refused_again() {
    let server = Server::demo();
    let (relay, northwind) = (server.relay(), server.northwind());
    relay
        .create_session(from(TAILSPIN))
        .refused(409, "end_company_not_mapped");
    let company =
        |id: &str| json!({ "psa_company_id": id, "psa_company_name": id, "tenant_id": TAILSPIN });
    northwind
        .post("/end-companies", company("new-1"))
        .expect(201);
    let unlinked = "/end-companies/unlinked-tenants";
    assert_eq!(northwind.get(unlinked).expect(200).data(), json!([]));
    let session = relay.create_session(from(TAILSPIN)).expect(201);
    assert_eq!(session.data()["end_company_id"], "new-1");
    northwind
        .post("/end-companies", company("new-2"))
        .expect(201);
    relay
        .create_session(from(TAILSPIN))
        .refused(409, "end_company_not_mapped");
    relay
        .append_text(&session.id(), "Still there?")
        .refused(409, "end_company_not_mapped");
    let row = northwind.get(unlinked).expect(200).data();
    assert_eq!(
        (&row[0]["linked_companies"], &row[0]["attempts"]),
        (&json!(2), &json!(2))
    );
    // One of the two that share the directory is deleted. One is left, so nobody is refused.
    northwind.delete("/end-companies/new-2").expect(204);
    assert_eq!(northwind.get(unlinked).expect(200).data(), json!([]));
    relay.append_text(&session.id(), "Now?").expect(202);
}

#[test]
fn a_refused_directory_can_be_dismissed_and_is_listed_again_at_the_next_refusal() {
    let server = Server::demo();
    let (relay, northwind) = (server.relay(), server.northwind());
    relay
        .create_session(from(TAILSPIN))
        .refused(409, "end_company_not_mapped");
    let path = format!(
        "/end-companies/unlinked-tenants/{}",
        TAILSPIN.to_uppercase()
    );
    server.fabrikam().delete(&path).not_found();
    northwind.delete(&path).expect(204);
    northwind.delete(&path).not_found();
    northwind
        .delete("/end-companies/unlinked-tenants/a%20b")
        .not_found();
    let list = || {
        northwind
            .get("/end-companies/unlinked-tenants")
            .expect(200)
            .data()
    };
    assert_eq!(list(), json!([]));
    relay
        .create_session(from(TAILSPIN))
        .refused(409, "end_company_not_mapped");
    assert_eq!(list()[0]["attempts"], 1);
}

#[test]
fn a_removed_link_leaves_sessions_pinned_and_refuses_their_new_turns() {
    let server = Server::demo();
    let (relay, northwind) = (server.relay(), server.northwind());
    let session = relay.session(from(CONTOSO));
    relay.append_text(&session, "Hello").expect(202);
    northwind
        .put("/end-companies/1001", json!({ "tenant_id": null }))
        .expect(200);
    assert_eq!(
        relay.read_session(&session).expect(200).data()["end_company_id"],
        "1001"
    );
    let refused = relay
        .append_text(&session, "Still there?")
        .refused(409, "end_company_not_mapped");
    assert_eq!(
        refused.error()["details"],
        json!({ "inbound_tenant_id": CONTOSO, "client_id": "northwind-it", "linked_companies": 0 })
    );
    northwind
        .put("/end-companies/1001", json!({ "tenant_id": CONTOSO }))
        .expect(200);
    relay.append_text(&session, "And now?").expect(202);
}

#[test]
fn a_deleted_company_leaves_its_sessions_which_refuse_new_turns() {
    let server = Server::demo();
    let (relay, northwind) = (server.relay(), server.northwind());
    let pinned = relay.session(from(CONTOSO));
    let tried = northwind.session(json!({ "agent_id": 101, "end_company_id": "1001" }));
    relay.append_text(&pinned, "Hello").expect(202);
    northwind.append_text(&tried, "Hello").expect(202);
    northwind.delete("/end-companies/1001").expect(204);
    northwind.get("/end-companies/1001").not_found();
    for (owner, session) in [(&relay, &pinned), (&northwind, &tried)] {
        let kept = owner.read_session(session).expect(200).data();
        assert_eq!(
            (&kept["end_company_id"], &kept["message_count"]),
            (&json!("1001"), &json!(1))
        );
        owner
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
    relay
        .create_session(from(CONTOSO))
        .refused(409, "end_company_not_mapped");
    // The old session stays closed when another company takes over the directory.
    let heir =
        json!({ "psa_company_id": "2001", "psa_company_name": "Heir", "tenant_id": CONTOSO });
    northwind.post("/end-companies", heir).expect(201);
    relay
        .append_text(&pinned, "Hello?")
        .refused(409, "end_company_not_mapped");
}

#[test]
fn a_deleted_companys_own_articles_are_deleted_and_never_become_shared() {
    let server = Server::answering(&[]);
    let northwind = server.northwind();
    let articles = || {
        server.stored::<String>(
            "SELECT string_agg(coalesce(psa_company_id, '-') || ' ' || title, '\n') FROM
             (SELECT * FROM knowledge_articles WHERE tenant_no = 1 ORDER BY seq) e",
        )
    };
    let before = articles();
    assert_eq!(
        before
            .lines()
            .filter(|line| line.starts_with("1001 "))
            .count(),
        2
    );
    let answer = |question: &str| {
        let session = server.relay().session(from(CONTOSO));
        let turn = server
            .relay()
            .append_text(&session, question)
            .expect(202)
            .data();
        let turn = turn["chat_turn_id"].as_str().unwrap().to_owned();
        let ended = server
            .relay()
            .turn(&session, &turn, "wait_seconds=60")
            .expect(200)
            .data();
        ended["assistant_message"]["content"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let question = "Contoso Ledger is slow at month-end";
    assert!(answer(question).contains("Ledger"));
    northwind.delete("/end-companies/1001").expect(204);
    let expected: Vec<&str> = before
        .lines()
        .filter(|line| !line.starts_with("1001 "))
        .collect();
    assert_eq!(articles().lines().collect::<Vec<_>>(), expected);
    // A new company under the same id starts without the articles.
    let anew =
        json!({ "psa_company_id": "1001", "psa_company_name": "Namesake", "tenant_id": CONTOSO });
    northwind.post("/end-companies", anew).expect(201);
    assert!(!answer(question).contains("Contoso Ledger:"));
}

#[test]
fn each_change_of_a_company_is_an_audit_event_and_a_change_of_nothing_is_not() {
    let server = Server::with_world(DEMO, &[]);
    let northwind = server.northwind();
    let guest = northwind.with_session_token(&northwind.session(technician()));
    let before: i64 = server.stored("SELECT count(*) FROM audit_events");
    northwind
        .post(
            "/end-companies",
            json!({ "psa_company_id": "c", "psa_company_name": "C", "tenant_id": "D" }),
        )
        .expect(201);
    northwind
        .put(
            "/end-companies/c",
            json!({ "tenant_id": null, "psa_company_name": "C" }),
        )
        .expect(200);
    northwind
        .put("/end-companies/c", json!({ "psa_company_name": "C" }))
        .expect(200);
    northwind.delete("/end-companies/1001").expect(204);
    server
        .relay()
        .create_session(from(TAILSPIN))
        .refused(409, "end_company_not_mapped");
    northwind
        .delete(&format!("/end-companies/unlinked-tenants/{TAILSPIN}"))
        .expect(204);
    guest.get("/end-companies").refused(403, "forbidden");
    let told: String = server.stored(
        "SELECT string_agg(action || ' ' || target || ' ' || actor_kind || ' ' || details || ' ' || remote, '\n') FROM
         (SELECT * FROM audit_events ORDER BY seq DESC LIMIT 5) e",
    );
    assert_eq!(
        told.lines().rev().collect::<Vec<_>>(),
        [
            r#"company.create c service_account {"tenant_id":"d","tenant_ids":["d"]} 127.0.0.1"#.to_owned(),
            r#"company.update c service_account {"changed":{"tenant_id":{"from":"d","to":null},"tenant_ids":{"from":["d"],"to":[]}}} 127.0.0.1"#.to_owned(),
            format!(
                r#"company.delete 1001 service_account {{"knowledge_articles":2,"psa_company_name":"Contoso","tenant_id":"{CONTOSO}","tenant_ids":["{CONTOSO}"]}} 127.0.0.1"#
            ),
            format!(r#"unlinked_tenant.delete {TAILSPIN} service_account {{}} 127.0.0.1"#),
            r#"request.refused /public-api/end-companies end_user_session {"code":"forbidden","method":"GET","route":"/end-companies"} 127.0.0.1"#.to_owned(),
        ]
    );
    assert_eq!(
        server.stored::<i64>("SELECT count(*) FROM audit_events"),
        before + 5
    );
}
