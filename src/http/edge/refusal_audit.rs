//! Attempts at what is not allowed become audit events (contract, section 7), so many a minute that nobody can fill the disk with them.
use std::collections::HashMap;
use std::sync::Mutex;

use serde_json::Map;

use super::context::Context;
use crate::error::{Code, Refusal};
use crate::limits::minute_of;
use crate::model::api_key;
use crate::model::caller::Who;
use crate::model::clock::Millis;
use crate::model::names::TenantNo;
use crate::store::Extent;
use crate::store::Store;
use crate::store::audit::{self, Event};

/// Attempts by one tenant's own people and programs that are recorded in a minute; the next recorded one tells of the rest.
const A_MINUTE: u32 = 60;
/// The same for its sessions' tokens, apart: an end user takes no room from what an MSP's own do.
const A_MINUTE_OF_GUESTS: u32 = 10;
/// Characters of a path's part that can name something.
const NAME: usize = 64;
/// Nothing is written for a dry run (contract, section 3).
const DRY_RUN: &str = "/chat/sessions/resolve";

/// What was recorded lately, by tenant.
#[derive(Debug, Default)]
pub(in crate::http) struct RefusalAudit(Mutex<HashMap<(TenantNo, bool), Recent>>);

#[derive(Clone, Copy, Debug, Default)]
struct Recent {
    minute: Millis,
    recorded: u32,
    skipped: u64,
}

/// Whether a refusal tells of something that this caller is not allowed to do, and not of a slip.
fn is_worth_a_record(code: Code) -> bool {
    code.status() == 403
        || matches!(
            code,
            Code::InstallConflict | Code::CompanyAlreadyBound | Code::LastAdmin
        )
}

/// The path, unless a part of it can name nothing here: it may be long, or a secret in the wrong place.
fn target<'a>(path: &'a str, route: &'a str) -> &'a str {
    let names_something = |part: &str| {
        part.len() <= NAME
            && !part.starts_with(api_key::PREFIX)
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
    };
    if path.split('/').all(names_something) {
        path
    } else {
        route
    }
}

impl RefusalAudit {
    /// Records a refusal, before its reply is sent.
    pub(in crate::http) async fn record(
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
        if let Err(error) = store
            .write(Extent::Statement, move |tx| audit::record(tx, &event))
            .await
        {
            log::error!(id:% = context.request_id; "a refused attempt was not recorded: {error}");
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
        let is_guest = matches!(caller.who, Who::EndUserSession { .. });
        let skipped = self.admit(caller.tenant.no, is_guest, now)?;
        let mut details = Map::new();
        details.insert("code".to_owned(), refusal.code.as_str().into());
        details.insert("method".to_owned(), method.into());
        details.insert("route".to_owned(), route.into());
        if skipped > 0 {
            details.insert("not_recorded_before".to_owned(), skipped.into());
        }
        let target = Some(target(path, route).to_owned());
        Some(context.event(caller.tenant.no, caller, "request.refused", target, details))
    }

    /// Whether one more is recorded; if so, how many were passed over before it.
    fn admit(&self, tenant: TenantNo, is_guest: bool, now: Millis) -> Option<u64> {
        let most = if is_guest {
            A_MINUTE_OF_GUESTS
        } else {
            A_MINUTE
        };
        let mut all = self.0.lock().ok()?;
        let recent = all.entry((tenant, is_guest)).or_default();
        let minute = minute_of(now);
        if recent.minute != minute {
            (recent.minute, recent.recorded) = (minute, 0);
        }
        if recent.recorded >= most {
            recent.skipped += 1;
            return None;
        }
        recent.recorded += 1;
        Some(std::mem::take(&mut recent.skipped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_attempts_leaves_so_many_records_a_minute_and_the_next_tells_of_the_rest() {
        let refused = RefusalAudit::default();
        let recorded = |now| {
            let admitted = (0..100).filter_map(|_| refused.admit(TenantNo(1), false, now));
            admitted.collect::<Vec<u64>>()
        };
        assert_eq!(recorded(0), vec![0; 60]);
        assert_eq!(recorded(59_999), Vec::<u64>::new());
        let next = recorded(60_000);
        assert_eq!((next.len(), next[0], next[1]), (60, 140, 0));
        assert_eq!(refused.admit(TenantNo(2), false, 60_000), Some(0));
        assert_eq!(refused.admit(TenantNo(1), true, 60_000), Some(0));
    }

    #[test]
    fn what_can_name_nothing_is_not_written_down() {
        let route = "/api-keys/{key_id}";
        assert_eq!(
            target("/public-api/agents/100", route),
            "/public-api/agents/100"
        );
        for path in [
            "/api-keys/neo_sk_demo_SECRETSECRET12",
            "/users/%20",
            &format!("/users/{}", "a".repeat(65)),
        ] {
            assert_eq!(target(path, route), route);
        }
    }
}
