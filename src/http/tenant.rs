//! The caller, and the caller's tenant (contract, section 7).

use actix_web::web;

use super::App;
use super::edge::admission::Permit;
use super::edge::envelope::{Outcome, Reply};
use crate::model::caller::WhoAmI;
use crate::store::tenants::{self, TenantRecord};

pub(super) async fn who_am_i(caller: Permit) -> Outcome<WhoAmI> {
    Ok(Reply::ok(caller.who_am_i()))
}

pub(super) async fn get(app: web::Data<App>, caller: Permit) -> Outcome<TenantRecord> {
    let tenant = caller.tenant.no;
    let read = app.store.read(move |reader| tenants::by_no(reader, tenant));
    Ok(Reply::ok(read.await?))
}
