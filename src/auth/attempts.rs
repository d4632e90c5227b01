//! How often a code that nobody has may be tried: it cannot be guessed, and whoever tries is slowed down.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Mutex;

use crate::model::clock::Millis;

/// Failures of one address within a window.
const FAILURES: usize = 20;
const WINDOW: Millis = 60_000;
/// Above so many addresses those whose window has passed are forgotten.
const ADDRESSES: usize = 1_000;

/// The failures of the last minute, by the address that they came from.
#[derive(Debug, Default)]
pub struct Attempts(Mutex<HashMap<IpAddr, VecDeque<Millis>>>);

impl Attempts {
    /// Whether an address may try.
    ///
    /// # Errors
    /// The seconds to wait.
    pub fn admit(&self, from: IpAddr, now: Millis) -> Result<(), u64> {
        let Ok(mut failures) = self.0.lock() else {
            return Ok(());
        };
        let Some(window) = failures.get_mut(&from) else {
            return Ok(());
        };
        pass(window, now);
        match window.front() {
            Some(first) if window.len() >= FAILURES => {
                let wait_ms = first + WINDOW - now;
                Err(u64::try_from((wait_ms + 999) / 1_000).unwrap_or(1).max(1))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Counts a failure.
    pub fn failed(&self, from: IpAddr, now: Millis) {
        let Ok(mut failures) = self.0.lock() else {
            return;
        };
        if failures.len() >= ADDRESSES {
            failures.retain(|_, window| {
                pass(window, now);
                !window.is_empty()
            });
        }
        failures.entry(from).or_default().push_back(now);
    }
}

/// Forgets what lies outside the window, on either side: a clock that was set back keeps nobody out.
fn pass(window: &mut VecDeque<Millis>, now: Millis) {
    window.retain(|time| *time <= now && *time > now - WINDOW);
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const THERE: IpAddr = IpAddr::V6(std::net::Ipv6Addr::LOCALHOST);

    #[test]
    fn twenty_failures_a_minute_hold_up_their_own_address_only() {
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
    fn addresses_whose_minute_has_passed_are_forgotten() {
        let attempts = Attempts::default();
        for number in 0..2_000_u32 {
            let from = IpAddr::V4(number.into());
            attempts.failed(from, i64::from(number) * 1_000);
        }
        assert!(attempts.0.lock().unwrap().len() <= ADDRESSES);
    }
}
