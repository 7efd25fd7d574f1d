//! The time of day, between two looks at the clock on the wall.

use std::time::Duration;

use crate::connection::Tick;

/// What the clock on the wall said at some tick. From there the core's own ticks count on, so that within a turn there
/// is one time, and a test moves both clocks at once.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct WallClock {
    said_at: Tick,
    /// Since the beginning of 1970.
    said: Duration,
}

impl WallClock {
    pub(super) fn set(&mut self, now: Tick, unix_time: Duration) {
        *self = Self { said_at: now, said: unix_time };
    }

    pub(super) fn unix_time(&self, now: Tick) -> Duration {
        self.said + now.since_start().saturating_sub(self.said_at.since_start())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_count_on_from_what_the_wall_said_last() {
        let mut wall = WallClock::default();
        wall.set(Tick(100), Duration::from_secs(1_700_000_000));
        assert_eq!(wall.unix_time(Tick(100)), Duration::from_secs(1_700_000_000));
        assert_eq!(wall.unix_time(Tick(225)), Duration::from_secs(1_700_000_004));
        // Somebody has put the clock back.
        wall.set(Tick(225), Duration::from_secs(1_600_000_000));
        assert_eq!(wall.unix_time(Tick(225)), Duration::from_secs(1_600_000_000));
        assert_eq!(wall.unix_time(Tick(224)), Duration::from_secs(1_600_000_000));
    }
}
