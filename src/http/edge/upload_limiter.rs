//! Limits concurrent uploads in total, per tenant and per session.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Error, Result};
use crate::limits::KeyedSemaphore;
use crate::model::ids::Tick;
use crate::model::names::TenantNo;

/// Concurrent uploads of one tenant.
const PER_TENANT: usize = 4;
/// Concurrent uploads of one session.
const PER_SESSION: usize = 2;

/// Limits the uploads that are received at the same time. The limits per tenant and per session
/// keep one caller from taking all permits.
#[derive(Debug)]
pub struct UploadLimiter {
    total: Arc<Semaphore>,
    tenants: KeyedSemaphore<TenantNo>,
    sessions: KeyedSemaphore<Tick>,
}

/// Permits one upload until it is dropped.
#[derive(Debug)]
pub(in crate::http) struct UploadPermit {
    _permits: [OwnedSemaphorePermit; 3],
}

impl UploadLimiter {
    /// A limiter for up to `limit` uploads in total.
    pub(in crate::http) fn new(limit: usize) -> Self {
        Self {
            total: Arc::new(Semaphore::new(limit)),
            tenants: KeyedSemaphore::new(PER_TENANT),
            sessions: KeyedSemaphore::new(PER_SESSION),
        }
    }

    /// Waits for a permit. The total is acquired last, so that an upload that waits for others of
    /// its session or tenant does not block the rest.
    pub(in crate::http) async fn acquire(
        &self,
        tenant: TenantNo,
        session: Tick,
    ) -> Result<UploadPermit> {
        let session = acquire(self.sessions.of(session)).await?;
        let tenant = acquire(self.tenants.of(tenant)).await?;
        let total = acquire(Arc::clone(&self.total)).await?;
        Ok(UploadPermit {
            _permits: [session, tenant, total],
        })
    }

    /// The number of further uploads that could start now.
    pub fn available(&self) -> usize {
        self.total.available_permits()
    }
}

async fn acquire(semaphore: Arc<Semaphore>) -> Result<OwnedSemaphorePermit> {
    let permit = semaphore.acquire_owned().await;
    permit.map_err(|closed| Error::Internal(closed.into()))
}
