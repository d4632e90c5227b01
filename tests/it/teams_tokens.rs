//! The Bot Framework's tokens and keys, and the file of the bots.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::thread;

use serde_json::{Value, json};
use switchboard::teams::bots::BotsFile;

use crate::authority::{current, next};
use crate::support::{DAY, MINUTE, SECOND, SHARED_BOT, START, Server, TECHNICIAN_BOT};
use crate::teams_bots::{BotFramework, SECRET, claims, endorsed, message, post, token, with};
use crate::wire::Request;

const NOW: i64 = START / 1_000;

fn good_activity() -> Value {
    message("1", "Hello")
}

#[test]
fn a_request_without_a_credential_or_with_two_is_refused() {
    let framework = BotFramework::new();
    let server = framework.serve();
    let request = || Request::new("POST", "/api/messages").json(&good_activity());
    assert_eq!(server.anonymous().send(request()).status, 401);
    let bearer = format!("Bearer {}", token(SHARED_BOT));
    let twice = request()
        .header("authorization", bearer.clone())
        .header("authorization", bearer);
    assert_eq!(server.anonymous().send(twice).status, 401);
    let basic = request().header("authorization", "Basic a2ltOmtpbQ==");
    assert_eq!(server.anonymous().send(basic).status, 401);
    // A server without bots takes nobody's.
    let without = Server::demo();
    let reply = post(&without, &token(SHARED_BOT), &good_activity());
    assert_eq!(
        (reply.status, &reply.json()["error"]["details"]["reason"]),
        (401, &json!("wrong_audience"))
    );
}

#[test]
fn tokens_at_the_edges_of_their_times_are_accepted() {
    let framework = BotFramework::new();
    let server = framework.serve();
    let edges: [(&str, Value); 5] = [
        ("/exp", (NOW - 299).into()),
        ("/nbf", (NOW + 300).into()),
        ("/nbf", Value::Null),
        ("/iat", NOW.into()),
        ("/exp", (NOW as f64 + 0.5).into()),
    ];
    for (path, value) in edges {
        let token = current().issue(&with(claims(SHARED_BOT), &[(path, value)]));
        assert_eq!(
            post(&server, &token, &good_activity()).status,
            202,
            "{path}"
        );
    }
}

#[test]
fn keys_are_kept_for_a_day_and_a_withdrawn_key_ends_then() {
    let framework = BotFramework::new();
    let server = framework.serve();
    let long = || {
        let claims = with(claims(SHARED_BOT), &[("/exp", (NOW + 400_000).into())]);
        current().issue(&claims)
    };
    assert_eq!(post(&server, &long(), &good_activity()).status, 202);
    framework.publish(&[endorsed(next(), &["msteams"])]);
    server.advance_clock(DAY - SECOND);
    assert_eq!(post(&server, &long(), &good_activity()).status, 202);
    assert_eq!(framework.authority.requested_paths().len(), 2);
    server.advance_clock(SECOND);
    assert_eq!(post(&server, &long(), &good_activity()).status, 401);
    assert_eq!(framework.authority.requested_paths().len(), 4);
}

#[test]
fn an_unknown_key_is_fetched_at_once_and_then_at_most_once_a_minute() {
    let framework = BotFramework::new();
    let server = framework.serve();
    let of_next = || next().issue(&claims(SHARED_BOT));
    assert_eq!(
        post(&server, &token(SHARED_BOT), &good_activity()).status,
        202
    );
    let keys = [
        endorsed(current(), &["msteams"]),
        endorsed(next(), &["msteams"]),
    ];
    // The first fetch for the new key comes too early.
    assert_eq!(post(&server, &of_next(), &good_activity()).status, 401);
    framework.publish(&keys);
    assert_eq!(post(&server, &of_next(), &good_activity()).status, 401);
    assert_eq!(framework.authority.requested_paths().len(), 4);
    server.advance_clock(MINUTE);
    assert_eq!(post(&server, &of_next(), &good_activity()).status, 202);
    assert_eq!(framework.authority.requested_paths().len(), 6);
}

#[test]
fn a_fetch_that_hangs_or_fails_holds_up_nobody_whose_key_is_known() {
    let framework = BotFramework::new();
    let server = framework.serve();
    assert_eq!(
        post(&server, &token(SHARED_BOT), &good_activity()).status,
        202
    );
    framework.authority.stop_answering();
    thread::scope(|scope| {
        let unknown = scope.spawn(|| {
            post(
                &server,
                &next().issue(&claims(SHARED_BOT)),
                &good_activity(),
            )
        });
        framework.authority.wait_for_requests(3);
        assert_eq!(
            post(&server, &token(SHARED_BOT), &good_activity()).status,
            202
        );
        framework.authority.refuse_connections();
        framework.authority.resume_answering();
        assert_eq!(unknown.join().unwrap().status, 401);
    });
    // A day later the keys cannot be fetched: the known ones stay.
    framework.authority.refuse_connections();
    server.advance_clock(DAY + MINUTE);
    let claims = with(claims(SHARED_BOT), &[("/exp", (NOW + 400_000).into())]);
    let reply = post(&server, &current().issue(&claims), &good_activity());
    assert_eq!(reply.status, 202, "{}", reply.text());
}

#[test]
fn the_file_of_the_bots_is_read_again_when_it_changes_and_kept_while_it_is_broken() {
    let framework = BotFramework::new();
    let server = framework.serve();
    let status = |bot: &str| {
        server.advance_clock(SECOND);
        let activity = with(
            good_activity(),
            &[("/recipient/id", format!("28:{bot}").into())],
        );
        post(&server, &token(bot), &activity).status
    };
    let third = "33333333-c0de-4bee-8ace-facade0fb075";
    assert_eq!((status(SHARED_BOT), status(third)), (202, 401));
    framework.write_bots(&json!([{ "bot_id": third, "tenant_id": "ab0de0a1-fa00-4c1a-9cab-ab0de000a1fa", "client_secret": "x" }]));
    assert_eq!((status(SHARED_BOT), status(third)), (401, 202));
    fs::write(framework.bots_file(), "[{").unwrap();
    assert_eq!((status(SHARED_BOT), status(third)), (401, 202));
    framework.write_bots(&json!([]));
    assert_eq!((status(SHARED_BOT), status(third)), (401, 401));
}

#[test]
fn a_file_of_bots_that_others_can_read_or_that_is_wrong_is_refused_without_showing_a_secret() {
    let framework = BotFramework::new();
    let file = framework.bots_file();
    let refused = || BotsFile::open(&file).unwrap_err();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(refused().contains("others can read it"), "{}", refused());
    let good = json!({ "bot_id": TECHNICIAN_BOT, "tenant_id": "ab0de0a1-fa00-4c1a-9cab-ab0de000a1fa", "client_secret": SECRET, "app_type": "SingleTenant" });
    let cases: [(&str, Value, &str); 9] = [
        (
            "/bot_id",
            "no id".into(),
            "bot_id that is no application id",
        ),
        ("/bot_id", Value::Null, "missing field `bot_id`"),
        ("/tenant_id", Value::Null, "needs a tenant_id"),
        (
            "/tenant_id",
            "no id".into(),
            "tenant_id that is no directory id",
        ),
        (
            "/client_secret",
            Value::Null,
            "needs a client_secret or a client_secret_file",
        ),
        ("/client_secret", " ".into(), "empty client secret"),
        (
            "/client_secret_file",
            "x".into(),
            "needs a client_secret or a client_secret_file",
        ),
        ("/app_type", "UserAssignedMSI".into(), "is not as expected"),
        ("/secret", "x".into(), "unknown field `secret`"),
    ];
    for (path, value, expected) in cases {
        framework.write_bots(&json!([with(good.clone(), &[(path, value)])]));
        let cause = refused();
        assert!(cause.contains(expected), "{path}: {cause}");
        assert!(!cause.contains(SECRET), "{cause}");
    }
    framework.write_bots(&json!([good, good]));
    assert!(refused().contains("has the bot_id of another one"));
    // The secret may be in a file of its own, beside the list.
    fs::write(file.with_file_name("secret"), format!("{SECRET}\n")).unwrap();
    let apart = with(
        good,
        &[
            ("/client_secret", Value::Null),
            ("/client_secret_file", "secret".into()),
        ],
    );
    framework.write_bots(&json!([apart]));
    let bots = BotsFile::open(&file).unwrap().bots(START);
    let secrets: Vec<&str> = bots.iter().map(|bot| bot.secret.reveal()).collect();
    assert_eq!(secrets, [SECRET]);
}
