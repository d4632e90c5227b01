//! A server with a worker of the outbox, whose conversations tests put into the database themselves.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use switchboard::model::clock::Millis;
use switchboard::model::ids::{Tick, TurnId};
use switchboard::model::names::BotId;
use switchboard::store::teams::{self, ConversationKind, NewDelivery, Saying, Seen};
use tempfile::TempDir;

use super::connector::Connector;
use crate::scripted_model::{Reply, ScriptedModel, text_chunk};
use crate::support::Server;
use crate::watchdog::until;

/// Two bots and their secrets.
pub const BOT: &str = "b07fab1e-c0de-4bee-8ace-facade0fb075";
/// See [`BOT`].
pub const OTHER_BOT: &str = "b07a1fa0-c0de-4bee-8ace-feed0a1fa001";
const SECRETS: [(&str, &str); 2] = [(BOT, "the first secret"), (OTHER_BOT, "the second secret")];
const DIRECTORY: &str = "ca5cade0-4ce5-4d0e-9b1d-0f0a51deca5e";

/// A server, and the fake that its worker calls.
pub struct Outbox {
    pub server: Server,
    pub connector: Connector,
    /// Holds the file of the bots.
    bots: TempDir,
}

/// A conversation of a bot, and the session that it leads to.
pub struct Conversation {
    /// The key of the row.
    pub no: Tick,
    /// The id in Teams.
    pub id: String,
    /// The id of the session.
    pub session: String,
}

/// The flags of a server whose bots call this fake. Their file is made in this folder.
pub fn flags(connector: &Connector, folder: &Path) -> Vec<String> {
    let bots: Vec<Value> = SECRETS
        .iter()
        .map(|(bot, secret)| {
            json!({"bot_id": bot, "tenant_id": DIRECTORY, "client_secret": secret, "app_type": "SingleTenant"})
        })
        .collect();
    let path = folder.join("bots.json");
    fs::write(&path, Value::from(bots).to_string()).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    vec![
        format!("--teams-bots={}", path.display()),
        format!("--teams-login-url={}", connector.login_url()),
        "--teams-service-hosts=127.0.0.1".to_owned(),
        "--teams-file-hosts=127.0.0.1".to_owned(),
    ]
}

impl Outbox {
    /// Serves the demo world with the built-in answers.
    pub fn new() -> Self {
        Self::begin(Server::answering)
    }

    /// Serves the demo world with a model.
    pub fn with_model(model: &ScriptedModel) -> Self {
        Self::begin(|flags| Server::with_model(model, flags))
    }

    fn begin(serve: impl FnOnce(&[&str]) -> Server) -> Self {
        let connector = Connector::start(&SECRETS);
        let bots = TempDir::new().unwrap();
        let flags = flags(&connector, bots.path());
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        Self {
            server: serve(&flags),
            connector,
            bots,
        }
    }

    /// Cuts running turns off, stops the server, and starts another one on the same database.
    pub fn restarted(self) -> Self {
        self.server.app.deliverer.as_ref().unwrap().abort();
        block_on(self.server.app.engine.stop(Duration::ZERO));
        let Self {
            server,
            connector,
            bots,
        } = self;
        Self {
            server: server.restarted(),
            connector,
            bots,
        }
    }

    /// Stops the worker as a shutdown does, without waiting for turns.
    pub fn stop_worker(&self) {
        let worker = self.server.app.deliverer.as_ref().unwrap();
        block_on(worker.stop(Duration::from_secs(30)));
    }

    /// Makes a conversation and its session.
    pub fn conversation(&self, bot: &str, kind: ConversationKind, id: &str) -> Conversation {
        let session = self
            .server
            .northwind()
            .post("/chat/sessions", json!({"agent_id": 102}))
            .expect(201)
            .id();
        let seen = Seen {
            bot: BotId::parse(bot).unwrap(),
            directory: DIRECTORY.to_owned(),
            id: id.to_owned(),
            kind,
            service_url: self.connector.service_url(),
            reference: json!({
                "channelId": "msteams",
                "bot": {"id": format!("28:{bot}"), "name": "Help"},
                "user": {"id": "29:user", "name": "Ana"},
                "conversation": {"conversationType": kind.as_str(), "tenantId": DIRECTORY, "id": id},
            })
            .to_string(),
            tenant: None,
            channel: None,
        };
        let seen = self
            .server
            .app
            .store
            .write_now(move |tx| teams::see(tx, &seen));
        Conversation {
            no: seen.unwrap().no,
            id: id.to_owned(),
            session,
        }
    }

    /// A personal chat of the first bot.
    pub fn chat(&self) -> Conversation {
        self.conversation(BOT, ConversationKind::Personal, "a:chat")
    }

    /// A group of the first bot.
    pub fn group(&self) -> Conversation {
        self.conversation(BOT, ConversationKind::Group, "19:group@thread.v2")
    }

    /// Appends a message to the conversation's session, and puts its answer into the outbox. Returns
    /// the turn.
    pub fn ask(&self, conversation: &Conversation, text: &str) -> String {
        let path = format!("/chat/sessions/{}/messages", conversation.session);
        let appended = self
            .server
            .northwind()
            .post(&path, json!({"message": text}))
            .expect(202)
            .data();
        let turn = appended["chat_turn_id"].as_str().unwrap().to_owned();
        self.add(conversation, Saying::Answer(TurnId::parse(&turn).unwrap()));
        turn
    }

    /// Puts a text into the outbox.
    pub fn say(&self, conversation: &Conversation, text: &str) {
        let body = text.to_owned();
        let prompts = Vec::new();
        self.add(conversation, Saying::Text { body, prompts });
    }

    fn add(&self, conversation: &Conversation, saying: Saying) {
        let no = conversation.no;
        let add = move |tx: &mut switchboard::store::WriteTx<'_>| {
            teams::insert_delivery(
                tx,
                NewDelivery {
                    conversation: no,
                    tenant: None,
                    saying,
                    reply_to: None,
                },
            )
        };
        self.server.app.store.write_now(add).unwrap();
        self.server.app.teams.deliveries.notify_one();
    }

    /// The states of a conversation's deliveries, in order.
    pub fn states(&self, conversation: &Conversation) -> String {
        let sql = format!(
            "SELECT coalesce(string_agg(state, ' ' ORDER BY seq), '') FROM teams_deliveries WHERE conversation_no = {}",
            conversation.no.0
        );
        self.server.stored(&sql)
    }

    /// Waits until the conversation's deliveries have these states.
    pub fn wait_for_states(&self, conversation: &Conversation, expected: &str) {
        let mut states = String::new();
        until(&format!("the deliveries are {expected}"), || {
            std::thread::sleep(Duration::from_millis(5));
            states = self.states(conversation);
            states == expected
        });
    }

    /// A value of the conversation's last delivery, as text.
    pub fn last(&self, conversation: &Conversation, column: &str) -> String {
        let sql = format!(
            "SELECT coalesce(CAST({column} AS TEXT), '') FROM teams_deliveries WHERE conversation_no = {} ORDER BY seq DESC LIMIT 1",
            conversation.no.0
        );
        self.server.stored(&sql)
    }

    /// Waits until the last delivery has failed this often, and returns how long it pauses then.
    pub fn pause_after(&self, conversation: &Conversation, attempts: i64) -> Millis {
        until(&format!("the delivery has failed {attempts} times"), || {
            std::thread::sleep(Duration::from_millis(5));
            self.last(conversation, "attempts") == attempts.to_string()
        });
        let next_at: Millis = self.last(conversation, "next_at").parse().unwrap();
        next_at - self.server.app.store.now()
    }

    /// The status of a turn.
    pub fn status_of(&self, conversation: &Conversation, turn: &str) -> String {
        let path = format!("/chat/sessions/{}/turns/{turn}", conversation.session);
        let turn = self.server.northwind().get(&path).expect(200).data();
        turn["status"].as_str().unwrap().to_owned()
    }
}

fn block_on(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(work);
}

/// The end of a model's reply.
pub fn end_of_reply() -> String {
    let end = json!({"choices": [{"delta": {}, "finish_reason": "stop"}]});
    format!("data: {end}\n\ndata: [DONE]\n\n")
}

/// A model's reply that begins with this text.
pub fn begun(text: &str) -> Reply {
    Reply::events(text_chunk(text))
}
