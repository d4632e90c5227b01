//! The metrics of a node on PostgreSQL.

use super::{Exposition, SampleValue};
use crate::store::postgres::{Postgres, Standby, Status};

/// Writes the metrics of the node, and of its server if that answers.
pub(super) fn write(node: &Postgres, status: Option<&Status>, text: &mut Exposition) {
    let pool = node.pool_metrics();
    text.single(
        "switchboard_nodes",
        "gauge",
        "Nodes that were alive at the last heartbeat, with this one.",
        node.live_nodes(),
    );
    text.single(
        "switchboard_leases_lost_total",
        "counter",
        "Leases that other nodes ended because they took this one for dead.",
        pool.leases_lost.get(),
    );
    let name = "switchboard_notifications_total";
    text.family(name, "counter", "Notifications between nodes by direction.");
    for (direction, count) in [
        ("sent", &pool.notifications_sent),
        ("received", &pool.notifications_received),
    ] {
        let count = count.get();
        text.line(format_args!("{name}{{direction=\"{direction}\"}} {count}"));
    }
    write_pool(node, text);
    let Some(status) = status else { return };
    text.single(
        "switchboard_database_lock_waits",
        "gauge",
        "Connections of all nodes that wait for a lock.",
        status.lock_waits,
    );
    write_standbys(&status.standbys, text);
}

fn write_pool(node: &Postgres, text: &mut Exposition) {
    let pool = node.pool_metrics();
    text.single(
        "switchboard_database_connections_max",
        "gauge",
        "Connections that this node may open.",
        node.connections(),
    );
    text.single(
        "switchboard_database_waiting",
        "gauge",
        "Reads and changes that wait for a connection.",
        node.waiting(),
    );
    let name = "switchboard_database_wait_seconds";
    text.family(
        name,
        "histogram",
        "Time that reads and changes waited for a connection.",
    );
    text.histogram(name, "", SampleValue::Seconds, &pool.waits.read());
    text.single(
        "switchboard_database_connects_total",
        "counter",
        "Connections that were opened.",
        pool.connects.get(),
    );
}

fn write_standbys(standbys: &[Standby], text: &mut Exposition) {
    if standbys.is_empty() {
        return;
    }
    let labels = |standby: &Standby| standby.name.replace('\\', r"\\").replace('"', "\\\"");
    let name = "switchboard_replication_lag_bytes";
    text.family(
        name,
        "gauge",
        "Bytes of the log that a standby has not applied.",
    );
    for standby in standbys {
        let (label, bytes) = (labels(standby), standby.bytes);
        text.line(format_args!("{name}{{standby=\"{label}\"}} {bytes}"));
    }
    let name = "switchboard_replication_lag_seconds";
    text.family(
        name,
        "gauge",
        "Time from a commit to its application by a standby.",
    );
    for standby in standbys {
        let (label, lag) = (labels(standby), SampleValue::Seconds(standby.micros));
        text.line(format_args!("{name}{{standby=\"{label}\"}} {lag}"));
    }
}
