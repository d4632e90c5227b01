//! Records forbidden attempts as audit events, up to a quota per minute (contract, section 7).

use std::collections::HashMap;
use std::sync::Mutex;

use serde_json::{Map, Value};

use super::context::Context;
use crate::error::{Code, Contested, Refusal};
use crate::limits::minute_of;
use crate::model::api_key;
use crate::model::caller::{Actor, Who};
use crate::model::clock::Millis;
use crate::model::names::TenantNo;
use crate::model::words::CallerKind;
use crate::store::Extent;
use crate::store::Store;
use crate::store::audit::{self, Event};

/// Events per minute for a tenant's users and service accounts, so that nobody can fill the disk
/// with them. The next event that is recorded contains the number of skipped ones.
const EVENTS_PER_MINUTE: u32 = 60;
/// Events per minute for a tenant's session tokens. They have a quota of their own, so that an end
/// user cannot use up the quota of the MSP's accounts.
const END_USER_EVENTS_PER_MINUTE: u32 = 10;
/// Events per minute for the people of a tenant's directory who are not let in. They have a quota of
/// their own, so that they cannot use up the quota of the tenant's accounts.
const BARRED_EVENTS_PER_MINUTE: u32 = 10;
/// Events per minute in a tenant's log about attempts of other tenants. The tenant's own accounts
/// have a separate quota.
const RIVAL_EVENTS_PER_MINUTE: u32 = 60;
/// Longest path segment, in characters, that is recorded.
const MAX_SEGMENT_CHARS: usize = 64;
/// The dry run. Each of its refusals is audited, because each dry run could ask about another
/// tenant (contract, section 3).
const DRY_RUN: &str = "/chat/sessions/resolve";

/// The number of events recorded in the current minute, by tenant and kind of caller.
#[derive(Debug, Default)]
pub(in crate::http) struct RefusalAudit(Mutex<HashMap<(TenantNo, Quota), MinuteCount>>);

/// The kinds of callers whose attempts are counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Quota {
    /// Users and service accounts of the tenant.
    Accounts,
    /// Session tokens of the tenant.
    EndUsers,
    /// People of the tenant's directory who are not let in.
    Barred,
    /// Accounts of other tenants.
    Rivals,
}

impl Quota {
    fn events_per_minute(self) -> u32 {
        match self {
            Self::Accounts => EVENTS_PER_MINUTE,
            Self::EndUsers => END_USER_EVENTS_PER_MINUTE,
            Self::Barred => BARRED_EVENTS_PER_MINUTE,
            Self::Rivals => RIVAL_EVENTS_PER_MINUTE,
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct MinuteCount {
    minute: Millis,
    recorded: u32,
    skipped: u64,
}

/// Whether a refusal shows an attempt at something forbidden, and not just a mistake.
fn is_audited(route: &str, code: Code) -> bool {
    code.status() == 403
        || (route == DRY_RUN && matches!(code.status(), 404 | 409 | 422))
        || matches!(
            code,
            Code::InstallConflict | Code::CompanyAlreadyBound | Code::LastAdmin
        )
}

/// The path, or the route if a segment has no valid form. Such a segment may be long, or a secret
/// that was sent in the wrong place.
fn target<'a>(path: &'a str, route: &'a str) -> &'a str {
    let is_valid = |segment: &str| {
        segment.len() <= MAX_SEGMENT_CHARS
            && !segment.starts_with(api_key::PREFIX)
            && segment
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
    };
    if path.split('/').all(is_valid) {
        path
    } else {
        route
    }
}

impl RefusalAudit {
    /// Records a refusal before its reply is sent.
    pub(in crate::http) async fn record(
        &self,
        store: &Store,
        context: &Context,
        method: &str,
        route: &str,
        path: &str,
        refusal: &Refusal,
    ) {
        let event = self.event(store.now(), context, method, route, path, refusal);
        let contested = refusal.contested.iter();
        let rivals = contested.flat_map(|contested| self.rival_events(store.now(), contested));
        for event in event.into_iter().chain(rivals) {
            if let Err(error) = store
                .write(Extent::Statement, move |tx| audit::record(tx, &event))
                .await
            {
                log::error!(id:% = context.request_id; "cannot record the refusal as an audit event: {error}");
            }
        }
    }

    /// The events of the tenants whose M365 tenant another tenant asked for. Nothing in them
    /// identifies the other tenant: it may choose its request's id.
    fn rival_events(&self, now: Millis, contested: &Contested) -> Vec<Event> {
        let event = |tenant: &i64| {
            let tenant = TenantNo(*tenant);
            let skipped = self.admit(tenant, Quota::Rivals, now)?;
            let mut details = Map::new();
            details.insert("by".to_owned(), "another tenant".into());
            details.insert("bot_id".to_owned(), contested.bot.as_deref().into());
            note_skipped(&mut details, skipped);
            Some(Event {
                tenant,
                actor: Actor {
                    kind: CallerKind::Operator,
                    id: "server".to_owned(),
                    name: None,
                },
                action: contested.action,
                target: Some(contested.directory.clone()),
                details,
                request_id: None,
                remote: None,
            })
        };
        contested.rivals.iter().filter_map(event).collect()
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
        let caller = context.call.as_ref()?;
        if !is_audited(route, refusal.code) {
            return None;
        }
        let quota = match caller.who {
            Who::EndUserSession { .. } => Quota::EndUsers,
            Who::DashboardUser { .. } if caller.is_barred() => Quota::Barred,
            Who::ServiceAccount { .. } | Who::DashboardUser { .. } => Quota::Accounts,
        };
        let skipped = self.admit(caller.tenant.no, quota, now)?;
        let mut details = context.asked.clone();
        details.insert("code".to_owned(), refusal.code.as_str().into());
        details.insert("method".to_owned(), method.into());
        details.insert("route".to_owned(), route.into());
        if let Some(reason) = refusal.details.as_ref().and_then(|told| told.get("reason")) {
            details.insert("reason".to_owned(), reason.clone());
        }
        note_skipped(&mut details, skipped);
        let target = Some(target(path, route).to_owned());
        Some(context.event(caller.tenant.no, caller, "request.refused", target, details))
    }

    /// Counts an event. Returns the number of events skipped before it, or `None` if the quota of
    /// this minute is used up.
    fn admit(&self, tenant: TenantNo, quota: Quota, now: Millis) -> Option<u64> {
        let mut counts = self.0.lock().ok()?;
        let count = counts.entry((tenant, quota)).or_default();
        let minute = minute_of(now);
        if count.minute != minute {
            (count.minute, count.recorded) = (minute, 0);
        }
        if count.recorded >= quota.events_per_minute() {
            count.skipped += 1;
            return None;
        }
        count.recorded += 1;
        Some(std::mem::take(&mut count.skipped))
    }
}

fn note_skipped(details: &mut Map<String, Value>, skipped: u64) {
    if skipped > 0 {
        details.insert("not_recorded_before".to_owned(), skipped.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_above_the_quota_are_skipped_and_counted_in_the_next_event() {
        let audit = RefusalAudit::default();
        let recorded = |now| {
            let admitted = (0..100).filter_map(|_| audit.admit(TenantNo(1), Quota::Accounts, now));
            admitted.collect::<Vec<u64>>()
        };
        assert_eq!(recorded(0), vec![0; 60]);
        assert_eq!(recorded(59_999), Vec::<u64>::new());
        let next = recorded(60_000);
        assert_eq!((next.len(), next[0], next[1]), (60, 140, 0));
        assert_eq!(audit.admit(TenantNo(2), Quota::Accounts, 60_000), Some(0));
        assert_eq!(audit.admit(TenantNo(1), Quota::EndUsers, 60_000), Some(0));
        assert_eq!(audit.admit(TenantNo(1), Quota::Barred, 60_000), Some(0));
        assert_eq!(audit.admit(TenantNo(1), Quota::Rivals, 60_000), Some(0));
    }

    #[test]
    fn a_path_with_an_invalid_segment_is_not_recorded() {
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
