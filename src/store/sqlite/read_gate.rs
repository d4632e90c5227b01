//! Reads that can be long: how many run at one time, and how they make way for the write-ahead log.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::READER_WAIT;
use crate::error::{Code, Error, Result};
use crate::limits::KeyedSemaphore;
use crate::model::names::TenantNo;

/// Long reads at one time: some readers are always free for the short ones that every request needs.
const AT_ONCE: usize = 4;
/// Those of them that one tenant may have.
const OF_ONE: usize = 2;
/// How long those that run may go on once the log waits for them, and then for their being begun again.
const GRACE: Duration = Duration::from_secs(1);

/// Who reads long at the moment.
pub(super) struct LongReads {
    all: Arc<Semaphore>,
    tenants: KeyedSemaphore<Option<TenantNo>>,
    gate: Arc<ReadGate>,
}

impl LongReads {
    pub(super) fn new(gate: Arc<ReadGate>) -> Self {
        Self {
            all: Arc::new(Semaphore::new(AT_ONCE)),
            tenants: KeyedSemaphore::new(OF_ONE),
            gate,
        }
    }

    /// A place in a tenant's room and in that of all, for as long as it is held.
    pub(super) async fn place(&self, tenant: Option<TenantNo>) -> Result<ReadPermit> {
        let own = self.tenants.of(tenant);
        let both = async {
            Ok(ReadPermit {
                // The tenant's own first, so that who waits there keeps nobody else waiting.
                _own: own.acquire_owned().await?,
                _of_all: Arc::clone(&self.all).acquire_owned().await?,
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

/// What a read holds, also when nobody waits for it any more.
pub(in crate::store) struct ReadPermit {
    _own: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

/// Through which every long read goes. While they follow one another some snapshot always needs the log, which would only
/// grow: now and then none runs.
#[derive(Default)]
pub(super) struct ReadGate {
    state: Mutex<State>,
    changed: Condvar,
    /// How often a read may be begun again by now; 0 while they may go on.
    limit: AtomicU8,
}

#[derive(Default)]
struct State {
    is_shut: bool,
    reading: usize,
}

impl ReadGate {
    /// Waits until the gate is open; the read runs until what this gives is dropped.
    pub(super) fn enter(&self) -> Entered<'_> {
        let mut state = self.state();
        while state.is_shut {
            state = self.wait(state);
        }
        state.reading += 1;
        Entered { gate: self }
    }

    /// Whether a read that was begun again so many times is to be given up, and begun again.
    pub(super) fn is_late(&self, begun_again: u8) -> bool {
        self.limit.load(Ordering::Acquire) > begun_again
    }

    /// Lets no further read begin until what this gives is dropped, and waits a while for those that run; those that were not
    /// begun again so many times yet are.
    pub(super) fn shut(&self, how_often: u8) -> Shut<'_> {
        let shut = Shut { gate: self };
        let mut state = self.state();
        state.is_shut = true;
        state = self.wait_for_readers(state);
        if state.reading > 0 {
            self.limit.store(how_often, Ordering::Release);
            drop(self.wait_for_readers(state));
        }
        shut
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let woken = self.changed.wait(state);
        woken.unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_for_readers<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let woken = self
            .changed
            .wait_timeout_while(state, GRACE, |state| state.reading > 0);
        woken.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// A read that runs.
pub(super) struct Entered<'a> {
    gate: &'a ReadGate,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.gate.state().reading -= 1;
        self.gate.changed.notify_all();
    }
}

/// The gate while it is shut.
pub(super) struct Shut<'a> {
    gate: &'a ReadGate,
}

impl Drop for Shut<'_> {
    fn drop(&mut self) {
        self.gate.state().is_shut = false;
        self.gate.limit.store(0, Ordering::Release);
        self.gate.changed.notify_all();
    }
}
