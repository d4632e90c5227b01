//! Tenants, which the platform manages (contract, section 7).

use actix_web::{HttpRequest, web};
use schemars::JsonSchema;
use serde::Serialize;

use super::App;
use super::edge::admission::Permit;
use super::edge::context::event_of;
use super::edge::cursor::{self, List, ListQuery};
use super::edge::envelope::{MaybeSerialized, Outcome, Reply};
use super::edge::extract::{Body, FromQuery, Query, QueryString, path_name};
use super::edge::once::{Made, Once};
use crate::error::{Code, Error, Refusal, Result};
use crate::input::draft::TenantDraft;
use crate::input::fields::{Field, Fields, FromFields};
use crate::model::caller::Caller;
use crate::model::ids::Tick;
use crate::model::names::{ClientId, TenantNo};
use crate::store::Extent;
use crate::store::WriteTx;
use crate::store::audit::{self, Event};
use crate::store::rules;
use crate::store::tenants::{self, NewTenant, TenantFilter, TenantRecord};

/// A tenant as the platform sees it.
#[derive(Serialize, JsonSchema)]
pub(super) struct ManagedTenant {
    #[serde(flatten)]
    tenant: TenantRecord,
    /// Requests per minute; null: the server's limit, 0: no limit.
    rate_limit_per_minute: Option<i64>,
    /// The order of creation.
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

impl FromQuery for TenantFilter {
    fn read(query: &QueryString) -> Result<Self> {
        Ok(Self {
            bot_id: query.named("bot_id")?,
            entra_tenant_id: query.directory("entra_tenant_id")?,
            q: query.search()?,
        })
    }
}

pub(super) async fn list(
    app: web::Data<App>,
    caller: Permit,
    Query(query): Query<ListQuery<TenantFilter>>,
) -> Outcome<Vec<ManagedTenant>> {
    let list = List {
        name: "tenants",
        owner: "platform",
    };
    let filter = query.filter;
    cursor::newest_first(
        &app,
        caller.tenant.no,
        &query.page,
        list,
        move |reader, before, limit| {
            let page = tenants::page(reader, &filter, before, limit)?;
            Ok(page.map(|(seq, tenant)| ManagedTenant::of(seq, tenant)))
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
        .read(move |reader| tenants::by_client_id(reader, &client_id))
        .await?
        .ok_or(Code::NotFound)?;
    Ok(Reply::ok(ManagedTenant::of(Tick(0), tenant)))
}

/// The body of a POST.
pub(super) struct TenantRequest {
    client_id: Option<ClientId>,
    draft: TenantDraft,
}

impl FromFields for TenantRequest {
    fn read(fields: &Fields<'_>) -> Self {
        let client_id = fields.required("client_id", fields.named("client_id"));
        let draft = TenantDraft::read(fields);
        fields.required("name", draft.name.clone());
        Self { client_id, draft }
    }
}

pub(super) async fn create(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
    body: Body<TenantRequest>,
) -> Outcome<MaybeSerialized<ManagedTenant>> {
    let new = body.read()?;
    let once = Once::of(&request, &caller, &body)?;
    let (named, rule) = (&new.draft.entra_tenant_id, app.config.directories);
    rules::refuse(rules::unfit_directory("entra_tenant_id", named, None, rule))?;
    let client_id = new
        .client_id
        .ok_or_else(|| Error::internal("a required field is missing"))?;
    let mut event = event_of(&request, &caller, "tenant.create", &client_id);
    let home = home(&caller);
    let created = once.write(&app, Extent::Configuration, move |tx| {
        let tenant = NewTenant::fresh(client_id).changed(&new.draft);
        let no = tenants::create(tx, &tenant)?;
        event.details = tenant.details()?;
        record_for_both(tx, home, no, event)?;
        let tenant = tenants::by_no(tx.reader(), no)?;
        let path = format!("/tenants/{}", tenant.client_id);
        Ok(Made::thing(home, path, ManagedTenant::of(Tick(0), tenant)))
    });
    created.await.map_err(without_tenant_name)
}

/// Removes the name of the installing tenant, which only the operator may see.
fn without_tenant_name(error: Error) -> Error {
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

/// Records a change of a tenant twice: for that tenant, and for the platform account's own tenant.
pub(super) fn record_for_both(
    tx: &mut WriteTx<'_>,
    home: TenantNo,
    of: TenantNo,
    mut event: Event,
) -> Result<()> {
    event.tenant = home;
    audit::record(tx, &event)?;
    if of != home {
        event.tenant = of;
        audit::record(tx, &event)?;
    }
    Ok(())
}

/// The body of a PATCH.
pub(super) struct TenantChange(TenantDraft);

impl FromFields for TenantChange {
    fn read(fields: &Fields<'_>) -> Self {
        let draft = TenantDraft::read(fields);
        if let Field::Null = draft.name {
            fields.refuse("name", "must not be null: it has no default");
        }
        Self(draft)
    }
}

pub(super) async fn patch(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
    body: Body<TenantChange>,
) -> Outcome<ManagedTenant> {
    let TenantChange(draft) = body.read()?;
    let rule = app.config.directories;
    let client_id: ClientId = path_name(&request, "client_id")?;
    let mut event = event_of(&request, &caller, "tenant.update", &client_id);
    let home = home(&caller);
    let tenant = app
        .store
        .write(Extent::Configuration, move |tx| {
            let before = tenants::by_client_id(tx.reader(), &client_id)?.ok_or(Code::NotFound)?;
            let after = tenants::change(tx, &before, &draft, rule)?;
            if after != before {
                event.details = audit::difference(&before.as_new(), &after.as_new())?;
                record_for_both(tx, home, after.no, event)?;
            }
            Ok(after)
        })
        .await
        .map_err(without_tenant_name)?;
    Ok(Reply::ok(ManagedTenant::of(Tick(0), tenant)))
}
