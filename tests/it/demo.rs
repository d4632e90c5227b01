//! `switchboard demo`: the commands that it prints work, and changes survive a second start.

use std::net::TcpListener;
use std::process::Command;

use serde_json::{Value, json};

use crate::process::{NORTHWIND, RELAY, Server, Workspace, finish, program};

const LINK: &str = r#"{"tenants": [{"client_id": "northwind-it", "end_companies": [
    {"psa_company_id": "1002", "tenant_id": "0ddba110-face-4fee-9add-1eaf1ed0dd01"}]}]}"#;

/// Starts the demo in a workspace, with the default data folder.
fn demo(workspace: &Workspace, listen: &str) -> Server {
    let mut command = program(["demo", "--listen", listen]);
    command.current_dir(workspace.path());
    Server::start(command)
}

/// The commands that the demo prints, in order.
fn curl_lines(server: &Server) -> Vec<String> {
    server.wait_for_stdout("0ddba110-face-4fee-9add-1eaf1ed0dd01");
    server
        .stdout_lines()
        .into_iter()
        .filter(|line| line.starts_with("curl "))
        .collect()
}

/// Runs a line in a shell; returns the JSON that it prints.
fn paste(line: &str) -> Value {
    let done = finish(Command::new("bash").args(["-c", line]));
    assert_eq!(done.code, 0, "{line}: {done:?}");
    serde_json::from_str(&done.stdout).unwrap()
}

#[test]
fn the_three_commands_that_the_demo_prints_work() {
    let workspace = Workspace::new();
    let server = demo(&workspace, "127.0.0.1:0");
    let lines = curl_lines(&server);
    assert_eq!(lines.len(), 3, "{lines:#?}");
    assert!(lines.iter().all(|line| line.contains(server.address())));

    let technician = paste(&lines[0])["data"].take();
    assert_eq!(technician["agent_id"], 102);
    assert_eq!(technician["end_company_id"], Value::Null);
    assert_eq!(technician["client_id"], "northwind-it");
    let pinned = paste(&lines[1])["data"].take();
    assert_eq!(pinned["end_company_id"], "1001");
    assert_eq!(pinned["resolution"]["rule"], "white_label_install");
    let refused = paste(&lines[2])["error"].take();
    assert_eq!(refused["code"], "end_company_not_mapped");

    for (line, status) in lines.iter().zip(["201", "201", "409"]) {
        let asked = format!("{line} -o /dev/null -w '%{{http_code}}'");
        let done = finish(Command::new("bash").args(["-c", &asked]));
        assert_eq!(done.stdout, status, "{asked}");
    }
    server.stop();
}

#[test]
fn a_port_in_use_is_reported_and_the_next_free_one_used() {
    let workspace = Workspace::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let server = demo(&workspace, &address.to_string());
    let line = server.wait_for_stdout("is in use");
    assert!(line.contains(&address.port().to_string()), "{line}");
    assert!(server.port() > address.port());
    let lines = curl_lines(&server);
    assert_eq!(paste(&lines[0])["data"]["agent_id"], 102);
}

#[test]
fn an_address_beyond_loopback_is_refused_before_anything_is_created() {
    let workspace = Workspace::new();
    for address in ["0.0.0.0:0", "192.0.2.1:8080", "[::]:0"] {
        let done = workspace.run(["demo", "--listen", address]);
        assert!(done.failure().contains("loopback"), "{done:?}");
        let mut command = workspace.command(["demo"]);
        let done = finish(command.env("SWITCHBOARD_LISTEN", address));
        assert!(done.failure().contains("loopback"), "{done:?}");
    }
    assert!(!workspace.data().exists());
}

#[test]
fn links_and_messages_survive_a_second_start() {
    let workspace = Workspace::new();
    let server = demo(&workspace, "127.0.0.1:0");
    let lines = curl_lines(&server);
    assert_eq!(paste(&lines[2])["error"]["code"], "end_company_not_mapped");
    let folder = workspace.path().join("switchboard-demo");
    let file = workspace.file("link.json", LINK);
    let done = finish(program(["--env", "demo", "import", &file, "--data"]).arg(&folder));
    assert_eq!(done.code, 0, "{done:?}");
    let linked = paste(&lines[2])["data"].take();
    assert_eq!(linked["end_company_id"], "1002");
    server.stop();

    let server = demo(&workspace, "127.0.0.1:0");
    let lines = curl_lines(&server);
    assert_eq!(paste(&lines[2])["data"]["end_company_id"], "1002");
    let path = format!("/chat/sessions/{}", linked["id"].as_str().unwrap());
    assert_eq!(server.client().get(RELAY, &path).status, 200);
}

#[test]
fn an_interrupted_first_start_is_completed_by_the_next_start() {
    let workspace = Workspace::new();
    let folder = workspace.path().join("switchboard-demo");
    // The state after a crash between creating the file and importing the world.
    let file = workspace.file("empty.json", r#"{"tenants": []}"#);
    let done = finish(program(["import", &file, "--data"]).arg(&folder));
    assert_eq!(
        done.stdout, "0 created, 0 updated, 0 unchanged\n",
        "{done:?}"
    );
    let server = demo(&workspace, "127.0.0.1:0");
    assert_eq!(paste(&curl_lines(&server)[0])["data"]["agent_id"], 102);
}

#[test]
fn the_demos_keys_belong_to_its_own_environment() {
    let workspace = Workspace::new();
    let mut command = workspace.command(["demo", "--listen", "127.0.0.1:0"]);
    command.env("SWITCHBOARD_ENV", "prod");
    let server = Server::start(command);
    let body = json!({"agent_id": 102});
    let reply = server.client().post(NORTHWIND, "/chat/sessions", &body);
    assert_eq!(reply.status, 201, "{reply:?}");
}
