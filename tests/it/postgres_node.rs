//! A node on PostgreSQL as an operator meets it: several hosts, socket files, readiness, health and
//! metrics.

use serde_json::json;

use crate::cluster::{Cluster, command_on, refusal_of, run_on, shared, with};
use crate::metrics::{Scrape, ask};
use crate::process::{Client, DEMO_WORLD, NORTHWIND, Server, finish, program};

const SERVE: [&str; 4] = ["serve", "--listen", "127.0.0.1:0", "--metrics"];

/// Asks until the reply has this status, for up to a minute.
fn wait_for(server: &Server, path: &str, status: u16) -> serde_json::Value {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let reply = ask(server.address(), "GET", path);
        if reply.status == status {
            return serde_json::from_str(&reply.body).unwrap();
        }
        assert!(std::time::Instant::now() < end, "{reply:?}");
        std::thread::yield_now();
    }
}

/// The URL of one database on two clusters.
fn of_both(first: &Cluster, second: &Cluster, database: &str) -> (String, String) {
    let (one, two) = (first.port(), second.port());
    let places = format!("127.0.0.1:{one},127.0.0.1:{two}");
    (
        format!("postgres://switchboard:s3cret@{places}/{database}"),
        format!("postgres://switchboard@{places}/{database}"),
    )
}

#[test]
fn a_node_finds_the_primary_among_several_hosts_also_after_a_failover() {
    let primary = Cluster::start(&[]);
    let database = primary.new_database();
    let standby = primary.standby();
    let alone = (
        standby.url("switchboard", &database),
        standby.shown("switchboard", &database),
    );
    assert_eq!(
        refusal_of(&alone.0, &alone.1),
        "the server is a standby, which takes no changes; name the primary, or all hosts and target_session_attrs=read-write"
    );
    let place = format!("127.0.0.1:{}", standby.port());
    assert_eq!(
        refusal_of(&with(&alone.0, "target_session_attrs=read-write"), &alone.1),
        format!("{place} is a standby or takes no changes; name the primary among the hosts")
    );
    // The standby comes first.
    let (url, _) = of_both(&standby, &primary, &database);
    let url = with(&url, "target_session_attrs=read-write");
    let server = Server::start(command_on(&url, SERVE));
    assert_eq!(
        wait_for(&server, "/ready", 200)["data"]["engine"],
        "postgresql"
    );
    let scrape = Scrape::of(&ask(server.address(), "GET", "/metrics"));
    // The role sees no standby without the right to monitor.
    assert!(!scrape.has("switchboard_replication_lag_bytes"));
    primary.sql("postgres", "GRANT pg_monitor TO switchboard");
    let scrape = Scrape::of(&ask(server.address(), "GET", "/metrics"));
    for unit in ["bytes", "seconds"] {
        let name = format!("switchboard_replication_lag_{unit}");
        assert!(scrape.has(&name) && scrape.value(&format!("{name}{{standby=\"second\"}}")) < 1e9);
    }
    assert_eq!(
        run_on(
            &url,
            [
                "tenants",
                "create",
                "--client-id",
                "before",
                "--name",
                "Before"
            ]
        )
        .code,
        0
    );
    let position = primary.sql("postgres", "SELECT pg_current_wal_lsn()");
    while standby.sql(
        "postgres",
        &format!("SELECT pg_last_wal_replay_lsn() >= '{position}'"),
    ) != "t"
    {
        std::thread::yield_now();
    }

    primary.control(&["stop", "-m", "immediate"]);
    let refused = wait_for(&server, "/ready", 503);
    assert_eq!(refused["error"]["code"], "overloaded");
    // The page is served all the same.
    let scrape = Scrape::of(&ask(server.address(), "GET", "/metrics"));
    assert!(scrape.has("switchboard_nodes") && !scrape.has("switchboard_database_lock_waits"));
    assert_eq!(ask(server.address(), "GET", "/health").status, 200);
    let (_, shown) = of_both(&primary, &standby, &database);
    let (both, _) = of_both(&primary, &standby, &database);
    assert_eq!(
        refusal_of(&with(&both, "target_session_attrs=read-write"), &shown),
        format!(
            "no server listens at 127.0.0.1:{}; start it, or correct the host and the port; {place} is a standby or takes no changes; name the primary among the hosts",
            primary.port()
        )
    );

    standby.control(&["promote", "-w"]);
    wait_for(&server, "/ready", 200);
    assert_eq!(
        run_on(
            &url,
            [
                "tenants",
                "create",
                "--client-id",
                "after",
                "--name",
                "After"
            ]
        )
        .code,
        0
    );
    let listed = run_on(
        &with(&both, "target_session_attrs=read-write"),
        ["tenants", "list"],
    );
    let names: Vec<&str> = listed
        .stdout
        .lines()
        .map(|line| line.split('\t').next().unwrap())
        .collect();
    assert_eq!(names, ["before", "after"], "{listed:?}");
    server.stop();
}

#[test]
fn a_node_is_not_ready_while_the_database_takes_no_changes() {
    let cluster = Cluster::start(&[]);
    let database = cluster.new_database();
    let server = Server::start(command_on(&cluster.url("switchboard", &database), SERVE));
    wait_for(&server, "/ready", 200);
    cluster.sql(
        "postgres",
        "ALTER SYSTEM SET default_transaction_read_only = on",
    );
    cluster.sql("postgres", "SELECT pg_reload_conf()");
    assert_eq!(
        wait_for(&server, "/ready", 503)["error"]["code"],
        "overloaded"
    );
    let mut health = program(["health", "--url", &format!("http://{}", server.address())]);
    assert!(
        finish(&mut health)
            .failure()
            .ends_with("is not ready: 503 overloaded")
    );
    cluster.sql(
        "postgres",
        "ALTER SYSTEM RESET default_transaction_read_only",
    );
    cluster.sql("postgres", "SELECT pg_reload_conf()");
    wait_for(&server, "/ready", 200);
    server.stop();
}

#[test]
fn the_database_is_reached_through_the_folder_of_its_socket() {
    let cluster = shared();
    let database = cluster.new_database();
    let (folder, port) = (cluster.folder().display(), cluster.port());
    // There is no TLS on a socket file, whatever the URL asks for.
    for url in [
        format!(
            "postgres:///{database}?host={folder}&port={port}&user=switchboard&sslmode=require"
        ),
        format!("postgres://switchboard@/{database}?host={folder}&port={port}"),
        format!(
            "postgres://switchboard@{}:{port}/{database}",
            folder.to_string().replace('/', "%2F")
        ),
    ] {
        let done = run_on(&url, ["tenants", "list"]);
        assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{done:?}");
    }
}

#[test]
fn health_readiness_and_metrics_know_the_engine_and_the_nodes() {
    let cluster = shared();
    let database = cluster.new_database();
    let url = cluster.url("switchboard", &database);
    let first = Server::start(command_on(&url, SERVE));
    let second = Server::start(command_on(&url, SERVE));
    // A node learns of others by its heartbeat; the second one saw the first when it joined.
    let health = wait_for(&second, "/health", 200);
    assert_eq!(
        health["data"],
        json!({ "status": "ok", "version": env!("CARGO_PKG_VERSION"), "engine": "postgresql", "nodes": 2 })
    );
    assert_eq!(
        wait_for(&second, "/ready", 200)["data"],
        json!({ "status": "ready", "engine": "postgresql", "nodes": 2 })
    );
    let server = format!("http://{}", second.address());
    let mut command = program(["health", "--url", &server]);
    let done = finish(&mut command);
    assert_eq!(
        done.stdout,
        format!("ok: {server} is ready (PostgreSQL, 2 nodes)\n"),
        "{done:?}"
    );

    let scrape = Scrape::of(&ask(second.address(), "GET", "/metrics"));
    for (series, value) in [
        ("switchboard_engine_info{engine=\"postgresql\"}", 1.0),
        ("switchboard_nodes", 2.0),
        ("switchboard_leases_lost_total", 0.0),
        ("switchboard_database_connections_max", 10.0),
        ("switchboard_database_waiting", 0.0),
        ("switchboard_database_lock_waits", 0.0),
        ("switchboard_writable", 1.0),
    ] {
        assert!(scrape.has(series.split('{').next().unwrap()), "{series}");
        assert_eq!(scrape.value(series), value, "{series}");
    }
    for name in [
        "switchboard_database_wait_seconds",
        "switchboard_notifications_total",
        "switchboard_database_bytes",
    ] {
        assert!(scrape.has(name), "{name}");
    }
    assert!(!scrape.has("switchboard_wal_bytes"));
    assert!(scrape.value("switchboard_database_connects_total") >= 1.0);
    first.stop();
    second.stop();
}

#[test]
fn a_lock_that_a_change_waits_for_is_counted() {
    let cluster = shared();
    let database = cluster.new_database();
    let url = cluster.url("switchboard", &database);
    let server = Server::start(command_on(&url, SERVE));
    let holder =
        cluster.sql_in_background(&database, "SELECT pg_advisory_lock(21335, 1), pg_sleep(60)");
    let change = std::thread::spawn({
        let url = url.clone();
        move || {
            run_on(
                &url,
                ["tenants", "create", "--client-id", "late", "--name", "Late"],
            )
            .code
        }
    });
    let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let scrape = Scrape::of(&ask(server.address(), "GET", "/metrics"));
        if scrape.value("switchboard_database_lock_waits") == 1.0 {
            break;
        }
        assert!(std::time::Instant::now() < end);
    }
    cluster.sql("postgres", &format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}' AND query LIKE '%pg_sleep%' AND pid <> pg_backend_pid()"));
    drop(holder.wait_with_output());
    assert_eq!(change.join().unwrap(), 0);
    server.stop();
}

#[test]
fn a_node_opens_no_more_connections_than_it_may() {
    let cluster = shared();
    let database = cluster.new_database();
    let url = cluster.url("switchboard", &database);
    let imported = run_on(&url, ["--env", "demo", "import", DEMO_WORLD]);
    assert_eq!(imported.code, 0, "{imported:?}");
    let mut command = command_on(&url, SERVE);
    command.args(["--env", "demo", "--rate-limit", "0"]);
    let server = Server::start(command);
    let ask = |client: Client| {
        for _ in 0..20 {
            let created = client.post(NORTHWIND, "/chat/sessions", &json!({ "agent_id": 102 }));
            let session = created.data()["id"].as_str().unwrap().to_owned();
            let path = format!("/chat/sessions/{session}");
            let message = json!({ "message": "How do I connect to the VPN?" });
            assert_eq!(
                client
                    .post(NORTHWIND, &format!("{path}/messages"), &message)
                    .status,
                202
            );
            for path in [
                path.as_str(),
                "/chat/sessions",
                "/agents",
                "/stats",
                "/end-companies",
            ] {
                assert_eq!(client.get(NORTHWIND, path).status, 200);
            }
        }
    };
    let callers: Vec<_> = (0..12)
        .map(|_| {
            let client = server.client();
            std::thread::spawn(move || ask(client))
        })
        .collect();
    for caller in callers {
        caller.join().unwrap();
    }
    let count = "SELECT count(*) FROM pg_stat_activity WHERE datname = ";
    let open: usize = cluster
        .sql("postgres", &format!("{count}'{database}'"))
        .parse()
        .unwrap();
    assert!((5..=10).contains(&open), "{open}");
    server.stop();
}
