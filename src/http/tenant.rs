//! The caller, and the caller's tenant (contract, section 7).

use actix_web::{HttpRequest, web};

use super::App;
use super::edge::admission::Permit;
use super::edge::audited;
use super::edge::context::event_of;
use super::edge::envelope::{Outcome, Reply};
use super::edge::extract::Body;
use crate::input::draft::PagesDraft;
use crate::input::fields::{Fields, FromFields};
use crate::model::caller::WhoAmI;
use crate::store::Reader;
use crate::store::tenants::{self, TenantRecord};

pub(super) async fn who_am_i(caller: Permit) -> Outcome<WhoAmI> {
    Ok(Reply::ok(caller.who_am_i()))
}

pub(super) async fn get(app: web::Data<App>, caller: Permit) -> Outcome<TenantRecord> {
    let tenant = caller.tenant.no;
    let read = app.store.read(move |reader| tenants::by_no(reader, tenant));
    Ok(Reply::ok(read.await?))
}

impl FromFields for PagesDraft {
    fn read(fields: &Fields<'_>) -> Self {
        Self::read(fields)
    }
}

/// Changes what a tenant may say of itself. The platform manages the rest.
pub(super) async fn patch(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
    body: Body<PagesDraft>,
) -> Outcome<TenantRecord> {
    let draft = body.read()?;
    let tenant = caller.tenant.no;
    let event = event_of(&request, &caller, "tenant.update", &caller.tenant.client_id);
    let load = move |reader: &Reader<'_>| tenants::by_no(reader, tenant).map(Some);
    audited::update(&app, event, load, move |tx, before| {
        tenants::change_pages(tx, before, &draft)
    })
    .await
}
