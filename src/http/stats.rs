//! Statistics of a time range (contract, section 7).

use actix_web::web;

use super::App;
use super::edge::admission::Permit;
use super::edge::envelope::{Outcome, Reply};
use super::edge::extract::{FromQuery, Query, QueryString};
use crate::error::{Refusal, Result};
use crate::model::clock::{Millis, month_of, month_text, parse_month, start_of_month};
use crate::store::LongRead;
use crate::store::people::{ActiveUsers, Messages};
use crate::store::stats::{self, DAY, Stats};

/// The length of a range without `from`: a week.
const DEFAULT_RANGE: Millis = 7 * DAY;
/// The longest range.
const MAX_RANGE: Millis = 366 * DAY;

/// The query parameters `from` and `to`.
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

/// The requested range. `to` defaults to now, `from` to a week before `to`.
fn range(requested: &Range, now: Millis) -> Result<(Millis, Millis)> {
    let (from, to) = (requested.from, requested.to);
    // The end is exclusive, so that `now + 1` includes the current millisecond.
    let to = to.unwrap_or(now + 1);
    let Some(from) = from else {
        let from = to - DEFAULT_RANGE;
        return if from < 0 {
            Err(Refusal::invalid(
                "to",
                "must be at least a week after 1970-01-01 unless from is given",
            )
            .into())
        } else {
            Ok((from, to))
        };
    };
    if from < 0 || from >= to {
        return Err(Refusal::invalid("from", "must be before to").into());
    }
    if to - from > MAX_RANGE {
        return Err(Refusal::invalid("from", "must be at most 366 days before to").into());
    }
    Ok((from, to))
}

/// The query parameter `month`.
pub(super) struct Month(Option<i32>);

impl FromQuery for Month {
    fn read(query: &QueryString) -> Result<Self> {
        let Some(text) = query.text("month") else {
            return Ok(Self(None));
        };
        match parse_month(text).filter(|month| *month >= month_of(0)) {
            Some(month) => Ok(Self(Some(month))),
            None => Err(Refusal::invalid("month", "must be a month such as 2026-01").into()),
        }
    }
}

/// Counts the active users of a month: of the current one if the query names none.
pub(super) async fn active_users(
    app: web::Data<App>,
    caller: Permit,
    Query(Month(month)): Query<Month>,
) -> Outcome<ActiveUsers> {
    let (now, tenant) = (app.store.now(), caller.tenant.no);
    let month = month.unwrap_or_else(|| month_of(now));
    let start = |month| start_of_month(month).unwrap_or(Millis::MAX);
    // The current millisecond counts, and later ones have no messages.
    let end = start(month + 1).min(now + 1);
    let mut messages = Messages::default();
    let mut from = start(month);
    // A read for each day, so that no read of a large tenant holds a snapshot for long.
    while from < end {
        let to = (from + DAY).min(end);
        let of_day = app
            .store
            .read_long(LongRead::List, Some(tenant), move |reader| {
                Messages::of(reader, tenant, from, to)
            });
        messages.add(of_day.await?);
        from = to;
    }
    let active = app
        .store
        .read_long(LongRead::List, Some(tenant), move |reader| {
            messages.active(reader, tenant, &month_text(month))
        });
    Ok(Reply::ok(active.await?))
}

pub(super) async fn get(
    app: web::Data<App>,
    caller: Permit,
    Query(requested): Query<Range>,
) -> Outcome<Stats> {
    let (from, to) = range(&requested, app.store.now())?;
    let tenant = caller.tenant.no;
    let stats = app
        .store
        .read_long(LongRead::List, Some(caller.tenant.no), move |reader| {
            stats::of(reader, tenant, from, to)
        })
        .await?;
    Ok(Reply::ok(stats))
}
