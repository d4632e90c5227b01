//! Who changed, or was refused, what and when: append-only, written in the transaction of the change itself.

use serde::Serialize;
use serde_json::{Map, Value, json};
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
    /// The caller's address.
    pub remote: Option<String>,
}

const INSERT: &str = "
INSERT INTO audit_events (seq, id, tenant_no, actor_kind, actor_id, actor_name, action, target, details, request_id, created_at, remote)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";

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
                &event.remote,
            ),
        )
        .map(drop)
}

/// Characters of a value that an event keeps.
const KEPT: usize = 200;

/// What a change changed: each field with its value before and after, long texts cut.
///
/// # Errors
/// A value that cannot be written as JSON.
pub fn difference<T: Serialize>(before: &T, after: &T) -> Result<Map<String, Value>> {
    let read = |value: &T| {
        serde_json::to_value(value)
            .map(|mut value| {
                value
                    .as_object_mut()
                    .map(std::mem::take)
                    .unwrap_or_default()
            })
            .map_err(|error| Error::Internal(error.into()))
    };
    let (before, after) = (read(before)?, read(after)?);
    let changed = after
        .into_iter()
        .filter(|(name, _)| name != "updated_at" && name != "version")
        .filter_map(|(name, to)| {
            let from = before.get(&name).cloned().unwrap_or(Value::Null);
            (from != to).then(|| (name, json!({ "from": cut(from), "to": cut(to) })))
        });
    let mut details = Map::new();
    details.insert("changed".to_owned(), Value::Object(changed.collect()));
    Ok(details)
}

fn cut(value: Value) -> Value {
    match value {
        Value::String(text) => match text.char_indices().nth(KEPT) {
            Some((end, _)) => format!("{}…", &text[..end]).into(),
            None => Value::String(text),
        },
        Value::Array(items) => items.into_iter().take(20).map(cut).collect(),
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| (name, cut(value)))
            .collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value,
    }
}
