//! What was done in a time (contract, section 7).

use actix_web::web;

use super::App;
use super::edge::admission::Permit;
use super::edge::envelope::{Outcome, Reply};
use super::edge::extract::{FromQuery, Query, QueryString};
use crate::error::{Refusal, Result};
use crate::model::clock::Millis;
use crate::store::stats::{self, DAY, Stats};

/// What is told when nobody says from when: a week.
const USUAL: Millis = 7 * DAY;
/// The longest time that can be asked for.
const LONGEST: Millis = 366 * DAY;

/// The time range as it was sent.
pub(super) struct Range {
    from: Option<Millis>,
    to: Option<Millis>,
}

impl FromQuery for Range {
    fn read(query: &QueryString) -> Result<Self> {
        Ok(Self {
            from: query.time("from")?,
            to: query.time("to")?,
        })
    }
}

/// The time that is asked for; without an end it is now, without a beginning the week before.
fn range(asked: &Range, now: Millis) -> Result<(Millis, Millis)> {
    let (from, to) = (asked.from, asked.to);
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

pub(super) async fn get(
    app: web::Data<App>,
    caller: Permit,
    Query(asked): Query<Range>,
) -> Outcome<Stats> {
    let (from, to) = range(&asked, app.store.now())?;
    let tenant = caller.tenant.no;
    let stats = app
        .store
        .read_long(Some(caller.tenant.no), move |reader| {
            stats::of(reader, tenant, from, to)
        })
        .await?;
    Ok(Reply::ok(stats))
}
