//! Numbers from a seed.

/// SplitMix64.
#[derive(Clone)]
pub(in crate::topics) struct Random(u64);

impl Random {
    pub(in crate::topics) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(in crate::topics) fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        crate::topics::placement::mix(self.0)
    }

    /// A number in `0..bound`; zero if `bound` is zero.
    pub(in crate::topics) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// True once in `times`.
    pub(in crate::topics) fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    pub(in crate::topics) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }
}
