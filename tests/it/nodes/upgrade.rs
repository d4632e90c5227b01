//! A later release's schema beneath nodes of this one.

use super::database::Database;
use super::group::Group;
use super::load::{slow_model, under_load};

/// What a later release may add: the previous one runs beside it.
const EXPAND: &str = "
BEGIN;
CREATE TABLE made_up (seq bigint PRIMARY KEY, note text);
ALTER TABLE sessions ADD COLUMN made_up text;
ALTER TABLE messages ADD COLUMN made_up bigint;
ALTER TABLE turns ADD COLUMN made_up bigint DEFAULT 7;
ALTER TABLE api_keys ADD COLUMN made_up text;
INSERT INTO refinery_schema_history (version, name, applied_on, checksum)
SELECT max(version) + 1, 'made_up', '2030-01-01T00:00:00Z', '1' FROM refinery_schema_history;
COMMIT";

#[test]
fn nodes_run_on_beneath_an_expanding_migration_and_start_on_it() {
    let model = slow_model();
    let group = Group::of_two(&model);
    let report = under_load(&group, |load| {
        load.wait_for(30);
        // The change waits for others, and may have to begin again.
        assert!(
            (0..20).any(|_| group.database.try_run(EXPAND)),
            "the migration does not get through"
        );
        load.wait_for(30);
        // The stopped node's turns go to the other one.
        group.stop(0);
        load.wait_for(10);
        group.run(0);
        group.wait_for_log(0, "runs beside it");
        load.wait_for(30);
    });
    report.tell("a migration", &[]);
}

#[test]
fn a_node_refuses_a_schema_whose_minimum_it_does_not_reach() {
    let model = slow_model();
    let database = Database::make();
    let url = database.url().to_owned();
    let group = Group::start(database, std::slice::from_ref(&url), &model, &[]);
    group.stop(0);
    group.database.run(EXPAND);
    group
        .database
        .run("UPDATE min_reader SET version = (SELECT max(version) FROM refinery_schema_history)");
    let mut command = crate::process::program(["serve", "--listen=127.0.0.1:0"]);
    let done = crate::process::finish(
        command
            .current_dir("/proc")
            .env("SWITCHBOARD_DATABASE", &url),
    );
    let failure = done.failure();
    assert!(
        failure.contains("was written by a newer switchboard"),
        "{failure}"
    );
}
