//! The rate limits: of a platform account, and of a tenant, pooled over its credentials (contract,
//! section 1, Rate limit).

use super::sliding_window::{Count, SlidingWindows};
use crate::model::clock::{Clock, Millis};
use crate::model::ids::KeyId;
use crate::model::names::TenantNo;

/// The default limit of a tenant, in requests per minute.
pub const DEFAULT_PER_MINUTE: i64 = 1_200;
/// The default limit of a platform account, in requests per minute.
pub const DEFAULT_PLATFORM_PER_MINUTE: i64 = 60_000;

/// The limits that hold where no tenant has its own, in requests per minute; 0 means no limit.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The limit of a tenant without its own.
    pub per_tenant: i64,
    /// The limit of a platform account.
    pub per_platform_account: i64,
}

/// What the requests in one window have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    /// They come from the keys of this platform account.
    PlatformAccount(KeyId),
    /// They act in this tenant.
    Tenant(TenantNo),
}

/// Limits requests per minute.
#[derive(Debug)]
pub struct RateLimiter {
    limits: Limits,
    windows: SlidingWindows<Key>,
}

impl RateLimiter {
    /// Creates a limiter with these default limits.
    pub fn new(limits: Limits, clock: Clock) -> Self {
        Self {
            limits,
            windows: SlidingWindows::new(clock),
        }
    }

    /// Counts a request of a platform account.
    pub fn count_platform(&self, account: KeyId) -> Count {
        let limit = self.limits.per_platform_account;
        self.windows
            .count(&[(Key::PlatformAccount(account), limit)])
    }

    /// Takes back a request of a platform account that was counted at this time.
    pub fn release_platform(&self, account: KeyId, counted_at: Millis) {
        self.windows
            .release(Key::PlatformAccount(account), counted_at);
    }

    /// Counts a request that acts in a tenant. The tenant's own limit, if it has one, replaces the
    /// default.
    pub fn count(&self, tenant: TenantNo, own_limit: Option<i64>) -> Count {
        let limit = own_limit.unwrap_or(self.limits.per_tenant);
        self.windows.count(&[(Key::Tenant(tenant), limit)])
    }
}
