//! The one place of the data path that asks what time it is.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::connection::Tick;

/// The time of day, since the beginning of 1970; zero if the machine's clock stands before that.
pub(super) fn unix_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

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
    pub(super) fn until(&self, tick: Tick) -> Duration {
        tick.since_start().saturating_sub(self.start.elapsed())
    }
}
