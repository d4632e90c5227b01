//! Retention: removes sessions that were idle for too long (contract, section 7).

use std::time::Duration;

use serde_json::Map;

use super::sql::Reader;
use super::stats::DAY;
use super::{Extent, LongRead, Store, WriteTx, audit, sessions, turns};
use crate::error::Result;
use crate::model::caller::Actor;
use crate::model::clock::Millis;
use crate::model::ids::{SessionId, Tick};
use crate::model::names::TenantNo;
use crate::model::words::CallerKind;

/// Sessions that one change removes. Other writes have to wait: the words of each title leave the
/// search index at once.
const BATCH: usize = 16;
/// How long a batch waits until the search index has caught up.
const INDEX_LIMIT: Duration = Duration::from_secs(60);
/// Sessions that one scan reads.
const SCAN: usize = 1_000;

const RETENTION: &str = "SELECT tenant_no, retention_days FROM tenants WHERE retention_days IS NOT NULL ORDER BY tenant_no";

/// The tenants with a retention period, and its days.
fn retention_periods(reader: &Reader<'_>) -> Result<Vec<(TenantNo, i64)>> {
    reader.all(RETENTION, (), |row| {
        Ok((row.get("tenant_no")?, row.get("retention_days")?))
    })
}

/// Sessions that were created before the limit, oldest first, and whether each was idle since.
///
/// Only sessions that were created before the limit can be idle, and each pass leaves few of them.
/// So the query needs no index over the time of the last change, which every append would update.
pub const CANDIDATES: &str = "
SELECT s.seq AS seq, s.id AS id,
       s.updated_at < ?5 AND NOT EXISTS (SELECT 1 FROM turns t WHERE t.session_seq = s.seq AND t.terminal_tick IS NULL) AS is_idle
FROM sessions s WHERE s.tenant_no = ?1 AND s.archived = ?2 AND s.seq > ?3 AND s.seq < ?4 ORDER BY s.seq LIMIT ?6";

struct Candidate {
    seq: Tick,
    id: SessionId,
    is_idle: bool,
}

/// The bounds of a pass.
#[derive(Clone, Copy)]
struct Scan {
    tenant: TenantNo,
    archived: bool,
    before: Millis,
    limit: usize,
}

impl Scan {
    fn after(self, reader: &Reader<'_>, after: Tick) -> Result<Vec<Candidate>> {
        let end = Tick::new(self.before, 0);
        let params = (
            self.tenant,
            self.archived,
            after,
            end,
            self.before,
            self.limit,
        );
        reader.all(CANDIDATES, params, |row| {
            Ok(Candidate {
                seq: row.get("seq")?,
                id: row.get("id")?,
                is_idle: row.get("is_idle")?,
            })
        })
    }
}

impl Store {
    /// Removes every session, archived or not, that was idle for longer than its tenant's retention
    /// period. Returns the number of removed sessions.
    ///
    /// Calls `on_removed` for each session after its removal is on disk. If an error ends the pass,
    /// the sessions that were removed before stay removed.
    pub async fn purge_sessions(
        &self,
        on_removed: impl Fn(SessionId) + Clone + Send + 'static,
    ) -> Result<usize> {
        let mut removed = 0;
        for (tenant, days) in self
            .read_long(LongRead::List, None, retention_periods)
            .await?
        {
            let before = self.now() - days * DAY;
            for archived in [true, false] {
                let scan = Scan {
                    tenant,
                    archived,
                    before,
                    limit: SCAN,
                };
                let mut after = Tick(-1);
                loop {
                    let candidates = self
                        .read_long(LongRead::List, None, move |reader| {
                            scan.after(reader, after)
                        })
                        .await?;
                    let Some(last) = candidates.last() else {
                        break;
                    };
                    after = last.seq;
                    for batch in batches(&candidates) {
                        let on_removed = on_removed.clone();
                        removed += self
                            .write(Extent::Configuration, move |tx| {
                                remove(tx, tenant, batch, on_removed)
                            })
                            .await?;
                        self.maintain_index(INDEX_LIMIT).await;
                    }
                }
            }
        }
        Ok(removed)
    }
}

/// Splits the idle sessions into batches, one for each change.
fn batches(candidates: &[Candidate]) -> Vec<Vec<SessionId>> {
    let idle = candidates.iter().filter(|session| session.is_idle);
    let idle: Vec<SessionId> = idle.map(|session| session.id).collect();
    idle.chunks(BATCH).map(<[SessionId]>::to_vec).collect()
}

const RETENTION_OF: &str = "SELECT retention_days FROM tenants WHERE tenant_no = ?1";

/// Removes the sessions that are still idle by the tenant's current retention period, and records
/// the removal in the audit log.
fn remove(
    tx: &mut WriteTx<'_>,
    tenant: TenantNo,
    batch: Vec<SessionId>,
    on_removed: impl Fn(SessionId) + Send + 'static,
) -> Result<usize> {
    let days: Option<i64> = tx
        .reader()
        .one(RETENTION_OF, [tenant], |row| row.get("retention_days"))?;
    let Some(days) = days else { return Ok(0) };
    let before = tx.now() - days * DAY;
    let mut removed = Vec::with_capacity(batch.len());
    for id in batch {
        tx.lock_session(id.tick())?;
        let is_idle = sessions::by_id(tx.reader(), id)?
            .is_some_and(|session| session.updated_at.0 < before)
            && turns::oldest_unsettled(tx.reader(), id)?.is_none();
        if is_idle {
            sessions::delete(tx, id)?;
            removed.push(id);
        }
    }
    let count = removed.len();
    if count > 0 {
        record(tx, tenant, days, count)?;
        tx.on_commit(move || removed.into_iter().for_each(on_removed));
    }
    Ok(count)
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
