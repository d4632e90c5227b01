//! Nodes that die, stand still, or lose their database.

use std::time::Duration;

use super::database::Database;
use super::group::Group;
use super::load::{slow_model, under_load};
use super::proxy::Proxy;
use crate::random::{Random, number, seed};

/// A number that `tests/nodes/run.sh` raises.
fn times(variable: &str, few: u64) -> u64 {
    number(variable).unwrap_or(few)
}

#[test]
fn nothing_is_lost_or_answered_twice_when_random_nodes_are_killed_under_load() {
    let model = slow_model();
    let group = Group::of_two(&model);
    let kills = times("SWITCHBOARD_TEST_KILLS", 10);
    let mut random = Random::new(seed());
    let mut take_overs: Vec<Duration> = Vec::new();
    let report = under_load(&group, |load| {
        for kill in 0..kills {
            load.wait_for(5 + random.below(20));
            let node = random.below(group.len());
            let lease = group.lease(node);
            group.kill(node);
            if random.chance(3, 4) {
                take_overs.push(group.database.until_lost(lease));
            }
            // Else it joins again before the other one has noticed.
            group.run(node);
            if kill % 100 == 99 {
                println!("{} kills", kill + 1);
            }
        }
        load.wait_for(20);
    });
    report.tell(&format!("{kills} kills"), &take_overs);
}

#[test]
fn a_node_that_stands_still_for_longer_than_its_lease_stores_and_tells_nothing_of_lost_turns() {
    let model = slow_model();
    let group = Group::of_two(&model);
    let mut random = Random::new(seed());
    let mut take_overs: Vec<Duration> = Vec::new();
    let stops = times("SWITCHBOARD_TEST_STOPS", 3);
    let report = under_load(&group, |load| {
        for _ in 0..stops {
            load.wait_for(20);
            let node = random.below(group.len());
            let lease = group.lease(node);
            group.signal(node, "STOP");
            take_overs.push(group.database.until_lost(lease));
            load.wait_for(10);
            group.signal(node, "CONT");
            group.until_joined();
            assert_ne!(group.lease(node), lease);
        }
    });
    report.tell(&format!("{stops} nodes stood still"), &take_overs);
}

#[test]
#[ignore = "its times do not hold on a busy machine; tests/nodes/run.sh runs it"]
fn a_node_whose_network_to_the_database_freezes_or_is_cut_goes_on_when_it_heals() {
    let database = Database::make();
    let proxy = Proxy::before(database.port());
    let urls = [database.url_at(proxy.port()), database.url().to_owned()];
    let model = slow_model();
    let group = Group::start(database, &urls, &model, &[]);
    let mut take_overs: Vec<Duration> = Vec::new();
    let rounds = times("SWITCHBOARD_TEST_CUTS", 2);
    let report = under_load(&group, |load| {
        for _ in 0..rounds {
            for is_cut in [false, true] {
                load.wait_for(20);
                let lease = group.lease(0);
                if is_cut {
                    proxy.cut();
                } else {
                    proxy.freeze();
                }
                take_overs.push(group.database.until_lost(lease));
                load.wait_for(10);
                proxy.heal();
                group.until_joined();
            }
            // Healed before anybody noticed.
            load.wait_for(10);
            proxy.freeze();
            load.wait_for(3);
            proxy.heal();
            proxy.cut();
            proxy.heal();
        }
        load.wait_for(10);
    });
    report.tell(&format!("{rounds} times frozen and cut"), &take_overs);
}
