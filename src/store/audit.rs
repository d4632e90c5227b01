//! Who changed, or was refused, what and when: append-only, written in the transaction of the change itself.

use serde_json::{Map, Value};
use uuid::Uuid;

use super::WriteTx;
use crate::error::{Error, Result};
use crate::model::caller::Actor;
use crate::model::ids::AuditId;
use crate::model::names::TenantNo;

/// An audit event.
#[derive(Clone, Debug)]
pub struct Event {
    /// Whose records it belongs to.
    pub tenant: TenantNo,
    /// Who did it.
    pub actor: Actor,
    /// What was done, as `noun.verb`.
    pub action: &'static str,
    /// What it was done to.
    pub target: Option<String>,
    /// What else there is to say.
    pub details: Map<String, Value>,
    /// The request that did it.
    pub request_id: Option<Uuid>,
}

const INSERT: &str = "
INSERT INTO audit_events (seq, id, tenant_no, actor_kind, actor_id, actor_name, action, target, details, request_id, created_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";

/// Records an event.
///
/// # Errors
/// The file cannot be written.
pub fn record(tx: &mut WriteTx<'_>, event: &Event) -> Result<()> {
    let id: AuditId = tx.new_id()?;
    let now = tx.now();
    let details =
        serde_json::to_string(&event.details).map_err(|error| Error::Internal(error.into()))?;
    tx.reader()
        .execute(
            INSERT,
            (
                id.tick(),
                id,
                event.tenant,
                event.actor.kind,
                &event.actor.id,
                &event.actor.name,
                event.action,
                &event.target,
                details,
                event.request_id.map(|id| *id.as_bytes()),
                now,
            ),
        )
        .map(drop)
}
