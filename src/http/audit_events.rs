//! Who changed or was refused what (contract, section 7).

use actix_web::web;

use super::App;
use super::cursor;
use super::envelope::Outcome;
use super::extract::Query;
use super::permit::Permit;
use crate::error::{Refusal, Result};
use crate::store::audit::{self, EventFilter, Recorded};

fn filter(query: &Query) -> Result<EventFilter> {
    let text = |name: &str| -> Result<Option<String>> {
        match query.text(name) {
            Some("") => Err(Refusal::invalid(name, "must not be empty").into()),
            Some(text) if text.contains('\0') => {
                Err(Refusal::invalid(name, "must not contain U+0000").into())
            }
            text => Ok(text.map(str::to_owned)),
        }
    };
    Ok(EventFilter {
        actor: text("actor")?,
        action: text("action")?,
        q: query.search()?.map(str::to_owned),
    })
}

/// The parameters of the list, for the document.
pub(super) fn list_query(query: &Query) {
    drop(filter(query));
    cursor::describe(query);
}

pub(super) async fn list(
    app: web::Data<App>,
    caller: Permit,
    query: Query,
) -> Outcome<Vec<Recorded>> {
    let filter = filter(&query)?;
    cursor::of_tenant(
        &app,
        &caller,
        &query,
        "audit events",
        move |reader, tenant, before, limit| audit::page(reader, tenant, &filter, before, limit),
        |event| event.id.tick(),
    )
    .await
}
