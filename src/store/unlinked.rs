//! M365 tenants that were refused because not exactly one company is linked to them (contract,
//! section 6).

use schemars::JsonSchema;
use serde::Serialize;

use super::sql::{Reader, Row};
use super::{WriteTx, company_directories};
use crate::error::Result;
use crate::model::clock::Timestamp;
use crate::model::ids::{ChannelId, Tick};
use crate::model::names::{BotId, M365TenantId, TenantNo};
use crate::resolver::{Linked, NotMapped};

/// A directory that was refused, as the API returns it (contract, section 6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct UnlinkedRecord {
    /// The directory.
    pub inbound_tenant_id: M365TenantId,
    /// The channel of the last refusal.
    pub channel_id: Option<ChannelId>,
    /// The bot of the last refusal.
    pub bot_id: Option<BotId>,
    /// The number of refusals.
    pub attempts: i64,
    /// The time of the first refusal.
    pub first_seen_at: Timestamp,
    /// The time of the last refusal.
    pub last_seen_at: Timestamp,
    /// The number of companies that are linked to the directory now.
    pub linked_companies: i64,
    /// The order of the first refusals.
    #[serde(skip)]
    pub seq: Tick,
}

fn record(row: &Row<'_>) -> Result<UnlinkedRecord> {
    Ok(UnlinkedRecord {
        inbound_tenant_id: row.get("m365_tenant_id")?,
        channel_id: row.get("channel_id")?,
        bot_id: row.get("bot_id")?,
        attempts: row.get("attempts")?,
        first_seen_at: Timestamp(row.get("first_seen_at")?),
        last_seen_at: Timestamp(row.get("last_seen_at")?),
        linked_companies: row.get("linked_companies")?,
        seq: row.get("seq")?,
    })
}

/// The index and the SQL of the list.
pub const RANGE: (&str, &str) = ("INDEX unlinked_tenants_newest", PAGE);

const PAGE: &str = "
SELECT m365_tenant_id, channel_id, bot_id, attempts, first_seen_at, last_seen_at,
       (SELECT count(*) FROM company_directories d WHERE d.tenant_no = u.tenant_no AND d.m365_tenant_id = u.m365_tenant_id) AS linked_companies,
       seq
FROM unlinked_tenants u
WHERE tenant_no = ?1 AND seq < ?2
  AND NOT EXISTS (SELECT 1 FROM tenants t WHERE t.tenant_no = u.tenant_no AND t.entra_tenant_id = u.m365_tenant_id)
ORDER BY seq DESC LIMIT ?3";

/// A page of a tenant's refused directories older than a tick, newest first. The directory with which
/// the tenant's own people sign in is left out: older versions recorded it.
pub fn page(
    reader: &Reader<'_>,
    tenant: TenantNo,
    before: Tick,
    limit: usize,
) -> Result<Vec<UnlinkedRecord>> {
    reader.all(PAGE, (tenant, before, limit), record)
}

/// Rows of a tenant. A further row evicts the one with the oldest last refusal.
const LIMIT: i64 = 10_000;

const UPSERT: &str = "
INSERT INTO unlinked_tenants (tenant_no, m365_tenant_id, seq, channel_id, bot_id, attempts, first_seen_at, last_seen_at)
VALUES (?1, ?2, ?3, ?4, ?5, 1, ?6, ?6)
ON CONFLICT (tenant_no, m365_tenant_id) DO UPDATE
SET attempts = unlinked_tenants.attempts + 1, channel_id = excluded.channel_id, bot_id = excluded.bot_id, last_seen_at = excluded.last_seen_at
RETURNING attempts";

const EVICT: &str = "
DELETE FROM unlinked_tenants WHERE tenant_no = ?1 AND m365_tenant_id IN (
  SELECT m365_tenant_id FROM unlinked_tenants WHERE tenant_no = ?1
  ORDER BY last_seen_at DESC, seq DESC LIMIT 9223372036854775807 OFFSET ?2)";

/// Records a refusal, unless exactly one company is linked to the directory by now. An id that
/// names no organization is not recorded, because nobody can link it. Neither is the directory of
/// the tenant's own people, who are no client, nor one that an import is about to link.
pub fn record_refusal(tx: &mut WriteTx<'_>, refused: &NotMapped) -> Result<()> {
    let Some(inbound) = &refused.inbound else {
        return Ok(());
    };
    if refused.is_home || inbound.no_organization().is_some() {
        return Ok(());
    }
    let tenant = refused.tenant.no;
    let is_linked = matches!(
        company_directories::linked(tx.reader(), tenant, inbound)?,
        Linked::One(_)
    );
    if is_linked || company_directories::is_held(tx.reader(), tenant, inbound)? {
        return Ok(());
    }
    let (now, seq) = (tx.now(), tx.tick());
    let attempts: i64 = tx.returning_one(
        UPSERT,
        (tenant, inbound, seq, refused.channel, &refused.bot, now),
        |row| row.get("attempts"),
    )?;
    if attempts == 1 {
        tx.execute(EVICT, (tenant, LIMIT))?;
    }
    Ok(())
}

const DELETE: &str = "DELETE FROM unlinked_tenants WHERE tenant_no = ?1 AND m365_tenant_id = ?2";

/// Deletes the record of a directory. Returns whether there was one.
pub fn delete(tx: &mut WriteTx<'_>, tenant: TenantNo, directory: &M365TenantId) -> Result<bool> {
    Ok(tx.execute(DELETE, (tenant, directory))? > 0)
}
