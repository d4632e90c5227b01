//! The audit log: append-only, written in the transaction of the change that it records.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::WriteTx;
use super::sql::{Keyset, Reader, Row, Rows, params};
use crate::error::{Error, Result};
use crate::model::caller::Actor;
use crate::model::clock::Timestamp;
use crate::model::ids::{AuditId, Tick};
use crate::model::names::TenantNo;
use crate::text::shorten;

/// An audit event.
#[derive(Clone, Debug)]
pub struct Event {
    /// The tenant whose audit log holds the event.
    pub tenant: TenantNo,
    /// The account that acted.
    pub actor: Actor,
    /// The action, as `noun.verb`.
    pub action: &'static str,
    /// The object of the action.
    pub target: Option<String>,
    /// Further facts.
    pub details: Map<String, Value>,
    /// The id of the request.
    pub request_id: Option<Uuid>,
    /// The caller's address.
    pub remote: Option<String>,
}

impl Event {
    /// Adds a detail.
    pub fn detail(&mut self, name: &str, value: impl Into<Value>) {
        self.details.insert(name.to_owned(), value.into());
    }
}

const INSERT: &str = "
INSERT INTO audit_events (seq, id, tenant_no, actor_kind, actor_id, actor_name, action, target, details, request_id, created_at, remote)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";

/// Records an event.
pub fn record(tx: &mut WriteTx<'_>, event: &Event) -> Result<()> {
    let id: AuditId = tx.new_id()?;
    let now = tx.now();
    let details =
        serde_json::to_string(&event.details).map_err(|error| Error::Internal(error.into()))?;
    tx.execute(
        INSERT,
        params![
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
            &event.remote
        ],
    )
    .map(drop)
}

/// An audit event as the API returns it (contract, section 7).
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Recorded {
    /// The event's id.
    pub id: AuditId,
    /// The account that acted, or tried to.
    pub actor: Actor,
    /// The action, as `noun.verb`; `request.refused` for a refused request.
    pub action: String,
    /// The object of the action.
    pub target: Option<String>,
    /// Further facts.
    pub details: Map<String, Value>,
    /// The caller's address; null for the command line.
    pub remote_address: Option<String>,
    /// The id of the request.
    pub request_id: Option<Uuid>,
    /// The time of the event.
    pub created_at: Timestamp,
}

fn recorded(row: &Row<'_>) -> Result<Recorded> {
    let request_id: Option<[u8; 16]> = row.get("request_id")?;
    Ok(Recorded {
        id: row.get("id")?,
        actor: Actor {
            kind: row.get("actor_kind")?,
            id: row.get("actor_id")?,
            name: row.get("actor_name")?,
        },
        action: row.get("action")?,
        target: row.get("target")?,
        details: row.json("details")?,
        remote_address: row.get("remote")?,
        request_id: request_id.map(Uuid::from_bytes),
        created_at: Timestamp(row.get("created_at")?),
    })
}

macro_rules! page {
    ($range:literal) => {
        concat!(
            "SELECT seq, id, actor_kind, actor_id, actor_name, action, target, details, remote, request_id, created_at FROM audit_events ",
            "WHERE tenant_no = ?1 AND seq < ?4 AND ",
            $range,
            " ORDER BY seq DESC LIMIT ?5"
        )
    };
}

/// The queries of a page: all events, those of an actor, those of an action, and those of both.
pub const PAGES: [&str; 4] = [
    page!("?2 IS NULL AND ?3 IS NULL"),
    page!("actor_id = ?2 AND ?3 IS NULL"),
    page!("?2 IS NULL AND action = ?3"),
    page!("actor_id = ?2 AND action = ?3"),
];

/// The filters of a list of events.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    /// The id of the actor.
    pub actor: Option<String>,
    /// The action.
    pub action: Option<String>,
    /// Words in the target, the actor's name and the details.
    pub q: Option<String>,
}

/// A page of a tenant's events older than a tick, newest first.
pub fn page(
    reader: &Reader<'_>,
    tenant: TenantNo,
    filter: &EventFilter,
    before: Tick,
    limit: usize,
) -> Result<Rows<Recorded>> {
    let [all, of_actor, of_action, of_both] = PAGES;
    let sql = match (&filter.actor, &filter.action) {
        (None, None) => all,
        (Some(_), None) => of_actor,
        (None, Some(_)) => of_action,
        (Some(_), Some(_)) => of_both,
    };
    reader.page_matching(
        filter
            .q
            .as_deref()
            .map(|q| (q, &["target", "actor_name", "details"][..])),
        [sql, sql],
        Keyset { before, limit },
        (tenant, &filter.actor, &filter.action),
        recorded,
    )
}

/// Characters of a text that an event stores.
const MAX_TEXT: usize = 200;
/// Elements of a list that an event stores: as many as a company may have directories.
const MAX_ITEMS: usize = 100;

/// The changed fields, each with its value before and after. Long texts are shortened.
///
/// # Errors
/// `internal_error` if a value cannot be serialized.
pub fn difference<T: Serialize>(before: &T, after: &T) -> Result<Map<String, Value>> {
    let fields = |value: &T| {
        serde_json::to_value(value)
            .map(|mut value| {
                value
                    .as_object_mut()
                    .map(std::mem::take)
                    .unwrap_or_default()
            })
            .map_err(|error| Error::Internal(error.into()))
    };
    let (before, after) = (fields(before)?, fields(after)?);
    let changed = after
        .into_iter()
        .filter(|(name, _)| name != "updated_at" && name != "version")
        .filter_map(|(name, to)| {
            let from = before.get(&name).cloned().unwrap_or(Value::Null);
            (from != to).then(|| {
                (
                    name,
                    serde_json::json!({ "from": truncated(from), "to": truncated(to) }),
                )
            })
        });
    let mut details = Map::new();
    details.insert("changed".to_owned(), Value::Object(changed.collect()));
    Ok(details)
}

fn truncated(value: Value) -> Value {
    match value {
        Value::String(text) => shorten(&text, MAX_TEXT).into(),
        Value::Array(items) => items.into_iter().take(MAX_ITEMS).map(truncated).collect(),
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| (name, truncated(value)))
            .collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value,
    }
}
