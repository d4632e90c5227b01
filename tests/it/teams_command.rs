//! `switchboard teams check`, a server's log, emulators, and what an administrator sees of a bot.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::process::Workspace;
use crate::support::{DEMO, SHARED_BOT, Server, TAILSPIN, TECHNICIAN_BOT};
use crate::teams_bots::{
    BotFramework, SECRET, deliver, from_directory, message, messages, post, token, with,
};
use crate::wire::{Connection, Request};

const DIRECTORY: &str = "ab0de0a1-fa00-4c1a-9cab-ab0de000a1fa";

#[test]
fn a_check_gets_a_token_or_says_what_is_wrong_and_shows_no_secret() {
    let framework = BotFramework::new();
    let login = &framework.authority;
    let granted =
        json!({ "token_type": "Bearer", "expires_in": 3_599, "access_token": "granted-token" });
    login.publish(&format!("/{DIRECTORY}/oauth2/v2.0/token"), &granted);
    let workspace = Workspace::new();
    let check = |bot: &str| {
        workspace.run([
            "teams".to_owned(),
            "check".to_owned(),
            format!("--teams-bots={}", framework.bots_file().display()),
            format!("--teams-login-url={}", login.url()),
            bot.to_owned(),
        ])
    };
    let good = check(SHARED_BOT);
    assert_eq!(
        (good.code, good.stdout.as_str(), good.stderr.as_str()),
        (
            0,
            format!(
                "ok: {}/{DIRECTORY}/oauth2/v2.0/token gives the bot {SHARED_BOT} a token for https://api.botframework.com/.default\n",
                login.url()
            )
            .as_str(),
            ""
        )
    );
    // The multi-tenant bot asks the directory of the Bot Framework, which does not answer here.
    let refused = check(TECHNICIAN_BOT);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(
        refused
            .stderr
            .contains("/botframework.com/oauth2/v2.0/token answered 404"),
        "{refused:?}"
    );
    let unknown = check("11111111-2222-4333-8444-555555555555");
    assert_eq!(unknown.code, 1, "{unknown:?}");
    assert!(
        unknown.stderr.contains("has no bot 11111111"),
        "{unknown:?}"
    );
    for output in [&good, &refused, &unknown] {
        let shown = format!("{}{}", output.stdout, output.stderr);
        assert!(
            !shown.contains(SECRET) && !shown.contains("granted-token"),
            "{shown}"
        );
    }
    let without = workspace.run(["teams", "check", SHARED_BOT]);
    assert_eq!(without.code, 1, "{without:?}");
    assert!(without.stderr.contains("--teams-bots"), "{without:?}");
}

#[test]
fn a_server_does_not_start_with_a_file_that_others_read_nor_anonymously_for_others() {
    let framework = BotFramework::new();
    let file = framework.bots_file();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let workspace = Workspace::new();
    let bots = format!("--teams-bots={}", file.display());
    let refused = workspace.run(["serve", "--listen=127.0.0.1:0", &bots]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("others can read it"), "{refused:?}");
    for listen in ["--listen=0.0.0.0:0", "--listen=unix:teams.sock"] {
        let refused = workspace.run(["serve", listen, "--teams-anonymous"]);
        assert_eq!(refused.code, 1, "{refused:?}");
        assert!(refused.stderr.contains("loopback"), "{refused:?}");
    }
}

#[test]
fn the_log_tells_why_a_token_is_refused_and_shows_neither_the_token_nor_a_secret() {
    let framework = BotFramework::new();
    let workspace = Workspace::with_demo_world();
    let flags = framework.flags();
    let flags = ["--env".to_owned(), "demo".to_owned()]
        .into_iter()
        .chain(flags);
    let server = workspace.serve(flags);
    // The process goes by the real time, at which the token has expired.
    let expired = token(SHARED_BOT);
    let request = Request::new("POST", "/api/messages")
        .header("authorization", format!("Bearer {expired}"))
        .json(&message("1", "Hello"));
    let connection = Connection::open(server.address().parse().unwrap());
    let (reply, _) = connection.exchange(&request).unwrap();
    assert_eq!(reply.unwrap().status, 401);
    let line = server.wait_for_log("401 expired");
    assert!(line.contains(SHARED_BOT), "{line}");
    for line in server.log() {
        assert!(!line.contains(&expired) && !line.contains(SECRET), "{line}");
    }
}

#[test]
fn an_emulator_needs_no_token_but_a_listed_service_url() {
    let flags = ["--teams-anonymous", "--teams-service-hosts=127.0.0.1"];
    let server = Server::with_world(DEMO, &flags);
    let send = |activity: &Value| {
        let request = Request::new("POST", "/api/messages").json(activity);
        server.anonymous().send(request).status
    };
    let from_emulator = with(
        message("1", "Hello"),
        &[
            ("/channelId", "emulator".into()),
            ("/recipient/id", SHARED_BOT.into()),
        ],
    );
    assert_eq!(send(&from_emulator), 202);
    assert_eq!(messages(&server), ["Hello"]);
    let elsewhere = with(
        from_emulator,
        &[("/serviceUrl", "http://10.0.0.7:3978".into())],
    );
    assert_eq!(send(&elsewhere), 403);
}

#[test]
fn a_channel_shows_its_endpoint_its_credentials_and_its_last_traffic() {
    let framework = BotFramework::new();
    let server = framework.serve_with(&["--public-url=https://chat.example.com", "--metrics"]);
    let channel = server.client_help_bot();
    let shown = || {
        let path = format!("/channels/{channel}/teams");
        server.northwind().get(&path).expect(200).data()
    };
    let nothing = json!({
        "endpoint": "https://chat.example.com/api/messages", "has_credentials": true,
        "last_received_at": null, "last_sent_at": null, "last_refusal": null,
        "waiting_deliveries": 0, "given_up_deliveries": 0, "last_error": null,
    });
    assert_eq!(shown(), nothing);
    deliver(&server, &message("1", "Hello"));
    deliver(&server, &from_directory(message("1", "Hello"), TAILSPIN));
    server.execute_sql("UPDATE teams_deliveries SET last_error = 'busy' WHERE kind = 'ANSWER'");
    let after = shown();
    assert_eq!(after["last_received_at"], "2025-11-24T16:00:00.000Z");
    assert_eq!(after["last_refusal"]["code"], "end_company_not_mapped");
    assert_eq!(after["last_refusal"]["at"], "2025-11-24T16:00:00.000Z");
    assert_eq!(
        (&after["waiting_deliveries"], &after["last_error"]),
        (&json!(2), &json!("busy"))
    );
    // The other MSP's channel of the same bot has nothing of it, and its own page is its own.
    let list = server.fabrikam().get("/channels?q=helpline").expect(200);
    let theirs = list.ids().swap_remove(0);
    let path = format!("/channels/{theirs}/teams");
    assert_eq!(server.fabrikam().get(&path).expect(200).data(), nothing);
    assert_eq!(server.northwind().get(&path).status, 404);
    // Without credentials here, a relay connects the bot.
    framework.write_bots(&json!([]));
    server.advance_clock(1_000);
    assert_eq!(shown()["has_credentials"], false);
    let page = server
        .anonymous()
        .send(Request::new("GET", "/metrics"))
        .text();
    for line in [
        "switchboard_teams_activities_total{outcome=\"accepted\"} 1",
        "switchboard_teams_activities_total{outcome=\"refused\"} 1",
        "switchboard_teams_activities_total{outcome=\"rejected\"} 0",
    ] {
        assert!(page.contains(line), "{line}");
    }
    assert_eq!(
        post(&server, "nonsense", &message("1", "Hello")).status,
        401
    );
}
