//! Nanoseconds since an epoch that all workers of a run share. Monotonic: wall clocks jump.

use std::time::{Duration, Instant};

/// Tells the time of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    epoch: Instant,
}

impl Clock {
    /// A clock that begins now.
    pub(crate) fn start() -> Self {
        Self { epoch: Instant::now() }
    }

    pub(crate) fn now_ns(self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    /// How long it is until `at_ns`; zero if that has passed.
    pub(crate) fn until(self, at_ns: u64) -> Duration {
        Duration::from_nanos(at_ns.saturating_sub(self.now_ns()))
    }
}
