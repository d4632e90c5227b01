//! Removes sessions that were idle for longer than their tenant keeps them (contract, section 7).

use std::time::Duration;

use serde_json::Map;

use super::sql::Reader;
use super::stats::DAY;
use super::{Extent, Store, WriteTx, audit, sessions, turns};
use crate::error::Result;
use crate::model::caller::Actor;
use crate::model::clock::Millis;
use crate::model::ids::{SessionId, Tick};
use crate::model::names::TenantNo;
use crate::model::words::CallerKind;

/// Sessions that one change removes, so that requests wait for little.
const BATCH: usize = 50;
/// Bytes of files from which a change takes no further session: each freed page is written over.
const BATCH_BYTES: i64 = 16 << 20;
/// How long a step may wait until its sessions' words have left the search index, and what is new has come into it.
const INDEX_LIMIT: Duration = Duration::from_secs(60);
/// Sessions that one step looks at.
const LOOK: usize = 1_000;

const KEEPS: &str = "SELECT tenant_no, retention_days FROM tenants WHERE retention_days IS NOT NULL ORDER BY tenant_no";

fn keeps(reader: &Reader<'_>) -> Result<Vec<(TenantNo, i64)>> {
    reader.all(KEEPS, (), |row| {
        Ok((row.get("tenant_no")?, row.get("retention_days")?))
    })
}

/// Sessions that are old enough to be idle, oldest first; whether each is.
///
/// Only what was made before the limit can have been idle since, and of that little is left after each pass: so it needs no
/// index over the time of the last change, which every append would have to keep.
pub const OLD: &str = "
SELECT s.seq AS seq, s.id AS id,
       s.updated_at < ?5 AND NOT EXISTS (SELECT 1 FROM turns t WHERE t.session_seq = s.seq AND t.terminal_tick IS NULL) AS is_idle,
       (SELECT CAST(coalesce(sum(a.bytes), 0) AS BIGINT) FROM attachments a WHERE a.session_seq = s.seq) AS bytes
FROM sessions s WHERE s.tenant_no = ?1 AND s.archived = ?2 AND s.seq > ?3 AND s.seq < ?4 ORDER BY s.seq LIMIT ?6";

struct Old {
    seq: Tick,
    id: SessionId,
    is_idle: bool,
    /// Of its files.
    bytes: i64,
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
                bytes: row.get("bytes")?,
            })
        })
    }
}

impl Store {
    /// Removes, in small changes, every session that was idle, archived or not, for longer than its tenant keeps them; how many.
    ///
    /// `gone` is told of each once that is on disk.
    ///
    /// # Errors
    /// The file cannot be read or written; what was removed before stays so.
    pub async fn purge_sessions(
        &self,
        gone: impl Fn(SessionId) + Clone + Send + 'static,
    ) -> Result<usize> {
        let mut removed = 0;
        for (tenant, days) in self.read_long(None, keeps).await? {
            let before = self.now() - days * DAY;
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
                        .read_long(None, move |reader| walk.step(reader, after))
                        .await?;
                    let Some(last) = old.last() else { break };
                    after = last.seq;
                    for batch in batches(&old) {
                        let gone = gone.clone();
                        removed += self
                            .write(Extent::Configuration, move |tx| {
                                remove(tx, tenant, batch, gone)
                            })
                            .await?;
                        self.keep_index(INDEX_LIMIT).await;
                    }
                }
            }
        }
        Ok(removed)
    }
}

/// The idle ones, so many together as one change removes.
fn batches(old: &[Old]) -> Vec<Vec<SessionId>> {
    let mut batches: Vec<Vec<SessionId>> = Vec::new();
    let mut bytes = BATCH_BYTES;
    for session in old.iter().filter(|session| session.is_idle) {
        match batches.last_mut() {
            Some(batch) if batch.len() < BATCH && bytes < BATCH_BYTES => batch.push(session.id),
            Some(_) | None => {
                batches.push(vec![session.id]);
                bytes = 0;
            }
        }
        bytes += session.bytes;
    }
    batches
}

const KEEPS_NOW: &str = "SELECT retention_days FROM tenants WHERE tenant_no = ?1";

/// Removes those that are still idle by what the tenant keeps now, and records it in the same change.
fn remove(
    tx: &mut WriteTx<'_>,
    tenant: TenantNo,
    batch: Vec<SessionId>,
    gone: impl Fn(SessionId) + Send + 'static,
) -> Result<usize> {
    let days: Option<i64> = tx
        .reader()
        .one(KEEPS_NOW, [tenant], |row| row.get("retention_days"))?;
    let Some(days) = days else { return Ok(0) };
    let before = tx.now() - days * DAY;
    let mut removed = Vec::with_capacity(batch.len());
    for id in batch {
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
        tx.on_commit(move || removed.into_iter().for_each(gone));
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
