//! Counters, gauges and histograms. Each update is an atomic addition, without a lock or an
//! allocation, so every request can be counted.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Creates a counter at 0.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Adds to the count.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// The count.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that grows and shrinks.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Adds a difference, which may be negative.
    pub fn add(&self, difference: i64) {
        self.0.fetch_add(difference, Ordering::Relaxed);
    }

    /// The current value.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A histogram of integers. The caller chooses the unit.
#[derive(Debug)]
pub struct Histogram<const N: usize> {
    bounds: &'static [u64; N],
    /// One counter per bound: the values above the previous bound and up to this one.
    buckets: [Counter; N],
    /// The values above the last bound.
    overflow: Counter,
    sum: Counter,
}

/// The values that a histogram has counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distribution {
    /// Each bound with the number of values up to it (cumulative).
    pub up_to: Vec<(u64, u64)>,
    /// The number of values.
    pub count: u64,
    /// The sum of the values.
    pub sum: u64,
}

impl<const N: usize> Histogram<N> {
    /// Creates an empty histogram. The bounds must ascend.
    pub fn new(bounds: &'static [u64; N]) -> Self {
        Self {
            bounds,
            buckets: [const { Counter::new() }; N],
            overflow: Counter::default(),
            sum: Counter::default(),
        }
    }

    /// Counts a value.
    pub fn observe(&self, value: u64) {
        let index = self.bounds.partition_point(|bound| *bound < value);
        self.buckets.get(index).unwrap_or(&self.overflow).add(1);
        self.sum.add(value);
    }

    /// The values that were counted so far.
    pub fn read(&self) -> Distribution {
        // The count is the sum of the buckets that are read here. A counter of its own would
        // disagree with them while other threads observe.
        let mut count = 0;
        let up_to = self
            .bounds
            .iter()
            .zip(&self.buckets)
            .map(|(bound, bucket)| {
                count += bucket.get();
                (*bound, count)
            });
        let up_to = up_to.collect();
        Distribution {
            up_to,
            count: count + self.overflow.get(),
            sum: self.sum.get(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_on_a_bound_counts_for_it_and_one_above_all_bounds_is_only_in_the_total() {
        let histogram = Histogram::new(&[1, 10, 100]);
        for value in [0, 1, 2, 10, 11, 100, 101, 5_000] {
            histogram.observe(value);
        }
        let expected = Distribution {
            up_to: vec![(1, 2), (10, 4), (100, 6)],
            count: 8,
            sum: 5_225,
        };
        assert_eq!(histogram.read(), expected);
    }
}
