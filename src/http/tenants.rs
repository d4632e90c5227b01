//! Tenants, for the platform: each is an MSP with its managed agent (contract, section 7).

use actix_web::{HttpRequest, web};
use schemars::JsonSchema;
use serde::Serialize;

use super::App;
use super::context::event_of;
use super::cursor::{self, List};
use super::envelope::{Outcome, Reply};
use super::extract::{Body, Query, path_name};
use super::permit::Permit;
use crate::draft::TenantDraft;
use crate::error::{Code, Error, Refusal, Result};
use crate::fields::{Field, Fields};
use crate::model::caller::Caller;
use crate::model::ids::Tick;
use crate::model::names::{ClientId, TenantNo};
use crate::store::WriteTx;
use crate::store::audit::{self, Event};
use crate::store::tenants::{self, NewTenant, TenantRecord};

/// A tenant as the platform sees it.
#[derive(Serialize, JsonSchema)]
pub(super) struct ManagedTenant {
    #[serde(flatten)]
    tenant: TenantRecord,
    /// Requests a minute; null: the server's figure, 0: no limit.
    rate_limit_per_minute: Option<i64>,
    /// Creation order.
    #[serde(skip)]
    seq: Tick,
}

impl ManagedTenant {
    fn of(seq: Tick, tenant: TenantRecord) -> Self {
        Self {
            rate_limit_per_minute: tenant.rate_limit_per_minute,
            tenant,
            seq,
        }
    }
}

/// The parameters of the list, for the document.
pub(super) fn list_query(query: &Query) {
    drop(query.search());
    cursor::describe(query);
}

pub(super) async fn list(
    app: web::Data<App>,
    caller: Permit,
    query: Query,
) -> Outcome<Vec<ManagedTenant>> {
    let list = List {
        name: "tenants",
        owner: "platform",
    };
    let q = query.search()?.map(str::to_owned);
    cursor::newest_first(
        &app,
        caller.tenant.no,
        &query,
        list,
        move |reader, before, limit| {
            let page = tenants::page(reader, q.as_deref(), before, limit)?;
            Ok(page
                .into_iter()
                .map(|(seq, tenant)| ManagedTenant::of(seq, tenant))
                .collect::<Vec<_>>())
        },
        |tenant: &ManagedTenant| tenant.seq,
    )
    .await
}

pub(super) async fn get(
    app: web::Data<App>,
    _caller: Permit,
    request: HttpRequest,
) -> Outcome<ManagedTenant> {
    let client_id: ClientId = path_name(&request, "client_id")?;
    let tenant = app
        .store
        .read(|reader| tenants::by_client_id(reader, &client_id))?
        .ok_or(Code::NotFound)?;
    Ok(Reply::ok(ManagedTenant::of(Tick(0), tenant)))
}

/// A body that makes a tenant.
struct New {
    client_id: Option<ClientId>,
    draft: TenantDraft,
}

impl New {
    fn read(fields: &Fields<'_>) -> Self {
        let client_id = fields.required("client_id", fields.named("client_id"));
        let draft = TenantDraft::read(fields);
        fields.required("name", draft.name.clone());
        Self { client_id, draft }
    }
}

/// The body of a create, for the document.
pub(super) fn create_body(fields: &Fields<'_>) {
    New::read(fields);
}

pub(super) async fn create(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
    body: Body,
) -> Outcome<ManagedTenant> {
    let new = body.read(New::read)?;
    let client_id = new
        .client_id
        .ok_or_else(|| Error::internal("a required field is missing"))?;
    let mut event = event_of(&request, &caller, "tenant.create", &client_id);
    let home = home(&caller);
    let tenant = app
        .store
        .write(move |tx| {
            let tenant = NewTenant {
                client_id,
                name: String::new(),
                entra_tenant_id: None,
                rate_limit_per_minute: None,
                retention_days: None,
            };
            let tenant = tenant.changed(&new.draft);
            let no = tenants::create(tx, &tenant)?;
            event.details = tenant.details()?;
            record(tx, home, no, event)?;
            tenants::by_no(tx.reader(), no)
        })
        .await
        .map_err(name_no_one)?;
    let client_id = tenant.client_id.clone();
    Ok(Reply::created(
        format_args!("/tenants/{client_id}"),
        ManagedTenant::of(Tick(0), tenant),
    ))
}

/// The store names who installed, for the operator; over the wire nobody is named.
fn name_no_one(error: Error) -> Error {
    match error {
        Error::Refused(refusal) if refusal.code == Code::InstallConflict => Refusal::new(
            Code::InstallConflict,
        )
        .saying(
            "A bot of another tenant is installed for this directory. Remove that install first.",
        )
        .with("field", "entra_tenant_id")
        .into(),
        other @ (Error::Refused(_) | Error::Internal(_)) => other,
    }
}

fn home(caller: &Caller) -> TenantNo {
    caller.tenant.no
}

/// What the platform does to a tenant is told in that tenant's records, and in those of the platform account's own.
fn record(tx: &mut WriteTx<'_>, home: TenantNo, of: TenantNo, mut event: Event) -> Result<()> {
    event.tenant = home;
    audit::record(tx, &event)?;
    if of != home {
        event.tenant = of;
        audit::record(tx, &event)?;
    }
    Ok(())
}

fn read_change(fields: &Fields<'_>) -> TenantDraft {
    let draft = TenantDraft::read(fields);
    if let Field::Null = draft.name {
        fields.refuse("name", "must not be null: a tenant has a name");
    }
    draft
}

/// The body of a change, for the document.
pub(super) fn update_body(fields: &Fields<'_>) {
    read_change(fields);
}

pub(super) async fn patch(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
    body: Body,
) -> Outcome<ManagedTenant> {
    let draft = body.read(read_change)?;
    let client_id: ClientId = path_name(&request, "client_id")?;
    let mut event = event_of(&request, &caller, "tenant.update", &client_id);
    let home = home(&caller);
    let tenant = app
        .store
        .write(move |tx| {
            let tenant = tenants::by_client_id(tx.reader(), &client_id)?.ok_or(Code::NotFound)?;
            let before = tenant.as_new();
            let after = before.changed(&draft);
            if after == before {
                return Ok(tenant);
            }
            tenants::update(tx, tenant.no, &after)?;
            tenants::check_home(tx.reader(), tenant.no)?;
            event.details = audit::difference(&before, &after)?;
            record(tx, home, tenant.no, event)?;
            tenants::by_no(tx.reader(), tenant.no)
        })
        .await
        .map_err(name_no_one)?;
    Ok(Reply::ok(ManagedTenant::of(Tick(0), tenant)))
}
