//! What was done in a time (contract, section 7).

use actix_web::web;

use super::App;
use super::envelope::{Outcome, Reply};
use super::extract::Query;
use super::permit::Permit;
use crate::error::{Refusal, Result};
use crate::model::clock::Millis;
use crate::store::stats::{self, DAY, Stats};

/// What is told when nobody says from when: a week.
const USUAL: Millis = 7 * DAY;
/// The longest time that can be asked for.
const LONGEST: Millis = 366 * DAY;

/// The time that is asked for; without an end it is now, without a beginning the week before.
fn range(query: &Query, now: Millis) -> Result<(Millis, Millis)> {
    let (from, to) = (query.time("from")?, query.time("to")?);
    // Up to now includes what happened in this very millisecond.
    let to = to.unwrap_or(now + 1);
    let Some(from) = from else {
        let from = to - USUAL;
        return if from < 0 {
            Err(Refusal::invalid(
                "to",
                "must lie at least a week behind 1970-01-01 where from is not given",
            )
            .into())
        } else {
            Ok((from, to))
        };
    };
    if from < 0 || from >= to {
        return Err(Refusal::invalid("from", "must lie before to").into());
    }
    if to - from > LONGEST {
        return Err(Refusal::invalid("from", "must lie at most 366 days before to").into());
    }
    Ok((from, to))
}

/// The parameters, for the document.
pub(super) fn query(query: &Query) {
    drop(range(query, DAY * 10));
}

pub(super) async fn get(app: web::Data<App>, caller: Permit, query: Query) -> Outcome<Stats> {
    let (from, to) = range(&query, app.store.now())?;
    let tenant = caller.tenant.no;
    let stats = app
        .store
        .read_long(Some(caller.tenant.no), move |reader| {
            stats::of(reader, tenant, from, to)
        })
        .await?;
    Ok(Reply::ok(stats))
}
