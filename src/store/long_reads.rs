//! Limits long reads: how many run at a time, in total and of one tenant, and for how long.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::error::{Code, Error, Result};
use crate::limits::KeyedSemaphore;
use crate::model::names::TenantNo;

/// How long a read waits for a connection, and a long read for its permits.
pub(super) const READER_WAIT: Duration = Duration::from_secs(5);
/// How many long reads of one kind run at a time. The other connections stay free for the short
/// reads of every request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Of all tenants.
    pub(super) all: usize,
    /// Of one tenant, so that there is room for another one.
    pub(super) of_tenant: usize,
}

/// The kinds of long reads. Each has permits of its own: a list never waits for a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LongRead {
    /// A list without a search text, or statistics.
    List,
    /// A search. Unlike a list, a search may read much and find little.
    Search,
}

impl LongRead {
    /// How long a read of this kind may take.
    pub(super) fn time_limit(self) -> Duration {
        Duration::from_secs(match self {
            Self::List => 20,
            Self::Search => 5,
        })
    }
}

/// The permits of one kind of long reads.
struct Permits {
    of_server: Arc<Semaphore>,
    of_tenants: KeyedSemaphore<Option<TenantNo>>,
}

impl Permits {
    fn new(limits: Limits) -> Self {
        Self {
            of_server: Arc::new(Semaphore::new(limits.all)),
            of_tenants: KeyedSemaphore::new(limits.of_tenant),
        }
    }
}

/// The permits of long reads.
pub(super) struct LongReads {
    lists: Permits,
    searches: Permits,
}

impl LongReads {
    /// As many permits of each kind.
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            lists: Permits::new(limits),
            searches: Permits::new(limits),
        }
    }

    /// Waits for a permit of the tenant and for one of the server.
    ///
    /// # Errors
    /// `overloaded` if the wait takes longer than [`READER_WAIT`].
    pub(super) async fn permit(
        &self,
        kind: LongRead,
        tenant: Option<TenantNo>,
    ) -> Result<ReadPermit> {
        let permits = match kind {
            LongRead::List => &self.lists,
            LongRead::Search => &self.searches,
        };
        let of_tenant = permits.of_tenants.of(tenant);
        let both = async {
            Ok(ReadPermit {
                // In this order: a tenant over its limit must not hold a permit of the server.
                _of_tenant: of_tenant.acquire_owned().await?,
                _of_server: Arc::clone(&permits.of_server).acquire_owned().await?,
            })
        };
        timeout(READER_WAIT, both)
            .await
            .map_err(|_| Error::from(Code::Overloaded))?
            .map_err(|error: AcquireError| Error::Internal(error.into()))
    }
}

/// The right to run one long read. The read holds the permit even if its caller no longer waits.
pub(super) struct ReadPermit {
    _of_tenant: OwnedSemaphorePermit,
    _of_server: OwnedSemaphorePermit,
}
