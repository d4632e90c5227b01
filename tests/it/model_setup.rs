//! How an operator names a model server: Azure's classic address, and a key in a file.

use std::path::Path;

use serde_json::json;

use crate::process::{Server, Workspace};
use crate::scripted_model::{Reply as ModelReply, ScriptedModel};
use crate::support::{NORTHWIND, technician};

const KEY: &str = "sk-hush-0123456789abcdef";

/// The arguments of a server with the model at this URL.
fn serve(url: &str) -> Vec<String> {
    let flags = [
        "serve",
        "--listen=127.0.0.1:0",
        "--env=demo",
        "--model-fast=quick",
        "--model-smart=deep",
        "--model-url",
        url,
    ];
    flags.map(str::to_owned).to_vec()
}

/// The model's answer to one message.
fn answer(server: &Server) -> String {
    let client = server.client();
    let opened = client.post(NORTHWIND, "/chat/sessions", &technician());
    let session = opened.data()["id"].as_str().unwrap().to_owned();
    let path = format!("/chat/sessions/{session}");
    let appended = client.post(
        NORTHWIND,
        &format!("{path}/messages"),
        &json!({ "message": "The door is stuck" }),
    );
    let turn = appended.data()["chat_turn_id"].as_str().unwrap().to_owned();
    let turn = client.get(NORTHWIND, &format!("{path}/turns/{turn}?wait_seconds=60"));
    turn.data()["assistant_message"]["content"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// What a server with this key file says if it does not start.
fn refusal(workspace: &Workspace, file: &Path, key: Option<&str>) -> String {
    let mut command = workspace.command(serve("http://127.0.0.1:1/v1"));
    command.env("SWITCHBOARD_MODEL_API_KEY_FILE", file);
    if let Some(key) = key {
        command.env("SWITCHBOARD_MODEL_API_KEY", key);
    }
    let done = Server::try_start(command)
        .err()
        .expect("the server does not start");
    assert!(!done.stderr.contains("hush"), "{}", done.stderr);
    done.failure().to_owned()
}

#[test]
fn azures_classic_address_is_asked_with_its_version_and_key() {
    let model = ScriptedModel::start(vec![ModelReply::answer("Try the other door.")]);
    let origin = model.url().trim_end_matches("/v1");
    let url = format!("{origin}/openai/deployments/gpt-4o?api-version=2024-10-21");
    let workspace = Workspace::with_demo_world();
    let mut command = workspace.command(serve(&url));
    command.env("SWITCHBOARD_MODEL_API_KEY", KEY);
    let server = Server::start(command);
    assert_eq!(answer(&server), "Try the other door.");
    let head = &model.requests()[0].head;
    assert!(
        head.starts_with(
            "POST /openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21 HTTP/1.1\n"
        ),
        "{head}"
    );
    assert!(head.contains(&format!("\napi-key: {KEY}\n")), "{head}");
    assert!(!server.stop().iter().any(|line| line.contains(KEY)));
}

#[test]
fn the_models_key_can_be_in_a_file() {
    let model = ScriptedModel::start(vec![ModelReply::answer("Try the other door.")]);
    let workspace = Workspace::with_demo_world();
    for text in [format!(" {KEY}\r\n\n"), format!("\u{feff}{KEY}")] {
        let mut command = workspace.command(serve(model.url()));
        command.env(
            "SWITCHBOARD_MODEL_API_KEY_FILE",
            workspace.file("key", text),
        );
        let server = Server::start(command);
        assert_eq!(answer(&server), "Try the other door.");
        let head = model.requests().pop().unwrap().head;
        assert!(
            head.contains(&format!("\nauthorization: Bearer {KEY}\n")),
            "{head}"
        );
        assert!(!server.stop().iter().any(|line| line.contains(KEY)));
    }
    // An empty variable is an absent one.
    let mut command = workspace.command(serve(model.url()));
    command
        .env("SWITCHBOARD_MODEL_API_KEY_FILE", "")
        .env("SWITCHBOARD_MODEL_API_KEY", KEY);
    let server = Server::start(command);
    assert_eq!(answer(&server), "Try the other door.");
    server.stop();
}

#[test]
fn a_key_file_that_cannot_be_used_stops_the_start_with_its_name() {
    let workspace = Workspace::with_demo_world();
    let missing = workspace.path().join("no-such-file");
    let told = refusal(&workspace, &missing, None);
    // What was given for the file's name may be the key.
    let is_named = told.contains("SWITCHBOARD_MODEL_API_KEY_FILE: its file cannot be read");
    assert!(is_named && !told.contains("no-such-file"), "{told}");
    let empty = workspace.file("empty", "\n");
    let told = refusal(&workspace, Path::new(&empty), None);
    assert!(told.contains("is empty"), "{told}");
    let file = workspace.file("key", KEY);
    let told = refusal(&workspace, Path::new(&file), Some(KEY));
    assert!(told.contains("both given"), "{told}");
}
