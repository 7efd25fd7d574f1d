//! Coarse time: how a connection counts it without knowing a clock.

use std::time::Duration;

/// Milliseconds in one [`Tick`]. All deadlines of a connection are this coarse.
pub const TICK_MILLIS: u64 = 32;

/// A moment, counted in ticks of 32 ms since the shard began.
///
/// Four bytes, because every connection carries several. It wraps after more than four years of one process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(pub u32);

impl Tick {
    /// A moment that never comes.
    pub const NEVER: Self = Self(u32::MAX);

    /// The tick that is under way when `elapsed` has passed since the shard began.
    pub fn at(elapsed: Duration) -> Self {
        Self(clamped(elapsed.as_millis() / u128::from(TICK_MILLIS)))
    }

    /// The first tick that is wholly past `span` after this one: never early, at most two ticks late.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        self.plus(Span::of(span))
    }

    /// As [`Tick::after`], for a span that was counted in ticks before.
    #[must_use]
    pub fn plus(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// How long after the beginning of the shard this tick begins.
    pub fn since_start(self) -> Duration {
        Duration::from_millis(u64::from(self.0) * TICK_MILLIS)
    }
}

/// A length of time in ticks, rounded so that a deadline is never early. Made once, used at every message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(u32);

impl Span {
    /// Longer than any process runs.
    pub const ENDLESS: Self = Self(u32::MAX);

    /// Rounds up, and adds the tick that is already under way.
    pub fn of(span: Duration) -> Self {
        Self(clamped(span.as_millis().div_ceil(u128::from(TICK_MILLIS))).saturating_add(1))
    }

    /// As [`Span::of`], where zero means never.
    pub fn of_unless_zero(span: Duration) -> Self {
        if span.is_zero() { Self::ENDLESS } else { Self::of(span) }
    }
}

fn clamped(ticks: u128) -> u32 {
    u32::try_from(ticks).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_never_early_and_at_most_two_ticks_late() {
        let tick = Duration::from_millis(TICK_MILLIS);
        for start_ms in 0..100 {
            for span_ms in [0, 1, 31, 32, 33, 1000, 30_000] {
                let (start, span) = (Duration::from_millis(start_ms), Duration::from_millis(span_ms));
                let due = Tick::at(start).after(span).since_start();
                assert!(due >= start + span, "{start_ms} ms + {span_ms} ms came early, at {due:?}");
                assert!(due <= start + span + 2 * tick, "{start_ms} ms + {span_ms} ms came late, at {due:?}");
            }
        }
    }

    #[test]
    fn zero_means_never_where_it_may() {
        assert_eq!(Tick(7).plus(Span::of_unless_zero(Duration::ZERO)), Tick::NEVER);
        assert_eq!(Tick(7).after(Duration::MAX), Tick::NEVER);
    }
}
