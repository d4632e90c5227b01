//! Room for uploads: so many at one time in all, fewer of one tenant and of one session, so that nobody takes all of it.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Error, Result};
use crate::model::ids::Tick;
use crate::model::names::TenantNo;

/// Uploads of one tenant at one time.
const OF_TENANT: usize = 4;
/// Uploads of one session at one time.
const OF_SESSION: usize = 2;

/// Room for each of many, kept only while somebody has or waits for a part of it.
#[derive(Debug)]
struct Shares<K>(Mutex<HashMap<K, Weak<Semaphore>>>);

impl<K: Eq + Hash> Shares<K> {
    fn of(&self, key: K, most: usize) -> Arc<Semaphore> {
        let mut shares = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = shares.get(&key).and_then(Weak::upgrade) {
            return share;
        }
        shares.retain(|_, share| share.strong_count() > 0);
        let share = Arc::new(Semaphore::new(most));
        shares.insert(key, Arc::downgrade(&share));
        share
    }
}

/// The room that there is.
#[derive(Debug)]
pub struct Room {
    all: Arc<Semaphore>,
    tenants: Shares<TenantNo>,
    sessions: Shares<Tick>,
}

/// A place in the room, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    _permits: [OwnedSemaphorePermit; 3],
}

impl Room {
    /// Room for so many.
    pub(super) fn new(most: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(most)),
            tenants: Shares(Mutex::default()),
            sessions: Shares(Mutex::default()),
        }
    }

    /// A place, once there is one. Who waits for their own session's or tenant's others keeps nobody else from one.
    ///
    /// # Errors
    /// None that happens.
    pub(super) async fn enter(&self, tenant: TenantNo, session: Tick) -> Result<Place> {
        let of_session = enter(self.sessions.of(session, OF_SESSION)).await?;
        let of_tenant = enter(self.tenants.of(tenant, OF_TENANT)).await?;
        let of_all = enter(Arc::clone(&self.all)).await?;
        Ok(Place {
            _permits: [of_session, of_tenant, of_all],
        })
    }

    /// How many more could be received.
    pub fn available(&self) -> usize {
        self.all.available_permits()
    }
}

async fn enter(share: Arc<Semaphore>) -> Result<OwnedSemaphorePermit> {
    let permit = share.acquire_owned().await;
    permit.map_err(|closed| Error::Internal(closed.into()))
}
