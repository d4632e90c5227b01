//! Counters and histograms that cost an addition each, without a lock or an allocation, so that every request is counted.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Nothing counted yet.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Counts some more.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// How many were counted.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number of things that are there at the moment.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Some have come; less than none have gone.
    pub fn add(&self, more: i64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// How many there are.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How many values lay below each of some bounds, in whole units of whoever observes.
#[derive(Debug)]
pub struct Histogram<const N: usize> {
    bounds: &'static [u64; N],
    /// Each counts the values above the bound before it, up to its own.
    within: [Counter; N],
    beyond: Counter,
    sum: Counter,
}

/// What a histogram has counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distribution {
    /// Each bound, with the number of values up to it.
    pub up_to: Vec<(u64, u64)>,
    /// All values.
    pub count: u64,
    /// Their sum.
    pub sum: u64,
}

impl<const N: usize> Histogram<N> {
    /// An empty one over ascending bounds.
    pub fn new(bounds: &'static [u64; N]) -> Self {
        Self {
            bounds,
            within: [const { Counter::new() }; N],
            beyond: Counter::default(),
            sum: Counter::default(),
        }
    }

    /// Counts a value.
    pub fn observe(&self, value: u64) {
        let place = self.bounds.partition_point(|bound| *bound < value);
        self.within.get(place).unwrap_or(&self.beyond).add(1);
        self.sum.add(value);
    }

    /// What was counted so far.
    pub fn read(&self) -> Distribution {
        // The count is that of the very buckets, so that they agree while others go on counting.
        let mut count = 0;
        let up_to = self.bounds.iter().zip(&self.within).map(|(bound, within)| {
            count += within.get();
            (*bound, count)
        });
        let up_to = up_to.collect();
        Distribution {
            up_to,
            count: count + self.beyond.get(),
            sum: self.sum.get(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_on_a_bound_is_within_it_and_one_beyond_all_is_in_the_count_alone() {
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
