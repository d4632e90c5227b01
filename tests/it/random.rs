//! Random choices that a printed seed reproduces.

use std::env;
use std::time::{SystemTime, UNIX_EPOCH};

/// A splitmix64 generator: small, quick, and the same on every machine.
pub struct Random {
    state: u64,
}

impl Random {
    /// A generator from a seed; neighboring seeds give unrelated choices.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to one less than `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.bits() % bound as u64).unwrap_or(0)
    }

    /// True in `times` cases of `of`.
    pub fn chance(&mut self, times: usize, of: usize) -> bool {
        self.below(of) < times
    }

    /// A random one of these.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// The seed in `SWITCHBOARD_SEED`, or one from the time. Printed to reproduce a failure.
pub fn seed() -> u64 {
    let seed = number("SWITCHBOARD_SEED").unwrap_or_else(|| {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(0))
    });
    println!("SWITCHBOARD_SEED={seed}");
    seed
}

/// The number in an environment variable, if set. Panics if the text is not a number.
pub fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} must be a number, not {text:?}"))
    })
}
