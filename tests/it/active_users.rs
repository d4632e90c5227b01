//! People who write: counted by month, by company, and in the statistics of a time.

use serde_json::{Value, json};
use switchboard::model::words::Role;

use crate::sign_in::signed_in;
use crate::support::{ApiClient, CONTOSO, DAY, Server, from, technician};

/// Appends messages of a person, whom the relay names by id.
fn writes(client: &ApiClient, session: &str, person: &str, messages: usize) {
    for _ in 0..messages {
        let body = json!({ "message": "Hello", "author": { "id": person } });
        client.append(session, body).expect(202);
    }
}

fn active(client: &ApiClient, query: &str) -> Value {
    client
        .get(&format!("/stats/active-users{query}"))
        .expect(200)
        .data()
}

fn company(id: &str, name: &str, active_users: usize) -> Value {
    json!({ "end_company_id": id, "company_name": name, "active_users": active_users })
}

#[test]
fn people_with_two_messages_in_a_month_are_active_in_all_and_in_their_companies() {
    let server = Server::demo();
    let (relay, northwind) = (server.relay(), server.northwind());
    let contoso = [relay.session(from(CONTOSO)), relay.session(from(CONTOSO))];
    let toys = northwind.session(json!({ "agent_id": 101, "end_company_id": "1002" }));
    writes(&relay, &contoso[0], "1", 1);
    writes(&relay, &contoso[1], "1", 1);
    writes(&relay, &contoso[1], "2", 3);
    writes(&relay, &contoso[1], "3", 1);
    writes(&northwind, &toys, "4", 2);
    // Active in all, and in no company.
    writes(&relay, &contoso[0], "5", 1);
    writes(&northwind, &toys, "5", 1);
    // A program is nobody, and a person of no company counts in all.
    let own = northwind.session(technician());
    for _ in 0..2 {
        northwind.append_text(&own, "Hello").expect(202);
        let nameless = northwind.with_session_token(&own);
        nameless.append_text(&own, "Hello").expect(202);
        let admin = signed_in(&server, "northwind-it", Role::Admin);
        admin.append_text(&own, "Hello").expect(202);
    }
    let expected = json!({
        "month": "2025-11",
        "active_users": 5,
        "per_company": [company("1001", "Contoso", 2), company("1002", "Tailspin Toys", 1)],
    });
    assert_eq!(active(&northwind, ""), expected);
    assert_eq!(active(&northwind, "?month=2025-11"), expected);
    let none = |month: &str| json!({ "month": month, "active_users": 0, "per_company": [] });
    for month in ["2025-10", "2025-12", "1970-01", "9999-12"] {
        assert_eq!(active(&northwind, &format!("?month={month}")), none(month));
    }
    assert_eq!(active(&server.fabrikam(), ""), none("2025-11"));
    // December has only one message of the second person.
    server.advance_clock(10 * DAY);
    writes(&relay, &contoso[0], "2", 1);
    assert_eq!(active(&northwind, ""), none("2025-12"));
    assert_eq!(active(&northwind, "?month=2025-11"), expected);
    let stats = northwind
        .get("/stats?from=2025-11-01T00:00:00Z")
        .expect(200)
        .data();
    assert_eq!(stats["total"]["active_users"], 5);
    let by_day = stats["by_day"].as_array().unwrap();
    let by_day: Vec<&Value> = by_day.iter().map(|day| &day["active_users"]).collect();
    assert_eq!(by_day, [5, 0]);
    for (client, status) in [
        (northwind.with_session_token(&own), 403),
        (server.anonymous(), 401),
    ] {
        assert_eq!(client.get("/stats/active-users").status, status);
    }
}

#[test]
fn a_company_that_is_gone_has_no_name_and_a_deleted_session_no_people() {
    let server = Server::demo();
    let (relay, northwind) = (server.relay(), server.northwind());
    let session = relay.session(from(CONTOSO));
    writes(&relay, &session, "1", 2);
    northwind.delete("/end-companies/1001").expect(204);
    assert_eq!(
        active(&northwind, "")["per_company"],
        json!([{ "end_company_id": "1001", "company_name": null, "active_users": 1 }])
    );
    northwind.delete_session(&session).expect(204);
    assert_eq!(active(&northwind, "")["active_users"], 0);
}

#[test]
fn a_question_that_is_answered_again_is_one_message() {
    let server = Server::answering(&[]);
    let relay = server.relay();
    let session = relay.session(from(CONTOSO));
    writes(&relay, &session, "1", 1);
    let asked = relay.messages(&session, "").expect(200).data()[0].clone();
    let ended = |turn: &Value| {
        let turn = turn.as_str().unwrap();
        relay.turn(&session, turn, "wait_seconds=60").expect(200);
    };
    ended(&asked["chat_turn_id"]);
    let path = format!(
        "/chat/sessions/{session}/messages/{}/regenerate",
        asked["id"].as_str().unwrap()
    );
    let again = relay.post(&path, json!({})).expect(202).data();
    ended(&again["chat_turn_id"]);
    let northwind = server.northwind();
    assert_eq!(active(&northwind, "")["active_users"], 0);
    let total = northwind.get("/stats").expect(200).data()["total"].clone();
    assert_eq!(
        (&total["turns"], &total["active_users"]),
        (&json!(2), &json!(0))
    );
    writes(&relay, &session, "1", 1);
    assert_eq!(active(&northwind, "")["active_users"], 1);
}

#[test]
fn a_month_is_written_with_four_and_two_digits() {
    let server = Server::demo();
    let northwind = server.northwind();
    for month in [
        "2025",
        "2025-13",
        "2025-1",
        "november",
        "1969-12",
        "2025-11-01",
    ] {
        northwind
            .get(&format!("/stats/active-users?month={month}"))
            .refused_field("month", "must be a month such as 2026-01");
    }
}
