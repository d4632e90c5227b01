//! The command line: help, exit codes, flags and variables, tenants, starts and stops.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use serde_json::json;

use crate::database::sqlite_only;
use crate::process::{
    Client, NORTHWIND, Server, Workspace, finish, id_and_key, program, read_reply,
};

/// Every command with its own flags.
const COMMANDS: &[(&[&str], &[&str])] = &[
    (
        &["serve"],
        &[
            "--listen",
            "--public-url",
            "--any-tenant-id",
            "--rate-limit",
            "--platform-rate-limit",
            "--cors-origin",
            "--workers",
            "--max-connections",
            "--turn-concurrency",
            "--model-url",
            "--model-fast",
            "--model-smart",
            "--model-timeout",
            "--model-first-byte-timeout",
            "--model-api-key-file",
            "--model-context-tokens",
            "--model-reasoning",
            "--drain-seconds",
            "--entra-first-sight",
            "--metrics",
            "--metrics-listen",
        ],
    ),
    (&["demo"], &["--listen"]),
    (&["import"], &["--any-tenant-id"]),
    (&["export"], &["--tenant"]),
    (
        &["tenants", "create"],
        &[
            "--client-id",
            "--name",
            "--entra-tenant-id",
            "--rate-limit",
            "--any-tenant-id",
        ],
    ),
    (&["tenants", "list"], &[]),
    (&["tenants", "delete"], &["--yes"]),
    (&["users", "list"], &["--tenant"]),
    (&["users", "set-role"], &["--tenant", "--role"]),
    (
        &["keys", "create"],
        &["--tenant", "--name", "--platform", "--expires"],
    ),
    (&["keys", "list"], &["--tenant"]),
    (&["keys", "rotate"], &[]),
    (&["keys", "revoke"], &[]),
    (&["backup"], &[]),
    (&["restore"], &[]),
    (&["copy"], &["--from", "--to"]),
    (
        &["login-link"],
        &["--tenant", "--role", "--public-url", "--listen"],
    ),
    (&["health"], &["--url", "--listen"]),
    (&["environment"], &[]),
    (&["completions"], &[]),
    (&["check"], &[]),
];

pub fn with_tenant() -> Workspace {
    let workspace = Workspace::new();
    workspace.ok([
        "tenants",
        "create",
        "--client-id",
        "northwind-it",
        "--name",
        "Northwind IT",
    ]);
    workspace
}

pub fn who_am_i(server: &Server, key: &str) -> u16 {
    server.client().get(key, "/whoami").status
}

#[test]
fn the_help_of_every_command_names_its_flags() {
    let top = finish(&mut program(["--help"]));
    assert_eq!(top.code, 0);
    for (command, flags) in COMMANDS {
        assert!(top.stdout.contains(command[0]), "{command:?}");
        let mut line = command.to_vec();
        line.push("--help");
        let help = finish(&mut program(line));
        assert_eq!((help.code, help.stderr.as_str()), (0, ""), "{command:?}");
        for flag in flags.iter().chain(&["--data", "--env", "--log-format"]) {
            assert!(
                help.stdout.contains(&format!("{flag} "))
                    || help.stdout.contains(&format!("{flag}\n")),
                "{command:?} {flag}: {}",
                help.stdout
            );
        }
    }
}

#[test]
fn every_flag_has_a_variable() {
    for (command, _) in COMMANDS {
        let mut line = command.to_vec();
        line.push("--help");
        let help = finish(&mut program(line)).stdout;
        let lines: Vec<&str> = help.lines().map(str::trim_start).collect();
        for (at, line) in lines.iter().enumerate() {
            // The text of a flag is beside it or, if a flag is long, below it.
            let told = [Some(line), lines.get(at + 1)];
            let has_variable = told
                .iter()
                .flatten()
                .any(|text| text.contains("[env: SWITCHBOARD_"));
            let is_flag = line.starts_with("--");
            assert!(!is_flag || has_variable, "{command:?}: {line}");
        }
    }
}

#[test]
fn the_version_names_the_package_the_commit_and_the_sqlite_library() {
    let done = finish(&mut program(["--version"]));
    let rest = done
        .stdout
        .strip_prefix(concat!(
            "switchboard ",
            env!("CARGO_PKG_VERSION"),
            " (commit "
        ))
        .unwrap_or_else(|| panic!("{done:?}"));
    let (commit, rest) = rest.split_once(", SQLite ").unwrap();
    assert!(!commit.is_empty() && !commit.contains('\n'), "{done:?}");
    assert_eq!(rest.trim_end(), format!("{})", rusqlite::version()));
}

#[test]
fn wrong_usage_is_exit_2_and_touches_no_folder() {
    let workspace = Workspace::new();
    for line in [
        vec![],
        vec!["frobnicate"],
        vec!["keys"],
        vec!["tenants"],
        vec!["import"],
        vec!["import", "a.json", "b.json"],
        vec!["backup"],
        vec!["backup", "a.db", "b.db"],
        vec!["restore"],
        vec!["serve", "--listen", "example.com"],
        vec!["serve", "--rate-limit", "-1"],
        vec!["serve", "--platform-rate-limit", "10000001"],
        vec!["serve", "--workers", "0"],
        vec!["serve", "--public-url", "chat.example.com"],
        vec!["serve", "--nothing"],
        vec!["--env", "Prod", "check"],
        vec!["--env", "", "check"],
        vec!["--env", "abcdefghijklmnopq", "check"],
        vec!["tenants", "create", "--client-id", "northwind-it"],
        vec!["tenants", "create", "--client-id", "North", "--name", "N"],
        vec!["tenants", "create", "--client-id", "n", "--name", ""],
        vec![
            "tenants",
            "create",
            "--client-id",
            "n",
            "--name",
            "n",
            "--rate-limit",
            "1000001",
        ],
        vec!["keys", "create", "--tenant", "northwind-it"],
        vec![
            "keys",
            "create",
            "--tenant",
            "n",
            "--name",
            "n",
            "--expires",
            "tomorrow",
        ],
        vec!["keys", "rotate"],
        vec!["keys", "rotate", "nonsense"],
        vec!["keys", "revoke", "ses_01890a5d-ac96-774b-bcce-b302099a8057"],
    ] {
        let done = workspace.run(&line);
        assert_eq!(done.code, 2, "{line:?}: {done:?}");
        assert_eq!(done.stdout, "", "{line:?}");
        assert!(!done.stderr.is_empty(), "{line:?}");
    }
    assert!(!workspace.data().exists());
}

#[test]
fn a_failure_is_exit_1_with_one_line_that_says_what_is_wrong() {
    let workspace = with_tenant();
    let unknown = "key_01890a5d-ac96-774b-bcce-b302099a8057";
    for (line, says) in [
        (vec!["import", "missing.json"], "missing.json"),
        (vec!["import", "."], "cannot read ."),
        (vec!["export", "--tenant", "nobody"], "nobody"),
        (vec!["export", "--tenant", "No Such"], "No Such"),
        (vec!["keys", "list", "--tenant", "nobody"], "nobody"),
        (
            vec!["keys", "create", "--tenant", "nobody", "--name", "n"],
            "nobody",
        ),
        (
            vec![
                "keys",
                "create",
                "--tenant",
                "northwind-it",
                "--name",
                "n",
                "--expires",
                "2001-01-01T00:00:00Z",
            ],
            "--expires",
        ),
        (vec!["keys", "rotate", unknown], "no valid key"),
        (vec!["keys", "revoke", unknown], "no key"),
        (
            vec![
                "tenants",
                "create",
                "--client-id",
                "northwind-it",
                "--name",
                "Again",
            ],
            "northwind-it",
        ),
        (vec!["serve", "--listen", "192.0.2.1:1"], "192.0.2.1:1"),
    ] {
        let done = workspace.run(&line);
        assert!(done.failure().contains(says), "{line:?}: {done:?}");
        assert_eq!(done.stdout, "", "{line:?}");
    }
}

#[test]
fn the_check_of_a_folder_without_data_fails_and_does_not_create_it() {
    sqlite_only!();
    let workspace = Workspace::new();
    assert!(
        workspace
            .run(["check"])
            .failure()
            .contains("there is no data")
    );
    assert!(!workspace.data().exists());
}

#[test]
fn the_folder_and_its_parents_are_created_and_only_the_owner_has_access() {
    sqlite_only!();
    let workspace = Workspace::new();
    let folder = workspace.path().join("a/b c/données");
    let done = finish(
        program([
            "tenants",
            "create",
            "--client-id",
            "n",
            "--name",
            "N",
            "--data",
        ])
        .arg(&folder)
        .current_dir(workspace.path()),
    );
    assert_eq!((done.code, done.stdout.as_str()), (0, "n\n"), "{done:?}");
    let server = {
        let mut command = program(["serve", "--listen", "127.0.0.1:0", "--data"]);
        command.arg(&folder);
        Server::start(command)
    };
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        names.push(path.file_name().unwrap().to_str().unwrap().to_owned());
    }
    for name in ["switchboard.db", "switchboard.db-wal", "signing.secret"] {
        assert!(names.iter().any(|found| found == name), "{names:?}");
    }
    server.stop();
}

#[test]
fn without_the_data_flag_the_default_folder_in_the_current_directory_is_used() {
    sqlite_only!();
    let workspace = Workspace::new();
    let create = ["tenants", "create", "--client-id", "n", "--name", "N"];
    let done = finish(program(create).current_dir(workspace.path()));
    assert_eq!(done.code, 0, "{done:?}");
    assert!(
        workspace
            .path()
            .join("switchboard-data/switchboard.db")
            .is_file()
    );
}

#[test]
fn a_path_that_cannot_be_a_folder_is_refused_in_one_sentence() {
    sqlite_only!();
    let workspace = Workspace::new();
    let file = workspace.file("occupied", "text");
    for folder in [file.clone(), format!("{file}/below")] {
        let done = workspace.run(["tenants", "list", "--data", &folder]);
        assert!(done.failure().contains("occupied"), "{done:?}");
    }
    assert_eq!(fs::read_to_string(file).unwrap(), "text");
}

#[test]
fn the_variables_of_data_and_env_work_and_the_flags_override_them() {
    sqlite_only!();
    let workspace = with_tenant();
    let listed = workspace.ok(["tenants", "list"]);
    assert!(listed.starts_with("northwind-it\t"));
    let other = workspace.path().join("other");
    let done = finish(workspace.command(["tenants", "list", "--data"]).arg(&other));
    assert!(done.failure().contains(other.to_str().unwrap()), "{done:?}");

    let create = ["keys", "create", "--tenant", "northwind-it", "--name"];
    let done = finish(
        workspace
            .command(create)
            .arg("from the variable")
            .env("SWITCHBOARD_ENV", "staging"),
    );
    assert!(id_and_key(&done.stdout).1.starts_with("neo_sk_staging_"));
    let workspace = with_tenant();
    let done = finish(
        workspace
            .command(create)
            .args(["from the flag", "--env", "prod"])
            .env("SWITCHBOARD_ENV", "staging"),
    );
    assert!(id_and_key(&done.stdout).1.starts_with("neo_sk_prod_"));
    let done = finish(
        workspace
            .command(["tenants", "list"])
            .env("SWITCHBOARD_ENV", "No Good"),
    );
    assert_eq!(done.code, 2, "{done:?}");
}

#[test]
fn the_variables_of_tenants_and_keys_work_and_the_flags_override_them() {
    let workspace = Workspace::new();
    let done = finish(
        workspace
            .command(["tenants", "create"])
            .env("SWITCHBOARD_CLIENT_ID", "fabrikam")
            .env("SWITCHBOARD_NAME", "Fabrikam")
            .env("SWITCHBOARD_ENTRA_TENANT_ID", "FAB-DIR")
            .env("SWITCHBOARD_TENANT_RATE_LIMIT", "7"),
    );
    assert_eq!(done.stdout, "fabrikam\n", "{done:?}");
    let done = finish(
        workspace
            .command(["tenants", "create", "--client-id", "tailspin"])
            .args(["--name", "Tailspin", "--entra-tenant-id", "tail-dir"])
            .args(["--rate-limit", "0"])
            .env("SWITCHBOARD_TENANT_RATE_LIMIT", "7")
            .env("SWITCHBOARD_CLIENT_ID", "fabrikam")
            .env("SWITCHBOARD_NAME", "Fabrikam")
            .env("SWITCHBOARD_ENTRA_TENANT_ID", "fab-dir"),
    );
    assert_eq!(done.stdout, "tailspin\n", "{done:?}");
    let tenants = workspace.ok(["tenants", "list"]);
    let columns: Vec<Vec<&str>> = tenants
        .lines()
        .map(|line| line.split('\t').collect())
        .collect();
    assert_eq!(columns[0][..3], ["fabrikam", "Fabrikam", "fab-dir"]);
    assert_eq!(columns[1][..3], ["tailspin", "Tailspin", "tail-dir"]);
    let exported: serde_json::Value = serde_json::from_str(&workspace.ok(["export"])).unwrap();
    for (tenant, limit) in [(0, 7), (1, 0)] {
        assert_eq!(exported["tenants"][tenant]["rate_limit_per_minute"], limit);
    }

    let variables = [
        ("SWITCHBOARD_TENANT", "fabrikam"),
        ("SWITCHBOARD_NAME", "relay"),
        ("SWITCHBOARD_PLATFORM", "true"),
        ("SWITCHBOARD_EXPIRES", "2999-01-31T00:00:00Z"),
    ];
    let done = finish(workspace.command(["keys", "create"]).envs(variables));
    assert_eq!(done.code, 0, "{done:?}");
    let done = finish(
        workspace
            .command(["keys", "create", "--tenant", "tailspin", "--name", "flags"])
            .args(["--expires", "2998-01-31T00:00:00Z"])
            .envs(variables)
            .env("SWITCHBOARD_PLATFORM", "false"),
    );
    assert_eq!(done.code, 0, "{done:?}");
    let keys = finish(
        workspace
            .command(["keys", "list"])
            .env("SWITCHBOARD_TENANT", "fabrikam"),
    )
    .stdout;
    assert!(keys.contains("\trelay\t") && keys.contains("\tplatform\t"));
    assert!(keys.contains("2999-01-31T00:00:00.000Z"), "{keys}");
    let keys = finish(
        workspace
            .command(["keys", "list", "--tenant", "tailspin"])
            .env("SWITCHBOARD_TENANT", "fabrikam"),
    )
    .stdout;
    assert!(keys.contains("\tflags\t") && !keys.contains("\tplatform\t"));
    assert!(keys.contains("2998-01-31T00:00:00.000Z"), "{keys}");

    let client_ids = |exported: &str| {
        let exported: serde_json::Value = serde_json::from_str(exported).unwrap();
        let tenants = exported["tenants"].as_array().unwrap().clone();
        tenants
            .iter()
            .map(|tenant| tenant["client_id"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let done = finish(
        workspace
            .command(["export"])
            .env("SWITCHBOARD_TENANT", "tailspin"),
    );
    assert_eq!(client_ids(&done.stdout), ["tailspin"]);
    let done = finish(
        workspace
            .command(["export", "--tenant", "fabrikam"])
            .env("SWITCHBOARD_TENANT", "tailspin"),
    );
    assert_eq!(client_ids(&done.stdout), ["fabrikam"]);
    assert_eq!(
        client_ids(&workspace.ok(["export"])),
        ["fabrikam", "tailspin"]
    );
}

#[test]
fn the_variables_of_serve_work_and_the_flags_override_them() {
    let workspace = with_tenant();
    let (_, key) = workspace.new_key("northwind-it", "script");
    let variables = [
        ("SWITCHBOARD_LISTEN", "127.0.0.1:0"),
        ("SWITCHBOARD_PUBLIC_URL", "https://chat.example.com"),
        ("SWITCHBOARD_RATE_LIMIT", "7"),
        ("SWITCHBOARD_PLATFORM_RATE_LIMIT", "70"),
        (
            "SWITCHBOARD_CORS_ORIGIN",
            "https://one.example.com,https://two.example.com",
        ),
        ("SWITCHBOARD_WORKERS", "1"),
        ("SWITCHBOARD_MAX_CONNECTIONS", "10"),
        ("SWITCHBOARD_DRAIN_SECONDS", "1"),
    ];
    let allowed = |server: &Server, origin: &str| {
        let reply = server
            .client()
            .call("GET", &key, "/whoami", &[("origin", origin)], None)
            .unwrap();
        assert_eq!(reply.status, 200, "{reply:?}");
        (
            reply.header("x-ratelimit-limit").map(str::to_owned),
            reply
                .header("access-control-allow-origin")
                .map(str::to_owned),
        )
    };
    let limit = |figure: &str| Some(figure.to_owned());

    let mut command = workspace.command(["serve"]);
    command.envs(variables);
    let server = Server::start(command);
    for origin in ["https://one.example.com", "https://two.example.com"] {
        assert_eq!(
            allowed(&server, origin),
            (limit("7"), Some(origin.to_owned()))
        );
    }
    assert_eq!(
        allowed(&server, "https://three.example.com"),
        (limit("7"), None)
    );
    server.stop();

    let mut command = workspace.command(["serve", "--rate-limit", "9"]);
    command
        .args(["--listen", "127.0.0.1:0"])
        .args(["--cors-origin", "https://three.example.com"])
        .args(["--cors-origin", "https://four.example.com"])
        .envs(variables)
        .env("SWITCHBOARD_LISTEN", "192.0.2.1:1");
    let server = Server::start(command);
    for origin in ["https://three.example.com", "https://four.example.com"] {
        assert_eq!(
            allowed(&server, origin),
            (limit("9"), Some(origin.to_owned()))
        );
    }
    assert_eq!(
        allowed(&server, "https://one.example.com"),
        (limit("9"), None)
    );
    server.stop();

    for (name, _) in variables {
        let mut command = workspace.command(["serve"]);
        let done = finish(command.env(name, "no good"));
        assert_eq!(done.code, 2, "{name}: {done:?}");
    }
}

#[test]
fn tenants_are_created_and_listed_one_a_line() {
    let workspace = Workspace::new();
    let create = |client_id: &str, name: &str, more: &[&str]| {
        let mut line = vec!["tenants", "create", "--client-id", client_id];
        line.extend(["--name", name]);
        line.extend(more);
        workspace.run(line)
    };
    let done = create("zebra", "Zebra\nTabs\there", &[]);
    assert_eq!(done.stdout, "zebra\n", "{done:?}");
    assert_eq!(
        create("alpha", "Alpha", &["--entra-tenant-id", "ABC"]).code,
        0
    );
    let taken = create("beta", "Beta", &["--entra-tenant-id", "abc"]);
    assert!(taken.failure().contains("abc"), "{taken:?}");
    let listed = workspace.ok(["tenants", "list"]);
    let lines: Vec<&str> = listed.lines().collect();
    assert_eq!(lines.len(), 2, "{listed}");
    assert!(lines[0].starts_with("zebra\tZebra Tabs here\t-\t20"));
    assert!(lines[1].starts_with("alpha\tAlpha\tabc\t20"));
    let exported: serde_json::Value = serde_json::from_str(&workspace.ok(["export"])).unwrap();
    for tenant in exported["tenants"].as_array().unwrap() {
        let agents = tenant["agents"].as_array().unwrap();
        assert_eq!(agents.len(), 1, "{tenant}");
        assert_eq!(agents[0]["managed_agent_key"], "NEO_SUPPORT");
    }
}

#[test]
fn a_tenant_cannot_take_a_directory_that_another_tenant_has_installed() {
    let workspace = Workspace::new();
    let world = json!({ "tenants": [{
        "client_id": "northwind-it", "name": "Northwind",
        "agents": [{ "agent_id": 1, "name": "Desk", "audience": "END_USER" }],
        "channels": [{ "internal_name": "Help", "audience": "END_USER", "agent_id": 1,
                       "installs": [{ "end_client_tenant_id": "tail-dir" }] }],
    }] });
    let file = workspace.file("world.json", world.to_string());
    workspace.ok(["import", &file]);
    let create = |client_id: &str, directory: &str| {
        let line = [
            "tenants",
            "create",
            "--client-id",
            client_id,
            "--name",
            "Tailspin",
        ];
        workspace.run(line.into_iter().chain(["--entra-tenant-id", directory]))
    };
    let refused = create("tailspin", "TAIL-dir").failure().to_owned();
    assert!(
        refused.contains(
            "A bot of the tenant northwind-it is installed for the directory tail-dir, so no other tenant can sign \
             in with it. Remove that install first."
        ),
        "{refused}"
    );
    let listed = workspace.ok(["tenants", "list"]);
    assert_eq!(listed.lines().count(), 1, "{listed}");
    assert_eq!(create("tailspin", "elsewhere").code, 0);
}

#[test]
fn an_import_while_the_server_runs_is_served_at_once() {
    let workspace = with_tenant();
    let server = workspace.serve::<&str>([]);
    let (_, key) = workspace.new_key("northwind-it", "script");
    let world = json!({"tenants": [{"client_id": "northwind-it", "name": "Northwind & Sons", "agents": [
        {"agent_id": 7, "name": "Imported"}]}]});
    let file = workspace.file("world.json", world.to_string());
    workspace.ok(["import", &file]);
    let client = server.client();
    assert_eq!(
        client.get(&key, "/tenant").data()["name"],
        "Northwind & Sons"
    );
    assert_eq!(client.get(&key, "/agents/7").data()["name"], "Imported");
    let created = client.post(&key, "/chat/sessions", &json!({"agent_id": 7}));
    assert_eq!(created.status, 201);
    assert!(
        workspace
            .ok(["check"])
            .ends_with("ok: 1 session, 0 messages, 0 warnings\n")
    );
    assert!(workspace.ok(["export"]).contains("Northwind & Sons"));
}

#[test]
fn ids_of_server_and_command_line_grow_together_even_after_the_clock_was_set_back() {
    let workspace = Workspace::with_demo_world();
    // The newest row is an hour ahead of the clock.
    let ahead = "UPDATE tenants SET seq = seq + 3600000 * CAST(4096 AS bigint) WHERE client_id = 'relay-platform'";
    assert_eq!(workspace.sql().execute_sql(ahead), 1);
    let server = workspace.serve_demo_world();
    let mut ids = Vec::new();
    for number in 0..3 {
        ids.push(
            workspace
                .new_key("northwind-it", &format!("script {number}"))
                .0,
        );
        // Both write to the audit trail: the creation of the key, and a session as the company's
        // staff.
        let body = json!({"agent_id": 101, "end_company_id": "1001"});
        let created = server.client().post(NORTHWIND, "/chat/sessions", &body);
        assert_eq!(created.status, 201, "{created:?}");
        ids.push(created.data()["id"].as_str().unwrap().to_owned());
    }
    let bodies: Vec<&str> = ids.iter().map(|id| id.split_once('_').unwrap().1).collect();
    assert!(bodies.is_sorted(), "{ids:#?}");
}

#[test]
fn a_second_server_on_one_folder_is_refused_in_one_sentence() {
    sqlite_only!();
    let workspace = with_tenant();
    let server = workspace.serve::<&str>([]);
    for command in ["serve", "demo"] {
        let done = workspace.run([command, "--listen", "127.0.0.1:0"]);
        let line = done.failure();
        assert!(line.contains("another switchboard serves"), "{line}");
        assert!(line.contains(workspace.data().to_str().unwrap()), "{line}");
        assert_eq!(done.stdout, "");
    }
    assert_eq!(server.client().get("", "/health").status, 200);
    server.stop();
    workspace.serve::<&str>([]).crash();
    workspace.serve::<&str>([]).stop();
}

#[test]
fn a_port_in_use_is_reported_in_one_sentence() {
    let workspace = with_tenant();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let done = workspace.run(["serve", "--listen", &address]);
    assert!(done.failure().contains(&address), "{done:?}");
}

#[test]
fn a_signal_stops_the_server_with_exit_0() {
    for signal in ["TERM", "INT"] {
        let workspace = with_tenant();
        let server = workspace.serve::<&str>([]);
        server.signal(signal);
        let (status, log) = server.wait();
        assert_eq!(status.code(), Some(0), "{signal}: {log:#?}");
        assert!(log.last().unwrap().contains("stopped"), "{log:#?}");
    }
}

#[test]
fn every_clean_exit_leaves_all_data_in_the_one_file() {
    sqlite_only!();
    let workspace = Workspace::with_demo_world();
    let log = workspace.data().join("switchboard.db-wal");
    assert!(!log.exists());
    let server = workspace.serve_demo_world();
    let created = server
        .client()
        .post(NORTHWIND, "/chat/sessions", &json!({"agent_id": 102}));
    assert_eq!(created.status, 201);
    assert!(log.exists());
    server.stop();
    assert!(!log.exists());
    let copy = Workspace::new();
    fs::create_dir(copy.data()).unwrap();
    fs::copy(workspace.database(), copy.database()).unwrap();
    assert!(copy.ok(["check"]).contains("ok: 1 session"));
}

#[test]
fn an_idle_connection_does_not_delay_the_shutdown() {
    let workspace = with_tenant();
    // Far longer than the test's timeout, so that a wait for the drain fails the test.
    let server = workspace.serve(["--drain-seconds", "3600"]);
    let mut kept = TcpStream::connect(server.address()).unwrap();
    kept.write_all(b"GET /health HTTP/1.1\r\nhost: switchboard\r\n\r\n")
        .unwrap();
    assert_eq!(read_reply(&mut kept).unwrap().status, 200);
    server.signal("TERM");
    let mut rest = Vec::new();
    kept.set_read_timeout(Some(std::time::Duration::from_secs(60)))
        .unwrap();
    let ended = kept.read_to_end(&mut rest);
    assert!(ended.is_ok(), "the connection was not closed: {ended:?}");
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log:#?}");
}

#[test]
fn a_request_in_progress_at_the_signal_gets_its_reply() {
    let workspace = with_tenant();
    let (_, key) = workspace.new_key("northwind-it", "script");
    let server = workspace.serve::<&str>([]);
    let client = server.client();
    let agent = client.get(&key, "/agents").data()[0]["agent_id"].clone();
    let body = json!({"agent_id": agent, "title": "half sent when the signal came"}).to_string();
    let mut running = TcpStream::connect(server.address()).unwrap();
    running
        .set_read_timeout(Some(std::time::Duration::from_secs(60)))
        .unwrap();
    let head = format!(
        "POST /chat/sessions HTTP/1.1\r\nhost: switchboard\r\nauthorization: Bearer {key}\r\nexpect: 100-continue\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    running.write_all(head.as_bytes()).unwrap();
    // The interim reply shows that the request is in progress; its body is not sent yet.
    let mut interim = [0; 25];
    running.read_exact(&mut interim).unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    server.signal("TERM");
    server.wait_for_log("shutting down");
    running.write_all(body.as_bytes()).unwrap();
    let reply = read_reply(&mut running).unwrap();
    assert!([201, 503].contains(&reply.status), "{reply:?}");
    assert_eq!(
        reply.json()["meta"]["request_id"].as_str().unwrap().len(),
        36
    );
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log:#?}");
}

#[test]
fn a_closed_pipe_ends_the_command_without_a_panic() {
    let workspace = Workspace::with_demo_world();
    for line in [
        vec!["export"],
        vec!["tenants", "list"],
        vec!["check"],
        vec!["keys", "list", "--tenant", "northwind-it"],
        vec!["--help"],
    ] {
        let mut child = workspace
            .command(&line)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let mut stderr = String::new();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut stderr)
            .unwrap();
        let code = child.wait().unwrap().code();
        assert!(!stderr.contains("panicked"), "{line:?}: {stderr}");
        assert!(matches!(code, Some(0 | 1)), "{line:?}: {code:?}");
        assert!(stderr.lines().count() <= 1, "{line:?}: {stderr}");
    }
}

#[test]
fn an_ipv6_address_is_served_if_the_machine_has_one() {
    let workspace = with_tenant();
    let Ok(listener) = std::net::TcpListener::bind("[::1]:0") else {
        return;
    };
    drop(listener);
    let mut command = workspace.command(["serve"]);
    command.args(["--listen", "[::1]:0"]);
    let server = Server::start(command);
    assert_eq!(Client::new(server.address()).get("", "/ready").status, 200);
}
