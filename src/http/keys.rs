//! API keys of the caller's tenant; a key is shown once, at its creation (contract, section 7).

use actix_web::{HttpRequest, web};
use schemars::JsonSchema;
use serde::Serialize;

use super::App;
use super::edge::admission::Permit;
use super::edge::context::event_of;
use super::edge::cursor::{self, ListQuery};
use super::edge::envelope::{NoContent, Outcome, Reply};
use super::edge::extract::{Body, Query, Search, path_id};
use super::edge::once;
use crate::auth::api_key;
use crate::digest;
use crate::error::{Code, Refusal, Result};
use crate::input::draft::NAME;
use crate::input::fields::{Fields, FromFields};
use crate::model;
use crate::model::clock::{Millis, Timestamp, rfc3339};
use crate::model::ids::KeyId;
use crate::model::names::TenantNo;
use crate::store::keys::{self, KeyRecord, NewKey};
use crate::store::{Extent, Reader, audit};

/// The record of an API key, without the key itself.
#[derive(Serialize, JsonSchema)]
pub(super) struct ApiKey {
    /// The id of the key.
    id: KeyId,
    /// The name of the key.
    name: String,
    /// The last four characters of the key.
    hint: String,
    /// Whether the key belongs to a platform service account.
    platform: bool,
    /// When the key was created.
    created_at: Timestamp,
    /// When the key expires; null if it does not expire.
    expires_at: Option<Timestamp>,
    /// When the key was last used, to the minute; null if it was never used.
    last_used_at: Option<Timestamp>,
    /// When the key was revoked; null if it is not revoked.
    revoked_at: Option<Timestamp>,
}

/// A new API key. No other reply contains the key itself.
#[derive(Serialize, JsonSchema)]
pub(super) struct NewApiKey {
    #[serde(flatten)]
    record: ApiKey,
    /// The key itself. Store it now: it cannot be shown again.
    key: String,
}

impl From<KeyRecord> for ApiKey {
    fn from(key: KeyRecord) -> Self {
        Self {
            id: key.id,
            name: key.name,
            hint: key.hint,
            platform: key.platform,
            created_at: Timestamp(key.created_at),
            expires_at: key.expires_at.map(Timestamp),
            last_used_at: key.last_used_at.map(Timestamp),
            revoked_at: key.revoked_at.map(Timestamp),
        }
    }
}

pub(super) async fn list(
    app: web::Data<App>,
    caller: Permit,
    Query(list): Query<ListQuery<Search>>,
) -> Outcome<Vec<ApiKey>> {
    let q = list.filter.q;
    cursor::of_tenant(
        &app,
        &caller,
        &list.page,
        "keys",
        move |reader, tenant, before, limit| {
            let keys = keys::page(reader, tenant, q.as_deref(), before, limit)?;
            Ok(keys.map(ApiKey::from))
        },
        |key: &ApiKey| key.id.tick(),
    )
    .await
}

pub(super) struct KeyRequest {
    name: String,
    expires_at: Option<Millis>,
}

impl FromFields for KeyRequest {
    fn read(fields: &Fields<'_>) -> Self {
        let name = fields.required_text("name", 1..=NAME);
        if fields.boolean("platform").value() == Some(true) {
            fields.refuse(
                "platform",
                "must not be true; create platform keys on the command line: switchboard keys create --platform",
            );
        }
        Self {
            name,
            expires_at: fields.time("expires_at").value(),
        }
    }
}

pub(super) async fn create(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
    body: Body<KeyRequest>,
) -> Outcome<NewApiKey> {
    let requested = body.read()?;
    if requested
        .expires_at
        .is_some_and(|expires| expires <= app.store.now())
    {
        return Err(Refusal::invalid("expires_at", "must be in the future").into());
    }
    let key = api_key::generate(app.authenticator.environment())?;
    let new = NewKey {
        tenant: caller.tenant.no,
        name: requested.name,
        platform: false,
        expires_at: requested.expires_at,
        sha256: digest::sha256(&key),
        hint: model::api_key::hint(&key),
    };
    let mut event = event_of(&request, &caller, "api_key.create", "");
    let record = app
        .store
        .write(Extent::Configuration, move |tx| {
            let id = keys::create(tx, &new)?;
            event.target = Some(id.to_string());
            event.details.insert("name".to_owned(), new.name.into());
            let expires_at = new.expires_at.map(rfc3339).into();
            event.details.insert("expires_at".to_owned(), expires_at);
            audit::record(tx, &event)?;
            of_tenant(tx.reader(), new.tenant, id)
        })
        .await?;
    Ok(created(record, key).warning(once::ignored(&request)))
}

/// The reply that shows a new key.
fn created(record: KeyRecord, key: String) -> Reply<NewApiKey> {
    let id = record.id;
    let record = record.into();
    Reply::created(format_args!("/api-keys/{id}"), NewApiKey { record, key })
}

/// The tenant's key with this id.
fn of_tenant(reader: &Reader<'_>, tenant: TenantNo, id: KeyId) -> Result<KeyRecord> {
    keys::by_id(reader, id)?
        .filter(|key| key.tenant == tenant)
        .ok_or_else(|| Code::NotFound.into())
}

pub(super) async fn rotate(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
) -> Outcome<NewApiKey> {
    let id: KeyId = path_id(&request, "key_id")?;
    let tenant = caller.tenant.no;
    let key = api_key::generate(app.authenticator.environment())?;
    let (sha256, hint) = (digest::sha256(&key), model::api_key::hint(&key));
    let mut event = event_of(&request, &caller, "api_key.rotate", id);
    let record = app
        .store
        .write(Extent::Configuration, move |tx| {
            let old = of_tenant(tx.reader(), tenant, id)?;
            if old.platform {
                return Err(Refusal::new(Code::Forbidden)
                    .saying(
                        "Platform keys are rotated on the command line: switchboard keys rotate.",
                    )
                    .into());
            }
            // An expired or revoked key cannot be rotated: `not_found`, as for a missing key.
            let (new, old) = keys::rotate(tx, id, sha256, hint)?;
            event.details.insert("name".to_owned(), old.name.into());
            event
                .details
                .insert("new_key".to_owned(), new.to_string().into());
            audit::record(tx, &event)?;
            of_tenant(tx.reader(), tenant, new)
        })
        .await?;
    Ok(created(record, key).warning(once::ignored(&request)))
}

pub(super) async fn revoke(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
) -> Result<NoContent> {
    let id: KeyId = path_id(&request, "key_id")?;
    let tenant = caller.tenant.no;
    let mut event = event_of(&request, &caller, "api_key.revoke", id);
    app.store
        .write(Extent::Configuration, move |tx| {
            let before = of_tenant(tx.reader(), tenant, id)?;
            if before.revoked_at.is_some() {
                return Ok(());
            }
            let key = keys::revoke(tx, id)?;
            event.details.insert("name".to_owned(), key.name.into());
            audit::record(tx, &event)
        })
        .await?;
    Ok(NoContent)
}
