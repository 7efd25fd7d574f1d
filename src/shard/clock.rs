//! The one place of the data path that asks what time it is.

use std::time::Instant;

use crate::connection::Tick;

/// Counts ticks from its own beginning.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    start: Instant,
}

impl Clock {
    /// It stands at tick zero now.
    pub(super) fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// The tick that is under way. Read once per turn, not per message.
    pub(super) fn now(&self) -> Tick {
        Tick::at(self.start.elapsed())
    }

    /// How long until `tick` begins; zero if it has.
    pub(super) fn until(&self, tick: Tick) -> std::time::Duration {
        tick.since_start().saturating_sub(self.start.elapsed())
    }
}
