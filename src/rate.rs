//! Token buckets: how often somebody may do something. Knows no clock, and not what is counted.

use std::num::NonZeroU32;
use std::time::Duration;

use thiserror::Error;

use crate::connection::{TICK_MILLIS, Tick};

/// So many in such a time, and so many at once. Made once, shared by all buckets that are held to it.
///
/// A message costs as many units as the period has milliseconds, and a millisecond brings `count` units: whole
/// numbers, so that nothing is lost to rounding however slow the rate or short the wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Units per message.
    cost: NonZeroU32,
    units_per_tick: u64,
    /// What a full bucket holds.
    capacity: u32,
}

impl Rate {
    /// `count` per `period` in the long run, and up to `burst` at once.
    ///
    /// # Errors
    ///
    /// A [`RateError`] if one of them is zero or `burst` times `period` is more than four bytes can count, which is
    /// 4,294,967 at once for a period of a second.
    pub fn new(count: u32, period: Duration, burst: u32) -> Result<Self, RateError> {
        let period_millis = u32::try_from(period.as_millis()).map_err(|_| RateError::TooLarge)?;
        let cost = NonZeroU32::new(period_millis).ok_or(RateError::PeriodTooShort)?;
        if count == 0 {
            return Err(RateError::CountIsZero);
        }
        if burst == 0 {
            return Err(RateError::BurstIsZero);
        }
        let capacity = cost.get().checked_mul(burst).ok_or(RateError::TooLarge)?;
        Ok(Self { cost, units_per_tick: u64::from(count) * TICK_MILLIS, capacity })
    }

    /// `count` per second, and as many at once: what an operator means by a single number.
    ///
    /// # Errors
    ///
    /// As [`Rate::new`].
    pub fn per_second(count: u32) -> Result<Self, RateError> {
        Self::new(count, Duration::from_secs(1), count)
    }

    /// How many a full bucket lets through at once.
    pub fn burst(&self) -> u32 {
        self.capacity / self.cost
    }

    /// How many pass in each [`Rate::period`] in the long run.
    pub fn count(&self) -> u32 {
        // It was made of four bytes.
        (self.units_per_tick / TICK_MILLIS) as u32
    }

    /// The time that [`Rate::count`] is for.
    pub fn period(&self) -> Duration {
        Duration::from_millis(self.cost.get().into())
    }
}

impl std::fmt::Display for Rate {
    /// As it stands in a sentence: `20 per second`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let count = self.count();
        match self.cost.get() {
            1_000 => write!(f, "{count} per second"),
            60_000 => write!(f, "{count} per minute"),
            3_600_000 => write!(f, "{count} per hour"),
            millis => write!(f, "{count} per {millis} ms"),
        }
    }
}

/// One party's share of a [`Rate`]: eight bytes, no timer and no allocation.
#[derive(Clone, Copy, Debug)]
pub struct TokenBucket {
    /// Invariant: at most the rate's capacity.
    units: u32,
    /// When `units` was last brought up to date.
    refilled_at: Tick,
}

impl TokenBucket {
    /// A full bucket.
    pub fn full(rate: &Rate, now: Tick) -> Self {
        Self { units: rate.capacity, refilled_at: now }
    }

    /// Takes one token, or says when there will be one.
    ///
    /// A clock that goes backwards brings nothing and takes nothing. After a reload the bucket goes on with another
    /// rate; the share that it is filled to is then cut to the new capacity.
    ///
    /// # Errors
    ///
    /// The first tick at which the same call succeeds, if no other comes before.
    pub fn take(&mut self, rate: &Rate, now: Tick) -> Result<(), Tick> {
        let ticks = now.0.saturating_sub(self.refilled_at.0);
        let brought = rate.units_per_tick.saturating_mul(u64::from(ticks));
        // What is cut off here is at most the capacity, which has four bytes.
        self.units = u64::from(self.units).saturating_add(brought).min(u64::from(rate.capacity)) as u32;
        self.refilled_at = self.refilled_at.max(now);
        match self.units.checked_sub(rate.cost.get()) {
            Some(left) => {
                self.units = left;
                Ok(())
            }
            None => Err(self.next_token_at(rate)),
        }
    }

    fn next_token_at(&self, rate: &Rate) -> Tick {
        let missing = u64::from(rate.cost.get() - self.units);
        let ticks = missing.div_ceil(rate.units_per_tick);
        Tick(self.refilled_at.0.saturating_add(u32::try_from(ticks).unwrap_or(u32::MAX)))
    }
}

/// Why a [`Rate`] cannot be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RateError {
    /// Nothing would ever pass.
    #[error("a rate of zero lets nothing pass: leave the limit out, or forbid what it counts")]
    CountIsZero,
    /// Nothing would ever pass.
    #[error("a burst of zero lets nothing pass: it must be at least 1")]
    BurstIsZero,
    /// Time is counted in milliseconds.
    #[error("the period of a rate must be at least a millisecond")]
    PeriodTooShort,
    /// Four bytes do not hold it.
    #[error("burst times period must be below 4,294,967 seconds")]
    TooLarge,
}

// Each connection carries one.
const _: () = assert!(size_of::<TokenBucket>() == 8);

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(count: u32, millis: u64, burst: u32) -> Rate {
        Rate::new(count, Duration::from_millis(millis), burst).unwrap()
    }

    /// How many pass at `now` before one is refused.
    fn drain(bucket: &mut TokenBucket, rate: &Rate, now: Tick) -> u32 {
        (0..).find(|_| bucket.take(rate, now).is_err()).unwrap()
    }

    #[test]
    fn a_full_bucket_lets_its_burst_through_and_no_more() {
        for (count, millis, burst) in [(1, 1000, 1), (10, 1000, 5), (1_000_000, 1000, 7), (3, 60_000, 100)] {
            let rate = rate(count, millis, burst);
            assert_eq!(rate.burst(), burst);
            let mut bucket = TokenBucket::full(&rate, Tick(5));
            assert_eq!(drain(&mut bucket, &rate, Tick(5)), burst, "{count} per {millis} ms");
        }
    }

    #[test]
    fn in_the_long_run_exactly_the_rate_passes() {
        let hour = Tick::at(Duration::from_secs(3600)).0;
        for (count, millis) in [(1, 1000), (7, 1000), (31, 1000), (100, 1000), (1, 60_000), (7, 61_000)] {
            let rate = rate(count, millis, 10);
            let mut bucket = TokenBucket::full(&rate, Tick(0));
            drain(&mut bucket, &rate, Tick(0));
            let passed: u64 = (1..=hour).map(|tick| u64::from(drain(&mut bucket, &rate, Tick(tick)))).sum();
            let elapsed_millis = u64::from(hour) * TICK_MILLIS;
            assert_eq!(passed, u64::from(count) * elapsed_millis / millis, "{count} per {millis} ms");
        }
    }

    #[test]
    fn a_refusal_names_the_first_tick_that_succeeds() {
        for (count, millis, burst) in [(1, 1000, 1), (3, 1000, 2), (1000, 1000, 50), (1, 86_400_000, 1)] {
            let rate = rate(count, millis, burst);
            let mut bucket = TokenBucket::full(&rate, Tick(0));
            drain(&mut bucket, &rate, Tick(0));
            let at = bucket.take(&rate, Tick(0)).unwrap_err();
            assert!(at > Tick(0));
            assert_eq!(bucket.take(&rate, Tick(at.0 - 1)), Err(at), "{count} per {millis} ms");
            assert_eq!(bucket.take(&rate, at), Ok(()), "{count} per {millis} ms");
        }
    }

    #[test]
    fn silence_fills_it_and_never_above_its_burst() {
        let rate = rate(u32::MAX, 1000, 3);
        let mut bucket = TokenBucket::full(&rate, Tick(0));
        for now in [1, 2, 1000, u32::MAX - 1, u32::MAX] {
            assert_eq!(drain(&mut bucket, &rate, Tick(now)), 3, "at {now}");
        }
    }

    #[test]
    fn a_clock_that_goes_backwards_brings_nothing() {
        let rate = rate(1, 1000, 1);
        let mut bucket = TokenBucket::full(&rate, Tick(1000));
        assert_eq!(bucket.take(&rate, Tick(1000)), Ok(()));
        let at = bucket.take(&rate, Tick(1000)).unwrap_err();
        assert_eq!(bucket.take(&rate, Tick(10)), Err(at));
        assert_eq!(bucket.take(&rate, Tick(at.0 - 1)), Err(at));
        assert_eq!(bucket.take(&rate, at), Ok(()));
    }

    #[test]
    fn a_reload_to_a_smaller_rate_cuts_what_was_saved() {
        let (large, small) = (rate(1000, 1000, 1000), rate(1, 1000, 2));
        let mut bucket = TokenBucket::full(&large, Tick(0));
        assert_eq!(drain(&mut bucket, &small, Tick(0)), 2);
    }

    #[test]
    fn rates_that_cannot_be_kept_are_refused() {
        let second = Duration::from_secs(1);
        let cases = [
            (Rate::new(0, second, 1), RateError::CountIsZero),
            (Rate::new(1, second, 0), RateError::BurstIsZero),
            (Rate::new(1, Duration::from_micros(999), 1), RateError::PeriodTooShort),
            (Rate::new(1, Duration::MAX, 1), RateError::TooLarge),
            (Rate::new(1, second, 4_294_968), RateError::TooLarge),
        ];
        for (got, want) in cases {
            assert_eq!(got, Err(want));
        }
        assert!(Rate::new(1, second, 4_294_967).is_ok());
        assert_eq!(Rate::per_second(20).unwrap().burst(), 20);
    }

    #[test]
    fn a_rate_says_what_it_is() {
        for (count, millis, says) in [
            (20, 1000, "20 per second"),
            (1, 60_000, "1 per minute"),
            (7, 3_600_000, "7 per hour"),
            (u32::MAX, 250, "4294967295 per 250 ms"),
        ] {
            let rate = rate(count, millis, 3);
            assert_eq!((rate.count(), rate.period()), (count, Duration::from_millis(millis)));
            assert_eq!(rate.to_string(), says);
        }
    }
}
