//! The rate limits: of a platform account, of a tenant, pooled over its credentials, and of its end
//! users (contract, section 1, Rate limit).

use std::fmt;

use super::sliding_window::{Count, SlidingWindows, Standing};
use crate::model::caller::AccountKey;
use crate::model::clock::Millis;
use crate::model::ids::{KeyId, TokenId};
use crate::model::names::TenantNo;
use crate::store::Store;

/// The default limit of a tenant, in requests per minute.
pub const DEFAULT_PER_MINUTE: i64 = 1_200;
/// The default limit of a platform account, in requests per minute.
pub const DEFAULT_PLATFORM_PER_MINUTE: i64 = 60_000;
/// The smallest tenth of a tenant's limit, however small that limit is.
const MIN_TENTH: i64 = 10;

/// The limits that hold where no tenant has its own, in requests per minute; 0 means no limit.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The limit of a tenant without its own.
    pub per_tenant: i64,
    /// The limit of a platform account.
    pub per_platform_account: i64,
}

/// What the requests in one window have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    /// They come from the keys of this platform account.
    PlatformAccount(KeyId),
    /// They act in this tenant.
    Tenant(TenantNo),
    /// They come from the end-user tokens of this tenant.
    Tokens(TenantNo),
    /// They come from this end-user token.
    Token(TokenId),
    /// They come from people of this tenant's directory who are not let in.
    Barred(TenantNo),
    /// They end access in a tenant that has reached its limit.
    Allowance(Allowance),
}

/// An allowance for calls that end access, such as a revocation, in a tenant that has reached its
/// limit. Each account has its own, so that the holder of a leaked key cannot use up the allowance
/// of the administrator who wants to revoke the key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Allowance {
    /// The tenant.
    pub tenant: TenantNo,
    /// The account.
    pub account: AccountKey,
}

/// Limits requests per minute. Of several nodes of one database, each admits its share: the limit
/// divided by the number of live nodes, rounded up.
pub struct RateLimiter {
    limits: Limits,
    windows: SlidingWindows<Key>,
    store: Store,
}

impl fmt::Debug for RateLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimiter")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl RateLimiter {
    /// Creates a limiter with these default limits for a node of this store.
    pub fn new(limits: Limits, store: Store) -> Self {
        Self {
            limits,
            windows: SlidingWindows::new(store.clock().clone()),
            store,
        }
    }

    /// Counts a request in this node's share of the limits. The standing is that of the whole limit,
    /// as if the other nodes had admitted as much as this one.
    fn count_share<const N: usize>(&self, limits: [(Key, i64); N]) -> Count {
        let nodes = i64::try_from(self.store.live_nodes()).unwrap_or(1);
        if nodes <= 1 {
            return self.windows.count(&limits);
        }
        let share = |limit: i64| (limit + nodes - 1) / nodes;
        let shares = limits.map(|(key, limit)| (key, share(limit)));
        let whole = |standing: Standing| Standing {
            limit: standing.limit * nodes,
            remaining: standing.remaining * nodes,
            ..standing
        };
        match self.windows.count(&shares) {
            Count::Unlimited => Count::Unlimited,
            Count::Admitted(standing, at) => Count::Admitted(whole(standing), at),
            Count::Refused(standing, seconds) => Count::Refused(whole(standing), seconds),
        }
    }

    /// Counts a request of a platform account.
    pub fn count_platform(&self, account: KeyId) -> Count {
        let limit = self.limits.per_platform_account;
        self.count_share([(Key::PlatformAccount(account), limit)])
    }

    /// Takes back a request of a platform account that was counted at this time.
    pub fn release_platform(&self, account: KeyId, counted_at: Millis) {
        self.windows
            .release(&Key::PlatformAccount(account), counted_at);
    }

    /// Counts a request that acts in a tenant. The tenant's own limit, if it has one, replaces the
    /// default. A request with an end-user token also counts on the token, and on all tokens of the
    /// tenant.
    pub fn count(&self, tenant: TenantNo, own_limit: Option<i64>, token: Option<TokenId>) -> Count {
        let limit = own_limit.unwrap_or(self.limits.per_tenant);
        let pooled = (Key::Tenant(tenant), limit);
        match token {
            Some(token) if limit > 0 => self.count_share([
                (Key::Token(token), tenth(limit)),
                (Key::Tokens(tenant), limit - limit / 2),
                pooled,
            ]),
            Some(_) | None => self.count_share([pooled]),
        }
    }

    /// Counts a request of a person of the tenant's directory who is not let in. Such requests do
    /// not count on the tenant, so that these people use up nothing of the tenant's limit.
    pub fn count_barred(&self, tenant: TenantNo, own_limit: Option<i64>) -> Count {
        let limit = own_limit.unwrap_or(self.limits.per_tenant);
        let limit = if limit > 0 { tenth(limit) } else { 0 };
        self.count_share([(Key::Barred(tenant), limit)])
    }

    /// Counts a request on an allowance, which is as large as the tenant's limit.
    pub fn count_on(&self, allowance: Allowance, own_limit: Option<i64>) -> Count {
        let limit = own_limit.unwrap_or(self.limits.per_tenant);
        self.count_share([(Key::Allowance(allowance), limit)])
    }

    /// Takes back a request that was counted on an allowance at this time.
    pub fn release_on(&self, allowance: Allowance, counted_at: Millis) {
        self.windows.release(&Key::Allowance(allowance), counted_at);
    }
}

/// A tenth of a tenant's limit, but at least [`MIN_TENTH`].
fn tenth(limit: i64) -> i64 {
    (limit / 10).max(MIN_TENTH)
}
