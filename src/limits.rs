//! Limits per key, such as a tenant. Keys that are not in use take no memory.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::Semaphore;

use crate::model::clock::Millis;

/// The length of a minute, in milliseconds.
const MINUTE: Millis = 60_000;

/// One semaphore per key. It exists while a permit is held or awaited.
#[derive(Debug)]
pub struct KeyedSemaphore<K> {
    permits: usize,
    semaphores: Mutex<HashMap<K, Weak<Semaphore>>>,
}

impl<K: Eq + Hash> KeyedSemaphore<K> {
    /// Creates semaphores with this number of permits per key.
    pub fn new(permits: usize) -> Self {
        Self {
            permits,
            semaphores: Mutex::default(),
        }
    }

    /// The semaphore of a key.
    pub fn of(&self, key: K) -> Arc<Semaphore> {
        let mut semaphores = self
            .semaphores
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(semaphore) = semaphores.get(&key).and_then(Weak::upgrade) {
            return semaphore;
        }
        semaphores.retain(|_, semaphore| semaphore.strong_count() > 0);
        let semaphore = Arc::new(Semaphore::new(self.permits));
        semaphores.insert(key, Arc::downgrade(&semaphore));
        semaphore
    }
}

/// A throttle that admits one event per key and minute of the clock.
#[derive(Debug)]
pub struct OncePerMinute<K>(Mutex<Minute<K>>);

#[derive(Debug)]
struct Minute<K> {
    began: Millis,
    keys: HashSet<K>,
}

impl<K> Default for OncePerMinute<K> {
    fn default() -> Self {
        Self(Mutex::new(Minute {
            began: Millis::MIN,
            keys: HashSet::new(),
        }))
    }
}

impl<K: Eq + Hash> OncePerMinute<K> {
    /// Whether this is the key's first event in the minute of `now`.
    pub fn admit(&self, key: K, now: Millis) -> bool {
        let began = minute_of(now);
        let mut minute = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if minute.began != began {
            minute.began = began;
            minute.keys.clear();
        }
        minute.keys.insert(key)
    }
}

/// The start of the minute that contains a time.
pub fn minute_of(time: Millis) -> Millis {
    time - time.rem_euclid(MINUTE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_semaphore_that_is_not_in_use_is_removed() {
        let semaphores = KeyedSemaphore::new(1);
        let held = semaphores.of("one").try_acquire_owned().unwrap();
        assert!(semaphores.of("one").try_acquire_owned().is_err());
        assert!(semaphores.of("two").try_acquire_owned().is_ok());
        drop(held);
        assert!(semaphores.of("one").try_acquire_owned().is_ok());
        drop(semaphores.of("three"));
        assert_eq!(semaphores.semaphores.lock().unwrap().len(), 1);
    }

    #[test]
    fn each_key_is_admitted_once_per_minute_and_removed_afterwards() {
        let limiter = OncePerMinute::default();
        assert!(limiter.admit("a", 0));
        assert!(!limiter.admit("a", 59_999));
        assert!(limiter.admit("b", 59_999));
        assert!(limiter.admit("a", 60_000));
        assert_eq!(limiter.0.lock().unwrap().keys.len(), 1);
    }
}
