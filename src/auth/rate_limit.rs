//! A sliding window of requests per tenant, pooled over its credentials (contract, section 1, Rate
//! limit).

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;

use crate::model::clock::Millis;
use crate::model::names::TenantNo;

/// The default limit of a tenant, in requests per minute.
pub const DEFAULT_PER_MINUTE: i64 = 1_200;
/// The length of the sliding window, in milliseconds.
const WINDOW: Millis = 60_000;

/// The values of a reply's `X-RateLimit-…` headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The limit, in requests per minute.
    pub limit: i64,
    /// The number of requests that are left now.
    pub remaining: i64,
    /// The Unix second in which the full limit is available again.
    pub reset_s: i64,
}

/// The decision about one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// The tenant has no limit.
    Unlimited,
    /// The request is within the limit.
    Admitted(Standing),
    /// The request exceeds the limit; with the number of seconds to wait.
    Refused(Standing, u64),
}

/// A rate limiter with a sliding window per tenant.
#[derive(Debug)]
pub struct RateLimiter {
    per_minute: i64,
    windows: Mutex<HashMap<TenantNo, VecDeque<Millis>>>,
}

impl RateLimiter {
    /// Creates a limiter with a default limit, in requests per minute. 0 means no limit.
    pub fn new(per_minute: i64) -> Self {
        Self {
            per_minute,
            windows: Mutex::default(),
        }
    }

    /// Counts a request. `tenant_limit` overrides the default. Refused requests do not count, so a
    /// client that waits for the given time is admitted.
    pub fn admit(&self, tenant: TenantNo, tenant_limit: Option<i64>, now: Millis) -> Admission {
        let limit = tenant_limit.unwrap_or(self.per_minute);
        if limit <= 0 {
            return Admission::Unlimited;
        }
        let Ok(mut windows) = self.windows.lock() else {
            return Admission::Unlimited;
        };
        let window = windows.entry(tenant).or_default();
        // A clock that was set back must not block a tenant for longer than a window.
        while window.back().is_some_and(|last| *last > now) {
            window.pop_back();
        }
        while window.front().is_some_and(|first| *first <= now - WINDOW) {
            window.pop_front();
        }
        let used = i64::try_from(window.len()).unwrap_or(i64::MAX);
        if used >= limit {
            let surplus = usize::try_from(used - limit).unwrap_or(0);
            let free_at = window.get(surplus).map_or(now, |first| first + WINDOW);
            let last = window.back().copied().unwrap_or(now);
            let wait_s = u64::try_from((free_at - now + 999) / 1_000)
                .unwrap_or(1)
                .max(1);
            return Admission::Refused(
                Standing {
                    limit,
                    remaining: 0,
                    reset_s: seconds_up(last + WINDOW),
                },
                wait_s,
            );
        }
        window.push_back(now);
        Admission::Admitted(Standing {
            limit,
            remaining: limit - used - 1,
            reset_s: seconds_up(now + WINDOW),
        })
    }
}

/// Rounds a time up to a Unix second.
fn seconds_up(time: Millis) -> i64 {
    (time + 999).div_euclid(1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENANT: TenantNo = TenantNo(1);

    #[test]
    fn a_window_slides_and_refused_requests_do_not_count() {
        let limiter = RateLimiter::new(2);
        let admitted = |remaining, reset_s| {
            Admission::Admitted(Standing {
                limit: 2,
                remaining,
                reset_s,
            })
        };
        assert_eq!(limiter.admit(TENANT, None, 0), admitted(1, 60));
        assert_eq!(limiter.admit(TENANT, None, 30_000), admitted(0, 90));
        let standing = Standing {
            limit: 2,
            remaining: 0,
            reset_s: 90,
        };
        assert_eq!(
            limiter.admit(TENANT, None, 59_999),
            Admission::Refused(standing, 1)
        );
        assert_eq!(limiter.admit(TENANT, None, 60_000), admitted(0, 120));
        assert_eq!(limiter.admit(TenantNo(2), None, 60_000), admitted(1, 120));
    }

    #[test]
    fn a_tenants_own_limit_wins_and_zero_means_no_limit() {
        let limiter = RateLimiter::new(1);
        assert_eq!(limiter.admit(TENANT, Some(0), 0), Admission::Unlimited);
        limiter.admit(TENANT, Some(3), 0);
        assert!(matches!(
            limiter.admit(TENANT, Some(3), 1),
            Admission::Admitted(_)
        ));
    }

    #[test]
    fn a_clock_that_goes_back_does_not_block_requests() {
        let limiter = RateLimiter::new(1);
        limiter.admit(TENANT, None, 1_000_000);
        assert!(matches!(
            limiter.admit(TENANT, None, 0),
            Admission::Admitted(_)
        ));
    }
}
