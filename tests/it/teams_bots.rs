//! A fake Bot Framework on loopback: its OpenID document and keys, the tokens that it sends, the file
//! of two bots, and activities of Teams.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::authority::{Authority, Signer, current};
use crate::support::{CONTOSO, SHARED_BOT, START, Server, TECHNICIAN_BOT};
use crate::wire::{Reply, Request};

/// The issuer of the tokens.
pub const ISSUER: &str = "https://api.botframework.com";
/// Where replies would go.
pub const SERVICE_URL: &str = "http://127.0.0.1:9/teams/";
/// A secret that no log may show.
pub const SECRET: &str = "s3cret-of-the-shared-bot";

/// A running Bot Framework, and the file of the bots.
pub struct BotFramework {
    /// The server of the keys.
    pub authority: Authority,
    folder: TempDir,
}

impl BotFramework {
    /// A Bot Framework whose key set holds one key, which Teams' channel may use.
    pub fn new() -> Self {
        let framework = Self {
            authority: Authority::new(),
            folder: TempDir::new().unwrap(),
        };
        let url = framework.authority.url();
        framework.authority.publish(
            "/v1/.well-known/openidconfiguration",
            &json!({ "issuer": ISSUER, "jwks_uri": format!("{url}/v1/.well-known/keys") }),
        );
        framework.publish(&[endorsed(current(), &["msteams"])]);
        framework.write_bots(&json!([
            { "bot_id": SHARED_BOT, "tenant_id": "ab0de0a1-fa00-4c1a-9cab-ab0de000a1fa", "client_secret": SECRET, "app_type": "SingleTenant" },
            { "bot_id": TECHNICIAN_BOT, "tenant_id": "ab0de0a1-fa00-4c1a-9cab-ab0de000a1fa", "client_secret": "another", "app_type": "MultiTenant" },
        ]));
        framework
    }

    /// Publishes these keys.
    pub fn publish(&self, keys: &[Value]) {
        self.authority
            .publish("/v1/.well-known/keys", &json!({ "keys": keys }));
    }

    /// The file of the bots.
    pub fn bots_file(&self) -> PathBuf {
        self.folder.path().join("bots.json")
    }

    /// Writes the file of the bots.
    pub fn write_bots(&self, bots: &Value) {
        let file = self.bots_file();
        fs::write(&file, bots.to_string()).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// The flags of a server that takes these bots' activities.
    pub fn flags(&self) -> Vec<String> {
        vec![
            format!("--teams-bots={}", self.bots_file().display()),
            format!(
                "--teams-openid-url={}/v1/.well-known/openidconfiguration",
                self.authority.url()
            ),
            "--teams-service-hosts=127.0.0.1,smba.trafficmanager.net".to_owned(),
        ]
    }

    /// Serves the demo world with these bots. Turns stay queued.
    pub fn serve(&self) -> Server {
        self.serve_with(&[])
    }

    /// As [`BotFramework::serve`], with further flags.
    pub fn serve_with(&self, flags: &[&str]) -> Server {
        let own = self.flags();
        let own = own.iter().map(String::as_str);
        let flags: Vec<&str> = own.chain(flags.iter().copied()).collect();
        Server::with_world(crate::support::DEMO, &flags)
    }

    /// As [`BotFramework::serve`], and turns are answered.
    pub fn serve_answers(&self) -> Server {
        let flags = self.flags();
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        Server::answering(&flags)
    }
}

/// A key as the Bot Framework publishes it.
pub fn endorsed(signer: &Signer, channels: &[&str]) -> Value {
    let mut key = signer.jwk();
    key["endorsements"] = json!(channels);
    key
}

/// The claims of a token for a bot, valid for an hour from the start of the test.
pub fn claims(bot: &str) -> Value {
    let now = START / 1_000;
    json!({
        "serviceurl": SERVICE_URL, "nbf": now, "exp": now + 3_600, "iss": ISSUER, "aud": bot,
    })
}

/// A token for a bot.
pub fn token(bot: &str) -> String {
    current().issue(&claims(bot))
}

/// A message of a person of Contoso to the shared bot, in a private chat.
pub fn message(id: &str, text: &str) -> Value {
    json!({
        "type": "message", "id": id, "timestamp": "2025-11-24T16:00:00.000Z", "channelId": "msteams",
        "serviceUrl": SERVICE_URL, "text": text, "textFormat": "plain", "locale": "en-GB",
        "from": { "id": "29:kim", "name": "Kim Ellery", "aadObjectId": "0b1ec700-c0de-4aaa-8bbb-00000000c1a0" },
        "recipient": { "id": format!("28:{SHARED_BOT}"), "name": "Northwind helper" },
        "conversation": { "id": "a:private-kim", "conversationType": "personal", "tenantId": CONTOSO },
        "channelData": { "tenant": { "id": CONTOSO } },
        "attachments": [{ "contentType": "text/html", "content": format!("<p>{text}</p>") }],
    })
}

/// The message with other values at these paths.
pub fn with(mut activity: Value, changes: &[(&str, Value)]) -> Value {
    for (path, value) in changes {
        let (parent, name) = path.rsplit_once('/').unwrap();
        let parent = activity.pointer_mut(parent).unwrap();
        if value.is_null() {
            drop(parent.as_object_mut().unwrap().remove(name));
        } else {
            parent[name] = value.clone();
        }
    }
    activity
}

/// The same person's message in the directory of another company.
pub fn from_directory(activity: Value, directory: &str) -> Value {
    with(
        activity,
        &[
            ("/conversation/tenantId", directory.into()),
            ("/channelData/tenant/id", directory.into()),
        ],
    )
}

/// A message in a group chat that mentions the shared bot.
pub fn in_group(id: &str, who: &str, text: &str) -> Value {
    with(
        message(id, &format!("<at>Northwind helper</at> {text}")),
        &[
            ("/from/id", format!("29:{who}").into()),
            ("/from/name", who.into()),
            ("/conversation/id", "19:group@thread.v2".into()),
            ("/conversation/conversationType", "groupChat".into()),
            (
                "/entities",
                json!([{
                    "type": "mention", "text": "<at>Northwind helper</at>",
                    "mentioned": { "id": format!("28:{SHARED_BOT}"), "name": "Northwind helper" },
                }]),
            ),
        ],
    )
}

/// Sends an activity with a token.
#[track_caller]
pub fn post(server: &Server, token: &str, activity: &Value) -> Reply {
    let request = Request::new("POST", "/api/messages")
        .header("authorization", format!("Bearer {token}"))
        .json(activity);
    server.anonymous().send(request)
}

/// Sends an activity to its bot, which must be acknowledged.
#[track_caller]
pub fn deliver(server: &Server, activity: &Value) {
    let recipient = activity["recipient"]["id"].as_str().unwrap();
    let reply = post(
        server,
        &token(recipient.trim_start_matches("28:")),
        activity,
    );
    assert!((200..300).contains(&reply.status), "{}", reply.text());
}

/// The states of all deliveries with their texts, in their order: `ANSWER` for an answer.
pub fn outbox(server: &Server) -> Vec<String> {
    let rows = server
        .database()
        .rows("SELECT state || ' ' || coalesce(body, kind) FROM teams_deliveries ORDER BY seq");
    rows.iter().map(|row| row.get(0)).collect()
}

/// The texts of all messages of people, in their order.
pub fn messages(server: &Server) -> Vec<String> {
    let rows = server
        .database()
        .rows("SELECT content FROM messages WHERE role = 'user' ORDER BY seq");
    rows.iter().map(|row| row.get(0)).collect()
}
