//! Limits per key, such as a tenant. Keys that are not in use take no memory.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use crate::model::clock::Millis;
use crate::model::names::TenantNo;

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

/// Permits that are limited in total, per tenant and per key, such as a session. The two smaller
/// limits keep one caller, and one tenant, from taking all permits.
#[derive(Debug)]
pub struct FairSemaphore<K> {
    permits: usize,
    total: Arc<Semaphore>,
    tenants: KeyedSemaphore<TenantNo>,
    keys: KeyedSemaphore<K>,
}

impl<K: Eq + Hash> FairSemaphore<K> {
    /// Creates this number of permits in total, per tenant and per key.
    pub fn new(permits: usize, per_tenant: usize, per_key: usize) -> Self {
        Self {
            permits,
            total: Arc::new(Semaphore::new(permits)),
            tenants: KeyedSemaphore::new(per_tenant),
            keys: KeyedSemaphore::new(per_key),
        }
    }

    /// The semaphores, the total last: a caller that waits for its own permits must not hold those
    /// of others.
    fn semaphores(&self, tenant: TenantNo, key: K) -> [Arc<Semaphore>; 3] {
        [
            self.keys.of(key),
            self.tenants.of(tenant),
            Arc::clone(&self.total),
        ]
    }

    /// Waits for permits.
    ///
    /// # Errors
    /// Never: the semaphores are not closed.
    pub async fn acquire(
        &self,
        tenant: TenantNo,
        key: K,
        permits: u32,
    ) -> Result<FairPermit, AcquireError> {
        let [key, tenant, total] = self.semaphores(tenant, key);
        Ok(FairPermit([
            key.acquire_many_owned(permits).await?,
            tenant.acquire_many_owned(permits).await?,
            total.acquire_many_owned(permits).await?,
        ]))
    }

    /// Takes permits if they are free and nobody waits for them.
    pub fn try_acquire(&self, tenant: TenantNo, key: K, permits: u32) -> Option<FairPermit> {
        let [key, tenant, total] = self.semaphores(tenant, key);
        Some(FairPermit([
            key.try_acquire_many_owned(permits).ok()?,
            tenant.try_acquire_many_owned(permits).ok()?,
            total.try_acquire_many_owned(permits).ok()?,
        ]))
    }

    /// The number of permits that are free in total.
    pub fn available(&self) -> usize {
        self.total.available_permits()
    }

    /// The number of permits that are taken in total.
    pub fn taken(&self) -> usize {
        self.permits - self.available()
    }
}

/// Permits of a [`FairSemaphore`], until they are dropped.
#[derive(Debug)]
pub struct FairPermit([OwnedSemaphorePermit; 3]);

impl FairPermit {
    /// The number of permits.
    pub fn permits(&self) -> usize {
        let [key, ..] = &self.0;
        key.num_permits()
    }

    /// Adds permits of the same tenant and key.
    pub fn merge(&mut self, more: Self) {
        for (permit, more) in self.0.iter_mut().zip(more.0) {
            permit.merge(more);
        }
    }

    /// Releases the permits above this number.
    pub fn shrink_to(&mut self, permits: usize) {
        for permit in &mut self.0 {
            let surplus = permit.num_permits().saturating_sub(permits);
            drop(permit.split(surplus));
        }
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
    fn permits_are_limited_per_key_and_tenant_and_in_total() {
        let semaphore = FairSemaphore::new(10, 7, 5);
        let take = |tenant, key, permits| semaphore.try_acquire(TenantNo(tenant), key, permits);
        let mut first = take(1, "a", 5).unwrap();
        assert!(take(1, "a", 1).is_none());
        assert!(take(1, "b", 3).is_none());
        let second = take(1, "b", 2).unwrap();
        let third = take(2, "c", 3).unwrap();
        assert!(take(3, "d", 1).is_none());
        assert_eq!((semaphore.taken(), semaphore.available()), (10, 0));
        first.shrink_to(2);
        assert_eq!((first.permits(), semaphore.available()), (2, 3));
        first.merge(take(1, "a", 3).unwrap());
        assert_eq!((first.permits(), semaphore.available()), (5, 0));
        drop((first, second, third));
        assert_eq!((semaphore.taken(), semaphore.available()), (0, 10));
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
