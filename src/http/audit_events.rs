//! Audit events: changes and refused attempts, with their callers (contract, section 7).

use actix_web::web;

use super::App;
use super::edge::admission::Permit;
use super::edge::cursor::{self, ListQuery};
use super::edge::envelope::Outcome;
use super::edge::extract::{FromQuery, Query, QueryString};
use crate::error::{Refusal, Result};
use crate::store::audit::{self, EventFilter, Recorded};

impl FromQuery for EventFilter {
    fn read(query: &QueryString) -> Result<Self> {
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
            q: query.search()?,
        })
    }
}

pub(super) async fn list(
    app: web::Data<App>,
    caller: Permit,
    Query(list): Query<ListQuery<EventFilter>>,
) -> Outcome<Vec<Recorded>> {
    let filter = list.filter;
    cursor::of_tenant(
        &app,
        &caller,
        &list.page,
        "audit events",
        move |reader, tenant, before, limit| audit::page(reader, tenant, &filter, before, limit),
        |event| event.id.tick(),
    )
    .await
}
