//! Knowledge articles over HTTP: create, change, delete, and what they may refer to.

use serde_json::{Value, json};

use crate::support::{Server, agent, technician};

#[test]
fn an_article_is_created_for_the_msps_own_people_by_default_and_read_back() {
    let server = Server::demo();
    let northwind = server.northwind();
    let made = northwind
        .post(
            "/knowledge-articles",
            json!({ "title": "Guests", "body": "The **Guests** network." }),
        )
        .expect(201);
    let article = made.data();
    let id = article["id"].as_str().unwrap();
    assert!(id.starts_with("art_"));
    let path = format!("/knowledge-articles/{id}");
    assert_eq!(
        made.header("location"),
        Some(format!("/public-api{path}").as_str())
    );
    assert_eq!(
        article,
        json!({
            "id": id, "title": "Guests", "body": "The **Guests** network.", "url": null, "audience": "MSP",
            "end_company_id": null, "agent_ids": [], "created_at": "2025-11-24T16:00:00.000Z", "updated_at": "2025-11-24T16:00:00.000Z",
        })
    );
    assert_eq!(northwind.get(&path).expect(200).data(), article);
    assert_eq!(
        northwind.get("/knowledge-articles").expect(200).data()[0],
        article
    );
    server.advance_clock(5);
    let changed = northwind
        .put(&path, json!({ "audience": "END_USER", "end_company_id": "1001", "agent_ids": [101], "url": "https://kb.example/g" }))
        .expect(200)
        .data();
    assert_eq!(changed["end_company_id"], "1001");
    assert_eq!(changed["updated_at"], "2025-11-24T16:00:00.005Z");
    let reset = northwind.put(
        &path,
        json!({ "end_company_id": null, "agent_ids": null, "url": null }),
    );
    let reset = reset.expect(200).data();
    assert_eq!(
        (&reset["end_company_id"], &reset["agent_ids"], &reset["url"]),
        (&Value::Null, &json!([]), &Value::Null)
    );
    assert_eq!(reset["audience"], "END_USER");
    northwind.delete(&path).expect(204);
    northwind.get(&path).not_found();
    northwind.delete(&path).not_found();
}

#[test]
fn an_article_names_only_things_of_its_tenant_and_its_title_is_unique() {
    let server = Server::demo();
    let northwind = server.northwind();
    let article = |rest: Value| {
        let mut body = json!({ "title": "New", "body": "x" });
        body.as_object_mut()
            .unwrap()
            .extend(rest.as_object().unwrap().clone());
        northwind.post("/knowledge-articles", body)
    };
    for (named, field) in [
        (json!({ "end_company_id": "WOOD-01" }), "end_company_id"),
        (json!({ "agent_ids": [101, 201] }), "agent_ids"),
    ] {
        assert_eq!(
            article(named).refused(404, "not_found").error()["details"]["field"],
            field
        );
    }
    let title = northwind.get("/knowledge-articles").expect(200).data()[0]["title"].clone();
    let taken = article(json!({ "title": title })).refused(409, "already_exists");
    assert_eq!(taken.error()["details"]["field"], "title");
    let other = article(json!({})).expect(201).data()["id"].clone();
    let path = format!("/knowledge-articles/{}", other.as_str().unwrap());
    northwind
        .put(&path, json!({ "title": title }))
        .refused(409, "already_exists");
    for (body, field, reason) in [
        (json!({ "body": "x" }), "title", "is required"),
        (json!({ "title": "x" }), "body", "is required"),
        (
            json!({ "title": "x", "body": "é".repeat(40_000) }),
            "body",
            "must have at most 65536 bytes",
        ),
        (
            json!({ "title": "x", "body": "x", "url": "ftp://x" }),
            "url",
            "must be an absolute https or http URL without spaces, user name or password",
        ),
        (
            json!({ "title": "x", "body": "x", "url": "https://[" }),
            "url",
            "must be an absolute https or http URL without spaces, user name or password",
        ),
        (
            json!({ "title": "x", "body": "x", "url": "https://kb.example:99999/" }),
            "url",
            "must be an absolute https or http URL without spaces, user name or password",
        ),
        (
            json!({ "title": "x", "body": "x", "url": "https://me:secret@kb.example/" }),
            "url",
            "must be an absolute https or http URL without spaces, user name or password",
        ),
        (
            json!({ "title": "x", "body": "x", "url": "https:///kb" }),
            "url",
            "must be an absolute https or http URL without spaces, user name or password",
        ),
    ] {
        northwind
            .post("/knowledge-articles", body)
            .refused_field(field, reason);
    }
    northwind
        .put(&path, json!({ "body": null }))
        .refused_field("body", "must not be null: it has no default");
}

#[test]
fn a_list_of_articles_is_filtered_and_paged() {
    let server = Server::demo();
    server.import_tenant(
        "northwind-it",
        json!({
            "agents": [agent(901, "MSP")],
            "knowledge_articles": [
                { "title": "List: one", "body": "x", "audience": "END_USER", "end_company_id": "1002" },
                { "title": "List: two", "body": "x", "agent_ids": [901] },
                { "title": "List: three", "body": "x" },
            ],
        }),
    );
    let northwind = server.northwind();
    let titles = |query: &str| -> Vec<String> {
        let data = northwind
            .get(&format!("/knowledge-articles?{query}"))
            .expect(200)
            .data();
        let titles = data
            .as_array()
            .unwrap()
            .iter()
            .map(|article| article["title"].as_str().unwrap().to_owned());
        titles.filter(|title| title.starts_with("List: ")).collect()
    };
    assert_eq!(
        titles("q=list%3A"),
        ["List: three", "List: two", "List: one"]
    );
    assert_eq!(titles("page_size=2"), ["List: three", "List: two"]);
    assert_eq!(titles("page_size=200&audience=END_USER"), ["List: one"]);
    assert_eq!(titles("end_company_id=1002"), ["List: one"]);
    // The filter by agent also finds articles for all agents.
    assert_eq!(
        titles("q=List%3A&agent_id=901"),
        ["List: three", "List: two", "List: one"]
    );
    assert_eq!(
        titles("q=List%3A&agent_id=101"),
        ["List: three", "List: one"]
    );
}

#[test]
fn an_answer_uses_an_article_as_soon_as_it_exists() {
    let server = Server::answering(&[]);
    let northwind = server.northwind();
    northwind
        .post("/knowledge-articles", json!({ "title": "Flux capacitor", "body": "The flux capacitor needs 1.21 gigawatts." }))
        .expect(201);
    let session = northwind.session(technician());
    let turn = northwind
        .append_text(&session, "How much does the flux capacitor need?")
        .expect(202)
        .data()["chat_turn_id"]
        .clone();
    let ended = northwind
        .turn(&session, turn.as_str().unwrap(), "wait_seconds=60")
        .expect(200)
        .data();
    let answer = ended["assistant_message"]["content"].as_str().unwrap();
    assert!(answer.contains("1.21 gigawatts"), "{answer}");
}

#[test]
fn a_page_with_much_text_ends_early_and_has_a_next_cursor() {
    let server = Server::demo();
    let northwind = server.northwind();
    let before = northwind
        .get("/knowledge-articles?page_size=200")
        .expect(200)
        .ids();
    let body = "0123456789abcdef".repeat(4_000);
    let new: Vec<Value> = (0..150)
        .map(|number| json!({ "title": format!("Long {number}"), "body": body }))
        .collect();
    server.import_tenant(
        "northwind-it",
        json!({ "name": "Northwind IT", "knowledge_articles": new }),
    );
    let mut pages: Vec<Vec<String>> = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = northwind
            .get(&format!("/knowledge-articles?page_size=200{cursor}"))
            .expect(200);
        assert!(page.body.len() <= 8 * 1_024 * 1_024);
        let meta = &page.json()["meta"]["pagination"];
        let next = page.next_cursor();
        assert_eq!(meta["has_more"], next.is_some());
        pages.push(page.ids());
        match next {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let sizes: Vec<usize> = pages.iter().map(Vec::len).collect();
    assert_eq!(sizes.len(), 2);
    assert_eq!(sizes[0] + sizes[1], 150 + before.len());
    let all: Vec<String> = pages.concat();
    let mut sorted = all.clone();
    sorted.sort_unstable_by(|one, other| other.cmp(one));
    sorted.dedup();
    assert_eq!(all, sorted);
}
