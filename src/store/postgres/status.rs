//! What a node asks its server about itself: whether it takes changes, who waits for locks, and how
//! far the standbys are behind.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::Postgres;
use super::link::Link;
use crate::error::{Code, Result};

/// How long the server may take to answer. A health check waits for less than 4 s.
const ANSWER: Duration = Duration::from_secs(3);

const IS_READ_ONLY: &str = "
SELECT pg_is_in_recovery() OR current_setting('default_transaction_read_only') = 'on' AS is_read_only";
/// A role sees the waits of its own connections.
const LOCK_WAITS: &str = "
SELECT count(*) AS waiting FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'switchboard' AND wait_event_type = 'Lock'";
/// Only a role with `pg_monitor` sees the positions of standbys. Several can have one name.
const STANDBYS: &str = "
SELECT application_name AS name, CAST(max(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)) AS bigint) AS bytes,
       CAST(max(coalesce(extract(epoch FROM replay_lag), 0)) * 1000000 AS bigint) AS micros
FROM pg_stat_replication WHERE replay_lsn IS NOT NULL AND application_name IS NOT NULL
GROUP BY application_name ORDER BY application_name";

/// What the server says of itself.
#[derive(Clone, Debug)]
pub(crate) struct Status {
    /// Connections of all nodes that wait for a lock now.
    pub(crate) lock_waits: u64,
    /// The standbys, if the role may see them.
    pub(crate) standbys: Vec<Standby>,
}

/// A standby, and how far it is behind.
#[derive(Clone, Debug)]
pub(crate) struct Standby {
    /// Its `application_name`.
    pub(crate) name: String,
    /// Bytes of the log that it has not applied.
    pub(crate) bytes: u64,
    /// Microseconds between a commit and its application there.
    pub(crate) micros: u64,
}

impl Postgres {
    /// Checks that the server answers and takes changes.
    ///
    /// # Errors
    /// `overloaded`.
    pub(crate) async fn check_server(&self) -> Result<()> {
        let is_read_only = self.ask(|link| {
            let rows = link.query(IS_READ_ONLY, &[])?;
            let is_read_only = rows.first().map(|row| row.try_get(0)).transpose()?;
            if is_read_only == Some(true) {
                // Another host may be the primary by now.
                link.disconnect();
            }
            Ok(is_read_only.unwrap_or(true))
        });
        match is_read_only.await? {
            true => Err(Code::Overloaded.into()),
            false => Ok(()),
        }
    }

    /// What the server says of itself.
    ///
    /// # Errors
    /// `overloaded` if the server does not answer.
    pub(crate) async fn status(&self) -> Result<Status> {
        self.ask(|link| {
            let rows = link.query(LOCK_WAITS, &[])?;
            let lock_waits = rows.first().map_or(Ok(0), |row| row.try_get::<_, i64>(0))?;
            // A server that is a standby now cannot say how far others are behind.
            let rows = link.query(STANDBYS, &[]).unwrap_or_default();
            let standbys = rows.iter().map(standby).collect::<Result<_, _>>()?;
            Ok(Status {
                lock_waits: lock_waits.unsigned_abs(),
                standbys,
            })
        })
        .await
    }

    /// Runs a look on a connection of the pool, for a short time.
    async fn ask<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Link) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, receiver) = oneshot::channel();
        self.shared.submit(move |link, _| {
            // The read starts a new snapshot if the connection was lost since the last one.
            link.begin_read(None);
            let outcome = look(link);
            link.roll_back();
            drop(reply.send(outcome));
        })?;
        let answer = timeout(ANSWER, crate::store::reply_of(receiver)).await;
        answer.unwrap_or_else(|_| Err(Code::Overloaded.into()))
    }
}

fn standby(row: &tokio_postgres::Row) -> Result<Standby, tokio_postgres::Error> {
    Ok(Standby {
        name: row.try_get("name")?,
        bytes: row.try_get::<_, i64>("bytes")?.unsigned_abs(),
        micros: row.try_get::<_, i64>("micros")?.unsigned_abs(),
    })
}
