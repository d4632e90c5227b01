//! Attempts at what is not allowed become audit events (contract, section 7), so many a minute that nobody can fill the disk with them.

use std::collections::HashMap;
use std::sync::Mutex;

use serde_json::Map;

use super::context::Context;
use crate::error::{Code, Refusal};
use crate::model::clock::Millis;
use crate::model::names::TenantNo;
use crate::store::Store;
use crate::store::audit::{self, Event};

/// Attempts of one tenant that are recorded in a minute; of those beyond the next recorded one tells the number.
const A_MINUTE: u32 = 60;
/// Nothing is written for a dry run (contract, section 3).
const DRY_RUN: &str = "/chat/sessions/resolve";
const MINUTE: Millis = 60_000;

/// What was recorded lately, by tenant.
#[derive(Debug, Default)]
pub(super) struct Refused(Mutex<HashMap<TenantNo, Lately>>);

#[derive(Clone, Copy, Debug, Default)]
struct Lately {
    minute: Millis,
    recorded: u32,
    passed_over: u64,
}

/// Whether a refusal tells of something that this caller is not allowed to do, and not of a slip.
fn is_worth_a_record(code: Code) -> bool {
    code.status() == 403
        || matches!(
            code,
            Code::InstallConflict | Code::CompanyAlreadyBound | Code::LastAdmin
        )
}

impl Refused {
    /// Records a refusal, before its reply is sent.
    pub(super) async fn record(
        &self,
        store: &Store,
        context: &Context,
        method: &str,
        route: &str,
        path: &str,
        refusal: &Refusal,
    ) {
        let Some(event) = self.event(store.now(), context, method, route, path, refusal) else {
            return;
        };
        if let Err(error) = store.write(move |tx| audit::record(tx, &event)).await {
            log::error!(
                "{} a refused attempt was not recorded: {error}",
                context.request_id
            );
        }
    }

    fn event(
        &self,
        now: Millis,
        context: &Context,
        method: &str,
        route: &str,
        path: &str,
        refusal: &Refusal,
    ) -> Option<Event> {
        let caller = context.caller.as_ref()?;
        if route == DRY_RUN || !is_worth_a_record(refusal.code) {
            return None;
        }
        let passed_over = self.admit(caller.tenant.no, now)?;
        let mut details = Map::new();
        details.insert("code".to_owned(), refusal.code.as_str().into());
        details.insert("method".to_owned(), method.into());
        details.insert("route".to_owned(), route.into());
        if passed_over > 0 {
            details.insert("not_recorded_before".to_owned(), passed_over.into());
        }
        let target = Some(path.to_owned());
        Some(context.event(caller.tenant.no, caller, "request.refused", target, details))
    }

    /// Whether one more is recorded; if so, how many were passed over before it.
    fn admit(&self, tenant: TenantNo, now: Millis) -> Option<u64> {
        let mut all = self.0.lock().ok()?;
        let lately = all.entry(tenant).or_default();
        let minute = now - now.rem_euclid(MINUTE);
        if lately.minute != minute {
            (lately.minute, lately.recorded) = (minute, 0);
        }
        if lately.recorded >= A_MINUTE {
            lately.passed_over += 1;
            return None;
        }
        lately.recorded += 1;
        Some(std::mem::take(&mut lately.passed_over))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_attempts_leaves_so_many_records_a_minute_and_the_next_tells_of_the_rest() {
        let refused = Refused::default();
        let recorded = |now| {
            let admitted = (0..100).filter_map(|_| refused.admit(TenantNo(1), now));
            admitted.collect::<Vec<u64>>()
        };
        assert_eq!(recorded(0), vec![0; 60]);
        assert_eq!(recorded(59_999), Vec::<u64>::new());
        let next = recorded(60_000);
        assert_eq!((next.len(), next[0], next[1]), (60, 140, 0));
        assert_eq!(refused.admit(TenantNo(2), 60_000), Some(0));
    }
}
