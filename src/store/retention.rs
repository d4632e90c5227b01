//! Removes sessions that were idle for longer than their tenant keeps them (contract, section 7).

use serde_json::Map;

use super::sqlite::Reader;
use super::stats::DAY;
use super::{Store, WriteTx, audit, sessions};
use crate::error::Result;
use crate::model::caller::Actor;
use crate::model::clock::Millis;
use crate::model::ids::{SessionId, Tick};
use crate::model::names::TenantNo;
use crate::model::words::CallerKind;

/// Sessions that one change removes, so that requests wait for little.
const BATCH: usize = 50;
/// Sessions that one step looks at.
const LOOK: usize = 1_000;

const KEEPS: &str = "SELECT tenant_no, retention_days FROM tenants WHERE retention_days IS NOT NULL ORDER BY tenant_no";

fn keeps(reader: &Reader<'_>) -> Result<Vec<(TenantNo, i64)>> {
    reader.all(KEEPS, [], |row| {
        Ok((row.get("tenant_no")?, row.get("retention_days")?))
    })
}

/// Sessions that are old enough to be idle, oldest first; whether each is.
///
/// Only what was made before the limit can have been idle since, and of that little is left after each pass: so it needs no
/// index over the time of the last change, which every append would have to keep.
pub const OLD: &str = "
SELECT s.seq AS seq, s.id AS id,
       s.updated_at < ?5 AND NOT EXISTS (SELECT 1 FROM turns t WHERE t.session_seq = s.seq AND t.terminal_tick IS NULL) AS is_idle
FROM sessions s WHERE s.tenant_no = ?1 AND s.archived = ?2 AND s.seq > ?3 AND s.seq < ?4 ORDER BY s.seq LIMIT ?6";

struct Old {
    seq: Tick,
    id: SessionId,
    is_idle: bool,
}

/// How far a pass has come.
#[derive(Clone, Copy)]
struct Walk {
    tenant: TenantNo,
    archived: bool,
    before: Millis,
    limit: usize,
}

impl Walk {
    fn step(self, reader: &Reader<'_>, after: Tick) -> Result<Vec<Old>> {
        let end = Tick::new(self.before, 0);
        let named = (
            self.tenant,
            self.archived,
            after,
            end,
            self.before,
            self.limit,
        );
        reader.all(OLD, named, |row| {
            Ok(Old {
                seq: row.get("seq")?,
                id: row.get("id")?,
                is_idle: row.get("is_idle")?,
            })
        })
    }
}

impl Store {
    /// Removes, in small changes, every session that was idle, archived or not, for longer than its tenant keeps them.
    ///
    /// Gives those that went, for their readers to be told.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub async fn purge_sessions(&self) -> Result<Vec<SessionId>> {
        let mut gone = Vec::new();
        for (tenant, days) in self.read_long(keeps).await? {
            let before = self.now() - days * DAY;
            let first = gone.len();
            for archived in [true, false] {
                let walk = Walk {
                    tenant,
                    archived,
                    before,
                    limit: LOOK,
                };
                let mut after = Tick(-1);
                loop {
                    let old = self
                        .read_long(move |reader| walk.step(reader, after))
                        .await?;
                    let Some(last) = old.last() else { break };
                    after = last.seq;
                    let idle: Vec<SessionId> = old
                        .iter()
                        .filter(|old| old.is_idle)
                        .map(|old| old.id)
                        .collect();
                    for batch in idle.chunks(BATCH) {
                        let batch = batch.to_vec();
                        gone.extend(self.write(move |tx| remove(tx, batch, before)).await?);
                    }
                }
            }
            let removed = gone.len() - first;
            if removed > 0 {
                self.write(move |tx| record(tx, tenant, days, removed))
                    .await?;
            }
        }
        Ok(gone)
    }
}

/// Removes those that are still idle.
fn remove(tx: &mut WriteTx<'_>, batch: Vec<SessionId>, before: Millis) -> Result<Vec<SessionId>> {
    let mut removed = Vec::with_capacity(batch.len());
    for id in batch {
        let is_idle =
            sessions::by_id(tx.reader(), id)?.is_some_and(|session| session.updated_at.0 < before);
        if is_idle {
            sessions::delete(tx, id)?;
            removed.push(id);
        }
    }
    Ok(removed)
}

fn record(tx: &mut WriteTx<'_>, tenant: TenantNo, days: i64, removed: usize) -> Result<()> {
    let mut details = Map::new();
    details.insert("retention_days".to_owned(), days.into());
    details.insert("sessions".to_owned(), removed.into());
    audit::record(
        tx,
        &audit::Event {
            tenant,
            actor: Actor {
                kind: CallerKind::Operator,
                id: "retention".to_owned(),
                name: None,
            },
            action: "session.purge",
            target: None,
            details,
            request_id: None,
            remote: None,
        },
    )
}
