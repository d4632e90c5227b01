//! Throttles wrong sign-in codes by IP address, so that codes cannot be guessed by trying.

use std::net::IpAddr;

use super::sliding_window::{Count, SlidingWindows};
use crate::model::clock::Clock;

/// The number of wrong codes that one address may send within a window.
const MAX_WRONG: i64 = 20;

/// The wrong codes within the window, by IP address.
#[derive(Debug)]
pub struct Attempts(SlidingWindows<IpAddr>);

impl Attempts {
    /// Creates a throttle on this clock.
    pub fn new(clock: Clock) -> Self {
        Self(SlidingWindows::new(clock))
    }

    /// Counts a wrong code of an address.
    ///
    /// # Errors
    /// The seconds to wait, if the address has sent too many.
    pub fn count_wrong(&self, from: IpAddr) -> Result<(), u64> {
        match self.0.count(&[(from, MAX_WRONG)]) {
            Count::Unlimited | Count::Admitted(..) => Ok(()),
            Count::Refused(_, wait_s) => Err(wait_s),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const THERE: IpAddr = IpAddr::V6(std::net::Ipv6Addr::LOCALHOST);

    #[test]
    fn twenty_wrong_codes_a_minute_make_only_their_own_address_wait() {
        let clock = Arc::new(AtomicI64::new(0));
        let attempts = Attempts::new(Clock::Manual(Arc::clone(&clock)));
        let count = |from, now| {
            clock.store(now, Ordering::SeqCst);
            attempts.count_wrong(from)
        };
        for time in 0..20 {
            assert_eq!(count(HERE, time), Ok(()));
        }
        assert_eq!(count(HERE, 20), Err(60));
        assert_eq!(count(THERE, 20), Ok(()));
        assert_eq!(count(HERE, 59_999), Err(1));
        assert_eq!(count(HERE, 60_000), Ok(()));
        assert_eq!(count(HERE, 60_000), Err(1));
    }
}
