//! A fixed number of threads that wait for the database, so that no thread of the server does.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

use super::link::Link;
use super::target::Target;
use crate::error::{Code, Result};
use crate::metrics::{Counter, Histogram};
use crate::store::long_reads::READER_WAIT;

/// Jobs that may wait. Further jobs are refused as `overloaded`.
const QUEUE: usize = 4_096;
/// The buckets of a job's wait for a thread, in microseconds.
const WAITS: [u64; 9] = [
    100, 500, 1_000, 5_000, 10_000, 50_000, 100_000, 1_000_000, 5_000_000,
];

/// What a thread does with its connection. `true` tells the job that it has waited too long.
type Job = Box<dyn FnOnce(&Link, bool) + Send>;

/// Threads with a connection each, and the jobs that wait for them.
pub(super) struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    metrics: Arc<PoolMetrics>,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<(Instant, Job)>,
    is_closed: bool,
}

/// The metrics of all pools of one node.
#[derive(Debug)]
pub struct PoolMetrics {
    /// Microseconds that jobs waited for a connection.
    pub waits: Histogram<{ WAITS.len() }>,
    /// Connections that were opened.
    pub connects: Arc<Counter>,
    /// Notifications to other nodes.
    pub notifications_sent: Counter,
    /// Notifications of other nodes.
    pub notifications_received: Counter,
    /// Leases that other nodes ended, because they took this one for dead.
    pub leases_lost: Counter,
}

impl Default for PoolMetrics {
    fn default() -> Self {
        Self {
            waits: Histogram::new(&WAITS),
            connects: Arc::default(),
            notifications_sent: Counter::new(),
            notifications_received: Counter::new(),
            leases_lost: Counter::new(),
        }
    }
}

impl Pool {
    /// Starts this many threads. Each connects when it has its first job.
    ///
    /// # Errors
    /// The system cannot start a thread.
    pub(super) fn start(
        name: &str,
        threads: usize,
        target: &Arc<Target>,
        metrics: &Arc<PoolMetrics>,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            metrics: Arc::clone(metrics),
        });
        let mut pool = Self {
            shared,
            threads: Vec::with_capacity(threads),
        };
        for _ in 0..threads {
            let link = Link::new(Arc::clone(target), Arc::clone(&metrics.connects))?;
            let shared = Arc::clone(&pool.shared);
            let thread = Builder::new().name(name.to_owned());
            pool.threads.push(thread.spawn(move || shared.work(&link))?);
        }
        Ok(pool)
    }

    /// Queues a job. The second argument of the job says whether it has waited too long.
    ///
    /// # Errors
    /// `overloaded` if too many jobs wait.
    pub(super) fn submit(&self, job: impl FnOnce(&Link, bool) + Send + 'static) -> Result<()> {
        let mut state = self.shared.state();
        if state.jobs.len() >= QUEUE {
            return Err(Code::Overloaded.into());
        }
        state.jobs.push_back((Instant::now(), Box::new(job)));
        drop(state);
        self.shared.changed.notify_one();
        Ok(())
    }

    /// Jobs that wait.
    pub(super) fn waiting(&self) -> usize {
        self.shared.state().jobs.len()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.state().is_closed = true;
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            // A step can hold the last handle of the store: a thread does not wait for itself.
            if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
                log::error!("a thread of the database has panicked");
            }
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs jobs until the pool is closed and no job waits.
    fn work(&self, link: &Link) {
        loop {
            let mut state = self.state();
            while state.jobs.is_empty() && !state.is_closed {
                state = self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            let Some((queued, job)) = state.jobs.pop_front() else {
                return;
            };
            drop(state);
            let waited = queued.elapsed();
            let micros = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
            self.metrics.waits.observe(micros);
            job(link, waited > READER_WAIT);
        }
    }
}
