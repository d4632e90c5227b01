//! Activities of Teams: routed, committed once, refused politely, edited, deleted, rated.

use std::thread;

use serde_json::{Value, json};

use crate::support::{
    CONTOSO, FOURTH_COFFEE, SHARED_BOT, Server, TAILSPIN, TECHNICIAN_BOT, WOODGROVE,
};
use crate::teams_bots::{
    BotFramework, deliver, from_directory, in_group, message, messages, outbox, post, token, with,
};

const NORTHWIND_DIRECTORY: &str = "ab0de0a1-fa00-4c1a-9cab-ab0de000a1fa";
const NOT_SET_UP: &str =
    "Your organization is not set up for this chat yet. Please contact your IT support.";
const NEW_CONVERSATION: &str =
    "This is a new conversation. What was said before is not used any more.";

/// A message to Northwind's bot for technicians.
fn to_technicians(id: &str, text: &str) -> Value {
    with(
        from_directory(message(id, text), NORTHWIND_DIRECTORY),
        &[("/recipient/id", format!("28:{TECHNICIAN_BOT}").into())],
    )
}

fn sessions_of(server: &Server, client_id: &str) -> Vec<String> {
    let rows = server.database().rows(&format!(
        "SELECT s.rule FROM sessions s JOIN tenants t ON t.tenant_no = s.tenant_no WHERE t.client_id = '{client_id}' ORDER BY s.seq"
    ));
    rows.iter().map(|row| row.get(0)).collect()
}

#[test]
fn a_message_becomes_a_message_with_its_turn_and_a_delivery_in_the_session_of_its_conversation() {
    let framework = BotFramework::new();
    let server = framework.serve();
    deliver(&server, &message("1", "My&nbsp;printer is on fire"));
    deliver(&server, &message("2", "Since noon"));
    assert_eq!(messages(&server), ["My printer is on fire", "Since noon"]);
    assert_eq!(outbox(&server), ["WAITING ANSWER", "WAITING ANSWER"]);
    assert_eq!(
        sessions_of(&server, "northwind-it"),
        ["white_label_install"]
    );
    let list = server
        .northwind()
        .list_sessions("limit=10")
        .expect(200)
        .data();
    let session = &list[0];
    assert_eq!(session["channel"], "TEAMS");
    assert_eq!(session["end_company_id"], "1001");
    assert_eq!(session["title"], "My printer is on fire");
    assert_eq!(session["created_by"]["name"], "Microsoft Teams");
    assert_eq!(session["created_by"]["kind"], "service_account");
    let turns: i64 = server.stored(
        "SELECT count(*) FROM teams_deliveries d JOIN turns t ON t.seq = d.turn_seq JOIN teams_activities a ON a.turn_seq = t.seq AND a.activity_id = d.reply_to",
    );
    assert_eq!(turns, 2);
}

#[test]
fn eight_deliveries_of_one_message_at_once_change_nothing_more_than_one() {
    let framework = BotFramework::new();
    let server = framework.serve();
    let refused = from_directory(message("r", "Hello"), TAILSPIN);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| deliver(&server, &message("1", "Once")));
            scope.spawn(|| deliver(&server, &refused));
        }
    });
    assert_eq!(messages(&server), ["Once"]);
    let outbox = outbox(&server);
    assert_eq!(outbox.len(), 2, "{outbox:?}");
    let attempts: i64 = server.stored("SELECT attempts FROM unlinked_tenants");
    assert_eq!(attempts, 1);
    // A restart does not forget it.
    let server = server.restarted();
    deliver(&server, &message("1", "Once"));
    deliver(&server, &message("2", "Twice"));
    assert_eq!(messages(&server), ["Once", "Twice"]);
    assert_eq!(sessions_of(&server, "northwind-it").len(), 1);
}

#[test]
fn the_resolvers_rules_decide_and_nobody_elses_agent_answers() {
    let framework = BotFramework::new();
    let server = framework.serve();
    // Rule a, for two MSPs that share a bot.
    deliver(&server, &message("1", "northwind-marker"));
    deliver(
        &server,
        &from_directory(message("1", "fabrikam-marker"), WOODGROVE),
    );
    // Rule b: the MSP's own directory and its bot.
    deliver(&server, &to_technicians("1", "technician-marker"));
    assert_eq!(
        sessions_of(&server, "northwind-it"),
        ["white_label_install", "bot_channel"]
    );
    assert_eq!(
        sessions_of(&server, "fabrikam-support"),
        ["white_label_install"]
    );
    for (client, own, foreign) in [
        (server.northwind(), "northwind-marker", "fabrikam-marker"),
        (server.fabrikam(), "fabrikam-marker", "northwind-marker"),
    ] {
        let found = |word: &str| {
            let list = client.list_sessions(&format!("q={word}")).expect(200);
            list.data().as_array().unwrap().len()
        };
        assert_eq!((found(own), found(foreign)), (1, 0));
    }
    // Nobody has set the bot up for a stranger's directory.
    let stranger = "5744a9e0-0000-4000-8000-000000000001";
    deliver(&server, &from_directory(message("1", "Hello"), stranger));
    assert_eq!(outbox(&server)[3..], [format!("WAITING {NOT_SET_UP}")]);
    assert_eq!(sessions_of(&server, "relay-platform").len(), 0);
    assert_eq!(messages(&server).len(), 3);
}

#[test]
fn a_refusal_is_told_as_it_stands_once_and_remembered_and_answered_after_the_link() {
    let framework = BotFramework::new();
    let server = framework.serve();
    let relay = server.relay().create_session(json!({
        "managed_agent_key": "NEO_SUPPORT", "bot_id": SHARED_BOT, "inbound_tenant_id": TAILSPIN,
    }));
    let sentence = relay.expect(409).json()["error"]["message"].clone();
    let sentence = sentence.as_str().unwrap();
    let sent = from_directory(message("1", "Hello"), TAILSPIN);
    deliver(&server, &sent);
    deliver(&server, &sent);
    assert_eq!(outbox(&server), [format!("WAITING {sentence}")]);
    let unlinked = server
        .northwind()
        .get("/end-companies/unlinked-tenants")
        .expect(200)
        .data();
    assert_eq!(unlinked[0]["inbound_tenant_id"], TAILSPIN);
    let attempts: i64 = server.stored("SELECT attempts FROM unlinked_tenants");
    assert_eq!(attempts, 2);
    let (code, told): (String, String) = (
        server.stored("SELECT refusal_code FROM teams_conversations"),
        server.stored("SELECT refusal_message FROM teams_conversations"),
    );
    assert_eq!(
        (code.as_str(), told.as_str()),
        ("end_company_not_mapped", sentence)
    );
    server
        .northwind()
        .put(
            "/end-companies/1002",
            json!({ "psa_company_name": "Tailspin Toys", "tenant_id": TAILSPIN }),
        )
        .expect(200);
    deliver(&server, &from_directory(message("2", "Now?"), TAILSPIN));
    assert_eq!(messages(&server), ["Now?"]);
    // Two companies share this directory.
    deliver(
        &server,
        &from_directory(message("3", "Coffee"), FOURTH_COFFEE),
    );
    assert_eq!(messages(&server), ["Now?"]);
}

#[test]
fn a_conversation_of_two_organizations_is_refused_politely() {
    let framework = BotFramework::new();
    let server = framework.serve();
    let of_guest = with(
        message("1", "Hello"),
        &[("/channelData/tenant/id", WOODGROVE.into())],
    );
    deliver(&server, &of_guest);
    // Another spelling is no other organization.
    let in_capitals = with(
        message("2", "Hello again"),
        &[("/channelData/tenant/id", CONTOSO.to_uppercase().into())],
    );
    deliver(&server, &in_capitals);
    let outbox = outbox(&server);
    assert!(
        outbox[0].starts_with("WAITING This chat belongs to two organizations"),
        "{outbox:?}"
    );
    assert_eq!(outbox[1..], ["WAITING ANSWER"]);
    assert_eq!(messages(&server), ["Hello again"]);
}

#[test]
fn too_many_messages_are_told_and_none_is_lost() {
    let framework = BotFramework::new();
    let server = framework.serve();
    for id in 1..=17 {
        deliver(&server, &message(&id.to_string(), &format!("message {id}")));
    }
    assert_eq!(messages(&server).len(), 16);
    assert_eq!(
        outbox(&server)[16..],
        [
            "WAITING Too many messages in this session are waiting for an answer. Wait for an answer, then send the message again."
        ]
    );
    let limited = BotFramework::new();
    let server = limited.serve_with(&["--rate-limit=2"]);
    for id in 1..=3 {
        deliver(&server, &message(&id.to_string(), "Hello"));
    }
    // A repeat counts at no limit.
    deliver(&server, &message("1", "Hello"));
    let outbox = outbox(&server);
    assert_eq!(outbox.len(), 3, "{outbox:?}");
    assert!(
        outbox[2].starts_with("WAITING Too many requests. Wait "),
        "{outbox:?}"
    );
}

#[test]
fn groups_and_threads_have_sessions_of_their_own_and_are_answered_when_the_bot_is_mentioned() {
    let framework = BotFramework::new();
    let server = framework.serve();
    deliver(&server, &message("1", "private"));
    deliver(&server, &in_group("1", "kim", "ask <at>Ann B</at> first"));
    deliver(&server, &in_group("2", "ann", "I am here"));
    let thread = |id: &str, thread: &str| {
        with(
            in_group(id, "kim", "in a thread"),
            &[
                ("/conversation/conversationType", "channel".into()),
                (
                    "/conversation/id",
                    format!("19:team@thread.tacv2;messageid={thread}").into(),
                ),
            ],
        )
    };
    deliver(&server, &thread("1", "100"));
    deliver(&server, &thread("2", "200"));
    deliver(&server, &thread("3", "100"));
    // Without a mention, the bot is not meant.
    deliver(
        &server,
        &with(
            in_group("3", "ann", "not for you"),
            &[("/entities", json!([]))],
        ),
    );
    // The bot's own messages come back in some clients.
    deliver(
        &server,
        &with(
            message("9", "mine"),
            &[("/from/id", format!("28:{SHARED_BOT}").into())],
        ),
    );
    assert_eq!(
        messages(&server),
        [
            "private",
            "ask Ann B first",
            "I am here",
            "in a thread",
            "in a thread",
            "in a thread"
        ]
    );
    assert_eq!(sessions_of(&server, "northwind-it").len(), 4);
    let counts = server
        .database()
        .rows("SELECT message_count FROM sessions ORDER BY seq");
    let counts: Vec<i64> = counts.iter().map(|row| row.get(0)).collect();
    assert_eq!(counts, [1, 2, 2, 1]);
}

#[test]
fn new_and_reset_end_the_session_and_the_next_message_begins_another() {
    let framework = BotFramework::new();
    let server = framework.serve();
    deliver(&server, &message("1", "first"));
    deliver(&server, &message("2", " /New "));
    deliver(&server, &message("2", " /New "));
    deliver(&server, &message("3", "second"));
    deliver(&server, &message("4", "third"));
    deliver(&server, &message("5", "/reset"));
    deliver(&server, &message("6", "/reset"));
    assert_eq!(messages(&server), ["first", "second", "third"]);
    let archived = server
        .database()
        .rows("SELECT archived FROM sessions ORDER BY seq");
    let archived: Vec<i64> = archived.iter().map(|row| row.get(0)).collect();
    assert_eq!(archived, [1, 1]);
    let told = format!("WAITING {NEW_CONVERSATION}");
    assert_eq!(
        outbox(&server),
        [
            "CANCELLED ANSWER",
            &told,
            "CANCELLED ANSWER",
            "CANCELLED ANSWER",
            &told,
            &told
        ]
    );
    // An administrator's archive, and a deletion, have the same effect.
    deliver(&server, &message("7", "fourth"));
    let id = server
        .northwind()
        .list_sessions("archived=false")
        .expect(200)
        .ids()
        .swap_remove(0);
    server
        .northwind()
        .update_session(&id, json!({ "archived": true }))
        .expect(200);
    deliver(&server, &message("8", "fifth"));
    let id = server
        .northwind()
        .list_sessions("archived=false")
        .expect(200)
        .ids()
        .swap_remove(0);
    server.northwind().delete_session(&id).expect(204);
    deliver(&server, &message("9", "sixth"));
    assert_eq!(
        server.stored::<i64>("SELECT count(*) FROM sessions WHERE archived = 0"),
        1
    );
}

#[test]
fn edits_and_deletions_are_followed_until_the_answer() {
    let framework = BotFramework::new();
    let server = framework.serve();
    let edit = |id: &str, text: &str, time: &str| {
        with(
            message(id, text),
            &[
                ("/type", "messageUpdate".into()),
                ("/timestamp", format!("2025-11-24T16:{time}.000Z").into()),
            ],
        )
    };
    deliver(&server, &message("1", "My printr"));
    deliver(&server, &message("2", "My phone"));
    deliver(&server, &edit("1", "My printer", "00:05"));
    assert_eq!(messages(&server), ["My phone", "My printer"]);
    assert_eq!(
        outbox(&server),
        ["CANCELLED ANSWER", "WAITING ANSWER", "WAITING ANSWER"]
    );
    // A repeat, and an older change that comes late, change nothing.
    deliver(&server, &edit("1", "My printer", "00:05"));
    deliver(&server, &edit("1", "My prnter", "00:03"));
    assert_eq!(messages(&server), ["My phone", "My printer"]);
    deliver(&server, &edit("1", "My new printer", "00:09"));
    assert_eq!(messages(&server), ["My phone", "My new printer"]);
    // The message itself, delivered again, does not come back.
    deliver(&server, &message("1", "My printr"));
    let delete = with(message("2", ""), &[("/type", "messageDelete".into())]);
    deliver(&server, &delete);
    deliver(&server, &delete);
    assert_eq!(messages(&server), ["My new printer"]);
    assert_eq!(
        server.stored::<i64>("SELECT message_count FROM sessions"),
        1
    );
    // What nobody sent is not followed.
    deliver(&server, &edit("77", "Nothing", "00:10"));
    assert_eq!(messages(&server), ["My new printer"]);
    let waiting: i64 =
        server.stored("SELECT count(*) FROM teams_deliveries WHERE ended_at IS NULL");
    assert_eq!(waiting, 1);
}

#[test]
fn an_answered_message_is_not_changed_and_its_answer_takes_feedback() {
    let framework = BotFramework::new();
    let server = framework.serve_answers();
    deliver(&server, &message("1", "How do I connect to the VPN?"));
    crate::watchdog::until("the turn is answered", || {
        server.stored::<i64>("SELECT count(*) FROM turns WHERE status = 'COMPLETED'") == 1
    });
    let edit = with(
        message("1", "Something else"),
        &[("/type", "messageUpdate".into())],
    );
    deliver(&server, &edit);
    assert_eq!(messages(&server), ["How do I connect to the VPN?"]);
    server.execute_sql("UPDATE teams_deliveries SET state = 'SENT', sent_activity_id = 'sent-1', ended_at = created_at");
    let feedback = |id: &str, reaction: &str, text: &str, to: &str| {
        with(
            message(id, ""),
            &[
                ("/type", "invoke".into()),
                ("/name", "message/submitAction".into()),
                ("/replyToId", to.into()),
                (
                    "/value",
                    json!({
                        "actionName": "feedback",
                        "actionValue": { "reaction": reaction, "feedback": json!({ "feedbackText": text }).to_string() },
                    }),
                ),
            ],
        )
    };
    let rated = || {
        let rows = server
            .database()
            .rows("SELECT coalesce(rating, '') || ' ' || coalesce(comment, '') FROM messages WHERE role = 'assistant'");
        rows[0].get::<String>(0)
    };
    let reply = post(
        &server,
        &token(SHARED_BOT),
        &feedback("f1", "like", "Well done", "sent-1"),
    );
    assert_eq!((reply.status, reply.text().as_str()), (200, ""));
    assert_eq!(rated(), "UP Well done");
    deliver(&server, &feedback("f2", "dislike", "", "sent-1"));
    assert_eq!(rated(), "DOWN ");
    // A repeat of the older one, and feedback on nothing, change nothing.
    deliver(&server, &feedback("f1", "like", "Well done", "sent-1"));
    deliver(&server, &feedback("f3", "like", "", "sent-2"));
    let elsewhere = with(
        feedback("f4", "like", "", "sent-1"),
        &[("/conversation/id", "a:private-ann".into())],
    );
    deliver(&server, &elsewhere);
    assert_eq!(rated(), "DOWN ");
    server.execute_sql("UPDATE teams_deliveries SET stream_id = 'stream-1'");
    deliver(&server, &feedback("f5", "like", "", "stream-1"));
    assert_eq!(rated(), "UP ");
}

#[test]
fn an_installation_is_welcomed_once_and_a_removal_ends_what_waits() {
    let framework = BotFramework::new();
    let server = framework.serve();
    let installation = |id: &str, action: &str| {
        with(
            message(id, ""),
            &[
                ("/type", "installationUpdate".into()),
                ("/action", action.into()),
            ],
        )
    };
    let added = |id: &str| {
        with(
            message(id, ""),
            &[
                ("/type", "conversationUpdate".into()),
                (
                    "/membersAdded",
                    json!([{ "id": "29:kim" }, { "id": format!("28:{SHARED_BOT}") }]),
                ),
            ],
        )
    };
    let welcome = "WAITING Hi! I am the Northwind helper. Ask me anything about your computer, your account or your programs.";
    deliver(&server, &installation("i1", "add"));
    deliver(&server, &added("c1"));
    deliver(&server, &installation("i1", "add"));
    assert_eq!(outbox(&server), [welcome]);
    let prompts: String = server.stored("SELECT prompts FROM teams_deliveries");
    assert_eq!(
        serde_json::from_str::<Value>(&prompts).unwrap()[1],
        "How do I connect to the VPN?"
    );
    deliver(&server, &message("1", "Hello"));
    deliver(&server, &installation("i2", "remove"));
    deliver(&server, &installation("i3", "remove-upgrade"));
    let cancelled = welcome.replace("WAITING", "CANCELLED");
    assert_eq!(outbox(&server), [&cancelled, "CANCELLED ANSWER"]);
    deliver(&server, &installation("i4", "add"));
    assert_eq!(outbox(&server)[2..], [welcome]);
    // Somebody else who joins is no installation, and a stranger's directory gets no welcome.
    let joined = with(
        added("c2"),
        &[("/membersAdded", json!([{ "id": "29:ann" }]))],
    );
    deliver(&server, &joined);
    let stranger = "5744a9e0-0000-4000-8000-000000000001";
    deliver(
        &server,
        &from_directory(installation("i5", "add"), stranger),
    );
    assert_eq!(outbox(&server).len(), 3);
}

#[test]
fn an_activity_that_cannot_be_read_or_asks_for_nothing_changes_nothing() {
    let framework = BotFramework::new();
    let server = framework.serve();
    for (path, value, status) in [
        ("/conversation", Value::Null, 400),
        ("/conversation/id", json!(7), 400),
        ("/id", Value::Null, 400),
        ("/id", json!("x".repeat(1_025)), 400),
        ("/type", json!("typing"), 202),
        ("/type", Value::Null, 202),
        ("/type", json!("invoke"), 200),
    ] {
        let activity = with(message("1", "Hello"), &[(path, value)]);
        let reply = post(&server, &token(SHARED_BOT), &activity);
        assert_eq!(reply.status, status, "{path}: {}", reply.text());
    }
    assert!(messages(&server).is_empty());
    // A message that is too long, and one without text, are told.
    deliver(&server, &message("2", &"x".repeat(32_001)));
    deliver(&server, &message("3", " "));
    assert_eq!(
        outbox(&server),
        [
            "WAITING message must have at most 32000 characters.",
            "WAITING This message has no text. Please write what you need.",
        ]
    );
}
