//! Makes long reads yield when the write-ahead log has to be restarted.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a closing gate waits for the running reads to end, and then for them to yield.
const GRACE: Duration = Duration::from_secs(1);

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
