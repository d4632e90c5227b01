//! Limits long reads, and makes them yield when the write-ahead log has to be restarted.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::READER_WAIT;
use crate::error::{Code, Error, Result};
use crate::limits::KeyedSemaphore;
use crate::model::names::TenantNo;

/// Long reads of one kind at a time. The other connections stay free for the short reads of every
/// request.
const MAX_READS: usize = 4;
/// Long reads of one kind and one tenant at a time.
const MAX_READS_PER_TENANT: usize = 2;
/// How long a closing gate waits for the running reads to end, and then for them to yield.
const GRACE: Duration = Duration::from_secs(1);

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

impl Default for Permits {
    fn default() -> Self {
        Self {
            of_server: Arc::new(Semaphore::new(MAX_READS)),
            of_tenants: KeyedSemaphore::new(MAX_READS_PER_TENANT),
        }
    }
}

/// The permits of long reads, and the gate that they pass.
pub(super) struct LongReads {
    lists: Permits,
    searches: Permits,
    gate: Arc<ReadGate>,
}

impl LongReads {
    pub(super) fn new(gate: Arc<ReadGate>) -> Self {
        Self {
            lists: Permits::default(),
            searches: Permits::default(),
            gate,
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

    pub(super) fn gate(&self) -> &Arc<ReadGate> {
        &self.gate
    }
}

/// The right to run one long read. The read holds the permit even if its caller no longer waits.
pub(in crate::store) struct ReadPermit {
    _of_tenant: OwnedSemaphorePermit,
    _of_server: OwnedSemaphorePermit,
}

/// The gate that every long read passes.
///
/// As long as long reads overlap, some snapshot always needs the write-ahead log, and the log only
/// grows. Closing the gate brings about a moment without long reads.
#[derive(Default)]
pub(super) struct ReadGate {
    state: Mutex<State>,
    changed: Condvar,
    /// Reads that were restarted fewer times than this must yield; 0 if none has to.
    yield_below: AtomicU8,
}

#[derive(Default)]
struct State {
    is_closed: bool,
    active: usize,
}

impl ReadGate {
    /// Waits until the gate is open. The read counts as active until the guard is dropped.
    pub(super) fn enter(&self) -> ActiveRead<'_> {
        let mut state = self.state();
        while state.is_closed {
            state = self.wait(state);
        }
        state.active += 1;
        ActiveRead { gate: self }
    }

    /// Whether a read that was restarted this many times must yield: stop, and restart later.
    pub(super) fn must_yield(&self, restarts: u8) -> bool {
        self.yield_below.load(Ordering::Acquire) > restarts
    }

    /// Closes the gate to new reads until the guard is dropped, and waits for the active reads.
    ///
    /// After a grace period, the reads that were restarted fewer than `yield_below` times must
    /// yield. The others continue, so the guard does not promise that no read is active.
    pub(super) fn close(&self, yield_below: u8) -> ClosedGate<'_> {
        let closed = ClosedGate { gate: self };
        let mut state = self.state();
        state.is_closed = true;
        state = self.wait_for_reads(state);
        if state.active > 0 {
            self.yield_below.store(yield_below, Ordering::Release);
            drop(self.wait_for_reads(state));
        }
        closed
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let woken = self.changed.wait(state);
        woken.unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_for_reads<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let woken = self
            .changed
            .wait_timeout_while(state, GRACE, |state| state.active > 0);
        woken.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// Counts one long read as active.
pub(super) struct ActiveRead<'a> {
    gate: &'a ReadGate,
}

impl Drop for ActiveRead<'_> {
    fn drop(&mut self) {
        self.gate.state().active -= 1;
        self.gate.changed.notify_all();
    }
}

/// Keeps the gate closed.
pub(super) struct ClosedGate<'a> {
    gate: &'a ReadGate,
}

impl Drop for ClosedGate<'_> {
    fn drop(&mut self) {
        self.gate.state().is_closed = false;
        self.gate.yield_below.store(0, Ordering::Release);
        self.gate.changed.notify_all();
    }
}
