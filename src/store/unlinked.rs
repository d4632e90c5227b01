//! M365 tenants that were refused for want of exactly one company, for the admin to link (contract, section 6).

use super::{WriteTx, companies};
use crate::error::Result;
use crate::model::names::{M365TenantId, TenantNo};
use crate::resolver::{Linked, NotMapped};

/// Rows that a tenant keeps; beyond them the one that was seen longest ago makes room.
const LIMIT: i64 = 10_000;

const REMEMBER: &str = "
INSERT INTO unlinked_tenants (tenant_no, m365_tenant_id, seq, channel_id, bot_id, attempts, first_seen_at, last_seen_at)
VALUES (?1, ?2, ?3, ?4, ?5, 1, ?6, ?6)
ON CONFLICT (tenant_no, m365_tenant_id) DO UPDATE
SET attempts = attempts + 1, channel_id = excluded.channel_id, bot_id = excluded.bot_id, last_seen_at = excluded.last_seen_at
RETURNING attempts";

const MAKE_ROOM: &str = "
DELETE FROM unlinked_tenants WHERE tenant_no = ?1 AND m365_tenant_id IN (
  SELECT m365_tenant_id FROM unlinked_tenants WHERE tenant_no = ?1
  ORDER BY last_seen_at DESC, seq DESC LIMIT -1 OFFSET ?2)";

/// Remembers a refusal, unless the directory has been linked meanwhile.
///
/// # Errors
/// The file cannot be written.
pub fn remember(tx: &mut WriteTx<'_>, refused: &NotMapped) -> Result<()> {
    let Some(inbound) = &refused.inbound else {
        return Ok(());
    };
    let tenant = refused.tenant.no;
    if let Linked::One(_) = companies::linked(tx.reader(), tenant, inbound)? {
        return Ok(());
    }
    let (now, seq) = (tx.now(), tx.tick());
    let attempts: i64 = tx.reader().one(
        REMEMBER,
        (tenant, inbound, seq, refused.channel, &refused.bot, now),
        |row| row.get("attempts"),
    )?;
    if attempts == 1 {
        tx.reader().execute(MAKE_ROOM, (tenant, LIMIT))?;
    }
    Ok(())
}

const FORGET: &str = "DELETE FROM unlinked_tenants WHERE tenant_no = ?1 AND m365_tenant_id = ?2";

/// Forgets a directory's refusals.
///
/// # Errors
/// The file cannot be written.
pub fn forget(tx: &mut WriteTx<'_>, tenant: TenantNo, directory: &M365TenantId) -> Result<()> {
    tx.reader().execute(FORGET, (tenant, directory)).map(drop)
}
