//! A database server that dies beneath its nodes.

use std::time::Duration;

use super::database::Database;
use super::group::Group;
use super::load::{slow_model, under_load};
use crate::cluster::Cluster;
use crate::random::number;

/// A cluster whose server need not survive a power cut.
fn cluster() -> Cluster {
    Cluster::start(&["fsync = off", "max_connections = 200"])
}

/// A database of a cluster.
fn database(cluster: &Cluster, name: &str) -> Database {
    let port = cluster.port();
    Database::at(format!("postgres://postgres@127.0.0.1:{port}/{name}"))
}

#[test]
fn nothing_acknowledged_is_lost_when_the_server_is_stopped_or_killed_and_starts_again() {
    let cluster = cluster();
    cluster.sql("postgres", "CREATE DATABASE nodes");
    let database = database(&cluster, "nodes");
    let urls = [database.url().to_owned(), database.url().to_owned()];
    let model = slow_model();
    let group = Group::start(database, &urls, &model, &[]);
    let mut pauses: Vec<Duration> = Vec::new();
    let rounds = number("SWITCHBOARD_TEST_RESTARTS").unwrap_or(1);
    let report = under_load(&group, |load| {
        for _ in 0..rounds {
            for how in ["immediate", "fast", "kill"] {
                load.wait_for(30);
                match how {
                    "kill" => cluster.kill(),
                    mode => cluster.control(&["stop", "-w", "-m", mode]),
                }
                cluster.start_again();
                pauses.push(load.wait_for(1));
            }
        }
        load.wait_for(30);
    });
    report.tell(&format!("{} ends of the server", pauses.len()), &pauses);
}

#[test]
fn nodes_go_on_with_a_synchronous_standby_that_is_promoted_after_the_primary_died() {
    let cluster = cluster();
    cluster.sql("postgres", "CREATE DATABASE nodes");
    let standby = cluster.standby();
    let all = database(&cluster, "postgres");
    all.run("ALTER SYSTEM SET synchronous_standby_names = 'second'");
    all.run("SELECT pg_reload_conf()");
    all.until(
        "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'",
        1,
    );
    let url = format!(
        "postgres://postgres@127.0.0.1:{},127.0.0.1:{}/nodes?target_session_attrs=read-write",
        cluster.port(),
        standby.port()
    );
    let model = slow_model();
    let group = Group::start(Database::at(url.clone()), &[url.clone(), url], &model, &[]);
    let mut pauses: Vec<Duration> = Vec::new();
    let report = under_load(&group, |load| {
        load.wait_for(50);
        cluster.kill();
        standby.control(&["promote", "-w"]);
        pauses.push(load.wait_for(1));
        load.wait_for(50);
    });
    report.tell("the standby was promoted", &pauses);
}
