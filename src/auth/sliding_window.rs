//! Sliding windows of a minute, one per key, that count exactly and use memory only while they are
//! in use.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::mem;
use std::sync::{Mutex, PoisonError};

use crate::model::clock::{Clock, Millis};

/// The length of a window, in milliseconds.
pub const WINDOW: Millis = 60_000;

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

impl Standing {
    /// Returns the standing that is nearer to its limit; the first if both are equally near.
    #[must_use]
    pub fn nearer(self, other: Self) -> Self {
        if other.remaining < self.remaining {
            other
        } else {
            self
        }
    }
}

/// The decision about one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// No limit applies.
    Unlimited,
    /// The event is counted at this time. With the standing at the nearest limit.
    Admitted(Standing, Millis),
    /// The event exceeds a limit and is not counted. With the standing at that limit, and the number
    /// of seconds to wait.
    Refused(Standing, u64),
}

/// One window per key.
///
/// A window that is not used moves from `current` to `previous` and is then dropped, so that no
/// request ever searches all windows.
#[derive(Debug)]
pub struct SlidingWindows<K> {
    clock: Clock,
    generations: Mutex<Generations<K>>,
}

#[derive(Debug)]
struct Generations<K> {
    /// When `current` was begun.
    began: Millis,
    /// The windows that were used since then.
    current: HashMap<K, Window>,
    /// The windows that were used in the generation before, and not since.
    previous: HashMap<K, Window>,
}

impl<K: Clone + Eq + Hash> SlidingWindows<K> {
    /// Creates windows on this clock.
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            generations: Mutex::new(Generations {
                began: Millis::MIN,
                current: HashMap::new(),
                previous: HashMap::new(),
            }),
        }
    }

    /// Counts an event in the windows of several keys, each with its limit per minute, or in none
    /// of them. A limit of 0 is no limit. Refused events do not count, so a caller that waits for
    /// the given time is admitted.
    pub fn count(&self, limits: &[(K, i64)]) -> Count {
        let mut generations = self
            .generations
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // The time is read under the lock, so that the windows see it grow.
        let now = self.clock.now();
        let unused = generations.rotate(now);
        let count = generations.count(limits, now);
        drop(generations);
        drop(unused);
        count
    }

    /// Takes an event back that was counted at this time.
    pub fn release(&self, key: &K, counted_at: Millis) {
        self.generations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .window(key)
            .release(counted_at);
    }
}

impl<K: Clone + Eq + Hash> Generations<K> {
    /// Begins a generation each [`WINDOW`]. Returns the windows that were not used for as long: all
    /// their events have expired. The caller drops them without the lock.
    fn rotate(&mut self, now: Millis) -> HashMap<K, Window> {
        let age = now.saturating_sub(self.began);
        if (0..WINDOW).contains(&age) {
            return HashMap::new();
        }
        self.began = now;
        if age < 0 {
            // The clock was set back: nothing is known of the windows' age.
            return HashMap::new();
        }
        let used = mem::take(&mut self.current);
        mem::replace(&mut self.previous, used)
    }

    fn window(&mut self, key: &K) -> &mut Window {
        let previous = &mut self.previous;
        self.current.entry(key.clone()).or_insert_with(|| {
            let mut window = previous.remove(key).unwrap_or_default();
            window.entries.shrink_to(2 * window.entries.len());
            window
        })
    }

    fn count(&mut self, limits: &[(K, i64)], now: Millis) -> Count {
        let mut refused: Option<(Standing, u64)> = None;
        let limits = || limits.iter().filter(|(_, limit)| *limit > 0);
        for (key, limit) in limits() {
            let window = self.window(key);
            window.prune(now);
            // If several limits are reached, only the longest wait helps.
            refused = match (refused, window.refusal(*limit, now)) {
                (Some(first), Some(next)) if next.1 > first.1 => Some(next),
                (first, next) => first.or(next),
            };
        }
        if let Some((standing, wait_s)) = refused {
            return Count::Refused(standing, wait_s);
        }
        let standings = limits().map(|(key, limit)| self.window(key).add(*limit, now));
        match standings.reduce(Standing::nearer) {
            Some(standing) => Count::Admitted(standing, now),
            None => Count::Unlimited,
        }
    }
}

/// The events of one window: how many in each millisecond. So a window has at most [`WINDOW`]
/// entries, however great its limit is.
#[derive(Debug, Default)]
struct Window {
    entries: VecDeque<(Millis, u32)>,
    used: i64,
}

impl Window {
    fn prune(&mut self, now: Millis) {
        // A clock that was set back must not block a caller for longer than a window.
        while let Some((_, events)) = self.entries.pop_back_if(|(time, _)| *time > now) {
            self.used -= i64::from(events);
        }
        while let Some((_, events)) = self.entries.pop_front_if(|(time, _)| *time <= now - WINDOW) {
            self.used -= i64::from(events);
        }
    }

    /// The standing and the seconds to wait, if the limit is reached.
    fn refusal(&self, limit: i64, now: Millis) -> Option<(Standing, u64)> {
        if self.used < limit {
            return None;
        }
        // There is room again when one more event than the surplus has expired.
        let mut kept = self.used;
        let free_at = self.entries.iter().find_map(|(time, events)| {
            kept -= i64::from(*events);
            (kept < limit).then_some(time + WINDOW)
        });
        let wait_ms = free_at.unwrap_or(now) - now;
        let last = self.entries.back().map_or(now, |(time, _)| *time);
        let standing = Standing {
            limit,
            remaining: 0,
            reset_s: seconds_up(last + WINDOW),
        };
        let wait_s = u64::try_from(seconds_up(wait_ms)).unwrap_or(1).max(1);
        Some((standing, wait_s))
    }

    fn add(&mut self, limit: i64, now: Millis) -> Standing {
        self.used += 1;
        match self.entries.back_mut() {
            Some((time, events)) if *time == now && *events < u32::MAX => *events += 1,
            Some(_) | None => self.entries.push_back((now, 1)),
        }
        Standing {
            limit,
            remaining: limit - self.used,
            reset_s: seconds_up(now + WINDOW),
        }
    }

    fn release(&mut self, counted_at: Millis) {
        let at = self.entries.partition_point(|(time, _)| *time < counted_at);
        // The event may have expired, or the clock may have been set back.
        let Some((_, events)) = self
            .entries
            .get_mut(at)
            .filter(|(time, _)| *time == counted_at)
        else {
            return;
        };
        *events -= 1;
        self.used -= 1;
        if *events == 0 {
            self.entries.remove(at);
        }
    }
}

/// Rounds milliseconds up to seconds.
fn seconds_up(time: Millis) -> i64 {
    (time + 999).div_euclid(1_000)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    /// Windows whose clock the test sets.
    struct Windows {
        clock: Arc<AtomicI64>,
        windows: SlidingWindows<u32>,
    }

    impl Windows {
        fn new() -> Self {
            let clock = Arc::new(AtomicI64::new(0));
            Self {
                windows: SlidingWindows::new(Clock::Manual(Arc::clone(&clock))),
                clock,
            }
        }

        fn count(&self, limits: &[(u32, i64)], now: Millis) -> Count {
            self.clock.store(now, Ordering::SeqCst);
            self.windows.count(limits)
        }

        fn kept(&self) -> usize {
            let generations = self.windows.generations.lock().unwrap();
            generations.current.len() + generations.previous.len()
        }
    }

    fn standing(limit: i64, remaining: i64, reset_s: i64) -> Standing {
        Standing {
            limit,
            remaining,
            reset_s,
        }
    }

    #[test]
    fn a_window_slides_and_refused_events_do_not_count() {
        let windows = Windows::new();
        let count = |now| windows.count(&[(1, 2)], now);
        assert_eq!(count(0), Count::Admitted(standing(2, 1, 60), 0));
        assert_eq!(count(30_000), Count::Admitted(standing(2, 0, 90), 30_000));
        assert_eq!(count(59_999), Count::Refused(standing(2, 0, 90), 1));
        assert_eq!(count(60_000), Count::Admitted(standing(2, 0, 120), 60_000));
        assert_eq!(
            windows.count(&[(2, 2)], 60_000),
            Count::Admitted(standing(2, 1, 120), 60_000)
        );
    }

    #[test]
    fn an_event_counts_in_all_its_windows_or_in_none() {
        let windows = Windows::new();
        let both = [(1, 1), (2, 3)];
        assert_eq!(
            windows.count(&both, 0),
            Count::Admitted(standing(1, 0, 60), 0)
        );
        for now in 1..5 {
            assert_eq!(
                windows.count(&both, now),
                Count::Refused(standing(1, 0, 60), 60)
            );
        }
        assert_eq!(
            windows.count(&[(2, 3)], 5),
            Count::Admitted(standing(3, 1, 61), 5)
        );
    }

    #[test]
    fn of_two_reached_limits_the_longer_wait_is_told() {
        let windows = Windows::new();
        windows.count(&[(1, 1)], 0);
        windows.count(&[(2, 1)], 30_000);
        let refused = Count::Refused(standing(1, 0, 90), 50);
        assert_eq!(windows.count(&[(1, 1), (2, 1)], 40_000), refused);
        assert_eq!(windows.count(&[(2, 1), (1, 1)], 40_000), refused);
    }

    #[test]
    fn a_limit_of_zero_is_no_limit() {
        let windows = Windows::new();
        assert_eq!(windows.count(&[(1, 0)], 0), Count::Unlimited);
        assert_eq!(
            windows.count(&[(1, 0), (2, 1)], 0),
            Count::Admitted(standing(1, 0, 60), 0)
        );
        assert_eq!(windows.kept(), 1);
    }

    #[test]
    fn a_lowered_limit_tells_the_wait_until_there_is_room_below_it() {
        let windows = Windows::new();
        for now in [0, 0, 10_000, 20_000] {
            windows.count(&[(1, 4)], now);
        }
        assert_eq!(
            windows.count(&[(1, 2)], 20_000),
            Count::Refused(standing(2, 0, 80), 50)
        );
    }

    #[test]
    fn a_released_event_leaves_room_for_another() {
        let windows = Windows::new();
        for now in [0, 0, 7] {
            windows.count(&[(1, 3)], now);
        }
        assert!(matches!(windows.count(&[(1, 3)], 8), Count::Refused(..)));
        windows.windows.release(&1, 0);
        windows.windows.release(&1, 5);
        assert_eq!(
            windows.count(&[(1, 3)], 8),
            Count::Admitted(standing(3, 0, 61), 8)
        );
        windows.windows.release(&1, 7);
        assert!(matches!(windows.count(&[(1, 3)], 9), Count::Admitted(..)));
        assert!(matches!(windows.count(&[(1, 3)], 9), Count::Refused(..)));
    }

    #[test]
    fn a_clock_that_goes_back_does_not_block_requests() {
        let windows = Windows::new();
        windows.count(&[(1, 1)], 1_000_000);
        assert!(matches!(windows.count(&[(1, 1)], 0), Count::Admitted(..)));
    }

    #[test]
    fn a_window_is_dropped_two_minutes_after_its_last_use() {
        let windows = Windows::new();
        for key in 0..1_000 {
            windows.count(&[(key, 1)], 0);
        }
        windows.count(&[(0, 1)], 59_999);
        assert_eq!(windows.kept(), 1_000);
        windows.count(&[(0, 1)], 60_000);
        windows.count(&[(0, 1)], 120_000);
        assert_eq!(windows.kept(), 1);
    }

    #[test]
    fn a_window_has_one_entry_for_the_events_of_a_millisecond() {
        let windows = Windows::new();
        for _ in 0..1_000 {
            windows.count(&[(1, 1_000_000)], 0);
        }
        let generations = windows.windows.generations.lock().unwrap();
        assert_eq!(generations.current[&1].entries.len(), 1);
    }
}
