//! M365 tenants that were refused for want of exactly one company, for the admin to link (contract, section 6).

use schemars::JsonSchema;
use serde::Serialize;

use super::sql::{Reader, Row};
use super::{WriteTx, companies};
use crate::error::Result;
use crate::model::clock::Timestamp;
use crate::model::ids::{ChannelId, Tick};
use crate::model::names::{BotId, M365TenantId, TenantNo};
use crate::resolver::{Linked, NotMapped};

/// A directory that was refused, as the wire shows it (contract, section 6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct UnlinkedRecord {
    /// The directory.
    pub inbound_tenant_id: M365TenantId,
    /// The channel that it was refused on last.
    pub channel_id: Option<ChannelId>,
    /// The bot that was written to last.
    pub bot_id: Option<BotId>,
    /// How often it was refused.
    pub attempts: i64,
    /// When it was refused first.
    pub first_seen_at: Timestamp,
    /// When it was refused last.
    pub last_seen_at: Timestamp,
    /// How many companies carry it now.
    pub linked_companies: i64,
    /// Order of the first refusals.
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

/// The list, with the index that it walks.
pub const RANGE: (&str, &str) = ("unlinked_tenants_newest", PAGE);

const PAGE: &str = "
SELECT m365_tenant_id, channel_id, bot_id, attempts, first_seen_at, last_seen_at,
       (SELECT count(*) FROM end_companies e WHERE e.tenant_no = u.tenant_no AND e.m365_tenant_id = u.m365_tenant_id) AS linked_companies,
       seq
FROM unlinked_tenants u WHERE tenant_no = ?1 AND seq < ?2 ORDER BY seq DESC LIMIT ?3";

/// A page of a tenant's refused directories, newest first, from before a tick.
///
/// # Errors
/// The file cannot be read.
pub fn page(
    reader: &Reader<'_>,
    tenant: TenantNo,
    before: Tick,
    limit: usize,
) -> Result<Vec<UnlinkedRecord>> {
    reader.all(PAGE, (tenant, before, limit), record)
}

/// Rows that a tenant keeps; beyond them the one that was seen longest ago makes room.
const LIMIT: i64 = 10_000;

const REMEMBER: &str = "
INSERT INTO unlinked_tenants (tenant_no, m365_tenant_id, seq, channel_id, bot_id, attempts, first_seen_at, last_seen_at)
VALUES (?1, ?2, ?3, ?4, ?5, 1, ?6, ?6)
ON CONFLICT (tenant_no, m365_tenant_id) DO UPDATE
SET attempts = unlinked_tenants.attempts + 1, channel_id = excluded.channel_id, bot_id = excluded.bot_id, last_seen_at = excluded.last_seen_at
RETURNING attempts";

const MAKE_ROOM: &str = "
DELETE FROM unlinked_tenants WHERE tenant_no = ?1 AND m365_tenant_id IN (
  SELECT m365_tenant_id FROM unlinked_tenants WHERE tenant_no = ?1
  ORDER BY last_seen_at DESC, seq DESC LIMIT 9223372036854775807 OFFSET ?2)";

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
    let attempts: i64 = tx.returning_one(
        REMEMBER,
        (tenant, inbound, seq, refused.channel, &refused.bot, now),
        |row| row.get("attempts"),
    )?;
    if attempts == 1 {
        tx.execute(MAKE_ROOM, (tenant, LIMIT))?;
    }
    Ok(())
}

const FORGET: &str = "DELETE FROM unlinked_tenants WHERE tenant_no = ?1 AND m365_tenant_id = ?2";

/// Forgets a directory's refusals; whether there were any.
///
/// # Errors
/// The file cannot be written.
pub fn forget(tx: &mut WriteTx<'_>, tenant: TenantNo, directory: &M365TenantId) -> Result<bool> {
    Ok(tx.execute(FORGET, (tenant, directory))? > 0)
}
