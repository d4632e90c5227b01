//! A sliding window of requests per tenant, pooled over its credentials (contract, section 1, Rate limit).

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;

use crate::model::clock::Millis;
use crate::model::names::TenantNo;

/// Requests a minute of a tenant without a figure of its own.
pub const DEFAULT_PER_MINUTE: i64 = 1_200;
const WINDOW: Millis = 60_000;

/// What a reply's `X-RateLimit-…` headers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Requests a minute.
    pub limit: i64,
    /// How many are left now.
    pub remaining: i64,
    /// When all of them are free again, in Unix seconds.
    pub reset_s: i64,
}

/// Whether a request may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// The tenant has no limit.
    Unlimited,
    /// It may.
    Admitted(Standing),
    /// It may not, before so many seconds have passed.
    Refused(Standing, u64),
}

/// The times of each tenant's requests of the last minute.
#[derive(Debug)]
pub struct RateLimiter {
    per_minute: i64,
    windows: Mutex<HashMap<TenantNo, VecDeque<Millis>>>,
}

impl RateLimiter {
    /// A limiter for tenants without a figure of their own; 0 means no limit.
    pub fn new(per_minute: i64) -> Self {
        Self {
            per_minute,
            windows: Mutex::default(),
        }
    }

    /// Counts a request. Refused ones do not count, so a client that waits as told gets through.
    pub fn admit(&self, tenant: TenantNo, own_figure: Option<i64>, now: Millis) -> Admission {
        let limit = own_figure.unwrap_or(self.per_minute);
        if limit <= 0 {
            return Admission::Unlimited;
        }
        let Ok(mut windows) = self.windows.lock() else {
            return Admission::Unlimited;
        };
        let window = windows.entry(tenant).or_default();
        // A clock that was set back must not keep a tenant out for longer than a window.
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
    fn a_tenants_own_figure_wins_and_zero_means_none() {
        let limiter = RateLimiter::new(1);
        assert_eq!(limiter.admit(TENANT, Some(0), 0), Admission::Unlimited);
        limiter.admit(TENANT, Some(3), 0);
        assert!(matches!(
            limiter.admit(TENANT, Some(3), 1),
            Admission::Admitted(_)
        ));
    }

    #[test]
    fn a_clock_that_goes_back_lets_requests_through() {
        let limiter = RateLimiter::new(1);
        limiter.admit(TENANT, None, 1_000_000);
        assert!(matches!(
            limiter.admit(TENANT, None, 0),
            Admission::Admitted(_)
        ));
    }
}
