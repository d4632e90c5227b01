//! Metrics of an engine's writer.

use std::time::Duration;

use crate::metrics::{Counter, Histogram};

/// The buckets of changes in a commit.
const CHANGES: [u64; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 256];
/// The buckets of a commit's duration in microseconds: from a fast disk to a busy one.
const TIMES: [u64; 13] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000,
    10_000_000,
];

/// The writer's metrics.
#[derive(Debug)]
pub struct WriterMetrics {
    submitted: Counter,
    dequeued: Counter,
    /// Changes in one commit.
    pub changes: Histogram<{ CHANGES.len() }>,
    /// Microseconds of one commit, including its changes.
    pub times: Histogram<{ TIMES.len() }>,
    /// Commits that failed.
    pub failures: Counter,
}

impl WriterMetrics {
    pub(super) fn new() -> Self {
        Self {
            submitted: Counter::new(),
            dequeued: Counter::new(),
            changes: Histogram::new(&CHANGES),
            times: Histogram::new(&TIMES),
            failures: Counter::new(),
        }
    }

    /// Changes that wait.
    pub fn waiting(&self) -> u64 {
        // Reading `dequeued` first keeps the difference from going below zero.
        let dequeued = self.dequeued.get();
        self.submitted.get().saturating_sub(dequeued)
    }

    /// Changes that wait or run.
    pub fn unfinished(&self) -> u64 {
        let finished = self.changes.read().sum;
        self.submitted.get().saturating_sub(finished)
    }

    /// Counts a change that waits from now on.
    pub(super) fn submit(&self) {
        self.submitted.add(1);
    }

    /// Counts a change that no longer waits.
    pub(super) fn dequeue(&self) {
        self.dequeued.add(1);
    }

    /// Records a commit of `changes` changes.
    pub(super) fn record_commit(&self, changes: usize, elapsed: Duration, is_ok: bool) {
        self.changes.observe(changes as u64);
        self.times
            .observe(u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX));
        if !is_ok {
            self.failures.add(1);
        }
    }
}
