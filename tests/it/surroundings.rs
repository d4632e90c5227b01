//! The surroundings of the program: variables as container files write them, the places where a
//! server listens, its health check, and what a data folder remembers.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;

use serde_json::json;

use crate::database::{is_on_postgres, sqlite_only};
use crate::process::{CommandOutput, Server, Workspace, finish, program, read_reply};

fn with_tenant() -> Workspace {
    let workspace = Workspace::new();
    let create = ["tenants", "create", "--client-id", "northwind-it"];
    workspace.ok(create.iter().chain(&["--name", "Northwind IT"]));
    workspace
}

/// Creates a key; a tenant may have one of each name.
fn create_key(workspace: &Workspace, more: &[&str]) -> CommandOutput {
    let name = format!("key with {more:?}");
    let create = [
        "keys",
        "create",
        "--tenant",
        "northwind-it",
        "--name",
        &name,
    ];
    workspace.run(create.iter().chain(more))
}

#[test]
fn switches_take_the_words_of_compose_files_in_any_case() {
    let workspace = with_tenant();
    let kind = |value: &str| {
        let mut command = workspace.command(["keys", "create", "--tenant", "northwind-it"]);
        command
            .args(["--name", value])
            .env("SWITCHBOARD_PLATFORM", value);
        let done = finish(&mut command);
        assert_eq!(done.code, 0, "{value}: {done:?}");
        let listed = workspace.ok(["keys", "list", "--tenant", "northwind-it"]);
        let last = listed.lines().last().unwrap().to_owned();
        last.split('\t').nth(3).unwrap().to_owned()
    };
    for value in ["1", "true", "TRUE", "yes", "Yes", "on", "ON"] {
        assert_eq!(kind(value), "platform", "{value}");
    }
    for value in ["0", "false", "False", "no", "NO", "off", "Off"] {
        assert_eq!(kind(value), "tenant", "{value}");
    }
    let mut command = workspace.command(["keys", "create", "--tenant", "n", "--name", "n"]);
    let done = finish(command.env("SWITCHBOARD_PLATFORM", "maybe"));
    assert_eq!(done.code, 2, "{done:?}");
    assert!(
        done.stderr
            .contains("must be 1, true, yes or on, or 0, false, no or off"),
        "{done:?}"
    );
}

#[test]
fn an_empty_variable_is_an_absent_one_for_every_flag() {
    let workspace = with_tenant();
    let help = finish(&mut program(["serve", "--help"])).stdout;
    let variables: Vec<&str> = help
        .split("[env: ")
        .skip(1)
        .map(|rest| rest.split('=').next().unwrap())
        .filter(|name| !["SWITCHBOARD_DATA", "SWITCHBOARD_LISTEN"].contains(name))
        .collect();
    assert!(variables.len() > 20, "{variables:?}");
    let mut command = workspace.command(["serve", "--listen", "127.0.0.1:0"]);
    for name in variables.iter().chain(&[
        "SWITCHBOARD_LISTEN",
        "SWITCHBOARD_MODEL_API_KEY",
        "RUST_LOG",
    ]) {
        command.env(name, "");
    }
    let server = Server::start(command);
    let log = server.stop();
    assert!(
        log.iter().any(|line| line.contains("(environment dev)")),
        "{log:#?}"
    );
    assert!(!log.iter().any(|line| line.contains("unknown")), "{log:#?}");

    // The required value of a flag is still missing.
    let mut command = workspace.command(["keys", "list"]);
    let done = finish(command.env("SWITCHBOARD_TENANT", " "));
    assert_eq!(done.code, 2, "{done:?}");
    assert!(done.stderr.contains("--tenant <CLIENT_ID>"), "{done:?}");

    let mut command = program(["serve", "--help"]);
    let help = finish(command.env("SWITCHBOARD_MODEL_URL", ""));
    assert!(
        help.stdout.contains("[env: SWITCHBOARD_MODEL_URL=]"),
        "{}",
        help.stdout
    );
}

#[test]
fn an_unknown_variable_is_warned_of_once_with_the_nearest_known_one() {
    let workspace = with_tenant();
    let mut command = workspace.command(["tenants", "list"]);
    let done = finish(
        command
            .env("SWITCHBOARD_PUBLIC_ULR", "https://chat.example.com")
            .env("SWITCHBOARD_SERVICE_HOST", "10.0.0.1")
            .env("SWITCHBOARD_RATE_LIMIT", "7"),
    );
    assert_eq!(done.code, 0, "{done:?}");
    let warnings: Vec<&str> = done.stderr.lines().collect();
    assert_eq!(warnings.len(), 1, "{done:?}");
    assert!(
        warnings[0].ends_with(
            "the variable SWITCHBOARD_PUBLIC_ULR is unknown and has no effect; the nearest known one is \
             SWITCHBOARD_PUBLIC_URL"
        ),
        "{done:?}"
    );
}

#[test]
fn the_build_sets_no_variable_that_the_program_would_warn_of() {
    // `cargo run` hands the variables of a build to the program.
    let build = include_str!("../../build.rs");
    assert!(build.contains("rustc-env=BUILT_COMMIT"));
    assert!(!build.contains("rustc-env=SWITCHBOARD_"));
}

#[test]
fn a_port_alone_is_served_on_the_loopback_address() {
    for listen in ["0", ":0", "localhost:0", "127.0.0.1:0"] {
        let workspace = with_tenant();
        let mut command = workspace.command(["serve", "--listen", listen]);
        command.args(["--metrics-listen", listen]);
        let server = Server::start(command);
        assert!(
            server.address().starts_with("127.0.0.1:"),
            "{}",
            server.address()
        );
        server.wait_for_log("metrics on http://127.0.0.1:");
        server.stop();
    }
    let workspace = Workspace::new();
    for flag in ["--listen", "--metrics-listen"] {
        let done = workspace.run(["serve", flag, "example.com:80"]);
        assert_eq!(done.code, 2, "{done:?}");
        for form in ["localhost:8080", "[::1]:8080", "unix:/run/switchboard.sock"] {
            assert!(done.stderr.contains(form), "{done:?}");
        }
    }
}

/// Starts a server on a socket file.
fn on_socket(workspace: &Workspace, socket: &str) -> Server {
    let mut command = workspace.command(["serve", "--listen", socket]);
    command.args(["--env", "demo"]);
    Server::start(command)
}

fn get(path: &std::path::Path, what: &str) -> crate::process::Reply {
    let mut stream = UnixStream::connect(path).unwrap();
    write!(
        stream,
        "GET {what} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    read_reply(&mut stream).unwrap()
}

#[test]
fn a_server_listens_on_a_socket_file_and_removes_it_at_its_end() {
    let workspace = Workspace::with_demo_world();
    let path = workspace.path().join("s.sock");
    let socket = format!("unix:{}", path.display());
    let server = on_socket(&workspace, &socket);
    let file = fs::metadata(&path).unwrap();
    assert!(file.file_type().is_socket());
    assert_eq!(file.permissions().mode() & 0o777, 0o660);
    assert_eq!(get(&path, "/ready").status, 200);
    let healthy = workspace.run(["health", "--listen", &socket]);
    assert_eq!(
        healthy.stdout,
        format!("ok: {socket} is ready{}\n", one_node()),
        "{healthy:?}"
    );

    let other = Workspace::with_demo_world();
    let refused = other.run(["serve", "--env", "demo", "--listen", &socket]);
    assert!(
        refused.failure().contains("another program listens there"),
        "{refused:?}"
    );
    assert_eq!(get(&path, "/ready").status, 200);

    let link = workspace.run(["login-link", "--tenant", "northwind-it"]);
    assert!(link.failure().contains("--public-url"), "{link:?}");
    server.stop();
    assert!(!path.exists());
}

#[test]
fn a_socket_file_that_nobody_listens_on_is_replaced_and_another_file_is_not() {
    let workspace = Workspace::with_demo_world();
    let path = workspace.path().join("s.sock");
    let socket = format!("unix:{}", path.display());
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let server = on_socket(&workspace, &socket);
    assert_eq!(get(&path, "/health").status, 200);
    server.crash();
    assert!(path.exists());
    on_socket(&workspace, &socket).stop();

    fs::write(&path, "text").unwrap();
    let refused = workspace.run(["serve", "--listen", &socket]);
    assert!(refused.failure().contains("is not a socket"), "{refused:?}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "text");
}

/// Runs the program on a socket as systemd does: open as descriptor 3, and named in variables.
const HAND_OVER: &str = r#"
import os, socket, sys
one = socket.socket(); one.bind(("127.0.0.1", 0)); one.listen()
os.dup2(one.fileno(), 3); os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[1], sys.argv[1:])
"#;

#[test]
fn a_socket_that_systemd_hands_over_is_served() {
    let workspace = Workspace::with_demo_world();
    let mut command = Command::new("python3");
    command
        .args(["-c", HAND_OVER, env!("CARGO_BIN_EXE_switchboard"), "serve"])
        .args(["--listen", "192.0.2.1:1"]);
    workspace.sql().name_to(&mut command);
    let server = Server::start(command);
    let line = server.wait_for_log("listening on http://127.0.0.1:");
    assert!(
        line.contains("a socket of systemd; --listen has no effect"),
        "{line}"
    );
    assert_eq!(server.client().get("", "/ready").status, 200);
    server.stop();
}

#[test]
fn the_limit_of_open_files_is_raised_and_a_start_that_lacks_files_says_so() {
    let workspace = with_tenant();
    let limited = |limits: &str, connections: &str| {
        let mut command = Command::new("sh");
        let serve = format!("{limits} && exec \"$0\" \"$@\"");
        command.args(["-c", &serve, env!("CARGO_BIN_EXE_switchboard"), "serve"]);
        command.args(["--listen", "127.0.0.1:0", "--max-connections", connections]);
        workspace.sql().name_to(&mut command);
        Server::start(command)
    };
    let server = limited("ulimit -Sn 256 && ulimit -Hn 1024", "500");
    let limits = fs::read_to_string(server.path("limits")).unwrap();
    let files = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .unwrap();
    let numbers: Vec<&str> = files.split_whitespace().skip(3).take(2).collect();
    assert_eq!(numbers, ["1024", "1024"]);
    let log = server.stop();
    assert!(
        !log.iter().any(|line| line.contains("--max-connections")),
        "{log:#?}"
    );

    let server = limited("ulimit -Sn 256 && ulimit -Hn 1024", "2000");
    let warning = server.wait_for_log("--max-connections");
    assert!(
        warning.contains("may open 1024 files, too few for the 2000 connections of --max-connections and 192 other files"),
        "{warning}"
    );
    assert!(
        warning.ends_with("start with --max-connections 832"),
        "{warning}"
    );
    server.stop();
}

/// What the line of `health` says of a node of its own database.
fn one_node() -> &'static str {
    match is_on_postgres() {
        true => " (PostgreSQL, 1 node)",
        false => "",
    }
}

#[test]
fn health_is_one_line_and_exit_0_only_for_a_server_that_can_work() {
    let workspace = with_tenant();
    let server = workspace.serve::<&str>([]);
    let url = format!("http://{}", server.address());
    let done = workspace.run(["health", "--url", &url]);
    assert_eq!(
        (done.code, done.stdout),
        (0, format!("ok: {url} is ready{}\n", one_node()))
    );
    let mut command = workspace.command(["health"]);
    let done = finish(command.env("SWITCHBOARD_LISTEN", format!("0.0.0.0:{}", server.port())));
    assert_eq!(
        done.stdout,
        format!(
            "ok: http://127.0.0.1:{} is ready{}\n",
            server.port(),
            one_node()
        )
    );
    let address = server.address().to_owned();
    server.stop();
    let done = workspace.run(["health", "--listen", &address]);
    assert!(
        done.failure().starts_with(&format!("cannot reach {url}: ")),
        "{done:?}"
    );
    assert_eq!(done.stdout, "");
}

#[test]
fn a_command_that_only_reads_makes_no_folder_and_names_the_path() {
    sqlite_only!();
    let workspace = Workspace::new();
    let seed = workspace.file("seed.json", json!({"tenants": []}).to_string());
    let list = workspace.file("list.csv", "psa_company_id\n1\n");
    for line in [
        &["tenants", "list"][..],
        &["keys", "list", "--tenant", "n"],
        &["keys", "create", "--tenant", "n", "--name", "n"],
        &["export"],
        &["check"],
        &["environment"],
        &["import", &seed, "--dry-run"],
        &["import", &list, "--tenant", "n", "--dry-run"],
        &["import", &list, "--tenant", "n"],
        &["login-link", "--tenant", "n"],
    ] {
        let done = workspace.run(line);
        let expected = format!(
            "there is no data in {}; choose another folder with --data",
            workspace.data().display()
        );
        assert_eq!(done.failure(), expected, "{line:?}");
        assert!(!workspace.data().exists(), "{line:?}");
    }
}

#[test]
fn a_server_logs_its_folder_its_tenants_and_how_to_sign_in() {
    sqlite_only!();
    let workspace = with_tenant();
    let folder = workspace.data();
    let server = workspace.serve::<&str>([]);
    let line = server.wait_for_log("data folder ");
    let expected = format!(
        "data folder {0}: 1 tenant; sign in with a link of: switchboard login-link --tenant CLIENT_ID --data {0}",
        folder.display()
    );
    assert!(line.ends_with(&expected), "{line}");
    server.stop();
    let empty = Workspace::new();
    let line = empty.serve::<&str>([]).wait_for_log("data folder ");
    assert!(
        line.contains(": 0 tenants; create a tenant with: switchboard tenants create --client-id ID --name NAME --data "),
        "{line}"
    );
}

#[test]
fn a_folder_remembers_the_environment_of_its_server() {
    let workspace = with_tenant();
    let (_, key) = workspace.new_key("northwind-it", "early");
    assert!(
        key.starts_with("neo_sk_dev_"),
        "a folder that remembers nothing: {key}"
    );
    workspace.serve(["--env", "prod"]).stop();
    assert_eq!(workspace.ok(["environment"]), "prod\n");
    let (_, key) = workspace.new_key("northwind-it", "script");
    assert!(key.starts_with("neo_sk_prod_"), "{key}");
    let server = workspace.serve::<&str>([]);
    assert_eq!(server.client().get(&key, "/whoami").status, 200);
    let url = workspace.sql().url();
    let expected = url.map(|url| format!(
        "{url} belongs to the environment prod, but --env (or SWITCHBOARD_ENV) is dev; leave --env out, \
         choose another database, or change this one with 'switchboard environment dev'"
    ));
    let expected = expected.unwrap_or_else(|| format!(
        "the data folder {} belongs to the environment prod, but --env (or SWITCHBOARD_ENV) is dev; leave --env out, \
         choose another folder with --data, or change the folder with 'switchboard environment dev'",
        workspace.data().display()
    ));
    for line in [
        &["--env", "dev", "tenants", "list"][..],
        &["--env", "dev", "export"],
    ] {
        assert_eq!(workspace.run(line).failure(), expected);
    }
    assert_eq!(
        create_key(&workspace, &["--env", "dev"]).failure(),
        expected
    );
    let busy = workspace.run(["environment", "dev"]);
    assert!(
        ["another switchboard serves", "1 server runs on"]
            .iter()
            .any(|told| busy.failure().contains(told)),
        "{busy:?}"
    );
    server.stop();
    assert_eq!(workspace.run(["serve", "--env", "dev"]).failure(), expected);

    let changed = workspace.ok(["environment", "test2"]);
    assert_eq!(
        changed,
        "test2; API keys of prod no longer work: create new ones with 'switchboard keys create'\n"
    );
    assert!(
        create_key(&workspace, &[])
            .stdout
            .contains("\nneo_sk_test2_")
    );
    let reply = workspace.serve::<&str>([]).client().get(&key, "/whoami");
    assert_eq!(
        reply.json()["error"]["details"]["reason"],
        "wrong_environment"
    );
}

#[test]
fn a_server_without_env_settles_the_folder_on_dev_and_a_command_with_env_on_its_own() {
    let served = with_tenant();
    served.serve::<&str>([]).stop();
    let refused = create_key(&served, &["--env", "prod"]);
    assert!(
        refused.failure().contains("belongs to the environment dev"),
        "{refused:?}"
    );

    let told = with_tenant();
    assert!(
        create_key(&told, &["--env", "prod"])
            .stdout
            .contains("\nneo_sk_prod_")
    );
    assert!(create_key(&told, &[]).stdout.contains("\nneo_sk_prod_"));
    let demo = told.run(["demo", "--listen", "127.0.0.1:0"]);
    assert!(
        demo.failure().contains("belongs to the environment prod"),
        "{demo:?}"
    );
}

#[test]
fn a_login_link_leads_to_where_the_running_server_listens() {
    let workspace = Workspace::with_demo_world();
    let link = || {
        let link = workspace.ok(["login-link", "--tenant", "northwind-it"]);
        link.split("/dashboard#code=").next().unwrap().to_owned()
    };
    assert_eq!(link(), "http://127.0.0.1:8080");
    let server = workspace.serve_demo_world();
    assert_eq!(link(), format!("http://{}", server.address()));
    server.crash();
    assert_eq!(link(), "http://127.0.0.1:8080");
    let server = workspace.serve(["--env", "demo", "--public-url", "https://chat.example.com"]);
    assert_eq!(link(), "https://chat.example.com");
    server.stop();
    assert_eq!(link(), "http://127.0.0.1:8080");
}

#[test]
fn completions_and_man_pages_name_every_command() {
    let workspace = Workspace::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = workspace.ok(["completions", shell]);
        for command in ["tenants", "login-link", "health"] {
            assert!(script.contains(command), "{shell}: {command}");
        }
    }
    let folder = workspace.path().join("man");
    workspace.ok(["man", folder.to_str().unwrap()]);
    let page = fs::read_to_string(folder.join("switchboard.1")).unwrap();
    assert!(page.contains("login\\-link"), "{page}");
    let serve = fs::read_to_string(folder.join("switchboard-serve.1")).unwrap();
    assert!(serve.contains("SWITCHBOARD_LISTEN"), "{serve}");
    assert!(!workspace.data().exists());
}

#[test]
fn the_log_says_who_holds_the_write_lock_that_changes_wait_for() {
    sqlite_only!();
    let workspace = with_tenant();
    let (_, key) = workspace.new_key("northwind-it", "script");
    let server = workspace.serve::<&str>([]);
    let agents = server.client().get(&key, "/agents").data();
    let body = json!({"agent_id": agents[0]["agent_id"]});
    let other = rusqlite::Connection::open(workspace.database()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let created = std::thread::spawn({
        let (client, key) = (server.client(), key.clone());
        move || client.post(&key, "/chat/sessions", &body).status
    });
    let line = server.wait_for_log("changes wait for the write lock of ");
    let expected = format!(
        "{}, which the process {} (",
        workspace.database().display(),
        std::process::id()
    );
    assert!(line.contains(&expected), "{line}");
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(created.join().unwrap(), 201);
    server.wait_for_log("1 change waited ");
    server.stop();
}

#[test]
fn check_tells_a_file_that_was_copied_beside_a_server_without_its_log() {
    sqlite_only!();
    let told = "a server had this database open when it was copied";
    let workspace = with_tenant();
    let is_told = |folder: &std::path::Path| {
        let done = workspace.run(["check", "--data", folder.to_str().unwrap()]);
        assert_eq!(done.code, 0, "{done:?}");
        done.stdout.contains(told)
    };
    let copy = |name: &str, files: &[&str]| {
        let folder = workspace.path().join(name);
        fs::create_dir(&folder).unwrap();
        for file in files {
            fs::copy(workspace.data().join(file), folder.join(file)).unwrap();
        }
        folder
    };
    let whole = ["switchboard.db", "switchboard.db-wal"];
    assert!(!is_told(&copy("before", &whole[..1])));
    let failed = workspace.run(["serve", "--listen", "192.0.2.1:1"]);
    assert!(failed.failure().contains("192.0.2.1:1"), "{failed:?}");
    assert!(!is_told(&copy("after a failed start", &whole[..1])));
    let server = workspace.serve::<&str>([]);
    workspace.new_key("northwind-it", "script");
    assert!(!is_told(&workspace.data()), "beside the server");
    let alone = copy("alone", &whole[..1]);
    assert!(is_told(&alone) && is_told(&alone));
    let both = copy("both", &whole);
    assert!(!is_told(&both) && !is_told(&both));
    let backup = workspace.path().join("backup.db");
    workspace.ok(["backup", backup.to_str().unwrap()]);
    let restored = workspace.path().join("restored");
    workspace.ok([
        "--data",
        restored.to_str().unwrap(),
        "restore",
        backup.to_str().unwrap(),
    ]);
    assert!(!is_told(&restored));

    let mut command = workspace.command(["serve", "--listen", "127.0.0.1:0", "--data"]);
    command.arg(&alone);
    let other = Server::start(command);
    other.wait_for_log(told);
    other.stop();
    assert!(!is_told(&alone), "a server has told it");

    server.crash();
    assert!(
        !is_told(&workspace.data()) && !is_told(&workspace.data()),
        "after a crash"
    );
    workspace.serve::<&str>([]).stop();
    assert!(!is_told(&copy("after", &whole[..1])));
}
