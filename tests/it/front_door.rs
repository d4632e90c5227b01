//! The way in for a person with a browser: the server's root, its icon, and the command that makes
//! a sign-in link.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::database::sqlite_only;
use crate::process::{Server as Process, Workspace, finish};
use crate::support::{ApiClient, DEMO, Server};
use crate::wire::Request;

const LOGIN_COMMAND: &str = "/dashboard/login-command";

fn get(path: &str) -> Request {
    Request::new("GET", path)
}

/// What a stranger learns: nothing of this server.
fn generic() -> Value {
    json!({
        "command": "switchboard login-link --tenant CLIENT_ID",
        "client_id": null,
        "creates_tenant": false,
        "has_others": false,
    })
}

#[test]
fn the_root_leads_to_the_dashboard_below_any_path() {
    let server = Server::demo();
    for client in [server.anonymous(), server.northwind()] {
        for accept in ["text/html,*/*;q=0.8", "application/json"] {
            for method in ["GET", "HEAD"] {
                let reply = client
                    .send(Request::new(method, "/").header("accept", accept))
                    .expect(302);
                assert_eq!(reply.header("location"), Some("./dashboard"));
                assert!(reply.body.is_empty());
            }
        }
        let reply = client
            .send(Request::new("POST", "/"))
            .refused(405, "method_not_allowed");
        assert_eq!(reply.header("allow"), Some("GET, HEAD, OPTIONS"));
    }
    server.anonymous().send(get("/public-api/")).not_found();
}

#[test]
fn a_browser_finds_the_icon_at_the_root_and_keeps_it_for_a_day() {
    let server = Server::demo();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/dashboard/icon.svg");
    let reply = server.anonymous().send(get("/favicon.ico")).expect(200);
    assert_eq!(reply.header("content-type"), Some("image/svg+xml"));
    assert_eq!(reply.header("cache-control"), Some("public, max-age=86400"));
    assert!(reply.body == fs::read(path).unwrap());
    let known = get("/favicon.ico").header("if-none-match", reply.header("etag").unwrap());
    let reply = server.anonymous().send(known).expect(304);
    assert_eq!(reply.header("cache-control"), Some("public, max-age=86400"));
}

/// Asks a server in a process of its own as a browser on this machine does.
fn ask(server: &Process) -> Value {
    let address: SocketAddr = server.address().parse().unwrap();
    let request = get(LOGIN_COMMAND).header("host", server.address());
    let reply = ApiClient::new(address, None).send(request).expect(200);
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    reply.json()
}

/// Runs a line in a shell that knows nothing of the server: in another folder, without its
/// variables.
fn paste(line: &str) -> String {
    let mut shell = Command::new("sh");
    shell.args(["-c", line]).current_dir("/").env_clear();
    let done = finish(&mut shell);
    assert_eq!(done.code, 0, "{line}: {done:?}");
    done.stdout
}

#[test]
fn the_sign_in_pages_command_works_when_it_is_pasted_into_a_shell() {
    sqlite_only!();
    let workspace = Workspace::new();
    let folder = workspace.path().join("Ann's $HOME data");
    let folder = folder.to_str().unwrap();
    // The path is relative to a folder that the shell does not run in.
    let relative = "./Ann's $HOME data";
    let serve = || workspace.serve(["--data", relative, "--env", "prod"]);

    let server = serve();
    let program = env!("CARGO_BIN_EXE_switchboard");
    let quoted = format!("'{}'", folder.replace('\'', r"'\''"));
    let first = format!(
        "{program} --data {quoted} --env prod tenants create --client-id my-msp --name 'My MSP'"
    );
    assert_eq!(
        ask(&server),
        json!({ "command": first, "client_id": null, "creates_tenant": true, "has_others": false })
    );
    paste(&first);

    let link = format!(
        "{program} --data {quoted} --env prod login-link --tenant my-msp --public-url http://{}",
        server.address()
    );
    let told = ask(&server);
    assert_eq!(
        told,
        json!({ "command": link, "client_id": "my-msp", "creates_tenant": false, "has_others": false })
    );
    let printed = paste(&link);
    let (page, code) = printed.trim_end().split_once("#code=").unwrap();
    assert_eq!(page, format!("http://{}/dashboard", server.address()));
    let reply = server
        .client()
        .post("", "/auth/exchange", &json!({ "code": code }));
    assert_eq!(reply.status, 200, "{reply:?}");

    workspace.ok([
        "--data",
        relative,
        "--env",
        "prod",
        "tenants",
        "create",
        "--client-id",
        "another-msp",
        "--name",
        "Another MSP",
    ]);
    let told = ask(&server);
    assert_eq!(told["command"], link);
    assert_eq!(told["has_others"], true);
    server.stop();
}

#[test]
fn a_stranger_does_not_learn_the_servers_folder_and_tenants() {
    let direct = Server::demo();
    let as_a_stranger = |server: &Server, headers: &[(&str, &str)]| {
        let request = headers
            .iter()
            .fold(get(LOGIN_COMMAND), |request, (name, value)| {
                request.header(name, *value)
            });
        server.anonymous().send(request).expect(200).json()
    };
    let known = as_a_stranger(&direct, &[]);
    assert_eq!(known["client_id"], "northwind-it");
    assert_eq!(known["has_others"], true);
    for host in ["localhost:8080", "LOCALHOST", "127.0.0.1", "[::1]:8080"] {
        assert_eq!(
            as_a_stranger(&direct, &[("host", host)])["client_id"],
            "northwind-it",
            "{host}"
        );
    }
    // A name of this machine can be reached from others, and so can a name that leads here.
    for host in [
        "switchboard",
        "chat.example.com",
        "127.0.0.1.example.com",
        "192.0.2.7",
    ] {
        assert_eq!(
            as_a_stranger(&direct, &[("host", host)]),
            generic(),
            "{host}"
        );
    }
    for header in [
        ("x-forwarded-for", "127.0.0.1"),
        ("forwarded", "for=127.0.0.1"),
        ("x-real-ip", "127.0.0.1"),
        ("x-forwarded-host", "localhost"),
        ("x-forwarded-proto", "http"),
        ("via", "1.1 proxy"),
    ] {
        assert_eq!(as_a_stranger(&direct, &[header]), generic(), "{header:?}");
    }
    let proxied = Server::with_world(DEMO, &["--behind-proxy"]);
    assert_eq!(as_a_stranger(&proxied, &[]), generic());
}
