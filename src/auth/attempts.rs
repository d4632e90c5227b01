//! Throttles failed sign-in codes by IP address, so that codes cannot be guessed by trying.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Mutex;

use crate::model::clock::Millis;

/// The number of failures that one address may have within a window.
const MAX_FAILURES: usize = 20;
/// The length of the sliding window, in milliseconds.
const WINDOW: Millis = 60_000;
/// The number of addresses at which expired windows are pruned.
const PRUNE_ADDRESSES: usize = 1_000;

/// The failures within the window, by IP address.
#[derive(Debug, Default)]
pub struct Attempts(Mutex<HashMap<IpAddr, VecDeque<Millis>>>);

impl Attempts {
    /// Checks whether an address may try a code.
    ///
    /// # Errors
    /// The seconds to wait, if the address has too many failures.
    pub fn admit(&self, from: IpAddr, now: Millis) -> Result<(), u64> {
        let Ok(mut failures) = self.0.lock() else {
            return Ok(());
        };
        let Some(window) = failures.get_mut(&from) else {
            return Ok(());
        };
        prune(window, now);
        match window.front() {
            Some(first) if window.len() >= MAX_FAILURES => {
                let wait_ms = first + WINDOW - now;
                Err(u64::try_from((wait_ms + 999) / 1_000).unwrap_or(1).max(1))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Counts a failure of an address.
    pub fn failed(&self, from: IpAddr, now: Millis) {
        let Ok(mut failures) = self.0.lock() else {
            return;
        };
        if failures.len() >= PRUNE_ADDRESSES {
            failures.retain(|_, window| {
                prune(window, now);
                !window.is_empty()
            });
        }
        failures.entry(from).or_default().push_back(now);
    }
}

/// Removes the failures outside the window. That includes failures in the future: a clock that was
/// set back must not block an address.
fn prune(window: &mut VecDeque<Millis>, now: Millis) {
    window.retain(|time| *time <= now && *time > now - WINDOW);
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const THERE: IpAddr = IpAddr::V6(std::net::Ipv6Addr::LOCALHOST);

    #[test]
    fn twenty_failures_a_minute_block_only_their_own_address() {
        let attempts = Attempts::default();
        for time in 0..20 {
            assert_eq!(attempts.admit(HERE, time), Ok(()));
            attempts.failed(HERE, time);
        }
        assert_eq!(attempts.admit(HERE, 20), Err(60));
        assert_eq!(attempts.admit(THERE, 20), Ok(()));
        assert_eq!(attempts.admit(HERE, 59_999), Err(1));
        assert_eq!(attempts.admit(HERE, 60_000), Ok(()));
        attempts.failed(HERE, 60_000);
        assert_eq!(attempts.admit(HERE, 60_000), Err(1));
    }

    #[test]
    fn addresses_whose_window_has_passed_are_pruned() {
        let attempts = Attempts::default();
        for number in 0..2_000_u32 {
            let from = IpAddr::V4(number.into());
            attempts.failed(from, i64::from(number) * 1_000);
        }
        assert!(attempts.0.lock().unwrap().len() <= PRUNE_ADDRESSES);
    }
}
