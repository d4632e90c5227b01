//! Turns that a node claims: of all waiting ones, those of the tenants with the fewest running
//! turns on all nodes.

use super::link::Link;
use crate::error::Result;
use crate::model::ids::{SessionId, Tick};
use crate::model::names::TenantNo;

/// A session whose oldest turn this node may run.
#[derive(Clone, Copy, Debug)]
pub struct Claimed {
    /// The session's tenant.
    pub tenant: TenantNo,
    /// The session.
    pub session: SessionId,
    /// Whether the turn was cancelled, so that only its stream has to end.
    pub is_cancelled: bool,
    /// The greatest tick of the session, whichever node it is of.
    pub(super) last_tick: Tick,
}

/// What a node asks for.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// The lease of the node.
    pub lease: i64,
    /// The most turns.
    pub limit: usize,
    /// Only turns that were cancelled, because there is no slot for others.
    pub only_cancelled: bool,
    /// The most running turns of one tenant on all nodes.
    pub max_of_tenant: usize,
}

/// A session's oldest unsettled turn waits if nobody owns it. Rows that another node claims at the
/// same time are passed over.
const CLAIM: &str = "
WITH running AS (
  SELECT tenant_no, count(*) AS turns FROM turns WHERE terminal_tick IS NULL AND owner_lease IS NOT NULL GROUP BY tenant_no),
waiting AS (
  SELECT t.seq, t.status, coalesce(r.turns, 0) + row_number() OVER (PARTITION BY t.tenant_no ORDER BY t.seq) AS share
  FROM turns t LEFT JOIN running r ON r.tenant_no = t.tenant_no
  WHERE t.terminal_tick IS NULL AND t.owner_lease IS NULL
    AND NOT EXISTS (SELECT 1 FROM turns o WHERE o.session_seq = t.session_seq AND o.terminal_tick IS NULL AND o.seq < t.seq)),
chosen AS (
  SELECT t.seq FROM turns t JOIN waiting w ON w.seq = t.seq
  WHERE t.terminal_tick IS NULL AND t.owner_lease IS NULL AND (w.status = 'CANCELLED' OR (NOT $3 AND w.share <= $4))
  ORDER BY w.share, t.seq LIMIT $2 FOR UPDATE OF t SKIP LOCKED)
UPDATE turns u SET owner_lease = $1 FROM chosen c, sessions s
WHERE u.seq = c.seq AND s.seq = u.session_seq AND EXISTS (SELECT 1 FROM nodes n WHERE n.lease_no = $1)
RETURNING u.tenant_no, s.id, s.last_tick, u.status = 'CANCELLED' AS is_cancelled";

/// Claims turns, each for the lease.
pub(super) fn claim(link: &Link, claim: Claim) -> Result<Vec<Claimed>> {
    let limit = i64::try_from(claim.limit).unwrap_or(i64::MAX);
    let max_of_tenant = i64::try_from(claim.max_of_tenant).unwrap_or(i64::MAX);
    let rows = link.run_native(
        CLAIM,
        &[&claim.lease, &limit, &claim.only_cancelled, &max_of_tenant],
    )?;
    let claimed = rows.iter().map(|row| {
        let id: &[u8] = row.try_get("id")?;
        Ok(Claimed {
            tenant: TenantNo(row.try_get("tenant_no")?),
            session: SessionId::from_bytes(id.try_into().unwrap_or_default()),
            is_cancelled: row.try_get("is_cancelled")?,
            last_tick: Tick(row.try_get("last_tick")?),
        })
    });
    claimed.collect()
}
