//! A server that is killed at any moment: every message that it acknowledged is answered, in order,
//! and a second time only where the reply of the connector was lost.

use std::collections::BTreeSet;
use std::io;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::connector::{Connector, Fault, Shown, State};
use super::outbox::{begun, end_of_reply};
use crate::process::{Client, Server, Workspace};
use crate::random::{Random, number, seed};
use crate::scripted_model::ScriptedModel;
use crate::support::{CONTOSO, SHARED_BOT};

/// The number of kills, unless `SWITCHBOARD_TEAMS_KILLS` is set.
const KILLS: u64 = 5;
/// Conversations that write at the same time: private chats, then groups.
const CHATS: usize = 4;
const GROUPS: usize = 4;

fn start(workspace: &Workspace) -> Server {
    start_with(workspace, &[])
}

fn start_with(workspace: &Workspace, flags: &[&str]) -> Server {
    let own = [
        "--env",
        "demo",
        "--rate-limit",
        "0",
        "--teams-anonymous",
        "--teams-service-hosts",
        "127.0.0.1",
    ];
    workspace.serve(own.iter().chain(flags))
}

fn is_chat(conversation: usize) -> bool {
    conversation < CHATS
}

fn id_of(conversation: usize) -> String {
    match is_chat(conversation) {
        true => format!("a:chat-{conversation}"),
        false => format!("19:group-{conversation}@thread.v2"),
    }
}

fn activity(connector: &Connector, conversation: usize, message: usize) -> Value {
    let (id, is_chat) = (id_of(conversation), is_chat(conversation));
    json!({
        "type": "message", "id": format!("{conversation}-{message}"), "channelId": "msteams",
        "serviceUrl": connector.service_url(),
        "text": format!("<at>Helper</at> How do I reset my password? ({conversation}-{message})"),
        "from": {"id": format!("29:user-{conversation}"), "name": "Kim", "aadObjectId": "0b1ec700-c0de-4aaa-8bbb-00000000c1a0"},
        "recipient": {"id": format!("28:{SHARED_BOT}"), "name": "Helper"},
        "conversation": {
            "id": id, "tenantId": CONTOSO,
            "conversationType": if is_chat { "personal" } else { "groupChat" },
        },
        "channelData": {"tenant": {"id": CONTOSO}},
        "entities": [{
            "type": "mention", "text": "<at>Helper</at>",
            "mentioned": {"id": format!("28:{SHARED_BOT}"), "name": "Helper"},
        }],
    })
}

/// Sends an activity as Teams does. Returns the status.
fn post(client: &Client, activity: &Value) -> io::Result<u16> {
    client.post_activity(activity).map(|reply| reply.status)
}

/// Sends messages of a conversation until the server dies. Returns how many were acknowledged.
fn write(client: &Client, connector: &Connector, conversation: usize, from: usize) -> usize {
    let mut next = from;
    // Few enough that none is refused for the others that wait.
    while next < from + 8 && next < answered(&connector.state(), &id_of(conversation)) + 12 {
        match post(client, &activity(connector, conversation, next)) {
            Ok(status) => {
                assert_eq!(status, 202);
                next += 1;
            }
            Err(_) => break,
        }
    }
    next
}

#[test]
fn no_answer_is_lost_and_none_is_sent_twice_but_where_its_reply_was_lost() {
    let workspace = Workspace::with_demo_world();
    let connector = Connector::start(&[]).without_tokens();
    let mut random = Random::new(seed());
    let kills = number("SWITCHBOARD_TEAMS_KILLS").unwrap_or(KILLS);
    let mut acknowledged = [0; CHATS + GROUPS];
    for _ in 0..kills {
        let server = start(&workspace);
        let client = server.client();
        if random.below(2) == 0 {
            connector.fail_next("*", "message", Fault::LoseReply);
            connector.fail_next("*", "final", Fault::LoseReply);
        }
        let pause = Duration::from_millis(random.below(400) as u64);
        thread::scope(|scope| {
            let writers: Vec<_> = acknowledged
                .iter()
                .enumerate()
                .map(|(conversation, from)| {
                    let (client, connector, from) = (client.clone(), &connector, *from);
                    scope.spawn(move || write(&client, connector, conversation, from))
                })
                .collect();
            thread::sleep(pause);
            server.crash();
            for (count, writer) in acknowledged.iter_mut().zip(writers) {
                *count = writer.join().unwrap();
            }
        });
        // Those that are left would meet one conversation after many kills.
        connector.forget_faults();
        // What was not acknowledged is delivered again, and changes nothing if it was stored.
    }
    let server = start(&workspace);
    let client = server.client();
    for (conversation, count) in acknowledged.iter_mut().enumerate() {
        // The last one may be stored without having been acknowledged.
        assert_eq!(
            post(&client, &activity(&connector, conversation, *count)).unwrap(),
            202
        );
        *count += 1;
    }
    let mut answers = 0;
    for (conversation, count) in acknowledged.iter().enumerate() {
        let id = id_of(conversation);
        let shown = connector.wait_for(&format!("{count} answers in {id}"), |state| {
            (answered(state, &id) >= *count).then(|| state.shown(&id).to_vec())
        });
        let mut expected = 0;
        let mut last = None;
        for message in &shown {
            let number = message.activity["replyToId"].as_str().unwrap();
            let number: usize = number.rsplit_once('-').unwrap().1.parse().unwrap();
            if last == Some(number) {
                // Again: only if nobody knows that it was sent, and never in a chat.
                assert!(!is_chat(conversation), "{id}: {number} twice");
            } else {
                assert_eq!(number, expected, "{id}");
                expected += 1;
            }
            last = Some(number);
        }
        assert_eq!(expected, *count, "{id}");
        answers += expected;
    }
    let repeats = repeats(&connector);
    println!("{answers} answers over {kills} kills, {repeats} of them twice");
    assert!(repeats as u64 <= 2 * kills * GROUPS as u64);
}

/// How many messages of a conversation were answered.
fn answered(state: &State, id: &str) -> usize {
    let shown = state.shown(id).iter();
    let questions: BTreeSet<&str> = shown
        .map(|message| message.activity["replyToId"].as_str().unwrap())
        .collect();
    questions.len()
}

/// How many messages of groups were sent twice. Each time, the first call got no reply that the
/// server could record: it was lost, or the server was killed meanwhile.
fn repeats(connector: &Connector) -> usize {
    let state = connector.state();
    let groups = (CHATS..CHATS + GROUPS).map(id_of);
    let repeats = groups.map(|id| {
        let shown = state.shown(&id);
        let same = |pair: &[Shown]| pair[0].activity["replyToId"] == pair[1].activity["replyToId"];
        shown.windows(2).filter(|pair| same(pair)).count()
    });
    repeats.sum()
}

#[test]
fn at_a_shutdown_an_answer_that_ends_in_time_is_sent_and_what_waits_is_sent_after_the_next_start() {
    let (go_on, wait) = channel();
    let model = ScriptedModel::start(vec![begun("One ").then_wait(wait).then(end_of_reply())]);
    let workspace = Workspace::with_demo_world();
    let connector = Connector::start(&[]).without_tokens();
    let flags = [
        "--model-url",
        model.url(),
        "--model-fast",
        "quick",
        "--model-smart",
        "deep",
    ];
    let server = start_with(&workspace, &flags);
    let client = server.client();
    let (chat, group) = (id_of(0), id_of(CHATS));
    // A refusal that meets a busy connector waits in the outbox.
    let busy = Fault::Refuse(429, "retry-after: 2\r\n", json!({}));
    connector.fail_next(&group, "message", busy);
    let mut stranger = activity(&connector, CHATS, 0);
    let nobody = "5744a9e0-0000-4000-8000-000000000001";
    stranger["conversation"]["tenantId"] = nobody.into();
    stranger["channelData"]["tenant"]["id"] = nobody.into();
    assert_eq!(post(&client, &stranger).unwrap(), 202);
    connector.wait_for("the refusal", |state| {
        let mut calls = state.calls_of(&group);
        calls.any(|call| call.status == Some(429)).then_some(())
    });
    assert_eq!(post(&client, &activity(&connector, 0, 0)).unwrap(), 202);
    connector.wait_for("a stream", |state| {
        state
            .kinds(&chat)
            .contains(&"streaming".to_owned())
            .then_some(())
    });
    server.signal("TERM");
    server.wait_for_log("shutting down");
    go_on.send(()).unwrap();
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log:#?}");
    let texts = connector.state().texts(&chat);
    assert!(
        texts.len() == 1 && texts[0].starts_with("Northwind IT: One"),
        "{texts:?}"
    );
    let _server = start(&workspace);
    connector.wait_for_texts(&group, 1);
    assert_eq!(connector.state().shown(&chat).len(), 1);
}
