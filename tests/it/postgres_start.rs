//! What a server on PostgreSQL refuses at its start, each in one sentence that says what to do.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use crate::cluster::{Cluster, command_on, refusal_of, run_on, shared, with};
use crate::process::Server;

#[test]
fn a_setting_that_loses_acknowledged_changes_is_refused_wherever_it_is_set() {
    let sentence = "synchronous_commit is off, so that a crash would lose acknowledged changes; set it to on for the server, the database and the role";
    let cluster = shared();
    let database = cluster.new_database();
    let (url, shown) = (
        cluster.url("switchboard", &database),
        cluster.shown("switchboard", &database),
    );
    cluster.sql(
        "postgres",
        &format!("ALTER DATABASE {database} SET synchronous_commit = off"),
    );
    assert_eq!(refusal_of(&url, &shown), sentence);
    cluster.sql(
        "postgres",
        &format!("ALTER DATABASE {database} RESET synchronous_commit"),
    );
    cluster.sql(
        "postgres",
        &format!("ALTER ROLE switchboard IN DATABASE {database} SET synchronous_commit = off"),
    );
    assert_eq!(refusal_of(&url, &shown), sentence);
    cluster.sql(
        "postgres",
        &format!("ALTER ROLE switchboard IN DATABASE {database} RESET synchronous_commit"),
    );
    let in_url = with(&url, "options=-c%20synchronous_commit%3Doff");
    assert_eq!(refusal_of(&in_url, &shown), sentence);
    let done = run_on(&url, ["tenants", "list"]);
    assert_eq!(done.code, 0, "{done:?}");

    let careless = Cluster::start(&["synchronous_commit = off", "ssl = off"]);
    let database = careless.new_database();
    let (url, shown) = (
        careless.url("switchboard", &database),
        careless.shown("switchboard", &database),
    );
    assert_eq!(refusal_of(&url, &shown), sentence);
    // A server without TLS, where TLS is asked for.
    assert_eq!(
        refusal_of(&with(&url, "sslmode=require"), &shown),
        format!(
            "the server at 127.0.0.1:{} has no TLS; set ssl = on there, or use sslmode=disable if you trust the network",
            careless.port()
        )
    );
}

#[test]
fn a_database_that_cannot_hold_every_text_is_refused_with_its_encoding() {
    let cluster = shared();
    for encoding in ["SQL_ASCII", "LATIN1"] {
        let options = format!("ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0");
        let database = cluster.database_of("switchboard", &options);
        assert_eq!(
            refusal_of(
                &cluster.url("switchboard", &database),
                &cluster.shown("switchboard", &database)
            ),
            format!(
                "the database has the encoding {encoding}; create one with: CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0"
            )
        );
    }
}

#[test]
fn a_role_that_may_not_create_tables_is_refused_with_the_grant_that_it_needs() {
    let cluster = shared();
    cluster.sql("postgres", "CREATE ROLE weak LOGIN");
    let database = cluster.new_database();
    let (url, shown) = (
        cluster.url("weak", &database),
        cluster.shown("weak", &database),
    );
    let refusal = refusal_of(&url, &shown);
    let grant = "GRANT USAGE, CREATE ON SCHEMA public TO weak";
    assert_eq!(
        refusal,
        format!("the role weak may not create tables; let it own the database, or run: {grant}")
    );
    cluster.sql(&database, grant);
    let done = run_on(&url, ["tenants", "list"]);
    assert_eq!(done.code, 0, "{done:?}");
    // The tables belong to that role now: another one cannot use them, even if it owns the database.
    cluster.sql(
        &database,
        "GRANT USAGE, CREATE ON SCHEMA public TO switchboard",
    );
    let owner = (
        cluster.url("switchboard", &database),
        cluster.shown("switchboard", &database),
    );
    assert_eq!(
        refusal_of(&owner.0, &owner.1),
        format!(
            "permission denied for table refinery_schema_history; let the role switchboard own the database {database} and its tables"
        )
    );
    cluster.sql(
        "postgres",
        &format!("REVOKE CONNECT ON DATABASE {database} FROM PUBLIC; CREATE ROLE stranger LOGIN"),
    );
    assert_eq!(
        refusal_of(
            &cluster.url("stranger", &database),
            &cluster.shown("stranger", &database)
        ),
        format!(
            "permission denied for database \"{database}\"; let the role stranger own the database {database} and its tables"
        )
    );
}

#[test]
fn a_database_that_takes_no_changes_is_refused() {
    let cluster = shared();
    let database = cluster.new_database();
    cluster.sql(
        "postgres",
        &format!("ALTER DATABASE {database} SET default_transaction_read_only = on"),
    );
    assert_eq!(
        refusal_of(
            &cluster.url("switchboard", &database),
            &cluster.shown("switchboard", &database)
        ),
        "the database takes no changes; set default_transaction_read_only to off"
    );
}

#[test]
fn what_keeps_a_role_out_is_told_with_its_remedy() {
    let cluster = shared();
    let database = cluster.new_database();
    let port = cluster.port();
    let guarded = cluster.url("guarded", &database);
    let shown = cluster.shown("guarded", &database);
    let wrong = guarded.replace("s3cret", "s3cret-not");
    assert_eq!(
        refusal_of(&wrong, &shown),
        "password authentication failed for user \"guarded\"; correct the password in the URL"
    );
    let without = format!("postgres://guarded@127.0.0.1:{port}/{database}");
    assert_eq!(
        refusal_of(&without, &shown),
        format!(
            "the server at 127.0.0.1:{port} asks for a password; give it in SWITCHBOARD_DATABASE or in the file of --database-file"
        )
    );
    // The right one passes, and meets the next refusal.
    assert!(refusal_of(&guarded, &shown).starts_with("the role guarded may not create tables; "));
    assert_eq!(
        refusal_of(
            &cluster.url("nobody", &database),
            &cluster.shown("nobody", &database)
        ),
        "role \"nobody\" does not exist; create the role, or let it in with a line of pg_hba.conf on the server"
    );
    assert_eq!(
        refusal_of(
            &cluster.url("switchboard", "nothing"),
            &cluster.shown("switchboard", "nothing")
        ),
        "database \"nothing\" does not exist; create it with: CREATE DATABASE nothing OWNER switchboard ENCODING 'UTF8' TEMPLATE template0"
    );
    let only_tls = with(&cluster.url("only_tls", &database), "sslmode=disable");
    assert_eq!(
        refusal_of(&only_tls, &cluster.shown("only_tls", &database)),
        format!(
            "pg_hba.conf rejects connection for host \"127.0.0.1\", user \"only_tls\", database \"{database}\", no encryption; create the role, or let it in with a line of pg_hba.conf on the server"
        )
    );
    cluster.sql("postgres", "CREATE ROLE crowded LOGIN CONNECTION LIMIT 0");
    assert_eq!(
        refusal_of(
            &cluster.url("crowded", &database),
            &cluster.shown("crowded", &database)
        ),
        "too many connections for role \"crowded\"; raise max_connections of the server, or lower --database-connections"
    );
}

/// Listens on a port, and does this with the first connection.
fn listening(serve: impl FnOnce(std::net::TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || serve(listener.accept().unwrap().0));
    port
}

#[test]
fn a_place_where_no_server_answers_is_named() {
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let url = |place: &str| format!("postgres://u:s3cret@{place}/db?connect_timeout=1");
    let refusal = |place: &str| refusal_of(&url(place), &format!("postgres://u@{place}/db"));
    let place = format!("127.0.0.1:{closed}");
    assert_eq!(
        refusal(&place),
        format!("no server listens at {place}; start it, or correct the host and the port")
    );
    assert_eq!(
        refusal("no-such-host.invalid"),
        "the name of the host no-such-host.invalid is not known; correct the URL"
    );
    for greeting in [
        "HTTP/1.1 400 Bad Request\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "",
    ] {
        let port = listening(move |mut stream| {
            stream.write_all(greeting.as_bytes()).unwrap();
            drop(stream.read(&mut [0; 8]));
        });
        let place = format!("127.0.0.1:{port}");
        assert_eq!(
            refusal(&place),
            format!("{place} does not speak PostgreSQL's protocol; correct the host and the port")
        );
    }
    let port = listening(|mut stream| drop(stream.read_to_end(&mut Vec::new())));
    let place = format!("127.0.0.1:{port}");
    assert_eq!(
        refusal(&place),
        format!(
            "{place} does not answer as PostgreSQL does; correct the host and the port, or let this machine through the firewall"
        )
    );
    assert_eq!(
        refusal_of(
            "postgres://u:s3cret@%2Fproc%2F1:5433/db",
            "postgres://u@/proc/1:5433/db"
        ),
        "no server listens at /proc/1:5433; start it, or correct the host and the port"
    );
}

#[test]
fn a_database_of_another_program_is_left_alone() {
    let cluster = shared();
    let database = cluster.new_database();
    let (url, shown) = (
        cluster.url("switchboard", &database),
        cluster.shown("switchboard", &database),
    );
    cluster.sql(&database, "CREATE TABLE invoices (id bigint)");
    let sentence = format!(
        "{shown} holds the tables of another program; create a database for Switchboard alone"
    );
    assert_eq!(refusal_of(&url, &shown), sentence);
    // One that is migrated by the same library.
    cluster.sql(&database, "
        CREATE TABLE refinery_schema_history (version int4 PRIMARY KEY, name varchar, applied_on varchar, checksum varchar);
        INSERT INTO refinery_schema_history VALUES (1, 'invoices', '', '0');
        GRANT SELECT ON refinery_schema_history TO switchboard");
    assert_eq!(refusal_of(&url, &shown), sentence);
    assert_eq!(
        cluster.sql(
            &database,
            "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
        ),
        "2"
    );
}

#[test]
fn a_newer_schema_is_refused_unless_it_says_that_this_version_can_run_beside_it() {
    let cluster = shared();
    let database = cluster.new_database();
    let (url, shown) = (
        cluster.url("switchboard", &database),
        cluster.shown("switchboard", &database),
    );
    let done = run_on(&url, ["tenants", "list"]);
    assert_eq!(done.code, 0, "{done:?}");
    let known = cluster.sql(
        &database,
        "SELECT max(version) FROM refinery_schema_history",
    );
    cluster.sql(&database, "INSERT INTO refinery_schema_history (version, name, applied_on, checksum) VALUES (99, 'later', '', '0')");
    let beside = run_on(&url, ["tenants", "list"]);
    assert_eq!(beside.code, 0, "{beside:?}");
    assert!(
        beside.stderr.contains(&format!(
            "{shown} has the newer schema 99; this version knows {known} and runs beside it"
        )),
        "{beside:?}"
    );
    cluster.sql(&database, "UPDATE min_reader SET version = 99");
    assert_eq!(
        run_on(&url, ["tenants", "list"]).failure(),
        format!(
            "{shown} was written by a newer switchboard (its schema is 99 and needs 99, this version supports {known}); use the newer version"
        )
    );
}

#[test]
fn a_database_of_another_environment_is_refused() {
    let cluster = shared();
    let database = cluster.new_database();
    let (url, shown) = (
        cluster.url("switchboard", &database),
        cluster.shown("switchboard", &database),
    );
    let made = run_on(&url, ["--env", "prod", "environment", "prod"]);
    assert_eq!((made.code, made.stdout.as_str()), (0, "prod\n"), "{made:?}");
    let done = run_on(&url, ["serve", "--listen", "127.0.0.1:0", "--env", "test"]);
    assert_eq!(
        done.failure(),
        format!(
            "{shown} belongs to the environment prod, but --env (or SWITCHBOARD_ENV) is test; \
                 leave --env out, choose another database, or change this one with 'switchboard environment test'"
        )
    );
}

#[test]
fn the_password_is_in_no_help_no_message_and_no_line_of_the_log() {
    let cluster = shared();
    let database = cluster.new_database();
    let url = cluster.url("switchboard", &database);
    for (arguments, code) in [
        (&["--help"][..], 0),
        (&["serve", "--help"], 0),
        (&["keys", "create", "--help"], 0),
        (&["tenants", "frobnicate"], 2),
        (&["backup", "copy.db"], 1),
        (&["restore", "copy.db"], 1),
        (
            &["tenants", "list", "--database-file", "/does/not/exist"],
            1,
        ),
    ] {
        let done = run_on(&url, arguments.iter().copied());
        assert_eq!(done.code, code, "{done:?}");
    }
    for wrong in [
        "postgres://u:s3cret@h:port/db",
        "postgres://u:s3cret@h/db?sslmode=s",
        "mysql://u:s3cret@h/db",
    ] {
        assert!(
            run_on(wrong, ["tenants", "list"])
                .failure()
                .starts_with("--database: ")
        );
    }
    let mut command = command_on(&url, ["serve", "--listen", "127.0.0.1:0"]);
    command.env("RUST_LOG", "trace");
    let server = Server::start(command);
    assert_eq!(server.client().get("", "/ready").status, 200);
    let log = server.stop();
    assert!(log.iter().all(|line| !line.contains("s3cret")), "{log:#?}");
    let name = cluster.shown("switchboard", &database);
    assert!(
        log.iter()
            .any(|line| line.contains(&format!("database {name}: 0 tenants"))),
        "{log:#?}"
    );
}
