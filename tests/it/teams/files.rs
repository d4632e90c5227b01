//! The pictures and files of messages from Teams.

use serde_json::{Value, json};

use super::connector::{Connector, HeldFile, without_prefix};
use super::outbox::{BOT, flags};
use crate::scripted_model::{Reply, ScriptedModel};
use crate::support::{CONTOSO, Server};
use crate::wire::Request;

const PNG: &[u8] = b"\x89PNG\r\n\x1a\npicture";

/// A server whose bots take activities with the tokens of an emulator, and a model.
struct World {
    server: Server,
    connector: Connector,
    model: ScriptedModel,
    _folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let connector = Connector::start(&[]).without_tokens();
        let folder = tempfile::TempDir::new().unwrap();
        let model = ScriptedModel::start(vec![Reply::answer("An answer.")]);
        let flags = flags(&connector, folder.path());
        let mut flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        flags.push("--teams-anonymous");
        Self {
            server: Server::with_model(&model, &flags),
            connector,
            model,
            _folder: folder,
        }
    }

    fn hold(&self, name: &str, head: &str, content: &[u8]) -> String {
        let file = HeldFile {
            head: head.to_owned(),
            content: content.to_vec(),
            status: if head.contains("location") { 302 } else { 200 },
        };
        self.connector.hold_file(name, file);
        self.connector.file_url(name)
    }

    /// Sends a message with these attachments, and waits for its answer.
    fn ask(&self, id: &str, text: &str, attachments: Value) {
        let before = self.connector.state().shown("a:chat").len();
        let activity = json!({
            "type": "message", "id": id, "channelId": "msteams", "serviceUrl": self.connector.service_url(),
            "text": text, "attachments": attachments,
            "from": {"id": "29:kim", "name": "Kim", "aadObjectId": "0b1ec700-c0de-4aaa-8bbb-00000000c1a0"},
            "recipient": {"id": format!("28:{BOT}"), "name": "Helper"},
            "conversation": {"id": "a:chat", "tenantId": CONTOSO, "conversationType": "personal"},
            "channelData": {"tenant": {"id": CONTOSO}},
        });
        let request = Request::new("POST", "/api/messages").json(&activity);
        let reply = self.server.anonymous().send(request);
        assert_eq!(reply.status, 202, "{}", reply.text());
        self.connector.wait_for_texts("a:chat", before + 1);
    }

    /// The files that are stored: type, name and size, in their order.
    fn stored(&self) -> Vec<String> {
        let sql = "SELECT a.mime || ' ' || coalesce(a.filename, '-') || ' ' || a.bytes FROM attachments a \
                   WHERE a.message_seq IS NOT NULL ORDER BY a.seq";
        let rows = self.server.database().rows(sql);
        rows.iter().map(|row| row.get(0)).collect()
    }

    fn pending(&self) -> i64 {
        self.server.stored("SELECT count(*) FROM teams_files")
    }
}

#[test]
fn pictures_and_files_of_a_message_are_there_when_it_is_answered() {
    let world = World::new();
    let picture = world.hold("picture", "content-type: image/png\r\n", PNG);
    let plain = world.hold("plain", "", b"line\n");
    world.ask(
        "1",
        "What is this?",
        json!([
            {"contentType": "text/html", "content": "<p>What is this?</p>"},
            {"contentType": "image/*", "contentUrl": picture},
            {"contentType": "application/vnd.microsoft.teams.file.download.info", "name": "notes.log",
             "contentUrl": "https://contoso.sharepoint.com/notes.log",
             "content": {"downloadUrl": plain, "uniqueId": "u", "fileType": "log"}},
        ]),
    );
    assert_eq!(world.stored(), ["image/png - 15", "text/plain notes.log 5"]);
    assert_eq!(world.pending(), 0);
    let requests = world.model.requests();
    assert!(
        requests[0]
            .body
            .to_string()
            .contains("data:image/png;base64,")
    );
    assert_eq!(world.connector.state().fetches.len(), 2);
}

#[test]
fn a_message_of_a_picture_alone_is_answered() {
    let world = World::new();
    let picture = world.hold("picture", "content-type: image/png\r\n", PNG);
    world.ask(
        "1",
        "",
        json!([{"contentType": "image/png", "contentUrl": picture, "name": "a.png"}]),
    );
    assert_eq!(world.stored(), ["image/png a.png 15"]);
    assert_eq!(
        world.connector.state().texts("a:chat"),
        ["Northwind IT: An answer."]
    );
}

#[test]
fn a_file_that_cannot_be_read_is_told_after_the_answer_and_fetched_from_nowhere_else() {
    let world = World::new();
    let program = world.hold("program", "content-type: application/pdf\r\n", b"MZ\x90\0");
    let elsewhere = world.hold("moved", "location: https://evil.example/x\r\n", b"");
    let picture = world.hold("picture", "", PNG);
    let moved = world.hold("redirect", &format!("location: {picture}\r\n"), b"");
    world.ask(
        "1",
        "Look!",
        json!([
            {"contentType": "application/pdf", "contentUrl": program, "name": "a.exe"},
            {"contentType": "image/png", "contentUrl": elsewhere, "name": "moved.png"},
            {"contentType": "image/png", "contentUrl": "https://evil.example/p.png", "name": "evil.png"},
            {"contentType": "image/png", "contentUrl": "http://169.254.169.254/latest", "name": "meta.png"},
            {"contentType": "image/png", "contentUrl": world.connector.file_url("missing"), "name": "none.png"},
            {"contentType": "image/png", "contentUrl": moved, "name": "here.png"},
            {"contentType": "image/png", "contentUrl": picture, "name": "seventh.png"},
        ]),
    );
    let texts = world.connector.wait_for_texts("a:chat", 7);
    let texts: Vec<&str> = texts.iter().map(|text| without_prefix(text)).collect();
    let foreign = "it is on a host that this server does not read from";
    assert_eq!(
        texts,
        [
            "An answer.".to_owned(),
            "The file “a.exe” could not be read: this kind of file is not supported.".to_owned(),
            format!("The file “moved.png” could not be read: {foreign}."),
            format!("The file “evil.png” could not be read: {foreign}."),
            format!("The file “meta.png” could not be read: {foreign}."),
            "The file “none.png” could not be read: its host answered 404.".to_owned(),
            "The file “seventh.png” could not be read: a message may have up to 6 files."
                .to_owned(),
        ]
    );
    assert_eq!(world.stored(), ["image/png here.png 15"]);
    assert_eq!(world.pending(), 0);
}
