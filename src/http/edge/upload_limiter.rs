//! Uploads that are received at one time: a limit in all, for one tenant and for one session, so that nobody takes all.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Error, Result};
use crate::limits::KeyedSemaphore;
use crate::model::ids::Tick;
use crate::model::names::TenantNo;

/// Uploads of one tenant at one time.
const OF_TENANT: usize = 4;
/// Uploads of one session at one time.
const OF_SESSION: usize = 2;

/// Limits how many uploads are received at one time.
#[derive(Debug)]
pub struct UploadLimiter {
    all: Arc<Semaphore>,
    tenants: KeyedSemaphore<TenantNo>,
    sessions: KeyedSemaphore<Tick>,
}

/// The right to receive one upload, until it is dropped.
#[derive(Debug)]
pub(in crate::http) struct UploadPermit {
    _permits: [OwnedSemaphorePermit; 3],
}

impl UploadLimiter {
    /// A limiter for `most` uploads in all.
    pub(in crate::http) fn new(most: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(most)),
            tenants: KeyedSemaphore::new(OF_TENANT),
            sessions: KeyedSemaphore::new(OF_SESSION),
        }
    }

    /// Waits for a permit. An upload that waits for others of its own session or tenant holds nothing of the rest.
    ///
    /// # Errors
    /// `internal_error` if the semaphores were closed, which never happens.
    pub(in crate::http) async fn acquire(
        &self,
        tenant: TenantNo,
        session: Tick,
    ) -> Result<UploadPermit> {
        let of_session = acquire(self.sessions.of(session)).await?;
        let of_tenant = acquire(self.tenants.of(tenant)).await?;
        let of_all = acquire(Arc::clone(&self.all)).await?;
        Ok(UploadPermit {
            _permits: [of_session, of_tenant, of_all],
        })
    }

    /// How many more uploads could be received now.
    pub fn available(&self) -> usize {
        self.all.available_permits()
    }
}

async fn acquire(semaphore: Arc<Semaphore>) -> Result<OwnedSemaphorePermit> {
    let permit = semaphore.acquire_owned().await;
    permit.map_err(|closed| Error::Internal(closed.into()))
}
