//! Conversations from the activity that Teams sends to what its people see, side by side: nobody sees
//! a word of another conversation.

use std::thread;

use serde_json::{Value, json};

use super::connector::{Connector, HeldFile, without_prefix};
use crate::authority::current;
use crate::scripted_model::{Reply, ScriptedModel};
use crate::support::{SHARED_BOT, Server, TAILSPIN, TECHNICIAN_BOT, WOODGROVE};
use crate::teams_bots::{
    BotFramework, SECRET, claims, from_directory, in_group, message, post, with,
};

/// Northwind's own directory.
const NORTHWIND_DIRECTORY: &str = "ab0de0a1-fa00-4c1a-9cab-ab0de000a1fa";
const NEW_CONVERSATION: &str =
    "This is a new conversation. What was said before is not used any more.";

/// A Bot Framework that sends activities, a fake connector that takes the replies, and a model that
/// repeats all that it was given of the conversation.
struct World {
    server: Server,
    connector: Connector,
    _framework: BotFramework,
    _model: ScriptedModel,
}

impl World {
    fn new() -> Self {
        let framework = BotFramework::new();
        let connector = Connector::start(&[(SHARED_BOT, SECRET), (TECHNICIAN_BOT, "another")]);
        let model = ScriptedModel::answering(|_, request| {
            let asked = request.body["messages"].as_array().unwrap().iter();
            let asked: Vec<String> = asked
                .filter(|message| message["role"] == "user")
                .map(|message| words_of(&message["content"]).join(" "))
                .collect();
            Reply::answer(&asked.join(" / "))
        });
        let login = format!("--teams-login-url={}", connector.login_url());
        let flags = framework.flags();
        let mut flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        flags.extend([login.as_str(), "--teams-file-hosts=localhost"]);
        Self {
            server: Server::with_model(&model, &flags),
            connector,
            _framework: framework,
            _model: model,
        }
    }

    /// Sends an activity as Teams does.
    fn send(&self, activity: Value) {
        let service_url = self.connector.service_url();
        let activity = with(activity, &[("/serviceUrl", service_url.as_str().into())]);
        let bot = activity["recipient"]["id"].as_str().unwrap();
        let mut claims = claims(bot.trim_start_matches("28:"));
        claims["serviceurl"] = service_url.into();
        let reply = post(&self.server, &current().issue(&claims), &activity);
        assert!((200..300).contains(&reply.status), "{}", reply.text());
    }

    /// Waits until a conversation shows these messages.
    #[track_caller]
    fn shows(&self, conversation: &str, expected: &[&str]) {
        let texts = self.connector.wait_for_texts(conversation, expected.len());
        let texts: Vec<&str> = texts.iter().map(|text| without_prefix(text)).collect();
        assert_eq!(texts, expected, "{conversation}");
    }
}

/// The words of a message that name a conversation, such as `marker-kim-1`.
fn words_of(content: &Value) -> Vec<String> {
    let text = content.to_string();
    let words = text.split(|c: char| !c.is_alphanumeric() && c != '-');
    let words = words.filter(|word| word.starts_with("marker-"));
    words.map(str::to_owned).collect()
}

/// A message in a private chat of a person.
fn private(id: &str, who: &str, text: &str) -> Value {
    with(
        message(id, text),
        &[
            ("/from/id", format!("29:{who}").into()),
            ("/conversation/id", format!("a:{who}").into()),
        ],
    )
}

/// The message to the technicians' bot.
fn to_technicians(activity: Value) -> Value {
    with(
        activity,
        &[
            ("/recipient/id", format!("28:{TECHNICIAN_BOT}").into()),
            (
                "/entities",
                json!([{
                    "type": "mention", "text": "<at>Northwind helper</at>",
                    "mentioned": {"id": format!("28:{TECHNICIAN_BOT}"), "name": "Northwind helper"},
                }]),
            ),
        ],
    )
}

#[test]
fn chats_groups_threads_and_bots_side_by_side_see_their_own_answers_only() {
    let world = World::new();
    // Two people of two companies, whose MSPs share the bot.
    world.send(private("1", "kim", "marker-kim-1"));
    let ann = from_directory(private("1", "ann", "marker-ann-1"), WOODGROVE);
    world.send(ann);
    // Three people in a group, with two bots.
    for (number, who) in ["kim", "lee", "max"].into_iter().enumerate() {
        world.send(in_group(
            &format!("g{number}"),
            who,
            &format!("marker-group-{number}"),
        ));
    }
    let technicians = in_group("g9", "kim", "marker-technicians-1");
    world.send(to_technicians(from_directory(
        technicians,
        NORTHWIND_DIRECTORY,
    )));
    // Two threads of a channel.
    let in_thread = |id: &str, thread: &str, text: &str| {
        let conversation = format!("19:channel@thread.tacv2;messageid={thread}");
        with(
            in_group(id, "lee", text),
            &[
                ("/conversation/id", conversation.into()),
                ("/conversation/conversationType", "channel".into()),
            ],
        )
    };
    world.send(in_thread("t1", "t1", "marker-thread-1"));
    world.send(in_thread("t2", "t2", "marker-other-1"));
    world.send(in_thread("t3", "t1", "marker-thread-2"));
    world.send(private("2", "kim", "marker-kim-2"));

    world.shows("a:kim", &["marker-kim-1", "marker-kim-1 / marker-kim-2"]);
    world.shows("a:ann", &["marker-ann-1"]);
    world.shows(
        "19:channel@thread.tacv2;messageid=t1",
        &["marker-thread-1", "marker-thread-1 / marker-thread-2"],
    );
    world.shows("19:channel@thread.tacv2;messageid=t2", &["marker-other-1"]);
    world.connector.wait_for_texts("19:group@thread.v2", 4);
    let state = world.connector.state();
    let shown = state.shown("19:group@thread.v2");
    let of_bot = |bot: &str| -> Vec<String> {
        let own = shown.iter().filter(|message| message.bot == bot);
        own.map(|message| without_prefix(message.text()).to_owned())
            .collect()
    };
    assert_eq!(
        of_bot(SHARED_BOT),
        [
            "marker-group-0",
            "marker-group-0 / marker-group-1",
            "marker-group-0 / marker-group-1 / marker-group-2",
        ]
    );
    let of_technicians = of_bot(TECHNICIAN_BOT);
    assert_eq!(of_technicians.len(), 1);
    assert!(
        !of_technicians[0].contains("marker-group"),
        "{of_technicians:?}"
    );
    // Each message answers the one that asked, with the token of the bot that was asked.
    for call in &state.calls {
        if call.kind() == "message" || call.kind() == "final" {
            assert!(call.activity["replyToId"].is_string(), "{call:?}");
        }
    }
}

#[test]
fn a_directory_that_is_linked_after_a_refusal_is_answered() {
    let world = World::new();
    let from_tailspin = |id, text| from_directory(private(id, "tal", text), TAILSPIN);
    world.send(from_tailspin("1", "marker-tal-1"));
    let refused = world.connector.wait_for_texts("a:tal", 1);
    assert!(!refused[0].contains("marker"), "{refused:?}");
    world
        .server
        .northwind()
        .put(
            "/end-companies/1002",
            json!({"psa_company_name": "Tailspin Toys", "tenant_id": TAILSPIN}),
        )
        .expect(200);
    world.send(from_tailspin("2", "marker-tal-2"));
    world.shows("a:tal", &[without_prefix(&refused[0]), "marker-tal-2"]);
}

#[test]
fn after_a_reset_nothing_of_the_conversation_before_is_used() {
    let world = World::new();
    world.send(private("1", "kim", "marker-kim-1"));
    world.connector.wait_for_texts("a:kim", 1);
    world.send(private("2", "kim", "/new"));
    world.connector.wait_for_texts("a:kim", 2);
    world.send(private("3", "kim", "marker-kim-2"));
    world.shows("a:kim", &["marker-kim-1", NEW_CONVERSATION, "marker-kim-2"]);
}

#[test]
fn a_message_that_is_delivered_eight_times_at_once_is_answered_once() {
    let world = World::new();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| world.send(private("1", "kim", "marker-kim-1")));
        }
    });
    world.connector.wait_for_texts("a:kim", 1);
    world.send(private("2", "kim", "marker-kim-2"));
    world.shows("a:kim", &["marker-kim-1", "marker-kim-1 / marker-kim-2"]);
}

#[test]
fn feedback_on_a_streamed_answer_and_on_a_message_reaches_the_answer() {
    let world = World::new();
    world.send(private("1", "kim", "marker-kim-1"));
    world.send(in_group("g1", "lee", "marker-group-1"));
    world.connector.wait_for_texts("a:kim", 1);
    world.connector.wait_for_texts("19:group@thread.v2", 1);
    // An answer takes feedback as soon as its sending is recorded.
    crate::watchdog::until("both are recorded", || {
        world
            .server
            .stored::<i64>("SELECT count(*) FROM teams_deliveries WHERE state = 'SENT'")
            == 2
    });
    let id_of = |conversation: &str| world.connector.state().shown(conversation)[0].id.clone();
    let ids = [id_of("a:kim"), id_of("19:group@thread.v2")];
    let feedback = |activity: Value, sent: &str, reaction: &str| {
        with(
            activity,
            &[
                ("/type", "invoke".into()),
                ("/name", "message/submitAction".into()),
                ("/replyToId", sent.into()),
                (
                    "/value",
                    json!({"actionName": "feedback", "actionValue": {"reaction": reaction, "feedback": "{}"}}),
                ),
            ],
        )
    };
    world.send(feedback(private("f1", "kim", ""), &ids[0], "like"));
    world.send(feedback(in_group("f2", "lee", ""), &ids[1], "dislike"));
    let rows = world.server.database().rows(
        "SELECT content || ' ' || coalesce(rating, '-') FROM messages WHERE role = 'assistant' ORDER BY content",
    );
    let rated: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(rated, ["marker-group-1 DOWN", "marker-kim-1 UP"]);
}

#[test]
fn a_picture_is_fetched_with_the_bots_token_and_an_attached_file_without_it() {
    let world = World::new();
    for (name, content) in [
        ("picture", b"\x89PNG\r\n\x1a\n--".as_slice()),
        ("file", b"line"),
    ] {
        let file = HeldFile {
            head: String::new(),
            content: content.to_vec(),
            status: 200,
        };
        world.connector.hold_file(name, file);
    }
    let picture = world.connector.file_url("picture");
    // Another name of the same host, which is listed for files only.
    let file = world
        .connector
        .file_url("file")
        .replace("127.0.0.1", "localhost");
    let attachments = json!([
        {"contentType": "image/*", "contentUrl": picture},
        {"contentType": "application/vnd.microsoft.teams.file.download.info", "name": "a.txt",
         "content": {"downloadUrl": file, "uniqueId": "u", "fileType": "txt"}},
    ]);
    world.send(with(
        private("1", "kim", "marker-kim-1"),
        &[("/attachments", attachments)],
    ));
    world.shows("a:kim", &["marker-kim-1"]);
    let state = world.connector.state();
    let has_token: Vec<bool> = state
        .fetches
        .iter()
        .map(|(_, token)| token.is_some())
        .collect();
    assert_eq!(has_token, [true, false]);
    let (_, token) = &state.fetches[0];
    let last = state.calls_of("a:kim").last().unwrap();
    assert_eq!(last.token, *token);
}

#[test]
fn nothing_is_sent_after_the_bot_was_removed_and_a_new_installation_is_welcomed() {
    let world = World::new();
    let install = |id: &str, action: &str| {
        with(
            private(id, "kim", ""),
            &[
                ("/type", "installationUpdate".into()),
                ("/action", action.into()),
            ],
        )
    };
    world.send(install("i1", "add"));
    let welcome = world.connector.wait_for_texts("a:kim", 1);
    let prompts = {
        let state = world.connector.state();
        state.shown("a:kim")[0].activity["suggestedActions"].clone()
    };
    assert_eq!(prompts["to"], json!(["29:kim"]));
    assert!(!prompts["actions"].as_array().unwrap().is_empty());
    world.send(install("i2", "remove"));
    world.send(install("i3", "add"));
    let welcome = without_prefix(&welcome[0]);
    world.shows("a:kim", &[welcome, welcome]);
}
