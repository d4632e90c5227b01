//! The end user of a session: who talks, from whom the session has it, and how the person is found.

use serde_json::{Value, json};
use switchboard::model::words::Role;

use crate::authority::{Authority, NEWCOMER};
use crate::management::{flags, person};
use crate::sign_in::signed_in;
use crate::support::{ApiClient, CONTOSO, DEMO, MINUTE, Server, from, technician};

fn mia() -> Value {
    json!({ "id": "7f0c1a9e", "name": "Mia Bergström", "email": "mia@contoso.example" })
}

/// A create with this end user.
fn of(mut body: Value, user: Value) -> Value {
    body["end_user"] = user;
    body
}

fn end_user(client: &ApiClient, session: &str) -> Value {
    client.read_session(session).expect(200).data()["end_user"].clone()
}

/// The events with this action, newest first.
fn details(client: &ApiClient, action: &str) -> Vec<Value> {
    let events = client.get(&format!("/audit-events?action={action}"));
    let events = events.expect(200).data();
    let events = events.as_array().unwrap().iter();
    events.map(|event| event["details"].clone()).collect()
}

#[test]
fn a_service_account_and_the_platform_say_who_talks() {
    let server = Server::demo();
    for (client, body) in [
        (server.northwind(), technician()),
        (server.relay(), from(CONTOSO)),
    ] {
        for (sent, shown) in [
            (mia(), mia()),
            (
                json!({ "id": "u-2" }),
                json!({ "id": "u-2", "name": null, "email": null }),
            ),
            (
                json!({ "id": "u-3", "name": "", "email": "" }),
                json!({ "id": "u-3", "name": null, "email": null }),
            ),
            (json!(null), json!(null)),
        ] {
            let made = client.create_session(of(body.clone(), sent)).expect(201);
            assert_eq!(made.data()["end_user"], shown);
            assert_eq!(end_user(&client, &made.id()), shown);
        }
        assert_eq!(
            client.create_session(body).expect(201).data()["end_user"],
            json!(null)
        );
    }
    let listed = server.northwind().list_sessions("").expect(200).data();
    let listed = listed.as_array().unwrap();
    assert_eq!(listed.len(), 10);
    assert_eq!(
        listed.iter().filter(|one| one["end_user"] == mia()).count(),
        2
    );
}

#[test]
fn an_end_user_is_an_object_with_an_id() {
    let server = Server::demo();
    let northwind = server.northwind();
    let long = "x".repeat(257);
    for (sent, field, reason) in [
        (json!("Mia"), "end_user", "must be an object"),
        (json!({}), "end_user.id", "is required"),
        (json!({ "id": null }), "end_user.id", "is required"),
        (json!({ "id": "" }), "end_user.id", "must not be empty"),
        (json!({ "id": 7 }), "end_user.id", "must be a string"),
        (
            json!({ "id": long }),
            "end_user.id",
            "must have at most 255 characters",
        ),
        (
            json!({ "id": "u", "name": long }),
            "end_user.name",
            "must have at most 256 characters",
        ),
        (
            json!({ "id": "u", "email": [] }),
            "end_user.email",
            "must be a string",
        ),
        (
            json!({ "id": "a\u{0}" }),
            "end_user.id",
            "must not contain U+0000",
        ),
    ] {
        let refused = northwind.create_session(of(technician(), sent.clone()));
        refused.refused_field(field, reason);
        let refused = northwind.resolve(of(technician(), sent));
        refused.refused_field(field, reason);
    }
    let longest =
        json!({ "id": "ü".repeat(255), "name": "ü".repeat(256), "email": "ü".repeat(320) });
    let made = northwind.create_session(of(technician(), longest.clone()));
    assert_eq!(made.expect(201).data()["end_user"], longest);
}

#[test]
fn a_signed_in_user_talks_in_the_sessions_that_the_user_creates() {
    let authority = Authority::new();
    let [url, audience] = flags(&authority);
    let server = Server::with_world(DEMO, &[&url, &audience]);
    let ines = person(&server, &authority, NEWCOMER, "User");
    let made = ines.create_session(technician()).expect(201);
    let creator = made.data()["created_by"].clone();
    server.wait_for_records();
    let admin = signed_in(&server, "northwind-it", Role::Admin);
    let users = admin.get("/users").expect(200).data();
    let users = users.as_array().unwrap();
    let user = users.iter().find(|user| user["id"] == NEWCOMER).unwrap();
    assert!(user["email"].is_string());
    assert_eq!(
        made.data()["end_user"],
        json!({ "id": NEWCOMER, "name": creator["name"], "email": user["email"] })
    );

    // A local sign-in has no address.
    let made = admin.create_session(technician()).expect(201).data();
    let creator = &made["created_by"];
    assert_eq!(
        made["end_user"],
        json!({ "id": creator["id"], "name": creator["name"], "email": null })
    );

    // Nobody speaks for somebody else.
    let made = ines.create_session(of(technician(), mia())).expect(201);
    assert_eq!(made.data()["end_user"]["id"], NEWCOMER);
    assert_eq!(
        made.json()["meta"]["warnings"],
        json!([
            "end_user was ignored: in a session that a signed-in user creates, that user talks."
        ])
    );
    assert_eq!(
        admin
            .list_sessions(&format!("end_user_id={NEWCOMER}"))
            .ids()
            .len(),
        2
    );
}

#[test]
fn a_minted_token_names_the_person_of_a_session_that_has_none() {
    let server = Server::demo();
    let northwind = server.northwind();
    for (sent, filled) in [
        (
            json!({ "end_user": "Mia" }),
            json!({ "id": "Mia", "name": "Mia", "email": null }),
        ),
        (
            json!({ "end_user": "Mia", "end_user_email": "mia@contoso.example" }),
            json!({ "id": "Mia", "name": "Mia", "email": "mia@contoso.example" }),
        ),
        (
            json!({ "end_user_email": "mia@contoso.example" }),
            json!({ "id": "mia@contoso.example", "name": null, "email": "mia@contoso.example" }),
        ),
        (json!({ "end_user": mia() }), mia()),
        (
            json!({ "end_user": { "id": "u-1" }, "end_user_email": "mia@contoso.example" }),
            json!({ "id": "u-1", "name": null, "email": "mia@contoso.example" }),
        ),
        (json!({}), json!(null)),
        (json!({ "end_user": null }), json!(null)),
    ] {
        let session = northwind.session(technician());
        let mut body = sent;
        body["session_id"] = session.clone().into();
        northwind.mint_token(body).expect(201);
        assert_eq!(end_user(&northwind, &session), filled);
        // The first person stays.
        let other = json!({ "session_id": session, "end_user": "Otto" });
        northwind.mint_token(other).expect(201);
        let kept = match filled.is_null() {
            true => json!({ "id": "Otto", "name": "Otto", "email": null }),
            false => filled,
        };
        assert_eq!(end_user(&northwind, &session), kept);
    }
    let session = northwind.session(of(technician(), mia()));
    for (sent, reason) in [
        (json!(7), "must be a string"),
        (json!(""), "must not be empty"),
        (json!("x".repeat(257)), "must have at most 256 characters"),
    ] {
        let body = json!({ "session_id": session, "end_user": sent });
        let refused = northwind.mint_token(body);
        refused.refused_field("end_user", reason);
    }
    let refused = northwind.mint_token(json!({ "session_id": session, "end_user": {} }));
    refused.refused_field("end_user.id", "is required");
}

#[test]
fn a_person_stays_after_the_token_has_expired_and_is_who_the_token_acts_for() {
    let server = Server::demo();
    let northwind = server.northwind();
    let session = northwind.session(technician());
    let body = json!({ "session_id": session, "end_user": mia(), "ttl_seconds": 60 });
    let minted = northwind.mint_token(body).expect(201).data();
    let holder = server.with_credential(minted["token"].as_str().unwrap());
    let who = holder.get("/whoami").expect(200).data();
    assert_eq!(who["name"], "Mia Bergström");
    assert_eq!(end_user(&holder, &session), mia());
    server.advance_clock(2 * MINUTE);
    holder.get("/whoami").refused(401, "unauthorized");
    let server = server.restarted();
    assert_eq!(end_user(&server.northwind(), &session), mia());
}

#[test]
fn sessions_are_listed_by_the_id_of_their_end_user() {
    let server = Server::demo();
    let (northwind, relay) = (server.northwind(), server.relay());
    let created = [
        northwind.session(of(technician(), mia())),
        relay.session(of(from(CONTOSO), mia())),
    ];
    northwind.session(of(technician(), json!({ "id": "7f0c1a9" })));
    northwind.session(technician());
    server
        .fabrikam()
        .session(of(json!({ "agent_id": 202 }), mia()));
    let newest_first = [created[1].clone(), created[0].clone()];
    assert_eq!(
        northwind.list_sessions("end_user_id=7f0c1a9e").ids(),
        newest_first
    );
    let found = relay.list_sessions("client_id=northwind-it&end_user_id=7f0c1a9e");
    assert_eq!(found.ids(), created[1..]);
    let narrowed = northwind.list_sessions("end_user_id=7f0c1a9e&end_company_id=1001");
    assert_eq!(narrowed.ids(), created[1..]);
    northwind.reset_session(&created[1]).expect(200);
    assert_eq!(
        northwind.list_sessions("end_user_id=7f0c1a9e").ids(),
        created[..1]
    );
    let all = northwind.list_sessions("end_user_id=7f0c1a9e&archived=all");
    assert_eq!(all.ids(), newest_first);
    let page = northwind.list_sessions("end_user_id=7f0c1a9e&archived=all&page_size=1");
    let cursor = page.next_cursor().unwrap();
    let next = northwind.list_sessions(&format!(
        "end_user_id=7f0c1a9e&archived=all&page_size=1&cursor={cursor}"
    ));
    assert_eq!(
        (page.ids(), next.ids()),
        (newest_first[..1].to_vec(), created[..1].to_vec())
    );
    let found = northwind.list_sessions("q=berg&archived=all&end_user_id=nobody");
    assert_eq!(found.ids(), [""; 0]);
    northwind
        .list_sessions("end_user_id=")
        .refused_field("end_user_id", "must not be empty");
    northwind
        .list_sessions("end_user_id=%00")
        .refused_field("end_user_id", "must not contain U+0000");
}

#[test]
fn a_search_finds_the_names_of_end_users_through_all_changes_of_a_session() {
    let server = Server::demo();
    let northwind = server.northwind();
    let found = |q: &str| {
        let found = northwind.list_sessions(&format!("archived=all&q={q}"));
        found.expect(200).ids()
    };
    let none: [String; 0] = [];
    let named = northwind.session(of(technician(), mia()));
    let mut titled = of(technician(), json!({ "id": "u-2", "name": "Otto Lund" }));
    titled["title"] = "Blue screen".into();
    let titled = northwind.session(titled);
    assert_eq!(found("bergstrom"), [named.as_str()]);
    assert_eq!(found("mia+berg"), [named.as_str()]);
    assert_eq!(found("lund+blue"), [titled.as_str()]);
    let hit = northwind.list_sessions("q=lund").expect(200).data();
    assert_eq!(hit[0]["snippet"], json!(null));
    // Neither the id nor the address is a name.
    assert_eq!(found("7f0c1a9e"), none);
    assert_eq!(found("contoso.example"), none);

    // A title that is cut from the first message, and one that a user gives.
    northwind.append_text(&named, "Printer jams").expect(202);
    assert_eq!(found("bergstrom+printer"), [named.as_str()]);
    let changed = northwind.update_session(&named, json!({ "title": "Toner" }));
    changed.expect(200);
    assert_eq!(found("toner+mia"), [named.as_str()]);
    let cleared = northwind.update_session(&named, json!({ "title": null }));
    cleared.expect(200);
    assert_eq!(found("toner"), none);
    assert_eq!(found("mia"), [named.as_str()]);

    // A person who is named later, with a title that the index has, and with one that it has not.
    let late = northwind.session(json!({ "agent_id": 102, "title": "Scanner" }));
    let derived = northwind.session(technician());
    northwind.append_text(&derived, "Scanner again").expect(202);
    for session in [&late, &derived] {
        let body = json!({ "session_id": session, "end_user": "Ada" });
        northwind.mint_token(body).expect(201);
    }
    assert_eq!(found("ada+scanner"), [derived.clone(), late.clone()]);

    for session in [named, titled, late, derived] {
        northwind.delete_session(&session).expect(204);
    }
    let other = server.fabrikam();
    other.session(of(json!({ "agent_id": 202 }), mia()));
    for q in ["mia", "lund", "ada", "scanner", "blue"] {
        assert_eq!(found(q), none, "{q}");
    }
    if !crate::database::is_on_postgres() {
        server.execute_sql("INSERT INTO title_search (title_search) VALUES ('integrity-check')");
    }
}

#[test]
fn events_about_a_session_name_its_end_user() {
    let server = Server::demo();
    let northwind = server.northwind();
    let session = northwind.session(technician());
    let body = json!({ "session_id": session, "end_user": mia() });
    let minted = northwind.mint_token(body).expect(201).data();
    let jti = minted["jti"].as_str().unwrap();
    northwind.delete(&format!("/sessions/{jti}")).expect(204);
    let shared = northwind.update_session(&session, json!({ "shared": true }));
    shared.expect(200);
    northwind.delete_session(&session).expect(204);
    let body = json!({ "agent_id": 101, "end_company_id": "1001", "end_user": mia() });
    northwind.session(body);
    for action in [
        "session_token.mint",
        "session_token.revoke",
        "session.update",
        "session.delete",
        "session.create_as_company",
    ] {
        let details = details(&northwind, action);
        assert_eq!(details.len(), 1, "{action}");
        assert_eq!(details[0]["end_user"], mia(), "{action}");
    }
    let nobodys = northwind.session(technician());
    northwind.delete_session(&nobodys).expect(204);
    assert_eq!(details(&northwind, "session.delete")[0], json!({}));
}
