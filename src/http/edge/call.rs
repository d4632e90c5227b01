//! A call: its caller, and where it counts at the rate limits (contract, section 1, Rate limit).

use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::admission::Rules;
use crate::auth::Authenticated;
use crate::auth::rate_limit::{Allowance, RateLimiter};
use crate::auth::reason::NotAdmitted;
use crate::auth::sliding_window::{Count, Standing};
use crate::error::{Code, Refusal, Result};
use crate::model::caller::{Caller, Who};
use crate::model::clock::Millis;
use crate::model::ids::{KeyId, TokenId};
use crate::model::names::TenantNo;
use crate::store::cache::SnapshotVersion;

/// One call of a caller. It dereferences to the [`Caller`].
#[derive(Debug)]
pub struct Call {
    caller: Caller,
    snapshot_version: Option<SnapshotVersion>,
    barred: Option<NotAdmitted>,
    rules: Rules,
    limiter: Arc<RateLimiter>,
    counted: Mutex<Counted>,
}

/// Where a call is counted so far.
#[derive(Debug, Default)]
struct Counted {
    /// The standing at the nearest of the limits, for the reply's headers.
    standing: Option<Standing>,
    /// When the call was counted on its platform account.
    on_account_at: Option<Millis>,
    /// Whether the call was counted on the tenant that it acts in.
    on_tenant: bool,
    /// The allowance on which the call was counted instead, and when.
    on_allowance: Option<(Allowance, Millis)>,
}

impl Deref for Call {
    type Target = Caller;

    fn deref(&self) -> &Caller {
        &self.caller
    }
}

impl Call {
    /// A call of a route with these rules, which is not counted yet.
    pub(super) fn new(
        (caller, snapshot_version, barred): Authenticated,
        rules: Rules,
        limiter: Arc<RateLimiter>,
    ) -> Self {
        Self {
            caller,
            snapshot_version,
            barred,
            rules,
            limiter,
            counted: Mutex::default(),
        }
    }

    /// The version of the configuration snapshot in which the credential was found.
    pub fn snapshot_version(&self) -> Option<SnapshotVersion> {
        self.snapshot_version
    }

    /// Whether the caller is a person of the tenant's directory who is not let in.
    pub(super) fn is_barred(&self) -> bool {
        self.barred.is_some()
    }

    /// The standing at the nearest of the limits on which the call counts.
    pub(super) fn standing(&self) -> Option<Standing> {
        self.counted().standing
    }

    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The account of a platform caller.
    fn platform_account(&self) -> Option<KeyId> {
        match self.who {
            Who::ServiceAccount {
                platform: true,
                account,
                ..
            } => Some(account),
            Who::ServiceAccount {
                platform: false, ..
            }
            | Who::DashboardUser { .. }
            | Who::EndUserSession { .. } => None,
        }
    }

    /// The end-user token that calls.
    fn token(&self) -> Option<TokenId> {
        match self.who {
            Who::EndUserSession { jti, .. } => Some(jti),
            Who::ServiceAccount { .. } | Who::DashboardUser { .. } => None,
        }
    }

    /// Whether the call goes on when its tenant has reached its limit. A caller whom the route does
    /// not admit has no allowance.
    fn has_allowance(&self) -> bool {
        self.rules.has_allowance && self.rules.callers.allow(&self.who)
    }

    /// Takes back what the call used of an allowance, because a forbidden call ends nothing.
    pub(super) fn release_allowance(&self) {
        if let Some((allowance, at)) = self.counted().on_allowance.take() {
            self.limiter.release_on(allowance, at);
        }
    }

    /// Counts the call before its handler runs: on a platform account, and on the caller's own
    /// tenant unless the handler finds the tenant that the platform acts in. A person who is not
    /// let in counts on neither, and is refused.
    ///
    /// # Errors
    /// `rate_limited`; `forbidden` for a person who is not let in.
    pub(super) fn admit(&self) -> Result<()> {
        if let Some(reason) = self.barred {
            let tenant = &self.tenant;
            let count = self
                .limiter
                .count_barred(tenant.no, tenant.rate_limit_per_minute);
            self.counted().add(count)?;
            return Err(Refusal::from(reason).into());
        }
        if let Some(account) = self.platform_account() {
            let mut counted = self.counted();
            let count = self.limiter.count_platform(account);
            if let Count::Admitted(_, at) = count {
                counted.on_account_at = Some(at);
            }
            counted.add(count)?;
            if self.rules.tenant == ActingTenant::Found {
                return Ok(());
            }
        }
        self.act_in_own_tenant()
    }

    /// Counts the call on the caller's own tenant, as [`Call::act_in`].
    ///
    /// # Errors
    /// `rate_limited`.
    pub fn act_in_own_tenant(&self) -> Result<()> {
        self.act_in(self.tenant.no, self.tenant.rate_limit_per_minute)
    }

    /// Counts the call on the tenant that it acts in, once. `own_limit` is that tenant's own limit.
    ///
    /// # Errors
    /// `rate_limited`. The call then does not count on the platform account either, so that a flood
    /// in one tenant does not use up the account's limit.
    pub fn act_in(&self, tenant: TenantNo, own_limit: Option<i64>) -> Result<()> {
        let mut counted = self.counted();
        if counted.on_tenant {
            return Ok(());
        }
        let mut count = self.limiter.count(tenant, own_limit, self.token());
        if let Count::Refused(_, wait_s) = count
            && self.has_allowance()
        {
            let account = self.account_key();
            let allowance = Allowance { tenant, account };
            let instead = self.limiter.count_on(allowance.clone(), own_limit);
            // If the allowance is used up too, the shorter wait decides.
            if !matches!(instead, Count::Refused(_, longer_s) if longer_s > wait_s) {
                count = instead;
            }
            if let Count::Admitted(_, at) = count {
                counted.on_allowance = Some((allowance, at));
            }
        }
        let outcome = counted.add(count);
        counted.on_tenant = outcome.is_ok();
        if outcome.is_err()
            && let (Some(account), Some(at)) =
                (self.platform_account(), counted.on_account_at.take())
        {
            self.limiter.release_platform(account, at);
        }
        outcome
    }
}

impl Counted {
    /// Notes the standing after a count.
    fn add(&mut self, count: Count) -> Result<()> {
        match count {
            Count::Unlimited => Ok(()),
            Count::Admitted(standing, _) => {
                self.standing = Some(match self.standing {
                    Some(before) => before.nearer(standing),
                    None => standing,
                });
                Ok(())
            }
            Count::Refused(standing, wait_s) => {
                self.standing = Some(standing);
                Err(rate_limited(wait_s).into())
            }
        }
    }
}

/// The refusal of a caller that has to wait for this number of seconds.
pub(in crate::http) fn rate_limited(wait_s: u64) -> Refusal {
    let mut refusal = Refusal::new(Code::RateLimited);
    refusal.retry_after_s = Some(wait_s);
    refusal
}

/// The tenant on which a platform call counts. The calls of others count on their own tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActingTenant {
    /// The caller's own tenant.
    Own,
    /// The tenant that the handler finds: by a resolution, a session, a channel or a `client_id`.
    /// The handler calls [`Call::act_in`].
    Found,
}
